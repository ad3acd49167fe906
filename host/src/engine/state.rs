//! What a store holds: the present call, the rooms, and WASI with nothing in it.
//!
//! A guest has no filesystem, no sockets, no environment and no arguments; its standard output goes to its log.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::limits::Limiter;
use super::output::GuestOutput;
use crate::capability::tape::{Tape, TapedClock, TapedRandom};
use crate::capability::{Guest, Rooms, database, http_out, logging};
use crate::principal::Call;

/// Handles a guest may hold at once: a guest that floods them gets an error and then a trap.
const HANDLES_MAX: usize = 2_000;
/// A header section a guest may build, in bytes.
const FIELDS_BYTES_MAX: usize = 64 * 1024;

/// The data of one store.
pub(crate) struct State {
    pub guest: Guest,
    pub rooms: Arc<Rooms>,
    pub table: ResourceTable,
    pub limiter: Limiter,
    pub output: GuestOutput,
    /// The transaction the call has open.
    pub database: database::CallState,
    /// What the call asks of the rooms, kept or played.
    pub tape: Arc<Tape>,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: http_out::EgressHooks,
}

impl State {
    /// The data of a fresh store for `guest`, whose memory is counted in `memory_bytes`.
    pub(crate) fn new(guest: Guest, rooms: Arc<Rooms>, memory_bytes: Arc<AtomicU64>) -> Self {
        let output = GuestOutput::default();
        let tape = rooms.tapes.tape();
        let wasi = WasiCtx::builder()
            .stdout(output.clone())
            .stderr(output.clone())
            .wall_clock(TapedClock(Arc::clone(&tape)))
            .secure_random(TapedRandom(Arc::clone(&tape)))
            .insecure_random_seed(tape.seed)
            .build();
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELDS_BYTES_MAX);
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        let hooks = http_out::EgressHooks::new(rooms.http_out.clone(), Arc::clone(&tape));
        let limiter = Limiter::new(guest.plugin.limits.memory_mib, memory_bytes);
        Self { guest, rooms, table, limiter, output, database: database::CallState::default(), tape, wasi, http, hooks }
    }

    /// Passes on what the guest wrote to its standard output and error, as lines of its log.
    pub(crate) fn say_output(&self) {
        if let Some(text) = self.output.take() {
            self.rooms.logging.write(&self.guest, logging::Level::Info, text, Vec::new());
        }
    }

    /// Begins another call in the same store: of the same plugin and the same build.
    pub(crate) fn begin(&mut self, call: Call) {
        self.hooks.end();
        self.guest.call = call;
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // What a guest wrote before it was ended says most about its end.
        self.say_output();
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.hooks.begin(&self.guest);
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}
