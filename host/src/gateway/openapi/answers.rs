//! What a route answers: what it describes itself, and the problems that the host, the kit of the services and the
//! protocol may answer in its place. Each is described once and referred to.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{EXAMPLE_ID, schema};
use crate::bindings::lifecycle::Route;
use crate::gateway::error::GatewayError;
use crate::gateway::problem::{self, Problem};
use crate::gateway::route::is_main_app;

/// A status that every route of some kind may answer.
struct Shared {
    status: u16,
    name: &'static str,
    problem: fn() -> Problem,
}

const fn shared_one(status: u16, name: &'static str, problem: fn() -> Problem) -> Shared {
    Shared { status, name, problem }
}

const SHARED: [Shared; 19] = [
    shared_one(400, "BadRequest", || of_error(&GatewayError::Malformed("the body is not JSON"))),
    shared_one(401, "Unauthorized", || of_error(&GatewayError::Unauthorized)),
    shared_one(403, "Forbidden", || {
        of_error(&GatewayError::Forbidden("the permission planning.plan.read is missing".to_owned()))
    }),
    shared_one(404, "NotFound", || of_error(&GatewayError::NotFound("plan"))),
    shared_one(408, "RequestTimeout", || of_error(&GatewayError::BodyTimeout)),
    shared_one(409, "Conflict", || of_error(&GatewayError::KeyInFlight)),
    shared_one(410, "Gone", || of(StatusCode::GONE)),
    shared_one(412, "PreconditionFailed", || of(StatusCode::PRECONDITION_FAILED)),
    shared_one(413, "PayloadTooLarge", || of_error(&GatewayError::BodyTooLarge(10 << 20))),
    shared_one(414, "UriTooLong", || of_error(&GatewayError::UriTooLong)),
    shared_one(415, "UnsupportedMediaType", || {
        of_error(&GatewayError::UnsupportedMediaType("application/json".to_owned()))
    }),
    shared_one(422, "Unprocessable", || of(StatusCode::UNPROCESSABLE_ENTITY)),
    shared_one(423, "Locked", || of(StatusCode::LOCKED)),
    shared_one(429, "TooManyRequests", || of_error(&GatewayError::RateLimited { retry_after_seconds: 17 })),
    shared_one(500, "Internal", || of(StatusCode::INTERNAL_SERVER_ERROR)),
    shared_one(501, "NotImplemented", || of(StatusCode::NOT_IMPLEMENTED)),
    shared_one(502, "BadGateway", || of_error(&GatewayError::BadAnswer(""))),
    shared_one(503, "Unavailable", || of_error(&GatewayError::NotLoaded)),
    shared_one(504, "GatewayTimeout", || of_error(&GatewayError::TimedOut)),
];

fn of_error(error: &GatewayError) -> Problem {
    Problem::from(error)
}

fn of(status: StatusCode) -> Problem {
    problem::example(status)
}

/// The one answer that is no problem in JSON: the head could not be read to its end.
const HEAD_TOO_LARGE: (u16, &str) = (431, "HeadTooLarge");

/// Every error has one shape; the usual ones are named, with an example each.
pub(super) fn shared() -> Value {
    let mut responses = Map::new();
    for Shared { name, problem, .. } in &SHARED {
        let problem = problem();
        let example = problem.json(EXAMPLE_ID);
        let mut response = json!({
            "description": problem.kind.title,
            "content": { "application/problem+json": {
                "schema": { "$ref": "#/components/schemas/Problem" },
                "example": example,
            } },
        });
        if let (Some(_), Some(members)) = (problem.retry_after_seconds, response.as_object_mut()) {
            let header = json!({ "description": "Seconds to wait.", "schema": { "type": "integer", "minimum": 1 } });
            members.insert("headers".to_owned(), json!({ "Retry-After": header }));
        }
        responses.insert((*name).to_owned(), response);
    }
    responses.insert(HEAD_TOO_LARGE.1.to_owned(), json!({ "description": "The request's head is too large" }));
    Value::Object(responses)
}

const PROBLEM: &str = "application/problem+json";

fn problem_reference() -> Value {
    json!({ "$ref": "#/components/schemas/Problem" })
}

