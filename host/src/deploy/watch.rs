//! Whether a new build does worse than the one before it: failed requests, traps, and how long answers take.
//!
//! The verdict is on what was counted and nothing else; it must not be swayed by one unlucky request, nor by a machine
//! that stood still for a moment.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

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
/// Slow answers are those above so many times the old build's 99th percentile.
const SLOW_TIMES: u64 = 3;
/// Slow answers that are needed.
const SLOW_MIN: u64 = 5;
/// A few answers take much longer: by less than this it is the machine, which also has its moments.
const SLOW_TAIL: Slowness = Slowness { floor_us: 50_000, share: 0.01, looks: 3 };
/// The usual answer takes longer than the slowest did. This is how a fast build shows that it became slow, long before it
/// takes 50 ms; but a machine that is busy with something else makes every answer slower too, so it has to last.
const SLOW_MOST: Slowness = Slowness { floor_us: 5_000, share: 0.5, looks: 10 };
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

/// What a new build is compared with: what the one before it had done until then. Small enough to be recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Baseline {
    requests: u64,
    failures: u64,
    calls: u64,
    traps: u64,
    /// The 99th percentile of its answers in microseconds; none where there were too few.
    p99_us: Option<u64>,
}

impl From<&Observation> for Baseline {
    fn from(seen: &Observation) -> Self {
        let requests = seen.reading.requests();
        Self {
            requests,
            failures: seen.reading.failures,
            calls: seen.calls,
            traps: seen.traps,
            p99_us: seen.reading.quantile_us(0.99).filter(|_| requests >= TIMED_MIN),
        }
    }
}

/// A watch as it is recorded with its switch: what a restart, and every other host, goes on with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecordedWatch {
    pub revision: i64,
    /// The build it goes back to by itself.
    pub previous: i64,
    pub until: DateTime<Utc>,
    /// How long the whole of it takes, in milliseconds.
    pub window_ms: u64,
    pub baseline: Baseline,
}

/// When answers are found to be slow.
struct Slowness {
    /// By how much they are above the old build's 99th percentile at least, in microseconds.
    floor_us: u64,
    /// More than this share of them is.
    share: f64,
    /// In so many looks in a row.
    looks: u32,
}

impl Slowness {
    fn limit_us(&self, old_us: u64) -> u64 {
        old_us.saturating_mul(SLOW_TIMES).max(old_us.saturating_add(self.floor_us))
    }

    fn is_in(&self, reading: &Reading, old_us: u64) -> bool {
        reading.slower_than(self.limit_us(old_us)) as f64 > reading.requests() as f64 * self.share
    }

    /// Judges one more look, of which `slice` is what came since the last and `all` everything. `looks` counts those in a
    /// row that found it slow.
    fn lasts(&self, slice: &Reading, all: &Reading, old_us: u64, looks: &mut u32) -> bool {
        *looks = if self.is_in(slice, old_us) { *looks + 1 } else { 0 };
        let has_enough = all.requests() >= TIMED_MIN && all.slower_than(self.limit_us(old_us)) >= SLOW_MIN;
        *looks >= self.looks && has_enough && self.is_in(all, old_us)
    }
}

/// Looks at a new build again and again.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    last: Option<Reading>,
    /// Looks in a row that found the tail slow, and most of the answers.
    tail_looks: u32,
    most_looks: u32,
}

impl Watcher {
    /// Judges what the new build has done so far against the old one.
    ///
    /// # Errors
    /// Why it is worse, as a sentence.
    pub(super) fn look(&mut self, new: &Observation, old: &Baseline) -> Result<(), String> {
        judge_failures(new, old)?;
        judge_traps(new, old)?;
        self.judge_times(&new.reading, old)
    }

    /// Slow in several looks in a row: a pause of the whole machine ends sooner.
    fn judge_times(&mut self, new: &Reading, old: &Baseline) -> Result<(), String> {
        let last = self.last.replace(new.clone());
        // A build that has just come has cold instances, and a look without a request says nothing.
        let Some(slice) = last.map(|last| new.since(&last)).filter(|slice| slice.requests() > 0) else { return Ok(()) };
        let Some(old_us) = old.p99_us else { return Ok(()) };
        let has_slow_tail = SLOW_TAIL.lasts(&slice, new, old_us, &mut self.tail_looks);
        let is_mostly_slow = SLOW_MOST.lasts(&slice, new, old_us, &mut self.most_looks);
        let old_ms = old_us.div_ceil(1_000);
        if has_slow_tail {
            let new_ms = new.quantile_us(0.99).unwrap_or_default() / 1_000;
            return Err(format!("99 of 100 requests took up to {new_ms} ms, with the build before it {old_ms} ms"));
        }
        if is_mostly_slow {
            let limit_ms = SLOW_MOST.limit_us(old_us) / 1_000;
            return Err(format!(
                "most requests took more than {limit_ms} ms, with the build before it 99 of 100 took up to {old_ms} ms"
            ));
        }
        Ok(())
    }
}

