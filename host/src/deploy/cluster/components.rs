//! Components and their machine code in the database, so that a host with a data folder of its own can load what was deployed on
//! another one, without compiling it again.
//!
//! In parts, so that no statement carries more than a bounded number of bytes. Components lie under their digest, which is computed
//! again by whoever reads them; machine code carries an authentication code. Only where hosts can share a database at all: with
//! SQLite the folder is enough.

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
/// Machine code is kept for this long, wanted or not: it may be for an engine that no host has any more. Whoever misses it
/// compiles anew and stores what it got.
const CODE_KEPT: TimeDelta = TimeDelta::days(30);

/// The components in the database.
pub(in crate::deploy) struct SharedComponents {
    database: Database,
}

/// A table of things in parts.
#[derive(Clone, Copy)]
struct Shelf {
    table: &'static str,
    /// The column that says which thing a part is of.
    key: &'static str,
}

const COMPONENTS: Shelf = Shelf { table: "berth_component_parts", key: "sha256" };
const MACHINE_CODE: Shelf = Shelf { table: "berth_machine_code_parts", key: "name" };

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
        self.put(COMPONENTS, digest, bytes).await
    }

    /// Keeps authenticated machine code for the other hosts, under its name. What is there already is left alone.
    pub(in crate::deploy) async fn store_code(&self, name: &str, sealed: &[u8]) -> Result<(), DatabaseError> {
        self.put(MACHINE_CODE, name, sealed).await
    }

    /// The component of a digest; none when it is absent or damaged.
    pub(in crate::deploy) async fn load(&self, digest: &str) -> Result<Option<Bytes>, DatabaseError> {
        let Some(bytes) = self.take(COMPONENTS, digest).await? else { return Ok(None) };
        let is_whole = digest_of(&bytes) == digest;
        if !is_whole {
            tracing::error!(digest, "a component in the database is damaged and not used");
        }
        Ok(is_whole.then_some(bytes))
    }

    /// Machine code as somebody stored it: whoever asks must authenticate it.
    pub(in crate::deploy) async fn load_code(&self, name: &str) -> Result<Option<Bytes>, DatabaseError> {
        self.take(MACHINE_CODE, name).await
    }

    /// Removes machine code that is good for nobody.
    pub(in crate::deploy) async fn remove_code(&self, name: &str) -> Result<(), DatabaseError> {
        let Shelf { table, key } = MACHINE_CODE;
        self.database.execute(&format!("DELETE FROM {table} WHERE {key} = $1"), &values![name]).await.map(drop)
    }

    /// Removes the components that `wanted` does not name, unless they came a moment ago, with their machine code.
    pub(in crate::deploy) async fn keep_only(&self, wanted: impl Fn(&str) -> bool) -> Result<(), DatabaseError> {
        self.remove_old(COMPONENTS, KEPT_UNWANTED, |digest| !wanted(digest)).await?;
        let digest_of_name = |name: &str| name.split('-').next().map(str::to_owned).unwrap_or_default();
        self.remove_old(MACHINE_CODE, KEPT_UNWANTED, |name| !wanted(&digest_of_name(name))).await?;
        self.remove_old(MACHINE_CODE, CODE_KEPT, |_| true).await
    }

    async fn put(&self, shelf: Shelf, name: &str, bytes: &[u8]) -> Result<(), DatabaseError> {
        if !self.is_shared() {
            return Ok(());
        }
        let Shelf { table, key } = shelf;
        let mut transaction = self.database.begin().await?;
        let now = Utc::now();
        for (part, bytes) in (0_i64..).zip(bytes.chunks(PART_BYTES)) {
            // The time is renewed, so that nobody removes it before it is pointed to.
            let sql = format!(
                "INSERT INTO {table} ({key}, part, bytes, stored_at) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT ({key}, part) DO UPDATE SET stored_at = excluded.stored_at"
            );
            transaction.execute(&sql, &values![name, part, bytes.to_vec(), now]).await?;
        }
        transaction.commit().await
    }

    async fn take(&self, shelf: Shelf, name: &str) -> Result<Option<Bytes>, DatabaseError> {
        if !self.is_shared() {
            return Ok(None);
        }
        let Shelf { table, key } = shelf;
        let limits = QueryLimits { rows_max: 1, bytes_max: 2 * PART_BYTES, ..QueryLimits::default() };
        let mut bytes = BytesMut::new();
        for part in 0..PARTS_MAX as i64 {
            let sql = format!("SELECT bytes FROM {table} WHERE {key} = $1 AND part = $2");
            let rows = self.database.query_within(Scope::default(), &sql, &values![name, part], limits).await?;
            let Some(row) = rows.first() else { break };
            bytes.extend_from_slice(&row.bytes("bytes")?);
        }
        Ok((!bytes.is_empty()).then(|| bytes.freeze()))
    }

    /// Removes things older than `age` of which `unwanted` is true.
    async fn remove_old(
        &self,
        shelf: Shelf,
        age: TimeDelta,
        unwanted: impl Fn(&str) -> bool,
    ) -> Result<(), DatabaseError> {
        if !self.is_shared() {
            return Ok(());
        }
        let Shelf { table, key } = shelf;
        let before = Utc::now() - age;
        let sql = format!("SELECT {key} FROM {table} WHERE part = 0 AND stored_at < $1");
        for row in self.database.query(&sql, &values![before]).await?.iter() {
            let name = row.text(key)?;
            if unwanted(&name) {
                let sql = format!("DELETE FROM {table} WHERE {key} = $1 AND stored_at < $2");
                self.database.execute(&sql, &values![&name, before]).await?;
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

    #[tokio::test]
    async fn machine_code_goes_with_its_component_and_when_it_is_old() {
        let Ok(url) = std::env::var("BERTH_TEST_POSTGRES_URL") else { return };
        let database = Database::open(&url, DatabaseOptions::default()).await.unwrap();
        database.migrate("host", HOST_MIGRATIONS).await.unwrap();
        let components = SharedComponents::new(database.clone());
        let digest = digest_of(uuid::Uuid::now_v7().as_bytes());
        let name = format!("{digest}-0123456789abcdef");
        let code = vec![9_u8; PART_BYTES + 1];
        assert_eq!(components.load_code(&name).await.unwrap(), None);
        for (age, is_wanted, is_kept) in [
            (TimeDelta::zero(), false, true),
            (TimeDelta::hours(2), true, true),
            (TimeDelta::hours(2), false, false),
            (TimeDelta::days(31), true, false),
        ] {
            components.store_code(&name, &code).await.unwrap();
            let sql = "UPDATE berth_machine_code_parts SET stored_at = $2 WHERE name = $1";
            database.execute(sql, &values![&name, Utc::now() - age]).await.unwrap();
            // Other tests have things of their own in this database.
            components.keep_only(|other| other != digest || is_wanted).await.unwrap();
            let left = components.load_code(&name).await.unwrap();
            assert_eq!(left.is_some_and(|left| left == code), is_kept, "{age} {is_wanted}");
        }
        components.store_code(&name, &code).await.unwrap();
        components.remove_code(&name).await.unwrap();
        assert_eq!(components.load_code(&name).await.unwrap(), None);
    }
}
