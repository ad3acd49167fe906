//! Remote workers: who has registered, and which of them holds which step. A command never runs inside the host.

use berth_sdk::{prelude::*, serde_json::Value};
use plan_rules::StepType;

use crate::{
    dispatch,
    execution::Status,
    history, lease, progress,
    run::Run,
    step::{Phase, StepRow, StepStatus},
};

/// How many waiting steps one question for work looks at.
const CANDIDATES_MAX: i64 = 20;
/// How many active workers are looked at to see whether one runs commands.
const WORKERS_MAX: i64 = 1_000;

/// A registered remote worker.
#[entity(table = "execution_workers")]
pub struct Worker {
    /// Its name.
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    /// The step types it runs.
    #[field(min = 1, max = 20)]
    pub kinds: Vec<String>,
    /// What it says of itself.
    pub labels: Option<Value>,
    /// It was heard of lately.
    pub is_active: bool,
    /// When it was last heard of.
    pub last_seen_at: Timestamp,
}

impl Worker {
    /// Whether it runs steps of a type. Other kinds may be registered; nothing is leased for them.
    fn runs(&self, kind: StepType) -> bool {
        self.kinds.iter().any(|known| StepType::parse(known) == Some(kind))
    }
}

impl Rules for Worker {
    fn check(&self, faults: &mut Faults) {
        for (index, kind) in self.kinds.iter().enumerate() {
            faults.check(&format!("kinds[{index}]"), validate::id(kind));
        }
        if self.labels.as_ref().is_some_and(|labels| !labels.is_object() || labels.to_string().len() > 8 * 1024) {
            faults.add("labels", "must be an object of at most 8 KiB");
        }
    }
}

/// The body of a registration.
#[data]
pub struct NewWorker {
    /// Its name.
    pub name: String,
    /// The step types it runs.
    pub kinds: Vec<String>,
    /// What it says of itself.
    pub labels: Option<Value>,
}

/// A step that a worker holds.
#[data]
pub struct Lease {
    /// The execution.
    pub execution_id: Id,
    /// The step's id in the plan.
    pub step_id: Id,
    /// Which attempt it is.
    pub attempt: i64,
    /// What answers for the step; shown once.
    pub lease_token: String,
    /// Until when, unless it is renewed.
    pub lease_until: Timestamp,
    /// What to do.
    pub params: Value,
}

/// The answer to a heartbeat.
#[data]
pub struct Presence {
    /// The worker.
    pub id: Id,
    /// When it was heard of.
    pub last_seen_at: Timestamp,
    /// The leases that were renewed.
    pub leases: Vec<Held>,
}

/// A lease that was renewed.
#[data]
pub struct Held {
    /// The execution.
    pub execution_id: Id,
    /// The step's id in the plan.
    pub step_id: Id,
    /// Until when.
    pub lease_until: Timestamp,
}

/// Registers a worker.
pub fn register(new: NewWorker) -> Result<Stored<Worker>> {
    let worker =
        Worker { name: new.name, kinds: new.kinds, labels: new.labels, is_active: true, last_seen_at: clock::now() };
    database::transaction(|transaction| entity::create(transaction, worker))
}

/// Notes that a worker is there, and renews what it holds.
pub fn heartbeat(id: &Id) -> Result<Presence> {
    let now = clock::now();
    let until = now.plus(lease::LEASE);
    database::transaction(|transaction| {
        seen(transaction, id, now)?;
        let rows = transaction.query(
            "SELECT execution_id, step_id FROM execution_steps WHERE organization_id = $1 AND worker_id = $2 AND status = $3 AND lease_until > $4",
            params![auth::organization_id()?, id, StepStatus::Running, now],
        )?;
        transaction.execute(
            "UPDATE execution_steps SET lease_until = $5 WHERE organization_id = $1 AND worker_id = $2 AND status = $3 AND lease_until > $4",
            params![auth::organization_id()?, id, StepStatus::Running, now, until],
        )?;
        let leases = rows
            .into_iter()
            .map(|row| {
                Ok(Held { execution_id: row.get("execution_id")?, step_id: row.get("step_id")?, lease_until: until })
            })
            .collect::<Result<_, Fault>>()?;
        Ok(Presence { id: id.clone(), last_seen_at: now, leases })
    })
}

