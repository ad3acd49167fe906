//! Actions: what a step can do, what its input must look like, and the call that it becomes. Pure; `perform` sends it.

use std::time::Duration;

use berth_sdk::{
    http_out::{self, Call, Described},
    json,
    serde_json::{Map, Value},
    validate,
};

use crate::{allowance, failure::Failure};

/// The longest a call takes: its lease must outlast it.
const CALL_MAX: Duration = Duration::from_secs(25);
/// The longest a call takes when a step names no time.
const CALL_DEFAULT: Duration = Duration::from_secs(20);
/// What events of workflows begin with.
const CUSTOM: &str = "custom.";

/// What a step can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An address of the allow-list.
    HttpRequest,
    /// A route of another plugin that is listed.
    ServiceCall,
    /// A plan is executed; the step ends with the execution.
    ExecutionStart,
    /// An agent runs; the step ends with its run.
    AgentRun,
    /// A tool of an MCP server.
    McpTool,
    /// A notification.
    NotificationSend,
    /// A message in a conversation.
    MessagePost,
    /// A task.
    TaskCreate,
    /// A prompt is filled.
    PromptRender,
    /// An event of one's own.
    EventPublish,
    /// Values are put together; variables may be set.
    Transform,
}

impl Action {
    /// Every action with its name.
    pub const ALL: [(&'static str, Self); 11] = [
        ("http.request", Self::HttpRequest),
        ("service.call", Self::ServiceCall),
        ("execution.start", Self::ExecutionStart),
        ("agent.run", Self::AgentRun),
        ("mcp.tool", Self::McpTool),
        ("notification.send", Self::NotificationSend),
        ("message.post", Self::MessagePost),
        ("task.create", Self::TaskCreate),
        ("prompt.render", Self::PromptRender),
        ("event.publish", Self::EventPublish),
        ("transform", Self::Transform),
    ];

    /// The action of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, action)| *action)
    }

    /// Every name.
    pub fn names() -> Vec<&'static str> {
        Self::ALL.iter().map(|(name, _)| *name).collect()
    }

    /// Where a call of another plugin goes; none for what is no such call, or where the input says it.
    fn place(self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Self::ExecutionStart => ("execution-service", "/api/executions/execute"),
            Self::McpTool => ("mcp-server", "/api/mcp/execute"),
            Self::NotificationSend => ("notification-manager", "/api/notifications"),
            Self::TaskCreate => ("planning", "/api/tasks"),
            Self::PromptRender => ("prompt-management", "/api/prompts/render"),
            _ => return None,
        })
    }

    /// The permissions that whoever saves such a step must hold: an automation does nothing that its author may not do.
    /// They are those of the routes that are called. What a step reaches beyond them, rows and tools, is judged by who
    /// answers when it is done.
    pub fn permissions(self, input: &Map<String, Value>) -> Vec<String> {
        let code = match self {
            Self::HttpRequest | Self::EventPublish | Self::Transform => return Vec::new(),
            Self::ServiceCall => {
                let text = |name: &str| input.get(name).and_then(Value::as_str).unwrap_or_default();
                return allowance::permissions(&text("method").to_ascii_uppercase(), text("path"));
            }
            Self::ExecutionStart => "executions.execution.create",
            Self::AgentRun => "ai.agent.execute",
            Self::McpTool => "mcp.mcp.create",
            Self::NotificationSend => "notifications.notification.send",
            Self::MessagePost => "messaging.messaging.update",
            Self::TaskCreate => "tasks.task.create",
            Self::PromptRender => "prompts.prompt.create",
        };
        vec![code.into()]
    }
}

fn is_reference(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.contains("{{"))
}

