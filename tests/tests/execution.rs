//! execution-service: plans that run, pause, survive and replay.

use std::collections::BTreeMap;

use berth_tests::answer::text;
use berth_tests::members::host_with_ada;
use berth_tests::{guests, plans};
use reqwest::Method;
use serde_json::{Value, json};

/// How often each step has completed, by its id.
fn completions(events: &[Value]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for event in events.iter().filter(|event| event["type"] == "execution.step.completed") {
        *counts.entry(text(event, "stepId")).or_insert(0) += 1;
    }
    counts
}

#[tokio::test]
async fn three_explicit_steps_run_to_their_end() {
    let (_host, ada) = host_with_ada().await;
    let plan_id = plans::ready_plan(&ada, &plans::three_steps()).await;
    let execution_id = plans::execute(&ada, &plan_id).await;
    let execution = plans::reaches(&ada, &execution_id, &["completed"]).await;
    assert_eq!((&execution["completedSteps"], &execution["totalSteps"]), (&json!(3), &json!(3)), "{execution}");
    let events = plans::events(&ada, &execution_id).await;
    assert_eq!(completions(&events).values().copied().collect::<Vec<_>>(), [1, 1, 1], "{events:#?}");
    assert_eq!(events.first().map(|event| event["type"].clone()), Some(json!("execution.started")));
    assert_eq!(events.last().map(|event| event["type"].clone()), Some(json!("execution.completed")));
    let artifacts = plans::artifacts(&ada, &execution_id).await;
    let last = artifacts.iter().rfind(|artifact| artifact["path"] == "notes/hello.txt").expect("the file");
    assert!(last.to_string().contains("hello harbour") || last["afterHash"].is_string(), "{last}");
    // planning has heard of it.
    berth_tests::eventually("the plan's completion", async || {
        let plan = ada.get(&format!("/api/plans/{plan_id}")).await.expect(200);
        (plan["status"] == "completed").then_some(())
    })
    .await;
    let beyond = ada.get(&format!("/api/executions/{execution_id}/events?afterSequence=100000")).await.expect(200);
    assert_eq!(beyond["items"], json!([]));
}

#[tokio::test]
async fn planning_delegates_and_a_second_run_of_the_plan_waits() {
    let (_host, ada) = host_with_ada().await;
    let plan_id = plans::ready_plan(&ada, &plans::many_steps(20)).await;
    let started = ada.post(&format!("/api/plans/{plan_id}/execute"), &json!({})).await.expect(202);
    let execution_id = text(&started, "executionId");
    let second = ada.post("/api/executions/execute", &json!({ "planId": plan_id })).await;
    if second.status != 409 {
        // The first one was faster than the second request.
        plans::reaches(&ada, &execution_id, &["completed"]).await;
        return;
    }
    assert_eq!(second.json()["executionId"], execution_id.as_str(), "{}", second.text());
    ada.put(&format!("/api/plans/{plan_id}"), &json!({"title": "Other"})).await.problem(409, "PLAN_EXECUTING");
    plans::reaches(&ada, &execution_id, &["completed"]).await;
}

#[tokio::test]
async fn a_pause_holds_and_later_steps_can_change_meanwhile() {
    let (_host, ada) = host_with_ada().await;
    let plan_id = plans::ready_plan(&ada, &plans::many_steps(20)).await;
    let execution_id = plans::execute(&ada, &plan_id).await;
    let path = format!("/api/executions/{execution_id}");
    let paused = ada.post(&format!("{path}/pause"), &json!({})).await;
    assert!(matches!(paused.status, 200 | 202), "{}", paused.text());
    let before = plans::reaches(&ada, &execution_id, &["paused"]).await;
    ada.post(&format!("{path}/pause"), &json!({})).await.done(200);
    let document = ada.get(&format!("{path}/plan")).await;
    let mut plan = document.expect(200);
    assert_eq!(ada.get(&path).await.expect(200)["completedSteps"], before["completedSteps"], "it went on while paused");
    let steps = plan["steps"].as_array_mut().expect("steps");
    let last = steps.last_mut().expect("a step");
    last["params"]["content"] = json!("changed while paused\n");
    let changed = ada.put(&format!("{path}/plan"), &json!({"steps": plan["steps"], "reason": "a better text"})).await;
    changed.done(200);
    let resumed = ada.post(&format!("{path}/resume"), &json!({})).await;
    assert!(matches!(resumed.status, 200 | 202), "{}", resumed.text());
    plans::reaches(&ada, &execution_id, &["completed"]).await;
    let events = plans::events(&ada, &execution_id).await;
    assert!(events.iter().any(|event| event["type"] == "execution.plan.updated"), "no event of the change");
    assert!(completions(&events).values().all(|count| *count == 1));
    assert_eq!(completions(&events).len(), 20);
    ada.post(&format!("{path}/pause"), &json!({})).await.problem(409, "EXECUTION_TERMINAL");
}

