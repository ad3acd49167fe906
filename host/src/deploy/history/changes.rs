//! What was changed about plugins' entries while hosts ran: what a restart, and every other host, goes by.

use chrono::Utc;

use super::History;
use crate::database::{DatabaseError, QueryLimits, Row, Scope, Transaction, values};
use crate::deploy::DeployError;
use crate::deploy::cluster::CHANNEL;

/// Changes that are kept although a newer one of the same plugin has taken their place: what was done of late.
const OVERTAKEN_KEPT: i64 = 1_000;
/// As many plugins as a manifest may have, each with the largest entry, are read at once.
const CHANGES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What was done to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::deploy) enum ChangeAction {
    /// The plugin was added.
    Add,
    /// Its entry was changed.
    Set,
    /// It was removed.
    Remove,
    /// The entry of the file counts again.
    Release,
}

impl ChangeAction {
    pub(in crate::deploy) fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Set => "set",
            Self::Remove => "remove",
            Self::Release => "release",
        }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::deploy) struct Change {
    pub id: String,
    pub plugin: String,
    pub action: ChangeAction,
    /// As TOML; none for `Remove` and `Release`.
    pub entry: Option<String>,
    /// The file's entry at that moment; none where it had none.
    pub file_sha256: Option<String>,
    pub actor: String,
}

/// The changes that count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::deploy) struct Changes {
    /// The number of the last change of all; 0 before the first.
    pub generation: i64,
    /// The newest of each plugin, without those whose file's entry counts again; in the order they were made.
    pub newest: Vec<Change>,
}

impl History {
    /// The number of the last change; 0 before the first.
    pub(in crate::deploy) async fn generation(&self) -> Result<i64, DatabaseError> {
        let row = self.database.query_one(LAST_GENERATION, &[]).await?;
        Ok(row.map(|row| row.optional_integer("last")).transpose()?.flatten().unwrap_or(0))
    }

    /// The changes that count.
    pub(in crate::deploy) async fn changes(&self) -> Result<Changes, DatabaseError> {
        let sql = "SELECT * FROM berth_plugin_changes WHERE generation IN \
                   (SELECT MAX(generation) FROM berth_plugin_changes GROUP BY plugin) ORDER BY generation";
        let limits = QueryLimits { bytes_max: CHANGES_BYTES_MAX, ..QueryLimits::default() };
        let rows = self.database.query_within(Scope::default(), sql, &[], limits).await?;
        let mut changes = Changes::default();
        for row in rows.iter() {
            changes.generation = row.integer("generation")?;
            changes.newest.extend(change(row)?);
        }
        Ok(changes)
    }

    /// Writes changes down after the one numbered `after`, all or nothing, and tells every host. Answers the number of the
    /// last of them.
    ///
    /// # Errors
    /// `Conflict` when another host was quicker; else the database's own.
    pub(in crate::deploy) async fn record_changes(&self, after: i64, changes: &[Change]) -> Result<i64, DeployError> {
        if let Err(error) = self.try_record_changes(after, changes).await
            // A commit whose answer was lost has happened all the same.
            && !self.is_changed(changes).await
        {
            return Err(error);
        }
        let last = after.saturating_add(i64::try_from(changes.len()).unwrap_or(i64::MAX));
        let sql = "DELETE FROM berth_plugin_changes WHERE generation < $1 AND generation NOT IN \
                   (SELECT MAX(generation) FROM berth_plugin_changes GROUP BY plugin)";
        self.amend(sql, &values![last - OVERTAKEN_KEPT]).await;
        Ok(last)
    }

    async fn try_record_changes(&self, after: i64, changes: &[Change]) -> Result<(), DeployError> {
        let mut transaction = self.database.begin().await.map_err(DeployError::of_host_tables)?;
        insert(&mut transaction, after, changes).await?;
        self.database.announce(&mut transaction, CHANNEL).await.map_err(DeployError::of_host_tables)?;
        transaction.commit().await.map_err(DeployError::of_host_tables)
    }

    async fn is_changed(&self, changes: &[Change]) -> bool {
        let Some(last) = changes.last() else { return true };
        let sql = "SELECT id FROM berth_plugin_changes WHERE id = $1 AND plugin = $2";
        matches!(self.database.query_one(sql, &values![&last.id, &last.plugin]).await, Ok(Some(_)))
    }
}

const LAST_GENERATION: &str = "SELECT MAX(generation) AS last FROM berth_plugin_changes";

/// Writes changes into the transaction of what they belong to.
pub(super) async fn insert(transaction: &mut Transaction, after: i64, changes: &[Change]) -> Result<(), DeployError> {
    let row = transaction.query_one(LAST_GENERATION, &[]).await;
    let last = row.and_then(|row| row.map(|row| row.optional_integer("last")).transpose());
    if last.map_err(DeployError::of_host_tables)?.flatten().unwrap_or(0) != after {
        return Err(changed_elsewhere());
    }
    let sql = "INSERT INTO berth_plugin_changes (generation, id, plugin, action, entry, file_sha256, actor, changed_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    for (generation, change) in (after + 1..).zip(changes) {
        let parameters = values![
            generation,
            &change.id,
            &change.plugin,
            change.action.as_str(),
            change.entry.as_deref(),
            change.file_sha256.as_deref(),
            &change.actor,
            Utc::now(),
        ];
        transaction.execute(sql, &parameters).await.map_err(|error| match error {
            // Two hosts took the same number at the same moment.
            DatabaseError::Conflict(_) => changed_elsewhere(),
            error => DeployError::of_host_tables(error),
        })?;
    }
    Ok(())
}

fn changed_elsewhere() -> DeployError {
    DeployError::Conflict("another host has changed the plugins meanwhile".to_owned())
}

/// A change that counts; none for one that only says that the file's entry does.
fn change(row: &Row) -> Result<Option<Change>, DatabaseError> {
    let action = match row.text("action")?.as_str() {
        "add" => ChangeAction::Add,
        "set" => ChangeAction::Set,
        "remove" => ChangeAction::Remove,
        _ => return Ok(None),
    };
    Ok(Some(Change {
        id: row.text("id")?,
        plugin: row.text("plugin")?,
        action,
        entry: row.optional_text("entry")?,
        file_sha256: row.optional_text("file_sha256")?,
        actor: row.text("actor")?,
    }))
}
