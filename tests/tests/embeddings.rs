//! embeddings: what is stored is found by what it means and by its words, exactly, and by nobody who may not see it.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use berth_tests::answer::text;
use berth_tests::listener::{Listener, Received};
use berth_tests::manifest::Manifest;
use berth_tests::members::host_with_ada;
use berth_tests::model_provider::{Asked, ModelProvider, whole};
use berth_tests::vectors::{PATH, collection, ids, search, store};
use berth_tests::{Client, Host, entries, eventually, members};
use serde_json::{Value, json};

/// A host that may ask whoever is at this address for vectors.
async fn host_with_provider(address: &str) -> (Host, Client) {
    let manifest = Manifest::services().with(
        "outbound = [\"api.openai.com\"]",
        &format!("outbound = [\"{address}\"]\noutbound_private = [\"127.0.0.1\"]"),
    );
    let host = Host::with(manifest).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    (host, ada)
}

/// Answers as OpenAI's API does: a text is as long in each direction as it has of the letters a, b and c.
fn letters(received: &Received) -> (u16, String) {
    let body: Value = serde_json::from_str(&received.body).unwrap_or_default();
    let count = |text: &str, letter: char| text.matches(letter).count();
    let data: Vec<Value> = body["input"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .enumerate()
        .map(|(index, text)| json!({"index": index, "embedding": [count(text, 'a') + 1, count(text, 'b'), count(text, 'c')]}))
        .collect();
    (200, json!({ "data": data }).to_string())
}

#[tokio::test]
async fn a_document_is_found_by_its_vector() {
    let (host, ada) = host_with_ada().await;
    let near = store(
        &ada,
        json!({"content": " a <b>\n", "vector": [1.0, 0.1, 0.0], "projectId": "p1", "filePath": "a.rs",
        "metadata": {"lang": "rust", "stars": 5, "isPublic": true}}),
    )
    .await;
    let far =
        store(&ada, json!({"content": "c", "vector": [0.0, 1.0, 0.0], "projectId": "p1", "metadata": {"lang": "go"}}))
            .await;
    store(&ada, json!({"content": "d", "vector": [1.0, 0.0], "projectId": "p2"})).await;
    let whole = ada.get(&format!("{PATH}/{near}")).await.expect(200);
    assert_eq!((&whole["content"], &whole["vector"]), (&json!(" a <b>\n"), &json!([1.0, 0.1, 0.0])), "{whole}");
    assert_eq!((&whole["status"], &whole["dims"]), (&json!("COMPLETED"), &json!(3)), "{whole}");
    ada.put(&format!("{PATH}/{near}"), &json!({"content": null})).await.problem(400, "VALIDATION_ERROR");
    // The usual threshold leaves out what is not alike; other dimensions are passed over.
    assert_eq!(ids(&search(&ada, json!({"vector": [1, 0, 0]})).await), [near.as_str()]);
    let all = search(&ada, json!({"vector": [1, 0, 0], "threshold": -1})).await;
    assert_eq!(ids(&all), [near.as_str(), far.as_str()]);
    assert!((all[0]["similarity"].as_f64().unwrap_or(0.0) - 0.995_037).abs() < 1e-5, "{}", all[0]);
    assert_eq!(ids(&search(&ada, json!({"vector": [1, 0, 0], "threshold": -1, "limit": 1})).await).len(), 1);
    for (filter, expected) in [
        (json!({"lang": "go"}), &far),
        (json!({"lang": ["rust", "c"], "stars": 5, "isPublic": true}), &near),
        (json!({"filePath": "a.rs"}), &near),
    ] {
        let found = search(&ada, json!({"vector": [1, 1, 0], "threshold": -1, "filter": filter})).await;
        assert_eq!(ids(&found), [expected.as_str()], "{filter}");
    }
    assert!(search(&ada, json!({"vector": [1, 0, 0], "projectId": "p2", "threshold": -1})).await.is_empty());
    // `limit` and `threshold` of the query count where the body says none.
    let by_query =
        ada.post(&format!("{PATH}/search?threshold=-1&limit=1"), &json!({"vector": [0, 1, 0]})).await.expect(200);
    assert_eq!(by_query["results"][0]["embedding"]["id"], far.as_str());
    assert_eq!(by_query["results"].as_array().map(Vec::len), Some(1));
    let eve = host.client().register("eve@example.com", "Reef").await;
    eve.get(&format!("{PATH}/{near}")).await.problem(404, "NOT_FOUND");
    eve.delete(&format!("{PATH}/{near}")).await.problem(404, "NOT_FOUND");
    assert!(search(&eve, json!({"vector": [1, 0, 0], "threshold": -1})).await.is_empty());
    assert_eq!(ada.delete(&format!("{PATH}/project/p1")).await.expect(200)["deleted"], 2);
    assert!(search(&ada, json!({"vector": [1, 0, 0], "threshold": -1})).await.is_empty());
}

#[tokio::test]
async fn what_is_no_vector_is_refused() {
    let (_host, ada) = host_with_ada().await;
    for vector in [json!([]), json!([0, 0]), json!([1e300, 1])] {
        ada.post(PATH, &json!({"content": "a", "vector": vector})).await.problem(422, "INVALID_VECTOR");
    }
    store(&ada, json!({"content": "a", "vector": [1, 2], "projectId": "p1"})).await;
    ada.post(PATH, &json!({"content": "b", "vector": [1, 2, 3], "projectId": "p1"}))
        .await
        .problem(422, "DIMENSION_MISMATCH");
    let own = collection(&ada, json!({"name": "own", "dimensions": 3})).await;
    ada.post(PATH, &json!({"content": "b", "vector": [1, 2], "collectionId": own}))
        .await
        .problem(422, "DIMENSION_MISMATCH");
    ada.post(PATH, &json!({"content": "b", "collectionId": own})).await.problem(422, "NO_MODEL");
    ada.post(PATH, &json!({"content": "b", "collectionId": "nowhere"})).await.problem(404, "NOT_FOUND");
    let many: Vec<Value> = (0..501).map(|_| json!({"content": "a", "vector": [1]})).collect();
    let answer = ada.post(&format!("{PATH}/batch"), &json!({"embeddings": many})).await;
    answer.problem(400, "VALIDATION_ERROR");
    assert_eq!(answer.faulty_fields(), ["embeddings"]);
    // All or none: the last one does not fit its project.
    let batch = json!({"embeddings": [{"content": "x", "vector": [1, 1], "projectId": "p1"}, {"content": "y", "vector": [1], "projectId": "p1"}]});
    ada.post(&format!("{PATH}/batch"), &batch).await.problem(422, "DIMENSION_MISMATCH");
    assert_eq!(ada.get(PATH).await.expect(200)["total"], 1);
    let batch = json!({"embeddings": [{"content": "x", "vector": [1, 1]}, {"content": "built in"}]});
    let made = ada.post(&format!("{PATH}/batch"), &batch).await.expect(201);
    assert_eq!((&made["embeddings"][0]["dims"], &made["embeddings"][1]["dims"]), (&json!(2), &json!(256)), "{made}");
    let wrong = ada.post(&format!("{PATH}/search"), &json!({"query": "a", "filter": {"a": {}}})).await;
    wrong.problem(400, "VALIDATION_ERROR");
    assert_eq!(wrong.faulty_fields(), ["filter.a"]);
}

#[tokio::test]
async fn an_upsert_knows_what_it_has_already() {
    let (_host, ada) = host_with_ada().await;
    let upsert = format!("{PATH}/upsert");
    let body = json!({"projectId": "p1", "filePath": "src/a.rs", "content": "fn restart_gateway() {}"});
    let first = ada.post(&upsert, &body).await.expect(201);
    let again = ada.post(&upsert, &body).await.expect(200);
    assert_eq!((&first["id"], &first["version"]), (&again["id"], &again["version"]), "nothing has changed");
    let body = json!({"projectId": "p1", "filePath": "src/a.rs", "content": "fn stop_gateway() {}", "title": "a"});
    let changed = ada.post(&upsert, &body).await.expect(200);
    assert_eq!(first["id"], changed["id"]);
    assert_ne!((&first["vector"], &first["contentHash"]), (&changed["vector"], &changed["contentHash"]));
    ada.post(PATH, &body).await.problem(409, "DOCUMENT_EXISTS");
    // Without a natural key each is a new one.
    let loose = json!({"content": "loose", "filePath": "b.rs"});
    assert_ne!(ada.post(&upsert, &loose).await.expect(201)["id"], ada.post(&upsert, &loose).await.expect(201)["id"]);
    let own = collection(&ada, json!({"name": "own"})).await;
    let body = json!({"collectionId": own, "sourceId": "s1", "content": "An article about holidays."});
    let one = ada.post(&upsert, &body).await.expect(201);
    assert_eq!(ada.post(&upsert, &body).await.expect(200)["id"], one["id"]);
    assert_eq!(ada.get(&format!("{PATH}/collections/{own}")).await.expect(200)["documentCount"], 1);
    ada.delete(&format!("{PATH}/documents/s1")).await.done(204);
    ada.delete(&format!("{PATH}/documents/s1")).await.problem(404, "NOT_FOUND");
    let counts = ada.get(&format!("{PATH}/collections/{own}")).await.expect(200);
    assert_eq!((&counts["documentCount"], &counts["chunkCount"]), (&json!(0), &json!(0)), "{counts}");
    // Other content without another vector is stale where the vector was brought along.
    let brought = store(&ada, json!({"content": "a", "vector": [1, 0]})).await;
    let stale = ada.put(&format!("{PATH}/{brought}"), &json!({"content": "b"})).await.expect(200);
    assert_eq!((&stale["status"], &stale["content"]), (&json!("STALE"), &json!("b")), "{stale}");
    let fresh = ada.put(&format!("{PATH}/{brought}"), &json!({"vector": [0, 1]})).await.expect(200);
    assert_eq!((&fresh["status"], &fresh["vector"]), (&json!("COMPLETED"), &json!([0.0, 1.0])), "{fresh}");
}

const HANDBOOK: &[(&str, &str)] = &[
    ("backups", "The backup of the database runs every night at two. Backups are kept for thirty days."),
    ("holidays", "Holidays are asked for in the calendar, two weeks ahead. The team lead approves them."),
    (
        "certificates",
        "To rotate a certificate, upload the new one and restart the proxy. Error code PX-4711 means it has expired.",
    ),
];

async fn handbook(ada: &Client) -> String {
    let own = collection(ada, json!({"name": "handbook", "chunkSize": 64, "chunkOverlap": 10})).await;
    for (source, content) in HANDBOOK {
        store(ada, json!({"collectionId": own, "sourceId": source, "title": source, "content": content})).await;
    }
    own
}

#[tokio::test]
async fn passages_are_found_by_meaning_and_by_words() {
    let (_host, ada) = host_with_ada().await;
    let own = handbook(&ada).await;
    for (question, source) in [
        ("when are nightly database backups?", "backups"),
        ("who approves a holiday", "holidays"),
        ("rotating certificates", "certificates"),
    ] {
        let results = search(&ada, json!({"collectionId": own, "query": question})).await;
        assert_eq!(results[0]["embedding"]["sourceId"], source, "{question}: {results:?}");
        let chunk = &results[0]["chunk"];
        let (start, end) = (chunk["startOffset"].as_u64().unwrap_or(0), chunk["endOffset"].as_u64().unwrap_or(0));
        let content = HANDBOOK.iter().find(|(known, _)| *known == source).map_or("", |(_, content)| content);
        let passage: String = content.chars().skip(start as usize).take((end - start) as usize).collect();
        assert_eq!(chunk["content"], passage.as_str(), "a passage is what its offsets say");
    }
    let hybrid = ada
        .post(
            &format!("{PATH}/search/hybrid"),
            &json!({"collectionId": own, "query": "PX-4711", "threshold": 0.9, "keywordWeight": 1.0}),
        )
        .await
        .expect(200);
    assert_eq!(hybrid["results"][0]["embedding"]["sourceId"], "certificates", "{hybrid}");
    assert_eq!(hybrid["results"][0]["hasWords"], true, "{hybrid}");
    // Words are found by full-text search: begun, in capitals, with accents, and as parts of names.
    let named =
        json!({"collectionId": own, "sourceId": "code", "title": "z", "content": "fn parseUserInput() { Größe }"});
    let named = store(&ada, named).await;
    for (query, has) in [("INPUT user", true), ("parse", true), ("größe", true), ("grosse", false), ("nput", false)] {
        let by_words = json!({"collectionId": own, "query": query, "threshold": 1, "keywordWeight": 1.0});
        let found = ada.post(&format!("{PATH}/search/hybrid"), &by_words).await.expect(200);
        let found = found["results"].as_array().cloned().unwrap_or_default();
        assert_eq!(ids(&found).contains(&named), has, "{query}: {found:?}");
    }
    ada.delete(&format!("{PATH}/{named}")).await.done(204);
    let documents = ada.get(&format!("{PATH}/collections/{own}/documents?sortBy=title")).await.expect(200);
    assert_eq!((&documents["total"], &documents["items"][0]["title"]), (&json!(3), &json!("backups")), "{documents}");
    let chunks = ada.get(&format!("{PATH}/{}/chunks", text(&documents["items"][2], "id"))).await.expect(200);
    assert_eq!(chunks["total"], documents["items"][2]["chunkCount"], "{chunks}");
    // The model says what it is, and the same text always has the same vector.
    let models = ada.get(&format!("{PATH}/models")).await.expect(200);
    assert_eq!(
        (&models["items"][0]["name"], &models["items"][0]["provider"]),
        (&json!("lexical-256"), &json!("builtin"))
    );
    let generate = json!({"texts": ["a ship", "a ship"]});
    let generated = ada.post(&format!("{PATH}/generate"), &generate).await.expect(200);
    assert_eq!(generated["embeddings"][0]["vector"], generated["embeddings"][1]["vector"]);
    assert_eq!((&generated["dimensions"], &generated["model"]), (&json!(256), &json!("lexical-256")));
    ada.delete(&format!("{PATH}/collections/{own}")).await.done(204);
    ada.post(&format!("{PATH}/search"), &json!({"collectionId": own, "query": "x"})).await.problem(404, "NOT_FOUND");
    assert_eq!(ada.get(PATH).await.expect(200)["total"], 0, "its documents are gone with it");
}

/// Whether this host's database compares vectors: PostgreSQL does with pgvector, which not every server has.
fn compares(host: &Host) -> bool {
    let has_view = "select to_regclass('vectors__emb_chunks__vector') is not null";
    let compares = host.space().is_none_or(|space| space.ask(has_view) == ["t"]);
    if !compares {
        #[expect(clippy::print_stderr, reason = "whoever reads the run must know what was not tested")]
        {
            eprintln!("SKIPPED: how PostgreSQL compares vectors is not seen, for want of pgvector");
        }
    }
    compares
}

#[tokio::test]
async fn the_database_and_the_component_find_the_same() {
    let (host, ada) = host_with_ada().await;
    let vector = |number: u64| -> Vec<f64> {
        let members = (0..40).map(|place| (number * 7_919 + place * 104_729) % 2_003);
        members.map(|member| f64::from(u16::try_from(member).unwrap_or(0)) / 1_000.0 - 1.0).collect()
    };
    let mut collections = Vec::new();
    for metric in ["COSINE", "L2", "INNER_PRODUCT"] {
        let own = collection(&ada, json!({"name": metric, "dimensions": 40, "distanceMetric": metric})).await;
        let many: Vec<Value> = (0..300)
            .map(|number| json!({"collectionId": own, "content": format!("x {number}"), "vector": vector(number)}))
            .collect();
        ada.post(&format!("{PATH}/batch"), &json!({ "embeddings": many })).await.done(201);
        collections.push(own);
    }
    let mut found = Vec::new();
    for is_in_database in [true, false] {
        // As delivered, the database compares.
        if !is_in_database {
            entries::set(&host, "embeddings", "config.search_in_database = \"false\"").await.done(202);
        }
        for own in &collections {
            for (limit, threshold) in [(10, -1.0), (100, 0.1)] {
                let question =
                    json!({"collectionId": own, "vector": vector(1_000), "limit": limit, "threshold": threshold});
                let results = search(&ada, question).await;
                let results: Vec<(String, Value)> = results
                    .iter()
                    .map(|result| (text(&result["embedding"], "id"), result["similarity"].clone()))
                    .collect();
                assert!(results.len() >= 10, "{results:?}");
                found.push(results);
            }
        }
    }
    let (by_database, by_component) = found.split_at(found.len() / 2);
    for (one, other) in by_database.iter().zip(by_component) {
        assert_eq!(
            one.iter().map(|(id, _)| id).collect::<Vec<_>>(),
            other.iter().map(|(id, _)| id).collect::<Vec<_>>()
        );
        for ((_, one), (_, other)) in one.iter().zip(other) {
            let difference = one.as_f64().unwrap_or(9.0) - other.as_f64().unwrap_or(-9.0);
            assert!(difference.abs() <= 2e-6, "{one} {other}");
        }
    }
    let log = host.operator().get("/api/admin/plugins/embeddings/logs").await.text();
    assert_eq!(log.contains("does not compare vectors"), !compares(&host), "{log}");
}

#[tokio::test]
async fn what_is_mine_is_nobody_elses() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let vera = members::bring(&host, &ada, "vera@example.com", "Viewer").await;
    let secret = collection(&bob, json!({"name": "diary", "scope": "USER"})).await;
    let document = store(&bob, json!({"collectionId": secret, "content": "Today the harbour was calm."})).await;
    let question = json!({"query": "calm harbour", "threshold": 0.1});
    assert_eq!(ids(&search(&bob, question.clone()).await), [document.as_str()]);
    assert!(search(&ada, question.clone()).await.is_empty(), "not even to an administrator");
    for path in
        [format!("{PATH}/{document}"), format!("{PATH}/collections/{secret}"), format!("{PATH}/{document}/chunks")]
    {
        ada.get(&path).await.problem(404, "NOT_FOUND");
    }
    ada.post(&format!("{PATH}/search"), &json!({"query": "x", "collectionId": secret})).await.problem(404, "NOT_FOUND");
    // A viewer searches and writes nothing; a member makes no models and deletes nothing.
    vera.post(&format!("{PATH}/search"), &question).await.done(200);
    vera.post(PATH, &json!({"content": "x"})).await.problem(403, "FORBIDDEN");
    vera.post(&format!("{PATH}/collections"), &json!({"name": "x"})).await.problem(403, "FORBIDDEN");
    let model = json!({"provider": "openai", "name": "m", "dimensions": 3});
    bob.post(&format!("{PATH}/models"), &model).await.problem(403, "FORBIDDEN");
    bob.delete(&format!("{PATH}/{document}")).await.problem(403, "FORBIDDEN");
    let inside = json!({"provider": "openai", "name": "m", "dimensions": 3, "baseUrl": "http://planning.internal"});
    let answer = ada.post(&format!("{PATH}/models"), &inside).await;
    answer.problem(400, "VALIDATION_ERROR");
    assert_eq!(answer.faulty_fields(), ["baseUrl"]);
    let eve = host.client().register("eve@example.com", "Reef").await;
    eve.put(&format!("{PATH}/models/builtin-lexical-256"), &json!({"isEnabled": false}))
        .await
        .problem(403, "FORBIDDEN");
    eve.get(&format!("{PATH}/collections/{secret}")).await.problem(404, "NOT_FOUND");
    eve.post(&format!("{PATH}/collections/{secret}/reindex"), &json!({})).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn what_is_everybodys_only_the_platform_changes() {
    let (host, _ada) = host_with_ada().await;
    // The first organization of a host is the operator's.
    let platform = host.client().login("ada@example.com").await;
    let shared = collection(&platform, json!({"name": "shared", "scope": "GLOBAL"})).await;
    let rules = json!({"collectionId": shared, "sourceId": "rules", "content": "The rules of the harbour."});
    let document = store(&platform, rules).await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let found = search(&eve, json!({"collectionId": shared, "query": "harbour rules", "threshold": 0.1})).await;
    assert_eq!(ids(&found), [document.as_str()]);
    let path = format!("{PATH}/{document}");
    eve.delete(&path).await.problem(403, "FORBIDDEN");
    eve.put(&path, &json!({"title": "mine"})).await.problem(403, "FORBIDDEN");
    let upsert = json!({"collectionId": shared, "sourceId": "rules", "content": "No rules."});
    eve.post(&format!("{PATH}/upsert"), &upsert).await.problem(403, "FORBIDDEN");
    eve.post(PATH, &json!({"collectionId": shared, "content": "x"})).await.problem(403, "FORBIDDEN");
    eve.delete(&format!("{PATH}/documents/rules")).await.problem(404, "NOT_FOUND");
    eve.get(&path).await.done(200);
    platform.delete(&path).await.done(204);
}

#[tokio::test]
async fn a_private_project_keeps_its_documents() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let cleo = members::bring(&host, &ada, "cleo@example.com", "Member").await;
    let project = json!({"name": "Secret", "visibility": "private"});
    let project = text(&bob.post("/api/projects", &project).await.expect(201), "id");
    let body = json!({"projectId": project, "filePath": "a.md", "content": "The zeppelin leaves at noon."});
    cleo.post(PATH, &body).await.problem(404, "NOT_FOUND");
    cleo.post(&format!("{PATH}/upsert"), &body).await.problem(404, "NOT_FOUND");
    cleo.post(&format!("{PATH}/batch"), &json!({ "embeddings": [body] })).await.problem(404, "NOT_FOUND");
    let document = store(&bob, body).await;
    let own = json!({"name": "secret", "scope": "PROJECT", "projectId": project});
    cleo.post(&format!("{PATH}/collections"), &own).await.problem(404, "NOT_FOUND");
    let own = collection(&bob, own).await;
    let inside = store(&bob, json!({"collectionId": own, "content": "A zeppelin needs helium."})).await;
    let question = json!({"query": "zeppelin", "threshold": 0.05});
    assert_eq!(search(&bob, question.clone()).await.len(), 2);
    assert!(search(&cleo, question.clone()).await.is_empty());
    let words = cleo.post(&format!("{PATH}/search/hybrid"), &question).await.expect(200);
    assert_eq!((&words["results"], &words["compared"]), (&json!([]), &json!(0)), "{words}");
    for path in [
        format!("{PATH}/{document}"),
        format!("{PATH}/{document}/chunks"),
        format!("{PATH}/{inside}"),
        format!("{PATH}/collections/{own}"),
        format!("{PATH}/collections/{own}/documents"),
    ] {
        cleo.get(&path).await.problem(404, "NOT_FOUND");
    }
    assert_eq!(cleo.get(PATH).await.expect(200)["total"], 0);
    let loose = store(&cleo, json!({"content": "Everybody's."})).await;
    cleo.put(&format!("{PATH}/{loose}"), &json!({ "projectId": project })).await.problem(404, "NOT_FOUND");
    bob.get(&format!("{PATH}/{document}")).await.done(200);
    assert_eq!(search(&ada, question).await.len(), 2, "who administers the organization sees its projects");
}

