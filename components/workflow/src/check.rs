//! What makes a definition impossible: all of it is found when it is saved, and nothing of it when it runs. Pure.

use std::collections::BTreeSet;

use berth_sdk::{json, problem::Problem, serde_json::Value, validate::FieldError};
use plan_rules::graph::{Graph, Reach};

use crate::{
    action::{self, Action},
    condition::Condition,
    definition::{BYTES_MAX, Definition, Step, StepType},
    expression::{self, Path},
    span::Span,
    template,
};

/// How many faults one answer lists.
const FAULTS_MAX: usize = 50;
/// Items of a `foreach` that run at the same time.
pub const PARALLEL_MAX: i64 = 20;
/// The most variables.
const VARIABLES_MAX: usize = 100;

/// What a run knows, by the first name of a path.
const ROOTS: [&str; 4] = ["steps", "trigger", "variables", "run"];
/// What it knows besides within a `foreach`.
const ITEM_ROOTS: [&str; 2] = ["item", "index"];

/// Everything that is wrong with a definition.
///
/// ```
/// use berth_sdk::{json, serde_json};
/// use workflow::{check::faults, definition::Definition};
/// let definition: Definition = serde_json::from_value(json!({"steps": [
///     {"id": "a", "type": "parallel", "dependencies": ["b"]}, {"id": "b", "type": "parallel", "dependencies": ["a", "x"]}]})).unwrap();
/// let found: Vec<String> = faults(&definition).into_iter().map(|fault| fault.message).collect();
/// assert!(found.iter().any(|message| message.contains("cycle")) && found.iter().any(|message| message.contains("no step x")));
/// ```
pub fn faults(definition: &Definition) -> Vec<FieldError> {
    let mut faults = Faults::default();
    if definition.bytes() > BYTES_MAX {
        faults.add("definition", format!("must have at most {BYTES_MAX} bytes"));
        return faults.0;
    }
    if definition.variables.len() > VARIABLES_MAX {
        faults.add("definition.variables", format!("must have at most {VARIABLES_MAX} entries"));
    }
    let mut known = BTreeSet::new();
    for (place, step) in definition.steps.iter().enumerate() {
        if !known.insert(step.id.as_str()) {
            faults.add(at(place, "id"), format!("{} is there twice", step.id));
        }
    }
    shape(definition, &known, &mut faults);
    let graph = Graph::new(definition.steps.iter().map(|step| (step.id.as_str(), names(step))));
    let reach = graph.reach();
    for (place, step) in definition.steps.iter().enumerate() {
        check_step(step, place, &Context { definition, reach: &reach }, &mut faults);
    }
    faults.0
}

/// 422 with everything that is wrong, or nothing.
pub fn require_sound(definition: &Definition) -> Result<(), Problem> {
    let faults = faults(definition);
    let Some(first) = faults.first() else { return Ok(()) };
    let detail = format!("{}: {}.", first.field, first.message);
    Err(Problem::unprocessable(detail).with_code("INVALID_DEFINITION").with_errors(faults))
}

#[derive(Default)]
struct Faults(Vec<FieldError>);

impl Faults {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        if self.0.len() < FAULTS_MAX {
            self.0.push(FieldError::new(field, message));
        }
    }
}

struct Context<'a> {
    definition: &'a Definition,
    reach: &'a Reach<'a>,
}

fn at(place: usize, field: &str) -> String {
    format!("definition.steps[{place}].{field}")
}

fn names(step: &Step) -> Vec<&str> {
    step.dependencies.iter().map(berth_sdk::Id::as_str).collect()
}

