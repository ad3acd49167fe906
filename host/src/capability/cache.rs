//! The cache room: short-lived values in process or in Redis, one namespace for each plugin and organization, and one
//! for the host itself.
//!
//! What is in the cache may vanish at any time. A lost cache is never an error to a reader and never loosens a check: a
//! read misses, a write is dropped, and only what has no honest answer without the backend (a counter, add-if-absent)
//! says `unavailable`. It must never let a key leave its namespace.

pub(crate) mod backend;
#[cfg(test)]
mod conformance;
mod host;
mod memory;
mod outage;
mod redis;

pub(crate) use backend::CacheError;
pub(crate) use host::link;
pub(crate) use memory::MemoryCache;
pub(crate) use redis::RedisCache;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Guest;
use backend::CacheBackend;
use outage::Outage;

/// Bytes the in-process cache holds when nothing else is said.
pub(crate) const MEMORY_BYTES_MAX: usize = 64 << 20;
/// The longest key a guest may use, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 512;
/// The largest value.
pub(crate) const VALUE_BYTES_MAX: usize = 1 << 20;
/// The longest time to live: 30 days.
pub(crate) const TTL_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Keys in one `get-many`.
pub(crate) const KEYS_MAX: usize = 500;
/// Keys of it that are asked for at once, so that the backend never sends many times what may be answered.
const KEYS_AT_ONCE: usize = 32;
/// Bytes one `get-many` may answer with; what is over answers `too-large`.
pub(crate) const ANSWER_BYTES_MAX: usize = 16 << 20;

/// The cache of the whole host. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CacheRoom {
    backend: Arc<dyn CacheBackend>,
    outage: Arc<Outage>,
}

/// What the room sees of the running call.
pub(crate) struct View<'a> {
    pub guest: &'a Guest,
    pub room: &'a CacheRoom,
}

impl CacheRoom {
    /// Opens what `BERTH_CACHE_URL` names: `memory:`, `redis://…` or `rediss://…`. Redis need not be there yet.
    /// `namespace` sets this installation's keys apart from another's in the same Redis; may be empty.
    pub(crate) fn open_in(url: &str, namespace: &str) -> Result<Self, CacheError> {
        if url == "memory:" {
            return Ok(Self::new(Arc::new(MemoryCache::new(MEMORY_BYTES_MAX))));
        }
        Ok(Self::new(Arc::new(RedisCache::open(url, namespace)?)))
    }

    /// Asks a server that `url` names whether it will do at all.
    ///
    /// # Errors
    /// `Invalid` with what is wrong with it for good: its address, its version, the user's password or rights, a memory that
    /// is full and stays so. A server that is not there is no error.
    pub(crate) async fn judge(url: &str) -> Result<(), CacheError> {
        RedisCache::judge(url).await
    }

    /// The same without a namespace.
    #[cfg(test)]
    pub(crate) fn open(url: &str) -> Result<Self, CacheError> {
        Self::open_in(url, "")
    }

    /// A room over any backend.
    pub(crate) fn new(backend: Arc<dyn CacheBackend>) -> Self {
        Self { backend, outage: Arc::default() }
    }

    /// What stands behind the room, for the start-up lines and `/ready`: `memory` or `redis`.
    pub(crate) fn kind(&self) -> &'static str {
        self.backend.kind()
    }

    /// Whether the backend answers, for `/ready`.
    pub(crate) async fn ping(&self) -> Result<(), CacheError> {
        self.backend.ping().await
    }

    /// A value of the host; none when it is absent or the cache is lost.
    pub(crate) async fn host_get(&self, key: &str) -> Option<Bytes> {
        self.get(&host_key(key)).await
    }

    /// Stores a value of the host; dropped when the cache is lost.
    pub(crate) async fn host_set(&self, key: &str, value: Bytes, ttl: Duration) {
        self.set(&host_key(key), value, ttl).await;
    }

    /// Adds to a counter of the host. `Unavailable` when the cache is lost, so that the caller can choose.
    pub(crate) async fn host_increment(&self, key: &str, delta: i64, ttl: Duration) -> Result<i64, CacheError> {
        self.increment(&host_key(key), delta, ttl).await
    }

    async fn get(&self, key: &str) -> Option<Bytes> {
        self.outage.watch(self.backend.get(key)).await.ok().flatten()
    }

    /// None when the values together are larger than [`ANSWER_BYTES_MAX`]; the rest is not asked for then.
    async fn get_many(&self, keys: &[String]) -> Option<Vec<Option<Bytes>>> {
        let mut values = Vec::with_capacity(keys.len());
        let mut bytes = 0_usize;
        for keys in keys.chunks(KEYS_AT_ONCE) {
            let found = self.outage.watch(self.backend.get_many(keys)).await;
            let found = found.unwrap_or_else(|_| vec![None; keys.len()]);
            bytes += found.iter().flatten().map(Bytes::len).sum::<usize>();
            if bytes > ANSWER_BYTES_MAX {
                return None;
            }
            values.extend(found);
        }
        Some(values)
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Duration) {
        // A lost write is a miss later, which every reader must expect; the outage is logged where it is noticed.
        let _ = self.outage.watch(self.backend.set(key, value, ttl)).await;
    }

    async fn delete(&self, key: &str) {
        let _ = self.outage.watch(self.backend.delete(key)).await;
    }

    async fn increment(&self, key: &str, delta: i64, ttl: Duration) -> Result<i64, CacheError> {
        self.outage.watch(self.backend.increment(key, delta, ttl)).await
    }

    async fn add_if_absent(&self, key: &str, value: Bytes, ttl: Duration) -> Result<bool, CacheError> {
        self.outage.watch(self.backend.add_if_absent(key, value, ttl)).await
    }

    async fn expire(&self, key: &str, ttl: Duration) -> bool {
        self.outage.watch(self.backend.expire(key, ttl)).await.unwrap_or(false)
    }
}

/// The host's own namespace.
fn host_key(key: &str) -> String {
    format!("h:{key}")
}

/// A guest's key in its namespace. Neither a plugin's name nor an organization's id can hold a colon, so no two
/// namespaces share a key.
fn guest_key(guest: &Guest, key: &str) -> String {
    let organization = guest.call.principal.organization_id.as_deref().unwrap_or("-");
    format!("p:{}:{organization}:{key}", guest.plugin.name)
}