/// What is wrong with the input of an action, by field. Values that are references are judged when they are known.
pub fn faults(action: Action, input: &Value, has_agent: bool) -> Vec<(String, String)> {
    let mut faults: Vec<(String, String)> = Vec::new();
    let mut need = |name: &str| {
        if input.get(name).is_none_or(|value| value.is_null() || value.as_str() == Some("")) {
            faults.push((name.into(), "is required".into()));
        }
    };
    let text = |name: &str| input.get(name).filter(|value| !is_reference(value)).and_then(Value::as_str);
    match action {
        Action::HttpRequest => need("url"),
        Action::ServiceCall => {
            need("method");
            need("path");
        }
        Action::ExecutionStart => need("planId"),
        Action::AgentRun if !has_agent => need("agentId"),
        Action::AgentRun | Action::Transform => {}
        Action::McpTool if input.get("capability").is_some() => {}
        Action::McpTool => {
            need("serverId");
            need("toolName");
        }
        Action::NotificationSend => ["eventType", "recipientIds", "title", "body"].map(need).into_iter().collect(),
        Action::MessagePost => ["conversationId", "content"].map(need).into_iter().collect(),
        Action::TaskCreate => need("title"),
        Action::PromptRender => {}
        Action::EventPublish => need("type"),
    }
    let method = text("method").map(str::to_ascii_uppercase);
    match action {
        Action::HttpRequest => {
            if let Some(method) = &method
                && !["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str())
            {
                faults.push(("method".into(), "must be GET, HEAD, POST, PUT, PATCH or DELETE".into()));
            }
            if let Some(Err(message)) = text("url").map(validate::url) {
                faults.push(("url".into(), message));
            }
        }
        Action::ServiceCall => {
            // What is called decides which permission the author needs: it must stand there.
            if input.get("method").is_some_and(is_reference) {
                faults.push(("method".into(), "must not be a reference".into()));
            }
            if let (Some(method), Some(path)) = (&method, input.get("path").and_then(Value::as_str))
                && let Err(message) = allowance::target(method, path)
            {
                faults.push(("path".into(), message));
            }
        }
        Action::EventPublish => {
            if let Some(kind) = text("type").filter(|kind| !is_event_type(kind)) {
                faults.push(("type".into(), format!("{kind:?} must be dotted lower case and begin with custom.")));
            }
        }
        Action::Transform if input.get("set").is_some_and(|set| !set.is_object()) => {
            faults.push(("set".into(), "must be an object of variables".into()));
        }
        _ => {}
    }
    faults
}

fn is_event_type(kind: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    kind.len() <= 200 && kind.starts_with(CUSTOM) && kind.split('.').all(is_word)
}

/// What an action becomes when its input is known.
#[derive(Clone, Debug)]
pub enum Work {
    /// It publishes an event, in the transaction of the step.
    Publish {
        /// `custom.…`.
        kind: String,
        /// Its payload.
        data: Value,
    },
    /// It sets variables and leaves a value, in the transaction of the step.
    Transform {
        /// New values by name.
        set: Map<String, Value>,
        /// The step's output.
        value: Value,
    },
    /// It calls, under a lease.
    Call(Box<Prepared>),
}

/// A call that is ready to go.
#[derive(Clone, Debug)]
pub enum Prepared {
    /// An address outside.
    Outside(Described),
    /// Another plugin. With `watch` its answer names something that goes on there, for which the step waits.
    Plugin {
        /// The call.
        call: Call,
        /// What goes on.
        watch: Option<Watch>,
    },
}

/// What a step waits for elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// An execution of a plan.
    Execution,
    /// A run of an agent.
    Agent,
}

impl Watch {
    /// The id in the answer of the start.
    pub fn id(self, answer: &Value) -> Option<String> {
        let id = match self {
            Self::Execution => answer.get("executionId").or(answer.get("id")),
            Self::Agent => answer.pointer("/execution/id").or(answer.get("executionId")).or(answer.get("id")),
        };
        id.and_then(Value::as_str).map(ToString::to_string)
    }

    /// The call that says how far it is.
    pub fn look(self, id: &str) -> Call {
        match self {
            Self::Execution => http_out::plugin("execution-service").get(&format!("/api/executions/{id}")),
            Self::Agent => http_out::plugin("ai-service").get(&format!("/api/ai/executions/{id}")),
        }
    }
}