/// Unknown dependencies, cycles, and what can never begin.
fn shape(definition: &Definition, known: &BTreeSet<&str>, faults: &mut Faults) {
    let graph = Graph::new(definition.steps.iter().map(|step| (step.id.as_str(), names(step))));
    let cyclic: BTreeSet<&str> = graph.cyclic().into_iter().collect();
    let stuck: BTreeSet<&str> = graph.stuck().into_iter().collect();
    for (place, step) in definition.steps.iter().enumerate() {
        for dependency in step.dependencies.iter().filter(|id| !known.contains(id.as_str())) {
            faults.add(at(place, "dependencies"), format!("there is no step {dependency}"));
        }
        let unique: BTreeSet<&str> = names(step).into_iter().collect();
        if unique.len() < step.dependencies.len() {
            faults.add(at(place, "dependencies"), "names a step twice");
        }
        if cyclic.contains(step.id.as_str()) {
            faults.add(at(place, "dependencies"), format!("{} is on a cycle", step.id));
        } else if stuck.contains(step.id.as_str()) {
            faults.add(at(place, "dependencies"), format!("{} can never be reached: it waits for a cycle", step.id));
        }
    }
}

fn check_step(step: &Step, place: usize, context: &Context<'_>, faults: &mut Faults) {
    for (number, condition) in step.conditions.iter().enumerate() {
        let field = at(place, &format!("conditions[{number}]"));
        check_condition(condition, &field, step, context, faults);
    }
    if let Some(text) = &step.when {
        let field = at(place, "when");
        match expression::parse(text) {
            Ok(expression) => {
                for path in expression.paths() {
                    check_path(path, &field, step, false, context, faults);
                }
            }
            Err(message) => faults.add(field, message),
        }
    }
    let each = (step.r#type == StepType::Foreach).then(|| step.input.get("each")).flatten();
    for (name, value) in &step.input {
        let is_item = each.is_some() && name == "each";
        check_input(value, &at(place, &format!("input.{name}")), step, is_item, context, faults);
    }
    if let Some(message) = step.human_gate.as_ref().and_then(|gate| gate.message.as_ref()) {
        let value = Value::String(message.clone());
        check_input(&value, &at(place, "humanGate.message"), step, false, context, faults);
    }
    check_type(step, place, faults);
}

fn check_condition(condition: &Condition, field: &str, step: &Step, context: &Context<'_>, faults: &mut Faults) {
    match condition.path() {
        Ok(path) => check_path(&path, field, step, false, context, faults),
        Err(message) => faults.add(field, message),
    }
}

fn check_input(value: &Value, field: &str, step: &Step, is_item: bool, context: &Context<'_>, faults: &mut Faults) {
    match template::paths(value) {
        Ok(paths) => {
            for path in &paths {
                check_path(path, field, step, is_item, context, faults);
            }
        }
        Err(message) => faults.add(field, message),
    }
}

/// A path must begin with something a run knows, and name only steps that this one waits for.
fn check_path(path: &Path, field: &str, step: &Step, is_item: bool, context: &Context<'_>, faults: &mut Faults) {
    let root = path.name(0).unwrap_or_default();
    if !(ROOTS.contains(&root) || is_item && ITEM_ROOTS.contains(&root)) {
        return faults.add(field, format!("{path}: a run knows {}", ROOTS.join(", ")));
    }
    if root != "steps" {
        return;
    }
    let named = path.name(1).unwrap_or_default();
    if context.definition.step(named).is_none() {
        faults.add(field, format!("{path}: there is no step {named}"));
    } else if !context.reach.waits_for(&step.id, named) {
        faults.add(field, format!("{path}: {} does not wait for {named}", step.id));
    } else if !matches!(path.name(2), Some("output" | "status" | "error")) {
        faults.add(field, format!("{path}: a step has output, status and error"));
    }
}

fn check_type(step: &Step, place: usize, faults: &mut Faults) {
    let need = |name: &str, faults: &mut Faults| {
        if step.input.get(name).is_none_or(Value::is_null) {
            faults.add(at(place, &format!("input.{name}")), "is required");
        }
    };
    if step.r#type != StepType::HumanGate && step.human_gate.is_some() {
        faults.add(at(place, "humanGate"), "belongs to a step of the type human_gate");
    }
    match step.r#type {
        StepType::Action => check_action(step, place, &Value::Object(step.input.clone()), faults),
        StepType::Condition if step.when.is_none() && step.conditions.is_empty() => {
            faults.add(at(place, "conditions"), "a condition needs conditions, or an expression in when");
        }
        StepType::Condition | StepType::Parallel => {}
        StepType::HumanGate => check_gate(step, place, faults),
        StepType::Delay => check_delay(step, place, faults),
        StepType::Foreach => {
            need("items", faults);
            if let Some(parallel) = step.input.get("parallel")
                && !parallel.as_i64().is_some_and(|count| (1..=PARALLEL_MAX).contains(&count))
            {
                faults.add(at(place, "input.parallel"), format!("must be a whole number from 1 to {PARALLEL_MAX}"));
            }
            let each = step.input.get("each").cloned().unwrap_or_else(|| json!({}));
            if !each.is_object() {
                faults.add(at(place, "input.each"), "must be an object");
            }
            if step.input.get("workflowId").is_none() {
                check_action(step, place, &each, faults);
            } else if step.action.is_some() {
                faults.add(at(place, "action"), "must be absent where input.workflowId is given");
            }
        }
        StepType::Subworkflow => need("workflowId", faults),
    }
}

