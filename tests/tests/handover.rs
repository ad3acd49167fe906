//! Messages and ticks while a plugin's builds follow each other.
#![expect(clippy::panic, reason = "a test that cannot go on fails")]

use std::time::Duration;

use berth_tests::{Client, Host, Manifest, eventually, guests, manifest};
use reqwest::Method;
use serde_json::json;

/// Puts a build in front without waiting for the old one to go.
async fn swap(operator: &Client, component: Vec<u8>) {
    let request = operator.request(Method::POST, "/api/admin/plugins/ledger/deploy");
    let answer = operator.send(request.header("content-type", "application/wasm").body(component)).await;
    // With a database that hosts share, this one may be looking at what was recorded a moment ago.
    assert!(matches!(answer.status, 202 | 409), "{}: {}", answer.status, answer.text());
}

/// Publishes events in a hundred at a time, and again what was turned away.
async fn publish(client: Client, events: u64) {
    let mut from = 0;
    while from < events {
        let answer = client.post("/ledger/publish", &json!({ "from": from, "count": 100 })).await;
        match answer.status {
            200 => from += 100,
            503 => tokio::time::sleep(Duration::from_millis(50)).await,
            status => panic!("{status}: {}", answer.text()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_and_ticks_are_handled_once_each_while_builds_change() {
    const EVENTS: u64 = 3_000;
    const TICKS: u64 = 5;
    let beating = manifest::ledger().with("[plugin.timers]\nbeat = \"1s\"");
    let host = Host::with(Manifest::of([beating])).start().await;
    let (client, operator) = (host.client(), host.operator());
    let component = guests::bytes(&guests::fixture("ledger"));
    let publishing = tokio::spawn(publish(client.clone(), EVENTS));
    let mut swaps = 0;
    let figures = eventually("every event and some ticks", async || {
        swaps += 1;
        swap(&operator, guests::variant(&component, swaps % 2)).await;
        let figures = client.get("/ledger").await.expect(200);
        let number = |name: &str| figures[name].as_u64().unwrap_or_default();
        (number("events") >= EVENTS && number("ticks") >= TICKS).then_some(figures)
    })
    .await;
    publishing.await.expect("everything was published");
    assert!(swaps >= 10, "only {swaps} swaps, that shows nothing");
    assert_eq!((&figures["events"], &figures["entries"]), (&json!(EVENTS), &json!(EVENTS)), "{figures}");
    assert_eq!(figures["ticks"], figures["moments"], "a tick came twice: {figures}");
    let queues = operator.get("/api/admin/queues").await.expect(200);
    let queue = queues["items"].as_array().and_then(|all| all.iter().find(|queue| queue["name"] == "ledger"));
    assert_eq!(queue.expect("the queue")["deadLetters"], 0, "{queues}");
}
