//! Deploying: new builds in place of old ones, without a request noticing.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use berth_tests::{Answer, Client, Host, Manifest, guests};
use reqwest::Method;
use serde_json::Value;

/// Swaps under load in one test; `cargo xtask bench` is the place for thousands.
const SWAPS: u32 = 30;
const CONNECTIONS: usize = 32;

fn hello() -> Vec<u8> {
    guests::bytes(&guests::plugin("hello"))
}

async fn plugin(client: &Client, name: &str) -> Value {
    let plugins = client.get("/api/admin/plugins").await.expect(200);
    let items = plugins["items"].as_array().cloned().unwrap_or_default();
    items.into_iter().find(|plugin| plugin["name"] == name).unwrap_or_default()
}

fn switched(answer: &Answer) -> Value {
    assert!(matches!(answer.status, 200 | 202), "{}: {}", answer.status, answer.text());
    answer.json()
}

#[tokio::test]
async fn garbage_is_refused_while_the_old_build_serves() {
    let host = Host::with(Manifest::hello()).start().await;
    let operator = host.operator();
    let before = plugin(&operator, "hello").await;
    let module = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00].to_vec();
    let cut = hello().into_iter().take(1000).collect();
    for component in [b"garbage".to_vec(), Vec::new(), module, cut, vec![0; 1_000_000]] {
        operator.deploy("hello", component).await.problem(422, "UNPROCESSABLE");
    }
    operator.deploy("nobody", b"garbage".to_vec()).await.problem(404, "NOT_FOUND");
    assert_eq!(plugin(&operator, "hello").await["sha256"], before["sha256"]);
    assert_eq!(host.client().get("/api/hello").await.expect(200)["message"], "hello");
}

#[tokio::test]
async fn a_deploy_a_rollback_and_a_restart_agree_on_what_serves() {
    let host = Host::with(Manifest::hello()).start().await;
    let operator = host.operator();
    let first = plugin(&operator, "hello").await["sha256"].clone();
    let report = switched(&operator.deploy("hello", guests::variant(&hello(), 1)).await);
    let second = report["sha256"].clone();
    assert_ne!(first, second);
    assert_eq!(plugin(&operator, "hello").await["sha256"], second);
    let host = host.restart().await;
    let operator = host.operator();
    assert_eq!(plugin(&operator, "hello").await["sha256"], second, "a restart forgot the deploy");
    let back = operator.send(operator.request(Method::POST, "/api/admin/plugins/hello/rollback?wait=true")).await;
    assert_eq!(switched(&back)["sha256"], first);
    let host = host.kill().await.start().await;
    let operator = host.operator();
    assert_eq!(plugin(&operator, "hello").await["sha256"], first, "kill -9 forgot the rollback");
    let history = operator.get("/api/admin/plugins/hello/history").await.expect(200);
    let actions: Vec<&str> =
        history["items"].as_array().into_iter().flatten().filter_map(|line| line["action"].as_str()).collect();
    assert!(actions.contains(&"deploy") && actions.contains(&"rollback"), "{history}");
    host.client().get("/api/hello").await.done(200);
}

#[tokio::test]
async fn the_commands_do_what_the_api_does() {
    let host = Host::with(Manifest::hello()).start().await;
    let file = host.data().join("build.wasm");
    std::fs::write(&file, guests::variant(&hello(), 7)).expect("written");
    let run = |arguments: &[&str]| {
        let output = host.berth(arguments).output().expect("berth");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (status, said, complaint) = run(&["deploy", "hello", &file.display().to_string()]);
    assert_eq!(status, Some(0), "{complaint}");
    assert!(said.contains("revision 2"), "{said}");
    let (status, said, complaint) = run(&["plugins", "--json"]);
    assert_eq!(status, Some(0), "{complaint}");
    let plugins: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(plugins["items"][0]["revision"], 2, "{said}");
    let (status, said, _) = run(&["history", "hello"]);
    assert!(status == Some(0) && said.lines().count() >= 3, "{said}");
    let (status, _, complaint) = run(&["rollback", "hello"]);
    assert_eq!(status, Some(0), "{complaint}");
    let (status, said, _) = run(&["routes"]);
    assert!(status == Some(0) && said.contains("/api/hello"), "{said}");
    std::fs::write(&file, b"garbage").expect("written");
    let (status, said, complaint) = run(&["deploy", "hello", &file.display().to_string()]);
    assert_eq!((status, said.as_str()), (Some(1), ""), "{complaint}");
    assert!(complaint.contains("422") && complaint.lines().count() == 1, "{complaint}");
    let (status, _, complaint) = run(&["deploy", "nobody", &file.display().to_string()]);
    assert!(status == Some(1) && complaint.contains("404"), "{complaint}");
}

/// What the load saw.
#[derive(Default)]
struct Load {
    is_over: AtomicBool,
    answers: AtomicU64,
    failures: AtomicU64,
}

impl Load {
    fn count(&self, outcome: &Result<bool, reqwest::Error>) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        if !matches!(outcome, Ok(true)) {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_never_drops_a_request() {
    let host = Host::with(Manifest::hello()).start().await;
    let load = Arc::new(Load::default());
    let mut tasks = Vec::new();
    for number in 0..CONNECTIONS {
        let (client, load) = (host.client(), Arc::clone(&load));
        tasks.push(tokio::spawn(async move {
            while !load.is_over.load(Ordering::Relaxed) {
                // Some upload slowly: the body comes in pieces while builds change.
                let outcome = if number % 8 == 0 { slow_upload(&client).await } else { small(&client).await };
                load.count(&outcome);
            }
        }));
    }
    let streaming = {
        let client = host.client();
        tokio::spawn(async move {
            let request = client.request(Method::GET, "/api/hello/stream?count=20&intervalMs=50");
            let response = request.send().await.expect("a stream");
            response.text().await.expect("the whole stream").matches("tick").count()
        })
    };
    for number in 1..=SWAPS {
        let _ = switched(&host.operator().deploy("hello", guests::variant(&hello(), number)).await);
    }
    load.is_over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("the load");
    }
    let (answers, failures) = (load.answers.load(Ordering::Relaxed), load.failures.load(Ordering::Relaxed));
    assert_eq!(failures, 0, "{failures} of {answers} requests failed in {SWAPS} swaps");
    assert!(answers > u64::from(SWAPS), "only {answers} requests: no load");
    assert!(streaming.await.expect("the stream") >= 20, "the stream was cut");
}

async fn small(client: &Client) -> Result<bool, reqwest::Error> {
    let response = client.request(Method::GET, "/api/hello").send().await?;
    let is_ok = response.status() == 200;
    Ok(is_ok && response.text().await?.contains("hello"))
}

async fn slow_upload(client: &Client) -> Result<bool, reqwest::Error> {
    let pieces = futures_util::stream::unfold(0, |number| async move {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let piece = match number {
            0 => "{\"a\":\"",
            10 => "\"}",
            11 => return None,
            _ => "xxxxxxxx",
        };
        Some((Ok::<_, std::io::Error>(piece), number + 1))
    });
    let request = client.request(Method::POST, "/api/hello/echo").header("content-type", "application/json");
    let response = request.body(reqwest::Body::wrap_stream(pieces)).send().await?;
    let is_ok = response.status() == 200;
    Ok(is_ok && response.text().await?.contains("xxxxxxxx"))
}
