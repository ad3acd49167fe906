//! knowledge-base: what a team writes down is found by words and by meaning, answers questions with its sources, and is
//! gone everywhere when it is deleted.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use berth_tests::answer::text;
use berth_tests::manifest::Manifest;
use berth_tests::members::host_with_ada;
use berth_tests::wait::{heard_of, heard_so_far};
use berth_tests::{Client, Host, eventually, members};
use reqwest::Method;
use serde_json::{Value, json};

const PATH: &str = "/api/knowledge";
const ANSWER: &str = "Every night at two [1].";

/// A host where a model answers every question with [`ANSWER`].
async fn host_with_model(answer: &str) -> (Host, Client) {
    let host = Host::with(Manifest::services_and_herald(answer, answer)).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    (host, ada)
}

async fn entry(client: &Client, body: Value) -> String {
    text(&client.post(PATH, &body).await.expect(201), "id")
}

async fn published(client: &Client, title: &str, content: &str) -> String {
    entry(client, json!({"title": title, "content": content, "status": "published"})).await
}

async fn found(client: &Client, query: &str) -> Vec<String> {
    let answer = client.get(&format!("{PATH}/search?{query}")).await.expect(200);
    answer["items"].as_array().into_iter().flatten().map(|item| text(item, "id")).collect()
}

const BACKUPS: &str =
    "# Backups\n\nThe backup of the database runs every night at two.\n\nBackups are kept for thirty days.";

#[tokio::test]
async fn an_entry_is_found_by_words_and_meaning_cited_and_gone_when_it_is_deleted() {
    let (host, ada) = host_with_model(ANSWER).await;
    let collection = json!({"name": "articles", "sourceType": "knowledge"});
    let collection = text(&ada.post("/api/embeddings/collections", &collection).await.expect(201), "id");
    let draft = entry(&ada, json!({"title": "Database care", "content": BACKUPS, "tags": ["ops"]})).await;
    published(&ada, "Holidays", "Holidays are asked for in the calendar. The team lead approves them.").await;
    // A draft is nobody else's, and is not indexed.
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    bob.get(&format!("{PATH}/{draft}")).await.problem(404, "NOT_FOUND");
    assert!(found(&bob, "q=nightly+backup").await.is_empty());
    ada.post(&format!("{PATH}/{draft}/publish"), &json!({})).await.done(200);
    let indexed = async |wanted: usize| {
        eventually("the index", async || {
            let path = format!("/api/embeddings/collections/{collection}/documents?status=COMPLETED");
            (ada.get(&path).await.expect(200)["total"] == wanted).then_some(())
        })
        .await;
    };
    indexed(2).await;
    assert_eq!(found(&bob, "q=databa+night").await, [draft.as_str()], "words that are begun count");
    let semantic = bob.get(&format!("{PATH}/search?q=nightly+backups+of+databases&mode=semantic")).await.expect(200);
    assert_eq!((&semantic["mode"], &semantic["items"][0]["id"]), (&json!("semantic"), &json!(draft)), "{semantic}");
    let hybrid = bob.get(&format!("{PATH}/search?q=database+backup&mode=hybrid")).await.expect(200);
    assert_eq!((&hybrid["mode"], &hybrid["items"][0]["id"]), (&json!("hybrid"), &json!(draft)), "{hybrid}");
    assert!(hybrid["items"][0]["snippet"].as_str().is_some_and(|snippet| snippet.contains("**")), "{hybrid}");
    let question = json!({"question": "When do the database backups run?"});
    let answer = bob.post(&format!("{PATH}/ask"), &question).await.expect(200);
    assert_eq!((&answer["answer"], &answer["reason"]), (&json!(ANSWER), &Value::Null), "{answer}");
    let citation = &answer["citations"][0];
    assert_eq!((&citation["entryId"], &citation["number"]), (&json!(draft), &json!(1)), "{answer}");
    assert_eq!(answer["citations"].as_array().map(Vec::len), Some(1), "only what the answer names: {answer}");
    let at = |name: &str| citation[name].as_u64().and_then(|number| usize::try_from(number).ok()).unwrap_or(0);
    let passage: String = BACKUPS.chars().skip(at("startOffset")).take(at("endOffset") - at("startOffset")).collect();
    assert_eq!(citation["passage"], passage.as_str(), "a citation points at what stands there");
    let nothing = bob.post(&format!("{PATH}/ask"), &json!({"question": "Who painted Guernica?"})).await.expect(200);
    assert_eq!((&nothing["answer"], &nothing["reason"]), (&Value::Null, &json!("no_sources")), "{nothing}");
    ada.delete(&format!("{PATH}/{draft}")).await.done(204);
    assert!(found(&bob, "q=databa+night").await.is_empty());
    assert!(!found(&bob, "q=database+backup&mode=semantic").await.contains(&draft));
    let gone = bob.post(&format!("{PATH}/ask"), &question).await.expect(200);
    assert_eq!(gone["reason"], "no_sources", "{gone}");
    for path in [String::new(), "/comments".into(), "/versions".into()] {
        ada.get(&format!("{PATH}/{draft}{path}")).await.problem(404, "NOT_FOUND");
    }
    indexed(1).await;
    ada.post(&format!("{PATH}/{draft}/restore"), &json!({})).await.done(200);
    indexed(2).await;
    assert_eq!(found(&bob, "q=databa+night").await, [draft.as_str()]);
}

