//! messaging: who sees what, numbers without gaps, and answers that count once.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;

use berth_tests::answer::text;
use berth_tests::{Answer, Client, Host, Manifest, eventually, members, plans};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

const CONVERSATIONS: &str = "/api/messaging/conversations";
const MESSAGES: &str = "/api/messaging/messages";

async fn host_with_ada() -> (Host, Client) {
    started(Manifest::services()).await
}

async fn started(manifest: Manifest) -> (Host, Client) {
    let host = Host::with(manifest).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    (host, ada)
}

/// The manifest with settings of messaging.
fn with_settings(manifest: Manifest, settings: &str) -> Manifest {
    manifest.with("escalations = \"10m\"", &format!("escalations = \"1s\"\n\n[plugin.config]\n{settings}"))
}

async fn open(client: &Client, body: &Value) -> String {
    text(&client.post(CONVERSATIONS, body).await.expect(201), "id")
}

async fn channel(client: &Client) -> String {
    open(client, &json!({"type": "channel", "name": "quay"})).await
}

async fn try_say(client: &Client, conversation: &str, body: &Value) -> Answer {
    client.post(&format!("{CONVERSATIONS}/{conversation}/messages"), body).await
}

async fn say(client: &Client, conversation: &str, body: &Value) -> Value {
    try_say(client, conversation, body).await.expect(201)
}

async fn messages(client: &Client, conversation: &str, query: &str) -> Vec<Value> {
    let page = client.get(&format!("{CONVERSATIONS}/{conversation}/messages{query}")).await.expect(200);
    page["items"].as_array().cloned().unwrap_or_default()
}

fn numbers(messages: &[Value]) -> Vec<i64> {
    messages.iter().filter_map(|message| message["seq"].as_i64()).collect()
}

async fn unread(client: &Client) -> Value {
    client.get("/api/messaging/unread").await.expect(200)
}

#[tokio::test]
async fn a_context_and_a_pair_have_one_conversation() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let project = plans::project(&ada, "Quay").await;
    let about = json!({"type": "context", "contextType": "plan", "contextId": "p1", "title": "The <plan>", "projectId": project});
    // Whoever asks, and however many at once: there is one.
    let answers = join_all([&ada, &bob, &ada, &bob].map(|client| client.post(CONVERSATIONS, &about))).await;
    let ids: BTreeSet<String> = answers.iter().map(|answer| text(&answer.json(), "id")).collect();
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!((ids.len(), made), (1, 1), "{answers:?}");
    let found = bob.get(&format!("{CONVERSATIONS}/by-context?type=plan&id=p1")).await.expect(200);
    assert_eq!((&found["title"], ids.contains(&text(&found, "id"))), (&json!("The plan"), true));
    bob.get(&format!("{CONVERSATIONS}/by-context?type=plan&id=p2")).await.problem(404, "NOT_FOUND");
    // The same context of another organization is another one, and its projects are its own.
    eve.post(CONVERSATIONS, &about).await.problem(404, "NOT_FOUND");
    let theirs = json!({"type": "context", "contextType": "plan", "contextId": "p1"});
    assert!(!ids.contains(&open(&eve, &theirs).await));

    let pair = json!({"type": "direct", "participantIds": [members::id(&bob)]});
    let direct = open(&ada, &pair).await;
    let back = json!({"type": "direct", "participantIds": [members::id(&ada), members::id(&bob)]});
    assert_eq!(text(&bob.post(CONVERSATIONS, &back).await.expect(200), "id"), direct);
    let more = ada.post(&format!("{CONVERSATIONS}/{direct}/participants"), &json!({"userId": members::id(&bob)})).await;
    more.problem(409, "DIRECT_IS_FOR_TWO");

    let faulty = async |body: Value| {
        let answer = ada.post(CONVERSATIONS, &body).await;
        answer.problem(400, "VALIDATION_ERROR");
        answer.faulty_fields()
    };
    assert_eq!(faulty(json!({"type": "context"})).await, ["contextType", "contextId"]);
    assert_eq!(faulty(json!({"type": "channel"})).await, ["name"]);
    assert_eq!(faulty(json!({"type": "party", "name": "n"})).await, ["type"]);
    assert_eq!(faulty(json!({"type": "direct"})).await, ["participantIds"]);
    assert_eq!(faulty(json!({"type": "direct", "participantIds": [members::id(&ada)]})).await, ["participantIds"]);
    assert_eq!(faulty(json!({"type": "direct", "participantIds": [members::id(&eve)]})).await, ["participantIds[0]"]);

    channel(&ada).await;
    let listed = bob.get(&format!("{CONVERSATIONS}?type=channel")).await.expect(200);
    assert_eq!((&listed["total"], &listed["items"][0]["name"]), (&json!(1), &json!("quay")));
    assert_eq!(bob.get(&format!("{CONVERSATIONS}?projectId={project}")).await.expect(200)["total"], 1);
    assert_eq!(bob.get(&format!("{CONVERSATIONS}?mine=true&type=direct")).await.expect(200)["total"], 1);
}