#[tokio::test]
async fn vectors_of_a_project_keep_one_length() {
    let (_host, ada) = host_with_ada().await;
    let upsert = format!("{PATH}/upsert");
    store(&ada, json!({"content": "a", "vector": [1, 2], "projectId": "p1", "filePath": "a"})).await;
    let body = json!({"content": "b", "vector": [1, 2], "projectId": "p1", "filePath": "b"});
    ada.post(&upsert, &body).await.done(201);
    let longer = json!({"content": "c", "vector": [1, 2, 3], "projectId": "p1", "filePath": "b"});
    ada.post(&upsert, &longer).await.problem(422, "DIMENSION_MISMATCH");
    let loose = store(&ada, json!({"content": "d", "vector": [1, 2, 3]})).await;
    let into = json!({"projectId": "p1"});
    ada.put(&format!("{PATH}/{loose}"), &into).await.problem(422, "DIMENSION_MISMATCH");
    let large = json!({"content": "b", "projectId": "p1", "filePath": "b", "metadata": {"x": "y".repeat(20_000)}});
    ada.post(&upsert, &large).await.problem(400, "VALIDATION_ERROR");
    let more = json!({"content": "b", "projectId": "p1", "filePath": "b", "sourceType": "code", "title": "B"});
    let row = ada.post(&upsert, &more).await.expect(200);
    assert_eq!((&row["sourceType"], &row["title"]), (&json!("code"), &json!("B")), "{row}");
    assert_eq!(row["vector"], json!([1.0, 2.0]), "the same content keeps its vector");
}

