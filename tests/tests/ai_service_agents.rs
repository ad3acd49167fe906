//! ai-service's agents: tools, approvals, limits, and runs that outlive a restart.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use berth_tests::answer::text;
use berth_tests::assistants::{host_with_ada, manifest, metered, set_up, stub};
use berth_tests::manifest::{Manifest, Slot};
use berth_tests::model_provider::{Act, Asked, ModelProvider, whole};
use berth_tests::wait::heard_so_far;
use berth_tests::{Client, eventually, guests, members, plans};
use reqwest::Method;
use serde_json::{Value, json};

/// ai-service with tools that a test guest has; the guest also hears every event.
fn with_tools() -> Manifest {
    with_tools_and(None)
}

/// The same, allowed to reach `provider`.
fn with_tools_and(provider: Option<&ModelProvider>) -> Manifest {
    let toolbox = Slot::new("mcp-server", guests::fixture("toolbox"), "/api/mcp")
        .route("/api/toolbox")
        .with("isolation = \"plugin\"\n[plugin.grant]\ntables = [\"toolbox_\"]\nconsume = [\"#\"]");
    manifest(provider).without("mcp-server").letting("ai-service", "mcp-server").and(Manifest::of([toolbox]).text())
}

async fn agent(ada: &Client, more: Value) -> String {
    let mut body = json!({"name": "Worker", "model": "echo", "tools": ["toolbox/*"]});
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    text(&ada.post("/api/ai/agents", &body).await.expect(201), "id")
}

async fn execute(ada: &Client, agent: &str, input: &str) -> String {
    let body = json!({"input": input, "context": {"ticket": "T-1"}});
    text(&ada.post(&format!("/api/ai/agents/{agent}/execute"), &body).await.expect(201)["execution"], "id")
}

async fn reaches(client: &Client, execution: &str, statuses: &[&str]) -> Value {
    eventually(&format!("{execution} becoming one of {statuses:?}"), async || {
        let row = client.get(&format!("/api/ai/executions/{execution}")).await.expect(200);
        row["status"].as_str().is_some_and(|status| statuses.contains(&status)).then_some(row)
    })
    .await
}

/// The tools that were called, in their order.
async fn called(client: &Client) -> Vec<String> {
    heard_so_far(client, "toolbox", "tool.called").await.iter().map(|call| text(call, "toolName")).collect()
}

/// What was told of runs that have completed.
async fn completed(client: &Client) -> Vec<Value> {
    heard_so_far(client, "toolbox", "ai.agent.completed").await
}

