//! Where builds come from: a registry that they were pushed to, and addresses with their digest.
#![expect(clippy::indexing_slicing, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_test_servers::{Kind, Private};
use berth_tests::listener::{Listener, Received};
use berth_tests::{Host, Manifest, guests, process};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A registry that lets one user in, whose login is in the Docker configuration of the folder.
struct Registry {
    /// `oci://127.0.0.1:<port>`.
    base: String,
    docker: TempDir,
    _server: Private,
}

impl Registry {
    fn start() -> Self {
        let server =
            Private::start(Kind::Registry).expect("a private registry; `cargo xtask test` installs its program");
        let base = server.url();
        let (name, password) = Private::registry_login();
        let docker = login(base.trim_start_matches("oci://"), name, password);
        Self { base, docker, _server: server }
    }

    fn address(&self) -> &str {
        self.base.trim_start_matches("oci://")
    }

    /// The URL of a path, with name and password.
    fn web(&self, path: &str) -> String {
        let (name, password) = Private::registry_login();
        format!("http://{name}:{password}@{}{path}", self.address())
    }

    async fn read(&self, path: &str) -> Vec<u8> {
        let (name, password) = Private::registry_login();
        let request = reqwest::Client::new().get(format!("http://{}{path}", self.address()));
        let accept =
            request.header("accept", "application/vnd.oci.image.manifest.v1+json").basic_auth(name, Some(password));
        accept.send().await.expect("an answer").bytes().await.expect("a body").to_vec()
    }
}

impl Registry {
    /// Sends a blob, as any client of the format does: asks for a place, and puts it there.
    async fn upload(&self, name: &str, bytes: Vec<u8>) {
        let client = reqwest::Client::new();
        let begin = client.post(self.web(&format!("/v2/{name}/blobs/uploads/"))).send().await.expect("an answer");
        let place = begin.headers()["location"].to_str().expect("a place").replace("http://", "");
        let place = place.split_once('/').map_or("", |(_, path)| path);
        let sign = if place.contains('?') { '&' } else { '?' };
        let place = format!("/{place}{sign}digest=sha256:{}", hex(&bytes));
        let put = client.put(self.web(&place)).body(bytes).send().await.expect("an answer");
        assert_eq!(put.status(), 201);
    }
}

/// A folder with the Docker configuration that `docker login` would leave.
fn login(registry: &str, name: &str, password: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let auth = STANDARD.encode(format!("{name}:{password}"));
    let config = json!({ "auths": { registry: { "auth": auth } } });
    std::fs::write(folder.path().join("config.json"), config.to_string()).expect("written");
    folder
}

/// Exit status, standard output and standard error of a command.
type Said = (Option<i32>, String, String);

