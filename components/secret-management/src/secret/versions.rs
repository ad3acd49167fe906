//! Versions: the sealed values of a secret, one for each change. Only the newest is active; none is ever rewritten but by a
//! rotation of keys.

use berth_sdk::{database::Row, prelude::*, secrets, serde_json, serde_json::Value};
use zeroize::Zeroizing;

use super::{Secret, StorageBackend};
use crate::{
    audit::{self, Outcome, Subject},
    keys::{self, DataKey, KeyStatus, cipher},
    vault,
};

/// A version as it is shown.
#[data]
pub(crate) struct Version {
    id: String,
    secret_id: String,
    version: i64,
    key_id: String,
    change_reason: Option<String>,
    is_active: bool,
    created_by: Option<String>,
    created_at: Timestamp,
    destroyed_at: Option<Timestamp>,
}

const COLUMNS: &str = "id, secret_id AS \"secretId\", version, key_id AS \"keyId\", change_reason AS \"changeReason\", \
    is_active AS \"isActive\", created_by AS \"createdBy\", created_at AS \"createdAt\", destroyed_at AS \"destroyedAt\"";

/// To what a ciphertext is bound.
pub(crate) struct Where {
    secret_id: String,
    version: i64,
    organization_id: String,
    kind: String,
}

impl Where {
    /// From a row with `secret_id`, `version`, `organization_id` and `type`.
    pub(crate) fn of_row(row: &Row) -> Result<Self, Fault> {
        Ok(Self {
            secret_id: row.get("secret_id")?,
            version: row.get("version")?,
            organization_id: row.get::<Option<String>>("organization_id")?.unwrap_or_default(),
            kind: row.get("type")?,
        })
    }

    fn of(secret: &Stored<Secret>, version: i64) -> Self {
        Self::new(&secret.id, version, keys::owner(secret), secret.r#type.as_str())
    }

    fn new(secret_id: &str, version: i64, organization_id: &str, kind: &str) -> Self {
        Self { secret_id: secret_id.into(), version, organization_id: organization_id.into(), kind: kind.into() }
    }

    pub(crate) fn as_place(&self) -> cipher::Place<'_> {
        cipher::Place {
            secret_id: &self.secret_id,
            version: self.version,
            organization_id: &self.organization_id,
            kind: &self.kind,
        }
    }
}

/// A sealed value that waits to be written.
pub(crate) struct Sealed {
    version: i64,
    key_id: String,
    nonce: Vec<u8>,
    ciphertext: Vec<u8>,
}

/// Seals a value for a version of a secret that has this id, kind and owner. Not inside a transaction.
pub(crate) fn seal(id: &str, version: i64, owner: &str, kind: &str, key: &DataKey, plain: &[u8]) -> Result<Sealed> {
    let nonce = secrets::random(u32::try_from(cipher::NONCE_BYTES).unwrap_or(12))?;
    let place = Where::new(id, version, owner, kind);
    let ciphertext = cipher::seal(&key.bytes, &nonce, place.as_place(), plain).ok_or_else(Problem::internal)?;
    Ok(Sealed { version, key_id: key.id.clone(), nonce, ciphertext })
}

/// The same for a secret that is there, as its next version.
pub(crate) fn seal_next(secret: &Stored<Secret>, value: &[u8]) -> Result<Sealed> {
    let version = secret.current_version + 1;
    let stored = vault::store(secret, value)?;
    let key = keys::active(keys::owner(secret))?;
    seal(
        &secret.id,
        version,
        keys::owner(secret),
        secret.r#type.as_str(),
        &key,
        stored.as_deref().map_or(value, |kept| kept),
    )
}

