//! A plugin's place in the running host: its settings, the build that answers, and the builds that still drain.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use serde::Serialize;

use super::trial::{Trial, TrialMode};
use super::{Build, Prefix, PublicRoute};
use crate::capability::Plugin;
use crate::capability::grant::{Isolation, Limits};
use crate::engine::Revision;
use crate::plugins_file::{EntryOrigin, PluginEntry, RouteLimit};
use crate::telemetry::meter::Meter;

/// What the manifest says about one plugin, as far as routing and deploying need it.
#[derive(Clone, Debug)]
pub(crate) struct SlotOptions {
    pub plugin: Arc<Plugin>,
    /// Where the entry comes from.
    pub origin: EntryOrigin,
    /// The component file of the first deploy.
    pub component: Option<PathBuf>,
    pub prefixes: Vec<Prefix>,
    /// Routes that need no token.
    pub public: Vec<PublicRoute>,
    /// The direct port, where direct ports are on.
    pub port: Option<u16>,
    pub isolation: Isolation,
    /// The manifest's own timers: name to schedule. They override described ones of the same name.
    pub timers: BTreeMap<String, String>,
    /// Limits of requests below some paths, for the gateway.
    pub rate_limits: Vec<RouteLimit>,
}

impl fmt::Display for SlotState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Loaded => "loaded",
            Self::Draining => "draining",
            Self::Failed => "failed",
            Self::Missing => "missing",
        })
    }
}

impl SlotOptions {
    /// Takes over an entry of the manifest; its direct port only where those are on.
    ///
    /// # Errors
    /// A sentence when a route or a public path is malformed; the manifest's own check finds these with their lines.
    pub(crate) fn new(entry: &PluginEntry, direct_ports: bool) -> Result<Self, String> {
        let public = entry.public.iter().map(|route| PublicRoute::new(route.method.as_deref(), &route.path));
        Ok(Self {
            plugin: Arc::clone(&entry.plugin),
            origin: entry.origin,
            component: entry.component.clone(),
            prefixes: entry.routes.iter().map(|route| Prefix::parse(route)).collect::<Result<_, _>>()?,
            public: public.collect::<Result<_, _>>()?,
            port: entry.port.filter(|_| direct_ports),
            isolation: entry.isolation,
            timers: entry.timers.iter().map(|timer| (timer.name.clone(), timer.schedule.clone())).collect(),
            rate_limits: entry.rate_limits.clone(),
        })
    }
}

/// Whether a plugin can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SlotState {
    /// A build answers.
    Loaded,
    /// A build answers, and an older one still finishes what it began.
    Draining,
    /// There is a build, and it could not be loaded.
    Failed,
    /// There has never been a build.
    Missing,
}

/// What a build is to its plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BuildRole {
    /// It answers.
    Current,
    /// It answers a share of the callers.
    Canary,
    /// It gets copies of safe requests.
    Shadow,
    /// It finishes what it began.
    Draining,
}

/// A build that has just taken over and is compared with the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    pub revision: i64,
    /// The build it goes back to by itself.
    pub previous: i64,
    pub until: Instant,
}

/// A named place for one plugin, under one entry of the manifest. A changed entry gets a slot of its own, which takes the
/// place of the old one at once: whoever still holds the old one goes on under the old entry.
pub(crate) struct Slot<R = Revision> {
    name: Arc<str>,
    options: ArcSwap<SlotOptions>,
    current: ArcSwapOption<R>,
    /// A build that is tried beside the current one.
    trial: ArcSwapOption<Trial<R>>,
    /// Whether there may be one: most of the time there is none, and every request asks twice.
    is_trying: AtomicBool,
    watched: Mutex<Option<Watched>>,
    failure: Mutex<Option<(SlotState, Arc<str>)>>,
    past: Arc<Past<R>>,
    meter: Arc<Meter>,
}

