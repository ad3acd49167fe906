//! Articles of knowledge-base, which come by themselves into every collection whose source they are. Only what everybody
//! in the organization may read is taken: published, and not in a private space.

use berth_sdk::{http_out, prelude::*, serde_json::Value};

use crate::{
    collection::Collection,
    document::{CONTENT_MAX, Document, Status, store},
    draft::Prepared,
    embedder,
};

/// The source type of a collection of articles.
pub const SOURCE: &str = "knowledge";
/// Collections that take an article.
const COLLECTIONS_MAX: i64 = 50;
/// Articles that are fetched in one step.
const PAGE: i64 = 20;

/// An article, as far as it is needed here.
#[data]
pub struct Entry {
    /// Which one.
    #[field(default)]
    pub id: String,
    #[field(default)]
    title: String,
    #[field(default, raw)]
    content: String,
    status: Option<String>,
    category: Option<String>,
    project_id: Option<String>,
    #[field(default)]
    tags: Vec<String>,
    /// Said by knowledge-base of what is in a space that not everybody reads.
    #[field(default)]
    is_private: bool,
    #[field(default)]
    is_template: bool,
}

impl Entry {
    fn is_for_everybody(&self) -> bool {
        self.status.as_deref() == Some("published") && !self.is_private && !self.is_template && !self.content.is_empty()
    }
}

/// A list of articles.
#[data]
struct Entries {
    items: Vec<Listed>,
    total: i64,
}

/// An article in a list.
#[data]
struct Listed {
    id: String,
}

/// What an event says.
#[data]
struct News {
    entry_id: Option<Id>,
    article_id: Option<Id>,
    id: Option<Id>,
}

/// How often an article is read again that changes while it is written.
const SETTLES_MAX: u32 = 5;

/// Handles `knowledge.article.*`. The article is read as it is now, so that an event that comes late does no harm.
pub fn on_article(envelope: &Envelope) -> Result<()> {
    let news: News = envelope.data()?;
    let Some(id) = news.entry_id.or(news.article_id).or(news.id) else { return Ok(()) };
    if auth::principal().organization_id.is_none() {
        return Ok(());
    }
    let collections = Select::<Collection>::new().equal("source_type", SOURCE).limit(COLLECTIONS_MAX).all(&Pool)?;
    let own: Vec<_> = collections.into_iter().filter(|collection| collection.organization_id.is_some()).collect();
    if own.is_empty() {
        return Ok(());
    }
    let is_deleted = envelope.message_type.ends_with(".deleted");
    let entry = match read(&id) {
        // What is gone goes from here also while nobody can say so again.
        Err(problem) if is_deleted && problem.status >= 500 => None,
        entry => entry?,
    };
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        write(transaction, &own, &id, entry.as_ref())
    })?;
    settle(&own, &id, entry)
}

/// Reads an article again after it was written, and writes it again where it has changed meanwhile: the event of that change may have been
/// handled in between, and nothing else would put it right.
pub fn settle(own: &[Stored<Collection>], id: &Id, mut written: Option<Entry>) -> Result<()> {
    for _ in 0..SETTLES_MAX {
        let now = read(id)?;
        if now == written {
            return Ok(());
        }
        database::transaction(|transaction| write(transaction, own, id, now.as_ref()))?;
        written = now;
    }
    Ok(())
}

fn write(transaction: &Transaction, own: &[Stored<Collection>], id: &Id, entry: Option<&Entry>) -> Result<()> {
    for collection in own {
        match entry {
            Some(entry) => keep(transaction, collection, entry, true)?,
            None => drop_source(transaction, collection, id)?,
        }
    }
    Ok(())
}

/// The article, when it is there for everybody.
fn read(id: &str) -> Result<Option<Entry>> {
    let client = http_out::plugin("knowledge-base");
    match client.get(&format!("/api/knowledge/{id}")).fetch::<Entry>() {
        Ok(entry) if entry.is_for_everybody() => Ok(Some(entry)),
        Ok(_) => Ok(None),
        Err(problem) if matches!(problem.status, 403 | 404 | 410) => Ok(None),
        Err(problem) => Err(problem),
    }
}

/// Some articles from an offset on, and where to go on; none: no more.
pub fn fetch(offset: i64) -> Result<(Vec<Entry>, Option<String>)> {
    let call = http_out::plugin("knowledge-base").get("/api/knowledge");
    let call = call.query("status", "published").query("sortBy", "id").query("order", "asc");
    let call = call.query("limit", &PAGE.to_string()).query("offset", &offset.to_string());
    let listed: Entries = match call.fetch() {
        Ok(listed) => listed,
        // Without knowledge-base a collection is indexed with what it has.
        Err(problem) if problem.status == 503 => return Ok((Vec::new(), None)),
        Err(problem) => return Err(problem),
    };
    let mut entries = Vec::new();
    for item in &listed.items {
        if validate::id(&item.id).is_ok() {
            entries.extend(read(&item.id)?);
        }
    }
    let next = offset + i64::try_from(listed.items.len()).unwrap_or(PAGE);
    let is_last = listed.items.is_empty() || next >= listed.total;
    Ok((entries, (!is_last).then(|| next.to_string())))
}

/// Makes or changes the document of an article. With `at_once` its vectors are asked for in a message of their own.
pub fn keep(transaction: &Transaction, collection: &Stored<Collection>, entry: &Entry, at_once: bool) -> Result<()> {
    let content: String = format!("{}\n\n{}", entry.title, entry.content).chars().take(CONTENT_MAX).collect();
    let hash = embedder::hash(&content);
    let metadata = json!({ "category": entry.category, "tags": entry.tags });
    let metadata = metadata.as_object().cloned();
    let old = Select::<Document>::new()
        .equal("collection_id", &collection.id)
        .equal("source_id", entry.id.as_str())
        .first(transaction)?;
    let status = if at_once { Status::Pending } else { Status::Stale };
    let title = Some(entry.title.chars().take(500).collect::<String>());
    let project_id = entry.project_id.clone().filter(|id| validate::id(id).is_ok()).map(Id::from);
    let tokens = Some(embedder::tokens(&content));
    match old {
        Some(mut row) => {
            let before = row.clone();
            row.title = title;
            row.metadata = metadata;
            // Its project says who sees an article, and what was made of it.
            row.project_id = project_id;
            if row.content_hash == hash && row.status == Status::Completed {
                entity::save(transaction, &mut row)?;
                return store::follow(transaction, &before, &row);
            }
            let document = Document {
                content,
                content_hash: hash,
                token_count: tokens,
                status,
                error_message: None,
                attempts: 0,
                ..row.data.clone()
            };
            let row = store::replace(transaction, row, Prepared::new(document, Vec::new()))?;
            store::follow(transaction, &before, &row)
        }
        None => {
            let fields: Value = json!({
                "projectId": project_id, "content": content, "contentHash": hash, "metadata": metadata, "title": title,
                "collectionId": collection.id, "sourceId": entry.id, "sourceType": SOURCE, "status": status,
                "tokenCount": tokens,
            });
            let document = berth_sdk::http::read_value::<Document>(fields)?;
            store::insert(transaction, Prepared::new(document, Vec::new())).map(|_| ())
        }
    }
}

fn drop_source(transaction: &Transaction, collection: &Stored<Collection>, source_id: &Id) -> Result<()> {
    let row = Select::<Document>::new()
        .equal("collection_id", &collection.id)
        .equal("source_id", source_id)
        .first(transaction)?;
    match row {
        Some(row) => store::remove(transaction, &row),
        None => Ok(()),
    }
}
