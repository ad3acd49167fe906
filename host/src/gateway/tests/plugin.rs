//! What happens on the way into a plugin and back.

use http_body_util::channel::Channel;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::Notify;

use super::*;
use crate::body::BodyError;

#[tokio::test]
async fn a_request_reaches_the_plugin_as_it_was_sent() {
    let host = Host::start(Setting::default()).await;
    let echo = host
        .call("PUT", "/api/plans/a%20b/x?limit=2&q=%41", &[("x-custom", "1"), ("te", "trailers")], "{\"a\":1}")
        .await;
    let body = echo.json();
    assert_eq!((&body["method"], &body["path"]), (&json!("PUT"), &json!("/api/plans/a%20b/x")));
    assert_eq!((&body["query"], &body["body"]), (&json!("limit=2&q=%41"), &json!("{\"a\":1}")));
    assert_eq!((&body["headers"]["x-custom"], &body["headers"]["te"]), (&json!("1"), &Value::Null));
}

#[tokio::test]
async fn no_build_is_503_and_says_when_to_come_again() {
    let host = Host::start(Setting { build: None, ..Setting::default() }).await;
    let reply = host.call("GET", "/api/plans", &[], "").await;
    assert_eq!(reply.problem(), (503, "SERVICE_UNAVAILABLE".into()));
    assert!(!reply.header("retry-after").is_empty());
}

#[tokio::test]
async fn what_a_guest_can_do_wrong_is_a_clear_problem() {
    for (error, expected) in [
        (CallError::Trapped("wasm `unreachable`".into()), (502, "PLUGIN_FAILED")),
        (CallError::OutOfMemory, (502, "PLUGIN_FAILED")),
        (CallError::BadAnswer("nonsense".into()), (502, "PLUGIN_FAILED")),
        (CallError::TimedOut, (504, "GATEWAY_TIMEOUT")),
        (CallError::Busy, (503, "SERVICE_UNAVAILABLE")),
        (CallError::Cancelled, (503, "SERVICE_UNAVAILABLE")),
    ] {
        let failing = error.clone();
        let build = FakeBuild::new(1).handling(move |_, _| std::future::ready(Err(failing.clone())));
        let host = Host::start(Setting { build: Some(build), ..Setting::default() }).await;
        let reply = host.call("GET", "/api/plans", &[], "").await;
        assert_eq!(reply.problem(), (expected.0, expected.1.to_owned()), "{error}");
        assert!(!reply.text.contains("unreachable"), "{}", reply.text);
        assert_eq!(expected.0 == 503, !reply.header("retry-after").is_empty());
    }
    let build = FakeBuild::new(1).handling(|_, _| std::future::ready(Ok(answer(42, ""))));
    let host = Host::start(Setting { build: Some(build), ..Setting::default() }).await;
    assert_eq!(host.call("GET", "/api/plans", &[], "").await.problem().0, 502);
}

#[tokio::test]
async fn a_described_permission_is_demanded_before_the_guest_sees_the_request() {
    let routes = vec![
        route("GET", "/api/plans/export", Some("planning.plans.export")),
        route("GET", "/api/plans/{id}", Some("planning.plans.read")),
    ];
    let host =
        Host::start(Setting { build: Some(FakeBuild::new(1).handling(echo).described(routes)), ..Setting::default() })
            .await;
    // The first user is Super Admin; a member of nothing but a role is judged by the engine's own test of principals.
    assert_eq!(host.call("GET", "/api/plans/export", &[], "").await.status, 200);
    assert_eq!(host.send("GET", "/api/plans/export", &[], "").await.problem().0, 401);
    let operator = host.operate("GET", "/api/plans/export", &[], "").await;
    assert_eq!(operator.problem(), (400, "ORGANIZATION_REQUIRED".into()));
    // Another reading of the path must not find another permission.
    let encoded = host.call("GET", "/api/plans/%65xport", &[], "").await;
    assert_eq!(encoded.problem().0, 400);
    assert_eq!(host.call("GET", "/api/plans/caf%C3%A9", &[], "").await.status, 200);
}

