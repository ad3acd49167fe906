//! Schedules: the row of an active workflow that says when it runs next. Whoever moves that moment on starts the run, so
//! two ticks never start the same one; what was missed meanwhile runs once.

use std::time::Duration;

use berth_sdk::{events::Message, prelude::*};

use crate::{
    run_row::TriggerType,
    workflow::{Workflow, WorkflowStatus},
};

/// The work message that starts a run.
pub const RUN_START: &str = "workflow.run.start";
/// Nothing runs more often: the timer comes once a minute.
const INTERVAL_MIN: Duration = Duration::from_secs(60);
/// Schedules that one tick looks at.
const DUE_MAX: usize = 500;

/// The first moment after another one; 422 for what makes no sense.
pub fn next(cron: &str, timezone: Option<&str>, after: Timestamp) -> Result<Timestamp> {
    let timezone = timezone.filter(|zone| !zone.is_empty()).unwrap_or("UTC");
    time_rules::cron::next(cron, timezone, after, INTERVAL_MIN)
}

/// Sets or removes the row of a workflow, as its trigger and status say.
pub fn set(transaction: &Transaction, workflow: &Stored<Workflow>) -> Result<()> {
    transaction.execute("DELETE FROM workflow_schedules WHERE workflow_id = $1", params![&workflow.id])?;
    let trigger = &workflow.trigger;
    let (WorkflowStatus::Active, TriggerType::Schedule, Some(cron)) = (workflow.status, trigger.r#type, &trigger.cron)
    else {
        return Ok(());
    };
    let now = clock::now();
    let timezone = trigger.timezone.clone().filter(|zone| !zone.is_empty()).unwrap_or_else(|| "UTC".into());
    transaction.execute(
        "INSERT INTO workflow_schedules (id, organization_id, created_by, created_at, updated_at, version, workflow_id, cron, timezone, next_run_at) \
         VALUES ($1, $2, $3, $4, $4, 1, $5, $6, $7, $8)",
        params![
            Id::new(),
            auth::organization_id()?,
            auth::principal().user_id,
            now,
            &workflow.id,
            cron,
            &timezone,
            next(cron, Some(&timezone), now)?,
        ],
    )?;
    Ok(())
}

#[data]
struct Due {
    id: Id,
    organization_id: Id,
    workflow_id: Id,
    cron: String,
    timezone: String,
    next_run_at: Timestamp,
}

/// The timer `schedules`.
pub fn tick(_: &Envelope) -> Result<()> {
    let now = clock::now();
    let due: Vec<Due> = database::query_as(
        &Pool,
        &format!(
            "SELECT id, organization_id AS \"organizationId\", workflow_id AS \"workflowId\", cron, timezone, next_run_at AS \"nextRunAt\" \
             FROM workflow_schedules WHERE next_run_at <= $1 ORDER BY next_run_at, id LIMIT {DUE_MAX}"
        ),
        params![now],
    )?;
    for schedule in &due {
        claim(schedule, now)?;
    }
    Ok(())
}

/// When a schedule that is due runs after the run that starts now: the first moment after now, however many have gone by. An
/// expression is judged when it is saved; one that makes no sense any more rests for a day.
fn moved(cron: &str, timezone: &str, now: Timestamp) -> Timestamp {
    next(cron, Some(timezone), now).unwrap_or_else(|_| now.plus(Duration::from_secs(24 * 60 * 60)))
}

fn claim(schedule: &Due, now: Timestamp) -> Result<()> {
    let next = moved(&schedule.cron, &schedule.timezone, now);
    database::transaction(|transaction| {
        let moved = transaction.execute(
            "UPDATE workflow_schedules SET next_run_at = $3, updated_at = $4, version = version + 1 WHERE id = $1 AND next_run_at = $2",
            params![&schedule.id, schedule.next_run_at, next, now],
        )?;
        if moved == 1 {
            let work = json!({
                "workflowId": schedule.workflow_id, "triggerType": TriggerType::Schedule,
                "payload": { "scheduledFor": schedule.next_run_at, "firedAt": now },
                "triggerKey": format!("schedule-{}", schedule.next_run_at),
            });
            let message = Message::new(RUN_START, &work)?.for_organization(schedule.organization_id.as_str());
            transaction.enqueue_message(&message)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use berth_sdk::clock::Timestamp;

    use super::moved;

    #[test]
    fn whatever_was_missed_a_schedule_goes_on_after_now() {
        let at = |text: &str| Timestamp::parse(text).unwrap();
        let now = at("2026-03-02T10:07:30Z");
        assert_eq!(moved("* * * * *", "UTC", now), at("2026-03-02T10:08:00Z"));
        assert_eq!(moved("0 9 * * *", "Europe/Berlin", now), at("2026-03-03T08:00:00Z"));
        // Due at this very moment, it has its run already.
        assert_eq!(moved("7 10 * * *", "UTC", at("2026-03-02T10:07:00Z")), at("2026-03-03T10:07:00Z"));
        assert_eq!(moved("never", "UTC", now), at("2026-03-03T10:07:30Z"));
    }
}
