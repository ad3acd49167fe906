//! Guests that break rules: each gets a clear answer, the host lives, and its neighbours do not notice.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use berth_tests::{Answer, Host, Load, Manifest, Slot, eventually, guests, manifest};
use futures_util::StreamExt;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::Value;

/// A host must never need more than this beyond what it needed before, whatever a guest with 32 MiB does.
const GROWTH_BYTES_MAX: u64 = 160 << 20;

async fn status_of(host: &Host, plugin: &str) -> Value {
    let plugins = host.operator().get("/api/admin/plugins").await.expect(200);
    let items = plugins["items"].as_array().cloned().unwrap_or_default();
    items.into_iter().find(|item| item["name"] == plugin).expect("the plugin")
}

fn is_hello(answer: &berth_tests::wire::WireAnswer) -> Result<(), String> {
    if answer.body.contains("hello") { Ok(()) } else { Err(format!("a strange answer: {answer:?}")) }
}

#[tokio::test]
async fn every_misbehaviour_gets_its_problem_and_the_next_request_a_fresh_guest() {
    let host = Host::with(Manifest::of([manifest::unruly()])).start().await;
    let client = host.client();
    let before = host.resident_bytes();
    for (what, status, code) in [
        ("trap", 502, "PLUGIN_FAILED"),
        ("spin", 504, "GATEWAY_TIMEOUT"),
        ("sleep", 504, "GATEWAY_TIMEOUT"),
        ("grow", 502, "PLUGIN_FAILED"),
        ("recurse", 502, "PLUGIN_FAILED"),
        ("handles", 502, "PLUGIN_FAILED"),
        ("exit", 502, "PLUGIN_FAILED"),
        ("status", 502, "PLUGIN_FAILED"),
        ("header", 502, "PLUGIN_FAILED"),
    ] {
        let problem = client.get(&format!("/api/unruly/{what}")).await.problem(status, code);
        let text = problem.to_string();
        for inside in ["wasm", "guest gives up", "backtrace", "unreachable"] {
            assert!(!text.contains(inside), "{what} tells of the inside: {text}");
        }
        assert_eq!(client.get("/api/unruly/ok").await.expect(200)["ok"], true, "after {what}");
    }
    let after = host.resident_bytes();
    assert!(after < before + GROWTH_BYTES_MAX, "{before} bytes became {after}");
    let status = status_of(&host, "unruly").await;
    assert!(status["traps"].as_u64().is_some_and(|traps| traps >= 5), "{status}");
    assert!(status["lastTrap"].is_string() && status["timeouts"] == 2, "{status}");
}

