//! For whom a run acts: everything that its steps do is done as one user, with the rights that this user has at that moment.
//! Whoever approves, retries or causes an event only lets it go on.

use berth_sdk::prelude::*;

use crate::{
    audience::Circle, definition::StepType, failure::Failure, sight, trigger::MANAGE, version, workflow::Workflow,
};

/// The code of a failure for want of somebody to act for.
const DENIED: &str = "ACTING_DENIED";

/// For whom the runs of a workflow act that nobody starts by hand: whoever last said what it does or what starts it.
pub fn of_workflow(database: &dyn Executor, workflow: &Stored<Workflow>) -> Result<Option<Id>> {
    match &workflow.acts_for {
        Some(user_id) => Ok(Some(user_id.clone())),
        None => version::author(database, &workflow.id, workflow.definition_version),
    }
}

/// Whoever calls, if anybody does.
pub fn caller() -> Option<Id> {
    auth::principal().user_id.map(Id::from)
}

/// Goes on as the user of a run, to the end of the message about one of its steps. A failure where that cannot be; nothing
/// has changed then.
pub fn go_on(run_id: &Id, key: &str) -> Result<Option<Failure>> {
    let found = database::query_one(
        "SELECT COALESCE(r.acts_for, v.created_by) AS user_id, s.type AS kind FROM workflow_runs r \
         LEFT JOIN workflow_versions v ON v.workflow_id = r.workflow_id AND v.version = r.version \
         LEFT JOIN workflow_step_runs s ON s.run_id = r.id AND s.\"key\" = $3 WHERE r.organization_id = $1 AND r.id = $2",
        params![auth::organization_id()?, run_id, key],
    )?;
    // Without a run there is nothing to do, for nobody.
    let Some(found) = found else { return Ok(None) };
    let failure = act_for(found.get("user_id")?)?;
    let kind: Option<String> = found.get("kind")?;
    // Such a step may start a workflow: one of a project that the user does not see is not there for them.
    if failure.is_none()
        && matches!(kind.as_deref().and_then(StepType::parse), Some(StepType::Subworkflow | StepType::Foreach))
    {
        sight::look();
    }
    Ok(failure)
}

/// Goes on as the user for whom a workflow acts, to the end of the message. That user, where that can be, they are one of
/// those whom an event is for, and they see the project that it tells of; 503 while planning does not say.
pub fn who_may_know(workflow_id: &Id, project_id: Option<&Id>, circle: Option<&Circle>) -> Result<Option<Id>> {
    let Some(workflow) = entity::find::<Workflow>(&Pool, workflow_id)? else { return Ok(None) };
    let Some(user_id) = of_workflow(&Pool, &workflow)? else { return Ok(None) };
    if act_for(Some(user_id.clone()))?.is_some()
        || circle.is_some_and(|circle| !circle.admits(&user_id, &auth::teams(), auth::has(MANAGE)))
    {
        return Ok(None);
    }
    // Of a workflow that belongs to a project it is asked too: to who does not see it the workflow does not exist.
    for project_id in project_id.into_iter().chain(workflow.project_id.as_ref()) {
        match people::scope::require(project_id) {
            Ok(()) => {}
            Err(problem) if problem.status < 500 => return Ok(None),
            Err(problem) => return Err(problem),
        }
    }
    sight::look();
    Ok(Some(user_id))
}

fn act_for(user_id: Option<Id>) -> Result<Option<Failure>> {
    let Some(user_id) = user_id else {
        let message = "Nobody stands behind the run. A person has to save or to activate the workflow.";
        return Ok(Some(Failure::lasting(DENIED, message)));
    };
    match auth::act_for(&user_id) {
        Ok(()) => Ok(None),
        Err(problem) if problem.code == DENIED => {
            let message = format!("The run acts for somebody who cannot act any more. {}", problem.detail);
            Ok(Some(Failure::lasting(DENIED, message)))
        }
        Err(problem) => Err(problem),
    }
}

#[cfg(test)]
mod tests {
    use berth_sdk::{auth, testing};

    use super::act_for;

    #[test]
    fn a_run_acts_for_a_member_and_says_why_it_cannot() {
        testing::handle_message("o1");
        testing::add_member("u1", &["tasks.task.create"]);
        let gone = act_for(Some("u2".into())).unwrap().unwrap();
        assert!(!gone.may_pass && gone.code == "ACTING_DENIED" && gone.message.contains("u2 is gone"), "{gone:?}");
        assert!(act_for(None).unwrap().unwrap().message.contains("Nobody"));
        assert_eq!(act_for(Some("u1".into())).unwrap(), None);
        assert!(auth::has("tasks.task.create") && !auth::has("executions.execution.create"));
    }
}
