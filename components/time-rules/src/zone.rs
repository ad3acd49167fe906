//! Wall clocks: what a local time means in a time zone, and the other way round. Pure.

use berth_sdk::clock::Timestamp;
use chrono::{DateTime, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// The longest gap of a wall clock that is looked across, in minutes: an island once left out a whole day.
const GAP_MINUTES_MAX: i64 = 26 * 60;

/// The moment that a local time means. A time that comes twice means the first; one that does not exist is counted on from
/// before the gap, as RFC 5545 says, and so shifts forward.
///
/// ```
/// use time_rules::zone::moment;
/// let zone = chrono_tz::Europe::Berlin;
/// let at = |text: &str| moment(zone, text.parse().unwrap()).to_string();
/// assert_eq!(at("2026-03-29T02:30:00"), "2026-03-29T01:30:00.000Z");
/// assert_eq!(at("2026-10-25T02:30:00"), "2026-10-25T00:30:00.000Z");
/// ```
pub fn moment(zone: Tz, local: NaiveDateTime) -> Timestamp {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(moment) | LocalResult::Ambiguous(moment, _) => moment.to_utc().into(),
        LocalResult::None => after_the_gap(zone, local).into(),
    }
}

fn after_the_gap(zone: Tz, local: NaiveDateTime) -> DateTime<Utc> {
    for minutes in 1..=GAP_MINUTES_MAX {
        let Some(earlier) = local.checked_sub_signed(TimeDelta::minutes(minutes)) else { break };
        if let Some(moment) = zone.from_local_datetime(&earlier).latest() {
            let offset = i64::from(moment.offset().fix().local_minus_utc());
            return (local - TimeDelta::seconds(offset)).and_utc();
        }
    }
    local.and_utc()
}

/// What the wall clock shows at a moment.
///
/// ```
/// use berth_sdk::clock::Timestamp;
/// let moment = Timestamp::parse("2026-07-01T10:00:00Z").unwrap();
/// assert_eq!(time_rules::zone::local(chrono_tz::Europe::Berlin, moment).to_string(), "2026-07-01 12:00:00");
/// ```
pub fn local(zone: Tz, at: Timestamp) -> NaiveDateTime {
    at.date_time().with_timezone(&zone).naive_local()
}

/// When a day begins.
pub fn midnight(zone: Tz, day: NaiveDate) -> Timestamp {
    moment(zone, day.and_time(NaiveTime::MIN))
}

/// A time zone of the IANA database; UTC for an empty text.
pub fn parse(name: &str) -> Option<Tz> {
    crate::zone_of(name)
}
