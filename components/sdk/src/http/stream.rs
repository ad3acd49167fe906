//! Answers that come piece by piece: server-sent events and chunks of bytes. A closure is asked for the next piece; the
//! SDK waits, writes, keeps the connection alive, and stops when the client is gone.

use std::{collections::VecDeque, fmt, time::Duration};

use serde::Serialize;

use super::{Answer, Body, Response};
use crate::{problem::Result, router::Route};

/// How long a stream stays silent before a comment keeps it open.
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "only the host's side needs it"))]
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The longest single wait; longer ones are cut, so that a client that left is noticed.
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "only the host's side needs it"))]
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(15);
/// How long a stream lasts when nothing else is said; an event stream's client comes back by itself.
const LASTING: Duration = Duration::from_secs(60 * 60);

/// How many looks may fail in a row before a stream ends.
const LOOK_FAILURES_MAX: u32 = 20;

/// What a stream does next.
///
/// ```
/// use berth_sdk::http::{Event, Next};
/// let next = Next::Item(Event::new("tick").id(1).data("1"));
/// assert!(matches!(next, Next::Item(_)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// Sends this at once and asks again.
    Item(T),
    /// Asks again after this long.
    Wait(Duration),
    /// Ends.
    End,
}

/// A piece of a streamed body.
pub type Chunk = Next<Vec<u8>>;

/// A body that comes piece by piece.
///
/// ```
/// use berth_sdk::http::{Next, Stream};
/// let mut left = 3;
/// let stream = Stream::new("text/plain", move || {
///     left -= 1;
///     if left >= 0 { Next::Item(b"x".to_vec()) } else { Next::End }
/// });
/// # let _ = stream;
/// ```
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "only the host's side reads it"))]
pub struct Stream {
    pub(crate) media_type: String,
    pub(crate) next: Box<dyn FnMut() -> Chunk>,
    pub(crate) keep_alive: Option<&'static [u8]>,
    pub(crate) lasting: Duration,
}

impl fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Stream").field("media_type", &self.media_type).finish_non_exhaustive()
    }
}

impl Stream {
    /// A stream of a media type.
    pub fn new(media_type: &str, next: impl FnMut() -> Chunk + 'static) -> Self {
        Self { media_type: media_type.to_string(), next: Box::new(next), keep_alive: None, lasting: LASTING }
    }

    /// Ends after this long at the latest.
    #[must_use]
    pub fn lasting(mut self, lasting: Duration) -> Self {
        self.lasting = lasting;
        self
    }

    /// Asks for the next piece; for tests.
    pub fn pull(&mut self) -> Chunk {
        (self.next)()
    }
}

impl Answer for Stream {
    fn into_response(self) -> Result<Response> {
        let headers = vec![
            ("content-type".into(), self.media_type.clone()),
            ("cache-control".into(), "no-cache".into()),
            ("x-accel-buffering".into(), "no".into()),
        ];
        Ok(Response { status: 200, headers, body: Body::Stream(self) })
    }
    fn describe(route: &mut Route) {
        route.is_streaming = true;
        route.answer(200, None, Some("application/octet-stream"));
    }
}

/// One server-sent event.
///
/// ```
/// use berth_sdk::http::Event;
/// let event = Event::new("execution.started").id(7).data("{}");
/// assert_eq!(String::from_utf8(event.to_bytes()).unwrap(), "id: 7\nevent: execution.started\ndata: {}\n\n");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    name: String,
    id: Option<String>,
    data: String,
}

impl Event {
    /// An event of a type; an empty name is the client's `message`.
    pub fn new(name: &str) -> Self {
        Self { name: one_line(name), ..Self::default() }
    }

    /// Its id, which the client sends back as `Last-Event-ID`.
    #[must_use]
    pub fn id(mut self, id: impl fmt::Display) -> Self {
        self.id = Some(one_line(&id.to_string()));
        self
    }

    /// Its content, of any number of lines.
    #[must_use]
    pub fn data(mut self, data: impl Into<String>) -> Self {
        self.data = data.into();
        self
    }

    /// Its content as JSON.
    #[must_use]
    pub fn json(self, value: &impl Serialize) -> Self {
        let text = serde_json::to_string(value).unwrap_or_default();
        self.data(text)
    }

