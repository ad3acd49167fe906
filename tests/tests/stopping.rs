//! A host that is told to stop finishes what it began.

use std::time::Duration;

use berth_tests::{Host, Manifest, Wire, eventually, manifest};

#[tokio::test]
async fn a_slow_request_is_finished_new_ones_are_refused_and_the_host_ends_well() {
    let host = Host::with(Manifest::hello()).start().await;
    let mut wire = Wire::connect(host.address()).await.expect("a connection");
    let body = r#"{"words":"slowly"}"#;
    let (first, second) = body.split_at(5);
    wire.begin_post("/api/hello/echo", "", body.len()).await.expect("the head");
    wire.send(first.as_bytes()).await.expect("a part of the body");
    let address = host.address().to_owned();
    // The host has seen the request before it is told to stop.
    tokio::time::sleep(Duration::from_millis(200)).await;
    host.signal("TERM");
    eventually("a closed door", async || {
        match Wire::connect(&address).await {
            Err(_) => Some(()),
            // Accepted by the system and not by the host: no answer ever comes.
            Ok(mut late) => late.get("/api/hello", "").await.is_err().then_some(()),
        }
    })
    .await;
    wire.send(second.as_bytes()).await.expect("the rest of the body");
    let answer = wire.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.body.as_str()), (200, body));
    let stopped = host.ended().await;
    assert_eq!(stopped.status.code(), Some(0), "{}", stopped.log);
}

#[tokio::test]
async fn a_running_guest_call_is_answered_before_the_host_ends() {
    let host = Host::with(Manifest::of([manifest::unruly()])).start().await;
    let client = host.client();
    let running = tokio::spawn(async move { client.get("/api/unruly/sleep").await });
    eventually("the call", async || {
        let plugins = host.operator().get("/api/admin/plugins").await.expect(200);
        (plugins["items"][0]["inFlight"] == 1).then_some(())
    })
    .await;
    let stopped = host.stop().await;
    assert_eq!(stopped.status.code(), Some(0), "{}", stopped.log);
    let _ = running.await.expect("the call").problem(504, "GATEWAY_TIMEOUT");
}

#[tokio::test]
async fn an_idle_host_ends_at_once_although_connections_are_kept_alive() {
    let host = Host::with(Manifest::hello()).start().await;
    let mut wire = Wire::connect(host.address()).await.expect("a connection");
    assert_eq!(wire.get("/api/hello", "").await.expect("an answer").status, 200);
    let begin = std::time::Instant::now();
    let stopped = host.stop().await;
    assert_eq!(stopped.status.code(), Some(0), "{}", stopped.log);
    // The drain has thirty seconds; nothing is there to drain.
    assert!(begin.elapsed() < Duration::from_secs(20), "it waited for an idle connection");
}
