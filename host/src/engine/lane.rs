//! The lanes beside the tasks of requests: the slow one, where a guest goes on that has computed for longer than a tick, and
//! the last one for builds in trouble.
//!
//! A call begins in the task of its request, because most calls are over before a switch of threads would pay. One that
//! computes on yields at every tick, but it is soon back, and a few of those are always in front of everybody else. So it
//! goes on in threads of the lowest priority: the system gives them what the others leave.
//!
//! The lowest priority still keeps a processor for a slice of a few milliseconds once it has it, and what a guest in trouble
//! does, filling its memory and losing it, comes in just such pieces. So a build that fails again and again has threads that
//! are idle to the system: whoever else wakes takes the processor from them at once (sched(7), `SCHED_IDLE`). What a failed
//! guest leaves behind is cleared away there too. On a machine without a moment to spare such threads get next to nothing, so
//! what is not over there after a while goes on in the slow lane, which has its small share: a build that is well again can
//! show it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio_util::task::AbortOnDropHandle;

use super::usage::Usage;
use super::{CallError, EPOCH_TICK, PrepareError};

/// A turn of at least this length, ended by a tick, shows that the guest computes.
const TURN_MAX: Duration = Duration::from_micros(EPOCH_TICK.as_micros() as u64 / 2);
/// How long a run stays in the last lane.
const LAST_MAX: Duration = Duration::from_millis(250);
/// The lowest priority there is.
const NICE: i32 = 19;

/// A guest's run, whole: it owns all it needs.
pub(super) type Run<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Whether a tick has ended the guest's present turn: set by the store, read and cleared by the lane.
pub(super) type Ticked = Arc<AtomicBool>;

/// Threads that make room for others, one a core.
struct Threads {
    /// None only while they are dropped.
    runtime: Option<Runtime>,
}

/// A run in the last lane, which can be called away from there.
struct Passing<T> {
    /// None once it has left.
    run: Mutex<Option<Run<T>>>,
    is_called: AtomicBool,
}

/// How a run's time in the last lane ended.
enum Passed<T> {
    Ended(T),
    /// It was called away, and goes on elsewhere.
    Left(Run<T>),
    /// It was taken away before its turn came.
    Taken,
}

/// Both lanes.
pub(super) struct Lanes {
    slow: Threads,
    last: Threads,
}

impl Threads {
    /// Starts threads that lower themselves. Without that the lane is only another runtime, which is still better than none.
    fn start(name: &str, lower: fn() -> Result<(), String>) -> Result<Self, PrepareError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name(name)
            .on_thread_start(move || {
                if let Err(error) = lower() {
                    tracing::debug!(%error, "a thread of a lane kept its priority");
                }
            })
            .enable_all()
            .build()
            .map_err(|error| PrepareError::Unavailable(format!("the {name} could not start: {error}")))?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Runs a guest here. Dropping the handle ends it at its next tick.
    fn spawn<T: Send + 'static>(
        &self,
        usage: &Arc<Usage>,
        run: impl Future<Output = T> + Send + 'static,
    ) -> Result<AbortOnDropHandle<T>, CallError> {
        let runtime = self.runtime.as_ref().ok_or(CallError::Cancelled)?;
        let usage = Arc::clone(usage);
        Ok(AbortOnDropHandle::new(runtime.spawn(async move { usage.measure_exactly(run).await })))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A runtime must not be awaited where others run.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The calling thread gets the lowest priority.
fn be_slow() -> Result<(), String> {
    rustix::process::nice(NICE).map(drop).map_err(|error| error.to_string())
}

/// The calling thread makes room for every other one at once; where the system cannot do that, it gets the lowest priority.
fn be_last() -> Result<(), String> {
    #[cfg(target_os = "linux")]
    {
        use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};
        let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let thread = thread_priority::thread_native_id();
        if thread_priority::set_thread_priority_and_policy(thread, ThreadPriority::Min, policy).is_ok() {
            return Ok(());
        }
    }
    be_slow()
}

impl<T> Passing<T> {
    fn poll(&self, context: &mut Context<'_>) -> Poll<Passed<T>> {
        let mut place = self.run.lock();
        let Some(mut run) = place.take() else { return Poll::Ready(Passed::Taken) };
        if self.is_called.load(Ordering::Acquire) {
            return Poll::Ready(Passed::Left(run));
        }
        match run.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Passed::Ended(value)),
            Poll::Pending => {
                *place = Some(run);
                Poll::Pending
            }
        }
    }

    /// Calls the run away, and takes it where it is not under way at this moment. Never waits for a thread of the last lane,
    /// which may be waiting for everybody else.
    fn call(&self) -> Option<Run<T>> {
        self.is_called.store(true, Ordering::Release);
        self.run.try_lock()?.take()
    }
}

impl Lanes {
    /// Starts the threads.
    ///
    /// # Errors
    /// `Unavailable` when the system gives no more threads.
    pub(super) fn start() -> Result<Self, PrepareError> {
        Ok(Self { slow: Threads::start("slow-lane", be_slow)?, last: Threads::start("last-lane", be_last)? })
    }

