//! The reaper: every 30 seconds it looks for what nobody looks after any more, and sends each find as a message to its
//! organization, where it is handled like any other. It changes no execution itself.

use std::time::Duration;

use berth_sdk::{events::Message, prelude::*};
use plan_rules::StepType;

use crate::{
    dispatch::DISPATCH_MAX,
    lease,
    run::{Cause, STEP_RUN, StepMessage},
    start::short,
    step::StepStatus,
};

/// How much of each kind one tick looks at; the next tick goes on.
const FINDS_MAX: usize = 500;
/// A step whose message has been on the way for so long gets another one: a host that was killed may hold the first,
/// and two of one attempt do no harm.
const NUDGE_AFTER: Duration = Duration::from_secs(15);
/// How long events are kept after their execution has ended.
const RETENTION: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Handles the tick.
pub fn reap(_: &Envelope) -> Result<()> {
    let now = clock::now();
    let silent = now.minus(lease::PRESENCE);
    database::execute(
        "UPDATE execution_workers SET is_active = $1, updated_at = $2 WHERE is_active = $3 AND last_seen_at <= $4",
        params![false, now, true, silent],
    )?;
    let columns = "organization_id, execution_id, step_id, attempt, id, updated_at";
    find(
        &format!(
            "SELECT {columns} FROM execution_steps WHERE status = $1 AND lease_until <= $2 ORDER BY lease_until LIMIT {FINDS_MAX}"
        ),
        params![StepStatus::Running, now],
        Some(Cause::Lease),
    )?;
    find(
        &format!(
            "SELECT {columns} FROM execution_steps WHERE status = $1 AND type = $2 AND updated_at <= $3 AND organization_id NOT IN \
             (SELECT organization_id FROM execution_workers WHERE is_active = $4) ORDER BY updated_at LIMIT {FINDS_MAX}"
        ),
        params![StepStatus::Waiting, StepType::Command, silent, true],
        Some(Cause::Worker),
    )?;
    let due = now.minus(NUDGE_AFTER);
    find(
        &format!(
            "SELECT {columns} FROM execution_steps WHERE status = $1 AND updated_at <= $2 AND (next_attempt_at IS NULL OR next_attempt_at <= $2) \
             AND execution_id IN (SELECT id FROM execution_executions WHERE status IN ('pending', 'running', 'rolling_back')) ORDER BY updated_at LIMIT {FINDS_MAX}"
        ),
        params![StepStatus::Ready, due],
        None,
    )?;
    let late = now.minus(DISPATCH_MAX);
    find(
        &format!(
            "SELECT {columns} FROM execution_steps WHERE status = $1 AND updated_at <= $2 AND execution_id IN \
             (SELECT id FROM execution_executions WHERE status IN ('pending', 'running', 'rolling_back')) ORDER BY updated_at LIMIT {FINDS_MAX}"
        ),
        params![StepStatus::Ready, late],
        Some(Cause::Stuck),
    )?;
    database::execute(
        "DELETE FROM execution_events WHERE occurred_at <= $1 AND execution_id IN \
         (SELECT id FROM execution_executions WHERE status IN ('completed', 'failed', 'cancelled', 'rolled_back'))",
        params![now.minus(RETENTION)],
    )?;
    Ok(())
}

fn find(sql: &str, values: &[database::Value], cause: Option<Cause>) -> Result<()> {
    for row in database::query(sql, values)? {
        let organization_id: String = row.get("organization_id")?;
        let message = StepMessage {
            execution_id: row.get("execution_id")?,
            step_id: row.get("step_id")?,
            attempt: row.get("attempt")?,
            cause,
        };
        // One message a state of the row: the next tick finds it again, but says nothing new.
        let (id, updated_at): (Id, Timestamp) = (row.get("id")?, row.get("updated_at")?);
        let why = cause.map_or("nudge", Cause::as_str);
        let name = short(&format!("{id} {} {why} {updated_at}", message.attempt));
        let message = Message::new(STEP_RUN, &message)?.for_organization(organization_id).with_id(name);
        events::enqueue_message(&message)?;
    }
    Ok(())
}
