//! What people ask of an execution: pause, resume, cancel, rollback, and the steps one by one. Each is one transaction.

use std::{collections::BTreeMap, time::Duration};

use berth_sdk::{prelude::*, serde_json::Value};
use plan_rules::StepType;

use crate::{
    advance::{self, definition},
    agent, assertion,
    checkpoint::{self, Checkpoint, CheckpointKind},
    dispatch,
    execution::{Command, Execution, Status, Verdict, judge, terminal},
    failure::Failure,
    history,
    plan::{self, PlanChange, Snapshot},
    progress, rollback_run,
    run::{Run, WORKER_RESULT},
    start,
    step::{StepRow, StepStatus, startable},
    workspace::Sight,
};

/// Stops after the step under way.
pub fn pause(id: &Id) -> Result<Stored<Execution>> {
    command(id, Command::Pause, |run| {
        run.execution.error = None;
        if run.has_running() {
            run.enter(Status::Pausing);
            return run.record("execution.pausing", None, json!({})).map(|_| ());
        }
        advance::pause(run)
    })
}

/// Goes on where it was paused; failed steps are tried again.
pub fn resume(id: &Id) -> Result<Stored<Execution>> {
    command(id, Command::Resume, go_on)
}

/// Stops for good. What is under way is discarded, what was made is kept.
pub fn cancel(id: &Id) -> Result<Stored<Execution>> {
    let mut tasks = Vec::new();
    let cancelled = command(id, Command::Cancel, |run| {
        tasks = tasks_of(run)?;
        cancel_run(run, "It was cancelled.")
    })?;
    agent::stop(&tasks);
    Ok(cancelled)
}

/// The agent runs for which steps wait.
fn tasks_of(run: &Run<'_>) -> Result<Vec<String>> {
    let rows = run.transaction.query(
        "SELECT external_id FROM execution_steps WHERE execution_id = $1 AND status = $2 AND external_id IS NOT NULL",
        params![&run.execution.id, StepStatus::Waiting],
    )?;
    Ok(rows.into_iter().map(|row| row.get("external_id")).collect::<Result<_, _>>()?)
}

/// Cancels whatever executes this plan, because the plan is gone.
pub fn cancel_plan(envelope: &Envelope) -> Result<()> {
    #[data]
    struct Gone {
        plan_id: Option<Id>,
        id: Option<Id>,
    }
    let gone: Gone = envelope.data()?;
    let Some(plan_id) = gone.plan_id.or(gone.id) else { return Ok(()) };
    let tasks = database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(Vec::new());
        }
        let Some(id) = start::active(transaction, &plan_id)? else { return Ok(Vec::new()) };
        let Some(mut run) = Run::find(transaction, &id)? else { return Ok(Vec::new()) };
        let tasks = tasks_of(&run)?;
        if judge(run.execution.status, Command::Cancel) == Verdict::Act {
            cancel_run(&mut run, "Its plan was deleted.")?;
        }
        run.save()?;
        Ok::<_, Problem>(tasks)
    })?;
    agent::stop(&tasks);
    Ok(())
}

/// Undoes what was completed after a checkpoint, or everything.
pub fn rollback(id: &Id, checkpoint_id: Option<&Id>) -> Result<Stored<Execution>> {
    command(id, Command::Rollback, |run| {
        if run.execution.options.dry_run {
            return Err(Problem::conflict("A dry run leaves nothing to undo."));
        }
        let after = match checkpoint_id {
            None => 0,
            Some(checkpoint_id) => {
                let checkpoint = entity::read::<Checkpoint>(run.transaction, checkpoint_id)?;
                if checkpoint.execution_id != run.execution.id {
                    return Err(Problem::missing("checkpoint"));
                }
                checkpoint.sequence
            }
        };
        rollback_run::begin(run, after)
    })
}

/// Notes a checkpoint.
pub fn note_checkpoint(id: &Id) -> Result<Stored<Checkpoint>> {
    database::transaction(|transaction| {
        let mut run = Run::lock(transaction, id)?;
        allow(&run, Command::TouchStep)?;
        let step_id = run.execution.current_step_id.clone();
        let checkpoint = checkpoint::note(&mut run, step_id.as_ref(), CheckpointKind::Manual)?;
        run.record("execution.checkpoint.created", None, json!({ "checkpointId": checkpoint.id }))?;
        run.save()?;
        Ok(checkpoint)
    })
}

