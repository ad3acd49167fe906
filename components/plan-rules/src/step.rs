//! Steps: as a request writes them and as a plan holds them.

use std::collections::BTreeMap;

use berth_sdk::{
    prelude::*,
    schemars::JsonSchema,
    serde::{Deserialize, Serialize},
    serde_json::Value,
    validate::{Path, Rule, Tidy},
};

use crate::{STEPS_MAX, params};

/// What a step does.
#[choice]
pub enum StepType {
    /// Makes a file.
    FileCreate,
    /// Changes a file.
    FileEdit,
    /// Removes a file.
    FileDelete,
    /// Runs a command on a remote worker.
    Command,
    /// Checks assertions.
    Validation,
    /// Checks assertions.
    Test,
    /// Calls an address.
    Http,
    /// Calls a tool.
    McpTool,
    /// Runs an agent.
    Agent,
    /// Waits for a person.
    Human,
}

/// How a step is undone.
#[choice]
pub enum RollbackType {
    /// From the record of what it changed.
    Reversible,
    /// By its rollback step.
    Compensatable,
    /// Not at all.
    Irreversible,
}

/// What happens when a step fails.
#[choice]
pub enum OnFailure {
    /// The execution fails.
    Block,
    /// It is tried again, then the execution fails.
    Retry,
    /// The execution pauses and asks.
    Ask,
}

/// The step that undoes another one.
#[data]
pub struct Rollback {
    /// What it does.
    pub r#type: StepType,
    /// How.
    pub params: Value,
}

/// A step of a plan.
#[data]
pub struct Step {
    /// Its id.
    pub id: Id,
    /// Its place, from 1.
    pub order: i64,
    /// Its name.
    #[field(min = 1, max = 200, plain)]
    pub title: String,
    /// More about it.
    #[field(default)]
    pub description: String,
    /// What it does.
    pub r#type: StepType,
    /// How; by type.
    pub params: Value,
    /// The steps it waits for.
    #[field(default)]
    pub dependencies: Vec<Id>,
    /// Assertions that must hold before.
    #[field(default)]
    pub preconditions: Vec<Value>,
    /// Assertions that must hold after.
    #[field(default)]
    pub postconditions: Vec<Value>,
    /// The paths it writes.
    #[field(default)]
    pub expected_artifacts: Vec<String>,
    /// What undoes it, when it is compensatable.
    pub rollback: Option<Rollback>,
    /// How it is undone.
    #[field(default = RollbackType::Reversible)]
    pub rollback_type: RollbackType,
    /// Somebody has accepted that it cannot be undone.
    #[field(default)]
    pub irreversible_accepted: bool,
    /// What happens when it fails.
    #[field(default = OnFailure::Block)]
    pub on_failure: OnFailure,
    /// How often it is tried again.
    #[field(default = 3)]
    pub max_retries: i64,
    /// How long it may take.
    #[field(default = 300_000)]
    pub timeout_ms: i64,
}

/// A step as a request writes it.
#[data]
pub struct NewStep {
    /// The id of a step that is there already, or a name for it within this request.
    pub id: Option<Id>,
    /// Its place, from 1; its place in the list when absent.
    #[field(min = 1, max = 10_000)]
    pub order: Option<i64>,
    /// Its name.
    #[field(min = 1, max = 200, plain)]
    pub title: String,
    /// More about it.
    #[field(default, max = 20_000)]
    pub description: String,
    /// What it does.
    pub r#type: StepType,
    /// How; by type.
    pub params: Value,
    /// The steps it waits for, by order or id; the one before it when absent.
    #[field(max = 500)]
    pub dependencies: Option<Vec<Reference>>,
    /// Assertions that must hold before.
    #[field(default)]
    pub preconditions: Vec<Value>,
    /// Assertions that must hold after.
    #[field(default)]
    pub postconditions: Vec<Value>,
    /// The paths it writes.
    #[field(default, max = 500)]
    pub expected_artifacts: Vec<String>,
    /// What undoes it.
    pub rollback: Option<Rollback>,
    /// How it is undone. When absent: compensatable with a rollback, otherwise by its type.
    pub rollback_type: Option<RollbackType>,
    /// That it cannot be undone is accepted: needed when `rollbackType` says `irreversible`.
    #[field(default)]
    pub irreversible_accepted: bool,
    /// What happens when it fails.
    #[field(default = OnFailure::Block)]
    pub on_failure: OnFailure,
    /// How often it is tried again.
    #[field(default = 3, min = 0, max = 20)]
    pub max_retries: i64,
    /// How long it may take.
    #[field(default = 300_000, min = 100, max = 86_400_000)]
    pub timeout_ms: i64,
}

/// A step named by its order or its id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(crate = "berth_sdk::serde", untagged)]
#[schemars(crate = "berth_sdk::schemars")]
pub enum Reference {
    /// By its place.
    Order(i64),
    /// By its id.
    Id(Id),
}

