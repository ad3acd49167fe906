//! Executions: every time a prompt was filled, what was made of it, and how it went.

pub mod run;
pub mod stats;
pub mod stream;

use berth_sdk::{
    prelude::*,
    serde_json::{self, Map, Value},
};

use crate::{
    prompt,
    render::{Template, estimated_tokens, values},
    resolve::{self, Chosen, Known, Source},
};

/// How far an execution has come.
#[choice]
pub enum ExecutionStatus {
    /// Filled; what became of it is the caller's to report.
    Rendered,
    /// A model is at it.
    Running,
    /// Done.
    Completed,
    /// Not done.
    Failed,
}

/// One use of a prompt.
#[entity(table = "prompt_executions", name = "execution", sort = "-executedAt")]
pub struct Execution {
    /// The prompt.
    pub prompt_id: Id,
    /// The version that was used, or stood in for.
    pub version_id: Id,
    /// The variant, within an experiment.
    pub variant_id: Option<Id>,
    /// The experiment.
    pub experiment_id: Option<Id>,
    /// For whom; none for a schedule nobody owns.
    pub user_id: Option<Id>,
    /// Who asked.
    #[field(filter)]
    pub caller_module: String,
    /// Tokens of the question.
    pub input_tokens: Option<i64>,
    /// Tokens of the answer.
    pub output_tokens: Option<i64>,
    /// Whether it went well.
    pub was_successful: Option<bool>,
    /// From 1 to 5.
    pub user_rating: Option<i64>,
    /// How long it took.
    pub latency_ms: Option<i64>,
    /// How far it has come.
    pub status: ExecutionStatus,
    /// The answer.
    #[field(raw)]
    pub output: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// The schedule it belongs to.
    pub schedule_id: Option<Id>,
    /// The model that was asked.
    pub model: Option<String>,
    /// When.
    pub executed_at: Timestamp,
    /// What events of the answer carry.
    #[field(hidden)]
    pub correlation_id: Option<String>,
    /// A schedule's run: the same run has one row.
    #[field(hidden)]
    pub run_key: Option<String>,
}

impl Rules for Execution {}

/// What is to be filled.
#[data]
pub struct RenderInput {
    /// The prompt's name; or `id`, or `promptId`.
    #[field(min = 1, max = 64)]
    name: Option<String>,
    id: Option<Id>,
    prompt_id: Option<Id>,
    /// The values.
    #[field(default)]
    variables: Map<String, Value>,
    /// A version, instead of the one that counts.
    #[field(min = 1)]
    version: Option<i64>,
    /// Or the newest version with this label, such as `staging`.
    #[field(min = 1, max = 100)]
    label: Option<String>,
    /// False leaves experiments out.
    #[field(default = true)]
    enable_experiments: bool,
    /// Who asks, where it is no service.
    #[field(min = 1, max = 100, plain)]
    caller_module: Option<String>,
}

/// A filled prompt.
#[data]
pub struct Rendered {
    /// The text.
    pub content: String,
    /// The prompt.
    pub prompt_id: Id,
    /// The version.
    pub version_id: Id,
    /// Its number.
    pub version: i64,
    /// Where the text comes from.
    pub source: Source,
    /// The variant, within an experiment.
    pub variant_id: Option<Id>,
    /// About how many tokens the text has.
    pub estimated_tokens: i64,
    /// To report on with `POST /api/prompts/executions/{id}/outcome`.
    pub execution_id: Id,
    /// What was given and not used.
    pub warnings: Vec<String>,
}

/// A prompt, chosen and filled.
pub struct Filled {
    /// The prompt.
    pub known: Known,
    /// The text that was chosen.
    pub chosen: Chosen,
    /// The filled text.
    pub content: String,
    /// What was given and not used.
    pub warnings: Vec<String>,
}

/// Chooses and fills.
pub fn fill(
    known: Known,
    number: Option<i64>,
    user_id: Option<&str>,
    with_experiments: bool,
    given: &Map<String, Value>,
) -> Result<Filled> {
    let chosen = resolve::choose(&known, number, user_id, with_experiments)?;
    let template = Template::parse(&chosen.content)?;
    let ready = values::prepare(&template, &known.variables, given)?;
    let content = template.fill(&ready.values)?;
    Ok(Filled { known, chosen, content, warnings: ready.warnings })
}

impl Filled {
    /// The row of its execution.
    pub fn execution(&self, user_id: Option<Id>, caller_module: String) -> Execution {
        let experiment = self.known.experiment.as_ref().filter(|_| self.chosen.variant_id.is_some());
        Execution {
            prompt_id: self.known.prompt_id.clone(),
            version_id: self.chosen.version.id.clone(),
            variant_id: self.chosen.variant_id.clone(),
            experiment_id: experiment.map(|experiment| experiment.id.clone()),
            user_id,
            caller_module,
            input_tokens: None,
            output_tokens: None,
            was_successful: None,
            user_rating: None,
            latency_ms: None,
            status: ExecutionStatus::Rendered,
            output: None,
            error: None,
            schedule_id: None,
            model: None,
            executed_at: clock::now(),
            correlation_id: None,
            run_key: None,
        }
    }

    /// What is answered.
    pub fn rendered(&self, execution_id: Id) -> Rendered {
        Rendered {
            estimated_tokens: estimated_tokens(&self.content),
            content: self.content.clone(),
            prompt_id: self.known.prompt_id.clone(),
            version_id: self.chosen.version.id.clone(),
            version: self.chosen.version.version,
            source: self.chosen.source,
            variant_id: self.chosen.variant_id.clone(),
            execution_id,
            warnings: self.warnings.clone(),
        }
    }
}

