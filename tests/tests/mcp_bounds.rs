//! mcp-server: what is another's stays that, who comes second comes second, and what nobody asked for is not kept.

use berth_tests::answer::text;
use berth_tests::mcp::{LEGACY, Speaker, host_with_ada, reaching, register, stub};
use berth_tests::wait::{PATIENCE, heard_of};
use berth_tests::{EventStream, Host, Manifest, eventually, members, plans};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn who_has_not_registered_a_server_neither_moves_nor_starts_it() {
    let stub = stub().await;
    let (host, ada) = host_with_ada(&[stub.address()]).await;
    let mia = members::bring(&host, &ada, "mia@example.com", "Member").await;
    let path = format!("/api/mcp/servers/{}", register(&ada, &stub, "stub", "/json").await);
    let elsewhere = json!({"endpoint": format!("http://{}/sse", stub.address())});
    mia.put(&path, &elsewhere).await.problem(403, "PERMISSION_DENIED");
    mia.put(&path, &json!({"status": "DISABLED"})).await.problem(403, "PERMISSION_DENIED");
    mia.put(&path, &json!({"description": "It adds."})).await.done(200);
    ada.put(&path, &json!({"status": "DISABLED"})).await.done(200);
    let order = json!({"serverId": "stub", "toolName": "add", "params": {"a": 1, "b": 1}});
    mia.post("/api/mcp/execute", &order).await.problem(403, "PERMISSION_DENIED");
    mia.put(&path, &json!({"status": "ACTIVE"})).await.problem(403, "PERMISSION_DENIED");
    let own = format!("/api/mcp/servers/{}", register(&mia, &stub, "own", "/json").await);
    mia.put(&own, &elsewhere).await.done(200);
    ada.put(&own, &json!({"endpoint": format!("http://{}/json", stub.address())})).await.done(200);
}

#[tokio::test]
async fn of_two_executions_at_once_one_is_within_the_limit() {
    let stub = stub().await;
    let (_host, ada) = host_with_ada(&[stub.address()]).await;
    for meeting in 0..4 {
        let id = register(&ada, &stub, &format!("stub-{meeting}"), "/json").await;
        ada.put(&format!("/api/mcp/servers/{id}/configuration"), &json!({"rateLimit": 1})).await.done(200);
        let order = json!({"serverId": id, "toolName": "add", "params": {"a": 1, "b": 1}});
        let execute = async || ada.post("/api/mcp/execute", &order).await;
        let (one, two) = tokio::join!(execute(), execute());
        let (within, beyond) = if one.status == 200 { (one, two) } else { (two, one) };
        within.done(200);
        beyond.problem(429, "RATE_LIMIT_EXCEEDED");
    }
}

#[tokio::test]
async fn a_server_that_is_deleted_while_it_is_read_leaves_nothing() {
    let stub = stub().await;
    let (_host, ada) = host_with_ada(&[stub.address()]).await;
    let endpoint = format!("http://{}/gated", stub.address());
    let body = json!({"name": "gated", "displayName": "Gated", "endpoint": endpoint, "capabilities": ["gated.all"]});
    let path = format!("/api/mcp/servers/{}", text(&ada.post("/api/mcp/servers", &body).await.expect(201), "id"));
    let sync = format!("{path}/sync");
    let nothing = json!({});
    let deleted = async {
        eventually("the list being asked for", async || {
            stub.asked().iter().any(|asked| asked.body["method"] == "tools/list").then_some(())
        })
        .await;
        ada.delete(&path).await.done(204);
        stub.release(9);
    };
    let (read, ()) = tokio::join!(ada.post(&sync, &nothing), deleted);
    read.problem(404, "MCP_SERVER_NOT_FOUND");
    ada.get(&format!("{path}/tools")).await.problem(404, "MCP_SERVER_NOT_FOUND");
    assert_eq!(ada.get("/api/mcp/capabilities").await.expect(200)["total"], 0);
}

#[tokio::test]
async fn a_stream_is_taken_up_again_by_who_may_call_its_tool() {
    let (host, ada) = host_with_ada(&[]).await;
    let offer = json!({"kind": "TOOL", "name": "progress", "method": "POST", "path": "/api/kit/progress"});
    ada.post("/api/mcp/offers", &offer).await.done(201);
    let session = Speaker::legacy(&ada, LEGACY, &json!({})).await;
    let whole = session.say(&session.message(1, "tools/call", json!({"name": "progress"}), &json!({}))).await.text();
    assert!(whole.contains("All of it is done."), "{whole}");
    let place = whole.lines().find_map(|line| line.strip_prefix("id: ")).unwrap_or_default().to_owned();
    let key = json!({"name": "Looks", "permissions": ["mcp.mcp.read"], "expiresInDays": 1});
    let key = text(&ada.post("/api/users/me/api-keys", &key).await.expect(201), "key");
    let mia = members::bring(&host, &ada, "mia@example.com", "Member").await;
    for (client, status) in [(ada.with_token(&key), 200), (mia, 404)] {
        let mut thief = Speaker::legacy(&client, LEGACY, &json!({})).await;
        thief.session.clone_from(&session.session);
        let answer = client.send(thief.request(Method::GET).header("last-event-id", &place)).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.json()["error"]["code"].is_number(), "{}", answer.text());
        assert!(!answer.text().contains("All of it is done."), "{}", answer.text());
    }
    let again = ada.send(session.request(Method::GET).header("last-event-id", &place)).await.text();
    assert!(again.contains("All of it is done."), "{again}");
}

