//! The slow lane: where a guest goes on that has computed for longer than a tick.
//!
//! A call begins in the task of its request, because most calls are over before a switch of threads would pay. One that
//! computes on yields at every tick, but it is soon back, and a few of those are always in front of everybody else. So it
//! goes on in threads of the lowest priority: the system gives them what the others leave. What a failed guest leaves
//! behind is cleared away there too.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio_util::task::AbortOnDropHandle;

use super::usage::Usage;
use super::{CallError, EPOCH_TICK, PrepareError};

/// A turn of at least this length, ended by a tick, shows that the guest computes.
const TURN_MAX: Duration = Duration::from_micros(EPOCH_TICK.as_micros() as u64 / 2);
/// The lowest priority there is.
const NICE: i32 = 19;

/// A guest's run, whole: it owns all it needs.
pub(super) type Run<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Whether a tick has ended the guest's present turn: set by the store, read and cleared by the lane.
pub(super) type Ticked = Arc<AtomicBool>;

/// Threads of the lowest priority, one a core.
pub(super) struct SlowLane {
    /// None only while it is dropped.
    runtime: Option<Runtime>,
}

impl SlowLane {
    /// Starts its threads.
    ///
    /// # Errors
    /// `Unavailable` when the system gives no more threads.
    pub(super) fn start() -> Result<Self, PrepareError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("slow-lane")
            .on_thread_start(|| {
                // Without it the lane is only another runtime, which is still better than none.
                if let Err(error) = rustix::process::nice(NICE) {
                    tracing::debug!(%error, "a thread of the slow lane kept its priority");
                }
            })
            .enable_all()
            .build()
            .map_err(|error| PrepareError::Unavailable(format!("the slow lane could not start: {error}")))?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Runs a guest: here as long as it is quick, aside from then on, or from the beginning where that is to be expected.
    /// What it takes is noted in `usage`. Dropping the future ends the guest at its next tick.
    ///
    /// # Errors
    /// `Cancelled` when the host ends meanwhile.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        ticked: &AtomicBool,
        begins_aside: bool,
        usage: &Arc<Usage>,
        mut run: Run<T>,
    ) -> Result<T, CallError> {
        ticked.store(false, Ordering::Relaxed);
        if begins_aside {
            return self.aside(usage, run).await;
        }
        let ended = std::future::poll_fn(|context| {
            let began = Instant::now();
            let polled = run.as_mut().poll(context);
            let took = usage.note_since(began);
            match polled {
                Poll::Ready(value) => Poll::Ready(Some(value)),
                // Yielded by the tick, and not because it waits for something.
                Poll::Pending if ticked.swap(false, Ordering::Relaxed) && took >= TURN_MAX => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        });
        match ended.await {
            Some(value) => Ok(value),
            None => self.aside(usage, run).await,
        }
    }

    async fn aside<T: Send + 'static>(&self, usage: &Arc<Usage>, run: Run<T>) -> Result<T, CallError> {
        let Some(runtime) = &self.runtime else { return Err(CallError::Cancelled) };
        let usage = Arc::clone(usage);
        let running = runtime.spawn(async move { usage.measure_exactly(run).await });
        AbortOnDropHandle::new(running).await.map_err(|_| CallError::Cancelled)
    }

    /// Drops something large when nobody waits.
    pub(super) fn clear_away(&self, remains: impl Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async move { drop(remains) });
        }
    }
}

impl Drop for SlowLane {
    fn drop(&mut self) {
        // A runtime must not be awaited where others run.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    /// Computes for `turns` turns, each ended by a tick, and says where it ended.
    fn computing(ticked: &Ticked, turns: u32) -> Run<String> {
        let ticked = Arc::clone(ticked);
        Box::pin(async move {
            for _ in 0..turns {
                let began = Instant::now();
                while began.elapsed() < EPOCH_TICK {
                    std::hint::spin_loop();
                }
                ticked.store(true, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
            thread()
        })
    }

    #[tokio::test]
    async fn a_guest_that_computes_goes_on_aside() {
        let (lane, ticked) = (SlowLane::start().unwrap(), Ticked::default());
        let usage = Arc::default();
        assert_eq!(lane.run(&ticked, false, &usage, computing(&ticked, 3)).await.unwrap(), "slow-lane");
        assert!(usage.seconds() >= EPOCH_TICK.as_secs_f64(), "the turn before it went aside counts");
    }

    #[tokio::test]
    async fn a_guest_that_is_expected_to_begins_aside() {
        let (lane, ticked) = (SlowLane::start().unwrap(), Ticked::default());
        assert_eq!(lane.run(&ticked, true, &Arc::default(), computing(&ticked, 0)).await.unwrap(), "slow-lane");
    }

    #[tokio::test]
    async fn a_guest_that_waits_stays_where_it_is() {
        let (lane, ticked) = (SlowLane::start().unwrap(), Ticked::default());
        let here = thread();
        let waiting = Box::pin(async {
            tokio::time::sleep(EPOCH_TICK * 3).await;
            thread()
        });
        assert_eq!(lane.run(&ticked, false, &Arc::default(), waiting).await.unwrap(), here);
        assert_eq!(lane.run(&ticked, false, &Arc::default(), computing(&ticked, 0)).await.unwrap(), here);
    }

    #[tokio::test]
    async fn a_guest_that_nobody_waits_for_any_more_is_ended() {
        let (lane, ticked) = (SlowLane::start().unwrap(), Ticked::default());
        let held = Arc::new(());
        let holding = {
            let (held, endless) = (Arc::clone(&held), computing(&ticked, u32::MAX));
            Box::pin(async move {
                let _held = held;
                endless.await
            })
        };
        assert!(
            tokio::time::timeout(EPOCH_TICK * 10, lane.run(&ticked, false, &Arc::default(), holding)).await.is_err()
        );
        for _ in 0..600 {
            if Arc::strong_count(&held) == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it runs on");
    }
}
