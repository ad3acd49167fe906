//! notification-manager: who is told what, where, and when not.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::time::Duration;

use berth_tests::answer::text;
use berth_tests::listeners::Listener;
use berth_tests::{Client, Host, Letterbox, Manifest, eventually, members, plans};
use serde_json::{Value, json};

const ROUTES: &str = "/api/notifications";

/// The services with timers that do not keep a test waiting, and loopback as a place that may be called.
fn manifest(listeners: &[&Listener]) -> Manifest {
    let names: Vec<String> = listeners.iter().map(|listener| format!("{:?}", listener.address())).collect();
    let outbound = format!("outbound = [{}]\noutbound_private = [\"127.0.0.1\"]", names.join(", "));
    Manifest::services()
        .with(
            "digest = \"5m\"\nheld = \"1m\"\nescalation = \"1m\"",
            "digest = \"1s\"\nheld = \"1s\"\nescalation = \"1s\"\n\n[plugin.config]\ndigest_hourly_seconds = \"2\"",
        )
        .with("outbound = [\"*\"]\nsecrets = true\nmail = true", &format!("{outbound}\nsecrets = true\nmail = true"))
}

async fn host_with_ada() -> (Host, Client) {
    started(Host::with(manifest(&[]))).await
}

async fn started(builder: berth_tests::host::Builder) -> (Host, Client) {
    let host = builder.start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    (host, ada)
}

/// Sends one notification and returns its id.
async fn send(from: &Client, to: &Client, more: Value) -> String {
    let mut body = json!({"eventType": "release.announced", "recipientIds": [members::id(to)], "title": "Fog", "body": "Stay in."});
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    let sent = from.post(ROUTES, &body).await.expect(202);
    assert_eq!(sent["recipientCount"], 1, "{sent}");
    text(&json!({"id": sent["notificationIds"][0]}), "id")
}

/// Waits until a notification of the caller has a status.
async fn becomes(client: &Client, id: &str, status: &str) -> Value {
    let path = format!("{ROUTES}/{id}");
    eventually(&format!("{id} becoming {status}"), async || {
        let row = client.get(&path).await.expect(200);
        (row["status"] == status).then_some(row)
    })
    .await
}

/// Waits for something in the caller's inbox.
async fn arrives(client: &Client, kind: &str) -> Value {
    eventually(&format!("{kind} in the inbox"), async || {
        let inbox = client.get(&format!("{ROUTES}?type={kind}")).await.expect(200);
        (inbox["total"] == 1).then(|| inbox["items"][0].clone())
    })
    .await
}

async fn delivery(client: &Client, id: &str, channel: &str, status: &str) -> Value {
    let path = format!("{ROUTES}/{id}/deliveries");
    eventually(&format!("{channel} becoming {status}"), async || {
        let all = client.get(&path).await.expect(200);
        let mut items = all["items"].as_array().cloned().unwrap_or_default().into_iter();
        items.find(|item| item["channel"] == channel && item["status"] == status)
    })
    .await
}

