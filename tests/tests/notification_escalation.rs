//! notification-manager: how far news goes: up a chain until somebody takes note, up to so many an hour, to who is away, and on
//! a stream that goes on where it broke off.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use berth_tests::answer::text;
use berth_tests::event_stream::EventStream;
use berth_tests::listeners::Listener;
use berth_tests::{Client, Host, Letterbox, Manifest, eventually, members};
use serde_json::{Value, json};

const ROUTES: &str = "/api/notifications";

fn manifest() -> Manifest {
    Manifest::services().with("escalation = \"1m\"", "escalation = \"1s\"")
}

async fn started(builder: berth_tests::host::Builder) -> (Host, Client) {
    let host = builder.start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    (host, ada)
}

/// Tells somebody of a storm; the notification's id.
async fn tell(from: &Client, to: &Client, body: Value) -> String {
    let mut whole =
        json!({"eventType": "storm.near", "recipientIds": [members::id(to)], "title": "Storm", "body": "Stay in."});
    for (name, value) in body.as_object().into_iter().flatten() {
        whole[name] = value.clone();
    }
    let sent = from.post(ROUTES, &whole).await.expect(202);
    sent["notificationIds"][0].as_str().unwrap_or_default().to_owned()
}

/// What somebody has in the inbox that escalates another notification, once there is something.
async fn copies(client: &Client, root: &str) -> Vec<Value> {
    let inbox = client.get(&format!("{ROUTES}?limit=200")).await.expect(200);
    inbox["items"].as_array().into_iter().flatten().filter(|item| item["escalatedFrom"] == root).cloned().collect()
}

async fn copy(client: &Client, root: &str) -> Value {
    eventually("the copy", async || copies(client, root).await.pop()).await
}

/// The delivery of a notification by a channel, once it has been decided.
async fn outcome(client: &Client, id: &str, channel: &str) -> String {
    eventually(&format!("the delivery by {channel}"), async || {
        let all = client.get(&format!("{ROUTES}/{id}/deliveries")).await.expect(200);
        let found = all["items"].as_array().into_iter().flatten().find(|item| item["channel"] == channel).cloned();
        found.map(|item| text(&item, "status")).filter(|status| status != "PENDING" && status != "SENDING")
    })
    .await
}

/// Two hours pass for what is in the inbox; every next level is due by then.
async fn two_hours_pass(host: &Host) {
    let then = (chrono::Utc::now() - chrono::TimeDelta::hours(2)).format("%Y-%m-%dT%H:%M:%S.000Z");
    let sql = format!(
        "UPDATE notification_notifications SET inbox_at = '{then}', escalation_due_at = '{then}' WHERE escalation_level > 0"
    );
    host.store().change(&sql).await;
}

#[tokio::test]
async fn what_nobody_notes_goes_up_the_chain_and_no_further_than_somebody_notes_it() {
    let (host, ada) = started(Host::with(manifest())).await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let cleo = members::bring(&host, &ada, "cleo@example.com", "Viewer").await;
    let levels = json!([
        {"level": 1, "delayMinutes": 0, "channels": ["IN_APP"]},
        {"level": 2, "delayMinutes": 0, "channels": ["IN_APP"], "recipientType": "USER", "recipientId": members::id(&bob)},
        {"level": 3, "delayMinutes": 60, "channels": ["IN_APP"], "recipientType": "ROLE", "recipientId": "Viewer"},
    ]);
    let chain =
        json!({"name": "Storms", "triggerCriticality": "HIGH", "triggerEventTypes": ["storm.#"], "levels": levels});
    let chain = ada.post(&format!("{ROUTES}/escalation-chains"), &chain).await.expect(201);
    let calm = tell(&ada, &ada, json!({"eventType": "storm.far", "criticality": "MEDIUM"})).await;
    let noted = tell(&ada, &ada, json!({"title": "Fog", "criticality": "HIGH"})).await;
    let unnoted = tell(&ada, &ada, json!({"criticality": "HIGH"})).await;
    let shown = copy(&bob, &noted).await;
    assert_eq!(shown["title"], "Fog", "{shown}");
    copy(&bob, &unnoted).await;
    let row = async |id: &str| ada.get(&format!("{ROUTES}/{id}")).await.expect(200);
    for id in [&noted, &unnoted] {
        let row = eventually("the second level", async || {
            let row = row(id).await;
            (row["escalationLevel"] == 2).then_some(row)
        })
        .await;
        assert_eq!((&row["escalationChainId"], &row["acknowledgedAt"]), (&chain["id"], &Value::Null));
    }
    assert_eq!(row(&calm).await["escalationLevel"], 0);
    // Whoever takes note of the copy takes note for all, and then the third level tells nobody.
    bob.post(&format!("{ROUTES}/{}/acknowledge", text(&shown, "id")), &json!({})).await.done(200);
    assert!(row(&noted).await["acknowledgedAt"].is_string());
    assert!(copies(&cleo, &unnoted).await.is_empty(), "before its time");
    two_hours_pass(&host).await;
    copy(&cleo, &unnoted).await;
    // The two were due at once; a third one comes after both.
    let later = tell(&ada, &ada, json!({"title": "Hail", "criticality": "HIGH"})).await;
    copy(&bob, &later).await;
    assert!(copies(&cleo, &noted).await.is_empty(), "somebody has taken note");
    assert_eq!(row(&noted).await["escalationLevel"], 2);
}

