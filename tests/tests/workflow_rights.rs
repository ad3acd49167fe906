//! workflow: what an author may automate, and for whom a run acts.

use berth_tests::answer::text;
use berth_tests::workflows::{active, approval, becomes, decide, execute, named, runs, steps};
use berth_tests::{Client, Host, Manifest, eventually, members, plans};
use serde_json::{Value, json};

const ROUTES: &str = "/api/workflows";

async fn host_with_members() -> (Host, Client, Client) {
    let host = Host::with(Manifest::services()).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    (host, ada, bob)
}

fn act(id: &str, action: &str, input: Value, waits: &[&str]) -> Value {
    json!({"id": id, "type": "action", "action": action, "input": input, "dependencies": waits})
}

/// A webhook that starts a workflow of this client; its path.
async fn hook(client: &Client, name: &str, steps: Value) -> (String, String) {
    let body = json!({"name": name, "trigger": {"type": "webhook"}, "definition": {"steps": steps}});
    let id = active(client, body).await;
    let hook = client.post(&format!("{ROUTES}/{id}/hooks"), &json!({})).await.expect(201);
    (id, text(&hook, "path"))
}

/// What a call from outside starts; the run's id.
async fn ring(host: &Host, path: &str) -> String {
    text(&host.client().post(path, &json!({"who": "Grace"})).await.expect(202), "runId")
}

/// A member automates what members do: not what only administrators do, and not what tells of people.
#[tokio::test]
async fn an_author_automates_nothing_that_they_may_not_do() {
    let (_host, ada, bob) = host_with_members().await;
    let with = |action: &str, input: Value| named("Acts", json!([act("a", action, input, &[])]));
    let tell = json!({"eventType": "x.y", "recipientIds": [members::id(&ada)], "title": "t", "body": "b"});
    bob.post(ROUTES, &with("notification.send", tell.clone())).await.problem(403, "FORBIDDEN");
    ada.post(ROUTES, &with("notification.send", tell)).await.done(201);
    for (action, input) in [
        ("service.call", json!({"method": "GET", "path": "/api/tasks"})),
        ("mcp.tool", json!({"capability": "search", "params": {}})),
        ("task.create", json!({"title": "Paint"})),
    ] {
        bob.post(ROUTES, &with(action, input)).await.done(201);
    }
    let listen = json!({"name": "Listens", "trigger": {"type": "event", "eventType": "notification.created"}});
    bob.post(ROUTES, &listen).await.problem(403, "FORBIDDEN");
    ada.post(ROUTES, &listen).await.done(201);
}

/// A run that nobody starts by hand acts for the author, whoever causes and approves it: it runs agents and executes plans.
#[tokio::test]
async fn a_run_that_nobody_starts_acts_for_the_author() {
    let (host, ada, bob) = host_with_members().await;
    let agent = text(&ada.post("/api/ai/agents", &json!({"name": "Looker", "model": "echo"})).await.expect(201), "id");
    let open = plans::project(&ada, "Open").await;
    let plan = plans::ready_plan(&ada, &plans::three_steps()).await;
    let gate = json!({"id": "gate", "type": "human_gate", "dependencies": ["plan", "agent"],
        "humanGate": {"requiredApprovers": [members::id(&ada)]}});
    let (id, path) = hook(
        &bob,
        "Ring",
        json!([
            act("agent", "agent.run", json!({"agentId": agent, "input": "Look at {{trigger.body.who}}"}), &[]),
            act("plan", "execution.start", json!({"planId": plan}), &[]),
            gate,
            act("task", "task.create", json!({"title": "Paint", "projectId": open}), &["gate"]),
        ]),
    )
    .await;
    let run_id = ring(&host, &path).await;
    let run = becomes(&ada, &run_id, "waiting").await;
    assert_eq!((&run["actsFor"], &run["createdBy"]), (&json!(members::id(&bob)), &Value::Null), "{run}");
    decide(&ada, &approval(&ada).await, "approve").await.done(200);
    becomes(&ada, &run_id, "completed").await;
    let found = steps(&ada, &run_id).await;
    let done = |step: &str| text(&found[step], "externalId");
    let agents = ada.get(&format!("/api/ai/executions/{}", done("agent"))).await.expect(200);
    let execution = ada.get(&format!("/api/executions/{}", done("plan"))).await.expect(200);
    let task = ada.get(&format!("/api/tasks/{}", done("task"))).await.expect(200);
    for owner in [&agents["userId"], &execution["userId"], &task["createdBy"]] {
        assert_eq!(*owner, json!(members::id(&bob)), "{agents} {execution} {task}");
    }
    // Whoever changes what starts it answers for it from now on.
    assert_eq!(ada.get(&format!("{ROUTES}/{id}")).await.expect(200)["actsFor"], json!(members::id(&bob)));
    ada.post(&format!("{ROUTES}/{id}/hooks"), &json!({})).await.done(201);
    assert_eq!(ada.get(&format!("{ROUTES}/{id}")).await.expect(200)["actsFor"], json!(members::id(&ada)));
    // An event of somebody else's, and a workflow that a step starts.
    let child = active(
        &ada,
        named("Child", json!([act("a", "task.create", json!({"title": "Below", "projectId": open}), &[])])),
    )
    .await;
    let below = json!({"id": "s", "type": "subworkflow", "input": {"workflowId": child}});
    let on_project = json!({"name": "On", "trigger": {"type": "event", "eventType": "project.created"},
        "definition": {"steps": [below]}});
    let above = active(&bob, on_project).await;
    plans::project(&ada, "Pier").await;
    for workflow in [above, child] {
        let run = runs(&ada, &workflow, 1).await.remove(0);
        assert_eq!(run["actsFor"], json!(members::id(&bob)), "{run}");
        becomes(&ada, &text(&run, "id"), "completed").await;
    }
}

