//! The events of a range of time, series expanded.

use std::{collections::BTreeMap, time::Duration};

use berth_sdk::{cache, prelude::*};
use chrono::{Datelike, Months, NaiveDate};

use super::{
    Event, EventStatus, EventType, GENERATION,
    attendee::{self, Attendee},
    view::Entry,
};
use crate::recurrence::{OCCURRENCES_MAX, Span};

/// The longest range.
pub const DAYS_MAX: u64 = 366;
/// Rows of one range.
const ROWS_MAX: i64 = 2_000;
/// Occurrences of one range, of all its events.
const ENTRIES_MAX: usize = 10_000;
/// How long a month stays in the cache.
const CACHED: Duration = Duration::from_secs(300);
/// Entries of a month that is worth keeping.
const CACHED_ENTRIES_MAX: usize = 1_000;
/// Months that one range puts together.
const MONTHS_MAX: usize = 4;

/// Which events are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Those in this calendar.
    pub calendar_id: Option<Id>,
    /// Those of this project.
    pub project_id: Option<Id>,
    /// Those that this user takes part in.
    pub user_id: Option<Id>,
    /// Those of this agent.
    pub agent_id: Option<Id>,
    /// Those of this plan.
    pub plan_id: Option<Id>,
    /// Those of these kinds.
    pub types: Vec<EventType>,
    /// Those in this state; otherwise all that are not cancelled.
    pub status: Option<EventStatus>,
}

impl Filter {
    fn is_calendar(&self) -> bool {
        self.project_id.is_none()
            && self.user_id.is_none()
            && self.agent_id.is_none()
            && self.plan_id.is_none()
            && self.types.is_empty()
            && self.status.is_none()
    }

    fn apply(&self, mut select: Select<Event>, organization_id: &Id) -> Select<Event> {
        let columns = [
            ("calendar_id", &self.calendar_id),
            ("project_id", &self.project_id),
            ("agent_id", &self.agent_id),
            ("plan_id", &self.plan_id),
        ];
        for (column, value) in columns {
            if let Some(value) = value {
                select = select.equal(column, value);
            }
        }
        if let Some(user_id) = &self.user_id {
            select = select.condition(
                "user_id = ? OR organizer_id = ? OR id IN (SELECT event_id FROM calendar_attendees \
                 WHERE organization_id = ? AND user_id = ? AND response <> 'declined')",
                [user_id, user_id, organization_id, user_id],
            );
        }
        if !self.types.is_empty() {
            select = select.one_of("event_type", self.types.iter().copied());
        }
        match self.status {
            Some(status) => select.equal("status", status),
            None => select.condition("status <> ?", ["cancelled"]),
        }
    }
}

