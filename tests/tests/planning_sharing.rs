//! planning and execution-service: whom a project is shared with, and what that lets them do.

use berth_tests::answer::text;
use berth_tests::{Client, Host, eventually, members, plans};
use serde_json::{Value, json};

async fn crew() -> (Host, Client, Client, Client) {
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let cleo = members::bring(&host, &ada, "cleo@example.com", "Member").await;
    (host, ada, bob, cleo)
}

async fn project(client: &Client, body: Value) -> String {
    text(&client.post("/api/projects", &body).await.expect(201), "id")
}

/// Shares a project of `owner` with whoever the lines name.
async fn share(owner: &Client, project: &str, lines: &[Value]) {
    let mut access = vec![json!({"userId": members::id(owner), "level": "owner"})];
    access.extend(lines.iter().cloned());
    owner.put(&format!("/api/projects/{project}/access"), &json!({ "access": access })).await.done(200);
}

#[tokio::test]
async fn who_only_sees_a_project_moves_none_of_its_plans() {
    let (_host, ada, bob, cleo) = crew().await;
    let project = project(&ada, json!({"name": "Secret", "visibility": "private"})).await;
    let plan = plans::plan(&ada, &project, &plans::three_steps()).await;
    let path = format!("/api/plans/{}", text(&plan, "id"));
    let step = format!("{path}/steps/{}", plan["steps"][0]["id"].as_str().unwrap_or_default());
    bob.get(&path).await.problem(404, "NOT_FOUND");
    share(&ada, &project, &[json!({"userId": members::id(&bob), "level": "viewer"})]).await;
    bob.get(&path).await.done(200);
    let levels = format!("/api/projects/levels?ids={project},nobody");
    assert_eq!(bob.get(&levels).await.expect(200)["items"], json!([{"projectId": project, "level": "viewer"}]));
    assert_eq!(cleo.get(&levels).await.expect(200)["items"], json!([]));
    assert_eq!(bob.get("/api/projects/levels?ids=a,b%20c").await.faulty_fields(), ["ids"]);
    let one = json!({"title": "Mine", "type": "file_delete", "params": {"path": "x"}});
    bob.put(&path, &json!({"title": "Mine"})).await.problem(403, "FORBIDDEN");
    bob.put(&step, &json!({"title": "Mine"})).await.problem(403, "FORBIDDEN");
    bob.post(&format!("{path}/steps"), &one).await.problem(403, "FORBIDDEN");
    bob.post(&format!("{path}/validate"), &json!({})).await.problem(403, "FORBIDDEN");
    let another = json!({"projectId": project, "title": "Mine", "steps": [one]});
    bob.post("/api/plans", &another).await.problem(403, "FORBIDDEN");
    // Nobody is asked for a plan that could not be kept.
    bob.post("/api/plans", &json!({"projectId": project, "intent": "Mine"})).await.problem(403, "FORBIDDEN");
    ada.post(&format!("{path}/validate"), &json!({})).await.done(200);
    bob.post(&format!("{path}/approve"), &json!({})).await.problem(403, "FORBIDDEN");
    ada.post(&format!("{path}/approve"), &json!({})).await.done(200);
    bob.post(&format!("{path}/execute"), &json!({})).await.problem(403, "FORBIDDEN");
    bob.post("/api/executions/execute", &json!({"planId": plan["id"]})).await.problem(403, "FORBIDDEN");
    share(&ada, &project, &[json!({"userId": members::id(&bob), "level": "editor"})]).await;
    let started = bob.post(&format!("{path}/execute"), &json!({})).await.expect(202);
    plans::reaches(&bob, &text(&started, "executionId"), &["completed"]).await;
}

#[tokio::test]
async fn an_execution_is_seen_and_moved_by_those_who_see_and_change_its_project() {
    let (_host, ada, bob, cleo) = crew().await;
    let project = project(&ada, json!({"name": "Secret", "visibility": "private"})).await;
    let steps = json!([
        {"title": "Ask", "type": "human", "params": {"message": "Shall we?", "approvers": [members::id(&cleo)]}},
        {"title": "Ask again", "type": "human", "params": {"message": "And now?"}},
        {"title": "Write", "type": "file_create", "params": {"path": "a", "content": "a"}},
    ]);
    let plan = text(&plans::plan(&ada, &project, &steps).await, "id");
    ada.post(&format!("/api/plans/{plan}/validate"), &json!({})).await.done(200);
    ada.post(&format!("/api/plans/{plan}/approve"), &json!({})).await.done(200);
    let execution = plans::execute(&ada, &plan).await;
    let path = format!("/api/executions/{execution}");
    let waiting = async |place: usize| {
        eventually("the step that waits", async || {
            let steps = ada.get(&format!("{path}/steps")).await.expect(200);
            let step = steps["items"].get(place)?.clone();
            (step["status"] == "waiting").then(|| format!("{path}/steps/{}/complete", text(&step, "stepId")))
        })
        .await
    };
    let asked = waiting(0).await;
    for reading in ["", "/events", "/plan", "/steps", "/artifacts", "/artifacts/archive", "/checkpoints", "/stream"] {
        bob.get(&format!("{path}{reading}")).await.problem(404, "NOT_FOUND");
    }
    for moving in ["pause", "resume", "cancel", "rollback", "checkpoints"] {
        bob.post(&format!("{path}/{moving}"), &json!({})).await.problem(404, "NOT_FOUND");
    }
    bob.post(&asked, &json!({})).await.problem(404, "NOT_FOUND");
    for list in ["/api/executions".to_string(), format!("/api/executions?projectId={project}")] {
        assert_eq!(bob.get(&list).await.expect(200)["total"], 0, "{list}");
        assert_eq!(ada.get(&list).await.expect(200)["total"], 1, "{list}");
    }
    // Who is asked by name answers, whatever else they see.
    cleo.post(&asked, &json!({})).await.done(200);
    let asked = waiting(1).await;
    cleo.post(&asked, &json!({})).await.problem(404, "NOT_FOUND");
    share(&ada, &project, &[json!({"userId": members::id(&bob), "level": "viewer"})]).await;
    bob.get(&path).await.done(200);
    assert_eq!(bob.get("/api/executions").await.expect(200)["total"], 1);
    bob.post(&format!("{path}/pause"), &json!({})).await.problem(403, "FORBIDDEN");
    bob.put(&format!("/api/plans/{plan}/cancel"), &json!({})).await.problem(403, "FORBIDDEN");
    bob.post(&asked, &json!({})).await.problem(403, "FORBIDDEN");
    share(&ada, &project, &[json!({"userId": members::id(&bob), "level": "editor"})]).await;
    bob.post(&asked, &json!({})).await.done(200);
    plans::reaches(&bob, &execution, &["completed"]).await;
}

