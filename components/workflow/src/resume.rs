//! Events that end a step which waits for something elsewhere: executions of plans and runs of agents.

use berth_sdk::{prelude::*, serde_json::Value};

use crate::{
    action::Watch,
    advance,
    dispatch::with_step,
    machine::StepStatus,
    perform::{self, Outcome},
    run::StepMessage,
};

/// Looks whether an event ends a step.
pub fn consume(envelope: &Envelope) -> Result<()> {
    let (watch, status) = match envelope.message_type.as_str() {
        "execution.completed" => (Watch::Execution, "completed"),
        "execution.failed" => (Watch::Execution, "failed"),
        "execution.cancelled" => (Watch::Execution, "cancelled"),
        "execution.rolled_back" => (Watch::Execution, "rolled_back"),
        "ai.agent.completed" => (Watch::Agent, "completed"),
        "ai.agent.failed" => (Watch::Agent, "failed"),
        _ => return Ok(()),
    };
    let data: Value = envelope.data()?;
    let id = data.get("executionId").or(data.get("id")).and_then(Value::as_str);
    let Some(outcome) = perform::end(watch, status, &data) else { return Ok(()) };
    let Some(id) = id else { return Ok(()) };
    let found = database::query_one(
        "SELECT run_id, \"key\", attempt FROM workflow_step_runs WHERE organization_id = $1 AND external_id = $2 AND status = $3 LIMIT 1",
        params![auth::organization_id()?, id, StepStatus::Waiting],
    )?;
    let Some(found) = found else { return Ok(()) };
    let message = StepMessage {
        run_id: found.get("run_id")?,
        key: found.get("key")?,
        attempt: found.get("attempt")?,
        cause: None,
    };
    database::transaction(|transaction| {
        with_step(transaction, &message, |run, row| match (row.status, outcome) {
            (StepStatus::Waiting, Outcome::Ended(output)) => advance::finish(run, row, output),
            (StepStatus::Waiting, Outcome::Failed(failure)) => advance::fail(run, row, failure),
            _ => Ok(()),
        })
    })
}
