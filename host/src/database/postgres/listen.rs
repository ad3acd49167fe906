//! Hearing what other hosts announce, on a connection of its own out of the pool.
//!
//! A notification says that something changed and never what: one that is lost costs the delay of a poll and nothing else.

use sqlx::postgres::{PgListener, PgPoolOptions};

use super::{DatabaseError, Postgres, from_driver};

/// Hears one channel.
pub(in crate::database) struct PostgresListener(PgListener);

impl Postgres {
    /// Begins to listen.
    pub(in crate::database) async fn listen(&self, channel: &str) -> Result<PostgresListener, DatabaseError> {
        let alone = PgPoolOptions::new().max_connections(1).connect_lazy_with((*self.connect).clone());
        let mut listener = PgListener::connect_with(&alone).await.map_err(from_driver)?;
        listener.listen(channel).await.map_err(from_driver)?;
        Ok(PostgresListener(listener))
    }
}

impl PostgresListener {
    /// Waits for the next notification, or until some may have been missed because the connection was made anew.
    pub(in crate::database) async fn heard(&mut self) -> Result<(), DatabaseError> {
        self.0.try_recv().await.map(drop).map_err(from_driver)
    }
}
