//! Executing a plan: handed on to execution-service, never done here.

use berth_sdk::{http_out, prelude::*, serde_json::Value};

use super::{
    Plan, PlanStatus, api, mirror,
    store::{Document, steps_of},
};
use crate::project;

/// The body of `POST /api/plans/{id}/execute`.
#[data]
pub(crate) struct Start {
    /// `dryRun`, `autoRollback`, `maxParallel`, `continueOnError`; execution-service checks them.
    options: Option<Value>,
}

/// What became of it.
#[data]
pub(crate) struct Started {
    execution_id: Id,
    status: String,
}

/// `POST /api/plans/{id}/execute`: only a ready plan, or a validated one where the setting `auto_approve` is on.
pub(crate) fn execute(Params(id): Params<Id>, input: Option<Json<Start>>) -> Result<Accepted<Started>> {
    let plan = entity::read::<Plan>(&Pool, &id)?;
    project::require_edit(&Pool, &plan.project_id)?;
    match plan.status {
        PlanStatus::Ready => {}
        PlanStatus::Validated if needs_no_approval() => {
            database::transaction(|transaction| {
                let mut document = Document::read(transaction, &id)?;
                api::make_ready(transaction, &mut document)
            })?;
        }
        PlanStatus::Executing => return plan.require_editable().and(Err(Problem::internal())),
        status => return Err(Problem::conflict(format!("Only a ready plan can be executed; this one is {status}."))),
    }
    let options = input.and_then(|Json(input)| input.options);
    let is_dry_run = options.as_ref().and_then(|options| options.get("dryRun")) == Some(&Value::Bool(true));
    let mut body = json!({ "planId": plan.id });
    if let (Some(members), Some(options)) = (body.as_object_mut(), options) {
        members.insert("options".into(), options);
    }
    // Outside any transaction: execution-service reads this plan while it answers.
    let reply: Value = executions().post("/api/executions/execute").json(&body).fetch()?;
    let execution_id: Id = reply
        .get("id")
        .and_then(Value::as_str)
        .map(Id::from)
        .ok_or_else(|| Problem::bad_gateway("execution-service answered without an id."))?;
    if !is_dry_run {
        database::transaction(|transaction| mirror::adopt(transaction, &plan.id, &execution_id).map(|_| ()))?;
    }
    let status = reply.get("status").and_then(Value::as_str).unwrap_or("pending").to_string();
    Ok(Accepted(Started { execution_id, status }))
}

/// Whether a validated plan may be executed as it is: what the organization has set as `auto_approve`, else what the operator
/// has; no, while that cannot be found out.
fn needs_no_approval() -> bool {
    match auth::organization_id().and_then(|id| people::organization::setting(&id, "auto_approve")) {
        Ok(set) => set.as_bool().unwrap_or_else(|| config::get_or("auto_approve", false)),
        Err(problem) => {
            logging::warn!("whether plans need approval is not known; they do", problem = problem);
            false
        }
    }
}

/// `PUT /api/plans/{id}/pause`.
pub(crate) fn pause(Params(id): Params<Id>) -> Result<Json<Value>> {
    command(&id, "pause")
}

/// `PUT /api/plans/{id}/resume`.
pub(crate) fn resume(Params(id): Params<Id>) -> Result<Json<Value>> {
    command(&id, "resume")
}

/// `PUT /api/plans/{id}/cancel`.
pub(crate) fn cancel(Params(id): Params<Id>) -> Result<Json<Value>> {
    command(&id, "cancel")
}

fn command(id: &Id, name: &str) -> Result<Json<Value>> {
    let plan = entity::read::<Plan>(&Pool, id)?;
    project::require_edit(&Pool, &plan.project_id)?;
    let none = || Problem::conflict("The plan has no active execution.").with_code("NO_ACTIVE_EXECUTION");
    if plan.status != PlanStatus::Executing {
        return Err(none());
    }
    let execution_id = plan.data.execution_id.ok_or_else(none)?;
    executions().post(&format!("/api/executions/{execution_id}/{name}")).fetch().map(Json)
}

/// How plan and execution stand.
#[data]
pub(crate) struct Standing {
    plan_id: Id,
    status: PlanStatus,
    execution_id: Option<Id>,
    /// What execution-service says; null when there is no execution or it does not answer.
    execution: Option<Value>,
    progress: Progress,
}

/// How far it is.
#[data]
pub(crate) struct Progress {
    completed: usize,
    total: usize,
    /// From 0 to 1; 0 without steps.
    fraction: f64,
}

impl Progress {
    /// So many of so many.
    pub(crate) fn of(completed: usize, total: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "counts of steps and tasks are small")]
        let fraction = if total == 0 { 0.0 } else { completed as f64 / total as f64 };
        Self { completed, total, fraction }
    }
}

/// `GET /api/plans/{id}/status`.
pub(crate) fn status(Params(id): Params<Id>) -> Result<Json<Standing>> {
    use super::step::StepStatus::{Completed, Skipped};
    let plan = entity::read::<Plan>(&Pool, &id)?;
    let steps = steps_of(&Pool, &plan.id)?;
    let completed = steps.iter().filter(|step| matches!(step.status, Completed | Skipped)).count();
    let execution = plan.execution_id.as_ref().and_then(|execution_id| {
        executions()
            .get(&format!("/api/executions/{execution_id}"))
            .fetch()
            .inspect_err(|problem| logging::debug!("an execution could not be read", problem = problem))
            .ok()
    });
    Ok(Json(Standing {
        plan_id: plan.id,
        status: plan.data.status,
        execution_id: plan.data.execution_id,
        execution,
        progress: Progress::of(completed, steps.len()),
    }))
}

fn executions() -> http_out::Client {
    http_out::plugin("execution-service")
}

#[cfg(test)]
mod tests {
    use super::Progress;

    #[test]
    fn nothing_to_do_is_no_progress() {
        assert_eq!(Progress::of(0, 0).fraction, 0.0);
        assert_eq!(Progress::of(1, 4).fraction, 0.25);
        assert_eq!(Progress::of(4, 4).fraction, 1.0);
    }
}
