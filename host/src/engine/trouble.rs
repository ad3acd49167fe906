//! How a build fares, and what that means for its next call.
//!
//! A build that fails again and again makes its instances anew again and again, which costs the machine more than its
//! answers are worth. So failures make a debt that only time pays off. While it is large the build gets a fresh instance
//! only now and then, and its calls begin in the last lane. One failure among many good calls costs nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What a trap adds to the debt: 25 of them a second are paid off as they come.
const TRAP_DEBT: Duration = Duration::from_millis(40);
/// What a call adds that had to be ended: it has computed all that time.
const TIMEOUT_DEBT: Duration = Duration::from_millis(400);
/// Up to here nothing happens: a build may stumble.
const DEBT_FREE: Duration = Duration::from_millis(640);
/// A larger debt is forgiven: a build that is well again is trusted again after a second.
const DEBT_MAX: Duration = Duration::from_millis(1_600);
/// The time between two fresh instances of a build in trouble.
const PACE: Duration = Duration::from_millis(20);

/// One build's debt.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Most builds never fail, and then there is nothing else to be looked at.
    has_failed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the debt is paid off.
    paid: Option<Instant>,
    /// When the next fresh instance may be made.
    turn: Option<Instant>,
}

impl Trouble {
    /// Notes a guest that trapped or ran out of memory.
    pub(super) fn has_trapped(&self) {
        self.owe(TRAP_DEBT, Instant::now());
    }

    /// Notes a guest that had to be ended.
    pub(super) fn has_timed_out(&self) {
        self.owe(TIMEOUT_DEBT, Instant::now());
    }

    /// Whether the build is in trouble.
    pub(super) fn is_deep(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed) && self.state.lock().is_deep(Instant::now())
    }

    /// When a fresh instance may be made; none for at once. The turn is taken by asking.
    ///
    /// # Errors
    /// When that would be later than in `wait_max`.
    pub(super) fn turn(&self, wait_max: Duration) -> Result<Option<Instant>, TooLate> {
        if !self.has_failed.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.state.lock().turn(Instant::now(), wait_max)
    }

    fn owe(&self, debt: Duration, now: Instant) {
        self.has_failed.store(true, Ordering::Relaxed);
        self.state.lock().owe(debt, now);
    }
}

impl State {
    fn is_deep(&self, now: Instant) -> bool {
        self.paid.is_some_and(|paid| paid.saturating_duration_since(now) > DEBT_FREE)
    }

    fn turn(&mut self, now: Instant, wait_max: Duration) -> Result<Option<Instant>, TooLate> {
        if !self.is_deep(now) {
            return Ok(None);
        }
        let turn = self.turn.map_or(now, |turn| turn.max(now));
        if turn > now + wait_max {
            return Err(TooLate);
        }
        self.turn = Some(turn + PACE);
        Ok((turn > now).then_some(turn))
    }

    fn owe(&mut self, debt: Duration, now: Instant) {
        let paid = self.paid.map_or(now, |paid| paid.max(now));
        self.paid = Some((paid + debt).min(now + DEBT_MAX));
    }
}

/// There are too many in front.
#[derive(Debug)]
pub(super) struct TooLate;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_build_that_stumbles_now_and_then_is_left_alone() {
        let (mut state, mut now) = (State::default(), Instant::now());
        for _ in 0..200 {
            state.owe(TRAP_DEBT, now);
            assert!(!state.is_deep(now) && state.turn(now, SECOND).unwrap().is_none());
            now += TRAP_DEBT;
        }
    }

    #[test]
    fn one_that_always_fails_gets_its_instances_one_by_one_and_is_trusted_again() {
        let (mut state, now) = (State::default(), Instant::now());
        (0..100).for_each(|_| state.owe(TRAP_DEBT, now));
        assert!(state.is_deep(now));
        assert!(state.turn(now, SECOND).unwrap().is_none(), "the first goes at once");
        assert_eq!(state.turn(now, SECOND).unwrap(), Some(now + PACE));
        assert_eq!(state.turn(now, SECOND).unwrap(), Some(now + PACE * 2));
        assert!(state.turn(now, PACE).is_err(), "a wait that is too long is no wait");
        let later = now + DEBT_MAX;
        assert!(!state.is_deep(later) && state.turn(later, SECOND).unwrap().is_none());
    }

    #[test]
    fn two_guests_that_never_end_are_enough() {
        let (mut state, now) = (State::default(), Instant::now());
        state.owe(TIMEOUT_DEBT, now);
        assert!(!state.is_deep(now));
        state.owe(TIMEOUT_DEBT, now);
        assert!(state.is_deep(now));
    }
}