/// What is left of a plugin's earlier builds, under whatever entry they ran.
struct Past<R> {
    draining: Mutex<Vec<Arc<R>>>,
    /// Traps of builds that are gone.
    traps: AtomicU64,
    /// Processor time of builds that are gone, in microseconds.
    cpu_us: AtomicU64,
}

impl<R> Default for Past<R> {
    fn default() -> Self {
        Self { draining: Mutex::default(), traps: AtomicU64::default(), cpu_us: AtomicU64::default() }
    }
}

impl<R> Slot<R> {
    /// An empty slot.
    pub(crate) fn new(options: SlotOptions) -> Self {
        Self {
            name: Arc::clone(&options.plugin.name),
            options: ArcSwap::from_pointee(options),
            current: ArcSwapOption::empty(),
            trial: ArcSwapOption::empty(),
            is_trying: AtomicBool::new(false),
            watched: Mutex::default(),
            failure: Mutex::default(),
            past: Arc::default(),
            meter: Arc::default(),
        }
    }

    /// A slot for the same plugin under a changed entry, still empty.
    pub(super) fn succeed(&self, options: SlotOptions) -> Self {
        Self { past: Arc::clone(&self.past), meter: Arc::clone(&self.meter), ..Self::new(options) }
    }

    /// The plugin's name.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What became of the plugin's requests, over all builds.
    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// The plugin's grant, limits and settings.
    pub(crate) fn plugin(&self) -> Arc<Plugin> {
        Arc::clone(&self.options.load().plugin)
    }

    /// The plugin's limits.
    pub(crate) fn limits(&self) -> Limits {
        self.options.load().plugin.limits.clone()
    }

    /// What the manifest says.
    pub(crate) fn options(&self) -> Arc<SlotOptions> {
        self.options.load_full()
    }

    /// The build that answers now: one atomic load. Whoever holds it is answered by it to the last byte.
    pub(crate) fn current(&self) -> Option<Arc<R>> {
        self.current.load_full()
    }

    /// The build that answers `caller`: the one on trial for its share of the callers, else the current one.
    ///
    /// `caller` is asked only while a canary runs. It names one caller in the same way each time, as `user:<id>`.
    pub(crate) fn choose(&self, caller: impl FnOnce() -> String) -> Option<Arc<R>> {
        if !self.is_trying.load(Ordering::Acquire) {
            return self.current();
        }
        match self.trial.load().as_ref().filter(|trial| trial.share() > 0 && trial.includes(&caller())) {
            Some(trial) => Some(Arc::clone(&trial.build)),
            None => self.current(),
        }
    }

    /// The build that is tried beside the current one.
    pub(crate) fn trial(&self) -> Option<Arc<Trial<R>>> {
        self.trial.load_full()
    }

    /// The trial, when it is a shadow: one load without a count where there is none.
    pub(crate) fn shadow(&self) -> Option<Arc<Trial<R>>> {
        if !self.is_trying.load(Ordering::Acquire) {
            return None;
        }
        self.trial.load().as_ref().filter(|trial| trial.mode == TrialMode::Shadow).map(Arc::clone)
    }

    /// Every build of the plugin that may be answering something, with what it is: what status and metrics tell of.
    pub(crate) fn builds(&self) -> Vec<(BuildRole, Arc<R>)> {
        let mut builds: Vec<_> = self.current().into_iter().map(|build| (BuildRole::Current, build)).collect();
        if let Some(trial) = self.trial() {
            let role = if trial.mode == TrialMode::Canary { BuildRole::Canary } else { BuildRole::Shadow };
            builds.push((role, Arc::clone(&trial.build)));
        }
        builds.extend(self.draining().into_iter().map(|build| (BuildRole::Draining, build)));
        builds
    }

    /// The build that is watched after its switch, while it is.
    pub(crate) fn watched(&self) -> Option<Watched> {
        *self.watched.lock()
    }

    /// Whether a request with this method and path, as sent, needs no token.
    pub(crate) fn is_public(&self, method: &str, path: &str) -> bool {
        self.options.load().public.iter().any(|route| route.matches(method, path))
    }

