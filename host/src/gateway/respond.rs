//! The way out: what may be said of a guest's answer, what the host adds, and the body's one type.
//!
//! A guest never sets a header that belongs to the connection, to the host's own cookies, or to cross-origin rules.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, ETAG, EXPIRES, HeaderMap, IF_NONE_MATCH, SET_COOKIE,
    STRICT_TRANSPORT_SECURITY, VARY,
};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::authenticate::{is_hop_by_hop, is_host_cookie};
use super::compress::Encoded;
use super::error::GatewayError;
use super::problem::Problem;
use super::unread::Watched;
use crate::body::{Body, BodyError};
use crate::engine::{Answer, PackedAnswer};

/// Headers of a guest's answer; with more it is no valid answer.
const GUEST_HEADERS_MAX: usize = 128;
/// Headers that the host and HTTP add to most answers: room is made for them at once.
const HOST_HEADERS: usize = 8;
/// Bytes of all headers of a guest's answer together.
const GUEST_HEADER_BYTES_MAX: usize = 64 * 1024;

const X_CONTENT_TYPE_OPTIONS: HeaderName = HeaderName::from_static("x-content-type-options");
const X_FRAME_OPTIONS: HeaderName = HeaderName::from_static("x-frame-options");
const REFERRER_POLICY: HeaderName = HeaderName::from_static("referrer-policy");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A body on its way out. Only a stream costs a box.
pub(crate) enum ResponseBody {
    Empty,
    /// Taken at the first poll.
    Full(Option<Bytes>),
    Stream(Box<StreamBody>),
    /// Compressed as it goes out.
    Encoded(Box<Encoded>),
    /// Let go when its client does not take it.
    Watched(Box<Watched>),
}

/// A body that a guest is still writing.
pub(crate) struct StreamBody {
    inner: Body,
    /// Server-sent events: a broken stream can still say so.
    is_events: bool,
    request_id: Arc<str>,
    /// What was read of it before it was passed on.
    read_before: Option<Bytes>,
    has_ended: bool,
}

impl ResponseBody {
    /// A body that is there already.
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::Empty } else { Self::Full(Some(bytes)) }
    }

    /// A body that comes piece by piece and is passed on as it comes.
    pub(crate) fn stream(inner: Body, headers: &HeaderMap, request_id: &Arc<str>) -> Self {
        let is_events =
            headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        let request_id = Arc::clone(request_id);
        Self::Stream(Box::new(StreamBody { inner, is_events, request_id, read_before: None, has_ended: false }))
    }
}

impl ResponseBody {
    /// A stream of which `bytes` have been read already.
    pub(super) fn after(self, bytes: Bytes) -> Self {
        match self {
            Self::Stream(mut stream) => {
                stream.read_before = Some(bytes);
                Self::Stream(stream)
            }
            _ => Self::full(bytes),
        }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => stream.poll_frame(context),
            Self::Encoded(encoded) => encoded.poll_frame(context),
            Self::Watched(watched) => watched.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Stream(stream) => stream.read_before.is_none() && (stream.has_ended || stream.inner.is_end_stream()),
            Self::Encoded(encoded) => encoded.has_ended(),
            Self::Watched(watched) => watched.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(stream) if stream.read_before.is_none() => stream.inner.size_hint(),
            Self::Watched(watched) => watched.size_hint(),
            Self::Stream(_) | Self::Encoded(_) => SizeHint::default(),
        }
    }
}

impl StreamBody {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(bytes) = self.read_before.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if self.has_ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Err(error))) if self.is_events => {
                // The status has long been sent: the events themselves must say that the guest is gone. (The engine
                // says it where a build was withdrawn.)
                self.has_ended = true;
                tracing::debug!(target: "gateway", %error, request_id = %self.request_id, "an event stream broke off");
                let problem = Problem::from(&GatewayError::BadAnswer("the stream broke off")).json(&self.request_id);
                Poll::Ready(Some(Ok(Frame::data(Bytes::from(format!("event: error\ndata: {problem}\n\n"))))))
            }
            Poll::Ready(None) => {
                self.has_ended = true;
                Poll::Ready(None)
            }
            other => other,
        }
    }
}

