//! How the status of a review may move. Pure.

use berth_sdk::prelude::*;

/// Where a review stands.
#[choice]
pub(crate) enum ReviewStatus {
    Pending,
    InReview,
    Approved,
    Rejected,
    ChangesRequested,
}

impl ReviewStatus {
    /// Somebody has said what they think.
    pub(crate) fn is_decision(self) -> bool {
        matches!(self, Self::Approved | Self::Rejected | Self::ChangesRequested)
    }

    /// Approved and rejected are final; after requested changes it is reviewed again.
    pub(crate) fn may_become(self, to: Self) -> bool {
        use ReviewStatus::{Approved, ChangesRequested, InReview, Pending, Rejected};
        match self {
            Pending => to != Pending,
            InReview => to != InReview,
            ChangesRequested => to != ChangesRequested,
            Approved | Rejected => false,
        }
    }
}

/// 409 for a move that is not allowed.
pub(crate) fn require_move(from: ReviewStatus, to: ReviewStatus) -> Result<()> {
    if from.may_become(to) {
        return Ok(());
    }
    Err(Problem::conflict(format!("A review that is {from} does not become {to}.")).with_code("ILLEGAL_TRANSITION"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ReviewStatus, require_move};

    #[test]
    fn a_review_is_approved_or_rejected_once() {
        for from in [ReviewStatus::Approved, ReviewStatus::Rejected] {
            for to in ReviewStatus::ALL {
                assert_eq!(require_move(from, *to).unwrap_err().status, 409);
            }
        }
        assert!(require_move(ReviewStatus::ChangesRequested, ReviewStatus::Pending).is_ok());
    }

    proptest! {
        #[test]
        fn whatever_is_tried_what_is_final_stays(moves in prop::collection::vec(0usize..5, 0..30)) {
            let mut status = ReviewStatus::Pending;
            let mut is_final = false;
            for to in moves.into_iter().map(|index| ReviewStatus::ALL[index]) {
                if status.may_become(to) {
                    prop_assert!(!is_final);
                    prop_assert_ne!(status, to);
                    status = to;
                }
                is_final = matches!(status, ReviewStatus::Approved | ReviewStatus::Rejected);
            }
        }
    }
}
