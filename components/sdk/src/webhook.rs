//! Signed calls between servers: a time, and an HMAC over `timestamp.body` with a stored secret that the host alone knows.
//! The sender's clock is part of what is signed, so that an old call cannot be played again.

use std::time::Duration;

use crate::{
    Fault,
    clock::Timestamp,
    problem::{Problem, Result},
    secrets,
};

/// The header with the time, in seconds since 1970.
pub const TIMESTAMP: &str = "berth-timestamp";
/// The header with the signature: `sha256=` and the HMAC in hexadecimal.
pub const SIGNATURE: &str = "berth-signature";
/// How far a signed call's time may be from ours.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// What is signed.
///
/// ```
/// assert_eq!(berth_sdk::webhook::signed_text(17, b"{}"), b"17.{}");
/// ```
pub fn signed_text(timestamp: i64, body: &[u8]) -> Vec<u8> {
    let mut text = format!("{timestamp}.").into_bytes();
    text.extend_from_slice(body);
    text
}

/// The header's value.
///
/// ```
/// use berth_sdk::webhook::{header, parse};
/// assert_eq!(parse(&header(&[7; 32])), Some(vec![7; 32]));
/// ```
pub fn header(mac: &[u8]) -> String {
    format!("sha256={}", hex::encode(mac))
}

/// The HMAC in a header's value, with or without `sha256=`.
///
/// ```
/// assert_eq!(berth_sdk::webhook::parse("sha256=zz"), None);
/// ```
pub fn parse(value: &str) -> Option<Vec<u8>> {
    let text = value.trim();
    let mac = hex::decode(text.strip_prefix("sha256=").unwrap_or(text)).ok()?;
    (mac.len() == 32).then_some(mac)
}

/// Whether a signed time is near enough to now.
///
/// ```
/// use berth_sdk::{clock::Timestamp, webhook::is_fresh};
/// let now = Timestamp::from_millis(1_000_000_000);
/// assert!(is_fresh(1_000_300, now) && !is_fresh(1_000_301, now));
/// ```
pub fn is_fresh(timestamp: i64, now: Timestamp) -> bool {
    let tolerance = i64::try_from(TOLERANCE.as_secs()).unwrap_or(i64::MAX);
    (now.millis() / 1_000).saturating_sub(timestamp).saturating_abs() <= tolerance
}

/// Whether the HMAC is that of the secret, for an organization, because a public call has none. A stranger does not learn
/// more of a secret that cannot be used than that it is not there: 503 `SECRET_UNAVAILABLE`.
///
/// ```
/// assert_eq!(berth_sdk::webhook::verify("s1", "o1", b"17.{}", &[0; 32]).unwrap_err().status, 503); // natively there are no keys
/// ```
pub fn verify(secret_id: &str, organization_id: &str, text: &[u8], mac: &[u8]) -> Result<bool> {
    match secrets::verify_hmac_with_secret(secret_id, Some(organization_id), text, mac) {
        Ok(fits) => Ok(fits),
        Err(Fault::SecretUnavailable) => {
            Err(Problem::unavailable("The secret of the webhook cannot be used.").with_code("SECRET_UNAVAILABLE"))
        }
        Err(_) => Err(Problem::unavailable("The signature cannot be checked just now.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_read_with_and_without_its_name() {
        let mac = [7_u8; 32];
        assert_eq!(parse(&hex::encode(mac)), Some(mac.to_vec()));
        for wrong in ["", "sha256=", "sha256=zz", "sha256=0707"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_old_or_future_time_is_not_fresh() {
        let now = Timestamp::from_millis(1_000_000_000);
        assert!(is_fresh(1_000_000, now) && is_fresh(999_700, now));
        assert!(!is_fresh(999_699, now) && !is_fresh(i64::MIN, now));
    }
}
