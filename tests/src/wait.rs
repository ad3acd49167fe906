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
        let data = heard_so_far(client, "herald", kind).await;
        assert!(data.len() <= count, "{kind} came more than {count} times: {data:?}");
        (data.len() == count).then_some(data)
    })
    .await
}

/// The same of those events of a type of which `is_it` is true, as soon as there are at least so many.
///
/// # Panics
/// When they do not come.
pub async fn heard_of(client: &Client, kind: &str, count: usize, is_it: impl Fn(&Value) -> bool) -> Vec<Value> {
    eventually(&format!("{count} of {kind}"), async || {
        let data = heard_so_far(client, "herald", kind).await.into_iter().filter(&is_it).collect::<Vec<_>>();
        (data.len() >= count).then_some(data)
    })
    .await
}

/// What a guest that keeps the events it hears (`herald`, `toolbox`) has heard of a type by now, the first one first.
///
/// # Panics
/// When the host refuses.
pub async fn heard_so_far(client: &Client, guest: &str, kind: &str) -> Vec<Value> {
    let path = format!("/api/{guest}/events?type={kind}&sortBy=createdAt&order=asc&limit=200");
    let mut page = client.get(&path).await.expect(200);
    let items = page["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    items.into_iter().map(|mut item| item["data"].take()).collect()
}
