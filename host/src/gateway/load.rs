//! How many requests are under way, and when one more is turned away at once rather than made to wait with the others.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Requests between their head and the head of their answer, where nothing else is said.
pub(crate) const IN_FLIGHT_DEFAULT: usize = 4096;

/// Counts requests.
#[derive(Debug)]
pub(super) struct Load {
    max: usize,
    in_flight: AtomicUsize,
    turned_away: AtomicU64,
}

/// A request's place; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place<'load>(&'load AtomicUsize);

impl Load {
    pub(super) fn new(max: usize) -> Self {
        Self { max, in_flight: AtomicUsize::new(0), turned_away: AtomicU64::new(0) }
    }

    /// A place for one more request, and whether there was one: without, only probes may go on.
    pub(super) fn enter(&self) -> (Place<'_>, bool) {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        (Place(&self.in_flight), before < self.max)
    }

    /// Notes a request that was turned away.
    pub(super) fn turn_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests under way.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Requests that were turned away so far.
    pub(super) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_too_many_is_seen_and_a_place_is_given_back() {
        let load = Load::new(1);
        let (first, fits) = load.enter();
        assert!(fits);
        let (second, fits) = load.enter();
        assert!(!fits);
        assert_eq!(load.in_flight(), 2);
        drop((first, second));
        assert!(load.enter().1);
        assert_eq!(load.in_flight(), 0);
    }
}
