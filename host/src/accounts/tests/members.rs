//! Organizations, members, roles, invitations, teams.

use super::*;

#[tokio::test]
async fn another_organization_does_not_exist() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    let base = format!("/api/organizations/{}", ada.organization_id);
    let role = app.role(&ada, "Member").await;
    for (method, path) in [
        ("GET", base.clone()),
        ("PUT", base.clone()),
        ("DELETE", base.clone()),
        ("GET", format!("{base}/memberships")),
        ("GET", format!("{base}/settings")),
        ("GET", format!("{base}/roles/{role}")),
        ("GET", format!("/api/users/{}", ada.id)),
        ("GET", "/api/organizations/nowhere".to_owned()),
    ] {
        let answer = app.call(method, &path, &grace.token, json!({})).await;
        assert!(matches!(answer, Err(AccountsError::NotFound(_))), "{method} {path}: {answer:?}");
    }
    // A role of one organization is none in another.
    let path = format!("/api/organizations/{}/memberships", grace.organization_id);
    assert_eq!(faults(app.post(&path, &grace.token, json!({ "userId": ada.id, "roleId": role })).await), ["roleId"]);
    let (_, users) = app.get("/api/users", &grace.token).await.unwrap();
    assert_eq!(users["total"], 1);
}

#[tokio::test]
async fn the_last_super_admin_stays() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    let path = format!("/api/organizations/{}/memberships", ada.organization_id);
    let (_, members) = app.get(&path, &ada.token).await.unwrap();
    let own = format!("{path}/{}", text(&members, "/items/0/id"));
    let viewer = app.role(&ada, "Viewer").await;
    for body in [json!({ "roleId": viewer }), json!({ "status": "suspended" }), json!({ "status": "deactivated" })] {
        assert!(matches!(app.put(&own, &ada.token, body).await, Err(AccountsError::Conflict(_))));
    }
    assert!(matches!(app.delete(&own, &ada.token).await, Err(AccountsError::Conflict(_))));
    let answer = app.post("/api/users/me/deactivate", &ada.token, Json::Null).await;
    assert!(matches!(answer, Err(AccountsError::Conflict(_))));
    // With a second one the first may go.
    app.add(&ada, &grace, "Super Admin").await;
    assert_eq!(app.put(&own, &ada.token, json!({ "roleId": viewer })).await.unwrap().1["roleName"], "Viewer");
}

#[tokio::test]
async fn nobody_gives_or_takes_a_right_they_do_not_hold() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace, joan) = (app.register("Ada").await, app.register("Grace").await, app.register("Joan").await);
    let (_, admin) = app.add(&ada, &grace, "Admin").await;
    let path = format!("/api/organizations/{}/memberships", ada.organization_id);
    let super_admin = app.role(&ada, "Super Admin").await;
    let add = json!({ "userId": joan.id, "roleId": super_admin });
    assert!(matches!(app.post(&path, &admin, add).await, Err(AccountsError::Forbidden(_))));
    let (_, members) = app.get(&format!("{path}?sortBy=email"), &admin).await.unwrap();
    let of_ada = format!("{path}/{}", text(&members, "/items/0/id"));
    let viewer = app.role(&ada, "Viewer").await;
    assert!(matches!(app.put(&of_ada, &admin, json!({ "roleId": viewer })).await, Err(AccountsError::Forbidden(_))));
    assert!(matches!(app.delete(&of_ada, &admin).await, Err(AccountsError::Forbidden(_))));
    // A custom role that allows more than an Admin holds is not an Admin's to give.
    let roles = format!("/api/organizations/{}/roles", ada.organization_id);
    let body = json!({ "name": "Everything", "permissions": ["*"] });
    assert!(matches!(app.post(&roles, &admin, body.clone()).await, Err(AccountsError::Forbidden(_))));
    let (_, role) = app.post(&roles, &ada.token, body).await.unwrap();
    let add = json!({ "userId": joan.id, "roleId": role["id"] });
    assert!(matches!(app.post(&path, &admin, add).await, Err(AccountsError::Forbidden(_))));
    let add = json!({ "userId": joan.id, "roleId": viewer });
    assert_eq!(app.post(&path, &admin, add).await.unwrap().0, 201);
}

