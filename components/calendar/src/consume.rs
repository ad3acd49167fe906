//! What other services tell, as events: incidents, releases, reviews, time off, sessions of pairs.

use std::time::Duration;

use berth_sdk::{
    prelude::*,
    serde_json::{self, Value},
};
use chrono::NaiveDate;

use crate::{
    event::{
        Event, EventStatus, EventType,
        attendee::Invitation,
        create::{Extras, changed, create_told},
        forget,
    },
    plan::propose::blank,
    zone,
};

const HOUR: Duration = Duration::from_secs(3_600);
const HALF_AN_HOUR: Duration = Duration::from_secs(1_800);
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// The longest name that is taken over, in characters.
const TITLE_MAX: usize = 300;

/// What an event carries, whatever its members are called.
struct Told(Value);

impl Told {
    fn of(envelope: &Envelope) -> Result<Self> {
        envelope.data::<serde_json::Map<String, Value>>().map(|data| Self(Value::Object(data)))
    }

    fn text(&self, names: &[&str]) -> Option<String> {
        let found = names.iter().find_map(|name| self.0.get(*name).and_then(Value::as_str))?;
        (!found.is_empty()).then(|| found.to_string())
    }

    fn id(&self, names: &[&str]) -> Option<Id> {
        self.text(names).and_then(|id| Id::parse(id).ok())
    }

    fn time(&self, names: &[&str]) -> Option<Timestamp> {
        self.text(names).and_then(|text| Timestamp::parse(&text))
    }

    /// A day: a date, or the date of a moment.
    fn day(&self, names: &[&str]) -> Option<NaiveDate> {
        let text = self.text(names)?;
        text.get(..10).unwrap_or(&text).parse().ok()
    }

    fn title(&self, before: &str) -> String {
        let name = self.text(&["title", "name"]).unwrap_or_default();
        let plain: String = validate::clean_plain(&format!("{before}{name}")).chars().take(TITLE_MAX).collect();
        if plain.is_empty() { "Event".into() } else { plain }
    }

    /// The people that a member lists: ids, or objects with a `userId`.
    fn people(&self, names: &[&str]) -> Vec<Id> {
        let list = names.iter().find_map(|name| self.0.get(*name).and_then(Value::as_array));
        let id = |entry: &Value| entry.as_str().or_else(|| entry.get("userId").and_then(Value::as_str)).map(Id::parse);
        list.into_iter().flatten().filter_map(|entry| id(entry)?.ok()).take(200).collect()
    }
}

fn origin(kind: &str, id: &Id) -> Option<String> {
    Some(format!("{kind}:{id}"))
}

fn organizer(told: Option<Id>, envelope: &Envelope) -> String {
    told.map(Id::into_string).or_else(|| envelope.user_id.clone()).unwrap_or_else(|| "system".into())
}

fn keep(envelope: &Envelope, event: Event, people: Vec<Id>) -> Result<()> {
    let invitations = people.into_iter().map(|id| Invitation { user_id: Some(id), email: None, is_required: true });
    database::transaction(|transaction| {
        if transaction.once(&envelope.id)? {
            create_told(transaction, event, invitations.collect())?;
        }
        Ok(())
    })
}

/// `incident.created`: somebody works on it now.
pub fn incident(envelope: &Envelope) -> Result<()> {
    let told = Told::of(envelope)?;
    let Some(id) = told.id(&["incidentId", "id"]) else { return Ok(()) };
    let start = told.time(&["declaredAt"]).unwrap_or_else(clock::now);
    let by = told.id(&["assigneeId", "declaredBy", "createdBy"]);
    let mut event = Event { origin: origin("incident", &id), ..blank(told.title("Incident: "), start) };
    event.project_id = told.id(&["projectId"]);
    event.organizer_id = organizer(by, envelope);
    event.metadata.insert("incidentId".into(), id.as_str().into());
    event.metadata.insert("severity".into(), told.0.get("severity").cloned().unwrap_or_default());
    keep(envelope, event, Vec::new())
}

