//! planning: what goes wrong and who looks at it: issues, incidents, debt, reviews, application context; and asking
//! ai-service, which a test guest stands in for.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use berth_tests::answer::text;
use berth_tests::wait::heard_of;
use berth_tests::{Client, Host, Manifest, eventually, members, plans};
use serde_json::{Value, json};

async fn made(client: &Client, path: &str, body: Value) -> Value {
    client.post(path, &body).await.expect(201)
}

async fn made_id(client: &Client, path: &str, body: Value) -> String {
    text(&made(client, path, body).await, "id")
}

async fn quay() -> (Host, Client, String) {
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let project = plans::project(&ada, "Quay").await;
    (host, ada, project)
}

#[tokio::test]
async fn an_issue_is_scored_and_becomes_a_task_once() {
    let (_host, ada, project) = quay().await;
    let issue = made(&ada, "/api/issues", json!({"projectId": project, "title": "Leak", "severity": "high", "likelihood": 0.5, "kind": "security", "source": "anticipated"})).await;
    assert_eq!((&issue["priorityScore"], &issue["source"]), (&json!(0.375), &json!("manual")), "{issue}");
    let path = format!("/api/issues/{}", text(&issue, "id"));
    assert_eq!(ada.put(&path, &json!({"likelihood": 0})).await.expect(200)["priorityScore"], 0.0);
    let task = made(&ada, &format!("{path}/to-task"), json!({})).await;
    assert_eq!(
        (&task["title"], &task["type"], &task["priority"]),
        (&json!("Leak"), &json!("bug"), &json!("high")),
        "{task}"
    );
    let problem = ada.post(&format!("{path}/to-task"), &json!({})).await.problem(409, "TASK_EXISTS");
    assert_eq!(problem["taskId"], task["id"]);
    assert_eq!(ada.put(&path, &json!({"status": "dismissed"})).await.expect(200)["status"], "dismissed");
    ada.put(&path, &json!({"status": "resolved"})).await.problem(409, "ILLEGAL_TRANSITION");
    ada.post("/api/issues", &json!({"title": "Nowhere"})).await.problem(400, "VALIDATION_ERROR");
}

#[tokio::test]
async fn likely_issues_follow_from_what_the_project_knows() {
    let (_host, ada, project) = quay().await;
    let wish = |store: bool| json!({"projectId": project, "store": store});
    assert_eq!(ada.post("/api/issues/anticipate", &wish(false)).await.expect(200)["items"], json!([]));
    made(&ada, "/api/tasks", json!({"projectId": project, "title": "Paint", "dueDate": "2020-01-01T00:00:00Z"})).await;
    made(&ada, "/api/debt", json!({"projectId": project, "title": "Rust", "impactScore": 9, "effortScore": 9})).await;
    let proposed = ada.post("/api/issues/anticipate", &wish(false)).await.expect(200);
    let titles: Vec<&str> =
        proposed["items"].as_array().unwrap().iter().filter_map(|item| item["title"].as_str()).collect();
    assert_eq!(titles, ["\"Rust\" slows changes down", "\"Paint\" delays what waits for it"], "{proposed}");
    assert_eq!(ada.get("/api/issues").await.expect(200)["total"], 0);
    assert_eq!(ada.post("/api/issues/anticipate", &wish(true)).await.expect(200)["stored"], 2);
    assert_eq!(ada.post("/api/issues/anticipate", &wish(true)).await.expect(200)["stored"], 0);
    assert_eq!(ada.get("/api/issues?source=anticipated").await.expect(200)["total"], 2);
}

#[tokio::test]
async fn a_firing_alert_suggests_an_issue_and_never_declares_an_incident() {
    let host = Host::with(Manifest::services_and_herald("", "")).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let project = plans::project(&ada, "Quay").await;
    let fire = async |rule: &str| {
        let data = json!({"ruleId": rule, "name": "Water is high", "severity": "critical", "projectId": project, "value": 3.5});
        ada.post("/api/herald", &json!({"type": "observability.alert.firing", "data": data})).await.done(204);
    };
    fire("r1").await;
    fire("r1").await;
    fire("r2").await;
    let anticipated = async |count: u32| {
        eventually(&format!("{count} issues"), async || {
            let issues = ada.get("/api/issues?source=anticipated").await.expect(200);
            (issues["total"] == count).then_some(issues)
        })
        .await
    };
    anticipated(2).await;
    fire("r1").await;
    fire("r3").await;
    let issues = anticipated(3).await;
    let issue = &issues["items"][0];
    assert_eq!(
        (&issue["title"], &issue["projectId"], &issue["severity"]),
        (&json!("Alert: Water is high"), &json!(project), &json!("critical"))
    );
    assert_eq!(ada.get("/api/incidents").await.expect(200)["total"], 0);
}

