//! What is asked of a model, whoever asks and in whichever dialect.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::message::{self, Turn};

/// Tools of one request.
const TOOLS_MAX: usize = 128;
/// Texts that end an answer.
const STOPS_MAX: usize = 16;
/// Characters of a tool's name, as all providers take them.
const TOOL_NAME_MAX: usize = 64;

/// A tool that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Letters, digits, `_` and `-`.
    pub name: String,
    /// What it is good for.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Value,
}

/// A question to a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ask {
    /// What was said so far.
    pub turns: Vec<Turn>,
    /// This model and no other.
    pub model: Option<String>,
    /// This model, when it is there.
    pub preferred: Option<String>,
    /// For routing rules.
    pub task_type: Option<String>,
    /// 0 to 2.
    pub temperature: Option<f64>,
    /// 0 to 1.
    pub top_p: Option<f64>,
    /// The longest answer.
    pub max_tokens: Option<i64>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// What the model may call.
    pub tools: Vec<Tool>,
    /// `auto`, `none`, `required`, or a named function.
    pub tool_choice: Option<Value>,
    /// `{type: text | json_object | json_schema, …}`.
    pub response_format: Option<Value>,
    /// What only providers of OpenAI's kind understand.
    pub more: Map<String, Value>,
    /// A cached answer will do.
    pub use_cache: bool,
    /// Which part of the system asks.
    pub caller_module: Option<String>,
    /// For which of its things.
    pub caller_resource_id: Option<String>,
}

/// The body of a completion.
#[data]
pub struct CompletionInput {
    /// `{role: system | user | assistant | tool, content, toolCalls?, toolCallId?}`, at most 1 000.
    #[field(min = 1, max = 1000)]
    pub messages: Vec<Value>,
    /// This model and no other: its id, its name, or `provider/name`.
    #[field(min = 1, max = 200)]
    pub model: Option<String>,
    /// This model, when it is there and enabled.
    #[field(max = 200)]
    pub preferred_model: Option<String>,
    /// 0 to 2; 0 is a value.
    #[field(min = 0, max = 2)]
    pub temperature: Option<f64>,
    /// 0 to 1.
    #[field(min = 0, max = 1)]
    pub top_p: Option<f64>,
    /// Tokens of the answer.
    #[field(min = 1, max = 10_000_000)]
    pub max_tokens: Option<i64>,
    /// Texts that end the answer, at most 16.
    pub stop: Option<Vec<String>>,
    /// Answer as server-sent events.
    #[field(default = false)]
    pub stream: bool,
    /// With temperature 0: an earlier answer to the same question will do, for an hour.
    #[field(default = false)]
    pub use_cache: bool,
    /// For routing rules.
    #[field(max = 100)]
    pub task_type: Option<String>,
    /// `{type: function, function: {name, description, parameters}}`, at most 128.
    pub tools: Option<Vec<Value>>,
    /// `auto`, `none`, `required`, or `{type: function, function: {name}}`.
    pub tool_choice: Option<Value>,
    /// `{type: text | json_object | json_schema, json_schema?}`.
    pub response_format: Option<Value>,
    /// Which part of the system asks.
    #[field(max = 100)]
    pub caller_module: Option<String>,
    /// For which of its things.
    #[field(max = 128)]
    pub caller_resource_id: Option<String>,
}

impl CompletionInput {
    /// The question; 400 with every fault.
    pub fn ask(self) -> Result<Ask> {
        let mut faults = Faults::default();
        let ask = Ask {
            turns: message::read_all(&self.messages, &mut faults),
            tools: read_tools(&self.tools.unwrap_or_default(), &mut faults),
            tool_choice: check_choice(self.tool_choice, "toolChoice", &mut faults),
            response_format: check_format(self.response_format, "responseFormat", &mut faults),
            stop: check_stop(self.stop.unwrap_or_default(), &mut faults),
            model: self.model,
            preferred: self.preferred_model,
            task_type: self.task_type,
            temperature: self.temperature,
            top_p: self.top_p,
            max_tokens: self.max_tokens,
            more: Map::new(),
            use_cache: self.use_cache,
            caller_module: self.caller_module.or_else(|| auth::principal().source_service),
            caller_resource_id: self.caller_resource_id,
        };
        faults.finish()?;
        Ok(ask)
    }
}

/// Reads tools in OpenAI's form.
pub fn read_tools(list: &[Value], faults: &mut Faults) -> Vec<Tool> {
    if list.len() > TOOLS_MAX {
        faults.add("tools", format!("must have at most {TOOLS_MAX} entries"));
        return Vec::new();
    }
    let mut tools: Vec<Tool> = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let function = value.get("function").unwrap_or(value);
        let text = |name: &str| function.get(name).and_then(Value::as_str).unwrap_or_default().to_string();
        let name = text("name");
        let is_known = tools.iter().any(|tool| tool.name == name);
        if !is_tool_name(&name) || is_known {
            let message = "must be 1 to 64 letters, digits, _ and -, each name once";
            faults.add(format!("tools[{index}].function.name"), message);
            continue;
        }
        let parameters = function.get("parameters").filter(|value| value.is_object()).cloned();
        let parameters = parameters.unwrap_or_else(|| json!({ "type": "object", "properties": {} }));
        tools.push(Tool { name, description: text("description"), parameters });
    }
    tools
}

