//! dashboard: the data of widgets is that of the services, as whoever looks may see it; a widget that fails spoils no other, and
//! what is cached is old as soon as something happens.
#![expect(clippy::indexing_slicing, clippy::panic, reason = "a test that cannot go on fails")]

use std::time::Instant;

use berth_tests::answer::text;
use berth_tests::manifest::{Manifest, Slot};
use berth_tests::{Client, Host, eventually, guests, members, plans};
use serde_json::{Value, json};

const PATH: &str = "/api/dashboards";

async fn board(client: &Client, widgets: &[Value]) -> String {
    let id = text(&client.post(PATH, &json!({"name": "Board", "contextType": "project"})).await.expect(201), "id");
    for widget in widgets {
        client.post(&format!("{PATH}/{id}/widgets"), widget).await.done(201);
    }
    id
}

async fn data(client: &Client, id: &str, query: &str) -> Value {
    client.get(&format!("{PATH}/{id}/data?{query}")).await.expect(200)
}

fn of<'a>(data: &'a Value, kind: &str) -> &'a Value {
    data["widgets"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|widget| widget["type"] == kind)
        .unwrap_or_else(|| panic!("no {kind} in {data}"))
}

fn ok<'a>(data: &'a Value, kind: &str) -> &'a Value {
    let widget = of(data, kind);
    assert_eq!(widget["error"], Value::Null, "{widget}");
    &widget["data"]
}

async fn task(client: &Client, project: &str, title: &str, me: bool) -> String {
    let mut body = json!({"projectId": project, "title": title});
    if me {
        body["assignedTo"] = json!(members::id(client));
    }
    text(&client.post("/api/tasks", &body).await.expect(201), "id")
}

