//! What an organization keeps in its audit log. One row an organization; without one the defaults hold.

use berth_sdk::{prelude::*, serde_json::Map, serde_json::Value};

use super::{
    append,
    entry::{Category, NewEntry, Severity, Writer},
};
use crate::access;

/// Patterns of an organization.
const PATTERNS_MAX: usize = 20;
/// Bytes of a compiled pattern.
const PATTERN_SIZE_MAX: usize = 256 * 1024;

/// The settings.
#[entity(table = "audit_configurations", name = "configuration")]
pub(crate) struct Settings {
    #[field(default = true)]
    pub capture_ip: bool,
    #[field(default = true)]
    pub capture_user_agent: bool,
    /// Nothing here finds out where somebody is: `metadata.geolocation` is kept, or taken out.
    #[field(default)]
    pub capture_geolocation: bool,
    #[field(default = true)]
    pub redact_sensitive_data: bool,
    /// Regular expressions; what they match is taken out.
    #[field(default)]
    pub redaction_patterns: Vec<String>,
    #[field(default = true)]
    pub hash_chain_enabled: bool,
    #[field(default = true)]
    pub alerts_enabled: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            capture_ip: true,
            capture_user_agent: true,
            capture_geolocation: false,
            redact_sensitive_data: true,
            redaction_patterns: Vec::new(),
            hash_chain_enabled: true,
            alerts_enabled: true,
        }
    }
}

impl Rules for Settings {
    fn check(&self, faults: &mut Faults) {
        if self.redaction_patterns.len() > PATTERNS_MAX {
            faults.add("redactionPatterns", format!("must have at most {PATTERNS_MAX} entries"));
        }
        for (index, pattern) in self.redaction_patterns.iter().enumerate() {
            if pattern.is_empty() || pattern.len() > 200 || compile(pattern).is_none() {
                faults.add(format!("redactionPatterns[{index}]"), "must be a regular expression of at most 200 bytes");
            }
        }
    }
}

fn compile(pattern: &str) -> Option<regex::Regex> {
    regex::RegexBuilder::new(pattern).size_limit(PATTERN_SIZE_MAX).build().ok()
}

impl Settings {
    /// The patterns, ready.
    pub fn patterns(&self) -> Vec<regex::Regex> {
        self.redaction_patterns.iter().filter_map(|pattern| compile(pattern)).collect()
    }
}

/// The settings of the caller's organization, for what is about to be written; those of a chain without one are the defaults.
pub(crate) fn of(database: &dyn Executor) -> Result<Settings> {
    if auth::principal().organization_id.is_none() {
        return Ok(Settings::default());
    }
    let row = Select::<Settings>::new().first(database)?;
    Ok(row.map_or_else(Settings::default, |row| row.data))
}

fn shown(row: Option<Stored<Settings>>) -> Result<Response> {
    match row {
        Some(row) => row.into_response(),
        None => {
            let mut settings = json!(Settings::default());
            if let Value::Object(members) = &mut settings {
                members.insert("organizationId".into(), auth::organization_id()?.into_string().into());
                members.insert("version".into(), 0.into());
            }
            Response::json(200, &settings)
        }
    }
}

/// `GET /api/audit-logs/configuration`.
pub(crate) fn read() -> Result<Response> {
    shown(Select::<Settings>::new().first(&Pool)?)
}

/// `PUT /api/audit-logs/configuration`: what the body names is changed. The change is itself an entry of the audit log.
pub(crate) fn change(if_match: IfMatch, Json(patch): Json<Map<String, Value>>) -> Result<Response> {
    access::require_admin()?;
    let named: Vec<&String> = patch.keys().take(20).collect();
    let note = note("audit.configuration.updated", json!({ "fields": named }));
    let row = database::transaction(|transaction| {
        // First the turn of the chain: two who change the settings at once wait for each other.
        append::append(transaction, &Writer::caller(Some("logging".into())), vec![note])?;
        match Select::<Settings>::new().first(transaction)? {
            Some(row) => entity::update::<Settings>(transaction, &row.id, &patch, if_match),
            None => {
                if_match.check(0)?;
                entity::create_from::<Settings>(transaction, patch)
            }
        }
    })?;
    shown(Some(row))
}

/// `DELETE /api/audit-logs/configuration`: back to the defaults.
pub(crate) fn reset() -> Result<NoContent> {
    access::require_admin()?;
    let note = note("audit.configuration.reset", json!({}));
    database::transaction(|transaction| {
        append::append(transaction, &Writer::caller(Some("logging".into())), vec![note])?;
        let organization_id = auth::organization_id()?;
        transaction.execute("DELETE FROM audit_configurations WHERE organization_id = $1", params![organization_id])?;
        Ok::<_, Problem>(())
    })?;
    Ok(NoContent)
}

/// An entry about the audit log itself.
pub(crate) fn note(action: &str, metadata: Value) -> NewEntry {
    let principal = auth::principal();
    let Value::Object(metadata) = metadata else { return note(action, json!({})) };
    NewEntry {
        action: action.into(),
        category: Category::Security,
        severity: Severity::Warn,
        resource_type: Some("audit-log".into()),
        resource_id: None,
        message: None,
        metadata,
        user_id: principal.user_id.map(Id::from),
        session_id: principal.session_id.map(Id::from),
        ip_address: None,
        user_agent: None,
        timestamp: None,
        correlation_id: Some(principal.request_id).filter(|id| validate::id(id).is_ok()).map(Id::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_must_be_patterns_of_a_size() {
        let faults = |patterns: &[&str]| {
            let settings = Settings {
                redaction_patterns: patterns.iter().map(ToString::to_string).collect(),
                ..Settings::default()
            };
            let mut faults = Faults::default();
            settings.check(&mut faults);
            faults.errors().iter().map(|error| error.field.clone()).collect::<Vec<_>>()
        };
        assert!(faults(&["[0-9]{4}", "(?i)badge"]).is_empty());
        assert_eq!(
            faults(&["a", "(", "((((a{99}){99}){99}){99})", ""]),
            ["redactionPatterns[1]", "redactionPatterns[2]", "redactionPatterns[3]"]
        );
        assert_eq!(faults(&["a"; 21]), ["redactionPatterns"]);
    }
}
