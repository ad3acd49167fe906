//! What a deleted conversation leaves is removed piece by piece, after it is out of sight.

use std::time::Duration;

use berth_sdk::prelude::*;

/// The work message.
pub const PURGE: &str = "messaging.purge";
/// Rows that one statement removes, and statements of one message.
const ROWS_MAX: i64 = 2_000;
const ROUNDS_MAX: u32 = 10;
/// What hangs on a conversation.
const TABLES: [&str; 4] =
    ["messaging_addressees", "messaging_decisions", "messaging_escalations", "messaging_messages"];

#[data]
struct Work {
    conversation_id: Id,
}

/// Closes the door at once, and leaves the rest to work messages.
pub fn begin(transaction: &Transaction, conversation_id: &Id) -> Result<()> {
    transaction.execute(
        "DELETE FROM messaging_participants WHERE conversation_id = $1 AND organization_id = $2",
        params![conversation_id, auth::organization_id()?],
    )?;
    transaction.enqueue(PURGE, &Work { conversation_id: conversation_id.clone() }, Duration::ZERO)?;
    Ok(())
}

/// `messaging.purge`. Repeating it does no harm.
pub fn purge(envelope: &Envelope) -> Result<()> {
    let work: Work = envelope.data()?;
    let organization_id = auth::organization_id()?;
    let mut rounds = 0;
    for table in TABLES {
        let sql = format!(
            "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE conversation_id = $1 \
             AND organization_id = $2 LIMIT {ROWS_MAX})"
        );
        while database::execute(&sql, params![&work.conversation_id, &organization_id])? > 0 {
            rounds += 1;
            if rounds >= ROUNDS_MAX {
                events::enqueue(PURGE, &work, Duration::ZERO)?;
                return Ok(());
            }
        }
    }
    Ok(())
}
