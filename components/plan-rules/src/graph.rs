//! Directed graphs of dependencies: each node with the nodes it waits for.

use std::collections::{BTreeMap, BTreeSet};

/// A graph: node → the nodes it waits for. Names that are no node are ignored.
///
/// ```
/// use plan_rules::graph::Graph;
/// let graph = Graph::new([("a", vec![]), ("b", vec!["a"]), ("c", vec!["d"]), ("d", vec!["c"])]);
/// assert_eq!(graph.stuck(), ["c", "d"]);
/// assert!(graph.waits_for("b", "a"));
/// assert!(graph.would_cycle("a", "b"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Graph<'a> {
    waits: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Graph<'a> {
    /// A graph of nodes with what they wait for.
    pub fn new(nodes: impl IntoIterator<Item = (&'a str, Vec<&'a str>)>) -> Self {
        Self { waits: nodes.into_iter().collect() }
    }

    /// A graph of edges: the first waits for the second.
    pub fn from_edges(edges: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut waits: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (from, to) in edges {
            waits.entry(from).or_default().push(to);
            waits.entry(to).or_default();
        }
        Self { waits }
    }

    /// The nodes in an order in which each comes after what it waits for; those on or behind a cycle are left out.
    pub fn order(&self) -> Vec<&'a str> {
        let mut open: BTreeMap<&str, usize> = BTreeMap::new();
        let mut waiting: BTreeMap<&str, Vec<&'a str>> = BTreeMap::new();
        for (node, waits) in &self.waits {
            for wait in waits.iter().filter(|wait| self.waits.contains_key(**wait)) {
                *open.entry(node).or_default() += 1;
                waiting.entry(wait).or_default().push(node);
            }
        }
        let mut order = Vec::with_capacity(self.waits.len());
        let mut ready: BTreeSet<&'a str> =
            self.waits.keys().filter(|node| !open.contains_key(**node)).copied().collect();
        while !ready.is_empty() {
            let mut next = BTreeSet::new();
            for other in ready.iter().flat_map(|node| waiting.get(node).into_iter().flatten()) {
                if let Some(count) = open.get_mut(other) {
                    *count -= 1;
                    if *count == 0 {
                        next.insert(*other);
                    }
                }
            }
            order.extend(std::mem::replace(&mut ready, next));
        }
        order
    }

    /// The nodes that can never begin: those on a cycle, and those that wait for one of them.
    pub fn stuck(&self) -> Vec<&'a str> {
        let fine: BTreeSet<&str> = self.order().into_iter().collect();
        self.waits.keys().copied().filter(|node| !fine.contains(node)).collect()
    }

    /// The nodes that wait for themselves, through others or directly.
    pub fn cyclic(&self) -> Vec<&'a str> {
        let reach = self.reach();
        self.waits.keys().copied().filter(|node| reach.waits_for(node, node)).collect()
    }

    /// Whether `node` waits for `other`, through others or directly.
    pub fn waits_for(&self, node: &str, other: &str) -> bool {
        let mut open: Vec<&str> = self.waits.get(node).cloned().unwrap_or_default();
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        while let Some(next) = open.pop() {
            if next == other {
                return true;
            }
            if seen.insert(next) {
                open.extend(self.waits.get(next).into_iter().flatten());
            }
        }
        false
    }

    /// Who waits for whom, worked out once: for many questions about one graph.
    ///
    /// ```
    /// use plan_rules::graph::Graph;
    /// let reach = Graph::new([("a", vec![]), ("b", vec!["a"]), ("c", vec!["b"])]).reach();
    /// assert!(reach.waits_for("c", "a") && !reach.waits_for("a", "c"));
    /// ```
    pub fn reach(&self) -> Reach<'a> {
        let places: BTreeMap<&str, usize> = self.waits.keys().enumerate().map(|(place, node)| (*node, place)).collect();
        let edges: Vec<Vec<usize>> = self
            .waits
            .values()
            .map(|waits| waits.iter().filter_map(|wait| places.get(wait).copied()).collect())
            .collect();
        let rows = edges
            .iter()
            .map(|first| {
                let mut row = vec![false; edges.len()];
                let mut open = first.clone();
                while let Some(next) = open.pop() {
                    if let Some(seen) = row.get_mut(next).filter(|seen| !**seen) {
                        *seen = true;
                        open.extend(edges.get(next).into_iter().flatten());
                    }
                }
                row
            })
            .collect();
        Reach { places, rows }
    }

    /// Whether an edge from `node` to `other` would close a cycle.
    pub fn would_cycle(&self, node: &str, other: &str) -> bool {
        node == other || self.waits_for(other, node)
    }
}

/// Who waits for whom; see [`Graph::reach`].
#[derive(Clone, Debug)]
pub struct Reach<'a> {
    places: BTreeMap<&'a str, usize>,
    rows: Vec<Vec<bool>>,
}

impl Reach<'_> {
    /// Whether `node` waits for `other`, through others or directly.
    pub fn waits_for(&self, node: &str, other: &str) -> bool {
        let place = |name: &str| self.places.get(name).copied();
        let (Some(node), Some(other)) = (place(node), place(other)) else { return false };
        self.rows.get(node).and_then(|row| row.get(other)).copied().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Graph;

    proptest! {
        #[test]
        fn an_order_and_what_is_stuck_are_all_nodes(edges in prop::collection::vec((0u8..12, 0u8..12), 0..40)) {
            let names: Vec<(String, String)> = edges.iter().map(|(from, to)| (from.to_string(), to.to_string())).collect();
            let graph = Graph::from_edges(names.iter().map(|(from, to)| (from.as_str(), to.as_str())));
            let (order, stuck) = (graph.order(), graph.stuck());
            prop_assert_eq!(order.len() + stuck.len(), graph.waits.len());
            for (from, to) in &names {
                let place = |name: &str| order.iter().position(|node| *node == name);
                if let (Some(from), Some(to)) = (place(from), place(to)) {
                    prop_assert!(from > to);
                }
            }
            prop_assert_eq!(stuck.is_empty(), graph.cyclic().is_empty());
        }

        #[test]
        fn what_is_worked_out_once_is_what_is_asked_each_time(edges in prop::collection::vec((0u8..8, 0u8..8), 0..24)) {
            let names: Vec<(String, String)> = edges.iter().map(|(from, to)| (from.to_string(), to.to_string())).collect();
            let graph = Graph::from_edges(names.iter().map(|(from, to)| (from.as_str(), to.as_str())));
            let reach = graph.reach();
            for node in graph.waits.keys() {
                for other in graph.waits.keys() {
                    prop_assert_eq!(reach.waits_for(node, other), graph.waits_for(node, other));
                }
            }
        }

        #[test]
        fn edges_that_close_no_cycle_leave_an_order(edges in prop::collection::vec((0u8..10, 0u8..10), 0..40)) {
            let names: Vec<(String, String)> = edges.iter().map(|(from, to)| (from.to_string(), to.to_string())).collect();
            let mut kept: Vec<(&str, &str)> = Vec::new();
            for (from, to) in &names {
                if !Graph::from_edges(kept.iter().copied()).would_cycle(from, to) {
                    kept.push((from, to));
                }
            }
            prop_assert!(Graph::from_edges(kept).stuck().is_empty());
        }
    }
}
