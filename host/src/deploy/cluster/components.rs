//! Components in the database, so that a host with a data folder of its own can load what was deployed on another one.
//!
//! In parts, so that no statement carries more than a bounded number of bytes; under their digest, which is computed again
//! by whoever reads them. Only where hosts can share a database at all: with SQLite the folder is enough.

use bytes::{Bytes, BytesMut};
use chrono::{TimeDelta, Utc};

use super::super::artifacts::digest_of;
use crate::database::{Database, DatabaseError, Dialect, QueryLimits, Scope, values};

/// Bytes of one part.
const PART_BYTES: usize = 1024 * 1024;
/// Parts of one component: more than the largest that may be deployed has.
const PARTS_MAX: usize = 1_024;
/// An unwanted component is kept for this long: somebody may be about to point to it.
const KEPT_UNWANTED: TimeDelta = TimeDelta::hours(1);

/// The components in the database.
pub(in crate::deploy) struct SharedComponents {
    database: Database,
}

impl SharedComponents {
    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }

    /// Whether other hosts can see what is stored.
    pub(in crate::deploy) fn is_shared(&self) -> bool {
        self.database.dialect() == Dialect::Postgres
    }

    /// Keeps a component for the other hosts. One that is there already is left alone.
    pub(in crate::deploy) async fn store(&self, digest: &str, bytes: &[u8]) -> Result<(), DatabaseError> {
        if !self.is_shared() {
            return Ok(());
        }
        let mut transaction = self.database.begin().await?;
        let now = Utc::now();
        for (part, bytes) in (0_i64..).zip(bytes.chunks(PART_BYTES)) {
            // The time is renewed, so that nobody removes it before it is pointed to.
            let sql = "INSERT INTO berth_component_parts (sha256, part, bytes, stored_at) VALUES ($1, $2, $3, $4) \
                       ON CONFLICT (sha256, part) DO UPDATE SET stored_at = excluded.stored_at";
            transaction.execute(sql, &values![digest, part, bytes.to_vec(), now]).await?;
        }
        transaction.commit().await
    }

    /// The component of a digest; none when it is absent or damaged.
    pub(in crate::deploy) async fn load(&self, digest: &str) -> Result<Option<Bytes>, DatabaseError> {
        if !self.is_shared() {
            return Ok(None);
        }
        let limits = QueryLimits { rows_max: 1, bytes_max: 2 * PART_BYTES, ..QueryLimits::default() };
        let mut bytes = BytesMut::new();
        for part in 0..PARTS_MAX as i64 {
            let sql = "SELECT bytes FROM berth_component_parts WHERE sha256 = $1 AND part = $2";
            let rows = self.database.query_within(Scope::default(), sql, &values![digest, part], limits).await?;
            let Some(row) = rows.first() else { break };
            bytes.extend_from_slice(&row.bytes("bytes")?);
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let is_whole = digest_of(&bytes) == digest;
        if !is_whole {
            tracing::error!(digest, "a component in the database is damaged and not used");
        }
        Ok(is_whole.then(|| bytes.freeze()))
    }

    /// Removes the components that `wanted` does not name, unless they came a moment ago.
    pub(in crate::deploy) async fn keep_only(&self, wanted: impl Fn(&str) -> bool) -> Result<(), DatabaseError> {
        if !self.is_shared() {
            return Ok(());
        }
        let before = Utc::now() - KEPT_UNWANTED;
        let sql = "SELECT sha256 FROM berth_component_parts WHERE part = 0 AND stored_at < $1";
        for row in self.database.query(sql, &values![before]).await?.iter() {
            let digest = row.text("sha256")?;
            if !wanted(&digest) {
                let sql = "DELETE FROM berth_component_parts WHERE sha256 = $1 AND stored_at < $2";
                self.database.execute(sql, &values![&digest, before]).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{DatabaseOptions, HOST_MIGRATIONS};

    #[tokio::test]
    async fn a_component_comes_back_whole_and_a_fresh_one_is_kept() {
        let Ok(url) = std::env::var("BERTH_TEST_POSTGRES_URL") else { return };
        let database = Database::open(&url, DatabaseOptions::default()).await.unwrap();
        database.migrate("host", HOST_MIGRATIONS).await.unwrap();
        let components = SharedComponents::new(database.clone());
        let mut component = vec![7_u8; PART_BYTES * 2 + 5];
        component.extend_from_slice(uuid::Uuid::now_v7().as_bytes());
        let digest = digest_of(&component);
        assert_eq!(components.load(&digest).await.unwrap(), None);
        for _ in 0..2 {
            components.store(&digest, &component).await.unwrap();
        }
        assert_eq!(components.load(&digest).await.unwrap().unwrap(), component);
        components.keep_only(|_| false).await.unwrap();
        assert!(components.load(&digest).await.unwrap().is_some());
        let sql = "UPDATE berth_component_parts SET bytes = $2 WHERE sha256 = $1 AND part = 1";
        database.execute(sql, &values![&digest, vec![8_u8]]).await.unwrap();
        assert_eq!(components.load(&digest).await.unwrap(), None);
        let sql = "DELETE FROM berth_component_parts WHERE sha256 = $1";
        database.execute(sql, &values![&digest]).await.unwrap();
    }
}
