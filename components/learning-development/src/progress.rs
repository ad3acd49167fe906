//! How far somebody is on a path.

pub mod complete;
pub mod settle;
pub mod summary;

use std::collections::BTreeMap;

use berth_sdk::prelude::*;

use crate::{
    enrollment::{self, EnrollmentStatus},
    path::Path,
    standing::{Kind, Standing},
    step::{self, Step, StepStatus},
};

/// What somebody has done of a path.
#[derive(Clone, Debug, Default)]
pub struct Course {
    standings: BTreeMap<Id, Standing>,
}

#[data]
struct Row {
    subject_id: Id,
    value: f64,
    minutes: i64,
    completed_at: Option<Timestamp>,
}

impl Course {
    /// What a user has done of a path.
    pub fn of(database: &dyn Executor, user_id: &Id, path_id: &Id) -> Result<Self> {
        let rows: Vec<Row> = database::query_as(
            database,
            "SELECT subject_id AS \"subjectId\", value, minutes, completed_at AS \"completedAt\" FROM learning_standings \
             WHERE organization_id = $1 AND user_id = $2 AND path_id = $3 AND kind = $4",
            params![auth::organization_id()?, user_id, path_id, Kind::Step],
        )?;
        let standing = |row: Row| {
            (row.subject_id, Standing { value: row.value, minutes: row.minutes, completed_at: row.completed_at })
        };
        Ok(Self { standings: rows.into_iter().map(standing).collect() })
    }

    fn standing(&self, step_id: &Id) -> Option<&Standing> {
        self.standings.get(step_id)
    }

    /// How far they are with a step.
    pub fn status(&self, step: &Stored<Step>) -> StepStatus {
        match self.standing(&step.id) {
            _ if step.is_skipped() => StepStatus::Skipped,
            Some(standing) if standing.is_complete() => StepStatus::Completed,
            Some(_) => StepStatus::InProgress,
            None => StepStatus::Pending,
        }
    }

    /// The step as its learner sees it.
    pub fn shown(&self, mut step: Stored<Step>) -> Stored<Step> {
        step.status = self.status(&step);
        step.completed_at = self.standing(&step.id).and_then(|standing| standing.completed_at);
        step
    }

    /// What has to be done before a step and is not. What everybody leaves out, nobody waits for.
    pub fn missing(&self, step: &Stored<Step>, steps: &[Stored<Step>]) -> Vec<Id> {
        let is_open = |id: &&Id| {
            let found = steps.iter().find(|other| other.id == **id);
            found.is_some_and(|other| matches!(self.status(other), StepStatus::Pending | StepStatus::InProgress))
        };
        step.prerequisites.iter().filter(is_open).cloned().collect()
    }

    /// How many steps are done, of those that nobody leaves out.
    pub fn count(&self, steps: &[Stored<Step>]) -> (usize, usize) {
        let statuses = steps.iter().map(|step| self.status(step)).filter(|status| *status != StepStatus::Skipped);
        let done = statuses.clone().filter(|status| *status == StepStatus::Completed).count();
        (done, statuses.count())
    }
}

/// The share that is done: 0 of nothing.
pub fn share(done: usize, total: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a path has few steps")]
    if total == 0 { 0.0 } else { done as f64 / total as f64 }
}

/// 409: what is done stays done.
pub fn never_back() -> Problem {
    let detail = "What is completed stays so; enrol with reset to begin the path anew.";
    Problem::conflict(detail).with_code("STEP_COMPLETED")
}

/// One step for its learner.
#[data]
pub struct StepProgress {
    step_id: Id,
    order: i64,
    title: String,
    status: StepStatus,
    completed_at: Option<Timestamp>,
    /// Everything that comes first is done.
    is_ready: bool,
}

/// How far somebody is on a path.
#[data]
pub struct Progress {
    path_id: Id,
    user_id: Id,
    /// None for who is not enrolled.
    status: Option<EnrollmentStatus>,
    /// 0 to 1; never falls, unless the path was begun anew.
    progress: f64,
    /// What was recorded for its steps.
    minutes: i64,
    completed_steps: usize,
    /// Without those that everybody leaves out.
    total_steps: usize,
    completed_at: Option<Timestamp>,
    /// What can be done now, in its order.
    next_step_ids: Vec<Id>,
    steps: Vec<StepProgress>,
}

