//! resource-management: reports add up, suggestions and proposals say why, plans change nothing, and what other services tell
//! is followed.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;

use berth_tests::answer::text;
use berth_tests::days::day;
use berth_tests::wait::heard_of;
use berth_tests::{Client, Host, Manifest, eventually, members};
use serde_json::{Value, json};

const CAPACITY: &str = "/api/capacity";

async fn profile(admin: &Client, user: &str, more: &Value) {
    let mut body = json!({ "userId": user });
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    admin.post("/api/resources", &body).await.done(201);
}

async fn planned(admin: &Client, user: &str, hours: f64, first: i64, last: i64) -> Value {
    let body =
        json!({"userId": user, "allocatedHours": hours, "startDate": day(first), "endDate": day(last), "force": true});
    admin.post("/api/capacity/allocations", &body).await.expect(201)
}

struct Crew {
    host: Host,
    ada: Client,
    /// Can do everything and is full.
    bob: String,
    /// Can do some of it and has time.
    cem: String,
    /// Can do nothing of it and has nothing to do.
    dan: String,
}

async fn crew(manifest: Manifest) -> Crew {
    let host = Host::with(manifest).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let mut ids = Vec::new();
    for name in ["bob", "cem", "dan"] {
        ids.push(members::id(&members::bring(&host, &ada, &format!("{name}@example.com"), "Member").await));
    }
    let [bob, cem, dan] = [ids[0].clone(), ids[1].clone(), ids[2].clone()];
    profile(&ada, &bob, &json!({"skills": [{"skill": "rust", "level": 5}]})).await;
    profile(&ada, &cem, &json!({"skills": [{"skill": "Rust", "level": 3}]})).await;
    profile(&ada, &dan, &json!({"weeklyHours": 20})).await;
    Crew { host, ada, bob, cem, dan }
}

#[tokio::test]
async fn reports_add_up_and_scores_say_what_they_are_made_of() {
    let Crew { host, ada, bob, cem, dan } = crew(Manifest::services()).await;
    let full = planned(&ada, &bob, 50.0, 0, 4).await;
    planned(&ada, &cem, 10.0, 0, 4).await;
    // Utilization: everybody, each once.
    let range = format!("from={}&to={}", day(0), day(6));
    let by_user = ada.get(&format!("{CAPACITY}/utilization?{range}&groupBy=user")).await.expect(200);
    assert_eq!(by_user["total"]["total"], 100.0, "{by_user}");
    assert_eq!((&by_user["total"]["allocated"], &by_user["total"]["utilization"]), (&json!(60.0), &json!(0.6)));
    assert_eq!(by_user["total"]["available"], 50.0, "what one has too much of is no time of another one's");
    let by_week = ada.get(&format!("{CAPACITY}/utilization?{range}&groupBy=week")).await.expect(200);
    assert_eq!((&by_week["groups"][0]["key"], &by_week["groups"][0]["hours"]), (&json!(day(0)), &by_user["total"]));
    // A forecast of some of them.
    let body = json!({"userIds": [bob, cem], "months": 1});
    let forecast = ada.post(&format!("{CAPACITY}/forecast"), &body).await.expect(200);
    let weeks = forecast["weeks"].as_array().cloned().unwrap_or_default();
    let found = weeks.iter().find(|week| week["weekStart"] == day(0).as_str()).cloned().unwrap_or_default();
    assert_eq!((&found["hours"]["total"], &found["overallocationHours"]), (&json!(80.0), &json!(10.0)), "{forecast}");
    assert_eq!(found["expectedHours"], 60.0, "nothing is on record yet");
    // Who could do twenty hours of Rust?
    let window = json!({"start": day(0), "end": day(4)});
    let question =
        json!({"skills": [{"skill": "rust", "level": 4}], "hours": 20, "window": window, "userIds": [bob, cem, dan]});
    let suggested = ada.post(&format!("{CAPACITY}/suggest"), &question).await.expect(200);
    let items = suggested["items"].as_array().cloned().unwrap_or_default();
    let order: Vec<&Value> = items.iter().map(|item| &item["userId"]).collect();
    assert_eq!(order, [&json!(cem), &json!(dan), &json!(bob)], "{suggested}");
    // 0.5 × 3/4 + 0.3 × 1 + 0.2 × 3/4; the second has time and knows nothing, the third knows everything and has no time: of
    // equals who has more time comes first.
    let scores: Vec<f64> = items.iter().filter_map(|item| item["score"].as_f64()).collect();
    assert_eq!(scores, [0.825, 0.5, 0.5]);
    for item in &items {
        let parts = item["parts"].as_array().cloned().unwrap_or_default();
        let names: Vec<&str> = parts.iter().filter_map(|part| part["name"].as_str()).collect();
        assert_eq!(names, ["skill", "availability", "balance"]);
        let points: f64 = parts.iter().filter_map(|part| part["points"].as_f64()).sum();
        assert!((points - item["score"].as_f64().unwrap_or_default()).abs() < 1e-6, "{item}");
    }
    assert_eq!(items[0]["parts"][0]["reason"], "Skills: rust 3 of 4.");
    // Ten hours are too much, and there is room for them; nothing is changed by saying so.
    let proposal = ada.post(&format!("{CAPACITY}/rebalance"), &json!({"to": day(6)})).await.expect(200);
    assert_eq!(
        (&proposal["overallocationBefore"], &proposal["overallocationAfter"]),
        (&json!(10.0), &json!(0.0)),
        "{proposal}"
    );
    let step = &proposal["proposals"][0];
    assert_eq!(
        (&step["allocationId"], &step["fromUserId"], &step["toUserId"]),
        (&full["id"], &json!(bob), &json!(cem))
    );
    assert_eq!((&step["hours"], step["parts"].as_array().map(Vec::len)), (&json!(10.0), Some(3)));
    let again = ada.get(&format!("{CAPACITY}?userId={bob}&weekStart={}", day(0))).await.expect(200);
    assert_eq!(again["hours"]["allocated"], 50.0);
    // What would be: somebody comes, and somebody is away.
    let scenario = json!({"hires": [{"name": "Newcomer", "weeklyHours": 30, "startDate": day(0)}],
        "timeOff": [{"userId": cem, "startDate": day(0), "endDate": day(4)}], "userIds": [bob, cem]});
    let plan = json!({"name": "Summer", "startDate": day(0), "endDate": day(6), "scenario": scenario});
    let plan = text(&ada.post(&format!("{CAPACITY}/plans"), &plan).await.expect(201), "id");
    let path = format!("{CAPACITY}/plans/{plan}");
    let would_be = ada.post(&format!("{path}/simulate"), &json!({})).await.expect(200);
    assert_eq!(
        (&would_be["baseline"]["hours"]["total"], &would_be["scenario"]["hours"]["total"]),
        (&json!(80.0), &json!(70.0)),
        "{would_be}"
    );
    assert_eq!(would_be["scenario"]["overallocationHours"], 20.0);
    let other = ada.post(&format!("{path}/simulate"), &json!({"scenario": {"userIds": [bob]}})).await.expect(200);
    assert_eq!(other["baseline"], other["scenario"]);
    let eve = host.client().register("eve@example.com", "Reef").await;
    for answer in
        [eve.get(&path).await, eve.post(&format!("{path}/simulate"), &json!({})).await, eve.delete(&path).await]
    {
        answer.problem(404, "NOT_FOUND");
    }
    let strange = json!({"userIds": [bob], "months": 1});
    eve.post(&format!("{CAPACITY}/forecast"), &strange).await.problem(404, "NOT_FOUND");
    let nothing = eve.get(&format!("{CAPACITY}/utilization?{range}")).await.expect(200);
    assert_eq!((&nothing["groups"], &nothing["total"]["utilization"]), (&json!([]), &json!(0.0)));
    ada.delete(&path).await.done(204);
}

