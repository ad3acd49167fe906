//! calendar: events that keep to the wall clock, series that can be changed in part, conflicts, free time, rules of
//! environments, and views.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use berth_tests::answer::text;
use berth_tests::members::host_with_ada;
use berth_tests::{Client, members, plans};
use reqwest::Method;
use serde_json::{Value, json};

const EVENTS: &str = "/api/calendar/events";

fn event(title: &str, start: &str, end: &str) -> Value {
    json!({"title": title, "startTime": start, "endTime": end, "eventType": "meeting"})
}

fn with(mut body: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    body
}

async fn made(client: &Client, body: &Value) -> Value {
    client.post(EVENTS, body).await.expect(201)
}

async fn listed(client: &Client, from: &str, to: &str) -> Vec<Value> {
    let page = client.get(&format!("{EVENTS}?from={from}&to={to}&limit=200")).await.expect(200);
    page["items"].as_array().cloned().unwrap_or_default()
}

fn starts(items: &[Value]) -> Vec<String> {
    items.iter().map(|item| text(item, "startTime")).collect()
}

#[tokio::test]
async fn an_event_is_made_read_changed_and_deleted() {
    let (host, ada) = host_with_ada().await;
    let calendar = ada
        .post("/api/calendar/calendars", &json!({"name": "Mine", "timezone": "Europe/Berlin", "color": "#aabbcc"}))
        .await
        .expect(201);
    let body =
        with(event("Planning", "2026-03-02T09:00:00Z", "2026-03-02T10:00:00Z"), &json!({"calendarId": calendar["id"]}));
    let one = made(&ada, &body).await;
    assert_eq!((&one["timezone"], &one["organizerId"]), (&json!("Europe/Berlin"), &json!(members::id(&ada))), "{one}");
    assert_eq!(one["conflicts"], json!([]));
    let path = format!("{EVENTS}/{}", text(&one, "id"));
    assert_eq!(ada.get(&path).await.expect(200)["title"], "Planning");
    let moved = ada.put(&path, &json!({"startTime": "2026-03-02T11:00:00Z"})).await.expect(200);
    assert_eq!(moved["endTime"], "2026-03-02T12:00:00.000Z", "who moves the beginning moves the end");
    assert_eq!((&moved["version"], &moved["sequence"]), (&json!(2), &json!(1)));
    let stale = ada.request(Method::PUT, &path).header("if-match", "\"1\"").json(&json!({"title": "x"}));
    ada.send(stale).await.problem(412, "PRECONDITION_FAILED");
    // Both bounds are needed, and not more than a year of them.
    let wrong = ada.get(&format!("{EVENTS}?from=2026-03-01T00:00:00Z")).await;
    wrong.problem(400, "VALIDATION_ERROR");
    assert_eq!(wrong.faulty_fields(), ["to"]);
    ada.get(&format!("{EVENTS}?from=2026-01-01T00:00:00Z&to=2027-01-03T00:00:00Z"))
        .await
        .problem(400, "VALIDATION_ERROR");
    let page = ada
        .get(&format!("{EVENTS}?from=2026-03-01T00:00:00Z&to=2026-04-01T00:00:00Z&type=meeting,review"))
        .await
        .expect(200);
    assert_eq!((&page["total"], &page["limit"]), (&json!(1), &json!(50)), "{page}");
    // Somebody else's organization has none of it.
    let eve = host.client().register("eve@example.com", "Reef").await;
    eve.get(&path).await.problem(404, "NOT_FOUND");
    eve.put(&path, &json!({"title": "x"})).await.problem(404, "NOT_FOUND");
    eve.delete(&path).await.problem(404, "NOT_FOUND");
    eve.get(&format!("{path}/conflicts")).await.problem(404, "NOT_FOUND");
    eve.post(&format!("{path}/respond"), &json!({"response": "accepted"})).await.problem(404, "NOT_FOUND");
    eve.get(&format!("/api/calendar/calendars/{}", text(&calendar, "id"))).await.problem(404, "NOT_FOUND");
    assert!(listed(&eve, "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z").await.is_empty());
    // A viewer looks on.
    let viewer = members::bring(&host, &ada, "vic@example.com", "Viewer").await;
    viewer.post(EVENTS, &body).await.problem(403, "FORBIDDEN");
    viewer.delete(&path).await.problem(403, "FORBIDDEN");
    viewer.get(&path).await.done(200);
    ada.delete(&path).await.done(204);
    ada.get(&path).await.problem(404, "NOT_FOUND");
    ada.delete(&format!("/api/calendar/calendars/{}", text(&calendar, "id"))).await.done(204);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name() {
    let (_host, ada) = host_with_ada().await;
    let refused = async |more: Value, field: &str| {
        let body = with(event("x", "2026-03-02T09:00:00Z", "2026-03-02T10:00:00Z"), &more);
        let answer = ada.post(EVENTS, &body).await;
        answer.problem(400, "VALIDATION_ERROR");
        assert_eq!(answer.faulty_fields(), [field], "{more}");
    };
    refused(json!({"endTime": "2026-03-02T09:00:00Z"}), "endTime").await;
    refused(json!({"endTime": "2026-04-02T09:00:00Z"}), "endTime").await;
    refused(json!({"timezone": "Mars/Base"}), "timezone").await;
    refused(json!({"eventType": "party"}), "eventType").await;
    for rule in [
        "FREQ=SECONDLY",
        "FREQ=DAILY;BYHOUR=9",
        "every day",
        "FREQ=DAILY;COUNT=2;UNTIL=20270101T000000Z",
        "FREQ=MONTHLY;BYDAY=9MO",
    ] {
        refused(json!({"rrule": rule}), "rrule").await;
    }
    refused(json!({"rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"}), "rrule").await;
    refused(json!({"rrule": "FREQ=DAILY;UNTIL=20200101T000000Z"}), "rrule").await;
    refused(json!({"attendees": [{"isRequired": true}]}), "attendees[0]").await;
    refused(json!({"timeRules": {"allowedHours": ["9-5"]}}), "timeRules.allowedHours[0]").await;
    let long = json!({"allDay": true, "endTime": "2026-06-02T00:00:00Z"});
    made(&ada, &with(event("Sabbatical", "2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z"), &long)).await;
    ada.get("/api/calendar/views/day?date=yesterday").await.problem(400, "VALIDATION_ERROR");
    ada.get("/api/calendar/availability?from=2026-01-01T00:00:00Z&to=2025-01-01T00:00:00Z")
        .await
        .problem(400, "VALIDATION_ERROR");
}

#[tokio::test]
async fn a_series_keeps_to_the_wall_clock_and_is_expanded_in_the_range_alone() {
    let (_host, ada) = host_with_ada().await;
    let body = with(
        event("Stand-up", "2026-03-26T01:30:00Z", "2026-03-26T01:45:00Z"),
        &json!({"timezone": "Europe/Berlin", "rrule": "FREQ=DAILY"}),
    );
    let series = made(&ada, &body).await;
    // 02:30 in Berlin; on the 29th there is no such time, and in October it is there twice.
    let march = listed(&ada, "2026-03-28T00:00:00Z", "2026-03-31T00:00:00Z").await;
    assert_eq!(starts(&march), ["2026-03-28T01:30:00.000Z", "2026-03-29T01:30:00.000Z", "2026-03-30T00:30:00.000Z"]);
    let october = listed(&ada, "2026-10-24T00:00:00Z", "2026-10-27T00:00:00Z").await;
    assert_eq!(starts(&october), ["2026-10-24T00:30:00.000Z", "2026-10-25T00:30:00.000Z", "2026-10-26T01:30:00.000Z"]);
    assert_eq!(march[0]["recurrenceParentId"], series["id"]);
    let year = ada
        .get(&format!("{EVENTS}?from=2026-01-01T00:00:00Z&to=2027-01-01T00:00:00Z&limit=5&page=2"))
        .await
        .expect(200);
    assert_eq!(
        (&year["total"], &year["offset"], &year["isTruncated"]),
        (&json!(281), &json!(5), &json!(false)),
        "{year}"
    );
    let far = listed(&ada, "2150-01-01T00:00:00Z", "2150-01-03T00:00:00Z").await;
    assert_eq!(far.len(), 2);
    // One occurrence has an address of its own.
    let one = ada.get(&format!("{EVENTS}/{}", text(&march[1], "id"))).await.expect(200);
    assert_eq!(one["startTime"], "2026-03-29T01:30:00.000Z");
    ada.get(&format!("{EVENTS}/{}_20260329T013100Z", text(&series, "id"))).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn one_occurrence_the_following_or_all_are_changed() {
    let (_host, ada) = host_with_ada().await;
    let body = with(
        event("Weekly", "2026-03-02T09:00:00Z", "2026-03-02T10:00:00Z"),
        &json!({"timezone": "Europe/Berlin", "rrule": "FREQ=WEEKLY;COUNT=8"}),
    );
    let series = text(&made(&ada, &body).await, "id");
    let all = async || listed(&ada, "2026-03-01T00:00:00Z", "2026-06-01T00:00:00Z").await;
    let items = all().await;
    assert_eq!(items.len(), 8);
    assert_eq!(items[4]["startTime"], "2026-03-30T08:00:00.000Z", "summer time has begun");
    // Which one is meant has to be said.
    let unsaid = ada.put(&format!("{EVENTS}/{series}?scope=this"), &json!({"title": "x"})).await;
    unsaid.problem(400, "VALIDATION_ERROR");
    assert_eq!(unsaid.faulty_fields(), ["recurrenceId"]);
    let path = format!("{EVENTS}/{series}?scope=this&recurrenceId=2026-03-09T09:00:00Z");
    let apart = ada.put(&path, &json!({"title": "Moved", "startTime": "2026-03-10T15:00:00Z"})).await.expect(200);
    assert_eq!(
        (&apart["recurrenceParentId"], &apart["recurrenceId"]),
        (&json!(series), &json!("2026-03-09T09:00:00.000Z"))
    );
    assert_eq!(apart["endTime"], "2026-03-10T16:00:00.000Z");
    let items = all().await;
    assert_eq!(
        (items.len(), &items[1]["title"], &items[1]["startTime"]),
        (8, &json!("Moved"), &json!("2026-03-10T15:00:00.000Z"))
    );
    // Asked for again by the same occurrence, it is the same row.
    let again = ada.put(&path, &json!({"title": "Moved again"})).await.expect(200);
    assert_eq!(again["id"], apart["id"]);
    // One is deleted, by its own id.
    ada.delete(&format!("{EVENTS}/{}?scope=this", text(&items[2], "id"))).await.done(204);
    assert_eq!(all().await.len(), 7);
    // From the sixth on it is another series, an hour later, of what was left of the count.
    let sixth = text(&items[5], "id");
    let later = ada
        .put(
            &format!("{EVENTS}/{sixth}?scope=following"),
            &json!({"startTime": "2026-04-06T09:00:00Z", "title": "Later"}),
        )
        .await;
    let later = later.expect(200);
    assert_ne!(later["id"], series);
    assert_eq!(later["rrule"], "FREQ=WEEKLY;COUNT=3");
    let items = all().await;
    let titles: Vec<String> = items.iter().map(|item| text(item, "title")).collect();
    assert_eq!(titles, ["Weekly", "Moved again", "Weekly", "Weekly", "Later", "Later", "Later"]);
    assert_eq!(items[6]["startTime"], "2026-04-20T09:00:00.000Z");
    // All of the first series move half an hour, told as the time of one of them; what stands apart keeps its own time.
    let fourth = text(&items[2], "id");
    ada.put(&format!("{EVENTS}/{fourth}?scope=all"), &json!({"startTime": "2026-03-23T09:30:00Z"})).await.done(200);
    let items = all().await;
    assert_eq!(
        starts(&items[..4]),
        [
            "2026-03-02T09:30:00.000Z",
            "2026-03-10T15:00:00.000Z",
            "2026-03-23T09:30:00.000Z",
            "2026-03-30T08:30:00.000Z"
        ]
    );
    // The rest is cut off, then everything goes with what stands apart.
    ada.delete(&format!("{EVENTS}/{}?scope=following", text(&items[5], "id"))).await.done(204);
    assert_eq!(all().await.len(), 5);
    ada.delete(&format!("{EVENTS}/{series}?scope=all")).await.done(204);
    assert_eq!(starts(&all().await), ["2026-04-06T09:00:00.000Z"]);
    ada.get(&format!("{EVENTS}/{}", text(&apart, "id"))).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn a_series_that_does_not_take_place_takes_what_stands_apart_along() {
    let (host, ada) = host_with_ada().await;
    let body =
        with(event("Weekly", "2026-03-02T09:00:00Z", "2026-03-02T10:00:00Z"), &json!({"rrule": "FREQ=WEEKLY;COUNT=3"}));
    let path = format!("{EVENTS}/{}", text(&made(&ada, &body).await, "id"));
    let one = format!("{path}?scope=this&recurrenceId=2026-03-09T09:00:00Z");
    let apart = ada.put(&one, &json!({"startTime": "2026-03-10T09:00:00Z"})).await.expect(200);
    assert_eq!(listed(&ada, "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z").await.len(), 3);
    ada.put(&format!("{path}?scope=all"), &json!({"status": "cancelled"})).await.done(200);
    assert!(listed(&ada, "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z").await.is_empty());
    assert_eq!(ada.get(&format!("{EVENTS}/{}", text(&apart, "id"))).await.expect(200)["status"], "cancelled");
    // Who is asked to the rest of a series at another time has to say again whether they come.
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let body = with(
        event("Rounds", "2026-06-01T09:00:00Z", "2026-06-01T10:00:00Z"),
        &json!({"rrule": "FREQ=WEEKLY;COUNT=4", "attendees": [{"userId": members::id(&bob)}]}),
    );
    let path = format!("{EVENTS}/{}", text(&made(&ada, &body).await, "id"));
    bob.post(&format!("{path}/respond"), &json!({"response": "accepted"})).await.done(200);
    let rest = format!("{path}?scope=following&recurrenceId=2026-06-15T09:00:00Z");
    let rest = ada.put(&rest, &json!({"startTime": "2026-06-15T15:00:00Z"})).await.expect(200);
    assert_eq!(rest["attendees"][0]["response"], "pending", "{rest}");
    assert_eq!(ada.get(&path).await.expect(200)["attendees"][0]["response"], "accepted");
}

#[tokio::test]
async fn attendees_answer_and_no_more_and_private_is_busy_to_others() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let cem = members::bring(&host, &ada, "cem@example.com", "Member").await;
    let vic = members::bring(&host, &ada, "vic@example.com", "Viewer").await;
    let body = with(
        event("Salaries", "2026-03-02T09:00:00Z", "2026-03-02T10:00:00Z"),
        &json!({"visibility": "private", "description": "secret", "location": "Room 1",
            "attendees": [{"userId": members::id(&vic)}, {"userId": members::id(&cem)}, {"email": "guest@example.com", "isRequired": false}]}),
    );
    let path = format!("{EVENTS}/{}", text(&made(&bob, &body).await, "id"));
    // Who is invited sees all of it, also a viewer, and answers; nothing else of it is theirs.
    assert_eq!(vic.get(&path).await.expect(200)["title"], "Salaries");
    let answer = vic.post(&format!("{path}/respond"), &json!({"response": "accepted"})).await.expect(200);
    assert_eq!(answer["response"], "accepted");
    cem.put(&path, &json!({"title": "Mine now"})).await.problem(403, "FORBIDDEN");
    cem.delete(&path).await.problem(403, "FORBIDDEN");
    ada.post(&format!("{path}/respond"), &json!({"response": "accepted"})).await.problem(403, "FORBIDDEN");
    cem.post(&format!("{path}/respond"), &json!({"response": "maybe"})).await.problem(400, "VALIDATION_ERROR");
    // Everybody else sees that somebody is busy, everywhere.
    for shown in [
        ada.get(&path).await.expect(200),
        listed(&ada, "2026-03-01T00:00:00Z", "2026-03-03T00:00:00Z").await[0].clone(),
    ] {
        assert_eq!((&shown["title"], &shown["isBusy"]), (&json!("Busy"), &json!(true)), "{shown}");
        for hidden in ["description", "location", "attendees"] {
            assert!(shown.get(hidden).is_none(), "{hidden}");
        }
    }
    ada.get(&format!("{path}/export.ics")).await.problem(403, "FORBIDDEN");
    // Not by asking for what it is, and not by changing it: what is seen as busy can be taken away and no more.
    let of_kind = ada.get(&format!("{EVENTS}?from=2026-03-01T00:00:00Z&to=2026-03-03T00:00:00Z&type=meeting")).await;
    assert_eq!(of_kind.expect(200)["total"], 0);
    let day = ada.get("/api/calendar/views/day?date=2026-03-02&type=meeting").await.expect(200);
    assert_eq!(day["total"], 0, "{day}");
    for change in [json!({}), json!({"visibility": "organization"})] {
        ada.put(&path, &change).await.problem(403, "FORBIDDEN");
    }
    // What somebody has set for themselves stays when the organizer reminds everybody.
    let own = format!("{path}/reminders");
    vic.put(&own, &json!({"reminders": [{"minutesBefore": 30}]})).await.done(200);
    bob.put(&path, &json!({"reminders": [{"minutesBefore": 10}]})).await.done(200);
    let reminders = vic.get(&own).await.expect(200);
    let leads: Vec<&Value> = reminders.as_array().into_iter().flatten().map(|one| &one["minutesBefore"]).collect();
    assert_eq!(leads, [&json!(10), &json!(30)], "{reminders}");
    // A new time asks everybody again.
    bob.put(&path, &json!({"startTime": "2026-03-02T11:00:00Z"})).await.done(200);
    let attendees = bob.get(&path).await.expect(200)["attendees"].clone();
    assert!(
        attendees.as_array().expect("attendees").iter().all(|attendee| attendee["response"] == "pending"),
        "{attendees}"
    );
    // One's own calendar is nobody else's.
    let calendar = bob.post("/api/calendar/calendars", &json!({"name": "Bob's"})).await.expect(201);
    cem.get(&format!("/api/calendar/calendars/{}", text(&calendar, "id"))).await.problem(404, "NOT_FOUND");
    cem.post("/api/calendar/calendars", &json!({"name": "All", "ownerType": "organization"}))
        .await
        .problem(403, "FORBIDDEN");
    ada.post("/api/calendar/calendars", &json!({"name": "All", "ownerType": "organization"})).await.done(201);
}

#[tokio::test]
async fn conflicts_are_found_kept_and_refused_where_they_are_not_wanted() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let weekly = with(
        event("Weekly", "2026-03-02T09:00:00Z", "2026-03-02T10:00:00Z"),
        &json!({"rrule": "FREQ=WEEKLY", "attendees": [{"userId": members::id(&bob)}]}),
    );
    made(&ada, &weekly).await;
    let own = event("Dentist", "2026-03-09T09:30:00Z", "2026-03-09T11:00:00Z");
    let refused = bob.post(EVENTS, &with(own.clone(), &json!({"rejectOnConflict": true}))).await;
    let problem = refused.problem(409, "EVENT_CONFLICT");
    assert_eq!(problem["conflicts"][0]["type"], "time");
    assert_eq!(problem["conflicts"][0]["startTime"], "2026-03-09T09:30:00.000Z", "{problem}");
    let check = bob.post("/api/calendar/conflicts/check", &own).await.expect(200);
    assert_eq!((&check["hasConflicts"], &check["conflicts"][0]["severity"]), (&json!(true), &json!("high")), "{check}");
    assert_eq!(
        bob.get(&format!("{EVENTS}?from=2026-03-09T10:30:00Z&to=2026-03-09T11:00:00Z")).await.expect(200)["total"],
        0
    );
    let dentist = made(&bob, &own).await;
    assert_eq!(dentist["conflicts"].as_array().map(Vec::len), Some(1), "it is made all the same: {dentist}");
    let path = format!("{EVENTS}/{}", text(&dentist, "id"));
    let conflicts = bob.get(&format!("{path}/conflicts")).await.expect(200);
    assert_eq!(conflicts["items"][0]["status"], "open");
    let conflict = format!("/api/calendar/conflicts/{}", text(&conflicts["items"][0], "id"));
    bob.put(&conflict, &json!({"status": "ignored", "resolution": "I leave earlier."})).await.done(200);
    // Out of the way it is none; back again it stays as somebody settled it, if nobody did it is open.
    bob.put(&path, &json!({"startTime": "2026-03-09T12:00:00Z"})).await.done(200);
    bob.put(&path, &json!({"startTime": "2026-03-09T09:30:00Z"})).await.done(200);
    assert_eq!(bob.get(&format!("{path}/conflicts")).await.expect(200)["items"][0]["status"], "ignored");
    let other = made(&bob, &event("Other", "2026-03-16T09:30:00Z", "2026-03-16T09:45:00Z")).await;
    let other_path = format!("{EVENTS}/{}", text(&other, "id"));
    bob.put(&other_path, &json!({"startTime": "2026-03-16T12:00:00Z"})).await.done(200);
    assert_eq!(bob.get(&format!("{other_path}/conflicts")).await.expect(200)["items"][0]["status"], "resolved");
    bob.put(&other_path, &json!({"startTime": "2026-03-16T09:30:00Z"})).await.done(200);
    assert_eq!(bob.get(&format!("{other_path}/conflicts")).await.expect(200)["items"][0]["status"], "open");
    // A step is not to begin before one that it waits for is done, whoever does them.
    let step = |id: &str, waits: Value, start: &str, end: &str| {
        let more =
            json!({"eventType": "agent_execution", "planId": "p1", "planStepId": id, "metadata": {"dependsOn": waits}});
        with(event("Step", start, end), &more)
    };
    made(&bob, &step("s1", json!([]), "2026-04-01T09:00:00Z", "2026-04-01T10:00:00Z")).await;
    let early = made(&bob, &step("s2", json!(["s1"]), "2026-04-01T08:00:00Z", "2026-04-01T08:30:00Z")).await;
    let found: Vec<&Value> = early["conflicts"].as_array().into_iter().flatten().map(|one| &one["type"]).collect();
    assert_eq!(found, [&json!("dependency")], "{early}");
    // What was done about a conflict of private events is told to who takes part in one of them.
    let quiet =
        with(event("Doctor", "2026-05-05T09:00:00Z", "2026-05-05T10:00:00Z"), &json!({"visibility": "private"}));
    made(&bob, &quiet).await;
    let again = made(&bob, &quiet).await;
    let conflict = format!("/api/calendar/conflicts/{}", text(&again["conflicts"][0], "id"));
    bob.put(&conflict, &json!({"status": "ignored", "resolution": "Both legs at once."})).await.done(200);
    assert_eq!(bob.get(&conflict).await.expect(200)["resolution"], "Both legs at once.");
    ada.get(&conflict).await.problem(404, "NOT_FOUND");
    for path in ["/api/calendar/conflicts".to_owned(), format!("{EVENTS}/{}/conflicts", text(&again, "id"))] {
        let listed = ada.get(&format!("{path}?limit=200")).await.expect(200);
        assert!(!listed.to_string().contains("legs"), "{listed}");
    }
    // Two deployments to one environment, and one agent twice.
    let deploy = with(
        event("Deploy", "2026-04-01T09:00:00Z", "2026-04-01T10:00:00Z"),
        &json!({"eventType": "deployment", "projectId": "p1", "environmentName": "Production", "agentId": "a1"}),
    );
    made(&ada, &deploy).await;
    let second = made(&bob, &deploy).await;
    let mut kinds: Vec<String> =
        second["conflicts"].as_array().expect("conflicts").iter().map(|conflict| text(conflict, "type")).collect();
    kinds.sort();
    assert_eq!(kinds, ["environment", "resource"]);
}

#[tokio::test]
async fn of_many_who_want_one_hour_one_gets_it() {
    let (_host, ada) = host_with_ada().await;
    let ada = std::sync::Arc::new(ada);
    let body = with(event("Mine", "2026-03-02T09:00:00Z", "2026-03-02T10:00:00Z"), &json!({"rejectOnConflict": true}));
    let writers: Vec<_> = (0..12)
        .map(|_| {
            let (ada, body) = (std::sync::Arc::clone(&ada), body.clone());
            tokio::spawn(async move { ada.post(EVENTS, &body).await.status })
        })
        .collect();
    let mut statuses = Vec::new();
    for writer in writers {
        statuses.push(writer.await.expect("a writer"));
    }
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 201 | 409)), "{statuses:?}");
}

