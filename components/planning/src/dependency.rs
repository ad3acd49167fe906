//! Dependencies: what teams owe each other, and the packages a project is built from.

mod graph;
mod package;
mod scan;

use berth_sdk::{prelude::*, serde_json::Value};

use crate::project::{self, Project};

/// What is owed.
#[choice]
pub(crate) enum DependencyKind {
    Api,
    Data,
    Service,
    Infrastructure,
}

/// Where it stands.
#[choice]
pub(crate) enum DependencyStatus {
    Active,
    Blocked,
    Resolved,
}

/// Whether what was agreed is kept.
#[choice]
pub(crate) enum SlaStatus {
    OnTrack,
    AtRisk,
    Breached,
}

/// What one team needs of another.
#[entity(table = "project_dependencies", name = "dependency")]
pub(crate) struct TeamDependency {
    #[field(immutable, parent = Project)]
    pub project_id: Id,
    /// Who needs it.
    pub from_team_id: Id,
    /// Who provides it.
    pub to_team_id: Id,
    pub description: Option<String>,
    #[field(default = DependencyKind::Api)]
    pub dependency_type: DependencyKind,
    pub contract: Option<Value>,
    #[field(default = DependencyStatus::Active)]
    pub status: DependencyStatus,
    #[field(default)]
    pub blocking: bool,
    pub sla: Option<Value>,
    #[field(default = SlaStatus::OnTrack)]
    pub sla_status: SlaStatus,
    /// From 0 to 1.
    #[field(readonly, default)]
    pub health_score: f64,
}

impl Rules for TeamDependency {
    fn scope() -> Option<Condition> {
        Some(project::within("project_dependencies"))
    }

    fn check(&self, faults: &mut Faults) {
        if self.from_team_id == self.to_team_id {
            faults.add("toTeamId", "must be another team");
        }
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        self.health_score = health(self);
        project::require_edit(transaction, &self.project_id)
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        self.health_score = health(self);
        project::require_edit(transaction, &old.project_id)
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &row.project_id)
    }
}

/// 0.3 status + 0.3 blocking + 0.2 SLA + 0.2 contract; each part from 0 (bad) to 1.
fn health(dependency: &TeamDependency) -> f64 {
    let status = if dependency.status == DependencyStatus::Blocked { 0.0 } else { 1.0 };
    let blocking = if dependency.blocking && dependency.status != DependencyStatus::Resolved { 0.0 } else { 1.0 };
    let sla = match dependency.sla_status {
        SlaStatus::OnTrack => 1.0,
        SlaStatus::AtRisk => 0.5,
        SlaStatus::Breached => 0.0,
    };
    let contract = if dependency.contract.is_some() { 1.0 } else { 0.0 };
    crate::score::rounded(0.3 * status + 0.3 * blocking + 0.2 * sla + 0.2 * contract)
}

/// The routes of dependencies.
pub(crate) fn routes() -> Router {
    Router::new()
        .entity::<TeamDependency>("/api/dependencies")
        .post("/api/dependencies/scan", scan::scan)
        .summary("Scan a package manifest.")
        .get("/api/dependencies/graph", graph::read)
        .summary("Read the graph of what teams need of each other.")
        .get("/api/dependencies/packages", package::list)
        .summary("List the packages that scans have found.")
        .get("/api/dependencies/vulnerabilities", package::vulnerabilities)
        .summary("List known vulnerabilities of packages.")
        .put("/api/dependencies/{id}/update", package::update)
        .summary("Move a package to a newer version.")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dependency(status: DependencyStatus, blocking: bool, sla_status: SlaStatus, contract: bool) -> TeamDependency {
        TeamDependency {
            project_id: "p".into(),
            from_team_id: "a".into(),
            to_team_id: "b".into(),
            description: None,
            dependency_type: DependencyKind::Api,
            contract: contract.then(|| json!({})),
            status,
            blocking,
            sla: None,
            sla_status,
            health_score: 0.0,
        }
    }

    #[test]
    fn the_best_is_one_and_the_worst_is_nothing() {
        assert_eq!(health(&dependency(DependencyStatus::Active, false, SlaStatus::OnTrack, true)), 1.0);
        assert_eq!(health(&dependency(DependencyStatus::Blocked, true, SlaStatus::Breached, false)), 0.0);
        assert_eq!(health(&dependency(DependencyStatus::Active, true, SlaStatus::AtRisk, false)), 0.4);
    }

    proptest! {
        #[test]
        fn a_contract_never_makes_it_worse(status in 0usize..3, blocking: bool, sla in 0usize..3) {
            let score = |contract| health(&dependency(DependencyStatus::ALL[status], blocking, SlaStatus::ALL[sla], contract));
            prop_assert!(score(true) > score(false));
            prop_assert!((0.0..=1.0).contains(&score(true)));
        }
    }
}
