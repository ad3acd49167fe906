//! `VTIMEZONE`: a time zone as the changes of its clock, for clients that do not know it by its name; and the names that
//! other programs have for zones. Pure.

use std::{collections::BTreeMap, time::Duration};

use berth_sdk::clock::Timestamp;
use chrono::{DateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::{OffsetComponents, OffsetName, Tz};

use super::write::{Block, Line, line};
use crate::zone;

/// How much before the first and after the last event is told, in days.
const BEFORE_DAYS: u64 = 400;
const AFTER_DAYS: u64 = 3 * 366;
/// The most days that are told.
const DAYS_MAX: i64 = 60 * 366;

/// How a clock stands.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Setting {
    seconds: i32,
    name: String,
    is_summer: bool,
}

fn setting(zone: Tz, at: DateTime<Utc>) -> Setting {
    let offset = zone.offset_from_utc_datetime(&at.naive_utc());
    Setting {
        seconds: offset.fix().local_minus_utc(),
        name: offset.abbreviation().unwrap_or("LMT").to_string(),
        is_summer: !offset.dst_offset().is_zero(),
    }
}

/// The zone from a while before `first` to a while after `last`.
pub fn component(zone: Tz, first: Timestamp, last: Timestamp) -> Block {
    let begin = first.minus(Duration::from_secs(BEFORE_DAYS * 24 * 3_600)).date_time();
    let end =
        last.plus(Duration::from_secs(AFTER_DAYS * 24 * 3_600)).date_time().min(begin + TimeDelta::days(DAYS_MAX));
    let mut now = setting(zone, begin);
    let mut settings: BTreeMap<(i32, Setting), Vec<String>> = BTreeMap::new();
    let local = |at: DateTime<Utc>, seconds: i32| {
        (at + TimeDelta::seconds(i64::from(seconds))).format("%Y%m%dT%H%M%S").to_string()
    };
    settings.insert((now.seconds, now.clone()), vec![local(begin, now.seconds)]);
    let mut day = begin;
    while day < end {
        let next = day + TimeDelta::days(1);
        let then = setting(zone, next);
        if then != now {
            let change = change_between(zone, day, next);
            settings.entry((now.seconds, then.clone())).or_default().push(local(change, now.seconds));
            now = then;
        }
        day = next;
    }
    Block {
        name: "VTIMEZONE",
        lines: vec![line("TZID", zone.name()), line("X-LIC-LOCATION", zone.name())],
        blocks: settings.into_iter().map(|((before, after), dates)| observance(before, &after, &dates)).collect(),
    }
}

/// The second at which the clock changes.
fn change_between(zone: Tz, before: DateTime<Utc>, after: DateTime<Utc>) -> DateTime<Utc> {
    let old = setting(zone, before);
    let (mut low, mut high) = (before, after);
    while high - low > TimeDelta::seconds(1) {
        let middle = low + (high - low) / 2;
        if setting(zone, middle) == old { low = middle } else { high = middle }
    }
    high
}

fn observance(before: i32, after: &Setting, dates: &[String]) -> Block {
    let mut lines: Vec<Line> = vec![
        line("DTSTART", dates.first().cloned().unwrap_or_default()),
        line("TZOFFSETFROM", offset(before)),
        line("TZOFFSETTO", offset(after.seconds)),
        line("TZNAME", after.name.clone()),
    ];
    if let Some(rest) = dates.get(1..).filter(|rest| !rest.is_empty()) {
        lines.push(line("RDATE", rest.join(",")));
    }
    let name = if after.is_summer { "DAYLIGHT" } else { "STANDARD" };
    Block { name, lines, blocks: Vec::new() }
}

fn offset(seconds: i32) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    let all = seconds.abs();
    let mut text = format!("{sign}{:02}{:02}", all / 3_600, all / 60 % 60);
    if all % 60 != 0 {
        text.push_str(&format!("{:02}", all % 60));
    }
    text
}

