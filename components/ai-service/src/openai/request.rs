//! A request as OpenAI's clients send it.

use berth_sdk::{
    prelude::*,
    router::Route,
    serde_json::{self, Map, Value},
};

use crate::{
    ask::{self, Ask},
    message,
};

/// What is passed on to providers of OpenAI's kind as it came.
const PASSED_ON: &[&str] = &[
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "logit_bias",
    "parallel_tool_calls",
    "reasoning_effort",
    "verbosity",
];

/// The body, unread: what is wrong with it is said in OpenAI's form.
pub struct Body(Vec<u8>);

impl FromRequest for Body {
    fn from_request(request: &mut Request) -> Result<Self> {
        Ok(Self(std::mem::take(&mut request.body)))
    }

    fn describe(route: &mut Route) {
        <Json<Map<String, Value>> as FromRequest>::describe(route);
    }
}

/// What is asked, and how it shall be answered.
#[derive(Debug)]
pub struct Chat {
    /// What.
    pub ask: Ask,
    /// Piece by piece.
    pub stream: bool,
    /// With a last piece that says what was used.
    pub with_usage: bool,
}

impl Body {
    /// The members of the body.
    pub fn members(&self) -> Result<Map<String, Value>> {
        match serde_json::from_slice(&self.0) {
            Ok(Value::Object(members)) => Ok(members),
            _ => Err(Problem::bad_request("The body must be a JSON object.")),
        }
    }

    /// Reads it; 400 with every fault.
    pub fn read(&self) -> Result<Chat> {
        let members = self.members()?;
        let mut faults = Faults::default();
        let chat = read(&members, &mut faults);
        faults.finish()?;
        Ok(chat)
    }
}

/// What there is not is said, and not left out in silence.
fn check_supported(members: &Map<String, Value>, faults: &mut Faults) {
    let get = |name: &str| members.get(name).filter(|value| !value.is_null());
    if get("n").is_some_and(|n| n.as_i64() != Some(1)) {
        faults.add("n", "must be 1: there is one answer to a question");
    }
    for name in ["logprobs", "functions", "audio", "web_search_options"] {
        if get(name).is_some_and(|value| *value != Value::Bool(false)) {
            faults.add(name, "is not supported");
        }
    }
}

fn read_stop(stop: Option<&Value>, faults: &mut Faults) -> Vec<String> {
    let texts: Option<Vec<String>> = match stop {
        None => Some(Vec::new()),
        Some(Value::String(one)) => Some(vec![one.clone()]),
        Some(Value::Array(list)) => list.iter().map(|text| text.as_str().map(ToString::to_string)).collect(),
        Some(_) => None,
    };
    if texts.is_none() {
        faults.add("stop", "must be a text or a list of texts");
    }
    texts.unwrap_or_default()
}