#[tokio::test]
async fn who_may_manage_members_makes_nobody_an_admin_without_being_one() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace, joan) = (app.register("Ada").await, app.register("Grace").await, app.register("Joan").await);
    let base = format!("/api/organizations/{}", ada.organization_id);
    let codes = ["organizations.member.manage", "organizations.invitation.manage", "users.*"];
    let body = json!({ "name": "Receptionist", "permissions": codes });
    app.post(&format!("{base}/roles"), &ada.token, body).await.unwrap();
    let body = json!({ "name": "Guest", "permissions": ["users.user.read"] });
    let (_, guest) = app.post(&format!("{base}/roles"), &ada.token, body).await.unwrap();
    let (membership, receptionist) = app.add(&ada, &grace, "Receptionist").await;
    let (memberships, invitations) = (format!("{base}/memberships"), format!("{base}/invitations"));
    for role in ["Admin", "Member", "Viewer"] {
        let role_id = app.role(&ada, role).await;
        let add = json!({ "userId": joan.id, "roleId": role_id });
        let own = format!("{memberships}/{membership}");
        for answer in [
            app.post(&memberships, &receptionist, add).await,
            app.put(&own, &receptionist, json!({ "roleId": role_id })).await,
            app.post(&invitations, &receptionist, json!({ "email": "mary@example.com", "roleId": role_id })).await,
        ] {
            assert!(matches!(answer, Err(AccountsError::Forbidden(_))), "{role}: {answer:?}");
        }
    }
    let add = json!({ "userId": joan.id, "roleId": guest["id"] });
    let (status, of_joan) = app.post(&memberships, &receptionist, add).await.unwrap();
    assert_eq!(status, 201);
    // Whom somebody else has shut out stays so, with a role that is not theirs to give.
    let path = format!("{memberships}/{}", text(&of_joan, "/id"));
    let admin = json!({ "roleId": app.role(&ada, "Admin").await, "status": "suspended" });
    app.put(&path, &ada.token, admin).await.unwrap();
    let back = app.put(&path, &receptionist, json!({ "status": "active" })).await;
    assert!(matches!(back, Err(AccountsError::Forbidden(_))), "{back:?}");
    assert_eq!(app.put(&path, &ada.token, json!({ "status": "active" })).await.unwrap().1["status"], "active");
}

#[tokio::test]
async fn who_may_manage_members_takes_no_right_they_do_not_hold() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace, joan) = (app.register("Ada").await, app.register("Grace").await, app.register("Joan").await);
    let base = format!("/api/organizations/{}", ada.organization_id);
    let body = json!({ "name": "Receptionist", "permissions": ["organizations.member.manage", "users.*"] });
    app.post(&format!("{base}/roles"), &ada.token, body).await.unwrap();
    let (own, receptionist) = app.add(&ada, &grace, "Receptionist").await;
    let (of_joan, _) = app.add(&ada, &joan, "Admin").await;
    let (own, of_joan) = (format!("{base}/memberships/{own}"), format!("{base}/memberships/{of_joan}"));
    let same = json!({ "roleId": app.role(&ada, "Receptionist").await });
    let suspended = json!({ "status": "suspended" });
    for answer in [
        app.put(&of_joan, &receptionist, same.clone()).await,
        app.put(&of_joan, &receptionist, suspended.clone()).await,
        app.delete(&of_joan, &receptionist).await,
    ] {
        assert!(matches!(answer, Err(AccountsError::Forbidden(_))), "{answer:?}");
    }
    app.put(&of_joan, &ada.token, same).await.unwrap();
    let (_, joan) = app.put(&of_joan, &receptionist, suspended).await.unwrap();
    assert_eq!(joan["status"], "suspended", "somebody with no more rights");
    assert_eq!(app.delete(&of_joan, &receptionist).await.unwrap().0, 204);
    assert_eq!(app.delete(&own, &receptionist).await.unwrap().0, 204);
}

