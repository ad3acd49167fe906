//! The arithmetic of availability: what somebody can work, what is planned of it, and whether it fits. Pure: nothing here
//! reads a clock or a database.
//!
//! Hours of an allocation are spread evenly over the working days it reaches over, whether or not somebody is away on one of
//! them, so that a week's part of it never changes with what else happens. Within a week they may be worked on any of its
//! days: a week is overloaded when no day-by-day plan places them all.

mod fit;
mod pattern;

use std::collections::{BTreeMap, BTreeSet};

use time_rules::day::{Day, Span};

pub use fit::{Excess, excess};
pub use pattern::Pattern;

/// Less than this much of an hour is nothing: sums of fractions are never exact.
pub const NOTHING: f64 = 1e-6;

/// Days on which somebody is away.
#[derive(Clone, Debug, PartialEq)]
pub struct Absence {
    /// The first and the last day.
    pub span: Span,
    /// How much of each of them; none: all of it.
    pub hours_per_day: Option<f64>,
}

/// Hours that are planned for somebody.
#[derive(Clone, Debug, PartialEq)]
pub struct Commitment {
    /// Names it among others.
    pub id: String,
    /// The days they are spread over.
    pub span: Span,
    /// All of them.
    pub hours: f64,
    /// The last day that counts: what is completed early takes no further time.
    pub until: Day,
    /// Work on it has begun or is done.
    pub is_worked: bool,
}

impl Commitment {
    /// The days on which it takes time.
    pub fn counted(&self) -> Span {
        Span::new(self.span.first, self.span.last.min(self.until))
    }

    /// The hours that fall on some days: as many as are working days among them, or days where it has no working day at all.
    pub fn hours_in(&self, span: Span, pattern: &Pattern) -> f64 {
        let part = self.counted().both(span);
        if part.is_empty() {
            return 0.0;
        }
        match self.span.count(&pattern.days) {
            0 => share(self.hours, part.days(), self.span.days()),
            working => share(self.hours, part.count(&pattern.days), working),
        }
    }
}

/// So many of so many parts.
fn share(hours: f64, parts: u64, of: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "days of a few years")]
    let (parts, of) = (parts as f64, of.max(1) as f64);
    hours * parts / of
}

/// What is known of one person's time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workload {
    /// When they work.
    pub pattern: Pattern,
    /// Days on which they work nothing, as nobody there does.
    pub holidays: BTreeSet<Day>,
    /// When they are away.
    pub absences: Vec<Absence>,
    /// What is planned for them.
    pub commitments: Vec<Commitment>,
}

/// Sums over some days, in hours.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    /// Working hours, were nobody ever away.
    pub base: f64,
    /// Of those, what holidays and absences take.
    pub time_off: f64,
    /// What is planned.
    pub allocated: f64,
    /// Of that, what is being worked on or done.
    pub utilized: f64,
}

impl Sum {
    /// What can be worked.
    pub fn capacity(&self) -> f64 {
        (self.base - self.time_off).max(0.0)
    }

    /// What is left of it.
    pub fn available(&self) -> f64 {
        (self.capacity() - self.allocated).max(0.0)
    }

    /// How much of the capacity is planned, 1 for all of it; 0 when there is none.
    ///
    /// ```
    /// use resource_management::workload::Sum;
    /// assert_eq!(Sum { base: 40.0, allocated: 30.0, ..Sum::default() }.utilization(), 0.75);
    /// assert_eq!(Sum { allocated: 30.0, ..Sum::default() }.utilization(), 0.0);
    /// ```
    pub fn utilization(&self) -> f64 {
        let capacity = self.capacity();
        if capacity <= NOTHING { 0.0 } else { self.allocated / capacity }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            base: self.base + other.base,
            time_off: self.time_off + other.time_off,
            allocated: self.allocated + other.allocated,
            utilized: self.utilized + other.utilized,
        }
    }
}

impl Workload {
    /// The sums over some days.
    pub fn sum(&self, span: Span) -> Sum {
        let planned = |only_worked: bool| {
            let counts = self.commitments.iter().filter(|commitment| commitment.is_worked || !only_worked);
            counts.map(|commitment| commitment.hours_in(span, &self.pattern)).sum::<f64>()
        };
        Sum {
            base: self.pattern.hours(span),
            time_off: self.off(span).values().sum(),
            allocated: planned(false),
            utilized: planned(true),
        }
    }

