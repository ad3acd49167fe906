//! Cryptography with keys that never leave the host. No function here returns another service's secret.

use crate::{Fault, platform};

/// Encrypts at most 1 MiB; only the same plugin, organization and `context` (such as a row's id) can open it.
///
/// ```
/// assert!(berth_sdk::secrets::seal(b"token", "row-1").is_err()); // natively there are no keys
/// ```
pub fn seal(plaintext: &[u8], context: &str) -> Result<Vec<u8>, Fault> {
    platform::secrets_seal(plaintext, context)
}

/// Decrypts what [`seal`] made; [`Fault::Invalid`] when a bit, the organization or the context differs.
///
/// ```
/// assert!(berth_sdk::secrets::open(b"sealed", "row-1").is_err());
/// ```
pub fn open(sealed: &[u8], context: &str) -> Result<Vec<u8>, Fault> {
    platform::secrets_open(sealed, context)
}

/// HMAC-SHA-256 under a key derived for this plugin, organization and key name.
///
/// ```
/// assert!(berth_sdk::secrets::hmac_sha256("lease", b"data").is_err());
/// ```
pub fn hmac_sha256(key_name: &str, data: &[u8]) -> Result<Vec<u8>, Fault> {
    platform::secrets_hmac(key_name, data)
}

/// Compares an HMAC in constant time.
///
/// ```
/// assert!(berth_sdk::secrets::verify_hmac("lease", b"data", b"mac").is_err());
/// ```
pub fn verify_hmac(key_name: &str, data: &[u8], mac: &[u8]) -> Result<bool, Fault> {
    platform::secrets_verify_hmac(key_name, data, mac)
}

/// As [`seal`], for what belongs to no organization in particular: the same plugin opens it whichever organization it acts
/// for, so who may see it is the plugin's to judge.
///
/// ```
/// assert!(berth_sdk::secrets::seal_shared(b"token", "row-1").is_err());
/// ```
pub fn seal_shared(plaintext: &[u8], context: &str) -> Result<Vec<u8>, Fault> {
    platform::secrets_seal_shared(plaintext, context)
}

/// Decrypts what [`seal_shared`] made.
///
/// ```
/// assert!(berth_sdk::secrets::open_shared(b"sealed", "row-1").is_err());
/// ```
pub fn open_shared(sealed: &[u8], context: &str) -> Result<Vec<u8>, Fault> {
    platform::secrets_open_shared(sealed, context)
}

/// HMAC-SHA-256 under a stored secret, which is named and never seen. [`Fault::SecretUnavailable`] when it cannot be used by
/// this plugin. `organization_id` counts only in a call without an organization: a timer's, or a public route's.
///
/// ```
/// assert!(berth_sdk::secrets::hmac_with_secret("s1", None, b"data").is_err());
/// ```
pub fn hmac_with_secret(secret_id: &str, organization_id: Option<&str>, data: &[u8]) -> Result<Vec<u8>, Fault> {
    platform::secrets_hmac_with_secret(secret_id, organization_id, data).map_err(unusable)
}

/// Compares such an HMAC in constant time.
///
/// ```
/// assert!(berth_sdk::secrets::verify_hmac_with_secret("s1", None, b"data", b"mac").is_err());
/// ```
pub fn verify_hmac_with_secret(
    secret_id: &str,
    organization_id: Option<&str>,
    data: &[u8],
    mac: &[u8],
) -> Result<bool, Fault> {
    platform::secrets_verify_hmac_with_secret(secret_id, organization_id, data, mac).map_err(unusable)
}

fn unusable(fault: Fault) -> Fault {
    // What the grant lacks is not linked in the first place: here it can only be the secret.
    if matches!(fault, Fault::Denied(_)) { Fault::SecretUnavailable } else { fault }
}

/// 1 to 1024 bytes of the operating system's randomness.
///
/// ```
/// assert!(berth_sdk::secrets::random(16).is_err());
/// ```
pub fn random(count: u32) -> Result<Vec<u8>, Fault> {
    platform::secrets_random(count)
}