impl Tidy for Reference {
    fn tidy(&mut self, rule: &Rule, path: &Path<'_>, faults: &mut Faults) {
        if let Self::Id(id) = self {
            id.tidy(rule, path, faults);
        }
    }
}

/// Makes steps of a request's list, in their order. An id for which `keep` holds stays; every other step gets a new
/// one. 400 with every fault: a wrong parameter, two steps of one order, a dependency on an order that is not there.
///
/// ```
/// use berth_sdk::{json, serde_json};
/// let new = serde_json::from_value(json!([
///     {"title": "Write", "type": "file_create", "params": {"path": "a", "content": "x"}},
///     {"title": "Check", "type": "validation", "params": {"assertions": [{"kind": "exists", "path": "a"}]}},
/// ])).unwrap();
/// let steps = plan_rules::resolve(new, |_| false).unwrap();
/// assert_eq!(steps[1].dependencies, [steps[0].id.clone()]);
/// ```
pub fn resolve(new: Vec<NewStep>, keep: impl Fn(&Id) -> bool) -> Result<Vec<Step>> {
    let root = Path::default();
    let list = root.member("steps");
    let mut faults = Faults::default();
    if new.len() > STEPS_MAX {
        return Err(Problem::field("steps", format!("must have at most {STEPS_MAX} entries")));
    }
    let mut placed: Vec<(usize, i64, NewStep)> = new
        .into_iter()
        .enumerate()
        .map(|(index, step)| (index, step.order.unwrap_or(i64::try_from(index).unwrap_or(i64::MAX) + 1), step))
        .collect();
    placed.sort_by_key(|(_, order, _)| *order);

    let mut by_order: BTreeMap<i64, Id> = BTreeMap::new();
    let mut by_label: BTreeMap<String, Id> = BTreeMap::new();
    let mut ids = Vec::with_capacity(placed.len());
    for (index, order, step) in &placed {
        let id = step.id.clone().filter(|id| keep(id)).unwrap_or_else(Id::new);
        if by_order.insert(*order, id.clone()).is_some() {
            faults.add(list.index(*index).member("order").to_string(), "is taken by another step");
        }
        if let Some(label) = &step.id
            && by_label.insert(label.to_string(), id.clone()).is_some()
        {
            faults.add(list.index(*index).member("id").to_string(), "is taken by another step");
        }
        ids.push(id);
    }
    let mut steps = Vec::with_capacity(placed.len());
    let mut before: Option<Id> = None;
    for ((index, order, step), id) in placed.into_iter().zip(ids) {
        let path = list.index(index);
        let dependencies = match &step.dependencies {
            None => before.take().into_iter().collect(),
            Some(named) => named_steps(named, &by_order, &by_label, &path.member("dependencies"), &mut faults),
        };
        before = Some(id.clone());
        steps.push(step.into_step(id, order, dependencies, &path, &mut faults));
    }
    faults.finish()?;
    Ok(steps)
}

fn named_steps(
    named: &[Reference],
    by_order: &BTreeMap<i64, Id>,
    by_label: &BTreeMap<String, Id>,
    path: &Path<'_>,
    faults: &mut Faults,
) -> Vec<Id> {
    let mut ids: Vec<Id> = Vec::with_capacity(named.len());
    for (index, reference) in named.iter().enumerate() {
        let id = match reference {
            Reference::Order(order) => by_order.get(order).cloned(),
            // Whether a step of this id exists is for the plan's validation to say.
            Reference::Id(id) => Some(by_label.get(id.as_str()).cloned().unwrap_or_else(|| id.clone())),
        };
        match id {
            Some(id) if !ids.contains(&id) => ids.push(id),
            Some(_) => {}
            None => faults.add(path.index(index).to_string(), "names no step"),
        }
    }
    ids
}

impl NewStep {
    fn into_step(mut self, id: Id, order: i64, dependencies: Vec<Id>, path: &Path<'_>, faults: &mut Faults) -> Step {
        let rollback_type = self.rollback_type.unwrap_or_else(|| self.natural_rollback());
        if rollback_type == RollbackType::Compensatable && self.rollback.is_none() {
            faults.add(path.member("rollback").to_string(), "is required for a compensatable step");
        }
        let mut step = Step {
            id,
            order,
            title: std::mem::take(&mut self.title),
            description: std::mem::take(&mut self.description),
            r#type: self.r#type,
            params: self.params.take(),
            dependencies,
            preconditions: self.preconditions,
            postconditions: self.postconditions,
            expected_artifacts: self.expected_artifacts,
            rollback: self.rollback,
            rollback_type,
            // Only what its author calls irreversible has to be accepted as well; what says nothing is a warning.
            irreversible_accepted: self.irreversible_accepted || self.rollback_type.is_none(),
            on_failure: self.on_failure,
            max_retries: self.max_retries,
            timeout_ms: self.timeout_ms,
        };
        step.check(path, faults);
        step
    }

