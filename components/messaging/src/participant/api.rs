//! The routes of participants: who is there, coming, going, and what one wants to hear.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::{PARTICIPANTS_MAX, Participant, Role};
use crate::{
    access::{self, Seat},
    conversation::Kind,
    people, signal,
};

/// `GET /api/messaging/conversations/{id}/participants`: each with whether they are there just now.
pub fn list(Params(id): Params<Id>, query: PageQuery) -> Result<Page<Map<String, Value>>> {
    Seat::take(&Pool, &id)?;
    let select = || Select::<Participant>::new().equal("conversation_id", &id);
    let total = select().count(&Pool)?;
    let sql = "SELECT id FROM messaging_participants WHERE conversation_id = $1 AND organization_id = $2 \
               ORDER BY joined_at, id LIMIT $3 OFFSET $4";
    let rows = database::query(sql, params![&id, auth::organization_id()?, query.limit, query.offset])?;
    let ids = rows.into_iter().map(|row| row.get::<Id>("id")).collect::<Result<Vec<_>, _>>()?;
    let rows = Participant::of_ids(ids)?;
    let user_ids: Vec<&Id> = rows.iter().map(|row| &row.user_id).collect();
    let present = signal::present(&id, &user_ids);
    let items = rows.iter().zip(present).map(|(row, present)| {
        let mut shown = row.shown();
        shown.insert("isOnline".into(), present.is_online.into());
        shown.insert("isTyping".into(), present.is_typing.into());
        shown
    });
    Ok(query.envelope(items.collect(), total))
}

impl Participant {
    /// Rows by their ids, in the order of joining.
    fn of_ids(ids: Vec<Id>) -> Result<Vec<Stored<Self>>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        Select::<Self>::new().one_of("id", ids).all(&Pool)
    }
}

/// Who shall take part.
#[data]
pub struct NewParticipants {
    /// One user.
    user_id: Option<Id>,
    /// Several users.
    #[field(default, max = 50)]
    user_ids: Vec<Id>,
    /// What they shall be.
    role: Option<Role>,
}

/// What came of it.
#[data]
pub struct Joined {
    /// Who takes part now and did not before.
    added: Vec<Id>,
    /// How many take part.
    total: i64,
}

/// `POST /api/messaging/conversations/{id}/participants`.
pub fn add(Params(id): Params<Id>, Json(input): Json<NewParticipants>) -> Result<Created<Joined>> {
    let seat = Seat::take(&Pool, &id)?;
    if seat.conversation.r#type == Kind::Direct {
        return Err(Problem::conflict("A direct conversation has exactly two users.").with_code("DIRECT_IS_FOR_TWO"));
    }
    seat.require_open()?;
    let mut wanted: Vec<Id> = Vec::new();
    for user_id in input.user_id.into_iter().chain(input.user_ids) {
        if !wanted.contains(&user_id) {
            wanted.push(user_id);
        }
    }
    if wanted.is_empty() {
        return Err(Problem::field("userIds", "must name at least one user"));
    }
    let role = input.role.unwrap_or(Role::Member);
    if role == Role::Owner && !seat.is_owner() && !access::is_admin() {
        return Err(Problem::forbidden("Only who looks after the conversation lets others do so."));
    }
    people::require_members("userIds", &wanted)?;
    let joined = database::transaction(|transaction| {
        // Nobody comes while the conversation is being closed or deleted.
        let seq = lock(transaction, &id)?;
        let count = Select::<Participant>::new().equal("conversation_id", &id).count(transaction)?;
        if count + i64::try_from(wanted.len()).unwrap_or(PARTICIPANTS_MAX) > PARTICIPANTS_MAX {
            let detail = format!("A conversation has at most {PARTICIPANTS_MAX} participants.");
            return Err(Problem::unprocessable(detail));
        }
        let mut added = Vec::new();
        for user_id in &wanted {
            if Participant::add(transaction, &id, user_id, role, seq)? {
                added.push(user_id.clone());
            }
        }
        let total = count + i64::try_from(added.len()).unwrap_or(0);
        Ok(Joined { added, total })
    })?;
    signal::ring(&id);
    Ok(Created(joined))
}

