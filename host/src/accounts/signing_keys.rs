//! The keys that sign access tokens: made on the first start, sealed by the vault, shared by every host on the database.
//!
//! A private half must never be stored unsealed.

use std::sync::Arc;

use super::Accounts;
use super::error::AccountsError;
use super::token::{KEYS_MAX, Keyring, SigningPair};
use crate::capability::secrets::{HOST, Vault};
use crate::database::{Database, values};

/// How often a token with an unknown key may make the host look for new keys, in seconds.
const RELOAD_EVERY_SECONDS: i64 = 5;
/// What a key must be bound to when it is opened.
fn context(id: &str) -> String {
    format!("signing-key/{id}")
}

impl Accounts {
    /// Makes a new key the current one; tokens of the one before stay valid until they expire.
    pub(crate) async fn rotate_signing_key(&self) -> Result<(), AccountsError> {
        insert_fresh(&self.database, &self.vault, self.now()).await?;
        let keyring =
            load(&self.database, &self.vault).await?.ok_or_else(|| AccountsError::internal("no signing key"))?;
        self.keyring.store(Arc::new(keyring));
        Ok(())
    }

    /// Looks for keys that another host has made, not more often than every few seconds.
    pub(super) async fn reload_keys(&self) -> Result<(), AccountsError> {
        let now = self.now().timestamp();
        let last = self.keys_reloaded_at.swap(now, std::sync::atomic::Ordering::AcqRel);
        if now - last < RELOAD_EVERY_SECONDS {
            self.keys_reloaded_at.store(last, std::sync::atomic::Ordering::Release);
            return Ok(());
        }
        if let Some(keyring) = load(&self.database, &self.vault).await? {
            self.keyring.store(Arc::new(keyring));
        }
        Ok(())
    }
}

/// The keys of this installation, made now when there are none.
pub(super) async fn load_or_create(
    database: &Database,
    vault: &Vault,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<Keyring, AccountsError> {
    if let Some(keyring) = load(database, vault).await? {
        return Ok(keyring);
    }
    insert_fresh(database, vault, now).await?;
    // Read back and not kept: two hosts that start together must agree on the newest.
    load(database, vault).await?.ok_or_else(|| AccountsError::internal("the signing key was not stored"))
}

async fn insert_fresh(
    database: &Database,
    vault: &Vault,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<(), AccountsError> {
    let pair = SigningPair::generate();
    let sealed = vault.seal(HOST, None, &context(&pair.id), pair.seed()).await.map_err(AccountsError::internal)?;
    let sql = "INSERT INTO berth_signing_keys (id, public_key, sealed_private_key, created_at) VALUES ($1, $2, $3, $4)";
    database.execute(sql, &values![&pair.id, pair.public_key(), sealed, now]).await?;
    Ok(())
}

async fn load(database: &Database, vault: &Vault) -> Result<Option<Keyring>, AccountsError> {
    let sql = format!(
        "SELECT id, public_key, sealed_private_key FROM berth_signing_keys ORDER BY created_at DESC, id DESC LIMIT {KEYS_MAX}"
    );
    let rows = database.query(&sql, &[]).await?;
    let mut rows = rows.iter();
    let Some(newest) = rows.next() else { return Ok(None) };
    let id = newest.text("id")?;
    let sealed = newest.bytes("sealed_private_key")?;
    let seed = vault.open(HOST, None, &context(&id), &sealed).await.map_err(AccountsError::internal)?;
    let seed = zeroize::Zeroizing::new(seed);
    let pair = SigningPair::from_seed(id, &seed)?;
    let previous =
        rows.map(|row| Ok((row.text("id")?, row.text("public_key")?))).collect::<Result<Vec<_>, AccountsError>>()?;
    Ok(Some(Keyring::new(&pair, &previous)?))
}