#[tokio::test]
async fn a_provider_makes_the_vectors() {
    let listener = Listener::answering(Arc::new(letters)).await;
    let (_host, ada) = host_with_provider(&listener.address()).await;
    let model = json!({"provider": "openai", "name": "letters", "dimensions": 3, "baseUrl": listener.url("/v1"), "isDefault": true});
    let model = text(&ada.post(&format!("{PATH}/models"), &model).await.expect(201), "id");
    let own = collection(&ada, json!({"name": "own"})).await;
    let described = ada.get(&format!("{PATH}/collections/{own}")).await.expect(200);
    assert_eq!((&described["embeddingModelId"], &described["dimensions"]), (&json!(model), &json!(3)), "{described}");
    let b = store(&ada, json!({"collectionId": own, "content": "bbbbbb"})).await;
    store(&ada, json!({"collectionId": own, "content": "cccccc"})).await;
    assert_eq!(listener.received()[0].target, "/v1/embeddings");
    assert_eq!(ids(&search(&ada, json!({"collectionId": own, "query": "bbb"})).await), [b.as_str()]);
    let before = listener.received().len();
    assert_eq!(ids(&search(&ada, json!({"collectionId": own, "query": "bbb"})).await), [b.as_str()]);
    assert_eq!(listener.received().len(), before, "a query's vector is remembered");
    ada.delete(&format!("{PATH}/models/{model}")).await.problem(409, "MODEL_IN_USE");
    // Of many documents at once only so many are made within the request; messages do the rest.
    let many: Vec<Value> = (0..70).map(|number| json!({"content": format!("bc {number}")})).collect();
    let before = listener.received().len();
    let made = ada.post(&format!("{PATH}/batch"), &json!({ "embeddings": many })).await.expect(201);
    let made = made["embeddings"].as_array().cloned().unwrap_or_default();
    assert_eq!(made.iter().filter(|row| row["status"] == "COMPLETED").count(), 64);
    eventually("the rest", async || {
        let rest = ada.get(&format!("{PATH}?status=PENDING")).await.expect(200);
        (rest["total"] == 0).then_some(())
    })
    .await;
    assert_eq!(listener.received().len(), before + 70);
    // A document too long for one request waits, and is done by a message.
    let long = "abc abc abc abc. ".repeat(2_500);
    let long = ada.post(PATH, &json!({"collectionId": own, "content": long})).await.expect(201);
    assert_eq!(long["status"], "PENDING", "{}", long["status"]);
    let path = format!("{PATH}/{}", text(&long, "id"));
    eventually("the long document", async || (ada.get(&path).await.expect(200)["status"] == "COMPLETED").then_some(()))
        .await;
}

