//! Reading server-sent events of a host, and following them over broken connections.

use std::time::{Duration, Instant};

use reqwest::StatusCode;

use super::CommandError;
use super::client::Client;
use super::output;

/// Bytes of one event; a host sends nothing longer.
const EVENT_BYTES_MAX: usize = 1024 * 1024;
/// How long a lost host is looked for.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause before coming back.
const PAUSE: Duration = Duration::from_millis(500);

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerEvent {
    pub kind: String,
    pub id: Option<String>,
    pub data: String,
}

/// A stream that is being read.
pub(super) struct EventStream {
    response: reqwest::Response,
    /// What has come and was not read yet.
    bytes: Vec<u8>,
}

impl EventStream {
    pub(super) fn of(response: reqwest::Response) -> Self {
        Self { response, bytes: Vec::new() }
    }

    /// The next event; none at the end, however that came.
    async fn next(&mut self) -> Option<ServerEvent> {
        loop {
            while let Some(block) = take_block(&mut self.bytes) {
                if let Some(event) = event(&block) {
                    return Some(event);
                }
            }
            if self.bytes.len() > EVENT_BYTES_MAX {
                return None;
            }
            let chunk = self.response.chunk().await.ok()??;
            self.bytes.extend_from_slice(&chunk);
        }
    }
}

/// Shows every event until `show` wants no more, and comes back where it was when the connection breaks.
///
/// # Errors
/// A refusal, or a host that cannot be reached: at first, or for [`PATIENCE`].
pub(super) async fn follow(
    client: &Client,
    path: &str,
    mut show: impl FnMut(&ServerEvent) -> bool,
) -> Result<(), CommandError> {
    let mut last: Option<String> = None;
    let mut connected_at: Option<Instant> = None;
    loop {
        match (client.stream(path, last.as_deref()).await, connected_at) {
            (Ok(Ok(mut events)), _) => {
                while let Some(event) = events.next().await {
                    if event.id.is_some() {
                        last.clone_from(&event.id);
                    }
                    if !show(&event) {
                        return Ok(());
                    }
                }
                connected_at = Some(Instant::now());
                output::progress("the stream has ended; going on where it was");
            }
            // It may be on its way down or up.
            (Ok(Err(answer)), Some(at))
                if answer.status == StatusCode::SERVICE_UNAVAILABLE && at.elapsed() < PATIENCE => {}
            (Ok(Err(answer)), _) => return Err(answer.refusal()),
            (Err(CommandError::Unreachable { .. }), Some(at)) if at.elapsed() < PATIENCE => {}
            (Err(error), _) => return Err(error),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Takes the first whole block out of what has come.
fn take_block(bytes: &mut Vec<u8>) -> Option<String> {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n")?;
    let block = bytes.drain(..end + 2).collect::<Vec<u8>>();
    Some(String::from_utf8_lossy(&block).into_owned())
}

/// What a block says; none for a comment.
fn event(block: &str) -> Option<ServerEvent> {
    let field = |name: &str| {
        let values = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        values.map(|value| value.strip_prefix(' ').unwrap_or(value)).collect::<Vec<_>>()
    };
    let data = field("data");
    let last = |name: &str| field(name).last().map(|value| (*value).to_owned());
    let kind = last("event").unwrap_or_else(|| "message".to_owned());
    (!data.is_empty()).then(|| ServerEvent { kind, id: last("id"), data: data.join("\n") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_whole_and_comments_are_none() {
        let mut bytes = b":\n\nid: 7\nevent: log\ndata: {\"a\":1}\n\ndata: x\ndata: y\n\nid: 8\nda".to_vec();
        let mut blocks = Vec::new();
        while let Some(block) = take_block(&mut bytes) {
            blocks.push(event(&block));
        }
        let of = |kind: &str, id: Option<&str>, data: &str| {
            Some(ServerEvent { kind: kind.into(), id: id.map(str::to_owned), data: data.into() })
        };
        assert_eq!(blocks, [None, of("log", Some("7"), "{\"a\":1}"), of("message", None, "x\ny")]);
        assert_eq!(bytes, b"id: 8\nda", "the rest waits for more");
    }
}
