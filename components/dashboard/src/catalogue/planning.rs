//! What planning and execution-service know: tasks, plans, runs, roadmaps, incidents and debt.

use std::collections::BTreeMap;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::{Category, Setup, WidgetType};
use crate::{
    consume::Topic,
    dashboard::ContextType,
    data::{
        look::Look,
        step::{Ask, Step},
    },
};

const PLANNING: &str = "planning";
const EXECUTION: &str = "execution-service";
/// Roadmaps whose progress is asked for at once.
const ROADMAPS_MAX: usize = 5;

pub(super) const TYPES: &[WidgetType] = &[
    WidgetType::new::<TaskStatus>(
        "task_status",
        "Task status",
        "How many tasks are in each status.",
        Category::Planning,
    )
    .reads(PLANNING)
    .cached(60, &[Topic::Task]),
    WidgetType::new::<MyTasks>(
        "my_tasks",
        "My tasks",
        "The open tasks of whoever looks, the most urgent first.",
        Category::Planning,
    )
    .reads(PLANNING)
    .sized(4, 6)
    .cached(60, &[Topic::Task]),
    WidgetType::new::<PlanProgress>(
        "plan_progress",
        "Plan progress",
        "How far a plan is, or the latest plans.",
        Category::Planning,
    )
    .reads(PLANNING)
    .cached(30, &[Topic::Planning, Topic::Execution]),
    WidgetType::new::<ExecutionTimeline>(
        "execution_timeline",
        "Execution timeline",
        "Runs of plans in the order of time.",
        Category::Execution,
    )
    .reads(EXECUTION)
    .sized(12, 4)
    .cached(30, &[Topic::Execution]),
    WidgetType::new::<RoadmapProgress>(
        "roadmap_progress",
        "Roadmap progress",
        "How far a roadmap is, or those of a project.",
        Category::Planning,
    )
    .reads(PLANNING)
    .cached(120, &[Topic::Task, Topic::Planning]),
    WidgetType::new::<IncidentList>("incident_list", "Incidents", "What is broken right now.", Category::Operations)
        .reads(PLANNING)
        .cached(30, &[Topic::Incident]),
    WidgetType::new::<DebtTrend>(
        "debt_trend",
        "Technical debt",
        "What was found and what was resolved over time.",
        Category::Planning,
    )
    .reads(PLANNING)
    .cached(300, &[]),
];

/// The statuses of tasks, as planning names them.
#[choice]
enum TaskState {
    ToDo,
    InProgress,
    InReview,
    Blocked,
    Completed,
    Cancelled,
}

/// How the status of tasks is set up.
#[data]
struct TaskStatus {
    project_id: Option<Id>,
    milestone_id: Option<Id>,
    /// A user, `me`, or `none`.
    #[field(max = 64)]
    assigned_to: Option<String>,
}

impl Setup for TaskStatus {
    fn plan(self, look: &Look) -> Result<Step> {
        let assigned_to = self.assigned_to.or_else(|| look.context_of(ContextType::User));
        let asks = TaskState::ALL.iter().map(|status| {
            Ask::get(PLANNING, "/api/tasks")
                .with("status", status.as_str())
                .with("limit", "1")
                .with_some("projectId", look.project_id(self.project_id.as_ref()))
                .with_some("milestoneId", self.milestone_id.as_deref())
                .with_some("assignedTo", assigned_to.as_deref())
        });
        Step::made_of_all(asks.collect(), |pages| {
            let counts: BTreeMap<&str, i64> = TaskState::ALL
                .iter()
                .zip(&pages)
                .map(|(status, page)| (status.as_str(), page.get("total").and_then(Value::as_i64).unwrap_or(0)))
                .collect();
            Ok(json!({ "counts": counts, "total": counts.values().sum::<i64>() }))
        })
    }
}

/// How one's own tasks are set up.
#[data]
struct MyTasks {
    project_id: Option<Id>,
    /// Only what is late.
    overdue: Option<bool>,
    #[field(min = 1, max = 50, default = 10)]
    limit: i64,
}

