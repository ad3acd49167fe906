//! What was done, by whom: changes of servers and settings, and executions.

use berth_sdk::{prelude::*, serde_json::Value};

use crate::access;

/// One thing that was done. Who did it is `createdBy`.
#[entity(table = "mcp_audit_entries", name = "audit entry", sort = "-createdAt")]
pub struct Entry {
    /// As in `server.created`.
    #[field(filter)]
    pub action: String,
    /// Which server it concerns.
    #[field(filter)]
    pub server_id: Option<Id>,
    /// What it was done to: a name or an id.
    #[field(filter)]
    pub subject: String,
    /// More of it, without secrets.
    pub details: Value,
}

impl Rules for Entry {}

/// Notes what is done, in the transaction in which it is done.
pub fn note(
    transaction: &Transaction,
    action: &str,
    server_id: Option<&Id>,
    subject: &str,
    details: Value,
) -> Result<()> {
    // What belongs to everybody has no organization to note it for.
    if auth::principal().organization_id.is_none() {
        return Ok(());
    }
    let (action, subject, server_id) = (action.to_string(), subject.to_string(), server_id.cloned());
    entity::create(transaction, Entry { action, server_id, subject, details }).map(|_| ())
}

/// `GET /api/mcp/audit`.
pub fn list(query: PageQuery) -> Result<impl berth_sdk::http::Answer> {
    if !access::is_admin() {
        return Err(access::denied("The audit is for administrators."));
    }
    let mut select = Select::<Entry>::new();
    for (name, sign) in [("from", ">="), ("to", "<")] {
        if let Some(text) = query.filter(name) {
            let at = Timestamp::parse(&text).ok_or_else(|| Problem::field(name, "must be a time in RFC 3339"))?;
            select = select.condition(&format!("\"created_at\" {sign} ?"), [at]);
        }
    }
    if let Some(user_id) = query.filter("userId") {
        select = select.equal("created_by", user_id);
    }
    select.page(&Pool, &query)
}
