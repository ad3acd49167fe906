//! How a new build comes to its requests: all at once, by shares, or not at all and only as a copy.

use std::time::Duration;

use crate::schedule::Schedule;

/// The whole of all requests, in hundredths of a percent.
pub(crate) const WHOLE: u32 = 10_000;
/// Shares a plan may name.
const STEPS_MAX: usize = 20;
/// Between two shares, when nothing is said.
const EVERY_DEFAULT: Duration = Duration::from_secs(120);

/// How a deploy is rolled out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rollout {
    /// Every new request at once.
    #[default]
    Whole,
    /// A share of the callers first.
    Canary(CanaryPlan),
    /// None: safe requests are sent to it as well, and the answers are compared.
    Shadow,
}

/// The shares of a canary, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CanaryPlan {
    /// The share that it begins with, in hundredths of a percent: 1 to 10 000.
    pub share: u32,
    /// The shares that follow by themselves, each larger than the one before; 10 000 promotes.
    pub steps: Vec<u32>,
    /// How long each share lasts.
    pub every: Duration,
}

impl CanaryPlan {
    /// Reads `10%` or `5%,25%,100%` and `2m`; the percent signs may be left out.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(crate) fn parse(shares: &str, every: Option<&str>) -> Result<Self, String> {
        let mut shares = shares.split(',').map(parse_share).collect::<Result<Vec<_>, _>>()?;
        if shares.len() > STEPS_MAX {
            return Err(format!("a canary has at most {STEPS_MAX} shares"));
        }
        if shares.windows(2).any(|pair| matches!(pair, [left, right] if left >= right)) {
            return Err("the shares of a canary must grow from one to the next".to_owned());
        }
        let every = every.map_or(Ok(EVERY_DEFAULT), |text| parse_duration("every", text))?;
        let steps = shares.split_off(1);
        let share = shares.first().copied().unwrap_or(WHOLE);
        Ok(Self { share, steps, every })
    }

    /// Shares as they are kept in the database: `2500,10000`.
    pub(super) fn steps_text(&self) -> String {
        self.steps.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
    }

    /// The plan as it was kept; what cannot be read is as if there were no further step.
    pub(super) fn restore(share: i64, steps: &str, every_ms: i64) -> Self {
        Self {
            share: u32::try_from(share).unwrap_or(0).min(WHOLE),
            steps: steps.split(',').filter_map(|step| step.parse().ok()).collect(),
            every: u64::try_from(every_ms).map_or(EVERY_DEFAULT, Duration::from_millis),
        }
    }
}

/// Reads a length of time such as `30s` or `2m`.
///
/// # Errors
/// A sentence that names `what`.
pub(crate) fn parse_duration(what: &str, text: &str) -> Result<Duration, String> {
    match Schedule::parse(text) {
        Ok(Schedule::Every(duration)) => Ok(duration),
        _ => Err(format!("`{what}` must be a length of time from 1s on, as in 30s, 2m or 1h")),
    }
}

fn parse_share(text: &str) -> Result<u32, String> {
    let number = text.trim().trim_end_matches('%').parse::<f64>().ok();
    let share =
        number.map(|percent| (percent * 100.0).round()).filter(|share| (1.0..=f64::from(WHOLE)).contains(share));
    share
        .map(|share| share as u32)
        .ok_or_else(|| format!("a canary's share lies between 0.01% and 100%, as in 10% or 5%,25%,100%; not {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_read_and_kept() {
        let plan = CanaryPlan::parse("5%,25,100%", Some("2m")).unwrap();
        assert_eq!((plan.share, plan.steps.as_slice(), plan.every.as_secs()), (500, &[2500, WHOLE][..], 120));
        assert_eq!(CanaryPlan::restore(500, &plan.steps_text(), 120_000), plan);
        let alone = CanaryPlan::parse("12.5%", None).unwrap();
        assert_eq!((alone.share, alone.steps.len()), (1250, 0));
    }

    #[test]
    fn what_is_no_plan_is_refused() {
        for (shares, every) in [
            ("", None),
            ("0%", None),
            ("101%", None),
            ("25%,5%", None),
            ("5%,5%", None),
            ("x", None),
            ("5%", Some("soon")),
        ] {
            assert!(CanaryPlan::parse(shares, every).is_err(), "{shares} {every:?}");
        }
        assert!(CanaryPlan::parse(&vec!["1"; 30].join(","), None).is_err());
    }
}
