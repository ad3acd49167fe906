//! Reads a request's body: whole and within a limit, or as a stream that obeys the same limit.
//!
//! A client that stops sending is let go; nothing waits for it for ever.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use super::error::GatewayError;
use crate::body::{Body, BodyError};

/// How long a client may be silent within a body.
pub(super) const IDLE_TIME_MAX: Duration = Duration::from_secs(30);
/// How long a whole body may take, however large it may be.
const BODY_TIME_MAX: Duration = Duration::from_secs(30 * 60);
/// How long every body may take; a larger one may take longer, at this many bytes a second. A client that drips on holds a place
/// among the requests under way, and must not hold it for nothing.
const BODY_TIME_FREE: Duration = Duration::from_secs(60);
const BYTES_PER_SECOND_MIN: usize = 16 * 1024;

/// Bytes of a body that count against nothing: almost every body is smaller.
const FREE_BYTES: usize = 64 * 1024;
/// Bytes of larger bodies that may be in memory at once, over all requests; a request that needs more is told to come
/// again.
const BUDGET_BYTES: usize = 1 << 30;
/// What one permit of the budget stands for.
const UNIT_BYTES: usize = 64 * 1024;

/// Bounds what the bodies of all requests together hold in memory.
#[derive(Clone)]
pub(super) struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BUDGET_BYTES / UNIT_BYTES)))
    }
}

impl Budget {
    /// Makes `held` cover `bytes`.
    fn cover(&self, held: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Result<(), GatewayError> {
        let wanted = bytes.saturating_sub(FREE_BYTES).div_ceil(UNIT_BYTES);
        let missing = wanted.saturating_sub(held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        if missing == 0 {
            return Ok(());
        }
        let missing = u32::try_from(missing).map_err(|_| GatewayError::Busy)?;
        let more = Arc::clone(&self.0).try_acquire_many_owned(missing).map_err(|_| GatewayError::Busy)?;
        match held {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
        Ok(())
    }
}

/// A whole body, and its share of the budget until the request is over.
pub(super) struct Whole {
    pub bytes: Bytes,
    held: Option<OwnedSemaphorePermit>,
}

impl Whole {
    /// No body.
    pub(super) fn empty() -> Self {
        Self { bytes: Bytes::new(), held: None }
    }

    /// The bytes, and what has to be kept as long as they are.
    pub(super) fn into_parts(self) -> (Bytes, Option<OwnedSemaphorePermit>) {
        (self.bytes, self.held)
    }
}

/// Refuses a body that says itself that it is too large, before a byte of it is asked for.
pub(super) fn check_length(headers: &HeaderMap, bytes_max: usize) -> Result<(), GatewayError> {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > bytes_max as u64) {
        return Err(GatewayError::BodyTooLarge(bytes_max));
    }
    Ok(())
}

/// Reads a body whole. Most come in one piece, which then is never copied.
pub(super) async fn read_whole<B>(
    body: B,
    budget: &Budget,
    bytes_max: usize,
    idle_max: Duration,
) -> Result<Whole, GatewayError>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    let announced = body.size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok());
    let time_max = time_for(announced.map_or(bytes_max, |bytes| bytes.min(bytes_max)));
    read_within(body, budget, bytes_max, idle_max, time_max).await
}

/// How long a body of so many bytes may take.
fn time_for(bytes: usize) -> Duration {
    let seconds = u64::try_from(bytes / BYTES_PER_SECOND_MIN).unwrap_or(u64::MAX);
    BODY_TIME_FREE.saturating_add(Duration::from_secs(seconds)).min(BODY_TIME_MAX)
}

