//! Refresh tokens, revocation, and what a token may do after something changed.

use super::*;
use crate::capability::acting::Members;

async fn refresh(app: &App, token: &str) -> Answer {
    app.post("/api/auth/refresh", "", json!({ "refreshToken": token })).await
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_its_reuse_ends_the_family() {
    let Some(app) = App::on(database().await).await else { return };
    let person = app.register("Ada").await;
    let elsewhere = app.login(&person.email, PASSWORD).await.unwrap().1;
    let (_, second) = refresh(&app, &person.refresh_token).await.unwrap();
    let (_, third) = refresh(&app, &text(&second, "/refreshToken")).await.unwrap();
    let fresh = text(&third, "/token");
    assert_eq!(app.get("/api/auth/me", &fresh).await.unwrap().0, 200);

    // The thief comes with the first one: nobody keeps the session, neither thief nor victim.
    let reused = refresh(&app, &person.refresh_token).await.unwrap_err();
    assert!(matches!(reused, AccountsError::ReauthenticationRequired(_)));
    assert!(matches!(app.get("/api/auth/me", &fresh).await, Err(AccountsError::Unauthorized(_))));
    assert!(matches!(app.get("/api/auth/me", &person.token).await, Err(AccountsError::Unauthorized(_))));
    assert!(refresh(&app, &text(&third, "/refreshToken")).await.is_err());
    // Another family of the same user lives on.
    assert_eq!(app.get("/api/auth/me", &text(&elsewhere, "/token")).await.unwrap().0, 200);
    assert!(refresh(&app, "no such token").await.is_err());
}

#[tokio::test]
async fn of_two_refreshes_at_once_one_wins_and_the_other_ends_the_family() {
    let Some(app) = App::on(database().await).await else { return };
    let person = app.register("Ada").await;
    let (left, right) = tokio::join!(refresh(&app, &person.refresh_token), refresh(&app, &person.refresh_token));
    assert!(left.is_ok() != right.is_ok());
    let won = left.or(right).unwrap().1;
    assert!(refresh(&app, &text(&won, "/refreshToken")).await.is_err());
}

#[tokio::test]
async fn a_refresh_that_fails_in_the_middle_leaves_its_token_good() {
    let Some(app) = App::on(database().await).await else { return };
    let person = app.register("Ada").await;
    let database = &app.accounts.database;
    // What the user may do cannot be read for a while.
    database.execute("ALTER TABLE roles RENAME TO roles_away", &[]).await.unwrap();
    let failed = refresh(&app, &person.refresh_token).await;
    assert!(!matches!(failed, Ok(_) | Err(AccountsError::ReauthenticationRequired(_))), "{failed:?}");
    database.execute("ALTER TABLE roles_away RENAME TO roles", &[]).await.unwrap();
    let (_, next) = refresh(&app, &person.refresh_token).await.unwrap();
    assert_eq!(app.get("/api/auth/me", &text(&next, "/token")).await.unwrap().0, 200);
}

#[tokio::test]
async fn a_refresh_token_expires_after_thirty_days() {
    let Some(app) = App::on(database().await).await else { return };
    let person = app.register("Ada").await;
    app.move_clock(chrono::Duration::days(29));
    let (_, next) = refresh(&app, &person.refresh_token).await.unwrap();
    app.move_clock(chrono::Duration::days(31));
    assert!(refresh(&app, &text(&next, "/refreshToken")).await.is_err());
}

#[tokio::test]
async fn logout_works_at_once() {
    let Some(app) = App::on(database().await).await else { return };
    let person = app.register("Ada").await;
    assert_eq!(app.get("/api/auth/me", &person.token).await.unwrap().0, 200);
    let reply = app.send("POST", "/api/auth/logout", &person.token, Json::Null, &[]).await.unwrap();
    let cookies: Vec<_> = reply.headers.get_all("set-cookie").iter().map(|v| v.to_str().unwrap().to_owned()).collect();
    assert!(cookies.len() == 2 && cookies.iter().all(|cookie| cookie.contains("Max-Age=0")));
    assert!(matches!(app.get("/api/auth/me", &person.token).await, Err(AccountsError::Unauthorized(_))));
    assert!(refresh(&app, &person.refresh_token).await.is_err());
    assert!(app.events().await.iter().any(|event| event == "session.revoked"));
}

#[tokio::test]
async fn the_eleventh_session_ends_the_oldest() {
    let Some(app) = App::on(database().await).await else { return };
    let person = app.register("Ada").await;
    let mut tokens = vec![person.token.clone()];
    for _ in 0..10 {
        app.move_clock(chrono::Duration::milliseconds(5));
        tokens.push(text(&app.login(&person.email, PASSWORD).await.unwrap().1, "/token"));
    }
    assert!(app.get("/api/auth/me", &tokens[0]).await.is_err());
    let (_, sessions) = app.get("/api/users/me/sessions", &tokens[10]).await.unwrap();
    assert_eq!(sessions["total"], 10);
    assert_eq!(sessions["items"].as_array().unwrap().iter().filter(|session| session["isCurrent"] == true).count(), 1);
}

#[tokio::test]
async fn sessions_are_revoked_one_by_one_and_only_ones_own() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    let other = text(&app.login(&ada.email, PASSWORD).await.unwrap().1, "/token");
    let session = app.accounts.authenticate(&other, None).await.unwrap().session_id.clone().unwrap();
    let path = format!("/api/users/me/sessions/{session}");
    assert!(matches!(app.delete(&path, &grace.token).await, Err(AccountsError::NotFound(_))));
    assert_eq!(app.delete(&path, &ada.token).await.unwrap().0, 204);
    assert!(app.get("/api/auth/me", &other).await.is_err());
    assert!(matches!(app.delete(&path, &ada.token).await, Err(AccountsError::NotFound(_))));
    let third = text(&app.login(&ada.email, PASSWORD).await.unwrap().1, "/token");
    let (_, revoked) = app.post("/api/users/me/sessions/revoke-all-others", &ada.token, Json::Null).await.unwrap();
    assert_eq!(revoked["revoked"], 1);
    assert!(app.get("/api/auth/me", &third).await.is_err());
    assert_eq!(app.get("/api/auth/me", &ada.token).await.unwrap().0, 200);
}