#[tokio::test]
async fn what_is_private_exists_for_its_participants_alone() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Admin").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let id = open(&ada, &json!({"type": "channel", "name": "safe", "isPrivate": true})).await;
    let message = text(&say(&ada, &id, &json!({"content": "the combination is 1234"})).await, "id");
    let paths =
        |id: &str| ["", "/messages", "/participants", "/stream"].map(|rest| format!("{CONVERSATIONS}/{id}{rest}"));
    for other in [&bob, &eve] {
        for path in paths(&id) {
            other.get(&path).await.problem(404, "NOT_FOUND");
        }
        for path in [format!("{MESSAGES}/{message}"), format!("{MESSAGES}/{message}/thread")] {
            other.get(&path).await.problem(404, "NOT_FOUND");
        }
        try_say(other, &id, &json!({"content": "hello?"})).await.problem(404, "NOT_FOUND");
        other.put(&format!("{MESSAGES}/{message}"), &json!({"content": "x"})).await.problem(404, "NOT_FOUND");
        other.delete(&format!("{MESSAGES}/{message}")).await.problem(404, "NOT_FOUND");
        other.post(&format!("{CONVERSATIONS}/{id}/read"), &json!({"seq": 1})).await.problem(404, "NOT_FOUND");
        other.put(&format!("{CONVERSATIONS}/{id}"), &json!({"topic": "x"})).await.problem(404, "NOT_FOUND");
        other.delete(&format!("{CONVERSATIONS}/{id}")).await.problem(404, "NOT_FOUND");
        assert_eq!(other.get("/api/messaging/search?q=combination").await.expect(200)["total"], 0);
        assert_eq!(other.get(CONVERSATIONS).await.expect(200)["total"], 0);
    }
    // Whoever is brought in sees it, until they leave.
    let participants = format!("{CONVERSATIONS}/{id}/participants");
    let joined = ada.post(&participants, &json!({"userIds": [members::id(&bob)]})).await.expect(201);
    assert_eq!(joined, json!({"added": [members::id(&bob)], "total": 2}));
    let stranger = ada.post(&participants, &json!({"userIds": [members::id(&eve)]})).await;
    stranger.problem(400, "VALIDATION_ERROR");
    assert_eq!(numbers(&messages(&bob, &id, "").await), [1]);
    assert_eq!(bob.get("/api/messaging/search?q=combination").await.expect(200)["total"], 1);
    bob.delete(&format!("{participants}?userId={}", members::id(&bob))).await.done(204);
    bob.get(&format!("{CONVERSATIONS}/{id}")).await.problem(404, "NOT_FOUND");
    // An open one is the organization's and nobody else's.
    let open_one = channel(&ada).await;
    eve.get(&format!("{CONVERSATIONS}/{open_one}")).await.problem(404, "NOT_FOUND");
    say(&bob, &open_one, &json!({"content": "hello"})).await;
    ada.delete(&format!("{CONVERSATIONS}/{open_one}")).await.done(204);
    assert!(messages_are_gone(&ada, &open_one).await);
}

async fn messages_are_gone(client: &Client, conversation: &str) -> bool {
    client.get(&format!("{CONVERSATIONS}/{conversation}/messages")).await.status == 404
}

