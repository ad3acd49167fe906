//! Steps as rows.

use berth_sdk::{prelude::*, serde_json::Value, validate::Path};
use plan_rules::{OnFailure, Rollback, RollbackType, Step, StepType};

/// How a step stands, mirrored from the execution.
#[choice]
pub(crate) enum StepStatus {
    Pending,
    Executing,
    Completed,
    Failed,
    Skipped,
}

/// A step of a plan as a row.
#[entity(table = "plan_steps", name = "step", sort = "order")]
pub(crate) struct StepRow {
    #[field(readonly)]
    pub plan_id: Id,
    #[field(min = 1, max = 10_000)]
    pub order: i64,
    #[field(min = 1, max = 200, plain)]
    pub title: String,
    #[field(default)]
    pub description: String,
    pub r#type: StepType,
    #[field(default)]
    pub dependencies: Vec<Id>,
    #[field(readonly, default = StepStatus::Pending)]
    pub status: StepStatus,
    /// The last event that changed the status.
    #[field(readonly, hidden, default)]
    pub status_sequence: i64,
    pub params: Value,
    #[field(default)]
    pub preconditions: Vec<Value>,
    #[field(default)]
    pub postconditions: Vec<Value>,
    #[field(default, max = 500)]
    pub expected_artifacts: Vec<String>,
    pub rollback: Option<Value>,
    pub rollback_type: RollbackType,
    #[field(default)]
    pub irreversible_accepted: bool,
    pub on_failure: OnFailure,
    #[field(min = 0, max = 20)]
    pub max_retries: i64,
    #[field(min = 100, max = 86_400_000)]
    pub timeout_ms: i64,
}

impl Rules for StepRow {
    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        let mut step = self.step(&old.id)?;
        let mut faults = Faults::default();
        step.check(&Path::default(), &mut faults);
        if step.rollback_type == RollbackType::Compensatable && step.rollback.is_none() {
            faults.add("rollback", "is required for a compensatable step");
        }
        faults.finish()?;
        self.take(step);
        Ok(())
    }
}

impl StepRow {
    /// A new row of a step; its id is given when it is inserted.
    pub(crate) fn new(plan_id: &Id, step: Step) -> Self {
        let mut row = Self {
            plan_id: plan_id.clone(),
            order: step.order,
            title: step.title.clone(),
            description: step.description.clone(),
            r#type: step.r#type,
            dependencies: step.dependencies.clone(),
            status: StepStatus::Pending,
            status_sequence: 0,
            params: Value::Null,
            preconditions: Vec::new(),
            postconditions: Vec::new(),
            expected_artifacts: Vec::new(),
            rollback: None,
            rollback_type: step.rollback_type,
            irreversible_accepted: step.irreversible_accepted,
            on_failure: step.on_failure,
            max_retries: step.max_retries,
            timeout_ms: step.timeout_ms,
        };
        row.take(step);
        row
    }

    /// Takes over what the rules of steps may have normalised.
    fn take(&mut self, step: Step) {
        self.params = step.params;
        self.preconditions = step.preconditions;
        self.postconditions = step.postconditions;
        self.expected_artifacts = step.expected_artifacts;
        self.rollback = step.rollback.map(|rollback| json!(rollback));
    }

    /// The step that the shared rules know.
    pub(crate) fn step(&self, id: &Id) -> Result<Step> {
        let rollback = match &self.rollback {
            None => None,
            Some(value) => Some(
                berth_sdk::serde_json::from_value::<Rollback>(value.clone())
                    .map_err(|error| Problem::field("rollback", format!("must be {{type, params}}: {error}")))?,
            ),
        };
        Ok(Step {
            id: id.clone(),
            order: self.order,
            title: self.title.clone(),
            description: self.description.clone(),
            r#type: self.r#type,
            params: self.params.clone(),
            dependencies: self.dependencies.clone(),
            preconditions: self.preconditions.clone(),
            postconditions: self.postconditions.clone(),
            expected_artifacts: self.expected_artifacts.clone(),
            rollback,
            rollback_type: self.rollback_type,
            irreversible_accepted: self.irreversible_accepted,
            on_failure: self.on_failure,
            max_retries: self.max_retries,
            timeout_ms: self.timeout_ms,
        })
    }
}
