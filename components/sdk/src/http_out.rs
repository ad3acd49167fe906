//! Outgoing HTTP: other plugins by name, and the hosts that the grant lists. Retries and the circuit breaker are the
//! host's. An answer is read whole, at most [`BODY_BYTES_MAX`], or as it comes: see [`Call::open`].

mod described;

pub use described::{Described, Refusal, has_secret};

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Fault, platform,
    problem::{Problem, Result},
};

/// The largest answer.
pub const BODY_BYTES_MAX: usize = 10 * 1024 * 1024;
/// How long a request may take when nothing else is said.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// Seconds of a `Retry-After` that are believed.
const RETRY_AFTER_SECONDS_MAX: f64 = 86_400.0;

/// Calls one destination.
///
/// ```
/// use berth_sdk::{http_out, json};
/// let executions = http_out::plugin("execution-service");
/// let call = executions.post("/api/executions/execute").json(&json!({"planId": "p1"}));
/// assert_eq!(call.url, "http://execution-service.internal/api/executions/execute");
/// assert!(call.send().is_err()); // natively nobody answers
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    base: String,
}

/// Another plugin, called in process with the same caller.
///
/// ```
/// assert_eq!(berth_sdk::http_out::plugin("ai-service").get("/api/ai").url, "http://ai-service.internal/api/ai");
/// ```
pub fn plugin(name: &str) -> Client {
    Client { base: format!("http://{name}.internal") }
}

impl Client {
    /// A destination outside, such as `https://api.example.com`; the grant must list it.
    pub fn new(base: &str) -> Self {
        Self { base: base.trim_end_matches('/').to_string() }
    }

    /// A request of any method; `path` begins with `/`.
    pub fn request(&self, method: &str, path: &str) -> Call {
        Call {
            method: method.to_ascii_uppercase(),
            url: format!("{}{path}", self.base),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: TIMEOUT,
        }
    }

    /// `GET`.
    pub fn get(&self, path: &str) -> Call {
        self.request("GET", path)
    }

    /// `POST`.
    pub fn post(&self, path: &str) -> Call {
        self.request("POST", path)
    }

    /// `PUT`.
    pub fn put(&self, path: &str) -> Call {
        self.request("PUT", path)
    }

    /// `DELETE`.
    pub fn delete(&self, path: &str) -> Call {
        self.request("DELETE", path)
    }
}

/// A request on its way out.
#[derive(Clone, Debug)]
pub struct Call {
    /// Upper case.
    pub method: String,
    /// The whole address.
    pub url: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Whole.
    pub body: Vec<u8>,
    /// How long it may take.
    pub timeout: Duration,
}

