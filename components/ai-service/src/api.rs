//! Completions over HTTP, in this service's form.

use berth_sdk::{prelude::*, router::Route, schema, serde_json::Value};

use crate::{
    answer,
    ask::CompletionInput,
    completion::Completion,
    stream::{self, Form},
};

/// A choice, for the document of the API.
#[data]
pub struct Choice {
    /// Always 0.
    pub index: i64,
    /// `{role, content, toolCalls?}`.
    pub message: Value,
    /// `stop`, `length`, `tool_calls` or `content_filter`.
    pub finish_reason: String,
}

/// What was used.
#[data]
pub struct UsageShown {
    /// Of the question.
    pub prompt_tokens: i64,
    /// Of the answer.
    pub completion_tokens: i64,
    /// Both.
    pub total_tokens: i64,
}

/// An answer, for the document of the API.
#[data]
pub struct CompletionAnswer {
    /// The completion's id.
    pub id: Id,
    /// The model's name.
    pub model: String,
    /// Its id.
    pub model_id: Id,
    /// The provider's name.
    pub provider: String,
    /// One.
    pub choices: Vec<Choice>,
    /// What was used; by the first to ask, where `cached` is true.
    pub usage: UsageShown,
    /// What it cost now.
    pub cost_micro: i64,
    /// Answered from the cache.
    pub cached: bool,
    /// Somebody else answered than was asked first.
    pub was_failover: bool,
    /// Messages that did not fit into the model's window.
    pub messages_left_out: i64,
}

/// An answer, whole or piece by piece.
pub enum Answered {
    /// Whole.
    Whole(Value),
    /// Piece by piece.
    Stream(Sse),
}

impl Answer for Answered {
    fn into_response(self) -> Result<Response> {
        match self {
            Self::Whole(value) => Response::json(200, &value),
            Self::Stream(events) => events.into_response(),
        }
    }

    fn describe(route: &mut Route) {
        route.is_streaming = true;
        route.answer(200, Some(schema::of::<CompletionAnswer>), None);
    }
}

/// `POST /api/ai/completions`.
pub fn complete(Json(input): Json<CompletionInput>) -> Result<Answered> {
    let is_stream = input.stream;
    let ask = input.ask()?;
    if is_stream {
        return stream::answer(ask, Form::Native).map(Answered::Stream);
    }
    answer::whole(ask).map(|done| Answered::Whole(done.to_native()))
}

/// `POST /api/ai/completions/stream`.
pub fn complete_stream(Json(input): Json<CompletionInput>) -> Result<Sse> {
    stream::answer(input.ask()?, Form::Native)
}

/// `GET /api/ai/completions`, `?from&to` and the fields.
pub fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Completion>>>> {
    let mut select = Select::new();
    for (name, sql) in [("from", "\"created_at\" >= ?"), ("to", "\"created_at\" < ?")] {
        if let Some(text) = query.filter(name) {
            let moment = Timestamp::parse(&text)
                .ok_or_else(|| Problem::field(name, "must be a time such as 2026-01-31T08:15:00.000Z"))?;
            select = select.condition(sql, [moment]);
        }
    }
    select.page(&Pool, &query)
}

/// `GET /api/ai/completions/{id}`.
pub fn read(Params(id): Params<Id>) -> Result<Stored<Completion>> {
    entity::read(&Pool, &id)
}