#[tokio::test]
async fn every_type_has_data_of_the_services() {
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let project = plans::project(&ada, "Pier").await;
    task(&ada, &project, "Saw", true).await;
    let other = plans::project(&ada, "Reef").await;
    task(&ada, &other, "Dive", false).await;
    let plan = text(&plans::plan(&ada, &project, &plans::three_steps()).await, "id");
    ada.post("/api/incidents", &json!({"title": "Leak", "severity": "high", "projectId": project})).await.done(201);
    let roadmap =
        text(&ada.post("/api/roadmaps", &json!({"projectId": project, "name": "2027"})).await.expect(201), "id");
    let soon = ada
        .post(
            "/api/calendar/events",
            &json!({"title": "Launch", "eventType": "meeting",
        "startTime": seconds_from_now(3_600), "endTime": seconds_from_now(7_200)}),
        )
        .await;
    soon.done(201);
    ada.post("/api/knowledge", &json!({"title": "How to moor", "content": "Slowly."})).await.done(201);
    ada.post("/api/logs", &json!({"level": "error", "service": "shop", "message": "no"})).await;
    ada.post("/api/metrics", &json!({"name": "depth", "value": 4.5})).await.done(202);
    ada.post("/api/usage/quotas", &json!({"name": "Tokens", "categoryCode": "ai.*", "metricKey": "totalTokens", "period": "DAILY", "limitValue": 1000})).await.done(201);
    ada.post(
        "/api/usage/events",
        &json!({"eventId": "e1", "categoryCode": "ai.completion", "metrics": {"totalTokens": 850}}),
    )
    .await
    .done(202);
    ada.post(
        "/api/experiments",
        &json!({"name": "Blue or green", "primaryMetric": "clicks", "minSampleSize": 10,
        "variants": [{"name": "blue", "isControl": true}, {"name": "green"}]}),
    )
    .await
    .done(201);
    let id = board(
        &ada,
        &[
            json!({"type": "task_status"}),
            json!({"type": "my_tasks"}),
            json!({"type": "plan_progress"}),
            json!({"type": "execution_timeline"}),
            json!({"type": "roadmap_progress"}),
            json!({"type": "incident_list", "config": {"severity": ["high"]}}),
            json!({"type": "debt_trend", "config": {"days": 14}}),
            json!({"type": "usage_cost"}),
            json!({"type": "quota_bars"}),
            json!({"type": "ai_tokens"}),
            json!({"type": "calendar_agenda", "config": {"days": 3}}),
            json!({"type": "unread_messages"}),
            json!({"type": "notifications"}),
            json!({"type": "recent_knowledge"}),
            json!({"type": "log_error_rate"}),
            json!({"type": "metric_chart", "config": {"name": "depth", "aggregation": "max"}}),
            json!({"type": "service_health"}),
            json!({"type": "learning_progress"}),
            json!({"type": "team_capacity"}),
            json!({"type": "experiments"}),
            json!({"type": "markdown_note", "config": {"content": "<b>raw</b> & so on"}}),
            json!({"type": "link_list", "config": {"links": [{"title": "Docs", "url": "/docs"}]}}),
        ],
    )
    .await;
    let found = data(&ada, &id, "").await;
    assert_eq!(found["failed"], 0, "{found}");
    assert_eq!(found["widgets"].as_array().map(Vec::len), Some(22));
    assert_eq!(
        ok(&found, "task_status"),
        &json!({"counts": {"to_do": 2, "in_progress": 0, "in_review": 0, "blocked": 0, "completed": 0, "cancelled": 0}, "total": 2})
    );
    assert_eq!(
        (&ok(&found, "my_tasks")["total"], &ok(&found, "my_tasks")["items"][0]["title"]),
        (&json!(1), &json!("Saw"))
    );
    assert_eq!(ok(&found, "plan_progress")["items"][0]["id"], json!(plan));
    assert_eq!(ok(&found, "execution_timeline")["items"], json!([]));
    assert_eq!(ok(&found, "roadmap_progress")["roadmaps"][0]["roadmapId"], json!(roadmap));
    assert_eq!(ok(&found, "incident_list")["items"][0]["title"], "Leak");
    assert!(!ok(&found, "debt_trend")["points"].as_array().unwrap().is_empty());
    assert_eq!(ok(&found, "ai_tokens")["total"]["metrics"]["totalTokens"], json!(850.0));
    assert_eq!(ok(&found, "usage_cost")["total"]["eventCount"].as_i64().map(|count| count >= 1), Some(true));
    let bar = &ok(&found, "quota_bars")["quotas"][0];
    assert_eq!((&bar["current"], &bar["level"], &bar["limit"]), (&json!(850.0), &json!("warning"), &json!(1000)));
    assert!(ok(&found, "calendar_agenda").to_string().contains("Launch"));
    // What was said about the incident may have come by now.
    assert!(ok(&found, "unread_messages")["total"].is_i64());
    assert!(ok(&found, "notifications")["items"].is_array());
    assert_eq!(ok(&found, "recent_knowledge")["items"][0]["title"], "How to moor");
    assert_eq!(
        (&ok(&found, "log_error_rate")["errors"], &ok(&found, "log_error_rate")["rate"]),
        (&json!(1), &json!(1.0))
    );
    assert_eq!(ok(&found, "metric_chart")["items"][0]["value"], json!(4.5));
    assert!(ok(&found, "service_health")["services"].is_array());
    assert_eq!(ok(&found, "learning_progress")["minutes"], 0);
    assert!(ok(&found, "team_capacity")["groups"].is_array(), "{found}");
    assert_eq!(ok(&found, "experiments")["items"][0]["name"], "Blue or green");
    assert_eq!(ok(&found, "markdown_note")["content"], "<b>raw</b> & so on");
    assert_eq!(ok(&found, "link_list")["links"][0]["url"], "/docs");
    // The context narrows what has a project.
    let narrowed = data(&ada, &id, &format!("contextId={other}")).await;
    assert_eq!(narrowed["contextId"], json!(other));
    assert_eq!(ok(&narrowed, "task_status")["total"], 1);
    assert_eq!(ok(&narrowed, "my_tasks")["total"], 0);
    assert_eq!(ok(&narrowed, "incident_list")["total"], 0);
    // So does the time, where a service knows it.
    let earlier = data(&ada, &id, "from=2020-01-01&to=2020-01-08").await;
    assert_eq!(earlier["from"], "2020-01-01T00:00:00.000Z");
    assert_eq!(ok(&earlier, "ai_tokens")["total"]["eventCount"], 0);
    assert_eq!(ok(&earlier, "log_error_rate")["errors"], 0);
    for query in ["from=soon", "from=now&to=now-1d", "contextId=a/b", "refresh=perhaps"] {
        ada.get(&format!("{PATH}/{id}/data?{query}")).await.problem(400, "VALIDATION_ERROR");
    }
}

