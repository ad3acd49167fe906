//! How an old build goes: it finishes what it began, is cancelled at its deadline, and is dropped.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Build;
use super::history::Drained;

/// How long what was cancelled may take to end; after that it is dropped as it is.
pub(super) const CANCEL_TIME_MAX: Duration = Duration::from_secs(5);

/// Resolves when the old build has gone.
pub(super) type Draining = oneshot::Receiver<Drained>;

/// Lets a build finish for at most `limit`, then cancels what is left.
pub(super) async fn wait<R: Build>(revision: &R, limit: Duration) -> Drained {
    let began = Instant::now();
    revision.retire();
    let is_cut_short = tokio::time::timeout(limit, revision.drained()).await.is_err();
    if is_cut_short {
        revision.cancel();
        if tokio::time::timeout(CANCEL_TIME_MAX, revision.drained()).await.is_err() {
            tracing::error!(revision = revision.number(), "an old build did not end when it was cancelled");
        }
    }
    Drained { milliseconds: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX), is_cut_short }
}
