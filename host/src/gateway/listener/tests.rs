use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::*;

/// Says the path, `/slow` only when it is let, `/body` the length of the body.
#[derive(Default)]
struct Echo {
    started: Notify,
    release: Notify,
    cancelled: AtomicBool,
    answered: AtomicUsize,
}

struct Watch<'a>(&'a AtomicBool);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Serve for Echo {
    async fn serve(&self, peer: &Peer, request: Request<Incoming>) -> Response<ResponseBody> {
        assert!(peer.ip.is_loopback());
        let path = request.uri().path().to_owned();
        if path == "/slow" {
            let watch = Watch(&self.cancelled);
            self.started.notify_one();
            self.release.notified().await;
            std::mem::forget(watch);
        }
        let body = match path.as_str() {
            "/body" => match request.into_body().collect().await {
                Ok(body) => body.to_bytes().len().to_string(),
                Err(_) => "broken".to_owned(),
            },
            "/large" => "x".repeat(64 << 20),
            _ => path,
        };
        self.answered.fetch_add(1, Ordering::SeqCst);
        Response::new(ResponseBody::full(body))
    }
}

async fn start(options: ListenerOptions) -> (Server, Arc<Echo>) {
    let service = Arc::new(Echo::default());
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), options).await.unwrap();
    (listener.serve(Arc::clone(&service)).unwrap(), service)
}

