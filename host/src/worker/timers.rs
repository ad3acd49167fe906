//! Timers: a tick is a message that is put into the plugin's queue in the same transaction that moves the timer on, so each
//! one comes exactly once over all hosts on the database.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::relay::until;
use super::{Inner, chain};
use crate::capability::queue::{OutgoingMessage, QueueError, QueueRoom, timer_type};
use crate::database::{format_timestamp, values};
use crate::schedule::Schedule;

/// How often it looks unasked, for timers that another host has changed.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// The most timers of one plugin: more are refused.
const TIMERS_MAX: usize = 50;
/// The longest name of a timer.
const NAME_BYTES_MAX: usize = 40;
/// Ticks of one pass; further ones come in the next.
const PASS_MAX: usize = 64;
/// When a timer whose stored schedule cannot be read is looked at again.
const UNREADABLE_AGAIN: Duration = Duration::from_secs(60 * 60);

/// Replaces a plugin's timers.
pub(super) async fn set(room: &QueueRoom, plugin: &str, timers: &[(String, String)]) -> Result<(), QueueError> {
    if timers.len() > TIMERS_MAX {
        return Err(QueueError::Invalid(format!("a plugin has at most {TIMERS_MAX} timers")));
    }
    let now = room.now();
    let mut rows = Vec::new();
    for (name, schedule) in timers {
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_allowed) {
            let rule = format!("a timer's name has 1 to {NAME_BYTES_MAX} characters of a-z, 0-9, _ and -");
            return Err(QueueError::Invalid(rule));
        }
        let parsed =
            Schedule::parse(schedule).map_err(|error| QueueError::Invalid(format!("timer {name}: {error}")))?;
        let next_at = parsed.next_after(now);
        rows.push((name, schedule, next_at.ok_or_else(|| QueueError::Invalid(format!("timer {name} never ticks")))?));
    }
    let mut stored = BTreeMap::new();
    let sql = "SELECT name, schedule FROM berth_timers WHERE plugin = $1";
    for row in room.database().query(sql, &values![plugin]).await? {
        stored.insert(row.text("name")?, row.text("schedule")?);
    }
    if stored == timers.iter().cloned().collect() {
        return Ok(());
    }
    let mut transaction = room.database().begin().await?;
    for name in stored.into_keys() {
        if !timers.iter().any(|(wanted, _)| *wanted == name) {
            let sql = "DELETE FROM berth_timers WHERE plugin = $1 AND name = $2";
            transaction.execute(sql, &values![plugin, name]).await?;
        }
    }
    for (name, schedule, next_at) in rows {
        // One whose schedule stays keeps its next tick: a deploy must not put it off.
        let sql = "INSERT INTO berth_timers (plugin, name, schedule, next_at) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (plugin, name) DO UPDATE SET schedule = excluded.schedule, next_at = excluded.next_at \
                   WHERE berth_timers.schedule <> excluded.schedule";
        transaction.execute(sql, &values![plugin, name, schedule, next_at]).await?;
    }
    Ok(transaction.commit().await?)
}

/// The clock's loop.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut has_failed = false;
    loop {
        let wait = match tick(&inner.room).await {
            Ok(next) => {
                has_failed = false;
                until(&inner.room, next, POLL_EVERY)
            }
            Err(error) => {
                if !has_failed {
                    tracing::warn!(error = %chain(&error), "timers cannot tick and are tried again");
                }
                has_failed = true;
                POLL_EVERY
            }
        };
        tokio::select! {
            () = inner.stopping.cancelled() => return,
            () = inner.timers_changed.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Sends what is due and says when the next tick is.
pub(super) async fn tick(room: &QueueRoom) -> Result<Option<DateTime<Utc>>, QueueError> {
    let sql = format!(
        "SELECT plugin, name, schedule, next_at FROM berth_timers WHERE next_at <= $1 ORDER BY next_at LIMIT {PASS_MAX}"
    );
    for row in room.database().query(&sql, &values![room.now()]).await? {
        let due = Due {
            plugin: row.text("plugin")?,
            name: row.text("name")?,
            schedule: row.text("schedule")?,
            at: row.timestamp("next_at")?,
        };
        due.send(room).await?;
    }
    let row = room.database().query_one("SELECT MIN(next_at) AS next_at FROM berth_timers", &[]).await?;
    Ok(row.map(|row| row.optional_timestamp("next_at")).transpose()?.flatten())
}

struct Due {
    plugin: String,
    name: String,
    schedule: String,
    at: DateTime<Utc>,
}

impl Due {
    /// Moves the timer on and sends the tick, unless another host was first; and without a message while the tick before
    /// still waits.
    async fn send(&self, room: &QueueRoom) -> Result<(), QueueError> {
        let now = room.now();
        let next_at = Schedule::parse(&self.schedule).ok().and_then(|schedule| schedule.next_tick(self.at, now));
        let mut transaction = room.database().begin().await?;
        let sql = "UPDATE berth_timers SET next_at = $4, last_at = $5 WHERE plugin = $1 AND name = $2 AND next_at = $3";
        let next = next_at.unwrap_or_else(|| {
            tracing::error!(plugin = self.plugin, timer = self.name, "the timer's schedule cannot be read");
            now + UNREADABLE_AGAIN
        });
        let moved = transaction.execute(sql, &values![&self.plugin, &self.name, self.at, next, now]).await?;
        if moved == 0 || next_at.is_none() {
            return Ok(transaction.commit().await?);
        }
        let message_type = timer_type(&self.plugin, &self.name);
        if room.backend().may_tick(&mut transaction, &self.plugin, &message_type).await? {
            let data = json!({
                "name": self.name,
                "schedule": self.schedule,
                "scheduledAt": format_timestamp(self.at),
            });
            room.publish_in(&mut transaction, OutgoingMessage::tick(&self.plugin, &self.name, &data)).await?;
        }
        transaction.commit().await?;
        room.wake();
        Ok(())
    }
}
