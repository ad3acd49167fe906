//! What figures say: each variant for itself, each against the control, and whether one has won. Pure.

use berth_sdk::prelude::*;
use experiment_rules::{
    Comparison, Estimate, holm,
    mean::{self, Moments},
    rate::{self, Rate},
};

use super::{Goal, MetricKind};

/// What is decided before anything is measured.
#[derive(Clone, Copy, Debug)]
pub struct Design {
    /// Subjects that each variant needs.
    pub min_sample_size: i64,
    /// How often a difference that is none may be taken for one.
    pub significance: f64,
    /// What is better.
    pub goal: Goal,
    /// Whether the end that was set has come; without one it never has.
    pub has_ended: bool,
}

/// What was measured of one metric in one variant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measured {
    /// So many of so many.
    Share {
        /// Subjects with a 1.
        successes: i64,
        /// Subjects.
        samples: i64,
    },
    /// Amounts.
    Amount(Moments),
}

/// One variant and what was measured in it.
#[derive(Clone, Debug)]
pub struct Group {
    /// The variant.
    pub variant_id: Id,
    /// Its name.
    pub name: String,
    /// What the others are compared with.
    pub is_control: bool,
    /// The figures.
    pub measured: Measured,
}

/// What the figures of a metric come to.
#[choice]
pub enum Conclusion {
    /// Some variant has fewer subjects than each needs: nothing is compared.
    InsufficientData,
    /// No difference that is more than chance.
    Inconclusive,
    /// A difference that is more than chance, and not or not yet a winner.
    Significant,
    /// The end has come and one variant is better.
    Winner,
}

/// One variant by one metric.
#[data]
pub struct Figure {
    /// The variant.
    pub variant_id: Id,
    /// Its name.
    pub name: String,
    /// What the others are compared with.
    pub is_control: bool,
    /// Subjects that count.
    pub samples: i64,
    /// The rate or the mean with its 95 % interval; none without samples.
    pub estimate: Option<Estimate>,
    /// Of a mean.
    pub standard_deviation: Option<f64>,
}

/// Which test it was.
#[choice]
pub enum Test {
    /// The two-proportion z-test with the pooled rate, and Newcombe's interval.
    TwoProportionZ,
    /// Welch's t-test and its interval.
    WelchT,
}

/// One variant against the control.
#[data]
pub struct Against {
    /// The variant.
    pub variant_id: Id,
    /// Which test.
    pub test: Test,
    /// The variant's figure less the control's, with its 95 % interval.
    pub difference: Estimate,
    /// The difference as a share of the control's figure; none when that is 0.
    pub relative_difference: Option<f64>,
    /// z or t; none where nothing varies.
    pub statistic: Option<f64>,
    /// Of Welch's test.
    pub degrees_of_freedom: Option<f64>,
    /// Two-sided.
    pub p_value: f64,
    /// Corrected by Holm's method for the number of variants that are compared.
    pub adjusted_p_value: f64,
    /// Whether the corrected one is below the experiment's significance.
    pub is_significant: bool,
    /// Fewer than 5 would be expected somewhere: the normal distribution fits badly, and no winner is made of it.
    pub is_rough: bool,
}

/// What one metric shows.
#[data]
pub struct MetricResult {
    /// Its name.
    pub metric: String,
    /// Whether it decides.
    pub is_primary: bool,
    /// What its values are.
    pub kind: MetricKind,
    /// What it comes to.
    pub conclusion: Conclusion,
    /// Each variant.
    pub variants: Vec<Figure>,
    /// Each variant but the control against that; empty until there are enough subjects.
    pub comparisons: Vec<Against>,
}

impl Measured {
    /// How many subjects count.
    pub fn samples(self) -> i64 {
        match self {
            Self::Share { samples, .. } => samples,
            Self::Amount(moments) => moments.samples,
        }
    }

    fn estimate(self) -> Option<Estimate> {
        match self {
            Self::Share { successes, samples } => Rate::new(successes, samples).map(Rate::wilson),
            Self::Amount(moments) => moments.estimate().or_else(|| {
                let value = moments.mean();
                (moments.samples == 1).then_some(Estimate { value, low: value, high: value })
            }),
        }
    }

    fn deviation(self) -> Option<f64> {
        match self {
            Self::Share { .. } => None,
            Self::Amount(moments) => moments.variance().map(f64::sqrt),
        }
    }

