//! Checkpoints: a place of the chain up to which it was verified once. From there on it is verified again, and only what
//! lies before one may be deleted.

use std::time::Duration;

use berth_sdk::{prelude::*, serde_json::Value};

use super::{
    chain::{Break, Walk},
    verification::{self, Known},
};
use crate::access;

/// Rows of one part of a verification.
const PART: i64 = 5_000;

/// How far a checkpoint is.
#[choice(upper)]
pub(crate) enum Status {
    Pending,
    Verified,
    Failed,
}

/// A checkpoint.
#[entity(table = "audit_hash_checkpoints", name = "checkpoint", sort = "-lastSequence")]
pub(crate) struct Checkpoint {
    #[field(hidden, readonly, default)]
    pub chain: String,
    pub checkpoint_timestamp: Timestamp,
    pub last_log_id: String,
    pub last_sequence: i64,
    pub last_hash: String,
    /// Rows since the checkpoint before it.
    pub log_count: i64,
    pub status: Status,
    /// Where the chain is broken.
    pub failure: Option<Value>,
}

impl Rules for Checkpoint {}

/// The next part of a verification.
#[data]
struct Part {
    checkpoint_id: Id,
    /// The row up to which it went, and the hash there.
    sequence: i64,
    hash: String,
}

/// `GET /api/audit-logs/verification/checkpoints`.
pub(crate) fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Checkpoint>>>> {
    access::require_admin()?;
    Select::new().page(&Pool, &query)
}

/// `POST /api/audit-logs/verification/checkpoint`: at the last row. 201, verified or failed where the chain is short;
/// otherwise pending, and verified in parts.
pub(crate) fn create() -> Result<Created<Stored<Checkpoint>>> {
    access::require_admin()?;
    let row = make()?.ok_or_else(|| Problem::conflict("There is no entry yet of which it could be made."))?;
    Ok(Created(row))
}

/// The timer `checkpoint`: one for each chain that has grown since the last one that has come to its end.
pub(crate) fn tick(_: &Envelope) -> Result<()> {
    let rows = database::query(
        "SELECT c.organization_id FROM audit_chains c WHERE c.organization_id IS NOT NULL AND c.last_sequence > \
         COALESCE((SELECT MAX(k.last_sequence) FROM audit_hash_checkpoints k WHERE k.chain = c.chain AND k.status <> 'PENDING'), 0) \
         LIMIT 5000",
        params![],
    )?;
    for row in rows {
        let organization_id: String = row.get("organization_id")?;
        events::enqueue_message(
            &events::Message::new("logging.checkpoint.make", &json!({}))?.for_organization(organization_id),
        )?;
    }
    Ok(())
}

/// Handles `logging.checkpoint.make`.
pub(crate) fn make_due(_: &Envelope) -> Result<()> {
    make().map(|_| ())
}

/// Makes a checkpoint at the last row and verifies its first part.
fn make() -> Result<Option<Stored<Checkpoint>>> {
    let chain = auth::organization_id()?.into_string();
    let (row, start) = database::transaction(|transaction| {
        let Some(head) =
            verification::head(transaction, &chain)?.filter(|head| head.last_sequence > head.pruned_sequence)
        else {
            return Ok::<_, Problem>((None, None));
        };
        let start = start_before(transaction, &chain, head.last_sequence, (head.pruned_sequence, head.pruned_hash))?;
        // One that was begun and not brought to its end is begun again.
        let begun = Select::<Checkpoint>::new()
            .equal("chain", &chain)
            .equal("last_sequence", head.last_sequence)
            .equal("status", Status::Pending)
            .first(transaction)?;
        if let Some(row) = begun {
            return Ok((Some(row), Some(start)));
        }
        let checkpoint = Checkpoint {
            chain: chain.clone(),
            checkpoint_timestamp: clock::now(),
            // Without the row the verification fails, and says so.
            last_log_id: verification::id_of(transaction, &chain, head.last_sequence).unwrap_or_default(),
            last_sequence: head.last_sequence,
            last_hash: head.last_hash,
            log_count: head.last_sequence - start.0,
            status: Status::Pending,
            failure: None,
        };
        Ok((Some(entity::create(transaction, checkpoint)?), Some(start)))
    })?;
    let (Some(row), Some((sequence, hash))) = (row, start) else { return Ok(None) };
    let part = Part { checkpoint_id: row.id.clone(), sequence, hash };
    let (walk, found) = look(&row, &part)?;
    database::transaction(|transaction| note(transaction, &row.id, &walk, found)).map(Some)
}