    /// What can be worked on a day.
    pub fn capacity_on(&self, day: Day) -> f64 {
        self.sum_without_plans(Span::new(day, day)).capacity()
    }

    /// What can be worked on some days.
    pub fn capacity(&self, span: Span) -> f64 {
        self.sum_without_plans(span).capacity()
    }

    /// Whether somebody is away, in part or all day, on any of some days; holidays do not count.
    pub fn is_away(&self, span: Span) -> bool {
        self.absences.iter().any(|absence| absence.span.meets(span))
    }

    /// The same with one more commitment.
    #[must_use]
    pub fn with(&self, commitment: Commitment) -> Self {
        let mut more = self.clone();
        more.commitments.push(commitment);
        more
    }

    /// The same without the commitment of this id.
    #[must_use]
    pub fn without(&self, id: &str) -> Self {
        let mut less = self.clone();
        less.commitments.retain(|commitment| commitment.id != id);
        less
    }

    fn sum_without_plans(&self, span: Span) -> Sum {
        Sum { base: self.pattern.hours(span), time_off: self.off(span).values().sum(), ..Sum::default() }
    }

    /// The hours that holidays and absences take, by day. Two absences on one day take no more than the day has.
    fn off(&self, span: Span) -> BTreeMap<Day, f64> {
        let mut off: BTreeMap<Day, f64> = BTreeMap::new();
        for absence in &self.absences {
            for day in absence.span.both(span).iter() {
                *off.entry(day).or_default() += absence.hours_per_day.unwrap_or(f64::INFINITY);
            }
        }
        for day in self.holidays.range(span.first..=span.last.max(span.first)).filter(|day| span.holds(**day)) {
            off.insert(*day, f64::INFINITY);
        }
        for (day, hours) in &mut off {
            *hours = hours.min(self.pattern.on(*day));
        }
        off
    }
}

