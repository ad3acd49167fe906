//! dashboard: whose a dashboard is, who may do what with it, its widgets and where they are, sharing, defaults, favourites
//! and copies.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;

use berth_tests::answer::text;
use berth_tests::wait::heard;
use berth_tests::{Client, Host, Manifest, eventually, members, plans};
use reqwest::Method;
use serde_json::{Value, json};

const PATH: &str = "/api/dashboards";

async fn house() -> (Host, Client) {
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    (host, ada)
}

async fn made(client: &Client, body: &Value) -> String {
    text(&client.post(PATH, body).await.expect(201), "id")
}

async fn added(client: &Client, dashboard: &str, body: &Value) -> String {
    text(&client.post(&format!("{PATH}/{dashboard}/widgets"), body).await.expect(201), "id")
}

fn note() -> Value {
    json!({"type": "markdown_note", "config": {"content": "# Ahoy"}})
}

async fn ids(client: &Client, query: &str) -> BTreeSet<String> {
    let page = client.get(&format!("{PATH}?limit=200{query}")).await.expect(200);
    page["items"].as_array().into_iter().flatten().map(|item| text(item, "id")).collect()
}

#[tokio::test]
async fn a_dashboard_is_made_read_changed_and_deleted() {
    let host = Host::with(Manifest::services_and_herald("", "")).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let body = json!({"name": " <b>Mine ", "description": "d", "contextType": "project", "config": {"theme": "dark", "zero": 0},
        "filters": {"from": "now-7d", "projectId": "p1"}, "refreshSeconds": 30, "ownerId": "somebody", "widgetCount": 9});
    let one = ada.post(PATH, &body).await.expect(201);
    assert_eq!(one["name"], "bMine");
    assert_eq!((&one["ownerId"], &one["scope"]), (&json!(members::id(&ada)), &json!("PERSONAL")));
    assert_eq!((&one["config"]["zero"], &one["widgetCount"], &one["layout"]), (&json!(0), &json!(0), &json!([])));
    assert_eq!((&one["isDefault"], &one["isShared"], &one["canEdit"]), (&json!(true), &json!(false), &json!(true)));
    let path = format!("{PATH}/{}", text(&one, "id"));
    let read = ada.get(&path).await;
    assert_eq!((read.expect(200)["name"].clone(), read.header("etag")), (json!("bMine"), "\"1\"".into()));
    let changed = ada.put(&path, &json!({"name": "Ours", "description": null})).await.expect(200);
    assert_eq!(
        (&changed["name"], &changed["description"], &changed["refreshSeconds"]),
        (&json!("Ours"), &Value::Null, &json!(30))
    );
    assert_eq!(changed["version"], 2);
    let stale = ada.request(Method::PUT, &path).header("if-match", "\"1\"").json(&json!({"name": "x"}));
    ada.send(stale).await.problem(412, "PRECONDITION_FAILED");
    for (body, fields) in [
        (json!({}), vec!["name"]),
        (json!({"name": ""}), vec!["name"]),
        (json!({"name": "x".repeat(201)}), vec!["name"]),
        (json!({"name": "x", "scope": "WORLD", "contextType": "planet"}), vec!["scope", "contextType"]),
        (json!({"name": "x", "scope": "TEAM"}), vec!["scopeId"]),
        (json!({"name": "x", "filters": {"from": "soon"}}), vec!["filters.from"]),
        (json!({"name": "x", "refreshSeconds": 0}), vec!["refreshSeconds"]),
        (json!({"name": "x", "config": {"large": "x".repeat(70_000)}}), vec!["config"]),
    ] {
        let answer = ada.post(PATH, &body).await;
        answer.problem(400, "VALIDATION_ERROR");
        let found: BTreeSet<String> = answer.faulty_fields().into_iter().collect();
        assert_eq!(found, fields.into_iter().map(ToString::to_string).collect());
    }
    ada.put(&path, &json!({"name": ""})).await.problem(400, "VALIDATION_ERROR");
    ada.post(PATH, &json!({"name": "x", "scope": "TEAM", "scopeId": "nobody"})).await.problem(404, "NOT_FOUND");
    ada.post(PATH, &json!({"name": "x", "scope": "PROJECT", "scopeId": "nobody"})).await.problem(404, "NOT_FOUND");
    // Somebody else's organization has none of it.
    let eve = host.client().register("eve@example.com", "Reef").await;
    for answer in [
        eve.get(&path).await,
        eve.put(&path, &json!({"name": "x"})).await,
        eve.delete(&path).await,
        eve.get(&format!("{path}/widgets")).await,
        eve.post(&format!("{path}/widgets"), &note()).await,
        eve.get(&format!("{path}/data")).await,
        eve.put(&format!("{path}/layout"), &json!({"layout": []})).await,
        eve.post(&format!("{path}/duplicate"), &json!({})).await,
        eve.post(&format!("{path}/share"), &json!({"type": "organization"})).await,
        eve.post(&format!("{path}/set-default"), &json!({})).await,
        eve.post(&format!("{path}/favorite"), &json!({})).await,
    ] {
        answer.problem(404, "NOT_FOUND");
    }
    assert!(ids(&eve, "").await.is_empty());
    let widget = added(&ada, &text(&one, "id"), &note()).await;
    ada.post(&format!("{path}/share"), &json!({"type": "organization"})).await.done(200);
    ada.delete(&path).await.done(204);
    ada.get(&path).await.problem(404, "NOT_FOUND");
    ada.delete(&path).await.problem(404, "NOT_FOUND");
    ada.put(&path, &json!({"name": "x"})).await.problem(404, "NOT_FOUND");
    // Others hear of all of it by ids, and not what it is called or shows.
    let mut told = heard(&ada, "dashboard.created", 1).await;
    told.extend(heard(&ada, "dashboard.updated", 2).await);
    told.extend(heard(&ada, "dashboard.shared", 1).await);
    told.extend(heard(&ada, "dashboard.deleted", 1).await);
    assert!(told.iter().all(|event| event["dashboardId"] == one["id"]), "{told:?}");
    assert!(told.iter().any(|event| event["widgetId"] == widget.as_str()), "{told:?}");
    assert_eq!((&told[3]["sharedWith"][0]["type"], &told[4]["ownerId"]), (&json!("organization"), &one["ownerId"]));
    let told = json!(told).to_string();
    assert!(["Mine", "Ours", "Ahoy", "dark"].iter().all(|word| !told.contains(word)), "{told}");
}

