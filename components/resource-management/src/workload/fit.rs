//! Whether what is planned fits, week by week. Pure.
//!
//! The hours of a commitment in a week can be worked on any of its days in that week. They fit when no stretch of days has
//! more hours that must be worked inside it than it has capacity: the processor-demand criterion of real-time scheduling
//! (Baruah, Mok, Rosier: Preemptively scheduling hard-real-time sporadic tasks on one processor, 1990).

use time_rules::day::{Day, Span};

use super::{Commitment, NOTHING, Workload};

/// A week in which something does not fit, in hours.
#[derive(Clone, Debug, PartialEq)]
pub struct Excess {
    /// Its Monday.
    pub week_start: Day,
    /// What can be worked in it.
    pub capacity: f64,
    /// What is planned in it already.
    pub allocated: f64,
    /// What was wanted of it.
    pub requested: f64,
    /// What there was room for.
    pub available: f64,
}

impl Excess {
    /// What was too much.
    pub fn overallocation(&self) -> f64 {
        self.requested - self.available
    }
}

impl Workload {
    /// The hours of a week that cannot be placed, whatever the order they are worked in; 0 when everything fits.
    pub fn overload(&self, monday: Day) -> f64 {
        let week = Span::week(monday);
        let demands = self.demands(week);
        stretches(week).map(|stretch| demand(&demands, stretch) - self.capacity(stretch)).fold(0.0, f64::max)
    }

    /// The hours that can still be placed on some days of one week.
    pub fn room(&self, monday: Day, window: Span) -> f64 {
        let week = Span::week(monday);
        let window = window.both(week);
        if window.is_empty() {
            return 0.0;
        }
        let demands = self.demands(week);
        let around = stretches(week).filter(|stretch| stretch.both(window) == window);
        around.map(|stretch| self.capacity(stretch) - demand(&demands, stretch)).fold(f64::INFINITY, f64::min).max(0.0)
    }

    /// Which hours of a week belong on which of its days.
    fn demands(&self, week: Span) -> Vec<(Span, f64)> {
        let met = self.commitments.iter().filter(|commitment| commitment.counted().meets(week));
        met.map(|commitment| (commitment.counted().both(week), commitment.hours_in(week, &self.pattern))).collect()
    }
}

/// The weeks in which a commitment does not fit beside what is there. Where it takes the place of another one, a week in which
/// it takes no more hours and leaves as many days for them is none of its making.
pub fn excess(beside: &Workload, old: Option<&Commitment>, new: &Commitment) -> Vec<Excess> {
    let part = |commitment: &Commitment, week: Span| commitment.hours_in(week, &beside.pattern);
    new.counted()
        .weeks()
        .filter_map(|week_start| {
            let week = Span::week(week_start);
            let (requested, window) = (part(new, week), new.counted().both(week));
            let available = beside.room(week_start, window);
            let is_no_worse = old.is_some_and(|old| {
                let before = old.counted().both(week);
                requested <= part(old, week) + NOTHING && before.both(window) == before
            });
            if requested <= available + NOTHING || is_no_worse {
                return None;
            }
            let sum = beside.sum(week);
            let (capacity, allocated) = (sum.capacity(), sum.allocated);
            Some(Excess { week_start, capacity, allocated, requested, available })
        })
        .collect()
}

fn demand(demands: &[(Span, f64)], stretch: Span) -> f64 {
    demands.iter().filter(|(window, _)| window.both(stretch) == *window).map(|(_, hours)| hours).sum()
}

/// Every stretch of days of a week.
fn stretches(week: Span) -> impl Iterator<Item = Span> {
    week.iter().flat_map(move |first| Span::new(first, week.last).iter().map(move |last| Span::new(first, last)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::workload::tests::{commitments, day, spans, workloads};

    /// What is left over when each day works on what is due first: the best order there is.
    fn left_over(workload: &Workload, monday: Day) -> f64 {
        let week = Span::week(monday);
        let mut open: Vec<(Span, f64)> = workload
            .commitments
            .iter()
            .map(|one| (one.counted().both(week), one.hours_in(week, &workload.pattern)))
            .filter(|(window, hours)| !window.is_empty() && *hours > 0.0)
            .collect();
        open.sort_by_key(|(window, _)| window.last);
        for today in week.iter() {
            let mut hours = workload.capacity_on(today);
            for (_, left) in open.iter_mut().filter(|(window, _)| window.holds(today)) {
                let worked = left.min(hours);
                *left -= worked;
                hours -= worked;
            }
        }
        open.iter().map(|(_, left)| left).sum()
    }

    proptest! {
        #[test]
        fn a_week_is_overloaded_exactly_when_no_plan_places_every_hour(workload in workloads(), week in 0_u64..16) {
            let monday = day(4 + week * 7);
            let (overload, left) = (workload.overload(monday), left_over(&workload, monday));
            prop_assert_eq!(overload > 1e-6, left > 1e-6, "{} {}", overload, left);
            let sum = workload.sum(Span::week(monday));
            prop_assert!(overload + 1e-6 >= sum.allocated - sum.capacity());
        }

        #[test]
        fn what_there_is_room_for_fits_and_no_more(workload in workloads(), window in spans(60), week in 0_u64..16) {
            let monday = day(4 + week * 7);
            let window = window.both(Span::week(monday));
            prop_assume!(!window.is_empty());
            let room = workload.room(monday, window);
            let add = |hours| workload.with(Commitment { id: "new".into(), span: window, hours, until: window.last, is_worked: false });
            if room > 0.0 {
                prop_assert!(add(room).overload(monday) <= workload.overload(monday) + 1e-6);
            }
            let more = add(room + workload.overload(monday) + 1.0);
            prop_assert!(more.overload(monday) > workload.overload(monday));
        }

        #[test]
        fn what_does_not_exceed_any_week_overloads_none(workload in workloads(), wish in commitments(90)) {
            let before: Vec<f64> = wish.span.weeks().map(|week| workload.overload(week)).collect();
            let found = excess(&workload, None, &wish);
            let after = workload.with(wish.clone());
            for (week, before) in wish.span.weeks().zip(before) {
                let is_named = found.iter().any(|excess| excess.week_start == week);
                prop_assert!(is_named || after.overload(week) <= before + 1e-5);
                if is_named {
                    prop_assert!(after.overload(week) > 1e-7, "{week}");
                }
            }
            // It does not stand in its own way.
            prop_assert!(excess(&workload, Some(&wish), &wish).is_empty());
        }
    }

    #[test]
    fn hours_that_can_wait_make_room_for_those_that_cannot() {
        let (monday, friday) = (day(4), day(8));
        let one = |id: &str, first, last, hours| Commitment {
            id: id.into(),
            span: Span::new(first, last),
            hours,
            until: last,
            is_worked: false,
        };
        let workload = Workload { commitments: vec![one("today", monday, monday, 8.0)], ..Workload::default() };
        assert_eq!(workload.room(monday, Span::new(monday, friday)), 32.0);
        assert_eq!(workload.room(monday, Span::new(monday, monday)), 0.0);
        let full = workload.with(one("week", monday, friday, 32.0));
        assert_eq!(full.overload(monday), 0.0);
        assert_eq!(full.with(one("late", friday, friday, 6.0)).overload(monday), 6.0);
        let found = excess(&workload, None, &one("much", day(7), friday, 20.0));
        assert_eq!((found.len(), found[0].available, found[0].overallocation()), (1, 16.0, 4.0));
    }
}
