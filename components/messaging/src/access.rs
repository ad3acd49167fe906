//! Who may see a conversation and what they may do in it. A private one exists for its participants alone, whatever
//! somebody's role is; one of a project for them and for those who see the project.

use ::people::scope;
use berth_sdk::{auth::PrincipalKind, prelude::*};

use crate::{
    conversation::Conversation,
    participant::{Participant, Role},
};

/// Who may do everything within the conversations they see.
pub const MANAGE: &str = "messaging.messaging.manage";

/// Whether the caller administers the organization, or is the host acting for it.
pub fn is_admin() -> bool {
    let principal = auth::principal();
    principal.is_super_admin || principal.is_platform || auth::has(MANAGE)
}

/// The condition under which a row of `messaging_conversations` exists for the caller; none: every one.
pub fn visible() -> Option<Condition> {
    let principal = auth::principal();
    if principal.kind == PrincipalKind::System {
        return None;
    }
    let open = Condition::new("messaging_conversations.is_private = FALSE", [] as [String; 0]);
    let Condition { sql, mut values } = scope::and_within(open, "messaging_conversations.project_id");
    values.push(principal.user_id.unwrap_or_default().into());
    let sql = format!(
        "({sql}) OR EXISTS (SELECT 1 FROM messaging_participants \
         WHERE messaging_participants.conversation_id = messaging_conversations.id \
         AND messaging_participants.user_id = ?)"
    );
    Some(Condition { sql, values })
}

/// The condition under which a row of a table with a `conversation_id` exists for the caller.
pub fn within(table: &str) -> Option<Condition> {
    let Condition { sql, values } = visible()?;
    let sql = format!(
        "EXISTS (SELECT 1 FROM messaging_conversations WHERE messaging_conversations.id = {table}.conversation_id \
         AND ({sql}))"
    );
    Some(Condition { sql, values })
}

/// The caller's place in a conversation.
#[derive(Clone, Debug)]
pub struct Seat {
    /// The conversation.
    pub conversation: Stored<Conversation>,
    /// The caller among its participants.
    pub participant: Option<Stored<Participant>>,
}

impl Seat {
    /// 404 unless the caller sees the conversation.
    pub fn take(database: &dyn Executor, conversation_id: &Id) -> Result<Self> {
        let conversation = entity::read::<Conversation>(database, conversation_id)?;
        let participant = match auth::principal().user_id {
            Some(user_id) => Participant::find(database, conversation_id, &user_id)?,
            None => None,
        };
        Ok(Self { conversation, participant })
    }

    /// Whether the caller looks after the conversation.
    pub fn is_owner(&self) -> bool {
        self.participant.as_ref().is_some_and(|participant| participant.role == Role::Owner)
    }

    /// 409 when it is archived.
    pub fn require_open(&self) -> Result<()> {
        if self.conversation.is_archived { Err(archived()) } else { Ok(()) }
    }
}

/// Nothing is said or changed any more.
pub fn archived() -> Problem {
    Problem::conflict("The conversation is archived.").with_code("CONVERSATION_ARCHIVED")
}

#[cfg(test)]
mod tests {
    use berth_sdk::{auth::Principal, testing};

    use super::*;

    #[test]
    fn no_role_opens_what_is_private() {
        testing::sign_in("u1", "o1");
        let Condition { sql, values } = visible().unwrap();
        assert_eq!(values.len(), 1);
        assert!(sql.contains("project_id IS NULL)) OR EXISTS"), "nobody vouches for a project: {sql}");
        testing::become_principal(Principal { is_super_admin: true, ..auth::principal() });
        assert_eq!(within("messaging_messages").unwrap().values.len(), 1);
        testing::become_principal(Principal { kind: PrincipalKind::System, ..Principal::anonymous() });
        assert!(within("messaging_messages").is_none());
    }
}