#[tokio::test]
async fn a_route_is_public_only_when_manifest_and_component_agree() {
    let public = |is_public| Route { is_public, ..route("GET", "/api/plans/feed", None) };
    for (listed, described, expected) in [
        (&["GET /api/plans/feed"][..], Some(true), 200),
        (&["GET /api/plans/feed"], Some(false), 401),
        (&[], Some(true), 401),
        (&["GET /api/plans/feed"], None, 200),
        (&["POST /api/plans/feed"], None, 401),
    ] {
        let build = FakeBuild::new(1).handling(echo);
        let build = match described {
            Some(is_public) => build.described(vec![public(is_public)]),
            None => build,
        };
        let host = Host::start(Setting { public: listed, build: Some(build), ..Setting::default() }).await;
        // A token that proves nothing does no harm where none is needed.
        for headers in [&[][..], &[("authorization", "Bearer stale")]] {
            let reply = host.send("GET", "/api/plans/feed", headers, "").await;
            assert_eq!(reply.status, expected, "{listed:?} {described:?}");
        }
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_whether_it_says_so_or_not() {
    let limits = Limits { body_mib: 1, ..Limits::default() };
    let host = Host::start(Setting { limits, ..Setting::default() }).await;
    let large = "x".repeat((1 << 20) + 1);
    let announced = host.call("POST", "/api/plans", &[("content-length", "99999999")], "").await;
    assert_eq!(announced.problem(), (413, "PAYLOAD_TOO_LARGE".into()));
    let chunked = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    let mut stream = TcpStream::connect(host.server.address()).await.unwrap();
    let head = format!(
        "POST /api/plans HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ntransfer-encoding: chunked\r\n\r\n",
        host.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let _ = stream.write_all(chunked.as_bytes()).await;
    assert_eq!(read_reply(stream).await.problem(), (413, "PAYLOAD_TOO_LARGE".into()));
    assert_eq!(host.slot.current().unwrap().calls(), 0);
    let fits = "x".repeat(1 << 20);
    assert_eq!(host.call("POST", "/api/plans", &[], &fits).await.status, 200);
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on_or_refused_unread() {
    let host = Host::start(Setting::default()).await;
    for (token, expected) in [(host.token.as_str(), "HTTP/1.1 100"), ("forged", "HTTP/1.1 401")] {
        let mut stream = TcpStream::connect(host.server.address()).await.unwrap();
        let head = format!(
            "POST /api/plans HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
             content-length: 2\r\nexpect: 100-continue\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut first)).await.unwrap().unwrap();
        assert_eq!(std::str::from_utf8(&first).unwrap(), expected);
    }
}

#[tokio::test]
async fn a_described_json_body_must_say_that_it_is_json() {
    let create = Route { request_schema: Some("{}".into()), ..route("POST", "/api/plans", None) };
    let host = Host::start(Setting {
        build: Some(FakeBuild::new(1).handling(echo).described(vec![create])),
        ..Setting::default()
    })
    .await;
    for (media_type, expected) in [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("application/merge-patch+json", 200),
        ("text/plain", 415),
        ("application/jsonx", 415),
    ] {
        let reply = host.call("POST", "/api/plans", &[("content-type", media_type)], "{}").await;
        assert_eq!(reply.status, expected, "{media_type}");
    }
    assert_eq!(host.call("POST", "/api/plans", &[], "{}").await.problem(), (415, "UNSUPPORTED_MEDIA_TYPE".into()));
    assert_eq!(host.call("POST", "/api/plans", &[], "").await.status, 200, "no body, no type");
}

#[tokio::test]
async fn a_slow_upload_goes_to_the_build_that_is_current_when_it_is_read() {
    let old = FakeBuild::new(1).handling(|_, _| std::future::ready(Ok(answer(200, "\"old\""))));
    let host = Host::start(Setting { build: Some(old), ..Setting::default() }).await;
    let old = host.slot.current().unwrap();
    let mut stream = TcpStream::connect(host.server.address()).await.unwrap();
    let head = format!(
        "POST /api/plans HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\ncontent-length: 4\r\n\
         expect: 100-continue\r\n\r\n",
        host.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The invitation to go on shows that the old build was chosen already.
    let mut invitation = [0; 25];
    stream.read_exact(&mut invitation).await.unwrap();
    host.slot.put(Arc::new(FakeBuild::new(2).handling(|_, _| std::future::ready(Ok(answer(200, "\"new\""))))));
    stream.write_all(b"data").await.unwrap();
    assert_eq!(read_reply(stream).await.text, "\"new\"");
    assert_eq!(old.calls(), 0);
}

#[tokio::test]
async fn a_post_with_a_key_has_one_effect_and_one_answer() {
    let build = FakeBuild::new(1).handling(|call, request| async move {
        assert_eq!(request.headers.iter().filter(|(name, _)| name == "idempotency-key").count(), 1);
        Ok(answer(201, &format!("\"{}\"", call.request_id)))
    });
    let host = Host::start(Setting { build: Some(build), ..Setting::default() }).await;
    let key = [("idempotency-key", "key-1")];
    let first = host.call("POST", "/api/plans", &key, "{\"a\":1}").await;
    let again = host.call("POST", "/api/plans", &key, "{\"a\":1}").await;
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(first.text, again.text);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_ne!(first.header("x-request-id"), again.header("x-request-id"));
    assert_eq!(host.slot.current().unwrap().calls(), 1);
    assert_eq!(host.call("POST", "/api/plans", &key, "{\"a\":2}").await.problem(), (409, "CONFLICT".into()));
    assert_eq!(host.call("POST", "/api/plans?x=1", &key, "{\"a\":1}").await.problem().0, 409);
    assert_eq!(host.call("POST", "/api/plans/x", &key, "{\"a\":1}").await.status, 201, "another route");
    let wrong = host.call("POST", "/api/plans", &[("idempotency-key", "two words")], "").await;
    assert_eq!(wrong.problem().0, 400);
}

#[tokio::test]
async fn a_post_with_a_key_runs_to_its_end_although_the_client_is_gone() {
    let (started, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begin, go) = (Arc::clone(&started), Arc::clone(&release));
    let build = FakeBuild::new(1).handling(move |_, _| {
        let (begin, go) = (Arc::clone(&begin), Arc::clone(&go));
        async move {
            begin.notify_one();
            go.notified().await;
            Ok(answer(201, "\"done\""))
        }
    });
    let host = Host::start(Setting { build: Some(build), ..Setting::default() }).await;
    let mut stream = TcpStream::connect(host.server.address()).await.unwrap();
    let head = format!(
        "POST /api/plans HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nidempotency-key: k\r\ncontent-length: 0\r\n\r\n",
        host.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    started.notified().await;
    let meanwhile = host.call("POST", "/api/plans", &[("idempotency-key", "k")], "").await;
    assert_eq!(meanwhile.problem(), (409, "CONFLICT".into()));
    assert!(!meanwhile.header("retry-after").is_empty());
    drop(stream);
    release.notify_one();
    let replayed = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            let reply = host.call("POST", "/api/plans", &[("idempotency-key", "k")], "").await;
            if reply.status != 409 {
                return reply;
            }
        }
    });
    assert_eq!(replayed.await.unwrap().text, "\"done\"");
    assert_eq!(host.slot.current().unwrap().calls(), 1);
}

#[tokio::test]
async fn a_failed_attempt_gives_its_key_free() {
    let count = Arc::new(AtomicU64::new(0));
    let build = FakeBuild::new(1).handling(move |_, _| {
        let is_first = count.fetch_add(1, Ordering::SeqCst) == 0;
        std::future::ready(if is_first { Err(CallError::Trapped("x".into())) } else { Ok(answer(200, "\"ok\"")) })
    });
    let host = Host::start(Setting { build: Some(build), ..Setting::default() }).await;
    let key = [("idempotency-key", "k")];
    assert_eq!(host.call("POST", "/api/plans", &key, "").await.status, 502);
    assert_eq!(host.call("POST", "/api/plans", &key, "").await.text, "\"ok\"");
}

#[tokio::test]
async fn a_streamed_answer_passes_piece_by_piece() {
    let (sender, channel) = Channel::<Bytes, BodyError>::new(1);
    let (sender, channel) = (Mutex::new(Some(sender)), Mutex::new(Some(channel)));
    let senders = Arc::new(sender);
    let build = FakeBuild::new(1).streaming(move |call, request| {
        assert_eq!(call.deadline, None, "a stream has no total deadline");
        assert_eq!(request.headers().get("x-request-id").unwrap(), &*call.request_id);
        let body = channel.lock().take().unwrap();
        let response =
            http::Response::builder().header("content-type", "text/event-stream").header("content-length", "5");
        std::future::ready(Ok(response.body(body.boxed_unsync()).unwrap()))
    });
    let events = Route { is_streaming: true, ..route("GET", "/api/plans/events", None) };
    let host = Host::start(Setting { build: Some(build.described(vec![events])), ..Setting::default() }).await;
    let mut stream = TcpStream::connect(host.server.address()).await.unwrap();
    let head = format!(
        "GET /api/plans/events HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\n\r\n",
        host.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut sender = senders.lock().take().unwrap();
    sender.send_data(Bytes::from_static(b"data: 1\n\n")).await.unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("data: 1") {
        let mut piece = [0; 512];
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut piece)).await.unwrap().unwrap();
        assert_ne!(read, 0, "the stream ended early");
        seen.extend_from_slice(&piece[..read]);
    }
    assert!(!String::from_utf8_lossy(&seen).to_lowercase().contains("content-length"));
    sender.abort("the guest is gone".into());
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("event: error"), "{rest}");
}

