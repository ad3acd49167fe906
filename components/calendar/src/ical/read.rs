//! Reading iCalendar as other programs write it. What cannot be understood is set aside with its reason. Pure.

use std::collections::BTreeMap;

use berth_sdk::prelude::*;
use chrono::{NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};
use chrono_tz::Tz;
use icalendar::parser::{Component, Property, read_calendar};

use super::{USER, timezone};
use crate::{
    event::{EventStatus, EventType, Visibility, attendee::Answer},
    zone,
};

/// The largest calendar, in bytes.
pub const BYTES_MAX: usize = 2 * 1024 * 1024;
/// The most events of one calendar.
pub const EVENTS_MAX: usize = 1_000;
/// How deep components may be nested.
const DEPTH_MAX: usize = 5;
/// The longest description that is kept, in characters.
const DESCRIPTION_MAX: usize = 8_000;

/// An event as it was read.
#[derive(Clone, Debug)]
pub struct Read {
    /// Its name for good.
    pub uid: String,
    /// The occurrence of a series that it stands for.
    pub recurrence_id: Option<Timestamp>,
    /// Its heading.
    pub title: String,
    /// More about it.
    pub description: Option<String>,
    /// Where.
    pub location: Option<String>,
    /// When it begins.
    pub start: Timestamp,
    /// When it is over.
    pub end: Timestamp,
    /// Whether it is of whole days.
    pub all_day: bool,
    /// Its wall clock.
    pub zone: Tz,
    /// Its rule.
    pub rrule: Option<String>,
    /// Further beginnings.
    pub rdates: Vec<Timestamp>,
    /// Beginnings that fall out.
    pub exdates: Vec<Timestamp>,
    /// How sure it is.
    pub status: EventStatus,
    /// Who sees it.
    pub visibility: Visibility,
    /// What kind of event it is.
    pub event_type: EventType,
    /// How often it has changed.
    pub sequence: i64,
    /// Who takes part: a user or an address, what they answered, whether they are needed.
    pub attendees: Vec<(Option<Id>, Option<String>, Answer, bool)>,
}

/// What a calendar holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// What was understood.
    pub events: Vec<Read>,
    /// What was not: its uid, and why.
    pub skipped: Vec<(String, String)>,
}

/// Reads a calendar. Times without a zone are meant in `floating`.
pub fn read(text: &str, floating: Tz) -> Result<Contents> {
    if text.len() > BYTES_MAX {
        return Err(Problem::too_large(format!("A calendar has at most {BYTES_MAX} bytes.")));
    }
    let unfolded = unfolded(text.trim_start_matches('\u{feff}'));
    require_shallow(&unfolded)?;
    let calendar = read_calendar(&unfolded).map_err(|error| {
        let error: String = error.lines().next().unwrap_or_default().chars().take(200).collect();
        Problem::bad_request(format!("It is no iCalendar: {error}.")).with_code("INVALID_ICALENDAR")
    })?;
    let floating = calendar
        .properties
        .iter()
        .find(|line| line.name == "X-WR-TIMEZONE")
        .and_then(|line| timezone::named(line.val.as_str()))
        .unwrap_or(floating);
    let zones = zones(&calendar.components);
    let events: Vec<&Component<'_>> =
        calendar.components.iter().filter(|component| component.name == "VEVENT").collect();
    if events.len() > EVENTS_MAX {
        return Err(Problem::too_large(format!("A calendar has at most {EVENTS_MAX} events.")));
    }
    let mut contents = Contents::default();
    for component in events {
        let uid = value(component, "UID").unwrap_or_default().chars().take(200).collect::<String>();
        match (Reader { component, floating, zones: &zones }).event(&uid) {
            Ok(event) => contents.events.push(event),
            Err(reason) => contents.skipped.push((uid, reason)),
        }
    }
    Ok(contents)
}

/// Lines as they were before they were folded, ended as the parser finds them soonest: it looks for `\r\n` first.
fn unfolded(text: &str) -> String {
    let mut whole = String::with_capacity(text.len() + text.len() / 16);
    for line in text.lines().map(|line| line.trim_end_matches('\r')) {
        match line.strip_prefix([' ', '\t']) {
            Some(rest) if !whole.is_empty() => whole.push_str(rest),
            _ if line.is_empty() => {}
            _ => {
                if !whole.is_empty() {
                    whole.push_str("\r\n");
                }
                whole.push_str(line);
            }
        }
    }
    whole.push_str("\r\n");
    whole
}

/// The parser goes into components as deep as they are: judge it before.
fn require_shallow(text: &str) -> Result<()> {
    let mut depth = 0_usize;
    for line in text.lines() {
        let begins = |word: &str| line.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word));
        if begins("BEGIN:") {
            depth += 1;
        } else if begins("END:") {
            depth = depth.saturating_sub(1);
        }
        if depth > DEPTH_MAX {
            return Err(Problem::bad_request("The calendar is nested too deeply.").with_code("INVALID_ICALENDAR"));
        }
    }
    Ok(())
}

