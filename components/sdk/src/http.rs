//! Requests, answers, and the types that a handler takes and returns. What a handler takes and returns is also what the
//! API's document says of it.

mod answer;
mod extract;
mod query;
mod stream;

pub use answer::{Accepted, Answer, Body, Created, JsonText, NoContent, Response};
pub use extract::{FromParams, FromRequest, IfMatch, Json, Params, Query, read_value};
pub(crate) use extract::{check_media_type, read_object};
pub(crate) use query::{decode, pairs};
pub use stream::{Chunk, Event, Look, Next, Sse, Stream};
#[cfg(target_arch = "wasm32")]
pub(crate) use stream::{KEEP_ALIVE, WAIT_MAX};

/// A request as a handler sees it.
///
/// ```
/// use berth_sdk::http::Request;
/// let request = Request::new("GET", "/api/plans?limit=5").with_header("If-Match", "\"3\"");
/// assert_eq!(request.path, "/api/plans");
/// assert_eq!(request.query.as_deref(), Some("limit=5"));
/// assert_eq!(request.header("if-match"), Some("\"3\""));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Upper case.
    pub method: String,
    /// Without the query, still percent-encoded.
    pub path: String,
    /// Without the question mark.
    pub query: Option<String>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Whole.
    pub body: Vec<u8>,
    /// The same through every internal call.
    pub request_id: String,
    /// The values of `{name}` in the route's path, decoded, in their order.
    pub params: Vec<String>,
}

impl Request {
    /// A request for tests; the target may carry a query.
    pub fn new(method: &str, target: &str) -> Self {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_string())),
            None => (target, None),
        };
        Self { method: method.to_ascii_uppercase(), path: path.to_string(), query, ..Self::default() }
    }

    /// Adds a header, for tests.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.to_string()));
        self
    }

    /// Carries a JSON body, for tests.
    #[must_use]
    pub fn with_json(mut self, value: &serde_json::Value) -> Self {
        self.body = value.to_string().into_bytes();
        self.with_header("content-type", "application/json")
    }

    /// The first header of this name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a query parameter, decoded.
    pub fn query_value(&self, name: &str) -> Option<String> {
        pairs(self.query.as_deref().unwrap_or_default()).find(|(key, _)| key == name).map(|(_, value)| value)
    }
}
