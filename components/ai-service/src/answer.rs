//! Whole answers: choose, check, count, ask one after another, close. And what streams share with them.

use std::time::{Duration, Instant};

use berth_sdk::{
    prelude::*,
    serde::{Deserialize, Serialize},
    serde_json::{self, Value},
};

use crate::{
    ask::Ask,
    attempt::{self, Triggers, World},
    cached, catalog,
    catalog::{Catalog, KnownModel, KnownProvider},
    completion::{self, End, Open, Status},
    echo,
    failure::{Failure, FailureKind},
    live,
    message::{self, Turn},
    model,
    provider::health,
    quota::{self, Estimate},
    rate::{self, Counted},
    routing::{self, Needs},
    wire::{Dialect, Gathered, Question, Usage, lines::Decoder},
};

/// How long all attempts together may take.
const TIME_MAX: Duration = Duration::from_secs(90);
/// The same for another service, which waits 30 s at most.
const TIME_MAX_INTERNAL: Duration = Duration::from_secs(27);

/// A model that may be asked, with what it is asked.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Which.
    pub model: KnownModel,
    /// Whose.
    pub provider: KnownProvider,
    /// What of the messages fits into its window.
    pub turns: Vec<Turn>,
    /// How many were left out.
    pub dropped: usize,
    /// About how many tokens that is.
    pub input: i64,
    /// How warm.
    pub temperature: Option<f64>,
    /// How long.
    pub max_tokens: Option<i64>,
}

impl Candidate {
    /// The question as its provider takes it.
    pub fn question<'a>(&'a self, ask: &'a Ask, stream: bool) -> Question<'a> {
        Question {
            provider: &self.provider,
            model: &self.model,
            ask,
            turns: &self.turns,
            temperature: self.temperature,
            max_tokens: self.max_tokens,
            stream,
        }
    }

    fn of(catalog: &Catalog, model: &KnownModel, ask: &Ask, user_id: Option<&str>) -> Option<Self> {
        let provider = catalog.provider_of(model)?.clone();
        let wanted = ask.max_tokens.or_else(|| catalog.max_tokens(model, user_id));
        let max_tokens = match (wanted, model.max_output_tokens) {
            (Some(wanted), Some(most)) => Some(wanted.min(most)),
            (wanted, _) => wanted,
        };
        let window = model.context_window - ask.tool_tokens();
        let reserve = max_tokens.or(model.max_output_tokens).unwrap_or(window / 4).clamp(0, window.max(0) / 4);
        let (turns, dropped) =
            message::fit(&ask.turns, window - reserve).or_else(|| message::fit(&ask.turns, window - 1))?;
        let input = turns.iter().map(Turn::tokens).sum::<i64>() + ask.tool_tokens();
        let room = (model.context_window - input).max(1);
        Some(Self {
            model: model.clone(),
            provider,
            turns,
            dropped,
            input,
            temperature: ask.temperature.or_else(|| catalog.temperature(model, user_id)),
            max_tokens: max_tokens.map(|tokens| tokens.min(room)),
        })
    }
}

/// A question that may be put.
#[derive(Debug)]
pub struct Prepared {
    /// What.
    pub ask: Ask,
    /// To whom, one after another.
    pub candidates: Vec<Candidate>,
    /// What leads to the next one.
    pub triggers: Triggers,
    /// What was counted already.
    pub counted: Counted,
    /// The question's name in the cache.
    pub hash: Option<String>,
    began: Instant,
    budget: Duration,
}

