//! Sessions of clients that begin with `initialize`: what was agreed on, what was said on their streams, and what they
//! answered. They live in the database, so that it does not matter which host answers.

use std::time::Duration;

use berth_sdk::{
    prelude::*,
    secrets,
    serde_json::{Map, Value},
};

use crate::protocol::code;

/// A session nobody has used for so long is over.
const IDLE_MAX: Duration = Duration::from_secs(3600);
/// Sessions of one user; the ones that were not used the longest go first.
const SESSIONS_MAX: i64 = 100;
/// How often it is noted that a session is used.
const SEEN_EVERY: Duration = Duration::from_secs(60);
/// Sessions of one sweep.
const SWEEP_MAX: i64 = 200;
/// How long a call can be taken up again after somebody was last at it.
const CALL_KEPT_FOR: Duration = Duration::from_secs(3600);
/// Calls, and answers, of one sweep.
const CALLS_SWEEP_MAX: i64 = 2_000;
/// Resources that one session watches.
pub const SUBSCRIPTIONS_MAX: usize = 20;
/// Bytes of what a client answers to a request of ours.
const REPLY_BYTES_MAX: usize = 1 << 20;
/// The versions of the row of a request of ours: it has no answer yet, and it has one.
const ASKED: i64 = 1;
const ANSWERED: i64 = 2;

/// A session.
#[entity(table = "mcp_sessions", name = "session", sort = "-lastSeenAt")]
pub struct Session {
    /// Whose.
    pub user_id: String,
    /// The revision that was agreed on.
    pub protocol_version: String,
    /// What the client can do.
    pub capabilities: Value,
    /// What the client calls itself.
    pub client_info: Value,
    /// From which severity on log messages are wanted.
    pub log_level: String,
    /// Addresses of resources with the digest of what was read there last.
    pub subscriptions: Value,
    /// When it was used last.
    pub last_seen_at: Timestamp,
}

impl Rules for Session {}

/// How far a call is.
#[choice(upper)]
pub enum CallStatus {
    /// Somebody is at it, or was.
    Running,
    /// Its answer was given.
    Done,
    /// The client does not want it any more.
    Cancelled,
}

/// A call whose answer comes as a stream.
#[entity(table = "mcp_session_calls", name = "call", sort = "createdAt")]
pub struct Call {
    /// Of which session.
    pub session_id: Id,
    /// The client's id of it.
    pub request_key: String,
    /// The whole request.
    pub request: Value,
    /// How far it is.
    pub status: CallStatus,
    /// Until when whoever is at it will be heard of.
    pub leased_until: Timestamp,
}

impl Rules for Call {}

/// Begins a session.
pub fn begin(protocol_version: &str, capabilities: Value, client_info: Value) -> Result<Stored<Session>> {
    let user_id = auth::user_id()?;
    // An id that cannot be guessed: it does not open anything without the user's token, but it names the session.
    let random: String = secrets::random(16)?.iter().map(|byte| format!("{byte:02x}")).collect();
    database::transaction(|transaction| {
        let count = "SELECT COUNT(*) AS total FROM mcp_sessions WHERE organization_id = $1 AND user_id = $2";
        let organization_id = auth::organization_id()?;
        let known: i64 =
            transaction.query_one(count, params![&organization_id, &user_id])?.map_or(Ok(0), |row| row.get("total"))?;
        if known >= SESSIONS_MAX {
            let sql = "SELECT id FROM mcp_sessions WHERE organization_id = $1 AND user_id = $2 ORDER BY last_seen_at LIMIT $3";
            for row in transaction.query(sql, params![&organization_id, &user_id, known - SESSIONS_MAX + 1])? {
                forget(transaction, &row.get::<String>("id")?)?;
            }
        }
        let session = Session {
            user_id: user_id.as_str().to_string(),
            protocol_version: protocol_version.to_string(),
            capabilities,
            client_info,
            log_level: "info".into(),
            subscriptions: json!({}),
            last_seen_at: clock::now(),
        };
        entity::create_as(transaction, Id::from(random.as_str()), session)
    })
}

/// The caller's session of this id; none when it is another's, unknown or over.
pub fn find(id: &str) -> Result<Option<Stored<Session>>> {
    if validate::id(id).is_err() {
        return Ok(None);
    }
    let Some(session) = entity::find::<Session>(&Pool, id)? else { return Ok(None) };
    let now = clock::now();
    let is_own = auth::principal().user_id.as_deref() == Some(session.user_id.as_str());
    if !is_own || now.since(session.last_seen_at) > IDLE_MAX {
        return Ok(None);
    }
    if now.since(session.last_seen_at) > SEEN_EVERY {
        touch(id)?;
    }
    Ok(Some(session))
}

/// Notes that a session is used.
pub fn touch(id: &str) -> Result<()> {
    database::execute("UPDATE mcp_sessions SET last_seen_at = $2 WHERE id = $1", params![id, clock::now()])?;
    Ok(())
}

