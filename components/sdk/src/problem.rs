//! Errors as RFC 9457 problems. A 5xx problem carries a fixed text and never SQL, traces or secrets.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::validate::FieldError;

/// The result of a handler or a rule.
pub type Result<T, E = Problem> = std::result::Result<T, E>;

/// What a client is told when a request fails. The `requestId` is filled in when it is sent.
///
/// ```
/// use berth_sdk::problem::Problem;
/// let problem = Problem::conflict("The plan is executing.").with_code("PLAN_EXECUTING").with("planId", "p1");
/// let body = problem.to_json("r1");
/// assert_eq!(body["type"], "urn:berth:problem:plan-executing");
/// assert_eq!(body["requestId"], "r1");
/// assert_eq!(body["planId"], "p1");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// Machine-readable, upper snake case.
    pub code: Cow<'static, str>,
    /// The same for every occurrence of the code.
    pub title: &'static str,
    /// This occurrence, for a person.
    pub detail: String,
    /// What is wrong with which field.
    pub errors: Vec<FieldError>,
    /// What few problems have.
    more: Box<More>,
}

/// Members and headers that only some problems have; apart, so that a problem stays small in every `Result`.
#[derive(Clone, Debug, Default, PartialEq)]
struct More {
    members: Map<String, Value>,
    headers: Vec<(String, String)>,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $status:literal, $code:literal, $title:literal;)*) => {
        impl Problem {
            $($(#[$doc])*
            ///
            /// ```
            #[doc = concat!("let problem = berth_sdk::Problem::", stringify!($name), "(\"why\");")]
            #[doc = concat!("assert_eq!(problem.status, ", stringify!($status), ");")]
            /// ```
            pub fn $name(detail: impl Into<String>) -> Self {
                Self::new($status, $code, $title, detail)
            })*
        }
    };
}

kinds! {
    /// 400: the request as a whole is malformed.
    bad_request = 400, "VALIDATION_ERROR", "The request is not valid";
    /// 401: nobody is signed in.
    unauthorized = 401, "UNAUTHORIZED", "Authentication is needed";
    /// 403: the caller may not do this.
    forbidden = 403, "FORBIDDEN", "Not allowed";
    /// 404: no such thing, or one of another organization.
    not_found = 404, "NOT_FOUND", "Not found";
    /// 409: the state of the thing is in the way.
    conflict = 409, "CONFLICT", "The state does not allow it";
    /// 410: it was here.
    gone = 410, "GONE", "No longer there";
    /// 412: `If-Match` names another version.
    precondition_failed = 412, "PRECONDITION_FAILED", "The version has changed";
    /// 413: larger than allowed.
    too_large = 413, "PAYLOAD_TOO_LARGE", "Too large";
    /// 415: not a media type the route takes.
    unsupported_media_type = 415, "UNSUPPORTED_MEDIA_TYPE", "Media type not supported";
    /// 422: well formed, but impossible.
    unprocessable = 422, "UNPROCESSABLE", "It cannot be done";
    /// 423: locked.
    locked = 423, "LOCKED", "Locked";
    /// 429: too many requests.
    rate_limited = 429, "RATE_LIMIT_EXCEEDED", "Too many requests";
    /// 501: not built.
    not_implemented = 501, "NOT_IMPLEMENTED", "Not implemented";
    /// 502: an upstream answered wrongly.
    bad_gateway = 502, "BAD_GATEWAY", "An upstream failed";
    /// 503: something it needs is away.
    unavailable = 503, "SERVICE_UNAVAILABLE", "Not available now";
    /// 504: something it needs took too long.
    timeout = 504, "GATEWAY_TIMEOUT", "Took too long";
}

impl Problem {
    /// A problem of any status and code.
    ///
    /// ```
    /// let problem = berth_sdk::Problem::new(409, "PLAN_CHANGED", "The plan has changed", "Its hash differs.");
    /// assert_eq!(problem.code, "PLAN_CHANGED");
    /// ```
    pub fn new(
        status: u16,
        code: impl Into<Cow<'static, str>>,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self { status, code: code.into(), title, detail: detail.into(), errors: Vec::new(), more: Box::default() }
    }

    /// 400 with field errors.
    ///
    /// ```
    /// use berth_sdk::{Problem, validate::FieldError};
    /// let problem = Problem::validation(vec![FieldError::new("title", "is required")]);
    /// assert_eq!(problem.to_json("r")["errors"][0]["field"], "title");
    /// ```
    pub fn validation(errors: Vec<FieldError>) -> Self {
        let detail = match errors.first() {
            Some(only) if errors.len() == 1 => format!("{}: {}.", only.field, only.message),
            _ => format!("{} fields are not valid.", errors.len()),
        };
        Self { errors, ..Self::bad_request(detail) }
    }

    /// 400 with one field error.
    ///
    /// ```
    /// assert_eq!(berth_sdk::Problem::field("limit", "must be at most 200").errors.len(), 1);
    /// ```
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::validation(vec![FieldError::new(field, message)])
    }

    /// 404 for a named thing, such as `plan`.
    ///
    /// ```
    /// assert_eq!(berth_sdk::Problem::missing("plan").detail, "There is no such plan.");
    /// ```
    pub fn missing(what: &str) -> Self {
        Self::not_found(format!("There is no such {what}."))
    }

    /// 500 with the one text that a client may see.
    ///
    /// ```
    /// assert_eq!(berth_sdk::Problem::internal().status, 500);
    /// ```
    pub fn internal() -> Self {
        Self::new(500, "INTERNAL_ERROR", "Internal error", "Something went wrong here; it has been noted.")
    }

    /// Another code under the same status.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.code = code.into();
        self
    }

    /// With what is wrong with which field.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// A further member of the body.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.members.insert(name.to_string(), value.into());
        self
    }

    /// The value of a further member.
    ///
    /// ```
    /// let problem = berth_sdk::Problem::conflict("It runs.").with("executionId", "e1");
    /// assert_eq!(problem.member("executionId").unwrap(), "e1");
    /// ```
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.more.members.get(name)
    }

    /// Further headers, such as `Allow`.
    pub fn headers(&self) -> &[(String, String)] {
        &self.more.headers
    }

    /// A further header of the response.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.more.headers.push((name.to_string(), value.into()));
        self
    }

    /// The body as it is sent.
    pub fn to_json(&self, request_id: &str) -> Value {
        let mut body = json!({
            "type": format!("urn:berth:problem:{}", self.code.to_lowercase().replace('_', "-")),
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "requestId": request_id,
        });
        if let Value::Object(members) = &mut body {
            if !self.errors.is_empty() {
                members.insert("errors".into(), json!(self.errors));
            }
            for (name, value) in &self.more.members {
                members.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        body
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}: {}", self.status, self.code, self.detail)
    }
}

impl std::error::Error for Problem {}