#[tokio::test]
async fn a_membership_that_ends_takes_open_invitations_to_its_address_along() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    let base = format!("/api/organizations/{}", ada.organization_id);
    let role_id = app.role(&ada, "Admin").await;
    let mut tokens = Vec::new();
    for email in [grace.email.as_str(), "joan@example.com"] {
        let body = json!({ "email": email, "roleId": role_id });
        tokens.push(text(&app.post(&format!("{base}/invitations"), &ada.token, body).await.unwrap().1, "/token"));
    }
    let (membership, _) = app.add(&ada, &grace, "Member").await;
    assert_eq!(app.delete(&format!("{base}/memberships/{membership}"), &ada.token).await.unwrap().0, 204);
    let back = app.post(&format!("/api/invitations/{}/accept", tokens[0]), &grace.token, Json::Null).await;
    assert!(matches!(back, Err(AccountsError::Gone(_))), "{back:?}");
    assert!(app.events().await.iter().any(|event| event == "invitation.revoked"));
    let (status, _) = app.get(&format!("/api/invitations/{}", tokens[1]), "").await.unwrap();
    assert_eq!(status, 200, "somebody else's stays open");
}

#[tokio::test]
async fn who_sends_an_invitation_again_may_give_its_role() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    let (_, admin) = app.add(&ada, &grace, "Admin").await;
    let path = format!("/api/organizations/{}/invitations", ada.organization_id);
    let mut answers = Vec::new();
    for role in ["Member", "Super Admin"] {
        let body = json!({ "email": "joan@example.com", "roleId": app.role(&ada, role).await });
        let (_, invitation) = app.post(&path, &ada.token, body).await.unwrap();
        let resend = format!("{path}/{}/resend", text(&invitation, "/id"));
        answers.push(app.post(&resend, &admin, Json::Null).await);
    }
    // Without a mail server the answer holds the secret.
    let [Ok((200, sent)), Err(AccountsError::Forbidden(_))] = answers.as_slice() else { panic!("{answers:?}") };
    assert!(sent.get("token").is_some());
}

#[tokio::test]
async fn members_join_once_up_to_the_limit_and_may_leave() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace, joan) = (app.register("Ada").await, app.register("Grace").await, app.register("Joan").await);
    let base = format!("/api/organizations/{}", ada.organization_id);
    let path = format!("{base}/memberships");
    app.put(&base, &ada.token, json!({ "memberLimit": 2.0 })).await.unwrap();
    assert_eq!(faults(app.put(&base, &ada.token, json!({ "memberLimit": 2.5 })).await), ["memberLimit"]);
    let (membership, token) = app.add(&ada, &grace, "Member").await;
    let role_id = app.role(&ada, "Member").await;
    let again = app.post(&path, &ada.token, json!({ "email": grace.email, "roleId": role_id })).await;
    assert!(matches!(again, Err(AccountsError::Conflict(_))));
    let third = app.post(&path, &ada.token, json!({ "userId": joan.id, "roleId": role_id })).await;
    assert!(matches!(third, Err(AccountsError::Conflict(_))));
    let (_, count) = app.get(&format!("{base}/member-count"), &token).await.unwrap();
    assert_eq!(count, json!({ "count": 2, "limit": 2 }));
    assert_eq!(app.delete(&format!("{path}/{membership}"), &token).await.unwrap().0, 204);
    let back = app.post(&path, &ada.token, json!({ "userId": grace.id, "roleId": role_id })).await.unwrap();
    assert_eq!((back.0, back.1["status"].as_str()), (201, Some("active")));
    assert!(app.events().await.iter().any(|event| event == "organization.member_removed"));
}

