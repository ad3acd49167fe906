//! `http` steps: one call of an allowed address, described by the step's parameters, which planning has checked.

use std::time::Duration;

use berth_sdk::{
    http_out::{Described, Refusal},
    serde_json::Value,
};

use crate::failure::Failure;

/// The longest a call takes: the lease must outlast it.
const TIMEOUT_MAX: Duration = Duration::from_secs(25);

/// A call that is ready to go.
#[derive(Clone, Debug)]
pub struct HttpStep(Described);

impl HttpStep {
    /// Reads the parameters.
    ///
    /// # Errors
    /// When a secret stands where only a plain value can, or when it aims at another plugin.
    pub fn read(params: &Value, timeout_ms: i64) -> Result<Self, Failure> {
        let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(1)).min(TIMEOUT_MAX);
        Ok(Self(Described::read(params, timeout)?))
    }

    /// Calls and judges the answer.
    ///
    /// # Errors
    /// When there is no answer or not the expected one.
    pub fn perform(&self) -> Result<Value, Failure> {
        Ok(self.0.perform()?)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let Refusal { code, message, may_pass, output, .. } = refusal;
        Self { code, message, may_pass, output }
    }
}
