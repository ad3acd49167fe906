//! Figures as SciPy has them: `corpus/generate.py` has made `corpus/expected.json`, which names the version. Everything
//! must be the same to 1e-9 of its value. No Python is needed here.
#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use berth_sdk::serde_json::{self, Value};
use experiment_rules::{
    Comparison, Estimate, distribution,
    mean::{self, Moments},
    rate::{self, Rate},
    ratio,
};

const PRECISION: f64 = 1e-9;

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Expected {
    wilson: Vec<(i64, i64, f64, f64, f64)>,
    rates: Vec<Rates>,
    means: Vec<Means>,
    moments: Vec<Large>,
    normal: Vec<(f64, f64)>,
    student: Vec<(f64, f64, f64)>,
    quantiles: Vec<(f64, f64)>,
    chi_squared: Vec<(f64, u32, f64)>,
    ratios: Vec<(Vec<i64>, Vec<i64>, f64)>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rates {
    counts: [i64; 4],
    statistic: Option<f64>,
    p_value: f64,
    difference: [f64; 3],
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Means {
    control: Vec<f64>,
    other: Vec<f64>,
    mean: [f64; 3],
    statistic: f64,
    degrees: f64,
    p_value: f64,
    difference: [f64; 3],
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Large {
    groups: [(f64, f64, i64); 2],
    statistic: f64,
    degrees: f64,
    p_value: f64,
    difference: [f64; 3],
}

fn expected() -> Expected {
    let text = include_str!("corpus/expected.json");
    serde_json::from_str(text).expect("the expected figures")
}

/// Faults are gathered, so that one run shows all of them.
#[derive(Default)]
struct Judge {
    wrong: Vec<String>,
    compared: usize,
}

impl Judge {
    /// To 1e-9 of the value, or of `scale` where that is larger: ends of intervals may be anywhere near 0.
    fn within(&mut self, what: &str, found: f64, wanted: f64, scale: f64) {
        self.compared += 1;
        let distance = (found - wanted).abs();
        if distance.is_nan() || distance > PRECISION * wanted.abs().max(scale) {
            self.wrong.push(format!("{what}: {found:e} here, {wanted:e} there"));
        }
    }

    fn same(&mut self, what: &str, found: f64, wanted: f64) {
        self.within(what, found, wanted, 0.0);
    }

    fn estimate(&mut self, what: &str, found: Estimate, wanted: [f64; 3], scale: f64) {
        for (found, wanted) in [found.value, found.low, found.high].into_iter().zip(wanted) {
            self.within(what, found, wanted, scale);
        }
    }

    fn finish(self, least: usize) {
        assert!(self.wrong.is_empty(), "{} of {} differ\n{}", self.wrong.len(), self.compared, self.wrong.join("\n"));
        assert!(self.compared >= least, "only {} figures were compared", self.compared);
    }
}

fn moments(values: &[f64]) -> Moments {
    // As the database does it: once for the mean, once for what lies around it.
    let shift = values.iter().sum::<f64>() / values.len() as f64;
    let sum = values.iter().map(|value| value - shift).sum();
    let squares = values.iter().map(|value| (value - shift) * (value - shift)).sum();
    Moments::shifted(shift, i64::try_from(values.len()).unwrap_or_default(), sum, squares)
}

#[test]
fn the_expected_figures_name_their_source() {
    let whole: Value = serde_json::from_str(include_str!("corpus/expected.json")).expect("JSON");
    assert!(whole["scipy"].as_str().is_some_and(|version| version.contains('.')));
}

#[test]
fn tails_and_quantiles_are_those_of_scipy() {
    let (expected, mut judge) = (expected(), Judge::default());
    for (z, wanted) in &expected.normal {
        judge.same(&format!("normal {z}"), distribution::normal_two_sided(*z), *wanted);
    }
    for (t, degrees, wanted) in &expected.student {
        judge.same(&format!("student {t} {degrees}"), distribution::student_two_sided(*t, *degrees), *wanted);
    }
    for (degrees, wanted) in &expected.quantiles {
        judge.same(&format!("quantile {degrees}"), distribution::student_quantile95(*degrees), *wanted);
    }
    for (x, degrees, wanted) in &expected.chi_squared {
        judge.same(&format!("chi squared {x} {degrees}"), distribution::chi_squared_above(*x, *degrees), *wanted);
    }
    judge.finish(360);
}

#[test]
fn rates_are_compared_as_scipy_does() {
    let (expected, mut judge) = (expected(), Judge::default());
    let rate = |successes, samples| Rate::new(successes, samples).expect("a rate");
    for (successes, samples, value, low, high) in &expected.wilson {
        let what = format!("wilson {successes}/{samples}");
        judge.estimate(&what, rate(*successes, *samples).wilson(), [*value, *low, *high], 1e-6);
    }
    for case in &expected.rates {
        let [x1, n1, x2, n2] = case.counts;
        let what = format!("rates {:?}", case.counts);
        let Comparison { difference, statistic, p_value, .. } = rate::compare(rate(x1, n1), rate(x2, n2));
        judge.estimate(&what, difference, case.difference, 1e-6);
        judge.same(&what, p_value, case.p_value);
        assert_eq!(statistic.is_some(), case.statistic.is_some(), "{what}");
        judge.same(&what, statistic.unwrap_or_default(), case.statistic.unwrap_or_default());
    }
    for (sizes, weights, wanted) in &expected.ratios {
        judge.same(&format!("ratio {sizes:?}"), ratio::p_value(sizes, weights).expect("a ratio"), *wanted);
    }
    judge.finish(170);
}

#[test]
fn means_are_compared_as_scipy_does() {
    let (expected, mut judge) = (expected(), Judge::default());
    for (place, case) in expected.means.iter().enumerate() {
        let what = format!("means {place}");
        let (control, other) = (moments(&case.control), moments(&case.other));
        judge.estimate(&what, other.estimate().expect("a mean"), case.mean, 0.0);
        let found = mean::compare(control, other).expect("a comparison");
        judge.estimate(&what, found.difference, case.difference, 0.0);
        judge.same(&what, found.degrees.unwrap_or_default(), case.degrees);
        judge.same(&what, found.statistic.unwrap_or_default(), case.statistic);
        judge.same(&what, found.p_value, case.p_value);
    }
    for case in &expected.moments {
        let what = format!("moments {:?}", case.groups);
        let [control, other] = case.groups.map(|(mean, deviation, samples)| {
            Moments::new(samples, mean, deviation * deviation * (samples as f64 - 1.0))
        });
        let found = mean::compare(control, other).expect("a comparison");
        judge.estimate(&what, found.difference, case.difference, 1e-6);
        judge.same(&what, found.degrees.unwrap_or_default(), case.degrees);
        judge.same(&what, found.statistic.unwrap_or_default(), case.statistic);
        judge.same(&what, found.p_value, case.p_value);
    }
    judge.finish(140);
}
