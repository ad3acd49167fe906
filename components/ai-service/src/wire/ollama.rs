//! Ollama's `/api/chat`: JSON line by line, arguments of tools as objects, images beside the text.

use berth_sdk::{
    http_out::{Call, Client},
    json,
    serde_json::{self, Map, Value},
};

use super::{Delta, Gathered, Question, count, inline_image, lines::Said};
use crate::{
    failure::{Failure, FailureKind},
    message::Turn,
};

/// The call that asks.
pub fn call(question: &Question<'_>) -> Result<Call, Failure> {
    let provider = question.provider;
    let base = provider.base_url.as_deref().ok_or_else(|| {
        Failure::new(FailureKind::Denied, format!("The provider {} has no address: set a base URL.", provider.name))
    })?;
    let call = Client::new(base).post("/api/chat");
    let call = match &provider.secret_id {
        Some(secret_id) => call.auth_secret_id(secret_id.as_str()),
        None => call,
    };
    Ok(call.json(&body(question)))
}

fn body(question: &Question<'_>) -> Value {
    let ask = question.ask;
    let mut options = Map::new();
    options.extend(question.temperature.map(|value| ("temperature".to_string(), json!(value))));
    options.extend(ask.top_p.map(|value| ("top_p".to_string(), json!(value))));
    options.extend(question.max_tokens.map(|value| ("num_predict".to_string(), json!(value))));
    if !ask.stop.is_empty() {
        options.insert("stop".into(), json!(ask.stop));
    }
    let messages: Vec<Value> = question.turns.iter().map(|turn| message(turn, question.turns)).collect();
    let mut body = json!({
        "model": question.model.name, "messages": messages, "stream": question.stream, "options": options,
    });
    let Some(members) = body.as_object_mut() else { return body };
    if !ask.tools.is_empty() {
        let tools = ask.tools.iter().map(|tool| {
            json!({ "type": "function", "function": { "name": tool.name, "description": tool.description, "parameters": tool.parameters } })
        });
        members.insert("tools".into(), tools.collect());
    }
    if let Some(format) = &ask.response_format {
        let schema = format.pointer("/json_schema/schema").cloned();
        members.insert("format".into(), schema.unwrap_or_else(|| "json".into()));
    }
    body
}

fn message(turn: &Turn, all: &[Turn]) -> Value {
    let mut message = json!({ "role": turn.role, "content": turn.words() });
    let Some(members) = message.as_object_mut() else { return message };
    let images: Vec<&str> = turn.images().into_iter().filter_map(inline_image).map(|(_, data)| data).collect();
    if !images.is_empty() {
        members.insert("images".into(), json!(images));
    }
    if !turn.calls.is_empty() {
        let calls = turn.calls.iter().map(|call| {
            let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
            json!({ "function": { "name": call.name, "arguments": arguments } })
        });
        members.insert("tool_calls".into(), calls.collect());
    }
    if let Some(call_id) = &turn.call_id {
        let called = all.iter().flat_map(|turn| &turn.calls).find(|call| call.id == *call_id);
        members.extend(called.map(|call| ("tool_name".to_string(), json!(call.name))));
    }
    message
}

/// Reads a whole answer.
pub fn read(value: &Value) -> Result<Gathered, Failure> {
    let mut calls = 0;
    let said = event(value, &mut calls)?;
    if value.get("message").is_none() {
        return Err(Failure::invalid("The provider answered without a message."));
    }
    let mut gathered = Gathered::default();
    said.deltas.iter().for_each(|delta| gathered.push(delta));
    Ok(gathered)
}

/// Reads one line of a stream. Its calls have neither id nor number: they are counted here.
pub fn event(value: &Value, calls: &mut usize) -> Result<Said, Failure> {
    if value.get("error").is_some_and(|error| !error.is_null()) {
        return Err(Failure::new(FailureKind::Server, "The provider failed in the middle of its answer."));
    }
    let mut said = Said::default();
    if let Some(text) = value.pointer("/message/content").and_then(Value::as_str).filter(|text| !text.is_empty()) {
        said.deltas.push(Delta::Text(text.to_string()));
    }
    for call in value.pointer("/message/tool_calls").and_then(Value::as_array).into_iter().flatten() {
        let arguments = call.pointer("/function/arguments").map(ToString::to_string).unwrap_or_default();
        let name = call.pointer("/function/name").and_then(Value::as_str).map(ToString::to_string);
        said.deltas.push(Delta::Call { index: *calls, id: None, name, arguments });
        *calls += 1;
    }
    if value.get("done") == Some(&Value::Bool(true)) {
        said.deltas.push(Delta::Usage {
            input: count(value.get("prompt_eval_count")),
            output: count(value.get("eval_count")),
        });
        let reason = match value.get("done_reason").and_then(Value::as_str) {
            Some("length") => "length",
            _ if *calls > 0 => "tool_calls",
            _ => "stop",
        };
        said.deltas.push(Delta::Finish(reason.to_string()));
        said.is_end = true;
    }
    Ok(said)
}
