//! Running schedules: the timer claims what is due, one message runs it, and its row remembers how it went.

use std::time::Duration;

use berth_sdk::{events::Message, prelude::*};

use super::{Schedule, cron};
use crate::{
    execution::{Execution, ExecutionStatus, fill, run},
    prompt, resolve,
};

/// The work message of one run.
pub const RUN: &str = "prompt.schedule.run";
/// Schedules that one tick claims.
const DUE_MAX: usize = 500;
/// Failures in a row after which a schedule is paused.
pub const FAILURES_MAX: i64 = 5;
/// Who asks.
const CALLER: &str = "prompt-management";

#[data]
struct Due {
    id: Id,
    organization_id: Id,
    cron: String,
    timezone: String,
    next_run_at: Timestamp,
    consecutive_failures: i64,
}

/// The timer `schedules`: whoever moves `next_run_at` on runs it, so two ticks never run the same; what was missed meanwhile
/// is run once.
pub fn tick(_: &Envelope) -> Result<()> {
    let now = clock::now();
    let due: Vec<Due> = database::query_as(
        &Pool,
        &format!(
            "SELECT id, organization_id AS \"organizationId\", cron, timezone, next_run_at AS \"nextRunAt\", \
             consecutive_failures AS \"consecutiveFailures\" FROM prompt_schedules \
             WHERE is_active = $2 AND next_run_at <= $1 ORDER BY next_run_at, id LIMIT {DUE_MAX}"
        ),
        params![now, true],
    )?;
    for schedule in &due {
        claim(schedule, now)?;
    }
    Ok(())
}

fn claim(schedule: &Due, now: Timestamp) -> Result<()> {
    // An expression is judged when it is saved; one that makes no sense any more rests for a day.
    let next = cron::next(&schedule.cron, &schedule.timezone, now)
        .unwrap_or_else(|_| now.plus(Duration::from_secs(24 * 3_600)));
    database::transaction(|transaction| {
        let changed = transaction.execute(
            "UPDATE prompt_schedules SET next_run_at = $3, updated_at = $4, version = version + 1 \
             WHERE id = $1 AND next_run_at = $2 AND is_active = $5",
            params![&schedule.id, schedule.next_run_at, next, now, true],
        )?;
        if changed == 1 {
            let work = json!({
                "scheduleId": schedule.id, "dueAt": schedule.next_run_at, "isManual": false,
                "runKey": format!("{}:{}:{}", schedule.id, schedule.next_run_at, schedule.consecutive_failures),
            });
            let message = Message::new(RUN, &work)?.for_organization(schedule.organization_id.as_str());
            transaction.enqueue_message(&message)?;
        }
        Ok(())
    })
}

#[data]
struct Work {
    schedule_id: Id,
    /// One run has one key, and one row.
    run_key: String,
    due_at: Option<Timestamp>,
    is_manual: bool,
}

/// `prompt.schedule.run`.
pub fn work(envelope: &Envelope) -> Result<()> {
    let work: Work = envelope.data()?;
    let Some(schedule) = entity::find::<Schedule>(&Pool, &work.schedule_id)? else { return Ok(()) };
    let earlier = Select::<Execution>::new().equal("run_key", work.run_key.as_str()).first(&Pool)?;
    if earlier.as_ref().is_some_and(|row| row.status != ExecutionStatus::Running) {
        return Ok(());
    }
    let result = match prepare(&schedule, &work, earlier) {
        // The same key for every attempt at this run: the assistant does not do it twice.
        Ok((filled, row)) => {
            let key = work.due_at.map_or_else(|| work.run_key.clone(), |due| format!("{}:{due}", schedule.id));
            run::ask(&filled, row, schedule.model.as_deref(), &key, Some(&schedule.target))?.1.map(|_| ())
        }
        Err(problem) if problem.status >= 500 => return Err(problem),
        Err(problem) => {
            tell_refusal(&schedule, &problem)?;
            Err(problem)
        }
    };
    note(&schedule, &work, result)
}

/// Fills the prompt and writes the run's row, or takes up the one that was begun.
fn prepare(
    schedule: &Stored<Schedule>,
    work: &Work,
    earlier: Option<Stored<Execution>>,
) -> Result<(crate::execution::Filled, Stored<Execution>)> {
    let owner = schedule.created_by.clone().map(Id::from);
    let known = resolve::known(&schedule.prompt_id)?;
    let filled = fill(known, None, owner.as_deref(), true, &schedule.variables)?;
    if let Some(row) = earlier {
        return Ok((filled, row));
    }
    let mut execution = filled.execution(owner, CALLER.into());
    execution.status = ExecutionStatus::Running;
    execution.schedule_id = Some(schedule.id.clone());
    execution.run_key = Some(work.run_key.clone());
    execution.model.clone_from(&schedule.model);
    let row = database::transaction(|transaction| entity::create(transaction, execution))?;
    Ok((filled, row))
}

/// A run that could not even begin has no row; its owner is told all the same.
fn tell_refusal(schedule: &Stored<Schedule>, problem: &Problem) -> Result<()> {
    let facts = json!({
        "scheduleId": schedule.id, "promptId": schedule.prompt_id, "name": schedule.name,
        "ownerId": schedule.created_by, "error": format!("{}: {}", problem.code, problem.detail),
    });
    let facts = prompt::with_reach_of(&Pool, &schedule.prompt_id, facts)?;
    events::send(&Message::new("prompt.execution.failed", &facts)?.with_key(schedule.id.as_str()))?;
    Ok(())
}

/// What follows from how a run went. Of the assistant being away: the same run again at the next tick.
fn note(schedule: &Stored<Schedule>, work: &Work, result: Result<()>) -> Result<()> {
    let now = clock::now();
    database::transaction(|transaction| {
        let Some(mut row) = entity::find::<Schedule>(transaction, &schedule.id)? else { return Ok(()) };
        row.last_run_at = Some(now);
        match &result {
            Ok(()) => {
                row.last_status = Some("completed".into());
                row.consecutive_failures = 0;
            }
            Err(problem) => {
                row.last_status = Some("failed".into());
                row.consecutive_failures += 1;
                if let (503, Some(due_at), true) = (problem.status, work.due_at, row.is_active) {
                    row.next_run_at = Some(due_at);
                }
            }
        }
        let is_given_up = row.is_active && row.consecutive_failures >= FAILURES_MAX;
        if is_given_up {
            row.is_active = false;
            let facts = json!({
                "id": row.id, "scheduleId": row.id, "promptId": row.prompt_id, "name": row.name, "ownerId": row.created_by,
                "consecutiveFailures": row.consecutive_failures,
            });
            let facts = prompt::with_reach_of(transaction, &row.prompt_id, facts)?;
            transaction.send(&Message::new("prompt.schedule.paused", &facts)?.with_key(row.id.as_str()))?;
        }
        entity::save(transaction, &mut row)
    })
}
