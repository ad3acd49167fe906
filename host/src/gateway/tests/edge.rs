//! What happens before anybody is asked: paths, ids, credentials, limits, origins, the host's own routes.

use http_body_util::Empty;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

/// A connection that speaks HTTP/2.
async fn http_2(host: &Host) -> SendRequest<Empty<Bytes>> {
    let io = TokioIo::new(TcpStream::connect(host.server.address()).await.unwrap());
    let (client, connection) = handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn the_hosts_own_routes_answer_without_a_token() {
    let host = Host::start(Setting::default()).await;
    let root = host.send("GET", "/", &[], "").await;
    assert_eq!(root.status, 200);
    assert_eq!(root.json()["routes"], json!([{ "path": "/api/plans", "service": "planning" }]));
    for path in ["/health", "/live", "/api/health"] {
        assert_eq!(host.send("GET", path, &[], "").await.json()["status"], "ok", "{path}");
    }
    let ready = host.send("GET", "/ready", &[], "").await;
    assert_eq!(
        ready.json(),
        json!({ "status": "ready", "checks": { "database": "ok", "cache": "ok", "queue": "ok" } })
    );
    let post = host.send("POST", "/health", &[], "").await;
    assert_eq!(post.problem(), (405, "METHOD_NOT_ALLOWED".into()));
    assert_eq!(post.header("allow"), "GET, HEAD");
}

#[tokio::test]
async fn a_stopping_host_is_not_ready() {
    let host = Host::start(Setting::default()).await;
    host.gateway.begin_shutdown();
    let ready = host.send("GET", "/ready", &[], "").await;
    assert_eq!((ready.status, &ready.json()["status"]), (503, &json!("not_ready")));
}

#[tokio::test]
async fn a_plugins_health_is_told_by_the_host_to_whoever_is_signed_in() {
    let host = Host::start(Setting::default()).await;
    assert_eq!(host.send("GET", "/api/plans/health", &[], "").await.problem().0, 401);
    let health = host.call("GET", "/api/plans/health", &[], "").await.json();
    assert_eq!((&health["service"], &health["revision"], &health["traps"]), (&json!("planning"), &json!(1), &json!(2)));
    assert_eq!(health["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(host.slot.current().unwrap().calls(), 0);
}

#[tokio::test]
async fn a_request_id_is_kept_or_made_and_always_told() {
    let host = Host::start(Setting::default()).await;
    let kept = host.call("GET", "/api/plans", &[("x-request-id", "Trace-1")], "").await;
    assert_eq!((kept.header("x-request-id"), &kept.json()["requestId"]), ("Trace-1", &json!("Trace-1")));
    let made = host.call("GET", "/api/plans", &[("x-request-id", "two words")], "").await;
    assert_eq!(made.header("x-request-id").len(), 36);
    assert_eq!(made.json()["requestId"], made.header("x-request-id"));
}

#[tokio::test]
async fn an_unknown_path_leads_nowhere() {
    let host = Host::start(Setting::default()).await;
    for path in ["/api/planx", "/api/feedbacks", "/nothing", "/api/plansx/1", "/api"] {
        assert_eq!(host.call("GET", path, &[], "").await.problem(), (404, "ROUTE_NOT_FOUND".into()), "{path}");
    }
}

#[tokio::test]
async fn an_ambiguous_path_is_refused_before_anything_else() {
    let host = Host::start(Setting::default()).await;
    for path in ["/api/plans/../admin", "/api/plans/%2e%2e/admin", "/api//plans", "/api/plans/a%00b", "/api/plans\\x"] {
        assert_eq!(host.call("GET", path, &[], "").await.status, 400, "{path}");
    }
    let long = format!("/api/plans/{}", "a".repeat(5000));
    assert_eq!(host.call("GET", &long, &[], "").await.problem(), (414, "URI_TOO_LONG".into()));
    assert_eq!(host.slot.current().unwrap().calls(), 0);
}

#[tokio::test]
async fn a_token_is_needed_and_an_identity_cannot_be_claimed() {
    let host = Host::start(Setting::default()).await;
    for headers in
        [&[][..], &[("authorization", "Bearer forged")], &[("authorization", "Basic YTpi")], &[("x-user-id", "u")]]
    {
        let refused = host.send("GET", "/api/plans", headers, "").await;
        assert_eq!(refused.problem(), (401, "UNAUTHORIZED".into()), "{headers:?}");
        assert_eq!(refused.header("www-authenticate"), "Bearer");
    }
    let twice = host.call("GET", "/api/plans", &[("authorization", "Bearer other")], "").await;
    assert_eq!(twice.problem().0, 400);
    assert_eq!(host.slot.current().unwrap().calls(), 0);

    let forged = [
        ("X-User-Id", "1"),
        ("x_user_id", "2"),
        ("X-Organization-Id", "3"),
        ("X-TENANT_ID", "4"),
        ("cookie", "a=1; refreshToken=r"),
    ];
    let echo = host.call("GET", "/api/plans", &forged, "").await.json();
    assert!(echo["user"].is_string());
    let headers = echo["headers"].as_object().unwrap();
    assert!(
        headers.keys().all(|name| !name.contains("user") && !name.contains("organization") && !name.contains("tenant"))
    );
    assert!(!headers.contains_key("authorization"), "a guest must not see the caller's token");
    assert_eq!(headers["cookie"], "a=1");
}

#[tokio::test]
async fn a_cookie_is_as_good_as_a_header_except_from_a_foreign_page() {
    let host = Host::start(Setting::default()).await;
    let cookie = format!("accessToken={}", host.token);
    assert_eq!(host.send("GET", "/api/plans", &[("cookie", &cookie)], "").await.status, 200);
    assert_eq!(host.send("POST", "/api/plans", &[("cookie", &cookie)], "").await.status, 200);
    let own = [("cookie", cookie.as_str()), ("origin", "https://app.example.com")];
    assert_eq!(host.send("POST", "/api/plans", &own, "").await.status, 200);
    let foreign = [("cookie", cookie.as_str()), ("origin", "https://evil.example")];
    assert_eq!(host.send("POST", "/api/plans", &foreign, "").await.problem(), (403, "FORBIDDEN".into()));
}

#[tokio::test]
async fn a_page_of_ours_is_known_on_http_2_too() {
    let host = Host::start(Setting::default()).await;
    let mut client = http_2(&host).await;
    for (origin, expected) in [("http://berth.test", 200), ("http://evil.test", 403)] {
        let request = Request::post("http://berth.test/api/plans").header("origin", origin);
        let request = request.header("cookie", format!("accessToken={}", host.token));
        let response = client.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
        assert_eq!(response.status(), expected, "{origin}");
    }
}

#[tokio::test]
async fn a_stale_token_does_not_keep_anybody_from_signing_in() {
    let host = Host::start(Setting::default()).await;
    let body = json!({ "email": "ada@example.com", "password": "correct horse battery" }).to_string();
    let headers = [("authorization", "Bearer stale"), ("content-type", "application/json")];
    assert_eq!(host.send("POST", "/api/auth/login", &headers, &body).await.status, 200);
}

#[tokio::test]
async fn one_caller_is_held_back_and_told_when_to_come_again() {
    let limits = Limits { rate_per_minute: Some(3), ..Limits::default() };
    let host = Host::start(Setting { rate_limit_per_minute: 600, limits, ..Setting::default() }).await;
    let mut refused = None;
    // A window may end in between: then the second one is used up.
    for _ in 0..8 {
        let reply = host.call("GET", "/api/plans", &[], "").await;
        assert_eq!(reply.header("x-ratelimit-limit"), "3");
        assert!(!reply.header("x-ratelimit-remaining").is_empty() && !reply.header("x-ratelimit-reset").is_empty());
        if reply.status == 429 {
            refused = Some(reply);
            break;
        }
    }
    let refused = refused.expect("nobody was held back");
    assert_eq!(refused.problem(), (429, "RATE_LIMIT_EXCEEDED".into()));
    assert_eq!(refused.json()["retryAfter"].to_string(), refused.header("retry-after"));
    assert_eq!(host.send("GET", "/health", &[], "").await.status, 200, "probes are never counted");
}

#[tokio::test]
async fn only_a_configured_origin_may_read_answers() {
    let host = Host::start(Setting::default()).await;
    let preflight = [("origin", "https://app.example.com"), ("access-control-request-method", "PUT")];
    let allowed = host.send("OPTIONS", "/api/plans", &preflight, "").await;
    assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (204, "https://app.example.com"));
    assert_eq!(allowed.header("access-control-allow-credentials"), "true");
    assert!(allowed.header("access-control-allow-methods").contains("PUT"));
    let foreign = [("origin", "https://evil.example"), ("access-control-request-method", "PUT")];
    let refused = host.send("OPTIONS", "/api/plans", &foreign, "").await;
    assert!(refused.headers.keys().all(|name| !name.as_str().starts_with("access-control-")));
    let error = host.send("GET", "/api/plans", &[("origin", "https://app.example.com")], "").await;
    assert_eq!((error.status, error.header("access-control-allow-origin")), (401, "https://app.example.com"));
    assert_eq!(error.header("vary"), "origin");
}

#[tokio::test]
async fn every_answer_is_hardened() {
    let host = Host::start(Setting::default()).await;
    for (path, token) in [("/health", false), ("/api/plans", true), ("/nothing", true)] {
        let reply = if token { host.call("GET", path, &[], "").await } else { host.send("GET", path, &[], "").await };
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(reply.header("x-frame-options"), "DENY", "{path}");
    }
}

#[tokio::test]
async fn the_main_app_answers_its_routes_and_its_refusals_are_problems() {
    let host = Host::start(Setting::default()).await;
    let me = host.call("GET", "/api/auth/me", &[], "").await;
    assert_eq!(me.status, 200, "{}", me.text);
    assert_eq!(me.header("cache-control"), "no-store");
    assert_eq!(host.send("GET", "/api/auth/me", &[], "").await.problem(), (401, "UNAUTHORIZED".into()));
    let wrong = host.send("DELETE", "/api/auth/login", &[], "").await;
    assert_eq!(wrong.problem(), (405, "METHOD_NOT_ALLOWED".into()));
    assert!(wrong.header("allow").contains("POST"));
    let broken = host.send("POST", "/api/auth/login", &[("content-type", "application/json")], "{").await;
    assert_eq!(broken.problem(), (400, "VALIDATION_ERROR".into()));
    assert!(broken.json()["errors"].is_array());
}

#[tokio::test]
async fn the_document_describes_what_is_loaded() {
    let build =
        FakeBuild::new(1).handling(echo).described(vec![route("GET", "/api/plans/{id}", Some("planning.plans.read"))]);
    let host = Host::start(Setting { build: Some(build), ..Setting::default() }).await;
    let document = host.send("GET", "/openapi.json", &[], "").await;
    assert_eq!(document.status, 200, "a tool reads it before it has a token");
    let document = document.json();
    for path in ["/ready", "/api/admin/plugins/{name}/deploy", "/api/plans/health"] {
        assert!(document["paths"][path].is_object(), "{path} is not described");
    }
    let document = host.call("GET", "/openapi.json", &[], "").await.json();
    assert!(document["paths"]["/api/plans/{id}"]["get"].is_object());
    assert!(document["paths"]["/api/auth/login"]["post"].is_object(), "the main app is described too");
    host.slot.put(Arc::new(FakeBuild::new(2).handling(echo)));
    let document = host.call("GET", "/openapi.json", &[], "").await.json();
    assert!(document["paths"]["/api/plans/{id}"].is_null());
}

#[tokio::test]
async fn a_request_names_exactly_one_host() {
    let host = Host::start(Setting::default()).await;
    for (head, status) in [
        ("GET /health HTTP/1.1\r\nhost: a\r\n", 200),
        ("GET /health HTTP/1.0\r\n", 200),
        ("GET http://a/health HTTP/1.1\r\nhost: a\r\n", 200),
        ("GET /health HTTP/1.1\r\n", 400),
        ("GET /health HTTP/1.1\r\nhost: a\r\nhost: b\r\n", 400),
        ("GET http://a/health HTTP/1.1\r\nhost: b\r\n", 400),
    ] {
        let mut stream = TcpStream::connect(host.server.address()).await.unwrap();
        stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).await.unwrap();
        assert_eq!(read_reply(stream).await.status, status, "{head:?}");
    }
}

#[tokio::test]
async fn a_websocket_is_refused_with_a_reason() {
    let host = Host::start(Setting::default()).await;
    let headers = [("connection", "x-keep"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
    let refused = host.call("GET", "/api/plans", &headers, "").await;
    assert_eq!(refused.problem(), (501, "NOT_IMPLEMENTED".into()));
    assert!(refused.text.contains("server-sent events"));
}

#[tokio::test]
async fn a_strangers_word_about_where_it_comes_from_reaches_nobody() {
    let host = Host::start(Setting::default()).await;
    let forged = [
        ("forwarded", "for=192.0.2.1"),
        ("x-forwarded-for", "192.0.2.2"),
        ("X-Forwarded-Proto", "https"),
        ("x-real-ip", "192.0.2.3"),
    ];
    let reply = host.call("GET", "/api/plans", &forged, "").await;
    assert_eq!(reply.header("strict-transport-security"), "", "the connection is not encrypted");
    let headers = reply.json()["headers"].to_string();
    assert!(!headers.contains("forward") && !headers.contains("192.0.2"), "{headers}");
}

#[tokio::test]
async fn a_host_that_is_full_turns_requests_away_and_still_answers_probes() {
    let (begun, done) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (has_begun, may_end) = (Arc::clone(&begun), Arc::clone(&done));
    let build = FakeBuild::new(1).handling(move |_, _| {
        let (has_begun, may_end) = (Arc::clone(&has_begun), Arc::clone(&may_end));
        async move {
            has_begun.notify_one();
            may_end.notified().await;
            Ok(answer(200, "{}"))
        }
    });
    let host = Host::start(Setting { in_flight_max: 1, build: Some(build), ..Setting::default() }).await;
    let others = async {
        begun.notified().await;
        let refused = host.call("GET", "/api/plans", &[], "").await;
        assert_eq!(refused.problem(), (503, "SERVICE_UNAVAILABLE".into()));
        assert!(!refused.header("retry-after").is_empty());
        for path in ["/health", "/live", "/ready"] {
            assert_eq!(host.send("GET", path, &[], "").await.status, 200, "{path}");
        }
        done.notify_one();
    };
    let (first, ()) = tokio::join!(host.call("GET", "/api/plans", &[], ""), others);
    assert_eq!(first.status, 200, "who was let in is served");
    assert_eq!(host.send("GET", "/api/auth/me", &[], "").await.status, 401, "and then there is room again");
}

#[tokio::test]
async fn a_large_answer_is_compressed_for_whoever_asks() {
    let text = json!({ "items": vec!["the same again"; 500] }).to_string();
    let sent = text.clone();
    let build = FakeBuild::new(1).handling(move |_, _| {
        let mut answer = answer(200, &sent);
        answer.headers.push(("etag".into(), "\"7\"".into()));
        async move { Ok(answer) }
    });
    let host = Host::start(Setting { build: Some(build), ..Setting::default() }).await;
    let plain = host.call("GET", "/api/plans", &[], "").await;
    let vary: Vec<_> = plain.headers.get_all("vary").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!((plain.header("content-encoding"), vary), ("", vec!["accept-encoding", "origin"]));
    assert_eq!(plain.text, text);
    for (wanted, coding) in [("gzip", "gzip"), ("br", "br"), ("gzip, br, zstd", "zstd")] {
        let small = host.call("GET", "/api/plans", &[("accept-encoding", wanted)], "").await;
        assert_eq!((small.status, small.header("content-encoding")), (200, coding));
        let length: usize = small.header("content-length").parse().unwrap();
        assert!(length < text.len() / 4, "{wanted}: {length} of {}", text.len());
        assert_eq!(small.header("etag"), "\"7\"", "it names the version, which no coding changes");
    }
    let known = [("accept-encoding", "gzip"), ("if-none-match", "\"7\"")];
    let known = host.call("GET", "/api/plans", &known, "").await;
    assert_eq!((known.status, known.header("content-encoding"), known.text.as_str()), (304, "", ""));
}

#[tokio::test]
async fn an_http_2_client_that_takes_nothing_lets_its_guest_go() {
    // The guest's body holds the sender: with it the receiver knows that the body is gone.
    let (sender, gone) = tokio::sync::oneshot::channel::<()>();
    let held = Mutex::new(Some(sender));
    let build = FakeBuild::new(1).streaming(move |_, _| {
        let sender = held.lock().take();
        async move {
            let pieces = futures_util::stream::unfold(sender, |sender| async move {
                Some((Ok::<_, crate::body::BodyError>(http_body::Frame::data(Bytes::from(vec![0; 16384]))), sender))
            });
            let body: Body = http_body_util::BodyExt::boxed_unsync(http_body_util::StreamBody::new(pieces));
            Ok(http::Response::new(body))
        }
    });
    let setting = Setting { build: Some(build), unread_time_max: Duration::from_millis(300), ..Setting::default() };
    let host = Host::start(setting).await;
    let mut client = http_2(&host).await;
    let request = Request::get("http://berth.test/api/plans").header("authorization", format!("Bearer {}", host.token));
    let response = client.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    // The body is endless and stays unread: its window fills, and then nobody asks for more.
    let gone = tokio::time::timeout(Duration::from_secs(30), gone).await;
    assert!(gone.expect("the guest was held").is_err());
    drop(response);
}

#[tokio::test]
async fn the_api_browser_loads_nothing_from_elsewhere_or_says_that_there_is_none() {
    let host = Host::start(Setting::default()).await;
    let page = host.send("GET", "/docs", &[], "").await;
    if page.status == 501 {
        assert_eq!(page.problem().1, "NOT_IMPLEMENTED");
        return;
    }
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'") && policy.contains("script-src 'self';"), "{policy}");
    assert!(!page.text.contains("http:") && !page.text.contains("https:"), "{}", page.text);
    for (path, kind) in [("/docs/browser.js", "text/javascript"), ("/docs/style.css", "text/css")] {
        let file = host.send("GET", path, &[("accept-encoding", "gzip")], "").await;
        assert_eq!((file.status, file.header("content-encoding")), (200, "gzip"), "{path}");
        assert!(file.header("content-type").starts_with(kind));
    }
    assert_eq!(host.send("GET", "/docs/nothing", &[], "").await.status, 404);
}

#[tokio::test]
async fn options_names_the_methods_of_the_path() {
    let routes = vec![route("GET", "/api/plans", None), route("POST", "/api/plans", None)];
    let build = FakeBuild::new(1).handling(echo).described(routes);
    let host = Host::start(Setting { build: Some(build), ..Setting::default() }).await;
    let allowed = async |path: &str| host.send("OPTIONS", path, &[], "").await.header("allow").to_owned();
    assert_eq!(allowed("/api/auth/login").await, "POST, OPTIONS");
    assert_eq!(allowed("/api/teams").await, "GET, HEAD, POST, OPTIONS");
    assert_eq!(allowed("/nowhere").await, "");
}
