//! Whose executions these are: whoever sees a project sees its executions, and whoever may change it moves them. Planning
//! knows, and is asked; so nothing here may run inside a transaction.

use berth_sdk::{auth::PrincipalKind, prelude::*};

use crate::execution::Execution;

/// Projects that one statement can name.
const NAMED_MAX: usize = 400;
/// Projects that planning is asked about.
const USED_MAX: usize = 1_000;

/// Whether the caller may do everything with every project of the organization, as planning has it too.
fn is_above() -> bool {
    let principal = auth::principal();
    principal.is_super_admin || principal.is_platform || principal.kind == PrincipalKind::System
}

/// Whether the caller may change a project; none when they do not see it.
fn level(project_id: &Id) -> Result<Option<bool>> {
    if is_above() {
        return Ok(Some(true));
    }
    Ok(people::project::levels(std::slice::from_ref(project_id))?.into_values().next())
}

/// An execution that the caller sees; 404, 503 while planning does not say.
pub fn read(id: &Id) -> Result<Stored<Execution>> {
    let execution = entity::read::<Execution>(&Pool, id)?;
    match &execution.project_id {
        Some(project_id) if level(project_id)?.is_none() => Err(missing()),
        _ => Ok(execution),
    }
}

/// Whether the caller may move an execution: 404 when they do not see it, 403 when they only see it.
pub fn require_edit(id: &Id) -> Result<()> {
    let execution = entity::read::<Execution>(&Pool, id)?;
    execution.project_id.as_ref().map_or(Ok(()), |project_id| require_edit_of(project_id, missing))
}

/// Whether the caller may execute plans of a project: 403, or what `missing` says when they do not see it.
pub fn require_edit_of(project_id: &Id, missing: impl FnOnce() -> Problem) -> Result<()> {
    match level(project_id)? {
        Some(true) => Ok(()),
        Some(false) => Err(Problem::forbidden("It needs the level editor in the project.")),
        None => Err(missing()),
    }
}

fn missing() -> Problem {
    Problem::missing("execution")
}

/// One page of the executions that the caller sees.
pub fn page(query: &PageQuery) -> Result<JsonText<Page<Stored<Execution>>>> {
    let select = Select::<Execution>::new();
    let select = match query.filter("projectId").map(Id::parse) {
        // A page of one project asks about that alone.
        Some(Ok(project_id)) if level(&project_id)?.is_none() => select.condition("1 = 0", [] as [i64; 0]),
        None if !is_above() => narrowed(select)?,
        _ => select,
    };
    select.page(&Pool, query)
}

/// Only executions of projects that the caller sees, or of none.
fn narrowed(select: Select<Execution>) -> Result<Select<Execution>> {
    let rows = database::query(
        &format!(
            "SELECT DISTINCT project_id FROM execution_executions WHERE organization_id = $1 AND project_id IS NOT NULL \
             LIMIT {USED_MAX}"
        ),
        params![auth::organization_id()?],
    )?;
    let used = rows.into_iter().map(|row| row.get::<Id>("project_id")).collect::<Result<Vec<_>, _>>()?;
    let seen: Vec<Id> = people::project::levels(&used)?.into_keys().collect();
    if seen.is_empty() {
        return Ok(select.condition("project_id IS NULL", [] as [i64; 0]));
    }
    if seen.len() > NAMED_MAX || used.len() == USED_MAX {
        let problem = Problem::unprocessable("They belong to too many projects; name one in projectId.");
        return Err(problem.with_code("TOO_MANY_PROJECTS"));
    }
    let places = vec!["?"; seen.len()].join(", ");
    Ok(select.condition(&format!("project_id IS NULL OR project_id IN ({places})"), seen))
}

#[cfg(test)]
mod tests {
    use berth_sdk::{auth::Principal, testing};

    use super::*;

    #[test]
    fn what_planning_does_not_vouch_for_is_not_moved() {
        testing::sign_in("u1", "o1");
        let refused = require_edit_of(&Id::from("p1"), missing).unwrap_err();
        assert_eq!(refused.status, 503, "natively nobody answers");
        testing::become_principal(Principal { is_super_admin: true, ..auth::principal() });
        assert!(require_edit_of(&Id::from("p1"), missing).is_ok());
    }
}
