//! What an experiment shows, and what it does not: rates with their intervals, and a winner only where the intervals leave
//! no doubt. Pure.

use berth_sdk::prelude::*;
pub use experiment_rules::Estimate;
use experiment_rules::{Z95, rate::Rate};

/// A rating from here on counts as liked.
pub const LIKED_FROM: i64 = 4;

/// What is compared.
#[choice]
pub enum Metric {
    /// How often it went well.
    SuccessRate,
    /// How long it took: less is better.
    Latency,
    /// How often it was rated 4 or 5.
    UserRating,
}

/// What is known of one variant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Runs with a known outcome.
    pub outcomes: i64,
    /// Those that went well.
    pub successes: i64,
    /// Runs with a rating.
    pub ratings: i64,
    /// Those rated 4 or 5.
    pub liked: i64,
    /// Runs with a duration.
    pub timed: i64,
    /// The sum of the durations, in milliseconds.
    pub latency_sum: f64,
    /// The sum of their squares.
    pub latency_squares: f64,
}

/// The Wilson interval of a rate; none without samples.
pub fn wilson(successes: i64, samples: i64) -> Option<Estimate> {
    Rate::new(successes, samples).map(Rate::wilson)
}

/// The interval of a mean by the normal distribution; none with fewer than two samples.
fn mean(sum: f64, squares: f64, samples: i64) -> Option<Estimate> {
    if samples < 2 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let n = samples as f64;
    let value = sum / n;
    let variance = ((squares - sum * sum / n) / (n - 1.0)).max(0.0);
    let half = Z95 * (variance / n).sqrt();
    Some(Estimate { value, low: (value - half).max(0.0), high: value + half })
}

impl Sample {
    /// How many runs count for a metric.
    pub fn size(&self, metric: Metric) -> i64 {
        match metric {
            Metric::SuccessRate => self.outcomes,
            Metric::Latency => self.timed,
            Metric::UserRating => self.ratings,
        }
    }

    /// The figure of a metric.
    pub fn estimate(&self, metric: Metric) -> Option<Estimate> {
        match metric {
            Metric::SuccessRate => wilson(self.successes, self.outcomes),
            Metric::Latency => mean(self.latency_sum, self.latency_squares, self.timed),
            Metric::UserRating => wilson(self.liked, self.ratings),
        }
    }
}

/// The index of the variant that is better than every other one: each has enough samples, and the interval of the best
/// lies apart from all others.
pub fn winner(samples: &[Sample], metric: Metric, min_samples: i64) -> Option<usize> {
    if samples.len() < 2 || samples.iter().any(|sample| sample.size(metric) < min_samples.max(1)) {
        return None;
    }
    let estimates: Vec<Estimate> = samples.iter().map(|sample| sample.estimate(metric)).collect::<Option<_>>()?;
    let beats = |one: &Estimate, other: &Estimate| match metric {
        Metric::Latency => one.high < other.low,
        Metric::SuccessRate | Metric::UserRating => one.low > other.high,
    };
    (0..estimates.len()).find(|index| {
        let own = estimates.get(*index);
        estimates
            .iter()
            .enumerate()
            .all(|(other, estimate)| other == *index || own.is_some_and(|own| beats(own, estimate)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(successes: i64, outcomes: i64) -> Sample {
        Sample { outcomes, successes, ..Sample::default() }
    }

    #[test]
    fn the_interval_is_the_one_in_the_books() {
        let near = |left: f64, right: f64| (left - right).abs() < 5e-5;
        let half = wilson(50, 100).unwrap();
        assert!(near(half.low, 0.40383) && near(half.high, 0.59617), "{half:?}");
        let none = wilson(0, 10).unwrap();
        assert!(near(none.low, 0.0) && near(none.high, 0.27754), "{none:?}");
        let few = wilson(9, 10).unwrap();
        assert!(near(few.low, 0.59585) && near(few.high, 0.98212), "{few:?}");
        assert!(wilson(0, 0).is_none() && wilson(3, 2).is_none());
    }

    #[test]
    fn a_winner_needs_samples_and_distance() {
        let metric = Metric::SuccessRate;
        assert_eq!(winner(&[rate(50, 100), rate(90, 100)], metric, 100), Some(1));
        assert_eq!(winner(&[rate(50, 100), rate(60, 100)], metric, 100), None, "the intervals overlap");
        assert_eq!(winner(&[rate(50, 100), rate(90, 99)], metric, 100), None, "one has too few");
        assert_eq!(winner(&[rate(90, 100)], metric, 1), None, "nothing to compare with");
        assert_eq!(winner(&[rate(50, 100), rate(90, 100), rate(88, 100)], metric, 100), None, "two are as good");
        assert_eq!(winner(&[rate(0, 0), rate(0, 0)], metric, 0), None);
    }

    #[test]
    fn less_latency_is_better() {
        let timed = |values: &[f64]| Sample {
            timed: values.len() as i64,
            latency_sum: values.iter().sum(),
            latency_squares: values.iter().map(|value| value * value).sum(),
            ..Sample::default()
        };
        let (fast, slow) = (timed(&[90.0, 100.0, 110.0]), timed(&[400.0, 500.0, 600.0]));
        assert_eq!(winner(&[slow.clone(), fast.clone()], Metric::Latency, 3), Some(1));
        assert_eq!(winner(&[fast.clone(), fast], Metric::Latency, 3), None);
        assert!((slow.estimate(Metric::Latency).unwrap().value - 500.0).abs() < 1e-9);
    }

    proptest! {
        /// The interval holds the rate, stays within 0 and 1, and more samples never widen it.
        #[test]
        fn an_interval_holds_its_rate(successes in 0_i64..1_000, more in 0_i64..1_000, factor in 2_i64..10) {
            let samples = successes + more;
            prop_assume!(samples > 0);
            let estimate = wilson(successes, samples).unwrap();
            prop_assert!(0.0 <= estimate.low && estimate.low <= estimate.value + 1e-12);
            prop_assert!(estimate.value <= estimate.high + 1e-12 && estimate.high <= 1.0);
            let larger = wilson(successes * factor, samples * factor).unwrap();
            prop_assert!(larger.high - larger.low <= estimate.high - estimate.low + 1e-12);
        }

        /// There is at most one winner, and swapping the variants swaps it.
        #[test]
        fn a_winner_does_not_depend_on_the_order(a in 0_i64..200, b in 0_i64..200) {
            let (one, two) = (rate(a, 200), rate(b, 200));
            let straight = winner(&[one.clone(), two.clone()], Metric::SuccessRate, 100);
            let swapped = winner(&[two, one], Metric::SuccessRate, 100);
            prop_assert_eq!(straight.map(|index| 1 - index), swapped);
        }
    }
}
