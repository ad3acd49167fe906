//! One request on its way through the stages: what they need of each other, and the line it leaves in the access log.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{HeaderName, Method, StatusCode, Uri};

use super::forward::deadline;
use super::listener::Peer;
use super::throttle::Rate;
use crate::principal::{Call, Principal};
use crate::telemetry;
use crate::telemetry::meter::Meter;
use crate::trace::{Kind, Span, Trace, Tracer};

/// Brings the tree that a request belongs to.
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Status in the access log for a client that did not wait for its answer.
const CLIENT_GONE: u16 = 499;

/// The request's companion from the first stage to the last.
pub(super) struct Exchange {
    pub request_id: Arc<str>,
    /// None for a call from another plugin.
    pub ip: Option<IpAddr>,
    /// What the answer says of the rate limit.
    pub rate: Option<Rate>,
    started: Instant,
    /// Where the answer is counted.
    meter: Option<Arc<Meter>>,
    span: Span,
    /// Who answers; known only where somebody traces it.
    pub plugin: Option<Arc<str>>,
    /// The call of another plugin that this request is part of.
    outer: Option<Box<Call>>,
    /// Sent to a build that is only looked at.
    is_shadow: bool,
    log: Option<AccessEntry>,
}

/// What the access log will say; made only when somebody listens.
struct AccessEntry {
    request_id: Arc<str>,
    started: Instant,
    ip: IpAddr,
    method: Method,
    uri: Uri,
    /// Instead of the path, where the path may be a secret.
    template: Option<String>,
    plugin: Option<Arc<str>>,
    revision: Option<Arc<str>>,
    user_id: Option<Arc<str>>,
    status: Option<StatusCode>,
}

impl Exchange {
    pub(super) fn begin(peer: &Peer, parts: &Parts, request_id: Arc<str>, tracer: &Tracer) -> Self {
        let mut span = Span::default();
        if tracer.is_on() {
            let parent = parts.headers.get(TRACEPARENT).and_then(|value| value.to_str().ok());
            span = tracer.begin(parent, Kind::Server, || parts.method.to_string());
            span.note("http.request.method", || parts.method.to_string());
            span.note("berth.request.id", || request_id.to_string());
        }
        let started = Instant::now();
        let log = telemetry::logs_access().then(|| AccessEntry {
            request_id: Arc::clone(&request_id),
            started,
            ip: peer.ip,
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            template: None,
            plugin: None,
            revision: None,
            user_id: None,
            status: None,
        });
        Self {
            request_id,
            ip: Some(peer.ip),
            rate: None,
            started,
            meter: None,
            span,
            plugin: None,
            outer: None,
            is_shadow: false,
            log,
        }
    }

    /// For a request that another plugin sends: it belongs to that plugin's call, and is logged there.
    pub(super) fn within(call: Call) -> Self {
        Self {
            request_id: Arc::clone(&call.request_id),
            ip: None,
            rate: None,
            started: Instant::now(),
            meter: None,
            span: Span::default(),
            plugin: None,
            outer: Some(Box::new(call)),
            is_shadow: false,
            log: None,
        }
    }

    /// The same for a task that outlives its client.
    pub(super) fn detached(&self) -> Self {
        Self {
            request_id: Arc::clone(&self.request_id),
            ip: self.ip,
            rate: None,
            started: self.started,
            meter: None,
            span: self.trace().span(Kind::Internal, || "detached".to_owned()),
            plugin: self.plugin.clone(),
            outer: self.outer.clone(),
            is_shadow: self.is_shadow,
            log: None,
        }
    }

    /// A copy of the request whose effects do not count.
    pub(super) fn shadow(&self) -> Self {
        Self { is_shadow: true, ..self.detached() }
    }

    /// Whether it tells how the build fares: not when it only belongs to a copy that another build was sent.
    pub(super) fn counts(&self) -> bool {
        !self.outer.as_ref().is_some_and(|call| call.is_shadow)
    }

    /// The guest call this becomes, which begins `now`.
    pub(super) fn call(&self, principal: Arc<Principal>, time_max: Option<Duration>, now: Instant) -> Call {
        let outer = self.outer.as_deref();
        Call {
            principal,
            request_id: Arc::clone(&self.request_id),
            source_service: outer.and_then(|call| call.source_service.clone()),
            causation_id: outer.and_then(|call| call.causation_id.clone()),
            correlation_id: outer.and_then(|call| call.correlation_id.clone()),
            depth: outer.map_or(0, |call| call.depth),
            deadline: deadline(now, time_max, outer.and_then(|call| call.deadline)),
            trace: self.trace(),
            is_shadow: self.is_shadow || outer.is_some_and(|call| call.is_shadow),
        }
    }

    /// Where what the request causes belongs.
    pub(super) fn trace(&self) -> Trace {
        match &self.outer {
            Some(outer) => outer.trace.clone(),
            None => self.span.trace(),
        }
    }

    /// Notes which described route it is.
    pub(super) fn is_for(&mut self, method: &str, template: &str) {
        self.span.rename(|| format!("{method} {template}"));
        self.span.note("http.route", || template.to_owned());
    }

    /// Notes who calls.
    pub(super) fn is_called_by(&mut self, principal: &Principal) {
        if let Some(log) = &mut self.log {
            log.user_id = principal.user_id.clone();
        }
    }

    /// Notes which build answers.
    pub(super) fn is_answered_by(&mut self, plugin: &Arc<str>, revision: &Arc<str>) {
        self.span.note("berth.plugin", || plugin.to_string());
        self.span.note("berth.revision", || revision.to_string());
        if self.span.is_recording() || self.outer.is_some() {
            self.plugin = Some(Arc::clone(plugin));
        }
        if let Some(log) = &mut self.log {
            log.plugin = Some(Arc::clone(plugin));
            log.revision = Some(Arc::clone(revision));
        }
    }

    /// Keeps the path itself out of the log.
    pub(super) fn log_as(&mut self, template: &str) {
        if let Some(log) = &mut self.log {
            log.template = Some(template.to_owned());
        }
    }

    /// Says who has to count the answer.
    pub(super) fn is_counted_by(&mut self, meter: &Arc<Meter>) {
        self.meter = Some(Arc::clone(meter));
    }

    /// Notes how it ended; the line is written when the exchange goes.
    pub(super) fn end(&mut self, status: StatusCode) {
        if let Some(meter) = &self.meter {
            let now = Instant::now();
            meter.note_at(Some(status.as_u16()), now.saturating_duration_since(self.started), now);
        }
        self.span.note("http.response.status_code", || i64::from(status.as_u16()));
        if status.is_server_error() {
            self.span.fail("the request failed");
        }
        if let Some(log) = &mut self.log {
            log.status = Some(status);
        }
    }
}

impl Drop for AccessEntry {
    fn drop(&mut self) {
        let status = self.status.map_or(CLIENT_GONE, |status| status.as_u16());
        tracing::info!(
            target: "access",
            method = self.method.as_str(),
            path = self.template.as_deref().unwrap_or(self.uri.path()),
            status,
            duration_us = self.started.elapsed().as_micros() as u64,
            plugin = self.plugin.as_deref(),
            revision = self.revision.as_deref(),
            user_id = self.user_id.as_deref(),
            ip = %self.ip,
            request_id = &*self.request_id,
            "request"
        );
    }
}
