//! API keys, and the keys that sign tokens.

use super::*;

/// Makes a key. Returns its id and its secret.
async fn key(app: &App, token: &str, permissions: Json) -> (String, String) {
    let body = json!({ "name": "CI", "permissions": permissions });
    let (status, key) = app.post("/api/users/me/api-keys", token, body).await.unwrap();
    assert_eq!(status, 201);
    (text(&key, "/id"), text(&key, "/key"))
}

#[tokio::test]
async fn an_api_key_works_for_its_maker_within_its_scope_and_is_shown_once() {
    let Some(app) = App::on(database().await).await else { return };
    let ada = app.register("Ada").await;
    let (id, secret) = key(&app, &ada.token, json!(["teams.*", "users.user.read"])).await;
    assert!(secret.starts_with("berth_"));
    let principal = app.accounts.authenticate(&secret, None).await.unwrap();
    assert_eq!(principal.kind, PrincipalKind::ApiKey);
    assert_eq!(principal.user_id.as_deref(), Some(ada.id.as_str()));
    assert_eq!(principal.organization_id.as_deref(), Some(ada.organization_id.as_str()));
    assert!(!principal.is_super_admin && !principal.is_platform, "not even for the first Super Admin of all");
    assert!(principal.has_permission("teams.team.delete") && !principal.has_permission("planning.plans.read"));
    assert_eq!(app.post("/api/teams", &secret, json!({ "name": "Robots" })).await.unwrap().0, 201);
    assert_eq!(app.get("/api/users", &secret).await.unwrap().0, 200);
    assert!(matches!(app.get("/api/audit", &secret).await, Err(AccountsError::Forbidden(_))));
    let (_, me) = app.get("/api/auth/me", &secret).await.unwrap();
    assert_eq!((&me["apiKeyId"], &me["permissions"]), (&json!(id), &json!(["teams.*", "users.user.read"])));

    let (_, keys) = app.get("/api/users/me/api-keys", &ada.token).await.unwrap();
    assert_eq!(keys["total"], 1);
    assert!(keys["items"][0].get("key").is_none() && !keys.to_string().contains(&secret));
    let stored = app.accounts.database.query("SELECT secret_hash, hint FROM berth_api_keys", &[]).await.unwrap();
    let row = stored.iter().next().unwrap();
    assert!(row.text("secret_hash").unwrap() != secret && secret.starts_with(&row.text("hint").unwrap()));
    let (_, rows) = app.get("/api/audit?action=team.created", &ada.token).await.unwrap();
    assert_eq!(rows["items"][0]["metadata"]["apiKeyId"], json!(id), "what a key did is told apart");
    for bad in ["berth_", "berth_nothing", &secret[..secret.len() - 1], &format!("{secret}x")] {
        assert!(app.accounts.authenticate(bad, None).await.is_err(), "{bad}");
    }
}

#[tokio::test]
async fn an_api_key_is_not_its_maker() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    app.add(&grace, &ada, "Super Admin").await;
    let (_, secret) = key(&app, &ada.token, json!(["*"])).await;
    let own = format!("/api/organizations/{}", ada.organization_id);
    for (method, path) in [
        ("GET", "/api/users/me/api-keys".to_owned()),
        ("POST", "/api/users/me/api-keys".to_owned()),
        ("GET", "/api/users/me/sessions".to_owned()),
        ("PUT", "/api/users/me".to_owned()),
        ("POST", "/api/auth/change-password".to_owned()),
        ("POST", "/api/auth/switch-organization".to_owned()),
        ("POST", "/api/auth/link-google".to_owned()),
        ("GET", "/api/organizations".to_owned()),
        ("POST", "/api/organizations".to_owned()),
        ("POST", format!("/api/users/{}/deactivate", grace.id)),
        ("DELETE", own.clone()),
        ("POST", format!("{own}/roles")),
    ] {
        let answer = app.call(method, &path, &secret, json!({})).await;
        assert!(matches!(answer, Err(AccountsError::Forbidden(_))), "{method} {path}: {answer:?}");
    }
    assert_eq!(app.get(&own, &secret).await.unwrap().0, 200);
    // Ada may there, the key does not know of it.
    let other = app.get(&format!("/api/organizations/{}", grace.organization_id), &secret).await;
    assert!(matches!(other, Err(AccountsError::NotFound(_))), "{other:?}");
}

