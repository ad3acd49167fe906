//! Plans: an intent turned into ordered, validated steps.

mod api;
mod execution;
mod generate;
mod mirror;
mod step;
mod steps_api;
mod store;
mod templates;

pub(crate) use mirror::mirror;
pub(crate) use step::{StepRow, StepStatus};

use berth_sdk::{prelude::*, serde_json::Value};

use crate::project::{self, Project};

/// How the steps of a plan hang together.
#[choice]
pub(crate) enum Strategy {
    Hierarchical,
    Single,
    Iterative,
}

/// Where a plan stands.
#[choice]
pub(crate) enum PlanStatus {
    Draft,
    Validated,
    Ready,
    Executing,
    Completed,
    Failed,
    Cancelled,
}

/// A plan, without its steps.
#[entity(table = "plan_plans", created = "planning.plan.created", deleted = "planning.plan.deleted", soft_delete)]
pub(crate) struct Plan {
    #[field(immutable, parent = Project)]
    pub project_id: Id,
    #[field(min = 1, max = 200, plain)]
    pub title: String,
    #[field(default)]
    pub description: String,
    #[field(default, max = 8000)]
    pub intent: String,
    #[field(default = Strategy::Hierarchical)]
    pub strategy: Strategy,
    #[field(readonly, default = PlanStatus::Draft)]
    pub status: PlanStatus,
    #[field(readonly, default)]
    pub confidence: f64,
    #[field(readonly)]
    pub quality: Option<Value>,
    /// In minutes.
    #[field(min = 0, max = 5_256_000)]
    pub estimated_time: Option<i64>,
    #[field(default, max = 200)]
    pub assumptions: Vec<String>,
    #[field(default, max = 200)]
    pub invariants: Vec<String>,
    #[field(default, max = 200)]
    pub non_goals: Vec<String>,
    #[field(readonly)]
    pub plan_hash: Option<String>,
    #[field(readonly)]
    pub approved_by: Option<Id>,
    #[field(readonly)]
    pub approved_at: Option<Timestamp>,
    /// The latest execution.
    #[field(readonly)]
    pub execution_id: Option<Id>,
    /// The last event of that execution that changed the status here.
    #[field(readonly, hidden, default)]
    pub execution_sequence: i64,
}

impl Rules for Plan {
    fn scope() -> Option<Condition> {
        Some(project::within("plan_plans"))
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &self.project_id)
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &old.project_id)?;
        old.require_editable()?;
        if *self != old.data {
            self.return_to_draft();
        }
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &row.project_id)?;
        row.require_editable()
    }

    fn event_data(row: &Stored<Self>) -> Value {
        json!({
            "id": row.id, "planId": row.id, "projectId": row.project_id, "title": row.title, "strategy": row.strategy,
            "status": row.status,
        })
    }
}

impl Plan {
    /// 409 while it is being executed.
    pub(crate) fn require_editable(&self) -> Result<()> {
        if self.status != PlanStatus::Executing {
            return Ok(());
        }
        let problem = Problem::conflict("The plan is being executed; change the plan of its execution instead.");
        Err(problem.with_code("PLAN_EXECUTING").with("executionId", self.execution_id.as_ref().map(Id::as_str)))
    }

    /// Whatever was validated and approved is no longer what it was.
    pub(crate) fn return_to_draft(&mut self) {
        self.status = PlanStatus::Draft;
        self.plan_hash = None;
        self.approved_by = None;
        self.approved_at = None;
    }
}

/// The routes of plans.
pub(crate) fn routes() -> Router {
    Router::new()
        .entity::<Plan>("/api/plans")
        .get("/api/plans/{id}", api::read)
        .summary("Read a plan with its steps.")
        .post("/api/plans", api::create)
        .summary("Make a plan from explicit steps, a template or an intent.")
        .get("/api/plans/templates", templates::list)
        .summary("List the templates of plans.")
        .post("/api/plans/{id}/refine", api::refine)
        .summary("Refine a plan by feedback.")
        .post("/api/plans/{id}/validate", api::validate)
        .summary("Validate a plan.")
        .post("/api/plans/{id}/approve", api::approve)
        .summary("Approve a validated plan.")
        .post("/api/plans/{id}/execute", execution::execute)
        .summary("Execute a plan.")
        .put("/api/plans/{id}/pause", execution::pause)
        .summary("Pause the active execution.")
        .put("/api/plans/{id}/resume", execution::resume)
        .summary("Resume the active execution.")
        .put("/api/plans/{id}/cancel", execution::cancel)
        .summary("Cancel the active execution.")
        .get("/api/plans/{id}/status", execution::status)
        .summary("Read how plan and execution stand.")
        .get("/api/plans/{id}/steps", steps_api::list)
        .summary("List the steps of a plan.")
        .post("/api/plans/{id}/steps", steps_api::add)
        .summary("Add a step.")
        .put("/api/plans/{id}/steps/{stepId}", steps_api::change)
        .summary("Change a step.")
        .delete("/api/plans/{id}/steps/{stepId}", steps_api::remove)
        .summary("Remove a step.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(status: PlanStatus) -> Plan {
        Plan {
            project_id: "p1".into(),
            title: "t".into(),
            description: String::new(),
            intent: String::new(),
            strategy: Strategy::Single,
            status,
            confidence: 1.0,
            quality: None,
            estimated_time: None,
            assumptions: vec![],
            invariants: vec![],
            non_goals: vec![],
            plan_hash: Some("h".into()),
            approved_by: Some("u1".into()),
            approved_at: None,
            execution_id: Some("e1".into()),
            execution_sequence: 4,
        }
    }

    #[test]
    fn only_an_executing_plan_is_closed_to_edits() {
        for status in PlanStatus::ALL {
            let result = plan(*status).require_editable();
            assert_eq!(result.is_err(), *status == PlanStatus::Executing, "{status}");
        }
        let problem = plan(PlanStatus::Executing).require_editable().unwrap_err();
        assert_eq!((problem.status, problem.member("executionId")), (409, Some(&json!("e1"))));
    }

    #[test]
    fn an_edit_takes_approval_and_hash_back() {
        let mut edited = plan(PlanStatus::Ready);
        edited.return_to_draft();
        assert_eq!((edited.status, edited.plan_hash, edited.approved_by), (PlanStatus::Draft, None, None));
    }
}