/// Makes the work of an action. `key` names the effect: the same key is never done twice where the other side heeds it.
pub fn work(
    action: Action,
    agent_id: Option<&str>,
    input: &Value,
    key: &str,
    timeout: Option<Duration>,
) -> Result<Work, Failure> {
    if let Some((field, message)) = faults(action, input, agent_id.is_some()).into_iter().next() {
        return Err(Failure::lasting("INVALID_INPUT", format!("{field} {message}.")));
    }
    let timeout = timeout.unwrap_or(CALL_DEFAULT).clamp(Duration::from_secs(1), CALL_MAX);
    let text = |name: &str| input.get(name).and_then(Value::as_str).unwrap_or_default();
    let post = |plugin: &str, path: &str, body: &Value| {
        http_out::plugin(plugin).post(path).json(body).idempotency_key(key).timeout(timeout)
    };
    let plain = |call: Call| Ok(Work::Call(Box::new(Prepared::Plugin { call, watch: None })));
    let watched = |call: Call, watch| Ok(Work::Call(Box::new(Prepared::Plugin { call, watch: Some(watch) })));
    match action {
        Action::HttpRequest => {
            let mut input = input.clone();
            if let Some(members) = input.as_object_mut()
                && !members.contains_key("idempotencyKey")
            {
                members.insert("idempotencyKey".into(), key.into());
            }
            let mut described = Described::read(&input, timeout)?;
            described.call = with_query(described.call, &input);
            Ok(Work::Call(Box::new(Prepared::Outside(described))))
        }
        Action::ServiceCall => plain(service_call(input, key)?.timeout(timeout)),
        Action::ExecutionStart => {
            let (plugin, path) = action.place().unwrap_or_default();
            let body =
                json!({ "planId": input.get("planId"), "options": input.get("options").cloned().unwrap_or(json!({})) });
            let call = post(plugin, path, &body);
            if input.get("wait") == Some(&Value::Bool(false)) { plain(call) } else { watched(call, Watch::Execution) }
        }
        Action::AgentRun => {
            let (path, body) = agent_run(agent_id.unwrap_or_else(|| text("agentId")), input)?;
            watched(post("ai-service", &path, &body), Watch::Agent)
        }
        Action::MessagePost => {
            let (path, body) = message(text("conversationId"), input, key)?;
            plain(post("messaging", &path, &body))
        }
        // Judged once more: a value that was filled in may look like a reference itself.
        Action::EventPublish if !is_event_type(text("type")) => {
            Err(Failure::lasting("INVALID_INPUT", "type must be dotted lower case and begin with custom."))
        }
        Action::EventPublish => Ok(Work::Publish {
            kind: text("type").to_string(),
            data: input.get("data").cloned().filter(Value::is_object).unwrap_or_else(|| json!({})),
        }),
        Action::Transform => {
            let set = input.get("set").and_then(Value::as_object).cloned();
            let value = match (input.get("value"), &set) {
                (Some(value), _) => value.clone(),
                (None, Some(set)) => Value::Object(set.clone()),
                (None, None) => input.clone(),
            };
            Ok(Work::Transform { set: set.unwrap_or_default(), value })
        }
        Action::McpTool | Action::NotificationSend | Action::TaskCreate | Action::PromptRender => {
            let (plugin, path) = action.place().unwrap_or_default();
            plain(post(plugin, path, input))
        }
    }
}

fn require_id(field: &str, id: &str) -> Result<(), Failure> {
    validate::id(id).map_err(|message| Failure::lasting("INVALID_INPUT", format!("{field} {message}.")))
}

fn agent_run(id: &str, input: &Value) -> Result<(String, Value), Failure> {
    require_id("agentId", id)?;
    let member = |name: &str| input.get(name).cloned().unwrap_or_else(|| json!({}));
    let body = json!({ "input": member("input"), "context": member("context") });
    Ok((format!("/api/ai/agents/{id}/execute"), body))
}

/// A workflow speaks for itself: neither in the name of whoever happens to be behind the run nor as another service.
fn message(id: &str, input: &Value, key: &str) -> Result<(String, Value), Failure> {
    require_id("conversationId", id)?;
    let mut body = input.clone();
    if let Some(members) = body.as_object_mut() {
        members.remove("conversationId");
        members.remove("senderId");
        members.insert("senderType".into(), "system".into());
        members.entry("messageType").or_insert_with(|| "discussion".into());
        members.entry("clientMessageId").or_insert_with(|| key.into());
    }
    Ok((format!("/api/messaging/conversations/{id}/messages"), body))
}

/// Adds the parameters of `query`, with what is special in them escaped.
fn with_query(call: Call, input: &Value) -> Call {
    let parameters = input.get("query").and_then(Value::as_object).into_iter().flatten();
    parameters.fold(call, |call, (name, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), ToString::to_string);
        call.query(name, &text)
    })
}

fn service_call(input: &Value, key: &str) -> Result<Call, Failure> {
    let text = |name: &str| input.get(name).and_then(Value::as_str).unwrap_or_default();
    let (method, path) = (text("method").to_ascii_uppercase(), text("path"));
    let plugin = allowance::target(&method, path).map_err(|message| Failure::lasting("CALL_NOT_ALLOWED", message))?;
    let mut call = with_query(http_out::plugin(plugin).request(&method, path), input);
    if let Some(body) = input.get("body").filter(|body| !body.is_null()) {
        call = call.json(body);
    }
    Ok(if method == "POST" { call.idempotency_key(key) } else { call })
}

#[cfg(test)]
mod tests {
    use berth_sdk::{
        json,
        serde_json::{Map, Value},
    };

    use super::{Action, Prepared, Work, faults, work};

