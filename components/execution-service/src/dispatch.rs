//! One step, one message. What lives only in the database runs and is recorded in one transaction, so that a crash
//! neither loses nor repeats it; what acts elsewhere takes a lease, acts, and is recorded afterwards.

use std::{cell::Cell, time::Duration};

use berth_sdk::{clock, prelude::*, serde_json::Value};
use plan_rules::StepType;

use crate::{
    advance::{self, definition},
    agent::{self, AgentTask},
    artifact::Change,
    assertion, checkpoint,
    execution::Status,
    failure::Failure,
    history,
    http_step::HttpStep,
    lease,
    mcp_step::McpStep,
    notify, plan, progress, rollback_run,
    run::{Cause, Run, StepMessage},
    step::{Phase, StepRow, StepStatus, has_effect, is_inside},
    worker,
    workspace::Sight,
};

/// How often the record of what happened elsewhere is tried: it must not be lost for a busy database.
const RECORD_ATTEMPTS: u32 = 6;
/// Between two of these.
const RECORD_WAIT: Duration = Duration::from_millis(300);
/// A step whose message has not arrived for so long never will: longer than all retries of a message together.
pub const DISPATCH_MAX: Duration = Duration::from_secs(20 * 60);

/// What is left to do when the first transaction is over.
enum Begun {
    /// Nothing.
    Done,
    /// A call, under a lease.
    Call(Box<HttpStep>),
    /// A call of a tool, under a lease.
    Tool(Box<McpStep>),
    /// A task for an agent, under a lease.
    Task(Box<AgentTask>),
}

/// Handles `execution.step.run`.
pub fn run_step(envelope: &Envelope) -> Result<()> {
    let message: StepMessage = envelope.data()?;
    let result = move_step(envelope, &message);
    progress::forget(&message.execution_id);
    if let Err(problem) = &result
        && (envelope.is_last_attempt || matches!(problem.status, 400 | 413 | 422))
    {
        exhausted(&message, problem)?;
    }
    result
}

/// Handles `execution.worker.result`.
pub fn record_result(envelope: &Envelope) -> Result<()> {
    let message: StepMessage = envelope.data()?;
    let result = database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        with_step(transaction, &message, |run, row| {
            let Some(reported) = row.reported.clone().filter(|_| row.status == StepStatus::Running) else {
                return Ok(());
            };
            let output = reported.get("output").cloned().unwrap_or(Value::Null);
            if reported.get("outcome").and_then(Value::as_str) == Some("completed") {
                return advance::finish_step(run, row, output, &[]);
            }
            let exit = output.get("exitCode").and_then(Value::as_i64);
            let said = output.get("error").and_then(Value::as_str).map(ToString::to_string);
            let sentence = said.or_else(|| exit.map(|code| format!("The command ended with exit status {code}.")));
            let sentence = sentence.unwrap_or_else(|| "The worker reports a failure.".into());
            advance::fail_step(run, row, Failure::new("COMMAND_FAILED", sentence).with_output(output))
        })
    });
    progress::forget(&message.execution_id);
    result
}

fn move_step(envelope: &Envelope, message: &StepMessage) -> Result<()> {
    let starter = Cell::new(None);
    let begun = database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(Begun::Done);
        }
        let mut begun = Begun::Done;
        with_step(transaction, message, |run, row| {
            starter.set(Some(run.execution.user_id.clone()));
            begun = match message.cause {
                None => begin(run, row)?,
                Some(cause) => {
                    look_after(run, row, cause)?;
                    Begun::Done
                }
            };
            Ok(())
        })?;
        Ok::<_, Problem>(begun)
    })?;
    if let (false, Some(user_id)) = (matches!(begun, Begun::Done), starter.take())
        && let Err(failure) = act_for(&user_id)
    {
        return record(message, Err(failure));
    }
    match begun {
        Begun::Done => Ok(()),
        Begun::Call(step) => record(message, step.perform()),
        Begun::Tool(step) => record(message, step.perform()),
        Begun::Task(task) => hand_over(message, task.give()),
    }
}

