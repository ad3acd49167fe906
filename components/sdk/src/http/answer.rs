//! What a handler returns.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{Json, Stream};
use crate::{
    problem::{Problem, Result},
    router::Route,
    schema,
};

/// When somebody who was told "not now" may come back, where the service does not say.
const RETRY_AFTER_SECONDS: &str = "1";

/// A response.
///
/// ```
/// use berth_sdk::http::Response;
/// let response = Response::text(200, "text/plain", "pong").with_header("cache-control", "no-store");
/// assert_eq!(response.status, 200);
/// ```
#[derive(Debug)]
pub struct Response {
    /// 200 to 599.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Body,
}

/// The body of a response.
#[derive(Debug)]
pub enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// Piece by piece.
    Stream(Stream),
}

impl Response {
    /// Without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Whole(Vec::new()) }
    }

    /// Bytes of a media type.
    pub fn bytes(status: u16, media_type: &str, bytes: Vec<u8>) -> Self {
        Self { status, headers: vec![("content-type".into(), media_type.into())], body: Body::Whole(bytes) }
    }

    /// Text of a media type.
    pub fn text(status: u16, media_type: &str, text: impl Into<String>) -> Self {
        Self::bytes(status, media_type, text.into().into_bytes())
    }

    /// A value as JSON.
    pub fn json(status: u16, value: &impl Serialize) -> Result<Self> {
        match serde_json::to_vec(value) {
            Ok(bytes) => Ok(Self::bytes(status, "application/json", bytes)),
            Err(error) => {
                crate::logging::error!("an answer cannot be written as JSON", error = error);
                Err(Problem::internal())
            }
        }
    }

    /// A problem as it is sent. A 503 always says when to come back.
    pub fn problem(problem: &Problem, request_id: &str) -> Self {
        let bytes = problem.to_json(request_id).to_string().into_bytes();
        let mut response = Self::bytes(problem.status, "application/problem+json", bytes);
        response.headers.extend(problem.headers().iter().cloned());
        if problem.status == 503 && !response.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("retry-after")) {
            return response.with_header("retry-after", RETRY_AFTER_SECONDS);
        }
        response
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// Adds the `ETag` of a version.
    #[must_use]
    pub fn with_version(self, version: i64) -> Self {
        self.with_header("etag", format!("\"{version}\""))
    }

    /// The body, when it is whole; for tests.
    pub fn whole_body(&self) -> Option<&[u8]> {
        match &self.body {
            Body::Whole(bytes) => Some(bytes),
            Body::Stream(_) => None,
        }
    }

    /// The body as JSON, when it is that; for tests.
    pub fn json_body(&self) -> Option<Value> {
        serde_json::from_slice(self.whole_body()?).ok()
    }
}

/// What can be returned by a handler: a value that becomes a response.
///
/// ```
/// use berth_sdk::http::{Answer, NoContent};
/// assert_eq!(NoContent.into_response().unwrap().status, 204);
/// ```
pub trait Answer {
    /// Becomes a response, or the problem to send instead.
    fn into_response(self) -> Result<Response>;
    /// Says in the route's description what it answers.
    fn describe(route: &mut Route) {
        let _ = route;
    }
}

impl Answer for Response {
    fn into_response(self) -> Result<Response> {
        Ok(self)
    }
}

impl<A: Answer> Answer for Result<A> {
    fn into_response(self) -> Result<Response> {
        self?.into_response()
    }
    fn describe(route: &mut Route) {
        A::describe(route);
    }
}

/// Plain text.
impl Answer for String {
    fn into_response(self) -> Result<Response> {
        Ok(Response::text(200, "text/plain; charset=utf-8", self))
    }
    fn describe(route: &mut Route) {
        route.answer(200, None, Some("text/plain"));
    }
}

/// 200 with JSON.
impl<T: Serialize + JsonSchema> Answer for Json<T> {
    fn into_response(self) -> Result<Response> {
        Response::json(200, &self.0)
    }
    fn describe(route: &mut Route) {
        route.answer(200, Some(schema::of::<T>), None);
    }
}

/// 201 with what was made.
///
/// ```
/// use berth_sdk::{json, http::{Answer, Created}};
/// assert_eq!(Created(json!({"id": "p1"})).into_response().unwrap().status, 201);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Created<T>(pub T);

impl<T: Serialize + JsonSchema> Answer for Created<T> {
    fn into_response(self) -> Result<Response> {
        Response::json(201, &self.0)
    }
    fn describe(route: &mut Route) {
        route.answer(201, Some(schema::of::<T>), None);
    }
}

/// 202 with a word on what goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted<T>(pub T);

impl<T: Serialize + JsonSchema> Answer for Accepted<T> {
    fn into_response(self) -> Result<Response> {
        Response::json(202, &self.0)
    }
    fn describe(route: &mut Route) {
        route.answer(202, Some(schema::of::<T>), None);
    }
}

/// 204.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoContent;

impl Answer for NoContent {
    fn into_response(self) -> Result<Response> {
        Ok(Response::empty(204))
    }
    fn describe(route: &mut Route) {
        route.answer(204, None, None);
    }
}

/// JSON that is text already, such as the answer of `query_json`; `T` says what it is.
///
/// ```
/// use berth_sdk::{serde_json::Value, http::{Answer, JsonText}};
/// let answer = JsonText::<Value>::new(200, b"[]".to_vec());
/// assert_eq!(answer.into_response().unwrap().whole_body(), Some(&b"[]"[..]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonText<T> {
    /// The status.
    pub status: u16,
    /// UTF-8 JSON.
    pub text: Vec<u8>,
    /// For the `ETag`.
    pub version: Option<i64>,
    kind: std::marker::PhantomData<fn() -> T>,
}

impl<T> JsonText<T> {
    /// An answer of this status.
    pub fn new(status: u16, text: Vec<u8>) -> Self {
        Self { status, text, version: None, kind: std::marker::PhantomData }
    }

    /// Carries the version as `ETag`.
    #[must_use]
    pub fn with_version(mut self, version: Option<i64>) -> Self {
        self.version = version;
        self
    }
}

impl<T: JsonSchema> Answer for JsonText<T> {
    fn into_response(self) -> Result<Response> {
        let response = Response::bytes(self.status, "application/json", self.text);
        Ok(match self.version {
            Some(version) => response.with_version(version),
            None => response,
        })
    }
    fn describe(route: &mut Route) {
        route.answer(200, Some(schema::of::<T>), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_now_says_when() {
        let retry_after = |problem: Problem| -> Vec<String> {
            let headers = Response::problem(&problem, "r").headers;
            headers.into_iter().filter(|(name, _)| name == "retry-after").map(|(_, value)| value).collect()
        };
        assert_eq!(retry_after(Problem::unavailable("x")), ["1"]);
        assert_eq!(retry_after(Problem::unavailable("x").with_header("retry-after", "9")), ["9"]);
        assert!(retry_after(Problem::conflict("x")).is_empty());
    }
}
