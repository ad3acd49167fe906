//! The events of a range of time, series expanded.

use std::{collections::BTreeMap, time::Duration};

use berth_sdk::{cache, database::Value, prelude::*};
use chrono::{Datelike, Months, NaiveDate};

use super::{
    Event, EventStatus, EventType, GENERATION,
    attendee::{self, Attendee},
    view::{Entry, Viewer},
};
use crate::recurrence::{OCCURRENCES_MAX, Span};

/// The longest range.
pub const DAYS_MAX: u64 = 366;
/// Rows of one range.
const ROWS_MAX: i64 = 2_000;
/// Occurrences of one range, of all its events.
const ENTRIES_MAX: usize = 10_000;
/// The code of a range with more rows.
pub const TOO_LARGE: &str = "RANGE_TOO_LARGE";
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
    /// Those in none of these calendars.
    pub outside: Vec<Id>,
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
        self.outside.is_empty()
            && self.project_id.is_none()
            && self.user_id.is_none()
            && self.agent_id.is_none()
            && self.plan_id.is_none()
            && self.types.is_empty()
            && self.status.is_none()
    }

    /// Whether it asks for something that is not told of an event which is busy and no more.
    pub fn tells(&self) -> bool {
        self.project_id.is_some() || self.agent_id.is_some() || self.plan_id.is_some() || !self.types.is_empty()
    }

    /// The rows that are wanted, whenever they are.
    pub fn select(&self, organization_id: &Id) -> Select<Event> {
        let select = Select::new().of_organization(organization_id);
        self.conditions(organization_id)
            .into_iter()
            .fold(select, |select, (sql, values)| select.condition(&sql, values))
    }

    /// What holds of the rows that are wanted, beside being the organization's: SQL in which each `?` stands for the next
    /// value.
    pub fn conditions(&self, organization_id: &Id) -> Vec<(String, Vec<Value>)> {
        let mut all: Vec<(String, Vec<Value>)> = Vec::new();
        let columns = [
            ("calendar_id", &self.calendar_id),
            ("project_id", &self.project_id),
            ("agent_id", &self.agent_id),
            ("plan_id", &self.plan_id),
        ];
        for (column, value) in columns {
            if let Some(value) = value {
                all.push((format!("{column} = ?"), vec![value.into()]));
            }
        }
        if !self.outside.is_empty() {
            let sql = format!("calendar_id IS NULL OR calendar_id NOT IN ({})", places(self.outside.len()));
            all.push((sql, self.outside.iter().map(Value::from).collect()));
        }
        if let Some(user_id) = &self.user_id {
            let sql = "user_id = ? OR organizer_id = ? OR id IN (SELECT event_id FROM calendar_attendees \
                 WHERE organization_id = ? AND user_id = ? AND response <> 'declined')";
            let values = [user_id, user_id, organization_id, user_id];
            all.push((sql.into(), values.into_iter().map(Value::from).collect()));
        }
        if !self.types.is_empty() {
            let sql = format!("event_type IN ({})", places(self.types.len()));
            all.push((sql, self.types.iter().map(|kind| Value::from(*kind)).collect()));
        }
        all.push(match self.status {
            Some(status) => ("status = ?".into(), vec![status.into()]),
            None => ("status <> ?".into(), vec!["cancelled".into()]),
        });
        all
    }
}

/// Rows of a range without those that the viewer sees as busy alone, where the filter itself would tell what they are.
pub fn unveiled(
    database: &dyn Executor,
    organization_id: &Id,
    filter: &Filter,
    viewer: &Viewer,
    rows: Vec<Stored<Event>>,
) -> Result<Vec<Stored<Event>>> {
    if !filter.tells() {
        return Ok(rows);
    }
    let attendees = attendee::of_events(database, organization_id, rows.iter().map(|row| &row.id))?;
    let coming = |row: &Stored<Event>| attendees.get(&row.id).map(Vec::as_slice).unwrap_or_default();
    Ok(rows.into_iter().filter(|row| viewer.sees(&Entry::of(row, coming(row)))).collect())
}

fn places(count: usize) -> String {
    vec!["?"; count].join(", ")
}

/// The rows that may have something in the range.
pub fn rows(
    database: &dyn Executor,
    organization_id: &Id,
    filter: &Filter,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Stored<Event>>> {
    let select = filter.select(organization_id).condition("start_time < ? AND until_time > ?", [to, from]);
    bounded(database, select)
}

/// All rows of a selection; 422 `RANGE_TOO_LARGE` when there are more than can be put together.
pub fn bounded(database: &dyn Executor, select: Select<Event>) -> Result<Vec<Stored<Event>>> {
    let rows = select.limit(ROWS_MAX + 1).all(database)?;
    if i64::try_from(rows.len()).is_ok_and(|count| count > ROWS_MAX) {
        return Err(Problem::unprocessable(format!("The range has more than {ROWS_MAX} events; ask for less of it."))
            .with_code(TOO_LARGE));
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
