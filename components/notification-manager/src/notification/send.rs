//! Sending on request, and taking back.

use berth_sdk::{
    auth::PrincipalKind,
    prelude::*,
    serde_json::{Map, Value},
};

use super::{
    Notification, Status,
    create::{self, Made},
};
use crate::{
    event::map,
    kinds::{Category, Channel, Criticality},
};

/// Who may send.
pub const PERMISSION: &str = "notifications.notification.send";
/// Bytes of `metadata`.
const METADATA_BYTES_MAX: usize = 32 * 1024;
/// The service of notifications that are sent by hand.
const MODULE: &str = "api";

/// What is to be told, and to whom.
#[data]
pub struct SendInput {
    /// As in `release.announced`.
    #[field(min = 1, max = 200)]
    pub event_type: String,
    /// Who shall be told.
    #[field(min = 1, max = 500)]
    pub recipient_ids: Vec<Id>,
    /// One line.
    #[field(min = 1, max = 200, plain)]
    pub title: String,
    /// The text.
    #[field(min = 1, max = 10_000)]
    pub body: String,
    /// MEDIUM when absent.
    pub criticality: Option<Criticality>,
    /// By the event type when absent.
    pub category: Option<Category>,
    /// Besides the inbox; by criticality when absent.
    #[field(max = 6)]
    pub channels: Option<Vec<Channel>>,
    /// An address, or a path of the application.
    #[field(max = 2_048)]
    pub action_url: Option<String>,
    /// What the link says.
    #[field(max = 100, plain)]
    pub action_label: Option<String>,
    /// Members for templates and clients.
    pub metadata: Option<Map<String, Value>>,
    /// Not before.
    pub scheduled_for: Option<Timestamp>,
    /// Not after.
    pub expires_at: Option<Timestamp>,
    /// The same key is not told twice within the hour.
    #[field(min = 1, max = 200)]
    pub dedup_key: Option<String>,
    /// What it is about, as in `task`.
    #[field(max = 100, plain)]
    pub source_resource_type: Option<String>,
    /// Its id.
    pub source_resource_id: Option<Id>,
    /// The team it is about.
    pub team_id: Option<Id>,
    /// The project it is about.
    pub project_id: Option<Id>,
}

/// What was made of it.
#[data]
pub struct Sent {
    /// The notifications, in the order of the recipients.
    pub notification_ids: Vec<Id>,
    /// How many there are.
    pub recipient_count: i64,
    /// How many recipients were told the same within the hour.
    pub duplicate_count: i64,
}

impl SendInput {
    /// Judges what no single member says; 400 with every fault.
    pub fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
        if !self.event_type.chars().all(fits) {
            faults.add("eventType", "must be a type such as release.announced");
        }
        if let Some(url) = &self.action_url {
            let is_path = url.starts_with('/') && !url.starts_with("//") && !url.contains(['\\', '\n', '\r']);
            if !is_path && validate::url(url).is_err() {
                faults.add("actionUrl", "must be an http or https address, or a path that begins with /");
            }
        }
        if self.metadata.as_ref().is_some_and(|all| json!(all).to_string().len() > METADATA_BYTES_MAX) {
            faults.add("metadata", format!("must have at most {METADATA_BYTES_MAX} bytes"));
        }
        if let (Some(from), Some(until)) = (self.scheduled_for, self.expires_at)
            && until <= from
        {
            faults.add("expiresAt", "must be after scheduledFor");
        }
        faults.finish()
    }

    /// One draft for each recipient, each once.
    fn drafts(&self, module: &str) -> Vec<Notification> {
        let category = self.category.unwrap_or_else(|| map::category_of(&self.event_type));
        let metadata = self.metadata.clone().unwrap_or_default();
        let content =
            json!({"title": self.title, "body": self.body, "actionUrl": self.action_url, "metadata": metadata});
        let mut recipients: Vec<&Id> = Vec::new();
        for id in &self.recipient_ids {
            if !recipients.contains(&id) {
                recipients.push(id);
            }
        }
        let draft = |user_id: &Id| {
            let resource = self.source_resource_id.as_deref();
            let key = match &self.dedup_key {
                Some(key) => format!("{key}:{user_id}"),
                None => create::dedup_key(&self.event_type, resource, user_id, &content),
            };
            Notification {
                user_id: user_id.clone(),
                r#type: self.event_type.clone(),
                title: self.title.clone(),
                message: self.body.clone(),
                read: false,
                read_at: None,
                category,
                criticality: self.criticality.unwrap_or(Criticality::Medium),
                source_module: module.to_string(),
                source_resource_type: self.source_resource_type.clone(),
                source_resource_id: resource.map(ToString::to_string),
                action_url: self.action_url.clone(),
                action_label: self.action_label.clone(),
                metadata: metadata.clone(),
                channels_requested: self.channels.clone().unwrap_or_default(),
                channels_delivered: Vec::new(),
                status: Status::Pending,
                status_reason: None,
                scheduled_for: self.scheduled_for,
                expires_at: self.expires_at,
                acknowledged_at: None,
                dedup_key: Some(key),
                batch_id: None,
                escalation_chain_id: None,
                escalation_level: 0,
                escalated_from: None,
                team_id: self.team_id.clone(),
                project_id: self.project_id.clone(),
                in_inbox: false,
                inbox_at: None,
                escalation_due_at: None,
                resolved_at: None,
                data: Map::new(),
            }
        };
        recipients.into_iter().map(draft).collect()
    }
}

