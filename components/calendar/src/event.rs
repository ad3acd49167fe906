//! Events: what happens when, for whom, how often.

pub mod api;
pub mod attendee;
pub mod create;
pub mod range;
pub mod scope;
pub mod subject;
pub mod view;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};
use chrono::{NaiveTime, TimeDelta};
use chrono_tz::Tz;
use time_rules::TimeRules;

use crate::{
    REMOVE, calendar,
    recurrence::{LAST_MILLIS, Rule, Series},
    zone,
};

/// The longest event, unless it is of whole days.
const DURATION_MAX: TimeDelta = TimeDelta::days(30);
/// The longest event of whole days.
const DAYS_MAX: TimeDelta = TimeDelta::days(366);
/// The most dates that are added to or left out of a series.
pub const DATES_MAX: usize = 1_000;
/// The most bytes of an event's metadata.
const METADATA_BYTES_MAX: usize = 8 * 1024;
/// The longest name of a room, in characters; what is longer describes a way rather than a place.
const ROOM_MAX: usize = 200;
/// Places that are no rooms.
const NO_ROOMS: [&str; 3] = ["online", "remote", "virtual"];
/// The cache key of what names the present state of an organization's events.
pub const GENERATION: &str = "generation";

/// What kind of event it is.
#[choice]
pub enum EventType {
    /// A person does something.
    HumanAction,
    /// An agent runs.
    AgentExecution,
    /// Something is deployed.
    Deployment,
    /// Something is reviewed.
    Review,
    /// People meet.
    Meeting,
    /// Somebody has to agree.
    Approval,
    /// Somebody has to decide.
    Decision,
    /// Somebody is away.
    Pto,
    /// Something is due; it takes nobody's time.
    Deadline,
    /// Something is to be remembered; it takes nobody's time.
    Reminder,
}

/// How sure it is.
#[choice]
pub enum EventStatus {
    /// Proposed.
    Tentative,
    /// It happens.
    Confirmed,
    /// It does not happen.
    Cancelled,
}

/// Who sees more than that somebody is busy.
#[choice]
pub enum Visibility {
    /// Who takes part.
    Private,
    /// Also the calendar's or the organizer's teams.
    Team,
    /// Everybody in the organization.
    Organization,
}

/// An event.
#[entity(table = "calendar_events", name = "event", sort = "startTime")]
pub struct Event {
    /// The calendar it is in.
    #[field(parent = calendar::Calendar)]
    pub calendar_id: Option<Id>,
    /// The project it concerns.
    pub project_id: Option<Id>,
    /// Whose time it takes, beside its attendees.
    pub user_id: Option<Id>,
    /// The agent that runs.
    pub agent_id: Option<Id>,
    /// The environment of planning that is changed.
    pub environment_id: Option<Id>,
    /// Its name, such as `production`.
    #[field(min = 1, max = 100, plain)]
    pub environment_name: Option<String>,
    /// For people.
    #[field(min = 1, max = 500, plain)]
    pub title: String,
    /// More about it.
    #[field(max = 8_000)]
    pub description: Option<String>,
    /// Where.
    #[field(max = 1_000)]
    pub location: Option<String>,
    /// When it begins.
    pub start_time: Timestamp,
    /// When it is over.
    pub end_time: Timestamp,
    /// Whether it lasts whole days: from midnight to midnight in its time zone.
    #[field(default)]
    pub all_day: bool,
    /// The wall clock that a recurring event keeps to: a name of the IANA database.
    #[field(default = "UTC", min = 1, max = 64, format = "timezone")]
    pub timezone: String,
    /// What kind of event it is.
    #[field(default = EventType::HumanAction)]
    pub event_type: EventType,
    /// How sure it is.
    #[field(default = EventStatus::Confirmed)]
    pub status: EventStatus,
    /// The plan it belongs to.
    pub plan_id: Option<Id>,
    /// The step it belongs to.
    pub plan_step_id: Option<Id>,
    /// When it may take place, beside the rules of its environment.
    pub time_rules: Option<TimeRules>,
    /// RFC 5545, such as `FREQ=WEEKLY;BYDAY=MO`.
    #[field(max = 500)]
    pub rrule: Option<String>,
    /// Further beginnings.
    #[field(default, max = 1_000)]
    pub rdates: Vec<Timestamp>,
    /// Beginnings that fall out.
    #[field(default, max = 1_000)]
    pub exdates: Vec<Timestamp>,
    /// The series that this row stands in for one occurrence of.
    #[field(readonly)]
    pub recurrence_parent_id: Option<Id>,
    /// When that occurrence would have begun.
    #[field(readonly)]
    pub recurrence_id: Option<Timestamp>,
    /// Who sees more than that somebody is busy.
    #[field(default = Visibility::Organization)]
    pub visibility: Visibility,
    /// Whose event it is.
    #[field(readonly, default = "")]
    pub organizer_id: String,
    /// Whatever else belongs to it.
    #[field(default)]
    pub metadata: Map<String, Value>,
    /// What it is called in iCalendar.
    #[field(readonly, default = "", filter)]
    pub uid: String,
    /// How often its time has changed.
    #[field(readonly, default = 0)]
    pub sequence: i64,
    /// When its execution began.
    #[field(readonly)]
    pub actual_start: Option<Timestamp>,
    /// When its execution ended.
    #[field(readonly)]
    pub actual_end: Option<Timestamp>,
    /// Whether it comes more than once.
    #[field(readonly, default)]
    pub is_recurring: bool,
    #[field(readonly, hidden, default = Timestamp::from_millis(LAST_MILLIS))]
    pub until_time: Timestamp,
    #[field(readonly, hidden)]
    pub last_start: Option<Timestamp>,
    #[field(readonly, hidden, default)]
    pub team_ids: Vec<String>,
    #[field(readonly, hidden)]
    pub origin: Option<String>,
    #[field(readonly, hidden)]
    pub room: Option<String>,
}

