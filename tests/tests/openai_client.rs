//! OpenAI's own Python and Node clients against a real host: `cargo test --release --test openai_client -- --ignored`. They are installed
//! below `target/` where they are missing, which needs python3 and PyPI, and npm and its registry.

use std::process::Command;

use berth_tests::answer::text;
use berth_tests::programs::{self, node, npm, python, said, script, script_in};
use berth_tests::{Client, Host};
use serde_json::json;

/// The versions whose behaviour is known.
const PYTHON: &str = "3.57.0";
const NODE: &str = "openai@7.59.0";

/// Somebody, and a key of theirs: a session's token is as good as a key. What is behind another service needs its permission too.
async fn credentials() -> (Host, Client, [String; 2]) {
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let key = json!({"name": "SDK", "permissions": ["ai.*", "embeddings.*"], "expiresInDays": 1});
    let key = text(&ada.post("/api/users/me/api-keys", &key).await.expect(201), "key");
    let token = ada.token().to_owned();
    (host, ada, [key, token])
}

#[tokio::test]
#[ignore = "needs python3 and PyPI"]
async fn openais_python_client_works_with_a_key_of_ours() {
    let python = python("openai", PYTHON);
    let (_host, ada, credentials) = credentials().await;
    for credential in credentials {
        let client = &mut Command::new(&python);
        let (is_good, text) = said(client.arg(script("openai_client.py")).args([ada.url("/api/ai/v1"), credential]));
        assert!(is_good && text.contains("all of it works"), "{text}");
    }
}

#[tokio::test]
#[ignore = "needs npm and its registry"]
async fn openais_node_client_works_with_a_key_of_ours() {
    let npm = npm("openai-npm", &[programs::NODE, NODE]);
    let (_host, ada, credentials) = credentials().await;
    for credential in credentials {
        let script = script_in(&npm, "openai_client.mjs");
        let (is_good, text) = said(node(&npm).arg(script).args([ada.url("/api/ai/v1"), credential]));
        assert!(is_good && text.contains("all of it works"), "{text}");
    }
}