fn check_action(step: &Step, place: usize, input: &Value, faults: &mut Faults) {
    let Some(action) = step.known_action() else {
        return faults.add(at(place, "action"), format!("must be one of {}", Action::names().join(", ")));
    };
    for (field, message) in action::faults(action, input, step.agent_id.is_some()) {
        faults.add(at(place, &format!("input.{field}")), message);
    }
}

fn check_gate(step: &Step, place: usize, faults: &mut Faults) {
    let Some(gate) = &step.human_gate else {
        return faults.add(at(place, "humanGate"), "is required for a human_gate");
    };
    if gate.on_timeout == crate::definition::OnTimeout::Escalate && gate.timeout.is_none() {
        faults.add(at(place, "humanGate.timeout"), "is needed to escalate");
    }
    if gate.timeout.is_some_and(|timeout| timeout.seconds() == 0) {
        faults.add(at(place, "humanGate.timeout"), "must be at least a second");
    }
}

fn check_delay(step: &Step, place: usize, faults: &mut Faults) {
    let (span, until) = (step.input.get("duration"), step.input.get("until"));
    let is_reference = |value: &Value| value.as_str().is_some_and(|text| text.contains("{{"));
    match (span, until) {
        (Some(span), None) if is_reference(span) || Span::read(span).is_some() => {}
        (None, Some(until)) if is_reference(until) => {}
        (None, Some(Value::String(text))) if berth_sdk::clock::Timestamp::parse(text).is_some() => {}
        (None, Some(_)) => faults.add(at(place, "input.until"), "must be a time such as 2026-01-31T08:15:00Z"),
        (Some(_), None) => {
            faults.add(at(place, "input.duration"), "must be seconds or a text such as 15m, at most 30 days")
        }
        _ => faults.add(at(place, "input.duration"), "a delay needs either duration or until"),
    }
}

#[cfg(test)]
mod tests {
    use berth_sdk::{json, serde_json, serde_json::Value};
    use proptest::prelude::*;

    use super::{faults, require_sound};
    use crate::definition::Definition;

    fn found(steps: Value) -> Vec<String> {
        let definition: Definition = serde_json::from_value(json!({ "steps": steps })).unwrap();
        faults(&definition).into_iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect()
    }

    fn complains(steps: Value, about: &str) {
        let found = found(steps);
        assert!(found.iter().any(|fault| fault.contains(about)), "{about}: {found:?}");
    }

