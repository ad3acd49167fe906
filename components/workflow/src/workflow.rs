//! Workflows: what is automated, by which trigger, and whether it is on.

use berth_sdk::{
    entity::{Column, Kind},
    http::IfMatch,
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{
    behalf, check, child,
    definition::{Definition, Step},
    run_row::TriggerType,
    schedule, sight, start,
    trigger::{self, MANAGE, Trigger},
    version,
};

/// The run timeout when nothing is said: 24 hours.
const RUN_MINUTES: i64 = 24 * 60;
/// The longest: 30 days.
const RUN_MINUTES_MAX: i64 = 30 * 24 * 60;

/// How far a workflow is.
#[choice]
pub enum WorkflowStatus {
    /// Being written.
    Draft,
    /// Its trigger starts runs.
    Active,
    /// It rests.
    Paused,
    /// It is only looked at.
    Archived,
}

/// What happens when a run is to start while another one of the workflow is active.
#[choice]
pub enum Concurrency {
    /// Both run.
    Allow,
    /// It does not start.
    Skip,
    /// It waits for its turn.
    Queue,
    /// The others are cancelled, then it starts.
    Replace,
}

impl Concurrency {
    /// One at a time, in their order.
    pub fn is_serial(self) -> bool {
        matches!(self, Self::Queue | Self::Replace)
    }
}

/// A workflow.
#[entity(table = "workflow_workflows", name = "workflow", sort = "-createdAt")]
pub struct Workflow {
    /// For people.
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    /// What it is for.
    #[field(max = 5_000)]
    pub description: Option<String>,
    /// The project that it belongs to: it exists for whoever sees the project, and so do its runs.
    pub project_id: Option<Id>,
    /// Whether it is on.
    #[field(readonly, default = WorkflowStatus::Draft)]
    pub status: WorkflowStatus,
    /// What starts it; it can always be started by hand while it is active.
    #[field(default)]
    pub trigger: Trigger,
    /// The same in short, for lists.
    #[field(readonly, default = TriggerType::Manual)]
    pub trigger_type: TriggerType,
    /// Its steps and variables.
    #[field(default)]
    pub definition: Definition,
    /// The version of the definition that a new run gets.
    #[field(readonly, default = 1)]
    pub definition_version: i64,
    /// What happens when runs meet.
    #[field(default = Concurrency::Allow)]
    pub concurrency: Concurrency,
    /// How long a run may take.
    #[field(default = RUN_MINUTES, min = 1, max = RUN_MINUTES_MAX)]
    pub max_run_minutes: i64,
    /// For whom its steps are done where nobody starts the run by hand: whoever last saved what it does or what starts it,
    /// made a webhook of it, or turned it on.
    #[field(readonly)]
    pub acts_for: Option<Id>,
    /// When a run last started.
    #[field(readonly)]
    pub last_run_at: Option<Timestamp>,
}

impl Column for Trigger {
    const KIND: Kind = Kind::Json;
}

impl Rules for Workflow {
    fn scope() -> Option<Condition> {
        sight::workflows()
    }

    /// Which projects the caller sees, planning is asked here.
    fn before_transaction(fields: &Map<String, Value>) -> Result<()> {
        people::scope::require_named(fields.get("projectId").and_then(Value::as_str))?;
        sight::look();
        Ok(())
    }

    fn before_create(&mut self, _: &Transaction) -> Result<()> {
        self.status = WorkflowStatus::Draft;
        self.definition_version = 1;
        self.trigger_type = self.trigger.r#type;
        self.last_run_at = None;
        self.acts_for = behalf::caller();
        self.require_sound()
    }

    fn after_create(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        version::keep(transaction, row)
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        if old.status == WorkflowStatus::Archived {
            return Err(Problem::conflict("The workflow is archived.").with_code("WORKFLOW_ARCHIVED"));
        }
        self.trigger_type = self.trigger.r#type;
        if self.definition != old.definition {
            self.definition_version = old.version + 1;
        }
        if self.definition != old.definition || self.trigger != old.trigger {
            self.require_sound()?;
            self.acts_for = behalf::caller();
        }
        if old.status == WorkflowStatus::Active {
            self.require_steps()?;
        }
        Ok(())
    }

    fn after_update(old: &Stored<Self>, new: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if new.definition_version != old.definition_version {
            version::keep(transaction, new)?;
        }
        if new.trigger != old.trigger {
            schedule::set(transaction, new)?;
        }
        trigger::forget(transaction);
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        // A run that begins at this moment is found, or finds nothing to run any more.
        start::hold(transaction, &row.id)?;
        let active = transaction.query_one(
            "SELECT id FROM workflow_runs WHERE workflow_id = $1 AND status IN ('pending', 'running', 'waiting') LIMIT 1",
            params![&row.id],
        )?;
        if let Some(active) = active {
            let id: Id = active.get("id")?;
            return Err(Problem::conflict("The workflow has runs that are not over.")
                .with_code("WORKFLOW_RUNNING")
                .with("runId", id.as_str()));
        }
        for table in ["workflow_versions", "workflow_hooks", "workflow_schedules"] {
            transaction.execute(&format!("DELETE FROM {table} WHERE workflow_id = $1"), params![&row.id])?;
        }
        transaction.enqueue(crate::sweep::PURGE, &json!({ "workflowId": row.id }), std::time::Duration::ZERO)?;
        trigger::forget(transaction);
        Ok(())
    }
}

impl Workflow {
    /// 422 for what can never run, 403 for what the caller may not do themselves.
    fn require_sound(&self) -> Result<()> {
        let faults = trigger::faults(&self.trigger);
        if let Some(first) = faults.first() {
            let problem = Problem::unprocessable(format!("{}: {}.", first.field, first.message));
            return Err(problem.with_code("INVALID_TRIGGER").with_errors(faults));
        }
        check::require_sound(&self.definition)?;
        self.require_rights()
    }

    /// An automation does nothing, and shows nothing, that its author may not do or see. What a step may do is judged again
    /// when it is done; here it is said in time.
    fn require_rights(&self) -> Result<()> {
        for step in &self.definition.steps {
            let mut needed =
                step.known_action().map_or_else(Vec::new, |action| action.permissions(&acting_input(step)));
            if step.starts_workflow() {
                needed.push(child::EXECUTE.into());
            }
            if let Some(permission) = needed.into_iter().find(|permission| !auth::has(permission)) {
                let detail = format!("The step {} needs the permission {permission}, which you do not hold.", step.id);
                return Err(Problem::forbidden(detail));
            }
        }
        if self.trigger.is_confidential() && !auth::has(MANAGE) {
            let detail = format!("Events of this kind tell of people: the trigger needs the permission {MANAGE}.");
            return Err(Problem::forbidden(detail));
        }
        Ok(())
    }

    /// Whoever changes what starts a workflow answers for it from now on: 403 for what they may not do themselves.
    pub fn take_over(row: &mut Stored<Self>, transaction: &Transaction) -> Result<()> {
        row.require_rights()?;
        let caller = behalf::caller();
        if row.acts_for == caller {
            return Ok(());
        }
        row.acts_for = caller;
        entity::save(transaction, row)
    }

    fn require_steps(&self) -> Result<()> {
        if self.definition.steps.is_empty() {
            return Err(Problem::unprocessable("A workflow that is active has at least one step.")
                .with_code("WORKFLOW_EMPTY")
                .with_errors(vec![validate::FieldError::new("definition.steps", "must not be empty")]));
        }
        Ok(())
    }
}

/// What an action gets: the step's input, or what a `foreach` says of each item.
fn acting_input(step: &Step) -> Map<String, Value> {
    match step.input.get("each") {
        Some(Value::Object(each)) if step.r#type == crate::definition::StepType::Foreach => each.clone(),
        _ => step.input.clone(),
    }
}

/// Which status a command leads to, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// On.
    Activate,
    /// Off for now.
    Pause,
    /// Off for good.
    Archive,
}