impl Call {
    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// Adds a parameter to the query, with what is special in it escaped.
    ///
    /// ```
    /// let call = berth_sdk::http_out::plugin("knowledge-base").get("/api/knowledge/search").query("q", "a&b ü").query("limit", "5");
    /// assert_eq!(call.url, "http://knowledge-base.internal/api/knowledge/search?q=a%26b%20%C3%BC&limit=5");
    /// ```
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.url.push(if self.url.contains('?') { '&' } else { '?' });
        escape(name, &mut self.url);
        self.url.push('=');
        escape(value, &mut self.url);
        self
    }

    /// Makes a `POST` safe to repeat.
    #[must_use]
    pub fn idempotency_key(self, key: impl Into<String>) -> Self {
        self.header("idempotency-key", key)
    }

    /// Lets the host put in the credentials stored under this secret, where the secret says: a bearer token, a user and
    /// password, a header or a parameter of the query. The guest never sees them. [`Fault::SecretUnavailable`] when the
    /// secret cannot be used by this plugin for this caller and destination: over plain HTTP only on the host's own machine,
    /// and where one of the secret's hosts begins with `http://`. A redirect is never followed, so they go nowhere else.
    #[must_use]
    pub fn auth_secret_id(self, secret_id: impl Into<String>) -> Self {
        self.header("berth-auth-secret-id", secret_id)
    }

    /// Lets the host make the value of this secret the value of a header.
    ///
    /// ```
    /// let call = berth_sdk::http_out::Client::new("https://api.example.com").get("/").secret_header("X-Key", "s1");
    /// assert_eq!(call.headers, [("berth-header-secret-id".to_string(), "x-key=s1".to_string())]);
    /// ```
    #[must_use]
    pub fn secret_header(self, name: &str, secret_id: &str) -> Self {
        self.header("berth-header-secret-id", format!("{}={secret_id}", name.to_ascii_lowercase()))
    }

    /// Says for which organization secrets are used; it counts only in a call that has none, such as a timer's.
    #[must_use]
    pub fn secrets_of(self, organization_id: &str) -> Self {
        self.header("berth-auth-organization-id", organization_id)
    }

    /// Carries a value as JSON.
    #[must_use]
    pub fn json(mut self, value: &impl Serialize) -> Self {
        self.body = serde_json::to_vec(value).unwrap_or_default();
        self.header("content-type", "application/json")
    }

    /// Carries bytes.
    #[must_use]
    pub fn body(mut self, media_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = bytes.into();
        self.header("content-type", media_type)
    }

    /// Takes at most so long.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends it and waits for the whole answer, of whatever status.
    pub fn send(&self) -> Result<Reply, Fault> {
        platform::http_send(self)
    }

    /// Sends it and returns as soon as the head of the answer is there, of whatever status; the body is read as it comes.
    /// The call's timeout is for the head. Dropping the answer ends the request.
    ///
    /// ```
    /// use std::time::Duration;
    /// use berth_sdk::{Fault, http_out::{Client, Part}};
    /// fn first_bytes() -> Result<Vec<u8>, Fault> {
    ///     let mut answer = Client::new("https://events.example.com").get("/stream").open()?;
    ///     loop {
    ///         match answer.read(Duration::from_millis(500))? {
    ///             Part::Chunk(bytes) => return Ok(bytes),
    ///             Part::Waiting => {} // nothing yet: look after other things, or give up
    ///             Part::End => return Ok(Vec::new()),
    ///         }
    ///     }
    /// }
    /// assert!(first_bytes().is_err()); // natively nobody answers
    /// ```
    pub fn open(&self) -> Result<Incoming, Fault> {
        let (head, body) = platform::http_open(self)?;
        Ok(Incoming { head, body, bytes_read: 0 })
    }

    /// Sends it and reads a 2xx answer as JSON. A problem that another plugin answers with passes through: its status,
    /// code and detail; every other failure is 502, 503 or 504.
    pub fn fetch<T: DeserializeOwned>(&self) -> Result<T> {
        self.accept()?.json()
    }

    /// Sends it and returns a 2xx answer; see [`Call::fetch`].
    pub fn accept(&self) -> Result<Reply> {
        let reply = self.send().map_err(|fault| match fault {
            Fault::Timeout => Problem::timeout("The service called took too long."),
            Fault::SecretUnavailable => Problem::from(fault),
            // A plugin that the grant does not name is one that is not there.
            Fault::Denied(_) if !self.url.contains(".internal/") => Problem::from(fault),
            _ => Problem::unavailable("The service called is not available."),
        })?;
        if reply.is_success() { Ok(reply) } else { Err(reply.problem()) }
    }

    /// Scheme, authority, and path with query.
    #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "only the host's side needs it"))]
    pub(crate) fn parts(&self) -> Option<(&str, &str, &str)> {
        let (scheme, rest) = self.url.split_once("://")?;
        if !matches!(scheme, "http" | "https") {
            return None;
        }
        let (authority, path) = match rest.find('/') {
            Some(index) => rest.split_at(index),
            None => (rest, "/"),
        };
        (!authority.is_empty()).then_some((scheme, authority, path))
    }
}

/// How several calls go out at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Together {
    /// How many are under way at the same time; the others wait for their turn.
    pub at_once: usize,
    /// The largest answer; a larger one is [`Fault::TooLarge`]. All of them are held in memory.
    pub bytes_max: usize,
    /// How long all of them may take; what has no answer by then is [`Fault::Timeout`]. The time of each call counts from its turn.
    pub patience: Duration,
}

/// Sends several calls at once and waits for all of them. The answers, of whatever status, are in the order of the calls; what
/// one of them fails with concerns no other.
///
/// ```
/// use std::time::Duration;
/// use berth_sdk::{Fault, http_out::{self, Together, plugin}};
/// let calls = [plugin("planning").get("/api/tasks"), plugin("calendar").get("/api/calendar/calendars")];
/// let together = Together { at_once: 8, bytes_max: 1024 * 1024, patience: Duration::from_secs(10) };
/// let answers = http_out::send_all(&calls, together);
/// assert_eq!(answers, [Err(Fault::Unavailable), Err(Fault::Unavailable)]); // natively nobody answers
/// ```
pub fn send_all(calls: &[Call], together: Together) -> Vec<Result<Reply, Fault>> {
    platform::http_send_all(calls, together)
}

fn first<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
}

fn retry_after(value: Option<&str>) -> Option<Duration> {
    let seconds = value?.trim().parse::<f64>().ok().filter(|seconds| seconds.is_finite())?;
    Some(Duration::from_secs_f64(seconds.clamp(1.0, RETRY_AFTER_SECONDS_MAX).ceil()))
}

/// Escapes everything but unreserved characters (RFC 3986).
fn escape(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// The beginning of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first header of this name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }

    /// How long the answer asks to wait before the next request; see [`Reply::retry_after`].
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after(self.header("retry-after"))
    }
}

/// What reading a body that comes piece by piece found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The next bytes.
    Chunk(Vec<u8>),
    /// Nothing came within the time given.
    Waiting,
    /// The body is over.
    End,
}