/// So many seconds from now.
fn seconds_from_now(seconds: i64) -> String {
    (chrono::Utc::now() + chrono::TimeDelta::seconds(seconds)).to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[tokio::test]
async fn a_bad_widget_spoils_nothing_but_itself() {
    let unruly = Slot::new("messaging", guests::fixture("unruly"), "/api/messaging");
    let manifest = Manifest::services().without("messaging").and(Manifest::of([unruly]).text());
    let host = Host::with(manifest.bereft_of("calendar").bereft_of("quality")).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let own = |name: &str, path: &str| json!({"type": "unread_messages", "title": name, "dataSource": {"service": "messaging", "path": path}});
    let id = board(&ada, &[
        json!({"type": "my_tasks"}),
        own("trap", "/api/messaging/trap"),
        own("sleep", "/api/messaging/sleep"),
        own("lost", "/api/planning/nothing"),
        json!({"type": "unread_messages", "title": "text", "dataSource": {"service": "messaging", "path": "/api/messaging/ok", "transform": {"select": "/nothing"}}}),
        own("fine", "/api/messaging/ok"),
        json!({"type": "calendar_agenda"}),
        json!({"type": "experiments"}),
        json!({"type": "plan_progress", "config": {"planId": "nobody"}}),
        json!({"type": "markdown_note", "config": {"content": "x"}}),
    ])
    .await;
    let begin = Instant::now();
    let found = data(&ada, &id, "").await;
    let patience = 4..12;
    assert!(patience.contains(&begin.elapsed().as_secs()), "one widget sleeps for minutes: {:?}", begin.elapsed());
    let named = |name: &str| {
        let widget = found["widgets"].as_array().into_iter().flatten().find(|widget| widget["title"] == name);
        widget.cloned().unwrap_or_else(|| panic!("no {name} in {found}"))
    };
    for (name, status, service) in [
        ("trap", 503, "messaging"),
        ("sleep", 504, "messaging"),
        ("lost", 404, "messaging"),
        ("Agenda", 503, "calendar"),
        ("Experiments", 503, "quality"),
        ("Plan progress", 404, "planning"),
    ] {
        let widget = named(name);
        let error = &widget["error"];
        assert_eq!((&error["status"], &error["service"]), (&json!(status), &json!(service)), "{widget}");
        assert!(error["code"].is_string() && error["detail"].is_string() && error["type"].is_string(), "{error}");
        assert_eq!(widget["data"], Value::Null);
    }
    assert_eq!(named("text")["error"]["status"], 422);
    assert_eq!(named("fine")["data"], json!({"ok": true}));
    assert_eq!(ok(&found, "my_tasks")["total"], 0);
    assert_eq!(ok(&found, "markdown_note")["content"], "x");
    assert_eq!(found["failed"], 7);
    // One widget by itself says the same.
    let agenda = text(&named("Agenda"), "widgetId");
    let one = ada.get(&format!("{PATH}/{id}/widgets/{agenda}/data")).await.expect(200);
    assert_eq!((&one["error"]["status"], &one["data"]), (&json!(503), &Value::Null));
    // Errors are not remembered, answers are.
    let again = data(&ada, &id, "").await;
    assert_eq!(
        (of(&again, "markdown_note")["isCached"].clone(), of(&again, "calendar_agenda")["isCached"].clone()),
        (json!(true), json!(false))
    );
}

#[tokio::test]
async fn everybody_sees_with_their_own_eyes() {
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let vic = members::bring(&host, &ada, "vic@example.com", "Viewer").await;
    let hidden = ada.post("/api/projects", &json!({"name": "Hidden", "visibility": "private"})).await.expect(201);
    let hidden = text(&hidden, "id");
    task(&ada, &hidden, "Secret task", true).await;
    let plan = text(&plans::plan(&ada, &hidden, &plans::three_steps()).await, "id");
    let everything = json!({"type": "task_status", "title": "own", "dataSource": {"service": "planning", "path": "/api/tasks",
        "params": {"projectId": "{projectId}", "limit": 10}, "transform": {"select": "/items", "fields": ["title", "status"]}}});
    let id = board(
        &ada,
        &[
            json!({"type": "my_tasks"}),
            everything,
            json!({"type": "plan_progress", "config": {"planId": plan}}),
            json!({"type": "recent_knowledge"}),
        ],
    )
    .await;
    ada.post(&format!("{PATH}/{id}/share"), &json!({"type": "organization"})).await.done(200);
    let hers = data(&ada, &id, "").await;
    assert_eq!(ok(&hers, "my_tasks")["items"][0]["title"], "Secret task");
    assert_eq!(ok(&hers, "task_status"), &json!([{"title": "Secret task", "status": "to_do"}]));
    assert_eq!(
        ok(&hers, "plan_progress")["planId"].as_str().or(ok(&hers, "plan_progress")["id"].as_str()),
        Some(plan.as_str())
    );
    // The same dashboard, cached for Ada a moment ago, shows Vic what Vic may see.
    let theirs = data(&vic, &id, "").await;
    assert!(!theirs.to_string().contains("Secret task"), "{theirs}");
    assert_eq!(ok(&theirs, "my_tasks")["total"], 0);
    assert_eq!(ok(&theirs, "task_status"), &json!([]));
    assert_eq!(of(&theirs, "plan_progress")["error"]["status"], 404);
    let asked = data(&vic, &id, &format!("contextId={hidden}")).await;
    assert!(!asked.to_string().contains("Secret task"), "{asked}");
    // An API key of Ada's that may do less than she sees less, whatever she has just looked at.
    let body = json!({"name": "board", "permissions": ["dashboards.dashboard.read"]});
    let key = text(&ada.post("/api/users/me/api-keys", &body).await.expect(201), "key");
    let keyed = data(&host.client().with_token(&key), &id, "").await;
    assert_eq!(of(&keyed, "my_tasks")["error"]["status"], 403, "{keyed}");
    assert_eq!(keyed["failed"], 4);
}

#[tokio::test]
async fn what_is_cached_is_old_once_something_happens() {
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let project = plans::project(&ada, "Pier").await;
    let id = board(&ada, &[json!({"type": "task_status"}), json!({"type": "recent_knowledge"})]).await;
    // What the registrations and the project have told arrives late: it may still make one answer old.
    eventually("an answer comes from the cache", async || {
        let found = data(&ada, &id, "").await;
        let is_cached = found["widgets"].as_array().into_iter().flatten().all(|widget| widget["isCached"] == true);
        is_cached.then_some(())
    })
    .await;
    let fresh = data(&ada, &id, "refresh=true").await;
    assert_eq!(
        (&of(&fresh, "task_status")["isCached"], &ok(&fresh, "task_status")["total"]),
        (&json!(false), &json!(0))
    );
    task(&ada, &project, "Saw", false).await;
    eventually("the new task is counted", async || {
        let found = data(&ada, &id, "").await;
        (ok(&found, "task_status")["total"] == 1).then_some(())
    })
    .await;
    // A widget that is set up anew asks anew.
    let widgets = ada.get(&format!("{PATH}/{id}/widgets")).await.expect(200);
    let first = text(&widgets["items"][0], "id");
    ada.put(&format!("{PATH}/{id}/widgets/{first}"), &json!({"config": {"assignedTo": "none"}})).await.done(200);
    let found = data(&ada, &id, "").await;
    assert_eq!(
        (&of(&found, "task_status")["isCached"], &ok(&found, "task_status")["total"]),
        (&json!(false), &json!(1))
    );
}

#[tokio::test]
async fn thirty_widgets_answer_together() {
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let project = plans::project(&ada, "Pier").await;
    task(&ada, &project, "Saw", true).await;
    let widgets: Vec<Value> = (1..=30)
        .map(|limit| json!({"type": if limit % 3 == 0 { "task_status" } else { "my_tasks" }, "title": format!("{limit}")}))
        .collect();
    let id = board(&ada, &widgets).await;
    let found = data(&ada, &id, "refresh=true").await;
    assert_eq!((&found["failed"], found["widgets"].as_array().map(Vec::len)), (&json!(0), Some(30)), "{found}");
    for (index, widget) in found["widgets"].as_array().into_iter().flatten().enumerate() {
        assert_eq!(widget["title"], json!(format!("{}", index + 1)), "in the order in which they were added");
        assert_eq!(widget["data"]["total"], 1, "{widget}");
    }
}
