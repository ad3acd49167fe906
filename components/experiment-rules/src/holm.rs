//! Several comparisons at once: the more there are, the sooner one of them shows something by chance.

/// The p-values of one question, corrected by Holm's method (S. Holm, 1979), each in its place: the chance of one false find
/// among all of them stays below the level that they are compared with.
///
/// ```
/// use experiment_rules::holm::adjusted;
/// let close = adjusted(&[0.01, 0.04, 0.03]);
/// assert!(close.iter().zip([0.03, 0.06, 0.06]).all(|(found, wanted)| (found - wanted).abs() < 1e-12));
/// assert_eq!(adjusted(&[0.2]), [0.2]);
/// ```
pub fn adjusted(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<(usize, f64)> = p_values.iter().copied().enumerate().collect();
    order.sort_by(|one, other| one.1.total_cmp(&other.1));
    let mut least = 0.0_f64;
    let mut result = vec![0.0; p_values.len()];
    for (rank, (place, p_value)) in order.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "comparisons are few")]
        let left = (p_values.len() - rank) as f64;
        least = least.max((p_value * left).min(1.0));
        if let Some(value) = result.get_mut(*place) {
            *value = least;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::adjusted;

    proptest! {
        /// No p-value becomes smaller, none larger than by Bonferroni's method, and their order stays.
        #[test]
        fn a_correction_is_between_none_and_the_strictest(p_values in proptest::collection::vec(0.0_f64..=1.0, 0..8)) {
            let found = adjusted(&p_values);
            for (p, q) in p_values.iter().zip(&found) {
                prop_assert!(p <= q && *q <= (p * p_values.len() as f64).min(1.0) + 1e-15);
            }
            for i in 0..found.len() {
                for j in 0..found.len() {
                    prop_assert!(p_values[i] > p_values[j] || found[i] <= found[j]);
                }
            }
        }
    }
}
