//! Events for everybody, messages for oneself, and handling both.
//!
//! Delivery is at least once. A handler that changes state dedupes with [`crate::database::Transaction::once`], in the
//! transaction of its effect. Inside a transaction publish with its methods: the free functions here leave at once.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    id::Id,
    platform,
    problem::{Problem, Result},
};

/// The largest payload, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;

/// An event or a private message on its way out.
///
/// ```
/// use berth_sdk::{events::Message, json};
/// let message = Message::new("task.created", &json!({"taskId": "t1"})).unwrap().with_key("t1");
/// assert_eq!(message.data, r#"{"taskId":"t1"}"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Lower-case dotted type.
    pub kind: String,
    /// A JSON object as text.
    pub data: String,
    /// Messages with one key keep their order.
    pub key: Option<String>,
    /// Only for calls without an organization, such as timers.
    pub organization_id: Option<String>,
    /// Deduplicates a repeated publish; made by the host when absent.
    pub id: Option<String>,
    /// Held back that long, in milliseconds.
    pub delay_ms: u64,
}

impl Message {
    /// A message of a type; 413 when the payload is larger than [`PAYLOAD_BYTES_MAX`].
    pub fn new(kind: &str, data: &impl Serialize) -> Result<Self> {
        let data = serde_json::to_string(data).map_err(|error| {
            crate::logging::error!("a message cannot be written as JSON", error = error);
            Problem::internal()
        })?;
        if data.len() > PAYLOAD_BYTES_MAX {
            return Err(Problem::too_large(format!("A message carries at most {PAYLOAD_BYTES_MAX} bytes.")));
        }
        Ok(Self { kind: kind.to_string(), data, key: None, organization_id: None, id: None, delay_ms: 0 })
    }

    /// Keeps its order among messages of the same key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Concerns this organization; only where the call has none.
    #[must_use]
    pub fn for_organization(mut self, organization_id: impl Into<String>) -> Self {
        self.organization_id = Some(organization_id.into());
        self
    }

    /// Carries this id, so that publishing it twice is publishing it once.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Held back for a while.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self
    }
}

/// Publishes an event at once, outside a transaction.
///
/// ```
/// use berth_sdk::{events, json, testing};
/// events::publish("task.due_soon", &json!({"taskId": "t1"})).unwrap();
/// assert_eq!(testing::published()[0].kind, "task.due_soon");
/// ```
pub fn publish(kind: &str, data: &impl Serialize) -> Result<Id> {
    send(&Message::new(kind, data)?)
}

/// Publishes an event after a while.
pub fn publish_after(kind: &str, data: &impl Serialize, delay: Duration) -> Result<Id> {
    send(&Message::new(kind, data)?.after(delay))
}

/// Publishes a message with a key, an organization or a delay.
pub fn send(message: &Message) -> Result<Id> {
    Ok(platform::queue_publish(message)?.into())
}

/// Puts a message into the plugin's own queue, to be handled after `delay`.
pub fn enqueue(kind: &str, data: &impl Serialize, delay: Duration) -> Result<Id> {
    enqueue_message(&Message::new(kind, data)?.after(delay))
}

/// Puts a message with a key, an organization or a delay into the plugin's own queue.
pub fn enqueue_message(message: &Message) -> Result<Id> {
    Ok(platform::queue_enqueue(message)?.into())
}

/// What kind of message arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An event that the plugin binds.
    Event,
    /// A message from the plugin's own queue.
    Work,
    /// A tick of a timer.
    Timer,
}

/// A message as it arrives.
///
/// ```
/// use berth_sdk::{data, events::Envelope};
/// #[data]
/// struct Started { execution_id: String }
/// let envelope = Envelope::for_test("execution.started", r#"{"executionId":"e1"}"#);
/// assert_eq!(envelope.data::<Started>().unwrap().execution_id, "e1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Event, work or timer.
    pub kind: Kind,
    /// The same at every delivery of this message.
    pub id: String,
    /// The message's type.
    pub message_type: String,
    /// A JSON object as text; read it with [`Envelope::data`].
    pub text: String,
    /// The organization it concerns.
    pub organization_id: Option<String>,
    /// The user who caused it, where known.
    pub user_id: Option<String>,
    /// The plugin that published it, or `host`.
    pub source_service: String,
    /// When, RFC 3339.
    pub timestamp: String,
    /// Ties together what belongs to one request.
    pub correlation_id: Option<String>,
    /// The message that caused this one.
    pub causation_id: Option<String>,
    /// 1 for the first delivery.
    pub attempt: u32,
    /// After it a retry goes to the dead letters.
    pub is_last_attempt: bool,
}