#[tokio::test]
async fn a_session_that_has_ended_meanwhile_makes_no_key() {
    let Some(app) = App::on(database().await).await else { return };
    let ada = app.register("Ada").await;
    let principal = app.accounts.authenticate(&ada.token, None).await.unwrap();
    app.post("/api/auth/logout", &ada.token, Json::Null).await.unwrap();
    let caller = Caller { principal, request_id: "request-1".into(), ip: None, user_agent: None };
    let body = Bytes::from(json!({ "name": "CI", "permissions": ["*"] }).to_string());
    let request = http::Request::post("/api/users/me/api-keys").body(body).unwrap();
    let refused = app.accounts.handle(&caller, request).await;
    assert!(matches!(refused, Err(AccountsError::Unauthorized(_))));
}

#[tokio::test]
async fn an_api_key_gives_nobody_a_role_beyond_its_scope() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    let path = format!("/api/organizations/{}/memberships", ada.organization_id);
    let add = json!({ "userId": grace.id, "roleId": app.role(&ada, "Admin").await });
    let (_, narrow) = key(&app, &ada.token, json!(["organizations.member.manage"])).await;
    let refused = app.post(&path, &narrow, add.clone()).await;
    assert!(matches!(refused, Err(AccountsError::Forbidden(_))), "{refused:?}");
    let (_, wide) = key(&app, &ada.token, json!(["*"])).await;
    assert_eq!(app.post(&path, &wide, add).await.unwrap().0, 201);
}

#[tokio::test]
async fn what_a_key_is_refused_elsewhere_stands_in_no_other_organizations_audit_log() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    let (_, secret) = key(&app, &grace.token, json!(["*"])).await;
    let path = format!("/api/organizations/{}/memberships/nobody", ada.organization_id);
    assert!(matches!(app.delete(&path, &secret).await, Err(AccountsError::Forbidden(_))));
    app.accounts.close().await;
    for (token, count) in [(&ada.token, 0), (&grace.token, 1)] {
        let (_, rows) = app.get("/api/audit?action=request.denied", token).await.unwrap();
        assert_eq!(rows["total"], count, "{rows}");
    }
}

#[tokio::test]
async fn an_api_key_allows_no_more_than_its_maker_may_at_the_moment() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    let (membership, token) = app.add(&ada, &grace, "Member").await;
    let wanted = json!({ "name": "x", "permissions": ["teams.team.delete"] });
    let refused = app.post("/api/users/me/api-keys", &token, wanted).await;
    assert!(matches!(refused, Err(AccountsError::Forbidden(_))));
    let (_, secret) = key(&app, &token, json!(["*"])).await;
    assert_eq!(app.post("/api/teams", &secret, json!({ "name": "Compilers" })).await.unwrap().0, 201);
    let path = format!("/api/organizations/{}/memberships/{membership}", ada.organization_id);
    let viewer = app.role(&ada, "Viewer").await;
    app.put(&path, &ada.token, json!({ "roleId": viewer })).await.unwrap();
    let refused = app.post("/api/teams", &secret, json!({ "name": "Linkers" })).await;
    assert!(matches!(refused, Err(AccountsError::Forbidden(_))));
    assert_eq!(app.get("/api/teams", &secret).await.unwrap().0, 200);
    app.delete(&path, &ada.token).await.unwrap();
    assert!(matches!(app.get("/api/teams", &secret).await, Err(AccountsError::Unauthorized(_))));
}