#[tokio::test]
async fn of_many_who_want_one_room_one_gets_it() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let cem = members::bring(&host, &ada, "cem@example.com", "Member").await;
    for day in 2..8 {
        let body = with(
            event("Ours", &format!("2026-03-0{day}T09:00:00Z"), &format!("2026-03-0{day}T10:00:00Z")),
            &json!({"rejectOnConflict": true, "location": "Room 1"}),
        );
        let (one, two, three) = tokio::join!(ada.post(EVENTS, &body), bob.post(EVENTS, &body), cem.post(EVENTS, &body));
        let mut statuses = [one.status, two.status, three.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409], "{}", one.text());
    }
}

#[tokio::test]
async fn environments_have_hours() {
    let (host, ada) = host_with_ada().await;
    let project = plans::project(&ada, "Harbour").await;
    let rules = json!({"projectId": project, "environment": "Production", "allowedHours": ["09:00-17:00"],
        "blockedDays": ["saturday", "sunday", "2026-12-24"], "timezone": "Europe/Berlin"});
    let first = ada.put("/api/calendar/time-rules", &rules).await.expect(200);
    let again = ada
        .put("/api/calendar/time-rules", &with(rules.clone(), &json!({"allowedHours": ["09:00-16:00"]})))
        .await
        .expect(200);
    assert_eq!((&first["id"], &again["version"]), (&again["id"], &json!(2)));
    let listed =
        ada.get(&format!("/api/calendar/time-rules?projectId={project}&environment=production")).await.expect(200);
    assert_eq!(listed["items"][0]["allowedHours"], json!(["09:00-16:00"]), "{listed}");
    let wrong = ada.put("/api/calendar/time-rules", &with(rules.clone(), &json!({"blockedDays": ["someday"]}))).await;
    wrong.problem(400, "VALIDATION_ERROR");
    assert_eq!(wrong.faulty_fields(), ["blockedDays[0]"]);
    let member = members::bring(&host, &ada, "bob@example.com", "Member").await;
    member.put("/api/calendar/time-rules", &rules).await.problem(403, "FORBIDDEN");
    // Who does not see a project is not told when its environments may be changed.
    let secret = json!({"name": "Secret", "visibility": "private"});
    let secret = text(&ada.post("/api/projects", &secret).await.expect(201), "id");
    ada.put("/api/calendar/time-rules", &with(rules.clone(), &json!({"projectId": secret}))).await.done(200);
    for (client, all, of_secret) in [(&ada, 2, 1), (&member, 1, 0)] {
        let total = async |query: &str| {
            let page = client.get(&format!("/api/calendar/time-rules{query}")).await.expect(200);
            page["total"].clone()
        };
        assert_eq!((total("").await, total(&format!("?projectId={secret}")).await), (json!(all), json!(of_secret)));
    }
    // Friday evening becomes Monday morning.
    let deploy = |start: &str, end: &str| {
        with(
            event("Deploy", start, end),
            &json!({"eventType": "deployment", "projectId": project, "environmentName": "production"}),
        )
    };
    let late = ada.post(EVENTS, &deploy("2026-11-20T14:30:00Z", "2026-11-20T15:30:00Z")).await;
    let problem = late.problem(422, "TIME_RULE_VIOLATION");
    assert_eq!(problem["suggestedTime"], "2026-11-23T08:00:00.000Z", "{problem}");
    let check = ada
        .post("/api/calendar/conflicts/check", &deploy("2026-11-20T14:30:00Z", "2026-11-20T15:30:00Z"))
        .await
        .expect(200);
    assert_eq!((&check["isAllowed"], &check["suggestedTime"]), (&json!(false), &json!("2026-11-23T08:00:00.000Z")));
    let good = made(&ada, &deploy("2026-11-23T08:00:00Z", "2026-11-23T09:00:00Z")).await;
    let path = format!("{EVENTS}/{}", text(&good, "id"));
    ada.put(&path, &json!({"startTime": "2026-11-22T08:00:00Z"})).await.problem(422, "TIME_RULE_VIOLATION");
    // What does not take place may be at any time, but must not take place again there.
    ada.put(&path, &json!({"startTime": "2026-11-22T08:00:00Z", "status": "cancelled"})).await.done(200);
    ada.put(&path, &json!({"status": "confirmed"})).await.problem(422, "TIME_RULE_VIOLATION");
    // Planning's own rules count as well, by the environment's id.
    let config = json!({"timeRules": {"allowedHours": ["20:00-22:00"], "timezone": "UTC"}});
    let environment = ada
        .post("/api/environments", &json!({"projectId": project, "name": "staging", "config": config}))
        .await
        .expect(201);
    let body = with(
        event("Stage", "2026-11-23T08:00:00Z", "2026-11-23T09:00:00Z"),
        &json!({"eventType": "deployment", "environmentId": environment["id"]}),
    );
    assert_eq!(
        ada.post(EVENTS, &body).await.problem(422, "TIME_RULE_VIOLATION")["suggestedTime"],
        "2026-11-23T20:00:00.000Z"
    );
    let evening = json!({"startTime": "2026-11-23T20:00:00Z", "endTime": "2026-11-23T21:00:00Z"});
    let staged = made(&ada, &with(body.clone(), &evening)).await;
    assert_eq!((&staged["environmentName"], &staged["projectId"]), (&json!("staging"), &json!(project)), "{staged}");
    let moved =
        ada.put(&format!("{EVENTS}/{}", text(&staged, "id")), &json!({"startTime": "2026-11-24T08:00:00Z"})).await;
    assert_eq!(moved.problem(422, "TIME_RULE_VIOLATION")["suggestedTime"], "2026-11-24T20:00:00.000Z");
    let unknown = ada.post(EVENTS, &with(body, &json!({"environmentId": "nowhere"}))).await;
    unknown.problem(400, "VALIDATION_ERROR");
    assert_eq!(unknown.faulty_fields(), ["environmentId"]);
}

