//! Where everybody's cursor is: only the newest of each one counts, and only while it is fresh. Nothing is lost with it.

use std::{collections::BTreeMap, time::Duration};

use berth_sdk::{cache, prelude::*};

use super::state::State;

/// How long a cursor stays where it is when nothing more is heard of it.
const FRESH_FOR: Duration = Duration::from_secs(30);
/// How long cursors are counted on from one number.
const COUNTER_TTL: Duration = Duration::from_secs(6 * 60 * 60);

/// A cursor.
#[data]
pub struct Cursor {
    /// Whose.
    pub user_id: Id,
    /// In which file.
    pub file_path: String,
    /// In which line, from 1.
    pub line: i64,
    /// At which column, from 1.
    pub column: Option<i64>,
    /// Where the selection ends, if there is one.
    pub end_line: Option<i64>,
    /// See `end_line`.
    pub end_column: Option<i64>,
    /// Told from the one before by this.
    pub mark: i64,
}

fn key(session_id: &Id, user_id: &Id) -> String {
    format!("cursor:{session_id}:{user_id}")
}

/// Moves a cursor. False when the cache is away: then nobody sees it, until it moves again.
pub fn put(session_id: &Id, mut cursor: Cursor) -> bool {
    let Ok(mark) = cache::incr_by(&format!("cursors:{session_id}"), 1, COUNTER_TTL) else { return false };
    cursor.mark = mark;
    cache::set_ttl(&key(session_id, &cursor.user_id), &cursor, FRESH_FOR);
    true
}

/// The cursors of the others that have moved since they were last looked at; `seen` is kept up to date.
pub fn moved(session_id: &Id, state: &State, user_id: &Id, seen: &mut BTreeMap<Id, i64>) -> Vec<Cursor> {
    let others: Vec<&Id> = state.user_ids.iter().filter(|id| *id != user_id).collect();
    let keys: Vec<String> = others.iter().map(|id| key(session_id, id)).collect();
    let found = cache::get_many::<Cursor>(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    let mut moved = Vec::new();
    for cursor in found.into_iter().flatten() {
        if seen.insert(cursor.user_id.clone(), cursor.mark) != Some(cursor.mark) {
            moved.push(cursor);
        }
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Status;

    #[test]
    fn a_cursor_is_told_when_it_moves_and_not_to_its_owner() {
        let (session, a, b) = (Id::from("s1"), Id::from("a"), Id::from("b"));
        let state = State { seq: 0, status: Status::Active, shared_editor: true, user_ids: vec![a.clone(), b.clone()] };
        let at = |line| Cursor {
            user_id: a.clone(),
            file_path: "src/lib.rs".into(),
            line,
            column: None,
            end_line: None,
            end_column: None,
            mark: 0,
        };
        let mut seen = BTreeMap::new();
        assert!(moved(&session, &state, &b, &mut seen).is_empty());
        assert!(put(&session, at(1)) && put(&session, at(2)));
        let news = moved(&session, &state, &b, &mut seen);
        assert_eq!(news.iter().map(|cursor| cursor.line).collect::<Vec<_>>(), [2]);
        assert!(moved(&session, &state, &b, &mut seen).is_empty());
        assert!(moved(&session, &state, &a, &mut BTreeMap::new()).is_empty());
        // The same place, said again, is news again.
        assert!(put(&session, at(2)));
        assert_eq!(moved(&session, &state, &b, &mut seen).len(), 1);
    }
}
