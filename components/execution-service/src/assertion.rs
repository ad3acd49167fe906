//! Assertions: what a validation checks, and what must hold before and after a step. Pure rules over what the caller
//! looks up.

use berth_sdk::{canonical, json, problem::Result, serde_json, serde_json::Value, validate};
use regex::RegexBuilder;

/// The largest compiled pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// What assertions look at.
pub trait Facts {
    /// The content of a file of the workspace.
    fn file(&self, path: &str) -> Result<Option<String>>;
    /// The output of an earlier step, by id or order; none when there is no such step or it is not completed.
    fn output(&self, step: &Value) -> Result<Option<Value>>;
}

/// Checks assertions and returns a sentence for each that does not hold.
///
/// # Errors
/// When a fact cannot be looked up; an assertion that does not hold is no error.
pub fn check(assertions: &[Value], facts: &dyn Facts) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for assertion in assertions {
        if let Err(sentence) = judge(assertion, facts)? {
            broken.push(sentence);
        }
    }
    Ok(broken)
}

fn judge(assertion: &Value, facts: &dyn Facts) -> Result<std::result::Result<(), String>> {
    let text = |name: &str| assertion.get(name).and_then(Value::as_str).unwrap_or_default();
    let (kind, path) = (text("kind"), text("path"));
    if let ("equals", Some(step)) = (kind, assertion.get("step")) {
        let wanted = assertion.get("value").unwrap_or(&Value::Null);
        return Ok(output_equals(facts.output(step)?, step, text("pointer"), wanted));
    }
    let content = facts.file(path)?;
    Ok(match (kind, content) {
        ("absent", None) | ("exists", Some(_)) => Ok(()),
        ("absent", Some(_)) => Err(format!("{path} is there.")),
        (_, None) => Err(format!("{path} is not there.")),
        ("contains", Some(content)) => {
            holds(content.contains(text("value")), || format!("{path} does not contain the text."))
        }
        ("matches", Some(content)) => matches(&content, text("pattern"), path),
        ("equals", Some(content)) => {
            let wanted = assertion.get("value").unwrap_or(&Value::Null);
            holds(file_equals(&content, wanted), || format!("{path} is not equal to the value."))
        }
        ("json_schema", Some(content)) => {
            schema_holds(&content, assertion.get("schema").unwrap_or(&Value::Bool(true)), path)
        }
        (kind, Some(_)) => Err(format!("The assertion {kind:?} is not known.")),
    })
}

fn holds(truth: bool, sentence: impl FnOnce() -> String) -> std::result::Result<(), String> {
    if truth { Ok(()) } else { Err(sentence()) }
}

fn matches(content: &str, pattern: &str, path: &str) -> std::result::Result<(), String> {
    let pattern = RegexBuilder::new(pattern)
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX)
        .multi_line(true)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "The pattern is too large.".to_string(),
            _ => "The pattern is no regular expression.".to_string(),
        })?;
    holds(pattern.is_match(content), || format!("{path} does not match the pattern."))
}

/// A text is compared as it is, anything else with the file read as JSON.
fn file_equals(content: &str, wanted: &Value) -> bool {
    match wanted {
        Value::String(wanted) => content == wanted,
        wanted => serde_json::from_str::<Value>(content).is_ok_and(|value| same(&value, wanted)),
    }
}

fn output_equals(
    output: Option<Value>,
    step: &Value,
    pointer: &str,
    wanted: &Value,
) -> std::result::Result<(), String> {
    let Some(output) = output else { return Err(format!("Step {step} has no output.")) };
    // What a dry run has not done cannot be compared.
    if output.get("dryRun") == Some(&json!(true)) {
        return Ok(());
    }
    match output.pointer(pointer) {
        Some(value) => {
            holds(same(value, wanted), || format!("The output of step {step} is another one at {pointer:?}."))
        }
        None => Err(format!("The output of step {step} has nothing at {pointer:?}.")),
    }
}

fn schema_holds(content: &str, schema: &Value, path: &str) -> std::result::Result<(), String> {
    match serde_json::from_str::<Value>(content) {
        Ok(value) => validate::json_schema(schema, &value)
            .map_err(|fault| format!("{path} does not follow the schema: {fault}.")),
        Err(_) => Err(format!("{path} is not JSON.")),
    }
}

/// 1 and 1.0 are the same, and the order of members does not matter.
fn same(left: &Value, right: &Value) -> bool {
    canonical::text(left) == canonical::text(right)
}

#[cfg(test)]
mod tests {
    use berth_sdk::{json, problem::Result, serde_json::Value};

    use super::{Facts, check};

    struct Bench;

    impl Facts for Bench {
        fn file(&self, path: &str) -> Result<Option<String>> {
            Ok(match path {
                "a.txt" => Some("one\ntwo 2\n".into()),
                "a.json" => Some("{\"port\": 80.0, \"tags\": [\"x\"]}".into()),
                _ => None,
            })
        }
        fn output(&self, step: &Value) -> Result<Option<Value>> {
            Ok((*step == json!(1)).then(|| json!({"status": 200, "body": {"id": "x"}})))
        }
    }

    fn hold(assertion: Value) -> bool {
        check(&[assertion], &Bench).unwrap().is_empty()
    }

    #[test]
    fn each_kind_says_yes_and_no() {
        for (assertion, expected) in [
            (json!({"kind": "exists", "path": "a.txt"}), true),
            (json!({"kind": "exists", "path": "b"}), false),
            (json!({"kind": "absent", "path": "b"}), true),
            (json!({"kind": "absent", "path": "a.txt"}), false),
            (json!({"kind": "contains", "path": "a.txt", "value": "two"}), true),
            (json!({"kind": "contains", "path": "a.txt", "value": "three"}), false),
            (json!({"kind": "contains", "path": "b", "value": ""}), false),
            (json!({"kind": "matches", "path": "a.txt", "pattern": "^two \\d$"}), true),
            (json!({"kind": "matches", "path": "a.txt", "pattern": "^three"}), false),
            (json!({"kind": "matches", "path": "a.txt", "pattern": "("}), false),
            (json!({"kind": "matches", "path": "a.txt", "pattern": "(?:a{1000}){1000}"}), false),
            (json!({"kind": "equals", "path": "a.txt", "value": "one\ntwo 2\n"}), true),
            (json!({"kind": "equals", "path": "a.json", "value": {"tags": ["x"], "port": 80}}), true),
            (json!({"kind": "equals", "path": "a.txt", "value": {}}), false),
            (json!({"kind": "equals", "step": 1, "pointer": "/body/id", "value": "x"}), true),
            (json!({"kind": "equals", "step": 1, "pointer": "/status", "value": 404}), false),
            (json!({"kind": "equals", "step": 1, "pointer": "/nothing", "value": null}), false),
            (json!({"kind": "equals", "step": 2, "pointer": "", "value": {}}), false),
            (json!({"kind": "json_schema", "path": "a.json", "schema": {"required": ["port"]}}), true),
            (json!({"kind": "json_schema", "path": "a.json", "schema": {"required": ["host"]}}), false),
            (json!({"kind": "json_schema", "path": "a.txt", "schema": {}}), false),
            (json!({"kind": "magic", "path": "a.txt"}), false),
        ] {
            assert_eq!(hold(assertion.clone()), expected, "{assertion}");
        }
    }
}
