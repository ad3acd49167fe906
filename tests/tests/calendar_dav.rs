//! calendar over CalDAV: a program that knows only the host's name, an address and a key finds every calendar and what
//! takes place when, and nothing that its user does not see. With Python's `caldav` in the last test, which is installed
//! into an environment below `target/` where it is missing: `cargo test --release --test calendar_dav -- --ignored`.
#![expect(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::process::Command;

use berth_tests::answer::text;
use berth_tests::members::host_with_ada;
use berth_tests::programs::{self, python, script};
use berth_tests::{Answer, Client, Host, members};
use reqwest::Method;
use serde_json::{Value, json};

const EVENTS: &str = "/api/calendar/events";
const ROOT: &str = "/api/calendar/dav/";
const READ: &str = "calendar.calendar.read";
/// The version whose behaviour is known.
const PYTHON_CALDAV: &str = "3.6.0";

/// A calendar program: an address and a key.
struct Program {
    client: Client,
    address: String,
    key: String,
}

impl Program {
    async fn of(host: &Host, user: &Client, address: &str, permissions: &[&str]) -> Self {
        let body = json!({"name": "Calendar", "permissions": permissions});
        let key = text(&user.post("/api/users/me/api-keys", &body).await.expect(201), "key");
        Self { client: host.client(), address: address.to_owned(), key }
    }

    async fn send(&self, method: &str, path: &str, depth: &str, body: &str) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let request = self.client.request(method, path).basic_auth(&self.address, Some(&self.key));
        let request = request.header("depth", depth).header("content-type", "application/xml; charset=utf-8");
        self.client.send(request.body(body.to_owned())).await
    }

    /// What is said of these properties.
    async fn find(&self, path: &str, depth: &str, properties: &str) -> String {
        let body = format!(
            "<?xml version=\"1.0\"?><D:propfind xmlns:D=\"DAV:\" xmlns:C=\"urn:ietf:params:xml:ns:caldav\" \
             xmlns:S=\"http://calendarserver.org/ns/\"><D:prop>{properties}</D:prop></D:propfind>"
        );
        said(&self.send("PROPFIND", path, depth, &body).await)
    }

    async fn report(&self, path: &str, kind: &str, inner: &str) -> Answer {
        let body = format!("<C:{kind} xmlns:D=\"DAV:\" xmlns:C=\"urn:ietf:params:xml:ns:caldav\">{inner}</C:{kind}>");
        self.send("REPORT", path, "1", &body).await
    }

    /// What takes place within a range.
    async fn query(&self, path: &str, data: &str, from: &str, to: &str) -> String {
        let filter = format!(
            "<D:prop><D:getetag/>{data}</D:prop><C:filter><C:comp-filter name=\"VCALENDAR\">\
             <C:comp-filter name=\"VEVENT\"><C:time-range start=\"{from}\" end=\"{to}\"/></C:comp-filter></C:comp-filter></C:filter>"
        );
        said(&self.report(path, "calendar-query", &filter).await)
    }

    async fn sync(&self, path: &str, token: &str) -> Answer {
        let body = format!(
            "<D:sync-collection xmlns:D=\"DAV:\"><D:sync-token>{token}</D:sync-token><D:sync-level>1</D:sync-level>\
             <D:prop><D:getetag/></D:prop></D:sync-collection>"
        );
        self.send("REPORT", path, "0", &body).await
    }

    /// The address of the collection of this name.
    async fn collection(&self, name: &str) -> Option<String> {
        let home = format!("{ROOT}calendars/{}/", self.user().await);
        let listed = self.find(&home, "1", "<D:displayname/><D:resourcetype/>").await;
        let own =
            listed.split("<D:response>").find(|part| part.contains(&format!("<D:displayname>{name}</D:displayname>")));
        own.map(|part| between(part, "<D:href>", "</D:href>").to_owned())
    }

    async fn user(&self) -> String {
        let found = self.find(ROOT, "0", "<D:current-user-principal/>").await;
        let principal = between(&found, "<D:current-user-principal><D:href>", "</D:href>");
        principal.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
    }
}

