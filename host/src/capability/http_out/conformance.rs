//! What egress promises, tried against servers of our own on loopback, which the operator's list opens.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::StreamBody;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::body;
use crate::capability::grant::Grant;
use crate::capability::tape::hide::Hider;
use crate::capability::testing;
use crate::principal::Call;

/// What a test server does with one connection after it has read one request.
#[derive(Clone, Copy)]
pub(super) enum Reply {
    /// Writes this and closes.
    Text(&'static str),
    /// Closes without a byte.
    Close,
    /// Writes this and stays silent.
    Silent(&'static str),
    /// Writes this and then more zeros than a response may hold.
    Flood(&'static str),
}

pub(super) const OK: Reply = Reply::Text("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");

pub(super) struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers one request after the other with `replies`, and all further ones with the last.
    pub(super) async fn start(replies: &'static [Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let reply = *replies.get(number).or(replies.last()).unwrap();
                tokio::spawn(answer(stream, reply, seen.clone()));
            }
        });
        Self { port, requests }
    }

    pub(super) fn guest(&self, grant: Grant) -> Guest {
        let outbound = vec![format!("127.0.0.1:{}", self.port), format!("localhost:{}", self.port)];
        testing::guest_with("planning", Some("org-1"), Grant { outbound, ..grant })
    }

    /// A guest that may reach this server.
    pub(super) fn friend(&self) -> Guest {
        self.guest(Grant { outbound_private: vec!["127.0.0.0/8".into(), "::1".into()], ..Grant::default() })
    }

    pub(super) fn uri(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn count(&self) -> usize {
        self.requests.lock().len()
    }
}

async fn answer(mut stream: TcpStream, reply: Reply, seen: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    // A head, and as much body as it announces.
    loop {
        let read = stream.read(&mut buffer).await.unwrap_or(0);
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request);
        let complete = text.split_once("\r\n\r\n").is_some_and(|(head, rest)| {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            rest.len() >= length.unwrap_or(0)
        });
        if read == 0 || complete {
            break;
        }
    }
    seen.lock().push(String::from_utf8_lossy(&request).into_owned());
    match reply {
        Reply::Text(text) => _ = stream.write_all(text.as_bytes()).await,
        Reply::Close => {}
        Reply::Silent(text) => {
            stream.write_all(text.as_bytes()).await.unwrap();
            // Until the client goes away.
            while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        }
        Reply::Flood(text) => {
            stream.write_all(text.as_bytes()).await.unwrap();
            let chunk = format!("10000\r\n{}\r\n", "0".repeat(0x10000));
            while stream.write_all(chunk.as_bytes()).await.is_ok() {}
        }
    }
}

fn request(method: &str, uri: &str, content: impl Into<Bytes>) -> http::Request<Body> {
    http::Request::builder().method(method).uri(uri).body(body::full(content)).unwrap()
}

async fn get(egress: &Egress, guest: &Guest, uri: &str) -> Result<http::Response<Body>, EgressError> {
    egress.send(guest, request("GET", uri, ""), Timeouts::default()).await
}

