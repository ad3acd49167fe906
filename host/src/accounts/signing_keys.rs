//! The keys that sign access tokens: made on the first start, sealed by the vault, shared by every host on the database,
//! and followed by fresh ones on their own.
//!
//! A fresh key is published some minutes before it signs, so that every host knows it by then; the one before it stays
//! good until the next one signs. A private half must never be stored unsealed.

use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value as Json, json};

use super::context::{Context, created, ok};
use super::error::AccountsError;
use super::list::show;
use super::token::{Keyring, PublicKey, SigningPair};
use super::{Accounts, Reply};
use crate::capability::secrets::{HOST, Vault};
use crate::database::{Database, DatabaseError, Row, Rows, values};

/// How often a token with an unknown key may make the host look for new keys, in seconds.
const RELOAD_EVERY_SECONDS: i64 = 1;
/// How long a key signs before a fresh one follows it.
const SIGNS_FOR: Duration = Duration::days(30);
/// How long a fresh key is known before it signs: several times as long as hosts take to look.
const ANNOUNCED_FOR: Duration = Duration::minutes(10);
/// How long the keys of the past are kept, for the record.
const KEPT_FOR: Duration = Duration::days(400);
/// Keys that are looked at: one that is announced, the current one, the previous one, and one more to be safe.
const KEYS_LOADED: usize = 4;
/// How often the making of a generation is tried, when other hosts make one at the same time.
const ATTEMPTS_MAX: usize = 3;

/// What a key must be bound to when it is opened.
fn context_of(id: &str) -> String {
    format!("signing-key/{id}")
}

impl Accounts {
    /// Makes a new key the current one at once; tokens of the one before stay valid until they expire, unless every
    /// earlier key is ended with it.
    pub(crate) async fn rotate_signing_key(&self, ends_earlier: bool) -> Result<(), AccountsError> {
        let now = self.now();
        let mut is_made = false;
        for _ in 0..ATTEMPTS_MAX {
            let newest = newest(&self.database).await?;
            let generation = newest.as_ref().map_or(Ok(0), |row| row.integer("generation"))?;
            if insert(&self.database, &self.vault, generation + 1, now, now).await? {
                let sql = "UPDATE berth_signing_keys SET ended_at = $2 WHERE generation <= $1 AND ended_at IS NULL";
                if ends_earlier {
                    self.database.execute(sql, &values![generation, now]).await?;
                }
                is_made = true;
                break;
            }
        }
        if !is_made {
            return Err(AccountsError::Conflict("keys are being rotated by somebody else; look again".into()));
        }
        self.load_keys().await
    }

    /// Takes the keys as they are now, and announces a fresh one when it is time. To be called about once a minute; any
    /// number of hosts may do it at once.
    pub(crate) async fn keep_signing_keys(&self) -> Result<(), AccountsError> {
        let now = self.now();
        if let Some(newest) = newest(&self.database).await?
            && newest.timestamp("signs_from")? + SIGNS_FOR - ANNOUNCED_FOR <= now
        {
            // Whoever comes second finds the generation taken, and that is as good.
            let generation = newest.integer("generation")? + 1;
            if insert(&self.database, &self.vault, generation, now, now + ANNOUNCED_FOR).await? {
                tracing::info!(generation, "a fresh signing key was announced");
            }
            let sql = "DELETE FROM berth_signing_keys WHERE generation < $1 AND signs_from < $2";
            self.database.execute(sql, &values![generation - KEYS_LOADED as i64, now - KEPT_FOR]).await?;
        }
        self.load_keys().await
    }

    /// Looks for keys that another host has made, not more often than every now and then.
    pub(super) async fn reload_keys(&self) -> Result<(), AccountsError> {
        let now = self.now().timestamp();
        let last = self.keys_reloaded_at.swap(now, std::sync::atomic::Ordering::AcqRel);
        if now - last < RELOAD_EVERY_SECONDS {
            self.keys_reloaded_at.store(last, std::sync::atomic::Ordering::Release);
            return Ok(());
        }
        self.load_keys().await
    }

    async fn load_keys(&self) -> Result<(), AccountsError> {
        let Some(keyring) = load(&self.database, &self.vault, self.now()).await? else { return Ok(()) };
        let before = self.keyring.swap(Arc::new(keyring));
        // A token is verified once and then remembered: not beyond the end of its key.
        if before.public_keys().iter().any(|key| !self.keyring.load().knows(&key.id)) {
            self.identities.forget_tokens();
        }
        Ok(())
    }

    /// The public halves of every key that is believed now or soon, as a JSON Web Key Set.
    pub(crate) fn key_set(&self) -> Json {
        let keyring = self.keyring.load();
        let keys = keyring.public_keys().iter().map(
            |key| json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": key.id, "x": key.x }),
        );
        json!({ "keys": keys.collect::<Vec<_>>() })
    }
}

/// `GET /api/admin/signing-keys`
pub(super) async fn list(context: &Context<'_>) -> Result<Reply, AccountsError> {
    Ok(ok(json!({ "items": present(context.accounts).await? })))
}

