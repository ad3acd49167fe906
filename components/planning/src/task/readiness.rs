//! Whether work on a task can begin: its dependencies are done, its environment exists, and no person is asked first.

use berth_sdk::prelude::*;

use super::Task;
use crate::environment::Environment;

/// Whether work can begin, and why not.
#[data]
pub(crate) struct Readiness {
    task_id: Id,
    is_ready: bool,
    reasons: Vec<Reason>,
}

/// One thing in the way.
#[data]
pub(crate) struct Reason {
    /// `DEPENDENCY_OPEN`, `ENVIRONMENT_MISSING` or `HUMAN_ACTION_PENDING`.
    code: String,
    message: String,
    /// The task, environment or step it is about.
    id: Option<Id>,
}

/// What readiness is judged by.
struct Facts {
    /// Tasks it waits for that are not done: id and title.
    open: Vec<(Id, String)>,
    /// Its environment, when that does not exist.
    missing_environment: Option<Id>,
    /// Steps of its plan that wait for a person: id and title.
    pending_humans: Vec<(Id, String)>,
}

fn judge(task_id: Id, facts: Facts) -> Readiness {
    let reason = |code: &str, message: String, id: Id| Reason { code: code.into(), message, id: Some(id) };
    let open =
        facts.open.into_iter().map(|(id, title)| reason("DEPENDENCY_OPEN", format!("\"{title}\" is not done."), id));
    let environment = facts
        .missing_environment
        .into_iter()
        .map(|id| reason("ENVIRONMENT_MISSING", "Its environment does not exist.".into(), id));
    let humans = facts
        .pending_humans
        .into_iter()
        .map(|(id, title)| reason("HUMAN_ACTION_PENDING", format!("\"{title}\" waits for a person."), id));
    let reasons: Vec<Reason> = open.chain(environment).chain(humans).collect();
    Readiness { task_id, is_ready: reasons.is_empty(), reasons }
}

/// `GET /api/tasks/{id}/readiness`.
pub(crate) fn read(Params(id): Params<Id>) -> Result<Json<Readiness>> {
    let task = entity::read::<Task>(&Pool, &id)?;
    let open = named(
        "SELECT t.id AS id, t.title AS title FROM project_tasks t WHERE t.deleted_at IS NULL \
         AND t.status NOT IN ('completed', 'cancelled') AND (t.id IN (SELECT to_task_id FROM project_task_dependencies \
         WHERE from_task_id = $1 AND type = 'requires') OR t.id IN (SELECT from_task_id FROM project_task_dependencies \
         WHERE to_task_id = $1 AND type = 'blocks')) ORDER BY t.id LIMIT 100",
        &task.id,
    )?;
    let pending_humans = match &task.plan_step_id {
        None => Vec::new(),
        Some(step_id) => named(
            "SELECT id, title FROM plan_steps WHERE id = $1 AND type = 'human' AND status NOT IN ('completed', 'skipped')",
            step_id,
        )?,
    };
    let missing_environment = match &task.environment_id {
        Some(id) if entity::find::<Environment>(&Pool, id)?.is_none() => Some(id.clone()),
        _ => None,
    };
    Ok(Json(judge(task.id, Facts { open, missing_environment, pending_humans })))
}

fn named(sql: &str, id: &Id) -> Result<Vec<(Id, String)>> {
    let mut found = Vec::new();
    for row in database::query(sql, params![id])? {
        found.push((row.get("id")?, row.get("title")?));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{Facts, judge};

    #[test]
    fn everything_in_the_way_is_a_reason() {
        let facts = |open: &[&str], environment: Option<&str>, humans: &[&str]| Facts {
            open: open.iter().map(|id| ((*id).into(), "T".into())).collect(),
            missing_environment: environment.map(Into::into),
            pending_humans: humans.iter().map(|id| ((*id).into(), "H".into())).collect(),
        };
        assert!(judge("t".into(), facts(&[], None, &[])).is_ready);
        let blocked = judge("t".into(), facts(&["a", "b"], Some("e"), &["s"]));
        let codes: Vec<&str> = blocked.reasons.iter().map(|reason| reason.code.as_str()).collect();
        assert!(!blocked.is_ready);
        assert_eq!(codes, ["DEPENDENCY_OPEN", "DEPENDENCY_OPEN", "ENVIRONMENT_MISSING", "HUMAN_ACTION_PENDING"]);
    }
}
