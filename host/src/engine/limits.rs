//! How much memory and how many tables one instance may have. A refusal is remembered, so that the trap that follows
//! can be told from other traps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::ResourceLimiter;

/// Elements in all tables of one instance.
const TABLE_ELEMENTS_MAX: usize = 20_000;
/// Core instances in one component instance.
const INSTANCES_MAX: usize = 32;
/// Tables in one component instance.
const TABLES_MAX: usize = 16;
/// Linear memories in one component instance.
const MEMORIES_MAX: usize = 4;

/// The limiter of one store.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory_bytes_max: usize,
    /// All linear memories together, as they grew.
    pub memory_bytes: usize,
    /// Set when a growth was refused.
    pub refused: bool,
    /// Linear memory of all instances of the build, in bytes.
    of_all: Arc<AtomicU64>,
}

impl Limiter {
    /// A limiter for `memory_mib` of linear memory, which is counted in `of_all` as long as the instance lives.
    pub(crate) fn new(memory_mib: u32, of_all: Arc<AtomicU64>) -> Self {
        Self { memory_bytes_max: memory_mib as usize * 1024 * 1024, memory_bytes: 0, refused: false, of_all }
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.of_all.fetch_sub(self.memory_bytes as u64, Ordering::Relaxed);
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if total > self.memory_bytes_max {
            self.refused = true;
            return Ok(false);
        }
        self.of_all.fetch_add((total - self.memory_bytes) as u64, Ordering::Relaxed);
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS_MAX {
            self.refused = true;
            return Ok(false);
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_over_all_growths_and_a_refusal_is_remembered() {
        let of_all = Arc::new(AtomicU64::new(7));
        let mut limiter = Limiter::new(1, Arc::clone(&of_all));
        assert!(limiter.memory_growing(0, 512 * 1024, None).unwrap());
        assert!(limiter.memory_growing(512 * 1024, 1024 * 1024, None).unwrap());
        assert!(!limiter.refused);
        assert!(!limiter.memory_growing(1024 * 1024, 1024 * 1024 + 65_536, None).unwrap());
        assert!(limiter.refused);
        assert_eq!(limiter.memory_bytes, 1024 * 1024);
        assert_eq!(of_all.load(Ordering::Relaxed), 1024 * 1024 + 7);
        drop(limiter);
        assert_eq!(of_all.load(Ordering::Relaxed), 7, "what an instance had goes with it");
    }
}
