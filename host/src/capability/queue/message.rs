//! A message before it leaves: what is asked, the rules it must keep, and the envelope it travels in.
//!
//! Pure: it touches no backend, and everything a guest wrote is judged here before any of it is stored.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::backend::QueueError;
use crate::bindings::imports::database::Message;
use crate::capability::Guest;
use crate::capability::grant::topic_matches;

/// The largest payload: beyond it a publish is refused as too large.
pub(crate) const DATA_BYTES_MAX: usize = 256 * 1024;
/// The longest event type: beyond it a publish is invalid.
pub(crate) const TYPE_BYTES_MAX: usize = 128;
/// The most segments of an event type: beyond it a publish is invalid.
pub(crate) const TYPE_SEGMENTS_MAX: usize = 8;
/// The longest ordering key: beyond it a publish is invalid.
pub(crate) const KEY_BYTES_MAX: usize = 200;
/// The longest id of a message, an organization or a user: beyond it a publish is invalid.
pub(crate) const ID_BYTES_MAX: usize = 64;
/// The longest a message may be held back: beyond it a publish is invalid.
pub(crate) const DELAY_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The longest reason that is kept with a dead letter; what is over is cut off.
pub(crate) const REASON_BYTES_MAX: usize = 1_000;
/// The `source.service` of what the host itself publishes.
pub(crate) const HOST_SERVICE: &str = "host";

/// What kind of message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// For every plugin that binds its type.
    Event,
    /// For the private queue of one plugin.
    Work,
    /// A tick of a plugin's timer; made by the host alone.
    Timer,
}

impl Kind {
    /// As it is stored.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Work => "work",
            Self::Timer => "timer",
        }
    }

    /// The reverse of [`Kind::as_str`].
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "event" => Some(Self::Event),
            "work" => Some(Self::Work),
            "timer" => Some(Self::Timer),
            _ => None,
        }
    }
}

/// A message that is to be published. Build it with [`OutgoingMessage::event`] or [`OutgoingMessage::work`] and set the rest.
#[derive(Clone, Debug)]
pub(crate) struct OutgoingMessage {
    /// Deduplicates a repeated publish of the same source and organization for 72 hours; made when absent.
    pub id: Option<String>,
    pub kind: Kind,
    /// Lower-case and dotted, as in `planning.plan.created`.
    pub message_type: String,
    /// The payload: the text of a JSON object.
    pub data: String,
    /// Messages of one source and organization with one key are handled in their order, queue by queue.
    pub key: Option<String>,
    pub organization_id: Option<String>,
    pub user_id: Option<String>,
    /// The plugin that publishes, or `host`.
    pub source_service: String,
    pub correlation_id: Option<String>,
    pub causation_id: Option<String>,
    /// The W3C `traceparent` of what published it.
    pub trace: Option<String>,
    /// Holds it back that long after the commit.
    pub delay: Duration,
    /// The plugin whose private queue it goes to: always for work and timers, never for events.
    pub queue: Option<String>,
}

impl OutgoingMessage {
    /// An event of the host for everybody who binds it.
    pub(crate) fn event(message_type: impl Into<String>, data: &serde_json::Value) -> Self {
        Self::new(Kind::Event, message_type.into(), data, None)
    }

    /// A message of the host for the private queue of `plugin`.
    #[cfg(test)]
    pub(crate) fn work(plugin: &str, message_type: impl Into<String>, data: &serde_json::Value) -> Self {
        Self::new(Kind::Work, message_type.into(), data, Some(plugin.to_owned()))
    }

    /// A tick of `plugin`'s timer `name`.
    pub(crate) fn tick(plugin: &str, name: &str, data: &serde_json::Value) -> Self {
        Self::new(Kind::Timer, timer_type(plugin, name), data, Some(plugin.to_owned()))
    }

    fn new(kind: Kind, message_type: String, data: &serde_json::Value, queue: Option<String>) -> Self {
        Self {
            id: None,
            kind,
            message_type,
            data: data.to_string(),
            key: None,
            organization_id: None,
            user_id: None,
            source_service: HOST_SERVICE.to_owned(),
            correlation_id: None,
            causation_id: None,
            trace: None,
            delay: Duration::ZERO,
            queue,
        }
    }

