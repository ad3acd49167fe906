//! planning: whom it asks and whom it tells: ai-service and those who know more, execution-service, calendar, a feed of
//! vulnerabilities; and what its clock says.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use berth_tests::answer::text;
use berth_tests::assistants::{self, set_up};
use berth_tests::listener::{Listener, Received};
use berth_tests::model_provider::{Act, Asked, ModelProvider, completion, whole};
use berth_tests::wait::heard_of;
use berth_tests::{Client, Host, Manifest, eventually, members, plans};
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

const DUE: &str = "due = \"15m\"\n";
const CALLS: &str = "call = [\"ai-service\", \"calendar\", \"embeddings\", \"execution-service\", \"host\", \"knowledge-base\", \"prompt-management\"]\n";

async fn started(manifest: Manifest) -> (Host, Client, String) {
    let host = Host::with(manifest).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let project = plans::project(&ada, "Quay").await;
    (host, ada, project)
}

/// A model that plans one file: `b.txt` for feedback, `a.txt` otherwise.
fn planner(asked: &Asked) -> Vec<Act> {
    if asked.body.is_null() {
        return whole(200, "", r#"{"data":[{"id":"planner"}]}"#);
    }
    let path = if asked.body["messages"][1]["content"].as_str().is_some_and(|wish| wish.contains("\"feedback\"")) {
        "b.txt"
    } else {
        "a.txt"
    };
    let plan = json!({"title": "Light the pier", "steps": [
        {"title": "Write", "type": "file_create", "params": {"path": path, "content": "lit"}},
        {"title": "Check", "type": "validation", "params": {"assertions": [{"kind": "exists", "path": path}]}}]});
    completion(&plan.to_string(), 10, 3)
}

/// What the model was told last: its instructions, and what was wanted.
fn told(provider: &ModelProvider) -> (Value, Value) {
    let messages = provider.asked().pop().expect("a question").body["messages"].clone();
    let wish = messages[1]["content"].as_str().and_then(|wish| serde_json::from_str(wish).ok());
    (messages[0]["content"].clone(), wish.unwrap_or_default())
}

#[tokio::test]
async fn the_model_is_told_what_prompts_embeddings_and_knowledge_base_hold() {
    let provider = ModelProvider::start(Arc::new(planner)).await;
    let (_host, ada, project) = started(assistants::manifest(Some(&provider))).await;
    let (_, models) = set_up(&ada, &provider, "CUSTOM", &["planner"]).await;
    ada.put(&format!("/api/ai/models/{}/configure", models[0]), &json!({"isDefault": true})).await.done(200);
    let wish = json!({"projectId": project, "intent": "pier lamps"});
    ada.post("/api/plans", &wish).await.done(201);
    let (system, asked) = told(&provider);
    assert!(system.as_str().is_some_and(|system| system.contains("turn an intent into a plan")), "{system}");
    assert_eq!(asked["context"], json!({"profile": {}, "modules": []}), "{asked}");

    let prompt = json!({"name": "planning-system", "content": "Plan as harbours do."});
    ada.post("/api/prompts", &prompt).await.done(201);
    ada.post("/api/prompts/planning-system/versions/1/publish", &json!({})).await.done(200);
    ada.put(&format!("/api/projects/{project}/profile"), &json!({"language": "rust"})).await.done(200);
    let module = json!({"projectId": project, "name": "lamps", "path": "src/lamps"});
    ada.post("/api/modules", &module).await.done(201);
    let document = json!({"content": "The pier lamps are switched in the office.", "projectId": project});
    ada.post("/api/embeddings", &document).await.done(201);
    let entry =
        json!({"title": "Pier lamps", "content": "They burn oil.", "status": "published", "projectId": project});
    ada.post("/api/knowledge", &entry).await.done(201);
    let plan = ada.post("/api/plans", &wish).await.expect(201);
    let (system, asked) = told(&provider);
    assert_eq!(system, "Plan as harbours do.");
    let context = &asked["context"];
    assert_eq!((&context["profile"]["language"], &context["modules"][0]["name"]), (&json!("rust"), &json!("lamps")));
    let similar = context["similar"][0].to_string();
    assert!(similar.contains("switched in the office"), "{context}");
    assert_eq!(context["knowledge"][0]["title"], "Pier lamps", "{context}");
    assert_eq!((&plan["title"], &plan["steps"][0]["params"]["path"]), (&json!("Light the pier"), &json!("a.txt")));

    // Feedback makes other steps of the same plan, which is a draft again.
    let path = format!("/api/plans/{}", text(&plan, "id"));
    ada.post(&format!("{path}/validate"), &json!({})).await.done(200);
    let refined = ada.post(&format!("{path}/refine"), &json!({"feedback": "Into b.txt, please."})).await.expect(200);
    let (_, asked) = told(&provider);
    assert_eq!((&asked["feedback"], &asked["plan"]["id"]), (&json!("Into b.txt, please."), &plan["id"]), "{asked}");
    assert_eq!(
        (&refined["id"], &refined["status"], &refined["steps"][0]["params"]["path"]),
        (&plan["id"], &json!("draft"), &json!("b.txt")),
        "{refined}"
    );
    assert_eq!(ada.get(&format!("{path}/steps")).await.expect(200)["total"], 2, "the old steps are gone");
}

/// The titles of a plan's steps, in their order.
async fn titles(client: &Client, plan: &str) -> Vec<String> {
    let steps = client.get(&format!("{plan}/steps?sortBy=order&order=asc")).await.expect(200);
    steps["items"].as_array().into_iter().flatten().map(|step| text(step, "title")).collect()
}

#[tokio::test]
async fn a_plan_of_a_template_is_changed_step_by_step_executed_paused_and_cancelled() {
    let settings = format!("{DUE}\n[plugin.config]\nauto_approve = \"true\"\n");
    let (_host, ada, project) = started(Manifest::services().with(DUE, &settings)).await;
    let templates = ada.get("/api/plans/templates").await.expect(200);
    assert!(templates["items"].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == "ask-then-add-file")));
    let texts = json!({"message": "Shall we?", "path": "a.txt", "content": "a"});
    let body = json!({"projectId": project, "template": "ask-then-add-file", "templateParameters": texts});
    let plan = ada.post("/api/plans", &body).await.expect(201);
    assert_eq!(
        (&plan["title"], &plan["steps"][0]["params"]["message"]),
        (&json!("Add a.txt after a review"), &json!("Shall we?"))
    );
    let path = format!("/api/plans/{}", text(&plan, "id"));

    let more =
        json!({"title": "Prepare", "type": "file_create", "params": {"path": "b.txt", "content": "b"}, "order": 2});
    let added = ada.post(&format!("{path}/steps"), &more).await.expect(201);
    assert_eq!(added["dependencies"], json!([plan["steps"][0]["id"]]), "it waits for the step before it");
    assert_eq!(titles(&ada, &path).await, ["Ask", "Prepare", "Create the file", "Check the file"]);
    let step = format!("{path}/steps/{}", text(&added, "id"));
    assert_eq!(ada.put(&step, &json!({"title": "Get ready", "order": 3})).await.expect(200)["order"], 3);
    assert_eq!(titles(&ada, &path).await, ["Ask", "Create the file", "Get ready", "Check the file"]);
    ada.delete(&step).await.done(204);
    assert_eq!(titles(&ada, &path).await, ["Ask", "Create the file", "Check the file"]);

    let standing = async || ada.get(&format!("{path}/status")).await.expect(200);
    let before = standing().await;
    assert_eq!((&before["execution"], &before["progress"]["total"]), (&Value::Null, &json!(3)), "{before}");
    let command = async |name: &str| ada.put(&format!("{path}/{name}"), &json!({})).await;
    for name in ["pause", "resume", "cancel"] {
        command(name).await.problem(409, "NO_ACTIVE_EXECUTION");
    }
    // With `auto_approve` a validated plan needs nobody's approval, and one that is not validated is no plan yet.
    ada.post(&format!("{path}/execute"), &json!({})).await.problem(409, "CONFLICT");
    ada.post(&format!("{path}/validate"), &json!({})).await.done(200);
    ada.post(&format!("{path}/execute"), &json!({})).await.done(202);
    let becomes = async |status: &str, execution: &[&str]| {
        eventually(&format!("{status} and {execution:?}"), async || {
            let now = standing().await;
            let execution = now["execution"]["status"].as_str().is_some_and(|status| execution.contains(&status));
            (now["status"] == status && execution).then_some(now)
        })
        .await
    };
    assert!(becomes("executing", &["running", "waiting"]).await["executionId"].is_string());
    assert_eq!(ada.delete(&format!("/api/projects/{project}")).await.problem(409, "CONFLICT")["planId"], plan["id"]);
    ada.put(&path, &json!({"title": "Other"})).await.problem(409, "PLAN_EXECUTING");
    command("pause").await.done(200);
    becomes("executing", &["paused"]).await;
    command("resume").await.done(200);
    becomes("executing", &["running", "waiting"]).await;
    command("cancel").await.done(200);
    becomes("cancelled", &["cancelled"]).await;

    ada.get("/api/projects/current").await.problem(404, "NOT_FOUND");
    ada.post(&format!("/api/projects/{project}/switch"), &json!({})).await.done(200);
    assert_eq!(ada.get("/api/projects/current").await.expect(200)["id"], project.as_str());
    ada.post("/api/tasks", &json!({"projectId": project, "title": "Paint"})).await.done(201);
    let context = ada.get(&format!("/api/projects/{project}/context")).await.expect(200);
    assert_eq!((&context["plans"], &context["tasks"]), (&json!({"cancelled": 1}), &json!({"to_do": 1})), "{context}");
    ada.delete(&format!("/api/projects/{project}")).await.done(204);
    ada.get("/api/projects/current").await.problem(404, "NOT_FOUND");
}

