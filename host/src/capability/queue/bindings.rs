//! Which events each plugin's queue takes, as the database has it for every host and every backend.

use std::collections::BTreeSet;

use super::backend::QueueError;
use crate::database::{Database, values};

/// Replaces the patterns of a plugin's queue. Writes nothing where they are the same, as they are at most starts.
pub(super) async fn replace(database: &Database, plugin: &str, patterns: &[String]) -> Result<(), QueueError> {
    let mut stored = BTreeSet::new();
    for row in database.query("SELECT pattern FROM berth_bindings WHERE plugin = $1", &values![plugin]).await? {
        stored.insert(row.text("pattern")?);
    }
    if stored.iter().eq(patterns.iter().collect::<BTreeSet<_>>()) {
        return Ok(());
    }
    let mut transaction = database.begin().await?;
    transaction.execute("DELETE FROM berth_bindings WHERE plugin = $1", &values![plugin]).await?;
    for pattern in patterns {
        let sql = "INSERT INTO berth_bindings (plugin, pattern) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        transaction.execute(sql, &values![plugin, pattern]).await?;
    }
    Ok(transaction.commit().await?)
}
