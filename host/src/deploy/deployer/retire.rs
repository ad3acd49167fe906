//! What happens behind a switch: the old build drains, old lines and components are removed.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Deployer, Turn};
use crate::deploy::drain::{self, Draining};
use crate::deploy::{Build, Foundry, Slot};

impl<F: Foundry> Deployer<F> {
    /// Lets a build that was replaced drain in the background, within the plugin's own limit. `line` is the line of the
    /// history that is completed at the end.
    pub(super) fn drain(&self, turn: &Turn<F>, old: Arc<F::Revision>, line: Option<String>) -> Draining {
        self.drain_slot(&turn.slot, old, line)
    }

    /// The same for a slot, for one that has left the manifest.
    pub(super) fn drain_slot(
        &self,
        slot: &Arc<Slot<F::Revision>>,
        old: Arc<F::Revision>,
        line: Option<String>,
    ) -> Draining {
        let (sender, receiver) = oneshot::channel();
        let (this, slot) = (self.clone(), Arc::clone(slot));
        let limit = slot.plugin().limits.drain;
        slot.begin_drain(Arc::clone(&old));
        self.inner.drains.spawn(async move {
            let drained = drain::wait(&*old, limit).await;
            slot.end_drain(&old);
            tracing::info!(
                plugin = %slot.name(), revision = old.number(), drained_ms = drained.milliseconds,
                is_cut_short = drained.is_cut_short, "an old build has gone"
            );
            drop(old);
            if let Some(line) = line {
                this.inner.history.record_drain(&line, drained).await;
            }
            // Nobody may be waiting for it.
            let _ = sender.send(drained);
            this.tidy(slot.name()).await;
        });
        receiver
    }

    /// Removes history that is too old, and components that no rollback can ask for any more. Best effort: the next
    /// deploy tries again.
    async fn tidy(&self, plugin: &str) {
        self.inner.history.prune(plugin).await;
        self.tidy_components().await;
    }

    /// Compiles what a rollback may ask for and this engine has not compiled yet, as after an upgrade of the host: the way
    /// back then costs no compilation. One after the other, and behind everything else.
    pub(super) async fn compile_ahead(&self) {
        let inner = &self.inner;
        let wanted = match inner.history.wanted().await {
            Ok(wanted) => wanted,
            Err(error) => {
                return tracing::warn!(error = &error as &dyn std::error::Error, "nothing is compiled ahead");
            }
        };
        for digest in wanted {
            if inner.stopping.is_cancelled() {
                return;
            }
            if inner.foundry.is_compiled(&digest) {
                continue;
            }
            // A component that this host never had is fetched when it is asked for.
            let Ok(Some(bytes)) = inner.artifacts.load(&digest, usize::MAX >> 1).await else { continue };
            match self.compile_or_fetch(bytes, &digest).await {
                Ok(_) => tracing::info!(digest, "a recorded build is compiled for this engine"),
                Err(error) => tracing::warn!(digest, %error, "a recorded build cannot be compiled any more"),
            }
        }
    }

    /// Removes components that no rollback can ask for any more, with what the engine has cached of them.
    pub(super) async fn tidy_components(&self) {
        let inner = &self.inner;
        // A deploy stores its component before its commit makes it wanted.
        let _alone = inner.tidying.write().await;
        let removed = match inner.history.wanted().await {
            Ok(wanted) => {
                if let Err(error) = inner.cluster.components.keep_only(|digest| wanted.contains(digest)).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "old shared components were not removed");
                }
                if let Err(error) = inner.foundry.keep_only(wanted.clone()).await {
                    tracing::warn!(%error, "old compiled components were not removed");
                }
                inner.artifacts.keep_only(wanted).await
            }
            Err(error) => {
                return tracing::warn!(error = &error as &dyn std::error::Error, "old components were not removed");
            }
        };
        match removed {
            Ok(removed) => removed.iter().for_each(|digest| inner.foundry.forget(digest)),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "old components were not removed"),
        }
    }
}
