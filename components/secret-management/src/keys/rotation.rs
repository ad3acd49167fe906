//! Rotation of data keys: a new key for what is written from now on, and a background that re-encrypts what is there, a
//! batch at a time, while reads go on under the old key.

use std::{collections::BTreeMap, time::Duration};

use berth_sdk::{events::Message, prelude::*, serde_json::Value};

use super::{DataKey, KeyStatus, cipher};
use crate::{
    audit::{self, Outcome, Subject},
    rights,
    secret::versions,
};

/// Versions that one message re-encrypts.
const BATCH: i64 = 50;
/// Organizations that one tick looks after; the rest follow with the next.
const ORGANIZATIONS_MAX: i64 = 500;

/// A key as it is shown.
#[data]
pub(crate) struct ShownKey {
    key_id: String,
    organization_id: Option<String>,
    version: i64,
    algorithm: String,
    status: KeyStatus,
    created_at: Timestamp,
    retired_at: Option<Timestamp>,
}

/// `GET /api/secrets/keys`.
pub(crate) fn list(query: PageQuery) -> Result<Json<Page<ShownKey>>> {
    rights::require_platform()?;
    let total = database::query_one("SELECT COUNT(*) AS total FROM secret_encryption_keys", params![])?;
    let total: i64 = total.map_or(Ok(0), |row| row.get("total"))?;
    let keys: Vec<ShownKey> = database::query_as(
        &Pool,
        "SELECT id AS \"keyId\", organization_id AS \"organizationId\", version, algorithm, status, \
         created_at AS \"createdAt\", retired_at AS \"retiredAt\" FROM secret_encryption_keys \
         ORDER BY created_at DESC, id DESC LIMIT $1 OFFSET $2",
        params![query.limit, query.offset],
    )?;
    Ok(Json(query.envelope(keys, total)))
}

/// The answer of a rotation.
#[data]
pub(crate) struct Rotating {
    /// How many keys are being replaced.
    rotating: i64,
    status: String,
}

/// `POST /api/secrets/keys/rotate`: every active key becomes a rotating one; whoever writes next makes a new one.
pub(crate) fn rotate() -> Result<Accepted<Rotating>> {
    rights::require_platform()?;
    let changed = database::transaction(|transaction| {
        let changed = transaction.execute(
            "UPDATE secret_encryption_keys SET status = 'ROTATING', updated_at = $1 WHERE status = 'ACTIVE'",
            params![clock::now()],
        )?;
        note(transaction, "key.rotate", json!({ "keys": changed }))?;
        // The own organization at once; the others with the next tick, which acts for nobody and may act for each.
        transaction.enqueue("secret.reencrypt", &json!({}), Duration::ZERO)?;
        Ok::<_, Problem>(changed)
    })?;
    let rotating = i64::try_from(changed).unwrap_or(i64::MAX);
    Ok(Accepted(Rotating { rotating, status: "ROTATING".into() }))
}

/// Keys are the platform's: what is done with them is in the audit of who does it.
fn note(transaction: &Transaction, action: &str, details: Value) -> Result<()> {
    let own = auth::principal().organization_id;
    let subject = Subject { organization_id: own.as_deref(), secret_id: None, secret_name: None };
    audit::note(transaction, &subject, action, Outcome::Success, details)
}

/// `DELETE /api/secrets/keys/{id}`: destroys a retired key that nothing refers to.
pub(crate) fn destroy(Params(id): Params<Id>) -> Result<NoContent> {
    rights::require_platform()?;
    database::transaction(|transaction| {
        let row = transaction
            .query_one("SELECT status FROM secret_encryption_keys WHERE id = $1 FOR UPDATE", params![&id])?
            .ok_or_else(|| Problem::missing("key"))?;
        let status: KeyStatus = row.get("status")?;
        let used = transaction.query_one("SELECT id FROM secret_versions WHERE key_id = $1 LIMIT 1", params![&id])?;
        if used.is_some() || !matches!(status, KeyStatus::Retired | KeyStatus::Destroyed) {
            return Err(Problem::conflict("A key is destroyed only when it is retired and no version refers to it."));
        }
        transaction.execute(
            "UPDATE secret_encryption_keys SET status = 'DESTROYED', wrapped_key = $2, updated_at = $3 WHERE id = $1",
            params![&id, Vec::<u8>::new(), clock::now()],
        )?;
        note(transaction, "key.destroy", json!({ "keyId": id }))?;
        Ok(NoContent)
    })
}

/// The timer `reencrypt`: sends one message for each organization that has a rotation open.
pub(crate) fn tick(_: &Envelope) -> Result<()> {
    #[data]
    struct Row {
        owner: String,
    }
    let open: Vec<Row> = database::query_as(
        &Pool,
        &format!(
            "SELECT DISTINCT owner FROM secret_encryption_keys WHERE status = 'ROTATING' ORDER BY owner LIMIT {ORGANIZATIONS_MAX}"
        ),
        params![],
    )?;
    for Row { owner } in open {
        let message = Message::new("secret.reencrypt", &json!({}))?;
        let message = if owner.is_empty() { message } else { message.for_organization(owner) };
        events::enqueue_message(&message)?;
    }
    Ok(())
}

