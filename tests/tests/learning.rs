//! learning-development: who learns what, progress that never falls, and a path that is completed once.

use berth_tests::answer::text;
use berth_tests::wait::heard_of;
use berth_tests::{Answer, Client, Host, Manifest, eventually, members, plans};
use futures_util::future::join_all;
use serde_json::{Value, json};

const RESOURCES: &str = "/api/learning";
const PATHS: &str = "/api/learning/paths";
const CANDIDATES: &str = "/api/learning/candidates";

async fn host_with_ada() -> (Host, Client) {
    started(Manifest::services()).await
}

async fn started(manifest: Manifest) -> (Host, Client) {
    let host = Host::with(manifest).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    (host, ada)
}

async fn made(client: &Client, path: &str, body: &Value) -> String {
    text(&client.post(path, body).await.expect(201), "id")
}

async fn path(client: &Client, more: Value) -> String {
    let mut body = json!({"title": "Rust", "skillsCovered": ["Rust"]});
    merge(&mut body, more);
    made(client, PATHS, &body).await
}

async fn step(client: &Client, path: &str, title: &str, prerequisites: &[&String]) -> String {
    let body = json!({"title": title, "stepType": "reading", "skills": ["Rust"], "prerequisites": prerequisites});
    made(client, &format!("{PATHS}/{path}/steps"), &body).await
}

async fn resource(client: &Client, more: Value) -> String {
    let mut body = json!({"title": "The book", "url": "https://example.com/book", "resourceType": "documentation"});
    merge(&mut body, more);
    made(client, RESOURCES, &body).await
}

fn merge(body: &mut Value, more: Value) {
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
}

async fn complete(client: &Client, path: &str, step: &str) -> Answer {
    client.post(&format!("{PATHS}/{path}/complete-step"), &json!({"stepId": step, "minutes": 10})).await
}

async fn progress(client: &Client, path: &str) -> Value {
    client.get(&format!("{PATHS}/{path}/progress")).await.expect(200)
}

