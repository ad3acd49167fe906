//! `berth dev`: a saved file is served soon, and what does not compile is shown while the build before it serves on.
//!
//! The component is a small one of its own workspace, so that a build takes seconds.
#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use berth_tests::process::free_port;
use berth_tests::{Client, Host, Manifest, Slot, eventually, guests};
use tempfile::TempDir;

/// Cheap to build rather than fast.
const WORKSPACE: &str = "
[workspace]
members = [\"NAME\"]
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

/// A workspace with one plugin, and the process that watches it.
struct Workshop {
    folder: TempDir,
    name: &'static str,
    process: Option<Child>,
}

impl Workshop {
    /// The workspace, built once: what it depends on is then there.
    fn new(name: &'static str, word: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let package = folder.path().join(name);
        std::fs::create_dir_all(package.join("src")).expect("a folder");
        std::fs::write(folder.path().join("Cargo.toml"), WORKSPACE.replace("NAME", name)).expect("written");
        std::fs::write(package.join("Cargo.toml"), PACKAGE.replace("NAME", name)).expect("written");
        for file in ["Cargo.lock", "rust-toolchain.toml"] {
            std::fs::copy(guests::root().join(file), folder.path().join(file)).expect("copied");
        }
        let workshop = Self { folder, name, process: None };
        workshop.save(&SOURCE.replace("WORD", word));
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--target", "wasm32-wasip2", "--profile", "guest"]);
        let built = workshop.prepare(&mut cargo).status().expect("cargo");
        assert!(built.success(), "the component does not build");
        workshop
    }

    /// In the workspace, and built beside everything else.
    fn prepare<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.current_dir(self.folder.path()).env("CARGO_TARGET_DIR", guests::target().join("test-dev"));
        // Everything that the component needs was fetched for the guests.
        command.env("CARGO_NET_OFFLINE", "true")
    }

    fn save(&self, source: &str) {
        std::fs::write(self.folder.path().join(self.name).join("src/lib.rs"), source).expect("written");
    }

    fn slot(&self) -> Slot {
        let route = format!("/{}", self.name);
        let public = format!("public = [\"{route}\"]\nisolation = \"plugin\"");
        Slot::new(self.name, guests::fixture("standard"), &route).with(&public)
    }

    fn develop(&mut self, mut command: Command) {
        let file = |name: &str| std::fs::File::create(self.log_file(name)).expect("a file");
        command.stdin(Stdio::null()).stdout(file("said")).stderr(file("complained"));
        self.process = Some(self.prepare(&mut command).spawn().expect("berth dev"));
    }

    fn log_file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What it has said so far, on standard output or standard error.
    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.log_file(name)).unwrap_or_default()
    }

    async fn serves(&self, client: &Client, word: &str) {
        let path = format!("/{}", self.name);
        let answers = async || {
            let answer = client.try_send(client.request(reqwest::Method::GET, &path)).await.ok()?;
            (answer.text() == word).then_some(())
        };
        eventually(&format!("{word} from {path}; {}{}", self.log("said"), self.log("complained")), answers).await;
    }

    /// Ends it as Ctrl-C does.
    fn stop(&mut self) {
        let mut process = self.process.take().expect("a process");
        let sent = Command::new("kill").args(["-s", "INT", &process.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()));
        assert!(process.wait().expect("its end").success(), "{}", self.log("complained"));
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = Command::new("kill").args(["-s", "TERM", &process.id().to_string()]).status();
            let _ = process.wait();
        }
    }
}

#[tokio::test]
async fn a_saved_file_is_served_and_a_broken_one_is_not() {
    let mut workshop = Workshop::new("greeter", "first");
    let host = Host::with(Manifest::of([workshop.slot()])).start().await;
    let client = host.client();
    workshop.develop(host.berth(&["dev"]));
    workshop.serves(&client, "first").await;

    workshop.save(&SOURCE.replace("WORD", "second"));
    workshop.serves(&client, "second").await;
    let said = async || workshop.log("said").lines().any(|line| line.contains("s after the save")).then_some(());
    eventually("the time from save to served", said).await;

    workshop.save(&SOURCE.replace("WORD", "{missing}"));
    let shown = async || workshop.log("complained").contains("greeter does not build").then_some(());
    eventually("a build error", shown).await;
    assert!(workshop.log("complained").contains("cannot find value `missing`"), "{}", workshop.log("complained"));
    workshop.serves(&client, "second").await;

    workshop.save(&SOURCE.replace("WORD", "third"));
    workshop.serves(&client, "third").await;
    workshop.stop();
    workshop.serves(&client, "third").await;
}

#[tokio::test]
async fn a_host_is_started_where_none_answers() {
    let mut workshop = Workshop::new("porter", "here");
    let folder = workshop.folder.path().to_path_buf();
    let manifest = folder.join("plugins.toml");
    std::fs::write(&manifest, Manifest::of([workshop.slot()]).text()).expect("written");
    let base = format!("http://127.0.0.1:{}", free_port());
    let client = Client::anonymous(&base);
    let command = berth_dev(&base, &manifest, &folder.join("data"));
    workshop.develop(command);
    workshop.serves(&client, "here").await;
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
