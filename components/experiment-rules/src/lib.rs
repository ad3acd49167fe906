//! Experiments, as far as they are rules: who takes part and sees what ([`draw`]), and what figures say about it, compared in
//! `tests/corpus.rs` with what SciPy says of the same. Pure: nothing here reads a clock or a database.

pub mod distribution;
pub mod draw;
pub mod holm;
pub mod mean;
pub mod rate;
pub mod ratio;

use berth_sdk::{data, schemars};

/// The quantile of a normal distribution that leaves 2.5 % above it: for intervals of 95 %.
pub const Z95: f64 = 1.959_963_984_540_054;

/// For the API's document: what is shown of an experiment beside its own members.
#[derive(schemars::JsonSchema)]
#[schemars(crate = "berth_sdk::schemars")]
pub struct Variants<V> {
    /// Its variants, in their order.
    pub variants: Vec<V>,
}

/// A figure with its 95 % interval.
#[data]
#[derive(Copy)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// What a test says of the difference of two groups.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// How much more the other group has than the control, with its 95 % interval.
    pub difference: Estimate,
    /// The test's statistic: z or t; none where nothing varies in either group.
    pub statistic: Option<f64>,
    /// Degrees of freedom, where the test has them.
    pub degrees: Option<f64>,
    /// How likely a difference at least as large is when there is none: two-sided, from 0 to 1.
    pub p_value: f64,
}
