//! Making events, by people and from what other services tell; and what the world learns of them.

use berth_sdk::{
    events::Message,
    prelude::*,
    serde_json::{Map, Value},
};

use super::{
    Event, EventStatus, EventType, Visibility, attendee,
    attendee::{Attendee, Invitation},
    forget, subject,
    view::{Entry, Viewer},
};
use crate::{
    calendar,
    conflict::{self, Conflict},
    environment::{self, Known},
    reminder::{self, Wish},
};

/// What comes with an event and is not its own.
#[data]
#[derive(Default)]
pub struct Extras {
    /// Who is invited.
    pub attendees: Option<Vec<Invitation>>,
    /// Who is reminded, and when.
    pub reminders: Option<Vec<Wish>>,
    /// 409 instead of a conflict.
    #[field(default)]
    pub reject_on_conflict: bool,
}

impl Extras {
    /// 400 with every fault.
    pub fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        attendee::check(self.attendees.as_deref().unwrap_or_default(), &mut faults);
        reminder::check(self.reminders.as_deref().unwrap_or_default(), &mut faults);
        faults.finish()
    }
}

/// An event with everything that hangs on it.
pub struct Whole {
    /// The row.
    pub row: Stored<Event>,
    /// Who takes part.
    pub attendees: Vec<Stored<Attendee>>,
    /// What it is in the way of.
    pub conflicts: Vec<Stored<Conflict>>,
}

impl Whole {
    /// As it is answered.
    pub fn shown(&self, database: &dyn Executor, viewer: &Viewer) -> Result<Map<String, Value>> {
        let mut shown = viewer.show(Entry::of(&self.row, &self.attendees));
        shown.insert("reminders".into(), json!(reminder::of_event(database, &self.row.id)?));
        shown.insert("conflicts".into(), json!(self.conflicts));
        Ok(shown)
    }
}

/// Names of members that are taken for others: `type` is what events and filters call it.
pub fn rename(fields: &mut Map<String, Value>) {
    if let Some(kind) = fields.remove("type") {
        fields.entry("eventType").or_insert(kind);
    }
}

/// Makes an event of a request's members.
pub fn create(
    transaction: &Transaction,
    mut fields: Map<String, Value>,
    extras: &Extras,
    known: Option<&Known>,
) -> Result<Whole> {
    let calendar_id = fields.get("calendarId").and_then(Value::as_str).map(Id::parse).transpose()?;
    if let Some(id) = calendar_id {
        let calendar = calendar::of_event(transaction, &id)?;
        fields.entry("timezone").or_insert_with(|| calendar.timezone.clone().into());
    }
    if let Some(known) = known {
        known.complete(&mut fields);
    }
    let row = entity::create_from::<Event>(transaction, fields)?;
    complete(transaction, row, extras, known, true)
}

/// Makes an event that another service has told of; once for each origin. None when it is there already.
pub fn create_told(transaction: &Transaction, event: Event, invitations: Vec<Invitation>) -> Result<Option<Whole>> {
    if let Some(origin) = &event.origin
        && Select::<Event>::new().equal("origin", origin).first(transaction)?.is_some()
    {
        return Ok(None);
    }
    let row = entity::create(transaction, event)?;
    let extras = Extras { attendees: Some(invitations), ..Extras::default() };
    complete(transaction, row, &extras, None, false).map(Some)
}

fn complete(
    transaction: &Transaction,
    row: Stored<Event>,
    extras: &Extras,
    known: Option<&Known>,
    is_judged: bool,
) -> Result<Whole> {
    if is_judged {
        environment::require(transaction, &row, known)?;
    }
    let attendees = attendee::invite(transaction, &row.id, extras.attendees.as_deref().unwrap_or_default(), false)?;
    reminder::set(transaction, &row, &attendees, extras.reminders.as_deref().unwrap_or_default())?;
    subject::hold(transaction, &row, &attendees)?;
    // The steps of a plan are placed one after the other already; whoever takes one up finds its conflicts.
    let is_proposed = !is_judged && row.plan_step_id.is_some();
    let conflicts = if is_proposed { Vec::new() } else { conflict::refresh(transaction, &row, &attendees)? };
    refuse(extras, &conflicts)?;
    publish(transaction, "calendar.event.created", &row, &attendees, json!({}))?;
    forget(transaction);
    Ok(Whole { row, attendees, conflicts })
}

