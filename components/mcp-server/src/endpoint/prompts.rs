//! Prompts: those of prompt-management, and routes that the organization offers as such.

use std::time::Duration;

use berth_sdk::{
    http_out,
    prelude::*,
    serde_json::{Map, Value},
};

use super::{
    catalogue,
    dispatch::{Answer, Client, cursor, page},
    flow::Plan,
    offer::{self, Kind, Offered},
    reply,
};
use crate::{
    protocol::{
        code,
        message::{Request, RpcError},
    },
    settings,
};

/// How long prompt-management may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Prompts of prompt-management that are listed.
const PROMPTS_MAX: usize = 500;
/// Rows of one question.
const ROWS: usize = 100;

fn offered() -> Result<Vec<Offered>> {
    let catalogue = catalogue::load()?;
    let offers = offer::chosen(Kind::Prompt)?;
    Ok(offer::prompts(&catalogue, &offers).into_iter().filter(Offered::is_allowed).collect())
}

/// What a route wants to be told, from the schema of its body.
fn arguments(offered: &Offered) -> Vec<Value> {
    let schema = super::arguments::schema(&offered.operation);
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|known| known == name));
    let members = schema.get("properties").and_then(Value::as_object);
    let shown = |(name, schema): (&String, &Value)| {
        let words = schema.get("description").and_then(Value::as_str).unwrap_or_default();
        json!({ "name": name, "description": words, "required": is_required(name) })
    };
    members.into_iter().flatten().map(shown).collect()
}

fn shown(offered: &Offered) -> Value {
    let words = if offered.description.is_empty() { &offered.name } else { &offered.description };
    let mut shown = json!({ "name": offered.name, "description": words, "arguments": arguments(offered) });
    if let (Some(title), Some(members)) = (&offered.title, shown.as_object_mut()) {
        members.insert("title".into(), json!(title));
    }
    shown
}

/// The prompts of prompt-management that can be filled; none where it is away or the caller may not read them.
fn managed() -> Result<Vec<Value>> {
    if !settings::of(&Pool)?.offers_defaults || !auth::has("prompts.prompt.read") {
        return Ok(Vec::new());
    }
    let mut rows: Vec<Value> = Vec::new();
    while rows.len() < PROMPTS_MAX {
        let call = http_out::plugin("prompt-management")
            .get("/api/prompts")
            .query("limit", &ROWS.to_string())
            .query("offset", &rows.len().to_string())
            .query("sortBy", "name")
            .query("order", "asc");
        let Ok(page) = call.timeout(TIMEOUT).fetch::<Value>() else { break };
        let items = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        let is_last = items.len() < ROWS;
        rows.extend(items);
        if is_last {
            break;
        }
    }
    let can = |row: &Value| {
        row.get("isActive") != Some(&Value::Bool(false))
            && row.get("publishedVersion").is_some_and(|number| !number.is_null())
    };
    Ok(rows.into_iter().filter(can).collect())
}

/// What a prompt of prompt-management wants to be told.
fn variables(id: &str) -> Vec<Value> {
    let call = http_out::plugin("prompt-management").get(&format!("/api/prompts/{id}/variables")).timeout(TIMEOUT);
    let Ok(found) = call.fetch::<Value>() else { return Vec::new() };
    let list = found.get("variables").or_else(|| found.get("items")).unwrap_or(&found);
    let shown = |variable: &Value| {
        let name = variable.get("name").and_then(Value::as_str)?;
        let words = variable.get("description").or_else(|| variable.get("displayName")).and_then(Value::as_str);
        let is_required = variable.get("isRequired") != Some(&Value::Bool(false));
        Some(json!({ "name": name, "description": words.unwrap_or_default(), "required": is_required }))
    };
    list.as_array().into_iter().flatten().filter_map(shown).collect()
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// `prompts/list`.
pub fn list(request: &Request) -> Result<Result<Value, RpcError>> {
    let offset = match cursor(request) {
        Ok(offset) => offset,
        Err(error) => return Ok(Err(error)),
    };
    let mut prompts: Vec<Value> = offered()?.iter().map(shown).collect();
    for row in managed()? {
        let name = text(&row, "name");
        if prompts.iter().any(|known| text(known, "name") == name) {
            continue;
        }
        let words =
            Some(text(&row, "description")).filter(|words| !words.is_empty()).unwrap_or(text(&row, "displayName"));
        // Its variables are asked for when it is filled: asking for each here would be a question a prompt.
        prompts
            .push(json!({ "name": name, "title": text(&row, "displayName"), "description": words, "arguments": [] }));
    }
    let mut listed = page("prompts", prompts, offset);
    describe(&mut listed)?;
    Ok(Ok(listed))
}

/// Prompts of one page whose variables are asked for.
const DESCRIBED_MAX: usize = 25;

/// Adds what the prompts of a short list want to be told.
fn describe(listed: &mut Value) -> Result<()> {
    let Some(prompts) = listed.get_mut("prompts").and_then(Value::as_array_mut) else { return Ok(()) };
    let own: Vec<String> = offered()?.into_iter().map(|offered| offered.name).collect();
    let others = prompts.iter_mut().filter(|prompt| !own.iter().any(|name| *name == text(prompt, "name")));
    for prompt in others.take(DESCRIBED_MAX) {
        let found = variables(text(prompt, "name"));
        if let Some(members) = prompt.as_object_mut() {
            members.insert("arguments".into(), Value::Array(found));
        }
    }
    Ok(())
}

fn arguments_of(request: &Request) -> Result<Map<String, Value>, RpcError> {
    match request.params.get("arguments") {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(arguments)) if arguments.values().all(Value::is_string) => Ok(arguments.clone()),
        Some(_) => Err(RpcError::params("`arguments` must be an object of texts.")),
    }
}

