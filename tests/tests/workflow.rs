//! workflow: automations that end once and as they were written, whatever happens to the host meanwhile.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use berth_tests::answer::text;
use berth_tests::listener::{Listener, Received};
use berth_tests::workflows::{active, approval, becomes, count, decide, execute, history, named, near, runs, steps};
use berth_tests::{Client, Host, Manifest, eventually, guests, members, plans};
use serde_json::{Value, json};

const ROUTES: &str = "/api/workflows";

async fn host_with_ada() -> (Host, Client) {
    let host = Host::with(near(Manifest::services(), &[])).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    (host, ada)
}

/// The whole of it: an event starts a run with a condition, two parallel branches, a call of a server, a gate and an agent. The
/// host is killed and the component replaced while it waits; it completes once.
#[tokio::test]
async fn a_run_completes_once_over_a_kill_and_a_swap() {
    let respond = |received: &Received| (200, json!({"seen": received.target, "ticket": 7}).to_string());
    let listener = Listener::answering(Arc::new(respond)).await;
    let host = Host::with(near(Manifest::services(), &[listener.address()])).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let agent = text(&ada.post("/api/ai/agents", &json!({"name": "Looker", "model": "echo"})).await.expect(201), "id");
    let definition = json!({"variables": {"note": "none"}, "steps": [
        {"id": "check", "type": "condition", "when": "trigger.data.name contains 'Pier'"},
        {"id": "never", "type": "condition", "when": "trigger.data.name == 'Other'"},
        {"id": "left", "type": "action", "action": "http.request", "dependencies": ["check"], "retry": {"max": 2},
            "input": {"method": "POST", "url": format!("{}", listener.url("/left")), "body": {"name": "{{trigger.data.name}}"}}},
        {"id": "right", "type": "action", "action": "transform", "dependencies": ["check"],
            "input": {"set": {"note": "for {{trigger.data.name}}"}}},
        {"id": "alone", "type": "action", "action": "transform", "dependencies": ["never"], "input": {"value": 1}},
        {"id": "join", "type": "parallel", "dependencies": ["left", "right", "alone"]},
        {"id": "gate", "type": "human_gate", "dependencies": ["join"], "humanGate": {
            "message": "Ship ticket {{steps.left.output.body.ticket}}?", "requiredApprovers": [members::id(&bob)]}},
        {"id": "after", "type": "action", "action": "http.request", "dependencies": ["gate", "left"],
            "input": {"url": listener.url("/after"), "query": {"note": "{{variables.note}}"}}},
        {"id": "agent", "type": "action", "action": "agent.run", "agentId": agent, "dependencies": ["gate"],
            "input": {"input": "Look at {{trigger.data.name}}"}},
        {"id": "task", "type": "action", "action": "task.create", "dependencies": ["after", "agent"],
            "input": {"title": "Look at {{trigger.data.name}}", "projectId": "{{trigger.data.id}}"}},
        {"id": "end", "type": "action", "action": "transform", "dependencies": ["task"],
            "input": {"value": {"ticket": "{{steps.left.output.body.ticket}}", "note": "{{variables.note}}"}}}
    ]});
    // `end` names what it reaches through others.
    let trigger =
        json!({"type": "event", "eventType": "project.created", "filter": "trigger.data.name contains 'Pier'"});
    let body = json!({"name": "Piers", "trigger": trigger, "definition": definition});
    let id = active(&ada, body).await;
    plans::project(&ada, "Another").await;
    plans::project(&ada, "Pier4").await;
    let run_id = text(&runs(&ada, &id, 1).await[0], "id");
    let run = becomes(&ada, &run_id, "waiting").await;
    assert_eq!(run["triggerType"], "event");
    let waiting = approval(&bob).await;
    assert_eq!(waiting["message"], "Ship ticket 7?", "{waiting}");
    let host = host.kill().await.start().await;
    let component = guests::bytes(&guests::plugin("workflow"));
    let answer = host.operator().deploy("workflow", guests::variant(&component, 1)).await;
    assert!(matches!(answer.status, 200 | 202), "{}", answer.text());
    let (ada, bob) = (host.client().with_token(ada.token()), host.client().with_token(bob.token()));
    decide(&bob, &waiting, "approve").await.done(200);
    let run = becomes(&ada, &run_id, "completed").await;
    assert_eq!(run["result"]["outputs"]["end"], json!({"ticket": 7, "note": "for Pier4"}), "{run}");
    let found = steps(&ada, &run_id).await;
    let status = |key: &str| found[key]["status"].as_str().unwrap_or_default().to_owned();
    assert_eq!((status("never"), status("alone")), ("skipped".into(), "skipped".into()), "an exclusive successor");
    let events = history(&ada, &run_id).await;
    for step in ["check", "left", "right", "join", "gate", "agent", "after", "task", "end"] {
        assert_eq!(status(step), "completed", "{step}");
        assert_eq!(count(&events, "workflow.step.started", step), 1, "{step}");
        assert_eq!(count(&events, "workflow.step.completed", step), 1, "{step}");
        assert_eq!(found[step]["attempt"], 1, "{step}");
    }
    let received = listener.received();
    assert_eq!(received.len(), 2, "{received:?}");
    assert_eq!(received[0].body, r#"{"name":"Pier4"}"#);
    assert!(!received[0].header("idempotency-key").is_empty());
    assert_eq!(ada.get("/api/tasks").await.expect(200)["total"], 1);
    assert_eq!(ada.get(&format!("/api/ai/agents/{agent}/executions")).await.expect(200)["total"], 1);
    runs(&ada, &id, 1).await;
}

#[tokio::test]
async fn many_runs_survive_kill_9_and_repeat_nothing() {
    let (host, ada) = host_with_ada().await;
    let chain: Vec<Value> = (0..15)
        .map(|number| {
            let waits: Vec<String> = (number > 0).then(|| format!("s{}", number - 1)).into_iter().collect();
            // None is over before the host is killed.
            let mut step = json!({"id": format!("s{number}"), "type": "delay", "input": {"duration": "3s"}});
            if number != 9 {
                step = json!({"id": format!("s{number}"), "type": "action", "action": "transform", "input": {"value": number}});
            }
            step["dependencies"] = json!(waits);
            step
        })
        .collect();
    let id = active(&ada, named("Chain", json!(chain))).await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(execute(&ada, &id, json!({})).await);
    }
    let first = format!("{ROUTES}/runs/{}", ids[0]);
    let run = eventually("some steps", async || {
        let run = ada.get(&first).await.expect(200);
        (run["eventSequence"].as_u64()? > 6).then_some(run)
    })
    .await;
    assert!(["running", "waiting"].contains(&text(&run, "status").as_str()), "{run}");
    let host = host.kill().await.start().await;
    let ada = host.client().with_token(ada.token());
    for run_id in &ids {
        becomes(&ada, run_id, "completed").await;
        let events = history(&ada, run_id).await;
        for number in 0..15 {
            assert_eq!(count(&events, "workflow.step.completed", &format!("s{number}")), 1, "s{number}");
        }
    }
}

