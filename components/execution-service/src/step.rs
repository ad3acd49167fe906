//! Steps of an execution: their states, and which of them may begin. Pure rules.

use std::collections::BTreeSet;

use berth_sdk::{prelude::*, serde_json::Value};
use plan_rules::{RollbackType, StepType, writes};

/// How far a step is.
#[choice]
pub enum StepStatus {
    /// It waits for others.
    Pending,
    /// Its message is on the way.
    Ready,
    /// Somebody holds its lease.
    Running,
    /// It waits for a person, a worker or another service.
    Waiting,
    /// Done.
    Completed,
    /// It did not work.
    Failed,
    /// Somebody has skipped it.
    Skipped,
    /// Its effect is undone.
    Compensated,
}

impl StepStatus {
    /// Those that wait for it may begin.
    pub fn is_done(self) -> bool {
        matches!(self, Self::Completed | Self::Skipped)
    }

    /// It takes one of the places of `maxParallel`.
    pub fn is_under_way(self) -> bool {
        matches!(self, Self::Ready | Self::Running | Self::Waiting)
    }
}

/// Which way a step goes.
#[choice]
pub enum Phase {
    /// It does what it says.
    Run,
    /// Its rollback step runs.
    Compensate,
}

/// One step of one execution.
#[entity(table = "execution_steps", name = "step", sort = "order")]
pub struct StepRow {
    /// The execution.
    pub execution_id: Id,
    /// The step's id in the plan.
    pub step_id: Id,
    /// Its place, from 1.
    pub order: i64,
    /// Its name.
    pub title: String,
    /// What it does.
    pub r#type: StepType,
    /// How far it is.
    pub status: StepStatus,
    /// Which way it goes.
    pub phase: Phase,
    /// From 1; 0 before the first.
    pub attempt: i64,
    /// Its parameters; long texts are cut.
    pub input: Option<Value>,
    /// What came of it.
    pub output: Option<Value>,
    /// Why it failed.
    pub error: Option<Value>,
    /// The steps it waits for.
    pub dependencies: Vec<Id>,
    /// When the last attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When it is tried again.
    pub next_attempt_at: Option<Timestamp>,
    /// The worker that holds it.
    pub worker_id: Option<Id>,
    /// SHA-256 of the token that answers it.
    #[field(hidden)]
    pub lease_token_hash: Option<String>,
    /// When its lease ends.
    pub lease_until: Option<Timestamp>,
    /// What a worker has reported and nobody has recorded yet.
    #[field(hidden)]
    pub reported: Option<Value>,
    /// The run elsewhere that finishes it.
    #[field(hidden)]
    pub external_id: Option<String>,
    /// The event of its completion.
    #[field(hidden)]
    pub completed_sequence: Option<i64>,
    /// The paths it writes.
    #[field(hidden)]
    pub writes: Vec<String>,
    /// The plan's step, whole.
    #[field(hidden)]
    pub definition: Value,
    /// The hash of the definition.
    #[field(hidden)]
    pub definition_hash: String,
}

impl Rules for StepRow {}

/// What the scheduler knows of a step.
#[data]
pub struct StepState {
    /// The row.
    pub id: Id,
    /// The step's id in the plan.
    pub step_id: Id,
    /// Its place.
    pub order: i64,
    /// What it does.
    pub r#type: StepType,
    /// How far it is.
    pub status: StepStatus,
    /// Which way it goes.
    pub phase: Phase,
    /// From 1.
    pub attempt: i64,
    /// The steps it waits for.
    pub dependencies: Vec<Id>,
    /// The paths it writes.
    pub writes: Vec<String>,
    /// The event of its completion.
    pub completed_sequence: Option<i64>,
}

/// The steps that may begin now, in their order: everything they wait for is done, a place is free, and nothing under
/// way writes what they write.
pub fn startable(steps: &[StepState], parallel: i64) -> Vec<Id> {
    let done: BTreeSet<&str> =
        steps.iter().filter(|step| step.status.is_done()).map(|step| step.step_id.as_str()).collect();
    let set = |step: &StepState| step.writes.iter().cloned().collect::<BTreeSet<String>>();
    let mut under_way: Vec<BTreeSet<String>> =
        steps.iter().filter(|step| step.status.is_under_way()).map(set).collect();
    let places = usize::try_from(parallel.max(1)).unwrap_or(1);
    let mut chosen = Vec::new();
    for step in steps.iter().filter(|step| step.status == StepStatus::Pending) {
        if under_way.len() >= places {
            break;
        }
        let own = set(step);
        let waits = step.dependencies.iter().any(|id| !done.contains(id.as_str()));
        if !waits && !under_way.iter().any(|other| writes::collide(&own, other).is_some()) {
            under_way.push(own);
            chosen.push(step.step_id.clone());
        }
    }
    chosen
}

