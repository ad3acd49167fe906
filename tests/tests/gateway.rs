//! The gateway: what it refuses, what it hides, and how it says so.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use berth_tests::client::PASSWORD;
use berth_tests::{Host, Manifest, manifest};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn host() -> Host {
    Host::with(Manifest::of([manifest::hello(), manifest::unruly()])).start().await
}

#[tokio::test]
async fn a_plugin_answers_through_the_gateway() {
    let host = host().await;
    let answer = host.client().get("/api/hello").await;
    assert_eq!(answer.expect(200)["message"], "hello");
    let echoed = host.client().post("/api/hello/echo", &json!({"b": [1, null], "a": "ü<x>"})).await.expect(200);
    assert_eq!(echoed, json!({"b": [1, null], "a": "ü<x>"}));
}

#[tokio::test]
async fn a_path_is_matched_by_whole_segments() {
    let host = host().await;
    let client = host.client().register("ada@example.com", "Harbour").await;
    for path in ["/api/hellos", "/api/hell", "/api/feedbacks", "/nowhere", "/api"] {
        client.get(path).await.problem(404, "ROUTE_NOT_FOUND");
    }
}

#[tokio::test]
async fn a_request_id_is_taken_over_when_it_is_safe_and_made_otherwise() {
    let host = host().await;
    let client = host.client();
    let ask = async |id: &str| {
        client.send(client.request(Method::GET, "/api/hello").header("x-request-id", id)).await.header("x-request-id")
    };
    assert_eq!(ask("order-66_a.b").await, "order-66_a.b");
    for unsafe_id in ["a b", "<script>", &"x".repeat(65), ""] {
        let id = ask(unsafe_id).await;
        assert!(id != unsafe_id && !id.is_empty(), "{unsafe_id} was taken over");
    }
    assert_ne!(
        client.get("/api/hello").await.header("x-request-id"),
        client.get("/api/hello").await.header("x-request-id")
    );
}

#[tokio::test]
async fn a_token_is_needed_and_must_be_right() {
    let host = host().await;
    let (anonymous, ada) = (host.client(), host.client().register("ada@example.com", "Harbour").await);
    anonymous.get("/api/auth/me").await.problem(401, "UNAUTHORIZED");
    anonymous.with_token("nonsense").get("/api/auth/me").await.problem(401, "UNAUTHORIZED");
    let mut forged = ada.token().to_owned();
    let last = forged.pop().unwrap_or('a');
    forged.push(if last == 'A' { 'B' } else { 'A' });
    anonymous.with_token(&forged).get("/api/auth/me").await.problem(401, "UNAUTHORIZED");
    // Signed with nothing.
    let claims = ada.token().split('.').nth(1).expect("three parts").to_owned();
    anonymous
        .with_token(&format!("eyJhbGciOiJub25lIn0.{claims}."))
        .get("/api/auth/me")
        .await
        .problem(401, "UNAUTHORIZED");
    ada.get("/api/auth/me").await.done(200);
}

