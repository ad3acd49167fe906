//! The relay's loop: empties the outbox at once after a commit of this host, and looks now and then for other hosts'.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::chain;
use crate::capability::queue::QueueRoom;

/// How often it looks unasked: what another host committed waits at most this long.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// The longest wait after failures.
const FAILURE_WAIT_MAX: Duration = Duration::from_secs(10);

pub(super) async fn run(room: QueueRoom, stopping: CancellationToken) {
    let mut failures: u32 = 0;
    loop {
        let wait = match room.backend().relay().await {
            Ok(relayed) => {
                if failures > 0 {
                    tracing::info!("the relay works again");
                    failures = 0;
                }
                if relayed.has_more && !stopping.is_cancelled() {
                    continue;
                }
                until(&room, relayed.next_due, POLL_EVERY)
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(error = %chain(&error), "the relay failed and is tried again");
                }
                failures = failures.saturating_add(1);
                POLL_EVERY.saturating_mul(failures).min(FAILURE_WAIT_MAX)
            }
        };
        tokio::select! {
            () = stopping.cancelled() => return,
            () = room.relay_changes().notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// How long until `due`, at most `longest`.
pub(super) fn until(room: &QueueRoom, due: Option<DateTime<Utc>>, longest: Duration) -> Duration {
    match due {
        // A millisecond more: times are kept in whole ones, and being early costs another round.
        Some(due) => {
            (due - room.now()).to_std().unwrap_or_default().saturating_add(Duration::from_millis(1)).min(longest)
        }
        None => longest,
    }
}
