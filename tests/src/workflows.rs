//! Workflows and their runs, as the promises need them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::answer::{Answer, text};
use crate::{Client, Manifest, eventually};

const ROUTES: &str = "/api/workflows";

/// A manifest in which the timers of workflows do not keep a test waiting, and their steps may call these addresses on loopback.
///
/// # Panics
/// When the manifest does not look as it should.
#[must_use]
pub fn near(manifest: Manifest, addresses: &[String]) -> Manifest {
    let names: Vec<String> = addresses.iter().map(|address| format!("{address:?}")).collect();
    let outbound = format!("outbound = [{}]\noutbound_private = [\"127.0.0.1\"]", names.join(", "));
    manifest
        .with(
            "outbound = []\n# The host checks the signatures of webhooks",
            &format!("{outbound}\n# The host checks the signatures of webhooks"),
        )
        .with("schedules = \"1m\"\ntimeouts = \"1m\"", "schedules = \"1s\"\ntimeouts = \"1s\"")
}

/// A workflow that is active; its id.
///
/// # Panics
/// When the host refuses.
pub async fn active(client: &Client, body: Value) -> String {
    let id = text(&client.post(ROUTES, &body).await.expect(201), "id");
    client.post(&format!("{ROUTES}/{id}/activate"), &json!({})).await.done(200);
    id
}

/// A workflow by its name and steps.
#[must_use]
pub fn named(name: &str, steps: Value) -> Value {
    json!({"name": name, "definition": {"steps": steps}})
}

/// Starts a run; its id.
///
/// # Panics
/// When the host refuses.
pub async fn execute(client: &Client, id: &str, input: Value) -> String {
    let body = json!({ "input": input });
    text(&client.post(&format!("{ROUTES}/{id}/execute"), &body).await.expect(202), "runId")
}

/// Waits until a run has a status; its document.
///
/// # Panics
/// When the host refuses.
pub async fn becomes(client: &Client, run_id: &str, status: &str) -> Value {
    let path = format!("{ROUTES}/runs/{run_id}");
    eventually(&format!("run {status}"), async || {
        let answer = client.get(&path).await;
        if answer.status == 404 {
            return None;
        }
        let run = answer.expect(200);
        let is_over = ["completed", "failed", "cancelled", "timeout"].contains(&text(&run, "status").as_str());
        assert!(run["status"] == status || !is_over, "it is {run}");
        (run["status"] == status).then_some(run)
    })
    .await
}

/// The steps of a run, by key.
///
/// # Panics
/// When the host refuses.
pub async fn steps(client: &Client, run_id: &str) -> BTreeMap<String, Value> {
    let page = client.get(&format!("{ROUTES}/runs/{run_id}/steps?limit=200")).await.expect(200);
    let items = page["items"].as_array().cloned().unwrap_or_default();
    items.into_iter().map(|step| (text(&step, "key"), step)).collect()
}

/// The history of a run, in small pages; it has no gap.
///
/// # Panics
/// When the host refuses.
pub async fn history(client: &Client, run_id: &str) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let path = format!("{ROUTES}/runs/{run_id}/events?afterSequence={}&limit=9", all.len());
        let items = client.get(&path).await.expect(200)["items"].as_array().cloned().unwrap_or_default();
        if items.is_empty() {
            return all;
        }
        for event in items {
            assert_eq!(event["sequence"], all.len() + 1, "a gap: {event}");
            all.push(event);
        }
    }
}

/// How many events of a type tell of a step.
#[must_use]
pub fn count(events: &[Value], kind: &str, step: &str) -> usize {
    events.iter().filter(|event| event["type"] == kind && event["stepId"] == step).count()
}

/// The runs of a workflow, when there are as many as expected.
///
/// # Panics
/// When the host refuses.
pub async fn runs(client: &Client, id: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} runs"), async || {
        let page = client.get(&format!("{ROUTES}/{id}/runs?order=asc&sortBy=createdAt")).await.expect(200);
        let items = page["items"].as_array().cloned().unwrap_or_default();
        assert!(items.len() <= count, "too many runs: {page}");
        (items.len() == count).then_some(items)
    })
    .await
}

/// The one approval that waits for somebody.
///
/// # Panics
/// When the host refuses.
pub async fn approval(client: &Client) -> Value {
    eventually("an approval", async || {
        let page = client.get(&format!("{ROUTES}/approvals")).await.expect(200);
        page["items"].as_array().and_then(|items| items.first().cloned())
    })
    .await
}

/// Says `approve` or `reject`.
///
/// # Panics
/// When the host refuses.
pub async fn decide(client: &Client, approval: &Value, word: &str) -> Answer {
    client.post(&format!("{ROUTES}/approvals/{}/{word}", text(approval, "id")), &json!({"comment": "seen"})).await
}
