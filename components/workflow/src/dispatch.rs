//! One step, one message. What lives only in the database runs and is recorded in one transaction, so that a crash neither
//! loses nor repeats it; what acts elsewhere takes a lease, acts, and is recorded afterwards. All of it is done as the user of
//! the run, whoever the message goes back to.

use std::time::Duration;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{
    action::{self, Watch, Work},
    advance, behalf, child, context,
    definition::{Step, StepType},
    failure::Failure,
    foreach, gate,
    machine::StepStatus,
    perform::{self, Errand, Outcome},
    run::{Cause, Run, StepMessage},
    span::Span,
    step_run::{StepRun, split_key},
    template, trigger,
};

/// How long a step is held by who calls for it; the longest call is shorter.
pub const LEASE: Duration = Duration::from_secs(60);
/// How often the record of what happened elsewhere is tried: it must not be lost for a busy database.
const RECORD_ATTEMPTS: u32 = 6;
/// The variables of a run, in bytes.
const VARIABLES_BYTES_MAX: usize = 512 * 1024;
/// Between two of these.
const RECORD_WAIT: Duration = Duration::from_millis(300);
/// A step whose message has not arrived for so long never will: longer than all retries of a message together.
pub const DISPATCH_MAX: Duration = Duration::from_secs(20 * 60);

/// Handles `workflow.step.run`.
pub fn run_step(envelope: &Envelope) -> Result<()> {
    let message: StepMessage = envelope.data()?;
    let result = move_step(&message, &envelope.id);
    if let Err(problem) = &result
        && (envelope.is_last_attempt || matches!(problem.status, 400 | 413 | 422))
    {
        exhausted(&message, problem)?;
    }
    result
}

fn move_step(message: &StepMessage, message_id: &str) -> Result<()> {
    if let Some(failure) = behalf::go_on(&message.run_id, &message.key)? {
        return refuse(message, failure);
    }
    let errand = database::transaction(|transaction| {
        let mut errand = None;
        with_step(transaction, message, |run, row| {
            errand = match message.cause {
                None => begin(run, row, message_id)?,
                Some(cause) => look_after(run, row, cause)?,
            };
            Ok(())
        })?;
        Ok::<_, Problem>(errand)
    })?;
    match errand {
        None => Ok(()),
        Some(errand) => record(message, errand.go()),
    }
}

/// Locks the run and reads the step, does the work and writes the run back. Does nothing when either is gone, the run is
/// over, or another attempt counts by now.
pub fn with_step(
    transaction: &Transaction,
    message: &StepMessage,
    work: impl FnOnce(&mut Run<'_>, &mut Stored<StepRun>) -> Result<()>,
) -> Result<()> {
    let Some(mut run) = Run::find(transaction, &message.run_id)? else { return Ok(()) };
    if run.machine.end.is_some() {
        return Ok(());
    }
    let Some(mut row) = run.find_row(&message.key)? else { return Ok(()) };
    if row.attempt != message.attempt {
        return Ok(());
    }
    work(&mut run, &mut row)?;
    run.save().map(|_| ())
}

fn begin(run: &mut Run<'_>, row: &mut Stored<StepRun>, message_id: &str) -> Result<Option<Errand>> {
    let (place, step) = run.step(&row.step_id)?;
    // A duplicate, or a message that came too late.
    let is_taken = if row.is_item() {
        row.status == StepStatus::Pending
            && run.machine.nodes.get(place).is_some_and(|node| node.status == StepStatus::Waiting)
    } else {
        run.machine.take(place, row.attempt)
    };
    if !is_taken {
        return Ok(None);
    }
    row.status = StepStatus::Running;
    row.started_at = Some(run.now);
    row.finished_at = None;
    row.next_attempt_at = None;
    // The timer may have sent another message for a late one: what the step causes names the one that came first.
    row.message_id = Some(message_id.to_string());
    let scope = context::of(run, &step)?;
    if row.is_item() {
        return begin_item(run, row, &step, &scope);
    }
    if !context::holds(&step, &scope) {
        skip(run, row)?;
        return Ok(None);
    }
    match step.r#type {
        StepType::Condition | StepType::Parallel => {
            advance::started(run, row);
            let output = json!({ "result": true });
            advance::finish(run, row, output)?;
        }
        StepType::Delay => delay(run, row, &step, &scope)?,
        StepType::HumanGate => gate::open(run, row, &step, &scope)?,
        StepType::Foreach => foreach::open(run, row, &step, &scope)?,
        StepType::Subworkflow => {
            let input = Value::Object(step.input.clone());
            return with_input(run, row, &input, &scope, |run, row, input| {
                child::open(run, row, &step, input).map(|()| None)
            });
        }
        StepType::Action => {
            let input = Value::Object(step.input.clone());
            return with_input(run, row, &input, &scope, |run, row, input| act(run, row, &step, input));
        }
    }
    Ok(None)
}

