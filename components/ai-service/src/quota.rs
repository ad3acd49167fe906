//! Asking usage-tracking beforehand. When it is away the question goes on with a warning, unless the setting
//! `quota_fail_closed` says otherwise.

use std::time::Duration;

use berth_sdk::{http_out, prelude::*, serde_json::Value};

/// How long it may take to say so.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What is about to be used.
pub struct Estimate<'a> {
    /// Of question and answer.
    pub tokens: i64,
    /// Of the question.
    pub input: i64,
    /// What that may cost.
    pub cost_micro: i64,
    /// Of which model.
    pub model: &'a str,
    /// Of which provider.
    pub provider: &'a str,
}

/// 429 `QUOTA_EXCEEDED` when a hard limit is in the way.
pub fn check(estimate: &Estimate<'_>) -> Result<()> {
    let body = json!({
        "categoryCode": "ai.completion",
        "estimatedMetrics": { "totalTokens": estimate.tokens, "inputTokens": estimate.input, "count": 1 },
        "estimatedCostMicro": estimate.cost_micro,
        "dimensions": { "model": estimate.model, "provider": estimate.provider },
    });
    let call = http_out::plugin("usage-tracking").post("/api/usage/quotas/check").json(&body).timeout(TIMEOUT);
    match call.fetch::<Value>() {
        Ok(verdict) => judge(&verdict),
        Err(problem) if config::get_or("quota_fail_closed", false) => {
            logging::warn!("usage-tracking does not answer, and nothing is done without it", problem = problem);
            Err(Problem::unavailable("Quotas cannot be checked at present."))
        }
        Err(problem) => {
            logging::warn!("goes on without a check of quotas", problem = problem);
            Ok(())
        }
    }
}

fn judge(verdict: &Value) -> Result<()> {
    if verdict.get("allowed") != Some(&Value::Bool(false)) {
        return Ok(());
    }
    let seconds = verdict.get("retryAfter").and_then(Value::as_u64).unwrap_or(60).max(1);
    Err(Problem::new(429, "QUOTA_EXCEEDED", "Quota exceeded", "A hard limit is reached.")
        .with("retryAfter", seconds)
        .with("resetAt", verdict.get("resetAt").cloned().unwrap_or_default())
        .with_header("retry-after", seconds.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hard_limit_says_when_to_come_back() {
        let problem =
            judge(&json!({"allowed": false, "retryAfter": 120, "resetAt": "2026-01-01T00:00:00.000Z"})).unwrap_err();
        assert_eq!((problem.status, problem.code.as_ref()), (429, "QUOTA_EXCEEDED"));
        assert_eq!(problem.member("retryAfter").unwrap(), 120);
        assert!(judge(&json!({"allowed": true})).is_ok());
    }

    #[test]
    fn without_usage_tracking_it_goes_on_unless_told_otherwise() {
        let estimate = Estimate { tokens: 1, input: 1, cost_micro: 0, model: "m", provider: "p" };
        assert!(check(&estimate).is_ok(), "natively nobody answers");
        berth_sdk::testing::set_config("quota_fail_closed", "true");
        assert_eq!(check(&estimate).unwrap_err().status, 503);
    }
}
