//! Rules that many requests at once must not get around.

use futures_util::future::join_all;

use super::*;

#[tokio::test]
async fn of_many_guesses_at_once_only_five_count() {
    let Some(app) = App::on(database().await).await else { return };
    let ada = app.register("Ada").await;
    let guesses = join_all((0..12).map(|number| {
        let (app, email) = (&app, &ada.email);
        async move { app.login(email, &format!("wrong guess {number}")).await }
    }))
    .await;
    let wrong = guesses.iter().filter(|guess| matches!(guess, Err(AccountsError::Unauthorized(_)))).count();
    let locked = guesses.iter().filter(|guess| matches!(guess, Err(AccountsError::Locked { .. }))).count();
    assert_eq!((wrong, locked), (5, 7), "{guesses:?}");
    assert!(matches!(app.login(&ada.email, PASSWORD).await, Err(AccountsError::Locked { .. })));
}

#[tokio::test]
async fn of_many_guesses_at_the_present_password_at_once_only_five_count() {
    let Some(app) = App::on(database().await).await else { return };
    let ada = app.register("Ada").await;
    let guesses = join_all((0..12).map(|number| {
        let (app, token) = (&app, &ada.token);
        let body = json!({ "currentPassword": format!("wrong guess {number}"), "newPassword": "another fine one" });
        async move { app.post("/api/auth/change-password", token, body).await }
    }))
    .await;
    let wrong = guesses.iter().filter(|guess| matches!(guess, Err(AccountsError::Validation(_)))).count();
    let locked = guesses.iter().filter(|guess| matches!(guess, Err(AccountsError::Locked { .. }))).count();
    assert_eq!((wrong, locked), (5, 7), "{guesses:?}");
}

