//! The start of an execution: the plan is fetched, judged and copied; rows, the first event and the first message
//! appear in one transaction.

use berth_sdk::{canonical, http_out, prelude::*, serde_json, serde_json::Value};
use plan_rules::Step;

use crate::{
    advance,
    execution::{Execution, Options, Status},
    history,
    plan::{self, Snapshot},
    run::Run,
    sight,
    step::{Phase, StepRow, StepStatus},
};

/// The body of `POST /api/executions/execute`.
#[data]
pub struct Start {
    /// The plan.
    pub plan_id: Id,
    /// How it is to run.
    pub options: Option<Options>,
}

/// What the caller gets.
#[data]
pub struct Started {
    /// The execution.
    pub id: Id,
    /// The same, under the name that others use.
    pub execution_id: Id,
    /// How far it is.
    pub status: Status,
}

/// What of a plan decides whether it may run.
#[data]
struct Approval {
    status: Option<String>,
    plan_hash: Option<String>,
    project_id: Option<Id>,
}

/// Starts a plan. 404; 403 for who only sees it; 409 when it runs already, is not ready, or has changed; 422 without steps.
pub fn execute(start: Start) -> Result<Started> {
    let planning = http_out::plugin("planning");
    let mut plan: Value = planning.get(&format!("/api/plans/{}", start.plan_id)).fetch()?;
    if plan.get("steps").is_none_or(|steps| !steps.is_array()) {
        let steps: Value = planning.get(&format!("/api/plans/{}/steps?limit=200", start.plan_id)).fetch()?;
        plan = history::with(plan, json!({ "steps": steps.get("items") }));
    }
    let approval: Approval = serde_json::from_value(plan.clone()).map_err(|error| {
        logging::warn!("a plan cannot be read", error = error);
        Problem::bad_gateway("planning answered with something else than a plan.")
    })?;
    if let Some(project_id) = &approval.project_id {
        sight::require_edit_of(project_id, || Problem::missing("plan"))?;
    }
    if let Some(active) = active(&Pool, &start.plan_id)? {
        return Err(runs_already(&active));
    }
    let snapshot = Snapshot::take(&plan)?;
    if approval.status.as_deref() != Some("ready") {
        let status = approval.status.unwrap_or_else(|| "unknown".into());
        return Err(Problem::conflict(format!("The plan is {status}, not ready.")).with_code("PLAN_NOT_READY"));
    }
    if approval.plan_hash.as_deref() != Some(plan_rules::hash::of(&plan).as_str()) {
        return Err(Problem::conflict("The plan is not the one that was approved.").with_code("PLAN_CHANGED"));
    }
    let begun = database::transaction(|transaction| begin(transaction, &start, &approval, &snapshot));
    match begun {
        // Somebody else was faster: the index lets one through.
        Err(problem) if problem.status == 409 => match active(&Pool, &start.plan_id)? {
            Some(active) => Err(runs_already(&active)),
            None => Err(problem),
        },
        result => result.map(|row| Started { id: row.id.clone(), execution_id: row.id.clone(), status: row.status }),
    }
}

/// The execution of a plan that has not ended, if there is one.
pub fn active(database: &dyn Executor, plan_id: &Id) -> Result<Option<Id>> {
    let row = database.query_one(
        "SELECT id FROM execution_executions WHERE organization_id = $1 AND plan_id = $2 \
         AND status IN ('pending', 'running', 'pausing', 'paused', 'cancelling', 'rolling_back') LIMIT 1",
        params![auth::organization_id()?, plan_id],
    )?;
    Ok(row.map(|row| row.get::<Id>("id")).transpose()?)
}

fn runs_already(id: &Id) -> Problem {
    Problem::conflict("The plan is being executed.").with_code("EXECUTION_ACTIVE").with("executionId", id.as_str())
}

fn begin(
    transaction: &Transaction,
    start: &Start,
    approval: &Approval,
    snapshot: &Snapshot,
) -> Result<Stored<Execution>> {
    let options = start.options.clone().unwrap_or_default();
    let execution = Execution {
        plan_id: start.plan_id.clone(),
        project_id: approval.project_id.clone(),
        user_id: auth::user_id()?,
        status: Status::Pending,
        current_step_id: None,
        completed_steps: 0,
        total_steps: i64::try_from(snapshot.steps.len()).unwrap_or(i64::MAX),
        plan_hash: snapshot.hash.clone(),
        plan_revision: 1,
        options: options.clone(),
        result: None,
        error: None,
        started_at: None,
        paused_at: None,
        completed_at: None,
        lease_until: None,
        lock_version: 1,
        event_sequence: 0,
        rollback_after: None,
    };
    let execution = entity::create(transaction, execution)?;
    store_plan(transaction, &execution.id, snapshot, 1, None)?;
    for step in &snapshot.steps {
        entity::create(transaction, row(&execution.id, step))?;
    }
    let mut run = Run::lock(transaction, &execution.id)?;
    let data = json!({ "steps": snapshot.steps.len(), "planHash": snapshot.hash, "options": options });
    run.record("execution.started", None, data)?;
    advance::advance(&mut run)?;
    run.save()
}

/// The row of a step that has not begun.
pub fn row(execution_id: &Id, step: &Step) -> StepRow {
    let definition = json!(step);
    StepRow {
        execution_id: execution_id.clone(),
        step_id: step.id.clone(),
        order: step.order,
        title: step.title.clone(),
        r#type: step.r#type,
        status: StepStatus::Pending,
        phase: Phase::Run,
        attempt: 0,
        input: Some(plan::shown(&step.params)),
        output: None,
        error: None,
        dependencies: step.dependencies.clone(),
        started_at: None,
        finished_at: None,
        next_attempt_at: None,
        worker_id: None,
        lease_token_hash: None,
        lease_until: None,
        reported: None,
        external_id: None,
        completed_sequence: None,
        writes: plan::writes_of(step),
        definition_hash: plan::step_hash(&definition),
        definition,
    }
}

/// Keeps a revision of the plan, and makes it the one that counts.
pub fn store_plan(
    transaction: &Transaction,
    execution_id: &Id,
    snapshot: &Snapshot,
    revision: i64,
    reason: Option<&String>,
) -> Result<()> {
    transaction.execute(
        "UPDATE execution_executions SET plan_snapshot = $2 WHERE id = $1",
        params![execution_id, &snapshot.value],
    )?;
    let user_id = auth::principal().user_id.unwrap_or_default();
    transaction.execute(
        "INSERT INTO execution_plan_revisions (id, organization_id, created_by, created_at, updated_at, version, execution_id, revision, plan, hash, changed_by, reason) \
         VALUES ($1, $2, $3, $4, $4, 1, $5, $6, $7, $8, $3, $9)",
        params![
            Id::new(),
            auth::organization_id()?,
            user_id,
            clock::now(),
            execution_id,
            revision,
            &snapshot.value,
            &snapshot.hash,
            reason.cloned(),
        ],
    )?;
    Ok(())
}

/// The plan that an execution runs by.
pub fn stored_plan(database: &dyn Executor, execution_id: &Id) -> Result<Value> {
    let row = database.query_one(
        "SELECT plan_snapshot FROM execution_executions WHERE organization_id = $1 AND id = $2",
        params![auth::organization_id()?, execution_id],
    )?;
    let row = row.ok_or_else(|| Problem::missing("execution"))?;
    Ok(row.json("plan_snapshot")?)
}

/// A short name for a digest, where ids are wanted.
pub fn short(text: &str) -> String {
    canonical::sha256_bytes(text.as_bytes()).chars().take(32).collect()
}
