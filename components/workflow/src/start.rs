//! The start of a run: the workflow's policy decides whether it begins, waits its turn, or does not begin at all; then its
//! rows, its first event and its first messages appear in one transaction.

use std::time::Duration;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{
    audience::Audience,
    behalf,
    guard::{self, DEPTH_MAX},
    history::with,
    machine::StepStatus,
    run::{CancelMessage, RUN_CANCEL, Run},
    run_row::{RunRow, RunStatus, TriggerType},
    step_run::{self, Brief},
    version,
    workflow::{Concurrency, Workflow, WorkflowStatus},
};

/// Runs of one workflow that wait for their turn.
const QUEUED_MAX: usize = 1_000;

/// The step that waits for a run.
pub struct Parent {
    /// Its run.
    pub run_id: Id,
    /// Its key; none when it does not wait.
    pub step: Option<String>,
    /// Its attempt.
    pub attempt: i64,
}

/// What is to be started.
pub struct Order {
    /// The workflow.
    pub workflow_id: Id,
    /// The project that what starts it tells of; none: that of the workflow, if it has one.
    pub project_id: Option<Id>,
    /// For whom it is.
    pub audience: Audience,
    /// What starts it.
    pub trigger_type: TriggerType,
    /// What is known.
    pub payload: Value,
    /// The same key starts a workflow once.
    pub trigger_key: Option<String>,
    /// How many runs led to it.
    pub depth: i64,
    /// The run whose event it was.
    pub caused_by: Option<Id>,
    /// The chain that it belongs to.
    pub correlation_id: Option<String>,
    /// Who waits for it.
    pub parent: Option<Parent>,
    /// For whom it acts; none: for whom the workflow acts.
    pub acts_for: Option<Id>,
    /// The id that somebody was told already.
    pub run_id: Option<Id>,
}

/// What became of it.
pub enum Started {
    /// A run began, or waits for its turn.
    Run(Box<Stored<RunRow>>),
    /// The same thing has started this run before.
    Existing(Id),
    /// This run is active, and the policy is to skip.
    Skipped(Id),
    /// It cannot be started.
    Refused(Box<Problem>),
}

/// Starts a run, as far as the workflow's policy allows.
pub fn begin(transaction: &Transaction, order: Order) -> Result<Started> {
    let Some(workflow) = entity::find::<Workflow>(transaction, &order.workflow_id)? else {
        return Ok(Started::Refused(Box::new(Problem::missing("workflow"))));
    };
    if workflow.status != WorkflowStatus::Active {
        let problem = Problem::conflict(format!("The workflow is {}, not active.", workflow.status));
        return Ok(Started::Refused(Box::new(problem.with_code("WORKFLOW_NOT_ACTIVE"))));
    }
    if order.depth > DEPTH_MAX {
        let problem = Problem::unprocessable(format!("More than {DEPTH_MAX} runs caused each other."));
        return Ok(Started::Refused(Box::new(problem.with_code("DEPTH_EXCEEDED"))));
    }
    if order.parent.is_some()
        && let Err(problem) = guard::require_few(transaction, &workflow.id, order.correlation_id.as_deref())
    {
        return if problem.status == 422 { Ok(Started::Refused(Box::new(problem))) } else { Err(problem) };
    }
    if let Some(key) = &order.trigger_key {
        let earlier = transaction.query_one(
            "SELECT id FROM workflow_runs WHERE workflow_id = $1 AND trigger_key = $2",
            params![&workflow.id, key],
        )?;
        if let Some(earlier) = earlier {
            return Ok(Started::Existing(earlier.get("id")?));
        }
    }
    let is_queued = match make_room(transaction, &workflow, &order)? {
        Room::Free => false,
        Room::Later => true,
        Room::None(active) => {
            note_skip(transaction, &workflow, order)?;
            return Ok(Started::Skipped(active));
        }
        Room::Full => {
            let problem =
                Problem::rate_limited(format!("{QUEUED_MAX} runs of the workflow wait for their turn already."));
            return Ok(Started::Refused(Box::new(problem.with_code("QUEUE_FULL"))));
        }
    };
    let row = insert(transaction, &workflow, order, is_queued)?;
    let row = if is_queued { row } else { launch(transaction, row, workflow.max_run_minutes)? };
    Ok(Started::Run(Box::new(row)))
}

#[derive(Debug, PartialEq)]
enum Room {
    Free,
    Later,
    None(Id),
    Full,
}

/// What a policy says to a start while these runs are active. `is_below` says whether one of them waits for the run that is
/// to be started.
fn room(policy: Concurrency, active: &[Id], is_below: impl Fn() -> bool) -> Room {
    let Some(first) = active.first() else { return Room::Free };
    match policy {
        Concurrency::Allow => Room::Free,
        Concurrency::Skip => Room::None(first.clone()),
        Concurrency::Queue | Concurrency::Replace if active.len() > QUEUED_MAX => Room::Full,
        // A run that waits for a run of its own workflow would wait for ever.
        Concurrency::Queue | Concurrency::Replace if is_below() => Room::None(first.clone()),
        Concurrency::Queue | Concurrency::Replace => Room::Later,
    }
}

