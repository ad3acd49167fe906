//! The connection: found again by itself with growing waits, and everything that is declared on it.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ErrorKind, ExchangeKind};
use parking_lot::Mutex;

use super::wire::{self, Successor};
use super::{dead_letter_name, queue_name};
use crate::capability::queue::backend::{Claim, QueueError, Ticket};
use crate::capability::queue::message::clean_reason;

/// The exchange of all events.
const EVENTS: &str = "berth.events";
/// How long the broker may take to answer, whatever is asked.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest wait between two attempts to connect.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(15);
/// Reply codes of AMQP 0-9-1 (rabbitmq.com/amqp-0-9-1-reference#constants).
const REPLY_SUCCESS: u16 = 200;
const ACCESS_REFUSED: u16 = 403;
const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;
/// How often a quorum queue hands out a message that is never settled before it is a dead letter.
const DELIVERIES_MAX: i64 = 20;

/// The connection of this host, when there is one.
pub(super) struct Links {
    url: String,
    namespace: String,
    waits: BTreeSet<Duration>,
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    link: Option<Arc<Link>>,
    failures: u32,
    again_at: Option<Instant>,
}

/// One connection with its publishing channel.
pub(super) struct Link {
    connection: Connection,
    channel: Channel,
    namespace: String,
    waits: BTreeSet<Duration>,
    /// Plugins whose queues exist, and places of waits.
    declared: Mutex<HashSet<String>>,
    has_bindings: AtomicBool,
}

/// Whatever the driver says: the broker cannot be used now.
pub(super) fn unavailable(error: lapin::Error) -> QueueError {
    tracing::debug!(%error, "the broker");
    QueueError::Unavailable
}

/// Waits for an answer, but not for ever.
pub(super) async fn answer<T>(ask: impl Future<Output = lapin::Result<T>>) -> Result<T, QueueError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, ask).await {
        Ok(answer) => answer.map_err(unavailable),
        Err(_) => Err(QueueError::Timeout),
    }
}

impl Links {
    pub(super) fn new(url: &str, namespace: &str, waits: BTreeSet<Duration>) -> Result<Self, QueueError> {
        if !url.starts_with("amqp://") && !url.starts_with("amqps://") {
            return Err(QueueError::Invalid("a queue URL begins with amqp:// or amqps://".into()));
        }
        Ok(Self { url: url.to_owned(), namespace: namespace.to_owned(), waits, state: tokio::sync::Mutex::default() })
    }

    /// Says what is wrong with the broker for good. One that is not there at the moment is nothing of the kind: it is looked
    /// for until it is.
    pub(super) async fn judge(&self) -> Result<(), QueueError> {
        let refused = |sentence: String| Err(QueueError::Invalid(sentence));
        let Ok(uri) = self.url.parse::<AMQPUri>() else { return refused("its address is malformed".into()) };
        let (host, user) = (&uri.authority.host, &uri.authority.userinfo.username);
        if tokio::net::lookup_host((host.as_str(), uri.authority.port)).await.is_err() {
            return refused(format!("no address is known of its host {host}"));
        }
        let connecting =
            Connection::connect(&self.url, ConnectionProperties::default().with_connection_name("berth".into()));
        match tokio::time::timeout(ANSWER_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => {
                let judged = self.judge_rights(&connection, &uri).await;
                connection.close(REPLY_SUCCESS, "judged".into()).await.ok();
                judged
            }
            Ok(Err(error)) => match error.kind() {
                ErrorKind::ProtocolError(error) if error.get_id() == ACCESS_REFUSED => {
                    refused(format!("the broker refuses the user {user} or the password"))
                }
                ErrorKind::ProtocolError(error) if error.get_id() == NOT_ALLOWED => {
                    refused(format!("the user {user} may not use the virtual host {}, or there is none", uri.vhost))
                }
                _ => Ok(()),
            },
            Err(_) => Ok(()),
        }
    }