    fn call(action: &str, input: Value) -> Result<(String, String), String> {
        match work(Action::parse(action).unwrap(), None, &input, "k1", None) {
            Ok(Work::Call(prepared)) => Ok(match *prepared {
                Prepared::Plugin { call, .. } => {
                    (format!("{} {}", call.method, call.url), String::from_utf8(call.body).unwrap())
                }
                Prepared::Outside(described) => {
                    assert!(described.call.headers.contains(&("idempotency-key".into(), "k1".into())));
                    (format!("{} {}", described.call.method, described.call.url), String::new())
                }
            }),
            Ok(other) => panic!("{other:?}"),
            Err(failure) => Err(failure.code),
        }
    }

    #[test]
    fn an_action_becomes_a_call() {
        let url = |result: Result<(String, String), String>| result.unwrap().0;
        assert_eq!(url(call("http.request", json!({"url": "https://a.b/c"}))), "GET https://a.b/c");
        assert_eq!(
            url(call("http.request", json!({"url": "https://a.b/c", "query": {"q": "x y"}}))),
            "GET https://a.b/c?q=x%20y"
        );
        assert_eq!(
            url(call("service.call", json!({"method": "get", "path": "/api/tasks/t1", "query": {"limit": 5}}))),
            "GET http://planning.internal/api/tasks/t1?limit=5"
        );
        assert_eq!(
            url(call("message.post", json!({"conversationId": "c1", "content": "x"}))),
            "POST http://messaging.internal/api/messaging/conversations/c1/messages"
        );
        let (address, body) = call("execution.start", json!({"planId": "p1"})).unwrap();
        assert_eq!(
            (address.as_str(), body.as_str()),
            ("POST http://execution-service.internal/api/executions/execute", r#"{"planId":"p1","options":{}}"#)
        );
    }

    #[test]
    fn what_is_not_allowed_becomes_none() {
        let code = |action, input| call(action, input).unwrap_err();
        assert_eq!(code("service.call", json!({"method": "GET", "path": "/api/secrets/s1/value"})), "INVALID_INPUT");
        assert_eq!(code("service.call", json!({"method": "GET", "path": "/api/tasks/../secrets"})), "INVALID_INPUT");
        assert_eq!(code("http.request", json!({"url": "http://planning.internal/api/plans"})), "EGRESS_DENIED");
        assert_eq!(code("message.post", json!({"conversationId": "c/../x", "content": "x"})), "INVALID_INPUT");
        assert_eq!(code("task.create", json!({})), "INVALID_INPUT");
        assert_eq!(code("event.publish", json!({"type": "workflow.run.failed{{"})), "INVALID_INPUT");
        let hidden = json!({"method": "{{trigger.input.method}}", "path": "/api/tasks"});
        assert_eq!(faults(Action::ServiceCall, &hidden, false), [("method".into(), "must not be a reference".into())]);
    }

    #[test]
    fn an_author_needs_the_permissions_of_the_routes_that_are_called() {
        let needed = |action: &str, input: Value| {
            Action::parse(action).unwrap().permissions(input.as_object().unwrap_or(&Map::new()))
        };
        assert_eq!(needed("agent.run", json!({})), ["ai.agent.execute"]);
        assert_eq!(needed("notification.send", json!({})), ["notifications.notification.send"]);
        assert_eq!(needed("execution.start", json!({})), ["executions.execution.create"]);
        assert_eq!(needed("service.call", json!({"method": "put", "path": "/api/tasks/t1"})), ["tasks.task.update"]);
        assert_eq!(needed("mcp.tool", json!({})), ["mcp.mcp.create"]);
        assert!(needed("transform", json!({})).is_empty());
    }

    #[test]
    fn a_workflow_speaks_for_itself_alone() {
        let input = json!({"conversationId": "c1", "content": "x", "senderType": "agent", "senderId": "a1"});
        let (_, body) = call("message.post", input).unwrap();
        let body: Value = berth_sdk::serde_json::from_str(&body).unwrap();
        assert_eq!((&body["senderType"], &body["senderId"]), (&json!("system"), &Value::Null));
    }

    #[test]
    fn a_transform_sets_and_leaves_a_value() {
        let done = |input| match work(Action::Transform, None, &input, "k", None).unwrap() {
            Work::Transform { set, value } => (set.len(), value),
            other => panic!("{other:?}"),
        };
        assert_eq!(done(json!({"a": 1})), (0, json!({"a": 1})));
        assert_eq!(done(json!({"set": {"x": 1}})), (1, json!({"x": 1})));
        assert_eq!(done(json!({"set": {"x": 1}, "value": 2})), (1, json!(2)));
    }
}
