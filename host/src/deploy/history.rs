//! The record of builds in the database: the current pointer, the log of what was done, and the events that tell others.
//!
//! Row, pointer and event are written in one transaction: either all of them happened or none.

mod changes;
mod trials;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

pub(super) use changes::{Change, ChangeAction, Changes};
use chrono::Utc;
use serde_json::json;
pub(super) use trials::RecordedTrial;

use super::cluster::CHANNEL;
use super::watch::RecordedWatch;
use super::{DeployError, HistoryEntry};
use crate::capability::queue::{OutgoingMessage, QueueError, QueueRoom};
use crate::database::{Database, DatabaseError, Row, Transaction, values};

/// Lines kept for each plugin; the oldest go first.
const LINES_MAX: i64 = 1_000;
/// Lines told at once.
const LINES_TOLD_MAX: i64 = 200;
/// Builds of each plugin whose component is kept for a rollback.
const BUILDS_KEPT: i64 = 20;
/// Characters of a reason that are kept.
const REASON_CHARS_MAX: usize = 4_000;
/// How often a line is written before the database counts as unavailable, and the pause in between.
const ATTEMPTS_MAX: u32 = 4;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(150);

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Deploy,
    Rollback,
    /// A build began to answer a share of the callers.
    Canary,
    /// A build began to get copies of requests.
    Shadow,
    /// A build on trial took over.
    Promote,
    /// A build on trial was taken away.
    Abort,
    /// A recorded build was loaded at start; only its failure is written down.
    Start,
    /// A build that another host deployed was loaded; only its failure is written down.
    Follow,
}

impl Action {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
            Self::Canary => "canary",
            Self::Shadow => "shadow",
            Self::Promote => "promote",
            Self::Abort => "abort",
            Self::Start => "start",
            Self::Follow => "follow",
        }
    }
}

/// Where a build came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Over the admin API.
    Api,
    /// From the manifest's component file.
    File,
}

impl Origin {
    fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::File => "file",
        }
    }
}

/// Which build a plugin serves, as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    pub revision: i64,
    pub sha256: String,
    /// The manifest's file as it was last deployed.
    pub file_sha256: Option<String>,
    /// The watch over this build, which may be over.
    pub watch: Option<RecordedWatch>,
}

/// A build that was deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeployedBuild {
    pub revision: i64,
    pub sha256: String,
    pub size_bytes: u64,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The build serves.
    Switched,
    /// The build is on trial.
    Started,
    /// The build on trial is gone.
    Ended,
    /// Nothing has changed.
    Failed,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Switched => "switched",
            Self::Started => "started",
            Self::Ended => "ended",
            Self::Failed => "failed",
        }
    }
}

/// One line of the log before it is written.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub id: String,
    pub plugin: String,
    pub action: Action,
    pub origin: Origin,
    pub revision: Option<i64>,
    pub previous_revision: Option<i64>,
    pub sha256: String,
    pub size_bytes: u64,
    pub version: Option<String>,
    pub actor: String,
    pub prepare_ms: u64,
    pub outcome: Outcome,
    /// Why it failed, why the host did it, or what of it somebody has accepted.
    pub reason: Option<String>,
    /// Where the build came from, as its deployer put it: a file's name, an address with its digest.
    pub source: Option<String>,
    /// The signature that was accepted.
    pub signature: Option<String>,
}

impl Line {
    /// A line of this moment; its ids keep the order of time.
    pub(super) fn new(plugin: &str, action: Action, sha256: &str, actor: String) -> Self {
        Self {
            id: uuid::Uuid::now_v7().to_string(),
            plugin: plugin.to_owned(),
            action,
            origin: Origin::Api,
            revision: None,
            previous_revision: None,
            sha256: sha256.to_owned(),
            size_bytes: 0,
            version: None,
            actor,
            prepare_ms: 0,
            outcome: Outcome::Switched,
            reason: None,
            source: None,
            signature: None,
        }
    }
}

