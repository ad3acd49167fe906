//! Projects, which planning keeps: a row that belongs to one exists only for whoever sees that project. Nothing here may run
//! inside a transaction, as planning is asked.

use std::collections::BTreeSet;

use berth_sdk::{auth::PrincipalKind, prelude::*};

/// Projects that one statement can name.
const NAMED_MAX: usize = 400;

/// Whether the caller sees every project of the organization, as planning has it too.
fn sees_all() -> bool {
    let principal = auth::principal();
    principal.is_super_admin || principal.is_platform || principal.kind == PrincipalKind::System
}

/// 404 for `what` unless the caller sees the project, if it has one; 503 while planning does not say.
pub(crate) fn require(project_id: Option<&Id>, what: &str) -> Result<()> {
    let Some(project_id) = project_id.filter(|_| !sees_all()) else { return Ok(()) };
    if people::project::sees(project_id)? { Ok(()) } else { Err(Problem::missing(what)) }
}

/// Only the rows that the caller may see, by their column `project_id`.
pub(crate) fn narrowed<T: Entity>(select: Select<T>, query: &PageQuery) -> Result<Select<T>> {
    if let Some(project_id) = query.filter("projectId").filter(|_| !sees_all()) {
        return match Id::parse(project_id).and_then(|project_id| require(Some(&project_id), "project")) {
            Ok(()) => Ok(select),
            Err(problem) if problem.status < 500 => Ok(select.condition("1 = 0", [] as [i64; 0])),
            Err(problem) => Err(problem),
        };
    }
    Ok(match seen(T::DEFINITION.table)? {
        None => select,
        Some(Condition { sql, values }) => select.condition(&sql, values),
    })
}

/// The condition of the rows of a table that the caller may see; none when these are all.
pub(crate) fn seen(table: &str) -> Result<Option<Condition>> {
    if sees_all() {
        return Ok(None);
    }
    let rows = database::query(
        &format!(
            "SELECT DISTINCT project_id FROM {table} WHERE organization_id = $1 AND project_id IS NOT NULL LIMIT 10000"
        ),
        params![auth::organization_id()?],
    )?;
    let used = rows.into_iter().map(|row| row.get::<Id>("project_id")).collect::<Result<BTreeSet<_>, _>>()?;
    let seen: Vec<Id> =
        if used.is_empty() { Vec::new() } else { people::project::visible()?.intersection(&used).cloned().collect() };
    if seen.is_empty() {
        return Ok(Some(Condition::new("project_id IS NULL", [] as [i64; 0])));
    }
    if seen.len() > NAMED_MAX {
        return Err(Problem::unprocessable("They belong to too many projects; name one in projectId.")
            .with_code("TOO_MANY_PROJECTS"));
    }
    let places = vec!["?"; seen.len()].join(", ");
    Ok(Some(Condition::new(format!("project_id IS NULL OR project_id IN ({places})"), seen)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_planning_does_not_vouch_for_is_not_shown() {
        berth_sdk::testing::sign_in("u1", "o1");
        assert!(require(None, "experiment").is_ok());
        assert_eq!(require(Some(&Id::from("p1")), "experiment").unwrap_err().status, 503, "natively nobody answers");
        let administrator = auth::Principal { is_super_admin: true, ..auth::principal() };
        berth_sdk::testing::become_principal(administrator);
        assert!(require(Some(&Id::from("p1")), "experiment").is_ok());
        assert_eq!(seen("experiment_experiments").unwrap(), None);
    }
}