impl Progress {
    /// How far a user is on a path.
    pub fn of(database: &dyn Executor, path: &Stored<Path>, user_id: &Id) -> Result<Self> {
        let steps = step::of_path(database, &path.id)?;
        let course = Course::of(database, user_id, &path.id)?;
        let enrolled = enrollment::find(database, &path.id, user_id)?;
        let (completed_steps, total_steps) = course.count(&steps);
        let shown: Vec<StepProgress> = steps
            .iter()
            .map(|step| StepProgress {
                step_id: step.id.clone(),
                order: step.order,
                title: step.title.clone(),
                status: course.status(step),
                completed_at: course.standing(&step.id).and_then(|standing| standing.completed_at),
                is_ready: course.missing(step, &steps).is_empty(),
            })
            .collect();
        let is_next =
            |step: &&StepProgress| step.is_ready && matches!(step.status, StepStatus::Pending | StepStatus::InProgress);
        Ok(Self {
            path_id: path.id.clone(),
            user_id: user_id.clone(),
            status: enrolled.as_ref().map(|row| row.status),
            progress: enrolled.as_ref().map_or(0.0, |row| row.progress),
            minutes: course.standings.values().map(|standing| standing.minutes).sum(),
            completed_steps,
            total_steps,
            completed_at: enrolled.and_then(|row| row.data.completed_at),
            next_step_ids: shown.iter().filter(is_next).map(|step| step.step_id.clone()).collect(),
            steps: shown,
        })
    }
}

/// `GET /api/learning/paths/{id}/progress`: of the caller; of its owner where the path is one person's own.
pub fn read(Params(path_id): Params<Id>) -> Result<Json<Progress>> {
    let path = entity::read::<Path>(&Pool, &path_id)?;
    Progress::of(&Pool, &path, &path.learner()?).map(Json)
}

#[cfg(test)]
mod tests {
    use berth_sdk::serde_json;

    use super::*;

    fn step(id: &str, prerequisites: &[&str], status: &str) -> Stored<Step> {
        let data = json!({
            "pathId": "p1", "title": id, "stepType": "reading", "prerequisites": prerequisites, "status": status,
        });
        let now = Timestamp::from_millis(0);
        Stored {
            id: id.into(),
            organization_id: Some("o1".into()),
            created_by: None,
            created_at: now,
            updated_at: now,
            version: 1,
            data: serde_json::from_value(data).unwrap(),
        }
    }

    fn course(done: &[&str], begun: &[&str]) -> Course {
        let complete = Standing::NOTHING.next(1.0, 5, false, Timestamp::from_millis(7));
        let done = done.iter().map(|id| (Id::from(*id), complete));
        Course { standings: done.chain(begun.iter().map(|id| (Id::from(*id), Standing::NOTHING))).collect() }
    }

    #[test]
    fn a_step_waits_for_what_comes_first_and_not_for_what_is_left_out() {
        let steps = [step("a", &[], "pending"), step("b", &[], "skipped"), step("c", &["a", "b"], "pending")];
        assert_eq!(course(&[], &["a"]).missing(&steps[2], &steps), [Id::from("a")]);
        assert!(course(&["a"], &[]).missing(&steps[2], &steps).is_empty());
    }

    #[test]
    fn a_path_is_done_when_everything_is_that_is_not_left_out() {
        let steps = [step("a", &[], "pending"), step("b", &[], "skipped"), step("c", &[], "pending")];
        assert_eq!(course(&["a"], &["c"]).count(&steps), (1, 2));
        assert_eq!(course(&["a", "c"], &[]).count(&steps), (2, 2));
        assert_eq!((share(0, 0).to_bits(), share(1, 2).to_bits()), (0.0_f64.to_bits(), 0.5_f64.to_bits()));
    }

    #[test]
    fn a_step_is_shown_as_far_as_its_learner_is() {
        let course = course(&["a"], &["b"]);
        let shown = course.shown(step("a", &[], "pending"));
        assert_eq!((shown.status, shown.completed_at.map(Timestamp::millis)), (StepStatus::Completed, Some(7)));
        assert_eq!(course.shown(step("b", &[], "pending")).status, StepStatus::InProgress);
        assert_eq!(course.shown(step("c", &[], "pending")).status, StepStatus::Pending);
        assert_eq!(course.shown(step("a", &[], "skipped")).status, StepStatus::Skipped);
    }
}
