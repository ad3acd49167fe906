//! When something may happen in an environment: allowed hours and blocked days on the wall clock of a time zone. Pure:
//! nothing here reads a clock or a database.

pub mod cron;
pub mod day;
pub mod zone;

use std::collections::BTreeSet;

use berth_sdk::{
    clock::Timestamp,
    data,
    entity::{Column, Kind},
    validate::Faults,
};
use chrono::{
    DateTime, Datelike, Days, LocalResult, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc, Weekday,
};
use chrono_tz::Tz;

/// How far ahead a window is looked for, in days.
const DAYS_MAX: u64 = 400;
/// How often several rules may pass a moment on to each other.
const WINDOW_TRIES_MAX: usize = 500;
/// How far a local time that does not exist is moved on at most, in minutes.
const GAP_MINUTES_MAX: i64 = 24 * 60;

/// The rules as they are sent and stored. Without hours every hour is allowed.
///
/// ```
/// use berth_sdk::{clock::Timestamp, json, serde_json};
/// use time_rules::TimeRules;
/// let rules: TimeRules = serde_json::from_value(json!({
///     "allowedHours": ["09:00-17:00"], "blockedDays": ["saturday", "sunday"], "timezone": "Europe/Berlin",
/// })).unwrap();
/// let friday_evening = Timestamp::parse("2026-11-20T17:00:00Z").unwrap();
/// assert!(!rules.allows(friday_evening));
/// assert_eq!(rules.next_allowed(friday_evening), Timestamp::parse("2026-11-23T08:00:00Z"));
/// ```
#[data]
#[derive(Default)]
pub struct TimeRules {
    /// `09:00-17:00`; `22:00-06:00` goes over midnight.
    #[field(default, max = 48)]
    pub allowed_hours: Vec<String>,
    /// `saturday`, or a date such as `2026-12-24`.
    #[field(default, max = 400)]
    pub blocked_days: Vec<String>,
    /// A name of the IANA database; UTC when absent.
    #[field(default, max = 64, format = "timezone")]
    pub timezone: String,
}

impl Column for TimeRules {
    const KIND: Kind = Kind::Json;
}

/// The first moment from `from` on that all of the rules allow; none when they never agree.
///
/// ```
/// use berth_sdk::clock::Timestamp;
/// let now = Timestamp::from_millis(0);
/// assert_eq!(time_rules::next_window(&[], now), Some(now));
/// ```
pub fn next_window(rules: &[TimeRules], from: Timestamp) -> Option<Timestamp> {
    let mut moment = from;
    for _ in 0..WINDOW_TRIES_MAX {
        match rules.iter().find(|rules| !rules.allows(moment)) {
            None => return Some(moment),
            Some(against) => moment = against.next_allowed(moment)?,
        }
    }
    None
}

/// Rules that have been understood.
struct Understood {
    /// From and to, in minutes of the day.
    hours: Vec<(u32, u32)>,
    weekdays: Vec<Weekday>,
    dates: BTreeSet<NaiveDate>,
    zone: Tz,
}

impl TimeRules {
    /// Notes what is wrong, under the name of the field that holds the rules.
    pub fn faults(&self, field: &str, faults: &mut Faults) {
        for (index, hours) in self.allowed_hours.iter().enumerate() {
            if hours_of(hours).is_none() {
                faults.add(format!("{field}.allowedHours[{index}]"), "must be like 09:00-17:00");
            }
        }
        for (index, day) in self.blocked_days.iter().enumerate() {
            if weekday_of(day).is_none() && day.parse::<NaiveDate>().is_err() {
                faults.add(format!("{field}.blockedDays[{index}]"), "must be a weekday or a date such as 2026-12-24");
            }
        }
        if zone_of(&self.timezone).is_none() {
            faults.add(format!("{field}.timezone"), "must be a time zone such as Europe/Berlin");
        }
    }

    /// Whether nothing is forbidden.
    pub fn is_empty(&self) -> bool {
        self.allowed_hours.is_empty() && self.blocked_days.is_empty()
    }

    /// Whether something may happen at this moment. What cannot be understood forbids nothing.
    pub fn allows(&self, at: Timestamp) -> bool {
        self.understood().allows(at.date_time())
    }

