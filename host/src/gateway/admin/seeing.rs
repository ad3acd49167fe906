//! What an operator sees of a running host: how builds fare, what they log, what the host did, and what each may do.
//!
//! Nothing here changes anything.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use http::header::ACCEPT;
use http::request::Parts;
use http::{Method, Response};
use serde_json::{Value, json};

use super::super::exchange::Exchange;
use super::super::health::{self, VERSION};
use super::super::metrics::resident_bytes;
use super::super::respond::ResponseBody;
use super::super::upstream::Upstream;
use super::super::{Gateway, GatewayError, method_not_allowed};
use super::events::{frame, notice};
use super::{is_set, items, ok, plugin, query};
use crate::capability::logging::{Follow, Followed, HOST_LOG, Level, LogLine};
use crate::capability::queue::{EVENTS_TOLD_MAX, HostEvent, QueueRoom, QueueStats};
use crate::engine::process_time;

/// Lines and events that are told where nothing is said, and at most.
const TOLD: usize = 100;
const TOLD_MAX: usize = 1_000;
/// How long the queue may take to say what lies in it; without, the rest is told all the same.
const QUEUE_TIME_MAX: Duration = Duration::from_secs(2);
/// How often a follower's events are looked for: they may come from another host.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Events so far behind the newest that was sent are looked at again: hosts number theirs before they commit them.
const LATE_MAX: i64 = 64;

const LAST_EVENT_ID: &str = "last-event-id";

impl<U: Upstream> Gateway<U> {
    /// `/status`, `/grants`, `/events`, `/plugins/{name}/logs` and `/plugins/{name}/grants`.
    pub(super) async fn see(
        &self,
        exchange: &Exchange,
        segments: &[&str],
        method: &Method,
        parts: &Parts,
    ) -> Result<Response<ResponseBody>, GatewayError> {
        if *method != Method::GET {
            return Err(method_not_allowed("GET, HEAD"));
        }
        match segments {
            ["status"] => self.status(parts).await,
            ["grants"] => Ok(ok(&items(self.administration()?.grants()))),
            ["events"] => self.events(exchange, parts).await,
            ["plugins", name, "grants"] => self.grants_of(plugin(name)?),
            ["plugins", name, "logs"] => self.logs(exchange, plugin(name)?, parts),
            _ => Err(GatewayError::RouteNotFound),
        }
    }

    /// How the host and every build fare; with `?plugin=` those of one plugin.
    async fn status(&self, parts: &Parts) -> Result<Response<ResponseBody>, GatewayError> {
        let mut builds = match self.administration()?.status() {
            Value::Array(builds) => builds,
            _ => Vec::new(),
        };
        if let Some(name) = query(parts, "plugin") {
            self.known(plugin(name)?)?;
            builds.retain(|build| build.get("plugin").and_then(Value::as_str) == Some(name));
        }
        let queues = tokio::time::timeout(QUEUE_TIME_MAX, self.queue.stats()).await;
        let queues = queues.ok().and_then(Result::ok).unwrap_or_default();
        let mut last: Option<String> = None;
        for build in &mut builds {
            let name = build.get("plugin").and_then(Value::as_str).map(str::to_owned);
            // A queue is the plugin's, and stands with the first of its builds.
            let queue = queues.iter().find(|queue| Some(&queue.plugin) == name.as_ref() && name != last);
            if let Some(members) = build.as_object_mut() {
                members.insert("queue".to_owned(), queue.map_or(Value::Null, |queue| self.queue_status(queue)));
            }
            last = name;
        }
        let mut body = items(Value::Array(builds));
        if let Some(members) = body.as_object_mut() {
            members.insert("host".to_owned(), self.host_status());
        }
        Ok(ok(&body))
    }

    fn host_status(&self) -> Value {
        json!({
            "version": VERSION,
            "uptimeSeconds": health::uptime().as_secs(),
            "inFlight": self.load.in_flight(),
            "turnedAway": self.load.turned_away(),
            "rateLimited": self.throttle.refused(),
            "cpuSeconds": process_time().as_secs_f64(),
            "residentBytes": resident_bytes().map(|bytes| bytes as u64),
        })
    }

    fn queue_status(&self, queue: &QueueStats) -> Value {
        let lag = queue.oldest_at.map(|oldest| (self.queue.now() - oldest).num_milliseconds().max(0));
        json!({
            "depth": queue.depth,
            "inFlight": queue.in_flight,
            "deadLetters": queue.dead_letters,
            // How long the oldest message has been waiting.
            "lagMs": lag,
        })
    }

    fn grants_of(&self, name: &str) -> Result<Response<ResponseBody>, GatewayError> {
        let grants = self.administration()?.grants();
        let is_own = |grants: &&Value| grants.get("plugin").and_then(Value::as_str) == Some(name);
        let own = grants.as_array().and_then(|all| all.iter().find(is_own));
        own.map(ok).ok_or(GatewayError::NotFound("plugin"))
    }

    /// The last lines of a plugin (of the host itself: `host`), as a list or, for who asks for events, as a stream.
    fn logs(&self, exchange: &Exchange, name: &str, parts: &Parts) -> Result<Response<ResponseBody>, GatewayError> {
        if name != HOST_LOG {
            self.known(name)?;
        }
        let limit = limit(parts)?;
        let level = match query(parts, "level") {
            None => Level::Debug,
            Some(text) => {
                Level::parse(text).ok_or(GatewayError::Malformed("`level` must be debug, info, warn or error"))?
            }
        };
        let (after, is_stream) = (place(parts)?, wants_stream(parts)?);
        let mut follow = self.logs.follow(name, after);
        follow.kept.retain(|line| line.level >= level);
        // Who comes anew wants the newest; who comes back, everything since then.
        match (after, is_stream) {
            (None, _) => drop(follow.kept.drain(..follow.kept.len().saturating_sub(limit))),
            (Some(_), false) => follow.kept.truncate(limit),
            (Some(_), true) => {}
        }
        if is_stream {
            return self.streams.open(log_frames(follow, level), &exchange.request_id);
        }
        let lines: Vec<&LogLine> = follow.kept.iter().map(|line| &**line).collect();
        Ok(ok(&items(json!(lines))))
    }

