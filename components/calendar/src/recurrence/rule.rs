//! One rule, such as `FREQ=MONTHLY;BYDAY=-1FR`: what is understood, what is refused, and its dates. Pure.

use berth_sdk::clock::Timestamp;
use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use rrule::{RRule, RRuleSet, Unvalidated};

use crate::zone;

/// The longest rule, in characters.
const CHARACTERS_MAX: usize = 500;
/// The largest interval.
const INTERVAL_MAX: i64 = 1_000;
/// The largest count.
const COUNT_MAX: u32 = 10_000;
/// The parts that are understood.
const PARTS: [&str; 11] = [
    "FREQ",
    "INTERVAL",
    "BYDAY",
    "BYMONTHDAY",
    "BYMONTH",
    "BYSETPOS",
    "BYYEARDAY",
    "BYWEEKNO",
    "WKST",
    "COUNT",
    "UNTIL",
];

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frequency {
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

/// When it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// With the last occurrence that begins at this moment or earlier.
    Moment(Timestamp),
    /// The same on the event's own wall clock.
    Local(NaiveDateTime),
}

/// A rule that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    frequency: Frequency,
    interval: i64,
    count: Option<u32>,
    until: Option<Until>,
    /// Everything but `COUNT` and `UNTIL`.
    parts: String,
}

impl Rule {
    /// Reads a rule, with or without `RRULE:` before it.
    ///
    /// ```
    /// use calendar::recurrence::Rule;
    /// assert!(Rule::parse("FREQ=WEEKLY;BYDAY=MO,WE;COUNT=4").is_ok());
    /// assert!(Rule::parse("FREQ=SECONDLY").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > CHARACTERS_MAX {
            return Err(format!("must have at most {CHARACTERS_MAX} characters"));
        }
        let text = text.trim().to_ascii_uppercase();
        let text = text.strip_prefix("RRULE:").unwrap_or(&text).trim_end_matches(';');
        let mut known: Vec<(&str, &str)> = Vec::new();
        for part in text.split(';') {
            let (name, value) = part.split_once('=').ok_or("must be like FREQ=WEEKLY;BYDAY=MO")?;
            let (name, value) = (name.trim(), value.trim());
            if !PARTS.contains(&name) {
                return Err(format!("has the part {name:.20}, which is not supported"));
            }
            if known.iter().any(|(other, _)| *other == name) {
                return Err(format!("has the part {name} twice"));
            }
            known.push((name, value));
        }
        let value = |name: &str| known.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
        let rule = Self {
            frequency: frequency(value("FREQ").unwrap_or_default())?,
            interval: number(value("INTERVAL"), 1, INTERVAL_MAX, "INTERVAL")?.unwrap_or(1),
            count: number(value("COUNT"), 1, i64::from(COUNT_MAX), "COUNT")?
                .and_then(|count| u32::try_from(count).ok()),
            until: value("UNTIL").map(until).transpose()?,
            parts: known
                .iter()
                .filter(|(name, _)| !matches!(*name, "COUNT" | "UNTIL"))
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
                .join(";"),
        };
        if rule.count.is_some() && rule.until.is_some() {
            return Err("must not have COUNT and UNTIL".into());
        }
        rule.judge(value("BYDAY").unwrap_or_default())?;
        Ok(rule)
    }

    /// What the crate says of it, and that a place such as `2MO` only stands where there is one.
    fn judge(&self, days: &str) -> Result<(), String> {
        let has_place = days.split(',').any(|day| day.len() > 2);
        if has_place && matches!(self.frequency, Frequency::Daily | Frequency::Weekly) {
            return Err("must have plain weekdays in BYDAY unless it is MONTHLY or YEARLY".into());
        }
        if has_place && self.parts.contains("BYWEEKNO") {
            return Err("must have plain weekdays in BYDAY together with BYWEEKNO".into());
        }
        let rule: RRule<Unvalidated> = self.parts.parse().map_err(|_| "is no rule of RFC 5545".to_string())?;
        let start = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap_or_default().and_time(chrono::NaiveTime::MIN);
        rule.validate(utc(start)).map(|_| ()).map_err(|error| format!("is no rule of RFC 5545: {error}"))
    }

    /// Whether nothing ends it.
    pub fn is_endless(&self) -> bool {
        self.count.is_none() && self.until.is_none()
    }

    /// How often it comes at most.
    pub fn count(&self) -> Option<u32> {
        self.count
    }

    /// Its last moment, where it names one.
    pub fn until(&self, zone: Tz) -> Option<Timestamp> {
        match self.until? {
            Until::Moment(moment) => Some(moment),
            Until::Local(local) => Some(zone::moment(zone, local)),
        }
    }

    /// The same rule that ends at a moment.
    #[must_use]
    pub fn ending(mut self, until: Timestamp) -> Self {
        self.count = None;
        self.until = Some(Until::Moment(until));
        self
    }

    /// The same rule that comes so often.
    #[must_use]
    pub fn counting(mut self, count: u32) -> Self {
        self.until = None;
        self.count = Some(count);
        self
    }

    /// As it is stored and written: a date for events of whole days, else a moment in UTC.
    pub fn text(&self, zone: Tz, is_all_day: bool) -> String {
        let mut text = self.parts.clone();
        if let Some(count) = self.count {
            text.push_str(&format!(";COUNT={count}"));
        }
        if let Some(until) = self.until(zone) {
            let until = if is_all_day {
                zone::local(zone, until).format("%Y%m%d").to_string()
            } else {
                until.date_time().format("%Y%m%dT%H%M%SZ").to_string()
            };
            text.push_str(&format!(";UNTIL={until}"));
        }
        text
    }

    /// Local beginnings from about `earliest` to `latest`, in their order, of a series that first begins at `first`. `last`
    /// is where it ends, when that is known.
    pub(super) fn starts(
        &self,
        first: NaiveDateTime,
        earliest: NaiveDateTime,
        latest: NaiveDateTime,
        zone: Tz,
        last: Option<NaiveDateTime>,
    ) -> Vec<NaiveDateTime> {
        let until = self.until.map(|until| match until {
            Until::Moment(moment) => zone::local(zone, moment),
            Until::Local(local) => local,
        });
        let end = [until, last, Some(latest)].into_iter().flatten().min().unwrap_or(latest);
        let is_counted = self.count.is_some() && last.is_none();
        let begin = if is_counted { first } else { self.closer(first, earliest) };
        if end < begin {
            return Vec::new();
        }
        let Ok(mut rule) = self.parts.parse::<RRule<Unvalidated>>() else { return Vec::new() };
        if let (Some(count), true) = (self.count, is_counted) {
            rule = rule.count(count);
        }
        rule = rule.until(utc(end));
        let Ok(rule) = rule.validate(utc(begin)) else { return Vec::new() };
        let set = RRuleSet::new(utc(begin)).rrule(rule).limit();
        let dates = (&set).into_iter().map(|date| date.naive_utc());
        dates.filter(|date| *date >= earliest || is_counted).take(KEPT_MAX).collect()
    }

    /// A beginning close before `earliest` from which the rule gives the same dates. Days and weeks come evenly; months and
    /// years are few enough to be gone through.
    fn closer(&self, first: NaiveDateTime, earliest: NaiveDateTime) -> NaiveDateTime {
        let days = match self.frequency {
            Frequency::Daily => self.interval,
            Frequency::Weekly => self.interval * 7,
            Frequency::Monthly | Frequency::Yearly => return first,
        };
        let ahead = (earliest - first).num_days() / days - 1;
        if ahead < 1 {
            return first;
        }
        first.checked_add_signed(TimeDelta::days(ahead * days)).unwrap_or(first)
    }
}

