//! The HTTP of the endpoint: which era a message is of, whether it comes from where it may, and how answers are written.

use berth_sdk::{
    http::{Answer, Body, Stream},
    prelude::*,
    router::Route,
    serde_json::Value,
};

use super::{legacy, modern};
use crate::{
    protocol::{
        LEGACY, MODERN, code,
        message::{self, Message, RpcError},
        meta, revisions,
    },
    settings,
};

/// A response of the endpoint, whole or as a stream.
#[derive(Debug)]
pub struct Live(pub Response);

impl Answer for Live {
    fn into_response(self) -> Result<Response> {
        Ok(self.0)
    }
    fn describe(route: &mut Route) {
        route.is_streaming = true;
        route.answer(200, Some(|| json!({ "type": "object", "description": "A message of JSON-RPC 2.0." })), None);
        for status in [400, 404, 405, 406, 409, 413, 429, 500, 502, 503, 504] {
            let error = || json!({ "type": "object", "description": "An error of JSON-RPC 2.0." });
            route.answer(status, Some(error), Some("application/json"));
        }
        if route.method == "POST" {
            route.answer(202, None, None);
        }
    }
}

/// A message as the answer.
pub fn json_answer(status: u16, body: &Value) -> Response {
    Response::text(status, "application/json", body.to_string())
}

/// An error as the answer.
pub fn refused(status: u16, id: Option<&Value>, error: &RpcError) -> Response {
    json_answer(status, &error.answer(id))
}

/// A stream of events as the answer.
pub fn stream_answer(stream: Stream) -> Response {
    Response {
        status: 200,
        headers: vec![
            ("content-type".into(), "text/event-stream".into()),
            ("cache-control".into(), "no-cache".into()),
            ("x-accel-buffering".into(), "no".into()),
        ],
        body: Body::Stream(stream),
    }
}

/// A message as an event of a stream.
pub fn event(id: Option<&str>, retry_ms: Option<u64>, data: &str) -> Vec<u8> {
    let mut text = String::with_capacity(data.len() + 64);
    if let Some(id) = id {
        text.push_str(&format!("id: {id}\n"));
    }
    if let Some(millis) = retry_ms {
        text.push_str(&format!("retry: {millis}\n"));
    }
    if !data.is_empty() {
        text.push_str("event: message\n");
    }
    // JSON has no line breaks of its own.
    text.push_str(&format!("data: {}\n\n", data.replace(['\n', '\r'], " ")));
    text.into_bytes()
}

/// Whether a page at this origin may use the endpoint: one on this machine, or one that the operator lists. A browser that was
/// led here by a foreign name sends that name.
fn is_welcome(origin: Option<&str>, host: Option<&str>, allowed: &str) -> bool {
    let Some(origin) = origin else { return true };
    let is_listed = allowed.split(',').map(str::trim).any(|listed| listed.eq_ignore_ascii_case(origin));
    let near = |authority: &str| {
        let name = match authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => authority.split(':').next().unwrap_or_default(),
        };
        matches!(name.to_ascii_lowercase().as_str(), "localhost" | "127.0.0.1" | "::1")
    };
    let is_near = origin.split_once("://").is_some_and(|(_, authority)| near(authority)) && host.is_none_or(near);
    is_listed || is_near
}

/// 403 for a page that may not, 406 for who takes no answer, and 403 where the organization uses none of it.
fn admit(request: &Request, wanted: &[&str]) -> Result<Option<Response>> {
    let allowed = config::get::<String>("allowed_origins").unwrap_or_default();
    if !is_welcome(request.header("origin"), request.header("host"), &allowed) {
        let error = RpcError::new(code::INVALID_REQUEST, "Pages of this origin may not use the endpoint.");
        return Ok(Some(refused(403, None, &error)));
    }
    let accepted = request.header("accept").unwrap_or("*/*").to_ascii_lowercase();
    let takes = |kind: &str| accepted.contains(kind) || accepted.contains("*/*");
    if !wanted.iter().any(|kind| takes(kind)) {
        let error = RpcError::new(code::INVALID_REQUEST, format!("`Accept` must list {}.", wanted.join(" and ")));
        return Ok(Some(refused(406, None, &error)));
    }
    settings::require_enabled(&settings::of(&Pool)?)?;
    Ok(None)
}

