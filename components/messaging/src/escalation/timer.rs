//! The clock of escalations: a tick finds what is due, and each message is then raised in a work message of its own.

use berth_sdk::{events::Message as News, prelude::*};

use super::{LEVEL_MAX, Step, raise};
use crate::{
    conversation::Conversation,
    message::{Message, change},
    people, signal,
};

/// The work message.
pub const ESCALATE: &str = "messaging.escalate";
/// Messages that one tick finds at once, and how often it looks.
const DUE_MAX: usize = 500;
const ROUNDS_MAX: usize = 10;

#[data]
struct Work {
    message_id: Id,
    level: i64,
}

#[data]
struct Due {
    id: Id,
    organization_id: Id,
    escalate_at: Timestamp,
    level: i64,
}

/// `escalations`, every ten minutes: over all organizations.
pub fn tick(_: &Envelope) -> Result<()> {
    let now = clock::now();
    let mut after = (Timestamp::from_millis(0), String::new());
    for _ in 0..ROUNDS_MAX {
        let sql = format!(
            "SELECT id, organization_id AS \"organizationId\", escalate_at AS \"escalateAt\", escalation_level AS level \
             FROM messaging_messages WHERE escalate_at IS NOT NULL AND escalate_at <= $1 \
             AND (escalate_at > $2 OR (escalate_at = $2 AND id > $3)) ORDER BY escalate_at, id LIMIT {DUE_MAX}"
        );
        let due: Vec<Due> = database::query_as(&Pool, &sql, params![now, after.0, &after.1])?;
        let Some(last) = due.last() else { break };
        after = (last.escalate_at, last.id.to_string());
        database::transaction(|transaction| {
            for due in &due {
                let work = Work { message_id: due.id.clone(), level: due.level + 1 };
                // The same level is asked for once, however many ticks see it.
                let name: String = format!("escalate-{}-{}", work.level, due.id).chars().take(64).collect();
                let message = News::new(ESCALATE, &work)?.for_organization(due.organization_id.as_str()).with_id(name);
                transaction.enqueue_message(&message)?;
            }
            Ok::<_, Problem>(())
        })?;
        if due.len() < DUE_MAX {
            break;
        }
    }
    Ok(())
}

/// `messaging.escalate`.
pub fn run(envelope: &Envelope) -> Result<()> {
    let work: Work = envelope.data()?;
    let Some(found) = entity::find::<Message>(&Pool, &work.message_id)? else { return Ok(()) };
    if !is_due(&found, work.level, clock::now()) {
        return Ok(());
    }
    let conversation_id = found.data.conversation_id;
    let Some(conversation) = entity::find::<Conversation>(&Pool, &conversation_id)? else { return Ok(()) };
    let administrators = people::administrators(conversation.data.project_id.as_ref())?;
    let result = database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        change::change_within(transaction, &conversation_id, &work.message_id, |change| {
            // Somebody may have answered in the meantime.
            if is_due(&change.row, work.level, change.now) {
                let reason = format!("Nobody answered: {}.", change.row.message_type.as_str().replace('_', " "));
                raise(change, Step { reason, to: Vec::new(), priority: None, administrators })?;
            }
            Ok(())
        })?;
        Ok::<_, Problem>(())
    });
    match result {
        // The conversation was deleted.
        Err(problem) if problem.status == 404 => Ok(()),
        result => {
            signal::ring(&conversation_id);
            result
        }
    }
}

fn is_due(message: &Message, level: i64, now: Timestamp) -> bool {
    let is_next = message.escalation_level + 1 == level && level <= LEVEL_MAX;
    is_next && message.deleted_at.is_none() && message.escalate_at.is_some_and(|at| at <= now)
}
