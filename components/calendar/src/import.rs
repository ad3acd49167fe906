//! `POST /api/calendar/import`: the events of an iCalendar file become the caller's. What was imported before is updated.

use std::collections::BTreeMap;

use berth_sdk::{prelude::*, serde_json};

use crate::{
    calendar, environment,
    event::{
        Event, Visibility,
        attendee::{self, Attendee},
        create::publish,
        forget, subject,
    },
    ical::read::{self, Read},
    reminder, zone,
};

/// What an event that was imported before takes over; the rest is as it was made here.
const TAKEN: [&str; 13] = [
    "calendarId",
    "title",
    "description",
    "location",
    "startTime",
    "endTime",
    "allDay",
    "timezone",
    "status",
    "rrule",
    "rdates",
    "exdates",
    "visibility",
];

/// Environments of events in one file that planning is asked for.
const ENVIRONMENTS_MAX: usize = 20;

/// Where the events go.
#[data]
struct Where {
    /// The calendar they go into.
    calendar_id: Option<Id>,
    /// What times without a zone mean; the calendar's own, or UTC.
    #[field(max = 64, format = "timezone")]
    timezone: Option<String>,
}

/// A file inside a JSON body.
#[data]
struct Wrapped {
    /// The file's text.
    #[field(raw, max = 2_097_152)]
    content: String,
    calendar_id: Option<Id>,
    #[field(max = 64, format = "timezone")]
    timezone: Option<String>,
}

/// What was left out.
#[data]
struct Skipped {
    uid: String,
    reason: String,
}

/// What was done.
#[data]
struct Imported {
    /// Events that are new.
    created: usize,
    /// Events that were there already.
    updated: usize,
    /// Events that were left out, and why.
    skipped: Vec<Skipped>,
    event_ids: Vec<Id>,
}

/// The route.
pub fn routes() -> Router {
    Router::new().post("/api/calendar/import", import).summary("Import an iCalendar file.")
}

/// The body is `text/calendar`, or JSON with `content`.
fn import(Query(place): Query<Where>, request: Request) -> Result<Json<Imported>> {
    let (text, place) = contents(request, place)?;
    let calendar = place.calendar_id.as_ref().map(|id| calendar::of_event(&Pool, id)).transpose()?;
    let name = place.timezone.or_else(|| calendar.map(|calendar| calendar.timezone.clone())).unwrap_or_default();
    let floating =
        zone::parse(&name).ok_or_else(|| Problem::field("timezone", "must be a time zone such as Europe/Berlin"))?;
    let contents = read::read(&text, floating)?;
    let known = known(&Pool, &contents.events)?;
    let surroundings = Surroundings::of(known.values())?;
    let mut skipped: Vec<Skipped> =
        contents.skipped.into_iter().map(|(uid, reason)| Skipped { uid, reason: format!("It {reason}.") }).collect();
    let (created, updated, event_ids) = database::transaction(|transaction| {
        store(transaction, contents.events, (place.calendar_id.as_ref(), &surroundings), &mut skipped)
    })?;
    Ok(Json(Imported { created, updated, skipped, event_ids }))
}

fn contents(request: Request, place: Where) -> Result<(String, Where)> {
    if request.body.len() > read::BYTES_MAX * 2 {
        return Err(Problem::too_large(format!("A calendar has at most {} bytes.", read::BYTES_MAX)));
    }
    let media_type = request.header("content-type").unwrap_or_default().to_ascii_lowercase();
    if media_type.starts_with("application/json") {
        let mut request = request;
        let Json(wrapped) = <Json<Wrapped> as berth_sdk::http::FromRequest>::from_request(&mut request)?;
        let place = Where {
            calendar_id: wrapped.calendar_id.or(place.calendar_id),
            timezone: wrapped.timezone.or(place.timezone),
        };
        return Ok((wrapped.content, place));
    }
    if !media_type.is_empty() && !media_type.starts_with("text/") && !media_type.starts_with("application/octet-stream")
    {
        return Err(Problem::unsupported_media_type("The body must be text/calendar, or JSON with `content`."));
    }
    let text = String::from_utf8(request.body).map_err(|_| Problem::bad_request("The body must be text in UTF-8."))?;
    Ok((text, place))
}

/// Writes series first and what stands apart from them after.
fn store(
    transaction: &Transaction,
    events: Vec<Read>,
    (calendar_id, surroundings): (Option<&Id>, &Surroundings),
    skipped: &mut Vec<Skipped>,
) -> Result<(usize, usize, Vec<Id>)> {
    subject::hold_imports(transaction, &auth::user_id()?)?;
    let mut known = known(transaction, &events)?;
    let (apart, whole): (Vec<Read>, Vec<Read>) = events.into_iter().partition(|event| event.recurrence_id.is_some());
    let (mut created, mut updated, mut ids) = (0, 0, Vec::new());
    for event in whole.into_iter().chain(apart) {
        let (uid, place) = (event.uid.clone(), (event.uid.clone(), event.recurrence_id));
        let before = known.get(&place).cloned();
        match one(transaction, event, (calendar_id, surroundings), before, &known) {
            Ok(row) => {
                if known.insert(place, row.clone()).is_some() {
                    updated += 1
                } else {
                    created += 1
                }
                ids.push(row.id.clone());
            }
            // What the database refuses ends it all; what the rules refuse is one event less.
            Err(problem) if problem.status >= 500 => return Err(problem),
            Err(problem) => skipped.push(Skipped { uid, reason: problem.detail }),
        }
    }
    forget(transaction);
    Ok((created, updated, ids))
}

