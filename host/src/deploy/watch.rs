//! Whether a new build does worse than the one before it: failed requests, traps, and how long answers take.
//!
//! The verdict is on what was counted and nothing else; it must not be swayed by one unlucky request, nor by a machine
//! that stood still for a moment.

use std::time::Duration;

use super::Build;
use crate::telemetry::meter::Reading;

/// Failures, or traps, that are needed before anything is concluded from them.
const FAILURES_MIN: u64 = 3;
/// How many more of a hundred requests may fail than with the old build.
const FAILURE_MARGIN: f64 = 0.02;
/// How many more of a thousand calls may trap than with the old build.
const TRAP_MARGIN: f64 = 0.001;
/// Requests that are needed before their times say anything.
const TIMED_MIN: u64 = 20;
/// Slow answers are those above so many times the old build's 99th percentile …
const SLOW_TIMES: u64 = 3;
/// … and at least so much above it: below that it is the machine.
const SLOW_FLOOR_US: u64 = 50_000;
/// The share of answers that the 99th percentile leaves out.
const SLOW_SHARE: f64 = 0.01;
/// Slow answers that are needed.
const SLOW_MIN: u64 = 5;
/// Looks in a row that must find it slow.
const SLOW_LOOKS: u32 = 3;
/// The 95% interval.
const Z: f64 = 1.96;
/// The shortest and the longest time between two looks.
const LOOK_MIN: Duration = Duration::from_millis(100);
const LOOK_MAX: Duration = Duration::from_secs(1);

/// What a build has done up to a moment, or between two.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observation {
    pub reading: Reading,
    /// Calls of any kind: requests, messages and ticks.
    pub calls: u64,
    pub traps: u64,
}

impl Observation {
    /// What a build has done so far.
    pub(super) fn of<B: Build>(build: &B) -> Self {
        let statistics = build.statistics();
        Self { reading: build.meter().reading(), calls: statistics.calls, traps: statistics.traps }
    }

    /// What happened between `earlier` and this one.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self {
            reading: self.reading.since(&earlier.reading),
            calls: self.calls.saturating_sub(earlier.calls),
            traps: self.traps.saturating_sub(earlier.traps),
        }
    }
}

/// Looks at a new build again and again.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    last: Option<Observation>,
    slow_looks: u32,
}

impl Watcher {
    /// Judges what the new build has done so far against the old one.
    ///
    /// # Errors
    /// Why it is worse, as a sentence.
    pub(super) fn look(&mut self, new: &Observation, old: &Observation) -> Result<(), String> {
        judge_failures(new, old)?;
        judge_traps(new, old)?;
        self.judge_times(new, old)
    }

    /// Slow in several looks in a row: a pause of the whole machine ends sooner.
    fn judge_times(&mut self, new: &Observation, old: &Observation) -> Result<(), String> {
        let slice = new.reading.since(&self.last.as_ref().map(|last| last.reading.clone()).unwrap_or_default());
        let is_first = self.last.replace(new.clone()).is_none();
        let Some(old_us) = old.reading.quantile_us(0.99).filter(|_| old.reading.requests() >= TIMED_MIN) else {
            return Ok(());
        };
        let limit_us = (old_us * SLOW_TIMES).max(old_us + SLOW_FLOOR_US);
        // A build that has just come has cold instances, and a look without a request says nothing.
        if is_first || slice.requests() == 0 {
            return Ok(());
        }
        self.slow_looks = if is_slow(&slice, limit_us) { self.slow_looks + 1 } else { 0 };
        let slow = new.reading.slower_than(limit_us);
        let has_enough = new.reading.requests() >= TIMED_MIN && slow >= SLOW_MIN;
        if self.slow_looks < SLOW_LOOKS || !has_enough || !is_slow(&new.reading, limit_us) {
            return Ok(());
        }
        let new_us = new.reading.quantile_us(0.99).unwrap_or_default();
        Err(format!(
            "99 of 100 requests took up to {} ms, with the build before it {} ms",
            new_us / 1_000,
            old_us / 1_000
        ))
    }
}

/// How often to look within a window or a step.
pub(super) fn look_interval(window: Duration) -> Duration {
    (window / 20).clamp(LOOK_MIN, LOOK_MAX)
}

fn is_slow(reading: &Reading, limit_us: u64) -> bool {
    reading.slower_than(limit_us) as f64 > reading.requests() as f64 * SLOW_SHARE
}

