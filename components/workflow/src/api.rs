//! The routes of workflows, runs and approvals.

use std::time::Duration;

use berth_sdk::{
    http::Answer,
    prelude::*,
    router::Route,
    serde_json::{Map, Value},
};

use crate::{
    audience::Audience,
    behalf,
    gate::{self, Approval, Word},
    history::{self, EventQuery},
    machine::{Effect, StepStatus},
    run::Run,
    run_row::{self, RunBrief, RunRow, RunStatus, TriggerType},
    sight,
    start::{self, Order, Started},
    step_run::StepRun,
    sweep,
    version::{self, Version},
    workflow::{self, Command, Copy, Draft, Verdict, Workflow},
};

/// The largest input of a run, in bytes.
const INPUT_BYTES_MAX: usize = 128 * 1024;

/// The body of `POST …/execute`.
#[data]
pub struct Execute {
    /// What the run gets; `trigger.input` in references. Members named like variables set these.
    #[field(default)]
    pub input: Map<String, Value>,
}

/// What the caller gets.
#[data]
pub struct Executed {
    /// The run.
    pub id: Id,
    /// The same, under the name that others use.
    pub run_id: Id,
    /// How far it is.
    pub status: RunStatus,
    /// Whether it waits for its turn.
    pub is_queued: bool,
}

/// `POST /api/workflows/{id}/execute`.
pub fn execute(Params(id): Params<Id>, body: Option<Json<Execute>>) -> Result<Accepted<Executed>> {
    let input = body.map(|Json(body)| body.input).unwrap_or_default();
    let payload = json!({ "input": input });
    if payload.to_string().len() > INPUT_BYTES_MAX {
        return Err(Problem::too_large(format!("The input has at most {INPUT_BYTES_MAX} bytes.")));
    }
    sight::look();
    let started = database::transaction(|transaction| {
        let order = Order {
            workflow_id: id,
            project_id: None,
            audience: Audience::Organization,
            trigger_type: TriggerType::Manual,
            payload,
            trigger_key: None,
            depth: 0,
            caused_by: None,
            correlation_id: Some(auth::principal().request_id),
            parent: None,
            acts_for: behalf::caller(),
            run_id: None,
        };
        start::begin(transaction, order)
    })?;
    match started {
        Started::Run(row) => Ok(Accepted(Executed {
            id: row.id.clone(),
            run_id: row.id.clone(),
            status: row.status,
            is_queued: row.is_queued,
        })),
        Started::Existing(id) | Started::Skipped(id) => {
            Err(Problem::conflict("A run of the workflow is active, and its policy is to skip.")
                .with_code("RUN_SKIPPED")
                .with("runId", id.as_str()))
        }
        Started::Refused(problem) => Err(*problem),
    }
}

/// `POST …/activate`.
pub fn activate(Params(id): Params<Id>, if_match: IfMatch) -> Result<Stored<Workflow>> {
    workflow::command(&id, Command::Activate, if_match)
}

/// `POST …/pause`.
pub fn pause(Params(id): Params<Id>, if_match: IfMatch) -> Result<Stored<Workflow>> {
    workflow::command(&id, Command::Pause, if_match)
}

/// `POST …/archive`.
pub fn archive(Params(id): Params<Id>, if_match: IfMatch) -> Result<Stored<Workflow>> {
    workflow::command(&id, Command::Archive, if_match)
}

/// `POST …/duplicate`.
pub fn duplicate(Params(id): Params<Id>, body: Option<Json<Copy>>) -> Result<Created<Stored<Workflow>>> {
    workflow::duplicate(&id, body.map(|Json(copy)| copy)).map(Created)
}

/// `POST …/validate`.
pub fn examine(Params(id): Params<Id>, body: Option<Json<Draft>>) -> Result<Json<Verdict>> {
    workflow::examine(&id, body.map(|Json(draft)| draft)).map(Json)
}