#[tokio::test]
async fn a_changed_role_counts_with_the_next_request() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    let (membership, token) = app.add(&ada, &grace, "Viewer").await;
    let team = json!({ "name": "Compilers" });
    assert!(matches!(app.post("/api/teams", &token, team.clone()).await, Err(AccountsError::Forbidden(_))));
    let path = format!("/api/organizations/{}/memberships/{membership}", ada.organization_id);
    let role_id = app.role(&ada, "Member").await;
    app.put(&path, &ada.token, json!({ "roleId": role_id })).await.unwrap();
    assert_eq!(app.post("/api/teams", &token, team).await.unwrap().0, 201);
    app.delete(&path, &ada.token).await.unwrap();
    assert!(matches!(app.get("/api/teams", &token).await, Err(AccountsError::Unauthorized(_))));
    // Refreshing goes on where the user still belongs.
    let (_, next) = refresh(&app, &grace.refresh_token).await.unwrap();
    let (_, me) = app.get("/api/auth/me", &text(&next, "/token")).await.unwrap();
    assert_eq!(me["organization"]["id"], json!(grace.organization_id));
}

#[tokio::test]
async fn the_same_token_gives_the_same_principal_without_asking_again() {
    let Some(app) = App::on(database().await).await else { return };
    let person = app.register("Ada").await;
    let first = app.accounts.authenticate(&person.token, None).await.unwrap();
    let second = app.accounts.authenticate(&person.token, None).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(first.email.as_deref(), Some("ada@example.com"));
}

#[tokio::test]
async fn tokens_of_the_previous_signing_key_stay_good_and_older_ones_do_not() {
    let Some(app) = App::on(database().await).await else { return };
    let person = app.register("Ada").await;
    app.accounts.rotate_signing_key(false).await.unwrap();
    app.accounts.identities.forget_tokens();
    assert!(app.accounts.authenticate(&person.token, None).await.is_ok());
    app.move_clock(chrono::Duration::milliseconds(5));
    app.accounts.rotate_signing_key(false).await.unwrap();
    app.accounts.identities.forget_tokens();
    assert!(app.accounts.authenticate(&person.token, None).await.is_err());
    assert!(app.login(&person.email, PASSWORD).await.is_ok());
}