    /// What a guest asked for, with everything that it may not choose put in by the host.
    ///
    /// # Errors
    /// `Denied` when the grant lacks the event type or the guest names another organization than its own;
    /// `Invalid` and `TooLarge` as in [`OutgoingMessage::check`].
    pub(crate) fn from_guest(guest: &Guest, kind: Kind, message: Message, delay: Duration) -> Result<Self, QueueError> {
        let plugin = &guest.plugin;
        if kind == Kind::Event && !plugin.grant.publish.iter().any(|allowed| topic_matches(allowed, &message.type_)) {
            // The type is the guest's text: it is repeated only where it is well formed.
            check_type(kind, &message.type_)?;
            return Err(QueueError::Denied(format!("publish lacks the event type {}", message.type_)));
        }
        let call = &guest.call;
        let organization_id = match (&call.principal.organization_id, message.organization_id) {
            (None, named) => named,
            (Some(own), None) => Some(own.to_string()),
            (Some(own), Some(named)) if named == own.as_ref() => Some(named),
            (Some(_), Some(_)) => {
                return Err(QueueError::Denied("a call of one organization cannot publish for another".into()));
            }
        };
        let outgoing = Self {
            id: message.id,
            kind,
            message_type: message.type_,
            data: message.data,
            key: message.key,
            organization_id,
            user_id: call.principal.user_id.as_deref().map(str::to_owned),
            source_service: plugin.name.to_string(),
            correlation_id: Some(call.correlation_id.as_ref().unwrap_or(&call.request_id).to_string()),
            causation_id: call.causation_id.as_deref().map(str::to_owned),
            trace: call.trace.traceparent(),
            delay,
            queue: (kind != Kind::Event).then(|| plugin.name.to_string()),
        };
        outgoing.check()?;
        Ok(outgoing)
    }

    /// Judges the whole message against the rules of the envelope.
    ///
    /// # Errors
    /// `Invalid` for a malformed type, id, key, organization, payload or a delay over 30 days; `TooLarge` for a
    /// payload over 256 KiB.
    pub(crate) fn check(&self) -> Result<(), QueueError> {
        check_type(self.kind, &self.message_type)?;
        if let Some(id) = &self.id {
            check_id("id", id)?;
        }
        if let Some(organization) = &self.organization_id {
            check_id("organization-id", organization)?;
        }
        if let Some(key) = &self.key
            && (key.is_empty() || key.len() > KEY_BYTES_MAX || key.chars().any(char::is_control))
        {
            return Err(QueueError::Invalid(format!(
                "key must have 1 to {KEY_BYTES_MAX} bytes and no control characters"
            )));
        }
        if self.delay > DELAY_MAX {
            return Err(QueueError::Invalid("delay must be at most 30 days".into()));
        }
        if self.queue.is_none() != (self.kind == Kind::Event) {
            return Err(QueueError::Invalid("an event has no queue and every other message has one".into()));
        }
        check_data(&self.data)
    }

    /// What orders it: its key within source, organization and kind, so that no plugin or organization can hold up
    /// another one's messages by choosing the same key.
    pub(crate) fn ordering_key(&self) -> Option<String> {
        let organization = self.organization_id.as_deref().unwrap_or("");
        self.key.as_ref().map(|key| format!("{}/{}/{organization}/{key}", self.kind.as_str(), self.source_service))
    }
}

/// A message on its way: as it lies in a table or travels to a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueuedMessage {
    pub id: String,
    pub kind: Kind,
    pub message_type: String,
    pub data: String,
    pub organization_id: Option<String>,
    pub user_id: Option<String>,
    pub source_service: String,
    pub source_instance: String,
    pub correlation_id: Option<String>,
    pub causation_id: Option<String>,
    pub published_at: DateTime<Utc>,
    /// The W3C `traceparent` of what published it.
    pub trace: Option<String>,
}

/// Who published a message.
#[derive(Serialize, Deserialize)]
pub(crate) struct Source<'a> {
    pub service: &'a str,
    pub instance: &'a str,
}

/// The envelope of the specification, as it stands in a broker and in dead letters.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Envelope<'a> {
    pub id: &'a str,
    #[serde(rename = "type")]
    pub message_type: &'a str,
    pub version: &'static str,
    pub timestamp: String,
    pub organization_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<&'a str>,
    pub source: Source<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<&'a str>,
    pub data: &'a RawValue,
}

impl QueuedMessage {
    /// The message as its envelope.
    ///
    /// # Errors
    /// `Invalid` when the payload is not JSON.
    pub(crate) fn envelope(&self) -> Result<String, QueueError> {
        let malformed = |_| QueueError::Invalid("data is not JSON".into());
        let envelope = Envelope {
            id: &self.id,
            message_type: &self.message_type,
            version: "1.0",
            timestamp: self.timestamp(),
            organization_id: self.organization_id.as_deref(),
            user_id: self.user_id.as_deref(),
            source: Source { service: &self.source_service, instance: &self.source_instance },
            correlation_id: self.correlation_id.as_deref(),
            causation_id: self.causation_id.as_deref(),
            data: serde_json::from_str(&self.data).map_err(malformed)?,
        };
        serde_json::to_string(&envelope).map_err(malformed)
    }

