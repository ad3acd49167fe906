//! One execution inside one transaction: locked, read, changed, written back. Everything that changes an execution goes
//! through here, so that its events have no gap and its lock version grows.

use std::time::Duration;

use berth_sdk::{events::Message, prelude::*, serde_json::Value};

use crate::{
    execution::{Execution, Status},
    history,
    step::{StepRow, StepState, StepStatus},
};

/// The work message that moves a step.
pub const STEP_RUN: &str = "execution.step.run";
/// The work message that records what a worker has reported.
pub const WORKER_RESULT: &str = "execution.worker.result";

/// Why a step's message comes, when not to run it.
#[choice]
pub enum Cause {
    /// Its lease has run out.
    Lease,
    /// The workers it waits for are gone.
    Worker,
    /// Nobody has run it for long.
    Stuck,
}

/// What `execution.step.run` and `execution.worker.result` carry.
#[data]
pub struct StepMessage {
    /// The execution.
    pub execution_id: Id,
    /// The step's id in the plan.
    pub step_id: Id,
    /// The attempt it means; another one makes it void.
    pub attempt: i64,
    /// Why it comes, when not to run the step.
    pub cause: Option<Cause>,
}

/// An execution, locked until its transaction ends.
pub struct Run<'t> {
    /// Where it is locked.
    pub transaction: &'t Transaction,
    /// The execution.
    pub execution: Stored<Execution>,
    /// Its steps, as the scheduler sees them, in their order.
    pub steps: Vec<StepState>,
    /// The moment of everything that happens in this transaction.
    pub now: Timestamp,
}

impl<'t> Run<'t> {
    /// Locks an execution of the caller's organization and reads it. 404.
    pub fn lock(transaction: &'t Transaction, id: &Id) -> Result<Self> {
        // The row is taken before it is read: two transactions of one execution go one after the other.
        let taken = transaction.execute(
            "UPDATE execution_executions SET lock_version = lock_version + 1 WHERE organization_id = $1 AND id = $2",
            params![auth::organization_id()?, id],
        )?;
        if taken == 0 {
            return Err(Problem::missing("execution"));
        }
        let execution = entity::read::<Execution>(transaction, id)?;
        let steps = states(transaction, &execution.id)?;
        Ok(Self { transaction, execution, steps, now: clock::now() })
    }

    /// As [`Run::lock`], but none when there is no such execution any more.
    pub fn find(transaction: &'t Transaction, id: &Id) -> Result<Option<Self>> {
        match Self::lock(transaction, id) {
            Err(problem) if problem.status == 404 => Ok(None),
            result => result.map(Some),
        }
    }

    /// A step, by its id in the plan or its row's. 404.
    pub fn step(&self, id: &Id) -> Result<Stored<StepRow>> {
        let state = self.steps.iter().find(|state| state.step_id == *id || state.id == *id);
        let state = state.ok_or_else(|| Problem::missing("step"))?;
        entity::read(self.transaction, &state.id)
    }

    /// Writes a step back.
    pub fn put(&mut self, row: &mut Stored<StepRow>) -> Result<()> {
        entity::save(self.transaction, row)?;
        if let Some(state) = self.steps.iter_mut().find(|state| state.id == row.id) {
            state.status = row.status;
            state.phase = row.phase;
            state.attempt = row.attempt;
            state.completed_sequence = row.completed_sequence;
        }
        Ok(())
    }

    /// Reads the steps again, after they were written past [`Run::put`].
    pub fn reload(&mut self) -> Result<()> {
        self.steps = states(self.transaction, &self.execution.id)?;
        Ok(())
    }

    /// Writes an event with the next number and returns that. What it tells is `more`, an object.
    pub fn record(&mut self, kind: &str, step_id: Option<&Id>, more: Value) -> Result<i64> {
        let organization_id = self.organization_id()?;
        let execution = &mut self.execution;
        execution.event_sequence += 1;
        let sequence = execution.event_sequence;
        let mut data = json!({
            "executionId": execution.id,
            "planId": execution.plan_id,
            "projectId": execution.project_id,
            "sequence": sequence,
            "executionStatus": execution.status,
        });
        if let Some(data) = data.as_object_mut() {
            if let Some(step_id) = step_id {
                data.insert("stepId".into(), step_id.as_str().into());
            }
            if execution.options.dry_run {
                data.insert("dryRun".into(), true.into());
            }
            if let Value::Object(more) = more {
                data.extend(more);
            }
        }
        let event = history::Event {
            id: Id::new(),
            execution_id: execution.id.clone(),
            sequence,
            r#type: kind.to_string(),
            step_id: step_id.cloned(),
            data,
            occurred_at: self.now,
        };
        history::write(self.transaction, &organization_id, &event)?;
        Ok(sequence)
    }

    /// Lets a step run after a while: its message leaves with this transaction.
    pub fn enqueue(&self, step_id: &Id, attempt: i64, delay: Duration) -> Result<()> {
        self.send(STEP_RUN, step_id, attempt, delay)
    }

    /// Sends a work message of a step.
    pub fn send(&self, kind: &str, step_id: &Id, attempt: i64, delay: Duration) -> Result<()> {
        let message =
            StepMessage { execution_id: self.execution.id.clone(), step_id: step_id.clone(), attempt, cause: None };
        self.transaction.enqueue_message(&Message::new(kind, &message)?.after(delay))?;
        Ok(())
    }

    /// Whether a step is held by somebody.
    pub fn has_running(&self) -> bool {
        self.steps.iter().any(|step| step.status == StepStatus::Running)
    }

    /// Writes the execution back and returns it.
    pub fn save(mut self) -> Result<Stored<Execution>> {
        let count = self.steps.iter().filter(|step| step.status.is_done()).count();
        self.execution.completed_steps = i64::try_from(count).unwrap_or(i64::MAX);
        self.execution.total_steps = i64::try_from(self.steps.len()).unwrap_or(i64::MAX);
        self.execution.lease_until = self.has_running().then(|| self.now.plus(crate::lease::LEASE));
        entity::save(self.transaction, &mut self.execution)?;
        Ok(self.execution)
    }

    /// The organization it belongs to.
    pub fn organization_id(&self) -> Result<Id> {
        self.execution.organization_id.clone().ok_or_else(Problem::internal)
    }

    /// Takes the execution into a state.
    pub fn enter(&mut self, status: Status) {
        self.execution.status = status;
        match status {
            Status::Paused => self.execution.paused_at = Some(self.now),
            status if status.is_terminal() => self.execution.completed_at = Some(self.now),
            _ => {}
        }
    }
}

fn states(database: &dyn Executor, execution_id: &Id) -> Result<Vec<StepState>> {
    Ok(database::query_as(
        database,
        "SELECT id, step_id AS \"stepId\", \"order\", type, status, phase, attempt, dependencies, writes, completed_sequence AS \"completedSequence\" \
         FROM execution_steps WHERE execution_id = $1 ORDER BY \"order\"",
        params![execution_id],
    )?)
}
