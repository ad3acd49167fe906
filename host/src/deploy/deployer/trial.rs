//! Builds on trial: begun by a deploy, ended by a promotion, an abort, or by themselves when they are worse.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::prepare::Prepared;
use super::start::HOST_ACTOR;
use super::{DeployOptions, Deployer, Turn, milliseconds, short};
use crate::deploy::drain::Draining;
use crate::deploy::history::{Action, Line, Outcome};
use crate::deploy::rollout::{CanaryPlan, WHOLE};
use crate::deploy::trial::{Trial, TrialMode};
use crate::deploy::verify::Depth;
use crate::deploy::watch::{Baseline, Observation, Watcher, look_interval};
use crate::deploy::{Build, DeployError, DeployReport, Foundry, Rollout, Slot};

/// How often a canary without further steps is looked at.
const LOOK_ALONE: Duration = Duration::from_secs(20);

impl<F: Foundry> Deployer<F> {
    /// Puts the build on trial in front: the rest of its callers get it too.
    ///
    /// # Errors
    /// `Conflict` when nothing is on trial; else as [`Deployer::deploy`].
    pub(crate) async fn promote(&self, name: &str, options: DeployOptions) -> Result<DeployReport, DeployError> {
        let turn = self.turn(name)?;
        let this = self.clone();
        let waits_for_drain = options.waits_for_drain;
        let promoting = async move { this.promote_in(&turn, &short(&options.actor), options.watch).await };
        self.finish(promoting, waits_for_drain).await
    }

    /// Takes the build on trial away: its callers get the one that serves.
    ///
    /// # Errors
    /// `Conflict` when nothing is on trial; else as [`Deployer::deploy`].
    pub(crate) async fn abort(&self, name: &str, options: DeployOptions) -> Result<DeployReport, DeployError> {
        let turn = self.turn(name)?;
        let this = self.clone();
        let waits_for_drain = options.waits_for_drain;
        let aborting = async move {
            this.abort_in(&turn, &short(&options.actor), None).await.map(|(report, draining)| (report, Some(draining)))
        };
        self.finish(aborting, waits_for_drain).await
    }

    /// Begins a trial of a build that is verified and warm.
    pub(super) async fn begin_trial(
        &self,
        turn: &Turn<F>,
        mut line: Line,
        began: Instant,
        prepared: Prepared<F::Revision>,
        rollout: Rollout,
    ) -> Result<DeployReport, DeployError> {
        let (mode, plan) = match rollout {
            Rollout::Canary(plan) => (TrialMode::Canary, plan),
            _ => (TrialMode::Shadow, CanaryPlan { share: 0, steps: Vec::new(), every: Duration::ZERO }),
        };
        line.prepare_ms = milliseconds(began);
        line.version = prepared.revision.description().map(|described| described.version.clone());
        line.outcome = Outcome::Started;
        let Some(current) = turn.slot.current() else {
            let sentence =
                format!("{} has no build that a new one could be tried beside: deploy it whole", line.plugin);
            return Err(self.fail(turn, line, began, DeployError::Invalid(sentence)).await);
        };
        if let Err(error) = self.inner.history.record_trial(&line, mode, &plan).await {
            prepared.revision.retire();
            return Err(self.fail(turn, line, began, error).await);
        }
        let report = DeployReport {
            share: (mode == TrialMode::Canary).then(|| f64::from(plan.share) / 100.0),
            migrations: prepared.migrations,
            changes: prepared.changes,
            ..DeployReport::of(&line, &*prepared.revision)
        };
        tracing::info!(
            plugin = line.plugin,
            revision = report.revision,
            sha256 = line.sha256,
            mode = line.action.as_str(),
            share = report.share,
            "a build is on trial"
        );
        self.run_trial(turn, prepared.revision, &current, mode, plan);
        Ok(report)
    }

    /// Continues what the database records: after a restart, with fresh counts and a whole step.
    pub(super) async fn restore_trial(&self, turn: &Turn<F>) {
        let name = turn.slot.name();
        let recorded = match self.inner.history.trial(name).await {
            Ok(Some(recorded)) => recorded,
            Ok(None) => return,
            Err(error) => {
                return tracing::error!(plugin = %name, error = &error as &dyn std::error::Error, "a trial could not be read");
            }
        };
        let Some(current) = turn.slot.current().filter(|current| current.number() != recorded.revision) else { return };
        let prepared = async {
            let bytes = self.stored(turn, &recorded.sha256).await?.ok_or_else(|| {
                DeployError::Unavailable(
                    format!("the component of revision {} is not kept here", recorded.revision),
                    None,
                )
            })?;
            self.prepare(turn, bytes, &recorded.sha256, recorded.revision, Depth::AgainstManifest).await
        };
        match prepared.await {
            Ok(prepared) => self.run_trial(turn, prepared.revision, &current, recorded.mode, recorded.plan),
            // It stays recorded: the next start, or another host, may be able to.
            Err(error) => {
                tracing::error!(plugin = %name, error = &error as &dyn std::error::Error, "a build on trial could not be loaded")
            }
        }
    }

    fn run_trial(
        &self,
        turn: &Turn<F>,
        build: Arc<F::Revision>,
        current: &F::Revision,
        mode: TrialMode,
        plan: CanaryPlan,
    ) {
        let number = build.number();
        turn.slot.begin_trial(Trial::begin(turn.slot.name(), build, current, mode, plan.share));
        if mode == TrialMode::Shadow {
            return;
        }
        let (this, slot) = (self.clone(), Arc::clone(&turn.slot));
        self.inner.drains.spawn(async move {
            let running = this.watch_trial(&slot, number, plan);
            this.inner.stopping.clone().run_until_cancelled(running).await;
        });
    }

