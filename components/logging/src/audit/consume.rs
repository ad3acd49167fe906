//! Events of other services that belong into the audit log.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::{
    append,
    entry::{Category, NewEntry, Severity, Writer},
};
use crate::line::{self, CONTEXT_MAX};

/// What is heard of.
pub(crate) const HEARD: [&str; 11] = [
    "auth.#",
    "user.#",
    "session.#",
    "sessions.#",
    "secret.#",
    "organization.#",
    "team.#",
    "role.#",
    "invitation.#",
    "planning.#",
    "execution.#",
];

/// Handles an event: one entry, once.
pub(crate) fn on_event(envelope: &Envelope) -> Result<()> {
    if envelope.source_service == "logging" {
        return Ok(());
    }
    let organization_id = auth::principal().organization_id;
    let writer = Writer {
        organization_id,
        created_by: envelope.user_id.clone(),
        source: line::cut(&envelope.source_service, 100).to_string(),
        now: clock::now(),
    };
    let entry = entry(envelope);
    database::transaction(|transaction| {
        if transaction.once(&envelope.id)? {
            append::append(transaction, &writer, vec![entry])?;
        }
        Ok(())
    })
}

/// What an event says.
fn entry(envelope: &Envelope) -> NewEntry {
    let mut data: Map<String, Value> = envelope.data().unwrap_or_default();
    let kind = envelope.message_type.as_str();
    let id = |name: &str| data.get(name).and_then(Value::as_str).filter(|id| validate::id(id).is_ok()).map(Id::from);
    let short = |name: &str, most: usize| {
        data.get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(|text| line::cut(text, most).to_string())
    };
    let resource_type = resource_type(kind);
    let resource_id = id(&format!("{resource_type}Id")).or_else(|| id("id")).map(Id::into_string);
    let mut entry = NewEntry {
        action: line::cut(kind, 200).to_string(),
        category: category(kind),
        severity: severity(kind),
        resource_id,
        message: Some(message(kind, &data)),
        metadata: Map::new(),
        user_id: envelope
            .user_id
            .as_deref()
            .filter(|id| validate::id(id).is_ok())
            .map(Id::from)
            .or_else(|| id("userId")),
        session_id: id("sessionId"),
        ip_address: short("ipAddress", 64),
        user_agent: short("userAgent", 500),
        timestamp: Timestamp::parse(&envelope.timestamp),
        correlation_id: envelope.correlation_id.as_deref().filter(|id| validate::id(id).is_ok()).map(Id::from),
        resource_type: Some(resource_type),
    };
    if envelope.text.len() > CONTEXT_MAX || envelope.text.contains("\\u0000") {
        data.retain(|_, value| match value {
            Value::String(text) => text.len() <= 200 && !text.contains('\0'),
            Value::Number(_) | Value::Bool(_) => true,
            _ => false,
        });
        data.truncate_to(50);
    }
    entry.metadata = data;
    entry
}

/// Keeps a map small.
trait Truncate {
    fn truncate_to(&mut self, entries: usize);
}

impl Truncate for Map<String, Value> {
    fn truncate_to(&mut self, entries: usize) {
        let names: Vec<String> = self.keys().skip(entries).cloned().collect();
        for name in names {
            self.remove(&name);
        }
    }
}

/// `planning.plan.created` is about a plan, `role.updated` about a role, `secret.access.granted` about a secret.
fn resource_type(kind: &str) -> String {
    let segments: Vec<&str> = kind.split('.').collect();
    match segments.as_slice() {
        ["planning", entity, _, ..] => (*entity).into(),
        ["auth", ..] => "user".into(),
        ["sessions", ..] => "session".into(),
        [first, ..] => (*first).into(),
        [] => "event".into(),
    }
}

fn category(kind: &str) -> Category {
    match kind.split('.').next().unwrap_or_default() {
        "auth" | "session" | "sessions" => Category::Access,
        "secret" | "role" => Category::Security,
        "user" if kind.contains("password") || kind.ends_with("account_deleted") => Category::Security,
        "organization" if kind.contains("member") => Category::Security,
        _ => Category::Action,
    }
}

fn severity(kind: &str) -> Severity {
    match kind.rsplit('.').next().unwrap_or_default() {
        "failed" => Severity::Warn,
        "deleted" | "account_deleted" | "revoked" | "bulk_revoked" | "rolled_back" | "expired" => Severity::Warn,
        "member_removed" | "member_role_changed" | "password_changed" => Severity::Warn,
        _ => Severity::Info,
    }
}

/// A line for people: the type in words, and the name of what it is about.
fn message(kind: &str, data: &Map<String, Value>) -> String {
    let words = kind.replace(['.', '_'], " ");
    let name = ["name", "title", "email"].iter().find_map(|name| data.get(*name).and_then(Value::as_str));
    match name {
        Some(name) => format!("{words}: {}", line::cut(name, 200)),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_entries_about_something() {
        let event = Envelope::for_test(
            "planning.plan.approved",
            r#"{"planId":"p1","title":"Move","id":"x","userId":"u1","ipAddress":"10.0.0.1"}"#,
        );
        let entry = entry(&event);
        assert_eq!(entry.resource_type.as_deref(), Some("plan"));
        assert_eq!(entry.resource_id.as_deref(), Some("p1"));
        assert_eq!(entry.message.as_deref(), Some("planning plan approved: Move"));
        assert_eq!(entry.user_id.unwrap().as_str(), "u1");
        assert_eq!((entry.category, entry.severity), (Category::Action, Severity::Info));
        assert_eq!((category("role.deleted"), severity("role.deleted")), (Category::Security, Severity::Warn));
        assert_eq!((category("auth.login.failed"), severity("auth.login.failed")), (Category::Access, Severity::Warn));
        assert_eq!(
            (resource_type("secret.access.granted"), resource_type("auth.login.failed")),
            ("secret".into(), "user".into())
        );
    }

    #[test]
    fn a_large_event_keeps_what_is_short() {
        let text = json!({"planId": "p1", "steps": "x".repeat(CONTEXT_MAX), "list": [1]}).to_string();
        let entry = entry(&Envelope::for_test("planning.plan.created", &text));
        assert_eq!(Value::Object(entry.metadata), json!({"planId": "p1"}));
    }
}
