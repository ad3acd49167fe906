//! The one place where an error becomes an answer: RFC 9457, `application/problem+json`.
//!
//! A 5xx says a fixed text: never SQL, a stack trace, a secret, or what a guest said while it died.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use super::error::GatewayError;
use super::request_id;
use super::respond::ResponseBody;
use crate::accounts::{AccountsError, AuthenticationError, FieldError};
use crate::capability::queue::QueueError;
use crate::database::DatabaseError;
use crate::deploy::DeployError;
use crate::engine::CallError;
use crate::plugins_file::{Fault, FaultKind};

/// The media type of every error body.
pub(crate) const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// After how many seconds a client should try again when something is busy, restarting or away.
const RETRY_SOON_SECONDS: u64 = 1;
/// Faults of an entry that are told.
const FAULTS_MAX: usize = 100;

/// What is the same for every occurrence of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub status: StatusCode,
    pub code: &'static str,
    pub title: &'static str,
}

const fn kind(status: StatusCode, code: &'static str, title: &'static str) -> Kind {
    Kind { status, code, title }
}

const VALIDATION: Kind = kind(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", "The request is not valid");
const ORGANIZATION: Kind = kind(StatusCode::BAD_REQUEST, "ORGANIZATION_REQUIRED", "An organization is required");
const UNAUTHORIZED: Kind = kind(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "Authentication is required");
const REAUTHENTICATE: Kind = kind(StatusCode::UNAUTHORIZED, "REAUTH_REQUIRED", "Signing in again is required");
const FORBIDDEN: Kind = kind(StatusCode::FORBIDDEN, "FORBIDDEN", "Not allowed");
const NOT_FOUND: Kind = kind(StatusCode::NOT_FOUND, "NOT_FOUND", "Not found");
const ROUTE_NOT_FOUND: Kind = kind(StatusCode::NOT_FOUND, "ROUTE_NOT_FOUND", "No such route");
const METHOD: Kind = kind(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "Method not allowed");
const TIMEOUT: Kind = kind(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", "The request took too long to arrive");
const CONFLICT: Kind = kind(StatusCode::CONFLICT, "CONFLICT", "Conflict");
const WANTS_MORE: Kind = kind(StatusCode::CONFLICT, "CAPABILITY_DIFF", "The build asks for more");
const ROUTES_IN_USE: Kind = kind(StatusCode::CONFLICT, "ROUTES_IN_USE", "Routes in use would go");
const GONE: Kind = kind(StatusCode::GONE, "GONE", "Gone");
const PRECONDITION: Kind = kind(StatusCode::PRECONDITION_FAILED, "PRECONDITION_FAILED", "The precondition failed");
const TOO_LARGE: Kind = kind(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", "The body is too large");
const URI: Kind = kind(StatusCode::URI_TOO_LONG, "URI_TOO_LONG", "The path or query is too long");
const MEDIA: Kind = kind(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", "Unsupported media type");
const UNPROCESSABLE: Kind = kind(StatusCode::UNPROCESSABLE_ENTITY, "UNPROCESSABLE", "Cannot be processed");
const LOCKED: Kind = kind(StatusCode::LOCKED, "LOCKED", "Locked");
const RATE: Kind = kind(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT_EXCEEDED", "Too many requests");
const INTERNAL: Kind = kind(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", "Internal error");
const NOT_IMPLEMENTED: Kind = kind(StatusCode::NOT_IMPLEMENTED, "NOT_IMPLEMENTED", "Not implemented");
const BAD_GATEWAY: Kind = kind(StatusCode::BAD_GATEWAY, "BAD_GATEWAY", "An upstream service failed");
const PLUGIN_FAILED: Kind = kind(StatusCode::BAD_GATEWAY, "PLUGIN_FAILED", "The plugin failed");
const UNAVAILABLE: Kind = kind(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", "Service unavailable");
const GATEWAY_TIMEOUT: Kind = kind(StatusCode::GATEWAY_TIMEOUT, "GATEWAY_TIMEOUT", "The plugin did not answer in time");

/// One occurrence of a problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub kind: Kind,
    pub detail: Cow<'static, str>,
    pub errors: Vec<FieldError>,
    /// For `Retry-After`; with 429 for the member `retryAfter` as well.
    pub retry_after_seconds: Option<u64>,
    pub allow: Option<HeaderValue>,
    /// The connection cannot be used any further, for example because a body was left unread.
    pub closes: bool,
}

impl Problem {
    fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new(), retry_after_seconds: None, allow: None, closes: false }
    }

    fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds.max(1));
        self
    }

    fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// The body.
    pub(crate) fn json(&self, request_id: &str) -> Value {
        let mut body = json!({
            "type": format!("urn:berth:problem:{}", self.kind.code.to_ascii_lowercase().replace('_', "-")),
            "title": self.kind.title,
            "status": self.kind.status.as_u16(),
            "detail": self.detail,
            "code": self.kind.code,
            "requestId": request_id,
        });
        if let Value::Object(members) = &mut body {
            if !self.errors.is_empty() {
                let errors = self.errors.iter().map(|error| json!({ "field": error.field, "message": error.message }));
                members.insert("errors".to_owned(), errors.collect());
            }
            if self.kind.status == StatusCode::TOO_MANY_REQUESTS {
                members.insert("retryAfter".to_owned(), self.retry_after_seconds.into());
            }
        }
        body
    }

    /// The whole answer.
    pub(crate) fn response(self, request_id: &str) -> Response<ResponseBody> {
        let body = Bytes::from(self.json(request_id).to_string());
        let mut response = Response::new(ResponseBody::full(body));
        *response.status_mut() = self.kind.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, MEDIA_TYPE);
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, allow);
        }
        if self.kind.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The bytes for a connection whose request's head did not come to its end in time: nobody else can answer it, because
/// there is no request yet.
pub(super) fn late_head() -> Vec<u8> {
    let problem = Problem::new(TIMEOUT, "the head did not arrive in time");
    let body = problem.json(&request_id::generate()).to_string();
    format!(
        "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: application/problem+json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A problem of a status that the gateway itself never answers, for the API's document.
pub(super) fn example(status: StatusCode) -> Problem {
    match status {
        StatusCode::GONE => Problem::new(GONE, "it was here, and is no longer"),
        StatusCode::PRECONDITION_FAILED => Problem::new(PRECONDITION, "If-Match does not name the present version"),
        StatusCode::UNPROCESSABLE_ENTITY => Problem::new(UNPROCESSABLE, "it is well formed, but cannot be done"),
        StatusCode::LOCKED => Problem::new(LOCKED, "too many failed attempts; the account is locked for a while"),
        StatusCode::NOT_IMPLEMENTED => Problem::new(NOT_IMPLEMENTED, "this host cannot do that"),
        _ => internal(),
    }
}

impl From<&GatewayError> for Problem {
    fn from(error: &GatewayError) -> Self {
        use GatewayError as E;
        match error {
            E::Malformed(detail) => Self::new(VALIDATION, *detail),
            E::BadParameter(detail) => Self::new(VALIDATION, detail.clone()),
            E::OrganizationRequired => Self::new(ORGANIZATION, "the token names no organization: switch to one first"),
            E::Unauthorized => Self::new(UNAUTHORIZED, "a valid access token is needed"),
            E::Forbidden(detail) => Self::new(FORBIDDEN, detail.clone()),
            E::RouteNotFound => Self::new(ROUTE_NOT_FOUND, "no route has this path"),
            E::NotFound(what) => Self::new(NOT_FOUND, format!("there is no such {what}")),
            E::MethodNotAllowed(allow) => {
                let detail = format!("allowed here: {}", allow.to_str().unwrap_or_default());
                Self { allow: Some(allow.clone()), ..Self::new(METHOD, detail) }
            }
            E::BodyTimeout => Self::new(TIMEOUT, "the body did not arrive in time").closing(),
            E::BodyBroken(_) => Self::new(VALIDATION, "the body could not be read").closing(),
            E::Conflict(detail) => Self::new(CONFLICT, *detail),
            E::KeyInFlight => Self::new(CONFLICT, "a request with this idempotency key is still running")
                .retry_after(RETRY_SOON_SECONDS),
            E::BodyTooLarge(bytes_max) => {
                Self::new(TOO_LARGE, format!("the body may have at most {bytes_max} bytes")).closing()
            }
            E::UriTooLong => Self::new(URI, "the path or query is longer than the gateway accepts"),
            E::UnsupportedMediaType(wanted) => Self::new(MEDIA, format!("the body must be {wanted}")),
            E::RateLimited { retry_after_seconds } => {
                Self::new(RATE, "the rate limit is used up").retry_after(*retry_after_seconds)
            }
            E::Uncounted => Self::new(
                UNAVAILABLE,
                "requests cannot be counted at present, and this host refuses what it cannot count",
            )
            .retry_after(RETRY_SOON_SECONDS),
            E::Internal(_) => internal(),
            E::BadAnswer(_) => Self::new(PLUGIN_FAILED, "the plugin failed while it handled the request"),
            E::NotLoaded => Self::new(UNAVAILABLE, "no build of this plugin accepts requests at present")
                .retry_after(RETRY_SOON_SECONDS),
            E::TimedOut => Self::new(GATEWAY_TIMEOUT, "the plugin did not answer within its time limit"),
            E::NotImplemented(detail) => Self::new(NOT_IMPLEMENTED, *detail),
            E::Busy => {
                Self::new(UNAVAILABLE, "too much at once; try again in a moment").retry_after(RETRY_SOON_SECONDS)
            }
            E::Call(error) => call(error),
            E::Deploy(error) => deploy(error),
            E::Database(error) => database(error),
            E::Queue(error) => queue(error),
            E::Authentication(error) => authentication(error),
            E::Accounts(error) => accounts(error),
        }
    }
}

fn internal() -> Problem {
    Problem::new(INTERNAL, "the host could not finish the request")
}

fn storage_away() -> Problem {
    Problem::new(UNAVAILABLE, "the host's storage is busy or away").retry_after(RETRY_SOON_SECONDS)
}

fn call(error: &CallError) -> Problem {
    match error {
        CallError::Trapped(_) | CallError::OutOfMemory | CallError::BadAnswer(_) => {
            Problem::new(PLUGIN_FAILED, "the plugin failed while it handled the request")
        }
        CallError::TimedOut => Problem::from(&GatewayError::TimedOut),
        CallError::Busy => {
            Problem::new(UNAVAILABLE, "the plugin has no capacity left at present").retry_after(RETRY_SOON_SECONDS)
        }
        CallError::Cancelled => Problem::new(UNAVAILABLE, "the build that handled the request was withdrawn")
            .retry_after(RETRY_SOON_SECONDS),
        CallError::NotExported(_) => Problem::from(&GatewayError::RouteNotFound),
    }
}

fn deploy(error: &DeployError) -> Problem {
    match error {
        DeployError::UnknownPlugin(_) | DeployError::UnknownRevision(_) => Problem::new(NOT_FOUND, error.to_string()),
        DeployError::Conflict(detail) => Problem::new(CONFLICT, detail.clone()).retry_after(RETRY_SOON_SECONDS),
        DeployError::TooLarge(bytes_max) => Problem::from(&GatewayError::BodyTooLarge(*bytes_max)),
        DeployError::Invalid(detail) => Problem::new(UNPROCESSABLE, detail.clone()),
        DeployError::Faulty(faults) => faulty(faults),
        DeployError::WantsMore(detail) => Problem::new(WANTS_MORE, detail.clone()),
        DeployError::RoutesInUse(detail) => Problem::new(ROUTES_IN_USE, detail.clone()),
        DeployError::Unavailable(..) => {
            Problem::new(UNAVAILABLE, "the host cannot deploy at present; the old build serves on")
                .retry_after(RETRY_SOON_SECONDS)
        }
        DeployError::Internal(_) => internal(),
    }
}

/// An entry that is wrong in itself, or claims what somebody else has.
fn faulty(faults: &[Fault]) -> Problem {
    let (kind, detail) = match faults.iter().all(|fault| fault.kind == FaultKind::Taken) {
        true => (CONFLICT, "the plugins cannot stand beside each other so"),
        false => (VALIDATION, "the entry is refused"),
    };
    let errors = faults.iter().take(FAULTS_MAX);
    let errors = errors.map(|fault| FieldError { field: fault.place(), message: fault.sentence.clone() });
    Problem { errors: errors.collect(), ..Problem::new(kind, detail) }
}

fn database(error: &DatabaseError) -> Problem {
    if error.is_temporary() { storage_away() } else { internal() }
}

fn queue(error: &QueueError) -> Problem {
    match error {
        QueueError::Unknown(_) => Problem::from(&GatewayError::NotFound("queue")),
        QueueError::Busy | QueueError::Unavailable | QueueError::Timeout => storage_away(),
        _ => internal(),
    }
}

fn authentication(error: &AuthenticationError) -> Problem {
    match error {
        AuthenticationError::Invalid | AuthenticationError::Ended => {
            Problem::new(UNAUTHORIZED, "a valid access token is needed")
        }
        AuthenticationError::TooManyGuesses { retry_after_seconds } => {
            Problem::new(RATE, "too many keys that are none came from this address").retry_after(*retry_after_seconds)
        }
        AuthenticationError::Unavailable(_) => storage_away(),
    }
}

fn accounts(error: &AccountsError) -> Problem {
    use AccountsError as E;
    let problem = match error {
        E::Validation(errors) => {
            Problem { errors: errors.clone(), ..Problem::new(VALIDATION, "some fields are missing or invalid") }
        }
        E::OrganizationRequired => Problem::from(&GatewayError::OrganizationRequired),
        E::Unauthorized(detail) => Problem::new(UNAUTHORIZED, *detail),
        E::ReauthenticationRequired(detail) => Problem::new(REAUTHENTICATE, *detail),
        E::Forbidden(detail) => Problem::new(FORBIDDEN, detail.clone()),
        E::NotFound(what) => Problem::from(&GatewayError::NotFound(what)),
        E::RouteNotFound => Problem::from(&GatewayError::RouteNotFound),
        E::MethodNotAllowed(methods) => match HeaderValue::from_str(&methods.join(", ")) {
            Ok(allow) => Problem::from(&GatewayError::MethodNotAllowed(allow)),
            Err(_) => internal(),
        },
        E::Conflict(detail) => Problem::new(CONFLICT, detail.clone()),
        E::Gone(detail) => Problem::new(GONE, *detail),
        E::PreconditionFailed => Problem::new(PRECONDITION, "If-Match does not name the present version"),
        E::UnsupportedMediaType => Problem::new(MEDIA, "the body must be application/json"),
        E::Upstream(_) => Problem::new(BAD_GATEWAY, "the login provider did not answer as it should"),
        E::Locked { .. } => Problem::new(LOCKED, "too many failed attempts; the account is locked for a while"),
        E::RateLimited { .. } => Problem::new(RATE, "too many attempts"),
        E::Busy { .. } => Problem::new(UNAVAILABLE, "too much at once"),
        E::NotConfigured(detail) => Problem::new(UNAVAILABLE, *detail),
        E::Unavailable(_) => storage_away(),
        E::Internal(_) => internal(),
    };
    match error.retry_after_seconds() {
        Some(seconds) => problem.retry_after(seconds),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(error: GatewayError) -> Value {
        Problem::from(&error).json("request-1")
    }

    #[test]
    fn a_problem_has_every_member_of_the_standard_form() {
        let body = members(GatewayError::RouteNotFound);
        assert_eq!(
            body,
            json!({
                "type": "urn:berth:problem:route-not-found",
                "title": "No such route",
                "status": 404,
                "detail": "no route has this path",
                "code": "ROUTE_NOT_FOUND",
                "requestId": "request-1",
            })
        );
    }

    #[test]
    fn field_errors_are_listed_only_where_there_are_some() {
        let error = AccountsError::field("email", "is no address");
        assert_eq!(
            members(error.into()).get("errors"),
            Some(&json!([{ "field": "email", "message": "is no address" }]))
        );
        assert_eq!(members(GatewayError::Malformed("x")).get("errors"), None);
    }

    #[test]
    fn too_many_requests_say_when_to_come_back() {
        let problem = Problem::from(&GatewayError::RateLimited { retry_after_seconds: 17 });
        assert_eq!(problem.json("r").get("retryAfter"), Some(&json!(17)));
        assert_eq!(problem.response("r").headers().get(RETRY_AFTER).unwrap(), "17");
        let guesses = GatewayError::from(AuthenticationError::TooManyGuesses { retry_after_seconds: 18 }).again();
        let problem = Problem::from(&guesses);
        assert_eq!(problem.kind.code, "RATE_LIMIT_EXCEEDED");
        assert_eq!(problem.response("r").headers().get(RETRY_AFTER).unwrap(), "18");
    }

    #[test]
    fn a_server_error_never_tells_its_cause() {
        let cause = "SELECT secret FROM users";
        for error in [
            GatewayError::Internal(cause.into()),
            GatewayError::Accounts(AccountsError::internal(cause)),
            GatewayError::Authentication(AuthenticationError::Unavailable(cause.into())),
            GatewayError::Database(DatabaseError::Invalid(cause.into())),
            GatewayError::Call(CallError::Trapped(cause.into())),
            GatewayError::Call(CallError::BadAnswer(cause.into())),
            GatewayError::Deploy(DeployError::Unavailable(cause.into(), None)),
        ] {
            let body = members(error).to_string();
            assert!(!body.contains("SELECT"), "{body}");
        }
    }

    #[test]
    fn a_wrong_method_names_the_right_ones() {
        let error = AccountsError::MethodNotAllowed(vec!["GET", "POST"]);
        let response = Problem::from(&GatewayError::from(error)).response("r");
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers().get(ALLOW).unwrap(), "GET, POST");
    }
}
