//! Streaming calls: `wasi:http` 0.2 and 0.3, bodies passed on as they come.
//!
//! The guest runs in a task of its own, because it goes on after its headers are out. The task ends with the guest, with
//! the client, with the deadline or with the build, whichever is first.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_channel::oneshot;
use http_body::Frame;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use wasmtime::AsContextMut;
use wasmtime_wasi_http::handler::{Prepared, Proxy};
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{Error, WasiBody, WasiHttpView};

use super::pool::Instance;
use super::revision::Admission;
use super::state::State;
use super::{CallError, Revision};
use crate::body::{Body, BodyError};
use crate::principal::Call;

/// How long a guest may go on after its response body has ended.
const AFTERWORK_MAX: Duration = Duration::from_secs(5);

/// The last event of a stream whose build was withdrawn: clients reconnect and reach the new one.
const WITHDRAWN_EVENT: &[u8] = b"event: error\ndata: {\"type\":\"urn:berth:problem:service-unavailable\",\"title\":\"Service unavailable\",\"status\":503,\"code\":\"SERVICE_UNAVAILABLE\",\"detail\":\"A new build serves this route; connect again.\"}\n\n";

type Answer = Result<http::Response<WasiBody>, wasmtime::Error>;

/// The call's place among those of its build, held by the guest's task and by the body. A guest that failed gives it up at
/// once: a client that does not read what is left must not keep others out.
type Place = Arc<Mutex<Option<Admission<Arc<Revision>>>>>;

impl Revision {
    /// Answers one HTTP request through `wasi:http`, whichever version the component exports. A call without a deadline
    /// is a stream: it must begin within the request timeout and may then take as long as its client stays.
    ///
    /// # Errors
    /// As [`Revision::handle`]. After the headers are out, a failure ends the body with an error.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        call: Call,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, CallError> {
        let place: Place = Arc::new(Mutex::new(Some(Self::admit(Arc::clone(self)).await?)));
        let deadline = call.deadline.map(Instant::from_std);
        let instance = self.take_instance(call).await?;
        if instance.http.is_none() {
            return Err(CallError::NotExported("wasi:http"));
        }
        let stop = self.cancelled.child_token();
        let guard = stop.clone().drop_guard();
        let ended = CancellationToken::new();
        let (sender, receiver) = oneshot::channel();
        let has_failed = Arc::new(AtomicBool::new(false));
        let ends = Ends { stop, ended: ended.clone(), deadline, has_failed: has_failed.clone() };
        let (revision, ticked) = (self.clone(), Arc::clone(&instance.ticked));
        let running = Box::pin(run(self.clone(), instance, request, sender, ends, place.clone()));
        let task = tokio::spawn(async move {
            let is_deep = revision.trouble.is_deep();
            revision.engine.lanes.run(&ticked, is_deep, &revision.usage, running).await?
        });
        let begin = deadline.unwrap_or_else(|| Instant::now() + self.plugin.limits.request_timeout);
        let answer = tokio::select! {
            biased;
            answer = tokio::time::timeout_at(begin, receiver) => answer.map_err(|_| CallError::TimedOut)?,
            () = self.cancelled.cancelled() => return Err(CallError::Cancelled),
        };
        match answer {
            Ok(Ok(response)) => {
                let is_event_stream = response
                    .headers()
                    .get(http::header::CONTENT_TYPE)
                    .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
                let cancelled = Box::pin(self.cancelled.clone().cancelled_owned());
                let (ended, stop) = (Some(ended.drop_guard()), Some(guard));
                Ok(response.map(|inner| {
                    let _place = place;
                    Stream { inner, cancelled, ended, stop, has_failed, is_event_stream, is_over: false, _place }
                        .boxed_unsync()
                }))
            }
            // The guest said no, or was gone before it said anything: the task knows why.
            Ok(Err(error)) => {
                drop(ended.drop_guard());
                match task.await {
                    Ok(Err(failure)) => Err(failure),
                    _ => Err(CallError::BadAnswer(super::error::first_line(&error))),
                }
            }
            Err(_) => match task.await {
                Ok(Err(failure)) => Err(failure),
                _ => Err(CallError::BadAnswer("it ended without a response".into())),
            },
        }
    }
}

/// What ends a guest's task, and what the task says of its end.
struct Ends {
    /// The client is gone, or the build is withdrawn.
    stop: CancellationToken,
    /// The last byte of the body is out.
    ended: CancellationToken,
    deadline: Option<Instant>,
    /// Set before the guest's end of the body goes, when the guest did not come to its end by itself.
    has_failed: Arc<AtomicBool>,
}

