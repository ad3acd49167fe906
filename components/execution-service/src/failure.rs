//! Failures: what a step can say of its own, and what becomes of it. Pure rules.

use std::time::Duration;

use berth_sdk::{json, serde_json::Value};
use plan_rules::OnFailure;

/// The wait before the first retry; each further one is twice as long.
const BACKOFF: Duration = Duration::from_secs(1);
/// The longest wait before a retry.
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// Why a step failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Upper snake case.
    pub code: &'static str,
    /// For a person.
    pub message: String,
    /// Trying again may help.
    pub may_pass: bool,
    /// What it left nevertheless, such as a command's output.
    pub output: Option<Value>,
}

impl Failure {
    /// A failure that a retry may heal.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), may_pass: true, output: None }
    }

    /// A failure that no retry heals.
    pub fn lasting(code: &'static str, message: impl Into<String>) -> Self {
        Self { may_pass: false, ..Self::new(code, message) }
    }

    /// Keeps what the step left.
    #[must_use]
    pub fn with_output(mut self, output: Value) -> Self {
        self.output = Some(output);
        self
    }

    /// As it is stored and shown.
    pub fn to_json(&self) -> Value {
        json!({ "code": self.code, "message": self.message })
    }
}

/// What becomes of a failed step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is tried again after a while.
    Retry(Duration),
    /// The execution pauses and asks.
    Ask,
    /// The step stays failed.
    Block,
}

/// What becomes of a step that failed at this attempt (from 1).
///
/// ```
/// use execution_service::failure::{Fate, Failure, fate};
/// use plan_rules::OnFailure;
/// let failure = Failure::new("VALIDATION_FAILED", "a is missing");
/// assert_eq!(fate(&failure, OnFailure::Block, 1, 3, 0), Fate::Block);
/// assert!(matches!(fate(&failure, OnFailure::Retry, 3, 3, 0), Fate::Retry(_)));
/// assert_eq!(fate(&failure, OnFailure::Retry, 4, 3, 0), Fate::Block);
/// ```
pub fn fate(failure: &Failure, on_failure: OnFailure, attempt: i64, max_retries: i64, seed: u64) -> Fate {
    match on_failure {
        OnFailure::Ask => Fate::Ask,
        OnFailure::Retry if failure.may_pass && attempt <= max_retries => Fate::Retry(backoff(attempt, seed)),
        OnFailure::Retry | OnFailure::Block => Fate::Block,
    }
}

/// The wait after this attempt: 1 s, 2 s, 4 s, …, each between three quarters and five quarters of that, by the seed.
pub fn backoff(attempt: i64, seed: u64) -> Duration {
    berth_sdk::backoff::exponential(BACKOFF, BACKOFF_MAX, attempt, seed)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use plan_rules::OnFailure;
    use proptest::prelude::*;

    use super::{Failure, Fate, backoff, fate};

    #[test]
    fn what_cannot_pass_is_not_tried_again() {
        let failure = Failure::lasting("INTERRUPTED", "lost");
        assert_eq!(fate(&failure, OnFailure::Retry, 1, 3, 0), Fate::Block);
        assert_eq!(fate(&failure, OnFailure::Ask, 1, 3, 0), Fate::Ask);
    }

    proptest! {
        #[test]
        fn waits_double_with_jitter_and_are_bounded(attempt in 1i64..60, seed: u64) {
            let wait = backoff(attempt, seed);
            let whole = 2f64.powi(i32::try_from(attempt - 1).unwrap().min(19)).min(300.0);
            prop_assert!(wait.as_secs_f64() >= whole * 0.75 - 1e-6);
            prop_assert!(wait.as_secs_f64() <= whole * 1.25 + 1e-6);
            prop_assert!(wait <= Duration::from_secs(375));
        }
    }
}
