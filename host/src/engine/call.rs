//! Whole calls: one record in, one record out.

use std::sync::Arc;

use super::{CallError, Revision};
use crate::bindings::{consumer, handler};
use crate::principal::Call;

impl Revision {
    /// Answers one HTTP request through `berth:platform/handler`.
    ///
    /// # Errors
    /// `NotExported`, `Busy`, `Trapped`, `OutOfMemory`, `TimedOut` or `Cancelled`; dropping the future cancels the guest.
    pub(crate) async fn handle(
        self: &Arc<Self>,
        call: Call,
        request: handler::Request,
    ) -> Result<handler::Response, CallError> {
        let _admission = self.admit().await?;
        let deadline = call.deadline;
        let mut instance = self.take_instance(call).await?;
        let Some(export) = instance.handler.as_ref() else {
            return Err(CallError::NotExported("berth:platform/handler"));
        };
        let running = export.berth_platform_handler().call_handle(&mut instance.store, &request);
        let result = self.within(deadline, running).await;
        self.settle(instance, result).await
    }

    /// Hands one message or tick to `berth:platform/consumer`.
    ///
    /// # Errors
    /// As [`Revision::handle`].
    pub(crate) async fn consume(
        self: &Arc<Self>,
        call: Call,
        delivery: consumer::Delivery,
    ) -> Result<consumer::Outcome, CallError> {
        let _admission = self.admit().await?;
        let deadline = call.deadline;
        let mut instance = self.take_instance(call).await?;
        let Some(export) = instance.consumer.as_ref() else {
            return Err(CallError::NotExported("berth:platform/consumer"));
        };
        let running = export.berth_platform_consumer().call_consume(&mut instance.store, &delivery);
        let result = self.within(deadline, running).await;
        self.settle(instance, result).await
    }
}
