//! The one transaction a call may have open: its deadline, and its end together with the call's.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::TRANSACTION_MAX;
use crate::database::Transaction;

/// What a call has open. Dropped, everything is rolled back.
#[derive(Default)]
pub(crate) struct CallState {
    open: Option<Open>,
    /// Counts transactions, so that a stale handle is told from a new one.
    last: u64,
}

struct Open {
    number: u64,
    deadline: Instant,
    /// None while a statement runs, after the deadline, and after a statement was abandoned.
    transaction: Arc<Mutex<Option<Transaction>>>,
    /// Takes the transaction away at its deadline, even if the guest never comes back.
    watchdog: JoinHandle<()>,
    messages: u32,
}

/// Why a handle is of no use any more.
pub(super) enum Ended {
    /// Committed, rolled back, or of another call.
    Gone,
    /// Its deadline has passed.
    TimedOut,
}

impl CallState {
    /// Whether there is nothing to finish when the call ends.
    pub(crate) fn is_idle(&self) -> bool {
        self.open.is_none()
    }

    /// Whether a transaction is open. One whose deadline has passed is not.
    pub(super) fn is_open(&self) -> bool {
        self.open.as_ref().is_some_and(|open| Instant::now() < open.deadline)
    }

    /// Remembers the call's transaction and returns its number.
    /// `threads` are those of the host: a guest's own may be in a lane that waits for everybody else, and must not keep others
    /// from writing while it does.
    pub(super) fn open(&mut self, transaction: Transaction, threads: &Handle) -> u64 {
        self.open_for(transaction, TRANSACTION_MAX, threads)
    }

    pub(super) fn open_for(&mut self, transaction: Transaction, longest: Duration, threads: &Handle) -> u64 {
        let deadline = Instant::now() + longest;
        let transaction = Arc::new(Mutex::new(Some(transaction)));
        let watched = Arc::clone(&transaction);
        let watchdog = threads.spawn(async move {
            tokio::time::sleep_until(deadline).await;
            let late = watched.lock().take();
            if let Some(transaction) = late {
                tracing::warn!("a guest's transaction passed its deadline and was rolled back");
                transaction.rollback().await.ok();
            }
        });
        self.last += 1;
        self.open = Some(Open { number: self.last, deadline, transaction, watchdog, messages: 0 });
        self.last
    }

    /// Takes the transaction for one step; give it back with `put_back` unless the step ends it.
    pub(super) fn take(&mut self, number: u64) -> Result<(Transaction, Instant), Ended> {
        let open = self.open.as_mut().filter(|open| open.number == number).ok_or(Ended::Gone)?;
        let transaction = open.transaction.lock().take();
        match transaction {
            Some(transaction) if Instant::now() < open.deadline => Ok((transaction, open.deadline)),
            _ => Err(Ended::TimedOut),
        }
    }

    pub(super) fn put_back(&mut self, transaction: Transaction) {
        if let Some(open) = &self.open {
            *open.transaction.lock() = Some(transaction);
        }
    }

    /// Counts a message and returns how many there are.
    pub(super) fn count_message(&mut self) -> u32 {
        self.open.as_mut().map_or(0, |open| {
            open.messages += 1;
            open.messages
        })
    }

    /// Forgets the transaction. True when it has messages.
    pub(super) fn close(&mut self) -> bool {
        self.open.take().is_some_and(|open| open.messages > 0)
    }

    /// Whether it is this one that is open.
    pub(super) fn is_current(&self, number: u64) -> bool {
        self.open.as_ref().is_some_and(|open| open.number == number)
    }

    /// Ends the call: what is still open is rolled back before this returns.
    pub(crate) async fn finish(&mut self) {
        let Some(open) = self.open.take() else { return };
        let transaction = open.transaction.lock().take();
        if let Some(transaction) = transaction {
            transaction.rollback().await.ok();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.watchdog.abort();
    }
}