/// Dates of one expansion that are kept: more than a rule without times of the day gives in two centuries.
const KEPT_MAX: usize = 100_000;

fn utc(local: NaiveDateTime) -> DateTime<rrule::Tz> {
    local.and_utc().with_timezone(&rrule::Tz::UTC)
}

fn frequency(text: &str) -> Result<Frequency, String> {
    match text {
        "DAILY" => Ok(Frequency::Daily),
        "WEEKLY" => Ok(Frequency::Weekly),
        "MONTHLY" => Ok(Frequency::Monthly),
        "YEARLY" => Ok(Frequency::Yearly),
        _ => Err("must have FREQ=DAILY, WEEKLY, MONTHLY or YEARLY".into()),
    }
}

fn number(text: Option<&str>, min: i64, max: i64, name: &str) -> Result<Option<i64>, String> {
    let Some(text) = text else { return Ok(None) };
    match text.parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(Some(number)),
        _ => Err(format!("must have {name} from {min} to {max}")),
    }
}

fn until(text: &str) -> Result<Until, String> {
    let misfit = || "must have UNTIL like 20261231T220000Z".to_string();
    if let Some(text) = text.strip_suffix('Z') {
        let moment = NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%S").map_err(|_| misfit())?;
        return Ok(Until::Moment(DateTime::<Utc>::from_naive_utc_and_offset(moment, Utc).into()));
    }
    if let Ok(local) = NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%S") {
        return Ok(Until::Local(local));
    }
    let day = NaiveDate::parse_from_str(text, "%Y%m%d").map_err(|_| misfit())?;
    // A date is the whole day.
    day.and_hms_opt(23, 59, 59).map(Until::Local).ok_or_else(misfit)
}
