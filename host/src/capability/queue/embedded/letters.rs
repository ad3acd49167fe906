//! Dead letters, the queues' figures, and keeping everything within its bounds.

use std::collections::{BTreeMap, HashSet};

#[cfg(test)]
use super::MESSAGE_COLUMNS;
use super::relay::{self, Entry, Origin};
use super::{BATCH_MAX, Embedded, QUEUE_MESSAGES_MAX};
#[cfg(test)]
use crate::capability::queue::backend::DeadLetter;
use crate::capability::queue::backend::{QueueError, QueueStats};
use crate::capability::queue::outbox;
use crate::database::{Value, values};

/// The most dead letters of one queue: the oldest beyond it are removed, which is logged.
const DEAD_LETTERS_MAX: i64 = 100_000;
/// The most dead letters of one answer: their payloads together stay within what one query may give.
#[cfg(test)]
const DEAD_LETTERS_READ_MAX: usize = 16;

impl Embedded {
    pub(super) async fn read_stats(&self) -> Result<Vec<QueueStats>, QueueError> {
        let mut stats: BTreeMap<String, QueueStats> = BTreeMap::new();
        let named = |plugin: &str| QueueStats { plugin: plugin.to_owned(), ..QueueStats::default() };
        for row in self.database.query("SELECT DISTINCT plugin FROM berth_bindings", &[]).await? {
            let plugin = row.text("plugin")?;
            stats.insert(plugin.clone(), named(&plugin));
        }
        let waiting = "SELECT queue, COUNT(*) AS depth, COUNT(lease_id) AS in_flight, MIN(published_at) AS oldest_at \
                       FROM berth_queue GROUP BY queue";
        for row in self.database.query(waiting, &[]).await? {
            let plugin = row.text("queue")?;
            let entry = stats.entry(plugin.clone()).or_insert_with(|| named(&plugin));
            entry.depth = count(row.integer("depth")?);
            entry.in_flight = count(row.integer("in_flight")?);
            entry.oldest_at = row.optional_timestamp("oldest_at")?;
        }
        let dead = "SELECT queue, COUNT(*) AS dead FROM berth_dead_letters GROUP BY queue";
        for row in self.database.query(dead, &[]).await? {
            let plugin = row.text("queue")?;
            stats.entry(plugin.clone()).or_insert_with(|| named(&plugin)).dead_letters = count(row.integer("dead")?);
        }
        Ok(stats.into_values().collect())
    }

    #[cfg(test)]
    pub(super) async fn read_dead_letters(
        &self,
        plugin: &str,
        limit: usize,
        offset: usize,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let sql = format!(
            "SELECT failures, reason, {MESSAGE_COLUMNS} FROM berth_dead_letters \
             WHERE queue = $1 ORDER BY position LIMIT $2 OFFSET $3"
        );
        let mut letters = Vec::new();
        // Page by page: one answer of the database is bounded in bytes.
        while letters.len() < limit {
            let page = DEAD_LETTERS_READ_MAX.min(limit - letters.len());
            let skip = offset.saturating_add(letters.len());
            let parameters = values![plugin, i64::try_from(page).unwrap_or(1), i64::try_from(skip).unwrap_or(i64::MAX)];
            let rows = self.database.query(&sql, &parameters).await?;
            let is_last = rows.len() < page;
            for row in &rows {
                letters.push(DeadLetter {
                    message: outbox::read_message(row)?,
                    failures: u32::try_from(row.integer("failures")?).unwrap_or(u32::MAX),
                    reason: row.text("reason")?,
                });
            }
            if is_last {
                break;
            }
        }
        Ok(letters)
    }

    pub(super) async fn redrive_all(&self, plugin: &str) -> Result<u64, QueueError> {
        let newest = "SELECT MAX(position) AS newest FROM berth_dead_letters WHERE queue = $1";
        let newest = self.database.query_one(newest, &values![plugin]).await?;
        // What dies again while this runs stays dead.
        let Some(newest) = newest.map(|row| row.optional_integer("newest")).transpose()?.flatten() else {
            return Ok(0);
        };
        let mut redriven = 0;
        loop {
            let mut transaction = self.database.begin().await?;
            self.relay_lock(&mut transaction).await?;
            let sql = format!(
                "SELECT position, ordering_key FROM berth_dead_letters WHERE queue = $1 AND position <= $2 \
                 ORDER BY position LIMIT {BATCH_MAX}"
            );
            let mut entries = Vec::new();
            for row in transaction.query(&sql, &values![plugin, newest]).await? {
                let ordering_key = row.optional_text("ordering_key")?;
                entries.push(Entry { position: row.integer("position")?, ordering_key });
            }
            if entries.is_empty() {
                return Ok(redriven);
            }
            self.copy_entries(&mut transaction, Origin::DeadLetters, plugin, &entries).await?;
            let positions = entries.iter().map(|entry| Value::Integer(entry.position)).collect();
            relay::delete(&mut transaction, Origin::DeadLetters, positions).await?;
            transaction.commit().await?;
            redriven += entries.len() as u64;
            self.ring(plugin);
        }
    }

    pub(super) async fn clean_up(&self) -> Result<(), QueueError> {
        let mut transaction = self.database.begin().await?;
        outbox::forget(&mut transaction, self.now(), outbox::FORGET_MAX).await?;
        transaction.commit().await?;
        let mut full = HashSet::new();
        for stats in self.read_stats().await? {
            if stats.depth >= count(QUEUE_MESSAGES_MAX) {
                tracing::error!(plugin = stats.plugin, depth = stats.depth, "the queue is full");
                full.insert(stats.plugin.clone());
            }
            if stats.dead_letters > count(DEAD_LETTERS_MAX) {
                self.drop_oldest_letters(&stats.plugin).await?;
            }
        }
        *self.full.write() = full;
        Ok(())
    }

    async fn drop_oldest_letters(&self, plugin: &str) -> Result<(), QueueError> {
        let sql = "DELETE FROM berth_dead_letters WHERE queue = $1 AND position < \
                   (SELECT MIN(position) FROM (SELECT position FROM berth_dead_letters WHERE queue = $1 \
                    ORDER BY position DESC LIMIT $2) AS newest)";
        let dropped = self.database.execute(sql, &values![plugin, DEAD_LETTERS_MAX]).await?;
        tracing::error!(plugin, dropped, "removed the oldest dead letters");
        Ok(())
    }
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
