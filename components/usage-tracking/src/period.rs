//! Periods of quotas, budgets and reports, in the organization's time zone. Pure code.

use std::str::FromStr;

use berth_sdk::clock::Timestamp;
use chrono::{DateTime, Datelike, Days, Duration, LocalResult, Months, NaiveDate, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;

/// A span of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Span {
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

/// A time zone by its name; UTC when it is none.
pub(crate) fn zone(name: &str) -> Tz {
    Tz::from_str(name).unwrap_or(Tz::UTC)
}

/// The period that a moment lies in: its first moment, and the first one after it.
pub(crate) fn around(span: Span, moment: Timestamp, zone: Tz) -> (Timestamp, Timestamp) {
    let local = moment.date_time().with_timezone(&zone);
    if span == Span::Hour {
        // Whole hours since 1970: an hour is an hour, however the clocks are set.
        let hour = 3_600_000;
        let start = moment.millis().div_euclid(hour) * hour;
        return (Timestamp::from_millis(start), Timestamp::from_millis(start + hour));
    }
    let date = local.date_naive();
    let first = match span {
        Span::Hour | Span::Day => date,
        Span::Week => {
            date.checked_sub_days(Days::new(u64::from(date.weekday().num_days_from_monday()))).unwrap_or(date)
        }
        Span::Month => date.with_day(1).unwrap_or(date),
        Span::Quarter => day_one(date.year(), (date.month0() / 3) * 3 + 1, date),
        Span::Year => day_one(date.year(), 1, date),
    };
    let next = match span {
        Span::Hour | Span::Day => first.checked_add_days(Days::new(1)),
        Span::Week => first.checked_add_days(Days::new(7)),
        Span::Month => first.checked_add_months(Months::new(1)),
        Span::Quarter => first.checked_add_months(Months::new(3)),
        Span::Year => first.checked_add_months(Months::new(12)),
    };
    (midnight(first, zone), midnight(next.unwrap_or(first), zone))
}

fn day_one(year: i32, month: u32, otherwise: NaiveDate) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, month, 1).unwrap_or(otherwise)
}

/// The first moment of a day. Where the clocks jump over midnight, the day begins after the jump.
fn midnight(date: NaiveDate, zone: Tz) -> Timestamp {
    let mut wanted: NaiveDateTime = date.and_time(chrono::NaiveTime::MIN);
    // No clock jumps by more than a day; each step is a quarter of an hour.
    for _ in 0..96 {
        match zone.from_local_datetime(&wanted) {
            LocalResult::Single(moment) | LocalResult::Ambiguous(moment, _) => return utc(moment),
            LocalResult::None => wanted += Duration::minutes(15),
        }
    }
    utc(Utc.from_utc_datetime(&wanted))
}

fn utc<Z: TimeZone>(moment: DateTime<Z>) -> Timestamp {
    Timestamp::from_millis(moment.timestamp_millis())
}

/// How much of a period is over, from 0 to 1.
pub(crate) fn elapsed(period: (Timestamp, Timestamp), now: Timestamp) -> f64 {
    let whole = (period.1.millis() - period.0.millis()).max(1);
    let over = (now.millis() - period.0.millis()).clamp(0, whole);
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a year fit exactly")]
    let share = over as f64 / whole as f64;
    share
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn a_period_begins_at_the_organizations_midnight() {
        let berlin = zone("Europe/Berlin");
        let moment = at("2026-01-31T23:30:00.000Z");
        assert_eq!(around(Span::Month, moment, Tz::UTC).0, at("2026-01-01T00:00:00.000Z"));
        assert_eq!(around(Span::Month, moment, berlin).0, at("2026-01-31T23:00:00.000Z"));
        assert_eq!(around(Span::Day, moment, berlin), (at("2026-01-31T23:00:00.000Z"), at("2026-02-01T23:00:00.000Z")));
        assert_eq!(around(Span::Week, at("2026-11-22T12:00:00.000Z"), Tz::UTC).0, at("2026-11-16T00:00:00.000Z"));
        let quarter = around(Span::Quarter, at("2026-11-22T12:00:00.000Z"), Tz::UTC);
        assert_eq!(quarter, (at("2026-10-01T00:00:00.000Z"), at("2027-01-01T00:00:00.000Z")));
        assert_eq!(around(Span::Year, moment, Tz::UTC).1, at("2027-01-01T00:00:00.000Z"));
        assert_eq!(zone("Nowhere/Else"), Tz::UTC);
    }

    #[test]
    fn a_day_has_twenty_three_hours_when_the_clocks_go_forward() {
        let day = around(Span::Day, at("2026-03-29T12:00:00.000Z"), zone("Europe/Berlin"));
        assert_eq!(day.1.millis() - day.0.millis(), 23 * 3_600_000);
        // In Beirut they go forward at midnight itself.
        let beirut = around(Span::Day, at("2026-03-29T12:00:00.000Z"), zone("Asia/Beirut"));
        assert_eq!(beirut.0, at("2026-03-28T22:00:00.000Z"));
    }

    #[test]
    fn a_month_ends_at_midnight_however_the_clocks_were_set_in_it() {
        for (name, month, from, to) in [
            ("Europe/Berlin", "2026-03", "2026-02-28T23:00:00.000Z", "2026-03-31T22:00:00.000Z"),
            ("Europe/Berlin", "2026-10", "2026-09-30T22:00:00.000Z", "2026-10-31T23:00:00.000Z"),
            ("America/New_York", "2026-03", "2026-03-01T05:00:00.000Z", "2026-04-01T04:00:00.000Z"),
            // Here the clocks go back in the night in which the month begins.
            ("America/New_York", "2026-11", "2026-11-01T04:00:00.000Z", "2026-12-01T05:00:00.000Z"),
            ("Asia/Kathmandu", "2026-02", "2026-01-31T18:15:00.000Z", "2026-02-28T18:15:00.000Z"),
        ] {
            let middle = at(&format!("{month}-15T12:00:00.000Z"));
            let (start, end) = around(Span::Month, middle, zone(name));
            assert_eq!((start, end), (at(from), at(to)), "{name} {month}");
            let last = Timestamp::from_millis(end.millis() - 1);
            assert_eq!(around(Span::Month, last, zone(name)).0, start, "{name} {month}");
            assert_eq!(around(Span::Month, end, zone(name)).0, end, "{name} {month}");
        }
    }

    proptest! {
        #[test]
        fn every_moment_lies_in_its_period(millis in 0..4_102_444_800_000_i64, span in 0..6_usize, zone in 0..4_usize) {
            let span = [Span::Hour, Span::Day, Span::Week, Span::Month, Span::Quarter, Span::Year][span];
            let zone = [Tz::UTC, Tz::Europe__Berlin, Tz::America__New_York, Tz::Asia__Kathmandu][zone];
            let moment = Timestamp::from_millis(millis);
            let (start, end) = around(span, moment, zone);
            prop_assert!(start <= moment && moment < end);
            // The next period begins where this one ends.
            prop_assert_eq!(around(span, end, zone).0, end);
            prop_assert_eq!(around(span, start, zone), (start, end));
        }
    }
}