    /// Looks at a canary until it is gone, and takes its steps.
    async fn watch_trial(&self, slot: &Arc<Slot<F::Revision>>, number: i64, mut plan: CanaryPlan) {
        let interval = look_interval(if plan.steps.is_empty() { LOOK_ALONE } else { plan.every });
        let mut watcher = Watcher::default();
        loop {
            tokio::time::sleep(interval).await;
            let Some(trial) = slot.trial().filter(|trial| trial.build.number() == number) else { return };
            let Some(current) = slot.current() else { continue };
            let new = Observation::of(&*trial.build).since(&trial.before.new);
            let beside = Observation::of(&*current).since(&trial.before.old);
            // Where nobody else is served any more, only what was before can be compared with.
            let old = if beside.reading.requests() > 0 { &beside } else { &trial.before.old };
            if let Err(reason) = watcher.look(&new, &Baseline::from(old)) {
                tracing::warn!(plugin = %slot.name(), revision = number, reason, "a bad canary is aborted");
                let aborted = match self.turn(slot.name()) {
                    Ok(turn) => self.abort_in(&turn, HOST_ACTOR, Some(&reason)).await.map(drop),
                    Err(error) => Err(error),
                };
                if let Err(error) = aborted {
                    tracing::error!(plugin = %slot.name(), error = &error as &dyn std::error::Error, "a bad canary could not be aborted; trying again");
                }
                continue;
            }
            if trial.stepped().elapsed() >= plan.every && !plan.steps.is_empty() {
                self.step(slot, &trial, &mut plan).await;
            }
        }
    }

    /// The next share; the whole is a promotion.
    async fn step(&self, slot: &Arc<Slot<F::Revision>>, trial: &Trial<F::Revision>, plan: &mut CanaryPlan) {
        // Another host may have taken some of them.
        plan.steps.retain(|step| *step > trial.share());
        let Some(next) = plan.steps.first().copied() else { return };
        if next < WHOLE {
            plan.steps.remove(0);
            plan.share = next;
            trial.set_share(next);
            tracing::info!(plugin = %slot.name(), revision = trial.build.number(), share = f64::from(next) / 100.0, "a canary gets more callers");
            return self.inner.history.record_share(slot.name(), plan).await;
        }
        let promoted = match self.turn(slot.name()) {
            Ok(turn) => self.promote_in(&turn, HOST_ACTOR, None).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = promoted {
            tracing::warn!(plugin = %slot.name(), error = &error as &dyn std::error::Error, "a canary could not be promoted; trying again");
        }
    }

    async fn promote_in(
        &self,
        turn: &Turn<F>,
        actor: &str,
        watch: Option<Duration>,
    ) -> Result<(DeployReport, Option<Draining>), DeployError> {
        let trial = on_trial(turn)?;
        let mut line = trial_line(turn, &trial, Action::Promote, actor);
        let begun = self.inner.history.begun(&line.plugin, trial.build.number()).await;
        (line.size_bytes, line.source, line.signature) = begun.map_err(DeployError::of_host_tables)?;
        if trial.mode == TrialMode::Shadow {
            line.reason = Some(trial.comparison.report().sentence());
        }
        let watch = self.plan_watch(turn, &trial.build, watch);
        self.inner.history.record_switch(&line, None, watch.as_ref()).await?;
        let prepared = Prepared {
            revision: Arc::clone(&trial.build),
            options: turn.slot.options(),
            migrations: Vec::new(),
            changes: None,
        };
        let live = self.go_live(turn, line, prepared, watch.as_ref()).await;
        turn.slot.end_trial();
        Ok(live)
    }

    /// Takes the build on trial away. `reason` is the host's own.
    pub(super) async fn abort_in(
        &self,
        turn: &Turn<F>,
        actor: &str,
        reason: Option<&str>,
    ) -> Result<(DeployReport, Draining), DeployError> {
        let trial = on_trial(turn)?;
        let mut line = trial_line(turn, &trial, Action::Abort, actor);
        line.outcome = Outcome::Ended;
        line.reason = reason
            .map(str::to_owned)
            .or_else(|| (trial.mode == TrialMode::Shadow).then(|| trial.comparison.report().sentence()));
        // First the callers, then the record: a bad build must go even while the database is away.
        let share = trial.share();
        trial.set_share(0);
        if let Err(error) = self.inner.history.record_abort(&line).await {
            if reason.is_none() {
                trial.set_share(share);
            }
            return Err(error);
        }
        turn.slot.end_trial();
        tracing::info!(
            plugin = line.plugin,
            revision = line.revision,
            actor,
            reason = line.reason,
            "a trial was ended"
        );
        let report = DeployReport::of(&line, &*trial.build);
        Ok((report, self.drain(turn, Arc::clone(&trial.build), Some(line.id))))
    }
}

fn on_trial<F: Foundry>(turn: &Turn<F>) -> Result<Arc<Trial<F::Revision>>, DeployError> {
    turn.slot.trial().ok_or_else(|| DeployError::Conflict(format!("no build of {} is on trial", turn.slot.name())))
}

fn trial_line<F: Foundry>(turn: &Turn<F>, trial: &Trial<F::Revision>, action: Action, actor: &str) -> Line {
    let mut line = Line::new(turn.slot.name(), action, trial.build.digest(), actor.to_owned());
    line.revision = Some(trial.build.number());
    line.previous_revision = turn.slot.current().map(|current| current.number());
    line.version = trial.build.description().map(|described| described.version.clone());
    line
}
