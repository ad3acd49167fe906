//! Making notifications: deduplicated within the hour, announced, and put into the queue in one transaction.

use std::time::Duration;

use berth_sdk::{cache, prelude::*, serde_json::Value};
use sha2::{Digest, Sha256};

use super::{Notification, Status, announce};

/// How long the same news is not told again.
pub const DEDUPLICATED_FOR: Duration = Duration::from_secs(3_600);
/// The work message that brings a notification on its way.
pub const PROCESS: &str = "notification.process";

/// What was made of a list of drafts.
#[derive(Debug, Default)]
pub struct Made {
    /// Those that are new.
    pub rows: Vec<Stored<Notification>>,
    /// How many were told already.
    pub duplicates: usize,
    /// What the cache learns once it is durable.
    keys: Vec<String>,
}

impl Made {
    /// Call after the commit: later duplicates need not ask the database.
    pub fn remember(&self) {
        for key in &self.keys {
            cache::set_ttl(&cache_key(key), &true, DEDUPLICATED_FOR);
        }
    }
}

/// The key that makes two pieces of news the same for one recipient.
pub fn dedup_key(event_type: &str, resource: Option<&str>, user_id: &str, content: &Value) -> String {
    let hash = Sha256::digest(content.to_string().as_bytes());
    let hash = hex::encode(hash.get(..16).unwrap_or_default());
    format!("{event_type}:{}:{user_id}:{hash}", resource.unwrap_or_default())
}

/// A stored key has a bounded length whatever the given one has.
fn stored_key(organization_id: &str, key: &str) -> String {
    hex::encode(Sha256::digest(format!("{organization_id}\n{key}").as_bytes()))
}

fn cache_key(key: &str) -> String {
    format!("dedup:{}", hex::encode(Sha256::digest(key.as_bytes())))
}

/// Makes the drafts that are new. The database decides what is new, so that what was rolled back is not missed later; the
/// cache only saves asking it.
pub fn create(transaction: &Transaction, drafts: Vec<Notification>) -> Result<Made> {
    let mut made = Made::default();
    let now = clock::now();
    for draft in drafts {
        let id = Id::new();
        if let Some(key) = draft.dedup_key.clone() {
            if cache::get::<bool>(&cache_key(&key)).is_some() || !claim(transaction, &key, &id, now)? {
                made.duplicates += 1;
                continue;
            }
            made.keys.push(key);
        }
        let waits = draft.scheduled_for.is_some_and(|time| time > now);
        let draft = Notification { status: if waits { Status::Scheduled } else { Status::Pending }, ..draft };
        let row = entity::create_as(transaction, id, draft)?;
        announce(transaction, "notification.created", &row)?;
        if !waits {
            transaction.enqueue(PROCESS, &json!({ "notificationId": row.id }), Duration::ZERO)?;
        }
        made.rows.push(row);
    }
    Ok(made)
}

/// Takes the key for an hour; false when it is taken.
fn claim(transaction: &Transaction, key: &str, id: &Id, now: Timestamp) -> Result<bool> {
    let organization_id = auth::organization_id()?;
    let changed = transaction.execute(
        "INSERT INTO notification_dedup_keys (id, organization_id, notification_id, expires_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (id) DO UPDATE SET notification_id = excluded.notification_id, expires_at = excluded.expires_at \
         WHERE notification_dedup_keys.expires_at <= $5",
        params![stored_key(&organization_id, key), &organization_id, id, now.plus(DEDUPLICATED_FOR), now],
    )?;
    Ok(changed > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_news_has_the_same_key_and_other_news_another() {
        let key = |kind, resource, user, content: Value| dedup_key(kind, resource, user, &content);
        let one = key("task.assigned", Some("t1"), "u1", json!({"a": 1}));
        assert_eq!(one, key("task.assigned", Some("t1"), "u1", json!({"a": 1})));
        for other in [
            key("task.assigned", Some("t1"), "u2", json!({"a": 1})),
            key("task.assigned", Some("t2"), "u1", json!({"a": 1})),
            key("task.overdue", Some("t1"), "u1", json!({"a": 1})),
            key("task.assigned", Some("t1"), "u1", json!({"a": 2})),
        ] {
            assert_ne!(one, other);
        }
        assert_ne!(stored_key("o1", &one), stored_key("o2", &one));
    }
}
