//! collaboration: ideas, what people think of them, and what becomes of them.

use berth_tests::answer::text;
use berth_tests::wait::heard;
use berth_tests::{Client, Host, Manifest, eventually, members, plans};
use reqwest::Method;
use serde_json::{Value, json};

const IDEAS: &str = "/api/innovation";

async fn house(others: &[&str]) -> (Host, Client, Vec<Client>) {
    house_with(Manifest::services(), others).await
}

async fn house_with(manifest: Manifest, others: &[&str]) -> (Host, Client, Vec<Client>) {
    let host = Host::with(manifest).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let mut people = Vec::new();
    for name in others {
        people.push(members::bring(&host, &ada, &format!("{name}@example.com"), "Member").await);
    }
    (host, ada, people)
}

fn idea(title: &str) -> Value {
    json!({"title": title, "description": "It would <help>.", "category": "quay"})
}

async fn submitted(client: &Client, body: &Value) -> String {
    text(&client.post(IDEAS, body).await.expect(201), "id")
}

#[tokio::test]
async fn votes_count_once_each_and_never_for_ones_own() {
    let manifest = Manifest::services_and_herald("", "");
    let (host, ada, people) = house_with(manifest, &["bob", "cleo", "dan"]).await;
    let made = people[0].post(IDEAS, &idea("A <second> crane")).await;
    let body = made.expect(201);
    assert_eq!(
        (made.header("etag"), &body["title"], &body["status"]),
        ("\"1\"".to_owned(), &json!("A second crane"), &json!("submitted"))
    );
    assert_eq!(
        (&body["description"], &body["authorId"]),
        (&json!("It would <help>."), &json!(members::id(&people[0])))
    );
    let (path, vote) = (format!("{IDEAS}/{}", text(&body, "id")), format!("{IDEAS}/{}/vote", text(&body, "id")));
    let own = async |person: &Client| person.post(&vote, &json!({"value": 1})).await;
    own(&people[0]).await.problem(403, "OWN_IDEA");
    let theirs = submitted(&ada, &idea("Mine")).await;
    ada.post(&format!("{IDEAS}/{theirs}/vote"), &json!({"value": 1})).await.problem(403, "OWN_IDEA");
    for wrong in [json!({"value": 0}), json!({"value": 2}), json!({"value": "up"}), json!({})] {
        let answer = ada.post(&vote, &wrong).await;
        answer.problem(400, "VALIDATION_ERROR");
        assert_eq!(answer.faulty_fields(), ["value"], "{wrong}");
    }
    // Everybody votes at once, and some again and again: each counts once.
    let voters = [&ada, &people[1], &people[2], &ada, &people[1], &people[2]];
    let up = json!({"value": 1});
    let votes = voters.iter().map(|person| person.post(&vote, &up));
    for answer in futures_util::future::join_all(votes).await {
        answer.done(200);
    }
    assert_eq!(ada.get(&path).await.expect(200)["voteCount"], 3);
    let counted = people[1].post(&vote, &json!({"value": -1})).await.expect(200);
    assert_eq!((&counted["voteCount"], &counted["upVotes"], &counted["downVotes"]), (&json!(1), &json!(2), &json!(1)));
    assert_eq!(people[1].get(&path).await.expect(200)["myVote"], -1);
    people[1].delete(&vote).await.done(204);
    people[1].delete(&vote).await.problem(404, "NOT_FOUND");
    let read = people[1].get(&path).await.expect(200);
    assert_eq!((&read["voteCount"], &read["downVotes"], &read["myVote"]), (&json!(2), &json!(0), &Value::Null));
    // What people say stands below it; nobody of another organization sees any of it.
    people[2].post(&format!("{path}/comments"), &json!({"body": "Where to?"})).await.done(201);
    let comments = ada.get(&format!("{path}/comments")).await.expect(200);
    assert_eq!((&comments["total"], &comments["items"][0]["authorId"]), (&json!(1), &json!(members::id(&people[2]))));
    let eve = host.client().register("eve@example.com", "Reef").await;
    eve.get(&path).await.problem(404, "NOT_FOUND");
    own(&eve).await.problem(404, "NOT_FOUND");
    eve.post(&format!("{path}/comments"), &json!({"body": "x"})).await.problem(404, "NOT_FOUND");
    eve.post(&format!("{path}/convert"), &json!({"to": "task"})).await.problem(404, "NOT_FOUND");
    assert_eq!(eve.get("/api/innovation/metrics").await.expect(200)["ideas"], 0);
    people[2].put(&path, &json!({"title": "mine now"})).await.problem(403, "FORBIDDEN");
    people[0].put(&path, &json!({"title": "Two cranes", "voteCount": 99, "status": "approved"})).await.done(200);
    let read = ada.get(&path).await.expect(200);
    assert_eq!(
        (&read["title"], &read["voteCount"], &read["status"]),
        (&json!("Two cranes"), &json!(2), &json!("submitted"))
    );
    people[0].delete(&path).await.problem(403, "FORBIDDEN");
    for (status, kind) in [("approved", "innovation.idea.approved"), ("implemented", "innovation.idea.implemented")] {
        ada.put(&format!("{path}/status"), &json!({"status": status})).await.done(200);
        let told = heard(&ada, kind, 1).await;
        assert_eq!((&told[0]["ideaId"], &told[0]["status"]), (&body["id"], &json!(status)), "{told:?}");
    }
    ada.delete(&path).await.done(204);
    ada.get(&format!("{path}/comments")).await.problem(404, "NOT_FOUND");
    // Others hear of each vote that changes something, and of one that is taken back.
    let told = heard(&ada, "innovation.idea.submitted", 2).await;
    let authors =
        |event: &Value| (event["ideaId"] == body["id"]) == (event["authorId"] == members::id(&people[0]).as_str());
    assert!(told.iter().all(authors), "{told:?}");
    let votes = heard(&ada, "innovation.idea.voted", 5).await;
    let mut values: Vec<i64> = votes.iter().filter_map(|vote| vote["value"].as_i64()).collect();
    values.sort_unstable();
    assert_eq!(values, [-1, 0, 1, 1, 1], "{votes:?}");
}

