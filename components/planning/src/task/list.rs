//! Lists of tasks: what people look for every day, besides the fields themselves.

use berth_sdk::{database::like, prelude::*};

use super::Task;

/// What lists of tasks can be narrowed by, besides their fields.
#[data]
pub(crate) struct Filter {
    /// Words of the title, or an identifier such as `QUAY-12`.
    #[field(max = 200)]
    q: Option<String>,
    /// One tag.
    #[field(max = 100)]
    tag: Option<String>,
    /// A user, `me`, or `none`.
    assigned_to: Option<String>,
    due_before: Option<Timestamp>,
    due_after: Option<Timestamp>,
    /// Neither completed nor cancelled, or one of the two.
    open: Option<bool>,
    /// Open, and due before now.
    overdue: Option<bool>,
}

/// `GET /api/tasks`.
pub(crate) fn every(Query(filter): Query<Filter>, query: PageQuery) -> Result<JsonText<Page<Stored<Task>>>> {
    of(Select::new(), filter, query)
}

/// One page of a selection of tasks.
pub(crate) fn of(select: Select<Task>, filter: Filter, mut query: PageQuery) -> Result<JsonText<Page<Stored<Task>>>> {
    let mut select = select;
    if let Some(words) = &filter.q {
        select = select.meets(like::in_any_case("title", words).or(like::equal_in_any_case("identifier", words)));
    }
    if let Some(tag) = &filter.tag {
        select = select.condition("CAST(tags AS TEXT) LIKE ? ESCAPE '!'", [like::entry(tag)]);
    }
    match filter.assigned_to.as_deref() {
        Some("me") => {
            select = select.equal("assigned_to", auth::user_id()?);
            query.pairs.retain(|(name, _)| name != "assignedTo");
        }
        Some("none") => {
            select = select.condition("assigned_to IS NULL", [] as [&str; 0]);
            query.pairs.retain(|(name, _)| name != "assignedTo");
        }
        _ => {}
    }
    if let Some(before) = filter.due_before {
        select = select.condition("due_date < ?", [before]);
    }
    if let Some(after) = filter.due_after {
        select = select.condition("due_date >= ?", [after]);
    }
    let is_overdue = filter.overdue == Some(true);
    if is_overdue {
        select = select.condition("due_date < ?", [clock::now()]);
    }
    match filter.open {
        Some(false) => select = select.one_of("status", ["completed", "cancelled"]),
        open if is_overdue || open == Some(true) => {
            select = select.condition("status NOT IN (?, ?)", ["completed", "cancelled"]);
        }
        _ => {}
    }
    select.page(&Pool, &query)
}
