//! Into a plugin and back: the request pins a build, is judged against what that build describes, and is answered by it
//! to the last byte.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, COOKIE, HOST, HeaderMap};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;

use super::authorize::{self, Identity};
use super::error::GatewayError;
use super::exchange::Exchange;
use super::idempotency::{self, Attempt, Begun, Keyed};
use super::receive::{self, IDLE_TIME_MAX, Verdict, Whole};
use super::request_id::X_REQUEST_ID;
use super::respond::{self, ResponseBody};
use super::upstream::Upstream;
use super::{Gateway, authenticate};
use crate::accounts::AuditEntry;
use crate::bindings::handler;
use crate::bindings::lifecycle::Route;
use crate::body::{self, Body, BodyError};
use crate::deploy::Slot;
use crate::principal::{Call, Principal};

/// How a build is to be called for one request.
struct Way {
    principal: Arc<Principal>,
    /// Whether the credential proved the caller: then the guest must not see it.
    is_identified: bool,
    /// The build says that the answer streams.
    is_streaming: bool,
}

impl<U: Upstream> Gateway<U> {
    /// Sends a request into the plugin of `slot` and returns its answer.
    ///
    /// # Errors
    /// What the stages say: `NotLoaded`, the refusals of [`authorize::admit`], the body's faults, idempotency, `Call`.
    pub(super) async fn forward<B>(
        &self,
        exchange: &mut Exchange,
        slot: &Arc<Slot<U>>,
        identity: &Identity,
        parts: Parts,
        body: B,
    ) -> Result<Response<ResponseBody>, GatewayError>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BodyError>,
    {
        let plugin = slot.plugin();
        let mut build = slot.current().ok_or(GatewayError::NotLoaded)?;
        exchange.is_answered_by(slot.name(), build.short_digest());
        let has_body = !body.is_end_stream();
        let mut way = self.admit(exchange, slot, &build, &parts, has_body, identity)?;
        let bytes_max = (plugin.limits.body_mib as usize) << 20;
        receive::check_length(&parts.headers, bytes_max)?;
        let key = idempotency::key(&parts.method, &parts.headers)?;
        if key.is_none() && streams(&*build, &way) {
            let (body, verdict) = receive::guard(body, bytes_max, IDLE_TIME_MAX);
            let call = exchange.call(way.principal.clone(), stream_limit(&way, plugin.limits.request_timeout));
            let request = streamed_request(exchange, parts, body, way.is_identified);
            return run_streamed(&build, call, request, Some((verdict, bytes_max)), &exchange.request_id).await;
        }
        let mut whole = Whole::empty();
        if has_body {
            whole = receive::read_whole(body, &self.budget, bytes_max, IDLE_TIME_MAX).await?;
            // Reading may have taken long: the request goes to the build that is current now, and is judged by it.
            let newest = slot.current().ok_or(GatewayError::NotLoaded)?;
            if !Arc::ptr_eq(&newest, &build) {
                build = newest;
                exchange.is_answered_by(slot.name(), build.short_digest());
                way = self.admit(exchange, slot, &build, &parts, has_body, identity)?;
            }
        }
        let (bytes, held) = whole.into_parts();
        let time_max = plugin.limits.request_timeout;
        let keyed = key.and_then(|key| Keyed::new(key, &way.principal, &parts, &bytes));
        let Some(keyed) = keyed else { return run(exchange, build, way, parts, bytes, time_max).await };
        match self.idempotency.begin(&keyed, time_max).await? {
            Begun::Replay(response) => Ok(response),
            Begun::First(attempt) => {
                let (origin, is_streaming) = (exchange.detached(), way.is_streaming);
                // To its end even when the client hangs up: it will ask again with the same key, and must get the answer.
                let running = tokio::spawn(async move {
                    let _held = held;
                    let result = run(&origin, build, way, parts, bytes, time_max).await;
                    record(attempt, result, is_streaming).await
                });
                running.await.map_err(|error| GatewayError::Internal(error.into()))?
            }
        }
    }

    /// Judges the request by what `build` describes. A denial leaves an audit row.
    fn admit(
        &self,
        exchange: &mut Exchange,
        slot: &Slot<U>,
        build: &U,
        parts: &Parts,
        has_body: bool,
        identity: &Identity,
    ) -> Result<Way, GatewayError> {
        let path = parts.uri.path();
        let admitted = authorize::admit(slot, build, &parts.method, path, identity, &self.anonymous);
        let admitted = admitted.inspect_err(|error| {
            if let (GatewayError::Forbidden(_), Identity::Known(principal)) = (error, identity) {
                self.audit_denial(exchange, principal, slot.name(), parts, error);
            }
        })?;
        if let (true, Some(route)) = (admitted.is_public, admitted.route) {
            // What makes such a path hard to guess may be a secret.
            exchange.log_as(&route.path);
        }
        if let (true, Some(route)) = (has_body, admitted.route) {
            check_media_type(route, &parts.headers)?;
        }
        Ok(Way {
            principal: admitted.principal,
            is_identified: matches!(identity, Identity::Known(_)),
            is_streaming: admitted.route.is_some_and(|route| route.is_streaming),
        })
    }

