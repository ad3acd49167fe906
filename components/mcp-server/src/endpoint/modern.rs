//! The revision without handshake and sessions: every request says everything itself, in its body and again in its headers.

use berth_sdk::{prelude::*, serde_json::Value};

use super::{
    discover::TTL_MS,
    dispatch::{Answer, Client, answer, told},
    flow::{Flow, Inputs, Plan, plan::completed},
    http::{json_answer, refused, unsupported},
    listen,
    reply::Turn,
    tools,
};
use crate::protocol::{
    MODERN, code, headers,
    message::{self, Message, RpcError},
    meta, severity,
};

/// Lists that a client may keep for a while.
const LISTS: [&str; 4] = ["tools/list", "prompts/list", "resources/list", "resources/templates/list"];

/// Answers a message.
pub fn post(http: &Request, message: Message) -> Result<Response> {
    let request = match message {
        Message::Request(request) => request,
        // Closing a stream is what cancels here; nothing else is told without a request.
        Message::Notification { .. } => return Ok(Response::empty(202)),
        Message::Response { id, .. } => {
            let error = RpcError::new(code::INVALID_REQUEST, "Clients of this revision send no answers.");
            return Ok(refused(400, Some(&id), &error));
        }
    };
    let client = match check(http, &request) {
        Ok(client) => client,
        Err(error) => return Ok(refused(400, Some(&request.id), &error)),
    };
    if request.method == "tools/call"
        && let Some(name) = request.text("name")
        && let Some(schema) = tools::header_schema(name)?
        && let Err(error) = check_parameters(http, &request, &schema)
    {
        return Ok(refused(400, Some(&request.id), &error));
    }
    if request.method == "subscriptions/listen" {
        return listen::modern(&request);
    }
    match answer(&client, &request)? {
        Answer::Result(mut result) => {
            if LISTS.contains(&request.method.as_str())
                && let Some(members) = result.as_object_mut()
            {
                members.insert("ttlMs".into(), TTL_MS.into());
                members.insert("cacheScope".into(), "private".into());
            }
            Ok(json_answer(200, &message::result(&request.id, &completed(result, false))))
        }
        Answer::Error(error) => Ok(refused(status(&error), Some(&request.id), &error)),
        Answer::Plan(plan) => run(&request, *plan),
    }
}

/// Which status of HTTP goes with an error.
fn status(error: &RpcError) -> u16 {
    match error.code {
        code::METHOD_NOT_FOUND => 404,
        code::MISSING_CAPABILITY | code::HEADER_MISMATCH | code::UNSUPPORTED_VERSION => 400,
        _ => 200,
    }
}

fn run(request: &message::Request, plan: Plan) -> Result<Response> {
    let inputs = match Inputs::of(request) {
        Ok(inputs) => inputs,
        Err(error) => return Ok(refused(200, Some(&request.id), &error)),
    };
    if plan.is_streaming() {
        return Ok(Flow::begin(plan, inputs, None).response());
    }
    let result = match plan.round(&inputs) {
        Ok(Turn::Done(result)) => Ok(plan.completed(result)),
        Ok(Turn::Input { requests, state }) => match plan.lacking(&requests) {
            Some(lacking) => plan.missing_capability(lacking),
            None => plan.input_required(requests, state).map_err(|problem| told(&problem)),
        },
        Err(error) => Err(error),
    };
    Ok(match result {
        Ok(result) => json_answer(200, &message::result(&request.id, &result)),
        Err(error) => refused(status(&error), Some(&request.id), &error),
    })
}

fn mismatch(words: impl Into<String>) -> RpcError {
    RpcError::new(code::HEADER_MISMATCH, format!("Header mismatch: {}", words.into()))
}

/// Whether headers and body say the same, and everything that has to be said; who the client is then.
fn check(http: &Request, request: &message::Request) -> Result<Client, RpcError> {
    let header = |name: &str| http.header(name).map(|value| value.trim_matches([' ', '\t']));
    match header("mcp-method") {
        Some(method) if method == request.method => {}
        Some(_) => return Err(mismatch("Mcp-Method is not the method of the body")),
        None => return Err(mismatch("Mcp-Method is missing")),
    }
    if let Some(name) = headers::name_parameter(&request.method).and_then(|name| request.text(name)) {
        match header("mcp-name").map(headers::decode) {
            Some(Some(said)) if said == name => {}
            Some(Some(_)) => return Err(mismatch("Mcp-Name is not the name of the body")),
            Some(None) => return Err(mismatch("Mcp-Name is not well formed")),
            None => return Err(mismatch("Mcp-Name is missing")),
        }
    }
    let missing = |name: &str| RpcError::params(format!("`_meta` must have `{name}`."));
    let version = request.meta(meta::VERSION).and_then(Value::as_str).ok_or_else(|| missing(meta::VERSION))?;
    let capabilities = request
        .meta(meta::CAPABILITIES)
        .filter(|value| value.is_object())
        .ok_or_else(|| missing(meta::CAPABILITIES))?;
    match header("mcp-protocol-version") {
        Some(said) if said == version => {}
        Some(_) => return Err(mismatch("MCP-Protocol-Version is not the version of the body")),
        None => return Err(mismatch("MCP-Protocol-Version is missing")),
    }
    if version != MODERN {
        return Err(unsupported(version));
    }
    let log_level = match request.meta(meta::LOG_LEVEL) {
        None => None,
        Some(level) => {
            let level = level.as_str().and_then(severity);
            Some(level.ok_or_else(|| RpcError::params("The log level is not known."))?)
        }
    };
    Ok(Client {
        is_modern: true,
        version: version.to_string(),
        capabilities: capabilities.clone(),
        log_level,
        session_id: None,
    })
}

