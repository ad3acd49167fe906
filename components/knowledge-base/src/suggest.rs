//! What happens elsewhere and concerns what is known: a conversation or an incident that ended suggests an entry, a project
//! that is gone sends its entries to the archive.

use std::time::Duration;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::entry::{Entry, SYSTEM, Status, api, place};

/// The message that archives some entries of a project.
pub const ARCHIVE: &str = "kb.project.archive";
/// Entries of one such message.
const TURN: i64 = 100;

/// A text of an event, and the id that is named so or simply `id`.
fn text<'a>(data: &'a Map<String, Value>, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| data.get(*name).and_then(Value::as_str)).filter(|text| !text.is_empty())
}

/// Handles `messaging.conversation.resolved`.
pub fn on_conversation(envelope: &Envelope) -> Result<()> {
    let data: Map<String, Value> = envelope.data()?;
    let Some(id) = text(&data, &["conversationId", "id"]) else { return Ok(()) };
    let title = text(&data, &["title", "name", "topic"]).unwrap_or("A conversation that was resolved");
    let content = format!(
        "## Question\n\n{title}\n\n## Answer\n\n{}\n",
        text(&data, &["resolution", "summary"]).unwrap_or("_What was found out?_")
    );
    suggest(envelope, &data, "discussion", id, title, "note", &content)
}

/// Handles `incident.resolved`.
pub fn on_incident(envelope: &Envelope) -> Result<()> {
    let data: Map<String, Value> = envelope.data()?;
    let Some(id) = text(&data, &["incidentId", "id"]) else { return Ok(()) };
    let what = text(&data, &["title", "name"]).unwrap_or("an incident");
    let severity = text(&data, &["severity"]).unwrap_or("unknown");
    let content = format!(
        "Severity: {severity}\n\n## What happened\n\n_…_\n\n## Impact\n\n_…_\n\n## Root cause\n\n{}\n\n## What helped\n\n{}\n\n\
         ## What is done so that it does not happen again\n\n- [ ] _…_\n",
        text(&data, &["rootCause"]).unwrap_or("_…_"),
        text(&data, &["resolution"]).unwrap_or("_…_")
    );
    suggest(envelope, &data, "incident", id, &format!("Postmortem: {what}"), "troubleshooting", &content)
}

/// A draft, once for each thing.
fn suggest(
    envelope: &Envelope,
    data: &Map<String, Value>,
    kind: &str,
    id: &str,
    title: &str,
    category: &str,
    content: &str,
) -> Result<()> {
    if auth::principal().organization_id.is_none() || validate::id(id).is_err() {
        return Ok(());
    }
    let project_id = text(data, &["projectId"]).filter(|id| validate::id(id).is_ok());
    // What is of a few people is theirs who brought it to its end; every other suggestion is everybody's.
    let is_private = data.get("isPrivate") == Some(&Value::Bool(true));
    let author_id = if is_private { "nobody" } else { SYSTEM };
    let fields = json!({
        "title": title.chars().take(300).collect::<String>(), "content": content, "category": category,
        "tags": ["suggested"], "projectId": project_id, "source": { "source": kind, "sourceId": id },
        "sourceKey": format!("{kind}:{id}"), "authorId": author_id,
    });
    let entry = berth_sdk::http::read_value::<Entry>(fields)?;
    database::transaction(|transaction| {
        let known = transaction.query_one(
            "SELECT id FROM kb_entries WHERE organization_id = $1 AND source_key = $2",
            params![auth::organization_id()?, format!("{kind}:{id}")],
        )?;
        if transaction.once(&envelope.id)? && known.is_none() {
            api::make(transaction, entry)?;
        }
        Ok(())
    })
}

/// Handles `project.deleted`.
pub fn on_project_deleted(envelope: &Envelope) -> Result<()> {
    let data: Map<String, Value> = envelope.data()?;
    let Some(id) = text(&data, &["projectId", "id"]) else { return Ok(()) };
    archive_some(envelope, id)
}

/// Handles [`ARCHIVE`].
pub fn archive(envelope: &Envelope) -> Result<()> {
    on_project_deleted(envelope)
}

/// What is published of a project that is gone is still read, and no longer kept up.
fn archive_some(envelope: &Envelope, project_id: &str) -> Result<()> {
    if auth::principal().organization_id.is_none() {
        return Ok(());
    }
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        // Of an entry and what is below it a move waits for this, and not each for a row of the other.
        place::hold(transaction)?;
        let rows = Select::<Entry>::new()
            .equal("project_id", project_id)
            .equal("status", Status::Published)
            .sort("id")
            .limit(TURN)
            .all(transaction)?;
        let fields = json!({ "status": Status::Archived });
        let fields = fields.as_object().cloned().unwrap_or_default();
        for row in &rows {
            api::change(transaction, &row.id, &fields, IfMatch(None), Some("Its project was deleted"))?;
        }
        if i64::try_from(rows.len()).ok() == Some(TURN) {
            transaction.enqueue(ARCHIVE, &json!({ "projectId": project_id }), Duration::ZERO)?;
        }
        Ok(())
    })
}
