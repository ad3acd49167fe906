//! After a switch: the new build is compared with the one before it for a while, and goes by itself when it is worse.
//!
//! Every host does so by its own requests. What is watched, and against what, stands in the record of the switch: a restart
//! goes on with it, and the other hosts begin as they follow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};

use super::start::HOST_ACTOR;
use super::{Deployer, Turn, WATCH_MAX};
use crate::deploy::slot::Watched;
use crate::deploy::watch::{Baseline, Observation, RecordedWatch, Watcher, look_interval};
use crate::deploy::{Build, DeployError, Foundry, Slot};

/// How long a build that is found bad may wait for its plugin's turn before that is asked for again.
const TURN_PAUSE: Duration = Duration::from_millis(200);
/// The first and the longest pause before a build that could not be reverted is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(30);

impl<F: Foundry> Deployer<F> {
    /// How `new` is to be watched in the place of the present build, for `window`, or as long as the host is set to. None
    /// when it is not.
    pub(super) fn plan_watch(
        &self,
        turn: &Turn<F>,
        new: &F::Revision,
        window: Option<Duration>,
    ) -> Option<RecordedWatch> {
        let window = window.unwrap_or(self.inner.options.watch).min(WATCH_MAX);
        let old = turn.slot.current().filter(|old| old.number() != new.number() && !window.is_zero())?;
        Some(RecordedWatch {
            revision: new.number(),
            previous: old.number(),
            until: Utc::now() + TimeDelta::from_std(window).ok()?,
            window_ms: u64::try_from(window.as_millis()).ok()?,
            baseline: Baseline::from(&Observation::of(&*old)),
        })
    }

    /// Watches `new`, which serves now, for what is left of the time; whatever was watched before is not any more.
    pub(super) fn begin_watch(
        &self,
        slot: &Arc<Slot<F::Revision>>,
        new: &Arc<F::Revision>,
        recorded: Option<&RecordedWatch>,
    ) {
        slot.watch(None);
        let left = |recorded: &RecordedWatch| (recorded.until - Utc::now()).to_std().ok();
        let Some((recorded, left)) = recorded.and_then(|recorded| Some((recorded.clone(), left(recorded)?))) else {
            return;
        };
        // The clocks of two hosts may differ.
        let until = Instant::now() + left.min(WATCH_MAX);
        let watched = Watched { revision: new.number(), previous: recorded.previous, until };
        slot.watch(Some(watched));
        let (this, slot, new) = (self.clone(), Arc::clone(slot), Arc::clone(new));
        self.inner.drains.spawn(async move {
            let watching = this.watch_build(&slot, watched, &new, &recorded);
            this.inner.stopping.clone().run_until_cancelled(watching).await;
            if slot.watched() == Some(watched) {
                slot.watch(None);
            }
        });
    }

    async fn watch_build(
        &self,
        slot: &Arc<Slot<F::Revision>>,
        watched: Watched,
        new: &Arc<F::Revision>,
        recorded: &RecordedWatch,
    ) {
        let interval = look_interval(Duration::from_millis(recorded.window_ms));
        // A build that was promoted has counted before.
        let before = Observation::of(&**new);
        let mut watcher = Watcher::default();
        while Instant::now() < watched.until {
            tokio::time::sleep(interval).await;
            // Somebody has deployed or gone back meanwhile.
            if slot.watched() != Some(watched) {
                return;
            }
            if let Err(reason) = watcher.look(&Observation::of(&**new).since(&before), &recorded.baseline) {
                return self.revert(slot, watched, &reason).await;
            }
        }
        tracing::debug!(plugin = %slot.name(), revision = watched.revision, "the watch over a build is over");
    }

    /// Takes a build away that was found bad. The verdict stands: it is tried until the build is gone, for as long as the
    /// host itself is what stands in the way.
    async fn revert(&self, slot: &Arc<Slot<F::Revision>>, watched: Watched, reason: &str) {
        let mut pause = AGAIN_AFTER;
        loop {
            let Err(error) = self.try_revert(slot, watched, reason).await else { return };
            match &error {
                DeployError::Conflict(_) => tokio::time::sleep(TURN_PAUSE).await,
                DeployError::Unavailable(..) | DeployError::Internal(_) => {
                    tracing::error!(plugin = %slot.name(), error = &error as &dyn std::error::Error, reason, "a bad build could not be reverted; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(AGAIN_AFTER_MAX);
                }
                // The build before it is gone, or does not fit any more.
                _ => {
                    return tracing::error!(plugin = %slot.name(), error = &error as &dyn std::error::Error, reason, "a bad build cannot be reverted");
                }
            }
        }
    }

    async fn try_revert(
        &self,
        slot: &Arc<Slot<F::Revision>>,
        watched: Watched,
        reason: &str,
    ) -> Result<(), DeployError> {
        let turn = self.turn(slot.name())?;
        if slot.watched() != Some(watched) {
            return Ok(());
        }
        let pointer = self.inner.history.pointer(slot.name()).await.map_err(DeployError::of_host_tables)?;
        let Some(pointer) = pointer.filter(|pointer| pointer.revision == watched.revision) else {
            // Another host has gone back or deployed already, and is followed.
            return Ok(());
        };
        // A trial that began meanwhile is compared with a build that goes now.
        if turn.slot.trial().is_some() {
            self.abort_in(&turn, HOST_ACTOR, Some("the build it was compared with is reverted")).await?;
        }
        tracing::warn!(plugin = %slot.name(), revision = watched.revision, reason, "a bad build is reverted");
        let (previous, actor) = (Some(watched.previous), HOST_ACTOR.to_owned());
        self.roll_back_from(&turn, &pointer, previous, actor, Some(reason.to_owned())).await.map(drop)
    }
}
