//! Whether the groups are as large as they should be. Where they are not, something else than the draw decides who is in
//! them, and nothing that is compared between them means what it seems to.

use crate::distribution;

/// The p-value of Pearson's chi-squared test of the groups' sizes against their weights; none with fewer than two groups
/// of a weight above 0, or with nobody in them.
///
/// ```
/// use experiment_rules::ratio::p_value;
/// assert!(p_value(&[500, 510], &[1, 1]).unwrap() > 0.5);
/// assert!(p_value(&[500, 700], &[1, 1]).unwrap() < 1e-6);
/// assert_eq!(p_value(&[0, 0], &[1, 1]), None);
/// ```
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub fn p_value(sizes: &[i64], weights: &[i64]) -> Option<f64> {
    let groups: Vec<(f64, f64)> = sizes
        .iter()
        .zip(weights)
        .filter(|(_, weight)| **weight > 0)
        .map(|(size, weight)| (*size as f64, *weight as f64))
        .collect();
    let (all, weight) = groups.iter().fold((0.0, 0.0), |(all, sum), (size, weight)| (all + size, sum + weight));
    if groups.len() < 2 || all <= 0.0 {
        return None;
    }
    let statistic = groups.iter().map(|(size, own)| (size - all * own / weight).powi(2) / (all * own / weight)).sum();
    Some(distribution::chi_squared_above(statistic, u32::try_from(groups.len() - 1).ok()?))
}