#[tokio::test]
async fn no_session_that_begins_with_the_old_password_outlives_its_change() {
    let Some(app) = App::on(database().await).await else { return };
    let ada = app.register("Ada").await;
    let change = json!({ "currentPassword": PASSWORD, "newPassword": "another fine one" });
    let sign_ins = join_all((0..8).map(|_| app.login(&ada.email, PASSWORD)));
    let change = app.post("/api/auth/change-password", &ada.token, change);
    let (sign_ins, changed) = tokio::join!(sign_ins, change);
    assert_eq!(changed.unwrap().0, 200);
    for sign_in in sign_ins {
        match sign_in {
            Ok((_, body)) => {
                let used = app.get("/api/auth/me", &text(&body, "/token")).await;
                assert!(matches!(used, Err(AccountsError::Unauthorized(_))), "{used:?}");
            }
            Err(AccountsError::Unauthorized(_) | AccountsError::Locked { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn two_super_admins_who_demote_each_other_at_once_do_not_both_succeed() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    let (of_grace, token) = app.add(&ada, &grace, "Super Admin").await;
    let path = format!("/api/organizations/{}/memberships", ada.organization_id);
    let (_, members) = app.get(&format!("{path}?sortBy=email"), &ada.token).await.unwrap();
    let (of_ada, of_grace) = (format!("{path}/{}", text(&members, "/items/0/id")), format!("{path}/{of_grace}"));
    let viewer = json!({ "roleId": app.role(&ada, "Viewer").await });
    let (left, right) = tokio::join!(app.put(&of_grace, &ada.token, viewer.clone()), app.put(&of_ada, &token, viewer));
    assert!(left.is_ok() != right.is_ok(), "{left:?} {right:?}");
}

#[tokio::test]
async fn of_many_who_join_at_once_no_more_than_the_limit_get_in() {
    let Some(app) = App::on(database().await).await else { return };
    let ada = app.register("Ada").await;
    let base = format!("/api/organizations/{}", ada.organization_id);
    app.put(&base, &ada.token, json!({ "memberLimit": 3 })).await.unwrap();
    let role_id = app.role(&ada, "Member").await;
    let mut invited = Vec::new();
    for name in ["Grace", "Joan", "Mary", "Jean", "Radia"] {
        let person = app.register(name).await;
        let body = json!({ "email": person.email, "roleId": role_id });
        let (_, invitation) = app.post(&format!("{base}/invitations"), &ada.token, body).await.unwrap();
        invited.push((person, text(&invitation, "/token")));
    }
    let accepted = join_all(invited.iter().map(|(person, token)| {
        let app = &app;
        async move { app.post(&format!("/api/invitations/{token}/accept"), &person.token, Json::Null).await }
    }))
    .await;
    assert_eq!(accepted.iter().filter(|answer| answer.is_ok()).count(), 2, "{accepted:?}");
    assert!(accepted.iter().all(|answer| matches!(answer, Ok(_) | Err(AccountsError::Conflict(_)))), "{accepted:?}");
    let (_, count) = app.get(&format!("{base}/member-count"), &ada.token).await.unwrap();
    assert_eq!(count["count"], 3);
}

#[tokio::test]
async fn an_invitation_that_is_accepted_twice_at_once_counts_once() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    let path = format!("/api/organizations/{}/invitations", ada.organization_id);
    let body = json!({ "email": grace.email, "roleId": app.role(&ada, "Member").await });
    let token = text(&app.post(&path, &ada.token, body).await.unwrap().1, "/token");
    let accept = format!("/api/invitations/{token}/accept");
    let (left, right) =
        tokio::join!(app.post(&accept, &grace.token, Json::Null), app.post(&accept, &grace.token, Json::Null));
    assert!(left.is_ok() != right.is_ok(), "{left:?} {right:?}");
}

#[tokio::test]
async fn sign_ins_at_once_leave_ten_sessions() {
    let Some(app) = App::on(database().await).await else { return };
    let ada = app.register("Ada").await;
    let answers = join_all((0..14).map(|_| app.login(&ada.email, PASSWORD))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let sql = "SELECT id FROM sessions WHERE revoked_at IS NULL";
    assert_eq!(app.accounts.database.query(sql, &[]).await.unwrap().len(), 10);
}

#[tokio::test]
async fn the_last_access_is_written_at_most_every_five_minutes() {
    let Some(app) = App::on(database().await).await else { return };
    let ada = app.register("Ada").await;
    let noted = async || {
        let sql = "SELECT last_access_at FROM organization_memberships";
        let row = app.accounts.database.query_one(sql, &[]).await.unwrap().unwrap();
        row.optional_timestamp("last_access_at").unwrap()
    };
    let use_token = async |token: &str| {
        // As a new host would: what it remembers of the token is gone.
        app.accounts.identities.touch(&ada.id);
        app.accounts.authenticate(token, None).await.unwrap();
        // All places for notes are free again when none is being written.
        let all = u32::try_from(identity::ACCESS_NOTES_AT_ONCE_MAX).unwrap();
        drop(app.accounts.access_notes.acquire_many(all).await.unwrap());
    };
    use_token(&ada.token).await;
    let first = noted().await.expect("the first use is noted");
    app.move_clock(chrono::Duration::minutes(4));
    use_token(&ada.token).await;
    assert_eq!(noted().await, Some(first));
    app.move_clock(chrono::Duration::minutes(1));
    use_token(&ada.token).await;
    assert!(noted().await.unwrap() > first);
}

#[tokio::test]
async fn no_session_that_begins_beside_a_deactivation_outlives_it() {
    let Some(app) = App::on(database().await).await else { return };
    app.register("Ada").await;
    let grace = app.register("Grace").await;
    for round in 0..5 {
        let logins = (0..4).map(|_| app.login(&grace.email, PASSWORD));
        let path = format!("/api/users/{}/deactivate", grace.id);
        let (entered, ended) =
            futures_util::join!(futures_util::future::join_all(logins), app.post(&path, OPERATOR, Json::Null));
        ended.unwrap();
        app.post(&format!("/api/users/{}/reactivate", grace.id), OPERATOR, Json::Null).await.unwrap();
        for answer in entered.into_iter().flatten() {
            let token = text(&answer.1, "/token");
            assert!(app.get("/api/auth/me", &token).await.is_err(), "round {round}");
        }
    }
}