#[tokio::test]
async fn rights_and_bad_input_are_refused() {
    let (host, ada) = host_with_ada().await;
    let viewer = members::bring(&host, &ada, "vic@example.com", "Viewer").await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let id = channel(&ada).await;
    let message = text(&say(&ada, &id, &json!({"content": "hello"})).await, "id");
    viewer.post(CONVERSATIONS, &json!({"type": "channel", "name": "n"})).await.problem(403, "FORBIDDEN");
    try_say(&viewer, &id, &json!({"content": "x"})).await.problem(403, "FORBIDDEN");
    viewer.post(&format!("{MESSAGES}/{message}/reactions"), &json!({"emoji": "x"})).await.problem(403, "FORBIDDEN");
    assert_eq!(numbers(&messages(&viewer, &id, "").await), [1]);
    viewer.post(&format!("{CONVERSATIONS}/{id}/read"), &json!({"seq": 1})).await.done(200);
    bob.delete(&format!("{CONVERSATIONS}/{id}")).await.problem(403, "FORBIDDEN");
    bob.put(&format!("{CONVERSATIONS}/{id}"), &json!({"topic": "mine"})).await.problem(403, "FORBIDDEN");
    bob.put(&format!("{MESSAGES}/{message}"), &json!({"content": "x"})).await.problem(403, "FORBIDDEN");
    bob.delete(&format!("{MESSAGES}/{message}")).await.problem(403, "FORBIDDEN");

    let faulty = async |body: Value| {
        let answer = try_say(&ada, &id, &body).await;
        answer.problem(400, "VALIDATION_ERROR");
        answer.faulty_fields()
    };
    assert_eq!(faulty(json!({})).await, ["content"]);
    assert_eq!(faulty(json!({"content": " "})).await, ["content"]);
    assert_eq!(faulty(json!({"content": "x".repeat(10_001)})).await, ["content"]);
    assert_eq!(faulty(json!({"content": "x", "messageType": "shout"})).await, ["messageType"]);
    assert_eq!(faulty(json!({"content": "x", "messageType": "approval_request"})).await, ["structuredData.approvers"]);
    let stranger =
        json!({"content": "x", "messageType": "approval_request", "structuredData": {"approvers": ["nobody"]}});
    assert_eq!(faulty(stranger).await, ["structuredData.approvers[0]"]);
    try_say(&ada, &id, &json!({"content": "x", "senderType": "agent", "senderId": "a1"}))
        .await
        .problem(403, "FORBIDDEN");
    try_say(&ada, &id, &json!({"content": "x", "threadId": "nothing"})).await.problem(404, "NOT_FOUND");
    for query in ["?before=1&after=2", "?limit=0", "?limit=201", "?after=x"] {
        let path = format!("{CONVERSATIONS}/{id}/messages{query}");
        ada.get(&path).await.problem(400, "VALIDATION_ERROR");
    }
    ada.get("/api/messaging/search").await.problem(400, "VALIDATION_ERROR");
    ada.get("/api/messaging/search?q=---").await.problem(400, "VALIDATION_ERROR");
    ada.post(&format!("{MESSAGES}/{message}/approve"), &json!({})).await.problem(422, "NOT_DECIDABLE");
    ada.post(&format!("{MESSAGES}/{message}/acknowledge"), &json!({})).await.problem(422, "NOT_ACKNOWLEDGEABLE");
}