#[tokio::test]
async fn an_expired_access_token_is_refused_although_it_is_remembered() {
    let Some(app) = App::on(database().await).await else { return };
    let person = app.register("Ada").await;
    assert!(app.accounts.authenticate(&person.token, None).await.is_ok());
    app.move_clock(chrono::Duration::minutes(15));
    assert!(app.accounts.authenticate(&person.token, None).await.is_err());
}

#[tokio::test]
async fn browsers_get_cookies_that_scripts_cannot_read() {
    let Some(app) =
        App::with(database().await, AccountsOptions { cookies_secure: true, ..App::options() }, false).await
    else {
        return;
    };
    let person = app.register("Ada").await;
    for (remember, has_age) in [(true, true), (false, false)] {
        let body = json!({ "email": person.email, "password": PASSWORD, "rememberMe": remember });
        let reply = app.send("POST", "/api/auth/login", "", body, &[]).await.unwrap();
        let cookies: Vec<_> =
            reply.headers.get_all("set-cookie").iter().map(|v| v.to_str().unwrap().to_owned()).collect();
        assert!(
            cookies.iter().all(|c| c.contains("HttpOnly") && c.contains("SameSite=Strict") && c.contains("Secure"))
        );
        let refresh = cookies.iter().find(|cookie| cookie.starts_with("refreshToken=")).unwrap();
        assert_eq!(refresh.contains("Max-Age"), has_age);
        let pair = refresh.split(';').next().unwrap();
        let headers = [("cookie", pair)];
        let reply = app.send("POST", "/api/auth/refresh", "", Json::Null, &headers).await.unwrap();
        assert_eq!(reply.status, 200);
    }
}

#[tokio::test]
async fn a_message_is_handled_with_the_present_rights_of_its_user() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    let (membership, _) = app.add(&ada, &grace, "Viewer").await;
    let organization = Some(ada.organization_id.as_str());
    let principal = app.accounts.principal_for_message(organization, Some(&grace.id)).await.unwrap();
    assert_eq!(principal.kind, PrincipalKind::System);
    assert!(principal.has_permission("planning.plans.read") && !principal.has_permission("planning.plans.update"));
    app.delete(&format!("/api/organizations/{}/memberships/{membership}", ada.organization_id), &ada.token)
        .await
        .unwrap();
    let principal = app.accounts.principal_for_message(organization, Some(&grace.id)).await.unwrap();
    assert!(!principal.has_permission("planning.plans.read"));
    let principal = app.accounts.principal_for_message(organization, None).await.unwrap();
    assert!(principal.has_permission("planning.plans.update") && !principal.is_platform);
}

#[tokio::test]
async fn a_member_is_told_as_they_stand_now_and_nobody_else_is() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    let organization = ada.organization_id.as_str();
    let member = async |user: &str| app.accounts.member(organization, user).await.unwrap();
    assert!(member(&grace.id).await.is_none() && member("nobody").await.is_none(), "of another organization, of none");
    let (membership, _) = app.add(&ada, &grace, "Viewer").await;
    let told = member(&grace.id).await.unwrap();
    assert_eq!((told.user_id.as_deref(), told.organization_id.as_deref()), (Some(&*grace.id), Some(organization)));
    assert_eq!((told.email.as_deref(), told.name.as_deref()), (Some(&*grace.email), Some("Grace")));
    assert!(told.has_permission("planning.plans.read") && !told.has_permission("planning.plans.update"));
    let path = format!("/api/organizations/{organization}/memberships/{membership}");
    let role_id = app.role(&ada, "Member").await;
    app.put(&path, &ada.token, json!({ "roleId": role_id })).await.unwrap();
    assert!(member(&grace.id).await.unwrap().has_permission("planning.plans.update"));
    for (status, is_there) in [("suspended", false), ("active", true)] {
        app.put(&path, &ada.token, json!({ "status": status })).await.unwrap();
        assert_eq!(member(&grace.id).await.is_some(), is_there, "{status}");
    }
    app.delete(&path, &ada.token).await.unwrap();
    assert!(member(&grace.id).await.is_none(), "removed");
}
