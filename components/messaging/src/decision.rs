//! Decisions: what was put forward in a message, why, instead of what, and how far it has come.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{
    access,
    message::{
        Message,
        change::Change,
        kind::{MessageType, State},
    },
};

/// Characters of a decision that its message names in its text alone.
const DECISION_CHARACTERS_MAX: usize = 4_000;

/// How far a decision has come.
#[choice]
pub enum Status {
    /// Put forward.
    Proposed,
    /// Looked at.
    UnderReview,
    /// Agreed.
    Approved,
    /// Refused.
    Rejected,
    /// Done as decided.
    Implemented,
}

impl Status {
    /// The status that goes with a message's state.
    fn of(state: State) -> Option<Self> {
        match state {
            State::Proposed => Some(Self::Proposed),
            State::UnderReview => Some(Self::UnderReview),
            State::Approved => Some(Self::Approved),
            State::Rejected => Some(Self::Rejected),
            State::Implemented => Some(Self::Implemented),
            _ => None,
        }
    }
}

/// A decision.
#[entity(table = "messaging_decisions")]
pub struct Decision {
    /// The conversation.
    #[field(immutable)]
    pub conversation_id: Id,
    /// The message that put it forward.
    #[field(immutable)]
    pub message_id: Id,
    /// What.
    pub decision: String,
    /// Why.
    pub rationale: Option<String>,
    /// Instead of what.
    pub alternatives: Vec<String>,
    /// How far it has come.
    pub status: Status,
    /// Who decided.
    pub decided_by: Option<Id>,
    /// When.
    pub decided_at: Option<Timestamp>,
}

impl Rules for Decision {
    fn scope() -> Option<Condition> {
        access::within("messaging_decisions")
    }
}

/// Notes what a message puts forward.
pub fn propose(transaction: &Transaction, message: &Stored<Message>, data: &Map<String, Value>) -> Result<()> {
    let text = |name: &str| data.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let content: String = message.content.chars().take(DECISION_CHARACTERS_MAX).collect();
    let alternatives = data.get("alternatives").and_then(Value::as_array).into_iter().flatten();
    let decision = Decision {
        conversation_id: message.conversation_id.clone(),
        message_id: message.id.clone(),
        decision: text("decision").map_or(content, ToString::to_string),
        rationale: text("rationale").map(ToString::to_string),
        alternatives: alternatives.filter_map(Value::as_str).map(ToString::to_string).collect(),
        status: Status::Proposed,
        decided_by: None,
        decided_at: None,
    };
    entity::create(transaction, decision)?;
    Ok(())
}

/// Lets a decision follow its message.
pub fn follow(change: &Change<'_>, state: State) -> Result<Option<Stored<Decision>>> {
    if change.row.message_type != MessageType::Decision {
        return Ok(None);
    }
    let found = Select::<Decision>::new().equal("message_id", &change.row.id).first(change.transaction)?;
    let (Some(mut decision), Some(status)) = (found, Status::of(state)) else { return Ok(None) };
    decision.status = status;
    if matches!(status, Status::Approved | Status::Rejected) {
        decision.decided_by = auth::principal().user_id.map(Id::from);
        decision.decided_at = Some(change.now);
    }
    entity::save(change.transaction, &mut decision)?;
    Ok(Some(decision))
}

/// `GET /api/messaging/decisions`: of the conversations that the caller sees.
pub fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Decision>>>> {
    Select::<Decision>::new().page(&Pool, &query)
}
