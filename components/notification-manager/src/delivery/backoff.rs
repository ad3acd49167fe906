//! How often and after which pauses a delivery is tried: pure.

use std::time::Duration;

use crate::kinds::Criticality;

/// The pause after the first failure; doubled each time.
const FIRST: Duration = Duration::from_secs(1);

/// How often a delivery of this criticality is tried.
pub const fn attempts_max(criticality: Criticality) -> i64 {
    match criticality {
        Criticality::Low => 2,
        Criticality::Medium => 3,
        Criticality::High => 5,
        Criticality::Critical => 10,
    }
}

/// The longest pause between two attempts.
const fn longest(criticality: Criticality) -> Duration {
    match criticality {
        Criticality::Low => Duration::from_secs(24 * 3_600),
        Criticality::Medium => Duration::from_secs(3_600),
        Criticality::High => Duration::from_secs(30 * 60),
        Criticality::Critical => Duration::from_secs(5 * 60),
    }
}

/// The pause after so many attempts, up to a tenth longer or shorter so that not everything comes back at once. `seed` makes
/// the chance the same for the same delivery and attempt.
pub fn pause(criticality: Criticality, attempts: i64, seed: &str) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1).clamp(0, 30)).unwrap_or(0);
    let whole = FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(longest(criticality));
    spread(whole, attempts, seed)
}

/// A duration, up to a tenth longer or shorter.
pub fn spread(whole: Duration, attempts: i64, seed: &str) -> Duration {
    let step = seed.bytes().fold(u64::try_from(attempts).unwrap_or(0).wrapping_mul(31), |sum, byte| {
        sum.wrapping_mul(1_099_511_628_211).wrapping_add(u64::from(byte))
    });
    // From 900 to 1100 thousandths.
    let thousandths = u32::try_from(900 + step % 201).unwrap_or(1_000);
    whole.saturating_mul(thousandths) / 1_000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let seconds = |attempts| pause(Criticality::Critical, attempts, "d1").as_secs_f64();
        assert!((0.9..=1.1).contains(&seconds(1)));
        assert!((3.6..=4.4).contains(&seconds(3)));
        assert!((270.0..=330.0).contains(&seconds(20)));
        assert_eq!(attempts_max(Criticality::Low), 2);
    }

    proptest! {
        #[test]
        fn a_pause_stays_within_a_tenth_of_its_whole(attempts in 1_i64..100, seed in "[a-f0-9]{8}", rank in 0_usize..4) {
            let criticality = Criticality::ALL[rank];
            let whole = Duration::from_secs(1).saturating_mul(2_u32.saturating_pow(attempts.min(31) as u32 - 1)).min(longest(criticality));
            let pause = pause(criticality, attempts, &seed);
            prop_assert!(pause >= whole.mul_f64(0.899) && pause <= whole.mul_f64(1.101));
        }
    }
}
