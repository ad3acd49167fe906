//! `berth:platform/cache`: checks the grant and the limits, puts the key into its namespace, asks the room.

use std::time::Duration;

use bytes::Bytes;
use wasmtime::component::{HasData, Linker};

use super::backend::CacheError;
use super::{ANSWER_BYTES_MAX, KEY_BYTES_MAX, KEYS_MAX, TTL_MAX, VALUE_BYTES_MAX, View, guest_key};
use crate::bindings::imports::cache;
use crate::bindings::imports::types::Fault;
use crate::capability::tape::Taped;

/// How long a counter lives that a copy of a request asked for and nobody had: as short as can be.
const SHADOW_TTL: Duration = Duration::from_millis(1);

struct HasView;

impl HasData for HasView {
    type Data<'a> = Taped<'a, View<'a>>;
}

/// Links the interface; `get` borrows the room's view from the store's state.
pub(crate) fn link<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: fn(&mut T) -> Taped<'_, View<'_>>,
) -> wasmtime::Result<()> {
    cache::add_to_linker::<T, HasView>(linker, get)
}

impl cache::Host for View<'_> {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, Fault>> {
        Ok(self.read(&key).await)
    }

    async fn get_many(&mut self, keys: Vec<String>) -> wasmtime::Result<Result<Vec<Option<Vec<u8>>>, Fault>> {
        Ok(self.read_many(&keys).await)
    }

    async fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: u64) -> wasmtime::Result<Result<(), Fault>> {
        Ok(self.write(&key, value, ttl_ms).await)
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), Fault>> {
        Ok(self.remove(&key).await)
    }

    async fn increment(&mut self, key: String, delta: i64, ttl_ms: u64) -> wasmtime::Result<Result<i64, Fault>> {
        Ok(self.count(&key, delta, ttl_ms).await)
    }

    async fn add_if_absent(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_ms: u64,
    ) -> wasmtime::Result<Result<bool, Fault>> {
        Ok(self.add(&key, value, ttl_ms).await)
    }

    async fn expire(&mut self, key: String, ttl_ms: u64) -> wasmtime::Result<Result<bool, Fault>> {
        Ok(self.prolong(&key, ttl_ms).await)
    }
}

/// The same calls as plain results; the shims use them too.
impl View<'_> {
    pub(in crate::capability) async fn read(&self, key: &str) -> Result<Option<Vec<u8>>, Fault> {
        let key = self.key(key)?;
        Ok(self.room.get(&key).await.map(Vec::from))
    }

    pub(in crate::capability) async fn read_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        if keys.len() > KEYS_MAX {
            return Err(Fault::TooLarge(format!("at most {KEYS_MAX} keys at once")));
        }
        let keys = keys.iter().map(|key| self.key(key)).collect::<Result<Vec<_>, _>>()?;
        let too_large = || Fault::TooLarge(format!("the values together are larger than {ANSWER_BYTES_MAX} bytes"));
        let values = self.room.get_many(&keys).await.ok_or_else(too_large)?;
        Ok(values.into_iter().map(|value| value.map(Vec::from)).collect())
    }

    pub(in crate::capability) async fn write(&self, key: &str, value: Vec<u8>, ttl_ms: u64) -> Result<(), Fault> {
        let (key, value, ttl) = (self.key(key)?, checked_value(value)?, checked_ttl(ttl_ms)?);
        if !self.is_shadow() {
            self.room.set(&key, value, ttl).await;
        }
        Ok(())
    }

    pub(in crate::capability) async fn remove(&self, key: &str) -> Result<(), Fault> {
        let key = self.key(key)?;
        if !self.is_shadow() {
            self.room.delete(&key).await;
        }
        Ok(())
    }

    pub(in crate::capability) async fn count(&self, key: &str, delta: i64, ttl_ms: u64) -> Result<i64, Fault> {
        let (key, ttl) = (self.key(key)?, checked_ttl(ttl_ms)?);
        if self.is_shadow() {
            // By nothing it is only read, and an absent counter goes at once.
            let present = self.room.increment(&key, 0, SHADOW_TTL).await.map_err(fault)?;
            return Ok(present.saturating_add(delta));
        }
        self.room.increment(&key, delta, ttl).await.map_err(fault)
    }

    async fn add(&self, key: &str, value: Vec<u8>, ttl_ms: u64) -> Result<bool, Fault> {
        let (key, value, ttl) = (self.key(key)?, checked_value(value)?, checked_ttl(ttl_ms)?);
        if self.is_shadow() {
            return Ok(self.room.get(&key).await.is_none());
        }
        self.room.add_if_absent(&key, value, ttl).await.map_err(fault)
    }

    async fn prolong(&self, key: &str, ttl_ms: u64) -> Result<bool, Fault> {
        let (key, ttl) = (self.key(key)?, checked_ttl(ttl_ms)?);
        if self.is_shadow() {
            return Ok(self.room.get(&key).await.is_some());
        }
        Ok(self.room.expire(&key, ttl).await)
    }

    /// Whether the call is a copy that may change nothing.
    fn is_shadow(&self) -> bool {
        self.guest.call.is_shadow
    }

    fn key(&self, key: &str) -> Result<String, Fault> {
        if !self.guest.plugin.grant.cache {
            return Err(Fault::Denied("the grant lacks cache = true".to_owned()));
        }
        match key.len() {
            0 => Err(Fault::Invalid("a key has at least one byte".to_owned())),
            1..=KEY_BYTES_MAX => Ok(guest_key(self.guest, key)),
            _ => Err(Fault::TooLarge(format!("a key has at most {KEY_BYTES_MAX} bytes"))),
        }
    }
}

fn checked_value(value: Vec<u8>) -> Result<Bytes, Fault> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(Fault::TooLarge(format!("a value has at most {VALUE_BYTES_MAX} bytes")));
    }
    Ok(Bytes::from(value))
}

fn checked_ttl(ttl_ms: u64) -> Result<Duration, Fault> {
    let ttl = Duration::from_millis(ttl_ms);
    if ttl_ms == 0 || ttl > TTL_MAX {
        return Err(Fault::Invalid("a time to live is 1 ms to 30 days".to_owned()));
    }
    Ok(ttl)
}

fn fault(error: CacheError) -> Fault {
    match error {
        CacheError::Unavailable(_) => Fault::Unavailable,
        CacheError::Invalid(text) => Fault::Invalid(text.to_owned()),
    }
}
