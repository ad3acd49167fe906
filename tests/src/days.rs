//! Days to come, for what is planned by the day.

use chrono::{Datelike, Days, TimeDelta, Utc};

/// A day, counted on from the Monday after the next one: whatever day it is, wherever, none of those is over.
#[must_use]
pub fn day(number: i64) -> String {
    let today = Utc::now().date_naive();
    let monday = today - Days::new(u64::from(today.weekday().num_days_from_monday())) + Days::new(14);
    (monday + TimeDelta::days(number)).to_string()
}
