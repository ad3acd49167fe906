//! Quiet hours, quiet days and do-not-disturb: until when somebody must be left alone. Pure.
//!
//! Wall-clock times are turned into moments by the user's time zone, so that a window across midnight or across a change
//! of clocks has one beginning and one end.

use berth_sdk::prelude::*;
use chrono::{DateTime, Datelike, Days, MappedLocalTime, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use super::resolve::Effective;

/// How many adjoining quiet spans are followed; seven quiet days in a row never end.
const SPANS_MAX: u32 = 40;
/// A gap in local time is at most so long.
const GAP_MINUTES_MAX: i64 = 180;

/// The time zone of a name such as `Europe/Berlin`.
pub fn time_zone(name: &str) -> Option<Tz> {
    name.parse().ok()
}

/// A time such as `22:00`.
pub fn time_of_day(text: &str) -> Option<NaiveTime> {
    NaiveTime::parse_from_str(text, "%H:%M").or_else(|_| NaiveTime::parse_from_str(text, "%H:%M:%S")).ok()
}

/// When the quiet that holds at `now` ends; none when it is not quiet.
pub fn quiet_until(wishes: &Effective, now: Timestamp) -> Option<Timestamp> {
    let zone = time_zone(&wishes.timezone).unwrap_or(Tz::UTC);
    let mut end = None;
    let mut moment = now.date_time();
    for _ in 0..SPANS_MAX {
        match span_end(wishes, zone, moment) {
            Some(later) if later > moment => {
                moment = later;
                end = Some(later.into());
            }
            _ => break,
        }
    }
    end
}

/// The end of one quiet span that holds the moment.
fn span_end(wishes: &Effective, zone: Tz, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let dnd = wishes.dnd_until.map(Timestamp::date_time).filter(|until| *until > moment);
    let today = moment.with_timezone(&zone).date_naive();
    let is_quiet_day = |date: NaiveDate| wishes.quiet_days.contains(&i64::from(date.weekday().num_days_from_sunday()));
    let day = is_quiet_day(today)
        .then(|| first_moment(zone, today.checked_add_days(Days::new(1))?, NaiveTime::MIN))
        .flatten();
    let hours = || {
        let start = time_of_day(wishes.quiet_hours_start.as_deref()?)?;
        let end = time_of_day(wishes.quiet_hours_end.as_deref()?)?;
        let yesterday = today.checked_sub_days(Days::new(1))?;
        [yesterday, today].into_iter().find_map(|date| {
            let (from, until) = window(zone, date, start, end)?;
            (from <= moment && moment < until).then_some(until)
        })
    };
    [dnd, day, hours()].into_iter().flatten().max()
}

/// The window that begins on a date; none when start and end are the same.
fn window(zone: Tz, date: NaiveDate, start: NaiveTime, end: NaiveTime) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let last = match start.cmp(&end) {
        std::cmp::Ordering::Less => date,
        std::cmp::Ordering::Equal => return None,
        std::cmp::Ordering::Greater => date.checked_add_days(Days::new(1))?,
    };
    Some((first_moment(zone, date, start)?, last_moment(zone, last, end)?))
}

/// The first moment with this wall-clock time, or right after the gap that swallows it.
fn first_moment(zone: Tz, date: NaiveDate, time: NaiveTime) -> Option<DateTime<Utc>> {
    at(zone, date, time).map(|(first, _)| first)
}

/// The last moment with this wall-clock time: when clocks go back, quiet lasts through both.
fn last_moment(zone: Tz, date: NaiveDate, time: NaiveTime) -> Option<DateTime<Utc>> {
    at(zone, date, time).map(|(_, last)| last)
}

