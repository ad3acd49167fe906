//! The embedded backend: outbox, queues and dead letters are tables of the host database.
//!
//! A message is in exactly one table at any time and moves between them in one transaction, so a killed host loses
//! nothing and doubles nothing. On SQLite one process owns the file and takes its old leases back when it starts; on a
//! shared PostgreSQL a lease simply ends.
//!
//! Order: of the messages with one ordering key in a queue only the first is ready; the others are blocked until it is
//! acknowledged or a dead letter. A failing message therefore holds up its own key for at most the whole backoff.

mod lease;
mod letters;
mod relay;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use dashmap::DashMap;
use parking_lot::RwLock;
use tokio::sync::Notify;

use super::Clock;
#[cfg(test)]
use super::backend::DeadLetter;
use super::backend::{Claim, QueueBackend, QueueError, QueueStats, Relayed, Retried};
use super::bindings;
use super::message::QueuedMessage;
use super::outbox::{self, MESSAGE_COLUMNS, list_parameters};
use crate::database::{Database, Dialect, Transaction, values};

/// The most messages that one statement moves; more go in the next pass.
const BATCH_MAX: usize = 256;
/// A queue that holds this many takes no more events, which is logged, and its private messages are refused as busy.
const QUEUE_MESSAGES_MAX: i64 = 1_000_000;

/// The embedded queue of this host.
pub(crate) struct Embedded {
    database: Database,
    /// This host's id: who holds a lease.
    instance: Arc<str>,
    clock: Clock,
    backoff: Arc<[Duration]>,
    changes: DashMap<String, Arc<Notify>>,
    /// Queues that held too much when they were last counted.
    full: RwLock<HashSet<String>>,
}

impl Embedded {
    /// Opens the queue and, on SQLite, takes back what a former life of this host had leased.
    pub(crate) async fn open(
        database: Database,
        instance: Arc<str>,
        clock: Clock,
        backoff: Arc<[Duration]>,
    ) -> Result<Self, QueueError> {
        let embedded = Self { database, instance, clock, backoff, changes: DashMap::new(), full: RwLock::default() };
        if embedded.database.dialect() == Dialect::Sqlite {
            embedded.recover().await?;
        }
        Ok(embedded)
    }

    fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// `sql` on PostgreSQL, nothing on SQLite, where a transaction has the database to itself anyway.
    fn on_postgres(&self, sql: &'static str) -> &'static str {
        if self.database.dialect() == Dialect::Postgres { sql } else { "" }
    }

    fn ring(&self, plugin: &str) {
        self.changes(plugin).notify_one();
    }
}

#[async_trait]
impl QueueBackend for Embedded {
    async fn ping(&self) -> Result<(), QueueError> {
        Ok(self.database.ping().await?)
    }

    async fn bind(&self, plugin: &str, patterns: &[String]) -> Result<(), QueueError> {
        bindings::replace(&self.database, plugin, patterns, bindings::Told::Database).await
    }

    fn check_room(&self, plugin: &str) -> Result<(), QueueError> {
        if self.full.read().contains(plugin) { Err(QueueError::Busy) } else { Ok(()) }
    }

    async fn insert_direct(
        &self,
        transaction: &mut Transaction,
        queue: &str,
        message: &QueuedMessage,
    ) -> Result<bool, QueueError> {
        let sql = format!(
            "INSERT INTO berth_queue (queue, is_blocked, {MESSAGE_COLUMNS}) \
             VALUES ($1, FALSE, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
        );
        let mut parameters = values![queue];
        parameters.extend(outbox::message_values(message, None));
        transaction.execute(&sql, &parameters).await?;
        Ok(true)
    }

    async fn relay(&self) -> Result<Relayed, QueueError> {
        self.relay_batch().await
    }

    async fn claim(&self, plugin: &Arc<str>, count: usize, lease: Duration) -> Result<Vec<Claim>, QueueError> {
        self.claim_batch(plugin, count, lease).await
    }