/// A JSON answer of the host itself.
pub(crate) fn json(status: StatusCode, body: &serde_json::Value) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// What a guest's whole answer becomes, or why it is none.
pub(crate) fn from_guest(answer: Answer) -> Result<Response<ResponseBody>, GatewayError> {
    match answer {
        Answer::Record(record) => {
            let mut head = GuestHead::new(record.status, record.headers.len())?;
            for (name, value) in record.headers {
                head.add(name.as_bytes(), Bytes::from(value))?;
            }
            Ok(head.with(record.body.into()))
        }
        Answer::Packed(packed) => {
            let broken = || GatewayError::BadAnswer("it is packed wrongly");
            let mut packed = PackedAnswer::read(packed).ok_or_else(broken)?;
            let mut head = GuestHead::new(packed.status, packed.count())?;
            while packed.count() > 0 {
                let (name, value) = packed.header().ok_or_else(broken)?;
                head.add(name, value)?;
            }
            Ok(head.with(packed.body()))
        }
    }
}

/// What a guest says before its body, as far as it may say it.
struct GuestHead {
    status: StatusCode,
    headers: HeaderMap,
    bytes: usize,
}

impl GuestHead {
    fn new(status: u16, count: usize) -> Result<Self, GatewayError> {
        let status = StatusCode::from_u16(status).ok().filter(|status| (200..600).contains(&status.as_u16()));
        let status = status.ok_or(GatewayError::BadAnswer("its status is not between 200 and 599"))?;
        if count > GUEST_HEADERS_MAX {
            return Err(GatewayError::BadAnswer("it has too many headers"));
        }
        Ok(Self { status, headers: HeaderMap::with_capacity(count + HOST_HEADERS), bytes: 0 })
    }

    fn add(&mut self, name: &[u8], value: Bytes) -> Result<(), GatewayError> {
        self.bytes += name.len() + value.len();
        if self.bytes > GUEST_HEADER_BYTES_MAX {
            return Err(GatewayError::BadAnswer("its headers are too large"));
        }
        let name = HeaderName::from_bytes(name).map_err(|_| GatewayError::BadAnswer("a header's name is malformed"))?;
        let value = HeaderValue::from_maybe_shared(value)
            .map_err(|_| GatewayError::BadAnswer("a header's value is malformed"))?;
        if may_guest_send(&name, &value) {
            self.headers.append(name, value);
        }
        Ok(())
    }

    fn with(self, body: Bytes) -> Response<ResponseBody> {
        let is_bodiless = matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let mut response = Response::new(if is_bodiless { ResponseBody::Empty } else { ResponseBody::full(body) });
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// The same for an answer that streams.
pub(crate) fn from_stream(
    response: http::Response<Body>,
    request_id: &Arc<str>,
) -> Result<Response<ResponseBody>, GatewayError> {
    let (mut parts, body) = response.into_parts();
    if !(200..600).contains(&parts.status.as_u16()) {
        return Err(GatewayError::BadAnswer("its status is not between 200 and 599"));
    }
    if parts.headers.len() > GUEST_HEADERS_MAX {
        return Err(GatewayError::BadAnswer("it has too many headers"));
    }
    if parts.headers.iter().any(|(name, value)| !may_guest_send(name, value)) {
        let kept = parts.headers.iter().filter(|(name, value)| may_guest_send(name, value));
        parts.headers =
            kept.map(|(name, value)| (name.clone(), value.clone())).fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            });
    }
    let body = match parts.status {
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => ResponseBody::Empty,
        _ => ResponseBody::stream(body, &parts.headers, request_id),
    };
    Ok(Response::from_parts(parts, body))
}

