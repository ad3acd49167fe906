//! calendar with others: iCalendar in both directions, feeds, reminders that come once, plans in time, and what other
//! services tell.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::process::Command;

use berth_tests::answer::text;
use berth_tests::manifest::Manifest;
use berth_tests::members::host_with_ada;
use berth_tests::wait::heard;
use berth_tests::{Answer, Client, Host, eventually, members, plans};
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

/// A moment so many seconds from now.
fn in_seconds(seconds: i64) -> String {
    let output =
        Command::new("date").args(["-u", "-d", &format!("{seconds} seconds"), "+%Y-%m-%dT%H:%M:%S.000Z"]).output();
    String::from_utf8_lossy(&output.expect("date").stdout).trim().to_owned()
}

async fn fetch(client: &Client, path: &str) -> Answer {
    client.send(client.request(Method::GET, path)).await
}

#[tokio::test]
async fn calendars_go_out_and_come_back() {
    let (host, ada) = host_with_ada().await;
    let calendar = text(&ada.post("/api/calendar/calendars", &json!({"name": "Crew, all"})).await.expect(201), "id");
    let body = with(
        event("Überblick; mit, allem", "2026-03-02T09:00:00Z", "2026-03-02T10:00:00Z"),
        &json!({"calendarId": calendar, "timezone": "Europe/Berlin", "rrule": "FREQ=WEEKLY", "description": "one\ntwo",
            "exdates": ["2026-03-16T09:00:00Z"], "attendees": [{"email": "guest@example.com"}]}),
    );
    let series = text(&made(&ada, &body).await, "id");
    ada.put(&format!("{EVENTS}/{series}?scope=this&recurrenceId=2026-03-09T09:00:00Z"), &json!({"title": "Apart"}))
        .await
        .done(200);
    let exported = ada.get(&format!("/api/calendar/calendars/{calendar}/export.ics")).await;
    exported.done(200);
    assert!(exported.header("content-type").starts_with("text/calendar"));
    let ics = exported.text();
    for line in [
        "X-WR-CALNAME:Crew\\, all\r\n",
        "SUMMARY:Überblick\\; mit\\, allem\r\n",
        "DTSTART;TZID=Europe/Berlin:20260302T100000\r\n",
        "RRULE:FREQ=WEEKLY\r\n",
        "EXDATE;TZID=Europe/Berlin:20260316T100000\r\n",
        "RECURRENCE-ID;TZID=Europe/Berlin:20260309T100000\r\n",
        "DESCRIPTION:one\\ntwo\r\n",
        "BEGIN:VTIMEZONE\r\n",
        "BEGIN:DAYLIGHT\r\n",
    ] {
        assert!(ics.contains(line), "{line} is missing in {ics}");
    }
    // Somebody else takes it over, twice, and what is no event is left out with its reason.
    let eve = host.client().register("eve@example.com", "Reef").await;
    let strange =
        "BEGIN:VEVENT\r\nUID:odd\r\nDTSTART:20260101T100000Z\r\nRRULE:FREQ=SECONDLY\r\nEND:VEVENT\r\nEND:VCALENDAR";
    let file = ics.replace("END:VCALENDAR", strange);
    let import = async |text: &str| {
        let request = eve
            .request(Method::POST, "/api/calendar/import")
            .header("content-type", "text/calendar")
            .body(text.to_owned());
        eve.send(request).await
    };
    let first = import(&file).await.expect(200);
    assert_eq!(
        (&first["created"], &first["updated"], &first["skipped"][0]["uid"]),
        (&json!(2), &json!(0), &json!("odd")),
        "{first}"
    );
    let shown = |items: &[Value]| -> Vec<String> {
        items.iter().map(|item| format!("{} {}", text(item, "startTime"), text(item, "title"))).collect()
    };
    let (from, to) = ("2026-03-01T00:00:00Z", "2026-04-08T00:00:00Z");
    let expected = shown(&listed(&ada, from, to).await);
    assert_eq!(expected.len(), 5);
    assert_eq!(shown(&listed(&eve, from, to).await), expected);
    let again = import(&file).await.expect(200);
    assert_eq!((&again["created"], &again["updated"]), (&json!(0), &json!(2)), "{again}");
    assert_eq!(shown(&listed(&eve, from, to).await), expected);
    // Who is told by their address alone is the same person, and a file is no way round the hours of an environment: neither
    // those of the event nor those that planning has, however the event names it.
    let hours = json!({"allowedHours": ["09:00-17:00"], "timezone": "UTC"});
    let project = plans::project(&eve, "Lock").await;
    let body = json!({"projectId": project, "name": "production", "config": {"timeRules": hours}});
    let environment = text(&eve.post("/api/environments", &body).await.expect(201), "id");
    for place in [
        json!({"timeRules": hours}),
        json!({"environmentId": environment}),
        json!({"environmentName": "Production", "projectId": project}),
    ] {
        let night = with(event("Lock", "2026-05-04T20:00:00Z", "2026-05-04T21:00:00Z"), &place);
        let problem = eve.post(EVENTS, &night).await.problem(422, "TIME_RULE_VIOLATION");
        assert_eq!(problem["suggestedTime"], "2026-05-05T09:00:00.000Z", "{problem}");
        let own = with(event("Lock", "2026-05-04T10:00:00Z", "2026-05-04T11:00:00Z"), &place);
        let own = with(own, &json!({"attendees": [{"userId": "crew", "email": "Crew@example.com"}]}));
        let own = format!("{EVENTS}/{}", text(&made(&eve, &own).await, "id"));
        let file = eve.get(&format!("{own}/export.ics")).await.text();
        let again = import(&file).await.expect(200);
        assert_eq!((&again["updated"], &again["skipped"]), (&json!(1), &json!([])), "{again}");
        assert_eq!(eve.get(&own).await.expect(200)["attendees"].as_array().map(Vec::len), Some(1));
        let late = file.replace("20260504T100000Z", "20260504T200000Z").replace("20260504T110000Z", "20260504T210000Z");
        let late = import(&late).await.expect(200);
        assert_eq!(
            (&late["updated"], late["skipped"].as_array().map(Vec::len)),
            (&json!(0), Some(1)),
            "{place} {late}"
        );
        assert_eq!(eve.get(&own).await.expect(200)["startTime"], "2026-05-04T10:00:00.000Z");
    }
    import("BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n").await.problem(400, "INVALID_ICALENDAR");
    let deep = "BEGIN:X\r\n".repeat(50_000);
    import(&deep).await.problem(400, "INVALID_ICALENDAR");
}