fn at(zone: Tz, date: NaiveDate, time: NaiveTime) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let wanted = date.and_time(time);
    for minutes in 0..=GAP_MINUTES_MAX {
        let local = wanted.checked_add_signed(TimeDelta::minutes(minutes))?;
        match zone.from_local_datetime(&local) {
            MappedLocalTime::Single(moment) => return Some((moment.to_utc(), moment.to_utc())),
            MappedLocalTime::Ambiguous(first, last) => return Some((first.to_utc(), last.to_utc())),
            MappedLocalTime::None => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kinds::Category;
    use crate::preference::resolve::resolve;

    fn wishes(start: &str, end: &str, zone: &str) -> Effective {
        Effective {
            quiet_hours_start: Some(start.into()),
            quiet_hours_end: Some(end.into()),
            timezone: zone.into(),
            ..resolve(&[], "x", Category::Calendar)
        }
    }

    fn until(wishes: &Effective, now: &str) -> Option<String> {
        quiet_until(wishes, Timestamp::parse(now).unwrap()).map(|end| end.to_string())
    }

    #[test]
    fn a_window_across_midnight_ends_in_the_morning() {
        let night = wishes("22:00", "07:00", "Europe/Berlin");
        assert_eq!(until(&night, "2026-06-10T21:00:00Z").as_deref(), Some("2026-06-11T05:00:00.000Z"));
        assert_eq!(until(&night, "2026-06-11T01:00:00Z").as_deref(), Some("2026-06-11T05:00:00.000Z"));
        assert_eq!(until(&night, "2026-06-11T05:00:00Z"), None);
        assert_eq!(until(&night, "2026-06-11T19:59:59Z"), None);
        let lunch = wishes("12:00", "13:30", "America/New_York");
        assert_eq!(until(&lunch, "2026-01-15T17:10:00Z").as_deref(), Some("2026-01-15T18:30:00.000Z"));
        assert_eq!(until(&wishes("08:00", "08:00", "UTC"), "2026-01-15T08:00:00Z"), None);
    }

    #[test]
    fn the_end_follows_the_clocks_when_they_change() {
        // Berlin, 2026-03-29: 02:00 becomes 03:00, so seven in the morning is five in UTC and not six.
        let night = wishes("22:00", "07:00", "Europe/Berlin");
        assert_eq!(until(&night, "2026-03-28T22:00:00Z").as_deref(), Some("2026-03-29T05:00:00.000Z"));
        // 2026-10-25: 03:00 becomes 02:00; the night is an hour longer.
        assert_eq!(until(&night, "2026-10-24T21:00:00Z").as_deref(), Some("2026-10-25T06:00:00.000Z"));
        // An end that the gap swallows comes right after it.
        let short = wishes("23:00", "02:30", "Europe/Berlin");
        assert_eq!(until(&short, "2026-03-28T23:00:00Z").as_deref(), Some("2026-03-29T01:00:00.000Z"));
        // An end that happens twice counts the second time.
        assert_eq!(until(&short, "2026-10-25T00:45:00Z").as_deref(), Some("2026-10-25T01:30:00.000Z"));
    }

    #[test]
    fn quiet_days_and_hours_that_touch_are_one_quiet() {
        let mut weekend = wishes("22:00", "07:00", "Europe/Berlin");
        weekend.quiet_days = vec![6, 0];
        // Friday night to Monday morning.
        assert_eq!(until(&weekend, "2026-06-12T21:00:00Z").as_deref(), Some("2026-06-15T05:00:00.000Z"));
        assert_eq!(until(&weekend, "2026-06-12T12:00:00Z"), None);
        weekend.quiet_days = vec![0, 1, 2, 3, 4, 5, 6];
        assert!(until(&weekend, "2026-06-12T12:00:00Z").is_some());
    }

    #[test]
    fn do_not_disturb_holds_until_its_moment() {
        let mut now = resolve(&[], "x", Category::Calendar);
        now.dnd_until = Timestamp::parse("2026-06-12T14:00:00Z");
        assert_eq!(until(&now, "2026-06-12T12:00:00Z").as_deref(), Some("2026-06-12T14:00:00.000Z"));
        assert_eq!(until(&now, "2026-06-12T14:00:00Z"), None);
    }

    proptest! {
        /// What is released is not quiet any more, and the end always lies ahead.
        #[test]
        fn the_end_of_quiet_is_not_quiet(
            start in 0_u32..1440, end in 0_u32..1440, zone in 0_usize..5, second in 0_i64..63_072_000
        ) {
            let zone = ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "UTC"][zone];
            let text = |minute: u32| format!("{:02}:{:02}", minute / 60, minute % 60);
            let wishes = wishes(&text(start), &text(end), zone);
            let now = Timestamp::from_millis((1_735_689_600 + second) * 1_000);
            if let Some(until) = quiet_until(&wishes, now) {
                prop_assert!(until > now);
                prop_assert_eq!(quiet_until(&wishes, until), None);
                prop_assert!(until.since(now).as_secs() <= 50 * 3_600);
            }
        }
    }
}
