//! A build takes another's place while everybody goes on calling.
#![expect(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::time::Duration;

use berth_tests::{Answer, Client, Host, Load, Manifest, guests, manifest};
use futures_util::StreamExt;
use reqwest::Method;
use serde_json::Value;

const CONNECTIONS: usize = 32;
const SWAPS: usize = 200;
/// The bound on the switch itself, in microseconds.
const FLIP_US_MAX: u64 = 5_000;

/// hello with a short drain, so that many old builds go in a short test.
fn hello(drain_ms: u32) -> Manifest {
    Manifest::of([manifest::hello().with(&format!("[plugin.limits]\ndrain_ms = {drain_ms}\nconcurrency = 256"))])
}

/// Version 1 and version 2 of hello, in turns.
fn versions() -> [Vec<u8>; 2] {
    [guests::bytes(&guests::plugin("hello")), guests::bytes(&guests::fixture("hello-next"))]
}

/// Puts a component in front without waiting for the old one to go.
async fn swap(operator: &Client, plugin: &str, component: Vec<u8>) -> Value {
    let path = format!("/api/admin/plugins/{plugin}/deploy");
    let request = operator.request(Method::POST, &path).header("content-type", "application/wasm").body(component);
    operator.send(request).await.expect(202)
}

fn version(answer: &Answer) -> String {
    answer.expect(200)["version"].as_str().unwrap_or_default().to_owned()
}

/// What a stream of ticks came to.
struct Ticks {
    /// The versions that ticked, each once.
    versions: Vec<String>,
    count: u64,
    /// The data of the event `error`, when it ended with one.
    error: Option<Value>,
}