    /// The first moment from `from` on at which something may happen; none within 400 days.
    pub fn next_allowed(&self, from: Timestamp) -> Option<Timestamp> {
        let rules = self.understood();
        let begin = from.date_time();
        if rules.allows(begin) {
            return Some(from);
        }
        let today = begin.with_timezone(&rules.zone).date_naive();
        (0..=DAYS_MAX).find_map(|days| {
            let day = today.checked_add_days(Days::new(days))?;
            let found = rules.beginnings(day).into_iter().filter(|moment| *moment >= begin && rules.allows(*moment));
            found.min().map(Timestamp::from)
        })
    }

    fn understood(&self) -> Understood {
        Understood {
            hours: self.allowed_hours.iter().filter_map(|hours| hours_of(hours)).collect(),
            weekdays: self.blocked_days.iter().filter_map(|day| weekday_of(day)).collect(),
            dates: self.blocked_days.iter().filter_map(|day| day.parse().ok()).collect(),
            zone: zone_of(&self.timezone).unwrap_or(Tz::UTC),
        }
    }
}

impl Understood {
    fn allows(&self, at: DateTime<Utc>) -> bool {
        let local = at.with_timezone(&self.zone);
        let day = local.date_naive();
        if self.weekdays.contains(&day.weekday()) || self.dates.contains(&day) {
            return false;
        }
        let minute = local.hour() * 60 + local.minute();
        let inside = |(from, to): &(u32, u32)| match from.cmp(to) {
            std::cmp::Ordering::Less => (*from..*to).contains(&minute),
            std::cmp::Ordering::Equal => true,
            std::cmp::Ordering::Greater => minute >= *from || minute < *to,
        };
        self.hours.is_empty() || self.hours.iter().any(inside)
    }

    /// The moments of a local day at which something may begin to be allowed: midnight, and the beginnings of the hours.
    fn beginnings(&self, day: NaiveDate) -> Vec<DateTime<Utc>> {
        let minutes = self.hours.iter().map(|(from, _)| *from).chain([0]);
        minutes
            .filter_map(|minute| day.and_hms_opt(minute / 60, minute % 60, 0))
            .flat_map(|local| moments(self.zone, local))
            .collect()
    }
}

/// The moments that a local time means: two where the clock is set back; where it is set forward the first one after.
fn moments(zone: Tz, local: NaiveDateTime) -> Vec<DateTime<Utc>> {
    for minutes in 0..=GAP_MINUTES_MAX {
        let Some(shifted) = local.checked_add_signed(TimeDelta::minutes(minutes)) else { break };
        match zone.from_local_datetime(&shifted) {
            LocalResult::Single(moment) => return vec![moment.to_utc()],
            LocalResult::Ambiguous(first, second) => return vec![first.to_utc(), second.to_utc()],
            LocalResult::None => {}
        }
    }
    Vec::new()
}

/// The first moment that a local time means: the first of two where the clock is set back, the next one that exists where
/// it is set forward.
///
/// ```
/// use time_rules::moment_of;
/// let local = "2026-03-29T02:30:00".parse().unwrap();
/// assert_eq!(moment_of("Europe/Berlin", local).unwrap().to_string(), "2026-03-29T01:00:00.000Z");
/// ```
pub fn moment_of(zone: &str, local: NaiveDateTime) -> Option<Timestamp> {
    moments(zone_of(zone)?, local).first().copied().map(Timestamp::from)
}

/// A time zone of the IANA database; UTC for an empty text.
pub fn zone_of(name: &str) -> Option<Tz> {
    if name.is_empty() { Some(Tz::UTC) } else { name.parse().ok() }
}

fn weekday_of(text: &str) -> Option<Weekday> {
    // Dates begin with a digit, weekdays never do.
    text.parse().ok()
}

fn hours_of(text: &str) -> Option<(u32, u32)> {
    let (from, to) = text.split_once('-')?;
    let minute = |text: &str| {
        let (hour, minute) = text.trim().split_once(':')?;
        if hour.len() != 2 || minute.len() != 2 {
            return None;
        }
        let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour < 24 && minute < 60 || hour == 24 && minute == 0).then_some(hour * 60 + minute)
    };
    let (from, to) = (minute(from)?, minute(to)?);
    (from < 24 * 60).then_some((from, to))
}

