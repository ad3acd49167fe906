//! Reading roadmaps: by levels, with a number of queries that does not grow with the rows.

use std::{collections::HashMap, time::Duration};

use berth_sdk::{
    cache,
    prelude::*,
    serde_json::{self, Map, Value},
};

use super::{
    Epic, Milestone, Roadmap, Story,
    critical::{self, Slot},
    outline::{self, OpenTask, Outline},
    progress::{Progress, Tree, roll_up},
    tree_key,
};
use crate::task::{DependencyType, Task};

/// How long the tree is cached.
const CACHED: Duration = Duration::from_secs(30);
/// What a task without an estimate counts for, in hours.
const HOURS_DEFAULT: f64 = 8.0;

/// `GET /api/roadmaps/{id}/tree`.
pub(crate) fn tree(Params(id): Params<Id>) -> Result<Json<Tree>> {
    // Whether the caller sees it is asked of the database, whatever is cached.
    let roadmap = entity::read::<Roadmap>(&Pool, &id)?;
    cache::remember(&tree_key(&id), CACHED, || of(&roadmap)).map(Json)
}

fn of(roadmap: &Stored<Roadmap>) -> Result<Tree> {
    let outline = Outline::load(&Pool, &roadmap.id)?;
    Ok(roll_up(roadmap.id.clone(), roadmap.name.clone(), outline))
}

/// How far a roadmap is.
#[data]
pub(crate) struct Standing {
    roadmap_id: Id,
    completed: i64,
    /// Without cancelled tasks.
    total: i64,
    cancelled: i64,
    /// From 0 to 1; 0 where there is nothing to do.
    fraction: f64,
    milestones: Vec<super::progress::MilestoneNode>,
}

/// `GET /api/roadmaps/{id}/progress`; never from the cache.
pub(crate) fn progress(Params(id): Params<Id>) -> Result<Json<Standing>> {
    let roadmap = entity::read::<Roadmap>(&Pool, &id)?;
    let Tree { id, progress, milestones, .. } = of(&roadmap)?;
    let Progress { completed, total, cancelled, fraction } = progress;
    Ok(Json(Standing { roadmap_id: id, completed, total, cancelled, fraction, milestones }))
}

/// `GET /api/roadmaps/{id}/hierarchy`: every entity whole, each inside the one it belongs to.
pub(crate) fn hierarchy(Params(id): Params<Id>) -> Result<Json<Value>> {
    let roadmap = entity::read::<Roadmap>(&Pool, &id)?;
    let inside = "milestone_id IN (SELECT id FROM project_milestones WHERE roadmap_id = ?)";
    let tasks = rows(Select::<Task>::new().condition(inside, [&id]).sort("createdAt"))?;
    let mut by_story = Sorted::new(tasks, |task| {
        ["storyId", "epicId", "milestoneId"].iter().find_map(|name| task.get(*name)?.as_str().map(ToString::to_string))
    });
    let mut nest = |rows: Vec<Map<String, Value>>, below: &mut Sorted, name: &str| -> Vec<Map<String, Value>> {
        rows.into_iter()
            .map(|mut row| {
                let own = row.get("id").and_then(Value::as_str).unwrap_or_default().to_string();
                row.insert(name.into(), below.take(&own));
                row.insert("tasks".into(), by_story.take(&own));
                row
            })
            .collect()
    };
    let parent = |name: &'static str| move |row: &Map<String, Value>| row.get(name)?.as_str().map(ToString::to_string);
    let stories = rows(Select::<Story>::new().equal("roadmap_id", &id))?;
    let mut none = Sorted::default();
    let mut stories: Vec<Map<String, Value>> = nest(stories, &mut none, "children");
    stories.iter_mut().for_each(|story| drop(story.remove("children")));
    let epics = rows(Select::<Epic>::new().equal("roadmap_id", &id))?;
    let epics = nest(epics, &mut Sorted::new(stories, parent("epicId")), "stories");
    let milestones = rows(Select::<Milestone>::new().equal("roadmap_id", &id))?;
    let milestones = nest(milestones, &mut Sorted::new(epics, parent("milestoneId")), "epics");
    let mut whole = roadmap.shown();
    whole.insert("milestones".into(), json!(milestones));
    Ok(Json(Value::Object(whole)))
}

fn rows<T: Rules>(select: Select<T>) -> Result<Vec<Map<String, Value>>> {
    serde_json::from_slice(&select.text(&Pool)?).map_err(|_| Problem::internal())
}

/// Rows by what they belong to, in their order.
#[derive(Default)]
struct Sorted(HashMap<String, Vec<Value>>);

impl Sorted {
    fn new(rows: Vec<Map<String, Value>>, parent: impl Fn(&Map<String, Value>) -> Option<String>) -> Self {
        let mut sorted: HashMap<String, Vec<Value>> = HashMap::new();
        for row in rows {
            if let Some(parent) = parent(&row) {
                sorted.entry(parent).or_default().push(Value::Object(row));
            }
        }
        Self(sorted)
    }

    fn take(&mut self, parent: &str) -> Value {
        Value::Array(self.0.remove(parent).unwrap_or_default())
    }
}

