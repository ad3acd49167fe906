//! Guests that misbehave, and guests that know nothing of Berth.

use berth_tests::{Host, Manifest, Slot, guests, manifest};
use reqwest::Method;

async fn host() -> Host {
    Host::with(Manifest::of([manifest::hello(), manifest::unruly()])).start().await
}

/// The plugin does what it should not; the host says so, and both plugins serve on.
async fn misbehaves(host: &Host, action: &str, status: u16, code: &str) {
    let client = host.client();
    client.get(&format!("/api/unruly/{action}")).await.problem(status, code);
    client.get("/api/unruly/ok").await.done(200);
    client.get("/api/hello").await.done(200);
}

#[tokio::test]
async fn a_trap_is_502_and_the_next_request_gets_a_fresh_instance() {
    let host = host().await;
    for action in ["trap", "grow", "recurse", "exit"] {
        misbehaves(&host, action, 502, "PLUGIN_FAILED").await;
    }
    let plugins = host.operator().get("/api/admin/plugins").await.expect(200);
    let items = plugins["items"].as_array().cloned().unwrap_or_default();
    let unruly = items.iter().find(|plugin| plugin["name"] == "unruly").expect("the plugin");
    assert!(unruly["traps"].as_u64().is_some_and(|traps| traps >= 4), "{unruly}");
}

#[tokio::test]
async fn a_loop_and_a_sleep_end_at_their_deadline() {
    let host = host().await;
    for action in ["spin", "sleep"] {
        misbehaves(&host, action, 504, "GATEWAY_TIMEOUT").await;
    }
}

#[tokio::test]
async fn a_flood_of_handles_is_stopped() {
    let host = host().await;
    let answer = host.client().get("/api/unruly/handles").await;
    assert!(matches!(answer.status, 502..=504), "{}: {}", answer.status, answer.text());
    host.client().get("/api/unruly/ok").await.done(200);
    host.client().get("/api/hello").await.done(200);
}

#[tokio::test]
async fn an_answer_that_is_none_is_502() {
    let host = host().await;
    misbehaves(&host, "status", 502, "PLUGIN_FAILED").await;
    let split = host.client().get("/api/unruly/header").await;
    assert_eq!(split.header("x-forged"), "", "{:?}", split.headers);
    assert_eq!(split.status, 502, "{}", split.text());
}

#[tokio::test]
async fn a_shouting_guest_does_not_fill_the_log() {
    let host = host().await;
    let _ = host.client().get("/api/unruly/shout").await;
    host.client().get("/api/hello").await.done(200);
    let lines = host.log().lines().count();
    assert!(lines < 20_000, "{lines} lines in the log");
}

#[tokio::test]
async fn a_plugin_in_trouble_does_not_keep_the_other_waiting() {
    let host = host().await;
    let client = host.client();
    let loops: Vec<_> = (0..24)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("/api/unruly/spin").await.status })
        })
        .collect();
    for _ in 0..50 {
        client.get("/api/hello").await.done(200);
    }
    for looping in loops {
        let status = looping.await.expect("an answer");
        assert!(matches!(status, 503 | 504), "{status}");
    }
    client.get("/api/unruly/ok").await.done(200);
}

#[tokio::test]
async fn what_was_not_granted_is_refused_at_deploy_with_a_sentence() {
    let host = host().await;
    let answer = host.operator().deploy("hello", guests::bytes(&guests::fixture("greedy"))).await;
    let problem = answer.problem(422, "UNPROCESSABLE");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("secrets")), "{problem}");
    host.client().get("/api/hello").await.done(200);
}

#[tokio::test]
async fn a_build_that_is_not_ready_gets_no_traffic() {
    let host = host().await;
    let answer = host.operator().deploy("hello", guests::bytes(&guests::fixture("unready"))).await;
    let problem = answer.problem(422, "UNPROCESSABLE");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("moon")), "{problem}");
    assert_eq!(host.client().get("/api/hello").await.expect(200)["message"], "hello");
}

#[tokio::test]
async fn components_from_outside_run_unmodified() {
    let slot = |name: &str, file: &str| {
        Slot::new(name, guests::fixture(file), &format!("/{name}"))
            .with(&format!("public = [\"/{name}\", \"/{name}/{{*rest}}\"]"))
    };
    let host = Host::with(Manifest::of([slot("older", "standard"), slot("newer", "standard-next")])).start().await;
    let client = host.client();
    let answer = client.send(client.request(Method::POST, "/older/a/b?c=d").body("x".repeat(100_000))).await;
    answer.done(200);
    assert_eq!(answer.text(), "POST /older/a/b?c=d 100000");
    let answer = client.get("/newer/x?y=z").await;
    answer.done(200);
    assert_eq!(answer.text(), "0.3 /newer/x?y=z");
}

#[tokio::test]
async fn an_endless_body_ends_with_its_reader() {
    let endless = Slot::new("endless", guests::fixture("endless"), "/endless").with("public = [\"/endless\"]");
    let host = Host::with(Manifest::of([manifest::hello(), endless])).start().await;
    let client = host.client();
    for _ in 0..3 {
        let mut response = client.request(Method::GET, "/endless").send().await.expect("an answer");
        let mut read = 0;
        while read < 1_000_000 {
            read += response.chunk().await.expect("a piece").map_or(usize::MAX, |chunk| chunk.len());
        }
        drop(response);
    }
    berth_tests::eventually("the end of the calls", async || {
        let plugins = host.operator().get("/api/admin/plugins").await.expect(200);
        let items = plugins["items"].as_array().cloned().unwrap_or_default();
        let endless = items.into_iter().find(|plugin| plugin["name"] == "endless")?;
        (endless["inFlight"] == 0).then_some(())
    })
    .await;
    client.get("/api/hello").await.done(200);
}
