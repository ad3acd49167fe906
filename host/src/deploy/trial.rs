//! A build on trial beside the one that serves: a canary answers some callers, a shadow answers nobody.
//!
//! Who reaches a canary is decided by a hash of the caller, so that one caller always gets the same build: a signed-in user
//! by the user's id, anybody else by the address. Growing the share keeps everybody in who was in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::Build;
use super::rollout::WHOLE;
use super::shadow::Comparison;
use super::watch::Observation;

/// What the build is tried as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TrialMode {
    /// It answers its share of the callers.
    Canary,
    /// It gets copies of safe requests, and its answers are compared.
    Shadow,
}

/// A build on trial.
pub(crate) struct Trial<R> {
    pub build: Arc<R>,
    pub mode: TrialMode,
    /// What the answers of a shadow came to.
    pub comparison: Arc<Comparison>,
    pub(super) began_at: DateTime<Utc>,
    /// What both builds had done when it began.
    pub(super) before: Before,
    share: AtomicU32,
    salt: String,
    /// When the present share began.
    stepped: parking_lot::Mutex<Instant>,
}

/// Where two builds stood at the beginning of a comparison.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    pub new: Observation,
    pub old: Observation,
}

impl<R: Build> Trial<R> {
    /// A trial that begins now, beside `current`.
    pub(super) fn begin(plugin: &str, build: Arc<R>, current: &R, mode: TrialMode, share: u32) -> Self {
        Self {
            salt: format!("{plugin}:{}:", build.digest()),
            before: Before { new: Observation::of(&*build), old: Observation::of(current) },
            build,
            mode,
            comparison: Arc::default(),
            began_at: Utc::now(),
            share: AtomicU32::new(share.min(WHOLE)),
            stepped: parking_lot::Mutex::new(Instant::now()),
        }
    }
}

impl<R> Trial<R> {
    /// The share of the callers, in hundredths of a percent; 0 for a shadow.
    pub(crate) fn share(&self) -> u32 {
        if self.mode == TrialMode::Canary { self.share.load(Ordering::Relaxed) } else { 0 }
    }

    /// Whether this caller's requests go to the build on trial.
    pub(super) fn includes(&self, caller: &str) -> bool {
        let share = self.share();
        if share == 0 {
            return false;
        }
        let digest = Sha256::new().chain_update(&self.salt).chain_update(caller).finalize();
        let bytes = digest.first_chunk().copied().unwrap_or_default();
        u64::from_be_bytes(bytes) % u64::from(WHOLE) < u64::from(share)
    }

    pub(super) fn set_share(&self, share: u32) {
        self.share.store(share.min(WHOLE), Ordering::Relaxed);
        *self.stepped.lock() = Instant::now();
    }

    /// Since when the present share holds.
    pub(super) fn stepped(&self) -> Instant {
        *self.stepped.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::fake::build;

    #[test]
    fn a_caller_keeps_its_build_and_a_larger_share_keeps_everybody_in() {
        let (old, new) = (build("old"), build("new"));
        let trial = Trial::begin("planning", new, &*old, TrialMode::Canary, 1_000);
        let callers: Vec<String> = (0..2_000).map(|number| format!("user:{number}")).collect();
        let within: Vec<&String> = callers.iter().filter(|caller| trial.includes(caller)).collect();
        assert!((120..=280).contains(&within.len()), "10% of 2000 callers are {}", within.len());
        assert!(within.iter().all(|caller| trial.includes(caller)));
        trial.set_share(2_500);
        assert!(within.iter().all(|caller| trial.includes(caller)));
        trial.set_share(WHOLE);
        assert!(callers.iter().all(|caller| trial.includes(caller)));
    }

    #[test]
    fn a_shadow_answers_nobody() {
        let trial = Trial::begin("planning", build("new"), &*build("old"), TrialMode::Shadow, WHOLE);
        assert!((0..100).all(|number| !trial.includes(&format!("user:{number}"))));
    }
}
