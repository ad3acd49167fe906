//! Telling people through notification-manager: a work message in the transaction of what it tells of, then a call.

use std::time::Duration;

use berth_sdk::{
    notice::{self, Criticality},
    prelude::*,
};

use crate::{
    conversation::Conversation,
    escalation::{Escalation, Priority},
    message::{
        Message,
        kind::{MessageType, SenderType, State},
    },
    participant::Participant,
};

/// The work message.
pub const NOTIFY: &str = "messaging.notify";
/// Characters of a message that a notification repeats.
const EXCERPT_CHARACTERS_MAX: usize = 500;

/// What is to be told.
#[data]
struct Notice {
    event_type: String,
    conversation_id: Id,
    message_id: Id,
    project_id: Option<Id>,
    recipient_ids: Vec<Id>,
    title: String,
    body: String,
    criticality: String,
    /// Who has muted the conversation is not told.
    is_mutable: bool,
    /// The same is told once.
    dedup_key: String,
}

/// Tells those who are mentioned.
pub fn mentioned(transaction: &Transaction, message: &Stored<Message>, conversation: &Conversation) -> Result<()> {
    let recipients = without(&message.mentions, &message.sender_id);
    let title = format!("You were mentioned in {}", label(conversation));
    send(transaction, draft("messaging.mention", message, conversation, recipients, title, "MEDIUM", true))
}

/// Tells those who have to decide. Of its steps that wait, execution-service tells them itself.
pub fn asked(
    transaction: &Transaction,
    message: &Stored<Message>,
    conversation: &Conversation,
    approvers: &[Id],
) -> Result<()> {
    if message.sender_type == SenderType::System && message.sender_id == *"execution-service" {
        return Ok(());
    }
    let recipients = without(approvers, &message.sender_id);
    let title = format!("Your decision is needed in {}", label(conversation));
    send(transaction, draft("messaging.approval.requested", message, conversation, recipients, title, "HIGH", false))
}

/// Tells who asked what came of it.
pub fn answered(
    transaction: &Transaction,
    message: &Stored<Message>,
    conversation: &Conversation,
    outcome: State,
) -> Result<()> {
    if message.sender_type != SenderType::Human || message.is_own() {
        return Ok(());
    }
    let what = match message.message_type {
        MessageType::Decision => "Your decision",
        _ => "Your request",
    };
    let kind = format!("messaging.approval.{outcome}");
    let title = format!("{what} in {} was {outcome}", label(conversation));
    send(transaction, draft(&kind, message, conversation, vec![message.sender_id.clone()], title, "MEDIUM", true))
}

/// Tells those whom a level reaches.
pub fn escalated(
    transaction: &Transaction,
    message: &Stored<Message>,
    conversation: &Conversation,
    escalation: &Escalation,
) -> Result<()> {
    let criticality = match escalation.priority {
        Priority::Low => "LOW",
        Priority::Medium => "MEDIUM",
        Priority::High => "HIGH",
        Priority::Critical => "CRITICAL",
    };
    let title = format!("Escalated in {}: {}", label(conversation), escalation.reason);
    let recipients = escalation.escalate_to.clone();
    let mut notice = draft("messaging.escalated", message, conversation, recipients, title, criticality, false);
    notice.dedup_key = format!("{}:{}", notice.dedup_key, escalation.level);
    send(transaction, notice)
}

fn without(ids: &[Id], sender: &Id) -> Vec<Id> {
    ids.iter().filter(|id| *id != sender).cloned().collect()
}

/// How people know a conversation.
fn label(conversation: &Conversation) -> String {
    let named = conversation.title.as_ref().or(conversation.name.as_ref());
    named.map_or_else(|| "a conversation".to_string(), |name| name.chars().take(100).collect())
}

fn draft(
    kind: &str,
    message: &Stored<Message>,
    conversation: &Conversation,
    recipient_ids: Vec<Id>,
    title: String,
    criticality: &str,
    is_mutable: bool,
) -> Notice {
    Notice {
        event_type: kind.to_string(),
        conversation_id: message.conversation_id.clone(),
        message_id: message.id.clone(),
        project_id: conversation.project_id.clone(),
        recipient_ids,
        title: title.chars().take(200).collect(),
        body: message.content.chars().take(EXCERPT_CHARACTERS_MAX).collect(),
        criticality: criticality.to_string(),
        is_mutable,
        dedup_key: format!("{kind}:{}", message.id),
    }
}

fn send(transaction: &Transaction, notice: Notice) -> Result<()> {
    if !notice.recipient_ids.is_empty() {
        transaction.enqueue(NOTIFY, &notice, Duration::ZERO)?;
    }
    Ok(())
}

/// `messaging.notify`.
pub fn deliver(envelope: &Envelope) -> Result<()> {
    let mut notice: Notice = envelope.data()?;
    if notice.is_mutable {
        let muted = muted(&notice)?;
        notice.recipient_ids.retain(|id| !muted.contains(id));
    }
    if notice.recipient_ids.is_empty() {
        return Ok(());
    }
    let criticality = match notice.criticality.as_str() {
        "LOW" => Criticality::Low,
        "HIGH" => Criticality::High,
        "CRITICAL" => Criticality::Critical,
        _ => Criticality::Medium,
    };
    notice::Notice::new(&notice.event_type, &notice.title, criticality)
        .to(notice.recipient_ids)
        .body(&notice.body)
        .about("message", &notice.message_id)
        .once(&notice.dedup_key)
        .with("category", "COLLABORATION")
        .with("projectId", json!(notice.project_id))
        .with("actionUrl", format!("/messaging/{}?message={}", notice.conversation_id, notice.message_id))
        .deliver(envelope)
}

/// Who does not want to hear of the conversation just now.
fn muted(notice: &Notice) -> Result<Vec<Id>> {
    let muted = Select::<Participant>::new()
        .equal("conversation_id", &notice.conversation_id)
        .one_of("user_id", notice.recipient_ids.iter())
        .condition("\"muted_until\" > ?", [clock::now()])
        .all(&Pool)?;
    Ok(muted.into_iter().map(|participant| participant.data.user_id).collect())
}
