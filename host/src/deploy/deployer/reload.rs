//! Taking a changed manifest: a plugin whose entry changed gets a slot of its own with its build linked anew, and all slots
//! change places in one step. A request therefore finds everything under the old entries or everything under the new ones.
//!
//! All or nothing: a manifest that one of the present builds does not fit is refused whole.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::prepare::Prepared;
use super::start::HOST_ACTOR;
use super::{Deployer, Turn};
use crate::deploy::drain::Draining;
use crate::deploy::history::Pointer;
use crate::deploy::verify::Depth;
use crate::deploy::watch::RecordedWatch;
use crate::deploy::{Build, DeployError, Foundry, Registry, Slot, SlotOptions};
use crate::plugins_file::ManifestFile;

/// How often a changed file is tried again while a plugin that it concerns is being deployed, and the pause in between.
const RELOADS_MAX: u32 = 20;
const RELOAD_PAUSE: Duration = Duration::from_millis(500);

/// What becomes of the slots, all of it prepared and nothing of it done.
struct Moves<F: Foundry> {
    /// Builds that were linked anew under a changed entry, with the turn of the slot they leave.
    relinked: Vec<Relinked<F>>,
    /// New slots that are still empty: of new plugins, and of those that had no build when their entry changed.
    fresh: Vec<(Turn<F>, Option<Pointer>)>,
    /// Slots of plugins that go.
    gone: Vec<Turn<F>>,
    /// The turn of whoever asked, where none of this needs it.
    _held: Option<Turn<F>>,
}

/// A build that was linked anew.
struct Relinked<F: Foundry> {
    turn: Turn<F>,
    prepared: Prepared<F::Revision>,
    /// How it is watched, where it is: a changed entry does not acquit it.
    watch: Option<RecordedWatch>,
}

impl<F: Foundry> Deployer<F> {
    /// Takes the manifest's file as it is now. Builds keep their numbers; new plugins are loaded, those that left are
    /// drained. A recorded change stays where the file says the same of its plugin as before.
    ///
    /// # Errors
    /// `Faulty` with every fault; `Conflict` while a plugin concerned is being deployed, however often it was tried;
    /// `Invalid` when a present build does not fit its new entry. Nothing has changed then.
    pub(crate) async fn reload(&self, file: ManifestFile) -> Result<(), DeployError> {
        let (this, file) = (self.clone(), Arc::new(file));
        let reloading = tokio::spawn(async move {
            let mut attempt = 0;
            loop {
                attempt += 1;
                match this.take_file(&file).await {
                    Err(DeployError::Conflict(_)) if attempt < RELOADS_MAX => tokio::time::sleep(RELOAD_PAUSE).await,
                    ended => return ended,
                }
            }
        });
        reloading.await.map_err(|error| DeployError::Internal(error.into()))?
    }

    async fn take_file(&self, file: &Arc<ManifestFile>) -> Result<(), DeployError> {
        let mut standing = self.standing().await?;
        let mut next = standing.clone();
        let overtaken = next.overtaken(file);
        next.forget(&overtaken);
        next.file = Arc::clone(file);
        let manifest = next.judge(file, &next.laid())?;
        let plugins = next.options(&manifest)?;
        self.take(plugins, None, next.record(&self.inner.history, &overtaken)).await?;
        next.tell();
        *standing = next;
        Ok(())
    }

    /// Makes the plugins what `plugins` says. `held` is the turn of a plugin that the caller has already. `record` is
    /// awaited when everything is prepared: when it fails, nothing has changed. Answers the drains that follow.
    pub(super) async fn take(
        &self,
        plugins: Vec<SlotOptions>,
        held: Option<Turn<F>>,
        record: impl Future<Output = Result<(), DeployError>> + Send,
    ) -> Result<Vec<Draining>, DeployError> {
        let overlapping = Registry::<F::Revision>::check(&plugins);
        overlapping.map_err(|overlap| DeployError::Invalid(overlap.to_string()))?;
        let moves = self.prepare_moves(&plugins, held).await?;
        if let Err(error) = record.await {
            moves.relinked.iter().for_each(|relinked| relinked.prepared.revision.retire());
            return Err(error);
        }
        let loads = moves.fresh.iter().map(|(turn, pointer)| self.load_in(turn, pointer.clone()));
        futures_util::future::join_all(loads).await;
        self.end_trials(&moves).await;
        self.move_in(plugins, &moves)
    }

