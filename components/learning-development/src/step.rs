//! The steps of a path: what to do, in which order, and what has to be done before.

pub mod api;

use std::collections::BTreeSet;

use berth_sdk::prelude::*;
use plan_rules::graph::Graph;

use crate::{
    path::Path,
    progress::settle,
    resource::Resource,
    standing::{self, Kind},
    words,
};

/// Steps of one path.
pub const STEPS_MAX: usize = 200;
/// The place of a step that comes behind the others.
const LAST: i64 = 1_000_000;

/// What a step is.
#[choice]
pub enum StepType {
    /// Something to read.
    Reading,
    /// Something to try.
    Exercise,
    /// Something hard to solve.
    Challenge,
    /// Something to repeat until it sits.
    Kata,
    /// Something to build.
    Project,
    /// Something to watch.
    Video,
    /// Several lessons.
    Course,
}

/// How far somebody is with a step.
#[choice]
pub enum StepStatus {
    /// Not begun.
    Pending,
    /// Begun.
    InProgress,
    /// Done.
    Completed,
    /// Left out, for everybody.
    Skipped,
}

/// A step.
#[entity(table = "learning_path_steps", name = "step", sort = "order")]
pub struct Step {
    /// The path.
    #[field(immutable, parent = Path)]
    pub path_id: Id,
    /// Its place; behind the last one when absent.
    #[field(min = 0, max = 1_000_000, default = LAST)]
    pub order: i64,
    /// What to do.
    #[field(min = 1, max = 200, plain)]
    pub title: String,
    /// What it is.
    pub step_type: StepType,
    /// The resource it uses.
    #[field(parent = Resource)]
    pub resource_id: Option<Id>,
    /// Where it is done: http or https.
    #[field(min = 1, max = 2_048, format = "url")]
    pub resource_url: Option<String>,
    /// What to do, at length.
    #[field(max = 20_000)]
    pub content: Option<String>,
    /// What one learns.
    #[field(default, max = 20)]
    pub skills: Vec<String>,
    /// Steps of the same path that come first.
    #[field(default, max = 50)]
    pub prerequisites: Vec<Id>,
    /// How long it takes.
    #[field(min = 0, max = 1_000_000)]
    pub estimated_minutes: Option<i64>,
    /// In answers how far the caller is. What is written is `skipped` or `pending`, for everybody.
    #[field(default = StepStatus::Pending)]
    pub status: StepStatus,
    /// When the caller completed it.
    #[field(readonly)]
    pub completed_at: Option<Timestamp>,
}

impl Rules for Step {
    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        self.tidy_lists()?;
        if matches!(self.status, StepStatus::InProgress | StepStatus::Completed) {
            return Err(Problem::field("status", "a step begins as pending or skipped"));
        }
        hold(transaction, &self.path_id)?;
        let others = of_path(transaction, &self.path_id)?;
        if others.len() >= STEPS_MAX {
            return Err(Problem::unprocessable(format!("A path has at most {STEPS_MAX} steps.")));
        }
        if self.order == LAST {
            self.order = others.last().map_or(1, |last| last.order.saturating_add(1)).min(LAST - 1);
        }
        judge(&Id::new(), &self.prerequisites, &waits(&others))
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        self.tidy_lists()?;
        if self.prerequisites != old.prerequisites {
            judge(&old.id, &self.prerequisites, &waits(&of_path(transaction, &self.path_id)?))?;
        }
        Ok(())
    }

    fn after_update(old: &Stored<Self>, new: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if new.status == StepStatus::Skipped && old.status != StepStatus::Skipped {
            settle::begin(transaction, &new.path_id)?;
        }
        Ok(())
    }

    /// Nothing waits for a step that is gone, and whoever has done all the others is done.
    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        hold(transaction, &row.path_id)?;
        for other in of_path(transaction, &row.path_id)? {
            if other.prerequisites.contains(&row.id) {
                let left: Vec<&Id> = other.prerequisites.iter().filter(|id| **id != row.id).collect();
                transaction.execute(
                    "UPDATE learning_path_steps SET prerequisites = $2, updated_at = $3, version = version + 1 WHERE id = $1",
                    params![&other.id, json!(left), clock::now()],
                )?;
            }
        }
        standing::forget(transaction, Kind::Step, &row.id)?;
        settle::begin(transaction, &row.path_id)
    }
}

impl Step {
    /// Cleans skills and prerequisites.
    fn tidy_lists(&mut self) -> Result<()> {
        let mut faults = Faults::default();
        words::tidy(&mut self.skills, "skills", &mut faults);
        let mut seen = BTreeSet::new();
        self.prerequisites.retain(|id| seen.insert(id.clone()));
        faults.finish()
    }

    /// Whether everybody leaves it out.
    pub fn is_skipped(&self) -> bool {
        self.status == StepStatus::Skipped
    }
}

/// Holds a path until the transaction ends, so that its steps change one after the other.
pub fn hold(transaction: &Transaction, path_id: &Id) -> Result<()> {
    transaction.query_one("SELECT id FROM learning_paths WHERE id = $1 FOR UPDATE", params![path_id])?;
    Ok(())
}

fn waits(steps: &[Stored<Step>]) -> Vec<(&Id, &[Id])> {
    steps.iter().map(|step| (&step.id, step.prerequisites.as_slice())).collect()
}

/// The steps of a path, in their order.
pub fn of_path(database: &dyn Executor, path_id: &Id) -> Result<Vec<Stored<Step>>> {
    let limit = i64::try_from(STEPS_MAX).unwrap_or(i64::MAX);
    Select::<Step>::new().equal("path_id", path_id).sort("order").limit(limit).all(database)
}

/// Judges what a step waits for, among the steps of its path: 400 for one that is not there, 422 for a circle.
pub fn judge(id: &Id, prerequisites: &[Id], others: &[(&Id, &[Id])]) -> Result<()> {
    let mut faults = Faults::default();
    for (index, wanted) in prerequisites.iter().enumerate() {
        if wanted != id && !others.iter().any(|(other, _)| *other == wanted) {
            faults.add(format!("prerequisites[{index}]"), "is no step of this path");
        }
    }
    faults.finish()?;
    let own = (id, prerequisites);
    let nodes = others.iter().filter(|(other, _)| *other != id).chain([&own]);
    let graph = Graph::new(nodes.map(|(node, waits)| (node.as_str(), waits.iter().map(Id::as_str).collect())));
    let stuck = graph.cyclic();
    if stuck.is_empty() {
        return Ok(());
    }
    let problem = Problem::unprocessable("The steps would wait for each other.").with_code("PREREQUISITE_CYCLE");
    Err(problem.with("stepIds", json!(stuck)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_step_waits_for_is_in_its_path_and_in_no_circle() {
        let (a, b, c) = (Id::from("a"), Id::from("b"), Id::from("c"));
        let of_b = [a.clone()];
        let others: [(&Id, &[Id]); 2] = [(&a, &[]), (&b, &of_b)];
        judge(&c, &[a.clone(), b.clone()], &others).unwrap();
        assert_eq!(judge(&c, &["x".into(), a.clone()], &others).unwrap_err().errors[0].field, "prerequisites[0]");
        assert_eq!(judge(&c, std::slice::from_ref(&c), &others).unwrap_err().code, "PREREQUISITE_CYCLE");
        let circle = judge(&a, std::slice::from_ref(&b), &others).unwrap_err();
        assert_eq!((circle.status, circle.member("stepIds").unwrap()), (422, &json!(["a", "b"])));
    }
}
