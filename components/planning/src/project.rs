//! Projects: what plans and tasks hang on, and who may see them.

mod access;
mod api;
mod code;

use std::collections::BTreeSet;

use berth_sdk::{
    auth::PrincipalKind,
    database::Value,
    prelude::*,
    serde_json::{self, Map},
};

pub(crate) use access::require_edit;
use access::{AccessEntry, Level};
pub(crate) use api::{change_profile_of, current_id, modules_of, profile_of};
pub(crate) use code::next_identifier;

/// What is held while a row is about to be made that must be the only one.
pub(crate) const HOLDS: &str = "project_holds";

/// Whether a project is worked on.
#[choice]
pub(crate) enum ProjectStatus {
    Active,
    Archived,
}

/// Who sees a project, besides its creator and whoever is on its access list: nobody, its team, or everybody.
#[choice]
pub(crate) enum Visibility {
    Private,
    Team,
    Organization,
}

/// A project.
#[entity(
    table = "project_projects",
    created = "project.created",
    updated = "project.updated",
    deleted = "project.deleted",
    soft_delete
)]
pub(crate) struct Project {
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    pub description: Option<String>,
    pub team_id: Option<Id>,
    #[field(default = ProjectStatus::Active)]
    pub status: ProjectStatus,
    #[field(default = Visibility::Organization)]
    pub visibility: Visibility,
    #[field(format = "url")]
    pub repository_url: Option<String>,
    /// Holds the application profile.
    #[field(default)]
    pub metadata: Map<String, serde_json::Value>,
    #[field(default)]
    pub settings: Map<String, serde_json::Value>,
    /// What its tasks' identifiers begin with: `QUAY` in `QUAY-12`. Made of the name when none is given.
    #[field(filter, max = 10, raw, pattern = "^([A-Z][A-Z0-9]{1,9})?$")]
    pub code: Option<String>,
}

impl Rules for Project {
    fn scope() -> Option<Condition> {
        visible("project_projects")
    }

    fn after_create(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if let Some(user_id) = &row.created_by {
            let owner = AccessEntry::of_user(&row.id, user_id.as_str().into(), Level::Owner);
            entity::create(transaction, owner)?;
        }
        Ok(())
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        self.code = Some(code::free(transaction, self.code.take(), &self.name)?);
        Ok(())
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        // Who sees it is shared with others, and shut away from them, by its owners alone.
        let is_shared = self.visibility != old.visibility || self.team_id != old.team_id;
        access::require(transaction, old, if is_shared { Level::Owner } else { Level::Editor })?;
        // Nothing wished for is no wish for another one: tasks are called by it.
        if self.code.as_deref().is_none_or(str::is_empty) {
            self.code.clone_from(&old.code);
        }
        if self.code != old.code {
            self.code = Some(code::free(transaction, self.code.take(), &self.name)?);
        }
        transaction.forget(api::cache_key(&old.id));
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        access::require(transaction, row, Level::Owner)?;
        let executing = transaction.query_one(
            "SELECT id FROM plan_plans WHERE project_id = $1 AND status = 'executing' AND deleted_at IS NULL LIMIT 1",
            params![&row.id],
        )?;
        if let Some(plan) = executing {
            let plan_id: String = plan.get("id")?;
            return Err(Problem::conflict("A plan of the project is being executed.").with("planId", plan_id));
        }
        transaction.forget(api::cache_key(&row.id));
        // Whatever else hangs on the project is seen only through it; plans and tasks are met elsewhere too.
        for table in ["plan_plans", "project_tasks"] {
            let sql = format!(
                "UPDATE {table} SET deleted_at = $2, updated_at = $2 WHERE project_id = $1 AND deleted_at IS NULL"
            );
            transaction.execute(&sql, params![&row.id, clock::now()])?;
        }
        Ok(())
    }
}

