//! Versions: an entry as it was after each change. They never change themselves.

pub mod diff;

use berth_sdk::prelude::*;

use crate::entry::{self, Entry, api};

/// Versions of one entry; the oldest go.
const VERSIONS_MAX: i64 = 500;

/// A version.
#[entity(table = "kb_entry_versions", name = "version", sort = "-version")]
pub struct Version {
    /// The entry.
    pub entry_id: Id,
    /// The entry's own version then.
    pub version: i64,
    /// Its title then.
    pub title: String,
    /// Its content then.
    #[field(raw)]
    pub content: String,
    /// Who had changed it.
    pub edited_by: Id,
    /// Why.
    pub change_note: Option<String>,
}

impl Rules for Version {}

/// Notes how an entry is now.
pub fn note(transaction: &Transaction, row: &Stored<Entry>, change_note: Option<&str>) -> Result<()> {
    let version = Version {
        entry_id: row.id.clone(),
        version: row.version,
        title: row.title.clone(),
        content: row.content.clone(),
        edited_by: row.last_edited_by.clone(),
        change_note: change_note.filter(|note| !note.is_empty()).map(ToString::to_string),
    };
    entity::create(transaction, version)?;
    transaction.execute(
        "DELETE FROM kb_entry_versions WHERE entry_id = $1 AND version <= $2",
        params![&row.id, row.version - VERSIONS_MAX],
    )?;
    Ok(())
}

/// The version of a number; 404.
pub fn numbered(database: &dyn Executor, entry_id: &Id, number: i64) -> Result<Stored<Version>> {
    let row = Select::<Version>::new().equal("entry_id", entry_id).equal("version", number).first(database)?;
    row.ok_or_else(|| Problem::missing("version"))
}

/// The number of a version in a path.
pub fn number(text: &Id) -> Result<i64> {
    text.parse().map_err(|_| Problem::field("version", "must be a whole number"))
}

/// A version in a list.
#[data]
pub struct Listed {
    version: i64,
    title: String,
    edited_by: String,
    change_note: Option<String>,
    created_at: Timestamp,
    /// Characters of the content.
    length: i64,
}

/// `GET /api/knowledge/{id}/versions`: without contents, the newest first.
pub fn list(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Listed>>> {
    let entry = entity::read::<Entry>(&Pool, &id)?;
    let columns = "\"version\", \"title\", \"edited_by\" AS \"editedBy\", \"change_note\" AS \"changeNote\", \
        \"created_at\" AS \"createdAt\", LENGTH(\"content\") AS \"length\"";
    Select::<Version>::new().equal("entry_id", &entry.id).page_of(&Pool, &query, columns)
}

/// `GET /api/knowledge/{id}/versions/{version}`.
pub fn read(Params((id, version)): Params<(Id, Id)>) -> Result<Stored<Version>> {
    let entry = entity::read::<Entry>(&Pool, &id)?;
    numbered(&Pool, &entry.id, number(&version)?)
}

/// `POST /api/knowledge/{id}/versions/{version}/restore`: title and content become what they were, in a new version.
pub fn restore(Params((id, version)): Params<(Id, Id)>, if_match: IfMatch) -> Result<api::Whole> {
    let number = number(&version)?;
    let row = entry::transact(|transaction| {
        let entry = entity::read::<Entry>(transaction, &id)?;
        let old = numbered(transaction, &entry.id, number)?;
        let fields = json!({ "title": old.title, "content": old.content });
        let fields = fields.as_object().cloned().unwrap_or_default();
        api::change(transaction, &id, &fields, if_match, Some(&format!("Restored version {number}")))
    })?;
    Ok(api::Whole(200, row))
}
