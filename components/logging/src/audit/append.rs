//! Appending to a chain, and the routes that do.

use berth_sdk::{database::Bulk, prelude::*};

use super::{
    alert,
    chain::Row,
    configuration,
    entry::{self, NewEntry, Report, Writer},
};

/// An entry that was written.
#[data]
pub(crate) struct Written {
    pub id: String,
    pub sequence: i64,
    pub hash: String,
}

/// The columns of a row but those that all of a batch share.
const COLUMNS: [&str; 18] = [
    "id",
    "sequence",
    "timestamp",
    "time_ms",
    "user_id",
    "session_id",
    "ip_address",
    "user_agent",
    "action",
    "category",
    "severity",
    "resource_type",
    "resource_id",
    "message",
    "metadata",
    "correlation_id",
    "previous_hash",
    "hash",
];

/// Waits for the chain's turn and answers its last number and hash: from here on nobody else appends to it until the
/// transaction ends. It is the first thing a transaction does, but for noting a message as handled.
pub(crate) fn take_turn(transaction: &Transaction, writer: &Writer) -> Result<(i64, String)> {
    let row = transaction.query_one(
        "INSERT INTO audit_chains (chain, organization_id, last_sequence, last_hash, pruned_sequence, pruned_hash, updated_at) \
         VALUES ($1, $2, 0, '', 0, '', $3) ON CONFLICT (chain) DO UPDATE SET updated_at = $3 RETURNING last_sequence, last_hash",
        params![writer.chain(), &writer.organization_id, writer.now],
    )?;
    let row = row.ok_or_else(Problem::internal)?;
    Ok((row.get("last_sequence")?, row.get("last_hash")?))
}

/// Appends entries to the writer's chain, and raises the alerts they are reason for.
pub(crate) fn append(transaction: &Transaction, writer: &Writer, entries: Vec<NewEntry>) -> Result<Vec<Row>> {
    let (mut sequence, mut last_hash) = take_turn(transaction, writer)?;
    let settings = configuration::of(transaction)?;
    let mut rows = Vec::with_capacity(entries.len());
    for entry in entries {
        let mut row = entry::row(entry, writer, &settings);
        sequence += 1;
        row.sequence = sequence;
        if settings.hash_chain_enabled {
            row.previous_hash = Some(last_hash).filter(|hash| !hash.is_empty());
            row.hash = row.digest();
            last_hash = row.hash.clone();
        }
        rows.push(row);
    }
    Bulk::into("audit_logs")
        .shared("organization_id", &writer.organization_id)
        .shared("created_by", &writer.created_by)
        .shared("chain", writer.chain())
        .shared("received_at", writer.now)
        .shared("received_ms", writer.now.millis())
        .shared("source", writer.source.as_str())
        .columns(&COLUMNS)
        .insert(transaction, rows.iter().map(values))?;
    transaction.execute(
        "UPDATE audit_chains SET last_sequence = $2, last_hash = $3 WHERE chain = $1",
        params![writer.chain(), sequence, last_hash],
    )?;
    if settings.alerts_enabled && writer.organization_id.is_some() {
        alert::consider(transaction, &rows, writer.now)?;
    }
    Ok(rows)
}

fn values(row: &Row) -> Vec<database::Value> {
    vec![
        (&row.id).into(),
        row.sequence.into(),
        database::Value::Timestamp(row.timestamp.clone()),
        row.time_ms.into(),
        (&row.user_id).into(),
        (&row.session_id).into(),
        (&row.ip_address).into(),
        (&row.user_agent).into(),
        (&row.action).into(),
        (&row.category).into(),
        (&row.severity).into(),
        (&row.resource_type).into(),
        (&row.resource_id).into(),
        (&row.message).into(),
        (&row.metadata).into(),
        (&row.correlation_id).into(),
        (&row.previous_hash).into(),
        (&row.hash).into(),
    ]
}

/// The answer of a batch.
#[data]
pub(crate) struct Appended {
    accepted: i64,
    items: Vec<Written>,
}

fn appended(mut report: Report, request: &Request) -> Result<Vec<Row>> {
    auth::organization_id()?;
    for entry in &mut report.entries {
        entry::complete(entry, request)?;
    }
    let writer = Writer::caller(auth::principal().source_service);
    database::transaction(|transaction| append(transaction, &writer, report.entries))
}

/// `POST /api/audit-logs`: one entry.
pub(crate) fn create(report: Report, request: Request) -> Result<Created<super::read::Shown>> {
    if !report.is_single {
        return Err(Problem::bad_request("It takes one entry; send several to /api/audit-logs/batch."));
    }
    let rows = appended(report, &request)?;
    let row = rows.into_iter().next().ok_or_else(Problem::internal)?;
    Ok(Created(super::read::Shown::of(row)?))
}

/// `POST /api/audit-logs/batch`: all entries or none.
pub(crate) fn create_batch(report: Report, request: Request) -> Result<Created<Appended>> {
    let rows = appended(report, &request)?;
    let items: Vec<Written> =
        rows.into_iter().map(|row| Written { id: row.id, sequence: row.sequence, hash: row.hash }).collect();
    Ok(Created(Appended { accepted: i64::try_from(items.len()).unwrap_or(i64::MAX), items }))
}
