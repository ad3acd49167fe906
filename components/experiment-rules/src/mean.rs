//! Means: how much of something, in one group and in two whose variances need not be the same.

use crate::{Comparison, Estimate, distribution};

/// What a group's values come to. The mean is kept in two parts, as the difference of two that are far from 0 is needed to
/// more digits than their sum has.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// How many values.
    pub samples: i64,
    /// About where they are.
    base: f64,
    /// How far above that their mean is.
    rest: f64,
    /// The sum of their squared distances from their mean.
    squares: f64,
}

impl Moments {
    /// From the mean and the sum of the squared distances from it.
    pub fn new(samples: i64, mean: f64, squares: f64) -> Self {
        Self { samples, base: mean, rest: 0.0, squares }
    }

    /// From the sums of what values lie above `shift` and of the squares of that. With a shift near the mean nothing
    /// cancels out, however far from 0 the values are.
    ///
    /// ```
    /// use experiment_rules::mean::Moments;
    /// // 1e9 + 1, + 2, + 3, seen from 1e9:
    /// let moments = Moments::shifted(1e9, 3, 6.0, 14.0);
    /// assert_eq!((moments.mean(), moments.variance()), (1e9 + 2.0, Some(1.0)));
    /// ```
    pub fn shifted(shift: f64, samples: i64, sum: f64, squares: f64) -> Self {
        if samples <= 0 {
            return Self::default();
        }
        let n = count(samples);
        Self { samples, base: shift, rest: sum / n, squares: (squares - sum * sum / n).max(0.0) }
    }

    /// The mean.
    pub fn mean(self) -> f64 {
        self.base + self.rest
    }

    /// The sample variance; none with fewer than two values.
    pub fn variance(self) -> Option<f64> {
        (self.samples >= 2).then(|| self.squares / (count(self.samples) - 1.0))
    }

    /// The mean with its interval by Student's t; none with fewer than two values.
    pub fn estimate(self) -> Option<Estimate> {
        let error = (self.variance()? / count(self.samples)).sqrt();
        let half = distribution::student_quantile95(count(self.samples) - 1.0) * error;
        let value = self.mean();
        Some(Estimate { value, low: value - half, high: value + half })
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn count(samples: i64) -> f64 {
    samples as f64
}

/// Welch's t-test (B. L. Welch, 1947) with the degrees of freedom of Welch and Satterthwaite, and the interval that belongs to
/// it; none with fewer than two values in a group. Where nothing varies in either group there is no statistic: the p-value
/// is 1 for equal means and 0 otherwise.
///
/// ```
/// use experiment_rules::mean::{Moments, compare};
/// let (control, other) = (Moments::shifted(0.0, 3, 6.0, 14.0), Moments::shifted(0.0, 3, 15.0, 77.0));
/// let comparison = compare(control, other).unwrap();
/// assert!((comparison.degrees.unwrap() - 4.0).abs() < 1e-12 && (comparison.p_value - 0.0213).abs() < 5e-5);
/// ```
pub fn compare(control: Moments, other: Moments) -> Option<Comparison> {
    let (n1, n2) = (count(control.samples), count(other.samples));
    let (e1, e2) = (control.variance()? / n1, other.variance()? / n2);
    let value = (other.base - control.base) + (other.rest - control.rest);
    if e1 + e2 <= 0.0 {
        let difference = Estimate { value, low: value, high: value };
        let p_value = if value == 0.0 { 1.0 } else { 0.0 };
        return Some(Comparison { difference, statistic: None, degrees: None, p_value });
    }
    let error = (e1 + e2).sqrt();
    // As shares of the sum, so that tiny variances do not vanish when they are squared.
    let (s1, s2) = (e1 / (e1 + e2), e2 / (e1 + e2));
    let degrees = 1.0 / (s1 * s1 / (n1 - 1.0) + s2 * s2 / (n2 - 1.0));
    let (t, half) = (value / error, distribution::student_quantile95(degrees) * error);
    Some(Comparison {
        difference: Estimate { value, low: value - half, high: value + half },
        statistic: Some(t),
        degrees: Some(degrees),
        p_value: distribution::student_two_sided(t, degrees),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> Moments {
        let shift = values.first().copied().unwrap_or_default();
        let (sum, squares) =
            values.iter().map(|value| value - shift).fold((0.0, 0.0), |(sum, squares), d| (sum + d, squares + d * d));
        Moments::shifted(shift, values.len() as i64, sum, squares)
    }

    #[test]
    fn what_does_not_vary_is_told_apart_or_not() {
        let (same, other) = (of(&[5.0, 5.0, 5.0]), of(&[6.0, 6.0]));
        assert_eq!(compare(same, same).map(|comparison| comparison.p_value), Some(1.0));
        assert_eq!(
            compare(same, other).map(|comparison| (comparison.p_value, comparison.statistic)),
            Some((0.0, None))
        );
        assert!(compare(same, of(&[1.0])).is_none() && of(&[1.0]).estimate().is_none());
        assert_eq!(Moments::shifted(1.0, 0, 0.0, 0.0), Moments::default());
    }

    proptest! {
        /// Neither the unit nor the origin of the values matters to the test.
        #[test]
        fn a_test_knows_no_unit(one in proptest::collection::vec(-100.0_f64..100.0, 3..30), two in proptest::collection::vec(-100.0_f64..100.0, 3..30), scale in 0.001_f64..1000.0, origin in -1e6_f64..1e6) {
            let moved = |values: &[f64]| of(&values.iter().map(|value| value * scale + origin).collect::<Vec<_>>());
            let (plain, other) = (compare(of(&one), of(&two)).unwrap(), compare(moved(&one), moved(&two)).unwrap());
            prop_assert!((plain.p_value - other.p_value).abs() < 1e-6, "{} {}", plain.p_value, other.p_value);
            prop_assert!(plain.difference.low <= plain.difference.value && plain.difference.value <= plain.difference.high);
        }
    }
}
