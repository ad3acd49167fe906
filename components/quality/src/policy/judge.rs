//! Whether something is within a policy. What cannot be judged is a violation. Pure.

use berth_sdk::{prelude::*, serde_json::Value};

use crate::check::rule::shortened;

/// The most violations that an answer lists.
const VIOLATIONS_MAX: usize = 100;

/// One rule of a policy.
#[data]
pub struct PolicyRule {
    /// For people.
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    /// A condition of what it is about; everything when it is left out. Known are `resourceType`, `resourceId`, `action`,
    /// `context`, `user` and `now`.
    #[field(min = 1, max = 2_000)]
    pub when: Option<String>,
    /// A condition that must hold then.
    #[field(min = 1, max = 2_000)]
    pub require: String,
    /// What is said otherwise.
    #[field(min = 1, max = 500)]
    pub message: Option<String>,
}

/// A rule that was not kept.
#[data]
pub struct Violation {
    /// Its name.
    pub rule: String,
    /// What is said.
    pub message: String,
    /// Why it could not be judged, where that is so.
    pub error: Option<String>,
}

/// What is wrong with the rules themselves.
pub(super) fn check(rules: &[PolicyRule], faults: &mut Faults) {
    if rules.is_empty() {
        faults.add("rules", "must have at least one entry");
    }
    for (place, rule) in rules.iter().enumerate() {
        let conditions = [("when", rule.when.as_deref()), ("require", Some(rule.require.as_str()))];
        for (name, text) in conditions {
            if let Some(Err(fault)) = text.map(condition_rules::parse) {
                faults.add(format!("rules[{place}].{name}"), format!("cannot be read: {fault}"));
            }
        }
    }
}

/// Every rule that is not kept.
pub fn violations(rules: &[PolicyRule], facts: &Value) -> Vec<Violation> {
    let decide = |text: &str| condition_rules::parse(text).and_then(|condition| condition.decide(facts));
    let of = |rule: &PolicyRule| {
        let is_about = rule.when.as_deref().map_or(Ok(true), decide);
        let error = match is_about.and_then(|is_about| Ok(!is_about || decide(&rule.require)?)) {
            Ok(true) => return None,
            Ok(false) => None,
            Err(error) => Some(shortened(error)),
        };
        let message = rule.message.clone().unwrap_or_else(|| shortened(format!("It requires {}", rule.require)));
        Some(Violation { rule: rule.name.clone(), message, error })
    };
    rules.iter().filter_map(of).take(VIOLATIONS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(when: Option<&str>, require: &str) -> PolicyRule {
        PolicyRule { name: "r".into(), when: when.map(Into::into), require: require.into(), message: None }
    }

    #[test]
    fn what_cannot_be_judged_is_a_violation() {
        let facts = json!({"action": "deploy", "context": {"environment": "production", "approvals": 1}});
        let of = |when, require| violations(&[rule(when, require)], &facts).first().map(|one| one.error.is_some());
        let production = Some("context.environment == 'production'");
        assert_eq!(of(production, "context.approvals >= 1"), None);
        assert_eq!(of(production, "context.approvals >= 2"), Some(false));
        assert_eq!(of(Some("context.environment == 'staging'"), "context.approvals >= 2"), None);
        assert_eq!(of(production, "not context.frozen"), Some(true));
        assert_eq!(of(Some("context.region == 'eu'"), "true"), Some(true), "what it is about is not known");
        assert_eq!(of(Some("exists context.region and context.region == 'eu'"), "false"), None);
        assert_eq!(of(None, "action in ['deploy', 'read']"), None);
        assert_eq!(of(None, "action > 3"), Some(true));
    }

    #[test]
    fn rules_that_cannot_be_read_are_refused() {
        let mut faults = Faults::default();
        check(&[rule(Some("a =="), "b b")], &mut faults);
        let fields: Vec<&str> = faults.errors().iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["rules[0].when", "rules[0].require"]);
        let mut faults = Faults::default();
        check(&[], &mut faults);
        assert_eq!(faults.errors().len(), 1);
    }
}