#[tokio::test]
async fn an_allowed_request_reaches_its_server_unchanged() {
    let server = Server::start(&[OK]).await;
    let egress = Egress::default();
    let response = egress
        .send(&server.friend(), request("POST", &server.uri("/a%20b?c=d"), "content"), Timeouts::default())
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(body::collect(response.into_body(), 100).await.unwrap(), "ok");
    let seen = server.requests.lock()[0].clone();
    assert!(seen.starts_with("POST /a%20b?c=d HTTP/1.1\r\n"), "{seen}");
    assert!(seen.to_lowercase().contains(&format!("host: 127.0.0.1:{}\r\n", server.port)), "{seen}");
    assert!(seen.ends_with("\r\n\r\ncontent"), "{seen}");
    let by_name = format!("http://localhost:{}/", server.port);
    assert_eq!(get(&egress, &server.friend(), &by_name).await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_allowed_name_that_leads_inside_is_refused_however_it_is_written() {
    let server = Server::start(&[OK]).await;
    let egress = Egress::default();
    let port = server.port;
    let names =
        ["127.0.0.1", "localhost", "2130706433", "0x7f.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"];
    let outbound = names.iter().map(|name| format!("{name}:{port}")).collect();
    let guest = testing::guest_with("planning", None, Grant { outbound, ..Grant::default() });
    for name in names {
        let answer = get(&egress, &guest, &format!("http://{name}:{port}/")).await;
        assert!(matches!(answer, Err(EgressError::AddressDenied)), "{name}: {answer:?}");
    }
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn a_pooled_connection_is_not_lent_to_a_plugin_that_could_not_have_made_it() {
    let server = Server::start(&[Reply::Silent("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")]).await;
    let egress = Egress::default();
    let response = get(&egress, &server.friend(), &server.uri("/")).await.unwrap();
    body::collect(response.into_body(), 10).await.unwrap();
    let stranger = server.guest(Grant::default());
    assert!(matches!(get(&egress, &stranger, &server.uri("/")).await, Err(EgressError::AddressDenied)));
    let by_name = format!("http://localhost:{}/", server.port);
    assert!(matches!(get(&egress, &stranger, &by_name).await, Err(EgressError::AddressDenied)));
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn a_redirect_is_shown_and_never_followed() {
    let server = Server::start(&[Reply::Text(
        "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    )])
    .await;
    let egress = Egress::default();
    let response = get(&egress, &server.friend(), &server.uri("/")).await.unwrap();
    assert_eq!(response.status(), 302);
    assert_eq!(response.headers()["location"], "http://169.254.169.254/");
    let again = get(&egress, &server.friend(), "http://169.254.169.254/").await;
    assert!(matches!(again, Err(EgressError::Denied(_))));
}

#[tokio::test]
async fn a_response_ends_at_its_limit() {
    let server = Server::start(&[
        Reply::Silent("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"),
        Reply::Flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ])
    .await;
    let egress = Egress::default();
    let announced = get(&egress, &server.friend(), &server.uri("/")).await;
    assert!(matches!(announced, Err(EgressError::ResponseTooLarge(_))));
    let response = get(&egress, &server.friend(), &server.uri("/")).await.unwrap();
    let Err(body::CollectError::Broken(error)) = body::collect(response.into_body(), usize::MAX).await else {
        panic!("the flood came through");
    };
    assert!(matches!(error.downcast_ref(), Some(EgressError::ResponseTooLarge(_))), "{error}");
}

#[tokio::test]
async fn a_request_body_ends_at_its_limit() {
    let server = Server::start(&[Reply::Silent("")]).await;
    let chunk = Bytes::from(vec![0; 1 << 20]);
    let frames = (0..12).map(move |_| Ok::<_, crate::body::BodyError>(http_body::Frame::data(chunk.clone())));
    let endless = StreamBody::new(futures_util::stream::iter(frames.collect::<Vec<_>>())).boxed_unsync();
    let request = http::Request::builder().method("PUT").uri(server.uri("/")).body(endless).unwrap();
    let answer = Egress::default().send(&server.friend(), request, Timeouts::default()).await;
    assert!(matches!(answer, Err(EgressError::RequestTooLarge(_))), "{answer:?}");
}

#[tokio::test]
async fn neither_head_nor_body_outlasts_the_callers_deadline() {
    let server =
        Server::start(&[Reply::Silent(""), Reply::Silent("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")]).await;
    let egress = Egress::default();
    let guest = || {
        let mut guest = server.friend();
        guest.call.deadline = Some(Instant::now() + Duration::from_millis(300));
        guest
    };
    assert!(matches!(get(&egress, &guest(), &server.uri("/")).await, Err(EgressError::Timeout)));
    let response = get(&egress, &guest(), &server.uri("/")).await.unwrap();
    let Err(body::CollectError::Broken(error)) = body::collect(response.into_body(), 100).await else {
        panic!("the body ended");
    };
    assert!(matches!(error.downcast_ref(), Some(EgressError::Timeout)), "{error}");
    let mut late = server.friend();
    late.call.deadline = Some(Instant::now());
    assert!(matches!(get(&egress, &late, &server.uri("/")).await, Err(EgressError::Timeout)));
    assert_eq!(server.count(), 2, "a call without time is not begun");
}

#[tokio::test]
async fn a_guest_may_shorten_the_wait() {
    let server = Server::start(&[Reply::Silent("")]).await;
    let timeouts = Timeouts { first_byte: Some(Duration::from_millis(50)), ..Timeouts::default() };
    let answer = Egress::default().send(&server.friend(), request("GET", &server.uri("/"), ""), timeouts).await;
    assert!(matches!(answer, Err(EgressError::Timeout)));
}

#[tokio::test]
async fn what_is_idempotent_is_repeated_whole_when_the_connection_is_lost() {
    let server = Server::start(&[Reply::Close, Reply::Close, OK]).await;
    let egress = Egress::default();
    let response = egress
        .send(&server.friend(), request("PUT", &server.uri("/"), "the whole content"), Timeouts::default())
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let seen = server.requests.lock().clone();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|request| request.ends_with("the whole content")), "{seen:?}");
}

#[tokio::test]
async fn what_is_not_idempotent_is_sent_once() {
    let server = Server::start(&[Reply::Close]).await;
    let egress = Egress::default();
    let post = request("POST", &server.uri("/"), "x");
    let answer = egress.send(&server.friend(), post, Timeouts::default()).await;
    assert!(matches!(answer, Err(EgressError::Lost(_))), "{answer:?}");
    assert_eq!(server.count(), 1);
    let mut keyed = request("POST", &server.uri("/"), "x");
    keyed.headers_mut().insert("idempotency-key", "k".parse().unwrap());
    assert!(egress.send(&server.friend(), keyed, Timeouts::default()).await.is_err());
    assert_eq!(server.count(), 5, "one and three repetitions");
}

#[tokio::test]
async fn five_failures_open_the_circuit() {
    let server = Server::start(&[Reply::Close]).await;
    let egress = Egress::default();
    for _ in 0..5 {
        let post = request("POST", &server.uri("/"), "x");
        assert!(matches!(egress.send(&server.friend(), post, Timeouts::default()).await, Err(EgressError::Lost(_))));
    }
    let answer = get(&egress, &server.friend(), &server.uri("/")).await;
    assert!(matches!(answer, Err(EgressError::Refused(Refusal::CircuitOpen))));
    assert_eq!(server.count(), 5, "nothing was sent while it is open");
}

#[tokio::test]
async fn a_caller_who_comes_late_does_not_open_the_circuit_for_the_others() {
    let server = Server::start(&[Reply::Silent("")]).await;
    let egress = Egress::default();
    let ask = async |timeouts: Timeouts, left: Duration| {
        let mut guest = server.friend();
        guest.call.deadline = Some(Instant::now() + left);
        egress.send(&guest, request("GET", &server.uri("/"), ""), timeouts).await
    };
    for _ in 0..6 {
        let answer = ask(Timeouts::default(), Duration::from_millis(20)).await;
        assert!(matches!(answer, Err(EgressError::Timeout)), "{answer:?}");
    }
    // How long the guest itself would wait was its own decision, made with a mind to the target.
    let brief = Timeouts { first_byte: Some(Duration::from_millis(20)), ..Timeouts::default() };
    for _ in 0..5 {
        let answer = ask(brief, TOTAL_TIMEOUT).await;
        assert!(matches!(answer, Err(EgressError::Timeout)), "{answer:?}");
    }
    let answer = ask(brief, TOTAL_TIMEOUT).await;
    assert!(matches!(answer, Err(EgressError::Refused(Refusal::CircuitOpen))), "{answer:?}");
}

#[tokio::test]
async fn one_plugin_has_a_bounded_number_of_requests_under_way() {
    let server = Server::start(&[Reply::Silent("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")]).await;
    let egress = Egress::default();
    let guest = server.friend();
    let held: Vec<_> = (0..IN_FLIGHT_MAX).map(|_| egress.place(&guest.plugin.name).unwrap()).collect();
    assert!(matches!(get(&egress, &guest, &server.uri("/")).await, Err(EgressError::Full)));
    drop(held);
    let open = get(&egress, &guest, &server.uri("/")).await.unwrap();
    let places = || egress.in_flight.get(&guest.plugin.name).unwrap().available_permits();
    assert_eq!(places(), IN_FLIGHT_MAX - 1, "an unread response keeps its place");
    drop(open);
    assert_eq!(places(), IN_FLIGHT_MAX);
}

/// A gateway that writes down what it is asked.
struct Gateway {
    calls: Mutex<Vec<(String, Call, http::request::Parts)>>,
    unavailable: AtomicUsize,
}

#[async_trait::async_trait]
impl InternalDispatch for Gateway {
    async fn dispatch(
        &self,
        target: &str,
        call: Call,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, DispatchError> {
        let (head, content) = request.into_parts();
        let content = content.collect().await.unwrap().to_bytes();
        self.calls.lock().push((target.to_owned(), call, head));
        let unavailable = self.unavailable.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if unavailable.is_ok() {
            return Err(DispatchError::Unavailable);
        }
        Ok(http::Response::new(body::full(content)))
    }

    fn refuse(&self, _: &Call, _: Refusal) -> http::Response<Body> {
        http::Response::builder().status(503).body(body::empty()).unwrap()
    }
}

fn internal(unavailable: usize) -> (Egress, Arc<Gateway>, Guest) {
    let gateway = Arc::new(Gateway { calls: Mutex::default(), unavailable: AtomicUsize::new(unavailable) });
    let egress = Egress::default();
    egress.set_dispatch(gateway.clone());
    let grant = Grant { call: vec!["ai-service".into()], ..Grant::default() };
    (egress, gateway, testing::guest_with("planning", Some("org-1"), grant))
}

#[tokio::test]
async fn an_internal_call_carries_the_principal_and_nothing_the_guest_claims() {
    let (egress, gateway, mut guest) = internal(0);
    guest.call.depth = 2;
    let deadline = Instant::now() + Duration::from_secs(5);
    guest.call.deadline = Some(deadline);
    let mut post = request("POST", "http://ai-service.internal/api/ai/x?y=z", "question");
    for name in
        ["authorization", "cookie", "x-user-id", "X-Organization-Id", "x-forwarded-for", "x-request-id", "x-berth-user"]
    {
        post.headers_mut()
            .insert(http::HeaderName::from_bytes(name.to_lowercase().as_bytes()).unwrap(), "forged".parse().unwrap());
    }
    post.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    let response = egress.send(&guest, post, Timeouts::default()).await.unwrap();
    assert_eq!(body::collect(response.into_body(), 100).await.unwrap(), "question");
    let calls = gateway.calls.lock();
    let (target, call, head) = &calls[0];
    assert_eq!(target, "ai-service");
    assert!(Arc::ptr_eq(&call.principal, &guest.call.principal));
    assert_eq!(call.source_service.as_deref(), Some("planning"));
    assert_eq!((call.depth, call.deadline), (3, Some(deadline)));
    assert_eq!(call.request_id, guest.call.request_id);
    assert_eq!(head.uri.path_and_query().unwrap(), "/api/ai/x?y=z");
    assert_eq!(head.headers.keys().collect::<Vec<_>>(), ["content-type"]);
}

#[tokio::test]
async fn only_granted_plugins_are_called() {
    let (egress, gateway, guest) = internal(0);
    for uri in ["http://workflow.internal/", "http://planning.internal/", "http://ai-service.internal.example.com/"] {
        assert!(matches!(get(&egress, &guest, uri).await, Err(EgressError::Denied(_))), "{uri}");
    }
    assert!(gateway.calls.lock().is_empty());
}

#[tokio::test]
async fn a_copy_of_a_request_only_reads_and_only_within() {
    let (egress, gateway, guest) = internal(10);
    let copy = testing::shadow(guest);
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let answer = egress.send(&copy, request(method, "http://ai-service.internal/", ""), Timeouts::default()).await;
        assert!(matches!(answer, Err(EgressError::Denied(_))), "{method}: {answer:?}");
    }
    assert!(gateway.calls.lock().is_empty());
    // What fails for a copy closes no door to the others.
    for _ in 0..10 {
        let head = request("HEAD", "http://ai-service.internal/", "");
        let _ = egress.send(&copy, head, Timeouts::default()).await;
    }
    gateway.unavailable.store(0, Ordering::SeqCst);
    assert_eq!(get(&egress, &copy, "http://ai-service.internal/").await.unwrap().status(), 200);
    assert!(gateway.calls.lock().iter().all(|(_, call, _)| call.is_shadow), "whoever it asks knows");

    let server = Server::start(&[OK]).await;
    let copy = testing::shadow(server.friend());
    let answer = get(&egress, &copy, &server.uri("/")).await;
    assert!(matches!(answer, Err(EgressError::Denied(_))), "{answer:?}");
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn eight_calls_within_one_another_are_the_most() {
    let (egress, gateway, mut guest) = internal(0);
    guest.call.depth = DEPTH_MAX - 1;
    assert_eq!(get(&egress, &guest, "http://ai-service.internal/").await.unwrap().status(), 200);
    guest.call.depth = DEPTH_MAX;
    assert_eq!(get(&egress, &guest, "http://ai-service.internal/").await.unwrap().status(), 503);
    assert_eq!(gateway.calls.lock().len(), 1);
}

#[tokio::test]
async fn a_plugin_that_is_not_ready_is_asked_again_only_where_that_is_safe() {
    let (egress, gateway, guest) = internal(2);
    assert_eq!(get(&egress, &guest, "http://ai-service.internal/").await.unwrap().status(), 200);
    assert_eq!(gateway.calls.lock().len(), 3);
    let (egress, gateway, guest) = internal(1);
    let post = request("POST", "http://ai-service.internal/", "x");
    let answer = egress.send(&guest, post, Timeouts::default()).await;
    assert!(matches!(answer, Err(EgressError::Unavailable(_))));
    assert_eq!(gateway.calls.lock().len(), 1);
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_gets_no_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server { port: listener.local_addr().unwrap().port(), requests: Arc::default() };
    let seen = server.requests.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut first = [0; 16];
            let read = stream.read(&mut first).await.unwrap();
            seen.lock().push(String::from_utf8_lossy(&first[..read]).into_owned());
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        }
    });
    let uri = server.uri("/").replace("http:", "https:");
    let answer = get(&Egress::default(), &server.friend(), &uri).await;
    assert!(matches!(answer, Err(EgressError::Connect(_))), "{answer:?}");
    assert!(server.count() > 0);
    assert!(server.requests.lock().iter().all(|seen| !seen.contains("GET")));
}

#[tokio::test]
async fn a_tunnel_is_no_request() {
    let server = Server::start(&[OK]).await;
    let connect = request("CONNECT", &server.uri("/"), "");
    let answer = Egress::default().send(&server.friend(), connect, Timeouts::default()).await;
    assert!(matches!(answer, Err(EgressError::Method)));
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_a_resolver_error() {
    let outbound = vec!["does-not-exist.invalid".to_owned()];
    let guest = testing::guest_with("planning", None, Grant { outbound, ..Grant::default() });
    let answer = get(&Egress::default(), &guest, "http://does-not-exist.invalid/").await;
    assert!(matches!(answer, Err(EgressError::Resolve(_))), "{answer:?}");
}

#[tokio::test]
async fn without_a_gateway_there_is_nobody_to_call() {
    let (_, _, guest) = internal(0);
    let answer = get(&Egress::default(), &guest, "http://ai-service.internal/").await;
    assert!(matches!(answer, Err(EgressError::Unavailable(_))));
}

/// Answers as secret-management does, and remembers who asked for what.
struct Keeper {
    status: u16,
    answer: &'static str,
    asked: Mutex<Vec<(Call, String)>>,
}

#[async_trait::async_trait]
impl InternalDispatch for Keeper {
    async fn dispatch(
        &self,
        target: &str,
        call: Call,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, DispatchError> {
        assert_eq!(target, "secret-management");
        let content = request.into_body().collect().await.unwrap().to_bytes();
        self.asked.lock().push((call, String::from_utf8_lossy(&content).into_owned()));
        Ok(http::Response::builder().status(self.status).body(body::full(self.answer)).unwrap())
    }

    fn refuse(&self, _: &Call, _: Refusal) -> http::Response<Body> {
        http::Response::new(body::empty())
    }
}

fn keeper(status: u16, answer: &'static str) -> (Egress, Arc<Keeper>) {
    let keeper = Arc::new(Keeper { status, answer, asked: Mutex::default() });
    let egress = Egress::default();
    egress.set_dispatch(keeper.clone());
    (egress, keeper)
}

fn naming(uri: &str) -> http::Request<Body> {
    let mut request = request("GET", uri, "");
    request.headers_mut().insert("berth-auth-secret-id", "s1".parse().unwrap());
    request.headers_mut().insert("berth-auth-organization-id", "org-2".parse().unwrap());
    request
}

#[tokio::test]
async fn a_named_secret_is_put_in_and_its_name_stays_here() {
    let server = Server::start(&[OK]).await;
    let (egress, keeper) = keeper(
        200,
        r#"{"placements":[{"place":"header","name":"authorization","value":"Bearer value-1"},{"place":"query","name":"k","value":"v 2"}]}"#,
    );
    let guest = server.friend();
    let response = egress.send(&guest, naming(&server.uri("/a?b=c")), Timeouts::default()).await.unwrap();
    assert_eq!(response.status(), 200);
    let seen = server.requests.lock()[0].to_lowercase();
    assert!(seen.starts_with("get /a?b=c&k=v%202 http/1.1\r\n"), "{seen}");
    assert!(seen.contains("authorization: bearer value-1\r\n") && !seen.contains("berth-"), "{seen}");
    let asked = keeper.asked.lock();
    let (call, question) = &asked[0];
    assert_eq!(call.source_service.as_deref(), Some("host"), "no guest can be that caller");
    assert_eq!(call.principal.organization_id.as_deref(), Some("org-1"), "a guest does not choose the organization");
    let destination = format!(r#""destination":"http://127.0.0.1:{}""#, server.port);
    assert!(question.contains(r#""service":"planning""#) && question.contains(&destination), "{question}");
}

#[tokio::test]
async fn an_answer_that_repeats_what_was_put_in_is_noted_without_it() {
    const REFUSAL: Reply = Reply::Text(
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 22\r\nConnection: close\r\n\r\nno such key: value-123",
    );
    let server = Server::start(&[REFUSAL]).await;
    let placements = r#"{"placements":[{"place":"header","name":"authorization","value":"Bearer value-123"}]}"#;
    let (egress, _) = keeper(200, placements);
    let tape = Arc::new(crate::capability::tape::testing::running());
    let mut request = naming(&server.uri("/"));
    let note = Note::begin(&tape, &request).unwrap();
    request.extensions_mut().insert(note.clone());
    let response = egress.send(&server.friend(), request, Timeouts::default()).await.unwrap();
    note.answered(&response);
    let heard = super::note::Tee::response(response.into_body(), &note).collect().await.unwrap().to_bytes();
    assert_eq!(heard, "no such key: value-123", "the guest gets it as it is");
    let hider = Hider::default();
    let (calls, _) = tape.end().show(&hider);
    let mut shown = serde_json::to_value(calls).unwrap();
    hider.scrub(&mut shown).unwrap();
    assert_eq!(shown[0]["answer"]["body"], serde_json::json!({ "utf8": "no such key: [redacted]" }));
}

#[tokio::test]
async fn a_secret_that_cannot_be_used_sends_nothing() {
    let server = Server::start(&[OK]).await;
    let guest = server.friend();
    for (status, answer) in [(403, "{}"), (404, "{}"), (410, "{}"), (200, "{}")] {
        let (egress, _) = keeper(status, answer);
        let sent = egress.send(&guest, naming(&server.uri("/")), Timeouts::default()).await;
        assert!(matches!(sent, Err(EgressError::SecretUnavailable)), "{status}: {sent:?}");
    }
    for (status, answer) in [(500, "{}"), (503, "{}"), (200, "no JSON")] {
        let (egress, _) = keeper(status, answer);
        let sent = egress.send(&guest, naming(&server.uri("/")), Timeouts::default()).await;
        assert!(matches!(sent, Err(EgressError::Unavailable(None))), "{status}: {sent:?}");
    }
    let (egress, keeper) = keeper(200, r#"{"placements":[{"place":"header","name":"host","value":"evil"}]}"#);
    let sent = egress.send(&guest, naming(&server.uri("/")), Timeouts::default()).await;
    assert!(matches!(sent, Err(EgressError::SecretUnavailable)), "{sent:?}");
    // Where the request may not go anyway, and for another plugin, no secret is asked for.
    let denied = egress.send(&guest, naming("http://example.com/"), Timeouts::default()).await;
    assert!(matches!(denied, Err(EgressError::Denied(_))));
    let friend =
        testing::guest_with("planning", Some("org-1"), Grant { call: vec!["ai-service".into()], ..Grant::default() });
    let denied = egress.send(&friend, naming("http://ai-service.internal/"), Timeouts::default()).await;
    assert!(matches!(denied, Err(EgressError::Denied(_))));
    assert_eq!((server.count(), keeper.asked.lock().len()), (0, 1));
}
