//! A message as it travels: the envelope of the specification as its body, and what only the host needs in headers.

use std::time::Duration;

use chrono::{DateTime, Utc};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::capability::queue::backend::QueueError;
use crate::capability::queue::message::{Kind, QueuedMessage, check_received};

pub(super) const KIND: &str = "berth-kind";
pub(super) const KEY: &str = "berth-key";
pub(super) const FAILURES: &str = "berth-failures";
pub(super) const REASON: &str = "berth-reason";
pub(super) const DEAD_AT: &str = "berth-dead-at";
/// As the W3C names it, so that consumers of other makes find it too.
const TRACE: &str = "traceparent";
const TRACE_BYTES_MAX: usize = 128;
/// Persistent, as AMQP counts.
const PERSISTENT: u8 = 2;

/// What takes a delivery's place.
pub(super) enum Successor<'a> {
    /// The same message later.
    Retry { failures: u32, after: Duration },
    /// Its dead letter.
    DeadLetter { failures: u32, reason: &'a str, dead_at: DateTime<Utc> },
}

/// The envelope as anybody may have published it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Received {
    id: String,
    #[serde(rename = "type")]
    message_type: String,
    timestamp: DateTime<Utc>,
    #[serde(default)]
    organization_id: Option<String>,
    #[serde(default)]
    user_id: Option<String>,
    source: ReceivedSource,
    #[serde(default)]
    correlation_id: Option<String>,
    #[serde(default)]
    causation_id: Option<String>,
    data: Box<RawValue>,
}

#[derive(Deserialize)]
struct ReceivedSource {
    service: String,
    #[serde(default)]
    instance: String,
}

/// Reads a body and its headers.
///
/// # Errors
/// `Invalid` and `TooLarge` for what is no envelope.
pub(super) fn read(body: &[u8], headers: Option<&FieldTable>) -> Result<QueuedMessage, QueueError> {
    let received: Received =
        serde_json::from_slice(body).map_err(|error| QueueError::Invalid(format!("no envelope: {error}")))?;
    // Whoever publishes an event from outside does not set the kind.
    let kind = text(headers, KIND).and_then(|kind| Kind::parse(&kind)).unwrap_or(Kind::Event);
    let message = QueuedMessage {
        id: received.id,
        kind,
        message_type: received.message_type,
        data: received.data.get().to_owned(),
        organization_id: received.organization_id,
        user_id: received.user_id,
        source_service: received.source.service,
        source_instance: received.source.instance,
        correlation_id: received.correlation_id,
        causation_id: received.causation_id,
        published_at: received.timestamp,
        trace: text(headers, TRACE).filter(|trace| trace.len() <= TRACE_BYTES_MAX),
    };
    check_received(&message)?;
    Ok(message)
}

/// Stands for a body that is no envelope.
pub(super) fn unreadable(body: &[u8]) -> QueuedMessage {
    QueuedMessage {
        id: String::new(),
        kind: Kind::Event,
        message_type: String::new(),
        data: String::from_utf8_lossy(body).into_owned(),
        organization_id: None,
        user_id: None,
        source_service: String::new(),
        source_instance: String::new(),
        correlation_id: None,
        causation_id: None,
        published_at: DateTime::UNIX_EPOCH,
        trace: None,
    }
}

/// Properties of a message that outlives the broker.
pub(super) fn properties(message: &QueuedMessage, key: Option<&str>, failures: u32) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(KIND.into(), AMQPValue::LongString(message.kind.as_str().into()));
    headers.insert(FAILURES.into(), AMQPValue::LongLongInt(failures.into()));
    if let Some(key) = key {
        headers.insert(KEY.into(), AMQPValue::LongString(key.into()));
    }
    if let Some(trace) = &message.trace {
        headers.insert(TRACE.into(), AMQPValue::LongString(trace.as_str().into()));
    }
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_headers(headers)
}

/// Adds why and when a message died.
pub(super) fn dead(properties: BasicProperties, reason: &str, dead_at: DateTime<Utc>) -> BasicProperties {
    let mut headers = properties.headers().clone().unwrap_or_default();
    headers.insert(REASON.into(), AMQPValue::LongString(reason.into()));
    headers.insert(DEAD_AT.into(), AMQPValue::LongLongInt(dead_at.timestamp_millis()));
    properties.with_delivery_mode(PERSISTENT).with_headers(headers)
}

/// A header's text.
pub(super) fn text(headers: Option<&FieldTable>, name: &str) -> Option<String> {
    match headers?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

/// A header's number.
pub(super) fn number(headers: Option<&FieldTable>, name: &str) -> Option<i64> {
    match headers?.inner().get(name)? {
        AMQPValue::LongLongInt(number) => Some(*number),
        AMQPValue::LongInt(number) => Some((*number).into()),
        AMQPValue::LongUInt(number) => Some((*number).into()),
        _ => None,
    }
}
