//! Who is there at all: said by each one's client again and again, and remembered in the cache; the table has it a little
//! later, and the one synchronous session that somebody is in.

use std::{collections::BTreeSet, time::Duration};

use berth_sdk::{
    cache,
    prelude::*,
    serde_json::{self, Value},
};

use crate::{
    access::{self, PAIRING_READ},
    live,
    session::{Session, held::Held},
};

/// How long a word of presence holds.
const PRESENT_FOR: Duration = Duration::from_secs(60);
/// How old the table's word may get before it is written anew.
const WRITTEN_AFTER: Duration = Duration::from_secs(30);

/// How somebody is there.
#[choice]
pub enum PresenceStatus {
    /// There.
    Online,
    /// Not there.
    Offline,
    /// Not at the keyboard.
    Away,
    /// There, and not to be disturbed.
    Busy,
}

/// Somebody's presence.
#[entity(table = "pairing_presence", name = "presence", sort = "-lastSeen")]
pub struct Presence {
    /// Who.
    pub user_id: Id,
    /// As they last said.
    pub status: PresenceStatus,
    /// The synchronous session they are in.
    pub active_session_id: Option<Id>,
    /// When they last said so.
    pub last_seen: Timestamp,
}

impl Rules for Presence {}

/// What the cache has.
#[data]
struct Word {
    status: PresenceStatus,
    at: Timestamp,
    /// When the table was written.
    written_at: Timestamp,
}

/// The routes of presence.
pub fn routes() -> Router {
    Router::new()
        .get("/api/pairing/presence", list)
        .summary("List who is there; userIds=a,b for some.")
        .put("/api/pairing/presence", set)
        .permission(PAIRING_READ)
        .summary("Say how one is there; holds for a minute.")
}

fn key(user_id: &str) -> String {
    format!("presence:{user_id}")
}

/// How somebody is there now, by the last word and when it was said.
fn effective(status: PresenceStatus, at: Timestamp, now: Timestamp, patience: Duration) -> PresenceStatus {
    if now.since(at) > patience { PresenceStatus::Offline } else { status }
}

/// What is wished of the list.
#[data]
pub struct Wanted {
    /// Only these.
    #[field(max = 200)]
    user_ids: Option<Vec<Id>>,
    /// Only who is there like this.
    status: Option<PresenceStatus>,
}

/// `GET /api/pairing/presence`: the cache's word, where there is one, else the table's.
pub fn list(Query(wanted): Query<Wanted>, mut query: PageQuery) -> Result<Json<Page<Value>>> {
    let now = clock::now();
    let mut select = Select::<Presence>::new();
    if let Some(ids) = &wanted.user_ids {
        select = select.one_of("user_id", ids);
    }
    if let Some(id) = query.filter("activeSessionId")
        && entity::find::<Session>(&Pool, &id)?.is_none()
    {
        // Who is in a session that the caller does not see is not told by asking for it either.
        select = select.one_of("id", [] as [Id; 0]);
    }
    if let Some(status) = wanted.status {
        // Whoever has said nothing for long is away, whatever they said.
        query.pairs.retain(|(name, _)| name != "status");
        let since = now.minus(PRESENT_FOR + WRITTEN_AFTER);
        select = match status {
            PresenceStatus::Offline => {
                select.condition("\"status\" = ? OR \"last_seen\" < ?", [database::Value::from(status), since.into()])
            }
            _ => select.equal("status", status).condition("\"last_seen\" >= ?", [since]),
        };
    }
    let page = select.page(&Pool, &query)?;
    let mut page: Rows = serde_json::from_slice(&page.text).map_err(|_| Problem::internal())?;
    refresh(&mut page.items, now)?;
    Ok(Json(query.envelope(page.items.into_iter().map(shown).collect(), page.total)))
}

#[data]
struct Rows {
    items: Vec<Row>,
    total: i64,
}

#[data]
struct Row {
    user_id: Id,
    status: PresenceStatus,
    active_session_id: Option<Id>,
    last_seen: Timestamp,
}

fn shown(row: Row) -> Value {
    json!(row)
}

