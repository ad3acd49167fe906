//! Releases: what goes out together, through which environments, and what changed. Berth keeps the record of deployments;
//! it does not move programs itself.

mod changelog;
mod deploy;
mod rules;

use berth_sdk::{prelude::*, serde_json::Value};

use crate::{
    environment::EnvironmentName,
    project::{self, Project},
};
use rules::ReleaseStatus;

/// A release of a project.
#[entity(table = "project_releases", created = "release.created")]
pub(crate) struct Release {
    #[field(immutable, parent = Project)]
    pub project_id: Id,
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    /// Semantic, and once in a project.
    #[field(min = 1, max = 100, plain, filter)]
    pub version: String,
    pub description: Option<String>,
    #[field(default = ReleaseStatus::Planned)]
    pub status: ReleaseStatus,
    #[field(default, max = 200, plain)]
    pub services: Vec<String>,
    pub planned_start: Option<Timestamp>,
    pub planned_end: Option<Timestamp>,
    #[field(readonly)]
    pub actual_start: Option<Timestamp>,
    #[field(readonly)]
    pub actual_end: Option<Timestamp>,
    #[field(min = 0, max = 1)]
    pub risk_score: Option<f64>,
    pub release_notes: Option<String>,
}

impl Rules for Release {
    fn scope() -> Option<Condition> {
        Some(project::within("project_releases"))
    }

    fn check(&self, faults: &mut Faults) {
        if let Err(error) = semver::Version::parse(&self.version) {
            faults.add("version", format!("must be a semantic version such as 1.4.0: {error}"));
        }
        if let (Some(start), Some(end)) = (self.planned_start, self.planned_end)
            && end < start
        {
            faults.add("plannedEnd", "must not be before plannedStart");
        }
        for (index, service) in self.services.iter().enumerate() {
            if service.is_empty() || self.services.iter().take(index).any(|other| other == service) {
                faults.add(format!("services[{index}]"), "must be a name that is there once");
            }
        }
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &self.project_id)?;
        if self.status != ReleaseStatus::Planned {
            return Err(Problem::unprocessable("A new release begins as planned."));
        }
        self.require_free(transaction, None)
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &old.project_id)?;
        if self.status != old.status && !old.status.may_be_set(self.status) {
            let detail = format!("A release that is {} does not become {}.", old.status, self.status);
            return Err(Problem::conflict(detail).with_code("ILLEGAL_TRANSITION"));
        }
        if self.version == old.data.version { Ok(()) } else { self.require_free(transaction, Some(&old.id)) }
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &row.project_id)?;
        transaction.execute("DELETE FROM project_deployments WHERE release_id = $1", params![&row.id])?;
        Ok(())
    }

    fn event_data(row: &Stored<Self>) -> Value {
        json!({
            "id": row.id, "releaseId": row.id, "projectId": row.project_id, "name": row.name, "version": row.data.version,
            "status": row.status, "services": row.services, "plannedStart": row.planned_start,
            "plannedEnd": row.planned_end, "createdBy": row.created_by,
        })
    }
}

impl Release {
    /// 409 when the project has a release of this version.
    fn require_free(&self, transaction: &Transaction, own: Option<&Id>) -> Result<()> {
        let taken = Select::<Self>::new()
            .equal("project_id", &self.project_id)
            .equal("version", &self.version)
            .first(transaction)?;
        match taken {
            Some(taken) if Some(&taken.id) != own => {
                let problem = Problem::conflict(format!("The project has a release {} already.", self.version));
                Err(problem.with_code("VERSION_TAKEN").with("releaseId", taken.id.as_str()))
            }
            _ => Ok(()),
        }
    }
}

/// How a deployment went.
#[choice]
pub(crate) enum DeploymentStatus {
    Pending,
    InProgress,
    Completed,
    Failed,
    RolledBack,
}

/// A release in an environment.
#[entity(table = "project_deployments")]
pub(crate) struct Deployment {
    #[field(readonly)]
    pub project_id: Id,
    #[field(readonly, parent = Release)]
    pub release_id: Id,
    pub environment: EnvironmentName,
    pub status: DeploymentStatus,
    /// In the order in which they go out.
    pub services: Vec<String>,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub rolled_back_at: Option<Timestamp>,
}

impl Rules for Deployment {
    fn scope() -> Option<Condition> {
        Some(project::within("project_deployments"))
    }
}

/// The routes of releases.
pub(crate) fn routes() -> Router {
    Router::new()
        .entity::<Release>("/api/releases")
        .post("/api/releases/{id}/deploy", deploy::deploy)
        .summary("Deploy a release to its next environment.")
        .post("/api/releases/{id}/rollback", deploy::rollback)
        .summary("Roll back the latest deployment.")
        .get("/api/releases/{id}/changelog", changelog::read)
        .summary("Read what a release changes.")
        .get("/api/releases/{id}/deployments", deploy::list)
        .summary("List the deployments of a release.")
        .put("/api/releases/{id}/deployments/{deploymentId}", deploy::finish)
        .summary("Say how a deployment went.")
}