/// What the calendar itself says its zones are.
fn zones(components: &[Component<'_>]) -> BTreeMap<String, Tz> {
    let zone = |component: &Component<'_>| {
        let name = value(component, "TZID")?;
        let place = value(component, "X-LIC-LOCATION").and_then(timezone::named);
        Some((name.to_string(), timezone::named(name).or(place)?))
    };
    components.iter().filter(|component| component.name == "VTIMEZONE").filter_map(zone).collect()
}

fn value<'c>(component: &'c Component<'_>, name: &str) -> Option<&'c str> {
    component.properties.iter().find(|line| line.name == name).map(|line| line.val.as_str())
}

fn parameter<'p>(property: &'p Property<'_>, name: &str) -> Option<&'p str> {
    let found = property.params.iter().find(|parameter| parameter.key.as_str().eq_ignore_ascii_case(name))?;
    found.val.as_ref().map(|value| value.as_str().trim_matches('"'))
}

struct Reader<'c> {
    component: &'c Component<'c>,
    floating: Tz,
    zones: &'c BTreeMap<String, Tz>,
}

/// A time as it was written.
struct Time {
    at: Timestamp,
    is_date: bool,
    zone: Tz,
}

impl Reader<'_> {
    fn event(&self, uid: &str) -> Result<Read, String> {
        if uid.is_empty() {
            return Err("has no UID".into());
        }
        let start = self.line("DTSTART").ok_or("has no DTSTART")?;
        let start = self.time(start, start.val.as_str())?;
        let end = self.end(&start)?;
        let attendees = self.attendees();
        let text = |name: &str, max: usize| {
            let text = value(self.component, name)?.chars().take(max).collect::<String>();
            (!text.trim().is_empty()).then(|| text.trim().to_string())
        };
        let upper = |name: &str| value(self.component, name).unwrap_or_default().to_ascii_uppercase();
        let is_free = upper("TRANSP") == "TRANSPARENT";
        let kind = value(self.component, "X-BERTH-TYPE").and_then(EventType::parse);
        let kind = kind.unwrap_or(match (is_free, attendees.is_empty()) {
            (true, _) => EventType::Reminder,
            (false, false) => EventType::Meeting,
            (false, true) => EventType::HumanAction,
        });
        Ok(Read {
            uid: uid.to_string(),
            recurrence_id: self
                .line("RECURRENCE-ID")
                .map(|line| self.time(line, line.val.as_str()))
                .transpose()?
                .map(|time| time.at),
            title: text("SUMMARY", 500).unwrap_or_else(|| "(no title)".into()),
            description: text("DESCRIPTION", DESCRIPTION_MAX),
            location: text("LOCATION", 1_000),
            start: start.at,
            end,
            all_day: start.is_date,
            zone: start.zone,
            rrule: value(self.component, "RRULE").map(ToString::to_string),
            rdates: self.dates("RDATE")?,
            exdates: self.dates("EXDATE")?,
            status: match upper("STATUS").as_str() {
                "CANCELLED" => EventStatus::Cancelled,
                "TENTATIVE" => EventStatus::Tentative,
                _ => EventStatus::Confirmed,
            },
            visibility: match upper("CLASS").as_str() {
                "PRIVATE" | "CONFIDENTIAL" => Visibility::Private,
                _ => Visibility::Organization,
            },
            event_type: kind,
            sequence: value(self.component, "SEQUENCE")
                .and_then(|text| text.parse().ok())
                .unwrap_or(0_i64)
                .clamp(0, 1 << 31),
            attendees,
        })
    }

    fn line(&self, name: &str) -> Option<&Property<'_>> {
        self.component.properties.iter().find(|line| line.name == name)
    }

    /// The end: said, or from a duration, or a day for a date and a minute for a time.
    fn end(&self, start: &Time) -> Result<Timestamp, String> {
        if let Some(line) = self.line("DTEND") {
            let end = self.time(line, line.val.as_str())?.at;
            if end > start.at {
                return Ok(end);
            }
        }
        if let Some(text) = value(self.component, "DURATION") {
            let (days, exact) = duration(text).ok_or("has a DURATION that makes no sense")?;
            let local =
                zone::local(start.zone, start.at).checked_add_signed(TimeDelta::days(days)).ok_or("is too long")?;
            let end = zone::moment(start.zone, local).date_time().checked_add_signed(exact).ok_or("is too long")?;
            if Timestamp::from(end) > start.at {
                return Ok(end.into());
            }
        }
        let length = if start.is_date { TimeDelta::days(1) } else { TimeDelta::minutes(1) };
        Ok(zone::moment(start.zone, zone::local(start.zone, start.at) + length))
    }

    fn dates(&self, name: &str) -> Result<Vec<Timestamp>, String> {
        let mut dates = Vec::new();
        for line in self.component.properties.iter().filter(|line| line.name == name) {
            for text in line.val.as_str().split(',').filter(|text| !text.trim().is_empty()) {
                // Of a period only its beginning counts.
                dates.push(self.time(line, text.split('/').next().unwrap_or(text))?.at);
            }
        }
        Ok(dates)
    }

    fn time(&self, line: &Property<'_>, text: &str) -> Result<Time, String> {
        let text = text.trim();
        let misfit = || format!("has a {} that is no time", line.name.as_str());
        let zone = match parameter(line, "TZID") {
            None => value(self.component, "X-BERTH-TIMEZONE").and_then(timezone::named).unwrap_or(self.floating),
            Some(name) => {
                let zone = self.zones.get(name).copied().or_else(|| timezone::named(name));
                zone.ok_or_else(|| format!("is in the time zone {name:.60}, which is not known"))?
            }
        };
        if text.len() == 8 {
            let day = NaiveDate::parse_from_str(text, "%Y%m%d").map_err(|_| misfit())?;
            return Ok(Time { at: zone::moment(zone, day.and_time(NaiveTime::MIN)), is_date: true, zone });
        }
        if let Some(text) = text.strip_suffix(['Z', 'z']) {
            let moment = NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%S").map_err(|_| misfit())?;
            return Ok(Time { at: moment.and_utc().into(), is_date: false, zone: Tz::UTC });
        }
        let local = NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%S").map_err(|_| misfit())?;
        Ok(Time { at: zone::moment(zone, local), is_date: false, zone })
    }

    fn attendees(&self) -> Vec<(Option<Id>, Option<String>, Answer, bool)> {
        let lines = self.component.properties.iter().filter(|line| line.name == "ATTENDEE");
        let mut all: Vec<(Option<Id>, Option<String>, Answer, bool)> = Vec::new();
        for line in lines.take(crate::event::attendee::ATTENDEES_MAX) {
            let address = line.val.as_str();
            let (user_id, email) = match address.get(..7) {
                Some(scheme) if scheme.eq_ignore_ascii_case("mailto:") => {
                    (None, address.get(7..).map(str::to_lowercase).filter(|email| validate::email(email).is_ok()))
                }
                _ => (address.strip_prefix(USER).and_then(|id| Id::parse(id).ok()), None),
            };
            let answer = match parameter(line, "PARTSTAT").unwrap_or_default().to_ascii_uppercase().as_str() {
                "ACCEPTED" => Answer::Accepted,
                "DECLINED" => Answer::Declined,
                "TENTATIVE" => Answer::Tentative,
                _ => Answer::Pending,
            };
            let is_new = all.iter().all(|(user, mail, ..)| *user != user_id || *mail != email);
            if is_new && (user_id.is_some() || email.is_some()) {
                all.push((user_id, email, answer, parameter(line, "ROLE") != Some("OPT-PARTICIPANT")));
            }
        }
        all
    }
}

