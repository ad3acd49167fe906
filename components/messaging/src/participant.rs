//! Who takes part in a conversation, how far each has read, and whether they want to hear of it.

pub mod api;

use berth_sdk::prelude::*;

use crate::access;

/// Participants of one conversation.
pub const PARTICIPANTS_MAX: i64 = 5_000;

/// What a participant is.
#[choice]
pub enum Role {
    /// Looks after the conversation.
    Owner,
    /// Takes part.
    Member,
}

/// A participant.
#[entity(table = "messaging_participants", sort = "joinedAt")]
pub struct Participant {
    /// The conversation.
    #[field(immutable)]
    pub conversation_id: Id,
    /// The user.
    #[field(immutable)]
    pub user_id: Id,
    /// What they are.
    pub role: Role,
    /// Everything up to this message has been read.
    #[field(readonly, default)]
    pub last_read_seq: i64,
    /// Mentions are not told before.
    pub muted_until: Option<Timestamp>,
    /// Since when.
    #[field(readonly)]
    pub joined_at: Timestamp,
}

impl Rules for Participant {
    fn scope() -> Option<Condition> {
        access::within("messaging_participants")
    }
}

impl Participant {
    /// A user among the participants.
    pub fn find(database: &dyn Executor, conversation_id: &Id, user_id: &str) -> Result<Option<Stored<Self>>> {
        Select::<Self>::new().equal("conversation_id", conversation_id).equal("user_id", user_id).first(database)
    }

    /// Whether anybody owns the conversation, and whether the caller does.
    pub fn ownership(database: &dyn Executor, conversation_id: &Id) -> Result<(bool, bool)> {
        let owners = Select::<Self>::new()
            .equal("conversation_id", conversation_id)
            .equal("role", Role::Owner)
            .limit(PARTICIPANTS_MAX)
            .all(database)?;
        let caller = auth::principal().user_id;
        let is_owner = owners.iter().any(|owner| caller.as_deref() == Some(owner.user_id.as_str()));
        Ok((!owners.is_empty(), is_owner))
    }

    /// The owners, the longest first.
    pub fn owners(database: &dyn Executor, conversation_id: &Id, limit: i64) -> Result<Vec<Id>> {
        let owners = Select::<Self>::new()
            .equal("conversation_id", conversation_id)
            .equal("role", Role::Owner)
            .limit(limit)
            .all(database)?;
        Ok(owners.into_iter().map(|owner| owner.data.user_id).collect())
    }

    /// Lets a user take part; false when they do already. What was said before counts as read.
    pub fn add(
        transaction: &Transaction,
        conversation_id: &Id,
        user_id: &Id,
        role: Role,
        last_read_seq: i64,
    ) -> Result<bool> {
        let added = transaction.execute(
            "INSERT INTO messaging_participants (id, organization_id, created_by, created_at, updated_at, version, \
             conversation_id, user_id, role, last_read_seq, muted_until, joined_at) \
             VALUES ($1, $2, $3, $4, $4, 1, $5, $6, $7, $8, NULL, $4) ON CONFLICT (conversation_id, user_id) DO NOTHING",
            params![
                Id::new(),
                auth::organization_id()?,
                auth::principal().user_id,
                clock::now(),
                conversation_id,
                user_id,
                role,
                last_read_seq,
            ],
        )?;
        Ok(added > 0)
    }

    /// The same as a member.
    pub fn join(transaction: &Transaction, conversation_id: &Id, user_id: &Id, last_read_seq: i64) -> Result<bool> {
        Self::add(transaction, conversation_id, user_id, Role::Member, last_read_seq)
    }

    /// Which of these users take part.
    pub fn among(database: &dyn Executor, conversation_id: &Id, user_ids: &[Id]) -> Result<Vec<Id>> {
        let limit = i64::try_from(user_ids.len()).unwrap_or(PARTICIPANTS_MAX);
        let found = Select::<Self>::new()
            .equal("conversation_id", conversation_id)
            .one_of("user_id", user_ids.iter())
            .limit(limit)
            .all(database)?;
        Ok(found.into_iter().map(|participant| participant.data.user_id).collect())
    }
}