#[tokio::test]
async fn what_can_never_run_is_refused_when_it_is_saved() {
    let (host, ada) = host_with_ada().await;
    let parallel = |id: &str, waits: Value| json!({"id": id, "type": "parallel", "dependencies": waits});
    let refused = async |steps: Value, about: &str| {
        let answer = ada.post(ROUTES, &named("W", steps)).await;
        let body = answer.problem(422, "INVALID_DEFINITION");
        assert!(body["errors"].to_string().contains(about), "{about}: {body}");
    };
    refused(json!([parallel("a", json!(["b"])), parallel("b", json!(["a"])), parallel("c", json!(["b"]))]), "cycle")
        .await;
    refused(json!([parallel("a", json!(["nowhere"]))]), "no step nowhere").await;
    refused(json!([{"id": "a", "type": "condition", "when": "a = 1"}]), "when").await;
    refused(
        json!([{"id": "a", "type": "action", "action": "event.publish", "input": {"type": "task.created"}}]),
        "custom.",
    )
    .await;
    refused(json!([{"id": "a", "type": "action", "action": "service.call", "input": {"method": "GET", "path": "/api/secrets/s/value"}}]), "not among").await;
    let answer =
        ada.post(ROUTES, &json!({"name": "", "definition": {"steps": [{"id": "a b", "type": "party"}]}})).await;
    answer.problem(400, "VALIDATION_ERROR");
    ada.post(ROUTES, &json!({"name": "T", "trigger": {"type": "schedule", "cron": "x"}}))
        .await
        .problem(422, "INVALID_TRIGGER");
    // A draft may be empty; what is turned on has a step.
    let id = text(&ada.post(ROUTES, &json!({"name": "Empty"})).await.expect(201), "id");
    let path = format!("{ROUTES}/{id}");
    ada.post(&format!("{path}/activate"), &json!({})).await.problem(422, "WORKFLOW_EMPTY");
    ada.post(&format!("{path}/execute"), &json!({})).await.problem(409, "WORKFLOW_NOT_ACTIVE");
    let verdict =
        ada.post(&format!("{path}/validate"), &json!({"definition": {"steps": [parallel("a", json!(["a"]))]}})).await;
    assert_eq!(verdict.expect(200)["valid"], false);
    // A change makes a version, a run keeps its own, and what was seen before is not overwritten.
    let steps = |value: i64| {
        json!([{"id": "a", "type": "delay", "input": {"duration": 3600}},
        {"id": "b", "type": "action", "action": "transform", "dependencies": ["a"], "input": {"value": value}}])
    };
    let saved = ada.put(&path, &json!({"definition": {"steps": steps(1)}})).await.expect(200);
    ada.post(&format!("{path}/activate"), &json!({})).await.done(200);
    let run_id = execute(&ada, &id, json!({})).await;
    let changed = ada.put(&path, &json!({"definition": {"steps": steps(2)}})).await.expect(200);
    assert!(changed["definitionVersion"].as_i64() > saved["definitionVersion"].as_i64(), "{changed}");
    assert_eq!(ada.get(&format!("{path}/versions")).await.expect(200)["total"], 3);
    assert_eq!(ada.get(&format!("{ROUTES}/runs/{run_id}")).await.expect(200)["version"], saved["definitionVersion"]);
    let stale = ada.request(reqwest::Method::PUT, &path).header("if-match", "\"1\"").json(&json!({"name": "X"}));
    ada.send(stale).await.problem(412, "PRECONDITION_FAILED");
    ada.delete(&path).await.problem(409, "WORKFLOW_RUNNING");
    let cancel = format!("{ROUTES}/runs/{run_id}/cancel");
    assert_eq!(ada.post(&cancel, &json!({})).await.expect(200)["status"], "cancelled");
    assert_eq!(
        ada.post(&cancel, &json!({})).await.expect(200)["status"],
        "cancelled",
        "cancelling again changes nothing"
    );
    let copy = ada.post(&format!("{path}/duplicate"), &json!({})).await.expect(201);
    assert_eq!((&copy["status"], &copy["name"]), (&json!("draft"), &json!("Copy of Empty")));
    ada.post(&format!("{path}/archive"), &json!({})).await.done(200);
    ada.put(&path, &json!({"name": "X"})).await.problem(409, "WORKFLOW_ARCHIVED");
    ada.delete(&path).await.done(204);
    ada.get(&path).await.problem(404, "NOT_FOUND");
    drop(host);
}

