//! Rates: how often something happened, in one group and in two.

use crate::{Comparison, Estimate, Z95, distribution};

/// So many of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How often it happened.
    pub successes: i64,
    /// How often it could have.
    pub samples: i64,
}

impl Rate {
    /// None without samples, or with more successes than those.
    pub fn new(successes: i64, samples: i64) -> Option<Self> {
        (samples > 0 && (0..=samples).contains(&successes)).then_some(Self { successes, samples })
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn parts(self) -> (f64, f64) {
        (self.successes as f64 / self.samples as f64, self.samples as f64)
    }

    /// The rate with its Wilson interval (E. B. Wilson, 1927), which stays within 0 and 1 and holds for few samples too.
    ///
    /// ```
    /// use experiment_rules::rate::Rate;
    /// let half = Rate::new(50, 100).unwrap().wilson();
    /// assert!(half.value == 0.5 && (half.low - 0.40383).abs() < 5e-6);
    /// ```
    pub fn wilson(self) -> Estimate {
        let (p, n) = self.parts();
        let (square, denominator) = (Z95 * Z95, 1.0 + Z95 * Z95 / n);
        let middle = (p + square / (2.0 * n)) / denominator;
        let half = Z95 / denominator * (p * (1.0 - p) / n + square / (4.0 * n * n)).sqrt();
        let low = if self.successes == 0 { 0.0 } else { (middle - half).max(0.0) };
        let high = if self.successes == self.samples { 1.0 } else { (middle + half).min(1.0) };
        Estimate { value: p, low, high }
    }
}

/// The two-proportion z-test with the pooled rate, and Newcombe's hybrid score interval of the difference (R. G. Newcombe,
/// 1998, method 10), made of both Wilson intervals: the plain normal one has no width where nothing or everything happened.
/// Where the pooled rate is 0 or 1 there is nothing to tell apart: no statistic, and a p-value of 1.
///
/// ```
/// use experiment_rules::rate::{Rate, compare};
/// let comparison = compare(Rate::new(45, 100).unwrap(), Rate::new(60, 100).unwrap());
/// assert!((comparison.p_value - 0.0337).abs() < 5e-5);
/// ```
pub fn compare(control: Rate, other: Rate) -> Comparison {
    let ((p1, n1), (p2, n2)) = (control.parts(), other.parts());
    let (w1, w2) = (control.wilson(), other.wilson());
    let value = p2 - p1;
    let difference = Estimate {
        value,
        low: value - (p2 - w2.low).hypot(w1.high - p1),
        high: value + (w2.high - p2).hypot(p1 - w1.low),
    };
    let pooled = (p1 * n1 + p2 * n2) / (n1 + n2);
    let error = (pooled * (1.0 - pooled) * (1.0 / n1 + 1.0 / n2)).sqrt();
    let is_same = control.successes + other.successes == 0
        || (control.successes == control.samples && other.successes == other.samples);
    let statistic = (!is_same).then(|| value / error);
    let p_value = statistic.map_or(1.0, distribution::normal_two_sided);
    Comparison { difference, statistic, degrees: None, p_value }
}

/// Whether the normal distribution fits so few badly: one of the four expected counts is below 5.
///
/// ```
/// use experiment_rules::rate::{Rate, is_rough};
/// assert!(is_rough(Rate::new(1, 40).unwrap(), Rate::new(2, 40).unwrap()));
/// assert!(!is_rough(Rate::new(20, 40).unwrap(), Rate::new(25, 40).unwrap()));
/// ```
pub fn is_rough(control: Rate, other: Rate) -> bool {
    let ((p1, n1), (p2, n2)) = (control.parts(), other.parts());
    let pooled = (p1 * n1 + p2 * n2) / (n1 + n2);
    n1.min(n2) * pooled.min(1.0 - pooled) < 5.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rate_is_of_something() {
        assert!(Rate::new(0, 0).is_none() && Rate::new(3, 2).is_none() && Rate::new(-1, 2).is_none());
    }

    #[test]
    fn where_nothing_differs_nothing_is_found() {
        for (successes, samples) in [(0, 50), (50, 50)] {
            let rate = Rate::new(successes, samples).unwrap();
            let comparison = compare(rate, rate);
            assert_eq!((comparison.p_value, comparison.statistic), (1.0, None));
            assert!(comparison.difference.low < 0.0 && comparison.difference.high > 0.0, "{comparison:?}");
        }
    }

    proptest! {
        /// Who is called the control changes the sign and nothing else.
        #[test]
        fn a_comparison_has_two_sides(a in 0_i64..300, b in 0_i64..300) {
            let (one, two) = (Rate::new(a, 300).unwrap(), Rate::new(b, 320).unwrap());
            let (straight, turned) = (compare(one, two), compare(two, one));
            prop_assert!((straight.p_value - turned.p_value).abs() < 1e-12);
            prop_assert!((straight.difference.low + turned.difference.high).abs() < 1e-12);
            prop_assert!((0.0..=1.0).contains(&straight.p_value));
            prop_assert!(straight.difference.low <= straight.difference.value && straight.difference.value <= straight.difference.high);
        }
    }
}
