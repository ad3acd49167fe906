//! A connection by hand: nothing here is tried again behind the test's back, so a reset is seen as one.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes of an answer with its head.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Nothing that is tested here stays silent for longer.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// One HTTP/1.1 connection that is kept alive.
pub struct Wire {
    stream: TcpStream,
    address: String,
    read: Vec<u8>,
}

/// An answer as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireAnswer {
    pub status: u16,
    pub body: String,
    /// Whether the host says that the connection ends here.
    pub closes: bool,
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("{address} cannot be reached"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, address: address.to_owned(), read: Vec::new() })
    }

    /// Sends a GET and reads its answer.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no answer.
    pub async fn get(&mut self, path: &str, headers: &str) -> Result<WireAnswer> {
        let head = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n{headers}\r\n", self.address);
        self.send(head.as_bytes()).await?;
        self.answer().await
    }

    /// Sends a JSON body in `pieces`, with a pause before each, and reads the answer.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no answer.
    pub async fn post_slowly(
        &mut self,
        path: &str,
        headers: &str,
        body: &str,
        pieces: usize,
        pause: Duration,
    ) -> Result<WireAnswer> {
        self.begin_post(path, headers, body.len()).await?;
        for piece in body.as_bytes().chunks(body.len().div_ceil(pieces.max(1)).max(1)) {
            tokio::time::sleep(pause).await;
            self.send(piece).await?;
        }
        self.answer().await
    }

    /// Sends the head of a POST with a JSON body that is still to come.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn begin_post(&mut self, path: &str, headers: &str, length: usize) -> Result<()> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\n{headers}content-type: application/json\r\ncontent-length: {length}\r\n\r\n",
            self.address
        );
        self.send(head.as_bytes()).await
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Reads one answer with a `content-length`, or in chunks.
    ///
    /// # Errors
    /// When the connection breaks, nothing comes, or what comes is no answer.
    pub async fn answer(&mut self) -> Result<WireAnswer> {
        tokio::time::timeout(SILENCE_MAX, self.read_answer()).await.context("no answer came")?
    }

    async fn read_answer(&mut self) -> Result<WireAnswer> {
        let head_end = loop {
            if let Some(at) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            self.fill().await?;
        };
        let head = String::from_utf8_lossy(self.read.get(..head_end).unwrap_or_default()).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).context("no status")?;
        let closes = header(&head, "connection") == Some("close");
        if header(&head, "transfer-encoding") == Some("chunked") {
            return Ok(WireAnswer { status, body: self.read_chunks(head_end + 4).await?, closes });
        }
        let length: usize = header(&head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        let end = head_end + 4 + length;
        while self.read.len() < end {
            self.fill().await?;
        }
        let rest = self.read.split_off(end);
        let body = String::from_utf8_lossy(self.read.get(head_end + 4..).unwrap_or_default()).into_owned();
        self.read = rest;
        Ok(WireAnswer { status, body, closes })
    }

    /// A body in chunks that begins at `at`; none of ours has trailers.
    async fn read_chunks(&mut self, mut at: usize) -> Result<String> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                let rest = self.read.get(at..).unwrap_or_default();
                if let Some(length) = rest.windows(2).position(|window| window == b"\r\n") {
                    break String::from_utf8_lossy(rest.get(..length).unwrap_or_default()).into_owned();
                }
                self.fill().await?;
            };
            let size = usize::from_str_radix(&line, 16).context("no size of a chunk")?;
            let (begin, end) = (at + line.len() + 2, at + line.len() + 2 + size);
            while self.read.len() < end + 2 {
                self.fill().await?;
            }
            body.extend_from_slice(self.read.get(begin..end).unwrap_or_default());
            at = end + 2;
            if size == 0 {
                self.read = self.read.split_off(at);
                return Ok(String::from_utf8_lossy(&body).into_owned());
            }
        }
    }

    async fn fill(&mut self) -> Result<()> {
        if self.read.len() > ANSWER_BYTES_MAX {
            bail!("the answer is too long");
        }
        if self.stream.read_buf(&mut self.read).await? == 0 {
            bail!("the host closed the connection");
        }
        Ok(())
    }
}

/// A header of a head in lower case.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