/// Days of the wall clock, and the exact rest: `P1DT2H`.
fn duration(text: &str) -> Option<(i64, TimeDelta)> {
    let text = text.trim().trim_start_matches('+').strip_prefix('P')?;
    let (mut days, mut rest, mut number, mut is_time) = (0_i64, TimeDelta::zero(), String::new(), false);
    for letter in text.chars() {
        match letter {
            '0'..='9' if number.len() < 6 => number.push(letter),
            'T' => is_time = true,
            unit => {
                let count: i64 = std::mem::take(&mut number).parse().ok()?;
                match (unit, is_time) {
                    ('W', false) => days += count * 7,
                    ('D', false) => days += count,
                    ('H', true) => rest += TimeDelta::hours(count),
                    ('M', true) => rest += TimeDelta::minutes(count),
                    ('S', true) => rest += TimeDelta::seconds(count),
                    _ => return None,
                }
            }
        }
    }
    number.is_empty().then_some((days, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_days_and_a_rest() {
        assert_eq!(duration("P1W"), Some((7, TimeDelta::zero())));
        assert_eq!(duration("P1DT2H30M"), Some((1, TimeDelta::minutes(150))));
        assert_eq!(duration("PT15M"), Some((0, TimeDelta::minutes(15))));
        for wrong in ["", "P", "1D", "PT1D", "P1H", "P99999999999999999999D", "P1"] {
            assert!(duration(wrong).is_none_or(|found| found == (0, TimeDelta::zero())), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_calendar_is_refused_and_not_followed_into_the_depth() {
        assert_eq!(read("hello", Tz::UTC).map(|contents| contents.events.len()).unwrap_or(0), 0);
        let deep = "BEGIN:VEVENT\r\n".repeat(100_000);
        assert_eq!(read(&deep, Tz::UTC).unwrap_err().status, 400);
    }
}
