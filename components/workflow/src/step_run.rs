//! The steps of a run as rows: each with its attempts, what it got and what it left.

use berth_sdk::{prelude::*, serde_json::Value};

use crate::{
    definition::{Step, StepType},
    machine::StepStatus,
};

/// How much of an output is kept, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 96 * 1024;
/// A member of a too large output that is left out, in bytes.
const MEMBER_BYTES_MAX: usize = 16 * 1024;
/// The item of a step that is no item.
const WHOLE: i64 = -1;

/// One step of one run, or one item of it.
#[entity(table = "workflow_step_runs", name = "step", sort = "place")]
pub struct StepRun {
    /// The run.
    pub run_id: Id,
    /// The step's id in the definition.
    pub step_id: Id,
    /// The step, or one item of it: `each`, `each.3`.
    #[field(filter)]
    pub key: String,
    /// The item's place, from 0.
    pub item_index: Option<i64>,
    /// The step's place in the definition.
    pub place: i64,
    /// For people.
    pub name: String,
    /// What it does.
    pub r#type: StepType,
    /// Which action.
    pub action: Option<String>,
    /// How far it is.
    pub status: StepStatus,
    /// The attempt that counts, from 1; 0 before the first.
    pub attempt: i64,
    /// Attempts before the run was retried as a whole.
    #[field(hidden)]
    pub attempt_base: i64,
    /// The attempt whose effect is sought.
    #[field(hidden)]
    pub effect: i64,
    /// What it got, with its references filled in.
    pub input: Option<Value>,
    /// What it left.
    pub output: Option<Value>,
    /// Why it failed.
    pub error: Option<Value>,
    /// When the last attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When it is tried again.
    pub next_attempt_at: Option<Timestamp>,
    /// When whoever works at it is given up.
    #[field(hidden)]
    pub lease_until: Option<Timestamp>,
    /// Until when it waits.
    pub deadline: Option<Timestamp>,
    /// What runs elsewhere for it.
    pub external_id: Option<String>,
    /// The message that runs it.
    #[field(hidden)]
    pub message_id: Option<String>,
    /// How far its items are.
    pub progress: Option<Value>,
}

impl Rules for StepRun {}

impl StepRun {
    /// Whether it is one item of a `foreach`.
    pub fn is_item(&self) -> bool {
        self.item_index.is_some()
    }
}

/// The row of a step that has not begun.
pub fn fresh(run_id: &Id, step: &Step, place: usize) -> StepRun {
    StepRun {
        run_id: run_id.clone(),
        step_id: step.id.clone(),
        key: step.id.to_string(),
        item_index: None,
        place: i64::try_from(place).unwrap_or(i64::MAX),
        name: step.title().to_string(),
        r#type: step.r#type,
        action: step.action.clone(),
        status: StepStatus::Pending,
        attempt: 0,
        attempt_base: 0,
        effect: 1,
        input: None,
        output: None,
        error: None,
        started_at: None,
        finished_at: None,
        next_attempt_at: None,
        lease_until: None,
        deadline: None,
        external_id: None,
        message_id: None,
        progress: None,
    }
}

/// The key of an item.
pub fn item_key(step_id: &Id, index: i64) -> String {
    format!("{step_id}.{index}")
}

/// The step and the item that a key names; the item is -1 for the step itself.
///
/// ```
/// use workflow::step_run::split_key;
/// assert_eq!(split_key("each.3"), ("each", 3));
/// assert_eq!(split_key("each"), ("each", -1));
/// ```
pub fn split_key(key: &str) -> (&str, i64) {
    match key.rsplit_once('.') {
        Some((step, item)) => (step, item.parse().unwrap_or(WHOLE)),
        None => (key, WHOLE),
    }
}

/// An output as it is kept: where it is too large its large members are left out, or the whole of it.
///
/// ```
/// use berth_sdk::json;
/// use workflow::step_run::kept;
/// assert_eq!(kept(json!({"a": 1})), json!({"a": 1}));
/// assert_eq!(kept(json!("x".repeat(300_000)))["omitted"], true);
/// let cut = kept(json!({"status": 200, "body": "x".repeat(300_000)}));
/// assert_eq!((&cut["status"], &cut["body"]["omitted"]), (&json!(200), &json!(true)));
/// ```
pub fn kept(output: Value) -> Value {
    let left_out = |value: &Value| json!({ "omitted": true, "bytes": value.to_string().len() });
    if output.to_string().len() <= OUTPUT_BYTES_MAX {
        return output;
    }
    let mut cut = output.clone();
    for member in cut.as_object_mut().into_iter().flat_map(|members| members.values_mut()) {
        if member.to_string().len() > MEMBER_BYTES_MAX {
            *member = left_out(member);
        }
    }
    if cut.is_object() && cut.to_string().len() <= OUTPUT_BYTES_MAX { cut } else { left_out(&output) }
}

/// Inserts the rows of a run's steps, all in one statement; their ids.
pub fn insert(transaction: &Transaction, organization_id: &Id, rows: &[StepRun], now: Timestamp) -> Result<Vec<Id>> {
    const COLUMNS: usize = 12;
    let ids: Vec<Id> = rows.iter().map(|_| Id::new()).collect();
    if rows.is_empty() {
        return Ok(ids);
    }
    let mut values: Vec<database::Value> = vec![organization_id.into(), now.into(), 1_i64.into(), 0_i64.into()];
    let shared = values.len();
    let mut places = Vec::with_capacity(rows.len());
    for (number, (row, id)) in rows.iter().zip(&ids).enumerate() {
        let first = shared + number * COLUMNS;
        let own: Vec<String> = (1..=COLUMNS).map(|column| format!("${}", first + column)).collect();
        places.push(format!("($1, $2, $2, $3, $4, {})", own.join(", ")));
        values.extend([
            id.into(),
            (&row.run_id).into(),
            (&row.step_id).into(),
            (&row.key).into(),
            row.item_index.into(),
            row.place.into(),
            (&row.name).into(),
            row.r#type.into(),
            row.action.clone().into(),
            row.status.into(),
            row.attempt.into(),
            row.effect.into(),
        ]);
    }
    transaction.execute(
        &format!(
            "INSERT INTO workflow_step_runs (organization_id, created_at, updated_at, version, attempt_base, id, run_id, step_id, \
             \"key\", item_index, place, name, type, action, status, attempt, effect) VALUES {}",
            places.join(", ")
        ),
        &values,
    )?;
    Ok(ids)
}

/// What the machine knows of a row.
#[data]
pub struct Brief {
    /// The row.
    pub id: Id,
    /// The step.
    pub step_id: Id,
    /// How far it is.
    pub status: StepStatus,
    /// The attempt that counts.
    pub attempt: i64,
    /// See [`StepRun::attempt_base`].
    pub attempt_base: i64,
}

/// The steps of a run, without their items, in the order of the definition.
pub fn briefs(database: &dyn Executor, run_id: &Id) -> Result<Vec<Brief>> {
    Ok(database::query_as(
        database,
        "SELECT id, step_id AS \"stepId\", status, attempt, attempt_base AS \"attemptBase\" FROM workflow_step_runs \
         WHERE run_id = $1 AND item_index IS NULL ORDER BY place",
        params![run_id],
    )?)
}
