//! Events as iCalendar (RFC 5545): what is written here, and read in `read`. Pure.

pub mod read;
pub mod timezone;
pub mod write;

use std::collections::{BTreeMap, BTreeSet};

use berth_sdk::prelude::*;
use chrono_tz::Tz;

use crate::{
    event::{
        Event, EventStatus, Visibility,
        attendee::{Answer, Attendee},
        view::{Entry, Viewer},
    },
    recurrence::{OCCURRENCES_MAX, Span},
    zone,
};
use write::{Block, Line, line, text};

/// The media type.
pub const MEDIA_TYPE: &str = "text/calendar; charset=utf-8";
/// What names a user in a calendar.
pub const USER: &str = "urn:berth:user:";

/// How the times of an event are written.
#[derive(Clone, Copy)]
struct Form {
    zone: Tz,
    is_date: bool,
}

impl Form {
    fn of(event: &Event) -> Self {
        Self { zone: event.zone(), is_date: event.all_day }
    }

    fn line(self, name: &'static str, times: &[Timestamp]) -> Line {
        let local = |time: &Timestamp| zone::local(self.zone, *time);
        if self.is_date {
            let days: Vec<String> = times.iter().map(|time| local(time).format("%Y%m%d").to_string()).collect();
            return line(name, days.join(",")).with("VALUE", "DATE");
        }
        // The second of two equal local times can only be told in UTC.
        let is_plain = self.zone != Tz::UTC && times.iter().all(|time| zone::moment(self.zone, local(time)) == *time);
        if !is_plain {
            let moments: Vec<String> = times.iter().map(|time| utc(*time)).collect();
            return line(name, moments.join(","));
        }
        let locals: Vec<String> = times.iter().map(|time| local(time).format("%Y%m%dT%H%M%S").to_string()).collect();
        line(name, locals.join(",")).with("TZID", self.zone.name())
    }
}

fn utc(time: Timestamp) -> String {
    time.date_time().format("%Y%m%dT%H%M%SZ").to_string()
}

/// What is written of events.
pub struct Document<'rows> {
    /// What the calendar is called; none for one object of a calendar, which has neither a name nor a method.
    pub name: Option<&'rows str>,
    /// The events; with a series those that stand apart from it.
    pub rows: &'rows [Stored<Event>],
    /// Their attendees.
    pub attendees: &'rows BTreeMap<Id, Vec<Stored<Attendee>>>,
    /// Who reads it.
    pub viewer: &'rows Viewer,
}

impl Document<'_> {
    /// The whole text.
    pub fn text(&self) -> String {
        let mut blocks = self.zones();
        blocks.extend(self.rows.iter().map(|row| self.event(row, None)));
        calendar(self.name, blocks)
    }

    /// The whole text with every occurrence within a range as an event of its own, told in UTC; the first thousand of a
    /// series.
    pub fn expanded(&self, from: Timestamp, to: Timestamp) -> String {
        let mut blocks = Vec::new();
        for row in self.rows {
            let spans = match row.is_recurring {
                true => row.series().between(from, to, OCCURRENCES_MAX).occurrences,
                false => vec![Span { start: row.start_time, end: row.end_time }],
            };
            let range = Span { start: from, end: to };
            blocks
                .extend(spans.into_iter().filter(|span| span.overlaps(range)).map(|span| self.event(row, Some(span))));
        }
        calendar(self.name, blocks)
    }

    /// The time zones that the events are told in.
    fn zones(&self) -> Vec<Block> {
        let mut spans: BTreeMap<&'static str, (Tz, Timestamp)> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| !row.all_day) {
            let zone = row.zone();
            if zone != Tz::UTC {
                let first = spans.entry(zone.name()).or_insert((zone, row.start_time));
                first.1 = first.1.min(row.start_time);
            }
        }
        let last = self.rows.iter().map(|row| row.last_start.unwrap_or(row.start_time)).max();
        spans.into_values().map(|(zone, first)| timezone::component(zone, first, last.unwrap_or(first))).collect()
    }

    /// An event, or one occurrence of it.
    fn event(&self, row: &Stored<Event>, span: Option<Span>) -> Block {
        let attendees = self.attendees.get(&row.id).map(Vec::as_slice).unwrap_or_default();
        let is_whole = self.viewer.sees(&Entry::of(row, attendees));
        let mut lines = vec![
            text("UID", &row.uid),
            line("DTSTAMP", utc(row.updated_at)),
            line("CREATED", utc(row.created_at)),
            line("LAST-MODIFIED", utc(row.updated_at)),
            line("SEQUENCE", row.sequence.to_string()),
        ];
        match span {
            Some(span) => occurrence(row, span, &mut lines),
            None => self.times(row, &mut lines),
        }
        let status = match row.status {
            EventStatus::Tentative => "TENTATIVE",
            EventStatus::Confirmed => "CONFIRMED",
            EventStatus::Cancelled => "CANCELLED",
        };
        lines.push(line("STATUS", status));
        lines.push(line("TRANSP", if row.is_blocking() { "OPAQUE" } else { "TRANSPARENT" }));
        lines.push(line("CLASS", if row.visibility == Visibility::Private { "PRIVATE" } else { "PUBLIC" }));
        if !is_whole {
            lines.push(text("SUMMARY", "Busy"));
            return vevent(lines);
        }
        lines.push(text("SUMMARY", &row.title));
        for (name, value) in [("DESCRIPTION", &row.description), ("LOCATION", &row.location)] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                lines.push(text(name, value));
            }
        }
        lines.push(line("X-BERTH-TYPE", row.event_type.as_str()));
        lines.push(line("ORGANIZER", format!("{USER}{}", row.organizer_id)));
        lines.extend(attendees.iter().filter_map(|attendee| invitation(attendee)));
        vevent(lines)
    }

    fn times(&self, row: &Stored<Event>, lines: &mut Vec<Line>) {
        let form = Form::of(row);
        lines.push(form.line("DTSTART", &[row.start_time]));
        lines.push(form.line("DTEND", &[row.end_time]));
        if row.all_day && form.zone != Tz::UTC {
            // Dates have no zone there; here they begin at somebody's midnight.
            lines.push(line("X-BERTH-TIMEZONE", form.zone.name()));
        }
        if let (Some(parent), Some(start)) = (&row.recurrence_parent_id, row.recurrence_id) {
            let parent = self.rows.iter().find(|other| other.id == *parent);
            lines.push(parent.map_or(form, |parent| Form::of(parent)).line("RECURRENCE-ID", &[start]));
        }
        if let Some(rule) = row.rule() {
            lines.push(line("RRULE", rule.text(row.zone(), row.all_day)));
        }
        let apart: BTreeSet<Timestamp> = self
            .rows
            .iter()
            .filter(|other| other.recurrence_parent_id.as_ref() == Some(&row.id))
            .filter_map(|other| other.recurrence_id)
            .collect();
        // What stands apart is told by its own entry and not as one that falls out; but it has to be a date of the series.
        let less: Vec<Timestamp> = row.exdates.iter().copied().filter(|date| !apart.contains(date)).collect();
        let is_of_rule = |date: &Timestamp| row.series().with_dates(&[], &[]).begins_at(*date).is_some();
        let lost = apart.iter().copied().filter(|date| !is_of_rule(date));
        let more: Vec<Timestamp> = row.rdates.iter().copied().chain(lost).collect();
        for (name, dates) in [("EXDATE", less), ("RDATE", more)] {
            if !dates.is_empty() {
                lines.push(form.line(name, &dates));
            }
        }
    }
}