    /// When it was published: RFC 3339, UTC, milliseconds.
    pub(crate) fn timestamp(&self) -> String {
        self.published_at.to_rfc3339_opts(SecondsFormat::Millis, true)
    }
}

/// The type of a timer's ticks.
pub(crate) fn timer_type(plugin: &str, name: &str) -> String {
    format!("timer.{plugin}.{name}")
}

/// Whether a message that was stored or received can be handed to a guest at all.
pub(crate) fn check_received(message: &QueuedMessage) -> Result<(), QueueError> {
    check_type(message.kind, &message.message_type)?;
    // Who publishes at a broker from outside has passed no other check, and rooms keep things apart by this id.
    if let Some(organization) = &message.organization_id {
        check_id("organization-id", organization)?;
    }
    check_data(&message.data)
}

/// Whether a queue takes an event. Its own events only where a binding names the type in full.
pub(crate) fn takes(patterns: &[String], message_type: &str, is_own: bool) -> bool {
    patterns.iter().any(|pattern| if is_own { pattern == message_type } else { topic_matches(pattern, message_type) })
}

/// A reason may be a guest's text: no control characters, and bounded.
pub(crate) fn clean_reason(reason: &str) -> String {
    let mut cleaned = String::new();
    for character in reason.chars().map(|character| if character.is_control() { ' ' } else { character }) {
        if cleaned.len() + character.len_utf8() > REASON_BYTES_MAX {
            break;
        }
        cleaned.push(character);
    }
    cleaned
}

/// A timer's type holds the plugin's name, so hyphens are allowed there and nowhere else.
fn check_type(kind: Kind, message_type: &str) -> Result<(), QueueError> {
    let is_allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || (byte == b'-' && kind == Kind::Timer)
    };
    let is_segment = |segment: &str| !segment.is_empty() && segment.bytes().all(is_allowed);
    // The bound on the bytes comes first: it bounds the work of the rest.
    if message_type.len() > TYPE_BYTES_MAX
        || message_type.split('.').count() > TYPE_SEGMENTS_MAX
        || !message_type.split('.').all(is_segment)
    {
        return Err(QueueError::Invalid(format!(
            "type must be 1 to {TYPE_SEGMENTS_MAX} segments of a-z, 0-9 and _ joined by dots, at most {TYPE_BYTES_MAX} bytes"
        )));
    }
    Ok(())
}

fn check_id(name: &str, id: &str) -> Result<(), QueueError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if id.is_empty() || id.len() > ID_BYTES_MAX || !id.bytes().all(is_allowed) {
        return Err(QueueError::Invalid(format!(
            "{name} must have 1 to {ID_BYTES_MAX} characters of A-Z, a-z, 0-9, - and _"
        )));
    }
    Ok(())
}

