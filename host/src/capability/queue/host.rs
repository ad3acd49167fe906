//! `berth:platform/queue` for guests, and their messages inside a transaction: checks and completes what they ask, and
//! publishes it.

use std::time::Duration;

use async_trait::async_trait;
use wasmtime::component::{HasData, Linker};

use super::{Kind, OutgoingMessage, QueueError, QueueRoom, View};
use crate::bindings::imports::database::Message;
use crate::bindings::imports::queue::{self, Host};
use crate::bindings::imports::types::Fault;
use crate::capability::Guest;
use crate::capability::database::backend::{Destination, TransactionalOutbox};
use crate::capability::database::unsent_id;
use crate::capability::tape::Taped;
use crate::database::Transaction;

struct HasView;

impl HasData for HasView {
    type Data<'a> = Taped<'a, View<'a>>;
}

/// Links the interface; `get` finds the view in the store's data.
pub(crate) fn link<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: fn(&mut T) -> Taped<'_, View<'_>>,
) -> wasmtime::Result<()> {
    queue::add_to_linker::<T, HasView>(linker, get)
}

impl Host for View<'_> {
    async fn publish(&mut self, message: Message) -> wasmtime::Result<Result<String, Fault>> {
        Ok(self.publish_message(Kind::Event, message, 0).await)
    }

    async fn publish_delayed(&mut self, message: Message, delay_ms: u64) -> wasmtime::Result<Result<String, Fault>> {
        Ok(self.publish_message(Kind::Event, message, delay_ms).await)
    }

    async fn enqueue(&mut self, message: Message, delay_ms: u64) -> wasmtime::Result<Result<String, Fault>> {
        Ok(self.publish_message(Kind::Work, message, delay_ms).await)
    }
}

#[async_trait]
impl TransactionalOutbox for QueueRoom {
    async fn publish_in(
        &self,
        transaction: &mut Transaction,
        guest: &Guest,
        message: Message,
        destination: Destination,
        delay: Duration,
    ) -> Result<String, Fault> {
        let kind = match destination {
            Destination::Everybody => Kind::Event,
            Destination::OwnQueue => Kind::Work,
        };
        let outgoing = OutgoingMessage::from_guest(guest, kind, message, delay)?;
        Ok(Self::publish_in(self, transaction, outgoing).await?)
    }

    fn wake(&self) {
        Self::wake(self);
    }
}

impl View<'_> {
    async fn publish_message(&self, kind: Kind, message: Message, delay_ms: u64) -> Result<String, Fault> {
        let id = self.guest.call.is_shadow.then(|| unsent_id(&message));
        let outgoing = OutgoingMessage::from_guest(self.guest, kind, message, Duration::from_millis(delay_ms))?;
        if let Some(id) = id {
            return Ok(id);
        }
        Ok(self.room.publish(outgoing).await?)
    }
}

impl From<QueueError> for Fault {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Denied(text) => Self::Denied(text),
            QueueError::Invalid(text) => Self::Invalid(text),
            QueueError::TooLarge(text) => Self::TooLarge(text),
            QueueError::Unknown(_) => Self::Invalid(error.to_string()),
            QueueError::Busy | QueueError::LeaseLost => Self::Busy,
            QueueError::Unavailable => Self::Unavailable,
            QueueError::Timeout => Self::Timeout,
            QueueError::Internal(source) => {
                tracing::error!(error = %source, "the queue failed");
                Self::Unavailable
            }
        }
    }
}
