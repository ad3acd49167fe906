//! From the outbox into the queues: reads only what decides where a message goes; its payload is copied by the database.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use super::{BATCH_MAX, Embedded, MESSAGE_COLUMNS, list_parameters};
use crate::capability::queue::backend::{QueueError, Relayed};
use crate::capability::queue::message::takes;
use crate::database::{Dialect, Row, Transaction, Value, values};

/// The advisory lock that lets one host at a time put keyed messages into queues: their order depends on it.
const RELAY_LOCK: i64 = 0x6265_7274_6871_7565;
/// How often keyed insertion looks again when another host settles a key's first message in that moment.
const KEY_ATTEMPTS_MAX: usize = 8;

/// A row of the outbox or the dead letters that is to go into a queue.
pub(super) struct Entry {
    pub position: i64,
    pub ordering_key: Option<String>,
}

/// Where entries are copied from.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    Outbox,
    DeadLetters,
}

impl Origin {
    fn table(self) -> &'static str {
        match self {
            Self::Outbox => "berth_outbox",
            Self::DeadLetters => "berth_dead_letters",
        }
    }
}

impl Embedded {
    pub(super) async fn relay_batch(&self) -> Result<Relayed, QueueError> {
        let now = self.now();
        // A look without the writers' lock: most passes find nothing.
        let sql = "SELECT 1 AS due FROM berth_outbox WHERE held_until IS NULL OR held_until <= $1 LIMIT 1";
        if self.database.query_one(sql, &values![now]).await?.is_none() {
            return Ok(Relayed { next_due: self.next_held().await?, ..Relayed::default() });
        }
        let mut transaction = self.database.begin().await?;
        if !self.try_relay_lock(&mut transaction).await? {
            return Ok(Relayed::default());
        }
        let rows = due_rows(&mut transaction, now).await?;
        let count = rows.len();
        if count == 0 {
            // Another host was faster.
            drop(transaction);
            return Ok(Relayed { next_due: self.next_held().await?, ..Relayed::default() });
        }
        let queues = self.route(&mut transaction, &rows).await?;
        for (queue, entries) in &queues {
            self.copy_entries(&mut transaction, Origin::Outbox, queue, entries).await?;
        }
        let positions = rows.iter().map(|row| row.integer("position").map(Value::Integer)).collect::<Result<_, _>>()?;
        delete(&mut transaction, Origin::Outbox, positions).await?;
        transaction.commit().await?;
        for queue in queues.keys() {
            self.ring(queue);
        }
        let has_more = count >= BATCH_MAX / 2;
        Ok(Relayed { messages: count, has_more, next_due: if has_more { None } else { self.next_held().await? } })
    }

    async fn next_held(&self) -> Result<Option<DateTime<Utc>>, QueueError> {
        let row = self.database.query_one("SELECT MIN(held_until) AS due FROM berth_outbox", &[]).await?;
        Ok(row.map(|row| row.optional_timestamp("due")).transpose()?.flatten())
    }

    async fn try_relay_lock(&self, transaction: &mut Transaction) -> Result<bool, QueueError> {
        if self.database.dialect() == Dialect::Sqlite {
            return Ok(true);
        }
        let row = transaction.query_one("SELECT pg_try_advisory_xact_lock($1) AS locked", &values![RELAY_LOCK]).await?;
        Ok(row.map(|row| row.boolean("locked")).transpose()?.unwrap_or(false))
    }

    /// Waits until no other host puts messages into queues.
    pub(super) async fn relay_lock(&self, transaction: &mut Transaction) -> Result<(), QueueError> {
        if self.database.dialect() == Dialect::Postgres {
            transaction.execute("SELECT pg_advisory_xact_lock($1)", &values![RELAY_LOCK]).await?;
        }
        Ok(())
    }

    /// Which queue each row goes to: its own, or every one whose bindings take its type.
    async fn route(
        &self,
        transaction: &mut Transaction,
        rows: &[Row],
    ) -> Result<BTreeMap<String, Vec<Entry>>, QueueError> {
        let mut bindings: HashMap<String, Vec<String>> = HashMap::new();
        for row in transaction.query("SELECT plugin, pattern FROM berth_bindings", &[]).await? {
            bindings.entry(row.text("plugin")?).or_default().push(row.text("pattern")?);
        }
        let mut queues: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        let full = self.full.read().clone();
        for row in rows {
            let mut add = |queue: &str| -> Result<(), QueueError> {
                let entry =
                    Entry { position: row.integer("position")?, ordering_key: row.optional_text("ordering_key")? };
                queues.entry(queue.to_owned()).or_default().push(entry);
                Ok(())
            };
            if let Some(queue) = row.optional_text("queue")? {
                add(&queue)?;
                continue;
            }
            let (message_type, source) = (row.text("message_type")?, row.text("source_service")?);
            for (plugin, patterns) in &bindings {
                if !takes(patterns, &message_type, plugin == &source) {
                    continue;
                }
                if full.contains(plugin) {
                    tracing::error!(plugin, message_type, "the queue is full: the event was not put into it");
                    continue;
                }
                add(plugin)?;
            }
        }
        Ok(queues)
    }