#[tokio::test]
async fn an_idea_goes_its_way_with_reasons_and_scores() {
    let (_host, ada, people) = house(&["bob", "cleo"]).await;
    let (bob, cleo) = (&people[0], &people[1]);
    let id = submitted(bob, &idea("Night shifts")).await;
    let path = format!("{IDEAS}/{id}");
    let to = async |person: &Client, body: Value| person.put(&format!("{path}/status"), &body).await;
    to(bob, json!({"status": "approved"})).await.problem(403, "FORBIDDEN");
    to(cleo, json!({"status": "implemented"})).await.problem(409, "ILLEGAL_TRANSITION");
    for body in [json!({"status": "rejected"}), json!({"status": "rejected", "reason": "  "})] {
        let answer = to(cleo, body).await;
        answer.problem(400, "VALIDATION_ERROR");
        assert_eq!(answer.faulty_fields(), ["reason"]);
    }
    let score = json!({"impact": 8, "effort": 3, "alignment": 5});
    bob.post(&format!("{path}/evaluate"), &score).await.problem(403, "FORBIDDEN");
    let wrong = cleo.post(&format!("{path}/evaluate"), &json!({"impact": -1, "effort": 101})).await;
    wrong.problem(400, "VALIDATION_ERROR");
    assert!(wrong.faulty_fields().contains(&"alignment".to_owned()), "{}", wrong.text());
    let scored = cleo.post(&format!("{path}/evaluate"), &score).await.expect(200);
    assert_eq!((&scored["score"]["impact"], &scored["scoreValue"]), (&json!(8.0), &json!(10.0)), "{scored}");
    let rejected = to(cleo, json!({"status": "rejected", "reason": "Too loud."})).await.expect(200);
    assert_eq!((&rejected["statusReason"], rejected["decidedAt"].is_string()), (&json!("Too loud."), true));
    cleo.post(&format!("{path}/vote"), &json!({"value": 1})).await.problem(409, "IDEA_CLOSED");
    cleo.post(&format!("{path}/convert"), &json!({"to": "task", "projectId": "p"})).await.problem(409, "IDEA_CLOSED");
    to(cleo, json!({"status": "under_review"})).await.done(200);
    to(cleo, json!({"status": "approved"})).await.done(200);
    let stale = cleo.request(Method::PUT, &format!("{path}/status")).header("if-match", "\"1\"");
    cleo.send(stale.json(&json!({"status": "implemented"}))).await.problem(412, "PRECONDITION_FAILED");
    to(cleo, json!({"status": "implemented"})).await.done(200);
    to(cleo, json!({"status": "parked"})).await.problem(409, "ILLEGAL_TRANSITION");
    // Time that was spent is one's own, and a sum for everybody.
    let time = "/api/innovation/time";
    let entry = bob.post(time, &json!({"ideaId": id, "minutes": 90, "date": "2026-03-02"})).await.expect(201);
    bob.post(time, &json!({"minutes": 1400, "date": "2026-03-02"})).await.problem(422, "DAY_FULL");
    // However many come at once, a day has no more than its minutes: three times 400 fit into the 1350 that are left.
    let many = json!({"minutes": 400, "date": "2026-03-02"});
    let entries = (0..6).map(|_| bob.post(time, &many));
    let kept = futures_util::future::join_all(entries).await;
    assert_eq!(kept.iter().filter(|answer| answer.status == 201).count(), 3, "{kept:?}");
    for entry in kept.iter().filter(|answer| answer.status == 201) {
        bob.delete(&format!("{time}/{}", text(&entry.json(), "id"))).await.done(204);
    }
    bob.post(time, &json!({"minutes": 30, "date": "2026-02-30"})).await.problem(400, "VALIDATION_ERROR");
    bob.post(time, &json!({"minutes": 30, "ideaId": "nothing"})).await.problem(404, "NOT_FOUND");
    cleo.post(time, &json!({"minutes": 30})).await.done(201);
    assert_eq!(bob.get(time).await.expect(200)["total"], 1);
    cleo.get(&format!("{time}?userId={}", members::id(bob))).await.problem(403, "FORBIDDEN");
    cleo.delete(&format!("{time}/{}", text(&entry, "id"))).await.problem(404, "NOT_FOUND");
    let metrics = ada.get("/api/innovation/metrics").await.expect(200);
    assert_eq!(
        (&metrics["byStatus"]["implemented"], &metrics["byStatus"]["parked"]),
        (&json!(1), &json!(0)),
        "{metrics}"
    );
    assert_eq!(
        (&metrics["time"]["minutes"], &metrics["time"]["minutesOnIdeas"]),
        (&json!(120), &json!(90)),
        "{metrics}"
    );
    assert_eq!((&metrics["averageScore"], &metrics["time"]["people"]), (&json!(10.0), &json!(2)), "{metrics}");
    let listed =
        ada.get(&format!("{IDEAS}?status=implemented&category=quay&sortBy=scoreValue&order=desc")).await.expect(200);
    assert_eq!(listed["items"][0]["id"], id.as_str(), "{listed}");
}