#[tokio::test]
async fn an_agent_calls_tools_waits_for_an_approval_and_outlives_a_restart() {
    let (host, ada) = host_with_ada(with_tools()).await;
    let id = agent(&ada, json!({"systemPrompt": "Work well."})).await;
    let task = "Please\ncall add {\"a\": 1, \"b\": 2}\ncall things.remove {\"a\": 7}\ncall fail {}";
    let execution = execute(&ada, &id, task).await;
    let waiting = reaches(&ada, &execution, &["waiting_approval", "completed", "failed"]).await;
    assert_eq!(waiting["status"], "waiting_approval", "{waiting}");
    assert_eq!(
        (&waiting["waitingFor"]["toolName"], &waiting["waitingFor"]["arguments"]),
        (&json!("things.remove"), &json!({"a": 7}))
    );
    assert_eq!(called(&ada).await.len(), 1, "only what destroys nothing was called");
    ada.delete(&format!("/api/ai/agents/{id}")).await.problem(409, "AGENT_RUNNING");
    let eve = host.client().register("eve@example.com", "Reef").await;
    eve.get(&format!("/api/ai/executions/{execution}")).await.problem(404, "NOT_FOUND");
    eve.post(&format!("/api/ai/executions/{execution}/approve"), &json!({})).await.problem(404, "NOT_FOUND");
    let host = host.restart().await;
    let ada = host.client().login("ada@example.com").await;
    let status = ada.get(&format!("/api/agents/{id}/status")).await.expect(200);
    assert_eq!((&status["status"], &status["activeExecutions"]), (&json!("waiting_approval"), &json!(1)), "{status}");
    ada.post(&format!("/api/ai/executions/{execution}/approve"), &json!({"reason": "It is old."})).await.done(200);
    let done = reaches(&ada, &execution, &["completed", "failed"]).await;
    assert_eq!((&done["status"], &done["output"]), (&json!("completed"), &json!("3\nremoved\nit is broken")), "{done}");
    ada.post(&format!("/api/ai/executions/{execution}/approve"), &json!({})).await.problem(409, "NOT_WAITING");
    let kinds: Vec<&str> =
        done["steps"].as_array().into_iter().flatten().filter_map(|step| step["kind"].as_str()).collect();
    assert_eq!(
        kinds,
        ["begin", "completion", "tool", "completion", "approval", "tool", "completion", "tool", "completion"]
    );
    let called = called(&ada).await;
    let mut sorted = called.clone();
    sorted.sort();
    assert_eq!(sorted, ["add", "fail", "things.remove"], "each once");
    // Tokens and cost are those of its completions, told once.
    let rows = ada.get(&format!("/api/ai/completions?callerResourceId={execution}")).await.expect(200);
    let sum: i64 = rows["items"].as_array().into_iter().flatten().filter_map(|row| row["tokensUsed"].as_i64()).sum();
    assert_eq!((&rows["total"], &done["tokensUsed"]), (&json!(4), &json!(sum)), "{done}");
    let told = eventually("the end being told", async || completed(&ada).await.pop()).await;
    assert_eq!(
        (&told["executionId"], &told["output"], &told["context"]),
        (&json!(execution), &done["output"], &json!({"ticket": "T-1"}))
    );
    assert_eq!((&told["tokensUsed"], completed(&ada).await.len()), (&done["tokensUsed"], 1));
    eventually("its tokens being metered", async || (metered(&ada).await == sum).then_some(())).await;
    // It remembers, forgets, and goes.
    let remembered = ada.get(&format!("/api/ai/agents/{id}/memory")).await.expect(200);
    assert_eq!(
        (&remembered["total"], &remembered["items"][0]["kind"]),
        (&json!(1), &json!("episodic")),
        "{remembered}"
    );
    let nothing = json!({"key": "port", "value": null});
    ada.post(&format!("/api/agents/{id}/memory"), &nothing).await.problem(400, "VALIDATION_ERROR");
    ada.delete(&format!("/api/agents/{id}/memory")).await.done(204);
    assert_eq!(ada.get(&format!("/api/agents/{id}/memory")).await.expect(200)["total"], 0);
    ada.delete(&format!("/api/agents/{id}")).await.done(204);
    ada.get(&format!("/api/ai/agents/{id}")).await.problem(404, "NOT_FOUND");
}

/// What a token of the tests' priced model costs, asked or answered: 3 dollars a million are 300 micro-cents each.
const TOKEN_MICRO: i64 = 300;

