//! Projects: what plans and tasks hang on, and who may see them.

mod access;
mod api;

use berth_sdk::{
    auth::PrincipalKind,
    prelude::*,
    serde_json::{Map, Value},
};

use access::{AccessEntry, Level};

/// Whether a project is worked on.
#[choice]
pub(crate) enum ProjectStatus {
    Active,
    Archived,
}

/// Who sees a project. Which team a user belongs to is not known here, so a team's project is seen by those on its
/// access list, like a private one.
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
    pub metadata: Map<String, Value>,
    #[field(default)]
    pub settings: Map<String, Value>,
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

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        access::require(transaction, old, Level::Editor)
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
    let sql = format!(
        "{projects}.visibility = 'organization' OR {projects}.created_by = ? OR EXISTS (SELECT 1 FROM project_access \
         WHERE project_access.project_id = {projects}.id AND project_access.user_id = ?)"
    );
    Some(Condition::new(sql, [user_id.clone(), user_id]))
}

/// The condition under which the caller sees a row of a table with a `project_id`.
pub(crate) fn visible_through(table: &str) -> Option<Condition> {
    let inner = visible("project_projects")?;
    let sql = format!(
        "EXISTS (SELECT 1 FROM project_projects WHERE project_projects.id = {table}.project_id AND ({}))",
        inner.sql
    );
    Some(Condition { sql, values: inner.values })
}

/// The routes of projects.
pub(crate) fn routes() -> Router {
    Router::new()
        .entity::<Project>("/api/projects")
        .get("/api/projects/current", api::current)
        .summary("Read the caller's current project.")
        .get("/api/projects/{id}/tasks", api::tasks)
        .summary("List the tasks of a project.")
        .get("/api/projects/{id}/context", api::context)
        .summary("Read what is known of a project's application.")
        .get("/api/projects/{id}/profile", api::profile)
        .summary("Read the application profile.")
        .put("/api/projects/{id}/profile", api::change_profile)
        .summary("Change the application profile.")
        .post("/api/projects/{id}/switch", api::switch)
        .summary("Make it the caller's current project.")
        .get("/api/projects/{id}/access", access::list)
        .summary("Read the access list.")
        .put("/api/projects/{id}/access", access::change)
        .summary("Change the access list.")
}

#[cfg(test)]
mod tests {
    use berth_sdk::{auth::Principal, testing};

    use super::visible_through;

    #[test]
    fn members_see_what_is_theirs_and_admins_everything() {
        testing::sign_in("u1", "o1");
        let condition = visible_through("plan_plans").unwrap();
        assert!(condition.sql.contains("project_projects.id = plan_plans.project_id"));
        assert_eq!(condition.values.len(), condition.sql.matches('?').count());
        testing::become_principal(Principal { is_super_admin: true, ..Principal::anonymous() });
        assert!(visible_through("plan_plans").is_none());
    }
}