#[tokio::test]
async fn widgets_are_checked_placed_and_bounded() {
    let (_host, ada) = house().await;
    let id = made(&ada, &json!({"name": "Board"})).await;
    let path = format!("{PATH}/{id}/widgets");
    let first = ada.post(&path, &note()).await;
    let first_row = first.expect(201);
    assert_eq!((&first_row["title"], first.header("etag")), (&json!("Note"), "\"1\"".into()));
    assert_eq!(first_row["position"], json!({"x": 0, "y": 0, "w": 6, "h": 4}));
    let second =
        added(&ada, &id, &json!({"type": "my_tasks", "title": "Todo", "position": {"x": 6, "y": 0, "w": 2, "h": 9}}))
            .await;
    let third = ada.post(&path, &note()).await.expect(201);
    assert_eq!(third["position"]["y"], 9, "below the others");
    let board = ada.get(&format!("{PATH}/{id}")).await.expect(200);
    assert_eq!((&board["widgetCount"], board["layout"].as_array().map(Vec::len)), (&json!(3), Some(3)));
    // A type that there is not, a set-up that does not fit, and a source that may not be read.
    for (body, field) in [
        (json!({"type": "horoscope"}), "type"),
        (json!({"type": "markdown_note"}), "config.content"),
        (json!({"type": "my_tasks", "config": {"limit": 0}}), "config.limit"),
        (
            json!({"type": "link_list", "config": {"links": [{"title": "x", "url": "javascript:alert(1)"}]}}),
            "config.links[0].url",
        ),
        (
            json!({"type": "my_tasks", "dataSource": {"service": "secret-management", "path": "/api/secrets"}}),
            "dataSource.service",
        ),
        (
            json!({"type": "my_tasks", "dataSource": {"service": "dashboard", "path": "/api/dashboards"}}),
            "dataSource.service",
        ),
        (
            json!({"type": "my_tasks", "dataSource": {"service": "planning", "path": "/api/../admin"}}),
            "dataSource.path",
        ),
    ] {
        let answer = ada.post(&path, &body).await;
        answer.problem(422, "UNPROCESSABLE");
        assert_eq!(answer.faulty_fields(), [field], "{body}");
    }
    let wrong = ada
        .post(&path, &json!({"type": "markdown_note", "config": 7, "position": {"x": -1, "y": 0, "w": 0, "h": 1}}))
        .await;
    wrong.problem(400, "VALIDATION_ERROR");
    // A change keeps what it does not name, and is checked like a new one.
    let row = format!("{path}/{second}");
    let changed = ada.put(&row, &json!({"config": {"overdue": true}})).await.expect(200);
    assert_eq!(
        (&changed["title"], &changed["config"]["overdue"], &changed["version"]),
        (&json!("Todo"), &json!(true), &json!(2))
    );
    ada.put(&row, &json!({"type": "markdown_note"})).await.problem(422, "UNPROCESSABLE");
    ada.put(&row, &json!({"dashboardId": "other"})).await.problem(400, "VALIDATION_ERROR");
    let stale = ada.request(Method::PUT, &row).header("if-match", "\"1\"").json(&json!({"title": "x"}));
    ada.send(stale).await.problem(412, "PRECONDITION_FAILED");
    // The layout: places may overlap, but are of widgets that are there, each once.
    let place = |widget: &str| json!({"widgetId": widget, "x": 1, "y": 2, "w": 3, "h": 4});
    let laid = json!({"layout": [place(&second), place(&text(&first_row, "id"))]});
    let board = ada.put(&format!("{PATH}/{id}/layout"), &laid).await.expect(200);
    let of_second =
        board["layout"].as_array().unwrap().iter().find(|entry| entry["widgetId"] == json!(second)).unwrap().clone();
    assert_eq!(of_second, place(&second));
    assert_eq!(ada.get(&row).await.expect(200)["position"], json!({"x": 1, "y": 2, "w": 3, "h": 4}));
    let stranger = ada.put(&format!("{PATH}/{id}/layout"), &json!({"layout": [place("nobody")]})).await;
    stranger.problem(422, "UNPROCESSABLE");
    assert_eq!(stranger.faulty_fields(), ["layout[0].widgetId"]);
    ada.put(&format!("{PATH}/{id}/layout"), &json!({"layout": [place(&second), place(&second)]}))
        .await
        .problem(400, "VALIDATION_ERROR");
    // A widget of one dashboard is none of another.
    let other = made(&ada, &json!({"name": "Other"})).await;
    for answer in [
        ada.get(&format!("{PATH}/{other}/widgets/{second}")).await,
        ada.put(&format!("{PATH}/{other}/widgets/{second}"), &json!({"title": "x"})).await,
        ada.delete(&format!("{PATH}/{other}/widgets/{second}")).await,
        ada.get(&format!("{PATH}/{other}/widgets/{second}/data")).await,
    ] {
        answer.problem(404, "NOT_FOUND");
    }
    ada.delete(&row).await.done(204);
    let board = ada.get(&format!("{PATH}/{id}")).await.expect(200);
    assert_eq!((&board["widgetCount"], board["layout"].as_array().map(Vec::len)), (&json!(2), Some(2)));
    assert_eq!(ada.get(&format!("{PATH}/{other}")).await.expect(200)["widgetCount"], 0, "nothing was undone there");
    // Whoever adds at the same time: thirty and no more.
    let adding: Vec<_> = (0..40)
        .map(|_| {
            let (ada, path) = (ada.clone(), path.clone());
            tokio::spawn(async move { ada.post(&path, &note()).await.status })
        })
        .collect();
    let mut statuses = Vec::new();
    for add in adding {
        statuses.push(add.await.unwrap());
    }
    let count = |status: u16| statuses.iter().filter(|found| **found == status).count();
    assert_eq!((count(201), count(422)), (28, 12), "{statuses:?}");
    let widgets = ada.get(&path).await.expect(200);
    assert_eq!((&widgets["total"], widgets["items"].as_array().map(Vec::len)), (&json!(30), Some(30)));
    ada.post(&path, &note()).await.problem(422, "TOO_MANY_WIDGETS");
}

