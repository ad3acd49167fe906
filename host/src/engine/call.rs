//! Whole calls: one record or one piece in, one out.

use std::sync::Arc;

use super::attempt::Held;
use super::packed::{Answer, PackedRequest};
use super::pool::Instance;
use super::{CallError, Revision};
use crate::bindings::consumer;
use crate::principal::Call;

impl Revision {
    /// Answers one HTTP request through `berth:platform/packed-handler` or, where that is not exported, `handler`.
    ///
    /// # Errors
    /// `NotExported`, `Busy`, `Trapped`, `OutOfMemory`, `TimedOut` or `Cancelled`; dropping the future cancels the guest.
    pub(crate) async fn handle(self: &Arc<Self>, call: Call, request: PackedRequest) -> Result<Answer, CallError> {
        let _admission = Self::admit(&**self).await?;
        let deadline = call.deadline;
        let request = Arc::new(request);
        let beginning = self.beginning(&call, || Held::request(&request));
        let mut instance = self.take_instance(call).await?;
        let attempt = beginning.in_instance(&instance.store.data().tape);
        let ticked = Arc::clone(&instance.ticked);
        // Boxed and whole: it may have to go on elsewhere, and every future that waits for it would have its size.
        let running = Box::pin(async move {
            let Instance { store, packed, handler, .. } = &mut *instance;
            let result = match (packed.as_ref(), handler.as_ref()) {
                (Some(export), _) => {
                    let answered = export.berth_platform_packed_handler().call_handle(store, request.as_bytes()).await;
                    Ok(answered.map(|packed| Answer::Packed(packed.into())))
                }
                (None, Some(export)) => match Arc::unwrap_or_clone(request).unpack() {
                    Some(request) => {
                        Ok(export.berth_platform_handler().call_handle(store, &request).await.map(Answer::Record))
                    }
                    None => Err(CallError::BadAnswer("its request could not be unpacked".into())),
                },
                (None, None) => Err(CallError::NotExported("berth:platform/handler")),
            };
            (instance, result)
        });
        let (instance, result) = self.within(deadline, &ticked, attempt.as_ref(), running).await?;
        if let (Some(attempt), Ok(Ok(answer))) = (&attempt, &result) {
            self.keep_if_failed(attempt, answer);
        }
        self.settle(instance, result, attempt.as_ref()).await
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
        let _admission = Self::admit(&**self).await?;
        let deadline = call.deadline;
        let delivery = Arc::new(delivery);
        let beginning = self.beginning(&call, || Held::Delivery(Arc::clone(&delivery)));
        let mut instance = self.take_instance(call).await?;
        let attempt = beginning.in_instance(&instance.store.data().tape);
        let ticked = Arc::clone(&instance.ticked);
        let running = Box::pin(async move {
            let Instance { store, consumer, .. } = &mut *instance;
            let result = match consumer.as_ref() {
                Some(export) => Ok(export.berth_platform_consumer().call_consume(store, &delivery).await),
                None => Err(CallError::NotExported("berth:platform/consumer")),
            };
            (instance, result)
        });
        let (instance, result) = self.within(deadline, &ticked, attempt.as_ref(), running).await?;
        self.settle(instance, result, attempt.as_ref()).await
    }
}