impl Envelope {
    /// The payload, read into a type. A payload that does not fit is a 400, which dead-letters the message.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.text).map_err(|error| {
            Problem::bad_request(format!("The payload of {} does not fit: {error}.", self.message_type))
        })
    }

    /// A message for native tests.
    pub fn for_test(message_type: &str, text: &str) -> Self {
        Self {
            kind: Kind::Event,
            id: Id::new().into_string(),
            message_type: message_type.to_string(),
            text: text.to_string(),
            organization_id: Some("o1".into()),
            user_id: None,
            source_service: "test".into(),
            timestamp: crate::clock::now().to_string(),
            correlation_id: None,
            causation_id: None,
            attempt: 1,
            is_last_attempt: false,
        }
    }
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Acknowledged,
    /// Again, after a while or after the standard backoff.
    Retry(Option<Duration>),
    /// To the dead letters at once, for this reason.
    Rejected(String),
}

impl From<Result<()>> for Outcome {
    /// A message that is wrong in itself (400, 413, 422) is rejected; every other problem may pass, so it is retried.
    ///
    /// ```
    /// use berth_sdk::{Problem, events::Outcome};
    /// let away: Result<(), Problem> = Err(Problem::unavailable("away"));
    /// let wrong: Result<(), Problem> = Err(Problem::field("id", "is wrong"));
    /// assert_eq!(Outcome::from(away), Outcome::Retry(None));
    /// assert!(matches!(Outcome::from(wrong), Outcome::Rejected(_)));
    /// ```
    fn from(result: Result<()>) -> Self {
        match result {
            Ok(()) => Self::Acknowledged,
            Err(problem) if matches!(problem.status, 400 | 413 | 422) => Self::Rejected(problem.to_string()),
            Err(problem) => {
                crate::logging::warn!("a message is tried again later", problem = problem);
                Self::Retry(None)
            }
        }
    }
}

impl From<Result<Outcome>> for Outcome {
    fn from(result: Result<Outcome>) -> Self {
        match result {
            Ok(outcome) => outcome,
            Err(problem) => Self::from(Err::<(), _>(problem)),
        }
    }
}

/// Whether a type matches a pattern: `*` stands for one segment, `#` for any number of them.
///
/// ```
/// use berth_sdk::events::matches;
/// assert!(matches("execution.#", "execution.step.completed"));
/// assert!(matches("execution.*", "execution.started"));
/// assert!(!matches("execution.*", "execution.step.started"));
/// ```
pub fn matches(pattern: &str, message_type: &str) -> bool {
    fn segments(pattern: &[&str], kind: &[&str]) -> bool {
        match (pattern.split_first(), kind.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), _) => {
                (0..=kind.len()).any(|skip| segments(rest, kind.get(skip..).unwrap_or_default()))
            }
            (Some((&"*", rest)), Some((_, further))) => segments(rest, further),
            (Some((word, rest)), Some((segment, further))) => word == segment && segments(rest, further),
            _ => false,
        }
    }
    let pattern: Vec<&str> = pattern.split('.').collect();
    let kind: Vec<&str> = message_type.split('.').collect();
    segments(&pattern, &kind)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_hash_stands_for_any_number_of_segments() {
        assert!(matches("#", "a.b.c"));
        assert!(matches("a.#", "a"));
        assert!(matches("a.#.c", "a.c"));
        assert!(matches("a.#.c", "a.b.b.c"));
        assert!(!matches("a.#.c", "a.b"));
        assert!(!matches("a", "a.b"));
        assert!(!matches("a.*", "a"));
    }
}
