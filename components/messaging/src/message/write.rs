//! Writing a message: the number comes from the conversation's row, whose lock is held until the commit. So numbers have
//! no gap, and whoever sees one sees all before it.

use std::time::Duration;

use berth_sdk::{
    database::Value as Parameter,
    prelude::*,
    serde_json::{Map, Value},
};

use super::{
    Message, announce,
    kind::{self, MessageType, SenderType, State},
};
use crate::{
    access::{self, Seat},
    conversation::Conversation,
    decision, notice,
    participant::Participant,
};

/// The code of a message that was sent before; it never leaves the service.
pub const SENT_BEFORE: &str = "SENT_BEFORE";

/// What is to be said.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Where.
    pub conversation_id: Id,
    /// In reply to.
    pub thread_id: Option<Id>,
    /// The text.
    pub content: String,
    /// What it is.
    pub message_type: MessageType,
    /// What kind of sender.
    pub sender_type: SenderType,
    /// Who.
    pub sender_id: Id,
    /// What its sender calls it: the same is said once.
    pub client_message_id: Option<String>,
    /// What its type needs to know.
    pub structured_data: Option<Map<String, Value>>,
    /// Who is mentioned; judged already.
    pub mentions: Vec<Id>,
    /// What its sender wants to remember.
    pub metadata: Map<String, Value>,
}

/// Takes the next number; 404 or 409 when nothing can be said there (any more).
fn number(transaction: &Transaction, draft: &Draft, now: Timestamp) -> Result<(i64, i64)> {
    let mut values: Vec<Parameter> = params![&draft.conversation_id, auth::organization_id()?, now].to_vec();
    let mut sql = String::from(
        "UPDATE messaging_conversations SET last_seq = last_seq + 1, last_message_at = $3 \
         WHERE id = $1 AND organization_id = $2 AND is_archived = FALSE",
    );
    if let Some(seen) = access::visible() {
        sql.push_str(&format!(" AND ({})", seen.placed(&mut values)));
    }
    sql.push_str(" RETURNING last_seq, last_change");
    match transaction.query_one(&sql, &values)? {
        Some(row) => Ok((row.get("last_seq")?, row.get("last_change")?)),
        None => {
            Seat::take(transaction, &draft.conversation_id)?;
            Err(access::archived())
        }
    }
}

/// Says it. 409 with [`SENT_BEFORE`] when the same was said before: the transaction must be undone then.
pub fn write(transaction: &Transaction, draft: Draft) -> Result<Stored<Message>> {
    let now = clock::now();
    let (seq, change_base) = number(transaction, &draft, now)?;
    if let Some(name) = &draft.client_message_id
        && sent_before(transaction, &draft.conversation_id, name)?.is_some()
    {
        return Err(Problem::conflict("It was sent before.").with_code(SENT_BEFORE));
    }
    let thread_id = match &draft.thread_id {
        Some(id) => Some(reply(transaction, &draft, id)?),
        None => None,
    };
    let data = draft.structured_data.clone().unwrap_or_default();
    let escalate_at = draft.message_type.patience(&data).map(|patience| now.plus(patience));
    let message = Message {
        conversation_id: draft.conversation_id.clone(),
        thread_id,
        seq,
        content: draft.content,
        message_type: draft.message_type,
        sender_type: draft.sender_type,
        sender_id: draft.sender_id,
        client_message_id: draft.client_message_id,
        structured_data: draft.structured_data.map(Value::Object),
        state: draft.message_type.first_state(&data),
        reply_count: 0,
        reactions: std::collections::BTreeMap::new(),
        mentions: draft.mentions,
        edited_at: None,
        deleted_at: None,
        metadata: draft.metadata,
        change_seq: 0,
        change_base,
        escalate_at,
        escalation_level: 0,
    };
    let row = entity::create(transaction, message)?;
    if row.sender_type == SenderType::Human {
        // Whoever speaks takes part; what was said before is history.
        Participant::join(transaction, &row.conversation_id, &row.sender_id, seq - 1)?;
    }
    let conversation = entity::read::<Conversation>(transaction, &row.conversation_id)?;
    tell(transaction, &row, &conversation, &data)?;
    Ok(row)
}

