//! Services that work together, seen from outside: what is done in one of them becomes news, webhooks, usage and prices in others.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use berth_tests::answer::text;
use berth_tests::listeners::Listener;
use berth_tests::{Client, Host, Letterbox, Manifest, eventually, members, plans};
use serde_json::{Value, json};

const INBOX: &str = "/api/notifications";

/// The services with timers that do not keep a test waiting, and loopback as a place that notifications may call.
fn manifest(listener: &Listener) -> Manifest {
    let outbound = format!("outbound = [{:?}]\noutbound_private = [\"127.0.0.1\"]", listener.address());
    Manifest::services()
        .with("digest = \"5m\"\nheld = \"1m\"", "digest = \"1s\"\nheld = \"1s\"")
        .with("outbound = [\"*\"]\nsecrets = true\nmail = true", &format!("{outbound}\nsecrets = true\nmail = true"))
        .with("expiry = \"daily\"", "expiry = \"1s\"")
}

/// Waits for one piece of news of a type in the caller's inbox.
async fn news(client: &Client, kind: &str) -> Value {
    eventually(&format!("{kind} in the inbox"), async || {
        let inbox = client.get(&format!("{INBOX}?type={kind}")).await.expect(200);
        (inbox["total"] == 1).then(|| inbox["items"][0].clone())
    })
    .await
}

#[tokio::test]
async fn an_executed_plan_is_news_a_webhook_usage_with_a_price_and_a_limit_that_is_told() {
    let listener = Listener::start(204).await;
    let host = Host::with(manifest(&listener)).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let key = "hook-token-0123456789";
    let secret = json!({"name": "hook", "type": "API_KEY", "value": key, "services": ["notification-manager"]});
    let secret = ada.post("/api/secrets", &secret).await.expect(201);
    let hook = json!({"name": "out", "direction": "OUTGOING", "url": listener.url("/hook"), "authType": "BEARER",
        "authSecretId": secret["id"], "eventTypes": ["execution.completed", "usage.quota.*"]});
    ada.post(&format!("{INBOX}/webhooks"), &hook).await.done(201);
    let price = json!({"categoryCode": "compute.agent", "pricingModel": "PER_UNIT", "unitPriceMicro": 2_500,
        "effectiveFrom": "2026-01-01T00:00:00Z"});
    ada.post("/api/usage/pricing", &price).await.done(201);
    let quota = json!({"name": "Plans a day", "categoryCode": "compute.*", "metricKey": "count", "period": "DAILY", "limitValue": 1});
    let quota = ada.post("/api/usage/quotas", &quota).await.expect(201);

    let plan = plans::ready_plan(&ada, &plans::three_steps()).await;
    let execution = plans::execute(&ada, &plan).await;
    plans::reaches(&ada, &execution, &["completed"]).await;

    // The news: of the execution, of the plan, and of the limit that this was.
    let done = news(&ada, "execution.completed").await;
    assert_eq!(
        (&done["sourceResourceId"], &done["sourceModule"], &done["status"]),
        (&json!(execution), &json!("execution-service"), &json!("DELIVERED")),
        "{done}"
    );
    let planned = news(&ada, "planning.plan.executed").await;
    assert_eq!(
        (&planned["title"], &planned["sourceResourceId"]),
        (&json!("Plan executed: success"), &json!(plan)),
        "{planned}"
    );
    let told = news(&ada, "usage.quota.exceeded").await;
    assert_eq!(
        (&told["message"], &told["sourceResourceId"], &told["category"]),
        (&json!("Plans a day: 1 of 1 used."), &quota["id"], &json!("BILLING")),
        "{told}"
    );
    // The usage: one event, priced, and on the bill.
    let used = ada.get("/api/usage/events?categoryCode=compute.agent").await.expect(200);
    assert_eq!(
        (&used["total"], &used["items"][0]["costMicro"], &used["items"][0]["sourceResourceId"]),
        (&json!(1), &json!(2_500), &json!(execution)),
        "{used}"
    );
    assert_eq!(ada.get("/api/usage/billing").await.expect(200)["totalCostMicro"], 2_500);
    // The webhook: both, with a token that the host put in and nobody logged.
    for kind in ["execution.completed", "usage.quota.exceeded"] {
        let call =
            eventually(kind, async || listener.received().into_iter().find(|request| request.json()["type"] == kind))
                .await;
        assert_eq!(call.header("authorization"), format!("Bearer {key}"));
        assert_eq!(call.header("content-type"), "application/cloudevents+json");
    }
    let uses = ada.get(&format!("/api/secrets/{}/usage", text(&secret, "id"))).await.expect(200);
    assert_eq!(uses["items"][0]["consumerModule"], "notification-manager", "{uses}");
    assert!(!host.log().contains(key));
}

