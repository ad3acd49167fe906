//! RabbitMQ: events go to the topic exchange `berth.events`, private messages straight to their queue.
//!
//! The outbox stays in the host database, so a broker that is away delays messages and loses none. Each plugin has a
//! durable quorum queue `<plugin>-queue` and the dead letters `<plugin>.dlq`; a retry waits in a queue whose messages
//! expire back into the plugin's. A message is settled by publishing its successor with the broker's confirmation first
//! and acknowledging it afterwards: a crash between the two doubles it, and never loses it.
//!
//! Order: messages with one ordering key are handed out one after the other on one host. Unlike the embedded queue this
//! does not hold over several hosts, nor for a message that is being retried.

mod intake;
mod letters;
mod link;
mod relay;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use dashmap::DashMap;
use parking_lot::RwLock;
use tokio::sync::Notify;
use uuid::Uuid;

#[cfg(test)]
use super::backend::DeadLetter;
use super::backend::{
    Claim, QueueBackend, QueueError, QueueStats, Relayed, Retried, Ticket, dead_letter_name, queue_name,
};
use super::message::{DELAY_MAX, Kind, QueuedMessage};
use super::{BACKOFF, QueueOptions, bindings, outbox};
use crate::database::{Database, Transaction, values};
use intake::{Intake, Judged, Taken};
use link::{Link, Links};
use wire::Successor;

/// How long a tick may be missing before the next one is sent all the same.
const TICK_LOST_AFTER: Duration = Duration::from_secs(2 * 60 * 60);
/// Waits for a retry besides the standard backoff; a delay is rounded up to the next one.
const LONG_WAITS: [Duration; 2] = [Duration::from_secs(60 * 60), Duration::from_secs(24 * 60 * 60)];

/// The queues of a broker, with the outbox in the host database.
pub(crate) struct RabbitMq {
    database: Database,
    options: QueueOptions,
    links: Links,
    /// What is fetched ahead for each plugin that consumes here.
    intakes: DashMap<String, Arc<Intake>>,
    /// The same and those that only have deliveries to settle, by epoch.
    all_intakes: DashMap<Uuid, Arc<Intake>>,
    changes: DashMap<String, Arc<Notify>>,
    patterns: RwLock<HashMap<String, Vec<String>>>,
    /// One pass of the relay at a time in this process.
    relaying: tokio::sync::Mutex<()>,
}

impl RabbitMq {
    /// Opens the queue. The broker need not be there yet; it is looked for until it is. One that is there and will not do, as with
    /// a wrong password, is an error.
    pub(crate) async fn open(
        database: Database,
        url: &str,
        namespace: &str,
        options: QueueOptions,
    ) -> Result<Self, QueueError> {
        let waits: BTreeSet<Duration> = options.backoff.iter().copied().chain(BACKOFF).chain(LONG_WAITS).collect();
        let rabbit = Self {
            database,
            options,
            links: Links::new(url, namespace, waits)?,
            intakes: DashMap::new(),
            all_intakes: DashMap::new(),
            changes: DashMap::new(),
            patterns: RwLock::default(),
            relaying: tokio::sync::Mutex::default(),
        };
        rabbit.links.judge().await?;
        rabbit.read_patterns().await?;
        Ok(rabbit)
    }

    fn now(&self) -> DateTime<Utc> {
        (self.options.clock)()
    }

    /// The connection, with every known queue and binding declared on it once.
    async fn link(&self) -> Result<Arc<Link>, QueueError> {
        let link = self.links.get().await?;
        if link.needs_bindings() {
            // Another host may have changed them while the broker was away: nothing is bound again that is gone.
            self.read_patterns().await?;
            let patterns = self.patterns.read().clone();
            for (plugin, patterns) in &patterns {
                link.declare_queue(plugin).await?;
                for pattern in patterns {
                    link.bind(plugin, pattern).await?;
                }
            }
            self.take_off(&link).await?;
            link.bindings_done();
        }
        Ok(link)
    }