async fn read_within<B>(
    mut body: B,
    budget: &Budget,
    bytes_max: usize,
    idle_max: Duration,
    time_max: Duration,
) -> Result<Whole, GatewayError>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    let started = Instant::now();
    let mut only = Bytes::new();
    let mut several = BytesMut::new();
    let mut held = None;
    while !body.is_end_stream() {
        let frame = match tokio::time::timeout(idle_max, body.frame()).await {
            Err(_) => return Err(GatewayError::BodyTimeout),
            Ok(None) => break,
            Ok(Some(Err(error))) => return Err(GatewayError::BodyBroken(error.into())),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        let bytes = only.len() + several.len() + data.len();
        if bytes > bytes_max {
            return Err(GatewayError::BodyTooLarge(bytes_max));
        }
        budget.cover(&mut held, bytes)?;
        if started.elapsed() > time_max {
            return Err(GatewayError::BodyTimeout);
        }
        if only.is_empty() && several.is_empty() {
            only = data;
        } else {
            several.extend_from_slice(&std::mem::take(&mut only));
            several.extend_from_slice(&data);
        }
    }
    Ok(Whole { bytes: if several.is_empty() { only } else { several.freeze() }, held })
}

/// How a streamed request body ended, for the one who waits for the answer.
#[derive(Clone, Default)]
pub(super) struct Verdict(Arc<AtomicU8>);

const SOUND: u8 = 0;
const TOO_LARGE: u8 = 1;
const TOO_SLOW: u8 = 2;

impl Verdict {
    /// What was wrong with the body, if anything: it explains whatever the guest made of it.
    pub(super) fn check(&self, bytes_max: usize) -> Result<(), GatewayError> {
        match self.0.load(Ordering::Acquire) {
            TOO_LARGE => Err(GatewayError::BodyTooLarge(bytes_max)),
            TOO_SLOW => Err(GatewayError::BodyTimeout),
            _ => Ok(()),
        }
    }
}

/// A body on its way into a guest that reads it piece by piece.
pub(super) fn guard<B>(body: B, bytes_max: usize, idle_max: Duration) -> (Body, Verdict)
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    let verdict = Verdict::default();
    if body.is_end_stream() {
        return (crate::body::empty(), verdict);
    }
    let timer = Box::pin(tokio::time::sleep(idle_max));
    let guarded = Guarded { body, left: bytes_max, idle_max, timer, is_waiting: false, verdict: verdict.clone() };
    (guarded.boxed_unsync(), verdict)
}

struct Guarded<B> {
    body: B,
    /// Bytes that may still come.
    left: usize,
    idle_max: Duration,
    timer: Pin<Box<Sleep>>,
    is_waiting: bool,
    verdict: Verdict,
}

impl<B> Guarded<B> {
    fn fail(&self, verdict: u8, text: &'static str) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.verdict.0.store(verdict, Ordering::Release);
        Poll::Ready(Some(Err(text.into())))
    }
}