#[tokio::test]
async fn the_hours_of_an_environment_are_set_by_who_sees_its_project() {
    const RULES: &str = "/api/calendar/time-rules";
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Admin").await;
    let secret = json!({"name": "Secret", "visibility": "private"});
    let secret = text(&ada.post("/api/projects", &secret).await.expect(201), "id");
    let rules = |project: &str, hours: &str| json!({"projectId": project, "environment": "production", "allowedHours": [hours]});
    ada.put(RULES, &rules(&secret, "09:00-17:00")).await.done(200);
    bob.put(RULES, &rules(&secret, "00:00-00:30")).await.problem(404, "NOT_FOUND");
    let kept = ada.get(&format!("{RULES}?projectId={secret}")).await.expect(200);
    assert_eq!((&kept["total"], &kept["items"][0]["allowedHours"]), (&json!(1), &json!(["09:00-17:00"])), "{kept}");
    let open = plans::project(&ada, "Harbour").await;
    bob.put(RULES, &rules(&open, "09:00-17:00")).await.done(200);
}

#[tokio::test]
async fn free_time_is_what_is_left_of_working_hours() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let (a, b) = (members::id(&ada), members::id(&bob));
    made(&ada, &event("One", "2026-03-02T09:00:00Z", "2026-03-02T10:00:00Z")).await;
    made(&ada, &event("Two", "2026-03-02T09:30:00Z", "2026-03-02T11:00:00Z")).await;
    let lunch = with(event("Lunch", "2026-03-02T12:00:00Z", "2026-03-02T13:00:00Z"), &json!({"visibility": "private"}));
    made(&bob, &lunch).await;
    made(&bob, &with(event("Due", "2026-03-02T14:00:00Z", "2026-03-02T15:00:00Z"), &json!({"eventType": "deadline"})))
        .await;
    let path = format!(
        "/api/calendar/availability?userIds={a},{b}&from=2026-03-01T00:00:00Z&to=2026-03-03T00:00:00Z&duration=90"
    );
    let found = ada.get(&path).await.expect(200);
    let slots = |list: &Value| -> Vec<String> {
        list.as_array()
            .into_iter()
            .flatten()
            .map(|slot| format!("{} {}", &text(slot, "start")[8..16], &text(slot, "end")[8..16]))
            .collect()
    };
    assert_eq!(slots(&found["slots"]), ["02T13:00 02T17:00"], "an hour is not enough: {found}");
    let of = |id: &str| {
        found["users"].as_array().into_iter().flatten().find(|user| user["userId"] == id).cloned().unwrap_or_default()
    };
    assert_eq!(slots(&of(&a)["busy"]), ["02T09:00 02T11:00"], "merged");
    assert_eq!(slots(&of(&b)["free"]), ["02T09:00 02T12:00", "02T13:00 02T17:00"]);
    assert!(!found.to_string().contains("Lunch"), "busy says nothing of what it is");
    let early = ada.get(&format!("{path}&workingHours=06:00-10:00")).await.expect(200);
    assert_eq!(slots(&early["slots"]), ["02T06:00 02T09:00"]);
}

