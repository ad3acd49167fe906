//! A request body that can be sent again: what has been read is remembered as long as it is small.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, Method};
use http_body::{Body as _, Frame, SizeHint};
use parking_lot::Mutex;

use super::backend::EgressError;
use crate::body::{Body, BodyError};

/// Bytes remembered; a larger body is sent once.
const REMEMBERED_BYTES_MAX: usize = 64 << 10;
/// The header that makes any request safe to repeat.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Whether repeating the request is safe: by its method, or by a key that the target dedupes on.
pub(super) fn is_repeatable(method: &Method, headers: &HeaderMap) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
        || headers.contains_key(IDEMPOTENCY_KEY)
}

/// The guest's body behind every attempt.
pub(super) struct Replay {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    source: Body,
    remembered: Vec<Bytes>,
    remembered_bytes: usize,
    /// More was read than is remembered.
    overflown: bool,
    bytes: u64,
    bytes_max: u64,
    too_large: bool,
    /// The attempt that may read; an older one that lingers in a connection gets an error.
    attempt: u32,
}

/// One attempt's body.
pub(super) struct Attempt {
    shared: Arc<Mutex<Shared>>,
    number: u32,
    again: VecDeque<Bytes>,
}

impl Replay {
    pub(super) fn new(source: Body, bytes_max: u64) -> Self {
        let too_large = source.size_hint().lower() > bytes_max;
        let shared = Shared {
            source,
            remembered: Vec::new(),
            remembered_bytes: 0,
            overflown: false,
            bytes: 0,
            bytes_max,
            too_large,
            attempt: 0,
        };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// The body from its beginning, for the next attempt. Only the first one, unless [`Replay::rewinds`].
    pub(super) fn attempt(&self) -> Attempt {
        let mut shared = self.shared.lock();
        shared.attempt += 1;
        let again = shared.remembered.iter().cloned().collect();
        Attempt { shared: self.shared.clone(), number: shared.attempt, again }
    }

    /// Whether everything read so far is still at hand.
    pub(super) fn rewinds(&self) -> bool {
        let shared = self.shared.lock();
        !shared.overflown && !shared.too_large
    }

    /// Whether the guest's body was over its limit.
    pub(super) fn is_too_large(&self) -> bool {
        self.shared.lock().too_large
    }
}

impl Shared {
    fn note(&mut self, data: &Bytes) -> Result<(), BodyError> {
        self.bytes += data.len() as u64;
        if self.bytes > self.bytes_max {
            self.too_large = true;
            return Err(EgressError::RequestTooLarge(self.bytes_max).into());
        }
        if self.overflown || self.remembered_bytes + data.len() > REMEMBERED_BYTES_MAX {
            self.overflown = true;
            self.remembered.clear();
        } else {
            self.remembered_bytes += data.len();
            self.remembered.push(data.clone());
        }
        Ok(())
    }
}

impl http_body::Body for Attempt {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(data) = self.again.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let number = self.number;
        let mut shared = self.shared.lock();
        if shared.attempt != number {
            return Poll::Ready(Some(Err("another attempt has taken over".into())));
        }
        if shared.too_large {
            return Poll::Ready(Some(Err(EgressError::RequestTooLarge(shared.bytes_max).into())));
        }
        let polled = Pin::new(&mut shared.source).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            match frame.data_ref() {
                Some(data) => {
                    let data = data.clone();
                    if let Err(error) = shared.note(&data) {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                // Trailers are not remembered.
                None => shared.overflown = true,
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.again.is_empty() && self.shared.lock().source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let again: u64 = self.again.iter().map(|data| data.len() as u64).sum();
        let rest = self.shared.lock().source.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(again));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(again));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_small_body_can_be_sent_again_from_any_point() {
        let frames = ["one", "two", "three"].map(|text| Ok::<_, BodyError>(Frame::data(Bytes::from(text))));
        let source = http_body_util::StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        let replay = Replay::new(source, 1024);
        let mut first = replay.attempt();
        first.frame().await.unwrap().unwrap();
        first.frame().await.unwrap().unwrap();
        assert!(replay.rewinds());
        let second = replay.attempt();
        assert!(first.frame().await.unwrap().is_err(), "the older attempt must not take what the newer needs");
        assert_eq!(body::collect(second, 1024).await.unwrap(), "onetwothree");
        assert_eq!(body::collect(replay.attempt(), 1024).await.unwrap(), "onetwothree");
    }

    #[tokio::test]
    async fn a_large_body_is_sent_once_and_an_oversized_one_not_at_all() {
        let replay = Replay::new(body::full(vec![0; REMEMBERED_BYTES_MAX + 1]), 1 << 20);
        body::collect(replay.attempt(), 1 << 20).await.unwrap();
        assert!(!replay.rewinds() && !replay.is_too_large());
        let replay = Replay::new(body::full(vec![0; 101]), 100);
        assert!(body::collect(replay.attempt(), 1 << 20).await.is_err());
        assert!(replay.is_too_large());
    }

    #[test]
    fn only_what_is_idempotent_is_repeated() {
        let mut headers = HeaderMap::new();
        assert!(is_repeatable(&Method::GET, &headers) && is_repeatable(&Method::PUT, &headers));
        assert!(is_repeatable(&Method::DELETE, &headers));
        assert!(!is_repeatable(&Method::POST, &headers) && !is_repeatable(&Method::PATCH, &headers));
        headers.insert("idempotency-key", "k".parse().unwrap());
        assert!(is_repeatable(&Method::POST, &headers));
    }
}