/// What acts elsewhere is done as whoever started the execution, whoever decided, resumed or reported last.
fn act_for(user_id: &Id) -> Result<(), Failure> {
    auth::act_for(user_id).map_err(|problem| match problem.code == "ACTING_DENIED" {
        true => {
            let message = format!("The execution is of somebody who cannot act any more. {}", problem.detail);
            Failure::lasting("ACTING_DENIED", message)
        }
        false => Failure::new("SERVICE_UNAVAILABLE", "Who started the execution could not be looked up."),
    })
}

/// Lets the step wait for the run that it has begun. A quick run may be over by now, and its end was told too early.
fn hand_over(message: &StepMessage, given: Result<String, Failure>) -> Result<()> {
    let run_id = match given {
        Ok(run_id) => run_id,
        Err(failure) => return record(message, Err(failure)),
    };
    let is_wanted = Cell::new(false);
    recorded(message, &|run, row| {
        is_wanted.set(row.status == StepStatus::Running);
        if !is_wanted.get() {
            return Ok(());
        }
        row.status = StepStatus::Waiting;
        row.external_id = Some(run_id.clone());
        row.lease_until = None;
        run.put(row)?;
        let more = json!({ "waitsFor": "agent", "status": "executing", "agentExecutionId": run_id });
        run.record("execution.step.waiting", Some(&row.step_id.clone()), history::of_step(row, more)).map(|_| ())
    })?;
    if !is_wanted.get() {
        agent::stop(&[run_id]);
        return Ok(());
    }
    let Some(outcome) = agent::outcome(&run_id) else { return Ok(()) };
    recorded(message, &|run, row| match (row.status, row.external_id.as_deref() == Some(&run_id), outcome.clone()) {
        (StepStatus::Waiting, true, Ok(output)) => advance::finish_step(run, row, output, &[]),
        (StepStatus::Waiting, true, Err(failure)) => advance::fail_step(run, row, failure),
        _ => Ok(()),
    })
}

