//! workflow: what is lost, late or old, what steps reach, and what others hear of runs.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use berth_tests::answer::text;
use berth_tests::listener::{Listener, Received};
use berth_tests::model_provider::{Act, Asked, whole};
use berth_tests::wait::heard;
use berth_tests::workflows::{active, approval, becomes, count, decide, execute, history, named, near, runs, steps};
use berth_tests::{Client, Host, Manifest, ModelProvider, eventually, guests, mcp, members, plans};
use futures_util::future::join_all;
use serde_json::{Value, json};

const ROUTES: &str = "/api/workflows";

async fn started(manifest: Manifest) -> (Host, Client) {
    let host = Host::with(manifest).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    (host, ada)
}

/// How often something was asked before, by its name.
#[derive(Clone, Default)]
struct Tally(Arc<Mutex<BTreeMap<String, usize>>>);

impl Tally {
    fn next(&self, name: &str) -> usize {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(name.to_owned()).or_default();
        *count += 1;
        *count
    }
}

/// Whoever is killed while a step calls is given up: with a retry the call is made again under the same key, without one never.
/// Then: steps and runs that take too long, a message that was lost, and what is taken away in the end.
#[tokio::test]
async fn what_is_lost_late_or_old_is_looked_after() {
    let tally = Tally::default();
    let answering = move |asked: &Asked| match (tally.next(&asked.target), asked.target.as_str()) {
        (1, "/again" | "/once") => vec![Act::Hang],
        (1, _) => whole(503, "", "{}"),
        _ => whole(200, "", "{}"),
    };
    let server = ModelProvider::start(Arc::new(answering)).await;
    let (host, ada) = started(near(Manifest::services(), &[server.address()])).await;
    let call = |path: &str, more: Value| {
        let url = format!("http://{}{path}", server.address());
        let mut step = json!({"id": "call", "type": "action", "action": "http.request",
            "input": {"method": "POST", "url": url, "body": {"n": 1}}});
        for (name, value) in more.as_object().into_iter().flatten() {
            step[name] = value.clone();
        }
        json!([step])
    };
    let again = active(&ada, named("Again", call("/again", json!({"retry": {"max": 1, "backoff": 0}})))).await;
    let once = active(&ada, named("Once", call("/once", json!({})))).await;
    let again = execute(&ada, &again, json!({})).await;
    let only = execute(&ada, &once, json!({})).await;
    eventually("both calls", async || (server.asked().len() == 2).then_some(())).await;
    let stopped = host.kill().await;
    // As if a minute had gone by.
    let leases = "UPDATE workflow_step_runs SET lease_until = created_at WHERE status = 'running'";
    assert_eq!(stopped.store().change(leases).await, 2);
    let host = stopped.start().await;
    let ada = host.client().with_token(ada.token());
    becomes(&ada, &again, "completed").await;
    let run = becomes(&ada, &only, "failed").await;
    assert_eq!((&run["error"]["code"], &run["error"]["stepId"]), (&json!("INTERRUPTED"), &json!("call")), "{run}");
    let keys = |target: &str| -> Vec<String> {
        let asked = server.asked();
        let calls = asked.iter().filter(|asked| asked.target == target);
        calls.map(|asked| asked.header("idempotency-key").to_owned()).collect()
    };
    let (first, second) = (keys("/again"), keys("/once"));
    assert!(first.len() == 2 && first[0] == first[1] && !first[0].is_empty(), "{first:?}");
    assert!(second.len() == 1 && second[0] != first[0], "{second:?}");
    let events = history(&ada, &again).await;
    assert_eq!(count(&events, "workflow.step.started", "call"), 2);
    let failed = events.iter().find(|event| event["type"] == "workflow.step.failed").expect("a failed attempt");
    assert_eq!((&failed["data"]["error"]["code"], &failed["data"]["willRetry"]), (&json!("INTERRUPTED"), &json!(true)));

    // A step that waits too long lets go of what it waits for.
    let slow = active(&ada, named("Slow", json!([{"id": "d", "type": "delay", "input": {"duration": "1h"}}]))).await;
    let waits = json!([{"id": "s", "type": "subworkflow", "timeout": 1, "input": {"workflowId": slow}}]);
    let waits = execute(&ada, &active(&ada, named("Waits", waits)).await, json!({})).await;
    assert_eq!(becomes(&ada, &waits, "failed").await["error"]["code"], "STEP_TIMEOUT");
    becomes(&ada, &text(&runs(&ada, &slow, 1).await[0], "id"), "cancelled").await;
    // So does a run.
    let mut gate = named("Gate", json!([{"id": "g", "type": "human_gate", "humanGate": {}}]));
    gate["maxRunMinutes"] = json!(1);
    let long = execute(&ada, &active(&ada, gate).await, json!({})).await;
    let run = becomes(&ada, &long, "waiting").await;
    assert!(run["deadline"].as_str() > run["startedAt"].as_str(), "{run}");
    approval(&ada).await;
    let store = host.store();
    let change = async |set: &str, of: &str| assert_eq!(store.change(&format!("UPDATE {set} WHERE {of}")).await, 1);
    change("workflow_runs SET deadline = created_at", &format!("id = '{long}'")).await;
    assert_eq!(becomes(&ada, &long, "timeout").await["error"]["code"], "RUN_TIMEOUT");
    assert_eq!(ada.get(&format!("{ROUTES}/approvals")).await.expect(200)["total"], 0);
    // A message that was to come in an hour does not come: another one is sent.
    let late = call("/late", json!({"retry": {"max": 1, "backoff": "1h"}}));
    let late = execute(&ada, &active(&ada, named("Late", late)).await, json!({})).await;
    eventually("the first attempt", async || {
        steps(&ada, &late).await.get("call").filter(|step| step["error"]["code"] == "HTTP_STATUS").map(drop)
    })
    .await;
    let minute =
        (chrono::Utc::now() - chrono::TimeDelta::minutes(1)).to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let set = format!("workflow_step_runs SET next_attempt_at = '{minute}', updated_at = '{minute}'");
    change(&set, &format!("run_id = '{late}'")).await;
    becomes(&ada, &late, "completed").await;
    // What is old is taken away, and so are the runs of a workflow that is deleted.
    change("workflow_runs SET completed_at = '2020-01-01T00:00:00.000Z'", &format!("id = '{again}'")).await;
    ada.delete(&format!("{ROUTES}/{once}")).await.done(204);
    for gone in [again, only] {
        eventually("a run that is gone", async || {
            (ada.get(&format!("{ROUTES}/runs/{gone}")).await.status == 404).then_some(())
        })
        .await;
        let left = format!("SELECT run_id FROM workflow_run_events WHERE run_id = '{gone}'");
        eventually("its history gone", async || store.ask(&left).await.is_empty().then_some(())).await;
    }
    ada.get(&format!("{ROUTES}/runs/{late}")).await.done(200);
}

