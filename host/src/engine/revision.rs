//! One deployed build, ready to be called: what it exports and describes, its instances, and how it goes away.
//!
//! It holds no pointer to what replaces it; who is current is `deploy`'s affair.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasmtime::component::InstancePre;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi_http::handler::Proxy;
use wasmtime_wasi_http::p2::bindings::ProxyIndices;
use wasmtime_wasi_http::p3::bindings::ServiceIndices;

use super::attempt::Attempt;
use super::error::{first_line, is_out_of_room};
use super::lane::{Run, Ticked};
use super::link;
use super::pool::{Instance, Isolation, Shelf};
use super::routes::{RouteMatch, Routes};
use super::state::State;
use super::trouble::Trouble;
use super::usage::Usage;
use super::{CallError, Compiled, Engine, PrepareError};
use crate::bindings::consumer::MessageConsumerIndices;
use crate::bindings::handler::RequestHandlerIndices;
use crate::bindings::lifecycle::{Description, SelfDescribingIndices};
use crate::bindings::packed_handler::PackedRequestHandlerIndices;
use crate::capability::capsule::Failure;
use crate::capability::queue::OutgoingMessage;
use crate::capability::{Guest, Plugin};
use crate::principal::{Call, Principal};
use crate::telemetry::meter::Meter;

/// How long a call waits for one of the plugin's permits, or for an instance.
const ADMISSION_WAIT_MAX: Duration = Duration::from_secs(1);
/// How long `describe` and `ready` may take.
const LIFECYCLE_TIME_MAX: Duration = Duration::from_secs(5);
/// The least time between two events about traps of one build.
const TRAP_EVENT_INTERVAL: Duration = Duration::from_secs(10);
/// Bytes a guest may hand to the host in one call of a capability.
const HOSTCALL_BYTES_MAX: usize = 32 << 20;
/// Digits of the digest that name a build in log lines.
const SHORT_DIGEST_CHARS: usize = 12;

/// Which of the interfaces that Berth calls a component exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exports {
    /// As a record or packed.
    pub handler: bool,
    pub consumer: bool,
    pub lifecycle: bool,
    /// `wasi:http/incoming-handler@0.2`.
    pub http_02: bool,
    /// `wasi:http/handler@0.3`.
    pub http_03: bool,
}

/// What a revision has done so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct RevisionStatistics {
    pub in_flight: usize,
    pub calls: u64,
    pub traps: u64,
    pub timeouts: u64,
    /// The first line of the last trap.
    pub last_trap: Option<String>,
    /// Idle warm instances.
    pub warm: usize,
    /// Linear memory of its instances, idle or at work.
    pub memory_bytes: u64,
    /// Processor time of its calls so far, in seconds.
    pub cpu_seconds: f64,
    /// How many processors its calls kept busy over the last ten seconds.
    pub cpu_share: f64,
}

struct Indices {
    handler: Option<RequestHandlerIndices>,
    packed: Option<PackedRequestHandlerIndices>,
    consumer: Option<MessageConsumerIndices>,
    lifecycle: Option<SelfDescribingIndices>,
    http_02: Option<ProxyIndices>,
    http_03: Option<ServiceIndices>,
}

/// One deployed build.
pub(crate) struct Revision {
    /// Counts up for each plugin; 1 is the first.
    pub number: i64,
    /// SHA-256 of the component.
    pub digest: Arc<str>,
    pub(super) plugin: Arc<Plugin>,
    pub(super) isolation: Isolation,
    pub(super) shelf: Shelf,
    /// What requests to it came to; whoever answers them notes it.
    pub meter: Meter,
    /// Interfaces the component imports, by name.
    pub imports: Vec<String>,
    /// Cancelled when the drain deadline has passed.
    pub(super) cancelled: CancellationToken,
    short: Arc<str>,
    pub(super) engine: Arc<Engine>,
    pre: InstancePre<State>,
    indices: Indices,
    description: Option<Arc<Description>>,
    routes: Routes,
    permits: Semaphore,
    /// How it fares.
    pub(super) trouble: Trouble,
    /// The processor time of its calls.
    pub(super) usage: Arc<Usage>,
    in_flight: AtomicUsize,
    idle: Notify,
    is_retired: AtomicBool,
    calls: AtomicU64,
    traps: AtomicU64,
    timeouts: AtomicU64,
    memory_bytes: Arc<AtomicU64>,
    last_trap: Mutex<Option<String>>,
    /// When a trap was last published as an event.
    trap_told: Mutex<Option<Instant>>,
}

