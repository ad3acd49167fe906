//! A roadmap as read from the database: one query a level, however many rows there are.

use berth_sdk::prelude::*;

use super::item::ItemStatus;

/// The most tasks whose schedule is worked out.
const TASKS_MAX: usize = 10_000;

/// A milestone, an epic or a story: what the tree shows of it.
#[data]
pub(super) struct Line {
    pub id: Id,
    /// The item above it.
    pub parent_id: Id,
    pub name: String,
    pub status: ItemStatus,
    /// Of a milestone.
    pub target_date: Option<Timestamp>,
}

/// How many tasks hang on one item.
#[data]
pub(super) struct Count {
    pub milestone_id: Id,
    pub epic_id: Option<Id>,
    pub story_id: Option<Id>,
    pub completed: i64,
    pub cancelled: i64,
    pub total: i64,
}

/// Everything that progress follows from.
pub(super) struct Outline {
    pub milestones: Vec<Line>,
    pub epics: Vec<Line>,
    pub stories: Vec<Line>,
    pub counts: Vec<Count>,
}

impl Outline {
    /// Reads it: four queries.
    pub(super) fn load(database: &dyn Executor, roadmap_id: &Id) -> Result<Self> {
        let level = |table: &str, parent: &str, date: &str| -> Result<Vec<Line>> {
            let sql = format!(
                "SELECT id, {parent} AS \"parentId\", name, status, {date} AS \"targetDate\" FROM {table} \
                 WHERE roadmap_id = $1 ORDER BY \"position\", id"
            );
            Ok(database::query_as(database, &sql, params![roadmap_id])?)
        };
        let counts = database::query_as(
            database,
            "SELECT milestone_id AS \"milestoneId\", epic_id AS \"epicId\", story_id AS \"storyId\", \
             SUM(CASE WHEN status = 'completed' THEN 1 ELSE 0 END) AS completed, \
             SUM(CASE WHEN status = 'cancelled' THEN 1 ELSE 0 END) AS cancelled, COUNT(*) AS total \
             FROM project_tasks WHERE deleted_at IS NULL \
             AND milestone_id IN (SELECT id FROM project_milestones WHERE roadmap_id = $1) \
             GROUP BY milestone_id, epic_id, story_id",
            params![roadmap_id],
        )?;
        Ok(Self {
            milestones: level("project_milestones", "roadmap_id", "target_date")?,
            epics: level("project_epics", "milestone_id", "NULL")?,
            stories: level("project_stories", "epic_id", "NULL")?,
            counts,
        })
    }
}

/// A task that is still to be done.
#[data]
pub(super) struct OpenTask {
    pub id: Id,
    pub title: String,
    pub status: String,
    pub assigned_to: Option<Id>,
    pub due_date: Option<Timestamp>,
    pub estimated_hours: Option<f64>,
}

/// An edge between two tasks.
#[data]
pub(super) struct Edge {
    pub from_task_id: Id,
    pub to_task_id: Id,
    pub r#type: crate::task::DependencyType,
}

/// The open tasks of a roadmap and what they wait for: two queries.
pub(super) fn open_work(database: &dyn Executor, roadmap_id: &Id) -> Result<(Vec<OpenTask>, Vec<Edge>)> {
    let tasks: Vec<OpenTask> = database::query_as(
        database,
        &format!(
            "SELECT id, title, status, assigned_to AS \"assignedTo\", due_date AS \"dueDate\", \
             estimated_hours AS \"estimatedHours\" FROM project_tasks WHERE deleted_at IS NULL \
             AND status NOT IN ('completed', 'cancelled') \
             AND milestone_id IN (SELECT id FROM project_milestones WHERE roadmap_id = $1) ORDER BY id LIMIT {TASKS_MAX}"
        ),
        params![roadmap_id],
    )?;
    let edges = database::query_as(
        database,
        "SELECT from_task_id AS \"fromTaskId\", to_task_id AS \"toTaskId\", type FROM project_task_dependencies \
         WHERE type <> 'related' AND from_task_id IN (SELECT id FROM project_tasks WHERE deleted_at IS NULL \
         AND milestone_id IN (SELECT id FROM project_milestones WHERE roadmap_id = $1))",
        params![roadmap_id],
    )?;
    Ok((tasks, edges))
}
