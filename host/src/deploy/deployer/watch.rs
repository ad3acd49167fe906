//! After a switch: the new build is compared with the one before it for a while, and goes by itself when it is worse.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::start::HOST_ACTOR;
use super::{Deployer, Turn, WATCH_MAX};
use crate::deploy::slot::Watched;
use crate::deploy::watch::{Observation, Watcher, look_interval};
use crate::deploy::{Build, DeployError, Foundry, Slot};

/// How long a build that is found bad may wait for its plugin's turn before it is looked at again.
const TURN_PAUSE: Duration = Duration::from_millis(200);

impl<F: Foundry> Deployer<F> {
    /// Watches `new` for `window`, or as long as the host is set to. Answers how long that is; none when it is not watched.
    pub(super) fn begin_watch(
        &self,
        turn: &Turn<F>,
        new: &Arc<F::Revision>,
        old: &Arc<F::Revision>,
        window: Option<Duration>,
    ) -> Option<Duration> {
        let window = window.unwrap_or(self.inner.options.watch).min(WATCH_MAX);
        turn.slot.watch(None);
        if window.is_zero() || new.number() == old.number() {
            return None;
        }
        let watched = Watched { revision: new.number(), previous: old.number(), until: Instant::now() + window };
        turn.slot.watch(Some(watched));
        let (this, slot, new) = (self.clone(), Arc::clone(&turn.slot), Arc::clone(new));
        let old = Observation::of(&**old);
        self.inner.drains.spawn(async move {
            let watching = this.watch_build(&slot, watched, &new, &old, look_interval(window));
            this.inner.stopping.clone().run_until_cancelled(watching).await;
            if slot.watched() == Some(watched) {
                slot.watch(None);
            }
        });
        Some(window)
    }

    async fn watch_build(
        &self,
        slot: &Arc<Slot<F::Revision>>,
        watched: Watched,
        new: &Arc<F::Revision>,
        old: &Observation,
        interval: Duration,
    ) {
        // A build that was promoted has counted before.
        let before = Observation::of(&**new);
        let mut watcher = Watcher::default();
        while Instant::now() < watched.until {
            tokio::time::sleep(interval).await;
            // Somebody has deployed or gone back meanwhile.
            if slot.watched() != Some(watched) {
                return;
            }
            let Err(reason) = watcher.look(&Observation::of(&**new).since(&before), old) else { continue };
            match self.revert(slot, watched, &reason).await {
                Ok(()) => return,
                Err(DeployError::Conflict(_)) => tokio::time::sleep(TURN_PAUSE).await,
                Err(error) => {
                    tracing::error!(plugin = %slot.name(), error = &error as &dyn std::error::Error, reason, "a bad build could not be reverted");
                    return;
                }
            }
        }
        tracing::debug!(plugin = %slot.name(), revision = watched.revision, "the watch over a build is over");
    }

    async fn revert(&self, slot: &Arc<Slot<F::Revision>>, watched: Watched, reason: &str) -> Result<(), DeployError> {
        let turn = self.turn(slot.name())?;
        // A trial that began meanwhile is compared with a build that goes now.
        if slot.trial().is_some() {
            self.abort_in(&turn, HOST_ACTOR, Some("the build it was compared with is reverted")).await?;
        }
        if slot.watched() != Some(watched) {
            return Ok(());
        }
        tracing::warn!(plugin = %slot.name(), revision = watched.revision, reason, "a bad build is reverted");
        self.roll_back(&turn, Some(watched.previous), HOST_ACTOR.to_owned(), Some(reason.to_owned())).await.map(drop)
    }
}