#[tokio::test]
async fn a_provider_that_fails_is_tried_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&asked);
    let listener = Listener::answering(Arc::new(move |received: &Received| {
        if seen.fetch_add(1, Ordering::SeqCst) < 3 { (500, "{}".to_owned()) } else { letters(received) }
    }))
    .await;
    let (_host, ada) = host_with_provider(&listener.address()).await;
    let model = json!({"provider": "openai", "name": "letters", "dimensions": 3, "baseUrl": listener.url("")});
    ada.post(&format!("{PATH}/models"), &model).await.done(201);
    let body = json!({"content": "aaa", "embeddingModel": "letters"});
    let failed = ada.post(PATH, &body).await.problem(502, "EMBEDDING_FAILED");
    let path = format!("{PATH}/{}", text(&failed, "documentId"));
    eventually("the second try", async || (ada.get(&path).await.expect(200)["status"] == "COMPLETED").then_some(()))
        .await;
    // Vectors of another length than the model says are none.
    let model = json!({"provider": "openai", "name": "longer", "dimensions": 4, "baseUrl": listener.url("")});
    ada.post(&format!("{PATH}/models"), &model).await.done(201);
    ada.post(&format!("{PATH}/generate"), &json!({"texts": ["a"], "model": "longer"}))
        .await
        .problem(502, "EMBEDDING_FAILED");
    let away = json!({"provider": "openai", "name": "away", "dimensions": 3, "baseUrl": "https://nowhere.example"});
    ada.post(&format!("{PATH}/models"), &away).await.done(201);
    ada.post(&format!("{PATH}/generate"), &json!({"texts": ["a"], "model": "away"}))
        .await
        .problem(502, "EMBEDDING_FAILED");
}