/// How a build made way for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Drained {
    pub milliseconds: u64,
    /// Whether calls were cancelled at the end.
    pub is_cut_short: bool,
}

/// The record.
#[derive(Clone)]
pub(super) struct History {
    database: Database,
    queue: QueueRoom,
}

impl History {
    pub(super) fn new(database: Database, queue: QueueRoom) -> Self {
        Self { database, queue }
    }

    /// The recorded build of every plugin.
    pub(super) async fn pointers(&self) -> Result<BTreeMap<String, Pointer>, DatabaseError> {
        let rows =
            self.database.query("SELECT name, revision, sha256, file_sha256, watch FROM berth_plugins", &[]).await?;
        rows.iter().map(|row| Ok((row.text("name")?, pointer(row)?))).collect()
    }

    /// The recorded build of one plugin.
    pub(super) async fn pointer(&self, plugin: &str) -> Result<Option<Pointer>, DatabaseError> {
        let sql = "SELECT revision, sha256, file_sha256, watch FROM berth_plugins WHERE name = $1";
        self.database.query_one(sql, &values![plugin]).await?.as_ref().map(pointer).transpose()
    }

    /// The number of the next build.
    pub(super) async fn next_revision(&self, plugin: &str) -> Result<i64, DatabaseError> {
        let row = self.database.query_one(LAST_REVISION, &values![plugin]).await?;
        Ok(row.map(|row| row.optional_integer("last")).transpose()?.flatten().unwrap_or(0) + 1)
    }

    /// The build of a number.
    pub(super) async fn build(&self, plugin: &str, revision: i64) -> Result<Option<DeployedBuild>, DatabaseError> {
        let sql = "SELECT revision, sha256, size_bytes FROM berth_versions \
                   WHERE plugin = $1 AND revision = $2 AND action IN ('deploy', 'promote') AND outcome = 'switched'";
        self.database.query_one(sql, &values![plugin, revision]).await?.as_ref().map(deployed_build).transpose()
    }

    /// The newest build before `pointer` with other contents: what a rollback goes back to.
    pub(super) async fn previous(
        &self,
        plugin: &str,
        pointer: &Pointer,
    ) -> Result<Option<DeployedBuild>, DatabaseError> {
        let sql = "SELECT revision, sha256, size_bytes FROM berth_versions \
                   WHERE plugin = $1 AND revision < $2 AND sha256 <> $3 \
                   AND action IN ('deploy', 'promote') AND outcome = 'switched' \
                   ORDER BY revision DESC LIMIT 1";
        let parameters = values![plugin, pointer.revision, &pointer.sha256];
        self.database.query_one(sql, &parameters).await?.as_ref().map(deployed_build).transpose()
    }