/// The rows that may have something in the range.
pub fn rows(
    database: &dyn Executor,
    organization_id: &Id,
    filter: &Filter,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Stored<Event>>> {
    let select = Select::<Event>::new()
        .of_organization(organization_id)
        .condition("start_time < ? AND until_time > ?", [to, from])
        .limit(ROWS_MAX + 1);
    let rows = filter.apply(select, organization_id).all(database)?;
    if i64::try_from(rows.len()).is_ok_and(|count| count > ROWS_MAX) {
        return Err(Problem::unprocessable(format!("The range has more than {ROWS_MAX} events; ask for less of it."))
            .with_code("RANGE_TOO_LARGE"));
    }
    Ok(rows)
}

/// When the rows take place within the range, in the order of time; and whether a series has more than was given.
pub fn expand(rows: &[Stored<Event>], from: Timestamp, to: Timestamp) -> (Vec<(usize, Span)>, bool) {
    let (mut all, mut is_cut) = (Vec::new(), false);
    for (index, row) in rows.iter().enumerate() {
        if !row.is_recurring {
            all.push((index, Span { start: row.start_time, end: row.end_time }));
            continue;
        }
        let expansion = row.series().between(from, to, OCCURRENCES_MAX);
        is_cut |= expansion.is_cut;
        all.extend(expansion.occurrences.into_iter().map(|span| (index, span)));
        if all.len() >= ENTRIES_MAX {
            is_cut = true;
            break;
        }
    }
    all.sort_by_key(|(index, span)| (*span, *index));
    (all, is_cut)
}

/// What a range holds.
pub struct Found {
    /// In the order of time.
    pub entries: Vec<Entry>,
    /// There is more than was given.
    pub is_cut: bool,
}

/// The events of a range with their attendees.
pub fn entries(
    database: &dyn Executor,
    organization_id: &Id,
    filter: &Filter,
    from: Timestamp,
    to: Timestamp,
) -> Result<Found> {
    let rows = rows(database, organization_id, filter, from, to)?;
    let attendees = attendee::of_events(database, organization_id, rows.iter().map(|row| &row.id))?;
    let (spans, is_cut) = expand(&rows, from, to);
    Ok(Found { entries: made(&rows, &spans, &attendees), is_cut })
}

/// Entries of expanded rows.
pub fn made(
    rows: &[Stored<Event>],
    spans: &[(usize, Span)],
    attendees: &BTreeMap<Id, Vec<Stored<Attendee>>>,
) -> Vec<Entry> {
    let entry = |(index, span): &(usize, Span)| {
        let row = rows.get(*index)?;
        let coming = attendees.get(&row.id).map(Vec::as_slice).unwrap_or_default();
        Some(Entry::occurrence(row, *span, coming))
    };
    spans.iter().filter_map(entry).collect()
}

/// The same by way of the cache, month for month, where only a calendar is asked for.
pub fn cached(organization_id: &Id, filter: &Filter, from: Timestamp, to: Timestamp) -> Result<Found> {
    let months = months(from, to);
    if !filter.is_calendar() || months.len() > MONTHS_MAX {
        return entries(&Pool, organization_id, filter, from, to);
    }
    let generation: String = cache::remember(GENERATION, CACHED, || Ok::<_, Problem>(Id::new().into_string()))?;
    let calendar = filter.calendar_id.as_ref().map_or("all", Id::as_str);
    let mut found = Found { entries: Vec::new(), is_cut: false };
    for (begin, end) in months {
        let key = format!("month:{calendar}:{}:{generation}", begin.date_time().format("%Y-%m"));
        let month = match cache::get::<Vec<Entry>>(&key) {
            Some(month) => month,
            None => {
                let month = entries(&Pool, organization_id, filter, begin, end)?;
                found.is_cut |= month.is_cut;
                if month.entries.len() <= CACHED_ENTRIES_MAX && !month.is_cut {
                    cache::set_ttl(&key, &month.entries, CACHED);
                }
                month.entries
            }
        };
        // What goes from one month into the next is in both.
        let is_new = |entry: &Entry| entry.start < to && entry.end > from && (entry.start >= begin || begin <= from);
        found.entries.extend(month.into_iter().filter(is_new));
    }
    Ok(found)
}

/// The months, in UTC, that a range touches.
fn months(from: Timestamp, to: Timestamp) -> Vec<(Timestamp, Timestamp)> {
    let begin = |day: NaiveDate| Timestamp::from(day.and_time(chrono::NaiveTime::MIN).and_utc());
    let day = from.date_time().date_naive();
    let mut month = day.with_day(1).unwrap_or(day);
    let mut all = Vec::new();
    while begin(month) < to && all.len() <= MONTHS_MAX {
        let Some(next) = month.checked_add_months(Months::new(1)) else { break };
        all.push((begin(month), begin(next)));
        month = next;
    }
    all
}

/// 400 unless it is a range of at most so many days.
pub fn require_range(from: Timestamp, to: Timestamp, days_max: u64) -> Result<()> {
    if to <= from {
        return Err(Problem::field("to", "must be after from"));
    }
    if to.since(from) > Duration::from_secs(days_max * 24 * 3_600) {
        return Err(Problem::field("to", format!("must be at most {days_max} days after from")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn months_cover_a_range_without_a_gap() {
        let all = months(at("2026-12-15T10:00:00Z"), at("2027-02-01T00:00:00Z"));
        let texts: Vec<String> = all.iter().map(|(begin, end)| format!("{begin} {end}")).collect();
        assert_eq!(
            texts,
            ["2026-12-01T00:00:00.000Z 2027-01-01T00:00:00.000Z", "2027-01-01T00:00:00.000Z 2027-02-01T00:00:00.000Z"]
        );
    }

    #[test]
    fn a_range_is_judged() {
        let from = at("2026-01-01T00:00:00Z");
        assert_eq!(require_range(from, from, 366).unwrap_err().errors[0].field, "to");
        assert!(require_range(from, at("2027-01-02T00:00:00Z"), 366).is_ok());
        assert!(require_range(from, at("2027-01-02T00:00:01Z"), 366).is_err());
    }
}