    #[test]
    fn a_sound_definition_has_no_faults() {
        let steps = json!([
            {"id": "check", "type": "condition", "when": "trigger.data.severity >= 3"},
            {"id": "left", "type": "action", "action": "http.request", "dependencies": ["check"],
                "input": {"method": "POST", "url": "https://example.com/{{trigger.data.id}}", "body": {"a": 1}}},
            {"id": "right", "type": "action", "action": "transform", "dependencies": ["check"], "input": {"value": 1}},
            {"id": "join", "type": "parallel", "dependencies": ["left", "right"]},
            {"id": "gate", "type": "human_gate", "dependencies": ["join"],
                "humanGate": {"message": "{{steps.left.output.status}}", "timeout": "1h", "onTimeout": "escalate"}},
            {"id": "each", "type": "foreach", "action": "event.publish", "dependencies": ["gate"],
                "input": {"items": [1, 2], "each": {"type": "custom.thing", "data": {"n": "{{item}}", "i": "{{index}}"}}}},
            {"id": "wait", "type": "delay", "dependencies": ["each"], "input": {"duration": "5m"}},
            {"id": "sub", "type": "subworkflow", "dependencies": ["wait"], "input": {"workflowId": "w1", "input": {}}}
        ]);
        assert_eq!(found(steps), [] as [&str; 0]);
    }

    #[test]
    fn what_is_impossible_is_named() {
        let parallel = |id: &str, waits: Value| json!({"id": id, "type": "parallel", "dependencies": waits});
        complains(json!([parallel("a", json!(["b"])), parallel("b", json!(["a"]))]), "cycle");
        complains(json!([parallel("a", json!(["a"])), parallel("b", json!(["a"]))]), "never be reached");
        complains(json!([parallel("a", json!(["x"]))]), "no step x");
        complains(json!([parallel("a", json!([])), parallel("a", json!([]))]), "twice");
        complains(json!([{"id": "a", "type": "condition"}]), "needs conditions");
        complains(json!([{"id": "a", "type": "condition", "when": "a =="}]), "when");
        complains(json!([{"id": "a", "type": "condition", "when": "secrets.x == 1"}]), "a run knows");
        complains(
            json!([{"id": "a", "type": "condition", "conditions": [{"field": "trigger.x", "operator": "~"}]}]),
            "operator",
        );
        complains(json!([{"id": "a", "type": "action", "action": "shell"}]), "must be one of");
        complains(
            json!([{"id": "a", "type": "action", "action": "event.publish", "input": {"type": "task.created"}}]),
            "custom.",
        );
        complains(
            json!([parallel("a", json!([])), {"id": "b", "type": "delay", "input": {"duration": "{{steps.a.output.x}}"}}]),
            "does not wait for a",
        );
        complains(
            json!([parallel("a", json!([])), {"id": "b", "type": "delay", "dependencies": ["a"], "input": {"duration": "{{steps.a.x}}"}}]),
            "output, status and error",
        );
        complains(json!([{"id": "a", "type": "delay", "input": {"duration": "40d"}}]), "30 days");
        complains(json!([{"id": "a", "type": "human_gate"}]), "humanGate");
        complains(json!([{"id": "a", "type": "foreach", "action": "transform", "input": {}}]), "input.items");
        complains(json!([{"id": "a", "type": "subworkflow"}]), "input.workflowId");
        complains(json!([{"id": "a", "type": "delay", "input": {"duration": "{{item}}"}}]), "a run knows");
        let wrong: Definition = serde_json::from_value(json!({"steps": [parallel("a", json!(["a"]))]})).unwrap();
        assert_eq!(require_sound(&wrong).unwrap_err().status, 422);
    }

    proptest! {
        /// Edges that only go back are sound; one that closes a circle is found.
        #[test]
        fn cycles_and_only_cycles_are_found(edges in prop::collection::btree_set((0_usize..10, 0_usize..10), 0..30)) {
            let steps = |edges: &[(usize, usize)]| -> Value {
                (0..10).map(|id| {
                    let waits: Vec<String> = edges.iter().filter(|(from, _)| *from == id).map(|(_, to)| format!("s{to}")).collect();
                    json!({"id": format!("s{id}"), "type": "parallel", "dependencies": waits})
                }).collect()
            };
            let back: Vec<(usize, usize)> = edges.iter().copied().filter(|(from, to)| to < from).collect();
            prop_assert!(found(steps(&back)).is_empty());
            if let Some((from, to)) = back.first() {
                let mut closed = back.clone();
                closed.push((*to, *from));
                prop_assert!(!found(steps(&closed)).is_empty());
            }
        }
    }
}