async fn arrives(client: &Client, kind: &str) -> Value {
    eventually(&format!("{kind} in the inbox"), async || {
        let inbox = client.get(&format!("/api/notifications?type={kind}")).await.expect(200);
        inbox["items"].get(0).cloned()
    })
    .await
}

#[tokio::test]
async fn the_clock_says_once_that_a_task_is_due_and_once_that_it_is_late() {
    let (host, ada, project) = started(Manifest::services_and_herald("", "").with(DUE, "due = \"1s\"\n")).await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let task = async |title: &str, hours: i64| {
        let due = (Utc::now() + TimeDelta::hours(hours)).to_rfc3339();
        let body = json!({"projectId": project, "title": title, "dueDate": due, "assignedTo": members::id(&bob)});
        text(&ada.post("/api/tasks", &body).await.expect(201), "id")
    };
    let (later, done) = (task("Caulk", 48).await, task("Varnish", 30).await);
    ada.put(&format!("/api/tasks/{done}/status"), &json!({"status": "cancelled"})).await.done(200);
    ada.put(&format!("/api/tasks/{done}"), &json!({"dueDate": "2026-01-01T00:00:00Z"})).await.done(200);
    let (soon, late) = (task("Paint", 2).await, task("Saw", -2).await);
    let told = arrives(&bob, "task.due_soon").await;
    assert_eq!((&told["title"], &told["criticality"]), (&json!("Due soon: Paint"), &json!("MEDIUM")), "{told}");
    let told = arrives(&bob, "task.overdue").await;
    assert_eq!((&told["title"], &told["criticality"]), (&json!("Overdue: Saw"), &json!("HIGH")), "{told}");
    // Another time is another matter; and once this has been said, the clock has gone on for a while.
    ada.put(&format!("/api/tasks/{soon}"), &json!({"dueDate": "2026-01-01T00:00:00Z"})).await.done(200);
    heard_of(&ada, "task.overdue", 1, |data| data["taskId"] == soon.as_str()).await;
    for (kind, task, times) in [
        ("task.due_soon", &soon, 1),
        ("task.overdue", &soon, 1),
        ("task.due_soon", &late, 0),
        ("task.overdue", &late, 1),
        ("task.due_soon", &later, 0),
        ("task.overdue", &done, 0),
    ] {
        let told = heard_of(&ada, kind, times, |data| data["taskId"] == task.as_str()).await;
        assert_eq!(told.len(), times, "{kind} {task}");
    }
    let told = heard_of(&ada, "task.overdue", 1, |data| data["taskId"] == late.as_str()).await;
    assert_eq!(told[0]["assignedTo"], members::id(&bob).as_str());
}