/// Waits until one notification of the organization is cancelled, whoever it was for.
async fn given_up(admin: &Client) {
    eventually("the notification being given up", async || {
        let stats = admin.get(&format!("{ROUTES}/stats?scope=organization")).await.expect(200);
        (stats["byStatus"]["CANCELLED"] == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn somebody_is_told_reads_it_and_is_told_no_more() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Viewer").await;
    let id =
        send(&ada, &bob, json!({"criticality": "LOW", "actionUrl": "/weather", "metadata": {"place": "quay"}})).await;
    let row = becomes(&bob, &id, "DELIVERED").await;
    assert_eq!(
        (&row["read"], &row["channelsDelivered"], &row["metadata"]["place"]),
        (&json!(false), &json!(["IN_APP"]), &json!("quay"))
    );
    let inbox = bob.get(ROUTES).await.expect(200);
    assert_eq!((&inbox["total"], &inbox["unread"], &inbox["items"][0]["title"]), (&json!(1), &json!(1), &json!("Fog")));
    assert_eq!(bob.get(&format!("{ROUTES}/unread-count")).await.expect(200)["count"], 1);
    // A viewer marks the own inbox.
    let read = bob.put(&format!("{ROUTES}/{id}/read"), &json!({})).await.expect(200);
    assert!(read["read"] == true && read["readAt"].is_string(), "{read}");
    assert_eq!(bob.put(&format!("{ROUTES}/{id}/unread"), &json!({})).await.expect(200)["read"], false);
    assert_eq!(bob.put(&format!("{ROUTES}/read-all"), &json!({})).await.expect(200)["updated"], 1);
    assert_eq!(bob.get(&format!("{ROUTES}?read=false")).await.expect(200)["total"], 0);
    let stats = bob.get(&format!("{ROUTES}/stats")).await.expect(200);
    assert_eq!(
        (&stats["byStatus"]["DELIVERED"], &stats["byChannel"]["IN_APP"]["delivered"]),
        (&json!(1), &json!(1)),
        "{stats}"
    );
    bob.delete(&format!("{ROUTES}/{id}")).await.done(204);
    bob.get(&format!("{ROUTES}/{id}")).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn nobody_reads_another_users_inbox() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Admin").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let id = send(&ada, &ada, json!({})).await;
    becomes(&ada, &id, "DELIVERED").await;
    let path = format!("{ROUTES}/{id}");
    for other in [&bob, &eve] {
        let inbox = other.get(&format!("{ROUTES}?type=release.announced")).await.expect(200);
        assert_eq!(inbox["total"], 0);
        other.get(&format!("{ROUTES}?userId={}", members::id(&ada))).await.problem(403, "FORBIDDEN");
        other.get(&path).await.problem(404, "NOT_FOUND");
        other.put(&format!("{path}/read"), &json!({})).await.problem(404, "NOT_FOUND");
        other.post(&format!("{path}/acknowledge"), &json!({})).await.problem(404, "NOT_FOUND");
        other.delete(&path).await.problem(404, "NOT_FOUND");
    }
    eve.get(&format!("{path}/deliveries")).await.problem(404, "NOT_FOUND");
    eve.post(&format!("{path}/cancel"), &json!({})).await.problem(404, "NOT_FOUND");
    // Somebody of another organization cannot be told anything.
    send(&ada, &eve, json!({"dedupKey": "stray"})).await;
    given_up(&ada).await;
}

#[tokio::test]
async fn rights_and_bad_input_are_refused() {
    let (host, ada) = host_with_ada().await;
    let vic = members::bring(&host, &ada, "vic@example.com", "Viewer").await;
    let mia = members::bring(&host, &ada, "mia@example.com", "Member").await;
    let body = json!({"eventType": "x", "recipientIds": [members::id(&ada)], "title": "t", "body": "b"});
    vic.post(ROUTES, &body).await.problem(403, "FORBIDDEN");
    mia.post(ROUTES, &body).await.problem(403, "FORBIDDEN");
    let template = json!({"name": "n", "eventType": "x", "channel": "EMAIL", "body": "b"});
    vic.post(&format!("{ROUTES}/templates"), &template).await.problem(403, "FORBIDDEN");
    mia.post(&format!("{ROUTES}/templates"), &template).await.done(201);
    mia.post(&format!("{ROUTES}/templates"), &template).await.problem(409, "CONFLICT");
    let provider = json!({"code": "smtp", "channel": "EMAIL"});
    mia.post(&format!("{ROUTES}/providers"), &provider).await.problem(403, "FORBIDDEN");
    // It would bring everybody's news into her inbox.
    let chain = json!({"name": "all", "triggerCriticality": "LOW", "levels": [
        {"delayMinutes": 0, "channels": ["IN_APP"], "recipientType": "USER", "recipientId": members::id(&mia)}]});
    mia.post(&format!("{ROUTES}/escalation-chains"), &chain).await.problem(403, "FORBIDDEN");
    mia.put(&format!("{ROUTES}/preferences/ORGANIZATION"), &json!({})).await.problem(403, "FORBIDDEN");
    ada.put(&format!("{ROUTES}/preferences/GLOBAL"), &json!({"timezone": "Mars/Olympus"}))
        .await
        .problem(400, "VALIDATION_ERROR");
    for (path, body, field) in [
        ("", json!({"eventType": "x", "recipientIds": [], "title": "t", "body": "b"}), "recipientIds"),
        ("", json!({"eventType": "x", "recipientIds": vec!["u"; 501], "title": "t", "body": "b"}), "recipientIds"),
        (
            "",
            json!({"eventType": "x", "recipientIds": ["u"], "title": "t", "body": "b", "channels": ["PIGEON"]}),
            "channels[0]",
        ),
        ("/providers", json!({"code": "smtp", "channel": "SMS"}), "channel"),
        ("/webhooks", json!({"name": "n", "direction": "OUTGOING"}), "url"),
        ("/webhooks", json!({"name": "n", "direction": "OUTGOING", "url": "http://planning.internal/x"}), "url"),
        ("/webhooks", json!({"name": "n", "direction": "INCOMING", "authType": "NONE"}), "authType"),
        ("/escalation-chains", json!({"name": "n", "triggerCriticality": "HIGH", "levels": []}), "levels"),
    ] {
        let answer = ada.post(&format!("{ROUTES}{path}"), &body).await;
        answer.problem(400, "VALIDATION_ERROR");
        assert!(answer.faulty_fields().iter().any(|faulty| faulty == field), "{path} {body}: {}", answer.text());
    }
    let answer = ada
        .put(&format!("{ROUTES}/preferences/USER"), &json!({"channels": {"PIGEON": {}}, "quietHoursStart": "25:00"}))
        .await;
    assert_eq!(answer.faulty_fields(), ["channels.PIGEON", "quietHoursStart"], "{}", answer.text());
    ada.get(&format!("{ROUTES}/channels/PIGEON")).await.problem(404, "NOT_FOUND");
    ada.get(&format!("{ROUTES}/preferences/USER")).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn an_assigned_task_and_an_executed_plan_reach_the_inbox() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let project_id = plans::project(&ada, "Quay").await;
    let task = ada
        .post("/api/tasks", &json!({"projectId": project_id, "title": "Paint", "assignedTo": members::id(&bob)}))
        .await
        .expect(201);
    let told = arrives(&bob, "task.assigned").await;
    assert_eq!(
        (&told["title"], &told["criticality"], &told["sourceResourceId"], &told["sourceModule"]),
        (&json!("Task for you: Paint"), &json!("MEDIUM"), &task["id"], &json!("planning"))
    );
    let plan = plans::plan(&ada, &project_id, &plans::three_steps()).await;
    let path = format!("/api/plans/{}", text(&plan, "id"));
    ada.post(&format!("{path}/validate"), &json!({})).await.done(200);
    ada.post(&format!("{path}/approve"), &json!({})).await.done(200);
    let started = ada.post(&format!("{path}/execute"), &json!({})).await;
    assert!((200..300).contains(&started.status), "{}", started.text());
    let done = arrives(&ada, "execution.completed").await;
    assert_eq!(done["category"], "PROJECT_MANAGEMENT", "{done}");
    // What nobody has mapped creates nothing.
    let inbox = ada.get(&format!("{ROUTES}?limit=200")).await.expect(200);
    let kinds: Vec<&str> =
        inbox["items"].as_array().into_iter().flatten().filter_map(|item| item["type"].as_str()).collect();
    assert!(
        !kinds.iter().any(|kind| kind.starts_with("execution.step") || kind.starts_with("notification.")),
        "{kinds:?}"
    );
}

#[tokio::test]
async fn the_same_news_is_told_once_an_hour() {
    let (_host, ada) = host_with_ada().await;
    let body = json!({"eventType": "x.y", "recipientIds": [members::id(&ada)], "title": "t", "body": "b"});
    let first = ada.post(ROUTES, &body).await.expect(202);
    let again = ada.post(ROUTES, &body).await.expect(202);
    assert_eq!(
        (&first["recipientCount"], &again["recipientCount"], &again["duplicateCount"]),
        (&json!(1), &json!(0), &json!(1))
    );
    let other = json!({"eventType": "x.y", "recipientIds": [members::id(&ada)], "title": "t", "body": "c"});
    assert_eq!(ada.post(ROUTES, &other).await.expect(202)["recipientCount"], 1);
    let keyed = |text: &str| json!({"eventType": "x.y", "recipientIds": [members::id(&ada)], "title": text, "body": "b", "dedupKey": "k"});
    assert_eq!(ada.post(ROUTES, &keyed("one")).await.expect(202)["recipientCount"], 1);
    assert_eq!(ada.post(ROUTES, &keyed("two")).await.expect(202)["recipientCount"], 0);
    assert_eq!(ada.get(&format!("{ROUTES}/history?type=x.y")).await.expect(200)["total"], 3);
}

#[tokio::test]
async fn preferences_decide_what_comes_where_and_when() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let own = format!("{ROUTES}/preferences/USER");
    ada.put(
        &format!("{ROUTES}/preferences/ORGANIZATION"),
        &json!({"minCriticality": "HIGH", "timezone": "Europe/Berlin"}),
    )
    .await
    .done(200);
    let low = send(&ada, &bob, json!({"criticality": "LOW"})).await;
    assert_eq!(becomes(&bob, &low, "CANCELLED").await["statusReason"], "BELOW_MINIMUM_CRITICALITY");
    let until = (chrono::Utc::now() + chrono::TimeDelta::seconds(4)).to_rfc3339();
    let set = bob
        .put(
            &own,
            &json!({"minCriticality": "LOW", "dndUntil": until, "eventOverrides": {"spam.#": {"enabled": false}}}),
        )
        .await
        .expect(200);
    let merged = bob.put(&own, &json!({"quietDays": []})).await.expect(200);
    assert_eq!(
        (&merged["minCriticality"], &merged["version"]),
        (&json!("LOW"), &json!(set["version"].as_i64().unwrap_or(0) + 1))
    );
    let resolved = bob.get(&format!("{ROUTES}/preferences/resolved?eventType=task.assigned")).await.expect(200);
    assert_eq!(
        (&resolved["isQuiet"], &resolved["preferences"]["timezone"]),
        (&json!(true), &json!("Europe/Berlin")),
        "{resolved}"
    );
    let held = send(&ada, &bob, json!({"title": "held"})).await;
    let row = becomes(&bob, &held, "HELD").await;
    assert!(row["scheduledFor"].is_string() && row["statusReason"] == "QUIET_HOURS", "{row}");
    assert_eq!(bob.get(ROUTES).await.expect(200)["total"], 0, "quiet is quiet");
    let critical = send(&ada, &bob, json!({"title": "critical", "criticality": "CRITICAL"})).await;
    becomes(&bob, &critical, "DELIVERED").await;
    let spam = send(&ada, &bob, json!({"eventType": "spam.offer"})).await;
    assert_eq!(becomes(&bob, &spam, "CANCELLED").await["statusReason"], "NOT_WANTED");
    becomes(&bob, &held, "DELIVERED").await;
    bob.delete(&own).await.done(204);
    bob.get(&own).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn what_is_scheduled_waits_and_can_be_taken_back() {
    let (_host, ada) = host_with_ada().await;
    let soon = (chrono::Utc::now() + chrono::TimeDelta::seconds(2)).to_rfc3339();
    let later = (chrono::Utc::now() + chrono::TimeDelta::days(2)).to_rfc3339();
    let first = send(&ada, &ada, json!({"title": "soon", "scheduledFor": soon})).await;
    let second = send(&ada, &ada, json!({"title": "later", "scheduledFor": later})).await;
    assert_eq!(ada.get(&format!("{ROUTES}/{second}")).await.expect(200)["status"], "SCHEDULED");
    assert_eq!(ada.post(&format!("{ROUTES}/{second}/cancel"), &json!({})).await.expect(200)["status"], "CANCELLED");
    ada.post(&format!("{ROUTES}/{second}/cancel"), &json!({})).await.problem(409, "CONFLICT");
    becomes(&ada, &first, "DELIVERED").await;
    ada.post(&format!("{ROUTES}/{first}/cancel"), &json!({})).await.problem(409, "CONFLICT");
    let late = send(&ada, &ada, json!({"title": "late", "expiresAt": "2026-01-01T00:00:00Z"})).await;
    becomes(&ada, &late, "EXPIRED").await;
}

#[tokio::test]
async fn mail_goes_out_in_the_recipients_words_and_in_digests() {
    let Some(letterbox) = Letterbox::open().await else { return };
    let builder = Host::with(manifest(&[]))
        .variable("BERTH_SMTP_URL", &letterbox.url)
        .variable("BERTH_MAIL_FROM", "berth@example.com");
    let (host, ada) = started(builder).await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let provider =
        ada.post(&format!("{ROUTES}/providers"), &json!({"code": "smtp", "channel": "EMAIL"})).await.expect(201);
    let tested = ada.post(&format!("{ROUTES}/providers/{}/test", text(&provider, "id")), &json!({})).await.expect(200);
    assert_eq!(tested["success"], true, "{tested}");
    let template = json!({"name": "n", "eventType": "release.announced", "channel": "EMAIL", "locale": "de",
        "subject": "Neu: {{title}}", "body": "Hallo {{recipientName}}, {{message}} {{missing}}", "bodyHtml": "<p>{{title}}</p>"});
    let template = ada.post(&format!("{ROUTES}/templates"), &template).await.expect(201);
    assert_eq!(template["variables"], json!(["title", "recipientName", "message", "missing"]));
    let preview = ada
        .post(&format!("{ROUTES}/templates/{}/preview", text(&template, "id")), &json!({"variables": {"title": "<x>"}}))
        .await
        .expect(200);
    assert_eq!(
        (&preview["subject"], &preview["bodyHtml"]),
        (&json!("Neu: x"), &json!("<p>&lt;x&gt;</p>")),
        "{preview}"
    );
    ada.post(&format!("{ROUTES}/templates/{}/duplicate", text(&template, "id")), &json!({})).await.done(201);
    bob.put(&format!("{ROUTES}/preferences/USER"), &json!({"locale": "de-AT"})).await.done(200);
    let id = send(&ada, &bob, json!({"channels": ["EMAIL"]})).await;
    let sent = delivery(&bob, &id, "EMAIL", "SENT").await;
    assert!(sent["providerId"] == provider["id"] && sent["providerMessageId"].is_string(), "{sent}");
    becomes(&bob, &id, "DELIVERED").await;
    let mail = letterbox.letter("bob@example.com", "Neu: Fog", 1).await;
    assert!(mail.text.contains("Hallo The bob, Stay in."), "{mail:?}");
    assert!(host.log().contains("a template misses values"), "what was missing is in the log");

    bob.put(
        &format!("{ROUTES}/preferences/USER"),
        &json!({"channels": {"EMAIL": {"enabled": true, "digest": "HOURLY"}}}),
    )
    .await
    .done(200);
    let first = send(&ada, &bob, json!({"title": "One"})).await;
    let second = send(&ada, &bob, json!({"title": "Two"})).await;
    becomes(&bob, &first, "DELIVERED").await;
    delivery(&bob, &first, "EMAIL", "SENT").await;
    delivery(&bob, &second, "EMAIL", "SENT").await;
    let texts = letterbox.letters().into_iter().map(|letter| letter.text);
    let digests: Vec<String> = texts.filter(|mail| mail.contains("- One: ") || mail.contains("- Two: ")).collect();
    assert!(digests.len() <= 2 && digests.iter().any(|mail| mail.contains("- One: ")), "{digests:?}");
}

#[tokio::test]
async fn without_a_mail_server_the_test_says_so_and_the_inbox_has_it_anyway() {
    let (_host, ada) = host_with_ada().await;
    let provider =
        ada.post(&format!("{ROUTES}/providers"), &json!({"code": "smtp", "channel": "EMAIL"})).await.expect(201);
    let tested = ada.post(&format!("{ROUTES}/providers/{}/test", text(&provider, "id")), &json!({})).await.expect(200);
    assert_eq!((&tested["success"], &tested["code"]), (&json!(false), &json!("MAIL_UNAVAILABLE")), "{tested}");
    let id = send(&ada, &ada, json!({"criticality": "LOW", "channels": ["EMAIL"]})).await;
    let row = becomes(&ada, &id, "PARTIALLY_DELIVERED").await;
    assert_eq!(row["channelsDelivered"], json!(["IN_APP"]));
    let failed = delivery(&ada, &id, "EMAIL", "FAILED").await;
    assert_eq!((&failed["attemptCount"], &failed["maxAttempts"]), (&json!(2), &json!(2)), "{failed}");
    let ses = ada
        .post(&format!("{ROUTES}/providers"), &json!({"code": "ses", "channel": "EMAIL", "isActive": false}))
        .await
        .expect(201);
    let tested = ada.post(&format!("{ROUTES}/providers/{}/test", text(&ses, "id")), &json!({})).await.expect(200);
    assert_eq!(tested["code"], "NOT_IMPLEMENTED");
}

#[tokio::test]
async fn another_provider_and_then_another_channel_stand_in() {
    let (broken, working) = (Listener::start(503).await, Listener::start(200).await);
    let (_host, ada) = started(Host::with(manifest(&[&broken, &working]))).await;
    let provider = async |channel: &str, priority: i64, listener: &Listener| {
        let config = json!({"url": listener.url("/send"), "costMicro": 750_000});
        let body = json!({"code": "http", "channel": channel, "priority": priority, "config": config});
        ada.post(&format!("{ROUTES}/providers"), &body).await.expect(201)
    };
    let first = provider("SMS", 1, &broken).await;
    let second = provider("SMS", 2, &working).await;
    ada.put(
        &format!("{ROUTES}/preferences/USER"),
        &json!({"channels": {"SMS": {"address": "+15550100"}, "WHATSAPP": {"address": "+15550100"}}}),
    )
    .await
    .done(200);
    let id = send(&ada, &ada, json!({"channels": ["SMS"]})).await;
    let sent = delivery(&ada, &id, "SMS", "SENT").await;
    assert_eq!(
        (&sent["providerId"], &sent["attemptCount"], &sent["costMicro"]),
        (&second["id"], &json!(1), &json!(750_000))
    );
    let got = working.received();
    assert_eq!((got.len(), &got[0].json()["to"], &got[0].json()["subject"]), (1, &json!("+15550100"), &json!("Fog")));
    let health = ada.get(&format!("{ROUTES}/providers/{}", text(&first, "id"))).await.expect(200)["health"].clone();
    assert_eq!(health, "DEGRADED");
    // WhatsApp has one provider, which refuses for good: the text message stands in.
    broken.answer(400);
    provider("WHATSAPP", 1, &broken).await;
    let id = send(&ada, &ada, json!({"title": "Storm", "channels": ["WHATSAPP"]})).await;
    delivery(&ada, &id, "WHATSAPP", "FAILED").await;
    delivery(&ada, &id, "SMS", "SENT").await;
    becomes(&ada, &id, "PARTIALLY_DELIVERED").await;
    // Credentials belong into a secret, and a secret that is not there stops the call before it leaves.
    let body =
        json!({"code": "http", "channel": "PUSH", "config": {"url": working.url("/push")}, "secretId": "nowhere"});
    let locked = ada.post(&format!("{ROUTES}/providers"), &body).await.expect(201);
    let tested = ada
        .post(&format!("{ROUTES}/providers/{}/test", text(&locked, "id")), &json!({"to": "token"}))
        .await
        .expect(200);
    assert_eq!(tested["code"], "SECRET_UNAVAILABLE", "{tested}");
    assert!(working.received().iter().all(|request| !request.line.contains("/push")));
}

#[tokio::test]
async fn who_has_left_is_not_told() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let later = (chrono::Utc::now() + chrono::TimeDelta::seconds(2)).to_rfc3339();
    send(&ada, &bob, json!({"scheduledFor": later})).await;
    members::remove(&ada, &bob).await;
    given_up(&ada).await;
}

#[tokio::test]
async fn a_stream_brings_what_comes_and_only_the_own() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let old = send(&ada, &ada, json!({"title": "Before"})).await;
    becomes(&ada, &old, "DELIVERED").await;
    let request = ada.request(reqwest::Method::GET, &format!("{ROUTES}/stream"));
    let mut stream = request.send().await.expect("a stream");
    assert_eq!(stream.status(), 200);
    let secret = send(&ada, &bob, json!({"title": "For Bob"})).await;
    becomes(&bob, &secret, "DELIVERED").await;
    let id = send(&ada, &ada, json!({"title": "After"})).await;
    let mut seen = String::new();
    let read = tokio::time::timeout(Duration::from_secs(60), async {
        while !seen.contains("After") {
            let Some(chunk) = stream.chunk().await.expect("a chunk") else { break };
            seen.push_str(&String::from_utf8_lossy(&chunk));
        }
    });
    read.await.expect("the news within the minute");
    assert!(seen.contains("event: notification") && seen.contains(&id), "{seen}");
    assert!(!seen.contains("For Bob") && !seen.contains("Before"), "{seen}");
}

#[tokio::test]
async fn events_leave_as_cloud_events_until_a_webhook_fails_ten_times() {
    let (working, broken) = (Listener::start(204).await, Listener::start(500).await);
    let (host, ada) = started(Host::with(manifest(&[&working, &broken]))).await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let hook = async |listener: &Listener, types: Value| {
        let body = json!({"name": "h", "direction": "OUTGOING", "url": listener.url("/hook"), "eventTypes": types, "maxRetries": 0});
        ada.post(&format!("{ROUTES}/webhooks"), &body).await.expect(201)
    };
    let good = hook(&working, json!(["project.*"])).await;
    let bad = hook(&broken, json!(["project.created"])).await;
    eve.get(&format!("{ROUTES}/webhooks/{}", text(&good, "id"))).await.problem(404, "NOT_FOUND");
    let tested = ada.post(&format!("{ROUTES}/webhooks/{}/test", text(&good, "id")), &json!({})).await.expect(200);
    assert_eq!((&tested["success"], &tested["status"]), (&json!(true), &json!(204)));
    let project_id = plans::project(&ada, "Quay").await;
    eve.post("/api/projects", &json!({"name": "Reef"})).await.done(201);
    let call = eventually("the call", async || {
        working.received().into_iter().find(|request| request.json()["type"] == "project.created")
    })
    .await;
    let event = call.json();
    assert_eq!(call.header("content-type"), "application/cloudevents+json");
    assert_eq!(
        (&event["specversion"], &event["source"], &event["data"]["id"]),
        (&json!("1.0"), &json!("/berth/planning"), &json!(project_id))
    );
    for number in 0..10 {
        plans::project(&ada, &format!("Quay {number}")).await;
    }
    eventually("the broken webhook being switched off", async || {
        let row = ada.get(&format!("{ROUTES}/webhooks/{}", text(&bad, "id"))).await.expect(200);
        (row["isActive"] == false && row["failureCount"].as_i64() >= Some(10)).then_some(())
    })
    .await;
    let row = ada.get(&format!("{ROUTES}/webhooks/{}", text(&good, "id"))).await.expect(200);
    assert!(row["isActive"] == true && row["failureCount"] == 0 && row["lastSuccessAt"].is_string(), "{row}");
    assert!(
        working.received().iter().all(|request| request.json()["data"]["name"] != "Reef"),
        "another organization's event"
    );
}

#[tokio::test]
async fn a_call_from_outside_needs_a_signature() {
    let (host, ada) = host_with_ada().await;
    let body = json!({"name": "in", "direction": "INCOMING", "authType": "HMAC_SHA256", "authSecretId": "nowhere"});
    let hook = ada.post(&format!("{ROUTES}/webhooks"), &body).await.expect(201);
    let path = format!("{ROUTES}/webhooks/in/{}", text(&hook, "id"));
    let call = json!({"eventType": "x.y", "recipientIds": [members::id(&ada)], "title": "t", "body": "b"});
    let stranger = host.client();
    stranger.post(&path, &call).await.problem(401, "SIGNATURE_INVALID");
    let signed = |timestamp: i64| {
        let request = stranger.request(reqwest::Method::POST, &path).json(&call);
        request
            .header("berth-timestamp", timestamp.to_string())
            .header("berth-signature", format!("sha256={}", "ab".repeat(32)))
    };
    stranger.send(signed(17)).await.problem(401, "SIGNATURE_INVALID");
    let answer = stranger.send(signed(chrono::Utc::now().timestamp())).await;
    assert!(matches!(answer.status, 401 | 503), "{}", answer.text());
    stranger.post(&format!("{ROUTES}/webhooks/in/none"), &call).await.problem(404, "NOT_FOUND");
    assert_eq!(ada.get(&format!("{ROUTES}?type=x.y")).await.expect(200)["total"], 0);
}

#[tokio::test]
async fn webhooks_are_signed_and_checked_with_a_stored_secret() {
    let listener = Listener::start(200).await;
    let (host, ada) = started(Host::with(manifest(&[&listener]))).await;
    let key = "a long and random signing key 0123456789";
    let secret = json!({"name": "hook", "type": "GENERIC", "value": key, "services": ["notification-manager"]});
    let secret = ada.post("/api/secrets", &secret).await.expect(201);
    let body = json!({"name": "out", "direction": "OUTGOING", "url": listener.url("/hook"), "authType": "HMAC_SHA256",
        "authSecretId": secret["id"], "eventTypes": ["project.*"]});
    ada.post(&format!("{ROUTES}/webhooks"), &body).await.done(201);
    plans::project(&ada, "Quay").await;
    let call = eventually("the signed call", async || listener.received().into_iter().next()).await;
    let mac = |timestamp: &str, body: &[u8]| {
        let mut text = format!("{timestamp}.").into_bytes();
        text.extend_from_slice(body);
        format!("sha256={}", hmac(key.as_bytes(), &text))
    };
    assert_eq!(call.header("berth-signature"), mac(call.header("berth-timestamp"), &call.body));
    assert!(!host.log().contains(key));

    let body = json!({"name": "in", "direction": "INCOMING", "authType": "HMAC_SHA256", "authSecretId": secret["id"]});
    let hook = ada.post(&format!("{ROUTES}/webhooks"), &body).await.expect(201);
    let body = json!({"eventType": "x.y", "recipientIds": [members::id(&ada)], "title": "t", "body": "b"}).to_string();
    let stranger = host.client();
    let send = async |timestamp: i64, signature: String| {
        let request = stranger.request(reqwest::Method::POST, &format!("{ROUTES}/webhooks/in/{}", text(&hook, "id")));
        let request =
            request.header("content-type", "application/json").header("berth-timestamp", timestamp.to_string());
        stranger.send(request.header("berth-signature", signature).body(body.clone())).await
    };
    let now = chrono::Utc::now().timestamp();
    send(now, mac(&(now - 1).to_string(), body.as_bytes())).await.problem(401, "SIGNATURE_INVALID");
    send(now - 3_600, mac(&(now - 3_600).to_string(), body.as_bytes())).await.problem(401, "SIGNATURE_INVALID");
    for _ in 0..2 {
        send(now, mac(&now.to_string(), body.as_bytes())).await.done(202);
    }
    arrives(&ada, "x.y").await;
}

/// HMAC-SHA-256 in hexadecimal.
fn hmac(key: &[u8], text: &[u8]) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).expect("a key");
    mac.update(text);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}
