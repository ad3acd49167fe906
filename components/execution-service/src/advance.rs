//! What follows: after a step has ended the next ones begin, the execution pauses, ends, or undoes what it did. Always
//! inside the transaction of what it follows from.

use std::time::Duration;

use berth_sdk::{canonical, prelude::*, serde_json, serde_json::Value};
use plan_rules::{OnFailure, Step};

use crate::{
    artifact::Change,
    assertion,
    execution::Status,
    failure::{Failure, Fate, fate},
    history, rollback_run,
    run::Run,
    step::{Phase, StepRow, StepStatus, startable},
    workspace::{self, Sight},
};

/// Steps whose titles the last event repeats.
const STEPS_TOLD_MAX: i64 = 50;

/// Begins what may begin, and ends what is over.
pub fn advance(run: &mut Run<'_>) -> Result<()> {
    match run.execution.status {
        Status::Pending | Status::Running if run.execution.error.is_some() => {
            // A step has failed for good: what is held ends, nothing new begins.
            if run.has_running() { Ok(()) } else { stop(run) }
        }
        Status::Pending | Status::Running => schedule(run),
        Status::Pausing if !run.has_running() => pause(run),
        Status::RollingBack => rollback_run::advance(run),
        _ => Ok(()),
    }
}

fn schedule(run: &mut Run<'_>) -> Result<()> {
    for id in startable(&run.steps, run.execution.options.max_parallel) {
        let mut row = run.step(&id)?;
        make_ready(run, &mut row, Duration::ZERO)?;
    }
    if run.steps.iter().any(|step| step.status.is_under_way()) {
        return Ok(());
    }
    if run.steps.iter().all(|step| step.status.is_done()) {
        return complete(run);
    }
    let failed = run.steps.iter().find(|step| step.status == StepStatus::Failed).map(|step| step.step_id.clone());
    run.execution.error = Some(match failed {
        Some(id) => {
            let row = run.step(&id)?;
            step_error(&row)
        }
        None => json!({ "code": "STUCK", "message": "Nothing that is left can begin." }),
    });
    stop(run)
}

/// Sends a step on its next attempt.
pub fn make_ready(run: &mut Run<'_>, row: &mut Stored<StepRow>, delay: Duration) -> Result<()> {
    row.status = StepStatus::Ready;
    row.attempt += 1;
    row.next_attempt_at = (!delay.is_zero()).then(|| run.now.plus(delay));
    row.lease_until = None;
    row.lease_token_hash = None;
    row.worker_id = None;
    run.put(row)?;
    run.enqueue(&row.step_id, row.attempt, delay)
}

/// Enters `paused`; the reason is the execution's error, where it paused by itself.
pub fn pause(run: &mut Run<'_>) -> Result<()> {
    run.enter(Status::Paused);
    let reason = run.execution.error.clone().unwrap_or(Value::Null);
    run.record("execution.paused", None, json!({ "reason": reason })).map(|_| ())
}

/// A step has failed for good and nothing is held any more: undo, or end.
fn stop(run: &mut Run<'_>) -> Result<()> {
    release(run)?;
    let options = run.execution.options.clone();
    let has_done = run.steps.iter().any(|step| step.status == StepStatus::Completed);
    if options.auto_rollback && !options.dry_run && has_done {
        return rollback_run::begin(run, 0);
    }
    end(run, Status::Failed, "execution.failed", json!({ "error": run.execution.error }))
}

/// Takes back what has not begun.
pub fn release(run: &mut Run<'_>) -> Result<()> {
    run.transaction.execute(
        "UPDATE execution_steps SET status = $2, next_attempt_at = NULL, updated_at = $5, version = version + 1 \
         WHERE execution_id = $1 AND status IN ($3, $4)",
        params![&run.execution.id, StepStatus::Pending, StepStatus::Ready, StepStatus::Waiting, run.now],
    )?;
    run.reload()
}

fn complete(run: &mut Run<'_>) -> Result<()> {
    run.execution.error = None;
    end(run, Status::Completed, "execution.completed", json!({}))
}

/// Ends the execution and says so.
pub fn end(run: &mut Run<'_>, status: Status, kind: &str, more: Value) -> Result<()> {
    let files = workspace::current_ids(run)?.len();
    let count = |status: StepStatus| run.steps.iter().filter(|step| step.status == status).count();
    let is_dry = run.execution.options.dry_run;
    let result = json!({
        "completed": count(StepStatus::Completed),
        "skipped": count(StepStatus::Skipped),
        "failed": count(StepStatus::Failed),
        "compensated": count(StepStatus::Compensated),
        "files": if is_dry { 0 } else { files },
    });
    run.execution.result = Some(result.clone());
    run.enter(status);
    if is_dry {
        run.transaction
            .execute("DELETE FROM execution_artifacts WHERE execution_id = $1", params![&run.execution.id])?;
    }
    let told: Vec<Value> = database::query_as(
        run.transaction,
        "SELECT title, type, status FROM execution_steps WHERE execution_id = $1 ORDER BY \"order\" LIMIT $2",
        params![&run.execution.id, STEPS_TOLD_MAX],
    )?;
    run.record(kind, None, history::with(json!({ "result": result, "steps": told }), more)).map(|_| ())
}