/// A step may what the run's user may, at the moment that it is done, and sees what they see.
#[tokio::test]
async fn a_step_does_no_more_than_the_runs_user_may() {
    let (host, ada, bob) = host_with_members().await;
    let open = plans::project(&ada, "Open").await;
    let project = json!({"name": "Secret", "visibility": "private"});
    let project = text(&ada.post("/api/projects", &project).await.expect(201), "id");
    let task = json!({"title": "Hidden", "projectId": project});
    let task = text(&ada.post("/api/tasks", &task).await.expect(201), "id");
    let failed = async |run_id: &str| becomes(&ada, run_id, "failed").await["error"].clone();
    let read = json!([act("r", "service.call", json!({"method": "GET", "path": format!("/api/tasks/{task}")}), &[])]);
    let looks = active(&ada, named("Looks", read)).await;
    becomes(&ada, &execute(&ada, &looks, json!({})).await, "completed").await;
    assert_eq!(failed(&execute(&bob, &looks, json!({})).await).await["code"], "NOT_FOUND");
    let tell = json!({"eventType": "x.y", "recipientIds": [members::id(&ada)], "title": "t", "body": "b"});
    let tells = active(&ada, named("Tells", json!([act("t", "notification.send", tell, &[])]))).await;
    becomes(&ada, &execute(&ada, &tells, json!({})).await, "completed").await;
    let error = failed(&execute(&bob, &tells, json!({})).await).await;
    assert_eq!((&error["code"], &error["stepId"]), (&json!("FORBIDDEN"), &json!("t")), "{error}");
    // Rights that were lost, and an author who has left.
    let (_, path) = hook(
        &bob,
        "Makes",
        json!([
            act("value", "transform", json!({"value": 1}), &[]),
            act("task", "task.create", json!({"title": "Paint", "projectId": open}), &["value"]),
        ]),
    )
    .await;
    becomes(&ada, &ring(&host, &path).await, "completed").await;
    members::give_role(&ada, &bob, "Viewer").await;
    let error = failed(&ring(&host, &path).await).await;
    assert_eq!((&error["code"], &error["stepId"]), (&json!("FORBIDDEN"), &json!("task")), "{error}");
    assert!(
        text(&error, "message").starts_with("The user for whom the run acts may not do this: ")
            && text(&error, "message").contains("tasks.task.create"),
        "{error}"
    );
    members::remove(&ada, &bob).await;
    let error = failed(&ring(&host, &path).await).await;
    assert_eq!((&error["code"], &error["stepId"]), (&json!("ACTING_DENIED"), &json!("value")), "{error}");
    assert!(text(&error, "message").contains("is gone, suspended or no member of the organization"), "{error}");
}

