//! What was acknowledged is there after the worst: a killed host, a locked database, a full disk.
#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, SystemTime};

use berth_tests::writers::{everything_is_there, noted_events};
use berth_tests::{Host, Manifest, Stopped, Writers, Written, eventually, guests, manifest};
use serde_json::{Value, json};

/// The services, and a consumer that notes every event of planning.
fn planning() -> Manifest {
    Manifest::services().and(Manifest::of([manifest::ledger()]).text())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_host_loses_nothing_that_it_acknowledged() {
    let mut host = Host::with(planning()).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let mut all = Written::default();
    for _ in 0..3 {
        let client = host.client().with_token(ada.token());
        let writers = Writers::start(&client, 4, 5);
        eventually("some writing", async || {
            (noted_events(&host).await > all.acknowledged.len() as u64 + 20).then_some(())
        })
        .await;
        let stopped = host.kill().await;
        all.acknowledged.extend(writers.stop().await.acknowledged);
        host = stopped.start().await;
    }
    let client = host.client().with_token(ada.token());
    everything_is_there(&host, &client, &all).await;
    assert!(all.acknowledged.len() > 50);
}

#[tokio::test]
async fn sessions_and_deploys_survive_a_killed_host() {
    let host = Host::with(Manifest::hello()).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let report = host.operator().deploy("hello", guests::bytes(&guests::fixture("hello-next"))).await.expect(200);
    let history = host.operator().get("/api/admin/plugins/hello/history").await.expect(200);
    let host = host.kill().await.start().await;
    let client = host.client().with_token(ada.token());
    let me = client.get("/api/auth/me").await.expect(200);
    assert!(me.to_string().contains("ada@example.com"), "{me}");
    let refresh = json!({"refreshToken": ada.account["refreshToken"]});
    client.post("/api/auth/refresh", &refresh).await.done(200);
    assert_eq!(client.get("/api/hello").await.expect(200)["version"], "2");
    let plugins = host.operator().get("/api/admin/plugins").await.expect(200);
    assert_eq!(plugins["items"][0]["revision"], report["revision"], "{plugins}");
    let after = host.operator().get("/api/admin/plugins/hello/history").await.expect(200);
    let ids = |history: &Value| -> Vec<Value> {
        history["items"].as_array().into_iter().flatten().map(|line| line["id"].clone()).collect()
    };
    assert!(ids(&after).ends_with(&ids(&history)), "{after}");
    let rolled_back = host.operator().post("/api/admin/plugins/hello/rollback?wait=true", &json!({})).await.expect(200);
    assert_eq!(rolled_back["action"], "rollback");
    assert_eq!(client.get("/api/hello").await.expect(200)["version"], "1");
}

/// Every compiled file with the time of its last change.
fn compiled(stopped: &Stopped) -> Vec<(String, SystemTime)> {
    let entries = std::fs::read_dir(stopped.data().join("compiled")).expect("the compile cache");
    let mut files: Vec<_> = entries
        .flatten()
        .map(|entry| {
            let changed = entry.metadata().and_then(|metadata| metadata.modified()).expect("a time");
            (entry.file_name().to_string_lossy().into_owned(), changed)
        })
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_restart_compiles_nothing_again() {
    let stopped = Host::with(planning()).start().await.stop().await;
    let before = compiled(&stopped);
    assert!(!before.is_empty());
    let stopped = stopped.start().await.stop().await;
    assert_eq!(compiled(&stopped), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_database_is_answered_with_503_and_loses_nothing() {
    let host = Host::with(planning()).embedded().start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let writers = Writers::start(&ada, 4, 5);
    eventually("some writing", async || (noted_events(&host).await > 10).then_some(())).await;
    let lock = host.lock_database();
    let body = json!({"name": "In vain"});
    let refused = ada.post("/api/projects", &body).await;
    let _ = refused.problem(503, "SERVICE_UNAVAILABLE");
    assert!(!refused.header("retry-after").is_empty());
    // Who only reads does not notice.
    ada.get("/api/projects?limit=1").await.done(200);
    ada.get("/api/auth/me").await.done(200);
    drop(lock);
    eventually("writing again", async || {
        let answer = ada.post("/api/projects", &json!({"name": "Again"})).await;
        (answer.status == 201).then_some(())
    })
    .await;
    let written = writers.stop().await;
    assert!(written.refused > 0);
    let host = host.kill().await.start().await;
    everything_is_there(&host, &host.client().with_token(ada.token()), &written).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_answered_with_503_and_loses_nothing() {
    let host = Host::with(planning()).embedded().through_a_shell("trap '' XFSZ").start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let writers = Writers::start(&ada, 2, 2_000);
    eventually("some writing", async || (noted_events(&host).await > 10).then_some(())).await;
    // No file grows any more, as on a disk without room.
    host.limit_file_bytes(Some(256 * 1024));
    let refused = eventually("a refusal", async || {
        let answer =
            ada.post("/api/projects", &json!({"name": "In vain", "description": "words ".repeat(2_000)})).await;
        (answer.status != 201).then_some(answer)
    })
    .await;
    let _ = refused.problem(503, "SERVICE_UNAVAILABLE");
    ada.get("/api/projects?limit=1").await.done(200);
    tokio::time::sleep(Duration::from_millis(500)).await;
    host.limit_file_bytes(None);
    eventually("writing again", async || {
        let answer = ada.post("/api/projects", &json!({"name": "Again"})).await;
        (answer.status == 201).then_some(())
    })
    .await;
    let written = writers.stop().await;
    assert!(written.refused > 0);
    let host = host.kill().await.start().await;
    everything_is_there(&host, &host.client().with_token(ada.token()), &written).await;
}