/// A step whose message cannot be handled fails, and its run with it: here, because what it refers to has become larger than
/// a component can read.
#[tokio::test]
async fn a_step_that_cannot_be_handled_fails_and_does_not_wait_for_ever() {
    let (host, ada) = started(near(Manifest::services(), &[])).await;
    let definition = json!([
        {"id": "value", "type": "action", "action": "transform", "input": {"value": "small"}},
        {"id": "gate", "type": "human_gate", "dependencies": ["value"], "humanGate": {}},
        {"id": "use", "type": "action", "action": "transform", "dependencies": ["value", "gate"],
            "retry": {"max": 3, "backoff": 0}, "input": {"value": "{{steps.value.output}}"}},
    ]);
    let run_id = execute(&ada, &active(&ada, named("Grows", definition)).await, json!({})).await;
    let asked = approval(&ada).await;
    let store = host.store();
    let large =
        if store.is_postgres() { "to_jsonb(repeat('x', 9000000))" } else { "'\"' || hex(zeroblob(4500000)) || '\"'" };
    let grow =
        format!("UPDATE workflow_step_runs SET output = {large} WHERE run_id = '{run_id}' AND step_id = 'value'");
    assert_eq!(store.change(&grow).await, 1);
    decide(&ada, &asked, "approve").await.done(200);
    let run = becomes(&ada, &run_id, "failed").await;
    assert_eq!(
        (&run["error"]["code"], &run["error"]["stepId"]),
        (&json!("DISPATCH_EXHAUSTED"), &json!("use")),
        "{run}"
    );
    // No retry heals it: there was one attempt.
    let events = history(&ada, &run_id).await;
    assert_eq!((count(&events, "workflow.step.failed", "use"), count(&events, "workflow.step.started", "use")), (1, 0));
    let small = if store.is_postgres() { "to_jsonb('small'::text)" } else { "'\"small\"'" };
    let mend =
        format!("UPDATE workflow_step_runs SET output = {small} WHERE run_id = '{run_id}' AND step_id = 'value'");
    assert_eq!(store.change(&mend).await, 1);
    ada.post(&format!("{ROUTES}/runs/{run_id}/retry"), &json!({})).await.done(202);
    assert_eq!(becomes(&ada, &run_id, "completed").await["result"]["outputs"]["use"], "small");
}

