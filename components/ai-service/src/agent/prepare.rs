//! The beginning of a run: prompt, memory, context, tools and the task become the first messages.

use std::time::Duration;

use berth_sdk::{
    http_out,
    prelude::*,
    serde_json::{Map, Value},
};

use super::{Agent, execution::AgentExecution, memory, tools};
use crate::message::{Role, Turn};

/// How long a prompt may take.
const PROMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// Members of a task that hold its words.
const WORDS: &[&str] = &["message", "prompt", "task", "text", "input", "query", "content"];

/// What a run begins with.
pub struct Beginning {
    /// The first messages.
    pub turns: Vec<Turn>,
    /// The tools.
    pub toolbox: Vec<tools::ToolEntry>,
    /// Names of tools that mean nothing.
    pub missing: Vec<String>,
}

/// Puts it together. An error that may pass is one; a prompt that is not there is a 4xx.
pub fn prepare(agent: &Agent, row: &Stored<AgentExecution>) -> Result<Beginning> {
    let mut parts = Vec::new();
    match &agent.system_prompt_id {
        Some(prompt_id) => parts.push(rendered(prompt_id, row)?),
        None => parts.extend(agent.system_prompt.clone()),
    }
    if agent.config.memory {
        let remembered = memory::recall(&row.agent_id, &row.user_id)?;
        if !remembered.is_empty() {
            parts.push(format!("What you remember:\n{remembered}"));
        }
    }
    if row.context.as_object().is_some_and(|context| !context.is_empty()) {
        parts.push(format!("Context:\n{}", row.context));
    }
    if let Some(schema) = &agent.config.output_schema {
        parts.push(format!(
            "Answer in the end with one JSON value that fits this JSON Schema, and nothing else:\n{schema}"
        ));
    }
    parts.retain(|part| !part.trim().is_empty());
    let (toolbox, missing) = tools::load(&agent.tools)?;
    let mut turns = Vec::new();
    if !parts.is_empty() {
        turns.push(Turn::text(Role::System, parts.join("\n\n")));
    }
    turns.push(Turn::text(Role::User, task(&row.input)));
    Ok(Beginning { turns, toolbox, missing })
}

/// The words of a task: a text as it is, an object by its words with what else it has.
fn task(input: &Value) -> String {
    let Some(members) = input.as_object() else {
        return input.as_str().map_or_else(|| input.to_string(), ToString::to_string);
    };
    let found = WORDS.iter().find_map(|name| Some((*name, members.get(*name)?.as_str()?)));
    let Some((name, words)) = found else { return input.to_string() };
    let rest: Map<String, Value> =
        members.iter().filter(|(other, _)| *other != name).map(|(name, value)| (name.clone(), value.clone())).collect();
    if rest.is_empty() { words.to_string() } else { format!("{words}\n{}", Value::Object(rest)) }
}

fn rendered(prompt_id: &Id, row: &Stored<AgentExecution>) -> Result<String> {
    let mut variables = row.context.as_object().cloned().unwrap_or_default();
    variables.entry("input").or_insert_with(|| task(&row.input).into());
    let body = json!({ "promptId": prompt_id, "variables": variables, "callerModule": "ai-service" });
    let call = http_out::plugin("prompt-management").post("/api/prompts/render").json(&body);
    let answer: Value = call.timeout(PROMPT_TIMEOUT).fetch()?;
    let text = answer.get("content").and_then(Value::as_str).map(ToString::to_string);
    text.ok_or_else(|| Problem::bad_gateway("prompt-management answered without a text."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_a_text_or_an_object_with_words() {
        assert_eq!(task(&json!("Paint")), "Paint");
        assert_eq!(task(&json!({"message": "Paint"})), "Paint");
        assert_eq!(task(&json!({"task": "Paint", "colour": "red"})), "Paint\n{\"colour\":\"red\"}");
        assert_eq!(task(&json!({"colour": "red"})), "{\"colour\":\"red\"}");
        assert_eq!(task(&json!([1])), "[1]");
    }
}
