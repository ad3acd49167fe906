//! The revisions that begin with `initialize`: sessions, streams that can be taken up again, and batches where they are known.

use std::time::Duration;

use berth_sdk::{
    prelude::*,
    serde_json::{self, Value},
};

use super::{
    discover,
    dispatch::{Answer, Client, answer, told},
    flow::{Flow, Inputs, Plan},
    http::{json_answer, refused},
    listen,
    reply::{self, Turn},
    resources,
    session::{self, Call, SUBSCRIPTIONS_MAX, Session},
};
use crate::protocol::{
    UNNAMED, agreed, code,
    message::{self, Message, Request as Asked, RpcError},
    severity,
};

/// The last revision with batches.
const LAST_WITH_BATCHES: &str = "2025-03-26";
/// How long whoever begins a call has before it is heard of.
const FIRST_LEASE: Duration = Duration::from_secs(20);
const SESSION: &str = "mcp-session-id";

/// The session of a request; none without the header, and the answer where it is not the caller's or over.
fn session_of(http: &Request) -> Result<Result<Option<Stored<Session>>, Response>> {
    let Some(id) = http.header(SESSION).map(str::trim) else { return Ok(Ok(None)) };
    Ok(match session::find(id)? {
        Some(session) => Ok(Some(session)),
        None => Err(refused(404, None, &RpcError::new(code::INVALID_REQUEST, "There is no such session; begin anew."))),
    })
}

fn client(http: &Request, session: Option<&Stored<Session>>) -> Client {
    let named = http.header("mcp-protocol-version").map(str::trim).unwrap_or(UNNAMED);
    Client {
        is_modern: false,
        version: session.map_or(named, |session| session.protocol_version.as_str()).to_string(),
        capabilities: session.map_or_else(|| json!({}), |session| session.capabilities.clone()),
        log_level: session.map_or(Some("info"), |session| Some(session.log_level.as_str())).and_then(severity),
        session_id: session.map(|session| session.id.clone()),
    }
}

/// Answers one message.
pub fn post(http: &Request, message: Message) -> Result<Response> {
    if let Message::Request(request) = &message
        && request.method == "initialize"
    {
        return begin(request);
    }
    let session = match session_of(http)? {
        Ok(session) => session,
        Err(response) => return Ok(response),
    };
    let client = client(http, session.as_ref());
    match message {
        Message::Request(request) => {
            let takes_events = http.header("accept").unwrap_or("*/*").contains("text/event-stream");
            asked(&client, session.as_ref(), &request, takes_events)
        }
        Message::Notification { method, params } => {
            if let (Some(session), "notifications/cancelled") = (&session, method.as_str()) {
                let id = params.get("requestId").cloned().unwrap_or_default();
                session::cancel(&session.id, &message::key(&id))?;
            }
            Ok(Response::empty(202))
        }
        Message::Response { id, whole } => {
            if let Some(session) = &session {
                session::keep_reply(&session.id, &message::key(&id), &whole)?;
            }
            Ok(Response::empty(202))
        }
    }
}

fn begin(request: &Asked) -> Result<Response> {
    let Some(wanted) = request.text("protocolVersion") else {
        return Ok(refused(200, Some(&request.id), &RpcError::params("`protocolVersion` must be a text.")));
    };
    let version = agreed(wanted);
    let object =
        |name: &str| request.params.get(name).filter(|value| value.is_object()).cloned().unwrap_or_else(|| json!({}));
    let (capabilities, info) = (object("capabilities"), object("clientInfo"));
    if capabilities.to_string().len() + info.to_string().len() > 32 * 1024 {
        return Ok(refused(200, Some(&request.id), &RpcError::params("The client says too much of itself.")));
    }
    let session = session::begin(version, capabilities, info)?;
    let body = message::result(&request.id, &discover::initialized(version));
    Ok(json_answer(200, &body).with_header(SESSION, session.id.as_str()))
}

fn asked(client: &Client, session: Option<&Stored<Session>>, request: &Asked, takes_events: bool) -> Result<Response> {
    if let Some(result) = own(session, request)? {
        return Ok(written(request, result));
    }
    match answer(client, request)? {
        Answer::Result(result) => Ok(written(request, Ok(result))),
        Answer::Error(error) => Ok(written(request, Err(error))),
        Answer::Plan(plan) => run(session, request, *plan, takes_events),
    }
}

fn written(request: &Asked, result: Result<Value, RpcError>) -> Response {
    match result {
        Ok(result) => json_answer(200, &message::result(&request.id, &result)),
        Err(error) => refused(200, Some(&request.id), &error),
    }
}

/// What only these revisions have.
fn own(session: Option<&Stored<Session>>, request: &Asked) -> Result<Option<Result<Value, RpcError>>> {
    let needs_session =
        || Some(Err(RpcError::new(code::INVALID_REQUEST, "It needs a session: begin with `initialize`.")));
    Ok(match request.method.as_str() {
        "ping" => Some(Ok(json!({}))),
        "logging/setLevel" => {
            let Some(level) = request.text("level").filter(|level| severity(level).is_some()) else {
                return Ok(Some(Err(RpcError::params("`level` must be a level of log messages."))));
            };
            let Some(session) = session else { return Ok(needs_session()) };
            session::set_log_level(&session.id, level)?;
            Some(Ok(json!({})))
        }
        "resources/subscribe" | "resources/unsubscribe" => {
            let Some(uri) = request.text("uri") else {
                return Ok(Some(Err(RpcError::params("`uri` must be a text."))));
            };
            let Some(session) = session else { return Ok(needs_session()) };
            let uri: String = uri.chars().take(2_000).collect();
            if request.method == "resources/unsubscribe" {
                session::unwatch(&session.id, &uri)?;
            } else if !session::watch(&session.id, &uri, json!(resources::digest(&uri)?))? {
                let words = format!("A session watches at most {SUBSCRIPTIONS_MAX} resources.");
                return Ok(Some(Err(RpcError::params(words))));
            }
            Some(Ok(json!({})))
        }
        _ => None,
    })
}

