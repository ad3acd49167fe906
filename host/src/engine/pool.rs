//! Warm instances of one revision: taken for one call, put back when the call went well.
//!
//! An instance never changes its revision, and never its organization unless the manifest says `isolation = "plugin"`.
//! After a trap, a timeout or a cancel it is dropped, never put back.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;

use super::lane::Ticked;
use super::state::State;
use crate::bindings::{consumer, handler, lifecycle, packed_handler};
pub(crate) use crate::capability::grant::Isolation;

/// Warm instances one revision keeps while they have nothing to do.
const IDLE_MAX: usize = 64;
/// Calls one instance answers before a fresh one takes its place.
const CALLS_MAX: u32 = 20_000;

/// One live instance.
pub(super) struct Instance {
    pub store: Store<State>,
    pub handler: Option<handler::RequestHandler>,
    pub packed: Option<packed_handler::PackedRequestHandler>,
    pub consumer: Option<consumer::MessageConsumer>,
    pub lifecycle: Option<lifecycle::SelfDescribing>,
    pub http: Option<wasmtime_wasi_http::handler::Proxy>,
    pub calls: u32,
    pub ticked: Ticked,
    /// The engine's slot, given back when the instance is dropped.
    pub _slot: OwnedSemaphorePermit,
}

impl Instance {
    /// Whether it may answer another call.
    fn is_fit(&self) -> bool {
        let state = self.store.data();
        let bound = state.guest.plugin.limits.memory_mib as usize * 1024 * 1024 / 4 * 3;
        self.calls < CALLS_MAX && state.limiter.memory_bytes <= bound && !state.limiter.refused
    }
}

/// The idle instances of one revision.
#[derive(Default)]
pub(super) struct Shelf {
    idle: Mutex<Idle>,
}

#[derive(Default)]
#[expect(clippy::vec_box, reason = "an instance is large, and each call moves it from hand to hand")]
struct Idle {
    shared: Vec<Box<Instance>>,
    by_organization: HashMap<Arc<str>, Vec<Box<Instance>>>,
    count: usize,
    is_closed: bool,
}

impl Shelf {
    /// An idle instance that may answer a call of `organization`.
    pub(super) fn take(&self, isolation: Isolation, organization: Option<&Arc<str>>) -> Option<Box<Instance>> {
        let mut idle = self.idle.lock();
        let instance = match (isolation, organization) {
            (Isolation::Request, _) => None,
            (Isolation::Organization, Some(organization)) => {
                let instances = idle.by_organization.get_mut(organization)?;
                let instance = instances.pop();
                if instances.is_empty() {
                    idle.by_organization.remove(organization);
                }
                instance
            }
            _ => idle.shared.pop(),
        };
        idle.count -= usize::from(instance.is_some());
        instance
    }

    /// Puts an instance back, or drops it when it is worn, the shelf is full or the revision is retired.
    pub(super) fn put(&self, isolation: Isolation, organization: Option<&Arc<str>>, instance: Box<Instance>) {
        if isolation == Isolation::Request || !instance.is_fit() {
            return;
        }
        let mut evicted = None;
        let mut idle = self.idle.lock();
        if idle.is_closed {
            drop(idle);
            return;
        }
        if idle.count >= IDLE_MAX {
            match isolation {
                // Another organization's instance makes room, so that one busy hour does not keep the others cold.
                Isolation::Organization => evicted = idle.evict(),
                _ => return,
            }
        }
        match (isolation, organization) {
            (Isolation::Organization, Some(organization)) => {
                idle.by_organization.entry(organization.clone()).or_default().push(instance);
            }
            _ => idle.shared.push(instance),
        }
        idle.count += 1;
        drop(idle);
        drop(evicted);
    }

    /// Drops every idle instance; with `close` for good, so that none is put back either.
    pub(super) fn clear(&self, close: bool) {
        let mut idle = self.idle.lock();
        idle.is_closed |= close;
        idle.count = 0;
        let instances = (std::mem::take(&mut idle.shared), std::mem::take(&mut idle.by_organization));
        drop(idle);
        drop(instances);
    }

    /// How many instances are idle.
    pub(super) fn count(&self) -> usize {
        self.idle.lock().count
    }
}

impl Idle {
    fn evict(&mut self) -> Option<Box<Instance>> {
        let organization = self.by_organization.keys().next().cloned();
        let evicted = match organization {
            Some(organization) => {
                let instances = self.by_organization.get_mut(&organization)?;
                let evicted = instances.pop();
                if instances.is_empty() {
                    self.by_organization.remove(&organization);
                }
                evicted
            }
            None => self.shared.pop(),
        };
        self.count -= usize::from(evicted.is_some());
        evicted
    }
}
