//! Server-sent events of the host itself: frames as they come, a sign of life in between, and an end in good time.
//!
//! A stream must never keep a host from stopping, nor outlive the token it was opened with for long: it ends, and who
//! followed it comes back with the id of the last event.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::gateway::error::GatewayError;
use crate::gateway::respond::{self, ResponseBody};

/// Streams at once.
const STREAMS_MAX: usize = 64;
/// A stream is silent for no longer than this.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// A stream ends after this, and its follower has to prove once more who it is.
const STREAM_TIME_MAX: Duration = Duration::from_secs(15 * 60);
/// A comment: it tells the follower that the stream has begun, or still lives.
const SIGN_OF_LIFE: Bytes = Bytes::from_static(b":\n\n");

/// The host's streams.
pub(in crate::gateway) struct Streams {
    permits: Arc<Semaphore>,
    stopping: CancellationToken,
}

impl Default for Streams {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(STREAMS_MAX)), stopping: CancellationToken::new() }
    }
}

/// An open stream on its way through.
struct Live {
    frames: BoxStream<'static, Bytes>,
    stopping: CancellationToken,
    ends_at: Instant,
    has_begun: bool,
    _permit: OwnedSemaphorePermit,
}

impl Streams {
    /// Ends every stream: the host stops.
    pub(in crate::gateway) fn end(&self) {
        self.stopping.cancel();
    }

    /// An answer that sends `frames` until they end.
    ///
    /// # Errors
    /// `Busy` when too many streams are open.
    pub(super) fn open(
        &self,
        frames: impl Stream<Item = Bytes> + Send + 'static,
        request_id: &Arc<str>,
    ) -> Result<Response<ResponseBody>, GatewayError> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| GatewayError::Busy)?;
        let live = Live {
            frames: frames.boxed(),
            stopping: self.stopping.clone(),
            ends_at: Instant::now() + STREAM_TIME_MAX,
            has_begun: false,
            _permit: permit,
        };
        let parts = stream::unfold(live, |mut live| async move {
            let bytes = live.next().await?;
            Some((Ok::<_, Infallible>(Frame::data(bytes)), live))
        });
        let body: Body = StreamBody::new(parts).map_err(|never| match never {}).boxed_unsync();
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        respond::from_stream(response, request_id)
    }
}

impl Live {
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.has_begun, true) {
            return Some(SIGN_OF_LIFE);
        }
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => None,
            () = tokio::time::sleep_until(self.ends_at) => None,
            frame = self.frames.next() => frame,
            () = tokio::time::sleep(SILENCE_MAX) => Some(SIGN_OF_LIFE),
        }
    }
}

/// One event with its id.
pub(super) fn frame(kind: &str, id: impl std::fmt::Display, data: &impl Serialize) -> Bytes {
    Bytes::from(format!("id: {id}\nevent: {kind}\ndata: {}\n\n", text(data)))
}

/// One event without an id: it does not move the place of who comes back.
pub(super) fn notice(kind: &str, data: &impl Serialize) -> Bytes {
    Bytes::from(format!("event: {kind}\ndata: {}\n\n", text(data)))
}

/// JSON on one line. What is sent here has only text keys and finite numbers, so that nothing can fail.
fn text(data: &impl Serialize) -> String {
    serde_json::to_string(data).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    async fn read(response: Response<ResponseBody>) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_stream_begins_with_a_sign_of_life_and_sends_its_frames() {
        let frames = stream::iter([frame("log", 7, &serde_json::json!({"a": "b\nc"})), notice("missed", &3)]);
        let response = Streams::default().open(frames, &"r".into()).unwrap();
        assert_eq!(response.headers().get(CONTENT_TYPE).unwrap(), "text/event-stream");
        let sent = read(response).await;
        assert_eq!(sent, ":\n\nid: 7\nevent: log\ndata: {\"a\":\"b\\nc\"}\n\nevent: missed\ndata: 3\n\n");
    }

    #[tokio::test]
    async fn streams_end_with_the_host_and_are_not_endlessly_many() {
        let streams = Streams::default();
        let open: Vec<_> = (0..STREAMS_MAX).map(|_| streams.open(stream::pending(), &"r".into()).unwrap()).collect();
        assert!(matches!(streams.open(stream::pending(), &"r".into()), Err(GatewayError::Busy)));
        streams.end();
        for response in open {
            assert_eq!(read(response).await, ":\n\n");
        }
        assert!(streams.open(stream::empty(), &"r".into()).is_ok(), "their places are free again");
    }
}