#[tokio::test]
async fn a_provider_that_takes_no_more_is_given_the_time_it_asks_for() {
    let begun = Instant::now();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let provider = ModelProvider::start(Arc::new(move |request: &Asked| {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(begun.elapsed());
        let count = request.body["input"].as_array().map_or(0, Vec::len);
        match (request.model(), seen.len()) {
            ("brief", 1) => whole(429, "retry-after: 1\r\n", "{}"),
            ("busy", _) => whole(429, "retry-after: 60\r\n", "{}"),
            _ => whole(200, "", &json!({"embeddings": vec![json!([1, 2]); count]}).to_string()),
        }
    }))
    .await;
    let (_host, ada) = host_with_provider(&provider.address()).await;
    for name in ["brief", "busy"] {
        let model = json!({"provider": "openai", "name": name, "dimensions": 2, "baseUrl": provider.base_url()});
        ada.post(&format!("{PATH}/models"), &model).await.done(201);
    }
    // A short wait is waited for,
    ada.post(&format!("{PATH}/generate"), &json!({"texts": ["a"], "model": "brief"})).await.done(200);
    let times = asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(matches!(times[..], [first, second] if second - first >= Duration::from_secs(1)), "{times:?}");
    // of a long one whoever asks is told, in whichever form, and nobody is asked in vain.
    let refused = ada.post(&format!("{PATH}/generate"), &json!({"texts": ["a"], "model": "busy"})).await;
    assert_eq!(refused.problem(429, "PROVIDER_RATE_LIMITED")["retryAfter"], 60);
    assert_eq!((refused.header("retry-after").as_str(), provider.count("busy")), ("60", 1));
    let refused = ada.post("/api/ai/v1/embeddings", &json!({"input": "a", "model": "busy"})).await;
    assert_eq!((refused.status, refused.header("retry-after").as_str()), (429, "60"), "{}", refused.text());
    // A document is there, and has its vectors later.
    let failed = ada.post(PATH, &json!({"content": "aaa", "embeddingModel": "busy"})).await;
    let id = text(&failed.problem(502, "EMBEDDING_FAILED"), "documentId");
    let kept = ada.get(&format!("{PATH}/{id}")).await.expect(200);
    assert_eq!((&kept["status"], provider.count("busy")), (&json!("FAILED"), 3), "{kept}");
}