/// A model that calls one tool after the other and then says that it is done, with 100, 200 and 300 tokens of question and 10
/// of answer. The last answer waits until the test lets it go.
fn two_tools(asked: &Asked) -> Vec<Act> {
    let of = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let results = of(&asked.body["messages"]).iter().filter(|message| message["role"] == "tool").count();
    let named = |part: &str| {
        let names = of(&asked.body["tools"]).into_iter().map(|tool| text(&tool["function"], "name"));
        names.into_iter().find(|name| name.contains(part)).unwrap_or_default()
    };
    let call = |name: String, arguments: &str| {
        let function = json!({"name": name, "arguments": arguments});
        let call = json!({"id": format!("c{results}"), "type": "function", "function": function});
        (json!({"role": "assistant", "content": null, "tool_calls": [call]}), "tool_calls")
    };
    let (message, finish) = match results {
        0 => call(named("add"), "{\"a\": 1, \"b\": 2}"),
        1 => call(named("remove"), "{\"a\": 3}"),
        _ => (json!({"role": "assistant", "content": "All done."}), "stop"),
    };
    let usage = json!({"prompt_tokens": 100 * (results + 1), "completion_tokens": 10});
    let body = json!({"choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage});
    let answer = whole(200, "", &body.to_string());
    if results < 2 { answer } else { [Act::Gate].into_iter().chain(answer).collect() }
}

#[tokio::test]
async fn what_a_run_costs_is_noted_once_across_a_kill_and_a_swap() {
    let provider = ModelProvider::start(Arc::new(two_tools)).await;
    let (host, ada) = host_with_ada(with_tools_and(Some(&provider))).await;
    let (stub, _) = set_up(&ada, &provider, "CUSTOM", &[]).await;
    let priced = json!({"providerId": stub, "name": "priced", "displayName": "Priced", "contextWindow": 8_000,
        "inputPricePer1mMicro": 1_000_000 * TOKEN_MICRO, "outputPricePer1mMicro": 1_000_000 * TOKEN_MICRO});
    ada.post("/api/ai/models", &priced).await.done(201);
    let price = json!({"categoryCode": "ai.completion", "pricingModel": "PER_MILLION", "unitPriceMicro": 1_000_000 * TOKEN_MICRO,
        "dimensionKey": "model", "dimensionValue": "priced", "effectiveFrom": "2026-01-01T00:00:00Z"});
    ada.post("/api/usage/pricing", &price).await.done(201);
    let id = agent(&ada, json!({"model": "priced"})).await;
    let execution = execute(&ada, &id, "Add, and then remove.").await;
    let waiting = reaches(&ada, &execution, &["waiting_approval", "completed", "failed"]).await;
    assert_eq!(waiting["waitingFor"]["toolName"], "things.remove", "{waiting}");
    assert_eq!((&waiting["tokensUsed"], &waiting["costMicro"]), (&json!(320), &json!(320 * TOKEN_MICRO)), "{waiting}");
    // The host dies while the run waits.
    let host = host.kill().await.start().await;
    let ada = host.client().login("ada@example.com").await;
    ada.post(&format!("/api/ai/executions/{execution}/approve"), &json!({})).await.done(200);
    // Another build takes over while the last answer is under way.
    eventually("the last question", async || (provider.count("priced") == 3).then_some(())).await;
    let next = guests::variant(&guests::bytes(&guests::plugin("ai-service")), 1);
    let operator = host.operator();
    let (swapped, ()) = tokio::join!(operator.deploy("ai-service", next), async {
        eventually("the new build", async || {
            let plugins = operator.get("/api/admin/plugins").await.expect(200);
            plugins.to_string().contains("\"draining\"").then_some(())
        })
        .await;
        provider.release(1);
    });
    swapped.done(200);
    let done = reaches(&ada, &execution, &["completed", "failed"]).await;
    assert_eq!((&done["status"], &done["output"]), (&json!("completed"), &json!("All done.")), "{done}");
    let kinds: Vec<String> = done["steps"].as_array().into_iter().flatten().map(|step| text(step, "kind")).collect();
    assert_eq!(kinds, ["begin", "completion", "tool", "completion", "approval", "tool", "completion"]);
    let called = called(&ada).await;
    assert_eq!((called.len(), provider.count("priced")), (2, 3), "{called:?}");
    let (tokens, cost) = (110 + 210 + 310, (110 + 210 + 310) * TOKEN_MICRO);
    assert_eq!((&done["tokensUsed"], &done["costMicro"]), (&json!(tokens), &json!(cost)), "{done}");
    let of = |name: &str| -> i64 {
        done["steps"].as_array().into_iter().flatten().filter_map(|step| step[name].as_i64()).sum()
    };
    assert_eq!((of("promptTokens") + of("completionTokens"), of("costMicro")), (tokens, cost), "{done}");
    // The rows of its completions, and what is metered of them, say the same.
    let rows = ada.get(&format!("/api/ai/completions?callerResourceId={execution}")).await.expect(200);
    let sum = |rows: &Value, name: &str| -> i64 {
        rows["items"].as_array().into_iter().flatten().filter_map(|row| row[name].as_i64()).sum()
    };
    assert_eq!(
        (&rows["total"], sum(&rows, "tokensUsed"), sum(&rows, "costMicro")),
        (&json!(3), tokens, cost),
        "{rows}"
    );
    eventually("its tokens being metered", async || (metered(&ada).await == tokens).then_some(())).await;
    let events = ada.get("/api/usage/events?categoryCode=ai.completion").await.expect(200);
    assert_eq!((&events["total"], sum(&events, "costMicro")), (&json!(3), cost), "{events}");
    let told = eventually("the end being told", async || completed(&ada).await.pop()).await;
    assert_eq!((&told["tokensUsed"], &told["costMicro"]), (&json!(tokens), &json!(cost)), "{told}");
    assert_eq!(completed(&ada).await.len(), 1);
}

#[tokio::test]
async fn a_run_ends_where_its_limits_say() {
    let (host, ada) = host_with_ada(with_tools()).await;
    let ended = async |more: Value, input: &str| {
        let id = agent(&ada, more).await;
        let execution = execute(&ada, &id, input).await;
        let row = reaches(&ada, &execution, &["completed", "failed", "timeout", "cancelled", "waiting_approval"]).await;
        (text(&row, "status"), row["errorCode"].clone(), row)
    };
    let two = "call add {\"a\": 1}\ncall add {\"a\": 2}";
    let (status, code, row) = ended(json!({"config": {"maxSteps": 2}}), two).await;
    assert_eq!((status.as_str(), &code), ("failed", &json!("MAX_STEPS")), "{row}");
    let (status, code, _) = ended(json!({"config": {"maxTokens": 1}}), two).await;
    assert_eq!((status.as_str(), &code), ("failed", &json!("TOKEN_BUDGET_EXCEEDED")));
    // One attempt to mend the output, and no more.
    let schema = json!({"type": "object", "required": ["sum"], "properties": {"sum": {"type": "integer"}}});
    let (status, code, row) = ended(json!({"config": {"outputSchema": schema}}), "Just a text.").await;
    assert_eq!((status.as_str(), &code), ("failed", &json!("OUTPUT_INVALID")), "{row}");
    let answers = row["steps"].as_array().into_iter().flatten().filter(|step| step["kind"] == "completion").count();
    assert_eq!(answers, 2, "{row}");
    let (status, _, row) = ended(json!({"config": {"outputSchema": schema}}), "It is {\"sum\": 3}.").await;
    assert_eq!((status.as_str(), &row["output"]), ("completed", &json!({"sum": 3})), "{row}");
    // What the model calls and is not there, or is rejected, it is told.
    let (status, _, row) = ended(json!({}), "call nothing {}").await;
    assert_eq!((status.as_str(), &row["output"]), ("completed", &json!("There is no tool nothing.")), "{row}");
    let id = agent(&ada, json!({})).await;
    let execution = execute(&ada, &id, "call things.remove {}").await;
    reaches(&ada, &execution, &["waiting_approval"]).await;
    ada.post(&format!("/api/ai/executions/{execution}/reject"), &json!({"reason": "No."})).await.done(200);
    let row = reaches(&ada, &execution, &["completed", "failed"]).await;
    assert_eq!(row["output"], "A person has rejected this call. Reason: No.", "{row}");
    assert!(called(&ada).await.iter().all(|name| name == "add"));
    // Cancelled while it waits; every run of the agent at once.
    let execution = execute(&ada, &id, "call things.remove {}").await;
    reaches(&ada, &execution, &["waiting_approval"]).await;
    assert_eq!(
        ada.post(&format!("/api/agents/{id}/cancel"), &json!({})).await.expect(200)["cancelled"],
        json!([execution])
    );
    assert_eq!(reaches(&ada, &execution, &["cancelled"]).await["errorCode"], "CANCELLED");
    ada.post(&format!("/api/ai/executions/{execution}/cancel"), &json!({})).await.problem(409, "CONFLICT");
    ada.post(&format!("/api/agents/{id}/cancel"), &json!({})).await.problem(409, "CONFLICT");
    let told = eventually("the failures being told", async || {
        let told = heard_so_far(&ada, "toolbox", "ai.agent.failed").await;
        (told.len() == 4).then_some(told)
    })
    .await;
    assert!(told.iter().any(|data| data["status"] == "cancelled"));
    // Who may, and what is no task.
    ada.put(&format!("/api/ai/agents/{id}"), &json!({"isActive": false})).await.done(200);
    ada.post(&format!("/api/ai/agents/{id}/execute"), &json!({"input": "x"})).await.problem(409, "AGENT_INACTIVE");
    ada.post(&format!("/api/ai/agents/{id}/execute"), &json!({"input": ""})).await.problem(400, "VALIDATION_ERROR");
    let viewer = members::bring(&host, &ada, "vic@example.com", "Viewer").await;
    viewer.post(&format!("/api/ai/agents/{id}/execute"), &json!({"input": "x"})).await.problem(403, "FORBIDDEN");
    viewer.post(&format!("/api/ai/executions/{execution}/approve"), &json!({})).await.problem(403, "FORBIDDEN");
    viewer.get(&format!("/api/ai/executions/{execution}")).await.done(200);
    let own = agent(&ada, json!({"scope": "USER", "name": "Mine"})).await;
    viewer.get(&format!("/api/ai/agents/{own}")).await.problem(404, "NOT_FOUND");
    ada.post("/api/ai/agents", &json!({"name": "x", "config": {"maxSteps": 0}})).await.problem(400, "VALIDATION_ERROR");
}

#[tokio::test]
async fn what_somebody_asked_stays_theirs_whoever_approves() {
    let (host, ada) = host_with_ada(with_tools()).await;
    let mia = members::bring(&host, &ada, "mia@example.com", "Member").await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let id = agent(&ada, json!({})).await;
    let execution = execute(&mia, &id, "call things.remove {}").await;
    reaches(&mia, &execution, &["waiting_approval"]).await;
    bob.post(&format!("/api/ai/executions/{execution}/approve"), &json!({})).await.done(200);
    assert_eq!(reaches(&mia, &execution, &["completed", "failed"]).await["status"], "completed");
    let events = bob.get("/api/toolbox/events?type=tool.called").await.expect(200);
    assert_eq!(events["items"][0]["createdBy"], members::id(&mia).as_str(), "the tool is called as its user: {events}");
    let memory = format!("/api/ai/agents/{id}/memory");
    let remembered = mia.get(&memory).await.expect(200);
    assert_eq!((&remembered["total"], &remembered["items"][0]["createdBy"]), (&json!(1), &json!(members::id(&mia))));
    assert_eq!(bob.get(&memory).await.expect(200)["total"], 0);
    // Nobody's approval brings a run on of somebody who may give agents no tasks any more,
    let execution = execute(&mia, &id, "call things.remove {}").await;
    reaches(&mia, &execution, &["waiting_approval"]).await;
    members::give_role(&ada, &mia, "Viewer").await;
    bob.post(&format!("/api/ai/executions/{execution}/approve"), &json!({})).await.done(200);
    let ended = reaches(&ada, &execution, &["completed", "failed"]).await;
    assert_eq!((&ended["status"], &ended["errorCode"]), (&json!("failed"), &json!("FORBIDDEN")), "{ended}");
    members::give_role(&ada, &mia, "Member").await;
    // or has left.
    let execution = execute(&mia, &id, "call things.remove {}").await;
    reaches(&mia, &execution, &["waiting_approval"]).await;
    members::remove(&ada, &mia).await;
    bob.post(&format!("/api/ai/executions/{execution}/approve"), &json!({})).await.done(200);
    let ended = reaches(&ada, &execution, &["completed", "failed"]).await;
    assert_eq!((&ended["status"], &ended["errorCode"]), (&json!("failed"), &json!("ACTING_DENIED")), "{ended}");
    assert_eq!(called(&ada).await.len(), 1);
}

#[tokio::test]
async fn a_private_project_keeps_its_agents_and_their_runs() {
    let (host, ada) = host_with_ada(with_tools()).await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let cleo = members::bring(&host, &ada, "cleo@example.com", "Member").await;
    let project = json!({"name": "Secret", "visibility": "private"});
    let project = text(&bob.post("/api/projects", &project).await.expect(201), "id");
    let body = json!({"name": "Inside", "model": "echo", "scope": "PROJECT", "projectId": project});
    cleo.post("/api/ai/agents", &body).await.problem(404, "NOT_FOUND");
    let id = text(&bob.post("/api/ai/agents", &body).await.expect(201), "id");
    let execution = execute(&bob, &id, "Ahoy").await;
    reaches(&bob, &execution, &["completed"]).await;
    for path in [
        format!("/api/ai/agents/{id}"),
        format!("/api/agents/{id}/status"),
        format!("/api/ai/agents/{id}/memory"),
        format!("/api/ai/agents/{id}/executions"),
        format!("/api/ai/executions/{execution}"),
    ] {
        bob.get(&path).await.done(200);
        cleo.get(&path).await.problem(404, "NOT_FOUND");
    }
    cleo.post(&format!("/api/ai/agents/{id}/execute"), &json!({"input": "x"})).await.problem(404, "NOT_FOUND");
    assert_eq!(cleo.get("/api/ai/agents").await.expect(200)["total"], 0);
    let loose = agent(&cleo, json!({})).await;
    cleo.put(&format!("/api/ai/agents/{loose}"), &json!({ "projectId": project })).await.problem(404, "NOT_FOUND");
    // Its runs stay the project's when the agent is gone.
    ada.delete(&format!("/api/ai/agents/{id}")).await.done(204);
    bob.get(&format!("/api/ai/executions/{execution}")).await.done(200);
    cleo.get(&format!("/api/ai/executions/{execution}")).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn an_agent_of_everybodys_is_each_organizations_own() {
    let (host, _ada) = host_with_ada(with_tools()).await;
    // The first organization of a host is the operator's.
    let platform = host.client().login("ada@example.com").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let id = agent(&platform, json!({"scope": "GLOBAL"})).await;
    let memory = format!("/api/ai/agents/{id}/memory");
    for (client, port) in [(&platform, 1), (&eve, 2)] {
        client.post(&memory, &json!({"key": "port", "value": port})).await.done(201);
    }
    let of = async |client: &Client| client.get(&memory).await.expect(200)["items"][0]["value"].clone();
    assert_eq!((of(&platform).await, of(&eve).await), (json!(1), json!(2)));
    eve.delete(&memory).await.done(204);
    assert_eq!((of(&platform).await, of(&eve).await), (json!(1), Value::Null), "who forgets, forgets for themselves");
    let execution = execute(&eve, &id, "call things.remove {}").await;
    reaches(&eve, &execution, &["waiting_approval"]).await;
    platform.get(&format!("/api/ai/executions/{execution}")).await.problem(404, "NOT_FOUND");
    eve.put(&format!("/api/ai/agents/{id}"), &json!({"isActive": false})).await.problem(403, "FORBIDDEN");
    // Nobody takes it away while somebody's run is under way.
    platform.delete(&format!("/api/ai/agents/{id}")).await.problem(409, "AGENT_RUNNING");
    eve.post(&format!("/api/ai/executions/{execution}/cancel"), &json!({})).await.done(200);
    platform.delete(&format!("/api/ai/agents/{id}")).await.done(204);
}

#[tokio::test]
async fn an_approval_is_of_the_call_that_was_seen() {
    let (_host, ada) = host_with_ada(with_tools()).await;
    let id = agent(&ada, json!({})).await;
    let execution = execute(&ada, &id, "call things.remove {\"a\": 1}\ncall things.remove {\"a\": 2}").await;
    let first = reaches(&ada, &execution, &["waiting_approval"]).await;
    let approve = async |seen: &Value| {
        let request = ada.request(Method::POST, &format!("/api/ai/executions/{execution}/approve"));
        ada.send(request.header("if-match", format!("\"{}\"", seen["version"])).json(&json!({}))).await
    };
    approve(&first).await.done(200);
    let second = eventually("the second call", async || {
        let row = ada.get(&format!("/api/ai/executions/{execution}")).await.expect(200);
        (row["waitingFor"]["arguments"] == json!({"a": 2})).then_some(row)
    })
    .await;
    // Who has seen the first one only says nothing of the second.
    approve(&first).await.problem(412, "PRECONDITION_FAILED");
    assert_eq!(called(&ada).await.len(), 1);
    approve(&second).await.done(200);
    let done = reaches(&ada, &execution, &["completed", "failed"]).await;
    assert_eq!((&done["status"], called(&ada).await.len()), (&json!("completed"), 2), "{done}");
}

#[tokio::test]
async fn a_run_takes_no_longer_than_its_time() {
    let provider = stub().await;
    let (_host, ada) = host_with_ada(manifest(Some(&provider))).await;
    let (_, models) = set_up(&ada, &provider, "CUSTOM", &["silent", "good"]).await;
    // Without an answer each attempt of a step ends with the chain's time, and the run with its own.
    let chain = json!({"primaryModelId": models[0], "fallbackModelIds": [models[1]], "timeoutMs": 800, "triggerOnTimeout": false});
    ada.post("/api/ai/routing/fallbacks", &chain).await.done(201);
    let id = agent(&ada, json!({"model": "silent", "tools": [], "config": {"timeoutMs": 1_000}})).await;
    let execution = execute(&ada, &id, "x").await;
    let row = reaches(&ada, &execution, &["completed", "failed", "timeout"]).await;
    assert_eq!((&row["status"], &row["errorCode"]), (&json!("timeout"), &json!("TIMEOUT")), "{row}");
    // mcp-server may be away: an agent that needs its tools says so.
    let id = agent(&ada, json!({"tools": ["add"]})).await;
    let execution = execute(&ada, &id, "x").await;
    let row = reaches(&ada, &execution, &["completed", "failed"]).await;
    if row["status"] == "failed" {
        assert_eq!(row["errorCode"], "SERVICE_UNAVAILABLE", "{row}");
    }
    assert_eq!(provider.count("good"), 0);
}

#[tokio::test]
async fn a_step_of_a_plan_is_done_by_an_agent() {
    let (_host, ada) = host_with_ada(with_tools()).await;
    let id = agent(&ada, json!({})).await;
    let steps = json!([
        {"title": "Think", "type": "agent", "params": {"agentId": id, "input": "call add {\"a\": 20, \"b\": 22}"},
            "postconditions": [{"kind": "absent", "path": "nothing"}]},
    ]);
    let plan = plans::ready_plan(&ada, &steps).await;
    let execution = plans::execute(&ada, &plan).await;
    let row = plans::reaches(&ada, &execution, &["failed", "completed"]).await;
    assert_eq!(row["status"], "completed", "{row}");
    let events = plans::events(&ada, &execution).await;
    let of = |kind: &str| {
        events
            .iter()
            .find(|event| event["type"] == kind)
            .unwrap_or_else(|| panic!("no {kind}: {events:#?}"))
            .to_string()
    };
    assert!(of("execution.step.waiting").contains("agentExecutionId"));
    assert!(of("execution.step.completed").contains("42"), "{events:#?}");
    let runs = ada.get(&format!("/api/ai/agents/{id}/executions")).await.expect(200);
    assert_eq!((&runs["total"], &runs["items"][0]["status"]), (&json!(1), &json!("completed")), "{runs}");
}