impl Engine {
    /// The names of what a component imports and exports.
    pub(crate) fn inspect(&self, compiled: &Compiled) -> (Vec<String>, Vec<String>) {
        let (shape, engine) = (compiled.component.component_type(), compiled.component.engine());
        (
            shape.imports(engine).map(|(name, _)| name.to_owned()).collect(),
            shape.exports(engine).map(|(name, _)| name.to_owned()).collect(),
        )
    }

    /// Links a compiled component by its plugin's grant and asks it to describe itself.
    ///
    /// # Errors
    /// `NotGranted`, `WrongWorld`, or `Broken` when it cannot be instantiated or described.
    pub(crate) async fn revision(
        self: &Arc<Self>,
        compiled: &Compiled,
        number: i64,
        plugin: Arc<Plugin>,
        isolation: Isolation,
    ) -> Result<Arc<Revision>, PrepareError> {
        let (imports, _) = self.inspect(compiled);
        let refused = link::refusals(imports.iter().map(String::as_str), &plugin.grant);
        if !refused.is_empty() {
            return Err(PrepareError::NotGranted(refused));
        }
        let engine = compiled.component.engine();
        let pre = link::linker(engine, self.flavour(engine), &plugin.grant)?
            .instantiate_pre(&compiled.component)
            .map_err(|error| PrepareError::WrongWorld(format!("its imports do not fit: {}", first_line(&error))))?;
        let indices = Indices {
            handler: RequestHandlerIndices::new(&pre).ok(),
            packed: PackedRequestHandlerIndices::new(&pre).ok(),
            consumer: MessageConsumerIndices::new(&pre).ok(),
            lifecycle: SelfDescribingIndices::new(&pre).ok(),
            http_02: ProxyIndices::new(&pre).ok(),
            http_03: ServiceIndices::new(&pre).ok(),
        };
        if indices.handler.is_none()
            && indices.packed.is_none()
            && indices.consumer.is_none()
            && indices.http_02.is_none()
            && indices.http_03.is_none()
        {
            return Err(PrepareError::WrongWorld(
                "it exports none of berth:platform/handler, berth:platform/packed-handler, berth:platform/consumer, \
                 wasi:http/incoming-handler@0.2 and wasi:http/handler@0.3"
                    .into(),
            ));
        }
        let mut revision = Revision {
            number,
            digest: compiled.digest.clone(),
            short: compiled.digest.chars().take(SHORT_DIGEST_CHARS).collect::<String>().into(),
            permits: Semaphore::new(plugin.limits.concurrency as usize),
            trouble: Trouble::default(),
            usage: Arc::default(),
            plugin,
            isolation,
            shelf: Shelf::default(),
            meter: Meter::default(),
            imports,
            cancelled: CancellationToken::new(),
            engine: self.clone(),
            pre,
            indices,
            description: None,
            routes: Routes::default(),
            in_flight: AtomicUsize::new(0),
            idle: Notify::new(),
            is_retired: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            traps: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            memory_bytes: Arc::default(),
            last_trap: Mutex::new(None),
            trap_told: Mutex::new(None),
        };
        if let Some(description) = revision.describe().await? {
            revision.routes = Routes::new(&description.routes).map_err(PrepareError::Broken)?;
            revision.description = Some(Arc::new(description));
        }
        Ok(Arc::new(revision))
    }
}

impl Revision {
    /// What the component says of itself; none when it does not export `lifecycle`.
    pub(crate) fn description(&self) -> Option<&Arc<Description>> {
        self.description.as_ref()
    }

    /// The digest, shortened for log lines and headers.
    pub(crate) fn short_digest(&self) -> &Arc<str> {
        &self.short
    }

    /// Which of the interfaces that Berth calls it exports.
    pub(crate) fn exports(&self) -> Exports {
        Exports {
            handler: self.indices.handler.is_some() || self.indices.packed.is_some(),
            consumer: self.indices.consumer.is_some(),
            lifecycle: self.indices.lifecycle.is_some(),
            http_02: self.indices.http_02.is_some(),
            http_03: self.indices.http_03.is_some(),
        }
    }

