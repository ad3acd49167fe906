//! What the room needs from others: the queue's outbox, joined to the guest's transaction.

use std::time::Duration;

use async_trait::async_trait;

use crate::bindings::imports::database::Message;
use crate::bindings::imports::types::Fault;
use crate::capability::Guest;
use crate::database::Transaction;

/// Where a guest's message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// An event, for every plugin that binds its type.
    Everybody,
    /// The plugin's own private queue.
    OwnQueue,
}

/// The queue, as a transaction sees it. Implemented by the queue room.
#[async_trait]
pub(crate) trait TransactionalOutbox: Send + Sync {
    /// Checks the grant and the message, and writes it so that it leaves when the transaction commits and never when
    /// it does not. Returns its id.
    async fn publish_in(
        &self,
        transaction: &mut Transaction,
        guest: &Guest,
        message: Message,
        destination: Destination,
        delay: Duration,
    ) -> Result<String, Fault>;

    /// Says that a transaction with messages has been committed.
    fn wake(&self);
}