#[tokio::test]
async fn organizations_are_merged_tagged_and_locked_optimistically() {
    let Some(app) = App::on(database().await).await else { return };
    let ada = app.register("Ada").await;
    let body = json!({ "name": "Analytical <Engines>", "slug": "engines", "description": "" });
    let reply = app.send("POST", "/api/organizations", &ada.token, body, &[]).await.unwrap();
    assert_eq!(reply.headers["etag"], "\"1\"");
    let made = reply.body.unwrap();
    assert_eq!(made["name"], "Analytical Engines");
    let path = format!("/api/organizations/{}", text(&made, "/id"));
    let stale = app.send("PUT", &path, &ada.token, json!({ "name": "X" }), &[("if-match", "\"7\"")]).await;
    assert!(matches!(stale, Err(AccountsError::PreconditionFailed)));
    let reply = app.send("PUT", &path, &ada.token, json!({ "name": "Y" }), &[("if-match", "\"1\"")]).await.unwrap();
    assert_eq!(reply.headers["etag"], "\"2\"");
    let body = reply.body.unwrap();
    assert_eq!((body["name"].as_str(), body["slug"].as_str()), (Some("Y"), Some("engines")));
    let taken = app.post("/api/organizations", &ada.token, json!({ "name": "Z", "slug": "engines" })).await;
    assert!(matches!(taken, Err(AccountsError::Conflict(_))));
    for slug in ["Bad", "-a-b", "a--b", "ab"] {
        let answer = app.post("/api/organizations", &ada.token, json!({ "name": "Z", "slug": slug })).await;
        assert_eq!(faults(answer), ["slug"], "{slug}");
    }
    let (_, list) = app.get("/api/organizations?sortBy=name&search=y", &ada.token).await.unwrap();
    assert_eq!(list["total"], 1);
    app.put(&format!("{path}/settings"), &ada.token, json!({ "theme": "dark", "zero": 0 })).await.unwrap();
    app.put(&format!("{path}/settings"), &ada.token, json!({ "theme": null, "more": [1] })).await.unwrap();
    let (_, settings) = app.get(&format!("{path}/settings"), &ada.token).await.unwrap();
    assert_eq!(settings, json!({ "zero": 0, "more": [1] }));
    assert_eq!(app.delete(&path, &ada.token).await.unwrap().0, 204);
    assert!(matches!(app.get(&path, &ada.token).await, Err(AccountsError::NotFound(_))));
    let own = format!("/api/organizations/{}", ada.organization_id);
    assert!(matches!(app.delete(&own, &ada.token).await, Err(AccountsError::Conflict(_))), "the operator's stays");
}

#[tokio::test]
async fn switching_needs_an_active_membership() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    let body = json!({ "organizationId": ada.organization_id });
    let refused = app.post("/api/auth/switch-organization", &grace.token, body.clone()).await;
    assert!(matches!(refused, Err(AccountsError::Forbidden(_))));
    let (_, token) = app.add(&ada, &grace, "Viewer").await;
    let (_, me) = app.get("/api/auth/me", &token).await.unwrap();
    assert_eq!(me["organization"]["id"], json!(ada.organization_id));
    let (_, mine) = app.get("/api/users/me/organizations", &token).await.unwrap();
    assert_eq!(mine["total"], 2);
    // The next refresh stays there.
    let refreshed = app.post("/api/auth/refresh", "", json!({ "refreshToken": grace.refresh_token })).await.unwrap().1;
    let (_, me) = app.get("/api/auth/me", &text(&refreshed, "/token")).await.unwrap();
    assert_eq!(me["organization"]["id"], json!(ada.organization_id));
}

