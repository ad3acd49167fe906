//! What one plugin may have of the database's connections, so that one in trouble leaves others some.

use std::sync::Arc;

use dashmap::DashMap;

use crate::database::{Database, DatabaseError, DatabaseOptions, Dialect, Turn, Turns};

/// The shares of all plugins, host-wide.
pub(super) struct Shares {
    dialect: Dialect,
    options: DatabaseOptions,
    of: DashMap<Arc<str>, Arc<Share>>,
}

/// One plugin's.
struct Share {
    /// Statements at once, on PostgreSQL also transactions.
    reading: Turns,
    /// SQLite has one connection for writing, for which plugins queue up one by one: each has one place in that line.
    writing: Option<Turns>,
}

impl Shares {
    pub(super) fn new(database: &Database) -> Self {
        Self { dialect: database.dialect(), options: database.options().clone(), of: DashMap::new() }
    }

    /// A turn of the plugin's at reading with one statement. `Busy` when it has too many at once for too long.
    pub(super) async fn read(&self, plugin: &Arc<str>) -> Result<Turn, DatabaseError> {
        self.share(plugin).reading.take().await
    }

    /// A turn of the plugin's at a transaction, or at one statement that changes rows. `Busy` as for reading.
    pub(super) async fn write(&self, plugin: &Arc<str>) -> Result<Turn, DatabaseError> {
        let share = self.share(plugin);
        share.writing.as_ref().unwrap_or(&share.reading).take().await
    }

    fn share(&self, plugin: &Arc<str>) -> Arc<Share> {
        if let Some(share) = self.of.get(plugin) {
            return Arc::clone(&share);
        }
        let share = self.of.entry(Arc::clone(plugin)).or_insert_with(|| Arc::new(self.full()));
        Arc::clone(&share)
    }

    /// Three of four connections, at least one.
    fn full(&self) -> Share {
        let DatabaseOptions { waiting_max, wait_max, .. } = self.options;
        let turns = |count: usize| Turns::new(count, waiting_max, wait_max);
        let part = |connections: usize| (connections - connections.div_ceil(4)).max(1);
        match self.dialect {
            Dialect::Sqlite => Share { reading: turns(part(self.options.readers_max)), writing: Some(turns(1)) },
            Dialect::Postgres => Share { reading: turns(part(self.options.connections_max as usize)), writing: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::database::conformance::on_every_database;

    /// A turn that is to be had at once.
    fn now(turn: impl Future<Output = Result<Turn, DatabaseError>>) -> Option<Turn> {
        turn.now_or_never().map(Result::unwrap)
    }

    fn plugins() -> (Arc<str>, Arc<str>) {
        (Arc::from("planning"), Arc::from("calendar"))
    }

    #[tokio::test]
    async fn one_plugin_leaves_others_connections() {
        on_every_database(async |database| {
            let shares = Shares::new(&database);
            let (greedy, other) = plugins();
            let options = database.options();
            let connections = match database.dialect() {
                Dialect::Sqlite => options.readers_max,
                Dialect::Postgres => options.connections_max as usize,
            };
            let mut turns: Vec<Turn> = std::iter::from_fn(|| now(shares.read(&greedy))).take(connections).collect();
            assert!(!turns.is_empty() && turns.len() < connections, "{} of {connections}", turns.len());
            assert!(now(shares.read(&other)).is_some());
            // What one gives back is the next one's.
            turns.pop();
            assert!(now(shares.read(&greedy)).is_some());
        })
        .await;
    }

    #[tokio::test]
    async fn plugins_that_write_take_turns_on_sqlite() {
        let database = Database::open_in_memory().await;
        let shares = Shares::new(&database);
        let (greedy, other) = plugins();
        let turn = now(shares.write(&greedy));
        assert!(turn.is_some());
        assert!(now(shares.write(&greedy)).is_none(), "one plugin stands in the line twice");
        assert!(now(shares.write(&other)).is_some());
        // Readers do not wait for it.
        assert!(now(shares.read(&greedy)).is_some());
        drop(turn);
        assert!(now(shares.write(&greedy)).is_some());
    }

    #[tokio::test]
    async fn a_transaction_keeps_its_turn_until_it_ends() {
        let database = Database::open_in_memory().await;
        let shares = Shares::new(&database);
        let (plugin, _) = plugins();
        let transaction = database.begin().await.unwrap().with_turn(shares.write(&plugin).await.unwrap());
        assert!(now(shares.write(&plugin)).is_none());
        transaction.commit().await.unwrap();
        assert!(now(shares.write(&plugin)).is_some());
    }
}
