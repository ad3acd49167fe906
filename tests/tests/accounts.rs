//! The main app: accounts, sessions, organizations and memberships.

use berth_tests::answer::text;
use berth_tests::client::PASSWORD;
use berth_tests::{Host, Manifest};
use serde_json::json;

async fn host() -> Host {
    Host::with(Manifest::hello()).start().await
}

#[tokio::test]
async fn the_first_user_becomes_super_admin_of_a_new_organization() {
    let host = host().await;
    let ada = host.client().register("Ada@Example.com", "Harbour").await;
    assert_eq!(ada.account["organization"]["name"], "Harbour");
    assert!(ada.account["user"].get("passwordHash").is_none(), "{}", ada.account);
    let me = ada.get("/api/auth/me").await.expect(200);
    assert_eq!(me["user"]["email"], "ada@example.com");
    assert_eq!(me["role"]["name"], "Super Admin", "{me}");
}

#[tokio::test]
async fn a_mail_address_is_taken_once_whatever_its_case() {
    let host = host().await;
    let _ = host.client().register("ada@example.com", "Harbour").await;
    let body = json!({"email": "ADA@example.com", "password": PASSWORD, "name": "Ada"});
    host.client().post("/api/auth/register", &body).await.problem(409, "CONFLICT");
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let host = host().await;
    let answer = host.client().post("/api/auth/register", &json!({"email": 5, "password": "short"})).await;
    answer.problem(400, "VALIDATION_ERROR");
    let fields = answer.faulty_fields();
    for field in ["email", "password", "name"] {
        assert!(fields.iter().any(|faulty| faulty == field), "{field} is not in {fields:?}");
    }
}

#[tokio::test]
async fn an_unknown_user_and_a_wrong_password_look_the_same() {
    let host = host().await;
    let _ = host.client().register("ada@example.com", "Harbour").await;
    let wrong = host
        .client()
        .post("/api/auth/login", &json!({"email": "ada@example.com", "password": "wrong wrong wrong"}))
        .await;
    let unknown = host
        .client()
        .post("/api/auth/login", &json!({"email": "bob@example.com", "password": "wrong wrong wrong"}))
        .await;
    let (wrong, unknown) = (wrong.problem(401, "UNAUTHORIZED"), unknown.problem(401, "UNAUTHORIZED"));
    assert_eq!(wrong["detail"], unknown["detail"]);
}

#[tokio::test]
async fn a_refresh_token_works_once_and_its_reuse_ends_the_family() {
    let host = host().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let refresh = async |token: &str| host.client().post("/api/auth/refresh", &json!({ "refreshToken": token })).await;
    let first = text(&ada.account, "refreshToken");
    let renewed = refresh(&first).await.expect(200);
    let second = text(&renewed, "refreshToken");
    assert_ne!(first, second);
    host.client().with_token(&text(&renewed, "token")).get("/api/auth/me").await.done(200);
    // Somebody uses the old one again: whoever holds the family loses it.
    refresh(&first).await.problem(401, "REAUTH_REQUIRED");
    refresh(&second).await.problem(401, "REAUTH_REQUIRED");
    host.client().with_token(&text(&renewed, "token")).get("/api/auth/me").await.problem(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn a_logout_is_over_at_once() {
    let host = host().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let other = host.client().login("ada@example.com").await;
    ada.get("/api/auth/me").await.done(200);
    let answer = ada.post("/api/auth/logout", &json!({})).await;
    assert!(matches!(answer.status, 200 | 204), "{}", answer.text());
    ada.get("/api/auth/me").await.problem(401, "UNAUTHORIZED");
    other.get("/api/auth/me").await.done(200);
    let refreshed =
        host.client().post("/api/auth/refresh", &json!({"refreshToken": text(&ada.account, "refreshToken")})).await;
    refreshed.problem(401, "REAUTH_REQUIRED");
}

#[tokio::test]
async fn five_wrong_passwords_lock_the_account() {
    let host = host().await;
    let _ = host.client().register("ada@example.com", "Harbour").await;
    let attempt = async |password: &str| {
        host.client().post("/api/auth/login", &json!({"email": "ada@example.com", "password": password})).await
    };
    for _ in 0..5 {
        let status = attempt("wrong wrong wrong").await.status;
        assert!(matches!(status, 401 | 423), "{status}");
    }
    // The lock or the limit of logins per address, whichever comes first: the right password does not help.
    let status = attempt(PASSWORD).await.status;
    assert!(matches!(status, 423 | 429), "{status}");
}

#[tokio::test]
async fn organizations_are_made_listed_and_switched_by_members_only() {
    let host = host().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let pier = ada.post("/api/organizations", &json!({"name": "Pier"})).await.expect(201);
    let id = text(&pier, "id");
    let listed = ada.get("/api/organizations").await.expect(200);
    assert_eq!(listed["total"], 2, "{listed}");
    assert_eq!(eve.get("/api/organizations").await.expect(200)["total"], 1);
    let switched = ada.post("/api/auth/switch-organization", &json!({ "organizationId": id })).await.expect(200);
    let me = ada.with_token(&text(&switched, "token")).get("/api/auth/me").await.expect(200);
    assert_eq!(me["organization"]["id"], id.as_str());
    eve.post("/api/auth/switch-organization", &json!({ "organizationId": id })).await.problem(403, "FORBIDDEN");
    eve.get(&format!("/api/organizations/{id}")).await.problem(404, "NOT_FOUND");
    eve.put(&format!("/api/organizations/{id}"), &json!({"name": "Mine"})).await.problem(404, "NOT_FOUND");
    eve.get(&format!("/api/organizations/{id}/memberships")).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn an_organization_starts_with_four_roles_and_keeps_its_last_super_admin() {
    let host = host().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let id = text(&ada.account["organization"], "id");
    let roles = ada.get(&format!("/api/organizations/{id}/roles")).await.expect(200);
    let mut names: Vec<String> =
        roles["items"].as_array().into_iter().flatten().map(|role| text(role, "name")).collect();
    names.sort();
    assert_eq!(names, ["Admin", "Member", "Super Admin", "Viewer"]);
    let members = ada.get(&format!("/api/organizations/{id}/memberships")).await.expect(200);
    let membership = text(&members["items"][0], "id");
    ada.delete(&format!("/api/organizations/{id}/memberships/{membership}")).await.problem(409, "CONFLICT");
}
