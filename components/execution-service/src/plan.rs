//! The plan of an execution: the copy it runs by, its hash, and what a change of it may touch. Pure rules.

use std::collections::{BTreeMap, BTreeSet};

use berth_sdk::{canonical, prelude::*, serde_json, serde_json::Value, validate::FieldError};
use plan_rules::{NewStep, RollbackType, Step, checks, hash, resolve, writes};

use crate::step::StepStatus;

/// The largest plan that runs, in bytes of JSON.
pub const PLAN_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longer texts are cut where a step's parameters and outputs are shown.
const SHOWN_BYTES_MAX: usize = 4 * 1024;
/// What of a plan is copied; the hash covers it.
const MEMBERS: &[&str] =
    &["id", "projectId", "title", "description", "intent", "strategy", "assumptions", "invariants", "nonGoals"];

/// The copy of a plan that an execution runs by.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// As it is stored.
    pub value: Value,
    /// Its steps, in their order.
    pub steps: Vec<Step>,
    /// Its hash.
    pub hash: String,
}

/// The body of `PUT /api/executions/{id}/plan`.
#[data]
pub struct PlanChange {
    /// Every step of the plan, those that are done too.
    #[field(min = 1, max = 500)]
    pub steps: Vec<NewStep>,
    /// Why.
    #[field(max = 2_000)]
    pub reason: Option<String>,
}

impl Snapshot {
    /// Copies a plan as planning shows it. 422 when it has no steps, is too large, or a step makes no sense.
    pub fn take(plan: &Value) -> Result<Self> {
        let listed = plan.get("steps").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut steps = listed
            .into_iter()
            .map(|step| {
                serde_json::from_value(step).map_err(|error| {
                    logging::warn!("a step of a plan cannot be read", error = error);
                    Problem::unprocessable("A step of the plan cannot be read.")
                })
            })
            .collect::<Result<Vec<Step>>>()?;
        steps.sort_by_key(|step| step.order);
        if steps.is_empty() {
            return Err(Problem::unprocessable("The plan has no steps.").with_code("PLAN_EMPTY"));
        }
        Self::of(plan, steps)
    }

    /// The same plan with other steps.
    pub fn with_steps(&self, steps: Vec<Step>) -> Result<Self> {
        Self::of(&self.value, steps)
    }

    /// Whether the stored copy is what its hash says.
    pub fn is_whole(value: &Value, wanted: &str) -> bool {
        hash::of(value) == wanted
    }

    fn of(plan: &Value, steps: Vec<Step>) -> Result<Self> {
        let mut members: serde_json::Map<String, Value> = MEMBERS
            .iter()
            .filter_map(|name| plan.get(*name).map(|value| ((*name).to_string(), value.clone())))
            .collect();
        members.insert("steps".into(), json!(steps));
        let value = Value::Object(members);
        if value.to_string().len() > PLAN_BYTES_MAX {
            let detail = format!("A plan that runs has at most {PLAN_BYTES_MAX} bytes.");
            return Err(Problem::unprocessable(detail).with_code("PLAN_TOO_LARGE"));
        }
        let hash = hash::of(&value);
        Ok(Self { value, steps, hash })
    }
}

/// The hash of one step, by which its row is checked before it runs.
pub fn step_hash(step: &Value) -> String {
    canonical::sha256(step)
}

/// The paths a step and its rollback write.
pub fn writes_of(step: &Step) -> Vec<String> {
    let mut paths: BTreeSet<String> = writes::of(step);
    if step.rollback_type == RollbackType::Compensatable
        && let Some(path) =
            step.rollback.as_ref().and_then(|rollback| rollback.params.get("path")).and_then(Value::as_str)
    {
        paths.insert(path.to_string());
    }
    paths.into_iter().collect()
}

/// A value with its long texts cut, for showing.
pub fn shown(value: &Value) -> Value {
    match value {
        Value::String(text) if text.len() > SHOWN_BYTES_MAX => {
            let mut end = SHOWN_BYTES_MAX;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            Value::String(format!("{}… ({} bytes)", text.get(..end).unwrap_or_default(), text.len()))
        }
        Value::Array(entries) => Value::Array(entries.iter().map(shown).collect()),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(name, value)| (name.clone(), shown(value))).collect())
        }
        other => other.clone(),
    }
}

