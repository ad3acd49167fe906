//! Leases: claiming messages, and settling them by whoever still holds the lease.
//!
//! Every settlement names the lease, so a host that was too slow changes nothing that belongs to another one by now.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{Embedded, MESSAGE_COLUMNS};
use crate::capability::queue::backend::{Claim, QueueError, Retried, Ticket};
use crate::capability::queue::message::{DELAY_MAX, check_received, clean_reason};
use crate::capability::queue::outbox;
use crate::database::{Row, Transaction, Value, values};

/// The most messages of one claim: their payloads together stay within what one query may give.
const CLAIM_MAX: usize = 16;
/// How often a message may be lost with the host that handled it before it is given up.
const RECOVERIES_MAX: i64 = 20;

impl Embedded {
    /// Takes back every lease of a former life: nobody else can have this database file.
    pub(super) async fn recover(&self) -> Result<u64, QueueError> {
        let sql = "UPDATE berth_queue SET lease_id = NULL, leased_by = NULL, held_until = NULL, recoveries = recoveries + 1 \
                   WHERE leased_by IS NOT NULL AND leased_by <> $1";
        let taken_back = self.database.execute(sql, &values![&self.instance]).await?;
        if taken_back > 0 {
            tracing::info!(messages = taken_back, "took back what the former host was handling");
        }
        Ok(taken_back)
    }

    pub(super) async fn claim_batch(
        &self,
        plugin: &Arc<str>,
        count: usize,
        lease: Duration,
    ) -> Result<Vec<Claim>, QueueError> {
        let now = self.now();
        // A look without the writers' lock: most wake-ups of most plugins find nothing.
        let sql = "SELECT 1 AS ready FROM berth_queue WHERE queue = $1 AND is_blocked = FALSE \
                   AND (held_until IS NULL OR held_until <= $2) LIMIT 1";
        if count == 0 || self.database.query_one(sql, &values![plugin, now]).await?.is_none() {
            return Ok(Vec::new());
        }
        let lease_id: Arc<str> = Uuid::now_v7().to_string().into();
        let mut transaction = self.database.begin().await?;
        let mut rows: Vec<Row> = Vec::new();
        for due in ["held_until <= $5 ORDER BY held_until", "held_until IS NULL AND $5 = $5 ORDER BY position"] {
            let room = count.min(CLAIM_MAX).saturating_sub(rows.len());
            if room == 0 {
                break;
            }
            let skip_locked = self.on_postgres(" FOR UPDATE SKIP LOCKED");
            let sql = format!(
                "WITH chosen AS (SELECT position AS chosen_position FROM berth_queue \
                 WHERE queue = $4 AND is_blocked = FALSE AND {due} LIMIT $6{skip_locked}) \
                 UPDATE berth_queue SET lease_id = $1, leased_by = $2, held_until = $3, \
                 recoveries = recoveries + CASE WHEN lease_id IS NULL THEN 0 ELSE 1 END \
                 WHERE position IN (SELECT chosen_position FROM chosen) \
                 RETURNING position, failures, recoveries, {MESSAGE_COLUMNS}"
            );
            let limit = i64::try_from(room).unwrap_or(1);
            let parameters = values![&lease_id, &self.instance, now + lease, plugin, now, limit];
            rows.extend(transaction.query(&sql, &parameters).await?);
        }
        let mut claims = Vec::with_capacity(rows.len());
        for row in &rows {
            let claim = self.read_claim(plugin, &lease_id, row)?;
            let fault = if row.integer("recoveries")? > RECOVERIES_MAX {
                Some(format!("the host stopped {RECOVERIES_MAX} times while it handled the message"))
            } else {
                check_received(&claim.message).err().map(|fault| format!("malformed: {fault}"))
            };
            match fault {
                Some(reason) => self.bury(&mut transaction, &claim, &reason, 0).await?,
                None => claims.push(claim),
            }
        }
        transaction.commit().await?;
        // RETURNING keeps no order.
        claims.sort_by_key(|claim| match claim.ticket {
            Ticket::Row { position, .. } => position,
            Ticket::Tag { .. } => 0,
        });
        Ok(claims)
    }

    fn read_claim(&self, plugin: &Arc<str>, lease_id: &Arc<str>, row: &Row) -> Result<Claim, QueueError> {
        let failures = u32::try_from(row.integer("failures")?).unwrap_or(u32::MAX);
        Ok(Claim {
            queue: Arc::clone(plugin),
            message: outbox::read_message(row)?,
            failures,
            is_last_attempt: failures as usize >= self.backoff.len(),
            ticket: Ticket::Row {
                position: row.integer("position")?,
                lease_id: Arc::clone(lease_id),
                ordering_key: row.optional_text("ordering_key")?.map(Into::into),
            },
        })
    }

