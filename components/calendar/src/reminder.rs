//! Reminders: one row for each event, person, lead and channel. The row says when it fires next; whoever moves it on sends
//! it, so it is sent once however many hosts tick.

use std::{collections::BTreeMap, time::Duration};

use berth_sdk::{events::Message, prelude::*};

use crate::event::{
    self, Event, EventStatus, EventType, Visibility,
    attendee::{self, Answer, Attendee},
};

/// The most reminders that somebody has of one event.
const WISHES_MAX: usize = 10;
/// The longest lead: four weeks.
const MINUTES_MAX: i64 = 40_320;
/// Reminders that are sent together, and how often in one tick: many begin at nine.
const DUE_MAX: usize = 500;
const ROUNDS_MAX: usize = 4;
/// How long ago a reminder may have been due that is set only now, and from when on one that was sent is past that.
const RECENT: Duration = Duration::from_secs(60);
const SETTLED: Duration = Duration::from_secs(61);
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

/// Makes these the reminders of an event. What others who take part have set for themselves stays.
pub fn set(
    transaction: &Transaction,
    row: &Stored<Event>,
    attendees: &[Stored<Attendee>],
    wishes: &[Wish],
) -> Result<()> {
    let everybody: Vec<Id> = event::subject::people(row, attendees).into_iter().map(Id::from).collect();
    let mut wanted: Vec<(&Id, &Wish)> = Vec::new();
    for wish in wishes {
        match &wish.user_id {
            Some(user_id) if everybody.contains(user_id) => wanted.push((user_id, wish)),
            Some(_) => return Err(Problem::field("reminders", "must be for who takes part")),
            None => wanted.extend(everybody.iter().map(|user_id| (user_id, wish))),
        }
    }
    let caller = auth::principal().user_id;
    let is_theirs = |reminder: &Stored<Reminder>| {
        let user_id = Some(reminder.user_id.as_str());
        reminder.created_by.as_deref() == user_id
            && caller.as_deref() != user_id
            && everybody.contains(&reminder.user_id)
    };
    let known = Select::<Reminder>::new().equal("event_id", &row.id).limit(5_000).all(transaction)?;
    replace_known(transaction, row, known, &wanted, is_theirs)
}

/// Makes these one's own reminders of an event.
fn set_own(transaction: &Transaction, row: &Stored<Event>, user_id: &Id, wishes: &[Wish]) -> Result<()> {
    let wanted: Vec<(&Id, &Wish)> = wishes.iter().map(|wish| (user_id, wish)).collect();
    let known = Select::<Reminder>::new().equal("event_id", &row.id).equal("user_id", user_id).all(transaction)?;
    replace_known(transaction, row, known, &wanted, |_| false)
}

/// Those that are wanted again stay, as they may have been sent already; the others go, unless they are kept.
fn replace_known(
    transaction: &Transaction,
    row: &Stored<Event>,
    known: Vec<Stored<Reminder>>,
    wanted: &[(&Id, &Wish)],
    is_kept: impl Fn(&Stored<Reminder>) -> bool,
) -> Result<()> {
    for reminder in known {
        let is_wanted = wanted.iter().any(|(user_id, wish)| {
            **user_id == reminder.user_id
                && wish.minutes_before == reminder.minutes_before
                && wish.channel == reminder.channel
        });
        if is_wanted || is_kept(&reminder) {
            retime(transaction, row, reminder)?;
        } else {
            entity::delete::<Reminder>(transaction, &reminder.id, IfMatch(None))?;
        }
    }
    wanted.iter().try_for_each(|(user_id, wish)| add(transaction, row, user_id, wish))
}

/// Lets a reminder fire at the time that the event has now; not again for what it was sent for.
fn retime(transaction: &Transaction, row: &Stored<Event>, mut reminder: Stored<Reminder>) -> Result<()> {
    let now = clock::now();
    if is_pending(row, &reminder, now) {
        return Ok(());
    }
    let next = next(row, reminder.minutes_before, after(reminder.sent_at, now));
    if next.map(|(due, _)| due) != reminder.due_at {
        reminder.due_at = next.map(|(due, _)| due);
        reminder.occurrence_start = next.map(|(_, start)| start);
        entity::save(transaction, &mut reminder)?;
    }
    Ok(())
}

/// Whether it is due already, for something that still takes place: then it is the timer's to send.
fn is_pending(event: &Event, reminder: &Reminder, now: Timestamp) -> bool {
    let (Some(due), Some(start)) = (reminder.due_at, reminder.occurrence_start) else { return false };
    let takes_place = match event.is_recurring {
        true => event.series().begins_at(start).is_some(),
        false => event.start_time == start,
    };
    due <= now && takes_place && event.status != EventStatus::Cancelled
}