/// The answers of a route, by their status.
pub(super) fn of_route(route: &Route) -> Value {
    let mut responses = Map::new();
    for answer in &route.answers {
        let description = || json!({ "description": answer.description });
        let response = responses.entry(answer.status.to_string()).or_insert_with(description);
        let is_problem = answer.status >= 400;
        let default = if is_problem { PROBLEM } else { "application/json" };
        let media_type = answer.media_type.as_deref().unwrap_or(default);
        let described = answer.schema.as_deref().and_then(schema);
        // A media type alone says that there is a body, of any form.
        let any = answer.media_type.as_ref().map(|_| json!({}));
        let fallback = is_problem.then(problem_reference);
        let Some(schema) = described.or(any).or(fallback) else { continue };
        let Some(members) = response.as_object_mut() else { continue };
        let content = members.entry("content").or_insert_with(|| json!({}));
        let Some(content) = content.as_object_mut() else { continue };
        content.insert(media_type.to_owned(), json!({ "schema": schema }));
        if is_problem && answer.media_type.is_some() {
            // Whatever the service answers, the host may refuse with the same status.
            content.entry(PROBLEM).or_insert_with(|| json!({ "schema": problem_reference() }));
        }
    }
    if !route.answers.iter().any(|answer| answer.status < 400) {
        // Its form is none that a schema could tell.
        responses.insert("2XX".to_owned(), json!({ "description": "Done." }));
    }
    for status in refusals(route) {
        let named = SHARED.iter().map(|shared| (shared.status, shared.name)).chain([HEAD_TOO_LARGE]);
        for (_, name) in named.filter(|(known, _)| *known == status) {
            let reference = json!({ "$ref": format!("#/components/responses/{name}") });
            responses.entry(status.to_string()).or_insert(reference);
        }
    }
    responses.sort_keys();
    Value::Object(responses)
}

/// The statuses a route may answer besides those that it describes.
fn refusals(route: &Route) -> Vec<u16> {
    let is_of_plugin = !is_of_host(&route.path) && !is_main_app(&route.path);
    let writes = !matches!(route.method.as_str(), "GET" | "HEAD");
    let has_body = route.request_schema.is_some();
    let is_named = route.path.contains('{');
    // Everything is counted, its head may be too large, and the host may be too busy or fail.
    let mut statuses = vec![400, 414, 429, 431, 500, 503];
    if !route.is_public || !is_of_host(&route.path) {
        // A public one may ask for a word of its own: a password, the token of a link.
        statuses.extend([401, 403]);
    }
    if is_named || has_body || !route.parameters.is_empty() {
        statuses.push(404);
    }
    if writes {
        // A body may come although nobody asked for one.
        statuses.extend([408, 409, 412, 413, 422]);
    }
    if has_body {
        statuses.push(415);
    }
    if is_of_plugin {
        // A service may have nothing to answer with yet.
        statuses.extend([404, 502, 504]);
        if is_named {
            // It is there, but not in a state, or no longer, in which it can be read.
            statuses.extend([409, 410]);
        }
        if is_named || !route.parameters.is_empty() {
            statuses.push(422);
        }
        if writes {
            statuses.push(501);
        }
    }
    if is_main_app(&route.path) {
        // A login provider or a mail server that is not there; an account that is locked; a link that was used.
        statuses.extend([410, 423, 502]);
    }
    statuses
}

/// Whether the host itself answers there.
pub(super) fn is_of_host(path: &str) -> bool {
    !path.starts_with("/api/") || path == "/api/health" || path.starts_with("/api/admin/") || path.ends_with("/health")
}

/// A problem of RFC 9457.
pub(super) fn problem_schema() -> Value {
    let text = || json!({ "type": "string" });
    json!({
        "type": "object",
        "required": ["type", "title", "status", "detail", "code", "requestId"],
        "properties": {
            "type": { "type": "string", "format": "uri" },
            "title": text(),
            "status": { "type": "integer" },
            "detail": text(),
            "code": text(),
            "requestId": text(),
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["field", "message"],
                    "properties": { "field": text(), "message": text() },
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_described_once_has_its_status() {
        for shared in &SHARED {
            assert_eq!((shared.problem)().kind.status.as_u16(), shared.status, "{}", shared.name);
        }
    }
}