fn said(answer: &Answer) -> String {
    answer.done(207);
    assert_eq!(answer.header("content-type"), "application/xml; charset=utf-8");
    answer.text()
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let rest = text.split_once(from).unwrap_or_else(|| panic!("no {from} in {text}")).1;
    rest.split_once(to).unwrap_or_else(|| panic!("no {to} in {text}")).0
}

fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

async fn calendar(client: &Client, name: &str, more: &Value) -> String {
    let mut body = json!({"name": name});
    for (member, value) in more.as_object().into_iter().flatten() {
        body[member] = value.clone();
    }
    text(&client.post("/api/calendar/calendars", &body).await.expect(201), "id")
}

/// Mondays at ten in Berlin through March 2026: one left out, one an hour later and called otherwise.
async fn weekly(client: &Client, calendar: &str) -> String {
    let body = json!({"title": "Crew & mates", "startTime": "2026-03-02T09:00:00Z", "endTime": "2026-03-02T10:00:00Z",
        "eventType": "meeting", "timezone": "Europe/Berlin", "rrule": "FREQ=WEEKLY;COUNT=5", "calendarId": calendar,
        "exdates": ["2026-03-16T09:00:00Z"]});
    let id = text(&client.post(EVENTS, &body).await.expect(201), "id");
    let apart = json!({"title": "Apart", "startTime": "2026-03-09T10:00:00Z"});
    client.put(&format!("{EVENTS}/{id}?scope=this&recurrenceId=2026-03-09T09:00:00Z"), &apart).await.done(200);
    id
}

