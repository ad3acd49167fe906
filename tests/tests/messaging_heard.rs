//! messaging: what it says of what happens elsewhere, what it tells others, and whom what belongs to a project is for.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use berth_tests::answer::text;
use berth_tests::wait::{heard, heard_so_far};
use berth_tests::{Client, Host, Manifest, eventually, members, plans};
use serde_json::{Value, json};

const CONVERSATIONS: &str = "/api/messaging/conversations";
const MESSAGES: &str = "/api/messaging/messages";

async fn started(manifest: Manifest) -> (Host, Client) {
    let host = Host::with(manifest).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    (host, ada)
}

async fn open(client: &Client, body: &Value) -> String {
    text(&client.post(CONVERSATIONS, body).await.expect(201), "id")
}

async fn say(client: &Client, conversation: &str, body: &Value) -> Value {
    client.post(&format!("{CONVERSATIONS}/{conversation}/messages"), body).await.expect(201)
}

async fn messages(client: &Client, conversation: &str) -> Vec<Value> {
    let page = client.get(&format!("{CONVERSATIONS}/{conversation}/messages")).await.expect(200);
    page["items"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn what_happens_elsewhere_opens_a_conversation_once() {
    let manifest = Manifest::services_and_herald("", "")
        .with("[\"herald_\"]\npublish = [\"observability.#\"]", "[\"herald_\"]\npublish = [\"ai.#\"]");
    let (host, ada) = started(manifest).await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let project = plans::project(&ada, "Quay").await;
    let body = json!({"projectId": project, "title": "Flood", "severity": "high", "description": "Wet feet."});
    let incident = text(&ada.post("/api/incidents", &body).await.expect(201), "id");
    let body = json!({"projectId": project, "name": "Spring", "version": "1.2.0"});
    let release = text(&ada.post("/api/releases", &body).await.expect(201), "id");
    let body = json!({"projectId": project, "reviewableType": "code", "reviewableId": "c0de", "title": "Look at it",
        "assignedTo": members::id(&bob)});
    ada.post("/api/reviews", &body).await.done(201);
    let steps = json!([{"title": "Ask", "type": "human", "params": {"message": "Shall we?", "approvers": [members::id(&bob)]}}]);
    let execution = plans::execute(&ada, &plans::ready_plan(&ada, &steps).await).await;
    let listed = ada.get(&format!("/api/executions/{execution}/steps")).await.expect(200);
    let step = text(&listed["items"][0], "stepId");
    let agent = json!({"type": "ai.agent.completed", "data": {"executionId": "x1", "agentId": "a1", "status": "completed", "output": "Done."}});
    ada.post("/api/herald", &agent).await.done(204);

    let reports = async |client: &Client, kind: &str, about: &str| {
        let path = format!("{CONVERSATIONS}/by-context?type={kind}&id={about}");
        let found = eventually(&format!("a conversation about {kind}"), async || {
            let answer = client.get(&path).await;
            let found = answer.json();
            (answer.status == 200 && found["lastSeq"].as_i64() > Some(0)).then_some(found)
        })
        .await;
        messages(client, &text(&found, "id")).await
    };
    let report = reports(&ada, "incident", &incident).await;
    assert_eq!(
        (
            &report[0]["messageType"],
            &report[0]["state"],
            &report[0]["senderType"],
            &report[0]["structuredData"]["severity"]
        ),
        (&json!("incident_report"), &json!("open"), &json!("system"), &json!("high"))
    );
    assert!(report[0]["content"].as_str().is_some_and(|text| text.contains("Wet feet.")), "{report:?}");
    assert_eq!(reports(&ada, "artifact", &release).await[0]["structuredData"]["version"], "1.2.0");
    assert_eq!(reports(&bob, "artifact", "c0de").await.len(), 1);
    let asked = reports(&bob, "step", &step).await;
    assert_eq!(
        (&asked[0]["content"], &asked[0]["structuredData"]["executionId"]),
        (&json!("Shall we?"), &json!(execution))
    );
    bob.post(&format!("{MESSAGES}/{}/approve", text(&asked[0], "id")), &json!({})).await.done(200);
    let done = reports(&ada, "agent", "a1").await;
    assert_eq!((&done[0]["state"], &done[0]["senderId"]), (&json!("completed"), &json!("a1")));
    assert_eq!(done[0]["content"], "The agent is done.", "what came of it is for those who see the run");
    // Nobody owns that conversation, so nobody closes it to the others.
    let unowned = format!("{CONVERSATIONS}/{}", text(&done[0], "conversationId"));
    bob.put(&unowned, &json!({"topic": "What the agent does"})).await.done(200);
    bob.put(&unowned, &json!({"isPrivate": true})).await.problem(403, "FORBIDDEN");
    // Events that the service tells of reach others.
    for (kind, count) in [("conversation.created", 5), ("approval.requested", 1), ("approval.approved", 1)] {
        heard(&ada, &format!("messaging.{kind}"), count).await;
    }
    what_is_private_is_told_without_its_words(&ada, &bob).await;
    // A restart forgets nothing, repeats nothing, and goes on counting.
    let host = host.restart().await;
    let ada = host.client().login("ada@example.com").await;
    let conversation = text(&report[0], "conversationId");
    let said = messages(&ada, &conversation).await;
    assert_eq!((said.len(), &said[0]["seq"]), (1, &json!(1)));
    assert_eq!(say(&ada, &conversation, &json!({"content": "On my way."})).await["seq"], 2);
}

/// Of a private conversation others hear that something was said and decided, and not what.
async fn what_is_private_is_told_without_its_words(ada: &Client, bob: &Client) {
    let approvers = json!([members::id(bob)]);
    let safe = open(ada, &json!({"type": "channel", "name": "safe 1234", "isPrivate": true})).await;
    ada.post(&format!("{CONVERSATIONS}/{safe}/participants"), &json!({"userIds": approvers})).await.done(201);
    let mut asked = Vec::new();
    for kind in ["approval_request", "decision"] {
        let body = json!({"content": "The combination is 1234.", "messageType": kind,
            "structuredData": {"approvers": approvers, "rationale": "1234 is easy to keep."}});
        asked.push(text(&say(ada, &safe, &body).await, "id"));
    }
    let comment = json!({"comment": "1234 is no combination."});
    bob.post(&format!("{MESSAGES}/{}/reject", asked[0]), &comment).await.done(200);
    bob.post(&format!("{MESSAGES}/{}/approve", asked[1]), &comment).await.done(200);
    ada.put(&format!("{MESSAGES}/{}", asked[1]), &json!({"state": "implemented"})).await.done(200);
    ada.put(&format!("{CONVERSATIONS}/{safe}"), &json!({"isArchived": true})).await.done(200);
    let rejected = heard(ada, "messaging.approval.rejected", 1).await;
    let decided = heard(ada, "messaging.decision.made", 1).await;
    let resolved = heard(ada, "messaging.conversation.resolved", 1).await;
    assert_eq!((&rejected[0]["messageId"], &decided[0]["messageId"]), (&json!(asked[0]), &json!(asked[1])));
    assert_eq!((&rejected[0]["decidedBy"], &decided[0]["outcome"]), (&json!(members::id(bob)), &json!("approved")));
    assert_eq!((&resolved[0]["conversationId"], &resolved[0]["messageCount"]), (&json!(safe), &json!(2)));
    let mut told: Vec<Value> = Vec::new();
    for kind in ["message.created", "message.updated", "approval.requested", "conversation.created"] {
        let all = heard_so_far(ada, "herald", &format!("messaging.{kind}")).await;
        told.extend(all.into_iter().filter(|data| data["conversationId"] == safe.as_str()));
    }
    assert!(told.len() >= 4, "{told:?}");
    told.extend([rejected, decided, resolved].concat());
    assert!(!json!(told).to_string().contains("1234"), "{told:?}");
}

/// The conversation about something, once something was said in it.
async fn about(client: &Client, kind: &str, id: &str) -> Value {
    eventually("a conversation about what happened", async || {
        let answer = client.get(&format!("{CONVERSATIONS}/by-context?type={kind}&id={id}")).await;
        let found = answer.json();
        (answer.status == 200 && found["lastSeq"].as_i64() > Some(0)).then_some(found)
    })
    .await
}

#[tokio::test]
async fn what_belongs_to_a_project_is_for_those_who_see_it() {
    let (host, ada) = started(Manifest::services()).await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let cem = members::bring(&host, &ada, "cem@example.com", "Admin").await;
    let secret = bob.post("/api/projects", &json!({"name": "Secret", "visibility": "private"})).await.expect(201);
    let secret = text(&secret, "id");
    let incident = json!({"projectId": secret, "title": "Vault open", "description": "By the back door."});
    let incident = text(&bob.post("/api/incidents", &incident).await.expect(201), "id");
    let found = about(&bob, "incident", &incident).await;
    assert_eq!(found["projectId"], secret.as_str());
    let (id, report) = (text(&found, "id"), text(&messages(&bob, &text(&found, "id")).await[0], "id"));
    assert_eq!(about(&ada, "incident", &incident).await["id"], id.as_str(), "who administers everything sees it");
    let outside = async |person: &Client| {
        person.get(&format!("{CONVERSATIONS}/by-context?type=incident&id={incident}")).await.problem(404, "NOT_FOUND");
        for path in ["", "/messages", "/participants", "/stream"] {
            person.get(&format!("{CONVERSATIONS}/{id}{path}")).await.problem(404, "NOT_FOUND");
        }
        person.get(&format!("{MESSAGES}/{report}")).await.problem(404, "NOT_FOUND");
        let word = json!({"content": "hello?"});
        person.post(&format!("{CONVERSATIONS}/{id}/messages"), &word).await.problem(404, "NOT_FOUND");
        assert_eq!(person.get(&format!("{CONVERSATIONS}?projectId={secret}")).await.expect(200)["total"], 0);
        assert_eq!(person.get("/api/messaging/search?q=vault").await.expect(200)["total"], 0);
    };
    outside(&cem).await;
    assert_eq!(bob.get("/api/messaging/search?q=vault").await.expect(200)["total"], 1);
    // Nobody opens one in a project that they do not see, or moves one there; nor finds the one that is there.
    let own = json!({"type": "channel", "name": "spy", "projectId": secret});
    cem.post(CONVERSATIONS, &own).await.problem(404, "NOT_FOUND");
    let again = json!({"type": "context", "contextType": "incident", "contextId": incident});
    cem.post(CONVERSATIONS, &again).await.problem(404, "NOT_FOUND");
    let channel = open(&cem, &json!({"type": "channel", "name": "quay"})).await;
    cem.put(&format!("{CONVERSATIONS}/{channel}"), &json!({"projectId": secret})).await.problem(404, "NOT_FOUND");
    // Who does not see it is neither mentioned nor asked, and told of by no escalation; who is brought in is in it.
    let cem_id = members::id(&cem);
    let body = json!({"content": format!("Look, <@{cem_id}>, or you, <@{}>", members::id(&ada))});
    let posted = say(&bob, &id, &body).await;
    assert_eq!(posted["mentions"], json!([]), "neither is on the list of the project: {posted}");
    let request =
        json!({"content": "May I?", "messageType": "approval_request", "structuredData": {"approvers": [cem_id]}});
    let asked = bob.post(&format!("{CONVERSATIONS}/{id}/messages"), &request).await;
    asked.problem(400, "VALIDATION_ERROR");
    let mut reached = Vec::new();
    for reason in ["one", "two", "three"] {
        let raised = bob.post(&format!("{MESSAGES}/{report}/escalate"), &json!({ "reason": reason })).await.expect(200);
        reached = raised["escalateTo"].as_array().cloned().unwrap_or_default();
    }
    assert_eq!(reached, [json!(members::id(&bob)), json!(members::id(&ada))]);
    // A conversation that was everybody's goes into the project of what is told in it, and stays open to those who took part.
    let plan = text(&plans::plan(&bob, &secret, &plans::three_steps()).await, "id");
    let early = json!({"type": "context", "contextType": "plan", "contextId": plan});
    let dan = members::bring(&host, &ada, "dan@example.com", "Member").await;
    let early_id = open(&dan, &early).await;
    cem.get(&format!("{CONVERSATIONS}/{early_id}")).await.done(200);
    let review = json!({"projectId": secret, "reviewableType": "plan", "reviewableId": plan, "title": "The pump",
        "assignedTo": members::id(&ada)});
    bob.post("/api/reviews", &review).await.done(201);
    let moved = about(&bob, "plan", &plan).await;
    assert_eq!((&moved["id"], &moved["projectId"]), (&json!(early_id), &json!(secret)));
    cem.get(&format!("{CONVERSATIONS}/{early_id}")).await.problem(404, "NOT_FOUND");
    dan.get(&format!("{CONVERSATIONS}/{early_id}")).await.done(200);
    let participants = format!("{CONVERSATIONS}/{id}/participants");
    bob.post(&participants, &json!({"userIds": [cem_id]})).await.done(201);
    let mention = json!({"content": format!("Welcome, <@{cem_id}>")});
    assert_eq!(say(&bob, &id, &mention).await["mentions"], json!([cem_id]));
    say(&cem, &id, &json!({"content": "Thank you."})).await;
    bob.delete(&format!("{participants}?userId={cem_id}")).await.done(204);
    outside(&cem).await;
    // Who is let into the project is let into what is said about it.
    let list =
        json!({"access": [{"userId": members::id(&bob), "level": "owner"}, {"userId": cem_id, "level": "viewer"}]});
    bob.put(&format!("/api/projects/{secret}/access"), &list).await.done(200);
    eventually("the conversation of a project that one sees now", async || {
        (cem.get(&format!("{CONVERSATIONS}/{id}")).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(say(&bob, &id, &mention).await["mentions"], json!([cem_id]));
}

/// What an event is about is named by whoever causes it: that opens no conversation to them that they do not see.
#[tokio::test]
async fn an_event_lets_nobody_into_what_is_for_others() {
    let (host, ada) = started(Manifest::services()).await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let cem = members::bring(&host, &ada, "cem@example.com", "Member").await;
    let review = async |client: &Client, project: &str, code: &str| {
        let body = json!({"projectId": project, "reviewableType": "code", "reviewableId": code, "title": "Look at it",
            "assignedTo": members::id(client)});
        client.post("/api/reviews", &body).await.done(201);
    };
    let secret = bob.post("/api/projects", &json!({"name": "Secret", "visibility": "private"})).await.expect(201);
    let secret = text(&secret, "id");
    review(&bob, &secret, "pr-42").await;
    let of_project = about(&bob, "artifact", "pr-42").await;
    let of_project_id = text(&of_project, "id");
    let private = json!({"type": "context", "contextType": "artifact", "contextId": "pr-43", "isPrivate": true});
    let private = open(&bob, &private).await;
    say(&bob, &private, &json!({"content": "The combination is 1234."})).await;

    let own = plans::project(&cem, "Own").await;
    for code in ["pr-42", "pr-43"] {
        review(&cem, &own, code).await;
    }
    let heard = eventually("conversations about both reviews", async || {
        let page = cem.get(&format!("{CONVERSATIONS}?mine=true")).await.expect(200);
        let items = page["items"].as_array().cloned().unwrap_or_default();
        (items.len() == 2 && items.iter().all(|item| item["lastSeq"].as_i64() > Some(0))).then_some(items)
    })
    .await;
    assert!(heard.iter().all(|item| item["projectId"] == own.as_str()), "{heard:?}");
    for id in [&of_project_id, &private] {
        for path in ["", "/messages", "/participants"] {
            cem.get(&format!("{CONVERSATIONS}/{id}{path}")).await.problem(404, "NOT_FOUND");
        }
        assert_eq!(messages(&bob, id).await.len(), 1, "nothing is said there by others");
    }
    assert_eq!(about(&bob, "artifact", "pr-42").await["projectId"], secret.as_str(), "it has not moved");
}