/// Ends a session.
pub fn end(id: &str) -> Result<()> {
    database::transaction(|transaction| forget(transaction, id))
}

fn forget(transaction: &Transaction, id: &str) -> Result<()> {
    for table in ["mcp_session_calls", "mcp_session_messages", "mcp_session_replies"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE session_id = $1"), params![id])?;
    }
    transaction.execute("DELETE FROM mcp_sessions WHERE id = $1", params![id])?;
    Ok(())
}

/// Notes the level of log messages.
pub fn set_log_level(id: &str, level: &str) -> Result<()> {
    database::execute("UPDATE mcp_sessions SET log_level = $2 WHERE id = $1", params![id, level])?;
    Ok(())
}

/// Changes which resources a session watches, each with the digest of what was read there last; `change` says whether it has
/// changed anything. The session is held, so that of two at once neither is lost.
fn change_subscriptions(id: &str, change: impl FnOnce(&mut Map<String, Value>) -> bool) -> Result<bool> {
    database::transaction(|transaction| {
        let sql = "SELECT subscriptions FROM mcp_sessions WHERE id = $1 FOR UPDATE";
        let Some(row) = transaction.query_one(sql, params![id])? else { return Ok(false) };
        let mut watched: Map<String, Value> = row.json("subscriptions")?;
        let is_changed = change(&mut watched);
        if is_changed {
            let sql = "UPDATE mcp_sessions SET subscriptions = $2 WHERE id = $1";
            transaction.execute(sql, params![id, Value::Object(watched)])?;
        }
        Ok(is_changed)
    })
}

/// Notes that a resource is watched. False when a session that watches as many as it can would watch one more.
pub fn watch(id: &str, uri: &str, digest: Value) -> Result<bool> {
    change_subscriptions(id, |watched| {
        let has_room = watched.len() < SUBSCRIPTIONS_MAX || watched.contains_key(uri);
        if has_room {
            watched.insert(uri.to_string(), digest);
        }
        has_room
    })
}

/// Notes that a resource is watched no more.
pub fn unwatch(id: &str, uri: &str) -> Result<()> {
    change_subscriptions(id, |watched| watched.remove(uri).is_some()).map(|_| ())
}

/// Notes what was read at resources, as far as they are still watched.
pub fn note_digests(id: &str, digests: &Map<String, Value>) -> Result<()> {
    change_subscriptions(id, |watched| renew(watched, digests)).map(|_| ())
}

/// Puts newer digests in the place of older ones; false when there are none.
fn renew(watched: &mut Map<String, Value>, digests: &Map<String, Value>) -> bool {
    let mut is_changed = false;
    for (uri, last) in watched.iter_mut() {
        if let Some(digest) = digests.get(uri).filter(|digest| *digest != last) {
            last.clone_from(digest);
            is_changed = true;
        }
    }
    is_changed
}

/// Notes a request of ours before it is made: only what was asked is answered.
pub fn ask(session_id: &Id, request_key: &str) -> Result<()> {
    let sql = "INSERT INTO mcp_session_replies (id, organization_id, created_at, updated_at, version, session_id, request_key, reply) \
               VALUES ($1, $2, $3, $3, $4, $5, $6, $7)";
    let organization_id = auth::organization_id()?;
    let values = params![Id::new(), organization_id, clock::now(), ASKED, session_id, request_key, json!({})];
    database::execute(sql, values)?;
    Ok(())
}

/// Keeps what a client answers to a request of ours. The first answer counts.
pub fn keep_reply(session_id: &Id, request_key: &str, reply: &Value) -> Result<()> {
    let reply = if reply.to_string().len() > REPLY_BYTES_MAX {
        json!({ "error": { "code": code::INVALID_REQUEST, "message": "The answer is too large." } })
    } else {
        reply.clone()
    };
    let sql = "UPDATE mcp_session_replies SET reply = $3, version = $4, updated_at = $5 \
               WHERE session_id = $1 AND request_key = $2 AND version = $6";
    database::execute(sql, params![session_id, request_key, reply, ANSWERED, clock::now(), ASKED])?;
    Ok(())
}

/// What a client answered to a request of ours, where it has.
pub fn reply(session_id: &Id, request_key: &str) -> Result<Option<Value>> {
    let sql = "SELECT reply FROM mcp_session_replies WHERE session_id = $1 AND request_key = $2 AND version = $3";
    let row = database::query_one(sql, params![session_id, request_key, ANSWERED])?;
    Ok(row.map(|row| row.json("reply")).transpose()?)
}

/// Ends the client's call of this id, if it is under way.
pub fn cancel(session_id: &Id, request_key: &str) -> Result<()> {
    let sql = "UPDATE mcp_session_calls SET status = $3 WHERE session_id = $1 AND request_key = $2 AND status = $4";
    database::execute(sql, params![session_id, request_key, CallStatus::Cancelled, CallStatus::Running])?;
    Ok(())
}

