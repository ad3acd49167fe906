//! Where an idea stands, and where it may go from there.

use berth_sdk::prelude::*;

use super::{Idea, announce, hold};
use crate::access;

/// Where an idea stands.
#[choice]
pub enum IdeaStatus {
    /// Nobody has looked at it yet.
    Submitted,
    /// Somebody looks at it.
    UnderReview,
    /// It is to be done.
    Approved,
    /// It is being tried.
    InExperiment,
    /// It is done.
    Implemented,
    /// It is not to be done.
    Rejected,
    /// Not now.
    Parked,
}

impl IdeaStatus {
    /// Those that are not decided for good.
    pub const OPEN: [Self; 5] = [Self::Submitted, Self::UnderReview, Self::Approved, Self::InExperiment, Self::Parked];

    /// Whether it may go there. What is implemented stays so; what was rejected may be looked at again.
    pub fn may_become(self, to: Self) -> bool {
        use IdeaStatus::{Approved, Implemented, InExperiment, Parked, Rejected, Submitted, UnderReview};
        match self {
            Submitted => matches!(to, UnderReview | Approved | Rejected | Parked),
            UnderReview => matches!(to, Approved | InExperiment | Rejected | Parked),
            Approved => matches!(to, UnderReview | InExperiment | Implemented | Rejected | Parked),
            InExperiment => matches!(to, UnderReview | Approved | Implemented | Rejected | Parked),
            Parked => matches!(to, Submitted | UnderReview | Approved | Rejected),
            Rejected => to == UnderReview,
            Implemented => false,
        }
    }

    /// 409 when it is decided for good.
    pub fn require_open(self) -> Result<()> {
        if Self::OPEN.contains(&self) {
            return Ok(());
        }
        Err(Problem::conflict(format!("The idea is {self}.")).with_code("IDEA_CLOSED"))
    }
}

/// The body of `PUT /api/innovation/{id}/status`.
#[data]
pub struct NewStatus {
    /// Where it is to stand.
    status: IdeaStatus,
    /// Why; needed to reject.
    #[field(max = 2_000)]
    reason: Option<String>,
}

/// 409 for a move that is not allowed.
fn require_move(from: IdeaStatus, to: IdeaStatus) -> Result<()> {
    if from.may_become(to) {
        return Ok(());
    }
    Err(Problem::conflict(format!("An idea that is {from} does not become {to}.")).with_code("ILLEGAL_TRANSITION"))
}

/// `PUT /api/innovation/{id}/status`. Nobody approves their own idea but administrators.
pub fn change(Params(id): Params<Id>, if_match: IfMatch, Json(input): Json<NewStatus>) -> Result<Stored<Idea>> {
    let reason = input.reason.filter(|reason| !reason.is_empty());
    entity::read::<Idea>(&Pool, &id)?;
    if input.status == IdeaStatus::Rejected && reason.is_none() {
        return Err(Problem::field("reason", "is required to reject an idea"));
    }
    database::transaction(|transaction| {
        let mut idea = hold(transaction, &id)?;
        if_match.check(idea.version)?;
        if input.status == IdeaStatus::Approved && idea.is_callers() && !access::administers_ideas() {
            return Err(Problem::forbidden("Somebody else approves an idea."));
        }
        require_move(idea.status, input.status)?;
        set(transaction, &mut idea, input.status, reason)?;
        Ok(idea)
    })
}

/// Moves an idea that is held, and publishes what others want to know of it.
pub fn set(
    transaction: &Transaction,
    idea: &mut Stored<Idea>,
    status: IdeaStatus,
    reason: Option<String>,
) -> Result<()> {
    let from = idea.status;
    idea.status = status;
    idea.status_reason = reason;
    if matches!(status, IdeaStatus::Approved | IdeaStatus::Rejected) {
        idea.decided_at = Some(clock::now());
    }
    entity::save(transaction, idea)?;
    let kind = match status {
        IdeaStatus::Approved => "innovation.idea.approved",
        IdeaStatus::Implemented => "innovation.idea.implemented",
        _ => return Ok(()),
    };
    announce(transaction, kind, idea, &json!({ "from": from }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_implemented_stays_so_and_what_was_rejected_comes_back_by_a_review() {
        for to in IdeaStatus::ALL {
            assert!(!IdeaStatus::Implemented.may_become(*to));
            assert_eq!(IdeaStatus::Rejected.may_become(*to), *to == IdeaStatus::UnderReview);
        }
        assert_eq!(
            require_move(IdeaStatus::Submitted, IdeaStatus::Implemented).unwrap_err().code,
            "ILLEGAL_TRANSITION"
        );
    }

    #[test]
    fn nothing_becomes_what_it_is_and_everything_open_can_be_rejected() {
        for status in IdeaStatus::ALL {
            assert!(!status.may_become(*status), "{status}");
            assert_eq!(IdeaStatus::OPEN.contains(status), status.may_become(IdeaStatus::Rejected), "{status}");
            assert_eq!(status.require_open().is_ok(), IdeaStatus::OPEN.contains(status));
        }
    }
}
