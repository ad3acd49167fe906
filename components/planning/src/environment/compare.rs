//! What differs between the configurations of two environments, and what one should have. Pure.

use std::collections::BTreeSet;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

/// One difference.
#[data]
pub(crate) struct Difference {
    /// Such as `envVars.API_LEVEL`.
    pub path: String,
    pub kind: DifferenceKind,
    /// What the first one has.
    pub a: Option<Value>,
    /// What the second one has.
    pub b: Option<Value>,
}

/// How they differ.
#[choice]
pub(crate) enum DifferenceKind {
    OnlyInA,
    OnlyInB,
    Changed,
}

/// The differences between two documents, member by member; lists and references are compared whole.
pub(super) fn differences(a: &Map<String, Value>, b: &Map<String, Value>) -> Vec<Difference> {
    let mut found = Vec::new();
    walk("", a, b, &mut found);
    found
}

fn walk(path: &str, a: &Map<String, Value>, b: &Map<String, Value>, found: &mut Vec<Difference>) {
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for name in names {
        let place = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let some = |side: &Map<String, Value>| side.get(name).filter(|value| !value.is_null()).cloned();
        match (some(a), some(b)) {
            (Some(Value::Object(one)), Some(Value::Object(other))) if !is_whole(&one) && !is_whole(&other) => {
                walk(&place, &one, &other, found);
            }
            (Some(one), Some(other)) if one == other => {}
            (None, None) => {}
            (one, other) => {
                let kind = match (&one, &other) {
                    (Some(_), None) => DifferenceKind::OnlyInA,
                    (None, Some(_)) => DifferenceKind::OnlyInB,
                    _ => DifferenceKind::Changed,
                };
                found.push(Difference { path: place, kind, a: one, b: other });
            }
        }
    }
}

/// A reference is one value.
fn is_whole(members: &Map<String, Value>) -> bool {
    members.contains_key("secretId")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn differences_are_named_by_their_path() {
        let reference = |id: &str| json!({"type": "SECRET_REF", "secretId": id});
        let a = object(json!({"envVars": {"A": 1, "B": 2, "S": reference("s1")}, "services": ["x"], "apiUrl": null}));
        let b = object(
            json!({"envVars": {"B": 3, "C": 4, "S": reference("s2")}, "services": ["x"], "featureFlags": {"f": true}}),
        );
        let found: Vec<(String, DifferenceKind)> =
            differences(&a, &b).into_iter().map(|difference| (difference.path, difference.kind)).collect();
        let wanted = [
            ("envVars.A", DifferenceKind::OnlyInA),
            ("envVars.B", DifferenceKind::Changed),
            ("envVars.C", DifferenceKind::OnlyInB),
            ("envVars.S", DifferenceKind::Changed),
            ("featureFlags", DifferenceKind::OnlyInB),
        ];
        assert_eq!(found, wanted.map(|(path, kind)| (path.to_string(), kind)));
    }

    proptest! {
        #[test]
        fn the_other_way_round_the_same_paths_differ(
            a in prop::collection::btree_map("[a-c]", 0u8..3, 0..4), b in prop::collection::btree_map("[a-c]", 0u8..3, 0..4)
        ) {
            let (a, b) = (object(json!({ "v": a })), object(json!({ "v": b })));
            let paths = |found: Vec<Difference>| found.into_iter().map(|difference| difference.path).collect::<Vec<_>>();
            prop_assert_eq!(paths(differences(&a, &b)), paths(differences(&b, &a)));
            prop_assert!(differences(&a, &a).is_empty());
        }
    }
}
