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
