//! Checkpoints: points of a run that a rollback can go back to.

use berth_sdk::{prelude::*, serde_json::Value};

use crate::{run::Run, step::StepStatus, workspace};

/// Who noted it.
#[choice]
pub enum CheckpointKind {
    /// The machine, before a step with an effect.
    Auto,
    /// Somebody.
    Manual,
}

/// One point of a run.
#[entity(table = "execution_checkpoints", sort = "sequence")]
pub struct Checkpoint {
    /// The execution.
    pub execution_id: Id,
    /// The step that came next.
    pub step_id: Option<Id>,
    /// Who noted it.
    pub kind: CheckpointKind,
    /// The last event before it.
    pub sequence: i64,
    /// The steps that were done, by their ids.
    pub state: Value,
    /// The artifacts that were the workspace.
    pub artifact_refs: Value,
}

impl Rules for Checkpoint {}

/// Notes a checkpoint of the run as it is.
pub fn note(run: &mut Run<'_>, step_id: Option<&Id>, kind: CheckpointKind) -> Result<Stored<Checkpoint>> {
    let of = |status: StepStatus| -> Vec<&Id> {
        run.steps.iter().filter(|step| step.status == status).map(|step| &step.step_id).collect()
    };
    let state = json!({
        "status": run.execution.status,
        "planRevision": run.execution.plan_revision,
        "completed": of(StepStatus::Completed),
        "skipped": of(StepStatus::Skipped),
    });
    let artifact_refs = json!(workspace::current_ids(run)?);
    entity::create(
        run.transaction,
        Checkpoint {
            execution_id: run.execution.id.clone(),
            step_id: step_id.cloned(),
            kind,
            sequence: run.execution.event_sequence,
            state,
            artifact_refs,
        },
    )
}
