//! Which events each plugin's queue takes, as the database has it for every host and every backend.

use std::collections::BTreeSet;

use super::backend::QueueError;
use crate::database::{Database, values};

/// Who has to be told of a binding.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Nobody but the database.
    Database,
    /// A broker too: what goes is remembered until it has been taken off there.
    Broker,
}

/// Replaces the patterns of a plugin's queue. Writes nothing where they are the same, as they are at most starts.
pub(super) async fn replace(
    database: &Database,
    plugin: &str,
    patterns: &[String],
    told: Told,
) -> Result<(), QueueError> {
    let mut stored = BTreeSet::new();
    for row in database.query("SELECT pattern FROM berth_bindings WHERE plugin = $1", &values![plugin]).await? {
        stored.insert(row.text("pattern")?);
    }
    if stored.iter().eq(patterns.iter().collect::<BTreeSet<_>>()) {
        return Ok(());
    }
    let mut transaction = database.begin().await?;
    transaction.execute("DELETE FROM berth_bindings WHERE plugin = $1", &values![plugin]).await?;
    if told == Told::Broker {
        for gone in stored.iter().filter(|pattern| !patterns.contains(pattern)) {
            let sql = "INSERT INTO berth_unbound (plugin, pattern) VALUES ($1, $2) ON CONFLICT DO NOTHING";
            transaction.execute(sql, &values![plugin, gone]).await?;
        }
    }
    for pattern in patterns {
        let sql = "DELETE FROM berth_unbound WHERE plugin = $1 AND pattern = $2";
        transaction.execute(sql, &values![plugin, pattern]).await?;
        let sql = "INSERT INTO berth_bindings (plugin, pattern) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        transaction.execute(sql, &values![plugin, pattern]).await?;
    }
    Ok(transaction.commit().await?)
}
