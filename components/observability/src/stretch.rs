//! The stretch of time that a query is about.

use std::time::Duration;

use berth_sdk::prelude::*;

/// How far the clocks of those who send may be ahead.
const AHEAD: Duration = Duration::from_secs(300);
/// Steps of one answer.
const STEPS_MAX: i64 = 1_440;

/// From when until when, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub from_ms: i64,
    pub to_ms: i64,
}

impl Stretch {
    /// `from` and `to` of a query: so far back when nothing is said, so long at most.
    pub fn of(query: &PageQuery, back: Duration, most: Duration) -> Result<Self> {
        let mut faults = Faults::default();
        let mut read = |name: &str| {
            let text = query.filter(name)?;
            let moment = Timestamp::parse(&text);
            if moment.is_none() {
                faults.add(name, "must be a time such as 2026-01-31T08:15:00.000Z");
            }
            moment
        };
        let (from, to) = (read("from"), read("to"));
        faults.finish()?;
        let to = to.unwrap_or_else(|| clock::now().plus(AHEAD));
        let from = from.unwrap_or_else(|| to.minus(back));
        if from >= to {
            return Err(Problem::field("from", "must be before `to`"));
        }
        if to.since(from) > most + AHEAD {
            return Err(Problem::field(
                "from",
                format!("must be at most {} days before `to`", most.as_secs() / 86_400),
            ));
        }
        Ok(Self { from_ms: from.millis(), to_ms: to.millis() })
    }

    /// The last while.
    pub fn last(length: Duration) -> Self {
        let now = clock::now();
        Self { from_ms: now.minus(length).millis(), to_ms: now.plus(AHEAD).millis() }
    }

    /// `step` of a query in milliseconds, such as `30s`, `5m`, `1h` or `1d`; about 60 steps when nothing is said.
    pub fn step_ms(self, text: Option<&str>) -> Result<i64> {
        let length = self.to_ms - self.from_ms;
        let step = match text {
            None => {
                const NICE: [i64; 9] = [10, 30, 60, 300, 900, 3_600, 21_600, 86_400, 604_800];
                let seconds = NICE.into_iter().find(|seconds| length / (seconds * 1_000) <= 90);
                seconds.unwrap_or(2_592_000) * 1_000
            }
            Some(text) => {
                length_ms(text).ok_or_else(|| Problem::field("step", "must be a length such as 30s, 5m, 1h or 1d"))?
            }
        };
        if length / step > STEPS_MAX {
            return Err(Problem::field("step", format!("makes more than {STEPS_MAX} steps")));
        }
        Ok(step)
    }
}

/// A length such as `5m`, in milliseconds; from a second to a month.
pub(crate) fn length_ms(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let length = number.parse::<i64>().ok()?.checked_mul(unit)?;
    (1_000..=2_678_400_000).contains(&length).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_steps_have_bounds() {
        assert_eq!((length_ms("5m"), length_ms("1d")), (Some(300_000), Some(86_400_000)));
        for wrong in ["", "m", "0s", "-1m", "5w", "99999999d", "ü"] {
            assert_eq!(length_ms(wrong), None, "{wrong}");
        }
        let hour = Stretch { from_ms: 0, to_ms: 3_600_000 };
        assert_eq!(hour.step_ms(None).unwrap(), 60_000);
        assert_eq!(hour.step_ms(Some("1s")).unwrap_err().errors[0].field, "step");
    }
}
