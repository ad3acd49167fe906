//! Lets go of a connection on which nothing happens: no head that comes to its end, no answer under way.
//!
//! A deadline for every head is nearly always met; setting and removing it costs a request more than its routing does. So
//! one alarm a connection rings now and then and looks whether anything has happened since. It also sees a client that
//! never says a word, for whom no head has begun yet.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// What happens on one connection: written by its requests and its socket, read by its watchdog.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Requests that have begun.
    begun: AtomicU64,
    /// Requests whose answer has not been handed over whole.
    under_way: AtomicUsize,
    /// Writes that went through.
    written: AtomicU64,
    /// A write waits for the client, which has a limit of its own.
    is_stalled: AtomicBool,
    /// A request of HTTP/2 has begun.
    is_multiplexed: AtomicBool,
    /// Something came after the last whole head and its answer.
    has_more: AtomicBool,
    /// Nothing more is read: the client is told so instead.
    is_over: AtomicBool,
}

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on.
    Stay,
    /// End at once: nothing was asked.
    Go,
    /// End as HTTP/2 can: the client is told first, and nothing that it has just asked is lost.
    Leave,
    /// End with a word: a head has begun and did not come to its end. The next read says it.
    SayWhy,
}

/// Rings every `period`; a connection is idle for at least that long, and less than twice that, before it is let go.
pub(super) struct Watchdog {
    period: Duration,
    alarm: Pin<Box<Sleep>>,
    is_set: bool,
    has_left: bool,
    seen: (u64, u64),
}

impl Activity {
    /// A request has begun.
    pub(super) fn begin(&self, is_multiplexed: bool) {
        self.under_way.fetch_add(1, Relaxed);
        // Nobody needs the number, only that it changes: a lost one among several does no harm.
        self.begun.store(self.begun.load(Relaxed).wrapping_add(1), Relaxed);
        self.has_more.store(false, Relaxed);
        if is_multiplexed {
            self.is_multiplexed.store(true, Relaxed);
        }
    }

    /// Its answer was handed over whole, or will not be.
    pub(super) fn end(&self) {
        self.under_way.fetch_sub(1, Relaxed);
        // What came until now was its body.
        self.has_more.store(false, Relaxed);
    }

    /// Bytes came.
    pub(super) fn read(&self) {
        self.has_more.store(true, Relaxed);
    }

    /// Whether the next read is to end the connection with a word.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    /// Whether a head of HTTP/1.1 has begun and is not at its end.
    fn has_half_a_head(&self) -> bool {
        self.has_more.load(Relaxed) && !self.is_http_2()
    }

    /// HTTP/2 writes before anything is asked.
    fn is_http_2(&self) -> bool {
        self.is_multiplexed.load(Relaxed) || (self.begun.load(Relaxed) == 0 && self.written.load(Relaxed) > 0)
    }

    /// A write went through.
    pub(super) fn write(&self) {
        self.written.store(self.written.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// A write waits, or no longer.
    pub(super) fn stall(&self, is_stalled: bool) {
        self.is_stalled.store(is_stalled, Relaxed);
    }

    /// What HTTP/2 writes while nothing is under way are pings: a client that only answers them asks nothing.
    fn seen(&self) -> (u64, u64) {
        (self.begun.load(Relaxed), if self.is_http_2() { 0 } else { self.written.load(Relaxed) })
    }

    fn is_busy(&self) -> bool {
        self.under_way.load(Relaxed) > 0 || self.is_stalled.load(Relaxed)
    }
}

impl Watchdog {
    pub(super) fn new(period: Duration) -> Self {
        Self { period, alarm: Box::pin(tokio::time::sleep(period)), is_set: false, has_left: false, seen: (0, 0) }
    }

    /// Whether the connection may go on. To be asked at every poll of its task, before anything else.
    pub(super) fn judge(&mut self, activity: &Arc<Activity>, context: &mut Context<'_>) -> Verdict {
        // The task is always woken in the same way, so the alarm is polled only to set it.
        if self.is_set && !self.alarm.is_elapsed() {
            return Verdict::Stay;
        }
        let mut verdict = Verdict::Stay;
        if self.is_set {
            let seen = activity.seen();
            if seen == self.seen && !activity.is_busy() {
                if !activity.is_over() && activity.has_half_a_head() {
                    activity.is_over.store(true, Relaxed);
                    return Verdict::SayWhy;
                }
                // Who does not take the farewell in one more period goes without.
                if self.has_left || !activity.is_http_2() {
                    return Verdict::Go;
                }
                self.has_left = true;
                verdict = Verdict::Leave;
            }
            self.seen = seen;
            self.alarm.as_mut().reset(Instant::now() + self.period);
        }
        self.is_set = true;
        // Pending: the period has just begun.
        let _ = self.alarm.as_mut().poll(context);
        verdict
    }
}