/// What happens in a private project starts a workflow only for who sees the project, and nothing of its runs is there for others.
#[tokio::test]
async fn what_happens_in_a_private_project_is_for_who_sees_it() {
    let (_host, ada, bob) = host_with_members().await;
    let open = plans::project(&ada, "Open").await;
    let hidden = json!({"name": "Hidden", "visibility": "private"});
    let hidden = text(&ada.post("/api/projects", &hidden).await.expect(201), "id");
    let listens = |name: &str| {
        let gate = json!({"id": "gate", "type": "human_gate", "humanGate": {"message": "{{trigger.data.title}}?"}});
        json!({"name": name, "trigger": {"type": "event", "preset": "incident_declared"}, "definition": {"steps": [gate]}})
    };
    let (adas, bobs) = (active(&ada, listens("Ada's")).await, active(&bob, listens("Bob's")).await);
    let declare = async |project: &str, title: &str| {
        let body = json!({"projectId": project, "title": title, "severity": "high"});
        ada.post("/api/incidents", &body).await.done(201);
    };
    declare(&hidden, "Flood").await;
    declare(&open, "Rain").await;
    let all = runs(&ada, &adas, 2).await;
    runs(&bob, &bobs, 1).await;
    // Whatever the first one could have started would be there before what the third one starts.
    declare(&open, "Hail").await;
    for run in runs(&bob, &bobs, 2).await {
        let run = bob.get(&format!("{ROUTES}/runs/{}", text(&run, "id"))).await.expect(200);
        assert_eq!((&run["projectId"], &run["actsFor"]), (&json!(open), &json!(members::id(&bob))), "{run}");
    }
    runs(&ada, &adas, 3).await;
    let mine =
        all.iter().find(|run| run["projectId"] == hidden.as_str()).map(|run| text(run, "id")).unwrap_or_default();
    let run = becomes(&ada, &mine, "waiting").await;
    assert_eq!(run["triggerPayload"]["data"]["title"], "Flood", "{run}");
    assert_eq!(runs(&bob, &adas, 2).await.iter().filter(|run| run["id"] == mine.as_str()).count(), 0);
    assert_eq!(bob.get(&format!("{ROUTES}/runs")).await.expect(200)["total"], 4);
    let mine = format!("{ROUTES}/runs/{mine}");
    for read in [mine.clone(), format!("{mine}/steps"), format!("{mine}/events")] {
        bob.get(&read).await.problem(404, "NOT_FOUND");
        ada.get(&read).await.done(200);
    }
    bob.post(&format!("{mine}/cancel"), &json!({})).await.problem(404, "NOT_FOUND");
    bob.post(&format!("{mine}/retry"), &json!({})).await.problem(404, "NOT_FOUND");
    // Nobody is named by the gate: whoever may update workflows decides, where they see the run.
    let asked = async |client: &Client| {
        let page = client.get(&format!("{ROUTES}/approvals")).await.expect(200);
        page["items"].as_array().cloned().unwrap_or_default()
    };
    eventually("five gates", async || (asked(&ada).await.len() == 5).then_some(())).await;
    assert_eq!(asked(&bob).await.len(), 4);
    let flood = asked(&ada).await.into_iter().find(|approval| approval["message"] == "Flood?").unwrap_or_default();
    decide(&bob, &flood, "approve").await.problem(404, "NOT_FOUND");
    decide(&ada, &flood, "approve").await.done(200);
    // A workflow of a project is the project's.
    let mut own = named("Own", json!([act("a", "transform", json!({"value": 1}), &[])]));
    own["projectId"] = json!(hidden);
    bob.post(ROUTES, &own).await.problem(404, "NOT_FOUND");
    let own = active(&ada, own).await;
    let path = format!("{ROUTES}/{own}");
    bob.get(&path).await.problem(404, "NOT_FOUND");
    bob.post(&format!("{path}/execute"), &json!({})).await.problem(404, "NOT_FOUND");
    bob.get(&format!("{path}/versions")).await.problem(404, "NOT_FOUND");
    assert_eq!(bob.get(ROUTES).await.expect(200)["total"], 2);
    let run = execute(&ada, &own, json!({})).await;
    bob.get(&format!("{ROUTES}/runs/{run}")).await.problem(404, "NOT_FOUND");
    becomes(&ada, &run, "completed").await;
    let below = json!({"id": "s", "type": "subworkflow", "input": {"workflowId": own}});
    let above = execute(&bob, &active(&bob, named("Above", json!([below]))).await, json!({})).await;
    assert_eq!(becomes(&bob, &above, "failed").await["error"]["code"], "NOT_FOUND");
}