#[tokio::test]
async fn messages_are_numbered_threaded_and_said_once() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let id = channel(&ada).await;
    let root = say(&ada, &id, &json!({"content": "What <b>now</b>?", "metadata": {"draft": 1}})).await;
    assert_eq!((&root["seq"], &root["content"], &root["state"]), (&json!(1), &json!("What <b>now</b>?"), &Value::Null));
    let root_id = text(&root, "id");
    let named = json!({"content": "Paint.", "threadId": root_id, "clientMessageId": "c1"});
    // Sent again, and at the same moment: there is one.
    let answers = join_all((0..6).map(|_| try_say(&bob, &id, &named))).await;
    let replies: BTreeSet<String> = answers.iter().map(|answer| text(&answer.json(), "id")).collect();
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!((replies.len(), made), (1, 1), "{answers:?}");
    let reply = replies.into_iter().next().unwrap_or_default();
    // A reply to a reply belongs to the same thread.
    say(&ada, &id, &json!({"content": "Which colour?", "threadId": reply})).await;
    for of in [&root_id, &reply] {
        let thread = bob.get(&format!("{MESSAGES}/{of}/thread")).await.expect(200);
        assert_eq!(
            (thread["total"].clone(), numbers(thread["items"].as_array().expect("items"))),
            (json!(2), vec![2, 3])
        );
    }
    assert_eq!(bob.get(&format!("{MESSAGES}/{root_id}")).await.expect(200)["replyCount"], 2);
    for number in 4..=8 {
        say(&ada, &id, &json!({"content": format!("number {number}")})).await;
    }
    assert_eq!(numbers(&messages(&bob, &id, "").await), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(numbers(&messages(&bob, &id, "?limit=3").await), [6, 7, 8]);
    assert_eq!(numbers(&messages(&bob, &id, "?before=4&limit=2").await), [2, 3]);
    assert_eq!(numbers(&messages(&bob, &id, "?after=5&limit=2").await), [6, 7]);
    assert!(messages(&bob, &id, "?after=8").await.is_empty());

    let reactions = format!("{MESSAGES}/{root_id}/reactions");
    ada.post(&reactions, &json!({"emoji": "👍"})).await.done(200);
    let both = bob.post(&reactions, &json!({"emoji": "👍"})).await.expect(200);
    assert_eq!(both["reactions"]["👍"].as_array().map(Vec::len), Some(2));
    let one = bob.post(&reactions, &json!({"emoji": "👍"})).await.expect(200);
    assert_eq!(one["reactions"], json!({"👍": [members::id(&ada)]}));

    let edited = ada.put(&format!("{MESSAGES}/{root_id}"), &json!({"content": "What next?"})).await.expect(200);
    assert!(edited["editedAt"].is_string() && edited["content"] == "What next?", "{edited}");
    let stale = ada.request(Method::PUT, &format!("{MESSAGES}/{root_id}")).header("if-match", "\"1\"");
    ada.send(stale.json(&json!({"content": "x"}))).await.problem(412, "PRECONDITION_FAILED");
    bob.delete(&format!("{MESSAGES}/{reply}")).await.done(204);
    bob.delete(&format!("{MESSAGES}/{reply}")).await.problem(404, "NOT_FOUND");
    bob.put(&format!("{MESSAGES}/{reply}"), &json!({"content": "x"})).await.problem(409, "MESSAGE_DELETED");
    // What is left keeps its number and says nothing.
    let all = messages(&ada, &id, "").await;
    assert_eq!(numbers(&all), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(all[1]["deletedAt"].is_string() && all[1]["content"] == "" && all[0]["replyCount"] == 1, "{all:?}");

    let archived = ada.put(&format!("{CONVERSATIONS}/{id}"), &json!({"isArchived": true})).await.expect(200);
    assert_eq!(archived["isArchived"], true);
    try_say(&bob, &id, &json!({"content": "too late"})).await.problem(409, "CONVERSATION_ARCHIVED");
    ada.post(&reactions, &json!({"emoji": "x"})).await.problem(409, "CONVERSATION_ARCHIVED");
}

#[tokio::test]
async fn own_words_can_be_changed_for_a_while_and_by_administrators_always() {
    let (host, ada) = started(with_settings(Manifest::services(), "edit_window_seconds = \"2\"")).await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let id = channel(&ada).await;
    let message = text(&say(&bob, &id, &json!({"content": "first"})).await, "id");
    let path = format!("{MESSAGES}/{message}");
    eventually("the window closing", async || {
        let answer = bob.put(&path, &json!({"content": "second"})).await;
        (answer.status != 200).then(|| answer.problem(409, "EDIT_WINDOW_OVER"))
    })
    .await;
    bob.delete(&path).await.problem(409, "EDIT_WINDOW_OVER");
    assert_eq!(ada.put(&path, &json!({"content": "third"})).await.expect(200)["content"], "third");
    ada.delete(&path).await.done(204);
}

#[tokio::test]
async fn the_first_answer_of_those_who_were_asked_counts() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let cleo = members::bring(&host, &ada, "cleo@example.com", "Member").await;
    let id = channel(&ada).await;
    let approvers = json!({"approvers": [members::id(&bob), members::id(&cleo)], "cost": 7});
    let request = json!({"content": "May I?", "messageType": "approval_request", "structuredData": approvers});
    for _ in 0..4 {
        let row = say(&ada, &id, &request).await;
        assert_eq!(row["state"], "pending");
        let path = format!("{MESSAGES}/{}", text(&row, "id"));
        // A Super Admin who was not asked decides nothing.
        ada.post(&format!("{path}/approve"), &json!({})).await.problem(403, "NOT_AN_APPROVER");
        ada.put(&path, &json!({"structuredData": {"approvers": [members::id(&ada)]}}))
            .await
            .problem(422, "DATA_IS_FIXED");
        ada.put(&path, &json!({"state": "approved"})).await.problem(409, "ILLEGAL_TRANSITION");
        let waits = bob.get("/api/messaging/approvals").await.expect(200);
        assert_eq!((&waits["total"], &waits["items"][0]["id"]), (&json!(1), &row["id"]));
        let (yes, no) = (format!("{path}/approve"), format!("{path}/reject"));
        let (first, second) = (json!({"comment": "fine"}), json!({"comment": "no"}));
        let (yes, no) = tokio::join!(bob.post(&yes, &first), cleo.post(&no, &second));
        let statuses = BTreeSet::from([yes.status, no.status]);
        assert_eq!(statuses, BTreeSet::from([200, 409]), "{} {}", yes.text(), no.text());
        let after = ada.get(&path).await.expect(200);
        let expected = if yes.status == 200 { "approved" } else { "rejected" };
        assert_eq!((after["state"].as_str(), &after["structuredData"]["cost"]), (Some(expected), &json!(7)));
        let repeated = bob.post(&format!("{path}/approve"), &json!({})).await.problem(409, "ALREADY_DECIDED");
        assert_eq!(repeated["state"], expected);
        assert_eq!(bob.get("/api/messaging/approvals").await.expect(200)["total"], 0);
    }

    let data = json!({"decision": "Paint it blue", "rationale": "It was cheap.", "alternatives": ["Green"]});
    let put = say(&bob, &id, &json!({"content": "Blue?", "messageType": "decision", "structuredData": data})).await;
    let path = format!("{MESSAGES}/{}", text(&put, "id"));
    assert_eq!(cleo.put(&path, &json!({"state": "under_review"})).await.expect(200)["state"], "under_review");
    cleo.put(&path, &json!({"state": "implemented"})).await.problem(409, "ILLEGAL_TRANSITION");
    cleo.post(&format!("{path}/approve"), &json!({})).await.done(200);
    ada.put(&path, &json!({"state": "implemented"})).await.done(200);
    let decisions = ada.get("/api/messaging/decisions").await.expect(200);
    let decision = &decisions["items"][0];
    assert_eq!(
        (&decision["decision"], &decision["alternatives"], &decision["status"], &decision["decidedBy"]),
        (&json!("Paint it blue"), &json!(["Green"]), &json!("implemented"), &json!(members::id(&cleo)))
    );

    let data = json!({"severity": "high", "acknowledgement": {"by": "nobody"}});
    let risk = json!({"content": "It may rain.", "messageType": "risk_notification", "structuredData": data});
    let posted = say(&bob, &id, &risk).await;
    assert_eq!(posted["structuredData"], json!({"severity": "high"}), "nobody writes an answer by hand");
    let path = format!("{MESSAGES}/{}/acknowledge", text(&posted, "id"));
    assert_eq!(cleo.post(&path, &json!({})).await.expect(200)["state"], "acknowledged");
    cleo.post(&path, &json!({})).await.problem(409, "ALREADY_ACKNOWLEDGED");
}