/// `POST /api/admin/signing-keys/rotate`
pub(super) async fn rotate(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let mut fields = context.fields()?;
    let ends_earlier = fields.boolean("endEarlier").unwrap_or(false);
    fields.finish()?;
    context.accounts.rotate_signing_key(ends_earlier).await?;
    let keys = present(context.accounts).await?;
    let id = keys.first().and_then(|key| key.get("id")).and_then(Json::as_str).unwrap_or_default().to_owned();
    let mut change = context.begin().await?;
    change.audit(None, "signing_key.rotated", ("signing_key", &id), json!({ "endEarlier": ends_earlier })).await?;
    change.commit().await?;
    Ok(created(json!({ "items": keys })))
}

/// The keys that count, newest first.
async fn present(accounts: &Accounts) -> Result<Vec<Json>, AccountsError> {
    let (keyring, rows) = (accounts.keyring.load(), rows(&accounts.database).await?);
    let shown = rows.iter().filter_map(|row| show_key(row, &keyring).transpose());
    Ok(shown.collect::<Result<Vec<_>, DatabaseError>>()?)
}

fn show_key(row: &Row, keyring: &Keyring) -> Result<Option<Json>, DatabaseError> {
    let id = row.text("id")?;
    if !keyring.knows(&id) {
        return Ok(None);
    }
    let signs_from = row.timestamp("signs_from")?;
    Ok(Some(json!({
        "isCurrent": id == keyring.current(),
        "id": id,
        "generation": row.integer("generation")?,
        "createdAt": show(row.timestamp("created_at")?),
        "signsFrom": show(signs_from),
        "nextFrom": show(signs_from + SIGNS_FOR),
    })))
}

/// The keys of this installation, made now when there are none.
pub(super) async fn load_or_create(
    database: &Database,
    vault: &Vault,
    now: DateTime<Utc>,
) -> Result<Keyring, AccountsError> {
    if let Some(keyring) = load(database, vault, now).await? {
        return Ok(keyring);
    }
    let newest = newest(database).await?;
    let generation = newest.as_ref().map_or(Ok(0), |row| row.integer("generation"))?;
    insert(database, vault, generation + 1, now, now).await?;
    // Read back and not kept: of two hosts that start together only one has made it.
    load(database, vault, now).await?.ok_or_else(|| AccountsError::internal("the signing key was not stored"))
}

/// Makes a generation; false when there is one already.
async fn insert(
    database: &Database,
    vault: &Vault,
    generation: i64,
    now: DateTime<Utc>,
    signs_from: DateTime<Utc>,
) -> Result<bool, AccountsError> {
    let pair = SigningPair::generate();
    let sealed = vault.seal(HOST, None, &context_of(&pair.id), pair.seed()).await.map_err(AccountsError::internal)?;
    let sql = "INSERT INTO berth_signing_keys (id, public_key, sealed_private_key, created_at, generation, signs_from) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (generation) DO NOTHING";
    let row = values![&pair.id, pair.public_key(), sealed, now, generation, signs_from];
    Ok(database.execute(sql, &row).await? == 1)
}

/// The newest key, whether it counts or not.
async fn newest(database: &Database) -> Result<Option<Row>, AccountsError> {
    let sql = "SELECT generation, signs_from FROM berth_signing_keys ORDER BY generation DESC LIMIT 1";
    Ok(database.query_one(sql, &[]).await?)
}

async fn rows(database: &Database) -> Result<Rows, AccountsError> {
    let sql = format!(
        "SELECT id, public_key, sealed_private_key, created_at, generation, signs_from FROM berth_signing_keys \
         WHERE ended_at IS NULL ORDER BY generation DESC LIMIT {KEYS_LOADED}"
    );
    Ok(database.query(&sql, &[]).await?)
}

async fn load(database: &Database, vault: &Vault, now: DateTime<Utc>) -> Result<Option<Keyring>, AccountsError> {
    let rows = rows(database).await?;
    let mut announced = Vec::new();
    let mut rest = rows.iter();
    // The newest that may sign; where none may yet, as with a clock that is late, the newest of all.
    let mut chosen = None;
    for row in rest.by_ref() {
        if row.timestamp("signs_from")? <= now {
            chosen = Some(row);
            break;
        }
        announced.push(public_half(row)?);
    }
    let (current, others) = match chosen {
        Some(row) => (row, announced.into_iter().chain(rest.next().map(public_half).transpose()?).collect()),
        None => match rows.iter().next() {
            Some(row) => (row, announced),
            None => return Ok(None),
        },
    };
    let id = current.text("id")?;
    let sealed = current.bytes("sealed_private_key")?;
    let seed = vault.open(HOST, None, &context_of(&id), &sealed).await.map_err(AccountsError::internal)?;
    let seed = zeroize::Zeroizing::new(seed);
    let pair = SigningPair::from_seed(id, &seed)?;
    Ok(Some(Keyring::new(&pair, others)?))
}

fn public_half(row: &Row) -> Result<PublicKey, DatabaseError> {
    Ok(PublicKey { id: row.text("id")?, x: row.text("public_key")? })
}