/// Answers `If-None-Match` where the guest gave the answer a tag: the body need not be sent again.
pub(crate) fn not_modified(if_none_match: Option<&HeaderValue>, response: &mut Response<ResponseBody>) {
    let Some(wanted) = if_none_match else { return };
    if response.status() != StatusCode::OK {
        return;
    }
    let Some(tag) = response.headers().get(ETAG) else { return };
    if !matches_tag(wanted.as_bytes(), tag.as_bytes()) {
        return;
    }
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    *response.body_mut() = ResponseBody::Empty;
    let kept = [ETAG, CACHE_CONTROL, VARY, EXPIRES, CONTENT_LOCATION];
    let headers = kept.into_iter().filter_map(|name| response.headers().get(&name).cloned().map(|value| (name, value)));
    *response.headers_mut() = headers.collect();
}

/// The header that [`not_modified`] wants, where the method allows it.
pub(crate) fn if_none_match(method: &Method, headers: &HeaderMap) -> Option<HeaderValue> {
    if matches!(*method, Method::GET | Method::HEAD) { headers.get(IF_NONE_MATCH).cloned() } else { None }
}

/// `HEAD`: the headers of the answer, with its length where it is known, and nothing else.
pub(crate) fn without_body(response: &mut Response<ResponseBody>) {
    let length = response.body().size_hint().exact();
    let body = std::mem::replace(response.body_mut(), ResponseBody::Empty);
    if let (Some(length), ResponseBody::Full(_) | ResponseBody::Stream(_)) = (length, body) {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// Says that nobody keeps an answer that was made for one caller, unless the guest has said what may become of it. Tags are mostly
/// version numbers: a browser that asked again, with the tag of what another user was answered at the same path, would be told
/// that nothing has changed, and show theirs.
pub(crate) fn forbid_keeping(headers: &mut HeaderMap) {
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// What every answer carries, whoever made it.
pub(crate) fn harden(headers: &mut HeaderMap, is_tls: bool) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(X_FRAME_OPTIONS).or_insert(HeaderValue::from_static("DENY"));
    headers.entry(REFERRER_POLICY).or_insert(HeaderValue::from_static("no-referrer"));
    if is_tls {
        headers.entry(STRICT_TRANSPORT_SECURITY).or_insert(HeaderValue::from_static("max-age=31536000"));
    }
}

fn may_guest_send(name: &HeaderName, value: &HeaderValue) -> bool {
    if is_hop_by_hop(name) {
        return false;
    }
    let text = name.as_str();
    match text.as_bytes().first() {
        Some(b'c') => *name != CONTENT_LENGTH,
        Some(b'd') => text != "date",
        Some(b'a') => !text.starts_with("access-control-"),
        // Other bytes than ASCII make no cookie (RFC 6265), though browsers may take it for one.
        Some(b's') if *name == SET_COOKIE => value.to_str().is_ok_and(|cookie| !is_host_cookie(cookie)),
        Some(b's') => text != "server",
        Some(b'x') => text != "x-request-id" && !text.starts_with("x-ratelimit-"),
        _ => true,
    }
}

/// Weak comparison, as RFC 9110 wants it for `If-None-Match`.
fn matches_tag(wanted: &[u8], tag: &[u8]) -> bool {
    fn opaque(tag: &[u8]) -> &[u8] {
        tag.strip_prefix(b"W/").unwrap_or(tag)
    }
    let mut candidates = wanted.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    candidates.any(|candidate| candidate == b"*" || opaque(candidate) == opaque(tag))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use http_body_util::channel::Channel;

    use super::*;
    use crate::bindings::handler;

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Answer::Record(handler::Response { status, headers, body: body.into() })
    }

    #[test]
    fn a_packed_answer_is_judged_like_a_record() {
        let packed = |text: &'static [u8]| from_guest(Answer::Packed(Bytes::from_static(text)));
        let response = packed(b"{}\xc9\0\0\0\x01\0\0\0\x04\0\0\0etag\x01\0\0\x001\x15\0\0\0").unwrap();
        assert_eq!((response.status().as_u16(), response.headers().get(ETAG).unwrap().as_bytes()), (201, &b"1"[..]));
        assert!(matches!(response.body(), ResponseBody::Full(Some(body)) if body == "{}"));
        for broken in [
            &b""[..],
            b"{}",
            b"\xff\xff\xff\xff",
            b"\xc9\0\0\0\x04\0\0\0",
            b"\xc9\0\0\0\x01\0\0\0\x08\0\0\0",
            b"\xc9\0\0\0\xff\xff\xff\xff\x08\0\0\0",
            b"\0\0\0\0\0\0\0\0\x08\0\0\0",
            b"\xc9\0\0\0\x01\0\0\0\x01\0\0\0a\x01\0\0\0\n\x12\0\0\0",
        ] {
            assert!(matches!(packed(broken), Err(GatewayError::BadAnswer(_))), "{broken:?}");
        }
    }

    #[test]
    fn a_guest_cannot_speak_for_the_host() {
        let response = from_guest(answer(
            200,
            &[
                ("Content-Type", "text/plain"),
                ("Content-Length", "3"),
                ("Transfer-Encoding", "chunked"),
                ("Connection", "close"),
                ("Access-Control-Allow-Origin", "*"),
                ("X-Request-Id", "forged"),
                ("X-RateLimit-Limit", "9"),
                ("Set-Cookie", "accessToken=stolen"),
                ("Set-Cookie", "accessToken=stolen; Comment=caf\u{e9}"),
                ("Set-Cookie", "=accessToken=stolen"),
                ("Set-Cookie", "theme=dark"),
            ],
            "hello",
        ))
        .unwrap();
        let names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "set-cookie"]);
        let cookies: Vec<_> = response.headers().get_all(SET_COOKIE).iter().collect();
        assert_eq!(cookies, ["theme=dark"]);
    }

    #[test]
    fn an_answer_that_is_none_is_refused() {
        for answer in [
            answer(199, &[], ""),
            answer(600, &[], ""),
            answer(200, &[("bad name", "x")], ""),
            answer(200, &[("x-a", "line\nbreak")], ""),
        ] {
            assert!(matches!(from_guest(answer), Err(GatewayError::BadAnswer(_))));
        }
    }

    #[test]
    fn a_known_tag_is_answered_without_a_body() {
        for (wanted, status) in [("\"1\"", 304), ("W/\"1\"", 304), ("\"0\", \"1\"", 304), ("*", 304), ("\"2\"", 200)] {
            let mut response = from_guest(answer(200, &[("etag", "\"1\""), ("content-type", "a/b")], "body")).unwrap();
            not_modified(Some(&HeaderValue::from_str(wanted).unwrap()), &mut response);
            assert_eq!(response.status(), status, "{wanted}");
            assert_eq!(response.body().is_end_stream(), status == 304);
        }
    }

    #[test]
    fn head_keeps_the_length_and_drops_the_body() {
        let mut response = from_guest(answer(200, &[], "hello")).unwrap();
        without_body(&mut response);
        assert_eq!(response.headers().get(CONTENT_LENGTH).unwrap(), "5");
        assert!(response.body().is_end_stream());
    }

    #[tokio::test]
    async fn a_broken_event_stream_ends_with_an_error_event() {
        let (mut sender, channel) = Channel::<Bytes, BodyError>::new(4);
        sender.send_data(Bytes::from_static(b"data: 1\n\n")).await.unwrap();
        sender.abort("withdrawn".into());
        let mut response = http::Response::new(channel.boxed_unsync());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        let response = from_stream(response, &"request-1".into()).unwrap();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        let text = std::str::from_utf8(&text).unwrap();
        assert!(text.ends_with("\n\n") && text.contains("event: error\ndata: {"), "{text}");
        assert!(text.contains("\"status\":502") && text.contains("request-1"), "{text}");
    }

    #[tokio::test]
    async fn another_broken_stream_breaks_off_visibly() {
        let (sender, channel) = Channel::<Bytes, BodyError>::new(4);
        sender.abort("withdrawn".into());
        let response = from_stream(http::Response::new(channel.boxed_unsync()), &"r".into()).unwrap();
        assert!(response.into_body().collect().await.is_err());
    }
}