impl Rules for Event {
    fn check(&self, faults: &mut Faults) {
        let last = Timestamp::from_millis(LAST_MILLIS);
        let length = self.end_time.date_time() - self.start_time.date_time();
        let longest = if self.all_day { DAYS_MAX } else { DURATION_MAX };
        if length <= TimeDelta::zero() {
            faults.add("endTime", "must be after startTime");
        } else if length > longest {
            faults.add("endTime", format!("must be at most {} days after startTime", longest.num_days()));
        } else if self.end_time > last {
            faults.add("endTime", "must be before the year 2201");
        }
        let zone = zone::parse(&self.timezone);
        if zone.is_none() {
            faults.add("timezone", "must be a time zone such as Europe/Berlin");
        }
        self.check_recurrence(zone.unwrap_or(Tz::UTC), faults);
        if let Some(rules) = &self.time_rules {
            rules.faults("timeRules", faults);
        }
        if json!(self.metadata).to_string().len() > METADATA_BYTES_MAX {
            faults.add("metadata", format!("must have at most {METADATA_BYTES_MAX} bytes"));
        }
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        self.settle();
        if self.organizer_id.is_empty() {
            self.organizer_id = auth::user_id()?.into_string();
        }
        if self.uid.is_empty() {
            self.uid = format!("{}@berth", Id::new());
        }
        self.set_teams(transaction)
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if self.rrule.is_some() && old.recurrence_parent_id.is_some() {
            return Err(Problem::unprocessable("One occurrence of a series has no rule of its own."));
        }
        self.settle();
        if self.moves(old) {
            self.sequence += 1;
        }
        if self.visibility != old.visibility || self.calendar_id != old.calendar_id {
            self.set_teams(transaction)?;
        }
        Ok(())
    }
}

impl Event {
    fn check_recurrence(&self, zone: Tz, faults: &mut Faults) {
        for (name, dates) in [("rdates", &self.rdates), ("exdates", &self.exdates)] {
            if dates.len() > DATES_MAX {
                faults.add(name, format!("must have at most {DATES_MAX} entries"));
            }
        }
        if let Some(index) = self.rdates.iter().position(|date| *date < self.start_time) {
            faults.add(format!("rdates[{index}]"), "must not be before startTime");
        }
        let Some(text) = self.rrule.as_deref().filter(|text| !text.is_empty()) else { return };
        match Rule::parse(text) {
            Err(message) => faults.add("rrule", message),
            Ok(rule) if rule.until(zone).is_some_and(|until| until < self.start_time && !self.all_day) => {
                faults.add("rrule", "must not end before startTime");
            }
            Ok(rule) => {
                if faults.is_empty() && !Series::new(zone, self.start_time, self.end_time).with_rule(rule).comes() {
                    faults.add("rrule", "never comes");
                }
            }
        }
    }

    /// The time zone.
    pub fn zone(&self) -> Tz {
        zone::parse(&self.timezone).unwrap_or(Tz::UTC)
    }

    /// When it comes.
    pub fn series(&self) -> Series {
        let series = Series::new(self.zone(), self.start_time, self.end_time)
            .with_dates(&self.rdates, &self.exdates)
            .with_last(self.last_start);
        let series = if self.all_day { series.of_whole_days() } else { series };
        match self.rule() {
            Some(rule) => series.with_rule(rule),
            None => series,
        }
    }

    /// Its rule.
    pub fn rule(&self) -> Option<Rule> {
        self.rrule.as_deref().and_then(|text| Rule::parse(text).ok())
    }

    /// Brings everything into the form in which it is stored, and works out what lists need.
    pub fn settle(&mut self) {
        if self.all_day {
            self.set_whole_days();
        }
        let (zone, all_day) = (self.zone(), self.all_day);
        let rule = self.rule();
        self.rrule = rule.as_ref().map(|rule| rule.text(zone, all_day));
        for dates in [&mut self.rdates, &mut self.exdates] {
            dates.sort_unstable();
            dates.dedup();
        }
        self.environment_name = self.environment_name.as_ref().map(|name| name.to_lowercase());
        self.room = self.location.as_deref().and_then(room);
        self.is_recurring = rule.is_some() || !self.rdates.is_empty();
        self.last_start = None;
        self.last_start = self.series().last_of_rule();
        let last = self.series().last();
        self.until_time = last.map_or(Timestamp::from_millis(LAST_MILLIS), |last| last.end);
    }

