//! Asking the model: the row is written before the question leaves and closed whatever comes back.

use std::time::{Duration, Instant};

use berth_sdk::{
    http_out,
    prelude::*,
    serde_json::{Map, Value},
};

use super::{Execution, ExecutionStatus, Filled, caller_module, facts, fill};
use crate::{prompt::PromptCategory, resolve};

/// How long the model may take.
const TIMEOUT: Duration = Duration::from_secs(28);
/// Bytes of an answer that are kept.
const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// What is to be asked.
#[data]
pub struct ExecuteInput {
    #[field(default)]
    variables: Map<String, Value>,
    /// Instead of the preferred one.
    #[field(min = 1, max = 200)]
    model: Option<String>,
    /// Piece by piece.
    #[field(default = false)]
    stream: bool,
    #[field(min = 1)]
    version: Option<i64>,
    #[field(default = true)]
    enable_experiments: bool,
    #[field(min = 1, max = 100, plain)]
    caller_module: Option<String>,
}

/// What came of it.
#[data]
pub struct Executed {
    execution_id: Id,
    prompt_id: Id,
    version_id: Id,
    version: i64,
    source: resolve::Source,
    variant_id: Option<Id>,
    output: String,
    model: Option<String>,
    input_tokens: Option<i64>,
    output_tokens: Option<i64>,
    latency_ms: i64,
    warnings: Vec<String>,
}

/// `POST /api/prompts/{id}/execute`.
pub fn execute(Params(id): Params<Id>, Json(input): Json<ExecuteInput>) -> Result<Json<Executed>> {
    if input.stream {
        return Err(Problem::not_implemented("Answers do not come piece by piece yet; leave out stream."));
    }
    let user_id = auth::principal().user_id.map(Id::from);
    let known = resolve::known(&id)?;
    let filled = fill(known, input.version, user_id.as_deref(), input.enable_experiments, &input.variables)?;
    let mut execution = filled.execution(user_id, caller_module(input.caller_module));
    execution.status = ExecutionStatus::Running;
    execution.model.clone_from(&input.model);
    execution.correlation_id = Some(auth::principal().request_id);
    let row = database::transaction(|transaction| entity::create(transaction, execution))?;
    let key = row.id.clone();
    let (row, answer) = ask(&filled, row, input.model.as_deref(), &key)?;
    let answer = answer?;
    let rendered = filled.rendered(row.id.clone());
    Ok(Json(Executed {
        execution_id: rendered.execution_id,
        prompt_id: rendered.prompt_id,
        version_id: rendered.version_id,
        version: rendered.version,
        source: rendered.source,
        variant_id: rendered.variant_id,
        output: answer.output,
        model: answer.model,
        input_tokens: answer.input_tokens,
        output_tokens: answer.output_tokens,
        latency_ms: row.latency_ms.unwrap_or(0),
        warnings: rendered.warnings,
    }))
}

/// What a model says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The text.
    pub output: String,
    /// The model that said it.
    pub model: Option<String>,
    /// Tokens of the question.
    pub input_tokens: Option<i64>,
    /// Tokens of the answer.
    pub output_tokens: Option<i64>,
}

/// Asks, and closes the row. The inner result is what came back; the outer one fails only when the row cannot be closed.
pub fn ask(
    filled: &Filled,
    mut row: Stored<Execution>,
    model: Option<&str>,
    idempotency_key: &str,
) -> Result<(Stored<Execution>, Result<Answer>)> {
    let began = Instant::now();
    let answer = completion(filled, model, &row.caller_module, idempotency_key);
    row.latency_ms = Some(i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX));
    match &answer {
        Ok(answer) => {
            row.status = ExecutionStatus::Completed;
            row.was_successful = Some(true);
            row.output = Some(within(&answer.output, OUTPUT_BYTES_MAX).to_string());
            row.input_tokens = answer.input_tokens;
            row.output_tokens = answer.output_tokens;
            row.model = answer.model.clone().or_else(|| row.model.clone());
        }
        Err(problem) => {
            row.status = ExecutionStatus::Failed;
            row.was_successful = Some(false);
            row.error = Some(format!("{}: {}", problem.code, problem.detail).chars().take(2_000).collect());
        }
    }
    let kind = if answer.is_ok() { "prompt.execution.completed" } else { "prompt.execution.failed" };
    database::transaction(|transaction| {
        entity::save(transaction, &mut row)?;
        let facts = facts(&row, &filled.known.name);
        transaction.send(&events::Message::new(kind, &facts)?.with_key(row.id.as_str()))?;
        Ok::<_, Problem>(())
    })?;
    Ok((row, answer))
}