#[tokio::test]
async fn views_group_by_the_days_of_the_viewer() {
    let (_host, ada) = host_with_ada().await;
    let body = with(
        event("Night", "2026-03-03T22:30:00Z", "2026-03-04T04:00:00Z"),
        &json!({"rrule": "FREQ=WEEKLY;COUNT=3", "timezone": "Europe/Berlin"}),
    );
    let series = text(&made(&ada, &body).await, "id");
    let week = ada.get("/api/calendar/views/week?date=2026-03-05&timezone=Europe/Berlin").await.expect(200);
    assert_eq!((&week["from"], &week["to"]), (&json!("2026-03-01T23:00:00.000Z"), &json!("2026-03-08T23:00:00.000Z")));
    let count = |view: &Value| -> Vec<usize> {
        view["days"].as_array().into_iter().flatten().map(|day| day["events"].as_array().map_or(0, Vec::len)).collect()
    };
    assert_eq!(count(&week), [0, 1, 1, 0, 0, 0, 0], "23:30 to 05:00 is on two days: {week}");
    let month = ada.get("/api/calendar/views/month?date=2026-03-01&timezone=Europe/Berlin").await.expect(200);
    assert_eq!((month["days"].as_array().map(Vec::len), &month["total"]), (Some(31), &json!(3)));
    let agenda = ada.get("/api/calendar/views/agenda?date=2026-03-04&days=10&timezone=Europe/Berlin").await.expect(200);
    let days: Vec<String> = agenda["days"].as_array().into_iter().flatten().map(|day| text(day, "date")).collect();
    assert_eq!(days, ["2026-03-04", "2026-03-10", "2026-03-11"]);
    // What is kept of a month goes with the next change.
    ada.delete(&format!("{EVENTS}/{series}?scope=this&recurrenceId=2026-03-10T22:30:00Z")).await.done(204);
    assert_eq!(
        ada.get("/api/calendar/views/month?date=2026-03-01&timezone=Europe/Berlin").await.expect(200)["total"],
        2
    );
    assert_eq!(
        count(&ada.get("/api/calendar/views/day?date=2026-03-04&timezone=Europe/Berlin").await.expect(200)),
        [1]
    );
}
