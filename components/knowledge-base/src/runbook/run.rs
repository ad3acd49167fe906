//! One time that a runbook is gone through.

use berth_sdk::prelude::*;

use super::Runbook;
use crate::entry::{api, transact};

/// How far it is.
#[choice]
pub enum RunStatus {
    /// Somebody is at it.
    Running,
    /// Every step is done.
    Completed,
    /// A step has failed.
    Failed,
    /// It was given up.
    Cancelled,
}

/// What became of a step.
#[choice]
pub enum StepStatus {
    /// Not yet done.
    Pending,
    /// Done.
    Completed,
    /// Left out.
    Skipped,
    /// Not possible.
    Failed,
}

/// A step with what became of it; its words are those that it had when the run began.
#[data]
pub struct StepResult {
    order: i64,
    title: String,
    status: StepStatus,
    note: Option<String>,
    by: Option<String>,
    at: Option<Timestamp>,
}

/// A run.
#[entity(table = "kb_runbook_runs", name = "runbook run", sort = "-createdAt")]
pub struct Run {
    /// The runbook.
    #[field(readonly)]
    pub runbook_id: Id,
    /// How far it is.
    #[field(readonly, default = RunStatus::Running)]
    pub status: RunStatus,
    /// The steps.
    #[field(readonly, default)]
    pub step_results: Vec<StepResult>,
    /// Who has begun it.
    #[field(readonly, filter)]
    pub started_by: Id,
    /// When it ended.
    #[field(readonly)]
    pub finished_at: Option<Timestamp>,
}

impl Rules for Run {
    fn scope() -> Option<Condition> {
        let Condition { sql, values } = <Runbook as Rules>::scope()?;
        Some(Condition { sql: format!("\"runbook_id\" IN (SELECT id FROM kb_runbooks WHERE {sql})"), values })
    }
}

impl Run {
    /// Notes what became of a step, and ends the run where that was the last or a failure. 404 for no such step.
    fn note(&mut self, order: i64, input: &StepInput, now: Timestamp, by: Option<String>) -> Result<()> {
        let step = self.step_results.iter_mut().find(|step| step.order == order);
        let step = step.ok_or_else(|| Problem::missing("step"))?;
        step.status = input.status;
        step.note.clone_from(&input.note);
        step.by = by;
        step.at = Some(now);
        let has = |status: StepStatus| self.step_results.iter().any(|step| step.status == status);
        self.status = if has(StepStatus::Failed) {
            RunStatus::Failed
        } else if has(StepStatus::Pending) {
            RunStatus::Running
        } else {
            RunStatus::Completed
        };
        self.finished_at = (self.status != RunStatus::Running).then_some(now);
        Ok(())
    }
}

/// `POST /api/knowledge/runbooks/{id}/run`.
pub fn start(Params(id): Params<Id>) -> Result<Created<Stored<Run>>> {
    let run = transact(|transaction| {
        let runbook = entity::read::<Runbook>(transaction, &id)?;
        let step_results = runbook.steps.iter().map(|step| StepResult {
            order: step.order,
            title: step.title.clone(),
            status: StepStatus::Pending,
            note: None,
            by: None,
            at: None,
        });
        let run = Run {
            runbook_id: id.clone(),
            status: RunStatus::Running,
            step_results: step_results.collect(),
            started_by: auth::user_id()?,
            finished_at: None,
        };
        entity::create(transaction, run)
    })?;
    Ok(Created(run))
}

/// `GET /api/knowledge/runbooks/{id}/runs`.
pub fn list(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Run>>>> {
    let runbook = entity::read::<Runbook>(&Pool, &id)?;
    Select::<Run>::new().equal("runbook_id", &runbook.id).page(&Pool, &query)
}

/// `GET /api/knowledge/runs/{id}`.
pub fn read(Params(id): Params<Id>) -> Result<Stored<Run>> {
    entity::read::<Run>(&Pool, &id)
}

/// What became of a step.
#[data]
pub struct StepInput {
    status: StepStatus,
    #[field(max = 5_000)]
    note: Option<String>,
}

/// `POST /api/knowledge/runs/{id}/steps/{order}`: a failed step can be done again and then goes on.
pub fn step(
    Params((id, order)): Params<(Id, Id)>,
    if_match: IfMatch,
    Json(input): Json<StepInput>,
) -> Result<Stored<Run>> {
    let order: i64 = order.parse().map_err(|_| Problem::field("order", "must be a whole number"))?;
    api::again(|| {
        transact(|transaction| {
            let mut run = entity::read::<Run>(transaction, &id)?;
            if_match.check(run.version)?;
            if !matches!(run.status, RunStatus::Running | RunStatus::Failed) {
                return Err(ended(&run));
            }
            run.note(order, &input, clock::now(), auth::principal().user_id)?;
            entity::save(transaction, &mut run)?;
            Ok(run)
        })
    })
}

fn ended(run: &Run) -> Problem {
    Problem::conflict(format!("The run is {}.", run.status)).with_code("RUN_ENDED")
}

/// `POST /api/knowledge/runs/{id}/cancel`.
pub fn cancel(Params(id): Params<Id>) -> Result<Stored<Run>> {
    api::again(|| {
        transact(|transaction| {
            let mut run = entity::read::<Run>(transaction, &id)?;
            if run.status != RunStatus::Running {
                return Err(ended(&run));
            }
            run.status = RunStatus::Cancelled;
            run.finished_at = Some(clock::now());
            entity::save(transaction, &mut run)?;
            Ok(run)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_with_its_last_step_or_a_failure() {
        let result = |order| StepResult {
            order,
            title: "t".into(),
            status: StepStatus::Pending,
            note: None,
            by: None,
            at: None,
        };
        let mut run = Run {
            runbook_id: Id::from("r"),
            status: RunStatus::Running,
            step_results: vec![result(1), result(2)],
            started_by: Id::from("u"),
            finished_at: None,
        };
        let mut note = |order, status| {
            let outcome = run.note(order, &StepInput { status, note: None }, clock::now(), None);
            (outcome.map_err(|problem| problem.status).err(), run.status)
        };
        assert_eq!(note(3, StepStatus::Completed).0, Some(404));
        assert_eq!(note(1, StepStatus::Completed), (None, RunStatus::Running));
        assert_eq!(note(2, StepStatus::Failed), (None, RunStatus::Failed));
        assert_eq!(note(2, StepStatus::Skipped), (None, RunStatus::Completed));
    }
}
