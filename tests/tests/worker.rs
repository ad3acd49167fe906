//! `berth worker`: command steps on another machine, within an allow-list.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::process::{Child, Stdio};

use berth_tests::{Client, Host, plans};
use serde_json::{Value, json};

/// A worker that ends with the test, by its id.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn worker(host: &Host, client: &Client, allow: &str) -> Worker {
    let mut command = host.berth(&["worker", "--allow", allow, "--dir", "worker", "--name", "tester"]);
    command.env("BERTH_TOKEN", client.token()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let worker = Worker(command.spawn().expect("a worker"));
    berth_tests::eventually("the worker's registration", async || {
        let workers = client.get("/api/executions/workers").await.expect(200);
        (workers["total"].as_u64()? > 0).then_some(())
    })
    .await;
    worker
}

async fn run(client: &Client, params: Value) -> Value {
    let steps = json!([{"title": "Run", "type": "command", "params": params, "onFailure": "block",
        "postconditions": [{"kind": "absent", "path": "nothing"}]}]);
    let project_id = plans::project(client, "Quay").await;
    let plan_id = berth_tests::answer::text(&plans::plan(client, &project_id, &steps).await, "id");
    let verdict = client.post(&format!("/api/plans/{plan_id}/validate"), &json!({})).await.expect(200);
    assert_eq!(verdict["isValid"], true, "{verdict}");
    client.post(&format!("/api/plans/{plan_id}/approve"), &json!({})).await.done(200);
    let execution_id = plans::execute(client, &plan_id).await;
    let execution = plans::reaches(client, &execution_id, &["completed", "failed", "paused"]).await;
    let steps = client.get(&format!("/api/executions/{execution_id}/steps")).await.expect(200);
    json!({"status": execution["status"], "step": steps["items"][0]})
}

#[tokio::test]
async fn an_allowed_command_runs_and_its_output_comes_back() {
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let _worker = worker(&host, &ada, "echo").await;
    let outcome = run(&ada, json!({"command": "echo", "args": ["hello", "$HOME"]})).await;
    assert_eq!(outcome["status"], "completed", "{outcome}");
    assert!(outcome["step"]["output"].to_string().contains("hello $HOME"), "{outcome}");
}

#[tokio::test]
async fn a_command_that_is_not_allowed_fails() {
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let _worker = worker(&host, &ada, "echo").await;
    let outcome = run(&ada, json!({"command": "env"})).await;
    assert_ne!(outcome["status"], "completed", "{outcome}");
    assert!(outcome["step"].to_string().contains("does not allow"), "{outcome}");
}
