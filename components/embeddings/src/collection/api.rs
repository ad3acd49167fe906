//! The routes of collections that are not an entity's usual ones.

use berth_sdk::prelude::*;

use super::Collection;
use crate::document::Document;

/// `GET /api/embeddings/collections/{id}/documents`.
pub fn documents(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Document>>>> {
    let collection = entity::read::<Collection>(&Pool, &id)?;
    Select::<Document>::new().equal("collection_id", &collection.id).page(&Pool, &query)
}