async fn send(server: &Server, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// Everything the server says until it closes.
async fn read_all(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ =
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.expect("it never closed");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn exchange(server: &Server, text: &str) -> String {
    read_all(send(server, text).await).await
}

#[tokio::test]
async fn requests_follow_each_other_on_one_connection() {
    let (server, service) = start(ListenerOptions::default()).await;
    let answer =
        exchange(&server, "GET /a HTTP/1.1\r\nhost: x\r\n\r\nGET /b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await;
    assert!(answer.contains("\r\n\r\n/a") && answer.ends_with("/b"), "{answer}");
    assert_eq!(service.answered.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431() {
    let (server, service) = start(ListenerOptions::default()).await;
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "a".repeat(80 * 1024));
    assert!(exchange(&server, &long).await.starts_with("HTTP/1.1 431"));
    let many: String = (0..200).map(|number| format!("x-{number}: 1\r\n")).collect();
    assert!(exchange(&server, &format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n")).await.starts_with("HTTP/1.1 431"));
    assert_eq!(service.answered.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn contradicting_lengths_are_refused_or_close_the_connection() {
    let (server, service) = start(ListenerOptions::default()).await;
    let lengths = "POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\nhello";
    assert!(exchange(&server, lengths).await.starts_with("HTTP/1.1 400"));
    assert_eq!(service.answered.load(Ordering::SeqCst), 0);
    // With both, the chunked framing wins and nothing after it is taken for another request.
    let both = "POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = exchange(&server, both).await;
    assert!(answer.starts_with("HTTP/1.1 400") || !answer.contains("/smuggled"), "{answer}");
}

#[tokio::test]
async fn a_client_that_never_ends_its_headers_is_let_go() {
    let options = ListenerOptions { header_read_timeout: Duration::from_millis(100), ..ListenerOptions::default() };
    let (server, service) = start(options).await;
    let stream = send(&server, "GET / HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
    let answer = read_all(stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("REQUEST_TIMEOUT"), "{answer}");
    assert_eq!(service.answered.load(Ordering::SeqCst), 0);
    // The second request of a connection likewise, and the first is answered as ever.
    let answer = exchange(&server, "GET /a HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.ends_with("/a"), "{answer}");
    let mut stream = send(&server, "GET /a HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut begin = [0; 16];
    stream.read_exact(&mut begin).await.unwrap();
    stream.write_all(b"GET /b HTTP/1.1\r\n").await.unwrap();
    let answer = read_all(stream).await;
    assert!(answer.contains("/aHTTP/1.1 408 "), "{answer}");
    assert_eq!(service.answered.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn who_speaks_http_2_gets_no_word_of_http_1() {
    let options = ListenerOptions { header_read_timeout: Duration::from_millis(100), ..ListenerOptions::default() };
    let (server, _) = start(options).await;
    let settings = "\0\0\0\u{4}\0\0\0\0\0";
    let answer = exchange(&server, &format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{settings}")).await;
    assert!(!answer.is_empty() && !answer.contains("HTTP/1.1"), "{answer:?}");
}

#[tokio::test]
async fn a_client_that_says_nothing_or_nothing_more_is_let_go() {
    let options = ListenerOptions { header_read_timeout: Duration::from_millis(100), ..ListenerOptions::default() };
    let (server, service) = start(options).await;
    assert_eq!(exchange(&server, "").await, "");
    assert!(exchange(&server, "GET /a HTTP/1.1\r\nhost: x\r\n\r\n").await.ends_with("/a"));
    assert_eq!(service.answered.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_http_2_client_that_asks_nothing_more_is_let_go() {
    let options = ListenerOptions { header_read_timeout: Duration::from_millis(100), ..ListenerOptions::default() };
    let (server, service) = start(options).await;
    let io = TokioIo::new(TcpStream::connect(server.address()).await.unwrap());
    let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://x/slow").body(Empty::<bytes::Bytes>::new()).unwrap();
    // Who waits for an answer stays, as long as it takes.
    let answering = async {
        service.started.notified().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        service.release.notify_one();
    };
    let (answer, ()) = tokio::join!(client.send_request(request), answering);
    assert_eq!(answer.unwrap().into_body().collect().await.unwrap().to_bytes(), "/slow");
    let ended = tokio::time::timeout(Duration::from_secs(10), connection).await;
    assert!(ended.expect("it never closed").is_ok());
    drop(client);
}

#[tokio::test]
async fn a_client_that_waits_for_its_answer_is_not_let_go() {
    let options = ListenerOptions { header_read_timeout: Duration::from_millis(20), ..ListenerOptions::default() };
    let (server, service) = start(options).await;
    let waiting = send(&server, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    service.started.notified().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    service.release.notify_one();
    assert!(read_all(waiting).await.ends_with("/slow"));
}

#[tokio::test]
async fn a_client_that_never_reads_is_let_go() {
    let options = ListenerOptions { write_stall_timeout: Duration::from_millis(100), ..ListenerOptions::default() };
    let (server, _) = start(options).await;
    let stream = send(&server, "GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
    tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if server.connections() == 0 {
                return;
            }
        }
    })
    .await
    .expect("the connection stayed open");
    drop(stream);
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_its_request() {
    let (server, service) = start(ListenerOptions::default()).await;
    let stream = send(&server, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    service.started.notified().await;
    drop(stream);
    tokio::time::timeout(Duration::from_secs(10), async {
        while !service.cancelled.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the request went on");
}

#[tokio::test]
async fn a_shutdown_finishes_what_is_in_flight_and_accepts_nothing_more() {
    let (server, service) = start(ListenerOptions::default()).await;
    let busy = send(&server, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    service.started.notified().await;
    let mut idle = send(&server, "GET /a HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut head = [0; 12];
    idle.read_exact(&mut head).await.unwrap();
    let address = server.address();
    let stopping = tokio::spawn(async move { server.shutdown(Duration::from_secs(10)).await });
    assert!(read_all(idle).await.ends_with("/a"), "an idle connection is closed after its answer");
    assert!(TcpStream::connect(address).await.is_err() || exchange_refused(address).await);
    service.release.notify_one();
    assert!(read_all(busy).await.ends_with("/slow"));
    assert!(stopping.await.unwrap(), "nothing was cut off");
}

async fn exchange_refused(address: SocketAddr) -> bool {
    match TcpStream::connect(address).await {
        Err(_) => true,
        Ok(mut stream) => {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
            read_all(stream).await.is_empty()
        }
    }
}

#[tokio::test]
async fn a_shutdown_cuts_off_what_outlives_its_deadline() {
    let (server, service) = start(ListenerOptions::default()).await;
    let busy = send(&server, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    service.started.notified().await;
    assert!(!server.shutdown(Duration::from_millis(20)).await);
    assert_eq!(read_all(busy).await, "");
    assert!(service.cancelled.load(Ordering::SeqCst));
}

#[tokio::test]
async fn no_more_connections_are_served_than_there_are_permits() {
    let options = ListenerOptions { permits: Arc::new(Semaphore::new(1)), ..ListenerOptions::default() };
    let (server, service) = start(options).await;
    let first = send(&server, "GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    service.started.notified().await;
    let second = send(&server, "GET /b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert_eq!(server.connections(), 1);
    service.release.notify_one();
    assert!(read_all(first).await.ends_with("/slow"));
    assert!(read_all(second).await.ends_with("/b"), "the second waited for the first one's permit");
}
