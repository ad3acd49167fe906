//! What was acknowledged is there after the worst: a killed host, a locked database, a full disk.
#![expect(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use berth_tests::{Client, Host, Manifest, Slot, Stopped, eventually, guests};
use reqwest::Method;
use serde_json::{Value, json};

/// The services, and a queue that keeps every event of planning.
fn planning() -> Manifest {
    let keeping = Slot::new("hesitant", guests::fixture("hesitant"), "/hesitant")
        .with("[plugin.grant]\nconsume = [\"planning.#\", \"project.#\"]");
    Manifest::services().and(Manifest::of([keeping]).text())
}

/// Somebody who creates projects until told to stop, and remembers what was acknowledged.
struct Writers {
    is_over: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Written>>,
}

#[derive(Default)]
struct Written {
    /// Ids that were answered with 201.
    acknowledged: BTreeSet<String>,
    /// Refusals: 503 with `Retry-After`.
    refused: usize,
}

impl Writers {
    fn start(client: &Client, count: usize, words: usize) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let tasks = (0..count).map(|_| tokio::spawn(write(client.clone(), words, Arc::clone(&is_over)))).collect();
        Self { is_over, tasks }
    }

    async fn stop(self) -> Written {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Written::default();
        for task in self.tasks {
            let written = task.await.expect("a writer");
            all.acknowledged.extend(written.acknowledged);
            all.refused += written.refused;
        }
        all
    }
}

async fn write(client: Client, words: usize, is_over: Arc<AtomicBool>) -> Written {
    let mut written = Written::default();
    while !is_over.load(Ordering::Relaxed) {
        let body = json!({"name": "Harbour", "description": "words ".repeat(words)});
        // No answer at all is no acknowledgement; a host that was killed gives none.
        let Ok(answer) = client.try_send(client.request(Method::POST, "/api/projects").json(&body)).await else {
            continue;
        };
        match answer.status {
            201 => {
                written.acknowledged.insert(answer.json()["id"].as_str().expect("an id").to_owned());
            }
            503 => {
                assert!(!answer.header("retry-after").is_empty(), "no Retry-After: {}", answer.text());
                let _ = answer.problem(503, "SERVICE_UNAVAILABLE");
                written.refused += 1;
            }
            status => panic!("{status}: {}", answer.text()),
        }
    }
    written
}

/// The ids of all projects.
async fn projects(client: &Client) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    loop {
        let page = client.get(&format!("/api/projects?limit=100&offset={}", ids.len())).await.expect(200);
        let items = page["items"].as_array().cloned().unwrap_or_default();
        if items.is_empty() {
            return ids;
        }
        ids.extend(items.iter().filter_map(|item| item["id"].as_str().map(str::to_owned)));
    }
}

/// How many events wait for the plugin that puts them off.
async fn kept_events(host: &Host) -> u64 {
    let queues = host.operator().get("/api/admin/queues").await.expect(200);
    let items = queues["items"].as_array().cloned().unwrap_or_default();
    items.iter().find(|queue| queue["name"] == "hesitant").and_then(|queue| queue["depth"].as_u64()).unwrap_or(0)
}

async fn everything_is_there(host: &Host, client: &Client, written: &Written) {
    let found = projects(client).await;
    let lost: Vec<&String> = written.acknowledged.difference(&found).collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged projects are lost: {lost:?}",
        lost.len(),
        written.acknowledged.len()
    );
    // Each project has its event: made in the same transaction, delivered at least once.
    eventually("the events", async || (kept_events(host).await >= found.len() as u64).then_some(())).await;
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
            (kept_events(&host).await > all.acknowledged.len() as u64 + 20).then_some(())
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
    let host = Host::with(planning()).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let writers = Writers::start(&ada, 4, 5);
    eventually("some writing", async || (kept_events(&host).await > 10).then_some(())).await;
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
    let host = Host::with(planning()).through_a_shell("trap '' XFSZ").start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let writers = Writers::start(&ada, 2, 2_000);
    eventually("some writing", async || (kept_events(&host).await > 10).then_some(())).await;
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
