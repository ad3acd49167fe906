//! Waiting for a condition instead of sleeping.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Client;

/// How long a condition may take to become true on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// Asks until the answer is something, and panics with `what` when it stays nothing.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begin.elapsed() < PATIENCE, "{what} did not happen within {} s", PATIENCE.as_secs());
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until the herald of [`crate::Manifest::services_and_herald`] has heard so many events of a type. What they tell, the
/// first one first.
///
/// # Panics
/// When they do not come, or more of them do.
pub async fn heard(client: &Client, kind: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} of {kind}"), async || {
        let page = client.get(&format!("/api/herald/events?type={kind}&sortBy=createdAt&order=asc&limit=200")).await;
        let items: Vec<Value> = page.expect(200)["items"].as_array().cloned().unwrap_or_default();
        assert!(items.len() <= count, "{kind} came more than {count} times: {items:?}");
        (items.len() == count).then(|| items.into_iter().map(|item| item["data"].clone()).collect())
    })
    .await
}