impl Call {
    /// Notes a call that is begun.
    pub fn begin(session_id: &Id, request_key: &str, request: Value, lease: Duration) -> Result<Stored<Self>> {
        let (session_id, request_key) = (session_id.clone(), request_key.to_string());
        let leased_until = clock::now().plus(lease);
        let call = Self { session_id, request_key, request, status: CallStatus::Running, leased_until };
        database::transaction(|transaction| entity::create(transaction, call))
    }

    /// A call of a session.
    pub fn find(session_id: &Id, id: &str) -> Result<Option<Stored<Self>>> {
        Ok(entity::find::<Self>(&Pool, id)?.filter(|call| call.session_id == *session_id))
    }

    /// Takes a call over whose lease is over; false when somebody else is at it.
    pub fn take_over(id: &Id, lease: Duration) -> Result<bool> {
        let now = clock::now();
        let sql = "UPDATE mcp_session_calls SET leased_until = $2 WHERE id = $1 AND status = $3 AND leased_until < $4";
        Ok(database::execute(sql, params![id, now.plus(lease), CallStatus::Running, now])? > 0)
    }

    /// Says that somebody is at it, for so long; false when it was cancelled.
    pub fn hold(id: &Id, lease: Duration) -> Result<bool> {
        let sql = "UPDATE mcp_session_calls SET leased_until = $2 WHERE id = $1 AND status = $3";
        Ok(database::execute(sql, params![id, clock::now().plus(lease), CallStatus::Running])? > 0)
    }

    /// Lets somebody else go on.
    pub fn release(id: &Id) -> Result<()> {
        Self::hold(id, Duration::ZERO).map(|_| ())
    }

    /// Keeps a message of its stream before it is sent; the last one ends the call. False when the call was cancelled.
    pub fn say(call: &Stored<Self>, sequence: i64, message: &Value, is_last: bool) -> Result<bool> {
        database::transaction(|transaction| {
            if is_last {
                let sql = "UPDATE mcp_session_calls SET status = $2 WHERE id = $1 AND status = $3";
                let values = params![&call.id, CallStatus::Done, CallStatus::Running];
                if transaction.execute(sql, values)? == 0 {
                    return Ok(false);
                }
            }
            let sql = "INSERT INTO mcp_session_messages (id, organization_id, created_at, updated_at, version, session_id, stream_id, sequence, message) \
                       VALUES ($1, $2, $3, $3, 1, $4, $5, $6, $7) ON CONFLICT (stream_id, sequence) DO NOTHING";
            let values = params![
                Id::new(),
                &call.organization_id,
                clock::now(),
                &call.session_id,
                &call.id,
                sequence,
                message.clone()
            ];
            transaction.execute(sql, values)?;
            Ok(true)
        })
    }

    /// What was said on its stream after this number.
    pub fn said_after(id: &Id, sequence: i64) -> Result<Vec<(i64, Value)>> {
        let sql = "SELECT sequence, message FROM mcp_session_messages WHERE stream_id = $1 AND sequence > $2 ORDER BY sequence LIMIT 500";
        let rows = database::query(sql, params![id, sequence])?;
        rows.into_iter().map(|row| Ok((row.get("sequence")?, row.json("message")?))).collect()
    }
}

/// The clock's work: sessions that nobody uses any more go with everything of theirs, and of those that are used what nobody comes
/// back to.
pub fn sweep() -> Result<()> {
    let old = clock::now().minus(CALL_KEPT_FOR);
    let calls = "SELECT id FROM mcp_session_calls WHERE leased_until < $1 ORDER BY leased_until, id LIMIT $2";
    let replies = "SELECT id FROM mcp_session_replies WHERE updated_at < $1 ORDER BY updated_at, id LIMIT $2";
    database::transaction(|transaction| {
        for sql in [
            format!("DELETE FROM mcp_session_messages WHERE stream_id IN ({calls})"),
            format!("DELETE FROM mcp_session_calls WHERE id IN ({calls})"),
            format!("DELETE FROM mcp_session_replies WHERE id IN ({replies})"),
        ] {
            transaction.execute(&sql, params![old, CALLS_SWEEP_MAX])?;
        }
        Ok::<_, Problem>(())
    })?;
    let sql = "SELECT id FROM mcp_sessions WHERE last_seen_at < $1 ORDER BY last_seen_at LIMIT $2";
    for row in database::query(sql, params![clock::now().minus(IDLE_MAX), SWEEP_MAX])? {
        end(&row.get::<String>("id")?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_noted_of_what_is_still_watched() {
        let map = |value: Value| value.as_object().cloned().unwrap();
        let mut watched = map(json!({"a://1": "old", "a://2": "same"}));
        assert!(renew(&mut watched, &map(json!({"a://1": "new", "a://2": "same", "a://gone": "x"}))));
        assert_eq!(watched, map(json!({"a://1": "new", "a://2": "same"})));
        assert!(!renew(&mut watched, &map(json!({"a://gone": "y"}))));
    }
}
