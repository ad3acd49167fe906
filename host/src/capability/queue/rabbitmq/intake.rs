//! What the broker has sent ahead for one plugin: bounded by the prefetch count, handed out on claim, given back when the
//! plugin no longer consumes here.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::FieldTable;
use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use super::RabbitMq;
use super::link::{answer, unavailable};
use super::wire;
use crate::capability::queue::backend::{Claim, QueueError, Ticket};
use crate::capability::queue::message::{Kind, takes};

/// The most messages that are sent ahead for one plugin.
const PREFETCH: u16 = 32;

/// One plugin's consumer on one channel.
pub(super) struct Intake {
    channel: Channel,
    /// Tells this channel's deliveries from another's.
    epoch: Uuid,
    state: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    ready: VecDeque<Received>,
    /// Ordering keys of messages that are being handled.
    busy_keys: HashSet<Arc<str>>,
    /// What is being handled, and when it was published; none for what is no message.
    in_flight: HashMap<u64, Option<DateTime<Utc>>>,
    is_closed: bool,
}

struct Received {
    tag: u64,
    body: Vec<u8>,
    headers: Option<FieldTable>,
    key: Option<Arc<str>>,
}

/// A delivery that was taken out, before it is judged.
pub(super) struct Taken {
    pub claim: Claim,
    received: Received,
    fault: Option<String>,
}

impl Taken {
    /// The message as it came.
    pub(super) fn body(&self) -> &[u8] {
        &self.received.body
    }
}

/// What is to be done with a delivery.
pub(super) enum Judged {
    Good,
    /// Its binding is gone, or it is the plugin's own event.
    NotWanted,
    Malformed(String),
}

impl RabbitMq {
    /// The plugin's intake; opened, or opened again after the connection was lost.
    pub(super) async fn open_intake(&self, plugin: &Arc<str>) -> Result<Arc<Intake>, QueueError> {
        if let Some(intake) = self.intakes.get(&**plugin)
            && intake.channel.status().connected()
            && !intake.state.lock().is_closed
        {
            return Ok(Arc::clone(&intake));
        }
        let link = self.link().await?;
        link.declare_queue(plugin).await?;
        let channel = link.channel().await?;
        answer(channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let epoch = Uuid::now_v7();
        let consumer = channel.basic_consume(link.queue(plugin), epoch.to_string().into(), options, arguments);
        let consumer = answer(consumer).await?;
        let intake = Arc::new(Intake { channel, epoch, state: Mutex::default() });
        self.all_intakes.insert(epoch, Arc::clone(&intake));
        let changes = self.changes_of(plugin);
        tokio::spawn(receive(Arc::clone(&intake), consumer, changes));
        self.intakes.insert(plugin.to_string(), Arc::clone(&intake));
        Ok(intake)
    }

    fn changes_of(&self, plugin: &str) -> Arc<Notify> {
        crate::capability::queue::QueueBackend::changes(self, plugin)
    }

    /// Whether a delivery can and should be handed out.
    pub(super) fn judge(&self, taken: &Taken) -> Judged {
        if let Some(fault) = &taken.fault {
            return Judged::Malformed(fault.clone());
        }
        let (message, plugin) = (&taken.claim.message, &*taken.claim.queue);
        let patterns = self.patterns.read();
        let is_wanted = message.kind != Kind::Event
            || patterns
                .get(plugin)
                .is_some_and(|patterns| takes(patterns, &message.message_type, message.source_service == plugin));
        if is_wanted { Judged::Good } else { Judged::NotWanted }
    }
}

async fn receive(intake: Arc<Intake>, mut consumer: lapin::Consumer, changes: Arc<Notify>) {
    while let Some(Ok(delivery)) = consumer.next().await {
        let headers = delivery.properties.headers().clone();
        let key = wire::text(headers.as_ref(), wire::KEY).map(Into::into);
        let received = Received { tag: delivery.delivery_tag, body: delivery.data, headers, key };
        intake.state.lock().ready.push_back(received);
        changes.notify_one();
    }
    // The next claim opens another one.
    intake.state.lock().is_closed = true;
    changes.notify_one();
}

impl Intake {
    /// Takes out the first delivery whose key is not being handled.
    pub(super) fn take(&self, plugin: &Arc<str>, retries_max: usize) -> Option<Taken> {
        let received = {
            let mut state = self.state.lock();
            let state = &mut *state;
            let is_free = |received: &Received| received.key.as_ref().is_none_or(|key| !state.busy_keys.contains(key));
            let index = state.ready.iter().position(is_free)?;
            let received = state.ready.remove(index)?;
            state.busy_keys.extend(received.key.clone());
            state.in_flight.insert(received.tag, None);
            received
        };
        let failures = wire::number(received.headers.as_ref(), wire::FAILURES).unwrap_or(0);
        let failures = u32::try_from(failures).unwrap_or(0);
        let (message, fault) = match wire::read(&received.body, received.headers.as_ref()) {
            Ok(message) => {
                self.state.lock().in_flight.insert(received.tag, Some(message.published_at));
                (message, None)
            }
            Err(fault) => (wire::unreadable(&received.body), Some(fault.to_string())),
        };
        let claim = Claim {
            queue: Arc::clone(plugin),
            message,
            failures,
            is_last_attempt: failures as usize >= retries_max,
            ticket: Ticket::Tag { tag: received.tag, epoch: self.epoch, ordering_key: received.key.clone() },
        };
        Some(Taken { claim, received, fault })
    }

