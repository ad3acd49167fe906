//! The timer `timeouts`: it looks for what nobody looks after any more, and sends each find as a message to its organization,
//! where it is handled like any other. It changes no run itself, but takes away what is old.

use std::time::Duration;

use berth_sdk::{config, events::Message, prelude::*};

use crate::{
    dispatch::DISPATCH_MAX,
    machine::{End, StepStatus},
    run::{CancelMessage, Cause, QUEUE_NEXT, Run, STEP_RUN, StepMessage},
};

/// The work message of a run that took too long.
pub const RUN_TIMEOUT: &str = "workflow.run.timeout";
/// The work message that takes away the runs of a deleted workflow.
pub const PURGE: &str = "workflow.purge";
/// How much of each kind one tick looks at; the next tick goes on.
const FINDS_MAX: usize = 500;
/// A step whose message has been on the way for so long gets another one: a host that was killed may hold the first, and two
/// of one attempt do no harm.
const NUDGE_AFTER: Duration = Duration::from_secs(15);
/// A step that waits longer than it should gets another message after so long.
const LATE_AFTER: Duration = Duration::from_secs(5);
/// How long what was caused by runs is remembered.
const CAUSES_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// How long deliveries are remembered.
const DELIVERIES_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long a run that is over is kept, in days, unless the setting `retention_days` says otherwise.
const RETENTION_DAYS: u64 = 90;
/// Runs that are taken away at once.
const PURGED_MAX: usize = 100;

const OPEN_RUNS: &str = "run_id IN (SELECT id FROM workflow_runs WHERE status IN ('pending', 'running', 'waiting'))";

/// Handles the tick.
pub fn tick(_: &Envelope) -> Result<()> {
    let now = clock::now();
    steps("status = $1 AND lease_until <= $2", params![StepStatus::Running, now], Some(Cause::Lease))?;
    let late = now.minus(LATE_AFTER);
    steps("status = $1 AND deadline <= $2", params![StepStatus::Waiting, late], Some(Cause::Deadline))?;
    let due = now.minus(NUDGE_AFTER);
    let sent = format!(
        "status = $1 AND updated_at <= $2 AND attempt > attempt_base AND (next_attempt_at IS NULL OR next_attempt_at <= $2) AND {OPEN_RUNS}"
    );
    steps(&sent, params![StepStatus::Pending, due], None)?;
    let stuck = now.minus(DISPATCH_MAX);
    let lost = format!(
        "status = $1 AND updated_at <= $2 AND attempt > attempt_base AND (next_attempt_at IS NULL OR next_attempt_at <= $2) AND {OPEN_RUNS}"
    );
    steps(&lost, params![StepStatus::Pending, stuck], Some(Cause::Stuck))?;
    runs(now)?;
    database::execute("DELETE FROM workflow_causes WHERE created_at <= $1", params![now.minus(CAUSES_KEPT)])?;
    database::execute(
        "DELETE FROM workflow_hook_deliveries WHERE created_at <= $1",
        params![now.minus(DELIVERIES_KEPT)],
    )?;
    let days = config::get_or("retention_days", RETENTION_DAYS).clamp(1, 3_650);
    let old = now.minus(Duration::from_secs(days * 24 * 60 * 60));
    remove("completed_at <= $1", params![old]).map(|_| ())
}

fn steps(condition: &str, values: &[database::Value], cause: Option<Cause>) -> Result<()> {
    let sql = format!(
        "SELECT organization_id, run_id, \"key\", attempt, id, updated_at FROM workflow_step_runs WHERE {condition} \
         ORDER BY updated_at LIMIT {FINDS_MAX}"
    );
    for row in database::query(&sql, values)? {
        let organization_id: String = row.get("organization_id")?;
        let message =
            StepMessage { run_id: row.get("run_id")?, key: row.get("key")?, attempt: row.get("attempt")?, cause };
        // One message a state of the row: the next tick finds it again, but says nothing new.
        let (id, updated_at): (Id, Timestamp) = (row.get("id")?, row.get("updated_at")?);
        let name = short(&format!("{id} {} {cause:?} {updated_at}", message.attempt));
        let message = Message::new(STEP_RUN, &message)?.for_organization(organization_id).with_id(name);
        events::enqueue_message(&message)?;
    }
    Ok(())
}