/// `POST /api/mcp`.
pub fn post(request: Request) -> Result<Live> {
    if let Some(response) = admit(&request, &["application/json", "text/event-stream"])? {
        return Ok(Live(response));
    }
    let kind =
        request.header("content-type").unwrap_or("application/json").split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Problem::unsupported_media_type("The body must be application/json."));
    }
    let (messages, is_batch) = match message::read(&request.body) {
        Ok(read) => read,
        Err((id, error)) => return Ok(Live(refused(400, id.as_ref(), &error))),
    };
    let header = request.header("mcp-protocol-version").map(str::trim);
    if is_batch {
        return legacy::batch(&request, messages).map(Live);
    }
    let Some(message) = messages.into_iter().next() else { return Err(Problem::internal()) };
    let names_version = matches!(&message, Message::Request(request) if request.meta(meta::VERSION).is_some());
    if header == Some(MODERN) || names_version {
        return modern::post(&request, message).map(Live);
    }
    if let Some(version) = header.filter(|version| !LEGACY.contains(version)) {
        let id = match &message {
            Message::Request(request) => Some(request.id.clone()),
            _ => None,
        };
        return Ok(Live(refused(400, id.as_ref(), &unsupported(version))));
    }
    legacy::post(&request, message).map(Live)
}

/// A revision that is not spoken.
pub fn unsupported(version: &str) -> RpcError {
    let version: String = version.chars().take(100).collect();
    RpcError::new(code::UNSUPPORTED_VERSION, "Unsupported protocol version")
        .with(json!({ "supported": revisions(), "requested": version }))
}

/// `GET /api/mcp`.
pub fn get(request: Request) -> Result<Live> {
    if request.header("mcp-protocol-version").map(str::trim) == Some(MODERN) {
        return Ok(Live(gone()));
    }
    if let Some(response) = admit(&request, &["text/event-stream"])? {
        return Ok(Live(response));
    }
    legacy::get(&request).map(Live)
}

/// `DELETE /api/mcp`.
pub fn delete(request: Request) -> Result<Live> {
    if request.header("mcp-protocol-version").map(str::trim) == Some(MODERN) {
        return Ok(Live(gone()));
    }
    if let Some(response) = admit(&request, &["*/*", "application/json", ""])? {
        return Ok(Live(response));
    }
    legacy::delete(&request).map(Live)
}

/// The modern revision has neither streams of its own nor sessions.
fn gone() -> Response {
    let error = RpcError::new(code::INVALID_REQUEST, "This revision has POST only.");
    refused(405, None, &error).with_header("allow", "POST")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_from_elsewhere_are_not_welcome() {
        let near = Some("127.0.0.1:3000");
        assert!(is_welcome(None, Some("evil.example"), ""));
        assert!(is_welcome(Some("http://localhost:5173"), near, ""));
        assert!(is_welcome(Some("http://[::1]:3000"), Some("[::1]:3000"), ""));
        for (origin, host) in [
            ("http://evil.example", "127.0.0.1"),
            ("http://evil.example", "evil.example"),
            ("http://localhost", "evil.example"),
            ("null", "localhost"),
        ] {
            assert!(!is_welcome(Some(origin), Some(host), ""), "{origin} at {host}");
        }
        let listed = "https://app.example.com, https://b.example.com";
        assert!(is_welcome(Some("https://APP.example.com"), Some("berth.example.com"), listed));
        assert!(!is_welcome(Some("https://app.example.com.evil"), Some("berth.example.com"), listed));
    }

    #[test]
    fn an_event_cannot_smuggle_another_one() {
        let bytes = event(Some("a-1"), Some(500), "{}\n\ndata: x");
        assert_eq!(String::from_utf8(bytes).unwrap(), "id: a-1\nretry: 500\nevent: message\ndata: {}  data: x\n\n");
        assert_eq!(String::from_utf8(event(Some("a-0"), None, "")).unwrap(), "id: a-0\ndata: \n\n");
    }
}
