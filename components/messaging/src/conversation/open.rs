//! Opening conversations: a second opening of the same context, or of the same pair, finds the first one.

use berth_sdk::prelude::*;

use super::{ContextType, Conversation, Kind, direct_key};
use crate::participant::{Participant, Role};

/// What is opened, and with whom.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The conversation.
    pub conversation: Conversation,
    /// Who looks after it.
    pub owner: Option<Id>,
    /// Who else takes part.
    pub members: Vec<Id>,
}

impl Opening {
    /// A conversation about something that happened.
    pub fn about(context_type: ContextType, context_id: Id, title: &str, project_id: Option<Id>) -> Self {
        let title: String = validate::clean_plain(title).chars().take(200).collect();
        let conversation = Conversation {
            r#type: Kind::Context,
            context_type: Some(context_type),
            context_id: Some(context_id),
            project_id,
            name: None,
            title: Some(title).filter(|title| !title.is_empty()),
            topic: None,
            is_private: false,
            is_archived: false,
            last_message_at: None,
            last_seq: 0,
            last_change: 0,
            user_ids: Vec::new(),
            direct_key: None,
        };
        Self { conversation, owner: None, members: Vec::new() }
    }

    /// A conversation between two.
    pub fn between(mut self, one: &Id, other: &Id) -> Self {
        self.conversation.is_private = true;
        self.conversation.user_ids = vec![one.clone(), other.clone()];
        self.conversation.direct_key = Some(direct_key(one, other));
        self
    }

    /// The one that is there already. Only a context and a pair are there once.
    fn find(&self, database: &dyn Executor) -> Result<Option<Stored<Conversation>>> {
        let wanted = &self.conversation;
        let select = Select::<Conversation>::new();
        match (wanted.context_type, &wanted.context_id, &wanted.direct_key) {
            (Some(context_type), Some(context_id), _) => {
                select.equal("context_type", context_type).equal("context_id", context_id).first(database)
            }
            (_, _, Some(key)) => select.equal("direct_key", key).first(database),
            _ => Ok(None),
        }
    }

    fn make(&self, transaction: &Transaction) -> Result<Stored<Conversation>> {
        let row = entity::create(transaction, self.conversation.clone())?;
        if let Some(owner) = &self.owner {
            Participant::add(transaction, &row.id, owner, Role::Owner, 0)?;
        }
        for member in self.members.iter().filter(|member| Some(*member) != self.owner.as_ref()) {
            Participant::add(transaction, &row.id, member, Role::Member, 0)?;
        }
        Ok(row)
    }

    /// Finds it or makes it; true when it was made. Who opens the same at the same moment finds the other's.
    pub fn open(&self) -> Result<(Stored<Conversation>, bool)> {
        if let Some(found) = self.find(&Pool)? {
            return Ok((found, false));
        }
        match database::transaction(|transaction| self.make(transaction)) {
            Ok(row) => Ok((row, true)),
            // The unique index spoke. What is not found now is another's private one.
            Err(problem) if problem.status == 409 => {
                let found = self.find(&Pool)?.ok_or_else(|| Problem::missing("conversation"))?;
                Ok((found, false))
            }
            Err(problem) => Err(problem),
        }
    }
}