#[tokio::test]
async fn steps_come_in_their_order_and_the_last_one_completes_the_path_once() {
    let (host, ada) = started(Manifest::services_and_herald("", "")).await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let id = path(&ada, json!({})).await;
    let first = step(&ada, &id, "Read", &[]).await;
    let second = step(&ada, &id, "Build", &[&first]).await;
    let third = step(&ada, &id, "Tell", &[]).await;
    let steps = format!("{PATHS}/{id}/steps");

    let enrolled = bob.post(&format!("{PATHS}/{id}/enroll"), &json!({})).await.expect(200);
    assert_eq!((&enrolled["status"], &enrolled["progress"]), (&json!("active"), &json!(0.0)), "{enrolled}");
    assert_eq!(enrolled["nextStepIds"], json!([first, third]));
    let early = complete(&bob, &id, &second).await.problem(409, "PREREQUISITES_MISSING");
    assert_eq!(early["missing"], json!([first]));
    complete(&bob, &id, "nothing").await.problem(404, "NOT_FOUND");
    complete(&bob, &id, &first).await.done(200);
    // Again it is nothing new, and no minutes either.
    let again = complete(&bob, &id, &first).await.expect(200);
    assert_eq!((&again["completedSteps"], &again["totalSteps"], &again["minutes"]), (&json!(1), &json!(3), &json!(10)));
    let begun = bob.put(&format!("{steps}/{second}"), &json!({"status": "in_progress"})).await.expect(200);
    assert_eq!(begun["status"], "in_progress", "{begun}");
    bob.put(&format!("{steps}/{first}"), &json!({"status": "pending"})).await.problem(409, "STEP_COMPLETED");
    // An id of his own belongs to one record.
    let named = async |step: &str| {
        let body = json!({"stepId": step, "minutes": 10, "eventId": "mine"});
        bob.post(&format!("{PATHS}/{id}/complete-step"), &body).await
    };
    named(&second).await.done(200);
    named(&third).await.problem(409, "EVENT_ID_USED");
    // How far Bob is, is Bob's: Ada has done nothing.
    let shown = |page: Value| -> Vec<Value> {
        page["items"].as_array().into_iter().flatten().map(|step| step["status"].clone()).collect()
    };
    assert_eq!(shown(bob.get(&steps).await.expect(200)), ["completed", "completed", "pending"]);
    assert_eq!(shown(ada.get(&steps).await.expect(200)), ["pending"; 3]);
    assert_eq!(bob.get(&format!("{steps}?status=completed&limit=1")).await.expect(200)["total"], 2);

    // Whoever asks how often at the same moment: it is completed once.
    let answers = join_all((0..6).map(|_| complete(&bob, &id, &third))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    let done = progress(&bob, &id).await;
    assert_eq!((&done["status"], &done["progress"]), (&json!("completed"), &json!(1.0)), "{done}");
    assert_eq!(done["minutes"], 30, "{done}");
    // A step that comes later does not take that back.
    step(&ada, &id, "More", &[]).await;
    let after = progress(&bob, &id).await;
    assert_eq!((&after["status"], &after["progress"]), (&json!("completed"), &json!(1.0)), "{after}");
    assert_eq!(after["completedAt"], done["completedAt"]);

    let summary = bob.get("/api/learning/progress/summary").await.expect(200);
    let figures = ["minutes", "records", "stepsCompleted", "pathsCompleted", "activePaths"].map(|name| &summary[name]);
    assert_eq!(figures, [30, 3, 3, 1, 0].map(|number| json!(number)).each_ref(), "{summary}");
    assert_eq!(summary["skills"], json!([{"skill": "Rust", "minutes": 30, "records": 3}]));
    let late = bob.get("/api/learning/progress/summary?from=2030-01-01T00:00:00Z&to=2020-01-01T00:00:00Z").await;
    assert_eq!(late.faulty_fields(), ["from"]);

    // Begun anew everything is to be done again, and what was recorded stays in the summary.
    let anew = bob.post(&format!("{PATHS}/{id}/enroll"), &json!({"reset": true})).await.expect(200);
    assert_eq!(
        (&anew["status"], &anew["progress"], &anew["completedSteps"]),
        (&json!("active"), &json!(0.0), &json!(0))
    );
    assert_eq!(bob.get("/api/learning/progress/summary").await.expect(200)["minutes"], 30);

    bob.put("/api/learning/skills", &json!({"skills": [{"skill": "Rust", "level": 2}]})).await.done(200);
    heard_of(&ada, "learning.skill.updated", 1, |_| true).await;
    let completed = heard_of(&ada, "learning.path.completed", 1, |_| true).await;
    assert_eq!(completed.len(), 1, "{completed:?}");
    assert_eq!((&completed[0]["userId"], &completed[0]["pathId"]), (&json!(members::id(&bob)), &json!(id)));
    heard_of(&ada, "learning.path.created", 1, |_| true).await;
    let of_step = |data: &&Value| data["stepId"] == third.as_str();
    assert_eq!(heard_of(&ada, "learning.step.completed", 1, |_| true).await.iter().filter(of_step).count(), 1);
}

#[tokio::test]
async fn steps_wait_in_no_circle_and_for_nothing_that_is_left_out() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let id = path(&ada, json!({})).await;
    let steps = format!("{PATHS}/{id}/steps");
    let first = step(&ada, &id, "a", &[]).await;
    let second = step(&ada, &id, "b", &[&first]).await;
    let third = step(&ada, &id, "c", &[&second]).await;
    let circle = ada.put(&format!("{steps}/{first}"), &json!({"prerequisites": [third]})).await;
    assert_eq!(circle.problem(422, "PREREQUISITE_CYCLE")["stepIds"].as_array().map(Vec::len), Some(3));
    ada.put(&format!("{steps}/{first}"), &json!({"prerequisites": [first]})).await.problem(422, "PREREQUISITE_CYCLE");
    let foreign = step(&ada, &path(&ada, json!({})).await, "elsewhere", &[]).await;
    let answer = ada.put(&format!("{steps}/{first}"), &json!({"prerequisites": [foreign]})).await;
    assert_eq!(answer.faulty_fields(), ["prerequisites[0]"]);
    ada.get(&format!("{steps}/{foreign}")).await.problem(404, "NOT_FOUND");
    // Two that would close a circle together: one of them is too late.
    let (left, right) = (step(&ada, &id, "l", &[]).await, step(&ada, &id, "r", &[]).await);
    let (ends, bodies) = ([&left, &right], [json!({"prerequisites": [right]}), json!({"prerequisites": [left]})]);
    let urls = ends.map(|end| format!("{steps}/{end}"));
    let answers = join_all(urls.iter().zip(&bodies).map(|(url, body)| ada.put(url, body))).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 422]);
    for end in ends {
        ada.delete(&format!("{steps}/{end}")).await.done(204);
    }

    complete(&bob, &id, &first).await.done(200);
    let skipped = ada.put(&format!("{steps}/{second}"), &json!({"status": "skipped"})).await.expect(200);
    assert_eq!(skipped["status"], "skipped");
    complete(&bob, &id, &second).await.problem(409, "STEP_SKIPPED");
    assert_eq!(progress(&bob, &id).await["nextStepIds"], json!([third]));
    // When the rest goes away, whoever has done everything else is done.
    let fourth = step(&ada, &id, "d", &[&third]).await;
    ada.delete(&format!("{steps}/{third}")).await.done(204);
    assert_eq!(ada.get(&format!("{steps}/{fourth}")).await.expect(200)["prerequisites"], json!([]));
    ada.delete(&format!("{steps}/{fourth}")).await.done(204);
    eventually("the path's end", async || (progress(&bob, &id).await["status"] == "completed").then_some(())).await;

    ada.put(&format!("{PATHS}/{id}"), &json!({"status": "paused"})).await.done(200);
    ada.post(&format!("{PATHS}/{id}/enroll"), &json!({})).await.problem(409, "PATH_NOT_OPEN");
    ada.put(&format!("{PATHS}/{id}"), &json!({"status": "completed"})).await.problem(400, "VALIDATION_ERROR");
    let faulty = ada.post(&steps, &json!({"title": "<>", "stepType": "nap", "resourceUrl": "ftp://x"})).await;
    assert_eq!(faulty.faulty_fields(), ["stepType"]);
    let faulty = ada.post(&steps, &json!({"title": "<>", "stepType": "kata", "resourceUrl": "ftp://x"})).await;
    assert_eq!(faulty.faulty_fields(), ["title", "resourceUrl"]);
    ada.delete(&format!("{PATHS}/{id}")).await.done(204);
    ada.get(&steps).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn what_is_ones_own_or_a_teams_is_nobody_elses() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let vic = members::bring(&host, &ada, "vic@example.com", "Member").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let own = path(&bob, json!({"userId": members::id(&bob), "status": "draft"})).await;
    let draft = path(&bob, json!({"status": "draft"})).await;
    for other in [&vic, &eve] {
        for id in [&own, &draft] {
            other.get(&format!("{PATHS}/{id}")).await.problem(404, "NOT_FOUND");
            other.put(&format!("{PATHS}/{id}"), &json!({"title": "x"})).await.problem(404, "NOT_FOUND");
            other.get(&format!("{PATHS}/{id}/steps")).await.problem(404, "NOT_FOUND");
            other.post(&format!("{PATHS}/{id}/enroll"), &json!({})).await.problem(404, "NOT_FOUND");
        }
        assert_eq!(other.get(&format!("{PATHS}?userId={}", members::id(&bob))).await.expect(200)["total"], 0);
    }
    let for_bob = json!({"title": "Do this", "userId": members::id(&bob)});
    vic.post(PATHS, &for_bob).await.problem(403, "FORBIDDEN");
    // Who manages may make one for somebody, and does not learn in their place.
    let given = made(&ada, PATHS, &for_bob).await;
    let only = step(&ada, &given, "It", &[]).await;
    complete(&ada, &given, &only).await.problem(403, "FORBIDDEN");
    complete(&bob, &given, &only).await.done(200);
    assert_eq!(bob.get(&format!("{PATHS}/{given}")).await.expect(200)["status"], "completed");
    assert_eq!(progress(&ada, &given).await["userId"], members::id(&bob));

    let team = text(&ada.post("/api/teams", &json!({"name": "Crane"})).await.expect(201), "id");
    let body = json!({"title": "Ours", "url": "https://example.com/ours", "resourceType": "video", "teamId": team,
        "skills": ["Rust"]});
    assert_eq!(bob.post(RESOURCES, &body).await.faulty_fields(), ["teamId"]);
    let ours = made(&ada, RESOURCES, &body).await;
    bob.get(&format!("{RESOURCES}/{ours}")).await.problem(404, "NOT_FOUND");
    bob.post(&format!("{RESOURCES}/{ours}/helpful"), &json!({})).await.problem(404, "NOT_FOUND");
    assert_eq!(bob.get(RESOURCES).await.expect(200)["total"], 0);
    ada.post(&format!("/api/teams/{team}/members"), &json!({"userId": members::id(&bob), "role": "member"}))
        .await
        .done(200);
    bob.get(&format!("{RESOURCES}/{ours}")).await.done(200);
    assert_eq!(bob.get(RESOURCES).await.expect(200)["total"], 1);
    assert_eq!(vic.get(RESOURCES).await.expect(200)["total"], 0);
    eve.get(&format!("{RESOURCES}/{ours}")).await.problem(404, "NOT_FOUND");
    bob.delete(&format!("{RESOURCES}/{ours}")).await.problem(403, "FORBIDDEN");

    // Skills and progress are everybody's own.
    bob.put("/api/learning/skills", &json!({"skills": [{"skill": "Rust", "level": 3}]})).await.done(200);
    assert_eq!(vic.get(&format!("/api/learning/skills?userId={}", members::id(&bob))).await.expect(200)["total"], 0);
    assert_eq!(vic.get("/api/learning/enrollments").await.expect(200)["total"], 0);
    assert_eq!(bob.get("/api/learning/enrollments").await.expect(200)["total"], 1);
    // What is recommended is remembered, and not for those who are not in the team any more.
    let recommended = async || bob.get("/api/learning/recommendations").await.expect(200)["resources"].clone();
    assert_eq!(recommended().await[0]["id"], ours.as_str());
    ada.delete(&format!("/api/teams/{team}/members/{}", members::id(&bob))).await.done(204);
    assert_eq!(recommended().await, json!([]));

    // Whoever is on a path pauses, drops out and comes back; what was done stays done.
    let open = path(&ada, json!({})).await;
    let first = step(&ada, &open, "a", &[]).await;
    step(&ada, &open, "b", &[]).await;
    let enrolled = format!("{PATHS}/{open}/enroll");
    let change = async |status: &str| bob.put(&enrolled, &json!({ "status": status })).await;
    change("paused").await.problem(404, "NOT_FOUND");
    complete(&bob, &open, &first).await.done(200);
    for status in ["paused", "dropped", "active"] {
        let now = change(status).await.expect(200);
        assert_eq!((&now["status"], &now["progress"]), (&json!(status), &json!(0.5)), "{now}");
    }
    assert_eq!(change("completed").await.faulty_fields(), ["status"]);
    change("dropped").await.done(200);
    assert_eq!(bob.get(&format!("{PATHS}?mine=true")).await.expect(200)["total"], 2, "his own two, and not this one");
    let back = bob.post(&enrolled, &json!({})).await.expect(200);
    assert_eq!((&back["status"], &back["completedSteps"]), (&json!("active"), &json!(1)), "{back}");
    ada.put(&format!("{PATHS}/{open}"), &json!({"status": "paused"})).await.done(200);
    change("paused").await.done(200);
    change("active").await.problem(409, "PATH_NOT_OPEN");
}