/// A workflow that waits for a person, by the event that starts it.
fn waits_after(name: &str, kind: &str, more: Value) -> Value {
    let gate = json!({"id": "gate", "type": "human_gate", "humanGate": {"message": "Go on?"}});
    let mut trigger = json!({"type": "event", "eventType": kind});
    if let (Some(trigger), Value::Object(more)) = (trigger.as_object_mut(), more) {
        trigger.extend(more);
    }
    json!({"name": name, "trigger": trigger, "definition": {"steps": [gate]}})
}

/// What is marked as private starts a workflow only for whom it names; its run, and what this starts in turn, is theirs alone,
/// whatever the role of others, and what is told of it says nothing.
#[tokio::test]
async fn what_is_private_is_for_whom_it_names() {
    let (_host, ada, bob) = host_with_members().await;
    let agent = async |client: &Client, scope: &str| {
        let body = json!({"name": scope, "model": "echo", "scope": scope});
        text(&client.post("/api/ai/agents", &body).await.expect(201), "id")
    };
    let (own, everybodys) = (agent(&bob, "USER").await, agent(&bob, "ORGANIZATION").await);
    let child = active(&bob, named("Below", json!([act("a", "transform", json!({"value": 1}), &[])]))).await;
    let mut body = waits_after("Bob's", "ai.agent.completed", json!({}));
    body["definition"]["steps"][0]["dependencies"] = json!(["below"]);
    let below = json!({"id": "below", "type": "subworkflow", "input": {"workflowId": child}});
    if let Some(steps) = body["definition"]["steps"].as_array_mut() {
        steps.push(below);
    }
    let bobs = active(&bob, body).await;
    let adas = active(&ada, waits_after("Ada's", "ai.agent.completed", json!({}))).await;
    let filter = json!({"filter": format!("trigger.data.workflowId == '{bobs}'")});
    let watches = active(&ada, waits_after("Watches", "workflow.approval.requested", filter.clone())).await;
    let mine = active(&bob, waits_after("Mine", "workflow.approval.requested", filter)).await;
    let run = async |agent: &str, input: &str| {
        bob.post(&format!("/api/ai/agents/{agent}/execute"), &json!({ "input": input })).await.done(201);
    };
    run(&own, "Whisper").await;
    let private = text(&runs(&bob, &bobs, 1).await.remove(0), "id");
    let shown = becomes(&bob, &private, "waiting").await;
    assert_eq!((&shown["audience"], &shown["actsFor"]), (&json!("person"), &json!(members::id(&bob))), "{shown}");
    assert!(shown["triggerPayload"]["data"].to_string().contains("Whisper"), "{shown}");
    assert_eq!(runs(&bob, &mine, 1).await.remove(0)["audience"], "person", "what it causes is as private");
    run(&everybodys, "Shout").await;
    // Whatever the first one could have started would be there before what the second one starts.
    for workflow in [&adas, &watches] {
        let run = runs(&ada, workflow, 1).await.remove(0);
        assert_eq!(run["audience"], "organization", "{run}");
    }
    runs(&bob, &bobs, 2).await;
    runs(&bob, &mine, 2).await;
    for workflow in [&bobs, &child, &mine] {
        let seen = runs(&ada, workflow, 1).await.remove(0);
        assert_eq!(seen["audience"], "organization", "{seen}");
    }
    assert!(!ada.get(&format!("{ROUTES}/runs?limit=200")).await.text().contains(&private));
    let path = format!("{ROUTES}/runs/{private}");
    for read in [path.clone(), format!("{path}/steps"), format!("{path}/events")] {
        ada.get(&read).await.problem(404, "NOT_FOUND");
        bob.get(&read).await.done(200);
    }
    ada.post(&format!("{path}/retry"), &json!({})).await.problem(404, "NOT_FOUND");
    let asked = async |client: &Client| {
        let page = client.get(&format!("{ROUTES}/approvals?runId={private}")).await.expect(200);
        page["items"].as_array().cloned().unwrap_or_default()
    };
    assert_eq!(asked(&ada).await, Vec::<Value>::new());
    let whispered = asked(&bob).await.remove(0);
    decide(&ada, &whispered, "approve").await.problem(404, "NOT_FOUND");
    decide(&bob, &whispered, "approve").await.done(200);
    becomes(&bob, &private, "completed").await;
}