/// Whether the headers repeat the arguments that the tool's schema wants there.
fn check_parameters(http: &Request, request: &message::Request, schema: &Value) -> Result<(), RpcError> {
    let empty = berth_sdk::serde_json::Map::new();
    let arguments = request.params.get("arguments").and_then(Value::as_object).unwrap_or(&empty);
    for (name, path) in headers::wanted(schema) {
        let header = format!("mcp-param-{name}");
        let said = http.header(&header).map(headers::decode);
        match (headers::value_at(arguments, &path), said) {
            (None, None) => {}
            (Some(value), Some(Some(said))) if headers::is_same(&said, &value) => {}
            (_, Some(None)) => return Err(mismatch(format!("{header} is not well formed"))),
            (Some(_), None) => return Err(mismatch(format!("{header} is missing"))),
            _ => return Err(mismatch(format!("{header} is not the argument of the body"))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, params: Value) -> message::Request {
        message::Request { id: json!(1), method: method.into(), params: params.as_object().cloned().unwrap() }
    }

    fn described(more: Value) -> Value {
        let mut params = json!({"_meta": {meta::VERSION: MODERN, meta::CAPABILITIES: {}}});
        params.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        params
    }

    fn http(headers: &[(&str, &str)]) -> Request {
        headers.iter().fold(Request::new("POST", "/api/mcp"), |request, (name, value)| request.with_header(name, value))
    }

    #[test]
    fn headers_and_body_say_the_same() {
        let call = request("tools/call", described(json!({"name": "add"})));
        let sound = [("mcp-protocol-version", MODERN), ("Mcp-Method", "tools/call"), ("MCP-NAME", "  add ")];
        assert!(check(&http(&sound), &call).is_ok());
        for (index, value) in [(0, "v999"), (1, "TOOLS/CALL"), (2, "other"), (2, "=?base64?a?=")] {
            let mut wrong = sound;
            wrong[index].1 = value;
            assert_eq!(check(&http(&wrong), &call).unwrap_err().code, code::HEADER_MISMATCH, "{index} {value}");
        }
        for index in 0..3 {
            let some: Vec<_> =
                sound.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, header)| *header).collect();
            assert_eq!(check(&http(&some), &call).unwrap_err().code, code::HEADER_MISMATCH, "{index}");
        }
    }

    #[test]
    fn what_has_to_be_said_is_wanted() {
        let sound = [("mcp-protocol-version", MODERN), ("mcp-method", "server/discover")];
        let of = |meta: Value| check(&http(&sound), &request("server/discover", json!({"_meta": meta})));
        assert_eq!(of(json!({})).unwrap_err().code, code::INVALID_PARAMS);
        assert_eq!(of(json!({meta::VERSION: MODERN})).unwrap_err().code, code::INVALID_PARAMS);
        assert!(of(json!({meta::VERSION: MODERN, meta::CAPABILITIES: {}})).is_ok());
        let other = [("mcp-protocol-version", "v999"), ("mcp-method", "server/discover")];
        let params = json!({"_meta": {meta::VERSION: "v999", meta::CAPABILITIES: {}}});
        let error = check(&http(&other), &request("server/discover", params)).unwrap_err();
        assert_eq!((error.code, &error.data.unwrap()["requested"]), (code::UNSUPPORTED_VERSION, &json!("v999")));
    }

    #[test]
    fn wanted_parameters_are_repeated() {
        let schema = json!({"properties": {"region": {"type": "string", "x-mcp-header": "Region"}}});
        let call = request("tools/call", json!({"name": "x", "arguments": {"region": "Hello"}}));
        let of = |value: Option<&str>| {
            let headers: Vec<_> = value.map(|value| ("mcp-param-region", value)).into_iter().collect();
            check_parameters(&http(&headers), &call, &schema).is_ok()
        };
        assert!(of(Some("Hello")) && of(Some("=?base64?SGVsbG8=?=")));
        assert!(!of(None) && !of(Some("Other")) && !of(Some("=?base64?SGVsbG8?=")));
        let without = request("tools/call", json!({"name": "x"}));
        assert!(check_parameters(&http(&[]), &without, &schema).is_ok());
    }
}