#[tokio::test]
async fn what_nobody_answers_goes_up_level_by_level() {
    let settings = "approval_escalation_seconds = \"1\"\ndecision_escalation_seconds = \"1\"\n\
                    risk_escalation_seconds = \"1\"\nincident_escalation_seconds = \"6\"";
    let (host, ada) = started(with_settings(Manifest::services(), settings)).await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let cleo = members::bring(&host, &ada, "cleo@example.com", "Member").await;
    let id = channel(&cleo).await;
    let request = json!({"content": "May I?", "messageType": "approval_request", "structuredData": {"approvers": [members::id(&bob)]}});
    let message = text(&say(&cleo, &id, &request).await, "id");
    // So do other words that somebody waits for; but not an incident that somebody else answers.
    let said = async |kind: &str, data: Value| {
        let body = json!({"content": kind, "messageType": kind, "structuredData": data});
        text(&say(&cleo, &id, &body).await, "id")
    };
    let attended = said("incident_report", json!({"severity": "high"})).await;
    say(&bob, &id, &json!({"content": "On my way.", "threadId": attended})).await;
    let calm = said("risk_notification", json!({"severity": "medium"})).await;
    let mut urgent = vec![said("risk_notification", json!({"severity": "critical"})).await];
    urgent.push(said("decision", json!({"approvers": [members::id(&bob)]})).await);
    urgent.push(said("incident_report", json!({"severity": "high"})).await);
    say(&cleo, &id, &json!({"content": "Anybody?", "threadId": urgent[2]})).await;
    let listed = format!("/api/messaging/escalations?messageId={message}&sortBy=level&order=asc");
    let levels = eventually("three levels", async || {
        let page = ada.get(&listed).await.expect(200);
        (page["total"].as_i64() >= Some(3)).then(|| page["items"].as_array().cloned().unwrap_or_default())
    })
    .await;
    let (ada_id, bob_id, cleo_id) = (members::id(&ada), members::id(&bob), members::id(&cleo));
    let reached: Vec<&Value> = levels.iter().map(|level| &level["escalateTo"]).collect();
    assert_eq!(reached, [&json!([bob_id]), &json!([bob_id, cleo_id]), &json!([bob_id, cleo_id, ada_id])]);
    let told = eventually("the administrator being told", async || {
        let inbox = ada.get("/api/notifications?type=messaging.escalated&limit=200").await.expect(200);
        let about: Vec<&Value> =
            inbox["items"].as_array()?.iter().filter(|item| item["sourceResourceId"] == message.as_str()).collect();
        (about.len() == 1).then(|| about[0].clone())
    })
    .await;
    assert_eq!(told["criticality"], "CRITICAL");
    // Whoever cannot see a conversation is not told what was said in it.
    let safe = open(&cleo, &json!({"type": "channel", "name": "safe", "isPrivate": true})).await;
    let secret = text(&say(&cleo, &safe, &json!({"content": "the combination is 1234"})).await, "id");
    let path = format!("{MESSAGES}/{secret}/escalate");
    let told = cleo.post(&path, &json!({"reason": "urgent", "escalateTo": [ada_id]})).await;
    told.problem(400, "VALIDATION_ERROR");
    assert_eq!(told.faulty_fields(), ["escalateTo[0]"]);
    let again = cleo.post(&format!("{MESSAGES}/{message}/escalate"), &json!({"reason": "still nobody"})).await;
    again.problem(409, "ESCALATION_EXHAUSTED");
    bob.post(&format!("{MESSAGES}/{message}/acknowledge"), &json!({})).await.done(200);
    assert_eq!(ada.get(&format!("{listed}&status=acknowledged")).await.expect(200)["total"], 3);
    bob.post(&format!("{MESSAGES}/{message}/approve"), &json!({})).await.done(200);
    let page = ada.get(&listed).await.expect(200);
    assert!(page["total"] == 3 && page["items"][0]["status"] == "closed", "{page}");
    let of = async |message: &str| {
        let page = ada.get(&format!("/api/messaging/escalations?messageId={message}")).await.expect(200);
        page["total"].as_i64()
    };
    for message in &urgent {
        eventually("an escalation of every kind", async || (of(message).await >= Some(1)).then_some(())).await;
    }
    assert_eq!((of(&attended).await, of(&calm).await), (Some(0), Some(0)), "the last one was said after both");
    // By hand, to whom one likes.
    let talk = text(&say(&cleo, &id, &json!({"content": "Is anybody there?"})).await, "id");
    let body = json!({"reason": "urgent", "escalateTo": [ada_id], "priority": "high"});
    let raised = cleo.post(&format!("{MESSAGES}/{talk}/escalate"), &body).await.expect(200);
    assert_eq!((&raised["level"], &raised["priority"]), (&json!(1), &json!("high")));
    ada.post(&format!("{MESSAGES}/{talk}/acknowledge"), &json!({})).await.done(200);
}

