//! Counts: by status, category and channel.

use std::collections::BTreeMap;

use berth_sdk::prelude::*;

use crate::preference::MANAGE;

/// What is counted.
#[data]
pub struct StatsQuery {
    /// `organization` for everybody's, which needs the right to manage; the caller's own otherwise.
    pub scope: Option<Reach>,
    /// From this moment on.
    pub from: Option<Timestamp>,
    /// Before this moment.
    pub to: Option<Timestamp>,
}

/// Whose notifications count.
#[choice]
pub enum Reach {
    /// The caller's.
    Own,
    /// Everybody's.
    Organization,
}

/// The counts.
#[data]
pub struct Stats {
    /// Everything.
    pub total: i64,
    /// What is unread in the inbox.
    pub unread: i64,
    /// By status.
    pub by_status: BTreeMap<String, i64>,
    /// By category.
    pub by_category: BTreeMap<String, i64>,
    /// By channel: deliveries, and how many of them were delivered.
    pub by_channel: BTreeMap<String, ChannelCount>,
}

/// The counts of one channel.
#[data]
#[derive(Default)]
pub struct ChannelCount {
    /// Deliveries.
    pub total: i64,
    /// Those that arrived.
    pub delivered: i64,
    /// Those that did not and will not.
    pub failed: i64,
}

#[data]
struct Line {
    status: String,
    category: String,
    total: i64,
    unread: i64,
}

#[data]
struct ChannelLine {
    channel: String,
    status: String,
    total: i64,
}

/// `GET /api/notifications/stats`.
pub fn stats(Query(wish): Query<StatsQuery>) -> Result<Json<Stats>> {
    let organization_id = auth::organization_id()?;
    let user_id = if wish.scope == Some(Reach::Organization) {
        auth::require(MANAGE)?;
        None
    } else {
        Some(auth::user_id()?)
    };
    let from = wish.from.unwrap_or_else(|| Timestamp::from_millis(0));
    let to = wish.to.unwrap_or_else(|| Timestamp::from_millis(i64::MAX));
    let mut parameters: Vec<database::Value> = vec![organization_id.into(), from.into(), to.into()];
    let mut condition = String::from("organization_id = $1 AND created_at >= $2 AND created_at < $3");
    if let Some(user_id) = user_id {
        parameters.push(user_id.into());
        condition.push_str(" AND user_id = $4");
    }
    let lines: Vec<Line> = database::query_as(
        &Pool,
        &format!(
            "SELECT status, category, COUNT(*) AS total, \
             SUM(CASE WHEN in_inbox = TRUE AND read = FALSE THEN 1 ELSE 0 END) AS unread \
             FROM notification_notifications WHERE {condition} GROUP BY status, category"
        ),
        &parameters,
    )?;
    let channels: Vec<ChannelLine> = database::query_as(
        &Pool,
        &format!(
            "SELECT channel, status, COUNT(*) AS total FROM notification_delivery_logs WHERE {condition} \
             GROUP BY channel, status"
        ),
        &parameters,
    )?;
    Ok(Json(summed(&lines, &channels)))
}

fn summed(lines: &[Line], channels: &[ChannelLine]) -> Stats {
    let mut stats = Stats {
        total: 0,
        unread: 0,
        by_status: BTreeMap::new(),
        by_category: BTreeMap::new(),
        by_channel: BTreeMap::new(),
    };
    for line in lines {
        stats.total += line.total;
        stats.unread += line.unread;
        *stats.by_status.entry(line.status.clone()).or_default() += line.total;
        *stats.by_category.entry(line.category.clone()).or_default() += line.total;
    }
    for line in channels {
        let count = stats.by_channel.entry(line.channel.clone()).or_default();
        count.total += line.total;
        match line.status.as_str() {
            "SENT" | "DELIVERED" | "OPENED" | "CLICKED" => count.delivered += line.total,
            "FAILED" | "BOUNCED" | "REJECTED" | "UNSUBSCRIBED" => count.failed += line.total,
            _ => {}
        }
    }
    stats
}
