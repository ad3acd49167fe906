//! Reminders: one row for each event, person, lead and channel. The row says when it fires next; whoever moves it on sends
//! it, so it is sent once however many hosts tick.

use std::{collections::BTreeMap, time::Duration};

use berth_sdk::{events::Message, prelude::*};

use crate::event::{
    self, Event, EventStatus, EventType,
    attendee::{self, Answer, Attendee},
};

/// The most reminders that somebody has of one event.
const WISHES_MAX: usize = 10;
/// The longest lead: four weeks.
const MINUTES_MAX: i64 = 40_320;
/// Reminders that one tick sends.
const DUE_MAX: usize = 500;
/// A reminder that is later is not sent any more.
const LATE_MAX: Duration = Duration::from_secs(15 * 60);

/// A reminder of somebody.
#[entity(table = "calendar_reminders", name = "reminder", sort = "minutesBefore")]
pub struct Reminder {
    /// The event.
    #[field(immutable)]
    pub event_id: Id,
    /// Whom it reminds.
    #[field(immutable)]
    pub user_id: Id,
    /// How long before.
    #[field(min = 0, max = 40_320)]
    pub minutes_before: i64,
    /// How, such as `email`; notification-manager decides in the end.
    #[field(default = "in_app", min = 1, max = 50, plain)]
    pub channel: String,
    /// When it was last sent.
    #[field(readonly)]
    pub sent_at: Option<Timestamp>,
    /// When it fires next.
    #[field(readonly)]
    pub due_at: Option<Timestamp>,
    /// The beginning it reminds of.
    #[field(readonly)]
    pub occurrence_start: Option<Timestamp>,
}

impl Rules for Reminder {}

/// A reminder that is wanted.
#[data]
pub struct Wish {
    /// How long before.
    #[field(min = 0, max = 40_320)]
    pub minutes_before: i64,
    /// How.
    #[field(default = "in_app", min = 1, max = 50, plain)]
    pub channel: String,
    /// Whom; everybody who takes part when absent.
    pub user_id: Option<Id>,
}

/// 400 for too many.
pub fn check(wishes: &[Wish], faults: &mut Faults) {
    if wishes.len() > WISHES_MAX {
        faults.add("reminders", format!("must have at most {WISHES_MAX} entries"));
    }
    for (index, wish) in wishes.iter().enumerate() {
        if !(0..=MINUTES_MAX).contains(&wish.minutes_before) {
            faults.add(format!("reminders[{index}].minutesBefore"), format!("must be from 0 to {MINUTES_MAX}"));
        }
    }
}

/// The reminders of an event that the caller may see: their own.
pub fn of_event(database: &dyn Executor, event_id: &Id) -> Result<Vec<Stored<Reminder>>> {
    let Some(user_id) = auth::principal().user_id else { return Ok(Vec::new()) };
    Select::<Reminder>::new().equal("event_id", event_id).equal("user_id", user_id).all(database)
}

/// Makes these the reminders of an event.
pub fn set(
    transaction: &Transaction,
    row: &Stored<Event>,
    attendees: &[Stored<Attendee>],
    wishes: &[Wish],
) -> Result<()> {
    transaction.execute("DELETE FROM calendar_reminders WHERE event_id = $1", params![&row.id])?;
    let everybody: Vec<Id> = event::subject::people(row, attendees).into_iter().map(Id::from).collect();
    for wish in wishes {
        match &wish.user_id {
            Some(user_id) if everybody.contains(user_id) => add(transaction, row, user_id, wish)?,
            Some(_) => return Err(Problem::field("reminders", "must be for who takes part")),
            None => everybody.iter().try_for_each(|user_id| add(transaction, row, user_id, wish))?,
        }
    }
    Ok(())
}

/// Makes these one's own reminders of an event.
fn set_own(transaction: &Transaction, row: &Stored<Event>, user_id: &Id, wishes: &[Wish]) -> Result<()> {
    transaction
        .execute("DELETE FROM calendar_reminders WHERE event_id = $1 AND user_id = $2", params![&row.id, user_id])?;
    wishes.iter().try_for_each(|wish| add(transaction, row, user_id, wish))
}

