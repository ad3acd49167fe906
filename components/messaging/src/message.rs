//! Messages: numbered without a gap within their conversation, edited and deleted in place.

pub mod change;
pub mod kind;
pub mod list;
pub mod mention;
pub mod post;
pub mod reaction;
pub mod write;

use std::collections::BTreeMap;

use berth_sdk::{
    events::Message as News,
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{access, conversation::Conversation};
use kind::{MessageType, SenderType, State};

/// Characters of a message.
pub const CONTENT_CHARACTERS_MAX: usize = 10_000;
/// Bytes of `structuredData` and of `metadata`.
pub const DATA_BYTES_MAX: usize = 32 * 1024;

/// A message.
#[entity(table = "messaging_messages", sort = "seq")]
pub struct Message {
    /// The conversation.
    #[field(immutable)]
    pub conversation_id: Id,
    /// The message it replies to.
    #[field(immutable)]
    pub thread_id: Option<Id>,
    /// From 1, without a gap.
    pub seq: i64,
    /// The text; empty once it is deleted.
    pub content: String,
    /// What it is.
    pub message_type: MessageType,
    /// What kind of sender.
    pub sender_type: SenderType,
    /// Who.
    #[field(filter)]
    pub sender_id: Id,
    /// What its sender called it.
    pub client_message_id: Option<String>,
    /// What its type needs to know.
    pub structured_data: Option<Value>,
    /// How far it has come, where its type has a course.
    pub state: Option<State>,
    /// Replies that are not deleted.
    pub reply_count: i64,
    /// Who reacted, by reaction.
    pub reactions: BTreeMap<String, Vec<Id>>,
    /// Who is mentioned.
    pub mentions: Vec<Id>,
    /// When its content last changed.
    pub edited_at: Option<Timestamp>,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// What its sender wants to remember.
    pub metadata: Map<String, Value>,
    /// The number of its last change in the conversation; 0: it never changed.
    pub change_seq: i64,
    #[field(hidden)]
    pub change_base: i64,
    #[field(hidden)]
    pub escalate_at: Option<Timestamp>,
    #[field(hidden)]
    pub escalation_level: i64,
}

impl Rules for Message {
    fn scope() -> Option<Condition> {
        access::within("messaging_messages")
    }
}

impl Message {
    /// Whether the caller has said it.
    pub fn is_own(&self) -> bool {
        let caller = auth::principal().user_id;
        self.sender_type == SenderType::Human && caller.as_deref() == Some(self.sender_id.as_str())
    }

    /// 409 once it is deleted.
    pub fn require_alive(&self) -> Result<()> {
        if self.deleted_at.is_some() {
            return Err(Problem::conflict("The message was deleted.").with_code("MESSAGE_DELETED"));
        }
        Ok(())
    }
}

/// What an event tells of a message. What is said in a private conversation is not in it: events are everybody's.
pub fn event_data(message: &Stored<Message>, conversation: &Conversation) -> Value {
    let mut data = json!({
        "messageId": message.id, "conversationId": message.conversation_id, "seq": message.seq,
        "threadId": message.thread_id, "messageType": message.message_type, "senderType": message.sender_type,
        "senderId": message.sender_id, "state": message.state, "conversationType": conversation.r#type,
        "contextType": conversation.context_type, "contextId": conversation.context_id,
        "projectId": conversation.project_id, "isPrivate": conversation.is_private,
    });
    if let Some(data) = data.as_object_mut().filter(|_| !conversation.is_private) {
        data.insert("content".into(), message.content.clone().into());
        data.insert("structuredData".into(), message.structured_data.clone().unwrap_or_default());
    }
    data
}

/// What somebody wrote along with an event, unless it was said in a private conversation.
pub fn open_words<'a>(words: Option<&'a str>, conversation: &Conversation) -> Option<&'a str> {
    words.filter(|_| !conversation.is_private)
}

/// Publishes an event of a message, in the order of its conversation.
pub fn announce(
    transaction: &Transaction,
    kind: &str,
    message: &Stored<Message>,
    conversation: &Conversation,
    more: Value,
) -> Result<()> {
    let mut data = event_data(message, conversation);
    if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more) {
        data.extend(more);
    }
    transaction.send(&News::new(kind, &data)?.with_key(message.conversation_id.as_str()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::open_words;
    use crate::conversation::{ContextType, open::Opening};

    #[test]
    fn words_of_a_private_conversation_stay_in_it() {
        let mut conversation = Opening::about(ContextType::Plan, "p1".into(), "Plan", None).conversation;
        assert_eq!(open_words(Some("fine"), &conversation), Some("fine"));
        conversation.is_private = true;
        assert_eq!(open_words(Some("fine"), &conversation), None);
    }
}
