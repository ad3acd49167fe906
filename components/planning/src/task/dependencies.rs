//! What a task waits for: other tasks, and its place below a parent. Neither may lead in a circle.

use berth_sdk::prelude::*;
use plan_rules::graph::Graph;

use super::Task;
use crate::project;

/// How many edges one query reads.
const EDGES_PAGE: usize = 5_000;
/// The most edges of an organization; beyond them nobody can say any more whether one closes a cycle.
const EDGES_MAX: usize = 100_000;
/// How deep subtasks may nest.
const DEPTH_MAX: usize = 50;

/// How two tasks hang together.
#[choice]
pub(crate) enum DependencyType {
    /// The first must be done before the second.
    Blocks,
    /// They have to do with each other.
    Related,
    /// The first needs the second to be done.
    Requires,
}

/// An edge between two tasks.
#[entity(table = "project_task_dependencies", name = "dependency")]
pub(crate) struct Dependency {
    #[field(parent = Task)]
    pub from_task_id: Id,
    #[field(parent = Task)]
    pub to_task_id: Id,
    pub r#type: DependencyType,
}

impl Rules for Dependency {}

/// The body of `POST /api/tasks/{id}/dependencies`.
#[data]
pub(crate) struct NewDependency {
    to_task_id: Id,
    #[field(default = DependencyType::Requires)]
    r#type: DependencyType,
}

impl DependencyType {
    /// An edge as "the first waits for the second"; none where nobody waits.
    pub(crate) fn waiting<'a>(self, from: &'a str, to: &'a str) -> Option<(&'a str, &'a str)> {
        match self {
            Self::Requires => Some((from, to)),
            Self::Blocks => Some((to, from)),
            Self::Related => None,
        }
    }
}