#[tokio::test]
async fn others_see_nothing_and_viewers_change_nothing() {
    let (host, ada) = host_with_ada().await;
    let vic = members::bring(&host, &ada, "vic@example.com", "Viewer").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let gate = json!([{"id": "g", "type": "human_gate", "humanGate": {"requiredApprovers": [members::id(&ada)]}}]);
    let id = active(&ada, named("Mine", gate)).await;
    let run_id = execute(&ada, &id, json!({})).await;
    let waiting = approval(&ada).await;
    let (path, run) = (format!("{ROUTES}/{id}"), format!("{ROUTES}/runs/{run_id}"));
    for read in [
        path.clone(),
        format!("{path}/versions"),
        format!("{path}/runs"),
        format!("{path}/hooks"),
        run.clone(),
        format!("{run}/steps"),
        format!("{run}/events"),
    ] {
        eve.get(&read).await.problem(404, "NOT_FOUND");
        vic.get(&read).await.done(200);
    }
    for post in [
        format!("{path}/execute"),
        format!("{path}/activate"),
        format!("{path}/duplicate"),
        format!("{run}/cancel"),
        format!("{run}/retry"),
    ] {
        eve.post(&post, &json!({})).await.problem(404, "NOT_FOUND");
        vic.post(&post, &json!({})).await.problem(403, "FORBIDDEN");
    }
    assert_eq!(eve.get(ROUTES).await.expect(200)["total"], 0);
    assert_eq!(eve.get(&format!("{ROUTES}/runs")).await.expect(200)["total"], 0);
    assert_eq!(vic.get(&format!("{ROUTES}/approvals")).await.expect(200)["total"], 0);
    decide(&eve, &waiting, "approve").await.problem(404, "NOT_FOUND");
    decide(&vic, &waiting, "approve").await.problem(403, "FORBIDDEN");
    vic.post(ROUTES, &named("X", json!([]))).await.problem(403, "FORBIDDEN");
    // Somebody who is named may decide whatever their role; a child of another organization's workflow is not there.
    let sub = json!([{"id": "s", "type": "subworkflow", "input": {"workflowId": id}}]);
    let other = active(&eve, named("Theirs", sub)).await;
    let theirs = execute(&eve, &other, json!({})).await;
    assert_eq!(becomes(&eve, &theirs, "failed").await["error"]["code"], "NOT_FOUND");
}