/// Calls the route: as a stream where somebody may be asked or something is told on the way, otherwise whole.
fn run(session: Option<&Stored<Session>>, request: &Asked, plan: Plan, takes_events: bool) -> Result<Response> {
    if let Some(session) = session.filter(|_| takes_events && (plan.is_streaming() || plan.may_ask())) {
        let whole = json!({ "id": request.id, "method": request.method, "params": request.params });
        let call = Call::begin(&session.id, &message::key(&request.id), whole, FIRST_LEASE)?;
        return Ok(Flow::begin(plan, Inputs::default(), Some(call)).response());
    }
    if plan.is_streaming() && takes_events {
        return Ok(Flow::begin(plan, Inputs::default(), None).response());
    }
    Ok(written(request, whole(&plan)))
}

fn whole(plan: &Plan) -> Result<Value, RpcError> {
    match plan.round(&Inputs::default())? {
        Turn::Done(result) => Ok(plan.completed(result)),
        Turn::Input { .. } => Ok(reply::failed("Without a session and a stream nobody can be asked.")),
    }
}

/// Answers several messages at once, in the revisions that know this.
pub fn batch(http: &Request, messages: Vec<Message>) -> Result<Response> {
    let session = match session_of(http)? {
        Ok(session) => session,
        Err(response) => return Ok(response),
    };
    let client = client(http, session.as_ref());
    let begins =
        messages.iter().any(|message| matches!(message, Message::Request(request) if request.method == "initialize"));
    if client.version.as_str() > LAST_WITH_BATCHES || begins {
        return Ok(refused(400, None, &RpcError::new(code::INVALID_REQUEST, "This revision has no batches.")));
    }
    let mut answers: Vec<Value> = Vec::new();
    for message in messages {
        let Message::Request(request) = message else {
            post(http, message)?;
            continue;
        };
        let result = match own(session.as_ref(), &request)? {
            Some(result) => result,
            None => match answer(&client, &request)? {
                Answer::Result(result) => Ok(result),
                Answer::Error(error) => Err(error),
                Answer::Plan(plan) => whole(&plan),
            },
        };
        answers.push(match result {
            Ok(result) => message::result(&request.id, &result),
            Err(error) => error.answer(Some(&request.id)),
        });
    }
    if answers.is_empty() { Ok(Response::empty(202)) } else { Ok(json_answer(200, &Value::Array(answers))) }
}

/// Listens to a session, or takes up a call's stream that broke off.
pub fn get(http: &Request) -> Result<Response> {
    let session = match session_of(http)? {
        Ok(Some(session)) => session,
        Ok(None) => {
            let error =
                RpcError::new(code::INVALID_REQUEST, "A stream belongs to a session: `Mcp-Session-Id` is missing.");
            return Ok(refused(400, None, &error));
        }
        Err(response) => return Ok(response),
    };
    let last_id = http.header("last-event-id").unwrap_or_default();
    if let Some((call_id, sequence)) = last_id.rsplit_once('_')
        && let Ok(sequence) = sequence.parse::<i64>()
        && let Some(call) = Call::find(&session.id, call_id)?
    {
        return resume(http, &session, call, sequence);
    }
    listen::legacy(&session, last_id)
}

fn resume(http: &Request, session: &Stored<Session>, call: Stored<Call>, after: i64) -> Result<Response> {
    let body = serde_json::to_vec(&call.request).unwrap_or_default();
    let mut whole: Value = serde_json::from_slice(&body).unwrap_or_default();
    if let Some(members) = whole.as_object_mut() {
        members.insert("jsonrpc".into(), "2.0".into());
    }
    let read = message::read(whole.to_string().as_bytes());
    let Ok((messages, _)) = read else { return Err(Problem::internal()) };
    let Some(Message::Request(request)) = messages.into_iter().next() else { return Err(Problem::internal()) };
    // What may be called is judged anew: rights may have gone meanwhile.
    match answer(&client(http, Some(session)), &request)? {
        Answer::Plan(plan) => Ok(Flow::resume(*plan, call, after).response()),
        Answer::Error(error) => Ok(refused(200, Some(&request.id), &error)),
        Answer::Result(_) => Ok(refused(200, Some(&request.id), &told(&Problem::internal()))),
    }
}

/// Ends a session.
pub fn delete(http: &Request) -> Result<Response> {
    match session_of(http)? {
        Ok(Some(session)) => {
            session::end(&session.id)?;
            Ok(Response::empty(204))
        }
        Ok(None) => {
            let error = RpcError::new(code::INVALID_REQUEST, "`Mcp-Session-Id` is missing.");
            Ok(refused(400, None, &error))
        }
        Err(response) => Ok(response),
    }
}