    /// Whether the user may do what the host needs, and the broker knows how to: tried on the exchange of all events and the
    /// place of the shortest wait, which stay for whoever needs them next.
    async fn judge_rights(&self, connection: &Connection, uri: &AMQPUri) -> Result<(), QueueError> {
        let trying = async {
            let channel = connection.create_channel().await?;
            let events = events_name(&self.namespace);
            channel.exchange_declare(events, ExchangeKind::Topic, durable(), FieldTable::default()).await?;
            if let Some(wait) = self.waits.first() {
                declare_place(&channel, waiting_name(&self.namespace, *wait), *wait).await?;
            }
            channel.close(REPLY_SUCCESS, "judged".into()).await
        };
        let Ok(Err(error)) = tokio::time::timeout(ANSWER_TIMEOUT, trying).await else { return Ok(()) };
        let ErrorKind::ProtocolError(error) = error.kind() else { return Ok(()) };
        let said = clean_reason(error.get_message().as_str());
        match error.get_id() {
            ACCESS_REFUSED => Err(QueueError::Invalid(format!(
                "the user {} lacks rights in the virtual host {}: it has to configure, write and read what the host makes \
                 there ({said})",
                uri.authority.userinfo.username, uri.vhost
            ))),
            PRECONDITION_FAILED => Err(QueueError::Invalid(format!(
                "the broker refuses what the host makes there ({said}); RabbitMQ 3.10 is the oldest that will do"
            ))),
            _ => Ok(()),
        }
    }

    /// The connection; made anew when there is none, unless the last attempt failed a moment ago.
    pub(super) async fn get(&self) -> Result<Arc<Link>, QueueError> {
        let mut state = self.state.lock().await;
        if let Some(link) = &state.link {
            if link.is_usable() {
                return Ok(Arc::clone(link));
            }
            tracing::warn!("the connection to the broker is lost");
            state.link = None;
        }
        if state.again_at.is_some_and(|again_at| Instant::now() < again_at) {
            return Err(QueueError::Unavailable);
        }
        match self.connect().await {
            Ok(link) => {
                tracing::info!("connected to the broker");
                let link = Arc::new(link);
                *state = State { link: Some(Arc::clone(&link)), ..State::default() };
                Ok(link)
            }
            Err(error) => {
                if state.failures == 0 {
                    tracing::warn!("the broker cannot be reached; it is looked for until it is there");
                }
                state.failures = state.failures.saturating_add(1);
                let wait = Duration::from_millis(250).saturating_mul(1 << state.failures.min(6));
                state.again_at = Some(Instant::now() + wait.min(CONNECT_WAIT_MAX));
                Err(error)
            }
        }
    }