/// Records that a step has done what it should, or that it has not after all: its postconditions and its artifacts
/// decide.
pub fn finish_step(run: &mut Run<'_>, row: &mut Stored<StepRow>, output: Value, changes: &[Change]) -> Result<()> {
    if row.phase == Phase::Compensate {
        return rollback_run::compensated(run, row);
    }
    let step = definition(row)?;
    let facts = Sight { run, changes, own: Some((row, &output)) };
    let mut broken = assertion::check(&step.postconditions, &facts)?;
    broken.extend(unexpected(run, &step, changes)?);
    if !broken.is_empty() {
        let failure = Failure::new("POSTCONDITION_FAILED", broken.join(" ")).with_output(output);
        return fail_step(run, row, failure);
    }
    for change in changes {
        workspace::write(run, &row.step_id, change, false)?;
    }
    row.status = StepStatus::Completed;
    row.output = Some(output.clone());
    row.error = None;
    row.finished_at = Some(run.now);
    row.lease_until = None;
    row.lease_token_hash = None;
    row.reported = None;
    let artifacts: Vec<Value> =
        changes.iter().map(|change| json!({ "path": change.path, "operation": change.operation() })).collect();
    let more = json!({ "output": history::output(&output), "artifacts": artifacts });
    let sequence = run.record("execution.step.completed", Some(&row.step_id.clone()), history::of_step(row, more))?;
    row.completed_sequence = Some(sequence);
    run.put(row)?;
    advance(run)
}

/// Records that a step has failed, and decides what becomes of it.
pub fn fail_step(run: &mut Run<'_>, row: &mut Stored<StepRow>, failure: Failure) -> Result<()> {
    row.error = Some(failure.to_json());
    row.finished_at = Some(run.now);
    row.lease_until = None;
    row.lease_token_hash = None;
    row.reported = None;
    if let Some(output) = &failure.output {
        row.output = Some(output.clone());
    }
    if row.phase == Phase::Compensate {
        row.status = StepStatus::Failed;
        run.put(row)?;
        return rollback_run::stuck(run, row, &failure);
    }
    let step = definition(row).ok();
    let on_failure = step.as_ref().map_or(OnFailure::Block, |step| step.on_failure);
    let max_retries = step.as_ref().map_or(0, |step| step.max_retries);
    let seed = u64::try_from(run.now.millis()).unwrap_or(0) ^ hash_of(&row.id);
    let verdict = fate(&failure, on_failure, row.attempt, max_retries, seed);
    let mut data = json!({ "error": failure.to_json(), "willRetry": false });
    if let Fate::Retry(delay) = verdict {
        let again = run.now.plus(delay);
        data = history::with(data, json!({ "willRetry": true, "status": "pending", "nextAttemptAt": again }));
    }
    if let Some(output) = &failure.output {
        data = history::with(data, json!({ "output": history::output(output) }));
    }
    row.status = StepStatus::Failed;
    run.record("execution.step.failed", Some(&row.step_id.clone()), history::of_step(row, data))?;
    match verdict {
        Fate::Retry(delay) => {
            make_ready(run, row, delay)?;
        }
        Fate::Ask => {
            run.put(row)?;
            if matches!(run.execution.status, Status::Pending | Status::Running) {
                run.execution.error = Some(history::with(step_error(row), json!({ "reason": "ask" })));
                run.enter(Status::Pausing);
            }
        }
        Fate::Block => {
            run.put(row)?;
            if !run.execution.options.continue_on_error {
                run.execution.error = Some(step_error(row));
            }
        }
    }
    advance(run)
}

/// A failed step as the execution's error.
pub fn step_error(row: &StepRow) -> Value {
    let error = row.error.clone().unwrap_or_else(|| json!({ "code": "FAILED", "message": "The step failed." }));
    history::with(error, json!({ "stepId": row.step_id, "order": row.order }))
}

/// The plan's step behind a row.
pub fn definition(row: &StepRow) -> Result<Step> {
    serde_json::from_value(row.definition.clone()).map_err(|error| {
        logging::error!("the definition of a step cannot be read", error = error);
        Problem::internal()
    })
}

/// A change that was not announced, or an announced one that is missing.
fn unexpected(run: &Run<'_>, step: &Step, changes: &[Change]) -> Result<Vec<String>> {
    let mut sentences = Vec::new();
    if step.expected_artifacts.is_empty() {
        return Ok(sentences);
    }
    for change in changes.iter().filter(|change| !step.expected_artifacts.contains(&change.path)) {
        sentences.push(format!("{} was changed, which was not expected.", change.path));
    }
    // What runs elsewhere keeps its files there: the workspace cannot tell.
    if !crate::step::is_inside(step.r#type) {
        return Ok(sentences);
    }
    for path in &step.expected_artifacts {
        let is_changed = changes.iter().any(|change| change.path == *path);
        let is_there = changes.is_empty() && workspace::read(run.transaction, &run.execution.id, path)?.is_some();
        if !is_changed && !is_there {
            sentences.push(format!("{path} was expected and is missing."));
        }
    }
    Ok(sentences)
}

/// A number that differs from row to row.
fn hash_of(id: &Id) -> u64 {
    let digest = canonical::sha256_bytes(id.as_bytes());
    u64::from_str_radix(digest.get(..15).unwrap_or_default(), 16).unwrap_or(0)
}
