//! When something comes: cron expressions of five fields on the wall clock of a time zone. Pure.

use std::time::Duration;

use berth_sdk::{
    clock::Timestamp,
    problem::{Problem, Result},
    validate,
};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};

/// Runs that are looked at to judge how often it comes: more than a day of the shortest interval.
const RUNS_JUDGED: usize = 300;
/// And only so far ahead: more than a year.
const JUDGED_AHEAD: Duration = Duration::from_secs(400 * 24 * 3_600);

/// The first run after a moment; 422 for an expression or a time zone that makes no sense, comes more often than every
/// `interval_min`, or never.
///
/// ```
/// use std::time::Duration;
/// use berth_sdk::clock::Timestamp;
/// let after = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
/// let next = time_rules::cron::next("30 7 * * *", "Europe/Berlin", after, Duration::from_secs(60)).unwrap();
/// assert_eq!(next.to_string(), "2026-01-01T06:30:00.000Z");
/// ```
pub fn next(expression: &str, timezone: &str, after: Timestamp, interval_min: Duration) -> Result<Timestamp> {
    let zone: Tz = timezone
        .parse()
        .map_err(|_| invalid("timezone", "must be the IANA name of a time zone, such as Europe/Berlin"))?;
    let cron = parse(expression)?;
    let start = after.date_time().with_timezone(&zone);
    let mut runs = cron.iter_after(start).take(RUNS_JUDGED).map(|run| Timestamp::from(run.to_utc()));
    let first = runs.next().ok_or_else(|| invalid("cron", "never comes"))?;
    let mut last = first;
    for run in runs {
        if run.since(last) < interval_min {
            let seconds = interval_min.as_secs();
            return Err(Problem::unprocessable(format!("A schedule comes at most every {seconds} seconds."))
                .with_code("INTERVAL_TOO_SHORT")
                .with_errors(vec![validate::FieldError::new("cron", "comes too often")]));
        }
        if run.since(first) > JUDGED_AHEAD {
            break;
        }
        last = run;
    }
    Ok(first)
}

fn parse(expression: &str) -> Result<Cron> {
    if expression.split_whitespace().count() != 5 {
        return Err(invalid("cron", "must have five fields: minute, hour, day, month, weekday"));
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(expression).map_err(|_| invalid("cron", "is no cron expression"))
}

fn invalid(field: &str, message: &str) -> Problem {
    Problem::unprocessable(format!("{field}: {message}."))
        .with_code("INVALID_SCHEDULE")
        .with_errors(vec![validate::FieldError::new(field, message)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTES: Duration = Duration::from_secs(5 * 60);

    fn at(expression: &str, zone: &str, after: &str) -> Result<String> {
        next(expression, zone, Timestamp::parse(after).unwrap(), MINUTES).map(|time| time.to_string())
    }

    #[test]
    fn runs_follow_the_wall_clock_of_their_zone() {
        let run = |after| at("30 7 * * *", "Europe/Berlin", after).unwrap();
        assert_eq!(run("2026-03-27T12:00:00Z"), "2026-03-28T06:30:00.000Z");
        assert_eq!(run("2026-03-28T12:00:00Z"), "2026-03-29T05:30:00.000Z");
        assert_eq!(at("0 9 * * 1", "UTC", "2026-01-01T00:00:00Z").unwrap(), "2026-01-05T09:00:00.000Z");
    }

    #[test]
    fn what_comes_too_often_or_makes_no_sense_is_refused() {
        let code =
            |expression| at(expression, "UTC", "2026-01-01T00:00:00Z").map_err(|problem| problem.code.to_string());
        for expression in ["* * * * *", "*/4 * * * *", "0,3 * * * *", "*/7 * * * *", "58,1 * * * *"] {
            assert_eq!(code(expression).unwrap_err(), "INTERVAL_TOO_SHORT", "{expression}");
        }
        for expression in ["", "x", "* * * *", "0 0 * * * *", "61 * * * *", "0 0 31 2 *", "@daily"] {
            assert_eq!(code(expression).unwrap_err(), "INVALID_SCHEDULE", "{expression}");
        }
        assert!(code("*/5 * * * *").is_ok() && code("0 0 29 2 *").is_ok());
        assert_eq!(at("0 0 * * *", "Mars/Olympus", "2026-01-01T00:00:00Z").unwrap_err().status, 422);
    }

    proptest! {
        /// The next run always lies ahead.
        #[test]
        fn the_next_run_lies_ahead(minute in 0_u32..60, hour in 0_u32..24, second in 0_i64..63_072_000, zone in 0_usize..4) {
            let zone = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"][zone];
            let now = Timestamp::from_millis((1_735_689_600 + second) * 1_000);
            let run = next(&format!("{minute} {hour} * * *"), zone, now, MINUTES).unwrap();
            prop_assert!(run > now);
            prop_assert!(run.since(now) <= Duration::from_secs(50 * 3_600));
        }
    }
}
