//! Several tasks at once, all or none.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::Task;

/// The most tasks of one request.
const TASKS_MAX: u32 = 200;

/// The body of `POST /api/tasks/bulk`.
#[data]
pub(crate) struct NewTasks {
    /// Each as in `POST /api/tasks`.
    #[field(min = 1, max = TASKS_MAX)]
    tasks: Vec<Map<String, Value>>,
}

/// The body of `PUT /api/tasks/bulk`.
#[data]
pub(crate) struct Changes {
    #[field(min = 1, max = TASKS_MAX)]
    ids: Vec<Id>,
    /// As in `PUT /api/tasks/{id}`.
    changes: Map<String, Value>,
}

/// `POST /api/tasks/bulk`.
pub(crate) fn create(Json(input): Json<NewTasks>) -> Result<Created<Page<Stored<Task>>>> {
    let made = database::transaction(|transaction| {
        let make =
            |(index, fields)| entity::create_from::<Task>(transaction, fields).map_err(|problem| at(index, problem));
        input.tasks.into_iter().enumerate().map(make).collect::<Result<Vec<_>>>()
    })?;
    Ok(Created(whole(made)))
}

/// `PUT /api/tasks/bulk`.
pub(crate) fn change(Json(input): Json<Changes>) -> Result<Json<Page<Stored<Task>>>> {
    let changed = database::transaction(|transaction| {
        let change = |id: &Id| {
            entity::update::<Task>(transaction, id, &input.changes, IfMatch(None))
                .map_err(|problem| problem.with("taskId", id.as_str()))
        };
        input.ids.iter().map(change).collect::<Result<Vec<_>>>()
    })?;
    Ok(Json(whole(changed)))
}

fn whole(tasks: Vec<Stored<Task>>) -> Page<Stored<Task>> {
    let total = i64::try_from(tasks.len()).unwrap_or(i64::MAX);
    PageQuery { limit: i64::from(TASKS_MAX), ..PageQuery::default() }.envelope(tasks, total)
}

/// Says which task a fault is of.
fn at(index: usize, mut problem: Problem) -> Problem {
    for error in &mut problem.errors {
        error.field = format!("tasks[{index}].{}", error.field);
    }
    problem.with("index", index)
}

#[cfg(test)]
mod tests {
    use berth_sdk::Problem;

    #[test]
    fn a_fault_names_the_task_it_is_of() {
        let problem = super::at(3, Problem::field("title", "is required"));
        assert_eq!(
            (problem.errors[0].field.as_str(), problem.member("index").unwrap().as_u64()),
            ("tasks[3].title", Some(3))
        );
    }
}
