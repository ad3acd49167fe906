//! Cross-origin requests: only the configured origins, with credentials, and never `*`.
//!
//! No component decides about origins: what it says of `Access-Control-*` is dropped on the way out.

use std::collections::HashMap;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    HOST, ORIGIN, VARY,
};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};

use super::respond::ResponseBody;

pub(super) const METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, PROPFIND, REPORT");
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, depth, if-match, if-none-match, idempotency-key, last-event-id, x-request-id",
);
const RESPONSE_HEADERS: HeaderValue = HeaderValue::from_static(
    "dav, etag, location, retry-after, x-request-id, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset",
);
const MAX_AGE_SECONDS: HeaderValue = HeaderValue::from_static("600");
const TRUE: HeaderValue = HeaderValue::from_static("true");
const VARY_ORIGIN: HeaderValue = HeaderValue::from_static("origin");

/// The origins that may call from a browser.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cors {
    /// By the lower-case text of the `Origin` header.
    allowed: HashMap<Vec<u8>, HeaderValue>,
}

impl Cors {
    /// `origins` as in `https://app.example.com`; what is not an origin (also `*`) is left out.
    pub(crate) fn new<S: AsRef<str>>(origins: impl IntoIterator<Item = S>) -> Self {
        let allowed = origins.into_iter().filter_map(|origin| parse_origin(origin.as_ref())).collect();
        Self { allowed }
    }

    /// The origin of the request where it is an allowed one, as it has to be answered.
    pub(crate) fn allowed_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if self.allowed.is_empty() {
            return None;
        }
        let origin = headers.get(ORIGIN)?;
        self.allowed.get(&origin.as_bytes().to_ascii_lowercase()).cloned()
    }

    /// Whether a browser sends this from a page that is neither ours nor allowed. A cookie must not authenticate it.
    pub(crate) fn is_forged(&self, request: &Parts) -> bool {
        if matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return false;
        }
        let Some(origin) = request.headers.get(ORIGIN) else { return false };
        self.allowed_origin(&request.headers).is_none() && !is_same_host(origin, request)
    }

    /// Adds what a browser needs to read the answer.
    pub(crate) fn decorate(&self, origin: Option<HeaderValue>, headers: &mut HeaderMap) {
        if self.allowed.is_empty() {
            return;
        }
        headers.append(VARY, VARY_ORIGIN);
        if let Some(origin) = origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS);
        }
    }
}

/// The answer to `OPTIONS`, which no component sees.
pub(crate) fn preflight(is_allowed: bool, request: &HeaderMap, methods: Option<HeaderValue>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    if let Some(methods) = methods {
        headers.insert(http::header::ALLOW, methods);
    }
    if is_allowed && request.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS);
    }
    response
}

fn parse_origin(origin: &str) -> Option<(Vec<u8>, HeaderValue)> {
    let origin = origin.trim_end_matches('/').to_ascii_lowercase();
    let uri: Uri = origin.parse().ok()?;
    let is_origin = uri.scheme().is_some() && uri.host().is_some_and(|host| host != "*") && uri.path() == "/";
    if !is_origin || uri.query().is_some() {
        return None;
    }
    let value = HeaderValue::from_str(&origin).ok()?;
    Some((origin.into_bytes(), value))
}

/// Whether the origin's host and port are those the request was sent to. HTTP/2 has no `Host` header for them.
fn is_same_host(origin: &HeaderValue, request: &Parts) -> bool {
    let host = match request.headers.get(HOST) {
        Some(host) => host.to_str().ok(),
        None => request.uri.authority().map(Authority::as_str),
    };
    let Some(host) = host else { return false };
    let Some((_, authority)) = origin.to_str().ok().and_then(|origin| origin.split_once("://")) else { return false };
    authority.eq_ignore_ascii_case(host)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn headers(pairs: &[(http::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn only_a_configured_origin_is_answered_and_never_a_star() {
        let cors = Cors::new(["https://app.example.com/", "*", "http://localhost:5173"]);
        let allowed = |origin| cors.allowed_origin(&headers(&[(ORIGIN, origin)]));
        assert_eq!(allowed("https://app.example.com").unwrap(), "https://app.example.com");
        assert_eq!(allowed("http://localhost:5173").unwrap(), "http://localhost:5173");
        for other in ["https://app.example.com.evil.com", "http://app.example.com", "http://localhost", "null", "*"] {
            assert_eq!(allowed(other), None, "{other}");
        }
    }

    #[test]
    fn an_answer_varies_by_origin_and_allows_credentials_only_to_the_allowed_one() {
        let cors = Cors::new(["https://app.example.com"]);
        let mut answer = HeaderMap::new();
        cors.decorate(Some(HeaderValue::from_static("https://app.example.com")), &mut answer);
        assert_eq!(answer.get(ACCESS_CONTROL_ALLOW_CREDENTIALS).unwrap(), "true");
        assert_eq!(answer.get(VARY).unwrap(), "origin");
        let mut refused = HeaderMap::new();
        cors.decorate(None, &mut refused);
        assert!(!refused.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        assert_eq!(refused.get(VARY).unwrap(), "origin");
    }

    #[test]
    fn a_write_from_a_foreign_page_is_seen() {
        let cors = Cors::new(["https://app.example.com"]);
        // On HTTP/1.1 the host stands in its header, on HTTP/2 in the address.
        for (uri, host) in [("/api/plans", Some("berth.example")), ("https://berth.example/api/plans", None)] {
            let is_forged = |method: Method, origin: Option<&str>| {
                let mut request = Request::builder().method(method).uri(uri);
                for (name, value) in [(HOST, host), (ORIGIN, origin)] {
                    if let Some(value) = value {
                        request = request.header(name, value);
                    }
                }
                cors.is_forged(&request.body(()).unwrap().into_parts().0)
            };
            assert!(is_forged(Method::POST, Some("https://evil.example")), "{uri}");
            assert!(is_forged(Method::POST, Some("null")), "{uri}");
            assert!(!is_forged(Method::GET, Some("https://evil.example")), "{uri}");
            assert!(!is_forged(Method::POST, Some("https://berth.example")), "{uri}");
            assert!(!is_forged(Method::DELETE, Some("https://app.example.com")), "{uri}");
            assert!(!is_forged(Method::POST, None), "{uri}");
        }
    }
}
