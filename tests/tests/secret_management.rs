//! secret-management: sealed, versioned, scoped, audited; and put into requests by the host, which alone may.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use berth_tests::answer::text;
use berth_tests::listener::{Listener, Received};
use berth_tests::manifest::Manifest;
use berth_tests::members::host_with_ada;
use berth_tests::secrets::{made, value};
use berth_tests::space::Tap;
use berth_tests::{Client, Host, Stopped, eventually, plans};
use reqwest::Method;
use serde_json::{Value, json};

/// Found nowhere but where it belongs.
const PLAIN: &str = "plaintext-canary-8d1f0c5b7e";
/// An address of documents, where nobody answers and no request is let through to.
const NOWHERE: &str = "192.0.2.1";

/// Every file below a folder, but for machine code: that is much, and was compiled by other hosts.
fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|end| end == "cwasm") {
            continue;
        }
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// The first of these texts that stands anywhere. One pass, however many they are: a database is much to look through.
fn found<'a>(bytes: &[u8], texts: &'a [String]) -> Option<&'a String> {
    let mut begins = [false; 256];
    for text in texts {
        begins[usize::from(text.as_bytes()[0])] = true;
    }
    let places = bytes.iter().enumerate().filter(|(_, byte)| begins[usize::from(**byte)]);
    places.flat_map(|(at, _)| texts.iter().find(|text| bytes[at..].starts_with(text.as_bytes()))).next()
}

/// A text as it is, in hexadecimal digits, and in Base64 in each of the three ways in which it can stand there.
fn shapes(text: &str) -> Vec<String> {
    let whole = |skipped: usize| &text[skipped..text.len() - (text.len() - skipped) % 3];
    let base64 = (0..3).map(|skipped| base64::engine::general_purpose::STANDARD.encode(whole(skipped)));
    [text.to_owned(), hex::encode(text)].into_iter().chain(base64).collect()
}

/// Nothing of what a host has kept, said and published holds PLAIN in any of its shapes; `known` is in what it kept and in
/// what it published. Of servers that is all that lies in their cache, too.
async fn holds_no_plaintext(stopped: &Stopped, tap: Option<Tap>, known: &str) {
    assert!(!stopped.log.contains(PLAIN), "the log holds it");
    let mut kept = vec![("the database".to_owned(), stopped.store().everything().await)];
    if let Some(tap) = tap {
        kept.push(("the messages".to_owned(), tap.heard().await));
    }
    for (place, bytes) in &kept {
        assert!(found(bytes, &[known.to_owned()]).is_some(), "what is searched of {place} does not hold {known}");
    }
    if let Some(cached) = stopped.store().cached() {
        assert!(!cached.is_empty(), "the cache that is searched is another one");
        kept.push(("the cache".to_owned(), cached));
    }
    let mut all = Vec::new();
    files(&stopped.data(), &mut all);
    for path in all {
        kept.push((path.display().to_string(), std::fs::read(&path).expect("a file")));
    }
    let shapes = shapes(PLAIN);
    for (place, bytes) in kept {
        assert_eq!(found(&bytes, &shapes), None, "in {place}");
    }
}