/// Looks whether others of the same workflow are in the way. The workflow's row is held meanwhile, so that two starts see
/// each other.
fn make_room(transaction: &Transaction, workflow: &Stored<Workflow>, order: &Order) -> Result<Room> {
    if workflow.concurrency == Concurrency::Allow {
        return Ok(Room::Free);
    }
    hold(transaction, &workflow.id)?;
    let active: Vec<Id> = transaction
        .query(
            &format!(
                "SELECT id FROM workflow_runs WHERE workflow_id = $1 AND status IN ('pending', 'running', 'waiting') \
                 ORDER BY created_at, id LIMIT {}",
                QUEUED_MAX + 1
            ),
            params![&workflow.id],
        )?
        .into_iter()
        .map(|row| row.get("id"))
        .collect::<Result<_, Fault>>()?;
    let is_below = || order.parent.is_some() && active.iter().any(|id| is_ancestor(transaction, order, id));
    let room = room(workflow.concurrency, &active, is_below);
    if room == Room::Later && workflow.concurrency == Concurrency::Replace {
        for run_id in active {
            let message = CancelMessage { run_id, reason: "A later run takes its place.".into() };
            transaction.enqueue(RUN_CANCEL, &message, Duration::ZERO)?;
        }
    }
    Ok(room)
}

/// Whether a run is among those that wait for the one that is to be started.
fn is_ancestor(transaction: &Transaction, order: &Order, id: &Id) -> bool {
    let mut next = order.parent.as_ref().map(|parent| parent.run_id.clone());
    for _ in 0..=DEPTH_MAX {
        let Some(run_id) = next else { return false };
        if run_id == *id {
            return true;
        }
        let above = transaction.query_one("SELECT parent_run_id FROM workflow_runs WHERE id = $1", params![&run_id]);
        next = above.ok().flatten().and_then(|row| row.get::<Option<Id>>("parent_run_id").ok()).flatten();
    }
    false
}

/// Takes a workflow's row until the transaction ends.
pub fn hold(transaction: &Transaction, workflow_id: &Id) -> Result<()> {
    transaction.execute("UPDATE workflow_workflows SET status = status WHERE id = $1", params![workflow_id])?;
    Ok(())
}

/// Keeps a workflow for a run until the transaction ends: whoever deletes it waits for this run and finds it, or has deleted it
/// before, which is a 404.
pub fn keep(transaction: &Transaction, workflow_id: &Id) -> Result<()> {
    let share = "SELECT id FROM workflow_workflows WHERE id = $1 FOR SHARE";
    transaction.query_one(share, params![workflow_id])?.map(drop).ok_or_else(|| Problem::missing("workflow"))
}

/// A caller who was told an id finds a run under it that says why nothing happened.
fn note_skip(transaction: &Transaction, workflow: &Stored<Workflow>, order: Order) -> Result<()> {
    if order.run_id.is_none() {
        return Ok(());
    }
    let mut row = insert(transaction, workflow, order, false)?;
    row.status = RunStatus::Cancelled;
    row.completed_at = Some(clock::now());
    row.error = Some(json!({ "code": "RUN_SKIPPED", "message": "Another run was active, and the policy is to skip." }));
    entity::save(transaction, &mut row)
}

fn insert(
    transaction: &Transaction,
    workflow: &Stored<Workflow>,
    order: Order,
    is_queued: bool,
) -> Result<Stored<RunRow>> {
    let (parent_run_id, parent_step, parent_attempt) = match order.parent {
        Some(Parent { run_id, step, attempt }) => {
            let waits = step.is_some();
            (Some(run_id), step, waits.then_some(attempt))
        }
        None => (None, None, None),
    };
    let acts_for = match order.acts_for {
        Some(user_id) => Some(user_id),
        None => behalf::of_workflow(transaction, workflow)?,
    };
    let row = RunRow {
        workflow_id: workflow.id.clone(),
        project_id: order.project_id.or_else(|| workflow.project_id.clone()),
        audience: order.audience,
        version: workflow.definition_version,
        trigger_type: order.trigger_type,
        variables: variables(&workflow.definition.variables, &order.payload),
        trigger_payload: order.payload,
        status: RunStatus::Pending,
        current_steps: Vec::new(),
        result: None,
        error: None,
        started_at: None,
        completed_at: None,
        deadline: None,
        parent_run_id,
        caused_by_run_id: order.caused_by,
        depth: order.depth,
        acts_for,
        parent_step,
        parent_attempt,
        trigger_key: order.trigger_key,
        correlation_id: order.correlation_id,
        policy: workflow.concurrency,
        is_queued,
        event_sequence: 0,
    };
    let now = clock::now();
    // Once a second is often enough for a moment that people look at, and keeps starts from waiting for each other.
    let is_held = transaction.execute(
        "UPDATE workflow_workflows SET last_run_at = $2 WHERE id = $1 AND (last_run_at IS NULL OR last_run_at < $3)",
        params![&workflow.id, now, now.minus(Duration::from_secs(1))],
    )? > 0;
    if !is_held {
        keep(transaction, &workflow.id)?;
    }
    entity::create_as(transaction, order.run_id.unwrap_or_else(Id::new), row)
}

