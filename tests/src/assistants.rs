//! Hosts whose ai-service asks a provider of the tests.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use crate::answer::text;
use crate::manifest::Manifest;
use crate::model_provider::{Act, Asked, ModelProvider, completion, stream_end, stream_head, whole, word};
use crate::{Client, Host, eventually};

/// The key of the provider of the tests.
pub const KEY: &str = "sk-nobody-may-see-this";

/// The services, allowed to reach `provider` on loopback, with a clock that does not keep a test waiting.
///
/// # Panics
/// When the manifest does not look as it should.
#[must_use]
pub fn manifest(provider: Option<&ModelProvider>) -> Manifest {
    let services = Manifest::services().with("health = \"1m\"\n", "health = \"1s\"\n");
    let Some(provider) = provider else { return services };
    services.with(
        "outbound = [\n    \"api.openai.com\",",
        &format!("outbound_private = [\"127.0.0.1\"]\noutbound = [\n    {:?},", provider.address()),
    )
}

/// A host with these plugins, and somebody who administers an organization on it.
///
/// # Panics
/// When the host does not start.
pub async fn host_with_ada(manifest: Manifest) -> (Host, Client) {
    let host = Host::with(manifest).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    (host, ada)
}

/// The answers of the tests' provider, by the model that is asked.
fn answers(asked: &Asked) -> Vec<Act> {
    if asked.body.is_null() {
        return whole(200, "", r#"{"data":[{"id":"good"},{"id":"other"}]}"#);
    }
    match asked.model() {
        "unauthorized" => whole(401, "", &json!({"error": {"message": format!("bad key {KEY}")}}).to_string()),
        "limited" => whole(429, "retry-after: 7\r\n", "{}"),
        "faulty" => whole(500, "", "{}"),
        "picky" => whole(400, "", r#"{"error":{"message":"I do not like it"}}"#),
        "silent" => vec![Act::Hang],
        "junk" => whole(200, "", "<html>"),
        "huge" => {
            let head =
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{\"x\":\"".to_vec();
            let part = Act::Send(vec![b'x'; 1 << 20]);
            [Act::Send(head)].into_iter().chain(std::iter::repeat_n(part, 50)).collect()
        }
        "half" if asked.streams() => vec![stream_head(), word("Once "), word("upon ")],
        "gated" => vec![stream_head(), word("one "), Act::Gate, word("two"), Act::Gate, stream_end(11, 2)],
        "leaving" => vec![stream_head(), word("one two three four "), Act::Hang],
        _ if asked.streams() => vec![stream_head(), word("Hel"), word("lo"), stream_end(10, 3)],
        _ => completion("Hello", 10, 3),
    }
}

/// A provider that answers by the name of the model.
///
/// # Panics
/// When no port is free.
pub async fn stub() -> ModelProvider {
    ModelProvider::start(Arc::new(answers)).await
}

/// A provider of one's own with a key, and a model of each of these names.
///
/// # Panics
/// When the host refuses.
pub async fn set_up(ada: &Client, provider: &ModelProvider, kind: &str, names: &[&str]) -> (String, Vec<String>) {
    let secret = json!({"name": "stub", "type": "API_KEY", "value": KEY, "services": ["ai-service"]});
    let secret = text(&ada.post("/api/secrets", &secret).await.expect(201), "id");
    let body = json!({"name": "stub", "type": kind, "baseUrl": provider.base_url()});
    let provider = text(&ada.post("/api/ai/providers", &body).await.expect(201), "id");
    let path = format!("/api/ai/providers/{provider}/configure");
    let set = ada.post(&path, &json!({ "secretId": secret })).await.expect(200);
    assert_eq!(set["apiKeySecretId"], secret.as_str());
    let mut models = Vec::new();
    for name in names {
        models.push(model(ada, &provider, name).await);
    }
    (provider, models)
}

/// A model of a provider, for 3 and 15 dollars a million tokens.
///
/// # Panics
/// When the host refuses.
pub async fn model(ada: &Client, provider: &str, name: &str) -> String {
    let body = json!({"providerId": provider, "name": name, "displayName": name, "contextWindow": 8000,
        "inputPricePer1mMicro": 300_000_000, "outputPricePer1mMicro": 1_500_000_000});
    text(&ada.post("/api/ai/models", &body).await.expect(201), "id")
}

/// A question to a model.
#[must_use]
pub fn question(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "Say hello."}], "temperature": 0})
}

/// An answer that comes piece by piece, as soon as its head is there.
///
/// # Panics
/// When no answer comes.
pub async fn stream(client: &Client, path: &str, body: &Value) -> reqwest::Response {
    client.request(Method::POST, path).json(body).send().await.expect("an answer")
}

/// Reads on in a stream until it has said these words.
///
/// # Panics
/// When it ends before.
pub async fn read_until(response: &mut reqwest::Response, read: &mut String, words: &str) {
    while !read.contains(words) {
        let bytes = response.chunk().await.expect("a piece").expect("not the end");
        read.push_str(&String::from_utf8_lossy(&bytes));
    }
}

/// What is left of a stream.
pub async fn rest(mut response: reqwest::Response) -> String {
    let mut read = String::new();
    while let Ok(Some(bytes)) = response.chunk().await {
        read.push_str(&String::from_utf8_lossy(&bytes));
    }
    read
}

/// A row of the caller's completions, once it looks as it should.
///
/// # Panics
/// When none does in time.
pub async fn row(client: &Client, query: &str, fits: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("a completion with {query}"), async || {
        let page = client.get(&format!("/api/ai/completions?{query}")).await.expect(200);
        page["items"].as_array().into_iter().flatten().find(|row| fits(row)).cloned()
    })
    .await
}

/// Tokens that usage-tracking has metered.
///
/// # Panics
/// When the host refuses.
pub async fn metered(client: &Client) -> i64 {
    let summary = client.get("/api/usage/summary?period=month").await.expect(200);
    let lines = summary["categories"].as_array().cloned().unwrap_or_default();
    let of = lines.iter().find(|line| line["categoryCode"] == "ai.completion").cloned().unwrap_or_default();
    of["metrics"]["totalTokens"].as_f64().map_or(0, |tokens| {
        #[expect(clippy::cast_possible_truncation, reason = "a small whole number")]
        let tokens = tokens as i64;
        tokens
    })
}