#[tokio::test]
async fn an_answer_is_taken_where_it_was_asked_for_and_fits() {
    let (_host, ada) = host_with_ada(&[]).await;
    let offer = json!({"kind": "TOOL", "name": "name", "method": "POST", "path": "/api/kit/name"});
    ada.post("/api/mcp/offers", &offer).await.done(201);
    let can = json!({"elicitation": {}});
    let session = Speaker::legacy(&ada, LEGACY, &can).await;
    let says = |name: &str| json!({"action": "accept", "content": {"name": name}});
    for (number, name, hello) in [(1, "Ada".to_owned(), "Hello, Ada!"), (2, "x".repeat(1 << 20), "Hello, nobody!")] {
        let mut stream = session.stream(&session.message(number, "tools/call", json!({"name": "name"}), &can)).await;
        let question = stream.wait_for("message").await.data;
        for id in [json!("berth-nothing"), json!(7), question["id"].clone()] {
            let result = if id == question["id"] { says(&name) } else { says("Eve") };
            session.say(&json!({"jsonrpc": "2.0", "id": id, "result": result})).await.done(202);
        }
        // The first answer counts.
        let late = json!({"jsonrpc": "2.0", "id": question["id"], "result": says("Eve")});
        session.say(&late).await.done(202);
        let last = stream.wait_for("message").await.data;
        assert_eq!(last["result"]["content"][0]["text"], hello, "{last}");
    }
}

#[tokio::test]
async fn resources_that_are_watched_at_once_are_all_told_of() {
    let (_host, ada) = host_with_ada(&[]).await;
    let session = Speaker::legacy(&ada, LEGACY, &json!({})).await;
    let (one, two) = (plans::project(&ada, "One").await, plans::project(&ada, "Two").await);
    let (one, two) = (format!("berth://projects/{one}"), format!("berth://projects/{two}"));
    let watch = async |uri: &str| session.ask("resources/subscribe", json!({ "uri": uri })).await;
    let (first, second) = tokio::join!(watch(&one), watch(&two));
    assert_eq!((&first["result"], &second["result"]), (&json!({}), &json!({})));
    let mut own = EventStream::of(session.request(Method::GET)).await.unwrap_or_else(|| unreachable!("no stream"));
    for uri in [&one, &two] {
        let path = uri.replace("berth:/", "/api");
        ada.put(&path, &json!({"description": "It has changed."})).await.done(200);
    }
    let mut told: Vec<Value> = Vec::new();
    while !told.contains(&json!(one)) || !told.contains(&json!(two)) {
        let event = own.wait_for("message").await.data;
        if event["method"] == "notifications/resources/updated" {
            told.push(event["params"]["uri"].clone());
        }
    }
    // What is watched no more is not told of, and the stream ends with the organization's use of it.
    assert_eq!(session.ask("resources/unsubscribe", json!({ "uri": one })).await["result"], json!({}));
    ada.put("/api/mcp/settings", &json!({"mcpEnabled": false})).await.done(200);
    let rest = async {
        while let Some(event) = own.next().await {
            assert_ne!(event.data["params"]["uri"], one.as_str(), "{event:?}");
        }
    };
    assert!(tokio::time::timeout(PATIENCE, rest).await.is_ok(), "the stream ends");
}

#[tokio::test]
async fn a_capability_is_found_where_a_project_turns_a_server_on() {
    let stub = stub().await;
    let (_host, ada) = host_with_ada(&[stub.address()]).await;
    let project = plans::project(&ada, "Quay").await;
    let path = format!("/api/mcp/servers/{}", register(&ada, &stub, "stub", "/json").await);
    let toggle = format!("{path}/toggle");
    ada.put(&toggle, &json!({"enabled": false})).await.done(200);
    ada.put(&toggle, &json!({"scope": "PROJECT", "scopeId": project, "enabled": true})).await.done(200);
    let order = json!({"capability": "stub.all", "params": {"a": 1, "b": 1}});
    ada.post("/api/mcp/execute", &order).await.problem(404, "CAPABILITY_NOT_AVAILABLE");
    // Tools that say nothing of what they are good for are good for what their server is: the first by its name is called.
    let order = json!({"capability": "stub.all", "params": {"a": 1, "b": 1}, "projectId": project});
    assert_eq!(ada.post("/api/mcp/execute", &order).await.expect(200)["structuredContent"], json!({"sum": 2.0}));
}