/// What a status says to a command: where it leads, nothing when it is so already.
///
/// ```
/// use workflow::workflow::{Command, WorkflowStatus, judge};
/// assert_eq!(judge(WorkflowStatus::Draft, Command::Activate).unwrap(), Some(WorkflowStatus::Active));
/// assert_eq!(judge(WorkflowStatus::Active, Command::Activate).unwrap(), None);
/// assert_eq!(judge(WorkflowStatus::Archived, Command::Activate).unwrap_err().status, 409);
/// assert_eq!(judge(WorkflowStatus::Draft, Command::Pause).unwrap_err().status, 409);
/// ```
pub fn judge(status: WorkflowStatus, command: Command) -> Result<Option<WorkflowStatus>> {
    use WorkflowStatus::{Active, Archived, Draft, Paused};
    match (command, status) {
        (Command::Activate, Active) | (Command::Pause, Paused) | (Command::Archive, Archived) => Ok(None),
        (Command::Activate, Draft | Paused) => Ok(Some(Active)),
        (Command::Pause, Active) => Ok(Some(Paused)),
        (Command::Archive, _) => Ok(Some(Archived)),
        (_, status) => Err(Problem::conflict(format!("The workflow is {status}."))),
    }
}

/// Turns a workflow on or off.
pub fn command(id: &Id, command: Command, if_match: IfMatch) -> Result<Stored<Workflow>> {
    sight::look();
    database::transaction(|transaction| {
        let mut row = entity::read::<Workflow>(transaction, id)?;
        if_match.check(row.version)?;
        let Some(status) = judge(row.status, command)? else { return Ok(row) };
        if command == Command::Activate {
            row.require_steps()?;
            row.require_sound()?;
            row.acts_for = behalf::caller();
        }
        row.status = status;
        entity::save(transaction, &mut row)?;
        schedule::set(transaction, &row)?;
        trigger::forget(transaction);
        Ok(row)
    })
}

