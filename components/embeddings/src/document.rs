//! Documents: texts with their vectors.

pub mod api;
pub mod store;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
    types::Scope,
};

use people::scope;

use crate::collection;

/// Characters of a document.
pub const CONTENT_MAX: usize = 400_000;

/// How far a document is.
#[choice(upper)]
pub enum Status {
    /// Waits for its vectors.
    Pending,
    /// Gets them.
    Processing,
    /// Is found.
    Completed,
    /// Got none.
    Failed,
    /// Has vectors of what it was before.
    Stale,
}

/// A document. Its content is left to the letter; its vector is apart, because it is bytes.
#[entity(table = "emb_documents", name = "document", global, sort = "-createdAt")]
pub struct Document {
    /// The project.
    pub project_id: Option<Id>,
    /// The file, within the project.
    #[field(min = 1, max = 1_000, raw, filter)]
    pub file_path: Option<String>,
    /// What it says.
    #[field(min = 1, max = CONTENT_MAX, raw)]
    pub content: String,
    /// Members of its vector.
    #[field(readonly, default = 0)]
    pub dims: i64,
    /// The length of its vector.
    #[field(readonly, default = 0.0)]
    pub norm: f64,
    /// Whatever one wants to find it by.
    pub metadata: Option<Map<String, Value>>,
    /// What made the vector.
    #[field(readonly, filter)]
    pub embedding_model: Option<String>,
    /// The collection.
    #[field(readonly)]
    pub collection_id: Option<Id>,
    /// What it was made of, such as an article.
    #[field(readonly)]
    pub source_id: Option<Id>,
    /// What kind of thing that is.
    #[field(readonly, filter)]
    pub source_type: Option<String>,
    /// Its title.
    #[field(max = 500, plain)]
    pub title: Option<String>,
    /// SHA-256 of the content.
    #[field(readonly, default = "", filter)]
    pub content_hash: String,
    /// How far it is.
    #[field(readonly, default = Status::Pending)]
    pub status: Status,
    /// Why it has no vector.
    #[field(readonly)]
    pub error_message: Option<String>,
    /// How many passages it has.
    #[field(readonly, default = 0)]
    pub chunk_count: i64,
    /// About how many tokens it has.
    #[field(readonly)]
    pub token_count: Option<i64>,
    /// The vector came with the document: nobody else makes it.
    #[field(readonly, hidden, default = false)]
    pub is_supplied: bool,
    /// How often its vectors were tried in vain.
    #[field(readonly, hidden, default = 0)]
    pub attempts: i64,
    /// GLOBAL in a collection of everybody.
    #[field(readonly, hidden, default = Scope::Organization)]
    pub scope: Scope,
}

impl Rules for Document {
    fn scope() -> Option<Condition> {
        Some(scope::and_within(collection::visible(""), "project_id"))
    }

    /// What other services learn. Never the content.
    fn event_data(row: &Stored<Self>) -> Value {
        json!({
            "documentId": row.id, "collectionId": row.collection_id, "projectId": row.project_id,
            "filePath": row.file_path, "sourceId": row.source_id, "sourceType": row.source_type, "status": row.status,
            "contentHash": row.content_hash, "model": row.embedding_model,
        })
    }
}