#[tokio::test]
async fn progress_on_a_resource_never_falls() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    for address in ["javascript:alert(1)", "ftp://example.com", "//example.com", "https://", "https://a@example.com"] {
        let body = json!({"title": "x", "url": address, "resourceType": "article"});
        assert_eq!(ada.post(RESOURCES, &body).await.faulty_fields(), ["url"], "{address}");
    }
    let id = resource(&ada, json!({"skills": ["Rust", "rust"], "tags": ["50%"]})).await;
    let row = format!("{RESOURCES}/{id}");
    let read = bob.get(&row).await;
    let document = read.expect(200);
    assert_eq!((&document["skills"], &document["curatedBy"]), (&json!(["Rust"]), &json!(members::id(&ada))));
    assert_eq!((&document["viewCount"], bob.get(&row).await.expect(200)["viewCount"].as_i64()), (&json!(1), Some(1)));

    let report = async |body: Value| bob.post(&format!("{row}/progress"), &body).await.expect(200);
    assert_eq!(report(json!({"value": 0.8, "minutes": 20})).await["value"], 0.8);
    let late = report(json!({"value": 0.3, "minutes": 5})).await;
    assert_eq!((&late["value"], &late["minutes"]), (&json!(0.8), &json!(25)));
    let event = json!({"value": 0.9, "minutes": 7, "eventId": "e1"});
    assert_eq!(report(event.clone()).await["minutes"], 32);
    assert_eq!(report(event).await["minutes"], 32, "a replayed event counts for nothing");
    // Many at once: the furthest counts, and every minute.
    let url = format!("{row}/progress");
    let bodies: Vec<Value> = (1..=5).map(|part| json!({"value": 0.9 + f64::from(part) / 50.0, "minutes": 1})).collect();
    for answer in join_all(bodies.iter().map(|body| bob.post(&url, body))).await {
        answer.done(200);
    }
    let done = report(json!({"value": 0.0})).await;
    assert_eq!((&done["value"], &done["minutes"], done["completedAt"].is_string()), (&json!(1.0), &json!(37), true));
    let anew = report(json!({"value": 0.1, "reset": true})).await;
    assert_eq!((&anew["value"], &anew["completedAt"]), (&json!(0.1), &Value::Null));
    // A reset that comes twice begins anew once, also where it changed nothing the first time.
    let reset = json!({"value": 0.1, "reset": true, "eventId": "anew"});
    assert_eq!(report(reset.clone()).await["value"], 0.1);
    assert_eq!(report(json!({"value": 0.6})).await["value"], 0.6);
    assert_eq!(report(reset).await["value"], 0.6, "a replayed event leads nobody back");
    let faulty = bob.post(&url, &json!({"value": 1.5, "minutes": -1})).await;
    assert_eq!(faulty.faulty_fields(), ["value", "minutes"]);
    assert_eq!(ada.get("/api/learning/progress/summary").await.expect(200)["minutes"], 0);

    // It helps everybody once, and nobody's `If-Match` breaks.
    let helpful = format!("{row}/helpful");
    for answer in join_all((0..4).map(|_| bob.send(bob.request(reqwest::Method::POST, &helpful)))).await {
        answer.done(200);
    }
    assert_eq!(ada.post(&helpful, &json!({})).await.expect(200)["helpfulCount"], 2);
    assert_eq!(ada.post(&helpful, &json!({"helpful": false})).await.expect(200)["helpfulCount"], 1);
    let change = ada.request(reqwest::Method::PUT, &row).header("if-match", read.header("etag"));
    ada.send(change.json(&json!({"title": "The <new> book"}))).await.done(200);
    let stale = ada.request(reqwest::Method::PUT, &row).header("if-match", read.header("etag"));
    ada.send(stale.json(&json!({"title": "Too late"}))).await.problem(412, "PRECONDITION_FAILED");
    // The list is remembered, and not longer than it is true.
    let title =
        async |query: &str| ada.get(&format!("{RESOURCES}{query}")).await.expect(200)["items"][0]["title"].clone();
    assert_eq!(title("").await, "The new book");
    ada.put(&row, &json!({"title": "The last book"})).await.done(200);
    assert_eq!(
        (title("").await, title("?skill=RUST&tag=50%25&q=last").await),
        (json!("The last book"), json!("The last book"))
    );
    assert_eq!(ada.get(&format!("{RESOURCES}?tag=50_")).await.expect(200)["total"], 0, "no letter stands for others");
    // Capitals are capitals beyond ASCII too.
    let words = json!({"title": "Die Übung", "tags": ["ÜBUNG am Kai"], "skills": ["Ölkunde"]});
    ada.put(&row, &words).await.done(200);
    for query in ["tag=ÜBUNG am Kai", "tag=übung am kai", "skill=Ölkunde", "skill=ÖLKUNDE", "q=die Übung", "q=ÜBUNG"]
    {
        assert_eq!(ada.get(&format!("{RESOURCES}?{query}")).await.expect(200)["total"], 1, "{query}");
    }

    // A step that used it stays when it goes.
    let course = path(&ada, json!({})).await;
    let body = json!({"title": "Read it", "stepType": "reading", "resourceId": id});
    let step = made(&ada, &format!("{PATHS}/{course}/steps"), &body).await;
    ada.delete(&row).await.done(204);
    ada.get(&row).await.problem(404, "NOT_FOUND");
    assert_eq!(ada.get(&format!("{PATHS}/{course}/steps/{step}")).await.expect(200)["resourceId"], Value::Null);
    assert_eq!(ada.get(RESOURCES).await.expect(200)["total"], 0);
}

