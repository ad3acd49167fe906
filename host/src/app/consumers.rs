//! Who takes the worker's deliveries: the current build of each plugin, on behalf of whom the accounts know.

use std::sync::Arc;

use async_trait::async_trait;

use crate::accounts::Accounts;
use crate::bindings::consumer::{Delivery, Outcome};
use crate::deploy::Registry;
use crate::engine::CallError;
use crate::principal::{Call, Principal};
use crate::worker::{Consumer, Consumers, DeliveryError};

/// The deployed plugins.
pub(super) struct Deployed {
    registry: Arc<Registry>,
    accounts: Arc<Accounts>,
}

impl Deployed {
    pub(super) fn new(registry: Arc<Registry>, accounts: Arc<Accounts>) -> Self {
        Self { registry, accounts }
    }
}

#[async_trait]
impl Consumers for Deployed {
    fn plugins(&self) -> Vec<Consumer> {
        let slots = self.registry.slots().into_iter();
        slots
            .filter(|slot| slot.current().is_some_and(|revision| revision.exports().consumer))
            .map(|slot| {
                let plugin = slot.plugin();
                Consumer {
                    plugin: plugin.name.clone(),
                    concurrency: plugin.limits.concurrency as usize,
                    timeout: plugin.limits.request_timeout,
                }
            })
            .collect()
    }

    async fn principal(
        &self,
        organization_id: Option<&str>,
        user_id: Option<&str>,
    ) -> Result<Arc<Principal>, DeliveryError> {
        self.accounts.principal_for_message(organization_id, user_id).await.map_err(|_| DeliveryError::NotLoaded)
    }

    async fn deliver(&self, plugin: &str, call: Call, delivery: Delivery) -> Result<Outcome, DeliveryError> {
        let current = self.registry.slot(plugin).and_then(|slot| slot.current()).ok_or(DeliveryError::NotLoaded)?;
        current.consume(call, delivery).await.map_err(|error| match error {
            CallError::Busy => DeliveryError::Busy,
            // The build was withdrawn under the message: the next one takes it.
            CallError::Cancelled | CallError::NotExported(_) => DeliveryError::NotLoaded,
            error => DeliveryError::Failed(error.to_string()),
        })
    }
}
