//! Plans from an intent, made by ai-service. Without it the answer is 503; nothing is stored before a plan is whole.

use berth_sdk::{prelude::*, serde_json::Value};
use plan_rules::{NewStep, Step, resolve};

use crate::assistant::{self, Question};

/// The prompt in prompt-management that replaces `SYSTEM`.
const PROMPT: &str = "planning-system";
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
    let context = assistant::context(project_id, intent)?;
    draft(json!({ "intent": intent, "projectId": project_id, "context": context }))
}

/// A plan for an older one and what somebody says of it.
pub(crate) fn refine(plan: &Value, feedback: &str) -> Result<Draft> {
    draft(json!({ "plan": plan, "feedback": feedback }))
}

fn draft(wish: Value) -> Result<Draft> {
    let what = "Plans from an intent (send steps or a template instead)";
    assistant::ask(&Question { prompt: Some(PROMPT), system: SYSTEM, wish, what }, read)
}

fn read(text: &str) -> Result<Draft> {
    let proposal: Proposal = assistant::object_in(text)?;
    let title = if proposal.title.is_empty() { "Plan".to_string() } else { proposal.title };
    Ok(Draft { title, steps: resolve(proposal.steps, |_| false)? })
}

#[cfg(test)]
mod tests {
    use berth_sdk::json;

    use super::{read, refine};

    #[test]
    fn a_plan_is_found_inside_an_answer() {
        let text = "Here:\n```json\n{\"title\":\"T\",\"steps\":[{\"title\":\"a\",\"type\":\"file_delete\",\"params\":{\"path\":\"a\"}}]}\n```";
        assert_eq!(read(text).unwrap().steps.len(), 1);
        assert!(read("no plan").is_err());
    }

    #[test]
    fn without_ai_service_it_is_503() {
        assert_eq!(refine(&json!({"steps": []}), "shorter").err().unwrap().status, 503);
    }
}
