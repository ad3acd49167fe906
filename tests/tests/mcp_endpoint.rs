//! mcp-server towards clients: the endpoint in both eras, spoken to by hand.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use berth_tests::answer::text;
use berth_tests::mcp::{LEGACY, MODERN, Speaker, host_with_ada, register, stub};
use berth_tests::{Client, EventStream, eventually, members};
use reqwest::Method;
use serde_json::{Value, json};

/// Offers routes of the guest: name, method, path.
async fn offer(ada: &Client, offers: &[(&str, &str)]) {
    for (name, path) in offers {
        let body = json!({"kind": "TOOL", "name": name, "method": "POST", "path": format!("/api/kit/{path}")});
        ada.post("/api/mcp/offers", &body).await.done(201);
    }
}

fn names(result: &Value) -> Vec<String> {
    result["result"]["tools"].as_array().into_iter().flatten().map(|tool| text(tool, "name")).collect()
}

#[tokio::test]
async fn routes_are_tools_with_the_callers_own_rights() {
    let (host, ada) = host_with_ada(&[]).await;
    let session = Speaker::legacy(&ada, LEGACY, &json!({})).await;
    let modern = Speaker::modern(&ada);
    let listed = session.ask("tools/list", json!({})).await;
    assert!(names(&listed).contains(&"projects_create".to_owned()), "{listed}");
    let also = modern.ask("tools/list", json!({})).await;
    assert_eq!(names(&also), names(&listed));
    assert_eq!((&also["result"]["resultType"], &also["result"]["cacheScope"]), (&json!("complete"), &json!("private")));
    for speaker in [&session, &modern] {
        let made = speaker.ask("tools/call", json!({"name": "projects_create", "arguments": {"name": "Apollo"}})).await;
        let id = text(&made["result"]["structuredContent"], "id");
        let read = speaker.ask("tools/call", json!({"name": "projects_read", "arguments": {"id": id}})).await;
        assert_eq!(read["result"]["structuredContent"]["name"], "Apollo", "{read}");
        let wrong = speaker.ask("tools/call", json!({"name": "projects_create", "arguments": {"name": 7}})).await;
        assert_eq!(wrong["result"]["isError"], true, "{wrong}");
        assert!(
            wrong["result"]["content"][0]["text"].as_str().is_some_and(|words| words.contains("- name:")),
            "{wrong}"
        );
        let resource = speaker.ask("resources/read", json!({"uri": format!("berth://projects/{id}")})).await;
        assert!(
            resource["result"]["contents"][0]["text"].as_str().is_some_and(|words| words.contains("Apollo")),
            "{resource}"
        );
        let missing = speaker.ask("resources/read", json!({"uri": "berth://projects/nothing"})).await;
        assert_eq!(missing["error"]["data"]["uri"], "berth://projects/nothing", "{missing}");
        let unknown = speaker.ask("tools/call", json!({"name": "nothing"})).await;
        assert_eq!(unknown["error"]["code"], -32_602, "{unknown}");
    }
    // A viewer is not offered what a viewer may not do, and cannot call it either.
    let vic = members::bring(&host, &ada, "vic@example.com", "Viewer").await;
    let viewer = Speaker::modern(&vic);
    let few = names(&viewer.ask("tools/list", json!({})).await);
    assert!(few.contains(&"projects_list".to_owned()) && !few.contains(&"projects_create".to_owned()), "{few:?}");
    let refused = viewer.ask("tools/call", json!({"name": "projects_create", "arguments": {"name": "x"}})).await;
    assert_eq!(refused["error"]["code"], -32_602, "{refused}");
    host.client().post("/api/mcp", &json!({})).await.problem(401, "UNAUTHORIZED");
    // Prompts of prompt-management.
    let prompt = json!({"name": "greet", "content": "Say hello to {{name}}.", "variables": [{"name": "name"}]});
    ada.post("/api/prompts", &prompt).await.done(201);
    ada.post("/api/prompts/greet/versions/1/publish", &json!({})).await.done(200);
    let prompts = session.ask("prompts/list", json!({})).await;
    let listed = prompts["result"]["prompts"].as_array().cloned().unwrap_or_default();
    let greet = listed.iter().find(|prompt| prompt["name"] == "greet").cloned().unwrap_or_default();
    assert_eq!(greet["arguments"][0]["name"], "name", "{prompts}");
    let filled = session.ask("prompts/get", json!({"name": "greet", "arguments": {"name": "Ada"}})).await;
    assert_eq!(filled["result"]["messages"][0]["content"]["text"], "Say hello to Ada.", "{filled}");
    let unknown = session.ask("prompts/get", json!({"name": "nothing"})).await;
    assert_eq!(unknown["error"]["code"], -32_602, "{unknown}");
    let done = session.ask("completion/complete", json!({"ref": {"type": "ref/resource", "uri": "berth://projects/{id}"}, "argument": {"name": "id", "value": ""}})).await;
    assert_eq!(done["result"]["completion"]["total"], 2, "{done}");
}

