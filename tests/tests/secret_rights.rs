//! secret-management: whose each secret is, and what time does to secrets, grants and sign-ins.

use berth_tests::answer::text;
use berth_tests::manifest::Manifest;
use berth_tests::members::host_with_ada;
use berth_tests::secrets::{made, value};
use berth_tests::{Client, Host, eventually, guests, members};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn each_scope_has_its_own_readers() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let vic = members::bring(&host, &ada, "vic@example.com", "Viewer").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let shared = made(&ada, json!({"name": "shared", "type": "GENERIC", "value": "s"})).await;
    let path = format!("/api/secrets/{shared}");
    // Another organization: it does not exist.
    eve.get(&path).await.problem(404, "NOT_FOUND");
    value(&eve, &shared).await.problem(404, "NOT_FOUND");
    eve.put(&format!("{path}/value"), &json!({"value": "x"})).await.problem(404, "NOT_FOUND");
    eve.delete(&path).await.problem(404, "NOT_FOUND");
    eve.post(&format!("{path}/access"), &json!({"granteeType": "USER", "granteeId": "x"}))
        .await
        .problem(404, "NOT_FOUND");
    eve.get(&format!("/api/secrets/audit/{shared}")).await.problem(404, "NOT_FOUND");
    assert_eq!(eve.get("/api/secrets?includeDeleted=true").await.expect(200)["total"], 0);
    // A member sees that it is there, and not what it is.
    bob.get(&path).await.done(200);
    value(&bob, &shared).await.problem(403, "ACCESS_DENIED");
    bob.put(&format!("{path}/value"), &json!({"value": "x"})).await.problem(403, "ACCESS_DENIED");
    bob.delete(&path).await.problem(403, "ACCESS_DENIED");
    bob.get("/api/secrets/audit").await.problem(403, "ACCESS_DENIED");
    bob.post("/api/secrets/keys/rotate", &json!({})).await.problem(403, "ACCESS_DENIED");
    bob.post("/api/secrets", &json!({"name": "o", "type": "GENERIC", "value": "x"}))
        .await
        .problem(403, "ACCESS_DENIED");
    vic.post("/api/secrets", &json!({"name": "o", "type": "GENERIC", "value": "x", "scope": "USER"}))
        .await
        .problem(403, "FORBIDDEN");
    // A grant changes that, and its end ends it.
    let bob_id = text(&bob.account["user"], "id");
    let grant = json!({"granteeType": "USER", "granteeId": bob_id, "canRead": true});
    let granted = ada.post(&format!("{path}/access"), &grant).await.expect(201);
    assert_eq!(value(&bob, &shared).await.expect(200)["value"], "s");
    bob.delete(&path).await.problem(403, "ACCESS_DENIED");
    bob.post(&format!("{path}/access"), &grant).await.problem(403, "ACCESS_DENIED");
    ada.delete(&format!("{path}/access/{}", text(&granted, "id"))).await.done(204);
    ada.delete(&format!("{path}/access/{}", text(&granted, "id"))).await.problem(404, "NOT_FOUND");
    value(&bob, &shared).await.problem(403, "ACCESS_DENIED");
    let denied = ada.get("/api/secrets/audit?outcome=DENIED&limit=200").await.expect(200);
    assert!(denied["total"].as_i64().unwrap_or_default() >= 5, "{denied}");
    // What is a user's is nobody else's, not even a Super Admin's.
    let own = made(&bob, json!({"name": "own", "type": "GENERIC", "value": "b", "scope": "USER"})).await;
    assert_eq!(value(&bob, &own).await.expect(200)["value"], "b");
    value(&ada, &own).await.problem(403, "ACCESS_DENIED");
    ada.delete(&format!("/api/secrets/{own}")).await.problem(403, "ACCESS_DENIED");
    assert_eq!(ada.get("/api/secrets?scope=USER").await.expect(200)["total"], 0);
    // A team's belongs to whoever leads it.
    let team = text(&ada.post("/api/teams", &json!({"name": "Crane"})).await.expect(201), "id");
    let members = |role: &str| json!({"userId": bob_id, "role": role});
    ada.post(&format!("/api/teams/{team}/members"), &members("member")).await.done(200);
    let crane =
        made(&ada, json!({"name": "crane", "type": "GENERIC", "value": "c", "scope": "TEAM", "teamId": team})).await;
    bob.get(&format!("/api/secrets/{crane}")).await.done(200);
    value(&bob, &crane).await.problem(403, "ACCESS_DENIED");
    value(&vic, &crane).await.problem(403, "ACCESS_DENIED");
    vic.get(&format!("/api/secrets/{crane}")).await.problem(403, "ACCESS_DENIED");
    assert_eq!(bob.get("/api/secrets?scope=TEAM").await.expect(200)["total"], 1);
    assert_eq!(vic.get("/api/secrets?scope=TEAM").await.expect(200)["total"], 0);
    ada.delete(&format!("/api/teams/{team}/members/{bob_id}")).await.done(204);
    bob.get(&format!("/api/secrets/{crane}")).await.problem(403, "ACCESS_DENIED");
    ada.post(&format!("/api/teams/{team}/members"), &members("maintainer")).await.done(200);
    assert_eq!(value(&bob, &crane).await.expect(200)["value"], "c");
    // A project's to whoever owns the project.
    let project = json!({"name": "Dock", "visibility": "private"});
    let project = text(&bob.post("/api/projects", &project).await.expect(201), "id");
    let dock = json!({"name": "dock", "type": "GENERIC", "value": "d", "scope": "PROJECT", "projectId": project});
    vic.post("/api/secrets", &dock).await.problem(403, "FORBIDDEN");
    let dock = made(&bob, dock).await;
    assert_eq!(value(&bob, &dock).await.expect(200)["value"], "d");
    vic.get(&format!("/api/secrets/{dock}")).await.problem(403, "ACCESS_DENIED");
    // By way of a team too: on the list they see it, as owners they read it, and make others.
    let cleo = members::bring(&host, &ada, "cleo@example.com", "Member").await;
    let hands = text(&ada.post("/api/teams", &json!({"name": "Hands"})).await.expect(201), "id");
    let member = json!({"userId": members::id(&cleo), "role": "member"});
    ada.post(&format!("/api/teams/{hands}/members"), &member).await.done(200);
    let share = async |level: Option<&str>| {
        let mut access = vec![json!({"userId": bob_id, "level": "owner"})];
        access.extend(level.map(|level| json!({"teamId": hands, "level": level})));
        bob.put(&format!("/api/projects/{project}/access"), &json!({ "access": access })).await.done(200);
    };
    let projects = async |client: &Client| client.get("/api/secrets?scope=PROJECT").await.expect(200)["total"].clone();
    cleo.get(&format!("/api/secrets/{dock}")).await.problem(403, "ACCESS_DENIED");
    share(Some("viewer")).await;
    eventually("cleo's team seeing it", async || {
        (cleo.get(&format!("/api/secrets/{dock}")).await.status == 200).then_some(())
    })
    .await;
    value(&cleo, &dock).await.problem(403, "ACCESS_DENIED");
    share(Some("owner")).await;
    assert_eq!(value(&cleo, &dock).await.expect(200)["value"], "d");
    let quay = json!({"name": "quay", "type": "GENERIC", "value": "q", "scope": "PROJECT", "projectId": project});
    let quay = made(&cleo, quay).await;
    assert_eq!((projects(&cleo).await, projects(&bob).await, projects(&vic).await), (json!(2), json!(2), json!(0)));
    // Whoever made one and is out of the project sees it no more, in lists neither.
    share(None).await;
    cleo.get(&format!("/api/secrets/{quay}")).await.problem(403, "ACCESS_DENIED");
    assert_eq!((projects(&cleo).await, projects(&bob).await), (json!(0), json!(2)));
    // GLOBAL is the platform's; Ada has the operator organization.
    let global = made(&ada, json!({"name": "mirror", "type": "GENERIC", "value": "g", "scope": "GLOBAL"})).await;
    eve.get(&format!("/api/secrets/{global}")).await.done(200);
    value(&eve, &global).await.problem(403, "ACCESS_DENIED");
    eve.post("/api/secrets", &json!({"name": "m", "type": "GENERIC", "value": "g", "scope": "GLOBAL"}))
        .await
        .problem(403, "ACCESS_DENIED");
    assert_eq!(value(&ada, &global).await.expect(200)["value"], "g");
}

