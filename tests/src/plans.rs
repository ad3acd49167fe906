//! Plans and their execution, as the promises need them.

use serde_json::{Value, json};

use crate::answer::text;
use crate::{Client, eventually};

/// A new project's id.
///
/// # Panics
/// When the host refuses.
pub async fn project(client: &Client, name: &str) -> String {
    text(&client.post("/api/projects", &json!({ "name": name })).await.expect(201), "id")
}

/// The three explicit steps: create a file, edit it, check it.
#[must_use]
pub fn three_steps() -> Value {
    json!([
        {"title": "Create", "type": "file_create", "params": {"path": "notes/hello.txt", "content": "hello world\n"},
            "expectedArtifacts": ["notes/hello.txt"]},
        {"title": "Edit", "type": "file_edit", "params": {"path": "notes/hello.txt", "search": "world", "replace": "harbour"},
            "expectedArtifacts": ["notes/hello.txt"]},
        {"title": "Check", "type": "validation", "params": {"assertions": [
            {"kind": "exists", "path": "notes/hello.txt"},
            {"kind": "contains", "path": "notes/hello.txt", "value": "hello harbour"}]}},
    ])
}

/// `count` steps that each create a file of their own.
#[must_use]
pub fn many_steps(count: usize) -> Value {
    let step = |number: usize| {
        let path = format!("files/{number:02}.txt");
        json!({"title": format!("File {number}"), "type": "file_create",
            "params": {"path": path, "content": format!("number {number}\n")}, "expectedArtifacts": [path]})
    };
    Value::Array((1..=count).map(step).collect())
}

/// A plan with explicit steps; its document.
///
/// # Panics
/// When the host refuses.
pub async fn plan(client: &Client, project_id: &str, steps: &Value) -> Value {
    let body = json!({"projectId": project_id, "title": "A plan", "intent": "Show that it works", "steps": steps});
    client.post("/api/plans", &body).await.expect(201)
}

/// A plan that may be executed; its id.
///
/// # Panics
/// When the host refuses, or the plan is not valid.
pub async fn ready_plan(client: &Client, steps: &Value) -> String {
    let project_id = project(client, "Harbour").await;
    let id = text(&plan(client, &project_id, steps).await, "id");
    let verdict = client.post(&format!("/api/plans/{id}/validate"), &json!({})).await.expect(200);
    assert_eq!(verdict["isValid"], true, "{verdict}");
    client.post(&format!("/api/plans/{id}/approve"), &json!({})).await.done(200);
    id
}

/// Starts the execution of a ready plan; its id.
///
/// # Panics
/// When the host refuses.
pub async fn execute(client: &Client, plan_id: &str) -> String {
    let started = client.post("/api/executions/execute", &json!({ "planId": plan_id })).await.expect(202);
    text(&started, "id")
}

/// Waits until an execution has one of the statuses; its document.
///
/// # Panics
/// When it gets none of them, or fails unexpectedly.
pub async fn reaches(client: &Client, execution_id: &str, statuses: &[&str]) -> Value {
    let path = format!("/api/executions/{execution_id}");
    eventually(&format!("one of {statuses:?}"), async || {
        let execution = client.get(&path).await.expect(200);
        let status = text(&execution, "status");
        let is_unexpected =
            matches!(status.as_str(), "failed" | "cancelled" | "rolled_back") && !statuses.contains(&status.as_str());
        assert!(!is_unexpected, "the execution is {status}: {execution}");
        statuses.contains(&status.as_str()).then_some(execution)
    })
    .await
}

/// Every event of an execution, asked for in small pages; checks that the sequence has no gap.
///
/// # Panics
/// When it has one.
pub async fn events(client: &Client, execution_id: &str) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let path = format!("/api/executions/{execution_id}/events?afterSequence={}&limit=7", all.len());
        let page = client.get(&path).await.expect(200);
        let items = page["items"].as_array().cloned().unwrap_or_default();
        if items.is_empty() {
            return all;
        }
        for event in items {
            assert_eq!(event["sequence"], all.len() + 1, "a gap: {event}");
            all.push(event);
        }
    }
}

/// The artifacts of an execution by path.
///
/// # Panics
/// When the host refuses.
pub async fn artifacts(client: &Client, execution_id: &str) -> Vec<Value> {
    let page = client.get(&format!("/api/executions/{execution_id}/artifacts?limit=200")).await.expect(200);
    page["items"].as_array().cloned().unwrap_or_default()
}