#[tokio::test]
async fn a_server_that_does_not_do_well_is_asked_again_when_it_does() {
    let stub = stub().await;
    let (_host, ada) = host_with_ada(&[stub.address()]).await;
    let path = format!("/api/mcp/servers/{}", register(&ada, &stub, "stub", "/json").await);
    let moved = async |to: &str| {
        ada.put(&path, &json!({"endpoint": format!("http://{}{to}", stub.address())})).await.done(200);
    };
    let becomes = async |health: &str| {
        eventually(health, async || {
            let checked = ada.post(&format!("{path}/health/check"), &json!({})).await.expect(200);
            (checked["health"] == health).then_some(())
        })
        .await;
    };
    let order = json!({"serverId": "stub", "toolName": "add", "params": {"a": 1, "b": 1}});
    moved("/broken").await;
    becomes("UNHEALTHY").await;
    ada.post("/api/mcp/execute", &order).await.problem(503, "SERVER_UNHEALTHY");
    let order_of_any = json!({"capability": "stub.all", "params": {"a": 1, "b": 1}});
    ada.post("/api/mcp/execute", &order_of_any).await.problem(503, "SERVER_UNHEALTHY");
    moved("/sse").await;
    becomes("HEALTHY").await;
    ada.post("/api/mcp/execute", &order).await.done(200);
}

#[tokio::test]
async fn what_becomes_of_servers_and_tools_is_told() {
    let stub = stub().await;
    let host = Host::with(reaching(Manifest::services_and_herald("x", "x"), &[stub.address()])).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let id = register(&ada, &stub, "stub", "/json").await;
    let told = async |kind: &str| {
        let told = heard_of(&ada, kind, 1, |data| data["serverId"] == id.as_str()).await;
        told.into_iter().next().unwrap_or_default()
    };
    assert_eq!(told("mcp.server.registered").await["name"], "stub");
    assert!(told("mcp.tool.changed").await["added"].to_string().contains("add"));
    assert_eq!(told("mcp.server.health.changed").await["health"], "HEALTHY");
    let order = json!({"serverId": id, "toolName": "leak", "params": {"password": "p4ss"}});
    ada.post("/api/mcp/execute", &order).await.done(200);
    ada.post("/api/mcp/execute", &json!({"serverId": id, "toolName": "fail"})).await.done(200);
    for kind in ["started", "completed", "failed"] {
        let event = told(&format!("mcp.tool.execution.{kind}")).await;
        assert_eq!((&event["isPrivate"], &event["userId"]), (&json!(true), &json!(members::id(&ada))), "{event}");
        assert!(!event.to_string().contains("p4ss") && !event.to_string().contains("t0p"), "{event}");
    }
    let path = format!("/api/mcp/servers/{id}");
    ada.put(&format!("{path}/configuration"), &json!({"rateLimit": 1})).await.done(200);
    ada.post("/api/mcp/execute", &order).await.problem(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(told("mcp.server.rate_limit.exceeded").await["limit"], "minute");
    ada.delete(&path).await.done(204);
    assert_eq!(told("mcp.server.deregistered").await["name"], "stub");
}

#[tokio::test]
async fn what_runs_afterwards_is_what_was_allowed_to_whoever_ordered_it() {
    let stub = stub().await;
    let (host, ada) = host_with_ada(&[stub.address()]).await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let mia = members::bring(&host, &ada, "mia@example.com", "Member").await;
    let toggle = format!("/api/mcp/servers/{}/toggle", register(&ada, &stub, "stub", "/json").await);
    let team = text(&ada.post("/api/teams", &json!({"name": "Crew"})).await.expect(201), "id");
    let people = json!({"members": [{"userId": members::id(&bob), "role": "member"}]});
    ada.post(&format!("/api/teams/{team}/members"), &people).await.done(200);
    ada.put(&toggle, &json!({"enabled": false})).await.done(200);
    ada.put(&toggle, &json!({"scope": "TEAM", "scopeId": team, "enabled": true})).await.done(200);
    let order = json!({"serverId": "stub", "toolName": "add", "params": {"a": 1, "b": 1}, "async": true});
    mia.post("/api/mcp/execute", &order).await.problem(403, "PERMISSION_DENIED");
    let path = text(&bob.post("/api/mcp/execute", &order).await.expect(202), "statusUrl");
    let row = eventually("the execution's end", async || {
        let row = bob.get(&path).await.expect(200);
        (row["status"] != "PENDING" && row["status"] != "RUNNING").then_some(row)
    })
    .await;
    assert_eq!((&row["status"], &row["errorCode"]), (&json!("COMPLETED"), &Value::Null), "{row}");
    mia.get(&path).await.problem(404, "NOT_FOUND");
}
