//! Following the other hosts on the database: loading what they deployed, and saying what runs here.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

use super::start::HOST_ACTOR;
use super::{Deployer, Turn};
use crate::database::{Database, DatabaseError, Dialect};
use crate::deploy::cluster::{CHANNEL, HostEntry, HostIdentity, LISTEN_AGAIN, LOOK_EVERY, Running};
use crate::deploy::history::{Action, Line, Pointer, RecordedTrial};
use crate::deploy::verify::Depth;
use crate::deploy::{Build, DeployError, Foundry, Slot, SlotState};
use crate::tasks::Tasks;

impl<F: Foundry> Deployer<F> {
    /// Follows the other hosts until `tasks` stop. Nothing to do where a host has its database to itself.
    pub(crate) fn follow(&self, identity: HostIdentity, tasks: &Tasks) {
        self.inner.cluster.hosts.introduce(identity);
        if self.inner.database.dialect() == Dialect::Sqlite {
            return;
        }
        let this = self.clone();
        tasks.supervise("cluster", move |stop| {
            let this = this.clone();
            async move {
                let changed = Notify::new();
                let following = async { tokio::join!(listen(&this.inner.database, &changed), this.look(&changed)) };
                stop.run_until_cancelled(following).await;
                if let Err(error) = this.inner.cluster.hosts.leave().await {
                    tracing::debug!(%error, "this host stays on the list until it is forgotten");
                }
            }
        });
    }

    /// Every host on the database and what it runs.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) async fn hosts(&self) -> Result<Vec<HostEntry>, DeployError> {
        self.inner.cluster.hosts.list(self.running()).await.map_err(DeployError::of_host_tables)
    }

    fn running(&self) -> Vec<Running> {
        self.plugins().into_iter().map(Running::of).collect()
    }

    /// Looks at the record whenever it may have changed, for ever.
    async fn look(&self, changed: &Notify) {
        let mut has_failed = false;
        loop {
            match self.look_once().await {
                Ok(()) => has_failed = false,
                Err(error) => {
                    if !has_failed {
                        tracing::warn!(%error, "what other hosts deployed cannot be seen; looking again");
                    }
                    has_failed = true;
                }
            }
            // Either is a reason to look again.
            let _ = tokio::time::timeout(LOOK_EVERY, changed.notified()).await;
        }
    }

    pub(super) async fn look_once(&self) -> Result<(), DatabaseError> {
        let (cluster, history) = (&self.inner.cluster, &self.inner.history);
        self.follow_entries(history.generation().await?);
        let pointers = history.pointers().await?;
        let trials = history.trials().await?;
        for slot in self.inner.registry.slots() {
            let Some(pointer) = pointers.get(&**slot.name()) else { continue };
            let trial = trials.iter().find(|trial| *trial.plugin == **slot.name());
            follow_share(&slot, trial);
            let wanted = if !runs(&slot, pointer) {
                pointer.clone()
            } else if !tries(&slot, trial) {
                trial.map_or_else(|| pointer.clone(), pointer_of)
            } else {
                continue;
            };
            if cluster.is_open() && cluster.may_try(slot.name(), &wanted) {
                let this = self.clone();
                self.inner.drains.spawn(async move { this.catch_up(&slot).await });
            }
        }
        cluster.hosts.tell(self.running()).await
    }

    /// Loads what the database records for a plugin, unless somebody is deploying it here.
    async fn catch_up(&self, slot: &Slot<F::Revision>) {
        // A deploy of this host is recorded before it serves. Mostly it does by now: then nobody's turn is taken.
        let is_done = |pointer: &Pointer, trial: Option<&RecordedTrial>| runs(slot, pointer) && tries(slot, trial);
        if let Ok((Some(pointer), trial)) = self.recorded(slot.name()).await
            && is_done(&pointer, trial.as_ref())
        {
            return;
        }
        // Busy: the next look comes soon.
        let Ok(turn) = self.turn(slot.name()) else { return };
        // Read again in our turn: a deploy on this host may have moved on meanwhile.
        let (pointer, trial) = match self.recorded(slot.name()).await {
            Ok((Some(pointer), trial)) => (pointer, trial),
            _ => return,
        };
        if !self.inner.cluster.is_open() {
            return;
        }
        if !runs(&turn.slot, &pointer) {
            let began = Instant::now();
            if let Err(error) = self.load_from_others(&turn, &pointer).await {
                return self.cannot_follow(&turn, &pointer, began, error).await;
            }
            self.inner.cluster.note_success(slot.name());
            tracing::info!(
                plugin = %slot.name(), revision = pointer.revision, sha256 = pointer.sha256,
                elapsed_ms = super::milliseconds(began), "a build from another host serves"
            );
        }
        self.follow_trial(&turn, trial).await;
    }

    async fn recorded(&self, plugin: &str) -> Result<(Option<Pointer>, Option<RecordedTrial>), DatabaseError> {
        Ok((self.inner.history.pointer(plugin).await?, self.inner.history.trial(plugin).await?))
    }

    async fn load_from_others(&self, turn: &Turn<F>, pointer: &Pointer) -> Result<(), DeployError> {
        // What was on trial here and was promoted elsewhere is warm already.
        let tried = turn.slot.trial().filter(|trial| is_build(&*trial.build, pointer));
        let (options, revision) = match tried {
            Some(trial) => (turn.slot.options(), Arc::clone(&trial.build)),
            None => {
                let bytes = self.stored(turn, &pointer.sha256).await?.ok_or_else(|| {
                    DeployError::Unavailable(
                        format!("the component of revision {} is not kept here", pointer.revision),
                        None,
                    )
                })?;
                let depth = Depth::AgainstManifest;
                let prepared = self.prepare(turn, bytes, &pointer.sha256, pointer.revision, depth).await?;
                (prepared.options, prepared.revision)
            }
        };
        let (_, old) = self.put_in_front(turn, &options, &revision);
        self.begin_watch(&turn.slot, &revision, pointer.watch.as_ref());
        if let Some(old) = old {
            drop(self.drain(turn, old, None));
        }
        Ok(())
    }

    /// Ends a trial that was ended elsewhere, and begins one that was begun elsewhere.
    async fn follow_trial(&self, turn: &Turn<F>, recorded: Option<RecordedTrial>) {
        if tries(&turn.slot, recorded.as_ref()) {
            return;
        }
        if let Some(ended) = turn.slot.end_trial()
            && turn.slot.current().is_none_or(|current| !Arc::ptr_eq(&current, &ended.build))
        {
            drop(self.drain(turn, Arc::clone(&ended.build), None));
        }
        let Some(recorded) = recorded else { return };
        self.restore_trial(turn).await;
        if turn.slot.trial().is_none() {
            self.inner.cluster.note_failure(turn.slot.name(), &pointer_of(&recorded));
        }
    }

    /// The old build serves on. Written down the first time only.
    async fn cannot_follow(&self, turn: &Turn<F>, pointer: &Pointer, began: Instant, error: DeployError) {
        let slot = &turn.slot;
        if slot.current().is_none() {
            slot.fail(SlotState::Failed, &error.to_string());
        }
        if self.inner.cluster.note_failure(slot.name(), pointer) {
            let mut line = Line::new(slot.name(), Action::Follow, &pointer.sha256, HOST_ACTOR.to_owned());
            line.previous_revision = slot.current().map(|revision| revision.number());
            self.fail(turn, line, began, error).await;
        }
    }
}

