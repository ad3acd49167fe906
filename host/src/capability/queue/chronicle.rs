//! What the host itself has published, kept for a while so that people can read it: `host.…` events, in their order.
//!
//! A row is written in the transaction of the event: what did not happen is not told. Plugins' events are not here.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value as Json;

use super::backend::QueueError;
use super::message::{HOST_SERVICE, QueuedMessage};
use crate::database::{Database, Row, Transaction, format_timestamp, values};

/// First segment of the types that are kept.
const PREFIX: &str = "host.";
/// Rows that are kept; the oldest go first.
const EVENTS_MAX: i64 = 10_000;
/// The oldest rows are looked for once in so many.
const TIDY_EVERY: i64 = 100;
/// Rows told at once.
pub(crate) const EVENTS_TOLD_MAX: i64 = 1_000;

/// One event of the host.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HostEvent {
    /// Its place: rises from event to event over all hosts on the database.
    pub id: i64,
    /// As in `host.plugin.deployed`.
    #[serde(rename = "type")]
    pub event_type: String,
    #[serde(serialize_with = "milliseconds")]
    pub time: DateTime<Utc>,
    /// The life of the host that published it.
    pub instance: String,
    /// Its payload.
    pub data: Json,
}

/// Keeps `message` when it is the host's own.
pub(super) async fn keep(transaction: &mut Transaction, message: &QueuedMessage) -> Result<(), QueueError> {
    if message.source_service != HOST_SERVICE || !message.message_type.starts_with(PREFIX) {
        return Ok(());
    }
    let sql =
        "INSERT INTO berth_events (event_type, data, instance, occurred_at) VALUES ($1, $2, $3, $4) RETURNING position";
    let parameters = values![&message.message_type, &message.data, &message.source_instance, message.published_at];
    let row = transaction.query_one(sql, &parameters).await?;
    let position = row.map(|row| row.integer("position")).transpose()?.unwrap_or(1);
    if position % TIDY_EVERY == 0 {
        let sql = "DELETE FROM berth_events WHERE position <= $1";
        transaction.execute(sql, &values![position - EVENTS_MAX]).await?;
    }
    Ok(())
}

/// The newest events, oldest first, at most `limit`.
pub(super) async fn newest(database: &Database, limit: i64) -> Result<Vec<HostEvent>, QueueError> {
    let sql =
        "SELECT position, event_type, data, instance, occurred_at FROM berth_events ORDER BY position DESC LIMIT $1";
    let rows = database.query(sql, &values![limit.clamp(1, EVENTS_TOLD_MAX)]).await?;
    let mut events = rows.iter().map(event).collect::<Result<Vec<_>, _>>()?;
    events.reverse();
    Ok(events)
}

/// The events behind the one with the id `after`, oldest first, at most `limit`.
pub(super) async fn after(database: &Database, after: i64, limit: i64) -> Result<Vec<HostEvent>, QueueError> {
    let sql = "SELECT position, event_type, data, instance, occurred_at FROM berth_events WHERE position > $1 \
               ORDER BY position LIMIT $2";
    let rows = database.query(sql, &values![after, limit.clamp(1, EVENTS_TOLD_MAX)]).await?;
    rows.iter().map(event).collect()
}

fn event(row: &Row) -> Result<HostEvent, QueueError> {
    Ok(HostEvent {
        id: row.integer("position")?,
        event_type: row.text("event_type")?,
        time: row.timestamp("occurred_at")?,
        instance: row.text("instance")?,
        data: serde_json::from_str(&row.text("data")?).unwrap_or(Json::Null),
    })
}

fn milliseconds<S: serde::Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_timestamp(*time))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::capability::queue::OutgoingMessage;
    use crate::capability::queue::conformance::Bench;

    #[tokio::test]
    async fn the_hosts_events_are_kept_in_their_order_and_nobody_elses() {
        let bench = Bench::sqlite().await;
        let room = &bench.room;
        for number in 1..=3 {
            let message = OutgoingMessage::event("host.plugin.deployed", &json!({ "revision": number }));
            room.publish(message).await.unwrap();
        }
        room.publish(OutgoingMessage::event("user.created", &json!({}))).await.unwrap();
        let mut forged = OutgoingMessage::event("host.plugin.deployed", &json!({}));
        forged.source_service = "planning".into();
        room.publish(forged).await.unwrap();
        let mut transaction = bench.database.begin().await.unwrap();
        let undone = OutgoingMessage::event("host.plugin.failed", &json!({}));
        room.publish_in(&mut transaction, undone).await.unwrap();
        transaction.rollback().await.unwrap();
        let all = room.host_events(None, 100).await.unwrap();
        let revisions: Vec<i64> = all.iter().map(|event| event.data["revision"].as_i64().unwrap()).collect();
        assert_eq!(revisions, [1, 2, 3]);
        let newest = room.host_events(None, 2).await.unwrap();
        assert_eq!(newest, all[1..]);
        let later = room.host_events(Some(all[0].id), 1).await.unwrap();
        assert_eq!(later, all[1..2]);
    }
}
