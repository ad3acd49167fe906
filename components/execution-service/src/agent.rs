//! Agent runs: a step gives an agent of ai-service a task, and is finished by the end of that run, which ai-service
//! publishes.

use std::time::Duration;

use berth_sdk::{http_out, prelude::*, serde_json::Value};

use crate::{advance, failure::Failure, progress, run::Run, step::StepStatus};

/// How long it may take to begin a run: the lease must outlast it.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How long it may take to stop one.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A task that is ready to be given.
#[derive(Clone, Debug)]
pub struct AgentTask {
    agent_id: String,
    body: Value,
    key: String,
}

impl AgentTask {
    /// Reads the parameters, which planning has checked. The key makes a repeated call begin one run.
    pub fn read(params: &Value, key: String) -> Self {
        let agent_id = params.get("agentId").and_then(Value::as_str).unwrap_or_default().to_string();
        let context = params.get("context").filter(|context| context.is_object()).cloned();
        let body = json!({ "input": params.get("input"), "context": context.unwrap_or_else(|| json!({})) });
        Self { agent_id, body, key }
    }

    /// Gives the task, and returns the id of the run.
    ///
    /// # Errors
    /// When there is no ai-service, no such agent, or it takes no task.
    pub fn give(&self) -> Result<String, Failure> {
        if validate::id(&self.agent_id).is_err() {
            return Err(Failure::lasting("AGENT_NOT_FOUND", "There is no such agent."));
        }
        let call = http_out::plugin("ai-service").post(&format!("/api/ai/agents/{}/execute", self.agent_id));
        let answer = call.json(&self.body).idempotency_key(&self.key).timeout(TIMEOUT).fetch::<Value>();
        let answer = answer.map_err(|problem| match problem.status {
            502..=504 => Failure::new("EXECUTOR_UNAVAILABLE", "ai-service is not there to run the step."),
            404 if problem.code == "ROUTE_NOT_FOUND" => {
                Failure::new("EXECUTOR_UNAVAILABLE", "ai-service is not there to run the step.")
            }
            404 => Failure::lasting("AGENT_NOT_FOUND", "There is no such agent."),
            409 | 429 => Failure::new("AGENT_BUSY", problem.detail),
            _ => Failure::lasting("AGENT_REFUSED", problem.detail),
        })?;
        let id = answer.pointer("/execution/id").and_then(Value::as_str).map(ToString::to_string);
        id.ok_or_else(|| Failure::new("AGENT_REFUSED", "ai-service answered without a run."))
    }
}

/// Stops runs whose steps were taken away; those that are over are. Where that fails they go on, and what comes of them is discarded.
pub fn stop(run_ids: &[String]) {
    for run_id in run_ids {
        let call = http_out::plugin("ai-service").post(&format!("/api/ai/executions/{run_id}/cancel"));
        if let Err(problem) = call.json(&json!({})).timeout(STOP_TIMEOUT).accept()
            && problem.status != 409
        {
            logging::warn!("a run of an agent could not be stopped", run = run_id, problem = problem);
        }
    }
}

/// How a run ended that was over before the step waited for it; none when it is not over, or cannot be asked.
pub fn outcome(run_id: &str) -> Option<Result<Value, Failure>> {
    let call = http_out::plugin("ai-service").get(&format!("/api/ai/executions/{run_id}")).timeout(TIMEOUT);
    let row = call.fetch::<Value>().ok()?;
    match row.get("status").and_then(Value::as_str)? {
        "completed" => Some(Ok(row.get("output").cloned().unwrap_or_default())),
        "failed" | "cancelled" | "timeout" => Some(Err(failed(row.get("error")))),
        _ => None,
    }
}

fn failed(error: Option<&Value>) -> Failure {
    let said = error.and_then(|error| error.get("message").or(Some(error))).and_then(Value::as_str);
    Failure::new("AGENT_FAILED", said.unwrap_or("The agent failed."))
}

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
            advance::fail_step(&mut run, &mut row, failed(end.error.as_ref()))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_ai_service_a_task_is_given_to_nobody() {
        let task = AgentTask::read(&json!({"agentId": "a1", "input": "Paint"}), "k".into());
        assert_eq!(task.body, json!({"input": "Paint", "context": {}}));
        let failure = task.give().unwrap_err();
        assert_eq!((failure.code, failure.may_pass), ("EXECUTOR_UNAVAILABLE", true));
        let task = AgentTask::read(&json!({"agentId": "../x", "input": "Paint"}), "k".into());
        assert_eq!(task.give().unwrap_err().code, "AGENT_NOT_FOUND");
        assert!(outcome("e1").is_none());
    }
}
