//! `completion/complete`: what an argument could be, by its beginning.

use std::time::Duration;

use berth_sdk::{http_out, prelude::*, serde_json::Value};

use super::{prompts, resources};
use crate::protocol::message::{Request, RpcError};

/// Values of one answer, as the protocol wants it.
const VALUES_MAX: usize = 100;
/// Rows that are looked at.
const ROWS: &str = "100";
/// How long a list may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Answers with what begins like the value.
pub fn complete(request: &Request) -> Result<Result<Value, RpcError>> {
    let at = |pointer: &str| {
        let params = Value::Object(request.params.clone());
        params.pointer(pointer).and_then(Value::as_str).map(ToString::to_string)
    };
    let (Some(kind), Some(argument)) = (at("/ref/type"), at("/argument/name")) else {
        return Ok(Err(RpcError::params("`ref` and `argument` are required.")));
    };
    let begun = at("/argument/value").unwrap_or_default().to_lowercase();
    let all = match kind.as_str() {
        "ref/prompt" => prompts::choices(&at("/ref/name").unwrap_or_default(), &argument)?,
        "ref/resource" => rows(&at("/ref/uri").unwrap_or_default(), &argument)?,
        _ => return Ok(Err(RpcError::params("`ref.type` must be ref/prompt or ref/resource."))),
    };
    let values: Vec<String> = all.into_iter().filter(|value| value.to_lowercase().starts_with(&begun)).collect();
    let total = values.len();
    let shown: Vec<String> = values.into_iter().take(VALUES_MAX).collect();
    Ok(Ok(json!({ "completion": { "values": shown, "total": total, "hasMore": total > VALUES_MAX } })))
}

/// The ids of the rows that a template is about.
fn rows(template: &str, argument: &str) -> Result<Vec<String>> {
    let Some((offered, path)) = resources::collection(template, argument)? else { return Ok(Vec::new()) };
    let call = http_out::plugin(&offered.operation.plugin).get(&path).query("limit", ROWS).timeout(TIMEOUT);
    let page = call.fetch::<Value>().unwrap_or_default();
    let items = page.get("items").and_then(Value::as_array);
    let id = |row: &Value| row.get(argument).or_else(|| row.get("id"))?.as_str().map(ToString::to_string);
    Ok(items.into_iter().flatten().filter_map(id).collect())
}
