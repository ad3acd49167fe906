//! What follows when a step has ended, whichever way. Always inside the transaction of what it follows from.

use std::time::Duration;

use berth_sdk::{backoff, prelude::*, serde_json::Value};

use crate::{
    definition::Step,
    failure::{self, Failure},
    foreach,
    history::{self, with},
    machine::{Effect, StepStatus},
    run::Run,
    step_run::{self, StepRun},
};

/// What an event of a step tells beyond its type.
pub fn facts(row: &StepRun, more: Value) -> Value {
    let mut facts = json!({ "name": row.name, "type": row.r#type, "action": row.action, "attempt": row.attempt });
    if let Some(index) = row.item_index {
        facts = with(facts, json!({ "itemIndex": index }));
    }
    with(facts, more)
}

/// Notes that an attempt begins.
pub fn started(run: &mut Run<'_>, row: &StepRun) {
    let kind = if row.is_item() { "workflow.item.started" } else { "workflow.step.started" };
    let input = row.input.as_ref().map(history::shown);
    run.record(kind, Some(&row.step_id), facts(row, json!({ "input": input })));
}

fn close(row: &mut Stored<StepRun>, status: StepStatus, now: Timestamp) {
    row.status = status;
    row.finished_at = Some(now);
    row.lease_until = None;
    row.deadline = None;
    row.next_attempt_at = None;
}

/// The step has done what it should.
pub fn finish(run: &mut Run<'_>, row: &mut Stored<StepRun>, output: Value) -> Result<()> {
    close(row, StepStatus::Completed, run.now);
    let output = step_run::kept(output);
    let kind = if row.is_item() { "workflow.item.completed" } else { "workflow.step.completed" };
    run.record(kind, Some(&row.step_id), facts(row, json!({ "output": history::shown(&output) })));
    row.output = Some(output);
    row.error = None;
    entity::save(run.transaction, row)?;
    if row.is_item() {
        return foreach::item_over(run, row);
    }
    let (place, _) = run.step(&row.step_id)?;
    let effects = run.machine.complete(place);
    run.carry_out(effects, Duration::ZERO, false)
}

/// The step's condition does not hold.
pub fn skip(run: &mut Run<'_>, row: &mut Stored<StepRun>) -> Result<()> {
    close(row, StepStatus::Skipped, run.now);
    entity::save(run.transaction, row)?;
    run.record(
        "workflow.step.skipped",
        Some(&row.step_id),
        facts(row, json!({ "reason": "its condition does not hold" })),
    );
    let (place, _) = run.step(&row.step_id)?;
    let effects = run.machine.skip(place);
    run.carry_out(effects, Duration::ZERO, false)
}

/// The step waits: for people, a moment, or something elsewhere.
pub fn wait(run: &mut Run<'_>, row: &mut Stored<StepRun>, until: Option<Timestamp>, more: Value) -> Result<()> {
    row.status = StepStatus::Waiting;
    row.lease_until = None;
    row.deadline = until;
    entity::save(run.transaction, row)?;
    let data = facts(row, with(json!({ "until": until }), more));
    run.record("workflow.step.waiting", Some(&row.step_id), data);
    if !row.is_item() {
        let (place, _) = run.step(&row.step_id)?;
        run.machine.wait(place);
    }
    Ok(())
}

/// The wait after a failed attempt.
fn delay(step: &Step, row: &StepRun, seed: &str) -> Duration {
    let first =
        step.retry.as_ref().and_then(|retry| retry.backoff).map_or(failure::BACKOFF, crate::span::Span::duration);
    failure::wait(first, row.attempt - row.attempt_base, backoff::seed(&format!("{seed} {}", row.attempt)))
}

/// The step has failed; its retries decide what becomes of it.
pub fn fail(run: &mut Run<'_>, row: &mut Stored<StepRun>, failure: Failure) -> Result<()> {
    let (place, step) = run.step(&row.step_id)?;
    let delay = delay(&step, row, &row.id);
    row.error = Some(failure.to_json());
    if let Some(output) = failure.output.clone() {
        row.output = Some(step_run::kept(output));
    }
    let (effects, will_retry) = if row.is_item() {
        (Vec::new(), failure.may_pass && row.attempt - row.attempt_base <= step.retries())
    } else {
        let effects = run.machine.fail(place, failure.may_pass);
        let will_retry = matches!(effects.first(), Some(Effect::Send { is_retry: true, .. }));
        (effects, will_retry)
    };
    let again = will_retry.then(|| run.now.plus(delay));
    let kind = if row.is_item() { "workflow.item.failed" } else { "workflow.step.failed" };
    let more = json!({ "error": row.error, "willRetry": will_retry, "nextAttemptAt": again });
    run.record(kind, Some(&row.step_id), facts(row, more));
    close(row, if will_retry { StepStatus::Pending } else { StepStatus::Failed }, run.now);
    entity::save(run.transaction, row)?;
    if !row.is_item() {
        return run.carry_out(effects, delay, failure.is_unknown);
    }
    if will_retry {
        return run.send_row(&row.id, &row.key, row.attempt + 1, failure.is_unknown, delay);
    }
    foreach::item_over(run, row)
}
