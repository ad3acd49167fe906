//! The definition of a workflow: its steps and variables, as they are saved and as a run reads them. Pure.

use berth_sdk::{
    entity::{Column, Kind},
    prelude::*,
    serde_json,
    serde_json::{Map, Value},
};

use crate::{action::Action, condition::Condition, span::Span};

/// The most steps.
pub const STEPS_MAX: usize = 100;
/// The most items of a `foreach`.
pub const ITEMS_MAX: usize = 1_000;
/// The largest definition, in bytes.
pub const BYTES_MAX: usize = 256 * 1024;

/// What a step does.
#[choice]
pub enum StepType {
    /// Something outside or inside Berth: see `action`.
    Action,
    /// Nothing; what depends on it is skipped when its conditions do not hold.
    Condition,
    /// Nothing; branches begin or meet here.
    Parallel,
    /// Waits for people.
    HumanGate,
    /// Waits.
    Delay,
    /// An action or a workflow for each of many items.
    Foreach,
    /// Another workflow.
    Subworkflow,
}

/// Whose word a gate takes.
#[choice]
pub enum Policy {
    /// One approver's.
    Any,
    /// Every approver's; one rejection is enough for a no.
    All,
}

/// What happens when nobody decides in time.
#[choice]
pub enum OnTimeout {
    /// The run goes on.
    Proceed,
    /// The run is cancelled.
    Cancel,
    /// Others are asked, once.
    Escalate,
}

/// How often a step is tried again.
#[data]
pub struct Retry {
    /// Attempts after the first.
    #[field(min = 0, max = 20)]
    pub max: i64,
    /// The wait before the second attempt; each further one is twice as long, up to an hour.
    pub backoff: Option<Span>,
}

/// Who has to agree.
#[data]
pub struct HumanGate {
    /// What is asked; it may hold references.
    #[field(max = 5_000, raw)]
    pub message: Option<String>,
    /// Who may decide; empty: whoever may update workflows.
    #[field(default, max = 50)]
    pub required_approvers: Vec<Id>,
    /// Whose word counts.
    #[field(default = Policy::Any)]
    pub policy: Policy,
    /// How long it waits; without it as long as the run may take.
    pub timeout: Option<Span>,
    /// What happens then.
    #[field(default = OnTimeout::Cancel)]
    pub on_timeout: OnTimeout,
    /// Who is asked besides when it escalates.
    #[field(default, max = 50)]
    pub escalate_to: Vec<Id>,
}

/// One step.
#[data]
pub struct Step {
    /// Unique in the workflow; references name it.
    pub id: Id,
    /// For people; the id when absent.
    #[field(max = 200, plain)]
    pub name: Option<String>,
    /// What it does.
    pub r#type: StepType,
    /// Which action, for `action` and `foreach`.
    #[field(max = 50)]
    pub action: Option<String>,
    /// The agent of `agent.run`.
    pub agent_id: Option<Id>,
    /// What it gets; texts may hold references.
    #[field(default)]
    pub input: Map<String, Value>,
    /// All of them must hold; otherwise it is skipped.
    #[field(default, max = 20)]
    pub conditions: Vec<Condition>,
    /// An expression that must hold as well.
    #[field(max = 2_000, raw)]
    pub when: Option<String>,
    /// The steps it waits for.
    #[field(default, max = 100)]
    pub dependencies: Vec<Id>,
    /// How often it is tried again; never when absent.
    pub retry: Option<Retry>,
    /// How long one attempt may take.
    pub timeout: Option<Span>,
    /// The run goes on when it fails.
    #[field(default)]
    pub continue_on_error: bool,
    /// Who has to agree, for `human_gate`.
    pub human_gate: Option<HumanGate>,
}

impl Step {
    /// Its name for people.
    pub fn title(&self) -> &str {
        self.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&self.id)
    }

    /// How often it is tried again.
    pub fn retries(&self) -> i64 {
        self.retry.as_ref().map_or(0, |retry| retry.max)
    }

    /// The action that it names.
    pub fn known_action(&self) -> Option<Action> {
        Action::parse(self.action.as_deref()?)
    }

    /// Whether it starts runs of another workflow.
    pub fn starts_workflow(&self) -> bool {
        match self.r#type {
            StepType::Subworkflow => true,
            StepType::Foreach => self.input.contains_key("workflowId"),
            _ => false,
        }
    }

    /// A member of its input.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.input.get(name).and_then(Value::as_str)
    }
}

/// The steps of a workflow and the variables of its runs.
#[data]
#[derive(Default)]
pub struct Definition {
    /// At most 100.
    #[field(default, max = 100)]
    pub steps: Vec<Step>,
    /// Names with the values they begin with; a run's input and `transform` may change them.
    #[field(default)]
    pub variables: Map<String, Value>,
}

impl Column for Definition {
    const KIND: Kind = Kind::Json;
}

impl Definition {
    /// A step and its place.
    pub fn step(&self, id: &str) -> Option<(usize, &Step)> {
        self.steps.iter().enumerate().find(|(_, step)| *step.id == *id)
    }

    /// The places of the steps that each step waits for.
    pub fn dependencies(&self) -> Vec<Vec<usize>> {
        let places =
            |step: &Step| step.dependencies.iter().filter_map(|id| self.step(id).map(|(place, _)| place)).collect();
        self.steps.iter().map(places).collect()
    }

    /// How many bytes it takes.
    pub fn bytes(&self) -> usize {
        serde_json::to_string(self).map_or(usize::MAX, |text| text.len())
    }
}