#[tokio::test]
async fn a_program_that_knows_the_host_finds_calendars_and_events() {
    let (host, ada) = host_with_ada().await;
    let crew = calendar(&ada, "Crew", &json!({"color": "#aa2200"})).await;
    let series = weekly(&ada, &crew).await;
    let alone = json!({"title": "Alone", "startTime": "2026-03-05T09:00:00Z", "endTime": "2026-03-05T10:00:00Z"});
    ada.post(EVENTS, &alone).await.done(201);
    let program = Program::of(&host, &ada, "Ada@example.com", &[READ]).await;

    let moved = program.send("PROPFIND", "/.well-known/caldav", "0", "").await;
    moved.done(301);
    assert_eq!(moved.header("location"), ROOT);
    let options = program.send("OPTIONS", ROOT, "0", "").await;
    options.done(200);
    assert_eq!(options.header("dav"), "1, calendar-access");
    let principal = format!("{ROOT}principals/{}/", program.user().await);
    let found = program.find(&principal, "0", "<C:calendar-home-set/><C:calendar-user-address-set/><D:nothing/>").await;
    let home = between(&found, "<C:calendar-home-set><D:href>", "</D:href>").to_owned();
    assert!(found.contains("mailto:ada@example.com") && found.contains("<D:nothing/></D:prop><D:status>HTTP/1.1 404"));
    let listed = program.find(&home, "1", "<D:displayname/><D:resourcetype/><S:getctag/>").await;
    assert_eq!(count(&listed, "<C:calendar/>"), 2, "Crew, and what is in no calendar: {listed}");
    let (crew, own) =
        (program.collection("Crew").await.expect("Crew"), program.collection("My events").await.expect("own"));

    let data = "<C:calendar-data/>";
    let march = program.query(&crew, data, "20260301T000000Z", "20260401T000000Z").await;
    assert_eq!((count(&march, "<D:response>"), count(&march, "BEGIN:VEVENT")), (1, 2), "{march}");
    for part in [
        "SUMMARY:Crew &amp; mates&#13;\n",
        "DTSTART;TZID=Europe/Berlin:20260302T100000&#13;\n",
        "RRULE:FREQ=WEEKLY;COUNT=5&#13;\n",
        "EXDATE;TZID=Europe/Berlin:20260316T100000&#13;\n",
        "RECURRENCE-ID;TZID=Europe/Berlin:20260309T100000&#13;\n",
    ] {
        assert!(march.contains(part), "{part} is missing in {march}");
    }
    assert!(!march.contains("METHOD:"), "{march}");
    // A day of the series, one that was left out, and the day of the one that was moved.
    for (from, to, hits) in [
        ("20260323T000000Z", "20260324T000000Z", 1),
        ("20260316T000000Z", "20260317T000000Z", 0),
        ("20260309T090000Z", "20260309T100000Z", 0),
        ("20260309T100000Z", "20260309T103000Z", 1),
        ("20260401T000000Z", "20270401T000000Z", 0),
    ] {
        assert_eq!(count(&program.query(&crew, "", from, to).await, "<D:response>"), hits, "{from}");
    }
    let expand = "<C:calendar-data><C:expand start=\"20260301T000000Z\" end=\"20260401T000000Z\"/></C:calendar-data>";
    let each = program.query(&crew, expand, "20260301T000000Z", "20260401T000000Z").await;
    assert_eq!((count(&each, "BEGIN:VEVENT"), count(&each, "RRULE")), (4, 0), "{each}");
    assert!(each.contains("DTSTART:20260330T080000Z&#13;\n"), "summer time has begun: {each}");
    assert!(program.query(&own, data, "20260301T000000Z", "20260401T000000Z").await.contains("SUMMARY:Alone"));

    let range = "<C:time-range start=\"20260302T093000Z\" end=\"20260310T000000Z\"/>";
    let busy = program.report(&crew, "free-busy-query", range).await;
    busy.done(200);
    let periods = ["FREEBUSY:20260302T093000Z/20260302T100000Z\r\n", "FREEBUSY:20260309T100000Z/20260309T110000Z\r\n"];
    assert!(busy.text().contains(&periods.concat()) && !busy.text().contains("Crew"), "{}", busy.text());

    let object = between(&march, "<D:href>", "</D:href>").to_owned();
    assert_eq!(object, format!("{crew}{series}.ics"));
    let etag = between(&march, "<D:getetag>", "</D:getetag>").replace("&quot;", "\"");
    let read = program.send("GET", &object, "0", "").await;
    read.done(200);
    assert_eq!(read.header("etag"), etag);
    assert!(read.header("content-type").starts_with("text/calendar") && read.text().contains("\r\nRRULE:FREQ=WEEKLY"));
    let request = program.client.request(Method::GET, &object).basic_auth(&program.address, Some(&program.key));
    program.client.send(request.header("if-none-match", &etag)).await.done(304);
    let hrefs = format!(
        "<D:prop><D:getetag/>{data}</D:prop><D:href>{object}</D:href><D:href>{crew}nothing.ics</D:href><D:href>/x</D:href>"
    );
    let several = said(&program.report(&crew, "calendar-multiget", &hrefs).await);
    assert_eq!((count(&several, "<D:response>"), count(&several, "HTTP/1.1 404")), (3, 2), "{several}");
    assert!(program.find(&crew, "1", "<D:getetag/>").await.contains(&object));
}