/// Of many items eight are under way, and the next one begins when one of them has ended.
#[tokio::test]
async fn of_many_items_only_so_many_are_under_way() {
    let (_host, ada) = started(near(Manifest::services(), &[])).await;
    let gate = json!([{"id": "gate", "type": "human_gate", "humanGate": {"message": "{{trigger.input.n}}?"}}]);
    let child = active(&ada, named("One", gate)).await;
    let all = json!([{"id": "all", "type": "foreach", "continueOnError": true, "input": {"items": (0..12).collect::<Vec<_>>(),
        "parallel": 8, "workflowId": child, "each": {"n": "{{index}}"}}}]);
    let run_id = execute(&ada, &active(&ada, named("All", all)).await, json!({})).await;
    let open = async || {
        let page = ada.get(&format!("{ROUTES}/approvals?limit=200")).await.expect(200);
        page["items"].as_array().cloned().unwrap_or_default()
    };
    for decided in 0..12_usize {
        let under_way = (12 - decided).min(8);
        let asked = eventually("as many gates as may be", async || {
            let open = open().await;
            assert!(open.len() <= under_way, "more than {under_way} are under way: {open:?}");
            (open.len() == under_way).then_some(open)
        })
        .await;
        // As many have begun as ended and may be under way, and no more.
        let begun = (decided + 8).min(12);
        assert_eq!(runs(&ada, &child, begun).await.len(), begun);
        decide(&ada, &asked[0], if decided % 2 == 0 { "approve" } else { "reject" }).await.done(200);
    }
    let run = becomes(&ada, &run_id, "completed").await;
    let found = &run["result"]["outputs"]["all"];
    assert_eq!((&found["count"], &found["completed"], &found["failed"]), (&json!(12), &json!(6), &json!(6)), "{found}");
}

#[tokio::test]
async fn a_schedule_starts_runs_and_what_was_missed_runs_once() {
    let (host, ada) = started(near(Manifest::services(), &[])).await;
    let body = json!({"name": "Clock", "trigger": {"type": "schedule", "cron": "* * * * *"}, "definition": {"steps": [{"id": "a", "type": "parallel"}]}});
    let id = active(&ada, body).await;
    let stopped = host.stop().await;
    // As if the host had been away for long: a run was missed every minute.
    let missed = "UPDATE workflow_schedules SET next_run_at = '2026-01-01T00:00:00.000Z'";
    assert_eq!(stopped.store().change(missed).await, 1);
    let host = stopped.start().await;
    let ada = host.client().with_token(ada.token());
    let path = format!("{ROUTES}/{id}/runs");
    let found = eventually("a scheduled run", async || {
        let page = ada.get(&path).await.expect(200);
        page["items"].as_array().filter(|items| !items.is_empty()).cloned()
    })
    .await;
    let next = host.store().ask("SELECT CAST(next_run_at AS TEXT) FROM workflow_schedules").await;
    assert!(next[0].as_str() > "2026-01-02", "it does not catch up: {next:?}");
    let first = text(found.last().expect("a run"), "id");
    let run = becomes(&ada, &first, "completed").await;
    assert_eq!(run["triggerType"], "schedule", "{run}");
    assert_eq!(run["triggerPayload"]["scheduledFor"], "2026-01-01T00:00:00.000Z", "{run}");
    ada.post(&format!("{ROUTES}/{id}/pause"), &json!({})).await.done(200);
    let found = ada.get(&path).await.expect(200);
    let mut moments = Vec::new();
    for run in found["items"].as_array().into_iter().flatten() {
        let run = ada.get(&format!("{ROUTES}/runs/{}", text(run, "id"))).await.expect(200);
        moments.push(text(&run["triggerPayload"], "scheduledFor"));
    }
    moments.sort();
    let all = moments.len();
    moments.dedup();
    assert_eq!((moments.len(), moments.iter().filter(|moment| moment.as_str() < "2026-01-02").count()), (all, 1));
}

