//! The inbox: what its owner reads, marks and throws away. Everybody has only their own.

use berth_sdk::{prelude::*, serde_json::Value};

use super::{Notification, announce, send};
use crate::delivery::{Delivery, lock};

/// The inbox, a page of it.
#[data]
pub struct InboxPage {
    items: Vec<Value>,
    total: i64,
    limit: i64,
    offset: i64,
    /// Everything in the inbox that is unread.
    unread: i64,
}

/// 403 when the query asks for somebody else's.
fn require_own(query: &PageQuery) -> Result<()> {
    match query.filter("userId") {
        Some(other) if auth::principal().user_id.as_deref() != Some(other.as_str()) => {
            Err(Problem::forbidden("Nobody reads another user's inbox."))
        }
        _ => Ok(()),
    }
}

fn in_inbox() -> Select<Notification> {
    Select::new().equal("in_inbox", true)
}

/// `GET /api/notifications`.
pub fn list(query: PageQuery) -> Result<JsonText<InboxPage>> {
    require_own(&query)?;
    let page = in_inbox().page(&Pool, &query)?;
    let unread = in_inbox().equal("read", false).count(&Pool)?;
    let mut text = page.text;
    text.pop();
    text.extend_from_slice(format!(",\"unread\":{unread}}}").as_bytes());
    Ok(JsonText::new(200, text))
}

/// How much is unread.
#[data]
pub struct Unread {
    count: i64,
    unread: i64,
}

/// `GET /api/notifications/unread-count`.
pub fn unread_count() -> Result<Json<Unread>> {
    let count = in_inbox().equal("read", false).count(&Pool)?;
    Ok(Json(Unread { count, unread: count }))
}

/// `GET /api/notifications/history`: everything that was ever for the caller, whatever became of it.
pub fn history(query: PageQuery) -> Result<JsonText<Page<Stored<Notification>>>> {
    require_own(&query)?;
    let mut select = Select::<Notification>::new();
    for (name, comparison) in [("from", ">="), ("to", "<")] {
        if let Some(text) = query.filter(name) {
            let time = Timestamp::parse(&text)
                .ok_or_else(|| Problem::field(name, "must be a time such as 2026-01-31T08:15:00Z"))?;
            select = select.condition(&format!("\"created_at\" {comparison} ?"), [time]);
        }
    }
    select.page(&Pool, &query)
}

/// `GET /api/notifications/{id}`.
pub fn read_one(Params(id): Params<Id>) -> Result<Stored<Notification>> {
    entity::read::<Notification>(&Pool, &id)
}

/// `DELETE /api/notifications/{id}`.
pub fn remove(Params(id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    database::transaction(|transaction| {
        entity::delete::<Notification>(transaction, &id, if_match)?;
        transaction.execute("DELETE FROM notification_delivery_logs WHERE notification_id = $1", params![&id])?;
        Ok::<_, Problem>(NoContent)
    })
}

/// `PUT /api/notifications/{id}/read`.
pub fn mark_read(Params(id): Params<Id>, if_match: IfMatch) -> Result<Stored<Notification>> {
    mark(&id, if_match, true)
}

/// `PUT /api/notifications/{id}/unread`.
pub fn mark_unread(Params(id): Params<Id>, if_match: IfMatch) -> Result<Stored<Notification>> {
    mark(&id, if_match, false)
}

fn mark(id: &Id, if_match: IfMatch, read: bool) -> Result<Stored<Notification>> {
    database::transaction(|transaction| {
        // Its deliveries change the row too: whoever reads it is not refused because one of them ends.
        lock(transaction, id)?;
        let mut row = entity::read::<Notification>(transaction, id)?;
        if_match.check(row.version)?;
        if row.read != read {
            row.read = read;
            row.read_at = read.then(clock::now);
            entity::save(transaction, &mut row)?;
            if read {
                announce(transaction, "notification.read", &row)?;
            }
        }
        Ok(row)
    })
}

/// How many were marked.
#[data]
pub struct Updated {
    updated: i64,
}

/// `PUT /api/notifications/read-all`: what stood in the inbox before the request, in one statement. What is held or scheduled
/// has not been seen by anybody and stays unread.
pub fn read_all() -> Result<Json<Updated>> {
    let (user_id, organization_id, now) = (auth::user_id()?, auth::organization_id()?, clock::now());
    let updated = database::transaction(|transaction| {
        let updated = transaction.execute(
            "UPDATE notification_notifications SET read = $3, read_at = $4, updated_at = $4, version = version + 1 \
             WHERE organization_id = $1 AND user_id = $2 AND read = $5 AND in_inbox = $3 AND created_at <= $4",
            params![&organization_id, &user_id, true, now, false],
        )?;
        if updated > 0 {
            let data = json!({"userId": user_id, "all": true, "count": updated, "readAt": now});
            transaction.publish("notification.read", &data)?;
        }
        Ok::<_, Problem>(updated)
    })?;
    Ok(Json(Updated { updated: i64::try_from(updated).unwrap_or(i64::MAX) }))
}

/// `POST /api/notifications/{id}/acknowledge`: ends the escalation, also of what this one escalates.
pub fn acknowledge(Params(id): Params<Id>) -> Result<Stored<Notification>> {
    database::transaction(|transaction| {
        lock(transaction, &id)?;
        let mut row = entity::read::<Notification>(transaction, &id)?;
        if row.acknowledged_at.is_some() {
            return Ok(row);
        }
        let now = clock::now();
        row.acknowledged_at = Some(now);
        row.escalation_due_at = None;
        if !row.read {
            (row.read, row.read_at) = (true, Some(now));
            announce(transaction, "notification.read", &row)?;
        }
        entity::save(transaction, &mut row)?;
        if let Some(root) = &row.escalated_from {
            // The root belongs to somebody else; only its escalation ends.
            transaction.execute(
                "UPDATE notification_notifications SET acknowledged_at = $3, escalation_due_at = NULL, updated_at = $3, \
                 version = version + 1 WHERE id = $1 AND organization_id = $2 AND acknowledged_at IS NULL",
                params![root, auth::organization_id()?, now],
            )?;
        }
        Ok(row)
    })
}

/// `GET /api/notifications/{id}/deliveries`.
pub fn deliveries(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Delivery>>>> {
    send::require_involved(&Pool, &id)?;
    Select::<Delivery>::new().equal("notification_id", &id).page(&Pool, &query)
}
