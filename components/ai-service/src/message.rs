//! Messages: what is said to a model and by it, how many tokens that is, and what of it fits into a model's window.

use berth_sdk::{
    prelude::*,
    serde::{Deserialize, Serialize},
    serde_json::Value,
};

/// Messages of one request.
pub const MESSAGES_MAX: usize = 1_000;
/// Parts of one message's content.
const PARTS_MAX: usize = 100;
/// Tool calls of one message.
const CALLS_MAX: usize = 128;
/// What an image counts.
const IMAGE_TOKENS: i64 = 1_000;
/// What a message counts beside its text.
const MESSAGE_TOKENS: i64 = 4;

/// Who speaks.
#[choice]
pub enum Role {
    /// Whoever set the model up.
    System,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
    /// A tool that the model called.
    Tool,
}

/// A model's wish to call a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "berth_sdk::serde", rename_all = "camelCase")]
pub struct ToolCall {
    /// The same in the message with its result.
    pub id: String,
    /// Which tool.
    pub name: String,
    /// JSON as text, as the model wrote it.
    pub arguments: String,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(crate = "berth_sdk::serde", rename_all = "camelCase")]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// A text, a list of parts, or null beside tool calls.
    pub content: Value,
    /// What the model wants called.
    #[serde(default)]
    pub calls: Vec<ToolCall>,
    /// The call that a tool's message answers.
    #[serde(default)]
    pub call_id: Option<String>,
}

impl Turn {
    /// A message of text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self { role, content: Value::String(text.into()), calls: Vec::new(), call_id: None }
    }

    /// What a tool answered.
    pub fn result(call_id: &str, text: impl Into<String>) -> Self {
        Self { call_id: Some(call_id.to_string()), ..Self::text(Role::Tool, text) }
    }

    /// The text of it, without images.
    pub fn words(&self) -> String {
        match &self.content {
            Value::String(text) => text.clone(),
            Value::Array(parts) => {
                let texts: Vec<&str> =
                    parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect();
                texts.join("\n")
            }
            _ => String::new(),
        }
    }

    /// The addresses of its images: `https:` or `data:`.
    pub fn images(&self) -> Vec<&str> {
        let parts = self.content.as_array().map(Vec::as_slice).unwrap_or_default();
        parts.iter().filter_map(|part| part.pointer("/image_url/url").and_then(Value::as_str)).collect()
    }

    /// About how many tokens it has.
    pub fn tokens(&self) -> i64 {
        let calls: i64 = self.calls.iter().map(|call| tokens(&call.name) + tokens(&call.arguments)).sum();
        let images = i64::try_from(self.images().len()).unwrap_or(i64::MAX).saturating_mul(IMAGE_TOKENS);
        MESSAGE_TOKENS + tokens(&self.words()) + calls + images
    }

    /// As OpenAI writes it, which most others understand.
    pub fn to_openai(&self) -> Value {
        let mut message = json!({ "role": self.role, "content": self.content });
        let mut add = |name: &str, value: Value| {
            if let Some(members) = message.as_object_mut() {
                members.insert(name.into(), value);
            }
        };
        if !self.calls.is_empty() {
            add("tool_calls", self.calls.iter().map(ToolCall::to_openai).collect());
        }
        if let Some(call_id) = &self.call_id {
            add("tool_call_id", call_id.clone().into());
        }
        message
    }

    /// Reads a message in this service's form or in OpenAI's; every fault is noted.
    pub fn read(value: &Value, path: &str, faults: &mut Faults) -> Option<Self> {
        let Some(members) = value.as_object() else {
            faults.add(path, "must be an object");
            return None;
        };
        let member = |camel: &str, snake: &str| members.get(camel).or_else(|| members.get(snake));
        let role = members.get("role").and_then(Value::as_str).and_then(Role::parse);
        if role.is_none() {
            faults.add(format!("{path}.role"), "must be one of system, user, assistant, tool");
        }
        let content = members.get("content").cloned().unwrap_or_default();
        check_content(&content, &format!("{path}.content"), faults);
        let calls = read_calls(member("toolCalls", "tool_calls"), &format!("{path}.toolCalls"), faults);
        let call_id = member("toolCallId", "tool_call_id").and_then(Value::as_str).map(ToString::to_string);
        match role? {
            Role::Tool if call_id.as_deref().is_none_or(str::is_empty) => {
                faults.add(format!("{path}.toolCallId"), "is required in a message of a tool");
            }
            Role::Assistant if !calls.is_empty() => {}
            _ if content.is_null() => faults.add(format!("{path}.content"), "is required"),
            _ => {}
        }
        Some(Self { role: role?, content, calls, call_id })
    }
}