/// The condition under which the caller sees a row of `project_projects`; none when they see every one of their
/// organization.
fn visible(projects: &str) -> Option<Condition> {
    let principal = auth::principal();
    if principal.is_super_admin || principal.is_platform || principal.kind == PrincipalKind::System {
        return None;
    }
    let user_id = principal.user_id.unwrap_or_default();
    let (listed, theirs) = access::listed(&user_id);
    let mut values = vec![Value::from(user_id)];
    let team = if theirs.is_empty() {
        String::new()
    } else {
        let places = vec!["?"; theirs.len()].join(", ");
        values.extend(theirs.iter().map(Value::from));
        format!(" OR ({projects}.visibility = 'team' AND {projects}.team_id IN ({places}))")
    };
    values.extend(listed.values);
    let sql = format!(
        "{projects}.visibility = 'organization' OR {projects}.created_by = ?{team} OR EXISTS (SELECT 1 FROM project_access \
         WHERE project_access.project_id = {projects}.id AND ({}))",
        listed.sql
    );
    Some(Condition { sql, values })
}

/// The condition under which a row of a table with a `project_id` exists for the caller: its project is there, and the
/// caller sees that. So whatever hangs on a project goes with it.
pub(crate) fn within(table: &str) -> Condition {
    let (seen, values) = match visible("project_projects") {
        Some(condition) => (format!(" AND ({})", condition.sql), condition.values),
        None => (String::new(), Vec::new()),
    };
    let sql = format!(
        "EXISTS (SELECT 1 FROM project_projects WHERE project_projects.id = {table}.project_id \
         AND project_projects.deleted_at IS NULL{seen})"
    );
    Condition { sql, values }
}

/// The same for rows that may hang on no project: then the whole organization sees them.
pub(crate) fn within_or_none(table: &str) -> Condition {
    let Condition { sql, values } = within(table);
    Condition { sql: format!("{table}.project_id IS NULL OR {sql}"), values }
}

/// Lets whoever else changes how tasks or modules of these projects hang together, or who sees them, wait until the end of the
/// transaction.
pub(crate) fn lock(transaction: &Transaction, project_ids: &[&Id]) -> Result<()> {
    // Always in the same order, so that nobody waits for somebody who waits for them.
    for id in project_ids.iter().collect::<BTreeSet<_>>() {
        transaction.execute("UPDATE project_projects SET task_counter = task_counter WHERE id = $1", params![*id])?;
    }
    Ok(())
}

/// The routes of projects.
pub(crate) fn routes() -> Router {
    Router::new()
        .entity::<Project>("/api/projects")
        .get("/api/projects/{id}", api::read)
        .summary("Read a project.")
        .get("/api/projects/current", api::current)
        .summary("Read the caller's current project.")
        .get("/api/projects/{id}/tasks", api::tasks)
        .summary("List the tasks of a project.")
        .get("/api/projects/{id}/context", api::context)
        .summary("Read what is known of a project's application.")
        .get("/api/projects/{id}/profile", api::profile)
        .summary("Read the application profile.")
        .get("/api/projects/{id}/modules", crate::module::of_project)
        .summary("List the modules of a project.")
        .put("/api/projects/{id}/profile", api::change_profile)
        .summary("Change the application profile.")
        .post("/api/projects/{id}/switch", api::switch)
        .summary("Make it the caller's current project.")
        .get("/api/projects/{id}/access", access::list)
        .summary("Read the access list.")
        .put("/api/projects/{id}/access", access::change)
        .summary("Change the access list.")
        .get("/api/projects/levels", access::levels)
        .summary("Read what the caller may do with projects.")
        .signed_in()
}

#[cfg(test)]
mod tests {
    use berth_sdk::{auth::Principal, testing};

    use super::{within, within_or_none};

    #[test]
    fn members_see_what_is_theirs_and_admins_everything() {
        testing::sign_in("u1", "o1");
        let condition = within("plan_plans");
        assert!(condition.sql.contains("project_projects.id = plan_plans.project_id"));
        assert_eq!((condition.values.len(), condition.sql.matches('?').count()), (2, 2));
        testing::join_team("t1");
        testing::join_team("t2");
        let condition = within("plan_plans");
        assert!(
            condition.sql.contains("visibility = 'team' AND project_projects.team_id IN (?, ?)"),
            "{}",
            condition.sql
        );
        assert_eq!((condition.values.len(), condition.sql.matches('?').count()), (6, 6));
        assert!(within_or_none("project_issues").sql.starts_with("project_issues.project_id IS NULL OR EXISTS ("));
        testing::become_principal(Principal { is_super_admin: true, ..Principal::anonymous() });
        assert_eq!(within("plan_plans").values.len(), 0);
    }
}