#[tokio::test]
async fn retries_are_used_up_and_a_failed_run_goes_on_where_it_failed() {
    let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let respond = move |received: &Received| {
        let number = seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        (if received.target == "/fine" || number > 4 { 200 } else { 503 }, "{}".to_owned())
    };
    let listener = Listener::answering(Arc::new(respond)).await;
    let host = Host::with(near(Manifest::services(), &[listener.address()])).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let http = |id: &str, path: &str, waits: Value| {
        json!({"id": id, "type": "action", "action": "http.request",
        "dependencies": waits, "input": {"url": listener.url(path)}, "retry": {"max": 2, "backoff": 0}})
    };
    let mut harmless = http("harmless", "/harmless", json!([]));
    harmless["continueOnError"] = json!(true);
    harmless["retry"] = json!({"max": 0});
    let steps = json!([http("fine", "/fine", json!(["harmless"])), harmless, http("flaky", "/flaky", json!(["fine"])),
        {"id": "end", "type": "action", "action": "transform", "dependencies": ["flaky", "harmless"],
            "input": {"value": "{{steps.harmless.error.code}} {{steps.harmless.output.status}} {{steps.harmless.output.x ?? 'nothing'}}"}}]);
    let id = active(&ada, named("Flaky", steps)).await;
    let run_id = execute(&ada, &id, json!({})).await;
    let run = becomes(&ada, &run_id, "failed").await;
    assert_eq!((&run["error"]["stepId"], &run["error"]["code"]), (&json!("flaky"), &json!("HTTP_STATUS")), "{run}");
    let found = steps_of(&ada, &run_id).await;
    assert_eq!(
        found,
        [("end", "cancelled", 0), ("fine", "completed", 1), ("flaky", "failed", 3), ("harmless", "failed", 1)]
            .map(owned)
    );
    ada.post(&format!("{ROUTES}/runs/{run_id}/cancel"), &json!({})).await.problem(409, "RUN_OVER");
    ada.post(&format!("{ROUTES}/runs/{run_id}/retry"), &json!({})).await.done(202);
    let run = becomes(&ada, &run_id, "completed").await;
    assert_eq!(run["result"]["outputs"]["end"], "HTTP_STATUS 503 nothing");
    let found = steps_of(&ada, &run_id).await;
    assert_eq!(
        found,
        [("end", "completed", 1), ("fine", "completed", 1), ("flaky", "completed", 4), ("harmless", "failed", 1)]
            .map(owned)
    );
    ada.post(&format!("{ROUTES}/runs/{run_id}/retry"), &json!({})).await.problem(409, "RUN_NOT_FAILED");
    let events = history(&ada, &run_id).await;
    assert_eq!(count(&events, "workflow.step.started", "flaky"), 4, "every attempt is told");
    let fine = listener.received().iter().filter(|received| received.target == "/fine").count();
    assert_eq!(fine, 1, "what was done is not done again");
    // A path that leads nowhere, and an address that nobody allowed.
    let lost = json!([{"id": "a", "type": "action", "action": "transform", "input": {"value": "{{trigger.input.x}}"}}]);
    let lost = active(&ada, named("Lost", lost)).await;
    let run_id = execute(&ada, &lost, json!({"y": 1})).await;
    assert_eq!(becomes(&ada, &run_id, "failed").await["error"]["code"], "UNRESOLVED_REFERENCE");
    let away =
        json!([{"id": "a", "type": "action", "action": "http.request", "input": {"url": "http://169.254.169.254/"}}]);
    let away = active(&ada, named("Away", away)).await;
    let run_id = execute(&ada, &away, json!({})).await;
    assert_eq!(becomes(&ada, &run_id, "failed").await["error"]["code"], "EGRESS_DENIED");
}

fn owned((key, status, attempt): (&str, &str, i64)) -> (String, String, i64) {
    (key.to_owned(), status.to_owned(), attempt)
}

async fn steps_of(client: &Client, run_id: &str) -> Vec<(String, String, i64)> {
    let found = steps(client, run_id).await;
    found.into_iter().map(|(key, step)| (key, text(&step, "status"), step["attempt"].as_i64().unwrap_or(-1))).collect()
}

