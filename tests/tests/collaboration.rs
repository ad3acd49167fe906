//! collaboration: sessions with roles that fit, one at a time for everybody, and streams that miss nothing.

use berth_tests::answer::text;
use berth_tests::wait::heard;
use berth_tests::{Answer, Client, EventStream, Host, Manifest, eventually, members, plans};
use reqwest::Method;
use serde_json::{Value, json};

const SESSIONS: &str = "/api/pairing/sessions";

/// A host with Ada and so many others of her organization.
async fn house(manifest: Manifest, others: &[&str]) -> (Host, Client, Vec<Client>) {
    let host = Host::with(manifest).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let mut people = Vec::new();
    for name in others {
        people.push(members::bring(&host, &ada, &format!("{name}@example.com"), "Member").await);
    }
    (host, ada, people)
}

async fn planned(client: &Client, body: Value) -> String {
    text(&client.post(SESSIONS, &body).await.expect(201), "id")
}

async fn join(client: &Client, id: &str, body: Value) -> Answer {
    client.put(&format!("{SESSIONS}/{id}/join"), &body).await
}

async fn act(client: &Client, id: &str, action: &str) -> Answer {
    client.post(&format!("{SESSIONS}/{id}/{action}"), &json!({})).await
}

async fn leave(client: &Client, id: &str) -> Answer {
    client.put(&format!("{SESSIONS}/{id}/leave"), &json!({})).await
}

/// The role of everybody who is there.
fn roles(session: &Value) -> Vec<(String, String)> {
    let people = session["participants"].as_array().cloned().unwrap_or_default();
    people
        .iter()
        .filter(|person| person["leftAt"].is_null())
        .map(|person| (text(person, "userId"), text(person, "role")))
        .collect()
}

fn expected(people: &[(&Client, &str)]) -> Vec<(String, String)> {
    people.iter().map(|(person, role)| (members::id(person), (*role).to_owned())).collect()
}