/// A private run that stands in the way of its workflow's end is cancelled by whoever may delete that, who learns nothing of it.
#[tokio::test]
async fn whoever_may_delete_a_workflow_cancels_what_they_do_not_see() {
    let (host, ada, bob) = host_with_members().await;
    let cleo = members::bring(&host, &ada, "cleo@example.com", "Member").await;
    let agent = json!({"name": "Own", "model": "echo", "scope": "USER"});
    let agent = text(&bob.post("/api/ai/agents", &agent).await.expect(201), "id");
    let id = active(&bob, waits_after("Bob's", "ai.agent.completed", json!({}))).await;
    let workflow = format!("{ROUTES}/{id}");
    let whisper = json!({"input": "Whisper"});
    let nothing = json!({});
    for (count, ends) in [(1, "cancelled"), (2, "completed")] {
        bob.post(&format!("/api/ai/agents/{agent}/execute"), &whisper).await.done(201);
        let run = text(&runs(&bob, &id, count).await.remove(count - 1), "id");
        becomes(&bob, &run, "waiting").await;
        let path = format!("{ROUTES}/runs/{run}");
        let refused = ada.delete(&workflow).await.problem(409, "WORKFLOW_RUNNING");
        assert_eq!(refused["runId"], run.as_str(), "{refused}");
        cleo.post(&format!("{path}/cancel"), &nothing).await.problem(404, "NOT_FOUND");
        if ends == "completed" {
            decide(&bob, &approval(&bob).await, "approve").await.done(200);
            becomes(&bob, &run, ends).await;
        }
        // The answer is the same, however often it is asked for and whatever has become of the run.
        for _ in 0..2 {
            let cancelled = ada.post(&format!("{path}/cancel"), &nothing).await;
            cancelled.done(204);
            assert_eq!(cancelled.text(), "");
        }
        ada.get(&path).await.problem(404, "NOT_FOUND");
        assert_eq!(bob.get(&path).await.expect(200)["status"], ends);
        bob.post(&format!("{path}/cancel"), &nothing).await.done(if ends == "cancelled" { 200 } else { 409 });
    }
    ada.delete(&workflow).await.done(204);
}

/// The same of a prompt, and of what somebody learns: each starts a workflow of whose it is and of nobody else.
#[tokio::test]
async fn what_is_somebodys_own_starts_nothing_of_others() {
    let (_host, ada, bob) = host_with_members().await;
    let prompt = async |name: &str, scope: &str| {
        let body = json!({"name": name, "content": "Dear diary", "scope": scope});
        ada.post("/api/prompts", &body).await.done(201);
        ada.post(&format!("/api/prompts/{name}/versions/1/publish"), &json!({})).await.done(200);
        ada.post("/api/prompts/render", &json!({ "name": name })).await.done(200);
    };
    let listen = async |client: &Client, kind: &str| active(client, waits_after(kind, kind, json!({}))).await;
    let (rendered, others) = (listen(&ada, "prompt.rendered").await, listen(&bob, "prompt.rendered").await);
    let (learned, of_ada) =
        (listen(&bob, "learning.skill.updated").await, listen(&ada, "learning.skill.updated").await);
    prompt("diary", "USER").await;
    prompt("log", "ORGANIZATION").await;
    for client in [&bob, &ada] {
        let skills = json!({"skills": [{"skill": "Rust", "level": 3}]});
        client.put("/api/learning/skills", &skills).await.done(200);
    }
    runs(&ada, &rendered, 2).await;
    runs(&bob, &others, 1).await;
    runs(&bob, &learned, 1).await;
    let run = runs(&ada, &of_ada, 1).await.remove(0);
    let run = ada.get(&format!("{ROUTES}/runs/{}", text(&run, "id"))).await.expect(200);
    assert_eq!(run["triggerPayload"]["data"]["userId"], json!(members::id(&ada)), "{run}");
}