#[tokio::test]
async fn a_gate_takes_the_words_it_asks_for_and_its_timeout_is_applied() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Viewer").await;
    let gate = |more: Value| {
        let mut gate = json!({"message": "Go on?", "requiredApprovers": [members::id(&ada), members::id(&bob)]});
        for (name, value) in more.as_object().into_iter().flatten() {
            gate[name] = value.clone();
        }
        json!([{"id": "g", "type": "human_gate", "humanGate": gate},
            {"id": "end", "type": "action", "action": "transform", "dependencies": ["g"], "input": {"value": "{{steps.g.output.decision}}"}}])
    };
    // All must agree; one word is not enough, and one's word stands.
    let all = active(&ada, named("All", gate(json!({"policy": "all"})))).await;
    let run_id = execute(&ada, &all, json!({})).await;
    let waiting = approval(&bob).await;
    assert_eq!(decide(&bob, &waiting, "approve").await.expect(200)["status"], "pending");
    let still = async |client: &Client| client.get(&format!("{ROUTES}/approvals")).await.expect(200)["total"].clone();
    assert_eq!((still(&bob).await, still(&ada).await), (json!(0), json!(1)), "it waits for the other one only");
    assert_eq!(decide(&bob, &waiting, "approve").await.expect(200)["decisions"].as_array().map(Vec::len), Some(1));
    decide(&bob, &waiting, "reject").await.problem(409, "APPROVAL_CLOSED");
    assert_eq!(decide(&ada, &waiting, "approve").await.expect(200)["status"], "approved");
    assert_eq!(becomes(&ada, &run_id, "completed").await["result"]["outputs"]["end"], "approved");
    // Those who are asked find it in their inbox.
    eventually("a notification", async || {
        let inbox = bob.get("/api/notifications").await.expect(200);
        inbox["items"].to_string().contains("waits for your approval").then_some(())
    })
    .await;
    // A rejection fails the run.
    let run_id = execute(&ada, &all, json!({})).await;
    let waiting = approval(&ada).await;
    decide(&ada, &waiting, "reject").await.done(200);
    assert_eq!(becomes(&ada, &run_id, "failed").await["error"]["code"], "REJECTED");
    // Nobody decides.
    let proceed = active(&ada, named("Proceed", gate(json!({"timeout": 1, "onTimeout": "proceed"})))).await;
    let run_id = execute(&ada, &proceed, json!({})).await;
    assert_eq!(becomes(&ada, &run_id, "completed").await["result"]["outputs"]["end"], "timeout");
    let cancel = active(&ada, named("Cancel", gate(json!({"timeout": "1s", "onTimeout": "cancel"})))).await;
    let run_id = execute(&ada, &cancel, json!({})).await;
    assert_eq!(becomes(&ada, &run_id, "cancelled").await["error"]["code"], "APPROVAL_TIMEOUT");
    let only = json!({"timeout": 2, "onTimeout": "escalate", "requiredApprovers": [members::id(&bob)], "escalateTo": [members::id(&ada)]});
    let escalate = active(&ada, named("Escalate", gate(only))).await;
    let run_id = execute(&ada, &escalate, json!({})).await;
    let asked = approval(&ada).await;
    assert_eq!((&asked["isEscalated"], &asked["runId"]), (&json!(true), &json!(run_id)), "{asked}");
    decide(&ada, &asked, "approve").await.done(200);
    becomes(&ada, &run_id, "completed").await;
}

#[tokio::test]
async fn a_loop_that_triggers_itself_is_stopped() {
    let (_host, ada) = host_with_ada().await;
    let publish = |kind: &str| json!([{"id": "p", "type": "action", "action": "event.publish", "input": {"type": kind, "data": {"n": 1}}}]);
    let on = |name: &str, kind: &str, steps: Value| json!({"name": name, "trigger": {"type": "event", "eventType": kind}, "definition": {"steps": steps}});
    // One that answers to what it publishes itself is never started by it.
    let own = active(&ada, on("Own", "custom.own", publish("custom.own"))).await;
    execute(&ada, &own, json!({})).await;
    // Two that start each other go on for five runs.
    let ping = active(&ada, on("Ping", "custom.pong", publish("custom.ping"))).await;
    let pong = active(&ada, on("Pong", "custom.ping", publish("custom.pong"))).await;
    let first = execute(&ada, &ping, json!({})).await;
    becomes(&ada, &first, "completed").await;
    let pings = runs(&ada, &ping, 3).await;
    let pongs = runs(&ada, &pong, 3).await;
    let depths = |runs: &[Value]| runs.iter().map(|run| run["depth"].as_i64().unwrap_or(-1)).collect::<Vec<_>>();
    assert_eq!((depths(&pings), depths(&pongs)), (vec![0, 2, 4], vec![1, 3, 5]));
    for run in pongs.iter().chain(&pings) {
        becomes(&ada, &text(run, "id"), "completed").await;
    }
    // One that reacts to tasks and makes tasks, through another service.
    let make = json!([{"id": "t", "type": "action", "action": "task.create",
        "input": {"title": "More", "projectId": "{{trigger.data.projectId}}"}}]);
    let tasks = active(&ada, on("Tasks", "task.created", make)).await;
    let project = plans::project(&ada, "Loop").await;
    ada.post("/api/tasks", &json!({"title": "One", "projectId": project})).await.done(201);
    let run = text(&runs(&ada, &tasks, 1).await[0], "id");
    becomes(&ada, &run, "completed").await;
    // Something that comes after everything the loop could have caused.
    ada.post("/api/tasks", &json!({"title": "Two", "projectId": project})).await.done(201);
    let all = runs(&ada, &tasks, 2).await;
    becomes(&ada, &text(&all[1], "id"), "completed").await;
    assert_eq!(ada.get("/api/tasks").await.expect(200)["total"], 4);
    runs(&ada, &tasks, 2).await;
    runs(&ada, &own, 1).await;
    runs(&ada, &pong, 3).await;
}