#[tokio::test]
async fn what_happens_elsewhere_and_what_is_lacking_say_what_to_look_at() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let databases = resource(&ada, json!({"title": "Databases at night", "skills": ["PostgreSQL"]})).await;
    let soup = resource(&ada, json!({"title": "Soup", "skills": ["Soup"]})).await;
    let recommended = async |client: &Client| client.get("/api/learning/recommendations").await.expect(200);
    assert_eq!(recommended(&bob).await, json!({"paths": [], "resources": []}));

    // Bob's incident suggests what would have helped, to Bob.
    let incident = json!({"title": "PostgreSQL was away", "severity": "medium"});
    let incident = text(&bob.post("/api/incidents", &incident).await.expect(201), "id");
    bob.put(&format!("/api/incidents/{incident}/resolve"), &json!({})).await.done(200);
    let suggested = eventually("the suggestion", async || {
        let resources = recommended(&bob).await["resources"].clone();
        resources[0].is_object().then_some(resources)
    })
    .await;
    assert_eq!(
        (&suggested[0]["id"], &suggested[0]["reasons"]),
        (&json!(databases), &json!(["after:incident.resolved"]))
    );
    assert!(suggested.as_array().is_some_and(|all| all.iter().all(|one| one["id"] != soup.as_str())), "{suggested}");
    assert_eq!(recommended(&ada).await["resources"], json!([]));

    // A role is what its templates say.
    let role = json!({"title": "Backend engineer", "isTemplate": true, "difficulty": "advanced",
        "skillsCovered": ["Rust", "PostgreSQL", "SQL"]});
    let role_id = made(&ada, PATHS, &role).await;
    let levels = json!({"skills": [{"skill": "rust", "level": 4}, {"skill": "SQL", "level": 3}]});
    let set = bob.put("/api/learning/skills", &levels).await.expect(200);
    assert_eq!(set["total"], 2, "{set}");
    let gaps = bob.get("/api/learning/skill-gaps?role=backend%20ENGINEER").await.expect(200);
    assert_eq!(gaps["basedOn"][0]["id"], role_id.as_str());
    assert_eq!(gaps["met"], json!(["Rust"]));
    let found: Vec<(&str, i64)> = gaps["gaps"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|gap| (gap["skill"].as_str().unwrap_or_default(), gap["gap"].as_i64().unwrap_or_default()))
        .collect();
    assert_eq!(found, [("PostgreSQL", 4), ("SQL", 1)], "{gaps}");
    assert_eq!(gaps["gaps"][0]["resources"][0]["id"], databases.as_str());
    assert_eq!(bob.get("/api/learning/skill-gaps?role=Pilot").await.expect(200)["basedOn"], json!([]));
    let role = json!({"title": "Übersetzer ЛОЦМАН", "isTemplate": true, "skillsCovered": ["Deutsch"]});
    let pilot_id = made(&ada, PATHS, &role).await;
    for spelt in ["übersetzer лоцман", "ÜBERSETZER Лоцман"] {
        let gaps = bob.get(&format!("/api/learning/skill-gaps?role={spelt}")).await.expect(200);
        assert_eq!(gaps["basedOn"][0]["id"], pilot_id.as_str(), "{spelt}: {gaps}");
    }
    // What is known fits as well, as soon as it is known.
    let paths = recommended(&bob).await["paths"].clone();
    assert_eq!(
        (&paths[0]["id"], &paths[0]["reasons"]),
        (&json!(role_id), &json!(["skill:rust", "skill:sql"])),
        "{paths}"
    );
    bob.post(&format!("{RESOURCES}/{databases}/progress"), &json!({"value": 1})).await.done(200);
    let left = recommended(&bob).await;
    assert!(
        left["resources"].as_array().is_some_and(|all| all.iter().all(|one| one["id"] != databases.as_str())),
        "{left}"
    );

    // Another spelling is the same skill; levels are 0 to 5.
    bob.put("/api/learning/skills", &json!({"skills": [{"skill": "RUST", "level": 5}]})).await.done(200);
    let own = bob.get("/api/learning/skills?sortBy=level&order=desc").await.expect(200);
    assert_eq!((&own["total"], &own["items"][0]["level"]), (&json!(2), &json!(5)), "{own}");
    let faulty = bob.put("/api/learning/skills", &json!({"skills": [{"skill": "Go", "level": 6}]})).await;
    assert_eq!(faulty.faulty_fields(), ["skills[0].level"]);
}