fn add(transaction: &Transaction, row: &Stored<Event>, user_id: &Id, wish: &Wish) -> Result<()> {
    let next = next(row, wish.minutes_before, clock::now());
    let now = clock::now();
    transaction.execute(
        "INSERT INTO calendar_reminders (id, organization_id, created_by, created_at, updated_at, version, event_id, user_id, \
         minutes_before, channel, due_at, occurrence_start) VALUES ($1, $2, $3, $4, $4, 1, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (event_id, user_id, minutes_before, channel) DO NOTHING",
        params![
            Id::new(),
            &row.organization_id,
            auth::principal().user_id,
            now,
            &row.id,
            user_id,
            wish.minutes_before,
            wish.channel.as_str(),
            next.map(|(due, _)| due),
            next.map(|(_, start)| start)
        ],
    )?;
    Ok(())
}

/// After a change of an event: who is not in it any more is not reminded, who is new is as its organizer is, and all at the
/// right time.
pub fn follow(
    transaction: &Transaction,
    row: &Stored<Event>,
    attendees: &[Stored<Attendee>],
    wishes: Option<&[Wish]>,
) -> Result<()> {
    if let Some(wishes) = wishes {
        return set(transaction, row, attendees, wishes);
    }
    let people = event::subject::people(row, attendees);
    let rows = Select::<Reminder>::new().equal("event_id", &row.id).limit(5_000).all(transaction)?;
    let organizers: Vec<Wish> =
        rows.iter().filter(|reminder| *reminder.user_id == *row.organizer_id).map(wish).collect();
    let now = clock::now();
    for mut reminder in rows.iter().cloned() {
        if !people.contains(reminder.user_id.as_str()) {
            entity::delete::<Reminder>(transaction, &reminder.id, IfMatch(None))?;
            continue;
        }
        let next = next(row, reminder.minutes_before, now);
        if next.map(|(due, _)| due) != reminder.due_at {
            reminder.due_at = next.map(|(due, _)| due);
            reminder.occurrence_start = next.map(|(_, start)| start);
            entity::save(transaction, &mut reminder)?;
        }
    }
    let known: Vec<&str> = rows.iter().map(|reminder| reminder.user_id.as_str()).collect();
    for user_id in people.iter().filter(|user_id| !known.contains(&user_id.as_str())) {
        let user_id = Id::from(user_id.as_str());
        organizers.iter().try_for_each(|wish| add(transaction, row, &user_id, wish))?;
    }
    Ok(())
}

/// The same reminders for another event.
pub fn copy(transaction: &Transaction, from: &Id, to: &Stored<Event>) -> Result<()> {
    for reminder in Select::<Reminder>::new().equal("event_id", from).limit(5_000).all(transaction)? {
        add(transaction, to, &reminder.user_id, &wish(&reminder))?;
    }
    Ok(())
}

fn wish(reminder: &Stored<Reminder>) -> Wish {
    Wish { minutes_before: reminder.minutes_before, channel: reminder.channel.clone(), user_id: None }
}

/// When a reminder fires next after a moment, and for which beginning.
fn next(event: &Event, minutes_before: i64, after: Timestamp) -> Option<(Timestamp, Timestamp)> {
    if event.status == EventStatus::Cancelled {
        return None;
    }
    let lead = Duration::from_secs(u64::try_from(minutes_before).unwrap_or_default() * 60);
    // What is already begun needs no reminder; what is due a moment ago still does.
    let since = after.plus(lead).minus(Duration::from_secs(60));
    let start = if event.is_recurring {
        event.series().next(since)?.start
    } else {
        Some(event.start_time).filter(|start| *start > since)?
    };
    Some((start.minus(lead), start))
}

/// `GET /api/calendar/events/{id}/reminders`: one's own.
pub fn list(Params(id): Params<Id>) -> Result<Json<Vec<Stored<Reminder>>>> {
    let (id, _) = event::view::parse_id(&id);
    let row = entity::read::<Event>(&Pool, &id)?;
    of_event(&Pool, &row.id).map(Json)
}

/// One's own reminders of an event.
#[data]
pub struct Wishes {
    /// All of them.
    #[field(max = 10)]
    reminders: Vec<Wish>,
}

