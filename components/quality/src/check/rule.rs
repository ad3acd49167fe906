//! What must hold: assertions over facts, judged strictly. What cannot be judged fails. Pure.

use std::collections::BTreeMap;

use berth_sdk::{
    entity::Column,
    prelude::*,
    serde_json::{Map, Value},
};

use super::{CheckStatus, CheckType, facts};

/// Assertions of one rule, and questions.
const ASSERTIONS_MAX: usize = 100;
const QUERIES_MAX: usize = 10;
/// Parameters of one question, and characters of one.
const PARAMETERS_MAX: usize = 20;
const PARAMETER_CHARACTERS_MAX: usize = 500;
/// The largest facts of a rule, as JSON.
const FACTS_BYTES_MAX: usize = 64 * 1024;
/// Characters of an error.
const ERROR_CHARACTERS_MAX: usize = 300;

/// As much of an error as is kept: it may name something long.
pub(crate) fn shortened(error: String) -> String {
    error.chars().take(ERROR_CHARACTERS_MAX).collect()
}

/// The rule of a check.
#[data]
#[derive(Default)]
pub struct Rule {
    /// What is known without asking; a run may bring other values.
    #[field(default)]
    pub facts: Map<String, Value>,
    /// What is asked of other services, each answer a fact under its name.
    #[field(default, max = 10)]
    pub queries: Vec<Question>,
    /// What must hold.
    #[field(default, max = 100)]
    pub assertions: Vec<Assertion>,
}

impl Column for Rule {
    const KIND: entity::Kind = entity::Kind::Json;
}

/// A question to another service: `GET` of a path.
#[data]
pub struct Question {
    /// What its answer is called among the facts.
    #[field(min = 1, max = 50)]
    pub name: String,
    /// Such as `/api/audit-logs/stats`.
    #[field(min = 1, max = 500)]
    pub path: String,
    /// Its query.
    #[field(default)]
    pub query: BTreeMap<String, String>,
}

/// Something that must hold.
#[data]
pub struct Assertion {
    /// For people.
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    /// A condition over the facts, such as `logs.total > 0 and region in ['eu', 'us']`.
    #[field(min = 1, max = 2_000)]
    pub expression: String,
    /// Whether the check fails without it; otherwise it is only partial.
    #[field(default = true)]
    pub is_required: bool,
}

/// What one assertion came to.
#[data]
pub struct Finding {
    /// The assertion, or the question.
    pub name: String,
    /// Its condition.
    pub expression: Option<String>,
    /// Whether it holds.
    pub holds: bool,
    /// Whether the check fails without it.
    pub is_required: bool,
    /// Why it could not be judged.
    pub error: Option<String>,
}

impl Rule {
    /// What keeps it from being run.
    pub(super) fn check(&self, kind: CheckType, faults: &mut Faults) {
        if kind != CheckType::Manual && self.assertions.is_empty() {
            faults.add("rule.assertions", "must have at least one entry");
        }
        if kind == CheckType::Query && self.queries.is_empty() {
            faults.add("rule.queries", "must have at least one entry");
        }
        if json!(self.facts).to_string().len() > FACTS_BYTES_MAX {
            faults.add("rule.facts", format!("must have at most {FACTS_BYTES_MAX} bytes"));
        }
        for (place, assertion) in self.assertions.iter().enumerate().take(ASSERTIONS_MAX) {
            if let Err(fault) = condition_rules::parse(&assertion.expression) {
                faults.add(format!("rule.assertions[{place}].expression"), format!("cannot be read: {fault}"));
            }
        }
        for (place, question) in self.queries.iter().enumerate().take(QUERIES_MAX) {
            let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            if !question.name.starts_with(|letter: char| letter.is_ascii_alphabetic())
                || !question.name.chars().all(is_name)
            {
                faults.add(format!("rule.queries[{place}].name"), "must be a word of letters, digits and _");
            }
            if self.queries.iter().take(place).any(|other| other.name == question.name) {
                faults.add(format!("rule.queries[{place}].name"), "is there twice");
            }
            let is_long = |text: &String| text.chars().count() > PARAMETER_CHARACTERS_MAX;
            if question.query.len() > PARAMETERS_MAX
                || question.query.iter().any(|(name, value)| is_long(name) || is_long(value))
            {
                let most = format!("{PARAMETERS_MAX} parameters of {PARAMETER_CHARACTERS_MAX} characters");
                faults.add(format!("rule.queries[{place}].query"), format!("must have at most {most}"));
            }
            if let Err(fault) = facts::target(&question.path) {
                faults.add(format!("rule.queries[{place}].path"), fault);
            }
        }
    }

