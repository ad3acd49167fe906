//! What a cache must be able to do, whatever stands behind it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// Why a cache could not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    /// The backend cannot be reached. Trying again later helps.
    #[error("the cache cannot be reached")]
    Unavailable(#[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    /// The request makes no sense: a counter that is no number or would overflow, a malformed address.
    #[error("{0}")]
    Invalid(&'static str),
}

/// A store of values with a time to live. Keys arrive with their namespace; limits are checked before.
#[async_trait]
pub(crate) trait CacheBackend: Send + Sync + 'static {
    /// `memory` or `redis`.
    fn kind(&self) -> &'static str;

    /// Whether it answers.
    async fn ping(&self) -> Result<(), CacheError>;

    /// The value, or none when it is absent or expired.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError>;

    /// The values in the order of the keys.
    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, CacheError>;

    /// Stores a value and its time to live, over what was there.
    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), CacheError>;

    /// Removes a key; an absent one is fine.
    async fn delete(&self, key: &str) -> Result<(), CacheError>;

    /// Adds to a counter atomically; an absent one starts at zero and lives for `ttl`, an existing one keeps its own.
    /// The counter reads as decimal digits. `Invalid` when the value is no whole number or the sum overflows.
    async fn increment(&self, key: &str, delta: i64, ttl: Duration) -> Result<i64, CacheError>;

    /// Stores the value only when the key is absent, atomically.
    async fn add_if_absent(&self, key: &str, value: Bytes, ttl: Duration) -> Result<bool, CacheError>;

    /// Gives an existing key a new time to live; false when it is absent.
    async fn expire(&self, key: &str, ttl: Duration) -> Result<bool, CacheError>;
}