    /// Copies rows into a queue in their order and marks those that must wait for an earlier one with the same key.
    pub(super) async fn copy_entries(
        &self,
        transaction: &mut Transaction,
        origin: Origin,
        queue: &str,
        entries: &[Entry],
    ) -> Result<(), QueueError> {
        let keys: BTreeSet<&str> = entries.iter().filter_map(|entry| entry.ordering_key.as_deref()).collect();
        let mut taken =
            if keys.is_empty() { BTreeSet::new() } else { self.taken_keys(transaction, queue, &keys).await? };
        let (mut ready, mut blocked) = (Vec::new(), Vec::new());
        for entry in entries {
            let waits = entry.ordering_key.as_ref().is_some_and(|key| !taken.insert(key.clone()));
            if waits { &mut blocked } else { &mut ready }.push(Value::Integer(entry.position));
        }
        // Of one key the ready row comes first: its position is the smallest.
        for (is_blocked, positions) in [("FALSE", ready), ("TRUE", blocked)] {
            if positions.is_empty() {
                continue;
            }
            let (placeholders, positions) = list_parameters(2, positions);
            let sql = format!(
                "INSERT INTO berth_queue (queue, is_blocked, {MESSAGE_COLUMNS}) \
                 SELECT $1, {is_blocked}, {MESSAGE_COLUMNS} FROM {} WHERE position IN ({placeholders}) ORDER BY position",
                origin.table()
            );
            let mut parameters = values![queue];
            parameters.extend(positions);
            transaction.execute(&sql, &parameters).await?;
        }
        Ok(())
    }

    /// Which of the keys have a message in the queue. On PostgreSQL their first messages are locked until the
    /// transaction ends, so that nobody settles one and unblocks the next before the new rows can be seen.
    async fn taken_keys(
        &self,
        transaction: &mut Transaction,
        queue: &str,
        keys: &BTreeSet<&str>,
    ) -> Result<BTreeSet<String>, QueueError> {
        let list = keys.iter().map(|key| Value::from(*key)).collect();
        let (placeholders, list) = list_parameters(2, list);
        let mut parameters = values![queue];
        parameters.extend(list);
        let from = format!("FROM berth_queue WHERE queue = $1 AND ordering_key IN ({placeholders})");
        let first = format!("SELECT ordering_key {from} AND is_blocked = FALSE{}", self.on_postgres(" FOR UPDATE"));
        for _ in 0..KEY_ATTEMPTS_MAX {
            let mut taken = BTreeSet::new();
            for row in transaction.query(&first, &parameters).await? {
                taken.insert(row.text("ordering_key")?);
            }
            if self.database.dialect() == Dialect::Sqlite || taken.len() == keys.len() {
                return Ok(taken);
            }
            // A first message that was settled while its lock was waited for: the next one is the first now.
            let all = format!("SELECT DISTINCT ordering_key {from}");
            if transaction.query(&all, &parameters).await?.len() == taken.len() {
                return Ok(taken);
            }
        }
        Err(QueueError::Busy)
    }
}

/// What is due, held-back messages first but at most half of it, so that neither kind keeps the other waiting.
async fn due_rows(transaction: &mut Transaction, now: DateTime<Utc>) -> Result<Vec<Row>, QueueError> {
    let select = "SELECT position, message_type, queue, ordering_key, source_service FROM berth_outbox WHERE";
    let half = i64::try_from(BATCH_MAX / 2).unwrap_or(1);
    let held = format!("{select} held_until <= $1 ORDER BY held_until, position LIMIT $2");
    let ready = format!("{select} held_until IS NULL ORDER BY position LIMIT $1");
    let mut rows: Vec<Row> = transaction.query(&held, &values![now, half]).await?.into_iter().collect();
    rows.extend(transaction.query(&ready, &values![half]).await?);
    Ok(rows)
}

/// Deletes rows that have gone into their queues.
pub(super) async fn delete(
    transaction: &mut Transaction,
    origin: Origin,
    positions: Vec<Value>,
) -> Result<(), QueueError> {
    let (placeholders, positions) = list_parameters(1, positions);
    transaction
        .execute(&format!("DELETE FROM {} WHERE position IN ({placeholders})", origin.table()), &positions)
        .await?;
    Ok(())
}