    /// Moves the pointer, writes the line and publishes the event, all or nothing. From here on a restart loads the build.
    /// With the build comes the entry of a plugin that is `added`, after the change of that number, and for how long every
    /// host is to `watch` it.
    ///
    /// # Errors
    /// `Conflict` when another host has deployed meanwhile, has gone back already, or has ended the trial that is promoted.
    pub(super) async fn record_switch(
        &self,
        line: &Line,
        added: Option<(i64, &Change)>,
        watch: Option<&RecordedWatch>,
    ) -> Result<(), DeployError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let error = match self.try_record_switch(line, added, watch).await {
                Ok(()) => break,
                Err(error) => error,
            };
            // A commit whose answer was lost has happened all the same.
            if self.is_recorded(&line.id).await {
                break;
            }
            if attempt == ATTEMPTS_MAX || !matches!(error, DeployError::Unavailable(..)) {
                return Err(error);
            }
            tokio::time::sleep(ATTEMPT_PAUSE * attempt).await;
        }
        self.queue.wake();
        Ok(())
    }

    async fn try_record_switch(
        &self,
        line: &Line,
        added: Option<(i64, &Change)>,
        watch: Option<&RecordedWatch>,
    ) -> Result<(), DeployError> {
        let mut transaction = self.database.begin().await.map_err(DeployError::of_host_tables)?;
        if let Some((after, change)) = added {
            changes::insert(&mut transaction, after, std::slice::from_ref(change)).await?;
        }
        if line.action == Action::Deploy {
            // Numbers are given once: another host that was quicker has taken this one.
            let row = transaction.query_one(LAST_REVISION, &values![&line.plugin]).await;
            let last = row.and_then(|row| row.map(|row| row.optional_integer("last")).transpose());
            if last.map_err(DeployError::of_host_tables)?.flatten() >= line.revision {
                return Err(deployed_elsewhere(line));
            }
        }
        insert(&mut transaction, line).await.map_err(|error| match error {
            // Two hosts took the same number at the same moment.
            DatabaseError::Conflict(_) => deployed_elsewhere(line),
            error => DeployError::of_host_tables(error),
        })?;
        // A promotion ends its own trial. Where another host has ended it, something else serves or is tried by now.
        let promoted = line.revision.filter(|_| line.action == Action::Promote);
        let ended = transaction.execute(END_TRIAL, &values![&line.plugin, promoted]).await;
        if ended.map_err(DeployError::of_host_tables)? == 0 && promoted.is_some() {
            return Err(DeployError::Conflict(format!(
                "another host has ended the trial of {} meanwhile",
                line.plugin
            )));
        }
        let file_sha256 = (line.origin == Origin::File).then_some(line.sha256.as_str());
        let watch = watch.map(serde_json::to_value).transpose().map_err(|error| DeployError::Internal(error.into()))?;
        // Whoever goes back goes back from one build: of two hosts that find it bad at once, one does.
        let from = line.previous_revision.filter(|_| line.action == Action::Rollback);
        let sql = "INSERT INTO berth_plugins (name, revision, sha256, file_sha256, updated_at, watch) \
                   VALUES ($1, $2, $3, $4, $5, $6) \
                   ON CONFLICT (name) DO UPDATE SET revision = excluded.revision, sha256 = excluded.sha256, \
                   file_sha256 = COALESCE(excluded.file_sha256, berth_plugins.file_sha256), \
                   updated_at = excluded.updated_at, watch = excluded.watch \
                   WHERE berth_plugins.revision = COALESCE($7, berth_plugins.revision)";
        let parameters = values![&line.plugin, line.revision, &line.sha256, file_sha256, Utc::now(), watch, from];
        if transaction.execute(sql, &parameters).await.map_err(DeployError::of_host_tables)? == 0 {
            return Err(deployed_elsewhere(line));
        }
        let event = if line.action == Action::Rollback { "host.plugin.rolled_back" } else { "host.plugin.deployed" };
        self.queue.publish_in(&mut transaction, message(event, line)).await.map_err(of_queue)?;
        self.database.announce(&mut transaction, CHANNEL).await.map_err(DeployError::of_host_tables)?;
        transaction.commit().await.map_err(DeployError::of_host_tables)
    }

    /// Writes down a failure and publishes the event. The deploy has failed already, so a fault here is only logged.
    pub(super) async fn record_failure(&self, line: &Line) {
        if let Err(error) = self.record_line(line, "host.plugin.failed").await {
            tracing::error!(
                plugin = line.plugin,
                error = &error as &dyn std::error::Error,
                "a failed deploy could not be recorded"
            );
        }
        self.queue.wake();
    }

    /// Writes a line and publishes what it tells of.
    async fn record_line(&self, line: &Line, event: &str) -> Result<(), DeployError> {
        let mut transaction = self.database.begin().await.map_err(DeployError::of_host_tables)?;
        insert(&mut transaction, line).await.map_err(DeployError::of_host_tables)?;
        self.queue.publish_in(&mut transaction, message(event, line)).await.map_err(of_queue)?;
        transaction.commit().await.map_err(DeployError::of_host_tables)
    }

    /// Adds how long the switch took to its line.
    pub(super) async fn record_flip(&self, id: &str, flip_us: u64) {
        let sql = "UPDATE berth_versions SET flip_us = $1 WHERE id = $2";
        self.amend(sql, &values![clamp(flip_us), id]).await;
    }

    /// Adds how the old build went to the line of the new one.
    pub(super) async fn record_drain(&self, id: &str, drained: Drained) {
        let sql = "UPDATE berth_versions SET drained_ms = $1, is_cut_short = $2 WHERE id = $3";
        self.amend(sql, &values![clamp(drained.milliseconds), drained.is_cut_short, id]).await;
    }

    /// Remembers that the manifest's file is the build that serves already.
    pub(super) async fn record_file(&self, plugin: &str, sha256: &str) {
        let sql = "UPDATE berth_plugins SET file_sha256 = $1 WHERE name = $2";
        self.amend(sql, &values![sha256, plugin]).await;
    }

    async fn amend(&self, sql: &str, parameters: &[crate::database::Value]) {
        if let Err(error) = self.database.execute(sql, parameters).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a line of a plugin's history could not be completed"
            );
        }
    }

    /// The newest lines of a plugin, newest first.
    pub(super) async fn list(&self, plugin: &str, limit: i64) -> Result<Vec<HistoryEntry>, DatabaseError> {
        let current = self.pointer(plugin).await?.map(|pointer| pointer.revision);
        let sql = "SELECT * FROM berth_versions WHERE plugin = $1 ORDER BY id DESC LIMIT $2";
        let rows = self.database.query(sql, &values![plugin, limit.clamp(1, LINES_TOLD_MAX)]).await?;
        rows.iter().map(|row| entry(row, current)).collect()
    }

    /// Forgets the oldest lines of a plugin, however many failures there are, but none of a build that is kept.
    pub(super) async fn prune(&self, plugin: &str) {
        let sql = "DELETE FROM berth_versions WHERE plugin = $1 AND id <= \
                   (SELECT id FROM berth_versions WHERE plugin = $2 ORDER BY id DESC LIMIT 1 OFFSET $3) \
                   AND id NOT IN (SELECT id FROM berth_versions WHERE plugin = $4 AND action IN ('deploy', 'promote') \
                   AND outcome = 'switched' ORDER BY revision DESC LIMIT $5)";
        self.amend(sql, &values![plugin, plugin, LINES_MAX, plugin, BUILDS_KEPT]).await;
    }

    /// The components somebody may still ask for: the newest builds of every plugin, and what serves now.
    pub(super) async fn wanted(&self) -> Result<HashSet<String>, DatabaseError> {
        let pointers = self.pointers().await?;
        let mut wanted: HashSet<String> = pointers.values().map(|pointer| pointer.sha256.clone()).collect();
        let sql = "SELECT sha256 FROM berth_versions WHERE plugin = $1 AND action IN ('deploy', 'promote') \
                   AND outcome = 'switched' ORDER BY revision DESC LIMIT $2";
        for plugin in pointers.keys() {
            let rows = self.database.query(sql, &values![plugin, BUILDS_KEPT]).await?;
            for row in &rows {
                wanted.insert(row.text("sha256")?);
            }
        }
        for row in &self.database.query("SELECT sha256 FROM berth_trials", &[]).await? {
            wanted.insert(row.text("sha256")?);
        }
        Ok(wanted)
    }

    async fn is_recorded(&self, id: &str) -> bool {
        let found = self.database.query_one("SELECT id FROM berth_versions WHERE id = $1", &values![id]).await;
        matches!(found, Ok(Some(_)))
    }
}