#[tokio::test]
async fn custom_roles_allow_what_their_codes_say_and_system_roles_never_change() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    let roles = format!("/api/organizations/{}/roles", ada.organization_id);
    let body = json!({ "name": "Auditor", "permissions": ["audit.*", "teams.team.read", "audit.*"] });
    let (_, role) = app.post(&roles, &ada.token, body.clone()).await.unwrap();
    assert_eq!(role["permissions"], json!(["audit.*", "teams.team.read"]));
    assert!(matches!(app.post(&roles, &ada.token, body).await, Err(AccountsError::Conflict(_))));
    let bad = json!({ "name": "Bad", "permissions": ["teams", 7] });
    assert_eq!(faults(app.post(&roles, &ada.token, bad).await), ["permissions[0]", "permissions[1]"]);
    let (_, token) = app.add(&ada, &grace, "Auditor").await;
    assert_eq!(app.get("/api/audit", &token).await.unwrap().0, 200);
    assert!(matches!(app.get("/api/users", &token).await, Err(AccountsError::Forbidden(_))));
    let path = format!("{roles}/{}", text(&role, "/id"));
    app.put(&path, &ada.token, json!({ "permissions": ["users.user.read"] })).await.unwrap();
    assert_eq!(app.get("/api/users", &token).await.unwrap().0, 200);
    assert!(matches!(app.get("/api/audit", &token).await, Err(AccountsError::Forbidden(_))));
    assert!(matches!(app.delete(&path, &ada.token).await, Err(AccountsError::Conflict(_))), "still assigned");
    let system = format!("{roles}/{}", app.role(&ada, "Viewer").await);
    assert!(matches!(app.put(&system, &ada.token, json!({ "name": "X" })).await, Err(AccountsError::Forbidden(_))));
    assert!(matches!(app.delete(&system, &ada.token).await, Err(AccountsError::Forbidden(_))));
    let (_, catalogue) = app.get("/api/permissions?limit=200", &ada.token).await.unwrap();
    assert!(catalogue["items"].as_array().unwrap().iter().all(|item| item["code"] != "audit.*"));
}

#[tokio::test]
async fn a_denied_request_leaves_an_audit_row() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    let (_, token) = app.add(&ada, &grace, "Member").await;
    assert!(matches!(app.get("/api/audit", &token).await, Err(AccountsError::Forbidden(_))));
    let roles = format!("/api/organizations/{}/roles", ada.organization_id);
    let refused = app.post(&roles, &token, json!({ "name": "Mine" })).await;
    assert!(matches!(refused, Err(AccountsError::Forbidden(_))));
    app.accounts.close().await;
    let (_, rows) = app.get("/api/audit?action=request.denied", &ada.token).await.unwrap();
    let mut routes: Vec<String> =
        rows["items"].as_array().unwrap().iter().map(|row| text(row, "/metadata/route")).collect();
    routes.sort();
    assert_eq!(routes, ["/api/audit", "/api/organizations/{id}/roles"]);
    assert_eq!(rows["items"][0]["userId"], json!(grace.id));
}

#[tokio::test]
async fn an_invitation_is_for_one_address_once_and_for_a_week() {
    let Some(app) = App::on(database().await).await else { return };
    let ada = app.register("Ada").await;
    let path = format!("/api/organizations/{}/invitations", ada.organization_id);
    let role_id = app.role(&ada, "Member").await;
    let body = json!({ "email": "grace@example.com", "roleId": role_id });
    let old = text(&app.post(&path, &ada.token, body.clone()).await.unwrap().1, "/token");
    let (_, invitation) = app.post(&path, &ada.token, body.clone()).await.unwrap();
    let token = text(&invitation, "/token");
    assert!(matches!(app.get(&format!("/api/invitations/{old}"), "").await, Err(AccountsError::Gone(_))), "replaced");
    let (_, preview) = app.get(&format!("/api/invitations/{token}"), "").await.unwrap();
    assert_eq!(preview["roleName"], "Member");
    assert!(matches!(app.get("/api/invitations/unknown", "").await, Err(AccountsError::NotFound(_))));
    let other = json!({ "email": "joan@example.com", "password": PASSWORD, "name": "Joan", "invitationToken": token });
    assert!(matches!(app.post("/api/auth/register", "", other).await, Err(AccountsError::Forbidden(_))));
    let grace =
        json!({ "email": "grace@example.com", "password": PASSWORD, "name": "Grace", "invitationToken": token });
    let (_, registered) = app.post("/api/auth/register", "", grace).await.unwrap();
    assert_eq!(registered["organization"]["id"], json!(ada.organization_id));
    let again = app.post(&format!("/api/invitations/{token}/accept"), &text(&registered, "/token"), Json::Null).await;
    assert!(matches!(again, Err(AccountsError::Gone(_))));
    assert!(matches!(app.post(&path, &ada.token, body).await, Err(AccountsError::Conflict(_))), "a member already");

    let joan = app.register("Joan").await;
    let body = json!({ "email": joan.email, "roleId": role_id });
    let (_, invitation) = app.post(&path, &ada.token, body).await.unwrap();
    let resend = format!("{path}/{}/resend", text(&invitation, "/id"));
    let mut token = text(&invitation, "/token");
    for _ in 0..5 {
        token = text(&app.post(&resend, &ada.token, Json::Null).await.unwrap().1, "/token");
    }
    assert!(matches!(app.post(&resend, &ada.token, Json::Null).await, Err(AccountsError::RateLimited { .. })));
    let accept = format!("/api/invitations/{token}/accept");
    assert!(matches!(app.post(&accept, &ada.token, Json::Null).await, Err(AccountsError::Forbidden(_))));
    app.move_clock(chrono::Duration::days(8));
    assert!(matches!(app.get(&format!("/api/invitations/{token}"), "").await, Err(AccountsError::Gone(_))));
    app.accounts.sweep().await.unwrap();
    assert!(app.events().await.iter().any(|event| event == "invitation.expired"));
}