#[tokio::test]
async fn sharing_lets_look_or_edit_and_never_more() {
    let (host, ada) = house().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let cleo = members::bring(&host, &ada, "cleo@example.com", "Member").await;
    let id = made(&bob, &json!({"name": "Bob's"})).await;
    let (path, share) = (format!("{PATH}/{id}"), format!("{PATH}/{id}/share"));
    cleo.get(&path).await.problem(404, "NOT_FOUND");
    ada.get(&path).await.problem(404, "NOT_FOUND");
    // With whom there is not, it is not shared.
    let nobody = bob.post(&share, &json!({"sharedWith": [{"type": "user", "id": members::id(&cleo)}, {"type": "user", "id": "nobody"}, {"type": "team", "id": "none"}]})).await;
    nobody.problem(400, "VALIDATION_ERROR");
    assert_eq!(nobody.faulty_fields(), ["sharedWith[1].id", "sharedWith[2].id"]);
    bob.post(&share, &json!({})).await.problem(400, "VALIDATION_ERROR");
    // To look.
    let shown = bob.post(&share, &json!({"type": "user", "id": members::id(&cleo)})).await.expect(200);
    assert_eq!(shown["sharedWith"], json!([{"type": "user", "id": members::id(&cleo), "canEdit": false}]));
    assert_eq!(shown["isShared"], true);
    let seen = cleo.get(&path).await.expect(200);
    assert_eq!((&seen["canEdit"], &seen["isDefault"]), (&json!(false), &json!(false)));
    assert!(ids(&cleo, "&mine=false").await.contains(&id) && !ids(&cleo, "&mine=true").await.contains(&id));
    assert!(ids(&cleo, "&shared=true").await.contains(&id));
    for answer in [
        cleo.put(&path, &json!({"name": "Mine"})).await,
        cleo.delete(&path).await,
        cleo.post(&share, &json!({"type": "user", "id": members::id(&cleo), "canEdit": true})).await,
        cleo.post(&format!("{path}/widgets"), &note()).await,
        cleo.put(&format!("{path}/layout"), &json!({"layout": []})).await,
    ] {
        answer.problem(403, "FORBIDDEN");
    }
    // To edit: everything but sharing, moving and deleting.
    bob.post(&share, &json!({"type": "user", "id": members::id(&cleo), "canEdit": true})).await.done(200);
    assert_eq!(cleo.put(&path, &json!({"name": "Ours"})).await.expect(200)["name"], "Ours");
    let widget = added(&cleo, &id, &note()).await;
    cleo.put(&format!("{path}/layout"), &json!({"layout": [{"widgetId": widget, "x": 0, "y": 0, "w": 1, "h": 1}]}))
        .await
        .done(200);
    cleo.put(&path, &json!({"scope": "ORGANIZATION"})).await.problem(403, "FORBIDDEN");
    cleo.delete(&path).await.problem(403, "FORBIDDEN");
    cleo.post(&share, &json!({"sharedWith": []})).await.problem(403, "FORBIDDEN");
    // A team, and everybody.
    let team = ada.post("/api/teams", &json!({"name": "Crew"})).await.expect(201);
    let team_id = text(&team, "id");
    ada.post(&format!("/api/teams/{team_id}/members"), &json!({"userId": members::id(&cleo), "role": "member"}))
        .await
        .done(200);
    bob.post(&share, &json!({"sharedWith": [{"type": "team", "id": team_id}]})).await.done(200);
    eventually("cleo sees what is shared with her team", async || (cleo.get(&path).await.status == 200).then_some(()))
        .await;
    assert!(ids(&cleo, "").await.contains(&id));
    ada.get(&path).await.problem(404, "NOT_FOUND");
    bob.post(&share, &json!({"sharedWith": [{"type": "organization"}]})).await.done(200);
    assert!(ids(&ada, "").await.contains(&id));
    ada.put(&path, &json!({"name": "x"})).await.problem(403, "FORBIDDEN");
    bob.post(&share, &json!({"sharedWith": []})).await.done(200);
    cleo.get(&path).await.problem(404, "NOT_FOUND");
    assert!(!ids(&cleo, "").await.contains(&id) && !ids(&ada, "").await.contains(&id));
}