#[tokio::test]
async fn what_other_services_tell_is_followed() {
    let manifest = Manifest::services_and_herald("", "")
        .with("[\"herald_\"]\npublish = [\"observability.#\"]", "[\"herald_\"]\npublish = [\"learning.#\"]")
        .with("snapshot = \"weekly\"", "snapshot = \"1s\"");
    let Crew { host, ada, bob, cem, dan } = crew(manifest).await;
    planned(&ada, &bob, 40.0, 0, 4).await;
    planned(&ada, &dan, 5.0, 0, 4).await;
    let team = text(&ada.post("/api/teams", &json!({"name": "Crane"})).await.expect(201), "id");
    for user in [&bob, &dan] {
        ada.post(&format!("/api/teams/{team}/members"), &json!({"userId": user, "role": "member"})).await.done(200);
    }
    // A holiday takes a day of everybody's; who was full has too much to do.
    let holiday = json!({"name": "Harbour day", "startDate": day(1), "endDate": day(1)});
    let holiday = text(&ada.post(&format!("{CAPACITY}/holidays"), &holiday).await.expect(201), "id");
    let alerts = async || {
        let page = ada.get(&format!("{CAPACITY}/overallocations?userId={bob}")).await.expect(200);
        page["items"].as_array().cloned().unwrap_or_default()
    };
    let alert = eventually("the alert of the holiday", async || alerts().await.pop()).await;
    assert_eq!((&alert["overallocationHours"], &alert["weekStart"]), (&json!(8.0), &json!(day(0))), "{alert}");
    let seen = ada.get(&format!("{CAPACITY}?userId={dan}&weekStart={}", day(0))).await.expect(200);
    assert_eq!((&seen["hours"]["total"], &seen["hours"]["timeOff"]), (&json!(16.0), &json!(4.0)), "{seen}");
    ada.delete(&format!("{CAPACITY}/holidays/{holiday}")).await.done(204);
    eventually("its end", async || alerts().await.is_empty().then_some(())).await;
    // What somebody learns is in their profile.
    let learned = json!({"type": "learning.skill.updated", "data": {"userId": cem, "skill": "Go", "level": 2}});
    ada.post("/api/herald", &learned).await.done(204);
    let skills = async || {
        let page = ada.get("/api/resources?skill=go").await.expect(200);
        page["items"].as_array().and_then(|items| items.first().cloned())
    };
    assert_eq!(eventually("the new skill", skills).await["userId"], json!(cem));
    // An absence in one's own calendar is asked for here.
    let event = json!({"title": "Away", "eventType": "pto", "userId": members::id(&ada), "allDay": true, "timezone": "UTC",
        "startTime": format!("{}T00:00:00Z", day(7)), "endTime": format!("{}T00:00:00Z", day(9))});
    ada.post("/api/calendar/events", &event).await.done(201);
    let asked = async || {
        let page = ada.get(&format!("{CAPACITY}/time-off?userId={}", members::id(&ada))).await.expect(200);
        page["items"].as_array().and_then(|items| items.first().cloned())
    };
    let asked = eventually("the request", asked).await;
    assert_eq!(
        (&asked["status"], &asked["startDate"], &asked["endDate"]),
        (&json!("requested"), &json!(day(7)), &json!(day(8)))
    );
    // The weeks that are over are on record, once each.
    let recorded = async || {
        let page = ada.get(&format!("{CAPACITY}/snapshots?userId={bob}&limit=200")).await.expect(200);
        let weeks: Vec<String> =
            page["items"].as_array().into_iter().flatten().map(|row| text(row, "weekStart")).collect();
        (page["items"][0]["version"].as_i64() > Some(1)).then_some(weeks)
    };
    let weeks = eventually("the snapshots", recorded).await;
    assert_eq!((weeks.len(), weeks.iter().collect::<BTreeSet<_>>().len()), (2, 2), "{weeks:?}");
    // A team's are the sums of its people.
    let of_team = async || {
        let page = ada.get(&format!("{CAPACITY}/snapshots?teamId={team}&limit=200")).await.expect(200);
        let totals: Vec<&Value> = page["items"].as_array().into_iter().flatten().map(|row| &row["total"]).collect();
        (totals == [60.0, 60.0]).then_some(())
    };
    eventually("the snapshots of the team", of_team).await;
    // So is what reports say of it, however they are grouped.
    let of_team = format!("from={}&to={}&teamId={team}", day(0), day(6));
    for group_by in ["team", "month"] {
        let report = ada.get(&format!("{CAPACITY}/utilization?{of_team}&groupBy={group_by}")).await.expect(200);
        let groups = report["groups"].as_array().cloned().unwrap_or_default();
        let sum: f64 = groups.iter().filter_map(|group| group["hours"]["total"].as_f64()).sum();
        assert_eq!((&report["total"]["total"], sum), (&json!(60.0), 60.0), "{report}");
        assert!(group_by == "month" || groups[0]["key"] == team.as_str(), "{report}");
    }
    // A holiday of one region is that of those who are there.
    ada.put(&format!("/api/resources/{dan}"), &json!({"region": "DE-BE"})).await.done(200);
    let regional = json!({"name": "Of Berlin", "startDate": day(2), "endDate": day(2), "region": "DE-BE"});
    ada.post(&format!("{CAPACITY}/holidays"), &regional).await.done(201);
    for (user, total) in [(&dan, 16.0), (&bob, 40.0)] {
        let seen = ada.get(&format!("{CAPACITY}?userId={user}&weekStart={}", day(0))).await.expect(200);
        assert_eq!(seen["hours"]["total"], total, "{seen}");
    }
    // Who leaves has nothing planned any more.
    let organization = text(&ada.account["organization"], "id");
    let below = format!("/api/organizations/{organization}/memberships");
    let list = ada.get(&format!("{below}?limit=200")).await.expect(200);
    let theirs = list["items"].as_array().into_iter().flatten().find(|row| row["userId"] == dan.as_str()).cloned();
    ada.delete(&format!("{below}/{}", text(&theirs.unwrap_or_default(), "id"))).await.done(204);
    let open = async || {
        let page = ada.get(&format!("{CAPACITY}/allocations?userId={dan}&status=planned,active")).await.expect(200);
        (page["total"] == 0).then_some(())
    };
    eventually("the release", open).await;
    ada.get(&format!("/api/resources/{dan}")).await.problem(404, "NOT_FOUND");
    for (kind, user) in [("allocated", &bob), ("overallocated", &bob), ("released", &dan)] {
        heard_of(&ada, &format!("capacity.{kind}"), 1, |data| data["userId"] == user.as_str()).await;
    }
    drop(host);
}
