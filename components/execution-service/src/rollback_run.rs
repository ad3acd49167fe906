//! A rollback under way: step by step in reverse order, as far as it goes. It never goes forward.

use std::time::Duration;

use berth_sdk::{prelude::*, serde_json::Value};
use plan_rules::{Rollback, StepType};

use crate::{
    advance,
    artifact::{self, Change},
    assertion,
    execution::Status,
    failure::Failure,
    history,
    rollback::{self, Way},
    run::Run,
    step::{Phase, StepRow, StepStatus},
    workspace::{self, Sight},
};

/// Begins to undo what was completed after an event.
pub fn begin(run: &mut Run<'_>, after: i64) -> Result<()> {
    advance::release(run)?;
    run.enter(Status::RollingBack);
    run.execution.completed_at = None;
    run.execution.rollback_after = Some(after);
    let order = rollback::order(&run.steps, after);
    run.record("execution.rolling_back", None, json!({ "afterSequence": after, "steps": order }))?;
    advance(run)
}

/// Undoes until everything is undone, a step has to be undone elsewhere, or one cannot be.
pub fn advance(run: &mut Run<'_>) -> Result<()> {
    if run.steps.iter().any(|step| step.status.is_under_way()) {
        return Ok(());
    }
    let after = run.execution.rollback_after.unwrap_or(0);
    while let Some(id) = rollback::next(&run.steps, after).map(|state| state.step_id.clone()) {
        let mut row = run.step(&id)?;
        match undo(run, &mut row)? {
            Undone::Done => mark(run, &mut row)?,
            Undone::UnderWay => return Ok(()),
            Undone::Stuck(failure) => return stuck(run, &row, &failure),
        }
    }
    let error = run.execution.error.clone();
    advance::end(run, Status::RolledBack, "execution.rolled_back", json!({ "error": error }))
}

/// A step that was undone elsewhere is: on with the others.
pub fn compensated(run: &mut Run<'_>, row: &mut Stored<StepRow>) -> Result<()> {
    mark(run, row)?;
    advance(run)
}

/// The rollback ends here, and says so.
pub fn stuck(run: &mut Run<'_>, row: &StepRow, failure: &Failure) -> Result<()> {
    let cause = run.execution.error.take().unwrap_or(Value::Null);
    let message = format!("Step {} cannot be undone: {}", row.order, failure.message);
    let error = json!({
        "code": "rollback_incomplete", "message": message, "stepId": row.step_id, "order": row.order,
        "reason": failure.code, "cause": cause,
    });
    run.execution.error = Some(error.clone());
    advance::end(run, Status::Failed, "execution.failed", json!({ "error": error, "rollback": "rollback_incomplete" }))
}

enum Undone {
    Done,
    UnderWay,
    Stuck(Failure),
}

fn undo(run: &mut Run<'_>, row: &mut Stored<StepRow>) -> Result<Undone> {
    let step = advance::definition(row)?;
    let kind = step.rollback.as_ref().map(|rollback| rollback.r#type);
    Ok(match (rollback::way(step.r#type, step.rollback_type, kind), step.rollback) {
        (Way::Nothing, _) => Undone::Done,
        (Way::Ledger, _) => restore(run, row)?,
        (Way::Inside(kind), Some(rollback)) => act(run, row, kind, &rollback)?,
        (Way::Outside(_), Some(_)) => {
            row.phase = Phase::Compensate;
            advance::make_ready(run, row, Duration::ZERO)?;
            Undone::UnderWay
        }
        _ => Undone::Stuck(Failure::lasting("IRREVERSIBLE", "it is irreversible.")),
    })
}

/// Puts back what was there before the step, when what it left is still there.
fn restore(run: &Run<'_>, row: &StepRow) -> Result<Undone> {
    for change in workspace::changes_of(run, &row.step_id)? {
        let current = workspace::read(run.transaction, &run.execution.id, &change.path)?;
        if current != change.after {
            let message = format!("{} is not what the step left.", change.path);
            return Ok(Undone::Stuck(Failure::lasting("ARTIFACT_CHANGED", message)));
        }
        workspace::write(run, &row.step_id, &change.inverse(), true)?;
    }
    Ok(Undone::Done)
}

fn act(run: &Run<'_>, row: &StepRow, kind: StepType, rollback: &Rollback) -> Result<Undone> {
    if matches!(kind, StepType::Validation | StepType::Test) {
        let assertions = rollback.params.get("assertions").and_then(Value::as_array).cloned().unwrap_or_default();
        let broken = assertion::check(&assertions, &Sight { run, changes: &[], own: None })?;
        return Ok(match broken.first() {
            None => Undone::Done,
            Some(_) => Undone::Stuck(Failure::lasting("VALIDATION_FAILED", broken.join(" "))),
        });
    }
    Ok(match file_change(run, kind, &rollback.params)? {
        Ok(change) => {
            workspace::write(run, &row.step_id, &change, true)?;
            Undone::Done
        }
        Err(failure) => Undone::Stuck(failure),
    })
}

/// What a file step changes in the workspace as it is now.
pub fn file_change(run: &Run<'_>, kind: StepType, params: &Value) -> Result<Result<Change, Failure>> {
    let path = params.get("path").and_then(Value::as_str).unwrap_or_default();
    let current = workspace::read(run.transaction, &run.execution.id, path)?;
    if kind == StepType::FileCreate
        && current.is_none()
        && let Some(failure) = workspace::check_place(run, path)?
    {
        return Ok(Err(failure));
    }
    Ok(artifact::change(kind, params, current))
}

fn mark(run: &mut Run<'_>, row: &mut Stored<StepRow>) -> Result<()> {
    row.status = StepStatus::Compensated;
    row.finished_at = Some(run.now);
    row.lease_until = None;
    row.lease_token_hash = None;
    row.reported = None;
    run.put(row)?;
    run.record("execution.step.compensated", Some(&row.step_id.clone()), history::of_step(row, json!({}))).map(|_| ())
}
