//! Judging a build before anything changes: who signed it, what it newly wants, whom it would leave without a route. A plan
//! is that and nothing more.

use std::time::Instant;

use bytes::Bytes;

use super::prepare::Assembled;
use super::{Candidate, DeployOptions, Deployer, Turn, milliseconds, refuse_beside_trial};
use crate::deploy::artifacts::digest_of;
use crate::deploy::consent::Changes;
use crate::deploy::history::Origin;
use crate::deploy::verify::Depth;
use crate::deploy::{Build, DeployError, Foundry, PlanReport};
use crate::{engine, signature};

impl<F: Foundry> Deployer<F> {
    /// Takes a component through every step that changes nothing, and tells what a deploy of it would do. Nothing is
    /// swapped, stored, migrated or written down.
    ///
    /// # Errors
    /// As [`Deployer::deploy`], but for what a deploy could be made to accept: that is told instead.
    pub(crate) async fn plan(
        &self,
        name: &str,
        bytes: Bytes,
        options: DeployOptions,
    ) -> Result<PlanReport, DeployError> {
        let began = Instant::now();
        let turn = self.turn(name)?;
        refuse_beside_trial(&turn)?;
        let candidate = self.candidate(bytes, options)?;
        let size_bytes = candidate.bytes.len() as u64;
        let signature = self.judge_signature(&candidate)?;
        let number = self.inner.history.next_revision(name).await.map_err(DeployError::of_host_tables)?;
        let slot_options = turn.slot.options();
        let assembled =
            self.assemble(&turn, slot_options, candidate.bytes, &candidate.digest, number, Depth::Whole).await?;
        let changes = self.changes(&turn, &assembled);
        let described = assembled.revision.description();
        Ok(PlanReport {
            plugin: name.to_owned(),
            action: "plan",
            revision: number,
            previous_revision: turn.slot.current().map(|current| current.number()),
            sha256: candidate.digest,
            size_bytes,
            version: described.map(|described| described.version.clone()),
            routes: described.map_or(0, |described| described.routes.len()),
            is_signed: signature.is_some(),
            migrations: self.plan_migrations(&assembled).await?,
            needs: changes.needs(),
            changes,
            prepare_ms: milliseconds(began),
        })
    }

    /// A component that came over the admin API.
    ///
    /// # Errors
    /// `TooLarge`.
    pub(super) fn candidate(&self, bytes: Bytes, options: DeployOptions) -> Result<Candidate, DeployError> {
        let bytes_max = self.inner.options.component_bytes_max;
        if bytes.len() > bytes_max {
            return Err(DeployError::TooLarge(bytes_max));
        }
        Ok(Candidate { digest: digest_of(&bytes), bytes, origin: Origin::Api, options })
    }

    /// The signature that was accepted; none where the host asks for none.
    ///
    /// # Errors
    /// `Invalid` when the host has trusted keys and none of them signed these bytes.
    pub(super) fn judge_signature(&self, candidate: &Candidate) -> Result<Option<String>, DeployError> {
        let keys = &self.inner.options.trusted_keys;
        if keys.is_empty() {
            return Ok(None);
        }
        let given = candidate.options.signature.as_deref();
        signature::verify(keys, &candidate.digest, given).map_err(|error| DeployError::Invalid(error.to_string()))?;
        Ok(given.map(str::to_owned))
    }

    /// How an assembled build differs from the one that runs here.
    pub(super) fn changes(&self, turn: &Turn<F>, assembled: &Assembled<F>) -> Changes {
        let current = turn.slot.current();
        let callers = self.callers(turn.slot.name());
        Changes::of(&*assembled.revision, current.as_deref(), &assembled.options, callers)
    }

    /// The other plugins that may call `name`, by the grant they run under and what their build imports.
    fn callers(&self, name: &str) -> Vec<String> {
        let (one, all) = (format!("call {name}"), "call *");
        let slots = self.inner.registry.slots();
        let others = slots.iter().filter(|slot| **slot.name() != *name);
        let calling = others.filter(|slot| {
            slot.current().is_some_and(|build| {
                let opened = engine::opened(build.imports().iter().map(String::as_str), &slot.plugin().grant);
                opened.contains(&one) || opened.contains(all)
            })
        });
        calling.map(|slot| slot.name().to_string()).collect()
    }
}
