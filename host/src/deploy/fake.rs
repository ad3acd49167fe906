//! A foundry for tests: a component is a small JSON document that says how the build behaves.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::Notify;

use super::artifacts::digest_of;
use super::{Build, Foundry};
use crate::bindings::lifecycle::{Description, Dialect, Migration, Route, Timer};
use crate::capability::Plugin;
use crate::capability::grant::Isolation;
use crate::engine::{Exports, PrepareError, RevisionStatistics};
use crate::telemetry::meter::Meter;

/// How a fake build behaves.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Recipe {
    pub version: String,
    /// `METHOD /path`
    pub routes: Vec<String>,
    pub consumes: Vec<String>,
    pub timers: Vec<(String, String)>,
    pub migrations: Vec<(String, String)>,
    pub required_config: Vec<String>,
    /// Fails while it is linked.
    pub not_granted: bool,
    /// Fails while it is warmed.
    pub broken: bool,
    /// What `ready` says instead of yes.
    pub not_ready: Option<String>,
    /// `ready` does not answer until the foundry's gate opens.
    pub waits: bool,
    /// `ready` never answers.
    pub hangs: bool,
    /// Exports nothing that Berth calls.
    pub exports_nothing: bool,
    /// Interfaces it imports.
    pub imports: Vec<String>,
}

/// What the test sees of the foundry.
#[derive(Default)]
pub(super) struct FakeFoundry {
    pub compiled: AtomicUsize,
    /// Digests of what is compiled.
    pub at_hand: Mutex<HashSet<String>>,
    pub forgotten: Mutex<Vec<String>>,
    pub gate: Arc<Gate>,
    /// Builds made so far that are still alive.
    pub alive: Arc<AtomicUsize>,
}

/// Opens once.
#[derive(Default)]
pub(super) struct Gate {
    is_open: AtomicBool,
    /// How many wait at it.
    pub waiting: AtomicUsize,
    opened: Notify,
}

impl Gate {
    pub(super) fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
        self.opened.notify_waiters();
    }

    async fn pass(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        loop {
            let mut opened = std::pin::pin!(self.opened.notified());
            opened.as_mut().enable();
            if self.is_open.load(Ordering::SeqCst) {
                return;
            }
            opened.await;
        }
    }
}

#[derive(Clone)]
pub(super) struct FakeCode {
    recipe: Recipe,
    digest: Arc<str>,
}

pub(super) struct FakeBuild {
    number: i64,
    digest: Arc<str>,
    recipe: Recipe,
    description: Option<Arc<Description>>,
    gate: Arc<Gate>,
    alive: Arc<AtomicUsize>,
    pub meter: Meter,
    in_flight: AtomicUsize,
    idle: Notify,
    pub warmed: AtomicUsize,
    pub is_retired: AtomicBool,
    pub is_cancelled: AtomicBool,
    /// Whether running calls end when they are cancelled.
    pub yields: AtomicBool,
}

impl FakeBuild {
    fn new(number: i64, digest: Arc<str>, recipe: Recipe, gate: Arc<Gate>, alive: Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Self {
            number,
            digest,
            description: Some(Arc::new(describe(&recipe))),
            recipe,
            gate,
            alive,
            meter: Meter::default(),
            in_flight: AtomicUsize::new(0),
            idle: Notify::new(),
            warmed: AtomicUsize::new(0),
            is_retired: AtomicBool::new(false),
            is_cancelled: AtomicBool::new(false),
            yields: AtomicBool::new(true),
        }
    }

    /// A call that runs until the guard is dropped.
    pub(super) fn call(self: &Arc<Self>) -> FakeCall {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        FakeCall(Arc::clone(self))
    }
}

impl Drop for FakeBuild {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(super) struct FakeCall(Arc<FakeBuild>);

impl Drop for FakeCall {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.0.idle.notify_waiters();
    }
}

impl Foundry for Arc<FakeFoundry> {
    type Compiled = FakeCode;
    type Revision = FakeBuild;

    async fn compile(&self, wasm: Bytes) -> Result<FakeCode, PrepareError> {
        self.compiled.fetch_add(1, Ordering::SeqCst);
        let recipe = serde_json::from_slice(&wasm)
            .map_err(|_| PrepareError::NotAComponent("this is no WebAssembly component".into()))?;
        let digest = digest_of(&wasm);
        self.at_hand.lock().insert(digest.clone());
        Ok(FakeCode { recipe, digest: digest.into() })
    }

    async fn revision(
        &self,
        compiled: &FakeCode,
        number: i64,
        _plugin: Arc<Plugin>,
        _isolation: Isolation,
    ) -> Result<Arc<FakeBuild>, PrepareError> {
        let FakeCode { recipe, digest } = compiled.clone();
        if recipe.not_granted {
            return Err(PrepareError::NotGranted(vec!["it imports mail, but its grant has no `mail`".into()]));
        }
        Ok(Arc::new(FakeBuild::new(number, digest, recipe, Arc::clone(&self.gate), Arc::clone(&self.alive))))
    }