    /// Runs a guest: here as long as it is quick and in the slow lane from then on, or in the last lane from the beginning
    /// where its build is in trouble. What it takes is noted in `usage`. Dropping the future ends the guest at its next tick.
    ///
    /// # Errors
    /// `Cancelled` when the host ends meanwhile.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        ticked: &AtomicBool,
        is_in_trouble: bool,
        usage: &Arc<Usage>,
        mut run: Run<T>,
    ) -> Result<T, CallError> {
        ticked.store(false, Ordering::Relaxed);
        if is_in_trouble {
            return self.run_last(usage, run).await;
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
            None => self.run_slowly(usage, run).await,
        }
    }

    async fn run_slowly<T: Send + 'static>(&self, usage: &Arc<Usage>, run: Run<T>) -> Result<T, CallError> {
        self.slow.spawn(usage, run)?.await.map_err(|_| CallError::Cancelled)
    }

    async fn run_last<T: Send + 'static>(&self, usage: &Arc<Usage>, run: Run<T>) -> Result<T, CallError> {
        let passing = Arc::new(Passing { run: Mutex::new(Some(run)), is_called: AtomicBool::new(false) });
        // The lane alone keeps it: where the call is given up, it is dropped there.
        let outside = Arc::downgrade(&passing);
        let mut running = self.last.spawn(usage, std::future::poll_fn(move |context| passing.poll(context)))?;
        let passed = match tokio::time::timeout(LAST_MAX, &mut running).await {
            Ok(passed) => passed,
            Err(_) => match outside.upgrade().and_then(|passing| passing.call()) {
                Some(run) => Ok(Passed::Left(run)),
                None => running.await,
            },
        };
        match passed {
            Ok(Passed::Ended(value)) => Ok(value),
            Ok(Passed::Left(run)) => self.run_slowly(usage, run).await,
            Ok(Passed::Taken) | Err(_) => Err(CallError::Cancelled),
        }
    }

    /// Drops something large when nobody waits.
    pub(super) fn clear_away(&self, remains: impl Send + 'static) {
        if let Some(runtime) = &self.last.runtime {
            runtime.spawn(async move { drop(remains) });
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
        let (lane, ticked) = (Lanes::start().unwrap(), Ticked::default());
        let usage = Arc::default();
        assert_eq!(lane.run(&ticked, false, &usage, computing(&ticked, 3)).await.unwrap(), "slow-lane");
        assert!(usage.seconds() >= EPOCH_TICK.as_secs_f64(), "the turn before it went aside counts");
    }

    #[tokio::test]
    async fn a_guest_in_trouble_makes_room_for_everybody() {
        let (lane, ticked) = (Lanes::start().unwrap(), Ticked::default());
        assert_eq!(lane.run(&ticked, true, &Arc::default(), computing(&ticked, 0)).await.unwrap(), "last-lane");
    }

    #[tokio::test]
    async fn what_takes_long_in_the_last_lane_goes_on_in_the_slow_one() {
        let (lane, ticked) = (Lanes::start().unwrap(), Ticked::default());
        // Whether it computes or waits.
        let computing = computing(&ticked, 2 * u32::try_from(LAST_MAX.as_millis() / EPOCH_TICK.as_millis()).unwrap());
        let waiting: Run<String> = Box::pin(async {
            tokio::time::sleep(LAST_MAX * 2).await;
            thread()
        });
        for run in [computing, waiting] {
            assert_eq!(lane.run(&ticked, true, &Arc::default(), run).await.unwrap(), "slow-lane");
        }
    }

    #[tokio::test]
    async fn what_had_no_turn_in_the_last_lane_is_taken_from_there() {
        let passing =
            Passing { run: Mutex::new(Some(Box::pin(async { 7 }) as Run<i32>)), is_called: AtomicBool::new(false) };
        assert_eq!(passing.call().unwrap().await, 7);
        let late = std::future::poll_fn(|context| passing.poll(context)).await;
        assert!(matches!(late, Passed::Taken));
        // One that is being polled comes by itself.
        let passing =
            Passing { run: Mutex::new(Some(Box::pin(async { 7 }) as Run<i32>)), is_called: AtomicBool::new(false) };
        let held = passing.run.lock();
        assert!(passing.call().is_none());
        drop(held);
        let Passed::Left(run) = std::future::poll_fn(|context| passing.poll(context)).await else {
            panic!("it stayed")
        };
        assert_eq!(run.await, 7);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn each_lane_has_its_threads_lowered() {
        let lane = Lanes::start().unwrap();
        for (threads, nice, policy) in [(&lane.slow, "19", "0"), (&lane.last, "0", "5")] {
            let stat = Box::pin(async { std::fs::read_to_string("/proc/thread-self/stat").unwrap() });
            let stat: String = threads.spawn(&Arc::default(), stat).unwrap().await.unwrap();
            // After the name in brackets the state is field 3, the niceness 19 and the policy 41 (proc_pid_stat(5)).
            let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
            assert_eq!((fields[16], fields[38]), (nice, policy), "{stat}");
        }
    }

    #[tokio::test]
    async fn a_guest_that_waits_stays_where_it_is() {
        let (lane, ticked) = (Lanes::start().unwrap(), Ticked::default());
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
        let (lane, ticked) = (Lanes::start().unwrap(), Ticked::default());
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
