//! One request on its way through the stages: what they need of each other, and the line it leaves in the access log.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{Method, StatusCode, Uri};

use super::forward::deadline;
use super::listener::Peer;
use super::throttle::Rate;
use crate::principal::{Call, Principal};

/// Status in the access log for a client that did not wait for its answer.
const CLIENT_GONE: u16 = 499;

/// The request's companion from the first stage to the last.
pub(super) struct Exchange {
    pub request_id: Arc<str>,
    /// None for a call from another plugin.
    pub ip: Option<IpAddr>,
    /// What the answer says of the rate limit.
    pub rate: Option<Rate>,
    /// The call of another plugin that this request is part of.
    outer: Option<Box<Call>>,
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
    pub(super) fn begin(peer: &Peer, parts: &Parts, request_id: Arc<str>) -> Self {
        let log = tracing::enabled!(target: "access", tracing::Level::INFO).then(|| AccessEntry {
            request_id: Arc::clone(&request_id),
            started: Instant::now(),
            ip: peer.ip,
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            template: None,
            plugin: None,
            revision: None,
            user_id: None,
            status: None,
        });
        Self { request_id, ip: Some(peer.ip), rate: None, outer: None, log }
    }

    /// For a request that another plugin sends: it belongs to that plugin's call, and is logged there.
    pub(super) fn within(call: Call) -> Self {
        Self { request_id: Arc::clone(&call.request_id), ip: None, rate: None, outer: Some(Box::new(call)), log: None }
    }

    /// The same for a task that outlives its client.
    pub(super) fn detached(&self) -> Self {
        Self { request_id: Arc::clone(&self.request_id), ip: self.ip, rate: None, outer: self.outer.clone(), log: None }
    }

    /// The guest call this becomes.
    pub(super) fn call(&self, principal: Arc<Principal>, time_max: Option<Duration>) -> Call {
        let outer = self.outer.as_deref();
        Call {
            principal,
            request_id: Arc::clone(&self.request_id),
            source_service: outer.and_then(|call| call.source_service.clone()),
            causation_id: outer.and_then(|call| call.causation_id.clone()),
            correlation_id: outer.and_then(|call| call.correlation_id.clone()),
            depth: outer.map_or(0, |call| call.depth),
            deadline: deadline(time_max, outer.and_then(|call| call.deadline)),
        }
    }

    /// Notes who calls.
    pub(super) fn is_called_by(&mut self, principal: &Principal) {
        if let Some(log) = &mut self.log {
            log.user_id = principal.user_id.clone();
        }
    }

    /// Notes which build answers.
    pub(super) fn is_answered_by(&mut self, plugin: &Arc<str>, revision: &Arc<str>) {
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

    /// Notes how it ended; the line is written when the exchange goes.
    pub(super) fn end(&mut self, status: StatusCode) {
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