#[tokio::test]
async fn what_was_written_before_its_collection_is_fetched_by_a_reindex_and_private_spaces_stay_out() {
    let (_host, ada) = host_with_ada().await;
    published(&ada, "Backups", BACKUPS).await;
    let space = json!({"name": "Ada's", "type": "personal"});
    let space = text(&ada.post(&format!("{PATH}/spaces"), &space).await.expect(201), "id");
    let own =
        entry(&ada, json!({"title": "Diary", "content": "secret backups", "status": "published", "spaceId": space}))
            .await;
    let collection = json!({"name": "articles", "sourceType": "knowledge"});
    let collection = text(&ada.post("/api/embeddings/collections", &collection).await.expect(201), "id");
    let reindex = format!("/api/embeddings/collections/{collection}/reindex");
    let job = text(&ada.post(&reindex, &json!({})).await.expect(202), "id");
    eventually("the job", async || {
        (ada.get(&format!("/api/embeddings/jobs/{job}")).await.expect(200)["status"] == "COMPLETED").then_some(())
    })
    .await;
    let documents = ada.get(&format!("/api/embeddings/collections/{collection}/documents")).await.expect(200);
    assert_eq!((&documents["total"], &documents["items"][0]["title"]), (&json!(1), &json!("Backups")), "{documents}");
    // What moves to where not everybody reads goes from the index, with what is below it.
    let top = published(&ada, "Top", "harbour rules").await;
    let below = json!({"title": "Below", "content": "harbour fees", "status": "published", "parentId": top});
    entry(&ada, below).await;
    let total = async || {
        let path = format!("/api/embeddings/collections/{collection}/documents?status=COMPLETED");
        ada.get(&path).await.expect(200)["total"].clone()
    };
    eventually("three articles", async || (total().await == 3).then_some(())).await;
    ada.put(&format!("{PATH}/{top}"), &json!({ "spaceId": space })).await.done(200);
    eventually("one article", async || (total().await == 1).then_some(())).await;
    // Its owner finds it by its words all the same; without embeddings' help that is what a search falls back to.
    assert_eq!(found(&ada, "q=secret").await, [own.as_str()]);
}

#[tokio::test]
async fn without_embeddings_and_a_model_words_are_used_and_said_so() {
    let manifest = Manifest::services().bereft_of("ai-service").bereft_of("embeddings");
    let host = Host::with(manifest).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let one = published(&ada, "Backups", BACKUPS).await;
    for mode in ["semantic", "hybrid"] {
        let answer = ada.get(&format!("{PATH}/search?q=backups&mode={mode}")).await.expect(200);
        assert_eq!((&answer["mode"], &answer["items"][0]["id"]), (&json!("keyword"), &json!(one)), "{answer}");
    }
    let unknown = ada.post(&format!("{PATH}/ask"), &json!({"question": "Who painted Guernica?"})).await.expect(200);
    assert_eq!(unknown["reason"], "no_sources", "nothing to answer from, and no model needed to know");
    let question = json!({"question": "When do backups of the database run?"});
    ada.post(&format!("{PATH}/ask"), &question).await.problem(503, "SERVICE_UNAVAILABLE");
    ada.post(&format!("{PATH}/{one}/summarize"), &json!({})).await.problem(503, "SERVICE_UNAVAILABLE");
    // A conversation becomes a draft all the same: as it was led.
    let talk = json!({"type": "channel", "name": "operations"});
    let talk = text(&ada.post("/api/messaging/conversations", &talk).await.expect(201), "id");
    let said = json!({"content": "The pumps run at three."});
    ada.post(&format!("/api/messaging/conversations/{talk}/messages"), &said).await.done(201);
    let draft = ada.post(&format!("{PATH}/from-conversation"), &json!({ "conversationId": talk })).await.expect(201);
    assert_eq!((&draft["status"], &draft["title"]), (&json!("draft"), &json!("operations")), "{draft}");
    assert!(text(&draft, "content").contains("The pumps run at three."), "{draft}");
}