    /// Leaves an audit row for a refused request.
    pub(super) fn audit_denial(
        &self,
        exchange: &Exchange,
        principal: &Principal,
        service: &str,
        parts: &Parts,
        error: &GatewayError,
    ) {
        self.accounts.audit(AuditEntry {
            organization_id: principal.organization_id.as_deref().map(str::to_owned),
            user_id: principal.user_id.as_deref().map(str::to_owned),
            action: "request.denied".to_owned(),
            resource_type: "route".to_owned(),
            resource_id: None,
            metadata: Some(serde_json::json!({
                "service": service,
                "method": parts.method.as_str(),
                "path": parts.uri.path(),
                "reason": error.to_string(),
                "requestId": &*exchange.request_id,
            })),
            ip: exchange.ip,
            user_agent: super::user_agent(&parts.headers),
        });
    }
}

/// Whether the request goes through `wasi:http`.
fn streams<U: Upstream>(build: &U, way: &Way) -> bool {
    let exports = build.exports();
    let has_http = exports.http_02 || exports.http_03;
    has_http && (way.is_streaming || !exports.handler)
}

/// An answer that is described as a stream must only begin in time, which the engine sees to; any other has a deadline to
/// its last byte, so that no body is endless.
fn stream_limit(way: &Way, time_max: Duration) -> Option<Duration> {
    (!way.is_streaming).then_some(time_max)
}

/// Calls the build with a body that is there already.
async fn run<U: Upstream>(
    exchange: &Exchange,
    build: Arc<U>,
    way: Way,
    parts: Parts,
    bytes: Bytes,
    time_max: Duration,
) -> Result<Response<ResponseBody>, GatewayError> {
    if streams(&*build, &way) {
        let call = exchange.call(way.principal.clone(), stream_limit(&way, time_max));
        let request = streamed_request(exchange, parts, body::full(bytes), way.is_identified);
        return run_streamed(&build, call, request, None, &exchange.request_id).await;
    }
    let call = exchange.call(way.principal, Some(time_max));
    let request = whole_request(exchange, parts, bytes, way.is_identified);
    respond::from_guest(build.handle(call, request).await?)
}

async fn run_streamed<U: Upstream>(
    build: &Arc<U>,
    call: Call,
    request: http::Request<Body>,
    verdict: Option<(Verdict, usize)>,
    request_id: &Arc<str>,
) -> Result<Response<ResponseBody>, GatewayError> {
    let answer = build.serve(call, request).await;
    // A body that was refused explains whatever the guest made of it.
    if let Some((verdict, bytes_max)) = verdict {
        verdict.check(bytes_max)?;
    }
    respond::from_stream(answer?, request_id)
}

/// Records how a keyed request ended, and passes its answer on.
async fn record(
    attempt: Attempt,
    result: Result<Response<ResponseBody>, GatewayError>,
    is_streaming: bool,
) -> Result<Response<ResponseBody>, GatewayError> {
    let response = match result {
        Ok(response) => response,
        Err(error) => {
            attempt.release().await;
            return Err(error);
        }
    };
    let (parts, body) = response.into_parts();
    let (body, kept) = match body {
        ResponseBody::Empty => (ResponseBody::Empty, Some(Bytes::new())),
        ResponseBody::Full(bytes) => (ResponseBody::Full(bytes.clone()), bytes),
        ResponseBody::Stream(stream) if is_streaming => (ResponseBody::Stream(stream), None),
        stream => match gather(stream).await {
            Ok(gathered) => gathered,
            Err(error) => {
                attempt.release().await;
                return Err(GatewayError::Internal(error));
            }
        },
    };
    attempt.finish(parts.status, &parts.headers, kept.as_ref()).await;
    Ok(Response::from_parts(parts, body))
}

