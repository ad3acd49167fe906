//! What follows a switch outside the request path: queue bindings, timers, the worker's pumps, and the catalogue of
//! permissions.
//!
//! Only the newest wish of each plugin counts, and it is applied until it holds: a database that is busy for a moment
//! must not leave a build without its messages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::accounts::Accounts;
use crate::capability::queue::{QueueError, QueueRoom};
use crate::deploy::{DeployHooks, Switched};
use crate::tasks::Tasks;
use crate::worker::Worker;

/// How long after a failure it is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long a start waits for all of it.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(30);

/// Keeps the worker in step with the builds.
pub(super) struct Background {
    wishes: Arc<Wishes>,
}

/// What is still to be applied, by plugin: at most one entry for each.
#[derive(Default)]
struct Wishes {
    pending: Mutex<Pending>,
    changed: Notify,
    settled: Notify,
}

#[derive(Default)]
struct Pending {
    wishes: BTreeMap<String, Wish>,
    /// Whether one that is no longer among them is being applied.
    is_applying: bool,
}

#[derive(Clone)]
struct Wish {
    bindings: Vec<String>,
    timers: Vec<(String, String)>,
    /// Code and what it is for, as the routes demand them.
    permissions: Vec<(String, String)>,
}

impl Background {
    /// Starts the task that applies what builds want.
    pub(super) fn start(queue: QueueRoom, worker: Worker, accounts: Arc<Accounts>, tasks: &Tasks) -> Self {
        let wishes = Arc::new(Wishes::default());
        let shared = Arc::clone(&wishes);
        tasks.supervise("bindings-and-timers", move |stop| {
            let (wishes, queue, worker) = (Arc::clone(&shared), queue.clone(), worker.clone());
            let accounts = Arc::clone(&accounts);
            async move {
                stop.run_until_cancelled(wishes.apply_all(&queue, &worker, &accounts)).await;
            }
        });
        Self { wishes }
    }

    /// Waits until everything that builds wanted so far holds, or for [`SETTLE_TIME_MAX`]: an event that is published before
    /// the queue of its reader is bound would never reach it.
    pub(super) async fn settled(&self) {
        if tokio::time::timeout(SETTLE_TIME_MAX, self.wishes.settled()).await.is_err() {
            tracing::error!("bindings and timers are still not set; the host serves without waiting any longer");
        }
    }
}

impl Wishes {
    fn want(&self, plugin: &str, wish: Wish) {
        self.pending.lock().wishes.insert(plugin.to_owned(), wish);
        self.changed.notify_one();
    }

    async fn settled(&self) {
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            settled.as_mut().enable();
            let is_settled = {
                let pending = self.pending.lock();
                pending.wishes.is_empty() && !pending.is_applying
            };
            if is_settled {
                return;
            }
            settled.await;
        }
    }

    /// The next wish; without one everything is settled.
    fn next(&self) -> Option<(String, Wish)> {
        let mut pending = self.pending.lock();
        let next = pending.wishes.pop_first();
        pending.is_applying = next.is_some();
        if next.is_none() {
            self.settled.notify_waiters();
        }
        next
    }

    async fn apply_all(&self, queue: &QueueRoom, worker: &Worker, accounts: &Accounts) {
        loop {
            let Some((plugin, wish)) = self.next() else {
                self.changed.notified().await;
                continue;
            };
            if let Err(error) = accounts.register_permissions(&wish.permissions).await {
                // They are enforced all the same; only the list of what can be given lacks them until the next switch.
                tracing::warn!(plugin, %error, "the plugin's permissions are not in the catalogue");
            }
            let Err(error) = wish.apply(queue, worker, &plugin).await else { continue };
            if matches!(error, QueueError::Invalid(_) | QueueError::TooLarge(_)) {
                // Judged at the deploy already; trying again would not help.
                tracing::error!(plugin, %error, "the plugin's bindings and timers are refused");
            } else {
                tracing::error!(plugin, %error, "the plugin's bindings and timers could not be set; trying again");
                // A newer wish may have come meanwhile.
                self.pending.lock().wishes.entry(plugin).or_insert(wish);
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

impl Wish {
    async fn apply(&self, queue: &QueueRoom, worker: &Worker, plugin: &str) -> Result<(), QueueError> {
        queue.set_bindings(plugin, self.bindings.clone()).await?;
        worker.set_timers(plugin, &self.timers).await?;
        worker.refresh();
        Ok(())
    }
}

impl DeployHooks for Background {
    fn switched(&self, switched: &Switched) {
        let timers = switched.timers.iter().map(|(name, schedule)| (name.clone(), schedule.clone())).collect();
        let routes = switched.description.iter().flat_map(|description| &description.routes);
        let permissions = routes.filter_map(|route| Some((route.permission.clone()?, route.summary.clone()))).collect();
        self.wishes.want(&switched.plugin.name, Wish { bindings: switched.bindings.clone(), timers, permissions });
    }

    fn removed(&self, plugin: &str) {
        self.wishes.want(plugin, Wish { bindings: Vec::new(), timers: Vec::new(), permissions: Vec::new() });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::{Wish, Wishes};

    #[test]
    fn a_wish_is_settled_when_it_has_been_applied_and_nothing_is_left() {
        let wishes = Wishes::default();
        let is_settled = || wishes.settled().now_or_never().is_some();
        assert!(is_settled());
        wishes.want("planning", Wish { bindings: Vec::new(), timers: Vec::new(), permissions: Vec::new() });
        assert!(!is_settled());
        assert_eq!(wishes.next().map(|(plugin, _)| plugin).as_deref(), Some("planning"));
        assert!(!is_settled(), "it is being applied");
        assert!(wishes.next().is_none() && is_settled());
    }
}