fn run(host: &Host, docker: &Path, arguments: &[&str]) -> Said {
    let output = host.berth(arguments).env("DOCKER_CONFIG", docker).output().expect("berth");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Refused with one sentence that holds the words.
fn refused(said: &Said, status: i32, words: &str) {
    let (code, stdout, stderr) = said;
    assert_eq!((*code, stdout.as_str(), stderr.lines().count()), (Some(status), "", 1), "{stderr}");
    assert!(stderr.contains(words), "{stderr}");
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn build(number: u32) -> Vec<u8> {
    guests::variant(&guests::bytes(&guests::plugin("hello")), number)
}

/// A file with a build in it.
fn file(host: &Host, number: u32) -> String {
    let path = host.data().join(format!("build-{number}.wasm"));
    std::fs::write(&path, build(number)).expect("written");
    path.display().to_string()
}

async fn serving(host: &Host) -> String {
    let plugins = host.operator().get("/api/admin/plugins").await.expect(200);
    plugins["items"][0]["sha256"].as_str().unwrap_or_default().to_owned()
}

async fn newest(host: &Host) -> Value {
    host.operator().get("/api/admin/plugins/hello/history").await.expect(200)["items"][0].clone()
}

#[tokio::test]
async fn what_was_pushed_is_deployed_and_pinned() {
    let registry = Registry::start();
    let docker = registry.docker.path();
    let host = Host::with(Manifest::hello()).start().await;
    let reference = format!("{}/acme/hello:1", registry.base);
    let (status, pushed, complaint) = run(&host, docker, &["push", &reference, &file(&host, 1)]);
    assert_eq!((status, complaint.as_str()), (Some(0), ""));
    let pinned = pushed.trim_end().to_owned();
    let digest = pinned.strip_prefix(&format!("{reference}@sha256:")).expect("the digest of what was pushed");
    let manifest = registry.read("/v2/acme/hello/manifests/1").await;
    assert_eq!(hex(&manifest), digest);

    // As every other tool of the format writes it.
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    assert_eq!(manifest["layers"][0]["digest"], format!("sha256:{}", hex(&build(1))));
    let config = manifest["config"]["digest"].as_str().unwrap_or_default();
    let config = registry.read(&format!("/v2/acme/hello/blobs/{config}")).await;
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    assert_eq!((&config["architecture"], &config["os"]), (&json!("wasm"), &json!("wasip2")));
    assert_eq!(config["layerDigests"], json!([manifest["layers"][0]["digest"]]));
    let exports = config["component"]["exports"].as_array().cloned().unwrap_or_default();
    let is_of_berth = |name: &Value| name.as_str().is_some_and(|name| name.starts_with("berth:platform/"));
    assert!(exports.iter().any(is_of_berth), "{config}");

    let (status, said, complaint) = run(&host, docker, &["deploy", "hello", &reference]);
    assert_eq!((status, complaint.as_str()), (Some(0), ""), "nothing but plain lines in a pipe");
    assert!(said.contains("revision 2 serves") && !said.contains('\u{1b}'), "{said}");
    assert_eq!(serving(&host).await, hex(&build(1)));
    assert_eq!(newest(&host).await["source"], pinned);
    let (_, table, _) = run(&host, docker, &["history", "hello"]);
    assert!(table.contains(&format!("hello:1@sha256:{} ", &digest[..12])), "{table}");

    // The tag moves, what was written down does not.
    assert_eq!(run(&host, docker, &["push", &reference, &file(&host, 2)]).0, Some(0));
    assert_eq!(run(&host, docker, &["deploy", "hello", &reference]).0, Some(0));
    assert_eq!(serving(&host).await, hex(&build(2)));
    assert_eq!(run(&host, docker, &["deploy", "hello", &pinned]).0, Some(0));
    assert_eq!(serving(&host).await, hex(&build(1)));
    assert_eq!(newest(&host).await["source"], pinned);
}

#[tokio::test]
async fn what_another_tool_pushed_is_deployed_with_a_login_from_a_credential_helper() {
    let registry = Registry::start();
    let host = Host::with(Manifest::hello()).start().await;
    // An empty configuration, a type of the artifact's own and annotations: as `oras push` writes it.
    let (component, empty) = (build(1), b"{}".to_vec());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.acme.service",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": format!("sha256:{}", hex(&empty)), "size": 2, "data": "e30="},
        "layers": [{
            "mediaType": "application/wasm", "digest": format!("sha256:{}", hex(&component)), "size": component.len(),
            "annotations": {"org.opencontainers.image.title": "hello.wasm"},
        }],
        "annotations": {"org.opencontainers.image.created": "2026-01-31T08:15:00Z"},
    });
    registry.upload("acme/oras", empty).await;
    registry.upload("acme/oras", component).await;
    let put = reqwest::Client::new().put(registry.web("/v2/acme/oras/manifests/1"));
    let put = put.header("content-type", "application/vnd.oci.image.manifest.v1+json").body(manifest.to_string());
    assert_eq!(put.send().await.expect("an answer").status(), 201);

    // The configuration names a program that knows the login of this registry, and of no other.
    let docker = tempfile::tempdir().expect("a folder");
    let config = json!({ "credHelpers": { registry.address(): "of-the-test" } });
    std::fs::write(docker.path().join("config.json"), config.to_string()).expect("written");
    let (name, password) = Private::registry_login();
    let helper = docker.path().join("docker-credential-of-the-test");
    let login = json!({"ServerURL": registry.address(), "Username": name, "Secret": password});
    let script = format!("#!/bin/sh\n[ \"$1 $(cat)\" = 'get {}' ] && echo '{login}'\n", registry.address());
    std::fs::write(&helper, script).expect("written");
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).expect("a program");
    let path = std::env::var("PATH").unwrap_or_default();
    let deploy = || {
        let mut command = host.berth(&["deploy", "hello", &format!("{}/acme/oras:1", registry.base)]);
        command.env("DOCKER_CONFIG", docker.path()).env("PATH", format!("{}:{path}", docker.path().display()));
        let output = command.output().expect("berth");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(deploy(), (Some(0), String::new()));
    assert_eq!(serving(&host).await, hex(&build(1)));
    // Without its program there is no login.
    std::fs::remove_file(&helper).expect("removed");
    let (status, complaint) = deploy();
    assert_eq!((status, complaint.lines().count()), (Some(1), 1), "{complaint}");
}

