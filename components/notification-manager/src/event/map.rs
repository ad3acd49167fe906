//! Which events become notifications: what they are about, for whom, and in which words. Everything else creates nothing.

use berth_sdk::{prelude::*, serde_json::Value};

use crate::kinds::{Category, Criticality};

/// Recipients of one event; more are left out.
const RECIPIENTS_MAX: usize = 500;

/// Whom an event is for when its data name nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// Who caused it.
    Actor,
    /// The organization's administrators.
    Administrators,
}

/// What one event type becomes.
#[derive(Debug)]
pub struct Mapping {
    /// The type, or a prefix that ends in a dot.
    pub kind: &'static str,
    /// What it is about.
    pub category: Category,
    /// How much it matters, unless a template says otherwise.
    pub criticality: Criticality,
    /// Whether a template may say otherwise.
    pub by_template: bool,
    /// What its `resourceId` names.
    pub resource: &'static str,
    /// Members of the data that name recipients; those of the first that does.
    pub recipients: &'static [&'static str],
    /// When none does.
    pub otherwise: Otherwise,
    /// The built-in title.
    pub title: &'static str,
    /// The built-in text.
    pub body: &'static str,
}

const USER: &[&str] = &["userId", "id"];
const OWNER: &[&str] = &["ownerId", "createdBy", "userId"];
const STARTER: &[&str] = &["startedBy", "initiatedBy", "createdBy", "userId"];
const ASSIGNEE: &[&str] = &["assignedTo", "assigneeId", "assignees"];
const INCIDENT: &[&str] = &["assignedTo", "responders", "commanderId", "recipientIds"];

macro_rules! mappings {
    ($($kind:literal: $category:ident $criticality:ident $fixed:literal, $resource:literal, $recipients:expr, $otherwise:ident, $title:literal, $body:literal;)*) => {
        &[$(Mapping {
            kind: $kind,
            category: Category::$category,
            criticality: Criticality::$criticality,
            by_template: !$fixed,
            resource: $resource,
            recipients: $recipients,
            otherwise: Otherwise::$otherwise,
            title: $title,
            body: $body,
        }),*]
    };
}