/// Tries a failed step again.
pub fn retry(id: &Id, step_id: &Id) -> Result<Stored<StepRow>> {
    on_step(id, step_id, |run, row| {
        if row.status != StepStatus::Failed {
            return Err(
                Problem::conflict(format!("The step is {}, not failed.", row.status)).with_code("STEP_NOT_FAILED")
            );
        }
        let asked = answers(run, row);
        match run.execution.status {
            Status::Pending | Status::Running => advance::make_ready(run, row, Duration::ZERO),
            Status::Paused if asked => {
                advance::make_ready(run, row, Duration::ZERO)?;
                go_on(run)
            }
            _ => {
                row.status = StepStatus::Pending;
                run.put(row)
            }
        }
    })
}

/// Leaves a step out.
pub fn skip(id: &Id, step_id: &Id) -> Result<Stored<StepRow>> {
    let mut task = None;
    let skipped = on_step(id, step_id, |run, row| {
        if row.status == StepStatus::Waiting {
            task = row.external_id.clone();
        }
        match row.status {
            StepStatus::Skipped => return Ok(()),
            StepStatus::Pending | StepStatus::Ready | StepStatus::Waiting | StepStatus::Failed => {}
            status => {
                return Err(Problem::conflict(format!("The step is {status} and cannot be skipped.")));
            }
        }
        let asked = answers(run, row);
        row.status = StepStatus::Skipped;
        row.finished_at = Some(run.now);
        row.next_attempt_at = None;
        run.put(row)?;
        let data = history::of_step(row, json!({ "status": "skipped" }));
        run.record("execution.step.completed", Some(&row.step_id.clone()), data)?;
        if asked && run.execution.status == Status::Paused {
            return go_on(run);
        }
        advance::advance(run)
    })?;
    agent::stop(task.as_slice());
    Ok(skipped)
}

/// The body of `POST …/complete`.
#[data]
pub struct Completion {
    /// The token of a worker's lease.
    pub lease_token: Option<String>,
    /// What came of it.
    pub outcome: Option<Outcome>,
    /// What it left.
    pub output: Option<Value>,
}

/// What came of a step that somebody else did.
#[choice]
pub enum Outcome {
    /// Done.
    Completed,
    /// Not done.
    Failed,
}

/// The largest output that is taken, in bytes of JSON.
const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Completes a step that waits for a person, or takes a worker's result.
pub fn complete(id: &Id, step_id: &Id, completion: Completion) -> Result<Stored<StepRow>> {
    if completion.output.as_ref().is_some_and(|output| output.to_string().len() > OUTPUT_BYTES_MAX) {
        return Err(Problem::too_large(format!("An output has at most {OUTPUT_BYTES_MAX} bytes.")));
    }
    let work = |run: &mut Run<'_>, row: &mut Stored<StepRow>| match dispatch::action(row)? {
        (StepType::Command, _) => take_result(run, row, completion),
        (StepType::Human, params) => {
            if run.execution.status.is_terminal() {
                return Err(terminal(run.execution.status));
            }
            decide(run, row, &params, completion)
        }
        (kind, _) => Err(Problem::conflict(format!("A step of type {kind} completes by itself."))),
    };
    step_transaction(id, step_id, work)
}

/// A worker's result: only the holder of the lease is heard. It is recorded by a message of its own.
fn take_result(run: &mut Run<'_>, row: &mut Stored<StepRow>, completion: Completion) -> Result<()> {
    let Some(token) = completion.lease_token else {
        return Err(Problem::field("leaseToken", "is required"));
    };
    let outcome = completion.outcome.ok_or_else(|| Problem::field("outcome", "is required"))?;
    if !crate::lease::is_valid(row.status, row.lease_token_hash.as_deref(), row.lease_until, &token, run.now) {
        return Err(Problem::conflict("The lease is over or somebody else's.").with_code("LEASE_LOST"));
    }
    row.reported = Some(json!({ "outcome": outcome, "output": completion.output }));
    row.lease_token_hash = None;
    row.lease_until = None;
    run.put(row)?;
    run.send(WORKER_RESULT, &row.step_id, row.attempt, Duration::ZERO)
}

/// Whether a step asks the caller by name.
pub fn is_asked(id: &Id, step_id: &Id) -> Result<bool> {
    let user_id = auth::user_id()?;
    let row = Select::<StepRow>::new()
        .equal("execution_id", id)
        .condition("step_id = ? OR id = ?", [step_id, step_id])
        .first(&Pool)?;
    let Some(row) = row else { return Ok(false) };
    let (kind, params) = dispatch::action(&row)?;
    Ok(kind == StepType::Human && approvers(&params).any(|id| id == user_id.as_str()))
}

