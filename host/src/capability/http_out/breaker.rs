//! Leaves a target alone that has failed too often, for each plugin on its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use moka::sync::Cache;
use parking_lot::Mutex;

use super::backend::EgressError;
use crate::body::Body;

/// Failures in a row that open the circuit.
const FAILURES_MAX: u32 = 5;
/// How long it stays open; then one request tries.
const OPEN: Duration = Duration::from_secs(30);
/// Pairs of plugin and target that are remembered; a guest with a wide grant can name any number of targets.
const TARGETS_MAX: u64 = 8192;
/// How long a target that is no longer asked is remembered.
const TARGET_IDLE: Duration = Duration::from_secs(600);

/// The breakers of all plugins.
pub(super) struct Breakers {
    targets: Cache<(Arc<str>, String), Arc<Breaker>>,
}

/// One plugin's view of one target.
#[derive(Default)]
pub(super) struct Breaker {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
}

impl Default for Breakers {
    fn default() -> Self {
        Self { targets: Cache::builder().max_capacity(TARGETS_MAX).time_to_idle(TARGET_IDLE).build() }
    }
}

impl Breakers {
    pub(super) fn of(&self, plugin: &Arc<str>, target: &str) -> Arc<Breaker> {
        self.targets.get_with((plugin.clone(), target.to_owned()), Arc::default)
    }
}

impl Breaker {
    /// Whether a request may be made. When the circuit has been open for long enough, the one that asks first may try,
    /// and the others wait for what becomes of it, at most as long again.
    pub(super) fn admits(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        match state.open_until {
            Some(until) if now < until => false,
            Some(_) => {
                state.open_until = Some(now + OPEN);
                true
            }
            None => true,
        }
    }

    /// Remembers how a request went. What took too long for one that `is_hurried` by its caller says nothing about the
    /// target: callers who come late would otherwise shut it for all others.
    pub(super) fn note(&self, answer: &Result<http::Response<Body>, EgressError>, is_hurried: bool, now: Instant) {
        let failed = match answer {
            // The target's own calls within this one have no more time than it has.
            Ok(response) if is_hurried && response.status() == StatusCode::GATEWAY_TIMEOUT => return,
            Err(EgressError::Timeout) if is_hurried => return,
            // The statuses by which a target, or whatever stands before it, says that it cannot take requests.
            Ok(response) => matches!(response.status().as_u16(), 502..=504),
            Err(error) if error.is_failure_of_target() => true,
            // Our own refusal says nothing about the target.
            Err(_) => return,
        };
        let mut state = self.state.lock();
        if !failed {
            *state = State::default();
            return;
        }
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES_MAX {
            state.open_until = Some(now + OPEN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body;

    fn response(status: u16) -> Result<http::Response<Body>, EgressError> {
        Ok(http::Response::builder().status(status).body(body::empty()).unwrap())
    }

    #[test]
    fn five_failures_in_a_row_open_the_circuit_for_thirty_seconds() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..4 {
            breaker.note(&Err(EgressError::Connect(None)), false, start);
        }
        breaker.note(&response(404), false, start);
        for _ in 0..4 {
            breaker.note(&response(503), false, start);
            assert!(breaker.admits(start));
        }
        breaker.note(&Err(EgressError::Timeout), false, start);
        assert!(!breaker.admits(start));
        assert!(!breaker.admits(start + OPEN - Duration::from_millis(1)));
    }

    #[test]
    fn after_that_one_request_tries_and_decides() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..5 {
            breaker.note(&Err(EgressError::Connect(None)), false, start);
        }
        let later = start + OPEN;
        assert!(breaker.admits(later));
        assert!(!breaker.admits(later), "only one tries");
        breaker.note(&Err(EgressError::Connect(None)), false, later);
        assert!(!breaker.admits(later + OPEN - Duration::from_millis(1)));
        assert!(breaker.admits(later + OPEN));
        breaker.note(&response(200), false, later + OPEN);
        assert!(breaker.admits(later + OPEN) && breaker.admits(later + OPEN));
    }

    #[test]
    fn a_refusal_of_our_own_is_no_failure() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..10 {
            breaker.note(&Err(EgressError::AddressDenied), false, start);
            breaker.note(&response(500), false, start);
        }
        assert!(breaker.admits(start));
    }

    #[test]
    fn what_takes_too_long_for_a_caller_in_a_hurry_is_no_failure() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..10 {
            breaker.note(&Err(EgressError::Timeout), true, start);
            breaker.note(&response(504), true, start);
        }
        assert!(breaker.admits(start));
        for _ in 0..5 {
            // That it is not there has nothing to do with the time it was given.
            breaker.note(&Err(EgressError::Connect(None)), true, start);
        }
        assert!(!breaker.admits(start));
    }

    #[test]
    fn one_plugins_failures_do_not_count_for_another() {
        let (breakers, start) = (Breakers::default(), Instant::now());
        for _ in 0..5 {
            breakers.of(&"planning".into(), "a:443").note(&Err(EgressError::Connect(None)), false, start);
        }
        assert!(!breakers.of(&"planning".into(), "a:443").admits(start));
        assert!(breakers.of(&"ai-service".into(), "a:443").admits(start));
        assert!(breakers.of(&"planning".into(), "b:443").admits(start));
    }
}
