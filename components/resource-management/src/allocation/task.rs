//! What planning tells of tasks: who is given one has its estimate planned, and whose is done or given up has the rest of it
//! free again.

use std::collections::BTreeSet;

use berth_sdk::prelude::*;
use time_rules::day::Day;

use super::{Allocation, AllocationStatus, DAYS_MAX, write};
use crate::{alert, load, profile::Profile};

/// The most hours of an estimate that are planned.
const HOURS_MAX: f64 = 20_000.0;

/// A task as events tell of it.
#[data]
struct Told {
    task_id: Option<Id>,
    id: Option<Id>,
    project_id: Option<Id>,
    title: Option<String>,
    status: Option<String>,
    assigned_to: Option<Id>,
    due_date: Option<Timestamp>,
    estimated_hours: Option<f64>,
}

/// What becomes of what is planned for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Begun,
    Done,
    GivenUp,
}

impl State {
    fn of(status: &str) -> Self {
        match status {
            "in_progress" | "in_review" => Self::Begun,
            "completed" => Self::Done,
            "cancelled" => Self::GivenUp,
            _ => Self::Waiting,
        }
    }
}

/// `task.assigned`, `task.status_changed` and `task.completed`.
pub fn heard(envelope: &Envelope) -> Result<()> {
    if !matches!(envelope.message_type.as_str(), "task.assigned" | "task.status_changed" | "task.completed") {
        return Ok(());
    }
    let mut told: Told = envelope.data()?;
    let Some(task_id) = told.task_id.take().or(told.id.take()) else { return Ok(()) };
    let at = Timestamp::parse(&envelope.timestamp).unwrap_or_else(clock::now);
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        load::hold_task(transaction, &task_id)?;
        let rows = || Select::<Allocation>::new().equal("task_id", &task_id).all(transaction);
        let mut users: BTreeSet<Id> = rows()?.into_iter().map(|row| row.data.user_id).collect();
        users.extend(told.assigned_to.clone());
        for user_id in &users {
            load::hold(transaction, user_id)?;
        }
        let rows = rows()?;
        if rows.iter().any(|row| row.told_at.is_some_and(|last| last > at)) {
            // Something newer has been heard of it already.
            return Ok(());
        }
        follow(transaction, &task_id, &told, rows, at)?;
        transaction.execute(
            "UPDATE capacity_allocations SET told_at = $1 WHERE organization_id = $2 AND task_id = $3 AND origin IS NOT NULL",
            params![at, auth::organization_id()?, &task_id],
        )?;
        Ok(())
    })
}

fn follow(
    transaction: &Transaction,
    task_id: &Id,
    told: &Told,
    rows: Vec<Stored<Allocation>>,
    at: Timestamp,
) -> Result<()> {
    let state = State::of(told.status.as_deref().unwrap_or_default());
    let mut own = None;
    let mut has_other = false;
    for row in rows {
        let today = Profile::or_usual(transaction, &row.user_id)?.today();
        let is_theirs = told.assigned_to.as_ref() == Some(&row.user_id);
        match (state, row.origin.is_some()) {
            (State::Done, _) => write::close(transaction, row, AllocationStatus::Completed, today, "task completed")?,
            (State::GivenUp, _) => {
                write::close(transaction, row, AllocationStatus::Cancelled, today, "task cancelled")?
            }
            (_, true) if is_theirs => own = Some(row),
            // What has begun was worked on until now.
            (_, true) => {
                let has_begun = row.status == AllocationStatus::Active;
                let status = if has_begun { AllocationStatus::Completed } else { AllocationStatus::Cancelled };
                write::close(transaction, row, status, today, "task assigned to somebody else")?;
            }
            // What a person has planned for it counts instead.
            (_, false) if is_theirs && row.status.is_open() => {
                has_other = true;
                begin(transaction, row, state)?;
            }
            (_, false) => {}
        }
    }
    let Some(user_id) = told.assigned_to.as_ref().filter(|_| matches!(state, State::Waiting | State::Begun)) else {
        return Ok(());
    };
    if has_other {
        return Ok(());
    }
    match own {
        Some(row) if row.status.is_open() => begin(transaction, row, state),
        own => plan(transaction, task_id, user_id, told, own, state, at),
    }
}

/// What was planned is worked on.
fn begin(transaction: &Transaction, mut row: Stored<Allocation>, state: State) -> Result<()> {
    if state == State::Begun && row.status == AllocationStatus::Planned {
        row.status = AllocationStatus::Active;
        entity::save(transaction, &mut row)?;
        load::forget(transaction);
    }
    Ok(())
}

/// Plans the estimate from today until the task is due, or for as many days as it takes.
fn plan(
    transaction: &Transaction,
    task_id: &Id,
    user_id: &Id,
    told: &Told,
    again: Option<Stored<Allocation>>,
    state: State,
    at: Timestamp,
) -> Result<()> {
    let Some(hours) = told.estimated_hours.filter(|hours| *hours > 0.0) else { return Ok(()) };
    let profile = Profile::or_usual(transaction, user_id)?;
    let (hours, today) = (hours.min(HOURS_MAX), profile.today());
    let due = told.due_date.map(|due| profile.day_of(due)).filter(|due| *due >= today);
    let last: Day = due.unwrap_or_else(|| profile.pattern().last_day(today, hours)).min(today.plus(DAYS_MAX - 1));
    let mut allocation = Allocation {
        user_id: user_id.clone(),
        project_id: told.project_id.clone(),
        task_id: Some(task_id.clone()),
        allocated_hours: hours,
        start_date: today,
        end_date: last,
        status: if state == State::Begun { AllocationStatus::Active } else { AllocationStatus::Planned },
        percentage: None,
        note: told.title.as_deref().map(|title| title.chars().take(200).collect()),
        closed_on: None,
        origin: Some(format!("task:{task_id}:{user_id}")),
        told_at: Some(at),
    };
    let row = match again {
        None => entity::create(transaction, allocation)?,
        // It comes back to somebody who had it before.
        Some(mut row) => {
            allocation.settle(&profile.pattern());
            row.data = allocation;
            entity::save(transaction, &mut row)?;
            row
        }
    };
    write::publish(transaction, "capacity.allocated", &row, "task assigned")?;
    alert::review(transaction, user_id, row.span())?;
    load::forget(transaction);
    Ok(())
}
