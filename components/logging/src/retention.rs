//! What is deleted, and when: old log lines, audit entries whose time is over, exports nobody fetches any more.

use std::time::{Duration, Instant};

use berth_sdk::prelude::*;

use crate::audit::{append, configuration, entry::Writer, policy, verification};

/// How long log lines are kept when the setting `log_days` does not say.
const LOG_DAYS: u32 = 30;
/// Rows that one statement deletes.
const DELETED: i64 = 5_000;
/// Audit entries that one step of retention deletes, where checkpoints are no further apart.
const PRUNED: i64 = 50_000;
/// How long one call deletes; the rest follows in a message.
const WORKING: Duration = Duration::from_secs(5);

/// `DELETE /api/logs?before=`: what was logged before a moment. What takes longer is done by a message.
pub(crate) fn delete_logs(query: PageQuery) -> Result<NoContent> {
    let text = query.filter("before").ok_or_else(|| Problem::field("before", "is required"))?;
    let before = Timestamp::parse(&text)
        .ok_or_else(|| Problem::field("before", "must be a time such as 2026-01-31T08:15:00.000Z"))?;
    let note = configuration::note("logs.deleted", json!({ "before": before }));
    let writer = Writer::caller(Some("logging".into()));
    database::transaction(|transaction| append::append(transaction, &writer, vec![note]))?;
    if !purge(before)? {
        events::enqueue("logging.purge.run", &json!({ "before": before }), Duration::ZERO)?;
    }
    Ok(NoContent)
}

/// The work of a purge.
#[data]
struct Purge {
    before: Timestamp,
}

/// Handles `logging.purge.run`.
pub(crate) fn run_purge(envelope: &Envelope) -> Result<()> {
    let work: Purge = envelope.data()?;
    if !purge(work.before)? {
        events::enqueue("logging.purge.run", &json!({ "before": work.before }), Duration::ZERO)?;
    }
    Ok(())
}

/// Deletes lines for a while; false when some are left.
fn purge(before: Timestamp) -> Result<bool> {
    let organization_id = auth::organization_id()?;
    let begun = Instant::now();
    loop {
        let deleted = database::execute(
            "DELETE FROM log_logs WHERE id IN \
             (SELECT id FROM log_logs WHERE organization_id = $1 AND logged_ms < $2 ORDER BY logged_ms LIMIT $3)",
            params![&organization_id, before.millis(), DELETED],
        )?;
        if i64::try_from(deleted).unwrap_or(i64::MAX) < DELETED {
            return Ok(true);
        }
        if begun.elapsed() > WORKING {
            return Ok(false);
        }
    }
}

/// The timer `retention`: a message for each organization.
pub(crate) fn tick(_: &Envelope) -> Result<()> {
    let rows = database::query(
        "SELECT organization_id FROM log_heads UNION SELECT organization_id FROM audit_chains WHERE organization_id IS NOT NULL \
         ORDER BY organization_id LIMIT 10000",
        params![],
    )?;
    for row in rows {
        let organization_id: String = row.get("organization_id")?;
        events::enqueue_message(
            &events::Message::new("logging.retention.run", &json!({}))?.for_organization(organization_id),
        )?;
    }
    Ok(())
}

/// Handles `logging.retention.run`.
pub(crate) fn run(_: &Envelope) -> Result<()> {
    let organization_id = auth::organization_id()?;
    let days: u32 = config::get("log_days").unwrap_or(LOG_DAYS).clamp(1, 3_650);
    let now = clock::now();
    let border = now.minus(Duration::from_secs(u64::from(days) * 86_400));
    if !purge(border)? {
        events::enqueue("logging.purge.run", &json!({ "before": border }), Duration::ZERO)?;
    }
    database::execute(
        "DELETE FROM log_services WHERE organization_id = $1 AND last_at < $2",
        params![&organization_id, border],
    )?;
    database::execute(
        "DELETE FROM audit_export_parts WHERE export_id IN \
         (SELECT id FROM audit_exports WHERE organization_id = $1 AND expires_at < $2)",
        params![&organization_id, now],
    )?;
    // A day longer, so that whoever comes late learns that it is gone.
    database::execute(
        "DELETE FROM audit_exports WHERE organization_id = $1 AND expires_at < $2",
        params![&organization_id, now.minus(Duration::from_secs(86_400))],
    )?;
    if prune(&organization_id, now)? > 0 {
        // There may be more than one step takes.
        events::enqueue("logging.retention.run", &json!({}), Duration::ZERO)?;
    }
    Ok(())
}

/// Deletes the beginning of the audit chain, up to a verified checkpoint before the first entry that must stay. Answers how
/// many entries went.
fn prune(organization_id: &Id, now: Timestamp) -> Result<u64> {
    let chain = organization_id.as_str();
    let writer = Writer::caller(Some("logging".into()));
    let deleted = database::transaction(|transaction| {
        append::take_turn(transaction, &writer)?;
        let Some(must_stay) = policy::must_stay(&policy::all(transaction)?, now) else { return Ok::<_, Problem>(0) };
        let head = verification::head(transaction, chain)?.ok_or_else(Problem::internal)?;
        let first = transaction.query_one(
            &format!("SELECT sequence FROM audit_logs WHERE chain = $1 AND {must_stay} ORDER BY sequence LIMIT 1"),
            params![chain],
        )?;
        let first_kept = first.map_or(Ok(head.last_sequence + 1), |row| row.get("sequence"))?;
        let Some((sequence, hash)) = border(transaction, chain, head.pruned_sequence, first_kept)? else {
            return Ok(0);
        };
        let deleted = transaction
            .execute("DELETE FROM audit_logs WHERE chain = $1 AND sequence <= $2", params![chain, sequence])?;
        transaction.execute(
            "UPDATE audit_chains SET pruned_sequence = $2, pruned_hash = $3 WHERE chain = $1",
            params![chain, sequence, hash],
        )?;
        let note = configuration::note("audit.retention.deleted", json!({ "upTo": sequence, "rows": deleted }));
        append::append(transaction, &writer, vec![note])?;
        Ok(deleted)
    })?;
    if deleted > 0 {
        logging::info!("old audit entries were deleted", rows = deleted);
    }
    Ok(deleted)
}

/// The verified checkpoint up to which one step deletes: the last one within so many entries, and where they lie further
/// apart, as after a long list at once, the next one.
fn border(database: &dyn Executor, chain: &str, pruned: i64, first_kept: i64) -> Result<Option<(i64, String)>> {
    let within = first_kept.min(pruned + PRUNED + 1);
    for (before, order) in [(within, "DESC"), (first_kept, "ASC")] {
        let sql = format!(
            "SELECT last_sequence, last_hash FROM audit_hash_checkpoints WHERE chain = $1 AND status = 'VERIFIED' \
             AND last_sequence > $2 AND last_sequence < $3 ORDER BY last_sequence {order} LIMIT 1"
        );
        if let Some(row) = database.query_one(&sql, params![chain, pruned, before])? {
            return Ok(Some((row.get("last_sequence")?, row.get("last_hash")?)));
        }
    }
    Ok(None)
}