/// An approver who was taken out of a private conversation is told nothing more of it.
#[tokio::test]
async fn an_escalation_reaches_nobody_outside_of_what_is_private() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let cleo = members::bring(&host, &ada, "cleo@example.com", "Member").await;
    let bob_id = members::id(&bob);
    let safe = open(&cleo, &json!({"type": "channel", "name": "safe", "isPrivate": true})).await;
    let participants = format!("{CONVERSATIONS}/{safe}/participants");
    cleo.post(&participants, &json!({"userIds": [bob_id]})).await.done(201);
    let request =
        json!({"content": "May I?", "messageType": "approval_request", "structuredData": {"approvers": [bob_id]}});
    let message = text(&say(&cleo, &safe, &request).await, "id");
    let path = format!("{MESSAGES}/{message}/escalate");
    let escalate = async || cleo.post(&path, &json!({"reason": "urgent"})).await.expect(200)["escalateTo"].clone();
    assert_eq!(escalate().await, json!([bob_id]));
    cleo.delete(&format!("{participants}?userId={bob_id}")).await.done(204);
    assert_eq!(escalate().await, json!([members::id(&cleo)]));
}

#[tokio::test]
async fn who_is_mentioned_is_told_and_strangers_are_left_out() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let id = channel(&ada).await;
    let (bob_id, eve_id) = (members::id(&bob), members::id(&eve));
    let posted = say(&ada, &id, &json!({"content": format!("Look, <@{bob_id}>"), "mentions": [eve_id]})).await;
    assert_eq!(posted["mentions"], json!([bob_id]));
    assert!(posted["warnings"][0]["message"].as_str().is_some_and(|text| text.contains(&eve_id)), "{posted}");
    let inbox = eventually("the mention", async || {
        let inbox = bob.get("/api/notifications?type=messaging.mention").await.expect(200);
        (inbox["total"] == 1).then_some(inbox)
    })
    .await;
    assert_eq!(inbox["items"][0]["title"], "You were mentioned in quay");
    assert_eq!(eve.get("/api/notifications?type=messaging.mention").await.expect(200)["total"], 0);
}

