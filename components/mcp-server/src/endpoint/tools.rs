//! Tools: the routes that the organization offers and the caller may call, and the tools of other servers.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::{
    arguments, catalogue,
    dispatch::{Answer, Client, cursor, page},
    flow::Plan,
    offer::{self, Kind, Offered},
    reply,
};
use crate::{
    execution::{order::Order, run},
    protocol::{
        code, headers,
        message::{Request, RpcError},
    },
    settings,
    tool::{self, Level},
};

/// Between a server's name and its tool's.
const JOINT: &str = "__";

/// What is offered and may be called, in the order of names.
fn offered() -> Result<Vec<Offered>> {
    let settings = settings::of(&Pool)?;
    let catalogue = catalogue::load()?;
    let offers = offer::chosen(Kind::Tool)?;
    Ok(offer::tools(&catalogue, &settings, &offers).into_iter().filter(Offered::is_allowed).collect())
}

fn shown(offered: &Offered) -> Value {
    let mut members = Map::new();
    members.insert("name".into(), json!(offered.name));
    if let Some(title) = &offered.title {
        members.insert("title".into(), json!(title));
    }
    let words = if offered.description.is_empty() {
        format!("{} {}", offered.operation.method, offered.operation.path)
    } else {
        offered.description.clone()
    };
    members.insert("description".into(), words.into());
    members.insert("inputSchema".into(), arguments::schema(&offered.operation));
    members.insert("annotations".into(), arguments::hints(&offered.operation));
    Value::Object(members)
}

/// A tool of another server under its name here: its server's name goes before it.
struct Foreign {
    name: String,
    shown: Value,
    server_id: String,
    tool_name: String,
    is_destructive: bool,
}

fn foreign() -> Result<Vec<Foreign>> {
    if !settings::of(&Pool)?.offers_servers || !auth::has("mcp.mcp.create") {
        return Ok(Vec::new());
    }
    let servers: Vec<_> = tool::usable_servers(None)?.into_iter().filter(|server| server.is_reachable()).collect();
    let rows = Select::<tool::Tool>::new()
        .one_of("server_id", servers.iter().map(|server| server.id.as_str()))
        .equal("is_enabled", true)
        .equal("permission_level", Level::Standard)
        .limit(2_000)
        .all(&Pool)?;
    let mut found = Vec::new();
    for row in rows {
        let Some(server) = servers.iter().find(|server| server.id == row.server_id) else { continue };
        let name = format!("{}{JOINT}{}", server.name, row.name);
        let fits =
            name.len() <= 128 && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-.".contains(letter));
        if !fits {
            continue;
        }
        let words = row.description.clone().unwrap_or_else(|| row.name.clone());
        let mut schema = row.input_schema.clone();
        // What goes into headers is between this service and that server.
        if let Some(members) = schema.as_object_mut() {
            members.entry("type").or_insert_with(|| "object".into());
        }
        let mut shown =
            json!({ "name": name, "description": words, "inputSchema": plain(schema), "annotations": hints(&row) });
        if let (Some(title), Some(members)) = (&row.title, shown.as_object_mut()) {
            members.insert("title".into(), json!(title));
        }
        found.push(Foreign {
            name,
            shown,
            server_id: server.id.as_str().to_string(),
            tool_name: row.name.clone(),
            is_destructive: row.is_destructive,
        });
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(unmistakable(found))
}

/// Those whose name is that of one tool only: what a server and its tool are called must not make it another server's tool.
/// They are in the order of names.
fn unmistakable(found: Vec<Foreign>) -> Vec<Foreign> {
    let mut kept: Vec<Foreign> = Vec::with_capacity(found.len());
    let mut last: Option<String> = None;
    for tool in found {
        if last.as_deref() == Some(tool.name.as_str()) {
            kept.pop_if(|known| known.name == tool.name);
            continue;
        }
        last = Some(tool.name.clone());
        kept.push(tool);
    }
    kept
}

/// What a tool says of itself, and that it may destroy something where an administrator says so: the client asks its user then.
fn hints(tool: &tool::Tool) -> Value {
    let mut hints = tool.annotations.clone();
    if let (true, Some(members)) = (tool.is_destructive, hints.as_object_mut()) {
        members.insert("destructiveHint".into(), true.into());
        members.insert("readOnlyHint".into(), false.into());
    }
    hints
}

/// A schema without the headers it wants.
fn plain(mut schema: Value) -> Value {
    if let Value::Object(members) = &mut schema {
        members.remove("x-mcp-header");
        for (_, inner) in members.iter_mut() {
            let taken = std::mem::take(inner);
            *inner = plain(taken);
        }
    }
    schema
}

/// `tools/list`.
pub fn list(request: &Request) -> Result<Result<Value, RpcError>> {
    let offset = match cursor(request) {
        Ok(offset) => offset,
        Err(error) => return Ok(Err(error)),
    };
    let mut tools: Vec<Value> = offered()?.iter().map(shown).collect();
    tools.extend(foreign()?.into_iter().map(|tool| tool.shown));
    Ok(Ok(page("tools", tools, offset)))
}

fn arguments_of(request: &Request) -> Result<Map<String, Value>, RpcError> {
    match request.params.get("arguments") {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(arguments)) => Ok(arguments.clone()),
        Some(_) => Err(RpcError::params("`arguments` must be an object.")),
    }
}