#[tokio::test]
async fn scopes_are_for_their_people() {
    let (host, ada) = house().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let vic = members::bring(&host, &ada, "vic@example.com", "Viewer").await;
    let open = plans::project(&ada, "Open").await;
    let hidden = ada.post("/api/projects", &json!({"name": "Hidden", "visibility": "private"})).await.expect(201);
    let all = made(&bob, &json!({"name": "All", "scope": "ORGANIZATION"})).await;
    let of_open = made(&ada, &json!({"name": "Open", "scope": "PROJECT", "scopeId": open})).await;
    let of_hidden = made(&ada, &json!({"name": "Hidden", "scope": "PROJECT", "scopeId": hidden["id"]})).await;
    let seen = ids(&vic, "").await;
    assert_eq!(seen, BTreeSet::from([all.clone(), of_open.clone()]));
    vic.get(&format!("{PATH}/{of_open}")).await.done(200);
    vic.get(&format!("{PATH}/{of_hidden}")).await.problem(404, "NOT_FOUND");
    assert_eq!(ids(&bob, &format!("&scope=PROJECT&scopeId={open}")).await, BTreeSet::from([of_open.clone()]));
    // Nobody makes one for a project or a team that they do not see.
    bob.post(PATH, &json!({"name": "x", "scope": "PROJECT", "scopeId": hidden["id"]})).await.problem(404, "NOT_FOUND");
    let team = text(&ada.post("/api/teams", &json!({"name": "Crew"})).await.expect(201), "id");
    bob.post(PATH, &json!({"name": "x", "scope": "TEAM", "scopeId": team})).await.problem(404, "NOT_FOUND");
    let of_team = made(&ada, &json!({"name": "Crew", "scope": "TEAM", "scopeId": team})).await;
    bob.get(&format!("{PATH}/{of_team}")).await.problem(404, "NOT_FOUND");
    // A viewer looks on, and has favourites and a default all the same.
    vic.post(PATH, &json!({"name": "x"})).await.problem(403, "FORBIDDEN");
    vic.put(&format!("{PATH}/{all}"), &json!({"name": "x"})).await.problem(403, "FORBIDDEN");
    assert_eq!(vic.post(&format!("{PATH}/{all}/favorite"), &json!({})).await.expect(200)["isFavorite"], true);
    assert_eq!(ids(&vic, "&favorite=true").await, BTreeSet::from([all.clone()]));
    assert!(ids(&bob, "&favorite=true").await.is_empty(), "favourites are everybody's own");
    vic.get(&format!("{PATH}/default")).await.problem(404, "NOT_FOUND");
    assert_eq!(vic.post(&format!("{PATH}/{all}/set-default"), &json!({})).await.expect(200)["isDefault"], true);
    assert_eq!(vic.get(&format!("{PATH}/default")).await.expect(200)["id"], json!(all));
    assert_eq!(vic.post(&format!("{PATH}/{all}/favorite"), &json!({})).await.expect(200)["isFavorite"], false);
    // Administrators look after what is everybody's; others do not.
    ada.put(&format!("{PATH}/{all}"), &json!({"name": "Everybody's"})).await.done(200);
    bob.put(&format!("{PATH}/{of_open}"), &json!({"name": "x"})).await.problem(403, "FORBIDDEN");
    ada.delete(&format!("{PATH}/{all}")).await.done(204);
    vic.get(&format!("{PATH}/default")).await.problem(404, "NOT_FOUND");
    assert_eq!(ids(&ada, "&q=hIdD").await, BTreeSet::from([of_hidden]));
    let abroad = made(&ada, &json!({"name": "Überblick"})).await;
    for q in ["überblick", "ÜBERBLICK"] {
        assert_eq!(ids(&ada, &format!("&q={q}")).await, BTreeSet::from([abroad.clone()]), "{q}");
    }
    assert!(ids(&ada, "&q=%25").await.is_empty(), "nothing stands for anything");
    ada.get(&format!("{PATH}?sortBy=config")).await.problem(400, "VALIDATION_ERROR");
    ada.get(&format!("{PATH}?scope=WORLD")).await.problem(400, "VALIDATION_ERROR");
}

