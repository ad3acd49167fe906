//! The audit log: rows written with the change they tell of, and rows about refused requests, which must not wait.
//!
//! It must never hold up a request, and never hold a body or a secret.

use serde_json::{Value as Json, json};
use tokio::sync::mpsc;

use super::context::{Context, new_id, stored_user_agent};
use super::error::AccountsError;
use super::list::{Select, page, timestamp};
use super::{Accounts, AuditEntry, Reply};
use crate::database::{Database, DatabaseError, Row, values};

/// Entries that may wait to be written; what is over is counted and dropped.
pub(super) const WAITING_MAX: usize = 1_024;
/// Entries written in one transaction.
const BATCH_MAX: usize = 64;

/// How long the end of the process waits for the last rows.
const CLOSE_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);

/// One audit row.
pub(super) const INSERT: &str = "INSERT INTO berth_audit_logs \
    (id, organization_id, user_id, action, resource_type, resource_id, changes, metadata, ip_address, user_agent, created_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

impl Accounts {
    /// Notes an audit row. Never waits: it goes into a bounded queue, and what does not fit is counted and dropped.
    pub(crate) fn audit(&self, entry: AuditEntry) {
        let queue = self.audit_queue.load();
        if queue.as_ref().is_none_or(|queue| queue.try_send((self.now(), entry)).is_err()) {
            let dropped = self.audit_dropped.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            // Once for every power of two, so that a flood does not become a flood of log lines.
            if dropped.is_power_of_two() {
                tracing::warn!(dropped, "audit rows were dropped: more came than could be written");
            }
        }
    }
}

impl Accounts {
    /// Writes the audit rows that still wait, and takes no more. For the end of the process.
    pub(crate) async fn close(&self) {
        self.audit_queue.store(None);
        let writer = self.audit_writer.lock().take();
        if let Some(writer) = writer
            && tokio::time::timeout(CLOSE_WITHIN, writer).await.is_err()
        {
            tracing::warn!("audit rows were still waiting when the host stopped");
        }
    }
}

/// An entry and when it happened.
pub(super) type Noted = (chrono::DateTime<chrono::Utc>, AuditEntry);

/// Writes what comes until the sender is gone.
pub(super) async fn write(database: Database, mut entries: mpsc::Receiver<Noted>) {
    let mut batch = Vec::new();
    while entries.recv_many(&mut batch, BATCH_MAX).await > 0 {
        if let Err(error) = write_batch(&database, &batch).await {
            tracing::error!(%error, rows = batch.len(), "audit rows could not be written");
        }
        batch.clear();
    }
}

async fn write_batch(database: &Database, batch: &[Noted]) -> Result<(), DatabaseError> {
    let mut transaction = database.begin().await?;
    for (at, entry) in batch {
        let row = values![
            new_id(),
            entry.organization_id.clone(),
            entry.user_id.clone(),
            entry.action.as_str(),
            entry.resource_type.as_str(),
            entry.resource_id.clone(),
            Json::Null,
            entry.metadata.clone().unwrap_or(Json::Null),
            entry.ip.map(|ip| ip.to_string()),
            stored_user_agent(entry.user_agent.as_deref()),
            *at,
        ];
        transaction.execute(INSERT, &row).await?;
    }
    transaction.commit().await
}

/// What its list is sorted by: names in JSON with their columns.
pub(super) const SORTS: [(&str, &str); 2] = [("createdAt", "created_at"), ("action", "action")];

/// `GET /api/audit`
pub(super) async fn list(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let query = &context.query;
    let paging = query.paging(&SORTS, true)?;
    let select = Select::new(
        "id, organization_id, user_id, action, resource_type, resource_id, changes, metadata, ip_address, user_agent, created_at",
        "berth_audit_logs",
    )
    .and("organization_id = ?", context.organization_id()?)
    .and_if("action = ?", query.filter("action")?)
    .and_if("resource_type = ?", query.filter("resourceType")?)
    .and_if("user_id = ?", query.filter("userId")?)
    .and_if("created_at >= ?", query.moment("from")?)
    .and_if("created_at <= ?", query.moment("to")?);
    page(&context.accounts.database, select, &paging, to_json).await
}

fn to_json(row: &Row) -> Result<Json, DatabaseError> {
    Ok(json!({
        "id": row.text("id")?,
        "organizationId": row.optional_text("organization_id")?,
        "userId": row.optional_text("user_id")?,
        "action": row.text("action")?,
        "resourceType": row.text("resource_type")?,
        "resourceId": row.optional_text("resource_id")?,
        "changes": row.optional_json::<Json>("changes")?,
        "metadata": row.optional_json::<Json>("metadata")?,
        "ipAddress": row.optional_text("ip_address")?,
        "userAgent": row.optional_text("user_agent")?,
        "createdAt": timestamp(row, "created_at")?,
    }))
}
