//! Days of the calendar, without a time and a zone, and spans of them. Pure.

use std::{borrow::Cow, fmt};

use berth_sdk::{
    database,
    entity::{Column, Kind},
    schemars::{JsonSchema, Schema, SchemaGenerator, json_schema},
    serde::{Deserialize, Deserializer, Serialize, Serializer},
    validate::{Faults, Path, Rule, Tidy},
};
use chrono::{Datelike, Days, NaiveDate};

/// A day, written `2026-01-31`. A moment in RFC 3339 is taken for the day it shows. What is neither is noted as a fault when
/// the body or the query is tidied, under the name of its field, as every other fault is.
///
/// ```
/// use berth_sdk::{data, http, json};
/// use time_rules::day::Day;
/// #[data]
/// struct Leave { first: Day, last: Day }
/// let leave: Leave = http::read_value(json!({"first": "2026-01-31", "last": "2026-02-01T00:00:00+02:00"})).unwrap();
/// assert_eq!((leave.first.to_string(), leave.last.to_string()), ("2026-01-31".into(), "2026-02-01".into()));
/// let faults = http::read_value::<Leave>(json!({"first": "31.1.", "last": "2026-02-30"})).unwrap_err();
/// assert_eq!(faults.errors.len(), 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(NaiveDate);

/// Stands for what is no day until it is noted as a fault.
const NONE: NaiveDate = NaiveDate::MIN;

impl Day {
    /// Reads `2026-01-31`, or the day that a moment shows; none before 1970 and after 9999.
    pub fn parse(text: &str) -> Option<Self> {
        let (day, rest) = (text.get(..10)?, text.get(10..)?);
        let is_plain = rest.is_empty() || chrono::DateTime::parse_from_rfc3339(text).is_ok();
        let date: NaiveDate = day.parse().ok()?;
        (is_plain && date.year() >= 1970).then_some(Self(date))
    }

    /// As a date.
    pub fn date(self) -> NaiveDate {
        self.0
    }

    /// The Monday of its week.
    ///
    /// ```
    /// use time_rules::day::Day;
    /// assert_eq!(Day::parse("2026-03-01").unwrap().monday(), Day::parse("2026-02-23").unwrap());
    /// ```
    #[must_use]
    pub fn monday(self) -> Self {
        self.minus(u64::from(self.0.weekday().num_days_from_monday()))
    }

    /// So many days later.
    #[must_use]
    pub fn plus(self, days: u64) -> Self {
        Self(self.0.checked_add_days(Days::new(days)).unwrap_or(NaiveDate::MAX))
    }

    /// So many days earlier.
    #[must_use]
    pub fn minus(self, days: u64) -> Self {
        Self(self.0.checked_sub_days(Days::new(days)).unwrap_or(NONE))
    }

    /// Monday is 0.
    pub fn weekday(self) -> usize {
        self.0.weekday().num_days_from_monday() as usize
    }
}

impl From<NaiveDate> for Day {
    fn from(date: NaiveDate) -> Self {
        Self(date)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0.format("%Y-%m-%d"))
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Ok(Self::parse(&text).unwrap_or(Self(NONE)))
    }
}

impl JsonSchema for Day {
    fn schema_name() -> Cow<'static, str> {
        "Day".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date"})
    }
}

impl Tidy for Day {
    fn tidy(&mut self, _: &Rule, path: &Path<'_>, faults: &mut Faults) {
        if self.0 == NONE {
            faults.add(path.to_string(), "must be a day such as 2026-01-31");
        }
    }
}

/// As text: days sort as their texts do.
impl Column for Day {
    const KIND: Kind = Kind::Text;
}

impl From<Day> for database::Value {
    fn from(day: Day) -> Self {
        Self::Text(day.to_string())
    }
}

impl database::FromValue for Day {
    fn from_value(value: database::Value) -> Option<Self> {
        Self::parse(&<String as database::FromValue>::from_value(value)?)
    }
}

/// Days from a first to a last one, both with them. Empty when the last is before the first.
///
/// ```
/// use time_rules::day::{Day, Span};
/// let day = |text| Day::parse(text).unwrap();
/// let january = Span::new(day("2026-01-01"), day("2026-01-31"));
/// assert_eq!((january.days(), january.weeks().count()), (31, 5));
/// assert_eq!(january.both(Span::new(day("2026-01-30"), day("2026-02-10"))).days(), 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first day.
    pub first: Day,
    /// The last day, with it.
    pub last: Day,
}

