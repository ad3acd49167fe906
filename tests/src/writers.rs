//! Somebody who writes steadily while something goes wrong, and remembers what was acknowledged.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::{Client, Host, eventually};

/// People who create projects until told to stop.
pub struct Writers {
    is_over: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Written>>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Written {
    /// Ids that were answered with 201.
    pub acknowledged: BTreeSet<String>,
    /// Refusals: 503 with `Retry-After`.
    pub refused: usize,
    /// Requests without an answer.
    pub unanswered: usize,
}

impl Writers {
    /// `count` writers without a pause, each description of so many `words`.
    #[must_use]
    pub fn start(client: &Client, count: usize, words: usize) -> Self {
        Self::steadily(client, count, words, Duration::ZERO)
    }

    /// The same with a pause after each answer.
    #[must_use]
    pub fn steadily(client: &Client, count: usize, words: usize, pause: Duration) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let tasks =
            (0..count).map(|_| tokio::spawn(write(client.clone(), words, pause, Arc::clone(&is_over)))).collect();
        Self { is_over, tasks }
    }

    /// Lets each finish its request.
    ///
    /// # Panics
    /// When one met an answer that is neither 201 nor 503 with `Retry-After`.
    pub async fn stop(self) -> Written {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Written::default();
        for task in self.tasks {
            let written = task.await.expect("a writer");
            all.acknowledged.extend(written.acknowledged);
            all.refused += written.refused;
            all.unanswered += written.unanswered;
        }
        all
    }
}

async fn write(client: Client, words: usize, pause: Duration, is_over: Arc<AtomicBool>) -> Written {
    let mut written = Written::default();
    while !is_over.load(Ordering::Relaxed) {
        let body = json!({"name": "Harbour", "description": "words ".repeat(words)});
        // No answer at all is no acknowledgement; a host that was killed gives none.
        let Ok(answer) = client.try_send(client.request(Method::POST, "/api/projects").json(&body)).await else {
            written.unanswered += 1;
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
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    written
}

/// The ids of all projects.
pub async fn projects(client: &Client) -> BTreeSet<String> {
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

/// How many different events the ledger has noted; it stands beside the services in the manifest.
pub async fn noted_events(host: &Host) -> u64 {
    let figures = host.client().get("/ledger").await;
    // Busy for a moment is no answer.
    if figures.status == 200 { figures.json()["events"].as_u64().unwrap_or(0) } else { 0 }
}

/// Everything that was acknowledged is there, and the event of each project took effect once.
///
/// # Panics
/// When it is not so.
pub async fn everything_is_there(host: &Host, client: &Client, written: &Written) {
    let found = projects(client).await;
    let lost: Vec<&String> = written.acknowledged.difference(&found).collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged projects are lost: {lost:?}",
        lost.len(),
        written.acknowledged.len()
    );
    // Each project has its event: made in the same transaction, delivered at least once, in effect once.
    eventually("the events", async || (noted_events(host).await >= found.len() as u64).then_some(())).await;
    let figures = host.client().get("/ledger").await.expect(200);
    assert_eq!(figures["entries"], figures["events"], "an event took effect twice: {figures}");
}
