//! Asking ai-service, and others for what it should know.

use std::time::Duration;

pub(crate) use berth_sdk::assistant::object_in;
use berth_sdk::{
    assistant,
    http_out::{self, Call},
    prelude::*,
    serde_json::Value,
};

use crate::project;

/// How long those that are asked for context may take: without them the answer is poorer, not wrong.
const CONTEXT_TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes of context that go into a prompt.
const CONTEXT_BYTES_MAX: usize = 64 * 1024;
/// How much is taken from embeddings and knowledge-base each.
const RELATED_MAX: usize = 5;

/// What is asked.
pub(crate) struct Question<'a> {
    /// The prompt of prompt-management that replaces `system` where it is kept.
    pub prompt: Option<&'a str>,
    /// What the model is told to do.
    pub system: &'a str,
    /// What is wanted.
    pub wish: Value,
    /// What needs it, for the answer without ai-service: `Plans from an intent`.
    pub what: &'a str,
}

/// Asks; see [`assistant::ask`].
pub(crate) fn ask<T>(question: &Question<'_>, read: impl Fn(&str) -> Result<T>) -> Result<T> {
    let system = question.prompt.and_then(rendered).unwrap_or_else(|| question.system.to_string());
    assistant::ask(&assistant::Question { system: &system, wish: question.wish.clone(), what: question.what }, read)
}

fn rendered(name: &str) -> Option<String> {
    let call = http_out::plugin("prompt-management").post("/api/prompts/render");
    let answer = optional(&call.json(&json!({ "name": name, "variables": {} })))?;
    answer.get("content").and_then(Value::as_str).map(ToString::to_string)
}

/// What the model should know of a project: profile, modules, and what embeddings and knowledge-base find for the intent.
/// 404 unless the caller sees the project.
pub(crate) fn context(project_id: &Id, intent: &str) -> Result<Value> {
    let (_, profile) = project::profile_of(project_id)?;
    let modules = project::modules_of(&Pool, project_id)?;
    let similar = optional(
        &http_out::plugin("embeddings")
            .post("/api/embeddings/search")
            .json(&json!({ "query": intent, "projectId": project_id, "limit": RELATED_MAX })),
    );
    let related = optional(
        &http_out::plugin("knowledge-base")
            .get("/api/knowledge/search")
            .query("q", &intent.chars().take(200).collect::<String>())
            .query("projectId", project_id)
            .query("limit", &RELATED_MAX.to_string()),
    );
    let mut context = json!({ "profile": profile, "modules": modules });
    let mut add = |name: &str, found: Option<Value>, list: &str| {
        let entries = found.as_ref().and_then(|found| found.get(list)).and_then(Value::as_array);
        let entries: Vec<Value> = entries.into_iter().flatten().take(RELATED_MAX).cloned().collect();
        if let (false, Some(members)) = (entries.is_empty(), context.as_object_mut()) {
            members.insert(name.into(), entries.into());
        }
    };
    add("similar", similar, "results");
    add("knowledge", related, "items");
    if context.to_string().len() > CONTEXT_BYTES_MAX {
        // The intent matters more than what is around it.
        context = json!({ "modules": modules });
    }
    Ok(context)
}

/// The answer of a service that may be away.
pub(crate) fn optional(call: &Call) -> Option<Value> {
    let call = call.clone().timeout(CONTEXT_TIMEOUT);
    call.fetch()
        .inspect_err(|problem| logging::debug!("goes on without an answer", url = call.url, problem = problem))
        .ok()
}
