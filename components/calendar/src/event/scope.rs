//! Changing series: one occurrence, this one and the following, or all.

use std::time::Duration;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::{
    DATES_MAX, Event, EventStatus, EventType, attendee,
    create::{Extras, Whole, changed, publish, publish_cancelled, refuse},
    forget, require_edit, subject,
    view::parse_id,
};
use crate::{
    conflict,
    environment::{self, Known},
    recurrence::Span,
    reminder, zone,
};

/// The most occurrences of a series that stand apart.
const OVERRIDES_MAX: i64 = 1_000;

/// Which occurrences a change is for.
#[choice]
pub enum Scope {
    /// One.
    This,
    /// One and those after it.
    Following,
    /// All.
    All,
}

/// What a change is for.
#[data]
#[derive(Default)]
pub struct Which {
    /// Which occurrences; of a series all, of one occurrence that one.
    pub scope: Option<Scope>,
    /// The occurrence: when it begins, or would have begun.
    pub recurrence_id: Option<Timestamp>,
}

/// What is to be changed.
pub enum Target {
    /// A row as it is: an event that comes once, or an occurrence that stands apart already.
    Row(Stored<Event>),
    /// A whole series, told as one of its occurrences where that is named.
    All(Stored<Event>, Option<Timestamp>),
    /// One occurrence of a series.
    Occurrence(Stored<Event>, Span),
    /// An occurrence of a series and all after it.
    Following(Stored<Event>, Span),
}

impl Target {
    /// Finds out what an id, a scope and an occurrence mean together: 404, 400 `recurrenceId`.
    pub fn find(database: &dyn Executor, id: &Id, which: &Which, in_body: Option<Timestamp>) -> Result<Self> {
        let (row_id, in_id) = parse_id(id);
        let row = entity::read::<Event>(database, &row_id)?;
        let wanted = which.recurrence_id.or(in_id).or(in_body);
        match (&row.recurrence_parent_id, which.scope) {
            (Some(_), None | Some(Scope::This)) => return Ok(Self::Row(row)),
            (Some(parent), Some(scope)) => {
                let start = row.recurrence_id;
                let parent = entity::read::<Event>(database, parent)?;
                return Self::of_series(database, parent, scope, start);
            }
            (None, _) => {}
        }
        if !row.is_recurring {
            return Ok(Self::Row(row));
        }
        let scope = which.scope.unwrap_or(if wanted.is_some() { Scope::This } else { Scope::All });
        Self::of_series(database, row, scope, wanted)
    }

    fn of_series(database: &dyn Executor, row: Stored<Event>, scope: Scope, wanted: Option<Timestamp>) -> Result<Self> {
        if scope == Scope::All {
            return Ok(Self::All(row, wanted));
        }
        let Some(start) = wanted else {
            return Err(Problem::field("recurrenceId", "must say which occurrence is meant"));
        };
        if scope == Scope::This
            && let Some(apart) = override_at(database, &row.id, start)?
        {
            return Ok(Self::Row(apart));
        }
        // For what follows, an occurrence that stands apart or falls out is a place in time all the same.
        let mut all = row.series();
        if scope == Scope::Following {
            all = all.with_dates(&row.rdates, &[]);
        }
        let span = all.begins_at(start).ok_or_else(|| Problem::missing("occurrence"))?;
        Ok(if scope == Scope::This { Self::Occurrence(row, span) } else { Self::Following(row, span) })
    }

    /// The row that is meant.
    pub fn row(&self) -> &Stored<Event> {
        match self {
            Self::Row(row) | Self::All(row, _) | Self::Occurrence(row, _) | Self::Following(row, _) => row,
        }
    }

    /// Changes it.
    pub fn change(
        self,
        transaction: &Transaction,
        patch: Map<String, Value>,
        extras: &Extras,
        known: Option<&Known>,
        if_match: IfMatch,
    ) -> Result<Whole> {
        require_edit(transaction, self.row())?;
        if_match.check(self.row().version)?;
        match self {
            Self::Row(old) => change_row(transaction, old, patch, extras, known, None),
            Self::All(old, at) => change_row(transaction, old, patch, extras, known, at),
            Self::Occurrence(series, span) => set_apart(transaction, series, span, patch, extras, known),
            Self::Following(series, span) if span.start <= series.start_time => {
                change_row(transaction, series, patch, extras, known, None)
            }
            Self::Following(series, span) => split(transaction, series, span, patch, extras, known),
        }
    }