    pub(super) async fn settle_done(&self, claim: &Claim) -> Result<(), QueueError> {
        let (position, lease_id, ordering_key) = ticket(claim)?;
        let sql = "DELETE FROM berth_queue WHERE position = $1 AND lease_id = $2";
        let parameters = values![position, lease_id];
        let Some(key) = ordering_key else {
            return held(self.database.execute(sql, &parameters).await?);
        };
        let mut transaction = self.database.begin().await?;
        held(transaction.execute(sql, &parameters).await?)?;
        unblock(&mut transaction, &claim.queue, key).await?;
        transaction.commit().await?;
        self.ring(&claim.queue);
        Ok(())
    }

    pub(super) async fn settle_failed(
        &self,
        claim: &Claim,
        after: Option<Duration>,
        reason: &str,
    ) -> Result<Retried, QueueError> {
        let Some(standard) = self.backoff.get(claim.failures as usize) else {
            let reason = format!("failed {} times, at last: {reason}", claim.failures.saturating_add(1));
            let mut transaction = self.database.begin().await?;
            self.bury(&mut transaction, claim, &reason, 1).await?;
            transaction.commit().await?;
            self.ring(&claim.queue);
            return Ok(Retried::DeadLettered);
        };
        self.hold(claim, after.unwrap_or(*standard), 1).await?;
        Ok(Retried::Scheduled)
    }

    pub(super) async fn settle_released(&self, claim: &Claim, after: Duration) -> Result<(), QueueError> {
        self.hold(claim, after, 0).await
    }

    pub(super) async fn settle_dead(&self, claim: &Claim, reason: &str) -> Result<(), QueueError> {
        let mut transaction = self.database.begin().await?;
        self.bury(&mut transaction, claim, reason, 1).await?;
        transaction.commit().await?;
        self.ring(&claim.queue);
        Ok(())
    }

    /// Ends the lease and holds the message back.
    async fn hold(&self, claim: &Claim, after: Duration, failures: i64) -> Result<(), QueueError> {
        let (position, lease_id, _) = ticket(claim)?;
        let sql = "UPDATE berth_queue SET lease_id = NULL, leased_by = NULL, held_until = $3, failures = failures + $4 \
                   WHERE position = $1 AND lease_id = $2";
        let until = self.now() + after.min(DELAY_MAX);
        held(self.database.execute(sql, &values![position, lease_id, until, failures]).await?)?;
        self.ring(&claim.queue);
        Ok(())
    }

    /// Moves a leased message to the dead letters and lets the next one with its key go on.
    async fn bury(
        &self,
        transaction: &mut Transaction,
        claim: &Claim,
        reason: &str,
        failures: i64,
    ) -> Result<(), QueueError> {
        let (position, lease_id, ordering_key) = ticket(claim)?;
        let sql = format!(
            "INSERT INTO berth_dead_letters (queue, failures, reason, dead_at, {MESSAGE_COLUMNS}) \
             SELECT queue, failures + $3, $4, $5, {MESSAGE_COLUMNS} FROM berth_queue WHERE position = $1 AND lease_id = $2"
        );
        let reason = clean_reason(reason);
        held(transaction.execute(&sql, &values![position, lease_id, failures, &reason, self.now()]).await?)?;
        transaction.execute("DELETE FROM berth_queue WHERE position = $1", &values![position]).await?;
        if let Some(key) = ordering_key {
            unblock(transaction, &claim.queue, key).await?;
        }
        let message = &claim.message;
        tracing::warn!(plugin = %claim.queue, id = message.id, message_type = message.message_type, reason, "dead letter");
        Ok(())
    }
}

fn ticket(claim: &Claim) -> Result<(i64, &str, Option<&str>), QueueError> {
    match &claim.ticket {
        Ticket::Row { position, lease_id, ordering_key } => Ok((*position, lease_id, ordering_key.as_deref())),
        Ticket::Tag { .. } => Err(QueueError::LeaseLost),
    }
}

fn held(changed: u64) -> Result<(), QueueError> {
    if changed == 1 { Ok(()) } else { Err(QueueError::LeaseLost) }
}

/// Makes the first of the remaining messages with the key ready.
async fn unblock(transaction: &mut Transaction, queue: &str, key: &str) -> Result<(), QueueError> {
    let sql = "UPDATE berth_queue SET is_blocked = FALSE WHERE position = \
               (SELECT MIN(position) FROM berth_queue WHERE queue = $1 AND ordering_key = $2 AND is_blocked = TRUE)";
    transaction.execute(sql, &[Value::from(queue), Value::from(key)]).await?;
    Ok(())
}
