//! Which collections somebody has, what is in them, and what changes when anything in them does.

use std::collections::BTreeMap;

use berth_sdk::{canonical, database::Value, prelude::*};
use chrono::{Datelike, Months, NaiveTime};

use super::{place::Place, report::Data};
use crate::{
    availability::{both, merge},
    calendar::{Calendar, OwnerType},
    event::{
        Event,
        attendee::{self, Attendee},
        range::{self, Filter},
        view::{Entry, Viewer},
    },
    ical::Document,
    recurrence::{LAST_MILLIS, Span},
};

/// The collection of what somebody takes part in that is in no calendar of theirs.
const OWN: &str = "own";
const OWN_NAME: &str = "My events";
/// Calendars of one home.
const CALENDARS_MAX: i64 = 500;
/// So much of the past is in a collection: this month and those before it.
const MONTHS_BEFORE: u32 = 12;
/// Ids that one statement names.
const IDS_AT_ONCE: usize = 400;
/// Part of every tag: what is written of an event has this form. It grows when that changes.
const FORM: u32 = 1;

/// Who reads.
pub struct Reader {
    organization_id: Id,
    /// The user, without whom there are no collections.
    pub user_id: Id,
    viewer: Viewer,
}

impl Reader {
    /// Who calls: 400 without an organization, 401 without a user.
    pub fn caller() -> Result<Self> {
        Ok(Self { organization_id: auth::organization_id()?, user_id: auth::user_id()?, viewer: Viewer::caller() })
    }

    /// The address of who reads.
    pub fn principal(&self) -> Place {
        Place::Principal(self.user_id.as_str().into())
    }
}

/// A calendar as a collection.
pub struct Collection {
    /// Its id, or `own`.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// As in `#3366cc`.
    pub color: Option<String>,
    /// Whether it is the reader's own.
    pub is_own: bool,
    /// Of the calendar itself.
    version: i64,
    filter: Filter,
}

impl Collection {
    /// All that somebody sees.
    pub fn all(reader: &Reader) -> Result<Vec<Self>> {
        let calendars = Select::<Calendar>::new().limit(CALENDARS_MAX + 1).all(&Pool)?;
        if i64::try_from(calendars.len()).is_ok_and(|count| count > CALENDARS_MAX) {
            return Err(Problem::unprocessable(format!("There are more than {CALENDARS_MAX} calendars."))
                .with_code(range::TOO_LARGE));
        }
        let own = Self {
            id: OWN.into(),
            name: OWN_NAME.into(),
            description: None,
            color: None,
            is_own: true,
            version: 0,
            filter: Filter {
                user_id: Some(reader.user_id.clone()),
                outside: calendars.iter().map(|calendar| calendar.id.clone()).collect(),
                ..Filter::default()
            },
        };
        Ok(std::iter::once(own).chain(calendars.into_iter().map(Self::of)).collect())
    }

    /// One of them; 404.
    pub fn find(reader: &Reader, id: &str) -> Result<Self> {
        let all = Self::all(reader)?;
        all.into_iter().find(|collection| collection.id == id).ok_or_else(|| Problem::missing("calendar"))
    }

    fn of(calendar: Stored<Calendar>) -> Self {
        Self {
            id: calendar.id.as_str().into(),
            is_own: calendar.owner_type == OwnerType::User,
            version: calendar.version,
            filter: Filter { calendar_id: Some(calendar.id.clone()), ..Filter::default() },
            name: calendar.data.name,
            description: calendar.data.description,
            color: Some(calendar.data.color),
        }
    }

    /// What is another text whenever anything in it may be read otherwise: by a change of an event or of who takes part, of
    /// the reader's teams and projects, of the calendar, and when a month of the past falls out.
    pub fn state(&self, reader: &Reader) -> Result<String> {
        let since = since();
        let mut condition = "organization_id = $1 AND until_time > $2".to_string();
        let mut values: Vec<Value> = vec![(&reader.organization_id).into(), since.into()];
        for (sql, more) in self.filter.conditions(&reader.organization_id) {
            condition.push_str(&format!(" AND ({})", numbered(&sql, more, &mut values)));
        }
        let figures =
            "COUNT(*) AS \"count\", CAST(SUM(version) AS BIGINT) AS \"versions\", MAX(updated_at) AS \"latest\"";
        let events = format!("SELECT {figures} FROM calendar_events WHERE {condition}");
        let people = format!(
            "SELECT {figures} FROM calendar_attendees \
             WHERE organization_id = $1 AND event_id IN (SELECT id FROM calendar_events WHERE {condition})"
        );
        let mut told = Vec::new();
        for sql in [events, people] {
            told.push(String::from_utf8_lossy(&Pool.query_json(&sql, &values)?).into_owned());
        }
        let of_reader = (&reader.user_id, &reader.viewer.team_ids, reader.viewer.projects());
        Ok(digest(&json!([FORM, self.id, self.version, since, of_reader, told])))
    }