fn approvers(params: &Value) -> impl Iterator<Item = &str> {
    params.get("approvers").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// A person's decision.
fn decide(run: &mut Run<'_>, row: &mut Stored<StepRow>, params: &Value, completion: Completion) -> Result<()> {
    if row.status != StepStatus::Waiting {
        return Err(
            Problem::conflict(format!("The step is {}; nobody is asked.", row.status)).with_code("STEP_NOT_WAITING")
        );
    }
    let user_id = auth::user_id()?;
    let mut approvers = approvers(params).peekable();
    if approvers.peek().is_some() && !approvers.any(|id| id == user_id.as_str()) {
        return Err(Problem::forbidden("Only the approvers of the step decide."));
    }
    let output = completion.output.unwrap_or_else(|| json!({}));
    let outcome = completion.outcome.unwrap_or(Outcome::Completed);
    if let (Some(schema), Outcome::Completed) = (params.get("fields"), outcome) {
        let faults = validate::json_schema_faults(schema, &output);
        if !faults.is_empty() {
            let errors = faults.into_iter().map(|mut fault| {
                fault.field = if fault.field.is_empty() { "output".into() } else { format!("output.{}", fault.field) };
                fault
            });
            return Err(Problem::validation(errors.collect()));
        }
    }
    let mut decided = json!({ "decidedBy": user_id });
    if let (Some(decided), Value::Object(output)) = (decided.as_object_mut(), output) {
        decided.extend(output);
    }
    match outcome {
        Outcome::Completed => advance::finish_step(run, row, decided, &[]),
        Outcome::Failed => {
            let failure = Failure::lasting("REJECTED", "Somebody has decided against it.").with_output(decided);
            advance::fail_step(run, row, failure)
        }
    }
}

/// Changes the steps that are not done.
pub fn change_plan(id: &Id, if_match: IfMatch, change: PlanChange) -> Result<(Stored<Execution>, Value)> {
    let result = database::transaction(|transaction| {
        let mut run = Run::lock(transaction, id)?;
        allow(&run, Command::ChangePlan)?;
        if_match.check(run.execution.plan_revision)?;
        let stored = start::stored_plan(transaction, id)?;
        let snapshot = Snapshot::take(&stored)?;
        let statuses: BTreeMap<Id, StepStatus> =
            run.steps.iter().map(|step| (step.step_id.clone(), step.status)).collect();
        let changed = plan::change(&snapshot, &statuses, change.steps)?;
        apply(&mut run, &snapshot, &changed)?;
        run.execution.plan_revision += 1;
        run.execution.plan_hash = changed.snapshot.hash.clone();
        start::store_plan(transaction, id, &changed.snapshot, run.execution.plan_revision, change.reason.as_ref())?;
        let data = json!({
            "revision": run.execution.plan_revision, "planHash": run.execution.plan_hash,
            "reason": change.reason, "changed": changed.fresh, "removed": changed.gone,
        });
        run.record("execution.plan.updated", None, data)?;
        Ok::<_, Problem>((run.save()?, changed.snapshot.value))
    });
    progress::forget(id);
    result
}

fn apply(run: &mut Run<'_>, old: &Snapshot, changed: &plan::Changed) -> Result<()> {
    for step_id in &changed.gone {
        let sql = "DELETE FROM execution_steps WHERE execution_id = $1 AND step_id = $2";
        run.transaction.execute(sql, params![&run.execution.id, step_id])?;
    }
    let asked = run.execution.error.as_ref().and_then(|error| error.get("stepId")).and_then(Value::as_str);
    if asked.is_some_and(|id| changed.gone.contains(&Id::from(id)) || changed.fresh.contains(&Id::from(id))) {
        run.execution.error = None;
    }
    for step in &changed.snapshot.steps {
        let before = old.steps.iter().find(|other| other.id == step.id);
        if before == Some(step) {
            continue;
        }
        let fresh = start::row(&run.execution.id, step);
        if before.is_none() {
            entity::create(run.transaction, fresh)?;
            continue;
        }
        let mut row = run.step(&step.id)?;
        let data = if changed.fresh.contains(&step.id) {
            // The attempts count on, so that a message of the step as it was stays void.
            StepRow { attempt: row.attempt, ..fresh }
        } else {
            StepRow {
                order: fresh.order,
                definition: fresh.definition,
                definition_hash: fresh.definition_hash,
                ..row.data.clone()
            }
        };
        row.data = data;
        run.put(&mut row)?;
    }
    run.reload()
}

fn cancel_run(run: &mut Run<'_>, why: &str) -> Result<()> {
    run.transaction.execute(
        "UPDATE execution_steps SET status = $2, error = $3, finished_at = $4, lease_until = NULL, lease_token_hash = NULL, reported = NULL, updated_at = $4, version = version + 1 \
         WHERE execution_id = $1 AND status = $5",
        params![
            &run.execution.id,
            StepStatus::Failed,
            json!({ "code": "CANCELLED", "message": why }),
            run.now,
            StepStatus::Running,
        ],
    )?;
    advance::release(run)?;
    run.execution.error = None;
    advance::end(run, Status::Cancelled, "execution.cancelled", json!({ "reason": why }))
}

/// Leaves `paused`: the plan must be whole and what begins now must be able to.
fn go_on(run: &mut Run<'_>) -> Result<()> {
    let stored = start::stored_plan(run.transaction, &run.execution.id)?;
    if !Snapshot::is_whole(&stored, &run.execution.plan_hash) {
        return Err(Problem::conflict("The plan is not the one that was approved.").with_code("PLAN_CHANGED"));
    }
    for id in startable(&run.steps, run.execution.options.max_parallel) {
        let row = run.step(&id)?;
        let step = definition(&row)?;
        let broken = assertion::check(&step.preconditions, &Sight { run, changes: &[], own: None })?;
        if !broken.is_empty() {
            let detail = format!("Step {} cannot begin: {}", step.order, broken.join(" "));
            return Err(Problem::conflict(detail).with_code("PRECONDITION_FAILED").with("stepId", step.id.as_str()));
        }
    }
    run.execution.error = None;
    run.execution.paused_at = None;
    run.enter(Status::Running);
    run.record("execution.resumed", None, json!({}))?;
    let again: Vec<(Id, StepStatus)> = run.steps.iter().map(|step| (step.step_id.clone(), step.status)).collect();
    for (step_id, status) in again {
        match status {
            StepStatus::Failed => {
                let mut row = run.step(&step_id)?;
                advance::make_ready(run, &mut row, Duration::ZERO)?;
            }
            // Its message may have been dropped while nothing ran; a second one of the same attempt does nothing.
            StepStatus::Ready => {
                let row = run.step(&step_id)?;
                let delay = row.next_attempt_at.map_or(Duration::ZERO, |at| at.since(run.now));
                run.enqueue(&step_id, row.attempt, delay)?;
            }
            _ => {}
        }
    }
    advance::advance(run)
}

/// Whether the execution waits for an answer about this step.
fn answers(run: &mut Run<'_>, row: &StepRow) -> bool {
    let named = run.execution.error.as_ref().and_then(|error| error.get("stepId")).and_then(Value::as_str);
    let is_named = named == Some(row.step_id.as_str());
    if is_named {
        run.execution.error = None;
    }
    is_named
}

fn allow(run: &Run<'_>, command: Command) -> Result<()> {
    match judge(run.execution.status, command) {
        Verdict::Refuse(problem) => Err(*problem),
        Verdict::Act | Verdict::Nothing => Ok(()),
    }
}

fn command(id: &Id, command: Command, act: impl FnOnce(&mut Run<'_>) -> Result<()>) -> Result<Stored<Execution>> {
    let result = database::transaction(|transaction| {
        let mut run = Run::lock(transaction, id)?;
        match judge(run.execution.status, command) {
            Verdict::Nothing => Ok(run.execution),
            Verdict::Refuse(problem) => Err(*problem),
            Verdict::Act => {
                act(&mut run)?;
                run.save()
            }
        }
    });
    progress::forget(id);
    result
}

fn on_step(
    id: &Id,
    step_id: &Id,
    work: impl FnOnce(&mut Run<'_>, &mut Stored<StepRow>) -> Result<()>,
) -> Result<Stored<StepRow>> {
    step_transaction(id, step_id, |run, row| {
        allow(run, Command::TouchStep)?;
        work(run, row)
    })
}

fn step_transaction(
    id: &Id,
    step_id: &Id,
    work: impl FnOnce(&mut Run<'_>, &mut Stored<StepRow>) -> Result<()>,
) -> Result<Stored<StepRow>> {
    let result = database::transaction(|transaction| {
        let mut run = Run::lock(transaction, id)?;
        let mut row = run.step(step_id)?;
        work(&mut run, &mut row)?;
        run.save()?;
        // What follows may have touched the step again.
        entity::read(transaction, &row.id)
    });
    progress::forget(id);
    result
}
