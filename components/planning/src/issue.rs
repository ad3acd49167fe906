//! Issues: what is wrong or likely to go wrong in a project.

mod alert;
mod anticipate;
mod rules;

pub(crate) use alert::suggest;

use berth_sdk::{prelude::*, serde_json::Value};

use crate::{
    project::{self, Project},
    task::{Priority, Task, TaskType},
};
use rules::{IssueStatus, Severity, priority_score};

/// What kind of trouble it is.
#[choice]
pub(crate) enum IssueKind {
    Bug,
    Performance,
    Security,
    Quality,
    Dependency,
    BreakingChange,
}

/// Who came up with it.
#[choice]
pub(crate) enum Source {
    Manual,
    Anticipated,
}

/// An issue.
#[entity(table = "project_issues")]
pub(crate) struct Issue {
    /// None only for what an alert suggests that names no project.
    #[field(immutable, parent = Project)]
    pub project_id: Option<Id>,
    #[field(min = 1, max = 200, plain)]
    pub title: String,
    #[field(default)]
    pub description: String,
    #[field(default = IssueKind::Bug)]
    pub kind: IssueKind,
    #[field(default = Severity::Medium)]
    pub severity: Severity,
    /// How likely it is that it hurts, from 0 to 1.
    #[field(min = 0, max = 1, default = 1.0)]
    pub likelihood: f64,
    /// Severity times likelihood, from 0 to 1.
    #[field(readonly, default)]
    pub priority_score: f64,
    #[field(default = IssueStatus::Open)]
    pub status: IssueStatus,
    #[field(readonly, default = Source::Manual)]
    pub source: Source,
    #[field(max = 1024, plain)]
    pub file_path: Option<String>,
    /// The task it was turned into.
    #[field(readonly)]
    pub task_id: Option<Id>,
    /// What tells repeated suggestions apart.
    #[field(readonly, hidden)]
    pub alert_key: Option<String>,
}

impl Rules for Issue {
    fn scope() -> Option<Condition> {
        Some(project::within_or_none("project_issues"))
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        match &self.project_id {
            Some(project_id) => project::require_edit(transaction, project_id)?,
            None if self.source == Source::Anticipated => {}
            None => return Err(Problem::field("projectId", "is required")),
        }
        self.priority_score = priority_score(self.severity, self.likelihood);
        Ok(())
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if let Some(project_id) = &old.project_id {
            project::require_edit(transaction, project_id)?;
        }
        if self.status != old.status {
            rules::require_move(old.status, self.status)?;
        }
        self.priority_score = priority_score(self.severity, self.likelihood);
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        row.project_id.as_ref().map_or(Ok(()), |project_id| project::require_edit(transaction, project_id))
    }
}

impl Issue {
    /// An issue that nobody has written.
    fn anticipated(project_id: Option<Id>, title: String, description: String) -> Self {
        Self {
            project_id,
            title: title.chars().take(200).collect(),
            description,
            kind: IssueKind::Quality,
            severity: Severity::Medium,
            likelihood: 0.5,
            priority_score: 0.0,
            status: IssueStatus::Open,
            source: Source::Anticipated,
            file_path: None,
            task_id: None,
            alert_key: None,
        }
    }
}

/// What a task made of something else may be given.
#[data]
pub(crate) struct Wishes {
    #[field(min = 1, max = 200, plain)]
    pub title: Option<String>,
    pub assigned_to: Option<Id>,
    pub due_date: Option<Timestamp>,
    #[field(min = 0, max = 100_000)]
    pub estimated_hours: Option<f64>,
    /// Only where what it is made of has no project.
    pub project_id: Option<Id>,
}

impl Wishes {
    /// Puts the wishes into a task.
    pub(crate) fn apply(self, task: &mut Task) {
        task.assigned_to = self.assigned_to;
        task.due_date = self.due_date;
        if let Some(title) = self.title {
            task.title = title;
        }
        task.estimated_hours = self.estimated_hours.or(task.estimated_hours);
    }
}

/// 409 for what has been turned into a task already.
pub(crate) fn require_no_task(task_id: Option<&Id>) -> Result<()> {
    match task_id {
        None => Ok(()),
        Some(id) => {
            let problem = Problem::conflict("There is a task for it already.").with_code("TASK_EXISTS");
            Err(problem.with("taskId", id.as_str()))
        }
    }
}

/// `POST /api/issues/{id}/to-task`.
fn to_task(Params(id): Params<Id>, wishes: Option<Json<Wishes>>) -> Result<Created<Stored<Task>>> {
    database::transaction(|transaction| {
        let mut issue = entity::read::<Issue>(transaction, &id)?;
        require_no_task(issue.task_id.as_ref())?;
        if issue.status.is_closed() {
            return Err(Problem::conflict(format!("The issue is {}.", issue.status)));
        }
        let wished = wishes.as_ref().and_then(|Json(wishes)| wishes.project_id.clone());
        let project_id = issue.project_id.clone().or(wished);
        let project_id = project_id.ok_or_else(|| Problem::field("projectId", "is required: the issue has none"))?;
        let mut task = Task {
            description: Some(issue.description.clone()).filter(|text| !text.is_empty()),
            r#type: match issue.kind {
                IssueKind::Bug | IssueKind::Security => TaskType::Bug,
                IssueKind::Performance | IssueKind::Quality => TaskType::Refactor,
                IssueKind::Dependency | IssueKind::BreakingChange => TaskType::Feature,
            },
            priority: match issue.severity {
                Severity::Critical => Priority::Critical,
                Severity::High => Priority::High,
                Severity::Medium => Priority::Medium,
                Severity::Low => Priority::Low,
            },
            tags: vec![issue.kind.to_string()],
            ..Task::new(project_id, issue.title.clone())
        };
        if let Some(Json(wishes)) = wishes {
            wishes.apply(&mut task);
        }
        let task = entity::create(transaction, task)?;
        issue.task_id = Some(task.id.clone());
        issue.status = IssueStatus::InProgress;
        entity::save(transaction, &mut issue)?;
        Ok(Created(task))
    })
}

/// The routes of issues.
pub(crate) fn routes() -> Router {
    Router::new()
        .entity::<Issue>("/api/issues")
        .post("/api/issues/anticipate", anticipate::anticipate)
        .summary("Propose likely issues of a project.")
        .post("/api/issues/{id}/to-task", to_task)
        .summary("Turn an issue into a task.")
}

/// How severe something is, as a text of an event may say it.
fn severity_in(data: &Value) -> Severity {
    let text = data.get("severity").and_then(Value::as_str).unwrap_or_default().to_lowercase();
    match text.as_str() {
        "critical" | "fatal" | "page" => Severity::Critical,
        "high" | "error" | "major" => Severity::High,
        "low" | "info" | "minor" => Severity::Low,
        _ => Severity::Medium,
    }
}