    async fn prepare_moves(&self, plugins: &[SlotOptions], mut held: Option<Turn<F>>) -> Result<Moves<F>, DeployError> {
        let registry = &self.inner.registry;
        let (mut relinked, mut fresh, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for options in plugins {
            let Some(slot) = registry.slot(&options.plugin.name) else {
                fresh.push((self.turn_for(Arc::new(Slot::new(options.clone())))?, None));
                continue;
            };
            if !is_relinked(&slot.options(), options) {
                continue;
            }
            let turn = self.turn_or(&mut held, slot.name())?;
            let Some(current) = turn.slot.current() else {
                let slot = Arc::new(turn.slot.succeed(options.clone()));
                fresh.push((Turn { slot, ..turn }, None));
                continue;
            };
            let prepared = self.relink(&turn, options, &*current).await.map_err(|error| match error {
                DeployError::Invalid(reason) => {
                    DeployError::Invalid(format!("{} does not fit the new manifest: {reason}", slot.name()))
                }
                other => other,
            })?;
            let watch = self.recorded_watch(&turn).await?;
            relinked.push(Relinked { turn, prepared, watch });
        }
        let stays = |slot: &Arc<Slot<F::Revision>>| plugins.iter().any(|options| options.plugin.name == *slot.name());
        for slot in registry.slots().iter().filter(|slot| !stays(slot)) {
            gone.push(self.turn_or(&mut held, slot.name())?);
        }
        if !fresh.is_empty() {
            let mut pointers = self.inner.history.pointers().await.map_err(DeployError::of_host_tables)?;
            fresh.iter_mut().for_each(|(turn, pointer)| *pointer = pointers.remove(&**turn.slot.name()));
        }
        Ok(Moves { relinked, fresh, gone, _held: held })
    }

    /// The plugin's turn, which the caller may have already.
    fn turn_or(&self, held: &mut Option<Turn<F>>, name: &str) -> Result<Turn<F>, DeployError> {
        match held.take_if(|turn| **turn.slot.name() == *name) {
            Some(turn) => Ok(turn),
            None => self.turn(name),
        }
    }

    /// How the present build of a slot is watched, while it is.
    async fn recorded_watch(&self, turn: &Turn<F>) -> Result<Option<RecordedWatch>, DeployError> {
        if turn.slot.watched().is_none() {
            return Ok(None);
        }
        let pointer = self.inner.history.pointer(turn.slot.name()).await.map_err(DeployError::of_host_tables)?;
        let number = turn.slot.current().map(|current| current.number());
        Ok(pointer.filter(|pointer| Some(pointer.revision) == number).and_then(|pointer| pointer.watch))
    }

    async fn relink(
        &self,
        turn: &Turn<F>,
        options: &SlotOptions,
        current: &F::Revision,
    ) -> Result<Prepared<F::Revision>, DeployError> {
        let digest = Arc::clone(current.digest());
        let bytes = self.stored(turn, &digest).await?.ok_or_else(|| {
            DeployError::Unavailable(format!("the component of revision {} is not kept here", current.number()), None)
        })?;
        let options = Arc::new(options.clone());
        self.prepare_for(turn, options, bytes, &digest, current.number(), Depth::AgainstManifest).await
    }

    /// What is on trial was linked under the old entry, and beside a build that goes now.
    async fn end_trials(&self, moves: &Moves<F>) {
        let changed =
            moves.relinked.iter().map(|Relinked { turn, .. }| (turn, "the plugin's entry in the manifest has changed"));
        let gone = moves.gone.iter().map(|turn| (turn, "the plugin left the manifest"));
        let ending: Vec<_> = changed.chain(gone).filter(|(turn, _)| turn.slot.trial().is_some()).collect();
        for (turn, reason) in ending {
            if let Err(error) = self.abort_in(turn, HOST_ACTOR, Some(reason)).await {
                tracing::error!(plugin = %turn.slot.name(), error = &error as &dyn std::error::Error, reason, "the end of a trial was not recorded");
                if let Some(trial) = turn.slot.end_trial() {
                    drop(self.drain(turn, Arc::clone(&trial.build), None));
                }
            }
        }
    }

    /// The change itself: one snapshot. Old slots keep their builds for the requests that have found them already.
    fn move_in(&self, plugins: Vec<SlotOptions>, moves: &Moves<F>) -> Result<Vec<Draining>, DeployError> {
        let inner = &self.inner;
        let mut new: HashMap<Arc<str>, Arc<Slot<F::Revision>>> = HashMap::new();
        for Relinked { turn, prepared, .. } in &moves.relinked {
            let slot = turn.slot.succeed(SlotOptions::clone(&prepared.options));
            slot.switch(Arc::clone(&prepared.revision));
            new.insert(Arc::clone(slot.name()), Arc::new(slot));
        }
        new.extend(moves.fresh.iter().map(|(turn, _)| (Arc::clone(turn.slot.name()), Arc::clone(&turn.slot))));
        let mut seats = Vec::with_capacity(plugins.len());
        for options in plugins {
            let name = Arc::clone(&options.plugin.name);
            if let Some(slot) = new.get(&name) {
                seats.push(Arc::clone(slot));
            } else if let Some(slot) = inner.registry.slot(&name) {
                slot.configure(options);
                seats.push(slot);
            }
        }
        inner.registry.seat(seats).map_err(|overlap| DeployError::Invalid(overlap.to_string()))?;
        let mut drains = Vec::new();
        for Relinked { turn, prepared, watch } in &moves.relinked {
            turn.slot.watch(None);
            self.tell_hooks(&prepared.options, &prepared.revision);
            let Some(slot) = new.get(turn.slot.name()) else { continue };
            self.begin_watch(slot, &prepared.revision, watch.as_ref());
            if let Some(old) = turn.slot.current() {
                drains.push(self.drain_slot(slot, old, None));
            }
        }
        for (turn, _) in &moves.fresh {
            // Told when they were loaded too; but only now can they be found.
            if let Some(revision) = turn.slot.current() {
                self.tell_hooks(&turn.slot.options(), &revision);
            }
        }
        for turn in &moves.gone {
            turn.slot.watch(None);
            drains.extend(turn.slot.current().map(|old| self.drain_slot(&turn.slot, old, None)));
            inner.hooks.iter().for_each(|hook| hook.removed(turn.slot.name()));
            inner.benches.lock().remove(turn.slot.name());
        }
        Ok(drains)
    }
}

/// Whether a build must be linked anew: anything it was verified against or runs under has changed.
fn is_relinked(before: &SlotOptions, after: &SlotOptions) -> bool {
    let (old, new) = (&before.plugin, &after.plugin);
    old.grant != new.grant
        || old.limits != new.limits
        || old.config != new.config
        || before.isolation != after.isolation
        || before.prefixes != after.prefixes
        || before.public != after.public
        || before.timers != after.timers
}
