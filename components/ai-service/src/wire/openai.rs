//! OpenAI's `/chat/completions`, which most providers speak; Azure's has another address and header.

use berth_sdk::{
    http_out::{Call, Client},
    json,
    serde_json::Value,
};

use super::{Delta, Gathered, Question, count, lines::Said};
use crate::{
    failure::{Failure, FailureKind},
    message::Turn,
    provider::ProviderType,
};

/// The version of Azure's interface where none is set.
const AZURE_VERSION: &str = "2024-10-21";

/// The call that asks.
pub fn call(question: &Question<'_>) -> Result<Call, Failure> {
    let provider = question.provider;
    let base = provider.base_url.as_deref().ok_or_else(|| {
        Failure::new(FailureKind::Denied, format!("The provider {} has no address: set a base URL.", provider.name))
    })?;
    let client = Client::new(base);
    let call = if provider.kind == ProviderType::AzureOpenai {
        let version = provider.api_version.as_deref().unwrap_or(AZURE_VERSION);
        let path = format!("/openai/deployments/{}/chat/completions", escaped(&question.model.name));
        client.post(&path).query("api-version", version)
    } else {
        client.post("/chat/completions")
    };
    let call = match (&provider.secret_id, provider.kind) {
        (Some(secret_id), ProviderType::AzureOpenai) => call.secret_header("api-key", secret_id),
        (Some(secret_id), _) => call.auth_secret_id(secret_id.as_str()),
        (None, _) => call,
    };
    Ok(call.json(&body(question)))
}

/// A part of a path.
fn escaped(text: &str) -> String {
    let keep = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    text.chars().filter(|letter| keep(*letter)).collect()
}

fn body(question: &Question<'_>) -> Value {
    let ask = question.ask;
    let mut members = ask.more.clone();
    let mut add = |name: &str, value: Value| members.insert(name.to_string(), value);
    add("model", question.model.name.clone().into());
    add("messages", question.turns.iter().map(Turn::to_openai).collect());
    if let Some(temperature) = question.temperature {
        add("temperature", temperature.into());
    }
    if let Some(top_p) = ask.top_p {
        add("top_p", top_p.into());
    }
    if let Some(max_tokens) = question.max_tokens {
        // The older name is refused by OpenAI's newer models, the newer one is unknown to many others.
        let name = match question.provider.kind {
            ProviderType::Openai | ProviderType::AzureOpenai => "max_completion_tokens",
            _ => "max_tokens",
        };
        add(name, max_tokens.into());
    }
    if !ask.stop.is_empty() {
        add("stop", json!(ask.stop));
    }
    if !ask.tools.is_empty() {
        let tools = ask.tools.iter().map(|tool| {
            json!({ "type": "function", "function": { "name": tool.name, "description": tool.description, "parameters": tool.parameters } })
        });
        add("tools", tools.collect());
        if let Some(choice) = &ask.tool_choice {
            add("tool_choice", choice.clone());
        }
    }
    if let Some(format) = &ask.response_format {
        add("response_format", format.clone());
    }
    if question.stream {
        add("stream", true.into());
        add("stream_options", json!({ "include_usage": true }));
    }
    Value::Object(members)
}

/// Reads a whole answer.
pub fn read(value: &Value) -> Result<Gathered, Failure> {
    if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
        return Err(failed(error));
    }
    let choice =
        value.pointer("/choices/0").ok_or_else(|| Failure::invalid("The provider answered without a choice."))?;
    let message = choice.get("message").ok_or_else(|| Failure::invalid("The provider answered without a message."))?;
    let mut gathered = Gathered::default();
    pieces(message, choice, value.get("usage")).iter().for_each(|delta| gathered.push(delta));
    Ok(gathered)
}

/// Reads one event of a stream.
pub fn event(value: &Value) -> Result<Said, Failure> {
    if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
        return Err(failed(error));
    }
    let nothing = Value::Null;
    let choice = value.pointer("/choices/0").unwrap_or(&nothing);
    let delta = choice.get("delta").unwrap_or(&nothing);
    Ok(Said { deltas: pieces(delta, choice, value.get("usage")), is_end: false })
}

fn pieces(message: &Value, choice: &Value, usage: Option<&Value>) -> Vec<Delta> {
    let mut deltas = Vec::new();
    let text =
        message.get("content").and_then(Value::as_str).or_else(|| message.get("refusal").and_then(Value::as_str));
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        deltas.push(Delta::Text(text.to_string()));
    }
    for (position, call) in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let text = |holder: Option<&Value>, name: &str| {
            holder.and_then(|holder| holder.get(name)).and_then(Value::as_str).map(ToString::to_string)
        };
        let index = call.get("index").and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok());
        let function = call.get("function");
        deltas.push(Delta::Call {
            index: index.unwrap_or(position),
            id: text(Some(call), "id"),
            name: text(function, "name"),
            arguments: text(function, "arguments").unwrap_or_default(),
        });
    }
    if let Some(usage) = usage.filter(|usage| usage.is_object()) {
        deltas.push(Delta::Usage {
            input: count(usage.get("prompt_tokens")),
            output: count(usage.get("completion_tokens")),
        });
    }
    if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
        deltas.push(Delta::Finish(reason.to_string()));
    }
    deltas
}

fn failed(error: &Value) -> Failure {
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    let is_limit = text("type").contains("rate_limit") || text("code").contains("rate_limit");
    let kind = if is_limit { FailureKind::RateLimited } else { FailureKind::Server };
    Failure::new(kind, "The provider failed in the middle of its answer.")
}
