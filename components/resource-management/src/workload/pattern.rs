//! When somebody works: hours a week, spread evenly over their working days. Pure.

use time_rules::day::{Day, Span};

/// Hours a week on some days of the week.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    /// All of a week's.
    pub weekly_hours: f64,
    /// Which days are working days, Monday first.
    pub days: [bool; 7],
}

/// Monday to Friday, forty hours.
impl Default for Pattern {
    fn default() -> Self {
        Self { weekly_hours: 40.0, days: [true, true, true, true, true, false, false] }
    }
}

impl Pattern {
    /// The hours of one working day; none where there is no such day.
    pub fn daily(&self) -> f64 {
        let days = self.days.iter().filter(|works| **works).count();
        if days == 0 { 0.0 } else { self.weekly_hours / f64::from(u8::try_from(days).unwrap_or(7)) }
    }

    /// The hours of this day.
    pub fn on(&self, day: Day) -> f64 {
        self.hours(Span::new(day, day))
    }

    /// The hours of some days.
    ///
    /// ```
    /// use resource_management::workload::Pattern;
    /// use time_rules::day::{Day, Span};
    /// let january = Span::new(Day::parse("2026-01-01").unwrap(), Day::parse("2026-01-31").unwrap());
    /// assert_eq!(Pattern::default().hours(january), 176.0);
    /// ```
    pub fn hours(&self, span: Span) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "days of a few years")]
        let days = span.count(&self.days) as f64;
        self.daily() * days
    }

    /// The last of the working days from `first` on that so many hours take.
    ///
    /// ```
    /// use resource_management::workload::Pattern;
    /// use time_rules::day::Day;
    /// let friday = Day::parse("2026-01-02").unwrap();
    /// assert_eq!(Pattern::default().last_day(friday, 10.0).to_string(), "2026-01-05");
    /// ```
    pub fn last_day(&self, first: Day, hours: f64) -> Day {
        /// Further than this nothing is planned.
        const DAYS_MAX: u64 = 730;
        let mut left = hours;
        let mut last = first;
        for day in Span::new(first, first.plus(DAYS_MAX)).iter() {
            let on = self.on(day);
            if on > 0.0 {
                last = day;
                left -= on;
            }
            if left <= super::NOTHING {
                break;
            }
        }
        last
    }
}