#[tokio::test]
async fn a_running_plan_cannot_be_changed() {
    let (_host, ada) = host_with_ada().await;
    let plan_id = plans::ready_plan(&ada, &plans::many_steps(20)).await;
    let execution_id = plans::execute(&ada, &plan_id).await;
    let path = format!("/api/executions/{execution_id}/plan");
    let plan = ada.get(&path).await.expect(200);
    let answer = ada.put(&path, &json!({"steps": plan["steps"]})).await;
    let code = answer.json()["code"].clone();
    assert!(answer.status == 409 && (code == "PAUSE_REQUIRED" || code == "EXECUTION_TERMINAL"), "{}", answer.text());
}

#[tokio::test]
async fn kill_9_in_the_middle_repeats_nothing() {
    let (host, ada) = host_with_ada().await;
    let plan_id = plans::ready_plan(&ada, &plans::many_steps(20)).await;
    let execution_id = plans::execute(&ada, &plan_id).await;
    let path = format!("/api/executions/{execution_id}");
    berth_tests::eventually("the first steps", async || {
        let execution = ada.get(&path).await.expect(200);
        (execution["completedSteps"].as_u64()? >= 3).then_some(())
    })
    .await;
    let host = host.kill().await.start().await;
    let ada = host.client().with_token(ada.token());
    plans::reaches(&ada, &execution_id, &["completed"]).await;
    let events = plans::events(&ada, &execution_id).await;
    assert_eq!(completions(&events).len(), 20);
    assert!(completions(&events).values().all(|count| *count == 1), "{:?}", completions(&events));
    let artifacts = plans::artifacts(&ada, &execution_id).await;
    assert_eq!(artifacts.len(), 20, "each file once");
}

#[tokio::test]
async fn a_swap_in_the_middle_of_a_run_repeats_nothing() {
    let (host, ada) = host_with_ada().await;
    let component = guests::bytes(&guests::plugin("execution-service"));
    let plan_id = plans::ready_plan(&ada, &plans::many_steps(20)).await;
    let execution_id = plans::execute(&ada, &plan_id).await;
    for number in 1..=3 {
        let answer = host.operator().deploy("execution-service", guests::variant(&component, number)).await;
        assert!(matches!(answer.status, 200 | 202), "{}", answer.text());
    }
    plans::reaches(&ada, &execution_id, &["completed"]).await;
    let events = plans::events(&ada, &execution_id).await;
    assert_eq!(completions(&events).len(), 20);
    assert!(completions(&events).values().all(|count| *count == 1), "{:?}", completions(&events));
}

#[tokio::test]
async fn a_step_without_executor_fails_and_says_so() {
    let (_host, ada) = host_with_ada().await;
    for (kind, params, code) in [
        ("command", json!({"command": "echo", "args": ["hi"]}), "EXECUTOR_UNAVAILABLE"),
        ("mcp_tool", json!({"serverId": "s", "tool": "t", "arguments": {}}), "MCP_SERVER_NOT_FOUND"),
        ("agent", json!({"agentId": "a", "input": "x"}), "AGENT_NOT_FOUND"),
    ] {
        let steps = json!([{"title": "Try", "type": kind, "params": params, "onFailure": "block",
            "postconditions": [{"kind": "absent", "path": "nothing"}]}]);
        let project_id = plans::project(&ada, "Quay").await;
        let plan_id = text(&plans::plan(&ada, &project_id, &steps).await, "id");
        let verdict = ada.post(&format!("/api/plans/{plan_id}/validate"), &json!({})).await.expect(200);
        assert_eq!(verdict["isValid"], true, "{kind}: {verdict}");
        ada.post(&format!("/api/plans/{plan_id}/approve"), &json!({})).await.done(200);
        let execution_id = plans::execute(&ada, &plan_id).await;
        plans::reaches(&ada, &execution_id, &["failed", "paused"]).await;
        let events = plans::events(&ada, &execution_id).await;
        let failed = events.iter().find(|event| event["type"] == "execution.step.failed").expect("the failure");
        assert!(failed.to_string().contains(code), "{kind}: {failed}");
    }
}