#[tokio::test]
async fn many_are_invited_with_an_answer_for_each() {
    let Some(app) = App::on(database().await).await else { return };
    let ada = app.register("Ada").await;
    let path = format!("/api/organizations/{}/invitations/bulk", ada.organization_id);
    let role_id = app.role(&ada, "Member").await;
    let items = json!([
        { "email": "a@example.com", "roleId": role_id },
        { "email": "nobody", "roleId": role_id },
        { "email": ada.email, "roleId": role_id },
    ]);
    let (_, body) = app.post(&path, &ada.token, json!({ "invitations": items })).await.unwrap();
    let codes: Vec<_> =
        body["results"].as_array().unwrap().iter().map(|r| r["code"].as_str().unwrap_or("created")).collect();
    assert_eq!(codes, ["created", "VALIDATION_ERROR", "CONFLICT"]);
    assert_eq!(faults(app.post(&path, &ada.token, json!({ "invitations": [] })).await), ["invitations"]);
}

#[tokio::test]
async fn teams_nest_without_circles_and_hold_members_of_the_organization() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace) = (app.register("Ada").await, app.register("Grace").await);
    let (_, top) = app.post("/api/teams", &ada.token, json!({ "name": "Top Team" })).await.unwrap();
    let below = json!({ "name": "Below", "parentTeamId": top["id"] });
    let (_, below) = app.post("/api/teams", &ada.token, below).await.unwrap();
    let path = format!("/api/teams/{}", text(&top, "/id"));
    let circle = app.put(&path, &ada.token, json!({ "parentTeamId": below["id"] })).await;
    assert!(matches!(circle, Err(AccountsError::Conflict(_))));
    assert!(matches!(app.get(&path, &grace.token).await, Err(AccountsError::NotFound(_))));
    let member = json!({ "userId": grace.id, "role": "maintainer" });
    assert_eq!(faults(app.post(&format!("{path}/members"), &ada.token, member.clone()).await), ["userId"]);
    app.add(&ada, &grace, "Member").await;
    let (_, members) = app.post(&format!("{path}/members"), &ada.token, member).await.unwrap();
    assert_eq!(members["members"][0]["role"], "maintainer");
    let (_, teams) = app.get(&format!("/api/users/{}/teams", grace.id), &ada.token).await.unwrap();
    assert_eq!((&teams["total"], &teams["items"][0]["id"]), (&json!(1), &top["id"]));
    let principal = app.accounts.principal_for_message(Some(&ada.organization_id), Some(&grace.id)).await.unwrap();
    assert_eq!(*principal.teams, [text(&top, "/id")]);
    assert_eq!(app.get("/api/users/me/teams", &ada.token).await.unwrap().1["total"], 0);
    let own = format!("{path}/members/{}", grace.id);
    assert_eq!(app.delete(&own, &ada.token).await.unwrap().0, 204);
    assert!(matches!(app.delete(&own, &ada.token).await, Err(AccountsError::NotFound(_))));
    assert_eq!(app.delete(&path, &ada.token).await.unwrap().0, 204);
    let (_, left) = app.get(&format!("/api/teams/{}", text(&below, "/id")), &ada.token).await.unwrap();
    assert_eq!(left["parentTeamId"], Json::Null);
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there_say_so() {
    let Some(app) = App::on(database().await).await else { return };
    let ada = app.register("Ada").await;
    assert!(matches!(app.get("/api/auth/nothing", &ada.token).await, Err(AccountsError::RouteNotFound)));
    let answer = app.delete("/api/organizations", &ada.token).await;
    let Err(AccountsError::MethodNotAllowed(allow)) = answer else { panic!("{answer:?}") };
    assert_eq!(allow, ["GET", "HEAD", "POST"]);
    assert!(matches!(app.get("/api/users", "").await, Err(AccountsError::Unauthorized(_))));
    assert_eq!(faults(app.get("/api/users/a%20b", &ada.token).await), ["id"]);
    assert_eq!(faults(app.get("/api/users?limit=500", &ada.token).await), ["limit"]);
}

