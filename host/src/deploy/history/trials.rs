//! Builds on trial in the host's tables: what a restart, and every other host, goes by.

use chrono::{DateTime, Utc};

use super::{Action, END_TRIAL, History, LAST_REVISION, Line, insert, message, of_queue};
use crate::database::{DatabaseError, Row, values};
use crate::deploy::DeployError;
use crate::deploy::cluster::CHANNEL;
use crate::deploy::rollout::CanaryPlan;
use crate::deploy::trial::TrialMode;

/// A trial as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::deploy) struct RecordedTrial {
    pub plugin: String,
    pub revision: i64,
    pub sha256: String,
    pub mode: TrialMode,
    /// The present share and those that follow.
    pub plan: CanaryPlan,
    pub began_at: DateTime<Utc>,
}

impl History {
    /// Writes down that a build is on trial.
    pub(in crate::deploy) async fn record_trial(
        &self,
        line: &Line,
        mode: TrialMode,
        plan: &CanaryPlan,
    ) -> Result<(), DeployError> {
        let mut transaction = self.database.begin().await.map_err(DeployError::of_host_tables)?;
        let row = transaction.query_one(LAST_REVISION, &values![&line.plugin]).await;
        let last = row.and_then(|row| row.map(|row| row.optional_integer("last")).transpose());
        if last.map_err(DeployError::of_host_tables)?.flatten() >= line.revision {
            return Err(DeployError::Conflict(format!("another host has deployed {} meanwhile", line.plugin)));
        }
        insert(&mut transaction, line).await.map_err(DeployError::of_host_tables)?;
        let sql = "INSERT INTO berth_trials (plugin, revision, sha256, mode, share, steps, every_ms, actor, began_at, stepped_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let now = Utc::now();
        let parameters = values![
            &line.plugin,
            line.revision,
            &line.sha256,
            word(mode),
            i64::from(plan.share),
            plan.steps_text(),
            i64::try_from(plan.every.as_millis()).unwrap_or(i64::MAX),
            &line.actor,
            now,
            now,
        ];
        transaction.execute(sql, &parameters).await.map_err(|error| match error {
            DatabaseError::Conflict(_) => {
                DeployError::Conflict(format!("another build of {} is on trial already", line.plugin))
            }
            other => DeployError::of_host_tables(other),
        })?;
        self.queue.publish_in(&mut transaction, message("host.plugin.trial_started", line)).await.map_err(of_queue)?;
        self.database.announce(&mut transaction, CHANNEL).await.map_err(DeployError::of_host_tables)?;
        transaction.commit().await.map_err(DeployError::of_host_tables)?;
        self.queue.wake();
        Ok(())
    }

    /// Writes down the next share of a canary.
    pub(in crate::deploy) async fn record_share(&self, plugin: &str, plan: &CanaryPlan) {
        let sql = "UPDATE berth_trials SET share = $1, steps = $2, stepped_at = $3 WHERE plugin = $4";
        self.amend(sql, &values![i64::from(plan.share), plan.steps_text(), Utc::now(), plugin]).await;
    }

    /// Ends a trial without a switch: the row goes, the line stays, and the event tells why.
    pub(in crate::deploy) async fn record_abort(&self, line: &Line) -> Result<(), DeployError> {
        debug_assert_eq!(line.action, Action::Abort);
        let mut transaction = self.database.begin().await.map_err(DeployError::of_host_tables)?;
        let ended = transaction.execute(END_TRIAL, &values![&line.plugin, line.revision]).await;
        ended.map_err(DeployError::of_host_tables)?;
        insert(&mut transaction, line).await.map_err(DeployError::of_host_tables)?;
        self.queue.publish_in(&mut transaction, message("host.plugin.rolled_back", line)).await.map_err(of_queue)?;
        self.database.announce(&mut transaction, CHANNEL).await.map_err(DeployError::of_host_tables)?;
        transaction.commit().await.map_err(DeployError::of_host_tables)?;
        self.queue.wake();
        Ok(())
    }

    /// Size, source and signature of a build as its trial began.
    pub(in crate::deploy) async fn begun(
        &self,
        plugin: &str,
        revision: i64,
    ) -> Result<(u64, Option<String>, Option<String>), DatabaseError> {
        let sql = "SELECT size_bytes, source, signature FROM berth_versions \
                   WHERE plugin = $1 AND revision = $2 AND outcome = 'started' ORDER BY id DESC LIMIT 1";
        let Some(row) = self.database.query_one(sql, &values![plugin, revision]).await? else {
            return Ok((0, None, None));
        };
        let size = u64::try_from(row.integer("size_bytes")?).unwrap_or(0);
        Ok((size, row.optional_text("source")?, row.optional_text("signature")?))
    }

    /// The trials of all plugins.
    pub(in crate::deploy) async fn trials(&self) -> Result<Vec<RecordedTrial>, DatabaseError> {
        self.database.query("SELECT * FROM berth_trials", &[]).await?.iter().map(recorded).collect()
    }

    /// The trial of one plugin.
    pub(in crate::deploy) async fn trial(&self, plugin: &str) -> Result<Option<RecordedTrial>, DatabaseError> {
        let sql = "SELECT * FROM berth_trials WHERE plugin = $1";
        self.database.query_one(sql, &values![plugin]).await?.as_ref().map(recorded).transpose()
    }
}

fn word(mode: TrialMode) -> &'static str {
    match mode {
        TrialMode::Canary => "canary",
        TrialMode::Shadow => "shadow",
    }
}

fn recorded(row: &Row) -> Result<RecordedTrial, DatabaseError> {
    Ok(RecordedTrial {
        plugin: row.text("plugin")?,
        revision: row.integer("revision")?,
        sha256: row.text("sha256")?,
        mode: if row.text("mode")? == "shadow" { TrialMode::Shadow } else { TrialMode::Canary },
        plan: CanaryPlan::restore(row.integer("share")?, &row.text("steps")?, row.integer("every_ms")?),
        began_at: row.timestamp("began_at")?,
    })
}