    /// What a step that says nothing is: what acts on the workspace or only looks can be undone, the rest cannot.
    fn natural_rollback(&self) -> RollbackType {
        let only_reads = self.r#type == StepType::Http
            && matches!(self.params.get("method").and_then(Value::as_str), Some("GET" | "HEAD" | "OPTIONS"));
        match self.r#type {
            _ if self.rollback.is_some() => RollbackType::Compensatable,
            _ if only_reads => RollbackType::Reversible,
            StepType::FileCreate
            | StepType::FileEdit
            | StepType::FileDelete
            | StepType::Validation
            | StepType::Test
            | StepType::Human => RollbackType::Reversible,
            StepType::Command | StepType::Http | StepType::McpTool | StepType::Agent => RollbackType::Irreversible,
        }
    }
}

impl Step {
    /// Checks parameters, conditions, artifacts and rollback, and normalises their paths.
    pub fn check(&mut self, path: &Path<'_>, faults: &mut Faults) {
        params::check(self.r#type, &mut self.params, &path.member("params"), faults);
        params::conditions(&mut self.preconditions, &path.member("preconditions"), faults);
        params::conditions(&mut self.postconditions, &path.member("postconditions"), faults);
        let artifacts = path.member("expectedArtifacts");
        for (index, artifact) in self.expected_artifacts.iter_mut().enumerate() {
            match params::normalise_path(artifact) {
                Ok(normal) => *artifact = normal,
                Err(message) => faults.add(artifacts.index(index).to_string(), message),
            }
        }
        if let Some(rollback) = &mut self.rollback {
            params::check(rollback.r#type, &mut rollback.params, &path.member("rollback").member("params"), faults);
        }
    }
}

#[cfg(test)]
mod tests {
    use berth_sdk::{json, serde_json, serde_json::Value};

    use super::{NewStep, RollbackType, resolve};

    fn steps(value: Value) -> Vec<NewStep> {
        serde_json::from_value(value).unwrap()
    }

    fn file(path: &str) -> Value {
        json!({"title": path, "type": "file_create", "params": {"path": path, "content": ""}})
    }

    fn with(mut step: Value, name: &str, value: Value) -> Value {
        step[name] = value;
        step
    }

    #[test]
    fn without_dependencies_each_step_waits_for_the_one_before() {
        let resolved =
            resolve(steps(json!([file("a"), file("b"), with(file("c"), "dependencies", json!([]))])), |_| false)
                .unwrap();
        assert!(resolved[0].dependencies.is_empty());
        assert_eq!(resolved[1].dependencies, [resolved[0].id.clone()]);
        assert!(resolved[2].dependencies.is_empty());
        assert_eq!(resolved.iter().map(|step| step.order).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn dependencies_name_orders_or_ids() {
        let list = json!([
            with(file("a"), "id", json!("first")),
            file("b"),
            with(file("c"), "dependencies", json!([1, "first", 2, "elsewhere"]))
        ]);
        let resolved = resolve(steps(list), |_| false).unwrap();
        let named: Vec<&str> = resolved[2].dependencies.iter().map(|id| id.as_str()).collect();
        assert_eq!(named, [resolved[0].id.as_str(), resolved[1].id.as_str(), "elsewhere"]);
        assert_ne!(resolved[0].id.as_str(), "first");
        let problem = resolve(steps(json!([with(file("a"), "dependencies", json!([9]))])), |_| false).unwrap_err();
        assert_eq!(problem.errors[0].field, "steps[0].dependencies[0]");
    }

    #[test]
    fn known_ids_stay() {
        let resolved = resolve(steps(json!([with(file("a"), "id", json!("s1"))])), |id| id.as_str() == "s1").unwrap();
        assert_eq!(resolved[0].id.as_str(), "s1");
    }

    #[test]
    fn every_fault_is_named_with_its_step() {
        let list = json!([
            file("/a"),
            with(file("b"), "order", json!(1)),
            with(file("c"), "postconditions", json!([{"kind": "exists"}]))
        ]);
        let fields: Vec<String> =
            resolve(steps(list), |_| false).unwrap_err().errors.into_iter().map(|error| error.field).collect();
        assert_eq!(fields, ["steps[1].order", "steps[0].params.path", "steps[2].postconditions[0].path"]);
    }

    #[test]
    fn what_acts_outside_the_workspace_cannot_be_undone_by_itself() {
        let http = |method: &str| json!({"title": "call", "type": "http", "params": {"method": method, "url": "https://example.com/"}});
        let undo = json!({"type": "http", "params": {"method": "DELETE", "url": "https://example.com/"}});
        let list = json!([file("a"), http("GET"), http("POST"), with(http("POST"), "rollback", undo)]);
        let kinds: Vec<RollbackType> =
            resolve(steps(list), |_| false).unwrap().iter().map(|step| step.rollback_type).collect();
        use RollbackType::{Compensatable, Irreversible, Reversible};
        assert_eq!(kinds, [Reversible, Reversible, Irreversible, Compensatable]);
    }
}
