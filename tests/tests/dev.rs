//! `berth dev`: a saved file is served soon, and what does not compile is shown while the build before it serves on.
//!
//! The component is a small one of its own workspace, so that a build takes seconds.

use std::path::Path;
use std::process::Command;

use berth_tests::process::free_port;
use berth_tests::{Client, Host, Manifest, Slot, Workshop, eventually, guests};

/// Cheap to build rather than fast.
const WORKSPACE: &str = "
[workspace]
members = [\"components/NAME\"]
resolver = \"3\"
[profile.guest]
inherits = \"release\"
opt-level = 0
panic = \"abort\"
";
const PACKAGE: &str = "
[package]
name = \"NAME\"
version = \"0.1.0\"
edition = \"2024\"
[lib]
crate-type = [\"cdylib\"]
[dependencies]
wasip2 = \"2\"
";
const SOURCE: &str = r#"
use std::io::Write as _;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

wasip2::http::proxy::export!(Component);

struct Component;

impl wasip2::exports::http::incoming_handler::Guest for Component {
    fn handle(_: IncomingRequest, out: ResponseOutparam) {
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().unwrap();
        ResponseOutparam::set(out, Ok(response));
        let mut stream = body.write().unwrap();
        let _ = write!(stream, "WORD");
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}
"#;

/// The workspace, built once: what it depends on is then there.
fn workshop(name: &str, word: &str) -> Workshop {
    let workshop = Workshop::new(name, WORKSPACE, PACKAGE);
    workshop.save(&SOURCE.replace("WORD", word));
    let _ = workshop.build();
    workshop
}

fn slot(name: &str) -> Slot {
    let route = format!("/{name}");
    let public = format!("public = [\"{route}\"]\nisolation = \"plugin\"");
    Slot::new(name, guests::fixture("standard"), &route).with(&public)
}

async fn serves(workshop: &Workshop, client: &Client, path: &str, word: &str) {
    let answers = async || {
        let answer = client.try_send(client.request(reqwest::Method::GET, path)).await.ok()?;
        (answer.text() == word).then_some(())
    };
    let said = format!("{word} from {path}; {}{}", workshop.log("said"), workshop.log("complained"));
    eventually(&said, answers).await;
}

#[tokio::test]
async fn a_saved_file_is_served_and_a_broken_one_is_not() {
    let mut workshop = workshop("greeter", "first");
    let host = Host::with(Manifest::of([slot("greeter")])).start().await;
    let client = host.client();
    workshop.develop(host.berth(&["dev"]));
    serves(&workshop, &client, "/greeter", "first").await;
    let ada = client.register("ada@example.com", "Harbour").await;

    workshop.save(&SOURCE.replace("WORD", "second"));
    serves(&workshop, &client, "/greeter", "second").await;
    let me = ada.get("/api/auth/me").await.expect(200);
    assert!(me.to_string().contains("ada@example.com"), "whoever was signed in still is: {me}");
    let said = async || workshop.log("said").lines().any(|line| line.contains("s after the save")).then_some(());
    eventually("the time from save to served", said).await;

    workshop.save(&SOURCE.replace("WORD", "{missing}"));
    let shown = async || workshop.log("complained").contains("greeter does not build").then_some(());
    eventually("a build error", shown).await;
    assert!(workshop.log("complained").contains("cannot find value `missing`"), "{}", workshop.log("complained"));
    serves(&workshop, &client, "/greeter", "second").await;

    workshop.save(&SOURCE.replace("WORD", "third"));
    serves(&workshop, &client, "/greeter", "third").await;
    workshop.stop();
    serves(&workshop, &client, "/greeter", "third").await;
}

#[tokio::test]
async fn a_host_is_started_where_none_answers() {
    let mut workshop = workshop("porter", "here");
    let folder = workshop.folder().to_path_buf();
    let manifest = folder.join("plugins.toml");
    std::fs::write(&manifest, Manifest::of([slot("porter")]).text()).expect("written");
    let base = format!("http://127.0.0.1:{}", free_port());
    let client = Client::anonymous(&base);
    let command = berth_dev(&base, &manifest, &folder.join("data"));
    workshop.develop(command);
    serves(&workshop, &client, "/porter", "here").await;
    workshop.stop();
    let answer = client.try_send(client.request(reqwest::Method::GET, "/health")).await;
    assert!(answer.is_err(), "its host outlives it");
}

fn berth_dev(base: &str, manifest: &Path, data: &Path) -> Command {
    let mut command = Command::new(guests::host_binary());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BERTH_")) {
        command.env_remove(name);
    }
    command.args(["dev", "--url", base]).env("BERTH_CONFIG", manifest).env("BERTH_DATA", data);
    command
}
