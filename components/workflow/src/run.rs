//! One run inside one transaction: locked, read, changed, written back. Everything that changes a run goes through here, so
//! that its history has no gap and its steps are what the machine says.

use std::time::Duration;

use berth_sdk::{events::Message, prelude::*, serde_json::Value};

use crate::{
    audience::Audience,
    definition::{Definition, Step},
    history::{self, Entry, with},
    machine::{Effect, End, Machine, Node, StepStatus},
    run_row::{RunRow, RunStatus},
    step_run::{self, Brief, StepRun},
    trigger, version,
};

/// The work message that moves a step.
pub const STEP_RUN: &str = "workflow.step.run";
/// The work message that cancels a run.
pub const RUN_CANCEL: &str = "workflow.run.cancel";
/// The work message that starts the next queued run of a workflow.
pub const QUEUE_NEXT: &str = "workflow.queue.next";
/// Children of one run that are cancelled with it.
const CHILDREN_MAX: usize = 1_000;

/// Why a step's message comes, when not to run it.
#[choice]
pub enum Cause {
    /// A delay is over.
    Wake,
    /// It has waited long enough.
    Deadline,
    /// Whoever worked at it is gone.
    Lease,
    /// Nobody has run it for long.
    Stuck,
    /// The run that it waits for has ended.
    Child,
    /// It is time to ask how far something elsewhere is.
    Look,
}

/// What `workflow.step.run` carries.
#[data]
pub struct StepMessage {
    /// The run.
    pub run_id: Id,
    /// The step, or one item of it.
    pub key: String,
    /// The attempt it means; another one makes it void.
    pub attempt: i64,
    /// Why it comes, when not to run the step.
    pub cause: Option<Cause>,
}

/// What `workflow.run.cancel` carries.
#[data]
pub struct CancelMessage {
    /// The run.
    pub run_id: Id,
    /// Why.
    pub reason: String,
}

/// A run, locked until its transaction ends.
pub struct Run<'t> {
    /// Where it is locked.
    pub transaction: &'t Transaction,
    /// The run.
    pub row: Stored<RunRow>,
    /// Its version of the definition.
    pub definition: Definition,
    /// Its steps.
    pub machine: Machine,
    /// The moment of everything that happens in this transaction.
    pub now: Timestamp,
    briefs: Vec<Brief>,
    entries: Vec<Entry>,
}

impl<'t> Run<'t> {
    /// Locks a run of the caller's organization and reads it. 404.
    pub fn lock(transaction: &'t Transaction, id: &Id) -> Result<Self> {
        // The row is taken before it is read: two transactions of one run go one after the other.
        let taken = transaction.execute(
            "UPDATE workflow_runs SET lock_version = lock_version + 1 WHERE organization_id = $1 AND id = $2",
            params![auth::organization_id()?, id],
        )?;
        if taken == 0 {
            return Err(Problem::missing("run"));
        }
        let row = entity::read::<RunRow>(transaction, id)?;
        let definition = version::definition(transaction, &row.workflow_id, row.data.version)?;
        let briefs = step_run::briefs(transaction, id)?;
        Ok(Self::new(transaction, row, definition, briefs))
    }

    /// As [`Run::lock`], but none when there is no such run any more.
    pub fn find(transaction: &'t Transaction, id: &Id) -> Result<Option<Self>> {
        match Self::lock(transaction, id) {
            Err(problem) if problem.status == 404 => Ok(None),
            result => result.map(Some),
        }
    }

    /// A run that nobody else knows yet, or that is locked.
    pub fn new(transaction: &'t Transaction, row: Stored<RunRow>, definition: Definition, briefs: Vec<Brief>) -> Self {
        let dependencies = definition.dependencies();
        let node = |brief: &Brief| {
            let (place, step) = definition.step(&brief.step_id)?;
            Some(Node {
                dependencies: dependencies.get(place).cloned().unwrap_or_default(),
                continue_on_error: step.continue_on_error,
                retries: step.retries(),
                status: brief.status,
                attempt: brief.attempt,
                base: brief.attempt_base,
            })
        };
        // Rows are in the order of the definition, one for each step, or there is none yet.
        let nodes = briefs.iter().filter_map(node).collect();
        let machine = Machine::new(nodes, row.end());
        Self { transaction, row, definition, machine, now: clock::now(), briefs, entries: Vec::new() }
    }

    /// The organization it belongs to.
    pub fn organization_id(&self) -> Result<Id> {
        self.row.organization_id.clone().ok_or_else(Problem::internal)
    }

    /// A step of the definition and its place.
    pub fn step(&self, id: &str) -> Result<(usize, Step)> {
        let found = self.definition.step(id).map(|(place, step)| (place, step.clone()));
        found.ok_or_else(|| Problem::missing("step"))
    }

    /// The row of a key, if there is one.
    pub fn find_row(&self, key: &str) -> Result<Option<Stored<StepRun>>> {
        Select::<StepRun>::new().equal("run_id", &self.row.id).equal("key", key).first(self.transaction)
    }