fn is_build(build: &impl Build, pointer: &Pointer) -> bool {
    build.number() == pointer.revision && **build.digest() == *pointer.sha256
}

/// Whether the slot serves what is recorded.
fn runs<R: Build>(slot: &Slot<R>, pointer: &Pointer) -> bool {
    slot.current().is_some_and(|build| is_build(&*build, pointer))
}

/// Whether the slot tries what is recorded as on trial.
fn tries<R: Build>(slot: &Slot<R>, recorded: Option<&RecordedTrial>) -> bool {
    slot.trial().map(|trial| trial.build.number()) == recorded.map(|recorded| recorded.revision)
}

/// A step that another host has taken is taken here too. Never a smaller share: a host that is about to abort a bad canary
/// has taken its callers away before it says so.
fn follow_share<R: Build>(slot: &Slot<R>, recorded: Option<&RecordedTrial>) {
    if let (Some(trial), Some(recorded)) = (slot.trial(), recorded)
        && trial.build.number() == recorded.revision
        && trial.share() > 0
        && trial.share() < recorded.plan.share
    {
        trial.set_share(recorded.plan.share);
    }
}

/// A build on trial as something that can fail to load.
fn pointer_of(trial: &RecordedTrial) -> Pointer {
    Pointer { revision: trial.revision, sha256: trial.sha256.clone(), file_sha256: None, watch: None }
}

/// Rings whenever the record may have changed, for ever.
async fn listen(database: &Database, changed: &Notify) {
    loop {
        match database.listen(CHANNEL).await {
            Ok(Some(mut listener)) => {
                // Something may have been announced before.
                changed.notify_one();
                while listener.heard().await.is_ok() {
                    changed.notify_one();
                }
            }
            Ok(None) => return,
            Err(error) => tracing::debug!(%error, "announcements cannot be heard"),
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}
