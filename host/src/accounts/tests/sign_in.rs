//! Signing up and in: the first user, lockout, limits, password rules.

use super::*;

#[tokio::test]
async fn the_first_user_is_super_admin_of_the_operator_organization_and_nobody_after() {
    let Some(app) = App::on(database().await).await else { return };
    let first = app.register("Ada").await;
    let second = app.register("Grace").await;
    let (_, me) = app.get("/api/auth/me", &first.token).await.unwrap();
    assert_eq!(me["isPlatform"], true);
    assert_eq!(me["role"]["name"], "Super Admin");
    assert_eq!(me["organization"]["id"], json!(first.organization_id));
    assert_eq!(me["permissions"], json!(["*"]));
    let (_, me) = app.get("/api/auth/me", &second.token).await.unwrap();
    assert_eq!(me["isPlatform"], false);
    assert_eq!(me["role"]["isSuperAdmin"], true);
    let path = format!("/api/users/{}/deactivate", second.id);
    assert!(matches!(app.post(&path, &second.token, Json::Null).await, Err(AccountsError::Forbidden(_))));
    assert_eq!(app.post(&path, &first.token, Json::Null).await.unwrap().0, 200);
    assert!(matches!(app.login(&second.email, PASSWORD).await, Err(AccountsError::Forbidden(_))));
}

#[tokio::test]
async fn the_operator_token_is_the_platform_and_no_user() {
    let Some(app) = App::on(database().await).await else { return };
    let person = app.register("Ada").await;
    let principal = app.accounts.authenticate(OPERATOR, None).await.unwrap();
    assert!(principal.is_platform && principal.user_id.is_none());
    assert!(app.accounts.authenticate("operator-token-of-the-testx", None).await.is_err());
    assert!(matches!(app.get("/api/auth/me", OPERATOR).await, Err(AccountsError::Forbidden(_))));
    assert!(matches!(app.get("/api/users", OPERATOR).await, Err(AccountsError::OrganizationRequired)));
    // The last Super Admin stays whoever asks.
    let path = format!("/api/users/{}", person.id);
    assert!(matches!(app.delete(&path, OPERATOR).await, Err(AccountsError::Conflict(_))));
}

#[tokio::test]
async fn an_unknown_user_and_a_wrong_password_look_alike() {
    let Some(app) = App::on(database().await).await else { return };
    let person = app.register("Ada").await;
    let wrong = app.login(&person.email, "wrong horse battery").await.unwrap_err();
    let unknown = app.login("nobody@example.com", "wrong horse battery").await.unwrap_err();
    assert!(matches!(wrong, AccountsError::Unauthorized(_)));
    assert_eq!(format!("{wrong:?}"), format!("{unknown:?}"));
    let (status, body) = app.login("ADA@Example.com", PASSWORD).await.unwrap();
    assert_eq!((status, body["user"]["email"].as_str()), (200, Some("ada@example.com")));
}

#[tokio::test]
async fn five_failures_lock_an_account_for_half_an_hour_known_or_not() {
    let Some(app) = App::on(database().await).await else { return };
    let person = app.register("Ada").await;
    for email in [person.email.as_str(), "nobody@example.com"] {
        for _ in 0..5 {
            assert!(matches!(app.login(email, "wrong").await, Err(AccountsError::Unauthorized(_))));
        }
        let locked = app.login(email, PASSWORD).await.unwrap_err();
        let AccountsError::Locked { retry_after_seconds } = locked else { panic!("{locked:?}") };
        assert!((1_700..=1_800).contains(&retry_after_seconds));
    }
    app.move_clock(chrono::Duration::minutes(29));
    assert!(matches!(app.login(&person.email, PASSWORD).await, Err(AccountsError::Locked { .. })));
    app.move_clock(chrono::Duration::minutes(2));
    assert_eq!(app.login(&person.email, PASSWORD).await.unwrap().0, 200);
}

#[tokio::test]
async fn failures_that_are_far_apart_or_before_a_success_do_not_lock() {
    let Some(app) = App::on(database().await).await else { return };
    let person = app.register("Ada").await;
    for _ in 0..4 {
        app.login(&person.email, "wrong").await.unwrap_err();
    }
    app.login(&person.email, PASSWORD).await.unwrap();
    for _ in 0..3 {
        app.login(&person.email, "wrong").await.unwrap_err();
    }
    app.move_clock(chrono::Duration::minutes(16));
    for _ in 0..2 {
        app.login(&person.email, "wrong").await.unwrap_err();
    }
    assert_eq!(app.login(&person.email, PASSWORD).await.unwrap().0, 200);
}