/// Reads a stream to its end.
async fn ticks(client: &Client, count: u32, interval_ms: u32) -> Ticks {
    let path = format!("/api/hello/stream?count={count}&intervalMs={interval_ms}");
    let response = client.request(Method::GET, &path).send().await.expect("a stream");
    assert_eq!(response.status(), 200);
    let (mut text, mut body) = (String::new(), response.bytes_stream());
    while let Some(piece) = body.next().await {
        let piece = piece.unwrap_or_else(|error| panic!("the stream was reset after {} bytes: {error:?}", text.len()));
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    let mut ticks = Ticks { versions: Vec::new(), count: 0, error: None };
    for event in text.split("\n\n").filter(|event| !event.is_empty()) {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        let data: Value = serde_json::from_str(field("data:")).unwrap_or_else(|_| panic!("no JSON: {event}"));
        assert!(ticks.error.is_none(), "something follows the error: {event}");
        match field("event:") {
            "tick" => {
                let version = data["version"].as_str().unwrap_or_default().to_owned();
                ticks.count += 1;
                if !ticks.versions.contains(&version) {
                    ticks.versions.push(version);
                }
            }
            "error" => ticks.error = Some(data),
            other => panic!("an event {other}"),
        }
    }
    ticks
}

/// The median of the switches that a test saw.
fn assert_quick(mut flips_us: Vec<u64>) {
    flips_us.sort_unstable();
    let median = flips_us.get(flips_us.len() / 2).copied().expect("a switch");
    assert!(median < FLIP_US_MAX, "the pointer flip took {median} µs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_swaps_under_load_fail_no_request() {
    let host = Host::with(hello(1_500)).start().await;
    let (client, operator) = (host.client(), host.operator());
    let load = Load::new()
        .getting(host.address(), CONNECTIONS, "/api/hello", "", |answer| {
            let known = ["1", "2"].map(|version| format!("{{\"message\":\"hello\",\"version\":\"{version}\"}}"));
            if known.contains(&answer.body) { Ok(()) } else { Err(format!("a strange answer: {answer:?}")) }
        })
        .echoing_slowly(host.address(), 4, "/api/hello/echo", 20, Duration::from_millis(100));
    let streaming = tokio::spawn({
        let client = client.clone();
        async move {
            // More swaps come than one stream can outlive: each is cut at its drain deadline, and opened again.
            let mut streams = Vec::new();
            for _ in 0..3 {
                streams.push(ticks(&client, 100_000, 10).await);
            }
            streams
        }
    });
    let builds = versions();
    let mut flips_us = Vec::new();
    for (number, build) in builds.iter().rev().cycle().take(SWAPS).enumerate() {
        // Every twentieth has never been seen before; the others are at hand, as after a rollback.
        let is_new = number % 20 == 0;
        let component = if is_new { guests::variant(build, u32::try_from(number).unwrap_or(0)) } else { build.clone() };
        let report = swap(&operator, "hello", component).await;
        flips_us.push(report["flipUs"].as_u64().expect("flipUs"));
        let now = version(&client.get("/api/hello").await);
        assert_eq!(now, if number % 2 == 0 { "2" } else { "1" }, "after {report}");
    }
    while !streaming.is_finished() {
        let _ = swap(&operator, "hello", builds[0].clone()).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for stream in streaming.await.expect("the streams") {
        assert_eq!(stream.versions.len(), 1, "one stream was answered by {:?}", stream.versions);
        assert!(stream.count > 0);
        assert_eq!(stream.error.expect("an event error")["code"], "SERVICE_UNAVAILABLE");
    }
    load.stop().await.assert_whole(SWAPS as u64);
    assert_quick(flips_us);
}

#[tokio::test]
async fn a_stream_that_ends_in_time_keeps_its_build_and_the_others_get_the_new_one() {
    let host = Host::with(hello(20_000)).start().await;
    let client = host.client();
    let [first, next] = versions();
    // Compiled before the stream begins, which shall not have to wait for that.
    for build in [next.clone(), first] {
        host.operator().deploy("hello", build).await.done(200);
    }
    let stream = tokio::spawn({
        let client = client.clone();
        async move { ticks(&client, 30, 50).await }
    });
    berth_tests::eventually("the stream's beginning", async || {
        let plugins = host.operator().get("/api/admin/plugins").await.expect(200);
        (plugins["items"][0]["inFlight"].as_u64()? > 0).then_some(())
    })
    .await;
    let waiting = tokio::spawn({
        let operator = host.operator();
        async move { operator.deploy("hello", next).await.expect(200) }
    });
    berth_tests::eventually("the switch", async || (version(&client.get("/api/hello").await) == "2").then_some(()))
        .await;
    let stream = stream.await.expect("the stream");
    assert_eq!((stream.versions, stream.count, stream.error), (vec!["1".to_owned()], 30, None));
    let report = waiting.await.expect("the deploy");
    assert_eq!(report["isCutShort"], false, "{report}");
    assert!(report["drainedMs"].as_u64().is_some_and(|milliseconds| milliseconds > 0), "{report}");
}

#[tokio::test]
async fn a_stream_beyond_the_drain_deadline_ends_with_an_error_event() {
    let host = Host::with(hello(300)).start().await;
    let client = host.client();
    let stream = tokio::spawn({
        let client = client.clone();
        async move { ticks(&client, 100_000, 20).await }
    });
    berth_tests::eventually("the stream's beginning", async || {
        let plugins = host.operator().get("/api/admin/plugins").await.expect(200);
        (plugins["items"][0]["inFlight"].as_u64()? > 0).then_some(())
    })
    .await;
    let [_, next] = versions();
    let report = host.operator().deploy("hello", next).await.expect(200);
    assert_eq!(report["isCutShort"], true, "{report}");
    let stream = stream.await.expect("the stream");
    let error = stream.error.expect("an event error");
    assert_eq!((&error["status"], &error["code"]), (&503.into(), &"SERVICE_UNAVAILABLE".into()), "{error}");
    assert_eq!(stream.versions, ["1"]);
}

#[tokio::test]
async fn an_upload_that_began_before_a_swap_is_answered() {
    let host = Host::with(hello(100)).start().await;
    let mut wire = berth_tests::Wire::connect(host.address()).await.expect("a connection");
    let body = r#"{"words":"half of it, and the other half"}"#;
    let (first, second) = body.split_at(20);
    wire.begin_post("/api/hello/echo", "", body.len()).await.expect("the head");
    wire.send(first.as_bytes()).await.expect("half of the body");
    let [_, next] = versions();
    let report = host.operator().deploy("hello", next).await.expect(200);
    assert!(report["drainedMs"].is_u64(), "{report}");
    wire.send(second.as_bytes()).await.expect("the other half");
    let answer = wire.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.body.as_str()), (200, body));
}

#[tokio::test]
async fn what_a_host_holds_stays_flat_over_many_swaps() {
    let host = Host::with(hello(1_000)).start().await;
    let operator = host.operator();
    let builds = versions();
    // The first swaps fill what has a bound: caches, pools, the lines that are kept, the allocator's arenas. Of so small a host
    // that is a tenth of its memory, and it levels off after some 1,600 swaps.
    for build in builds.iter().rev().cycle().take(2_000) {
        let _ = swap(&operator, "hello", build.clone()).await;
    }
    let (before, held) = (host.resident_bytes(), host.descriptors_and_threads());
    for build in builds.iter().rev().cycle().take(1_000) {
        let _ = swap(&operator, "hello", build.clone()).await;
    }
    let (after, still_held) = (host.resident_bytes(), host.descriptors_and_threads());
    assert!(after < before + before / 10, "{before} bytes became {after} over 1,000 swaps");
    // Pools come and go by a few; what one swap in twenty left behind would be as many.
    for (before, after) in [(held.0, still_held.0), (held.1, still_held.1)] {
        assert!(after <= before + 50, "{held:?} descriptors and threads became {still_held:?} over 1,000 swaps");
    }
}