#[tokio::test]
async fn a_pair_has_one_driver_from_the_beginning_to_the_end() {
    let (host, ada, people) = house(Manifest::services_and_herald("", ""), &["bob", "cleo"]).await;
    let (bob, cleo) = (&people[0], &people[1]);
    let made = ada.post(SESSIONS, &json!({"title": "The <crane>", "navigatorId": members::id(bob)})).await.expect(201);
    let (id, path) = (text(&made, "id"), format!("{SESSIONS}/{}", text(&made, "id")));
    assert_eq!(
        (&made["title"], &made["status"], &made["sessionType"]),
        (&json!("The crane"), &json!("scheduled"), &json!("pairing"))
    );
    // What was planned for somebody is theirs, whoever comes first.
    join(bob, &id, json!({})).await.done(200);
    let session = join(&ada, &id, json!({})).await.expect(200);
    assert_eq!(roles(&session), expected(&[(bob, "navigator"), (&ada, "driver")]));
    join(cleo, &id, json!({"role": "driver"})).await.problem(409, "ROLE_TAKEN");
    join(cleo, &id, json!({"role": "navigator"})).await.problem(409, "ROLE_TAKEN");
    act(bob, &id, "switch-roles").await.problem(409, "SESSION_NOT_STARTED");
    let session = join(cleo, &id, json!({})).await.expect(200);
    assert_eq!(roles(&session)[2].1, "observer");
    let session = act(&ada, &id, "start").await.expect(200);
    assert_eq!((&session["status"], &session["driverId"]), (&json!("active"), &json!(members::id(&ada))));
    act(&ada, &id, "start").await.problem(409, "SESSION_ACTIVE");
    ada.delete(&path).await.problem(409, "SESSION_ACTIVE");
    ada.put(&path, &json!({"driverId": members::id(cleo)})).await.problem(409, "SESSION_ACTIVE");
    ada.put(&path, &json!({"status": "completed"})).await.problem(409, "ILLEGAL_TRANSITION");
    // Roles are switched by those who work, among those who are there.
    act(cleo, &id, "switch-roles").await.problem(403, "FORBIDDEN");
    let session = act(bob, &id, "switch-roles").await.expect(200);
    assert_eq!((&session["driverId"], &session["navigatorId"]), (&json!(members::id(bob)), &json!(members::id(&ada))));
    let stranger = json!({"driverId": "nobody"});
    ada.post(&format!("{path}/switch-roles"), &stranger).await.problem(422, "NOT_JOINED");
    join(bob, &id, json!({"role": "observer"})).await.problem(409, "DRIVER_NEEDED");
    // The navigator follows a driver who leaves; whoever is the last one takes the session along.
    let session = leave(bob, &id).await.expect(200);
    assert_eq!((&session["driverId"], &session["navigatorId"]), (&json!(members::id(&ada)), &Value::Null));
    leave(bob, &id).await.problem(409, "NOT_JOINED");
    leave(&ada, &id).await.done(200);
    let session = leave(cleo, &id).await.expect(200);
    assert_eq!((&session["status"], &session["endReason"]), (&json!("completed"), &json!("empty")));
    for action in ["start", "end", "switch-roles", "annotations", "signal"] {
        let body = json!({"filePath": "a", "line": 1, "content": "x", "type": "cursor"});
        ada.post(&format!("{path}/{action}"), &body).await.problem(409, "SESSION_ENDED");
    }
    join(&ada, &id, json!({})).await.problem(409, "SESSION_ENDED");
    ada.put(&path, &json!({"title": "x"})).await.problem(409, "SESSION_ENDED");
    ada.put(&path, &json!({"recordingUrl": "https://example.com/r.webm"})).await.done(200);
    // It is history, and counts for whoever took part.
    let past = bob.get("/api/pairing/history?mine=true").await.expect(200);
    assert_eq!((&past["total"], &past["items"][0]["id"]), (&json!(1), &json!(id)), "{past}");
    let stats = bob.get("/api/pairing/stats").await.expect(200);
    assert_eq!((&stats["mine"]["byStatus"]["completed"], &stats["people"]), (&json!(1), &json!(3)), "{stats}");
    assert_eq!(stats["partners"].as_array().map(Vec::len), Some(2), "{stats}");
    // Nobody else's organization has any of it.
    let eve = host.client().register("eve@example.com", "Reef").await;
    eve.get(&path).await.problem(404, "NOT_FOUND");
    join(&eve, &id, json!({})).await.problem(404, "NOT_FOUND");
    assert_eq!(eve.get("/api/pairing/stats").await.expect(200)["total"]["sessions"], 0);
    bob.delete(&path).await.problem(403, "FORBIDDEN");
    ada.delete(&path).await.done(204);
    ada.get(&path).await.problem(404, "NOT_FOUND");
    // Others hear of all of it, each once: a driver who is switched and one who leaves hand over.
    for kind in ["scheduled", "started"] {
        assert_eq!(heard(&ada, &format!("pairing.session.{kind}"), 1).await[0]["sessionId"], id.as_str());
    }
    let ended = heard(&ada, "pairing.session.ended", 1).await;
    assert_eq!((&ended[0]["status"], &ended[0]["reason"]), (&json!("completed"), &json!("empty")));
    let switched = heard(&ada, "pairing.role.switched", 3).await;
    let mut drivers: Vec<String> = switched.iter().map(|switch| text(switch, "previousDriverId")).collect();
    let mut expected = [&ada, bob, &ada].map(members::id);
    drivers.sort_unstable();
    expected.sort_unstable();
    assert_eq!(drivers, expected, "{switched:?}");
}