impl ToolCall {
    /// As OpenAI writes it.
    pub fn to_openai(&self) -> Value {
        json!({ "id": self.id, "type": "function", "function": { "name": self.name, "arguments": self.arguments } })
    }
}

fn check_content(content: &Value, path: &str, faults: &mut Faults) {
    match content {
        Value::Null | Value::String(_) => {}
        Value::Array(parts) if parts.is_empty() || parts.len() > PARTS_MAX => {
            faults.add(path, format!("must have 1 to {PARTS_MAX} parts"));
        }
        Value::Array(parts) => {
            for (index, part) in parts.iter().enumerate() {
                let is_text = part.get("text").is_some_and(Value::is_string);
                let image = part.pointer("/image_url/url").and_then(Value::as_str);
                let is_image = image.is_some_and(|url| url.starts_with("https://") || url.starts_with("data:image/"));
                let fits = match part.get("type").and_then(Value::as_str) {
                    Some("text") => is_text,
                    Some("image_url") => is_image,
                    _ => false,
                };
                if !fits {
                    let message =
                        "must be {type: text, text} or {type: image_url, image_url: {url}} with https or data";
                    faults.add(format!("{path}[{index}]"), message);
                }
            }
        }
        _ => faults.add(path, "must be a text or a list of parts"),
    }
}

fn read_calls(value: Option<&Value>, path: &str, faults: &mut Faults) -> Vec<ToolCall> {
    let list = match value {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Array(list)) if list.len() <= CALLS_MAX => list,
        Some(_) => {
            faults.add(path, format!("must be a list of at most {CALLS_MAX} calls"));
            return Vec::new();
        }
    };
    let mut calls = Vec::with_capacity(list.len());
    for (index, call) in list.iter().enumerate() {
        let function = call.get("function").unwrap_or(call);
        let text = |holder: &Value, name: &str| holder.get(name).and_then(Value::as_str).map(ToString::to_string);
        match (text(call, "id"), text(function, "name"), text(function, "arguments")) {
            (Some(id), Some(name), Some(arguments)) => calls.push(ToolCall { id, name, arguments }),
            _ => faults.add(format!("{path}[{index}]"), "must have an id and a function with name and arguments"),
        }
    }
    calls
}

/// Reads the messages of a request.
pub fn read_all(list: &[Value], faults: &mut Faults) -> Vec<Turn> {
    if list.is_empty() || list.len() > MESSAGES_MAX {
        faults.add("messages", format!("must have 1 to {MESSAGES_MAX} entries"));
        return Vec::new();
    }
    let numbered = list.iter().enumerate();
    numbered.filter_map(|(index, value)| Turn::read(value, &format!("messages[{index}]"), faults)).collect()
}

/// About how many tokens a text has: a quarter of its ASCII letters, and one for each other character.
pub fn tokens(text: &str) -> i64 {
    let (mut ascii, mut others) = (0_i64, 0_i64);
    for letter in text.chars() {
        if letter.is_ascii() { ascii += 1 } else { others += 1 }
    }
    (ascii + 3) / 4 + others
}