#[tokio::test]
async fn there_is_exactly_one_default_for_each_user_and_scope() {
    let (_host, ada) = house().await;
    ada.get(&format!("{PATH}/default")).await.problem(404, "NOT_FOUND");
    // Whoever makes their first ones at the same time.
    let making: Vec<_> = (0..8)
        .map(|index| {
            let ada = ada.clone();
            tokio::spawn(
                async move { made(&ada, &json!({"name": format!("d{index}"), "isDefault": index % 2 == 0})).await },
            )
        })
        .collect();
    for make in making {
        make.await.unwrap();
    }
    let defaults = async |scope: &str| {
        let page = ada.get(&format!("{PATH}?limit=200&scope={scope}&sortBy=createdAt&order=asc")).await.expect(200);
        let items = page["items"].as_array().cloned().unwrap_or_default();
        let of = items.iter().filter(|item| item["isDefault"] == true).map(|item| text(item, "id")).collect::<Vec<_>>();
        (of, items.iter().map(|item| text(item, "id")).collect::<Vec<_>>())
    };
    let (found, all) = defaults("PERSONAL").await;
    assert_eq!((found.len(), all.len()), (1, 8));
    let choose = async |id: &str| ada.post(&format!("{PATH}/{id}/set-default"), &json!({})).await.expect(200);
    assert_eq!(choose(&all[3]).await["isDefault"], true);
    assert_eq!(defaults("PERSONAL").await.0, [all[3].clone()]);
    ada.put(&format!("{PATH}/{}", all[3]), &json!({"isDefault": false})).await.problem(409, "CONFLICT");
    // Deleting it promotes the oldest.
    ada.delete(&format!("{PATH}/{}", all[3])).await.done(204);
    assert_eq!(defaults("PERSONAL").await.0, [all[0].clone()]);
    assert_eq!(ada.get(&format!("{PATH}/default")).await.expect(200)["id"], json!(all[0]));
    assert_eq!(
        ada.put(&format!("{PATH}/{}", all[5]), &json!({"isDefault": true})).await.expect(200)["isDefault"],
        true
    );
    assert_eq!(defaults("PERSONAL").await.0, [all[5].clone()]);
    // Each scope has its own; one that moves leaves its place to the oldest.
    ada.put(&format!("{PATH}/{}", all[5]), &json!({"scope": "ORGANIZATION"})).await.done(200);
    assert_eq!(defaults("PERSONAL").await.0, [all[0].clone()]);
    assert_eq!(defaults("ORGANIZATION").await.0, [all[5].clone()]);
    assert_eq!(ada.get(&format!("{PATH}/default?scope=ORGANIZATION")).await.expect(200)["id"], json!(all[5]));
    // Whatever is deleted at the same time: while one is left, one is the default.
    let rest: Vec<String> = defaults("PERSONAL").await.1;
    let (kept, gone) = rest.split_last().unwrap();
    let going: Vec<_> = gone
        .iter()
        .map(|id| {
            let (ada, path) = (ada.clone(), format!("{PATH}/{id}"));
            tokio::spawn(async move { ada.delete(&path).await.status })
        })
        .collect();
    for go in going {
        assert_eq!(go.await.unwrap(), 204);
    }
    assert_eq!(defaults("PERSONAL").await, (vec![kept.clone()], vec![kept.clone()]));
    ada.delete(&format!("{PATH}/{kept}")).await.done(204);
    assert_eq!(
        ada.get(&format!("{PATH}/default")).await.expect(200)["id"],
        json!(all[5]),
        "the organization's is left"
    );
    ada.get(&format!("{PATH}/default?scope=PERSONAL")).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn whoever_sees_a_dashboard_may_have_one_like_it() {
    let (host, ada) = house().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let id = made(&ada, &json!({"name": "Board", "scope": "ORGANIZATION", "config": {"a": 1}})).await;
    added(&ada, &id, &note()).await;
    added(&ada, &id, &json!({"type": "task_status", "position": {"x": 3, "y": 4, "w": 5, "h": 6}})).await;
    let copy = bob.post(&format!("{PATH}/{id}/duplicate"), &json!({})).await.expect(201);
    assert_eq!(
        (&copy["name"], &copy["ownerId"], &copy["scope"]),
        (&json!("Copy of Board"), &json!(members::id(&bob)), &json!("PERSONAL"))
    );
    assert_eq!((&copy["widgetCount"], &copy["config"]["a"], &copy["isShared"]), (&json!(2), &json!(1), &json!(false)));
    let widgets = bob.get(&format!("{PATH}/{}/widgets", text(&copy, "id"))).await.expect(200);
    let types: Vec<&Value> = widgets["items"].as_array().unwrap().iter().map(|widget| &widget["type"]).collect();
    assert_eq!(types, ["markdown_note", "task_status"]);
    assert_eq!(widgets["items"][1]["position"], json!({"x": 3, "y": 4, "w": 5, "h": 6}));
    let named = bob.post(&format!("{PATH}/{id}/duplicate"), &json!({"name": "Mine"})).await.expect(201);
    assert_eq!((&named["name"], &named["isDefault"]), (&json!("Mine"), &json!(false)));
    // What is changed in a copy stays there.
    let first = text(&widgets["items"][0], "id");
    bob.delete(&format!("{PATH}/{}/widgets/{first}", text(&copy, "id"))).await.done(204);
    assert_eq!(ada.get(&format!("{PATH}/{id}")).await.expect(200)["widgetCount"], 2);
    // Types, by category.
    let types = bob.get(&format!("{PATH}/widget-types?limit=200")).await.expect(200);
    assert_eq!(types["total"], 22);
    let schema = &types["items"][0]["configSchema"];
    assert_eq!((&schema["type"], &types["items"][0]["isSystem"]), (&json!("object"), &json!(true)));
    let content = bob.get(&format!("{PATH}/widget-types?category=content")).await.expect(200);
    let codes: Vec<&Value> = content["items"].as_array().unwrap().iter().map(|kind| &kind["code"]).collect();
    assert_eq!(codes, ["markdown_note", "link_list"]);
    bob.get(&format!("{PATH}/widget-types?category=weather")).await.problem(400, "VALIDATION_ERROR");
}

#[tokio::test]
async fn a_deleted_account_takes_its_own_dashboards_along() {
    let (host, ada) = house().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Admin").await;
    let personal = made(&bob, &json!({"name": "Bob's"})).await;
    bob.post(&format!("{PATH}/{personal}/share"), &json!({"type": "organization"})).await.done(200);
    let all = made(&bob, &json!({"name": "All", "scope": "ORGANIZATION"})).await;
    ada.post(&format!("{PATH}/{personal}/set-default"), &json!({})).await.done(200);
    ada.get(&format!("{PATH}/{personal}")).await.done(200);
    ada.delete(&format!("/api/users/{}", members::id(&bob))).await.done(204);
    eventually("bob's dashboard is gone", async || {
        (ada.get(&format!("{PATH}/{personal}")).await.status == 404).then_some(())
    })
    .await;
    assert_eq!(ids(&ada, "").await, BTreeSet::from([all.clone()]));
    ada.put(&format!("{PATH}/{all}"), &json!({"name": "Ours now"})).await.done(200);
    ada.get(&format!("{PATH}/default")).await.problem(404, "NOT_FOUND");
}
