//! What a step may refer to: the trigger, variables, the run, and the steps that it waits for, of which only those that it
//! names are read.

use std::collections::BTreeSet;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{
    definition::Step,
    expression::{self, Path},
    history::with,
    run::Run,
    template,
};

/// Everything that a step names.
fn paths(step: &Step) -> Vec<Path> {
    let mut found: Vec<Path> = step.conditions.iter().filter_map(|condition| condition.path().ok()).collect();
    if let Some(expression) = step.when.as_deref().and_then(|text| expression::parse(text).ok()) {
        found.extend(expression.paths().into_iter().cloned());
    }
    found.extend(template::paths(&Value::Object(step.input.clone())).unwrap_or_default());
    if let Some(message) = step.human_gate.as_ref().and_then(|gate| gate.message.clone()) {
        found.extend(template::paths(&Value::String(message)).unwrap_or_default());
    }
    found
}

/// The scope in which a step's conditions and references are read.
pub fn of(run: &Run<'_>, step: &Step) -> Result<Value> {
    let named: BTreeSet<String> = paths(step)
        .iter()
        .filter(|path| path.name(0) == Some("steps"))
        .filter_map(|path| path.name(1).map(ToString::to_string))
        .collect();
    let row = &run.row;
    Ok(json!({
        "steps": steps(run, &named)?,
        "trigger": row.trigger_payload,
        "variables": row.variables,
        "run": {
            "id": row.id, "workflowId": row.workflow_id, "version": row.data.version, "triggerType": row.trigger_type,
            "startedAt": row.started_at, "depth": row.depth, "startedBy": row.created_by,
        },
    }))
}

fn steps(run: &Run<'_>, named: &BTreeSet<String>) -> Result<Map<String, Value>> {
    let mut steps = Map::new();
    if named.is_empty() {
        return Ok(steps);
    }
    let mut values = vec![database::Value::from(&run.row.id)];
    values.extend(named.iter().map(database::Value::from));
    let places: Vec<String> = (2..=values.len()).map(|place| format!("${place}")).collect();
    let sql = format!(
        "SELECT step_id, status, output, error FROM workflow_step_runs WHERE run_id = $1 AND item_index IS NULL AND step_id IN ({})",
        places.join(", ")
    );
    for row in run.transaction.query(&sql, &values)? {
        let (step_id, status): (String, String) = (row.get("step_id")?, row.get("status")?);
        let (output, error): (Value, Value) = (row.json("output")?, row.json("error")?);
        let mut seen = json!({ "status": status });
        if !output.is_null() {
            seen = with(seen, json!({ "output": output }));
        }
        if !error.is_null() {
            seen = with(seen, json!({ "error": error }));
        }
        steps.insert(step_id, seen);
    }
    Ok(steps)
}

/// Whether a step may run: all its conditions and its expression hold.
pub fn holds(step: &Step, scope: &Value) -> bool {
    let expression = step.when.as_deref().map(expression::parse);
    step.conditions.iter().all(|condition| condition.holds(scope))
        && expression.is_none_or(|read| read.is_ok_and(|expression| expression.holds(scope)))
}

/// The scope within one item of a `foreach`.
pub fn with_item(scope: &Value, item: &Value, index: i64) -> Value {
    with(scope.clone(), json!({ "item": item, "index": index }))
}
