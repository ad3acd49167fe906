//! When something runs: cron expressions of five fields on the wall clock of a time zone.

use std::time::Duration;

use berth_sdk::prelude::*;

/// Nothing runs more often.
const INTERVAL_MIN: Duration = Duration::from_secs(5 * 60);

/// The first run after a moment; 422 for an expression or a time zone that makes no sense, comes more often than every five
/// minutes, or never.
pub fn next(expression: &str, timezone: &str, after: Timestamp) -> Result<Timestamp> {
    time_rules::cron::next(expression, timezone, after, INTERVAL_MIN)
}
