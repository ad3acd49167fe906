//! Escalating: the timer finds what is due, a message of its organization does it.

use berth_sdk::{events::Message, prelude::*};

use super::{
    Chain, Found,
    levels::{self, Level, RecipientType, builtin},
};
use crate::{
    delivery::process,
    directory,
    notification::{Notification, Status, create},
};

/// The work message of one level.
const ESCALATE: &str = "notification.escalate";
/// Levels that one tick brings on their way.
const DUE_MAX: usize = 500;
/// Who is told when somebody is on call.
const ON_CALL: &[&str] = &["On Call", "On-Call", "on-call"];

#[data]
struct Due {
    id: Id,
    organization_id: Id,
    escalation_level: i64,
}

/// The timer `escalation`.
pub fn tick(_: &Envelope) -> Result<()> {
    let now = clock::now();
    let due: Vec<Due> = database::query_as(
        &Pool,
        &format!(
            "SELECT id, organization_id AS \"organizationId\", escalation_level AS \"escalationLevel\" \
             FROM notification_notifications WHERE escalation_due_at IS NOT NULL AND escalation_due_at <= $1 \
             ORDER BY escalation_due_at, id LIMIT {DUE_MAX}"
        ),
        params![now],
    )?;
    for row in &due {
        database::transaction(|transaction| {
            // Whoever takes the time away escalates; the message brings the next one.
            let changed = transaction.execute(
                "UPDATE notification_notifications SET escalation_due_at = NULL, version = version + 1 \
                 WHERE id = $1 AND escalation_due_at <= $2 AND acknowledged_at IS NULL",
                params![&row.id, now],
            )?;
            if changed == 1 {
                let work = json!({ "notificationId": row.id, "done": row.escalation_level });
                let message = Message::new(ESCALATE, &work)?.for_organization(row.organization_id.as_str());
                transaction.enqueue_message(&message)?;
            }
            Ok::<_, Problem>(())
        })?;
    }
    Ok(())
}

#[data]
struct Work {
    notification_id: Id,
    /// Levels that were done before.
    done: i64,
}

/// `notification.escalate`.
pub fn escalate(envelope: &Envelope) -> Result<()> {
    let work: Work = envelope.data()?;
    let Some(row) = entity::find::<Notification>(&Pool, &work.notification_id)? else { return Ok(()) };
    if row.escalation_level != work.done || matches!(row.status, Status::Cancelled | Status::Expired) {
        return Ok(());
    }
    let Some(chain) = chain_of(&row)? else { return Ok(()) };
    let done = usize::try_from(work.done).unwrap_or(usize::MAX);
    let Some(level) = chain.levels.get(done) else { return Ok(()) };
    let acts = level.acts(row.acknowledged_at.is_some(), row.resolved_at.is_some());
    let copies = if acts { copies(&row, level)? } else { Vec::new() };
    if acts && level.is_for_the_recipient() {
        // Before the level counts as done, so that a failure here is tried again; a channel that was added is not added twice.
        process::add_channel(&row, &level.channels)?;
    }
    advance(&row, &chain, done, acts.then_some(level), copies)
}

fn chain_of(row: &Stored<Notification>) -> Result<Option<Found>> {
    let Some(id) = &row.escalation_chain_id else { return Ok(Some(Found { id: None, levels: builtin() })) };
    let chain = entity::find::<Chain>(&Pool, id)?.filter(|chain| chain.is_active);
    Ok(chain.map(|chain| Found { id: Some(chain.id.clone()), levels: levels::by_delay(&chain.levels) }))
}

/// What other people are told.
fn copies(row: &Stored<Notification>, level: &Level) -> Result<Vec<Notification>> {
    let recipients: Vec<Id> = match (level.recipient_type, level.recipient_id.as_deref()) {
        (RecipientType::Original, _) => Vec::new(),
        (RecipientType::User | RecipientType::OnCall, Some(user_id)) => vec![user_id.into()],
        (RecipientType::Role, Some(role)) => ids(directory::members_with_role(&[role])?),
        (RecipientType::OnCall, None) => {
            let on_call = directory::members_with_role(ON_CALL)?;
            ids(if on_call.is_empty() { directory::administrators()? } else { on_call })
        }
        (RecipientType::User | RecipientType::Role, None) => Vec::new(),
    };
    let copy = |user_id: Id| Notification {
        user_id,
        status: Status::Pending,
        status_reason: None,
        channels_requested: level.channels.clone(),
        channels_delivered: Vec::new(),
        read: false,
        read_at: None,
        dedup_key: None,
        batch_id: None,
        scheduled_for: None,
        escalation_chain_id: None,
        escalation_level: 0,
        escalation_due_at: None,
        escalated_from: Some(row.id.clone()),
        in_inbox: false,
        inbox_at: None,
        ..row.data.clone()
    };
    Ok(recipients.into_iter().filter(|id| *id != row.user_id).map(copy).collect())
}

fn ids(members: Vec<directory::Member>) -> Vec<Id> {
    members.into_iter().map(|member| member.id).collect()
}

/// Notes the level as done and sets the next one; tells others. Nothing happens when somebody else did it, or took note.
fn advance(
    row: &Stored<Notification>,
    chain: &Found,
    done: usize,
    level: Option<&Level>,
    copies: Vec<Notification>,
) -> Result<()> {
    let now = clock::now();
    database::transaction(|transaction| {
        let mut fresh = entity::read::<Notification>(transaction, &row.id)?;
        if fresh.escalation_level != row.escalation_level || fresh.acknowledged_at.is_some() {
            return Ok(());
        }
        let sent_at = fresh.inbox_at.unwrap_or(fresh.created_at);
        fresh.escalation_level = i64::try_from(done + 1).unwrap_or(i64::MAX);
        fresh.escalation_due_at = levels::due(&chain.levels, done + 1, sent_at, now);
        entity::save(transaction, &mut fresh)?;
        let Some(level) = level else { return Ok(()) };
        let told = create::create(transaction, copies)?;
        let facts = json!({
            "id": fresh.id, "notificationId": fresh.id, "userId": fresh.user_id, "type": fresh.r#type,
            "level": fresh.escalation_level, "recipientType": level.recipient_type, "channels": level.channels,
            "notificationIds": told.rows.iter().map(|row| row.id.clone()).collect::<Vec<_>>(),
            "chainId": chain.id,
        });
        transaction.send(&Message::new("notification.escalated", &facts)?.with_key(fresh.id.as_str()))?;
        Ok(())
    })
}