#[tokio::test]
async fn a_component_that_only_streams_gets_whole_uploads_within_the_limit() {
    let build = FakeBuild::new(1).streaming(|_, request| async move {
        let read = request.into_body().collect().await.map(|body| body.to_bytes().len());
        let text = read.map_or_else(|_| "broken".to_owned(), |length| length.to_string());
        Ok(http::Response::new(body::full(text)))
    });
    let limits = Limits { body_mib: 1, ..Limits::default() };
    let host = Host::start(Setting { limits, build: Some(build), ..Setting::default() }).await;
    assert_eq!(host.call("POST", "/api/plans", &[], &"x".repeat(300_000)).await.text, "300000");
    let mut stream = TcpStream::connect(host.server.address()).await.unwrap();
    let head = format!(
        "POST /api/plans HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ntransfer-encoding: chunked\r\n\r\n",
        host.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let large = "x".repeat((1 << 20) + 1);
    let _ = stream.write_all(format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len()).as_bytes()).await;
    assert_eq!(read_reply(stream).await.problem(), (413, "PAYLOAD_TOO_LARGE".into()));
}

#[tokio::test]
async fn a_keyed_post_to_a_streaming_component_is_replayed_too() {
    let build = FakeBuild::new(1).streaming(|call, _| async move {
        let pieces = [Bytes::from("{\"id\":"), Bytes::from(format!("\"{}\"}}", call.request_id))];
        let frames = pieces.map(|piece| Ok::<_, BodyError>(http_body::Frame::data(piece)));
        Ok(http::Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()))
    });
    let host = Host::start(Setting { build: Some(build), ..Setting::default() }).await;
    let key = [("idempotency-key", "k")];
    let first = host.call("POST", "/api/plans", &key, "").await;
    assert!(first.json()["id"].is_string());
    assert_eq!(host.call("POST", "/api/plans", &key, "").await.text, first.text);
}