impl Rendered {
    /// What is known before an answer comes: everything but the text.
    pub fn without_content(&self) -> Value {
        json!({
            "executionId": self.execution_id, "promptId": self.prompt_id, "versionId": self.version_id,
            "version": self.version, "source": self.source, "variantId": self.variant_id, "warnings": self.warnings,
        })
    }
}

/// The service that calls, or a word for a person.
pub fn caller_module(given: Option<String>) -> String {
    auth::principal().source_service.or(given).unwrap_or_else(|| "api".into())
}

/// What an execution's events carry.
pub fn facts(row: &Stored<Execution>, name: &str) -> Value {
    json!({
        "id": row.id, "executionId": row.id, "promptId": row.prompt_id, "versionId": row.version_id, "name": name,
        "variantId": row.variant_id, "scheduleId": row.schedule_id, "callerModule": row.caller_module,
        "userId": row.user_id, "status": row.status, "inputTokens": row.input_tokens, "outputTokens": row.output_tokens,
        "latencyMs": row.latency_ms, "model": row.model, "error": row.error,
    })
}

/// `POST /api/prompts/render`.
pub fn render(Json(input): Json<RenderInput>) -> Result<Json<Rendered>> {
    let RenderInput { name, id, prompt_id, variables, version, label, enable_experiments, caller_module: module } =
        input;
    let key = name.or(id.map(Id::into_string)).or(prompt_id.map(Id::into_string));
    let key = key.ok_or_else(|| Problem::field("name", "is required, or id"))?;
    let user_id = auth::principal().user_id.map(Id::from);
    let known = resolve::known(&key)?;
    let version = resolve::asked(&known, version, label.as_deref())?;
    let filled = fill(known, version, user_id.as_deref(), enable_experiments, &variables)?;
    let execution = filled.execution(user_id, caller_module(module));
    let row = database::transaction(|transaction| {
        let row = entity::create(transaction, execution)?;
        let known = &filled.known;
        let facts = prompt::with_reach(facts(&row, &known.name), known.scope, known.project_id.as_ref());
        transaction.send(&events::Message::new("prompt.rendered", &facts)?.with_key(row.id.as_str()))?;
        Ok::<_, Problem>(row)
    })?;
    Ok(Json(filled.rendered(row.id)))
}

/// Whether the caller is shown what was answered for a user: it is theirs, and for those who look after prompts. What was for nobody
/// in particular is everybody's.
fn is_shown(user_id: Option<&str>) -> bool {
    user_id.is_none_or(|user_id| auth::principal().user_id.as_deref() == Some(user_id)) || auth::has(prompt::PUBLISH)
}

/// `GET /api/prompts/{id}/executions`: everybody's, without what others were answered.
pub fn list(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Execution>>>> {
    let prompt = prompt::named(&Pool, &id)?;
    let select = Select::<Execution>::new().equal("prompt_id", &prompt.id);
    if auth::has(prompt::PUBLISH) {
        return select.page(&Pool, &query);
    }
    if query.sort_by.as_deref().is_some_and(|field| field.trim_start_matches('-') == "output") {
        return Err(Problem::field("sortBy", "must be another field: what others were answered is theirs"));
    }
    let page = select.page(&Pool, &query)?;
    let mut page: Value = serde_json::from_slice(&page.text).map_err(|_| Problem::internal())?;
    for row in page.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        let is_shown = is_shown(row.get("userId").and_then(Value::as_str));
        if let Some(output) = row.get_mut("output").filter(|_| !is_shown) {
            *output = Value::Null;
        }
    }
    Ok(JsonText::new(200, page.to_string().into_bytes()))
}

/// How it went.
#[data]
pub struct OutcomeInput {
    success: Option<bool>,
    #[field(min = 1, max = 5)]
    rating: Option<i64>,
    #[field(min = 0, max = 86_400_000)]
    latency_ms: Option<i64>,
    #[field(min = 0, max = 1_000_000_000)]
    input_tokens: Option<i64>,
    #[field(min = 0, max = 1_000_000_000)]
    output_tokens: Option<i64>,
}

/// `POST /api/prompts/executions/{id}/outcome`: what is named is noted; naming it again corrects it.
pub fn outcome(Params(id): Params<Id>, Json(input): Json<OutcomeInput>) -> Result<Stored<Execution>> {
    prompt::transaction(|transaction| {
        let mut row = entity::read::<Execution>(transaction, &id)?;
        // Whose prompt does not exist for the caller, of that there is no execution either. Not by a scope: who asks a model
        // must be able to close the row whatever they see by then.
        if entity::find::<prompt::Prompt>(transaction, &row.prompt_id)?.is_none() {
            return Err(Problem::missing("execution"));
        }
        row.was_successful = input.success.or(row.was_successful);
        row.user_rating = input.rating.or(row.user_rating);
        row.latency_ms = input.latency_ms.or(row.latency_ms);
        row.input_tokens = input.input_tokens.or(row.input_tokens);
        row.output_tokens = input.output_tokens.or(row.output_tokens);
        if let (ExecutionStatus::Rendered, Some(success)) = (row.status, input.success) {
            row.status = if success { ExecutionStatus::Completed } else { ExecutionStatus::Failed };
        }
        entity::save(transaction, &mut row)?;
        if !is_shown(row.user_id.as_deref()) {
            row.output = None;
        }
        Ok(row)
    })
}
