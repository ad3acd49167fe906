//! Which time a report is about: whole months, quarters and years in UTC, or whatever is asked for. Pure.

use berth_sdk::prelude::*;
use chrono::{Datelike, Months, NaiveDate, NaiveTime, TimeZone, Utc};

/// How long a report is about.
#[choice]
pub enum Period {
    /// A month.
    Monthly,
    /// A quarter.
    Quarterly,
    /// A year.
    Yearly,
}

impl Period {
    fn months(self) -> u32 {
        match self {
            Self::Monthly => 1,
            Self::Quarterly => 3,
            Self::Yearly => 12,
        }
    }

    /// Beginning and end. Without either the last whole period before now; with one the period that begins or ends there.
    /// 400 for an end that is not after the beginning, or more than a year and a half after it.
    pub(super) fn range(
        self,
        start: Option<Timestamp>,
        end: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(Timestamp, Timestamp)> {
        const LONGEST_MS: i64 = 548 * 86_400_000;
        let months = Months::new(self.months());
        let later = |from: Timestamp| from.date_time().checked_add_months(months).map(Timestamp::from);
        let earlier = |to: Timestamp| to.date_time().checked_sub_months(months).map(Timestamp::from);
        let (start, end) = match (start, end) {
            (Some(start), Some(end)) => (Some(start), Some(end)),
            (Some(start), None) => (Some(start), later(start)),
            (None, Some(end)) => (earlier(end), Some(end)),
            (None, None) => {
                let end = self.last_border(now);
                (end.and_then(earlier), end)
            }
        };
        let (Some(start), Some(end)) = (start, end) else {
            return Err(Problem::field("startDate", "is out of range"));
        };
        if end <= start {
            return Err(Problem::field("endDate", "must be after startDate"));
        }
        if end.millis() - start.millis() > LONGEST_MS {
            return Err(Problem::field("endDate", "must be at most 548 days after startDate"));
        }
        Ok((start, end))
    }

    /// The last beginning of such a period.
    fn last_border(self, now: Timestamp) -> Option<Timestamp> {
        let today = now.date_time().date_naive();
        let month = today.month0() / self.months() * self.months() + 1;
        let first = NaiveDate::from_ymd_opt(today.year(), month, 1)?;
        Some(Utc.from_utc_datetime(&first.and_time(NaiveTime::MIN)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn without_dates_it_is_the_last_whole_period() {
        let of = |period: Period, now: &str| {
            let (start, end) = period.range(None, None, at(now)).unwrap();
            format!("{} {}", &start.to_string()[..10], &end.to_string()[..10])
        };
        assert_eq!(of(Period::Monthly, "2026-03-15T10:00:00Z"), "2026-02-01 2026-03-01");
        assert_eq!(of(Period::Monthly, "2026-01-01T00:00:00Z"), "2025-12-01 2026-01-01");
        assert_eq!(of(Period::Quarterly, "2026-05-31T23:59:59Z"), "2026-01-01 2026-04-01");
        assert_eq!(of(Period::Quarterly, "2026-12-31T00:00:00Z"), "2026-07-01 2026-10-01");
        assert_eq!(of(Period::Yearly, "2026-05-31T00:00:00Z"), "2025-01-01 2026-01-01");
    }

    #[test]
    fn a_date_alone_has_its_other_end() {
        let (_, end) =
            Period::Monthly.range(Some(at("2026-01-31T00:00:00Z")), None, at("2026-06-01T00:00:00Z")).unwrap();
        assert_eq!(end, at("2026-02-28T00:00:00Z"));
        let (start, _) =
            Period::Yearly.range(None, Some(at("2026-07-01T00:00:00Z")), at("2026-06-01T00:00:00Z")).unwrap();
        assert_eq!(start, at("2025-07-01T00:00:00Z"));
    }

    #[test]
    fn a_range_has_a_length() {
        let status = |start: &str, end: &str| {
            Period::Yearly
                .range(Some(at(start)), Some(at(end)), at("2026-06-01T00:00:00Z"))
                .err()
                .map(|problem| problem.status)
        };
        assert_eq!(status("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"), Some(400));
        assert_eq!(status("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"), Some(400));
        assert_eq!(status("2020-01-01T00:00:00Z", "2026-01-01T00:00:00Z"), Some(400));
        assert_eq!(status("2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"), None);
    }
}