fn read(members: &Map<String, Value>, faults: &mut Faults) -> Chat {
    let get = |name: &str| members.get(name).filter(|value| !value.is_null());
    let flag = |name: &str| get(name) == Some(&Value::Bool(true));
    check_supported(members, faults);
    let number = |name: &str, min: f64, max: f64, faults: &mut Faults| {
        let value = get(name)?;
        let number = value.as_f64().filter(|number| (min..=max).contains(number));
        if number.is_none() {
            faults.add(name, format!("must be a number from {min} to {max}"));
        }
        number
    };
    let temperature = number("temperature", 0.0, 2.0, faults);
    let top_p = number("top_p", 0.0, 1.0, faults);
    let max_tokens =
        ["max_completion_tokens", "max_tokens"].into_iter().find_map(|name| get(name).map(|value| (name, value)));
    let max_tokens = max_tokens.and_then(|(name, value)| {
        let tokens = value.as_i64().filter(|tokens| *tokens >= 1);
        if tokens.is_none() {
            faults.add(name, "must be a whole number from 1");
        }
        tokens
    });
    let list = |name: &str, faults: &mut Faults| match get(name) {
        None => Vec::new(),
        Some(Value::Array(list)) => list.clone(),
        Some(_) => {
            faults.add(name, "must be a list");
            Vec::new()
        }
    };
    let mut messages = list("messages", faults);
    for message in messages.iter_mut().filter(|message| message.get("role").is_some_and(|role| role == "developer")) {
        if let Some(members) = message.as_object_mut() {
            members.insert("role".into(), "system".into());
        }
    }
    let stop = read_stop(get("stop"), faults);
    let model = get("model").map(|model| model.as_str().unwrap_or_default().to_string());
    if model.as_ref().is_some_and(|model| model.is_empty() || model.len() > 200) {
        faults.add("model", "must be the name of a model");
    }
    let more =
        PASSED_ON.iter().filter_map(|name| get(name).map(|value| ((*name).to_string(), value.clone()))).collect();
    let ask = Ask {
        turns: message::read_all(&messages, faults),
        // A client that must name a model may leave the choice to us.
        model: model.filter(|model| !matches!(model.as_str(), "default" | "auto")),
        preferred: None,
        task_type: None,
        temperature,
        top_p,
        max_tokens,
        stop: ask::check_stop(stop, faults),
        tools: ask::read_tools(&list("tools", faults), faults),
        tool_choice: ask::check_choice(get("tool_choice").cloned(), "tool_choice", faults),
        response_format: ask::check_format(get("response_format").cloned(), "response_format", faults),
        more,
        use_cache: false,
        caller_module: auth::principal().source_service.or_else(|| Some("openai".into())),
        caller_resource_id: None,
    };
    let with_usage = members.get("stream_options").and_then(|options| options.get("include_usage"));
    Chat { ask, stream: flag("stream"), with_usage: with_usage == Some(&Value::Bool(true)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> Result<Chat> {
        Body(body.to_string().into_bytes()).read()
    }

    #[test]
    fn a_request_of_openais_client_is_understood() {
        let chat = read(json!({
            "model": "echo", "temperature": 0, "max_completion_tokens": 5, "stop": "END", "stream": true,
            "stream_options": {"include_usage": true}, "seed": 7, "user": "somebody", "n": 1,
            "messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
            "tools": [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}],
        }))
        .unwrap();
        assert!(chat.stream && chat.with_usage);
        assert_eq!((chat.ask.temperature, chat.ask.max_tokens, chat.ask.stop.len()), (Some(0.0), Some(5), 1));
        assert_eq!(chat.ask.turns[0].role, message::Role::System);
        assert_eq!(chat.ask.more["seed"], 7);
        assert!(!chat.ask.more.contains_key("user"));
        let free = read(json!({"model": "default", "messages": [{"role": "user", "content": "x"}]})).unwrap();
        assert_eq!(free.ask.model, None);
    }

    #[test]
    fn what_is_not_supported_is_said() {
        let faulty = |more: Value| {
            let mut body = json!({"model": "echo", "messages": [{"role": "user", "content": "x"}]});
            for (name, value) in more.as_object().into_iter().flatten() {
                body[name] = value.clone();
            }
            read(body).unwrap_err().errors.into_iter().map(|error| error.field).collect::<Vec<_>>()
        };
        assert_eq!(faulty(json!({"n": 2})), ["n"]);
        assert_eq!(faulty(json!({"logprobs": true})), ["logprobs"]);
        assert_eq!(faulty(json!({"temperature": 3})), ["temperature"]);
        assert_eq!(faulty(json!({"stop": ["a", 1]})), ["stop"]);
        assert_eq!(faulty(json!({"messages": []})), ["messages"]);
        assert_eq!(faulty(json!({"messages": "x"})), ["messages", "messages"]);
        assert_eq!(faulty(json!({"model": 7})), ["model"]);
        assert_eq!(Body(b"[]".to_vec()).read().unwrap_err().status, 400);
    }
}
