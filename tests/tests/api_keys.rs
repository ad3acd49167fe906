//! API keys: how programs call.

use berth_tests::answer::text;
use berth_tests::{Host, Manifest};
use serde_json::json;

#[tokio::test]
async fn a_program_calls_with_a_key_as_far_as_the_key_reaches_until_it_is_ended() {
    let host = Host::with(Manifest::services()).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let body = json!({ "name": "CI", "permissions": ["projects.*"], "expiresInDays": 7 });
    let key = ada.post("/api/users/me/api-keys", &body).await.expect(201);
    let program = host.client().with_token(&text(&key, "key"));
    let project = program.post("/api/projects", &json!({ "name": "Apollo" })).await.expect(201);
    ada.get(&format!("/api/projects/{}", text(&project, "id"))).await.done(200);
    program.get("/api/executions").await.problem(403, "FORBIDDEN");
    program.get("/api/users").await.problem(403, "FORBIDDEN");
    program.get("/api/users/me/sessions").await.problem(403, "FORBIDDEN");
    program.get("/api/admin/plugins").await.problem(403, "FORBIDDEN");
    program.post("/api/users/me/api-keys", &body).await.problem(403, "FORBIDDEN");
    assert!(!host.log().contains(&text(&key, "key")), "the log holds a key");

    let listed = ada.get("/api/users/me/api-keys").await.expect(200);
    assert!(listed["items"][0].get("key").is_none() && listed["items"][0]["hint"].is_string());
    ada.delete(&format!("/api/users/me/api-keys/{}", text(&key, "id"))).await.done(204);
    program.get("/api/projects").await.problem(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn a_key_is_kept_for_no_replay_and_is_in_the_document() {
    let host = Host::with(Manifest::hello()).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let make = async || {
        let request = ada.request(reqwest::Method::POST, "/api/users/me/api-keys").header("idempotency-key", "once");
        ada.send(request.json(&json!({ "name": "CI", "permissions": ["*"] }))).await.expect(201)
    };
    assert_ne!(text(&make().await, "key"), text(&make().await, "key"));
    let document = host.client().get("/openapi.json").await.expect(200);
    for path in ["/api/users/me/api-keys", "/api/organizations/{id}/api-keys", "/api/auth/oidc/{provider}"] {
        assert!(document["paths"][path].is_object(), "{path} is not in the document");
    }
}
