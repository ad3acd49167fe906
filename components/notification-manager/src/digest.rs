//! Digests: what somebody wants collected, sent together when its time has come.

use std::time::Duration;

use berth_sdk::{events::Message, prelude::*};

use crate::{
    delivery::{Delivery, DeliveryStatus, lock, settle},
    directory,
    directory::Member,
    kinds::{Channel, Frequency},
    notification::Notification,
    provider::{
        failover::{self, Outcome as Sending},
        send::Parcel,
    },
    template::Words,
};

/// The work message of one digest.
const SEND: &str = "notification.digest";
/// Entries of one mail; the rest of a digest follows in the next one.
const ENTRIES_MAX: usize = 200;
/// Digests that one tick sends off.
const BATCHES_MAX: usize = 500;
/// How often a digest is tried.
const ATTEMPTS_MAX: i64 = 5;

/// How far a digest has come.
#[choice(upper)]
pub enum BatchStatus {
    /// It takes entries.
    Collecting,
    /// Its time has come.
    Ready,
    /// It is being sent.
    Processing,
    /// It was sent.
    Delivered,
    /// It was given up.
    Failed,
}

/// What one user is told together.
#[entity(table = "notification_batches", name = "digest")]
pub struct Batch {
    /// The recipient.
    pub user_id: Id,
    /// The channel.
    pub channel: Channel,
    /// How often.
    pub frequency: Frequency,
    /// How far it has come.
    pub status: BatchStatus,
    /// It takes entries until then.
    pub collect_until: Timestamp,
    /// When it was sent.
    pub delivered_at: Option<Timestamp>,
    /// How often it was tried.
    #[field(default = 0)]
    pub attempt_count: i64,
}

impl Rules for Batch {}

/// How long a digest collects. An hour can be made shorter by a setting.
fn period(frequency: Frequency) -> Duration {
    match frequency {
        Frequency::Hourly => Duration::from_secs(config::get_or("digest_hourly_seconds", 3_600)),
        Frequency::Daily => Duration::from_secs(24 * 3_600),
        Frequency::Weekly => Duration::from_secs(7 * 24 * 3_600),
    }
}

/// Keeps a digest from being sent off before the transaction ends; false when that has happened.
fn hold(transaction: &Transaction, batch_id: &Id) -> Result<bool> {
    let changed = transaction.execute(
        "UPDATE notification_batches SET version = version WHERE id = $1 AND status = 'COLLECTING'",
        params![batch_id],
    )?;
    Ok(changed > 0)
}

/// The digest that takes the next entry of a user: the one that collects, or a new one.
pub fn collect(transaction: &Transaction, user_id: &Id, channel: Channel, frequency: Frequency) -> Result<Id> {
    // Of two entries at once the later one finds the digest that the other begins.
    transaction.hold("notification_holds", &format!("digest:{user_id}"))?;
    let now = clock::now();
    let open = Select::<Batch>::new()
        .equal("user_id", user_id)
        .equal("channel", channel)
        .equal("frequency", frequency)
        .equal("status", BatchStatus::Collecting)
        .condition("\"collect_until\" > ?", [now])
        .first(transaction)?;
    if let Some(batch) = open
        && hold(transaction, &batch.id)?
    {
        return Ok(batch.id);
    }
    let batch = Batch {
        user_id: user_id.clone(),
        channel,
        frequency,
        status: BatchStatus::Collecting,
        collect_until: now.plus(period(frequency)),
        delivered_at: None,
        attempt_count: 0,
    };
    Ok(entity::create(transaction, batch)?.id)
}

#[data]
struct Due {
    id: Id,
    organization_id: Id,
}

/// The timer `digest`: sends off what has collected long enough.
pub fn tick(_: &Envelope) -> Result<()> {
    let now = clock::now();
    let due: Vec<Due> = database::query_as(
        &Pool,
        &format!(
            "SELECT id, organization_id AS \"organizationId\" FROM notification_batches \
             WHERE status = 'COLLECTING' AND collect_until <= $1 ORDER BY collect_until, id LIMIT {BATCHES_MAX}"
        ),
        params![now],
    )?;
    for batch in &due {
        database::transaction(|transaction| {
            let changed = transaction.execute(
                "UPDATE notification_batches SET status = 'READY', updated_at = $2, version = version + 1 \
                 WHERE id = $1 AND status = 'COLLECTING'",
                params![&batch.id, now],
            )?;
            if changed == 1 {
                let message = Message::new(SEND, &json!({ "batchId": batch.id }))?;
                transaction.enqueue_message(&message.for_organization(batch.organization_id.as_str()))?;
            }
            Ok::<_, Problem>(())
        })?;
    }
    Ok(())
}

