//! Notices that the cache is lost: one log line when an outage begins and one when it ends, and no waiting in between.
//!
//! It must never turn a loss into an error of its own: it only answers sooner what the backend would answer later.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::backend::CacheError;

/// While the backend is lost, one call in this many milliseconds tries it; the others answer at once.
const RETRY_AFTER_MS: u64 = 500;

/// Whether the backend is lost, and when it is tried again.
pub(super) struct Outage {
    started: Instant,
    lost: AtomicBool,
    /// Milliseconds since `started`.
    retry_at_ms: AtomicU64,
}

impl Default for Outage {
    fn default() -> Self {
        Self { started: Instant::now(), lost: AtomicBool::new(false), retry_at_ms: AtomicU64::new(0) }
    }
}

impl Outage {
    /// Runs one call to the backend and remembers how it went.
    pub(super) async fn watch<T>(&self, call: impl Future<Output = Result<T, CacheError>>) -> Result<T, CacheError> {
        if !self.may_try() {
            return Err(CacheError::Unavailable(None));
        }
        let result = call.await;
        match &result {
            Err(CacheError::Unavailable(source)) => self.note_loss(source.as_deref()),
            Ok(_) | Err(CacheError::Invalid(_)) => self.note_answer(),
        }
        result
    }

    /// True unless the backend is lost and another call has tried it a moment ago.
    fn may_try(&self) -> bool {
        if !self.lost.load(Ordering::Relaxed) {
            return true;
        }
        let now = self.now_ms();
        let due = self.retry_at_ms.load(Ordering::Relaxed);
        now >= due
            && self
                .retry_at_ms
                .compare_exchange(due, now + RETRY_AFTER_MS, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    fn note_loss(&self, source: Option<&(dyn std::error::Error + Send + Sync + 'static)>) {
        self.retry_at_ms.store(self.now_ms() + RETRY_AFTER_MS, Ordering::Relaxed);
        if !self.lost.swap(true, Ordering::Relaxed) {
            let reason = source.map(ToString::to_string).unwrap_or_default();
            tracing::warn!(reason, "the cache is lost; reads miss and writes are dropped until it is back");
        }
    }

    fn note_answer(&self) {
        if self.lost.load(Ordering::Relaxed) && self.lost.swap(false, Ordering::Relaxed) {
            tracing::info!("the cache is back");
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - RETRY_AFTER_MS)
    }
}