    /// As it goes over the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = String::with_capacity(self.data.len() + 64);
        if let Some(id) = &self.id {
            text.push_str(&format!("id: {id}\n"));
        }
        if !self.name.is_empty() {
            text.push_str(&format!("event: {}\n", self.name));
        }
        for line in self.data.replace("\r\n", "\n").split(['\n', '\r']) {
            text.push_str(&format!("data: {line}\n"));
        }
        text.push('\n');
        text.into_bytes()
    }
}

/// Server-sent events. The closure is asked for the next one; `Next::Wait` polls again later.
///
/// ```
/// use std::time::Duration;
/// use berth_sdk::http::{Event, Next, Sse};
/// fn ticks() -> Sse {
///     let mut count = 0;
///     let mut due = false;
///     Sse::new(move || {
///         due = !due;
///         if !due { return Next::Wait(Duration::from_secs(1)) }
///         count += 1;
///         if count > 5 { Next::End } else { Next::Item(Event::new("tick").id(count).data("now")) }
///     })
/// }
/// # let _ = ticks();
/// ```
#[derive(Debug)]
pub struct Sse(Stream);

/// What one look for news found, for [`Sse::follow`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// What is new.
    pub events: Vec<Event>,
    /// Whether nothing comes after it.
    pub ends: bool,
}

impl Sse {
    /// Events from a closure.
    pub fn new(mut next: impl FnMut() -> Next<Event> + 'static) -> Self {
        let mut stream = Stream::new("text/event-stream", move || match next() {
            Next::Item(event) => Next::Item(event.to_bytes()),
            Next::Wait(duration) => Next::Wait(duration),
            Next::End => Next::End,
        });
        stream.keep_alive = Some(b": keep-alive\n\n");
        Self(stream)
    }

    /// What is `ready`, and then what is found by looking again and again, with a pause of this length while there is nothing.
    /// It ends when a look says so, and when more than 20 fail in a row: the client comes back.
    ///
    /// ```
    /// use std::time::Duration;
    /// use berth_sdk::http::{Chunk, Event, Look, Sse};
    /// let mut news = vec!["b", "a"];
    /// let mut stream = Sse::follow(vec![Event::new("hello")], Duration::from_secs(1), move || {
    ///     let events = news.pop().map(|name| Event::new(name)).into_iter().collect();
    ///     Ok(Look { events, ends: news.is_empty() })
    /// });
    /// let pieces = (0..3).filter(|_| matches!(stream.pull(), Chunk::Item(_))).count();
    /// assert_eq!((pieces, stream.pull()), (3, Chunk::End));
    /// ```
    pub fn follow(ready: Vec<Event>, pause: Duration, mut look: impl FnMut() -> Result<Look> + 'static) -> Self {
        let mut ready = VecDeque::from(ready);
        let (mut failures, mut is_over) = (0, false);
        Self::new(move || {
            if ready.is_empty() && !is_over {
                match look() {
                    Ok(Look { events, ends }) => {
                        failures = 0;
                        is_over = ends;
                        ready.extend(events);
                    }
                    Err(_) if failures >= LOOK_FAILURES_MAX => return Next::End,
                    Err(_) => failures += 1,
                }
            }
            match ready.pop_front() {
                Some(event) => Next::Item(event),
                None if is_over => Next::End,
                None => Next::Wait(pause),
            }
        })
    }

    /// Ends after this long at the latest; the client comes back with `Last-Event-ID`.
    #[must_use]
    pub fn lasting(self, lasting: Duration) -> Self {
        Self(self.0.lasting(lasting))
    }

    /// Asks for the next piece; for tests.
    pub fn pull(&mut self) -> Chunk {
        self.0.pull()
    }
}

impl Answer for Sse {
    fn into_response(self) -> Result<Response> {
        self.0.into_response()
    }
    fn describe(route: &mut Route) {
        route.is_streaming = true;
        route.answer(200, None, Some("text/event-stream"));
    }
}

fn one_line(text: &str) -> String {
    text.chars().filter(|letter| !matches!(letter, '\n' | '\r' | '\0')).collect()
}

#[cfg(test)]
mod tests {
    use super::Event;

    #[test]
    fn an_event_cannot_smuggle_another_one() {
        let event = Event::new("a\nevent: b").id("1\n2").data("x\n\nevent: c\rid: 9");
        let text = String::from_utf8(event.to_bytes()).unwrap();
        assert_eq!(text, "id: 12\nevent: aevent: b\ndata: x\ndata: \ndata: event: c\ndata: id: 9\n\n");
    }
}