#[tokio::test]
async fn titles_come_before_tags_and_tags_before_the_rest() {
    let (_host, ada) = host_with_ada().await;
    let body = published(&ada, "Outages", "Once the gateway was away for an hour.").await;
    let tag = entry(
        &ada,
        json!({"title": "Network", "content": "How it is built.", "tags": ["gateway"], "status": "published"}),
    )
    .await;
    let title = published(&ada, "The gateway", "What it does.").await;
    published(&ada, "Nothing", "of the kind").await;
    assert_eq!(found(&ada, "q=gateway").await, [title.clone(), tag.clone(), body.clone()]);
    assert_eq!(found(&ada, "q=gateway+hour").await, [body.as_str()], "every word must be there");
    assert_eq!(found(&ada, "q=%22was+away%22").await, [body.as_str()]);
    assert!(found(&ada, "q=%22away+was%22").await.is_empty());
    assert_eq!(found(&ada, "q=gateway&tags=gateway").await, [tag.as_str()]);
    assert_eq!(found(&ada, "q=gateway&category=faq").await.len(), 0);
    ada.get(&format!("{PATH}/search?q=")).await.problem(400, "VALIDATION_ERROR");
    ada.put(&format!("{PATH}/{title}"), &json!({"title": "The gate"})).await.done(200);
    assert_eq!(found(&ada, "q=gateway").await, [tag, body], "a change counts at once");
    let umlaut = published(&ada, "Übersicht", "Größe der Anlage").await;
    assert_eq!(found(&ada, "q=GR%C3%96%C3%9Fe").await, [umlaut.as_str()], "case and accents do not matter");
    assert_eq!(found(&ada, "q=%C3%BCbersicht").await, [umlaut]);
}

#[tokio::test]
async fn every_change_is_a_version_that_can_come_back() {
    let (_host, ada) = host_with_ada().await;
    let id = published(&ada, "Rules", "one\ntwo\n").await;
    let path = format!("{PATH}/{id}");
    let changed = ada.put(&path, &json!({"content": "one\nthree\n", "changeNote": "two was wrong"})).await.expect(200);
    assert_eq!(changed["version"], 2, "{changed}");
    ada.put(&path, &json!({"content": "one\nthree\n"})).await.done(200);
    let versions = ada.get(&format!("{path}/versions")).await.expect(200);
    assert_eq!(
        (&versions["total"], &versions["items"][0]["changeNote"]),
        (&json!(2), &json!("two was wrong")),
        "{versions}"
    );
    let diff = ada.get(&format!("{path}/diff?from=1")).await.expect(200);
    assert_eq!((&diff["added"], &diff["removed"]), (&json!(1), &json!(1)), "{diff}");
    let late = ada.request(Method::PUT, &path).header("if-match", "\"1\"").json(&json!({"title": "x"}));
    ada.send(late).await.problem(412, "PRECONDITION_FAILED");
    let restored = ada.post(&format!("{path}/versions/1/restore"), &json!({})).await.expect(200);
    assert_eq!((&restored["content"], &restored["version"]), (&json!("one\ntwo\n"), &json!(3)), "{restored}");
    ada.post(&format!("{path}/versions/9/restore"), &json!({})).await.problem(404, "NOT_FOUND");
    assert_eq!(ada.get(&format!("{path}/versions/2")).await.expect(200)["content"], "one\nthree\n");
}