/// Tools, prompts, messages, and a server that wants a secret, which the host puts into the call.
#[tokio::test]
async fn steps_reach_the_services_that_they_name() {
    let stub = mcp::stub().await;
    let listener = Listener::start().await;
    let (_host, ada) = started(near(mcp::manifest(&[stub.address()]), &[listener.address()])).await;
    let server = mcp::register(&ada, &stub, "sums", "/json").await;
    ada.post("/api/prompts", &json!({"name": "greet", "content": "Hi {{name}}"})).await.done(201);
    ada.post("/api/prompts/greet/versions/1/publish", &json!({})).await.done(200);
    let channel = json!({"type": "channel", "name": "quay"});
    let channel = text(&ada.post("/api/messaging/conversations", &channel).await.expect(201), "id");
    let secret = json!({"name": "pager", "type": "API_KEY", "value": "k-nobody-sees", "services": ["workflow"]});
    let secret = text(&ada.post("/api/secrets", &secret).await.expect(201), "id");
    let step = |id: &str, action: &str, waits: &[&str], input: Value| json!({"id": id, "type": "action", "action": action, "dependencies": waits, "input": input});
    let header = json!({"x-pager": {"type": "SECRET_REF", "secretId": secret}});
    let definition = json!([
        step("sum", "mcp.tool", &[], json!({"serverId": server, "toolName": "add", "params": {"a": 1, "b": 2}})),
        step("text", "prompt.render", &[], json!({"name": "greet", "variables": {"name": "Bo"}})),
        step(
            "say",
            "message.post",
            &["sum", "text"],
            json!({"conversationId": channel,
            "content": "{{steps.text.output.content}}: {{steps.sum.output.structuredContent.sum}}"})
        ),
        step(
            "call",
            "http.request",
            &[],
            json!({"method": "POST", "url": listener.url("/page"),
            "authSecretId": secret, "headers": header, "body": {"n": 1}})
        ),
        step("fail", "mcp.tool", &["say", "call"], json!({"serverId": server, "toolName": "fail", "params": {}})),
    ]);
    let id = active(&ada, named("Reaches", definition)).await;
    let run_id = execute(&ada, &id, json!({})).await;
    let run = becomes(&ada, &run_id, "failed").await;
    assert_eq!((&run["error"]["code"], &run["error"]["stepId"]), (&json!("TOOL_FAILED"), &json!("fail")), "{run}");
    let page = ada.get(&format!("/api/messaging/conversations/{channel}/messages")).await.expect(200);
    let said = page["items"].as_array().and_then(|items| items.last()).cloned().unwrap_or_default();
    assert_eq!((&said["senderType"], &said["senderId"]), (&json!("system"), &json!("workflow")), "{said}");
    assert!(text(&said, "content").starts_with("Hi Bo: 3"), "{said}");
    let received = listener.received();
    assert_eq!(received.len(), 1, "{received:?}");
    assert_eq!(
        (received[0].header("authorization"), received[0].header("x-pager")),
        ("Bearer k-nobody-sees", "k-nobody-sees")
    );
    let shown = ada.get(&format!("{ROUTES}/runs/{run_id}/steps")).await;
    assert!(!shown.text().contains("k-nobody-sees"), "{}", shown.text());
}

