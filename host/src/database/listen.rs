//! Telling other hosts on the same database that something has changed, and hearing it.
//!
//! Only PostgreSQL can do that; SQLite has one host a file, and nobody else to tell.

use super::postgres::PostgresListener;
use super::{Backend, Database, DatabaseError, Dialect, Transaction, values};

/// Hears one channel. What was announced before it began is not heard.
pub(crate) struct Listener(PostgresListener);

impl Listener {
    /// Waits for the next announcement, or until some may have been missed.
    ///
    /// # Errors
    /// When the connection is lost and cannot be made anew at once: begin again with [`Database::listen`].
    pub(crate) async fn heard(&mut self) -> Result<(), DatabaseError> {
        self.0.heard().await
    }
}

impl Database {
    /// Begins to listen; none where announcements do not exist.
    pub(crate) async fn listen(&self, channel: &str) -> Result<Option<Listener>, DatabaseError> {
        match &self.backend {
            Backend::Sqlite(_) => Ok(None),
            Backend::Postgres(postgres) => Ok(Some(Listener(postgres.listen(channel).await?))),
        }
    }

    /// Announces a change with the commit of `transaction`, where somebody may listen.
    pub(crate) async fn announce(&self, transaction: &mut Transaction, channel: &str) -> Result<(), DatabaseError> {
        if self.dialect() == Dialect::Postgres {
            transaction.execute("SELECT pg_notify($1, '')", &values![channel]).await?;
        }
        Ok(())
    }
}
