//! A plugin's place in the running host: its settings, the build that answers, and the builds that still drain.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use serde::Serialize;

use super::{Build, Prefix, PublicRoute};
use crate::capability::Plugin;
use crate::capability::grant::Isolation;
use crate::engine::Revision;
use crate::plugins_file::{PluginEntry, RouteLimit};

/// What the manifest says about one plugin, as far as routing and deploying need it.
#[derive(Clone, Debug)]
pub(crate) struct SlotOptions {
    pub plugin: Arc<Plugin>,
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
            component: Some(entry.component.clone()),
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

/// A named place for one plugin.
pub(crate) struct Slot<R = Revision> {
    name: Arc<str>,
    options: ArcSwap<SlotOptions>,
    current: ArcSwapOption<R>,
    draining: Mutex<Vec<Arc<R>>>,
    failure: Mutex<Option<(SlotState, Arc<str>)>>,
    traps_before: AtomicU64,
}

impl<R> Slot<R> {
    /// An empty slot.
    pub(crate) fn new(options: SlotOptions) -> Self {
        Self {
            name: Arc::clone(&options.plugin.name),
            options: ArcSwap::from_pointee(options),
            current: ArcSwapOption::empty(),
            draining: Mutex::default(),
            failure: Mutex::default(),
            traps_before: AtomicU64::new(0),
        }
    }

    /// The plugin's name.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The plugin's grant, limits and settings.
    pub(crate) fn plugin(&self) -> Arc<Plugin> {
        Arc::clone(&self.options.load().plugin)
    }

    /// What the manifest says.
    pub(crate) fn options(&self) -> Arc<SlotOptions> {
        self.options.load_full()
    }

    /// The build that answers now: one atomic load. Whoever holds it is answered by it to the last byte.
    pub(crate) fn current(&self) -> Option<Arc<R>> {
        self.current.load_full()
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

    pub(super) fn draining(&self) -> Vec<Arc<R>> {
        self.draining.lock().clone()
    }

    pub(super) fn begin_drain(&self, revision: Arc<R>) {
        self.draining.lock().push(revision);
    }
}

impl<R: Build> Slot<R> {
    /// Whether the plugin can answer.
    pub(crate) fn state(&self) -> SlotState {
        let is_loaded = self.current.load().is_some();
        match (is_loaded, self.draining.lock().is_empty()) {
            (true, true) => SlotState::Loaded,
            (true, false) => SlotState::Draining,
            (false, _) => self.failure.lock().as_ref().map_or(SlotState::Missing, |(state, _)| *state),
        }
    }

    /// Calls in flight in the present build and in those that drain.
    pub(crate) fn in_flight(&self) -> usize {
        let current = self.current.load().as_ref().map_or(0, |revision| revision.statistics().in_flight);
        current + self.draining.lock().iter().map(|revision| revision.statistics().in_flight).sum::<usize>()
    }

    /// Traps since the host started, over all builds.
    pub(crate) fn traps(&self) -> u64 {
        let current = self.current.load().as_ref().map_or(0, |revision| revision.statistics().traps);
        let draining: u64 = self.draining.lock().iter().map(|revision| revision.statistics().traps).sum();
        self.traps_before.load(Ordering::Relaxed) + current + draining
    }

    pub(super) fn end_drain(&self, revision: &Arc<R>) {
        let mut draining = self.draining.lock();
        if let Some(index) = draining.iter().position(|other| Arc::ptr_eq(other, revision)) {
            draining.swap_remove(index);
            self.traps_before.fetch_add(revision.statistics().traps, Ordering::Relaxed);
        }
    }
}