#[tokio::test]
async fn a_severe_incident_closes_only_with_a_postmortem() {
    let host = Host::with(Manifest::services_and_herald("", "")).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let incident = made(&ada, "/api/incidents", json!({"title": "Flood", "severity": "medium"})).await;
    let id = text(&incident, "id");
    let path = format!("/api/incidents/{id}");
    let put = async |body: Value| ada.put(&path, &body).await;
    put(json!({"status": "closed"})).await.problem(409, "ILLEGAL_TRANSITION");
    put(json!({"severity": "critical", "status": "investigating"})).await.done(200);
    ada.post(&format!("{path}/comments"), &json!({"body": "Pumping"})).await.done(200);
    let resolved = ada.put(&format!("{path}/resolve"), &json!({"comment": "Dry"})).await.expect(200);
    assert!(resolved["resolvedAt"].is_string(), "{resolved}");
    let kinds: Vec<&str> =
        resolved["timeline"].as_array().unwrap().iter().filter_map(|entry| entry["kind"].as_str()).collect();
    assert_eq!(kinds, ["declared", "severity", "status", "comment", "comment", "status"], "{resolved}");
    ada.put(&format!("{path}/resolve"), &json!({})).await.problem(409, "ILLEGAL_TRANSITION");
    put(json!({"status": "closed"})).await.problem(409, "POSTMORTEM_REQUIRED");
    let postmortem = format!("{path}/postmortem");
    ada.get(&postmortem).await.problem(404, "NOT_FOUND");
    ada.put(&postmortem, &json!({"impact": "Wet feet"})).await.problem(400, "VALIDATION_ERROR");
    ada.put(&postmortem, &json!({"summary": "The gate was open", "rootCauses": ["habit"]})).await.done(200);
    let written = ada.put(&postmortem, &json!({"impact": "Wet feet"})).await.expect(200);
    assert_eq!(
        (&written["summary"], &written["impact"]),
        (&json!("The gate was open"), &json!("Wet feet")),
        "{written}"
    );
    put(json!({"status": "closed"})).await.done(200);

    let other = made_id(&ada, "/api/incidents", json!({"title": "Fire", "severity": "low"})).await;
    let item = made_id(&ada, &format!("{path}/action-items"), json!({"title": "Close the gate"})).await;
    assert_eq!(
        ada.put(&format!("{path}/action-items/{item}"), &json!({"status": "completed"})).await.expect(200)["status"],
        "completed"
    );
    ada.get(&format!("/api/incidents/{other}/action-items/{item}")).await.problem(404, "NOT_FOUND");
    ada.delete(&format!("/api/incidents/{other}/action-items/{item}")).await.problem(404, "NOT_FOUND");
    ada.delete(&format!("{path}/action-items/{item}")).await.done(204);

    let escalated = heard_of(&ada, "incident.escalated", 1, |_| true).await;
    assert_eq!((&escalated[0]["fromSeverity"], &escalated[0]["severity"]), (&json!("medium"), &json!("critical")));
    assert_eq!(heard_of(&ada, "incident.resolved", 1, |_| true).await[0]["incidentId"], id.as_str());
    assert_eq!(heard_of(&ada, "incident.created", 2, |_| true).await.len(), 2);
}