fn check_data(data: &str) -> Result<(), QueueError> {
    if data.len() > DATA_BYTES_MAX {
        return Err(QueueError::TooLarge(format!("data may have at most {DATA_BYTES_MAX} bytes")));
    }
    let is_object = data.trim_start().starts_with('{');
    if !is_object || serde_json::from_str::<serde::de::IgnoredAny>(data).is_err() {
        return Err(QueueError::Invalid("data must be a JSON object".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::capability::grant::Grant;
    use crate::capability::testing::guest_with;

    #[test]
    fn only_well_formed_types_pass() {
        for good in ["a", "planning.plan.created", "user.email_verified", "a.b.c.d.e.f.g.h2"] {
            assert!(OutgoingMessage::event(good, &json!({})).check().is_ok(), "{good}");
        }
        let long = "a".repeat(TYPE_BYTES_MAX + 1);
        for bad in ["", ".", "a.", "A.b", "a b", "a.#", "a.*", "a-b", "a.b.c.d.e.f.g.h.i", "a.\u{e9}", long.as_str()] {
            assert!(matches!(OutgoingMessage::event(bad, &json!({})).check(), Err(QueueError::Invalid(_))), "{bad}");
        }
    }

    #[test]
    fn a_payload_is_an_object_within_its_bound() {
        for bad in [json!([]), json!(1), json!("x"), json!(null)] {
            assert!(matches!(OutgoingMessage::event("a.b", &bad).check(), Err(QueueError::Invalid(_))), "{bad}");
        }
        let mut message = OutgoingMessage::event("a.b", &json!({"text": "x".repeat(DATA_BYTES_MAX - 11)}));
        assert_eq!(message.data.len(), DATA_BYTES_MAX);
        assert!(message.check().is_ok());
        message.data.push(' ');
        assert!(matches!(message.check(), Err(QueueError::TooLarge(_))));
        message.data = "{\"a\":1} trailing".into();
        assert!(matches!(message.check(), Err(QueueError::Invalid(_))));
    }

    #[test]
    fn ids_keys_and_delays_have_bounds() {
        let message = || OutgoingMessage::event("a.b", &json!({}));
        assert!(OutgoingMessage { id: Some("x".repeat(65)), ..message() }.check().is_err());
        assert!(OutgoingMessage { id: Some("a/b".into()), ..message() }.check().is_err());
        assert!(OutgoingMessage { organization_id: Some(String::new()), ..message() }.check().is_err());
        assert!(OutgoingMessage { key: Some("k".repeat(201)), ..message() }.check().is_err());
        assert!(OutgoingMessage { key: Some("a\0b".into()), ..message() }.check().is_err());
        assert!(OutgoingMessage { delay: DELAY_MAX + Duration::from_millis(1), ..message() }.check().is_err());
        assert!(OutgoingMessage { queue: Some("planning".into()), ..message() }.check().is_err());
        assert!(OutgoingMessage { id: Some("x".repeat(64)), delay: DELAY_MAX, ..message() }.check().is_ok());
    }

    #[test]
    fn a_guest_publishes_what_it_is_granted_and_for_its_own_organization_alone() {
        let grant = Grant { publish: vec!["planning.#".into()], ..Grant::default() };
        let message = |message_type: &str, organization: Option<&str>| Message {
            type_: message_type.into(),
            data: "{}".into(),
            key: None,
            organization_id: organization.map(str::to_owned),
            id: None,
        };
        let publish = |organization: Option<&str>, kind, message| {
            let guest = guest_with("planning", organization, grant.clone());
            OutgoingMessage::from_guest(&guest, kind, message, Duration::ZERO)
        };
        let sent = publish(Some("org"), Kind::Event, message("planning.plan.created", None)).unwrap();
        assert_eq!(sent.organization_id.as_deref(), Some("org"));
        assert_eq!((sent.source_service.as_str(), sent.correlation_id.as_deref()), ("planning", Some("request-1")));
        assert_eq!(sent.queue, None);
        let sent = publish(None, Kind::Event, message("planning.plan.created", Some("other"))).unwrap();
        assert_eq!(sent.organization_id.as_deref(), Some("other"));
        let sent = publish(Some("org"), Kind::Work, message("anything.at_all", Some("org"))).unwrap();
        assert_eq!(sent.queue.as_deref(), Some("planning"));
        for (organization, kind, asked) in [
            (Some("org"), Kind::Event, message("task.created", None)),
            (Some("org"), Kind::Event, message("planning.plan.created", Some("other"))),
            (Some("org"), Kind::Work, message("anything", Some("other"))),
        ] {
            assert!(matches!(publish(organization, kind, asked), Err(QueueError::Denied(_))));
        }
        assert!(matches!(publish(None, Kind::Event, message("Planning!", None)), Err(QueueError::Invalid(_))));
    }

    #[test]
    fn the_envelope_has_the_members_of_the_specification() {
        let message = QueuedMessage {
            id: "1".into(),
            kind: Kind::Event,
            message_type: "plan.created".into(),
            data: "{\"a\":1.0}".into(),
            organization_id: None,
            user_id: None,
            source_service: "planning".into(),
            source_instance: "host-1".into(),
            correlation_id: Some("c".into()),
            causation_id: None,
            published_at: DateTime::from_timestamp_millis(1_700_000_000_000).unwrap(),
            trace: None,
        };
        assert!(check_received(&message).is_ok());
        for organization in ["", "a:b", "a\nb"] {
            let message = QueuedMessage { organization_id: Some(organization.into()), ..message.clone() };
            assert!(matches!(check_received(&message), Err(QueueError::Invalid(_))), "{organization:?}");
        }
        assert_eq!(
            message.envelope().unwrap(),
            "{\"id\":\"1\",\"type\":\"plan.created\",\"version\":\"1.0\",\"timestamp\":\"2023-11-14T22:13:20.000Z\",\
             \"organizationId\":null,\"source\":{\"service\":\"planning\",\"instance\":\"host-1\"},\"correlationId\":\"c\",\
             \"data\":{\"a\":1.0}}"
        );
    }

    #[test]
    fn own_events_come_back_only_when_named_in_full() {
        let patterns = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        assert!(takes(&patterns(&["#"]), "plan.created", false));
        assert!(!takes(&patterns(&["#", "plan.*"]), "plan.created", true));
        assert!(takes(&patterns(&["#", "plan.created"]), "plan.created", true));
        assert!(!takes(&patterns(&["task.#"]), "plan.created", false));
    }
}
