//! What tests ask of embeddings.

use serde_json::Value;

use crate::Client;
use crate::answer::text;

/// Where its routes begin.
pub const PATH: &str = "/api/embeddings";

/// Makes a collection; its id.
///
/// # Panics
/// When the host refuses.
pub async fn collection(client: &Client, body: Value) -> String {
    text(&client.post(&format!("{PATH}/collections"), &body).await.expect(201), "id")
}

/// Stores a document; its id.
///
/// # Panics
/// When the host refuses.
pub async fn store(client: &Client, body: Value) -> String {
    text(&client.post(PATH, &body).await.expect(201), "id")
}

/// What a search finds.
///
/// # Panics
/// When the host refuses.
pub async fn search(client: &Client, body: Value) -> Vec<Value> {
    let found = client.post(&format!("{PATH}/search"), &body).await.expect(200);
    found["results"].as_array().cloned().unwrap_or_default()
}

/// The documents of what was found.
///
/// # Panics
/// When one has no id.
#[must_use]
pub fn ids(results: &[Value]) -> Vec<String> {
    results.iter().map(|result| text(&result["embedding"], "id")).collect()
}