#[tokio::test]
async fn an_idea_becomes_one_task_and_one_roadmap_item() {
    let (_host, ada, people) = house(&["bob", "cleo"]).await;
    let (bob, cleo) = (&people[0], &people[1]);
    let project = plans::project(&ada, "Harbour").await;
    let loose = submitted(bob, &idea("Loose")).await;
    let answer = bob.post(&format!("{IDEAS}/{loose}/convert"), &json!({"to": "task"})).await;
    answer.problem(400, "VALIDATION_ERROR");
    assert_eq!(answer.faulty_fields(), ["projectId"]);
    let mut body = idea("A lighthouse");
    body["projectId"] = json!(project);
    let id = submitted(bob, &body).await;
    let convert = format!("{IDEAS}/{id}/convert");
    // Whoever converts at the same moment makes no second task.
    let people = [&ada, bob, cleo, &ada];
    let wish = json!({"to": "task", "fields": {"priority": "high", "projectId": "elsewhere"}});
    let answers = futures_util::future::join_all(people.iter().map(|person| person.post(&convert, &wish))).await;
    let converted: Vec<Value> =
        answers.iter().filter(|answer| answer.status == 200).map(|answer| answer.json()).collect();
    assert_eq!(converted.len(), 1, "{:?}", answers.iter().map(|answer| answer.text()).collect::<Vec<_>>());
    assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 409)));
    let tasks = ada.get(&format!("/api/tasks?projectId={project}")).await.expect(200);
    assert_eq!(tasks["total"], 1, "{tasks}");
    let task = &tasks["items"][0];
    assert_eq!(
        (&task["title"], &task["priority"], &task["id"]),
        (&json!("A lighthouse"), &json!("high"), &converted[0]["linkedTaskId"])
    );
    let again = ada.post(&convert, &wish).await.problem(409, "ALREADY_CONVERTED");
    assert_eq!(again["targetId"], task["id"]);
    // A roadmap there must be; then the item is a milestone of it, or an epic below the one that is named.
    ada.post(&convert, &json!({"to": "roadmap"})).await.problem(422, "NO_ROADMAP");
    let roadmap =
        text(&ada.post("/api/roadmaps", &json!({"projectId": project, "name": "Year"})).await.expect(201), "id");
    let item = text(&ada.post(&convert, &json!({"to": "roadmap"})).await.expect(200), "linkedRoadmapItem");
    let milestone = ada.get(&format!("/api/roadmaps/milestones/{item}")).await.expect(200);
    assert_eq!((&milestone["name"], &milestone["roadmapId"]), (&json!("A lighthouse"), &json!(roadmap)));
    ada.post(&convert, &json!({"to": "roadmap"})).await.problem(409, "ALREADY_CONVERTED");
    let below = json!({"to": "roadmap", "milestoneId": item});
    let epic = ada.post(&format!("{IDEAS}/{loose}/convert"), &below).await.expect(200);
    ada.get(&format!("/api/roadmaps/epics/{}", text(&epic, "linkedRoadmapItem"))).await.done(200);
    // What planning refuses is refused here, and may be tried again.
    let third = submitted(bob, &idea("Third")).await;
    let path = format!("{IDEAS}/{third}/convert");
    bob.post(&path, &json!({"to": "task", "projectId": "nothing"})).await.problem(404, "NOT_FOUND");
    bob.post(&path, &json!({"to": "task", "projectId": project})).await.done(200);
    let metrics = ada.get(&format!("/api/innovation/metrics?projectId={project}")).await.expect(200);
    assert_eq!(
        (&metrics["conversions"]["tasks"], &metrics["conversions"]["roadmapItems"]),
        (&json!(1), &json!(1)),
        "{metrics}"
    );
    ada.post(&path, &json!({"to": "moon"})).await.problem(400, "VALIDATION_ERROR");
}

