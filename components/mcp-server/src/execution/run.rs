//! Running an execution, at once or by a message.

use std::time::{Duration, Instant};

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::{
    Execution, Status, close, event, limits,
    order::Order,
    output::Output,
    target::{self, Judged, Target},
};
use crate::{
    peer::{Failure, Notice, Peer, Question},
    protocol::{code, headers, redact},
    server::{self, configuration::TIMEOUT, health, sync},
    settings, tool,
};

/// The message that runs one.
pub const RUN: &str = "mcp.execution.run";
/// Bytes of arguments.
const INPUT_BYTES_MAX: usize = 1 << 20;
/// Bytes of arguments that a message can carry.
const MESSAGE_BYTES_MAX: usize = 200 * 1024;
/// How often it is looked whether somebody has cancelled.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What came of an execution that was run at once, or where to look for it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// 200, or 202 when it runs afterwards.
    pub status: u16,
    /// The answer.
    pub body: Map<String, Value>,
}

/// Everything before the server is asked, and the row of it.
struct Prepared {
    target: Target,
    row: Stored<Execution>,
}

fn prepare(order: &Order, arguments: &Map<String, Value>, status: Status) -> Result<Prepared> {
    order.check()?;
    let size = Value::Object(arguments.clone()).to_string().len();
    if size > INPUT_BYTES_MAX || (status == Status::Pending && size > MESSAGE_BYTES_MAX) {
        return Err(Problem::too_large("The arguments are too large."));
    }
    settings::require_enabled(&settings::of(&Pool)?)?;
    let target = target::find(order, None)?;
    target::check_arguments(&target, arguments)?;
    let begun = database::transaction(|transaction| {
        // Held: of two at once the later one is counted after the other, and the server is not deleted meanwhile.
        let settings = settings::hold(transaction)?;
        server::hold(transaction, &target.server.id)?;
        if let Some(limit) = limits::reached(transaction, &settings, &target.server.id, &target.effective)? {
            return Ok(Err(limit));
        }
        Ok::<_, Problem>(Ok((begin(transaction, order, &target, arguments, status)?, settings)))
    })?;
    let (row, settings) = begun.map_err(|limit| limits::exceeded(&target.server, limit))?;
    let prepared = Prepared { target, row };
    if status == Status::Running
        && let Err(problem) = limits::check_turn(&settings, &prepared.target.server, &prepared.row)
    {
        prepared.end(Status::Failed, None, Some((&problem.code, &problem.detail)))?;
        return Err(problem);
    }
    Ok(prepared)
}

/// The row of an execution, with the message that runs it where it waits for its turn.
fn begin(
    transaction: &Transaction,
    order: &Order,
    target: &Target,
    arguments: &Map<String, Value>,
    status: Status,
) -> Result<Row> {
    let execution = Execution {
        server_id: target.server.id.clone(),
        tool_name: target.tool.name.clone(),
        user_id: auth::principal().user_id.map(Id::from),
        project_id: order.project_id.clone(),
        caller_module: order.module(),
        caller_agent_id: order.caller_agent_id.clone(),
        status,
        input: redact::document(&Value::Object(arguments.clone())),
        output: None,
        is_error: false,
        error_code: None,
        error: None,
        duration_ms: None,
        started_at: clock::now(),
        completed_at: None,
    };
    let row = entity::create(transaction, execution)?;
    if status == Status::Pending {
        let work = Work {
            execution_id: row.id.clone(),
            arguments: arguments.clone(),
            timeout: order.timeout,
            judged: Some(Judged { level: target.tool.permission_level, teams: auth::teams() }),
        };
        transaction.enqueue(RUN, &work, Duration::ZERO)?;
    }
    transaction.publish("mcp.tool.execution.started", &event(&row, &target.server.name))?;
    Ok(row)
}

impl Prepared {
    fn end(&self, status: Status, output: Option<&Value>, failure: Option<(&str, &str)>) -> Result<bool> {
        let name = &self.target.server.name;
        database::transaction(|transaction| close(transaction, &self.row, name, status, output, failure))
    }
}

/// Runs an order, or has it run.
pub fn execute(order: &Order) -> Result<Outcome> {
    let arguments = order.arguments()?;
    if order.r#async.unwrap_or(false) {
        let prepared = prepare(order, &arguments, Status::Pending)?;
        let mut body = head(&prepared.row, Status::Pending);
        body.insert("statusUrl".into(), format!("/api/mcp/executions/{}", prepared.row.id).into());
        return Ok(Outcome { status: 202, body });
    }
    let prepared = prepare(order, &arguments, Status::Running)?;
    let output = perform(&prepared, &arguments, order.timeout)
        .map_err(|problem| problem.with("executionId", prepared.row.id.as_str()))?;
    Ok(Outcome { status: 200, body: answer(&prepared.row, &output) })
}