/// How often to look within a window or a step.
pub(super) fn look_interval(window: Duration) -> Duration {
    (window / 20).clamp(LOOK_MIN, LOOK_MAX)
}

fn judge_failures(new: &Observation, old: &Baseline) -> Result<(), String> {
    let (failed, all) = (new.reading.failures, new.reading.requests());
    if failed < FAILURES_MIN || at_least(failed, all) <= share(old.failures, old.requests) + FAILURE_MARGIN {
        return Ok(());
    }
    Err(format!("{failed} of {all} requests failed, with the build before it {} of {}", old.failures, old.requests))
}

fn judge_traps(new: &Observation, old: &Baseline) -> Result<(), String> {
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

    /// What the build before it did, as it is compared with.
    fn before(good: u64, bad: u64, took: Duration) -> Baseline {
        Baseline::from(&seen(good, bad, took))
    }

    const FAST: Duration = Duration::from_millis(5);

    #[test]
    fn a_fifth_of_failures_is_worse_and_one_of_them_is_not() {
        let old = before(1_000, 0, FAST);
        assert!(Watcher::default().look(&seen(20, 5, FAST), &old).is_err());
        assert!(Watcher::default().look(&seen(0, 3, FAST), &old).is_err(), "nothing but failures");
        for (good, bad) in [(100, 0), (4, 1), (1, 2), (500, 3)] {
            assert_eq!(Watcher::default().look(&seen(good, bad, FAST), &old), Ok(()), "{bad} of {}", good + bad);
        }
    }

    #[test]
    fn a_build_is_not_blamed_for_what_the_old_one_did_as_well() {
        let old = before(800, 200, FAST);
        assert_eq!(Watcher::default().look(&seen(80, 20, FAST), &old), Ok(()));
        assert!(Watcher::default().look(&seen(40, 60, FAST), &old).is_err());
    }

    #[test]
    fn traps_count_whatever_they_are_called_for() {
        let old = Baseline::from(&Observation { calls: 1_000, ..seen(10, 0, FAST) });
        let new = Observation { calls: 300, traps: 5, ..seen(10, 0, FAST) };
        assert!(Watcher::default().look(&new, &old).unwrap_err().contains("5 of 300 calls trapped"));
        assert_eq!(Watcher::default().look(&Observation { traps: 2, ..new }, &old), Ok(()));
    }

    /// At which of 15 looks a build is found bad, each after 20 more requests: of `took` every `nth` one, the others of
    /// `usual`.
    fn found_at(old: &Baseline, usual: Duration, took: Duration, nth: u64) -> Option<u64> {
        let meter = Meter::default();
        let mut watcher = Watcher::default();
        (1..=15).find(|_| {
            (0..20).for_each(|number| meter.note(Some(200), if number % nth == 0 { took } else { usual }));
            let reading = meter.reading();
            watcher.look(&Observation { calls: reading.requests(), reading, traps: 0 }, old).is_err()
        })
    }

    #[test]
    fn ten_times_slower_is_worse_when_it_lasts() {
        let of = |usual| before(500, 0, usual);
        // By 50 ms and more a few slow answers are enough, and soon.
        let (usual, slow) = (Duration::from_millis(20), Duration::from_millis(200));
        assert_eq!(found_at(&of(usual), usual, slow, 1), Some(4));
        assert_eq!(found_at(&of(usual), usual, slow, 10), Some(4));
        // A fast build has to be slow as a rule, and for longer.
        for usual_us in [1_000, 2_000, 5_000] {
            let (usual, slow) = (Duration::from_micros(usual_us), Duration::from_micros(usual_us * 10));
            assert_eq!(found_at(&of(usual), usual, slow, 1), Some(11), "{usual:?}");
            assert_eq!(found_at(&of(usual), usual, slow, 4), None, "a quarter of them: {usual:?}");
        }
        // By less than that it may be the machine.
        assert_eq!(found_at(&of(FAST), FAST, FAST * 2, 1), None);
        let usual = Duration::from_micros(300);
        assert_eq!(found_at(&of(usual), usual, usual * 10, 1), None);
        // Nothing to compare with.
        assert_eq!(found_at(&before(19, 0, FAST), FAST, FAST * 100, 1), None);
    }

    #[test]
    fn a_pause_of_the_machine_is_not_the_builds() {
        let old = before(500, 0, FAST);
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