/// Gives a worker the step that has waited longest, if one waits.
pub fn lease(id: &Id) -> Result<Option<Lease>> {
    let now = clock::now();
    let worker = database::transaction(|transaction| seen(transaction, id, now))?;
    if !worker.runs(StepType::Command) {
        return Ok(None);
    }
    let rows = database::query(
        &format!(
            "SELECT execution_id, id FROM execution_steps WHERE organization_id = $1 AND status = $2 AND (type = $3 OR phase = $4) \
             AND execution_id IN (SELECT id FROM execution_executions WHERE status IN ($5, $6)) ORDER BY updated_at, id LIMIT {CANDIDATES_MAX}"
        ),
        params![
            auth::organization_id()?,
            StepStatus::Waiting,
            StepType::Command,
            Phase::Compensate,
            Status::Running,
            Status::RollingBack,
        ],
    )?;
    for row in rows {
        let (execution_id, row_id): (Id, Id) = (row.get("execution_id")?, row.get("id")?);
        let lease = database::transaction(|transaction| take(transaction, id, &execution_id, &row_id))?;
        if lease.is_some() {
            progress::forget(&execution_id);
            return Ok(lease);
        }
    }
    Ok(None)
}

/// Forgets a worker; what it holds is lost.
pub fn deregister(id: &Id) -> Result<()> {
    let now = clock::now();
    database::transaction(|transaction| {
        seen(transaction, id, now)?;
        transaction.execute(
            "UPDATE execution_steps SET lease_until = $4 WHERE organization_id = $1 AND worker_id = $2 AND status = $3 AND lease_until > $4",
            params![auth::organization_id()?, id, StepStatus::Running, now],
        )?;
        entity::delete::<Worker>(transaction, id, IfMatch(None))
    })
}

/// Whether the caller's organization has a worker for commands that was heard of lately.
pub fn is_anybody_there(database: &dyn Executor, now: Timestamp) -> Result<bool> {
    let workers = Select::<Worker>::new()
        .equal("is_active", true)
        .condition("\"last_seen_at\" > ?", [now.minus(lease::PRESENCE)])
        .limit(WORKERS_MAX)
        .all(database)?;
    Ok(workers.iter().any(|worker| worker.runs(StepType::Command)))
}

/// The worker, noted as heard of. 404 for an unknown one, 403 for somebody else's.
fn seen(transaction: &Transaction, id: &Id, now: Timestamp) -> Result<Stored<Worker>> {
    let worker = entity::read::<Worker>(transaction, id)?;
    if worker.created_by.as_deref() != auth::principal().user_id.as_deref() {
        return Err(Problem::forbidden("The worker was registered by somebody else."));
    }
    transaction.execute(
        "UPDATE execution_workers SET is_active = $3, last_seen_at = $4, updated_at = $4 WHERE organization_id = $1 AND id = $2",
        params![auth::organization_id()?, id, true, now],
    )?;
    Ok(worker)
}

fn take(transaction: &Transaction, worker_id: &Id, execution_id: &Id, row_id: &Id) -> Result<Option<Lease>> {
    let Some(mut run) = Run::find(transaction, execution_id)? else { return Ok(None) };
    if !run.steps.iter().any(|step| step.id == *row_id) {
        return Ok(None);
    }
    let mut row = run.step(row_id)?;
    let may_run = match row.phase {
        Phase::Run => run.execution.status == Status::Running && run.execution.error.is_none(),
        Phase::Compensate => run.execution.status == Status::RollingBack,
    };
    let (kind, params) = dispatch::action(&row)?;
    if !may_run || row.status != StepStatus::Waiting || kind != StepType::Command {
        return Ok(None);
    }
    let token = lease::token();
    let until = run.now.plus(lease::LEASE);
    hold(&mut row, worker_id, &token, until, run.now);
    run.put(&mut row)?;
    let data = history::of_step(&row, json!({ "workerId": worker_id }));
    run.record("execution.step.started", Some(&row.step_id.clone()), data)?;
    run.save()?;
    Ok(Some(Lease {
        execution_id: execution_id.clone(),
        step_id: row.step_id.clone(),
        attempt: row.attempt,
        lease_token: token,
        lease_until: until,
        params,
    }))
}

fn hold(row: &mut StepRow, worker_id: &Id, token: &str, until: Timestamp, now: Timestamp) {
    row.status = StepStatus::Running;
    row.worker_id = Some(worker_id.clone());
    row.lease_token_hash = Some(lease::hash(token));
    row.lease_until = Some(until);
    row.started_at = Some(now);
}
