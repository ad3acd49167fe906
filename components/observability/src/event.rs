//! Telemetry events: what services report, and what other services' events tell of how things go.

use std::time::Duration;

use berth_sdk::{
    database::Bulk,
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{
    MANAGE,
    error::{self, Occurrence},
    service,
    span::{Batch, Rejection, Reported},
    stretch::Stretch,
};

/// What is heard of.
pub(crate) const HEARD: [&str; 6] = [
    "host.#",
    "mcp.server.health.changed",
    "ai.provider.health.changed",
    "notification.failed",
    "audit.#",
    "workflow.run.failed",
];
/// The types of events that are for those who manage.
const CONFIDENTIAL: [&str; 2] = ["audit.%", "notification.%"];
/// Bytes of the attributes of an event.
const ATTRIBUTES_MAX: usize = 32 * 1024;

/// How grave an event is.
#[choice]
pub(crate) enum Severity {
    Debug,
    Info,
    Warn,
    Error,
    Critical,
}

/// An event.
#[entity(table = "telemetry_events", name = "event", sort = "-occurredAt", global)]
pub(crate) struct Event {
    /// The organization, or nothing for what concerns none: by it and the time events are found.
    #[field(hidden, readonly, default)]
    pub owner: String,
    #[field(filter)]
    pub service: String,
    #[field(filter)]
    pub r#type: String,
    pub severity: Severity,
    pub message: String,
    pub attributes: Value,
    pub occurred_at: Timestamp,
    #[field(hidden, readonly, default)]
    pub occurred_ms: i64,
}

impl Rules for Event {
    /// What concerns no organization is about the host, and the platform's to read. What other services tell of the audit log
    /// and of people's inboxes is no more everybody's here than there.
    fn scope() -> Option<Condition> {
        if auth::principal().is_platform {
            return None;
        }
        let (mut sql, mut values) = (String::from("\"owner\" <> ?"), vec![""]);
        if !auth::has(MANAGE) {
            for pattern in CONFIDENTIAL {
                sql.push_str(" AND \"type\" NOT LIKE ?");
                values.push(pattern);
            }
        }
        Some(Condition::new(sql, values))
    }
}

/// An event in a report.
#[data]
pub(crate) struct NewEvent {
    #[field(default)]
    service: String,
    r#type: String,
    #[field(default = Severity::Info)]
    severity: Severity,
    #[field(default)]
    message: String,
    #[field(default)]
    attributes: Map<String, Value>,
    occurred_at: Option<Timestamp>,
}

/// An event that can be stored.
struct Fit {
    service: String,
    kind: String,
    severity: Severity,
    message: String,
    attributes: Map<String, Value>,
    at: Timestamp,
}

impl NewEvent {
    fn fit(self) -> Result<Fit, String> {
        if self.r#type.trim().is_empty() || self.r#type.chars().count() > 200 {
            return Err("type must have 1 to 200 characters".into());
        }
        if json!(self.attributes).to_string().len() > ATTRIBUTES_MAX {
            return Err(format!("attributes must have at most {ATTRIBUTES_MAX} bytes"));
        }
        let cut = |text: String, most: usize| text.chars().take(most).collect::<String>();
        Ok(Fit {
            service: if self.service.is_empty() { "unknown_service".into() } else { cut(self.service, 200) },
            kind: self.r#type,
            severity: self.severity,
            message: cut(self.message, 4_000),
            attributes: self.attributes,
            at: self.occurred_at.unwrap_or_else(clock::now),
        })
    }
}

impl Fit {
    /// The error it tells of, where it does.
    fn occurrence(&self) -> Option<Occurrence> {
        let is_error = matches!(self.severity, Severity::Error | Severity::Critical);
        is_error.then(|| Occurrence {
            service: self.service.clone(),
            kind: self.kind.clone(),
            message: self.message.clone(),
            stack: self.attributes.get("exception.stacktrace").and_then(Value::as_str).map(Into::into),
            at: self.at,
            sample: json!({ "event": self.kind }),
        })
    }
}