#[tokio::test]
async fn a_known_tag_is_304_and_head_has_no_body() {
    let build = FakeBuild::new(1).handling(|_, request| async move {
        assert_eq!(request.method, "GET");
        let mut response = answer(200, "\"body\"");
        response.headers.push(("etag".into(), "\"7\"".into()));
        Ok(response)
    });
    let host = Host::start(Setting { build: Some(build), ..Setting::default() }).await;
    let known = host.call("GET", "/api/plans", &[("if-none-match", "\"7\"")], "").await;
    assert_eq!((known.status, known.text.as_str(), known.header("etag")), (304, "", "\"7\""));
    let other = host.call("GET", "/api/plans", &[("if-none-match", "\"8\"")], "").await;
    assert_eq!((other.status, other.text.as_str()), (200, "\"body\""));
    let head = host.call("HEAD", "/api/plans", &[], "").await;
    assert_eq!((head.status, head.text.as_str(), head.header("content-length")), (200, "", "6"));
}

#[tokio::test]
async fn an_answer_made_for_one_caller_is_kept_by_nobody_unless_the_guest_says_so() {
    let build = FakeBuild::new(1).handling(|_, request| async move {
        let mut response = answer(200, "\"body\"");
        response.headers.push(("etag".into(), "\"1\"".into()));
        if request.path.ends_with("/shared") {
            response.headers.push(("cache-control".into(), "private, max-age=60".into()));
        }
        Ok(response)
    });
    let host = Host::start(Setting { build: Some(build), public: &["/api/plans/open"], ..Setting::default() }).await;
    let own = host.call("GET", "/api/plans/own", &[], "").await;
    assert_eq!((own.status, own.header("cache-control")), (200, "no-store"));
    let known = host.call("GET", "/api/plans/own", &[("if-none-match", "\"1\"")], "").await;
    assert_eq!((known.status, known.header("cache-control")), (304, "no-store"));
    let shared = host.call("GET", "/api/plans/shared", &[], "").await;
    assert_eq!(shared.header("cache-control"), "private, max-age=60");
    let open = host.send("GET", "/api/plans/open", &[], "").await;
    assert_eq!((open.status, open.header("cache-control")), (200, ""));
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_the_guest() {
    let (started, cancelled) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begin, end) = (Arc::clone(&started), Arc::clone(&cancelled));
    struct OnDrop(Arc<Notify>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let build = FakeBuild::new(1).handling(move |_, _| {
        let (begin, guard) = (Arc::clone(&begin), OnDrop(Arc::clone(&end)));
        async move {
            let _guard = guard;
            begin.notify_one();
            std::future::pending().await
        }
    });
    let host = Host::start(Setting { build: Some(build), ..Setting::default() }).await;
    let mut stream = TcpStream::connect(host.server.address()).await.unwrap();
    let head = format!("GET /api/plans HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", host.token);
    stream.write_all(head.as_bytes()).await.unwrap();
    started.notified().await;
    drop(stream);
    tokio::time::timeout(Duration::from_secs(10), cancelled.notified()).await.expect("the guest went on");
}