    /// Writes an event with the next number. What it tells is `more`, an object.
    pub fn record(&mut self, kind: &str, step_id: Option<&Id>, more: Value) {
        self.row.event_sequence += 1;
        let mut data = json!({
            "runId": self.row.id, "workflowId": self.row.workflow_id, "workflowVersion": self.row.data.version,
            "sequence": self.row.event_sequence, "depth": self.row.depth,
        });
        if let Some(project_id) = &self.row.project_id {
            data = with(data, json!({ "projectId": project_id }));
        }
        if self.row.audience != Audience::Organization {
            data = with(data, json!({ "isPrivate": true, "actsFor": self.row.acts_for }));
        }
        if let Some(step_id) = step_id {
            data = with(data, json!({ "stepId": step_id }));
        }
        let entry = Entry {
            sequence: self.row.event_sequence,
            kind: kind.to_string(),
            step_id: step_id.cloned(),
            data: with(data, more),
        };
        self.entries.push(entry);
    }

    /// Sends a message of a step; its id.
    pub fn send(&self, key: &str, attempt: i64, cause: Option<Cause>, delay: Duration) -> Result<Id> {
        let message = StepMessage { run_id: self.row.id.clone(), key: key.to_string(), attempt, cause };
        self.transaction.enqueue_message(&Message::new(STEP_RUN, &message)?.after(delay))
    }

    /// Sends a row on its next attempt.
    pub fn send_row(&self, row_id: &Id, key: &str, attempt: i64, keeps_effect: bool, delay: Duration) -> Result<()> {
        let message_id = self.send(key, attempt, None, delay)?;
        let due = (!delay.is_zero()).then(|| self.now.plus(delay));
        let effect = if keeps_effect { "effect" } else { "$3" };
        self.transaction.execute(
            &format!(
                "UPDATE workflow_step_runs SET status = $2, attempt = $3, next_attempt_at = $4, message_id = $5, updated_at = $6, \
                 effect = {effect}, lease_until = NULL, deadline = NULL, external_id = NULL, finished_at = NULL, version = version + 1 \
                 WHERE id = $1"
            ),
            params![row_id, StepStatus::Pending, attempt, due, message_id, self.now],
        )?;
        Ok(())
    }

    /// Carries out what the machine has answered. A retry waits for `delay`.
    pub fn carry_out(&mut self, effects: Vec<Effect>, delay: Duration, keeps_effect: bool) -> Result<()> {
        let is_cancelling = effects.iter().any(|effect| matches!(effect, Effect::Cancel(_)));
        for effect in effects {
            match effect {
                Effect::Send { place, attempt, is_retry } => {
                    let Some(brief) = self.briefs.get(place) else { continue };
                    let (id, key) = (brief.id.clone(), brief.step_id.to_string());
                    let delay = if is_retry { delay } else { Duration::ZERO };
                    self.send_row(&id, &key, attempt, is_retry && keeps_effect, delay)?;
                }
                Effect::Skip(place) => self.leave_out(place)?,
                Effect::Cancel(_) => {}
                Effect::End(end) => {
                    if is_cancelling {
                        self.take_back()?;
                    }
                    self.end(end)?;
                }
            }
        }
        Ok(())
    }

    fn leave_out(&mut self, place: usize) -> Result<()> {
        let Some(brief) = self.briefs.get(place).cloned() else { return Ok(()) };
        self.transaction.execute(
            "UPDATE workflow_step_runs SET status = $2, finished_at = $3, updated_at = $3, version = version + 1 WHERE id = $1",
            params![&brief.id, StepStatus::Skipped, self.now],
        )?;
        self.record(
            "workflow.step.skipped",
            Some(&brief.step_id),
            json!({ "reason": "everything it waits for was skipped" }),
        );
        Ok(())
    }

    /// Cancels what is not over: steps, their items, approvals, and runs that steps wait for.
    fn take_back(&mut self) -> Result<()> {
        self.transaction.execute(
            "UPDATE workflow_step_runs SET status = $2, finished_at = $3, updated_at = $3, next_attempt_at = NULL, lease_until = NULL, \
             deadline = NULL, version = version + 1 WHERE run_id = $1 AND status IN ('pending', 'running', 'waiting')",
            params![&self.row.id, StepStatus::Cancelled, self.now],
        )?;
        self.transaction.execute(
            "UPDATE workflow_approvals SET status = 'expired', updated_at = $2, version = version + 1 \
             WHERE run_id = $1 AND status = 'pending'",
            params![&self.row.id, self.now],
        )?;
        let children = self.transaction.query(
            &format!(
                "SELECT id FROM workflow_runs WHERE parent_run_id = $1 AND status IN ('pending', 'running', 'waiting') \
                 ORDER BY id LIMIT {CHILDREN_MAX}"
            ),
            params![&self.row.id],
        )?;
        for child in children {
            let message =
                CancelMessage { run_id: child.get("id")?, reason: "The run that waits for it has ended.".into() };
            self.transaction.enqueue(RUN_CANCEL, &message, Duration::ZERO)?;
        }
        Ok(())
    }