/// When somebody is busy within a range, and nothing of what it is.
pub fn busy(range: Span, spans: &[Span]) -> String {
    let mut lines =
        vec![line("DTSTAMP", utc(clock::now())), line("DTSTART", utc(range.start)), line("DTEND", utc(range.end))];
    lines.extend(spans.iter().map(|span| line("FREEBUSY", format!("{}/{}", utc(span.start), utc(span.end)))));
    calendar(None, vec![Block { name: "VFREEBUSY", lines, blocks: Vec::new() }])
}

fn calendar(name: Option<&str>, blocks: Vec<Block>) -> String {
    let mut lines =
        vec![line("VERSION", "2.0"), line("PRODID", "-//Berth//calendar//EN"), line("CALSCALE", "GREGORIAN")];
    if let Some(name) = name {
        lines.extend([
            line("METHOD", "PUBLISH"),
            text("X-WR-CALNAME", name),
            line("REFRESH-INTERVAL", "PT15M").with("VALUE", "DURATION"),
            line("X-PUBLISHED-TTL", "PT15M"),
        ]);
    }
    let mut text = String::new();
    Block { name: "VCALENDAR", lines, blocks }.write(&mut text);
    text
}

/// When one occurrence takes place, whatever the series says.
fn occurrence(row: &Stored<Event>, span: Span, lines: &mut Vec<Line>) {
    let form = if row.all_day { Form::of(row) } else { Form { zone: Tz::UTC, is_date: false } };
    lines.push(form.line("DTSTART", &[span.start]));
    lines.push(form.line("DTEND", &[span.end]));
    if let Some(start) = row.recurrence_id.or(row.is_recurring.then_some(span.start)) {
        lines.push(form.line("RECURRENCE-ID", &[start]));
    }
}

fn vevent(lines: Vec<Line>) -> Block {
    Block { name: "VEVENT", lines, blocks: Vec::new() }
}

fn invitation(attendee: &Attendee) -> Option<Line> {
    let address = match (&attendee.email, &attendee.user_id) {
        (Some(email), _) => format!("mailto:{email}"),
        (None, Some(user_id)) => format!("{USER}{user_id}"),
        (None, None) => return None,
    };
    let answer = match attendee.response {
        Answer::Pending => "NEEDS-ACTION",
        Answer::Accepted => "ACCEPTED",
        Answer::Declined => "DECLINED",
        Answer::Tentative => "TENTATIVE",
    };
    let role = if attendee.is_required { "REQ-PARTICIPANT" } else { "OPT-PARTICIPANT" };
    Some(line("ATTENDEE", address).with("PARTSTAT", answer).with("ROLE", role))
}
