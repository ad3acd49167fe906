//! Streams on which a client hears that something has changed: what is offered, and resources that it watches.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use berth_sdk::{
    http::{Next, Stream},
    prelude::*,
    serde_json::{Map, Value},
};

use super::{
    http::{event, refused, stream_answer},
    offer::{self, Kind},
    resources,
    session::{self, Session},
};
use crate::{
    protocol::{
        message::{self, Request, RpcError},
        meta,
    },
    settings,
};

/// How often it is looked whether what is offered has changed.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often watched resources are read.
const READ_EVERY: Duration = Duration::from_secs(3);
/// How often a session is noted to be used.
const TOUCH_EVERY: Duration = Duration::from_secs(60);
/// How long a stream stays silent before a comment keeps it open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Resources that one stream watches.
const WATCHED_MAX: usize = 20;
/// When a client that was cut off shall come back.
const RETRY_MS: u64 = 1_000;

/// What is offered, with the notification that says that it has changed.
const LISTS: [(Kind, &str, &str); 3] = [
    (Kind::Tool, "notifications/tools/list_changed", "toolsListChanged"),
    (Kind::Prompt, "notifications/prompts/list_changed", "promptsListChanged"),
    (Kind::Resource, "notifications/resources/list_changed", "resourcesListChanged"),
];

struct Listener {
    /// Which lists are listened to, and how they were last.
    lists: Vec<(Kind, &'static str, String)>,
    /// Which resources are watched, and what was read there last.
    watched: Map<String, Value>,
    /// Of the modern era: the request that opened the stream.
    subscription: Option<Value>,
    session_id: Option<Id>,
    ready: VecDeque<Vec<u8>>,
    sent: Instant,
    read: Instant,
    touched: Instant,
}

impl Listener {
    fn next(&mut self) -> Next<Vec<u8>> {
        if self.ready.is_empty() {
            match self.look() {
                Ok(true) => {}
                Ok(false) => return Next::End,
                Err(problem) => logging::warn!("a look for changes failed", problem = problem),
            }
        }
        if let Some(bytes) = self.ready.pop_front() {
            self.sent = Instant::now();
            return Next::Item(bytes);
        }
        if self.sent.elapsed() >= KEEP_ALIVE {
            self.sent = Instant::now();
            return Next::Item(b": keep-alive\n\n".to_vec());
        }
        Next::Wait(LOOK_EVERY)
    }

    /// Looks for changes; false when the session is over, or the organization has turned the endpoint off.
    fn look(&mut self) -> Result<bool> {
        let mut changed = Vec::new();
        for (kind, notification, last) in &mut self.lists {
            let present = offer::generation(*kind)?;
            if present != *last {
                *last = present;
                changed.push(*notification);
            }
        }
        for notification in changed {
            self.say(notification, Map::new());
        }
        if self.read.elapsed() >= READ_EVERY {
            self.read = Instant::now();
            if !self.read_watched()? {
                return Ok(false);
            }
        }
        if let Some(session_id) = self.session_id.as_ref().filter(|_| self.touched.elapsed() >= TOUCH_EVERY) {
            self.touched = Instant::now();
            session::touch(session_id)?;
        }
        Ok(true)
    }

    fn read_watched(&mut self) -> Result<bool> {
        if !settings::of(&Pool)?.mcp_enabled {
            return Ok(false);
        }
        if let Some(session_id) = &self.session_id {
            // Meanwhile the client may watch others, or have ended the session.
            let Some(session) = session::find(session_id)? else { return Ok(false) };
            let present = session.subscriptions.as_object().cloned().unwrap_or_default();
            self.watched = present;
        }
        let mut updated = Map::new();
        for (uri, last) in &mut self.watched {
            let present = json!(resources::digest(uri)?);
            if present != *last {
                last.clone_from(&present);
                updated.insert(uri.clone(), present);
            }
        }
        if let Some(session_id) = self.session_id.as_ref().filter(|_| !updated.is_empty()) {
            session::note_digests(session_id, &updated)?;
        }
        for (uri, _) in updated {
            let mut params = Map::new();
            params.insert("uri".into(), uri.into());
            self.say("notifications/resources/updated", params);
        }
        Ok(true)
    }

    fn say(&mut self, method: &str, mut params: Map<String, Value>) {
        if let Some(id) = &self.subscription {
            let mut described = Map::new();
            described.insert(meta::SUBSCRIPTION.into(), id.clone());
            params.insert("_meta".into(), Value::Object(described));
        }
        let message = message::notification(method, &Value::Object(params));
        let id = self.place();
        self.ready.push_back(event(id.as_deref(), None, &message.to_string()));
    }

    /// Where the stream is: who comes back with it is told what has changed since.
    fn place(&self) -> Option<String> {
        self.session_id.as_ref()?;
        let of: Vec<&str> = self.lists.iter().map(|(_, _, last)| last.as_str()).collect();
        Some(format!("at.{}", of.join(".")))
    }

    fn response(mut self) -> Response {
        stream_answer(Stream::new("text/event-stream", move || self.next()))
    }
}

/// A session's own stream.
pub fn legacy(session: &Stored<Session>, last_id: &str) -> Result<Response> {
    let before: Vec<&str> = last_id.strip_prefix("at.").map(|rest| rest.split('.').collect()).unwrap_or_default();
    let mut lists = Vec::new();
    for (index, (kind, notification, _)) in LISTS.into_iter().enumerate() {
        let last = match before.get(index).filter(|_| before.len() == LISTS.len()) {
            Some(last) => (*last).to_string(),
            None => offer::generation(kind)?,
        };
        lists.push((kind, notification, last));
    }
    let now = Instant::now();
    let mut listener = Listener {
        lists,
        watched: Map::new(),
        subscription: None,
        session_id: Some(session.id.clone()),
        ready: VecDeque::new(),
        sent: now,
        read: now,
        touched: now,
    };
    let place = listener.place();
    listener.ready.push_back(event(place.as_deref(), Some(RETRY_MS), ""));
    Ok(listener.response())
}

/// `subscriptions/listen`.
pub fn modern(request: &Request) -> Result<Response> {
    let Some(wanted) = request.params.get("notifications").and_then(Value::as_object) else {
        return Ok(refused(200, Some(&request.id), &RpcError::params("`notifications` must be an object.")));
    };
    let mut lists = Vec::new();
    let mut honoured = Map::new();
    for (kind, notification, name) in LISTS {
        if wanted.get(name) == Some(&Value::Bool(true)) {
            lists.push((kind, notification, offer::generation(kind)?));
            honoured.insert(name.into(), true.into());
        }
    }
    let mut watched = Map::new();
    let uris = wanted.get("resourceSubscriptions").and_then(Value::as_array);
    for uri in uris.into_iter().flatten().filter_map(Value::as_str).take(WATCHED_MAX) {
        if let Some(digest) = resources::digest(uri)? {
            watched.insert(uri.to_string(), digest.into());
        }
    }
    if uris.is_some() {
        honoured.insert("resourceSubscriptions".into(), watched.keys().cloned().collect::<Vec<_>>().into());
    }
    let now = Instant::now();
    let mut listener = Listener {
        lists,
        watched,
        subscription: Some(request.id.clone()),
        session_id: None,
        ready: VecDeque::new(),
        sent: now,
        read: now,
        touched: now,
    };
    let mut params = Map::new();
    params.insert("notifications".into(), Value::Object(honoured));
    listener.say("notifications/subscriptions/acknowledged", params);
    Ok(listener.response())
}
