//! Lost passwords, unconfirmed addresses, own profiles, and what is not configured.

use super::*;

/// The secret in the newest mail to somebody, once it has come.
async fn secret_in_mail(app: &App, count: usize) -> String {
    for _ in 0..1_000 {
        if app.mails.lock().len() >= count {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let mails = app.mails.lock();
    let link = mails.last().unwrap().text.split_whitespace().find(|word| word.contains("token=")).unwrap().to_owned();
    link.split_once("token=").unwrap().1.to_owned()
}

async fn app_with_mail() -> Option<App> {
    let options = AccountsOptions { public_url: Some("https://berth.example".into()), ..App::options() };
    App::with(database().await, options, true).await
}

#[tokio::test]
async fn without_a_mail_server_nothing_is_promised() {
    let Some(app) = App::on(database().await).await else { return };
    let ada = app.register("Ada").await;
    for email in [ada.email.as_str(), "nobody@example.com"] {
        let answer = app.post("/api/auth/forgot-password", "", json!({ "email": email })).await.unwrap();
        assert_eq!(answer, (200, json!({ "accepted": true, "canMail": false })));
    }
    let answer = app.post("/api/auth/resend-verification", &ada.token, Json::Null).await;
    assert!(matches!(answer, Err(AccountsError::NotConfigured(_))));
    for path in ["/api/auth/google", "/api/auth/google/callback"] {
        assert!(matches!(app.get(path, "").await, Err(AccountsError::NotConfigured(_))));
    }
    let link = app.post("/api/auth/link-google", &ada.token, Json::Null).await;
    assert!(matches!(link, Err(AccountsError::NotConfigured(_))));
    assert!(matches!(app.get("/api/auth/oidc/acme", "").await, Err(AccountsError::NotFound(_))));
}

#[tokio::test]
async fn a_reset_link_works_once_within_an_hour_and_ends_all_sessions() {
    let Some(app) = app_with_mail().await else { return };
    let ada = app.register("Ada").await;
    let forgot = |email: &str| json!({ "email": email });
    let known = app.post("/api/auth/forgot-password", "", forgot(&ada.email)).await.unwrap();
    let unknown = app.post("/api/auth/forgot-password", "", forgot("nobody@example.com")).await.unwrap();
    assert_eq!(known, unknown);
    let token = secret_in_mail(&app, 2).await;
    let reset = |token: &str, new: &str| json!({ "token": token, "newPassword": new });
    let path = "/api/auth/reset-password";
    assert_eq!(faults(app.post(path, "", reset(&token, PASSWORD)).await), ["newPassword"]);
    app.post(path, "", reset(&token, "another fine one")).await.unwrap();
    assert_eq!(faults(app.post(path, "", reset(&token, "a third fine one")).await), ["token"]);
    assert!(app.get("/api/auth/me", &ada.token).await.is_err());
    assert!(app.login(&ada.email, "another fine one").await.is_ok());
    app.post("/api/auth/forgot-password", "", forgot(&ada.email)).await.unwrap();
    let token = secret_in_mail(&app, 3).await;
    app.move_clock(chrono::Duration::minutes(61));
    assert_eq!(faults(app.post(path, "", reset(&token, "a third fine one")).await), ["token"]);
}

#[tokio::test]
async fn an_address_is_confirmed_with_the_token_that_was_sent_to_it() {
    let Some(app) = app_with_mail().await else { return };
    let ada = app.register("Ada").await;
    app.post("/api/auth/resend-verification", &ada.token, Json::Null).await.unwrap();
    let token = secret_in_mail(&app, 2).await;
    let path = "/api/auth/verify-email";
    assert_eq!(faults(app.post(path, "", json!({ "token": "guess" })).await), ["token"]);
    app.post(path, "", json!({ "token": token })).await.unwrap();
    let (_, me) = app.get("/api/auth/me", &ada.token).await.unwrap();
    assert_eq!(me["user"]["isEmailVerified"], true);
}

#[tokio::test]
async fn an_invitation_is_mailed_and_its_secret_shown_to_nobody_else() {
    let Some(app) = app_with_mail().await else { return };
    let ada = app.register("Ada").await;
    let path = format!("/api/organizations/{}/invitations", ada.organization_id);
    let body = json!({ "email": "grace@example.com", "roleId": app.role(&ada, "Member").await });
    let (_, invitation) = app.post(&path, &ada.token, body).await.unwrap();
    assert_eq!(invitation["mailSent"], true);
    assert!(invitation.get("token").is_none());
    let mail = app.mails.lock().iter().find(|mail| mail.subject == "You are invited").cloned().unwrap();
    assert_eq!(mail.to, ["grace@example.com"]);
    let token = mail.text.split_once("token=").unwrap().1.to_owned();
    assert_eq!(app.get(&format!("/api/invitations/{token}"), "").await.unwrap().0, 200);
}

#[tokio::test]
async fn the_own_profile_is_merged_and_the_last_provider_stays() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    let body = json!({ "username": "countess", "preferences": { "theme": "dark" }, "email": "other@example.com" });
    let (_, user) = app.put("/api/users/me", &ada.token, body).await.unwrap();
    assert_eq!((user["username"].as_str(), user["name"].as_str()), (Some("countess"), Some("Ada")));
    assert_eq!(user["email"], json!(ada.email), "an unknown field is ignored");
    let taken = app.put("/api/users/me", &grace.token, json!({ "username": "COUNTESS" })).await;
    assert!(matches!(taken, Err(AccountsError::Conflict(_))));
    assert_eq!(
        faults(app.put("/api/users/me", &ada.token, json!({ "name": "", "avatarUrl": "x" })).await),
        ["name", "avatarUrl"]
    );
    let unlink = json!({ "provider": "password" });
    assert_eq!(faults(app.post("/api/auth/unlink-provider", &ada.token, unlink).await), ["provider"]);
    let (_, users) = app.get("/api/users?search=ada", &ada.token).await.unwrap();
    assert!(users["items"][0].get("preferences").is_none() && users["items"][0].get("passwordHash").is_none());
}

#[tokio::test]
async fn deleted_users_go_for_good_after_ninety_days() {
    let Some(app) = App::on(database().await).await else { return };
    let (_first, grace) = (app.register("Ada").await, app.register("Grace").await);
    let joan = app.register("Joan").await;
    app.add(&grace, &joan, "Super Admin").await;
    // Nobody leaves an organization without a Super Admin behind, but the platform may shut out whom it must.
    let left = app.post("/api/users/me/deactivate", &joan.token, Json::Null).await;
    assert!(matches!(left, Err(AccountsError::Conflict(_))));
    let path = format!("/api/users/{}", joan.id);
    assert_eq!(app.delete(&path, OPERATOR).await.unwrap().0, 204);
    assert!(app.get("/api/auth/me", &joan.token).await.is_err());
    assert!(app.login(&joan.email, PASSWORD).await.is_err());
    app.move_clock(chrono::Duration::days(89));
    app.accounts.sweep().await.unwrap();
    let count = async || app.accounts.database.query("SELECT id FROM users", &[]).await.unwrap().len();
    assert_eq!(count().await, 3);
    app.move_clock(chrono::Duration::days(2));
    app.accounts.sweep().await.unwrap();
    assert_eq!(count().await, 2);
}
