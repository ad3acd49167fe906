//! Which projects the caller sees: asked of planning, which alone knows, and remembered for a moment. Sessions and ideas
//! of other projects do not exist for the caller; those without a project are the whole organization's.

use berth_sdk::{database::Value, prelude::*};

/// The condition under which a row of a table with a `project_id` exists for the caller; none: every one does.
pub fn within(table: &str) -> Option<Condition> {
    people::scope::within(&format!("{table}.project_id"))
}

/// The same as the end of a statement, with its values put behind those that are there.
pub fn and_within(table: &str, values: &mut Vec<Value>) -> String {
    within(table).map_or_else(String::new, |seen| format!(" AND ({})", seen.placed(values)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use berth_sdk::{auth::Principal, cache, testing};

    use super::*;

    #[test]
    fn without_planning_only_what_has_no_project_is_seen() {
        testing::sign_in("u1", "o1");
        let found = within("innovation_ideas").unwrap();
        assert_eq!((found.sql.as_str(), found.values.len()), ("innovation_ideas.project_id IS NULL", 0));
        testing::become_principal(Principal { is_super_admin: true, ..auth::principal() });
        assert!(within("innovation_ideas").is_none());
    }

    #[test]
    fn the_projects_seen_come_behind_the_values_that_are_there() {
        testing::sign_in("u1", "o1");
        testing::permit("projects.project.read");
        cache::set_ttl("projects:u1", &["a", "b"].map(Id::from).to_vec(), Duration::from_secs(10));
        let mut values = vec![Value::Integer(7)];
        let sql = and_within("t", &mut values);
        assert_eq!(sql, " AND (t.project_id IS NULL OR REPLACE($2, ',' || t.project_id || ',', '') <> $3)");
        assert_eq!(values, [Value::Integer(7), ",a,b,".into(), ",a,b,".into()]);
    }
}
