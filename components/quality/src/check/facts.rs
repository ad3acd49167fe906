//! The facts of a run: what the check knows, what the run brings, and what other services answer.

use std::time::Duration;

use berth_sdk::{
    http_out,
    prelude::*,
    serde_json::{self, Map, Value},
};

use super::rule::{Finding, Question, Rule, shortened};
use crate::dashboard;

/// How long a service may take for one answer.
const ASKED: Duration = Duration::from_secs(10);
/// The largest answer that becomes a fact.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// The service's own figures.
const OWN: &str = "/api/compliance/dashboard";

/// What may be asked, and of whom. Streams are not among it.
const SOURCES: [(&str, &str); 12] = [
    ("/api/logs/stats", "logging"),
    ("/api/logs/search", "logging"),
    ("/api/logs/services", "logging"),
    ("/api/audit-logs", "logging"),
    ("/api/projects", "planning"),
    ("/api/tasks", "planning"),
    ("/api/plans", "planning"),
    ("/api/incidents", "planning"),
    ("/api/issues", "planning"),
    ("/api/releases", "planning"),
    ("/api/reviews", "planning"),
    ("/api/dependencies", "planning"),
];

/// Who answers a path; none: this service itself. A sentence where nobody may be asked.
pub(super) fn target(path: &str) -> Result<Option<&'static str>, String> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '/' | '-' | '_');
    if !path.chars().all(is_plain) || path.contains("//") {
        return Err("must be a path of letters, digits, - and _".into());
    }
    if path == OWN {
        return Ok(None);
    }
    let fits = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let found = SOURCES.iter().find(|(prefix, _)| fits(prefix)).map(|(_, plugin)| Some(*plugin));
    found.ok_or_else(|| {
        let known: Vec<&str> = std::iter::once(OWN).chain(SOURCES.iter().map(|(prefix, _)| *prefix)).collect();
        format!("must begin with one of {}", known.join(", "))
    })
}

/// Gathers the facts. An answer stands above what the run brings, and that above what the rule says; a question without an
/// answer is a finding with its error.
pub(super) fn gather(rule: &Rule, brought: Map<String, Value>) -> (Map<String, Value>, Vec<Finding>) {
    let mut facts = rule.facts.clone();
    facts.extend(brought);
    let mut missed = Vec::new();
    for question in &rule.queries {
        match ask(question) {
            Ok(answer) => {
                facts.insert(question.name.clone(), answer);
            }
            Err(error) => {
                facts.remove(&question.name);
                missed.push(Finding {
                    name: question.name.clone(),
                    expression: None,
                    holds: false,
                    is_required: true,
                    error: Some(shortened(error)),
                });
            }
        }
    }
    (facts, missed)
}

fn ask(question: &Question) -> Result<Value, String> {
    let path = &question.path;
    let Some(plugin) = target(path)? else {
        return dashboard::figures().map_err(|problem| format!("{path}: {}", problem.detail));
    };
    let mut call = http_out::plugin(plugin).get(path).timeout(ASKED);
    for (name, value) in &question.query {
        call = call.query(name, value);
    }
    let reply =
        call.accept().map_err(|problem| format!("{path} of {plugin}: {} {}", problem.status, problem.detail))?;
    if reply.body.len() > ANSWER_BYTES_MAX {
        return Err(format!("{path} of {plugin}: the answer has more than {ANSWER_BYTES_MAX} bytes"));
    }
    serde_json::from_slice(&reply.body).map_err(|_| format!("{path} of {plugin}: the answer is no JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed_is_asked() {
        assert_eq!(target("/api/audit-logs/stats"), Ok(Some("logging")));
        assert_eq!(target("/api/tasks"), Ok(Some("planning")));
        assert_eq!(target("/api/compliance/dashboard"), Ok(None));
        for path in [
            "/api/tasksx",
            "/api/secrets",
            "/api/logs/tail",
            "/api/tasks/../secrets",
            "/api/tasks?x=1",
            "//api/tasks",
            "",
            "/api/tasks/%2e",
        ] {
            assert!(target(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_question_without_an_answer_is_a_finding() {
        let rule = Rule {
            facts: Map::from_iter([("a".to_string(), json!(1)), ("b".to_string(), json!(1))]),
            queries: vec![Question { name: "b".into(), path: "/api/tasks".into(), query: Default::default() }],
            assertions: Vec::new(),
        };
        let (facts, missed) = gather(&rule, Map::from_iter([("a".to_string(), json!(2))]));
        assert_eq!((facts.get("a"), facts.get("b")), (Some(&json!(2)), None), "nothing stands in for an answer");
        assert!(missed.len() == 1 && missed[0].error.as_deref().unwrap().contains("/api/tasks of planning"));
    }
}
