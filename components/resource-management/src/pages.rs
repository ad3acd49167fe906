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

/// 400 for a list that is to be sorted by what it does not show of everybody's rows: the order would tell it.
pub fn require_sort(query: &PageQuery, shown: &[&str]) -> Result<()> {
    match query.sort_by.as_deref() {
        Some(name) if !shown.contains(&name) => {
            Err(Problem::field("sortBy", format!("must be one of {}", shown.join(", "))))
        }
        _ => Ok(()),
    }
}

/// One page of what was found and sorted already.
pub fn cut<T>(query: &PageQuery, all: Vec<T>) -> Page<T> {
    let total = i64::try_from(all.len()).unwrap_or(i64::MAX);
    let (offset, limit) = (usize::try_from(query.offset).unwrap_or(0), usize::try_from(query.limit).unwrap_or(0));
    query.envelope(all.into_iter().skip(offset).take(limit).collect(), total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_sorted_by_what_it_shows() {
        let asked = |sort_by: Option<&str>| PageQuery { sort_by: sort_by.map(Into::into), ..PageQuery::default() };
        assert!(require_sort(&asked(None), &["userId"]).is_ok());
        assert!(require_sort(&asked(Some("userId")), &["userId"]).is_ok());
        let refused = require_sort(&asked(Some("costRateMicro")), &["userId"]).unwrap_err();
        assert_eq!((refused.status, refused.errors[0].field.as_str()), (400, "sortBy"));
    }
}