#[tokio::test]
async fn what_is_no_message_is_refused() {
    let (_host, ada) = host_with_ada(&[]).await;
    let session = Speaker::legacy(&ada, LEGACY, &json!({})).await;
    let send = async |body: &str, more: &[(&str, &str)]| {
        let mut request = session.request(Method::POST).header("content-type", "application/json");
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        let answer = ada.send(request.body(body.to_owned())).await;
        (answer.status, answer.json()["error"]["code"].as_i64().unwrap_or_default())
    };
    assert_eq!(send("{", &[]).await, (400, -32_700));
    assert_eq!(send("[]", &[]).await, (400, -32_600));
    assert_eq!(send(r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, &[]).await, (400, -32_600));
    assert_eq!(send(r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, &[]).await, (400, -32_600), "no batches any more");
    assert_eq!(send(r#"{"jsonrpc":"2.0","id":1,"method":"nothing"}"#, &[]).await, (200, -32_601));
    assert_eq!(
        send(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, &[("origin", "http://evil.example")]).await,
        (403, -32_600)
    );
    assert_eq!(
        send(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, &[("origin", "http://localhost:5173")]).await,
        (200, 0)
    );
    let plain = session.request(Method::POST).header("content-type", "text/plain").body("{}");
    ada.send(plain).await.problem(415, "UNSUPPORTED_MEDIA_TYPE");
    let old = Speaker::legacy(&ada, "2025-03-26", &json!({})).await;
    let batch = json!([{"jsonrpc": "2.0", "id": 1, "method": "ping"}, {"jsonrpc": "2.0", "method": "notifications/x"}, {"jsonrpc": "2.0", "id": "b", "method": "tools/list"}]);
    let answers = old.say(&batch).await.expect(200);
    assert_eq!(
        (&answers[0]["result"], &answers[1]["id"], answers.as_array().map(Vec::len)),
        (&json!({}), &json!("b"), Some(2))
    );
    // A revision nobody speaks.
    let request = ada.request(Method::POST, "/api/mcp").header("mcp-protocol-version", "1999-01-01");
    let refused = ada.send(request.json(&json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}))).await.expect(400);
    assert_eq!(
        (&refused["error"]["code"], &refused["error"]["data"]["supported"][0]),
        (&json!(-32_022), &json!(MODERN))
    );
}

#[tokio::test]
async fn a_session_is_its_owners_until_it_ends() {
    let (host, ada) = host_with_ada(&[]).await;
    let session = Speaker::legacy(&ada, LEGACY, &json!({})).await;
    let id = session.session.clone().unwrap_or_default();
    let mia = members::bring(&host, &ada, "mia@example.com", "Member").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    for other in [&mia, &eve] {
        let mut thief = Speaker::legacy(other, LEGACY, &json!({})).await;
        thief.session = Some(id.clone());
        thief.say(&json!({"jsonrpc": "2.0", "id": 1, "method": "ping"})).await.done(404);
        other.send(thief.request(Method::DELETE)).await.done(404);
    }
    session.say(&json!({"jsonrpc": "2.0", "id": 1, "method": "ping"})).await.done(200);
    ada.send(session.request(Method::DELETE)).await.done(204);
    session.say(&json!({"jsonrpc": "2.0", "id": 1, "method": "ping"})).await.done(404);
    ada.send(session.request(Method::GET)).await.done(404);
    ada.send(ada.request(Method::GET, "/api/mcp").header("accept", "text/event-stream")).await.done(400);
    ada.send(ada.request(Method::GET, "/api/mcp").header("mcp-protocol-version", MODERN)).await.done(405);
}

