//! planning: plans, projects and tasks as their users see them.

use berth_tests::answer::text;
use berth_tests::members::host_with_ada;
use berth_tests::{Client, Host, Manifest, plans};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn a_project_is_made_read_changed_listed_and_removed() {
    let (_host, ada) = host_with_ada().await;
    let created = ada.post("/api/projects", &json!({"name": " <b>Quay</b> ", "unknown": 1})).await;
    let project = created.expect(201);
    let path = format!("/api/projects/{}", text(&project, "id"));
    assert_eq!(
        (&project["name"], &project["status"], &project["version"]),
        (&json!("bQuay/b"), &json!("active"), &json!(1))
    );
    assert_eq!(ada.get(&path).await.expect(200), project);
    let changed = ada.put(&path, &json!({"description": ""})).await.expect(200);
    assert_eq!(
        (&changed["name"], &changed["description"], &changed["version"]),
        (&json!("bQuay/b"), &json!(""), &json!(2))
    );
    let listed = ada.get("/api/projects?limit=1").await.expect(200);
    assert_eq!((&listed["total"], &listed["limit"], &listed["offset"]), (&json!(1), &json!(1), &json!(0)), "{listed}");
    ada.delete(&path).await.done(204);
    ada.get(&path).await.problem(404, "NOT_FOUND");
    ada.delete(&path).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn another_organizations_rows_do_not_exist() {
    let (host, ada) = host_with_ada().await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let project_id = plans::project(&ada, "Quay").await;
    let plan_id = text(&plans::plan(&ada, &project_id, &plans::three_steps()).await, "id");
    let task = ada.post("/api/tasks", &json!({"projectId": project_id, "title": "Paint"})).await.expect(201);
    let paths = [
        format!("/api/projects/{project_id}"),
        format!("/api/plans/{plan_id}"),
        format!("/api/tasks/{}", text(&task, "id")),
    ];
    for path in &paths {
        eve.get(path).await.problem(404, "NOT_FOUND");
        eve.put(path, &json!({"title": "mine", "name": "mine"})).await.problem(404, "NOT_FOUND");
        eve.delete(path).await.problem(404, "NOT_FOUND");
        ada.get(path).await.done(200);
    }
    eve.post(&format!("/api/plans/{plan_id}/approve"), &json!({})).await.problem(404, "NOT_FOUND");
    for list in ["/api/projects", "/api/plans", "/api/tasks"] {
        assert_eq!(eve.get(list).await.expect(200)["total"], 0, "{list}");
    }
    let user = text(&ada.account["user"], "id");
    assert_eq!(eve.get(&format!("/api/tasks?userId={user}&createdBy={user}")).await.expect(200)["total"], 0);
}

#[tokio::test]
async fn bad_input_names_the_fields() {
    let (_host, ada) = host_with_ada().await;
    for (path, body, field) in [
        ("/api/projects", json!({}), "name"),
        ("/api/projects", json!({"name": 5}), "name"),
        ("/api/projects", json!({"name": "x", "status": "lost"}), "status"),
        ("/api/plans", json!({"title": "x", "steps": []}), "projectId"),
        ("/api/tasks", json!({"title": ["x"]}), "title"),
    ] {
        let answer = ada.post(path, &body).await;
        let problem = answer.problem(400, "VALIDATION_ERROR");
        assert!(answer.faulty_fields().iter().any(|faulty| faulty == field), "{path} {body}: {problem}");
    }
    for query in ["limit=0", "limit=201", "limit=x", "offset=-1", "page=0", "sortBy=passwordHash", "order=up"] {
        ada.get(&format!("/api/projects?{query}")).await.problem(400, "VALIDATION_ERROR");
    }
    ada.get("/api/projects/no%20such%20id").await.problem(400, "VALIDATION_ERROR");
    ada.get("/api/projects/no-such-id").await.problem(404, "NOT_FOUND");
    let answer = ada.send(ada.request(Method::PATCH, "/api/projects")).await;
    answer.problem(405, "METHOD_NOT_ALLOWED");
    assert!(answer.header("allow").contains("POST"), "{}", answer.header("allow"));
}

#[tokio::test]
async fn a_stale_version_changes_nothing() {
    let (_host, ada) = host_with_ada().await;
    let path = format!("/api/projects/{}", plans::project(&ada, "Quay").await);
    let read = ada.get(&path).await;
    assert_eq!(read.header("etag"), "\"1\"");
    let put = async |version: &str, name: &str| {
        ada.send(ada.request(Method::PUT, &path).header("if-match", version).json(&json!({ "name": name }))).await
    };
    assert_eq!(put("\"1\"", "Pier").await.expect(200)["version"], 2);
    put("\"1\"", "Mole").await.problem(412, "PRECONDITION_FAILED");
    assert_eq!(ada.get(&path).await.expect(200)["name"], "Pier");
    let removal = ada.request(Method::DELETE, &path).header("if-match", "\"1\"");
    ada.send(removal).await.problem(412, "PRECONDITION_FAILED");
}

#[tokio::test]
async fn an_idempotency_key_replays_the_answer() {
    let (host, ada) = host_with_ada().await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let post = async |client: &Client, name: &str| {
        client
            .send(
                client
                    .request(Method::POST, "/api/projects")
                    .header("idempotency-key", "k-1")
                    .json(&json!({ "name": name })),
            )
            .await
    };
    let first = post(&ada, "Quay").await.expect(201);
    assert_eq!(post(&ada, "Quay").await.expect(201), first);
    assert_eq!(ada.get("/api/projects").await.expect(200)["total"], 1);
    post(&ada, "Pier").await.problem(409, "CONFLICT");
    assert_ne!(post(&eve, "Quay").await.expect(201)["id"], first["id"]);
}

#[tokio::test]
async fn a_plan_goes_from_draft_to_ready_and_an_edit_takes_it_back() {
    let (_host, ada) = host_with_ada().await;
    let project_id = plans::project(&ada, "Quay").await;
    let plan = plans::plan(&ada, &project_id, &plans::three_steps()).await;
    let path = format!("/api/plans/{}", text(&plan, "id"));
    assert_eq!(plan["status"], "draft", "{plan}");
    ada.post(&format!("{path}/approve"), &json!({})).await.problem(409, "CONFLICT");
    ada.post(&format!("{path}/execute"), &json!({})).await.problem(409, "CONFLICT");
    let verdict = ada.post(&format!("{path}/validate"), &json!({})).await.expect(200);
    assert_eq!(verdict["isValid"], true, "{verdict}");
    let approved = ada.post(&format!("{path}/approve"), &json!({})).await.expect(200);
    assert_eq!(approved["status"], "ready", "{approved}");
    assert_eq!(approved["planHash"].as_str().map(str::len), Some(64), "{approved}");
    let edited = ada.put(&path, &json!({"description": "another"})).await.expect(200);
    assert_eq!((&edited["status"], &edited["planHash"]), (&json!("draft"), &Value::Null));
    let steps = ada.get(&format!("{path}/steps")).await.expect(200);
    assert_eq!(steps["total"], 3, "{steps}");
}

#[tokio::test]
async fn a_plan_that_cannot_work_is_not_valid() {
    let (_host, ada) = host_with_ada().await;
    let project_id = plans::project(&ada, "Quay").await;
    let step = |params: Value| json!([{"title": "A", "type": "file_create", "params": params}]);
    let create = async |steps: Value| {
        ada.post("/api/plans", &json!({"projectId": project_id, "title": "P", "intent": "i", "steps": steps})).await
    };
    for params in [
        json!({}),
        json!({"path": "../x", "content": ""}),
        json!({"path": "/etc/x", "content": ""}),
        json!({"path": "a", "content": "", "mode": 7}),
    ] {
        create(step(params.clone())).await.problem(400, "VALIDATION_ERROR");
    }
    create(json!([{"title": "A", "type": "teleport", "params": {}}])).await.problem(400, "VALIDATION_ERROR");
    ada.post("/api/plans", &json!({"projectId": "nobody", "title": "P", "steps": plans::three_steps()}))
        .await
        .problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn a_plan_without_the_assistant_says_so_and_leaves_nothing() {
    let host = Host::with(Manifest::services().bereft_of("ai-service")).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let project_id = plans::project(&ada, "Quay").await;
    let answer =
        ada.post("/api/plans", &json!({"projectId": project_id, "title": "P", "intent": "Build a pier"})).await;
    answer.problem(503, "SERVICE_UNAVAILABLE");
    assert_eq!(ada.get("/api/plans").await.expect(200)["total"], 0);
}

#[tokio::test]
async fn a_task_moves_only_along_its_transitions() {
    let (_host, ada) = host_with_ada().await;
    let project_id = plans::project(&ada, "Quay").await;
    let task = ada.post("/api/tasks", &json!({"projectId": project_id, "title": "Paint"})).await.expect(201);
    let path = format!("/api/tasks/{}", text(&task, "id"));
    assert_eq!(task["status"], "to_do");
    let step = async |status: &str| ada.put(&format!("{path}/status"), &json!({ "status": status })).await;
    step("completed").await.problem(409, "ILLEGAL_TRANSITION");
    for status in ["in_progress", "in_review", "completed"] {
        assert_eq!(step(status).await.expect(200)["status"], status);
    }
    step("in_progress").await.problem(409, "ILLEGAL_TRANSITION");
    step("lost").await.problem(400, "VALIDATION_ERROR");
    let history = ada.get(&format!("{path}/history")).await.expect(200);
    assert!(history["total"].as_u64().is_some_and(|total| total >= 3), "{history}");
}

#[tokio::test]
async fn tasks_do_not_wait_for_each_other_in_a_circle() {
    let (_host, ada) = host_with_ada().await;
    let project_id = plans::project(&ada, "Quay").await;
    let task = async |title: &str| {
        text(&ada.post("/api/tasks", &json!({"projectId": project_id, "title": title})).await.expect(201), "id")
    };
    let (first, second) = (task("First").await, task("Second").await);
    let depend = async |from: &str, to: &str| {
        ada.post(&format!("/api/tasks/{from}/dependencies"), &json!({"toTaskId": to, "type": "requires"})).await
    };
    depend(&first, &first).await.problem(400, "VALIDATION_ERROR");
    depend(&first, &second).await.done(201);
    depend(&second, &first).await.problem(409, "DEPENDENCY_CYCLE");
}

#[tokio::test]
async fn a_viewer_reads_and_changes_nothing() {
    let (host, ada) = host_with_ada().await;
    let project_id = plans::project(&ada, "Quay").await;
    let organization = text(&ada.account["organization"], "id");
    let vic = host.client().register("vic@example.com", "Elsewhere").await;
    let roles = ada.get(&format!("/api/organizations/{organization}/roles")).await.expect(200);
    let viewer = roles["items"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|role| role["name"] == "Viewer")
        .cloned()
        .unwrap_or_default();
    let body = json!({"userId": text(&vic.account["user"], "id"), "roleId": text(&viewer, "id")});
    ada.post(&format!("/api/organizations/{organization}/memberships"), &body).await.done(201);
    let switched =
        vic.post("/api/auth/switch-organization", &json!({ "organizationId": organization })).await.expect(200);
    let vic = vic.with_token(&text(&switched, "token"));
    let path = format!("/api/projects/{project_id}");
    vic.get(&path).await.done(200);
    vic.put(&path, &json!({"name": "Mine"})).await.problem(403, "FORBIDDEN");
    vic.delete(&path).await.problem(403, "FORBIDDEN");
    vic.post("/api/projects", &json!({"name": "Mine"})).await.problem(403, "FORBIDDEN");
    assert_eq!(ada.get(&path).await.expect(200)["name"], "Quay");
}