#[tokio::test]
async fn an_expiry_is_announced_once_and_a_users_secrets_go_with_them() {
    let text_of = Manifest::services().text().replace("expiry = \"daily\"", "expiry = \"1s\"");
    let host = Host::with(Manifest::default().and(&text_of)).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let expired = |name: &str, scope: &str| json!({"name": name, "type": "GENERIC", "value": "x", "scope": scope, "expiresAt": "2020-01-01T00:00:00.000Z"});
    let told = async |count: i64| {
        eventually("the news", async || {
            let inbox = ada.get("/api/notifications?type=secret.expired").await.expect(200);
            (inbox["total"] == count).then_some(())
        })
        .await;
    };
    let soon = made(&ada, expired("soon", "ORGANIZATION")).await;
    told(1).await;
    // What belongs to everybody is told to who administers the organization that made it; by then the first one was looked at again.
    let mirror = made(&ada, expired("mirror", "GLOBAL")).await;
    told(2).await;
    let entries = async |id: &str| {
        let page = ada.get(&format!("/api/audit-logs?action=secret.expired&resourceId={id}")).await.expect(200);
        page["total"].as_i64().unwrap_or_default()
    };
    eventually("the entry of the later one", async || (entries(&mirror).await == 1).then_some(())).await;
    assert_eq!(entries(&soon).await, 1, "once");
    // Bob goes, and what was his alone with him.
    let own = made(&bob, json!({"name": "own", "type": "GENERIC", "value": "x", "scope": "USER"})).await;
    host.operator().delete(&format!("/api/users/{}", members::id(&bob))).await.done(204);
    let audit = eventually("the deletion", async || {
        let audit = ada.get("/api/secrets/audit?action=delete").await.expect(200);
        (audit["total"] == 1).then(|| audit["items"][0].clone())
    })
    .await;
    assert_eq!(
        (&audit["secretId"], &audit["details"]["reason"]),
        (&json!(own), &json!("the account was deleted")),
        "{audit}"
    );
}

