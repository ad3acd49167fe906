//! OpenAI's own Python client against a real host: `cargo test --release --test openai_client -- --ignored`. It is installed into an
//! environment below `target/` where it is missing, which needs python3 and PyPI.

use std::path::PathBuf;
use std::process::Command;

use berth_tests::answer::text;
use berth_tests::{Host, guests};
use serde_json::json;

/// The version whose behaviour is known.
const VERSION: &str = "3.57.0";

/// The environment's Python.
fn install() -> PathBuf {
    let environment = guests::root().join(format!("target/openai-{VERSION}"));
    let python = environment.join("bin/python");
    if !environment.join("installed").is_file() {
        let run = |command: &mut Command| {
            let status = command.status();
            assert!(status.is_ok_and(|status| status.success()), "{command:?} failed");
        };
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment));
        run(Command::new(environment.join("bin/pip")).args(["install", "--quiet", &format!("openai=={VERSION}")]));
        assert!(std::fs::write(environment.join("installed"), VERSION).is_ok(), "the environment cannot be marked");
    }
    python
}

#[tokio::test]
#[ignore = "needs python3 and PyPI"]
async fn openais_client_works_with_a_key_of_ours() {
    let python = install();
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let key = json!({"name": "SDK", "permissions": ["ai.*"], "expiresInDays": 1});
    let key = text(&ada.post("/api/users/me/api-keys", &key).await.expect(201), "key");
    let script = guests::root().join("tests/clients/openai_client.py");
    // A session's token is as good as a key.
    for credential in [key.as_str(), ada.token()] {
        let output = Command::new(&python).arg(&script).args([&ada.url("/api/ai/v1"), credential]).output();
        let output = output.unwrap_or_else(|error| unreachable!("{error}"));
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains("all of it works"), "{said}");
    }
}