impl Span {
    /// From a first to a last day.
    pub fn new(first: Day, last: Day) -> Self {
        Self { first, last }
    }

    /// The week that begins on a Monday, or on whatever day it is.
    pub fn week(first: Day) -> Self {
        Self::new(first, first.plus(6))
    }

    /// How many days there are.
    pub fn days(self) -> u64 {
        u64::try_from((self.last.0 - self.first.0).num_days() + 1).unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.last < self.first
    }

    /// Whether a day is among them.
    pub fn holds(self, day: Day) -> bool {
        self.first <= day && day <= self.last
    }

    /// The days that are in both.
    #[must_use]
    pub fn both(self, other: Self) -> Self {
        Self::new(self.first.max(other.first), self.last.min(other.last))
    }

    /// Whether they share a day.
    pub fn meets(self, other: Self) -> bool {
        !self.both(other).is_empty()
    }

    /// Day for day.
    pub fn iter(self) -> impl Iterator<Item = Day> {
        (0..self.days()).map(move |count| self.first.plus(count))
    }

    /// The Mondays of the weeks that any of them is in.
    pub fn weeks(self) -> impl Iterator<Item = Day> {
        let monday = self.first.monday();
        let count = if self.is_empty() { 0 } else { Self::new(monday, self.last).days().div_ceil(7) };
        (0..count).map(move |week| monday.plus(week * 7))
    }

    /// How many of them are one of some days of the week, Monday first; without looking at each.
    ///
    /// ```
    /// use time_rules::day::{Day, Span};
    /// let span = Span::new(Day::parse("2026-01-01").unwrap(), Day::parse("2026-01-31").unwrap());
    /// assert_eq!(span.count(&[true, true, true, true, true, false, false]), 22);
    /// ```
    pub fn count(self, weekdays: &[bool; 7]) -> u64 {
        let days = self.days();
        let first = u64::try_from(self.first.weekday()).unwrap_or(0);
        // Of the days beyond whole weeks there is one each, counted on from the first.
        let counted = (0_u64..7).zip(weekdays).filter(|(_, wanted)| **wanted);
        counted.map(|(weekday, _)| days / 7 + u64::from((weekday + 7 - first) % 7 < days % 7)).sum()
    }
}

/// Days of the week by their numbers, 1 for Monday to 7 for Sunday, as flags with Monday first; others are left out.
///
/// ```
/// assert_eq!(time_rules::day::weekdays(&[1, 7, 9]), [true, false, false, false, false, false, true]);
/// ```
pub fn weekdays(numbers: &[i64]) -> [bool; 7] {
    let mut flags = [false; 7];
    for number in numbers {
        if let Some(flag) = usize::try_from(number - 1).ok().and_then(|index| flags.get_mut(index)) {
            *flag = true;
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_days_are_days() {
        for text in
            ["", "2026", "2026-02-29", "2026-1-1", "2026-01-31x", "2026-01-31T", "1969-12-31", "20260131", "äöü-01-31"]
        {
            assert_eq!(Day::parse(text), None, "{text}");
        }
        assert_eq!(Day::parse("2024-02-29").unwrap().to_string(), "2024-02-29");
    }

    proptest! {
        #[test]
        fn weekdays_are_counted_as_one_would_by_hand(first in 0_u64..1_500, length in 0_u64..800, mask in 0_u8..128) {
            let flags: [bool; 7] = std::array::from_fn(|index| mask & (1 << index) != 0);
            let first = Day::parse("2024-01-01").unwrap().plus(first);
            let span = Span::new(first, first.plus(length).minus(1));
            let by_hand = span.iter().filter(|day| flags[day.weekday()]).count();
            prop_assert_eq!(span.count(&flags), by_hand as u64);
            prop_assert_eq!(span.iter().count() as u64, length);
        }

        #[test]
        fn weeks_hold_every_day_once(first in 0_u64..1_500, length in 1_u64..400) {
            let first = Day::parse("2024-01-01").unwrap().plus(first);
            let span = Span::new(first, first.plus(length - 1));
            let weeks: Vec<Day> = span.weeks().collect();
            prop_assert!(weeks.iter().all(|monday| monday.weekday() == 0 && Span::week(*monday).meets(span)));
            let days: u64 = weeks.iter().map(|monday| Span::week(*monday).both(span).days()).sum();
            prop_assert_eq!(days, length);
        }
    }
}