    fn end(&mut self, end: End) -> Result<()> {
        self.row.completed_at = Some(self.now);
        let (status, kind) = match end {
            End::Completed => (RunStatus::Completed, "workflow.run.completed"),
            End::Failed(_) => (RunStatus::Failed, "workflow.run.failed"),
            End::Cancelled => (RunStatus::Cancelled, "workflow.run.cancelled"),
            End::Timeout => (RunStatus::Timeout, "workflow.run.failed"),
        };
        self.row.status = status;
        match end {
            End::Completed => {
                self.row.error = None;
                self.row.result = Some(self.outputs()?);
            }
            End::Failed(place) => self.row.error = Some(self.error_of(place)?),
            End::Timeout => {
                self.row.error = Some(json!({ "code": "RUN_TIMEOUT", "message": "The run took longer than it may." }));
            }
            End::Cancelled => {}
        }
        let took =
            self.row.started_at.map(|begun| u64::try_from(self.now.since(begun).as_millis()).unwrap_or(u64::MAX));
        let more = json!({ "status": status, "error": self.row.error, "triggerType": self.row.trigger_type, "durationMs": took });
        self.record(kind, None, more);
        if let (Some(parent), Some(key), Some(attempt)) =
            (self.row.parent_run_id.clone(), self.row.parent_step.clone(), self.row.parent_attempt)
        {
            let message = StepMessage { run_id: parent, key, attempt, cause: Some(Cause::Child) };
            self.transaction.enqueue(STEP_RUN, &message, Duration::ZERO)?;
        }
        if self.row.policy.is_serial() {
            let message = json!({ "workflowId": self.row.workflow_id });
            self.transaction.enqueue(QUEUE_NEXT, &message, Duration::ZERO)?;
        }
        Ok(())
    }

    /// The outputs of the last steps: those that are completed, and of which no completed one makes use.
    fn outputs(&self) -> Result<Value> {
        let ends: Vec<database::Value> = self
            .machine
            .last()
            .into_iter()
            .filter_map(|place| self.briefs.get(place).map(|brief| (&brief.step_id).into()))
            .collect();
        if ends.is_empty() {
            return Ok(json!({ "outputs": {} }));
        }
        let places: Vec<String> = (0..ends.len()).map(|place| format!("${}", place + 2)).collect();
        let mut values = vec![database::Value::from(&self.row.id)];
        values.extend(ends);
        let sql = format!(
            "SELECT step_id, output FROM workflow_step_runs WHERE run_id = $1 AND item_index IS NULL AND status = 'completed' \
             AND step_id IN ({}) ORDER BY place",
            places.join(", ")
        );
        let mut outputs = json!({});
        for row in self.transaction.query(&sql, &values)? {
            let (step_id, output): (String, Value) = (row.get("step_id")?, row.json("output")?);
            outputs = with(outputs, json!({ step_id: output }));
        }
        Ok(step_run::kept(json!({ "outputs": outputs })))
    }

    fn error_of(&self, place: usize) -> Result<Value> {
        let Some(brief) = self.briefs.get(place) else { return Ok(json!({ "code": "FAILED" })) };
        let row = self
            .transaction
            .query_one("SELECT error FROM workflow_step_runs WHERE id = $1", params![&brief.id])?
            .map(|row| row.json::<Value>("error"));
        let error = row.transpose()?.filter(Value::is_object);
        let error = error.unwrap_or_else(|| json!({ "code": "FAILED", "message": "The step failed." }));
        Ok(with(error, json!({ "stepId": brief.step_id })))
    }

    /// Writes history and run back and returns the run.
    pub fn save(mut self) -> Result<Stored<RunRow>> {
        if self.machine.end.is_none() && !self.row.is_queued {
            let nodes = &self.machine.nodes;
            let is_busy = nodes.iter().any(|node| node.status == StepStatus::Running || node.is_sent());
            let waits = nodes.iter().any(|node| node.status == StepStatus::Waiting);
            self.row.status = if waits && !is_busy { RunStatus::Waiting } else { RunStatus::Running };
        }
        let is_current =
            |node: &Node| matches!(node.status, StepStatus::Running | StepStatus::Waiting) || node.is_sent();
        let current = self.machine.nodes.iter().zip(&self.briefs).filter(|(node, _)| is_current(node));
        self.row.current_steps = current.map(|(_, brief)| brief.step_id.clone()).collect();
        let organization_id = self.organization_id()?;
        history::write(self.transaction, &organization_id, &self.row, &self.entries, self.now)?;
        for entry in self.entries.iter().filter(|entry| history::is_published(&entry.kind)) {
            trigger::offer_own(self.transaction, &self.row, &entry.kind, &entry.data)?;
        }
        entity::save(self.transaction, &mut self.row)?;
        Ok(self.row)
    }
}
