//! Verifying a chain: walking along it and saying where it is broken first.

use std::collections::BTreeMap;

use berth_sdk::prelude::*;

use super::chain::{Break, COLUMNS, Reason, Row, Walk};
use crate::access;

/// Rows of one request; a longer chain is verified by several.
const ROWS_MAX: i64 = 50_000;
/// Rows of one look; fewer where these are too large together, or one of them cannot be read.
const LOOK: i64 = 1_000;
/// Checkpoints among the rows of one request that are compared with, the latest.
const CHECKPOINTS_MAX: i64 = 10_000;

/// What is known of the hash after some rows: from checkpoints, or kept elsewhere.
pub(crate) type Known = BTreeMap<i64, Vec<String>>;

/// The question.
#[data]
pub(crate) struct Question {
    /// From this row on; from the first that is kept when it is left out.
    #[field(min = 1)]
    from_sequence: Option<i64>,
    /// Up to this row; to the last when it is left out.
    #[field(min = 1)]
    to_sequence: Option<i64>,
    /// What was kept elsewhere, to be sure of what the database says about itself.
    anchor: Option<Anchor>,
    /// GLOBAL: what concerns no organization.
    scope: Option<Scope>,
}

/// The number and the hash of a row.
#[data]
struct Anchor {
    #[field(min = 1)]
    sequence: i64,
    #[field(min = 64, max = 64)]
    hash: String,
}

/// Which chain.
#[choice(upper)]
enum Scope {
    Organization,
    Global,
}

/// The answer.
#[data]
pub(crate) struct Verdict {
    pub valid: bool,
    /// The first broken row.
    pub first_broken_id: Option<String>,
    pub first_broken_sequence: Option<i64>,
    pub reason: Option<super::chain::Reason>,
    pub detail: Option<String>,
    /// Rows looked at, and those of them that were written while the chain was switched off.
    pub checked: i64,
    pub unchained: i64,
    pub from_sequence: i64,
    pub to_sequence: i64,
    /// Verified checkpoints that were compared with.
    pub checkpoints: i64,
    /// The hash after the last row looked at: keep it elsewhere.
    pub last_hash: String,
    /// Whether it went to the end; otherwise go on at `nextSequence`.
    pub is_complete: bool,
    pub next_sequence: Option<i64>,
}

/// What is known of a chain.
pub(crate) struct Head {
    pub last_sequence: i64,
    pub last_hash: String,
    pub pruned_sequence: i64,
    pub pruned_hash: String,
}

/// What is known of a chain; none before its first row.
pub(crate) fn head(database: &dyn Executor, chain: &str) -> Result<Option<Head>> {
    let row = database.query_one(
        "SELECT last_sequence, last_hash, pruned_sequence, pruned_hash FROM audit_chains WHERE chain = $1",
        params![chain],
    )?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Head {
        last_sequence: row.get("last_sequence")?,
        last_hash: row.get("last_hash")?,
        pruned_sequence: row.get("pruned_sequence")?,
        pruned_hash: row.get("pruned_hash")?,
    }))
}

/// Rows after a number, up to another, in their order: so many as can be read at once. None where the first of them cannot be read at all.
fn rows(database: &dyn Executor, chain: &str, after: i64, to: i64) -> Result<Option<Vec<Row>>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM audit_logs WHERE chain = $1 AND sequence > $2 AND sequence <= $3 ORDER BY sequence LIMIT $4"
    );
    let read = |look: i64| -> Result<Vec<Row>, Fault> {
        database.query(&sql, params![chain, after, to, look])?.into_iter().map(|row| Row::read(&row)).collect()
    };
    let mut look = LOOK;
    loop {
        match read(look) {
            Ok(rows) => return Ok(Some(rows)),
            Err(Fault::TooLarge(_) | Fault::Invalid(_)) if look > 1 => look /= 2,
            Err(Fault::TooLarge(_) | Fault::Invalid(_)) => return Ok(None),
            Err(fault) => return Err(fault.into()),
        }
    }
}

/// The number of the row that comes after another, up to a third; none when it cannot be read either.
fn next_number(database: &dyn Executor, chain: &str, after: i64, to: i64) -> Option<i64> {
    let row = database.query_one(
        "SELECT sequence FROM audit_logs WHERE chain = $1 AND sequence > $2 AND sequence <= $3 ORDER BY sequence LIMIT 1",
        params![chain, after, to],
    );
    row.ok()??.get("sequence").ok()
}

