//! What a design consists of: nodes, edges between them, and components. Pure.

use std::collections::BTreeSet;

use berth_sdk::{
    entity::{Column, Kind},
    prelude::*,
    serde_json::{Map, Value},
};

/// The most nodes and components, each.
const NODES_MAX: usize = 2_000;
/// The most edges.
const EDGES_MAX: usize = 10_000;
/// The largest design, as JSON.
const BYTES_MAX: usize = 2 * 1024 * 1024;

/// A design as a graph. Nodes have an `id`, edges a `source` and a `target`; whatever else they say is kept.
#[data]
#[derive(Default)]
pub(crate) struct ArchitectureData {
    #[field(default)]
    pub nodes: Vec<Map<String, Value>>,
    #[field(default)]
    pub edges: Vec<Map<String, Value>>,
    #[field(default)]
    pub components: Vec<Map<String, Value>>,
}

impl Column for ArchitectureData {
    const KIND: Kind = Kind::Json;
}

impl ArchitectureData {
    /// Notes what is wrong, under the name of the field that holds the design.
    pub(super) fn faults(&self, field: &str, faults: &mut Faults) {
        for (name, list, max) in [
            ("nodes", &self.nodes, NODES_MAX),
            ("edges", &self.edges, EDGES_MAX),
            ("components", &self.components, NODES_MAX),
        ] {
            if list.len() > max {
                faults.add(format!("{field}.{name}"), format!("must have at most {max} entries"));
            }
        }
        if !faults.is_empty() {
            return;
        }
        let mut known = BTreeSet::new();
        for (index, node) in self.nodes.iter().enumerate() {
            match text(node, "id") {
                None => faults.add(format!("{field}.nodes[{index}].id"), "is required"),
                Some(id) if !known.insert(id) => {
                    faults.add(format!("{field}.nodes[{index}].id"), format!("{id} is there twice"));
                }
                Some(_) => {}
            }
        }
        for (index, edge) in self.edges.iter().enumerate() {
            for end in ["source", "target"] {
                match text(edge, end) {
                    None => faults.add(format!("{field}.edges[{index}].{end}"), "is required"),
                    Some(id) if !known.contains(id) => {
                        faults.add(format!("{field}.edges[{index}].{end}"), format!("{id} is no node"));
                    }
                    Some(_) => {}
                }
            }
        }
        if json!(self).to_string().len() > BYTES_MAX {
            faults.add(field, format!("must have at most {BYTES_MAX} bytes"));
        }
    }

    /// The ids of the nodes.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter_map(|node| text(node, "id"))
    }

    /// The edges: source and target.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.edges.iter().filter_map(|edge| Some((text(edge, "source")?, text(edge, "target")?)))
    }
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use berth_sdk::serde_json;

    use super::*;

    #[test]
    fn edges_join_nodes_that_are_there() {
        let design: ArchitectureData = serde_json::from_value(json!({
            "nodes": [{"id": "a"}, {"id": "a"}, {"label": "x"}],
            "edges": [{"source": "a", "target": "b"}, {"source": "a"}],
        }))
        .unwrap();
        let mut faults = Faults::default();
        design.faults("d", &mut faults);
        let fields: Vec<&str> = faults.errors().iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["d.nodes[1].id", "d.nodes[2].id", "d.edges[0].target", "d.edges[1].target"]);
    }
}