#[tokio::test]
async fn a_secret_lives_through_versions_and_its_deletion() {
    let (_host, ada) = host_with_ada().await;
    let created = ada
        .post(
            "/api/secrets",
            &json!({"name": "stripe", "type": "API_KEY", "value": "sk-live-0123456789", "tags": ["pay"]}),
        )
        .await;
    let secret = created.expect(201);
    assert!(!created.text().contains("sk-live"), "{}", created.text());
    assert_eq!((&secret["mask"], &secret["currentVersion"]), (&json!("****6789"), &json!(1)));
    let path = format!("/api/secrets/{}", text(&secret, "id"));
    let id = text(&secret, "id");
    assert_eq!(value(&ada, &id).await.expect(200)["value"], "sk-live-0123456789");
    ada.post("/api/secrets", &json!({"name": "stripe", "type": "GENERIC", "value": "x"}))
        .await
        .problem(409, "SECRET_ALREADY_EXISTS");
    ada.put(&format!("{path}/value"), &json!({"value": "two words"})).await.problem(400, "INVALID_SECRET_VALUE");
    let changed =
        ada.put(&format!("{path}/value"), &json!({"value": "sk-live-second-one", "expectedVersion": 1})).await;
    assert_eq!(changed.expect(200)["currentVersion"], 2);
    ada.put(&format!("{path}/value"), &json!({"value": "x", "expectedVersion": 1})).await.problem(409, "CONFLICT");
    let rotated = ada.post(&format!("{path}/rotate"), &json!({})).await.expect(200);
    assert_eq!(rotated["currentVersion"], 3);
    assert_ne!(value(&ada, &id).await.expect(200)["value"], "sk-live-second-one");
    ada.post(&format!("{path}/rollback"), &json!({"version": 1})).await.done(200);
    let read = value(&ada, &id).await.expect(200);
    assert_eq!((&read["value"], &read["version"]), (&json!("sk-live-0123456789"), &json!(4)));
    ada.post(&format!("{path}/rollback"), &json!({"version": 99})).await.problem(404, "NOT_FOUND");
    let versions = ada.get(&format!("{path}/versions")).await.expect(200);
    assert_eq!(versions["total"], 4, "{versions}");
    assert!(ada.get(&format!("{path}/versions/2")).await.expect(200)["keyId"].is_string());
    let found = ada.get("/api/secrets?search=STRI&tags=pay&type=API_KEY").await.expect(200);
    assert_eq!(found["total"], 1, "{found}");
    assert_eq!(ada.get("/api/secrets?tags=other").await.expect(200)["total"], 0);
    ada.put(&path, &json!({"description": "for payments", "type": "GENERIC"})).await.problem(400, "VALIDATION_ERROR");
    assert_eq!(
        ada.put(&path, &json!({"description": "for payments"})).await.expect(200)["description"],
        "for payments"
    );
    ada.delete(&path).await.done(204);
    ada.get(&path).await.problem(404, "NOT_FOUND");
    value(&ada, &id).await.problem(404, "NOT_FOUND");
    assert_eq!(ada.get("/api/secrets?includeDeleted=true").await.expect(200)["total"], 1);
    let second = made(&ada, json!({"name": "stripe", "type": "GENERIC", "value": "x"})).await;
    ada.post(&format!("{path}/restore"), &json!({})).await.problem(409, "SECRET_ALREADY_EXISTS");
    ada.delete(&format!("/api/secrets/{second}/permanent")).await.done(204);
    ada.post(&format!("{path}/restore"), &json!({})).await.done(200);
    assert_eq!(value(&ada, &id).await.expect(200)["value"], "sk-live-0123456789");
    let audit = ada.get(&format!("/api/secrets/audit/{id}?limit=200")).await.expect(200);
    let actions: Vec<String> = audit["items"].as_array().into_iter().flatten().map(|row| text(row, "action")).collect();
    for action in ["create", "read", "value.changed", "rotate", "rollback", "update", "delete", "restore"] {
        assert!(actions.iter().any(|found| found == action), "{action} in {actions:?}");
    }
    assert!(!audit.to_string().contains("sk-live"));
    let report = ada.get("/api/secrets/compliance/report").await.expect(200);
    assert_eq!(report["totals"]["secrets"], 1, "{report}");
}

#[tokio::test]
async fn nothing_that_is_stored_or_logged_holds_a_plaintext() {
    let host =
        Host::with(Manifest::services()).variable("BERTH_LOG", "debug,wasmtime=info,cranelift=info").start().await;
    let tap = host.store().tap().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let id = made(&ada, json!({"name": "canary", "type": "GENERIC", "value": PLAIN})).await;
    let user = json!({"username": "ada", "password": format!("{PLAIN}-password")});
    made(&ada, json!({"name": "login", "type": "USERNAME_PASSWORD", "value": user})).await;
    ada.put(&format!("/api/secrets/{id}/value"), &json!({"value": format!("{PLAIN}-2"), "changeReason": "due"}))
        .await
        .done(200);
    assert_eq!(value(&ada, &id).await.expect(200)["value"], format!("{PLAIN}-2"));
    // An answer that must not be stored is not kept for a replay either.
    let keyed = ada.request(Method::POST, "/api/secrets/resolve").header("idempotency-key", "k1");
    let resolved = ada.send(keyed.json(&json!({"secretIds": [id]}))).await.expect(200);
    assert_eq!(resolved["values"][&id], format!("{PLAIN}-2"));
    let keyed = ada.request(Method::POST, "/api/secrets").header("idempotency-key", "k2");
    ada.send(keyed.json(&json!({"name": "keyed", "type": "GENERIC", "value": PLAIN}))).await.done(201);
    let config = json!({"config": {"a": [{"type": "SECRET_REF", "secretId": id}]}});
    assert_eq!(
        ada.post("/api/secrets/resolve/config", &config).await.expect(200)["config"]["a"][0],
        format!("{PLAIN}-2")
    );
    // A malformed body is not repeated in the problem.
    let wrong = ada.post("/api/secrets", &json!({"name": "9", "type": "API_KEY", "value": format!("{PLAIN} x")})).await;
    assert!(wrong.status == 400 && !wrong.text().contains(PLAIN), "{}", wrong.text());
    let exported = ada.get("/api/secrets/export?format=env&includeValues=true").await;
    assert!(exported.status == 200 && exported.text().contains(PLAIN), "a sign-in of a moment ago is enough");
    let stopped = host.stop().await;
    holds_no_plaintext(&stopped, tap, "canary").await;
    // It is still there after a restart.
    let host = stopped.start().await;
    let ada = host.client().with_token(ada.token());
    assert_eq!(value(&ada, &id).await.expect(200)["value"], format!("{PLAIN}-2"));
}

