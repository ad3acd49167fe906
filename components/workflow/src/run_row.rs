//! Runs: one pass of one version of a workflow.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{audience::Audience, machine::End, sight, workflow::Workflow};

/// What whoever deletes a workflow needs.
pub const DELETE: &str = "workflows.workflow.delete";

/// How far a run is.
#[choice]
pub enum RunStatus {
    /// Accepted, or waiting for its turn.
    Pending,
    /// Steps run.
    Running,
    /// Everything under way waits for people, a moment, or something elsewhere.
    Waiting,
    /// Done.
    Completed,
    /// A step has failed.
    Failed,
    /// Somebody has cancelled it.
    Cancelled,
    /// It took too long.
    Timeout,
}

impl RunStatus {
    /// Nothing happens any more.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Pending | Self::Running | Self::Waiting)
    }
}

/// What starts runs.
#[choice]
pub enum TriggerType {
    /// Somebody, or another workflow.
    Manual,
    /// Something happened.
    Event,
    /// It is time.
    Schedule,
    /// A call from outside.
    Webhook,
}

/// One run.
#[entity(table = "workflow_runs", name = "run", sort = "-createdAt")]
pub struct RunRow {
    /// The workflow.
    pub workflow_id: Id,
    /// The project that it tells of: of the event that started it, of the run whose step did, or else of the workflow.
    pub project_id: Option<Id>,
    /// Who sees it, among those who see the project: of the event that started it, or of the run that did.
    pub audience: Audience,
    /// The version of the definition that it keeps. Of a stored run this is `row.data.version`: `row.version` is its lock.
    pub version: i64,
    /// What started it.
    pub trigger_type: TriggerType,
    /// What was known then; `trigger` in references.
    pub trigger_payload: Value,
    /// How far it is.
    pub status: RunStatus,
    /// Values that steps may set; `variables` in references.
    pub variables: Map<String, Value>,
    /// The steps under way.
    pub current_steps: Vec<Id>,
    /// The outputs of the last completed steps.
    pub result: Option<Value>,
    /// Why it did not complete.
    pub error: Option<Value>,
    /// When the first step began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// When it is given up.
    pub deadline: Option<Timestamp>,
    /// The run whose step waits for it.
    pub parent_run_id: Option<Id>,
    /// The run whose event started it.
    pub caused_by_run_id: Option<Id>,
    /// How many runs led to it, one causing the next.
    pub depth: i64,
    /// For whom its steps are done: who started it by hand, for whom the run acts whose step did, or else for whom the
    /// workflow acts.
    pub acts_for: Option<Id>,
    /// The step that waits.
    #[field(hidden)]
    pub parent_step: Option<String>,
    /// Its attempt.
    #[field(hidden)]
    pub parent_attempt: Option<i64>,
    /// What started it, once.
    #[field(hidden)]
    pub trigger_key: Option<String>,
    /// The chain of calls and messages that it belongs to.
    #[field(hidden)]
    pub correlation_id: Option<String>,
    /// The workflow's policy when it started.
    #[field(hidden)]
    pub policy: crate::workflow::Concurrency,
    /// It waits for its turn.
    pub is_queued: bool,
    /// The number of its last event.
    pub event_sequence: i64,
}

/// Messages are about every run: what people may see is asked of [`RunBrief`].
impl Rules for RunRow {}

/// A run as lists show it: without payload, variables and result, which may be large; and only where the caller may see it.
#[entity(table = "workflow_runs", name = "run", sort = "-createdAt")]
pub struct RunBrief {
    /// The workflow.
    pub workflow_id: Id,
    /// The project that it tells of.
    pub project_id: Option<Id>,
    /// Who sees it, among those who see the project.
    pub audience: Audience,
    /// The version of the definition that it keeps.
    pub version: i64,
    /// What started it.
    pub trigger_type: TriggerType,
    /// How far it is.
    pub status: RunStatus,
    /// The steps under way.
    pub current_steps: Vec<Id>,
    /// Why it did not complete.
    pub error: Option<Value>,
    /// When the first step began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// The run whose step waits for it.
    pub parent_run_id: Option<Id>,
    /// The run whose event started it.
    pub caused_by_run_id: Option<Id>,
    /// How many runs led to it.
    pub depth: i64,
    /// For whom its steps are done.
    pub acts_for: Option<Id>,
    /// It waits for its turn.
    pub is_queued: bool,
}

impl Rules for RunBrief {
    fn scope() -> Option<Condition> {
        sight::runs()
    }
}

/// 404 unless the caller may see the run. Not inside a transaction.
pub fn require(id: &Id) -> Result<()> {
    entity::read::<RunBrief>(&Pool, id).map(drop)
}

/// Whether the caller sees a run that they may cancel. A run that goes on keeps its workflow from being deleted, so whoever may
/// delete that cancels it unseen; for everybody else it is a 404. Not inside a transaction.
pub fn require_cancellable(id: &Id) -> Result<bool> {
    if entity::find::<RunBrief>(&Pool, id)?.is_some() {
        return Ok(true);
    }
    let run = entity::read::<RunRow>(&Pool, id)?;
    if auth::has(DELETE) && entity::find::<Workflow>(&Pool, &run.workflow_id)?.is_some() {
        return Ok(false);
    }
    Err(Problem::missing("run"))
}

impl RunRow {
    /// How it ended, as the machine sees it; the step that failed does not matter any more.
    pub fn end(&self) -> Option<End> {
        match self.status {
            RunStatus::Completed => Some(End::Completed),
            RunStatus::Failed => Some(End::Failed(0)),
            RunStatus::Cancelled => Some(End::Cancelled),
            RunStatus::Timeout => Some(End::Timeout),
            _ => None,
        }
    }
}
