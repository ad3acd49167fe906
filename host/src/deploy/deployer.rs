//! The deployer: takes a component through every step from bytes to serving, or leaves everything as it was.
//!
//! One deploy of a plugin at a time. A step that fails ends the deploy, and the old build serves on; a client that goes
//! away does not, because the deploy runs in a task of its own.

mod consent;
mod entries;
mod follow;
mod prepare;
mod reload;
mod retire;
mod start;
mod trial;
mod watch;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use prepare::Prepared;
use tokio::sync::{OwnedMutexGuard, RwLock, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::artifacts::Artifacts;
use super::cluster::Cluster;
use super::drain::{self, Draining};
use super::history::{Action, Change, DeployedBuild, Drained, History, Line, Origin, Outcome, Pointer};
use super::standing::Standing;
use super::verify::Depth;
use super::{
    Build, BuildStatus, DeployError, DeployReport, Foundry, HistoryEntry, PluginGrants, PluginStatus, Registry,
    Rollout, RouteEntry, Slot,
};
use crate::bindings::lifecycle::Description;
use crate::capability::Plugin;
use crate::capability::queue::QueueRoom;
use crate::database::Database;
use crate::engine::Engine;
use crate::signature::TrustedKey;
pub(crate) use entries::EntryChange;

/// Builds of a plugin that stay compiled: the present one, the three before it, and one on trial.
const COMPILED_KEPT: usize = 5;
/// For how long a new build is watched when nothing else is said.
pub(crate) const WATCH_DEFAULT: Duration = Duration::from_secs(120);
/// The longest a build may be watched.
const WATCH_MAX: Duration = Duration::from_secs(24 * 3600);
/// Old builds of a plugin that may drain at once; a further deploy is refused until one of them is done.
const DRAINING_MAX: usize = 256;
/// Characters of an actor that are kept.
const ACTOR_CHARS_MAX: usize = 128;

/// What the deployer needs to know of its host.
#[derive(Clone, Debug)]
pub(crate) struct DeployerOptions {
    /// Where components are kept: `<data>/artifacts`.
    pub artifacts: PathBuf,
    /// The largest component that is taken.
    pub component_bytes_max: usize,
    /// Instances made ready before the switch.
    pub warm_instances: usize,
    /// How long each of describing, warming and `ready` may take before the deploy fails.
    pub step_time_max: Duration,
    /// Compilations at once.
    pub compilations_max: usize,
    /// For how long a new build is compared with the one before it, where a deploy does not say.
    pub watch: Duration,
    /// When not empty, a deploy needs a signature by one of them.
    pub trusted_keys: Vec<TrustedKey>,
}

impl DeployerOptions {
    /// The defaults, with components in `artifacts`.
    pub(crate) fn new(artifacts: PathBuf) -> Self {
        Self {
            artifacts,
            component_bytes_max: 64 * 1024 * 1024,
            warm_instances: 2,
            step_time_max: Duration::from_secs(30),
            compilations_max: std::thread::available_parallelism().map_or(2, usize::from),
            watch: WATCH_DEFAULT,
            trusted_keys: Vec::new(),
        }
    }
}

/// How a deploy, a rollback, or the end of a trial is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeployOptions {
    /// Who asks: a user's id, `operator` or `host`. Written down.
    pub actor: String,
    /// Whether to answer only when the old build has drained, and not at the switch.
    pub waits_for_drain: bool,
    /// How the build comes to its requests.
    pub rollout: Rollout,
    /// For how long it is watched after the switch; none: as the host is set, zero: not at all.
    pub watch: Option<Duration>,
    /// Where the build came from, for the history.
    pub source: Option<String>,
    /// Whether what the build newly wants is accepted.
    pub grants: bool,
    /// Whether routes may go that other plugins may call.
    pub forces: bool,
    /// A detached signature of the component, base64.
    pub signature: Option<String>,
}

impl DeployOptions {
    /// Asked for by `actor`, and everything else as usual.
    pub(crate) fn by(actor: impl Into<String>) -> Self {
        Self { actor: actor.into(), ..Self::default() }
    }
}