/// The variables a run begins with: those of the definition, with what the input says of them.
fn variables(defaults: &Map<String, Value>, payload: &Value) -> Map<String, Value> {
    let mut variables = defaults.clone();
    let input = payload.get("input").and_then(Value::as_object);
    for (name, value) in variables.iter_mut() {
        if let Some(given) = input.and_then(|input| input.get(name)) {
            *value = given.clone();
        }
    }
    variables
}

/// Lets a run begin: its steps appear, and the first ones are sent.
pub fn launch(transaction: &Transaction, row: Stored<RunRow>, max_run_minutes: i64) -> Result<Stored<RunRow>> {
    let definition = version::definition(transaction, &row.workflow_id, row.data.version)?;
    let organization_id = row.organization_id.clone().ok_or_else(Problem::internal)?;
    let steps: Vec<step_run::StepRun> =
        definition.steps.iter().enumerate().map(|(place, step)| step_run::fresh(&row.id, step, place)).collect();
    let ids = step_run::insert(transaction, &organization_id, &steps, clock::now())?;
    let brief = |(id, step): (Id, &step_run::StepRun)| Brief {
        id,
        step_id: step.step_id.clone(),
        status: StepStatus::Pending,
        attempt: 0,
        attempt_base: 0,
    };
    let briefs = ids.into_iter().zip(&steps).map(brief).collect();
    let mut run = Run::new(transaction, row, definition, briefs);
    run.row.is_queued = false;
    run.row.started_at = Some(run.now);
    let minutes = u64::try_from(max_run_minutes).unwrap_or(1);
    run.row.deadline = Some(run.now.plus(Duration::from_secs(minutes.saturating_mul(60))));
    let facts = json!({ "triggerType": run.row.trigger_type, "parentRunId": run.row.parent_run_id,
        "causedByRunId": run.row.caused_by_run_id, "actsFor": run.row.acts_for });
    let facts = with(facts, json!({ "steps": steps.len() }));
    run.record("workflow.run.started", None, facts);
    let effects = run.machine.follow();
    run.carry_out(effects, Duration::ZERO, false)?;
    run.save()
}

/// Handles `workflow.queue.next`: the oldest run that waits for its turn begins, when nothing else of its workflow runs.
pub fn next(envelope: &Envelope) -> Result<()> {
    #[data]
    struct Next {
        workflow_id: Id,
    }
    let next: Next = envelope.data()?;
    database::transaction(|transaction| {
        let Some(workflow) = entity::find::<Workflow>(transaction, &next.workflow_id)? else { return Ok(()) };
        hold(transaction, &workflow.id)?;
        let active: Vec<Turn> = database::query_as(
            transaction,
            "SELECT id, is_queued AS \"isQueued\" FROM workflow_runs WHERE workflow_id = $1 \
             AND status IN ('pending', 'running', 'waiting') ORDER BY is_queued, created_at, id LIMIT 1",
            params![&workflow.id],
        )?;
        let Some(first) = active.into_iter().find(|row| row.is_queued) else { return Ok(()) };
        let taken = transaction.execute(
            "UPDATE workflow_runs SET is_queued = $2, lock_version = lock_version + 1 WHERE id = $1 AND is_queued = $3 AND status = 'pending'",
            params![&first.id, false, true],
        )?;
        if taken == 0 {
            return Ok(());
        }
        let row = entity::read::<RunRow>(transaction, &first.id)?;
        launch(transaction, row, workflow.max_run_minutes).map(|_| ())
    })
}

#[data]
struct Turn {
    id: Id,
    is_queued: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_says_what_becomes_of_a_start_while_others_are_active() {
        use Concurrency::{Allow, Queue, Replace, Skip};
        let active = |count: usize| (0..count).map(|number| Id::from(format!("r{number}"))).collect::<Vec<_>>();
        for policy in [Allow, Skip, Queue, Replace] {
            assert_eq!(room(policy, &[], || true), Room::Free, "{policy}: nothing is in the way");
        }
        assert_eq!(room(Allow, &active(2), || true), Room::Free);
        assert_eq!(room(Skip, &active(2), || false), Room::None("r0".into()));
        for policy in [Queue, Replace] {
            // One runs and the others wait.
            assert_eq!(room(policy, &active(QUEUED_MAX), || false), Room::Later, "{policy}");
            assert_eq!(room(policy, &active(QUEUED_MAX + 1), || false), Room::Full, "{policy}");
            assert_eq!(
                room(policy, &active(1), || true),
                Room::None("r0".into()),
                "{policy}: it would wait for itself"
            );
        }
    }
}
