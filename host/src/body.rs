//! HTTP bodies as they pass between the rooms: one boxed type, the only place that reads one whole, and what an integer in one is.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, LengthLimitError, Limited};
use serde_json::Value;

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

/// Above it not every integer has a number of its own among the fractions: 2 to the power of 53.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// The integer that a value of a JSON body is; none for everything else. A fraction of zero may be written down, as the
/// documented type `integer` has it (JSON Schema Validation 2020-12, 6.1.1).
pub(crate) fn integer(value: &Value) -> Option<i64> {
    let is_whole = |number: &f64| number.fract() == 0.0 && number.abs() < EXACT_MAX;
    value.as_i64().or_else(|| value.as_f64().filter(is_whole).map(|number| number as i64))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_integer_may_be_written_with_a_fraction_of_zero() {
        for (value, expected) in [
            (json!(4), Some(4)),
            (json!(4.0), Some(4)),
            (json!(-3e2), Some(-300)),
            (json!(i64::MAX), Some(i64::MAX)),
            (json!(4.5), None),
            (json!(1e300), None),
            (json!(u64::MAX), None),
            (json!("4"), None),
            (json!(null), None),
        ] {
            assert_eq!(integer(&value), expected, "{value}");
        }
    }
}