#[tokio::test]
async fn what_a_registry_does_not_have_is_a_clear_sentence() {
    let registry = Registry::start();
    let docker = registry.docker.path();
    let host = Host::with(Manifest::hello()).start().await;
    let before = serving(&host).await;
    let reference = format!("{}/hello:1", registry.base);
    let component = file(&host, 1);
    assert_eq!(run(&host, docker, &["push", &reference, &component]).0, Some(0));
    let deploy = |docker: &Path, source: &str| run(&host, docker, &["deploy", "hello", source]);

    for name in ["hello:2", "nobody:1", &format!("hello@sha256:{}", hex(b"another"))] {
        let source = format!("{}/{name}", registry.base);
        refused(&deploy(docker, &source), 1, &format!("there is no {source}"));
    }
    let nobody = tempfile::tempdir().expect("a folder");
    refused(&deploy(nobody.path(), &reference), 1, "log in first");
    let wrong = login(registry.address(), "berth", "guessed");
    refused(&deploy(wrong.path(), &reference), 1, "log in again");
    refused(&run(&host, wrong.path(), &["push", &reference, &component]), 1, "log in again");
    refused(&deploy(docker, "oci://127.0.0.1:9/hello:1"), 1, "cannot be reached");
    refused(&deploy(docker, "oci://hello:1"), 64, "the registry is missing");
    let pinned = format!("{}/hello@sha256:{}", registry.base, hex(b"x"));
    refused(&run(&host, docker, &["push", &pinned, &component]), 64, "name a tag");
    let garbage = host.data().join("garbage.wasm");
    std::fs::write(&garbage, b"garbage").expect("written");
    refused(
        &run(&host, docker, &["push", &reference, &garbage.display().to_string()]),
        1,
        "not a WebAssembly component",
    );
    assert_eq!(serving(&host).await, before);
}

#[tokio::test]
async fn a_registry_that_sends_something_else_is_not_believed() {
    let component = String::from_utf8_lossy(b"\0asm something else").into_owned();
    let layer = json!({"mediaType": "application/wasm", "digest": format!("sha256:{}", hex(b"the component")), "size": component.len()});
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.wasm.config.v0+json", "digest": format!("sha256:{}", hex(b"{}")), "size": 2},
        "layers": [layer]})
    .to_string();
    let answer = move |request: &Received| match request.target.as_str() {
        target if target.contains("/manifests/") => (200, manifest.clone()),
        target if target.contains("/blobs/") => (200, component.clone()),
        _ => (200, "{}".to_owned()),
    };
    let listener = Listener::answering(Arc::new(answer)).await;
    let host = Host::with(Manifest::hello()).start().await;
    let before = serving(&host).await;
    let docker = tempfile::tempdir().expect("a folder");
    let address = listener.address();
    // The listener answers on this thread.
    let deploy = async |reference: String| {
        let mut command = host.berth(&["deploy", "hello", &reference]);
        command.env("DOCKER_CONFIG", docker.path());
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("a task").expect("berth");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    refused(&deploy(format!("oci://{address}/hello:1")).await, 1, "is not what was asked for");
    let other = format!("oci://{address}/hello@sha256:{}", hex(b"another manifest"));
    refused(&deploy(other).await, 1, "sha256:");
    assert_eq!(serving(&host).await, before);
}

#[tokio::test]
async fn an_address_is_deployed_by_its_digest_only() {
    let registry = Registry::start();
    let docker = registry.docker.path();
    let host = Host::with(Manifest::hello()).start().await;
    let before = serving(&host).await;
    assert_eq!(run(&host, docker, &["push", &format!("{}/hello:1", registry.base), &file(&host, 1)]).0, Some(0));
    let digest = hex(&build(1));
    let address = registry.web(&format!("/v2/hello/blobs/sha256:{digest}"));
    let deploy = |arguments: &[&str]| run(&host, docker, &[&["deploy", "hello"][..], arguments].concat());

    refused(&deploy(&[&address]), 64, "needs its digest");
    refused(&deploy(&[&address, "--digest", "abc"]), 64, "not a digest");
    let other = hex(b"another");
    let wrong = deploy(&[&format!("{address}#sha256={other}")]);
    refused(&wrong, 1, &format!("its digest is sha256:{digest}, and not sha256:{other}"));
    assert!(!wrong.2.contains(Private::registry_login().1), "a password was shown: {}", wrong.2);
    // An address of nobody's: it must not even be asked.
    refused(&deploy(&[&format!("http://192.0.2.1/hello.wasm#sha256={digest}")]), 64, "in the clear");
    refused(&deploy(&[&file(&host, 2), "--digest", &digest]), 1, "is not what was asked for");
    refused(&deploy(&["ftp://127.0.0.1/hello.wasm"]), 64, "is not a source of builds");
    assert_eq!(serving(&host).await, before);

    let (status, _, complaint) = deploy(&[&address, "--digest", &format!("sha256:{digest}")]);
    assert_eq!(status, Some(0), "{complaint}");
    assert_eq!(serving(&host).await, digest);
    let source = newest(&host).await["source"].clone();
    assert_eq!(source, format!("http://{}/v2/hello/blobs/sha256:{digest}#sha256={digest}", registry.address()));
}

#[tokio::test]
async fn a_terminal_sees_how_far_a_deploy_is() {
    let host = Host::with(Manifest::hello()).start().await;
    let deploy = host.berth(&["deploy", "hello", &file(&host, 1)]);
    let output = process::in_a_terminal(&deploy).output().expect("script (util-linux)");
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{seen}");
    let place = |words: &str| seen.find(words).unwrap_or_else(|| panic!("no {words}: {seen}"));
    assert!(place("sending") < place("verify → warm → swap"));
    assert!(place("verify → warm → swap") < place("revision 2 serves"));
}
