//! The handlers: what a request says becomes a call of a rule, and what that says becomes an answer.

use berth_sdk::{http::Stream, page::Page, prelude::*, serde_json::Value};

use crate::{
    archive,
    checkpoint::Checkpoint,
    commands::{self, Completion},
    execution::{Command, Execution, Verdict, judge},
    history::{self, Event, EventQuery},
    plan::PlanChange,
    progress, sight,
    start::{self, Start, Started},
    step::StepRow,
    stream,
    worker::{self, NewWorker, Presence, Worker},
    workspace::{self, ArtifactQuery},
};

/// The tables that hold an execution, its own row last.
const TABLES: &[&str] = &[
    "execution_events",
    "execution_steps",
    "execution_checkpoints",
    "execution_artifacts",
    "execution_plan_revisions",
];

/// For the API's document.
#[derive(berth_sdk::schemars::JsonSchema)]
#[schemars(crate = "berth_sdk::schemars", rename_all = "camelCase")]
#[expect(dead_code, reason = "its members are written one by one")]
pub struct Progressed {
    progress: Value,
}

/// An execution and how far it is.
pub type Shown = berth_sdk::schema::With<Stored<Execution>, Progressed>;

/// A row with its `ETag`, and what else is shown of it.
fn shown(execution: &Stored<Execution>) -> Result<Response> {
    let progress = progress::of(execution)?;
    let body = history::with(Value::Object(execution.shown()), json!({ "progress": progress }));
    Ok(Response::json(200, &body)?.with_version(execution.version))
}

pub fn execute(Json(body): Json<Start>) -> Result<Accepted<Started>> {
    start::execute(body).map(Accepted)
}

pub fn read(Params(id): Params<Id>) -> Result<Response> {
    shown(&sight::read(&id)?)
}

pub fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Execution>>>> {
    sight::page(&query)
}

pub fn pause(Params(id): Params<Id>) -> Result<Response> {
    sight::require_edit(&id)?;
    shown(&commands::pause(&id)?)
}

pub fn resume(Params(id): Params<Id>) -> Result<Response> {
    sight::require_edit(&id)?;
    shown(&commands::resume(&id)?)
}

pub fn cancel(Params(id): Params<Id>) -> Result<Response> {
    sight::require_edit(&id)?;
    shown(&commands::cancel(&id)?)
}

/// Where a rollback goes back to.
#[data]
pub struct RollbackTo {
    checkpoint_id: Option<Id>,
}

pub fn rollback(Params(id): Params<Id>, body: Option<Json<RollbackTo>>) -> Result<Response> {
    sight::require_edit(&id)?;
    let checkpoint_id = body.and_then(|Json(body)| body.checkpoint_id);
    shown(&commands::rollback(&id, checkpoint_id.as_ref())?)
}

pub fn events(Params(id): Params<Id>, Query(query): Query<EventQuery>) -> Result<JsonText<Page<Event>>> {
    sight::read(&id)?;
    history::page(&id, &query)
}

pub fn stream(Params(id): Params<Id>, request: Request) -> Result<Sse> {
    let after = match request.header("last-event-id").map(str::trim).filter(|text| !text.is_empty()) {
        None => 0,
        Some(text) => text
            .parse()
            .ok()
            .filter(|sequence: &i64| *sequence >= 0)
            .ok_or_else(|| Problem::field("Last-Event-ID", "must be the sequence of an event"))?,
    };
    sight::read(&id)?;
    Ok(stream::stream(id, after))
}

/// A plan with what the execution knows of it.
fn plan_shown(execution: &Stored<Execution>, plan: Value) -> Result<Response> {
    let more = json!({
        "executionId": execution.id, "revision": execution.plan_revision, "hash": execution.plan_hash,
    });
    let plan = history::with(plan, more);
    Ok(Response::json(200, &plan)?.with_version(execution.plan_revision))
}

pub fn read_plan(Params(id): Params<Id>) -> Result<Response> {
    let execution = sight::read(&id)?;
    plan_shown(&execution, start::stored_plan(&Pool, &id)?)
}

