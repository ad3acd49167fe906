//! Technical debt: what slows a project down, ranked, and how it develops.

mod trends;

use berth_sdk::prelude::*;

use crate::{
    issue::{Wishes, require_no_task},
    project::{self, Project},
    task::{Priority, Task, TaskType},
};

/// What kind of debt it is.
#[choice]
pub(crate) enum DebtType {
    CodeSmell,
    Architecture,
    Dependency,
    TestCoverage,
    Documentation,
}

/// Where it stands.
#[choice]
pub(crate) enum DebtStatus {
    Identified,
    Accepted,
    InProgress,
    Resolved,
}

/// A place where it shows.
#[data]
pub(crate) struct DebtItem {
    #[field(min = 1, max = 1024, plain)]
    pub file_path: String,
    #[field(min = 1)]
    pub line: Option<i64>,
    #[field(default, max = 2000)]
    pub description: String,
    #[field(max = 20)]
    pub severity: Option<String>,
}

/// A piece of debt.
#[entity(table = "project_debt")]
pub(crate) struct Debt {
    #[field(immutable, parent = Project)]
    pub project_id: Id,
    #[field(min = 1, max = 200, plain)]
    pub title: String,
    pub description: Option<String>,
    #[field(default = DebtType::CodeSmell)]
    pub debt_type: DebtType,
    /// How much it hurts; usually from 0 to 10.
    #[field(min = 0, max = 100)]
    pub impact_score: f64,
    /// How much work it is; on the same scale.
    #[field(min = 0, max = 100)]
    pub effort_score: f64,
    /// 0.6 impact + 0.4 effort.
    #[field(readonly, default)]
    pub overall_score: f64,
    #[field(default = DebtStatus::Identified)]
    pub status: DebtStatus,
    #[field(default, max = 1000)]
    pub items: Vec<DebtItem>,
    #[field(default = clock::now())]
    pub detected_at: Timestamp,
    #[field(readonly)]
    pub resolved_at: Option<Timestamp>,
    /// The task it was turned into.
    #[field(readonly)]
    pub task_id: Option<Id>,
}

impl Rules for Debt {
    fn scope() -> Option<Condition> {
        Some(project::within("project_debt"))
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &self.project_id)?;
        self.settle(None);
        Ok(())
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &old.project_id)?;
        self.settle(Some(old.status));
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &row.project_id)
    }
}

impl Debt {
    /// The score, and since when it is resolved.
    fn settle(&mut self, before: Option<DebtStatus>) {
        self.overall_score = overall(self.impact_score, self.effort_score);
        if self.status != DebtStatus::Resolved {
            self.resolved_at = None;
        } else if before != Some(DebtStatus::Resolved) {
            self.resolved_at = Some(clock::now());
        }
    }
}

fn overall(impact: f64, effort: f64) -> f64 {
    crate::score::rounded(0.6 * impact + 0.4 * effort)
}

/// `PUT /api/debt/{id}/resolve`; 409 when it is.
fn resolve(Params(id): Params<Id>, if_match: IfMatch) -> Result<Stored<Debt>> {
    database::transaction(|transaction| {
        let debt = entity::read::<Debt>(transaction, &id)?;
        if debt.status == DebtStatus::Resolved {
            return Err(Problem::conflict("It is resolved already."));
        }
        let patch = [("status".to_string(), json!(DebtStatus::Resolved))].into_iter().collect();
        entity::update(transaction, &id, &patch, if_match)
    })
}

/// `POST /api/debt/{id}/to-task`.
fn to_task(Params(id): Params<Id>, wishes: Option<Json<Wishes>>) -> Result<Created<Stored<Task>>> {
    database::transaction(|transaction| {
        let mut debt = entity::read::<Debt>(transaction, &id)?;
        require_no_task(debt.task_id.as_ref())?;
        if debt.status == DebtStatus::Resolved {
            return Err(Problem::conflict("It is resolved already."));
        }
        let mut task = Task {
            description: debt.description.clone(),
            r#type: match debt.debt_type {
                DebtType::TestCoverage => TaskType::Test,
                DebtType::Documentation => TaskType::Documentation,
                _ => TaskType::Refactor,
            },
            priority: priority_of(debt.overall_score),
            tags: vec!["debt".into(), debt.debt_type.to_string()],
            ..Task::new(debt.project_id.clone(), debt.title.clone())
        };
        if let Some(Json(wishes)) = wishes {
            wishes.apply(&mut task);
        }
        let task = entity::create(transaction, task)?;
        debt.task_id = Some(task.id.clone());
        debt.status = DebtStatus::InProgress;
        entity::save(transaction, &mut debt)?;
        Ok(Created(task))
    })
}

fn priority_of(score: f64) -> Priority {
    match score {
        score if score >= 8.0 => Priority::Critical,
        score if score >= 6.0 => Priority::High,
        score if score >= 3.0 => Priority::Medium,
        _ => Priority::Low,
    }
}

/// `GET /api/debt/backlog`: what is not resolved, highest score first.
fn backlog(query: PageQuery) -> Result<JsonText<Page<Stored<Debt>>>> {
    Select::new().condition("status <> ?", [DebtStatus::Resolved]).sort("-overallScore").page(&Pool, &query)
}

/// The routes of debt.
pub(crate) fn routes() -> Router {
    Router::new()
        .entity::<Debt>("/api/debt")
        .get("/api/debt/backlog", backlog)
        .summary("List unresolved debt, highest score first.")
        .get("/api/debt/trends", trends::read)
        .summary("Read how debt develops over time.")
        .put("/api/debt/{id}/resolve", resolve)
        .summary("Resolve a debt item.")
        .post("/api/debt/{id}/to-task", to_task)
        .summary("Turn a debt item into a task.")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::overall;

    #[test]
    fn impact_weighs_more_than_effort() {
        assert_eq!((overall(10.0, 0.0), overall(0.0, 10.0), overall(7.5, 3.0)), (6.0, 4.0, 5.7));
    }

    proptest! {
        #[test]
        fn a_score_lies_between_its_parts(impact in 0.0f64..=100.0, effort in 0.0f64..=100.0) {
            let score = overall(impact, effort);
            prop_assert!(score >= impact.min(effort) - 1e-4 && score <= impact.max(effort) + 1e-4);
        }
    }
}
