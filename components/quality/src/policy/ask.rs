//! Asking a policy, and what a violation leads to: an event always, and an entry of the audit log.

use std::time::Duration;

use berth_sdk::{
    http_out,
    prelude::*,
    serde_json::{Map, Value},
};

use super::{EnforcementMode, Policy, judge};

/// How long a policy is kept at hand; every change of it forgets it.
const KEPT: Duration = Duration::from_secs(60);
/// How long logging may take.
const ASKED: Duration = Duration::from_secs(10);
/// The message that brings a violation into the audit log.
pub const NOTE: &str = "quality.violation.note";

/// The key of the kept copy.
pub(super) fn key(id: &str) -> String {
    format!("policy:{id}")
}

/// What is about to be done.
#[data]
pub struct Question {
    /// What kind of thing it is done to.
    #[field(min = 1, max = 100, plain)]
    pub resource_type: String,
    /// Which.
    #[field(max = 200, plain)]
    pub resource_id: Option<String>,
    /// What is done.
    #[field(min = 1, max = 100, plain)]
    pub action: String,
    /// What is known besides.
    #[field(default)]
    pub context: Map<String, Value>,
}

/// The answer.
#[data]
pub struct Verdict {
    /// Whether it may be done. Who asked answers 403 `POLICY_VIOLATION` otherwise.
    pub allowed: bool,
    /// What becomes of a violation.
    pub mode: EnforcementMode,
    /// Whether the policy counts at all.
    pub enabled: bool,
    /// The rules that are not kept.
    pub violations: Vec<judge::Violation>,
}

/// `POST /api/compliance/policies/{id}/check`.
pub fn check(Params(id): Params<Id>, Json(question): Json<Question>) -> Result<Json<Verdict>> {
    let policy =
        berth_sdk::cache::remember(&key(&id), KEPT, || Ok::<_, Problem>(entity::read::<Policy>(&Pool, &id)?.data))?;
    let verdict = verdict(&policy, &question);
    if !verdict.violations.is_empty() {
        tell(&id, &policy, &question, &verdict)?;
    }
    Ok(Json(verdict))
}

fn verdict(policy: &Policy, question: &Question) -> Verdict {
    let principal = auth::principal();
    let facts = json!({
        "resourceType": question.resource_type, "resourceId": question.resource_id, "action": question.action,
        "context": question.context, "now": clock::now(),
        "user": {"id": principal.user_id, "roleId": principal.role_id, "isSuperAdmin": principal.is_super_admin},
    });
    let violations = if policy.enabled { judge::violations(&policy.rules, &facts) } else { Vec::new() };
    let allowed = violations.is_empty() || policy.enforcement_mode != EnforcementMode::Block;
    Verdict { allowed, mode: policy.enforcement_mode, enabled: policy.enabled, violations }
}

/// Violations that the news of one question names: it must fit into an event.
const TOLD_MAX: usize = 20;

fn tell(id: &Id, policy: &Policy, question: &Question, verdict: &Verdict) -> Result<()> {
    let told: Vec<_> = verdict.violations.iter().take(TOLD_MAX).collect();
    let data = json!({
        "id": id, "policyId": id, "name": policy.name, "policyType": policy.policy_type, "mode": verdict.mode,
        "allowed": verdict.allowed, "resourceType": question.resource_type, "resourceId": question.resource_id,
        "action": question.action, "violations": told, "userId": auth::principal().user_id,
    });
    database::transaction(|transaction| {
        transaction.send(&events::Message::new("compliance.violation", &data)?.with_key(id.as_str()))?;
        if verdict.mode != EnforcementMode::Warn {
            transaction.enqueue(NOTE, &data, Duration::ZERO)?;
        }
        Ok(())
    })
}

/// A violation, as far as the audit log has fields for it.
#[data]
struct Told {
    name: String,
    policy_id: Id,
    allowed: bool,
    resource_type: String,
    resource_id: Option<String>,
    action: String,
    violations: Vec<judge::Violation>,
    user_id: Option<Id>,
}

/// Handles [`NOTE`]: writes the entry. While logging is away it is tried again.
pub fn note(envelope: &Envelope) -> Result<()> {
    let told: Told = envelope.data()?;
    let done = if told.allowed { "was let through" } else { "was refused" };
    let entry = json!({
        "action": "compliance.violation", "category": "SECURITY", "severity": "WARN", "userId": told.user_id,
        "resourceType": told.resource_type, "resourceId": told.resource_id,
        "message": format!("{} {done} against the policy {}.", told.action, told.name),
        "metadata": {"policyId": told.policy_id, "violations": told.violations, "allowed": told.allowed},
    });
    let call = http_out::plugin("logging").post("/api/audit-logs").json(&entry).idempotency_key(&envelope.id);
    match call.timeout(ASKED).accept() {
        Ok(_) => Ok(()),
        Err(problem) if problem.status < 500 => {
            logging::warn!("the audit log does not take a violation", problem = problem);
            Ok(())
        }
        Err(problem) => Err(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_blocking_policy_that_counts_refuses() {
        let allowed = |mode: &str, enabled: bool| {
            let policy: Policy = berth_sdk::serde_json::from_value(json!({
                "name": "p", "policyType": "access", "enabled": enabled, "enforcementMode": mode,
                "rules": [{"name": "r", "require": "context.approved"}]
            }))
            .unwrap();
            let question: Question = berth_sdk::serde_json::from_value(
                json!({"resourceType": "plan", "action": "run", "context": {"approved": false}}),
            )
            .unwrap();
            let verdict = verdict(&policy, &question);
            (verdict.allowed, verdict.violations.len())
        };
        assert_eq!(allowed("block", true), (false, 1));
        assert_eq!(allowed("warn", true), (true, 1));
        assert_eq!(allowed("audit", true), (true, 1));
        assert_eq!(allowed("block", false), (true, 0));
    }
}