type Known = BTreeMap<(String, Option<Timestamp>), Stored<Event>>;

/// What the caller has imported before.
fn known(database: &dyn Executor, events: &[Read]) -> Result<Known> {
    let user_id = auth::user_id()?;
    let uids: std::collections::BTreeSet<&str> = events.iter().map(|event| event.uid.as_str()).collect();
    let uids: Vec<&str> = uids.into_iter().collect();
    let mut known = Known::new();
    for uids in uids.chunks(400) {
        let rows = Select::<Event>::new()
            .one_of("uid", uids.iter().copied())
            .equal("organizer_id", &user_id)
            .limit(5_000)
            .all(database)?;
        known.extend(rows.into_iter().map(|row| ((row.uid.clone(), row.recurrence_id), row)));
    }
    Ok(known)
}

fn one(
    transaction: &Transaction,
    event: Read,
    (calendar_id, surroundings): (Option<&Id>, &Surroundings),
    before: Option<Stored<Event>>,
    known: &Known,
) -> Result<Stored<Event>> {
    let attendees = event.attendees.clone();
    let series = match event.recurrence_id {
        None => None,
        Some(_) => Some(
            known
                .get(&(event.uid.clone(), None))
                .cloned()
                .ok_or_else(|| Problem::unprocessable("It is one occurrence of a series that is not in the file."))?,
        ),
    };
    let apart: Vec<Timestamp> =
        known.keys().filter(|(uid, _)| *uid == event.uid).filter_map(|(_, start)| *start).collect();
    let mut data = data(event, calendar_id, before.as_ref(), &apart);
    data.visibility = visibility(data.visibility, before.as_ref().or(series.as_ref()).map(|row| row.visibility));
    data.recurrence_parent_id = series.as_ref().map(|series| series.id.clone());
    let row = match before {
        None => entity::create(transaction, data)?,
        Some(before) => {
            require_window(transaction, &before, &data, surroundings)?;
            let Ok(serde_json::Value::Object(mut patch)) = serde_json::to_value(&data) else {
                return Err(Problem::internal());
            };
            patch.retain(|name, _| TAKEN.contains(&name.as_str()));
            entity::update(transaction, &before.id, &patch, IfMatch(None))?
        }
    };
    if let (Some(mut series), Some(start)) = (series, row.recurrence_id)
        && !series.exdates.contains(&start)
        && series.exdates.len() < crate::event::DATES_MAX
    {
        // An earlier event of this file may have changed the series in the meantime.
        if let Some(fresh) = entity::find::<Event>(transaction, &series.id)? {
            series = fresh;
        }
        series.exdates.push(start);
        series.data.settle();
        entity::save(transaction, &mut series)?;
    }
    let coming = invite(transaction, &row.id, attendees)?;
    reminder::follow(transaction, &row, &coming, None)?;
    let kind = if row.version == 1 { "calendar.event.created" } else { "calendar.event.updated" };
    publish(transaction, kind, &row, &coming, json!({ "isImported": true }))?;
    Ok(row)
}

/// A file knows private and public alone: it narrows what an event was, or its series, and never widens it.
fn visibility(read: Visibility, known: Option<Visibility>) -> Visibility {
    match known {
        Some(known) if read != Visibility::Private => known,
        _ => read,
    }
}

/// What planning says of the environments of events that were imported before, by what an event tells of its own.
struct Surroundings(BTreeMap<Place, Option<environment::Known>>);

/// The id, the project and the name of an environment.
type Place = (Option<Id>, Option<Id>, Option<String>);

impl Surroundings {
    /// Asks planning, before the transaction.
    fn of<'a>(events: impl Iterator<Item = &'a Stored<Event>>) -> Result<Self> {
        let mut found = BTreeMap::new();
        for event in events {
            if let Some(place) = Self::place(event).filter(|place| !found.contains_key(place))
                && found.len() < ENVIRONMENTS_MAX
            {
                found.insert(place, environment::ask(&serde_json::Map::new(), Some(event))?);
            }
        }
        Ok(Self(found))
    }

    fn place(event: &Event) -> Option<Place> {
        let (project_id, id, name, _) = environment::concerns(event);
        (id.is_some() || project_id.is_some() && name.is_some())
            .then(|| (id.cloned(), project_id.cloned(), name.map(ToString::to_string)))
    }

    /// What planning says of an event's environment, where it has one; 422 when it was not asked.
    fn known(&self, event: &Event) -> Result<Option<&environment::Known>> {
        let Some(place) = Self::place(event) else { return Ok(None) };
        let detail = "Its environment is one of too many in the file to be asked for; import fewer events at once.";
        Ok(self.0.get(&place).ok_or_else(|| Problem::unprocessable(detail))?.as_ref())
    }
}