/// Whether a step's effect lives in the database alone: it then runs and is recorded in one transaction.
pub fn is_inside(kind: StepType) -> bool {
    matches!(
        kind,
        StepType::FileCreate | StepType::FileEdit | StepType::FileDelete | StepType::Validation | StepType::Test
    )
}

/// Whether a step changes anything, so that a checkpoint goes before it.
pub fn has_effect(kind: StepType) -> bool {
    !matches!(kind, StepType::Validation | StepType::Test | StepType::Human)
}

/// Whether undoing a step needs nothing done: what only looks or asks leaves nothing behind.
pub fn leaves_nothing(kind: StepType, rollback: RollbackType) -> bool {
    rollback == RollbackType::Reversible
        && !matches!(kind, StepType::FileCreate | StepType::FileEdit | StepType::FileDelete)
}

#[cfg(test)]
mod tests {
    use berth_sdk::Id;
    use plan_rules::StepType;
    use proptest::prelude::*;

    use super::{Phase, StepState, StepStatus, startable};

    fn step(order: usize, dependencies: &[usize], path: &str, status: StepStatus) -> StepState {
        StepState {
            id: Id::from(format!("r{order}")),
            step_id: Id::from(format!("s{order}")),
            order: order as i64,
            r#type: StepType::FileCreate,
            status,
            phase: Phase::Run,
            attempt: 0,
            dependencies: dependencies.iter().map(|other| Id::from(format!("s{other}"))).collect(),
            writes: vec![path.to_string()],
            completed_sequence: None,
        }
    }

    fn names(steps: &[StepState], parallel: i64) -> Vec<String> {
        startable(steps, parallel).into_iter().map(Id::into_string).collect()
    }

    #[test]
    fn a_step_begins_when_what_it_waits_for_is_done() {
        use StepStatus::{Completed, Failed, Pending, Skipped};
        let steps = [
            step(1, &[], "a", Completed),
            step(2, &[1], "b", Skipped),
            step(3, &[1, 2], "c", Pending),
            step(4, &[3], "d", Pending),
        ];
        assert_eq!(names(&steps, 4), ["s3"]);
        let failed = [step(1, &[], "a", Failed), step(2, &[1], "b", Pending), step(3, &[], "c", Pending)];
        assert_eq!(names(&failed, 4), ["s3"]);
    }

    #[test]
    fn places_are_limited_and_writes_stay_apart() {
        use StepStatus::{Pending, Waiting};
        let steps = [
            step(1, &[], "a", Waiting),
            step(2, &[], "a/b", Pending),
            step(3, &[], "c", Pending),
            step(4, &[], "d", Pending),
        ];
        assert_eq!(names(&steps, 1), [] as [&str; 0]);
        assert_eq!(names(&steps, 2), ["s3"]);
        assert_eq!(names(&steps, 8), ["s3", "s4"]);
    }

    proptest! {
        /// Running what may begin, in any width, ends with every step of an acyclic plan done, each once.
        #[test]
        fn every_step_of_an_acyclic_plan_gets_its_turn(edges in prop::collection::vec((0usize..12, 0usize..12), 0..40), parallel in 1i64..6) {
            let mut steps: Vec<StepState> = (0..12).map(|order| {
                let waits: Vec<usize> = edges.iter().filter(|(from, to)| *from == order && to < from).map(|(_, to)| *to).collect();
                step(order, &waits, &format!("p{}", order % 5), StepStatus::Pending)
            }).collect();
            let mut turns = 0;
            loop {
                let chosen = startable(&steps, parallel);
                prop_assert!(chosen.len() as i64 <= parallel);
                if chosen.is_empty() { break }
                for id in chosen {
                    let step = steps.iter_mut().find(|step| step.step_id == id).unwrap();
                    prop_assert_eq!(step.status, StepStatus::Pending);
                    step.status = StepStatus::Completed;
                    turns += 1;
                }
            }
            prop_assert_eq!(turns, 12);
        }
    }
}