/// An answer whose body is still coming; see [`Call::open`].
#[derive(Debug)]
pub struct Incoming {
    /// Status and headers.
    pub head: Head,
    body: platform::Incoming,
    bytes_read: usize,
}

impl Incoming {
    /// What is there by now, or comes within `patience`. A body of more than [`BODY_BYTES_MAX`] is [`Fault::TooLarge`].
    pub fn read(&mut self, patience: Duration) -> Result<Part, Fault> {
        let part = self.body.read(patience)?;
        if let Part::Chunk(bytes) = &part {
            self.bytes_read = self.bytes_read.saturating_add(bytes.len());
        }
        if self.bytes_read > BODY_BYTES_MAX {
            return Err(Fault::TooLarge(format!("an answer has at most {BODY_BYTES_MAX} bytes")));
        }
        Ok(part)
    }

    /// The rest of the body, at most `bytes_max` of it and what comes within `patience`: for an answer that says why
    /// something failed.
    pub fn rest(mut self, bytes_max: usize, patience: Duration) -> Vec<u8> {
        let begun = std::time::Instant::now();
        let mut bytes = Vec::new();
        while bytes.len() < bytes_max && begun.elapsed() < patience {
            match self.read(patience.saturating_sub(begun.elapsed())) {
                Ok(Part::Chunk(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(Part::Waiting) => {}
                Ok(Part::End) | Err(_) => break,
            }
        }
        bytes.truncate(bytes_max);
        bytes
    }
}

/// An answer, whole.
///
/// ```
/// use berth_sdk::http_out::Reply;
/// let reply = Reply { status: 200, headers: vec![], body: b"{\"id\":\"e1\"}".to_vec() };
/// assert_eq!(reply.json::<berth_sdk::serde_json::Value>().unwrap()["id"], "e1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The first header of this name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }

    /// How long the answer asks to wait before the next request: the whole seconds of its `Retry-After`, from one second to
    /// a day; none where it has no such header, or a date in it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use berth_sdk::http_out::Reply;
    /// let asks = |text: &str| Reply { status: 429, headers: vec![("retry-after".into(), text.into())], body: vec![] };
    /// assert_eq!(asks("7").retry_after(), Some(Duration::from_secs(7)));
    /// assert_eq!(asks("0.2").retry_after(), Some(Duration::from_secs(1)));
    /// assert_eq!(asks("999999999").retry_after(), Some(Duration::from_secs(86_400)));
    /// assert_eq!(asks("soon").retry_after(), None);
    /// ```
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after(self.header("retry-after"))
    }

    /// The body as JSON; 502 when it is none.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| {
            crate::logging::warn!("an answer does not fit", error = error);
            Problem::bad_gateway("The service called answered with something else than expected.")
        })
    }

    /// The failure of another plugin as one's own. A 4xx keeps status, code and detail; 401, 403 and 5xx of the other
    /// side become 502, 503 or 504 where they would mislead.
    pub fn problem(&self) -> Problem {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let text = |name: &str| body.get(name).and_then(|value| value.as_str()).map(ToString::to_string);
        match self.status {
            503 => Problem::unavailable("The service called is not available."),
            504 => Problem::timeout("The service called took too long."),
            400..500 => {
                let mut problem = Problem::new(
                    self.status,
                    text("code").unwrap_or_else(|| "UPSTREAM_REFUSED".into()),
                    "The service called refused",
                    text("detail").unwrap_or_else(|| "The service called refused the request.".into()),
                );
                for (name, value) in body.as_object().into_iter().flatten() {
                    if !matches!(name.as_str(), "type" | "title" | "status" | "detail" | "code" | "requestId") {
                        problem = problem.with(name, value.clone());
                    }
                }
                match self.header("retry-after") {
                    Some(value) => problem.with_header("retry-after", value),
                    None => problem,
                }
            }
            _ => Problem::bad_gateway("The service called failed."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_falls_into_its_parts() {
        let call = Client::new("https://a.example:8443/").get("/x?y=1");
        assert_eq!(call.parts(), Some(("https", "a.example:8443", "/x?y=1")));
        assert_eq!(Client::new("ftp://a").get("/").parts(), None);
        assert_eq!(Client::new("http://a").get("").parts(), Some(("http", "a", "/")));
    }

    #[test]
    fn a_refusal_of_another_plugin_passes_through() {
        let body = br#"{"code":"PLAN_CHANGED","title":"t","detail":"d","status":409,"executionId":"e1"}"#.to_vec();
        let problem = Reply { status: 409, headers: vec![], body }.problem();
        assert_eq!((problem.status, problem.code.as_ref()), (409, "PLAN_CHANGED"));
        assert_eq!(problem.member("executionId").unwrap(), "e1");
        assert_eq!(Reply { status: 500, headers: vec![], body: vec![] }.problem().status, 502);
        let limited = Reply { status: 429, headers: vec![("retry-after".into(), "7".into())], body: vec![] };
        assert_eq!(limited.problem().headers(), [("retry-after".to_string(), "7".to_string())]);
    }
}