impl Setup for MyTasks {
    fn plan(self, look: &Look) -> Result<Step> {
        let overdue = self.overdue.filter(|overdue| *overdue).map(|overdue| overdue.to_string());
        let ask = Ask::get(PLANNING, "/api/tasks")
            .with("assignedTo", "me")
            .with("open", "true")
            .with("sortBy", "dueDate")
            .with("order", "asc")
            .with("limit", self.limit.to_string())
            .with_some("overdue", overdue)
            .with_some("projectId", look.project_id(self.project_id.as_ref()));
        let fields = &["id", "identifier", "title", "status", "priority", "dueDate", "projectId"];
        Step::made(ask, |page| Ok(slim(page, fields)))
    }
}

/// How the progress of plans is set up.
#[data]
struct PlanProgress {
    /// One plan; without it the latest ones.
    plan_id: Option<Id>,
    project_id: Option<Id>,
    #[field(min = 1, max = 50, default = 10)]
    limit: i64,
}

impl Setup for PlanProgress {
    fn plan(self, look: &Look) -> Result<Step> {
        if let Some(plan_id) = &self.plan_id {
            return Step::read(Ask::get(PLANNING, &format!("/api/plans/{plan_id}/status")));
        }
        let ask = Ask::get(PLANNING, "/api/plans")
            .with("sortBy", "updatedAt")
            .with("order", "desc")
            .with("limit", self.limit.to_string())
            .with_some("projectId", look.project_id(self.project_id.as_ref()));
        Step::made(ask, |page| Ok(slim(page, &["id", "title", "status", "projectId", "executionId", "updatedAt"])))
    }
}

/// How runs are set up.
#[data]
struct ExecutionTimeline {
    project_id: Option<Id>,
    plan_id: Option<Id>,
    /// Statuses, several with commas.
    #[field(max = 200)]
    status: Option<String>,
    #[field(min = 1, max = 100, default = 20)]
    limit: i64,
}

impl Setup for ExecutionTimeline {
    fn plan(self, look: &Look) -> Result<Step> {
        let window = look.window;
        let ask = Ask::get(EXECUTION, "/api/executions")
            .with("sortBy", "createdAt")
            .with("order", "desc")
            .with("limit", self.limit.to_string())
            .with_some("status", self.status.as_deref())
            .with_some("planId", self.plan_id.as_deref())
            .with_some("projectId", look.project_id(self.project_id.as_ref()));
        Step::made(ask, move |page| {
            let fields = &[
                "id",
                "planId",
                "projectId",
                "status",
                "completedSteps",
                "totalSteps",
                "createdAt",
                "startedAt",
                "completedAt",
            ];
            let mut data = slim(page, fields);
            // The list knows no time: of the latest runs those within it are kept.
            if let Some(Value::Array(items)) = data.get_mut("items") {
                items.retain(|item| {
                    let begun = item.get("createdAt").and_then(Value::as_str).and_then(Timestamp::parse);
                    begun.is_none_or(|begun| {
                        window.from.is_none_or(|from| begun >= from) && window.to.is_none_or(|to| begun < to)
                    })
                });
            }
            Ok(data)
        })
    }
}

/// How the progress of roadmaps is set up.
#[data]
struct RoadmapProgress {
    /// One roadmap; without it the latest ones of the project.
    roadmap_id: Option<Id>,
    project_id: Option<Id>,
}

impl Setup for RoadmapProgress {
    fn plan(self, look: &Look) -> Result<Step> {
        let progress = |id: &str| Ask::get(PLANNING, &format!("/api/roadmaps/{id}/progress"));
        if let Some(roadmap_id) = &self.roadmap_id {
            return Step::made(progress(roadmap_id), |progress| Ok(json!({ "roadmaps": [progress] })));
        }
        let list = Ask::get(PLANNING, "/api/roadmaps")
            .with("sortBy", "updatedAt")
            .with("order", "desc")
            .with("limit", ROADMAPS_MAX.to_string())
            .with_some("projectId", look.project_id(self.project_id.as_ref()));
        Step::leading(list, move |page| {
            let items = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
            let text = |item: &Value, name: &str| item.get(name).and_then(Value::as_str).map(ToString::to_string);
            let named: Vec<(String, Option<String>)> = items
                .iter()
                .take(ROADMAPS_MAX)
                .filter_map(|item| Some((text(item, "id")?, text(item, "name"))))
                .collect();
            let asks = named.iter().map(|(id, _)| progress(id)).collect();
            Step::made_of_all(asks, move |answers| {
                let roadmaps: Vec<Value> = named
                    .into_iter()
                    .zip(answers)
                    .map(|((_, name), mut progress)| {
                        if let (Value::Object(progress), Some(name)) = (&mut progress, name) {
                            progress.insert("name".into(), name.into());
                        }
                        progress
                    })
                    .collect();
                Ok(json!({ "roadmaps": roadmaps }))
            })
        })
    }
}