/// An edge between two tasks of which at least one is in the roadmap.
#[data]
pub(crate) struct Dependency {
    id: Id,
    from_task_id: Id,
    from_title: String,
    to_task_id: Id,
    to_title: String,
    r#type: DependencyType,
    /// The milestone of the first task; none when it is in no roadmap.
    from_milestone_id: Option<Id>,
    to_milestone_id: Option<Id>,
}

/// `GET /api/roadmaps/{id}/dependencies`.
pub(crate) fn dependencies(Params(id): Params<Id>, query: PageQuery) -> Result<Json<Page<Dependency>>> {
    let roadmap = entity::read::<Roadmap>(&Pool, &id)?;
    let inside = "IN (SELECT id FROM project_milestones WHERE roadmap_id = $1)";
    let from = format!(
        "FROM project_task_dependencies d JOIN project_tasks f ON f.id = d.from_task_id JOIN project_tasks t ON t.id = d.to_task_id \
         WHERE f.deleted_at IS NULL AND t.deleted_at IS NULL AND f.project_id = $2 AND t.project_id = $2 \
         AND (f.milestone_id {inside} OR t.milestone_id {inside})"
    );
    let total =
        database::query_one(&format!("SELECT COUNT(*) AS total {from}"), params![&roadmap.id, &roadmap.project_id])?
            .map_or(Ok(0), |row| row.get("total"))?;
    let items = database::query_as(
        &Pool,
        &format!(
            "SELECT d.id AS id, d.from_task_id AS \"fromTaskId\", f.title AS \"fromTitle\", d.to_task_id AS \"toTaskId\", \
             t.title AS \"toTitle\", d.type AS type, f.milestone_id AS \"fromMilestoneId\", \
             t.milestone_id AS \"toMilestoneId\" {from} ORDER BY d.id LIMIT $3 OFFSET $4"
        ),
        params![&roadmap.id, &roadmap.project_id, query.limit, query.offset],
    )?;
    Ok(Json(query.envelope(items, total)))
}

/// What a roadmap's open tasks take, and in which order.
#[data]
pub(crate) struct CriticalPath {
    roadmap_id: Id,
    /// The tasks that decide when everything is done, first one first.
    path: Vec<Scheduled>,
    /// How long the path takes.
    total_hours: f64,
    /// How many tasks are open.
    open_tasks: usize,
    /// How many of them have no estimate and count for `defaultHours`.
    unestimated: usize,
    default_hours: f64,
    /// Every open task, by when it can begin: the bars of a Gantt chart.
    tasks: Vec<Scheduled>,
    /// Tasks that wait for themselves and can never begin.
    stuck: Vec<Id>,
}

/// A task with when it can and must happen, in hours from now.
#[data]
pub(crate) struct Scheduled {
    id: Id,
    title: String,
    status: String,
    assigned_to: Option<Id>,
    due_date: Option<Timestamp>,
    hours: f64,
    earliest_start: f64,
    earliest_finish: f64,
    latest_start: f64,
    latest_finish: f64,
    /// How late it may begin without anything ending later; 0 on the path.
    slack: f64,
}

/// How to read it.
#[data]
pub(crate) struct Measure {
    /// What a task without an estimate counts for.
    #[field(min = 0, max = 1000)]
    default_hours: Option<f64>,
}

/// `GET /api/roadmaps/{id}/critical-path`.
pub(crate) fn critical_path(Params(id): Params<Id>, Query(measure): Query<Measure>) -> Result<Json<CriticalPath>> {
    let roadmap = entity::read::<Roadmap>(&Pool, &id)?;
    let (tasks, edges) = outline::open_work(&Pool, &roadmap.id)?;
    let default_hours = measure.default_hours.unwrap_or(HOURS_DEFAULT);
    Ok(Json(draw(roadmap.id, tasks, &edges, default_hours)))
}

fn draw(roadmap_id: Id, tasks: Vec<OpenTask>, edges: &[outline::Edge], default_hours: f64) -> CriticalPath {
    let sizes: Vec<(&str, u64)> =
        tasks.iter().map(|task| (task.id.as_str(), minutes(task.estimated_hours.unwrap_or(default_hours)))).collect();
    let waits: Vec<(&str, &str)> =
        edges.iter().filter_map(|edge| edge.r#type.waiting(&edge.from_task_id, &edge.to_task_id)).collect();
    let plan = critical::schedule(&sizes, &waits);
    let scheduled = |task: &OpenTask| plan.slots.get(task.id.as_str()).map(|slot| Scheduled::new(task, slot));
    let by_id: HashMap<&str, &OpenTask> = tasks.iter().map(|task| (task.id.as_str(), task)).collect();
    let path = plan.path.iter().filter_map(|id| by_id.get(id).and_then(|task| scheduled(task))).collect();
    let mut all: Vec<Scheduled> = tasks.iter().filter_map(scheduled).collect();
    all.sort_by(|one, other| one.earliest_start.total_cmp(&other.earliest_start).then_with(|| one.id.cmp(&other.id)));
    CriticalPath {
        roadmap_id,
        path,
        total_hours: hours(plan.minutes),
        open_tasks: tasks.len(),
        unestimated: tasks.iter().filter(|task| task.estimated_hours.is_none()).count(),
        default_hours,
        tasks: all,
        stuck: plan.stuck.iter().map(|id| Id::from(*id)).collect(),
    }
}

impl Scheduled {
    fn new(task: &OpenTask, slot: &Slot) -> Self {
        Self {
            id: task.id.clone(),
            title: task.title.clone(),
            status: task.status.clone(),
            assigned_to: task.assigned_to.clone(),
            due_date: task.due_date,
            hours: hours(slot.minutes),
            earliest_start: hours(slot.earliest_start),
            earliest_finish: hours(slot.earliest_finish),
            latest_start: hours(slot.latest_start),
            latest_finish: hours(slot.latest_finish),
            slack: hours(slot.slack()),
        }
    }
}

fn minutes(hours: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "estimates are from 0 to 100 000 hours"
    )]
    let minutes = (hours.clamp(0.0, 1_000_000.0) * 60.0).round() as u64;
    minutes
}