#[tokio::test]
async fn an_import_is_all_or_nothing_unless_told_otherwise() {
    let (_host, ada) = host_with_ada().await;
    let env = json!({"content": "# keys\nA_KEY=one\nexport B_KEY=\"two words\"\n", "tags": ["env"]});
    let done = ada.post("/api/secrets/import/env", &env).await.expect(200);
    assert_eq!((&done["succeeded"], &done["failed"]), (&json!(2), &json!(0)), "{done}");
    let second = json!({"content": "C_KEY=three\nA_KEY=again"});
    ada.post("/api/secrets/import/env", &second).await.problem(409, "SECRET_ALREADY_EXISTS");
    assert_eq!(ada.get("/api/secrets").await.expect(200)["total"], 2, "C_KEY was not imported");
    let mut second = second;
    second["continueOnError"] = true.into();
    let done = ada.post("/api/secrets/import/env", &second).await.expect(200);
    assert_eq!((&done["succeeded"], &done["failed"]), (&json!(1), &json!(1)), "{done}");
    assert_eq!(done["items"][1]["code"], "SECRET_ALREADY_EXISTS", "{done}");
    ada.post("/api/secrets/import/env", &json!({"content": "A"})).await.problem(400, "VALIDATION_ERROR");
    let items = json!({"secrets": [{"name": "j", "type": "API_KEY", "value": "k"}, {"name": "9", "type": "API_KEY", "value": "k"}]});
    let refused = ada.post("/api/secrets/import/json", &items).await.problem(400, "VALIDATION_ERROR");
    assert_eq!(refused["items"][0]["index"], 1, "{refused}");
    let exported = ada.get("/api/secrets/export?format=env&includeValues=true").await;
    assert_eq!(exported.text(), "A_KEY=\"one\"\nB_KEY=\"two words\"\nC_KEY=\"three\"\n");
    let bare = ada.get("/api/secrets/export").await;
    assert!(bare.expect(200)["total"] == 3 && !bare.text().contains("two words"));
}

#[tokio::test]
async fn what_is_expired_or_read_too_often_is_not_read() {
    let (_host, ada) = host_with_ada().await;
    let past = json!({"name": "old", "type": "GENERIC", "value": "x", "expiresAt": "2020-01-01T00:00:00.000Z"});
    let old = made(&ada, past).await;
    value(&ada, &old).await.problem(410, "SECRET_EXPIRED");
    let fresh = made(&ada, json!({"name": "fresh", "type": "GENERIC", "value": "x"})).await;
    let resolved = ada.post("/api/secrets/resolve", &json!({"secretIds": [old, fresh, "nobody"]})).await.expect(200);
    assert_eq!(resolved["values"], json!({ fresh.clone(): "x" }), "{resolved}");
    assert_eq!(resolved["errors"].as_array().map(Vec::len), Some(2), "{resolved}");
    let many: Vec<&str> = std::iter::repeat_n(fresh.as_str(), 100).collect();
    let refused = ada.post("/api/secrets/resolve", &json!({"secretIds": many})).await;
    // A minute may have ended meanwhile: then the second hundred is too much.
    let refused = if refused.status == 200 {
        ada.post("/api/secrets/resolve", &json!({"secretIds": many})).await
    } else {
        refused
    };
    refused.problem(429, "RATE_LIMIT_EXCEEDED");
    assert!(!refused.header("retry-after").is_empty());
    // An export with values reads as well, however fresh the sign-in is.
    let export = "/api/secrets/export?includeValues=true";
    let mut refused = ada.get(export).await;
    if refused.status == 200 {
        ada.post("/api/secrets/resolve", &json!({"secretIds": many})).await.done(200);
        refused = ada.get(export).await;
    }
    refused.problem(429, "RATE_LIMIT_EXCEEDED");
    ada.get("/api/secrets/export").await.done(200);
}