/// From when on the next time is looked for.
fn after(sent_at: Option<Timestamp>, now: Timestamp) -> Timestamp {
    sent_at.map_or(now, |sent| now.max(sent.plus(SETTLED)))
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
    for reminder in rows.iter().cloned() {
        if people.contains(reminder.user_id.as_str()) {
            retime(transaction, row, reminder)?;
        } else {
            entity::delete::<Reminder>(transaction, &reminder.id, IfMatch(None))?;
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
    let since = after.plus(lead).minus(RECENT);
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
    // Whether the caller sees it is asked before the transaction.
    event::require_seen(&Pool, &entity::read::<Event>(&Pool, &id)?, &event::view::Viewer::caller())?;
    database::transaction(|transaction| {
        let row = entity::read::<Event>(transaction, &id)?;
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
    for _ in 0..ROUNDS_MAX {
        if send_due(clock::now())? < DUE_MAX {
            break;
        }
    }
    event::subject::sweep(clock::now())
}

/// Deals with those that are due first; how many there were.
fn send_due(now: Timestamp) -> Result<usize> {
    let due: Vec<Due> = database::query_as(
        &Pool,
        &format!(
            "SELECT id, organization_id AS \"organizationId\", event_id AS \"eventId\", user_id AS \"userId\", \
             minutes_before AS \"minutesBefore\", channel, due_at AS \"dueAt\", occurrence_start AS \"occurrenceStart\" \
             FROM calendar_reminders WHERE due_at <= $1 ORDER BY due_at, id LIMIT {DUE_MAX}"
        ),
        params![now],
    )?;
    let count = due.len();
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
    Ok(count)
}

/// Whether a reminder that is so late goes out: the event takes place, and whom it reminds has not declined.
fn is_sent(late: Duration, status: Option<EventStatus>, response: Option<Answer>) -> bool {
    let takes_place = status.is_some_and(|status| status != EventStatus::Cancelled);
    takes_place && late <= LATE_MAX && response != Some(Answer::Declined)
}

/// Moves one reminder on, and sends it where it is in time and still wanted.
fn fire(due: &Due, row: Option<&Stored<Event>>, attendees: &[Stored<Attendee>], now: Timestamp) -> Result<()> {
    let own = attendees.iter().find(|attendee| attendee.user_id.as_ref() == Some(&due.user_id));
    let is_sent = is_sent(now.since(due.due_at), row.map(|row| row.status), own.map(|own| own.response));
    let after = now.max(due.due_at).plus(SETTLED);
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
    // Events are everybody's: of a private one they do not say what it is.
    let is_private = row.visibility == Visibility::Private;
    let title = if is_private { "Busy" } else { row.title.as_str() };
    let location = row.location.as_ref().filter(|_| !is_private);
    let data = json!({
        "id": row.id, "eventId": row.id, "reminderId": due.id, "title": title, "startTime": due.occurrence_start,
        "eventType": row.event_type, "isMeeting": is_meeting, "location": location, "timezone": row.timezone,
        "minutesBefore": due.minutes_before, "channel": due.channel, "userIds": [&due.user_id], "projectId": row.project_id,
    });
    Ok(Message::new("meeting.reminder", &data)?
        .with_key(row.id.as_str())
        .for_organization(due.organization_id.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::propose::blank;

    #[test]
    fn what_was_sent_is_not_due_again_unless_the_event_moves() {
        let at = |minutes: i64| Timestamp::from_millis(minutes * 60_000);
        let mut event = blank("Ferry".into(), at(100));
        assert_eq!(next(&event, 10, after(None, at(90))), Some((at(90), at(100))), "due just now, and set just now");
        assert_eq!(next(&event, 10, after(Some(at(90)), at(90))), None, "it was sent just now");
        event.start_time = at(200);
        assert_eq!(next(&event, 10, after(Some(at(90)), at(90))), Some((at(190), at(200))));
        event.status = EventStatus::Cancelled;
        assert_eq!(next(&event, 10, after(None, at(0))), None);
    }

    #[test]
    fn a_reminder_goes_out_in_time_to_who_comes() {
        let (soon, quarter) = (Duration::from_secs(5), Duration::from_secs(15 * 60));
        let status = Some(EventStatus::Confirmed);
        assert!(is_sent(soon, status, None) && is_sent(quarter, status, Some(Answer::Accepted)));
        assert!(is_sent(soon, Some(EventStatus::Tentative), Some(Answer::Pending)));
        assert!(!is_sent(quarter + Duration::from_millis(1), status, None), "it is too late");
        assert!(!is_sent(soon, status, Some(Answer::Declined)));
        assert!(!is_sent(soon, Some(EventStatus::Cancelled), None) && !is_sent(soon, None, None));
    }

    #[test]
    fn a_reminder_of_a_private_event_does_not_say_what_it_is() {
        let at = Timestamp::from_millis(0);
        let due = Due {
            id: "r1".into(),
            organization_id: "o1".into(),
            event_id: "e1".into(),
            user_id: "u1".into(),
            minutes_before: 10,
            channel: "in_app".into(),
            due_at: at,
            occurrence_start: at,
        };
        let told = |visibility| {
            let data = Event { visibility, location: Some("Ward 3".into()), ..blank("Surgery".into(), at) };
            let row = Stored {
                id: "e1".into(),
                organization_id: Some("o1".into()),
                created_by: None,
                created_at: at,
                updated_at: at,
                version: 1,
                data,
            };
            news(&due, &row).unwrap().data
        };
        assert!(
            told(Visibility::Organization).contains("Surgery") && told(Visibility::Organization).contains("Ward 3")
        );
        assert!(!told(Visibility::Private).contains("Surgery") && !told(Visibility::Private).contains("Ward 3"));
    }

    #[test]
    fn what_is_due_waits_for_the_timer_while_it_takes_place() {
        let at = |minutes: i64| Timestamp::from_millis(minutes * 60_000);
        let mut event = blank("Ferry".into(), at(100));
        let reminder = Reminder {
            event_id: "e1".into(),
            user_id: "u1".into(),
            minutes_before: 10,
            channel: "in_app".into(),
            sent_at: None,
            due_at: Some(at(90)),
            occurrence_start: Some(at(100)),
        };
        assert!(!is_pending(&event, &reminder, at(89)) && is_pending(&event, &reminder, at(95)));
        event.start_time = at(200);
        assert!(!is_pending(&event, &reminder, at(95)), "it has moved");
        event.start_time = at(100);
        event.status = EventStatus::Cancelled;
        assert!(!is_pending(&event, &reminder, at(95)));
    }
}
