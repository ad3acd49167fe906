//! Asking the model: the row is written before the question leaves and closed whatever comes back.

use std::time::{Duration, Instant};

use berth_sdk::{
    http_out::{self, Call},
    prelude::*,
    serde_json::{Map, Value},
};

use super::{Execution, ExecutionStatus, Filled, caller_module, facts, fill, stream};
use crate::{
    prompt::{self, Prompt, PromptCategory},
    resolve,
};

/// The events of a run's end.
const COMPLETED: &str = "prompt.execution.completed";
const FAILED: &str = "prompt.execution.failed";
/// How long the model may take.
const TIMEOUT: Duration = Duration::from_secs(28);
/// Bytes of an answer that are kept.
pub const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// How often a row that somebody else changed at the same moment is closed.
const ATTEMPTS_MAX: u32 = 5;

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
    /// Or the newest version with this label.
    #[field(min = 1, max = 100)]
    label: Option<String>,
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

/// An answer, whole or piece by piece.
pub enum Answered {
    /// Whole.
    Whole(Box<Executed>),
    /// Piece by piece.
    Stream(Sse),
}

impl berth_sdk::http::Answer for Answered {
    fn into_response(self) -> Result<Response> {
        match self {
            Self::Whole(executed) => Response::json(200, &executed),
            Self::Stream(events) => events.into_response(),
        }
    }

    fn describe(route: &mut berth_sdk::router::Route) {
        <Json<Executed> as berth_sdk::http::Answer>::describe(route);
        route.is_streaming = true;
    }
}

/// `POST /api/prompts/{id}/execute`; with `stream` as server-sent events: `started`, a `delta` for each piece, and `completed` or
/// `error`.
pub fn execute(Params(id): Params<Id>, Json(input): Json<ExecuteInput>) -> Result<Answered> {
    let user_id = auth::principal().user_id.map(Id::from);
    let known = resolve::known(&id)?;
    let version = resolve::asked(&known, input.version, input.label.as_deref())?;
    let filled = fill(known, version, user_id.as_deref(), input.enable_experiments, &input.variables)?;
    let mut execution = filled.execution(user_id, caller_module(input.caller_module));
    execution.status = ExecutionStatus::Running;
    execution.model.clone_from(&input.model);
    execution.correlation_id = Some(auth::principal().request_id);
    let row = database::transaction(|transaction| entity::create(transaction, execution))?;
    if input.stream {
        let call = completion(&filled, input.model.as_deref(), &row.caller_module, true);
        return stream::answer(&filled, row, &call).map(Answered::Stream);
    }
    let key = row.id.clone();
    let (row, answer) = ask(&filled, row, input.model.as_deref(), &key, None)?;
    let answer = answer?;
    let rendered = filled.rendered(row.id.clone());
    Ok(Answered::Whole(Box::new(Executed {
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
    })))
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
    row: Stored<Execution>,
    model: Option<&str>,
    idempotency_key: &str,
    target: Option<&Map<String, Value>>,
) -> Result<(Stored<Execution>, Result<Answer>)> {
    let began = Instant::now();
    let call = completion(filled, model, &row.caller_module, false).idempotency_key(idempotency_key).timeout(TIMEOUT);
    let answer = call.fetch::<Value>().and_then(|reply| read(&reply));
    let row = close(&row.id, &filled.known.name, began.elapsed(), &answer, target)?;
    Ok((row, answer))
}

/// Closes the row with what came, and tells of it unless the assistant's event of the same run was faster and has told already.
/// That event may change the row at the same moment; then it is closed anew. A schedule's `target` goes along with the event.
pub fn close(
    id: &Id,
    name: &str,
    elapsed: Duration,
    answer: &Result<Answer>,
    target: Option<&Map<String, Value>>,
) -> Result<Stored<Execution>> {
    let kind = if answer.is_ok() { COMPLETED } else { FAILED };
    let mut attempt = 1;
    loop {
        let result = database::transaction(|transaction| {
            let mut row = entity::read::<Execution>(transaction, id)?;
            let is_news = row.status == ExecutionStatus::Running;
            row.latency_ms = Some(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX));
            note(&mut row, answer);
            entity::save(transaction, &mut row)?;
            if is_news {
                tell(transaction, kind, &row, name, target)?;
            }
            Ok::<_, Problem>(row)
        });
        match result {
            Err(problem) if problem.code == "CHANGED_MEANWHILE" && attempt < ATTEMPTS_MAX => attempt += 1,
            result => return result,
        }
    }
}

fn tell(
    transaction: &Transaction,
    kind: &str,
    row: &Stored<Execution>,
    name: &str,
    target: Option<&Map<String, Value>>,
) -> Result<()> {
    let mut facts = prompt::with_reach_of(transaction, &row.prompt_id, facts(row, name))?;
    if let (Some(target), Some(facts)) = (target, facts.as_object_mut()) {
        facts.insert("target".into(), json!(target));
    }
    transaction.send(&events::Message::new(kind, &facts)?.with_key(row.id.as_str()))?;
    Ok(())
}

fn note(row: &mut Execution, answer: &Result<Answer>) {
    match answer {
        Ok(answer) => {
            row.status = ExecutionStatus::Completed;
            row.was_successful = Some(true);
            row.output = Some(within(&answer.output, OUTPUT_BYTES_MAX).to_string());
            row.input_tokens = answer.input_tokens.or(row.input_tokens);
            row.output_tokens = answer.output_tokens.or(row.output_tokens);
            row.model = answer.model.clone().or_else(|| row.model.clone());
        }
        Err(problem) => {
            row.status = ExecutionStatus::Failed;
            row.was_successful = Some(false);
            row.error = Some(format!("{}: {}", problem.code, problem.detail).chars().take(2_000).collect());
        }
    }
}