/// Runs the guest to its end in a task of its own.
async fn run(
    revision: Arc<Revision>,
    mut instance: Box<Instance>,
    request: http::Request<Body>,
    sender: oneshot::Sender<Answer>,
    ends: Ends,
    place: Place,
) -> Result<(), CallError> {
    let Ends { stop, ended, deadline, has_failed } = ends;
    let request = request.map(|body| {
        // Whatever broke the client's body, the guest sees a connection that ended.
        body.map_err(|_| Error::ConnectionTerminated).boxed_unsync()
    });
    let over = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => {
                ended.cancelled().await;
                tokio::time::sleep(AFTERWORK_MAX).await;
            }
        }
    };
    let result = tokio::select! {
        biased;
        result = call(&mut instance, request, sender, &ended) => Ok(result),
        // Who waits for the answer may have seen the deadline first.
        () = stop.cancelled() => Err(match deadline {
            Some(deadline) if Instant::now() >= deadline => CallError::TimedOut,
            _ => CallError::Cancelled,
        }),
        () = over => Err(CallError::TimedOut),
    };
    // With the instance goes its end of the body, which alone looks like the end of a whole one.
    has_failed.store(!matches!(result, Ok(Ok(()))), Ordering::Release);
    let outcome = revision.settle(instance, result, None).await;
    if outcome.is_err() {
        place.lock().take();
    }
    outcome
}

async fn call(
    instance: &mut Instance,
    request: http::Request<WasiBody>,
    sender: oneshot::Sender<Answer>,
    ended: &CancellationToken,
) -> wasmtime::Result<()> {
    let store = &mut instance.store;
    match instance.http.as_ref() {
        Some(Proxy::P2(proxy)) => {
            let (answer, response) = tokio::sync::oneshot::channel();
            let request = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
            let out = store.data_mut().http().new_response_outparam(answer)?;
            let mut running = std::pin::pin!(proxy.wasi_http_incoming_handler().call_handle(&mut *store, request, out));
            let mut response = std::pin::pin!(response);
            let early = tokio::select! {
                biased;
                result = &mut running => Some(result),
                answer = &mut response => { forward(answer, sender)?; return running.await; }
            };
            // The guest has returned: its answer, if there is one, is in the channel.
            if let Some(result) = early {
                result?;
            }
            forward(response.await, sender)
        }
        Some(proxy @ Proxy::P3(_)) => {
            let prepared = Prepared::new(store.as_context_mut(), proxy, request, State::http, sender)?;
            store
                .run_concurrent(async |accessor| {
                    prepared.run(accessor, std::future::pending()).await?;
                    // The body is fed from this loop: it must turn until the last byte is out.
                    ended.cancelled().await;
                    Ok::<_, wasmtime::Error>(())
                })
                .await?
        }
        None => Ok(()),
    }
}

type Outparam = Result<
    Result<http::Response<WasiBody>, wasmtime_wasi_http::p2::bindings::http::types::ErrorCode>,
    tokio::sync::oneshot::error::RecvError,
>;

fn forward(answer: Outparam, sender: oneshot::Sender<Answer>) -> wasmtime::Result<()> {
    match answer {
        Ok(Ok(response)) => drop(sender.send(Ok(response))),
        Ok(Err(code)) => drop(sender.send(Err(wasmtime::format_err!("the guest answered {code:?}")))),
        Err(_) => drop(sender.send(Err(wasmtime::format_err!("the guest set no response")))),
    }
    Ok(())
}

/// A response body on its way out. While it lives the revision is not drained; when it is dropped the guest is stopped.
struct Stream {
    inner: WasiBody,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Dropped at the last byte: lets the guest finish what it does afterwards.
    ended: Option<DropGuard>,
    /// Dropped before the last byte: the client is gone.
    stop: Option<DropGuard>,
    has_failed: Arc<AtomicBool>,
    is_event_stream: bool,
    is_over: bool,
    _place: Place,
}

impl Stream {
    fn finish(&mut self) {
        self.is_over = true;
        if let Some(stop) = self.stop.take() {
            stop.disarm();
        }
        self.ended.take();
    }
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if self.cancelled.as_mut().poll(context).is_ready() {
            self.is_over = true;
            // Dropping `stop` ends the guest; an event stream says why, any other body ends with an error.
            self.stop.take();
            return Poll::Ready(Some(if self.is_event_stream {
                Ok(Frame::data(Bytes::from_static(WITHDRAWN_EVENT)))
            } else {
                Err(Box::new(CallError::Cancelled))
            }));
        }
        match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
            Some(Ok(frame)) => {
                if self.inner.is_end_stream() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.is_over = true;
                self.stop.take();
                Poll::Ready(Some(Err(error.to_string().into())))
            }
            None if self.has_failed.load(Ordering::Acquire) => {
                self.is_over = true;
                Poll::Ready(Some(Err("the guest ended before its body did".into())))
            }
            None => {
                self.finish();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}