/// What of the messages fits into `room` tokens: the system's messages and the newest others, in their order, and how
/// many were left out. None when the last message, or it with the system's, is too much.
pub fn fit(turns: &[Turn], room: i64) -> Option<(Vec<Turn>, usize)> {
    let system: i64 = turns.iter().filter(|turn| turn.role == Role::System).map(Turn::tokens).sum();
    let mut left = room - system;
    let mut first_kept = turns.len();
    for (index, turn) in turns.iter().enumerate().rev() {
        if turn.role == Role::System {
            continue;
        }
        let size = turn.tokens();
        if size > left {
            break;
        }
        left -= size;
        first_kept = index;
    }
    let is_last_kept = turns.iter().rposition(|turn| turn.role != Role::System).is_none_or(|last| first_kept <= last);
    if left < 0 || !is_last_kept {
        return None;
    }
    // The result of a call whose question was left out answers nothing.
    while turns.get(first_kept).is_some_and(|turn| matches!(turn.role, Role::Tool | Role::System)) && first_kept > 0 {
        let was_cut = turns.get(..first_kept).is_some_and(|cut| cut.iter().any(|turn| turn.role != Role::System));
        if !was_cut {
            break;
        }
        first_kept += 1;
    }
    let kept: Vec<Turn> = turns
        .iter()
        .enumerate()
        .filter(|(index, turn)| turn.role == Role::System || *index >= first_kept)
        .map(|(_, turn)| turn.clone())
        .collect();
    if kept.iter().all(|turn| turn.role == Role::System) && turns.iter().any(|turn| turn.role != Role::System) {
        return None;
    }
    let dropped = turns.len() - kept.len();
    Some((kept, dropped))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn faults(value: Value) -> Vec<String> {
        let mut faults = Faults::default();
        Turn::read(&value, "m", &mut faults);
        faults.errors().iter().map(|error| error.field.clone()).collect()
    }

    #[test]
    fn a_message_is_read_in_both_forms_and_its_faults_are_named() {
        let call = json!({"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}});
        for name in ["toolCalls", "tool_calls"] {
            let mut faults = Faults::default();
            let turn = Turn::read(&json!({"role": "assistant", name: [call]}), "m", &mut faults).unwrap();
            assert_eq!(turn.calls[0].name, "add");
            assert!(faults.is_empty());
        }
        assert_eq!(faults(json!({"role": "robot", "content": "x"})), ["m.role"]);
        assert_eq!(faults(json!({"role": "user"})), ["m.content"]);
        assert_eq!(faults(json!({"role": "user", "content": 7})), ["m.content"]);
        assert_eq!(faults(json!({"role": "tool", "content": "x"})), ["m.toolCallId"]);
        assert_eq!(
            faults(
                json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]})
            ),
            ["m.content[0]"]
        );
        assert_eq!(faults(json!({"role": "assistant", "content": "", "toolCalls": [{"id": 1}]})), ["m.toolCalls[0]"]);
        assert_eq!(faults(json!("x")), ["m"]);
        assert_eq!(faults(json!({"role": "user", "content": ""})), [] as [&str; 0]);
    }

    #[test]
    fn the_system_and_the_newest_turns_are_kept() {
        let turn = |role, size: usize| Turn::text(role, "x".repeat(size * 4));
        let turns = [turn(Role::System, 6), turn(Role::User, 50), turn(Role::Assistant, 20), turn(Role::User, 10)];
        let (kept, dropped) = fit(&turns, 60).unwrap();
        assert_eq!((kept.len(), dropped), (3, 1));
        assert_eq!(kept[0].role, Role::System);
        assert_eq!(fit(&turns, 1_000).unwrap().1, 0);
        assert!(fit(&turns, 20).is_none(), "the last one and the system's are too much");
        assert!(fit(&[turn(Role::User, 100)], 50).is_none());
        assert!(fit(&[turn(Role::System, 5)], 50).is_some());
    }

    #[test]
    fn a_result_without_its_question_is_left_out() {
        let mut question = Turn::text(Role::Assistant, "x".repeat(400));
        question.calls.push(ToolCall { id: "c".into(), name: "add".into(), arguments: "{}".into() });
        let turns = [Turn::text(Role::User, "a"), question, Turn::result("c", "3"), Turn::text(Role::User, "and now?")];
        let (kept, dropped) = fit(&turns, 20).unwrap();
        assert_eq!((kept.len(), dropped), (1, 3), "{kept:?}");
    }

    proptest! {
        #[test]
        fn what_is_kept_fits_and_ends_with_the_last(sizes in prop::collection::vec((0_usize..4, 0_usize..200), 1..12), room in 0_i64..400) {
            let turns: Vec<Turn> = sizes
                .iter()
                .map(|(role, size)| Turn::text(*Role::ALL.get(*role).unwrap(), "y".repeat(*size)))
                .collect();
            if let Some((kept, dropped)) = fit(&turns, room) {
                prop_assert_eq!(kept.len() + dropped, turns.len());
                prop_assert!(kept.iter().map(Turn::tokens).sum::<i64>() <= room);
                let last = turns.iter().rfind(|turn| turn.role != Role::System);
                if let Some(last) = last.filter(|turn| turn.role != Role::Tool) {
                    prop_assert_eq!(kept.iter().rfind(|turn| turn.role != Role::System), Some(last));
                }
            }
        }
    }
}
