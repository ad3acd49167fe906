//! The queue's and the clock's gateway: message or tick → current revision → call → acknowledge, retry or reject.
//!
//! It never loses what it claimed: a delivery that was not settled comes again when its lease ends. Each delivery takes the
//! plugin's current revision, so the next message after a swap is handled by the new build.

mod deliver;
mod feed;
mod pump;
mod relay;
#[cfg(test)]
mod tests;
mod timers;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bindings::consumer::{Delivery, Outcome};
use crate::capability::queue::{QueueError, QueueRoom};
use crate::principal::{Call, Principal};
use crate::trace::Tracer;
pub(crate) use feed::{Feed, FeedRooms, OBSERVABILITY, Owner};
use pump::Pumps;

/// The most deliveries of one plugin at once, below its own `concurrency`; further messages wait in the queue.
pub(crate) const DELIVERIES_MAX: usize = 8;
/// How often everything that is past its time is thrown away.
const UPKEEP_EVERY: Duration = Duration::from_secs(60);

/// A plugin that takes messages now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Consumer {
    pub plugin: Arc<str>,
    /// `[plugin.limits] concurrency`; the worker uses at most [`DELIVERIES_MAX`] of it.
    pub concurrency: usize,
    /// `[plugin.limits] request_timeout_ms`: the deadline of one delivery.
    pub timeout: Duration,
}

/// Why a delivery brought no outcome.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliveryError {
    /// The plugin has too much to do. Again soon, without counting an attempt.
    #[error("the plugin is busy")]
    Busy,
    /// No build of the plugin accepts calls. Again later, without counting an attempt.
    #[error("the plugin is not loaded")]
    NotLoaded,
    /// It trapped, timed out or broke otherwise: a failed attempt. The text goes to the dead letter.
    #[error("{0}")]
    Failed(String),
}

/// Who takes deliveries: implemented over the registry of revisions and the accounts.
#[async_trait]
pub(crate) trait Consumers: Send + Sync + 'static {
    /// The plugins whose current revision exports `consumer`.
    fn plugins(&self) -> Vec<Consumer>;

    /// On whose behalf a message is handled: with the user's rights where the user is known, else as the system.
    async fn principal(
        &self,
        organization_id: Option<&str>,
        user_id: Option<&str>,
    ) -> Result<Arc<Principal>, DeliveryError>;

    /// Calls the plugin's current revision.
    async fn deliver(&self, plugin: &str, call: Call, delivery: Delivery) -> Result<Outcome, DeliveryError>;
}

/// The running worker. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Worker {
    inner: Arc<Inner>,
}

struct Inner {
    room: QueueRoom,
    pumps: Pumps,
    timers_changed: Notify,
    /// Nothing new is begun.
    stopping: CancellationToken,
    /// What still runs is given up.
    giving_up: CancellationToken,
    /// Relay, timers, upkeep and pumps.
    loops: TaskTracker,
    /// Running deliveries.
    deliveries: TaskTracker,
}

impl Worker {
    /// Starts relay, timers and upkeep, and a pump for each consumer.
    pub(crate) fn start(room: QueueRoom, consumers: Arc<dyn Consumers>, tracer: Tracer) -> Self {
        let stopping = CancellationToken::new();
        let giving_up = CancellationToken::new();
        let (loops, deliveries) = (TaskTracker::new(), TaskTracker::new());
        let context = deliver::Context { room: room.clone(), consumers, giving_up: giving_up.clone(), tracer };
        let pumps = Pumps::new(context, stopping.clone(), loops.clone(), deliveries.clone());
        let timers_changed = Notify::new();
        let inner = Arc::new(Inner { room, pumps, timers_changed, stopping, giving_up, loops, deliveries });
        inner.loops.spawn(relay::run(inner.room.clone(), inner.stopping.clone()));
        inner.loops.spawn(timers::run(Arc::clone(&inner)));
        inner.loops.spawn(upkeep(inner.room.clone(), inner.stopping.clone()));
        let worker = Self { inner };
        worker.refresh();
        worker
    }

    /// Looks again which plugins take messages: after every deploy, rollback, load and unload.
    pub(crate) fn refresh(&self) {
        self.inner.pumps.refresh();
    }

    /// Replaces a plugin's timers: names and schedules. A timer whose schedule stays keeps its next tick.
    ///
    /// # Errors
    /// `Invalid` for a malformed name or schedule, and then nothing has changed; the database's own.
    pub(crate) async fn set_timers(&self, plugin: &str, timers: &[(String, String)]) -> Result<(), QueueError> {
        timers::set(&self.inner.room, plugin, timers).await?;
        self.inner.timers_changed.notify_one();
        Ok(())
    }

    /// Which plugins consume here.
    #[cfg(test)]
    pub(crate) fn consumers(&self) -> Vec<Arc<str>> {
        self.inner.pumps.plugins()
    }

    /// Stops: claims nothing more, lets running deliveries end until `drain` has passed, then gives the rest back to
    /// their queues. Returns when nothing of it runs any more.
    pub(crate) async fn stop(&self, drain: Duration) {
        let inner = &self.inner;
        inner.stopping.cancel();
        inner.loops.close();
        inner.loops.wait().await;
        inner.deliveries.close();
        if tokio::time::timeout(drain, inner.deliveries.wait()).await.is_err() {
            tracing::warn!(deliveries = inner.deliveries.len(), "giving running deliveries back to their queues");
        }
        inner.giving_up.cancel();
        inner.deliveries.wait().await;
    }
}

async fn upkeep(room: QueueRoom, stopping: CancellationToken) {
    loop {
        if let Err(error) = room.backend().clean().await {
            tracing::warn!(error = %chain(&error), "the queue's upkeep failed and is tried again");
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(UPKEEP_EVERY) => {}
        }
    }
}

/// An error with everything below it, for one log line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
