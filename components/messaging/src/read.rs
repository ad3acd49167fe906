//! How far somebody has read, and what is unread: counted where the messages are, and remembered until something is said.

use std::time::Duration;

use berth_sdk::{cache, prelude::*};

use crate::{access::Seat, participant::Participant, signal};

/// Conversations that are counted.
const CONVERSATIONS_MAX: i64 = 500;
/// What is unread beyond this many messages back is not counted.
const COUNTED_MAX: i64 = 1_000;
/// How long counts are remembered when nothing is said.
const COUNTS_TTL: Duration = Duration::from_secs(60);

/// Somebody else's messages that are not deleted and come after what was read; `$2` is the user.
const UNREAD: &str = "(SELECT COUNT(*) FROM messaging_messages m WHERE m.conversation_id = c.id AND m.seq > p.last_read_seq \
     AND m.seq > c.last_seq - 1000 AND m.deleted_at IS NULL AND (m.sender_type <> 'human' OR m.sender_id <> $2))";

/// How far was read.
#[data]
pub struct ReadMark {
    /// The number of the last message that was read.
    #[field(min = 0)]
    seq: i64,
}

/// How far a user has come.
#[data]
pub struct Standing {
    /// The conversation.
    conversation_id: Id,
    /// Everything up to here has been read.
    last_read_seq: i64,
    /// What came after, at most 1 000.
    unread: i64,
}

/// `POST /api/messaging/conversations/{id}/read`. What was read stays read; nobody reads beyond the end.
pub fn mark(Params(id): Params<Id>, Json(input): Json<ReadMark>) -> Result<Json<Standing>> {
    Seat::take(&Pool, &id)?;
    let user_id = auth::user_id()?;
    let organization_id = auth::organization_id()?;
    let standing = database::transaction(|transaction| {
        Participant::join(transaction, &id, &user_id, 0)?;
        transaction.execute(
            "UPDATE messaging_participants SET last_read_seq = (SELECT CASE WHEN c.last_seq < $3 THEN c.last_seq ELSE $3 END \
             FROM messaging_conversations c WHERE c.id = $1), updated_at = $4, version = version + 1 \
             WHERE conversation_id = $1 AND user_id = $2 AND organization_id = $5 AND last_read_seq < $3 \
             AND EXISTS (SELECT 1 FROM messaging_conversations c WHERE c.id = $1 \
             AND c.last_seq > messaging_participants.last_read_seq)",
            params![&id, &user_id, input.seq, clock::now(), &organization_id],
        )?;
        let sql = format!(
            "SELECT p.last_read_seq, {UNREAD} AS unread FROM messaging_participants p \
             JOIN messaging_conversations c ON c.id = p.conversation_id \
             WHERE p.conversation_id = $1 AND p.user_id = $2 AND p.organization_id = $3"
        );
        let row = transaction.query_one(&sql, params![&id, &user_id, &organization_id])?;
        let row = row.ok_or_else(|| Problem::missing("conversation"))?;
        let (last_read_seq, unread) = (row.get("last_read_seq")?, row.get("unread")?);
        Ok::<_, Problem>(Standing { conversation_id: id.clone(), last_read_seq, unread })
    })?;
    cache::del(&key(&user_id));
    Ok(Json(standing))
}

/// What is unread in one conversation.
#[data]
pub struct Waiting {
    /// The conversation.
    conversation_id: Id,
    /// Its kind.
    r#type: crate::conversation::Kind,
    /// A channel's name.
    name: Option<String>,
    /// Its title.
    title: Option<String>,
    /// The number of the newest message.
    last_seq: i64,
    /// Everything up to here has been read.
    last_read_seq: i64,
    /// Other people's messages after that, at most 1 000.
    unread: i64,
    /// How many of them mention the caller.
    mentions: i64,
    /// The caller does not want to hear of it before.
    muted_until: Option<Timestamp>,
}

/// What is unread.
#[data]
pub struct Unread {
    /// Without muted conversations.
    total: i64,
    /// Mentions among it, muted or not.
    mentions: i64,
    /// Where something is unread, the newest first, at most 500.
    conversations: Vec<Waiting>,
}

/// Counts, and the ring up to which they hold.
#[data]
struct Remembered {
    bell: Id,
    unread: Unread,
}

fn key(user_id: &Id) -> String {
    format!("unread:{user_id}")
}

/// `GET /api/messaging/unread`.
pub fn unread() -> Result<Json<Unread>> {
    let user_id = auth::user_id()?;
    // The bell comes first: what is said while it counts makes the counts old at once.
    let bell = signal::organization_bell();
    if let Some(remembered) = cache::get::<Remembered>(&key(&user_id)).filter(|it| Some(&it.bell) == bell.as_ref()) {
        return Ok(Json(remembered.unread));
    }
    let unread = summed(count(&user_id)?, clock::now());
    if let Some(bell) = bell {
        let remembered = Remembered { bell, unread: unread.clone() };
        cache::set_ttl(&key(&user_id), &remembered, COUNTS_TTL);
    }
    Ok(Json(unread))
}

fn count(user_id: &Id) -> Result<Vec<Waiting>> {
    let sql = format!(
        "SELECT c.id AS \"conversationId\", c.type, c.name, c.title, c.last_seq AS \"lastSeq\", \
         p.last_read_seq AS \"lastReadSeq\", p.muted_until AS \"mutedUntil\", {UNREAD} AS unread, \
         (SELECT COUNT(*) FROM messaging_addressees a WHERE a.organization_id = $1 AND a.user_id = $2 \
         AND a.kind = 'mention' AND a.conversation_id = c.id AND a.seq > p.last_read_seq) AS mentions \
         FROM messaging_participants p JOIN messaging_conversations c ON c.id = p.conversation_id \
         WHERE p.organization_id = $1 AND p.user_id = $2 AND c.last_seq > p.last_read_seq AND c.is_archived = FALSE \
         ORDER BY c.last_message_at DESC, c.id LIMIT {CONVERSATIONS_MAX}"
    );
    Ok(database::query_as(&Pool, &sql, params![auth::organization_id()?, user_id])?)
}

fn summed(all: Vec<Waiting>, now: Timestamp) -> Unread {
    let conversations: Vec<Waiting> = all.into_iter().filter(|waiting| waiting.unread > 0).collect();
    let is_heard = |waiting: &&Waiting| waiting.muted_until.is_none_or(|until| until <= now);
    Unread {
        total: conversations.iter().filter(is_heard).map(|waiting| waiting.unread.min(COUNTED_MAX)).sum(),
        mentions: conversations.iter().map(|waiting| waiting.mentions).sum(),
        conversations,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_muted_is_listed_and_not_counted() {
        let now = clock::now();
        let waiting = |unread, muted_until| Waiting {
            conversation_id: "c".into(),
            r#type: crate::conversation::Kind::Channel,
            name: None,
            title: None,
            last_seq: 9,
            last_read_seq: 1,
            unread,
            mentions: 1,
            muted_until,
        };
        let later = Some(now.plus(Duration::from_secs(60)));
        let unread = summed(vec![waiting(2, None), waiting(0, None), waiting(3, later), waiting(4, Some(now))], now);
        assert_eq!((unread.total, unread.mentions, unread.conversations.len()), (6, 3, 3));
    }
}
