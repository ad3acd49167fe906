//! Recurrence as in RFC 5545, on the wall clock of a time zone. The rules of dates are those of the crate `rrule`, which is
//! only ever asked about times without a zone; what a local time means is decided here. Pure.

pub mod rule;

use std::{collections::BTreeSet, time::Duration};

use berth_sdk::clock::Timestamp;
use chrono::{NaiveDateTime, TimeDelta};
use chrono_tz::Tz;

use crate::zone;
pub use rule::Rule;

/// The most occurrences that one expansion gives.
pub const OCCURRENCES_MAX: usize = 1_000;
/// Nothing recurs beyond the year 2200.
pub const LAST_MILLIS: i64 = 7_289_568_000_000;
/// How far ahead the next occurrence is looked for, in days, one look after another.
const LOOKS_DAYS: [u64; 3] = [62, 1_000, 70_000];

/// One occurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// When it begins.
    pub start: Timestamp,
    /// When it is over.
    pub end: Timestamp,
}

impl Span {
    /// Whether they share a moment.
    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// What an expansion found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    /// In their order.
    pub occurrences: Vec<Span>,
    /// There are more than were asked for.
    pub is_cut: bool,
}

/// An event that may come more than once.
#[derive(Clone, Debug)]
pub struct Series {
    /// When it first begins, on its wall clock.
    start: NaiveDateTime,
    /// How long it lasts on the wall clock.
    length: TimeDelta,
    /// How long it lasts, where the wall clock runs evenly.
    exact: TimeDelta,
    zone: Tz,
    rule: Option<Rule>,
    more: Vec<Timestamp>,
    less: BTreeSet<Timestamp>,
    last: Option<Timestamp>,
}

impl Series {
    /// An event from `start` to `end` on the wall clock of a zone.
    pub fn new(zone: Tz, start: Timestamp, end: Timestamp) -> Self {
        let (from, to) = (zone::local(zone, start), zone::local(zone, end));
        Self {
            start: from,
            length: to - from,
            exact: end.date_time() - start.date_time(),
            zone,
            rule: None,
            more: Vec::new(),
            less: BTreeSet::new(),
            last: None,
        }
    }

    /// From midnight to midnight, also where the clock leaves a midnight out.
    #[must_use]
    pub fn of_whole_days(mut self) -> Self {
        let days = ((self.start + self.length).date() - self.start.date()).max(TimeDelta::days(1));
        self.start = self.start.date().and_time(chrono::NaiveTime::MIN);
        self.length = days;
        self
    }

    /// With a rule.
    #[must_use]
    pub fn with_rule(mut self, rule: Rule) -> Self {
        self.rule = Some(rule);
        self
    }

    /// With further beginnings, and some that fall out.
    #[must_use]
    pub fn with_dates(mut self, more: &[Timestamp], less: &[Timestamp]) -> Self {
        self.more = more.to_vec();
        self.less = less.iter().copied().collect();
        self
    }

    /// With the last beginning that its rule gives, where that is known: a rule with a count is not counted through again.
    #[must_use]
    pub fn with_last(mut self, last: Option<Timestamp>) -> Self {
        self.last = last;
        self
    }

    /// The occurrences that overlap a range, at most `max`.
    pub fn between(&self, from: Timestamp, to: Timestamp, max: usize) -> Expansion {
        let lead = self.length.max(self.exact).max(TimeDelta::zero());
        let earliest = zone::local(self.zone, from) - lead - TimeDelta::days(1);
        let latest = zone::local(self.zone, to) + TimeDelta::days(1);
        let mut expansion = Expansion::default();
        let mut take = |span: Span| {
            if span.start >= to {
                return false;
            }
            let is_inside = span.end > from || (span.end == span.start && span.start >= from);
            if is_inside && !self.less.contains(&span.start) {
                if expansion.occurrences.len() > max {
                    return false;
                }
                expansion.occurrences.push(span);
            }
            true
        };
        let mut more: Vec<Span> = self.more.iter().map(|start| self.span_of(zone::local(self.zone, *start))).collect();
        more.sort_unstable();
        more.dedup();
        let mut more = more.into_iter().peekable();
        let mut previous = None;
        for start in self.starts(earliest, latest) {
            let span = self.span_of(start);
            while let Some(extra) = more.next_if(|extra| extra.start < span.start) {
                take(extra);
            }
            while more.next_if(|extra| extra.start == span.start).is_some() {}
            // Two local times may mean the same moment where the clock is changed.
            if previous != Some(span.start) && !take(span) {
                break;
            }
            previous = Some(span.start);
        }
        for extra in more {
            take(extra);
        }
        expansion.occurrences.sort_unstable();
        expansion.is_cut = expansion.occurrences.len() > max;
        expansion.occurrences.truncate(max);
        expansion
    }