#[tokio::test]
async fn a_webhook_is_signed_and_a_delivery_starts_one_run() {
    let (host, ada) = host_with_ada().await;
    let steps =
        json!([{"id": "a", "type": "action", "action": "transform", "input": {"value": "{{trigger.body.who}}"}}]);
    let body = json!({"name": "Hook", "trigger": {"type": "webhook", "filter": "exists trigger.body.who"}, "definition": {"steps": steps}});
    let id = active(&ada, body).await;
    let key = "a key that only the host reads";
    let secret = json!({"name": "hook", "type": "GENERIC", "value": key, "services": ["workflow"]});
    let secret = ada.post("/api/secrets", &secret).await.expect(201);
    let open = ada.post(&format!("{ROUTES}/{id}/hooks"), &json!({})).await.expect(201);
    let signed = ada.post(&format!("{ROUTES}/{id}/hooks"), &json!({"secretId": secret["id"]})).await.expect(201);
    let listed = ada.get(&format!("{ROUTES}/{id}/hooks")).await;
    assert!(
        !listed.text().contains(&text(&open, "token")) && !listed.text().contains("tokenHash"),
        "{}",
        listed.text()
    );
    let stranger = host.client();
    let call = |hook: &Value, body: &str| {
        let request = stranger.request(reqwest::Method::POST, &text(hook, "path"));
        request.header("content-type", "application/json").body(body.to_owned())
    };
    let good = r#"{"who":"Grace"}"#;
    stranger.post(&format!("{ROUTES}/hooks/wh_{}", "0".repeat(64)), &json!({})).await.problem(404, "NOT_FOUND");
    // The same delivery twice is one run.
    let first = stranger.send(call(&open, good).header("berth-delivery-id", "d1")).await.expect(202);
    let again = stranger.send(call(&open, good).header("berth-delivery-id", "d1")).await.expect(200);
    assert_eq!((&first["runId"], &again["duplicate"]), (&again["runId"], &json!(true)));
    let run = becomes(&ada, &text(&first, "runId"), "completed").await;
    assert_eq!((&run["result"]["outputs"]["a"], &run["triggerType"]), (&json!("Grace"), &json!("webhook")), "{run}");
    stranger.send(call(&open, "{}")).await.problem(422, "FILTERED");
    stranger.send(call(&open, "{")).await.problem(400, "VALIDATION_ERROR");
    // With a secret every call is signed.
    stranger.send(call(&signed, good)).await.problem(401, "SIGNATURE_INVALID");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("now").as_secs();
    let sign = |time: u64, key: &str| format!("sha256={}", hmac(key.as_bytes(), format!("{time}.{good}").as_bytes()));
    let send = async |time: u64, signature: String| {
        stranger
            .send(call(&signed, good).header("berth-timestamp", time.to_string()).header("berth-signature", signature))
            .await
    };
    send(now, sign(now, "another key")).await.problem(401, "SIGNATURE_INVALID");
    send(now - 3_600, sign(now - 3_600, key)).await.problem(401, "SIGNATURE_INVALID");
    let taken = send(now, sign(now, key)).await.expect(202);
    assert_eq!(send(now, sign(now, key)).await.expect(200)["runId"], taken["runId"], "a call that is played again");
    let played = call(&signed, good).header("berth-timestamp", now.to_string()).header("berth-delivery-id", "new");
    stranger.send(played.header("berth-signature", sign(now, key))).await.done(200);
    becomes(&ada, &text(&taken, "runId"), "completed").await;
    let bodily =
        call(&signed, good).header("x-hub-signature-256", format!("sha256={}", hmac(key.as_bytes(), good.as_bytes())));
    stranger.send(bodily.header("x-github-delivery", "g1")).await.done(202);
    runs(&ada, &id, 3).await;
    ada.post(&format!("{ROUTES}/{id}/pause"), &json!({})).await.done(200);
    stranger.send(call(&open, good)).await.problem(409, "WORKFLOW_NOT_ACTIVE");
    ada.delete(&format!("{ROUTES}/{id}/hooks/{}", text(&open, "id"))).await.done(204);
    stranger.send(call(&open, good)).await.problem(404, "NOT_FOUND");
    let manual = active(&ada, named("Manual", json!([{"id": "a", "type": "parallel"}]))).await;
    ada.post(&format!("{ROUTES}/{manual}/hooks"), &json!({})).await.problem(422, "TRIGGER_MISMATCH");
}

