//! What follows a switch outside the request path: queue bindings, timers and the worker's pumps.

use crate::capability::queue::QueueRoom;
use crate::deploy::{DeployHooks, Switched};
use crate::worker::Worker;

/// Keeps the worker in step with the builds.
pub(super) struct Background {
    queue: QueueRoom,
    worker: Worker,
}

impl Background {
    pub(super) fn new(queue: QueueRoom, worker: Worker) -> Self {
        Self { queue, worker }
    }

    fn apply(&self, plugin: String, bindings: Vec<String>, timers: Vec<(String, String)>) {
        let (queue, worker) = (self.queue.clone(), self.worker.clone());
        tokio::spawn(async move {
            if let Err(error) = queue.set_bindings(&plugin, bindings).await {
                tracing::error!(plugin, %error, "the plugin's bindings could not be set");
            }
            if let Err(error) = worker.set_timers(&plugin, &timers).await {
                tracing::error!(plugin, %error, "the plugin's timers could not be set");
            }
            worker.refresh();
        });
    }
}

impl DeployHooks for Background {
    fn switched(&self, switched: &Switched) {
        let timers = switched.timers.iter().map(|(name, schedule)| (name.clone(), schedule.clone())).collect();
        self.apply(switched.plugin.name.to_string(), switched.bindings.clone(), timers);
    }

    fn removed(&self, plugin: &str) {
        self.apply(plugin.to_owned(), Vec::new(), Vec::new());
    }
}