#[tokio::test]
async fn entries_stand_below_one_another_and_never_below_themselves() {
    let (_host, ada) = host_with_ada().await;
    let top = entry(&ada, json!({"title": "Same title"})).await;
    let other = ada.post(PATH, &json!({"title": "Same title"})).await.expect(201);
    assert_eq!(other["slug"], "same-title-2", "{other}");
    let mut chain = vec![top.clone()];
    for _ in 0..9 {
        let parent = chain.last().cloned().unwrap_or_default();
        chain.push(entry(&ada, json!({"title": "Below", "parentId": parent})).await);
    }
    let too_deep = json!({"title": "Below", "parentId": chain[9]});
    ada.post(PATH, &too_deep).await.problem(422, "TOO_DEEP");
    let put = async |id: &str, parent: &str| ada.put(&format!("{PATH}/{id}"), &json!({ "parentId": parent })).await;
    put(&top, &chain[4]).await.problem(409, "PARENT_CYCLE");
    put(&top, &top).await.problem(409, "PARENT_CYCLE");
    put(&top, &text(&other, "id")).await.problem(422, "TOO_DEEP");
    put(&chain[5], &text(&other, "id")).await.done(200);
    let moved = ada.get(&format!("{PATH}/{}", chain[6])).await.expect(200);
    assert!(text(&moved, "path").starts_with(&format!("/{}/{}/", text(&other, "id"), chain[5])), "{moved}");
    ada.delete(&format!("{PATH}/{top}")).await.problem(409, "HAS_CHILDREN");
    ada.delete(&format!("{PATH}/{top}?cascade=true")).await.done(204);
    ada.get(&format!("{PATH}/{}", chain[4])).await.problem(404, "NOT_FOUND");
    ada.get(&format!("{PATH}/{}", chain[6])).await.done(200);
    let trash = ada.get(&format!("{PATH}?deleted=true")).await.expect(200);
    assert_eq!(trash["total"], 5, "{trash}");
    // Its parent is gone, so it comes back to the top.
    let back = ada.post(&format!("{PATH}/{}/restore", chain[3]), &json!({})).await.expect(200);
    assert_eq!((&back["parentId"], &back["path"]), (&Value::Null, &json!(format!("/{}", chain[3]))), "{back}");
    ada.post(&format!("{PATH}/{}/restore", chain[3]), &json!({})).await.problem(409, "NOTHING_TO_RESTORE");
}