#[tokio::test]
async fn a_deleted_user_takes_up_no_seat_and_keeps_no_role() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace, joan) = (app.register("Ada").await, app.register("Grace").await, app.register("Joan").await);
    let base = format!("/api/organizations/{}", ada.organization_id);
    let body = json!({ "name": "Guest", "permissions": ["users.user.read"] });
    let role = text(&app.post(&format!("{base}/roles"), &ada.token, body).await.unwrap().1, "/id");
    let (_, team) = app.post("/api/teams", &ada.token, json!({ "name": "Divers" })).await.unwrap();
    let (_, in_adas) = app.add(&ada, &grace, "Guest").await;
    let members = format!("/api/teams/{}/members", text(&team, "/id"));
    app.post(&members, &ada.token, json!({ "userId": grace.id })).await.unwrap();
    let sql = "UPDATE organizations SET member_limit = 2 WHERE id = $1";
    app.accounts.database.execute(sql, &values![&ada.organization_id]).await.unwrap();
    let body = json!({ "name": "CI", "permissions": ["*"] });
    let key = text(&app.post("/api/users/me/api-keys", &in_adas, body).await.unwrap().1, "/key");
    assert_eq!(app.delete(&format!("/api/users/{}", grace.id), OPERATOR).await.unwrap().0, 204);
    assert!(app.accounts.authenticate(&key, None).await.is_err());
    assert_eq!(app.get(&format!("/api/teams/{}", text(&team, "/id")), &ada.token).await.unwrap().1["memberCount"], 0);
    assert_eq!(app.delete(&format!("{base}/roles/{role}"), &ada.token).await.unwrap().0, 204);
    app.add(&ada, &joan, "Member").await;
    let removed = app.events().await.into_iter().filter(|kind| kind == "organization.member_removed");
    assert_eq!(removed.count(), 2, "the organization that invited them, and their own");
}

#[tokio::test]
async fn an_invitation_is_worth_what_its_sender_may_still_give() {
    let Some(app) = App::on(database().await).await else { return };
    let (ada, grace, joan) = (app.register("Ada").await, app.register("Grace").await, app.register("Joan").await);
    let base = format!("/api/organizations/{}", ada.organization_id);
    let (membership, admin) = app.add(&ada, &grace, "Admin").await;
    let body = json!({ "email": joan.email, "roleId": app.role(&ada, "Admin").await });
    let (_, invitation) = app.post(&format!("{base}/invitations"), &admin, body).await.unwrap();
    let demoted = json!({ "roleId": app.role(&ada, "Member").await });
    app.put(&format!("{base}/memberships/{membership}"), &ada.token, demoted).await.unwrap();
    let accept = async |invitation: &Json| {
        app.post(&format!("/api/invitations/{}/accept", text(invitation, "/token")), &joan.token, Json::Null).await
    };
    let refused = accept(&invitation).await;
    assert!(matches!(refused, Err(AccountsError::Gone(_))), "{refused:?}");
    // Whoever sends it again stands behind it from then on.
    let again = format!("{base}/invitations/{}/resend", text(&invitation, "/id"));
    let (_, invitation) = app.post(&again, &ada.token, Json::Null).await.unwrap();
    assert_eq!(invitation["invitedByUserId"], json!(ada.id));
    assert_eq!(accept(&invitation).await.unwrap().1["organizationId"], json!(ada.organization_id));
}