    /// The first occurrence that begins after a moment.
    pub fn next(&self, after: Timestamp) -> Option<Span> {
        // What comes often is found in a short look; what comes rarely gives few dates in a long one.
        for days in LOOKS_DAYS {
            let to = after.plus(Duration::from_secs(days * 24 * 3_600)).min(Timestamp::from_millis(LAST_MILLIS));
            let found = self.between(after, to, OCCURRENCES_MAX);
            if let Some(span) = found.occurrences.iter().find(|span| span.start > after) {
                return Some(*span);
            }
        }
        None
    }

    /// Whether it takes place at some time within a range, which may be as long as time.
    pub fn comes_within(&self, from: Timestamp, to: Timestamp) -> bool {
        let from = from.max(zone::moment(self.zone, self.start));
        let until = |days: &u64| from.plus(Duration::from_secs(days * 24 * 3_600)).min(to);
        LOOKS_DAYS.iter().any(|days| !self.between(from, until(days), 1).occurrences.is_empty())
    }

    /// Whether it begins at this moment.
    pub fn begins_at(&self, start: Timestamp) -> Option<Span> {
        let after = Timestamp::from_millis(start.millis() + 1);
        let found = self.between(start, after, OCCURRENCES_MAX);
        found.occurrences.into_iter().find(|span| span.start == start)
    }

    /// The last beginning that the rule gives; none without a rule, or without an end of it.
    pub fn last_of_rule(&self) -> Option<Timestamp> {
        self.rule.as_ref().filter(|rule| !rule.is_endless())?;
        let latest = zone::local(self.zone, Timestamp::from_millis(LAST_MILLIS));
        self.starts(self.start, latest).last().map(|start| zone::moment(self.zone, start))
    }

    /// The last occurrence; none when there is no end to it.
    pub fn last(&self) -> Option<Span> {
        if self.rule.as_ref().is_some_and(Rule::is_endless) {
            return None;
        }
        let first = zone::moment(self.zone, self.start);
        let starts = self.more.iter().copied().chain(self.last_of_rule()).chain([first]);
        starts.map(|start| self.span_of(zone::local(self.zone, start))).max()
    }

    /// The rule gives at least one date.
    pub fn comes(&self) -> bool {
        let Some(rule) = &self.rule else { return true };
        let begin = zone::moment(self.zone, self.start);
        LOOKS_DAYS.iter().any(|days| {
            let to = begin.plus(Duration::from_secs(days * 24 * 3_600)).min(Timestamp::from_millis(LAST_MILLIS));
            !rule.starts(self.start, self.start, zone::local(self.zone, to), self.zone, None).is_empty()
        })
    }