/// Rounded to a millionth: what is written looks as it was meant.
///
/// ```
/// assert_eq!(resource_management::workload::rounded(0.1 + 0.2), 0.3);
/// ```
pub fn rounded(hours: f64) -> f64 {
    let rounded = (hours * 1e6).round() / 1e6;
    // No minus before a zero.
    if rounded == 0.0 { 0.0 } else { rounded }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub fn day(number: u64) -> Day {
        Day::parse("2026-01-01").unwrap().plus(number)
    }

    prop_compose! {
        pub fn spans(days: u64)(first in 0..days, length in 0_u64..40) -> Span {
            Span::new(day(first), day(first + length))
        }
    }

    prop_compose! {
        fn absences()(span in spans(90), hours in proptest::option::of(0.5_f64..10.0)) -> Absence {
            Absence { span, hours_per_day: hours }
        }
    }

    prop_compose! {
        pub fn commitments(days: u64)(
            span in spans(days), hours in 0.1_f64..200.0, early in 0_u64..40, is_worked in proptest::bool::ANY, id in 0_u32..u32::MAX
        ) -> Commitment {
            Commitment { id: id.to_string(), span, hours, until: span.last.minus(early.saturating_sub(20)), is_worked }
        }
    }

    prop_compose! {
        pub fn workloads()(
            weekly_hours in prop_oneof![Just(0.0), Just(40.0), 1.0_f64..100.0], mask in 0_u8..128,
            holidays in proptest::collection::btree_set(0_u64..120, 0..5),
            absences in proptest::collection::vec(absences(), 0..4),
            commitments in proptest::collection::vec(commitments(90), 0..8),
        ) -> Workload {
            Workload {
                pattern: Pattern { weekly_hours, days: std::array::from_fn(|index| mask & (1 << index) != 0) },
                holidays: holidays.into_iter().map(day).collect(),
                absences,
                commitments,
            }
        }
    }

    /// The same sums as somebody would make them with a calendar and a pencil: each day by itself, and nothing of what is above.
    fn by_hand(workload: &Workload, span: Span) -> Sum {
        let works = |day: Day| workload.pattern.days[day.weekday()];
        let a_day = match workload.pattern.days.iter().filter(|works| **works).count() {
            0 => 0.0,
            count => workload.pattern.weekly_hours / count as f64,
        };
        let mut sum = Sum::default();
        let mut today = span.first;
        while today <= span.last {
            let base = if works(today) { a_day } else { 0.0 };
            let mut off = 0.0;
            for absence in &workload.absences {
                if absence.span.first <= today && today <= absence.span.last {
                    off += absence.hours_per_day.unwrap_or(base);
                }
            }
            if workload.holidays.contains(&today) {
                off = base;
            }
            sum.base += base;
            sum.time_off += if off > base { base } else { off };
            for commitment in &workload.commitments {
                let (mut working, mut all) = (0, 0);
                let mut other = commitment.span.first;
                while other <= commitment.span.last {
                    all += 1;
                    working += i32::from(works(other));
                    other = other.plus(1);
                }
                let is_inside =
                    commitment.span.first <= today && today <= commitment.span.last && today <= commitment.until;
                let hours = match working {
                    0 => commitment.hours / f64::from(all),
                    _ if works(today) => commitment.hours / f64::from(working),
                    _ => 0.0,
                };
                if is_inside {
                    sum.allocated += hours;
                    sum.utilized += if commitment.is_worked { hours } else { 0.0 };
                }
            }
            today = today.plus(1);
        }
        sum
    }

    fn is_near(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-6
    }

    proptest! {
        #[test]
        fn totals_are_what_a_count_day_by_day_makes(workload in workloads(), span in spans(120)) {
            let (sum, counted) = (workload.sum(span), by_hand(&workload, span));
            prop_assert!(is_near(sum.base, counted.base), "{sum:?} {counted:?}");
            prop_assert!(is_near(sum.time_off, counted.time_off), "{sum:?} {counted:?}");
            prop_assert!(is_near(sum.allocated, counted.allocated), "{sum:?} {counted:?}");
            prop_assert!(is_near(sum.utilized, counted.utilized), "{sum:?} {counted:?}");
            prop_assert!(sum.utilized <= sum.allocated + NOTHING && sum.time_off <= sum.base + NOTHING);
        }

        #[test]
        fn weeks_and_days_add_up_to_the_whole(workload in workloads(), span in spans(120)) {
            let whole = workload.sum(span);
            let weeks = span.weeks().map(|monday| workload.sum(Span::week(monday).both(span))).fold(Sum::default(), Sum::and);
            let days = span.iter().map(|day| workload.sum(Span::new(day, day))).fold(Sum::default(), Sum::and);
            for other in [weeks, days] {
                prop_assert!(is_near(whole.capacity(), other.base - other.time_off), "{whole:?} {other:?}");
                prop_assert!(is_near(whole.allocated, other.allocated), "{whole:?} {other:?}");
            }
        }

        #[test]
        fn every_hour_of_a_commitment_is_somewhere(workload in workloads(), commitment in commitments(90)) {
            let open = Commitment { until: commitment.span.last, ..commitment };
            let found: f64 = open.span.weeks().map(|week| open.hours_in(Span::week(week), &workload.pattern)).sum();
            prop_assert!(is_near(found, open.hours), "{found}");
        }

        #[test]
        fn what_is_available_and_what_is_planned_make_the_capacity(workload in workloads(), span in spans(120)) {
            let sum = workload.sum(span);
            prop_assert!(sum.available() >= 0.0);
            if sum.available() > 0.0 {
                prop_assert!(is_near(sum.available() + sum.allocated, sum.capacity()));
            }
            let utilization = sum.utilization();
            prop_assert!(utilization.is_finite() && utilization >= 0.0);
            if sum.capacity() == 0.0 {
                prop_assert_eq!(utilization, 0.0);
            }
        }
    }

    #[test]
    fn a_week_in_numbers() {
        // 2026-01-05 is a Monday.
        let week = Span::week(day(4));
        let workload = Workload {
            holidays: [day(5)].into(),
            absences: vec![
                Absence { span: Span::new(day(6), day(6)), hours_per_day: Some(3.0) },
                Absence { span: Span::new(day(8), day(20)), hours_per_day: None },
            ],
            commitments: vec![Commitment {
                id: "a".into(),
                span: Span::new(day(4), day(15)),
                hours: 20.0,
                until: day(15),
                is_worked: false,
            }],
            ..Workload::default()
        };
        let sum = workload.sum(week);
        assert_eq!((sum.base, sum.time_off, sum.capacity()), (40.0, 19.0, 21.0));
        assert_eq!((sum.allocated, sum.available(), sum.utilized), (10.0, 11.0, 0.0));
    }
}
