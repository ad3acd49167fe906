//! The validation of a plan: everything that must hold before somebody may approve it.

use std::collections::BTreeSet;

use berth_sdk::{prelude::*, serde_json::Value, validate::Path};

use crate::{
    RollbackType, Step, StepType,
    graph::Graph,
    writes::{self, touches},
};

/// What the validation says.
#[data]
pub struct Report {
    /// Nothing is in the way.
    pub is_valid: bool,
    /// What is in the way.
    pub errors: Vec<Finding>,
    /// What deserves a look.
    pub warnings: Vec<Finding>,
    /// From 0 to 1.
    pub confidence: f64,
}

/// One thing that the validation found.
#[data]
pub struct Finding {
    /// Upper snake case.
    pub code: String,
    /// For a person.
    pub message: String,
    /// The step it concerns.
    pub step_id: Option<Id>,
    /// That step's order.
    pub order: Option<i64>,
}

/// Validates the steps of a plan against each other and its non-goals.
///
/// ```
/// let report = plan_rules::checks::check(&[], &[]);
/// assert_eq!(report.errors[0].code, "NO_STEPS");
/// ```
pub fn check(non_goals: &[String], steps: &[Step]) -> Report {
    let mut findings = Findings::default();
    if steps.is_empty() {
        findings.errors.push(Finding {
            code: "NO_STEPS".into(),
            message: "The plan has no steps.".into(),
            step_id: None,
            order: None,
        });
    }
    order(steps, &mut findings);
    dependencies(steps, &mut findings);
    for step in steps {
        parameters(step, &mut findings);
        evidence(step, steps, &mut findings);
        reversibility(step, &mut findings);
        untouched(step, non_goals, &mut findings);
    }
    parallel(steps, &mut findings);
    if !steps.is_empty() && !steps.iter().any(|step| matches!(step.r#type, StepType::Validation | StepType::Test)) {
        findings.warnings.push(Finding {
            code: "NO_VALIDATION".into(),
            message: "No step validates what the others did.".into(),
            step_id: None,
            order: None,
        });
    }
    let is_valid = findings.errors.is_empty();
    let confidence =
        if is_valid { 0.9_f64.powi(i32::try_from(findings.warnings.len()).unwrap_or(i32::MAX)) } else { 0.0 };
    Report {
        is_valid,
        errors: findings.errors,
        warnings: findings.warnings,
        confidence: (confidence * 100.0).round() / 100.0,
    }
}

#[derive(Default)]
struct Findings {
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
}

fn of(step: &Step, code: &str, message: impl Into<String>) -> Finding {
    Finding { code: code.into(), message: message.into(), step_id: Some(step.id.clone()), order: Some(step.order) }
}

impl Findings {
    fn error(&mut self, step: &Step, code: &str, message: impl Into<String>) {
        self.errors.push(of(step, code, message));
    }
}

/// Orders run from 1 without a gap.
fn order(steps: &[Step], findings: &mut Findings) {
    let mut sorted: Vec<&Step> = steps.iter().collect();
    sorted.sort_by_key(|step| step.order);
    for (step, wanted) in sorted.into_iter().zip(1_i64..) {
        if step.order != wanted {
            findings.error(
                step,
                "ORDER_NOT_CONTIGUOUS",
                format!("Step {} should have the order {wanted}.", step.order),
            );
            return;
        }
    }
}

/// Dependencies exist, close no cycle, and leave every step reachable.
fn dependencies(steps: &[Step], findings: &mut Findings) {
    let known: BTreeSet<&str> = steps.iter().map(|step| step.id.as_str()).collect();
    let graph =
        Graph::new(steps.iter().map(|step| (step.id.as_str(), step.dependencies.iter().map(Id::as_str).collect())));
    let cyclic: BTreeSet<&str> = graph.cyclic().into_iter().collect();
    let mut blocked: BTreeSet<&str> = cyclic.clone();
    for step in steps {
        for dependency in step.dependencies.iter().filter(|id| !known.contains(id.as_str())) {
            findings.error(
                step,
                "DEPENDENCY_MISSING",
                format!("Step {} waits for {dependency}, which is no step.", step.order),
            );
            blocked.insert(step.id.as_str());
        }
        if cyclic.contains(step.id.as_str()) {
            findings.error(step, "DEPENDENCY_CYCLE", format!("Step {} waits for itself.", step.order));
        }
    }
    let reach = graph.reach();
    for step in steps.iter().filter(|step| !blocked.contains(step.id.as_str())) {
        if blocked.iter().any(|other| reach.waits_for(step.id.as_str(), other)) {
            findings.error(
                step,
                "UNREACHABLE",
                format!("Step {} can never begin: what it waits for cannot.", step.order),
            );
        }
    }
}

fn parameters(step: &Step, findings: &mut Findings) {
    let mut faults = Faults::default();
    step.clone().check(&Path::default(), &mut faults);
    for fault in faults.errors() {
        findings.error(step, "PARAMETERS", format!("Step {}: {} {}.", step.order, fault.field, fault.message));
    }
}

/// Each step leaves an artifact or is validated: by itself, its postconditions, or a later step that checks it.
fn evidence(step: &Step, steps: &[Step], findings: &mut Findings) {
    let by_nature = match step.r#type {
        StepType::FileCreate | StepType::FileEdit | StepType::FileDelete => true,
        StepType::Validation | StepType::Test | StepType::Human => true,
        StepType::Http => step.params.get("expectStatus").is_some(),
        StepType::Command | StepType::McpTool | StepType::Agent => false,
    };
    let checked_later = || {
        steps.iter().any(|other| {
            matches!(other.r#type, StepType::Validation | StepType::Test) && other.dependencies.contains(&step.id)
        })
    };
    if !by_nature && step.expected_artifacts.is_empty() && step.postconditions.is_empty() && !checked_later() {
        findings.error(
            step,
            "NO_EVIDENCE",
            format!(
                "Step {} leaves no artifact and nothing validates it: give it expectedArtifacts or postconditions, or let a validation depend on it.",
                step.order
            ),
        );
    }
}

fn reversibility(step: &Step, findings: &mut Findings) {
    match (step.rollback_type, step.irreversible_accepted) {
        (RollbackType::Irreversible, false) => findings.error(
            step,
            "IRREVERSIBLE",
            format!("Step {} cannot be undone: give it a rollback or accept that (irreversibleAccepted).", step.order),
        ),
        (RollbackType::Irreversible, true) => {
            findings.warnings.push(of(step, "IRREVERSIBLE", format!("Step {} cannot be undone.", step.order)));
        }
        (RollbackType::Compensatable, _) if step.rollback.is_none() => {
            findings.error(
                step,
                "ROLLBACK_MISSING",
                format!("Step {} is compensatable but has no rollback.", step.order),
            );
        }
        _ => {}
    }
}

/// Non-goals that are paths (one word, with `/` or `.`; `/**` at the end covers what lies below) stay untouched.
fn untouched(step: &Step, non_goals: &[String], findings: &mut Findings) {
    for path in writes::of(step) {
        for goal in non_goals.iter().map(|goal| goal.trim()).filter(|goal| is_path(goal)) {
            let stem =
                goal.trim_start_matches("./").trim_end_matches("/**").trim_end_matches("/*").trim_end_matches('/');
            if touches(&path, stem) {
                findings.error(step, "NON_GOAL", format!("Step {} writes {path}, which is a non-goal.", step.order));
            }
        }
    }
}

fn is_path(goal: &str) -> bool {
    !goal.is_empty() && !goal.contains(char::is_whitespace) && (goal.contains('/') || goal.contains('.'))
}

/// Steps that may run at the same time write different paths.
fn parallel(steps: &[Step], findings: &mut Findings) {
    let reach =
        Graph::new(steps.iter().map(|step| (step.id.as_str(), step.dependencies.iter().map(Id::as_str).collect())))
            .reach();
    let sets: Vec<(&Step, BTreeSet<String>)> = steps.iter().map(|step| (step, writes::of(step))).collect();
    for (index, (step, paths)) in sets.iter().enumerate() {
        for (other, others) in sets.iter().skip(index + 1) {
            let Some(path) = writes::collide(paths, others) else { continue };
            let (left, right) = (step.id.as_str(), other.id.as_str());
            if !reach.waits_for(left, right) && !reach.waits_for(right, left) {
                findings.error(
                    other,
                    "WRITES_COLLIDE",
                    format!("Steps {} and {} may run at the same time and both write {path}.", step.order, other.order),
                );
            }
        }
    }
}

/// The assertions of a validation step; for whoever runs it.
pub fn assertions(step: &Step) -> &[Value] {
    step.params.get("assertions").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use berth_sdk::{Id, json, serde_json, serde_json::Value};
    use proptest::prelude::*;

    use super::check;
    use crate::{Step, graph::Graph, resolve};

    fn plan(value: Value) -> Vec<Step> {
        resolve(serde_json::from_value(value).unwrap(), |_| false).unwrap()
    }

    fn file(path: &str, dependencies: Value) -> Value {
        json!({"title": path, "type": "file_create", "params": {"path": path, "content": ""}, "dependencies": dependencies})
    }

    fn codes(non_goals: &[&str], steps: &[Step]) -> Vec<String> {
        let non_goals: Vec<String> = non_goals.iter().map(ToString::to_string).collect();
        check(&non_goals, steps).errors.into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn three_plain_steps_are_valid() {
        let steps = plan(json!([
            {"title": "Write", "type": "file_create", "params": {"path": "a", "content": "x"}},
            {"title": "Edit", "type": "file_edit", "params": {"path": "a", "search": "x", "replace": "y"}},
            {"title": "Check", "type": "validation", "params": {"assertions": [{"kind": "contains", "path": "a", "value": "y"}]}},
        ]));
        let report = check(&[], &steps);
        assert_eq!((report.is_valid, report.errors.len(), report.warnings.len(), report.confidence), (true, 0, 0, 1.0));
    }

    #[test]
    fn orders_have_no_gap() {
        let mut steps = plan(json!([file("a", json!([])), file("b", json!([1]))]));
        steps[1].order = 3;
        assert_eq!(codes(&[], &steps), ["ORDER_NOT_CONTIGUOUS"]);
    }

    #[test]
    fn a_cycle_and_what_waits_for_it_are_named() {
        let steps =
            plan(json!([file("a", json!([2])), file("b", json!([1])), file("c", json!([2])), file("d", json!([]))]));
        assert_eq!(codes(&[], &steps), ["DEPENDENCY_CYCLE", "DEPENDENCY_CYCLE", "UNREACHABLE"]);
        let steps = plan(json!([file("a", json!(["nobody"])), file("b", json!([1]))]));
        assert_eq!(codes(&[], &steps), ["DEPENDENCY_MISSING", "UNREACHABLE"]);
        let steps = plan(json!([file("a", json!([1]))]));
        assert_eq!(codes(&[], &steps), ["DEPENDENCY_CYCLE"]);
    }

    #[test]
    fn what_runs_at_once_writes_apart() {
        let steps = plan(json!([file("src/a", json!([])), file("src", json!([]))]));
        assert_eq!(codes(&[], &steps), ["WRITES_COLLIDE"]);
        let steps = plan(json!([file("src/a", json!([])), file("src/a", json!([1]))]));
        assert_eq!(codes(&[], &steps), Vec::<String>::new());
        let through = plan(json!([file("x", json!([])), file("y", json!([1])), file("x", json!([2]))]));
        assert_eq!(codes(&[], &through), Vec::<String>::new());
    }

    #[test]
    fn non_goals_that_are_paths_stay_untouched() {
        let steps = plan(json!([file("src/legacy/a.rs", json!([])), file("README.md", json!([1]))]));
        assert_eq!(codes(&["src/legacy/**", "Do not touch src/legacy/a.rs please", "docs/"], &steps), ["NON_GOAL"]);
        assert_eq!(codes(&["README.md", "src/leg"], &steps), ["NON_GOAL"]);
    }

    #[test]
    fn a_command_needs_evidence_and_a_declared_irreversible_one_acceptance() {
        let command = |more: Value| {
            let mut step = json!({"title": "run", "type": "command", "params": {"command": "make"}});
            for (name, value) in more.as_object().unwrap() {
                step[name] = value.clone();
            }
            step
        };
        assert_eq!(codes(&[], &plan(json!([command(json!({}))]))), ["NO_EVIDENCE"]);
        let declared = json!({"rollbackType": "irreversible"});
        assert_eq!(codes(&[], &plan(json!([command(declared)]))), ["NO_EVIDENCE", "IRREVERSIBLE"]);
        let evidence = json!({"postconditions": [{"kind": "equals", "step": 1, "pointer": "/exitCode", "value": 0}], "irreversibleAccepted": true});
        assert_eq!(codes(&[], &plan(json!([command(evidence)]))), Vec::<String>::new());
        let checked = json!([command(json!({"irreversibleAccepted": true})), {"title": "check", "type": "test", "params": {"assertions": [{"kind": "exists", "path": "out"}]}}]);
        let report = check(&[], &plan(checked));
        assert_eq!((report.is_valid, report.warnings.len()), (true, 1));
    }

    /// Steps that only look, with these edges: the first waits for the second.
    fn looking(count: usize, edges: &[(usize, usize)]) -> Vec<Step> {
        let step = |number: usize| {
            let waits: BTreeSet<usize> =
                edges.iter().filter(|(from, to)| *from == number && *to < count).map(|(_, to)| to + 1).collect();
            json!({"title": "Look", "type": "test", "params": {"assertions": [{"kind": "exists", "path": "a"}]}, "dependencies": waits})
        };
        plan((0..count).map(step).collect())
    }

    proptest! {
        /// A graph of steps is valid exactly when it has an order, and every step that has none is named once.
        #[test]
        fn what_can_never_begin_is_named_and_nothing_else(
            count in 1usize..9, edges in prop::collection::vec((0usize..9, 0usize..9), 0..20)
        ) {
            let steps = looking(count, &edges);
            let graph = Graph::new(
                steps.iter().map(|step| (step.id.as_str(), step.dependencies.iter().map(Id::as_str).collect())),
            );
            let report = check(&[], &steps);
            let mut named: Vec<&str> = report.errors.iter().filter_map(|found| found.step_id.as_deref()).collect();
            named.sort_unstable();
            prop_assert_eq!(&named, &graph.stuck());
            prop_assert_eq!(report.is_valid, graph.stuck().is_empty());
            prop_assert_eq!(report.confidence > 0.0, report.is_valid);
            for found in &report.errors {
                let is_cyclic = graph.cyclic().contains(&found.step_id.as_deref().unwrap_or_default());
                prop_assert_eq!(found.code.as_str(), if is_cyclic { "DEPENDENCY_CYCLE" } else { "UNREACHABLE" });
            }
        }

        /// A gap or a repetition in the orders is always found, and a plan without one never blamed for it.
        #[test]
        fn orders_are_exactly_the_numbers_from_one(orders in prop::collection::vec(1i64..7, 1..6)) {
            let mut steps = looking(orders.len(), &[]);
            for (step, order) in steps.iter_mut().zip(&orders) {
                step.order = *order;
            }
            let mut sorted = orders.clone();
            sorted.sort_unstable();
            let is_whole = sorted.into_iter().eq(1..=i64::try_from(orders.len()).unwrap());
            prop_assert_eq!(codes(&[], &steps).is_empty(), is_whole);
        }

        /// Two steps collide exactly when they write the same place and neither waits for the other.
        #[test]
        fn steps_collide_exactly_when_nothing_orders_them(
            places in prop::collection::vec(0usize..4, 1..7), edges in prop::collection::vec((0usize..7, 0usize..7), 0..12)
        ) {
            const PATHS: [&str; 4] = ["a", "a/b", "a/b/c", "ab"];
            // Only earlier steps are waited for: no cycle.
            let waits = |number: usize| -> Vec<usize> {
                edges.iter().filter(|(from, to)| *from == number && to < from).map(|(_, to)| to + 1).collect()
            };
            let steps = plan(
                places.iter().enumerate().map(|(number, place)| file(PATHS[*place], json!(waits(number)))).collect(),
            );
            let graph = Graph::new(
                steps.iter().map(|step| (step.id.as_str(), step.dependencies.iter().map(Id::as_str).collect())),
            );
            let mut wanted = 0;
            for (index, step) in steps.iter().enumerate() {
                for (other, place) in steps.iter().zip(&places).skip(index + 1) {
                    let is_ordered = graph.waits_for(&step.id, &other.id) || graph.waits_for(&other.id, &step.id);
                    // The last of the paths lies beside the others.
                    let is_same = (places[index] == 3) == (*place == 3);
                    wanted += usize::from(is_same && !is_ordered);
                }
            }
            let found = codes(&[], &steps).into_iter().filter(|code| code == "WRITES_COLLIDE").count();
            prop_assert_eq!(found, wanted);
        }
    }
}
