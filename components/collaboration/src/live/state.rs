//! How far a session is, as streams ask for it many times a second: from the cache, which never knows it for longer than a
//! moment, so that whatever goes wrong there costs that moment.

use std::time::Duration;

use berth_sdk::{cache, prelude::*};

use crate::{participant::Participant, session::Status};

/// How long it is known.
const KNOWN_FOR: Duration = Duration::from_secs(2);
/// How often it is noted that somebody does something.
const TOUCHED_AFTER: Duration = Duration::from_secs(60);

/// How far a session is, and who is in it.
#[data]
pub struct State {
    /// The number of the newest event.
    pub seq: i64,
    /// Where it stands.
    pub status: Status,
    /// Whether cursors are shared.
    pub shared_editor: bool,
    /// Who is there.
    pub user_ids: Vec<Id>,
}

impl State {
    /// Whether somebody is there.
    pub fn has(&self, user_id: &str) -> bool {
        self.user_ids.iter().any(|id| id.as_str() == user_id)
    }
}

fn key(session_id: &Id) -> String {
    format!("session:{session_id}")
}

/// As it was a moment ago; none when there is no such session.
pub fn recent(session_id: &Id) -> Result<Option<State>> {
    cache::remember(&key(session_id), KNOWN_FOR, || now(session_id))
}

/// As it is.
pub fn now(session_id: &Id) -> Result<Option<State>> {
    let row = database::query_one(
        "SELECT last_seq, status, shared_editor FROM pairing_sessions WHERE id = $1 AND organization_id = $2",
        params![session_id, auth::organization_id()?],
    )?;
    let Some(row) = row else { return Ok(None) };
    let people = Participant::present(&Pool, session_id)?;
    Ok(Some(State {
        seq: row.get("last_seq")?,
        status: row.get("status")?,
        shared_editor: row.get("shared_editor")?,
        user_ids: people.into_iter().map(|person| person.data.user_id).collect(),
    }))
}

/// What is known is not true any more, once the transaction is.
pub fn stale(transaction: &Transaction, session_id: &Id) {
    transaction.forget(key(session_id));
}

/// The same at once.
pub fn forget(session_id: &Id) {
    cache::del(&key(session_id));
}

/// Notes that somebody does something, once a minute: so that the session is not taken for idle.
pub fn touch(session_id: &Id) -> Result<()> {
    let is_noted = cache::add_if_absent(&format!("touched:{session_id}"), &true, TOUCHED_AFTER) == Ok(false);
    if is_noted {
        return Ok(());
    }
    database::execute(
        "UPDATE pairing_sessions SET active_at = $3 WHERE id = $1 AND organization_id = $2 AND status = 'active'",
        params![session_id, auth::organization_id()?, clock::now()],
    )?;
    Ok(())
}