    /// What a method and a path are to this build.
    pub(crate) fn match_route(&self, method: &str, path: &str) -> RouteMatch<'_> {
        self.routes.find(method, path)
    }

    /// What it has done so far.
    pub(crate) fn statistics(&self) -> RevisionStatistics {
        RevisionStatistics {
            in_flight: self.in_flight.load(Ordering::Relaxed),
            calls: self.calls.load(Ordering::Relaxed),
            traps: self.traps.load(Ordering::Relaxed),
            timeouts: self.timeouts.load(Ordering::Relaxed),
            last_trap: self.last_trap.lock().clone(),
            warm: self.shelf.count(),
            memory_bytes: self.memory_bytes.load(Ordering::Relaxed),
            cpu_seconds: self.usage.seconds(),
            cpu_share: self.usage.share(),
        }
    }

    /// Makes sure that `count` instances wait for their first call.
    ///
    /// # Errors
    /// `Broken` when the component cannot be instantiated.
    pub(crate) async fn warm(&self, count: usize) -> Result<(), PrepareError> {
        for _ in self.shelf.count()..count {
            let instance = self.instantiate(self.own_call()).await.map_err(broken)?;
            self.shelf.put(self.isolation, None, instance);
        }
        Ok(())
    }

    /// Asks the component whether it is ready for traffic.
    ///
    /// # Errors
    /// Its own reason, or why it could not be asked.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        let call = self.own_call();
        let mut instance = self.instantiate(call).await.map_err(|error| error.to_string())?;
        let Some(lifecycle) = instance.lifecycle.as_ref() else { return Ok(()) };
        let asked = lifecycle.berth_platform_lifecycle().call_ready(&mut instance.store);
        match tokio::time::timeout(LIFECYCLE_TIME_MAX, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(format!("`ready` trapped: {}", first_line(&error))),
            Err(_) => Err(format!("`ready` took longer than {} seconds", LIFECYCLE_TIME_MAX.as_secs())),
        }
    }

    /// Stops keeping instances warm. Calls that hold this revision still run.
    pub(crate) fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
        self.shelf.clear(true);
        self.idle.notify_waiters();
    }

    /// Resolves when no call runs and no response body is open.
    pub(crate) async fn drained(&self) {
        loop {
            let mut notified = std::pin::pin!(self.idle.notified());
            notified.as_mut().enable();
            if self.in_flight.load(Ordering::Acquire) == 0 {
                return;
            }
            notified.await;
        }
    }

    /// Cancels what still runs: calls answer `Cancelled`, streams end with an error event.
    pub(crate) fn cancel(&self) {
        self.cancelled.cancel();
    }

    async fn describe(&self) -> Result<Option<Description>, PrepareError> {
        let mut instance = self.instantiate(self.own_call()).await.map_err(broken)?;
        let Some(lifecycle) = instance.lifecycle.as_ref() else { return Ok(None) };
        let asked = lifecycle.berth_platform_lifecycle().call_describe(&mut instance.store);
        match tokio::time::timeout(LIFECYCLE_TIME_MAX, asked).await {
            Ok(Ok(description)) => Ok(Some(description)),
            Ok(Err(error)) => Err(PrepareError::Broken(format!("`describe` trapped: {}", first_line(&error)))),
            Err(_) => Err(PrepareError::Broken(format!(
                "`describe` took longer than {} seconds",
                LIFECYCLE_TIME_MAX.as_secs()
            ))),
        }
    }

    /// A call of the host itself, for `describe`, `ready` and warming.
    fn own_call(&self) -> Call {
        Call {
            principal: Arc::new(Principal::system(None, None)),
            request_id: Arc::from("host"),
            source_service: None,
            causation_id: None,
            correlation_id: None,
            depth: 0,
            deadline: None,
            is_shadow: false,
            trace: crate::trace::Trace::default(),
        }
    }

    pub(super) fn guest(&self, call: Call) -> Guest {
        Guest { plugin: self.plugin.clone(), revision: self.short.clone(), call }
    }

    /// Lets one call in, or says `Busy` after a moment. Who waits for the answer here lends the revision; a stream owns it.
    pub(super) async fn admit<R>(revision: R) -> Result<Admission<R>, CallError>
    where
        R: Deref<Target = Self> + Send,
    {
        // Counted before the permit, so that a drain waits for those that wait.
        revision.in_flight.fetch_add(1, Ordering::AcqRel);
        let mut admission = Admission { revision, has_permit: false };
        let permits = &admission.revision.permits;
        match permits.try_acquire() {
            Ok(permit) => permit.forget(),
            Err(_) => match Box::pin(tokio::time::timeout(ADMISSION_WAIT_MAX, permits.acquire())).await {
                Ok(Ok(permit)) => permit.forget(),
                _ => return Err(CallError::Busy),
            },
        }
        admission.has_permit = true;
        admission.revision.calls.fetch_add(1, Ordering::Relaxed);
        Ok(admission)
    }

    /// A warm instance, or a fresh one.
    pub(super) async fn take_instance(&self, call: Call) -> Result<Box<Instance>, CallError> {
        match self.shelf.take(self.isolation, call.principal.organization_id.as_ref()) {
            Some(mut instance) => {
                instance.store.data_mut().begin(call);
                instance.store.set_epoch_deadline(1);
                Ok(instance)
            }
            None => Box::pin(self.fresh_instance(call)).await,
        }
    }

    /// A fresh instance, for which a build in trouble has to wait its turn.
    async fn fresh_instance(&self, call: Call) -> Result<Box<Instance>, CallError> {
        if let Some(turn) = self.trouble.turn(ADMISSION_WAIT_MAX).map_err(|_| CallError::Busy)? {
            tokio::select! {
                biased;
                () = self.cancelled.cancelled() => return Err(CallError::Cancelled),
                () = tokio::time::sleep_until(turn.into()) => {}
            }
        }
        let made = self.instantiate(call).await;
        match &made {
            Err(CallError::Trapped(_) | CallError::OutOfMemory) => self.trouble.has_trapped(),
            Err(CallError::TimedOut) => self.trouble.has_timed_out(),
            _ => {}
        }
        made
    }

    /// Ends a call: puts the instance back when it went well, counts and names the failure when it did not, and keeps a
    /// capsule of `attempt`.
    pub(super) async fn settle<T>(
        &self,
        mut instance: Box<Instance>,
        result: Result<wasmtime::Result<T>, CallError>,
        attempt: Option<&Attempt>,
    ) -> Result<T, CallError> {
        // A transaction never outlives its call.
        if !instance.store.data().database.is_idle() {
            Box::pin(instance.store.data_mut().database.finish()).await;
        }
        instance.store.data().say_output();
        match result {
            Ok(Ok(value)) => {
                let state = instance.store.data();
                state.tape.end();
                let organization = state.guest.call.principal.organization_id.clone();
                instance.calls += 1;
                self.shelf.put(self.isolation, organization.as_ref(), instance);
                Ok(value)
            }
            Ok(Err(error)) => {
                let is_memory = instance.store.data().limiter.refused;
                self.engine.lanes.clear_away(instance);
                let line = first_line(&error);
                let failure = || if is_memory { Failure::Memory } else { Failure::Trap { text: line.clone() } };
                let capsule = attempt.and_then(|attempt| self.keep(attempt, failure));
                let capsule = capsule.as_deref();
                tracing::warn!(plugin = %self.plugin.name, revision = %self.short, trap = %line, capsule, "a guest trapped");
                self.traps.fetch_add(1, Ordering::Relaxed);
                self.trouble.has_trapped();
                *self.last_trap.lock() = Some(line.clone());
                self.tell_of_trap(&line, capsule);
                Err(if is_memory { CallError::OutOfMemory } else { CallError::Trapped(line) })
            }
            Err(error) => {
                let error = self.ended_by(error, &instance.ticked, attempt);
                self.engine.lanes.clear_away(instance);
                Err(error)
            }
        }
    }

    /// Publishes `host.plugin.trapped`, at most once in a while for each build: a build that traps at every request must
    /// not fill the queue.
    fn tell_of_trap(&self, line: &str, capsule: Option<&str>) {
        {
            let mut told = self.trap_told.lock();
            if told.is_some_and(|told| told.elapsed() < TRAP_EVENT_INTERVAL) {
                return;
            }
            *told = Some(Instant::now());
        }
        let data = serde_json::json!({
            "plugin": &*self.plugin.name,
            "revision": self.number,
            "sha256": &*self.digest,
            "reason": line,
            "traps": self.traps.load(Ordering::Relaxed),
            "capsule": capsule,
        });
        let queue = self.engine.rooms.queue.clone();
        tokio::spawn(async move {
            if let Err(error) = queue.publish(OutgoingMessage::event("host.plugin.trapped", &data)).await {
                tracing::warn!(%error, "a trap was not published");
            }
        });
    }

    /// Runs a guest no longer than the call's deadline and the build's life. One that is not waited for any more is dropped
    /// with its instance, which rolls back what it has open.
    pub(super) async fn within<T: Send + 'static>(
        &self,
        deadline: Option<std::time::Instant>,
        ticked: &AtomicBool,
        attempt: Option<&Attempt>,
        run: Run<T>,
    ) -> Result<T, CallError> {
        let mut running = std::pin::pin!(self.engine.lanes.run(ticked, self.trouble.is_deep(), &self.usage, run));
        // Most guests answer at once, and then there was nothing to wait for.
        if let Poll::Ready(result) = futures_util::poll!(running.as_mut()) {
            return result;
        }
        let deadline = deadline.map_or_else(|| Instant::now() + self.plugin.limits.request_timeout, Instant::from_std);
        let ended = Box::pin(async {
            tokio::select! {
                biased;
                () = self.cancelled.cancelled() => CallError::Cancelled,
                () = tokio::time::sleep_until(deadline) => CallError::TimedOut,
            }
        });
        tokio::select! {
            biased;
            result = running => result,
            error = ended => Err(self.ended_by(error, ticked, attempt)),
        }
    }

    /// Counts a guest that was ended from outside.
    fn ended_by(&self, error: CallError, ticked: &AtomicBool, attempt: Option<&Attempt>) -> CallError {
        if matches!(error, CallError::TimedOut) {
            self.timeouts.fetch_add(1, Ordering::Relaxed);
            // One that only waited has cost nobody anything.
            if ticked.load(Ordering::Relaxed) {
                self.trouble.has_timed_out();
            }
            let capsule = attempt.and_then(|attempt| self.keep(attempt, || Failure::Timeout));
            let capsule = capsule.as_deref();
            tracing::warn!(plugin = %self.plugin.name, revision = %self.short, capsule, "a guest ran out of time");
        }
        error
    }

    async fn instantiate(&self, call: Call) -> Result<Box<Instance>, CallError> {
        let slots = self.engine.slots.clone();
        let slot = match slots.clone().try_acquire_owned() {
            Ok(slot) => slot,
            Err(_) => match tokio::time::timeout(ADMISSION_WAIT_MAX, slots.acquire_owned()).await {
                Ok(Ok(slot)) => slot,
                _ => return Err(CallError::Busy),
            },
        };
        let state = State::new(self.guest(call), self.engine.rooms.clone(), Arc::clone(&self.memory_bytes));
        let mut store = Store::new(self.pre.engine(), state);
        store.limiter(|state| &mut state.limiter);
        store.set_epoch_deadline(1);
        let ticked = Ticked::default();
        store.epoch_deadline_callback({
            let ticked = Arc::clone(&ticked);
            move |_| {
                ticked.store(true, Ordering::Relaxed);
                Ok(UpdateDeadline::Yield(1))
            }
        });
        store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
        let loading = async {
            let instance = self.pre.instantiate_async(&mut store).await?;
            let indices = &self.indices;
            let handler = indices.handler.as_ref().map(|index| index.load(&mut store, &instance)).transpose()?;
            let packed = indices.packed.as_ref().map(|index| index.load(&mut store, &instance)).transpose()?;
            let consumer = indices.consumer.as_ref().map(|index| index.load(&mut store, &instance)).transpose()?;
            let lifecycle = indices.lifecycle.as_ref().map(|index| index.load(&mut store, &instance)).transpose()?;
            let http = match (&indices.http_03, &indices.http_02) {
                (Some(index), _) => Some(Proxy::P3(index.load(&mut store, &instance)?)),
                (None, Some(index)) => Some(Proxy::P2(index.load(&mut store, &instance)?)),
                (None, None) => None,
            };
            Ok::<_, wasmtime::Error>((handler, packed, consumer, lifecycle, http))
        };
        // A start function can loop as well as any other.
        let loading = self.usage.measure(loading);
        let loaded = tokio::time::timeout(self.plugin.limits.request_timeout, loading).await;
        match loaded {
            Ok(Ok((handler, packed, consumer, lifecycle, http))) => Ok(Box::new(Instance {
                store,
                handler,
                packed,
                consumer,
                lifecycle,
                http,
                calls: 0,
                ticked,
                _slot: slot,
            })),
            Ok(Err(_)) if store.data().limiter.refused => Err(CallError::OutOfMemory),
            Ok(Err(error)) if is_out_of_room(&error) => Err(CallError::Busy),
            Ok(Err(error)) => Err(CallError::Trapped(first_line(&error))),
            Err(_) => Err(CallError::TimedOut),
        }
    }
}

/// One call that was let in: the revision is not drained while it lives.
pub(super) struct Admission<R: Deref<Target = Revision>> {
    revision: R,
    has_permit: bool,
}

impl<R: Deref<Target = Revision>> Drop for Admission<R> {
    fn drop(&mut self) {
        let revision = &*self.revision;
        if self.has_permit {
            revision.permits.add_permits(1);
        }
        if revision.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 && revision.is_retired.load(Ordering::Acquire) {
            revision.idle.notify_waiters();
        }
    }
}

fn broken(error: CallError) -> PrepareError {
    match error {
        CallError::Busy => PrepareError::Unavailable("no instance became free in time".into()),
        CallError::OutOfMemory => {
            PrepareError::Broken("it needs more memory to start than its `memory_mib` allows".into())
        }
        error => PrepareError::Broken(format!("it could not be instantiated: {error}")),
    }
}