#[tokio::test]
async fn an_invitation_whose_time_has_passed_is_found_among_the_expired() {
    let Some(app) = App::on(database().await).await else { return };
    let ada = app.register("Ada").await;
    let path = format!("/api/organizations/{}/invitations", ada.organization_id);
    let role = app.role(&ada, "Member").await;
    app.post(&path, &ada.token, json!({ "email": "old@example.com", "roleId": role })).await.unwrap();
    app.move_clock(chrono::Duration::days(8));
    let (_, fresh) = app.login(&ada.email, PASSWORD).await.unwrap();
    let token = text(&fresh, "/token");
    app.post(&path, &token, json!({ "email": "new@example.com", "roleId": role })).await.unwrap();
    let found = async |status: &str| {
        let (_, page) = app.get(&format!("{path}?status={status}"), &token).await.unwrap();
        page["items"].as_array().unwrap().iter().map(|row| text(row, "/email")).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        assert_eq!(found("pending").await, ["new@example.com"]);
        assert_eq!(found("expired").await, ["old@example.com"]);
        // With a sweep it is the same.
        app.accounts.sweep().await.unwrap();
    }
    assert_eq!(found("accepted").await, [""; 0]);
}

#[tokio::test]
async fn what_custom_roles_name_stays_out_of_the_catalogue_until_a_plugin_has_it() {
    let Some(app) = App::on(database().await).await else { return };
    let ada = app.register("Ada").await;
    let path = format!("/api/organizations/{}/roles", ada.organization_id);
    let body = json!({ "name": "Guest", "permissions": ["tides.tide.read", "tides.tide.made-up"] });
    let role = text(&app.post(&path, &ada.token, body).await.unwrap().1, "/id");
    let shown = async || {
        let (_, page) = app.get("/api/permissions?module=tides", &ada.token).await.unwrap();
        page["items"].as_array().unwrap().iter().map(|row| text(row, "/displayName")).collect::<Vec<_>>()
    };
    assert_eq!(shown().await, [""; 0]);
    // More of them than one question may answer keep no host from starting.
    let sql = "INSERT INTO permissions (id, code, display_name, module, resource, action, is_system_permission, created_at, \
         updated_at, version) VALUES ($1, $1, $1, 'm', 'r', 'a', $2, $3, $3, 1)";
    let mut transaction = app.accounts.database.begin().await.unwrap();
    for number in 0..10_001 {
        let code = format!("noise.noise.n{number}");
        transaction.execute(sql, &values![code, false, app.accounts.now()]).await.unwrap();
    }
    transaction.commit().await.unwrap();
    let codes = [("tides.tide.read".to_owned(), "See the tide".to_owned())];
    app.accounts.register_permissions(&codes).await.unwrap();
    assert_eq!(shown().await, ["See the tide"]);
    // What no role names goes after a while; the rest stays.
    app.move_clock(chrono::Duration::days(2));
    app.accounts.sweep().await.unwrap();
    let count = async |code: &str| {
        let sql = "SELECT code FROM permissions WHERE code LIKE $1";
        app.accounts.database.query(sql, &values![code]).await.unwrap().len()
    };
    assert_eq!((count("noise.%").await, count("tides.%").await), (0, 2));
    let (_, fresh) = app.login(&ada.email, PASSWORD).await.unwrap();
    let token = text(&fresh, "/token");
    app.put(&format!("{path}/{role}"), &token, json!({ "permissions": ["tides.tide.read"] })).await.unwrap();
    app.move_clock(chrono::Duration::days(2));
    app.accounts.sweep().await.unwrap();
    assert_eq!(count("tides.%").await, 1);
}