/// 409 where conflicts are not wanted.
pub fn refuse(extras: &Extras, conflicts: &[Stored<Conflict>]) -> Result<()> {
    if !extras.reject_on_conflict || conflicts.is_empty() {
        return Ok(());
    }
    let problem = Problem::conflict("It is in the way of other events.").with_code("EVENT_CONFLICT");
    Err(problem.with("conflicts", json!(conflicts)))
}

/// Tells of an event: of a private one no more than when it is.
pub fn publish(
    transaction: &Transaction,
    kind: &str,
    row: &Stored<Event>,
    attendees: &[Stored<Attendee>],
    more: Value,
) -> Result<()> {
    let is_private = row.visibility == Visibility::Private;
    let attendee_ids: Vec<&Id> = attendees.iter().filter_map(|attendee| attendee.user_id.as_ref()).collect();
    let mut data = json!({
        "id": row.id, "eventId": row.id, "type": row.event_type, "eventType": row.event_type,
        "title": if is_private { "Busy" } else { row.title.as_str() }, "startTime": row.start_time, "endTime": row.end_time,
        "allDay": row.all_day, "timezone": row.timezone, "status": row.status, "visibility": row.visibility,
        "userId": row.user_id, "organizerId": row.organizer_id, "attendeeIds": attendee_ids,
        "calendarId": row.calendar_id, "projectId": row.project_id, "agentId": row.agent_id, "planId": row.plan_id,
        "planStepId": row.plan_step_id, "environmentName": row.environment_name, "rrule": row.rrule,
        "recurrenceParentId": row.recurrence_parent_id, "recurrenceId": row.recurrence_id, "origin": row.origin,
    });
    if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more) {
        data.extend(more);
    }
    transaction.send(&Message::new(kind, &data)?.with_key(row.id.as_str()))?;
    Ok(())
}

/// Tells that an event does not take place any more.
pub fn publish_cancelled(
    transaction: &Transaction,
    row: &Stored<Event>,
    attendees: &[Stored<Attendee>],
    more: &Value,
) -> Result<()> {
    publish(transaction, "calendar.event.cancelled", row, attendees, more.clone())?;
    if row.event_type == EventType::Meeting {
        publish(transaction, "meeting.cancelled", row, attendees, more.clone())?;
    }
    Ok(())
}

/// After a change of a row: whoever hangs on it follows, and the world learns of it.
pub fn changed(
    transaction: &Transaction,
    old: &Stored<Event>,
    row: Stored<Event>,
    extras: &Extras,
    known: Option<&Known>,
) -> Result<Whole> {
    let has_moved = row.moves(old);
    let was_cancelled = old.status == EventStatus::Cancelled;
    let is_cancelled = row.status == EventStatus::Cancelled;
    if !is_cancelled && (has_moved || was_cancelled || environment::concerns(old) != environment::concerns(&row)) {
        environment::require(transaction, &row, known)?;
    }
    let attendees = match &extras.attendees {
        Some(invitations) => attendee::invite(transaction, &row.id, invitations, has_moved)?,
        None => {
            if has_moved {
                attendee::ask_again(transaction, &row.id)?;
            }
            attendee::of_event(transaction, &row.id)?
        }
    };
    reminder::follow(transaction, &row, &attendees, extras.reminders.as_deref())?;
    subject::hold(transaction, &row, &attendees)?;
    let conflicts = conflict::refresh(transaction, &row, &attendees)?;
    refuse(extras, &conflicts)?;
    if is_cancelled && !was_cancelled {
        publish_cancelled(transaction, &row, &attendees, &json!({}))?;
    } else if row.version != old.version || extras.attendees.is_some() {
        publish(transaction, "calendar.event.updated", &row, &attendees, json!({}))?;
        if has_moved && row.event_type == EventType::Meeting {
            let before = json!({ "oldStartTime": old.start_time, "oldEndTime": old.end_time });
            publish(transaction, "meeting.rescheduled", &row, &attendees, before)?;
        }
    }
    forget(transaction);
    Ok(Whole { row, attendees, conflicts })
}
