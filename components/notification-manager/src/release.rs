//! The timer `held`: what waited for its time goes on, and keys that have served are cleared away.

use berth_sdk::{events::Message, prelude::*};

use crate::notification::create::PROCESS;

/// Notifications that one tick releases.
const RELEASED_MAX: usize = 1_000;
/// Notifications released in one transaction.
const BATCH: usize = 100;

#[data]
struct Due {
    id: Id,
    organization_id: Id,
}

/// Releases what is due. Whoever changes the status sends it on, so that two ticks never do both.
pub fn tick(_: &Envelope) -> Result<()> {
    let now = clock::now();
    let due: Vec<Due> = database::query_as(
        &Pool,
        &format!(
            "SELECT id, organization_id AS \"organizationId\" FROM notification_notifications \
             WHERE status IN ('HELD', 'SCHEDULED') AND scheduled_for <= $1 ORDER BY scheduled_for, id LIMIT {RELEASED_MAX}"
        ),
        params![now],
    )?;
    for batch in due.chunks(BATCH) {
        database::transaction(|transaction| {
            for row in batch {
                let changed = transaction.execute(
                    "UPDATE notification_notifications SET status = 'PENDING', status_reason = NULL, updated_at = $2, \
                     version = version + 1 WHERE id = $1 AND status IN ('HELD', 'SCHEDULED') AND scheduled_for <= $2",
                    params![&row.id, now],
                )?;
                if changed == 1 {
                    let message = Message::new(PROCESS, &json!({ "notificationId": row.id }))?;
                    transaction.enqueue_message(&message.for_organization(row.organization_id.as_str()))?;
                }
            }
            Ok::<_, Problem>(())
        })?;
    }
    database::execute("DELETE FROM notification_dedup_keys WHERE expires_at <= $1", params![now])?;
    Ok(())
}
