//! What stands behind the queue room: one trait, what passes through it, and the room's error.
//!
//! A backend must never lose a message that it has taken, and never call one handled that nobody acknowledged.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use uuid::Uuid;

use super::message::QueuedMessage;
use crate::database::{DatabaseError, Transaction};

/// How long after each failed delivery the next one comes; after one more failure the message is a dead letter.
pub(crate) const BACKOFF: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
];

/// Why a message could not be published, claimed or settled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueueError {
    /// The grant does not allow it.
    #[error("not granted: {0}")]
    Denied(String),
    /// The message or argument makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Larger than the limit that the text names.
    #[error("{0}")]
    TooLarge(String),
    /// There is no such queue.
    #[error("there is no queue of {0}")]
    Unknown(String),
    /// A queue is full or the backend is overloaded: again later.
    #[error("the queue has too much to do")]
    Busy,
    /// The backend cannot be reached: again later.
    #[error("the queue cannot be reached")]
    Unavailable,
    /// The backend took too long.
    #[error("the queue took too long")]
    Timeout,
    /// The delivery was settled before, or its lease has ended and it belongs to somebody else now.
    #[error("the delivery's lease has ended")]
    LeaseLost,
    /// Something that should not happen.
    #[error("the queue failed")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<DatabaseError> for QueueError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Busy | DatabaseError::Conflict(_) => Self::Busy,
            DatabaseError::Unavailable => Self::Unavailable,
            DatabaseError::Timeout => Self::Timeout,
            other => Self::Internal(Box::new(other)),
        }
    }
}

/// One message that is leased to this host until it is settled or the lease ends.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// The plugin whose queue it came from.
    pub queue: Arc<str>,
    pub message: QueuedMessage,
    /// Failed deliveries so far.
    pub failures: u32,
    /// Whether a failure of this delivery is the last one.
    pub is_last_attempt: bool,
    /// What the backend knows it by.
    pub ticket: Ticket,
}

/// How a backend finds a claimed message again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ticket {
    /// Row and lease of the embedded queue, and the key whose next message waits for it.
    Row { position: i64, lease_id: Arc<str>, ordering_key: Option<Arc<str>> },
    /// Delivery tag, which of the broker's channels it belongs to, and the key whose next message waits for it.
    Tag { tag: u64, epoch: Uuid, ordering_key: Option<Arc<str>> },
}

/// How one failed delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retried {
    /// It comes again.
    Scheduled,
    /// It was the last attempt: it is a dead letter now.
    DeadLettered,
}

/// What one pass of the relay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Relayed {
    /// Messages taken out of the outbox.
    pub messages: usize,
    /// Whether more of them waited than one pass takes.
    pub has_more: bool,
    /// When the next held-back message is due.
    pub next_due: Option<DateTime<Utc>>,
}

/// What a queue holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueStats {
    /// The plugin that consumes it.
    pub plugin: String,
    /// Messages that wait, are held back for a retry, or are being handled.
    pub depth: u64,
    /// Of these, leased to a host.
    pub in_flight: u64,
    pub dead_letters: u64,
    /// When the oldest of them was published; with a broker, of those that it has sent to this host.
    pub oldest_at: Option<DateTime<Utc>>,
}

/// The name of a plugin's queue.
pub(crate) fn queue_name(plugin: &str) -> String {
    format!("{plugin}-queue")
}

/// The name of a plugin's dead letters.
pub(crate) fn dead_letter_name(plugin: &str) -> String {
    format!("{plugin}.dlq")
}

/// A message that was given up.
#[cfg(test)]
#[derive(Clone, Debug)]
pub(crate) struct DeadLetter {
    pub message: QueuedMessage,
    pub failures: u32,
    pub reason: String,
}

/// Outbox, queues and dead letters. Every method may be called by many tasks at once.
#[async_trait]
pub(crate) trait QueueBackend: Send + Sync {
    /// Whether it can be reached.
    async fn ping(&self) -> Result<(), QueueError>;

    /// Makes the plugin's queue with exactly these bindings. The queue stays when the plugin is not loaded.
    async fn bind(&self, plugin: &str, patterns: &[String]) -> Result<(), QueueError>;

    /// Whether the plugin's queue takes one more private message. `Busy` when it is full.
    fn check_room(&self, _plugin: &str) -> Result<(), QueueError> {
        Ok(())
    }

    /// Puts an unkeyed private message that is due at once straight into its queue within `transaction`, where the
    /// backend shares the database. False: it has to take the way through the outbox.
    async fn insert_direct(
        &self,
        transaction: &mut Transaction,
        queue: &str,
        message: &QueuedMessage,
    ) -> Result<bool, QueueError>;

    /// Moves what is due from the outbox into the queues: one bounded batch, in order.
    async fn relay(&self) -> Result<Relayed, QueueError>;

    /// Leases up to `count` messages of the plugin's queue for `lease`. None when nothing is due.
    async fn claim(&self, plugin: &Arc<str>, count: usize, lease: Duration) -> Result<Vec<Claim>, QueueError>;

    /// When the next message that is held back or leased becomes due, if any is.
    async fn next_due(&self, plugin: &str) -> Result<Option<DateTime<Utc>>, QueueError>;

    /// The message was handled: it is gone.
    async fn acknowledge(&self, claim: &Claim) -> Result<(), QueueError>;

    /// The delivery failed: again after `after` or the standard backoff, or to the dead letters with `reason`.
    async fn retry(&self, claim: &Claim, after: Option<Duration>, reason: &str) -> Result<Retried, QueueError>;

    /// The delivery did not happen: again after `after`, without counting an attempt.
    async fn release(&self, claim: &Claim, after: Duration) -> Result<(), QueueError>;

    /// Never again: to the dead letters at once.
    async fn reject(&self, claim: &Claim, reason: &str) -> Result<(), QueueError>;

    /// Whether a tick of this type may be published in `transaction`: false while the one before still waits or is
    /// being handled, and while the queue is full.
    async fn may_tick(&self, transaction: &mut Transaction, plugin: &str, tick_type: &str) -> Result<bool, QueueError>;

    /// All queues by name.
    async fn stats(&self) -> Result<Vec<QueueStats>, QueueError>;

    /// Dead letters of a plugin, oldest first, at most `limit`.
    #[cfg(test)]
    async fn dead_letters(&self, plugin: &str, limit: usize, offset: usize) -> Result<Vec<DeadLetter>, QueueError>;

    /// Puts the dead letters that lie there now back into the queue with a fresh count; how many there were.
    async fn redrive(&self, plugin: &str) -> Result<u64, QueueError>;

    /// Throws away what is past its time and bounds what may grow; called about once a minute.
    async fn clean(&self) -> Result<(), QueueError>;

    /// This host takes nothing more from the plugin's queue for now: what it fetched ahead goes back.
    async fn rest(&self, _plugin: &str) {}

    /// Rings when messages may have come into the plugin's queue.
    fn changes(&self, plugin: &str) -> Arc<Notify>;
}
