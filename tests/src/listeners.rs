//! What a host calls: a small HTTP server and a small SMTP server on loopback that keep what they are given.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The largest request or mail that is kept.
const BYTES_MAX: u64 = 4 << 20;
/// Requests or mails that are kept.
const KEPT_MAX: usize = 10_000;

/// A request, as it came.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Method and path.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    /// A header; empty when it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(header, _)| header == name).map_or("", |(_, value)| value)
    }

    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// An HTTP server that answers everything with one status and an empty object.
#[derive(Clone)]
pub struct Listener {
    address: String,
    status: Arc<Mutex<u16>>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Listener {
    /// Listens on a port of its own.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(status: u16) -> Self {
        let listener = bind().await;
        let address = address(&listener);
        let own = Self { address, status: Arc::new(Mutex::new(status)), received: Arc::default() };
        let server = own.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        own
    }

    /// `127.0.0.1:<port>`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What is answered from now on.
    pub fn answer(&self, status: u16) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// Everything that has come so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One request after another on one connection.
    async fn serve(&self, stream: TcpStream) {
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        while let Some(request) = read(&mut reader).await {
            keep(&self.received, request);
            let status = *self.status.lock().unwrap_or_else(PoisonError::into_inner);
            let answer =
                format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}");
            if writer.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

async fn read(reader: &mut (impl AsyncBufReadExt + Unpin)) -> Option<Received> {
    let mut line = String::new();
    if reader.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let mut request = Received { line: line.trim().trim_end_matches(" HTTP/1.1").to_owned(), ..Received::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length: u64 = request.header("content-length").parse().unwrap_or(0);
    reader.take(length.min(BYTES_MAX)).read_to_end(&mut request.body).await.ok()?;
    Some(request)
}

/// An SMTP server that takes every mail.
#[derive(Clone)]
pub struct Mailbox {
    address: String,
    mails: Arc<Mutex<Vec<String>>>,
}

impl Mailbox {
    /// Listens on a port of its own.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start() -> Self {
        let listener = bind().await;
        let own = Self { address: address(&listener), mails: Arc::default() };
        let server = own.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move {
                    let _ = server.converse(stream).await;
                });
            }
        });
        own
    }

    /// For `BERTH_SMTP_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// The mails so far, each with its envelope's commands, headers and text.
    #[must_use]
    pub fn mails(&self) -> Vec<String> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn converse(&self, stream: TcpStream) -> std::io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader.take(BYTES_MAX)).lines();
        writer.write_all(b"220 here\r\n").await?;
        let (mut mail, mut in_data) = (String::new(), false);
        while let Some(line) = lines.next_line().await? {
            let command = line.get(..4).unwrap_or_default().to_ascii_uppercase();
            let answer = match (in_data, command.as_str()) {
                (true, _) if line == "." => {
                    keep(&self.mails, std::mem::take(&mut mail));
                    in_data = false;
                    "250 taken\r\n"
                }
                (true, _) => "",
                (false, "DATA") => {
                    in_data = true;
                    "354 go on\r\n"
                }
                (false, "QUIT") => "221 bye\r\n",
                (false, _) => "250 ok\r\n",
            };
            mail.push_str(&line);
            mail.push('\n');
            writer.write_all(answer.as_bytes()).await?;
        }
        Ok(())
    }
}

async fn bind() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap_or_else(|error| panic!("no port: {error}"))
}

fn address(listener: &TcpListener) -> String {
    listener.local_addr().map(|address| address.to_string()).unwrap_or_else(|error| panic!("no address: {error}"))
}

fn keep<T>(list: &Mutex<Vec<T>>, entry: T) {
    let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
    if list.len() < KEPT_MAX {
        list.push(entry);
    }
}
