//! How bad an incident is and how its status may move. Pure.

use berth_sdk::prelude::*;

/// How bad it is; the worst is the least.
#[choice]
#[derive(PartialOrd, Ord)]
pub(crate) enum Severity {
    Critical,
    High,
    Medium,
    Low,
}

/// Where an incident stands.
#[choice]
pub(crate) enum IncidentStatus {
    Open,
    Investigating,
    Resolved,
    Closed,
}

impl IncidentStatus {
    /// Whatever is not closed may be investigated (again); closed is the end, and only what is resolved is closed.
    pub(crate) fn may_become(self, to: Self) -> bool {
        use IncidentStatus::{Closed, Investigating, Open, Resolved};
        matches!((self, to), (Open | Resolved, Investigating) | (Open | Investigating, Resolved) | (Resolved, Closed))
    }
}

/// 409 for a move that is not allowed.
pub(crate) fn require_move(from: IncidentStatus, to: IncidentStatus) -> Result<()> {
    if from.may_become(to) {
        return Ok(());
    }
    let detail = format!("An incident that is {from} does not become {to}.");
    Err(Problem::conflict(detail).with_code("ILLEGAL_TRANSITION"))
}

/// Whether it closes only with a postmortem.
pub(crate) fn needs_postmortem(severity: Severity) -> bool {
    severity <= Severity::High
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_is_resolved_is_closed() {
        for from in IncidentStatus::ALL {
            assert_eq!(from.may_become(IncidentStatus::Closed), *from == IncidentStatus::Resolved, "{from}");
            assert_eq!(require_move(IncidentStatus::Closed, *from).unwrap_err().status, 409);
        }
    }

    #[test]
    fn the_worst_ones_need_a_postmortem() {
        let needing: Vec<&str> = Severity::ALL
            .iter()
            .filter(|severity| needs_postmortem(**severity))
            .map(|severity| severity.as_str())
            .collect();
        assert_eq!(needing, ["critical", "high"]);
    }

    proptest! {
        #[test]
        fn nothing_is_closed_that_was_not_resolved_before(moves in prop::collection::vec(0usize..4, 0..30)) {
            let mut status = IncidentStatus::Open;
            for to in moves.into_iter().map(|index| IncidentStatus::ALL[index]) {
                if status.may_become(to) {
                    prop_assert!(to != IncidentStatus::Closed || status == IncidentStatus::Resolved);
                    status = to;
                }
            }
        }
    }
}
