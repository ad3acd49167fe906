//! The inbox as server-sent events: what has come since `Last-Event-ID`, then what comes.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use berth_sdk::{
    cache,
    http::{Event, Next},
    prelude::*,
};

use super::Notification;

/// How often it looks for something new.
const LOOK: Duration = Duration::from_millis(500);
/// How much it reads at once.
const READ_MAX: i64 = 100;
/// How many looks may fail in a row before the stream ends; the client comes back.
const FAILURES_MAX: u32 = 20;
/// How far it looks back: a row's time is taken before its transaction ends, so rows do not appear in the order of it.
const OVERLAP: Duration = Duration::from_secs(10);
/// Rows of the overlap that were sent already and are known.
const KNOWN_MAX: usize = 2_000;
/// How long somebody counts as present after the stream was last seen open, and how often that is renewed.
const PRESENT_FOR: Duration = Duration::from_secs(60);
const RENEWED_AFTER: Duration = Duration::from_secs(20);

/// Who is at the inbox just now.
pub fn presence_key(user_id: &str) -> String {
    format!("presence:{user_id}")
}

/// Whether the user has a stream open.
pub fn is_online(user_id: &str) -> bool {
    cache::get::<bool>(&presence_key(user_id)).is_some()
}

/// What has been sent, and where to go on.
struct Cursor {
    user_id: Id,
    /// Everything up to here minus the overlap has been sent.
    since: Timestamp,
    known: VecDeque<Id>,
    renewed: Option<Instant>,
}

/// `GET /api/notifications/stream`.
pub fn stream(request: Request) -> Result<Sse> {
    let user_id = auth::user_id()?;
    // The id of an event is `<time in milliseconds>-<notification>`.
    let last = request.header("last-event-id").and_then(|id| id.split_once('-'));
    let last = last.and_then(|(millis, id)| Some((millis.parse::<i64>().ok()?, Id::parse(id).ok()?)));
    let mut cursor = match last {
        Some((millis, _)) => {
            Cursor { user_id, since: Timestamp::from_millis(millis), known: VecDeque::new(), renewed: None }
        }
        None => Cursor { user_id, since: clock::now(), known: VecDeque::new(), renewed: None },
    };
    // What came before the beginning has been seen: by the list, or by the stream that broke off.
    for row in cursor.read(None)? {
        let seen = match &last {
            Some((millis, id)) => row.inbox_at.is_some_and(|at| at.millis() < *millis) || row.id == *id,
            None => true,
        };
        if seen {
            cursor.note(row.id);
        }
    }
    let mut ready: VecDeque<Stored<Notification>> = VecDeque::new();
    let mut failures = 0;
    Ok(Sse::new(move || {
        cursor.renew();
        if ready.is_empty() {
            match cursor.read(Some(&cursor.known)) {
                Ok(rows) => {
                    failures = 0;
                    ready.extend(rows);
                }
                Err(_) if failures >= FAILURES_MAX => return Next::End,
                Err(_) => failures += 1,
            }
        }
        match ready.pop_front() {
            Some(row) => {
                let at = row.inbox_at.unwrap_or(row.created_at);
                cursor.since = cursor.since.max(at);
                cursor.note(row.id.clone());
                Next::Item(Event::new("notification").id(format!("{}-{}", at.millis(), row.id)).json(&row))
            }
            None => Next::Wait(LOOK),
        }
    }))
}

impl Cursor {
    /// What stands in the inbox since the overlap, oldest first, without what is known.
    fn read(&self, known: Option<&VecDeque<Id>>) -> Result<Vec<Stored<Notification>>> {
        let rows = Select::<Notification>::new()
            .equal("user_id", &self.user_id)
            .equal("in_inbox", true)
            .condition("\"inbox_at\" >= ?", [self.since.minus(OVERLAP)])
            .sort("inboxAt")
            .limit(READ_MAX + i64::try_from(self.known.len()).unwrap_or(0))
            .all(&Pool)?;
        Ok(rows.into_iter().filter(|row| known.is_none_or(|known| !known.contains(&row.id))).collect())
    }

    fn note(&mut self, id: Id) {
        if self.known.len() >= KNOWN_MAX {
            self.known.pop_front();
        }
        self.known.push_back(id);
    }

    fn renew(&mut self) {
        if self.renewed.is_none_or(|at| at.elapsed() >= RENEWED_AFTER) {
            cache::set_ttl(&presence_key(&self.user_id), &true, PRESENT_FOR);
            self.renewed = Some(Instant::now());
        }
    }
}