/// The manifest of the services, with execution-service allowed to reach `listener`, and NOWHERE by its name.
fn with_outbound(listener: &Listener) -> Manifest {
    let reach = format!("outbound = [\"{}\", \"{NOWHERE}\"]\noutbound_private = [\"127.0.0.0/8\"]", listener.address());
    let text = Manifest::services()
        .text()
        .replace("outbound = []", &reach)
        .replace("reencrypt = \"1m\"", "reencrypt = \"1s\"\n\n[plugin.config]\nreads_per_minute = \"100000\"");
    Manifest::default().and(&text)
}

/// Runs one `http` step and waits for its end.
async fn run_step(client: &Client, params: Value) -> Value {
    let steps = json!([{"title": "Call", "type": "http", "params": params, "maxRetries": 0,
        "postconditions": [{"kind": "absent", "path": "nothing"}]}]);
    let plan = plans::ready_plan(client, &steps).await;
    let execution = plans::execute(client, &plan).await;
    plans::reaches(client, &execution, &["completed", "failed"]).await
}

#[tokio::test]
async fn the_host_puts_a_secret_into_a_request_and_no_guest_sees_it() {
    // It answers with what it was sent, but for what authenticates.
    let listener = Listener::answering(Arc::new(|_: &Received| (200, json!({"ok": true}).to_string()))).await;
    let host =
        Host::with(with_outbound(&listener)).variable("BERTH_LOG", "debug,wasmtime=info,cranelift=info").start().await;
    let tap = host.store().tap().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let call = |params: Value| {
        let mut whole = json!({"method": "GET", "url": listener.url("/paid?x=1")});
        for (name, value) in params.as_object().into_iter().flatten() {
            whole[name] = value.clone();
        }
        whole
    };
    let granted = json!(["execution-service"]);
    let bearer = made(&ada, json!({"name": "bearer", "type": "API_KEY", "value": PLAIN, "services": granted})).await;
    let done = run_step(&ada, call(json!({"authSecretId": bearer}))).await;
    assert_eq!(done["status"], "completed", "{done}");
    let last = listener.received().pop().expect("a request");
    assert_eq!(last.header("authorization"), format!("Bearer {PLAIN}"));
    assert!(last.headers.iter().all(|(name, _)| !name.starts_with("berth-")), "{last:?}");
    // As a header's value, as a parameter, as user and password.
    let reference = json!({"headers": {"X-Api-Key": {"type": "SECRET_REF", "secretId": bearer}, "x-plain": "p"}});
    assert_eq!(run_step(&ada, call(reference)).await["status"], "completed");
    let last = listener.received().pop().expect("a request");
    assert_eq!((last.header("x-api-key"), last.header("x-plain")), (PLAIN, "p"));
    let query = json!({"name": "query", "type": "API_KEY", "value": PLAIN, "services": ["*"],
        "injection": {"kind": "query", "name": "key", "hosts": ["127.0.0.1"]}});
    let query = made(&ada, query).await;
    assert_eq!(run_step(&ada, call(json!({"authSecretId": query}))).await["status"], "completed");
    assert_eq!(listener.received().pop().expect("a request").target, format!("/paid?x=1&key={PLAIN}"));
    let login = json!({"name": "login", "type": "USERNAME_PASSWORD", "services": granted,
        "value": {"username": "Aladdin", "password": "open sesame"}});
    let login = made(&ada, login).await;
    assert_eq!(run_step(&ada, call(json!({"authSecretId": login}))).await["status"], "completed");
    assert_eq!(
        listener.received().pop().expect("a request").header("authorization"),
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    );
    // A rotation counts at once.
    ada.put(&format!("/api/secrets/{bearer}/value"), &json!({"value": "second-value"})).await.done(200);
    assert_eq!(run_step(&ada, call(json!({"authSecretId": bearer}))).await["status"], "completed");
    assert_eq!(listener.received().pop().expect("a request").header("authorization"), "Bearer second-value");
    // Each use is known.
    let uses = ada.get(&format!("/api/secrets/{bearer}/usage")).await.expect(200);
    assert_eq!(
        (&uses["total"], &uses["items"][0]["consumerModule"]),
        (&json!(3), &json!("execution-service")),
        "{uses}"
    );
    // Whatever stands in the way: no request leaves, and the step learns nothing but that.
    let before = listener.received().len();
    let ungranted = made(&ada, json!({"name": "ungranted", "type": "API_KEY", "value": "k"})).await;
    let expired = json!({"name": "expired", "type": "API_KEY", "value": "k", "services": granted,
        "expiresAt": "2020-01-01T00:00:00.000Z"});
    let expired = made(&ada, expired).await;
    let elsewhere = json!({"name": "elsewhere", "type": "API_KEY", "value": "k", "services": granted,
        "injection": {"kind": "bearer", "hosts": ["api.example.com"]}});
    let elsewhere = made(&ada, elsewhere).await;
    let foreign = made(&eve, json!({"name": "foreign", "type": "API_KEY", "value": "k", "services": granted})).await;
    for id in [&ungranted, &expired, &elsewhere, &foreign, &"nobody".to_owned()] {
        let failed = run_step(&ada, call(json!({"authSecretId": id}))).await;
        assert_eq!(failed["status"], "failed", "{failed}");
        let events = plans::events(&ada, &text(&failed, "id")).await;
        assert!(events.iter().any(|event| event.to_string().contains("SECRET_UNAVAILABLE")), "{id}: {events:#?}");
    }
    assert_eq!(listener.received().len(), before, "nothing left the house");
    let denied = ada.get("/api/secrets/audit?action=inject&outcome=DENIED").await.expect(200);
    assert_eq!(denied["total"], 5, "{denied}");
    // The host's route is nobody else's.
    let question = json!({"service": "execution-service", "purpose": "http", "references": [{"secretId": bearer}]});
    for client in [&ada, &eve, &host.operator()] {
        let answer = client.post("/api/secrets/host/use", &question).await;
        assert!(matches!(answer.status, 400 | 404), "{}", answer.text());
    }
    // Nothing of it in the executions, and nothing in what the host keeps and says.
    holds_no_plaintext(&host.stop().await, tap, "ungranted").await;
}