/// Runs that took too long, and workflows whose next run was never started.
fn runs(now: Timestamp) -> Result<()> {
    let late = database::query(
        &format!(
            "SELECT organization_id, id, lock_version FROM workflow_runs WHERE status IN ('running', 'waiting', 'pending') \
             AND deadline <= $1 ORDER BY deadline LIMIT {FINDS_MAX}"
        ),
        params![now],
    )?;
    for row in late {
        let (id, version): (Id, i64) = (row.get("id")?, row.get("lock_version")?);
        let message = Message::new(RUN_TIMEOUT, &json!({ "runId": id }))?
            .for_organization(row.get::<String>("organization_id")?)
            .with_id(short(&format!("timeout {id} {version}")));
        events::enqueue_message(&message)?;
    }
    let queued = database::query(
        &format!(
            "SELECT DISTINCT organization_id, workflow_id FROM workflow_runs WHERE status = 'pending' AND is_queued = $1 \
             AND updated_at <= $2 LIMIT {FINDS_MAX}"
        ),
        params![true, now.minus(NUDGE_AFTER)],
    )?;
    for row in queued {
        let id: Id = row.get("workflow_id")?;
        let message = Message::new(QUEUE_NEXT, &json!({ "workflowId": id }))?
            .for_organization(row.get::<String>("organization_id")?)
            .with_id(short(&format!("next {id} {}", now.millis() / 60_000)));
        events::enqueue_message(&message)?;
    }
    Ok(())
}

/// A short name for a digest, where ids are wanted.
fn short(text: &str) -> String {
    berth_sdk::canonical::sha256_bytes(text.as_bytes()).chars().take(32).collect()
}

#[data]
struct RunMessage {
    run_id: Id,
}

/// Handles `workflow.run.timeout`.
pub fn time_out(envelope: &Envelope) -> Result<()> {
    let message: RunMessage = envelope.data()?;
    database::transaction(|transaction| {
        let Some(mut run) = Run::find(transaction, &message.run_id)? else { return Ok(()) };
        if run.row.deadline.is_none_or(|deadline| deadline > run.now) {
            return Ok(());
        }
        let effects = run.machine.halt(End::Timeout);
        if effects.is_empty() {
            return Ok(());
        }
        run.carry_out(effects, Duration::ZERO, false)?;
        run.save().map(|_| ())
    })
}

/// Handles `workflow.run.cancel`.
pub fn cancel(envelope: &Envelope) -> Result<()> {
    let message: CancelMessage = envelope.data()?;
    database::transaction(|transaction| {
        let Some(mut run) = Run::find(transaction, &message.run_id)? else { return Ok(()) };
        halt(&mut run, &message.reason)?;
        run.save().map(|_| ())
    })
}

/// Cancels a run that is not over.
pub fn halt(run: &mut Run<'_>, reason: &str) -> Result<()> {
    let effects = run.machine.halt(End::Cancelled);
    if effects.is_empty() {
        return Ok(());
    }
    run.row.is_queued = false;
    run.row.error = Some(json!({ "code": "CANCELLED", "message": reason }));
    run.carry_out(effects, Duration::ZERO, false)
}

/// Handles `workflow.purge`: the runs of a deleted workflow go, some at a time.
pub fn purge(envelope: &Envelope) -> Result<()> {
    #[data]
    struct Purge {
        workflow_id: Id,
    }
    let purge: Purge = envelope.data()?;
    if remove("workflow_id = $1", params![&purge.workflow_id])? {
        events::enqueue(PURGE, &json!({ "workflowId": purge.workflow_id }), Duration::ZERO)?;
    }
    Ok(())
}

/// Takes away some runs that are over, with everything that belongs to them. True when there may be more.
fn remove(condition: &str, values: &[database::Value]) -> Result<bool> {
    let over = format!("{condition} AND status NOT IN ('pending', 'running', 'waiting')");
    let sql = format!("SELECT id FROM workflow_runs WHERE {over} ORDER BY id LIMIT {PURGED_MAX}");
    let found = ids(database::query(&sql, values)?)?;
    if found.is_empty() {
        return Ok(false);
    }
    database::transaction(|transaction| {
        // One that is retried at this moment is not over any more, and stays with everything that belongs to it.
        let chosen = places(values.len(), found.len());
        let sql = format!("DELETE FROM workflow_runs WHERE {over} AND id IN ({chosen}) RETURNING id");
        let gone = ids(transaction.query(&sql, &[values, found.as_slice()].concat())?)?;
        if gone.is_empty() {
            return Ok(());
        }
        let gone_places = places(0, gone.len());
        for table in ["workflow_run_events", "workflow_step_runs", "workflow_approvals"] {
            transaction.execute(&format!("DELETE FROM {table} WHERE run_id IN ({gone_places})"), &gone)?;
        }
        Ok::<_, Problem>(())
    })?;
    Ok(found.len() == PURGED_MAX)
}

fn ids(rows: database::Rows) -> Result<Vec<database::Value>> {
    Ok(rows.into_iter().map(|row| row.get("id")).collect::<Result<_, Fault>>()?)
}

/// The places of so many values behind those of others.
fn places(others: usize, count: usize) -> String {
    let places: Vec<String> = (1..=count).map(|place| format!("${}", others + place)).collect();
    places.join(", ")
}