#[tokio::test]
async fn what_has_changed_is_told() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let crew = calendar(&ada, "Crew", &json!({})).await;
    let series = weekly(&ada, &crew).await;
    let program = Program::of(&host, &ada, "ada@example.com", &["calendar.*"]).await;
    let path = program.collection("Crew").await.expect("Crew");
    let first = program.sync(&path, "").await;
    let token = between(&said(&first), "<D:sync-token>", "</D:sync-token>").to_owned();
    assert_eq!(count(&first.text(), "<D:response>"), 1, "{}", first.text());
    let state = async || between(&program.find(&path, "0", "<S:getctag/>").await, "<S:getctag>", "<").to_owned();
    let tag = async || {
        let listed = program.find(&format!("{path}{series}.ics"), "0", "<D:getetag/>").await;
        between(&listed, "<D:getetag>", "<").to_owned()
    };
    let mut before = (state().await, tag().await);
    assert_eq!(before, (state().await, tag().await), "nothing has changed");
    let again = said(&program.sync(&path, &token).await);
    assert_eq!((count(&again, "<D:response>"), between(&again, "<D:sync-token>", "<")), (0, token.as_str()));

    let row = format!("{EVENTS}/{series}");
    ada.put(&row, &json!({"attendees": [{"userId": members::id(&bob)}]})).await.done(200);
    let mut changed = async |what: &str| {
        let after = (state().await, tag().await);
        assert!(after.0 != before.0 && after.1 != before.1, "{what}: {before:?} {after:?}");
        before = after;
    };
    changed("somebody is invited").await;
    bob.post(&format!("{row}/respond"), &json!({"response": "accepted"})).await.done(200);
    changed("somebody has answered").await;
    ada.put(&format!("{row}?scope=this&recurrenceId=2026-03-23T09:00:00Z"), &json!({"title": "Other"})).await.done(200);
    changed("one stands apart").await;
    let stale = program.sync(&path, &token).await;
    stale.done(403);
    assert!(stale.text().contains("<D:valid-sync-token/>"), "{}", stale.text());
    let last = state().await;
    ada.delete(&row).await.done(204);
    assert_ne!(state().await, last);
    assert_eq!(count(&said(&program.sync(&path, "").await), "<D:response>"), 0);
    program.send("GET", &format!("{path}{series}.ics"), "0", "").await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn nobody_sees_more_than_elsewhere() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Viewer").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let shared = calendar(&ada, "Everybody", &json!({"ownerType": "organization"})).await;
    calendar(&ada, "Ada's own", &json!({})).await;
    let private = json!({"title": "Dentist", "description": "left", "visibility": "private", "calendarId": shared,
        "startTime": "2026-03-02T09:00:00Z", "endTime": "2026-03-02T10:00:00Z"});
    ada.post(EVENTS, &private).await.done(201);
    let hers = Program::of(&host, &ada, "ada@example.com", &[READ]).await;
    let his = Program::of(&host, &bob, "bob@example.com", &[READ]).await;
    let (from, to) = ("20260301T000000Z", "20260401T000000Z");
    let path = hers.collection("Everybody").await.expect("Everybody");
    let whole = hers.query(&path, "<C:calendar-data/>", from, to).await;
    assert!(whole.contains("SUMMARY:Dentist"), "{whole}");
    let object = between(&whole, "<D:href>", "</D:href>").to_owned();
    assert!(his.collection("Ada's own").await.is_none());
    let path = his.collection("Everybody").await.expect("Everybody");
    let busy = his.query(&path, "<C:calendar-data/>", from, to).await;
    assert!(busy.contains("SUMMARY:Busy") && !busy.contains("Dentist") && !busy.contains("left"), "{busy}");
    assert_ne!(between(&whole, "<D:getetag>", "<"), between(&busy, "<D:getetag>", "<"));
    // Addresses of others lead nowhere, in the organization and outside.
    let hers_by_eve = Program::of(&host, &eve, "eve@example.com", &["*"]).await;
    for stranger in [&his, &hers_by_eve] {
        for method in ["GET", "PROPFIND", "OPTIONS"] {
            stranger.send(method, &object, "0", "").await.problem(404, "NOT_FOUND");
        }
    }
    let foreign = format!("{ROOT}calendars/{}/{shared}/", hers_by_eve.user().await);
    hers_by_eve.send("PROPFIND", &foreign, "0", "").await.problem(404, "NOT_FOUND");
    assert!(hers_by_eve.collection("Everybody").await.is_none());

    let narrow = Program::of(&host, &ada, "ada@example.com", &["projects.*"]).await;
    for (method, path) in [("PROPFIND", ROOT), ("PROPFIND", "/api/calendar/dav"), ("GET", object.as_str())] {
        narrow.send(method, path, "0", "").await.problem(403, "FORBIDDEN");
    }
    let with_password = Program { key: berth_tests::client::PASSWORD.into(), ..hers };
    let refused = with_password.send("PROPFIND", ROOT, "0", "").await;
    refused.problem(401, "UNAUTHORIZED");
    assert!(refused.header("www-authenticate").starts_with("Basic realm="), "{:?}", refused.headers);
    let elsewhere = with_password.send("GET", EVENTS, "0", "").await;
    assert_eq!(elsewhere.header("www-authenticate"), "Bearer");
}

