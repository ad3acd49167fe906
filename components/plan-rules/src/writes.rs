//! Which paths of the workspace a step writes.

use std::collections::BTreeSet;

use berth_sdk::serde_json::Value;

use crate::{Step, StepType};

/// The paths that a step writes: its own, and the artifacts it declares.
pub fn of(step: &Step) -> BTreeSet<String> {
    let mut paths: BTreeSet<String> = step.expected_artifacts.iter().cloned().collect();
    if matches!(step.r#type, StepType::FileCreate | StepType::FileEdit | StepType::FileDelete)
        && let Some(path) = step.params.get("path").and_then(Value::as_str)
    {
        paths.insert(path.to_string());
    }
    paths
}

/// The first path that both sets touch: the same file, or a file and a folder above it.
///
/// ```
/// use plan_rules::writes::collide;
/// let set = |path: &str| std::collections::BTreeSet::from([path.to_string()]);
/// assert!(collide(&set("src/a.rs"), &set("src")).is_some());
/// assert!(collide(&set("src/a.rs"), &set("src/ab.rs")).is_none());
/// ```
pub fn collide<'a>(left: &'a BTreeSet<String>, right: &BTreeSet<String>) -> Option<&'a str> {
    left.iter().find(|path| right.iter().any(|other| touches(path, other) || touches(other, path))).map(String::as_str)
}

/// Whether a path is the other one or lies below it.
pub(crate) fn touches(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
