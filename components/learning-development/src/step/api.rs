//! The routes of steps. Answers show how far the caller is with each.

use berth_sdk::{entity::Patch, prelude::*, serde_json::Value};

use super::{Step, StepStatus, hold, of_path};
use crate::{
    path::Path,
    progress::{self, Course, complete},
};

/// A step of this path; 404 otherwise.
fn below(database: &dyn Executor, path_id: &Id, step_id: &Id) -> Result<(Stored<Path>, Stored<Step>)> {
    let path = entity::read::<Path>(database, path_id)?;
    let step = entity::find::<Step>(database, step_id)?.filter(|step| step.path_id == *path_id);
    Ok((path, step.ok_or_else(|| Problem::missing("step"))?))
}

/// What the one whose progress is shown has done.
fn course(database: &dyn Executor, path: &Path, path_id: &Id) -> Result<Course> {
    Course::of(database, &path.learner()?, path_id)
}

/// What of a list is wanted.
#[data]
pub struct Filter {
    /// Only steps with which the caller is so far.
    status: Option<StepStatus>,
}

/// `GET /api/learning/paths/{id}/steps`: in their order.
pub fn list(Params(id): Params<Id>, Query(filter): Query<Filter>, query: PageQuery) -> Result<Page<Stored<Step>>> {
    if query.sort_by.as_deref().is_some_and(|field| field != "order") {
        return Err(Problem::field("sortBy", "must be one of order"));
    }
    let path = entity::read::<Path>(&Pool, &id)?;
    let course = course(&Pool, &path, &id)?;
    let mut steps: Vec<Stored<Step>> = of_path(&Pool, &id)?.into_iter().map(|step| course.shown(step)).collect();
    steps.retain(|step| filter.status.is_none_or(|status| step.status == status));
    if query.descending == Some(true) {
        steps.reverse();
    }
    let total = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    let count = |number: i64| usize::try_from(number).unwrap_or(usize::MAX);
    let items = steps.into_iter().skip(count(query.offset)).take(count(query.limit)).collect();
    Ok(query.envelope(items, total))
}

/// `GET /api/learning/paths/{id}/steps/{itemId}`.
pub fn read(Params((path_id, step_id)): Params<(Id, Id)>) -> Result<Stored<Step>> {
    let (path, step) = below(&Pool, &path_id, &step_id)?;
    Ok(course(&Pool, &path, &path_id)?.shown(step))
}

/// `PUT /api/learning/paths/{id}/steps/{itemId}`. `status`: `skipped` and `pending` are for everybody, `in_progress` and
/// `completed` the caller's own.
pub fn update(
    Params((path_id, step_id)): Params<(Id, Id)>,
    if_match: IfMatch,
    Patch(mut patch, _): Patch<Step>,
) -> Result<Stored<Step>> {
    let wish = match patch.get("status").and_then(Value::as_str).and_then(StepStatus::parse) {
        Some(own @ (StepStatus::InProgress | StepStatus::Completed)) => patch.remove("status").map(|_| own),
        _ => None,
    };
    database::transaction(|transaction| {
        hold(transaction, &path_id)?;
        let (path, before) = below(transaction, &path_id, &step_id)?;
        let begins_anew = patch.get("status") == Some(&json!(StepStatus::Pending)) && !before.is_skipped();
        if begins_anew && course(transaction, &path, &path_id)?.status(&before) == StepStatus::Completed {
            return Err(progress::never_back());
        }
        let step = entity::update::<Step>(transaction, &step_id, &patch, if_match)?;
        match wish {
            Some(StepStatus::Completed) => {
                complete::complete(transaction, &path, &step_id, &complete::Details::default())?;
            }
            Some(_) => complete::begin(transaction, &path, &step)?,
            None => {}
        }
        Ok(course(transaction, &path, &path_id)?.shown(step))
    })
}
