//! Agent runs that end: a step that waits for one is finished by it. ai-service publishes them.

use berth_sdk::{prelude::*, serde_json::Value};

use crate::{advance, failure::Failure, progress, run::Run, step::StepStatus};

#[data]
struct AgentEnd {
    execution_id: Option<String>,
    id: Option<String>,
    output: Option<Value>,
    error: Option<Value>,
}

/// Handles `ai.agent.*`: other types than the two ends, and runs that no step waits for, are nothing to us.
pub fn ended(envelope: &Envelope) -> Result<()> {
    let has_failed = match envelope.message_type.as_str() {
        "ai.agent.completed" => false,
        "ai.agent.failed" => true,
        _ => return Ok(()),
    };
    let end: AgentEnd = envelope.data()?;
    let Some(external_id) = end.execution_id.or(end.id) else { return Ok(()) };
    let execution_id = database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(None);
        }
        let found = transaction.query_one(
            "SELECT execution_id, id FROM execution_steps WHERE organization_id = $1 AND external_id = $2 AND status = $3",
            params![auth::organization_id()?, &external_id, StepStatus::Waiting],
        )?;
        let Some(found) = found else { return Ok(None) };
        let Some(mut run) = Run::find(transaction, &found.get::<Id>("execution_id")?)? else { return Ok(None) };
        let mut row = run.step(&found.get::<Id>("id")?)?;
        if row.status != StepStatus::Waiting {
            return Ok(None);
        }
        if has_failed {
            let said =
                end.error.as_ref().and_then(|error| error.get("message").or(Some(error))).and_then(Value::as_str);
            let failure = Failure::new("AGENT_FAILED", said.unwrap_or("The agent failed."));
            advance::fail_step(&mut run, &mut row, failure)?;
        } else {
            advance::finish_step(&mut run, &mut row, end.output.unwrap_or(Value::Null), &[])?;
        }
        Ok::<_, Problem>(Some(run.save()?.id))
    })?;
    if let Some(execution_id) = execution_id {
        progress::forget(&execution_id);
    }
    Ok(())
}