pub fn change_plan(Params(id): Params<Id>, if_match: IfMatch, Json(body): Json<PlanChange>) -> Result<Response> {
    sight::require_edit(&id)?;
    let (execution, plan) = commands::change_plan(&id, if_match, body)?;
    plan_shown(&execution, plan)
}

pub fn steps(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<StepRow>>>> {
    sight::read(&id)?;
    Select::<StepRow>::new().equal("execution_id", id).page(&Pool, &query)
}

pub fn retry(Params((id, step_id)): Params<(Id, Id)>) -> Result<Json<Stored<StepRow>>> {
    sight::require_edit(&id)?;
    commands::retry(&id, &step_id).map(Json)
}

pub fn skip(Params((id, step_id)): Params<(Id, Id)>) -> Result<Json<Stored<StepRow>>> {
    sight::require_edit(&id)?;
    commands::skip(&id, &step_id).map(Json)
}

pub fn complete(
    Params((id, step_id)): Params<(Id, Id)>,
    body: Option<Json<Completion>>,
) -> Result<Json<Stored<StepRow>>> {
    let completion = body.map_or(Completion { lease_token: None, outcome: None, output: None }, |Json(body)| body);
    // A worker answers by its lease, and who is asked by name by that.
    if completion.lease_token.is_none() && !commands::is_asked(&id, &step_id)? {
        sight::require_edit(&id)?;
    }
    commands::complete(&id, &step_id, completion).map(Json)
}

pub fn checkpoints(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Checkpoint>>>> {
    sight::read(&id)?;
    Select::<Checkpoint>::new().equal("execution_id", id).page(&Pool, &query)
}

pub fn note_checkpoint(Params(id): Params<Id>) -> Result<Created<Stored<Checkpoint>>> {
    sight::require_edit(&id)?;
    commands::note_checkpoint(&id).map(Created)
}

pub fn artifacts(Params(id): Params<Id>, Query(query): Query<ArtifactQuery>, part: PageQuery) -> Result<Response> {
    sight::read(&id)?;
    match query.format.as_deref() {
        None | Some("json") => Response::json(200, &workspace::page(&id, &query, &part)?),
        Some("tar") => {
            let name = format!("attachment; filename=\"{id}.tar\"");
            Ok(Response::bytes(200, archive::MEDIA_TYPE, archive::whole(&id)?).with_header("content-disposition", name))
        }
        Some(_) => Err(Problem::field("format", "must be json or tar")),
    }
}

pub fn archive(Params(id): Params<Id>) -> Result<Stream> {
    sight::read(&id)?;
    Ok(archive::stream(id))
}

pub fn remove(Params(id): Params<Id>) -> Result<NoContent> {
    sight::require_edit(&id)?;
    database::transaction(|transaction| {
        let run = crate::run::Run::lock(transaction, &id)?;
        let status = run.execution.status;
        if !status.is_terminal() {
            let problem = Problem::conflict(format!("The execution is {status}: only what has ended can be deleted."));
            return Err(match judge(status, Command::Cancel) {
                Verdict::Refuse(problem) => *problem,
                _ => problem.with_code("EXECUTION_ACTIVE").with("executionId", id.as_str()),
            });
        }
        for table in TABLES {
            transaction.execute(&format!("DELETE FROM {table} WHERE execution_id = $1"), params![&id])?;
        }
        transaction.execute("DELETE FROM execution_executions WHERE id = $1", params![&id])?;
        Ok(NoContent)
    })
}

pub fn workers(query: PageQuery) -> Result<JsonText<Page<Stored<Worker>>>> {
    Select::<Worker>::new().page(&Pool, &query)
}

pub fn register(Json(body): Json<NewWorker>) -> Result<Created<Stored<Worker>>> {
    worker::register(body).map(Created)
}

pub fn heartbeat(Params(id): Params<Id>) -> Result<Json<Presence>> {
    worker::heartbeat(&id).map(Json)
}

/// What a worker is given: a step, or nothing.
pub fn lease(Params(id): Params<Id>) -> Result<Response> {
    match worker::lease(&id)? {
        Some(lease) => Response::json(200, &lease),
        None => Ok(Response::empty(204)),
    }
}

pub fn deregister(Params(id): Params<Id>) -> Result<NoContent> {
    worker::deregister(&id).map(|()| NoContent)
}