    /// Everything that is in it.
    pub fn objects(&self, reader: &Reader) -> Result<Vec<Object>> {
        let last = Timestamp::from_millis(LAST_MILLIS);
        let rows = range::rows(&Pool, &reader.organization_id, &self.filter, since(), last)?;
        self.together(reader, rows)
    }

    /// What takes place within a range.
    pub fn objects_within(
        &self,
        reader: &Reader,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Result<Vec<Object>> {
        let last = Timestamp::from_millis(LAST_MILLIS);
        let (from, to) = (from.unwrap_or_else(since), to.unwrap_or(last).min(last));
        let mut rows = range::rows(&Pool, &reader.organization_id, &self.filter, from, to)?;
        rows.retain(|row| !row.is_recurring || row.series().comes_within(from, to));
        self.together(reader, rows)
    }

    /// When something in it takes people's time, within a range and cut to it; in order and apart.
    pub fn busy(&self, reader: &Reader, range: Span) -> Result<Vec<Span>> {
        let mut rows = range::rows(&Pool, &reader.organization_id, &self.filter, range.start, range.end)?;
        rows.retain(|row| row.is_blocking());
        let (spans, is_cut) = range::expand(&rows, range.start, range.end);
        if is_cut {
            return Err(super::too_much());
        }
        Ok(both(&merge(spans.into_iter().map(|(_, span)| span).collect()), &[range]))
    }

    /// Those of these names that are in it.
    pub fn objects_named(&self, reader: &Reader, names: &[&str]) -> Result<Vec<Object>> {
        let rows = self.rows_with(reader, "id", names)?;
        let mut objects = self.together(reader, rows)?;
        objects.retain(|object| names.contains(&object.name.as_str()));
        Ok(objects)
    }

    fn rows_with<V: Copy + Into<Value>>(
        &self,
        reader: &Reader,
        column: &str,
        values: &[V],
    ) -> Result<Vec<Stored<Event>>> {
        let mut rows = Vec::new();
        for values in values.chunks(IDS_AT_ONCE) {
            let select = self.filter.select(&reader.organization_id).one_of(column, values.iter().copied());
            rows.extend(range::bounded(&Pool, select)?);
        }
        Ok(rows)
    }

    /// Rows as objects: a series is one together with its occurrences that stand apart, as far as they are in here too.
    fn together(&self, reader: &Reader, rows: Vec<Stored<Event>>) -> Result<Vec<Object>> {
        let mut rows: BTreeMap<Id, Stored<Event>> = rows.into_iter().map(|row| (row.id.clone(), row)).collect();
        let parents: Vec<Id> = rows.values().filter_map(|row| row.recurrence_parent_id.clone()).collect();
        let parents: Vec<&str> = parents.iter().filter(|id| !rows.contains_key(*id)).map(Id::as_str).collect();
        let found = self.rows_with(reader, "id", &parents)?;
        rows.extend(found.into_iter().map(|row| (row.id.clone(), row)));
        let series: Vec<Id> =
            rows.values().filter(|row| row.is_recurring || !row.exdates.is_empty()).map(|row| row.id.clone()).collect();
        let series: Vec<&str> = series.iter().map(Id::as_str).collect();
        let apart = self.rows_with(reader, "recurrence_parent_id", &series)?;
        rows.extend(apart.into_iter().map(|row| (row.id.clone(), row)));
        let mut attendees = attendee::of_events(&Pool, &reader.organization_id, rows.keys())?;
        let mut objects: BTreeMap<Id, Object> = BTreeMap::new();
        for row in rows.values() {
            let parent = row.recurrence_parent_id.as_ref().filter(|id| rows.contains_key(*id));
            let name = parent.unwrap_or(&row.id);
            let object = objects.entry(name.clone()).or_insert_with(|| Object::empty(name));
            if let Some(coming) = attendees.remove(&row.id) {
                object.attendees.insert(row.id.clone(), coming);
            }
            object.rows.push(row.clone());
        }
        Ok(objects.into_values().map(|object| object.settled(&reader.viewer)).collect())
    }
}

/// An event, or a series with what stands apart from it.
pub struct Object {
    /// The id of the event.
    pub name: String,
    /// With its quotes.
    pub etag: String,
    /// When it was last changed.
    pub updated_at: Timestamp,
    rows: Vec<Stored<Event>>,
    attendees: BTreeMap<Id, Vec<Stored<Attendee>>>,
}

impl Object {
    fn empty(name: &Id) -> Self {
        Self {
            name: name.as_str().into(),
            etag: String::new(),
            updated_at: Timestamp::from_millis(0),
            rows: Vec::new(),
            attendees: BTreeMap::new(),
        }
    }

