//! Rows that belong to projects: those of a project that the caller does not see do not exist for them, those of none are
//! everybody's. Planning is asked, and its answer remembered for a moment.

use std::collections::BTreeSet;

use berth_sdk::{database::Value, prelude::*};

use crate::project;

/// The condition under which a row exists for the caller, by its column with the project's id, which may be null; none: every
/// row does. While planning does not say, only what belongs to no project is there.
///
/// ```
/// berth_sdk::testing::sign_in("u1", "o1");
/// let seen = people::scope::within("n.project_id").unwrap(); // natively nobody answers
/// assert_eq!(seen.sql, "n.project_id IS NULL");
/// ```
pub fn within(column: &str) -> Option<Condition> {
    project::seen().map(|ids| condition(column, &ids))
}

/// A condition and [`within`] as one.
pub fn and_within(condition: Condition, column: &str) -> Condition {
    let Some(within) = within(column) else { return condition };
    let sql = format!("({}) AND ({})", condition.sql, within.sql);
    Condition { sql, values: condition.values.into_iter().chain(within.values).collect() }
}

/// 404 unless the caller sees the project, so that nobody writes into one that they do not see; 503 while planning does not
/// say.
pub fn require(id: &Id) -> Result<()> {
    if project::seen().is_none_or(|seen| seen.contains(id)) {
        return Ok(());
    }
    project::require_anew(id)
}

/// The same of a member of a body, where it names a project.
pub fn require_named(id: Option<&str>) -> Result<()> {
    id.map_or(Ok(()), |id| require(&Id::parse(id)?))
}

/// The condition that a column has one of these ids, which are one text, however many they are: a statement has few
/// parameters. No id has a comma.
///
/// ```
/// let none = people::scope::among("owner_id", &Default::default());
/// assert_eq!((none.sql.as_str(), none.values.len()), ("1 = 0", 0));
/// ```
pub fn among(column: &str, ids: &BTreeSet<Id>) -> Condition {
    if ids.is_empty() {
        return Condition::new("1 = 0", [] as [Value; 0]);
    }
    let ids: Vec<&str> = ids.iter().map(Id::as_str).collect();
    let list = format!(",{},", ids.join(","));
    Condition::new(format!("REPLACE(?, ',' || {column} || ',', '') <> ?"), [list.clone(), list])
}

fn condition(column: &str, ids: &BTreeSet<Id>) -> Condition {
    if ids.is_empty() {
        return Condition::new(format!("{column} IS NULL"), [] as [Value; 0]);
    }
    let Condition { sql, values } = among(column, ids);
    Condition { sql: format!("{column} IS NULL OR {sql}"), values }
}

#[cfg(test)]
mod tests {
    use berth_sdk::{auth::Principal, testing};

    use super::*;

    #[test]
    fn what_planning_does_not_vouch_for_is_not_there() {
        testing::sign_in("u1", "o1");
        assert_eq!(within("project_id"), Some(Condition::new("project_id IS NULL", [] as [Value; 0])));
        assert_eq!(require(&Id::from("p1")).unwrap_err().status, 503, "natively nobody answers");
        assert!(require_named(None).is_ok());
        assert_eq!(require_named(Some("p/1")).unwrap_err().status, 400);
        testing::become_principal(Principal { is_super_admin: true, ..auth::principal() });
        assert_eq!(within("project_id"), None);
        assert!(require(&Id::from("p1")).is_ok());
    }

    #[test]
    fn the_projects_that_are_seen_are_one_text() {
        testing::sign_in("u1", "o1");
        testing::permit("projects.project.read");
        project::remember(&BTreeSet::from(["p1", "p2"].map(Id::from)));
        let both = and_within(Condition::new("a = ?", ["x"]), "t.project_id");
        assert_eq!(both.sql, "(a = ?) AND (t.project_id IS NULL OR REPLACE(?, ',' || t.project_id || ',', '') <> ?)");
        assert_eq!(both.values, ["x", ",p1,p2,", ",p1,p2,"].map(Value::from));
        assert!(require(&Id::from("p2")).is_ok());
        assert!(require(&Id::from("p")).is_err());
    }
}