/// What a change of the plan does to the steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// The plan afterwards.
    pub snapshot: Snapshot,
    /// Steps that were not there before or are different now.
    pub fresh: BTreeSet<Id>,
    /// Steps that are gone.
    pub gone: BTreeSet<Id>,
}

/// Judges a change: steps that are done stay as they are, and the whole is a valid plan. A step without an id takes the
/// one at its place. 400 for what is malformed, 422 for what cannot be.
pub fn change(snapshot: &Snapshot, statuses: &BTreeMap<Id, StepStatus>, new: Vec<NewStep>) -> Result<Changed> {
    let known: BTreeMap<&str, &Step> = snapshot.steps.iter().map(|step| (step.id.as_str(), step)).collect();
    let steps = resolve(with_ids(&snapshot.steps, new), |id| known.contains_key(id.as_str()))?;
    let kept: BTreeSet<&str> = steps.iter().map(|step| step.id.as_str()).collect();
    let is_fixed = |id: &Id| {
        matches!(statuses.get(id), Some(StepStatus::Completed | StepStatus::Running | StepStatus::Compensated))
    };
    let mut faults: Vec<String> = Vec::new();
    for step in snapshot.steps.iter().filter(|step| is_fixed(&step.id) && !kept.contains(step.id.as_str())) {
        faults.push(format!("Step {} is done and cannot be removed.", step.order));
    }
    let mut fresh = BTreeSet::new();
    for step in &steps {
        match known.get(step.id.as_str()) {
            Some(old) if is_same(old, step) => {}
            Some(old) if is_fixed(&step.id) => {
                faults.push(format!("Step {} is done and cannot be changed.", old.order))
            }
            _ => {
                fresh.insert(step.id.clone());
            }
        }
    }
    if let Some(first) = faults.first() {
        return Err(Problem::unprocessable(first.clone()).with_code("STEP_IMMUTABLE").with("faults", json!(faults)));
    }
    check(&snapshot.value, &steps)?;
    let gone = snapshot.steps.iter().map(|step| step.id.clone()).filter(|id| !kept.contains(id.as_str())).collect();
    Ok(Changed { snapshot: snapshot.with_steps(steps)?, fresh, gone })
}

/// 422 with every finding unless the steps are a valid plan.
pub fn check(plan: &Value, steps: &[Step]) -> Result<()> {
    let non_goals: Vec<String> =
        plan.get("nonGoals").cloned().and_then(|goals| serde_json::from_value(goals).ok()).unwrap_or_default();
    let report = checks::check(&non_goals, steps);
    if report.is_valid {
        return Ok(());
    }
    let errors: Vec<FieldError> = report
        .errors
        .iter()
        .map(|finding| {
            FieldError::new(
                finding.order.map_or("steps".into(), |order| format!("steps[{}]", order - 1)),
                &finding.message,
            )
        })
        .collect();
    let detail = report.errors.first().map_or_else(String::new, |finding| finding.message.clone());
    let mut problem = Problem::unprocessable(detail).with_code("PLAN_INVALID");
    problem.errors = errors;
    Err(problem)
}

fn is_same(old: &Step, new: &Step) -> bool {
    let bare = |step: &Step| {
        // Steps before it may come and go.
        canonical::text(&json!(Step { order: 0, ..step.clone() }))
    };
    bare(old) == bare(new)
}

