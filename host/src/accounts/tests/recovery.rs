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
async fn a_new_password_ends_every_reset_link_asked_for_before() {
    let Some(app) = app_with_mail().await else { return };
    let ada = app.register("Ada").await;
    secret_in_mail(&app, 1).await;
    let mut links = Vec::new();
    for count in 2..=4 {
        app.post("/api/auth/forgot-password", "", json!({ "email": ada.email })).await.unwrap();
        links.push(secret_in_mail(&app, count).await);
    }
    let reset = async |token: &str, new: &str| {
        app.post("/api/auth/reset-password", "", json!({ "token": token, "newPassword": new })).await
    };
    reset(&links[1], "another fine one").await.unwrap();
    assert_eq!(faults(reset(&links[0], "a third fine one").await), ["token"]);
    let (_, body) = app.login(&ada.email, "another fine one").await.unwrap();
    app.post("/api/auth/forgot-password", "", json!({ "email": ada.email })).await.unwrap();
    links.push(secret_in_mail(&app, 5).await);
    let change = json!({ "currentPassword": "another fine one", "newPassword": "a third fine one" });
    app.post("/api/auth/change-password", &text(&body, "/token"), change).await.unwrap();
    for link in &links {
        assert_eq!(faults(reset(link, "a fourth fine one").await), ["token"]);
    }
}

/// Links an account of Google with somebody.
async fn link(app: &App, user_id: &str) {
    let sql = "INSERT INTO accounts (id, user_id, provider, provider_account_id, created_at, updated_at, version) \
         VALUES ('link', $1, 'google', 'subject', $2, $2, 1)";
    app.accounts.database.execute(sql, &values![user_id, app.accounts.now()]).await.unwrap();
    let sql = "UPDATE users SET auth_providers = $2, google_id = 'subject' WHERE id = $1";
    app.accounts.database.execute(sql, &values![user_id, json!(["password", "google"])]).await.unwrap();
}

#[tokio::test]
async fn the_reset_that_first_confirms_an_address_ends_every_way_in_made_before() {
    let Some(app) = app_with_mail().await else { return };
    // Somebody else registers Ada's address, and makes ways in that need no password.
    let ada = app.register("Ada").await;
    secret_in_mail(&app, 1).await;
    let mut token = ada.token.clone();
    for (mail, password, is_kept) in [(2, "another fine one", false), (3, "a third fine one", true)] {
        link(&app, &ada.id).await;
        let body = json!({ "name": "CI", "permissions": ["*"] });
        let key = text(&app.post("/api/users/me/api-keys", &token, body).await.unwrap().1, "/key");
        app.post("/api/auth/forgot-password", "", json!({ "email": ada.email })).await.unwrap();
        let body = json!({ "token": secret_in_mail(&app, mail).await, "newPassword": password });
        app.post("/api/auth/reset-password", "", body).await.unwrap();
        assert!(app.get("/api/auth/me", &token).await.is_err());
        assert_eq!(app.accounts.authenticate(&key, None).await.is_ok(), is_kept, "{password}");
        token = text(&app.login(&ada.email, password).await.unwrap().1, "/token");
        let (_, own) = app.get("/api/auth/providers", &token).await.unwrap();
        let expected = if is_kept { json!(["password", "google"]) } else { json!(["password"]) };
        assert_eq!(own["providers"], expected, "{password}");
        let linked = app.accounts.database.query("SELECT id FROM accounts", &[]).await.unwrap().len();
        assert_eq!(linked, usize::from(is_kept), "{password}");
    }
}

#[tokio::test]
async fn the_reset_that_first_shows_mailbox_and_account_in_one_hand_ends_what_was_made_before() {
    let Some(app) = app_with_mail().await else { return };
    // Somebody else registers Ada's address; she follows the link unsuspecting, and the stranger's session goes on.
    let stranger = app.register("Ada").await;
    let verify = json!({ "token": secret_in_mail(&app, 1).await });
    app.post("/api/auth/verify-email", "", verify).await.unwrap();
    let body = json!({ "name": "CI", "permissions": ["*"] });
    let key = text(&app.post("/api/users/me/api-keys", &stranger.token, body).await.unwrap().1, "/key");
    link(&app, &stranger.id).await;
    app.post("/api/auth/forgot-password", "", json!({ "email": stranger.email })).await.unwrap();
    let body = json!({ "token": secret_in_mail(&app, 2).await, "newPassword": "another fine one" });
    app.post("/api/auth/reset-password", "", body).await.unwrap();
    assert!(app.accounts.authenticate(&key, None).await.is_err());
    let (_, entered) = app.login(&stranger.email, "another fine one").await.unwrap();
    let (_, own) = app.get("/api/auth/providers", &text(&entered, "/token")).await.unwrap();
    assert_eq!(own["providers"], json!(["password"]));
}

