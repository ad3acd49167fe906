//! Data keys: one for each organization and one for what is GLOBAL, wrapped by the host, which alone has the master key.
//!
//! A value is encrypted under its owner's data key. Wrapping and unwrapping may make the host write keys of its own, so it
//! never happens inside a transaction: SQLite has one writer.

pub(crate) mod cipher;
pub(crate) mod rotation;

use berth_sdk::{prelude::*, secrets};
use zeroize::Zeroizing;

use crate::secret::{Scope, Secret};

/// What becomes of a key.
#[choice(upper)]
pub(crate) enum KeyStatus {
    Active,
    Rotating,
    Retired,
    Destroyed,
}

/// An unwrapped key. Wiped when it goes.
pub(crate) struct DataKey {
    pub id: String,
    pub bytes: Zeroizing<Vec<u8>>,
}

/// Whose key encrypts a secret: an organization, or empty for everybody.
pub(crate) fn owner(secret: &Stored<Secret>) -> &str {
    secret.organization_id.as_deref().unwrap_or_default()
}

/// The owner of a secret that is about to be made.
pub(crate) fn owner_of_new(scope: Scope) -> Result<String> {
    if scope == Scope::Global { Ok(String::new()) } else { auth::organization_id().map(Id::into_string) }
}

/// The key that encrypts for this owner; made when there is none. Not inside a transaction.
pub(crate) fn active(owner: &str) -> Result<DataKey> {
    if let Some(key) = find_active(owner)? {
        return Ok(key);
    }
    let bytes = Zeroizing::new(secrets::random(u32::try_from(cipher::KEY_BYTES).unwrap_or(32))?);
    let id = Id::new().into_string();
    let wrapped = wrap(owner, &id, &bytes)?;
    let row = database::query_one(
        "SELECT COALESCE(MAX(version), 0) AS last FROM secret_encryption_keys WHERE owner = $1",
        params![owner],
    )?;
    let last: i64 = row.map_or(Ok(0), |row| row.get("last"))?;
    let organization_id = Some(owner.to_string()).filter(|owner| !owner.is_empty());
    database::execute(
        "INSERT INTO secret_encryption_keys (id, organization_id, created_by, created_at, updated_at, owner, version, \
         wrapped_key, algorithm, status) VALUES ($1, $2, $3, $4, $4, $5, $6, $7, 'AES-256-GCM', 'ACTIVE') \
         ON CONFLICT DO NOTHING",
        params![id, organization_id, &auth::principal().user_id, clock::now(), owner, last + 1, wrapped],
    )?;
    // Somebody else may have been quicker: theirs is the one then.
    find_active(owner)?.ok_or_else(|| Problem::unavailable("A key is being made; try again."))
}

fn find_active(owner: &str) -> Result<Option<DataKey>> {
    let row = database::query_one(
        "SELECT id, wrapped_key FROM secret_encryption_keys WHERE owner = $1 AND status = 'ACTIVE'",
        params![owner],
    )?;
    row.map(|row| unwrap(owner, row.get("id")?, &row.get::<Vec<u8>>("wrapped_key")?)).transpose()
}

/// The key of this id, if it is this owner's and not destroyed. Not inside a transaction.
pub(crate) fn find(owner: &str, id: &str) -> Result<Option<DataKey>> {
    let row = database::query_one(
        "SELECT wrapped_key FROM secret_encryption_keys WHERE owner = $1 AND id = $2 AND status <> 'DESTROYED'",
        params![owner, id],
    )?;
    match row {
        None => Ok(None),
        Some(row) => match unwrap(owner, id.to_string(), &row.get::<Vec<u8>>("wrapped_key")?) {
            Ok(key) => Ok(Some(key)),
            // Wrapped for somebody else, or changed: as good as not there.
            Err(problem) if problem.code == UNWRAPPABLE => Ok(None),
            Err(problem) => Err(problem),
        },
    }
}

const UNWRAPPABLE: &str = "KEY_UNUSABLE";

fn wrap(owner: &str, id: &str, bytes: &[u8]) -> Result<Vec<u8>, Fault> {
    let context = format!("data-key|{id}");
    if owner.is_empty() { secrets::seal_shared(bytes, &context) } else { secrets::seal(bytes, &context) }
}

fn unwrap(owner: &str, id: String, wrapped: &[u8]) -> Result<DataKey> {
    let context = format!("data-key|{id}");
    let opened =
        if owner.is_empty() { secrets::open_shared(wrapped, &context) } else { secrets::open(wrapped, &context) };
    match opened {
        Ok(bytes) => Ok(DataKey { id, bytes: Zeroizing::new(bytes) }),
        Err(Fault::Invalid(_)) => {
            logging::error!("a data key cannot be unwrapped", key = id);
            Err(Problem::internal().with_code(UNWRAPPABLE))
        }
        Err(fault) => Err(fault.into()),
    }
}

/// Whether the host seals and opens for this plugin: before it gets traffic.
pub(crate) fn ready() -> Result<(), String> {
    let sealed = secrets::seal_shared(b"ready", "ready").map_err(|fault| format!("the host does not seal: {fault}"))?;
    let opened = secrets::open_shared(&sealed, "ready").map_err(|fault| format!("the host does not open: {fault}"))?;
    if opened == b"ready" { Ok(()) } else { Err("the host opens something else than it sealed".into()) }
}
