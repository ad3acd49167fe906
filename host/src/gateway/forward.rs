//! Into a plugin and back: the request pins a build, is judged against what that build describes, and is answered by it
//! to the last byte.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, COOKIE, HOST, HeaderMap};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;

use tokio::sync::OwnedSemaphorePermit;

use super::authorize::{self, Identity};
use super::error::GatewayError;
use super::exchange::Exchange;
use super::idempotency::{self, Attempt, Begun, Keyed};
use super::problem::Problem;
use super::receive::{self, IDLE_TIME_MAX, Verdict, Whole};
use super::request_id::X_REQUEST_ID;
use super::respond::{self, ResponseBody};
use super::upstream::Upstream;
use super::{Gateway, authenticate, is_undecided, mirror, proxy};
use crate::accounts::AuditEntry;
use crate::bindings::lifecycle::Route;
use crate::body::{self, Body, BodyError};
use crate::deploy::Slot;
use crate::engine::{CallError, PackedRequest, Packer};
use crate::principal::{Call, Principal, PrincipalKind};
use crate::telemetry::meter::Meter;
use crate::trace::{Kind, Span};

/// Bytes that are reckoned with for a header on its way into a guest.
const HEADER_BYTES: usize = 64;

/// How a build is to be called for one request.
#[derive(Clone)]
pub(super) struct Way {
    principal: Arc<Principal>,
    /// Whether the credential proved the caller, or may prove it as soon as somebody can say so: the guest must not see it.
    hides_credential: bool,
    /// The build says that the answer streams.
    pub is_streaming: bool,
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
        parts: &Parts,
        body: B,
    ) -> Result<Response<ResponseBody>, GatewayError>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BodyError>,
    {
        let successor;
        let mut slot = slot;
        let limits = slot.limits();
        let mut build = slot.choose(|| caller(exchange, identity)).ok_or(GatewayError::NotLoaded)?;
        exchange.is_answered_by(slot.name(), build.short_digest());
        let has_body = !body.is_end_stream();
        let mut way = self.admit(exchange, slot, &build, parts, has_body, identity)?;
        let bytes_max = (limits.body_mib as usize) << 20;
        receive::check_length(&parts.headers, bytes_max)?;
        let key = idempotency::key(&parts.method, &parts.headers)?;
        if key.is_none() && streams(&*build, &way) {
            let (body, verdict) = receive::guard(body, bytes_max, IDLE_TIME_MAX);
            let time_max = stream_limit(&way, limits.request_timeout);
            let call = exchange.call(way.principal.clone(), time_max, Instant::now());
            let request = streamed_request(exchange, parts, body, way.hides_credential);
            return Box::pin(run_streamed(exchange, &build, call, request, Some((verdict, bytes_max)))).await;
        }
        let mut whole = Whole::empty();
        if has_body {
            whole = Box::pin(receive::read_whole(body, &self.budget, bytes_max, IDLE_TIME_MAX)).await?;
            // Reading may have taken long: the request goes to the build that is current now, and is judged by it.
            if let Some(changed) = self.successor(slot, parts.uri.path()) {
                successor = changed;
                slot = &successor;
            }
            let newest = slot.choose(|| caller(exchange, identity)).ok_or(GatewayError::NotLoaded)?;
            if !Arc::ptr_eq(&newest, &build) {
                build = newest;
                exchange.is_answered_by(slot.name(), build.short_digest());
                way = self.admit(exchange, slot, &build, parts, has_body, identity)?;
            }
        }
        let (bytes, held) = whole.into_parts();
        let time_max = limits.request_timeout;
        let keyed = key.and_then(|key| Keyed::new(key, &way.principal, parts, &bytes));
        let Some(keyed) = keyed else {
            let copy = mirror::copy(exchange, slot, &build, &way, parts, time_max);
            let answer = run(exchange, &build, way, parts, bytes, time_max).await;
            if let Some(copy) = copy {
                copy.compare(answer.as_ref().ok());
            }
            return answer;
        };
        let running = {
            let (origin, is_streaming, parts) = (exchange.detached(), way.is_streaming, parts.clone());
            async move { (run(&origin, &build, way, &parts, bytes, time_max).await, is_streaming, held) }
        };
        Box::pin(self.once(keyed, time_max, running)).await
    }

    /// The slot that has taken the place of `slot` on this path since it was found: its plugin's entry was changed.
    fn successor(&self, slot: &Arc<Slot<U>>, path: &str) -> Option<Arc<Slot<U>>> {
        let newest = self.registry.slot(slot.name()).filter(|newest| !Arc::ptr_eq(newest, slot))?;
        self.registry.route(path).filter(|found| Arc::ptr_eq(found, &newest))
    }

    /// Runs a request with an idempotency key, or answers as it was answered before.
    async fn once(
        &self,
        keyed: Keyed,
        time_max: Duration,
        running: impl Future<Output = (Result<Response<ResponseBody>, GatewayError>, bool, Option<OwnedSemaphorePermit>)>
        + Send
        + 'static,
    ) -> Result<Response<ResponseBody>, GatewayError> {
        match self.idempotency.begin(&keyed, time_max).await? {
            Begun::Replay(response) => Ok(response),
            Begun::First(attempt) => {
                // To its end even when the client hangs up: it will ask again with the same key, and must get the answer.
                let running = tokio::spawn(async move {
                    let (result, is_streaming, _held) = running.await;
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
        if let Some(route) = admitted.route {
            exchange.is_for(&route.method, &route.path);
        }
        if let (true, Some(route)) = (has_body, admitted.route) {
            check_media_type(route, &parts.headers)?;
        }
        Ok(Way {
            principal: admitted.principal,
            hides_credential: matches!(identity, Identity::Known(_)) || is_undecided(identity),
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
pub(super) fn streams<U: Upstream>(build: &U, way: &Way) -> bool {
    let exports = build.exports();
    let has_http = exports.http_02 || exports.http_03;
    has_http && (way.is_streaming || !exports.handler)
}

/// An answer that is described as a stream must only begin in time, which the engine sees to; any other has a deadline to
/// its last byte, so that no body is endless.
fn stream_limit(way: &Way, time_max: Duration) -> Option<Duration> {
    (!way.is_streaming).then_some(time_max)
}

/// Who calls, in the words that a canary is chosen by: a user keeps its build from request to request, and so does an
/// address that nobody signed in from.
fn caller(exchange: &Exchange, identity: &Identity) -> String {
    match (identity, exchange.ip) {
        (Identity::Known(principal), _) if principal.kind != PrincipalKind::Anonymous => match &principal.user_id {
            Some(user) => format!("user:{user}"),
            None => format!("{:?}:{}", principal.kind, principal.organization_id.as_deref().unwrap_or_default()),
        },
        (_, Some(ip)) => format!("ip:{ip}"),
        // An anonymous call from another plugin: by the request that it is part of.
        _ => format!("request:{}", exchange.request_id),
    }
}

/// Calls the build with a body that is there already.
pub(super) async fn run<U: Upstream>(
    exchange: &Exchange,
    build: &Arc<U>,
    way: Way,
    parts: &Parts,
    bytes: Bytes,
    time_max: Duration,
) -> Result<Response<ResponseBody>, GatewayError> {
    let now = Instant::now();
    if streams(&**build, &way) {
        let call = exchange.call(way.principal.clone(), stream_limit(&way, time_max), now);
        let request = streamed_request(exchange, parts, body::full(bytes), way.hides_credential);
        return Box::pin(run_streamed(exchange, build, call, request, None)).await;
    }
    let mut call = exchange.call(way.principal, Some(time_max), now);
    let request = whole_request(exchange, parts, bytes, way.hides_credential);
    let _span = guest_span(exchange, &mut call);
    let note = Note::begin(&**build, exchange.counts(), now);
    let answer = build.handle(call, request).await;
    note.end(answer.map_err(GatewayError::from).and_then(respond::from_guest))
}

/// The guest's part of a trace: what it asks of the host belongs to it.
fn guest_span(exchange: &Exchange, call: &mut Call) -> Span {
    let mut span = call.trace.span(Kind::Internal, || "guest".to_owned());
    if let Some(plugin) = &exchange.plugin {
        span.note("berth.plugin", || plugin.to_string());
    }
    call.trace = span.trace_or(&call.trace);
    span
}

/// One request that will be noted in its build's meter when this goes. A client that goes away is noted too: it may have
/// waited too long.
struct Note<'a> {
    meter: &'a Meter,
    began: Instant,
    /// None: not at all. Within: none while there is no answer.
    status: Option<Option<u16>>,
}

impl<'a> Note<'a> {
    fn begin<U: Upstream>(build: &'a U, counts: bool, now: Instant) -> Self {
        Self { meter: build.meter(), began: now, status: counts.then_some(None) }
    }

    /// Notes how it ended, and passes that on.
    fn end(
        mut self,
        result: Result<Response<ResponseBody>, GatewayError>,
    ) -> Result<Response<ResponseBody>, GatewayError> {
        if self.status.is_some() {
            self.status = match &result {
                Ok(response) => Some(Some(response.status().as_u16())),
                // The host withdrew the build; that says nothing of it.
                Err(GatewayError::Call(CallError::Cancelled)) => None,
                Err(error) => Some(Some(Problem::from(error).kind.status.as_u16())),
            };
        }
        result
    }
}

impl Drop for Note<'_> {
    fn drop(&mut self) {
        if let Some(status) = self.status {
            let now = Instant::now();
            self.meter.note_at(status, now.saturating_duration_since(self.began), now);
        }
    }
}

async fn run_streamed<U: Upstream>(
    exchange: &Exchange,
    build: &Arc<U>,
    mut call: Call,
    request: http::Request<Body>,
    verdict: Option<(Verdict, usize)>,
) -> Result<Response<ResponseBody>, GatewayError> {
    // It ends with the head: what streams afterwards has no end that is worth waiting for.
    let _span = guest_span(exchange, &mut call);
    let note = Note::begin(&**build, exchange.counts(), Instant::now());
    let answer = build.serve(call, request).await;
    // A body that was refused explains whatever the guest made of it.
    let refused = verdict.map_or(Ok(()), |(verdict, bytes_max)| verdict.check(bytes_max));
    let answer = refused.and_then(|()| answer.map_err(GatewayError::from));
    note.end(answer.and_then(|answer| respond::from_stream(answer, &exchange.request_id)))
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
    // What the guest wants stored nowhere is not stored for a replay either: it may hold a secret.
    if forbids_storing(&parts.headers) {
        attempt.release().await;
        return Ok(Response::from_parts(parts, body));
    }
    let (body, kept) = match body {
        ResponseBody::Empty => (ResponseBody::Empty, Some(Bytes::new())),
        ResponseBody::Full(bytes) => (ResponseBody::Full(bytes.clone()), bytes),
        // A route that may stream answers whole as well: what says that it is JSON is kept like any other.
        ResponseBody::Stream(stream) if is_streaming && !is_json(&parts.headers) => {
            (ResponseBody::Stream(stream), None)
        }
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

/// Whether an answer is one JSON document.
fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence == "application/json" || essence == "application/problem+json"
}

/// Whether an answer says that it must not be stored.
fn forbids_storing(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case("no-store"))
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

/// The whole request, as a guest gets it.
fn whole_request(exchange: &Exchange, parts: &Parts, bytes: Bytes, hides_credential: bool) -> PackedRequest {
    let nominated = nominated(&parts.headers);
    // HEAD is GET without the body, which is dropped on the way out.
    let method = if parts.method == Method::HEAD { "GET" } else { parts.method.as_str() };
    let header_bytes = parts.headers.len() * HEADER_BYTES;
    let mut packer = Packer::new(method, parts.uri.path(), parts.uri.query(), &exchange.request_id, header_bytes);
    for (name, value) in &parts.headers {
        match fate(name, value, hides_credential, &nominated) {
            Fate::Dropped => {}
            Fate::Kept => packer.header(name.as_str(), value.as_bytes()),
            Fate::Filtered => {
                if let Some(value) = authenticate::guest_cookies(value) {
                    packer.header(name.as_str(), value.as_bytes());
                }
            }
        }
    }
    if let Some(host) = missing_host(parts) {
        packer.header(HOST.as_str(), host.as_bytes());
    }
    packer.finish(bytes)
}

/// The same for `wasi:http`.
fn streamed_request(exchange: &Exchange, parts: &Parts, body: Body, hides_credential: bool) -> http::Request<Body> {
    let nominated = nominated(&parts.headers);
    let mut headers = HeaderMap::with_capacity(parts.headers.len() + 2);
    for (name, value) in &parts.headers {
        match fate(name, value, hides_credential, &nominated) {
            Fate::Dropped => {}
            Fate::Kept => drop(headers.append(name.clone(), value.clone())),
            Fate::Filtered => {
                if let Some(value) = authenticate::guest_cookies(value) {
                    headers.append(name.clone(), value);
                }
            }
        }
    }
    if let Some(host) = missing_host(parts).and_then(|host| HeaderValue::from_str(host).ok()) {
        headers.insert(HOST, host);
    }
    if let Ok(request_id) = HeaderValue::from_str(&exchange.request_id) {
        headers.insert(X_REQUEST_ID, request_id);
    }
    let mut request = http::Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = parts.uri.clone();
    *request.version_mut() = parts.version;
    *request.headers_mut() = headers;
    request
}

enum Fate {
    Kept,
    /// Without the host's own part.
    Filtered,
    Dropped,
}

fn fate(name: &HeaderName, value: &HeaderValue, hides_credential: bool, nominated: &[String]) -> Fate {
    if authenticate::is_hop_by_hop(name)
        || authenticate::is_identity(name)
        || proxy::is_proxy_word(name)
        || *name == X_REQUEST_ID
    {
        return Fate::Dropped;
    }
    if *name == AUTHORIZATION && (hides_credential || authenticate::holds_key(value)) {
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

/// The deadline of a call: its own limit, within what an outer call has left.
pub(super) fn deadline(now: Instant, time_max: Option<Duration>, outer: Option<Instant>) -> Option<Instant> {
    let own = time_max.map(|time_max| now + time_max);
    match (own, outer) {
        (Some(own), Some(outer)) => Some(own.min(outer)),
        (own, outer) => own.or(outer),
    }
}