    /// Takes bindings off the broker that are gone here. Each in a transaction that holds its row: who binds it again waits until it
    /// is off, and binds after that.
    async fn take_off(&self, link: &Link) -> Result<(), QueueError> {
        for row in self.database.query("SELECT plugin, pattern FROM berth_unbound", &[]).await? {
            let (plugin, pattern) = (row.text("plugin")?, row.text("pattern")?);
            let mut transaction = self.database.begin().await?;
            let sql = "DELETE FROM berth_unbound WHERE plugin = $1 AND pattern = $2";
            if transaction.execute(sql, &values![&plugin, &pattern]).await? == 1 {
                link.declare_queue(&plugin).await?;
                link.unbind(&plugin, &pattern).await?;
            }
            transaction.commit().await?;
        }
        Ok(())
    }

    async fn read_patterns(&self) -> Result<(), QueueError> {
        let mut patterns: HashMap<String, Vec<String>> = HashMap::new();
        for row in self.database.query("SELECT plugin, pattern FROM berth_bindings", &[]).await? {
            patterns.entry(row.text("plugin")?).or_default().push(row.text("pattern")?);
        }
        *self.patterns.write() = patterns;
        Ok(())
    }

    fn intake(&self, claim: &Claim) -> Result<Arc<Intake>, QueueError> {
        let Ticket::Tag { epoch, .. } = &claim.ticket else { return Err(QueueError::LeaseLost) };
        self.all_intakes.get(epoch).map(|intake| Arc::clone(&intake)).ok_or(QueueError::LeaseLost)
    }

    /// The delivery's claim; none when it was settled at once because nobody wants it or can read it.
    async fn admit(&self, intake: &Intake, taken: Taken) -> Result<Option<Claim>, QueueError> {
        let mut judged = self.judge(&taken);
        if matches!(judged, Judged::NotWanted) {
            // Another host may have bound it a moment ago; only the database knows for certain.
            if let Err(error) = self.read_patterns().await {
                intake.put_back(taken);
                return Err(error);
            }
            judged = self.judge(&taken);
        }
        match judged {
            Judged::Good => return Ok(Some(taken.claim)),
            Judged::NotWanted => {}
            Judged::Malformed(reason) => {
                let link = match self.links.get().await {
                    Ok(link) => link,
                    Err(error) => {
                        intake.put_back(taken);
                        return Err(error);
                    }
                };
                link.publish_raw_dead_letter(&taken.claim.queue, taken.body(), &reason, self.now()).await?;
            }
        }
        intake.acknowledge(&taken.claim).await?;
        Ok(None)
    }

    /// Publishes what comes after the delivery, waits for the broker to have it, and only then acknowledges.
    async fn replace(&self, claim: &Claim, successor: Successor<'_>) -> Result<(), QueueError> {
        let intake = self.intake(claim)?;
        intake.check(claim)?;
        let link = self.link().await?;
        link.declare_queue(&claim.queue).await?;
        link.publish_successor(claim, successor).await?;
        intake.acknowledge(claim).await?;
        self.changes(&claim.queue).notify_one();
        Ok(())
    }

    async fn bury(&self, claim: &Claim, failures: u32, reason: &str) -> Result<(), QueueError> {
        self.end_tick(claim).await?;
        self.replace(claim, Successor::DeadLetter { failures, reason, dead_at: self.now() }).await
    }