    fn against(self, control: Self) -> Option<(Test, Comparison, bool)> {
        match (control, self) {
            (Self::Share { successes: x1, samples: n1 }, Self::Share { successes: x2, samples: n2 }) => {
                let (control, other) = (Rate::new(x1, n1)?, Rate::new(x2, n2)?);
                Some((Test::TwoProportionZ, rate::compare(control, other), rate::is_rough(control, other)))
            }
            (Self::Amount(control), Self::Amount(other)) => Some((Test::WelchT, mean::compare(control, other)?, false)),
            _ => None,
        }
    }
}

/// Judges one metric. The winner is for the primary one to tell.
pub fn judge(design: Design, metric: &str, is_primary: bool, kind: MetricKind, groups: &[Group]) -> MetricResult {
    let figures = groups.iter().map(|group| Figure {
        variant_id: group.variant_id.clone(),
        name: group.name.clone(),
        is_control: group.is_control,
        samples: group.measured.samples(),
        estimate: group.measured.estimate(),
        standard_deviation: group.measured.deviation(),
    });
    let comparisons = compare(design, groups);
    let mut result = MetricResult {
        metric: metric.into(),
        is_primary,
        kind,
        conclusion: Conclusion::InsufficientData,
        variants: figures.collect(),
        comparisons: comparisons.unwrap_or_default(),
    };
    if !result.comparisons.is_empty() {
        result.conclusion = match winner(design, &result) {
            Some(_) => Conclusion::Winner,
            None if result.comparisons.iter().any(|one| one.is_significant) => Conclusion::Significant,
            None => Conclusion::Inconclusive,
        };
    }
    result
}

/// Every variant against the control; none until each has as many subjects as it needs.
fn compare(design: Design, groups: &[Group]) -> Option<Vec<Against>> {
    let control = groups.iter().find(|group| group.is_control)?;
    if groups.len() < 2 || groups.iter().any(|group| group.measured.samples() < design.min_sample_size.max(1)) {
        return None;
    }
    let others = groups.iter().filter(|group| !group.is_control);
    let tests: Vec<(&Group, (Test, Comparison, bool))> =
        others.map(|group| Some((group, group.measured.against(control.measured)?))).collect::<Option<_>>()?;
    let p_values: Vec<f64> = tests.iter().map(|(_, (_, comparison, _))| comparison.p_value).collect();
    let base = control.measured.estimate()?.value;
    let against =
        tests.into_iter().zip(holm::adjusted(&p_values)).map(|((group, (test, found, is_rough)), adjusted)| Against {
            variant_id: group.variant_id.clone(),
            test,
            difference: found.difference,
            relative_difference: Some(found.difference.value / base.abs()).filter(|share| share.is_finite()),
            statistic: found.statistic,
            degrees_of_freedom: found.degrees,
            p_value: found.p_value,
            adjusted_p_value: adjusted,
            is_significant: adjusted < design.significance,
            is_rough,
        });
    Some(against.collect())
}

