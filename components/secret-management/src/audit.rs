//! The audit of secrets: who did what with which, and what was refused. Nothing here holds a value.

use berth_sdk::{auth::PrincipalKind, prelude::*, serde_json::Value};

use crate::{rights, secret, secret::Secret};

/// How it ended.
#[choice(upper)]
pub(crate) enum Outcome {
    Success,
    Failure,
    Denied,
}

/// One row. The address of the caller is not known here, so `ip` stays empty.
#[entity(table = "secret_audit_logs", name = "audit row", sort = "-timestamp", global)]
pub(crate) struct AuditRow {
    #[field(filter)]
    pub event_type: String,
    #[field(filter)]
    pub category: String,
    #[field(filter)]
    pub actor_type: String,
    #[field(filter)]
    pub actor_id: Option<String>,
    #[field(filter)]
    pub secret_id: Option<String>,
    pub secret_name: Option<String>,
    #[field(filter)]
    pub action: String,
    #[field(filter)]
    pub outcome: Outcome,
    pub details: Value,
    pub ip: Option<String>,
    pub request_id: Option<String>,
    pub timestamp: Timestamp,
}

impl Rules for AuditRow {
    fn scope() -> Option<Condition> {
        // What concerns GLOBAL secrets is for the platform's eyes.
        let is_platform = auth::principal().is_platform;
        (!is_platform).then(|| Condition::new("\"organization_id\" IS NOT NULL", [] as [String; 0]))
    }
}

/// Whom a row is about.
pub(crate) struct Subject<'a> {
    pub organization_id: Option<&'a str>,
    pub secret_id: Option<&'a str>,
    pub secret_name: Option<&'a str>,
}

impl<'a> From<&'a Stored<Secret>> for Subject<'a> {
    fn from(secret: &'a Stored<Secret>) -> Self {
        Self {
            organization_id: secret.organization_id.as_deref(),
            secret_id: Some(&secret.id),
            secret_name: Some(&secret.name),
        }
    }
}

/// Writes a row: with the transaction of the change, or on its own for what was refused.
pub(crate) fn note(
    database: &dyn Executor,
    subject: &Subject<'_>,
    action: &str,
    outcome: Outcome,
    details: Value,
) -> Result<()> {
    let principal = auth::principal();
    let category = match outcome {
        Outcome::Denied => "access_denied",
        Outcome::Failure => "security",
        Outcome::Success if matches!(action, "read" | "resolve" | "export" | "inject" | "sign") => "access",
        Outcome::Success => "change",
    };
    let actor_type = match principal.kind {
        PrincipalKind::User => "USER",
        PrincipalKind::Operator => "OPERATOR",
        PrincipalKind::System => "SYSTEM",
        PrincipalKind::Anonymous => "ANONYMOUS",
    };
    let now = clock::now();
    let id = Id::new();
    database.execute(
        "INSERT INTO secret_audit_logs (id, organization_id, created_by, created_at, updated_at, version, event_type, \
         category, actor_type, actor_id, secret_id, secret_name, action, outcome, details, request_id, timestamp) \
         VALUES ($1, $2, $3, $4, $4, 1, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $4)",
        params![
            &id,
            subject.organization_id.map(ToString::to_string),
            &principal.user_id,
            now,
            format!("secret.{action}"),
            category,
            actor_type,
            &principal.user_id,
            subject.secret_id.map(ToString::to_string),
            subject.secret_name.map(ToString::to_string),
            action,
            outcome,
            details,
            principal.request_id.as_str(),
        ],
    )?;
    Ok(())
}

/// Writes a row for what was refused or failed. That it cannot be written must not hide the refusal.
pub(crate) fn note_alone(subject: &Subject<'_>, action: &str, outcome: Outcome, details: Value) {
    if let Err(problem) = note(&Pool, subject, action, outcome, details) {
        logging::error!("an audit row could not be written", action = action, problem = problem);
    }
}

/// `GET /api/secrets/audit`: for administrators.
pub(crate) fn list(query: PageQuery) -> Result<JsonText<Page<Stored<AuditRow>>>> {
    rights::require_admin()?;
    within(Select::new(), &query)?.page(&Pool, &query)
}

/// `GET /api/secrets/audit/{id}`: for who manages the secret, and administrators.
pub(crate) fn of_secret(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<AuditRow>>>> {
    let secret = secret::any(&Pool, &id)?;
    let held = rights::of(&secret)?;
    if !held.manage && rights::require_admin().is_err() {
        return Err(rights::denied(&secret, "audit"));
    }
    within(Select::new().equal("secret_id", id), &query)?.page(&Pool, &query)
}

fn within(mut select: Select<AuditRow>, query: &PageQuery) -> Result<Select<AuditRow>> {
    for (name, sql) in [("from", "\"timestamp\" >= ?"), ("to", "\"timestamp\" <= ?")] {
        if let Some(text) = query.filter(name) {
            let moment = Timestamp::parse(&text)
                .ok_or_else(|| Problem::field(name, "must be a time such as 2026-01-31T08:15:00.000Z"))?;
            select = select.condition(sql, [moment]);
        }
    }
    Ok(select)
}