/// Gives each step without an id the id of the step now at its place, unless another entry names that one.
fn with_ids(old: &[Step], mut new: Vec<NewStep>) -> Vec<NewStep> {
    let mut claimed: BTreeSet<Id> = new.iter().filter_map(|step| step.id.clone()).collect();
    for (index, step) in new.iter_mut().enumerate() {
        let place = step.order.unwrap_or_else(|| i64::try_from(index).unwrap_or(i64::MAX) + 1);
        if step.id.is_none()
            && let Some(at) = old.iter().find(|step| step.order == place)
            && claimed.insert(at.id.clone())
        {
            step.id = Some(at.id.clone());
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use berth_sdk::{Id, json, serde_json, serde_json::Value};
    use plan_rules::{NewStep, resolve};

    use super::{Changed, Snapshot, change, shown};
    use crate::step::StepStatus;

    fn file(path: &str, content: &str) -> Value {
        json!({"title": path, "type": "file_create", "params": {"path": path, "content": content}})
    }

    fn read(value: Value) -> Vec<NewStep> {
        serde_json::from_value(value).unwrap()
    }

    fn running(done: usize) -> (Snapshot, BTreeMap<Id, StepStatus>) {
        let steps = resolve(read(json!([file("a", "1"), file("b", "2"), file("c", "3")])), |_| false).unwrap();
        let snapshot = Snapshot::take(&json!({"id": "p", "title": "t", "steps": steps})).unwrap();
        let statuses = snapshot.steps.iter().enumerate().map(|(index, step)| {
            (step.id.clone(), if index < done { StepStatus::Completed } else { StepStatus::Pending })
        });
        (snapshot.clone(), statuses.collect())
    }

    fn put(done: usize, steps: Value) -> Result<Changed, (u16, String)> {
        let (snapshot, statuses) = running(done);
        change(&snapshot, &statuses, read(steps)).map_err(|problem| (problem.status, problem.code.into_owned()))
    }

    #[test]
    fn later_steps_change_and_those_done_stay() {
        let changed = put(1, json!([file("a", "1"), file("b", "other"), file("d", "4"), file("e", "5")])).unwrap();
        assert_eq!((changed.fresh.len(), changed.gone.len(), changed.snapshot.steps.len()), (3, 0, 4));
        let shorter = put(1, json!([file("a", "1")])).unwrap();
        assert_eq!((shorter.fresh.len(), shorter.gone.len()), (0, 2));
        assert_ne!(changed.snapshot.hash, shorter.snapshot.hash);
    }

    #[test]
    fn what_is_done_can_neither_change_nor_go() {
        let immutable = Err((422, "STEP_IMMUTABLE".to_string()));
        assert_eq!(put(1, json!([file("a", "other"), file("b", "2")])), immutable);
        assert_eq!(put(2, json!([file("a", "1")])), immutable);
        assert!(put(0, json!([file("z", "1")])).is_ok());
    }

    #[test]
    fn a_change_is_validated_as_a_plan() {
        let twice = json!([file("a", "1"), {"title": "x", "type": "file_create", "params": {"path": "a", "content": ""}, "dependencies": []}]);
        assert_eq!(put(1, twice), Err((422, "PLAN_INVALID".to_string())));
        assert_eq!(put(1, json!([file("a", "1"), file("../b", "")])).unwrap_err().0, 400);
        let outside = json!([file("a", "1"), {"title": "x", "type": "file_create", "params": {"path": "y", "content": "", "mode": 1}}]);
        assert_eq!(put(1, outside).unwrap_err().0, 400);
    }

    #[test]
    fn an_unchanged_plan_keeps_its_hash() {
        let (snapshot, statuses) = running(1);
        let same: Vec<NewStep> = serde_json::from_value(json!(snapshot.steps)).unwrap();
        let changed = change(&snapshot, &statuses, same).unwrap();
        assert_eq!((changed.snapshot.hash, changed.fresh.len()), (snapshot.hash, 0));
        assert!(Snapshot::is_whole(&snapshot.value, &plan_rules::hash::of(&snapshot.value)));
    }

    #[test]
    fn a_plan_without_steps_does_not_run() {
        assert_eq!(Snapshot::take(&json!({"id": "p", "steps": []})).unwrap_err().status, 422);
        assert_eq!(Snapshot::take(&json!({"id": "p"})).unwrap_err().status, 422);
    }

    #[test]
    fn long_texts_are_cut_where_they_are_shown() {
        let cut = shown(&json!({"content": "ä".repeat(9_000), "n": 1}));
        assert!(cut["content"].as_str().unwrap().len() < 5_000);
        assert_eq!(cut["n"], 1);
    }
}