/// The variant that has won, once the end has come: the best of those that are better than the control, or the control
/// when every other variant is worse.
pub fn winner(design: Design, result: &MetricResult) -> Option<Id> {
    if !design.has_ended || !result.is_primary || result.comparisons.is_empty() {
        return None;
    }
    let gain = |one: &Against| if design.goal == Goal::Increase { one.difference.value } else { -one.difference.value };
    let is_sure = |one: &&Against| one.is_significant && !one.is_rough;
    let better = result.comparisons.iter().filter(is_sure).filter(|one| gain(one) > 0.0);
    if let Some(best) = better.max_by(|one, other| gain(one).total_cmp(&gain(other))) {
        return Some(best.variant_id.clone());
    }
    let all_worse = result.comparisons.iter().all(|one| is_sure(&one) && gain(one) < 0.0);
    result.variants.iter().find(|figure| all_worse && figure.is_control).map(|figure| figure.variant_id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESIGN: Design = Design { min_sample_size: 100, significance: 0.05, goal: Goal::Increase, has_ended: true };

    fn shares(counts: &[(i64, i64)]) -> Vec<Group> {
        let group = |(place, (successes, samples)): (usize, &(i64, i64))| Group {
            variant_id: format!("v{place}").into(),
            name: format!("v{place}"),
            is_control: place == 0,
            measured: Measured::Share { successes: *successes, samples: *samples },
        };
        counts.iter().enumerate().map(group).collect()
    }

    fn of(design: Design, counts: &[(i64, i64)]) -> (Conclusion, Option<String>) {
        let result = judge(design, "clicks", true, MetricKind::Rate, &shares(counts));
        (result.conclusion, winner(design, &result).map(Id::into_string))
    }

    #[test]
    fn nothing_is_compared_before_there_are_enough() {
        let result = judge(DESIGN, "clicks", true, MetricKind::Rate, &shares(&[(10, 100), (60, 99)]));
        assert_eq!((result.conclusion, result.comparisons.len()), (Conclusion::InsufficientData, 0));
        assert_eq!(
            result.variants[1].estimate.map(|estimate| estimate.value),
            Some(60.0 / 99.0),
            "what is there is shown"
        );
        assert_eq!(of(DESIGN, &[(0, 0), (0, 0)]), (Conclusion::InsufficientData, None));
        let nobody = Design { min_sample_size: 0, ..DESIGN };
        assert_eq!(of(nobody, &[(0, 0), (0, 0)]), (Conclusion::InsufficientData, None));
    }

    #[test]
    fn there_is_no_winner_before_the_end() {
        let counts = [(100, 1000), (160, 1000)];
        assert_eq!(of(DESIGN, &counts), (Conclusion::Winner, Some("v1".into())));
        assert_eq!(of(Design { has_ended: false, ..DESIGN }, &counts), (Conclusion::Significant, None));
        assert_eq!(of(DESIGN, &[(100, 1000), (104, 1000)]), (Conclusion::Inconclusive, None));
    }

    #[test]
    fn the_control_wins_where_everything_else_is_worse() {
        assert_eq!(of(DESIGN, &[(160, 1000), (100, 1000)]), (Conclusion::Winner, Some("v0".into())));
        assert_eq!(of(DESIGN, &[(160, 1000), (100, 1000), (155, 1000)]), (Conclusion::Significant, None));
        let less = Design { goal: Goal::Decrease, ..DESIGN };
        assert_eq!(of(less, &[(160, 1000), (100, 1000)]), (Conclusion::Winner, Some("v1".into())));
    }

    #[test]
    fn many_variants_need_more_than_one() {
        // Alone the p-value is 0.035; beside three others it is not enough.
        let pair = [(100, 1000), (130, 1000)];
        assert_eq!(of(DESIGN, &pair).0, Conclusion::Winner);
        let many = [(100, 1000), (130, 1000), (101, 1000), (99, 1000), (100, 1000)];
        assert_eq!(of(DESIGN, &many).0, Conclusion::Inconclusive);
        let best = [(100, 1000), (160, 1000), (180, 1000)];
        assert_eq!(of(DESIGN, &best).1.as_deref(), Some("v2"));
    }

    #[test]
    fn few_events_make_no_winner() {
        let few = Design { min_sample_size: 10, ..DESIGN };
        assert_eq!(of(few, &[(0, 20), (5, 20)]), (Conclusion::Significant, None));
    }

    #[test]
    fn amounts_are_judged_by_their_means() {
        let group = |place: usize, mean: f64| Group {
            variant_id: format!("v{place}").into(),
            name: String::new(),
            is_control: place == 0,
            measured: Measured::Amount(Moments::new(200, mean, 199.0 * 25.0)),
        };
        let less = Design { goal: Goal::Decrease, ..DESIGN };
        let result = judge(less, "time", true, MetricKind::Mean, &[group(0, 100.0), group(1, 97.0)]);
        assert_eq!(winner(less, &result).unwrap().as_str(), "v1");
        let one = &result.comparisons[0];
        assert!((one.statistic.unwrap() + 6.0).abs() < 1e-12 && (one.degrees_of_freedom.unwrap() - 398.0).abs() < 1e-9);
        assert_eq!((one.test, one.relative_difference), (Test::WelchT, Some(-0.03)));
        assert_eq!(result.variants[0].standard_deviation, Some(5.0));
        let secondary = judge(less, "time", false, MetricKind::Mean, &[group(0, 100.0), group(1, 97.0)]);
        assert_eq!((secondary.conclusion, winner(less, &secondary)), (Conclusion::Significant, None));
    }
}
