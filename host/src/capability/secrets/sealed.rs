//! The form of a sealed text, version 1: `1 | key id (16) | nonce (12) | ciphertext and tag (16)`.
//!
//! Everything before the nonce, and the purpose, organization and context, is authenticated with the text.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};

use super::backend::VaultError;
use super::fill_random;
use super::keyring::DataKey;

/// The only version so far.
const VERSION: u8 = 1;
const KEY_ID_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const HEAD_BYTES: usize = 1 + KEY_ID_BYTES;
/// What sealing adds to a text.
pub(super) const OVERHEAD_BYTES: usize = HEAD_BYTES + NONCE_BYTES + TAG_BYTES;
/// One text for every way in which a sealed text can be wrong.
const INVALID: VaultError =
    VaultError::Invalid("the sealed text was changed, or belongs to another plugin, organization or context");

/// Purpose, organization and context as one string of bytes; each with its length, so that no two differ in meaning
/// and agree in bytes.
pub(super) fn binding(purpose: &str, organization: Option<&str>, context: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32 + purpose.len() + context.len());
    for part in [purpose, organization.unwrap_or(""), context] {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

/// Encrypts under a data key.
pub(super) fn seal(key: &DataKey, binding: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, VaultError> {
    let id = uuid::Uuid::parse_str(&key.id).map_err(|_| VaultError::Internal("a key's id is malformed"))?;
    let mut sealed = Vec::with_capacity(plaintext.len() + OVERHEAD_BYTES);
    sealed.push(VERSION);
    sealed.extend_from_slice(id.as_bytes());
    let associated = [sealed.as_slice(), binding].concat();
    sealed.extend_from_slice(&encrypt(key.bytes(), &associated, plaintext)?);
    Ok(sealed)
}

/// The id of the key that opens a sealed text.
pub(super) fn key_id(sealed: &[u8]) -> Result<String, VaultError> {
    match sealed.get(..HEAD_BYTES).and_then(<[u8]>::split_first) {
        Some((&VERSION, id)) => Ok(uuid::Uuid::from_slice(id).map_err(|_| INVALID)?.to_string()),
        _ => Err(INVALID),
    }
}

/// Decrypts what [`seal`] made.
pub(super) fn open(key: &DataKey, binding: &[u8], sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
    let (head, rest) = sealed.split_at_checked(HEAD_BYTES).ok_or(INVALID)?;
    decrypt(key.bytes(), &[head, binding].concat(), rest)
}

/// `nonce | ciphertext and tag`, with a nonce from the random source. One key seals far fewer than 2^32 texts.
pub(super) fn encrypt(key: &[u8; 32], associated: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, VaultError> {
    let mut nonce = [0; NONCE_BYTES];
    fill_random(&mut nonce)?;
    let ciphertext = Aes256Gcm::new(key.into())
        .encrypt(&nonce.into(), Payload { msg: plaintext, aad: associated })
        .map_err(|_| VaultError::Internal("encryption failed"))?;
    Ok([nonce.as_slice(), &ciphertext].concat())
}

/// Decrypts what [`encrypt`] made.
pub(super) fn decrypt(key: &[u8; 32], associated: &[u8], sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
    let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(INVALID)?;
    Aes256Gcm::new(key.into()).decrypt(nonce.into(), Payload { msg: ciphertext, aad: associated }).map_err(|_| INVALID)
}
