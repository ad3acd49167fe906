//! Draws that look like chance and are always the same for the same subject. Draws of other salts know nothing of each other:
//! who is let in by one says nothing about what the next one gives.

use sha2::{Digest, Sha256};

/// A number from a salt, an experiment and a subject.
///
/// ```
/// use experiment_rules::draw::number;
/// assert_eq!(number("variant", "x1", "u1"), number("variant", "x1", "u1"));
/// assert_ne!(number("variant", "x1", "u1"), number("traffic", "x1", "u1"));
/// ```
pub fn number(salt: &str, experiment_id: &str, subject_id: &str) -> u64 {
    let hash = Sha256::digest(format!("{salt}\n{experiment_id}\n{subject_id}").as_bytes());
    hash.iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// Whether a subject is among the so many of a hundred that take part. A larger share keeps everybody who is in already.
///
/// ```
/// use experiment_rules::draw::is_inside;
/// assert!(is_inside("x1", "u1", 100) && !is_inside("x1", "u1", 0));
/// ```
pub fn is_inside(experiment_id: &str, subject_id: &str, percentage: i64) -> bool {
    number("traffic", experiment_id, subject_id) % 100 < u64::try_from(percentage.clamp(0, 100)).unwrap_or(0)
}

/// The index of the variant that a subject gets, by the variants' weights; none when these sum to nothing. A weight below 0
/// counts as 0.
///
/// ```
/// use experiment_rules::draw::variant;
/// assert_eq!(variant("x1", "u1", &[0, 5, 0]), Some(1));
/// assert_eq!(variant("x1", "u1", &[0, 0]), None);
/// ```
pub fn variant(experiment_id: &str, subject_id: &str, weights: &[i64]) -> Option<usize> {
    let weight = |weight: &i64| u64::try_from(*weight).unwrap_or(0);
    let total = weights.iter().map(weight).fold(0_u64, u64::saturating_add);
    let mut left = number("variant", experiment_id, subject_id).checked_rem(total)?;
    for (index, own) in weights.iter().map(weight).enumerate() {
        if left < own {
            return Some(index);
        }
        left -= own;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_follow_the_weights() {
        let mut seen = [0_u32; 3];
        for subject in (0..20_000).map(|n| format!("u{n}")) {
            seen[variant("x1", &subject, &[1, 0, 3]).unwrap()] += 1;
        }
        assert!((4_700..5_300).contains(&seen[0]) && seen[1] == 0, "{seen:?}");
    }

    #[test]
    fn who_is_let_in_says_nothing_about_the_variant() {
        // With one draw for both, half of the traffic would see the first of two equal variants alone.
        let mut inside = [0_u32; 2];
        for subject in (0..20_000).map(|n| format!("u{n}")).filter(|subject| is_inside("x1", subject, 50)) {
            inside[variant("x1", &subject, &[1, 1]).unwrap()] += 1;
        }
        let share = f64::from(inside[0]) / f64::from(inside[0] + inside[1]);
        assert!((9_600..10_400).contains(&(inside[0] + inside[1])) && (0.47..0.53).contains(&share), "{inside:?}");
    }

    proptest! {
        /// More traffic never puts anybody out, and only weights above 0 are drawn.
        #[test]
        fn draws_are_kept(subject in "[a-z0-9]{1,20}", share in 0_i64..=100, weights in proptest::collection::vec(-2_i64..50, 1..6)) {
            if is_inside("x1", &subject, share) {
                prop_assert!(is_inside("x1", &subject, share + 1));
            }
            match variant("x1", &subject, &weights) {
                Some(index) => prop_assert!(weights[index] > 0),
                None => prop_assert!(weights.iter().all(|weight| *weight <= 0)),
            }
        }
    }
}