#[tokio::test]
async fn what_is_unread_is_right_however_many_speak_at_once() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let cleo = members::bring(&host, &ada, "cleo@example.com", "Member").await;
    let people = [&ada, &bob, &cleo];
    let everybody: Vec<String> = people.iter().map(|person| members::id(person)).collect();
    let id = open(&ada, &json!({"type": "channel", "name": "quay", "participantIds": everybody})).await;
    let all = people.iter().flat_map(|person| (0..8).map(|_| (*person).clone()));
    let bob_id = members::id(&bob);
    let said = join_all(all.map(|person| {
        let (id, body) = (id.clone(), json!({"content": format!("hello <@{bob_id}>")}));
        async move { say(&person, &id, &body).await }
    }))
    .await;
    let mut seen = numbers(&said);
    seen.sort_unstable();
    assert_eq!(seen, (1..=24).collect::<Vec<_>>(), "a gap, or a number twice");
    for person in people {
        let counts = unread(person).await;
        assert_eq!((&counts["total"], &counts["conversations"][0]["unread"]), (&json!(16), &json!(16)), "{counts}");
    }
    assert_eq!(unread(&bob).await["mentions"], 24);
    let read = format!("{CONVERSATIONS}/{id}/read");
    bob.post(&read, &json!({"seq": 10})).await.done(200);
    let others = messages(&bob, &id, "?after=10").await;
    let others = others.iter().filter(|message| message["senderId"] != bob_id.as_str()).count();
    assert_eq!(unread(&bob).await["total"], others);
    // What was read stays read, and nobody reads beyond the end.
    assert_eq!(bob.post(&read, &json!({"seq": 3})).await.expect(200)["lastReadSeq"], 10);
    let end = bob.post(&read, &json!({"seq": 9_000})).await.expect(200);
    assert_eq!((&end["lastReadSeq"], &end["unread"]), (&json!(24), &json!(0)));
    assert_eq!(unread(&bob).await, json!({"total": 0, "mentions": 0, "conversations": []}));
    let late = text(&say(&ada, &id, &json!({"content": "one more"})).await, "id");
    assert_eq!(unread(&bob).await["total"], 1);
    ada.delete(&format!("{MESSAGES}/{late}")).await.done(204);
    assert_eq!(unread(&bob).await["total"], 0);
    say(&ada, &id, &json!({"content": "and another"})).await;
    let path = format!("{CONVERSATIONS}/{id}/participants");
    assert_eq!(unread(&bob).await["total"], 1);
    bob.put(&path, &json!({"mutedUntil": "2999-01-01T00:00:00Z"})).await.done(200);
    let muted = unread(&bob).await;
    assert_eq!((&muted["total"], &muted["conversations"][0]["unread"]), (&json!(0), &json!(1)));
    say(&ada, &id, &json!({"content": "and another"})).await;
    let muted = unread(&bob).await;
    assert_eq!((&muted["total"], &muted["conversations"][0]["unread"]), (&json!(0), &json!(2)));
}

