//! Entries: what a team knows, as Markdown; who reads and writes it, where it stands, and what others learn of it.

pub mod api;
pub mod count;
pub mod place;
pub mod state;

use berth_sdk::{
    auth::PrincipalKind,
    database::Value as Parameter,
    events::Message,
    prelude::*,
    serde_json::{Map, Value},
};
use sha2::{Digest as _, Sha256};

use crate::{category, space};

/// Characters of an entry.
pub const CONTENT_MAX: usize = 400_000;
/// Bytes of blocks and of links.
const JSON_BYTES_MAX: usize = 512 * 1024;
/// Who has edited an entry, and so sees it as a draft.
const EDITORS_MAX: usize = 100;
/// What entries are about.
pub const CATEGORIES: &[&str] =
    &["documentation", "best-practice", "note", "article", "faq", "troubleshooting", "runbook", "decision"];
/// The author of what nobody has begun.
pub const SYSTEM: &str = "system";
/// The events of entries.
pub const CREATED: &str = "knowledge.article.created";
/// See [`CREATED`].
pub const UPDATED: &str = "knowledge.article.updated";
/// See [`CREATED`].
pub const DELETED: &str = "knowledge.article.deleted";

/// How far an entry is.
#[choice]
pub enum Status {
    /// Its author and editors see it.
    Draft,
    /// Whoever reads its space sees it.
    Published,
    /// Still read, no longer kept up.
    Archived,
}

/// What an entry was made of.
#[choice]
pub enum SourceKind {
    /// Code.
    Code,
    /// A commit.
    Commit,
    /// A pull request.
    Pr,
    /// A conversation.
    Discussion,
    /// An incident.
    Incident,
}

/// What an entry was made of.
#[data]
pub struct Source {
    /// What kind of thing.
    pub source: SourceKind,
    /// Which one.
    #[field(min = 1, max = 200, plain)]
    pub source_id: Option<String>,
}

impl entity::Column for Source {
    const KIND: entity::Kind = entity::Kind::Json;
}

/// What an entry is about, elsewhere.
#[data]
#[derive(Default)]
pub struct Links {
    /// Projects.
    #[field(default, max = 200)]
    pub projects: Vec<Id>,
    /// Tasks.
    #[field(default, max = 200)]
    pub tasks: Vec<Id>,
    /// Plans.
    #[field(default, max = 200)]
    pub plans: Vec<Id>,
}

impl entity::Column for Links {
    const KIND: entity::Kind = entity::Kind::Json;
}

/// An entry.
#[entity(table = "kb_entries", name = "entry", soft_delete, sort = "-updatedAt")]
pub struct Entry {
    /// The team it is of.
    pub team_id: Option<Id>,
    /// The project it is about.
    pub project_id: Option<Id>,
    /// Where it is; an entry below another one is where that is.
    #[field(parent = space::Space)]
    pub space_id: Option<Id>,
    /// The entry it is below.
    #[field(parent = Entry)]
    pub parent_id: Option<Id>,
    /// Its title.
    #[field(min = 1, max = 300, plain)]
    pub title: String,
    /// Its title in an address; made of it, and unique in its space.
    #[field(max = 100, default = "", filter)]
    pub slug: String,
    /// Markdown, left as it came: whoever shows it makes it harmless.
    #[field(max = CONTENT_MAX, raw, default = "")]
    pub content: String,
    /// The content of an editor of blocks.
    pub blocks: Option<Value>,
    /// What kind of entry it is.
    #[field(default = "article", filter)]
    pub category: String,
    /// Categories of one's own.
    #[field(default, max = 50)]
    pub category_ids: Vec<Id>,
    /// Words to find it by.
    #[field(default, max = 50)]
    pub tags: Vec<String>,
    /// How far it is.
    #[field(default = Status::Draft)]
    pub status: Status,
    /// What it was before it was archived.
    #[field(readonly, hidden)]
    pub status_before: Option<Status>,
    /// Who has begun it.
    #[field(readonly, default = Id::from("nobody"))]
    pub author_id: Id,
    /// Who else sees it as a draft; whoever edits it comes to them.
    #[field(default, max = EDITORS_MAX)]
    pub editor_ids: Vec<Id>,
    /// Who has changed it last.
    #[field(readonly, default = Id::from("nobody"))]
    pub last_edited_by: Id,
    /// The ids from the top down to it.
    #[field(readonly, default = "")]
    pub path: String,
    /// The file it is kept in, where it is.
    #[field(max = 1_000, raw)]
    pub file_path: Option<String>,
    /// What it was made of.
    pub source: Option<Source>,
    /// Keeps one thing from being made into two entries by itself.
    #[field(readonly, hidden)]
    pub source_key: Option<String>,
    /// What it is about, elsewhere.
    #[field(default)]
    pub links: Links,
    /// Others are begun with it.
    #[field(default = false)]
    pub is_template: bool,
    /// How often it was looked at.
    #[field(readonly, default = 0)]
    pub view_count: i64,
    /// How many people it has helped.
    #[field(readonly, default = 0)]
    pub helpful_count: i64,
    /// What it says, in short.
    #[field(max = 5_000)]
    pub summary: Option<String>,
    /// SHA-256 of title and content.
    #[field(readonly, default = "")]
    pub content_hash: String,
    /// When it was first published.
    #[field(readonly)]
    pub published_at: Option<Timestamp>,
}