/// The zone that a `TZID` means: an IANA name, one with something before it, or one of Windows.
///
/// ```
/// use calendar::ical::timezone::named;
/// assert_eq!(named("W. Europe Standard Time"), Some(chrono_tz::Europe::Berlin));
/// assert_eq!(named("/freeassociation.sourceforge.net/America/New_York"), Some(chrono_tz::America::New_York));
/// assert_eq!(named("Mars/Base"), None);
/// ```
pub fn named(name: &str) -> Option<Tz> {
    let name = name.trim().trim_matches('"');
    if name.is_empty() {
        return None;
    }
    if let Some(zone) = zone::parse(name) {
        return Some(zone);
    }
    let mut rest = name;
    while let Some((_, after)) = rest.split_once('/') {
        if let Some(zone) = zone::parse(after).filter(|_| !after.is_empty()) {
            return Some(zone);
        }
        rest = after;
    }
    let name = name.to_ascii_lowercase();
    WINDOWS.iter().find(|(windows, _)| windows.eq_ignore_ascii_case(&name)).and_then(|(_, iana)| zone::parse(iana))
}

/// The names that Windows, and with it Outlook and Exchange, has for zones.
const WINDOWS: [(&str, &str); 48] = [
    ("AUS Eastern Standard Time", "Australia/Sydney"),
    ("AUS Central Standard Time", "Australia/Darwin"),
    ("Alaskan Standard Time", "America/Anchorage"),
    ("Arab Standard Time", "Asia/Riyadh"),
    ("Arabian Standard Time", "Asia/Dubai"),
    ("Argentina Standard Time", "America/Buenos_Aires"),
    ("Atlantic Standard Time", "America/Halifax"),
    ("Bangladesh Standard Time", "Asia/Dhaka"),
    ("Canada Central Standard Time", "America/Regina"),
    ("Cen. Australia Standard Time", "Australia/Adelaide"),
    ("Central America Standard Time", "America/Guatemala"),
    ("Central Asia Standard Time", "Asia/Almaty"),
    ("Central Europe Standard Time", "Europe/Budapest"),
    ("Central European Standard Time", "Europe/Warsaw"),
    ("Central Standard Time", "America/Chicago"),
    ("China Standard Time", "Asia/Shanghai"),
    ("E. Africa Standard Time", "Africa/Nairobi"),
    ("E. Australia Standard Time", "Australia/Brisbane"),
    ("E. Europe Standard Time", "Europe/Chisinau"),
    ("E. South America Standard Time", "America/Sao_Paulo"),
    ("Eastern Standard Time", "America/New_York"),
    ("Egypt Standard Time", "Africa/Cairo"),
    ("FLE Standard Time", "Europe/Kiev"),
    ("GMT Standard Time", "Europe/London"),
    ("GTB Standard Time", "Europe/Bucharest"),
    ("Greenwich Standard Time", "Atlantic/Reykjavik"),
    ("Hawaiian Standard Time", "Pacific/Honolulu"),
    ("India Standard Time", "Asia/Kolkata"),
    ("Iran Standard Time", "Asia/Tehran"),
    ("Israel Standard Time", "Asia/Jerusalem"),
    ("Korea Standard Time", "Asia/Seoul"),
    ("Mountain Standard Time", "America/Denver"),
    ("Nepal Standard Time", "Asia/Kathmandu"),
    ("New Zealand Standard Time", "Pacific/Auckland"),
    ("Newfoundland Standard Time", "America/St_Johns"),
    ("Pacific Standard Time", "America/Los_Angeles"),
    ("Pakistan Standard Time", "Asia/Karachi"),
    ("Romance Standard Time", "Europe/Paris"),
    ("Russian Standard Time", "Europe/Moscow"),
    ("SA Pacific Standard Time", "America/Bogota"),
    ("SE Asia Standard Time", "Asia/Bangkok"),
    ("Singapore Standard Time", "Asia/Singapore"),
    ("South Africa Standard Time", "Africa/Johannesburg"),
    ("Tokyo Standard Time", "Asia/Tokyo"),
    ("Turkey Standard Time", "Europe/Istanbul"),
    ("US Mountain Standard Time", "America/Phoenix"),
    ("W. Australia Standard Time", "Australia/Perth"),
    ("W. Europe Standard Time", "Europe/Berlin"),
];