#[tokio::test]
async fn debt_is_ranked_resolved_and_counted_over_time() {
    let (_host, ada, project) = quay().await;
    let debt = async |title: &str, impact: f64, effort: f64| {
        made(&ada, "/api/debt", json!({"projectId": project, "title": title, "impactScore": impact, "effortScore": effort, "debtType": "test_coverage"})).await
    };
    let small = debt("Small", 1.0, 0.0).await;
    assert_eq!(small["overallScore"], 0.6, "{small}");
    let large = debt("Large", 10.0, 5.0).await;
    let backlog = ada.get("/api/debt/backlog").await.expect(200);
    assert_eq!((&backlog["items"][0]["title"], &backlog["total"]), (&json!("Large"), &json!(2)), "{backlog}");
    let resolve = format!("/api/debt/{}/resolve", text(&small, "id"));
    assert!(ada.put(&resolve, &json!({})).await.expect(200)["resolvedAt"].is_string());
    ada.put(&resolve, &json!({})).await.problem(409, "CONFLICT");
    assert_eq!(ada.get("/api/debt/backlog").await.expect(200)["total"], 1);
    let task = made(&ada, &format!("/api/debt/{}/to-task", text(&large, "id")), json!({"estimatedHours": 3})).await;
    assert_eq!(
        (&task["type"], &task["priority"], &task["estimatedHours"]),
        (&json!("test"), &json!("critical"), &json!(3.0)),
        "{task}"
    );
    let trends = ada.get(&format!("/api/debt/trends?projectId={project}&days=7&intervalDays=7")).await.expect(200);
    let point = &trends["points"][0];
    assert_eq!(
        (&point["identified"], &point["resolved"], &point["open"]),
        (&json!(2), &json!(1), &json!(1)),
        "{trends}"
    );
}

#[tokio::test]
async fn a_review_is_discussed_sent_back_and_approved_by_who_was_asked() {
    let host = Host::with(Manifest::services_and_herald("", "")).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let eve = members::bring(&host, &ada, "eve@example.com", "Member").await;
    let project = plans::project(&ada, "Quay").await;
    let task = made_id(&ada, "/api/tasks", json!({"projectId": project, "title": "Paint"})).await;
    let bob_id = text(&bob.account["user"], "id");
    let body = json!({"projectId": project, "title": "Look", "reviewableType": "task", "reviewableId": task, "assignedTo": bob_id});
    let mut missing = body.clone();
    missing["reviewableId"] = json!("nobody");
    ada.post("/api/reviews", &missing).await.problem(404, "NOT_FOUND");
    let path = format!("/api/reviews/{}", made_id(&ada, "/api/reviews", body).await);
    let comment = async |body: Value| ada.post(&format!("{path}/comments"), &body).await;
    assert_eq!(comment(json!({"body": "x", "line": 3})).await.faulty_fields(), ["filePath"]);
    let first = text(
        &comment(json!({"body": "Why red?", "type": "question", "filePath": "a.rs", "line": 3})).await.expect(201),
        "id",
    );
    let answer = text(&comment(json!({"body": "It is a lighthouse", "threadId": first})).await.expect(201), "id");
    assert!(
        ada.put(&format!("/api/reviews/comments/{first}/resolve"), &json!({})).await.expect(200)["resolvedAt"]
            .is_string()
    );
    let comments = ada.get(&format!("{path}/comments")).await.expect(200);
    assert!(
        comments["items"].as_array().unwrap().iter().all(|comment| comment["resolvedAt"].is_string()),
        "{answer}: {comments}"
    );
    eve.put(&format!("{path}/approve"), &json!({})).await.problem(403, "FORBIDDEN");
    ada.put(&path, &json!({"status": "approved"})).await.problem(422, "UNPROCESSABLE");
    let back =
        bob.put(&format!("{path}/reject"), &json!({"requestChanges": true, "comment": "Redder"})).await.expect(200);
    assert_eq!(back["status"], "changes_requested", "{back}");
    ada.put(&path, &json!({"status": "pending"})).await.done(200);
    assert_eq!(bob.put(&format!("{path}/approve"), &json!({})).await.expect(200)["decidedBy"], bob_id.as_str());
    bob.put(&format!("{path}/reject"), &json!({})).await.problem(409, "ILLEGAL_TRANSITION");
    assert_eq!(heard_of(&ada, "review.requested", 2, |_| true).await.len(), 2);
    assert_eq!(heard_of(&ada, "review.changes_requested", 1, |_| true).await[0]["comment"], "Redder");
    heard_of(&ada, "review.approved", 1, |_| true).await;
}