#[tokio::test]
async fn an_identity_in_a_header_is_worth_nothing() {
    let host = host().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let me = ada.get("/api/auth/me").await.expect(200);
    let (user, organization) = (me["user"]["id"].clone(), me["organization"]["id"].clone());
    let forged = |request: reqwest::RequestBuilder| {
        request
            .header("x-user-id", user.as_str().unwrap_or_default())
            .header("x-organization-id", organization.as_str().unwrap_or_default())
            .header("x-tenant-id", organization.as_str().unwrap_or_default())
    };
    let answer = eve.send(forged(eve.request(Method::GET, "/api/auth/me"))).await.expect(200);
    assert_ne!(answer["user"]["id"], user);
    let anonymous = host.client();
    anonymous.send(forged(anonymous.request(Method::GET, "/api/auth/me"))).await.problem(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn the_admin_api_needs_the_platform_role() {
    let host = host().await;
    let operator_of_the_house = host.client().register("ada@example.com", "Harbour").await;
    let other = host.client().register("eve@example.com", "Reef").await;
    host.client().get("/api/admin/plugins").await.problem(401, "UNAUTHORIZED");
    other.get("/api/admin/plugins").await.problem(403, "FORBIDDEN");
    other.deploy("hello", vec![0; 16]).await.problem(403, "FORBIDDEN");
    // The first user of an empty install owns the operator organization.
    operator_of_the_house.get("/api/admin/plugins").await.done(200);
    host.operator().get("/api/admin/plugins").await.done(200);
}

#[tokio::test]
async fn a_wrong_method_names_the_right_ones() {
    let host = host().await;
    let client = host.client().register("ada@example.com", "Harbour").await;
    let answer = client.send(client.request(Method::DELETE, "/api/hello")).await;
    answer.problem(405, "METHOD_NOT_ALLOWED");
    assert!(answer.header("allow").contains("GET"), "{}", answer.header("allow"));
    let answer = client.send(client.request(Method::DELETE, "/api/auth/login")).await;
    answer.problem(405, "METHOD_NOT_ALLOWED");
    assert!(answer.header("allow").contains("POST"), "{}", answer.header("allow"));
    client.get("/api/hello/none/such").await.problem(404, "ROUTE_NOT_FOUND");
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_refused() {
    let host = host().await;
    let client = host.client();
    for path in ["/api/hello/echo", "/api/auth/login"] {
        for body in ["{", "", "nonsense", "[1]", "\"text\"", "{\"a\":1}{"] {
            let request = client.request(Method::POST, path).header("content-type", "application/json").body(body);
            client.send(request).await.problem(400, "VALIDATION_ERROR");
        }
        let request = client.request(Method::POST, path).header("content-type", "text/plain").body("{}");
        client.send(request).await.problem(415, "UNSUPPORTED_MEDIA_TYPE");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_with_and_without_a_length() {
    let host = host().await;
    let client = host.client();
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(11 * 1024 * 1024));
    let request = |body: reqwest::Body| {
        client.request(Method::POST, "/api/hello/echo").header("content-type", "application/json").body(body)
    };
    // The host may close before it has read everything; then the client sees no answer, which is allowed too.
    if let Ok(answer) = client.try_send(request(large.clone().into())).await {
        answer.problem(413, "PAYLOAD_TOO_LARGE");
    }
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> =
        large.as_bytes().chunks(64 * 1024).map(|piece| Ok(piece.to_vec())).collect();
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    if let Ok(answer) = client.try_send(request(stream)).await {
        answer.problem(413, "PAYLOAD_TOO_LARGE");
    }
    client.get("/api/hello").await.done(200);
}

/// Sends bytes as they are and reads until the host closes or answers.
async fn raw(host: &Host, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(host.address()).await.expect("a connection");
    stream.write_all(bytes).await.expect("sent");
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(Ok(count)) = tokio::time::timeout(std::time::Duration::from_secs(10), stream.read(&mut buffer)).await {
        answer.extend_from_slice(&buffer[..count]);
        if count == 0 || answer.windows(4).any(|window| window == b"\r\n\r\n") {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn broken_http_is_answered_or_closed_and_never_served() {
    let host = host().await;
    for bytes in [
        "NONSENSE\r\n\r\n".to_owned(),
        "GET /api/hello HTTP/9.9\r\nhost: x\r\n\r\n".to_owned(),
        format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(200_000)),
        format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(2000)),
        "POST /api/hello/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
            .to_owned(),
        "POST /api/hello/echo HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n".to_owned(),
        "GET /api/../api/admin/plugins HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        "GET /api/%2e%2e/admin HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
    ] {
        let answer = raw(&host, bytes.as_bytes()).await;
        let begin: String = bytes.chars().take(60).collect();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 5"),
            "{begin}: {answer}"
        );
    }
    host.client().get("/api/hello").await.done(200);
}

#[tokio::test]
async fn a_connection_that_says_nothing_does_not_keep_others_out() {
    let host = host().await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(host.address()).await.expect("a connection");
        stream.write_all(b"GET /api/hello HTTP/1.1\r\nhost:").await.expect("sent");
        silent.push(stream);
    }
    host.client().get("/api/hello").await.done(200);
}

#[tokio::test]
async fn over_the_limit_is_429_with_the_time_to_wait() {
    let host = Host::with(Manifest::hello()).variable("BERTH_RATE_LIMIT_PER_MINUTE", "20").start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let mut last = ada.get("/api/hello").await;
    for _ in 0..45 {
        last = ada.get("/api/hello").await;
        if last.status == 429 {
            break;
        }
    }
    let body = last.problem(429, "RATE_LIMIT_EXCEEDED");
    assert!(body["retryAfter"].as_u64().is_some_and(|seconds| (1..=60).contains(&seconds)), "{body}");
    assert_eq!(last.header("retry-after"), body["retryAfter"].to_string());
    assert_eq!((last.header("x-ratelimit-limit").as_str(), last.header("x-ratelimit-remaining").as_str()), ("20", "0"));
}

#[tokio::test]
async fn another_site_may_call_only_when_it_is_listed() {
    let host = Host::with(Manifest::hello()).variable("BERTH_ALLOWED_ORIGINS", "https://app.example.com").start().await;
    let client = host.client();
    let preflight = async |origin: &str| {
        let request = client.request(Method::OPTIONS, "/api/hello").header("origin", origin);
        client.send(request.header("access-control-request-method", "GET")).await.header("access-control-allow-origin")
    };
    assert_eq!(preflight("https://app.example.com").await, "https://app.example.com");
    assert_eq!(preflight("https://evil.example.com").await, "");
}

#[tokio::test]
async fn a_page_of_another_site_leaves_no_cookie_that_signs_a_browser_in() {
    let host = Host::with(Manifest::hello()).variable("BERTH_ALLOWED_ORIGINS", "https://app.example.com").start().await;
    let client = host.client();
    client.register("ada@example.com", "Harbour").await;
    let own = host.client().url("");
    let body = json!({ "email": "ada@example.com", "password": PASSWORD });
    let cookies = [("https://evil.example.com", false), ("https://app.example.com", true), (own.as_str(), true)];
    for (origin, is_left) in cookies {
        let request = host.client().request(Method::POST, "/api/auth/login").header("origin", origin).json(&body);
        let answer = client.send(request).await;
        assert_eq!((answer.status, !answer.header("set-cookie").is_empty()), (200, is_left), "{origin}");
    }
}

#[tokio::test]
async fn a_stream_arrives_piece_by_piece() {
    let host = host().await;
    let client = host.client();
    let request = client.request(Method::GET, "/api/hello/stream?count=3&intervalMs=300");
    let mut response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    let mut pieces = 0;
    let mut text = String::new();
    while let Some(chunk) = response.chunk().await.expect("a piece") {
        pieces += 1;
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert_eq!(text.matches("event: tick").count() + text.matches("event:tick").count(), 3, "{text}");
    assert!(pieces >= 3, "the stream came in {pieces} pieces");
}
