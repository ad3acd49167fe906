//! What somebody with bad intentions sends: forged identities, smuggled requests, slow and oversized heads, paths with
//! two meanings. None of it gets past the gateway, and none of it costs others their service.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;
use std::time::Duration;

use berth_tests::answer::text;
use berth_tests::{Client, Host, Manifest, eventually, manifest};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

async fn host() -> Host {
    Host::with(Manifest::of([manifest::hello(), manifest::unruly()])).start().await
}

/// Sends bytes as they are and reads until the host closes or is silent for a while.
async fn raw(host: &Host, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(host.address()).await.expect("a connection");
    // The host may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(Ok(count)) = tokio::time::timeout(Duration::from_millis(700), stream.read(&mut buffer)).await {
        answer.extend_from_slice(&buffer[..count]);
        if count == 0 {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// The statuses of the answers in what came back.
fn statuses(text: &str) -> Vec<u16> {
    let begins = text.match_indices("HTTP/1.1 ").chain(text.match_indices("HTTP/1.0 "));
    begins.filter_map(|(at, word)| text.get(at + word.len()..)?.get(..3)?.parse().ok()).collect()
}

/// Somebody's own identity, as a header could claim it.
struct Identity {
    user: String,
    organization: String,
}

fn identity(client: &Client) -> Identity {
    Identity { user: text(&client.account["user"], "id"), organization: text(&client.account["organization"], "id") }
}

#[tokio::test]
async fn no_header_in_any_spelling_makes_somebody_else_of_the_caller() {
    let host = host().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let (victim, own) = (identity(&ada), identity(&eve));
    let names = [
        ["X-User-Id", "X-Organization-Id"],
        ["x_user_id", "x_organization_id"],
        ["X-USER_ID", "X_ORGANIZATION-ID"],
        ["x-user-id", "X-Tenant-ID"],
        ["X-Original-User", "X-Org-Id"],
        ["X-Source-Service", "Forwarded"],
    ];
    for [user, organization] in names {
        for repeat in 1..3 {
            let mut request = eve.request(Method::GET, "/api/auth/me");
            for _ in 0..repeat {
                request = request.header(user, &victim.user).header(organization, &victim.organization);
            }
            let me = eve.send(request).await.expect(200);
            assert_eq!(me["user"]["id"], own.user.as_str(), "{user}");
            assert_eq!(me["organization"]["id"], own.organization.as_str(), "{organization}");
            let nobody = host.client();
            let request = nobody.request(Method::GET, "/api/auth/me").header(user, &victim.user);
            nobody.send(request).await.problem(401, "UNAUTHORIZED");
        }
    }
    // Nor does a host name that only plugins may use, or a word of a proxy that nobody listed.
    for (name, value) in [("host", "planning.internal"), ("x-forwarded-host", "planning.internal")] {
        let nobody = host.client();
        let request = nobody.request(Method::GET, "/api/admin/plugins").header(name, value);
        nobody.send(request).await.problem(401, "UNAUTHORIZED");
    }
}

#[tokio::test]
async fn a_client_cannot_choose_the_address_it_is_counted_by() {
    let host = Host::with(Manifest::hello()).variable("BERTH_RATE_LIMIT_PER_MINUTE", "10").start().await;
    let client = host.client();
    let mut refused = false;
    for number in 0..25 {
        let request = client
            .request(Method::GET, "/api/hello")
            .header("x-forwarded-for", format!("192.0.2.{number}"))
            .header("forwarded", format!("for=192.0.2.{number}"))
            .header("x-real-ip", format!("192.0.2.{number}"));
        refused |= client.send(request).await.status == 429;
    }
    assert!(refused, "a new address in a header was a new caller");
}

#[tokio::test]
async fn behind_a_listed_proxy_each_client_is_counted_by_its_own_address() {
    let host = Host::with(Manifest::hello())
        .variable("BERTH_RATE_LIMIT_PER_MINUTE", "10")
        .variable("BERTH_TRUSTED_PROXIES", "127.0.0.0/8")
        .start()
        .await;
    let client = host.client();
    let from = async |address: &str| {
        client.send(client.request(Method::GET, "/api/hello").header("x-forwarded-for", address)).await
    };
    for number in 0..30 {
        from(&format!("192.0.2.{number}")).await.done(200);
    }
    let mut last = 200;
    for _ in 0..25 {
        // What the client itself put before the proxy's entry does not count.
        last = from("198.51.100.1, 192.0.2.77").await.status;
        if last == 429 {
            break;
        }
    }
    assert_eq!(last, 429);
    let both = client.request(Method::GET, "/api/hello").header("x-forwarded-for", "192.0.2.1");
    client.send(both.header("forwarded", "for=192.0.2.2")).await.problem(400, "VALIDATION_ERROR");
}

#[tokio::test]
async fn a_request_hidden_in_another_ones_body_is_never_answered() {
    let host = host().await;
    let hidden = "GET /api/hello?hidden HTTP/1.1\r\nhost: x\r\n\r\n";
    let post = "POST /api/hello/echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let length = hidden.len();
    for (name, request) in [
        (
            "length and chunks",
            format!("{post}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "chunks and length",
            format!("{post}transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        ("two lengths", format!("{post}content-length: 2\r\ncontent-length: {length}\r\n\r\n{{}}{hidden}")),
        ("a list of lengths", format!("{post}content-length: 2, {length}\r\n\r\n{{}}{hidden}")),
        ("a signed length", format!("{post}content-length: +2\r\n\r\n{{}}{hidden}")),
        ("a length in hex", format!("{post}content-length: 0x2\r\n\r\n{{}}{hidden}")),
        ("an unknown coding", format!("{post}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("a coding after chunks", format!("{post}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}")),
        ("a coding with a tab", format!("{post}transfer-encoding:\tchunked\x0b\r\n\r\n0\r\n\r\n{hidden}")),
        ("a space before the colon", format!("{post}transfer-encoding : chunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("a folded header", format!("{post}transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("a bad chunk size", format!("{post}transfer-encoding: chunked\r\n\r\n-1\r\n\r\n{hidden}")),
        ("a huge chunk size", format!("{post}transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{{}}\r\n{hidden}")),
        ("a NUL in a header", format!("GET /api/hello HTTP/1.1\r\nhost: x\r\nx-a: a\0b\r\n\r\n{hidden}")),
        (
            "two hosts",
            format!("GET /api/hello HTTP/1.1\r\nhost: x\r\nhost: y\r\ncontent-length: {length}\r\n\r\n{hidden}"),
        ),
    ] {
        let answer = raw(&host, request.as_bytes()).await;
        let statuses = statuses(&answer);
        assert!(
            statuses.len() <= 1 && statuses.iter().all(|status| (400..=501).contains(status)),
            "{name}: {statuses:?}\n{answer}"
        );
    }
    host.client().get("/api/hello").await.done(200);
}

#[tokio::test]
async fn a_request_names_exactly_one_host() {
    let host = host().await;
    for (request, status) in [
        ("GET /api/hello HTTP/1.1\r\n\r\n", 400),
        ("GET /api/hello HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
        ("GET http://a/api/hello HTTP/1.1\r\nhost: b\r\n\r\n", 400),
        ("GET http://a/api/hello HTTP/1.1\r\nhost: a\r\n\r\n", 200),
    ] {
        assert_eq!(statuses(&raw(&host, request.as_bytes()).await), [status], "{request:?}");
    }
}

#[tokio::test]
async fn a_path_with_two_meanings_opens_no_door() {
    let host = Host::start().await;
    let _platform = host.client().register("ada@example.com", "Harbour").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    for path in [
        "//api/admin/plugins",
        "/api//admin/plugins",
        "/api/./admin/plugins",
        "/api/plans/../admin/plugins",
        "/api/plans/%2e%2e/admin/plugins",
        "/api/plans/%2E%2E%2Fadmin/plugins",
        "/api/plans/..%2fadmin%2fplugins",
        "/api/plans/..;/admin/plugins",
        "/api/admin;x=1/plugins",
        "/api/%61dmin/plugins",
        "/API/ADMIN/plugins",
        "/api/admin%00/plugins",
        "/api/admin%2fplugins",
        "/api\\admin\\plugins",
        "/api/admin/plugins%20",
        "/api/admin/plugins/",
        "/api/hello/../../api/admin/plugins",
        "/api/%c0%ae%c0%ae/admin/plugins",
        "/api/admin/plugins%ff",
        "/api/auth/%2e%2e/admin/plugins",
        "/api/plans;/..;/admin/plugins",
    ] {
        for token in [None, Some(eve.token())] {
            let authorization = token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{authorization}connection: close\r\n\r\n");
            let answer = raw(&host, request.as_bytes()).await;
            let statuses = statuses(&answer);
            assert!(
                statuses.len() == 1 && matches!(statuses[0], 400 | 401 | 403 | 404),
                "{path} with {token:?}: {answer}"
            );
        }
    }
    // The bytes that no path may hold at all.
    for path in ["/api/he\0llo", "/api/he llo", "/api/he\x7fllo"] {
        let answer = raw(&host, format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await;
        assert!(statuses(&answer).iter().all(|status| *status == 400), "{path:?}: {answer}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_the_next_one_is_served() {
    let host = host().await;
    for (name, request) in [
        ("one long header", format!("GET /api/hello HTTP/1.1\r\nhost: x\r\nx-a: {}\r\n\r\n", "a".repeat(300_000))),
        ("many headers", format!("GET /api/hello HTTP/1.1\r\nhost: x\r\n{}\r\n", "x-a: b\r\n".repeat(20_000))),
        ("a long path", format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(300_000))),
        ("a long cookie", format!("GET /api/hello HTTP/1.1\r\nhost: x\r\ncookie: {}\r\n\r\n", "a=b; ".repeat(60_000))),
    ] {
        let statuses = statuses(&raw(&host, request.as_bytes()).await);
        assert!(statuses.iter().all(|status| matches!(status, 400 | 414 | 431)), "{name}: {statuses:?}");
    }
    host.client().get("/api/hello").await.done(200);
}

/// Opens connections that send half a head and go on dripping, from several addresses: one may not have them all.
async fn slow_heads(host: &Host, count: usize) -> Vec<TcpStream> {
    let mut slow = Vec::new();
    for number in 0..count {
        let socket = TcpSocket::new_v4().expect("a socket");
        let from = SocketAddr::from(([127, 0, 0, 2 + u8::try_from(number / PER_ADDRESS).expect("few addresses")], 0));
        socket.bind(from).expect("an address of the loopback network");
        let mut stream = socket.connect(host.address().parse().expect("an address")).await.expect("a connection");
        stream.write_all(b"GET /api/hello HTTP/1.1\r\nhost: x\r\nx-a: ").await.expect("sent");
        slow.push(stream);
    }
    slow
}

/// Files, connections among them, that one process may have open; the hosts that are started here inherit it.
fn open_files_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(1_024)
}

/// Below what one address may have.
const PER_ADDRESS: usize = 1_500;

#[tokio::test]
async fn thousands_of_slow_heads_take_little_memory_and_are_told_to_go_in_time() {
    const BYTES_EACH_MAX: u64 = 24 * 1024;
    // As many as this machine lets one process have, and some for everything else.
    let connections = open_files_max().saturating_sub(200).min(4_500);
    assert!(connections >= 500, "only {connections} connections can be opened here");
    let host = host().await;
    host.client().get("/api/hello").await.done(200);
    let before = host.resident_bytes();
    let mut slow = slow_heads(&host, connections).await;
    for _ in 0..3 {
        for stream in &mut slow {
            let _ = stream.write_all(b"aaaaaaaaaaaaaaaa").await;
        }
        host.client().get("/api/hello").await.done(200);
    }
    let each = host.resident_bytes().saturating_sub(before) / connections as u64;
    assert!(each < BYTES_EACH_MAX, "a slow connection takes {each} bytes");
    // Dripping on does not buy time: the whole head has one deadline.
    let first = &mut slow[0];
    eventually("the end of a slow connection", async || {
        let mut buffer = [0; 512];
        let _ = first.write_all(b"a").await;
        match tokio::time::timeout(Duration::from_millis(200), first.read(&mut buffer)).await {
            Ok(Ok(count)) => {
                assert!(count == 0 || buffer.starts_with(b"HTTP/1.1 408 "));
                Some(())
            }
            Ok(Err(_)) => Some(()),
            Err(_) => None,
        }
    })
    .await;
    // And each of the others is told so.
    for stream in &mut slow[1..] {
        let mut answer = String::new();
        let end = tokio::time::timeout(Duration::from_secs(60), stream.read_to_string(&mut answer)).await;
        assert!(matches!(end, Ok(Ok(_))), "{end:?} after {answer}");
        assert!(statuses(&answer) == [408] && answer.contains("REQUEST_TIMEOUT"), "{answer}");
    }
    host.client().get("/api/hello").await.done(200);
    let left = host.resident_bytes().saturating_sub(before) / connections as u64;
    assert!(left < BYTES_EACH_MAX, "a slow connection that is gone still takes {left} bytes");
}

#[tokio::test]
async fn slow_bodies_take_no_place_from_others() {
    const CONNECTIONS: usize = 1_000;
    let host = host().await;
    host.client().get("/api/hello").await.done(200);
    let before = host.resident_bytes();
    let mut slow = slow_heads(&host, CONNECTIONS).await;
    for stream in &mut slow {
        let rest = b"a\r\n\r\nPOST /api/hello/echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                     content-length: 100000\r\n\r\n{";
        stream.write_all(rest).await.expect("sent");
    }
    host.client().get("/api/hello").await.done(200);
    let each = host.resident_bytes().saturating_sub(before) / CONNECTIONS as u64;
    assert!(each < 64 * 1024, "a slow body takes {each} bytes");
    // Silence within a body has an end, too.
    let mut answer = String::new();
    let first = &mut slow[0];
    eventually("the end of a slow body", async || {
        let mut buffer = [0; 4096];
        match tokio::time::timeout(Duration::from_millis(200), first.read(&mut buffer)).await {
            Ok(Ok(count @ 1..)) => {
                answer.push_str(&String::from_utf8_lossy(&buffer[..count]));
                None
            }
            Ok(Ok(0) | Err(_)) => Some(()),
            _ => None,
        }
    })
    .await;
    assert_eq!(statuses(&answer), [200, 408], "{answer}");
    host.client().get("/api/hello").await.done(200);
}

#[tokio::test]
async fn a_body_beyond_every_limit_is_refused_and_holds_no_memory() {
    let host = host().await;
    host.client().get("/api/hello").await.done(200);
    let before = host.resident_bytes();
    for _ in 0..20 {
        let head = "POST /api/hello/echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
        let says_so = format!("{head}content-length: 99999999999\r\n\r\n{{");
        assert_eq!(statuses(&raw(&host, says_so.as_bytes()).await), [413]);
        let mut chunks = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
        for _ in 0..200 {
            chunks.extend_from_slice(b"10000\r\n");
            chunks.extend_from_slice(&[b' '; 0x10000]);
            chunks.extend_from_slice(b"\r\n");
        }
        assert!(statuses(&raw(&host, &chunks).await).iter().all(|status| *status == 413));
    }
    let grown = host.resident_bytes().saturating_sub(before);
    assert!(grown < 160 << 20, "refused bodies hold {grown} bytes");
    host.client().get("/api/hello").await.done(200);
}

#[tokio::test]
async fn a_websocket_and_a_tunnel_are_refused_clearly() {
    let host = host().await;
    let upgrade = "GET /api/hello HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    let answer = raw(&host, upgrade.as_bytes()).await;
    assert!(answer.contains("NOT_IMPLEMENTED") && answer.contains("server-sent events"), "{answer}");
    for method in ["CONNECT example.com:443", "TRACE /api/hello"] {
        let answer = raw(&host, format!("{method} HTTP/1.1\r\nhost: example.com:443\r\n\r\n").as_bytes()).await;
        assert!(statuses(&answer).iter().all(|status| matches!(status, 400 | 405)), "{method}: {answer}");
    }
}

#[tokio::test]
async fn a_direct_port_asks_for_the_same_token_and_leads_to_its_own_plugin_only() {
    let port = free_port();
    // It describes nothing, so every path of it wants a token.
    let standard = manifest::Slot::new("standard", berth_tests::guests::fixture("standard"), "/api/standard")
        .with(&format!("port = {port}"));
    let manifest = Manifest::of([standard, manifest::unruly()]).and("\n[host]\ndirect_ports = true\n");
    let host = Host::with(manifest).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let direct = Client::anonymous(&format!("http://127.0.0.1:{port}"));
    direct.get("/api/standard/x").await.problem(401, "UNAUTHORIZED");
    direct.with_token("nonsense").get("/api/standard/x").await.problem(401, "UNAUTHORIZED");
    direct.with_token(ada.token()).get("/api/standard/x").await.done(200);
    for path in ["/api/unruly/ok", "/api/admin/plugins", "/api/auth/me", "/openapi.json", "/metrics", "/"] {
        direct.with_token(ada.token()).get(path).await.problem(404, "ROUTE_NOT_FOUND");
    }
    let login = json!({"email": "ada@example.com", "password": "x"});
    direct.post("/api/auth/login", &login).await.problem(404, "ROUTE_NOT_FOUND");
    direct.get("/health").await.done(200);
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
