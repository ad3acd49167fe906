//! Who sees what: a workflow of a project, and a run that tells of one, exist for whoever sees the project; a run that tells of
//! something private for one person or for administrators; all others are the whole organization's. Planning is asked, never
//! inside a transaction, and its answer remembered for a moment.

use berth_sdk::{prelude::*, serde_json::Value};

use crate::trigger::MANAGE;

/// Asks which projects the caller sees, so that a transaction that follows knows it and waits for nobody.
pub fn look() {
    people::project::seen();
}

/// The condition under which a workflow exists for the caller; none: every one does.
pub fn workflows() -> Option<Condition> {
    people::scope::within("\"project_id\"")
}

/// The same of a run: its own project counts, and that of its workflow, and for whom it is.
pub fn runs() -> Option<Condition> {
    let own = audience();
    let projects = people::scope::within("workflow_runs.project_id").zip(people::scope::within("w.project_id"));
    let Some((project, workflow)) = projects else { return Some(own) };
    let sql = format!(
        "({}) AND ({}) AND workflow_runs.workflow_id IN (SELECT w.id FROM workflow_workflows w WHERE {})",
        own.sql, project.sql, workflow.sql
    );
    Some(Condition { sql, values: own.values.into_iter().chain(project.values).chain(workflow.values).collect() })
}

/// What tells of something private is for one person, what tells of people for whoever may manage workflows.
fn audience() -> Condition {
    let managers = if auth::has(MANAGE) { " OR workflow_runs.audience = 'managers'" } else { "" };
    let sql = format!(
        "workflow_runs.audience = 'organization'{managers} OR (workflow_runs.audience = 'person' AND workflow_runs.acts_for = ?)"
    );
    Condition::new(sql, [auth::principal().user_id.unwrap_or_default()])
}

/// The project that an event of a type tells of, if it names one: as `projectId`, as `id` where it is about projects, or as what
/// its scope is.
///
/// ```
/// use berth_sdk::json;
/// use workflow::sight::project_of;
/// assert_eq!(project_of("incident.created", &json!({"id": "i1", "projectId": "p1"})), Some("p1".into()));
/// assert_eq!(project_of("project.created", &json!({"id": "p1"})), Some("p1".into()));
/// assert_eq!(project_of("dashboard.created", &json!({"scope": "PROJECT", "scopeId": "p1"})), Some("p1".into()));
/// assert_eq!(project_of("ai.agent.completed", &json!({"id": "x1"})), None);
/// assert_eq!(project_of("task.created", &json!({"projectId": "../p1"})), None);
/// ```
pub fn project_of(kind: &str, data: &Value) -> Option<Id> {
    let named = |name: &str| data.get(name).and_then(Value::as_str);
    let is_scope = named("scope").is_some_and(|scope| scope.eq_ignore_ascii_case("project"));
    let id = named("projectId")
        .or_else(|| named("id").filter(|_| kind.starts_with("project.")))
        .or_else(|| named("scopeId").filter(|_| is_scope))?;
    Id::parse(id).ok()
}

#[cfg(test)]
mod tests {
    use berth_sdk::{auth::Principal, testing};

    use super::*;

    #[test]
    fn without_planning_only_what_has_no_project_is_seen() {
        testing::sign_in("u1", "o1");
        assert_eq!(workflows().unwrap().sql, "\"project_id\" IS NULL");
        let open = "workflow_runs.audience = 'organization'";
        let own = "(workflow_runs.audience = 'person' AND workflow_runs.acts_for = ?)";
        let runs = super::runs().unwrap();
        assert_eq!(
            runs.sql,
            format!(
                "({open} OR {own}) AND (workflow_runs.project_id IS NULL) AND workflow_runs.workflow_id IN \
                 (SELECT w.id FROM workflow_workflows w WHERE w.project_id IS NULL)"
            )
        );
        assert_eq!(runs.values, [database::Value::from("u1")]);
        // What is somebody's own is so for every role.
        testing::become_principal(Principal { is_super_admin: true, ..auth::principal() });
        assert!(workflows().is_none());
        let managers = "workflow_runs.audience = 'managers'";
        assert_eq!(super::runs().unwrap().sql, format!("{open} OR {managers} OR {own}"));
    }
}