#[tokio::test]
async fn an_api_key_ends_when_it_was_said_or_is_ended() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    let (_, token) = app.add(&ada, &grace, "Member").await;
    let (first, secret) = key(&app, &token, json!(["*.*.read"])).await;
    assert_eq!(app.get("/api/teams", &secret).await.unwrap().0, 200);
    let refused = app.post("/api/teams", &secret, json!({ "name": "x" })).await;
    assert!(matches!(refused, Err(AccountsError::Forbidden(_))), "it may only read");
    let own = |id: &str| format!("/api/users/me/api-keys/{id}");
    let of_all = format!("/api/organizations/{}/api-keys", ada.organization_id);
    assert!(matches!(app.delete(&own(&first), &ada.token).await, Err(AccountsError::NotFound(_))), "not hers");
    assert!(matches!(app.get(&of_all, &token).await, Err(AccountsError::Forbidden(_))), "a Member sees only the own");
    let (_, all) = app.get(&of_all, &ada.token).await.unwrap();
    assert_eq!((&all["total"], &all["items"][0]["user"]["email"]), (&json!(1), &json!(grace.email)));
    assert_eq!(app.delete(&own(&first), &token).await.unwrap().0, 204);
    assert!(matches!(app.get("/api/teams", &secret).await, Err(AccountsError::Unauthorized(_))), "at once");
    assert!(matches!(app.delete(&own(&first), &token).await, Err(AccountsError::NotFound(_))));

    // An ended key never comes back: the database is not asked about it again.
    app.accounts.database.execute("UPDATE berth_api_keys SET revoked_at = NULL", &[]).await.unwrap();
    assert!(matches!(app.get("/api/teams", &secret).await, Err(AccountsError::Unauthorized(_))));

    let (second, secret) = key(&app, &token, json!(["*"])).await;
    assert_eq!(app.get("/api/teams", &secret).await.unwrap().0, 200);
    assert_eq!(app.delete(&format!("{of_all}/{second}"), &ada.token).await.unwrap().0, 204);
    assert!(matches!(app.get("/api/teams", &secret).await, Err(AccountsError::Unauthorized(_))));

    let (_, secret) = key(&app, &ada.token, json!(["*"])).await;
    app.move_clock(chrono::Duration::days(89));
    assert_eq!(app.get("/api/teams", &secret).await.unwrap().0, 200);
    app.move_clock(chrono::Duration::days(1));
    assert!(matches!(app.get("/api/teams", &secret).await, Err(AccountsError::Unauthorized(_))));
    app.move_clock(chrono::Duration::days(100));
    app.accounts.sweep().await.unwrap();
    assert_eq!(app.accounts.database.query("SELECT id FROM berth_api_keys", &[]).await.unwrap().len(), 0);
}

#[tokio::test]
async fn an_address_has_only_so_many_made_up_keys_looked_for() {
    let Some(app) = App::with(database().await, App::options(), false).await else { return };
    let ada = app.register("Ada").await;
    let (_, known) = key(&app, &ada.token, json!(["*"])).await;
    let (_, fresh) = key(&app, &ada.token, json!(["*"])).await;
    let (here, neighbour) = (Some("2001:db8::1".parse().unwrap()), Some("2001:db8::2".parse().unwrap()));
    let elsewhere = Some("192.0.2.8".parse().unwrap());
    assert!(app.accounts.authenticate(&known, here).await.is_ok());
    for _ in 0..250 {
        let old = app.accounts.authenticate("berth_that_was_replaced", here).await;
        assert!(matches!(old, Err(AuthenticationError::Invalid)), "the same one again is no guess");
    }
    // A window may end between two guesses; then the next hundred lie in one.
    let mut refusal = None;
    for number in 0..250 {
        refusal = app.accounts.authenticate(&format!("berth_{number}"), here).await.err();
        if !matches!(refusal, Some(AuthenticationError::Invalid)) {
            assert!(number >= 90, "refused after {number}");
            break;
        }
    }
    let is_refused = |refusal: Option<AuthenticationError>| {
        matches!(refusal, Some(AuthenticationError::TooManyGuesses { retry_after_seconds: 1..=900 }))
    };
    assert!(is_refused(refusal));
    assert!(is_refused(app.accounts.authenticate(&fresh, neighbour).await.err()), "not even a good one is looked for");
    assert!(app.accounts.authenticate(&known, here).await.is_ok(), "what is known needs no looking for");
    assert!(app.accounts.authenticate(&ada.token, here).await.is_ok(), "a token is judged by its signature");
    assert!(app.accounts.authenticate("berth_0", elsewhere).await.is_err());
    assert!(app.accounts.authenticate(&fresh, elsewhere).await.is_ok());
    app.move_clock(chrono::Duration::minutes(15));
    let (_, later) = key(&app, &text(&app.login(&ada.email, PASSWORD).await.unwrap().1, "/token"), json!(["*"])).await;
    assert!(app.accounts.authenticate(&later, here).await.is_ok());
}

#[tokio::test]
async fn what_is_wrong_with_a_wanted_key_is_named() {
    let Some(app) = App::on(database().await).await else { return };
    let ada = app.register("Ada").await;
    let path = "/api/users/me/api-keys";
    for (body, fields) in [
        (json!({}), vec!["name", "permissions"]),
        (json!({ "name": "x", "permissions": [] }), vec!["permissions"]),
        (
            json!({ "name": "x", "permissions": ["teams", 7, "*.*.*"] }),
            vec!["permissions[0]", "permissions[1]", "permissions[2]"],
        ),
        (json!({ "name": "x", "permissions": ["*"], "expiresInDays": 367 }), vec!["expiresInDays"]),
        (json!({ "name": "x", "permissions": ["*"], "expiresAt": "2000-01-01T00:00:00Z" }), vec!["expiresAt"]),
    ] {
        assert_eq!(faults(app.post(path, &ada.token, body.clone()).await), fields, "{body}");
    }
    assert!(matches!(app.post(path, "", json!({})).await, Err(AccountsError::Unauthorized(_))));
    assert!(matches!(app.post(path, OPERATOR, json!({})).await, Err(AccountsError::Forbidden(_))));
}