    /// In its order, with what is told of its state: versions, and how much the viewer sees.
    fn settled(mut self, viewer: &Viewer) -> Self {
        self.rows.sort_by_key(|row| (row.recurrence_parent_id.is_some(), row.start_time));
        let told: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                let coming = self.attendees.get(&row.id).map(Vec::as_slice).unwrap_or_default();
                let sees = viewer.sees(&Entry::of(row, coming));
                let coming: Vec<_> = coming.iter().map(|attendee| (&attendee.id, attendee.version)).collect();
                (&row.id, row.version, sees, coming)
            })
            .collect();
        self.etag = format!("\"{}\"", digest(&json!([FORM, told])));
        let coming = self.attendees.values().flatten().map(|attendee| attendee.updated_at);
        if let Some(latest) = self.rows.iter().map(|row| row.updated_at).chain(coming).max() {
            self.updated_at = latest;
        }
        self
    }

    /// As iCalendar; none where that is not asked for.
    pub fn text(&self, reader: &Reader, data: Data) -> Option<String> {
        let document = Document { name: None, rows: &self.rows, attendees: &self.attendees, viewer: &reader.viewer };
        match data {
            Data::Nothing => None,
            Data::Whole => Some(document.text()),
            Data::Expanded(from, to) => Some(document.expanded(from, to)),
        }
    }
}

fn digest(value: &berth_sdk::serde_json::Value) -> String {
    canonical::sha256(value).get(..32).unwrap_or_default().to_string()
}

/// Since when something must not be over to be in a collection. The same for a whole month, so that it stays in step with
/// what clients have.
fn since() -> Timestamp {
    let today = clock::now().date_time().date_naive();
    let month = today.with_day(1).unwrap_or(today);
    let first = month.checked_sub_months(Months::new(MONTHS_BEFORE)).unwrap_or(month);
    first.and_time(NaiveTime::MIN).and_utc().into()
}

/// Numbers the `?` of a piece of SQL on from the values that are there.
fn numbered(sql: &str, more: Vec<Value>, values: &mut Vec<Value>) -> String {
    let mut parts = sql.split('?');
    let mut placed = parts.next().unwrap_or_default().to_string();
    for (part, value) in parts.zip(more) {
        values.push(value);
        placed.push_str(&format!("${}{part}", values.len()));
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_numbered_on() {
        let mut values = vec![Value::from(1), Value::from(2)];
        let filter =
            Filter { user_id: Some("u1".into()), outside: vec!["c1".into(), "c2".into()], ..Filter::default() };
        let all: Vec<String> = filter
            .conditions(&Id::from("o1"))
            .into_iter()
            .map(|(sql, more)| numbered(&sql, more, &mut values))
            .collect();
        assert_eq!(all[0], "calendar_id IS NULL OR calendar_id NOT IN ($3, $4)");
        assert!(all[1].starts_with("user_id = $5 OR organizer_id = $6 OR id IN") && all[1].contains("user_id = $8"));
        assert_eq!((all[2].as_str(), values.len()), ("status <> $9", 9));
    }

    #[test]
    fn the_past_begins_with_a_month() {
        let text = since().to_string();
        assert!(text.ends_with("-01T00:00:00.000Z"), "{text}");
    }
}
