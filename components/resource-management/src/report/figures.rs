//! Sums as they are answered.

use berth_sdk::prelude::*;
use time_rules::day::{Day, Span};

use crate::workload::{Sum, Workload, rounded};

/// Hours of some days.
#[data]
pub struct Figures {
    /// Working hours, were nobody ever away.
    pub base: f64,
    /// Of those, what holidays and time off take.
    pub time_off: f64,
    /// What can be worked: the rest.
    pub total: f64,
    /// What is planned.
    pub allocated: f64,
    /// Of that, what is being worked on or done.
    pub utilized: f64,
    /// What is left of the total; never less than nothing.
    pub available: f64,
    /// `allocated` of `total`, 1 for all of it; 0 when there is no total.
    pub utilization: f64,
}

impl From<Sum> for Figures {
    fn from(sum: Sum) -> Self {
        Self {
            base: rounded(sum.base),
            time_off: rounded(sum.time_off),
            total: rounded(sum.capacity()),
            allocated: rounded(sum.allocated),
            utilized: rounded(sum.utilized),
            available: rounded(sum.available()),
            utilization: rounded(sum.utilization()),
        }
    }
}

/// A day.
#[data]
pub struct DayFigures {
    /// Which one.
    pub date: Day,
    /// Its hours.
    pub hours: Figures,
}

/// A week.
#[data]
pub struct WeekFigures {
    /// Its Monday.
    pub week_start: Day,
    /// Its hours; only of the days that were asked for.
    pub hours: Figures,
    /// The hours that cannot be worked in it, whatever their order.
    pub overallocation_hours: f64,
}

/// The days of a span.
pub fn days(workload: &Workload, span: Span) -> Vec<DayFigures> {
    let one = |date: Day| DayFigures { date, hours: workload.sum(Span::new(date, date)).into() };
    span.iter().map(one).collect()
}

/// The weeks of a span.
pub fn weeks(workload: &Workload, span: Span) -> Vec<WeekFigures> {
    span.weeks()
        .map(|week_start| WeekFigures {
            week_start,
            hours: workload.sum(Span::week(week_start).both(span)).into(),
            overallocation_hours: rounded(workload.overload(week_start)),
        })
        .collect()
}
