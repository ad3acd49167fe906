//! Reading messages: pages by number, threads, one.

use std::time::Duration;

use berth_sdk::{
    cache,
    prelude::*,
    serde_json::{Value, value::RawValue},
};

use super::Message;
use crate::{access::Seat, signal};

/// The newest messages that are remembered, and for how long when nothing is said.
const RECENT_MAX: i64 = 50;
const RECENT_TTL: Duration = Duration::from_secs(60);
/// The most that is remembered, in bytes.
const RECENT_BYTES_MAX: usize = 512 * 1024;

/// Which messages are wanted.
#[data]
pub struct Range {
    /// Only messages before this number, the nearest ones.
    #[field(min = 0)]
    before: Option<i64>,
    /// Only messages after this number, the nearest ones.
    #[field(min = 0)]
    after: Option<i64>,
    /// The most messages.
    #[field(min = 1, max = 200)]
    limit: Option<i64>,
}

impl Range {
    fn check(&self) -> Result<()> {
        if self.before.is_some() && self.after.is_some() {
            return Err(Problem::field("after", "cannot be combined with before"));
        }
        Ok(())
    }

    fn limit(&self) -> i64 {
        self.limit.unwrap_or(berth_sdk::page::LIMIT_DEFAULT)
    }
}

/// The newest messages, and the ring up to which they are.
#[data]
struct Remembered {
    bell: Id,
    items: Value,
}

fn key(conversation_id: &Id) -> String {
    format!("recent:{conversation_id}")
}

/// `GET /api/messaging/conversations/{id}/messages`: in the order of their numbers; the newest page when nothing is said.
pub fn list(Params(id): Params<Id>, Query(range): Query<Range>) -> Result<JsonText<Page<Stored<Message>>>> {
    range.check()?;
    let seat = Seat::take(&Pool, &id)?;
    let is_recent = range.before.is_none() && range.after.is_none() && range.limit() == RECENT_MAX;
    // The bell comes first: what is said while the page is read makes it old at once.
    let bell = if is_recent { signal::bell(&id) } else { None };
    if let Some(known) =
        bell.as_ref().and_then(|bell| cache::get::<Remembered>(&key(&id)).filter(|known| known.bell == *bell))
    {
        return Ok(page(&seat, &range, known.items.to_string().as_bytes()));
    }
    let items = read(&id, &range)?;
    if let Some(bell) = bell.filter(|_| items.len() <= RECENT_BYTES_MAX)
        && let Ok(items) = berth_sdk::serde_json::from_slice(&items)
    {
        cache::set_ttl(&key(&id), &Remembered { bell, items }, RECENT_TTL);
    }
    Ok(page(&seat, &range, &items))
}

fn page(seat: &Seat, range: &Range, items: &[u8]) -> JsonText<Page<Stored<Message>>> {
    let envelope = PageQuery { limit: range.limit(), ..PageQuery::default() };
    // Numbers have no gap: the newest one says how many there are.
    JsonText::new(200, envelope.envelope_text(items, seat.conversation.last_seq))
}

fn read(conversation_id: &Id, range: &Range) -> Result<Vec<u8>> {
    let select = Select::<Message>::new().equal("conversation_id", conversation_id).limit(range.limit());
    if let Some(after) = range.after {
        return select.condition("\"seq\" > ?", [after]).sort("seq").text(&Pool);
    }
    let select = match range.before {
        Some(before) => select.condition("\"seq\" < ?", [before]),
        None => select,
    };
    reversed(&select.sort("-seq").text(&Pool)?)
}

/// The entries of a JSON array in the other order, as they are.
fn reversed(text: &[u8]) -> Result<Vec<u8>> {
    let mut entries: Vec<&RawValue> = berth_sdk::serde_json::from_slice(text).map_err(|_| Problem::internal())?;
    entries.reverse();
    berth_sdk::serde_json::to_vec(&entries).map_err(|_| Problem::internal())
}

/// `GET /api/messaging/messages/{id}`.
pub fn one(Params(id): Params<Id>) -> Result<JsonText<Stored<Message>>> {
    let (text, version) = entity::read_text::<Message>(&id)?;
    Ok(JsonText::new(200, text).with_version(version))
}

/// `GET /api/messaging/messages/{id}/thread`: the replies; of a reply, those beside it.
pub fn thread(Params(id): Params<Id>, Query(range): Query<Range>) -> Result<JsonText<Page<Stored<Message>>>> {
    range.check()?;
    let message = entity::read::<Message>(&Pool, &id)?;
    let root_id = message.thread_id.clone().unwrap_or_else(|| message.id.clone());
    let select = || Select::<Message>::new().equal("thread_id", &root_id);
    let total = select().count(&Pool)?;
    let select = select().limit(range.limit());
    let items = match (range.before, range.after) {
        (Some(before), _) => reversed(&select.condition("\"seq\" < ?", [before]).sort("-seq").text(&Pool)?)?,
        (_, after) => select.condition("\"seq\" > ?", [after.unwrap_or(0)]).sort("seq").text(&Pool)?,
    };
    let envelope = PageQuery { limit: range.limit(), ..PageQuery::default() };
    Ok(JsonText::new(200, envelope.envelope_text(&items, total)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_their_text_when_they_are_turned_round() {
        let turned = reversed(br#"[{"a":1.50},{"b":"\u00e9"}]"#).unwrap();
        assert_eq!(turned, br#"[{"b":"\u00e9"},{"a":1.50}]"#);
    }

    #[test]
    fn one_end_is_enough() {
        let range = Range { before: Some(1), after: Some(2), limit: None };
        assert_eq!(range.check().unwrap_err().status, 400);
    }
}
