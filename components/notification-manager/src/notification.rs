//! Notifications: one row for each recipient of each piece of news, from its making to its end.

pub mod create;
pub mod inbox;
pub mod send;
pub mod stats;
pub mod stream;

use berth_sdk::{
    auth::PrincipalKind,
    prelude::*,
    serde_json::{Map, Value},
};

use crate::kinds::{Category, Channel, Criticality};

/// How far it has come.
#[choice(upper)]
pub enum Status {
    /// Made, and on its way.
    Pending,
    /// Some channels have not answered yet.
    Processing,
    /// Every channel has delivered.
    Delivered,
    /// Some have.
    PartiallyDelivered,
    /// None has.
    Failed,
    /// Its time has not come.
    Scheduled,
    /// Quiet hours.
    Held,
    /// Too late.
    Expired,
    /// Taken back, not wanted, or for somebody who has left.
    Cancelled,
}

impl Status {
    /// Whether it has not begun yet.
    pub const fn is_waiting(self) -> bool {
        matches!(self, Self::Pending | Self::Scheduled | Self::Held)
    }
}

/// A notification of one recipient.
#[entity(table = "notification_notifications", name = "notification", sort = "-createdAt")]
pub struct Notification {
    /// The recipient.
    pub user_id: Id,
    /// The event type.
    #[field(filter)]
    pub r#type: String,
    /// One line.
    #[field(min = 1, max = 500, plain)]
    pub title: String,
    /// The text.
    #[field(max = 20_000)]
    pub message: String,
    /// Whether the recipient has seen it.
    #[field(default = false)]
    pub read: bool,
    /// When.
    pub read_at: Option<Timestamp>,
    /// What it is about.
    pub category: Category,
    /// How much it matters.
    pub criticality: Criticality,
    /// The service it comes from.
    #[field(filter)]
    pub source_module: String,
    /// As in `task`.
    #[field(filter)]
    pub source_resource_type: Option<String>,
    /// What it is about.
    #[field(filter)]
    pub source_resource_id: Option<String>,
    /// Where it leads.
    pub action_url: Option<String>,
    /// What the link says.
    pub action_label: Option<String>,
    /// The sender's own members.
    #[field(default)]
    pub metadata: Map<String, Value>,
    /// The channels asked for; empty: by criticality.
    #[field(default)]
    pub channels_requested: Vec<Channel>,
    /// The channels that have delivered.
    #[field(default)]
    pub channels_delivered: Vec<Channel>,
    /// How far it has come.
    pub status: Status,
    /// Why it is held, cancelled or expired.
    pub status_reason: Option<String>,
    /// When it goes on.
    pub scheduled_for: Option<Timestamp>,
    /// When it is too late.
    pub expires_at: Option<Timestamp>,
    /// When the recipient took note.
    pub acknowledged_at: Option<Timestamp>,
    /// What makes it the same as another one.
    pub dedup_key: Option<String>,
    /// The digest it is part of.
    pub batch_id: Option<Id>,
    /// The chain that escalates it; absent for the built-in one.
    pub escalation_chain_id: Option<Id>,
    /// The last level that has been reached.
    #[field(default = 0)]
    pub escalation_level: i64,
    /// The notification that this one escalates.
    pub escalated_from: Option<Id>,
    /// The team it is about.
    pub team_id: Option<Id>,
    /// The project it is about.
    pub project_id: Option<Id>,
    /// Whether it stands in the inbox.
    #[field(hidden, default = false)]
    pub in_inbox: bool,
    /// Since when it stands in the inbox; the stream goes by it.
    pub inbox_at: Option<Timestamp>,
    /// When the next level is due.
    #[field(hidden)]
    pub escalation_due_at: Option<Timestamp>,
    /// When what it is about was resolved.
    #[field(hidden)]
    pub resolved_at: Option<Timestamp>,
    /// The values for templates.
    #[field(hidden, default)]
    pub data: Map<String, Value>,
}

impl Rules for Notification {
    /// Nobody reads another user's inbox. The service itself, which works for everybody, does.
    fn scope() -> Option<Condition> {
        let principal = auth::principal();
        match principal.kind {
            PrincipalKind::System => None,
            _ => Some(Condition::new("\"user_id\" = ?", [principal.user_id.unwrap_or_default()])),
        }
    }
}

impl Notification {
    /// What templates can name.
    pub fn values(&self) -> Value {
        let mut values = self.data.clone();
        for (name, value) in &self.metadata {
            values.entry(name.clone()).or_insert_with(|| value.clone());
        }
        for (name, value) in [
            ("title", json!(self.title)),
            ("message", json!(self.message)),
            ("body", json!(self.message)),
            ("eventType", json!(self.r#type)),
            ("actionUrl", json!(self.action_url)),
            ("actionLabel", json!(self.action_label)),
            ("category", json!(self.category)),
            ("criticality", json!(self.criticality)),
        ] {
            values.entry(name.to_string()).or_insert(value);
        }
        Value::Object(values)
    }

    /// What its events carry.
    pub fn facts(id: &Id, row: &Self) -> Value {
        json!({
            "id": id, "notificationId": id, "userId": row.user_id, "type": row.r#type, "title": row.title,
            "category": row.category, "criticality": row.criticality, "status": row.status,
            "channels": row.channels_delivered, "sourceModule": row.source_module,
            "sourceResourceType": row.source_resource_type, "sourceResourceId": row.source_resource_id,
        })
    }
}

/// Publishes what became of a notification.
pub fn announce(transaction: &Transaction, kind: &str, row: &Stored<Notification>) -> Result<()> {
    let message = events::Message::new(kind, &Notification::facts(&row.id, row))?.with_key(row.id.as_str());
    transaction.send(&message)?;
    Ok(())
}

/// The routes of notifications themselves.
pub fn routes() -> Router {
    Router::new()
        .get("/api/notifications", inbox::list)
        .summary("Read the own inbox.")
        .lists::<Notification>()
        .signed_in()
        .post("/api/notifications", send::send)
        .summary("Notify users.")
        .signed_in()
        .get("/api/notifications/unread-count", inbox::unread_count)
        .summary("Count what is unread.")
        .signed_in()
        .put("/api/notifications/read-all", inbox::read_all)
        .summary("Mark everything as read.")
        .signed_in()
        .get("/api/notifications/history", inbox::history)
        .summary("Read the own past notifications.")
        .signed_in()
        .get("/api/notifications/stats", stats::stats)
        .summary("Count notifications by status, channel and category.")
        .signed_in()
        .get("/api/notifications/stream", stream::stream)
        .summary("Follow the own inbox.")
        .signed_in()
        .get("/api/notifications/{id}", inbox::read_one)
        .summary("Read one of the own notifications.")
        .signed_in()
        .delete("/api/notifications/{id}", inbox::remove)
        .summary("Delete one of the own notifications.")
        .signed_in()
        .put("/api/notifications/{id}/read", inbox::mark_read)
        .summary("Mark as read.")
        .signed_in()
        .put("/api/notifications/{id}/unread", inbox::mark_unread)
        .summary("Mark as unread.")
        .signed_in()
        .post("/api/notifications/{id}/acknowledge", inbox::acknowledge)
        .summary("Take note of it, which ends its escalation.")
        .signed_in()
        .post("/api/notifications/{id}/cancel", send::cancel)
        .summary("Take it back before it is delivered.")
        .signed_in()
        .get("/api/notifications/{id}/deliveries", inbox::deliveries)
        .summary("Read the attempts to deliver it.")
        .signed_in()
}
