//! One connection from its first byte to its last.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::Version;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;

use super::stall::StallGuard;
use super::watchdog::{Activity, Verdict, Watchdog};
use super::{ListenerOptions, Peer, Serve, Stream};
use crate::body::BodyError;
use crate::gateway::respond::ResponseBody;

/// Bytes of a request's head, and of what is buffered of a body before it is asked for. A larger head is 431.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// Bytes buffered for each HTTP/2 stream on its way out.
const STREAM_BUFFER_BYTES_MAX: usize = 256 * 1024;
/// An HTTP/2 connection that is silent for this long is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// …and closed when it does not answer for this long.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How far a server has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Phase {
    /// Requests in flight end, and then their connections. Before it there is 0, and nothing stops.
    Draining = 1,
    /// Connections are dropped as they are.
    Closed,
}

/// Tells every connection of a server how far it has stopped. A connection looks at one atomic each time it is polled;
/// only opening and closing one takes a lock.
#[derive(Default)]
pub(super) struct Closing {
    phase: AtomicU8,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    wakers: HashMap<u64, Arc<AtomicWaker>>,
}

/// A connection's place in its [`Closing`].
struct Registration {
    closing: Arc<Closing>,
    number: u64,
    waker: Arc<AtomicWaker>,
}

impl Closing {
    /// Connections that are open now.
    #[cfg(test)]
    pub(super) fn connections(&self) -> usize {
        self.open.lock().wakers.len()
    }

    /// Moves on and wakes every connection, so that it sees it.
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::SeqCst);
        for waker in self.open.lock().wakers.values() {
            waker.wake();
        }
    }

    fn register(self: &Arc<Self>) -> Registration {
        let waker = Arc::new(AtomicWaker::new());
        let mut open = self.open.lock();
        let number = open.next;
        open.next += 1;
        open.wakers.insert(number, Arc::clone(&waker));
        drop(open);
        Registration { closing: Arc::clone(self), number, waker }
    }

    fn has_reached(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::SeqCst) >= phase as u8
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.closing.open.lock().wakers.remove(&self.number);
    }
}

/// Serves a connection until it ends, breaks, or the server has closed.
pub(super) async fn serve<I: Stream + 'static, S: Serve>(
    stream: I,
    peer: Peer,
    service: Arc<S>,
    options: &ListenerOptions,
    closing: Arc<Closing>,
) {
    let registration = closing.register();
    let activity = Arc::new(Activity::default());
    let shared = Arc::new(Shared { service, peer, activity: Arc::clone(&activity) });
    let answer = service_fn(move |request: http::Request<Incoming>| {
        let under_way = UnderWay::begin(&shared, request.version());
        async move {
            let Shared { service, peer, .. } = &*under_way.0;
            let response = service.serve(peer, request).await;
            Ok::<_, std::convert::Infallible>(response.map(|body| Held { body, _under_way: under_way }))
        }
    });
    let builder = builder();
    let io = TokioIo::new(StallGuard::new(stream, options.write_stall_timeout, Arc::clone(&activity)));
    let mut connection = std::pin::pin!(builder.serve_connection(io, answer));
    let mut watchdog = Watchdog::new(options.header_read_timeout);
    let mut is_draining = false;
    let mut is_registered = false;
    let ended = std::future::poll_fn(|context| {
        let verdict = watchdog.judge(&activity, context);
        match verdict {
            Verdict::Go => return Poll::Ready(Ok(())),
            Verdict::Leave => connection.as_mut().graceful_shutdown(),
            Verdict::Stay | Verdict::SayWhy => {}
        }
        // A task's waker stays the same and is used up by a wake, so it is left once for each phase; the phase is read
        // after that, so that no wake is lost.
        if !is_registered {
            is_registered = true;
            registration.waker.register(context.waker());
        }
        if closing.has_reached(Phase::Draining) {
            if !is_draining {
                is_draining = true;
                registration.waker.register(context.waker());
                connection.as_mut().graceful_shutdown();
            }
            if closing.has_reached(Phase::Closed) {
                return Poll::Ready(Ok(()));
            }
        }
        let polled = connection.as_mut().poll(context);
        // It has read, and so said, what there was to say.
        if verdict == Verdict::SayWhy { Poll::Ready(Ok(())) } else { polled }
    });
    if let Err(error) = ended.await {
        // Clients hang up as they like: nothing that an operator could act on.
        tracing::debug!(target: "gateway", %error, "a connection ended early");
    }
}

/// What the requests of one connection share.
struct Shared<S> {
    service: Arc<S>,
    peer: Peer,
    activity: Arc<Activity>,
}

/// One request, from its head to the last of its answer.
struct UnderWay<S>(Arc<Shared<S>>);

impl<S> UnderWay<S> {
    fn begin(shared: &Arc<Shared<S>>, version: Version) -> Self {
        shared.activity.begin(version == Version::HTTP_2);
        Self(Arc::clone(shared))
    }
}

impl<S> Drop for UnderWay<S> {
    fn drop(&mut self) {
        self.0.activity.end();
    }
}

/// An answer's body, whose request is under way as long as it is there.
struct Held<S> {
    body: ResponseBody,
    _under_way: UnderWay<S>,
}

impl<S> HttpBody for Held<S> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        // The watchdog sees to it.
        .header_read_timeout(None::<Duration>)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_concurrent_streams(STREAMS_MAX)
        .max_send_buf_size(STREAM_BUFFER_BYTES_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}