#[tokio::test]
async fn a_collection_is_indexed_again_across_a_restart() {
    let (host, ada) = host_with_ada().await;
    let own = handbook(&ada).await;
    let before = ada.get(&format!("{PATH}/collections/{own}")).await.expect(200);
    ada.put(&format!("{PATH}/collections/{own}"), &json!({"chunkSize": 2000})).await.done(200);
    let stale = ada.get(&format!("{PATH}?status=STALE&collectionId={own}")).await.expect(200);
    assert_eq!(stale["total"], 3, "{stale}");
    let job = text(&ada.post(&format!("{PATH}/collections/{own}/reindex"), &json!({})).await.expect(202), "id");
    let host = host.restart().await;
    let ada = host.client().login("ada@example.com").await;
    let done = eventually("the job", async || {
        let job = ada.get(&format!("{PATH}/jobs/{job}")).await.expect(200);
        (job["status"] == "COMPLETED").then_some(job)
    })
    .await;
    assert_eq!((&done["processedItems"], &done["failedItems"]), (&json!(3), &json!(0)), "{done}");
    let after = ada.get(&format!("{PATH}/collections/{own}")).await.expect(200);
    assert!(before["chunkCount"].as_i64() > after["chunkCount"].as_i64(), "{before} {after}");
    assert_eq!(after["chunkCount"], 3, "{after}");
    assert_eq!(ids(&search(&ada, json!({"collectionId": own, "query": "holidays", "limit": 1})).await).len(), 1);
    ada.post(&format!("{PATH}/jobs/{job}/cancel"), &json!({})).await.problem(409, "JOB_NOT_RUNNING");
    let empty = json!({"jobType": "DELETE"});
    let job = text(&ada.post(&format!("{PATH}/collections/{own}/reindex"), &empty).await.expect(202), "id");
    eventually("the removal", async || {
        (ada.get(&format!("{PATH}/jobs/{job}")).await.expect(200)["status"] == "COMPLETED").then_some(())
    })
    .await;
    assert_eq!(ada.get(&format!("{PATH}/collections/{own}")).await.expect(200)["documentCount"], 0);
}