/// Chooses and checks; nothing has been asked and nothing written when it fails.
pub fn prepare(ask: Ask) -> Result<Prepared> {
    let principal = auth::principal();
    let organization_id = auth::organization_id()?;
    let user_id = principal.user_id.as_deref();
    let catalog = catalog::load()?;
    let needs = Needs::of(&ask);
    let first = routing::choose(&catalog, &ask, &needs, user_id, routing::rules)?;
    let way = routing::way(&catalog, first, &needs, user_id)?;
    let primary = Candidate::of(&catalog, first, &ask, user_id).ok_or_else(|| {
        let window = first.context_window;
        let detail = format!("The messages are too long for the model's window of {window} tokens.");
        Failure::new(FailureKind::TooLong, detail).problem()
    })?;
    let others = way.models.iter().skip(1).filter_map(|model| Candidate::of(&catalog, model, &ask, user_id));
    let hash = cached::hash(&ask, first, primary.max_tokens, &organization_id);
    let mut candidates = vec![primary];
    candidates.extend(others);
    let counted = rate::admit(user_id)?;
    let budget = if principal.source_service.is_some() { TIME_MAX_INTERNAL } else { TIME_MAX };
    let triggers = Triggers {
        on_error: way.on_error,
        on_rate_limit: way.on_rate_limit,
        on_timeout: way.on_timeout,
        timeout: way.timeout,
    };
    let prepared = Prepared { ask, candidates, triggers, counted, hash, began: Instant::now(), budget };
    prepared.check_quota().inspect_err(|_| prepared.counted.release())?;
    Ok(prepared)
}

impl Prepared {
    /// The model that is asked first.
    pub fn first(&self) -> Result<&Candidate> {
        self.candidates.first().ok_or_else(Problem::internal)
    }

    fn check_quota(&self) -> Result<()> {
        let first = self.first()?;
        let output = first.max_tokens.unwrap_or(0);
        let model = &first.model;
        let usage = Usage { input: first.input, output };
        quota::check(&Estimate {
            tokens: usage.total(),
            input: usage.input,
            cost_micro: model::cost(usage, model.input_price_per_1m_micro, model.output_price_per_1m_micro),
            model: &model.name,
            provider: &first.provider.name,
        })
    }

    /// How much time is left for all attempts.
    pub fn left(&self) -> Duration {
        self.budget.saturating_sub(self.began.elapsed())
    }

    /// Asks a model and waits for the whole answer.
    pub fn ask_whole(&self, index: usize, timeout: Duration) -> Result<Gathered, Failure> {
        let candidate = self.candidates.get(index).ok_or_else(|| Failure::invalid("There is no such model."))?;
        let mut gathered = Gathered::default();
        let Some(dialect) = Dialect::of(candidate.provider.kind) else {
            let deltas = echo::answer(&candidate.turns, candidate.max_tokens);
            deltas.iter().for_each(|delta| gathered.push(delta));
            return Ok(gathered);
        };
        let began = Instant::now();
        let answer = live::opened(&dialect.call(&candidate.question(&self.ask, false))?.timeout(timeout))?;
        let comes_in_lines = is_stream(answer.head.header("content-type"));
        let body = live::whole(answer, timeout.saturating_sub(began.elapsed()))?;
        // Some answer with a stream whatever they were asked for.
        if !comes_in_lines {
            return dialect.read(&body);
        }
        let (mut decoder, mut deltas) = (Decoder::new(dialect), Vec::new());
        decoder.push(&body, &mut deltas)?;
        decoder.end(&mut deltas)?;
        deltas.iter().for_each(|delta| gathered.push(delta));
        Ok(gathered)
    }
}

/// Whether a body of this type comes line by line.
pub fn is_stream(media_type: Option<&str>) -> bool {
    media_type.is_some_and(|kind| kind.contains("event-stream") || kind.contains("ndjson") || kind.contains("jsonl"))
}

/// Notes how a provider did; that it cannot be noted is no failure.
pub fn note<T>(provider: &KnownProvider, result: &Result<T, Failure>) {
    if let Err(problem) = health::note(provider, result.as_ref().err()) {
        logging::warn!("a provider's health could not be noted", problem = problem);
    }
}

struct Asking<'a> {
    prepared: &'a Prepared,
    open: &'a mut Open,
}