fn hmac(key: &[u8], text: &[u8]) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).expect("a key");
    mac.update(text);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn runs_that_meet_do_as_their_policy_says() {
    let (_host, ada) = host_with_ada().await;
    let gate = json!([{"id": "g", "type": "human_gate", "humanGate": {}}]);
    let with = |policy: &str| json!({"name": policy, "concurrency": policy, "definition": {"steps": gate}});
    let skip = active(&ada, with("skip")).await;
    let first = execute(&ada, &skip, json!({})).await;
    let refused = ada.post(&format!("{ROUTES}/{skip}/execute"), &json!({})).await.problem(409, "RUN_SKIPPED");
    assert_eq!(refused["runId"], first.as_str());
    becomes(&ada, &first, "waiting").await;
    ada.post(&format!("{ROUTES}/runs/{first}/cancel"), &json!({})).await.done(200);
    assert_eq!(ada.get(&format!("{ROUTES}/approvals")).await.expect(200)["total"], 0, "its approval went with it");
    execute(&ada, &skip, json!({})).await;
    // Where nobody is named, who made the workflow is told.
    eventually("a notification", async || {
        let inbox = ada.get("/api/notifications?type=workflow.approval.requested").await.expect(200);
        (inbox["total"].as_i64() > Some(0)).then_some(())
    })
    .await;

    let queue = active(&ada, with("queue")).await;
    let first = execute(&ada, &queue, json!({})).await;
    let second = ada.post(&format!("{ROUTES}/{queue}/execute"), &json!({})).await.expect(202);
    assert_eq!((&second["status"], &second["isQueued"]), (&json!("pending"), &json!(true)));
    becomes(&ada, &first, "waiting").await;
    ada.post(&format!("{ROUTES}/runs/{first}/cancel"), &json!({})).await.done(200);
    becomes(&ada, &text(&second, "runId"), "waiting").await;

    let replace = active(&ada, with("replace")).await;
    let first = execute(&ada, &replace, json!({})).await;
    becomes(&ada, &first, "waiting").await;
    let second = execute(&ada, &replace, json!({})).await;
    becomes(&ada, &first, "cancelled").await;
    becomes(&ada, &second, "waiting").await;
}