/// `release.created`: a deployment, where it is planned when.
pub fn release(envelope: &Envelope) -> Result<()> {
    let told = Told::of(envelope)?;
    let (Some(id), Some(start)) = (told.id(&["releaseId", "id"]), told.time(&["plannedStart", "releaseDate"])) else {
        return Ok(());
    };
    let version = told.text(&["version"]).map(|version| format!(" {version}")).unwrap_or_default();
    let title = format!("{}{version}", told.title("Release: "));
    let mut event = Event { origin: origin("release", &id), ..blank(validate::clean_plain(&title), start) };
    event.end_time = told.time(&["plannedEnd"]).filter(|end| *end > start).unwrap_or_else(|| start.plus(HOUR));
    event.end_time = event.end_time.min(start.plus(DAY * 30));
    event.event_type = EventType::Deployment;
    event.status = EventStatus::Tentative;
    event.project_id = told.id(&["projectId"]);
    event.environment_name = told.text(&["environment"]);
    event.organizer_id = organizer(told.id(&["createdBy"]), envelope);
    event.metadata.insert("releaseId".into(), id.as_str().into());
    keep(envelope, event, Vec::new())
}

/// `review.requested`: half an hour for who is asked, before it is due; without a date within a day, as a proposal.
pub fn review(envelope: &Envelope) -> Result<()> {
    let told = Told::of(envelope)?;
    let Some(id) = told.id(&["reviewId", "id"]) else { return Ok(()) };
    let due = told.time(&["dueDate"]);
    let end = due.unwrap_or_else(|| clock::now().plus(DAY));
    let mut event = Event { origin: origin("review", &id), ..blank(told.title("Review: "), end.minus(HALF_AN_HOUR)) };
    event.end_time = end;
    event.event_type = EventType::Review;
    event.status = if due.is_some() { EventStatus::Confirmed } else { EventStatus::Tentative };
    event.project_id = told.id(&["projectId"]);
    event.user_id = told.id(&["assignedTo", "reviewerId"]);
    event.organizer_id = organizer(told.id(&["requestedBy", "createdBy"]), envelope);
    event.metadata.insert("reviewId".into(), id.as_str().into());
    keep(envelope, event, Vec::new())
}

/// `capacity.timeoff.approved`: whole days, the last one with them.
pub fn time_off(envelope: &Envelope) -> Result<()> {
    let told = Told::of(envelope)?;
    let (Some(id), Some(user_id)) = (told.id(&["timeOffId", "id"]), told.id(&["userId"])) else { return Ok(()) };
    let (Some(first), Some(last)) = (told.day(&["startDate", "start"]), told.day(&["endDate", "end"])) else {
        return Ok(());
    };
    let name = told.text(&["timezone"]).filter(|name| zone::parse(name).is_some()).unwrap_or_else(|| "UTC".into());
    let zone = zone::parse(&name).unwrap_or(chrono_tz::Tz::UTC);
    let kind = told.text(&["kind"]).unwrap_or_else(|| "vacation".into());
    let start = zone::midnight(zone, first);
    let mut event = Event { origin: origin("timeoff", &id), ..blank("Time off".into(), start) };
    // What kind of absence it is concerns nobody: a holiday is a holiday, and the rest is time off.
    if kind == "holiday" {
        event.title = "Holiday".into();
    }
    let last = last.max(first).min(first.checked_add_days(chrono::Days::new(364)).unwrap_or(first));
    event.end_time = zone::midnight(zone, last.succ_opt().unwrap_or(last));
    event.all_day = true;
    event.timezone = name;
    event.event_type = EventType::Pto;
    event.organizer_id = user_id.to_string();
    event.user_id = Some(user_id);
    event.metadata.insert("timeOffId".into(), id.as_str().into());
    keep(envelope, event, Vec::new())
}

/// `capacity.timeoff.cancelled`: it does not take place.
pub fn time_off_cancelled(envelope: &Envelope) -> Result<()> {
    let Some(id) = Told::of(envelope)?.id(&["timeOffId", "id"]) else { return Ok(()) };
    withdraw(envelope, &format!("timeoff:{id}"))
}