/// What was carried out, and what was sent back, suggests something to whoever did it.
#[tokio::test]
async fn what_was_done_and_what_was_sent_back_suggest_something_too() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let lamps = resource(&ada, json!({"title": "Lamps", "skills": ["Lighthouse"]})).await;
    let colours = resource(&ada, json!({"title": "Colours", "tags": ["painting"]})).await;
    let reasons = async |client: &Client, id: &str| -> Option<Value> {
        let found = client.get("/api/learning/recommendations").await.expect(200)["resources"].clone();
        found.as_array()?.iter().find(|one| one["id"] == id).map(|one| one["reasons"].clone())
    };
    let steps = json!([{"title": "Light the lighthouse", "type": "file_create",
        "params": {"path": "lamp.txt", "content": "on"}, "expectedArtifacts": ["lamp.txt"]}]);
    let plan = plans::ready_plan(&ada, &steps).await;
    let execution = plans::execute(&ada, &plan).await;
    plans::reaches(&ada, &execution, &["completed"]).await;
    assert_eq!(
        eventually("a suggestion after the execution", async || reasons(&ada, &lamps).await).await,
        json!(["after:execution.completed"])
    );
    let project = plans::project(&bob, "Quay").await;
    let task = made(&bob, "/api/tasks", &json!({"projectId": project, "title": "Paint"})).await;
    let review = json!({"projectId": project, "title": "Look", "reviewableType": "task", "reviewableId": task,
        "assignedTo": members::id(&ada)});
    let review = made(&bob, "/api/reviews", &review).await;
    let back = json!({"requestChanges": true, "comment": "Mind the painting"});
    ada.put(&format!("/api/reviews/{review}/reject"), &back).await.done(200);
    // To whoever asked for the review, and not to who sent it back.
    assert_eq!(
        eventually("a suggestion after the review", async || reasons(&bob, &colours).await).await,
        json!(["after:review.changes_requested"])
    );
    assert_eq!((reasons(&ada, &colours).await, reasons(&bob, &lamps).await), (None, None));
}

