//! What a design's graph says of it: cycles, hubs, layers, parts that hang on nothing. Pure but for the handler.

use std::collections::{BTreeMap, BTreeSet};

use berth_sdk::prelude::*;
use plan_rules::graph::Graph;

use super::{Design, graph::ArchitectureData};

/// From so many neighbours on a node is a hub, if it has more than half of all nodes as neighbours or this many.
const HUB_NEIGHBOURS: usize = 8;
/// So many nodes are looked through for cycles; beyond it the search would take too long.
const CYCLE_NODES_MAX: usize = 1_000;

/// The body of `POST /api/architecture/analyze`: a stored design, or one in the request.
#[data]
pub(crate) struct Wish {
    design_id: Option<Id>,
    architecture_data: Option<ArchitectureData>,
}

/// What the graph says.
#[data]
pub(crate) struct Analysis {
    nodes: usize,
    edges: usize,
    /// How many layers there are, from what depends on nothing upwards.
    depth: usize,
    /// Edges of all that are possible, from 0 to 1.
    density: f64,
    /// From 0 to 1: what is free of findings.
    score: f64,
    findings: Vec<Finding>,
    /// Each node's coupling.
    coupling: Vec<Coupling>,
}

/// One finding.
#[data]
pub(crate) struct Finding {
    /// `CYCLE`, `HUB`, `ISOLATED`, `SELF_REFERENCE` or `REPEATED_EDGE`.
    code: String,
    message: String,
    nodes: Vec<String>,
}

/// How a node is coupled.
#[data]
pub(crate) struct Coupling {
    id: String,
    incoming: usize,
    outgoing: usize,
    /// Outgoing of all: 0 is stable, 1 depends on others only.
    instability: f64,
}

/// `POST /api/architecture/analyze`.
pub(crate) fn analyze(Json(wish): Json<Wish>) -> Result<Json<Analysis>> {
    let data = match (wish.design_id, wish.architecture_data) {
        (Some(id), None) => entity::read::<Design>(&Pool, &id)?.data.architecture_data,
        (None, Some(data)) => data,
        _ => return Err(Problem::field("designId", "either it or architectureData is required")),
    };
    let mut faults = Faults::default();
    data.faults("architectureData", &mut faults);
    faults.finish()?;
    Ok(Json(judge(&data)))
}

fn judge(data: &ArchitectureData) -> Analysis {
    let ids: BTreeSet<&str> = data.ids().collect();
    let edges: BTreeSet<(&str, &str)> = data.pairs().collect();
    let mut coupling: BTreeMap<&str, (usize, usize)> = ids.iter().map(|id| (*id, (0, 0))).collect();
    for (source, target) in edges.iter().filter(|(source, target)| source != target) {
        coupling.entry(source).or_default().1 += 1;
        coupling.entry(target).or_default().0 += 1;
    }
    let graph = Graph::new(
        ids.iter()
            .map(|id| (*id, edges.iter().filter(|(source, _)| source == id).map(|(_, target)| *target).collect())),
    );
    let mut findings = Vec::new();
    let mut find = |code: &str, message: String, nodes: Vec<&str>| {
        let nodes = nodes.into_iter().map(ToString::to_string).collect();
        findings.push(Finding { code: code.into(), message, nodes });
    };
    for (id, _) in edges.iter().filter(|(source, target)| source == target) {
        find("SELF_REFERENCE", format!("{id} refers to itself."), vec![id]);
    }
    for cycle in cycles(&graph, &ids) {
        find("CYCLE", format!("{} depend on each other in a circle.", cycle.join(", ")), cycle);
    }
    for (id, (incoming, outgoing)) in &coupling {
        let neighbours = incoming + outgoing;
        if neighbours >= HUB_NEIGHBOURS || (ids.len() > 4 && neighbours > ids.len() / 2 + 1) {
            find("HUB", format!("{id} is coupled to {neighbours} others."), vec![id]);
        } else if neighbours == 0 && ids.len() > 1 {
            find("ISOLATED", format!("{id} hangs on nothing."), vec![id]);
        }
    }
    if data.edges.len() > edges.len() {
        find("REPEATED_EDGE", "Some edges are there more than once.".into(), vec![]);
    }
    let touched: BTreeSet<&str> =
        findings.iter().flat_map(|finding| finding.nodes.iter().map(String::as_str)).collect();
    let possible = ids.len() * ids.len().saturating_sub(1);
    Analysis {
        nodes: ids.len(),
        edges: edges.len(),
        depth: depth(&graph, &edges),
        density: share(edges.len().min(possible), possible),
        score: crate::score::rounded(1.0 - share(touched.len(), ids.len())),
        coupling: coupling
            .into_iter()
            .map(|(id, (incoming, outgoing))| Coupling {
                id: id.into(),
                incoming,
                outgoing,
                instability: share(outgoing, incoming + outgoing),
            })
            .collect(),
        findings,
    }
}