/// The message that was called so.
pub fn sent_before(database: &dyn Executor, conversation_id: &Id, name: &str) -> Result<Option<Stored<Message>>> {
    Select::<Message>::new().equal("conversation_id", conversation_id).equal("client_message_id", name).first(database)
}

/// Counts a reply; a reply to a reply belongs to the same thread. Returns the thread.
fn reply(transaction: &Transaction, draft: &Draft, id: &Id) -> Result<Id> {
    let named = Select::<Message>::new()
        .equal("id", id)
        .equal("conversation_id", &draft.conversation_id)
        .first(transaction)?
        .ok_or_else(|| Problem::missing("message to reply to"))?;
    let root_id = named.thread_id.clone().unwrap_or_else(|| named.id.clone());
    // An incident that somebody answers is attended to.
    let attends = if draft.sender_type == SenderType::Human {
        ", escalate_at = CASE WHEN message_type = $2 AND sender_id <> $3 \
        THEN NULL ELSE escalate_at END"
    } else {
        ""
    };
    let sql = format!("UPDATE messaging_messages SET reply_count = reply_count + 1{attends} WHERE id = $1");
    let all = params![&root_id, MessageType::IncidentReport, &draft.sender_id];
    let values = if attends.is_empty() { all.get(..1).unwrap_or_default() } else { all };
    transaction.execute(&sql, values)?;
    Ok(root_id)
}

/// Everything that follows from a message: its events, who has to decide, who is told.
fn tell(
    transaction: &Transaction,
    row: &Stored<Message>,
    conversation: &Stored<Conversation>,
    data: &Map<String, Value>,
) -> Result<()> {
    announce(transaction, "messaging.message.created", row, conversation, json!({ "mentions": row.mentions }))?;
    address(transaction, row, "mention", &row.mentions)?;
    for user_id in &row.mentions {
        announce(transaction, "messaging.mention", row, conversation, json!({ "userId": user_id }))?;
    }
    notice::mentioned(transaction, row, conversation)?;
    if row.message_type.is_decidable() {
        let approvers = kind::approvers(data);
        address(transaction, row, "approver", &approvers)?;
        if row.message_type == MessageType::ApprovalRequest {
            let more = json!({ "approvers": approvers, "requestedBy": row.sender_id });
            announce(transaction, "messaging.approval.requested", row, conversation, more)?;
        }
        notice::asked(transaction, row, conversation, &approvers)?;
    }
    if row.message_type == MessageType::Decision {
        decision::propose(transaction, row, data)?;
    }
    Ok(())
}

/// Notes whom a message is for.
fn address(transaction: &Transaction, row: &Stored<Message>, kind: &str, user_ids: &[Id]) -> Result<()> {
    if user_ids.is_empty() {
        return Ok(());
    }
    let now = clock::now();
    let mut values: Vec<Parameter> =
        params![auth::organization_id()?, auth::principal().user_id, now, &row.conversation_id, &row.id, row.seq, kind]
            .to_vec();
    let mut rows = Vec::new();
    for user_id in user_ids {
        let place = values.len();
        values.extend([Id::new().into(), user_id.into()]);
        rows.push(format!("(${}, $1, $2, $3, $3, 1, $4, $5, $6, ${}, $7)", place + 1, place + 2));
    }
    let sql = format!(
        "INSERT INTO messaging_addressees (id, organization_id, created_by, created_at, updated_at, version, \
         conversation_id, message_id, seq, user_id, kind) VALUES {} ON CONFLICT (message_id, kind, user_id) DO NOTHING",
        rows.join(", ")
    );
    transaction.execute(&sql, &values)?;
    Ok(())
}

/// When the next level is due, where the message still waits.
pub fn next_escalation(row: &Message, now: Timestamp) -> Option<Timestamp> {
    let data = row.structured_data.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
    let is_waiting = matches!(row.state, Some(State::Pending | State::Proposed | State::UnderReview | State::Open));
    let patience: Option<Duration> = row.message_type.patience(&data).filter(|_| is_waiting);
    patience.map(|patience| now.plus(patience))
}
