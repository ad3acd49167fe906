//! The outbox: where a message waits between the commit that published it and the queues it goes to.
//!
//! It writes within the publisher's transaction and nowhere else, so a rollback publishes nothing.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::backend::QueueError;
use super::message::{Kind, OutgoingMessage, QueuedMessage};
use crate::database::{Row, Transaction, Value, values};

/// How long an id that a publisher chose is remembered; and the database room's, that a consumer handled.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(72 * 60 * 60);

/// The most remembered ids that one cleaning removes from each ledger.
pub(super) const FORGET_MAX: i64 = 10_000;

/// The columns that a message has in every table that holds one.
pub(super) const MESSAGE_COLUMNS: &str = "kind, message_id, message_type, data, ordering_key, organization_id, user_id, \
     source_service, source_instance, correlation_id, causation_id, published_at, trace";

/// Gives the message its id and its time.
pub(super) fn stamp(message: &OutgoingMessage, instance: &str, now: DateTime<Utc>) -> QueuedMessage {
    QueuedMessage {
        id: message.id.clone().unwrap_or_else(|| Uuid::now_v7().to_string()),
        kind: message.kind,
        message_type: message.message_type.clone(),
        data: message.data.clone(),
        organization_id: message.organization_id.clone(),
        user_id: message.user_id.clone(),
        source_service: message.source_service.clone(),
        source_instance: instance.to_owned(),
        correlation_id: message.correlation_id.clone(),
        causation_id: message.causation_id.clone(),
        published_at: now,
        trace: message.trace.clone(),
    }
}

/// Notes an id that the publisher chose. False when it was published within the last 72 hours.
pub(super) async fn note_published(
    transaction: &mut Transaction,
    message: &QueuedMessage,
    now: DateTime<Utc>,
) -> Result<bool, QueueError> {
    let sql = "INSERT INTO berth_published (source_service, organization_id, message_id, published_at) \
               VALUES ($1, $2, $3, $4) \
               ON CONFLICT (source_service, organization_id, message_id) DO UPDATE SET published_at = excluded.published_at \
               WHERE berth_published.published_at < $5";
    let organization = message.organization_id.as_deref().unwrap_or("");
    let noted = transaction
        .execute(sql, &values![&message.source_service, organization, &message.id, now, now - REMEMBERED])
        .await?;
    Ok(noted == 1)
}

/// Writes the message into the outbox.
pub(super) async fn insert(
    transaction: &mut Transaction,
    message: &QueuedMessage,
    queue: Option<&str>,
    ordering_key: Option<String>,
    held_until: Option<DateTime<Utc>>,
) -> Result<(), QueueError> {
    let sql = format!(
        "INSERT INTO berth_outbox (queue, held_until, {MESSAGE_COLUMNS}) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
    );
    let mut parameters = values![queue, held_until];
    parameters.extend(message_values(message, ordering_key));
    transaction.execute(&sql, &parameters).await?;
    Ok(())
}

/// The values of [`MESSAGE_COLUMNS`].
pub(super) fn message_values(message: &QueuedMessage, ordering_key: Option<String>) -> Vec<Value> {
    values![
        message.kind.as_str(),
        &message.id,
        &message.message_type,
        &message.data,
        ordering_key,
        message.organization_id.as_deref(),
        message.user_id.as_deref(),
        &message.source_service,
        &message.source_instance,
        message.correlation_id.as_deref(),
        message.causation_id.as_deref(),
        message.published_at,
        message.trace.as_deref(),
    ]
}

/// A message out of any row that has [`MESSAGE_COLUMNS`].
pub(super) fn read_message(row: &Row) -> Result<QueuedMessage, QueueError> {
    let kind = row.text("kind")?;
    let kind = Kind::parse(&kind).ok_or_else(|| QueueError::Internal(format!("a message of kind {kind}").into()))?;
    Ok(QueuedMessage {
        id: row.text("message_id")?,
        kind,
        message_type: row.text("message_type")?,
        data: row.text("data")?,
        organization_id: row.optional_text("organization_id")?,
        user_id: row.optional_text("user_id")?,
        source_service: row.text("source_service")?,
        source_instance: row.text("source_instance")?,
        correlation_id: row.optional_text("correlation_id")?,
        causation_id: row.optional_text("causation_id")?,
        published_at: row.timestamp("published_at")?,
        trace: row.optional_text("trace")?,
    })
}

/// Removes at most `count` ids that are remembered long enough, from the ledger of published messages and from the
/// database room's ledger of handled ones.
pub(super) async fn forget(transaction: &mut Transaction, now: DateTime<Utc>, count: i64) -> Result<u64, QueueError> {
    let handled = "DELETE FROM berth_handled WHERE (plugin, message_id) IN \
                   (SELECT plugin, message_id FROM berth_handled WHERE handled_at < $1 ORDER BY handled_at LIMIT $2)";
    let published = "DELETE FROM berth_published WHERE (source_service, organization_id, message_id) IN \
                     (SELECT source_service, organization_id, message_id FROM berth_published \
                      WHERE published_at < $1 ORDER BY published_at LIMIT $2)";
    let mut removed = 0;
    for sql in [handled, published] {
        removed += transaction.execute(sql, &values![now - REMEMBERED, count]).await?;
    }
    Ok(removed)
}

/// Takes messages out: they are in their queues.
pub(super) async fn delete(transaction: &mut Transaction, positions: Vec<Value>) -> Result<(), QueueError> {
    if positions.is_empty() {
        return Ok(());
    }
    let (placeholders, positions) = list_parameters(1, positions);
    let sql = format!("DELETE FROM berth_outbox WHERE position IN ({placeholders})");
    Ok(transaction.execute(&sql, &positions).await.map(drop)?)
}

/// `$first, $first+1, …` for as many values as the next power of two holds, and the values with the last one repeated:
/// few different statements, however many values there are.
pub(super) fn list_parameters(first: usize, mut list: Vec<Value>) -> (String, Vec<Value>) {
    if let Some(last) = list.last().cloned() {
        list.resize(list.len().next_power_of_two(), last);
    }
    let placeholders: Vec<String> = (0..list.len()).map(|index| format!("${}", first + index)).collect();
    (placeholders.join(", "), list)
}