/// Every mapped type; `true` where no template changes the criticality.
const MAPPINGS: &[Mapping] = mappings! {
    "user.registered": Security Low false, "user", USER, Actor, "Welcome", "Your account is ready.";
    "user.email_verification_requested": Security Medium false, "user", USER, Actor, "Confirm your e-mail address", "A link to confirm your e-mail address has been sent.";
    "user.email_verified": Security Low false, "user", USER, Actor, "Your e-mail address is confirmed", "Thank you.";
    "user.password_reset_requested": Security Medium false, "user", USER, Actor, "A new password was asked for", "If this was not you, do nothing: your password stays as it is.";
    "user.password_reset_success": Security High false, "user", USER, Actor, "Your password was reset", "If this was not you, contact your administrator at once.";
    "user.password_changed": Security High false, "user", USER, Actor, "Your password was changed", "If this was not you, contact your administrator at once.";
    "user.profile_updated": Security Low false, "user", USER, Actor, "Your profile was changed", "Changed: {{changed}}.";
    "user.account_deleted": Security High false, "user", USER, Actor, "Your account was deleted", "Your account was deleted.";
    "user.": Security Low false, "user", USER, Actor, "Your account: {{eventType}}", "Something about your account has changed.";
    "session.revoked": Security Medium false, "session", USER, Actor, "A session was ended", "Reason: {{reason}}.";
    "sessions.bulk_revoked": Security Medium false, "session", USER, Actor, "Your sessions were ended", "{{count}} sessions were ended. Reason: {{reason}}.";
    "planning.plan.created": ProjectManagement Low false, "plan", STARTER, Actor, "Plan created: {{title}}", "The plan {{title}} was created.";
    "planning.plan.executed": ProjectManagement Medium false, "plan", STARTER, Actor, "Plan executed: {{status}}", "The execution of the plan has ended: {{status}}.";
    "ai.completion.completed": AiPlanning Low false, "completion", USER, Actor, "A completion is ready", "{{model}} has answered.";
    "ai.completion.failed": AiPlanning Medium false, "completion", USER, Actor, "A completion failed", "{{error}}";
    "usage.quota.warning": Billing Medium false, "quota", OWNER, Administrators, "A quota is nearly used up: {{name}}", "{{name}}: {{currentValue}} of {{limitValue}} used.";
    "usage.quota.exceeded": Billing High false, "quota", OWNER, Administrators, "A quota is used up: {{name}}", "{{name}}: {{currentValue}} of {{limitValue}} used.";
    "usage.budget.warning": Billing Medium false, "budget", OWNER, Administrators, "A budget is nearly spent: {{name}}", "{{percentage}} % of the budget {{name}} are spent.";
    "usage.budget.exceeded": Billing High false, "budget", OWNER, Administrators, "A budget is overspent: {{name}}", "The budget {{name}} is spent.";
    "task.assigned": ProjectManagement Medium true, "task", ASSIGNEE, Actor, "Task for you: {{title}}", "The task {{title}} was assigned to you.";
    "task.due_soon": ProjectManagement Medium false, "task", ASSIGNEE, Actor, "Due soon: {{title}}", "The task {{title}} is due at {{dueDate}}.";
    "task.overdue": ProjectManagement High true, "task", ASSIGNEE, Actor, "Overdue: {{title}}", "The task {{title}} was due at {{dueDate}}.";
    "review.requested": Collaboration Medium false, "review", &["reviewers", "reviewerIds", "reviewerId", "assignedTo"], Actor, "Review requested: {{title}}", "You are asked to review {{title}}.";
    "execution.started": ProjectManagement Low false, "execution", STARTER, Actor, "Execution started: {{title}}", "The execution has started.";
    "execution.completed": ProjectManagement Low false, "execution", STARTER, Actor, "Execution completed: {{title}}", "The execution has completed.";
    "execution.failed": ProjectManagement High true, "execution", STARTER, Actor, "Execution failed: {{title}}", "{{error}}";
    "incident.created": Incidents High true, "incident", INCIDENT, Administrators, "Incident: {{title}}", "{{title}} ({{severity}})";
    "incident.escalated": Incidents Critical true, "incident", INCIDENT, Administrators, "Incident escalated: {{title}}", "{{title}} ({{severity}})";
    "incident.updated": Incidents Medium false, "incident", INCIDENT, Administrators, "Incident updated: {{title}}", "{{title}}: {{status}}";
    "incident.resolved": Incidents Medium false, "incident", INCIDENT, Administrators, "Incident resolved: {{title}}", "{{title}} is resolved.";
    "meeting.reminder": Calendar Medium false, "event", &["attendeeIds", "attendees", "userIds", "userId", "organizerId"], Actor, "Reminder: {{title}}", "{{title}} begins at {{startTime}}.";
    "secret.expiring": Security High false, "secret", OWNER, Administrators, "A secret expires soon: {{name}}", "{{name}} expires at {{expiresAt}}.";
    "secret.expired": Security High false, "secret", OWNER, Administrators, "A secret has expired: {{name}}", "{{name}} has expired.";
    "mcp.server.health.changed": SystemAdmin Medium false, "server", OWNER, Administrators, "Server {{name}}: {{health}}", "The server {{name}} is now {{health}}.";
    "prompt.schedule.paused": AiPlanning Medium false, "schedule", OWNER, Actor, "A scheduled prompt was paused: {{name}}", "{{name}} failed {{consecutiveFailures}} times in a row.";
    "prompt.execution.failed": AiPlanning Medium false, "execution", OWNER, Actor, "A scheduled prompt failed: {{name}}", "{{error}}";
};