    fn is_compiled(&self, digest: &str) -> bool {
        self.at_hand.lock().contains(digest)
    }

    fn machine_code_name(&self, digest: &str) -> String {
        format!("{digest}-fake")
    }

    async fn machine_code(&self, _digest: &str) -> Option<Bytes> {
        None
    }

    async fn accept_machine_code(&self, _digest: &str, _sealed: Bytes) -> Result<(), PrepareError> {
        Err(PrepareError::Broken("there is no machine code here".into()))
    }

    async fn keep_only(&self, wanted: HashSet<String>) -> std::io::Result<()> {
        self.at_hand.lock().retain(|digest| wanted.contains(digest));
        Ok(())
    }

    fn forget(&self, digest: &str) {
        self.forgotten.lock().push(digest.to_owned());
    }
}

impl Build for FakeBuild {
    fn number(&self) -> i64 {
        self.number
    }

    fn digest(&self) -> &Arc<str> {
        &self.digest
    }

    fn exports(&self) -> Exports {
        let is = !self.recipe.exports_nothing;
        Exports { handler: is, consumer: is, lifecycle: true, http_02: false, http_03: false }
    }

    fn description(&self) -> Option<&Arc<Description>> {
        self.description.as_ref()
    }

    async fn warm(&self, instances: usize) -> Result<(), PrepareError> {
        if self.recipe.broken {
            return Err(PrepareError::Broken("it trapped while it started".into()));
        }
        self.warmed.store(instances, Ordering::SeqCst);
        Ok(())
    }

    async fn ready(&self) -> Result<(), String> {
        if self.recipe.hangs {
            std::future::pending::<()>().await;
        }
        if self.recipe.waits {
            self.gate.pass().await;
        }
        self.recipe.not_ready.clone().map_or(Ok(()), Err)
    }

    fn statistics(&self) -> RevisionStatistics {
        RevisionStatistics {
            in_flight: self.in_flight.load(Ordering::SeqCst),
            warm: self.warmed.load(Ordering::SeqCst),
            ..RevisionStatistics::default()
        }
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }

    fn imports(&self) -> &[String] {
        &self.recipe.imports
    }

    fn retire(&self) {
        self.is_retired.store(true, Ordering::SeqCst);
        self.warmed.store(0, Ordering::SeqCst);
    }

    async fn drained(&self) {
        loop {
            let mut idle = std::pin::pin!(self.idle.notified());
            idle.as_mut().enable();
            let is_given_up = self.is_cancelled.load(Ordering::SeqCst) && self.yields.load(Ordering::SeqCst);
            if self.in_flight.load(Ordering::SeqCst) == 0 || is_given_up {
                return;
            }
            idle.await;
        }
    }

    fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::SeqCst);
        self.idle.notify_waiters();
    }
}

fn describe(recipe: &Recipe) -> Description {
    Description {
        name: "fake".into(),
        version: if recipe.version.is_empty() { "0".into() } else { recipe.version.clone() },
        routes: recipe.routes.iter().map(|text| route(text)).collect(),
        bindings: recipe.consumes.clone(),
        timers: recipe.timers.iter().cloned().map(|(name, schedule)| Timer { name, schedule }).collect(),
        migrations: recipe
            .migrations
            .iter()
            .cloned()
            .map(|(name, sql)| Migration { name, dialect: Dialect::Any, sql })
            .collect(),
        required_config: recipe.required_config.clone(),
    }
}

/// A plain route out of `METHOD /path`.
pub(super) fn route(text: &str) -> Route {
    let (method, path) = text.split_once(' ').unwrap();
    Route {
        method: method.into(),
        path: path.into(),
        summary: String::new(),
        permission: None,
        is_public: false,
        is_streaming: false,
        needs_organization: true,
        parameters: Vec::new(),
        request_schema: None,
        request_media_type: None,
        answers: Vec::new(),
        tag: String::new(),
    }
}

/// A description with these routes and nothing else.
pub(super) fn description(routes: &[&str]) -> Description {
    describe(&Recipe { routes: routes.iter().map(ToString::to_string).collect(), ..Recipe::default() })
}

/// A build that was never deployed.
pub(super) fn build(version: &str) -> Arc<FakeBuild> {
    let recipe = Recipe { version: version.to_owned(), ..Recipe::default() };
    Arc::new(FakeBuild::new(1, digest_of(version.as_bytes()).into(), recipe, Arc::default(), Arc::default()))
}

/// How long a test waits for something that must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds.
pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "waited in vain: {what}");
}