#[tokio::test]
async fn a_mob_is_three_and_nobody_is_in_two_sessions_at_once() {
    let (_host, ada, people) = house(Manifest::services(), &["bob", "cleo"]).await;
    let (bob, cleo) = (&people[0], &people[1]);
    let mob = planned(&ada, json!({"title": "Mob", "sessionType": "mob"})).await;
    for person in [&ada, bob] {
        join(person, &mob, json!({})).await.done(200);
    }
    act(&ada, &mob, "start").await.problem(422, "TOO_FEW_PARTICIPANTS");
    join(cleo, &mob, json!({"role": "navigator"})).await.done(200);
    let session = act(&ada, &mob, "start").await.expect(200);
    assert_eq!(roles(&session), expected(&[(&ada, "driver"), (bob, "navigator"), (cleo, "navigator")]));
    for driver in [bob, cleo, &ada] {
        assert_eq!(act(bob, &mob, "switch-roles").await.expect(200)["driverId"], members::id(driver).as_str());
    }
    // One may plan to be elsewhere, but not be there.
    let pair = planned(bob, json!({"title": "Pair"})).await;
    join(bob, &pair, json!({})).await.done(200);
    let refused = act(bob, &pair, "start").await.problem(409, "IN_ANOTHER_SESSION");
    assert_eq!(refused["userId"], members::id(bob).as_str());
    let own = planned(bob, json!({"title": "Reading", "sessionType": "async"})).await;
    join(bob, &own, json!({})).await.done(200);
    act(bob, &own, "start").await.done(200);
    let presence = ada.get(&format!("/api/pairing/presence?userIds={}", members::id(bob))).await.expect(200);
    assert_eq!(presence["items"][0]["activeSessionId"], mob.as_str(), "{presence}");
    act(&ada, &mob, "end").await.done(200);
    // Two sessions want the same two people at the same moment: one gets them.
    let other = planned(cleo, json!({"title": "Other"})).await;
    join(cleo, &other, json!({})).await.done(200);
    join(bob, &other, json!({})).await.done(200);
    join(cleo, &pair, json!({})).await.done(200);
    let (one, two) = tokio::join!(act(bob, &pair, "start"), act(cleo, &other, "start"));
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409], "{} {}", one.text(), two.text());
    let lost = if one.status == 409 { &one } else { &two };
    lost.problem(409, "IN_ANOTHER_SESSION");
}

#[tokio::test]
async fn many_who_come_at_once_find_one_driver_and_one_navigator() {
    let (_host, ada, people) = house(Manifest::services(), &["bob", "cleo", "dan", "eli"]).await;
    let id = planned(&ada, json!({"title": "Rush"})).await;
    let everybody: Vec<&Client> = std::iter::once(&ada).chain(&people).collect();
    let arrivals = everybody.iter().map(|person| join(person, &id, json!({})));
    for answer in futures_util::future::join_all(arrivals).await {
        answer.done(200);
    }
    act(&ada, &id, "start").await.done(200);
    let count = |session: &Value, role: &str| roles(session).iter().filter(|(_, held)| held == role).count();
    let session = ada.get(&format!("{SESSIONS}/{id}")).await.expect(200);
    assert_eq!((count(&session, "driver"), count(&session, "navigator"), count(&session, "observer")), (1, 1, 3));
    // They leave at once as well: nobody is left, and the session is over, once.
    let departures = everybody.iter().map(|person| leave(person, &id));
    for answer in futures_util::future::join_all(departures).await {
        answer.done(200);
    }
    let session = ada.get(&format!("{SESSIONS}/{id}")).await.expect(200);
    assert_eq!(
        (&session["status"], &session["endReason"], roles(&session).len()),
        (&json!("completed"), &json!("empty"), 0)
    );
}