#[tokio::test]
async fn grants_sign_ins_and_deletions_have_their_time() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let lent = made(&ada, json!({"name": "lent", "type": "GENERIC", "value": "l"})).await;
    let grant = json!({"granteeType": "USER", "granteeId": members::id(&bob), "canRead": true,
        "expiresAt": "2999-01-01T00:00:00.000Z"});
    ada.post(&format!("/api/secrets/{lent}/access"), &grant).await.done(201);
    assert_eq!(value(&bob, &lent).await.expect(200)["value"], "l");
    let gone = made(&ada, json!({"name": "gone", "type": "GENERIC", "value": "g"})).await;
    ada.delete(&format!("/api/secrets/{gone}")).await.done(204);
    // A program has not signed in, whatever its key may do.
    let key = json!({"name": "CI", "permissions": ["*"]});
    let key = text(&ada.post("/api/users/me/api-keys", &key).await.expect(201), "key");
    let program = host.client().with_token(&key);
    assert_eq!(value(&program, &lent).await.expect(200)["value"], "l");
    program.get("/api/secrets/export?includeValues=true").await.problem(401, "REAUTH_REQUIRED");
    program.delete(&format!("/api/secrets/{lent}/permanent")).await.problem(401, "REAUTH_REQUIRED");
    program.get("/api/secrets/export").await.done(200);
    // As if years had passed.
    let past = "'2020-01-01T00:00:00.000Z'";
    assert_eq!(host.store().change(&format!("UPDATE secret_access_grants SET expires_at = {past}")).await, 1);
    value(&bob, &lent).await.problem(403, "ACCESS_DENIED");
    let over = format!("UPDATE secret_secrets SET recovery_deadline = {past} WHERE id = '{gone}'");
    assert_eq!(host.store().change(&over).await, 1);
    ada.post(&format!("/api/secrets/{gone}/restore"), &json!({})).await.problem(410, "RECOVERY_PERIOD_EXPIRED");
    let stopped = host.stop().await;
    let text_of = Manifest::services().text().replace("purge = \"daily\"", "purge = \"1s\"");
    stopped.write_manifest(&Manifest::default().and(&text_of));
    let host = stopped.start().await;
    let ada = host.client().with_token(ada.token());
    let audit = eventually("the purge", async || {
        let audit = ada.get("/api/secrets/audit?action=purge").await.expect(200);
        (audit["total"] == 1).then(|| audit["items"][0].clone())
    })
    .await;
    assert_eq!((&audit["secretId"], &audit["actorType"]), (&json!(gone), &json!("SYSTEM")), "{audit}");
    let left = host.store().ask(&format!("SELECT id FROM secret_versions WHERE secret_id = '{gone}'")).await;
    assert_eq!(left, Vec::<String>::new());
    ada.post(&format!("/api/secrets/{gone}/restore"), &json!({})).await.problem(404, "NOT_FOUND");
    assert_eq!(value(&ada, &lent).await.expect(200)["value"], "l");
}