/// Puts the newest words into the table's rows, and takes sessions out that the caller does not see.
fn refresh(rows: &mut [Row], now: Timestamp) -> Result<()> {
    let keys: Vec<String> = rows.iter().map(|row| key(&row.user_id)).collect();
    let words = cache::get_many::<Word>(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    for (row, word) in rows.iter_mut().zip(words) {
        let (status, at, patience) = match word {
            Some(word) => (word.status, word.at, PRESENT_FOR),
            None => (row.status, row.last_seen, PRESENT_FOR + WRITTEN_AFTER),
        };
        (row.status, row.last_seen) = (effective(status, at, now, patience), at);
    }
    let named: BTreeSet<&Id> = rows.iter().filter_map(|row| row.active_session_id.as_ref()).collect();
    let found: Vec<Stored<Session>> = Select::new().one_of("id", named).all(&Pool)?;
    let seen: BTreeSet<Id> = found.into_iter().map(|session| session.id).collect();
    for row in rows {
        row.active_session_id.take_if(|id| !seen.contains(id));
    }
    Ok(())
}

/// The body of `PUT /api/pairing/presence`.
#[data]
pub struct NewPresence {
    /// How the caller is there.
    status: PresenceStatus,
}

/// `PUT /api/pairing/presence`.
pub fn set(Json(input): Json<NewPresence>) -> Result<Json<Value>> {
    let (user_id, now) = (auth::user_id()?, clock::now());
    let known = cache::get::<Word>(&key(&user_id));
    let is_written =
        known.as_ref().is_some_and(|known| known.status == input.status && now.since(known.written_at) < WRITTEN_AFTER);
    let written_at = match known {
        Some(known) if is_written => known.written_at,
        _ => {
            database::transaction(|transaction| {
                let status = input.status;
                upsert(
                    transaction,
                    &user_id,
                    "status = excluded.status, last_seen = excluded.last_seen",
                    (status, None, now),
                )
            })?;
            now
        }
    };
    cache::set_ttl(&key(&user_id), &Word { status: input.status, at: now, written_at }, PRESENT_FOR);
    let row = Select::<Presence>::new().equal("user_id", &user_id).first(&Pool)?;
    let session_id = row.and_then(|row| row.data.active_session_id);
    if let Some(id) =
        session_id.as_ref().filter(|_| matches!(input.status, PresenceStatus::Online | PresenceStatus::Busy))
    {
        // Whoever says that they are there keeps their session going.
        live::state::touch(id)?;
    }
    let row = Row { user_id, status: input.status, active_session_id: session_id, last_seen: now };
    Ok(Json(shown(row)))
}

/// Writes a row of presence, or of what is there the columns that `change` names. False when its condition kept that.
fn upsert(
    transaction: &Transaction,
    user_id: &Id,
    change: &str,
    (status, session_id, now): (PresenceStatus, Option<&Id>, Timestamp),
) -> Result<bool> {
    let (set, condition) = change
        .split_once(" WHERE ")
        .map_or((change, String::new()), |(set, condition)| (set, format!(" WHERE {condition}")));
    let sql = format!(
        "INSERT INTO pairing_presence (id, organization_id, created_by, created_at, updated_at, version, user_id, status, \
         active_session_id, last_seen) VALUES ($1, $2, $3, $4, $4, 1, $5, $6, $7, $4) \
         ON CONFLICT (organization_id, user_id) DO UPDATE SET {set}, updated_at = excluded.updated_at, \
         version = pairing_presence.version + 1{condition}"
    );
    let caller = auth::principal().user_id;
    let session_id = session_id.cloned();
    let values = params![Id::new(), auth::organization_id()?, caller, now, user_id, status, session_id].to_vec();
    Ok(transaction.execute(&sql, &values)? > 0)
}

/// Holds somebody's row to the end of the transaction, so that what they do at the same moment comes one after another.
pub fn hold(transaction: &Transaction, user_id: &Id) -> Result<()> {
    let unseen = (PresenceStatus::Offline, None, clock::now());
    upsert(transaction, user_id, "status = pairing_presence.status", unseen).map(|_| ())
}

/// Makes the session the one synchronous session that somebody is in; 409 when they are in another one. The row decides:
/// so it holds whoever joins where at the same moment.
pub fn claim(held: &Held<'_>, user_id: &Id) -> Result<()> {
    let change = "active_session_id = excluded.active_session_id WHERE pairing_presence.active_session_id IS NULL \
                  OR pairing_presence.active_session_id = excluded.active_session_id";
    let status = if access::is_caller(user_id) { PresenceStatus::Online } else { PresenceStatus::Offline };
    if upsert(held.transaction, user_id, change, (status, Some(&held.session.id), held.now))? {
        return Ok(());
    }
    let detail = "One is in one session at a time; leave the other one first.";
    Err(Problem::conflict(detail).with_code("IN_ANOTHER_SESSION").with("userId", user_id.as_str()))
}

/// The same for everybody who has joined, in one order everywhere.
pub fn claim_all(held: &Held<'_>) -> Result<()> {
    let ids: BTreeSet<&Id> = held.people.iter().map(|person| &person.user_id).collect();
    ids.into_iter().try_for_each(|id| claim(held, id))
}

/// Somebody is no longer in the session, or nobody is.
pub fn release(transaction: &Transaction, session_id: &Id, user_id: Option<&Id>) -> Result<()> {
    let mut sql = String::from(
        "UPDATE pairing_presence SET active_session_id = NULL, updated_at = $3, version = version + 1 \
         WHERE organization_id = $1 AND active_session_id = $2",
    );
    let mut values = params![auth::organization_id()?, session_id, clock::now()].to_vec();
    if let Some(user_id) = user_id {
        sql.push_str(" AND user_id = $4");
        values.push(user_id.into());
    }
    transaction.execute(&sql, &values)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_presence_holds_for_a_minute() {
        let (at, busy) = (Timestamp::from_millis(1_000_000), PresenceStatus::Busy);
        assert_eq!(effective(busy, at, at.plus(PRESENT_FOR), PRESENT_FOR), busy);
        assert_eq!(effective(busy, at, at.plus(PRESENT_FOR * 2), PRESENT_FOR), PresenceStatus::Offline);
    }
}