/// From where a checkpoint is verified: the last verified one before it, or what retention left.
fn start_before(database: &dyn Executor, chain: &str, sequence: i64, pruned: (i64, String)) -> Result<(i64, String)> {
    let row = database.query_one(
        "SELECT last_sequence, last_hash FROM audit_hash_checkpoints \
         WHERE chain = $1 AND status = 'VERIFIED' AND last_sequence < $2 AND last_sequence >= $3 ORDER BY last_sequence DESC LIMIT 1",
        params![chain, sequence, pruned.0],
    )?;
    match row {
        Some(row) => Ok((row.get("last_sequence")?, row.get("last_hash")?)),
        None => Ok(pruned),
    }
}

/// Looks at one part, without a transaction: rows before the checkpoint do not change.
fn look(row: &Stored<Checkpoint>, part: &Part) -> Result<(Walk, Option<Break>)> {
    let mut walk = Walk::after(part.sequence, &part.hash);
    let found = verification::walk(&Pool, &row.chain, &mut walk, row.last_sequence, PART, &Known::new())?;
    let is_at_end = walk.sequence == row.last_sequence;
    let is_cut = walk.checked >= PART && !is_at_end;
    let found = found.or_else(|| if is_cut { None } else { walk.finish(row.last_sequence, &row.last_hash) });
    Ok((walk, found))
}

/// Notes what a part has shown: the end, a fault, or where to go on.
fn note(transaction: &Transaction, id: &Id, walk: &Walk, found: Option<Break>) -> Result<Stored<Checkpoint>> {
    let mut row = entity::read::<Checkpoint>(transaction, id)?;
    match found {
        Some(found) => {
            row.status = Status::Failed;
            row.failure = Some(json!(found));
            let data = json!({
                "checkpointId": id.as_str(),
                "firstBrokenId": found.log_id,
                "sequence": found.sequence,
                "reason": found.reason,
                "detail": found.detail,
            });
            transaction.publish("audit.verification.failed", &data)?;
        }
        None if walk.sequence < row.last_sequence => {
            let part = Part { checkpoint_id: id.clone(), sequence: walk.sequence, hash: walk.hash.clone() };
            transaction.enqueue("logging.checkpoint.run", &json!(part), Duration::ZERO)?;
            return Ok(row);
        }
        None => {
            row.status = Status::Verified;
            row.failure = None;
        }
    }
    entity::save(transaction, &mut row)?;
    Ok(row)
}

/// Handles `logging.checkpoint.run`: the next part.
pub(crate) fn run(envelope: &Envelope) -> Result<()> {
    let part: Part = envelope.data()?;
    let Some(row) = entity::find::<Checkpoint>(&Pool, &part.checkpoint_id)? else { return Ok(()) };
    let (walk, found) = look(&row, &part)?;
    database::transaction(|transaction| {
        if transaction.once(&envelope.id)? {
            note(transaction, &row.id, &walk, found)?;
        }
        Ok(())
    })
}

/// `POST /api/audit-logs/verification/checkpoint/{id}/verify`: again, from the one before it.
pub(crate) fn verify(Params(id): Params<Id>) -> Result<Stored<Checkpoint>> {
    access::require_admin()?;
    let row = entity::read::<Checkpoint>(&Pool, &id)?;
    let head = verification::head(&Pool, &row.chain)?.ok_or_else(Problem::internal)?;
    if row.last_sequence <= head.pruned_sequence {
        return Err(Problem::gone("Retention has deleted the entries before it."));
    }
    let (sequence, hash) =
        start_before(&Pool, &row.chain, row.last_sequence, (head.pruned_sequence, head.pruned_hash))?;
    let part = Part { checkpoint_id: row.id.clone(), sequence, hash };
    let (walk, found) = look(&row, &part)?;
    database::transaction(|transaction| note(transaction, &row.id, &walk, found))
}