#[tokio::test]
async fn a_candidate_holds_when_enough_people_say_so_and_from_then_on() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let body = json!({"kind": "model-performance", "content": "The small one is enough", "required": 2});
    let id = made(&ada, CANDIDATES, &body).await;
    let row = format!("{CANDIDATES}/{id}");
    let act = async |client: &Client, what: &str| client.post(&format!("{row}/{what}"), &json!({})).await;
    act(&ada, "promote").await.problem(409, "CONFIRMATIONS_MISSING");
    act(&ada, "rollback").await.problem(409, "NOT_PROMOTED");
    for client in [&eve] {
        client.get(&row).await.problem(404, "NOT_FOUND");
        act(client, "confirm").await.problem(404, "NOT_FOUND");
    }
    // However often somebody says it at the same moment: once.
    for answer in join_all((0..5).map(|_| act(&ada, "confirm"))).await {
        answer.done(200);
    }
    assert_eq!(ada.get(&row).await.expect(200)["confirmations"], 1);
    ada.put(&row, &json!({"status": "promoted"})).await.problem(409, "STATUS_TRANSITION");
    ada.put(&row, &json!({"confirmations": 9, "status": "shadow"})).await.done(200);
    act(&bob, "promote").await.problem(409, "CONFIRMATIONS_MISSING");
    assert_eq!(act(&bob, "confirm").await.expect(200)["confirmations"], 2);
    // What is said now is something else, and has to be confirmed anew.
    let changed = ada.put(&row, &json!({"content": "The large one is needed"})).await.expect(200);
    assert_eq!(changed["confirmations"], 0);
    for client in [&ada, &bob] {
        act(client, "confirm").await.done(200);
    }
    let before = ada.get(&format!("{CANDIDATES}?effectiveAt=2020-01-01T00:00:00Z")).await.expect(200);
    let promotions = join_all((0..4).map(|_| act(&bob, "promote"))).await;
    assert_eq!(promotions.iter().filter(|answer| answer.status == 200).count(), 1, "{promotions:?}");
    let promoted = ada.get(&row).await.expect(200);
    let moment = text(&promoted, "promotedAt");
    let held =
        async |moment: &str| ada.get(&format!("{CANDIDATES}?effectiveAt={moment}")).await.expect(200)["total"].clone();
    assert_eq!(
        (&before["total"], held("2020-01-01T00:00:00Z").await, held(&moment).await),
        (&json!(0), json!(0), json!(1))
    );
    act(&bob, "confirm").await.problem(409, "CANDIDATE_CLOSED");
    ada.put(&row, &json!({"content": "x"})).await.problem(409, "CANDIDATE_CLOSED");
    ada.delete(&row).await.problem(409, "CANDIDATE_PROMOTED");
    assert_eq!(act(&ada, "rollback").await.expect(200)["status"], "rolled_back");
    let over = text(&ada.get(&row).await.expect(200), "rolledBackAt");
    assert_eq!(held(&over).await, 0);
    act(&ada, "rollback").await.problem(409, "NOT_PROMOTED");
    assert_eq!(ada.put(&row, &json!({"status": "candidate"})).await.expect(200)["confirmations"], 0);
    ada.delete(&row).await.done(204);
    let faulty = ada.post(CANDIDATES, &json!({"kind": "hunch", "content": "", "required": 0})).await;
    assert_eq!(faulty.faulty_fields(), ["kind", "content", "required"]);
    let faulty = ada.post(CANDIDATES, &json!({"kind": "other", "content": "", "required": 0})).await;
    assert_eq!(faulty.faulty_fields(), ["content", "required"]);
}
