//! OpenAI's own interface, so that its clients work with `base_url` `…/api/ai/v1` and a token or an API key as key:
//! `chat/completions`, `models`, `embeddings`, and errors in OpenAI's form.

mod embeddings;
mod request;

pub use embeddings::create as embed;

use berth_sdk::{prelude::*, router::Route, serde_json::Value};

use crate::{
    answer::{self, Done},
    catalog::{self, KnownModel},
    message::ToolCall,
    stream::{self, Form},
    wire::Usage,
};

/// An answer in OpenAI's form; what goes wrong as well.
pub struct Compatible(pub Result<Response>);

impl Answer for Compatible {
    fn into_response(self) -> Result<Response> {
        match self.0 {
            Ok(response) => Ok(response),
            Err(problem) => {
                let problem = plain(problem);
                let mut response = Response::json(problem.status, &error(&problem))?;
                response.headers.extend(problem.headers().iter().cloned());
                Ok(response)
            }
        }
    }

    fn describe(route: &mut Route) {
        route.answer(200, Some(berth_sdk::schema::of::<Value>), None);
        for status in [400, 401, 403, 404, 409, 413, 429, 500, 501, 502, 503, 504] {
            route.answer(status, Some(error_schema), Some("application/json"));
        }
    }
}

/// An error as clients of OpenAI's API expect it.
fn error_schema() -> Value {
    json!({
        "type": "object",
        "required": ["error"],
        "properties": { "error": { "type": "object", "required": ["message", "type"] } },
    })
}

/// The same for a route that may stream.
pub struct MayStream(pub Compatible);

impl Answer for MayStream {
    fn into_response(self) -> Result<Response> {
        self.0.into_response()
    }

    fn describe(route: &mut Route) {
        route.is_streaming = true;
        Compatible::describe(route);
    }
}

/// OpenAI says 400 where we say 422.
fn plain(mut problem: Problem) -> Problem {
    if problem.status == 422 {
        problem.status = 400;
    }
    problem
}

/// An error as OpenAI writes it.
pub fn error(problem: &Problem) -> Value {
    let kind = match problem.status {
        401 => "authentication_error",
        403 => "permission_error",
        429 if problem.code == "QUOTA_EXCEEDED" => "insufficient_quota",
        429 => "rate_limit_error",
        400..500 => "invalid_request_error",
        _ => "server_error",
    };
    let param = problem.errors.first().map(|error| error.field.clone());
    let message = match problem.errors.first() {
        Some(error) => format!("{} {}", error.field, error.message),
        None => problem.detail.clone(),
    };
    json!({ "error": { "message": message, "type": kind, "param": param, "code": problem.code.to_lowercase() } })
}

/// `POST /api/ai/v1/chat/completions`.
pub fn chat(body: request::Body) -> MayStream {
    MayStream(Compatible(respond(body)))
}

fn respond(body: request::Body) -> Result<Response> {
    let chat = body.read()?;
    if chat.stream {
        return stream::answer(chat.ask, Form::OpenAi { with_usage: chat.with_usage })?.into_response();
    }
    Response::json(200, &completion(&answer::whole(chat.ask)?))
}

/// An answer as OpenAI writes it.
fn completion(done: &Done) -> Value {
    let mut message = json!({ "role": "assistant", "content": done.turn.content, "refusal": null });
    if let (false, Some(members)) = (done.turn.calls.is_empty(), message.as_object_mut()) {
        members.insert("tool_calls".into(), done.turn.calls.iter().map(ToolCall::to_openai).collect());
    }
    json!({
        "id": format!("chatcmpl-{}", done.id), "object": "chat.completion", "created": done.at.millis() / 1_000,
        "model": done.model, "provider": done.provider,
        "choices": [{ "index": 0, "message": message, "finish_reason": done.finish, "logprobs": null }],
        "usage": usage(done.usage),
    })
}

