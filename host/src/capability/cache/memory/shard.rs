//! One shard of the in-process cache: slots in a ring, a map from key to slot, and a hand that goes round the ring to
//! drop what has expired and what was not read since it came by last.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::capability::cache::backend::CacheError;

/// What an entry costs beside its key and its value: slot, map entry and the key's counts, rounded up.
const ENTRY_BYTES: usize = 160;
/// Slots the hand looks at on each write, so that expired entries go even when there is room.
const SWEEP_SLOTS: usize = 2;

enum Value {
    Bytes(Bytes),
    Counter(i64),
}

struct Entry {
    key: Arc<str>,
    value: Value,
    expires_at: Instant,
    /// Read since the hand came by last.
    used: bool,
}

/// See the file's head.
pub(super) struct Shard {
    index: HashMap<Arc<str>, usize>,
    slots: Vec<Option<Entry>>,
    free: Vec<usize>,
    hand: usize,
    bytes: usize,
    bytes_max: usize,
}

impl Value {
    fn bytes(&self) -> Bytes {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Counter(sum) => Bytes::from(sum.to_string()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Counter(_) => 0,
        }
    }
}

impl Entry {
    fn cost(&self) -> usize {
        ENTRY_BYTES + self.key.len() + self.value.len()
    }
}

impl Shard {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { index: HashMap::new(), slots: Vec::new(), free: Vec::new(), hand: 0, bytes: 0, bytes_max }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&mut self, key: &str, now: Instant) -> Option<Bytes> {
        let entry = self.live(key, now)?;
        entry.used = true;
        Some(entry.value.bytes())
    }

    pub(super) fn contains(&mut self, key: &str, now: Instant) -> bool {
        self.live(key, now).is_some()
    }

    pub(super) fn set(&mut self, key: &str, value: Bytes, expires_at: Instant, now: Instant) {
        self.store(key, Value::Bytes(value), expires_at, now);
    }

    pub(super) fn expire(&mut self, key: &str, expires_at: Instant, now: Instant) -> bool {
        let Some(entry) = self.live(key, now) else { return false };
        entry.expires_at = expires_at;
        true
    }

    /// Adds to a counter; `expires_at` counts only when it did not exist.
    pub(super) fn increment(
        &mut self,
        key: &str,
        delta: i64,
        expires_at: Instant,
        now: Instant,
    ) -> Result<i64, CacheError> {
        let Some(entry) = self.live(key, now) else {
            self.store(key, Value::Counter(delta), expires_at, now);
            return Ok(delta);
        };
        let before = match &entry.value {
            Value::Counter(sum) => *sum,
            Value::Bytes(bytes) => std::str::from_utf8(bytes)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or(CacheError::Invalid("the value is not a whole number"))?,
        };
        let sum = before.checked_add(delta).ok_or(CacheError::Invalid("the counter would overflow"))?;
        let freed = entry.value.len();
        entry.value = Value::Counter(sum);
        entry.used = true;
        self.bytes -= freed;
        Ok(sum)
    }

    pub(super) fn remove(&mut self, key: &str) {
        if let Some(slot) = self.index.get(key).copied() {
            self.clear(slot);
        }
    }

    fn live(&mut self, key: &str, now: Instant) -> Option<&mut Entry> {
        let slot = *self.index.get(key)?;
        let expired = self.slots.get(slot)?.as_ref()?.expires_at <= now;
        if expired {
            self.clear(slot);
            return None;
        }
        self.slots.get_mut(slot)?.as_mut()
    }

    fn store(&mut self, key: &str, value: Value, expires_at: Instant, now: Instant) {
        self.remove(key);
        let entry = Entry { key: key.into(), value, expires_at, used: false };
        let cost = entry.cost();
        if cost > self.bytes_max {
            return;
        }
        for _ in 0..SWEEP_SLOTS {
            self.advance(now, false);
        }
        // Each round clears the marks it passes, so the second one drops whatever it meets: the loop ends.
        while self.bytes + cost > self.bytes_max {
            self.advance(now, true);
        }
        self.bytes += cost;
        let slot = self.free.pop().unwrap_or(self.slots.len());
        self.index.insert(entry.key.clone(), slot);
        match self.slots.get_mut(slot) {
            Some(place) => *place = Some(entry),
            None => self.slots.push(Some(entry)),
        }
    }

    /// Looks at one slot: drops what has expired, and, when `make_room`, what was not read since the last round.
    fn advance(&mut self, now: Instant, make_room: bool) {
        if self.slots.is_empty() {
            return;
        }
        self.hand = (self.hand + 1) % self.slots.len();
        let slot = self.hand;
        let Some(Some(entry)) = self.slots.get_mut(slot) else { return };
        if entry.expires_at <= now || (make_room && !entry.used) {
            self.clear(slot);
        } else if make_room {
            entry.used = false;
        }
    }

    fn clear(&mut self, slot: usize) {
        let Some(entry) = self.slots.get_mut(slot).and_then(Option::take) else { return };
        self.bytes -= entry.cost();
        self.index.remove(&entry.key);
        self.free.push(slot);
    }
}
