//! A place in the bounded queue in front of a pool of connections.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::DatabaseError;

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
