//! The progress of an execution, cached for clients that ask again and again. A cached one counts only for the exact
//! state it was made of, so it is never older than the row beside it.

use std::time::Duration;

use berth_sdk::{cache, data, prelude::*};

use crate::execution::Execution;

const CACHED: Duration = Duration::from_secs(5);

/// How far the steps of an execution are.
#[data]
pub struct Progress {
    /// The state it was made of.
    pub lock_version: i64,
    /// All steps.
    pub total: i64,
    /// Completed or skipped.
    pub done: i64,
    /// Under way: on the way, held, or waiting.
    pub under_way: i64,
    /// Failed.
    pub failed: i64,
    /// 0 to 100.
    pub percent: i64,
}

/// The progress of an execution.
pub fn of(execution: &Stored<Execution>) -> Result<Progress> {
    let key = key(&execution.id);
    if let Some(cached) = cache::get::<Progress>(&key).filter(|cached| cached.lock_version == execution.lock_version) {
        return Ok(cached);
    }
    let rows = database::query(
        "SELECT status, COUNT(*) AS count FROM execution_steps WHERE execution_id = $1 GROUP BY status",
        params![&execution.id],
    )?;
    let mut progress =
        Progress { lock_version: execution.lock_version, total: 0, done: 0, under_way: 0, failed: 0, percent: 100 };
    for row in rows {
        let (status, count): (crate::step::StepStatus, i64) = (row.get("status")?, row.get("count")?);
        progress.total += count;
        if status.is_done() {
            progress.done += count;
        } else if status.is_under_way() {
            progress.under_way += count;
        } else if status == crate::step::StepStatus::Failed {
            progress.failed += count;
        }
    }
    if progress.total > 0 {
        progress.percent = progress.done * 100 / progress.total;
    }
    cache::set_ttl(&key, &progress, CACHED);
    Ok(progress)
}

/// Forgets it, after a change.
pub fn forget(execution_id: &Id) {
    cache::del(&key(execution_id));
}

fn key(execution_id: &Id) -> String {
    format!("exec:{execution_id}:progress")
}
