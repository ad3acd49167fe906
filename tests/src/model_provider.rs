//! A provider of language models on loopback that does what a test wants: it answers, refuses, breaks off, or says one
//! word at a time when it is told to.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Bytes of one request.
const REQUEST_BYTES_MAX: usize = 12 << 20;

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as JSON.
    pub body: Value,
}

impl Asked {
    /// A header; empty when it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(header, _)| header == name).map_or("", |(_, value)| value.as_str())
    }

    /// The model that is asked.
    #[must_use]
    pub fn model(&self) -> &str {
        self.body["model"].as_str().unwrap_or_default()
    }

    /// Whether the answer shall come piece by piece.
    #[must_use]
    pub fn streams(&self) -> bool {
        self.body["stream"] == true
    }
}

/// What is done for an answer, one after another.
#[derive(Clone, Debug)]
pub enum Act {
    /// Bytes go out.
    Send(Vec<u8>),
    /// Nothing happens until [`ModelProvider::release`].
    Gate,
    /// Nothing happens any more, and the connection stays.
    Hang,
}

/// How a test answers.
pub type Answering = Arc<dyn Fn(&Asked) -> Vec<Act> + Send + Sync>;

/// The provider; it ends with the test.
pub struct ModelProvider {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    gate: Arc<Semaphore>,
    task: tokio::task::JoinHandle<()>,
}

impl ModelProvider {
    /// Answers as `answering` says.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(answering: Answering) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| panic!("no port: {error}"));
        let port = listener.local_addr().map(|address| address.port()).unwrap_or_default();
        let (asked, gate) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Semaphore::new(0)));
        let (seen, opened) = (Arc::clone(&asked), Arc::clone(&gate));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&answering), Arc::clone(&seen), Arc::clone(&opened)));
            }
        });
        Self { port, asked, gate, task }
    }

    /// `127.0.0.1:<port>`, as a grant lists it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its address, with what comes before `/chat/completions`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address())
    }

    /// Lets so many gates open.
    pub fn release(&self, gates: usize) {
        self.gate.add_permits(gates);
    }

    /// Everything it was asked so far, without the questions which models it has.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        asked.into_iter().filter(|asked| !asked.body.is_null()).collect()
    }

    /// How often a model was asked.
    #[must_use]
    pub fn count(&self, model: &str) -> usize {
        self.asked().iter().filter(|asked| asked.model() == model).count()
    }
}

impl Drop for ModelProvider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer with a length.
#[must_use]
pub fn whole(status: u16, headers: &str, body: &str) -> Vec<Act> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    vec![Act::Send(format!("{head}{body}").into_bytes())]
}

/// An answer of OpenAI's kind.
#[must_use]
pub fn completion(text: &str, prompt_tokens: i64, completion_tokens: i64) -> Vec<Act> {
    let body = json!({
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens},
    });
    whole(200, "", &body.to_string())
}

/// The head of a stream.
#[must_use]
pub fn stream_head() -> Act {
    Act::Send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n".to_vec())
}

/// One word of a stream of OpenAI's kind.
#[must_use]
pub fn word(text: &str) -> Act {
    let chunk = json!({"choices": [{"index": 0, "delta": {"content": text}}]});
    Act::Send(format!("data: {chunk}\n\n").into_bytes())
}

/// The end of a stream of OpenAI's kind.
#[must_use]
pub fn stream_end(prompt_tokens: i64, completion_tokens: i64) -> Act {
    let last = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let usage =
        json!({"choices": [], "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}});
    Act::Send(format!("data: {last}\n\ndata: {usage}\n\ndata: [DONE]\n\n").into_bytes())
}

async fn serve(mut stream: TcpStream, answering: Answering, seen: Arc<Mutex<Vec<Asked>>>, gate: Arc<Semaphore>) {
    let Some(asked) = read(&mut stream).await else { return };
    let acts = answering(&asked);
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    for act in acts {
        match act {
            Act::Send(bytes) => {
                if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
            Act::Gate => match gate.acquire().await {
                Ok(permit) => permit.forget(),
                Err(_) => return,
            },
            Act::Hang => std::future::pending::<()>().await,
        }
    }
    let _ = stream.shutdown().await;
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(buffer.get(..count)?);
        if bytes.len() > REQUEST_BYTES_MAX {
            return None;
        }
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(bytes.get(..end)?).into_owned();
        let mut lines = head.lines();
        let target = lines.next()?.split(' ').nth(1)?.to_owned();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let asked = Asked { target, headers, body: Value::Null };
        let length: usize = asked.header("content-length").parse().unwrap_or(0);
        let body = bytes.get(end + 4..).unwrap_or_default();
        if body.len() >= length {
            return Some(Asked { body: serde_json::from_slice(body).unwrap_or_default(), ..asked });
        }
    }
}
