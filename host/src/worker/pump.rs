//! One pump a plugin: claims as many messages as may run, and starts their deliveries.
//!
//! It never claims what it cannot start at once, so that another host can take it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::deliver::{self, Context};
use super::relay::until;
use super::{Consumer, DELIVERIES_MAX, chain};

/// How often a pump looks unasked: what another host put into the queue waits at most this long.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// What a lease lasts beyond the delivery's deadline: enough to settle it.
const LEASE_MARGIN: Duration = Duration::from_secs(60);
/// How long a pump rests when its plugin is busy or not loaded, and after a failure of the queue.
const REST: Duration = Duration::from_millis(250);

/// All pumps of this host, by plugin.
pub(super) struct Pumps {
    context: Arc<Context>,
    stopping: CancellationToken,
    loops: TaskTracker,
    deliveries: TaskTracker,
    running: Mutex<HashMap<Arc<str>, Pump>>,
}

struct Pump {
    consumer: Consumer,
    cancel: CancellationToken,
}

impl Pumps {
    pub(super) fn new(
        context: Context,
        stopping: CancellationToken,
        loops: TaskTracker,
        deliveries: TaskTracker,
    ) -> Self {
        Self { context: Arc::new(context), stopping, loops, deliveries, running: Mutex::default() }
    }

    /// Stops the pumps of plugins that no longer consume or have other limits, and starts those that are missing.
    pub(super) fn refresh(&self) {
        let wanted = self.context.consumers.plugins();
        let mut running = self.running.lock();
        running.retain(|_, pump| {
            let stays = wanted.contains(&pump.consumer);
            if !stays {
                pump.cancel.cancel();
            }
            stays
        });
        if self.stopping.is_cancelled() {
            return;
        }
        for consumer in wanted {
            if running.contains_key(&consumer.plugin) {
                continue;
            }
            let permits = Arc::new(Semaphore::new(consumer.concurrency.clamp(1, DELIVERIES_MAX)));
            let cancel = self.stopping.child_token();
            let task = Task {
                context: Arc::clone(&self.context),
                consumer: consumer.clone(),
                permits,
                cancel: cancel.clone(),
                deliveries: self.deliveries.clone(),
                rest_until: Arc::default(),
            };
            self.loops.spawn(task.run());
            running.insert(Arc::clone(&consumer.plugin), Pump { consumer, cancel });
        }
    }

    /// The plugins that consume on this host.
    #[cfg(test)]
    pub(super) fn plugins(&self) -> Vec<Arc<str>> {
        self.running.lock().keys().cloned().collect()
    }
}

struct Task {
    context: Arc<Context>,
    consumer: Consumer,
    permits: Arc<Semaphore>,
    cancel: CancellationToken,
    deliveries: TaskTracker,
    /// Set by deliveries that found the plugin busy or not loaded.
    rest_until: Arc<Mutex<Option<Instant>>>,
}

impl Task {
    async fn run(self) {
        self.pump().await;
        self.context.room.backend().rest(&self.consumer.plugin).await;
    }

    async fn pump(&self) {
        let changes = self.context.room.backend().changes(&self.consumer.plugin);
        let mut failures: u32 = 0;
        loop {
            let wait = match self.pass().await {
                Ok(None) => {
                    failures = 0;
                    continue;
                }
                Ok(Some(wait)) => {
                    failures = 0;
                    wait
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(plugin = %self.consumer.plugin, error = %chain(&error), "messages cannot be claimed");
                    }
                    failures = failures.saturating_add(1);
                    REST.saturating_mul(failures).min(Duration::from_secs(10))
                }
            };
            tokio::select! {
                () = self.cancel.cancelled() => return,
                () = changes.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
            if self.cancel.is_cancelled() {
                return;
            }
        }
    }

    /// Claims and starts what may run. None: there may be more at once; otherwise how long to wait unless woken.
    async fn pass(&self) -> Result<Option<Duration>, crate::capability::queue::QueueError> {
        let rest = self.rest_until.lock().take().map(|until| until.saturating_duration_since(Instant::now()));
        if let Some(rest) = rest {
            tokio::select! {
                () = self.cancel.cancelled() => return Ok(Some(Duration::ZERO)),
                () = tokio::time::sleep(rest) => {}
            }
        }
        let first = tokio::select! {
            () = self.cancel.cancelled() => return Ok(Some(Duration::ZERO)),
            permit = Arc::clone(&self.permits).acquire_owned() => permit,
        };
        // The semaphore is never closed.
        let Ok(first) = first else { return Ok(Some(POLL_EVERY)) };
        let mut permits = vec![first];
        while let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            permits.push(permit);
        }
        let backend = self.context.room.backend();
        let lease = self.consumer.timeout + LEASE_MARGIN;
        let claims = backend.claim(&self.consumer.plugin, permits.len(), lease).await?;
        if claims.is_empty() {
            drop(permits);
            let due = backend.next_due(&self.consumer.plugin).await?;
            return Ok(Some(until(&self.context.room, due, POLL_EVERY)));
        }
        for (claim, permit) in claims.into_iter().zip(permits) {
            let (context, timeout) = (Arc::clone(&self.context), self.consumer.timeout);
            let rest_until = Arc::clone(&self.rest_until);
            self.deliveries.spawn(async move {
                if deliver::deliver(&context, &claim, timeout).await == deliver::Delivered::NotTaken {
                    *rest_until.lock() = Some(Instant::now() + REST);
                }
                drop(permit);
            });
        }
        Ok(None)
    }
}
