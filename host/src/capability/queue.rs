//! The queue room: events for everybody, private messages for oneself, and their way through outbox, queues and dead
//! letters.
//!
//! A publish is a row in the publisher's own transaction; a broker that is down neither fails nor delays it. Delivery is
//! at least once: a message leaves its queue only when it was acknowledged or given up. The room never calls a guest;
//! that is the worker's task.

mod backend;
mod bindings;
mod chronicle;
#[cfg(test)]
pub(crate) mod conformance;
mod embedded;
mod host;
mod message;
mod outbox;
mod rabbitmq;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Guest;
use crate::database::{Database, Transaction};
#[cfg(test)]
pub(crate) use backend::DeadLetter;
pub(crate) use backend::{BACKOFF, Claim, QueueBackend, QueueError, QueueStats};
pub(crate) use chronicle::{EVENTS_TOLD_MAX, HostEvent};
use embedded::Embedded;
pub(crate) use host::link;
pub(crate) use message::{Kind, OutgoingMessage, timer_type};
use rabbitmq::RabbitMq;

/// Tells the time; tests bring their own.
pub(crate) type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// How long after a publish a `wake` may come from the commit it belongs to: more than any transaction may last. A later
/// one costs the safety net's delay and nothing else.
const COMMIT_WITHIN: Duration = Duration::from_secs(30);

/// How the room is opened.
#[derive(Clone)]
pub(crate) struct QueueOptions {
    /// This life of this host: new at every start, in every envelope as `source.instance`.
    pub instance: Arc<str>,
    pub clock: Clock,
    /// The waits between deliveries; one more failure is a dead letter.
    pub backoff: Arc<[Duration]>,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self { instance: uuid::Uuid::now_v7().to_string().into(), clock: Arc::new(Utc::now), backoff: BACKOFF.into() }
    }
}

/// The room, host-wide. Cheap to clone.
#[derive(Clone)]
pub(crate) struct QueueRoom {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    backend: Arc<dyn QueueBackend>,
    options: QueueOptions,
    relay_changes: Notify,
    recent: Mutex<Recent>,
}

/// What was written not long ago, so that a commit knows whom to wake.
#[derive(Default)]
struct Recent {
    outbox: Option<Instant>,
    queues: HashMap<String, Instant>,
}

/// What the room may know of a call.
pub(crate) struct View<'a> {
    pub guest: &'a Guest,
    pub room: &'a QueueRoom,
}

impl QueueRoom {
    /// Opens the embedded queue on the host database, whose migrations must have been applied.
    pub(crate) async fn open(database: Database, options: QueueOptions) -> Result<Self, QueueError> {
        let instance = Arc::clone(&options.instance);
        let (clock, backoff) = (Arc::clone(&options.clock), Arc::clone(&options.backoff));
        let backend = Arc::new(Embedded::open(database.clone(), instance, clock, backoff).await?);
        Ok(Self::with_backend(database, backend, options))
    }

    /// Opens the queue on a RabbitMQ broker (`amqp://…`, `amqps://…`), with the outbox in the host database. The broker
    /// need not be reachable yet. `namespace` stands before every name on the broker; may be empty.
    pub(crate) async fn open_rabbitmq(
        database: Database,
        url: &str,
        namespace: &str,
        options: QueueOptions,
    ) -> Result<Self, QueueError> {
        let backend = Arc::new(RabbitMq::open(database.clone(), url, namespace, options.clone()).await?);
        Ok(Self::with_backend(database, backend, options))
    }

