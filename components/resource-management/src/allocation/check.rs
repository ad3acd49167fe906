//! Whether an allocation may be written: it fits, its move is a legal one, and it is not of a week that is over.

use berth_sdk::{prelude::*, serde_json::Value};
use time_rules::day::{Day, Span};

use super::{Allocation, AllocationStatus};
use crate::{
    rights,
    workload::{Commitment, Excess, Workload, excess, rounded},
};

/// 409 for a move that there is not.
pub fn require_move(from: AllocationStatus, to: AllocationStatus) -> Result<()> {
    if from.is_open() || from == to {
        return Ok(());
    }
    Err(Problem::conflict(format!("An allocation that is {from} stays so.")).with_code("ILLEGAL_TRANSITION"))
}

/// 409 `PAST_WEEK` for a change of weeks that are over, unless the caller looks after the organization.
pub fn require_present(old: Option<&Allocation>, new: Option<&Allocation>, today: Day) -> Result<()> {
    if !changes_the_past(old, new, today) || rights::is_manager() {
        return Ok(());
    }
    let detail = "Weeks that are over are changed only by those who administer the organization.";
    Err(Problem::conflict(detail).with_code("PAST_WEEK"))
}

/// Whether one of them lies before this week, or the beginning before it is another one.
fn changes_the_past(old: Option<&Allocation>, new: Option<&Allocation>, today: Day) -> bool {
    let monday = today.monday();
    let is_over = |allocation: Option<&Allocation>| allocation.is_some_and(|one| one.end_date < monday);
    let (before, after) = (old.map(|old| old.start_date), new.map(|new| new.start_date));
    let is_moved = after.is_some() && before != after;
    let has_begun = [before, after].into_iter().flatten().any(|day| day < monday);
    is_over(old) || is_over(new) || (is_moved && has_begun)
}

/// 409 `OVERALLOCATED` with the numbers of every week in which it does not fit beside what is there.
pub fn require_room(beside: &Workload, old: Option<&Commitment>, new: &Commitment) -> Result<()> {
    let found = excess(beside, old, new);
    if found.is_empty() {
        return Ok(());
    }
    let total: f64 = found.iter().map(Excess::overallocation).sum();
    let detail = format!(
        "It is {} hours more than there are in {} week{}.",
        rounded(total),
        found.len(),
        if found.len() == 1 { "" } else { "s" }
    );
    let weeks: Vec<Value> = found.iter().map(numbers).collect();
    Err(Problem::conflict(detail).with_code("OVERALLOCATED").with("overallocations", weeks))
}

fn numbers(excess: &Excess) -> Value {
    json!({
        "weekStart": excess.week_start, "capacity": rounded(excess.capacity), "allocated": rounded(excess.allocated),
        "requested": rounded(excess.requested), "available": rounded(excess.available),
        "overallocationHours": rounded(excess.overallocation()),
    })
}

/// Something that is not in the way and still worth knowing.
#[data]
pub struct Warning {
    /// `TIME_OFF`.
    pub code: String,
    /// For people.
    pub message: String,
    /// The days they share.
    pub start_date: Day,
    /// See `startDate`.
    pub end_date: Day,
}

/// The approved absences that some days meet.
pub fn warnings(workload: &Workload, span: Span) -> Vec<Warning> {
    let met = workload.absences.iter().filter(|absence| absence.span.meets(span));
    met.map(|absence| {
        let both = absence.span.both(span);
        let message = match absence.hours_per_day {
            None => format!("Away from {} to {}.", both.first, both.last),
            Some(hours) => format!("Away for {hours} hours a day from {} to {}.", both.first, both.last),
        };
        Warning { code: "TIME_OFF".into(), message, start_date: both.first, end_date: both.last }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::tests::day;

    fn allocation(first: u64, last: u64) -> Allocation {
        Allocation {
            user_id: "u1".into(),
            project_id: None,
            task_id: None,
            allocated_hours: 8.0,
            start_date: day(first),
            end_date: day(last),
            status: AllocationStatus::Planned,
            percentage: None,
            note: None,
            closed_on: None,
            origin: None,
            told_at: None,
        }
    }

    #[test]
    fn weeks_that_are_over_are_told_from_those_that_are_not() {
        // The week of Monday, the 12th of January, day 11; today is its Wednesday.
        let changes = |old: Option<(u64, u64)>, new: Option<(u64, u64)>| {
            let [old, new] = [old, new].map(|span| span.map(|(first, last)| allocation(first, last)));
            changes_the_past(old.as_ref(), new.as_ref(), day(13))
        };
        assert!(!changes(None, Some((11, 15))) && !changes(Some((11, 12)), None));
        assert!(changes(None, Some((10, 15))) && changes(Some((3, 10)), None));
        // What began earlier and goes on may get another end; its beginning stays.
        assert!(!changes(Some((3, 12)), Some((3, 20))) && !changes(Some((3, 12)), None));
        assert!(changes(Some((3, 12)), Some((4, 12))) && changes(Some((12, 14)), Some((9, 14))));
        assert!(changes(Some((3, 12)), Some((3, 10))) && changes(Some((3, 10)), Some((12, 14))));
    }

    #[test]
    fn what_is_closed_stays_closed() {
        use AllocationStatus::{Active, Cancelled, Completed, Planned};
        for from in [Planned, Active] {
            assert!(AllocationStatus::ALL.iter().all(|to| require_move(from, *to).is_ok()));
        }
        for from in [Completed, Cancelled] {
            assert!(require_move(from, from).is_ok());
            assert_eq!(require_move(from, Planned).unwrap_err().code, "ILLEGAL_TRANSITION");
        }
    }
}