#[tokio::test]
async fn the_end_of_a_users_secret_is_told_to_that_user_alone() {
    let listener = Listener::start(204).await;
    let host = Host::with(manifest(&listener)).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let soon = (chrono::Utc::now() + chrono::TimeDelta::days(5)).to_rfc3339();
    let own = json!({"name": "own-token", "type": "GENERIC", "value": "x", "scope": "USER", "expiresAt": soon});
    let own = bob.post("/api/secrets", &own).await.expect(201);
    let told = news(&bob, "secret.expiring").await;
    assert_eq!((&told["title"], &told["sourceResourceId"]), (&json!("A secret expires soon: own-token"), &own["id"]));
    // One of the organization is the administrators' concern. It comes after the other one, of which they hear nothing.
    let shared = json!({"name": "shared-token", "type": "GENERIC", "value": "x", "expiresAt": soon});
    ada.post("/api/secrets", &shared).await.done(201);
    let told = news(&ada, "secret.expiring").await;
    assert_eq!(told["title"], "A secret expires soon: shared-token");
    assert_eq!(bob.get(&format!("{INBOX}?type=secret.expiring")).await.expect(200)["total"], 1);
    // A secret is found by its exact name.
    let found = ada.get("/api/secrets?name=shared-token").await.expect(200);
    assert_eq!((&found["total"], &found["items"][0]["name"]), (&json!(1), &json!("shared-token")), "{found}");
    assert_eq!(ada.get("/api/secrets?name=shared").await.expect(200)["total"], 0);
}

#[tokio::test]
async fn what_is_held_is_not_read_with_everything_else() {
    let listener = Listener::start(204).await;
    let host = Host::with(manifest(&listener)).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let send = async |title: &str| {
        let body = json!({"eventType": "x.y", "recipientIds": [members::id(&ada)], "title": title, "body": "b"});
        text(&json!({"id": ada.post(INBOX, &body).await.expect(202)["notificationIds"][0]}), "id")
    };
    let becomes = async |id: &str, status: &str| {
        eventually(status, async || {
            let row = ada.get(&format!("{INBOX}/{id}")).await.expect(200);
            (row["status"] == status).then_some(row)
        })
        .await
    };
    let seen = send("Seen").await;
    becomes(&seen, "DELIVERED").await;
    let until = (chrono::Utc::now() + chrono::TimeDelta::hours(5)).to_rfc3339();
    let own = format!("{INBOX}/preferences/USER");
    ada.put(&own, &json!({"dndUntil": until})).await.done(200);
    let held = send("Held").await;
    becomes(&held, "HELD").await;
    // The welcome may arrive meanwhile; what is held counts in neither.
    eventually("both counts being the same", async || {
        let counted = ada.get(&format!("{INBOX}/unread-count")).await.expect(200)["count"].clone();
        (ada.get(&format!("{INBOX}/stats")).await.expect(200)["unread"] == counted).then_some(())
    })
    .await;
    assert!(ada.put(&format!("{INBOX}/read-all"), &json!({})).await.expect(200)["updated"].as_i64() >= Some(1));
    assert_eq!(ada.get(&format!("{INBOX}/{seen}")).await.expect(200)["read"], true);
    assert_eq!(ada.get(&format!("{INBOX}/{held}")).await.expect(200)["read"], false, "nobody has seen it");
    // A provider is no way into another plugin, and a call from outside is judged before it is taken.
    for url in ["http://host.internal/api/users", "http://Secret-Management.INTERNAL/api/secrets"] {
        let provider = json!({"code": "http", "channel": "SMS", "config": {"url": url}});
        let answer = ada.post(&format!("{INBOX}/providers"), &provider).await;
        answer.problem(400, "VALIDATION_ERROR");
        assert_eq!(answer.faulty_fields(), ["config.url"], "{url}");
        let hook = json!({"name": "h", "direction": "OUTGOING", "url": url});
        ada.post(&format!("{INBOX}/webhooks"), &hook).await.problem(400, "VALIDATION_ERROR");
    }
}

#[tokio::test]
async fn a_digest_of_more_than_one_mail_holds_loses_nothing() {
    let Some(letterbox) = Letterbox::open().await else { return };
    let listener = Listener::start(204).await;
    let manifest = manifest(&listener)
        .with("escalation = \"1m\"", "escalation = \"1m\"\n\n[plugin.config]\ndigest_hourly_seconds = \"20\"");
    let host = Host::with(manifest)
        .variable("BERTH_SMTP_URL", &letterbox.url)
        .variable("BERTH_MAIL_FROM", "berth@example.com")
        .start()
        .await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let wishes = json!({"channels": {"IN_APP": {"enabled": false}, "EMAIL": {"enabled": true, "digest": "HOURLY"}}});
    ada.put(&format!("{INBOX}/preferences/USER"), &wishes).await.done(200);
    ada.post(&format!("{INBOX}/providers"), &json!({"code": "smtp", "channel": "EMAIL"})).await.done(201);
    for number in 0..205 {
        let body = json!({"eventType": "x.y", "recipientIds": [members::id(&ada)], "title": format!("N{number}."), "body": "b"});
        ada.post(INBOX, &body).await.done(202);
    }
    eventually("every entry in a mail", async || {
        let mails: String = letterbox.letters().into_iter().map(|letter| letter.text).collect();
        (0..205).all(|number| mails.contains(&format!("- N{number}.: b"))).then_some(())
    })
    .await;
    eventually("every notification being delivered", async || {
        let stats = ada.get(&format!("{INBOX}/stats")).await.expect(200);
        (stats["byStatus"]["DELIVERED"].as_i64() >= Some(205)).then_some(())
    })
    .await;
}