/// A build that has just begun to serve.
#[derive(Clone, Debug)]
pub(crate) struct Switched {
    pub plugin: Arc<Plugin>,
    #[cfg(test)]
    pub revision: i64,
    pub description: Option<Arc<Description>>,
    /// What the plugin's queue is to be bound to: as described, or the grant's `consume` for a component that consumes
    /// but does not describe itself. Empty for one that does not consume.
    pub bindings: Vec<String>,
    /// Name to schedule: as described, overridden by the manifest. Empty for a component that does not consume.
    pub timers: BTreeMap<String, String>,
}

/// What wants to know about switches: the worker's bindings and timers, the API's document.
pub(crate) trait DeployHooks: Send + Sync {
    /// Called right after the switch, also at start. Must not block.
    fn switched(&self, switched: &Switched);

    /// Called when a plugin has left the manifest. Must not block.
    fn removed(&self, _plugin: &str) {}
}

/// The deployer. Cheap to clone.
pub(crate) struct Deployer<F: Foundry = Arc<Engine>> {
    inner: Arc<Inner<F>>,
}

impl<F: Foundry> Clone for Deployer<F> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

struct Inner<F: Foundry> {
    foundry: F,
    registry: Arc<Registry<F::Revision>>,
    database: Database,
    history: History,
    artifacts: Artifacts,
    cluster: Cluster,
    options: DeployerOptions,
    hooks: Vec<Arc<dyn DeployHooks>>,
    benches: Mutex<Benches<F::Compiled>>,
    /// The manifest that the slots stand on. Held while it is changed: one change after the other.
    standing: tokio::sync::Mutex<Standing>,
    compilations: Semaphore,
    /// Held for reading from the storing of a component to its commit, and for writing while unwanted ones are removed.
    tidying: RwLock<()>,
    /// Drains, watches and fillings of vector indexes that run.
    drains: TaskTracker,
    /// Cancelled at the end: nobody is watched any more.
    stopping: CancellationToken,
}

/// By the plugin's name; as many as the manifest has plugins, and those that are being added.
type Benches<C> = HashMap<Arc<str>, Arc<Bench<C>>>;

/// What a plugin's deploys share.
struct Bench<C> {
    lock: Arc<tokio::sync::Mutex<()>>,
    /// Newest first, by digest.
    compiled: Mutex<VecDeque<(String, C)>>,
}

/// The one deploy of a plugin that may run.
struct Turn<F: Foundry> {
    slot: Arc<Slot<F::Revision>>,
    bench: Arc<Bench<F::Compiled>>,
    _guard: OwnedMutexGuard<()>,
    /// For a plugin that comes to the manifest with this build: its entry, and the number of the change before it.
    added: Option<(i64, Change)>,
}

/// The contents of a build, where they came from, and what is to be done with them.
struct Candidate {
    bytes: Bytes,
    digest: String,
    origin: Origin,
    options: DeployOptions,
}