#[tokio::test]
async fn a_task_waits_for_what_it_requires_and_for_who_is_asked_before_its_step() {
    let (host, ada, project) = started(Manifest::services()).await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let task = async |title: &str| {
        let body = json!({"projectId": project, "title": title});
        format!("/api/tasks/{}", text(&ada.post("/api/tasks", &body).await.expect(201), "id"))
    };
    let (own, other) = (task("Paint").await, task("Sand").await);
    let assigned = ada.put(&format!("{own}/assign"), &json!({"assignedTo": members::id(&bob)})).await.expect(200);
    assert_eq!(assigned["assignedTo"], members::id(&bob).as_str());
    let below = ada.post(&format!("{own}/subtasks"), &json!({"title": "Primer"})).await.expect(201);
    assert_eq!(below["projectId"], project.as_str(), "{below}");
    let listed = ada.get(&format!("{own}/subtasks")).await.expect(200);
    assert_eq!((&listed["total"], &listed["items"][0]["id"]), (&json!(1), &below["id"]), "{listed}");

    let reasons = async || {
        let answer = ada.get(&format!("{own}/readiness")).await.expect(200);
        let reasons = answer["reasons"].as_array().cloned().unwrap_or_default();
        assert_eq!(answer["isReady"], reasons.is_empty(), "{answer}");
        reasons.iter().map(|reason| text(reason, "code")).collect::<Vec<_>>()
    };
    assert!(reasons().await.is_empty());
    let needed = other.rsplit('/').next().unwrap_or_default();
    let wait = ada.post(&format!("{own}/dependencies"), &json!({"toTaskId": needed})).await.expect(201);
    let steps = json!([
        {"title": "Ask", "type": "human", "params": {"message": "Which colour?"}},
        {"title": "Write", "type": "file_create", "params": {"path": "a", "content": "a"}}]);
    let plan = plans::plan(&ada, &project, &steps).await;
    let linked = ada.post(&format!("{own}/link"), &json!({"planStepId": plan["steps"][1]["id"]})).await.expect(200);
    assert_eq!(linked["planId"], plan["id"], "a step brings its plan along");
    assert_eq!(reasons().await, ["DEPENDENCY_OPEN", "HUMAN_ACTION_PENDING"]);

    let step = async |status: &str, force: bool| {
        ada.put(&format!("{own}/status"), &json!({"status": status, "force": force})).await
    };
    step("in_progress", false).await.done(200);
    step("in_review", false).await.done(200);
    let problem = step("completed", false).await.problem(409, "REQUIREMENT_OPEN");
    assert_eq!(problem["taskId"], needed, "{problem}");
    ada.delete(&format!("{own}/dependencies/{}", text(&wait, "id"))).await.done(204);
    ada.post(&format!("{own}/link"), &json!({"planStepId": null})).await.done(200);
    assert!(reasons().await.is_empty());
    ada.post(&format!("{own}/dependencies"), &json!({"toTaskId": needed})).await.done(201);
    assert_eq!(step("completed", true).await.expect(200)["status"], "completed", "who insists may");
}

