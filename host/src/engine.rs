//! The engine room: turns the bytes of a component into something that can be called, and calls it safely.
//!
//! Two wasmtime engines a process, which differ in one setting: whether components may be concurrent (WASI 0.3). A call
//! of a component that is not costs a third of what it costs in an engine that allows it. The room knows nothing of HTTP routing, of users or of where a build came from; and it must
//! never run a guest without a memory limit, an epoch yield and a wall deadline.

mod attempt;
mod call;
pub(crate) mod compile;
mod error;
mod lane;
mod limits;
mod link;
mod output;
mod packed;
mod pool;
mod revision;
mod routes;
mod serve;
mod state;
mod trouble;
mod usage;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig};

pub(crate) use compile::{Compiled, compile_file};
pub(crate) use error::{CallError, PrepareError};
pub(crate) use link::opened;
pub(crate) use packed::{Answer, PackedAnswer, PackedRequest, Packer};
pub(crate) use revision::{Exports, Revision, RevisionStatistics};
pub(crate) use routes::RouteMatch;
pub(crate) use usage::process_time;

use crate::capability::Rooms;

/// How often a running guest lets other tasks run.
const EPOCH_TICK: Duration = Duration::from_millis(2);
/// Live instances in the whole process, warm idle ones included.
const INSTANCES_MAX: u32 = 1_000;
/// Linear memory of one instance, at most, whatever a manifest says. Equal to the reservation, so that bounds checks vanish.
const MEMORY_BYTES_MAX: usize = 4 << 30;
/// What one component may consist of.
const CORE_INSTANCES_MAX: u32 = 64;
const MEMORIES_MAX: u32 = 2;
const TABLES_MAX: u32 = 16;
/// Stack of one guest call.
const STACK_BYTES: usize = 2 << 20;

/// What the engine needs to know of its host.
pub(crate) struct EngineOptions {
    /// Where compiled components are cached: a private folder.
    pub compiled: PathBuf,
    /// The key that authenticates the cache.
    pub cache_key: [u8; 32],
    /// The program that compiles a component, run as `compile <in> -o <out>`.
    pub compiler: PathBuf,
}

/// The engines of the process, with the rooms their guests import from.
pub(crate) struct Engine {
    flavours: [wasmtime::Engine; 2],
    /// What a compiled component must have been made for.
    compatibility: u64,
    rooms: Arc<Rooms>,
    options: EngineOptions,
    /// One permit a live instance: a full pool would be an error, a semaphore is a wait.
    slots: Arc<Semaphore>,
    lanes: lane::Lanes,
}

impl Engine {
    /// Starts the engine and its epoch clock.
    ///
    /// # Errors
    /// When the machine cannot give the address space or the settings contradict each other.
    pub(crate) fn new(options: EngineOptions, rooms: Arc<Rooms>) -> Result<Arc<Self>, PrepareError> {
        let start = |flavour| {
            wasmtime::Engine::new(&configuration(flavour, true))
                .map_err(|error| PrepareError::Unavailable(format!("the engine could not start: {error:#}")))
        };
        let flavours = [start(Flavour::Plain)?, start(Flavour::Concurrent)?];
        start_epoch_clock(&flavours)?;
        let slots = Arc::new(Semaphore::new(INSTANCES_MAX as usize));
        let compatibility = compile::compatibility(&flavours);
        Ok(Arc::new(Self { flavours, compatibility, rooms, options, slots, lanes: lane::Lanes::start()? }))
    }

    fn flavour(&self, engine: &wasmtime::Engine) -> Flavour {
        let [plain, _] = &self.flavours;
        if wasmtime::Engine::same(plain, engine) { Flavour::Plain } else { Flavour::Concurrent }
    }
}

/// What an engine lets a component do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flavour {
    /// WASI 0.2 and `berth:platform`: one call at a time in an instance.
    Plain,
    /// WASI 0.3: asynchronous functions, streams and futures between components.
    Concurrent,
}

/// The settings of an engine. `is_running` adds the pooling allocator, which compiling does not need and which does not
/// change what is compiled.
fn configuration(flavour: Flavour, is_running: bool) -> Config {
    let is_concurrent = flavour == Flavour::Concurrent;
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_component_model_async(is_concurrent)
        .concurrency_support(is_concurrent)
        .epoch_interruption(true)
        .async_stack_size(STACK_BYTES)
        .max_wasm_stack(STACK_BYTES / 2)
        .memory_reservation(MEMORY_BYTES_MAX as u64)
        .memory_init_cow(true)
        // Only the trap itself is told of. A trace costs a walk over the whole stack, which a guest can make deep.
        .wasm_backtrace_max_frames(None);
    if is_running {
        let mut pool = PoolingAllocationConfig::new();
        // What one component may have there is as often as instances: none takes another one's.
        pool.total_component_instances(INSTANCES_MAX)
            .total_core_instances(INSTANCES_MAX * CORE_INSTANCES_MAX)
            .total_memories(INSTANCES_MAX * MEMORIES_MAX)
            .total_tables(INSTANCES_MAX * TABLES_MAX)
            .total_stacks(INSTANCES_MAX)
            .max_memory_size(MEMORY_BYTES_MAX)
            .table_elements(20_000)
            .max_core_instances_per_component(CORE_INSTANCES_MAX)
            .max_tables_per_component(TABLES_MAX)
            .max_memories_per_component(MEMORIES_MAX)
            .linear_memory_keep_resident(64 * 1024)
            .table_keep_resident(8 * 1024);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

/// Raises the epoch every few milliseconds until the engines are gone.
fn start_epoch_clock(engines: &[wasmtime::Engine; 2]) -> Result<(), PrepareError> {
    let weak = engines.each_ref().map(wasmtime::Engine::weak);
    std::thread::Builder::new()
        .name("epoch".into())
        .spawn(move || {
            while let [Some(plain), Some(concurrent)] = weak.each_ref().map(wasmtime::EngineWeak::upgrade) {
                plain.increment_epoch();
                concurrent.increment_epoch();
                drop((plain, concurrent));
                std::thread::sleep(EPOCH_TICK);
            }
        })
        .map(drop)
        .map_err(|error| PrepareError::Unavailable(format!("the epoch clock could not start: {error}")))
}
