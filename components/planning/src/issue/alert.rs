//! Alerts of observability become suggestions: an anticipated issue, never an incident by itself.

use berth_sdk::{prelude::*, serde_json::Value};

use super::{Issue, IssueKind, rules::IssueStatus, severity_in};
use crate::project::{HOLDS, Project};

/// Handles `observability.alert.firing`. While the issue of an alert is open, the same alert makes no second one.
pub(crate) fn suggest(envelope: &Envelope) -> Result<()> {
    let data: Value = envelope.data()?;
    if !data.is_object() {
        return Err(Problem::bad_request("An alert is an object."));
    }
    if envelope.organization_id.is_none() {
        return Ok(());
    }
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        let project_id = match text(&data, &["projectId"]).map(Id::parse).and_then(Result::ok) {
            Some(id) if entity::find::<Project>(transaction, &id)?.is_some() => Some(id),
            _ => None,
        };
        let key = key_of(&data);
        // Of two messages about one alert the later one finds the issue of the other.
        transaction.hold(HOLDS, &format!("alert:{key}"))?;
        let known = Select::<Issue>::new()
            .equal("alert_key", key.as_str())
            .condition("status NOT IN (?, ?)", [IssueStatus::Resolved, IssueStatus::Dismissed]);
        if known.count(transaction)? > 0 {
            return Ok(());
        }
        let mut issue = Issue::anticipated(project_id, title_of(&data), description_of(&data));
        issue.kind = kind_of(&data);
        issue.severity = severity_in(&data);
        // It is happening.
        issue.likelihood = 1.0;
        issue.alert_key = Some(key);
        entity::create(transaction, issue).map(|_| ())
    })
}

fn text<'a>(data: &'a Value, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| data.get(*name)?.as_str()).filter(|text| !text.trim().is_empty())
}

/// The rule and its labels: alerts are told apart by both.
fn key_of(data: &Value) -> String {
    let rule = text(data, &["ruleId", "rule", "ruleName", "alertId", "id", "name"]).unwrap_or("alert");
    let labels = data.get("labels").cloned().unwrap_or_default();
    berth_sdk::canonical::sha256(&json!({ "rule": rule, "labels": labels }))
}

fn title_of(data: &Value) -> String {
    match text(data, &["title", "name", "ruleName", "summary"]) {
        Some(name) => format!("Alert: {name}"),
        None => "Alert without a name".to_string(),
    }
}

fn description_of(data: &Value) -> String {
    let said = text(data, &["description", "message", "detail", "summary"]).unwrap_or("An alert is firing.");
    let mut lines = vec![said.chars().take(4000).collect::<String>()];
    for name in ["value", "threshold", "operator", "query", "source", "startedAt"] {
        match data.get(name) {
            Some(Value::String(text)) => lines.push(format!("{name}: {}", text.chars().take(500).collect::<String>())),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => lines.push(format!("{name}: {value}")),
            _ => {}
        }
    }
    lines.push("Declare an incident if people are affected.".to_string());
    lines.join("\n")
}

fn kind_of(data: &Value) -> IssueKind {
    match text(data, &["source"]) {
        Some("metric" | "trace") => IssueKind::Performance,
        Some("security") => IssueKind::Security,
        _ => IssueKind::Bug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issue::rules::Severity;

    #[test]
    fn an_alert_says_what_it_knows() {
        let alert = json!({"ruleId": "r1", "name": "Slow", "severity": "CRITICAL", "value": 3.5, "labels": {"a": 1}});
        assert_eq!((title_of(&alert), severity_in(&alert)), ("Alert: Slow".to_string(), Severity::Critical));
        assert!(description_of(&alert).contains("value: 3.5"));
        assert_eq!(key_of(&alert), key_of(&json!({"ruleId": "r1", "labels": {"a": 1}, "value": 9})));
        assert_ne!(key_of(&alert), key_of(&json!({"ruleId": "r1", "labels": {"a": 2}})));
        assert_eq!(title_of(&json!({"title": " "})), "Alert without a name");
    }

    #[test]
    fn an_alert_that_is_no_object_is_rejected() {
        for text in ["[]", "7", "{"] {
            let outcome = Outcome::from(suggest(&Envelope::for_test("observability.alert.firing", text)));
            assert!(matches!(outcome, Outcome::Rejected(_)), "{text}");
        }
    }
}