/// Whether all providers take it as a tool's name.
pub fn is_tool_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= TOOL_NAME_MAX
        && name.bytes().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, b'_' | b'-'))
}

/// A choice of tools, checked.
pub fn check_choice(choice: Option<Value>, field: &str, faults: &mut Faults) -> Option<Value> {
    let choice = choice.filter(|choice| !choice.is_null())?;
    let fits = match &choice {
        Value::String(word) => matches!(word.as_str(), "auto" | "none" | "required"),
        other => other.pointer("/function/name").is_some_and(Value::is_string),
    };
    if !fits {
        faults.add(field, "must be auto, none, required, or {type: function, function: {name}}");
    }
    Some(choice)
}

/// A form of the answer, checked.
pub fn check_format(format: Option<Value>, field: &str, faults: &mut Faults) -> Option<Value> {
    let format = format.filter(|format| !format.is_null())?;
    match format.get("type").and_then(Value::as_str) {
        Some("text") => None,
        Some("json_object") => Some(format),
        Some("json_schema") if format.pointer("/json_schema/schema").is_some_and(Value::is_object) => Some(format),
        _ => {
            faults
                .add(field, "must be {type: text}, {type: json_object} or {type: json_schema, json_schema: {schema}}");
            None
        }
    }
}

/// Texts that end the answer, checked.
pub fn check_stop(stop: Vec<String>, faults: &mut Faults) -> Vec<String> {
    if stop.len() > STOPS_MAX || stop.iter().any(|text| text.is_empty() || text.len() > 1_000) {
        faults.add("stop", format!("must be at most {STOPS_MAX} texts"));
    }
    stop
}

impl Ask {
    /// Whether images are part of it.
    pub fn has_images(&self) -> bool {
        self.turns.iter().any(|turn| !turn.images().is_empty())
    }

    /// About how many tokens the messages and the tools have.
    pub fn tokens(&self) -> i64 {
        self.turns.iter().map(Turn::tokens).sum::<i64>() + self.tool_tokens()
    }

    /// About how many tokens the tools have.
    pub fn tool_tokens(&self) -> i64 {
        let one = |tool: &Tool| {
            message::tokens(&tool.name)
                + message::tokens(&tool.description)
                + message::tokens(&tool.parameters.to_string())
        };
        self.tools.iter().map(one).sum()
    }

    /// Everything that decides about the answer, for the cache.
    pub fn to_value(&self) -> Value {
        let tools: Vec<Value> =
            self.tools.iter().map(|tool| json!([tool.name, tool.description, tool.parameters])).collect();
        json!({
            "turns": self.turns, "temperature": self.temperature, "topP": self.top_p, "maxTokens": self.max_tokens,
            "stop": self.stop, "tools": tools, "toolChoice": self.tool_choice, "format": self.response_format,
            "more": self.more,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(body: Value) -> Result<Ask> {
        let mut request = Request::new("POST", "/").with_json(&body);
        let Json(input) = Json::<CompletionInput>::from_request(&mut request)?;
        input.ask()
    }

    fn faults(body: Value) -> Vec<String> {
        ask(body).err().map(|problem| problem.errors.into_iter().map(|error| error.field).collect()).unwrap_or_default()
    }

    #[test]
    fn zero_is_a_temperature_and_absence_is_none() {
        let with = |more: Value| {
            let mut body = json!({"messages": [{"role": "user", "content": " x "}]});
            for (name, value) in more.as_object().into_iter().flatten() {
                body[name] = value.clone();
            }
            ask(body).unwrap()
        };
        assert_eq!(with(json!({"temperature": 0})).temperature, Some(0.0));
        assert_eq!(with(json!({})).temperature, None);
        assert_eq!(with(json!({})).turns[0].words(), " x ", "messages are left as they came");
    }

    #[test]
    fn what_makes_no_question_is_named() {
        let message = json!({"role": "user", "content": "x"});
        assert_eq!(faults(json!({})), ["messages"]);
        assert_eq!(faults(json!({"messages": []})), ["messages"]);
        assert_eq!(faults(json!({"messages": vec![message.clone(); 1_001]})), ["messages"]);
        assert_eq!(faults(json!({"messages": [message], "temperature": 2.1})), ["temperature"]);
        assert_eq!(faults(json!({"messages": [message], "maxTokens": 0})), ["maxTokens"]);
        assert_eq!(faults(json!({"messages": [message], "toolChoice": "maybe"})), ["toolChoice"]);
        assert_eq!(faults(json!({"messages": [message], "responseFormat": {"type": "xml"}})), ["responseFormat"]);
        let twice = json!([{"function": {"name": "a"}}, {"function": {"name": "a"}}, {"function": {"name": "b c"}}]);
        assert_eq!(
            faults(json!({"messages": [message], "tools": twice})),
            ["tools[1].function.name", "tools[2].function.name"]
        );
    }
}
