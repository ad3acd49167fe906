//! Mails of the main app, at a real mail server.

use berth_tests::answer::text;
use berth_tests::client::PASSWORD;
use berth_tests::{Host, Letterbox, Manifest, eventually};
use serde_json::json;

async fn host(letterbox: &Letterbox) -> Host {
    Host::with(Manifest::hello())
        .variable("BERTH_SMTP_URL", &letterbox.url)
        .variable("BERTH_MAIL_FROM", "Berth <berth@example.com>")
        .variable("BERTH_PUBLIC_URL", "https://berth.example.com")
        .start()
        .await
}

#[tokio::test]
async fn an_address_is_confirmed_by_the_link_that_was_mailed_to_it() {
    let Some(letterbox) = Letterbox::open().await else { return };
    let host = host(&letterbox).await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let letter = letterbox.letter("ada@example.com", "Confirm", 1).await;
    assert!(letter.text.contains("https://berth.example.com/verify-email?token="), "{}", letter.text);
    let verify = async |token: &str| host.client().post("/api/auth/verify-email", &json!({ "token": token })).await;
    verify("guess").await.problem(400, "VALIDATION_ERROR");
    assert_eq!(ada.get("/api/auth/me").await.expect(200)["user"]["isEmailVerified"], false);
    verify(&letter.token()).await.done(200);
    assert_eq!(ada.get("/api/auth/me").await.expect(200)["user"]["isEmailVerified"], true);
    verify(&letter.token()).await.problem(400, "VALIDATION_ERROR");
    ada.post("/api/auth/resend-verification", &json!({})).await.problem(409, "CONFLICT");
}

#[tokio::test]
async fn a_lost_password_is_set_anew_once_and_ends_every_session() {
    let Some(letterbox) = Letterbox::open().await else { return };
    let host = host(&letterbox).await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let forgot = async |email: &str| host.client().post("/api/auth/forgot-password", &json!({ "email": email })).await;
    let (known, unknown) =
        (forgot("ada@example.com").await.expect(200), forgot("nobody@example.com").await.expect(200));
    assert_eq!(known, unknown, "the answer tells who has an account");
    let token = letterbox.letter("ada@example.com", "Set a new password", 1).await.token();
    let reset = async |token: &str, new: &str| {
        host.client().post("/api/auth/reset-password", &json!({ "token": token, "newPassword": new })).await
    };
    for bad in [PASSWORD, "password", "short", "ada@example.com"] {
        let answer = reset(&token, bad).await;
        answer.problem(400, "VALIDATION_ERROR");
        assert_eq!(answer.faulty_fields(), ["newPassword"], "{bad}");
    }
    reset(&token, "quite another riddle 43").await.done(200);
    reset(&token, "a third riddle 44, why not").await.problem(400, "VALIDATION_ERROR");
    ada.get("/api/auth/me").await.problem(401, "UNAUTHORIZED");
    let refresh = json!({ "refreshToken": text(&ada.account, "refreshToken") });
    host.client().post("/api/auth/refresh", &refresh).await.problem(401, "REAUTH_REQUIRED");
    let login = async |password: &str| {
        host.client().post("/api/auth/login", &json!({ "email": "ada@example.com", "password": password })).await
    };
    login(PASSWORD).await.problem(401, "UNAUTHORIZED");
    login("quite another riddle 43").await.done(200);
    assert_eq!(letterbox.count("nobody@example.com"), 0);
}

#[tokio::test]
async fn an_invited_person_registers_with_the_link_and_belongs() {
    let Some(letterbox) = Letterbox::open().await else { return };
    let host = host(&letterbox).await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let id = text(&ada.account["organization"], "id");
    let roles = ada.get(&format!("/api/organizations/{id}/roles?search=Member")).await.expect(200);
    let body = json!({ "email": "grace@example.com", "roleId": roles["items"][0]["id"], "message": "Come" });
    let invitation = ada.post(&format!("/api/organizations/{id}/invitations"), &body).await.expect(201);
    assert!(invitation["mailSent"] == true && invitation.get("token").is_none(), "{invitation}");
    let token = letterbox.letter("grace@example.com", "You are invited", 1).await.token();
    let preview = host.client().get(&format!("/api/invitations/{token}")).await.expect(200);
    assert_eq!((&preview["organization"]["name"], &preview["message"]), (&json!("Harbour"), &json!("Come")));
    let register =
        |email: &str| json!({ "email": email, "password": PASSWORD, "name": "Grace", "invitationToken": token });
    host.client().post("/api/auth/register", &register("eve@example.com")).await.problem(403, "FORBIDDEN");
    let grace = host.client().post("/api/auth/register", &register("grace@example.com")).await.expect(201);
    assert_eq!(grace["organization"]["id"], id.as_str());
    host.client().get(&format!("/api/invitations/{token}")).await.problem(410, "GONE");
    assert!(!host.log().contains(&token), "the log holds an invitation's secret");
}

#[tokio::test]
async fn a_mail_server_that_is_away_fails_no_registration() {
    let host = Host::with(Manifest::hello())
        .variable("BERTH_SMTP_URL", "smtp://127.0.0.1:9")
        .variable("BERTH_MAIL_FROM", "berth@example.com")
        .start()
        .await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    host.client().post("/api/auth/forgot-password", &json!({ "email": "ada@example.com" })).await.done(200);
    eventually("a line in the log", async || host.log().contains("was sent").then_some(())).await;
    ada.get("/api/auth/me").await.done(200);
}
