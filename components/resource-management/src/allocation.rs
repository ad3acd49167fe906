//! Allocations: hours of somebody that are planned for something over some days.

pub mod api;
pub mod check;
pub mod task;
pub mod write;

use berth_sdk::{prelude::*, serde_json::Value};
use time_rules::day::{Day, Span};

use crate::{
    profile::Profile,
    workload::{Commitment, Pattern},
};

/// The longest span of anything that is planned: two years.
pub const DAYS_MAX: u64 = 731;

/// Where an allocation stands.
#[choice]
pub enum AllocationStatus {
    /// It is to come.
    Planned,
    /// It is being worked on.
    Active,
    /// It is done: the days after `closedOn` are free again.
    Completed,
    /// It does not take place; it takes no time.
    Cancelled,
}

impl AllocationStatus {
    /// Neither done nor given up.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Planned | Self::Active)
    }
}

/// An allocation.
#[entity(table = "capacity_allocations", name = "allocation", sort = "startDate")]
pub struct Allocation {
    /// Whose time.
    #[field(immutable)]
    pub user_id: Id,
    /// What for.
    pub project_id: Option<Id>,
    /// See `projectId`.
    pub task_id: Option<Id>,
    /// All its hours, spread evenly over the working days from the first to the last.
    #[field(max = 20_000)]
    pub allocated_hours: f64,
    /// The first day.
    pub start_date: Day,
    /// The last day, with it; at most two years later.
    pub end_date: Day,
    /// Where it stands.
    #[field(default = AllocationStatus::Planned)]
    pub status: AllocationStatus,
    /// How much of the working time of those days it is, in percent; null where there is none.
    #[field(min = 0)]
    pub percentage: Option<f64>,
    /// For people.
    #[field(max = 2_000)]
    pub note: Option<String>,
    /// The last day that counts of what is completed.
    #[field(readonly)]
    pub closed_on: Option<Day>,
    /// What it was made from by itself, such as `task:<id>:<user>`.
    #[field(readonly)]
    pub origin: Option<String>,
    /// When what it follows was last heard of.
    #[field(readonly, hidden)]
    pub told_at: Option<Timestamp>,
}

impl Rules for Allocation {
    fn check(&self, faults: &mut Faults) {
        if self.allocated_hours <= 0.0 {
            faults.add("allocatedHours", "must be more than 0");
        }
        check_span(self.start_date, self.end_date, "endDate", faults);
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        self.settle(&Profile::or_usual(transaction, &self.user_id)?.pattern());
        Ok(())
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        let profile = Profile::or_usual(transaction, &self.user_id)?;
        if self.status != old.status {
            check::require_move(old.status, self.status)?;
            self.close(self.status, profile.today());
        }
        self.settle(&profile.pattern());
        Ok(())
    }

    fn event_data(row: &Stored<Self>) -> Value {
        json!({
            "id": row.id, "allocationId": row.id, "userId": row.user_id, "projectId": row.project_id, "taskId": row.task_id,
            "hours": row.allocated_hours, "startDate": row.start_date, "endDate": row.end_date, "status": row.status,
            "percentage": row.percentage, "closedOn": row.closed_on,
        })
    }
}

/// What an allocation takes of somebody's time; none when it is cancelled.
pub fn commitment(
    id: String,
    span: Span,
    hours: f64,
    status: AllocationStatus,
    closed_on: Option<Day>,
) -> Option<Commitment> {
    let until = match status {
        AllocationStatus::Cancelled => return None,
        AllocationStatus::Completed => closed_on.unwrap_or(span.last),
        AllocationStatus::Planned | AllocationStatus::Active => span.last,
    };
    Some(Commitment { id, span, hours, until, is_worked: status != AllocationStatus::Planned })
}

/// Notes an end before the beginning, and what is longer than two years.
pub fn check_span(first: Day, last: Day, field: &str, faults: &mut Faults) {
    let days = Span::new(first, last).days();
    if days == 0 {
        faults.add(field, "must not be before the beginning");
    } else if days > DAYS_MAX {
        faults.add(field, "must be at most two years after the beginning");
    }
}

impl Allocation {
    /// Its days.
    pub fn span(&self) -> Span {
        Span::new(self.start_date, self.end_date)
    }

    /// What it takes of somebody's time; none when it is cancelled.
    pub fn commitment(&self, id: &Id) -> Option<Commitment> {
        commitment(id.to_string(), self.span(), self.allocated_hours, self.status, self.closed_on)
    }

    /// Sets how much of the working time it is.
    pub fn settle(&mut self, pattern: &Pattern) {
        let base = pattern.hours(self.span());
        self.percentage = (base > 0.0).then(|| crate::workload::rounded(self.allocated_hours / base * 100.0));
    }

    /// Gives it a status; what is completed ends on this day at the latest.
    pub fn close(&mut self, status: AllocationStatus, today: Day) {
        self.status = status;
        self.closed_on = (status == AllocationStatus::Completed).then(|| today.min(self.end_date));
    }
}