    /// Removes it.
    pub fn remove(self, transaction: &Transaction, if_match: IfMatch) -> Result<()> {
        require_edit(transaction, self.row())?;
        if_match.check(self.row().version)?;
        match self {
            Self::Row(row) | Self::All(row, _) => remove_row(transaction, &row),
            Self::Occurrence(mut series, span) => {
                leave_out(&mut series, span.start)?;
                let cancelled = json!({ "recurrenceParentId": series.id, "recurrenceId": span.start,
                    "startTime": span.start, "endTime": span.end });
                let attendees = attendee::of_event(transaction, &series.id)?;
                let before = series.clone();
                let row = save(transaction, &before, series)?;
                publish_cancelled(transaction, &row, &attendees, &cancelled)
            }
            Self::Following(series, span) if span.start <= series.start_time => remove_row(transaction, &series),
            Self::Following(series, span) => {
                for apart in overrides(transaction, &series.id)? {
                    if apart.recurrence_id.is_some_and(|start| start >= span.start) {
                        erase(transaction, &apart)?;
                    }
                }
                let before = series.clone();
                let mut series = series;
                end_before(&mut series, span.start);
                let row = save(transaction, &before, series)?;
                let attendees = attendee::of_event(transaction, &row.id)?;
                publish(transaction, "calendar.event.updated", &row, &attendees, json!({}))?;
                if row.event_type == EventType::Meeting {
                    let cancelled = json!({ "recurrenceId": span.start, "startTime": span.start, "endTime": span.end,
                        "isFollowing": true });
                    publish(transaction, "meeting.cancelled", &row, &attendees, cancelled)?;
                }
                Ok(())
            }
        }
    }
}

/// Writes a series that the service itself has shortened, and lets what hangs on it follow.
fn save(transaction: &Transaction, before: &Stored<Event>, mut row: Stored<Event>) -> Result<Stored<Event>> {
    row.data.settle();
    if row.data.moves(&before.data) {
        row.sequence += 1;
    }
    entity::save(transaction, &mut row)?;
    let attendees = attendee::of_event(transaction, &row.id)?;
    reminder::follow(transaction, &row, &attendees, None)?;
    conflict::refresh(transaction, &row, &attendees)?;
    forget(transaction);
    Ok(row)
}

/// Changes a row as it is. For a whole series whose time is told as that of one occurrence, all move by as much.
fn change_row(
    transaction: &Transaction,
    old: Stored<Event>,
    mut patch: Map<String, Value>,
    extras: &Extras,
    known: Option<&Known>,
    at: Option<Timestamp>,
) -> Result<Whole> {
    if let (Some(at), true) = (at, old.is_recurring) {
        shift(&old, at, &mut patch);
    }
    keep_length(&old, &mut patch, None);
    if old.is_recurring {
        carry_dates(&old, &mut patch);
    }
    let row = entity::update::<Event>(transaction, &old.id, &patch, IfMatch(None))?;
    if old.is_recurring && row.moves(&old) {
        move_overrides(transaction, &old, &row)?;
    }
    if row.status == EventStatus::Cancelled && old.status != EventStatus::Cancelled {
        cancel_overrides(transaction, &row.id)?;
    }
    changed(transaction, &old, row, extras, known)
}

/// What stands apart from a series that does not take place does not either.
fn cancel_overrides(transaction: &Transaction, id: &Id) -> Result<()> {
    for apart in overrides(transaction, id)?.into_iter().filter(|apart| apart.status != EventStatus::Cancelled) {
        let mut row = apart.clone();
        row.status = EventStatus::Cancelled;
        entity::save(transaction, &mut row)?;
        changed(transaction, &apart, row, &Extras::default(), None)?;
    }
    Ok(())
}

/// Who moves the beginning and says no end means an event of the same length.
fn keep_length(old: &Event, patch: &mut Map<String, Value>, span: Option<Span>) {
    let span = span.unwrap_or(Span { start: old.start_time, end: old.end_time });
    let start = patch.get("startTime").and_then(Value::as_str).and_then(Timestamp::parse);
    if let (Some(start), false) = (start, patch.contains_key("endTime")) {
        patch.insert("endTime".into(), json!(start.plus(span.end.since(span.start))));
    }
}