#[tokio::test]
async fn one_job_of_a_collection_runs_at_a_time_and_can_be_stopped() {
    // A provider that is slow enough for the job to be seen.
    let listener = Listener::answering(Arc::new(|received: &Received| {
        std::thread::sleep(std::time::Duration::from_millis(40));
        letters(received)
    }))
    .await;
    let (_host, ada) = host_with_provider(&listener.address()).await;
    let model = json!({"provider": "openai", "name": "letters", "dimensions": 3, "baseUrl": listener.url(""), "isDefault": true});
    ada.post(&format!("{PATH}/models"), &model).await.done(201);
    let own = collection(&ada, json!({"name": "own"})).await;
    let many: Vec<Value> = (0..120)
        .map(|number| json!({"collectionId": own, "content": format!("abc {number}"), "vector": [1, 1, number]}))
        .collect();
    ada.post(&format!("{PATH}/batch"), &json!({"embeddings": many[..20].to_vec()})).await.done(201);
    let without: Vec<Value> =
        (0..100).map(|number| json!({"collectionId": own, "content": format!("abc {number}")})).collect();
    ada.post(&format!("{PATH}/batch"), &json!({ "embeddings": without })).await.done(201);
    let reindex = format!("{PATH}/collections/{own}/reindex");
    let job = text(&ada.post(&reindex, &json!({})).await.expect(202), "id");
    ada.post(&reindex, &json!({})).await.problem(409, "JOB_RUNNING");
    let cancelled = ada.post(&format!("{PATH}/jobs/{job}/cancel"), &json!({})).await.expect(200);
    assert_eq!(cancelled["status"], "CANCELLED", "{cancelled}");
    let again = text(&ada.post(&reindex, &json!({"jobType": "INCREMENTAL"})).await.expect(202), "id");
    assert_ne!(job, again);
    eventually("the second job", async || {
        (ada.get(&format!("{PATH}/jobs/{again}")).await.expect(200)["status"] == "COMPLETED").then_some(())
    })
    .await;
    let jobs = ada.get(&format!("{PATH}/jobs?collectionId={own}")).await.expect(200);
    assert_eq!(jobs["total"], 2, "{jobs}");
    assert_eq!(ada.get(&format!("{PATH}?collectionId={own}&status=COMPLETED&limit=1")).await.expect(200)["total"], 120);
}
