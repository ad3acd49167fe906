//! Secrets, as their users handle them.

use serde_json::Value;

use crate::Client;
use crate::answer::{Answer, text};

/// Makes a secret; its id.
///
/// # Panics
/// When the host refuses.
pub async fn made(client: &Client, body: Value) -> String {
    text(&client.post("/api/secrets", &body).await.expect(201), "id")
}

/// What comes of reading a secret's value.
///
/// # Panics
/// When no answer comes.
pub async fn value(client: &Client, id: &str) -> Answer {
    client.get(&format!("/api/secrets/{id}/value")).await
}
