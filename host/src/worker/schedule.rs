//! When a timer ticks: an interval, a day-to-day word or a cron expression, all in UTC. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// The shortest interval: anything shorter is refused.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The longest interval: anything longer is refused.
const INTERVAL_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The longest text of a schedule.
const TEXT_BYTES_MAX: usize = 100;

/// Why a schedule is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is no schedule: write an interval of 1 s to 366 d (30s, 15m, 1h, 1d), hourly, daily, weekly, or a cron expression in UTC"
)]
pub(crate) struct ScheduleError(String);

/// A parsed schedule.
#[derive(Clone, Debug)]
pub(crate) enum Schedule {
    /// Every so often, counted from the tick before.
    Interval(Duration),
    /// Five fields, or six with seconds first.
    Cron(Box<Cron>),
}

impl Schedule {
    /// Reads `30s`, `15m`, `1h`, `1d`, `hourly`, `daily` (at midnight), `weekly` (Monday at midnight) or a cron expression.
    ///
    /// # Errors
    /// For everything else, and for a cron expression that never comes true.
    pub(crate) fn parse(text: &str) -> Result<Self, ScheduleError> {
        let refused = || ScheduleError(text.chars().take(TEXT_BYTES_MAX).collect());
        if text.len() > TEXT_BYTES_MAX {
            return Err(refused());
        }
        let trimmed = text.trim();
        let expression = match trimmed {
            "hourly" => "0 * * * *",
            "daily" => "0 0 * * *",
            "weekly" => "0 0 * * 1",
            other if !other.contains(char::is_whitespace) => return interval(other).ok_or_else(refused),
            other => other,
        };
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(expression).map_err(|_| refused())?;
        cron.find_next_occurrence(&Utc::now(), false).map_err(|_| refused())?;
        Ok(Self::Cron(Box::new(cron)))
    }

    /// The first tick after `now`, when the one before was due at `previous`. However many were missed in between, this
    /// is one. None when a cron expression never comes true again.
    pub(crate) fn next_after(&self, previous: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron(cron) => cron.find_next_occurrence(&now.max(previous), false).ok(),
            Self::Interval(interval) => {
                let interval_ms = i64::try_from(interval.as_millis()).ok()?.max(1);
                let late_ms = (now - previous).num_milliseconds().max(0);
                let steps = late_ms / interval_ms + 1;
                previous.checked_add_signed(chrono::TimeDelta::try_milliseconds(steps.checked_mul(interval_ms)?)?)
            }
        }
    }
}

fn interval(text: &str) -> Option<Schedule> {
    let unit_at = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(unit_at)?;
    let unit_s = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    let interval = Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(unit_s)?);
    (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval).then_some(Schedule::Interval(interval))
}

#[cfg(test)]
mod tests {
    use super::Schedule;
    use chrono::{DateTime, Utc};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn every_form_of_the_specification_is_read() {
        let previous = at("2026-01-31T08:15:00Z");
        for (text, expected) in [
            ("30s", "2026-01-31T08:15:30Z"),
            ("15m", "2026-01-31T08:30:00Z"),
            ("1h", "2026-01-31T09:15:00Z"),
            ("1d", "2026-02-01T08:15:00Z"),
            ("hourly", "2026-01-31T09:00:00Z"),
            ("daily", "2026-02-01T00:00:00Z"),
            ("weekly", "2026-02-02T00:00:00Z"),
            ("*/10 * * * *", "2026-01-31T08:20:00Z"),
            ("*/20 * * * * *", "2026-01-31T08:15:20Z"),
            ("0 9 * * MON", "2026-02-02T09:00:00Z"),
        ] {
            let schedule = Schedule::parse(text).unwrap();
            assert_eq!(schedule.next_after(previous, previous), Some(at(expected)), "{text}");
        }
    }

    #[test]
    fn missed_ticks_become_one_and_the_rhythm_stays() {
        let schedule = Schedule::parse("15m").unwrap();
        let next = schedule.next_after(at("2026-01-31T08:15:00Z"), at("2026-01-31T11:20:00Z"));
        assert_eq!(next, Some(at("2026-01-31T11:30:00Z")));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "0s",
            "500d",
            "15",
            "m",
            "-1m",
            "1w",
            "15 m",
            "* * *",
            "61 * * * *",
            "0 0 31 2 *",
            "99999999999999999999s",
        ] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
        assert!(Schedule::parse(&"* ".repeat(200)).is_err());
    }
}
