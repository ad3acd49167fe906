//! The mirror of executions: `execution.#` events become the status of plans and steps. Events may come twice and out of
//! order; each change names the sequence it comes from and is made only when that is later than the last one.

use berth_sdk::{events::Message, prelude::*};

use super::{PlanStatus, step::StepStatus};

/// What every execution event carries that matters here.
#[data]
struct Happening {
    execution_id: Id,
    plan_id: Id,
    sequence: i64,
    step_id: Option<Id>,
    status: Option<String>,
    #[field(default)]
    dry_run: bool,
}

/// Handles one event.
pub(crate) fn mirror(envelope: &Envelope) -> Result<()> {
    let happening: Happening = envelope.data()?;
    if happening.dry_run || envelope.organization_id.is_none() {
        return Ok(());
    }
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? || !adopt(transaction, &happening.plan_id, &happening.execution_id)? {
            return Ok(());
        }
        if let Some(status) = plan_status(&envelope.message_type) {
            change_plan(transaction, &happening, status)?;
        }
        match (&happening.step_id, step_status(&envelope.message_type, happening.status.as_deref())) {
            (Some(step_id), Some(status)) => change_step(transaction, &happening, step_id, status),
            _ => Ok(()),
        }
    })
}

/// The status of a plan after an event of its execution.
fn plan_status(message_type: &str) -> Option<PlanStatus> {
    Some(match message_type {
        "execution.started" | "execution.resumed" | "execution.paused" => PlanStatus::Executing,
        "execution.completed" => PlanStatus::Completed,
        "execution.failed" | "execution.rolled_back" => PlanStatus::Failed,
        "execution.cancelled" => PlanStatus::Cancelled,
        _ => return None,
    })
}

/// The status of a step after an event about it.
fn step_status(message_type: &str, status: Option<&str>) -> Option<StepStatus> {
    Some(match (message_type, status) {
        ("execution.step.completed", Some("skipped")) | ("execution.step.skipped", _) => StepStatus::Skipped,
        ("execution.step.completed", _) => StepStatus::Completed,
        ("execution.step.started" | "execution.step.waiting", _) => StepStatus::Executing,
        ("execution.step.failed", _) => StepStatus::Failed,
        _ => return None,
    })
}

/// Makes an execution the plan's latest one, unless a later one is there: ids grow with time. False when the plan is not
/// there or follows a later execution. The plan is locked until the end of the transaction: of two events that come at once
/// only one begins the plan's steps anew.
pub(crate) fn adopt(transaction: &Transaction, plan_id: &Id, execution_id: &Id) -> Result<bool> {
    let organization_id = auth::organization_id()?;
    let row = transaction.query_one(
        "SELECT execution_id FROM plan_plans WHERE id = $1 AND organization_id = $2 AND deleted_at IS NULL FOR UPDATE",
        params![plan_id, &organization_id],
    )?;
    let Some(row) = row else { return Ok(false) };
    match row.get::<Option<String>>("execution_id")? {
        Some(known) if known == execution_id.as_str() => return Ok(true),
        Some(known) if known.as_str() > execution_id.as_str() => return Ok(false),
        _ => {}
    }
    transaction.execute(
        "UPDATE plan_plans SET execution_id = $2, execution_sequence = 0, status = $3, updated_at = $4, version = version + 1 \
         WHERE id = $1",
        params![plan_id, execution_id, PlanStatus::Executing, clock::now()],
    )?;
    transaction.execute(
        "UPDATE plan_steps SET status = $2, status_sequence = 0 WHERE plan_id = $1",
        params![plan_id, StepStatus::Pending],
    )?;
    Ok(true)
}

fn change_plan(transaction: &Transaction, happening: &Happening, status: PlanStatus) -> Result<()> {
    let changed = transaction.execute(
        "UPDATE plan_plans SET status = $3, execution_sequence = $4, updated_at = $5, version = version + 1 \
         WHERE id = $1 AND execution_id = $2 AND execution_sequence < $4",
        params![&happening.plan_id, &happening.execution_id, status, happening.sequence, clock::now()],
    )?;
    let outcome = match status {
        PlanStatus::Completed => "success",
        PlanStatus::Failed => "failed",
        _ => return Ok(()),
    };
    if changed == 1 {
        let data = json!({ "planId": happening.plan_id, "executionId": happening.execution_id, "status": outcome });
        transaction.send(&Message::new("planning.plan.executed", &data)?.with_key(happening.plan_id.as_str()))?;
    }
    Ok(())
}

fn change_step(transaction: &Transaction, happening: &Happening, step_id: &Id, status: StepStatus) -> Result<()> {
    transaction.execute(
        "UPDATE plan_steps SET status = $3, status_sequence = $4, updated_at = $5 \
         WHERE id = $1 AND plan_id = $2 AND status_sequence < $4",
        params![step_id, &happening.plan_id, status, happening.sequence, clock::now()],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_of_an_execution_has_its_meaning() {
        assert_eq!(plan_status("execution.paused"), Some(PlanStatus::Executing));
        assert_eq!(plan_status("execution.rolled_back"), Some(PlanStatus::Failed));
        assert_eq!(plan_status("execution.step.failed"), None);
        assert_eq!(step_status("execution.step.completed", Some("skipped")), Some(StepStatus::Skipped));
        assert_eq!(step_status("execution.step.completed", None), Some(StepStatus::Completed));
        assert_eq!(step_status("execution.completed", None), None);
    }

    #[test]
    fn a_malformed_event_is_rejected_at_once() {
        let outcome = Outcome::from(mirror(&Envelope::for_test("execution.started", r#"{"planId":7}"#)));
        assert!(matches!(outcome, Outcome::Rejected(_)));
    }

    #[test]
    fn a_dry_run_leaves_the_plan_alone() {
        let text = r#"{"executionId":"e1","planId":"p1","sequence":1,"dryRun":true}"#;
        assert_eq!(Outcome::from(mirror(&Envelope::for_test("execution.started", text))), Outcome::Acknowledged);
    }
}
