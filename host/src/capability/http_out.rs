//! The way out: HTTP from a guest to the world and to other plugins, under the host's policy.
//!
//! A request may go only to a name the grant lists, and then only to an address that is public or that the operator
//! lists; the connection is made to exactly the address that was checked. `http://<plugin>.internal/` never leaves the
//! process. Redirects are never followed: the guest sees them, and asking again is checked again, without the credentials
//! of the first request. Credentials that a guest names by `secretId` are put in here, after the policy and before the
//! first attempt; who keeps them is told where they would go in the clear. It must never let a guest's header say who calls.

mod address;
pub(crate) mod backend;
mod breaker;
mod client;
#[cfg(test)]
mod conformance;
mod host;
mod internal;
mod note;
mod policy;
mod replay;
mod timed;

pub(crate) use address::is_this_machine;
pub(crate) use backend::{DispatchError, EgressError, InternalDispatch, Refusal, Timeouts};
pub(crate) use client::tls;
pub(crate) use host::EgressHooks;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use super::Guest;
use super::credentials::{CredentialError, Credentials, References};
use crate::body::Body;
use crate::trace::{Kind, Trace};
use breaker::Breakers;
use client::Clients;
use note::Note;
use policy::Target;
use replay::Replay;

/// How long a connection may take to come up, TLS included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one request may take, from its first attempt to the last byte of its response.
pub(crate) const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);
/// The same for a call without a deadline, which streams; then each part has [`TOTAL_TIMEOUT`] to arrive.
pub(crate) const STREAM_TIMEOUT: Duration = Duration::from_secs(600);
/// The largest request body, in bytes.
pub(crate) const REQUEST_BYTES_MAX: u64 = 10 << 20;
/// The largest response body.
pub(crate) const RESPONSE_BYTES_MAX: u64 = 10 << 20;
/// Internal calls within internal calls.
pub(crate) const DEPTH_MAX: u8 = 8;
/// Requests of one plugin under way at once, until the last byte of their responses; one more is refused.
pub(crate) const IN_FLIGHT_MAX: usize = 256;
/// Attempts at one request, the first included: one and three repetitions.
const ATTEMPTS_MAX: u32 = 4;
/// The pause before the first repetition; doubled each time.
const BACKOFF: Duration = Duration::from_millis(50);

/// Egress for the whole host.
#[derive(Default)]
pub(crate) struct Egress {
    clients: Clients,
    breakers: Breakers,
    in_flight: DashMap<Arc<str>, Arc<Semaphore>>,
    dispatch: OnceLock<Arc<dyn InternalDispatch>>,
    credentials: Credentials,
}

impl Egress {
    /// Connects internal calls to the gateway; once, at the start. Until then they answer `Unavailable`.
    pub(crate) fn set_dispatch(&self, dispatch: Arc<dyn InternalDispatch>) {
        self.credentials.set_dispatch(dispatch.clone());
        if self.dispatch.set(dispatch).is_err() {
            tracing::warn!("internal calls were connected twice; the first connection stays");
        }
    }

    /// What guests name by `secretId`.
    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Sends a guest's request where its grant allows, and returns the response as soon as its head is there. A [`Note`]
    /// among the request's extensions learns which credentials were put in.
    pub(crate) async fn send(
        &self,
        guest: &Guest,
        mut request: http::Request<Body>,
        timeouts: Timeouts,
    ) -> Result<http::Response<Body>, EgressError> {
        // A tunnel is no request: what goes through it would be judged by nobody.
        if *request.method() == http::Method::CONNECT {
            return Err(EgressError::Method);
        }
        let note = request.extensions_mut().remove::<Note>();
        let target = policy::target(&guest.plugin.grant, request.uri())?;
        if guest.call.is_shadow {
            shadow_may(&target, request.method())?;
        }
        let limits = timed::Limits::of(&guest.call, timeouts)?;
        if matches!(target, Target::Internal(_)) && guest.call.depth >= DEPTH_MAX {
            tracing::warn!(plugin = %guest.plugin.name, target = target.name(), request_id = %guest.call.request_id,
                status = 508, "an internal call was refused: {DEPTH_MAX} calls within one another");
            return self.refuse(guest, &target, Refusal::TooDeep);
        }
        let references = References::take(request.headers_mut())?;
        let permit = self.place(&guest.plugin.name)?;
        if !references.is_empty() {
            // After the policy: a credential is asked for only when the request may go where it wants.
            let values = limits.until_head(self.put_in(guest, &target, &references, &limits, &mut request)).await?;
            if let Some(note) = note {
                note.hides(values);
            }
        }
        let breaker = self.breakers.of(&guest.plugin.name, target.name());
        if !breaker.admits(Instant::now()) {
            return self.refuse(guest, &target, Refusal::CircuitOpen);
        }
        let mut span = guest.call.trace.span(Kind::Client, || format!("{} {}", request.method(), target.name()));
        span.note("berth.plugin", || guest.plugin.name.to_string());
        let trace = span.trace_or(&guest.call.trace);
        let answer = limits.until_head(self.attempts(guest, &target, request, &limits, &trace)).await;
        match &answer {
            Ok(response) => span.note("http.response.status_code", || i64::from(response.status().as_u16())),
            Err(_) => span.fail("no answer"),
        }
        // What fails because it is only a copy says nothing of the target.
        if !guest.call.is_shadow {
            breaker.note(&answer, limits.is_hurried(), Instant::now());
        }
        limits.bound(answer?, permit)
    }

