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

/// 1 to 1024 bytes of the operating system's randomness.
///
/// ```
/// assert!(berth_sdk::secrets::random(16).is_err());
/// ```
pub fn random(count: u32) -> Result<Vec<u8>, Fault> {
    platform::secrets_random(count)
}
