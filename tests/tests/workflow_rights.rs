//! workflow: what an author may automate.

use berth_tests::workflows::named;
use berth_tests::{Host, Manifest, members};
use serde_json::{Value, json};

const ROUTES: &str = "/api/workflows";

/// A member automates what members do: not what would be done as the organization, and not what tells of people.
#[tokio::test]
async fn an_author_automates_nothing_that_they_may_not_do() {
    let host = Host::with(Manifest::services()).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let act = |action: &str, input: Value| {
        named("Acts", json!([{"id": "a", "type": "action", "action": action, "input": input}]))
    };
    let read = json!({"method": "GET", "path": "/api/tasks"});
    let tell = json!({"eventType": "x.y", "recipientIds": [members::id(&ada)], "title": "t", "body": "b"});
    let tool = json!({"capability": "search", "params": {}});
    for (action, input) in [("service.call", read), ("mcp.tool", tool), ("notification.send", tell)] {
        bob.post(ROUTES, &act(action, input.clone())).await.problem(403, "FORBIDDEN");
        ada.post(ROUTES, &act(action, input)).await.done(201);
    }
    bob.post(ROUTES, &act("task.create", json!({"title": "Paint"}))).await.done(201);
    let listen = json!({"name": "Listens", "trigger": {"type": "event", "eventType": "notification.created"}});
    bob.post(ROUTES, &listen).await.problem(403, "FORBIDDEN");
    ada.post(ROUTES, &listen).await.done(201);
}