#[data]
struct Work {
    batch_id: Id,
}

/// `notification.digest`.
pub fn send(envelope: &Envelope) -> Result<Outcome> {
    let work: Work = envelope.data()?;
    let Some(mut batch) = entity::find::<Batch>(&Pool, &work.batch_id)? else { return Ok(Outcome::Acknowledged) };
    if !matches!(batch.status, BatchStatus::Ready | BatchStatus::Processing) {
        return Ok(Outcome::Acknowledged);
    }
    let deliveries = Select::<Delivery>::new()
        .equal("batch_id", &batch.id)
        .equal("status", DeliveryStatus::Pending)
        .limit(i64::try_from(ENTRIES_MAX).unwrap_or(i64::MAX))
        .all(&Pool)?;
    let ids: Vec<Id> = deliveries.iter().map(|delivery| delivery.notification_id.clone()).collect();
    let notifications = Select::<Notification>::new().one_of("id", ids).sort("createdAt").all(&Pool)?;
    batch.status = BatchStatus::Processing;
    batch.attempt_count += 1;
    database::transaction(|transaction| entity::save(transaction, &mut batch))?;
    let member = directory::member(&batch.user_id)?.filter(Member::is_reachable);
    let to = deliveries.iter().find_map(|delivery| delivery.recipient.clone());
    let result = match (member, to) {
        (Some(_), Some(to)) if !notifications.is_empty() => failover::send(&Parcel {
            channel: batch.channel,
            to,
            words: words(&notifications),
            reference: batch.id.clone(),
            event_type: "notification.digest".into(),
        })?,
        _ => Sending::Failed { error: "There is nobody to be told, or nothing to tell.".into(), may_pass: false },
    };
    if matches!(result, Sending::Failed { may_pass: true, .. }) && batch.attempt_count < ATTEMPTS_MAX {
        return Ok(Outcome::Retry(None));
    }
    finish(batch, deliveries, &result)?;
    Ok(Outcome::Acknowledged)
}

fn finish(mut batch: Stored<Batch>, mut deliveries: Vec<Stored<Delivery>>, result: &Sending) -> Result<()> {
    let now = clock::now();
    // Two digests with the same notifications lock those in one order, so that neither waits for the other for ever.
    deliveries.sort_by(|one, other| one.notification_id.cmp(&other.notification_id));
    database::transaction(|transaction| {
        for mut delivery in deliveries {
            lock(transaction, &delivery.notification_id)?;
            delivery.attempt_count += 1;
            delivery.attempted_at = Some(now);
            match result {
                Sending::Taken(receipt) => {
                    delivery.status = DeliveryStatus::Sent;
                    delivery.delivered_at = Some(now);
                    delivery.provider_id.clone_from(&receipt.provider_id);
                    delivery.provider_message_id.clone_from(&receipt.message_id);
                }
                Sending::Refused(error) => {
                    delivery.status = DeliveryStatus::Bounced;
                    delivery.last_error = Some(error.clone());
                }
                Sending::Failed { error, .. } => {
                    delivery.status = DeliveryStatus::Failed;
                    delivery.last_error = Some(error.clone());
                }
            }
            entity::save(transaction, &mut delivery)?;
            settle(transaction, &delivery.notification_id)?;
        }
        let is_sent = matches!(result, Sending::Taken(_));
        batch.status = if is_sent { BatchStatus::Delivered } else { BatchStatus::Failed };
        batch.delivered_at = is_sent.then_some(now);
        let left = Select::<Delivery>::new()
            .equal("batch_id", &batch.id)
            .equal("status", DeliveryStatus::Pending)
            .count(transaction)?;
        if left > 0 {
            // More than one mail holds: nothing that was collected is lost.
            batch.status = BatchStatus::Ready;
            batch.attempt_count = 0;
            transaction.enqueue(SEND, &json!({ "batchId": batch.id }), Duration::ZERO)?;
        }
        entity::save(transaction, &mut batch)
    })
}

/// The words of a digest: a line for each entry.
fn words(notifications: &[Stored<Notification>]) -> Words {
    let subject = match notifications {
        [only] => only.title.clone(),
        many => format!("{} notifications", many.len()),
    };
    let mut text = String::new();
    for row in notifications {
        let link = row.action_url.as_ref().map(|url| format!(" ({url})")).unwrap_or_default();
        text.push_str(&format!("- {}: {}{link}\n", row.title, row.message.replace('\n', " ")));
    }
    Words { subject, text, html: None }
}