#[tokio::test]
async fn a_failed_check_with_rollback_restores_what_was() {
    let (_host, ada) = host_with_ada().await;
    let steps = json!([
        {"title": "Create", "type": "file_create", "params": {"path": "a.txt", "content": "first\n"}, "expectedArtifacts": ["a.txt"]},
        {"title": "Check", "type": "validation", "onFailure": "block",
            "params": {"assertions": [{"kind": "contains", "path": "a.txt", "value": "second"}]}},
    ]);
    let plan_id = plans::ready_plan(&ada, &steps).await;
    let body = json!({"planId": plan_id, "options": {"autoRollback": true}});
    let execution_id = text(&ada.post("/api/executions/execute", &body).await.expect(202), "id");
    plans::reaches(&ada, &execution_id, &["rolled_back"]).await;
    let events = plans::events(&ada, &execution_id).await;
    assert!(events.iter().any(|event| event["type"] == "execution.rolled_back"), "{events:#?}");
}

#[tokio::test]
async fn a_stream_goes_on_where_the_reader_left_it() {
    let (_host, ada) = host_with_ada().await;
    let plan_id = plans::ready_plan(&ada, &plans::three_steps()).await;
    let execution_id = plans::execute(&ada, &plan_id).await;
    plans::reaches(&ada, &execution_id, &["completed"]).await;
    let total = plans::events(&ada, &execution_id).await.len();
    let request =
        ada.request(Method::GET, &format!("/api/executions/{execution_id}/stream")).header("last-event-id", "2");
    let mut response = request.send().await.expect("a stream");
    assert!(response.headers()["content-type"].to_str().is_ok_and(|kind| kind.starts_with("text/event-stream")));
    let mut text = String::new();
    let last = format!("id: {total}");
    while !text.replace("id:", "id: ").replace("id:  ", "id: ").contains(&last) {
        let Some(chunk) = response.chunk().await.expect("a piece") else { break };
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    let ids: Vec<usize> = text.lines().filter_map(|line| line.strip_prefix("id:")?.trim().parse().ok()).collect();
    assert_eq!(ids, (3..=total).collect::<Vec<_>>(), "{text}");
}

#[tokio::test]
async fn another_organizations_execution_does_not_exist() {
    let (host, ada) = host_with_ada().await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let plan_id = plans::ready_plan(&ada, &plans::three_steps()).await;
    eve.post("/api/executions/execute", &json!({ "planId": plan_id })).await.problem(404, "NOT_FOUND");
    let execution_id = plans::execute(&ada, &plan_id).await;
    for path in ["", "/events", "/plan", "/steps", "/artifacts", "/checkpoints", "/stream"] {
        eve.get(&format!("/api/executions/{execution_id}{path}")).await.problem(404, "NOT_FOUND");
    }
    for action in ["pause", "resume", "cancel", "rollback"] {
        eve.post(&format!("/api/executions/{execution_id}/{action}"), &json!({})).await.problem(404, "NOT_FOUND");
    }
    assert_eq!(eve.get("/api/executions").await.expect(200)["total"], 0);
    plans::reaches(&ada, &execution_id, &["completed"]).await;
}

#[tokio::test]
async fn an_execution_is_removed_only_when_it_is_over() {
    let (_host, ada) = host_with_ada().await;
    let plan_id = plans::ready_plan(&ada, &plans::three_steps()).await;
    let execution_id = plans::execute(&ada, &plan_id).await;
    plans::reaches(&ada, &execution_id, &["completed"]).await;
    let path = format!("/api/executions/{execution_id}");
    ada.delete(&path).await.done(204);
    ada.get(&path).await.problem(404, "NOT_FOUND");
}
