//! Environments of a project: where it runs and with which configuration. Secrets are named and never held.

mod api;
mod compare;
mod config;

use berth_sdk::prelude::*;
use time_rules::TimeRules;

use crate::project::{self, Project};
pub(crate) use config::Config;

/// The environments there are, in the order in which a release goes through them.
#[choice]
#[derive(PartialOrd, Ord)]
pub(crate) enum EnvironmentName {
    Dev,
    Test,
    Staging,
    Production,
}

/// An environment of a project.
#[entity(table = "project_environments", sort = "createdAt")]
pub(crate) struct Environment {
    #[field(immutable, parent = Project)]
    pub project_id: Id,
    pub name: EnvironmentName,
    #[field(default)]
    pub config: Config,
}

impl Rules for Environment {
    fn scope() -> Option<Condition> {
        Some(project::within("project_environments"))
    }

    fn check(&self, faults: &mut Faults) {
        self.config.faults(faults);
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &self.project_id)?;
        require_free(transaction, &self.project_id, self.name)
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &old.project_id)?;
        if self.name == old.name { Ok(()) } else { require_free(transaction, &old.project_id, self.name) }
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &row.project_id)
    }
}

/// 409 when the project has an environment of this name.
fn require_free(database: &dyn Executor, project_id: &Id, name: EnvironmentName) -> Result<()> {
    match of_project(database, project_id, name)? {
        None => Ok(()),
        Some(taken) => {
            let problem = Problem::conflict(format!("The project has an environment {name} already."));
            Err(problem.with_code("ENVIRONMENT_EXISTS").with("environmentId", taken.id.as_str()))
        }
    }
}

/// The environment of this name, where the project has one.
pub(crate) fn of_project(
    database: &dyn Executor,
    project_id: &Id,
    name: EnvironmentName,
) -> Result<Option<Stored<Environment>>> {
    Select::new().equal("project_id", project_id).equal("name", name).first(database)
}

/// The time rules of an environment, where it has any.
pub(crate) fn time_rules_of(
    database: &dyn Executor,
    project_id: &Id,
    name: EnvironmentName,
) -> Result<Option<TimeRules>> {
    let environment = of_project(database, project_id, name)?;
    Ok(environment.and_then(|environment| environment.data.config.time_rules))
}

/// The routes of environments.
pub(crate) fn routes() -> Router {
    Router::new()
        .entity::<Environment>("/api/environments")
        .get("/api/environments/compare", api::compare)
        .summary("Compare the configuration of two environments.")
        .post("/api/environments/{id}/sync", api::sync)
        .summary("Copy configuration from another environment.")
        .get("/api/environments/{id}/variables", api::variables)
        .summary("Read the variables; secrets stay references.")
        .put("/api/environments/{id}/variables", api::change_variables)
        .summary("Change variables.")
        .post("/api/environments/{id}/validate", api::validate)
        .summary("Check the configuration.")
}