/// The trial of a plugin: that of one build, or whichever there is.
const END_TRIAL: &str = "DELETE FROM berth_trials WHERE plugin = $1 AND revision = COALESCE($2, revision)";
const LAST_REVISION: &str = "SELECT MAX(revision) AS last FROM berth_versions WHERE plugin = $1";

async fn insert(transaction: &mut Transaction, line: &Line) -> Result<(), DatabaseError> {
    let sql = "INSERT INTO berth_versions (id, plugin, action, origin, revision, previous_revision, sha256, size_bytes, \
               component_version, actor, outcome, reason, prepare_ms, source, signature, created_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
    let parameters = values![
        &line.id,
        &line.plugin,
        line.action.as_str(),
        line.origin.as_str(),
        line.revision,
        line.previous_revision,
        &line.sha256,
        clamp(line.size_bytes),
        line.version.as_deref(),
        &line.actor,
        line.outcome.as_str(),
        line.reason.as_deref().map(bounded),
        clamp(line.prepare_ms),
        line.source.as_deref(),
        line.signature.as_deref(),
        Utc::now(),
    ];
    transaction.execute(sql, &parameters).await.map(drop)
}

/// A reason as it can be kept.
fn bounded(reason: &str) -> String {
    reason.chars().take(REASON_CHARS_MAX).map(|letter| if letter == '\0' { '?' } else { letter }).collect()
}

