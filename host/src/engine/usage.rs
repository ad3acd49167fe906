//! The processor time that a build's calls take.
//!
//! It is the time that threads of the host spend inside the guest's calls and in making its instances: the guest's own code,
//! and what the host does for it in the same thread. Waiting is not in it, and neither is what others do meanwhile, as a
//! database. Where a call begins, it is read from the wall clock, since most calls are over before a system call would pay:
//! a thread that the system takes the processor from counts on. In the lanes beside, whose threads always make room for
//! others, it is the thread's own clock.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::telemetry::recent::Recent;

/// What one build has used.
#[derive(Debug, Default)]
pub(super) struct Usage {
    total_ns: AtomicU64,
    recent_ns: Recent,
}

impl Usage {
    /// Notes a turn of a call that began at `began` and is over now, and says how long it was.
    pub(super) fn note_since(&self, began: Instant) -> Duration {
        let now = Instant::now();
        let took = now.saturating_duration_since(began);
        self.note(now, took);
        took
    }

    /// Runs a future and notes its turns by the wall clock.
    pub(super) async fn measure<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|context| {
            let began = Instant::now();
            let polled = future.as_mut().poll(context);
            self.note_since(began);
            polled
        })
        .await
    }

    /// Runs a future and notes its turns by the clock of the thread, which costs two system calls a turn.
    pub(super) async fn measure_exactly<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|context| {
            let began = thread_time();
            let polled = future.as_mut().poll(context);
            self.note(Instant::now(), thread_time().saturating_sub(began));
            polled
        })
        .await
    }

    /// Seconds of processor time so far.
    pub(super) fn seconds(&self) -> f64 {
        Duration::from_nanos(self.total_ns.load(Relaxed)).as_secs_f64()
    }

    /// How many processors it keeps busy: the mean of the last ten seconds.
    pub(super) fn share(&self) -> f64 {
        self.recent_ns.per_second() / 1e9
    }

    fn note(&self, now: Instant, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.total_ns.fetch_add(took, Relaxed);
        self.recent_ns.add(now, took);
    }
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// Processor time of the whole process.
pub(crate) fn process_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: Duration = Duration::from_millis(20);

    /// Computes for a turn of this thread's own time, twice, and waits in between.
    async fn computing_and_waiting() {
        for _ in 0..2 {
            let began = thread_time();
            while thread_time() - began < TURN {
                std::hint::spin_loop();
            }
            tokio::time::sleep(TURN * 20).await;
        }
    }

    #[tokio::test]
    async fn computing_counts_and_waiting_does_not() {
        let (by_wall, by_thread) = (Usage::default(), Usage::default());
        by_wall.measure(computing_and_waiting()).await;
        by_thread.measure_exactly(computing_and_waiting()).await;
        let computed = TURN.as_secs_f64() * 2.0;
        // A machine that is busy stretches what the wall clock says, and never what the thread's own says.
        assert!(by_wall.seconds() >= computed, "{}", by_wall.seconds());
        assert!((computed..computed * 5.0).contains(&by_thread.seconds()), "{}", by_thread.seconds());
    }
}
