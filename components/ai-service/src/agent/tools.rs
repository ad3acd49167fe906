//! The tools of a run: which ones mcp-server has for the agent, how the model calls them, and calling them.

use std::time::Duration;

use berth_sdk::{
    http_out,
    prelude::*,
    serde_json::{self, Map, Value},
};

use crate::ask::{Tool, is_tool_name};

/// Tools that are looked at.
const LISTED_MAX: usize = 1_000;
/// Tools of one page.
const PAGE: usize = 200;
/// Tools that one run is given.
const GIVEN_MAX: usize = 128;
/// How long a list may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(29);
/// Letters of a result that the model is given.
const RESULT_LETTERS_MAX: usize = 32_000;

/// A tool, as a run knows it.
#[data]
pub struct ToolEntry {
    /// As the model calls it: letters, digits, `_` and `-`.
    pub function: String,
    /// Where it is.
    pub server_id: String,
    /// As mcp-server calls it.
    pub tool_name: String,
    /// What it is good for.
    #[field(raw)]
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Value,
    /// Somebody must agree to each call.
    pub is_destructive: bool,
}

impl ToolEntry {
    /// As a model is told of it.
    pub fn offered(&self) -> Tool {
        Tool { name: self.function.clone(), description: self.description.clone(), parameters: self.parameters.clone() }
    }
}

/// The tools that an agent names, and the names that mean nothing. 503 when mcp-server is away.
pub fn load(wanted: &[String]) -> Result<(Vec<ToolEntry>, Vec<String>)> {
    if wanted.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut listed: Vec<Value> = Vec::new();
    while listed.len() < LISTED_MAX {
        let call = http_out::plugin("mcp-server")
            .get("/api/mcp/tools")
            .query("limit", &PAGE.to_string())
            .query("offset", &listed.len().to_string());
        let page: Value = call.timeout(LIST_TIMEOUT).fetch()?;
        let items =
            page.get("items").or_else(|| page.get("tools")).and_then(Value::as_array).cloned().unwrap_or_default();
        let is_last = items.len() < PAGE;
        listed.extend(items);
        if is_last {
            break;
        }
    }
    Ok(select(wanted, &listed))
}

/// What of the listed tools is wanted.
fn select(wanted: &[String], listed: &[Value]) -> (Vec<ToolEntry>, Vec<String>) {
    let mut tools: Vec<ToolEntry> = Vec::new();
    let mut missing = Vec::new();
    for name in wanted {
        let mut is_known = false;
        for tool in listed.iter().filter(|tool| tool.get("isEnabled") != Some(&Value::Bool(false)) && means(name, tool))
        {
            is_known = true;
            let (server_id, tool_name) = (text(tool, "serverId"), text(tool, "name"));
            let is_there = tools.iter().any(|known| known.server_id == server_id && known.tool_name == tool_name);
            if is_there || tools.len() >= GIVEN_MAX {
                continue;
            }
            let parameters = tool.get("inputSchema").filter(|schema| schema.is_object()).cloned();
            tools.push(ToolEntry {
                function: function_name(&tool_name, &tools),
                description: text(tool, "description").chars().take(1_000).collect(),
                parameters: parameters.unwrap_or_else(|| json!({ "type": "object", "properties": {} })),
                is_destructive: is_destructive(tool),
                server_id,
                tool_name,
            });
        }
        if !is_known {
            missing.push(name.clone());
        }
    }
    (tools, missing)
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_string()
}

fn means(wanted: &str, tool: &Value) -> bool {
    let name = text(tool, "name");
    let has_capability =
        || tool.get("capabilities").and_then(Value::as_array).into_iter().flatten().any(|entry| entry == wanted);
    if wanted == "*" || wanted == name || has_capability() {
        return true;
    }
    let server_name = tool.pointer("/server/name").and_then(Value::as_str).unwrap_or_default().to_string();
    let servers = [text(tool, "serverId"), text(tool, "serverName"), server_name];
    servers.iter().filter(|server| !server.is_empty()).any(|server| {
        let rest = wanted.strip_prefix(server.as_str()).and_then(|rest| rest.strip_prefix('/'));
        rest.is_some_and(|rest| rest == "*" || rest == name)
    })
}