#[tokio::test]
async fn nobody_is_recorded_without_saying_so_and_bad_input_is_named() {
    let (host, ada, people) = house(Manifest::services(), &["bob"]).await;
    let bob = &people[0];
    let id = planned(&ada, json!({"title": "On air"})).await;
    let path = format!("{SESSIONS}/{id}");
    join(&ada, &id, json!({"recordingConsent": true})).await.done(200);
    join(bob, &id, json!({})).await.done(200);
    let refused = ada.put(&path, &json!({"recordingEnabled": true})).await.problem(422, "RECORDING_CONSENT_REQUIRED");
    assert_eq!(refused["userIds"], json!([members::id(bob)]));
    join(bob, &id, json!({"recordingConsent": true})).await.done(200);
    assert_eq!(ada.put(&path, &json!({"recordingEnabled": true})).await.expect(200)["recordingEnabled"], true);
    act(&ada, &id, "start").await.done(200);
    let cleo = members::bring(&host, &ada, "cleo@example.com", "Member").await;
    join(&cleo, &id, json!({})).await.problem(422, "RECORDING_CONSENT_REQUIRED");
    join(&cleo, &id, json!({"recordingConsent": true})).await.done(200);
    // Whoever takes it back is recorded no longer.
    assert_eq!(join(bob, &id, json!({"recordingConsent": false})).await.expect(200)["recordingEnabled"], false);
    for (body, fields) in [
        (json!({}), vec!["title"]),
        (
            json!({"title": "", "sessionType": "party", "durationMinutes": "long"}),
            vec!["sessionType", "title", "durationMinutes"],
        ),
        (json!({"title": "x", "driverId": members::id(&ada), "navigatorId": members::id(&ada)}), vec!["navigatorId"]),
        (
            json!({"title": "x", "driverId": "nobody", "inviteeIds": [members::id(bob), "nobody"]}),
            vec!["driverId", "inviteeIds[1]"],
        ),
        (json!({"title": "x", "durationMinutes": 0}), vec!["durationMinutes"]),
        (json!({"title": "x", "driverId": "a b"}), vec!["driverId"]),
    ] {
        let answer = ada.post(SESSIONS, &body).await;
        answer.problem(400, "VALIDATION_ERROR");
        let (mut found, mut wanted) = (answer.faulty_fields(), fields);
        found.sort();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{body}");
    }
    ada.post(SESSIONS, &json!({"title": "x", "scheduledAt": "soon"})).await.problem(400, "VALIDATION_ERROR");
    let stale = ada.request(Method::PUT, &path).header("if-match", "\"1\"").json(&json!({"title": "y"}));
    ada.send(stale).await.problem(412, "PRECONDITION_FAILED");
    let wrong = ada.post(&format!("{path}/signal"), &json!({"type": "cursor"})).await;
    wrong.problem(400, "VALIDATION_ERROR");
    assert_eq!(wrong.faulty_fields(), ["filePath", "line"]);
    // A viewer looks on, and takes no part.
    let viewer = members::bring(&host, &ada, "vic@example.com", "Viewer").await;
    viewer.get(&path).await.done(200);
    join(&viewer, &id, json!({})).await.problem(403, "FORBIDDEN");
    viewer.put("/api/pairing/presence", &json!({"status": "away"})).await.done(200);
    let there = ada.get("/api/pairing/presence?status=away").await.expect(200);
    assert_eq!((&there["total"], &there["items"][0]["userId"]), (&json!(1), &json!(members::id(&viewer))), "{there}");
    viewer.put("/api/pairing/presence", &json!({"status": "asleep"})).await.problem(400, "VALIDATION_ERROR");
}

