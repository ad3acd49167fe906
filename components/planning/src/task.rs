//! Tasks: what somebody has to do, with its history, its dependencies and its readiness.

mod api;
mod bulk;
mod dependencies;
mod due;
mod list;
mod readiness;
mod rules;

pub(crate) use dependencies::DependencyType;
pub(crate) use due::announce_due;
pub(crate) use list::{Filter, of as list_of};

use berth_sdk::{events::Message, prelude::*, serde_json::Value};

use crate::{
    environment::Environment,
    plan,
    project::{self, Project},
    roadmap::{self, Place},
};
use rules::TaskStatus;

/// What kind of work it is.
#[choice]
pub(crate) enum TaskType {
    Feature,
    Bug,
    Refactor,
    Test,
    Documentation,
}

/// How important it is.
#[choice]
pub(crate) enum Priority {
    Low,
    Medium,
    High,
    Critical,
}

/// A task.
#[entity(table = "project_tasks", created = "task.created", soft_delete)]
pub(crate) struct Task {
    #[field(immutable, parent = Project)]
    pub project_id: Id,
    #[field(parent = plan::Plan)]
    pub plan_id: Option<Id>,
    #[field(parent = plan::StepRow)]
    pub plan_step_id: Option<Id>,
    #[field(min = 1, max = 200, plain)]
    pub title: String,
    pub description: Option<String>,
    #[field(default = TaskType::Feature)]
    pub r#type: TaskType,
    #[field(default = TaskStatus::ToDo)]
    pub status: TaskStatus,
    #[field(default = Priority::Medium)]
    pub priority: Priority,
    pub assigned_to: Option<Id>,
    #[field(min = 0, max = 100_000)]
    pub estimated_hours: Option<f64>,
    #[field(min = 0, max = 100_000)]
    pub actual_hours: Option<f64>,
    pub due_date: Option<Timestamp>,
    /// Where it hangs in a roadmap; the deepest of the three decides, and what is above it follows.
    pub milestone_id: Option<Id>,
    pub epic_id: Option<Id>,
    pub story_id: Option<Id>,
    #[field(parent = Environment)]
    pub environment_id: Option<Id>,
    #[field(parent = Task)]
    pub parent_task_id: Option<Id>,
    #[field(default, max = 50)]
    pub tags: Vec<String>,
    /// What people call it: `QUAY-12`.
    #[field(readonly, filter)]
    pub identifier: Option<String>,
    /// What has been said about the due date already.
    #[field(readonly, hidden)]
    pub due_state: Option<String>,
}

impl Rules for Task {
    fn scope() -> Option<Condition> {
        Some(project::within("project_tasks"))
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        if !self.status.is_open() {
            return Err(Problem::unprocessable("A new task is open."));
        }
        project::require_edit(transaction, &self.project_id)?;
        dependencies::check_parent(transaction, None, self)?;
        self.hang(roadmap::place_of(transaction, &self.project_id, self.place())?);
        self.identifier = project::next_identifier(transaction, &self.project_id)?;
        Ok(())
    }

    fn after_create(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        announce_assignment(None, row, transaction)
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &old.project_id)?;
        if self.status != old.status {
            rules::require_move(old.status, self.status)?;
            if self.status == TaskStatus::Completed {
                dependencies::require_done(transaction, &old.id)?;
            }
        }
        if self.due_date != old.due_date {
            self.due_state = None;
        }
        if self.parent_task_id != old.parent_task_id {
            project::lock(transaction, &[&old.project_id])?;
            dependencies::check_parent(transaction, Some(&old.id), self)?;
        }
        if self.place() != old.place() {
            let wish = self.place().after(&old.place());
            self.hang(roadmap::place_of(transaction, &old.project_id, wish)?);
        }
        Ok(())
    }

    fn after_update(old: &Stored<Self>, new: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if old.status != new.status || old.place() != new.place() {
            roadmap::forget_tree(transaction, old.milestone_id.as_ref())?;
        }
        api::note_changes(old, new, transaction)?;
        announce_assignment(Some(old), new, transaction)?;
        announce_status(old, new, transaction)
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &row.project_id)?;
        roadmap::forget_tree(transaction, row.milestone_id.as_ref())?;
        dependencies::forget(transaction, &row.id)
    }

    fn event_data(row: &Stored<Self>) -> Value {
        json!({
            "id": row.id, "taskId": row.id, "identifier": row.identifier, "projectId": row.project_id, "title": row.title, "type": row.r#type,
            "status": row.status, "priority": row.priority, "assignedTo": row.assigned_to, "dueDate": row.due_date,
            "planId": row.plan_id, "parentTaskId": row.parent_task_id, "estimatedHours": row.estimated_hours,
        })
    }
}

