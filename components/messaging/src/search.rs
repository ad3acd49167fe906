//! Searching what was said, in the conversations that the caller sees.

use berth_sdk::{
    database::{Value as Parameter, like},
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{access, message::kind::MessageType};

/// Words of a query; further ones are left out.
const WORDS_MAX: usize = 10;

/// What is looked for.
#[data]
pub struct Wanted {
    /// Words; all of them must be there.
    #[field(min = 1, max = 200)]
    q: String,
    /// Only in this conversation.
    conversation_id: Option<Id>,
    /// Only messages of this type.
    message_type: Option<MessageType>,
    /// Only what this user, agent or service said.
    sender_id: Option<Id>,
    /// Not before.
    from: Option<Timestamp>,
    /// Before.
    to: Option<Timestamp>,
}

fn words(text: &str) -> Vec<String> {
    text.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .take(WORDS_MAX)
        .map(ToString::to_string)
        .collect()
}

/// `GET /api/messaging/search`: the newest first.
pub fn search(Query(wanted): Query<Wanted>, query: PageQuery) -> Result<JsonText<Page<Map<String, Value>>>> {
    let words = words(&wanted.q);
    if words.is_empty() {
        return Err(Problem::field("q", "must have at least one word"));
    }
    let mut values: Vec<Parameter> = vec![auth::organization_id()?.into()];
    let mut sql = String::from(
        "FROM messaging_messages JOIN messaging_conversations ON messaging_conversations.id = \
         messaging_messages.conversation_id WHERE messaging_messages.organization_id = $1 \
         AND messaging_messages.deleted_at IS NULL",
    );
    for word in words {
        sql.push_str(&format!(" AND {}", like::in_any_case("messaging_messages.content", &word).placed(&mut values)));
    }
    if let Some(seen) = access::visible() {
        sql.push_str(&format!(" AND ({})", seen.placed(&mut values)));
    }
    let mut and = |condition: &str, value: Parameter| {
        values.push(value);
        sql.push_str(&format!(" AND {}", condition.replace('?', &format!("${}", values.len()))));
    };
    if let Some(id) = &wanted.conversation_id {
        and("messaging_messages.conversation_id = ?", id.into());
    }
    if let Some(kind) = wanted.message_type {
        and("messaging_messages.message_type = ?", kind.into());
    }
    if let Some(id) = &wanted.sender_id {
        and("messaging_messages.sender_id = ?", id.into());
    }
    if let Some(from) = wanted.from {
        and("messaging_messages.created_at >= ?", from.into());
    }
    if let Some(to) = wanted.to {
        and("messaging_messages.created_at < ?", to.into());
    }
    let total = database::query_one(&format!("SELECT COUNT(*) AS total {sql}"), &values)?
        .map_or(Ok(0), |row| row.get::<i64>("total"))?;
    let place = values.len();
    values.extend([query.limit.into(), query.offset.into()]);
    let sql = format!(
        "SELECT messaging_messages.id, messaging_messages.conversation_id AS \"conversationId\", \
         messaging_messages.thread_id AS \"threadId\", messaging_messages.seq, messaging_messages.content, \
         messaging_messages.message_type AS \"messageType\", messaging_messages.sender_type AS \"senderType\", \
         messaging_messages.sender_id AS \"senderId\", messaging_messages.state, \
         messaging_messages.created_at AS \"createdAt\", messaging_conversations.type AS \"conversationType\", \
         messaging_conversations.name AS \"conversationName\", messaging_conversations.title AS \"conversationTitle\" \
         {sql} ORDER BY messaging_messages.created_at DESC, messaging_messages.id DESC LIMIT ${} OFFSET ${}",
        place + 1,
        place + 2
    );
    let items = database::query_json(&sql, &values)?;
    Ok(JsonText::new(200, query.envelope_text(&items, total)))
}
