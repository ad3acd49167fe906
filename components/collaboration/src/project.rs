//! Which projects the caller sees: asked of planning, which alone knows, and remembered for a moment. Sessions and ideas
//! of other projects do not exist for the caller; those without a project are the whole organization's.

use berth_sdk::{database::Value, prelude::*};

/// The condition under which a row of a table with a `project_id` exists for the caller; none: every one does.
pub fn within(table: &str) -> Option<Condition> {
    people::project::seen().map(|ids| condition(table, &ids.into_iter().collect::<Vec<_>>()))
}

/// The same as the end of a statement, with its values put behind those that are there.
pub fn and_within(table: &str, values: &mut Vec<Value>) -> String {
    let Some(Condition { sql, values: more }) = within(table) else { return String::new() };
    let mut more = more.into_iter();
    let mut placed = String::from(" AND (");
    for letter in sql.chars() {
        match (letter, if letter == '?' { more.next() } else { None }) {
            ('?', Some(value)) => {
                values.push(value);
                placed.push_str(&format!("${}", values.len()));
            }
            (letter, _) => placed.push(letter),
        }
    }
    placed + ")"
}

fn condition(table: &str, ids: &[Id]) -> Condition {
    let mut sql = format!("{table}.project_id IS NULL");
    let Some(last) = ids.last() else { return Condition { sql, values: Vec::new() } };
    // As many places as the next power of two: so that there are few different statements.
    let places = ids.len().next_power_of_two();
    sql.push_str(&format!(" OR {table}.project_id IN ({})", vec!["?"; places].join(", ")));
    let padding = std::iter::repeat_n(last, places - ids.len());
    Condition { sql, values: ids.iter().chain(padding).map(Value::from).collect() }
}

/// 404 unless the caller sees the project. Outside a transaction: it asks planning.
pub fn require(id: &Id) -> Result<()> {
    people::project::require(id)?;
    // It may be newer than what is remembered.
    people::project::forget();
    Ok(())
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
    fn the_projects_seen_are_named_in_few_shapes() {
        let ids: Vec<Id> = ["a", "b", "c"].map(Id::from).to_vec();
        let found = condition("t", &ids);
        assert_eq!(found.sql, "t.project_id IS NULL OR t.project_id IN (?, ?, ?, ?)");
        assert_eq!(found.values.len(), 4);
        testing::sign_in("u1", "o1");
        testing::permit("projects.project.read");
        cache::set_ttl("projects:u1", &ids, Duration::from_secs(10));
        let mut values = vec![Value::Integer(7)];
        let sql = and_within("t", &mut values);
        assert_eq!(sql, " AND (t.project_id IS NULL OR t.project_id IN ($2, $3, $4, $5))");
        assert_eq!(values.len(), 5);
    }
}