#[tokio::test]
async fn who_may_not_see_it_does_not_find_it() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let vera = members::bring(&host, &ada, "vera@example.com", "Viewer").await;
    let space = json!({"name": "Board", "type": "team", "isPublic": false, "memberIds": [members::id(&bob)]});
    let space = text(&ada.post(&format!("{PATH}/spaces"), &space).await.expect(201), "id");
    let inside =
        entry(&ada, json!({"title": "Plans", "content": "zeppelin", "status": "published", "spaceId": space})).await;
    assert_eq!(found(&bob, "q=zeppelin").await, [inside.as_str()]);
    assert!(found(&vera, "q=zeppelin").await.is_empty());
    for path in ["", "/comments", "/versions", "/attachments", "/related"] {
        vera.get(&format!("{PATH}/{inside}{path}")).await.problem(404, "NOT_FOUND");
    }
    vera.get(&format!("{PATH}/spaces/{space}")).await.problem(404, "NOT_FOUND");
    vera.post(PATH, &json!({"title": "x"})).await.problem(403, "FORBIDDEN");
    let open = published(&ada, "Open", "for everybody").await;
    vera.put(&format!("{PATH}/{open}"), &json!({"title": "x"})).await.problem(403, "FORBIDDEN");
    bob.delete(&format!("{PATH}/{open}")).await.problem(403, "FORBIDDEN");
    // Whoever edits an entry still sees it when it becomes a draft again.
    bob.put(&format!("{PATH}/{open}"), &json!({"content": "for everybody, by Bob"})).await.done(200);
    ada.put(&format!("{PATH}/{open}"), &json!({"status": "draft"})).await.done(200);
    bob.get(&format!("{PATH}/{open}")).await.done(200);
    vera.get(&format!("{PATH}/{open}")).await.problem(404, "NOT_FOUND");
    let eve = host.client().register("eve@example.com", "Reef").await;
    for path in [format!("{PATH}/{inside}"), format!("{PATH}/spaces/{space}")] {
        eve.get(&path).await.problem(404, "NOT_FOUND");
        eve.put(&path, &json!({"title": "x", "name": "x"})).await.problem(404, "NOT_FOUND");
        eve.delete(&path).await.problem(404, "NOT_FOUND");
    }
    assert_eq!(eve.get(PATH).await.expect(200)["total"], 0);
    let answer = eve.post(PATH, &json!({"title": "", "category": "poem", "spaceId": space})).await;
    answer.problem(400, "VALIDATION_ERROR");
    assert_eq!(answer.faulty_fields(), ["title"]);
    eve.post(PATH, &json!({"title": "x", "spaceId": space})).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn a_private_project_keeps_its_entries_and_the_archive_its_drafts() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let cleo = members::bring(&host, &ada, "cleo@example.com", "Member").await;
    let project = json!({"name": "Secret", "visibility": "private"});
    let project = text(&bob.post("/api/projects", &project).await.expect(201), "id");
    let body = json!({"title": "Airship", "content": "zeppelin", "status": "published", "projectId": project, "tags": ["air"]});
    cleo.post(PATH, &body).await.problem(404, "NOT_FOUND");
    let inside = entry(&bob, body).await;
    let comment = json!({"body": "helium"});
    bob.post(&format!("{PATH}/{inside}/comments"), &comment).await.done(201);
    assert_eq!(found(&bob, "q=zeppelin").await, [inside.as_str()]);
    assert_eq!(
        found(&ada, "q=zeppelin").await,
        [inside.as_str()],
        "who administers the organization sees its projects"
    );
    assert!(found(&cleo, "q=zeppelin").await.is_empty());
    for path in ["", "/comments", "/versions", "/attachments", "/related"] {
        cleo.get(&format!("{PATH}/{inside}{path}")).await.problem(404, "NOT_FOUND");
    }
    assert_eq!(cleo.get(&format!("{PATH}/tags")).await.expect(200)["total"], 0);
    let open = entry(&cleo, json!({"title": "Open", "content": "x"})).await;
    let path = format!("{PATH}/{open}");
    cleo.put(&path, &json!({ "projectId": project })).await.problem(404, "NOT_FOUND");
    // A draft stays one in the archive, whichever way it went there, and comes back as one.
    for archived in [true, false] {
        if archived {
            cleo.post(&format!("{path}/archive"), &json!({})).await.done(200);
        } else {
            cleo.put(&path, &json!({"status": "archived"})).await.done(200);
        }
        bob.get(&path).await.problem(404, "NOT_FOUND");
        let back = cleo.post(&format!("{path}/restore"), &json!({})).await.expect(200);
        assert_eq!(back["status"], "draft", "{back}");
    }
    cleo.post(&format!("{path}/publish"), &json!({})).await.done(200);
    cleo.post(&format!("{path}/archive"), &json!({})).await.done(200);
    bob.get(&path).await.done(200);
}

/// What was made of an entry for its search by meaning is seen by those who see the entry, also after that has gone into a project.
#[tokio::test]
async fn an_entry_that_goes_into_a_private_project_takes_its_passages_along() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let cleo = members::bring(&host, &ada, "cleo@example.com", "Member").await;
    let collection = json!({"name": "articles", "sourceType": "knowledge"});
    let collection = text(&ada.post("/api/embeddings/collections", &collection).await.expect(201), "id");
    let path = format!("{PATH}/{}", published(&bob, "Airship", "The zeppelin lands on the roof.").await);
    let documents = format!("/api/embeddings/collections/{collection}/documents?status=COMPLETED");
    let seen_by = async |client: &Client, total: usize| {
        eventually("the index", async || (client.get(&documents).await.expect(200)["total"] == total).then_some(()))
            .await;
    };
    let passages = async |client: &Client| {
        let question = json!({"query": "zeppelin", "collectionId": collection, "threshold": -1});
        let answer = client.post("/api/embeddings/search", &question).await.expect(200);
        answer["results"].as_array().map(Vec::len)
    };
    seen_by(&cleo, 1).await;
    assert_eq!(passages(&cleo).await, Some(1));
    let project = json!({"name": "Secret", "visibility": "private"});
    let project = text(&bob.post("/api/projects", &project).await.expect(201), "id");
    bob.put(&path, &json!({ "projectId": project })).await.done(200);
    cleo.get(&path).await.problem(404, "NOT_FOUND");
    seen_by(&cleo, 0).await;
    assert_eq!(passages(&cleo).await, Some(0));
    // What is written there from now on stays there, and comes back with the entry.
    bob.put(&path, &json!({"content": "The zeppelin is in the hangar."})).await.done(200);
    seen_by(&bob, 1).await;
    assert_eq!((passages(&cleo).await, passages(&bob).await), (Some(0), Some(1)));
    bob.put(&path, &json!({ "projectId": null })).await.done(200);
    seen_by(&cleo, 1).await;
}

