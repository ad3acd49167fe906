//! The id of a request: the client's own where it is short and safe, a new UUIDv7 otherwise.
//!
//! It goes into logs, problems and messages, so nothing that could forge a line or a header may pass.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::HeaderMap;
use http::{HeaderName, HeaderValue};
use rand::RngExt;

/// The header that brings and returns it.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Characters of an accepted id.
const LENGTH_MAX: usize = 64;

/// The id of the request with these headers.
pub(crate) fn of(headers: &HeaderMap) -> Arc<str> {
    headers.get(&X_REQUEST_ID).and_then(accepted).map_or_else(generate, Arc::from)
}

/// A new id: a UUIDv7 whose random part comes from the thread's own generator.
pub(crate) fn generate() -> Arc<str> {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_millis() as u64);
    let random: [u8; 10] = rand::rng().random();
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    let mut text = [0u8; uuid::fmt::Hyphenated::LENGTH];
    Arc::from(&*id.hyphenated().encode_lower(&mut text))
}

/// The client's id, where it may be used.
fn accepted(value: &HeaderValue) -> Option<&str> {
    let bytes = value.as_bytes();
    let fits = (1..=LENGTH_MAX).contains(&bytes.len());
    let is_safe = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if fits && is_safe { value.to_str().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_value(value: &[u8]) -> Arc<str> {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
        of(&headers)
    }

    #[test]
    fn a_safe_id_is_kept() {
        assert_eq!(&*of_value(b"Trace.01_a-B"), "Trace.01_a-B");
        assert_eq!(&*of_value(&[b'a'; 64]), "a".repeat(64));
    }

    #[test]
    fn an_unsafe_or_long_id_is_replaced() {
        for value in [&b""[..], b"a b", b"a\"b", b"a,b", b"\xc3\xa9", &[b'a'; 65]] {
            let id = of_value(value);
            assert_eq!(id.len(), 36, "{value:?} gave {id}");
        }
    }

    #[test]
    fn a_new_id_is_a_uuid_of_version_seven_and_differs_each_time() {
        let (first, second) = (generate(), generate());
        assert_ne!(first, second);
        let id = uuid::Uuid::parse_str(&first).unwrap();
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
    }
}