#[tokio::test]
async fn a_deployment_waits_for_the_calendar_and_a_scan_asks_the_feed_for_who_keeps_its_answer() {
    let feed = Listener::answering(Arc::new(|received: &Received| {
        let asked: Value = serde_json::from_str(&received.body).unwrap_or_default();
        let result = |query: &Value| match query["package"]["name"].as_str() {
            Some("left") => json!({"vulns": [{"id": "GHSA-1"}, {"id": "GHSA-2"}]}),
            _ => json!({}),
        };
        let results: Vec<Value> = asked["queries"].as_array().into_iter().flatten().map(result).collect();
        (200, json!({ "results": results }).to_string())
    }))
    .await;
    let granted = format!("{CALLS}outbound = [{:?}]\noutbound_private = [\"127.0.0.1\"]\n", feed.address());
    let settings = format!("{DUE}\n[plugin.config]\nvulnerability_feed = {:?}\n", feed.url(""));
    let manifest = Manifest::services().with(CALLS, &granted).with(DUE, &settings);
    let (host, ada, project) = started(manifest).await;

    let release = json!({"projectId": project, "name": "R", "version": "1.0.0"});
    let release = text(&ada.post("/api/releases", &release).await.expect(201), "id");
    let deploy = async || ada.post(&format!("/api/releases/{release}/deploy"), &json!({"environment": "dev"})).await;
    let week = json!(["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]);
    let rules = |blocked: &Value| json!({"projectId": project, "environment": "dev", "blockedDays": blocked});
    ada.put("/api/calendar/time-rules", &rules(&week)).await.done(200);
    deploy().await.problem(409, "WINDOW_BLOCKED");
    ada.put("/api/calendar/time-rules", &rules(&json!(["2020-01-01"]))).await.done(200);
    deploy().await.done(200);

    let packages = r#"{"dependencies": {"left": "1.2.0", "right": "2.0.0"}}"#;
    let scan = json!({"projectId": project, "fileName": "package.json", "manifest": packages});
    let guest = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let viewer = json!({"access": [{"userId": members::id(&ada), "level": "owner"}, {"userId": members::id(&guest), "level": "viewer"}]});
    ada.put(&format!("/api/projects/{project}"), &json!({"visibility": "private"})).await.done(200);
    guest.post("/api/dependencies/scan", &scan).await.problem(404, "NOT_FOUND");
    ada.put(&format!("/api/projects/{project}/access"), &viewer).await.done(200);
    guest.post("/api/dependencies/scan", &scan).await.problem(403, "FORBIDDEN");
    assert!(feed.received().is_empty(), "nobody outside is asked for somebody who may not keep the answer");
    let found = ada.post("/api/dependencies/scan", &scan).await.expect(200);
    assert_eq!((&found["feed"], &found["vulnerabilities"]), (&json!("asked"), &json!(2)), "{found}");
    let asked = feed.received().pop().expect("a question");
    assert_eq!(asked.target, "/v1/querybatch");
    let asked: Value = serde_json::from_str(&asked.body).unwrap_or_default();
    let expected = json!({"package": {"name": "left", "ecosystem": "npm"}, "version": "1.2.0"});
    assert!(asked["queries"].as_array().is_some_and(|queries| queries.contains(&expected)), "{asked}");
}

#[tokio::test]
async fn an_organization_says_whether_a_validated_plan_needs_approval() {
    let (host, ada, _) = started(Manifest::services()).await;
    let settings = format!("/api/organizations/{}/settings", text(&ada.account["organization"], "id"));
    ada.put(&settings, &json!({"auto_approve": true})).await.done(200);
    let eve = host.client().register("eve@example.com", "Reef").await;
    for (client, is_set) in [(&ada, true), (&eve, false)] {
        let project = plans::project(client, "Pier").await;
        let plan = text(&plans::plan(client, &project, &plans::many_steps(1)).await, "id");
        client.post(&format!("/api/plans/{plan}/validate"), &json!({})).await.done(200);
        let started = client.post(&format!("/api/plans/{plan}/execute"), &json!({})).await;
        if is_set {
            plans::reaches(client, &text(&started.expect(202), "executionId"), &["completed"]).await;
        } else {
            started.problem(409, "CONFLICT");
        }
    }
}