    /// Lets the next tick be sent. Before the broker forgets this one: if the host ends in between, the tick comes again under
    /// its id, which harms nothing; the other way round the timer would be silent for hours.
    async fn end_tick(&self, claim: &Claim) -> Result<(), QueueError> {
        if claim.message.kind == Kind::Timer {
            let sql = "DELETE FROM berth_ticks WHERE queue = $1 AND message_type = $2";
            self.database.execute(sql, &values![&claim.queue, &claim.message.message_type]).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl QueueBackend for RabbitMq {
    async fn ping(&self) -> Result<(), QueueError> {
        self.links.get().await.map(drop)
    }

    async fn bind(&self, plugin: &str, patterns: &[String]) -> Result<(), QueueError> {
        bindings::replace(&self.database, plugin, patterns, bindings::Told::Broker).await?;
        if patterns.is_empty() {
            self.patterns.write().remove(plugin);
        } else {
            self.patterns.write().insert(plugin.to_owned(), patterns.to_vec());
        }
        // A broker that is away learns it with the next connection; what it sends too much until then is not handed out.
        let Ok(link) = self.link().await else { return Ok(()) };
        link.declare_queue(plugin).await?;
        for pattern in patterns {
            link.bind(plugin, pattern).await?;
        }
        self.take_off(&link).await
    }

    async fn insert_direct(&self, _: &mut Transaction, _: &str, _: &QueuedMessage) -> Result<bool, QueueError> {
        Ok(false)
    }

    async fn relay(&self) -> Result<Relayed, QueueError> {
        self.relay_batch().await
    }

    async fn claim(&self, plugin: &Arc<str>, count: usize, _lease: Duration) -> Result<Vec<Claim>, QueueError> {
        let intake = self.open_intake(plugin).await?;
        let mut claims = Vec::new();
        while claims.len() < count {
            let Some(taken) = intake.take(plugin, self.options.backoff.len()) else { break };
            match self.admit(&intake, taken).await {
                Ok(claim) => claims.extend(claim),
                // What is in hand is handed out; the fault comes again with the next claim.
                Err(_) if !claims.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(claims)
    }

    async fn next_due(&self, _plugin: &str) -> Result<Option<DateTime<Utc>>, QueueError> {
        // The broker sends what is due by itself.
        Ok(None)
    }

    async fn acknowledge(&self, claim: &Claim) -> Result<(), QueueError> {
        self.end_tick(claim).await?;
        self.intake(claim)?.acknowledge(claim).await?;
        self.changes(&claim.queue).notify_one();
        Ok(())
    }

    async fn retry(&self, claim: &Claim, after: Option<Duration>, reason: &str) -> Result<Retried, QueueError> {
        let failures = claim.failures.saturating_add(1);
        let Some(standard) = self.options.backoff.get(claim.failures as usize) else {
            self.bury(claim, failures, &format!("failed {failures} times, at last: {reason}")).await?;
            return Ok(Retried::DeadLettered);
        };
        let after = after.unwrap_or(*standard).min(DELAY_MAX);
        self.replace(claim, Successor::Retry { failures, after }).await?;
        Ok(Retried::Scheduled)
    }

    async fn release(&self, claim: &Claim, after: Duration) -> Result<(), QueueError> {
        if after.is_zero() {
            return self.intake(claim)?.give_back(claim).await;
        }
        self.replace(claim, Successor::Retry { failures: claim.failures, after: after.min(DELAY_MAX) }).await
    }

    async fn reject(&self, claim: &Claim, reason: &str) -> Result<(), QueueError> {
        self.bury(claim, claim.failures.saturating_add(1), reason).await
    }

    async fn may_tick(&self, transaction: &mut Transaction, plugin: &str, tick_type: &str) -> Result<bool, QueueError> {
        // Noted here, and taken out when the tick is settled.
        let sql = "INSERT INTO berth_ticks (queue, message_type, sent_at) VALUES ($1, $2, $3) \
                   ON CONFLICT (queue, message_type) DO UPDATE SET sent_at = excluded.sent_at WHERE berth_ticks.sent_at < $4";
        let now = self.now();
        Ok(transaction.execute(sql, &values![plugin, tick_type, now, now - TICK_LOST_AFTER]).await? == 1)
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
        self.read_patterns().await?;
        self.all_intakes.retain(|_, intake| !intake.is_over());
        // What another host could not take off, or this one at its first attempt. A broker that is away is no fault here.
        if let Ok(link) = self.link().await {
            self.take_off(&link).await?;
        }
        let mut transaction = self.database.begin().await?;
        outbox::forget(&mut transaction, self.now(), outbox::FORGET_MAX).await?;
        Ok(transaction.commit().await?)
    }

    async fn rest(&self, plugin: &str) {
        if let Some((_, intake)) = self.intakes.remove(plugin) {
            intake.close().await;
        }
    }

    fn changes(&self, plugin: &str) -> Arc<Notify> {
        if let Some(found) = self.changes.get(plugin) {
            return Arc::clone(&found);
        }
        Arc::clone(&self.changes.entry(plugin.to_owned()).or_default())
    }
}
