//! Password rules and Argon2id, bounded so that a flood of logins cannot eat the host.
//!
//! It must never keep a password longer than a call, and never say which stored hash one matched.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::error::AccountsError;

/// Fewest characters of a password.
const CHARACTERS_MIN: usize = 8;
/// Most characters of a password; Argon2 takes any length, but a body should not be hashed for free.
pub(crate) const CHARACTERS_MAX: usize = 256;
/// How many of the latest passwords must not come back.
pub(crate) const HISTORY_LENGTH: usize = 5;
/// Parts of a name or an address shorter than this are no hint worth refusing.
const TELLING_CHARACTERS_MIN: usize = 3;
/// Password checks that may wait for a turn; one more is answered 503.
const WAITING_MAX: usize = 64;
/// Most checks at once, however many cores there are: each takes 19 MiB.
const RUNNING_MAX: usize = 8;
/// What a client that found no turn is told to wait.
const RETRY_AFTER_SECONDS: u64 = 2;

/// Passwords of eight and more characters that everybody tries first, lower-cased, one a line; shorter ones never pass
/// anyway.
const COMMON: &str = include_str!("common_passwords.txt");

/// How dear a hash is. The product uses [`Cost::STANDARD`]; tests a cheap one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub memory_kib: u32,
    pub passes: u32,
}

impl Cost {
    /// What OWASP recommends for Argon2id with one lane.
    pub(crate) const STANDARD: Self = Self { memory_kib: 19_456, passes: 2 };
}

/// Hashes and compares passwords, a bounded number at once.
pub(crate) struct Passwords {
    argon2: Argon2<'static>,
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Compared with when there is no such user, so that the answer takes as long.
    decoy: String,
}

impl Passwords {
    pub(crate) fn new(cost: Cost) -> Result<Self, AccountsError> {
        let parameters =
            Params::new(cost.memory_kib, cost.passes, 1, None).map_err(|e| AccountsError::internal(e.to_string()))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters);
        let decoy = hash_with(&argon2, &rand::random::<[u8; 16]>())?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            argon2,
            running: Arc::new(Semaphore::new(cores.min(RUNNING_MAX))),
            waiting: AtomicUsize::new(0),
            decoy,
        })
    }

    /// A PHC string for a new password.
    pub(crate) async fn hash(&self, password: &str) -> Result<String, AccountsError> {
        let argon2 = self.argon2.clone();
        let password = Zeroizing::new(password.to_owned());
        self.run(move || hash_with(&argon2, password.as_bytes())).await?
    }

    /// Whether the password is the one behind `stored`. Takes as long, and answers false, when there is none.
    pub(crate) async fn matches(&self, password: &str, stored: Option<&str>) -> Result<bool, AccountsError> {
        let argon2 = self.argon2.clone();
        let password = Zeroizing::new(password.to_owned());
        let is_known = stored.is_some();
        let stored = stored.unwrap_or(&self.decoy).to_owned();
        let is_equal = self
            .run(move || {
                PasswordHash::new(&stored).is_ok_and(|hash| argon2.verify_password(password.as_bytes(), &hash).is_ok())
            })
            .await?;
        Ok(is_equal && is_known)
    }

    /// Runs one hash off the request threads, after waiting for a turn.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, AccountsError> {
        let _place =
            Place::take(&self.waiting).ok_or(AccountsError::Busy { retry_after_seconds: RETRY_AFTER_SECONDS })?;
        let permit = Arc::clone(&self.running).acquire_owned().await.map_err(AccountsError::internal)?;
        let done = tokio::task::spawn_blocking(move || {
            // Held by the work itself: a client that goes away does not free the turn before the core is free.
            let _permit = permit;
            work()
        });
        done.await.map_err(AccountsError::internal)
    }
}

/// A place among those that wait or run; given back on drop, so also when the client goes away.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        if waiting.fetch_add(1, Ordering::AcqRel) >= WAITING_MAX {
            waiting.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What is wrong with a new password of this person, if anything.
pub(crate) fn judge(password: &str, email: &str, name: Option<&str>) -> Result<(), &'static str> {
    let count = password.chars().count();
    if count < CHARACTERS_MIN {
        return Err("must have at least 8 characters");
    }
    if count > CHARACTERS_MAX {
        return Err("must have at most 256 characters");
    }
    let lower = password.to_lowercase();
    if COMMON.lines().any(|common| common == lower) {
        return Err("is one of the most common passwords");
    }
    let is_telling = |part: &str| part.chars().count() >= TELLING_CHARACTERS_MIN && lower.contains(part);
    let local = email.rsplit_once('@').map_or(email, |(local, _)| local).to_lowercase();
    if is_telling(&local) {
        return Err("must not contain the e-mail address");
    }
    let name = name.unwrap_or_default().to_lowercase();
    let joined: String = name.split_whitespace().collect();
    if is_telling(name.trim()) || is_telling(&joined) {
        return Err("must not contain the name");
    }
    Ok(())
}

fn hash_with(argon2: &Argon2<'_>, password: &[u8]) -> Result<String, AccountsError> {
    let hash = argon2.hash_password(password).map_err(|error| AccountsError::internal(error.to_string()))?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) const CHEAP: Cost = Cost { memory_kib: 16, passes: 1 };

    #[tokio::test]
    async fn a_hash_is_argon2id_with_the_recommended_cost() {
        let hash = Passwords::new(Cost::STANDARD).unwrap().hash("correct horse battery").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    }

    #[tokio::test]
    async fn only_the_right_password_matches_and_nobody_matches_the_decoy() {
        let passwords = Passwords::new(CHEAP).unwrap();
        let hash = passwords.hash("correct horse battery").await.unwrap();
        assert!(passwords.matches("correct horse battery", Some(&hash)).await.unwrap());
        assert!(!passwords.matches("correct horse batterx", Some(&hash)).await.unwrap());
        assert!(!passwords.matches("anything", None).await.unwrap());
        assert!(!passwords.matches("anything", Some("not a hash")).await.unwrap());
    }

    #[tokio::test]
    async fn a_flood_is_refused_and_not_queued_for_ever() {
        let passwords = Passwords::new(CHEAP).unwrap();
        let _held: Vec<_> = (0..WAITING_MAX).map(|_| Place::take(&passwords.waiting).unwrap()).collect();
        assert!(matches!(passwords.hash("whatever it is").await, Err(AccountsError::Busy { .. })));
        drop(_held);
        assert!(passwords.hash("whatever it is").await.is_ok());
    }

    #[test]
    fn weak_passwords_are_refused_with_a_reason() {
        for (password, part) in [
            ("short", "at least 8"),
            ("Password123", "common"),
            ("xx-ada.l-yy", "e-mail"),
            ("my Ada Byron 1", "name"),
            ("AdaByron99", "name"),
        ] {
            let reason = judge(password, "ada.l@example.com", Some("Ada Byron")).unwrap_err();
            assert!(reason.contains(part), "{password}: {reason}");
        }
        assert!(judge("correct horse", "ada.l@example.com", Some("Ada Byron")).is_ok());
        assert!(judge("aaaa-bbbb-9", "al@example.com", Some("B")).is_ok());
    }

    #[test]
    fn the_common_ones_are_long_enough_to_matter() {
        assert!(COMMON.lines().count() >= 100);
        assert!(COMMON.lines().all(|word| word.chars().count() >= CHARACTERS_MIN && *word == word.to_lowercase()));
    }
}
