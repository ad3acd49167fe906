//! Telling the people whom a step waits for. The message in the conversation about the step is messaging's, which hears
//! `execution.step.waiting`.

use std::time::Duration;

use berth_sdk::{
    notice::{Criticality, Notice},
    prelude::*,
    serde_json::Value,
};

use crate::{
    run::Run,
    step::{StepRow, StepStatus},
};

/// The work message.
pub const NOTIFY: &str = "execution.step.notify";
/// People of one notification.
const RECIPIENTS_MAX: usize = 500;
/// Characters of a step's message that are repeated.
const BODY_CHARACTERS_MAX: usize = 2_000;

/// Who is told of which step.
#[data]
struct Work {
    execution_id: Id,
    /// The step's row.
    step_row_id: Id,
    step_id: Id,
    attempt: i64,
    project_id: Option<Id>,
    title: String,
    message: String,
    recipient_ids: Vec<Id>,
}

/// Lets those who are asked be told, with the transaction in which the step begins to wait.
pub fn begin(run: &Run<'_>, row: &Stored<StepRow>, params: &Value) -> Result<()> {
    let execution = &run.execution;
    let message = params.get("message").and_then(Value::as_str).unwrap_or_default();
    let work = Work {
        execution_id: execution.id.clone(),
        step_row_id: row.id.clone(),
        step_id: row.step_id.clone(),
        attempt: row.attempt,
        project_id: execution.project_id.clone(),
        title: format!("A step waits for you: {}", row.title),
        message: message.chars().take(BODY_CHARACTERS_MAX).collect(),
        recipient_ids: recipients(params, &execution.user_id),
    };
    run.transaction.enqueue(NOTIFY, &work, Duration::ZERO).map(|_| ())
}

/// The approvers; where nobody is named, who started the execution.
fn recipients(params: &Value, started_by: &Id) -> Vec<Id> {
    let named = params.get("approvers").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let mut ids: Vec<Id> = named.filter_map(|id| Id::parse(id).ok()).take(RECIPIENTS_MAX).collect();
    if ids.is_empty() {
        ids.push(started_by.clone());
    }
    ids
}

/// Handles [`NOTIFY`]. Nobody is called to a step that does not wait any more.
pub fn notify(envelope: &Envelope) -> Result<()> {
    let work: Work = envelope.data()?;
    let row = entity::find::<StepRow>(&Pool, &work.step_row_id)?;
    if row.is_none_or(|row| row.status != StepStatus::Waiting || row.attempt != work.attempt) {
        return Ok(());
    }
    Notice::new("execution.step.waiting", &work.title, Criticality::High)
        .to(work.recipient_ids)
        .body(&work.message)
        .about("execution", &work.execution_id)
        .once(&format!("execution.step.waiting:{}:{}", work.step_row_id, work.attempt))
        .with("category", "PROJECT_MANAGEMENT")
        .with("projectId", json!(work.project_id))
        .with("actionUrl", format!("/executions/{}?step={}", work.execution_id, work.step_id))
        .with("metadata", json!({ "executionId": work.execution_id, "stepId": work.step_id, "attempt": work.attempt }))
        .deliver(envelope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_approvers_are_told_or_who_started_it() {
        let starter = Id::from("u9");
        assert_eq!(recipients(&json!({"approvers": ["u1", 7, "u 2", "u3"]}), &starter), ["u1", "u3"].map(Id::from));
        assert_eq!(recipients(&json!({}), &starter), ["u9"].map(Id::from));
        assert_eq!(recipients(&json!({"approvers": []}), &starter), ["u9"].map(Id::from));
    }
}