#[tokio::test]
async fn items_children_and_delays_are_waited_for() {
    let (_host, ada) = host_with_ada().await;
    let child = json!([{"id": "double", "type": "action", "action": "transform", "input": {"value": {"got": "{{trigger.input.n}}"}}},
        {"id": "fails", "type": "action", "action": "transform", "dependencies": ["double"], "when": "trigger.input.n == 3",
            "input": {"value": "{{trigger.input.missing}}"}}]);
    let child = active(&ada, named("Child", child)).await;
    let definition = json!([
        {"id": "wait", "type": "delay", "input": {"duration": "1s"}},
        {"id": "each", "type": "foreach", "dependencies": ["wait"], "action": "transform",
            "input": {"items": "{{trigger.input.names}}", "parallel": 3, "each": {"value": "{{index}}-{{item}}"}}},
        {"id": "all", "type": "foreach", "dependencies": ["each"], "continueOnError": true,
            "input": {"items": [1, 2, 3], "workflowId": child, "each": {"n": "{{item}}"}}},
        {"id": "one", "type": "subworkflow", "dependencies": ["all"], "input": {"workflowId": child, "input": {"n": 9}}},
        {"id": "end", "type": "action", "action": "transform", "dependencies": ["one"], "input": {"value": {
            "each": "{{steps.each.output.items}}", "failed": "{{steps.all.output.failed}}", "one": "{{steps.one.output.outputs.double}}"}}}
    ]);
    let id = active(&ada, named("Parent", definition)).await;
    let names: Vec<String> = (0..40).map(|number| format!("n{number}")).collect();
    let run_id = execute(&ada, &id, json!({"names": names})).await;
    let run = becomes(&ada, &run_id, "completed").await;
    let end = &run["result"]["outputs"]["end"];
    assert_eq!(end["each"].as_array().map(Vec::len), Some(40), "{run}");
    assert_eq!(
        (&end["each"][39], &end["failed"], &end["one"]["got"]),
        (&json!("39-n39"), &json!(1), &json!(9)),
        "{run}"
    );
    let children = ada.get(&format!("{ROUTES}/{child}/runs")).await.expect(200);
    assert_eq!(children["total"], 4, "{children}");
    assert!(children["items"].as_array().into_iter().flatten().all(|child| child["parentRunId"] == run_id.as_str()));
    let found = steps(&ada, &run_id).await;
    assert_eq!((found.len(), &found["each.7"]["attempt"]), (5 + 40 + 3, &json!(1)));
    // Too many items are refused; a workflow that starts itself ends.
    let many: Vec<i64> = (0..1_001).collect();
    let run_id = execute(&ada, &id, json!({"names": many})).await;
    assert_eq!(becomes(&ada, &run_id, "failed").await["error"]["code"], "TOO_MANY_ITEMS");
    let id = text(&ada.post(ROUTES, &named("Self", json!([{"id": "a", "type": "parallel"}]))).await.expect(201), "id");
    let again = json!([{"id": "s", "type": "subworkflow", "input": {"workflowId": id}}]);
    ada.put(&format!("{ROUTES}/{id}"), &json!({"definition": {"steps": again}})).await.done(200);
    ada.post(&format!("{ROUTES}/{id}/activate"), &json!({})).await.done(200);
    let run_id = execute(&ada, &id, json!({})).await;
    becomes(&ada, &run_id, "failed").await;
    assert_eq!(ada.get(&format!("{ROUTES}/{id}/runs")).await.expect(200)["total"], 6);
    // Cancelling a run cancels what it waits for.
    let slow = active(&ada, named("Slow", json!([{"id": "d", "type": "delay", "input": {"duration": "1h"}}]))).await;
    let above =
        active(&ada, named("Above", json!([{"id": "s", "type": "subworkflow", "input": {"workflowId": slow}}]))).await;
    let run_id = execute(&ada, &above, json!({})).await;
    let below = text(&runs(&ada, &slow, 1).await[0], "id");
    becomes(&ada, &below, "waiting").await;
    ada.post(&format!("{ROUTES}/runs/{run_id}/cancel"), &json!({})).await.done(200);
    becomes(&ada, &below, "cancelled").await;
}

#[tokio::test]
async fn a_step_waits_for_an_execution_and_fails_where_nobody_is() {
    let host = Host::with(near(Manifest::services(), &[]).bereft_of("messaging")).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let plan_id = plans::ready_plan(&ada, &plans::three_steps()).await;
    let steps = json!([
        {"id": "run", "type": "action", "action": "execution.start", "input": {"planId": "{{trigger.input.plan}}"}},
        {"id": "read", "type": "action", "action": "service.call", "dependencies": ["run"],
            "input": {"method": "GET", "path": "/api/executions/{{steps.run.output.executionId}}"}},
        {"id": "end", "type": "action", "action": "transform", "dependencies": ["read"], "input": {"value": "{{steps.read.output.status}}"}}]);
    let id = active(&ada, named("Execute", steps)).await;
    let run_id = execute(&ada, &id, json!({"plan": plan_id})).await;
    let run = becomes(&ada, &run_id, "completed").await;
    assert_eq!(run["result"]["outputs"]["end"], "completed", "{run}");
    let run_id = execute(&ada, &id, json!({"plan": "nowhere"})).await;
    assert_eq!(becomes(&ada, &run_id, "failed").await["error"]["code"], "NOT_FOUND");
    let tool = json!([{"id": "t", "type": "action", "action": "message.post", "input": {"conversationId": "c1", "content": "x"}}]);
    let tool = active(&ada, named("Nobody", tool)).await;
    let run_id = execute(&ada, &tool, json!({})).await;
    assert_eq!(becomes(&ada, &run_id, "failed").await["error"]["code"], "SERVICE_UNAVAILABLE");
}