/// The question to the assistant.
fn completion(filled: &Filled, model: Option<&str>, caller_module: &str, stream: bool) -> Call {
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
    if stream {
        body.insert("stream".into(), true.into());
    }
    http_out::plugin("ai-service").post("/api/ai/completions").json(&body)
}

/// Reads a completion.
fn read(reply: &Value) -> Result<Answer> {
    let output =
        reply
            .pointer("/choices/0/message/content")
            .or_else(|| reply.get("content"))
            .and_then(Value::as_str)
            .ok_or_else(|| Problem::bad_gateway("The assistant answered with something else than a completion."))?;
    let (input_tokens, output_tokens) = tokens(reply);
    Ok(Answer {
        output: output.to_string(),
        model: reply.get("model").and_then(Value::as_str).map(ToString::to_string),
        input_tokens,
        output_tokens,
    })
}

/// The tokens of question and answer, as far as a completion or a piece of one says them.
pub fn tokens(reply: &Value) -> (Option<i64>, Option<i64>) {
    let of = |names: [&str; 3]| {
        let usage = reply.get("usage")?;
        names.iter().find_map(|name| usage.get(*name).and_then(Value::as_i64))
    };
    (
        of(["inputTokens", "promptTokens", "prompt_tokens"]),
        of(["outputTokens", "completionTokens", "completion_tokens"]),
    )
}

/// The beginning of a text, cut between letters.
pub fn within(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let end = (0..=bytes_max).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// What the assistant says of one of its completions.
#[data]
#[derive(Default)]
struct Report {
    /// The request that the completion was asked with; the event itself may come much later, from a timer.
    request_id: Option<String>,
    /// What it was asked for: here the prompt.
    caller_resource_id: Option<String>,
    model: Option<String>,
    input_tokens: Option<i64>,
    output_tokens: Option<i64>,
    error: Option<Value>,
}

impl Report {
    /// Notes what is not known yet of a run. True when this is its end.
    fn note(&self, row: &mut Execution, is_done: bool) -> bool {
        row.input_tokens = row.input_tokens.or(self.input_tokens);
        row.output_tokens = row.output_tokens.or(self.output_tokens);
        if row.status != ExecutionStatus::Running {
            return false;
        }
        row.model = row.model.take().or_else(|| self.model.clone());
        row.status = if is_done { ExecutionStatus::Completed } else { ExecutionStatus::Failed };
        row.was_successful = Some(is_done);
        row.error = self.error.as_ref().filter(|_| !is_done).map(|error| match error {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        true
    }
}

/// `ai.completion.completed` and `ai.completion.failed`: closes a run of ours that is still open, as one is whose client has left
/// its stream, and tells of it. Others are nobody's business here.
pub fn reported(envelope: &Envelope) -> Result<()> {
    let report: Report = envelope.data()?;
    let correlation_id = report.request_id.as_ref().or(envelope.correlation_id.as_ref());
    let (Some(correlation_id), Some(prompt_id), Some(organization_id)) =
        (correlation_id, &report.caller_resource_id, &envelope.organization_id)
    else {
        return Ok(());
    };
    let is_done = envelope.message_type.ends_with("completed");
    let kind = if is_done { COMPLETED } else { FAILED };
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        let rows = Select::<Execution>::new()
            .equal("correlation_id", correlation_id.as_str())
            .equal("prompt_id", prompt_id.as_str())
            .equal("organization_id", organization_id.as_str())
            .limit(10)
            .all(transaction)?;
        for mut row in rows {
            let is_end = report.note(&mut row, is_done);
            entity::save(transaction, &mut row)?;
            if is_end && let Some(prompt) = entity::find::<Prompt>(transaction, &row.prompt_id)? {
                tell(transaction, kind, &row, &prompt.name, None)?;
            }
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

    fn running() -> Execution {
        let fields = json!({"promptId": "p1", "versionId": "v1", "callerModule": "api", "status": "running",
            "executedAt": "2026-01-01T00:00:00.000Z"});
        berth_sdk::serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn the_assistants_event_ends_what_is_open_and_only_completes_what_is_over() {
        let report: Report = berth_sdk::serde_json::from_value(
            json!({"model": "m", "inputTokens": 0, "outputTokens": 2, "error": "The client left."}),
        )
        .unwrap();
        let mut row = running();
        assert!(report.note(&mut row, false));
        assert_eq!((row.status, row.was_successful), (ExecutionStatus::Failed, Some(false)));
        assert_eq!((row.input_tokens, row.output_tokens), (Some(0), Some(2)));
        assert_eq!((row.model.as_deref(), row.error.as_deref()), (Some("m"), Some("The client left.")));
        assert!(!report.note(&mut row, true), "one end is enough");
        assert_eq!(row.status, ExecutionStatus::Failed);
        let mut row = Execution { output_tokens: Some(7), ..running() };
        assert!(Report::default().note(&mut row, true));
        assert_eq!((row.status, row.error, row.output_tokens), (ExecutionStatus::Completed, None, Some(7)));
    }

    #[test]
    fn an_output_is_cut_between_letters() {
        assert_eq!(within("aé", 2), "a");
        assert_eq!(within("aé", 3), "aé");
    }
}
