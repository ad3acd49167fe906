//! Waiting for one of a few: a bounded queue, and no longer than a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::DatabaseError;

/// Something that a few may do at once, with a bounded queue in front. First come, first served.
pub(crate) struct Turns {
    count: usize,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
    wait_max: Duration,
}

/// One's turn, which ends when it is dropped.
#[must_use]
pub(crate) struct Turn {
    _permits: OwnedSemaphorePermit,
}

impl Turns {
    /// `count` at once; of the others `waiting_max` may wait, each for `wait_max`.
    pub(crate) fn new(count: usize, waiting_max: usize, wait_max: Duration) -> Self {
        let permits = Arc::new(Semaphore::new(count));
        Self { count, permits, waiting: AtomicUsize::new(0), waiting_max, wait_max }
    }

    /// Waits for a turn. `Busy` when the queue is full or the wait too long.
    pub(crate) async fn take(&self) -> Result<Turn, DatabaseError> {
        if let Ok(permits) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(Turn { _permits: permits });
        }
        let _waiting = Waiting::enter(&self.waiting, self.waiting_max)?;
        self.wait_for(1).await
    }

    /// Waits until nobody has a turn, and keeps it so. `Busy` when the wait is too long.
    pub(super) async fn take_all(&self) -> Result<Turn, DatabaseError> {
        self.wait_for(u32::try_from(self.count).unwrap_or(u32::MAX)).await
    }

    async fn wait_for(&self, count: u32) -> Result<Turn, DatabaseError> {
        let permits = Arc::clone(&self.permits).acquire_many_owned(count);
        match tokio::time::timeout(self.wait_max, permits).await {
            Ok(Ok(permits)) => Ok(Turn { _permits: permits }),
            _ => Err(DatabaseError::Busy),
        }
    }
}

/// A place in the queue for connections, given back when it is dropped.
pub(super) struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    /// Joins the queue that `count` counts. `Busy` when `max` callers wait already.
    pub(super) fn enter(count: &'a AtomicUsize, max: usize) -> Result<Self, DatabaseError> {
        let place = Self(count);
        if count.fetch_add(1, Ordering::AcqRel) >= max { Err(DatabaseError::Busy) } else { Ok(place) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
