//! What requests to one build came to: how many, how they ended, how long they took.
//!
//! The one place that status, the watch after a swap, canaries and metrics read. Counting costs a handful of atomic
//! additions and never waits; a reading is a copy, so that two of them give what happened in between.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::recent::Recent;

/// Steps of the histogram for each doubling of the time: a value is known to a quarter of itself.
const STEPS: usize = 4;
/// Doublings from one microsecond on; the last step takes everything above 18 minutes.
const DOUBLINGS: usize = 30;
const BUCKETS: usize = STEPS * DOUBLINGS;

/// The counters of one build.
#[derive(Debug)]
pub(crate) struct Meter {
    /// By the hundreds of the status: 1 to 5; 0 for those whose client did not wait.
    classes: [AtomicU64; 6],
    failures: AtomicU64,
    total_us: AtomicU64,
    buckets: Box<[AtomicU64]>,
    recent: Recent,
}

/// The counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// By the hundreds of the status: 1 to 5; 0 for those whose client did not wait.
    pub classes: [u64; 6],
    /// Answers that are the build's fault: 5xx but 501, which is a deliberate answer.
    pub failures: u64,
    /// Microseconds of all requests together.
    pub total_us: u64,
    buckets: Vec<u64>,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            classes: Default::default(),
            failures: AtomicU64::new(0),
            total_us: AtomicU64::new(0),
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            recent: Recent::default(),
        }
    }
}

impl Meter {
    /// Notes one request: the status its client was given, or none when the client had gone before.
    #[cfg(test)]
    pub(crate) fn note(&self, status: Option<u16>, took: Duration) {
        self.note_at(status, took, Instant::now());
    }

    /// The same for who has just looked at the clock: every look costs a request as much as all of this.
    pub(crate) fn note_at(&self, status: Option<u16>, took: Duration, now: Instant) {
        let class = status.map_or(0, |status| usize::from(status / 100).min(5));
        if let Some(counter) = self.classes.get(class) {
            counter.fetch_add(1, Relaxed);
        }
        if status.is_some_and(|status| status >= 500 && status != 501) {
            self.failures.fetch_add(1, Relaxed);
        }
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.total_us.fetch_add(took_us, Relaxed);
        if let Some(bucket) = self.buckets.get(bucket_of(took_us)) {
            bucket.fetch_add(1, Relaxed);
        }
        self.recent.add(now, 1);
    }

    /// A copy of the counters.
    pub(crate) fn reading(&self) -> Reading {
        let mut reading = Reading {
            failures: self.failures.load(Relaxed),
            total_us: self.total_us.load(Relaxed),
            buckets: self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect(),
            ..Reading::default()
        };
        for (class, counter) in reading.classes.iter_mut().zip(&self.classes) {
            *class = counter.load(Relaxed);
        }
        reading
    }

    /// Requests a second over the last ten.
    pub(crate) fn rate(&self) -> f64 {
        self.recent.per_second()
    }
}

impl Reading {
    /// How many requests there were.
    pub(crate) fn requests(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// What happened between `earlier` and this reading.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let mut between = self.clone();
        for (class, before) in between.classes.iter_mut().zip(&earlier.classes) {
            *class = class.saturating_sub(*before);
        }
        for (bucket, before) in between.buckets.iter_mut().zip(&earlier.buckets) {
            *bucket = bucket.saturating_sub(*before);
        }
        between.failures = between.failures.saturating_sub(earlier.failures);
        between.total_us = between.total_us.saturating_sub(earlier.total_us);
        between
    }

    /// The time within which the share `quantile` (0 to 1) of the requests ended, in microseconds: the upper end of its
    /// step. None without a request.
    pub(crate) fn quantile_us(&self, quantile: f64) -> Option<u64> {
        let all: u64 = self.buckets.iter().sum();
        let wanted = ((all as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        self.buckets.iter().enumerate().find_map(|(index, count)| {
            seen += count;
            (seen >= wanted && all > 0).then(|| upper_end(index))
        })
    }

    /// How many requests took longer than `limit_us`, as far as the steps tell.
    pub(crate) fn slower_than(&self, limit_us: u64) -> u64 {
        self.buckets.iter().skip(bucket_of(limit_us) + 1).sum()
    }

    /// Upper end in microseconds and number of requests up to it, for each step that has any: a cumulative histogram.
    pub(crate) fn histogram(&self) -> Vec<(u64, u64)> {
        let mut seen = 0;
        let steps = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        steps
            .map(|(index, count)| {
                seen += count;
                (upper_end(index), seen)
            })
            .collect()
    }
}

fn bucket_of(microseconds: u64) -> usize {
    let value = microseconds.max(1);
    let doubling = value.ilog2();
    // The two bits below the highest one say which quarter it is.
    let step = if doubling >= 2 { (value >> (doubling - 2)) & 3 } else { (value << (2 - doubling)) & 3 };
    (doubling as usize * STEPS + step as usize).min(BUCKETS - 1)
}

/// The first value, in microseconds, that is above a step.
fn upper_end(index: usize) -> u64 {
    let (doubling, step) = (index / STEPS, (index % STEPS) as u64);
    let quarters = STEPS as u64 + step + 1;
    if doubling >= 2 { quarters << (doubling - 2) } else { (quarters >> (2 - doubling)).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_in_its_step() {
        for value in [0_u64, 1, 2, 3, 4, 5, 7, 8, 9, 100, 1_000, 12_345, 1_000_000, 900_000_000] {
            let index = bucket_of(value);
            assert!(upper_end(index) >= value.max(1), "{value} is above its step {index}");
            assert!(index == 0 || upper_end(index - 1) <= value.max(1), "{value} is below its step {index}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn failures_are_the_builds_and_a_difference_is_what_lies_between() {
        let meter = Meter::default();
        for status in [200, 404, 500, 501, 503] {
            meter.note(Some(status), Duration::from_millis(1));
        }
        let before = meter.reading();
        assert_eq!((before.requests(), before.failures, before.classes), (5, 2, [0, 0, 1, 0, 1, 3]));
        meter.note(None, Duration::from_millis(100));
        let between = meter.reading().since(&before);
        assert_eq!((between.requests(), between.failures, between.classes[0]), (1, 0, 1));
        assert_eq!(between.slower_than(50_000), 1);
    }

    #[test]
    fn quantiles_are_right_to_a_quarter() {
        let meter = Meter::default();
        assert_eq!(meter.reading().quantile_us(0.5), None);
        for milliseconds in 1..=100 {
            meter.note(Some(200), Duration::from_millis(milliseconds));
        }
        let reading = meter.reading();
        for (quantile, exact) in [(0.5, 50_000), (0.99, 99_000)] {
            let found = reading.quantile_us(quantile).unwrap();
            assert!((exact..=exact * 5 / 4 + 1).contains(&found), "{quantile}: {found}");
        }
        assert_eq!(reading.histogram().last().unwrap().1, 100);
    }
}
