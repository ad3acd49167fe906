//! Events: what happens elsewhere becomes notifications and webhook calls.

pub mod map;

use berth_sdk::{
    events::Message,
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{
    directory,
    directory::Member,
    kinds::{Category, Channel, Criticality},
    notification::{
        Notification, Status,
        create::{self, dedup_key},
    },
    template::{
        self,
        render::{Style, fill},
    },
    webhook::{self, outgoing},
};
use map::{Mapping, Otherwise};

/// The service's own name: its own events are never handled.
const SELF: &str = "notification-manager";
/// The work message that gives an event of nobody's organization one.
pub const ADOPTED: &str = "notification.event";
/// Bytes of an event's data that stay with a notification.
const DATA_BYTES_MAX: usize = 32 * 1024;

/// An event, wherever it comes from.
#[data]
pub struct Incoming {
    /// Its id.
    pub id: String,
    /// Its type.
    pub event_type: String,
    /// Who published it.
    pub source: String,
    /// When.
    pub timestamp: String,
    /// Who caused it.
    pub user_id: Option<Id>,
    /// What it says.
    pub data: Value,
}

impl Incoming {
    fn read(envelope: &Envelope) -> Result<Self> {
        Ok(Self {
            id: envelope.id.clone(),
            event_type: envelope.message_type.clone(),
            source: envelope.source_service.clone(),
            timestamp: envelope.timestamp.clone(),
            user_id: envelope.user_id.clone().map(Id::from),
            data: envelope.data()?,
        })
    }

    /// Whether it is never looked at: what this service says itself would come back for ever.
    fn is_own(&self) -> bool {
        self.source == SELF || self.event_type.starts_with("notification.")
    }
}

/// `#`.
pub fn consume(envelope: &Envelope) -> Result<()> {
    if envelope.source_service == SELF || envelope.message_type.starts_with("notification.") {
        return Ok(());
    }
    let event = Incoming::read(envelope)?;
    if envelope.organization_id.is_some() {
        return handle(&event, &envelope.id);
    }
    // It concerns a user and no organization: the user is told in their first one.
    if map::mapping(&event.event_type, &event.data).is_none() || event.user_id.is_none() {
        return Ok(());
    }
    if let Some(organization_id) = directory::home_organization()? {
        let id: String = format!("adopted-{}", envelope.id).chars().take(64).collect();
        let message = Message::new(ADOPTED, &event)?.for_organization(organization_id.as_str()).with_id(id);
        events::enqueue_message(&message)?;
    }
    Ok(())
}

/// `notification.event`.
pub fn adopted(envelope: &Envelope) -> Result<()> {
    handle(&envelope.data()?, &envelope.id)
}

/// Makes what an event becomes, once.
fn handle(event: &Incoming, message_id: &str) -> Result<()> {
    if event.is_own() {
        return Ok(());
    }
    let targets = webhook::targets(&event.event_type)?;
    let mapping = map::mapping(&event.event_type, &event.data);
    if targets.is_empty() && mapping.is_none() {
        return Ok(());
    }
    let drafts = match mapping {
        Some(mapping) => drafts(event, mapping)?,
        None => Vec::new(),
    };
    let made = database::transaction(|transaction| {
        if !transaction.once(message_id)? {
            return Ok(create::Made::default());
        }
        if event.event_type == "incident.resolved" {
            resolve(transaction, event)?;
        }
        outgoing::enqueue(transaction, &targets, event)?;
        create::create(transaction, drafts)
    })?;
    made.remember();
    Ok(())
}

/// What an incident's notifications wait for has happened.
fn resolve(transaction: &Transaction, event: &Incoming) -> Result<()> {
    let Some(mapping) = map::mapping(&event.event_type, &event.data) else { return Ok(()) };
    let Some(resource_id) = map::resource_id(mapping, &event.data) else { return Ok(()) };
    transaction.execute(
        "UPDATE notification_notifications SET resolved_at = $4, version = version + 1 WHERE organization_id = $1 \
         AND source_resource_type = $2 AND source_resource_id = $3 AND resolved_at IS NULL",
        params![auth::organization_id()?, mapping.resource, resource_id, clock::now()],
    )?;
    Ok(())
}

fn drafts(event: &Incoming, mapping: &Mapping) -> Result<Vec<Notification>> {
    let mut recipients = map::recipients(mapping, &event.data);
    if recipients.is_empty() {
        recipients = match (mapping.otherwise, &event.user_id) {
            (Otherwise::Actor, Some(actor)) => vec![actor.clone()],
            (Otherwise::Actor, None) => Vec::new(),
            (Otherwise::Administrators, _) => {
                directory::administrators()?.into_iter().map(|member: Member| member.id).collect()
            }
        };
    }
    let (category, criticality) = weight(event, mapping)?;
    Ok(recipients.into_iter().map(|user_id| draft(event, mapping, user_id, category, criticality)).collect())
}

/// What a template says of category and criticality, where the type leaves that to it.
fn weight(event: &Incoming, mapping: &Mapping) -> Result<(Category, Criticality)> {
    let templates = template::of_type(&event.event_type)?;
    let chosen = template::pick(&templates, Channel::InApp, "en").or(templates.first());
    let criticality = chosen.and_then(|template| template.criticality).filter(|_| mapping.by_template);
    let category = chosen.and_then(|template| template.category);
    Ok((category.unwrap_or(mapping.category), criticality.unwrap_or(mapping.criticality)))
}

fn draft(
    event: &Incoming,
    mapping: &Mapping,
    user_id: Id,
    category: Category,
    criticality: Criticality,
) -> Notification {
    let mut values = event.data.clone();
    if let Some(members) = values.as_object_mut() {
        members.entry("eventType").or_insert_with(|| json!(event.event_type));
    }
    let text = |name: &str| event.data.get(name).and_then(Value::as_str);
    let title = fill(mapping.title, &values, Style::Line).text;
    let title = title.trim_end_matches(&[' ', ':'][..]).chars().take(500).collect();
    let resource_id = map::resource_id(mapping, &event.data);
    let id_of = |name: &str| text(name).and_then(|text| Id::parse(text).ok());
    Notification {
        dedup_key: Some(dedup_key(&event.event_type, resource_id.as_deref(), &user_id, &event.data)),
        user_id,
        r#type: event.event_type.clone(),
        title,
        message: fill(mapping.body, &values, Style::Plain).text.chars().take(20_000).collect(),
        read: false,
        read_at: None,
        category,
        criticality,
        source_module: event.source.clone(),
        source_resource_type: Some(mapping.resource.to_string()),
        source_resource_id: resource_id,
        action_url: text("actionUrl").filter(|url| url.starts_with('/') || validate::url(url).is_ok()).map(Into::into),
        action_label: None,
        metadata: Map::from_iter([("eventId".to_string(), json!(event.id))]),
        channels_requested: Vec::new(),
        channels_delivered: Vec::new(),
        status: Status::Pending,
        status_reason: None,
        scheduled_for: None,
        expires_at: None,
        acknowledged_at: None,
        batch_id: None,
        escalation_chain_id: None,
        escalation_level: 0,
        escalated_from: None,
        team_id: id_of("teamId"),
        project_id: id_of("projectId"),
        in_inbox: false,
        inbox_at: None,
        escalation_due_at: None,
        resolved_at: None,
        data: kept(&event.data),
    }
}

/// The data that templates can name later; none when there is too much of it.
fn kept(data: &Value) -> Map<String, Value> {
    if data.to_string().len() > DATA_BYTES_MAX {
        return Map::new();
    }
    data.as_object().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, data: Value) -> Incoming {
        Incoming {
            id: "e1".into(),
            event_type: kind.into(),
            source: "planning".into(),
            timestamp: "2026-01-31T08:15:00.000Z".into(),
            user_id: Some("u9".into()),
            data,
        }
    }

    #[test]
    fn an_event_becomes_words_about_its_resource() {
        let event = event(
            "task.overdue",
            json!({"taskId": "t1", "title": "<b>Paint", "dueDate": "tomorrow", "projectId": "p1"}),
        );
        let mapping = map::mapping(&event.event_type, &event.data).unwrap();
        let draft = draft(&event, mapping, "u1".into(), mapping.category, mapping.criticality);
        assert_eq!(
            (draft.title.as_str(), draft.message.as_str()),
            ("Overdue: bPaint", "The task <b>Paint was due at tomorrow.")
        );
        assert_eq!(draft.source_resource_id.as_deref(), Some("t1"));
        assert_eq!(draft.project_id.as_deref(), Some("p1"));
    }

    #[test]
    fn what_is_missing_leaves_no_trace_in_a_title() {
        let event = event("execution.completed", json!({"executionId": "x1"}));
        let mapping = map::mapping(&event.event_type, &event.data).unwrap();
        assert_eq!(
            draft(&event, mapping, "u1".into(), mapping.category, mapping.criticality).title,
            "Execution completed"
        );
    }

    #[test]
    fn its_own_events_are_never_handled() {
        assert!(consume(&Envelope::for_test("notification.created", "{}")).is_ok());
        assert!(event("notification.failed", json!({})).is_own());
        // Nothing else gets so far without a database.
        assert!(consume(&Envelope::for_test("task.assigned", "{\"assignedTo\":\"u1\"}")).is_err());
    }
}
