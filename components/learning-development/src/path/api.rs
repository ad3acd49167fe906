//! The list of paths.

use berth_sdk::prelude::*;

use super::Path;
use crate::words;

/// What the list is narrowed to, beyond the fields.
#[data]
pub struct Filter {
    /// Paths that cover this skill.
    #[field(max = 60)]
    skill: Option<String>,
    /// Text in title or description.
    #[field(max = 200)]
    q: Option<String>,
    /// The caller's own and those the caller is enrolled in.
    mine: Option<bool>,
}

/// `GET /api/learning/paths`.
pub fn list(Query(filter): Query<Filter>, query: PageQuery) -> Result<JsonText<Page<Stored<Path>>>> {
    let mut select = Select::<Path>::new();
    if let Some(skill) = &filter.skill {
        select = words::listed(select, "skills_covered", skill);
    }
    if let Some(text) = &filter.q {
        select = words::titled(select, text);
    }
    if filter.mine == Some(true) {
        let user_id = auth::user_id()?;
        let sql =
            "user_id = ? OR id IN (SELECT path_id FROM learning_enrollments WHERE user_id = ? AND status <> 'dropped')";
        select = select.condition(sql, [&user_id, &user_id]);
    }
    select.page(&Pool, &query)
}