/// What an event becomes; none when it creates nothing.
pub fn mapping(event_type: &str, data: &Value) -> Option<&'static Mapping> {
    // A completion that somebody asked for tells them itself; only a schedule's failure is news.
    if event_type == "prompt.execution.failed" && data.get("scheduleId").is_none_or(Value::is_null) {
        return None;
    }
    by_type(event_type)
}

fn by_type(event_type: &str) -> Option<&'static Mapping> {
    let exact = MAPPINGS.iter().find(|mapping| mapping.kind == event_type);
    exact
        .or_else(|| MAPPINGS.iter().find(|mapping| mapping.kind.ends_with('.') && event_type.starts_with(mapping.kind)))
}

/// The category of a type; what nobody knows is the system's.
pub fn category_of(event_type: &str) -> Category {
    by_type(event_type).map_or(Category::SystemAdmin, |mapping| mapping.category)
}

/// The users that the data name.
pub fn recipients(mapping: &Mapping, data: &Value) -> Vec<Id> {
    let named = mapping.recipients.iter().filter_map(|name| data.get(name)).map(ids).find(|ids| !ids.is_empty());
    named.unwrap_or_default()
}

/// Ids in a text, a list of texts, or a list of objects with `userId` or `id`.
fn ids(value: &Value) -> Vec<Id> {
    let mut found: Vec<Id> = Vec::new();
    let entries = match value {
        Value::Array(entries) => entries.iter().take(RECIPIENTS_MAX).collect(),
        other => vec![other],
    };
    for entry in entries {
        let text = match entry {
            Value::String(text) => Some(text.as_str()),
            Value::Object(members) => {
                ["userId", "id"].iter().find_map(|name| members.get(*name).and_then(Value::as_str))
            }
            _ => None,
        };
        if let Some(id) = text.and_then(|text| Id::parse(text).ok())
            && !found.contains(&id)
        {
            found.push(id);
        }
    }
    found
}

/// The id of what an event is about.
pub fn resource_id(mapping: &Mapping, data: &Value) -> Option<String> {
    let own = format!("{}Id", mapping.resource);
    [own.as_str(), "id"].iter().find_map(|name| data.get(*name).and_then(Value::as_str)).map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mapped_types_become_something() {
        for kind in
            ["execution.step.started", "task.created", "notification.created", "planning.plan.deleted", "userx.a"]
        {
            assert!(mapping(kind, &json!({})).is_none(), "{kind}");
        }
        assert_eq!(mapping("task.overdue", &json!({})).unwrap().criticality, Criticality::High);
        assert_eq!(mapping("incident.escalated", &json!({})).unwrap().criticality, Criticality::Critical);
        assert_eq!(mapping("user.something_new", &json!({})).unwrap().kind, "user.");
        assert!(mapping("prompt.execution.failed", &json!({"scheduleId": null})).is_none());
        assert!(mapping("prompt.execution.failed", &json!({"scheduleId": "s1"})).is_some());
    }

    #[test]
    fn recipients_are_named_by_the_first_member_that_names_some() {
        let of = |kind, data: Value| recipients(mapping(kind, &data).unwrap(), &data);
        assert_eq!(of("task.assigned", json!({"assignedTo": "u1", "assignees": ["u2"]})), [Id::from("u1")]);
        assert_eq!(of("task.assigned", json!({"assignedTo": null, "assignees": ["u2", "u2", 7]})), [Id::from("u2")]);
        assert_eq!(of("meeting.reminder", json!({"attendees": [{"userId": "u1"}, {"email": "x"}]})), [Id::from("u1")]);
        assert!(of("task.assigned", json!({"assignedTo": "no id!"})).is_empty());
    }

    #[test]
    fn what_an_event_is_about_is_named() {
        let data = json!({"id": "e1", "executionId": "x1"});
        assert_eq!(resource_id(mapping("execution.failed", &data).unwrap(), &data).as_deref(), Some("x1"));
        assert_eq!(resource_id(mapping("task.overdue", &data).unwrap(), &data).as_deref(), Some("e1"));
    }
}