/// Times that were told of one occurrence, as times of the first one.
fn shift(old: &Event, at: Timestamp, patch: &mut Map<String, Value>) {
    let zone = old.zone();
    let distance = zone::local(zone, at) - zone::local(zone, old.start_time);
    for name in ["startTime", "endTime"] {
        if let Some(time) = patch.get(name).and_then(Value::as_str).and_then(Timestamp::parse) {
            patch.insert(name.into(), json!(zone::moment(zone, zone::local(zone, time) - distance)));
        }
    }
}

/// When a series moves, what is added to it and left out of it moves with it, on the wall clock.
fn carry_dates(old: &Event, patch: &mut Map<String, Value>) {
    let Some(start) = patch.get("startTime").and_then(Value::as_str).and_then(Timestamp::parse) else { return };
    for (name, dates) in [("rdates", &old.rdates), ("exdates", &old.exdates)] {
        if !patch.contains_key(name) && !dates.is_empty() {
            let moved: Vec<Timestamp> = dates.iter().map(|date| carried(old, start, *date)).collect();
            patch.insert(name.into(), json!(moved));
        }
    }
}

/// A moment moved as far on the wall clock as the series is.
fn carried(old: &Event, start: Timestamp, date: Timestamp) -> Timestamp {
    let zone = old.zone();
    let distance = zone::local(zone, start) - zone::local(zone, old.start_time);
    zone::moment(zone, zone::local(zone, date) + distance)
}

/// Occurrences that stand apart follow their series; those whose place is gone go.
fn move_overrides(transaction: &Transaction, old: &Stored<Event>, new: &Stored<Event>) -> Result<()> {
    let places = new.series().with_dates(&new.rdates, &[]);
    for mut apart in overrides(transaction, &new.id)? {
        let Some(start) = apart.recurrence_id else { continue };
        let place = carried(old, new.start_time, start);
        if places.begins_at(place).is_none() {
            erase(transaction, &apart)?;
        } else if place != start {
            apart.recurrence_id = Some(place);
            entity::save(transaction, &mut apart)?;
        }
    }
    Ok(())
}

/// Gives one occurrence a row of its own.
fn set_apart(
    transaction: &Transaction,
    mut series: Stored<Event>,
    span: Span,
    mut patch: Map<String, Value>,
    extras: &Extras,
    known: Option<&Known>,
) -> Result<Whole> {
    if patch.get("rrule").is_some_and(|rule| !rule.is_null()) {
        return Err(Problem::unprocessable("One occurrence of a series has no rule of its own."));
    }
    if overrides(transaction, &series.id)?.len() as i64 >= OVERRIDES_MAX {
        return Err(Problem::unprocessable(format!("A series has at most {OVERRIDES_MAX} changed occurrences.")));
    }
    keep_length(&series, &mut patch, Some(span));
    let data = Event {
        start_time: span.start,
        end_time: span.end,
        rrule: None,
        rdates: Vec::new(),
        exdates: Vec::new(),
        recurrence_parent_id: Some(series.id.clone()),
        recurrence_id: Some(span.start),
        origin: None,
        ..series.data.clone()
    };
    let apart = entity::create(transaction, data)?;
    attendee::copy(transaction, &series.id, &apart.id)?;
    reminder::copy(transaction, &series.id, &apart)?;
    let before = series.clone();
    leave_out(&mut series, span.start)?;
    save(transaction, &before, series)?;
    let row = entity::update::<Event>(transaction, &apart.id, &patch, IfMatch(None))?;
    changed(transaction, &apart, row, extras, known)
}