/// The id of a row; none when there is no such row, or it cannot be read.
pub(crate) fn id_of(database: &dyn Executor, chain: &str, sequence: i64) -> Option<String> {
    let row =
        database.query_one("SELECT id FROM audit_logs WHERE chain = $1 AND sequence = $2", params![chain, sequence]);
    row.ok()??.get("id").ok()
}

/// The hash that a chain has after a row: that of the row, or of the last one before it that was chained.
fn hash_after(database: &dyn Executor, chain: &str, sequence: i64, head: &Head) -> Result<String> {
    if sequence <= head.pruned_sequence {
        return Ok(head.pruned_hash.clone());
    }
    let row = database.query_one(
        "SELECT hash FROM audit_logs WHERE chain = $1 AND sequence <= $2 AND hash <> '' ORDER BY sequence DESC LIMIT 1",
        params![chain, sequence],
    );
    match row.and_then(|row| row.map(|row| row.get("hash")).transpose()) {
        Ok(hash) => Ok(hash.unwrap_or_else(|| head.pruned_hash.clone())),
        // What is no text is no hash: the row after it names another one.
        Err(Fault::Invalid(_)) => Ok(String::new()),
        Err(fault) => Err(fault.into()),
    }
}

/// Walks on up to a row, at most so many rows, and compares at each of the known places. Answers the first fault.
pub(crate) fn walk(
    database: &dyn Executor,
    chain: &str,
    walk: &mut Walk,
    to: i64,
    rows_max: i64,
    known: &Known,
) -> Result<Option<Break>> {
    let begun = walk.checked;
    while walk.sequence < to && walk.checked - begun < rows_max {
        let Some(next) = rows(database, chain, walk.sequence, to)? else {
            let sequence = next_number(database, chain, walk.sequence, to).unwrap_or(walk.sequence + 1);
            return Ok(Some(walk.unreadable(id_of(database, chain, sequence), sequence)));
        };
        if next.is_empty() {
            break;
        }
        for row in &next {
            if let Some(found) = walk.step(row) {
                return Ok(Some(found));
            }
            let mut hashes = known.get(&row.sequence).into_iter().flatten();
            if let Some(found) = hashes.find_map(|hash| walk.compare(hash)) {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// `POST /api/audit-logs/verification/verify`.
pub(crate) fn verify(question: Option<Json<Question>>) -> Result<Json<Verdict>> {
    access::require_admin()?;
    let question = question.map(|Json(question)| question);
    let is_global = question.as_ref().is_some_and(|question| question.scope == Some(Scope::Global));
    let chain = match (is_global, auth::principal().is_platform) {
        (true, true) => String::new(),
        (true, false) => {
            return Err(Problem::forbidden("Only the platform's administrators verify what is everybody's."));
        }
        (false, _) => auth::organization_id()?.into_string(),
    };
    let head = head(&Pool, &chain)?.unwrap_or(Head {
        last_sequence: 0,
        last_hash: String::new(),
        pruned_sequence: 0,
        pruned_hash: String::new(),
    });
    let verdict = judge(&chain, &head, question.as_ref())?;
    // Retention may have deleted what was just being read.
    let now_pruned = self::head(&Pool, &chain)?.map_or(0, |head| head.pruned_sequence);
    let verdict = if !verdict.valid && now_pruned != head.pruned_sequence {
        let head = self::head(&Pool, &chain)?.ok_or_else(Problem::internal)?;
        judge(&chain, &head, question.as_ref())?
    } else {
        verdict
    };
    if !verdict.valid && !chain.is_empty() {
        events::publish("audit.verification.failed", &failure(&verdict))?;
    }
    Ok(Json(verdict))
}

fn failure(verdict: &Verdict) -> berth_sdk::serde_json::Value {
    json!({
        "firstBrokenId": verdict.first_broken_id,
        "sequence": verdict.first_broken_sequence,
        "reason": verdict.reason,
        "detail": verdict.detail,
    })
}

fn judge(chain: &str, head: &Head, question: Option<&Question>) -> Result<Verdict> {
    let asked_from = question.and_then(|question| question.from_sequence).unwrap_or(1);
    let asked_to = question.and_then(|question| question.to_sequence).unwrap_or(i64::MAX);
    if asked_from > asked_to {
        return Err(Problem::field("fromSequence", "must not be after toSequence"));
    }
    let after = (asked_from - 1).clamp(head.pruned_sequence, head.last_sequence.max(head.pruned_sequence));
    let to = asked_to.min(head.last_sequence);
    let mut known = checkpoints(chain, after, to)?;
    let compared = i64::try_from(known.values().map(Vec::len).sum::<usize>()).unwrap_or(i64::MAX);
    let is_whole = asked_to >= head.last_sequence;
    let mut lost = None;
    if let Some(anchor) = question.and_then(|question| question.anchor.as_ref()) {
        if is_whole && anchor.sequence > to {
            // Whoever kept it has seen rows that the chain says it never had.
            lost = Some(anchor.sequence);
        } else if anchor.sequence <= head.pruned_sequence || anchor.sequence > to {
            return Err(Problem::field("anchor.sequence", "must be the number of a row that is verified"));
        } else {
            known.entry(anchor.sequence).or_default().push(anchor.hash.to_lowercase());
        }
    }
    let mut walker = Walk::after(after, &hash_after(&Pool, chain, after, head)?);
    let mut found = walk(&Pool, chain, &mut walker, to, ROWS_MAX, &known)?;
    // Where the walk ended before its end without having looked at all it may, rows are missing.
    let was_cut = walker.sequence < to && walker.checked >= ROWS_MAX;
    if found.is_none() && !was_cut {
        found = if is_whole { walker.finish(to, &head.last_hash) } else { walker.finish(to, &walker.hash.clone()) };
        if is_whole && found.is_none() {
            found = match lost.max(checkpoint_beyond(chain)?) {
                Some(sequence) => Some(walker.cut_off(sequence)),
                None => stray(chain, head)?,
            };
        }
    }
    let is_complete = found.is_none() && !was_cut;
    Ok(Verdict {
        valid: found.is_none(),
        first_broken_id: found.as_ref().and_then(|found| found.log_id.clone()),
        first_broken_sequence: found.as_ref().map(|found| found.sequence),
        reason: found.as_ref().map(|found| found.reason),
        detail: found.map(|found| found.detail),
        checked: walker.checked,
        unchained: walker.unchained,
        from_sequence: after + 1,
        to_sequence: walker.sequence,
        checkpoints: compared,
        last_hash: walker.hash,
        is_complete,
        next_sequence: was_cut.then_some(walker.sequence + 1),
    })
}

/// The last verified checkpoint of rows that the chain says it never had. One statement, as below: nobody appends meanwhile.
fn checkpoint_beyond(chain: &str) -> Result<Option<i64>> {
    let row = database::query_one(
        "SELECT last_sequence FROM audit_hash_checkpoints WHERE chain = $1 AND status = 'VERIFIED' AND last_sequence > \
         COALESCE((SELECT c.last_sequence FROM audit_chains c WHERE c.chain = $1), 0) ORDER BY last_sequence DESC LIMIT 1",
        params![chain],
    )?;
    Ok(row.map(|row| row.get("last_sequence")).transpose()?)
}

/// A row where the chain has none: after its last one, in the place of those that retention deleted, or without a chain.
fn stray(chain: &str, head: &Head) -> Result<Option<Break>> {
    const BESIDE: &str = "SELECT a.id AS id, a.sequence AS sequence FROM audit_chains c JOIN audit_logs a ON a.chain = c.chain \
         WHERE c.chain = $1 AND a.sequence > c.last_sequence \
         UNION ALL SELECT a.id AS id, a.sequence AS sequence FROM audit_chains c JOIN audit_logs a ON a.chain = c.chain \
         WHERE c.chain = $1 AND a.sequence <= c.pruned_sequence ORDER BY sequence LIMIT 1";
    const WITHOUT: &str = "SELECT a.id AS id, a.sequence AS sequence FROM audit_logs a \
         WHERE a.chain = $1 AND NOT EXISTS (SELECT 1 FROM audit_chains c WHERE c.chain = $1) ORDER BY sequence LIMIT 1";
    let sql = if head.last_sequence == 0 { WITHOUT } else { BESIDE };
    let Some(row) = database::query_one(sql, params![chain])? else { return Ok(None) };
    let (log_id, sequence) = (Some(row.get("id")?), row.get("sequence")?);
    Ok(Some(Break {
        reason: Reason::Inserted,
        log_id,
        sequence,
        detail: "The chain has no row of this number.".into(),
    }))
}

/// Verified checkpoints between two rows, as far as one request goes.
fn checkpoints(chain: &str, after: i64, to: i64) -> Result<Known> {
    let rows = database::query(
        "SELECT last_sequence, last_hash FROM audit_hash_checkpoints \
         WHERE chain = $1 AND status = 'VERIFIED' AND last_sequence > $2 AND last_sequence <= $3 ORDER BY last_sequence DESC LIMIT $4",
        params![chain, after, to.min(after.saturating_add(ROWS_MAX)), CHECKPOINTS_MAX],
    )?;
    let mut known = Known::new();
    for row in rows {
        known.entry(row.get("last_sequence")?).or_default().push(row.get("last_hash")?);
    }
    Ok(known)
}
