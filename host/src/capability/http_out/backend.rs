//! What the gateway gives to internal calls, and what may go wrong on the way out.

use std::time::Duration;

use async_trait::async_trait;

use crate::body::{Body, BodyError};
use crate::capability::credentials::CredentialError;
use crate::principal::Call;

/// How an internal call reaches another plugin. The gateway implements it; nothing else may.
#[async_trait]
pub(crate) trait InternalDispatch: Send + Sync + 'static {
    /// Routes a request into the plugin `target`, as the pipeline does after authentication: same permission check, same
    /// limits. `call` holds the caller's principal, the calling plugin as `source_service`, the depth (already counted
    /// up) and the remaining deadline. The request's URI is absolute; identity headers have been taken out.
    async fn dispatch(
        &self,
        target: &str,
        call: Call,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, DispatchError>;

    /// The 503 that answers an internal call which was not made.
    fn refuse(&self, call: &Call, refusal: Refusal) -> http::Response<Body>;
}

/// Why no call was made at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Too many internal calls within one another.
    #[error("too many internal calls within one another")]
    TooDeep,
    /// The target has failed too often a moment ago.
    #[error("the target has failed too often; it is left alone for a while")]
    CircuitOpen,
}

/// Why a plugin could not be called. Answers of the plugin, its error statuses included, are responses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DispatchError {
    /// No plugin of that name.
    #[error("there is no such plugin")]
    NotFound,
    /// It has no build that takes requests, or is full; nothing of the request was handled, so it may be repeated.
    #[error("the plugin takes no requests at present")]
    Unavailable,
    /// The deadline passed.
    #[error("the plugin did not answer in time")]
    Timeout,
    /// It broke while it handled the request.
    #[error("the plugin failed")]
    Failed(#[source] Option<BodyError>),
}

/// What the guest asks for beyond the host's own timeouts; it can only shorten them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// Until the connection is up.
    pub connect: Option<Duration>,
    /// From there to the response's head.
    pub first_byte: Option<Duration>,
    /// Between two parts of the response's body.
    pub between_bytes: Option<Duration>,
}

/// Why there is no response, or why its body ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EgressError {
    /// The grant does not allow this name, plugin or port.
    #[error("the grant does not allow {0}")]
    Denied(String),
    /// The name leads to no address that may be reached.
    #[error("the address is not public and not listed by the operator")]
    AddressDenied,
    /// The URI cannot be used: no host, a user name in it, another scheme than HTTP.
    #[error("the address of the request is malformed")]
    Malformed,
    /// The method would make something else than a request of it.
    #[error("the method cannot be used here")]
    Method,
    /// The name could not be resolved.
    #[error("the name could not be resolved")]
    Resolve(#[source] Option<BodyError>),
    /// No connection could be made.
    #[error("no connection")]
    Connect(#[source] Option<BodyError>),
    /// The connection was lost before a response; the target may or may not have seen the request.
    #[error("the connection was lost before a response")]
    Lost(#[source] Option<BodyError>),
    /// No connection within its time.
    #[error("the connection took too long")]
    ConnectTimeout,
    /// No response, or no further part of its body, in time.
    #[error("the response took too long")]
    Timeout,
    /// The request body is over the limit.
    #[error("the request body is larger than {0} bytes")]
    RequestTooLarge(u64),
    /// The response body is over the limit.
    #[error("the response body is larger than {0} bytes")]
    ResponseTooLarge(u64),
    /// The exchange broke off, or was no HTTP.
    #[error("the exchange broke off")]
    Broken(#[source] Option<BodyError>),
    /// No such plugin.
    #[error("there is no such plugin")]
    NotFound,
    /// The plugin takes no requests at present.
    #[error("the target is not available")]
    Unavailable(#[source] Option<DispatchError>),
    /// The call was not made.
    #[error("the call was not made")]
    Refused(#[source] Refusal),
    /// A secret that the guest names cannot be used by it; nothing was sent.
    #[error("a secret that the request names cannot be used")]
    SecretUnavailable,
    /// The plugin has too many requests under way.
    #[error("too many requests at once")]
    Full,
}

impl EgressError {
    /// Whether nothing of a response has come back, so that an idempotent request may be repeated.
    pub(super) fn is_before_response(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Lost(_) | Self::ConnectTimeout | Self::Unavailable(_))
    }

    /// Whether it tells against the target; a refusal of our own does not.
    pub(super) fn is_failure_of_target(&self) -> bool {
        matches!(
            self,
            Self::Resolve(_)
                | Self::Connect(_)
                | Self::Lost(_)
                | Self::ConnectTimeout
                | Self::Timeout
                | Self::Broken(_)
                | Self::Unavailable(_)
        )
    }
}

impl From<CredentialError> for EgressError {
    fn from(error: CredentialError) -> Self {
        match error {
            CredentialError::Refused => Self::SecretUnavailable,
            CredentialError::Malformed => Self::Malformed,
            CredentialError::Unreachable => Self::Unavailable(None),
        }
    }
}

impl From<DispatchError> for EgressError {
    fn from(error: DispatchError) -> Self {
        match error {
            DispatchError::NotFound => Self::NotFound,
            DispatchError::Unavailable => Self::Unavailable(Some(error)),
            DispatchError::Timeout => Self::Timeout,
            DispatchError::Failed(source) => Self::Broken(source),
        }
    }
}
