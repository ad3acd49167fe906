//! The plan hash: SHA-256 of the canonical JSON of what a plan does.

use berth_sdk::{
    canonical,
    serde_json::{Map, Value},
};

/// The members of a plan that the hash covers.
const PLAN_MEMBERS: &[&str] = &["projectId", "title", "intent", "strategy", "assumptions", "invariants", "nonGoals"];
/// The members of a step that the hash covers: what it is and does, never how it went.
const STEP_MEMBERS: &[&str] = &[
    "id",
    "order",
    "title",
    "type",
    "params",
    "dependencies",
    "preconditions",
    "postconditions",
    "expectedArtifacts",
    "rollback",
    "rollbackType",
    "irreversibleAccepted",
    "onFailure",
    "maxRetries",
    "timeoutMs",
];

/// The hash of a plan as `GET /api/plans/{id}` answers with it. Members that are null count as absent; steps count in
/// their order, wherever they stand in the list.
///
/// ```
/// use berth_sdk::json;
/// let plan = json!({"id": "p", "title": "t", "status": "ready", "steps": [{"id": "s", "order": 1, "status": "pending"}]});
/// let mut running = plan.clone();
/// running["status"] = json!("executing");
/// running["steps"][0]["status"] = json!("completed");
/// assert_eq!(plan_rules::hash::of(&plan), plan_rules::hash::of(&running));
/// running["steps"][0]["title"] = json!("another");
/// assert_ne!(plan_rules::hash::of(&plan), plan_rules::hash::of(&running));
/// ```
pub fn of(plan: &Value) -> String {
    let mut steps: Vec<Value> = plan
        .get("steps")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|step| Value::Object(picked(step, STEP_MEMBERS)))
        .collect();
    steps.sort_by_key(|step| step.get("order").and_then(Value::as_i64).unwrap_or(i64::MAX));
    let mut covered = picked(plan, PLAN_MEMBERS);
    covered.insert("steps".into(), Value::Array(steps));
    canonical::sha256(&Value::Object(covered))
}

fn picked(value: &Value, members: &[&str]) -> Map<String, Value> {
    members
        .iter()
        .filter_map(|name| {
            value.get(*name).filter(|value| !value.is_null()).map(|value| ((*name).into(), value.clone()))
        })
        .collect()
}