#[data]
struct Work {
    after_id: Option<String>,
}

struct Held {
    id: String,
    place: versions::Where,
    key_id: String,
    nonce: Vec<u8>,
    ciphertext: Vec<u8>,
}

/// Handles `secret.reencrypt`: one batch of the organization that the message is for.
pub(crate) fn step(envelope: &Envelope) -> Result<()> {
    let Work { after_id } = envelope.data()?;
    let owner = auth::principal().organization_id.unwrap_or_default();
    let old = rotating(&owner)?;
    if old.is_empty() {
        return Ok(());
    }
    // Before the transaction: both may make the host write.
    let new = super::active(&owner)?;
    let mut keys = BTreeMap::new();
    for id in &old {
        if let Some(key) = super::find(&owner, id)? {
            keys.insert(id.clone(), key);
        }
    }
    let batch = batch(&owner, after_id.as_deref().unwrap_or_default())?;
    let last = batch.last().map(|held| held.id.clone()).filter(|_| batch.len() as i64 == BATCH);
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        for held in &batch {
            match keys.get(&held.key_id).and_then(|key| again(held, key, &new)) {
                Some((nonce, ciphertext)) => {
                    // On the condition that nobody has written it meanwhile.
                    transaction.execute(
                        "UPDATE secret_versions SET key_id = $3, nonce = $4, ciphertext = $5, updated_at = $6 \
                         WHERE id = $1 AND key_id = $2",
                        params![
                            held.id.as_str(),
                            held.key_id.as_str(),
                            new.id.as_str(),
                            nonce,
                            ciphertext,
                            clock::now()
                        ],
                    )?;
                }
                None => logging::error!("a version cannot be re-encrypted: it does not open", version = held.id),
            }
        }
        match last {
            Some(after_id) => {
                transaction.enqueue("secret.reencrypt", &json!({ "afterId": after_id }), Duration::ZERO)?;
                Ok(())
            }
            None => retire(transaction, &old),
        }
    })
}

fn again(held: &Held, old: &DataKey, new: &DataKey) -> Option<(Vec<u8>, Vec<u8>)> {
    let plain = cipher::open(&old.bytes, &held.nonce, held.place.as_place(), &held.ciphertext)?;
    let nonce = berth_sdk::secrets::random(u32::try_from(cipher::NONCE_BYTES).ok()?).ok()?;
    let ciphertext = cipher::seal(&new.bytes, &nonce, held.place.as_place(), &plain)?;
    Some((nonce, ciphertext))
}

fn rotating(owner: &str) -> Result<Vec<String>> {
    let rows = database::query(
        "SELECT id FROM secret_encryption_keys WHERE owner = $1 AND status = 'ROTATING' ORDER BY id",
        params![owner],
    )?;
    Ok(rows.into_iter().map(|row| row.get("id")).collect::<Result<_, Fault>>()?)
}

fn batch(owner: &str, after_id: &str) -> Result<Vec<Held>> {
    // Retired keys too: whoever wrote while a key was being retired is found with the next rotation.
    let rows = database::query(
        &format!(
            "SELECT v.id, v.secret_id, v.version, v.key_id, v.nonce, v.ciphertext, s.type, s.organization_id \
             FROM secret_versions v JOIN secret_encryption_keys k ON k.id = v.key_id \
             JOIN secret_secrets s ON s.id = v.secret_id \
             WHERE k.owner = $1 AND k.status IN ('ROTATING', 'RETIRED') AND v.destroyed_at IS NULL AND v.id > $2 \
             ORDER BY v.id LIMIT {BATCH}"
        ),
        params![owner, after_id],
    )?;
    rows.into_iter()
        .map(|row| {
            Ok(Held {
                id: row.get("id")?,
                place: versions::Where::of_row(&row)?,
                key_id: row.get("key_id")?,
                nonce: row.get("nonce")?,
                ciphertext: row.get("ciphertext")?,
            })
        })
        .collect()
}

/// Retires the keys that no version refers to any more.
fn retire(transaction: &Transaction, old: &[String]) -> Result<()> {
    for id in old {
        let changed = transaction.execute(
            "UPDATE secret_encryption_keys SET status = 'RETIRED', retired_at = $2, updated_at = $2 WHERE id = $1 \
             AND status = 'ROTATING' AND NOT EXISTS (SELECT 1 FROM secret_versions v WHERE v.key_id = $1 AND v.destroyed_at IS NULL)",
            params![id.as_str(), clock::now()],
        )?;
        if changed == 1 {
            transaction.publish("secret.key.rotated", &json!({ "keyId": id }))?;
        }
    }
    Ok(())
}
