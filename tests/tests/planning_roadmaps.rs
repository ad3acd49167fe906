//! planning: roadmaps, the tasks on them, and who sees what hangs on a project.

use berth_tests::answer::text;
use berth_tests::{Client, Host, members, plans};
use serde_json::{Value, json};

async fn made(client: &Client, path: &str, body: Value) -> Value {
    client.post(path, &body).await.expect(201)
}

async fn made_id(client: &Client, path: &str, body: Value) -> String {
    text(&made(client, path, body).await, "id")
}

/// A project with a roadmap of one milestone, one epic and one story.
struct Roadmap {
    project: String,
    roadmap: String,
    milestone: String,
    epic: String,
    story: String,
}

async fn roadmap(client: &Client) -> Roadmap {
    let project = plans::project(client, "Quay").await;
    let roadmap = made_id(client, "/api/roadmaps", json!({"projectId": project, "name": "The year"})).await;
    let milestone = made_id(
        client,
        &format!("/api/roadmaps/{roadmap}/milestones"),
        json!({"name": "Spring", "targetDate": "2027-03-01T00:00:00Z"}),
    )
    .await;
    let epic = made_id(client, &format!("/api/roadmaps/milestones/{milestone}/epics"), json!({"name": "Pier"})).await;
    let story = made_id(client, &format!("/api/roadmaps/epics/{epic}/stories"), json!({"name": "Planks"})).await;
    Roadmap { project, roadmap, milestone, epic, story }
}

async fn complete(client: &Client, task: &str) {
    for status in ["in_progress", "in_review", "completed"] {
        client.put(&format!("/api/tasks/{task}/status"), &json!({ "status": status })).await.done(200);
    }
}