#[tokio::test]
async fn an_application_context_is_made_once_and_merged() {
    let (_host, ada, project) = quay().await;
    let path = format!("/api/application-context/{project}");
    ada.put(&path, &json!({"profile": {"a": 1}})).await.problem(404, "NOT_FOUND");
    ada.post("/api/application-context", &json!({"projectId": project})).await.problem(400, "VALIDATION_ERROR");
    made(&ada, "/api/application-context", json!({"projectId": project, "profile": {"language": "rust", "port": 0}}))
        .await;
    ada.post("/api/application-context", &json!({"projectId": project, "profile": {"x": 1}}))
        .await
        .problem(409, "CONFLICT");
    ada.put(&path, &json!({"profile": {"language": null, "style": "plain"}})).await.done(200);
    let read = ada.get(&format!("/api/application-context?projectId={project}")).await.expect(200);
    assert_eq!(read["profile"], json!({"port": 0, "style": "plain"}), "{read}");
    assert_eq!(ada.get(&format!("/api/projects/{project}/profile")).await.expect(200), read["profile"]);
    ada.get("/api/application-context").await.problem(400, "VALIDATION_ERROR");
    ada.post(&format!("/api/projects/{project}/switch"), &json!({})).await.done(200);
    assert_eq!(ada.get("/api/application-context").await.expect(200)["projectId"], project.as_str());
    // What is cached is never older than what is stored.
    ada.put(&path, &json!({"profile": {"style": "bold"}})).await.done(200);
    assert_eq!(
        ada.get(&format!("/api/projects/{project}")).await.expect(200)["metadata"]["applicationProfile"]["style"],
        "bold"
    );
}