fn head(row: &Row, status: Status) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("executionId".into(), json!(row.id));
    body.insert("serverId".into(), json!(row.server_id));
    body.insert("toolName".into(), json!(row.tool_name));
    body.insert("status".into(), json!(status));
    body
}

type Row = Stored<Execution>;

fn answer(row: &Row, output: &Output) -> Map<String, Value> {
    let mut body = head(row, if output.is_error { Status::Failed } else { Status::Completed });
    body.extend(output.members());
    let duration = clock::now().since(row.started_at).as_millis();
    body.insert("durationMs".into(), json!(u64::try_from(duration).unwrap_or(u64::MAX)));
    body
}

/// Asks the server and writes down what came of it.
fn perform(prepared: &Prepared, arguments: &Map<String, Value>, timeout: Option<i64>) -> Result<Output> {
    let Prepared { target, row } = prepared;
    let timeout = timeout.or(target.effective.timeout_ms).and_then(|millis| u64::try_from(millis).ok());
    let timeout = timeout.map_or(TIMEOUT, Duration::from_millis);
    let asked = ask(prepared, arguments, timeout);
    health::note(&target.server, asked.as_ref().err(), None)?;
    let failure = match asked {
        Ok(result) => {
            let output = Output::read(&result, target.tool.output_schema.as_ref());
            let words = output.words();
            let failure = output.is_error.then_some(("TOOL_ERROR", words.as_str()));
            let status = if output.is_error { Status::Failed } else { Status::Completed };
            return if prepared.end(status, Some(&output.kept()), failure)? {
                Ok(output)
            } else {
                Err(Failure::Cancelled.problem())
            };
        }
        Err(failure) => failure,
    };
    let peer = Peer::of(&target.server, target.secret_id.as_ref());
    if matches!(failure, Failure::Timeout | Failure::Cancelled) {
        peer.cancel(&json!(row.id), "Nobody waits for it any more.");
    }
    let problem = told(target, &failure);
    let status = if failure == Failure::Timeout { Status::Timeout } else { Status::Failed };
    prepared.end(status, None, Some((&problem.code, &problem.detail)))?;
    Err(problem)
}

/// What is answered for a failure. A tool that the server does not know is looked for anew.
fn told(target: &Target, failure: &Failure) -> Problem {
    let Failure::Rpc { code: code::INVALID_PARAMS, message, .. } = failure else { return failure.problem() };
    sync::again(&target.server);
    match tool::find(&Pool, &target.server.id, &target.tool.name) {
        Ok(Some(_)) => {
            let detail = format!("The server does not take the arguments: {message}");
            Problem::unprocessable(detail).with_code("INVALID_PARAMS")
        }
        _ => tool::missing(),
    }
}

fn ask(prepared: &Prepared, arguments: &Map<String, Value>, timeout: Duration) -> Result<Value, Failure> {
    let Prepared { target, row } = prepared;
    let peer = Peer::of(&target.server, target.secret_id.as_ref());
    let mut params = Map::new();
    params.insert("name".into(), json!(target.tool.name));
    params.insert("arguments".into(), Value::Object(arguments.clone()));
    let question = Question {
        id: json!(row.id),
        method: "tools/call".into(),
        params,
        headers: headers::of_call(&target.tool.input_schema, arguments),
    };
    let begun = Instant::now();
    let (retries, backoff) = retries(target);
    let mut attempt = 0;
    loop {
        let left = timeout.saturating_sub(begun.elapsed());
        let mut looked = Instant::now();
        let mut watch = |notice: Notice<'_>| {
            if matches!(notice, Notice::Quiet) && looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                return is_wanted(&row.id);
            }
            true
        };
        match peer.put(&question, left, &mut watch) {
            Err(failure) if failure.may_pass() && attempt < retries => {
                attempt += 1;
                clock::sleep(backoff.min(timeout.saturating_sub(begun.elapsed())));
            }
            Ok(result) if result.get("resultType").is_some_and(|kind| kind != "complete") => {
                return Err(Failure::Protocol("The tool asks for input that nobody can give here.".into()));
            }
            result => return result,
        }
    }
}