    async fn next_due(&self, plugin: &str) -> Result<Option<DateTime<Utc>>, QueueError> {
        let sql = "SELECT MIN(held_until) AS due FROM berth_queue WHERE queue = $1 AND is_blocked = FALSE";
        let row = self.database.query_one(sql, &values![plugin]).await?;
        Ok(row.map(|row| row.optional_timestamp("due")).transpose()?.flatten())
    }

    async fn acknowledge(&self, claim: &Claim) -> Result<(), QueueError> {
        self.settle_done(claim).await
    }

    async fn retry(&self, claim: &Claim, after: Option<Duration>, reason: &str) -> Result<Retried, QueueError> {
        self.settle_failed(claim, after, reason).await
    }

    async fn release(&self, claim: &Claim, after: Duration) -> Result<(), QueueError> {
        self.settle_released(claim, after).await
    }

    async fn reject(&self, claim: &Claim, reason: &str) -> Result<(), QueueError> {
        self.settle_dead(claim, reason).await
    }

    async fn may_tick(&self, transaction: &mut Transaction, plugin: &str, tick_type: &str) -> Result<bool, QueueError> {
        // As an error it would keep the timers of every plugin waiting.
        if self.check_room(plugin).is_err() {
            return Ok(false);
        }
        for table in ["berth_queue", "berth_outbox"] {
            let sql = format!(
                "SELECT 1 AS found FROM {table} WHERE queue = $1 AND message_type = $2 AND kind = 'timer' LIMIT 1"
            );
            if transaction.query_one(&sql, &values![plugin, tick_type]).await?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn stats(&self) -> Result<Vec<QueueStats>, QueueError> {
        self.read_stats().await
    }

    #[cfg(test)]
    async fn dead_letters(&self, plugin: &str, limit: usize, offset: usize) -> Result<Vec<DeadLetter>, QueueError> {
        self.read_dead_letters(plugin, limit, offset).await
    }

    async fn redrive(&self, plugin: &str) -> Result<u64, QueueError> {
        self.redrive_all(plugin).await
    }

    async fn clean(&self) -> Result<(), QueueError> {
        self.clean_up().await
    }

    fn changes(&self, plugin: &str) -> Arc<Notify> {
        if let Some(found) = self.changes.get(plugin) {
            return Arc::clone(&found);
        }
        Arc::clone(&self.changes.entry(plugin.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::capability::queue::conformance::Bench;
    use crate::capability::queue::{OutgoingMessage, QueueOptions, QueueRoom};

    #[tokio::test]
    async fn a_full_queue_refuses_every_private_message_and_leaves_ticks_out() {
        let bench = Bench::sqlite().await;
        let options = QueueOptions::default();
        let (instance, clock) = (Arc::clone(&options.instance), Arc::clone(&options.clock));
        let embedded = Embedded::open(bench.database.clone(), instance, clock, Arc::clone(&options.backoff)).await;
        let embedded = Arc::new(embedded.unwrap());
        let backend = Arc::clone(&embedded) as Arc<dyn QueueBackend>;
        let room = QueueRoom::with_backend(bench.database.clone(), backend, options);
        let work = |key: Option<&str>| OutgoingMessage {
            id: Some("chosen".into()),
            key: key.map(str::to_owned),
            ..OutgoingMessage::work("planning", "planning.step", &json!({}))
        };
        embedded.full.write().insert("planning".to_owned());
        for key in [None, Some("key")] {
            let mut transaction = bench.database.begin().await.unwrap();
            let answer = room.publish_in(&mut transaction, work(key)).await;
            assert!(matches!(answer, Err(QueueError::Busy)), "{answer:?}");
            // Whoever goes on all the same has not used up the id.
            transaction.commit().await.unwrap();
        }
        let mut transaction = bench.database.begin().await.unwrap();
        assert!(!embedded.may_tick(&mut transaction, "planning", "timer.planning.daily").await.unwrap());
        assert!(embedded.may_tick(&mut transaction, "quality", "timer.quality.daily").await.unwrap());
        transaction.rollback().await.unwrap();
        embedded.full.write().clear();
        room.publish(work(None)).await.unwrap();
        assert_eq!(bench.depth("planning").await, 1);
    }
}
