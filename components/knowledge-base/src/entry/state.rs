//! What becomes of an entry: published, archived, restored, and in the end gone.

use std::time::Duration;

use berth_sdk::{database::Value, events::Message, prelude::*};

use super::{CREATED, Entry, Status, api, api::Whole, place, say};
use crate::{category, entry, search::index, version};

/// How long a deleted entry can be restored.
pub const RESTORE_TIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// The message that removes what can no longer be restored.
pub const PURGE: &str = "kb.purge.run";
/// Entries that are removed in one turn.
const TURN: i64 = 200;
/// Everything that hangs on an entry.
const BELONGINGS: &[&str] =
    &["kb_entry_versions", "kb_comments", "kb_favorites", "kb_helpful", "kb_attachments", "kb_search_index"];

/// `POST /api/knowledge/{id}/publish`.
pub fn publish(Params(id): Params<Id>, if_match: IfMatch) -> Result<Whole> {
    let row = entity::read::<Entry>(&Pool, &id)?;
    if row.content.trim().is_empty() {
        return Err(Problem::unprocessable("There is nothing to publish: it has no content.").with_code("EMPTY_ENTRY"));
    }
    if row.status == Status::Archived {
        return Err(Problem::conflict("It is archived; restore it first.").with_code("ENTRY_ARCHIVED"));
    }
    api::set_status(&id, if_match, Status::Published, "Published")
}

/// `POST /api/knowledge/{id}/archive`.
pub fn archive(Params(id): Params<Id>, if_match: IfMatch) -> Result<Whole> {
    let row = entry::transact(|transaction| {
        let before = entity::read::<Entry>(transaction, &id)?;
        if before.status == Status::Archived {
            return Err(Problem::conflict("It is archived already.").with_code("ENTRY_ARCHIVED"));
        }
        let fields = json!({ "status": Status::Archived });
        let fields = fields.as_object().cloned().unwrap_or_default();
        api::change(transaction, &id, &fields, if_match, Some("Archived"))
    })?;
    Ok(Whole(200, row))
}

/// `POST /api/knowledge/{id}/restore`: from the archive to what it was before, or from the deleted ones.
pub fn restore(Params(id): Params<Id>) -> Result<Whole> {
    if let Some(row) = entity::find::<Entry>(&Pool, &id)? {
        if row.status != Status::Archived {
            return Err(Problem::conflict("It is neither archived nor deleted.").with_code("NOTHING_TO_RESTORE"));
        }
        let status = row.status_before.unwrap_or(Status::Published);
        return api::set_status(&id, IfMatch(None), status, "Restored from the archive");
    }
    let row = api::again(|| entry::transact(|transaction| undelete(transaction, &id)))?;
    Ok(Whole(200, row))
}

/// Only its author, or who may delete, brings an entry back.
fn undelete(transaction: &Transaction, id: &Id) -> Result<Stored<Entry>> {
    place::hold(transaction)?;
    category::hold(transaction)?;
    let missing = || Problem::missing("entry");
    let found = transaction.query_one(
        "SELECT author_id FROM kb_entries WHERE id = $1 AND organization_id = $2 AND deleted_at > $3",
        params![id, auth::organization_id()?, clock::now().minus(RESTORE_TIME)],
    )?;
    let author_id: String = found.ok_or_else(missing)?.get("author_id")?;
    if auth::principal().user_id.as_deref() != Some(author_id.as_str()) && !auth::has("knowledge.knowledge.delete") {
        return Err(missing());
    }
    // Its own slug may have been taken meanwhile, and with it the unique index would refuse.
    transaction.execute(
        "UPDATE kb_entries SET deleted_at = NULL, slug = $2, updated_at = $3, version = version + 1 WHERE id = $1",
        params![id, format!("restored-{id}"), clock::now()],
    )?;
    let mut row = entity::read::<Entry>(transaction, id)?;
    let parent = match &row.parent_id {
        Some(parent_id) => entity::find::<Entry>(transaction, parent_id)?,
        None => None,
    };
    match parent {
        // It may have moved meanwhile.
        Some(parent) => row.space_id.clone_from(&parent.space_id),
        None => row.parent_id = None,
    }
    let mut settled = row.data.clone();
    place::settle(transaction, &mut settled, id)?;
    row.path = settled.path;
    // A category may have gone while only a deleted entry was of it.
    row.category_ids = category::known(transaction, &row.category_ids)?;
    row.slug = String::new();
    row.slug = place::free_slug(transaction, &row, Some(id))?;
    entity::save(transaction, &mut row)?;
    version::note(transaction, &row, Some("Restored"))?;
    index::put(transaction, &row)?;
    say(transaction, CREATED, &row)?;
    Ok(row)
}

/// The timer `purge`: for every organization with something to remove, a message of its own.
pub fn purge_due(_: &Envelope) -> Result<()> {
    let rows = database::query(
        "SELECT DISTINCT organization_id AS organization_id FROM kb_entries WHERE deleted_at < $1 LIMIT 1000",
        params![clock::now().minus(RESTORE_TIME)],
    )?;
    for row in rows {
        let organization_id: String = row.get("organization_id")?;
        events::enqueue_message(&Message::new(PURGE, &json!({}))?.for_organization(organization_id))?;
    }
    Ok(())
}

/// Handles [`PURGE`]: what was deleted long ago goes with all that hangs on it.
pub fn purge(envelope: &Envelope) -> Result<()> {
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        let rows = transaction.query(
            "SELECT id FROM kb_entries WHERE organization_id = $1 AND deleted_at < $2 ORDER BY id LIMIT $3",
            params![auth::organization_id()?, clock::now().minus(RESTORE_TIME), TURN],
        )?;
        let ids = rows.into_iter().map(|row| row.get::<Value>("id")).collect::<Result<Vec<_>, _>>()?;
        if ids.is_empty() {
            return Ok(());
        }
        let places: Vec<String> = (1..=ids.len()).map(|place| format!("${place}")).collect();
        let places = places.join(", ");
        transaction.execute(
            &format!(
                "DELETE FROM kb_runbook_runs WHERE runbook_id IN (SELECT id FROM kb_runbooks WHERE entry_id IN ({places}))"
            ),
            &ids,
        )?;
        for table in BELONGINGS.iter().chain(&["kb_runbooks"]) {
            transaction.execute(&format!("DELETE FROM {table} WHERE entry_id IN ({places})"), &ids)?;
        }
        transaction.execute(&format!("DELETE FROM kb_entries WHERE id IN ({places})"), &ids)?;
        if i64::try_from(ids.len()).ok() == Some(TURN) {
            transaction.enqueue(PURGE, &json!({}), Duration::ZERO)?;
        }
        Ok(())
    })
}