#[tokio::test]
async fn in_the_clear_a_secret_goes_only_where_one_of_its_hosts_says_so() {
    let listener = Listener::start().await;
    let host = Host::with(with_outbound(&listener)).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let answers = [
        (json!(null), "SECRET_UNAVAILABLE"),
        (json!([NOWHERE]), "SECRET_UNAVAILABLE"),
        (json!([format!("https://{NOWHERE}")]), "SECRET_UNAVAILABLE"),
        // Then it is asked where that is, and nobody may go there.
        (json!([format!("http://{NOWHERE}")]), "EGRESS_DENIED"),
    ];
    for (number, (hosts, code)) in answers.iter().enumerate() {
        let secret = json!({"name": format!("clear-{number}"), "type": "API_KEY", "value": "k",
            "services": ["execution-service"], "injection": {"kind": "bearer", "hosts": hosts}});
        let secret = made(&ada, secret).await;
        let call = json!({"method": "GET", "url": format!("http://{NOWHERE}/"), "authSecretId": secret});
        let failed = run_step(&ada, call).await;
        let events = plans::events(&ada, &text(&failed, "id")).await;
        assert!(events.iter().any(|event| event.to_string().contains(code)), "{hosts}: {events:#?}");
    }
    let denied = ada.get("/api/secrets/audit?action=inject&outcome=DENIED").await.expect(200);
    assert_eq!(denied["total"], 3, "{denied}");
    assert!(denied.to_string().contains("in the clear"), "{denied}");
    assert_eq!(denied["items"][0]["details"]["destination"], format!("http://{NOWHERE}:80"));
}