    /// Puts a delivery back in front that could not be judged now.
    pub(super) fn put_back(&self, taken: Taken) {
        self.settled(&taken.claim);
        self.state.lock().ready.push_front(taken.received);
    }

    /// Whether the delivery belongs to this channel.
    pub(super) fn check(&self, claim: &Claim) -> Result<u64, QueueError> {
        match &claim.ticket {
            Ticket::Tag { tag, epoch, .. } if *epoch == self.epoch && self.channel.status().connected() => Ok(*tag),
            _ => Err(QueueError::LeaseLost),
        }
    }

    /// Tells the broker that the delivery is done with.
    pub(super) async fn acknowledge(&self, claim: &Claim) -> Result<(), QueueError> {
        let tag = self.check(claim)?;
        self.channel.basic_ack(tag, BasicAckOptions::default()).await.map_err(unavailable)?;
        self.settled(claim);
        self.close_when_done().await;
        Ok(())
    }

    /// Gives the delivery back to its queue.
    pub(super) async fn give_back(&self, claim: &Claim) -> Result<(), QueueError> {
        let tag = self.check(claim)?;
        let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        self.channel.basic_nack(tag, options).await.map_err(unavailable)?;
        self.settled(claim);
        self.close_when_done().await;
        Ok(())
    }

    fn settled(&self, claim: &Claim) {
        let mut state = self.state.lock();
        if let Ticket::Tag { tag, ordering_key, .. } = &claim.ticket {
            state.in_flight.remove(tag);
            if let Some(key) = ordering_key {
                state.busy_keys.remove(key);
            }
        }
    }

    /// Sent ahead and not settled, and of these handed out.
    pub(super) fn counts(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.ready.len() + state.in_flight.len(), state.in_flight.len())
    }

    /// When the oldest message was published of those sent ahead and not settled.
    pub(super) fn oldest_at(&self) -> Option<DateTime<Utc>> {
        let state = self.state.lock();
        let read = |received: &Received| wire::read(&received.body, received.headers.as_ref()).ok();
        let waiting = state.ready.iter().filter_map(read).map(|message| message.published_at);
        waiting.chain(state.in_flight.values().copied().flatten()).min()
    }

    /// Ends the consumer and gives back what nobody has taken out. What is being handled can still be settled.
    pub(super) async fn close(&self) {
        self.channel.basic_cancel(self.epoch.to_string().into(), BasicCancelOptions::default()).await.ok();
        let waiting = {
            let mut state = self.state.lock();
            state.is_closed = true;
            std::mem::take(&mut state.ready)
        };
        let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        for received in waiting {
            self.channel.basic_nack(received.tag, options).await.ok();
        }
        self.close_when_done().await;
    }

    /// Closes the channel when the consumer has ended and nothing is left to settle.
    async fn close_when_done(&self) {
        let is_done = {
            let state = self.state.lock();
            state.is_closed && state.in_flight.is_empty()
        };
        if is_done {
            self.channel.close(200, "done".into()).await.ok();
        }
    }

    /// Whether nothing can be settled on it any more.
    pub(super) fn is_over(&self) -> bool {
        !self.channel.status().connected()
    }
}