/// What leaves the service, and what stays in the history.
#[tokio::test]
async fn others_hear_of_runs_steps_and_approvals() {
    let (_host, ada) = started(near(Manifest::services_and_herald("", ""), &[])).await;
    let project = plans::project(&ada, "Quay").await;
    let definition = json!([
        {"id": "tell", "type": "action", "action": "event.publish", "input": {"type": "custom.tide.high", "data": {"n": 7}}},
        {"id": "gate", "type": "human_gate", "dependencies": ["tell"], "humanGate": {"requiredApprovers": [members::id(&ada)]}},
    ]);
    let mut body = named("Tells", definition);
    body["projectId"] = json!(project);
    let id = active(&ada, body).await;
    let mut ids = Vec::new();
    for word in ["approve", "reject", "cancel"] {
        let run_id = execute(&ada, &id, json!({})).await;
        let asked = approval(&ada).await;
        if word == "cancel" {
            ada.post(&format!("{ROUTES}/runs/{run_id}/cancel"), &json!({})).await.done(200);
        } else {
            decide(&ada, &asked, word).await.done(200);
        }
        ids.push(run_id);
    }
    let of =
        |run_id: &str, step: Value| json!({"runId": run_id, "workflowId": id, "projectId": project, "stepId": step});
    let names = |data: &Value| {
        let names = ["runId", "workflowId", "projectId", "stepId"];
        Value::Object(names.into_iter().map(|name| (name.to_owned(), data[name].clone())).collect())
    };
    for (kind, step, told) in [
        ("workflow.run.started", Value::Null, &ids[..]),
        ("workflow.run.completed", Value::Null, &ids[..1]),
        ("workflow.run.failed", Value::Null, &ids[1..2]),
        ("workflow.run.cancelled", Value::Null, &ids[2..]),
        ("workflow.step.failed", json!("gate"), &ids[1..2]),
        ("workflow.approval.requested", json!("gate"), &ids[..]),
        ("workflow.approval.decided", json!("gate"), &ids[..2]),
    ] {
        let mut found: Vec<String> =
            heard(&ada, kind, told.len()).await.iter().map(|data| names(data).to_string()).collect();
        let mut wanted: Vec<String> = told.iter().map(|run_id| of(run_id, step.clone()).to_string()).collect();
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted, "{kind}");
    }
    assert_eq!(
        heard(&ada, "workflow.step.completed", 4).await.iter().filter(|data| data["stepId"] == "tell").count(),
        3
    );
    assert_eq!(heard(&ada, "custom.tide.high", 3).await, vec![json!({"n": 7}); 3]);
    for kind in ["workflow.step.started", "workflow.step.waiting"] {
        assert_eq!(ada.get(&format!("/api/herald/events?type={kind}")).await.expect(200)["total"], 0, "{kind}");
        assert_eq!(
            history(&ada, &ids[0]).await.iter().filter(|event| event["type"] == kind).count(),
            if kind.ends_with("started") { 2 } else { 1 }
        );
    }
}

/// Whoever deletes a workflow and whoever starts a run of it at the same moment see each other: no run is left without it.
#[tokio::test]
async fn no_run_outlives_its_workflow() {
    let (_host, ada) = started(near(Manifest::services(), &[])).await;
    let slow = json!([{"id": "d", "type": "delay", "input": {"duration": "1h"}}]);
    for round in 0..6 {
        let id = active(&ada, named(&format!("Short {round}"), slow.clone())).await;
        let path = format!("{ROUTES}/{id}");
        let starts = join_all((0..4).map(|_| async {
            let answer = ada.post(&format!("{path}/execute"), &json!({})).await;
            assert!(matches!(answer.status, 202 | 404), "{}", answer.text());
            (answer.status == 202).then(|| text(&answer.json(), "runId"))
        }));
        let (deleted, runs) = tokio::join!(ada.delete(&path), starts);
        let runs: Vec<String> = runs.into_iter().flatten().collect();
        match deleted.status {
            204 => assert_eq!(runs, Vec::<String>::new(), "it was deleted under them"),
            _ => {
                deleted.problem(409, "WORKFLOW_RUNNING");
                for run_id in runs {
                    ada.post(&format!("{ROUTES}/runs/{run_id}/cancel"), &json!({})).await.done(200);
                }
            }
        }
    }
}

/// A step of a definition that nobody wrote.
struct Made {
    waits: Vec<usize>,
    is_harmless: bool,
    /// How it ends once it has begun.
    end: &'static str,
    step: Value,
}

/// A definition by chance: steps that call a server which fails so many times or always, that wait, set values or are left out.
fn made(chance: &mut impl FnMut(usize) -> usize, graph: usize, listener: &Listener) -> Vec<Made> {
    (0..4 + chance(5))
        .map(|number| {
            let waits: Vec<usize> = (0..number).filter(|_| chance(3) == 0).collect();
            let is_harmless = chance(2) == 0;
            let call = |path: String, retries: usize| {
                json!({"type": "action", "action": "http.request", "retry": {"max": retries, "backoff": 0},
                    "input": {"method": "POST", "url": listener.url(&path)}})
            };
            let (end, mut step) = match chance(6) {
                0 => ("completed", json!({"type": "action", "action": "transform", "input": {"value": number}})),
                1 => ("skipped", json!({"type": "condition", "when": "run.depth > 7"})),
                2 => ("completed", json!({"type": "delay", "input": {"duration": "1s"}})),
                3 => ("failed", call(format!("/{graph}/{number}/never"), 1)),
                // With more attempts left than two kills can use up.
                _ => ("completed", call(format!("/{graph}/{number}/{}", chance(3)), 6)),
            };
            step["id"] = json!(format!("s{number}"));
            step["dependencies"] = waits.iter().map(|wait| format!("s{wait}")).collect();
            step["continueOnError"] = json!(is_harmless);
            Made { waits, is_harmless, end, step }
        })
        .collect()
}

