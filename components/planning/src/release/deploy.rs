//! Deploying and rolling back: what is recorded, and what must hold before it is.

use std::collections::BTreeMap;

use berth_sdk::{
    events::Message,
    http_out,
    prelude::*,
    serde_json::{self, Value},
};
use time_rules::TimeRules;

use super::{
    Deployment, DeploymentStatus, Release,
    rules::{self, ReleaseStatus},
};
use crate::{
    assistant,
    environment::{self, EnvironmentName},
    project,
};

/// How many of the latest deployments of a release count.
const DEPLOYMENTS_MAX: i64 = 500;

/// The body of `POST /api/releases/{id}/deploy`.
#[data]
pub(crate) struct Order {
    environment: EnvironmentName,
    /// `completed` when absent; `pending` or `in_progress` for one that is finished by `PUT …/deployments/{id}`.
    #[field(default = DeploymentStatus::Completed)]
    status: DeploymentStatus,
    /// What each service needs, by name; the dependencies of the project's modules when absent.
    service_dependencies: Option<BTreeMap<String, Vec<String>>>,
}

/// `POST /api/releases/{id}/deploy`: 409 when an environment is skipped, when it is not open at this time, or when the
/// services need each other in a circle.
pub(super) fn deploy(Params(id): Params<Id>, Json(order): Json<Order>) -> Result<Stored<Deployment>> {
    if matches!(order.status, DeploymentStatus::Failed | DeploymentStatus::RolledBack) {
        return Err(Problem::field("status", "must be one of pending, in_progress, completed"));
    }
    let release = entity::read::<Release>(&Pool, &id)?;
    // Another service is asked before the transaction, never inside it.
    let from_calendar = calendar_rules(&release.project_id, order.environment);
    database::transaction(|transaction| {
        let mut release = entity::read::<Release>(transaction, &id)?;
        project::require_edit(transaction, &release.project_id)?;
        if release.status == ReleaseStatus::Cancelled {
            return Err(Problem::conflict("The release is cancelled."));
        }
        let known = deployments(transaction, &release.id)?;
        let steps: Vec<_> = known.iter().map(|known| (known.environment, known.status)).collect();
        if let Some(missing) = rules::skipped(order.environment, &steps) {
            let detail = format!("It must run in {missing} before it goes to {}.", order.environment);
            let problem = Problem::conflict(detail).with_code("ENVIRONMENT_SKIPPED");
            return Err(problem.with("missingEnvironment", missing.as_str()));
        }
        require_window(transaction, &release.project_id, order.environment, from_calendar)?;
        let services = ordered(transaction, &release, order.service_dependencies.as_ref())?;
        let now = clock::now();
        let deployment = Deployment {
            project_id: release.project_id.clone(),
            release_id: release.id.clone(),
            environment: order.environment,
            status: order.status,
            services,
            started_at: (order.status != DeploymentStatus::Pending).then_some(now),
            completed_at: (order.status == DeploymentStatus::Completed).then_some(now),
            rolled_back_at: None,
        };
        let deployment = entity::create(transaction, deployment)?;
        release.actual_start = release.actual_start.or(Some(now));
        if release.status == ReleaseStatus::Planned {
            release.status = ReleaseStatus::InProgress;
        }
        settle(transaction, &mut release, &deployment, now)?;
        Ok(deployment)
    })
}

/// What a completed deployment means for the release.
fn settle(
    transaction: &Transaction,
    release: &mut Stored<Release>,
    deployment: &Stored<Deployment>,
    now: Timestamp,
) -> Result<()> {
    let is_completed = deployment.status == DeploymentStatus::Completed;
    if is_completed && deployment.environment == EnvironmentName::Production {
        release.status = ReleaseStatus::Deployed;
        release.actual_end = Some(now);
    }
    entity::save(transaction, release)?;
    if is_completed { announce(transaction, "release.deployed", release, deployment) } else { Ok(()) }
}

/// How a deployment that was begun went.
#[data]
pub(crate) struct Outcome {
    status: DeploymentStatus,
}

/// `PUT /api/releases/{id}/deployments/{deploymentId}`: `in_progress`, `completed` or `failed`, while it is not over.
pub(super) fn finish(
    Params((id, deployment_id)): Params<(Id, Id)>,
    if_match: IfMatch,
    Json(outcome): Json<Outcome>,
) -> Result<Stored<Deployment>> {
    use DeploymentStatus::{Completed, Failed};
    database::transaction(|transaction| {
        let mut release = entity::read::<Release>(transaction, &id)?;
        project::require_edit(transaction, &release.project_id)?;
        let mut deployment = entity::read::<Deployment>(transaction, &deployment_id)?;
        if deployment.release_id != release.id {
            return Err(Problem::missing("deployment"));
        }
        if_match.check(deployment.version)?;
        if !deployment.status.may_become(outcome.status) {
            let detail = format!("A deployment that is {} does not become {}.", deployment.status, outcome.status);
            return Err(Problem::conflict(detail).with_code("ILLEGAL_TRANSITION"));
        }
        let now = clock::now();
        deployment.status = outcome.status;
        deployment.started_at = deployment.started_at.or(Some(now));
        deployment.completed_at = matches!(outcome.status, Completed | Failed).then_some(now);
        entity::save(transaction, &mut deployment)?;
        settle(transaction, &mut release, &deployment, now)?;
        Ok(deployment)
    })
}