#[tokio::test]
async fn a_fresh_signing_key_is_announced_before_it_signs_and_follows_by_itself() {
    let Some(app) = App::on(database().await).await else { return };
    let ada = app.register("Ada").await;
    let keys = || app.accounts.key_set()["keys"].as_array().unwrap().len();
    let current = || app.accounts.keyring.load().current().to_owned();
    let first = current();
    app.accounts.keep_signing_keys().await.unwrap();
    assert_eq!((keys(), current()), (1, first.clone()), "not yet");
    app.move_clock(chrono::Duration::days(30) - chrono::Duration::minutes(9));
    app.accounts.keep_signing_keys().await.unwrap();
    assert_eq!((keys(), current()), (2, first.clone()), "announced, and the old one signs");
    let old = text(&app.login(&ada.email, PASSWORD).await.unwrap().1, "/token");
    app.move_clock(chrono::Duration::minutes(10));
    app.accounts.keep_signing_keys().await.unwrap();
    assert_eq!(keys(), 2, "no key is made before its time");
    assert_ne!(current(), first);
    app.accounts.identities.forget_tokens();
    assert!(app.accounts.authenticate(&old, None).await.is_ok(), "signed by the one before");
    let new = text(&app.login(&ada.email, PASSWORD).await.unwrap().1, "/token");
    assert!(app.accounts.authenticate(&new, None).await.is_ok());
    for key in app.accounts.key_set()["keys"].as_array().unwrap() {
        assert_eq!((&key["kty"], &key["alg"], &key["use"]), (&json!("OKP"), &json!("EdDSA"), &json!("sig")));
        assert!(key.get("d").is_none(), "a private half was published");
    }
}

#[tokio::test]
async fn only_the_platform_rotates_and_may_end_what_was_signed_before() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    let path = "/api/admin/signing-keys/rotate";
    assert!(matches!(app.post(path, &grace.token, Json::Null).await, Err(AccountsError::Forbidden(_))));
    assert!(matches!(app.get("/api/admin/signing-keys", "").await, Err(AccountsError::Unauthorized(_))));
    let (status, keys) = app.post(path, OPERATOR, Json::Null).await.unwrap();
    assert_eq!((status, keys["items"].as_array().unwrap().len()), (201, 2));
    assert_eq!((&keys["items"][0]["isCurrent"], &keys["items"][1]["isCurrent"]), (&json!(true), &json!(false)));
    assert_eq!(app.get("/api/auth/me", &ada.token).await.unwrap().0, 200);
    app.post(path, &ada.token, json!({ "endEarlier": true })).await.unwrap();
    assert!(matches!(app.get("/api/auth/me", &ada.token).await, Err(AccountsError::Unauthorized(_))), "at once");
    let refresh = json!({ "refreshToken": ada.refresh_token });
    let (_, refreshed) = app.post("/api/auth/refresh", "", refresh).await.unwrap();
    assert_eq!(app.get("/api/auth/me", &text(&refreshed, "/token")).await.unwrap().0, 200, "sessions live on");
}

#[tokio::test]
async fn an_api_key_ends_with_the_membership_it_was_made_in_and_does_not_come_back() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    let (membership, in_adas) = app.add(&ada, &grace, "Member").await;
    let (_, lost) = key(&app, &in_adas, json!(["*"])).await;
    let (_, kept) = key(&app, &grace.token, json!(["*"])).await;
    let path = format!("/api/organizations/{}/memberships/{membership}", ada.organization_id);
    assert_eq!(app.delete(&path, &ada.token).await.unwrap().0, 204);
    let (again, _) = app.add(&ada, &grace, "Member").await;
    assert_eq!(again, membership, "the membership is revived");
    assert!(app.accounts.authenticate(&lost, None).await.is_err());
    assert!(app.accounts.authenticate(&kept, None).await.is_ok(), "one of another organization");
    let keys = format!("/api/organizations/{}/api-keys", ada.organization_id);
    assert_eq!(app.get(&keys, &ada.token).await.unwrap().1["items"], json!([]));
}
