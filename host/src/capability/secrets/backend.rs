//! Where wrapped data keys are kept, and what may go wrong in the vault.

use async_trait::async_trait;

/// Why the vault refused or could not answer. No variant ever says which part of a sealed text was wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VaultError {
    /// The sealed text was changed, or belongs to another purpose, organization or context.
    #[error("{0}")]
    Invalid(&'static str),
    /// An argument is over its limit.
    #[error("{what} has at most {bytes_max} bytes")]
    TooLarge { what: &'static str, bytes_max: usize },
    /// The keys cannot be read or written at present.
    #[error("the stored keys cannot be reached")]
    Unavailable(#[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    /// This host's master key is not the one the database was sealed with.
    #[error("the master key does not fit this database: give the host the key that was used when it was first started")]
    WrongMasterKey,
    /// The master key's file or value cannot be used.
    #[error("{0}")]
    MasterKey(String),
    /// Something that cannot happen in a sound host.
    #[error("{0}")]
    Internal(&'static str),
}

/// One row of `berth_data_keys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrappedKey {
    pub id: String,
    pub purpose: String,
    /// Empty for the host's own and for calls without an organization.
    pub organization: String,
    /// The key, encrypted under the master key and bound to the three fields above.
    pub wrapped: Vec<u8>,
}

/// Keeps wrapped keys. At most one of a purpose and organization is active; retired ones still open what they sealed.
#[async_trait]
pub(crate) trait KeyStore: Send + Sync + 'static {
    /// The active key of a purpose and organization.
    async fn active(&self, purpose: &str, organization: &str) -> Result<Option<WrappedKey>, VaultError>;

    /// A key by its id, active or retired.
    async fn by_id(&self, id: &str) -> Result<Option<WrappedKey>, VaultError>;

    /// Stores a new active key unless another host was quicker; in either case returns the one that counts.
    async fn insert(&self, key: WrappedKey) -> Result<WrappedKey, VaultError>;
}