/// How bad an incident is, as planning names it.
#[choice]
enum Severity {
    Critical,
    High,
    Medium,
    Low,
}

/// How incidents are set up.
#[data]
struct IncidentList {
    project_id: Option<Id>,
    #[field(max = 4)]
    severity: Option<Vec<Severity>>,
    /// What is over, too.
    #[field(default)]
    include_resolved: bool,
    #[field(min = 1, max = 50, default = 10)]
    limit: i64,
}

impl Setup for IncidentList {
    fn plan(self, look: &Look) -> Result<Step> {
        let severity = self.severity.filter(|list| !list.is_empty());
        let severity = severity.map(|list| list.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(","));
        let ask = Ask::get(PLANNING, "/api/incidents")
            .with("sortBy", "declaredAt")
            .with("order", "desc")
            .with("limit", self.limit.to_string())
            .with_some("status", (!self.include_resolved).then_some("open,investigating"))
            .with_some("severity", severity)
            .with_some("projectId", look.project_id(self.project_id.as_ref()));
        Step::made(ask, |page| {
            Ok(slim(page, &["id", "title", "severity", "status", "declaredAt", "resolvedAt", "projectId"]))
        })
    }
}

/// How the trend of debt is set up.
#[data]
struct DebtTrend {
    project_id: Option<Id>,
    #[field(min = 1, max = 730, default = 90)]
    days: i64,
    #[field(min = 1, max = 90, default = 7)]
    interval_days: i64,
}

impl Setup for DebtTrend {
    fn plan(self, look: &Look) -> Result<Step> {
        Step::read(
            Ask::get(PLANNING, "/api/debt/trends")
                .with("days", self.days.to_string())
                .with("intervalDays", self.interval_days.to_string())
                .with_some("projectId", look.project_id(self.project_id.as_ref())),
        )
    }
}

/// A page with these members of its entries alone.
pub(super) fn slim(page: Value, fields: &[&str]) -> Value {
    let total = page.get("total").cloned().unwrap_or_default();
    let items: Vec<Map<String, Value>> = match page {
        Value::Object(mut page) => match page.remove("items") {
            Some(Value::Array(items)) => items
                .into_iter()
                .map(|mut item| {
                    fields
                        .iter()
                        .filter_map(|field| Some(((*field).to_string(), item.get_mut(*field)?.take())))
                        .collect()
                })
                .collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    json!({ "items": items, "total": total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_narrowed_to_what_is_shown() {
        let page = json!({"items": [{"id": "a", "secret": 1, "title": "x"}, {"id": "b"}], "total": 7, "limit": 2});
        assert_eq!(
            slim(page, &["id", "title"]),
            json!({"items": [{"id": "a", "title": "x"}, {"id": "b"}], "total": 7})
        );
        assert_eq!(slim(json!("odd"), &["id"]), json!({"items": [], "total": null}));
    }

    #[test]
    fn incidents_are_asked_for_as_they_are_set_up() {
        let setup: IncidentList =
            berth_sdk::http::read_value(json!({"severity": ["critical", "high"], "projectId": "p1"})).unwrap();
        let Step::Ask(asks, _, _) = setup.plan(&super::super::tests::look()).unwrap() else {
            panic!("nothing is asked")
        };
        assert_eq!(
            asks[0].url(),
            "http://planning.internal/api/incidents?sortBy=declaredAt&order=desc&limit=10&status=open%2Cinvestigating\
             &severity=critical%2Chigh&projectId=p1"
        );
    }
}
