//! The host's background tasks: named, supervised, and stopped together.
//!
//! Nothing may be spawned for the life of the process outside a `Tasks`: what is not in it cannot be stopped in order.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A task that ended too early is started again after this long, doubling up to [`RESTART_PAUSE_MAX`].
const RESTART_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause between two starts of a supervised task.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(30);

/// A set of background tasks. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    kill: CancellationToken,
}

impl Tasks {
    /// An empty set.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the host begins to stop: a task finishes what it has in hand and returns.
    #[cfg(test)]
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// How many tasks are still running.
    #[cfg(test)]
    pub(crate) fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Starts a task that ends by itself, or soon after [`Tasks::stopping`] is cancelled.
    pub(crate) fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let kill = self.kill.clone();
        self.tracker.spawn(async move {
            if kill.run_until_cancelled(task).await.is_none() {
                tracing::warn!(target: "tasks", task = name, "a task did not stop in time and was dropped");
            }
        });
    }

    /// Starts a task that must live as long as the host: when it returns or panics early it is started again.
    pub(crate) fn supervise<M, F>(&self, name: &'static str, make: M)
    where
        M: Fn(CancellationToken) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.spawn(name, async move {
            let mut pause = RESTART_PAUSE;
            while !stop.is_cancelled() {
                // A task of its own, so that a panic ends the attempt and not the supervisor.
                let mut attempt = AbortOnDrop(tokio::spawn(make(stop.clone())));
                let ended = (&mut attempt.0).await;
                if stop.is_cancelled() {
                    return;
                }
                match ended {
                    Ok(()) => tracing::warn!(target: "tasks", task = name, "a task ended early and is started again"),
                    Err(error) => {
                        tracing::error!(target: "tasks", task = name, %error, "a task failed and is started again");
                    }
                }
                stop.run_until_cancelled(tokio::time::sleep(pause)).await;
                pause = (pause * 2).min(RESTART_PAUSE_MAX);
            }
        });
    }

    /// Asks every task to stop and waits at most `grace`; what still runs then is dropped. True when all stopped by
    /// themselves.
    pub(crate) async fn stop(&self, grace: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait()).await.is_ok() {
            return true;
        }
        self.kill.cancel();
        self.tracker.wait().await;
        false
    }
}

/// Ends the task when its supervisor is dropped.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_task_that_heeds_the_stop_ends_in_time() {
        let tasks = Tasks::new();
        let stop = tasks.stopping();
        tasks.spawn("heeds", async move { stop.cancelled().await });
        assert_eq!(tasks.running(), 1);
        assert!(tasks.stop(Duration::from_secs(5)).await);
        assert_eq!(tasks.running(), 0);
    }

    #[tokio::test]
    async fn a_task_that_ignores_the_stop_is_dropped() {
        let tasks = Tasks::new();
        tasks.spawn("ignores", std::future::pending());
        assert!(!tasks.stop(Duration::from_millis(10)).await);
        assert_eq!(tasks.running(), 0);
    }

    #[tokio::test]
    async fn a_supervised_task_comes_back_after_a_panic() {
        let tasks = Tasks::new();
        let starts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&starts);
        tasks.supervise("panics", move |stop| {
            let start = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                assert!(start > 1, "the first two starts fail");
                stop.cancelled().await;
            }
        });
        while starts.load(Ordering::SeqCst) < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(tasks.stop(Duration::from_secs(5)).await);
    }
}
