//! The stretch of time that a dashboard is about: two moments, or moments told from now on, such as `now-7d`. Pure.

use std::time::Duration;

use berth_sdk::prelude::*;

const DAY: Duration = Duration::from_secs(86_400);
/// The furthest that a bound may lie from now, when it is told from now on.
const DISTANCE_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);

/// What a bound must look like.
pub(crate) fn fault() -> String {
    "must be a time such as 2026-01-31T08:15:00Z, a day such as 2026-01-31, or now-7d (m, h, d or w)".into()
}

/// One end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    At(Timestamp),
    Before(Duration),
    After(Duration),
}

impl Bound {
    /// Reads one; the fault in words otherwise.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("now") {
            return Self::relative(rest).ok_or_else(fault);
        }
        Timestamp::parse(text)
            .or_else(|| Timestamp::parse(&format!("{text}T00:00:00Z")))
            .map(Self::At)
            .ok_or_else(fault)
    }

    /// `` | `-7d` | `+12h`
    fn relative(rest: &str) -> Option<Self> {
        let mut letters = rest.chars();
        let sign = match letters.next() {
            None => return Some(Self::Before(Duration::ZERO)),
            Some(sign) => sign,
        };
        let unit = match letters.next_back()? {
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        let digits = letters.as_str();
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let length = Duration::from_secs(digits.parse::<u64>().ok()?.checked_mul(unit)?);
        match sign {
            _ if length > DISTANCE_MAX => None,
            '-' => Some(Self::Before(length)),
            '+' => Some(Self::After(length)),
            _ => None,
        }
    }

    /// The moment that it means.
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(moment) => moment,
            Self::Before(length) => now.minus(length),
            Self::After(length) => now.plus(length),
        }
    }
}

/// From when until when, where that is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
}

impl Window {
    /// Reads both ends; 400 that names every fault.
    pub fn parse(from: Option<&str>, to: Option<&str>, now: Timestamp) -> Result<Self> {
        let mut faults = Faults::default();
        let mut read = |name: &str, text: Option<&str>| match text.map(Bound::parse)? {
            Ok(bound) => Some(bound.at(now)),
            Err(message) => {
                faults.add(name, message);
                None
            }
        };
        let window = Self { from: read("from", from), to: read("to", to) };
        if let (Some(from), Some(to)) = (window.from, window.to)
            && from >= to
        {
            faults.add("from", "must be before `to`");
        }
        faults.finish()?;
        Ok(window)
    }

    /// Both ends: so many days until now where nothing is said.
    pub fn of_days(self, days: u32, now: Timestamp) -> (Timestamp, Timestamp) {
        let length = DAY * days;
        match (self.from, self.to) {
            (Some(from), Some(to)) => (from, to),
            (Some(from), None) if from < now => (from, now),
            (Some(from), None) => (from, from.plus(length)),
            (None, to) => {
                let to = to.unwrap_or(now);
                (to.minus(length), to)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn a_bound_is_a_moment_a_day_or_told_from_now_on() {
        let now = at("2026-03-08T12:00:00Z");
        for (text, moment) in [
            ("2026-03-01T08:00:00+01:00", "2026-03-01T07:00:00Z"),
            ("2026-03-01", "2026-03-01T00:00:00Z"),
            ("now", "2026-03-08T12:00:00Z"),
            ("now-7d", "2026-03-01T12:00:00Z"),
            ("now+90m", "2026-03-08T13:30:00Z"),
            ("now-2w", "2026-02-22T12:00:00Z"),
        ] {
            assert_eq!(Bound::parse(text).unwrap().at(now), at(moment), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "now-",
            "now-d",
            "now-7",
            "now-7y",
            "now*7d",
            "now--7d",
            "now-99999999999999999999d",
            "now-9999d",
            "now-7d ago",
            "now-٣d",
        ] {
            assert!(Bound::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_said_follows_from_what_is() {
        let now = at("2026-03-08T12:00:00Z");
        let window = |from, to| Window::parse(from, to, now).unwrap().of_days(7, now);
        assert_eq!(window(None, None), (at("2026-03-01T12:00:00Z"), now));
        assert_eq!(window(Some("now-1d"), None), (at("2026-03-07T12:00:00Z"), now));
        assert_eq!(window(Some("now+1d"), None), (at("2026-03-09T12:00:00Z"), at("2026-03-16T12:00:00Z")));
        assert_eq!(window(None, Some("2026-02-08")), (at("2026-02-01T00:00:00Z"), at("2026-02-08T00:00:00Z")));
        let wrong = Window::parse(Some("x"), Some("y"), now).unwrap_err();
        assert_eq!(wrong.errors.len(), 2);
        assert_eq!(Window::parse(Some("now"), Some("now-1d"), now).unwrap_err().errors[0].field, "from");
    }
}