impl<F: Foundry> Deployer<F> {
    /// A deployer over a registry whose slots are still empty; [`Deployer::start`] fills them.
    pub(crate) fn new(
        foundry: F,
        registry: Arc<Registry<F::Revision>>,
        database: Database,
        queue: QueueRoom,
        options: DeployerOptions,
        hooks: Vec<Arc<dyn DeployHooks>>,
    ) -> Self {
        let inner = Inner {
            foundry,
            registry,
            history: History::new(database.clone(), queue),
            cluster: Cluster::new(database.clone()),
            database,
            artifacts: Artifacts::new(options.artifacts.clone()),
            compilations: Semaphore::new(options.compilations_max.max(1)),
            options,
            hooks,
            benches: Mutex::default(),
            standing: tokio::sync::Mutex::default(),
            tidying: RwLock::new(()),
            drains: TaskTracker::new(),
            stopping: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The slots that this deployer fills.
    #[cfg(test)]
    pub(crate) fn registry(&self) -> &Arc<Registry<F::Revision>> {
        &self.inner.registry
    }

    /// Deploys a component into the slot `name`. Answers when the new build serves.
    ///
    /// # Errors
    /// Every variant of [`DeployError`]; whatever it is, the old build serves on.
    pub(crate) async fn deploy(
        &self,
        name: &str,
        bytes: Bytes,
        options: DeployOptions,
    ) -> Result<DeployReport, DeployError> {
        let turn = self.turn(name)?;
        refuse_beside_trial(&turn)?;
        let this = self.clone();
        let waits_for_drain = options.waits_for_drain;
        let deploying = async move {
            let candidate = this.candidate(bytes, options)?;
            this.deploy_candidate(&turn, candidate).await
        };
        self.finish(deploying, waits_for_drain).await
    }

    /// Goes back to the build before the present one, or to `revision`. Answers when it serves.
    ///
    /// # Errors
    /// As [`Deployer::deploy`]; `UnknownRevision` when there is none to go back to.
    pub(crate) async fn rollback(
        &self,
        name: &str,
        revision: Option<i64>,
        options: DeployOptions,
    ) -> Result<DeployReport, DeployError> {
        let turn = self.turn(name)?;
        refuse_beside_trial(&turn)?;
        let this = self.clone();
        let waits_for_drain = options.waits_for_drain;
        let rolling_back = async move { this.roll_back(&turn, revision, short(&options.actor), None).await };
        self.finish(rolling_back, waits_for_drain).await
    }

    /// The newest lines of a plugin's history, newest first; at most 200. That of a plugin that was removed stays.
    ///
    /// # Errors
    /// `UnknownPlugin`, or when the database cannot be read.
    pub(crate) async fn history(&self, name: &str, limit: i64) -> Result<Vec<HistoryEntry>, DeployError> {
        let lines = self.inner.history.list(name, limit).await.map_err(DeployError::of_host_tables)?;
        if lines.is_empty() {
            self.slot(name)?;
        }
        Ok(lines)
    }

    /// Every plugin as it stands, by name.
    pub(crate) fn plugins(&self) -> Vec<PluginStatus> {
        self.inner.registry.slots().iter().map(|slot| PluginStatus::of(slot)).collect()
    }

    /// Every build as it fares, by plugin.
    pub(crate) fn status(&self) -> Vec<BuildStatus> {
        self.inner.registry.slots().iter().flat_map(|slot| BuildStatus::of(slot)).collect()
    }

    /// What every plugin may do, by name.
    pub(crate) fn grants(&self) -> Vec<PluginGrants> {
        self.inner.registry.slots().iter().map(|slot| PluginGrants::of(slot)).collect()
    }

    /// The effective route table, by path.
    pub(crate) fn routes(&self) -> Vec<RouteEntry> {
        self.inner.registry.prefixes().iter().map(|(prefix, slot)| RouteEntry::of(prefix, slot)).collect()
    }

    /// Lets every build finish what it began, for at most `limit`, and cancels the rest. For the end of the process, when
    /// no new call comes any more.
    pub(crate) async fn stop(&self, limit: Duration) {
        self.inner.stopping.cancel();
        self.inner.cluster.close();
        let slots = self.inner.registry.slots();
        let mut revisions: Vec<Arc<F::Revision>> = slots.iter().filter_map(|slot| slot.clear()).collect();
        revisions.extend(slots.iter().filter_map(|slot| slot.end_trial()).map(|trial| Arc::clone(&trial.build)));
        revisions.extend(slots.iter().flat_map(|slot| slot.draining()));
        futures_util::future::join_all(revisions.iter().map(|revision| drain::wait(&**revision, limit))).await;
        self.inner.drains.close();
        if tokio::time::timeout(drain::CANCEL_TIME_MAX, self.inner.drains.wait()).await.is_err() {
            tracing::warn!("an old build was still running at the end");
        }
    }

    fn slot(&self, name: &str) -> Result<Arc<Slot<F::Revision>>, DeployError> {
        self.inner.registry.slot(name).ok_or_else(|| DeployError::UnknownPlugin(name.to_owned()))
    }

    /// Takes the plugin's turn, or says that somebody else has it.
    fn turn(&self, name: &str) -> Result<Turn<F>, DeployError> {
        let turn = self.turn_for(self.slot(name)?)?;
        if turn.slot.draining().len() >= DRAINING_MAX {
            return Err(DeployError::Conflict(format!("{DRAINING_MAX} old builds of {name} are still draining")));
        }
        // A changed entry may have taken the slot's place before we had the turn.
        Ok(Turn { slot: self.slot(name)?, ..turn })
    }

    /// The same for a slot that requests need not find yet.
    fn turn_for(&self, slot: Arc<Slot<F::Revision>>) -> Result<Turn<F>, DeployError> {
        let bench = self.bench(slot.name());
        let guard = Arc::clone(&bench.lock)
            .try_lock_owned()
            .map_err(|_| DeployError::Conflict(format!("another deploy of {} is running", slot.name())))?;
        Ok(Turn { slot, bench, _guard: guard, added: None })
    }

    fn bench(&self, name: &Arc<str>) -> Arc<Bench<F::Compiled>> {
        let make = || Arc::new(Bench { lock: Arc::default(), compiled: Mutex::default() });
        Arc::clone(self.inner.benches.lock().entry(Arc::clone(name)).or_insert_with(make))
    }

    /// Runs a deploy in a task of its own, so that nobody who goes away can stop it half-way.
    async fn finish(
        &self,
        deploying: impl Future<Output = Result<(DeployReport, Option<Draining>), DeployError>> + Send + 'static,
        waits_for_drain: bool,
    ) -> Result<DeployReport, DeployError> {
        let task = tokio::spawn(deploying);
        let (mut report, draining) = task.await.map_err(|error| DeployError::Internal(error.into()))??;
        if waits_for_drain && let Some(draining) = draining {
            let drained = draining.await.ok();
            report.drained_ms = drained.map(|drained: Drained| drained.milliseconds);
            report.is_cut_short = drained.map(|drained| drained.is_cut_short);
        }
        Ok(report)
    }

    async fn deploy_candidate(
        &self,
        turn: &Turn<F>,
        candidate: Candidate,
    ) -> Result<(DeployReport, Option<Draining>), DeployError> {
        let inner = &self.inner;
        let began = Instant::now();
        let options = &candidate.options;
        let action = match options.rollout {
            Rollout::Whole => Action::Deploy,
            Rollout::Canary(_) => Action::Canary,
            Rollout::Shadow => Action::Shadow,
        };
        let mut line = Line::new(turn.slot.name(), action, &candidate.digest, short(&options.actor));
        line.origin = candidate.origin;
        line.source.clone_from(&options.source);
        line.size_bytes = candidate.bytes.len() as u64;
        line.previous_revision = turn.slot.current().map(|revision| revision.number());
        let prepared = match self.prepare_candidate(turn, &candidate, &mut line).await {
            Ok(prepared) => prepared,
            Err(error) => return Err(self.fail(turn, line, began, error).await),
        };
        let stored = inner.tidying.read().await;
        if let Err(error) = self.keep(&candidate.digest, candidate.bytes).await {
            return Err(self.fail(turn, line, began, error).await);
        }
        let DeployOptions { rollout, watch, .. } = candidate.options;
        let outcome = match rollout {
            Rollout::Whole => self.switch(turn, line, began, prepared, watch).await,
            rollout => self.begin_trial(turn, line, began, prepared, rollout).await.map(|report| (report, None)),
        };
        drop(stored);
        outcome
    }

    /// The steps before a new build is stored. What it wants is judged before its migrations are applied.
    async fn prepare_candidate(
        &self,
        turn: &Turn<F>,
        candidate: &Candidate,
        line: &mut Line,
    ) -> Result<Prepared<F::Revision>, DeployError> {
        line.signature = self.judge_signature(candidate)?;
        let (slot, digest) = (&turn.slot, &candidate.digest);
        let number = self.inner.history.next_revision(slot.name()).await.map_err(DeployError::of_host_tables)?;
        let bytes = candidate.bytes.clone();
        let assembled = self.assemble(turn, slot.options(), bytes, digest, number, Depth::Whole).await?;
        let changes = self.changes(turn, &assembled);
        changes.judge(&candidate.options)?;
        line.reason = changes.accepted();
        let prepared = self.make_ready(turn, digest, assembled).await?;
        line.revision = Some(number);
        Ok(Prepared { changes: Some(changes), ..prepared })
    }

    /// Keeps a component in the folder, and for other hosts in the database.
    async fn keep(&self, digest: &str, bytes: Bytes) -> Result<(), DeployError> {
        let stored = self.inner.artifacts.store(digest, bytes.clone()).await;
        stored.map_err(|error| DeployError::unavailable("the component cannot be stored", error))?;
        self.inner.cluster.components.store(digest, &bytes).await.map_err(DeployError::of_host_tables)
    }

    async fn roll_back(
        &self,
        turn: &Turn<F>,
        revision: Option<i64>,
        actor: String,
        reason: Option<String>,
    ) -> Result<(DeployReport, Option<Draining>), DeployError> {
        let name = turn.slot.name();
        let pointer = self.inner.history.pointer(name).await.map_err(DeployError::of_host_tables)?;
        let pointer = pointer.ok_or_else(|| DeployError::UnknownRevision(format!("{name} has never been deployed")))?;
        self.roll_back_from(turn, &pointer, revision, actor, reason).await
    }

    /// The same from the build that was recorded when this was decided: a conflict when another one is by now.
    async fn roll_back_from(
        &self,
        turn: &Turn<F>,
        pointer: &Pointer,
        revision: Option<i64>,
        actor: String,
        reason: Option<String>,
    ) -> Result<(DeployReport, Option<Draining>), DeployError> {
        let began = Instant::now();
        let name = turn.slot.name();
        let target = self.rollback_target(turn, pointer, revision).await?;
        let mut line = Line::new(name, Action::Rollback, &target.sha256, actor);
        line.size_bytes = target.size_bytes;
        line.previous_revision = Some(pointer.revision);
        line.reason = reason;
        let prepared = async {
            let bytes = self.stored(turn, &target.sha256).await?.ok_or_else(|| {
                DeployError::UnknownRevision(format!("the component of revision {} is no longer kept", target.revision))
            })?;
            self.prepare(turn, bytes, &target.sha256, target.revision, Depth::AgainstManifest).await
        };
        match prepared.await {
            Ok(prepared) => {
                line.revision = Some(target.revision);
                self.switch(turn, line, began, prepared, Some(Duration::ZERO)).await
            }
            Err(error) => Err(self.fail(turn, line, began, error).await),
        }
    }

    async fn rollback_target(
        &self,
        turn: &Turn<F>,
        pointer: &Pointer,
        revision: Option<i64>,
    ) -> Result<DeployedBuild, DeployError> {
        let history = &self.inner.history;
        let name = turn.slot.name();
        if let Some(revision) = revision {
            if turn.slot.current().is_some_and(|current| current.number() == revision) {
                return Err(DeployError::Conflict(format!("revision {revision} of {name} serves already")));
            }
            let build = history.build(name, revision).await.map_err(DeployError::of_host_tables)?;
            return build.ok_or_else(|| {
                DeployError::UnknownRevision(format!("{name} has no revision {revision} to go back to"))
            });
        }
        let build = history.previous(name, pointer).await.map_err(DeployError::of_host_tables)?;
        build.ok_or_else(|| {
            DeployError::UnknownRevision(format!("{name} has no build before revision {}", pointer.revision))
        })
    }

    /// Writes a failure down and hands the error on.
    async fn fail(&self, turn: &Turn<F>, mut line: Line, began: Instant, error: DeployError) -> DeployError {
        line.revision = None;
        line.prepare_ms = milliseconds(began);
        line.outcome = Outcome::Failed;
        line.reason = Some(reason(&error));
        // Nothing is wrong with a build that only came too late.
        if matches!(error, DeployError::Conflict(_)) {
            tracing::info!(plugin = %turn.slot.name(), sha256 = line.sha256, %error, "a deploy was not needed");
            return error;
        }
        tracing::warn!(plugin = %turn.slot.name(), sha256 = line.sha256, error = &error as &dyn std::error::Error, "a deploy failed");
        self.inner.history.record_failure(&line).await;
        error
    }
}

/// Two builds beside the one that serves would be one too many to tell apart.
fn refuse_beside_trial<F: Foundry>(turn: &Turn<F>) -> Result<(), DeployError> {
    match turn.slot.trial() {
        None => Ok(()),
        Some(trial) => Err(DeployError::Conflict(format!(
            "revision {} of {} is on trial: promote or abort it first",
            trial.build.number(),
            turn.slot.name()
        ))),
    }
}

/// The sentence that is written down: the error, and what is behind it when it is the host's own trouble.
fn reason(error: &DeployError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

fn short(actor: &str) -> String {
    actor.chars().filter(|character| !character.is_control()).take(ACTOR_CHARS_MAX).collect()
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
