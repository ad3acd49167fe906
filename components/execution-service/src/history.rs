//! The history of an execution: events numbered without a gap, written in the transaction of what they tell.

use berth_sdk::{events::Message, prelude::*, serde_json::Value};

use crate::step::StepRow;

/// Reading begins after this event when nothing is said.
const FROM_THE_START: i64 = 0;
/// An event carries an output of at most so many bytes.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// Everything that leaves the service; other types stay in the history.
const PUBLISHED: &[&str] = &[
    "execution.started",
    "execution.step.started",
    "execution.step.completed",
    "execution.step.failed",
    "execution.step.waiting",
    "execution.paused",
    "execution.resumed",
    "execution.cancelled",
    "execution.completed",
    "execution.failed",
    "execution.rolled_back",
    "execution.plan.updated",
];

const COLUMNS: &str =
    "id, execution_id AS \"executionId\", sequence, type, step_id AS \"stepId\", data, occurred_at AS \"occurredAt\"";

/// One event, as it is shown.
#[data]
pub struct Event {
    /// The row.
    pub id: Id,
    /// The execution.
    pub execution_id: Id,
    /// From 1, without a gap.
    pub sequence: i64,
    /// As in `execution.step.completed`.
    pub r#type: String,
    /// The step it tells of.
    pub step_id: Option<Id>,
    /// What happened.
    pub data: Value,
    /// When.
    pub occurred_at: Timestamp,
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

/// Writes an event and publishes it, where it is of a published type.
pub fn write(transaction: &Transaction, organization_id: &Id, event: &Event) -> Result<()> {
    transaction.execute(
        "INSERT INTO execution_events (id, organization_id, created_by, created_at, updated_at, version, execution_id, sequence, type, step_id, data, occurred_at) \
         VALUES ($1, $2, $3, $4, $4, 1, $5, $6, $7, $8, $9, $4)",
        params![
            &event.id,
            organization_id,
            auth::principal().user_id,
            event.occurred_at,
            &event.execution_id,
            event.sequence,
            &event.r#type,
            &event.step_id,
            &event.data,
        ],
    )?;
    if PUBLISHED.contains(&event.r#type.as_str()) {
        transaction.send(&Message::new(&event.r#type, &event.data)?.with_key(event.execution_id.as_str()))?;
    }
    Ok(())
}

/// One page of events, in their order.
pub fn page(execution_id: &Id, query: &EventQuery) -> Result<JsonText<berth_sdk::page::Page<Event>>> {
    let limit = query.limit.unwrap_or(berth_sdk::page::LIMIT_DEFAULT);
    let mut values: Vec<database::Value> = vec![
        auth::organization_id()?.into(),
        execution_id.into(),
        query.after_sequence.unwrap_or(FROM_THE_START).into(),
    ];
    let mut from =
        String::from("FROM execution_events WHERE organization_id = $1 AND execution_id = $2 AND sequence > $3");
    if let Some(kind) = query.r#type.as_ref().filter(|kind| !kind.is_empty()) {
        values.push(kind.into());
        from.push_str(" AND type = $4");
    }
    let total = database::query_one(&format!("SELECT COUNT(*) AS total {from}"), &values)?
        .map_or(Ok(0), |row| row.get::<i64>("total"))?;
    let items = database::query_json(&format!("SELECT {COLUMNS} {from} ORDER BY sequence LIMIT {limit}"), &values)?;
    let envelope = PageQuery { limit, ..PageQuery::default() };
    Ok(JsonText::new(200, envelope.envelope_text(&items, total)))
}

/// The next events after one, in their order.
pub fn after(execution_id: &Id, sequence: i64, limit: i64) -> Result<Vec<Event>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM execution_events WHERE organization_id = $1 AND execution_id = $2 AND sequence > $3 ORDER BY sequence LIMIT {limit}"
    );
    Ok(database::query_as(&Pool, &sql, params![auth::organization_id()?, execution_id, sequence])?)
}

/// What an event of a step tells beyond its type.
pub fn of_step(row: &StepRow, more: Value) -> Value {
    with(json!({ "order": row.order, "title": row.title, "type": row.r#type, "attempt": row.attempt }), more)
}

/// An object with the members of another one.
pub fn with(mut value: Value, more: Value) -> Value {
    if let (Some(members), Value::Object(more)) = (value.as_object_mut(), more) {
        members.extend(more);
    }
    value
}

/// An output as an event carries it: not at all when it is large.
pub fn output(value: &Value) -> Value {
    let cut = crate::plan::shown(value);
    if cut.to_string().len() > OUTPUT_BYTES_MAX { json!({ "omitted": true }) } else { cut }
}