    /// Judges every assertion.
    pub fn judge(&self, facts: &Value) -> Vec<Finding> {
        let finding = |assertion: &Assertion| {
            let judged = condition_rules::parse(&assertion.expression).and_then(|expression| expression.decide(facts));
            Finding {
                name: assertion.name.clone(),
                expression: Some(assertion.expression.clone()),
                holds: judged == Ok(true),
                is_required: assertion.is_required,
                error: judged.err().map(shortened),
            }
        };
        self.assertions.iter().map(finding).collect()
    }
}

/// The status that findings come to: an error fails whatever it is about, and so does nothing at all.
pub fn status(findings: &[Finding]) -> CheckStatus {
    let is_missed = |finding: &&Finding| !finding.holds;
    if findings.is_empty() || findings.iter().filter(is_missed).any(|one| one.is_required || one.error.is_some()) {
        CheckStatus::Fail
    } else if findings.iter().any(|finding| !finding.holds) {
        CheckStatus::Partial
    } else {
        CheckStatus::Pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(assertions: &[(&str, bool)]) -> Rule {
        let assertion = |(expression, is_required): &(&str, bool)| Assertion {
            name: (*expression).into(),
            expression: (*expression).into(),
            is_required: *is_required,
        };
        Rule { assertions: assertions.iter().map(assertion).collect(), ..Rule::default() }
    }

    #[test]
    fn what_cannot_be_judged_fails() {
        let facts = json!({"users": 7, "mfa": true, "region": "eu"});
        let of = |assertions: &[(&str, bool)]| status(&rule(assertions).judge(&facts));
        assert_eq!(of(&[("mfa", true), ("users > 5", true)]), CheckStatus::Pass);
        assert_eq!(of(&[("mfa", true), ("users > 50", true)]), CheckStatus::Fail);
        assert_eq!(of(&[("mfa", true), ("users > 50", false)]), CheckStatus::Partial);
        assert_eq!(of(&[("not users > 50", true)]), CheckStatus::Pass);
        // Not known, not comparable, not a truth: each would be false, and its contrary true.
        for wrong in
            ["not admins > 3", "admins != 3", "not region > 3", "not users", "not (users in region)", "users =="]
        {
            assert_eq!(of(&[(wrong, false)]), CheckStatus::Fail, "{wrong}");
        }
        assert_eq!(of(&[]), CheckStatus::Fail);
        assert!(rule(&[("admins > 3", true)]).judge(&facts)[0].error.as_deref().unwrap().contains("admins"));
    }

    #[test]
    fn questions_have_names_and_places() {
        let of = |name: &str, path: &str| {
            let question = Question { name: name.into(), path: path.into(), query: BTreeMap::new() };
            let rule = Rule { queries: vec![question], ..rule(&[("a", true)]) };
            let mut faults = Faults::default();
            rule.check(CheckType::Query, &mut faults);
            faults.errors().iter().map(|error| error.field.clone()).collect::<Vec<_>>()
        };
        assert!(of("logs", "/api/logs/stats").is_empty());
        assert_eq!(of("1", "/api/logs/stats"), ["rule.queries[0].name"]);
        assert_eq!(of("a.b", "/api/secrets"), ["rule.queries[0].name", "rule.queries[0].path"]);
    }
}
