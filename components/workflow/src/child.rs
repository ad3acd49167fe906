//! Sub-workflows: a run that another run's step waits for.

use berth_sdk::{prelude::*, serde_json::Value};

use crate::{
    advance, behalf,
    definition::Step,
    failure::Failure,
    machine::StepStatus,
    perform::MAY_NOT,
    run::{CancelMessage, Cause, RUN_CANCEL, Run},
    run_row::{RunRow, RunStatus, TriggerType},
    start::{self, Order, Parent, Started},
    step_run::StepRun,
};

/// What whoever starts a run needs.
pub const EXECUTE: &str = "workflows.workflow.update";

/// Starts the run of a sub-workflow; the step waits for it unless its input says `wait: false`.
pub fn open(run: &mut Run<'_>, row: &mut Stored<StepRun>, step: &Step, input: &Value) -> Result<()> {
    let id = input.get("workflowId").and_then(Value::as_str).unwrap_or_default();
    let Ok(workflow_id) = Id::parse(id) else {
        return advance::fail(run, row, Failure::lasting("INVALID_INPUT", "workflowId must be the id of a workflow."));
    };
    if !auth::has(EXECUTE) {
        return advance::fail(
            run,
            row,
            Failure::lasting("FORBIDDEN", format!("{MAY_NOT} the permission {EXECUTE} is missing.")),
        );
    }
    let waits = input.get("wait") != Some(&Value::Bool(false));
    let order = Order {
        workflow_id,
        project_id: run.row.project_id.clone(),
        audience: run.row.audience,
        trigger_type: TriggerType::Manual,
        payload: json!({ "input": input.get("input").cloned().unwrap_or_else(|| json!({})), "parentRunId": run.row.id }),
        // One attempt starts one run, however often its message comes.
        trigger_key: Some(format!("step-{}-{}", row.id, row.attempt)),
        depth: run.row.depth + 1,
        caused_by: None,
        correlation_id: run.row.correlation_id.clone(),
        parent: Some(Parent { run_id: run.row.id.clone(), step: waits.then(|| row.key.clone()), attempt: row.attempt }),
        acts_for: run.row.acts_for.clone().or_else(behalf::caller),
        run_id: None,
    };
    let child = match start::begin(run.transaction, order)? {
        Started::Run(child) => child.id.clone(),
        Started::Existing(id) => id,
        Started::Skipped(_) => {
            let message = "The workflow runs already, and its policy is to skip.";
            return advance::fail(run, row, Failure::new("RUN_SKIPPED", message));
        }
        Started::Refused(problem) => return advance::fail(run, row, Failure::from(*problem)),
    };
    row.external_id = Some(child.to_string());
    if !waits {
        return advance::finish(run, row, json!({ "runId": child }));
    }
    let until = step.timeout.map(|timeout| run.now.plus(timeout.duration()));
    advance::wait(run, row, until, json!({ "waitsFor": "run", "childRunId": child }))?;
    if let Some(timeout) = step.timeout {
        run.send(&row.key, row.attempt, Some(Cause::Deadline), timeout.duration())?;
    }
    Ok(())
}

/// The run that a step waits for has ended.
pub fn ended(run: &mut Run<'_>, row: &mut Stored<StepRun>) -> Result<()> {
    let Some(id) = row.external_id.clone() else { return Ok(()) };
    let Some(child) = entity::find::<RunRow>(run.transaction, &id)? else {
        return advance::fail(run, row, Failure::lasting("NOT_FOUND", "The run that the step waits for is gone."));
    };
    match child.status {
        RunStatus::Completed => {
            let outputs =
                child.result.as_ref().and_then(|result| result.get("outputs")).cloned().unwrap_or(Value::Null);
            advance::finish(
                run,
                row,
                json!({ "runId": id, "status": child.status, "outputs": outputs, "variables": child.variables }),
            )
        }
        status if status.is_over() => {
            let said = child.error.as_ref().and_then(|error| error.get("message")).and_then(Value::as_str);
            let message = format!("The run {id} ended as {status}. {}", said.unwrap_or_default());
            advance::fail(run, row, Failure::new("SUBWORKFLOW_FAILED", message.trim()))
        }
        _ => Ok(()),
    }
}

/// The step does not wait any longer: the run that it waited for is cancelled.
pub fn abandon(run: &Run<'_>, row: &StepRun) -> Result<()> {
    let children = run.transaction.query(
        "SELECT id FROM workflow_runs WHERE parent_run_id = $1 AND (id = $2 OR parent_step = $3 OR parent_step LIKE $4) \
         AND status IN ('pending', 'running', 'waiting') ORDER BY id LIMIT 1000",
        params![&run.row.id, row.external_id.clone().unwrap_or_default(), &row.key, format!("{}.%", row.key)],
    )?;
    for child in children {
        let message =
            CancelMessage { run_id: child.get("id")?, reason: "The step that waited for it took too long.".into() };
        run.transaction.enqueue(RUN_CANCEL, &message, std::time::Duration::ZERO)?;
    }
    if !row.is_item() {
        run.transaction.execute(
            "UPDATE workflow_step_runs SET status = $3, finished_at = $4, updated_at = $4, lease_until = NULL, version = version + 1 \
             WHERE run_id = $1 AND step_id = $2 AND item_index IS NOT NULL AND status IN ('pending', 'running', 'waiting')",
            params![&run.row.id, &row.step_id, StepStatus::Cancelled, run.now],
        )?;
    }
    Ok(())
}