#[tokio::test]
async fn a_person_is_asked_and_answers_in_both_eras() {
    let (_host, ada) = host_with_ada(&[]).await;
    offer(&ada, &[("name", "name"), ("rounds", "rounds")]).await;
    let careful =
        json!({"kind": "TOOL", "name": "careful", "method": "POST", "path": "/api/projects", "confirm": true});
    ada.post("/api/mcp/offers", &careful).await.done(201);
    let can = json!({"elicitation": {}});
    let session = Speaker::legacy(&ada, LEGACY, &can).await;
    let answers = |key: &str| match key {
        "name" => json!({"action": "accept", "content": {"name": "Ada"}}),
        "color" => json!({"action": "accept", "content": {"color": "red"}}),
        _ => json!({"action": "accept", "content": {"confirm": true}}),
    };
    for (tool, arguments, asked, end) in [
        ("name", json!({}), vec!["name"], "Hello, Ada!"),
        ("rounds", json!({}), vec!["name", "color"], "Both steps are done."),
        ("careful", json!({"name": "Gemini"}), vec!["confirm"], "Gemini"),
    ] {
        let call = json!({"name": tool, "arguments": arguments});
        let mut stream = session.stream(&session.message(7, "tools/call", call.clone(), &can)).await;
        for key in &asked {
            let question = stream.wait_for("message").await.data;
            assert_eq!(question["method"], "elicitation/create", "{question}");
            assert!(question["params"]["requestedSchema"]["properties"][key].is_object(), "{question}");
            session.say(&json!({"jsonrpc": "2.0", "id": question["id"], "result": answers(key)})).await.done(202);
        }
        let last = stream.wait_for("message").await.data;
        assert!(last["id"] == 7 && last["result"].to_string().contains(end), "{last}");
        // The same without a session.
        let modern = Speaker::modern(&ada);
        let mut params = call;
        for key in &asked {
            let answer = modern.say(&modern.message(1, "tools/call", params.clone(), &can)).await.expect(200);
            assert_eq!(answer["result"]["resultType"], "input_required", "{answer}");
            let requests = answer["result"]["inputRequests"].as_object().cloned().unwrap_or_default();
            let responses: serde_json::Map<String, Value> =
                requests.keys().map(|name| (name.clone(), answers(key))).collect();
            params["inputResponses"] = Value::Object(responses);
            params["requestState"] = answer["result"]["requestState"].clone();
            if params["requestState"].is_null() {
                params.as_object_mut().map(|members| members.remove("requestState"));
            }
        }
        let done = modern.say(&modern.message(2, "tools/call", params.clone(), &can)).await.expect(200);
        assert!(done["result"]["resultType"] == "complete" && done["result"].to_string().contains(end), "{done}");
        // A state belongs to its request.
        if params["requestState"].is_string() {
            params["arguments"] = json!({"other": 1});
            let moved = modern.say(&modern.message(3, "tools/call", params, &can)).await.json();
            assert_eq!(moved["error"]["code"], -32_602, "{moved}");
        }
        let cannot = modern
            .say(&modern.message(4, "tools/call", json!({"name": tool, "arguments": {"name": "x"}}), &json!({})))
            .await;
        assert_eq!(cannot.expect(400)["error"]["data"]["requiredCapabilities"], json!({"elicitation": {}}));
    }
    let projects = ada.get("/api/projects").await.expect(200);
    assert_eq!(projects["total"], 2, "only what somebody agreed to was done: {projects}");
}

#[tokio::test]
async fn a_stream_that_broke_off_is_taken_up_again() {
    let (_host, ada) = host_with_ada(&[]).await;
    offer(
        &ada,
        &[("progress", "progress"), ("logging", "logging"), ("reconnection", "reconnection"), ("name", "name")],
    )
    .await;
    let session = Speaker::legacy(&ada, LEGACY, &json!({"elicitation": {}})).await;
    let call = json!({"name": "progress", "_meta": {"progressToken": "p"}});
    let mut stream = session.stream(&session.message(1, "tools/call", call, &json!({}))).await;
    let first = stream.wait_for("message").await;
    assert_eq!(
        (&first.data["method"], &first.data["params"]["total"]),
        (&json!("notifications/progress"), &json!(100))
    );
    let resume = async |last: &str| {
        let request = session.request(Method::GET).header("last-event-id", last);
        EventStream::of(request).await.unwrap_or_else(|| unreachable!("no stream after {last}"))
    };
    let mut all = Vec::new();
    while let Some(event) = stream.next().await {
        all.push(event);
    }
    assert_eq!(all.last().map(|event| &event.data["id"]), Some(&json!(1)));
    // Whoever comes back is told what was missed, as often as wanted.
    for _ in 0..2 {
        let mut again = resume(first.id.as_deref().unwrap_or_default()).await;
        for event in &all {
            assert_eq!(again.wait_for("message").await.data, event.data);
        }
        assert!(again.next().await.is_none(), "nothing follows the answer");
    }
    // A tool that ends its stream is gone on with when the client is back.
    let mut stream =
        session.stream(&session.message(2, "tools/call", json!({"name": "reconnection"}), &json!({}))).await;
    assert!(stream.next().await.is_none(), "the stream ends without an answer");
    let prime =
        session.say(&session.message(3, "tools/call", json!({"name": "reconnection"}), &json!({}))).await.text();
    let place = prime.lines().find_map(|line| line.strip_prefix("id: ")).unwrap_or_default().to_owned();
    assert!(prime.contains("retry: "), "{prime}");
    let answer = resume(&place).await.wait_for("message").await.data;
    assert!(answer["id"] == 3 && answer.to_string().contains("Reconnected."), "{answer}");
    // Log messages go by their level.
    let mut stream = session.stream(&session.message(4, "tools/call", json!({"name": "logging"}), &json!({}))).await;
    assert_eq!(stream.wait_for("message").await.data["params"]["data"], "Tool execution started");
    drop(stream);
    assert_eq!(session.ask("logging/setLevel", json!({"level": "error"})).await["result"], json!({}));
    let mut stream = session.stream(&session.message(5, "tools/call", json!({"name": "logging"}), &json!({}))).await;
    assert_eq!(stream.wait_for("message").await.data["id"], 5, "nothing but the answer");
    // A cancelled call has no answer.
    let mut stream = session.stream(&session.message(6, "tools/call", json!({"name": "name"}), &json!({}))).await;
    assert_eq!(stream.wait_for("message").await.data["method"], "elicitation/create");
    session
        .say(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 6}}))
        .await
        .done(202);
    assert!(stream.next().await.is_none(), "the stream ends");
}