#[tokio::test]
async fn what_moves_to_another_space_gets_a_slug_that_is_free_there() {
    let (_host, ada) = host_with_ada().await;
    let space = json!({"name": "Harbour", "type": "wiki"});
    let space = text(&ada.post(&format!("{PATH}/spaces"), &space).await.expect(201), "id");
    entry(&ada, json!({"title": "Rules", "spaceId": space})).await;
    let top = entry(&ada, json!({"title": "Top"})).await;
    let below = entry(&ada, json!({"title": "Rules", "content": "one\n", "parentId": top})).await;
    ada.put(&format!("{PATH}/{top}"), &json!({ "spaceId": space })).await.done(200);
    let moved = ada.get(&format!("{PATH}/{below}")).await.expect(200);
    assert_eq!((&moved["slug"], &moved["spaceId"]), (&json!("rules-2"), &json!(space)), "{moved}");
    // The move is no version of what is below; the present is compared all the same.
    let diff = ada.get(&format!("{PATH}/{below}/diff?from=1")).await.expect(200);
    assert_eq!((&diff["added"], &diff["to"]), (&json!(0), &moved["version"]), "{diff}");
}

#[tokio::test]
async fn readers_comment_like_and_are_counted() {
    let (host, ada) = host_with_ada().await;
    let vera = members::bring(&host, &ada, "vera@example.com", "Viewer").await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let id = published(&ada, "Open", "for everybody").await;
    let path = format!("{PATH}/{id}");
    let comment = bob.post(&format!("{path}/comments"), &json!({"body": "Why?"})).await.expect(201);
    let reply = json!({"body": "Because.", "parentCommentId": comment["id"]});
    ada.post(&format!("{path}/comments"), &reply).await.done(201);
    let comment = format!("{path}/comments/{}", text(&comment, "id"));
    assert!(ada.post(&format!("{comment}/resolve"), &json!({})).await.expect(200)["resolvedAt"].is_string());
    vera.post(&format!("{path}/comments"), &json!({"body": "x"})).await.problem(403, "FORBIDDEN");
    bob.delete(&comment).await.done(204);
    let left = ada.get(&format!("{path}/comments")).await.expect(200);
    assert_eq!((&left["total"], &left["items"][0]["parentCommentId"]), (&json!(1), &Value::Null), "{left}");
    let other = format!("{path}/comments/{}", text(&left["items"][0], "id"));
    bob.put(&other, &json!({"body": "x"})).await.problem(403, "FORBIDDEN");
    assert_eq!(vera.post(&format!("{path}/favorite"), &json!({})).await.expect(200)["favorite"], true);
    assert_eq!(vera.get(&format!("{PATH}?favorites=true")).await.expect(200)["total"], 1);
    assert_eq!(vera.get(&path).await.expect(200)["isFavorite"], true);
    assert_eq!(vera.post(&format!("{path}/favorite"), &json!({})).await.expect(200)["favorite"], false);
    for _ in 0..2 {
        assert_eq!(vera.post(&format!("{path}/helpful"), &json!({})).await.expect(200)["helpfulCount"], 1);
    }
    let version = ada.get(&path).await.expect(200)["version"].clone();
    for client in [&vera, &bob, &ada] {
        client.post(&format!("{path}/view"), &json!({})).await.done(200);
    }
    eventually("the views", async || (ada.get(&path).await.expect(200)["viewCount"] == 3).then_some(())).await;
    assert_eq!(ada.get(&path).await.expect(200)["version"], version, "a view is no change");
    let popular = ada.get(&format!("{PATH}/popular")).await.expect(200);
    assert_eq!(popular["items"][0]["id"], id.as_str(), "{popular}");
}