#[tokio::test]
async fn nobody_signs_in_to_an_organization_that_only_others_added_them_to() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    app.get("/api/auth/me", &ada.token).await.unwrap();
    // The use is noted when all places for notes are free again.
    let all = u32::try_from(identity::ACCESS_NOTES_AT_ONCE_MAX).unwrap();
    drop(app.accounts.access_notes.acquire_many(all).await.unwrap());
    app.move_clock(chrono::Duration::minutes(1));
    let path = format!("/api/organizations/{}/memberships", grace.organization_id);
    let add = json!({ "email": ada.email, "roleId": app.role(&grace, "Super Admin").await });
    app.post(&path, &grace.token, add).await.unwrap();
    let (_, body) = app.login(&ada.email, PASSWORD).await.unwrap();
    let (_, me) = app.get("/api/auth/me", &text(&body, "/token")).await.unwrap();
    assert_eq!(me["organization"]["id"], json!(ada.organization_id));
}

#[tokio::test]
async fn an_address_may_sign_in_five_times_a_quarter_hour() {
    let Some(app) = App::with(database().await, App::options(), false).await else { return };
    let person = app.register("Ada").await;
    for _ in 0..5 {
        app.login(&person.email, PASSWORD).await.unwrap();
    }
    let limited = app.login(&person.email, PASSWORD).await.unwrap_err();
    let AccountsError::RateLimited { retry_after_seconds } = limited else { panic!("{limited:?}") };
    assert!((1..=900).contains(&retry_after_seconds));
    app.move_clock(chrono::Duration::minutes(15));
    assert_eq!(app.login(&person.email, PASSWORD).await.unwrap().0, 200);
}

#[tokio::test]
async fn bad_registrations_name_their_fields_and_leave_nothing_behind() {
    let Some(app) = App::on(database().await).await else { return };
    assert_eq!(faults(app.post("/api/auth/register", "", Json::Null).await), ["email", "password", "name"]);
    let body = json!({ "email": "x@", "password": "password123", "name": 7, "unknown": true });
    assert_eq!(faults(app.post("/api/auth/register", "", body).await), ["email", "name", "password"]);
    app.register("Ada").await;
    let body = json!({ "email": "ADA@example.com", "password": PASSWORD, "name": "Other" });
    assert!(matches!(app.post("/api/auth/register", "", body).await, Err(AccountsError::Conflict(_))));
    let rows = app.accounts.database.query("SELECT id FROM users", &[]).await.unwrap();
    assert_eq!(rows.len(), 1);
}

#[tokio::test]
async fn two_people_of_one_name_get_two_slugs() {
    let Some(app) = App::on(database().await).await else { return };
    let mut slugs = Vec::new();
    for email in ["a1@example.com", "b2@example.com"] {
        let body = json!({ "email": email, "password": PASSWORD, "name": "Same Name" });
        let (_, body) = app.post("/api/auth/register", "", body).await.unwrap();
        slugs.push(text(&body, "/organization/slug"));
    }
    assert_eq!(slugs[0], "same-name");
    assert!(slugs[1].starts_with("same-name-") && slugs[1] != slugs[0]);
}

#[tokio::test]
async fn a_new_password_ends_every_session_and_old_ones_do_not_come_back() {
    let Some(app) = App::on(database().await).await else { return };
    let person = app.register("Ada").await;
    let other = text(&app.login(&person.email, PASSWORD).await.unwrap().1, "/token");
    let change = |current: &str, new: &str| json!({ "currentPassword": current, "newPassword": new });
    let path = "/api/auth/change-password";
    assert_eq!(faults(app.post(path, &person.token, change("wrong", "another fine one")).await), ["currentPassword"]);
    assert_eq!(faults(app.post(path, &person.token, change(PASSWORD, PASSWORD)).await), ["newPassword"]);
    assert_eq!(faults(app.post(path, &person.token, change(PASSWORD, "password1")).await), ["newPassword"]);
    let (_, changed) = app.post(path, &person.token, change(PASSWORD, "another fine one")).await.unwrap();
    assert_eq!(changed["sessionsRevoked"], 2);
    for token in [&person.token, &other] {
        assert!(matches!(app.get("/api/auth/me", token).await, Err(AccountsError::Unauthorized(_))));
    }
    assert!(app.login(&person.email, PASSWORD).await.is_err());
    let (_, body) = app.login(&person.email, "another fine one").await.unwrap();
    let back = change("another fine one", PASSWORD);
    assert_eq!(faults(app.post(path, &text(&body, "/token"), back).await), ["newPassword"]);
}

#[tokio::test]
async fn what_happened_is_published_and_audited() {
    let Some(app) = App::on(database().await).await else { return };
    let person = app.register("Ada").await;
    app.login(&person.email, "wrong").await.unwrap_err();
    app.login(&person.email, PASSWORD).await.unwrap();
    let events = app.events().await;
    for kind in [
        "user.registered",
        "organization.created",
        "organization.member_joined",
        "auth.login.failed",
        "auth.login.success",
    ] {
        assert!(events.iter().any(|event| event == kind), "{kind} is not in {events:?}");
    }
    let (_, rows) = app.get("/api/audit?action=user.registered", &person.token).await.unwrap();
    assert_eq!(rows["total"], 1);
    assert_eq!(rows["items"][0]["userId"], json!(person.id));
}
