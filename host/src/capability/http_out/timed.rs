//! How long a request may take and how much may come back; put around the response's body, until its last byte.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;

use super::backend::{EgressError, Timeouts};
use super::{RESPONSE_BYTES_MAX, STREAM_TIMEOUT, TOTAL_TIMEOUT};
use crate::body::{Body, BodyError};
use crate::principal::Call;

/// A target that has less time than this, because its caller has no more left, may fail without a fault of its own.
/// Well below the time of a whole request: a call within one never has quite that.
const PATIENCE_MIN: Duration = Duration::from_secs(10);

/// The deadlines of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    is_hurried: bool,
    head_by: Instant,
    deadline: Instant,
    between_bytes: Duration,
}

/// A response's body within its limits; holds the request's place until it ends.
struct BoundBody {
    inner: Body,
    limits: Limits,
    wake: Pin<Box<Sleep>>,
    bytes_left: u64,
    _permit: OwnedSemaphorePermit,
}

impl Limits {
    /// The shortest of what the host, the call and the guest allow. `Timeout` when the call has no time left.
    pub(super) fn of(call: &Call, timeouts: Timeouts) -> Result<Self, EgressError> {
        let now = Instant::now();
        let deadline = match call.deadline {
            Some(deadline) => deadline.min(now + TOTAL_TIMEOUT),
            None => now + STREAM_TIMEOUT,
        };
        if deadline <= now {
            return Err(EgressError::Timeout);
        }
        // The guest's two times are added up: whether a pooled connection was at hand is not its concern.
        let head = timeouts.first_byte.map_or(TOTAL_TIMEOUT, |first| first + timeouts.connect.unwrap_or_default());
        let head = head.min(TOTAL_TIMEOUT);
        Ok(Self {
            is_hurried: deadline < now + head.min(PATIENCE_MIN),
            head_by: deadline.min(now + head),
            deadline,
            between_bytes: timeouts.between_bytes.unwrap_or(TOTAL_TIMEOUT).min(TOTAL_TIMEOUT),
        })
    }

    /// The end of the whole request.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the caller's remaining time gives the target less than it could ask for. How long the guest itself is ready
    /// to wait is another thing: it knows the target.
    pub(super) fn is_hurried(&self) -> bool {
        self.is_hurried
    }

    /// Waits for a response's head, at most until its deadline.
    pub(super) async fn until_head<T>(
        &self,
        work: impl Future<Output = Result<T, EgressError>>,
    ) -> Result<T, EgressError> {
        tokio::time::timeout_at(self.head_by.into(), work).await.unwrap_or(Err(EgressError::Timeout))
    }

    /// The response with a body that keeps the limits. `ResponseTooLarge` at once where its length is known.
    pub(super) fn bound(
        self,
        response: http::Response<Body>,
        permit: OwnedSemaphorePermit,
    ) -> Result<http::Response<Body>, EgressError> {
        if response.body().size_hint().lower() > RESPONSE_BYTES_MAX {
            return Err(EgressError::ResponseTooLarge(RESPONSE_BYTES_MAX));
        }
        Ok(response.map(|inner| {
            let wake = Box::pin(tokio::time::sleep_until(self.next_wake().into()));
            BoundBody { inner, limits: self, wake, bytes_left: RESPONSE_BYTES_MAX, _permit: permit }.boxed_unsync()
        }))
    }

    fn next_wake(&self) -> Instant {
        self.deadline.min(Instant::now() + self.between_bytes)
    }
}

impl http_body::Body for BoundBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                match this.bytes_left.checked_sub(bytes) {
                    Some(left) => this.bytes_left = left,
                    None => {
                        return Poll::Ready(Some(Err(EgressError::ResponseTooLarge(RESPONSE_BYTES_MAX).into())));
                    }
                }
                if Instant::now() >= this.limits.deadline {
                    return Poll::Ready(Some(Err(EgressError::Timeout.into())));
                }
                let wake = this.limits.next_wake();
                this.wake.as_mut().reset(wake.into());
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(other) => Poll::Ready(other),
            Poll::Pending => match this.wake.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(Some(Err(EgressError::Timeout.into()))),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
