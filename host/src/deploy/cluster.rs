//! Several hosts on one database: what is deployed on one is loaded by all, and each says what it runs.
//!
//! The database holds the truth: which build of each plugin serves, and the components themselves. A host hears of a change
//! at once and looks every few seconds anyway, so that a lost announcement, or having been down, costs a delay and nothing
//! else. What a host cannot load it tries again later, and its old build serves on. The loading itself is the deployer's.

mod components;
mod hosts;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::history::Pointer;
use crate::database::Database;
pub(super) use components::SharedComponents;
pub(crate) use hosts::{HostEntry, HostIdentity};
pub(super) use hosts::{Hosts, Running};

/// On which a change of the record is announced.
pub(super) const CHANNEL: &str = "berth_plugins";
/// How often every host looks unasked.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a host that cannot listen waits before it tries again; meanwhile it only looks.
pub(super) const LISTEN_AGAIN: Duration = Duration::from_secs(2);
/// When a build that could not be loaded is tried again, doubled each time, and the longest such wait.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(120);

/// What the deployer knows of being one of several.
pub(super) struct Cluster {
    pub components: SharedComponents,
    pub hosts: Hosts,
    failures: Mutex<HashMap<Arc<str>, Failure>>,
    is_closed: AtomicBool,
}

/// A recorded build that could not be loaded here.
struct Failure {
    revision: i64,
    sha256: String,
    count: u32,
    again_at: Instant,
}

impl Cluster {
    pub(super) fn new(database: Database) -> Self {
        Self {
            components: SharedComponents::new(database.clone()),
            hosts: Hosts::new(database),
            failures: Mutex::default(),
            is_closed: AtomicBool::new(false),
        }
    }

    /// Nothing is loaded any more: the host stops, and its empty slots shall stay empty.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    /// Whether the host still follows the others.
    pub(super) fn is_open(&self) -> bool {
        !self.is_closed.load(Ordering::Acquire)
    }

    /// Whether a recorded build may be tried: not when it failed here a moment ago.
    pub(super) fn may_try(&self, plugin: &str, pointer: &Pointer) -> bool {
        self.failures
            .lock()
            .get(plugin)
            .is_none_or(|failure| !failure.is_of(pointer) || failure.again_at <= Instant::now())
    }

    /// Notes that a recorded build could not be loaded. True when it is the first time.
    pub(super) fn note_failure(&self, plugin: &Arc<str>, pointer: &Pointer) -> bool {
        let mut failures = self.failures.lock();
        let count =
            failures.get(plugin).filter(|failure| failure.is_of(pointer)).map_or(0, |failure| failure.count) + 1;
        let wait = AGAIN_AFTER.saturating_mul(1 << count.min(10)).min(AGAIN_AFTER_MAX);
        let failure = Failure {
            revision: pointer.revision,
            sha256: pointer.sha256.clone(),
            count,
            again_at: Instant::now() + wait,
        };
        failures.insert(Arc::clone(plugin), failure);
        count == 1
    }

    /// The plugin runs what is recorded.
    pub(super) fn note_success(&self, plugin: &str) {
        self.failures.lock().remove(plugin);
    }
}

impl Failure {
    fn is_of(&self, pointer: &Pointer) -> bool {
        self.revision == pointer.revision && self.sha256 == pointer.sha256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(revision: i64) -> Pointer {
        Pointer { revision, sha256: format!("{revision:064}"), file_sha256: None, watch: None }
    }

    #[tokio::test]
    async fn a_build_that_failed_waits_and_another_one_does_not() {
        let cluster = Cluster::new(Database::open_in_memory().await);
        let plugin: Arc<str> = "notes".into();
        assert!(cluster.may_try(&plugin, &pointer(1)));
        assert!(cluster.note_failure(&plugin, &pointer(1)));
        assert!(!cluster.note_failure(&plugin, &pointer(1)));
        assert!(!cluster.may_try(&plugin, &pointer(1)));
        assert!(cluster.may_try(&plugin, &pointer(2)));
        cluster.note_success(&plugin);
        assert!(cluster.may_try(&plugin, &pointer(1)));
    }
}