/// What tells of people's inboxes, rights and secrets starts runs that are for administrators.
#[tokio::test]
async fn what_tells_of_people_is_shown_to_administrators() {
    let (host, ada, bob) = host_with_members().await;
    let cleo = members::bring(&host, &ada, "cleo@example.com", "Admin").await;
    let filter = json!({"filter": "trigger.data.title == 'Rise'"});
    let id = active(&ada, waits_after("Inboxes", "notification.created", filter.clone())).await;
    let tell = async |body: &str| {
        let notice = json!({"eventType": "x.y", "recipientIds": [members::id(&ada)], "title": "Rise", "body": body});
        ada.post("/api/notifications", &notice).await.done(202);
    };
    tell("first").await;
    let run = runs(&ada, &id, 1).await.remove(0);
    assert_eq!(run["audience"], "managers", "{run}");
    let path = format!("{ROUTES}/runs/{}", text(&run, "id"));
    assert_eq!(cleo.get(&path).await.expect(200)["triggerPayload"]["data"]["title"], "Rise");
    bob.get(&path).await.problem(404, "NOT_FOUND");
    assert_eq!(bob.get(&format!("{ROUTES}/{id}/runs")).await.expect(200)["total"], 0);
    // Who is no administrator any more is not told of the next one, though the workflow acts for them.
    let theirs = active(&cleo, waits_after("Theirs", "notification.created", filter)).await;
    members::give_role(&ada, &cleo, "Member").await;
    tell("second").await;
    runs(&ada, &id, 2).await;
    assert_eq!(ada.get(&format!("{ROUTES}/{theirs}/runs")).await.expect(200)["total"], 0);
}

/// What the organization spends is for administrators, whoever spends it; what somebody spends of their own is theirs.
#[tokio::test]
async fn what_a_budget_tells_is_for_whom_the_budget_is() {
    let (_host, ada, bob) = host_with_members().await;
    let price = json!({"categoryCode": "ai.completion", "effectiveFrom": "2026-01-01T00:00:00Z", "pricingModel": "FLAT",
        "unitPriceMicro": 1_000});
    ada.post("/api/usage/pricing", &price).await.done(201);
    let budget = async |scope: &str| {
        let body = json!({"name": scope, "scope": scope, "period": "MONTHLY", "amountMicro": 1_000});
        text(&ada.post("/api/usage/budgets", &body).await.expect(201), "id")
    };
    let (whole, each) = (budget("ORGANIZATION").await, budget("USER").await);
    let listens =
        async |client: &Client| active(client, waits_after("Spent", "usage.budget.exceeded", json!({}))).await;
    let (of_ada, of_bob) = (listens(&ada).await, listens(&bob).await);
    let used = json!({"eventId": "e", "categoryCode": "ai.completion", "metrics": {"totalTokens": 1, "count": 1}});
    bob.post("/api/usage/events", &used).await.done(202);
    for (client, workflow, audience, budget) in [(&ada, of_ada, "managers", whole), (&bob, of_bob, "person", each)] {
        let run = runs(client, &workflow, 1).await.remove(0);
        let run = client.get(&format!("{ROUTES}/runs/{}", text(&run, "id"))).await.expect(200);
        assert_eq!((&run["audience"], &run["triggerPayload"]["data"]["budgetId"]), (&json!(audience), &json!(budget)));
    }
    // Administrators are told of what is spent together, and each of their own.
    for client in [&ada, &bob] {
        eventually("the word in the inbox", async || {
            let page = client.get("/api/notifications?type=usage.budget.exceeded").await.expect(200);
            (page["total"] == 1).then_some(())
        })
        .await;
    }
}

/// What a key may do ends with the start: the run is its owner's.
#[tokio::test]
async fn an_api_key_starts_runs_as_its_owner() {
    let (host, ada, bob) = host_with_members().await;
    let open = plans::project(&ada, "Open").await;
    let make = act("task", "task.create", json!({"title": "Paint", "projectId": open}), &[]);
    let id = active(&ada, named("Makes", json!([make]))).await;
    let key = json!({"name": "CI", "permissions": ["workflows.*"], "expiresInDays": 7});
    let key = bob.post("/api/users/me/api-keys", &key).await.expect(201);
    let program = host.client().with_token(&text(&key, "key"));
    program.post("/api/tasks", &json!({"title": "Own", "projectId": open})).await.problem(403, "FORBIDDEN");
    let run = becomes(&ada, &execute(&program, &id, json!({})).await, "completed").await;
    assert_eq!(run["actsFor"], json!(members::id(&bob)), "{run}");
    assert_eq!(ada.get("/api/tasks").await.expect(200)["items"][0]["createdBy"], json!(members::id(&bob)));
}