    async fn connect(&self) -> Result<Link, QueueError> {
        let properties = ConnectionProperties::default().with_connection_name("berth".into());
        let connection = answer(Connection::connect(&self.url, properties)).await?;
        let channel = answer(connection.create_channel()).await?;
        answer(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let link = Link {
            connection,
            channel,
            namespace: self.namespace.clone(),
            waits: self.waits.clone(),
            declared: Mutex::default(),
            has_bindings: AtomicBool::new(false),
        };
        link.declare_events().await?;
        Ok(link)
    }
}

impl Link {
    fn is_usable(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    pub(super) fn needs_bindings(&self) -> bool {
        !self.has_bindings.load(Ordering::Acquire)
    }

    pub(super) fn bindings_done(&self) {
        self.has_bindings.store(true, Ordering::Release);
    }

    /// A channel of its own, for consuming and for looking into queues.
    pub(super) async fn channel(&self) -> Result<Channel, QueueError> {
        answer(self.connection.create_channel()).await
    }

    pub(super) fn queue(&self, plugin: &str) -> ShortString {
        format!("{}{}", self.namespace, queue_name(plugin)).into()
    }

    pub(super) fn dead_letter_queue(&self, plugin: &str) -> ShortString {
        format!("{}{}", self.namespace, dead_letter_name(plugin)).into()
    }

    pub(super) fn events(&self) -> ShortString {
        events_name(&self.namespace)
    }

    /// How long a retry waits that shall wait for at least `after`; none when it need not.
    fn wait_for(&self, after: Duration) -> Option<Duration> {
        let wait = self.waits.range(after..).next().or_else(|| self.waits.last())?;
        (!after.is_zero()).then_some(*wait)
    }

    pub(super) fn waiting_name(&self, wait: Duration) -> ShortString {
        waiting_name(&self.namespace, wait)
    }

    /// The exchange of all events.
    async fn declare_events(&self) -> Result<(), QueueError> {
        let (name, kind) = (self.events(), ExchangeKind::Topic);
        answer(self.channel.exchange_declare(name, kind, durable(), FieldTable::default())).await
    }

    /// Makes the place of a wait when it is first needed on this connection: a queue whose messages go back, when their
    /// time is over, to the queue that their routing key names.
    async fn declare_waiting_place(&self, wait: Duration) -> Result<ShortString, QueueError> {
        let name = self.waiting_name(wait);
        if self.declared.lock().contains(name.as_str()) {
            return Ok(name);
        }
        answer(declare_place(&self.channel, name.clone(), wait)).await?;
        self.declared.lock().insert(name.to_string());
        Ok(name)
    }

    /// Makes the plugin's queue and its dead letters, once a connection.
    pub(super) async fn declare_queue(&self, plugin: &str) -> Result<(), QueueError> {
        if self.declared.lock().contains(plugin) {
            return Ok(());
        }
        let dead_letters = self.dead_letter_queue(plugin);
        // Looked into by fetching and giving back, which a quorum queue would count as deliveries.
        let classic = FieldTable::default();
        answer(self.channel.queue_declare(dead_letters.clone(), QueueDeclareOptions::durable(), classic)).await?;
        let mut arguments = quorum("");
        arguments.insert("x-dead-letter-routing-key".into(), AMQPValue::LongString(dead_letters.as_str().into()));
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERIES_MAX));
        answer(self.channel.queue_declare(self.queue(plugin), QueueDeclareOptions::durable(), arguments)).await?;
        self.declared.lock().insert(plugin.to_owned());
        Ok(())
    }

    pub(super) async fn bind(&self, plugin: &str, pattern: &str) -> Result<(), QueueError> {
        let (queue, options) = (self.queue(plugin), QueueBindOptions::default());
        answer(self.channel.queue_bind(queue, self.events(), pattern.into(), options, FieldTable::default())).await
    }

    pub(super) async fn unbind(&self, plugin: &str, pattern: &str) -> Result<(), QueueError> {
        let queue = self.queue(plugin);
        answer(self.channel.queue_unbind(queue, self.events(), pattern.into(), FieldTable::default())).await
    }

    /// Hands a message to the broker and gives what will say that it has it.
    pub(super) async fn send(
        &self,
        exchange: ShortString,
        routing_key: ShortString,
        is_mandatory: bool,
        body: &[u8],
        properties: BasicProperties,
    ) -> Result<lapin::PublisherConfirm, QueueError> {
        let options = BasicPublishOptions { mandatory: is_mandatory, ..BasicPublishOptions::default() };
        answer(self.channel.basic_publish(exchange, routing_key, options, body, properties)).await
    }

    /// Publishes to a queue and waits until the broker has it.
    pub(super) async fn publish_to_queue(
        &self,
        queue: ShortString,
        body: &[u8],
        properties: BasicProperties,
    ) -> Result<(), QueueError> {
        confirmed(self.send("".into(), queue, true, body, properties).await?).await
    }

