//! Whether work on a task can begin: its dependencies are done, its environment exists, and no person is asked first.

use std::collections::BTreeMap;

use berth_sdk::prelude::*;
use plan_rules::{STEPS_MAX, StepType, graph::Graph};

use super::Task;
use crate::{environment::Environment, plan::StepStatus};

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
    /// Tasks it waits for that are not done: id, and title where the caller sees it.
    open: Vec<(Id, Option<String>)>,
    /// Its environment, when that does not exist.
    missing_environment: Option<Id>,
    /// Steps that wait for a person, and for which its own step waits or which it is: id and title.
    pending_humans: Vec<(Id, String)>,
}

fn judge(task_id: Id, facts: Facts) -> Readiness {
    let reason = |code: &str, message: String, id: Id| Reason { code: code.into(), message, id: Some(id) };
    let open = facts.open.into_iter().map(|(id, title)| {
        let name = title.map_or_else(|| "A task of another project".to_string(), |title| format!("\"{title}\""));
        reason("DEPENDENCY_OPEN", format!("{name} is not done."), id)
    });
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

/// A step of the task's plan.
#[data]
struct PlanStep {
    id: Id,
    title: String,
    r#type: StepType,
    status: StepStatus,
    dependencies: Vec<Id>,
}

/// The steps among those that a step waits for, and itself, that a person has still to do.
fn pending_humans(steps: &[PlanStep], own: &Id) -> Vec<(Id, String)> {
    let graph =
        Graph::new(steps.iter().map(|step| (step.id.as_str(), step.dependencies.iter().map(Id::as_str).collect())));
    steps
        .iter()
        .filter(|step| {
            step.r#type == StepType::Human && !matches!(step.status, StepStatus::Completed | StepStatus::Skipped)
        })
        .filter(|step| step.id == *own || graph.waits_for(own, &step.id))
        .map(|step| (step.id.clone(), step.title.clone()))
        .collect()
}

/// `GET /api/tasks/{id}/readiness`.
pub(crate) fn read(Params(id): Params<Id>) -> Result<Json<Readiness>> {
    let task = entity::read::<Task>(&Pool, &id)?;
    let open = ids(
        "SELECT t.id AS id FROM project_tasks t WHERE t.deleted_at IS NULL \
         AND t.status NOT IN ('completed', 'cancelled') AND (t.id IN (SELECT to_task_id FROM project_task_dependencies \
         WHERE from_task_id = $1 AND type = 'requires') OR t.id IN (SELECT from_task_id FROM project_task_dependencies \
         WHERE to_task_id = $1 AND type = 'blocks')) ORDER BY t.id LIMIT 100",
        &task.id,
    )?;
    // What it waits for may be in a project that the caller does not see.
    let titles: BTreeMap<Id, String> = Select::<Task>::new()
        .one_of("id", &open)
        .columns::<Titled>(&Pool, "id, title")?
        .into_iter()
        .map(|task| (task.id, task.title))
        .collect();
    let open = open.into_iter().map(|id| (id.clone(), titles.get(&id).cloned())).collect();
    let pending_humans = match &task.plan_step_id {
        None => Vec::new(),
        Some(step_id) => {
            let steps: Vec<PlanStep> = database::query_as(
                &Pool,
                &format!(
                    "SELECT id, title, type, status, dependencies FROM plan_steps WHERE plan_id IN \
                     (SELECT plan_id FROM plan_steps WHERE id = $1) ORDER BY \"order\" LIMIT {STEPS_MAX}"
                ),
                params![step_id],
            )?;
            pending_humans(&steps, step_id)
        }
    };
    let missing_environment = match &task.environment_id {
        Some(id) if entity::find::<Environment>(&Pool, id)?.is_none() => Some(id.clone()),
        _ => None,
    };
    Ok(Json(judge(task.id, Facts { open, missing_environment, pending_humans })))
}

#[data]
struct Titled {
    id: Id,
    title: String,
}

fn ids(sql: &str, id: &Id) -> Result<Vec<Id>> {
    let rows = database::query(sql, params![id])?;
    Ok(rows.into_iter().map(|row| row.get("id")).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use berth_sdk::Id;
    use proptest::prelude::*;

    use super::{Facts, PlanStep, StepStatus, StepType, judge, pending_humans};

    #[test]
    fn everything_in_the_way_is_a_reason() {
        let facts = |open: &[&str], environment: Option<&str>, humans: &[&str]| Facts {
            open: open.iter().map(|id| ((*id).into(), Some("T".into()))).collect(),
            missing_environment: environment.map(Into::into),
            pending_humans: humans.iter().map(|id| ((*id).into(), "H".into())).collect(),
        };
        assert!(judge("t".into(), facts(&[], None, &[])).is_ready);
        let blocked = judge("t".into(), facts(&["a", "b"], Some("e"), &["s"]));
        let codes: Vec<&str> = blocked.reasons.iter().map(|reason| reason.code.as_str()).collect();
        assert!(!blocked.is_ready);
        assert_eq!(codes, ["DEPENDENCY_OPEN", "DEPENDENCY_OPEN", "ENVIRONMENT_MISSING", "HUMAN_ACTION_PENDING"]);
    }

    fn step(number: usize, waits: Vec<usize>, r#type: StepType, status: StepStatus) -> PlanStep {
        let id = |number: usize| Id::from(format!("s{number}"));
        let dependencies = waits.into_iter().map(id).collect();
        PlanStep { id: id(number), title: "S".into(), r#type, status, dependencies }
    }

    #[test]
    fn a_person_who_is_asked_before_the_step_is_waited_for() {
        use StepStatus::{Completed, Pending};
        let steps = [
            step(1, vec![], StepType::Human, Pending),
            step(2, vec![1], StepType::FileCreate, Pending),
            step(3, vec![2], StepType::FileCreate, Pending),
            step(4, vec![3], StepType::Human, Pending),
            step(5, vec![], StepType::Human, Completed),
        ];
        let ids = |own: &str| pending_humans(&steps, &own.into()).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(ids("s3"), [Id::from("s1")]);
        assert_eq!(ids("s4"), [Id::from("s1"), Id::from("s4")]);
        assert!(ids("s5").is_empty() && ids("gone").is_empty());
    }

    proptest! {
        /// Ready is exactly what has nothing in its way, and each thing in the way is said once.
        #[test]
        fn ready_is_what_has_nothing_in_the_way(open in 0usize..5, environment: bool, humans in 0usize..5) {
            let many = |count: usize| -> Vec<(Id, String)> {
                (0..count).map(|number| (Id::from(format!("i{number}")), "T".into())).collect()
            };
            let some = many(open).into_iter().map(|(id, title)| (id, (open > 2).then_some(title))).collect();
            let missing_environment = environment.then(|| "e".into());
            let found = judge("t".into(), Facts { open: some, missing_environment, pending_humans: many(humans) });
            prop_assert_eq!(found.is_ready, open == 0 && !environment && humans == 0);
            prop_assert_eq!(found.reasons.len(), open + usize::from(environment) + humans);
        }

        /// Whoever is waited for is somebody who has not done their part; when everybody has, nobody is.
        #[test]
        fn nobody_is_waited_for_who_is_done(
            edges in prop::collection::vec((0usize..8, 0usize..8), 0..20), humans in 0u8..=255, done in 0u8..=255, own in 0usize..8
        ) {
            let has = |set: u8, number: usize| set & (1 << number) != 0;
            let steps: Vec<PlanStep> = (0..8)
                .map(|number| {
                    let waits = edges.iter().filter(|(from, to)| *from == number && to < from).map(|(_, to)| *to).collect();
                    let kind = if has(humans, number) { StepType::Human } else { StepType::Test };
                    step(number, waits, kind, if has(done, number) { StepStatus::Skipped } else { StepStatus::Failed })
                })
                .collect();
            let found = pending_humans(&steps, &Id::from(format!("s{own}")));
            for (id, _) in &found {
                let number: usize = id.as_str()[1..].parse().unwrap();
                prop_assert!(number <= own && has(humans, number) && !has(done, number));
            }
            let is_asked = has(humans, own) && !has(done, own);
            prop_assert_eq!(found.iter().any(|(id, _)| *id == steps[own].id), is_asked);
        }
    }
}