/// `tools/call`.
pub fn call(client: &Client, request: &Request) -> Result<Answer> {
    let Some(name) = request.text("name") else {
        return Ok(Answer::Error(RpcError::params("`name` must be a text.")));
    };
    let arguments = match arguments_of(request) {
        Ok(arguments) => arguments,
        Err(error) => return Ok(Answer::Error(error)),
    };
    if let Some(offered) = offered()?.into_iter().find(|offered| offered.name == name) {
        return Ok(Answer::Plan(Box::new(Plan::tool(client, request, offered, arguments))));
    }
    if name.contains(JOINT)
        && let Some(tool) = foreign()?.into_iter().find(|tool| tool.name == name)
    {
        return Ok(Answer::Result(execute(&tool, arguments)));
    }
    Ok(Answer::Error(RpcError::new(code::INVALID_PARAMS, format!("Unknown tool: {}", short(name)))))
}

fn short(name: &str) -> String {
    name.chars().take(128).collect()
}

/// Has a tool of another server executed under all its rules.
fn execute(tool: &Foreign, arguments: Map<String, Value>) -> Value {
    let order = json!({
        "serverId": tool.server_id, "toolName": tool.tool_name, "params": arguments, "callerModule": "mcp",
        // The client has shown its user what the tool says of itself.
        "confirm": tool.is_destructive,
    });
    let outcome = berth_sdk::http::read_value::<Order>(order).and_then(|order| run::execute(&order));
    match outcome {
        Ok(outcome) => {
            let mut result = Map::new();
            for name in ["content", "structuredContent", "isError"] {
                if let Some(value) = outcome.body.get(name).filter(|value| !value.is_null()) {
                    result.insert(name.into(), value.clone());
                }
            }
            Value::Object(result)
        }
        Err(problem) => {
            let mut words = format!("{}: {}", problem.code, problem.detail);
            for error in &problem.errors {
                words.push_str(&format!("\n- {}: {}", error.field, error.message));
            }
            reply::failed(words)
        }
    }
}

/// The schema of a tool whose parameters are wanted in headers; none for others.
pub fn header_schema(name: &str) -> Result<Option<Value>> {
    let found = offered()?.into_iter().find(|offered| offered.name == name);
    let schema = found.map(|offered| arguments::schema(&offered.operation));
    Ok(schema.filter(|schema| !headers::wanted(schema).is_empty()))
}

#[cfg(test)]
mod tests {
    use berth_sdk::serde_json;

    use super::*;

    #[test]
    fn a_name_that_two_tools_would_have_is_nobodys() {
        let tool = |server: &str, name: &str| Foreign {
            name: format!("{server}{JOINT}{name}"),
            shown: Value::Null,
            server_id: server.into(),
            tool_name: name.into(),
            is_destructive: false,
        };
        let found = vec![tool("a", "b"), tool("a", "b__c"), tool("a__b", "c"), tool("a__b__c", ""), tool("d", "e")];
        let names: Vec<String> = unmistakable(found).into_iter().map(|tool| tool.name).collect();
        assert_eq!(names, ["a__b", "a__b__c__", "d__e"]);
        let thrice = ["x", "y", "z"].map(|server| Foreign { server_id: server.into(), ..tool("a", "b") });
        assert!(unmistakable(thrice.into()).is_empty());
    }

    #[test]
    fn what_an_administrator_calls_destructive_is_shown_as_that() {
        let tool = |is_destructive: bool| -> tool::Tool {
            let tool = json!({"serverId": "s", "name": "t", "inputSchema": {}, "annotations": {"readOnlyHint": true},
                "isDestructive": is_destructive, "isLongRunning": false, "isEnabled": true, "schemaHash": "h"});
            serde_json::from_value(tool).unwrap()
        };
        assert_eq!(hints(&tool(false)), json!({"readOnlyHint": true}));
        assert_eq!(hints(&tool(true)), json!({"readOnlyHint": false, "destructiveHint": true}));
    }

    #[test]
    fn headers_of_another_server_are_not_wanted_here() {
        let schema = json!({"properties": {"a": {"type": "string", "x-mcp-header": "A"}}});
        assert_eq!(plain(schema), json!({"properties": {"a": {"type": "string"}}}));
    }
}
