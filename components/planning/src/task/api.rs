//! What can be done with a task besides writing it: its status, its assignee, subtasks, links, history and comments.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::{
    Task, dependencies,
    rules::{TaskStatus, require_move},
};
use crate::{plan, project};

/// The body of `PUT /api/tasks/{id}/status`.
#[data]
pub(crate) struct NewStatus {
    status: TaskStatus,
    /// Completes in spite of an open `requires`.
    #[field(default)]
    force: bool,
}

/// `PUT /api/tasks/{id}/status`. The status it has already is no change.
pub(crate) fn change_status(
    Params(id): Params<Id>,
    if_match: IfMatch,
    Json(input): Json<NewStatus>,
) -> Result<Stored<Task>> {
    database::transaction(|transaction| {
        let old = entity::read::<Task>(transaction, &id)?;
        if_match.check(old.version)?;
        project::require_edit(transaction, &old.project_id)?;
        if old.status == input.status {
            return Ok(old);
        }
        require_move(old.status, input.status)?;
        if input.status == TaskStatus::Completed && !input.force {
            dependencies::require_done(transaction, &id)?;
        }
        let mut new = old.clone();
        new.status = input.status;
        entity::save(transaction, &mut new)?;
        Task::after_update(&old, &new, transaction)?;
        Ok(new)
    })
}

/// The body of `PUT /api/tasks/{id}/assign`.
#[data]
pub(crate) struct Assignment {
    /// A user, or null for nobody.
    assigned_to: Option<Id>,
}

/// `PUT /api/tasks/{id}/assign`.
pub(crate) fn assign(Params(id): Params<Id>, if_match: IfMatch, Json(input): Json<Assignment>) -> Result<Stored<Task>> {
    let patch = Map::from_iter([("assignedTo".to_string(), json!(input.assigned_to))]);
    database::transaction(|transaction| entity::update(transaction, &id, &patch, if_match))
}

/// `GET /api/tasks/{id}/subtasks`.
pub(crate) fn subtasks(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Task>>>> {
    let task = entity::read::<Task>(&Pool, &id)?;
    Select::new().equal("parent_task_id", &task.id).page(&Pool, &query)
}

/// `POST /api/tasks/{id}/subtasks`: a task of the same project.
pub(crate) fn add_subtask(Params(id): Params<Id>, Json(body): Json<Value>) -> Result<Created<Stored<Task>>> {
    let mut fields = body.as_object().cloned().unwrap_or_default();
    database::transaction(|transaction| {
        let parent = entity::read::<Task>(transaction, &id)?;
        fields.insert("projectId".into(), parent.project_id.as_str().into());
        fields.insert("parentTaskId".into(), parent.id.as_str().into());
        entity::create_from::<Task>(transaction, fields).map(Created)
    })
}

/// The body of `POST /api/tasks/{id}/link`: what is there is linked, null unlinks.
#[derive(berth_sdk::serde::Deserialize, berth_sdk::schemars::JsonSchema)]
#[serde(crate = "berth_sdk::serde")]
#[schemars(crate = "berth_sdk::schemars")]
pub(crate) struct Link(Map<String, Value>);

impl validate::Tidy for Link {}

/// What a task can be linked to.
const LINKS: &[&str] = &["planId", "planStepId", "storyId", "epicId", "milestoneId", "environmentId"];

/// `POST /api/tasks/{id}/link`.
pub(crate) fn link(
    Params(id): Params<Id>,
    if_match: IfMatch,
    Json(Link(mut links)): Json<Link>,
) -> Result<Stored<Task>> {
    links.retain(|name, _| LINKS.contains(&name.as_str()));
    if links.is_empty() {
        return Err(Problem::bad_request(format!("Name at least one of {}.", LINKS.join(", "))));
    }
    database::transaction(|transaction| {
        // A step brings its plan along.
        if let Some(step_id) = links.get("planStepId").and_then(Value::as_str) {
            let step = entity::read::<plan::StepRow>(transaction, step_id)?;
            let plan_id = links.entry("planId").or_insert_with(|| step.plan_id.as_str().into());
            if plan_id.as_str() != Some(step.plan_id.as_str()) {
                return Err(Problem::unprocessable("The step belongs to another plan."));
            }
        }
        entity::update(transaction, &id, &links, if_match)
    })
}

/// One change of one field.
#[entity(table = "project_task_history", name = "change", sort = "-at")]
pub(crate) struct Change {
    #[field(parent = Task)]
    pub task_id: Id,
    #[field(filter)]
    pub field: String,
    pub old: Option<String>,
    pub new: Option<String>,
    pub by: Option<Id>,
    pub at: Timestamp,
}

impl Rules for Change {}

/// `GET /api/tasks/{id}/history`.
pub(crate) fn history(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Change>>>> {
    let task = entity::read::<Task>(&Pool, &id)?;
    Select::new().equal("task_id", &task.id).page(&Pool, &query)
}

/// Writes a line of history for every field that has changed.
pub(crate) fn note_changes(old: &Stored<Task>, new: &Stored<Task>, transaction: &Transaction) -> Result<()> {
    let (before, after) = (old.shown(), new.shown());
    let by = auth::principal().user_id.map(Id::from);
    for field in Task::DEFINITION.fields.iter().filter(|field| !field.is_hidden) {
        let (from, to) = (before.get(field.name), after.get(field.name));
        if from == to {
            continue;
        }
        let change = Change {
            task_id: new.id.clone(),
            field: field.name.into(),
            old: as_text(from),
            new: as_text(to),
            by: by.clone(),
            at: new.updated_at,
        };
        entity::create(transaction, change)?;
    }
    Ok(())
}

fn as_text(value: Option<&Value>) -> Option<String> {
    match value {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => Some(other.to_string()),
    }
}

/// What somebody says about a task.
#[entity(table = "project_task_comments", name = "comment", sort = "createdAt")]
pub(crate) struct Comment {
    #[field(immutable, parent = Task)]
    pub task_id: Id,
    #[field(readonly)]
    pub author_id: Option<Id>,
    #[field(min = 1, max = 10_000)]
    pub body: String,
}

impl Rules for Comment {
    fn before_create(&mut self, _: &Transaction) -> Result<()> {
        self.author_id = auth::principal().user_id.map(Id::from);
        Ok(())
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        require_author(old.author_id.as_ref())
    }

    fn before_delete(row: &Stored<Self>, _: &Transaction) -> Result<()> {
        require_author(row.author_id.as_ref())
    }
}

/// 403 unless the caller wrote it or administers the organization.
pub(crate) fn require_author(author_id: Option<&Id>) -> Result<()> {
    let principal = auth::principal();
    let is_author = author_id.is_some() && author_id.map(Id::as_str) == principal.user_id.as_deref();
    if is_author || principal.is_super_admin || principal.is_platform {
        return Ok(());
    }
    Err(Problem::forbidden("Only who wrote it changes it."))
}