#[tokio::test]
async fn an_experiment_says_what_becomes_of_an_idea() {
    let (_host, ada, people) = house(&["bob"]).await;
    // What has won is new, or is what was there before.
    for (wins, status) in [(false, "approved"), (true, "under_review")] {
        let path = format!("{IDEAS}/{}", submitted(&people[0], &idea("Green lights")).await);
        let wish = json!({"to": "experiment", "fields": {"primaryMetric": "arrivals"}});
        let tried = ada.post(&format!("{path}/convert"), &wish).await.expect(200);
        assert_eq!(tried["status"], "in_experiment");
        ada.post(&format!("{path}/convert"), &wish).await.problem(409, "ALREADY_CONVERTED");
        let experiment = format!("/api/experiments/{}", text(&tried, "experimentId"));
        let made = ada.get(&experiment).await.expect(200);
        assert_eq!((&made["name"], &made["primaryMetric"]), (&json!("Green lights"), &json!("arrivals")), "{made}");
        ada.post(&format!("{experiment}/start"), &json!({})).await.done(200);
        let variants = made["variants"].as_array().cloned().unwrap_or_default();
        let winner = variants.iter().find(|variant| variant["isControl"] == wins).map(|variant| text(variant, "id"));
        let decision = json!({"winner": winner, "conclusion": "Seen by all."});
        ada.post(&format!("{experiment}/conclude"), &decision).await.done(200);
        let idea = eventually("the end of the experiment", async || {
            let idea = ada.get(&path).await.expect(200);
            (idea["status"] != "in_experiment").then_some(idea)
        })
        .await;
        assert_eq!(idea["status"], status, "{idea}");
        assert!(idea["statusReason"].is_string(), "{idea}");
    }
}
