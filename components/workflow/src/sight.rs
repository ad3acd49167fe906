//! Who sees what: a workflow of a project, and a run that tells of one, exist for whoever sees the project; all others are the
//! whole organization's. Planning is asked, never inside a transaction, and its answer remembered for a moment.

use berth_sdk::{prelude::*, serde_json::Value};

/// Asks which projects the caller sees, so that a transaction that follows knows it and waits for nobody.
pub fn look() {
    people::project::seen();
}

/// The condition under which a workflow exists for the caller; none: every one does.
pub fn workflows() -> Option<Condition> {
    people::scope::within("\"project_id\"")
}

/// The same of a run: its own project counts, and that of its workflow.
pub fn runs() -> Option<Condition> {
    let own = people::scope::within("workflow_runs.project_id")?;
    let workflow = people::scope::within("w.project_id")?;
    let sql = format!(
        "({}) AND workflow_runs.workflow_id IN (SELECT w.id FROM workflow_workflows w WHERE {})",
        own.sql, workflow.sql
    );
    Some(Condition { sql, values: own.values.into_iter().chain(workflow.values).collect() })
}

/// The project that an event of a type tells of, if it names one: as `projectId`, or as `id` where it is about projects.
///
/// ```
/// use berth_sdk::json;
/// use workflow::sight::project_of;
/// assert_eq!(project_of("incident.created", &json!({"id": "i1", "projectId": "p1"})), Some("p1".into()));
/// assert_eq!(project_of("project.created", &json!({"id": "p1"})), Some("p1".into()));
/// assert_eq!(project_of("ai.agent.completed", &json!({"id": "x1"})), None);
/// assert_eq!(project_of("task.created", &json!({"projectId": "../p1"})), None);
/// ```
pub fn project_of(kind: &str, data: &Value) -> Option<Id> {
    let named = |name: &str| data.get(name).and_then(Value::as_str);
    let id = named("projectId").or_else(|| named("id").filter(|_| kind.starts_with("project.")))?;
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
        let runs = super::runs().unwrap();
        assert_eq!(
            runs.sql,
            "(workflow_runs.project_id IS NULL) AND workflow_runs.workflow_id IN \
             (SELECT w.id FROM workflow_workflows w WHERE w.project_id IS NULL)"
        );
        testing::become_principal(Principal { is_super_admin: true, ..auth::principal() });
        assert!(workflows().is_none() && super::runs().is_none());
    }
}