/// `GET …/versions`.
pub fn versions(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Version>>> {
    entity::read::<Workflow>(&Pool, &id)?;
    version::page(&id, &query)
}

/// `GET …/{id}/runs`.
pub fn runs_of(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<RunBrief>>>> {
    entity::read::<Workflow>(&Pool, &id)?;
    Select::<RunBrief>::new().equal("workflow_id", id).page(&Pool, &query)
}

/// `GET /api/workflows/runs`.
pub fn runs(query: PageQuery) -> Result<JsonText<Page<Stored<RunBrief>>>> {
    Select::<RunBrief>::new().page(&Pool, &query)
}

/// `GET /api/workflows/runs/{runId}`.
pub fn run(Params(id): Params<Id>) -> Result<JsonText<Stored<RunRow>>> {
    run_row::require(&id)?;
    let (text, version) = entity::read_text::<RunRow>(&id)?;
    Ok(JsonText::new(200, text).with_version(version))
}

/// `GET …/runs/{runId}/steps`: with the items of a `foreach` after it.
pub fn steps(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<StepRun>>>> {
    run_row::require(&id)?;
    Select::<StepRun>::new().equal("run_id", id).page(&Pool, &query)
}

/// `GET …/runs/{runId}/events`.
pub fn events(Params(id): Params<Id>, Query(query): Query<EventQuery>) -> Result<JsonText<Page<history::Event>>> {
    run_row::require(&id)?;
    history::page(&id, &query)
}

/// A run that was cancelled: 200 with it, or 204 for who may only cancel it and does not see it.
pub struct Cancelled(Option<Stored<RunRow>>);

impl Answer for Cancelled {
    fn into_response(self) -> Result<Response> {
        match self.0 {
            Some(row) => row.into_response(),
            None => NoContent.into_response(),
        }
    }
    fn describe(route: &mut Route) {
        <Stored<RunRow> as Answer>::describe(route);
        <NoContent as Answer>::describe(route);
    }
}

/// `POST …/runs/{runId}/cancel`: repeating it changes nothing.
pub fn cancel(Params(id): Params<Id>) -> Result<Cancelled> {
    let is_seen = run_row::require_cancellable(&id)?;
    let row = database::transaction(|transaction| {
        let mut run = Run::lock(transaction, &id)?;
        match run.row.status {
            RunStatus::Cancelled => return Ok(run.row),
            // How it ended is told to nobody who does not see it.
            status if status.is_over() => return if is_seen { Err(over(status)) } else { Ok(run.row) },
            _ => {}
        }
        sweep::halt(&mut run, "Somebody cancelled it.")?;
        run.save()
    })?;
    Ok(Cancelled(is_seen.then_some(row)))
}

fn over(status: RunStatus) -> Problem {
    Problem::new(409, "RUN_OVER", "The run has ended", format!("The run is {status}."))
}

/// `POST …/runs/{runId}/retry`: a failed run goes on where it failed.
pub fn retry(Params(id): Params<Id>) -> Result<Response> {
    run_row::require(&id)?;
    let row = database::transaction(|transaction| {
        let mut run = Run::lock(transaction, &id)?;
        if !matches!(run.row.status, RunStatus::Failed | RunStatus::Timeout) {
            return Err(Problem::conflict(format!("The run is {}: only a failed one is retried.", run.row.status))
                .with_code("RUN_NOT_FAILED"));
        }
        start::keep(transaction, &run.row.workflow_id)?;
        let minutes = entity::read::<Workflow>(transaction, &run.row.workflow_id)?.max_run_minutes;
        reset(&mut run, minutes)?;
        let effects: Vec<Effect> = run.machine.again();
        run.carry_out(effects, Duration::ZERO, false)?;
        run.save()
    })?;
    Accepted(row).into_response()
}

/// Rows of steps that begin again; what is done stays, items of a `foreach` too.
fn reset(run: &mut Run<'_>, minutes: i64) -> Result<()> {
    let harmless: Vec<&Id> =
        run.definition.steps.iter().filter(|step| step.continue_on_error).map(|step| &step.id).collect();
    let mut values: Vec<database::Value> = vec![
        (&run.row.id).into(),
        StepStatus::Pending.into(),
        run.now.into(),
        StepStatus::Cancelled.into(),
        StepStatus::Failed.into(),
    ];
    let first = values.len() + 1;
    values.extend(harmless.iter().map(|id| database::Value::from(*id)));
    let places: Vec<String> = (first..=values.len()).map(|place| format!("${place}")).collect();
    let stays = if places.is_empty() { String::new() } else { format!(" AND step_id NOT IN ({})", places.join(", ")) };
    run.transaction.execute(
        &format!(
            "UPDATE workflow_step_runs SET status = $2, attempt_base = attempt, error = NULL, output = NULL, progress = NULL, \
             finished_at = NULL, updated_at = $3, version = version + 1 \
             WHERE run_id = $1 AND item_index IS NULL AND (status = $4 OR (status = $5{stays}))"
        ),
        &values,
    )?;
    run.row.completed_at = None;
    run.row.error = None;
    run.row.status = RunStatus::Running;
    run.row.deadline = Some(run.now.plus(Duration::from_secs(u64::try_from(minutes).unwrap_or(1) * 60)));
    let by = auth::principal().user_id;
    run.record("workflow.run.retried", None, json!({ "by": by }));
    Ok(())
}

/// `GET /api/workflows/approvals`.
pub fn approvals(query: PageQuery) -> Result<JsonText<Page<Stored<Approval>>>> {
    gate::waiting(&query)
}

/// `POST /api/workflows/approvals/{id}/approve`.
pub fn approve(Params(id): Params<Id>, body: Option<Json<Word>>) -> Result<Stored<Approval>> {
    gate::decide(&id, true, body.and_then(|Json(word)| word.comment))
}

/// `POST /api/workflows/approvals/{id}/reject`.
pub fn reject(Params(id): Params<Id>, body: Option<Json<Word>>) -> Result<Stored<Approval>> {
    gate::decide(&id, false, body.and_then(|Json(word)| word.comment))
}