    /// Local beginnings in their order. The first one is there whether the rule gives it or not.
    fn starts(&self, earliest: NaiveDateTime, latest: NaiveDateTime) -> Box<dyn Iterator<Item = NaiveDateTime> + '_> {
        let first = self.start;
        let Some(rule) = &self.rule else { return Box::new(std::iter::once(first)) };
        let last = self.last.map(|last| zone::local(self.zone, last));
        let rest = rule.starts(first, earliest.max(first), latest, self.zone, last);
        Box::new(std::iter::once(first).chain(rest.into_iter().filter(move |start| *start != first)))
    }

    /// From a local beginning to what is as much later on the wall clock.
    fn span_of(&self, local: NaiveDateTime) -> Span {
        let start = zone::moment(self.zone, local);
        let end = zone::moment(self.zone, local + self.length);
        // A clock that is set back, or forward over the end, must not turn it round.
        let end =
            if end > start || self.exact.is_zero() { end } else { Timestamp::from(start.date_time() + self.exact) };
        Span { start, end }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn series(rule: &str) -> Series {
        let (start, end) = (at("2026-01-05T09:00:00Z"), at("2026-01-05T10:00:00Z"));
        Series::new(chrono_tz::Europe::Berlin, start, end).with_rule(Rule::parse(rule).unwrap())
    }

    #[test]
    fn no_more_than_asked_for_is_given() {
        let found = series("FREQ=DAILY").between(at("2026-01-01T00:00:00Z"), at("2030-01-01T00:00:00Z"), 1_000);
        assert_eq!((found.occurrences.len(), found.is_cut), (1_000, true));
    }

    #[test]
    fn the_next_one_is_found_however_far_it_is() {
        let next = |rule: &str, after: &str| series(rule).next(at(after)).map(|span| span.start.to_string());
        assert_eq!(next("FREQ=DAILY", "2026-07-01T08:00:00Z").as_deref(), Some("2026-07-02T08:00:00.000Z"));
        assert_eq!(
            next("FREQ=YEARLY;INTERVAL=20", "2030-01-01T00:00:00Z").as_deref(),
            Some("2046-01-05T09:00:00.000Z")
        );
        assert_eq!(next("FREQ=DAILY;COUNT=3", "2026-01-07T09:00:00Z"), None);
    }

    #[test]
    fn whether_it_comes_within_a_range_is_known_of_any_range() {
        let within = |rule: &str, from: &str, to: &str| series(rule).comes_within(at(from), at(to));
        let forever = "2200-12-31T00:00:00Z";
        assert!(within("FREQ=DAILY", "1970-01-01T00:00:00Z", forever));
        assert!(within("FREQ=YEARLY", "2027-01-05T09:59:00Z", "2027-01-06T00:00:00Z"), "it is not over yet");
        assert!(!within("FREQ=YEARLY", "2027-01-05T10:00:00Z", "2028-01-05T09:00:00Z"));
        assert!(within("FREQ=YEARLY;INTERVAL=50", "2030-01-01T00:00:00Z", forever));
        assert!(!within("FREQ=DAILY;COUNT=3", "2026-01-07T10:00:00Z", forever));
        assert!(!within("FREQ=DAILY", "2025-01-01T00:00:00Z", "2026-01-05T09:00:00Z"), "it has not begun");
        let less = series("FREQ=WEEKLY").with_dates(&[], &[at("2026-01-12T09:00:00Z")]);
        assert!(!less.comes_within(at("2026-01-12T00:00:00Z"), at("2026-01-13T00:00:00Z")));
    }

    #[test]
    fn a_rule_that_never_comes_is_known() {
        let comes = |rule: &str| series(rule).comes();
        assert!(!comes("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30") && !comes("FREQ=DAILY;BYMONTH=4;BYMONTHDAY=31"));
        assert!(comes("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29") && comes("FREQ=YEARLY;INTERVAL=50"));
    }

    proptest! {
        /// Whatever rule is taken, its occurrences are in order and in the range, and a later look gives the same ones.
        #[test]
        fn an_expansion_is_in_order_and_the_same_from_anywhere(
            frequency in prop::sample::select(vec!["DAILY", "WEEKLY", "MONTHLY", "YEARLY"]),
            interval in 1_i64..6,
            parts in proptest::collection::vec(prop::sample::select(vec![
                "BYDAY=MO,SU", "BYDAY=-1FR", "BYDAY=2TU,4TH", "BYMONTHDAY=-1,15", "BYMONTHDAY=31", "BYMONTH=2,10",
                "BYSETPOS=-1", "BYSETPOS=1,2", "BYYEARDAY=-1,60", "BYWEEKNO=1,53", "WKST=SU", "COUNT=7", "COUNT=400",
                "UNTIL=20270301T000000Z",
            ]), 0..4),
            offset in 0_u64..900,
        ) {
            let text = format!("FREQ={frequency};INTERVAL={interval};{}", parts.join(";"));
            if let Ok(rule) = Rule::parse(&text) {
                let (start, end) = (at("2026-01-05T01:30:00Z"), at("2026-01-05T03:00:00Z"));
                let series = Series::new(chrono_tz::Europe::Berlin, start, end).with_rule(rule);
                let to = at("2029-01-01T00:00:00Z");
                let all = series.between(start, to, 2_000).occurrences;
                prop_assert!(all.windows(2).all(|pair| pair[0].start < pair[1].start), "{}", text);
                let from = start.plus(Duration::from_secs(offset * 24 * 3_600));
                let late = series.clone().with_last(series.last_of_rule()).between(from, to, 2_000).occurrences;
                let expected: Vec<Span> = all.into_iter().filter(|span| span.end > from).collect();
                prop_assert_eq!(late, expected, "{}", text);
            }
        }
    }
}
