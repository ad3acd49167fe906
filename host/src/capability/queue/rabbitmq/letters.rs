//! Dead letters and figures, read from the broker itself.

use std::sync::Arc;

use lapin::Channel;
use lapin::message::BasicGetMessage;
use lapin::options::{BasicAckOptions, BasicGetOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};

use super::RabbitMq;
use super::link::{answer, unavailable};
use super::wire;
#[cfg(test)]
use crate::capability::queue::backend::DeadLetter;
use crate::capability::queue::backend::{QueueError, QueueStats};

/// The most dead letters that are looked through for one answer: what lies deeper is not shown.
#[cfg(test)]
const LOOK_MAX: usize = 1_000;

impl RabbitMq {
    pub(super) async fn read_stats(&self) -> Result<Vec<QueueStats>, QueueError> {
        let link = self.link().await?;
        let mut plugins: Vec<String> = self.patterns.read().keys().cloned().collect();
        plugins.extend(self.intakes.iter().map(|intake| intake.key().clone()));
        plugins.sort();
        plugins.dedup();
        let channel = link.channel().await?;
        let mut stats = Vec::new();
        for plugin in plugins {
            link.declare_queue(&plugin).await?;
            let ready = count(&channel, link.queue(&plugin)).await?;
            let dead_letters = count(&channel, link.dead_letter_queue(&plugin)).await?;
            // What is sent ahead to other hosts is not known here. The broker sends in order, so that the oldest message is
            // among what was sent ahead, wherever the plugin consumes.
            let intake = self.intakes.get(&plugin).map(|intake| Arc::clone(&intake));
            let (unsettled, in_flight) = intake.as_ref().map_or((0, 0), |intake| intake.counts());
            stats.push(QueueStats {
                plugin,
                depth: ready + unsettled as u64,
                in_flight: in_flight as u64,
                dead_letters,
                oldest_at: intake.and_then(|intake| intake.oldest_at()),
            });
        }
        channel.close(200, "done".into()).await.ok();
        Ok(stats)
    }

    #[cfg(test)]
    pub(super) async fn read_dead_letters(
        &self,
        plugin: &str,
        limit: usize,
        offset: usize,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let link = self.link().await?;
        link.declare_queue(plugin).await?;
        let channel = link.channel().await?;
        let mut letters = Vec::new();
        for index in 0..offset.saturating_add(limit).min(LOOK_MAX) {
            let Some(found) = fetch(&channel, link.dead_letter_queue(plugin)).await? else { break };
            if index >= offset {
                letters.push(read_letter(&found));
            }
        }
        // With its channel everything that was fetched goes back to where it was.
        channel.close(200, "done".into()).await.map_err(unavailable)?;
        Ok(letters)
    }

    pub(super) async fn redrive_all(&self, plugin: &str) -> Result<u64, QueueError> {
        let link = self.link().await?;
        link.declare_queue(plugin).await?;
        let channel = link.channel().await?;
        // What dies again while this runs stays dead.
        let there = count(&channel, link.dead_letter_queue(plugin)).await?;
        let mut redriven = 0;
        while redriven < there {
            let Some(found) = fetch(&channel, link.dead_letter_queue(plugin)).await? else { break };
            let headers = found.delivery.properties.headers().as_ref();
            let body = &found.delivery.data;
            let properties = match wire::read(body, headers) {
                Ok(message) => wire::properties(&message, wire::text(headers, wire::KEY).as_deref(), 0),
                // What could not be read goes round and is a dead letter again.
                Err(_) => found.delivery.properties.clone(),
            };
            link.publish_to_queue(link.queue(plugin), body, properties).await?;
            channel.basic_ack(found.delivery.delivery_tag, BasicAckOptions::default()).await.map_err(unavailable)?;
            redriven += 1;
        }
        channel.close(200, "done".into()).await.ok();
        Ok(redriven)
    }
}

async fn fetch(channel: &Channel, queue: ShortString) -> Result<Option<BasicGetMessage>, QueueError> {
    answer(channel.basic_get(queue, BasicGetOptions::default())).await
}

async fn count(channel: &Channel, queue: ShortString) -> Result<u64, QueueError> {
    let look = QueueDeclareOptions::durable().passive();
    Ok(answer(channel.queue_declare(queue, look, FieldTable::default())).await?.message_count().into())
}

#[cfg(test)]
fn read_letter(found: &BasicGetMessage) -> DeadLetter {
    let headers = found.delivery.properties.headers().as_ref();
    let body = &found.delivery.data;
    // What is no envelope is shown as it is.
    let message = wire::read(body, headers).unwrap_or_else(|_| wire::unreadable(body));
    DeadLetter {
        failures: wire::number(headers, wire::FAILURES).and_then(|failures| u32::try_from(failures).ok()).unwrap_or(0),
        // Without a reason of ours the broker gave it up.
        reason: wire::text(headers, wire::REASON).unwrap_or_else(|| "handed out too often and never settled".into()),
        message,
    }
}