#[tokio::test]
async fn runbooks_are_gone_through_step_by_step() {
    let (_host, ada) = host_with_ada().await;
    let id = published(&ada, "Failover", "What to do.").await;
    let steps = json!([{"title": "Stop it"}, {"title": "Start the other", "rollback": "Stop it again"}]);
    let body = json!({"entryId": id, "type": "incident_response", "steps": steps});
    let runbook = text(&ada.post(&format!("{PATH}/runbooks"), &body).await.expect(201), "id");
    let run = ada.post(&format!("{PATH}/runbooks/{runbook}/run"), &json!({})).await.expect(201);
    assert_eq!((&run["status"], &run["stepResults"][1]["order"]), (&json!("running"), &json!(2)), "{run}");
    ada.delete(&format!("{PATH}/runbooks/{runbook}")).await.problem(409, "RUNBOOK_RUNNING");
    let path = format!("{PATH}/runs/{}", text(&run, "id"));
    ada.post(&format!("{path}/steps/1"), &json!({"status": "completed"})).await.done(200);
    let failed = ada.post(&format!("{path}/steps/2"), &json!({"status": "failed", "note": "no"})).await.expect(200);
    assert_eq!(failed["status"], "failed", "{failed}");
    let done = ada.post(&format!("{path}/steps/2"), &json!({"status": "completed"})).await.expect(200);
    assert_eq!(done["status"], "completed", "{done}");
    ada.post(&format!("{path}/steps/2"), &json!({"status": "failed"})).await.problem(409, "RUN_ENDED");
    ada.post(&format!("{path}/cancel"), &json!({})).await.problem(409, "RUN_ENDED");
    assert_eq!(ada.get(&format!("{PATH}/runbooks/{runbook}/runs")).await.expect(200)["total"], 1);
    let wrong = json!({"entryId": id, "type": "party", "steps": []});
    let answer = ada.post(&format!("{PATH}/runbooks"), &wrong).await;
    answer.problem(400, "VALIDATION_ERROR");
    assert!(answer.faulty_fields().contains(&"type".to_owned()), "{}", answer.text());
}

#[tokio::test]
async fn categories_tags_templates_and_files_hang_together() {
    let (host, ada) = host_with_ada().await;
    let category = async |body: Value| text(&ada.post(&format!("{PATH}/categories"), &body).await.expect(201), "id");
    let top = category(json!({"name": "Operations"})).await;
    let below = category(json!({"name": "On call", "parentId": top})).await;
    let path = format!("{PATH}/categories");
    ada.put(&format!("{path}/{top}"), &json!({ "parentId": below })).await.problem(409, "PARENT_CYCLE");
    ada.put(&format!("{path}/{top}"), &json!({"name": "Ops"})).await.done(200);
    assert_eq!(ada.get(&format!("{path}/{below}")).await.expect(200)["path"], "/Ops/On call");
    ada.delete(&format!("{path}/{top}")).await.problem(409, "CATEGORY_NOT_EMPTY");
    let template = json!({"title": "Postmortem", "content": "## What happened", "isTemplate": true, "status": "published",
        "categoryIds": [below], "tags": ["review"]});
    let template = entry(&ada, template).await;
    ada.delete(&format!("{path}/{below}")).await.problem(409, "CATEGORY_IN_USE");
    let made = ada.post(PATH, &json!({"title": "The flood", "templateId": template})).await.expect(201);
    assert_eq!((&made["content"], &made["isTemplate"]), (&json!("## What happened"), &json!(false)), "{made}");
    assert!(found(&ada, "q=postmortem").await.is_empty(), "a template is no entry");
    let tags = ada.get(&format!("{PATH}/tags")).await.expect(200);
    assert_eq!(tags["items"][0], json!({"tag": "review", "count": 2}), "{tags}");
    assert_eq!(ada.get(&format!("{PATH}?tag=review&isTemplate=false")).await.expect(200)["total"], 1);
    let row = format!("{PATH}/{}", text(&made, "id"));
    let file = json!({"name": "plan.txt", "mediaType": "text/plain", "data": "aGVsbG8="});
    let file = text(&ada.post(&format!("{row}/attachments"), &file).await.expect(201), "id");
    let bytes = ada.get(&format!("{row}/attachments/{file}")).await;
    assert_eq!((bytes.status, bytes.text().as_str()), (200, "hello"));
    assert!(bytes.header("content-disposition").starts_with("attachment"), "{}", bytes.header("content-disposition"));
    let large = json!({"name": "a.bin", "data": "A".repeat(2_800_000)});
    ada.post(&format!("{row}/attachments"), &large).await.problem(413, "PAYLOAD_TOO_LARGE");
    let eve = host.client().register("eve@example.com", "Reef").await;
    eve.get(&format!("{row}/attachments/{file}")).await.problem(404, "NOT_FOUND");
    ada.delete(&format!("{row}/attachments/{file}")).await.done(204);
    let other = published(&ada, "Another flood", "after the review").await;
    ada.post(&format!("{row}/publish"), &json!({})).await.done(200);
    let related = ada.get(&format!("{row}/related")).await.expect(200);
    assert_eq!(related["items"][0]["id"], other.as_str(), "{related}");
}