    /// Why there is no build, as a sentence for the operator. Never for a client.
    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        self.failure.lock().as_ref().map(|(_, reason)| Arc::clone(reason))
    }

    /// Puts a build in front, for tests of those who call it.
    #[cfg(test)]
    pub(crate) fn put(&self, revision: Arc<R>) {
        self.switch(revision);
    }

    pub(super) fn configure(&self, options: SlotOptions) {
        self.options.store(Arc::new(options));
    }

    /// Puts a build in front and returns the one it replaces.
    pub(super) fn switch(&self, revision: Arc<R>) -> Option<Arc<R>> {
        let old = self.current.swap(Some(revision));
        *self.failure.lock() = None;
        old
    }

    /// Takes the build away: new requests are answered 503.
    pub(super) fn clear(&self) -> Option<Arc<R>> {
        self.current.swap(None)
    }

    /// Says why there is no build: `Failed` or `Missing`.
    pub(super) fn fail(&self, state: SlotState, reason: &str) {
        *self.failure.lock() = Some((state, reason.into()));
    }

    pub(super) fn begin_trial(&self, trial: Trial<R>) {
        self.trial.store(Some(Arc::new(trial)));
        self.is_trying.store(true, Ordering::Release);
    }

    /// Takes the build on trial away: its callers get the current one again.
    pub(super) fn end_trial(&self) -> Option<Arc<Trial<R>>> {
        self.is_trying.store(false, Ordering::Release);
        self.trial.swap(None)
    }

    pub(super) fn watch(&self, watched: Option<Watched>) {
        *self.watched.lock() = watched;
    }

    /// Traps of builds that are gone.
    pub(crate) fn traps_before(&self) -> u64 {
        self.past.traps.load(Ordering::Relaxed)
    }

    /// Processor time of builds that are gone, in seconds.
    pub(crate) fn cpu_seconds_before(&self) -> f64 {
        Duration::from_micros(self.past.cpu_us.load(Ordering::Relaxed)).as_secs_f64()
    }

    pub(super) fn draining(&self) -> Vec<Arc<R>> {
        self.past.draining.lock().clone()
    }

    pub(super) fn begin_drain(&self, revision: Arc<R>) {
        self.past.draining.lock().push(revision);
    }
}

impl<R: Build> Slot<R> {
    /// Whether the plugin can answer.
    pub(crate) fn state(&self) -> SlotState {
        let is_loaded = self.current.load().is_some();
        match (is_loaded, self.past.draining.lock().is_empty()) {
            (true, true) => SlotState::Loaded,
            (true, false) => SlotState::Draining,
            (false, _) => self.failure.lock().as_ref().map_or(SlotState::Missing, |(state, _)| *state),
        }
    }

    /// Calls in flight in the present build, in one on trial and in those that drain.
    pub(crate) fn in_flight(&self) -> usize {
        self.builds().iter().map(|(_, revision)| revision.statistics().in_flight).sum()
    }

    /// Traps since the host started, over all builds.
    pub(crate) fn traps(&self) -> u64 {
        let alive: u64 = self.builds().iter().map(|(_, revision)| revision.statistics().traps).sum();
        self.traps_before() + alive
    }

    /// Processor time of its calls since the host started, over all builds, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let alive: f64 = self.builds().iter().map(|(_, revision)| revision.statistics().cpu_seconds).sum();
        self.cpu_seconds_before() + alive
    }

    pub(super) fn end_drain(&self, revision: &Arc<R>) {
        let mut draining = self.past.draining.lock();
        if let Some(index) = draining.iter().position(|other| Arc::ptr_eq(other, revision)) {
            draining.swap_remove(index);
            let statistics = revision.statistics();
            self.past.traps.fetch_add(statistics.traps, Ordering::Relaxed);
            let cpu = Duration::try_from_secs_f64(statistics.cpu_seconds).unwrap_or_default();
            let cpu_us = u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX);
            self.past.cpu_us.fetch_add(cpu_us, Ordering::Relaxed);
        }
    }
}
