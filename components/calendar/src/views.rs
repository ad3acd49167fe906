//! Calendars as they are looked at: a day, a week, a month, or what comes next, in somebody's time zone.

use std::{collections::BTreeMap, time::Duration};

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};
use chrono::{Datelike, Days, Months, NaiveDate};
use chrono_tz::Tz;

use crate::{
    event::{
        EventType,
        range::{self, Filter},
        view::{Entry, Viewer},
    },
    recurrence::OCCURRENCES_MAX,
    zone,
};

/// The days of an agenda when nothing is said, and the most.
const AGENDA_DAYS: i64 = 14;

/// What is looked at.
#[data]
struct Look {
    /// A day in the view, such as `2026-03-30`; today when absent.
    #[field(max = 30, format = "date")]
    date: Option<String>,
    /// Whose wall clock.
    #[field(default = "UTC", max = 64, format = "timezone")]
    timezone: String,
    /// The days of an agenda.
    #[field(min = 1, max = 92)]
    days: Option<i64>,
    calendar_id: Option<Id>,
    project_id: Option<Id>,
    user_id: Option<Id>,
    #[field(max = 10)]
    r#type: Option<Vec<EventType>>,
}

/// One day.
#[data]
pub struct Day {
    /// As in `2026-03-30`.
    date: String,
    /// What takes place on it, also what began earlier.
    events: Vec<Map<String, Value>>,
}

/// A view.
#[data]
pub struct View {
    /// `day`, `week`, `month` or `agenda`.
    view: String,
    timezone: String,
    from: Timestamp,
    to: Timestamp,
    /// Every day of the view; of an agenda those that have something.
    days: Vec<Day>,
    /// How many events and occurrences there are.
    total: usize,
    is_truncated: bool,
}

/// Which view.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Day,
    Week,
    Month,
    Agenda,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Agenda => "agenda",
        }
    }

    /// Its first day, and the first after it. Weeks begin on Monday.
    fn days(self, day: NaiveDate, agenda: i64) -> Option<(NaiveDate, NaiveDate)> {
        match self {
            Self::Day => Some((day, day.succ_opt()?)),
            Self::Week => {
                let first = day.checked_sub_days(Days::new(day.weekday().num_days_from_monday().into()))?;
                Some((first, first.checked_add_days(Days::new(7))?))
            }
            Self::Month => {
                let first = day.with_day(1)?;
                Some((first, first.checked_add_months(Months::new(1))?))
            }
            Self::Agenda => Some((day, day.checked_add_days(Days::new(agenda.unsigned_abs()))?)),
        }
    }
}

/// The routes of views.
pub fn routes() -> Router {
    let route = |router: Router, kind: Kind, summary: &str| {
        let path = format!("/api/calendar/views/{}", kind.name());
        router.get(&path, move |Query(look): Query<Look>| view(kind, look)).summary(summary)
    };
    let router = route(Router::new(), Kind::Day, "See a day.");
    let router = route(router, Kind::Week, "See a week, from Monday on.");
    let router = route(router, Kind::Month, "See a month.");
    route(router, Kind::Agenda, "See what comes next.")
}

fn view(kind: Kind, look: Look) -> Result<Json<View>> {
    let zone = zone::parse(&look.timezone)
        .ok_or_else(|| Problem::field("timezone", "must be a time zone such as Europe/Berlin"))?;
    let day = match &look.date {
        None => zone::local(zone, clock::now()).date(),
        Some(text) => day(zone, text).ok_or_else(|| Problem::field("date", "must be a day such as 2026-03-30"))?,
    };
    let is_far = !(1970..=2199).contains(&day.year());
    let days = kind.days(day, look.days.unwrap_or(AGENDA_DAYS)).filter(|_| !is_far);
    let (first, end) = days.ok_or_else(|| Problem::field("date", "must be from 1970 to 2199"))?;
    let (from, to) = (zone::midnight(zone, first), zone::midnight(zone, end));
    let filter = Filter {
        calendar_id: look.calendar_id,
        project_id: look.project_id,
        user_id: look.user_id,
        types: look.r#type.unwrap_or_default(),
        ..Filter::default()
    };
    let mut found = range::cached(&auth::organization_id()?, &filter, from, to)?;
    let viewer = Viewer::caller();
    if filter.tells() {
        found.entries.retain(|entry| viewer.sees(entry));
    }
    let total = found.entries.len();
    let is_truncated = found.is_cut || total > OCCURRENCES_MAX;
    found.entries.truncate(OCCURRENCES_MAX);
    let mut days = by_day(found.entries, zone, first, end, &viewer);
    if kind == Kind::Agenda {
        days.retain(|day| !day.events.is_empty());
    }
    Ok(Json(View { view: kind.name().into(), timezone: zone.name().into(), from, to, days, total, is_truncated }))
}

/// A date, or the date of a moment.
fn day(zone: Tz, text: &str) -> Option<NaiveDate> {
    text.parse().ok().or_else(|| Timestamp::parse(text).map(|at| zone::local(zone, at).date()))
}

/// Each event under every day that it touches.
fn by_day(entries: Vec<Entry>, zone: Tz, first: NaiveDate, end: NaiveDate, viewer: &Viewer) -> Vec<Day> {
    let mut days: BTreeMap<NaiveDate, Vec<Map<String, Value>>> = BTreeMap::new();
    for day in first.iter_days().take_while(|day| *day < end) {
        days.insert(day, Vec::new());
    }
    for entry in entries {
        let begin = zone::local(zone, entry.start).date().max(first);
        let last = zone::local(zone, entry.end.minus(Duration::from_millis(1)).max(entry.start)).date();
        let shown = viewer.show(entry);
        for (_, events) in days.range_mut(begin..).take_while(|(day, _)| **day <= last) {
            events.push(shown.clone());
        }
    }
    days.into_iter().map(|(day, events)| Day { date: day.to_string(), events }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_know_their_days() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        let days = |kind: Kind| kind.days(day("2026-03-01"), 14).map(|(from, to)| (from.to_string(), to.to_string()));
        let pair = |from: &str, to: &str| Some((from.to_string(), to.to_string()));
        assert_eq!(days(Kind::Day), pair("2026-03-01", "2026-03-02"));
        assert_eq!(days(Kind::Week), pair("2026-02-23", "2026-03-02"));
        assert_eq!(days(Kind::Month), pair("2026-03-01", "2026-04-01"));
        assert_eq!(days(Kind::Agenda), pair("2026-03-01", "2026-03-15"));
    }
}
