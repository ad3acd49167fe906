//! Anthropic's `/v1/messages`: the system's words apart, tool calls and their results as blocks of content.

use berth_sdk::{
    http_out::{Call, Client},
    json,
    serde_json::{self, Value},
};

use super::{Delta, Gathered, Question, count, inline_image, lines::Said};
use crate::{
    failure::{Failure, FailureKind},
    message::{Role, Turn},
};

/// The version of the interface.
const VERSION: &str = "2023-06-01";
/// It wants to be told how long an answer may be.
const MAX_TOKENS: i64 = 4_096;

/// The call that asks.
pub fn call(question: &Question<'_>) -> Result<Call, Failure> {
    let provider = question.provider;
    let base = provider.base_url.as_deref().unwrap_or("https://api.anthropic.com/v1");
    let base = base.trim_end_matches('/').trim_end_matches("/v1");
    let version = provider.api_version.as_deref().unwrap_or(VERSION);
    let call = Client::new(base).post("/v1/messages").header("anthropic-version", version);
    let call = match &provider.secret_id {
        Some(secret_id) => call.secret_header("x-api-key", secret_id),
        None => call,
    };
    Ok(call.json(&body(question)))
}

fn body(question: &Question<'_>) -> Value {
    let ask = question.ask;
    let system: Vec<String> = question.turns.iter().filter(|turn| turn.role == Role::System).map(Turn::words).collect();
    let mut messages: Vec<(&str, Vec<Value>)> = Vec::new();
    for turn in question.turns.iter().filter(|turn| turn.role != Role::System) {
        let role = if turn.role == Role::Assistant { "assistant" } else { "user" };
        // Results of several calls belong into one message.
        match messages.last_mut() {
            Some((last, blocks)) if *last == role => blocks.extend(blocks_of(turn)),
            _ => messages.push((role, blocks_of(turn))),
        }
    }
    let messages: Vec<Value> =
        messages.into_iter().map(|(role, blocks)| json!({ "role": role, "content": blocks })).collect();
    let max_tokens = question.max_tokens.or(question.model.max_output_tokens).unwrap_or(MAX_TOKENS);
    let mut body = json!({ "model": question.model.name, "messages": messages, "max_tokens": max_tokens });
    let Some(members) = body.as_object_mut() else { return body };
    let mut add = |name: &str, value: Value| members.insert(name.to_string(), value);
    let mut system = system.join("\n\n");
    if ask.response_format.is_some() {
        system.push_str("\n\nAnswer with one JSON value and nothing else.");
    }
    if !system.trim().is_empty() {
        add("system", system.trim().into());
    }
    if let Some(temperature) = question.temperature {
        // Its scale ends at 1.
        add("temperature", temperature.min(1.0).into());
    }
    if let Some(top_p) = ask.top_p {
        add("top_p", top_p.into());
    }
    if !ask.stop.is_empty() {
        add("stop_sequences", json!(ask.stop));
    }
    if !ask.tools.is_empty() {
        let tools = ask
            .tools
            .iter()
            .map(|tool| json!({ "name": tool.name, "description": tool.description, "input_schema": tool.parameters }));
        add("tools", tools.collect());
        if let Some(choice) = ask.tool_choice.as_ref().map(choice) {
            add("tool_choice", choice);
        }
    }
    if question.stream {
        add("stream", true.into());
    }
    body
}

fn choice(choice: &Value) -> Value {
    match (choice.as_str(), choice.pointer("/function/name")) {
        (Some("none"), _) => json!({ "type": "none" }),
        (Some("required"), _) => json!({ "type": "any" }),
        (_, Some(name)) => json!({ "type": "tool", "name": name }),
        _ => json!({ "type": "auto" }),
    }
}

