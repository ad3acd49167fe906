//! Wrapped keys in the host's database.

use async_trait::async_trait;
use chrono::Utc;

use super::backend::{KeyStore, VaultError, WrappedKey};
use crate::database::{Database, DatabaseError, Row, values};

/// See the file's head.
pub(super) struct KeyTable {
    database: Database,
}

impl KeyTable {
    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }
}

#[async_trait]
impl KeyStore for KeyTable {
    async fn active(&self, purpose: &str, organization: &str) -> Result<Option<WrappedKey>, VaultError> {
        let row = self
            .database
            .query_one(
                "SELECT id, purpose, organization_id, wrapped FROM berth_data_keys
                 WHERE purpose = $1 AND organization_id = $2 AND retired_at IS NULL",
                &values![purpose, organization],
            )
            .await
            .map_err(unavailable)?;
        row.map(|row| key(&row)).transpose()
    }

    async fn by_id(&self, id: &str) -> Result<Option<WrappedKey>, VaultError> {
        let row = self
            .database
            .query_one("SELECT id, purpose, organization_id, wrapped FROM berth_data_keys WHERE id = $1", &values![id])
            .await
            .map_err(unavailable)?;
        row.map(|row| key(&row)).transpose()
    }

    async fn insert(&self, key: WrappedKey) -> Result<WrappedKey, VaultError> {
        let WrappedKey { id, purpose, organization, wrapped } = key.clone();
        let inserted = self
            .database
            .execute(
                "INSERT INTO berth_data_keys (id, purpose, organization_id, wrapped, created_at)
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
                &values![id, purpose, organization, wrapped, Utc::now()],
            )
            .await
            .map_err(unavailable)?;
        if inserted == 1 {
            return Ok(key);
        }
        // Another host was quicker; its key is the one.
        let winner = self.active(&key.purpose, &key.organization).await?;
        winner.ok_or(VaultError::Internal("a data key was neither stored nor found"))
    }
}

fn key(row: &Row) -> Result<WrappedKey, VaultError> {
    Ok(WrappedKey {
        id: row.text("id").map_err(unavailable)?,
        purpose: row.text("purpose").map_err(unavailable)?,
        organization: row.text("organization_id").map_err(unavailable)?,
        wrapped: row.bytes("wrapped").map_err(unavailable)?,
    })
}

fn unavailable(error: DatabaseError) -> VaultError {
    VaultError::Unavailable(Some(error.into()))
}