#[tokio::test]
async fn of_many_reset_links_asked_for_at_once_no_more_are_sent_than_may_be() {
    let Some(app) = app_with_mail().await else { return };
    let ada = app.register("Ada").await;
    let asked = (0..12).map(|_| app.post("/api/auth/forgot-password", "", json!({ "email": ada.email })));
    assert!(futures_util::future::join_all(asked).await.iter().all(Result::is_ok));
    // All places for mails are free again when none is under way.
    let all = u32::try_from(crate::accounts::recovery::MAILS_AT_ONCE_MAX).unwrap();
    drop(app.accounts.mails.acquire_many(all).await.unwrap());
    let is_reset = |mail: &&Mail| mail.subject == "Set a new password";
    assert_eq!(app.mails.lock().iter().filter(is_reset).count(), 5);
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
async fn a_link_followed_by_nobody_known_blesses_no_way_in_made_before_and_leaves_who_registered_signed_in() {
    for is_own in [false, true] {
        let Some(app) = app_with_mail().await else { return };
        let ada = app.register("Ada").await;
        let first = secret_in_mail(&app, 1).await;
        app.post("/api/auth/resend-verification", &ada.token, Json::Null).await.unwrap();
        let second = secret_in_mail(&app, 2).await;
        let key = async || {
            let body = json!({ "name": "CI", "permissions": ["*"] });
            text(&app.post("/api/users/me/api-keys", &ada.token, body).await.unwrap().1, "/key")
        };
        link(&app, &ada.id).await;
        let before = key().await;
        let session = if is_own { ada.token.as_str() } else { "" };
        app.post("/api/auth/verify-email", session, json!({ "token": first })).await.unwrap();
        assert_eq!(app.accounts.authenticate(&before, None).await.is_ok(), is_own);
        let (_, own) = app.get("/api/auth/providers", &ada.token).await.unwrap();
        let expected = if is_own { json!(["password", "google"]) } else { json!(["password"]) };
        assert_eq!(own["providers"], expected, "{is_own}");
        let linked = app.accounts.database.query("SELECT id FROM accounts", &[]).await.unwrap().len();
        assert_eq!(linked, usize::from(is_own));
        // The password and the session that registering gave go on.
        assert!(app.login(&ada.email, PASSWORD).await.is_ok());
        let (_, me) = app.get("/api/auth/me", &ada.token).await.unwrap();
        assert_eq!(me["user"]["isEmailVerified"], true);
        // Only the first link confirms something.
        let after = key().await;
        app.post("/api/auth/verify-email", "", json!({ "token": second })).await.unwrap();
        assert!(app.accounts.authenticate(&after, None).await.is_ok());
        assert_eq!(app.events().await.iter().filter(|kind| *kind == "user.email_verified").count(), 1);
    }
}

#[tokio::test]
async fn nobody_is_added_by_an_address_that_their_account_has_not_confirmed() {
    let Some(app) = app_with_mail().await else { return };
    let ada = app.register("Ada").await;
    secret_in_mail(&app, 1).await;
    let grace = app.register("Grace").await;
    let token = secret_in_mail(&app, 2).await;
    let path = format!("/api/organizations/{}/memberships", ada.organization_id);
    let body = json!({ "email": grace.email, "roleId": app.role(&ada, "Member").await });
    let refused = app.post(&path, &ada.token, body.clone()).await;
    assert!(matches!(refused, Err(AccountsError::Conflict(_))), "{refused:?}");
    app.post("/api/auth/verify-email", "", json!({ "token": token })).await.unwrap();
    assert_eq!(app.post(&path, &ada.token, body).await.unwrap().0, 201);
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
