//! What each method answers, whatever the era.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::{completion, discover, flow::Plan, prompts, resources, tools};
use crate::protocol::{
    code,
    message::{Request, RpcError},
    severity,
};

/// Who asks, in which era, and what they can do.
#[derive(Clone, Debug)]
pub struct Client {
    /// Without handshake and session.
    pub is_modern: bool,
    /// The revision.
    pub version: String,
    /// What the client can do.
    pub capabilities: Value,
    /// From which severity on log messages are wanted; none: not at all.
    pub log_level: Option<usize>,
    /// The session, where there is one.
    pub session_id: Option<Id>,
}

impl Client {
    /// Whether the client can be asked this; the name of what it lacks otherwise.
    pub fn lacks(&self, method: &str, params: &Value) -> Option<Value> {
        let has = |name: &str| self.capabilities.get(name).is_some_and(Value::is_object);
        match method {
            "elicitation/create" if params.get("mode").and_then(Value::as_str) == Some("url") => {
                let can = self.capabilities.pointer("/elicitation/url").is_some();
                (!can).then(|| json!({ "elicitation": { "url": {} } }))
            }
            "elicitation/create" => (!has("elicitation")).then(|| json!({ "elicitation": {} })),
            "sampling/createMessage" => (!has("sampling")).then(|| json!({ "sampling": {} })),
            "roots/list" => (!has("roots")).then(|| json!({ "roots": {} })),
            _ => Some(json!({})),
        }
    }

    /// Whether a log message of this level is wanted.
    pub fn wants_log(&self, level: &str) -> bool {
        matches!((self.log_level, severity(level)), (Some(least), Some(level)) if level >= least)
    }

    /// How a resource that is not there is told of.
    pub fn resource_missing(&self, uri: &str) -> RpcError {
        let code = if self.is_modern { code::INVALID_PARAMS } else { code::RESOURCE_NOT_FOUND };
        RpcError::new(code, "Resource not found").with(json!({ "uri": uri }))
    }
}

/// An answer.
pub enum Answer {
    /// At once.
    Result(Value),
    /// No.
    Error(RpcError),
    /// When a route has been called.
    Plan(Box<Plan>),
}

impl From<Result<Value, RpcError>> for Answer {
    fn from(result: Result<Value, RpcError>) -> Self {
        match result {
            Ok(value) => Self::Result(value),
            Err(error) => Self::Error(error),
        }
    }
}

/// A problem of ours in the protocol's words.
pub fn told(problem: &Problem) -> RpcError {
    let code = if problem.status < 500 { code::INVALID_PARAMS } else { code::INTERNAL };
    RpcError::new(code, problem.detail.clone()).with(json!({ "code": problem.code, "status": problem.status }))
}

/// Where a page begins.
pub fn cursor(request: &Request) -> Result<usize, RpcError> {
    match request.params.get("cursor") {
        None | Some(Value::Null) => Ok(0),
        Some(Value::String(text)) => {
            let offset = text.strip_prefix("after-").and_then(|text| text.parse().ok());
            offset.filter(|offset| *offset < 1_000_000).ok_or_else(|| RpcError::params("There is no such cursor."))
        }
        Some(_) => Err(RpcError::params("`cursor` must be a text.")),
    }
}

/// Entries of one page.
const PAGE: usize = 200;

/// One page of a list, with what leads to the next one.
pub fn page(name: &str, entries: Vec<Value>, offset: usize) -> Value {
    let total = entries.len();
    let shown: Vec<Value> = entries.into_iter().skip(offset).take(PAGE).collect();
    let mut members = Map::new();
    let next = offset + shown.len();
    members.insert(name.into(), Value::Array(shown));
    if next < total {
        members.insert("nextCursor".into(), format!("after-{next}").into());
    }
    Value::Object(members)
}

/// Answers a request of what both eras have.
pub fn answer(client: &Client, request: &Request) -> Result<Answer> {
    Ok(match request.method.as_str() {
        "tools/list" => tools::list(request)?.into(),
        "tools/call" => tools::call(client, request)?,
        "resources/list" => resources::list(request)?.into(),
        "resources/templates/list" => resources::templates(request)?.into(),
        "resources/read" => resources::read(client, request)?,
        "prompts/list" => prompts::list(request)?.into(),
        "prompts/get" => prompts::get(client, request)?,
        "completion/complete" => completion::complete(request)?.into(),
        "server/discover" if client.is_modern => Answer::Result(discover::discovered()),
        _ => Answer::Error(RpcError::new(code::METHOD_NOT_FOUND, "Method not found")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(capabilities: Value, log_level: Option<usize>) -> Client {
        Client { is_modern: true, version: String::new(), capabilities, log_level, session_id: None }
    }

    #[test]
    fn a_client_is_asked_only_what_it_can() {
        let can = client(json!({"elicitation": {}, "roots": {"listChanged": true}}), None);
        assert!(can.lacks("elicitation/create", &json!({})).is_none() && can.lacks("roots/list", &json!({})).is_none());
        assert_eq!(can.lacks("sampling/createMessage", &json!({})), Some(json!({"sampling": {}})));
        assert!(can.lacks("elicitation/create", &json!({"mode": "url"})).is_some());
        assert!(can.lacks("tools/call", &json!({})).is_some());
    }

    #[test]
    fn log_messages_are_sent_from_a_level_on() {
        assert!(!client(json!({}), None).wants_log("emergency"));
        let client = client(json!({}), severity("warning"));
        assert!(client.wants_log("error") && !client.wants_log("info") && !client.wants_log("loud"));
    }

    #[test]
    fn a_list_comes_in_pages() {
        let entries: Vec<Value> = (0..450).map(|number| json!(number)).collect();
        let first = page("tools", entries.clone(), 0);
        assert_eq!(first["nextCursor"], "after-200");
        assert!(page("tools", entries, 400).get("nextCursor").is_none());
        let request = |cursor: Value| Request {
            id: json!(1),
            method: "tools/list".into(),
            params: json!({"cursor": cursor}).as_object().cloned().unwrap(),
        };
        assert_eq!(cursor(&request(json!("after-200"))), Ok(200));
        assert!(cursor(&request(json!("x"))).is_err() && cursor(&request(json!(7))).is_err());
    }
}