/// The body of a copy.
#[data]
pub struct Copy {
    /// The copy's name.
    #[field(min = 1, max = 200, plain)]
    pub name: Option<String>,
}

/// Copies a workflow; the copy is a draft.
pub fn duplicate(id: &Id, copy: Option<Copy>) -> Result<Stored<Workflow>> {
    sight::look();
    database::transaction(|transaction| {
        let row = entity::read::<Workflow>(transaction, id)?;
        let named = copy.and_then(|copy| copy.name);
        let name = named.unwrap_or_else(|| format!("Copy of {}", row.name).chars().take(200).collect());
        entity::create(transaction, Workflow { name, ..row.data.clone() })
    })
}

/// What is checked: what is stored, or what is sent instead.
#[data]
pub struct Draft {
    /// Steps and variables.
    pub definition: Option<Definition>,
    /// A trigger.
    pub trigger: Option<Trigger>,
}

/// The verdict.
#[data]
pub struct Verdict {
    /// Whether it can run.
    pub valid: bool,
    /// What is wrong.
    pub errors: Vec<Flaw>,
}

/// One fault.
#[data]
pub struct Flaw {
    /// Where.
    pub field: String,
    /// What.
    pub message: String,
}

/// Checks a definition without saving it.
pub fn examine(id: &Id, draft: Option<Draft>) -> Result<Verdict> {
    let row = entity::read::<Workflow>(&Pool, id)?;
    let draft = draft.unwrap_or(Draft { definition: None, trigger: None });
    let definition = draft.definition.unwrap_or_else(|| row.definition.clone());
    let trigger = draft.trigger.unwrap_or_else(|| row.trigger.clone());
    let mut faults = trigger::faults(&trigger);
    faults.extend(check::faults(&definition));
    if definition.steps.is_empty() {
        faults.push(validate::FieldError::new("definition.steps", "must not be empty"));
    }
    let errors: Vec<Flaw> =
        faults.into_iter().map(|fault| Flaw { field: fault.field, message: fault.message }).collect();
    Ok(Verdict { valid: errors.is_empty(), errors })
}
