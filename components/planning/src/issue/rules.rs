//! How issues are ranked and how their status may move. Pure.

use berth_sdk::prelude::*;

/// How bad it is.
#[choice]
#[derive(PartialOrd, Ord)]
pub(crate) enum Severity {
    Critical,
    High,
    Medium,
    Low,
}

impl Severity {
    /// From 0.25 to 1.
    pub(crate) fn weight(self) -> f64 {
        match self {
            Self::Critical => 1.0,
            Self::High => 0.75,
            Self::Medium => 0.5,
            Self::Low => 0.25,
        }
    }
}

/// Where an issue stands.
#[choice]
pub(crate) enum IssueStatus {
    Open,
    Acknowledged,
    InProgress,
    Resolved,
    Dismissed,
}

impl IssueStatus {
    /// Nobody works on it any more.
    pub(crate) fn is_closed(self) -> bool {
        matches!(self, Self::Resolved | Self::Dismissed)
    }

    /// Among open ones any way, closed at any time, and from closed only back to open.
    pub(crate) fn may_become(self, to: Self) -> bool {
        self != to && (!self.is_closed() || to == Self::Open)
    }
}

/// 409 for a move that is not allowed.
pub(crate) fn require_move(from: IssueStatus, to: IssueStatus) -> Result<()> {
    if from.may_become(to) {
        return Ok(());
    }
    let detail = format!("An issue that is {from} is opened again before it becomes {to}.");
    Err(Problem::conflict(detail).with_code("ILLEGAL_TRANSITION"))
}

/// Severity times likelihood, from 0 to 1.
pub(crate) fn priority_score(severity: Severity, likelihood: f64) -> f64 {
    crate::score::rounded(severity.weight() * likelihood.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_closed_issue_is_opened_before_anything_else() {
        for from in IssueStatus::ALL {
            for to in IssueStatus::ALL {
                let allowed = from != to && (!from.is_closed() || *to == IssueStatus::Open);
                assert_eq!(require_move(*from, *to).is_ok(), allowed, "{from} {to}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_worse_or_likelier_never_ranks_lower(one in 0.0f64..=1.0, other in 0.0f64..=1.0, severity in 0usize..4) {
            let severity = Severity::ALL[severity];
            let (low, high) = if one < other { (one, other) } else { (other, one) };
            prop_assert!(priority_score(severity, low) <= priority_score(severity, high));
            for worse in Severity::ALL.iter().filter(|worse| **worse < severity) {
                prop_assert!(priority_score(*worse, one) >= priority_score(severity, one));
            }
            prop_assert!((0.0..=1.0).contains(&priority_score(severity, one)));
        }
    }
}