#[tokio::test]
async fn keys_rotate_in_the_background_while_reads_go_on() {
    let listener = Listener::start().await;
    let host = Host::with(with_outbound(&listener)).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let mut secrets = Vec::new();
    for number in 0..60 {
        let body = json!({"name": format!("s{number}"), "type": "GENERIC", "value": format!("value {number}")});
        secrets.push(made(&ada, body).await);
    }
    let foreign = made(&eve, json!({"name": "e", "type": "GENERIC", "value": "eve's"})).await;
    let global = made(&ada, json!({"name": "g", "type": "GENERIC", "value": "everybody's", "scope": "GLOBAL"})).await;
    let keys = async || {
        ada.get("/api/secrets/keys?limit=200").await.expect(200)["items"].as_array().cloned().unwrap_or_default()
    };
    let before = keys().await;
    assert_eq!(before.len(), 3, "{before:?}");
    assert!(before.iter().all(|key| key["status"] == "ACTIVE"));
    eve.get("/api/secrets/keys").await.problem(403, "ACCESS_DENIED");
    let rotating = ada.post("/api/secrets/keys/rotate", &json!({})).await.expect(202);
    assert_eq!(rotating["rotating"], 3);
    eventually("the end of the rotation", async || {
        // Whatever is being done: each value opens.
        let number = secrets.len() / 2;
        assert_eq!(value(&ada, &secrets[number]).await.status, 200);
        let keys = keys().await;
        (keys.iter().filter(|key| key["status"] == "RETIRED").count() == 3).then_some(())
    })
    .await;
    let after = keys().await;
    let old: Vec<String> = before.iter().map(|key| text(key, "keyId")).collect();
    for id in secrets.iter().take(20) {
        let version = ada.get(&format!("/api/secrets/{id}/versions/1")).await.expect(200);
        assert!(!old.contains(&text(&version, "keyId")), "{version}");
    }
    let read = ada
        .post("/api/secrets/resolve", &json!({"secretIds": secrets.iter().take(30).collect::<Vec<_>>()}))
        .await
        .expect(200);
    for (number, id) in secrets.iter().take(30).enumerate() {
        assert_eq!(read["values"][id], format!("value {number}"));
    }
    assert_eq!(value(&eve, &foreign).await.expect(200)["value"], "eve's");
    assert_eq!(value(&ada, &global).await.expect(200)["value"], "everybody's");
    // A key that nothing refers to can be destroyed, another one cannot.
    ada.delete(&format!("/api/secrets/keys/{}", old[0])).await.done(204);
    let active = after.iter().find(|key| key["status"] == "ACTIVE").map(|key| text(key, "keyId")).expect("a key");
    ada.delete(&format!("/api/secrets/keys/{active}")).await.problem(409, "CONFLICT");
    ada.delete("/api/secrets/keys/nobody").await.problem(404, "NOT_FOUND");
    let audit = ada.get("/api/secrets/audit?action=key.destroy").await.expect(200);
    assert_eq!((&audit["total"], &audit["items"][0]["details"]), (&json!(1), &json!({"keyId": old[0]})), "{audit}");
}

#[tokio::test]
async fn a_row_that_was_moved_or_altered_does_not_open() {
    let (host, ada) = host_with_ada().await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let altered = made(&ada, json!({"name": "altered", "type": "GENERIC", "value": "a"})).await;
    let moved = made(&ada, json!({"name": "moved", "type": "GENERIC", "value": "m"})).await;
    let sound = made(&ada, json!({"name": "sound", "type": "GENERIC", "value": "s"})).await;
    made(&eve, json!({"name": "own", "type": "GENERIC", "value": "e"})).await;
    let reef = text(&eve.account["organization"], "id");
    let stopped = host.stop().await;
    let store = stopped.store();
    // One bit of the last byte is turned.
    let digits = if store.is_postgres() { "encode(ciphertext, 'hex')" } else { "hex(ciphertext)" };
    let found = store.ask(&format!("SELECT {digits} FROM secret_versions WHERE secret_id = '{altered}'")).await;
    let mut bytes = hex::decode(&found[0]).expect("digits");
    *bytes.last_mut().expect("a byte") ^= 1;
    let digits = hex::encode(bytes);
    let turned = if store.is_postgres() { format!("decode('{digits}', 'hex')") } else { format!("X'{digits}'") };
    let turn = format!("UPDATE secret_versions SET ciphertext = {turned} WHERE secret_id = '{altered}'");
    assert_eq!(store.change(&turn).await, 1);
    // Row, version and even the key that sealed it are given to the other organization.
    for (table, id) in [("secret_secrets", "id"), ("secret_versions", "secret_id")] {
        let give = format!("UPDATE {table} SET organization_id = '{reef}' WHERE {id} = '{moved}'");
        assert_eq!(store.change(&give).await, 1);
    }
    let host = stopped.start().await;
    let (ada, eve) = (host.client().with_token(ada.token()), host.client().with_token(eve.token()));
    let refused = value(&ada, &altered).await;
    refused.problem(500, "DECRYPTION_FAILED");
    value(&ada, &moved).await.problem(404, "NOT_FOUND");
    value(&eve, &moved).await.problem(500, "DECRYPTION_FAILED");
    assert_eq!(value(&ada, &sound).await.expect(200)["value"], "s");
    for (client, id) in [(&ada, &altered), (&eve, &moved)] {
        let audit = client.get(&format!("/api/secrets/audit/{id}?outcome=FAILURE")).await.expect(200);
        assert_eq!((&audit["total"], &audit["items"][0]["action"]), (&json!(1), &json!("decrypt")), "{audit}");
    }
    let stopped = host.stop().await;
    assert!(stopped.log.contains("a stored secret does not open"), "the alert is in the log");
    let keys = format!(
        "UPDATE secret_encryption_keys SET owner = '{reef}', organization_id = '{reef}', version = version + 10, \
        status = 'RETIRED' WHERE owner <> '{reef}'"
    );
    assert!(stopped.store().change(&keys).await > 0);
    let host = stopped.start().await;
    value(&host.client().with_token(eve.token()), &moved).await.problem(500, "DECRYPTION_FAILED");
}

