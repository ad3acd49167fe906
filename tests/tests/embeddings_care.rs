//! embeddings: what is told of documents and jobs, how much one search compares, and what two do at once.

use berth_tests::answer::text;
use berth_tests::manifest::Manifest;
use berth_tests::members::host_with_ada;
use berth_tests::vectors::{PATH, collection, search, store};
use berth_tests::wait::heard;
use berth_tests::{Host, entries, eventually};
use serde_json::{Value, json};

/// How often each is tried: two that are sent at once do not always meet.
const MEETINGS: usize = 5;

#[tokio::test]
async fn what_becomes_of_documents_and_jobs_is_told_without_their_words() {
    let host = Host::with(Manifest::services_and_herald("x", "x")).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let own = collection(&ada, json!({"name": "own"})).await;
    let body = json!({"collectionId": own, "sourceId": "s1", "content": "The zanzibarine sea is calm today."});
    let id = store(&ada, body.clone()).await;
    let created = heard(&ada, "embedding.document.created", 1).await;
    assert_eq!(
        (&created[0]["documentId"], &created[0]["collectionId"], &created[0]["sourceId"]),
        (&json!(id), &json!(own), &json!("s1"))
    );
    // How much was made vectors of is told once, each time.
    let made = heard(&ada, "embedding.document.updated", 1).await;
    assert!(made[0]["tokens"].as_i64() > Some(0) && made[0]["chunks"] == 1, "{made:?}");
    ada.post(&format!("{PATH}/upsert"), &body).await.done(200);
    let job = ada.post(&format!("{PATH}/collections/{own}/reindex"), &json!({})).await.expect(202);
    let completed = heard(&ada, "embedding.job.completed", 1).await;
    assert_eq!(
        (&completed[0]["jobId"], &completed[0]["processedItems"], &completed[0]["failedItems"]),
        (&job["id"], &json!(1), &json!(0))
    );
    let made = heard(&ada, "embedding.document.updated", 2).await;
    ada.delete(&format!("{PATH}/{id}")).await.done(204);
    let deleted = heard(&ada, "embedding.document.deleted", 1).await;
    assert_eq!(deleted[0]["documentId"], id.as_str());
    let started = heard(&ada, "embedding.job.started", 1).await;
    let progress = heard(&ada, "embedding.job.progress", 1).await;
    for told in [created, made, completed, deleted, started, progress].concat() {
        assert!(!told.to_string().contains("zanzibarine"), "{told}");
    }
}

#[tokio::test]
async fn more_vectors_than_one_search_compares_are_refused_with_a_hint() {
    let (host, ada) = host_with_ada().await;
    let document = |number: usize| {
        let project = if number < 10 { "near" } else { "far" };
        json!({"content": format!("x {number}"), "vector": [1, number], "projectId": project})
    };
    let documents: Vec<Value> = (0..30).map(document).collect();
    ada.post(&format!("{PATH}/batch"), &json!({ "embeddings": documents })).await.done(201);
    entries::set(&host, "embeddings", "config.search_vectors_max = \"20\"").await.done(202);
    let question = json!({"vector": [1, 1], "query": "x", "threshold": -1});
    for kind in ["search", "search/hybrid"] {
        let refused = ada.post(&format!("{PATH}/{kind}"), &question).await.problem(422, "TOO_MANY_VECTORS");
        assert!(text(&refused, "hint").contains("projectId"), "{refused}");
    }
    let narrow = json!({"vector": [1, 1], "threshold": -1, "projectId": "near"});
    assert_eq!(search(&ada, narrow).await.len(), 10);
}

#[tokio::test]
async fn two_first_documents_of_a_project_agree_on_the_length_of_vectors() {
    let (_host, ada) = host_with_ada().await;
    for meeting in 0..MEETINGS {
        let project = format!("p{meeting}");
        let document = |vector: Value| json!({"content": "x", "projectId": project, "vector": vector});
        let (short, long) = (document(json!([1, 2])), document(json!([1, 2, 3])));
        let (one, other) = tokio::join!(ada.post(PATH, &short), ada.post(PATH, &long));
        let (made, refused) = if one.status == 201 { (one, other) } else { (other, one) };
        made.done(201);
        refused.problem(422, "DIMENSION_MISMATCH");
    }
    assert_eq!(ada.get(PATH).await.expect(200)["total"], MEETINGS);
}

#[tokio::test]
async fn what_comes_into_a_collection_that_goes_does_not_stay_behind() {
    let (host, ada) = host_with_ada().await;
    for meeting in 0..MEETINGS {
        let own = collection(&ada, json!({"name": format!("own-{meeting}"), "dimensions": 2})).await;
        let body = json!({"collectionId": own, "content": "x", "vector": [1, 2]});
        let path = format!("{PATH}/collections/{own}");
        let (one, gone, other) = tokio::join!(ada.post(PATH, &body), ada.delete(&path), ada.post(PATH, &body));
        for stored in [one, other] {
            assert!(matches!(stored.status, 201 | 404), "{}", stored.text());
        }
        gone.done(204);
    }
    eventually("everything being gone", async || {
        host.store().ask("SELECT id FROM emb_documents").await.is_empty().then_some(())
    })
    .await;
}
