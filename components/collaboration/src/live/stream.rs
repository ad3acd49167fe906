//! A session as server-sent events. What happens carries its number as its id, so that whoever comes back with it misses
//! nothing and hears nothing twice; cursors carry none.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use berth_sdk::{
    http::{Event, Look},
    prelude::*,
};

use super::{
    cursor,
    event::{READ_MAX, SessionEvent},
    state,
};
use crate::session::{Session, api};

/// How often it looks.
const LISTEN: Duration = Duration::from_millis(200);
/// How often it is asked whether the caller still sees the session.
const ASKED_AFTER: Duration = Duration::from_secs(30);

/// Somebody who follows.
struct Follower {
    session_id: Id,
    user_id: Id,
    /// The last event that was read.
    seq: i64,
    cursors: BTreeMap<Id, i64>,
    asked: Instant,
}

/// `GET /api/pairing/sessions/{id}/stream`, for those who have joined. It begins with the session as it is, or after
/// `Last-Event-ID`.
pub fn stream(Params(id): Params<Id>, request: Request) -> Result<Sse> {
    let user_id = auth::user_id()?;
    let whole = api::read(Params(id.clone()))?;
    let last = request.header("last-event-id").and_then(|id| id.trim().parse::<i64>().ok());
    let is_here = whole.participants.iter().any(|person| person.user_id == user_id && person.left_at.is_none());
    let was_here = whole.participants.iter().any(|person| person.user_id == user_id);
    // Whoever was there to the end may still read how it ended.
    let may_follow = is_here || (was_here && last.is_some());
    if !may_follow {
        return Err(Problem::forbidden("Join the session to follow it.").with_code("NOT_JOINED"));
    }
    let newest = whole.session.last_seq;
    let mut ready = Vec::new();
    let seq = match last {
        Some(last) => last.clamp(0, newest),
        None => {
            ready.push(Event::new("session.state").id(newest).json(&whole.shown()));
            newest
        }
    };
    let mut follower = Follower { session_id: id, user_id, seq, cursors: BTreeMap::new(), asked: Instant::now() };
    Ok(Sse::follow(ready, LISTEN, move || follower.look()))
}

impl Follower {
    fn look(&mut self) -> Result<Look> {
        let Some(state) = state::recent(&self.session_id)? else { return Ok(self.closed()) };
        if self.asked.elapsed() >= ASKED_AFTER {
            if entity::find::<Session>(&Pool, &self.session_id)?.is_none() {
                return Ok(self.closed());
            }
            self.asked = Instant::now();
        }
        if state.seq < self.seq {
            // Older than what was read: it says nothing.
            return Ok(Look::default());
        }
        let mut look = Look::default();
        let mut is_read = true;
        if state.seq > self.seq {
            let rows = SessionEvent::after(&self.session_id, self.seq)?;
            is_read = rows.len() < usize::try_from(READ_MAX).unwrap_or(usize::MAX);
            // What is no longer kept is not waited for.
            self.seq = rows.last().map_or(state.seq, |row| row.seq);
            let concerning = rows.into_iter().filter(|row| row.concerns(&self.user_id));
            look.events.extend(concerning.map(|row| event(&row)));
        }
        if is_read && self.seq >= state.seq && (state.status.is_over() || !state.has(&self.user_id)) {
            // What was read may go beyond that state: somebody may be back again.
            let state = state::now(&self.session_id)?;
            let goes_on = state
                .is_some_and(|state| state.seq > self.seq || (!state.status.is_over() && state.has(&self.user_id)));
            look.ends = !goes_on;
            return Ok(look);
        }
        let moved = cursor::moved(&self.session_id, &state, &self.user_id, &mut self.cursors);
        look.events.extend(moved.iter().map(|cursor| Event::new("cursor").json(cursor)));
        Ok(look)
    }

    fn closed(&self) -> Look {
        let data = json!({ "sessionId": self.session_id });
        Look { events: vec![Event::new("session.closed").json(&data)], ends: true }
    }
}

fn event(row: &Stored<SessionEvent>) -> Event {
    let mut data = row.data.data.clone();
    if let Some(members) = data.as_object_mut() {
        members.insert("sessionId".into(), json!(row.session_id));
        members.insert("seq".into(), json!(row.seq));
        members.insert("at".into(), json!(row.created_at));
        members.insert("by".into(), json!(row.user_id));
    }
    Event::new(&row.kind).id(row.seq).json(&data)
}
