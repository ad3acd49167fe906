//! Signals of those who take part: where their cursor is, which file is looked at, and what peers tell each other to find a
//! way for voice and video. Media themselves go from peer to peer.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::{
    cursor::{self, Cursor},
    event::{self, MEDIA},
    state,
};
use crate::session::{Session, Status, course, held::Held};

/// The longest media signal, in bytes as JSON: descriptions of sessions with many streams are long.
const MEDIA_BYTES_MAX: usize = 64 * 1024;

/// What kind of signal it is.
#[choice]
pub enum SignalType {
    /// A cursor has moved.
    Cursor,
    /// Another file is looked at.
    File,
    /// For a peer's media connection.
    Media,
}

/// The body of a signal.
#[data]
pub struct Signal {
    /// Its kind; decides what else is needed.
    r#type: SignalType,
    /// Of a cursor or a file.
    #[field(min = 1, max = 1_000)]
    file_path: Option<String>,
    /// Of a cursor, from 1.
    #[field(min = 1, max = 10_000_000)]
    line: Option<i64>,
    /// Of a cursor, from 1.
    #[field(min = 1, max = 10_000_000)]
    column: Option<i64>,
    /// Where a selection ends.
    #[field(min = 1, max = 10_000_000)]
    end_line: Option<i64>,
    /// See `endLine`.
    #[field(min = 1, max = 10_000_000)]
    end_column: Option<i64>,
    /// Whom a media signal is for; all others otherwise.
    to: Option<Id>,
    /// What a media signal says.
    data: Option<Map<String, Value>>,
}

/// What became of a signal.
#[data]
pub struct Sent {
    /// Its kind.
    r#type: SignalType,
    /// Its number in the stream; cursors have none.
    seq: Option<i64>,
    /// Whether those who follow are told: not of a cursor while there is no cache.
    delivered: bool,
}

impl Signal {
    /// 400 that names everything that its kind needs and does not have.
    fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        let mut need = |is_there: bool, field: &str| {
            if !is_there {
                faults.add(field, format!("is required for a signal of type {}", self.r#type));
            }
        };
        match self.r#type {
            SignalType::Cursor => {
                need(self.file_path.is_some(), "filePath");
                need(self.line.is_some(), "line");
            }
            SignalType::File => need(self.file_path.is_some(), "filePath"),
            SignalType::Media => need(self.data.is_some(), "data"),
        }
        if self.data.as_ref().is_some_and(|data| json!(data).to_string().len() > MEDIA_BYTES_MAX) {
            faults.add("data", format!("must have at most {MEDIA_BYTES_MAX} bytes"));
        }
        faults.finish()
    }
}

/// `POST /api/pairing/sessions/{id}/signal`.
pub fn signal(Params(id): Params<Id>, Json(signal): Json<Signal>) -> Result<Json<Sent>> {
    entity::read::<Session>(&Pool, &id)?;
    signal.check()?;
    let kind = signal.r#type;
    let (seq, delivered) = match kind {
        SignalType::Cursor => (None, point(&id, signal)?),
        SignalType::File => (Some(open(&id, signal.file_path.unwrap_or_default())?), true),
        SignalType::Media => (Some(relay(&id, signal.to, signal.data.unwrap_or_default())?), true),
    };
    Ok(Json(Sent { r#type: kind, seq, delivered }))
}

/// Moves the caller's cursor, which needs no lock.
fn point(id: &Id, signal: Signal) -> Result<bool> {
    let user_id = auth::user_id()?;
    let knows = |state: &state::State| state.has(&user_id) && state.status == Status::Active;
    let state = match state::recent(id)? {
        Some(state) if knows(&state) => state,
        // They may have joined a moment ago.
        _ => state::now(id)?.ok_or_else(|| Problem::missing("session"))?,
    };
    match state.status {
        Status::Active => {}
        Status::Scheduled => return Err(not_begun()),
        status => return Err(course::over(status)),
    }
    if !state.has(&user_id) {
        return Err(Problem::conflict("Join the session first.").with_code("NOT_JOINED"));
    }
    if !state.shared_editor {
        return Err(not_shared("The editor"));
    }
    state::touch(id)?;
    let cursor = Cursor {
        user_id,
        file_path: signal.file_path.unwrap_or_default(),
        line: signal.line.unwrap_or(1),
        column: signal.column,
        end_line: signal.end_line,
        end_column: signal.end_column,
        mark: 0,
    };
    Ok(cursor::put(id, cursor))
}

fn not_begun() -> Problem {
    Problem::conflict("The session has not begun.").with_code("SESSION_NOT_STARTED")
}

fn not_shared(what: &str) -> Problem {
    Problem::conflict(format!("{what} is not shared in this session.")).with_code("NOT_SHARED")
}

/// Lets everybody look at another file.
fn open(id: &Id, file_path: String) -> Result<i64> {
    within(id, |held| {
        if !held.session.shared_editor {
            return Err(not_shared("The editor"));
        }
        if held.session.current_file.as_deref() == Some(file_path.as_str()) {
            return Ok(held.session.last_seq);
        }
        let seq = held.note("file.changed", &json!({ "filePath": file_path }))?;
        held.session.current_file = Some(file_path);
        Ok(seq)
    })
}

/// Passes on what a peer has to know.
fn relay(id: &Id, to: Option<Id>, data: Map<String, Value>) -> Result<i64> {
    within(id, |held| {
        if !held.session.voice_video_enabled {
            return Err(not_shared("Voice and video"));
        }
        if let Some(to) = &to
            && held.cast.role_of(to).is_none()
        {
            let detail = "Nobody of this id has joined.";
            return Err(Problem::unprocessable(detail).with_code("NOT_JOINED"));
        }
        let seq = held.note_for(MEDIA, &json!({ "signal": data }), to.as_ref())?;
        event::forget_media(held.transaction, id, seq)?;
        Ok(seq)
    })
}

fn within(id: &Id, work: impl FnOnce(&mut Held<'_>) -> Result<i64>) -> Result<i64> {
    database::transaction(|transaction| {
        let mut held = Held::take(transaction, id)?;
        held.require_active()?;
        held.require_joined()?;
        let seq = work(&mut held)?;
        held.keep()?;
        Ok(seq)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faulty(body: Value) -> Vec<String> {
        let signal = berth_sdk::http::read_value::<Signal>(body).unwrap();
        let errors = signal.check().map_or_else(|problem| problem.errors, |()| Vec::new());
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn each_kind_names_what_it_needs() {
        assert_eq!(faulty(json!({"type": "cursor"})), ["filePath", "line"]);
        assert_eq!(faulty(json!({"type": "file"})), ["filePath"]);
        assert_eq!(faulty(json!({"type": "media"})), ["data"]);
        assert!(faulty(json!({"type": "media", "data": {"sdp": "v=0"}})).is_empty());
        assert_eq!(faulty(json!({"type": "media", "data": {"sdp": "v".repeat(70_000)}})), ["data"]);
    }
}