impl Task {
    /// A task of a project with nothing else said.
    pub(crate) fn new(project_id: Id, title: String) -> Self {
        Self {
            project_id,
            plan_id: None,
            plan_step_id: None,
            title,
            description: None,
            r#type: TaskType::Feature,
            status: TaskStatus::ToDo,
            priority: Priority::Medium,
            assigned_to: None,
            estimated_hours: None,
            actual_hours: None,
            due_date: None,
            milestone_id: None,
            epic_id: None,
            story_id: None,
            environment_id: None,
            parent_task_id: None,
            tags: Vec::new(),
            identifier: None,
            due_state: None,
        }
    }

    fn place(&self) -> Place {
        let (milestone_id, epic_id, story_id) =
            (self.milestone_id.clone(), self.epic_id.clone(), self.story_id.clone());
        Place { milestone_id, epic_id, story_id }
    }

    fn hang(&mut self, place: Place) {
        (self.milestone_id, self.epic_id, self.story_id) = (place.milestone_id, place.epic_id, place.story_id);
    }
}

fn announce(kind: &str, row: &Stored<Task>, more: &Value, transaction: &Transaction) -> Result<()> {
    let mut data = Task::event_data(row);
    if let (Some(data), Some(more)) = (data.as_object_mut(), more.as_object()) {
        data.extend(more.clone());
    }
    transaction.send(&Message::new(kind, &data)?.with_key(row.id.as_str()))?;
    Ok(())
}

fn announce_assignment(old: Option<&Stored<Task>>, new: &Stored<Task>, transaction: &Transaction) -> Result<()> {
    let before = old.and_then(|old| old.assigned_to.as_ref());
    if new.assigned_to.is_none() || before == new.assigned_to.as_ref() {
        return Ok(());
    }
    announce("task.assigned", new, &json!({ "assignedFrom": before }), transaction)
}

fn announce_status(old: &Stored<Task>, new: &Stored<Task>, transaction: &Transaction) -> Result<()> {
    if old.status == new.status {
        return Ok(());
    }
    announce("task.status_changed", new, &json!({ "from": old.status, "to": new.status }), transaction)?;
    if new.status == TaskStatus::Completed {
        announce("task.completed", new, &json!({ "actualHours": new.actual_hours }), transaction)?;
    }
    Ok(())
}

/// The routes of tasks.
pub(crate) fn routes() -> Router {
    Router::new()
        .entity::<Task>("/api/tasks")
        .get("/api/tasks", list::every)
        .summary("List tasks.")
        .post("/api/tasks/bulk", bulk::create)
        .summary("Create several tasks, all or none.")
        .put("/api/tasks/bulk", bulk::change)
        .summary("Change several tasks in the same way, all or none.")
        .put("/api/tasks/{id}/status", api::change_status)
        .summary("Change the status of a task.")
        .put("/api/tasks/{id}/assign", api::assign)
        .summary("Assign a task.")
        .get("/api/tasks/{id}/subtasks", api::subtasks)
        .summary("List the subtasks.")
        .post("/api/tasks/{id}/subtasks", api::add_subtask)
        .makes::<Task>()
        .may_omit(&["projectId"])
        .summary("Create a subtask.")
        .get("/api/tasks/{id}/dependencies", dependencies::list)
        .summary("List the dependencies of a task.")
        .post("/api/tasks/{id}/dependencies", dependencies::add)
        .summary("Add a dependency.")
        .delete("/api/tasks/{id}/dependencies/{depId}", dependencies::remove)
        .summary("Remove a dependency.")
        .post("/api/tasks/{id}/link", api::link)
        .summary("Link a task to something else.")
        .get("/api/tasks/{id}/history", api::history)
        .summary("Read what has changed.")
        .get("/api/tasks/{id}/readiness", readiness::read)
        .summary("Read whether work can begin, and why not.")
        .nested::<api::Comment>("/api/tasks/{id}/comments", "taskId")
}
