//! Changing what was said: under the conversation's lock, with a number of its own, so that whoever follows misses none.

use std::time::Duration;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::{
    DATA_BYTES_MAX, Message, announce,
    kind::{self, State},
    mention,
};
use crate::{
    access::{self, Seat},
    decision, escalation, signal,
};

/// How long one's own words can be changed, in seconds; the setting `edit_window_seconds` says otherwise.
const EDIT_WINDOW_SECONDS: u64 = 24 * 60 * 60;

/// A change that is being made.
pub struct Change<'a> {
    /// Everything happens in it.
    pub transaction: &'a Transaction,
    /// The caller's place.
    pub seat: Seat,
    /// The message, which is written back afterwards.
    pub row: Stored<Message>,
    /// When.
    pub now: Timestamp,
}

impl Change<'_> {
    /// Publishes an event of the message.
    pub fn announce(&self, kind: &str, more: Value) -> Result<()> {
        announce(self.transaction, kind, &self.row, &self.seat.conversation, more)
    }
}

/// Makes a change to a message that the caller sees.
pub fn change(id: &Id, work: impl FnOnce(&mut Change<'_>) -> Result<()>) -> Result<Stored<Message>> {
    let conversation_id = entity::read::<Message>(&Pool, id)?.data.conversation_id;
    let row = database::transaction(|transaction| change_within(transaction, &conversation_id, id, work))?;
    signal::ring(&conversation_id);
    Ok(row)
}

/// The same within a transaction; the bell is to be rung after it.
pub fn change_within(
    transaction: &Transaction,
    conversation_id: &Id,
    id: &Id,
    work: impl FnOnce(&mut Change<'_>) -> Result<()>,
) -> Result<Stored<Message>> {
    // The conversation's row first, always: everything about a message is written under its lock.
    let number = transaction.query_one(
        "UPDATE messaging_conversations SET last_change = last_change + 1 WHERE id = $1 AND organization_id = $2 \
         RETURNING last_change",
        params![conversation_id, auth::organization_id()?],
    )?;
    let number: i64 = number.ok_or_else(|| Problem::missing("message"))?.get("last_change")?;
    let seat = Seat::take(transaction, conversation_id)?;
    let mut row = entity::read::<Message>(transaction, id)?;
    row.change_seq = number;
    let mut change = Change { transaction, seat, row, now: clock::now() };
    work(&mut change)?;
    entity::save(transaction, &mut change.row)?;
    Ok(change.row)
}

/// What is to be changed.
#[data]
pub struct Edit {
    /// The text.
    #[field(min = 1, max = 10_000)]
    content: Option<String>,
    /// Not of decisions and approval requests: what was agreed to stays.
    structured_data: Option<Map<String, Value>>,
    /// What its sender wants to remember.
    metadata: Option<Map<String, Value>>,
    /// The next state, as in `implemented` or `resolved`.
    state: Option<State>,
}

/// `PUT /api/messaging/messages/{id}`.
pub fn edit(Params(id): Params<Id>, if_match: IfMatch, Json(input): Json<Edit>) -> Result<Stored<Message>> {
    let before = entity::read::<Message>(&Pool, &id)?;
    let mentions = match &input.content {
        Some(content) => {
            let seat = Seat::take(&Pool, &before.conversation_id)?;
            let named = mention::named(&[], content);
            let known = mention::known(&seat, &named)?;
            mention::judge(named, &known).0
        }
        None => Vec::new(),
    };
    change(&id, |change| {
        if_match.check(change.row.version)?;
        change.seat.require_open()?;
        change.row.require_alive()?;
        let is_edit = input.content.is_some() || input.structured_data.is_some() || input.metadata.is_some();
        if is_edit {
            require_author(&change.row, change.now)?;
        }
        if let Some(content) = input.content {
            // Nobody is told again; who was mentioned stays mentioned.
            for id in mentions {
                if !change.row.mentions.contains(&id) && change.row.mentions.len() < mention::MENTIONS_MAX {
                    change.row.mentions.push(id);
                }
            }
            change.row.content = content;
        }
        if let Some(data) = input.structured_data {
            set_data(&mut change.row, data)?;
        }
        if let Some(metadata) = input.metadata {
            if json!(metadata).to_string().len() > DATA_BYTES_MAX {
                return Err(Problem::field("metadata", format!("must have at most {DATA_BYTES_MAX} bytes")));
            }
            change.row.metadata = metadata;
        }
        if is_edit {
            change.row.edited_at = Some(change.now);
        }
        if let Some(state) = input.state.filter(|state| Some(*state) != change.row.state) {
            move_to(change, state)?;
        }
        change.announce("messaging.message.updated", json!({ "isEdit": is_edit }))
    })
}

fn set_data(row: &mut Message, data: Map<String, Value>) -> Result<()> {
    if row.message_type.has_fixed_data() {
        let detail = "What people are asked to agree to is not changed; delete it and ask again.";
        return Err(Problem::unprocessable(detail).with_code("DATA_IS_FIXED"));
    }
    let mut faults = Faults::default();
    row.message_type.check(&data, &mut faults);
    faults.finish()?;
    row.structured_data = Some(Value::Object(kind::with_answers_of(row.structured_data.as_ref(), data)));
    Ok(())
}

fn move_to(change: &mut Change<'_>, state: State) -> Result<()> {
    let from = change.row.state;
    if !change.row.message_type.may_become(from, state) {
        let from = from.map_or("without a state", State::as_str);
        let detail = format!("A {} that is {from} does not become {state}.", change.row.message_type);
        return Err(Problem::conflict(detail).with_code("ILLEGAL_TRANSITION"));
    }
    change.row.state = Some(state);
    decision::follow(change, state)?;
    if state == State::Resolved {
        change.row.escalate_at = None;
        escalation::close(change.transaction, &change.row.id)?;
    } else if state == State::Open {
        change.row.escalate_at = super::write::next_escalation(&change.row, change.now);
    }
    Ok(())
}

/// 403 for others' words, 409 for old ones; administrators always.
fn require_author(row: &Stored<Message>, now: Timestamp) -> Result<()> {
    if access::is_admin() {
        return Ok(());
    }
    if !row.is_own() {
        return Err(Problem::forbidden("Only the author changes a message."));
    }
    let window = Duration::from_secs(config::get("edit_window_seconds").unwrap_or(EDIT_WINDOW_SECONDS));
    if now.since(row.created_at) >= window {
        let hours = window.as_secs() / 3600;
        let detail = format!("A message can be changed for {hours} hours.");
        return Err(Problem::conflict(detail).with_code("EDIT_WINDOW_OVER"));
    }
    Ok(())
}

/// `DELETE /api/messaging/messages/{id}`: what is left keeps its number and says nothing.
pub fn remove(Params(id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    change(&id, |change| {
        if_match.check(change.row.version)?;
        if change.row.deleted_at.is_some() {
            return Err(Problem::missing("message"));
        }
        require_author(&change.row, change.now)?;
        bury(change)
    })?;
    Ok(NoContent)
}

fn bury(change: &mut Change<'_>) -> Result<()> {
    let row = &mut change.row;
    row.content = String::new();
    row.structured_data = None;
    row.mentions = Vec::new();
    row.reactions.clear();
    row.metadata = Map::new();
    row.deleted_at = Some(change.now);
    row.escalate_at = None;
    if row.state.is_some_and(|state| matches!(state, State::Pending | State::Proposed | State::UnderReview)) {
        row.state = Some(State::Withdrawn);
    }
    let transaction = change.transaction;
    if let Some(thread_id) = &row.thread_id {
        transaction.execute(
            "UPDATE messaging_messages SET reply_count = reply_count - 1 WHERE id = $1 AND reply_count > 0",
            params![thread_id],
        )?;
    }
    for table in ["messaging_addressees", "messaging_decisions"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE message_id = $1"), params![&row.id])?;
    }
    escalation::close(transaction, &row.id)?;
    change.announce("messaging.message.deleted", json!({ "deletedBy": auth::principal().user_id }))
}