#[tokio::test]
async fn a_stream_brings_what_happens_and_whoever_comes_back_misses_nothing() {
    let (_host, ada, people) = house(Manifest::services(), &["bob", "cleo"]).await;
    let (bob, cleo) = (&people[0], &people[1]);
    let id = planned(&ada, json!({"title": "Live"})).await;
    let (path, stream) = (format!("{SESSIONS}/{id}"), format!("{SESSIONS}/{id}/stream"));
    bob.get(&stream).await.problem(403, "NOT_JOINED");
    join(&ada, &id, json!({})).await.done(200);
    join(bob, &id, json!({})).await.done(200);
    act(&ada, &id, "start").await.done(200);
    let mut live = EventStream::open(bob, &stream, None).await.expect("a stream");
    let state = live.wait_for("session.state").await;
    assert_eq!((&state.data["status"], roles(&state.data).len()), (&json!("active"), 2));
    let signal = async |client: &Client, body: Value| client.post(&format!("{path}/signal"), &body).await;
    signal(cleo, json!({"type": "cursor", "filePath": "a.rs", "line": 1})).await.problem(409, "NOT_JOINED");
    let sent = signal(&ada, json!({"type": "cursor", "filePath": "a.rs", "line": 7, "column": 3})).await.expect(200);
    assert_eq!((&sent["delivered"], &sent["seq"]), (&json!(true), &Value::Null));
    let cursor = live.wait_for("cursor").await;
    assert_eq!((cursor.id, &cursor.data["line"], &cursor.data["userId"]), (None, &json!(7), &json!(members::id(&ada))));
    signal(&ada, json!({"type": "file", "filePath": "b.rs"})).await.done(200);
    let file = live.wait_for("file.changed").await;
    assert_eq!((&file.data["filePath"], &file.data["by"]), (&json!("b.rs"), &json!(members::id(&ada))));
    assert_eq!(ada.get(&path).await.expect(200)["currentFile"], "b.rs");
    // A signal of media reaches the one it is for, and nobody else.
    join(cleo, &id, json!({})).await.done(200);
    signal(&ada, json!({"type": "media", "to": members::id(cleo), "data": {"sdp": "for cleo"}})).await.done(200);
    signal(&ada, json!({"type": "media", "to": members::id(bob), "data": {"sdp": "for bob"}})).await.done(200);
    signal(&ada, json!({"type": "media", "to": "nobody", "data": {}})).await.problem(422, "NOT_JOINED");
    assert_eq!(live.wait_for("media").await.data["signal"]["sdp"], "for bob");
    // What bob misses while he is away is there when he is back, in its order, once.
    let last = file.id.expect("a number");
    drop(live);
    let note = json!({"filePath": "b.rs", "line": 3, "content": "Why <this>?"});
    let note = cleo.post(&format!("{path}/annotations"), &note).await.expect(201);
    assert_eq!(note["content"], "Why <this>?");
    let resolve = format!("/api/pairing/annotations/{}/resolve", text(&note, "id"));
    let resolved = ada.put(&resolve, &json!({})).await.expect(200);
    assert_eq!(ada.put(&resolve, &json!({})).await.expect(200)["resolvedAt"], resolved["resolvedAt"]);
    let open = ada.get(&format!("{path}/annotations?resolved=false")).await.expect(200);
    assert_eq!(
        (&open["total"], &ada.get(&format!("{path}/annotations")).await.expect(200)["total"]),
        (&json!(0), &json!(1))
    );
    act(&ada, &id, "switch-roles").await.done(200);
    act(&ada, &id, "end").await.done(200);
    let mut again = EventStream::open(bob, &stream, Some(&last)).await.expect("a stream");
    let mut missed = Vec::new();
    while let Some(event) = again.next().await {
        missed.push((event.kind, event.id.and_then(|id| id.parse::<i64>().ok()).expect("a number")));
    }
    let kinds: Vec<&str> = missed.iter().map(|(kind, _)| kind.as_str()).collect();
    let wanted =
        ["participant.joined", "media", "annotation.created", "annotation.resolved", "role.switched", "session.ended"];
    assert_eq!(kinds, wanted);
    assert!(missed.is_sorted_by_key(|(_, seq)| *seq), "{missed:?}");
}