/// `POST /api/releases/{id}/rollback`: 409 when nothing is deployed.
pub(super) fn rollback(Params(id): Params<Id>) -> Result<Stored<Deployment>> {
    database::transaction(|transaction| {
        let mut release = entity::read::<Release>(transaction, &id)?;
        project::require_edit(transaction, &release.project_id)?;
        let latest = deployments(transaction, &release.id)?
            .into_iter()
            .rev()
            .find(|deployment| matches!(deployment.status, DeploymentStatus::Completed | DeploymentStatus::InProgress));
        let mut latest = latest
            .ok_or_else(|| Problem::conflict("The release is deployed nowhere.").with_code("NOTHING_TO_ROLL_BACK"))?;
        latest.status = DeploymentStatus::RolledBack;
        latest.rolled_back_at = Some(clock::now());
        entity::save(transaction, &mut latest)?;
        if release.status == ReleaseStatus::Deployed && latest.environment == EnvironmentName::Production {
            release.status = ReleaseStatus::InProgress;
            release.actual_end = None;
            entity::save(transaction, &mut release)?;
        }
        announce(transaction, "release.rolled_back", &release, &latest)?;
        Ok(latest)
    })
}

/// `GET /api/releases/{id}/deployments`.
pub(super) fn list(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Deployment>>>> {
    let release = entity::read::<Release>(&Pool, &id)?;
    Select::new().equal("release_id", &release.id).page(&Pool, &query)
}

/// The deployments of a release in the order they were made.
fn deployments(database: &dyn Executor, release_id: &Id) -> Result<Vec<Stored<Deployment>>> {
    let mut latest: Vec<Stored<Deployment>> =
        Select::new().equal("release_id", release_id).sort("-createdAt").limit(DEPLOYMENTS_MAX).all(database)?;
    latest.reverse();
    Ok(latest)
}

fn announce(
    transaction: &Transaction,
    kind: &str,
    release: &Stored<Release>,
    deployment: &Stored<Deployment>,
) -> Result<()> {
    let data = json!({
        "id": release.id, "releaseId": release.id, "projectId": release.project_id, "name": release.name,
        "version": release.data.version, "status": release.status, "deploymentId": deployment.id,
        "environment": deployment.environment, "services": deployment.services,
    });
    transaction.send(&Message::new(kind, &data)?.with_key(release.id.as_str()))?;
    Ok(())
}

/// The rules that calendar keeps for an environment; none where it does not answer.
fn calendar_rules(project_id: &Id, environment: EnvironmentName) -> Vec<TimeRules> {
    let call = http_out::plugin("calendar")
        .get("/api/calendar/time-rules")
        .query("projectId", project_id)
        .query("environment", environment.as_str());
    let Some(answer) = assistant::optional(&call) else { return Vec::new() };
    let listed = answer.get("items").unwrap_or(&answer);
    let rules: Vec<&Value> = listed.as_array().map_or_else(|| vec![listed], |items| items.iter().collect());
    rules
        .into_iter()
        .filter(|rules| rules.get("environment").and_then(Value::as_str) == Some(environment.as_str()))
        .filter_map(|rules| serde_json::from_value(rules.clone()).ok())
        .collect()
}

/// 409 with `nextWindow` while the environment is not open.
fn require_window(
    transaction: &Transaction,
    project_id: &Id,
    environment: EnvironmentName,
    mut rules: Vec<TimeRules>,
) -> Result<()> {
    rules.extend(environment::time_rules_of(transaction, project_id, environment)?);
    let now = clock::now();
    let next = time_rules::next_window(&rules, now);
    if next == Some(now) {
        return Ok(());
    }
    let detail = match next {
        Some(next) => format!("{environment} is not open for deployments now; it opens at {next}."),
        None => format!("{environment} is not open for deployments, and no window is in sight."),
    };
    let problem = Problem::conflict(detail).with_code("WINDOW_BLOCKED");
    Err(problem.with("nextWindow", json!(next)))
}

/// The services of a release in the order in which they go out.
fn ordered(
    transaction: &Transaction,
    release: &Stored<Release>,
    said: Option<&BTreeMap<String, Vec<String>>>,
) -> Result<Vec<String>> {
    let needs = match said {
        Some(said) => {
            let pairs = said.iter().flat_map(|(one, others)| others.iter().map(|other| (one.clone(), other.clone())));
            pairs.take(10_000).collect()
        }
        None => module_needs(transaction, &release.project_id)?,
    };
    rules::deployment_order(&release.services, &needs).map_err(|circle| {
        let detail = format!("{} need each other in a circle.", circle.join(", "));
        Problem::conflict(detail).with_code("DEPENDENCY_CYCLE").with("services", json!(circle))
    })
}

/// Which module of the project needs which, by their names.
fn module_needs(database: &dyn Executor, project_id: &Id) -> Result<Vec<(String, String)>> {
    #[data]
    struct Needs {
        id: Id,
        name: String,
        dependencies: Vec<Id>,
    }
    let modules: Vec<Needs> = database::query_as(
        database,
        "SELECT id, name, dependencies FROM project_modules WHERE project_id = $1 ORDER BY id LIMIT 5000",
        params![project_id],
    )?;
    let names: BTreeMap<&Id, &String> = modules.iter().map(|module| (&module.id, &module.name)).collect();
    let pair = |module: &Needs, id: &Id| names.get(id).map(|name| (module.name.clone(), (*name).clone()));
    Ok(modules.iter().flat_map(|module| module.dependencies.iter().filter_map(move |id| pair(module, id))).collect())
}