fn usage(usage: Usage) -> Value {
    json!({ "prompt_tokens": usage.input, "completion_tokens": usage.output, "total_tokens": usage.total() })
}

/// A piece of a streamed answer, with the names of its model and provider.
pub fn chunk(id: &Id, at: Timestamp, names: (&str, &str), delta: Value, reason: Option<&str>) -> Value {
    let choice = json!({ "index": 0, "delta": delta, "finish_reason": reason, "logprobs": null });
    piece(id, at, names, vec![choice])
}

/// The last piece, where it is asked for.
pub fn usage_chunk(id: &Id, at: Timestamp, names: (&str, &str), used: Usage) -> Value {
    let mut piece = piece(id, at, names, Vec::new());
    if let Some(members) = piece.as_object_mut() {
        members.insert("usage".into(), usage(used));
    }
    piece
}

fn piece(id: &Id, at: Timestamp, (model, provider): (&str, &str), choices: Vec<Value>) -> Value {
    json!({
        "id": format!("chatcmpl-{id}"), "object": "chat.completion.chunk", "created": at.millis() / 1_000, "model": model,
        "provider": provider, "choices": choices,
    })
}

/// `GET /api/ai/v1/models`: those that can be asked.
pub fn models() -> Compatible {
    Compatible((|| {
        let catalog = catalog::load()?;
        let user_id = auth::principal().user_id;
        let mut names: Vec<&str> = Vec::new();
        let mut data = Vec::new();
        for model in &catalog.models {
            if names.contains(&model.name.as_str()) || catalog.why_not(model, user_id.as_deref()).is_some() {
                continue;
            }
            names.push(&model.name);
            data.push(shown(&catalog, model));
        }
        Response::json(200, &json!({ "object": "list", "data": data }))
    })())
}

/// `GET /api/ai/v1/models/{model}`, and with the provider before it.
pub fn model(request: Request) -> Compatible {
    Compatible((|| {
        let catalog = catalog::load()?;
        let name = request.params.join("/");
        let user_id = auth::principal().user_id;
        let found = catalog.find(&name, user_id.as_deref());
        let found = found.filter(|model| catalog.why_not(model, user_id.as_deref()).is_none());
        let found = found.ok_or_else(|| Problem::missing("model").with_code("MODEL_NOT_FOUND"))?;
        Response::json(200, &shown(&catalog, found))
    })())
}

fn shown(catalog: &catalog::Catalog, model: &KnownModel) -> Value {
    let owner = catalog.provider_of(model).map_or("", |provider| provider.name.as_str());
    json!({ "id": model.name, "object": "model", "created": model.created_at.millis() / 1_000, "owned_by": owner })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_says_who_answers() {
        let (id, at, names) = (Id::from("c1"), Timestamp::from_millis(0), ("echo", "echo"));
        let pieces = [
            chunk(&id, at, names, json!({ "content": "x" }), None),
            usage_chunk(&id, at, names, Usage { input: 1, output: 2 }),
        ];
        for piece in pieces {
            assert_eq!((&piece["model"], &piece["provider"]), (&json!("echo"), &json!("echo")), "{piece}");
        }
    }

    #[test]
    fn an_error_has_openais_form() {
        let problem = Problem::field("messages", "is required");
        let body = error(&problem);
        assert_eq!(body["error"]["type"], "invalid_request_error");
        assert_eq!(
            (body["error"]["param"].as_str(), body["error"]["code"].as_str()),
            (Some("messages"), Some("validation_error"))
        );
        let response =
            Compatible(Err(Problem::unprocessable("x").with_code("CONTEXT_LENGTH_EXCEEDED"))).into_response().unwrap();
        assert_eq!(response.status, 400);
        assert_eq!(response.json_body().unwrap()["error"]["code"], "context_length_exceeded");
        let limited = Problem::rate_limited("x").with_header("retry-after", "7");
        let response = Compatible(Err(limited)).into_response().unwrap();
        assert!(response.headers.contains(&("retry-after".into(), "7".into())));
    }
}