impl World<Gathered> for Asking<'_> {
    fn left(&self) -> Duration {
        self.prepared.left()
    }
    fn pause(&self, duration: Duration) {
        clock::sleep(duration);
    }
    fn attempt(&mut self, index: usize, timeout: Duration) -> Result<Gathered, Failure> {
        let result = self.prepared.ask_whole(index, timeout);
        if let Some(candidate) = self.prepared.candidates.get(index) {
            note(&candidate.provider, &result);
        }
        result
    }
    fn moves(&mut self, index: usize, failure: &Failure) {
        moved(self.prepared, self.open, index, failure);
    }
}

/// Notes that another model is asked.
pub fn moved(prepared: &Prepared, open: &mut Open, index: usize, failure: &Failure) {
    let Some(candidate) = prepared.candidates.get(index) else { return };
    if let Err(problem) = open.moves(&candidate.model, &candidate.provider, &failure.message) {
        logging::warn!("a fallback could not be noted", problem = problem);
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Done {
    /// The completion's id.
    pub id: Id,
    /// The model's name.
    pub model: String,
    /// Its id.
    pub model_id: String,
    /// The provider's name.
    pub provider: String,
    /// What was said.
    pub turn: Turn,
    /// Why it ended.
    pub finish: String,
    /// What was used; by the first to ask, where it came from the cache.
    pub usage: Usage,
    /// What it cost now.
    pub cost_micro: i64,
    /// Answered from the cache.
    pub cached: bool,
    /// Somebody else answered than was asked first.
    pub was_failover: bool,
    /// Messages that did not fit.
    pub dropped: usize,
    /// When.
    pub at: Timestamp,
}

/// What of an answer is kept.
#[derive(Serialize, Deserialize)]
#[serde(crate = "berth_sdk::serde")]
struct Kept {
    turn: Turn,
    finish: String,
    input: i64,
    output: i64,
}

/// Asks and waits for the whole answer.
pub fn whole(ask: Ask) -> Result<Done> {
    let prepared = prepare(ask)?;
    if let Some(done) = from_cache(&prepared)? {
        return Ok(done);
    }
    let first = prepared.first()?;
    let mut open =
        completion::open(&prepared.ask, &first.model, &first.provider, prepared.hash.clone(), Status::Pending)?;
    let models = prepared.candidates.len();
    let outcome = attempt::through(models, prepared.triggers, &mut Asking { prepared: &prepared, open: &mut open });
    let (index, result) = match outcome {
        Ok((index, gathered)) => (index, Ok(gathered)),
        Err((index, failure)) => (index, Err(failure)),
    };
    let candidate = prepared.candidates.get(index).ok_or_else(Problem::internal)?;
    finish(&prepared, candidate, index > 0, open, result)
}

fn finish(
    prepared: &Prepared,
    candidate: &Candidate,
    was_failover: bool,
    open: Open,
    result: Result<Gathered, Failure>,
) -> Result<Done> {
    let id = open.id.clone();
    let gathered = match result {
        Ok(gathered) => gathered,
        Err(failure) => {
            let end =
                End { status: failure.status(), usage: Usage::default(), response: None, error: Some(told(&failure)) };
            open.close(end, &candidate.model)?;
            return Err(failure.problem().with("completionId", id.as_str()));
        }
    };
    let usage = gathered.usage(candidate.input);
    let kept =
        json!({ "turn": gathered.turn(), "finish": gathered.reason(), "input": usage.input, "output": usage.output });
    let response = open.stores().then(|| kept.clone());
    let end = End { status: Status::Completed, usage, response, error: None };
    let (status, cost_micro) = open.close(end, &candidate.model)?;
    prepared.counted.clone().spend(usage.total());
    if status == Status::Cancelled {
        return Err(Failure::new(FailureKind::Cancelled, "It was cancelled.")
            .problem()
            .with("completionId", id.as_str()));
    }
    if let Some(hash) = prepared.hash.as_ref().filter(|_| !was_failover) {
        cached::keep(hash, &candidate.model, &kept);
    }
    Ok(Done {
        id,
        model: candidate.model.name.clone(),
        model_id: candidate.model.id.clone(),
        provider: candidate.provider.name.clone(),
        turn: gathered.turn(),
        finish: gathered.reason().to_string(),
        usage,
        cost_micro,
        cached: false,
        was_failover,
        dropped: candidate.dropped,
        at: clock::now(),
    })
}

/// Code and sentence of a failure, for the row: without the provider's words, which may repeat what was asked.
pub fn told(failure: &Failure) -> (String, String) {
    (failure.problem().code.to_string(), failure.message.clone())
}

/// The answer that was given to the same question within the last hour.
pub fn from_cache(prepared: &Prepared) -> Result<Option<Done>> {
    let Some(hash) = &prepared.hash else { return Ok(None) };
    let Some(kept) = cached::find(hash)? else { return Ok(None) };
    let Ok(kept) = serde_json::from_value::<Kept>(kept) else { return Ok(None) };
    let first = prepared.first()?;
    let open = completion::open(&prepared.ask, &first.model, &first.provider, Some(hash.clone()), Status::Pending)?;
    let id = open.id.clone();
    open.close_cached(&first.model)?;
    Ok(Some(Done {
        id,
        model: first.model.name.clone(),
        model_id: first.model.id.clone(),
        provider: first.provider.name.clone(),
        turn: kept.turn,
        finish: kept.finish,
        usage: Usage { input: kept.input, output: kept.output },
        cost_micro: 0,
        cached: true,
        was_failover: false,
        dropped: first.dropped,
        at: clock::now(),
    }))
}

impl Done {
    /// In this service's form.
    pub fn to_native(&self) -> Value {
        let mut message = json!({ "role": "assistant", "content": self.turn.content });
        if let (false, Some(members)) = (self.turn.calls.is_empty(), message.as_object_mut()) {
            members.insert("toolCalls".into(), self.turn.calls.iter().map(message::ToolCall::to_openai).collect());
        }
        json!({
            "id": self.id, "model": self.model, "modelId": self.model_id, "provider": self.provider,
            "choices": [{ "index": 0, "message": message, "finishReason": self.finish }],
            "usage": native_usage(self.usage), "costMicro": self.cost_micro, "cached": self.cached,
            "wasFailover": self.was_failover, "messagesLeftOut": self.dropped,
        })
    }
}

/// Usage in this service's form.
pub fn native_usage(usage: Usage) -> Value {
    json!({ "promptTokens": usage.input, "completionTokens": usage.output, "totalTokens": usage.total() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalog::sample, message::Role, provider::ProviderType};

    fn candidate(window: i64, length: usize, max_tokens: Option<i64>) -> Option<Candidate> {
        let mut model = sample::model("m1", "p1", "small");
        model.context_window = window;
        let catalog = Catalog {
            providers: vec![sample::provider("p1", ProviderType::Openai)],
            models: vec![model.clone()],
            settings: Vec::new(),
        };
        let ask = Ask { turns: vec![Turn::text(Role::User, "x".repeat(length * 4))], max_tokens, ..Ask::default() };
        Candidate::of(&catalog, &model, &ask, None)
    }

    #[test]
    fn an_answer_is_no_longer_than_the_window_leaves_room_for() {
        assert_eq!(candidate(1_000, 100, Some(5_000)).unwrap().max_tokens, Some(896));
        assert_eq!(candidate(1_000, 100, Some(10)).unwrap().max_tokens, Some(10));
        assert_eq!(candidate(1_000, 900, None).unwrap().dropped, 0, "it fits, though little room is left");
        assert!(candidate(1_000, 1_000, None).is_none());
    }

    #[test]
    fn what_comes_line_by_line_is_known_by_its_type() {
        assert!(is_stream(Some("text/event-stream; charset=utf-8")) && is_stream(Some("application/x-ndjson")));
        assert!(!is_stream(Some("application/json")) && !is_stream(None));
    }
}