/// Locks the execution and reads the step, does the work and writes the execution back. Does nothing when either is gone
/// or another attempt counts by now.
fn with_step(
    transaction: &Transaction,
    message: &StepMessage,
    work: impl FnOnce(&mut Run<'_>, &mut Stored<StepRow>) -> Result<()>,
) -> Result<()> {
    let Some(mut run) = Run::find(transaction, &message.execution_id)? else { return Ok(()) };
    let known = run.steps.iter().any(|step| step.step_id == message.step_id && step.attempt == message.attempt);
    if !known {
        return Ok(());
    }
    let mut row = run.step(&message.step_id)?;
    work(&mut run, &mut row)?;
    run.save().map(|_| ())
}

/// What the step does now: its own work, or its rollback's.
pub fn action(row: &StepRow) -> Result<(StepType, Value)> {
    let step = definition(row)?;
    Ok(match (row.phase, step.rollback) {
        (Phase::Compensate, Some(rollback)) => (rollback.r#type, rollback.params),
        _ => (step.r#type, step.params),
    })
}

fn begin(run: &mut Run<'_>, row: &mut Stored<StepRow>) -> Result<Begun> {
    let may_run = match run.execution.status {
        Status::Pending | Status::Running => row.phase == Phase::Run && run.execution.error.is_none(),
        Status::RollingBack => row.phase == Phase::Compensate,
        _ => false,
    };
    // A duplicate, or a step that has been skipped, paused or cancelled meanwhile.
    if !may_run || row.status != StepStatus::Ready {
        return Ok(Begun::Done);
    }
    if run.execution.status == Status::Pending {
        run.enter(Status::Running);
    }
    run.execution.started_at.get_or_insert(run.now);
    run.execution.current_step_id = Some(row.step_id.clone());
    row.started_at = Some(run.now);
    row.finished_at = None;
    row.next_attempt_at = None;
    if plan::step_hash(&row.definition) != row.definition_hash {
        let failure = Failure::lasting("PLAN_CHANGED", "The step is not the one that was approved.");
        return fail(run, row, failure);
    }
    if row.phase == Phase::Run
        && let Some(failure) = before(run, row)?
    {
        return fail(run, row, failure);
    }
    let (kind, params) = action(row)?;
    start(run, row, kind, &params)
}

/// What must hold before the step does anything.
fn before(run: &mut Run<'_>, row: &StepRow) -> Result<Option<Failure>> {
    let is_done = |id: &Id| run.steps.iter().any(|step| step.step_id == *id && step.status.is_done());
    if !row.dependencies.iter().all(is_done) {
        return Ok(Some(Failure::lasting("DEPENDENCY_OPEN", "A step it waits for is not done.")));
    }
    let step = definition(row)?;
    let broken = assertion::check(&step.preconditions, &Sight { run, changes: &[], own: None })?;
    if !broken.is_empty() {
        return Ok(Some(Failure::new("PRECONDITION_FAILED", broken.join(" "))));
    }
    if has_effect(step.r#type) {
        checkpoint::note(run, Some(&row.step_id), checkpoint::CheckpointKind::Auto)?;
    }
    Ok(None)
}

fn start(run: &mut Run<'_>, row: &mut Stored<StepRow>, kind: StepType, params: &Value) -> Result<Begun> {
    let unavailable =
        |what: &str| Failure::new("EXECUTOR_UNAVAILABLE", format!("{what} is not there to run the step."));
    if is_inside(kind) {
        started(run, row)?;
        return inside(run, row, kind, params);
    }
    match kind {
        StepType::Command if !worker::is_anybody_there(run.transaction, run.now)? => {
            return fail(run, row, unavailable("A worker"));
        }
        _ => {}
    }
    let call = match kind {
        StepType::Http => match HttpStep::read(params, definition(row)?.timeout_ms) {
            Ok(call) => Some(call),
            Err(failure) => return fail(run, row, failure),
        },
        _ => None,
    };
    if run.execution.options.dry_run {
        started(run, row)?;
        advance::finish_step(run, row, json!({ "dryRun": true }), &[])?;
        return Ok(Begun::Done);
    }
    let begun = match (call, kind) {
        (Some(call), _) => Begun::Call(Box::new(call)),
        (None, StepType::Agent) => {
            let key = format!("{}-{}", row.id, row.attempt);
            Begun::Task(Box::new(AgentTask::read(params, key)))
        }
        (None, StepType::McpTool) => {
            let key = format!("{}-{}", row.id, row.attempt);
            Begun::Tool(Box::new(McpStep::read(params, definition(row)?.timeout_ms, &key)))
        }
        _ => return wait(run, row, kind, params),
    };
    row.status = StepStatus::Running;
    row.lease_until = Some(run.now.plus(lease::LEASE));
    started(run, row)?;
    run.put(row)?;
    Ok(begun)
}

/// Waits for a worker or a person.
fn wait(run: &mut Run<'_>, row: &mut Stored<StepRow>, kind: StepType, params: &Value) -> Result<Begun> {
    row.status = StepStatus::Waiting;
    run.put(row)?;
    let more = match kind {
        StepType::Human => {
            notify::begin(run, row, params)?;
            json!({
                "waitsFor": "person", "status": "executing", "message": params.get("message"),
                "approvers": params.get("approvers"), "fields": params.get("fields"), "notified": true,
            })
        }
        _ => json!({ "waitsFor": "worker", "status": "executing" }),
    };
    run.record("execution.step.waiting", Some(&row.step_id.clone()), history::of_step(row, more))?;
    Ok(Begun::Done)
}

fn inside(run: &mut Run<'_>, row: &mut Stored<StepRow>, kind: StepType, params: &Value) -> Result<Begun> {
    let outcome: Result<(Value, Vec<Change>), Failure> = if matches!(kind, StepType::Validation | StepType::Test) {
        let assertions = params.get("assertions").and_then(Value::as_array).cloned().unwrap_or_default();
        let broken = assertion::check(&assertions, &Sight { run, changes: &[], own: None })?;
        let output = json!({ "assertions": assertions.len(), "broken": broken });
        if broken.is_empty() {
            Ok((output, Vec::new()))
        } else {
            Err(Failure::new("VALIDATION_FAILED", broken.join(" ")).with_output(output))
        }
    } else {
        rollback_run::file_change(run, kind, params)?.map(|change| {
            let output = json!({
                "path": change.path, "operation": change.operation(),
                "bytes": change.after.as_ref().map(String::len),
                "hash": crate::artifact::hash(change.after.as_ref()),
            });
            (output, vec![change])
        })
    };
    match outcome {
        Ok((output, changes)) => advance::finish_step(run, row, output, &changes)?,
        Err(failure) => advance::fail_step(run, row, failure)?,
    }
    Ok(Begun::Done)
}

fn started(run: &mut Run<'_>, row: &StepRow) -> Result<()> {
    run.record("execution.step.started", Some(&row.step_id), history::of_step(row, json!({}))).map(|_| ())
}

fn fail(run: &mut Run<'_>, row: &mut Stored<StepRow>, failure: Failure) -> Result<Begun> {
    advance::fail_step(run, row, failure)?;
    Ok(Begun::Done)
}

/// Records what came of a call, unless the step has been taken away meanwhile: then it is discarded.
fn record(message: &StepMessage, outcome: Result<Value, Failure>) -> Result<()> {
    recorded(message, &|run, row| match (row.status, outcome.clone()) {
        (StepStatus::Running, Ok(output)) => advance::finish_step(run, row, output, &[]),
        (StepStatus::Running, Err(failure)) => advance::fail_step(run, row, failure),
        _ => Ok(()),
    })
}

/// Changes a step after something happened elsewhere, as often as it takes.
fn recorded(message: &StepMessage, change: &dyn Fn(&mut Run<'_>, &mut Stored<StepRow>) -> Result<()>) -> Result<()> {
    let mut attempt = 1;
    loop {
        let result = database::transaction(|transaction| with_step(transaction, message, change));
        match result {
            Err(_) if attempt < RECORD_ATTEMPTS => {
                attempt += 1;
                clock::sleep(RECORD_WAIT);
            }
            result => return result,
        }
    }
}

/// What the reaper has found.
fn look_after(run: &mut Run<'_>, row: &mut Stored<StepRow>, cause: Cause) -> Result<()> {
    match cause {
        Cause::Lease if lease::is_lost(row.status, row.lease_until, run.now) => {
            let message =
                "Whoever held the step was not heard of any more; whether it has had its effect is not known.";
            advance::fail_step(run, row, Failure::lasting("INTERRUPTED", message))
        }
        Cause::Worker
            if row.status == StepStatus::Waiting
                && action(row)?.0 == StepType::Command
                && !worker::is_anybody_there(run.transaction, run.now)? =>
        {
            let message = "A worker is not there to run the step.";
            advance::fail_step(run, row, Failure::new("EXECUTOR_UNAVAILABLE", message))
        }
        Cause::Stuck if row.status == StepStatus::Ready && run.now.since(row.updated_at) > DISPATCH_MAX => {
            advance::fail_step(run, row, dispatch_exhausted())
        }
        _ => Ok(()),
    }
}

fn dispatch_exhausted() -> Failure {
    Failure::lasting("DISPATCH_EXHAUSTED", "The step's message could not be handled, however often it was tried.")
}

/// The message goes to the dead letters: the step must not wait for it for ever.
fn exhausted(message: &StepMessage, problem: &Problem) -> Result<()> {
    logging::error!("a step's message cannot be handled", step = message.step_id, problem = problem);
    database::transaction(|transaction| {
        with_step(transaction, message, |run, row| {
            if matches!(row.status, StepStatus::Ready | StepStatus::Running) {
                advance::fail_step(run, row, dispatch_exhausted())?;
            }
            Ok(())
        })
    })
}
