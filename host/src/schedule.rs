//! When a timer ticks: an interval (`15m`, `30s`, `1h`, `1d`), `hourly`, `daily`, `weekly`, or a cron expression of five
//! fields, in UTC. Pure; the manifest, the check of a deploy and the worker all read schedules here.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// The shortest interval.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The longest interval.
const INTERVAL_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Characters of a schedule.
const CHARS_MAX: usize = 128;

/// A parsed schedule.
#[derive(Clone, Debug)]
pub(crate) enum Schedule {
    /// Counted from the previous tick.
    Every(Duration),
    /// At the times of a cron expression, UTC.
    Cron(Box<croner::Cron>),
}

/// Why a text is no schedule, as a sentence.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no schedule: {reason}")]
pub(crate) struct ScheduleError {
    text: String,
    reason: &'static str,
}

impl Schedule {
    /// Reads an interval or a cron expression.
    ///
    /// # Errors
    /// When it is neither, is out of range, or never comes true.
    pub(crate) fn parse(text: &str) -> Result<Self, ScheduleError> {
        let fault = |reason| ScheduleError { text: text.chars().take(CHARS_MAX).collect(), reason };
        if text.len() > CHARS_MAX {
            return Err(fault("it is too long"));
        }
        let trimmed = match text.trim() {
            "hourly" => "0 * * * *",
            // At midnight.
            "daily" => "0 0 * * *",
            // On Monday at midnight.
            "weekly" => "0 0 * * MON",
            other => other,
        };
        if trimmed.split_ascii_whitespace().count() == 1 && !trimmed.starts_with('@') {
            let interval = parse_interval(trimmed).ok_or_else(|| {
                fault("write `30s`, `15m`, `1h`, `1d`, `hourly`, `daily`, `weekly` or five cron fields")
            })?;
            if !(INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
                return Err(fault("an interval lies between one second and 366 days"));
            }
            return Ok(Self::Every(interval));
        }
        if !trimmed.starts_with('@') && trimmed.split_ascii_whitespace().count() != 5 {
            return Err(fault("a cron expression has five fields: minute, hour, day, month, weekday"));
        }
        let cron: croner::Cron = trimmed.parse().map_err(|_| fault("the cron expression cannot be read"))?;
        if cron.find_next_occurrence(&Utc::now(), false).is_err() {
            return Err(fault("it never comes true"));
        }
        Ok(Self::Cron(Box::new(cron)))
    }

    /// The first tick after `moment`. None when there is none any more.
    pub(crate) fn next_after(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Every(interval) => moment.checked_add_signed(chrono::TimeDelta::from_std(*interval).ok()?),
            Self::Cron(cron) => cron.find_next_occurrence(&moment, false).ok(),
        }
    }

    /// The first tick after `now` when the one before was due at `previous`: however many were missed in between, they
    /// are one, and an interval keeps its rhythm. None when there is none any more.
    pub(crate) fn next_tick(&self, previous: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Every(interval) => {
                let interval_ms = i64::try_from(interval.as_millis()).ok()?.max(1);
                let late_ms = (now - previous).num_milliseconds().max(0);
                let ahead_ms = (late_ms / interval_ms + 1).checked_mul(interval_ms)?;
                previous.checked_add_signed(chrono::TimeDelta::try_milliseconds(ahead_ms)?)
            }
            Self::Cron(_) => self.next_after(now.max(previous)),
        }
    }
}

fn parse_interval(text: &str) -> Option<Duration> {
    let (digits, seconds) =
        match (text.strip_suffix('s'), text.strip_suffix('m'), text.strip_suffix('h'), text.strip_suffix('d')) {
            (Some(digits), ..) => (digits, 1),
            (_, Some(digits), ..) => (digits, 60),
            (_, _, Some(digits), _) => (digits, 3600),
            (.., Some(digits)) => (digits, 24 * 3600),
            _ => return None,
        };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::Schedule;
    use chrono::{DateTime, Utc};

    fn next(schedule: &str, moment: &str) -> String {
        let moment: DateTime<Utc> = moment.parse().unwrap();
        Schedule::parse(schedule)
            .unwrap()
            .next_after(moment)
            .unwrap()
            .to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    }

    #[test]
    fn an_interval_counts_from_the_previous_tick_and_cron_from_the_clock() {
        assert_eq!(next("15m", "2026-01-31T08:07:00Z"), "2026-01-31T08:22:00Z");
        assert_eq!(next("1d", "2026-01-31T08:07:00Z"), "2026-02-01T08:07:00Z");
        assert_eq!(next("*/15 * * * *", "2026-01-31T08:07:00Z"), "2026-01-31T08:15:00Z");
        assert_eq!(next("0 3 * * MON", "2026-01-31T08:07:00Z"), "2026-02-02T03:00:00Z");
        assert_eq!(next("@daily", "2026-01-31T08:07:00Z"), "2026-02-01T00:00:00Z");
    }

    #[test]
    fn words_stand_for_whole_hours_days_and_weeks() {
        assert_eq!(next("hourly", "2026-01-31T08:07:00Z"), "2026-01-31T09:00:00Z");
        assert_eq!(next("daily", "2026-01-31T08:07:00Z"), "2026-02-01T00:00:00Z");
        assert_eq!(next("weekly", "2026-01-31T08:07:00Z"), "2026-02-02T00:00:00Z");
    }

    #[test]
    fn missed_ticks_become_one_and_an_interval_keeps_its_rhythm() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let (previous, now) = (at("2026-01-31T08:15:00Z"), at("2026-01-31T11:20:00Z"));
        assert_eq!(Schedule::parse("15m").unwrap().next_tick(previous, now), Some(at("2026-01-31T11:30:00Z")));
        assert_eq!(Schedule::parse("hourly").unwrap().next_tick(previous, now), Some(at("2026-01-31T12:00:00Z")));
        // Ticking on the dot is not twice the same tick.
        assert_eq!(Schedule::parse("15m").unwrap().next_tick(previous, previous), Some(at("2026-01-31T08:30:00Z")));
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_a_sentence() {
        for wrong in [
            "",
            " ",
            "m",
            "15",
            "0s",
            "-5m",
            "+5m",
            "1.5h",
            "400d",
            "99999999999999999999s",
            "* * * *",
            "61 * * * *",
            "* * * * * *",
            "0 0 31 2 *",
            "@never",
        ] {
            assert!(Schedule::parse(wrong).is_err(), "{wrong} was accepted");
        }
    }
}
