//! Taking a changed manifest: a build whose grant, limits or settings changed is linked anew and takes its own place.
//!
//! All or nothing: a manifest that one of the present builds does not fit is refused whole.

use std::sync::Arc;

use super::prepare::Prepared;
use super::start::HOST_ACTOR;
use super::{Deployer, Turn};
use crate::deploy::verify::Depth;
use crate::deploy::{Build, DeployError, Foundry, SlotOptions};

impl<F: Foundry> Deployer<F> {
    /// Takes a changed manifest. Builds keep their numbers; new plugins are loaded, those that left are drained.
    ///
    /// # Errors
    /// `Conflict` while a plugin concerned is being deployed, `Invalid` when a present build does not fit its new entry or
    /// two entries overlap. Nothing has changed then.
    pub(crate) async fn reload(&self, plugins: Vec<SlotOptions>) -> Result<(), DeployError> {
        let this = self.clone();
        let reloading = tokio::spawn(async move { this.take_manifest(plugins).await });
        reloading.await.map_err(|error| DeployError::Internal(error.into()))?
    }

    async fn take_manifest(&self, plugins: Vec<SlotOptions>) -> Result<(), DeployError> {
        let registry = &self.inner.registry;
        let mut relinked: Vec<(Turn<F>, Prepared<F::Revision>)> = Vec::new();
        for options in &plugins {
            let Some(slot) = registry.slot(&options.plugin.name) else { continue };
            let Some(current) = slot.current().filter(|_| is_relinked(&slot.options(), options)) else { continue };
            let turn = self.turn(slot.name())?;
            let prepared = self.relink(&turn, options, &*current).await.map_err(|error| match error {
                DeployError::Invalid(reason) => {
                    DeployError::Invalid(format!("{} does not fit the new manifest: {reason}", slot.name()))
                }
                other => other,
            })?;
            relinked.push((turn, prepared));
        }
        // What is on trial was linked under the old entry, and beside a build that goes now.
        let stays = |name: &str| plugins.iter().any(|options| &*options.plugin.name == name);
        for slot in registry.slots().iter().filter(|slot| slot.trial().is_some() && !stays(slot.name())) {
            let turn = self.turn(slot.name())?;
            self.abort_in(&turn, HOST_ACTOR, Some("the plugin left the manifest")).await?;
        }
        for (turn, _) in relinked.iter().filter(|(turn, _)| turn.slot.trial().is_some()) {
            self.abort_in(turn, HOST_ACTOR, Some("the plugin's entry in the manifest has changed")).await?;
        }
        let before: Vec<_> = registry.slots().iter().map(|slot| Arc::clone(slot.name())).collect();
        let gone = registry.replace(plugins).map_err(|overlap| DeployError::Invalid(overlap.to_string()))?;
        for (turn, prepared) in relinked {
            let (_, old) = self.put_in_front(&turn, &prepared.options, &prepared.revision);
            turn.slot.watch(None);
            if let Some(old) = old {
                drop(self.drain(&turn, old, None));
            }
        }
        for slot in gone {
            if let Some(old) = slot.clear() {
                drop(self.drain_slot(&slot, old, None));
            }
            self.inner.hooks.iter().for_each(|hook| hook.removed(slot.name()));
        }
        self.load_new(&before).await
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

    async fn load_new(&self, before: &[Arc<str>]) -> Result<(), DeployError> {
        let mut pointers = self.inner.history.pointers().await.map_err(DeployError::of_host_tables)?;
        let new = self.inner.registry.slots().into_iter().filter(|slot| !before.contains(slot.name()));
        let loads = new.map(|slot| {
            let pointer = pointers.remove(&**slot.name());
            self.load(slot, pointer)
        });
        futures_util::future::join_all(loads).await;
        Ok(())
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