#[tokio::test]
async fn a_feed_is_opened_by_its_token_until_it_is_closed() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Viewer").await;
    let soon = with(
        event("Soon", &in_seconds(3_600), &in_seconds(7_200)),
        &json!({"attendees": [{"userId": members::id(&bob)}]}),
    );
    made(&ada, &soon).await;
    made(&ada, &event("Not Bob's", &in_seconds(3_600), &in_seconds(7_200))).await;
    let opened = bob.post("/api/calendar/feeds", &json!({"name": "Phone"})).await.expect(201);
    let (token, path) = (text(&opened, "token"), text(&opened, "path"));
    let stranger = host.client();
    let feed = fetch(&stranger, &path).await;
    feed.done(200);
    assert!(feed.text().contains("SUMMARY:Soon") && !feed.text().contains("Not Bob's"), "{}", feed.text());
    let tag = feed.header("etag");
    let unchanged = stranger.send(stranger.request(Method::GET, &path).header("if-none-match", tag)).await;
    assert_eq!(unchanged.status, 304);
    fetch(&stranger, "/api/calendar/feed.ics").await.problem(401, "UNAUTHORIZED");
    fetch(&stranger, &format!("/api/calendar/feed.ics?token={}x", &token[1..])).await.problem(404, "NOT_FOUND");
    let feeds = bob.get("/api/calendar/feeds").await.expect(200);
    assert_eq!(feeds["total"], 1);
    assert!(!feeds.to_string().contains(&token) && !feeds.to_string().contains("tokenHash"), "{feeds}");
    assert_eq!(ada.get("/api/calendar/feeds").await.expect(200)["total"], 0);
    let feed_path = format!("/api/calendar/feeds/{}", text(&opened, "id"));
    ada.delete(&feed_path).await.problem(404, "NOT_FOUND");
    bob.delete(&feed_path).await.done(204);
    fetch(&stranger, &path).await.problem(404, "NOT_FOUND");
    a_feed_tells_nothing_of_a_team_that_one_left(&host, &ada, &bob).await;
    // Who leaves the organization leaves no open door.
    let path = text(&bob.post("/api/calendar/feeds", &json!({})).await.expect(201), "path");
    fetch(&stranger, &path).await.done(200);
    members::remove(&ada, &bob).await;
    eventually("the feed is closed", async || (fetch(&stranger, &path).await.status == 404).then_some(())).await;
}