fn skip(run: &mut Run<'_>, row: &mut Stored<StepRun>) -> Result<()> {
    advance::skip(run, row)
}

/// One item: the step's action or workflow with what `each` says of it.
fn begin_item(run: &mut Run<'_>, row: &mut Stored<StepRun>, step: &Step, scope: &Value) -> Result<Option<Errand>> {
    let (_, index) = split_key(&row.key);
    let parent = run.find_row(&row.step_id)?;
    let Some(item) = parent.as_ref().and_then(|parent| foreach::item(parent, index)) else { return Ok(None) };
    let scope = context::with_item(scope, &item, index);
    let each = step.input.get("each").cloned().unwrap_or_else(|| json!({}));
    if let Some(workflow_id) = step.input.get("workflowId") {
        let input = json!({ "workflowId": workflow_id, "input": each });
        return with_input(run, row, &input, &scope, |run, row, input| {
            child::open(run, row, step, input).map(|()| None)
        });
    }
    with_input(run, row, &each, &scope, |run, row, input| act(run, row, step, input))
}

/// Fills the references of an input, notes the start, and goes on with it.
fn with_input(
    run: &mut Run<'_>,
    row: &mut Stored<StepRun>,
    input: &Value,
    scope: &Value,
    go_on: impl FnOnce(&mut Run<'_>, &mut Stored<StepRun>, &Value) -> Result<Option<Errand>>,
) -> Result<Option<Errand>> {
    match template::fill(input, scope) {
        Ok(input) => {
            row.input = Some(input.clone());
            advance::started(run, row);
            go_on(run, row, &input)
        }
        Err(failure) => {
            row.input = None;
            advance::started(run, row);
            advance::fail(run, row, failure).map(|()| None)
        }
    }
}

fn act(run: &mut Run<'_>, row: &mut Stored<StepRun>, step: &Step, input: &Value) -> Result<Option<Errand>> {
    let key = format!("wf-{}-{}", row.id, row.effect);
    let timeout = step.timeout.map(Span::duration);
    let Some(action) = step.known_action() else {
        return advance::fail(run, row, Failure::lasting("INVALID_INPUT", "There is no such action.")).map(|()| None);
    };
    match action::work(action, step.agent_id.as_deref(), input, &key, timeout) {
        Ok(Work::Publish { kind, data }) => {
            let output = json!({ "type": kind });
            match run.transaction.publish(&kind, &data) {
                Ok(event_id) => {
                    trigger::offer_own(run.transaction, &run.row, &kind, &data)?;
                    advance::finish(run, row, crate::history::with(output, json!({ "eventId": event_id })))?;
                }
                Err(problem) if problem.status == 413 => {
                    advance::fail(run, row, Failure::lasting("EVENT_TOO_LARGE", problem.detail))?;
                }
                Err(problem) => return Err(problem),
            }
            Ok(None)
        }
        Ok(Work::Transform { set, value }) => {
            match set_variables(&run.row.variables, set) {
                Ok(variables) => {
                    run.row.variables = variables;
                    advance::finish(run, row, value)?;
                }
                Err(failure) => advance::fail(run, row, failure)?,
            }
            Ok(None)
        }
        Ok(Work::Call(call)) => {
            row.lease_until = Some(run.now.plus(LEASE));
            entity::save(run.transaction, row)?;
            Ok(Some(Errand::Call(call)))
        }
        Err(failure) => advance::fail(run, row, failure).map(|()| None),
    }
}

/// The variables with new values. They travel with the run through every step of it.
fn set_variables(variables: &Map<String, Value>, set: Map<String, Value>) -> Result<Map<String, Value>, Failure> {
    let mut variables = variables.clone();
    variables.extend(set);
    let is_small = json!(variables).to_string().len() <= VARIABLES_BYTES_MAX;
    let too_large = || format!("The variables of a run have at most {VARIABLES_BYTES_MAX} bytes.");
    if is_small { Ok(variables) } else { Err(Failure::lasting("VARIABLES_TOO_LARGE", too_large())) }
}

fn delay(run: &mut Run<'_>, row: &mut Stored<StepRun>, step: &Step, scope: &Value) -> Result<()> {
    let input = match template::fill(&Value::Object(step.input.clone()), scope) {
        Ok(input) => input,
        Err(failure) => return advance::fail(run, row, failure),
    };
    let span = input.get("duration").and_then(Span::read).map(|span| run.now.plus(span.duration()));
    let until = span.or_else(|| input.get("until").and_then(Value::as_str).and_then(Timestamp::parse));
    row.input = Some(input);
    advance::started(run, row);
    let Some(until) = until else {
        let message = "duration must be seconds or a text such as 15m, until a time.";
        return advance::fail(run, row, Failure::lasting("INVALID_INPUT", message));
    };
    let wait = until.since(run.now);
    if wait.is_zero() {
        return advance::finish(run, row, json!({ "until": until }));
    }
    if wait > Duration::from_secs(u64::try_from(crate::span::SECONDS_MAX).unwrap_or(0)) {
        return advance::fail(run, row, Failure::lasting("INVALID_INPUT", "A delay takes at most 30 days."));
    }
    advance::wait(run, row, Some(until), json!({ "waitsFor": "moment" }))?;
    run.send(&row.key, row.attempt, Some(Cause::Wake), wait).map(|_| ())
}

/// Records what came of a call, unless the step has been taken away meanwhile: then it is discarded.
fn record(message: &StepMessage, outcome: Outcome) -> Result<()> {
    let mut attempt = 1;
    loop {
        let result = database::transaction(|transaction| {
            with_step(transaction, message, |run, row| note(run, row, outcome.clone()))
        });
        match result {
            Err(_) if attempt < RECORD_ATTEMPTS => {
                attempt += 1;
                clock::sleep(RECORD_WAIT);
            }
            result => return result,
        }
    }
}

fn note(run: &mut Run<'_>, row: &mut Stored<StepRun>, outcome: Outcome) -> Result<()> {
    match (row.status, outcome) {
        (StepStatus::Running, Outcome::Done { output, external_id }) => {
            row.external_id = external_id;
            advance::finish(run, row, output)
        }
        (StepStatus::Running | StepStatus::Waiting, Outcome::Ended(output)) => advance::finish(run, row, output),
        (StepStatus::Running | StepStatus::Waiting, Outcome::Failed(failure)) => advance::fail(run, row, failure),
        (StepStatus::Running, Outcome::GoesOn { watch, id }) => {
            let (_, step) = run.step(&row.step_id)?;
            let until = step.timeout.map(|timeout| run.now.plus(timeout.duration()));
            row.external_id = Some(id.clone());
            let what = if watch == Watch::Agent { "agent" } else { "execution" };
            advance::wait(run, row, until, json!({ "waitsFor": what, "externalId": id }))?;
            if let Some(timeout) = step.timeout {
                run.send(&row.key, row.attempt, Some(Cause::Deadline), timeout.duration())?;
            }
            look_later(run, row)
        }
        (StepStatus::Waiting, Outcome::StillGoing) => look_later(run, row),
        _ => Ok(()),
    }
}

/// An event may be lost: what a step waits for is asked now and then, and less often the longer it takes.
fn look_later(run: &Run<'_>, row: &StepRun) -> Result<()> {
    let waited = row.started_at.map_or(Duration::ZERO, |begun| run.now.since(begun));
    let delay = waited.clamp(perform::LOOK_MIN, perform::LOOK_MAX);
    run.send(&row.key, row.attempt, Some(Cause::Look), delay).map(|_| ())
}

/// What a message that is no start asks for.
fn look_after(run: &mut Run<'_>, row: &mut Stored<StepRun>, cause: Cause) -> Result<Option<Errand>> {
    let is_due = row.deadline.is_some_and(|deadline| deadline <= run.now);
    match cause {
        Cause::Wake if row.status == StepStatus::Waiting && row.r#type == StepType::Delay && is_due => {
            advance::finish(run, row, json!({ "until": row.deadline }))?;
        }
        Cause::Deadline | Cause::Wake if row.status == StepStatus::Waiting && is_due => match row.r#type {
            StepType::HumanGate => gate::expire(run, row)?,
            StepType::Delay => advance::finish(run, row, json!({ "until": row.deadline }))?,
            _ => {
                child::abandon(run, row)?;
                advance::fail(run, row, Failure::unknown("STEP_TIMEOUT", "The step took longer than it may."))?;
            }
        },
        Cause::Lease if row.status == StepStatus::Running && row.lease_until.is_some_and(|until| until <= run.now) => {
            let message =
                "Whoever worked at the step was not heard of any more; whether it has had its effect is not known.";
            advance::fail(run, row, Failure::unknown("INTERRUPTED", message))?;
        }
        Cause::Stuck if row.status == StepStatus::Pending && run.now.since(row.updated_at) > DISPATCH_MAX => {
            give_up(run, row, undeliverable())?;
        }
        Cause::Child if row.status == StepStatus::Waiting => child::ended(run, row)?,
        Cause::Look if row.status == StepStatus::Waiting => {
            let (_, step) = run.step(&row.step_id)?;
            let watch = perform::watch_of(&step);
            return Ok(watch.zip(row.external_id.clone()).map(|(watch, id)| Errand::Look { watch, id }));
        }
        _ => {}
    }
    Ok(None)
}