    fn with_backend(database: Database, backend: Arc<dyn QueueBackend>, options: QueueOptions) -> Self {
        let inner = Inner { database, backend, options, relay_changes: Notify::new(), recent: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Publishes within the caller's transaction and returns the message's id. Nothing leaves when it rolls back; call
    /// [`QueueRoom::wake`] after the commit, or the message waits for the next poll.
    ///
    /// # Errors
    /// `Invalid` and `TooLarge` for a message that breaks the rules; `Busy` when the private queue is full; the
    /// database's own. After one of the database's only a rollback is useful.
    pub(crate) async fn publish_in(
        &self,
        transaction: &mut Transaction,
        message: OutgoingMessage,
    ) -> Result<String, QueueError> {
        message.check()?;
        // Before its id is noted: what is refused must be able to come again.
        if let Some(queue) = &message.queue {
            self.inner.backend.check_room(queue)?;
        }
        let now = self.now();
        let queued = outbox::stamp(&message, &self.inner.options.instance, now);
        if message.id.is_some() && !outbox::note_published(transaction, &queued, now).await? {
            return Ok(queued.id);
        }
        chronicle::keep(transaction, &queued).await?;
        let ordering_key = message.ordering_key();
        if let Some(queue) = &message.queue
            && ordering_key.is_none()
            && message.delay.is_zero()
            && self.inner.backend.insert_direct(transaction, queue, &queued).await?
        {
            self.inner.recent.lock().queues.insert(queue.clone(), Instant::now());
            return Ok(queued.id);
        }
        let held_until = (!message.delay.is_zero()).then(|| now + message.delay);
        outbox::insert(transaction, &queued, message.queue.as_deref(), ordering_key, held_until).await?;
        self.inner.recent.lock().outbox = Some(Instant::now());
        Ok(queued.id)
    }

    /// Publishes in a transaction of its own. Errors as [`QueueRoom::publish_in`].
    pub(crate) async fn publish(&self, message: OutgoingMessage) -> Result<String, QueueError> {
        message.check()?;
        let mut transaction = self.inner.database.begin().await?;
        let id = self.publish_in(&mut transaction, message).await?;
        transaction.commit().await?;
        self.wake();
        Ok(id)
    }

    /// Wakes whoever waits for what was published a moment ago. Cheap, and never wrong to call.
    pub(crate) fn wake(&self) {
        let mut recent = self.inner.recent.lock();
        if recent.outbox.is_some_and(|at| at.elapsed() < COMMIT_WITHIN) {
            self.inner.relay_changes.notify_one();
        }
        recent.queues.retain(|_, at| at.elapsed() < COMMIT_WITHIN);
        for queue in recent.queues.keys() {
            self.inner.backend.changes(queue).notify_one();
        }
    }

    /// Replaces the bindings of a plugin's queue; none for a plugin that consumes no events. They stay while the plugin
    /// is not loaded, and its messages with them. An event that the plugin itself published comes back to it only when
    /// a binding names its type in full, without a wildcard.
    pub(crate) async fn set_bindings(&self, plugin: &str, patterns: Vec<String>) -> Result<(), QueueError> {
        self.inner.backend.bind(plugin, &patterns).await
    }

    /// Rings after a commit that put something into the outbox; for the relay.
    pub(crate) fn relay_changes(&self) -> &Notify {
        &self.inner.relay_changes
    }

    /// Outbox, queues and dead letters: for the worker and the admin routes.
    pub(crate) fn backend(&self) -> &Arc<dyn QueueBackend> {
        &self.inner.backend
    }

    /// This life of this host, as envelopes name it.
    pub(crate) fn instance(&self) -> &Arc<str> {
        &self.inner.options.instance
    }

    /// The database that the outbox lies in.
    pub(crate) fn database(&self) -> &Database {
        &self.inner.database
    }

    /// All queues with what they hold, by name.
    pub(crate) async fn stats(&self) -> Result<Vec<QueueStats>, QueueError> {
        self.inner.backend.stats().await
    }

    /// Dead letters of a plugin, oldest first.
    #[cfg(test)]
    pub(crate) async fn dead_letters(
        &self,
        plugin: &str,
        limit: usize,
        offset: usize,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        self.known(plugin).await?;
        self.inner.backend.dead_letters(plugin, limit, offset).await
    }

    /// Puts a plugin's dead letters back into its queue and returns how many. `Unknown` when there is no such queue.
    pub(crate) async fn redrive(&self, plugin: &str) -> Result<u64, QueueError> {
        self.known(plugin).await?;
        let redriven = self.inner.backend.redrive(plugin).await?;
        tracing::info!(plugin, redriven, "dead letters go back into the queue");
        Ok(redriven)
    }

    /// What the host itself has published, oldest first, at most `limit`: the newest, or what comes behind the event with
    /// the id `after`.
    pub(crate) async fn host_events(&self, after: Option<i64>, limit: i64) -> Result<Vec<HostEvent>, QueueError> {
        match after {
            None => chronicle::newest(self.database(), limit).await,
            Some(after) => chronicle::after(self.database(), after, limit).await,
        }
    }

    /// The time as this room sees it.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        (self.inner.options.clock)()
    }

    async fn known(&self, plugin: &str) -> Result<(), QueueError> {
        let is_known = self.stats().await?.iter().any(|stats| stats.plugin == plugin);
        if is_known { Ok(()) } else { Err(QueueError::Unknown(plugin.to_owned())) }
    }
}