/// What mcp-server says of it, or what the tool says of itself.
fn is_destructive(tool: &Value) -> bool {
    let hint = |name: &str| tool.pointer(&format!("/annotations/{name}")).and_then(Value::as_bool);
    if let Some(said) = tool.get("isDestructive").and_then(Value::as_bool) {
        return said;
    }
    hint("destructiveHint") == Some(true) && hint("readOnlyHint") != Some(true)
}

fn function_name(name: &str, known: &[ToolEntry]) -> String {
    let fits = |letter: char| if letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-') { letter } else { '_' };
    let base: String = name.chars().map(fits).take(56).collect();
    let base = if is_tool_name(&base) { base } else { "tool".to_string() };
    let is_taken = |candidate: &String| known.iter().any(|tool| tool.function == *candidate);
    let mut candidate = base.clone();
    let mut number = 2;
    while is_taken(&candidate) {
        candidate = format!("{base}_{number}");
        number += 1;
    }
    candidate
}

/// The tool that a model means.
pub fn find<'a>(toolbox: &'a [ToolEntry], name: &str) -> Option<&'a ToolEntry> {
    let is_full = |tool: &&ToolEntry| {
        name.strip_prefix(tool.server_id.as_str()).and_then(|rest| rest.strip_prefix('/'))
            == Some(tool.tool_name.as_str())
    };
    let by = |fits: &dyn Fn(&&ToolEntry) -> bool| toolbox.iter().find(fits);
    by(&|tool| tool.function == name).or_else(|| by(&|tool| tool.tool_name == name)).or_else(|| by(&is_full))
}

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the model is told.
    pub text: String,
    /// Whether it went wrong.
    pub is_error: bool,
    /// The execution of mcp-server.
    pub execution_id: Option<String>,
}

impl Outcome {
    /// What went wrong.
    pub fn failed(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_error: true, execution_id: None }
    }
}

/// What mcp-server is asked for. Only what a person has agreed to is confirmed: a tool may have become a destructive one
/// since the run began.
fn order(tool: &ToolEntry, arguments: &Map<String, Value>, agent_id: &str, is_approved: bool) -> Value {
    json!({
        "serverId": tool.server_id, "toolName": tool.tool_name, "params": arguments, "confirm": is_approved,
        "callerModule": "ai-service", "callerAgentId": agent_id,
    })
}

/// Calls a tool through mcp-server, which checks rights, toggles, limits and arguments. The key makes a repeated message
/// call it once. An error is one that may pass; everything else the model is told.
pub fn call(
    tool: &ToolEntry,
    arguments: &Map<String, Value>,
    key: &str,
    agent_id: &str,
    is_approved: bool,
) -> Result<Outcome> {
    let order = order(tool, arguments, agent_id, is_approved);
    let call = http_out::plugin("mcp-server").post("/api/mcp/execute").json(&order);
    match call.idempotency_key(key).timeout(CALL_TIMEOUT).fetch::<Value>() {
        Ok(answer) => Ok(read(&answer)),
        Err(problem) if problem.status == 503 => Err(problem),
        Err(problem) => Ok(Outcome::failed(format!("The call failed ({}): {}", problem.code, problem.detail))),
    }
}

/// What a model is told of an answer.
fn read(answer: &Value) -> Outcome {
    let is_error = answer.get("isError") == Some(&Value::Bool(true));
    let execution_id = answer.get("executionId").and_then(Value::as_str).map(ToString::to_string);
    let parts = answer.get("content").and_then(Value::as_array);
    let texts: Vec<&str> =
        parts.into_iter().flatten().filter_map(|part| part.get("text").and_then(Value::as_str)).collect();
    let structured = answer.get("structuredContent").filter(|value| !value.is_null());
    let text = match (texts.is_empty(), structured, parts) {
        (false, ..) => texts.join("\n"),
        (true, Some(structured), _) => structured.to_string(),
        (true, None, Some(parts)) if !parts.is_empty() => Value::Array(parts.clone()).to_string(),
        (true, None, _) => answer.get("content").and_then(Value::as_str).unwrap_or_default().to_string(),
    };
    Outcome { text: cut(&text), is_error, execution_id }
}