#[tokio::test]
async fn silence_ends_a_session_and_a_plan_is_in_the_calendar() {
    let manifest = Manifest::services().with(
        "idle = \"5m\"",
        "idle = \"1s\"\n\n[plugin.config]\nidle_seconds = \"1\"\nasync_idle_seconds = \"86400\"",
    );
    let (_host, ada, people) = house(manifest, &["bob"]).await;
    let bob = &people[0];
    let slow = planned(&ada, json!({"title": "Reading", "sessionType": "async"})).await;
    act(&ada, &slow, "start").await.done(200);
    let body = json!({"title": "Quay works", "scheduledAt": "2031-03-04T09:00:00Z", "durationMinutes": 45,
        "driverId": members::id(&ada), "inviteeIds": [members::id(bob)]});
    let id = planned(&ada, body).await;
    let listed = async || {
        let path = "/api/calendar/events?from=2031-03-04T00:00:00Z&to=2031-03-05T00:00:00Z";
        let page = ada.get(path).await.expect(200);
        page["items"].as_array().cloned().unwrap_or_default()
    };
    let entry = eventually("the session in the calendar", async || listed().await.into_iter().next()).await;
    assert_eq!((&entry["title"], &entry["endTime"]), (&json!("Quay works"), &json!("2031-03-04T09:45:00.000Z")));
    let attendees: Vec<String> =
        entry["attendees"].as_array().into_iter().flatten().map(|one| text(one, "userId")).collect();
    assert!([&ada, bob].into_iter().all(|person| attendees.contains(&members::id(person))), "{entry}");
    eventually("the invitation", async || {
        let inbox = bob.get("/api/notifications").await.expect(200);
        let items = inbox["items"].as_array().cloned().unwrap_or_default();
        items.iter().any(|item| item["title"] == "You are asked to a session: Quay works").then_some(())
    })
    .await;
    assert_eq!(bob.get(&format!("{SESSIONS}?mine=true")).await.expect(200)["items"][0]["id"], id.as_str());
    // A plan that loses its time is in nobody's calendar until it has another one.
    let path = format!("{SESSIONS}/{id}");
    ada.put(&path, &json!({"scheduledAt": null})).await.done(200);
    eventually("no session in the calendar", async || listed().await.is_empty().then_some(())).await;
    ada.put(&path, &json!({"scheduledAt": "2031-03-04T14:00:00Z"})).await.done(200);
    let entry = eventually("the session at its new time", async || listed().await.into_iter().next()).await;
    assert_eq!(
        (&entry["startTime"], &entry["status"]),
        (&json!("2031-03-04T14:00:00.000Z"), &json!("confirmed")),
        "{entry}"
    );
    // A plan that is given up is given up there as well.
    bob.put(&path, &json!({"status": "cancelled"})).await.problem(403, "FORBIDDEN");
    assert_eq!(ada.put(&path, &json!({"status": "cancelled"})).await.expect(200)["endReason"], "cancelled");
    eventually("the cancellation in the calendar", async || {
        let items = listed().await;
        items.iter().all(|item| item["status"] == "cancelled").then_some(())
    })
    .await;
    let live = planned(&ada, json!({"title": "Silent"})).await;
    let session = act(&ada, &live, "start").await.expect(200);
    assert_eq!(roles(&session), expected(&[(&ada, "driver")]), "whoever begins an empty session takes part");
    let ended = eventually("the end of a silent session", async || {
        let session = ada.get(&format!("{SESSIONS}/{live}")).await.expect(200);
        (session["status"] == "completed").then_some(session)
    })
    .await;
    assert_eq!(ended["endReason"], "idle");
    assert_eq!(ada.get(&format!("{SESSIONS}/{slow}")).await.expect(200)["status"], "active");
    // One is free for the next one.
    let next = planned(&ada, json!({"title": "Next"})).await;
    act(&ada, &next, "start").await.done(200);
}

