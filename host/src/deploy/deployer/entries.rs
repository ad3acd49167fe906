//! Plugins added, changed and removed while the host runs, judged exactly as at its start.
//!
//! One change of the manifest after the other; two of one plugin at once, or one while it is being deployed, are not both
//! begun. A change is recorded before anything serves by it, so that a restart and every other host come to the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{MutexGuard, OwnedMutexGuard};

use super::{Bench, DeployOptions, Deployer, Turn, short};
use crate::deploy::drain::Draining;
use crate::deploy::history::ChangeAction;
use crate::deploy::standing::{Proposal, Standing};
use crate::deploy::{Build as _, DeployError, DeployReport, Foundry, Registry, Slot};
use crate::plugins_file::{self, EntryOrigin, FaultKind};

/// How long a change waits for those before it.
const CHANGE_WAIT_MAX: Duration = Duration::from_secs(60);
/// When changes of another host that cannot be taken here are tried again.
const FOLLOW_AGAIN: Duration = Duration::from_secs(30);

/// What is to become of a plugin's entry.
#[derive(Clone, Debug)]
pub(crate) enum EntryChange {
    /// This entry takes its place, as TOML.
    Replace(String),
    /// These keys take their places in it, as TOML.
    Merge(String),
    /// The plugin goes. Its data, its messages and its history stay.
    Remove,
}

/// What became of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChangeReport {
    pub plugin: String,
    /// `set` or `remove`.
    pub action: &'static str,
    /// Whether anything was different before.
    pub has_changed: bool,
    /// The build that serves; none for a plugin that has none.
    pub revision: Option<i64>,
    /// Where the entry comes from now; none for a plugin that was removed.
    pub origin: Option<EntryOrigin>,
    /// The routes it has now.
    pub prefixes: Vec<String>,
    /// Whether the build that runs under the old entry still has something to finish.
    pub is_draining: bool,
    /// How long that took; none when it was not waited for.
    pub drained_ms: Option<u64>,
    /// Whether its last calls were cancelled.
    pub is_cut_short: Option<bool>,
}

impl<F: Foundry> Deployer<F> {
    /// The manifest that the slots were made from. To be said before anything is changed.
    pub(crate) async fn stand_on(&self, standing: Standing) {
        *self.inner.standing.lock().await = standing;
    }

    /// A plugin's entry as it stands: TOML, one line a key.
    ///
    /// # Errors
    /// `UnknownPlugin`; `Conflict` while changes take long.
    pub(crate) async fn entry(&self, name: &str) -> Result<String, DeployError> {
        let standing = self.standing().await?;
        let entry = standing.entry(name).filter(|_| self.inner.registry.slot(name).is_some());
        entry.map(str::to_owned).ok_or_else(|| DeployError::UnknownPlugin(name.to_owned()))
    }

    /// Adds a plugin with its first build. Its routes lead to it when it serves.
    ///
    /// # Errors
    /// `Conflict` when it is there already or somebody else adds it; `Faulty` with every fault of the entry; else as
    /// [`Deployer::deploy`]. Nothing has changed then.
    pub(crate) async fn add(
        &self,
        name: &str,
        entry: String,
        component: Bytes,
        options: DeployOptions,
    ) -> Result<DeployReport, DeployError> {
        let bench = self.bench(&Arc::from(name));
        let guard = Arc::clone(&bench.lock)
            .try_lock_owned()
            .map_err(|_| DeployError::Conflict(format!("another deploy of {name} is running")))?;
        let (this, name) = (self.clone(), name.to_owned());
        let adding = async move {
            let added = this.add_in(&name, &entry, component, options, (bench, guard)).await;
            if this.inner.registry.slot(&name).is_none() {
                this.inner.benches.lock().remove(name.as_str());
            }
            added
        };
        self.finish(adding, false).await
    }

    /// Changes or removes a plugin.
    ///
    /// # Errors
    /// `UnknownPlugin`; `Conflict` while it is being deployed or changed; `Faulty` with every fault; `Invalid` when its build
    /// does not fit the entry. Nothing has changed then.
    pub(crate) async fn change(
        &self,
        name: &str,
        change: EntryChange,
        options: DeployOptions,
    ) -> Result<ChangeReport, DeployError> {
        let turn = self.turn(name)?;
        let (this, actor) = (self.clone(), short(&options.actor));
        let changing = tokio::spawn(async move { this.change_in(turn, change, &actor).await });
        let (mut report, drains) = changing.await.map_err(|error| DeployError::Internal(error.into()))??;
        if options.waits_for_drain {
            for draining in drains {
                if let Ok(drained) = draining.await {
                    report.drained_ms = Some(drained.milliseconds);
                    report.is_cut_short = Some(drained.is_cut_short);
                }
            }
            report.is_draining = false;
        }
        Ok(report)
    }