#[tokio::test]
async fn a_host_with_another_master_key_does_not_start() {
    let host = Host::with(Manifest::hello()).embedded().start().await;
    let stopped = host.stop().await;
    let start = |digit: &str| {
        let mut command = std::process::Command::new(guests::host_binary());
        command.args(["run", "--config", "plugins.toml", "--data", "data", "--listen", "127.0.0.1:0"]);
        command.current_dir(stopped.data().parent().expect("a folder"));
        command.env("BERTH_MASTER_KEY", digit.repeat(64)).output().expect("berth")
    };
    let ended = start("f");
    assert!(!ended.status.success());
    let said = String::from_utf8_lossy(&ended.stderr).into_owned() + &String::from_utf8_lossy(&ended.stdout);
    assert!(said.contains("the master key does not fit this database"), "{said}");
}

#[tokio::test]
async fn two_grants_for_one_grantee_at_once_are_one_and_end_once() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let secret = made(&ada, json!({"name": "shared", "type": "GENERIC", "value": "s"})).await;
    let path = format!("/api/secrets/{secret}/access");
    let grant = json!({"granteeType": "USER", "granteeId": members::id(&bob), "canRead": true});
    let (one, two) = tokio::join!(ada.post(&path, &grant), ada.post(&path, &grant));
    assert_eq!(text(&one.expect(201), "id"), text(&two.expect(201), "id"));
    let grants = ada.get(&path).await.expect(200);
    assert_eq!(grants["total"], 1, "{grants}");
    value(&bob, &secret).await.done(200);
    let only = format!("{path}/{}", text(&grants["items"][0], "id"));
    let (one, two) = tokio::join!(ada.delete(&only), ada.delete(&only));
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 404]);
    value(&bob, &secret).await.problem(403, "ACCESS_DENIED");
}

#[tokio::test]
async fn of_vaults_that_are_made_the_default_at_once_one_is() {
    let (_host, ada) = host_with_ada().await;
    for scope in ["ORGANIZATION", "GLOBAL"] {
        let mut paths = Vec::new();
        for name in ["one", "two", "three"] {
            let vault = json!({"name": name, "backend": "HASHICORP_VAULT", "scope": scope,
                "config": {"address": "https://vault.example.com:8200", "token": "vault-token"}});
            let vault = text(&ada.post("/api/vaults", &vault).await.expect(201), "id");
            paths.push(format!("/api/vaults/{vault}/default"));
        }
        for _ in 0..4 {
            let choices = paths.iter().map(|path| ada.send(ada.request(Method::POST, path)));
            for answer in join_all(choices).await {
                answer.done(200);
            }
            let vaults = ada.get("/api/vaults?limit=200").await.expect(200);
            let defaults = vaults["items"].as_array().into_iter().flatten();
            let defaults = defaults.filter(|vault| vault["scope"] == scope && vault["isDefault"] == true);
            assert_eq!(defaults.count(), 1, "{vaults}");
        }
    }
}