/// Ends a series before an occurrence and begins another one there.
fn split(
    transaction: &Transaction,
    series: Stored<Event>,
    span: Span,
    mut patch: Map<String, Value>,
    extras: &Extras,
    known: Option<&Known>,
) -> Result<Whole> {
    let attendees = attendee::of_event(transaction, &series.id)?;
    let mut rest = Event {
        start_time: span.start,
        end_time: span.end,
        rdates: series.rdates.iter().copied().filter(|date| *date > span.start).collect(),
        exdates: series.exdates.iter().copied().filter(|date| *date > span.start).collect(),
        uid: String::new(),
        sequence: 0,
        origin: None,
        ..series.data.clone()
    };
    if let Some(rule) = series.rule()
        && let Some(count) = rule.count()
    {
        let before = series.series().with_dates(&[], &[]).between(series.start_time, span.start, usize::MAX >> 1);
        let gone = u32::try_from(before.occurrences.len()).unwrap_or(count);
        rest.rrule = Some(rule.counting(count.saturating_sub(gone).max(1)).text(series.zone(), series.all_day));
    }
    let mut ended = series.clone();
    end_before(&mut ended, span.start);
    save(transaction, &series, ended)?;
    keep_length(&series, &mut patch, Some(span));
    let begun = entity::create(transaction, rest)?;
    carry_dates(&begun, &mut patch);
    for row in &attendees {
        let copy = attendee::Attendee { event_id: begun.id.clone(), ..row.data.clone() };
        entity::create(transaction, copy)?;
    }
    reminder::copy(transaction, &series.id, &begun)?;
    for mut apart in overrides(transaction, &series.id)? {
        if apart.recurrence_id.is_some_and(|start| start >= span.start) {
            apart.recurrence_parent_id = Some(begun.id.clone());
            apart.uid.clone_from(&begun.uid);
            entity::save(transaction, &mut apart)?;
        }
    }
    let row = entity::update::<Event>(transaction, &begun.id, &patch, IfMatch(None))?;
    if row.moves(&begun) {
        move_overrides(transaction, &begun, &row)?;
    }
    finish_split(transaction, row, &begun, extras, known)
}

fn finish_split(
    transaction: &Transaction,
    row: Stored<Event>,
    begun: &Stored<Event>,
    extras: &Extras,
    known: Option<&Known>,
) -> Result<Whole> {
    environment::require(transaction, &row, known)?;
    let has_moved = row.moves(begun);
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
    publish(transaction, "calendar.event.created", &row, &attendees, json!({}))?;
    if has_moved && row.event_type == EventType::Meeting {
        let before = json!({ "oldStartTime": begun.start_time, "oldEndTime": begun.end_time });
        publish(transaction, "meeting.rescheduled", &row, &attendees, before)?;
    }
    forget(transaction);
    Ok(Whole { row, attendees, conflicts })
}

/// One beginning falls out.
fn leave_out(series: &mut Stored<Event>, start: Timestamp) -> Result<()> {
    if series.exdates.len() >= DATES_MAX {
        return Err(Problem::unprocessable(format!("A series has at most {DATES_MAX} dates that fall out.")));
    }
    series.rdates.retain(|date| *date != start);
    series.exdates.push(start);
    Ok(())
}

/// The series is over before a moment.
fn end_before(series: &mut Stored<Event>, start: Timestamp) {
    let (zone, all_day) = (series.zone(), series.all_day);
    let last = start.minus(Duration::from_secs(1));
    if let Some(rule) = series.rule() {
        series.rrule = Some(rule.ending(last).text(zone, all_day));
    }
    series.rdates.retain(|date| *date < start);
    series.exdates.retain(|date| *date < start);
}

/// The occurrences of a series that stand apart.
pub fn overrides(database: &dyn Executor, id: &Id) -> Result<Vec<Stored<Event>>> {
    Select::<Event>::new().equal("recurrence_parent_id", id).limit(OVERRIDES_MAX + 1).all(database)
}

fn override_at(database: &dyn Executor, id: &Id, start: Timestamp) -> Result<Option<Stored<Event>>> {
    Select::<Event>::new().equal("recurrence_parent_id", id).equal("recurrence_id", start).first(database)
}

fn remove_row(transaction: &Transaction, row: &Stored<Event>) -> Result<()> {
    let attendees = attendee::of_event(transaction, &row.id)?;
    for apart in overrides(transaction, &row.id)? {
        erase(transaction, &apart)?;
    }
    erase(transaction, row)?;
    if row.status != EventStatus::Cancelled {
        publish_cancelled(transaction, row, &attendees, &json!({ "isDeleted": true }))?;
    }
    Ok(())
}

/// Takes a row away with all that hangs on it.
fn erase(transaction: &Transaction, row: &Stored<Event>) -> Result<()> {
    for sql in [
        "DELETE FROM calendar_attendees WHERE event_id = $1",
        "DELETE FROM calendar_reminders WHERE event_id = $1",
        "DELETE FROM calendar_conflicts WHERE event_id = $1 OR other_event_id = $1",
    ] {
        transaction.execute(sql, params![&row.id])?;
    }
    forget(transaction);
    entity::delete::<Event>(transaction, &row.id, IfMatch(None))
}
