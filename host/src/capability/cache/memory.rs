//! The cache in this process: a sharded map bounded by bytes, for a host that stands alone.
//!
//! When a shard is full, the second-chance rule drops what was not read lately; nothing here ever fails for lack of room.

mod shard;

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::backend::{CacheBackend, CacheError};
use shard::Shard;

/// Shards, so that callers on different cores seldom wait for one another. A power of two.
const SHARDS: usize = 16;

/// See the file's head.
pub(crate) struct MemoryCache {
    shards: Vec<Mutex<Shard>>,
    /// Keyed at random for each process, so that nobody can aim at one shard.
    hasher: RandomState,
}

impl MemoryCache {
    /// A cache of at most `bytes_max` bytes of keys, values and book-keeping.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::new(bytes_max / SHARDS))).collect();
        Self { shards, hasher: RandomState::new() }
    }

    /// Bytes held at present.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().bytes()).sum()
    }

    fn with<T>(&self, key: &str, change: impl FnOnce(&mut Shard, Instant) -> T) -> Result<T, CacheError> {
        let hash = self.hasher.hash_one(key);
        let index = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        let shard = self.shards.get(index).ok_or(CacheError::Unavailable(None))?;
        Ok(change(&mut shard.lock(), Instant::now()))
    }
}

#[async_trait]
impl CacheBackend for MemoryCache {
    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn ping(&self) -> Result<(), CacheError> {
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        self.with(key, |shard, now| shard.get(key, now))
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, CacheError> {
        keys.iter().map(|key| self.with(key, |shard, now| shard.get(key, now))).collect()
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), CacheError> {
        self.with(key, |shard, now| shard.set(key, value, now + ttl, now))
    }

    async fn delete(&self, key: &str) -> Result<(), CacheError> {
        self.with(key, |shard, _| shard.remove(key))
    }

    async fn increment(&self, key: &str, delta: i64, ttl: Duration) -> Result<i64, CacheError> {
        self.with(key, |shard, now| shard.increment(key, delta, now + ttl, now))?
    }

    async fn add_if_absent(&self, key: &str, value: Bytes, ttl: Duration) -> Result<bool, CacheError> {
        self.with(key, |shard, now| {
            let absent = !shard.contains(key, now);
            if absent {
                shard.set(key, value, now + ttl, now);
            }
            absent
        })
    }

    async fn expire(&self, key: &str, ttl: Duration) -> Result<bool, CacheError> {
        self.with(key, |shard, now| shard.expire(key, now + ttl, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_cache_never_holds_more_than_its_bytes() {
        let bytes_max = 256 << 10;
        let cache = MemoryCache::new(bytes_max);
        for number in 0..5_000 {
            cache.set(&format!("key-{number}"), Bytes::from(vec![0; 500]), Duration::from_secs(60)).await.unwrap();
            assert!(cache.bytes() <= bytes_max);
        }
        assert!(cache.bytes() > bytes_max / 2, "it is used, not emptied");
        cache.set("huge", Bytes::from(vec![0; bytes_max]), Duration::from_secs(60)).await.unwrap();
        assert_eq!(cache.get("huge").await.unwrap(), None, "what cannot fit is dropped without an error");
    }

    #[tokio::test]
    async fn what_is_read_outlives_what_is_not() {
        let cache = MemoryCache::new(256 << 10);
        cache.set("wanted", Bytes::from_static(b"here"), Duration::from_secs(60)).await.unwrap();
        for number in 0..5_000 {
            cache.set(&format!("key-{number}"), Bytes::from(vec![0; 500]), Duration::from_secs(60)).await.unwrap();
            assert!(cache.get("wanted").await.unwrap().is_some(), "lost after {number} others");
        }
    }
}