#[tokio::test]
async fn a_resolved_incident_ends_what_waits_for_that_and_not_what_happens_always() {
    let (host, ada) = started(Host::with(manifest())).await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let cleo = members::bring(&host, &ada, "cleo@example.com", "Member").await;
    let level = |number: i64, condition: &str, to: &Client| {
        json!({"level": number, "delayMinutes": 30 * number, "channels": ["IN_APP"], "escalateIf": condition,
            "recipientType": "USER", "recipientId": members::id(to)})
    };
    let first = json!({"level": 1, "delayMinutes": 0, "channels": ["IN_APP"]});
    let chain = json!({"name": "Leaks", "triggerCriticality": "HIGH", "triggerEventTypes": ["incident.created"],
        "levels": [first, level(2, "NOT_RESOLVED", &bob), level(3, "ALWAYS", &cleo)]});
    ada.post(&format!("{ROUTES}/escalation-chains"), &chain).await.done(201);
    let incident = async |title: &str| {
        let made = ada.post("/api/incidents", &json!({"title": title, "severity": "high"})).await.expect(201);
        let root = eventually("the news", async || {
            let inbox = ada.get(&format!("{ROUTES}?type=incident.created&limit=200")).await.expect(200);
            let items = inbox["items"].as_array().cloned().unwrap_or_default();
            items.into_iter().find(|item| item["sourceResourceId"] == made["id"])
        })
        .await;
        (text(&made, "id"), text(&root, "id"))
    };
    let (open, (dry, resolved)) = (incident("Fire").await.1, incident("Leak").await);
    ada.put(&format!("/api/incidents/{dry}/resolve"), &json!({"comment": "Dry"})).await.done(200);
    eventually("the end of the leak", async || {
        let inbox = ada.get(&format!("{ROUTES}?type=incident.resolved")).await.expect(200);
        (inbox["total"] == 1).then_some(())
    })
    .await;
    two_hours_pass(&host).await;
    for root in [&open, &resolved] {
        copy(&cleo, root).await;
    }
    assert_eq!((copies(&bob, &open).await.len(), copies(&bob, &resolved).await.len()), (1, 0));
}

#[tokio::test]
async fn an_hour_has_so_many_messages_and_who_is_there_gets_no_mail() {
    let Some(letterbox) = Letterbox::open().await else { return };
    let listener = Listener::start(200).await;
    let outbound = format!("outbound = [{:?}]\noutbound_private = [\"127.0.0.1\"]", listener.address());
    let manifest = manifest()
        .with("outbound = [\"*\"]\nsecrets = true\nmail = true", &format!("{outbound}\nsecrets = true\nmail = true"));
    let builder = Host::with(manifest)
        .variable("BERTH_SMTP_URL", &letterbox.url)
        .variable("BERTH_MAIL_FROM", "berth@example.com");
    let (_host, ada) = started(builder).await;
    let provider = json!({"code": "http", "channel": "SMS", "config": {"url": listener.url("/send")}});
    ada.post(&format!("{ROUTES}/providers"), &provider).await.done(201);
    let channels = json!({"SMS": {"address": "+15550100"}, "EMAIL": {"enabled": true, "onlyWhenOffline": true}});
    ada.put(&format!("{ROUTES}/preferences/USER"), &json!({ "channels": channels })).await.done(200);
    // Ten an hour; an hour may end meanwhile, and twenty-two are too many for two.
    let mut outcomes = Vec::new();
    for number in 0..22 {
        let id = tell(&ada, &ada, json!({"title": format!("Storm {number}"), "channels": ["SMS"]})).await;
        outcomes.push(outcome(&ada, &id, "SMS").await);
    }
    let sent = outcomes.iter().filter(|status| status.as_str() == "SENT").count();
    assert!((10..=20).contains(&sent), "{outcomes:?}");
    assert!(outcomes.iter().all(|status| status == "SENT" || status == "REJECTED"), "{outcomes:?}");
    assert_eq!(listener.received().len(), sent, "what is over the limit does not leave");
    let critical = tell(&ada, &ada, json!({"title": "Now", "criticality": "CRITICAL", "channels": ["SMS"]})).await;
    assert_eq!(outcome(&ada, &critical, "SMS").await, "SENT", "what is critical is not limited");

    // Mail goes to who is away; an open stream says that they are not.
    let smtp = json!({"code": "smtp", "channel": "EMAIL"});
    ada.post(&format!("{ROUTES}/providers"), &smtp).await.done(201);
    let away = tell(&ada, &ada, json!({"title": "Away"})).await;
    assert_eq!(outcome(&ada, &away, "EMAIL").await, "SENT");
    let mut stream = EventStream::open(&ada, &format!("{ROUTES}/stream"), None).await.expect("a stream");
    let here = tell(&ada, &ada, json!({"title": "Here"})).await;
    let first = stream.wait_for("notification").await;
    assert_eq!(first.data["id"], here.as_str(), "{}", first.data);
    let deliveries = ada.get(&format!("{ROUTES}/{here}/deliveries")).await.expect(200);
    assert_eq!(
        (&deliveries["total"], &deliveries["items"][0]["channel"]),
        (&json!(1), &json!("IN_APP")),
        "{deliveries}"
    );

    // A stream that broke off goes on after what it brought last: nothing twice, and nothing left out.
    drop(stream);
    let missed = tell(&ada, &ada, json!({"title": "Missed"})).await;
    eventually("what was missed", async || {
        (ada.get(&format!("{ROUTES}/{missed}")).await.expect(200)["status"] == "DELIVERED").then_some(())
    })
    .await;
    let path = format!("{ROUTES}/stream");
    let mut stream = EventStream::open(&ada, &path, first.id.as_deref()).await.expect("a stream");
    assert_eq!(stream.wait_for("notification").await.data["id"], missed.as_str());
    let last = tell(&ada, &ada, json!({"title": "Last"})).await;
    assert_eq!(stream.wait_for("notification").await.data["id"], last.as_str());
}
