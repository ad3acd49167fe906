//! The host's own routes as the document describes them: what watches it, its documents, and its administration.

use crate::bindings::lifecycle::{Answer, QueryParameter, Route};

const OBJECT: &str = r#"{"type":"object"}"#;
const LIST: &str =
    r#"{"type":"object","required":["items"],"properties":{"items":{"type":"array","items":{"type":"object"}}}}"#;
const STATUS: &str = r#"{"type":"object","required":["status"],"properties":{"status":{"type":"string"}}}"#;
const READY: &str = r#"{"type":"object","required":["status","checks"],"properties":{"status":{"enum":["ready","not_ready"]},"checks":{"type":"object","additionalProperties":{"enum":["ok","unavailable"]}}}}"#;
const HEALTH: &str = r#"{"type":"object","required":["service","status"],"properties":{"service":{"type":"string"},"status":{"enum":["ok","unavailable"]},"version":{"type":["string","null"]},"revision":{"type":"integer"},"sha256":{"type":"string"},"inFlight":{"type":"integer"},"traps":{"type":"integer"},"lastTrap":{"type":["string","null"]}}}"#;
const TRUTH: &str = r#"{"type":"boolean","default":false}"#;

/// The routes that are always there.
pub(super) fn own() -> Vec<Route> {
    let probe = |path: &str, summary: &str, schema: &str| public("GET", path, summary, schema);
    vec![
        probe("/", "Which host this is, and which paths lead where.", OBJECT),
        probe("/health", "The process is up.", STATUS),
        probe("/api/health", "The same, below the API's prefix.", STATUS),
        probe("/live", "The process answers.", STATUS),
        with_answer(
            probe("/ready", "Database, cache and queue can be reached.", READY),
            503,
            "One of them cannot, or the host stops.",
            READY,
        ),
        probe("/openapi.json", "This document.", OBJECT),
    ]
}

/// The health of the service behind a prefix, which the host tells.
pub(super) fn health(prefix: &str, service: &str) -> Route {
    let route = route("GET", &format!("{prefix}/health"), &format!("Whether {service} answers."), "health");
    with_answer(with_answer(route, 200, "A build answers.", HEALTH), 503, "No build answers.", HEALTH)
}

/// `/api/admin`, for the platform role.
pub(super) fn administration() -> Vec<Route> {
    let list = |path: &str, summary: &str| with_answer(route("GET", path, summary, "admin"), 200, "All of them.", LIST);
    let post = |path: &str, summary: &str| route("POST", path, summary, "admin");
    let waits = |route: Route| parameter(route, "wait", "Answer only when the old build has drained.", TRUTH);
    let switched = |route: Route| {
        let route = with_answer(route, 200, "Switched, and the old build has drained.", OBJECT);
        with_answer(route, 202, "Switched; the old build still drains.", OBJECT)
    };
    let mut deploy = post("/api/admin/plugins/{name}/deploy", "Deploy the component in the body.");
    deploy.request_schema = Some(r#"{"type":"string","format":"binary"}"#.to_owned());
    deploy.request_media_type = Some("application/wasm".to_owned());
    let revision = r#"{"type":"integer","minimum":1}"#;
    let rollback = post("/api/admin/plugins/{name}/rollback", "Go back to the build before, or to the one named.");
    let history = list("/api/admin/plugins/{name}/history", "The plugin's builds, the newest first.");
    vec![
        list("/api/admin/plugins", "Every plugin as it stands."),
        switched(waits(deploy)),
        switched(waits(parameter(rollback, "revision", "The build to go back to.", revision))),
        parameter(history, "limit", "The most builds.", r#"{"type":"integer","minimum":1,"maximum":200,"default":50}"#),
        list("/api/admin/routes", "Which path leads to which plugin."),
        list("/api/admin/queues", "Queues with their depth, consumers and dead letters."),
        with_answer(
            post("/api/admin/queues/{name}/redrive", "Put the dead letters back into the queue."),
            200,
            "How many were put back.",
            OBJECT,
        ),
    ]
}

fn public(method: &str, path: &str, summary: &str, schema: &str) -> Route {
    let mut route = with_answer(route(method, path, summary, "host"), 200, summary, schema);
    route.is_public = true;
    route
}

fn route(method: &str, path: &str, summary: &str, tag: &str) -> Route {
    Route {
        method: method.to_owned(),
        path: path.to_owned(),
        summary: summary.to_owned(),
        permission: None,
        is_public: false,
        is_streaming: false,
        needs_organization: false,
        parameters: Vec::new(),
        request_schema: None,
        request_media_type: None,
        answers: Vec::new(),
        tag: tag.to_owned(),
    }
}

fn with_answer(mut route: Route, status: u16, description: &str, schema: &str) -> Route {
    // A plugin without a build, and a host that is not ready, say so in the form of their own.
    let media_type = Some("application/json".to_owned());
    let (description, schema) = (description.to_owned(), Some(schema.to_owned()));
    route.answers.push(Answer { status, description, schema, media_type });
    route
}

fn parameter(mut route: Route, name: &str, description: &str, schema: &str) -> Route {
    route.parameters.push(QueryParameter {
        name: name.to_owned(),
        description: description.to_owned(),
        required: false,
        schema: schema.to_owned(),
    });
    route
}