/// `prompts/get`.
pub fn get(client: &Client, request: &Request) -> Result<Answer> {
    let Some(name) = request.text("name") else {
        return Ok(Answer::Error(RpcError::params("`name` must be a text.")));
    };
    let given = match arguments_of(request) {
        Ok(given) => given,
        Err(error) => return Ok(Answer::Error(error)),
    };
    if let Some(offered) = offered()?.into_iter().find(|offered| offered.name == name) {
        let missing = arguments(&offered).into_iter().find(|argument| {
            argument.get("required") == Some(&Value::Bool(true)) && !given.contains_key(text(argument, "name"))
        });
        if let Some(missing) = missing {
            let words = format!("The argument {} is required.", text(&missing, "name"));
            return Ok(Answer::Error(RpcError::params(words)));
        }
        return Ok(Answer::Plan(Box::new(Plan::prompt(client, request, offered, given))));
    }
    render(name, &given)
}

/// Has prompt-management fill a prompt. Arguments are texts here: those that are JSON of another type go as that.
fn render(name: &str, given: &Map<String, Value>) -> Result<Answer> {
    let unknown = || Ok(Answer::Error(RpcError::new(code::INVALID_PARAMS, "There is no such prompt.")));
    if !settings::of(&Pool)?.offers_defaults || !auth::has("prompts.prompt.read") || name.len() > 64 {
        return unknown();
    }
    let ask = |variables: &Map<String, Value>| {
        let body = json!({ "name": name, "variables": variables });
        http_out::plugin("prompt-management").post("/api/prompts/render").json(&body).timeout(TIMEOUT).fetch::<Value>()
    };
    let answer = match ask(given) {
        Err(problem) if problem.code == "MISSING_VARIABLE" => {
            let typed = |(name, value): (&String, &Value)| {
                let read = value.as_str().and_then(|text| berth_sdk::serde_json::from_str::<Value>(text).ok());
                (name.clone(), read.filter(|read| !read.is_string()).unwrap_or_else(|| value.clone()))
            };
            ask(&given.iter().map(typed).collect())
        }
        answer => answer,
    };
    match answer {
        Ok(rendered) => {
            let words = ["content", "rendered", "text"].into_iter().find_map(|name| rendered.get(name)?.as_str());
            let message = json!({ "role": "user", "content": reply::text(words.unwrap_or_default()) });
            Ok(Answer::Result(json!({ "description": name, "messages": [message] })))
        }
        Err(problem) if problem.status == 404 => unknown(),
        Err(problem) => Ok(Answer::Error(super::dispatch::told(&problem))),
    }
}

/// The variables that a prompt's argument can have, where its schema says so.
pub fn choices(name: &str, argument: &str) -> Result<Vec<String>> {
    let Some(offered) = offered()?.into_iter().find(|offered| offered.name == name) else { return Ok(Vec::new()) };
    let schema = super::arguments::schema(&offered.operation);
    let choices = schema.pointer(&format!("/properties/{}/enum", argument.replace('~', "~0").replace('/', "~1")));
    let texts = choices.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    Ok(texts.map(ToString::to_string).collect())
}