/// Holds the conversation's row and returns its newest number; 404 when it is gone.
fn lock(transaction: &Transaction, id: &Id) -> Result<i64> {
    let sql = "SELECT last_seq FROM messaging_conversations WHERE id = $1 AND organization_id = $2 FOR UPDATE";
    let row = transaction.query_one(sql, params![id, auth::organization_id()?])?;
    Ok(row.ok_or_else(|| Problem::missing("conversation"))?.get("last_seq")?)
}

/// Who is meant.
#[data]
pub struct Whom {
    /// The user.
    user_id: Id,
}

/// `DELETE /api/messaging/conversations/{id}/participants`: oneself, or by who looks after the conversation.
pub fn remove(Params(id): Params<Id>, Query(whom): Query<Whom>) -> Result<NoContent> {
    let seat = Seat::take(&Pool, &id)?;
    if seat.conversation.r#type == Kind::Direct {
        return Err(Problem::conflict("A direct conversation has exactly two users.").with_code("DIRECT_IS_FOR_TWO"));
    }
    let is_self = auth::principal().user_id.as_deref() == Some(whom.user_id.as_str());
    if !is_self && !seat.is_owner() && !access::is_admin() {
        return Err(Problem::forbidden("Only who looks after the conversation removes others."));
    }
    database::transaction(|transaction| {
        lock(transaction, &id)?;
        let removed = transaction.execute(
            "DELETE FROM messaging_participants WHERE conversation_id = $1 AND user_id = $2 AND organization_id = $3",
            params![&id, &whom.user_id, auth::organization_id()?],
        )?;
        if removed == 0 {
            return Err(Problem::missing("participant"));
        }
        succeed(transaction, &id)
    })?;
    signal::ring(&id);
    Ok(NoContent)
}

/// When nobody looks after the conversation any more, who has been there longest does.
fn succeed(transaction: &Transaction, id: &Id) -> Result<()> {
    transaction.execute(
        "UPDATE messaging_participants SET role = $2, updated_at = $3, version = version + 1 WHERE id = \
         (SELECT id FROM messaging_participants WHERE conversation_id = $1 ORDER BY joined_at, id LIMIT 1) \
         AND NOT EXISTS (SELECT 1 FROM messaging_participants WHERE conversation_id = $1 AND role = $2)",
        params![id, Role::Owner, clock::now()],
    )?;
    Ok(())
}

/// What a participant changes of the own place, or an owner of another's.
#[data]
pub struct Place {
    /// Whose; the caller's when absent.
    user_id: Option<Id>,
    /// By an owner or an administrator.
    role: Option<Role>,
    /// Only one's own; an earlier time ends it.
    muted_until: Option<Timestamp>,
}

/// `PUT /api/messaging/conversations/{id}/participants`.
pub fn change(Params(id): Params<Id>, if_match: IfMatch, Json(input): Json<Place>) -> Result<Stored<Participant>> {
    let seat = Seat::take(&Pool, &id)?;
    let caller = auth::user_id()?;
    let user_id = input.user_id.unwrap_or_else(|| caller.clone());
    if input.muted_until.is_some() && user_id != caller {
        return Err(Problem::forbidden("Everybody mutes a conversation for themselves."));
    }
    if input.role.is_some() && !seat.is_owner() && !access::is_admin() {
        return Err(Problem::forbidden("Only who looks after the conversation changes roles."));
    }
    if input.role.is_some() && seat.conversation.r#type == Kind::Direct {
        return Err(Problem::conflict("Nobody owns a direct conversation."));
    }
    let changed = database::transaction(|transaction| {
        lock(transaction, &id)?;
        let mut row = Participant::find(transaction, &id, &user_id)?.ok_or_else(|| Problem::missing("participant"))?;
        if_match.check(row.version)?;
        row.role = input.role.unwrap_or(row.role);
        row.muted_until = input.muted_until.or(row.muted_until);
        entity::save(transaction, &mut row)?;
        succeed(transaction, &id)?;
        entity::read::<Participant>(transaction, &row.id)
    })?;
    // What counts as unread is another number now.
    signal::ring(&id);
    Ok(changed)
}
