//! The transport of 2024-11-05: a stream on which the answers come, and a place named on it where messages go. It is opened
//! for each question.

use std::time::{Duration, Instant};

use berth_sdk::{
    http_out::{Incoming, Part},
    prelude::*,
    serde_json::{self, Value},
};

use super::{
    Failure, Notice, Peer, Question, Watch,
    exchange::{is_stream, judge, parts, reply},
    failure, handshake,
};
use crate::protocol::{OLDEST, events, message};

/// How long one look at the stream waits.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long a message may take.
const TELL_TIMEOUT: Duration = Duration::from_secs(10);

struct Channel<'a, 'b> {
    peer: &'b Peer<'a>,
    incoming: Incoming,
    reader: events::Reader,
    waiting: std::collections::VecDeque<events::Event>,
    deadline: Instant,
    target: String,
}

/// Opens the stream, begins, asks, and leaves.
pub fn put(peer: &Peer<'_>, question: &Question, timeout: Duration, watch: &mut Watch<'_>) -> Result<Value, Failure> {
    let call = peer.call("GET", None)?.header("accept", "text/event-stream").timeout(timeout);
    let incoming = call.open().map_err(|fault| Failure::of_fault(&fault))?;
    judge(&incoming.head, None)?;
    if !is_stream(&incoming.head) || incoming.head.status != 200 {
        return Err(Failure::Protocol("The server opens no stream.".into()));
    }
    let mut channel = Channel {
        peer,
        incoming,
        reader: events::Reader::default(),
        waiting: std::collections::VecDeque::new(),
        deadline: Instant::now() + timeout,
        target: String::new(),
    };
    channel.target = channel.place(watch)?;
    let begin = Question::new("initialize", handshake::initialization(OLDEST));
    let agreed = channel.ask(&begin, watch)?;
    handshake::agreed(&agreed, None)?;
    channel.tell(&message::notification("notifications/initialized", &json!({})))?;
    channel.ask(question, watch)
}

impl Channel<'_, '_> {
    /// The place for messages: the first event names it, and it is on the same host.
    fn place(&mut self, watch: &mut Watch<'_>) -> Result<String, Failure> {
        let event = self.next(watch)?;
        let outside = || Failure::Protocol("The server names no place of its own for messages.".into());
        if event.name != "endpoint" {
            return Err(outside());
        }
        let endpoint = self.peer.server.endpoint.clone().unwrap_or_default();
        let (base, _) = parts(&endpoint).ok_or_else(outside)?;
        let named = event.data.trim();
        if named.contains("://") {
            return if parts(named).is_some_and(|(other, _)| other == base) {
                Ok(named.into())
            } else {
                Err(outside())
            };
        }
        let is_path = named.starts_with('/') && !named.starts_with("//");
        if is_path && named.len() <= 2_000 { Ok(format!("{base}{named}")) } else { Err(outside()) }
    }

    fn next(&mut self, watch: &mut Watch<'_>) -> Result<events::Event, Failure> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(event);
            }
            let patience = PATIENCE.min(self.deadline.saturating_duration_since(Instant::now()));
            if patience.is_zero() {
                return Err(Failure::Timeout);
            }
            match self.incoming.read(patience).map_err(|fault| Failure::of_fault(&fault))? {
                Part::Chunk(bytes) => {
                    let too_large = |_| Failure::Protocol("The server sends an event without end.".into());
                    self.waiting.extend(self.reader.push(&bytes).map_err(too_large)?);
                }
                Part::Waiting if watch(Notice::Quiet) => {}
                Part::Waiting => return Err(Failure::Cancelled),
                Part::End => {
                    return Err(Failure::Transport("The server broke off in the middle of its answer.".into()));
                }
            }
        }
    }

    fn tell(&self, body: &Value) -> Result<(), Failure> {
        let call = self.peer.call("POST", Some(&self.target))?.json(body).timeout(TELL_TIMEOUT);
        let reply = call.send().map_err(|fault| Failure::of_fault(&fault))?;
        judge(&berth_sdk::http_out::Head { status: reply.status, headers: reply.headers.clone() }, None)?;
        let said = format!("The server answers with the status {}.", reply.status);
        if reply.is_success() { Ok(()) } else { Err(Failure::Transport(said)) }
    }

    fn ask(&mut self, question: &Question, watch: &mut Watch<'_>) -> Result<Value, Failure> {
        self.tell(&message::request(&question.id, &question.method, &Value::Object(question.params.clone())))?;
        loop {
            let event = self.next(watch)?;
            if event.data.is_empty() || !matches!(event.name.as_str(), "" | "message") {
                continue;
            }
            let said: Value = serde_json::from_str(&event.data)
                .map_err(|_| Failure::Protocol("The server sends something else than JSON.".into()))?;
            match (said.get("method").and_then(Value::as_str), said.get("id")) {
                (Some(method), Some(id)) => self.tell(&reply(method, id))?,
                (Some(_), None) if watch(Notice::Notification(&said)) => {}
                (Some(_), None) => return Err(Failure::Cancelled),
                (None, Some(id)) if *id == question.id => return failure::result(said),
                _ => {}
            }
        }
    }
}