#[tokio::test]
async fn an_answer_that_is_no_plan_is_asked_for_again_once() {
    let plan = json!({"title": "Build", "steps": [
        {"title": "Write", "type": "file_create", "params": {"path": "a.txt", "content": "a"}},
        {"title": "Check", "type": "validation", "params": {"assertions": [{"kind": "exists", "path": "a.txt"}]}}]});
    let host = Host::with(Manifest::services_and_herald("I would rather not.", &format!("Sure: {plan}"))).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let project = plans::project(&ada, "Quay").await;
    let made = made(&ada, "/api/plans", json!({"projectId": project, "intent": "Build a pier"})).await;
    assert_eq!((&made["title"], made["steps"].as_array().map(Vec::len)), (&json!("Build"), Some(2)), "{made}");
    ada.post("/api/plans", &json!({"projectId": "nobody", "intent": "Build"})).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn stories_are_proposed_and_tasks_generated_by_the_assistant() {
    let answer = json!({
        "stories": [{"name": "Planks", "description": "Of oak"}],
        "tasks": [{"title": "Saw", "estimatedHours": 3}, {"title": "Nail", "type": "test", "priority": "low"}],
    });
    let host = Host::with(Manifest::services_and_herald(&answer.to_string(), "")).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let project = plans::project(&ada, "Quay").await;
    let roadmap = made_id(&ada, "/api/roadmaps", json!({"projectId": project, "name": "R"})).await;
    let milestone = made_id(&ada, &format!("/api/roadmaps/{roadmap}/milestones"), json!({"name": "M"})).await;
    let epic = made_id(&ada, &format!("/api/roadmaps/milestones/{milestone}/epics"), json!({"name": "E"})).await;
    let proposed = ada
        .post(&format!("/api/roadmaps/epics/{epic}/stories/generate"), &json!({"guidance": "Wood"}))
        .await
        .expect(200);
    assert_eq!(proposed["stories"][0]["name"], "Planks", "{proposed}");
    assert_eq!(ada.get(&format!("/api/roadmaps/epics/{epic}/stories")).await.expect(200)["total"], 0);
    let story = made_id(&ada, &format!("/api/roadmaps/epics/{epic}/stories"), json!({"name": "S"})).await;
    let tasks = made(&ada, &format!("/api/roadmaps/stories/{story}/tasks/generate"), json!({})).await;
    assert_eq!((&tasks["total"], &tasks["items"][0]["milestoneId"]), (&json!(2), &json!(milestone)), "{tasks}");
    assert_eq!(heard_of(&ada, "planning.task.generated", 1, |_| true).await[0]["count"], 2);
}

#[tokio::test]
async fn without_the_assistant_nothing_is_proposed_and_nothing_is_stored() {
    let host = Host::with(Manifest::services().bereft_of("ai-service")).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let project = plans::project(&ada, "Quay").await;
    let roadmap = made_id(&ada, "/api/roadmaps", json!({"projectId": project, "name": "R"})).await;
    let milestone = made_id(&ada, &format!("/api/roadmaps/{roadmap}/milestones"), json!({"name": "M"})).await;
    let epic = made_id(&ada, &format!("/api/roadmaps/milestones/{milestone}/epics"), json!({"name": "E"})).await;
    let story = made_id(&ada, &format!("/api/roadmaps/epics/{epic}/stories"), json!({"name": "S"})).await;
    ada.post(&format!("/api/roadmaps/epics/{epic}/stories/generate"), &json!({}))
        .await
        .problem(503, "SERVICE_UNAVAILABLE");
    ada.post(&format!("/api/roadmaps/stories/{story}/tasks/generate"), &json!({}))
        .await
        .problem(503, "SERVICE_UNAVAILABLE");
    assert_eq!(ada.get("/api/tasks").await.expect(200)["total"], 0);
}

/// One row of every group, by its path.
async fn one_of_each(ada: &Client, project: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (path, body) in [
        ("/api/roadmaps", json!({"projectId": project, "name": "R"})),
        ("/api/issues", json!({"projectId": project, "title": "I"})),
        ("/api/releases", json!({"projectId": project, "name": "R", "version": "1.0.0"})),
        ("/api/architecture/diagrams", json!({"projectId": project, "title": "D"})),
        ("/api/dependencies", json!({"projectId": project, "fromTeamId": "a", "toTeamId": "b"})),
        ("/api/incidents", json!({"projectId": project, "title": "F"})),
        ("/api/environments", json!({"projectId": project, "name": "dev"})),
        ("/api/debt", json!({"projectId": project, "title": "D", "impactScore": 1, "effortScore": 1})),
        (
            "/api/reviews",
            json!({"projectId": project, "title": "R", "reviewableType": "code", "reviewableId": "c1", "assignedTo": "u1"}),
        ),
        ("/api/modules", json!({"projectId": project, "name": "M", "path": "m"})),
    ] {
        paths.push(format!("{path}/{}", made_id(ada, path, body).await));
    }
    let milestones = format!("{}/milestones", paths[0]);
    paths.push(format!("/api/roadmaps/milestones/{}", made_id(ada, &milestones, json!({"name": "M"})).await));
    let epics = format!("{}/epics", paths[10]);
    paths.push(format!("/api/roadmaps/epics/{}", made_id(ada, &epics, json!({"name": "E"})).await));
    let stories = format!("{}/stories", paths[11]);
    paths.push(format!("/api/roadmaps/stories/{}", made_id(ada, &stories, json!({"name": "S"})).await));
    paths
}

#[tokio::test]
async fn in_every_group_rows_of_another_organization_do_not_exist() {
    let (host, ada, project) = quay().await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    for path in one_of_each(&ada, &project).await {
        eve.get(&path).await.problem(404, "NOT_FOUND");
        eve.put(&path, &json!({"name": "mine", "title": "mine"})).await.problem(404, "NOT_FOUND");
        eve.delete(&path).await.problem(404, "NOT_FOUND");
        ada.get(&path).await.done(200);
        if !path.starts_with("/api/roadmaps/") {
            let list = path.rsplit_once('/').unwrap().0;
            assert_eq!(eve.get(list).await.expect(200)["total"], 0, "{list}");
            let foreign = json!({"projectId": project, "name": "dev", "title": "T", "version": "9.0.0", "path": "p", "fromTeamId": "a",
                "toTeamId": "b", "impactScore": 1, "effortScore": 1, "reviewableType": "code", "reviewableId": "c", "assignedTo": "u"});
            eve.post(list, &foreign).await.problem(404, "NOT_FOUND");
        }
    }
}

#[tokio::test]
async fn in_every_group_a_viewer_reads_and_changes_nothing() {
    let (host, ada, project) = quay().await;
    let vic = members::bring(&host, &ada, "vic@example.com", "Viewer").await;
    for path in one_of_each(&ada, &project).await {
        vic.get(&path).await.done(200);
        vic.put(&path, &json!({"name": "mine", "title": "mine"})).await.problem(403, "FORBIDDEN");
        vic.delete(&path).await.problem(403, "FORBIDDEN");
    }
}
