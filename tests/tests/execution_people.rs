//! execution-service: whom a step waits for is told, once, in their inbox.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use berth_tests::answer::text;
use berth_tests::{Client, Host, eventually, members, plans};
use serde_json::{Value, json};

/// What somebody was told of steps that wait for them, once it is so much.
async fn told(client: &Client, count: usize) -> Vec<Value> {
    eventually(&format!("{count} notifications"), async || {
        let inbox = client.get("/api/notifications?type=execution.step.waiting").await.expect(200);
        let items = inbox["items"].as_array().cloned().unwrap_or_default();
        (items.len() >= count).then_some(items)
    })
    .await
}

async fn step(client: &Client, execution: &str, title: &str) -> String {
    let steps = client.get(&format!("/api/executions/{execution}/steps")).await.expect(200);
    let found = steps["items"].as_array().into_iter().flatten().find(|step| step["title"] == title).cloned();
    text(&found.unwrap_or(Value::Null), "stepId")
}

#[tokio::test]
async fn who_is_asked_is_told_and_where_nobody_is_named_who_started_it() {
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let steps = json!([
        {"title": "Sign", "type": "human", "params": {"message": "Shall we sail?", "approvers": [members::id(&bob)]}},
        {"title": "Look", "type": "human", "params": {"message": "Is the rope fast?"}, "dependencies": [1]},
    ]);
    let execution = plans::execute(&ada, &plans::ready_plan(&ada, &steps).await).await;

    let asked = told(&bob, 1).await;
    assert_eq!(
        (&asked[0]["title"], &asked[0]["message"]),
        (&json!("A step waits for you: Sign"), &json!("Shall we sail?"))
    );
    assert_eq!((&asked[0]["sourceResourceId"], &asked[0]["criticality"]), (&json!(execution), &json!("HIGH")));
    assert_eq!(ada.get("/api/notifications?type=execution.step.waiting").await.expect(200)["total"], 0);
    // The conversation about the step is there as well, and tells nobody a second time.
    let sign = step(&ada, &execution, "Sign").await;
    let conversation = format!("/api/messaging/conversations/by-context?type=step&id={sign}");
    eventually("the conversation", async || {
        let answer = bob.get(&conversation).await;
        (answer.status == 200 && answer.json()["lastSeq"].as_i64() > Some(0)).then_some(())
    })
    .await;
    let complete = format!("/api/executions/{execution}/steps/{sign}/complete");
    bob.post(&complete, &json!({"outcome": "completed"})).await.done(200);
    // The next one asks nobody by name.
    let own = told(&ada, 1).await;
    assert_eq!(own[0]["title"], "A step waits for you: Look");
    assert_eq!(told(&bob, 1).await.len(), 1);
    assert_eq!(bob.get("/api/notifications?type=messaging.approval.requested").await.expect(200)["total"], 0);
    let look = step(&ada, &execution, "Look").await;
    ada.post(&format!("/api/executions/{execution}/steps/{look}/complete"), &json!({})).await.done(200);
    plans::reaches(&ada, &execution, &["completed"]).await;
}

/// Whoever completes a step lets it go on, and no more: what follows is done as who started the execution.
#[tokio::test]
async fn what_a_step_does_elsewhere_is_done_as_who_started_it() {
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let agent = text(&ada.post("/api/ai/agents", &json!({"name": "Looker", "model": "echo"})).await.expect(201), "id");
    let look = |place: i64| {
        json!({"title": format!("Look {place}"), "type": "agent", "dependencies": [place - 1],
        "params": {"agentId": agent, "input": "Look"}})
    };
    let sign =
        |waits: Value| json!({"title": "Sign", "type": "human", "params": {"message": "Well?"}, "dependencies": waits});
    // A plan wants evidence of what its steps did.
    let check = json!({"title": "Check", "type": "validation", "dependencies": [2, 4],
        "params": {"assertions": [{"kind": "exists", "path": "a.txt"}]}});
    let steps = json!([sign(json!([])), look(2), sign(json!([2])), look(4), check]);
    let execution = plans::execute(&bob, &plans::ready_plan(&bob, &steps).await).await;
    let list = format!("/api/executions/{execution}/steps");
    let becomes = async |place: usize, status: &str| {
        eventually(&format!("step {place} {status}"), async || {
            let found = ada.get(&list).await.expect(200)["items"][place - 1].clone();
            (found["status"] == status).then_some(found)
        })
        .await
    };
    let complete = async |place: usize| {
        let step = text(&becomes(place, "waiting").await, "stepId");
        ada.post(&format!("/api/executions/{execution}/steps/{step}/complete"), &json!({})).await.done(200);
    };
    complete(1).await;
    becomes(2, "completed").await;
    let runs = ada.get(&format!("/api/ai/agents/{agent}/executions")).await.expect(200);
    assert_eq!((&runs["total"], &runs["items"][0]["userId"]), (&json!(1), &json!(members::id(&bob))), "{runs}");
    members::remove(&ada, &bob).await;
    complete(3).await;
    let failed = becomes(4, "failed").await;
    assert_eq!(failed["error"]["code"], "ACTING_DENIED", "{failed}");
    assert_eq!(ada.get(&format!("/api/ai/agents/{agent}/executions")).await.expect(200)["total"], 1);
}
