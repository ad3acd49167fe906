//! Reading server-sent events as a browser does.

use reqwest::Method;
use serde_json::Value;

use crate::Client;
use crate::wait::PATIENCE;

/// One server-sent event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its type.
    pub kind: String,
    pub id: Option<String>,
    /// Null when it is no JSON.
    pub data: Value,
}

/// A stream that is being read.
pub struct EventStream {
    response: reqwest::Response,
    /// What has come and was not read yet.
    bytes: Vec<u8>,
}

impl EventStream {
    /// Opens it, after the event of this id; none when there is no stream.
    pub async fn open(client: &Client, path: &str, last: Option<&str>) -> Option<Self> {
        let mut request = client.request(Method::GET, path);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        Self::of(request).await
    }

    /// Opens what a request answers; none when that is no stream.
    pub async fn of(request: reqwest::RequestBuilder) -> Option<Self> {
        let response = request.send().await.ok().filter(|response| response.status() == 200)?;
        Some(Self { response, bytes: Vec::new() })
    }

    /// The next event; none at the end.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.bytes.windows(2).position(|pair| pair == b"\n\n") {
                let block = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
                self.bytes.drain(..end + 2);
                let field = |name: &str| {
                    block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
                };
                let kind = field("event").unwrap_or_default();
                if !kind.is_empty() {
                    let data = serde_json::from_str(&field("data").unwrap_or_default()).unwrap_or_default();
                    return Some(Event { kind, id: field("id"), data });
                }
                continue;
            }
            let chunk = self.response.chunk().await.ok()??;
            self.bytes.extend_from_slice(&chunk);
        }
    }

    /// The next event of a kind.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn wait_for(&mut self, kind: &str) -> Event {
        let wait = async {
            loop {
                let event = self.next().await.expect("the stream goes on");
                if event.kind == kind {
                    return event;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the event in time")
    }
}