#[tokio::test]
async fn categories_that_move_at_once_never_stand_below_themselves() {
    let (_host, ada) = host_with_ada().await;
    let path = format!("{PATH}/categories");
    let category = async |body: Value| text(&ada.post(&path, &body).await.expect(201), "id");
    let change = async |id: &str, body: Value| ada.put(&format!("{path}/{id}"), &body).await;
    for round in 0..4 {
        let one = category(json!({"name": format!("One {round}")})).await;
        let two = category(json!({"name": format!("Two {round}")})).await;
        let (first, second) =
            tokio::join!(change(&one, json!({ "parentId": two })), change(&two, json!({ "parentId": one })));
        let (won, lost) = if first.status == 200 { (first, second) } else { (second, first) };
        lost.problem(409, "PARENT_CYCLE");
        let top = text(&won.expect(200), "parentId");
        assert_eq!(ada.get(&format!("{path}/{top}")).await.expect(200)["parentId"], Value::Null);
        // What is made below one that is renamed at that moment stands below its new name.
        let (renamed, made) = tokio::join!(
            change(&top, json!({"name": format!("Top {round}")})),
            category(json!({"name": "Made", "parentId": top}))
        );
        renamed.done(200);
        let made = ada.get(&format!("{path}/{made}")).await.expect(200);
        assert_eq!(made["path"], format!("/Top {round}/Made"), "{made}");
    }
}

#[tokio::test]
async fn what_ends_elsewhere_suggests_an_entry() {
    let (host, ada) = host_with_model("x").await;
    let incident = json!({"title": "Flood", "severity": "medium"});
    let incident = text(&ada.post("/api/incidents", &incident).await.expect(201), "id");
    ada.put(&format!("/api/incidents/{incident}/resolve"), &json!({"comment": "Dry"})).await.done(200);
    let host = host.restart().await;
    let ada = host.client().login("ada@example.com").await;
    let draft = eventually("the suggestion", async || {
        ada.get(&format!("{PATH}?status=draft")).await.expect(200)["items"].get(0).cloned()
    })
    .await;
    assert_eq!((&draft["title"], &draft["tags"]), (&json!("Postmortem: Flood"), &json!(["suggested"])), "{draft}");
    assert_eq!(draft["authorId"], "system", "nobody has begun it, and so it is everybody's");
    let project = text(&ada.post("/api/projects", &json!({"name": "Apollo"})).await.expect(201), "id");
    let entry =
        entry(&ada, json!({"title": "Apollo", "content": "x", "status": "published", "projectId": project})).await;
    ada.delete(&format!("/api/projects/{project}")).await.done(204);
    eventually("the archive", async || {
        (ada.get(&format!("{PATH}/{entry}")).await.expect(200)["status"] == "archived").then_some(())
    })
    .await;
    assert_eq!(ada.post(&format!("{PATH}/{entry}/restore"), &json!({})).await.expect(200)["status"], "published");
    let summary = ada.post(&format!("{PATH}/{entry}/summarize"), &json!({})).await.expect(200);
    assert_eq!(summary["summary"], "x", "{summary}");
    heard_of(&ada, "knowledge.article.updated", 1, |data| data["entryId"] == entry.as_str()).await;
    let told = heard_so_far(&ada, "herald", "knowledge.article.updated").await;
    assert!(told.iter().all(|data| data.get("content").is_none()), "never with content: {told:?}");
}
