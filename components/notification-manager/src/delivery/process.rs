//! The way of a notification: wanted? now? through which channels? in which words? Then into the inbox and on to the others.

use std::time::Duration;

use berth_sdk::prelude::*;

use super::{Delivery, DeliveryStatus, backoff, lock, settle};
use crate::{
    channel::Settings,
    digest, directory,
    directory::Member,
    escalation,
    kinds::{Channel, Criticality},
    limits,
    notification::{Notification, Status, stream},
    preference::{self, Reader, quiet, resolve, resolve::Effective},
    provider,
    template::{self, Template, Words},
};

/// The work message of one delivery.
pub const DELIVER: &str = "notification.deliver";

/// A notification to bring on its way.
#[data]
struct Work {
    notification_id: Id,
}

/// `notification.process`.
pub fn process(envelope: &Envelope) -> Result<()> {
    let work: Work = envelope.data()?;
    let Some(row) = entity::find::<Notification>(&Pool, &work.notification_id)? else { return Ok(()) };
    if row.status != Status::Pending {
        return Ok(());
    }
    let now = clock::now();
    if row.expires_at.is_some_and(|end| end <= now) {
        return end(row, Status::Expired, "EXPIRED");
    }
    let Some(member) = directory::member(&row.user_id)?.filter(Member::is_reachable) else {
        return end(row, Status::Cancelled, "RECIPIENT_LEFT");
    };
    let wishes = preference::effective(&reader(&row), &row.r#type, row.category)?;
    if !wishes.enabled {
        return end(row, Status::Cancelled, "NOT_WANTED");
    }
    if row.criticality.rank() < wishes.min_criticality.rank() {
        return end(row, Status::Cancelled, "BELOW_MINIMUM_CRITICALITY");
    }
    let passes = row.criticality == Criticality::Critical && wishes.allow_critical;
    if let Some(until) = quiet::quiet_until(&wishes, now).filter(|_| !passes) {
        return hold(row, until);
    }
    set_out(row, &member, &wishes, now)
}

fn reader(row: &Notification) -> Reader<'_> {
    Reader { user_id: &row.user_id, team_id: row.team_id.as_deref(), project_id: row.project_id.as_deref() }
}

fn end(mut row: Stored<Notification>, status: Status, reason: &str) -> Result<()> {
    row.status = status;
    row.status_reason = Some(reason.into());
    row.escalation_due_at = None;
    database::transaction(|transaction| entity::save(transaction, &mut row))
}

fn hold(mut row: Stored<Notification>, until: Timestamp) -> Result<()> {
    row.status = Status::Held;
    row.status_reason = Some("QUIET_HOURS".into());
    row.scheduled_for = Some(until);
    database::transaction(|transaction| entity::save(transaction, &mut row))
}

/// What is known before a delivery is written.
pub struct Plan<'a> {
    /// The recipient.
    pub member: &'a Member,
    /// What they want.
    pub wishes: &'a Effective,
    /// The templates of the type.
    pub templates: &'a [Template],
}

