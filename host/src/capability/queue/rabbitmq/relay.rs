//! From the outbox to the broker: published in order, taken out of the outbox once the broker has it.
//!
//! One host relays at a time. Everything of a batch is under way before the first confirmation is waited for; what was not
//! confirmed stays in the outbox and is sent again, and with it every later message of the same ordering key, so that a
//! consumer that drops repetitions sees each key's messages in their order.

use std::collections::HashSet;

use crate::capability::queue::backend::{QueueError, Relayed};
use crate::capability::queue::message::Kind;
use crate::capability::queue::outbox::{self, MESSAGE_COLUMNS};
use crate::database::{Dialect, QueryLimits, Row, Rows, Scope, Transaction, Value, values};

use super::RabbitMq;
use super::link::{Link, confirmed};
use super::wire;

/// The most messages of one pass: as many of the largest as [`BATCH_BYTES_MAX`] holds.
const BATCH_MAX: usize = 200;
/// What their payloads and the rest of their rows may come to.
const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;
/// One host relays at a time, so that events leave in their order and once.
const RELAY_LOCK: i64 = 0x6265_7274_6871_7565;

/// A message that is under way.
struct Pending {
    position: i64,
    key: Option<String>,
    confirm: lapin::PublisherConfirm,
}

impl RabbitMq {
    pub(super) async fn relay_batch(&self) -> Result<Relayed, QueueError> {
        let _one_at_a_time = self.relaying.lock().await;
        let now = self.now();
        let due = "SELECT 1 AS due FROM berth_outbox WHERE held_until IS NULL OR held_until <= $1 LIMIT 1";
        if self.database.query_one(due, &values![now]).await?.is_none() {
            return Ok(Relayed { next_due: self.next_held().await?, ..Relayed::default() });
        }
        // Before a lock is taken: a host that cannot reach the broker must not keep one from relaying that can.
        let link = self.link().await?;
        // On SQLite there is one process; its writers must not wait for a broker, so no transaction is held there.
        let guard = match self.database.dialect() {
            Dialect::Sqlite => None,
            Dialect::Postgres => match self.lock().await? {
                Some(transaction) => Some(transaction),
                None => return Ok(Relayed::default()),
            },
        };
        let rows = self.due(now).await?;
        let count = rows.len();
        let sent = send(&link, rows.iter()).await;
        let mut transaction = match guard {
            Some(guard) => guard,
            None => self.database.begin().await?,
        };
        outbox::delete(&mut transaction, sent.positions).await?;
        transaction.commit().await?;
        match sent.fault {
            Some(fault) => Err(fault),
            None => Ok(Relayed { messages: count, has_more: count == BATCH_MAX, next_due: self.next_held().await? }),
        }
    }

    async fn due(&self, now: chrono::DateTime<chrono::Utc>) -> Result<Rows, QueueError> {
        let limits = QueryLimits { rows_max: BATCH_MAX, bytes_max: BATCH_BYTES_MAX, ..QueryLimits::default() };
        let sql = format!(
            "SELECT position, queue, {MESSAGE_COLUMNS} FROM berth_outbox WHERE held_until IS NULL OR held_until <= $1 \
             ORDER BY position LIMIT {BATCH_MAX}"
        );
        Ok(self.database.query_within(Scope::default(), &sql, &values![now], limits).await?)
    }

    /// None when another host relays.
    async fn lock(&self) -> Result<Option<Transaction>, QueueError> {
        let mut transaction = self.database.begin().await?;
        let row = transaction.query_one("SELECT pg_try_advisory_xact_lock($1) AS locked", &values![RELAY_LOCK]).await?;
        let is_locked = row.map(|row| row.boolean("locked")).transpose()?.unwrap_or(false);
        Ok(is_locked.then_some(transaction))
    }

    async fn next_held(&self) -> Result<Option<chrono::DateTime<chrono::Utc>>, QueueError> {
        let row = self.database.query_one("SELECT MIN(held_until) AS due FROM berth_outbox", &[]).await?;
        Ok(row.map(|row| row.optional_timestamp("due")).transpose()?.flatten())
    }
}

/// Sends everything first and then waits for what the broker says of each; stops at the first that cannot be sent.
async fn send<'r>(link: &Link, rows: impl Iterator<Item = &'r Row>) -> Sent {
    let (mut sent, mut pending) = (Sent::default(), Vec::new());
    for row in rows {
        match send_one(link, row).await {
            Ok(one) => pending.push(one),
            Err(fault) => {
                sent.fault = Some(fault);
                break;
            }
        }
    }
    let mut held_up: HashSet<String> = HashSet::new();
    for Pending { position, key, confirm } in pending {
        match confirmed(confirm).await {
            Ok(()) if key.as_ref().is_none_or(|key| !held_up.contains(key)) => {
                sent.positions.push(Value::Integer(position));
            }
            Ok(()) => {}
            Err(fault) => {
                held_up.extend(key);
                // A broker that says nothing would be waited for once a message.
                let is_over = matches!(fault, QueueError::Timeout);
                sent.fault = Some(fault);
                if is_over {
                    break;
                }
            }
        }
    }
    sent
}

async fn send_one(link: &Link, row: &Row) -> Result<Pending, QueueError> {
    let position = row.integer("position")?;
    let message = outbox::read_message(row)?;
    let key = row.optional_text("ordering_key")?;
    let properties = wire::properties(&message, key.as_deref(), 0);
    let body = message.envelope()?;
    let confirm = match (message.kind, row.optional_text("queue")?) {
        (Kind::Work | Kind::Timer, Some(plugin)) => {
            link.declare_queue(&plugin).await?;
            link.send("".into(), link.queue(&plugin), true, body.as_bytes(), properties).await?
        }
        // An event that nobody binds is nobody's.
        _ => {
            let routing_key = message.message_type.as_str().into();
            link.send(link.events(), routing_key, false, body.as_bytes(), properties).await?
        }
    };
    Ok(Pending { position, key, confirm })
}

/// What the broker has, and what went wrong with the rest.
#[derive(Default)]
struct Sent {
    positions: Vec<Value>,
    fault: Option<QueueError>,
}
