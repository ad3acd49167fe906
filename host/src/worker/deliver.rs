//! One delivery: on whose behalf, the call, and how the message is settled afterwards.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use super::{Consumers, DeliveryError, chain};
use crate::bindings::consumer::{Delivery, DeliveryKind, Outcome};
use crate::capability::queue::{Claim, Kind, QueueError, QueueRoom};
use crate::principal::Call;
use crate::trace::{self, Tracer};

/// What the call may take beyond its own deadline before it is given up from outside.
const GRACE: Duration = Duration::from_secs(5);
/// When a message comes again whose plugin was busy.
const BUSY_AGAIN: Duration = Duration::from_millis(500);
/// When a message comes again whose plugin was not loaded.
const NOT_LOADED_AGAIN: Duration = Duration::from_secs(2);
/// How often settling is tried; after that the lease ends by itself and the message comes again.
const SETTLE_ATTEMPTS_MAX: u32 = 6;
/// The longest delay a guest can ask for a retry.
const RETRY_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What every delivery needs.
pub(super) struct Context {
    pub room: QueueRoom,
    pub consumers: Arc<dyn Consumers>,
    pub giving_up: CancellationToken,
    pub tracer: Tracer,
}

/// Whether the plugin took the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivered {
    Taken,
    NotTaken,
}

/// Delivers a claimed message and settles it.
pub(super) async fn deliver(context: &Context, claim: &Claim, timeout: Duration) -> Delivered {
    let began = Instant::now();
    // A panic must not cost the message its settlement.
    let call = AssertUnwindSafe(attempt(context, claim, timeout)).catch_unwind();
    let outcome = tokio::select! {
        () = context.giving_up.cancelled() => Err(DeliveryError::NotLoaded),
        outcome = tokio::time::timeout(timeout + GRACE, call) => match outcome {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(DeliveryError::Failed("the host failed while it delivered the message".into())),
            Err(_) => Err(DeliveryError::Failed("the call did not end in time".into())),
        },
    };
    let message = &claim.message;
    tracing::debug!(
        plugin = %claim.queue, id = message.id, message_type = message.message_type, attempt = claim.failures + 1,
        outcome = name(&outcome), elapsed_ms = began.elapsed().as_millis() as u64, "delivered"
    );
    let not_taken = matches!(outcome, Err(DeliveryError::Busy | DeliveryError::NotLoaded));
    settle(context, claim, outcome).await;
    if not_taken { Delivered::NotTaken } else { Delivered::Taken }
}

async fn attempt(context: &Context, claim: &Claim, timeout: Duration) -> Result<Outcome, DeliveryError> {
    let message = &claim.message;
    let (organization_id, user_id) = (message.organization_id.as_deref(), message.user_id.as_deref());
    let principal = context.consumers.principal(organization_id, user_id).await?;
    let id: Arc<str> = message.id.as_str().into();
    let mut span =
        context.tracer.begin(message.trace.as_deref(), trace::Kind::Consumer, || format!("deliver {}", claim.queue));
    span.note("berth.plugin", || claim.queue.to_string());
    span.note("messaging.message.id", || message.id.clone());
    span.note("messaging.message.type", || message.message_type.clone());
    let call = Call {
        principal,
        request_id: Arc::clone(&id),
        source_service: Some(message.source_service.as_str().into()),
        correlation_id: message.correlation_id.as_deref().map(Into::into),
        causation_id: Some(id),
        depth: 0,
        deadline: Some(Instant::now() + timeout),
        is_shadow: false,
        trace: span.trace(),
    };
    let outcome = context.consumers.deliver(&claim.queue, call, delivery(claim)).await;
    if !matches!(outcome, Ok(Outcome::Acknowledged)) {
        span.fail("the message was not acknowledged");
    }
    outcome
}

fn delivery(claim: &Claim) -> Delivery {
    let message = &claim.message;
    Delivery {
        kind: match message.kind {
            Kind::Event => DeliveryKind::Event,
            Kind::Work => DeliveryKind::Work,
            Kind::Timer => DeliveryKind::Timer,
        },
        id: message.id.clone(),
        type_: message.message_type.clone(),
        data: message.data.clone(),
        organization_id: message.organization_id.clone(),
        user_id: message.user_id.clone(),
        source_service: message.source_service.clone(),
        timestamp: message.timestamp(),
        correlation_id: message.correlation_id.clone(),
        causation_id: message.causation_id.clone(),
        attempt: claim.failures.saturating_add(1),
        is_last_attempt: claim.is_last_attempt,
    }
}

/// Settles, and tries again while the database is away for a moment: an acknowledgement that is lost is a delivery more.
async fn settle(context: &Context, claim: &Claim, outcome: Result<Outcome, DeliveryError>) {
    let mut wait = Duration::from_millis(50);
    for attempt in 1..=SETTLE_ATTEMPTS_MAX {
        match settle_once(context, claim, &outcome).await {
            Ok(()) => return,
            Err(QueueError::LeaseLost) => {
                tracing::warn!(plugin = %claim.queue, id = claim.message.id, "the lease ended before the delivery did");
                return;
            }
            Err(error) if attempt == SETTLE_ATTEMPTS_MAX => {
                let error = chain(&error);
                tracing::error!(plugin = %claim.queue, id = claim.message.id, error, "could not settle; it will come again");
            }
            Err(_) => tokio::time::sleep(wait).await,
        }
        wait *= 2;
    }
}

async fn settle_once(
    context: &Context,
    claim: &Claim,
    outcome: &Result<Outcome, DeliveryError>,
) -> Result<(), QueueError> {
    let backend = context.room.backend();
    match outcome {
        Ok(Outcome::Acknowledged) => backend.acknowledge(claim).await,
        Ok(Outcome::Retry(after_ms)) => {
            let after = after_ms.map(|after_ms| Duration::from_millis(after_ms).min(RETRY_MAX));
            backend.retry(claim, after, "the plugin asked for a retry").await.map(drop)
        }
        Ok(Outcome::Rejected(reason)) => backend.reject(claim, &format!("rejected: {reason}")).await,
        Err(DeliveryError::Busy) => backend.release(claim, BUSY_AGAIN).await,
        Err(DeliveryError::NotLoaded) if context.giving_up.is_cancelled() => {
            backend.release(claim, Duration::ZERO).await
        }
        Err(DeliveryError::NotLoaded) => backend.release(claim, NOT_LOADED_AGAIN).await,
        Err(DeliveryError::Failed(reason)) => backend.retry(claim, None, reason).await.map(drop),
    }
}

fn name(outcome: &Result<Outcome, DeliveryError>) -> &'static str {
    match outcome {
        Ok(Outcome::Acknowledged) => "acknowledged",
        Ok(Outcome::Retry(_)) => "retry",
        Ok(Outcome::Rejected(_)) => "rejected",
        Err(DeliveryError::Busy) => "busy",
        Err(DeliveryError::NotLoaded) => "not loaded",
        Err(DeliveryError::Failed(_)) => "failed",
    }
}