/// What lies in a vault: each version of a value, by its path.
type Kept = Arc<std::sync::Mutex<Vec<(String, Value)>>>;

/// As much of HashiCorp's key-value engine as is used.
async fn key_value_store(kept: &Kept) -> Listener {
    let kept = Arc::clone(kept);
    Listener::answering(Arc::new(move |received: &Received| {
        let mut store = kept.lock().expect("the store");
        if received.header("x-vault-token") != "vault-token" {
            return (403, "{}".to_owned());
        }
        let (path, query) = received.target.split_once('?').unwrap_or((&received.target, ""));
        match (received.method.as_str(), path) {
            (_, "/v1/sys/health") => (200, "{}".to_owned()),
            ("POST", path) => {
                let body: Value = serde_json::from_str(&received.body).unwrap_or_default();
                store.push((path.to_owned(), body["data"].clone()));
                let version = store.iter().filter(|(known, _)| known == path).count();
                (200, json!({"data": {"version": version}}).to_string())
            }
            ("GET", path) => {
                let version: usize = query.trim_start_matches("version=").parse().unwrap_or(0);
                let found = store.iter().filter(|(known, _)| known == path).nth(version.saturating_sub(1));
                found.map_or((404, "{}".to_owned()), |(_, data)| (200, json!({"data": {"data": data}}).to_string()))
            }
            ("DELETE", path) => {
                store.retain(|(known, _)| *known != path.replace("/metadata/", "/data/"));
                (204, String::new())
            }
            _ => (405, "{}".to_owned()),
        }
    }))
    .await
}

/// The manifest of the services, with secret-management allowed to reach `vault` and to purge every second.
fn with_vault(vault: &Listener) -> Manifest {
    let reach = format!("outbound = [\"{}\"]\noutbound_private = [\"127.0.0.0/8\"]\nsecrets = true", vault.address());
    let services = Manifest::services();
    let text = services.text().replace("outbound = []\nsecrets = true", &reach);
    Manifest::default().and(&text.replace("purge = \"daily\"", "purge = \"1s\""))
}

