//! Deliveries: one row for each channel of each notification, with what was tried and what came of it.

pub mod attempt;
pub mod backoff;
pub mod process;

use berth_sdk::prelude::*;

use crate::{
    kinds::Channel,
    notification::{Notification, Status, announce},
    template::Words,
};

/// How far a delivery has come.
#[choice(upper)]
pub enum DeliveryStatus {
    /// Not tried yet, or to be tried again.
    Pending,
    /// Being tried.
    Sending,
    /// A provider has taken it.
    Sent,
    /// It has arrived.
    Delivered,
    /// It was opened.
    Opened,
    /// A link in it was followed.
    Clicked,
    /// Given up.
    Failed,
    /// The address does not take it.
    Bounced,
    /// Not tried: no address, over the limit, or no longer wanted.
    Rejected,
    /// The recipient does not want any.
    Unsubscribed,
}

impl DeliveryStatus {
    /// Whether something reached the recipient.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Sent | Self::Delivered | Self::Opened | Self::Clicked)
    }

    /// Whether nothing will change any more.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Sending)
    }
}

/// One channel of one notification.
#[entity(table = "notification_delivery_logs", name = "delivery", sort = "createdAt")]
pub struct Delivery {
    /// The notification.
    pub notification_id: Id,
    /// The channel.
    pub channel: Channel,
    /// The provider that took it; none for the inbox and the host's own mail.
    pub provider_id: Option<Id>,
    /// How far it has come.
    pub status: DeliveryStatus,
    /// What the provider calls it.
    pub provider_message_id: Option<String>,
    /// How often it was tried.
    #[field(default = 0)]
    pub attempt_count: i64,
    /// How often it is tried at most.
    #[field(default = 1)]
    pub max_attempts: i64,
    /// When it is tried again.
    pub next_retry_at: Option<Timestamp>,
    /// Why it did not arrive.
    pub last_error: Option<String>,
    /// The price, in micro-cents.
    pub cost_micro: Option<i64>,
    /// When it was last tried.
    pub attempted_at: Option<Timestamp>,
    /// When it arrived.
    pub delivered_at: Option<Timestamp>,
    /// The digest that carries it.
    pub batch_id: Option<Id>,
    /// The recipient; the hourly limits go by it.
    #[field(hidden)]
    pub user_id: Id,
    /// The address.
    #[field(hidden)]
    pub recipient: Option<String>,
    /// What is sent.
    #[field(hidden)]
    pub words: Option<Words>,
}

impl Rules for Delivery {}

impl entity::Column for Words {
    const KIND: entity::Kind = entity::Kind::Json;
}

/// The status of a notification by what became of its deliveries. Those that wait for a digest do not hold it up.
pub fn overall(deliveries: &[(DeliveryStatus, bool)]) -> Status {
    let succeeded = deliveries.iter().any(|(status, _)| status.is_success());
    let open = deliveries.iter().any(|(status, is_collected)| !status.is_final() && !is_collected);
    let failed = deliveries.iter().any(|(status, _)| status.is_final() && !status.is_success());
    let collected = deliveries.iter().any(|(status, is_collected)| !status.is_final() && *is_collected);
    match (open, succeeded, failed) {
        (true, ..) => Status::Processing,
        (false, true, true) => Status::PartiallyDelivered,
        (false, true, false) => Status::Delivered,
        (false, false, _) if collected => Status::Processing,
        (false, false, _) => Status::Failed,
    }
}

/// Lets whoever else is at this notification or its deliveries wait until the end of the transaction. It comes before the rows
/// of deliveries, so that nobody waits for somebody who waits for them.
pub fn lock(transaction: &Transaction, notification_id: &Id) -> Result<()> {
    transaction
        .execute("UPDATE notification_notifications SET version = version WHERE id = $1", params![notification_id])?;
    Ok(())
}

/// Brings a notification up to date with its deliveries, and tells what has become of it. It must be locked: of two deliveries
/// that end at once the second would fail, and be sent once more.
pub fn settle(transaction: &Transaction, notification_id: &Id) -> Result<()> {
    let Some(mut row) = entity::find::<Notification>(transaction, notification_id)? else { return Ok(()) };
    if matches!(row.status, Status::Cancelled | Status::Expired) {
        return Ok(());
    }
    let deliveries = Select::<Delivery>::new().equal("notification_id", notification_id).limit(100).all(transaction)?;
    let states: Vec<(DeliveryStatus, bool)> =
        deliveries.iter().map(|delivery| (delivery.status, delivery.batch_id.is_some())).collect();
    let before = row.status;
    row.status = overall(&states);
    row.channels_delivered.clear();
    for delivery in deliveries.iter().filter(|delivery| delivery.status.is_success()) {
        if !row.channels_delivered.contains(&delivery.channel) {
            row.channels_delivered.push(delivery.channel);
        }
    }
    entity::save(transaction, &mut row)?;
    if row.status != before {
        match row.status {
            Status::Delivered | Status::PartiallyDelivered => announce(transaction, "notification.delivered", &row)?,
            Status::Failed => announce(transaction, "notification.failed", &row)?,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{DeliveryStatus::*, *};

    #[test]
    fn a_notification_is_what_its_deliveries_are() {
        let of = |states: &[DeliveryStatus]| overall(&states.iter().map(|state| (*state, false)).collect::<Vec<_>>());
        assert_eq!(of(&[Delivered, Sent]), Status::Delivered);
        assert_eq!(of(&[Delivered, Failed]), Status::PartiallyDelivered);
        assert_eq!(of(&[Bounced, Rejected]), Status::Failed);
        assert_eq!(of(&[Delivered, Pending]), Status::Processing);
        assert_eq!(of(&[]), Status::Failed);
        assert_eq!(overall(&[(Delivered, false), (Pending, true)]), Status::Delivered);
        assert_eq!(overall(&[(Pending, true)]), Status::Processing);
    }
}
