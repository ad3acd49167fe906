//! The wait before something is tried again. Pure.

use std::time::Duration;

/// The wait after this attempt (from 1): `first`, twice that, four times that, … up to `longest`, each between three quarters
/// and five quarters of that by the seed, so that not everything comes back at once.
///
/// ```
/// use std::time::Duration;
/// use berth_sdk::backoff::exponential;
/// let (first, longest) = (Duration::from_secs(1), Duration::from_secs(300));
/// assert_eq!(exponential(first, longest, 3, 250), Duration::from_secs(4));
/// ```
pub fn exponential(first: Duration, longest: Duration, attempt: i64, seed: u64) -> Duration {
    let doublings = u32::try_from(attempt.clamp(1, 32) - 1).unwrap_or(0);
    let whole = first.saturating_mul(2_u32.saturating_pow(doublings)).min(longest);
    let jitter = u32::try_from(seed % 501).unwrap_or(0);
    whole.saturating_mul(750 + jitter) / 1000
}

/// A seed that differs from name to name and is the same for the same one.
///
/// ```
/// use berth_sdk::backoff::seed;
/// assert_eq!(seed("a"), seed("a"));
/// assert_ne!(seed("a"), seed("b"));
/// ```
pub fn seed(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