#[tokio::test]
async fn changes_are_told_to_who_listens() {
    let (_host, ada) = host_with_ada(&[]).await;
    let session = Speaker::legacy(&ada, LEGACY, &json!({})).await;
    let watched = json!({"kind": "RESOURCE", "name": "watched", "method": "GET", "path": "/api/kit/resources/watched", "uri": "kit://watched"});
    ada.post("/api/mcp/offers", &watched).await.done(201);
    session.ask("resources/subscribe", json!({"uri": "kit://watched"})).await;
    let mut own = EventStream::of(session.request(Method::GET)).await.unwrap_or_else(|| unreachable!("no stream"));
    let modern = Speaker::modern(&ada);
    let filter = json!({"notifications": {"promptsListChanged": true, "resourceSubscriptions": ["kit://watched", "kit://nothing"]}});
    let mut listening = modern.stream(&modern.message(9, "subscriptions/listen", filter, &json!({}))).await;
    let acknowledged = listening.wait_for("message").await.data;
    assert_eq!(
        (&acknowledged["method"], &acknowledged["params"]["notifications"]),
        (
            &json!("notifications/subscriptions/acknowledged"),
            &json!({"promptsListChanged": true, "resourceSubscriptions": ["kit://watched"]})
        )
    );
    for (kind, name, path) in [("TOOL", "one", "/api/kit/name"), ("PROMPT", "two", "/api/kit/prompts/simple")] {
        ada.post("/api/mcp/offers", &json!({"kind": kind, "name": name, "method": "POST", "path": path}))
            .await
            .done(201);
    }
    let mut told = Vec::new();
    while !told.iter().any(|method| method == "notifications/prompts/list_changed")
        || !told.iter().any(|method| method == "notifications/resources/updated")
    {
        let event = listening.wait_for("message").await.data;
        assert_eq!(event["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 9, "{event}");
        told.push(text(&event, "method"));
    }
    assert!(!told.contains(&"notifications/tools/list_changed".to_owned()), "nobody wanted to hear this: {told:?}");
    let mut told = Vec::new();
    let wanted =
        ["notifications/tools/list_changed", "notifications/prompts/list_changed", "notifications/resources/updated"];
    while !wanted.iter().all(|method| told.iter().any(|known| known == method)) {
        told.push(text(&own.wait_for("message").await.data, "method"));
    }
}

#[tokio::test]
async fn tools_of_other_servers_are_offered_too() {
    let stub = stub().await;
    let (_host, ada) = host_with_ada(&[stub.address()]).await;
    register(&ada, &stub, "stub", "/json").await;
    let modern = Speaker::modern(&ada);
    let listed = names(&modern.ask("tools/list", json!({})).await);
    assert!(listed.contains(&"stub__add".to_owned()), "{listed:?}");
    let done = modern.ask("tools/call", json!({"name": "stub__add", "arguments": {"a": 1, "b": 2}})).await;
    assert_eq!(done["result"]["structuredContent"], json!({"sum": 3.0}), "{done}");
    let wrong = modern.ask("tools/call", json!({"name": "stub__add", "arguments": {}})).await;
    assert_eq!(wrong["result"]["isError"], true, "{wrong}");
    eventually("the execution being kept", async || {
        let rows = ada.get("/api/mcp/executions?callerModule=mcp").await.expect(200);
        (rows["total"] == 1).then_some(())
    })
    .await;
    ada.put("/api/mcp/settings", &json!({"offersServers": false, "offersDefaults": false})).await.done(200);
    assert!(names(&modern.ask("tools/list", json!({})).await).is_empty());
}
