//! A small HTTP server on loopback that remembers what it was sent: for what a service sends into the world.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of one request.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Received {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Received {
    /// The first header of this name, given in lower case; empty when it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(header, _)| header == name).map_or("", |(_, value)| value.as_str())
    }
}

/// What the listener answers: status and JSON body.
pub type Respond = Arc<dyn Fn(&Received) -> (u16, String) + Send + Sync>;

/// The server; it ends with the test.
pub struct Listener {
    port: u16,
    received: Arc<Mutex<Vec<Received>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Listener {
    /// Answers everything with 200 and `{}`.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start() -> Self {
        Self::answering(Arc::new(|_: &Received| (200, "{}".to_owned()))).await
    }

    /// Answers as `respond` says.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn answering(respond: Respond) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| panic!("no port: {error}"));
        let port = listener.local_addr().map(|address| address.port()).unwrap_or_default();
        let received = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&received);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&respond), Arc::clone(&seen)));
            }
        });
        Self { port, received, task }
    }

    /// `127.0.0.1:<port>`, as a grant lists it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// Everything it was sent so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, respond: Respond, seen: Arc<Mutex<Vec<Received>>>) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    let received = loop {
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 && bytes.len() < REQUEST_BYTES_MAX => {
                bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
            }
            _ => return,
        }
        if let Some(received) = parse(&String::from_utf8_lossy(&bytes)) {
            break received;
        }
    };
    let (status, body) = respond(&received);
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(received);
    let head = format!(
        "HTTP/1.1 {status} Answer\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// The request, once it is there whole.
fn parse(text: &str) -> Option<Received> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let received = Received { method, target, headers, body: body.to_owned() };
    let length: usize = received.header("content-length").parse().unwrap_or(0);
    (body.len() >= length).then_some(received)
}