#[tokio::test]
async fn values_can_lie_in_an_external_vault() {
    let kept = Arc::default();
    let vault = key_value_store(&kept).await;
    let host = Host::with(with_vault(&vault)).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let body = json!({"name": "kv", "type": "GENERIC", "value": {"a": PLAIN}, "storageBackend": "HASHICORP_VAULT"});
    ada.post("/api/secrets", &body).await.problem(404, "VAULT_NOT_CONFIGURED");
    let azure = json!({"name": "az", "backend": "AZURE_KEY_VAULT", "config": {"address": vault.url(""), "token": "t"}});
    ada.post("/api/vaults", &azure).await.problem(501, "NOT_IMPLEMENTED");
    // The platform's default one, which does not work, is there first; the organization's own comes before it.
    let shared = json!({"name": "Shared", "backend": "HASHICORP_VAULT", "scope": "GLOBAL",
        "config": {"address": vault.url(""), "token": "wrong-token"}});
    let shared = text(&ada.post("/api/vaults", &shared).await.expect(201), "id");
    ada.post(&format!("/api/vaults/{shared}/default"), &json!({})).await.done(200);
    let config = json!({"name": "Vault", "backend": "HASHICORP_VAULT",
        "config": {"address": vault.url(""), "token": "wrong-token"}});
    let created = ada.post("/api/vaults", &config).await;
    assert!(!created.text().contains("wrong-token"), "{}", created.text());
    let path = format!("/api/vaults/{}", text(&created.expect(201), "id"));
    ada.post(&format!("{path}/default"), &json!({})).await.done(200);
    ada.post("/api/secrets", &body).await.problem(502, "VAULT_CONNECTION_FAILED");
    assert_eq!(ada.post(&format!("{path}/health"), &json!({})).await.expect(200)["health"], "UNHEALTHY");
    ada.put(&path, &json!({"config": {"address": vault.url(""), "token": "vault-token"}})).await.done(200);
    assert_eq!(ada.post(&format!("{path}/health"), &json!({})).await.expect(200)["health"], "HEALTHY");
    let id = made(&ada, body).await;
    ada.put(&format!("/api/secrets/{id}/value"), &json!({"value": "second"})).await.done(200);
    assert_eq!(value(&ada, &id).await.expect(200)["value"], "second");
    ada.post(&format!("/api/secrets/{id}/rollback"), &json!({"version": 1})).await.done(200);
    assert_eq!(value(&ada, &id).await.expect(200)["value"]["a"], PLAIN);
    ada.delete(&path).await.problem(409, "CONFLICT");
    let moved = ada.post("/api/secrets/migrate", &json!({"secretIds": [id], "targetBackend": "LOCAL_ENCRYPTED"})).await;
    assert_eq!(moved.expect(200)["succeeded"], 1, "{}", moved.text());
    assert_eq!(value(&ada, &id).await.expect(200)["value"]["a"], PLAIN);
    ada.delete(&path).await.done(204);
    for (action, rows) in [("vault.create", 1), ("vault.default", 1), ("vault.update", 1), ("vault.delete", 1)] {
        let audit = ada.get(&format!("/api/secrets/audit?action={action}")).await.expect(200);
        let own = audit["items"].as_array().into_iter().flatten().filter(|row| row["details"]["name"] == "Vault");
        assert_eq!(own.count(), rows, "{action}: {audit}");
    }
}

#[tokio::test]
async fn what_lies_in_an_external_vault_goes_from_there_when_its_time_is_over() {
    let kept = Arc::default();
    let vault = key_value_store(&kept).await;
    let host = Host::with(with_vault(&vault)).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let mut secrets = Vec::new();
    // What is everybody's lies in a vault of everybody's.
    for scope in ["ORGANIZATION", "GLOBAL"] {
        let config = json!({"name": scope, "backend": "HASHICORP_VAULT", "scope": scope,
            "config": {"address": vault.url(""), "token": "vault-token"}});
        let config = text(&ada.post("/api/vaults", &config).await.expect(201), "id");
        for name in ["gone", "stays"] {
            let body = json!({"name": name, "type": "GENERIC", "value": PLAIN, "scope": scope,
                "storageBackend": "HASHICORP_VAULT", "vaultId": config});
            secrets.push(made(&ada, body).await);
        }
        let gone = &secrets[secrets.len() - 2];
        ada.delete(&format!("/api/secrets/{gone}")).await.done(204);
    }
    let paths = || kept.lock().expect("the store").iter().map(|(path, _)| path.clone()).collect::<Vec<String>>();
    assert_eq!(paths().len(), 4);
    let over = "UPDATE secret_secrets SET recovery_deadline = '2020-01-01T00:00:00.000Z' WHERE deleted_at IS NOT NULL";
    assert_eq!(host.store().change(over).await, 2);
    let audit = eventually("the purge", async || {
        let audit = ada.get("/api/secrets/audit?action=purge").await.expect(200);
        (audit["total"] == 2).then_some(audit)
    })
    .await;
    for row in audit["items"].as_array().into_iter().flatten() {
        assert_eq!((&row["secretName"], &row["actorType"]), (&json!("gone"), &json!("SYSTEM")), "{audit}");
    }
    assert!(paths().len() == 2 && secrets.iter().step_by(2).all(|id| !paths().concat().contains(id)), "{:?}", paths());
    let left = host.store().ask("SELECT name FROM secret_secrets").await;
    assert_eq!(left, ["stays", "stays"]);
    for id in secrets.iter().skip(1).step_by(2) {
        assert_eq!(value(&ada, id).await.expect(200)["value"], PLAIN);
    }
}