    /// From midnight to midnight. Times that are midnight in UTC mean the dates they show, whatever the zone.
    fn set_whole_days(&mut self) {
        let zone = self.zone();
        let is_date = |at: Timestamp| at.date_time().time() == NaiveTime::MIN;
        let day = |at: Timestamp, are_dates: bool| {
            if are_dates { at.date_time().date_naive() } else { zone::local(zone, at).date() }
        };
        let are_dates = is_date(self.start_time) && is_date(self.end_time);
        let (first, mut end) = (day(self.start_time, are_dates), day(self.end_time, are_dates));
        let is_midnight = are_dates || self.end_time == zone::midnight(zone, end);
        if !is_midnight || end == first {
            end = end.succ_opt().unwrap_or(end);
        }
        for date in self.rdates.iter_mut().chain(&mut self.exdates) {
            let own = zone::midnight(zone, day(*date, false));
            *date = if own == *date { own } else { zone::midnight(zone, day(*date, is_date(*date))) };
        }
        self.start_time = zone::midnight(zone, first);
        self.end_time = zone::midnight(zone, end);
    }

    fn set_teams(&mut self, database: &dyn Executor) -> Result<()> {
        let calendar = match (&self.calendar_id, self.visibility) {
            (_, Visibility::Private | Visibility::Organization) | (None, _) => None,
            (Some(id), Visibility::Team) => entity::find::<calendar::Calendar>(database, id)?,
        };
        self.team_ids = match calendar {
            Some(calendar) if calendar.owner_type == calendar::OwnerType::Team => vec![calendar.owner_id.clone()],
            _ if self.visibility == Visibility::Team => auth::teams(),
            _ => Vec::new(),
        };
        Ok(())
    }

    /// Whether it takes place at another time than before.
    pub fn moves(&self, old: &Self) -> bool {
        self.start_time != old.start_time
            || self.end_time != old.end_time
            || self.rrule != old.rrule
            || self.rdates != old.rdates
            || self.exdates != old.exdates
    }

    /// Whether it takes people's time.
    pub fn is_blocking(&self) -> bool {
        self.status != EventStatus::Cancelled && !matches!(self.event_type, EventType::Deadline | EventType::Reminder)
    }

    /// Who is busy with it, its attendees aside: the user it names, else for what people do its organizer.
    pub fn holder(&self) -> Option<&str> {
        match (&self.user_id, self.event_type) {
            (Some(user_id), _) => Some(user_id.as_str()),
            (None, EventType::AgentExecution | EventType::Deployment | EventType::Pto) => None,
            (None, _) => Some(&self.organizer_id),
        }
    }
}

/// The room that a place is, in one spelling: both databases compare it letter for letter.
fn room(place: &str) -> Option<String> {
    let place = place.trim().to_lowercase();
    let is_room = !place.is_empty()
        && place.chars().count() <= ROOM_MAX
        && !place.contains("://")
        && !NO_ROOMS.contains(&place.as_str());
    is_room.then_some(place)
}

/// 403 unless the caller may change the event: who made it, whose it is, and who manages calendars. Attendees answer and no
/// more.
pub fn require_edit(database: &dyn Executor, event: &Stored<Event>) -> Result<()> {
    let caller = auth::principal().user_id;
    let is_own = caller.is_some()
        && (caller.as_deref() == Some(event.organizer_id.as_str())
            || caller == event.created_by
            || caller.as_deref() == event.user_id.as_deref());
    if is_own || auth::has(REMOVE) {
        return Ok(());
    }
    if event.visibility != Visibility::Private
        && let Some(id) = &event.calendar_id
        && let Some(calendar) = entity::find::<calendar::Calendar>(database, id)?
        && calendar.owner_type == calendar::OwnerType::Team
        && calendar.require_write().is_ok()
    {
        return Ok(());
    }
    Err(Problem::forbidden("Attendees answer with /respond; the event is its organizer's to change."))
}

/// 403 where there is no more to see than that somebody is busy.
pub fn require_seen(database: &dyn Executor, row: &Stored<Event>, viewer: &view::Viewer) -> Result<()> {
    let attendees = attendee::of_event(database, &row.id)?;
    if viewer.sees(&view::Entry::of(row, &attendees)) {
        return Ok(());
    }
    Err(Problem::forbidden("It is a private event of others."))
}

/// What is cached of an organization's events is stale once the transaction has committed.
pub fn forget(transaction: &Transaction) {
    transaction.forget(GENERATION);
}

#[cfg(test)]
mod tests {
    use super::room;

    #[test]
    fn a_room_is_a_place_with_a_short_name() {
        assert_eq!(room(" Room 1 ").as_deref(), Some("room 1"));
        for place in ["", "Online", "https://example.com/meet", &"界".repeat(201)] {
            assert_eq!(room(place), None, "{place}");
        }
        assert!(room(&"界".repeat(200)).is_some());
    }
}