/// `GET /api/tasks/{id}/dependencies`: those in which the task is on either side.
pub(crate) fn list(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Dependency>>>> {
    let task = entity::read::<Task>(&Pool, &id)?;
    Select::new().condition("from_task_id = ? OR to_task_id = ?", [&task.id, &task.id]).page(&Pool, &query)
}

/// `POST /api/tasks/{id}/dependencies`: 400 self, 404, 409 cycle or there already, 422 when there are too many.
pub(crate) fn add(Params(id): Params<Id>, Json(input): Json<NewDependency>) -> Result<Created<Stored<Dependency>>> {
    if input.to_task_id == id {
        return Err(Problem::field("toTaskId", "must be another task"));
    }
    database::transaction(|transaction| {
        let from = entity::read::<Task>(transaction, &id)?;
        project::require_edit(transaction, &from.project_id)?;
        let to = entity::read::<Task>(transaction, &input.to_task_id)?;
        // Two edges that close a cycle only together come one after the other.
        project::lock(transaction, &[&from.project_id, &to.project_id])?;
        let known = edges(transaction)?;
        let is_known = Select::<Dependency>::new()
            .equal("from_task_id", &from.id)
            .equal("to_task_id", &to.id)
            .equal("type", input.r#type)
            .count(transaction)?
            > 0;
        if is_known {
            return Err(Problem::conflict("This dependency is there already."));
        }
        let graph = Graph::from_edges(
            known.iter().filter_map(|edge| edge.r#type.waiting(&edge.from_task_id, &edge.to_task_id)),
        );
        if let Some((first, second)) = input.r#type.waiting(&from.id, &to.id)
            && graph.would_cycle(first, second)
        {
            return Err(Problem::conflict("It would close a cycle of dependencies.").with_code("DEPENDENCY_CYCLE"));
        }
        let made = Dependency { from_task_id: from.id, to_task_id: to.id, r#type: input.r#type };
        entity::create(transaction, made).map(Created)
    })
}

/// `DELETE /api/tasks/{id}/dependencies/{depId}`: by the dependency's id.
pub(crate) fn remove(Params((id, dependency_id)): Params<(Id, Id)>) -> Result<NoContent> {
    database::transaction(|transaction| {
        let task = entity::read::<Task>(transaction, &id)?;
        project::require_edit(transaction, &task.project_id)?;
        let dependency = entity::read::<Dependency>(transaction, &dependency_id)?;
        if dependency.from_task_id != id && dependency.to_task_id != id {
            return Err(Problem::missing("dependency"));
        }
        entity::delete::<Dependency>(transaction, &dependency_id, IfMatch(None))
    })?;
    Ok(NoContent)
}

/// An edge, as far as it matters for cycles.
#[data]
struct Edge {
    id: Id,
    from_task_id: Id,
    to_task_id: Id,
    r#type: DependencyType,
}

/// Every dependency of the organization on which somebody waits; a task may wait for one of another project. 422 when
/// there are too many to look at.
fn edges(database: &dyn Executor) -> Result<Vec<Edge>> {
    let mut edges: Vec<Edge> = Vec::new();
    while edges.len() < EDGES_MAX {
        let after = edges.last().map_or_else(String::new, |edge| edge.id.to_string());
        let page: Vec<Edge> = Select::<Dependency>::new()
            .condition("type <> ? AND id > ?", ["related", after.as_str()])
            .sort("id")
            .limit(i64::try_from(EDGES_PAGE).unwrap_or(i64::MAX))
            .columns(database, "id, from_task_id AS \"fromTaskId\", to_task_id AS \"toTaskId\", type")?;
        let is_last = page.len() < EDGES_PAGE;
        edges.extend(page);
        if is_last {
            return Ok(edges);
        }
    }
    Err(Problem::unprocessable(format!("An organization has at most {EDGES_MAX} dependencies between tasks.")))
}

/// 409 while something that the task requires is open.
pub(crate) fn require_done(database: &dyn Executor, id: &Id) -> Result<()> {
    let row = database.query_one(
        "SELECT t.id AS id FROM project_task_dependencies d JOIN project_tasks t ON t.id = d.to_task_id \
         WHERE d.from_task_id = $1 AND d.type = 'requires' AND t.deleted_at IS NULL \
         AND t.status NOT IN ('completed', 'cancelled') ORDER BY t.id LIMIT 1",
        params![id],
    )?;
    match row {
        None => Ok(()),
        Some(row) => {
            let task_id: Id = row.get("id")?;
            // It may be in a project that the caller does not see.
            let name = entity::find::<Task>(database, &task_id)?
                .map_or_else(|| "a task of another project".to_string(), |task| format!("\"{}\"", task.title));
            let problem =
                Problem::conflict(format!("It requires {name}, which is still open; `force` completes it anyway."));
            Err(problem.with_code("REQUIREMENT_OPEN").with("taskId", task_id.as_str()))
        }
    }
}

/// A parent is another task of the same project, and not one below this task: 400, 422, 409. The project must be locked
/// where the task is there already, so that two tasks do not become each other's parents at once.
pub(crate) fn check_parent(database: &dyn Executor, id: Option<&Id>, task: &Task) -> Result<()> {
    let Some(parent_id) = &task.parent_task_id else { return Ok(()) };
    if Some(parent_id) == id {
        return Err(Problem::field("parentTaskId", "must be another task"));
    }
    let parent = entity::read::<Task>(database, parent_id)?;
    if parent.project_id != task.project_id {
        return Err(Problem::unprocessable("The parent belongs to another project."));
    }
    let mut above = parent.data.parent_task_id;
    for _ in 0..DEPTH_MAX {
        let Some(next) = above else { return Ok(()) };
        if Some(&next) == id {
            return Err(Problem::conflict("It would become its own ancestor.").with_code("DEPENDENCY_CYCLE"));
        }
        above = entity::find::<Task>(database, &next)?.and_then(|task| task.data.parent_task_id);
    }
    Err(Problem::unprocessable(format!("Tasks nest at most {DEPTH_MAX} levels deep.")))
}

/// Takes a task that goes out of the dependencies; its subtasks lose their parent.
pub(crate) fn forget(transaction: &Transaction, id: &Id) -> Result<()> {
    transaction
        .execute("DELETE FROM project_task_dependencies WHERE from_task_id = $1 OR to_task_id = $1", params![id])?;
    transaction.execute(
        "UPDATE project_tasks SET parent_task_id = NULL, updated_at = $2, version = version + 1 WHERE parent_task_id = $1",
        params![id, clock::now()],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use plan_rules::graph::Graph;

    use super::DependencyType;

    #[test]
    fn blocks_is_requires_from_the_other_side() {
        let edges = [("a", "b", DependencyType::Requires), ("c", "b", DependencyType::Blocks)];
        let graph = Graph::from_edges(edges.iter().filter_map(|(from, to, kind)| kind.waiting(from, to)));
        // a waits for b, b waits for c.
        assert!(graph.waits_for("a", "c"));
        let (first, second) = DependencyType::Blocks.waiting("a", "c").unwrap();
        assert!(graph.would_cycle(first, second));
        assert!(DependencyType::Related.waiting("c", "a").is_none());
    }
}
