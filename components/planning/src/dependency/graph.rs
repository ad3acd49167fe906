//! Who needs what of whom, as a graph.

use std::collections::BTreeMap;

use berth_sdk::prelude::*;
use plan_rules::graph::Graph;

use super::{DependencyKind, DependencyStatus, SlaStatus, TeamDependency};
use crate::project::Project;

/// The most dependencies of one graph.
const EDGES_MAX: i64 = 5_000;

/// Which graph.
#[data]
pub(crate) struct Wish {
    project_id: Option<Id>,
}

/// Teams and what they need of each other.
#[data]
pub(crate) struct TeamGraph {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    /// Teams that wait for themselves, through others.
    cyclic: Vec<Id>,
}

/// A team.
#[data]
pub(crate) struct Node {
    team_id: Id,
    /// How many dependencies it has on others.
    needs: usize,
    /// How many others have on it.
    provides: usize,
    /// The mean health of what it needs; 1 when it needs nothing.
    health: f64,
}

/// A dependency.
#[data]
pub(crate) struct Edge {
    id: Id,
    project_id: Id,
    from_team_id: Id,
    to_team_id: Id,
    dependency_type: DependencyKind,
    status: DependencyStatus,
    blocking: bool,
    sla_status: SlaStatus,
    health: f64,
}

/// `GET /api/dependencies/graph?projectId`.
pub(super) fn read(Query(wish): Query<Wish>) -> Result<Json<TeamGraph>> {
    let mut select = Select::<TeamDependency>::new().limit(EDGES_MAX);
    if let Some(project_id) = &wish.project_id {
        entity::read::<Project>(&Pool, project_id)?;
        select = select.equal("project_id", project_id);
    }
    Ok(Json(draw(&select.all(&Pool)?)))
}

fn draw(dependencies: &[Stored<TeamDependency>]) -> TeamGraph {
    #[derive(Default)]
    struct Sum {
        needs: usize,
        provides: usize,
        health: f64,
    }
    let mut teams: BTreeMap<&Id, Sum> = BTreeMap::new();
    for dependency in dependencies {
        let from = teams.entry(&dependency.from_team_id).or_default();
        from.needs += 1;
        from.health += dependency.health_score;
        teams.entry(&dependency.to_team_id).or_default().provides += 1;
    }
    let open = dependencies.iter().filter(|dependency| dependency.status != DependencyStatus::Resolved);
    let graph = Graph::from_edges(open.map(|edge| (edge.from_team_id.as_str(), edge.to_team_id.as_str())));
    #[expect(clippy::cast_precision_loss, reason = "counts of dependencies are small")]
    let mean = |sum: &Sum| if sum.needs == 0 { 1.0 } else { crate::score::rounded(sum.health / sum.needs as f64) };
    TeamGraph {
        nodes: teams
            .iter()
            .map(|(team_id, sum)| Node {
                team_id: (*team_id).clone(),
                needs: sum.needs,
                provides: sum.provides,
                health: mean(sum),
            })
            .collect(),
        edges: dependencies
            .iter()
            .map(|dependency| Edge {
                id: dependency.id.clone(),
                project_id: dependency.project_id.clone(),
                from_team_id: dependency.from_team_id.clone(),
                to_team_id: dependency.to_team_id.clone(),
                dependency_type: dependency.dependency_type,
                status: dependency.status,
                blocking: dependency.blocking,
                sla_status: dependency.sla_status,
                health: dependency.health_score,
            })
            .collect(),
        cyclic: graph.cyclic().into_iter().map(Id::from).collect(),
    }
}
