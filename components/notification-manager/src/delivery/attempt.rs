//! One attempt at one delivery: through the providers in their order, then again later, then through another channel.

use berth_sdk::prelude::*;

use super::{Delivery, DeliveryStatus, backoff, lock, process, settle};
use crate::{
    channel::Settings,
    kinds::{Channel, Criticality},
    limits,
    notification::{Notification, Status},
    provider::{
        failover::{self, Outcome as Sending},
        send::Parcel,
    },
};

#[data]
struct Work {
    delivery_id: Id,
    attempt: i64,
}

/// `notification.deliver`.
pub fn deliver(envelope: &Envelope) -> Result<()> {
    let work: Work = envelope.data()?;
    let Some(mut delivery) = entity::find::<Delivery>(&Pool, &work.delivery_id)? else { return Ok(()) };
    // An attempt that was made already, and whose message comes again.
    let is_made = delivery.attempt_count >= work.attempt && delivery.status != DeliveryStatus::Sending;
    if is_made || delivery.status.is_final() {
        return Ok(());
    }
    let Some(row) = entity::find::<Notification>(&Pool, &delivery.notification_id)? else { return Ok(()) };
    let now = clock::now();
    if let Some(reason) = obstacle(&row, &delivery, now)? {
        return finish(delivery, DeliveryStatus::Rejected, Some(reason));
    }
    delivery.status = DeliveryStatus::Sending;
    delivery.attempt_count = work.attempt;
    delivery.attempted_at = Some(now);
    delivery.next_retry_at = None;
    // Two workers with one message: the version lets only one of them through.
    database::transaction(|transaction| entity::save(transaction, &mut delivery))?;
    let words = delivery.words.clone().unwrap_or_default();
    let parcel = Parcel {
        channel: delivery.channel,
        to: delivery.recipient.clone().unwrap_or_default(),
        words,
        reference: delivery.id.clone(),
        event_type: row.r#type.clone(),
    };
    match failover::send(&parcel)? {
        Sending::Taken(receipt) => {
            delivery.provider_id = receipt.provider_id;
            delivery.provider_message_id = receipt.message_id;
            delivery.cost_micro = receipt.cost_micro;
            delivery.delivered_at = Some(clock::now());
            finish(delivery, DeliveryStatus::Sent, None)
        }
        Sending::Refused(error) => {
            fall_back(&row, delivery.channel)?;
            finish(delivery, DeliveryStatus::Bounced, Some(error))
        }
        Sending::Failed { error, may_pass } => {
            if may_pass && delivery.attempt_count < delivery.max_attempts {
                return again(delivery, row.criticality, error);
            }
            fall_back(&row, delivery.channel)?;
            finish(delivery, DeliveryStatus::Failed, Some(error))
        }
    }
}

/// Why it must not be sent any more.
fn obstacle(row: &Stored<Notification>, delivery: &Stored<Delivery>, now: Timestamp) -> Result<Option<String>> {
    if row.status == Status::Cancelled {
        return Ok(Some("The notification was cancelled.".into()));
    }
    if row.expires_at.is_some_and(|end| end <= now) {
        return Ok(Some("The notification has expired.".into()));
    }
    // Attempts after the first are part of what was counted.
    if delivery.attempt_count > 0 || row.criticality == Criticality::Critical {
        return Ok(None);
    }
    let may = limits::take(&Pool, &row.user_id, delivery.channel)?;
    Ok((!may).then(|| limits::OVER.to_string()))
}

fn again(mut delivery: Stored<Delivery>, criticality: Criticality, error: String) -> Result<()> {
    let pause = backoff::pause(criticality, delivery.attempt_count, &delivery.id);
    delivery.status = DeliveryStatus::Pending;
    delivery.last_error = Some(error);
    delivery.next_retry_at = Some(clock::now().plus(pause));
    database::transaction(|transaction| {
        entity::save(transaction, &mut delivery)?;
        process::enqueue(transaction, &delivery.id, delivery.attempt_count + 1, pause)
    })
}

fn finish(mut delivery: Stored<Delivery>, status: DeliveryStatus, error: Option<String>) -> Result<()> {
    delivery.status = status;
    delivery.last_error = error;
    delivery.next_retry_at = None;
    database::transaction(|transaction| {
        lock(transaction, &delivery.notification_id)?;
        entity::save(transaction, &mut delivery)?;
        settle(transaction, &delivery.notification_id)
    })
}

/// The next channel of the chain that a channel falls back to. Before the failed delivery ends, so that a failure here is tried
/// again, and nobody hears of a failed notification that is still on its way.
fn fall_back(row: &Stored<Notification>, failed: Channel) -> Result<()> {
    for channel in Settings::all()?.fallback(failed) {
        if process::add_channel(row, &[channel])? {
            logging::info!("a notification falls back to another channel", notification_id = row.id, channel = channel);
            break;
        }
    }
    Ok(())
}
