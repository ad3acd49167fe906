//! Why the main app refused: one enum for its routes, one for a bearer token.
//!
//! It never holds a secret, and never text for a 5xx that a client may see: the gateway has fixed texts for those.

use crate::capability::queue::QueueError;
use crate::database::DatabaseError;

/// What lies below an error.
pub(crate) type Source = Box<dyn std::error::Error + Send + Sync>;

/// One field of a body or a query that was not acceptable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldError {
    /// The JSON name of the field; `body` for the body as a whole.
    pub field: String,
    pub message: String,
}

/// Why a main-app route did not answer with what was asked. The texts inside the variants are for the client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountsError {
    /// 400 `VALIDATION_ERROR` with `errors`.
    #[error("{} field(s) are missing or invalid", .0.len())]
    Validation(Vec<FieldError>),
    /// 400 `ORGANIZATION_REQUIRED`.
    #[error("the token names no organization")]
    OrganizationRequired,
    /// 401 `UNAUTHORIZED`.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// 401 `REAUTH_REQUIRED`: the session is gone for good; only signing in again helps.
    #[error("{0}")]
    ReauthenticationRequired(&'static str),
    /// 403 `FORBIDDEN`.
    #[error("{0}")]
    Forbidden(String),
    /// 404 `NOT_FOUND`: no such row, or one of another organization.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// 404 `ROUTE_NOT_FOUND`.
    #[error("no route has this path")]
    RouteNotFound,
    /// 405 `METHOD_NOT_ALLOWED`, with `Allow`.
    #[error("the method is not allowed here")]
    MethodNotAllowed(Vec<&'static str>),
    /// 409 `CONFLICT`.
    #[error("{0}")]
    Conflict(String),
    /// 410 `GONE`.
    #[error("{0}")]
    Gone(&'static str),
    /// 412 `PRECONDITION_FAILED`.
    #[error("If-Match does not name the present version")]
    PreconditionFailed,
    /// 415 `UNSUPPORTED_MEDIA_TYPE`.
    #[error("the body must be application/json")]
    UnsupportedMediaType,
    /// 423 `LOCKED`, with `Retry-After`.
    #[error("too many failed attempts; the account is locked for a while")]
    Locked { retry_after_seconds: u64 },
    /// 429 `RATE_LIMIT_EXCEEDED`, with `Retry-After` and the member `retryAfter`.
    #[error("too many attempts")]
    RateLimited { retry_after_seconds: u64 },
    /// 502 `BAD_GATEWAY`: a login provider did not answer as it should.
    #[error("the login provider did not answer as it should")]
    Upstream(#[source] Source),
    /// 503 `SERVICE_UNAVAILABLE`, with `Retry-After`: too much at once.
    #[error("too many password checks at once")]
    Busy { retry_after_seconds: u64 },
    /// 503 `SERVICE_UNAVAILABLE`: the operator has not configured what the route needs.
    #[error("{0}")]
    NotConfigured(&'static str),
    /// 503 `SERVICE_UNAVAILABLE`, with `Retry-After`: the database is busy or away.
    #[error("the database does not answer")]
    Unavailable(#[source] Source),
    /// 500 `INTERNAL_ERROR`.
    #[error("the main app could not finish its work")]
    Internal(#[source] Source),
}

impl AccountsError {
    /// A validation error of one field.
    pub(crate) fn field(field: &str, message: impl Into<String>) -> Self {
        Self::Validation(vec![FieldError { field: field.into(), message: message.into() }])
    }

    /// A fault of the host itself.
    pub(crate) fn internal(source: impl Into<Source>) -> Self {
        Self::Internal(source.into())
    }

    /// What `Retry-After` must say, where it must say something.
    pub(crate) fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::Locked { retry_after_seconds }
            | Self::RateLimited { retry_after_seconds }
            | Self::Busy { retry_after_seconds } => Some(*retry_after_seconds),
            Self::Unavailable(_) => Some(1),
            _ => None,
        }
    }
}

/// Why a bearer token does not name a principal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthenticationError {
    /// 401 `UNAUTHORIZED`: malformed, forged, expired, or for another purpose. Which one is not said.
    #[error("the access token is not valid")]
    Invalid,
    /// 401 `UNAUTHORIZED`: the session was revoked, the account is not active, or the membership has ended.
    #[error("the session has ended")]
    Ended,
    /// 429 `RATE_LIMIT_EXCEEDED`, with `Retry-After`: so many keys that are none came from the address that no further one is
    /// looked for.
    #[error("too many keys that are none")]
    TooManyGuesses { retry_after_seconds: u64 },
    /// 503 `SERVICE_UNAVAILABLE`: whether the session lives could not be found out.
    #[error("the session could not be checked")]
    Unavailable(#[source] Source),
}

impl From<DatabaseError> for AccountsError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Busy | DatabaseError::Unavailable | DatabaseError::Timeout => {
                Self::Unavailable(error.into())
            }
            DatabaseError::Conflict(_) => {
                Self::Conflict("the row was changed at the same time, or exists already".into())
            }
            other => Self::Internal(other.into()),
        }
    }
}

impl From<QueueError> for AccountsError {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Busy | QueueError::Unavailable | QueueError::Timeout => Self::Unavailable(error.into()),
            other => Self::Internal(other.into()),
        }
    }
}
