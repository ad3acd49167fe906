//! Data keys in memory: made, wrapped, unwrapped, remembered for a while and wiped.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use zeroize::Zeroizing;

use super::backend::{KeyStore, VaultError, WrappedKey};
use super::master::{KEY_BYTES, MasterKey};
use super::{fill_random, sealed};

/// Unwrapped keys remembered at once.
const KEYS_MAX: u64 = 4096;
/// How long an unused key is remembered.
const KEY_IDLE: Duration = Duration::from_secs(600);
/// How long a key counts as active before the store is asked again, so that a rotation reaches every host.
const ACTIVE_AGE: Duration = Duration::from_secs(60);
/// The purpose of the row that tells whether the master key fits.
const CHECK: &str = "check";

/// An unwrapped key; wiped when the last user lets go of it.
pub(super) struct DataKey {
    pub(super) id: String,
    purpose: String,
    organization: String,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

/// See the file's head.
pub(super) struct Keyring {
    store: Arc<dyn KeyStore>,
    master: MasterKey,
    active: Cache<(String, String), Arc<DataKey>>,
    by_id: Cache<String, Arc<DataKey>>,
}

impl DataKey {
    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }
}

impl Keyring {
    pub(super) fn new(store: Arc<dyn KeyStore>, master: MasterKey) -> Self {
        Self {
            store,
            master,
            active: Cache::builder().max_capacity(KEYS_MAX).time_to_live(ACTIVE_AGE).build(),
            by_id: Cache::builder().max_capacity(KEYS_MAX).time_to_idle(KEY_IDLE).build(),
        }
    }

    /// Makes the check row on the first start; on later ones, finds out whether the master key opens it.
    pub(super) async fn check_master_key(&self) -> Result<(), VaultError> {
        match self.active(CHECK, None).await {
            Err(VaultError::Invalid(_)) => Err(VaultError::WrongMasterKey),
            other => other.map(|_| ()),
        }
    }

    /// The key that seals for this purpose and organization; made when there is none.
    pub(super) async fn active(&self, purpose: &str, organization: Option<&str>) -> Result<Arc<DataKey>, VaultError> {
        let organization = organization.unwrap_or("");
        let name = (purpose.to_owned(), organization.to_owned());
        if let Some(key) = self.active.get(&name) {
            return Ok(key);
        }
        let wrapped = match self.store.active(purpose, organization).await? {
            Some(wrapped) => wrapped,
            None => self.store.insert(self.make(purpose, organization)?).await?,
        };
        let key = Arc::new(self.unwrap(wrapped)?);
        self.by_id.insert(key.id.clone(), key.clone());
        self.active.insert(name, key.clone());
        Ok(key)
    }

    /// The key of this id, if it belongs to the purpose and organization.
    pub(super) async fn by_id(
        &self,
        id: &str,
        purpose: &str,
        organization: Option<&str>,
    ) -> Result<Arc<DataKey>, VaultError> {
        let key = match self.by_id.get(id) {
            Some(key) => key,
            None => {
                let wrapped = self.store.by_id(id).await?;
                let wrapped = wrapped.ok_or(VaultError::Invalid("the key that sealed this is not known here"))?;
                let key = Arc::new(self.unwrap(wrapped)?);
                self.by_id.insert(id.to_owned(), key.clone());
                key
            }
        };
        if key.purpose != purpose || key.organization != organization.unwrap_or("") {
            return Err(VaultError::Invalid("the key that sealed this is not known here"));
        }
        Ok(key)
    }

    fn make(&self, purpose: &str, organization: &str) -> Result<WrappedKey, VaultError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        fill_random(bytes.as_mut())?;
        let id = uuid::Uuid::now_v7().to_string();
        let wrapped = sealed::encrypt(self.master.bytes(), &wrapping(&id, purpose, organization), bytes.as_slice())?;
        Ok(WrappedKey { id, purpose: purpose.to_owned(), organization: organization.to_owned(), wrapped })
    }

    fn unwrap(&self, key: WrappedKey) -> Result<DataKey, VaultError> {
        let binding = wrapping(&key.id, &key.purpose, &key.organization);
        let plain = Zeroizing::new(sealed::decrypt(self.master.bytes(), &binding, &key.wrapped)?);
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        if plain.len() != KEY_BYTES {
            return Err(VaultError::Internal("a stored key has a wrong length"));
        }
        bytes.copy_from_slice(&plain);
        Ok(DataKey { id: key.id, purpose: key.purpose, organization: key.organization, bytes })
    }
}

/// What a wrapped key is bound to.
fn wrapping(id: &str, purpose: &str, organization: &str) -> Vec<u8> {
    sealed::binding(purpose, Some(organization), id)
}