#[cfg(test)]
mod tests {
    use berth_sdk::{clock::Timestamp, validate::Faults};
    use proptest::prelude::*;

    use super::{TimeRules, next_window};

    fn rules(hours: &[&str], days: &[&str], zone: &str) -> TimeRules {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        TimeRules { allowed_hours: texts(hours), blocked_days: texts(days), timezone: zone.into() }
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn what_is_wrong_is_named() {
        let mut faults = Faults::default();
        rules(&["9-17", "09:00-17:00", "25:00-26:00"], &["caturday", "sunday", "2026-02-30"], "Mars/Base")
            .faults("r", &mut faults);
        let fields: Vec<&str> = faults.errors().iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            fields,
            ["r.allowedHours[0]", "r.allowedHours[2]", "r.blockedDays[0]", "r.blockedDays[2]", "r.timezone"]
        );
    }

    #[test]
    fn hours_may_go_over_midnight() {
        let night = rules(&["22:00-02:00"], &[], "UTC");
        assert!(night.allows(at("2026-11-20T23:00:00Z")) && night.allows(at("2026-11-20T01:59:00Z")));
        assert!(!night.allows(at("2026-11-20T02:00:00Z")));
        assert_eq!(night.next_allowed(at("2026-11-20T02:00:00Z")), Some(at("2026-11-20T22:00:00Z")));
    }

    #[test]
    fn the_wall_clock_decides_when_it_changes() {
        // On 2026-03-29 the hour from 02:00 to 03:00 does not exist in Berlin.
        let early = rules(&["02:30-04:00"], &[], "Europe/Berlin");
        assert_eq!(early.next_allowed(at("2026-03-29T00:00:00Z")), Some(at("2026-03-29T01:00:00Z")));
        // On 2026-10-25 the hour from 02:00 to 03:00 is there twice.
        let twice = rules(&["02:00-02:30"], &[], "Europe/Berlin");
        assert_eq!(twice.next_allowed(at("2026-10-25T00:30:00Z")), Some(at("2026-10-25T01:00:00Z")));
    }

    #[test]
    fn windows_of_two_rules_must_meet() {
        let two = |one: &str, other: &str| [rules(&[one], &[], ""), rules(&[other], &[], "")];
        let found = next_window(&two("09:00-12:00", "11:00-18:00"), at("2026-11-20T09:30:00Z"));
        assert_eq!(found, Some(at("2026-11-20T11:00:00Z")));
        assert_eq!(next_window(&two("09:00-10:00", "11:00-12:00"), at("2026-11-20T09:30:00Z")), None);
    }

    #[test]
    fn when_every_day_is_blocked_there_is_no_window() {
        let week = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
        assert_eq!(rules(&[], &week, "UTC").next_allowed(at("2026-01-01T00:00:00Z")), None);
    }

    proptest! {
        #[test]
        fn the_next_window_is_allowed_and_none_is_earlier(
            from in 0i64..(366 * 24 * 4), start in 0u32..1440, length in 15u32..1440, weekday in 0usize..7, zone in 0usize..4
        ) {
            let zone = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"][zone];
            let (start, end) = (start / 15 * 15, (start / 15 * 15 + length / 15 * 15) % 1440);
            let hours = format!("{:02}:{:02}-{:02}:{:02}", start / 60, start % 60, end / 60, end % 60);
            let day = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"][weekday];
            let rules = rules(&[hours.as_str()], &[day, "2026-07-14"], zone);
            let quarter = 15 * 60 * 1000;
            let begin = at("2026-01-01T00:00:00Z").millis() + from * quarter;
            let next = rules.next_allowed(Timestamp::from_millis(begin)).unwrap();
            prop_assert!(rules.allows(next) && next.millis() >= begin);
            let mut moment = begin;
            while moment < next.millis() {
                prop_assert!(!rules.allows(Timestamp::from_millis(moment)), "{moment}");
                moment += quarter;
            }
        }
    }
}
