//! A route's answer that comes piece by piece: what it says on its way, and how it ends.
//!
//! Events named `progress`, `log`, `result` and `disconnect` are a native route's; of any other stream each event is a step of
//! progress, and all of their data together are the result.

use std::time::{Duration, Instant};

use berth_sdk::{
    http_out::{Incoming, Part, Reply},
    prelude::*,
    serde_json::{self, Value},
};

use crate::{
    endpoint::reply::{self, Turn},
    protocol::{events, severity},
};

/// How long one look waits.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long a stream may last.
const LASTING: Duration = Duration::from_secs(600);
/// Bytes of the gathered text.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Characters of a step's words.
const WORDS_MAX: usize = 300;

/// What a route says on its way.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// How far it is.
    Progress {
        /// How far.
        progress: Value,
        /// Of how much.
        total: Option<Value>,
        /// In words.
        message: Option<String>,
    },
    /// What happened.
    Log {
        /// How severe it is.
        level: String,
        /// Who says so.
        logger: Option<String>,
        /// What.
        data: Value,
    },
}

/// What a look found.
pub enum Progress {
    /// Nothing yet.
    Nothing,
    /// The route said something.
    Said(Vec<Note>),
    /// The route wants the client to come back later.
    Left,
    /// It is over, or somebody is asked.
    Turned(Turn),
}

/// A stream that is being read.
pub struct Streamed {
    incoming: Incoming,
    address: String,
    reader: Gathered,
    begun: Instant,
    is_events: bool,
    body: Vec<u8>,
}

/// What was gathered of a stream's events.
#[derive(Default)]
struct Gathered {
    reader: events::Reader,
    steps: u64,
    text: String,
    notes: Vec<Note>,
    end: Option<Ended>,
}

enum Ended {
    Left,
    Turned(Turn),
}

impl Streamed {
    /// Of an answer whose head is there.
    pub fn new(incoming: Incoming, address: String) -> Self {
        let kind = incoming.head.header("content-type").unwrap_or_default();
        let is_events = kind.starts_with("text/event-stream");
        Self { incoming, address, reader: Gathered::default(), begun: Instant::now(), is_events, body: Vec::new() }
    }

    /// Looks what has come.
    pub fn read(&mut self) -> Progress {
        if self.begun.elapsed() > LASTING {
            return Progress::Turned(Turn::Done(reply::failed("The route took too long.")));
        }
        if let Some(end) = self.reader.end.take() {
            return ended(end);
        }
        match self.incoming.read(PATIENCE) {
            Ok(Part::Waiting) => Progress::Nothing,
            Ok(Part::Chunk(bytes)) if self.is_events => {
                if self.reader.push(&bytes).is_err() {
                    return Progress::Turned(Turn::Done(reply::failed("The route sends an event without end.")));
                }
                let notes = std::mem::take(&mut self.reader.notes);
                match self.reader.end.take() {
                    Some(end) if notes.is_empty() => ended(end),
                    end => {
                        self.reader.end = end;
                        if notes.is_empty() { Progress::Nothing } else { Progress::Said(notes) }
                    }
                }
            }
            Ok(Part::Chunk(bytes)) => {
                self.body.extend_from_slice(&bytes);
                Progress::Nothing
            }
            Ok(Part::End) => self.over(),
            Err(_) => match self.reader.end.take() {
                Some(end) => ended(end),
                None => Progress::Turned(Turn::Done(reply::failed("The route broke off in the middle of its answer."))),
            },
        }
    }

    fn over(&mut self) -> Progress {
        if let Some(end) = self.reader.end.take() {
            return ended(end);
        }
        if !self.is_events {
            let head = self.incoming.head.clone();
            let reply = Reply { status: head.status, headers: head.headers, body: std::mem::take(&mut self.body) };
            return Progress::Turned(reply::of_tool(&reply, &self.address));
        }
        let text = std::mem::take(&mut self.reader.text);
        Progress::Turned(Turn::Done(json!({ "content": [reply::text(text)], "isError": false })))
    }
}

fn ended(end: Ended) -> Progress {
    match end {
        Ended::Left => Progress::Left,
        Ended::Turned(turn) => Progress::Turned(turn),
    }
}

impl Gathered {
    fn push(&mut self, bytes: &[u8]) -> Result<(), events::TooLarge> {
        for event in self.reader.push(bytes)? {
            if self.end.is_none() {
                self.heard(&event);
            }
        }
        Ok(())
    }

    fn heard(&mut self, event: &events::Event) {
        let value = || serde_json::from_str::<Value>(&event.data).unwrap_or_default();
        match event.name.as_str() {
            "result" => self.end = Some(Ended::Turned(reply::native(event.data.as_bytes()))),
            "disconnect" => self.end = Some(Ended::Left),
            "progress" => {
                let value = value();
                let number = |name: &str| value.get(name).filter(|value| value.is_number()).cloned();
                let message = value.get("message").and_then(Value::as_str).map(short);
                let progress = number("progress").unwrap_or_else(|| self.steps.into());
                self.notes.push(Note::Progress { progress, total: number("total"), message });
            }
            "log" => {
                let value = value();
                let text = |name: &str| value.get(name).and_then(Value::as_str).map(ToString::to_string);
                let level = text("level").filter(|level| severity(level).is_some()).unwrap_or_else(|| "info".into());
                let data = value.get("data").cloned().unwrap_or_default();
                self.notes.push(Note::Log { level, logger: text("logger"), data });
            }
            _ if event.data.is_empty() || event.data == "[DONE]" => {}
            _ => {
                self.steps += 1;
                let message = Some(short(&event.data));
                self.notes.push(Note::Progress { progress: self.steps.into(), total: None, message });
                if self.text.len() + event.data.len() < TEXT_BYTES_MAX {
                    self.text.push_str(&event.data);
                    self.text.push('\n');
                }
            }
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(WORDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_native_stream_tells_how_far_it_is_and_ends() {
        let mut gathered = Gathered::default();
        let text = "event: progress\ndata: {\"progress\":5,\"total\":10}\n\nevent: log\ndata: {\"level\":\"loud\",\"data\":\"x\"}\n\n\
            event: result\ndata: {\"content\":[]}\n\nevent: progress\ndata: {\"progress\":9}\n\n";
        assert!(gathered.push(text.as_bytes()).is_ok());
        assert_eq!(gathered.notes.len(), 2);
        assert!(matches!(&gathered.notes[1], Note::Log { level, .. } if level == "info"));
        assert!(matches!(gathered.end, Some(Ended::Turned(Turn::Done(_)))));
    }

    #[test]
    fn any_other_stream_is_gathered() {
        let mut gathered = Gathered::default();
        assert!(gathered.push(b"data: one\n\nevent: tick\ndata: two\n\ndata: [DONE]\n\n").is_ok());
        assert_eq!((gathered.text.as_str(), gathered.notes.len()), ("one\ntwo\n", 2));
    }
}