/// Reads a stream as far as it may be kept; what is longer goes on as a stream.
async fn gather(mut stream: ResponseBody) -> Result<(ResponseBody, Option<Bytes>), BodyError> {
    let mut read = BytesMut::new();
    while let Some(frame) = stream.frame().await {
        if let Ok(data) = frame?.into_data() {
            read.extend_from_slice(&data);
        }
        if read.len() > idempotency::ANSWER_BYTES_MAX {
            return Ok((stream.after(read.freeze()), None));
        }
    }
    let bytes = read.freeze();
    Ok((ResponseBody::full(bytes.clone()), Some(bytes)))
}

/// A described JSON body must say that it is JSON.
fn check_media_type(route: &Route, headers: &HeaderMap) -> Result<(), GatewayError> {
    if route.request_schema.is_none() {
        return Ok(());
    }
    let wanted = route.request_media_type.as_deref().unwrap_or("application/json");
    let sent = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let sent = sent.split(';').next().unwrap_or_default().trim();
    let is_json = wanted == "application/json" && sent.to_ascii_lowercase().ends_with("+json");
    if sent.eq_ignore_ascii_case(wanted) || is_json || wanted == "*/*" {
        return Ok(());
    }
    Err(GatewayError::UnsupportedMediaType(wanted.to_owned()))
}

/// The request record of `berth:platform/handler`.
fn whole_request(exchange: &Exchange, parts: Parts, bytes: Bytes, is_identified: bool) -> handler::Request {
    let nominated = nominated(&parts.headers);
    let mut headers = Vec::with_capacity(parts.headers.len() + 1);
    for (name, value) in &parts.headers {
        match fate(name, is_identified, &nominated) {
            Fate::Dropped => {}
            Fate::Kept => headers.push((name.as_str().to_owned(), text(value))),
            Fate::Filtered => {
                if let Some(value) = authenticate::guest_cookies(value) {
                    headers.push((name.as_str().to_owned(), text(&value)));
                }
            }
        }
    }
    if let Some(host) = missing_host(&parts) {
        headers.push((HOST.as_str().to_owned(), host.to_owned()));
    }
    // HEAD is GET without the body, which is dropped on the way out.
    let method = if parts.method == Method::HEAD { Method::GET } else { parts.method };
    handler::Request {
        method: method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        headers,
        body: bytes.into(),
        request_id: exchange.request_id.to_string(),
    }
}

/// The same for `wasi:http`.
fn streamed_request(exchange: &Exchange, mut parts: Parts, body: Body, is_identified: bool) -> http::Request<Body> {
    let nominated = nominated(&parts.headers);
    let mut headers = HeaderMap::with_capacity(parts.headers.len() + 2);
    for (name, value) in &parts.headers {
        match fate(name, is_identified, &nominated) {
            Fate::Dropped => {}
            Fate::Kept => drop(headers.append(name.clone(), value.clone())),
            Fate::Filtered => {
                if let Some(value) = authenticate::guest_cookies(value) {
                    headers.append(name.clone(), value);
                }
            }
        }
    }
    if let Some(host) = missing_host(&parts).and_then(|host| HeaderValue::from_str(host).ok()) {
        headers.insert(HOST, host);
    }
    if let Ok(request_id) = HeaderValue::from_str(&exchange.request_id) {
        headers.insert(X_REQUEST_ID, request_id);
    }
    parts.headers = headers;
    http::Request::from_parts(parts, body)
}

enum Fate {
    Kept,
    /// Without the host's own part.
    Filtered,
    Dropped,
}

fn fate(name: &HeaderName, is_identified: bool, nominated: &[String]) -> Fate {
    if authenticate::is_hop_by_hop(name) || authenticate::is_identity(name) || *name == X_REQUEST_ID {
        return Fate::Dropped;
    }
    if *name == AUTHORIZATION && is_identified {
        return Fate::Dropped;
    }
    if !nominated.is_empty() && nominated.iter().any(|other| other == name.as_str()) {
        return Fate::Dropped;
    }
    if *name == COOKIE { Fate::Filtered } else { Fate::Kept }
}

/// Headers that `Connection` names: they concern this connection only.
fn nominated(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !matches!(name.as_str(), "" | "keep-alive" | "close"))
        .collect()
}

/// HTTP/2 has no `Host` header; a guest expects one.
fn missing_host(parts: &Parts) -> Option<&str> {
    if parts.headers.contains_key(HOST) { None } else { parts.uri.authority().map(http::uri::Authority::as_str) }
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// The deadline of a call: its own limit, within what an outer call has left.
pub(super) fn deadline(time_max: Option<Duration>, outer: Option<Instant>) -> Option<Instant> {
    let own = time_max.map(|time_max| Instant::now() + time_max);
    match (own, outer) {
        (Some(own), Some(outer)) => Some(own.min(outer)),
        (own, outer) => own.or(outer),
    }
}
