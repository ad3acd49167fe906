//! Pages whose rows are looked at before they are shown.

use berth_sdk::{
    prelude::*,
    serde_json::{self, Map, Value},
};

/// A page of rows as they are shown.
pub fn page_of<T: Entity>(select: Select<T>, query: &PageQuery) -> Result<Page<Map<String, Value>>> {
    #[data]
    struct Shown {
        items: Vec<Map<String, Value>>,
        total: i64,
    }
    let response = select.page(&Pool, query)?.into_response()?;
    let shown: Option<Shown> = response.json_body().and_then(|body| serde_json::from_value(body).ok());
    let shown = shown.ok_or_else(Problem::internal)?;
    Ok(query.envelope(shown.items, shown.total))
}

/// One page of what was found and sorted already.
pub fn cut<T>(query: &PageQuery, all: Vec<T>) -> Page<T> {
    let total = i64::try_from(all.len()).unwrap_or(i64::MAX);
    let (offset, limit) = (usize::try_from(query.offset).unwrap_or(0), usize::try_from(query.limit).unwrap_or(0));
    query.envelope(all.into_iter().skip(offset).take(limit).collect(), total)
}