fn deployed_elsewhere(line: &Line) -> DeployError {
    DeployError::Conflict(format!("another host has deployed {} meanwhile", line.plugin))
}

fn message(event: &str, line: &Line) -> OutgoingMessage {
    let data = json!({
        "plugin": line.plugin,
        "action": line.action.as_str(),
        "revision": line.revision,
        "previousRevision": line.previous_revision,
        "sha256": line.sha256,
        "version": line.version,
        "actor": line.actor,
        "reason": line.reason.as_deref().map(bounded),
    });
    let mut message = OutgoingMessage::event(event, &data);
    message.key = Some(line.plugin.clone());
    message
}

fn pointer(row: &Row) -> Result<Pointer, DatabaseError> {
    let revision = row.integer("revision")?;
    Ok(Pointer {
        revision,
        sha256: row.text("sha256")?,
        file_sha256: row.optional_text("file_sha256")?,
        // What cannot be read is not watched; the build serves all the same.
        watch: row.optional_json::<RecordedWatch>("watch").ok().flatten().filter(|watch| watch.revision == revision),
    })
}

fn deployed_build(row: &Row) -> Result<DeployedBuild, DatabaseError> {
    Ok(DeployedBuild {
        revision: row.integer("revision")?,
        sha256: row.text("sha256")?,
        size_bytes: u64::try_from(row.integer("size_bytes")?).unwrap_or(0),
    })
}

fn entry(row: &Row, current: Option<i64>) -> Result<HistoryEntry, DatabaseError> {
    let (action, revision) = (row.text("action")?, row.optional_integer("revision")?);
    Ok(HistoryEntry {
        id: row.text("id")?,
        plugin: row.text("plugin")?,
        is_current: matches!(action.as_str(), "deploy" | "promote") && revision.is_some() && revision == current,
        action,
        origin: row.text("origin")?,
        revision,
        previous_revision: row.optional_integer("previous_revision")?,
        sha256: row.text("sha256")?,
        size_bytes: row.integer("size_bytes")?,
        version: row.optional_text("component_version")?,
        actor: row.text("actor")?,
        outcome: row.text("outcome")?,
        reason: row.optional_text("reason")?,
        source: row.optional_text("source")?,
        is_signed: row.optional_text("signature")?.is_some(),
        prepare_ms: row.integer("prepare_ms")?,
        flip_us: row.optional_integer("flip_us")?,
        drained_ms: row.optional_integer("drained_ms")?,
        is_cut_short: row.optional_boolean("is_cut_short")?,
        created_at: row.timestamp("created_at")?,
    })
}

fn of_queue(error: QueueError) -> DeployError {
    match error {
        QueueError::Busy | QueueError::Unavailable | QueueError::Timeout => {
            DeployError::unavailable("the deploy cannot be announced now", error)
        }
        other => DeployError::Internal(other.into()),
    }
}

fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
