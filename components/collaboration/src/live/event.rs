//! What has happened in a session, numbered under the lock of the session's row: so there is no gap that closes later, and
//! whoever knows a number has seen all before it.

use berth_sdk::{prelude::*, serde_json::Value};

use crate::session::Session;

/// A signal between two peers.
pub const MEDIA: &str = "media";
/// Signals between peers that a session keeps: whoever is that far behind asks its peers anew.
const MEDIA_MAX: i64 = 1_000;
/// How many are read at once.
pub const READ_MAX: i64 = 100;

/// Something that has happened.
#[entity(table = "pairing_events", name = "event", sort = "seq")]
pub struct SessionEvent {
    /// In which session.
    pub session_id: Id,
    /// Its number there.
    pub seq: i64,
    /// What it is, such as `role.switched`.
    pub kind: String,
    /// Who did it; none for the host.
    pub user_id: Option<Id>,
    /// Whom it is for; everybody otherwise.
    pub to_user_id: Option<Id>,
    /// The rest.
    pub data: Value,
}

impl Rules for SessionEvent {}

impl SessionEvent {
    /// Whether somebody is told of it: not of their own signals, nor of those for others.
    pub fn concerns(&self, user_id: &str) -> bool {
        let is_own_signal = self.kind == MEDIA && self.user_id.as_ref().is_some_and(|id| id.as_str() == user_id);
        !is_own_signal && self.to_user_id.as_ref().is_none_or(|id| id.as_str() == user_id)
    }

    /// What comes after a number.
    pub fn after(session_id: &Id, seq: i64) -> Result<Vec<Stored<Self>>> {
        Select::new().equal("session_id", session_id).condition("\"seq\" > ?", [seq]).limit(READ_MAX).all(&Pool)
    }
}

/// Writes an event under a number that was taken.
pub fn write(
    transaction: &Transaction,
    session_id: &Id,
    seq: i64,
    (kind, data): (&str, &Value),
    to: Option<&Id>,
) -> Result<()> {
    let event = SessionEvent {
        session_id: session_id.clone(),
        seq,
        kind: kind.to_string(),
        user_id: auth::principal().user_id.map(Id::from),
        to_user_id: to.cloned(),
        data: data.clone(),
    };
    entity::create(transaction, event)?;
    Ok(())
}

/// Removes signals between peers that are far behind the newest event of a session.
pub fn forget_media(transaction: &Transaction, session_id: &Id, last_seq: i64) -> Result<()> {
    transaction.execute(
        "DELETE FROM pairing_events WHERE session_id = $1 AND kind = $2 AND seq <= $3",
        params![session_id, MEDIA, last_seq - MEDIA_MAX],
    )?;
    Ok(())
}

/// Takes the next number of a session that is being changed, and writes an event under it.
pub fn append(transaction: &Transaction, session: &Stored<Session>, kind: &str, data: &Value) -> Result<()> {
    let row = transaction.query_one(
        "UPDATE pairing_sessions SET last_seq = last_seq + 1 WHERE id = $1 AND organization_id = $2 RETURNING last_seq",
        params![&session.id, auth::organization_id()?],
    )?;
    let Some(row) = row else { return Err(Problem::missing("session")) };
    write(transaction, &session.id, row.get("last_seq")?, (kind, data), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_reaches_whom_it_is_for() {
        let event = |kind: &str, from: &str, to: Option<&str>| SessionEvent {
            session_id: "s1".into(),
            seq: 1,
            kind: kind.into(),
            user_id: Some(from.into()),
            to_user_id: to.map(Id::from),
            data: Value::Null,
        };
        assert!(event("role.switched", "a", None).concerns("a"));
        assert!(!event(MEDIA, "a", None).concerns("a") && event(MEDIA, "a", None).concerns("b"));
        let one = event(MEDIA, "a", Some("b"));
        assert!(one.concerns("b") && !one.concerns("c") && !one.concerns("a"));
    }
}