/// Groups of nodes that reach each other.
fn cycles<'a>(graph: &Graph<'a>, ids: &BTreeSet<&'a str>) -> Vec<Vec<&'a str>> {
    let stuck = graph.stuck();
    if stuck.is_empty() || ids.len() > CYCLE_NODES_MAX {
        return Vec::new();
    }
    let reach = graph.reach();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut cycles = Vec::new();
    for node in &stuck {
        if seen.contains(node) || !reach.waits_for(node, node) {
            continue;
        }
        let together: Vec<&str> = stuck
            .iter()
            .filter(|other| reach.waits_for(node, other) && reach.waits_for(other, node))
            .copied()
            .collect();
        seen.extend(&together);
        if together.len() > 1 {
            cycles.push(together);
        }
    }
    cycles
}

/// How many layers the part without cycles has.
fn depth(graph: &Graph<'_>, edges: &BTreeSet<(&str, &str)>) -> usize {
    let mut layers: BTreeMap<&str, usize> = BTreeMap::new();
    for node in graph.order() {
        let from = (node, "");
        let below = edges.range(from..).take_while(|(source, _)| *source == node).map(|(_, target)| layers.get(target));
        let layer = below.flatten().max().copied().unwrap_or(0) + 1;
        layers.insert(node, layer);
    }
    layers.values().max().copied().unwrap_or(0)
}

fn share(part: usize, whole: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of nodes are small")]
    let share = if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    crate::score::rounded(share)
}

#[cfg(test)]
mod tests {
    use berth_sdk::{json, serde_json};
    use proptest::prelude::*;

    use super::*;

    fn design(nodes: &[&str], edges: &[(&str, &str)]) -> ArchitectureData {
        let nodes: Vec<_> = nodes.iter().map(|id| json!({"id": id})).collect();
        let edges: Vec<_> = edges.iter().map(|(source, target)| json!({"source": source, "target": target})).collect();
        serde_json::from_value(json!({"nodes": nodes, "edges": edges})).unwrap()
    }

    #[test]
    fn circles_and_what_hangs_on_nothing_are_found() {
        let analysis =
            judge(&design(&["a", "b", "c", "d", "e"], &[("a", "b"), ("b", "a"), ("c", "a"), ("d", "d"), ("c", "a")]));
        let codes: Vec<(&str, usize)> =
            analysis.findings.iter().map(|finding| (finding.code.as_str(), finding.nodes.len())).collect();
        assert_eq!(
            codes,
            [("SELF_REFERENCE", 1), ("CYCLE", 2), ("ISOLATED", 1), ("ISOLATED", 1), ("REPEATED_EDGE", 0)]
        );
        assert_eq!((analysis.nodes, analysis.edges), (5, 4));
    }

    #[test]
    fn layers_are_counted_from_the_ground() {
        let analysis = judge(&design(&["web", "api", "db"], &[("web", "api"), ("api", "db"), ("web", "db")]));
        assert_eq!((analysis.depth, analysis.score, analysis.findings.len()), (3, 1.0, 0));
        let instabilities: Vec<f64> = analysis.coupling.iter().map(|node| node.instability).collect();
        // api has one on either side, db only what depends on it, web only what it depends on.
        assert_eq!(instabilities, [0.5, 0.0, 1.0]);
    }

    proptest! {
        #[test]
        fn every_share_stays_in_its_range(edges in prop::collection::vec((0usize..6, 0usize..6), 0..30)) {
            let names = ["a", "b", "c", "d", "e", "f"];
            let edges: Vec<(&str, &str)> = edges.into_iter().map(|(from, to)| (names[from], names[to])).collect();
            let analysis = judge(&design(&names, &edges));
            for share in [analysis.density, analysis.score].into_iter().chain(analysis.coupling.iter().map(|node| node.instability)) {
                prop_assert!((0.0..=1.0).contains(&share));
            }
            prop_assert!(analysis.depth <= names.len());
            let ends: usize = analysis.coupling.iter().map(|node| node.incoming).sum();
            prop_assert_eq!(ends, analysis.coupling.iter().map(|node| node.outgoing).sum::<usize>());
        }
    }
}
