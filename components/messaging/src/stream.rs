//! A conversation as server-sent events: what was said after `Last-Event-ID`, then what is said, is changed, and who
//! types. An event's id is the number of its message, so that nothing is missed and nothing said twice.
//!
//! A look at the database happens when the bell has rung, and every now and then without it.

use std::time::{Duration, Instant};

use berth_sdk::{
    http::{Event, Look},
    prelude::*,
};

use crate::{access::Seat, conversation::Conversation, message::Message, signal};

/// How often it listens for the bell.
const LISTEN: Duration = Duration::from_millis(200);
/// How long it trusts a bell that does not ring.
const LOOK: Duration = Duration::from_secs(2);
/// How much it reads at once.
const READ_MAX: i64 = 100;
/// How often presence is renewed.
const RENEWED_AFTER: Duration = Duration::from_secs(4);

/// From where on.
#[data]
pub struct Start {
    /// After this number; `Last-Event-ID` wins over it. From now on when neither is there.
    #[field(min = 0)]
    after: Option<i64>,
}

/// Somebody who follows.
struct Follower {
    conversation_id: Id,
    user_id: Option<Id>,
    /// The last message that was sent.
    seq: i64,
    /// Changes up to this one were sent.
    change: i64,
    /// The conversation's version.
    version: i64,
    bell: Option<Id>,
    looked: Option<Instant>,
    /// There is more than one look could read.
    has_more: bool,
    signals: i64,
    renewed: Option<Instant>,
}

/// `GET /api/messaging/conversations/{id}/stream`.
pub fn stream(Params(id): Params<Id>, Query(start): Query<Start>, request: Request) -> Result<Sse> {
    let seat = Seat::take(&Pool, &id)?;
    let last = request.header("last-event-id").and_then(|id| id.trim().parse::<i64>().ok()).or(start.after);
    let mut follower = Follower::new(&seat.conversation, last)?;
    Ok(Sse::follow(Vec::new(), LISTEN, move || follower.look()))
}

impl Follower {
    fn new(conversation: &Stored<Conversation>, last: Option<i64>) -> Result<Self> {
        let (seq, change) = match last.map(|seq| seq.clamp(0, conversation.last_seq)) {
            // Whatever changed since that message was written may be news.
            Some(seq) if seq < conversation.last_seq || conversation.last_change > 0 => {
                (seq, change_at(&conversation.id, seq)?)
            }
            Some(seq) => (seq, conversation.last_change),
            None => (conversation.last_seq, conversation.last_change),
        };
        Ok(Self {
            conversation_id: conversation.id.clone(),
            user_id: auth::principal().user_id.map(Id::from),
            seq,
            change,
            version: conversation.version,
            bell: None,
            looked: None,
            has_more: false,
            signals: signal::last(&conversation.id),
            renewed: None,
        })
    }

    fn look(&mut self) -> Result<Look> {
        self.renew();
        let mut look = Look::default();
        let bell = signal::bell(&self.conversation_id);
        let is_quiet = bell.is_some() && bell == self.bell && self.looked.is_some_and(|at| at.elapsed() < LOOK);
        if !is_quiet || self.has_more {
            // The bell was read first: what is said during the look rings it again.
            look = self.read()?;
            (self.bell, self.looked) = (bell, Some(Instant::now()));
        }
        let (signals, last) = signal::after(&self.conversation_id, self.signals);
        self.signals = last;
        let others = signals.into_iter().filter(|signal| Some(&signal.user_id) != self.user_id.as_ref());
        look.events.extend(others.map(|signal| Event::new(&signal.kind).json(&signal)));
        Ok(look)
    }

    /// The ends are read before the rows, and no row beyond them is sent: so a message never goes out before a change that
    /// was made before it, and its number alone says from where to go on.
    fn read(&mut self) -> Result<Look> {
        let Some(conversation) = entity::find::<Conversation>(&Pool, &self.conversation_id)? else {
            // Deleted, or closed to the caller.
            let data = json!({ "conversationId": self.conversation_id });
            return Ok(Look { events: vec![Event::new("conversation.closed").json(&data)], ends: true });
        };
        let mut events = Vec::new();
        self.has_more = false;
        if conversation.last_change > self.change {
            for row in self.changed(conversation.last_change)? {
                let name = if row.deleted_at.is_some() { "message.deleted" } else { "message.updated" };
                events.push(Event::new(name).json(&row));
            }
        }
        if conversation.last_seq > self.seq {
            for row in self.said(conversation.last_seq)? {
                events.push(Event::new("message.created").id(row.seq).json(&row));
            }
        }
        if conversation.version != self.version {
            self.version = conversation.version;
            events.push(Event::new("conversation.updated").json(&conversation));
        }
        Ok(Look { events, ends: false })
    }

    /// Changes to messages that were sent.
    fn changed(&mut self, last: i64) -> Result<Vec<Stored<Message>>> {
        let rows = Select::<Message>::new()
            .equal("conversation_id", &self.conversation_id)
            .condition("\"change_seq\" > ? AND \"change_seq\" <= ? AND \"seq\" <= ?", [self.change, last, self.seq])
            .sort("changeSeq")
            .limit(READ_MAX)
            .all(&Pool)?;
        let is_full = i64::try_from(rows.len()).unwrap_or(READ_MAX) >= READ_MAX;
        self.has_more |= is_full;
        self.change = rows.last().filter(|_| is_full).map_or(last, |row| row.change_seq);
        Ok(rows)
    }

    /// Messages that were not sent yet.
    fn said(&mut self, last: i64) -> Result<Vec<Stored<Message>>> {
        if self.has_more {
            // Changes first, all of them.
            return Ok(Vec::new());
        }
        let rows = Select::<Message>::new()
            .equal("conversation_id", &self.conversation_id)
            .condition("\"seq\" > ? AND \"seq\" <= ?", [self.seq, last])
            .sort("seq")
            .limit(READ_MAX)
            .all(&Pool)?;
        self.seq = rows.last().map_or(self.seq, |row| row.seq);
        self.has_more |= self.seq < last;
        Ok(rows)
    }

    fn renew(&mut self) {
        let is_due = self.renewed.is_none_or(|at| at.elapsed() >= RENEWED_AFTER);
        if let Some(user_id) = self.user_id.as_ref().filter(|_| is_due) {
            signal::follow(&self.conversation_id, user_id);
            self.renewed = Some(Instant::now());
        }
    }
}

/// The number of the last change before a message was written.
fn change_at(conversation_id: &Id, seq: i64) -> Result<i64> {
    let row = database::query_one(
        "SELECT change_base FROM messaging_messages WHERE conversation_id = $1 AND organization_id = $2 AND seq = $3",
        params![conversation_id, auth::organization_id()?, seq],
    )?;
    Ok(row.map_or(Ok(0), |row| row.get("change_base"))?)
}