    /// Puts credentials in, and says what now stands in the request.
    async fn put_in(
        &self,
        guest: &Guest,
        target: &Target,
        references: &References,
        limits: &timed::Limits,
        request: &mut http::Request<Body>,
    ) -> Result<Vec<Zeroizing<String>>, EgressError> {
        let Target::External(external) = target else {
            return Err(EgressError::Denied("credentials in a call to another plugin".to_owned()));
        };
        let destination = external.destination();
        let put = self.credentials.put_in(guest, references, &destination, limits.deadline(), request).await;
        if matches!(put, Err(CredentialError::Refused)) && external.is_plain() {
            tracing::warn!(plugin = %guest.plugin.name, request_id = %guest.call.request_id, destination,
                "a secret stays out of a request over plain HTTP, unless one of its hosts begins with http://");
        }
        Ok(put?)
    }

    /// Tries, and tries again where nothing can have happened and the whole request is still at hand.
    async fn attempts(
        &self,
        guest: &Guest,
        target: &Target,
        request: http::Request<Body>,
        limits: &timed::Limits,
        trace: &Trace,
    ) -> Result<http::Response<Body>, EgressError> {
        let repeatable = replay::is_repeatable(request.method(), request.headers());
        let (mut head, body) = request.into_parts();
        if let (Target::External(_), Some(parent)) = (target, trace.traceparent()) {
            // The host's word about where the request belongs, not the guest's.
            head.headers.remove("tracestate");
            if let Ok(parent) = parent.parse() {
                head.headers.insert("traceparent", parent);
            }
        }
        let replay = Replay::new(body, REQUEST_BYTES_MAX);
        for attempt in 1.. {
            let request = http::Request::from_parts(head.clone(), replay.attempt());
            let answer = match target {
                Target::Internal(plugin) => {
                    self.dispatch(guest, plugin, request.map(BodyExt::boxed_unsync), limits, trace).await
                }
                Target::External(external) => self.clients.send(&guest.plugin, external, request).await,
            };
            match answer {
                // The connection only ended because the guest's body did.
                Err(_) if replay.is_too_large() => return Err(EgressError::RequestTooLarge(REQUEST_BYTES_MAX)),
                Err(error)
                    if error.is_before_response() && repeatable && attempt < ATTEMPTS_MAX && replay.rewinds() =>
                {
                    tokio::time::sleep(BACKOFF * 2_u32.saturating_pow(attempt - 1)).await;
                }
                answer => return answer,
            }
        }
        Err(EgressError::Unavailable(None))
    }

    async fn dispatch(
        &self,
        guest: &Guest,
        plugin: &str,
        request: http::Request<Body>,
        limits: &timed::Limits,
        trace: &Trace,
    ) -> Result<http::Response<Body>, EgressError> {
        let dispatch = self.dispatch.get().ok_or(EgressError::Unavailable(None))?;
        let call = internal::call(guest, limits.deadline(), trace.clone());
        Ok(dispatch.dispatch(plugin, call, internal::cleaned(request)).await?)
    }

    /// A place among the plugin's requests under way.
    fn place(&self, plugin: &Arc<str>) -> Result<OwnedSemaphorePermit, EgressError> {
        let places = match self.in_flight.get(plugin) {
            Some(places) => places.clone(),
            None => {
                let fresh = || Arc::new(Semaphore::new(IN_FLIGHT_MAX));
                self.in_flight.entry(plugin.clone()).or_insert_with(fresh).clone()
            }
        };
        places.try_acquire_owned().map_err(|_| EgressError::Full)
    }

    /// An internal caller gets a response, as the gateway would give it; an external one an error.
    fn refuse(&self, guest: &Guest, target: &Target, refusal: Refusal) -> Result<http::Response<Body>, EgressError> {
        match (target, self.dispatch.get()) {
            (Target::Internal(_), Some(dispatch)) => Ok(dispatch.refuse(&guest.call, refusal)),
            _ => Err(EgressError::Refused(refusal)),
        }
    }
}

/// A copy of a request may read from other plugins, which then see a copy as well; whoever is outside would not know.
fn shadow_may(target: &Target, method: &http::Method) -> Result<(), EgressError> {
    match target {
        Target::Internal(_) if matches!(*method, http::Method::GET | http::Method::HEAD) => Ok(()),
        _ => Err(EgressError::Denied(format!("a copy of a request to send {method} to {}", target.name()))),
    }
}