    /// The manifest as it stands, for one change at a time.
    pub(super) async fn standing(&self) -> Result<MutexGuard<'_, Standing>, DeployError> {
        tokio::time::timeout(CHANGE_WAIT_MAX, self.inner.standing.lock())
            .await
            .map_err(|_| DeployError::Conflict("other changes of the plugins take long".to_owned()))
    }

    async fn add_in(
        &self,
        name: &str,
        entry: &str,
        component: Bytes,
        options: DeployOptions,
        (bench, guard): (Arc<Bench<F::Compiled>>, OwnedMutexGuard<()>),
    ) -> Result<(DeployReport, Option<Draining>), DeployError> {
        let mut standing = self.standing().await?;
        if self.inner.registry.slot(name).is_some() {
            return Err(DeployError::Conflict(format!(
                "the plugin {name} is there already: set changes its entry, deploy gives it a new build"
            )));
        }
        let candidate = self.candidate(component, options)?;
        let Proposal { change, plugins } =
            standing.propose(name, ChangeAction::Add, Some(entry), &short(&candidate.options.actor))?;
        let overlapping = Registry::<F::Revision>::check(&plugins);
        overlapping.map_err(|overlap| DeployError::Invalid(overlap.to_string()))?;
        let own = plugins.into_iter().find(|options| *options.plugin.name == *name);
        let own = own.ok_or_else(|| DeployError::Internal("an entry that was judged is not in the manifest".into()))?;
        let slot = Arc::new(Slot::new(own));
        let added = Some((standing.changes.generation, change.clone()));
        let turn = Turn { slot, bench, _guard: guard, added };
        let deployed = self.deploy_candidate(&turn, candidate).await?;
        standing.changes.generation += 1;
        standing.lay(change);
        tracing::info!(plugin = name, "a plugin was added");
        Ok(deployed)
    }

    async fn change_in(
        &self,
        turn: Turn<F>,
        change: EntryChange,
        actor: &str,
    ) -> Result<(ChangeReport, Vec<Draining>), DeployError> {
        let name = Arc::clone(turn.slot.name());
        let mut standing = self.standing().await?;
        let present = standing.entry(&name).unwrap_or_default().to_owned();
        let (action, entry) = match &change {
            EntryChange::Replace(entry) => (ChangeAction::Set, Some(entry.clone())),
            EntryChange::Merge(keys) => {
                let merged = plugins_file::merged(&name, &present, keys);
                (ChangeAction::Set, Some(merged.map_err(|fault| DeployError::Faulty(vec![fault]))?))
            }
            EntryChange::Remove => (ChangeAction::Remove, None),
        };
        let proposal = standing.propose(&name, action, entry.as_deref(), actor);
        let proposal = proposal.map_err(|error| in_terms_of(&change, &name, error))?;
        let has_changed = proposal.change.entry.as_deref() != Some(&*present);
        let mut drains = Vec::new();
        if has_changed {
            let mut next = standing.clone();
            let record = next.record(&self.inner.history, std::slice::from_ref(&proposal.change));
            drains = self.take(proposal.plugins, Some(turn), record).await?;
            next.lay(proposal.change);
            *standing = next;
            tracing::info!(plugin = %name, action = action.as_str(), actor, "a plugin's entry was changed");
        }
        let slot = self.inner.registry.slot(&name);
        let options = slot.as_ref().map(|slot| slot.options());
        let prefixes = options.iter().flat_map(|options| &options.prefixes);
        let report = ChangeReport {
            plugin: name.to_string(),
            action: action.as_str(),
            has_changed,
            revision: slot.and_then(|slot| slot.current()).map(|build| build.number()),
            origin: options.as_ref().map(|options| options.origin),
            prefixes: prefixes.map(ToString::to_string).collect(),
            is_draining: !drains.is_empty(),
            drained_ms: None,
            is_cut_short: None,
        };
        Ok((report, drains))
    }

    /// Takes the changes that another host has recorded, where there are any that are not taken yet.
    pub(super) fn follow_entries(&self, generation: i64) {
        // Busy: the next look comes soon.
        let Ok(standing) = self.inner.standing.try_lock() else { return };
        let is_behind =
            standing.changes.generation < generation && standing.again_at.is_none_or(|at| at <= Instant::now());
        drop(standing);
        if is_behind && self.inner.cluster.is_open() {
            let this = self.clone();
            self.inner.drains.spawn(async move { this.catch_up_entries().await });
        }
    }

    async fn catch_up_entries(&self) {
        let Ok(mut standing) = self.inner.standing.try_lock() else { return };
        if !self.inner.cluster.is_open() {
            return;
        }
        match self.take_changes(&mut standing).await {
            Ok(()) => tracing::info!(
                generation = standing.changes.generation,
                "the plugins are as another host has changed them"
            ),
            // A plugin concerned is being deployed here.
            Err(DeployError::Conflict(reason)) => tracing::debug!(reason, "changes of another host wait"),
            Err(error) => {
                standing.again_at = Some(Instant::now() + FOLLOW_AGAIN);
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "plugins cannot be changed here as another host has changed them; trying again"
                );
            }
        }
    }

    async fn take_changes(&self, standing: &mut Standing) -> Result<(), DeployError> {
        let changes = self.inner.history.changes().await.map_err(DeployError::of_host_tables)?;
        let mut next = standing.clone();
        (next.changes, next.again_at) = (changes, None);
        let manifest = next.judge(&next.file, &next.laid())?;
        let plugins = next.options(&manifest)?;
        self.take(plugins, None, async { Ok(()) }).await?;
        *standing = next;
        Ok(())
    }
}

/// Faults of an entry in the words of who asked for the change.
fn in_terms_of(change: &EntryChange, name: &str, error: DeployError) -> DeployError {
    let DeployError::Faulty(mut faults) = error else { return error };
    for fault in &mut faults {
        match change {
            EntryChange::Replace(_) => {}
            // Nobody has seen the lines of the whole.
            EntryChange::Merge(_) if fault.file == plugins_file::label(name) => fault.line = None,
            EntryChange::Merge(_) => {}
            // Nothing is wrong in itself with taking a plugin away.
            EntryChange::Remove => fault.kind = FaultKind::Taken,
        }
    }
    DeployError::Faulty(faults)
}