fn hours(minutes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a sum of estimates is far below 2^53 minutes")]
    let hours = minutes as f64 / 60.0;
    hours
}

/// `GET /api/roadmaps/{id}/milestones`.
pub(crate) fn milestones(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Milestone>>>> {
    let roadmap = entity::read::<Roadmap>(&Pool, &id)?;
    Select::new().equal("roadmap_id", &roadmap.id).page(&Pool, &query)
}

/// `GET /api/roadmaps/milestones/{id}/epics`.
pub(crate) fn epics(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Epic>>>> {
    let milestone = entity::read::<Milestone>(&Pool, &id)?;
    Select::new().equal("milestone_id", &milestone.id).page(&Pool, &query)
}

/// `GET /api/roadmaps/epics/{id}/stories`.
pub(crate) fn stories(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Story>>>> {
    let epic = entity::read::<Epic>(&Pool, &id)?;
    Select::new().equal("epic_id", &epic.id).page(&Pool, &query)
}

/// `GET /api/roadmaps/stories/{id}/tasks`.
pub(crate) fn tasks(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Task>>>> {
    let story = entity::read::<Story>(&Pool, &id)?;
    Select::new().equal("story_id", &story.id).page(&Pool, &query)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use berth_sdk::{
        Fault,
        database::{Rows, Value},
    };

    use super::*;

    /// A database with a chain of so many tasks in one milestone; it counts what it is asked.
    struct Counting {
        tasks: usize,
        queries: Cell<usize>,
    }

    impl Executor for Counting {
        fn query(&self, _: &str, _: &[Value]) -> Result<Rows, Fault> {
            Err(Fault::Unavailable)
        }
        fn execute(&self, _: &str, _: &[Value]) -> Result<u64, Fault> {
            Err(Fault::Unavailable)
        }
        fn query_json(&self, sql: &str, _: &[Value]) -> Result<Vec<u8>, Fault> {
            self.queries.set(self.queries.get() + 1);
            let rows: Vec<serde_json::Value> = if sql.contains("GROUP BY") {
                vec![
                    json!({"milestoneId": "m", "epicId": "e", "storyId": null, "completed": 0, "cancelled": 0, "total": self.tasks}),
                ]
            } else if sql.contains("FROM project_task_dependencies") {
                let edge = |number| json!({"fromTaskId": format!("t{number}"), "toTaskId": format!("t{}", number - 1), "type": "requires"});
                (1..self.tasks).map(edge).collect()
            } else if sql.contains("FROM project_tasks") {
                let task = |number| json!({"id": format!("t{number}"), "title": "T", "status": "to_do", "estimatedHours": 1.5});
                (0..self.tasks).map(task).collect()
            } else if sql.contains("FROM project_milestones") {
                vec![json!({"id": "m", "parentId": "r", "name": "M", "status": "planned", "targetDate": null})]
            } else if sql.contains("FROM project_epics") {
                vec![json!({"id": "e", "parentId": "m", "name": "E", "status": "planned", "targetDate": null})]
            } else {
                Vec::new()
            };
            serde_json::to_vec(&rows).map_err(|_| Fault::Unavailable)
        }
    }

    #[test]
    fn a_thousand_tasks_are_read_with_the_queries_of_ten() {
        let asked = [10, 1_000].map(|tasks| {
            let database = Counting { tasks, queries: Cell::new(0) };
            let tree = roll_up("r".into(), "R".into(), Outline::load(&database, &"r".into()).unwrap());
            assert_eq!(tree.progress.total, i64::try_from(tasks).unwrap());
            let rolled_up = database.queries.replace(0);
            let (open, edges) = outline::open_work(&database, &"r".into()).unwrap();
            let drawn = draw("r".into(), open, &edges, HOURS_DEFAULT);
            assert_eq!((drawn.path.len(), drawn.total_hours), (tasks, 1.5 * f64::from(u32::try_from(tasks).unwrap())));
            assert_eq!((drawn.path[0].id.as_str(), drawn.unestimated), ("t0", 0));
            (rolled_up, database.queries.get())
        });
        assert_eq!(asked, [(4, 2), (4, 2)]);
    }
}
