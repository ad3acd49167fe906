//! Failures of steps, and what becomes of a step that failed. Pure.

use std::time::Duration;

use berth_sdk::{Problem, backoff, http_out::Refusal, json, serde_json::Value};

/// The wait before the first retry when a step names none.
pub const BACKOFF: Duration = Duration::from_secs(1);
/// The longest wait before a retry.
const BACKOFF_MAX: Duration = Duration::from_secs(60 * 60);

/// Why a step failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Upper snake case.
    pub code: String,
    /// For a person.
    pub message: String,
    /// Trying again may help.
    pub may_pass: bool,
    /// Nobody knows whether the step has had its effect: a retry must seek the same one.
    pub is_unknown: bool,
    /// What it left nevertheless.
    pub output: Option<Value>,
}

impl Failure {
    /// A failure that a retry may heal.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), may_pass: true, is_unknown: false, output: None }
    }

    /// A failure that no retry heals.
    pub fn lasting(code: &str, message: impl Into<String>) -> Self {
        Self { may_pass: false, ..Self::new(code, message) }
    }

    /// A failure that leaves open what has happened.
    pub fn unknown(code: &str, message: impl Into<String>) -> Self {
        Self { is_unknown: true, ..Self::new(code, message) }
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

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let Refusal { code, message, may_pass, is_unknown, output } = refusal;
        Self { code: code.into(), message, may_pass, is_unknown, output }
    }
}

/// What another plugin refused: a 4xx stays, everything else may pass.
impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self {
            code: problem.code.to_string(),
            message: problem.detail,
            may_pass: problem.status >= 500 || matches!(problem.status, 408 | 425 | 429),
            is_unknown: problem.status == 504,
            output: None,
        }
    }
}

/// The wait before the next attempt.
pub fn wait(first: Duration, attempt: i64, seed: u64) -> Duration {
    backoff::exponential(first, BACKOFF_MAX, attempt, seed)
}