impl<B> HttpBody for Guarded<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.verdict.0.load(Ordering::Acquire) != SOUND {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Pending => {
                if !this.is_waiting {
                    this.is_waiting = true;
                    this.timer.as_mut().reset(Instant::now() + this.idle_max);
                }
                match this.timer.as_mut().poll(context) {
                    Poll::Ready(()) => this.fail(TOO_SLOW, "the body did not arrive in time"),
                    Poll::Pending => Poll::Pending,
                }
            }
            Poll::Ready(Some(Ok(frame))) => {
                this.is_waiting = false;
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                match this.left.checked_sub(bytes) {
                    Some(left) => {
                        this.left = left;
                        Poll::Ready(Some(Ok(frame)))
                    }
                    None => this.fail(TOO_LARGE, "the body is too large"),
                }
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use http_body_util::channel::Channel;

    use super::*;

    const IDLE: Duration = Duration::from_millis(50);

    async fn read<B>(body: B) -> Result<Bytes, GatewayError>
    where
        B: HttpBody<Data = Bytes> + Unpin,
        B::Error: Into<BodyError>,
    {
        read_whole(body, &Budget::default(), 4, IDLE).await.map(|whole| whole.bytes)
    }

    #[tokio::test]
    async fn all_bodies_together_stay_within_the_budget() {
        let budget = Budget(Arc::new(Semaphore::new(2)));
        let large = || Full::new(Bytes::from(vec![0; FREE_BYTES + UNIT_BYTES]));
        let first = read_whole(large(), &budget, 1 << 20, IDLE).await.unwrap();
        let _second = read_whole(large(), &budget, 1 << 20, IDLE).await.unwrap();
        assert!(matches!(read_whole(large(), &budget, 1 << 20, IDLE).await, Err(GatewayError::Busy)));
        let small = Full::new(Bytes::from(vec![0; FREE_BYTES]));
        assert!(read_whole(small, &budget, 1 << 20, IDLE).await.is_ok());
        drop(first);
        assert!(read_whole(large(), &budget, 1 << 20, IDLE).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_is_read_whole_however_many_pieces_it_comes_in() {
        let (mut sender, channel) = Channel::<Bytes, BodyError>::new(8);
        for piece in ["", "a", "", "bc", "d", ""] {
            sender.send_data(Bytes::from_static(piece.as_bytes())).await.unwrap();
        }
        drop(sender);
        assert_eq!(read(channel).await.unwrap(), "abcd");
        assert_eq!(read(Full::new(Bytes::from_static(b"abcd"))).await.unwrap(), "abcd");
    }

    #[tokio::test]
    async fn one_byte_too_many_is_refused() {
        let whole = read(Full::new(Bytes::from_static(b"abcde"))).await;
        assert!(matches!(whole, Err(GatewayError::BodyTooLarge(4))));
        let (mut sender, channel) = Channel::<Bytes, BodyError>::new(8);
        for _ in 0..5 {
            sender.send_data(Bytes::from_static(b"a")).await.unwrap();
        }
        assert!(matches!(read(channel).await, Err(GatewayError::BodyTooLarge(4))));
    }

    #[tokio::test]
    async fn a_silent_client_is_let_go() {
        let (_sender, channel) = Channel::<Bytes, BodyError>::new(1);
        assert!(matches!(read(channel).await, Err(GatewayError::BodyTimeout)));
        let (_sender, channel) = Channel::<Bytes, BodyError>::new(1);
        let (body, verdict) = guard(channel, 4, IDLE);
        assert!(body.collect().await.is_err());
        assert!(matches!(verdict.check(4), Err(GatewayError::BodyTimeout)));
    }

    #[tokio::test]
    async fn a_client_that_drips_on_is_let_go() {
        let (mut sender, channel) = Channel::<Bytes, BodyError>::new(1);
        let dripping = async {
            while sender.send_data(Bytes::from_static(b"a")).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let (budget, patience) = (Budget::default(), Duration::from_secs(60));
        let (read, ()) = tokio::join!(read_within(channel, &budget, usize::MAX, patience, IDLE), dripping);
        assert!(matches!(read, Err(GatewayError::BodyTimeout)));
    }

    #[test]
    fn a_larger_body_may_take_longer() {
        assert_eq!(time_for(0), Duration::from_secs(60));
        assert_eq!(time_for(1 << 20), Duration::from_secs(60 + 64));
        assert_eq!(time_for(usize::MAX), BODY_TIME_MAX);
    }

    #[tokio::test]
    async fn a_streamed_body_obeys_the_same_limit() {
        let (body, verdict) = guard(Full::new(Bytes::from_static(b"abcde")), 4, IDLE);
        assert!(body.collect().await.is_err());
        assert!(matches!(verdict.check(4), Err(GatewayError::BodyTooLarge(4))));
        let (body, verdict) = guard(Full::new(Bytes::from_static(b"abcd")), 4, IDLE);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abcd");
        assert!(verdict.check(4).is_ok());
    }

    #[test]
    fn a_length_that_is_too_large_is_refused_at_once() {
        let mut headers = HeaderMap::new();
        assert!(check_length(&headers, 4).is_ok());
        headers.insert(CONTENT_LENGTH, http::HeaderValue::from_static("5"));
        assert!(matches!(check_length(&headers, 4), Err(GatewayError::BodyTooLarge(4))));
    }
}