fn cut(text: &str) -> String {
    if text.chars().nth(RESULT_LETTERS_MAX).is_none() {
        return text.to_string();
    }
    let kept: String = text.chars().take(RESULT_LETTERS_MAX).collect();
    format!("{kept}\n[cut off: the result was longer]")
}

/// The arguments of a call, as the model wrote them.
pub fn arguments(text: &str) -> Option<Map<String, Value>> {
    if text.trim().is_empty() {
        return Some(Map::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(arguments)) => Some(arguments),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed() -> Vec<Value> {
        vec![
            json!({"serverId": "s1", "serverName": "files", "name": "read", "inputSchema": {"type": "object"}, "isDestructive": false}),
            json!({"serverId": "s1", "serverName": "files", "name": "files.remove", "annotations": {"destructiveHint": true}}),
            json!({"serverId": "s2", "name": "read", "capabilities": ["notes.read"], "description": "Reads notes."}),
            json!({"serverId": "s2", "name": "off", "isEnabled": false}),
        ]
    }

    fn selected(wanted: &[&str]) -> (Vec<String>, Vec<String>) {
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_string()).collect();
        let (tools, missing) = select(&wanted, &listed());
        (
            tools.into_iter().map(|tool| format!("{}:{}/{}", tool.function, tool.server_id, tool.tool_name)).collect(),
            missing,
        )
    }

    #[test]
    fn tools_are_named_in_several_ways() {
        assert_eq!(selected(&["files/read"]).0, ["read:s1/read"]);
        assert_eq!(selected(&["s1/*"]).0, ["read:s1/read", "files_remove:s1/files.remove"]);
        assert_eq!(selected(&["read"]).0, ["read:s1/read", "read_2:s2/read"]);
        assert_eq!(selected(&["notes.read"]).0, ["read:s2/read"]);
        assert_eq!(selected(&["*"]).0.len(), 3);
        assert_eq!(selected(&["off", "nothing"]), (vec![], vec!["off".to_string(), "nothing".to_string()]));
    }

    #[test]
    fn a_model_may_use_any_of_the_names() {
        let (tools, _) = select(&["*".to_string()], &listed());
        for name in ["files_remove", "files.remove", "s1/files.remove"] {
            assert!(find(&tools, name).unwrap().is_destructive, "{name}");
        }
        assert_eq!(find(&tools, "s2/read").unwrap().function, "read_2");
        assert!(find(&tools, "write").is_none());
    }

    #[test]
    fn only_what_a_person_agreed_to_is_confirmed() {
        let (tools, _) = select(&["*".to_string()], &listed());
        for is_approved in [true, false] {
            let order = order(&tools[0], &Map::new(), "a1", is_approved);
            assert_eq!((&order["toolName"], &order["confirm"]), (&json!("read"), &json!(is_approved)));
        }
    }

    #[test]
    fn a_result_is_told_as_text_and_cut() {
        let outcome = read(&json!({"executionId": "e", "isError": false, "content": [{"type": "text", "text": "3"}]}));
        assert_eq!((outcome.text.as_str(), outcome.is_error, outcome.execution_id.as_deref()), ("3", false, Some("e")));
        assert_eq!(read(&json!({"content": [], "structuredContent": {"sum": 3}})).text, "{\"sum\":3}");
        assert!(read(&json!({"isError": true, "content": [{"type": "text", "text": "no"}]})).is_error);
        let long = read(&json!({"content": [{"type": "text", "text": "x".repeat(40_000)}]}));
        assert!(long.text.len() < 33_000 && long.text.ends_with("longer]"));
        assert!(arguments("[1]").is_none() && arguments("").unwrap().is_empty());
    }
}
