//! Why the gateway did not pass a request on or an answer back. What a client is told of it is in `problem.rs`.

use http::HeaderValue;

use crate::accounts::{AccountsError, AuthenticationError};
use crate::capability::queue::QueueError;
use crate::database::DatabaseError;
use crate::deploy::DeployError;
use crate::engine::CallError;

/// One enum for every stage of the pipeline; the texts inside are for the client and say nothing of the inside.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GatewayError {
    /// 400 `VALIDATION_ERROR`.
    #[error("{0}")]
    Malformed(&'static str),
    /// 400 `VALIDATION_ERROR`, for a parameter of an administration route.
    #[error("{0}")]
    BadParameter(String),
    /// 400 `ORGANIZATION_REQUIRED`.
    #[error("the token names no organization")]
    OrganizationRequired,
    /// 401 `UNAUTHORIZED`.
    #[error("a valid access token is needed")]
    Unauthorized,
    /// 403 `FORBIDDEN`: the permission that is missing, or another reason.
    #[error("{0}")]
    Forbidden(String),
    /// 404 `ROUTE_NOT_FOUND`.
    #[error("no route has this path")]
    RouteNotFound,
    /// 404 `NOT_FOUND`.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// 405 `METHOD_NOT_ALLOWED`.
    #[error("the method is not allowed here")]
    MethodNotAllowed(HeaderValue),
    /// 408 `REQUEST_TIMEOUT`: the body stopped arriving.
    #[error("the body did not arrive in time")]
    BodyTimeout,
    /// 400 `VALIDATION_ERROR`: the body broke off or was malformed on the wire.
    #[error("the body could not be read")]
    BodyBroken(#[source] crate::body::BodyError),
    /// 409 `CONFLICT`.
    #[error("{0}")]
    Conflict(&'static str),
    /// 409 `CONFLICT` with `Retry-After`: the first request with this idempotency key is still running.
    #[error("a request with this idempotency key is still running")]
    KeyInFlight,
    /// 413 `PAYLOAD_TOO_LARGE`.
    #[error("the body is larger than {0} bytes")]
    BodyTooLarge(usize),
    /// 414 `URI_TOO_LONG`.
    #[error("the path or query is too long")]
    UriTooLong,
    /// 415 `UNSUPPORTED_MEDIA_TYPE`: the type that is wanted.
    #[error("the body must be {0}")]
    UnsupportedMediaType(String),
    /// 429 `RATE_LIMIT_EXCEEDED`.
    #[error("too many requests")]
    RateLimited { retry_after_seconds: u64 },
    /// 503 `SERVICE_UNAVAILABLE` with `Retry-After`: the cache is lost, and the operator wants no request uncounted.
    #[error("requests cannot be counted now")]
    Uncounted,
    /// 500 `INTERNAL_ERROR`.
    #[error("the gateway could not finish its work")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// 502 `PLUGIN_FAILED`: what is wrong with the guest's answer, for the log.
    #[error("the guest gave no valid answer: {0}")]
    BadAnswer(&'static str),
    /// 503 `SERVICE_UNAVAILABLE`: no build accepts requests.
    #[error("no build of the plugin accepts requests")]
    NotLoaded,
    /// 504 `GATEWAY_TIMEOUT`: no answer, or no first byte of a stream.
    #[error("the plugin did not answer in time")]
    TimedOut,
    /// 501 `NOT_IMPLEMENTED`.
    #[error("{0}")]
    NotImplemented(&'static str),
    /// 503 `SERVICE_UNAVAILABLE` with `Retry-After`: too much of something at once.
    #[error("too much at once")]
    Busy,
    /// A call into a guest.
    #[error("the guest could not answer")]
    Call(#[from] CallError),
    /// A deploy or a rollback.
    #[error("the deploy did not happen")]
    Deploy(#[from] DeployError),
    /// The host's own tables.
    #[error("the host's database failed")]
    Database(#[from] DatabaseError),
    /// The queues, for the admin routes.
    #[error("the queue failed")]
    Queue(#[from] QueueError),
    /// The caller's token.
    #[error("the caller could not be authenticated")]
    Authentication(#[from] AuthenticationError),
    /// A route of the main app.
    #[error("the main app refused")]
    Accounts(#[from] AccountsError),
}

impl GatewayError {
    /// The same refusal for a second use. Only what is judged at the entrance is ever used twice; the cause of
    /// anything else is not repeated.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Malformed(detail) => Self::Malformed(detail),
            Self::NotImplemented(detail) => Self::NotImplemented(detail),
            Self::Unauthorized => Self::Unauthorized,
            Self::Forbidden(detail) => Self::Forbidden(detail.clone()),
            Self::Authentication(AuthenticationError::Invalid) => AuthenticationError::Invalid.into(),
            Self::Authentication(AuthenticationError::Ended) => AuthenticationError::Ended.into(),
            Self::Authentication(AuthenticationError::TooManyGuesses { retry_after_seconds }) => {
                AuthenticationError::TooManyGuesses { retry_after_seconds: *retry_after_seconds }.into()
            }
            Self::Authentication(AuthenticationError::Unavailable(source)) => {
                AuthenticationError::Unavailable(source.to_string().into()).into()
            }
            other => Self::Internal(other.to_string().into()),
        }
    }
}