/// How often a call is repeated: only a tool that says that it may be.
fn retries(target: &Target) -> (u64, Duration) {
    let policy = target.effective.retry_policy.as_ref().filter(|_| target.tool.is_repeatable());
    let number = |name: &str| policy.and_then(|policy| policy.get(name)).and_then(Value::as_u64).unwrap_or(0);
    (number("maxRetries"), Duration::from_millis(number("backoffMs")))
}

fn is_wanted(id: &Id) -> bool {
    let found = database::query_one("SELECT status FROM mcp_executions WHERE id = $1", params![id]);
    // What cannot be found out does not end anything.
    !matches!(found, Ok(Some(row)) if row.get::<Status>("status").is_ok_and(Status::is_over))
}

/// The payload of [`RUN`].
#[data]
struct Work {
    execution_id: Id,
    #[field(raw)]
    arguments: Map<String, Value>,
    timeout: Option<i64>,
    judged: Option<Judged>,
}

/// Handles [`RUN`]: whoever finds the execution waiting runs it, and nobody else.
pub fn work(envelope: &Envelope) -> Result<()> {
    let work: Work = envelope.data()?;
    let sql =
        "UPDATE mcp_executions SET status = $2, updated_at = $3, version = version + 1 WHERE id = $1 AND status = $4";
    let values = params![&work.execution_id, Status::Running, clock::now(), Status::Pending];
    if database::execute(sql, values)? == 0 {
        return Ok(());
    }
    let Some(row) = entity::find::<Execution>(&Pool, &work.execution_id)? else { return Ok(()) };
    match again(&row, work.judged.as_ref()) {
        Ok(target) => {
            let prepared = Prepared { target, row };
            let outcome = perform(&prepared, &work.arguments, work.timeout);
            // It is written down: the message is not to be delivered again.
            outcome.map(|_| ()).or(Ok(()))
        }
        Err(problem) => database::transaction(|transaction| {
            let failure = (problem.code.as_ref(), problem.detail.as_str());
            close(transaction, &row, "", Status::Failed, None, Some(failure)).map(|_| ())
        }),
    }
}

/// What was found when it was asked for, as it is by now.
fn again(row: &Row, judged: Option<&Judged>) -> Result<Target> {
    let order = Order {
        server_id: Some(row.server_id.as_str().to_string()),
        tool_name: Some(row.tool_name.clone()),
        capability: None,
        params: None,
        arguments: None,
        timeout: None,
        r#async: None,
        // Who asked was judged then.
        confirm: Some(true),
        project_id: row.project_id.clone(),
        caller_module: None,
        caller_agent_id: None,
    };
    target::find(&order, judged)
}

/// The answer with its status.
pub struct Answered(pub Outcome);

impl berth_sdk::http::Answer for Answered {
    fn into_response(self) -> Result<Response> {
        Response::json(self.0.status, &self.0.body)
    }
    fn describe(route: &mut berth_sdk::router::Route) {
        route.answer(200, Some(described), None);
        route.answer(202, Some(described), None);
    }
}

fn described() -> Value {
    json!({
        "type": "object",
        "required": ["executionId", "serverId", "toolName", "status"],
        "properties": {
            "executionId": {"type": "string"}, "serverId": {"type": "string"}, "toolName": {"type": "string"},
            "status": {"enum": ["PENDING", "COMPLETED", "FAILED"]}, "content": {"type": "array", "items": {"type": "object"}},
            "structuredContent": {}, "isError": {"type": "boolean"}, "truncated": {"type": "boolean"},
            "warnings": {"type": "array", "items": {"type": "string"}}, "durationMs": {"type": "integer"},
            "statusUrl": {"type": "string"},
        },
    })
}

/// `POST /api/mcp/execute`.
pub fn post(Json(order): Json<Order>) -> Result<Answered> {
    execute(&order).map(Answered)
}

/// `POST /api/mcp/servers/{id}/tools/{name}/execute`.
pub fn post_named(request: Request) -> Result<Answered> {
    let mut request = request;
    let of = |index: usize| request.params.get(index).cloned().unwrap_or_default();
    let (server_id, name) = (Id::parse(of(0))?, of(1));
    server::read(&Pool, &server_id)?;
    let Json(mut order) = match Option::<Json<Order>>::from_request(&mut request)? {
        Some(order) => order,
        None => Json(berth_sdk::http::read_value(json!({}))?),
    };
    (order.server_id, order.tool_name, order.capability) = (Some(server_id.into_string()), Some(name), None);
    execute(&order).map(Answered)
}