#[tokio::test]
async fn a_conversation_is_searched_and_summed_up() {
    let (_host, ada) = started(Manifest::services().bereft_of("ai-service")).await;
    let id = channel(&ada).await;
    for content in ["The quay needs paint", "Blue paint is cheap", "100% sure", "Ein Überblick", "ÜBERGRÖSSE, öfter"]
    {
        say(&ada, &id, &json!({ "content": content })).await;
    }
    let find = async |q: &str| {
        let page = ada.get(&format!("/api/messaging/search?q={q}")).await.expect(200);
        numbers(page["items"].as_array().expect("items"))
    };
    assert_eq!(find("paint+quay").await, [1]);
    assert_eq!(find("PAINT").await.len(), 2);
    assert!(find("paint+nothing").await.is_empty());
    // Letters have two cases beyond ASCII, too.
    for q in ["Überblick", "überblick", "ÜBERBLICK"] {
        assert_eq!(find(q).await, [4], "{q}");
    }
    assert_eq!(find("übergrösse+ÖFTER").await, [5]);
    let page = ada.get(&format!("/api/messaging/search?q=paint&conversationId={id}&limit=1")).await.expect(200);
    assert_eq!((&page["total"], page["items"].as_array().map(Vec::len)), (&json!(2), Some(1)));
    // Without ai-service there are no summaries, and that is said.
    let path = format!("{CONVERSATIONS}/{id}/summarize");
    ada.post(&path, &json!({})).await.problem(503, "SERVICE_UNAVAILABLE");
    let empty = open(&ada, &json!({"type": "channel", "name": "empty"})).await;
    ada.post(&format!("{CONVERSATIONS}/{empty}/summarize"), &json!({})).await.problem(422, "NOTHING_TO_SUMMARIZE");

    let (_host, ada) = started(Manifest::services_and_herald("Paint it blue.", "")).await;
    let id = channel(&ada).await;
    say(&ada, &id, &json!({"content": "Which colour?"})).await;
    let summary = ada.post(&format!("{CONVERSATIONS}/{id}/summarize"), &json!({})).await.expect(200);
    assert_eq!(
        (&summary["summary"], &summary["messageCount"], &summary["toSeq"]),
        (&json!("Paint it blue."), &json!(1), &json!(1))
    );
}
