//! The routes of patterns as rows.

use berth_sdk::{
    entity::{Draft, Made, Patch},
    prelude::*,
    serde_json::Value,
};

use super::{
    Pattern, hold,
    sight::{seen, select},
};
use crate::words;

/// What the list is narrowed to, beyond the fields.
#[data]
pub struct Filter {
    /// Patterns with this tag.
    #[field(max = 60)]
    tag: Option<String>,
}

/// `GET /api/patterns`.
pub fn list(Query(filter): Query<Filter>, query: PageQuery) -> Result<JsonText<Page<Stored<Pattern>>>> {
    let mut select = select(query.filter("projectId").as_deref())?;
    if let Some(tag) = &filter.tag {
        select = words::listed(select, "tags", tag);
    }
    select.page(&Pool, &query)
}

/// `POST /api/patterns`.
pub fn create(Draft(mut fields, _): Draft<Pattern>) -> Result<Made<Pattern>> {
    let is_of_somebody = ["teamId", "projectId"].iter().any(|name| fields.get(*name).is_some_and(|id| !id.is_null()));
    fields.entry("isPublic").or_insert_with(|| Value::Bool(!is_of_somebody));
    let pattern: Pattern = berth_sdk::http::read_value(Value::Object(fields))?;
    pattern.project_id.as_ref().map_or(Ok(()), people::project::require)?;
    database::transaction(|transaction| entity::create(transaction, pattern)).map(Made)
}

/// `GET /api/patterns/{id}`.
pub fn read(Params(id): Params<Id>) -> Result<Stored<Pattern>> {
    seen(&id)
}

/// `PUT /api/patterns/{id}`: other code is the next version.
pub fn update(Params(id): Params<Id>, if_match: IfMatch, Patch(patch, _): Patch<Pattern>) -> Result<Stored<Pattern>> {
    let before = seen(&id)?;
    let project_id = patch.get("projectId").and_then(Value::as_str).map(Id::parse).transpose()?;
    if project_id != before.project_id {
        project_id.as_ref().map_or(Ok(()), people::project::require)?;
    }
    database::transaction(|transaction| {
        hold(transaction, &id)?;
        entity::update::<Pattern>(transaction, &id, &patch, if_match)
    })
}

/// `DELETE /api/patterns/{id}`: with its versions and ratings.
pub fn remove(Params(id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    seen(&id)?;
    database::transaction(|transaction| entity::delete::<Pattern>(transaction, &id, if_match))?;
    Ok(NoContent)
}