fn completion(filled: &Filled, model: Option<&str>, caller_module: &str, idempotency_key: &str) -> Result<Answer> {
    let role = match filled.known.category {
        PromptCategory::System => "system",
        PromptCategory::Assistant => "assistant",
        PromptCategory::User | PromptCategory::Function | PromptCategory::Chain => "user",
    };
    let (model_name, wish) = match (model, filled.known.preferred_models.first()) {
        (Some(model), _) => (Some(model), None),
        (None, preferred) => (None, preferred),
    };
    let mut body = Map::from_iter([
        ("messages".to_string(), json!([{"role": role, "content": filled.content}])),
        ("callerModule".to_string(), json!(caller_module)),
        ("callerResourceId".to_string(), json!(filled.known.prompt_id)),
    ]);
    body.extend(model_name.map(|model| ("model".to_string(), json!(model))));
    body.extend(wish.map(|preferred| ("preferredModel".to_string(), json!(preferred))));
    let call = http_out::plugin("ai-service").post("/api/ai/completions").json(&body);
    let reply: Value = call.idempotency_key(idempotency_key).timeout(TIMEOUT).fetch()?;
    read(&reply)
}

/// Reads a completion.
fn read(reply: &Value) -> Result<Answer> {
    let output =
        reply
            .pointer("/choices/0/message/content")
            .or_else(|| reply.get("content"))
            .and_then(Value::as_str)
            .ok_or_else(|| Problem::bad_gateway("The assistant answered with something else than a completion."))?;
    let tokens = |names: [&str; 3]| {
        let usage = reply.get("usage")?;
        names.iter().find_map(|name| usage.get(*name).and_then(Value::as_i64))
    };
    Ok(Answer {
        output: output.to_string(),
        model: reply.get("model").and_then(Value::as_str).map(ToString::to_string),
        input_tokens: tokens(["inputTokens", "promptTokens", "prompt_tokens"]),
        output_tokens: tokens(["outputTokens", "completionTokens", "completion_tokens"]),
    })
}

fn within(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let end = (0..=bytes_max).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// What the assistant says of one of its completions.
#[data]
struct Report {
    input_tokens: Option<i64>,
    output_tokens: Option<i64>,
    error: Option<Value>,
}

/// `ai.completion.completed` and `ai.completion.failed`: closes a run of ours that is still open, by its correlation id. Others
/// are nobody's business here.
pub fn reported(envelope: &Envelope) -> Result<()> {
    let (Some(correlation_id), Some(organization_id)) = (&envelope.correlation_id, &envelope.organization_id) else {
        return Ok(());
    };
    let report: Report = envelope.data()?;
    let is_done = envelope.message_type.ends_with("completed");
    let status = if is_done { ExecutionStatus::Completed } else { ExecutionStatus::Failed };
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        let rows = Select::<Execution>::new()
            .equal("correlation_id", correlation_id.as_str())
            .equal("organization_id", organization_id.as_str())
            .limit(10)
            .all(transaction)?;
        for mut row in rows {
            row.input_tokens = row.input_tokens.or(report.input_tokens);
            row.output_tokens = row.output_tokens.or(report.output_tokens);
            if row.status == ExecutionStatus::Running {
                row.status = status;
                row.was_successful = Some(is_done);
                row.error = report.error.as_ref().filter(|_| !is_done).map(ToString::to_string);
            }
            entity::save(transaction, &mut row)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_is_read_in_its_usual_forms() {
        let reply = json!({"model": "m", "choices": [{"message": {"role": "assistant", "content": "Hi"}}],
            "usage": {"promptTokens": 3, "completionTokens": 0}});
        let answer = read(&reply).unwrap();
        assert_eq!((answer.output.as_str(), answer.input_tokens, answer.output_tokens), ("Hi", Some(3), Some(0)));
        assert_eq!(read(&json!({"choices": []})).unwrap_err().status, 502);
    }

    #[test]
    fn an_output_is_cut_between_letters() {
        assert_eq!(within("aé", 2), "a");
        assert_eq!(within("aé", 3), "aé");
    }
}