#[tokio::test]
async fn progress_rolls_up_from_tasks_to_the_roadmap() {
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let Roadmap { project, roadmap, milestone, epic, story } = roadmap(&ada).await;
    let path = format!("/api/roadmaps/{roadmap}");
    assert_eq!(ada.get(&format!("{path}/progress")).await.expect(200)["fraction"], 0.0);
    let task = async |place: Value| {
        let mut body = json!({"projectId": project, "title": "Saw"});
        body.as_object_mut().unwrap().extend(place.as_object().cloned().unwrap());
        made(&ada, "/api/tasks", body).await
    };
    let first = task(json!({"storyId": story})).await;
    assert_eq!((&first["epicId"], &first["milestoneId"]), (&json!(epic), &json!(milestone)), "{first}");
    assert_eq!(first["identifier"], "QUAY-1");
    task(json!({"storyId": story})).await;
    task(json!({"epicId": epic})).await;
    let last = task(json!({"milestoneId": milestone})).await;
    // The tree is cached; a change of a task takes the copy away.
    assert_eq!(ada.get(&format!("{path}/tree")).await.expect(200)["progress"]["completed"], 0);
    complete(&ada, &text(&first, "id")).await;
    let tree = ada.get(&format!("{path}/tree")).await.expect(200);
    let progress = ada.get(&format!("{path}/progress")).await.expect(200);
    assert_eq!(
        (&progress["completed"], &progress["total"], &progress["fraction"]),
        (&json!(1), &json!(4), &json!(0.25))
    );
    assert_eq!(tree["progress"]["fraction"], 0.25, "{tree}");
    let spring = &tree["milestones"][0];
    assert_eq!((&spring["name"], &spring["epics"][0]["progress"]["total"]), (&json!("Spring"), &json!(3)), "{tree}");
    assert_eq!(spring["epics"][0]["stories"][0]["progress"]["fraction"], 0.5, "{tree}");
    let hierarchy = ada.get(&format!("{path}/hierarchy")).await.expect(200);
    let nested = &hierarchy["milestones"][0];
    assert_eq!(nested["tasks"][0]["id"], last["id"], "{hierarchy}");
    assert_eq!(nested["epics"][0]["stories"][0]["tasks"].as_array().map(Vec::len), Some(2), "{hierarchy}");

    // What goes leaves its tasks behind, at what was above it.
    ada.delete(&format!("/api/roadmaps/stories/{story}")).await.done(204);
    let left = ada.get(&format!("/api/tasks/{}", text(&first, "id"))).await.expect(200);
    assert_eq!((&left["storyId"], &left["epicId"]), (&Value::Null, &json!(epic)), "{left}");
    ada.delete(&path).await.done(204);
    let left = ada.get(&format!("/api/tasks/{}", text(&first, "id"))).await.expect(200);
    assert_eq!((&left["epicId"], &left["milestoneId"]), (&Value::Null, &Value::Null), "{left}");
    ada.get(&format!("/api/roadmaps/milestones/{milestone}")).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn an_epic_that_moves_takes_stories_and_tasks_along() {
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let Roadmap { project, roadmap, epic, story, .. } = roadmap(&ada).await;
    let task = made_id(&ada, "/api/tasks", json!({"projectId": project, "title": "Saw", "storyId": story})).await;
    let autumn = made_id(&ada, &format!("/api/roadmaps/{roadmap}/milestones"), json!({"name": "Autumn"})).await;
    ada.put(&format!("/api/roadmaps/epics/{epic}"), &json!({"milestoneId": autumn})).await.done(200);
    for path in [format!("/api/roadmaps/stories/{story}"), format!("/api/tasks/{task}")] {
        assert_eq!(ada.get(&path).await.expect(200)["milestoneId"], autumn.as_str(), "{path}");
    }
    let elsewhere = plans::project(&ada, "Elsewhere").await;
    let other = made_id(&ada, "/api/roadmaps", json!({"projectId": elsewhere, "name": "Other"})).await;
    let foreign = made_id(&ada, &format!("/api/roadmaps/{other}/milestones"), json!({"name": "M"})).await;
    ada.put(&format!("/api/roadmaps/epics/{epic}"), &json!({"milestoneId": foreign}))
        .await
        .problem(422, "UNPROCESSABLE");
    ada.put(&format!("/api/tasks/{task}"), &json!({"milestoneId": foreign})).await.problem(422, "UNPROCESSABLE");
    ada.put(&format!("/api/tasks/{task}"), &json!({"storyId": "nobody"})).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn the_critical_path_is_the_longest_chain_of_open_tasks() {
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let Roadmap { project, roadmap, story, .. } = roadmap(&ada).await;
    let task = async |title: &str, hours: f64| {
        made_id(
            &ada,
            "/api/tasks",
            json!({"projectId": project, "title": title, "storyId": story, "estimatedHours": hours}),
        )
        .await
    };
    let (design, saw, paint, done) =
        (task("Design", 2.0).await, task("Saw", 8.0).await, task("Paint", 1.0).await, task("Done", 90.0).await);
    for (from, to, kind) in [(&saw, &design, "requires"), (&design, &paint, "blocks"), (&saw, &done, "requires")] {
        made(&ada, &format!("/api/tasks/{from}/dependencies"), json!({"toTaskId": to, "type": kind})).await;
    }
    complete(&ada, &done).await;
    let drawn = ada.get(&format!("/api/roadmaps/{roadmap}/critical-path")).await.expect(200);
    let path: Vec<&str> = drawn["path"].as_array().unwrap().iter().filter_map(|step| step["id"].as_str()).collect();
    assert_eq!(path, [design.as_str(), saw.as_str()], "{drawn}");
    assert_eq!((&drawn["totalHours"], &drawn["openTasks"]), (&json!(10.0), &json!(3)));
    let slack = drawn["tasks"].as_array().unwrap().iter().find(|step| step["id"] == paint.as_str()).unwrap();
    assert_eq!((&slack["earliestStart"], &slack["slack"]), (&json!(2.0), &json!(7.0)), "{drawn}");
    let edges = ada.get(&format!("/api/roadmaps/{roadmap}/dependencies")).await.expect(200);
    assert_eq!((&edges["total"], &edges["items"][0]["fromTitle"]), (&json!(3), &json!("Saw")), "{edges}");
}

#[tokio::test]
async fn a_roadmap_of_a_thousand_tasks_is_listed_rolled_up_and_drawn() {
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let Roadmap { project, roadmap, story, .. } = roadmap(&ada).await;
    let mut ids = Vec::new();
    for batch in 0..5 {
        let tasks: Vec<Value> = (0..200)
            .map(|number| json!({"projectId": project, "title": format!("Task {batch}-{number}"), "storyId": story, "estimatedHours": 1}))
            .collect();
        let made = made(&ada, "/api/tasks/bulk", json!({ "tasks": tasks })).await;
        ids.extend(made["items"].as_array().unwrap().iter().map(|task| text(task, "id")));
    }
    for pair in ids.windows(2).take(20) {
        made(&ada, &format!("/api/tasks/{}/dependencies", pair[1]), json!({"toTaskId": pair[0], "type": "requires"}))
            .await;
    }
    let listed = ada.get(&format!("/api/projects/{project}/tasks?limit=200&page=5")).await.expect(200);
    assert_eq!((&listed["total"], listed["items"].as_array().map(Vec::len)), (&json!(1000), Some(200)));
    assert_eq!(ada.get(&format!("/api/roadmaps/{roadmap}/progress")).await.expect(200)["total"], 1000);
    let hierarchy = ada.get(&format!("/api/roadmaps/{roadmap}/hierarchy")).await.expect(200);
    assert_eq!(hierarchy["milestones"][0]["epics"][0]["stories"][0]["tasks"].as_array().map(Vec::len), Some(1000));
    let drawn = ada.get(&format!("/api/roadmaps/{roadmap}/critical-path")).await.expect(200);
    assert_eq!(
        (&drawn["openTasks"], &drawn["totalHours"], drawn["path"].as_array().map(Vec::len)),
        (&json!(1000), &json!(21.0), Some(21))
    );
    let changed = ada
        .put("/api/tasks/bulk", &json!({"ids": &ids[..200], "changes": {"priority": "high", "tags": ["wood"]}}))
        .await;
    assert_eq!(changed.expect(200)["total"], 200);
    assert_eq!(ada.get("/api/tasks?priority=high&tag=wood&q=task%200-1").await.expect(200)["total"], 111);
    let refused = ada.put("/api/tasks/bulk", &json!({"ids": [ids[0], "nobody"], "changes": {"priority": "low"}})).await;
    assert_eq!(refused.problem(404, "NOT_FOUND")["taskId"], "nobody");
    assert_eq!(ada.get(&format!("/api/tasks/{}", ids[0])).await.expect(200)["priority"], "high");
}

#[tokio::test]
async fn lists_of_tasks_answer_what_people_ask_every_day() {
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let project = plans::project(&ada, "Quay").await;
    let me = text(&ada.account["user"], "id");
    made(
        &ada,
        "/api/tasks",
        json!({"projectId": project, "title": "50% of it", "assignedTo": me, "dueDate": "2020-01-01T00:00:00Z"}),
    )
    .await;
    let second =
        made_id(&ada, "/api/tasks", json!({"projectId": project, "title": "HÄLFTE of it", "tags": ["a\"b"]})).await;
    let count =
        async |query: &str| ada.get(&format!("/api/tasks?{query}")).await.expect(200)["total"].as_i64().unwrap_or(-1);
    for (query, wanted) in [
        ("assignedTo=me", 1),
        ("assignedTo=none", 1),
        ("q=of%20IT", 2),
        ("q=50%25", 1),
        ("q=%25", 1),
        ("q=h%C3%A4lfte", 1),
        ("q=quay-2", 1),
        ("overdue=true", 1),
        ("dueBefore=2021-01-01T00:00:00Z", 1),
        ("dueAfter=2021-01-01T00:00:00Z", 0),
        ("tag=a%22b", 1),
        ("tag=a", 0),
        ("open=true", 2),
        ("open=false", 0),
        ("identifier=QUAY-1", 1),
    ] {
        assert_eq!(count(query).await, wanted, "{query}");
    }
    ada.get("/api/tasks?dueBefore=soon").await.problem(400, "VALIDATION_ERROR");
    // Priorities sort by what they mean; a card can be made in the column where it belongs.
    for (priority, status) in [("critical", "in_progress"), ("low", "to_do")] {
        let body = json!({"projectId": project, "title": priority, "priority": priority, "status": status});
        assert_eq!(made(&ada, "/api/tasks", body).await["status"], status);
    }
    let sorted = ada.get("/api/tasks?sortBy=priority&order=desc").await.expect(200);
    let priorities: Vec<&str> =
        sorted["items"].as_array().into_iter().flatten().filter_map(|task| task["priority"].as_str()).collect();
    assert_eq!(priorities, ["critical", "medium", "medium", "low"]);
    let done = json!({"projectId": project, "title": "Done", "status": "completed"});
    ada.post("/api/tasks", &done).await.problem(422, "UNPROCESSABLE");
    let comment = made_id(&ada, &format!("/api/tasks/{second}/comments"), json!({"body": "Wel"})).await;
    let path = format!("/api/tasks/{second}/comments/{comment}");
    assert_eq!(ada.put(&path, &json!({"body": "Well"})).await.expect(200)["body"], "Well");
    ada.delete(&path).await.done(204);
    ada.get(&path).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn what_hangs_on_a_private_project_is_seen_and_changed_only_by_those_it_is_shared_with() {
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let project = made_id(&ada, "/api/projects", json!({"name": "Secret", "visibility": "private"})).await;
    let roadmap = made_id(&ada, "/api/roadmaps", json!({"projectId": project, "name": "R"})).await;
    let issue = made_id(&ada, "/api/issues", json!({"projectId": project, "title": "I"})).await;
    let paths =
        [format!("/api/projects/{project}"), format!("/api/roadmaps/{roadmap}"), format!("/api/issues/{issue}")];
    for path in &paths {
        bob.get(path).await.problem(404, "NOT_FOUND");
        bob.put(path, &json!({"name": "Mine", "title": "Mine"})).await.problem(404, "NOT_FOUND");
    }
    assert_eq!(bob.get("/api/roadmaps").await.expect(200)["total"], 0);
    bob.post("/api/tasks", &json!({"projectId": project, "title": "T"})).await.problem(404, "NOT_FOUND");
    let share = async |level: &str| {
        let list = json!({"access": [
            {"userId": text(&ada.account["user"], "id"), "level": "owner"},
            {"userId": text(&bob.account["user"], "id"), "level": level},
        ]});
        ada.put(&format!("/api/projects/{project}/access"), &list).await.done(200);
    };
    share("viewer").await;
    for path in &paths {
        bob.get(path).await.done(200);
        bob.put(path, &json!({"name": "Mine", "title": "Mine"})).await.problem(403, "FORBIDDEN");
    }
    bob.post("/api/tasks", &json!({"projectId": project, "title": "T"})).await.problem(403, "FORBIDDEN");
    share("editor").await;
    bob.put(&paths[1], &json!({"name": "Ours"})).await.done(200);
    made(&bob, "/api/tasks", json!({"projectId": project, "title": "T"})).await;
    // With the project goes all that hangs on it.
    ada.delete(&paths[0]).await.done(204);
    for path in &paths {
        ada.get(path).await.problem(404, "NOT_FOUND");
    }
}