/// `PUT /api/calendar/events/{id}/reminders`: one's own, all of them.
pub fn replace(Params(id): Params<Id>, Json(input): Json<Wishes>) -> Result<Json<Vec<Stored<Reminder>>>> {
    let (id, _) = event::view::parse_id(&id);
    let user_id = auth::user_id()?;
    database::transaction(|transaction| {
        let row = entity::read::<Event>(transaction, &id)?;
        event::require_seen(transaction, &row, &event::view::Viewer::caller())?;
        set_own(transaction, &row, &user_id, &input.reminders)?;
        of_event(transaction, &row.id).map(Json)
    })
}

/// A reminder that is due.
#[data]
struct Due {
    id: Id,
    organization_id: Id,
    event_id: Id,
    user_id: Id,
    minutes_before: i64,
    channel: String,
    due_at: Timestamp,
    occurrence_start: Timestamp,
}

/// The timer `reminders`.
pub fn tick(_: &Envelope) -> Result<()> {
    let now = clock::now();
    let due: Vec<Due> = database::query_as(
        &Pool,
        &format!(
            "SELECT id, organization_id AS \"organizationId\", event_id AS \"eventId\", user_id AS \"userId\", \
             minutes_before AS \"minutesBefore\", channel, due_at AS \"dueAt\", occurrence_start AS \"occurrenceStart\" \
             FROM calendar_reminders WHERE due_at <= $1 ORDER BY due_at, id LIMIT {DUE_MAX}"
        ),
        params![now],
    )?;
    let mut organizations: BTreeMap<Id, Vec<Due>> = BTreeMap::new();
    for reminder in due {
        organizations.entry(reminder.organization_id.clone()).or_default().push(reminder);
    }
    for (organization_id, due) in organizations {
        let ids: std::collections::BTreeSet<&Id> = due.iter().map(|reminder| &reminder.event_id).collect();
        let rows =
            Select::<Event>::new().of_organization(&organization_id).one_of("id", ids.iter().copied()).all(&Pool)?;
        let attendees = attendee::of_events(&Pool, &organization_id, ids.iter().copied())?;
        for reminder in &due {
            let row = rows.iter().find(|row| row.id == reminder.event_id);
            let coming = attendees.get(&reminder.event_id).map(Vec::as_slice).unwrap_or_default();
            fire(reminder, row, coming, now)?;
        }
    }
    Ok(())
}

/// Moves one reminder on, and sends it where it is in time and still wanted.
fn fire(due: &Due, row: Option<&Stored<Event>>, attendees: &[Stored<Attendee>], now: Timestamp) -> Result<()> {
    let is_wanted = |attendee: &Stored<Attendee>| {
        attendee.user_id.as_ref() != Some(&due.user_id) || attendee.response != Answer::Declined
    };
    let is_sent = row.is_some_and(|row| row.status != EventStatus::Cancelled)
        && now.since(due.due_at) <= LATE_MAX
        && attendees.iter().all(is_wanted);
    let after = now.max(due.due_at).plus(Duration::from_secs(61));
    let next = row.filter(|row| row.is_recurring).and_then(|row| next(row, due.minutes_before, after));
    // A later occurrence only: the one that was just dealt with is not looked at again.
    let next = next.filter(|(_, start)| *start > due.occurrence_start);
    database::transaction(|transaction| {
        let sent = if is_sent { ", sent_at = $5" } else { "" };
        let changed = transaction.execute(
            &format!(
                "UPDATE calendar_reminders SET due_at = $3, occurrence_start = $4, updated_at = $5{sent}, \
                 version = version + 1 WHERE id = $1 AND due_at = $2"
            ),
            params![&due.id, due.due_at, next.map(|(due, _)| due), next.map(|(_, start)| start), now],
        )?;
        if let (1, true, Some(row)) = (changed, is_sent, row) {
            transaction.send(&news(due, row)?)?;
        }
        Ok(())
    })
}

fn news(due: &Due, row: &Stored<Event>) -> Result<Message> {
    let is_meeting = row.event_type == EventType::Meeting;
    let data = json!({
        "id": row.id, "eventId": row.id, "reminderId": due.id, "title": row.title, "startTime": due.occurrence_start,
        "eventType": row.event_type, "isMeeting": is_meeting, "location": row.location, "timezone": row.timezone,
        "minutesBefore": due.minutes_before, "channel": due.channel, "userIds": [&due.user_id], "projectId": row.project_id,
    });
    Ok(Message::new("meeting.reminder", &data)?
        .with_key(row.id.as_str())
        .for_organization(due.organization_id.as_str()))
}