fn blocks_of(turn: &Turn) -> Vec<Value> {
    if let Some(call_id) = &turn.call_id {
        return vec![json!({ "type": "tool_result", "tool_use_id": call_id, "content": turn.words() })];
    }
    let mut blocks = Vec::new();
    let words = turn.words();
    if !words.is_empty() {
        blocks.push(json!({ "type": "text", "text": words }));
    }
    for url in turn.images() {
        let source = match inline_image(url) {
            Some((kind, data)) => json!({ "type": "base64", "media_type": kind, "data": data }),
            None => json!({ "type": "url", "url": url }),
        };
        blocks.push(json!({ "type": "image", "source": source }));
    }
    for call in &turn.calls {
        let input: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
        blocks.push(json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": input }));
    }
    if blocks.is_empty() {
        // It takes no empty text.
        blocks.push(json!({ "type": "text", "text": "." }));
    }
    blocks
}

/// Reads a whole answer.
pub fn read(value: &Value) -> Result<Gathered, Failure> {
    if value.get("type").and_then(Value::as_str) == Some("error") {
        return Err(failed(value));
    }
    let content = value.get("content").and_then(Value::as_array);
    let content = content.ok_or_else(|| Failure::invalid("The provider answered without content."))?;
    let mut gathered = Gathered::default();
    for block in content {
        let text = |name: &str| block.get(name).and_then(Value::as_str).map(ToString::to_string);
        match block.get("type").and_then(Value::as_str) {
            Some("text") => gathered.push(&Delta::Text(text("text").unwrap_or_default())),
            Some("tool_use") => gathered.push(&Delta::Call {
                index: gathered.calls.len(),
                id: text("id"),
                name: text("name"),
                arguments: block.get("input").map(ToString::to_string).unwrap_or_default(),
            }),
            // Thoughts are not part of the answer.
            _ => {}
        }
    }
    if let Some(usage) = value.get("usage") {
        gathered.push(&counted(usage));
    }
    if let Some(reason) = value.get("stop_reason").and_then(Value::as_str) {
        gathered.push(&Delta::Finish(finish(reason)));
    }
    Ok(gathered)
}

/// Reads one event of a stream. Blocks of content are numbered among themselves; a call keeps that number.
pub fn event(value: &Value) -> Result<Said, Failure> {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(ToString::to_string);
    let index = value.get("index").and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok()).unwrap_or(0);
    let mut said = Said::default();
    match value.get("type").and_then(Value::as_str) {
        Some("message_start") => said.deltas.extend(value.pointer("/message/usage").map(counted)),
        Some("content_block_start") if text("/content_block/type").as_deref() == Some("tool_use") => {
            said.deltas.push(Delta::Call {
                index,
                id: text("/content_block/id"),
                name: text("/content_block/name"),
                arguments: String::new(),
            });
        }
        Some("content_block_delta") => match (text("/delta/text"), text("/delta/partial_json")) {
            (Some(text), _) => said.deltas.push(Delta::Text(text)),
            (None, Some(arguments)) => said.deltas.push(Delta::Call { index, id: None, name: None, arguments }),
            (None, None) => {}
        },
        Some("message_delta") => {
            said.deltas.extend(value.get("usage").map(counted));
            said.deltas.extend(text("/delta/stop_reason").map(|reason| Delta::Finish(finish(&reason))));
        }
        Some("message_stop") => said.is_end = true,
        Some("error") => return Err(failed(value)),
        _ => {}
    }
    Ok(said)
}

fn counted(usage: &Value) -> Delta {
    let parts = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"];
    let input = count(usage.get("input_tokens")).map(|_| parts.iter().filter_map(|name| count(usage.get(*name))).sum());
    Delta::Usage { input, output: count(usage.get("output_tokens")) }
}

fn finish(reason: &str) -> String {
    match reason {
        "max_tokens" | "model_context_window_exceeded" => "length",
        "tool_use" => "tool_calls",
        "refusal" => "content_filter",
        _ => "stop",
    }
    .to_string()
}

fn failed(value: &Value) -> Failure {
    let kind = match value.pointer("/error/type").and_then(Value::as_str) {
        Some("rate_limit_error") => FailureKind::RateLimited,
        Some("authentication_error" | "permission_error" | "billing_error") => FailureKind::Auth,
        _ => FailureKind::Server,
    };
    Failure::new(kind, "The provider failed in the middle of its answer.")
}