impl Rules for Entry {
    /// Drafts are their author's and editors', in the archive too, those that nobody has begun everybody's; what is in a space is its
    /// readers', and what is about a project is there for those who see the project.
    fn scope() -> Option<Condition> {
        let principal = auth::principal();
        if principal.kind == PrincipalKind::System {
            return None;
        }
        let user_id = principal.user_id.unwrap_or_default();
        let (readable, more) = space::readable(&user_id);
        let sql = format!(
            "(\"status\" = 'published' OR (\"status\" = 'archived' AND COALESCE(\"status_before\", 'published') <> 'draft')
              OR \"author_id\" IN (?, 'system') OR CAST(\"editor_ids\" AS TEXT) LIKE ?)
             AND (\"space_id\" IS NULL OR \"space_id\" IN (SELECT id FROM kb_spaces WHERE {readable}))"
        );
        let mut values: Vec<Parameter> = vec![user_id.as_str().into(), format!("%\"{user_id}\"%").into()];
        values.extend(more);
        Some(people::scope::and_within(Condition { sql, values }, "\"project_id\""))
    }

    fn check(&self, faults: &mut Faults) {
        faults.check("category", validate::one_of(&self.category, CATEGORIES));
        if self.tags.iter().any(|tag| tag.is_empty() || tag.chars().count() > 50) {
            faults.add("tags", "must have 1 to 50 characters each");
        }
        if !self.slug.is_empty() && self.slug != place::slug_of(&self.slug) {
            faults.add("slug", "must have a-z, 0-9 and single hyphens inside only");
        }
        if self.blocks.as_ref().is_some_and(|blocks| blocks.to_string().len() > JSON_BYTES_MAX) {
            faults.add("blocks", format!("must have at most {JSON_BYTES_MAX} bytes"));
        }
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        let user_id = Id::from(auth::principal().user_id.unwrap_or_else(|| SYSTEM.into()));
        if self.author_id.as_str() != SYSTEM {
            self.author_id = user_id.clone();
        }
        self.last_edited_by = user_id;
        self.complete(transaction, &[])?;
        if self.status == Status::Published {
            self.published_at = Some(clock::now());
        }
        Ok(())
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if *self == old.data {
            return Ok(());
        }
        let moves = self.parent_id != old.parent_id || self.space_id != old.space_id;
        if moves {
            place::hold(transaction)?;
        }
        if let Some(user_id) = auth::principal().user_id.map(Id::from) {
            let is_known = self.author_id == user_id || self.editor_ids.contains(&user_id);
            if !is_known && self.editor_ids.len() < EDITORS_MAX {
                self.editor_ids.push(user_id.clone());
            }
            self.last_edited_by = user_id;
        }
        self.complete(transaction, &old.category_ids)?;
        if self.status == Status::Archived && old.status != Status::Archived {
            self.status_before = Some(old.status);
        }
        if self.status == Status::Published && self.published_at.is_none() {
            self.published_at = Some(clock::now());
        }
        if moves {
            place::relocate(transaction, self, old)?;
        }
        if self.slug != old.slug || self.space_id != old.space_id {
            self.slug = place::free_slug(transaction, self, Some(&old.id))?;
        }
        Ok(())
    }
}

impl Entry {
    /// What follows from the rest; `category_ids` are those that it has had.
    fn complete(&mut self, transaction: &Transaction, category_ids: &[Id]) -> Result<()> {
        self.tags = tidy_tags(&self.tags);
        if self.category_ids != category_ids {
            category::check_ids(transaction, &self.category_ids)?;
        }
        self.content_hash = hash(&[&self.title, &self.content]);
        Ok(())
    }
}

/// Does what looks at entries in a transaction. Which projects the caller sees is asked before it: no call to another service may
/// keep it waiting.
pub fn transact<T>(work: impl FnOnce(&Transaction) -> Result<T>) -> Result<T> {
    people::project::seen();
    database::transaction(work)
}

/// Tags without repetition, as they were first written.
fn tidy_tags(tags: &[String]) -> Vec<String> {
    let mut known = std::collections::BTreeSet::new();
    tags.iter().filter(|tag| known.insert(tag.to_lowercase())).cloned().collect()
}

/// SHA-256 of some texts in hexadecimal.
pub fn hash(texts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update(text.as_bytes());
        hasher.update([0]);
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether it is a draft that somebody has begun: their own, in the archive too.
fn is_own_draft(entry: &Entry) -> bool {
    let is_draft = match entry.status {
        Status::Draft => true,
        Status::Archived => entry.status_before == Some(Status::Draft),
        Status::Published => false,
    };
    is_draft && entry.author_id.as_str() != SYSTEM
}

/// Tells others of an entry: never its content, and whether it is for few.
pub fn say(transaction: &Transaction, kind: &str, row: &Stored<Entry>) -> Result<()> {
    let is_private = is_own_draft(row) || !space::is_public(transaction, row.space_id.as_ref())?;
    let data = json!({
        "entryId": row.id, "title": row.title, "slug": row.slug, "category": row.category, "status": row.status,
        "projectId": row.project_id, "spaceId": row.space_id, "contentHash": row.content_hash, "authorId": row.author_id,
        "isPrivate": is_private, "isTemplate": row.is_template, "tags": row.tags,
    });
    transaction.send(&Message::new(kind, &data)?.with_key(row.id.as_str())).map(|_| ())
}

/// The columns of an entry in a list: everything but content and blocks.
pub fn listed() -> String {
    let own = Entry::DEFINITION.fields.iter().filter(|field| !field.is_hidden);
    let own = own.filter(|field| !matches!(field.name, "content" | "blocks" | "path" | "editorIds"));
    let mut columns: Vec<String> = vec!["\"id\"".into(), "\"organization_id\" AS \"organizationId\"".into()];
    columns.extend(own.map(|field| format!("\"{}\" AS \"{}\"", field.column, field.name)));
    for (column, name) in [("created_by", "createdBy"), ("created_at", "createdAt"), ("updated_at", "updatedAt")] {
        columns.push(format!("\"{column}\" AS \"{name}\""));
    }
    columns.push("\"version\"".into());
    columns.join(", ")
}

/// Members of a body that only the service sets are left out.
pub fn writable(mut fields: Map<String, Value>) -> Map<String, Value> {
    for field in Entry::DEFINITION.fields.iter().filter(|field| field.access == entity::Access::Readonly) {
        fields.remove(field.name);
    }
    fields
}

#[cfg(test)]
mod tests {
    use berth_sdk::{http::read_value, json};

    use super::{Entry, Status, is_own_draft, tidy_tags};

    #[test]
    fn a_draft_is_somebodys_own_until_it_is_published() {
        let entry = |status: &str, before: Option<Status>, author_id: &str| {
            let mut entry =
                read_value::<Entry>(json!({"title": "a", "status": status, "authorId": author_id})).unwrap();
            entry.status_before = before;
            is_own_draft(&entry)
        };
        assert!(entry("draft", None, "u1") && entry("archived", Some(Status::Draft), "u1"));
        assert!(!entry("published", Some(Status::Draft), "u1") && !entry("archived", Some(Status::Published), "u1"));
        assert!(!entry("archived", None, "u1") && !entry("draft", None, "system"), "a suggestion is everybody's");
    }

    #[test]
    fn a_tag_stands_once() {
        let tags = ["Ops", "ops", "a"].map(String::from);
        assert_eq!(tidy_tags(&tags), ["Ops", "a"]);
    }
}