/// A plain reading of a definition: how each step ends when nothing ends the run before it.
fn read(steps: &[Made]) -> Vec<&'static str> {
    let mut ends: Vec<&'static str> = Vec::new();
    for step in steps {
        let is_stopped =
            |wait: &usize| ends[*wait] == "cancelled" || ends[*wait] == "failed" && !steps[*wait].is_harmless;
        let end = if step.waits.iter().any(is_stopped) {
            "cancelled"
        } else if !step.waits.is_empty() && step.waits.iter().all(|wait| ends[*wait] == "skipped") {
            "skipped"
        } else {
            step.end
        };
        ends.push(end);
    }
    ends
}

/// Definitions that nobody wrote, two kills and a new build while they run: each ends as a plain reading of it allows.
#[tokio::test]
async fn whatever_is_run_and_whenever_it_is_killed_ends_as_a_plain_reading_allows() {
    let tally = Tally::default();
    let respond = move |received: &Received| {
        let failures = received.target.rsplit('/').next().and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
        (if tally.next(&received.target) > failures { 200 } else { 500 }, "{}".to_owned())
    };
    let listener = Listener::answering(Arc::new(respond)).await;
    let (mut host, mut ada) = started(near(Manifest::services(), &[listener.address()])).await;
    let mut state = 7_usize;
    let mut chance = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut all = Vec::new();
    for graph in 0..12 {
        let steps = made(&mut chance, graph, &listener);
        let definition = steps.iter().map(|made| made.step.clone()).collect();
        let id = active(&ada, named(&format!("Graph {graph}"), definition)).await;
        all.push((steps, id));
    }
    let mut started = Vec::new();
    for (steps, id) in all {
        started.push((steps, execute(&ada, &id, json!({})).await));
    }
    for round in 0..2 {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let stopped = host.kill().await;
        // Whoever was killed at work is given up at once and not in a minute.
        stopped.store().change("UPDATE workflow_step_runs SET lease_until = created_at WHERE status = 'running'").await;
        host = stopped.start().await;
        ada = host.client().with_token(ada.token());
        if round == 0 {
            let component = guests::bytes(&guests::plugin("workflow"));
            let answer = host.operator().deploy("workflow", guests::variant(&component, 1)).await;
            assert!(matches!(answer.status, 200 | 202), "{}", answer.text());
        }
    }
    for (made, run_id) in started {
        let run = eventually("the end", async || {
            let run = ada.get(&format!("{ROUTES}/runs/{run_id}")).await.expect(200);
            (!run["completedAt"].is_null()).then_some(run)
        })
        .await;
        let (ideal, found) = (read(&made), steps(&ada, &run_id).await);
        let ends: Vec<String> = (0..made.len()).map(|number| text(&found[&format!("s{number}")], "status")).collect();
        let is_fatal = |number: usize| ideal[number] == "failed" && !made[number].is_harmless;
        let what = format!("{:?} {run} {ideal:?} {ends:?}", made.iter().map(|made| &made.step).collect::<Vec<_>>());
        if (0..made.len()).any(is_fatal) {
            assert_eq!(run["status"], "failed", "{what}");
            assert!((0..made.len()).any(|number| is_fatal(number) && ends[number] == "failed"), "{what}");
        } else {
            assert_eq!(
                (text(&run, "status"), ends.iter().map(String::as_str).collect()),
                ("completed".to_owned(), ideal.clone()),
                "{what}"
            );
        }
        let events = history(&ada, &run_id).await;
        for (number, end) in ends.iter().enumerate() {
            assert!(*end == ideal[number] || end == "cancelled", "s{number}: {what}");
            let is_done = ["completed", "failed"].contains(&end.as_str());
            assert!(!is_done || made[number].waits.iter().all(|wait| ends[*wait] != "cancelled"), "s{number}: {what}");
            let completed = count(&events, "workflow.step.completed", &format!("s{number}"));
            assert_eq!(completed, usize::from(end == "completed"), "s{number}: {what}");
        }
    }
}
