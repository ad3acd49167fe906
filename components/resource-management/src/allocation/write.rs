//! Writing allocations: each writer of somebody's time comes after the other, and what hangs on it follows in the same
//! transaction.

use berth_sdk::{
    events::Message,
    prelude::*,
    serde_json::{Map, Value},
};
use time_rules::day::{Day, Span};

use super::{
    Allocation, AllocationStatus,
    check::{self, Warning},
};
use crate::{alert, load, profile::Profile};

/// An allocation with what its writer should know.
pub struct Written {
    /// The row.
    pub row: Stored<Allocation>,
    /// What it meets.
    pub warnings: Vec<Warning>,
}

impl Written {
    /// As it is answered.
    pub fn shown(&self) -> Map<String, Value> {
        let mut shown = self.row.shown();
        shown.insert("warnings".into(), json!(self.warnings));
        shown
    }
}

/// Makes an allocation; 409 when it does not fit, unless it is forced.
pub fn create(transaction: &Transaction, allocation: Allocation, is_forced: bool) -> Result<Written> {
    let user_id = allocation.user_id.clone();
    load::hold(transaction, &user_id)?;
    let today = Profile::or_usual(transaction, &user_id)?.today();
    check::require_present(None, Some(&allocation), today)?;
    supersede(transaction, &allocation)?;
    let row = entity::create(transaction, allocation)?;
    finish(transaction, None, row, is_forced)
}

/// Changes an allocation; 409 when it does not fit afterwards, unless it is forced.
pub fn update(
    transaction: &Transaction,
    id: &Id,
    patch: &Map<String, Value>,
    if_match: IfMatch,
    is_forced: bool,
) -> Result<Written> {
    load::hold(transaction, &entity::read::<Allocation>(transaction, id)?.user_id)?;
    // Read again: whoever was faster is done now.
    let old = entity::read::<Allocation>(transaction, id)?;
    let today = Profile::or_usual(transaction, &old.user_id)?.today();
    let row = entity::update::<Allocation>(transaction, id, patch, if_match)?;
    if row.version != old.version {
        check::require_present(Some(&old), Some(&row), today)?;
    }
    finish(transaction, Some(&old), row, is_forced)
}

/// Takes an allocation away.
pub fn delete(transaction: &Transaction, id: &Id, if_match: IfMatch) -> Result<()> {
    load::hold(transaction, &entity::read::<Allocation>(transaction, id)?.user_id)?;
    let old = entity::read::<Allocation>(transaction, id)?;
    let today = Profile::or_usual(transaction, &old.user_id)?.today();
    check::require_present(Some(&old), None, today)?;
    entity::delete::<Allocation>(transaction, id, if_match)?;
    if old.status.is_open() {
        publish(transaction, "capacity.released", &old, "deleted")?;
    }
    alert::review(transaction, &old.user_id, old.span())?;
    load::forget(transaction);
    Ok(())
}

/// Ends an allocation that what it follows has ended: no rule is asked, it is a fact.
pub fn close(
    transaction: &Transaction,
    mut row: Stored<Allocation>,
    status: AllocationStatus,
    today: Day,
    reason: &str,
) -> Result<()> {
    if !row.status.is_open() {
        return Ok(());
    }
    row.close(status, today);
    entity::save(transaction, &mut row)?;
    publish(transaction, "capacity.released", &row, reason)?;
    alert::review(transaction, &row.user_id, row.span())?;
    load::forget(transaction);
    Ok(())
}

/// Tells of an allocation.
pub fn publish(transaction: &Transaction, kind: &str, row: &Stored<Allocation>, reason: &str) -> Result<()> {
    let mut data = Allocation::event_data(row);
    if let Some(data) = data.as_object_mut() {
        data.insert("reason".into(), reason.into());
    }
    transaction.send(&Message::new(kind, &data)?.with_key(row.user_id.as_str()))?;
    Ok(())
}

/// What a person plans for a task takes the place of what was planned for it by itself.
fn supersede(transaction: &Transaction, allocation: &Allocation) -> Result<()> {
    let (Some(task_id), None) = (&allocation.task_id, &allocation.origin) else { return Ok(()) };
    let own = Select::<Allocation>::new()
        .equal("task_id", task_id)
        .equal("user_id", &allocation.user_id)
        .condition("origin IS NOT NULL", [] as [&str; 0])
        .all(transaction)?;
    for row in own {
        close(transaction, row, AllocationStatus::Cancelled, allocation.start_date, "superseded")?;
    }
    Ok(())
}

/// What follows a change: room, events, alerts, warnings.
fn finish(
    transaction: &Transaction,
    old: Option<&Stored<Allocation>>,
    row: Stored<Allocation>,
    is_forced: bool,
) -> Result<Written> {
    let span =
        old.map_or(row.span(), |old| Span::new(old.start_date.min(row.start_date), old.end_date.max(row.end_date)));
    let weeks = Span::new(span.first.monday(), span.last.monday().plus(6));
    let workload = load::person(transaction, &row.user_id, weeks)?.workload;
    if let Some(new) = row.commitment(&row.id).filter(|_| row.status.is_open() && !is_forced) {
        let before = old.and_then(|old| old.commitment(&old.id));
        check::require_room(&workload.without(&new.id), before.as_ref(), &new)?;
    }
    let was_open = old.is_some_and(|old| old.status.is_open());
    let takes_other_time =
        |old: &Stored<Allocation>| old.span() != row.span() || (old.allocated_hours - row.allocated_hours).abs() > 0.0;
    if row.status.is_open() && old.is_none_or(takes_other_time) {
        publish(transaction, "capacity.allocated", &row, if old.is_none() { "created" } else { "changed" })?;
    } else if was_open && !row.status.is_open() {
        publish(transaction, "capacity.released", &row, row.status.as_str())?;
    }
    alert::review(transaction, &row.user_id, span)?;
    load::forget(transaction);
    let warnings = if row.status.is_open() { check::warnings(&workload, row.span()) } else { Vec::new() };
    Ok(Written { row, warnings })
}
