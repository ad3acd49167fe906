//! The history of a run: events numbered without a gap, written in the transaction of what they tell of. Some of them leave
//! the service.

use std::borrow::Cow;

use berth_sdk::{events::Message, page::LIMIT_DEFAULT, prelude::*, serde_json::Value};

use crate::{audience::Audience, run_row::RunRow};

/// An event carries an output or input of at most so many bytes; the step's row has the whole.
const VALUE_BYTES_MAX: usize = 16 * 1024;

/// Everything that leaves the service; other types stay in the history.
const PUBLISHED: &[&str] = &[
    "workflow.run.started",
    "workflow.run.completed",
    "workflow.run.failed",
    "workflow.run.cancelled",
    "workflow.step.completed",
    "workflow.step.failed",
    "workflow.approval.requested",
    "workflow.approval.decided",
];

/// One event on its way into the history.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number, from 1.
    pub sequence: i64,
    /// As in `workflow.step.completed`.
    pub kind: String,
    /// The step it tells of.
    pub step_id: Option<Id>,
    /// What happened.
    pub data: Value,
}

/// One event, as it is shown.
#[data]
pub struct Event {
    /// The row.
    pub id: Id,
    /// The run.
    pub run_id: Id,
    /// From 1, without a gap.
    pub sequence: i64,
    /// As in `workflow.step.completed`.
    pub r#type: String,
    /// The step it tells of.
    pub step_id: Option<Id>,
    /// What happened.
    pub data: Value,
    /// When.
    pub at: Timestamp,
}

/// Which events are wanted.
#[data]
pub struct EventQuery {
    /// Only events after this one.
    #[field(min = 0)]
    pub after_sequence: Option<i64>,
    /// The most events.
    #[field(min = 1, max = 200)]
    pub limit: Option<i64>,
    /// Only events of this type.
    pub r#type: Option<String>,
}

/// Whether events of a type leave the service.
pub fn is_published(kind: &str) -> bool {
    PUBLISHED.contains(&kind)
}

/// Writes events in one statement and publishes those that leave.
pub fn write(
    transaction: &Transaction,
    organization_id: &Id,
    run: &Stored<RunRow>,
    entries: &[Entry],
    now: Timestamp,
) -> Result<()> {
    const COLUMNS: usize = 5;
    let run_id = &run.id;
    if entries.is_empty() {
        return Ok(());
    }
    let user_id = auth::principal().user_id;
    let mut values: Vec<database::Value> =
        vec![organization_id.into(), user_id.into(), now.into(), 1_i64.into(), run_id.into()];
    let shared = values.len();
    let mut places = Vec::with_capacity(entries.len());
    for (number, entry) in entries.iter().enumerate() {
        let first = shared + number * COLUMNS;
        let own: Vec<String> = (1..=COLUMNS).map(|column| format!("${}", first + column)).collect();
        places.push(format!("($1, $2, $3, $3, $4, $5, $3, {})", own.join(", ")));
        values.extend([
            Id::new().into(),
            entry.sequence.into(),
            (&entry.kind).into(),
            entry.step_id.clone().into(),
            (&entry.data).into(),
        ]);
    }
    transaction.execute(
        &format!(
            "INSERT INTO workflow_run_events (organization_id, created_by, created_at, updated_at, version, run_id, at, id, sequence, \
             type, step_id, data) VALUES {}",
            places.join(", ")
        ),
        &values,
    )?;
    for entry in entries.iter().filter(|entry| is_published(&entry.kind)) {
        let data = if run.audience == Audience::Organization {
            Cow::Borrowed(&entry.data)
        } else {
            Cow::Owned(discreet(&entry.data))
        };
        transaction.send(&Message::new(&entry.kind, &data)?.with_key(run_id.as_str()))?;
    }
    Ok(())
}

/// What leaves the service of a run that is not everybody's: which one, how it goes, and nothing that anybody has said.
fn discreet(data: &Value) -> Value {
    let mut data = data.clone();
    if let Some(members) = data.as_object_mut() {
        members.retain(|name, _| !matches!(name.as_str(), "output" | "message"));
        if let Some(error) = members.get_mut("error").and_then(Value::as_object_mut) {
            error.retain(|name, _| matches!(name.as_str(), "code" | "stepId"));
        }
    }
    data
}

/// One page of events, in their order.
pub fn page(run_id: &Id, query: &EventQuery) -> Result<JsonText<Page<Event>>> {
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    let mut values: Vec<database::Value> =
        vec![auth::organization_id()?.into(), run_id.into(), query.after_sequence.unwrap_or(0).into()];
    let mut from =
        String::from("FROM workflow_run_events WHERE organization_id = $1 AND run_id = $2 AND sequence > $3");
    if let Some(kind) = query.r#type.as_ref().filter(|kind| !kind.is_empty()) {
        values.push(kind.into());
        from.push_str(" AND type = $4");
    }
    let total = database::query_one(&format!("SELECT COUNT(*) AS total {from}"), &values)?
        .map_or(Ok(0), |row| row.get::<i64>("total"))?;
    let columns = "id, run_id AS \"runId\", sequence, type, step_id AS \"stepId\", data, at";
    let items = database::query_json(&format!("SELECT {columns} {from} ORDER BY sequence LIMIT {limit}"), &values)?;
    let envelope = PageQuery { limit, ..PageQuery::default() };
    Ok(JsonText::new(200, envelope.envelope_text(&items, total)))
}

/// A value as an event carries it: not at all when it is large.
///
/// ```
/// use berth_sdk::json;
/// use workflow::history::shown;
/// assert_eq!(shown(&json!({"a": 1})), json!({"a": 1}));
/// assert_eq!(shown(&json!("x".repeat(20_000))), json!({"omitted": true}));
/// ```
pub fn shown(value: &Value) -> Value {
    if value.to_string().len() > VALUE_BYTES_MAX { json!({ "omitted": true }) } else { value.clone() }
}

/// An object with the members of another one.
pub fn with(mut value: Value, more: Value) -> Value {
    if let (Some(members), Value::Object(more)) = (value.as_object_mut(), more) {
        members.extend(more);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_was_said_in_private_leaves_the_service() {
        let error = json!({"code": "NOT_FOUND", "message": "No Flood.", "stepId": "a"});
        let data = json!({"runId": "r1", "output": {"a": 1}, "message": "Flood?", "error": error, "isPrivate": true});
        let left = json!({"runId": "r1", "error": {"code": "NOT_FOUND", "stepId": "a"}, "isPrivate": true});
        assert_eq!(discreet(&data), left);
        assert_eq!(discreet(&json!({"error": null})), json!({"error": null}));
    }
}