/// Writes the deliveries and the notification, in one transaction.
fn set_out(mut row: Stored<Notification>, member: &Member, wishes: &Effective, now: Timestamp) -> Result<()> {
    let settings = Settings::all()?;
    let available = provider::available(&settings)?;
    let templates = template::of_type(&row.r#type)?;
    let chain = escalation::chain_for(&row)?;
    let mut requested = row.channels_requested.clone();
    if let Some(first) = chain.as_ref().and_then(|chain| chain.at_once()) {
        requested.extend(first.channels.iter().filter(|channel| available.contains(channel)));
        // Asking for some leaves out those by criticality.
        if row.channels_requested.is_empty() {
            requested.extend(row.criticality.channels().iter().filter(|channel| available.contains(channel)));
        }
    }
    let choice = resolve::Choice {
        wishes,
        criticality: row.criticality,
        requested: &requested,
        is_online: stream::is_online(&row.user_id),
        available: &available,
    };
    let channels: Vec<Channel> =
        resolve::choose(&choice).into_iter().filter(|channel| settings.is_enabled(*channel)).collect();
    if channels.is_empty() {
        return end(row, Status::Cancelled, "NO_CHANNEL_WANTED");
    }
    let plan = Plan { member, wishes, templates: &templates };
    database::transaction(|transaction| {
        for channel in &channels {
            if *channel == Channel::InApp {
                to_inbox(transaction, &mut row, &plan, now)?;
            } else {
                write(transaction, &row, *channel, &plan)?;
            }
        }
        row.status = Status::Processing;
        row.status_reason = None;
        escalation::arm(&mut row, chain.as_ref(), now);
        entity::save(transaction, &mut row)?;
        settle(transaction, &row.id)
    })
}

/// Puts it into the inbox.
fn to_inbox(transaction: &Transaction, row: &mut Stored<Notification>, plan: &Plan<'_>, now: Timestamp) -> Result<()> {
    let may = row.criticality == Criticality::Critical || limits::take(transaction, &row.user_id, Channel::InApp)?;
    if may {
        let words = words(row, Channel::InApp, plan);
        row.title = words.subject.chars().take(500).collect();
        row.message = words.text.chars().take(20_000).collect();
        row.in_inbox = true;
        row.inbox_at = Some(now);
    }
    let delivery = Delivery {
        status: if may { DeliveryStatus::Delivered } else { DeliveryStatus::Rejected },
        last_error: (!may).then(|| limits::OVER.to_string()),
        attempt_count: 1,
        attempted_at: Some(now),
        delivered_at: may.then_some(now),
        ..fresh(row, Channel::InApp)
    };
    entity::create(transaction, delivery)?;
    Ok(())
}

/// Writes a delivery of an external channel and puts it into the queue or into a digest.
pub fn write(transaction: &Transaction, row: &Stored<Notification>, channel: Channel, plan: &Plan<'_>) -> Result<()> {
    let wish = plan.wishes.of(channel);
    let recipient = match channel {
        Channel::Email => Some(plan.member.email.clone()),
        _ => wish.address.clone(),
    };
    let mut delivery = Delivery { words: Some(words(row, channel, plan)), recipient, ..fresh(row, channel) };
    if delivery.recipient.is_none() {
        delivery.status = DeliveryStatus::Rejected;
        delivery.last_error = Some(format!("The recipient has no address for {channel}."));
        entity::create(transaction, delivery)?;
        return Ok(());
    }
    let collected =
        wish.digest.and_then(resolve::Digest::frequency).filter(|_| row.criticality != Criticality::Critical);
    if let Some(frequency) = collected {
        delivery.batch_id = Some(digest::collect(transaction, &row.user_id, channel, frequency)?);
        entity::create(transaction, delivery)?;
        return Ok(());
    }
    let delivery = entity::create(transaction, delivery)?;
    enqueue(transaction, &delivery.id, 1, Duration::ZERO)
}

/// Puts one attempt into the queue.
pub fn enqueue(transaction: &Transaction, delivery_id: &Id, attempt: i64, after: Duration) -> Result<()> {
    transaction.enqueue(DELIVER, &json!({ "deliveryId": delivery_id, "attempt": attempt }), after)?;
    Ok(())
}

fn fresh(row: &Stored<Notification>, channel: Channel) -> Delivery {
    Delivery {
        notification_id: row.id.clone(),
        channel,
        provider_id: None,
        status: DeliveryStatus::Pending,
        provider_message_id: None,
        attempt_count: 0,
        max_attempts: backoff::attempts_max(row.criticality),
        next_retry_at: None,
        last_error: None,
        cost_micro: None,
        attempted_at: None,
        delivered_at: None,
        batch_id: None,
        user_id: row.user_id.clone(),
        recipient: None,
        words: None,
    }
}

fn words(row: &Notification, channel: Channel, plan: &Plan<'_>) -> Words {
    let mut values = row.values();
    if let Some(members) = values.as_object_mut() {
        members.insert("recipientName".into(), json!(plan.member.name));
        members.insert("recipientEmail".into(), json!(plan.member.email));
    }
    let mut text = row.message.clone();
    if channel != Channel::InApp
        && let Some(url) = &row.action_url
    {
        text.push_str(&format!("\n\n{}: {url}", row.action_label.as_deref().unwrap_or("Open")));
    }
    let plain = Words { subject: row.title.clone(), text, html: None };
    template::words(plan.templates, channel, &plan.wishes.locale, &values, &plain)
}

/// A delivery through a further channel of a notification that is on its way: a fallback or an escalation. Nothing happens
/// for a channel that is switched off, has no provider or no address, or has been used.
pub fn add_channel(row: &Stored<Notification>, channels: &[Channel]) -> Result<bool> {
    let settings = Settings::all()?;
    let available = provider::available(&settings)?;
    let Some(member) = directory::member(&row.user_id)?.filter(Member::is_reachable) else { return Ok(false) };
    let wishes = preference::effective(&reader(row), &row.r#type, row.category)?;
    let templates = template::of_type(&row.r#type)?;
    let plan = Plan { member: &member, wishes: &wishes, templates: &templates };
    database::transaction(|transaction| {
        // Two channels that fail at once may fall back to the same one.
        lock(transaction, &row.id)?;
        let used = Select::<Delivery>::new().equal("notification_id", &row.id).limit(100).all(transaction)?;
        let mut is_added = false;
        for channel in channels {
            let wish = wishes.of(*channel);
            let has_address = *channel == Channel::Email || wish.address.is_some();
            let fits = *channel != Channel::InApp
                && available.contains(channel)
                && settings.is_enabled(*channel)
                && has_address
                && wish.enabled != Some(false)
                && !used.iter().any(|delivery| delivery.channel == *channel);
            if fits {
                write(transaction, row, *channel, &plan)?;
                is_added = true;
            }
        }
        Ok(is_added)
    })
}
