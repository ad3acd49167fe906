//! The timer `due`: says once when a task is due within a day, and once when it is overdue.

use std::time::Duration;

use berth_sdk::{events::Message, prelude::*};

use crate::project::HOLDS;

/// How long before its due date a task is due soon.
const SOON: Duration = Duration::from_secs(24 * 60 * 60);
/// How many tasks one tick looks at; the rest follow with the next tick.
const TASKS_MAX: usize = 500;
/// How many tasks one transaction changes.
const BATCH: usize = 50;

#[data]
struct DueTask {
    id: Id,
    organization_id: Id,
    project_id: Id,
    title: String,
    assigned_to: Option<Id>,
    due_date: Timestamp,
}

/// Handles a tick. The ticks concern every organization; each task is changed and announced in one transaction, on the
/// condition that nobody has done so before.
pub(crate) fn announce_due(_: &Envelope) -> Result<()> {
    let now = clock::now();
    let due: Vec<DueTask> = database::query_as(
        &Pool,
        &format!(
            "SELECT id, organization_id AS \"organizationId\", project_id AS \"projectId\", title, assigned_to AS \"assignedTo\", \
             due_date AS \"dueDate\" FROM project_tasks WHERE deleted_at IS NULL AND status NOT IN ('completed', 'cancelled') \
             AND due_date IS NOT NULL AND due_date <= $1 AND (due_state IS NULL OR (due_state = 'due_soon' AND due_date <= $2)) \
             ORDER BY due_date, id LIMIT {TASKS_MAX}"
        ),
        params![now.plus(SOON), now],
    )?;
    for batch in due.chunks(BATCH) {
        database::transaction(|transaction| batch.iter().try_for_each(|task| announce(transaction, task, now)))?;
    }
    // Alerts come and go.
    Ok(database::forget_holds(HOLDS)?)
}

fn announce(transaction: &Transaction, task: &DueTask, now: Timestamp) -> Result<()> {
    let state = state_at(task.due_date, now);
    let changed = transaction.execute(
        "UPDATE project_tasks SET due_state = $2 WHERE id = $1 AND due_date = $3 AND (due_state IS NULL OR due_state <> $2)",
        params![&task.id, state, task.due_date],
    )?;
    if changed == 0 {
        return Ok(());
    }
    let data = json!({
        "id": task.id, "taskId": task.id, "projectId": task.project_id, "title": task.title, "assignedTo": task.assigned_to,
        "dueDate": task.due_date,
    });
    let message = Message::new(&format!("task.{state}"), &data)?;
    transaction.send(&message.with_key(task.id.as_str()).for_organization(task.organization_id.as_str()))?;
    Ok(())
}

fn state_at(due_date: Timestamp, now: Timestamp) -> &'static str {
    if due_date <= now { "overdue" } else { "due_soon" }
}

#[cfg(test)]
mod tests {
    use berth_sdk::clock::Timestamp;

    use super::state_at;

    #[test]
    fn a_task_is_overdue_from_its_due_date_on() {
        let at = Timestamp::from_millis;
        assert_eq!(state_at(at(1_001), at(1_000)), "due_soon");
        assert_eq!(state_at(at(1_000), at(1_000)), "overdue");
    }
}