fn store(transaction: &Transaction, organization_id: Option<&str>, events: &[Fit]) -> Result<()> {
    let now = clock::now();
    let rows = events.iter().map(|event| {
        vec![
            Id::new().into(),
            (&event.service).into(),
            (&event.kind).into(),
            event.severity.into(),
            (&event.message).into(),
            json!(event.attributes).into(),
            event.at.into(),
            event.at.millis().into(),
        ]
    });
    Bulk::into("telemetry_events")
        .shared("organization_id", organization_id)
        .shared("owner", organization_id.unwrap_or_default())
        .shared("created_by", auth::principal().user_id)
        .shared("created_at", now)
        .shared("updated_at", now)
        .shared("version", 1)
        .columns(&["id", "service", "type", "severity", "message", "attributes", "occurred_at", "occurred_ms"])
        .insert(transaction, rows)?;
    Ok(())
}

/// `POST /api/observability/events`.
pub(crate) fn report(batch: Batch) -> Result<Accepted<Reported>> {
    let organization_id = auth::organization_id()?;
    let (events, rejected): (Vec<Fit>, Vec<Rejection>) = batch.read(NewEvent::fit);
    database::transaction(|transaction| {
        store(transaction, Some(&organization_id), &events)?;
        let services = events.iter().map(|event| event.service.as_str()).collect();
        service::seen(transaction, &organization_id, services, clock::now())?;
        error::note(transaction, &organization_id, events.iter().filter_map(Fit::occurrence).collect())
    })?;
    Ok(Accepted(Reported { accepted: i64::try_from(events.len()).unwrap_or(i64::MAX), rejected }))
}

/// `GET /api/observability/events`.
pub(crate) fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Event>>>> {
    let stretch = Stretch::of(&query, Duration::from_secs(86_400), Duration::from_secs(90 * 86_400))?;
    let between = "\"occurred_ms\" >= ? AND \"occurred_ms\" < ?";
    Select::new().condition(between, [stretch.from_ms, stretch.to_ms]).page(&Pool, &query)
}

/// Handles an event of another service: kept once.
pub(crate) fn on_event(envelope: &Envelope) -> Result<()> {
    if envelope.source_service == "observability" {
        return Ok(());
    }
    let organization_id = auth::principal().organization_id;
    let mut data: Map<String, Value> = envelope.data().unwrap_or_default();
    if envelope.text.len() > ATTRIBUTES_MAX || envelope.text.contains("\\u0000") {
        data.clear();
    }
    let text = |name: &str| data.get(name).and_then(Value::as_str);
    let message =
        ["message", "title", "error", "reason", "detail", "name", "plugin"].iter().find_map(|name| text(name));
    let kind = envelope.message_type.as_str();
    let event = Fit {
        service: text("plugin").unwrap_or(&envelope.source_service).chars().take(200).collect(),
        kind: kind.chars().take(200).collect(),
        severity: severity(kind, text("status").or_else(|| text("health")).unwrap_or_default()),
        message: message.unwrap_or(kind).chars().take(4_000).collect(),
        at: Timestamp::parse(&envelope.timestamp).unwrap_or_else(clock::now),
        attributes: data,
    };
    database::transaction(|transaction| {
        if transaction.once(&envelope.id)? {
            store(transaction, organization_id.as_deref(), std::slice::from_ref(&event))?;
        }
        Ok(())
    })
}

fn severity(kind: &str, state: &str) -> Severity {
    match kind.rsplit('.').next().unwrap_or_default() {
        "failed" | "trapped" => Severity::Error,
        "rolled_back" | "triggered" => Severity::Warn,
        "changed" if matches!(state, "UNHEALTHY" | "failed" | "DEGRADED") => Severity::Warn,
        _ => Severity::Info,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_others_are_as_grave_as_what_they_say() {
        assert_eq!(severity("host.plugin.trapped", ""), Severity::Error);
        assert_eq!(severity("host.plugin.deployed", ""), Severity::Info);
        assert_eq!(severity("mcp.server.health.changed", "UNHEALTHY"), Severity::Warn);
        assert_eq!(severity("mcp.server.health.changed", "HEALTHY"), Severity::Info);
        assert_eq!(severity("audit.alert.triggered", ""), Severity::Warn);
    }
}
