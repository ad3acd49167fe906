//! Rollback: which step is undone next, and how. Pure rules; never forward, always in reverse order of completion.

use berth_sdk::Id;
use plan_rules::{RollbackType, StepType};

use crate::step::{StepState, StepStatus, is_inside, leaves_nothing};

/// How a completed step is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It left nothing.
    Nothing,
    /// From the ledger of its changes.
    Ledger,
    /// By its rollback step, in the same transaction.
    Inside(StepType),
    /// By its rollback step, elsewhere.
    Outside(StepType),
    /// Not at all: the rollback ends here.
    Stuck,
}

/// The step to undo next: the one completed last, after the event `after`. None when everything is undone.
pub fn next(steps: &[StepState], after: i64) -> Option<&StepState> {
    steps
        .iter()
        .filter(|step| step.status == StepStatus::Completed && completed(step) > after)
        .max_by_key(|step| (completed(step), step.order))
}

/// How a step is undone; `rollback` is the type of its rollback step, where it has one.
pub fn way(kind: StepType, rollback_type: RollbackType, rollback: Option<StepType>) -> Way {
    match (rollback_type, rollback) {
        (RollbackType::Irreversible, _) | (RollbackType::Compensatable, None) => Way::Stuck,
        (RollbackType::Compensatable, Some(kind)) if is_inside(kind) => Way::Inside(kind),
        (RollbackType::Compensatable, Some(kind)) => Way::Outside(kind),
        (RollbackType::Reversible, _) if leaves_nothing(kind, rollback_type) => Way::Nothing,
        (RollbackType::Reversible, _) => Way::Ledger,
    }
}

/// The steps that a rollback to this event would undo, in the order of undoing.
pub fn order(steps: &[StepState], after: i64) -> Vec<Id> {
    let mut left = steps.to_vec();
    let mut undone = Vec::new();
    while let Some(id) = next(&left, after).map(|step| step.step_id.clone()) {
        if let Some(step) = left.iter_mut().find(|step| step.step_id == id) {
            step.status = StepStatus::Compensated;
        }
        undone.push(id);
    }
    undone
}

fn completed(step: &StepState) -> i64 {
    step.completed_sequence.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use berth_sdk::Id;
    use plan_rules::{RollbackType, StepType};
    use proptest::prelude::*;

    use super::{Way, order, way};
    use crate::step::{Phase, StepState, StepStatus};

    fn step(order: i64, status: StepStatus, completed_sequence: Option<i64>) -> StepState {
        StepState {
            id: Id::from(format!("r{order}")),
            step_id: Id::from(format!("s{order}")),
            order,
            r#type: StepType::FileCreate,
            status,
            phase: Phase::Run,
            attempt: 1,
            dependencies: Vec::new(),
            writes: Vec::new(),
            completed_sequence,
        }
    }

    #[test]
    fn what_was_done_last_is_undone_first() {
        let steps = [
            step(1, StepStatus::Completed, Some(3)),
            step(2, StepStatus::Completed, Some(9)),
            step(3, StepStatus::Completed, Some(6)),
            step(4, StepStatus::Failed, None),
            step(5, StepStatus::Skipped, Some(7)),
        ];
        let names = |after| order(&steps, after).into_iter().map(Id::into_string).collect::<Vec<_>>();
        assert_eq!(names(0), ["s2", "s3", "s1"]);
        assert_eq!(names(3), ["s2", "s3"]);
        assert_eq!(names(9), [] as [&str; 0]);
    }

    #[test]
    fn each_kind_of_step_has_its_way_back() {
        use RollbackType::{Compensatable, Irreversible, Reversible};
        assert_eq!(way(StepType::FileEdit, Reversible, None), Way::Ledger);
        assert_eq!(way(StepType::Validation, Reversible, None), Way::Nothing);
        assert_eq!(way(StepType::Validation, Irreversible, None), Way::Stuck);
        assert_eq!(way(StepType::Http, Compensatable, Some(StepType::Http)), Way::Outside(StepType::Http));
        assert_eq!(way(StepType::Http, Compensatable, Some(StepType::FileCreate)), Way::Inside(StepType::FileCreate));
        assert_eq!(way(StepType::Http, Compensatable, None), Way::Stuck);
    }

    proptest! {
        #[test]
        fn everything_after_the_point_is_undone_once(sequences in prop::collection::btree_set(1i64..100, 0..20), after in 0i64..100) {
            let steps: Vec<StepState> = sequences.iter().enumerate().map(|(index, sequence)| step(index as i64 + 1, StepStatus::Completed, Some(*sequence))).collect();
            let undone = order(&steps, after);
            prop_assert_eq!(undone.len(), sequences.iter().filter(|sequence| **sequence > after).count());
            let places: Vec<i64> = undone.iter().map(|id| steps.iter().find(|step| step.step_id == *id).unwrap().completed_sequence.unwrap()).collect();
            prop_assert!(places.windows(2).all(|pair| pair[0] > pair[1]));
        }
    }
}