#[tokio::test]
async fn a_guest_that_shouts_fills_neither_memory_nor_log() {
    let host = Host::with(Manifest::of([manifest::unruly()])).start().await;
    let before = host.resident_bytes();
    let answer = host.client().get("/api/unruly/shout").await;
    assert!(matches!(answer.status, 200 | 504), "{}", answer.text());
    assert!(host.resident_bytes() < before + GROWTH_BYTES_MAX);
    assert!(host.log().len() < 1 << 20, "{} bytes of log", host.log().len());
    host.client().get("/api/unruly/ok").await.done(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hello_goes_on_answering_while_eight_guests_spin() {
    let spinning = Slot::new("unruly", guests::fixture("unruly"), "/api/unruly").with(
        "public = [\"/api/unruly/{*rest}\"]\n[plugin.limits]\nmemory_mib = 32\nrequest_timeout_ms = 4000\nconcurrency = 8",
    );
    let host = Host::with(Manifest::of([manifest::hello(), spinning])).start().await;
    let client = host.client();
    let load = Load::new().getting(host.address(), 4, "/api/hello", "", is_hello);
    let spins = join_all((0..8).map(|_| client.get("/api/unruly/spin")));
    let ninth = async {
        eventually("eight calls in flight", async || (status_of(&host, "unruly").await["inFlight"] == 8).then_some(()))
            .await;
        client.get("/api/unruly/ok").await
    };
    let (spins, ninth) = tokio::join!(spins, ninth);
    for spin in spins {
        let _ = spin.problem(504, "GATEWAY_TIMEOUT");
    }
    let _ = ninth.problem(503, "SERVICE_UNAVAILABLE");
    assert!(!ninth.header("retry-after").is_empty(), "{}", ninth.text());
    load.stop().await.assert_whole(50);
    client.get("/api/unruly/ok").await.done(200);
}

fn endless() -> Manifest {
    let slot = Slot::new("endless", guests::fixture("endless"), "/endless").with(
        "public = [\"/endless\"]\nisolation = \"plugin\"\n[plugin.limits]\nmemory_mib = 32\nrequest_timeout_ms = 1500\nconcurrency = 8",
    );
    Manifest::of([manifest::hello(), slot])
}

#[tokio::test]
async fn an_endless_body_is_cut_at_the_deadline_and_never_looks_whole() {
    let host = Host::with(endless()).start().await;
    let before = host.resident_bytes();
    let response = host.client().request(Method::GET, "/endless").send().await.expect("a head");
    assert_eq!(response.status(), 200);
    let (mut body, mut length, mut failure) = (response.bytes_stream(), 0_u64, None);
    while let Some(piece) = body.next().await {
        match piece {
            Ok(piece) => length += piece.len() as u64,
            Err(error) => failure = Some(error),
        }
        assert!(host.resident_bytes() < before + GROWTH_BYTES_MAX);
    }
    assert!(length > 0 && failure.is_some(), "{length} bytes came and then an end as of a whole body");
    host.client().get("/api/hello").await.done(200);
    eventually("the end of the call", async || (status_of(&host, "endless").await["inFlight"] == 0).then_some(()))
        .await;
}

#[tokio::test]
async fn an_endless_body_that_nobody_reads_costs_no_memory_and_is_cut_too() {
    let host = Host::with(endless()).start().await;
    let before = host.resident_bytes();
    let mut unread = Vec::new();
    for _ in 0..8 {
        unread.push(host.client().request(Method::GET, "/endless").send().await.expect("a head"));
    }
    eventually("the end of the calls", async || {
        assert!(host.resident_bytes() < before + GROWTH_BYTES_MAX);
        (status_of(&host, "endless").await["inFlight"] == 0).then_some(())
    })
    .await;
    drop(unread);
    host.client().get("/api/hello").await.done(200);
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_its_endless_call() {
    let slow = Slot::new("endless", guests::fixture("endless"), "/endless")
        .with("public = [\"/endless\"]\n[plugin.limits]\nrequest_timeout_ms = 600000");
    let host = Host::with(Manifest::of([slow])).start().await;
    let response = host.client().request(Method::GET, "/endless").send().await.expect("a head");
    drop(response);
    eventually("the end of the call", async || (status_of(&host, "endless").await["inFlight"] == 0).then_some(()))
        .await;
}

/// Deploys what must be refused into hello's place, and sees that hello goes on; the sentence that says why.
async fn refusal(host: &Host, component: Vec<u8>) -> String {
    let before = status_of(host, "hello").await;
    let answer = host.operator().deploy("hello", component).await;
    let problem = answer.problem(422, "UNPROCESSABLE");
    let sentence = problem["detail"].as_str().unwrap_or_default().to_owned();
    assert!(sentence.len() < 600 && !sentence.contains('\n'), "not one clear sentence: {sentence}");
    let after = status_of(host, "hello").await;
    assert_eq!((&before["sha256"], &before["revision"]), (&after["sha256"], &after["revision"]), "{after}");
    host.client().get("/api/hello").await.done(200);
    let history = host.operator().get("/api/admin/plugins/hello/history").await.expect(200);
    let newest = &history["items"][0];
    assert_eq!((&newest["outcome"], &newest["reason"]), (&"failed".into(), &sentence.as_str().into()), "{newest}");
    sentence
}

fn says(sentence: &str, parts: &[&str]) {
    for part in parts {
        assert!(sentence.contains(part), "{part} is not in: {sentence}");
    }
}

#[tokio::test]
async fn what_cannot_serve_is_refused_with_a_sentence_and_the_old_build_serves_on() {
    let host = Host::with(Manifest::hello()).start().await;
    let hello = guests::bytes(&guests::plugin("hello"));
    says(&refusal(&host, b"this is no component".to_vec()).await, &["no WebAssembly component"]);
    let empty = host.operator().deploy("hello", Vec::new()).await.problem(422, "UNPROCESSABLE");
    says(empty["detail"].as_str().unwrap_or_default(), &["no component"]);
    says(&refusal(&host, hello[..hello.len() / 2].to_vec()).await, &["no valid component"]);
    says(&refusal(&host, b"\0asm\x01\0\0\0".to_vec()).await, &["core module", "wasm32-wasip2"]);
    // A component that is valid and empty: of no world that Berth calls.
    says(&refusal(&host, b"\0asm\x0d\0\x01\0".to_vec()).await, &["exports none of", "berth:platform/handler"]);
    let greedy = guests::bytes(&guests::fixture("greedy"));
    says(&refusal(&host, greedy).await, &["berth:platform/secrets", "secrets"]);
    let unready = guests::bytes(&guests::fixture("unready"));
    says(&refusal(&host, unready).await, &["not ready", "the moon is in the wrong house"]);
    let mut damaged = hello.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 64].fill(0xff);
    let _ = refusal(&host, damaged).await;
}

#[tokio::test]
async fn a_granted_component_of_the_same_bytes_is_taken() {
    let slot = Slot::new("greedy", guests::fixture("greedy"), "/api/greedy")
        .with("public = [\"/api/greedy\"]\n[plugin.grant]\nsecrets = true");
    let host = Host::with(Manifest::of([slot])).start().await;
    let answer: Answer = host.client().get("/api/greedy").await;
    answer.done(200);
    assert_eq!(answer.bytes.len(), 16);
}

#[tokio::test]
async fn a_request_is_answered_in_time_even_when_its_guest_never_would() {
    let host = Host::with(Manifest::of([manifest::unruly()])).start().await;
    let begin = Instant::now();
    let _ = host.client().get("/api/unruly/sleep").await.problem(504, "GATEWAY_TIMEOUT");
    // The limit of one second is what ended it, not the guest's ten minutes.
    assert!(begin.elapsed() < Duration::from_secs(30));
}