/// Nobody is there to act for: the step fails, unless somebody is at work for it already.
fn refuse(message: &StepMessage, failure: Failure) -> Result<()> {
    database::transaction(|transaction| {
        with_step(transaction, message, |run, row| match (row.status, message.cause) {
            (StepStatus::Pending | StepStatus::Waiting, _) => give_up(run, row, failure),
            (_, Some(cause)) => look_after(run, row, cause).map(drop),
            _ => Ok(()),
        })
    })
}

/// A step that is pending is taken first, so that it can fail; what a waiting one waits for is let go.
fn give_up(run: &mut Run<'_>, row: &mut Stored<StepRun>, failure: Failure) -> Result<()> {
    if !row.is_item() && row.status == StepStatus::Pending {
        let (place, _) = run.step(&row.step_id)?;
        if !run.machine.take(place, row.attempt) {
            return Ok(());
        }
    }
    if row.status == StepStatus::Waiting {
        child::abandon(run, row)?;
    }
    advance::fail(run, row, failure)
}

fn undeliverable() -> Failure {
    Failure::lasting("DISPATCH_EXHAUSTED", "The step's message could not be handled, however often it was tried.")
}

/// The message goes to the dead letters: the step must not wait for it for ever.
fn exhausted(message: &StepMessage, problem: &Problem) -> Result<()> {
    logging::error!("a step's message cannot be handled", step = message.key, problem = problem);
    database::transaction(|transaction| {
        with_step(transaction, message, |run, row| {
            if matches!(row.status, StepStatus::Pending | StepStatus::Running) {
                give_up(run, row, undeliverable())?;
            }
            Ok(())
        })
    })
}

#[cfg(test)]
mod tests {
    use berth_sdk::{json, serde_json::Value};

    use super::{VARIABLES_BYTES_MAX, set_variables};

    #[test]
    fn variables_grow_to_an_end() {
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        let set = set_variables(&object(json!({"a": 1, "b": 2})), object(json!({"b": 3})));
        assert_eq!(set.unwrap(), object(json!({"a": 1, "b": 3})));
        let many = object(json!({"c": "x".repeat(VARIABLES_BYTES_MAX)}));
        assert_eq!(set_variables(&object(json!({})), many).unwrap_err().code, "VARIABLES_TOO_LARGE");
    }
}
