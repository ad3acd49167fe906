//! Amounts of the last ten seconds: one counter a second, each addition one atomic update that never waits.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Whole seconds over which the mean is taken.
const SECONDS: u64 = 10;
/// Seconds that are kept for it.
const SLOTS: usize = 16;
/// Bits of a slot that are the amount; the others say which second it is, and come round after half a year.
const AMOUNT_BITS: u32 = 40;
const AMOUNT_MAX: u64 = (1 << AMOUNT_BITS) - 1;
const SECOND_MAX: u64 = (1 << (u64::BITS - AMOUNT_BITS)) - 1;

/// What came up lately of something that is counted.
#[derive(Debug)]
pub(crate) struct Recent {
    started: Instant,
    slots: [AtomicU64; SLOTS],
}

impl Default for Recent {
    fn default() -> Self {
        Self { started: Instant::now(), slots: Default::default() }
    }
}

impl Recent {
    /// Adds to the present second. An amount beyond 2^40 in one second is cut off there.
    pub(crate) fn add(&self, now: Instant, amount: u64) {
        let now = now.saturating_duration_since(self.started).as_secs();
        let Some(slot) = self.slots.get((now % SLOTS as u64) as usize) else { return };
        let second = now & SECOND_MAX;
        let counted = slot.fetch_update(Relaxed, Relaxed, |packed| {
            let (of, before) = unpack(packed);
            let sum = if of == second { before.saturating_add(amount) } else { amount };
            Some((second << AMOUNT_BITS) | sum.min(AMOUNT_MAX))
        });
        // The update never refuses.
        debug_assert!(counted.is_ok());
    }

    /// The mean of a second, over the last ten that are over; over fewer at the beginning.
    pub(crate) fn per_second(&self) -> f64 {
        let now = self.started.elapsed().as_secs();
        let recent = |slot: &AtomicU64| {
            let (second, amount) = unpack(slot.load(Relaxed));
            let age = (now & SECOND_MAX).wrapping_sub(second) & SECOND_MAX;
            if (1..=SECONDS).contains(&age) { amount } else { 0 }
        };
        let sum: u64 = self.slots.iter().map(recent).sum();
        sum as f64 / SECONDS.min(now.max(1)) as f64
    }

    /// The same counters, as if they had been started earlier.
    #[cfg(test)]
    pub(crate) fn aged(self, by: std::time::Duration) -> Self {
        Self { started: self.started - by, ..self }
    }
}

fn unpack(packed: u64) -> (u64, u64) {
    (packed >> AMOUNT_BITS, packed & AMOUNT_MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_whole_seconds_that_are_over_count_and_only_the_last_ten() {
        let recent = Recent::default().aged(Duration::from_secs(5));
        for _ in 0..20 {
            recent.add(Instant::now(), 3);
        }
        assert!(recent.per_second() <= 12.0, "the present second is not over: {}", recent.per_second());
        let recent = recent.aged(Duration::from_secs(2));
        assert!((recent.per_second() - 60.0 / 7.0).abs() < 1.5, "{}", recent.per_second());
        let recent = recent.aged(Duration::from_secs(60));
        assert!(recent.per_second() == 0.0, "a minute later: {}", recent.per_second());
    }

    #[test]
    fn an_amount_that_is_too_large_does_not_spill_into_the_second() {
        let recent = Recent::default();
        recent.add(Instant::now(), u64::MAX);
        recent.add(Instant::now(), u64::MAX);
        let recent = recent.aged(Duration::from_secs(1));
        assert!(recent.per_second() <= 2.0 * AMOUNT_MAX as f64, "{}", recent.per_second());
    }
}