/// Feeds keep to the teams that somebody is in, and not to those of the day on which they were opened.
async fn a_feed_tells_nothing_of_a_team_that_one_left(host: &Host, ada: &Client, bob: &Client) {
    let team = text(&ada.post("/api/teams", &json!({"name": "Crew"})).await.expect(201), "id");
    let people = [ada, bob].map(|person| json!({"userId": members::id(person), "role": "member"}));
    ada.post(&format!("/api/teams/{team}/members"), &json!({ "members": people })).await.done(200);
    let mut feeds = Vec::new();
    for (title, owner) in
        [("Drill", json!({"ownerType": "team", "ownerId": team})), ("Meal", json!({"ownerType": "organization"}))]
    {
        let calendar = with(json!({"name": title}), &owner);
        let calendar = ada.post("/api/calendar/calendars", &calendar).await.expect(201)["id"].clone();
        let of_team = with(
            event(title, &in_seconds(3_600), &in_seconds(7_200)),
            &json!({"calendarId": calendar, "visibility": "team"}),
        );
        made(ada, &of_team).await;
        let opened = bob.post("/api/calendar/feeds", &json!({"calendarId": calendar})).await.expect(201);
        let path = text(&opened, "path");
        let feed = fetch(&host.client(), &path).await;
        assert!(feed.text().contains(&format!("SUMMARY:{title}")), "{}", feed.text());
        feeds.push(path);
    }
    ada.delete(&format!("/api/teams/{team}/members/{}", members::id(bob))).await.done(204);
    let stranger = host.client();
    eventually("the feed of the team's calendar is closed", async || {
        (fetch(&stranger, &feeds[0]).await.status == 404).then_some(())
    })
    .await;
    eventually("the feed tells no more of the team", async || {
        let feed = fetch(&stranger, &feeds[1]).await.text();
        (!feed.contains("Meal") && feed.contains("SUMMARY:Busy")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_feed_tells_what_its_owner_may_read_when_it_is_read() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Viewer").await;
    let secret = json!({"name": "Secret", "visibility": "private"});
    let secret = text(&ada.post("/api/projects", &secret).await.expect(201), "id");
    let access = format!("/api/projects/{secret}/access");
    let owner = json!({"userId": members::id(&ada), "level": "owner"});
    let both = json!([owner, {"userId": members::id(&bob), "level": "viewer"}]);
    ada.put(&access, &json!({ "access": both })).await.done(200);
    let calendar = json!({"name": "Secret", "ownerType": "project", "ownerId": secret});
    let calendar = text(&ada.post("/api/calendar/calendars", &calendar).await.expect(201), "id");
    let of_project = json!({"calendarId": calendar, "projectId": secret, "visibility": "organization"});
    made(&ada, &with(event("Launch", &in_seconds(3_600), &in_seconds(7_200)), &of_project)).await;
    let of_calendar =
        text(&bob.post("/api/calendar/feeds", &json!({"calendarId": calendar})).await.expect(201), "path");
    let own = text(&bob.post("/api/calendar/feeds", &json!({})).await.expect(201), "path");
    let stranger = host.client();
    let becomes = async |path: &str, status: u16| {
        let is_so = async || (fetch(&stranger, path).await.status == status).then_some(());
        eventually(&format!("{path} is answered with {status}"), is_so).await;
    };
    let feed = fetch(&stranger, &of_calendar).await;
    feed.done(200);
    assert!(feed.text().contains("SUMMARY:Launch"), "{}", feed.text());
    // Whose feed it is decides, and not who reads it.
    let feed = fetch(&ada, &own).await;
    feed.done(200);
    assert!(!feed.text().contains("SUMMARY:Launch"), "{}", feed.text());

    ada.put(&access, &json!({ "access": [owner] })).await.done(200);
    becomes(&of_calendar, 404).await;
    fetch(&stranger, &own).await.done(200);

    let organization = text(&ada.account["organization"], "id");
    let role = json!({"name": "Nothing", "permissions": []});
    ada.post(&format!("/api/organizations/{organization}/roles"), &role).await.done(201);
    members::give_role(&ada, &bob, "Nothing").await;
    becomes(&own, 404).await;
    members::give_role(&ada, &bob, "Viewer").await;
    becomes(&own, 200).await;
    members::set_status(&ada, &bob, "suspended").await;
    becomes(&own, 404).await;
    members::set_status(&ada, &bob, "active").await;
    becomes(&own, 200).await;
}

#[tokio::test]
async fn a_reminder_is_sent_once_and_not_too_late() {
    let manifest = Manifest::services().with("reminders = \"1m\"", "reminders = \"1s\"");
    let host = Host::with(manifest).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let remind = |minutes: i64| json!({"reminders": [{"minutesBefore": minutes}]});
    made(&ada, &with(event("Ferry", &in_seconds(63), &in_seconds(600)), &remind(1))).await;
    let series = with(event("Tide", &in_seconds(62), &in_seconds(120)), &remind(1));
    let series = made(&ada, &with(series, &json!({"rrule": "FREQ=DAILY"}))).await;
    // What is due in the past is past.
    let past = made(&ada, &with(event("Gone", &in_seconds(-7_200), &in_seconds(-3_600)), &remind(10))).await;
    let news = async |title: &str| -> usize {
        let page = ada.get("/api/notifications?limit=200").await.expect(200);
        page["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|item| item.to_string().contains(&format!("Reminder: {title}")))
            .count()
    };
    eventually("the reminder of the ferry", async || (news("Ferry").await == 1).then_some(())).await;
    eventually("the reminder of the tide", async || (news("Tide").await == 1).then_some(())).await;
    let host = host.restart().await;
    let ada = host.client().login("ada@example.com").await;
    let path = format!("{EVENTS}/{}/reminders", text(&series, "id"));
    let next = ada.get(&path).await.expect(200)[0].clone();
    assert!(
        next["sentAt"].is_string() && next["dueAt"].as_str() > Some(in_seconds(80_000).as_str()),
        "the next day's: {next}"
    );
    let gone = ada.get(&format!("{EVENTS}/{}/reminders", text(&past, "id"))).await.expect(200);
    assert_eq!((&gone[0]["sentAt"], &gone[0]["dueAt"]), (&Value::Null, &Value::Null));
    // After the restart the timer has ticked and sent nothing again.
    let later = made(&ada, &with(event("Lock", &in_seconds(62), &in_seconds(120)), &remind(1))).await;
    let path = format!("{EVENTS}/{}/reminders", text(&later, "id"));
    eventually("a later reminder", async || ada.get(&path).await.expect(200)[0]["sentAt"].is_string().then_some(()))
        .await;
    let page = ada.get("/api/notifications?limit=200").await.expect(200);
    let count = page["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|item| item.to_string().contains("Reminder: Ferry"))
        .count();
    assert_eq!(count, 1);
    let own = ada
        .put(&path, &json!({"reminders": [{"minutesBefore": 5}, {"minutesBefore": 5, "channel": "email"}]}))
        .await
        .expect(200);
    assert_eq!(own.as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn an_approved_plan_is_proposed_and_its_execution_seen() {
    let (host, ada) = host_with_ada().await;
    let plan = plans::ready_plan(&ada, &plans::three_steps()).await;
    let timeline = async || ada.get(&format!("/api/calendar/timeline?planId={plan}")).await.expect(200);
    let proposed = eventually("events for three steps", async || {
        let timeline = timeline().await;
        (timeline["totalSteps"] == 3).then_some(timeline)
    })
    .await;
    assert_eq!(proposed["predictions"].as_array().map(Vec::len), Some(3), "{proposed}");
    assert!(proposed["items"].as_array().into_iter().flatten().all(|item| item["status"] == "tentative"), "{proposed}");
    // Proposed again under conditions, the same events are somewhere else.
    let wish = json!({"planId": plan, "constraints": {"startAfter": "2027-01-02T12:00:00Z", "allowedHours": ["09:00-17:00"],
        "blockedDays": ["saturday", "sunday"], "timezone": "Europe/Berlin"}});
    let moved = ada.post(&format!("{EVENTS}/from-plan"), &wish).await.expect(200);
    assert_eq!(moved["start"], "2027-01-04T08:00:00.000Z", "{moved}");
    assert_eq!(timeline().await["items"].as_array().map(Vec::len), Some(3));
    let late = with(
        wish.clone(),
        &json!({"dryRun": true, "constraints": {"startAfter": "2027-01-02T12:00:00Z", "endBefore": "2027-01-02T12:01:00Z"}}),
    );
    ada.post(&format!("{EVENTS}/from-plan"), &late).await.problem(422, "TOO_LATE");
    ada.post(&format!("{EVENTS}/from-plan"), &json!({"planId": "nothing"})).await.problem(404, "NOT_FOUND");
    // Planning has rules for environments of its own.
    let project = ada.get(&format!("/api/plans/{plan}")).await.expect(200)["projectId"].clone();
    let rules = json!({"allowedHours": ["13:00-17:00"], "timezone": "UTC"});
    let body = json!({"projectId": project, "name": "staging", "config": {"timeRules": rules}});
    ada.post("/api/environments", &body).await.done(201);
    let wish = json!({"planId": plan, "dryRun": true,
        "constraints": {"startAfter": "2027-01-04T08:00:00Z", "environment": "Staging"}});
    let moved = ada.post(&format!("{EVENTS}/from-plan"), &wish).await.expect(200);
    assert_eq!(moved["start"], "2027-01-04T13:00:00.000Z", "{moved}");
    // Only into a calendar that is the caller's to fill.
    let body = json!({"name": "Everybody", "ownerType": "organization"});
    let shared = ada.post("/api/calendar/calendars", &body).await.expect(201);
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let into = json!({"planId": plan, "dryRun": true, "constraints": {"calendarId": shared["id"]}});
    bob.post(&format!("{EVENTS}/from-plan"), &into).await.problem(403, "FORBIDDEN");
    ada.post(&format!("{EVENTS}/from-plan"), &into).await.done(200);
    let execution = plans::execute(&ada, &plan).await;
    plans::reaches(&ada, &execution, &["completed"]).await;
    let done = eventually("actual times of every step", async || {
        let timeline = timeline().await;
        (timeline["completedSteps"] == 3).then_some(timeline)
    })
    .await;
    let item = &done["items"][0];
    assert!(
        item["actualStart"].is_string() && item["actualEnd"].is_string() && item["status"] == "confirmed",
        "{item}"
    );
    assert_eq!(done["predictions"][0]["confidence"], 1.0, "{done}");
    // When a private plan will be done is not told to others, also once no event of it is left.
    let path = format!("/api/calendar/timeline?planId={plan}");
    for item in done["items"].as_array().into_iter().flatten() {
        ada.delete(&format!("{EVENTS}/{}", text(item, "id"))).await.done(204);
    }
    let told = async |client: &Client| {
        let timeline = client.get(&path).await.expect(200);
        (timeline["items"].as_array().map(Vec::len), timeline["predictions"].as_array().map(Vec::len))
    };
    assert_eq!(told(&bob).await, (Some(0), Some(3)), "everybody sees the plan");
    let project = format!("/api/projects/{}", project.as_str().unwrap_or_default());
    ada.put(&project, &json!({"visibility": "private"})).await.done(200);
    assert_eq!(told(&ada).await, (Some(0), Some(3)));
    assert_eq!(told(&bob).await, (Some(0), Some(0)));
}

#[tokio::test]
async fn what_other_services_tell_becomes_an_event_once() {
    let host = Host::with(Manifest::services_and_herald("", "")).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let project = plans::project(&ada, "Harbour").await;
    let release =
        json!({"projectId": project, "name": "Spring", "version": "1.2.0", "plannedStart": "2026-05-04T10:00:00Z"});
    ada.post("/api/releases", &release).await.done(201);
    ada.post(
        "/api/incidents",
        &json!({"projectId": project, "title": "Crane stuck", "declaredAt": "2026-05-05T10:00:00Z"}),
    )
    .await
    .done(201);
    let review = json!({"projectId": project, "title": "Look", "reviewableType": "code", "reviewableId": "c1",
        "assignedTo": members::id(&ada), "dueDate": "2026-05-06T10:00:00Z"});
    ada.post("/api/reviews", &review).await.done(201);
    let items = eventually("three events", async || {
        let items = listed(&ada, "2026-05-01T00:00:00Z", "2026-06-01T00:00:00Z").await;
        (items.len() == 3).then_some(items)
    })
    .await;
    let told: Vec<String> =
        items.iter().map(|item| format!("{} {}", text(item, "eventType"), text(item, "title"))).collect();
    assert_eq!(told, ["deployment Release: Spring 1.2.0", "human_action Incident: Crane stuck", "review Review: Look"]);
    assert_eq!(items[2]["endTime"], "2026-05-06T10:00:00.000Z");
    what_becomes_of_an_event_is_told(&ada).await;
}

/// Others hear of every change, and of a private event when it is and not what.
async fn what_becomes_of_an_event_is_told(ada: &Client) {
    let hour = |title: &str, hour: u8| {
        event(title, &format!("2026-06-01T{hour:02}:00:00Z"), &format!("2026-06-01T{:02}:00:00Z", hour + 1))
    };
    let private = json!({"visibility": "private", "location": "Ward 3", "description": "A knee."});
    let private = text(&made(ada, &with(hour("Surgery", 8), &private)).await, "id");
    let path = format!("{EVENTS}/{private}");
    ada.put(&path, &json!({"startTime": "2026-06-01T10:00:00Z"})).await.done(200);
    let ferry = text(&made(ada, &hour("Ferry", 10)).await, "id");
    ada.put(&format!("{EVENTS}/{ferry}"), &json!({"description": "It is late."})).await.done(200);
    ada.delete(&path).await.done(204);
    let mut told = heard(ada, "meeting.rescheduled", 1).await;
    assert_eq!(
        (&told[0]["oldStartTime"], &told[0]["startTime"]),
        (&json!("2026-06-01T08:00:00.000Z"), &json!("2026-06-01T10:00:00.000Z"))
    );
    told.extend(heard(ada, "meeting.cancelled", 1).await);
    told.extend(heard(ada, "calendar.event.cancelled", 1).await);
    assert!(told.iter().all(|event| event["eventId"] == private.as_str()), "{told:?}");
    let conflict = heard(ada, "calendar.conflict", 1).await;
    assert_eq!((&conflict[0]["eventId"], &conflict[0]["otherEventId"]), (&json!(ferry), &json!(private)), "told once");
    let updated = heard(ada, "calendar.event.updated", 2).await;
    let titles: Vec<&Value> = updated.iter().map(|event| &event["title"]).collect();
    assert!(titles.contains(&&json!("Busy")) && titles.contains(&&json!("Ferry")), "{updated:?}");
    told.extend([conflict, updated, heard(ada, "calendar.event.created", 5).await].concat());
    let told = json!(told).to_string();
    assert!(["Surgery", "Ward 3", "A knee"].iter().all(|word| !told.contains(word)), "{told}");
}

#[tokio::test]
async fn what_belongs_to_a_project_is_for_those_who_see_it() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let cem = members::bring(&host, &ada, "cem@example.com", "Member").await;
    let open = plans::project(&ada, "Open").await;
    let secret = bob.post("/api/projects", &json!({"name": "Secret", "visibility": "private"})).await.expect(201);
    let secret = text(&secret, "id");
    let incident = |project: &str, title: &str, hour: u8| json!({"projectId": project, "title": title, "declaredAt": format!("2026-05-05T{hour:02}:00:00Z")});
    ada.post("/api/incidents", &incident(&open, "Crane stuck", 8)).await.done(201);
    bob.post("/api/incidents", &incident(&secret, "Vault open", 12)).await.done(201);
    let titles = async |client: &Client| -> Vec<String> {
        let items = listed(client, "2026-05-05T00:00:00Z", "2026-05-06T00:00:00Z").await;
        items.iter().map(|item| text(item, "title")).collect()
    };
    eventually("both incidents", async || (titles(&ada).await.len() == 2).then_some(())).await;
    for insider in [&ada, &bob] {
        assert_eq!(titles(insider).await, ["Incident: Crane stuck", "Incident: Vault open"]);
    }
    assert_eq!(titles(&cem).await, ["Incident: Crane stuck", "Busy"]);
    let of_project =
        |project: &str| format!("{EVENTS}?from=2026-05-05T00:00:00Z&to=2026-05-06T00:00:00Z&projectId={project}");
    assert_eq!(cem.get(&of_project(&secret)).await.expect(200)["total"], 0);
    assert_eq!(cem.get(&of_project(&open)).await.expect(200)["total"], 1);
    let vault = bob.get(&of_project(&secret)).await.expect(200)["items"][0].clone();
    let path = format!("{EVENTS}/{}", text(&vault, "id"));
    let busy = cem.get(&path).await.expect(200);
    assert_eq!((&busy["title"], busy.get("projectId"), busy.get("metadata")), (&json!("Busy"), None, None), "{busy}");
    cem.get(&format!("{path}/export.ics")).await.problem(403, "FORBIDDEN");
    // So are its calendars.
    let calendar = |project: &str| json!({"name": "Ours", "ownerType": "project", "ownerId": project});
    let own = bob.post("/api/calendar/calendars", &calendar(&secret)).await.expect(201);
    let own = text(&own, "id");
    let found = bob.get(&format!("/api/calendar/calendars/{own}")).await.expect(200);
    assert_eq!(found["ownerId"], secret.as_str());
    cem.get(&format!("/api/calendar/calendars/{own}")).await.problem(404, "NOT_FOUND");
    cem.post("/api/calendar/calendars", &calendar(&secret)).await.problem(404, "NOT_FOUND");
    let inside = with(event("Mine", "2026-05-07T08:00:00Z", "2026-05-07T09:00:00Z"), &json!({"calendarId": own}));
    cem.post(EVENTS, &inside).await.problem(404, "NOT_FOUND");
    made(&bob, &inside).await;
    cem.post("/api/calendar/calendars", &calendar(&open)).await.done(201);
}