/// Writes a version as the active one.
pub(crate) fn insert(
    transaction: &Transaction,
    secret_id: &str,
    organization_id: Option<&str>,
    sealed: Sealed,
    reason: Option<String>,
) -> Result<()> {
    transaction.execute(
        "UPDATE secret_versions SET is_active = FALSE, updated_at = $2 WHERE secret_id = $1 AND is_active = TRUE",
        params![secret_id, clock::now()],
    )?;
    // Until the commit nobody destroys the key that has sealed it.
    let sql = "SELECT status FROM secret_encryption_keys WHERE id = $1 FOR UPDATE";
    let key = transaction.query_one(sql, params![sealed.key_id.as_str()])?;
    let status: Option<KeyStatus> = key.map(|row| row.get("status")).transpose()?;
    if status.is_none_or(|status| matches!(status, KeyStatus::Destroyed)) {
        return Err(Problem::conflict("Its key was destroyed meanwhile; try again.").with_code("CHANGED_MEANWHILE"));
    }
    transaction.execute(
        "INSERT INTO secret_versions (id, organization_id, created_by, created_at, updated_at, secret_id, version, \
         ciphertext, nonce, key_id, change_reason, is_active) VALUES ($1, $2, $3, $4, $4, $5, $6, $7, $8, $9, $10, TRUE)",
        params![
            Id::new(),
            organization_id.map(ToString::to_string),
            &auth::principal().user_id,
            clock::now(),
            secret_id,
            sealed.version,
            sealed.ciphertext,
            sealed.nonce,
            sealed.key_id,
            reason,
        ],
    )?;
    Ok(())
}

/// The value of a version. 404 when there is none; 500 `DECRYPTION_FAILED`, audited, when it does not open. Not inside a
/// transaction.
pub(crate) fn open(secret: &Stored<Secret>, version: i64) -> Result<Value> {
    let row = database::query_one(
        "SELECT key_id, nonce, ciphertext, destroyed_at FROM secret_versions WHERE secret_id = $1 AND version = $2",
        params![&secret.id, version],
    )?;
    let row = row.ok_or_else(|| Problem::missing("version"))?;
    if row.get::<Option<Timestamp>>("destroyed_at")?.is_some() {
        return Err(Problem::gone("The version has been destroyed."));
    }
    let (key_id, nonce, ciphertext): (String, Vec<u8>, Vec<u8>) =
        (row.get("key_id")?, row.get("nonce")?, row.get("ciphertext")?);
    let place = Where::of(secret, version);
    let plain = match keys::find(keys::owner(secret), &key_id)? {
        Some(key) => cipher::open(&key.bytes, &nonce, place.as_place(), &ciphertext),
        None => None,
    };
    let Some(plain) = plain else { return Err(unreadable(secret, version)) };
    let plain =
        if secret.storage_backend == StorageBackend::LocalEncrypted { plain } else { vault::load(secret, &plain)? };
    serde_json::from_slice(&plain).map_err(|_| unreadable(secret, version))
}

/// Noted and made known: somebody has changed what lies in the database, or it is damaged.
fn unreadable(secret: &Stored<Secret>, version: i64) -> Problem {
    logging::error!("a stored secret does not open", secret = secret.id, version = version);
    audit::note_alone(&Subject::from(secret), "decrypt", Outcome::Failure, json!({ "version": version }));
    Problem::new(500, "DECRYPTION_FAILED", "Decryption failed", "The stored value cannot be opened; it has been noted.")
}

/// The versions of a secret, newest first.
pub(crate) fn list(secret_id: &Id, query: &PageQuery) -> Result<Page<Version>> {
    let total =
        database::query_one("SELECT COUNT(*) AS total FROM secret_versions WHERE secret_id = $1", params![secret_id])?;
    let total: i64 = total.map_or(Ok(0), |row| row.get("total"))?;
    let versions = database::query_as(
        &Pool,
        &format!("SELECT {COLUMNS} FROM secret_versions WHERE secret_id = $1 ORDER BY version DESC LIMIT $2 OFFSET $3"),
        params![secret_id, query.limit, query.offset],
    )?;
    Ok(query.envelope(versions, total))
}

/// One version; 404.
pub(crate) fn read(secret_id: &Id, version: i64) -> Result<Version> {
    let found: Vec<Version> = database::query_as(
        &Pool,
        &format!("SELECT {COLUMNS} FROM secret_versions WHERE secret_id = $1 AND version = $2"),
        params![secret_id, version],
    )?;
    found.into_iter().next().ok_or_else(|| Problem::missing("version"))
}

/// A value as text for the sealing.
pub(crate) fn text(value: &Value) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(value.to_string().into_bytes())
}