    /// What the host has told of itself, as a list or a stream.
    async fn events(&self, exchange: &Exchange, parts: &Parts) -> Result<Response<ResponseBody>, GatewayError> {
        let limit = limit(parts)?;
        let after = place(parts)?.map(|place| i64::try_from(place).unwrap_or(i64::MAX));
        let about = query(parts, "plugin").map(|name| plugin(name).map(str::to_owned)).transpose()?;
        let is_stream = wants_stream(parts)?;
        // Chosen here out of the newest: there are few.
        let mut events = self.queue.host_events(after, EVENTS_TOLD_MAX).await?;
        let newest = events.last().map(|event| event.id).or(after);
        events.retain(|event| is_about(event, about.as_deref()));
        match (after, is_stream) {
            (None, _) => drop(events.drain(..events.len().saturating_sub(limit))),
            (Some(_), false) => events.truncate(limit),
            (Some(_), true) => {}
        }
        if is_stream {
            let tail = EventTail {
                queue: self.queue.clone(),
                about,
                pending: events.into(),
                newest: newest.unwrap_or(0),
                sent: VecDeque::new(),
            };
            return self.streams.open(tail.frames(), &exchange.request_id);
        }
        Ok(ok(&items(json!(events))))
    }

    fn known(&self, name: &str) -> Result<(), GatewayError> {
        self.registry.slot(name).map(drop).ok_or(GatewayError::NotFound("plugin"))
    }
}

/// Lines as they come; of who is too slow or was away too long, how many are gone.
fn log_frames(follow: Follow, level: Level) -> impl Stream<Item = Bytes> + Send {
    let mut begin: VecDeque<Bytes> = follow.kept.iter().map(|line| frame("log", line.id, &**line)).collect();
    if follow.has_gap {
        begin.push_front(notice("missed", &json!({ "lines": null })));
    }
    stream::unfold((follow, begin), move |(mut follow, mut begin)| async move {
        if let Some(frame) = begin.pop_front() {
            return Some((frame, (follow, begin)));
        }
        loop {
            let frame = match follow.next().await? {
                Followed::Line(line) if line.level < level => continue,
                Followed::Line(line) => frame("log", line.id, &*line),
                Followed::Missed(lines) => notice("missed", &json!({ "lines": lines })),
            };
            return Some((frame, (follow, begin)));
        }
    })
}

/// A follower of the host's events.
struct EventTail {
    queue: QueueRoom,
    about: Option<String>,
    pending: VecDeque<HostEvent>,
    /// The newest id that was seen.
    newest: i64,
    /// Ids behind it that were seen, newest last.
    sent: VecDeque<i64>,
}

impl EventTail {
    fn frames(self) -> impl Stream<Item = Bytes> + Send {
        let begun_at = self.newest;
        stream::unfold(self, move |mut tail| async move {
            loop {
                if let Some(event) = tail.pending.pop_front() {
                    let frame = frame("event", event.id, &event);
                    return Some((frame, tail));
                }
                tokio::time::sleep(LOOK_EVERY).await;
                // What cannot be read now is read at the next look.
                let after = (tail.newest - LATE_MAX).max(begun_at);
                match tail.queue.host_events(Some(after), EVENTS_TOLD_MAX).await {
                    Ok(events) => tail.take(events),
                    Err(error) => tracing::debug!(target: "gateway", %error, "the host's events cannot be read"),
                }
            }
        })
    }

    fn take(&mut self, events: Vec<HostEvent>) {
        for event in events {
            if self.sent.contains(&event.id) {
                continue;
            }
            self.sent.push_back(event.id);
            self.newest = self.newest.max(event.id);
            if is_about(&event, self.about.as_deref()) {
                self.pending.push_back(event);
            }
        }
        let oldest = self.newest - LATE_MAX;
        self.sent.retain(|id| *id > oldest);
    }
}

fn is_about(event: &HostEvent, plugin: Option<&str>) -> bool {
    plugin.is_none_or(|name| event.data.get("plugin").and_then(Value::as_str) == Some(name))
}

/// Whether events are wanted as they come: by the `Accept` of a browser's `EventSource`, or by `?follow`.
fn wants_stream(parts: &Parts) -> Result<bool, GatewayError> {
    let accepted = parts.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Ok(is_set(parts, "follow")? || accepted.contains("text/event-stream"))
}

/// The id behind which to begin: of the last event that was received, or `?after=`.
fn place(parts: &Parts) -> Result<Option<u64>, GatewayError> {
    let header = parts.headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok());
    match header.or_else(|| query(parts, "after")) {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(id) => Ok(Some(id)),
            Err(_) => Err(GatewayError::Malformed("`after` and Last-Event-ID are ids of lines or events")),
        },
    }
}

fn limit(parts: &Parts) -> Result<usize, GatewayError> {
    match query(parts, "limit") {
        None => Ok(TOLD),
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (0..=TOLD_MAX).contains(limit))
            .ok_or(GatewayError::Malformed("`limit` must be an integer from 0 to 1000")),
    }
}