/// 422 for a new time at which the event's environment must not be used: importing is no way round that.
fn require_window(
    transaction: &Transaction,
    before: &Stored<Event>,
    read: &Event,
    surroundings: &Surroundings,
) -> Result<()> {
    let mut moved = Event {
        start_time: read.start_time,
        end_time: read.end_time,
        all_day: read.all_day,
        timezone: read.timezone.clone(),
        rrule: read.rrule.clone(),
        rdates: read.rdates.clone(),
        exdates: read.exdates.clone(),
        ..before.data.clone()
    };
    moved.settle();
    if !moved.moves(before) {
        return Ok(());
    }
    environment::require(transaction, &moved, surroundings.known(before)?)
}

fn data(event: Read, calendar_id: Option<&Id>, before: Option<&Stored<Event>>, apart: &[Timestamp]) -> Event {
    let mut exdates = event.exdates;
    if event.recurrence_id.is_none() {
        exdates.extend_from_slice(apart);
    }
    Event {
        calendar_id: calendar_id.cloned().or_else(|| before.and_then(|row| row.calendar_id.clone())),
        project_id: None,
        user_id: None,
        agent_id: None,
        environment_id: None,
        environment_name: None,
        title: event.title,
        description: event.description,
        location: event.location,
        start_time: event.start,
        end_time: event.end,
        all_day: event.all_day,
        timezone: event.zone.name().into(),
        event_type: event.event_type,
        status: event.status,
        plan_id: None,
        plan_step_id: None,
        time_rules: None,
        rrule: event.rrule.filter(|_| event.recurrence_id.is_none()),
        rdates: event.rdates,
        exdates,
        recurrence_parent_id: None,
        recurrence_id: event.recurrence_id,
        visibility: event.visibility,
        organizer_id: String::new(),
        metadata: serde_json::Map::new(),
        uid: event.uid,
        sequence: event.sequence,
        actual_start: None,
        actual_end: None,
        is_recurring: false,
        until_time: event.end,
        last_start: None,
        team_ids: Vec::new(),
        origin: None,
        room: None,
    }
}

/// A user may be told by an address alone.
fn is_same(one: &Attendee, other: &Attendee) -> bool {
    let has_address = |email: &String| other.email.as_ref().is_some_and(|other| other.eq_ignore_ascii_case(email));
    (one.user_id.is_some() && one.user_id == other.user_id) || one.email.as_ref().is_some_and(has_address)
}

fn invite(
    transaction: &Transaction,
    event_id: &Id,
    people: Vec<(Option<Id>, Option<String>, attendee::Answer, bool)>,
) -> Result<Vec<Stored<Attendee>>> {
    let before = attendee::of_event(transaction, event_id)?;
    let mut new: Vec<Attendee> = people
        .into_iter()
        .map(|(user_id, email, response, is_required)| Attendee {
            event_id: event_id.clone(),
            user_id,
            email,
            response,
            is_required,
        })
        .collect();
    new.retain(|attendee| !before.iter().any(|row| is_same(row, attendee)));
    new.truncate(attendee::ATTENDEES_MAX.saturating_sub(before.len()));
    for attendee in new {
        entity::create(transaction, attendee)?;
    }
    attendee::of_event(transaction, event_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_never_shows_an_event_to_more_people() {
        use Visibility::{Organization, Private, Team};
        for known in [Private, Team, Organization] {
            assert_eq!(visibility(Organization, Some(known)), known);
            assert_eq!(visibility(Private, Some(known)), Private);
        }
        assert_eq!((visibility(Organization, None), visibility(Private, None)), (Organization, Private));
    }

    #[test]
    fn what_planning_was_not_asked_for_is_not_moved() {
        let at = Timestamp::from_millis(0);
        let mut event = crate::plan::propose::blank("Ferry".into(), at);
        let nothing = Surroundings(BTreeMap::new());
        assert!(nothing.known(&event).unwrap().is_none(), "it has no environment");
        event.environment_name = Some("production".into());
        assert!(nothing.known(&event).unwrap().is_none(), "nor a project's");
        event.project_id = Some("p1".into());
        assert_eq!(nothing.known(&event).unwrap_err().status, 422);
    }

    #[test]
    fn somebody_who_is_told_by_an_address_is_the_same() {
        let attendee = |user: Option<&str>, email: Option<&str>| Attendee {
            event_id: "e1".into(),
            user_id: user.map(Id::from),
            email: email.map(Into::into),
            response: attendee::Answer::Pending,
            is_required: true,
        };
        let known = attendee(Some("u1"), Some("Ada@example.com"));
        assert!(
            is_same(&known, &attendee(None, Some("ada@example.com"))) && is_same(&known, &attendee(Some("u1"), None))
        );
        assert!(
            !is_same(&known, &attendee(Some("u2"), None)) && !is_same(&known, &attendee(None, Some("b@example.com")))
        );
        assert!(!is_same(&attendee(Some("u1"), None), &attendee(None, Some("ada@example.com"))));
    }
}
