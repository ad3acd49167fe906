//! Candidates: what was found out and becomes a rule when enough people have confirmed it.

pub mod api;

use berth_sdk::{prelude::*, serde_json::Value};

/// Confirmations that are needed when nothing is said.
const REQUIRED: i64 = 3;

/// What was found out.
#[choice(kebab)]
pub enum CandidateKind {
    /// A pattern.
    Pattern,
    /// A way to go about something.
    Strategy,
    /// How well a model does something.
    ModelPerformance,
    /// A check.
    Validation,
    /// Something else.
    Other,
}

/// What has become of it.
#[choice]
pub enum CandidateStatus {
    /// Waits for confirmations.
    Candidate,
    /// The same, and is tried without effect meanwhile.
    Shadow,
    /// Holds, for whatever begins from then on.
    Promoted,
    /// Was wrong.
    Rejected,
    /// Held for a while.
    RolledBack,
}

impl CandidateStatus {
    /// Whether it waits for confirmations.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Candidate | Self::Shadow)
    }

    /// Whether a change of the row may lead from here to there. Promoting and rolling back have routes of their own.
    fn may_become(self, next: Self) -> bool {
        match next {
            _ if self == next => true,
            Self::Candidate => self != Self::Promoted,
            Self::Shadow | Self::Rejected => self.is_open(),
            Self::Promoted | Self::RolledBack => false,
        }
    }
}

/// A candidate.
#[entity(table = "learning_candidates", name = "candidate")]
pub struct Candidate {
    /// What was found out.
    pub kind: CandidateKind,
    /// At length.
    #[field(min = 1, max = 20_000)]
    pub content: String,
    /// How many people have confirmed it.
    #[field(readonly, default)]
    pub confirmations: i64,
    /// How many have to.
    #[field(min = 1, max = 100, default = REQUIRED)]
    pub required: i64,
    /// What has become of it.
    #[field(default = CandidateStatus::Candidate)]
    pub status: CandidateStatus,
    /// From when on it holds: what had begun before is not concerned.
    #[field(readonly)]
    pub promoted_at: Option<Timestamp>,
    /// Who promoted it.
    #[field(readonly)]
    pub promoted_by: Option<Id>,
    /// Until when it held.
    #[field(readonly)]
    pub rolled_back_at: Option<Timestamp>,
}

impl Candidate {
    /// Whether somebody who has confirmed the other one has confirmed this one too.
    fn is_the_same(&self, other: &Self) -> bool {
        self.kind == other.kind && self.content == other.content && self.required == other.required
    }
}

impl Rules for Candidate {
    fn before_create(&mut self, _: &Transaction) -> Result<()> {
        if self.status.is_open() {
            return Ok(());
        }
        Err(Problem::field("status", "begins as candidate or shadow"))
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if !old.status.may_become(self.status) {
            let detail = format!("A candidate that is {} does not become {} in this way.", old.status, self.status);
            return Err(Problem::conflict(detail).with_code("STATUS_TRANSITION"));
        }
        let begins_anew = self.status == CandidateStatus::Candidate && !old.status.is_open();
        if self.is_the_same(&old.data) && !begins_anew {
            return Ok(());
        }
        if !self.status.is_open() {
            let detail = format!("What is {} stays as it is.", old.status);
            return Err(Problem::conflict(detail).with_code("CANDIDATE_CLOSED"));
        }
        // Confirmed was something else.
        self.confirmations = 0;
        transaction.execute("DELETE FROM learning_confirmations WHERE candidate_id = $1", params![&old.id])?;
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if row.status == CandidateStatus::Promoted {
            return Err(Problem::conflict("It holds; roll it back first.").with_code("CANDIDATE_PROMOTED"));
        }
        transaction.execute("DELETE FROM learning_confirmations WHERE candidate_id = $1", params![&row.id])?;
        Ok(())
    }

    fn event_data(row: &Stored<Self>) -> Value {
        json!({ "candidateId": row.id, "kind": row.kind, "status": row.status })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_promoted_or_rolled_back_by_a_change_of_the_row() {
        use CandidateStatus::{Candidate, Promoted, Rejected, RolledBack, Shadow};
        for from in [Candidate, Shadow, Rejected, RolledBack] {
            assert!(!from.may_become(Promoted));
            assert!(from == RolledBack || !from.may_become(RolledBack));
            assert!(from.may_become(Candidate));
        }
        for next in [Candidate, Shadow, Rejected, RolledBack] {
            assert!(!Promoted.may_become(next));
        }
        assert!(Candidate.may_become(Shadow) && Shadow.may_become(Rejected));
        assert!(!Rejected.may_become(Shadow) && !RolledBack.may_become(Rejected));
    }

    #[test]
    fn kinds_are_written_with_hyphens() {
        assert_eq!(CandidateKind::ModelPerformance.as_str(), "model-performance");
        assert_eq!(CandidateStatus::RolledBack.as_str(), "rolled_back");
    }
}
