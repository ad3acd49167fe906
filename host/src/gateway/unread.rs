//! Lets go of an answer whose client has stopped taking it, and with it of the guest that writes it.
//!
//! On HTTP/1 a client that does not read stalls its connection, which the listener closes. On HTTP/2 it stalls one stream
//! by giving it no window: nobody asks for the body any more, so somebody else has to look at the clock. A body that waits
//! for its guest is never at fault.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::respond::ResponseBody;
use crate::body::BodyError;

/// How long a client may leave a part of an answer untaken.
pub(crate) const UNREAD_TIME_MAX: Duration = Duration::from_secs(120);
/// A whole body up to here fits into the window that every HTTP/2 stream begins with.
const BYTES_FREE: u64 = 64 * 1024 - 1;
/// The body has been asked for, and its guest is at work.
const WAITS_FOR_GUEST: u64 = 0;

static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A body with somebody who looks at the clock.
pub(crate) struct Watched {
    shared: Arc<Shared>,
    watcher: AbortHandle,
}

struct Shared {
    /// None once it was let go.
    body: Mutex<Option<ResponseBody>>,
    /// When the last part was handed out, in milliseconds since [`BEGINNING`], or [`WAITS_FOR_GUEST`].
    handed_at: AtomicU64,
}

/// Watches `body` where a client could hold it for ever.
pub(super) fn watch(body: ResponseBody, time_max: Duration) -> ResponseBody {
    if body.size_hint().upper().is_some_and(|bytes| bytes <= BYTES_FREE) {
        return body;
    }
    let shared = Arc::new(Shared { body: Mutex::new(Some(body)), handed_at: AtomicU64::new(now()) });
    let watcher = tokio::spawn(look_at_the_clock(Arc::downgrade(&shared), time_max)).abort_handle();
    ResponseBody::Watched(Box::new(Watched { shared, watcher }))
}

async fn look_at_the_clock(shared: Weak<Shared>, time_max: Duration) {
    let millis_max = u64::try_from(time_max.as_millis()).unwrap_or(u64::MAX);
    let mut wait = time_max;
    loop {
        tokio::time::sleep(wait).await;
        let Some(shared) = shared.upgrade() else { return };
        let handed_at = shared.handed_at.load(Ordering::Acquire);
        let passed = now().saturating_sub(handed_at);
        if handed_at == WAITS_FOR_GUEST {
            wait = time_max;
        } else if passed < millis_max {
            wait = Duration::from_millis(millis_max - passed);
        } else {
            // With the body goes the guest's call.
            let body = shared.body.lock().take();
            tracing::debug!(target: "gateway", "a client left its answer unread");
            drop(body);
            return;
        }
    }
}

/// Never [`WAITS_FOR_GUEST`].
fn now() -> u64 {
    u64::try_from(BEGINNING.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
}

impl Watched {
    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut body = self.shared.body.lock();
        let Some(body) = body.as_mut() else {
            return Poll::Ready(Some(Err("the client left the answer unread".into())));
        };
        let polled = Pin::new(body).poll_frame(context);
        let handed_at = if polled.is_pending() { WAITS_FOR_GUEST } else { now() };
        self.shared.handed_at.store(handed_at, Ordering::Release);
        polled
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.shared.body.lock().as_ref().is_some_and(HttpBody::is_end_stream)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.shared.body.lock().as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http_body_util::BodyExt;
    use http_body_util::channel::{Channel, Sender};

    use super::*;

    const TIME_MAX: Duration = Duration::from_millis(100);

    fn stream() -> (Sender<Bytes, BodyError>, ResponseBody) {
        let (sender, channel) = Channel::<Bytes, BodyError>::new(4);
        let body = ResponseBody::stream(channel.boxed_unsync(), &HeaderMap::new(), &"request".into());
        (sender, watch(body, TIME_MAX))
    }

    #[tokio::test]
    async fn a_stream_that_nobody_takes_lets_its_guest_go() {
        let (mut sender, mut body) = stream();
        sender.send_data(Bytes::from_static(b"1")).await.unwrap();
        body.frame().await.unwrap().unwrap();
        let gone = async { while sender.send_data(Bytes::from_static(b"2")).await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the guest was held");
        assert!(body.frame().await.unwrap().is_err(), "what is cut off must not look whole");
    }

    #[tokio::test]
    async fn a_slow_guest_is_waited_for() {
        let (mut sender, mut body) = stream();
        let reading = tokio::spawn(async move { body.frame().await.unwrap().unwrap().into_data().unwrap() });
        tokio::time::sleep(TIME_MAX * 4).await;
        sender.send_data(Bytes::from_static(b"late")).await.expect("the guest was let go");
        assert_eq!(reading.await.unwrap(), "late");
    }

    #[tokio::test]
    async fn a_small_body_needs_nobody() {
        assert!(matches!(watch(ResponseBody::full("small"), TIME_MAX), ResponseBody::Full(_)));
        assert!(matches!(watch(ResponseBody::full(vec![0; 1 << 20]), TIME_MAX), ResponseBody::Watched(_)));
    }
}