#[tokio::test]
async fn a_team_sees_and_changes_what_is_shared_with_it() {
    let (_host, ada, bob, cleo) = crew().await;
    let team = text(&ada.post("/api/teams", &json!({"name": "Crew"})).await.expect(201), "id");
    let member = json!({"userId": members::id(&bob), "role": "member"});
    ada.post(&format!("/api/teams/{team}/members"), &member).await.done(200);
    let project = project(&ada, json!({"name": "Secret", "visibility": "team", "teamId": team})).await;
    let path = format!("/api/projects/{project}");
    eventually("bob's team sees it", async || (bob.get(&path).await.status == 200).then_some(())).await;
    cleo.get(&path).await.problem(404, "NOT_FOUND");
    assert_eq!(bob.get("/api/projects").await.expect(200)["total"], 1);
    assert_eq!(cleo.get("/api/projects").await.expect(200)["total"], 0);
    bob.put(&path, &json!({"description": "Ours"})).await.done(200);
    let task = text(&bob.post("/api/tasks", &json!({"projectId": project, "title": "Row"})).await.expect(201), "id");
    cleo.get(&format!("/api/tasks/{task}")).await.problem(404, "NOT_FOUND");
    // Who else sees it is for its owners to say.
    bob.put(&path, &json!({"visibility": "organization"})).await.problem(403, "FORBIDDEN");
    bob.put(&path, &json!({"teamId": null})).await.problem(403, "FORBIDDEN");
    ada.put(&path, &json!({"visibility": "private"})).await.done(200);
    bob.get(&path).await.problem(404, "NOT_FOUND");
    // A line of the access list can name a team.
    share(&ada, &project, &[json!({"teamId": team, "level": "viewer"})]).await;
    bob.get(&format!("/api/tasks/{task}")).await.done(200);
    bob.put(&format!("/api/tasks/{task}"), &json!({"title": "Mine"})).await.problem(403, "FORBIDDEN");
    cleo.get(&path).await.problem(404, "NOT_FOUND");
    ada.delete(&format!("/api/teams/{team}/members/{}", members::id(&bob))).await.done(204);
    eventually("bob is out", async || (bob.get(&path).await.status == 404).then_some(())).await;
}

#[tokio::test]
async fn what_comes_at_once_is_neither_made_twice_nor_joined() {
    let (_host, ada, bob, cleo) = crew().await;
    let quay = json!({"name": "Quay"});
    let make = || ada.post("/api/projects", &quay);
    let (one, two, three) = tokio::join!(make(), make(), make());
    let mut codes = [one, two, three].map(|made| text(&made.expect(201), "code"));
    codes.sort();
    assert_eq!(codes, ["QUAY", "QUAY2", "QUAY3"]);
    // No wish is no wish for another code.
    let pier = ada.post("/api/projects", &json!({"name": "Pier"})).await.expect(201);
    let path = format!("/api/projects/{}", text(&pier, "id"));
    for code in [json!(""), json!(null)] {
        assert_eq!(ada.put(&path, &json!({"name": "Pier", "code": code})).await.expect(200)["code"], "PIER");
    }
    ada.put(&path, &json!({"name": "Pier", "code": "\u{84}"})).await.problem(400, "VALIDATION_ERROR");
    // Of two lists the later one counts, whole.
    let project = project(&ada, json!({"name": "Secret", "visibility": "private"})).await;
    let path = format!("/api/projects/{project}");
    let lines = |client: &Client| [json!({"userId": members::id(client), "level": "viewer"})];
    let (bobs, cleos) = (lines(&bob), lines(&cleo));
    tokio::join!(share(&ada, &project, &bobs), share(&ada, &project, &cleos));
    let mut seen = [bob.get(&path).await.status, cleo.get(&path).await.status];
    seen.sort_unstable();
    assert_eq!(seen, [200, 404]);
}
