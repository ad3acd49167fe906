//! Leases: who holds a step, and until when. Pure rules; the token itself is never stored.

use std::time::Duration;

use berth_sdk::{Id, canonical, clock::Timestamp};

use crate::step::StepStatus;

/// How long a lease lasts unless it is renewed.
pub const LEASE: Duration = Duration::from_secs(60);
/// A worker that was not heard of for that long does not count.
pub const PRESENCE: Duration = Duration::from_secs(60);

/// A new token, too long to guess.
pub fn token() -> String {
    format!("{}{}", Id::new(), Id::new()).replace('-', "")
}

/// What is stored of a token.
pub fn hash(token: &str) -> String {
    canonical::sha256_bytes(token.as_bytes())
}

/// Whether a token answers for a step now.
///
/// ```
/// use berth_sdk::clock::Timestamp;
/// use execution_service::{lease, step::StepStatus};
/// let (now, token) = (Timestamp::from_millis(1_000), lease::token());
/// let held = lease::hash(&token);
/// assert!(lease::is_valid(StepStatus::Running, Some(&held), Some(now.plus(lease::LEASE)), &token, now));
/// assert!(!lease::is_valid(StepStatus::Running, Some(&held), Some(now), &token, now));
/// assert!(!lease::is_valid(StepStatus::Failed, Some(&held), Some(now.plus(lease::LEASE)), &token, now));
/// assert!(!lease::is_valid(StepStatus::Running, Some(&held), Some(now.plus(lease::LEASE)), "x", now));
/// ```
pub fn is_valid(
    status: StepStatus,
    token_hash: Option<&str>,
    until: Option<Timestamp>,
    token: &str,
    now: Timestamp,
) -> bool {
    status == StepStatus::Running && token_hash == Some(hash(token).as_str()) && until.is_some_and(|until| until > now)
}

/// Whether a step's lease has run out.
pub fn is_lost(status: StepStatus, until: Option<Timestamp>, now: Timestamp) -> bool {
    status == StepStatus::Running && until.is_some_and(|until| until <= now)
}
