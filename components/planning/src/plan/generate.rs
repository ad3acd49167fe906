//! Plans from an intent, made by ai-service. Without it the answer is 503; nothing is stored before a plan is whole.

use berth_sdk::{
    http_out,
    prelude::*,
    serde_json::{self, Value},
};
use plan_rules::{NewStep, Step, resolve};

/// What the model is told to do.
const SYSTEM: &str = "You turn an intent into a plan. Answer with one JSON object and nothing else: \
    {\"title\": text, \"steps\": [{\"title\", \"type\", \"params\", \"dependencies\", \"expectedArtifacts\"}]}. \
    Types and their params: file_create {path, content}; file_edit {path, search, replace} or {path, content}; \
    file_delete {path}; validation {assertions: [{kind: exists|absent, path} or {kind: contains, path, value}]}; \
    human {message}. Paths are relative. Dependencies are orders, from 1. End with a validation.";

/// A plan that is not stored yet.
pub(crate) struct Draft {
    pub title: String,
    pub steps: Vec<Step>,
}

#[data]
struct Proposal {
    #[field(default, max = 200, plain)]
    title: String,
    #[field(min = 1, max = 500)]
    steps: Vec<NewStep>,
}

/// A plan for an intent.
pub(crate) fn plan(intent: &str, project_id: &Id) -> Result<Draft> {
    draft(json!({ "intent": intent, "projectId": project_id }))
}

/// A plan for an older one and what somebody says of it.
pub(crate) fn refine(plan: &Value, feedback: &str) -> Result<Draft> {
    draft(json!({ "plan": plan, "feedback": feedback }))
}

/// Asks, and once more with the faults when the answer is no plan.
fn draft(wish: Value) -> Result<Draft> {
    let mut messages =
        vec![json!({ "role": "system", "content": SYSTEM }), json!({ "role": "user", "content": wish.to_string() })];
    let first = complete(&messages)?;
    let fault = match read(&first) {
        Ok(draft) => return Ok(draft),
        Err(problem) => problem,
    };
    messages.push(json!({ "role": "assistant", "content": first }));
    messages.push(json!({ "role": "user", "content": format!("That is not valid: {}", fault.to_json("")) }));
    read(&complete(&messages)?).map_err(|_| Problem::bad_gateway("The model answered with something that is no plan."))
}

fn complete(messages: &[Value]) -> Result<String> {
    let answer: Value = http_out::plugin("ai-service")
        .post("/api/ai/completions")
        .json(&json!({ "messages": messages, "temperature": 0 }))
        .fetch()
        .map_err(|problem| {
            if matches!(problem.status, 404 | 502..=504) {
                return Problem::unavailable(
                    "Plans from an intent need ai-service, which is not available; send steps or a template.",
                );
            }
            problem
        })?;
    let text = answer.pointer("/choices/0/message/content").and_then(Value::as_str);
    text.map(ToString::to_string).ok_or_else(|| Problem::bad_gateway("ai-service answered without a text."))
}

fn read(text: &str) -> Result<Draft> {
    let object = text.find('{').and_then(|from| text.rfind('}').and_then(|to| text.get(from..=to))).unwrap_or_default();
    let proposal: Proposal =
        serde_json::from_str(object).map_err(|error| Problem::bad_request(format!("It does not fit: {error}.")))?;
    let title = if proposal.title.is_empty() { "Plan".to_string() } else { proposal.title };
    Ok(Draft { title, steps: resolve(proposal.steps, |_| false)? })
}

#[cfg(test)]
mod tests {
    use super::{plan, read};

    #[test]
    fn a_plan_is_found_inside_an_answer() {
        let text = "Here:\n```json\n{\"title\":\"T\",\"steps\":[{\"title\":\"a\",\"type\":\"file_delete\",\"params\":{\"path\":\"a\"}}]}\n```";
        assert_eq!(read(text).unwrap().steps.len(), 1);
        assert!(read("no plan").is_err());
    }

    #[test]
    fn without_ai_service_it_is_503() {
        assert_eq!(plan("do it", &"p1".into()).err().unwrap().status, 503);
    }
}
