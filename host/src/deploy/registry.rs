//! Where a path, a name or a port leads: one snapshot, replaced whole, read without a lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::prefix::{self, Prefix};
use super::{Slot, SlotOptions};
use crate::engine::Revision;

/// Two plugins want the same place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Overlap {
    #[error("the plugin {0} is named twice")]
    Name(String),
    #[error("the route {prefix} belongs to {first} and to {second}")]
    Route { prefix: String, first: String, second: String },
    #[error("the port {port} belongs to {first} and to {second}")]
    Port { port: u16, first: String, second: String },
}

/// Every slot of the host.
pub(crate) struct Registry<R = Revision> {
    snapshot: ArcSwap<Snapshot<R>>,
}

struct Snapshot<R> {
    by_prefix: HashMap<Prefix, Arc<Slot<R>>>,
    /// The most segments any prefix has.
    segments_max: usize,
    by_name: BTreeMap<Arc<str>, Arc<Slot<R>>>,
    by_port: BTreeMap<u16, Arc<Slot<R>>>,
}

impl<R> Registry<R> {
    /// A registry with one empty slot for each plugin of the manifest.
    ///
    /// # Errors
    /// When two plugins share a name, a route or a port.
    pub(crate) fn new(plugins: Vec<SlotOptions>) -> Result<Self, Overlap> {
        let slots = plugins.into_iter().map(|options| Arc::new(Slot::new(options))).collect();
        Ok(Self { snapshot: ArcSwap::from_pointee(Snapshot::new(slots)?) })
    }

    /// The slot that answers `path`, given as it was sent, without the query: the longest prefix of whole segments.
    /// Paths with dot segments or malformed escapes lead nowhere.
    pub(crate) fn route(&self, path: &str) -> Option<Arc<Slot<R>>> {
        let path = prefix::canonical(path)?;
        self.snapshot.load().longest(&path).map(|(_, slot)| Arc::clone(slot))
    }

    /// The slot of a plugin.
    pub(crate) fn slot(&self, name: &str) -> Option<Arc<Slot<R>>> {
        self.snapshot.load().by_name.get(name).cloned()
    }

    /// All slots, by name.
    pub(crate) fn slots(&self) -> Vec<Arc<Slot<R>>> {
        self.snapshot.load().by_name.values().cloned().collect()
    }

    /// The direct ports and their slots.
    pub(crate) fn ports(&self) -> Vec<(u16, Arc<Slot<R>>)> {
        self.snapshot.load().by_port.iter().map(|(port, slot)| (*port, Arc::clone(slot))).collect()
    }

    /// The effective route table, sorted by prefix.
    pub(crate) fn prefixes(&self) -> Vec<(Prefix, Arc<Slot<R>>)> {
        let snapshot = self.snapshot.load();
        let mut prefixes: Vec<_> =
            snapshot.by_prefix.iter().map(|(prefix, slot)| (prefix.clone(), Arc::clone(slot))).collect();
        prefixes.sort_by(|(left, _), (right, _)| left.cmp(right));
        prefixes
    }

    /// Whether these entries could stand beside each other.
    ///
    /// # Errors
    /// When two plugins share a name, a route or a port.
    pub(super) fn check(plugins: &[SlotOptions]) -> Result<(), Overlap> {
        Self::new(plugins.to_vec()).map(drop)
    }

    /// Takes these slots in the place of all others, in one step: a request finds the old ones or the new ones. Nothing
    /// changes when they are refused.
    ///
    /// # Errors
    /// As [`Registry::check`].
    pub(super) fn seat(&self, slots: Vec<Arc<Slot<R>>>) -> Result<(), Overlap> {
        self.snapshot.store(Arc::new(Snapshot::new(slots)?));
        Ok(())
    }

    /// Takes one more slot.
    ///
    /// # Errors
    /// As [`Registry::check`].
    pub(super) fn add(&self, slot: Arc<Slot<R>>) -> Result<(), Overlap> {
        let mut slots = self.slots();
        slots.push(slot);
        self.seat(slots)
    }
}

impl<R> Snapshot<R> {
    fn new(slots: Vec<Arc<Slot<R>>>) -> Result<Self, Overlap> {
        let mut snapshot =
            Self { by_prefix: HashMap::new(), segments_max: 0, by_name: BTreeMap::new(), by_port: BTreeMap::new() };
        for slot in slots {
            let options = slot.options();
            let name = slot.name();
            for prefix in &options.prefixes {
                snapshot.segments_max = snapshot.segments_max.max(prefix.segments());
                if let Some(other) = snapshot.by_prefix.insert(prefix.clone(), Arc::clone(&slot)) {
                    let (first, second) = (other.name().to_string(), name.to_string());
                    return Err(Overlap::Route { prefix: prefix.to_string(), first, second });
                }
            }
            if let Some(port) = options.port
                && let Some(other) = snapshot.by_port.insert(port, Arc::clone(&slot))
            {
                let (first, second) = (other.name().to_string(), name.to_string());
                return Err(Overlap::Port { port, first, second });
            }
            if snapshot.by_name.insert(Arc::clone(name), Arc::clone(&slot)).is_some() {
                return Err(Overlap::Name(name.to_string()));
            }
        }
        Ok(snapshot)
    }

    fn longest(&self, path: &str) -> Option<(&Prefix, &Arc<Slot<R>>)> {
        prefix::ends(path, self.segments_max)
            .filter_map(|end| path.get(..end))
            .chain(std::iter::once("/"))
            .find_map(|candidate| self.by_prefix.get_key_value(candidate))
    }
}

#[cfg(test)]
mod tests;
