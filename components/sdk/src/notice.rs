//! Telling people something through notification-manager, from the handler of a work message: so that what is told has
//! happened, and is told once.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    Fault, Id,
    events::Envelope,
    http_out, logging,
    problem::{Problem, Result},
};

/// How much it matters; notification-manager chooses channels by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Criticality {
    /// Some time.
    Low,
    /// Today.
    Medium,
    /// Soon.
    High,
    /// Now.
    Critical,
}

/// What is told to whom.
///
/// ```
/// use berth_sdk::{events::Envelope, notice::{Criticality, Notice}};
/// let notice = Notice::new("note.shared", "Ada has shared a note", Criticality::Low).to(vec!["u1".into()]).about("note", "n1");
/// // Natively nobody can be told: the message is tried again.
/// assert_eq!(notice.deliver(&Envelope::for_test("note.notify", "{}")).unwrap_err().status, 503);
/// assert!(notice.to(vec![]).deliver(&Envelope::for_test("note.notify", "{}")).is_ok());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    members: Map<String, Value>,
    recipient_ids: Vec<Id>,
}

impl Notice {
    /// News of a type, such as `messaging.mention`, with a title.
    pub fn new(event_type: &str, title: &str, criticality: Criticality) -> Self {
        let title: String = title.chars().take(200).collect();
        let mut notice = Self { members: Map::new(), recipient_ids: Vec::new() };
        notice.set("eventType", event_type);
        notice.set("body", title.as_str());
        notice.set("title", title);
        notice.set("criticality", json!(criticality));
        notice
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.members.insert(name.into(), value.into());
    }

    /// To these people.
    #[must_use]
    pub fn to(mut self, recipient_ids: Vec<Id>) -> Self {
        self.recipient_ids = recipient_ids;
        self
    }

    /// With a text; the title says it all when it is empty.
    #[must_use]
    pub fn body(mut self, body: &str) -> Self {
        if !body.trim().is_empty() {
            self.set("body", body);
        }
        self
    }

    /// About something, by its type and id.
    #[must_use]
    pub fn about(mut self, resource_type: &str, resource_id: &str) -> Self {
        self.set("sourceResourceType", resource_type);
        self.set("sourceResourceId", resource_id);
        self
    }

    /// The same is told once within the hour.
    #[must_use]
    pub fn once(mut self, dedup_key: &str) -> Self {
        self.set("dedupKey", dedup_key);
        self
    }

    /// A further member of the body of `POST /api/notifications`, such as `category`, `projectId` or `actionUrl`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }

    /// Sends it, once for each message however often that is delivered. A problem means that the message should be tried
    /// again; what can never be told, because nobody is there to tell it or to hear it, is noted and done.
    pub fn deliver(&self, envelope: &Envelope) -> Result<()> {
        if self.recipient_ids.is_empty() {
            return Ok(());
        }
        let mut body = self.members.clone();
        body.insert("recipientIds".into(), json!(self.recipient_ids));
        let call = http_out::plugin("notification-manager").post("/api/notifications");
        let problem = match call.json(&body).idempotency_key(format!("notice-{}", envelope.id)).send() {
            Ok(reply) if reply.is_success() => return Ok(()),
            // The grant does not name it: it is not there.
            Err(Fault::Denied(_)) => return Ok(()),
            Ok(reply) if reply.status >= 500 && !envelope.is_last_attempt => return Err(reply.problem()),
            Ok(reply) => reply.problem(),
            Err(fault) if !envelope.is_last_attempt => return Err(fault.into()),
            Err(fault) => Problem::from(fault),
        };
        // It stands elsewhere too; nobody is served by a dead letter.
        logging::warn!("nobody could be told", problem = problem, message_type = envelope.message_type);
        Ok(())
    }
}