    /// Publishes what takes a delivery's place.
    pub(super) async fn publish_successor(&self, claim: &Claim, successor: Successor<'_>) -> Result<(), QueueError> {
        let body = claim.message.envelope()?;
        let key = match &claim.ticket {
            Ticket::Tag { ordering_key, .. } => ordering_key.as_deref(),
            Ticket::Row { .. } => None,
        };
        let queue = self.queue(&claim.queue);
        match successor {
            Successor::Retry { failures, after } => {
                let properties = wire::properties(&claim.message, key, failures);
                match self.wait_for(after) {
                    Some(wait) => {
                        let place = self.declare_waiting_place(wait).await?;
                        confirmed(self.send(place, queue, true, body.as_bytes(), properties).await?).await
                    }
                    None => self.publish_to_queue(queue, body.as_bytes(), properties).await,
                }
            }
            Successor::DeadLetter { failures, reason, dead_at } => {
                let reason = clean_reason(reason);
                let properties = wire::dead(wire::properties(&claim.message, key, failures), &reason, dead_at);
                let message = &claim.message;
                tracing::warn!(
                    plugin = %claim.queue, id = message.id, message_type = message.message_type, reason, "dead letter"
                );
                self.publish_to_queue(self.dead_letter_queue(&claim.queue), body.as_bytes(), properties).await
            }
        }
    }

    /// Publishes the dead letter of something that is no envelope, as it is.
    pub(super) async fn publish_raw_dead_letter(
        &self,
        plugin: &str,
        body: &[u8],
        reason: &str,
        dead_at: DateTime<Utc>,
    ) -> Result<(), QueueError> {
        let reason = clean_reason(&format!("malformed: {reason}"));
        tracing::warn!(plugin, reason, "dead letter");
        let properties = wire::dead(BasicProperties::default(), &reason, dead_at);
        self.publish_to_queue(self.dead_letter_queue(plugin), body, properties).await
    }

    #[cfg(test)]
    pub(super) fn waits(&self) -> Vec<Duration> {
        self.waits.iter().copied().collect()
    }

    /// Ends the connection; for tests of what happens then.
    #[cfg(test)]
    pub(super) async fn break_off(&self) {
        self.connection.close(200, "test".into()).await.ok();
    }
}

fn events_name(namespace: &str) -> ShortString {
    format!("{namespace}{EVENTS}").into()
}

fn waiting_name(namespace: &str, wait: Duration) -> ShortString {
    format!("{namespace}berth.retry.{}", wait.as_millis()).into()
}

fn durable() -> ExchangeDeclareOptions {
    ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() }
}

/// Exchange and queue of a wait.
async fn declare_place(channel: &Channel, name: ShortString, wait: Duration) -> lapin::Result<()> {
    channel.exchange_declare(name.clone(), ExchangeKind::Fanout, durable(), FieldTable::default()).await?;
    let mut arguments = quorum("");
    let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(wait_ms));
    channel.queue_declare(name.clone(), QueueDeclareOptions::durable(), arguments).await?;
    channel.queue_bind(name.clone(), name, "".into(), QueueBindOptions::default(), FieldTable::default()).await
}

/// Waits until the broker says that it has the message.
pub(super) async fn confirmed(confirm: lapin::PublisherConfirm) -> Result<(), QueueError> {
    match answer(confirm).await? {
        Confirmation::Ack(None) | Confirmation::NotRequested => Ok(()),
        // It came back: there is no such queue.
        Confirmation::Ack(Some(_)) => Err(QueueError::Unavailable),
        Confirmation::Nack(_) => Err(QueueError::Busy),
    }
}

/// A replicated queue that sends what it gives up to `exchange` and loses none of it on the way.
fn quorum(exchange: &str) -> FieldTable {
    let mut arguments = FieldTable::default();
    for (name, value) in [
        ("x-queue-type", "quorum"),
        ("x-dead-letter-exchange", exchange),
        ("x-dead-letter-strategy", "at-least-once"),
        ("x-overflow", "reject-publish"),
    ] {
        arguments.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    arguments
}
