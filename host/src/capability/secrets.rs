//! The secrets room: encryption and message authentication with keys that never leave the host.
//!
//! The master key wraps data keys, and only data keys touch data: one for each purpose and organization, made when first
//! needed, kept wrapped in `berth_data_keys`. It must never hand a key, or another plugin's plaintext, to a guest.

pub(crate) mod backend;
#[cfg(test)]
mod conformance;
mod host;
mod keyring;
mod master;
mod sealed;
mod tables;

pub(crate) use backend::VaultError;
pub(crate) use host::link;
pub(crate) use master::MasterKey;

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use rand::TryRng;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::Guest;
use super::credentials::Credentials;
use crate::database::Database;
use keyring::Keyring;

/// The largest plaintext, in bytes.
pub(crate) const PLAINTEXT_BYTES_MAX: usize = 1 << 20;
/// The longest context or key name, in bytes.
pub(crate) const CONTEXT_BYTES_MAX: usize = 1024;
/// The largest input of an HMAC.
pub(crate) const HMAC_BYTES_MAX: usize = 16 << 20;
/// Random bytes in one call.
pub(crate) const RANDOM_BYTES_MAX: u32 = 1024;
/// The purpose of the host's own keys.
pub(crate) const HOST: &str = "host";

/// Seals and opens for the whole host. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Vault {
    keyring: Arc<Keyring>,
}

/// What the room sees of the running call.
pub(crate) struct View<'a> {
    pub guest: &'a Guest,
    pub room: &'a Vault,
    pub credentials: &'a Credentials,
}

impl Vault {
    /// Opens the vault over the host's tables, whose migrations must have run. `WrongMasterKey` when what is in this
    /// database was sealed with another master key.
    pub(crate) async fn open_with(database: Database, master: MasterKey) -> Result<Self, VaultError> {
        Self::over(Arc::new(tables::KeyTable::new(database)), master).await
    }

    /// The same over any store of wrapped keys.
    pub(crate) async fn over(store: Arc<dyn backend::KeyStore>, master: MasterKey) -> Result<Self, VaultError> {
        let keyring = Keyring::new(store, master);
        keyring.check_master_key().await?;
        Ok(Self { keyring: Arc::new(keyring) })
    }

    /// Encrypts `plaintext`. Only the same purpose (`host`, or [`plugin_purpose`]), organization and context open it.
    pub(crate) async fn seal(
        &self,
        purpose: &str,
        organization: Option<&str>,
        context: &str,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, VaultError> {
        check_size("the plaintext", plaintext.len(), PLAINTEXT_BYTES_MAX)?;
        check_size("the context", context.len(), CONTEXT_BYTES_MAX)?;
        let key = self.keyring.active(purpose, organization).await?;
        sealed::seal(&key, &sealed::binding(purpose, organization, context), plaintext)
    }

    /// Decrypts what [`Vault::seal`] made; `Invalid` when anything differs.
    pub(crate) async fn open(
        &self,
        purpose: &str,
        organization: Option<&str>,
        context: &str,
        sealed: &[u8],
    ) -> Result<Vec<u8>, VaultError> {
        check_size("the sealed text", sealed.len(), PLAINTEXT_BYTES_MAX + sealed::OVERHEAD_BYTES)?;
        check_size("the context", context.len(), CONTEXT_BYTES_MAX)?;
        let key_id = sealed::key_id(sealed)?;
        let key = self.keyring.by_id(&key_id, purpose, organization).await?;
        sealed::open(&key, &sealed::binding(purpose, organization, context), sealed)
    }

    /// HMAC-SHA-256 of `data` under a key derived for this purpose, organization and name.
    pub(crate) async fn hmac(
        &self,
        purpose: &str,
        organization: Option<&str>,
        key_name: &str,
        data: &[u8],
    ) -> Result<[u8; 32], VaultError> {
        check_size("the key's name", key_name.len(), CONTEXT_BYTES_MAX)?;
        check_size("the data", data.len(), HMAC_BYTES_MAX)?;
        // A purpose of its own: a key that encrypts never signs, and signing keys are never rotated away.
        let key = self.keyring.active(&format!("hmac/{purpose}"), organization).await?;
        let derived = zeroize::Zeroizing::new(authenticate(key.bytes(), &[b"berth hmac 1\0", key_name.as_bytes()])?);
        authenticate(derived.as_ref(), &[data])
    }

    /// Whether `mac` is the HMAC of `data`, compared in constant time.
    pub(crate) async fn verify_hmac(
        &self,
        purpose: &str,
        organization: Option<&str>,
        key_name: &str,
        data: &[u8],
        mac: &[u8],
    ) -> Result<bool, VaultError> {
        let expected = self.hmac(purpose, organization, key_name, data).await?;
        Ok(expected.ct_eq(mac).into())
    }

    /// `count` bytes from the operating system's random source, 1 to 1024.
    pub(crate) fn random(&self, count: u32) -> Result<Vec<u8>, VaultError> {
        if count == 0 || count > RANDOM_BYTES_MAX {
            return Err(VaultError::Invalid("1 to 1024 random bytes can be had at once"));
        }
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(0)];
        fill_random(&mut bytes)?;
        Ok(bytes)
    }
}

/// HMAC-SHA-256 of `data` under a stored secret.
fn hmac_with(key: &[u8], data: &[u8]) -> Result<[u8; 32], VaultError> {
    check_size("the data", data.len(), HMAC_BYTES_MAX)?;
    authenticate(key, &[data])
}

/// The purpose under which a plugin seals for no organization in particular.
fn shared_purpose(plugin: &str) -> String {
    format!("shared/{plugin}")
}

/// The purpose under which a plugin's data is sealed.
pub(crate) fn plugin_purpose(plugin: &str) -> String {
    format!("plugin/{plugin}")
}

fn check_size(what: &'static str, bytes: usize, bytes_max: usize) -> Result<(), VaultError> {
    if bytes > bytes_max { Err(VaultError::TooLarge { what, bytes_max }) } else { Ok(()) }
}

fn authenticate(key: &[u8], parts: &[&[u8]]) -> Result<[u8; 32], VaultError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| VaultError::Internal("a key has a wrong length"))?;
    for part in parts {
        mac.update(part);
    }
    Ok(mac.finalize().into_bytes().into())
}

fn fill_random(bytes: &mut [u8]) -> Result<(), VaultError> {
    rand::rngs::SysRng.try_fill_bytes(bytes).map_err(|_| VaultError::Internal("the random source failed"))
}