fn judge_failures(new: &Observation, old: &Observation) -> Result<(), String> {
    let (failed, all) = (new.reading.failures, new.reading.requests());
    let (failed_before, all_before) = (old.reading.failures, old.reading.requests());
    if failed < FAILURES_MIN || at_least(failed, all) <= share(failed_before, all_before) + FAILURE_MARGIN {
        return Ok(());
    }
    Err(format!("{failed} of {all} requests failed, with the build before it {failed_before} of {all_before}"))
}

fn judge_traps(new: &Observation, old: &Observation) -> Result<(), String> {
    let before = share(old.traps, old.calls);
    if new.traps < FAILURES_MIN || at_least(new.traps, new.calls) <= before + TRAP_MARGIN {
        return Ok(());
    }
    Err(format!(
        "{} of {} calls trapped, with the build before it {} of {}",
        new.traps, new.calls, old.traps, old.calls
    ))
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The lower end of Wilson's interval: the share that is there at least, given how few were seen.
fn at_least(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    let (count, rate) = (whole as f64, share(part, whole).min(1.0));
    let square = Z * Z;
    let centre = rate + square / (2.0 * count);
    let spread = Z * (rate * (1.0 - rate) / count + square / (4.0 * count * count)).sqrt();
    ((centre - spread) / (1.0 + square / count)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::meter::Meter;

    /// `good` answers of `took` and `bad` ones of 500.
    fn seen(good: u64, bad: u64, took: Duration) -> Observation {
        let meter = Meter::default();
        (0..good).for_each(|_| meter.note(Some(200), took));
        (0..bad).for_each(|_| meter.note(Some(500), took));
        Observation { reading: meter.reading(), calls: good + bad, traps: 0 }
    }

    const FAST: Duration = Duration::from_millis(5);

    #[test]
    fn a_fifth_of_failures_is_worse_and_one_of_them_is_not() {
        let old = seen(1_000, 0, FAST);
        assert!(Watcher::default().look(&seen(20, 5, FAST), &old).is_err());
        assert!(Watcher::default().look(&seen(0, 3, FAST), &old).is_err(), "nothing but failures");
        for (good, bad) in [(100, 0), (4, 1), (1, 2), (500, 3)] {
            assert_eq!(Watcher::default().look(&seen(good, bad, FAST), &old), Ok(()), "{bad} of {}", good + bad);
        }
    }

    #[test]
    fn a_build_is_not_blamed_for_what_the_old_one_did_as_well() {
        let old = seen(800, 200, FAST);
        assert_eq!(Watcher::default().look(&seen(80, 20, FAST), &old), Ok(()));
        assert!(Watcher::default().look(&seen(40, 60, FAST), &old).is_err());
    }

    #[test]
    fn traps_count_whatever_they_are_called_for() {
        let old = Observation { calls: 1_000, ..seen(10, 0, FAST) };
        let new = Observation { calls: 300, traps: 5, ..seen(10, 0, FAST) };
        assert!(Watcher::default().look(&new, &old).unwrap_err().contains("5 of 300 calls trapped"));
        assert_eq!(Watcher::default().look(&Observation { traps: 2, ..new }, &old), Ok(()));
    }

    #[test]
    fn ten_times_slower_is_worse_when_it_lasts() {
        let old = seen(500, 0, Duration::from_millis(20));
        let mut watcher = Watcher::default();
        let looks: Vec<bool> =
            (1..=5).map(|look| watcher.look(&seen(look * 20, 0, Duration::from_millis(200)), &old).is_err()).collect();
        assert_eq!(looks, [false, false, false, true, true]);
    }

    #[test]
    fn a_pause_of_the_machine_is_not_the_builds() {
        let old = seen(500, 0, FAST);
        let meter = Meter::default();
        let mut watcher = Watcher::default();
        let mut look = |meter: &Meter| {
            let reading = meter.reading();
            watcher.look(&Observation { calls: reading.requests(), reading, traps: 0 }, &old)
        };
        (0..50).for_each(|_| meter.note(Some(200), FAST));
        assert_eq!(look(&meter), Ok(()));
        (0..32).for_each(|_| meter.note(Some(200), Duration::from_millis(900)));
        assert_eq!(look(&meter), Ok(()));
        for _ in 0..5 {
            (0..50).for_each(|_| meter.note(Some(200), FAST));
            assert_eq!(look(&meter), Ok(()));
        }
    }
}