#[tokio::test]
async fn what_is_hostile_or_not_served_is_refused() {
    let (host, ada) = host_with_ada().await;
    let crew = calendar(&ada, "Crew", &json!({})).await;
    let series = weekly(&ada, &crew).await;
    let program = Program::of(&host, &ada, "ada@example.com", &[READ]).await;
    let path = program.collection("Crew").await.expect("Crew");
    let bomb =
        "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]><propfind xmlns=\"DAV:\">&b;</propfind>";
    let deep = format!("{}{}", "<a>".repeat(20_000), "</a>".repeat(20_000));
    for (method, body) in
        [("PROPFIND", bomb), ("REPORT", bomb), ("PROPFIND", deep.as_str()), ("REPORT", &deep), ("REPORT", "")]
    {
        program.send(method, &path, "1", body).await.problem(400, "INVALID_XML");
    }
    let large = " ".repeat(300_000);
    program.send("REPORT", &path, "1", &large).await.problem(413, "PAYLOAD_TOO_LARGE");
    let endless = program.send("PROPFIND", &path, "infinity", "").await;
    endless.done(403);
    assert!(endless.text().contains("<D:propfind-finite-depth/>"), "{}", endless.text());
    let unknown = program.report(&path, "tell-everything", "").await;
    assert!(unknown.status == 403 && unknown.text().contains("<D:supported-report/>"), "{}", unknown.text());
    let endless = program.report(&path, "free-busy-query", "<C:time-range start=\"20260301T000000Z\"/>").await;
    assert!(endless.status == 403 && endless.text().contains("<C:valid-filter/>"), "{}", endless.text());
    let filter = "<C:filter><C:comp-filter name=\"VCALENDAR\"><C:comp-filter name=\"VEVENT\"><C:prop-filter name=\"UID\"/>\
        </C:comp-filter></C:comp-filter></C:filter>";
    let strange = program.report(&path, "calendar-query", filter).await;
    assert!(strange.status == 403 && strange.text().contains("<C:supported-filter/>"), "{}", strange.text());
    let object = format!("{path}{series}.ics");
    for method in ["PUT", "DELETE", "PROPPATCH", "MKCALENDAR"] {
        let refused = program.send(method, &object, "0", "BEGIN:VCALENDAR").await;
        refused.problem(405, "METHOD_NOT_ALLOWED");
        assert!(refused.header("allow").contains("PROPFIND"), "{:?}", refused.headers);
    }
    program.send("GET", &object, "0", "").await.done(200);
    let document = host.client().get("/openapi.json").await.expect(200);
    let paths = document["paths"].as_object().expect("paths");
    let described = paths.iter().filter(|(path, _)| path.starts_with("/api/calendar/dav")).collect::<Vec<_>>();
    assert!(described.len() == 1 && described.iter().all(|(_, item)| item["get"].is_object()), "{described:?}");
}

#[tokio::test]
#[ignore = "needs python3 and PyPI"]
async fn pythons_client_shows_calendars_and_their_events() {
    let python = python("caldav", PYTHON_CALDAV);
    let (host, ada) = host_with_ada().await;
    let crew = calendar(&ada, "Crew", &json!({})).await;
    weekly(&ada, &crew).await;
    let program = Program::of(&host, &ada, "ada@example.com", &[READ]).await;
    let url = program.client.url("/.well-known/caldav");
    let client = &mut Command::new(python);
    let (is_good, text) =
        programs::said(client.arg(script("caldav_client.py")).args([&url, &program.address, &program.key]));
    assert!(is_good && text.contains("all of it works"), "{text}");
}