/// What another service has told of and takes back.
fn withdraw(envelope: &Envelope, origin: &str) -> Result<()> {
    database::transaction(|transaction| {
        let known = Select::<Event>::new().equal("origin", origin).first(transaction)?;
        let known = known.filter(|known| known.status != EventStatus::Cancelled);
        let (Some(old), true) = (known, transaction.once(&envelope.id)?) else { return Ok(()) };
        let mut row = old.clone();
        row.status = EventStatus::Cancelled;
        entity::save(transaction, &mut row)?;
        changed(transaction, &old, row, &Extras::default(), None)?;
        Ok(())
    })
}

/// `pairing.session.*`: a session is a meeting of its people; it begins and ends when they do, and is cancelled with it. One
/// without a time is in nobody's calendar until it begins.
pub fn pairing(envelope: &Envelope) -> Result<()> {
    let told = Told::of(envelope)?;
    let Some(id) = told.id(&["sessionId", "id"]) else { return Ok(()) };
    let is_end = envelope.message_type.ends_with(".ended");
    let is_start = envelope.message_type.ends_with(".started");
    let is_plan = envelope.message_type.ends_with(".scheduled");
    if !is_end && !is_start && !is_plan {
        return Ok(());
    }
    let is_cancelled = is_end && told.text(&["status"]).as_deref() == Some("cancelled");
    if is_cancelled || (is_plan && told.time(&["scheduledAt"]).is_none()) {
        return withdraw(envelope, &format!("pairing:{id}"));
    }
    let names: &[&str] = match (is_start, is_end) {
        (true, _) => &["startedAt", "scheduledAt"],
        (_, true) => &["endedAt"],
        _ => &["scheduledAt"],
    };
    let at = told.time(names).unwrap_or_else(clock::now);
    let minutes = told.0.get("durationMinutes").and_then(Value::as_u64).unwrap_or(60).clamp(1, 24 * 60);
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        let known = Select::<Event>::new().equal("origin", format!("pairing:{id}")).first(transaction)?;
        match known {
            None if is_end => Ok(()),
            None => {
                let event = session(&told, &id, at, minutes, is_start, envelope);
                let mut people = told.people(&["participantIds", "participants"]);
                people.extend(["driverId", "navigatorId"].iter().filter_map(|name| told.id(&[name])));
                people.sort();
                people.dedup();
                let invitations =
                    people.into_iter().map(|id| Invitation { user_id: Some(id), email: None, is_required: true });
                create_told(transaction, event, invitations.collect()).map(|_| ())
            }
            Some(old) => {
                let mut row = old.clone();
                if is_start {
                    row.actual_start = row.actual_start.or(Some(at));
                } else if is_end {
                    row.actual_start = row.actual_start.or(Some(row.start_time.min(at)));
                    row.actual_end = Some(at);
                } else {
                    row.start_time = at;
                    row.end_time = at.plus(Duration::from_secs(minutes * 60));
                    row.title = told.title("");
                    // It may have lost its time, and found another one.
                    row.status = EventStatus::Confirmed;
                    row.data.settle();
                }
                entity::save(transaction, &mut row)?;
                if row.moves(&old) || row.status != old.status {
                    changed(transaction, &old, row, &Extras::default(), None)?;
                }
                forget(transaction);
                Ok(())
            }
        }
    })
}

fn session(told: &Told, id: &Id, at: Timestamp, minutes: u64, is_started: bool, envelope: &Envelope) -> Event {
    let mut event = Event { origin: origin("pairing", id), ..blank(told.title(""), at) };
    event.end_time = at.plus(Duration::from_secs(minutes * 60));
    event.event_type = EventType::Meeting;
    event.project_id = told.id(&["projectId"]);
    event.actual_start = Some(at).filter(|_| is_started);
    event.organizer_id = organizer(told.id(&["createdBy", "hostId", "driverId"]), envelope);
    event.metadata.insert("sessionId".into(), id.as_str().into());
    event
}