#[tokio::test]
async fn a_review_offers_a_session_and_a_private_project_keeps_its_own() {
    let (_host, ada, people) = house(Manifest::services(), &["bob", "cleo"]).await;
    let (bob, cleo) = (&people[0], &people[1]);
    let project =
        text(&bob.post("/api/projects", &json!({"name": "Secret", "visibility": "private"})).await.expect(201), "id");
    let foreign = json!({"title": "x", "projectId": project});
    cleo.post(SESSIONS, &foreign).await.problem(404, "NOT_FOUND");
    ada.post(SESSIONS, &json!({"title": "x", "projectId": "nothing"})).await.problem(404, "NOT_FOUND");
    let id = planned(bob, foreign).await;
    let path = format!("{SESSIONS}/{id}");
    bob.get(&path).await.done(200);
    for answer in [
        cleo.get(&path).await,
        cleo.put(&path, &json!({"title": "mine"})).await,
        join(cleo, &id, json!({})).await,
        cleo.get(&format!("{path}/stream")).await,
        cleo.get(&format!("{path}/annotations")).await,
        cleo.post(&format!("{path}/annotations"), &json!({"filePath": "a", "line": 1, "content": "x"})).await,
    ] {
        answer.problem(404, "NOT_FOUND");
    }
    assert_eq!(cleo.get(SESSIONS).await.expect(200)["total"], 0);
    assert_eq!(cleo.get("/api/pairing/stats").await.expect(200)["total"]["sessions"], 0);
    assert_eq!(cleo.get("/api/collaboration/overview").await.expect(200)["totals"]["scheduledSessions"], 0);
    assert_eq!(bob.get(SESSIONS).await.expect(200)["total"], 1);
    // Who is in it is not told either.
    join(bob, &id, json!({})).await.done(200);
    act(bob, &id, "start").await.done(200);
    let present = format!("/api/pairing/presence?activeSessionId={id}");
    assert_eq!(bob.get(&present).await.expect(200)["total"], 1);
    assert_eq!(cleo.get(&present).await.expect(200)["total"], 0);
    let open = plans::project(&ada, "Open").await;
    let review = json!({"projectId": open, "reviewableType": "code", "reviewableId": "c1", "title": "The winch",
        "assignedTo": members::id(cleo)});
    let review = text(&ada.post("/api/reviews", &review).await.expect(201), "id");
    let offer = eventually("the offer of a session", async || {
        let page = cleo.get(&format!("{SESSIONS}?reviewId={review}")).await.expect(200);
        page["items"].as_array()?.first().cloned()
    })
    .await;
    assert_eq!(
        (&offer["title"], &offer["driverId"], &offer["navigatorId"]),
        (&json!("Review: The winch"), &json!(members::id(&ada)), &json!(members::id(cleo)))
    );
    let id = text(&offer, "id");
    eventually("a word of the offer", async || {
        let inbox = cleo.get("/api/notifications?type=pairing.session.scheduled").await.expect(200);
        (inbox["items"][0]["title"] == "You are asked to a session: Review: The winch").then_some(())
    })
    .await;
    assert_eq!(roles(&join(cleo, &id, json!({})).await.expect(200)), expected(&[(cleo, "navigator")]));
    let session = join(&ada, &id, json!({})).await.expect(200);
    assert_eq!(roles(&session), expected(&[(cleo, "navigator"), (&ada, "driver")]));
}

#[tokio::test]
async fn a_review_that_is_asked_for_twice_at_once_is_offered_once() {
    let manifest = Manifest::services_and_herald("", "")
        .with("[\"herald_\"]\npublish = [\"observability.#\"]", "[\"herald_\"]\npublish = [\"review.#\"]");
    let (_host, ada, people) = house(manifest, &["bob", "cleo"]).await;
    let reviews = ["r1", "r2", "r3", "r4"];
    let mut news = Vec::new();
    for review in reviews {
        for person in &people {
            let data = json!({"reviewId": review, "title": review, "requestedBy": members::id(&ada),
                "assignedTo": members::id(person)});
            news.push(json!({"type": "review.requested", "data": data}));
        }
    }
    for answer in futures_util::future::join_all(news.iter().map(|news| ada.post("/api/herald", news))).await {
        answer.done(204);
    }
    // Whoever is asked is told: then both of the messages about a review were handled.
    for person in &people {
        eventually("a word of every offer", async || {
            let inbox = person.get("/api/notifications?type=pairing.session.scheduled&limit=200").await.expect(200);
            let titles: Vec<String> = inbox["items"].as_array()?.iter().map(|item| text(item, "title")).collect();
            let is_told = |review: &&str| titles.contains(&format!("You are asked to a session: Review: {review}"));
            reviews.iter().all(is_told).then_some(())
        })
        .await;
    }
    for review in reviews {
        let offers = ada.get(&format!("{SESSIONS}?reviewId={review}")).await.expect(200);
        assert_eq!(offers["total"], 1, "{offers}");
    }
}