/// Makes what the input asks for, within a transaction.
pub fn make(transaction: &Transaction, input: &SendInput, module: &str) -> Result<Made> {
    input.check()?;
    create::create(transaction, input.drafts(module))
}

/// `POST /api/notifications`: needs [`PERMISSION`], unless a service tells of what has happened.
pub fn send(Json(input): Json<SendInput>) -> Result<Accepted<Sent>> {
    let principal = auth::principal();
    // It handles a message then, with the rights of whoever caused that: they need not be allowed to write to anybody.
    let is_news = principal.kind == PrincipalKind::System && principal.source_service.is_some();
    if !is_news {
        auth::require(PERMISSION)?;
    }
    input.check()?;
    let module = principal.source_service.unwrap_or_else(|| MODULE.into());
    let made = database::transaction(|transaction| make(transaction, &input, &module))?;
    made.remember();
    Ok(Accepted(sent(&made)))
}

/// What is answered.
pub fn sent(made: &Made) -> Sent {
    let notification_ids: Vec<Id> = made.rows.iter().map(|row| row.id.clone()).collect();
    Sent {
        recipient_count: i64::try_from(notification_ids.len()).unwrap_or(i64::MAX),
        duplicate_count: i64::try_from(made.duplicates).unwrap_or(i64::MAX),
        notification_ids,
    }
}

/// Whose a notification is, as far as its sender may know.
#[data]
struct Place {
    user_id: Id,
    created_by: Option<String>,
    status: Status,
}

/// 404 unless the caller is the recipient or the sender, or may send.
pub fn require_involved(database: &dyn Executor, id: &Id) -> Result<Status> {
    let places: Vec<Place> = database::query_as(
        database,
        "SELECT user_id AS \"userId\", created_by AS \"createdBy\", status FROM notification_notifications \
         WHERE id = $1 AND organization_id = $2",
        params![id, auth::organization_id()?],
    )?;
    let place = places.into_iter().next().ok_or_else(|| Problem::missing("notification"))?;
    let caller = auth::principal().user_id;
    let is_mine = caller.as_deref() == Some(place.user_id.as_str()) || (caller.is_some() && caller == place.created_by);
    if is_mine || auth::has(PERMISSION) { Ok(place.status) } else { Err(Problem::missing("notification")) }
}

/// What is left of a notification that was taken back.
#[data]
pub struct Cancelled {
    /// The notification.
    pub id: Id,
    /// CANCELLED.
    pub status: Status,
}

/// `POST /api/notifications/{id}/cancel`: by its recipient, its sender, or who may send.
pub fn cancel(Params(id): Params<Id>) -> Result<Json<Cancelled>> {
    database::transaction(|transaction| {
        let status = require_involved(transaction, &id)?;
        let changed = transaction.execute(
            "UPDATE notification_notifications SET status = 'CANCELLED', status_reason = 'TAKEN_BACK', updated_at = $3, \
             escalation_due_at = NULL, version = version + 1 \
             WHERE id = $1 AND organization_id = $2 AND status IN ('PENDING', 'SCHEDULED', 'HELD')",
            params![&id, auth::organization_id()?, clock::now()],
        )?;
        if changed == 0 {
            return Err(Problem::conflict(format!("It is {status}, and too late to be taken back.")));
        }
        Ok(Json(Cancelled { id: id.clone(), status: Status::Cancelled }))
    })
}
