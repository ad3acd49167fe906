//! How the status of a task may move. Pure.

use berth_sdk::prelude::*;

/// Where a task stands.
#[choice]
pub(crate) enum TaskStatus {
    ToDo,
    InProgress,
    InReview,
    Blocked,
    Completed,
    Cancelled,
}

impl TaskStatus {
    /// Neither completed nor cancelled.
    pub(crate) fn is_open(self) -> bool {
        !matches!(self, Self::Completed | Self::Cancelled)
    }

    /// Whether a task may move from here to there.
    pub(crate) fn may_become(self, to: Self) -> bool {
        use TaskStatus::{Blocked, Cancelled, Completed, InProgress, InReview, ToDo};
        match (self, to) {
            (from, Blocked) => from.is_open() && from != Blocked,
            (from, Cancelled) => from.is_open(),
            (ToDo | Blocked, InProgress) => true,
            (InProgress, InReview) | (InReview, Completed | InProgress) => true,
            _ => false,
        }
    }
}

/// 409 for a move that is not allowed.
pub(crate) fn require_move(from: TaskStatus, to: TaskStatus) -> Result<()> {
    if from.may_become(to) {
        return Ok(());
    }
    let allowed: Vec<&str> = TaskStatus::ALL.iter().filter(|to| from.may_become(**to)).map(|to| to.as_str()).collect();
    let detail = match allowed.as_slice() {
        [] => format!("A task that is {from} stays so."),
        allowed => format!("A task that is {from} can become {}, but not {to}.", allowed.join(", ")),
    };
    Err(Problem::conflict(detail).with_code("ILLEGAL_TRANSITION"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{TaskStatus, require_move};

    #[test]
    fn exactly_these_moves_are_allowed() {
        let allowed: Vec<String> = TaskStatus::ALL
            .iter()
            .flat_map(|from| TaskStatus::ALL.iter().map(move |to| (*from, *to)))
            .filter(|(from, to)| from.may_become(*to))
            .map(|(from, to)| format!("{from}>{to}"))
            .collect();
        assert_eq!(
            allowed,
            [
                "to_do>in_progress",
                "to_do>blocked",
                "to_do>cancelled",
                "in_progress>in_review",
                "in_progress>blocked",
                "in_progress>cancelled",
                "in_review>in_progress",
                "in_review>blocked",
                "in_review>completed",
                "in_review>cancelled",
                "blocked>in_progress",
                "blocked>cancelled",
            ]
        );
        assert_eq!(require_move(TaskStatus::ToDo, TaskStatus::Completed).unwrap_err().status, 409);
    }

    proptest! {
        #[test]
        fn what_is_closed_stays_closed(moves in prop::collection::vec(0usize..6, 0..30)) {
            let mut status = TaskStatus::ToDo;
            for to in moves.into_iter().map(|index| TaskStatus::ALL[index]) {
                if status.may_become(to) {
                    prop_assert!(status.is_open());
                    status = to;
                }
            }
        }
    }
}
