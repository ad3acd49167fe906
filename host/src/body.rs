//! HTTP bodies as they pass between the rooms: one boxed type, and the only place that reads one whole.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, LengthLimitError, Limited};

/// Whatever went wrong while a body was read or made.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A request's or response's body.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// A body that is there already.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// No body.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Why a body could not be read whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectError {
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the body could not be read")]
    Broken(#[source] BodyError),
}

/// Reads a body whole, at most `bytes_max` of it.
pub(crate) async fn collect<B>(body: B, bytes_max: usize) -> Result<Bytes, CollectError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BodyError>,
{
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(CollectError::TooLarge(bytes_max)),
        Err(error) => Err(CollectError::Broken(error)),
    }
}
