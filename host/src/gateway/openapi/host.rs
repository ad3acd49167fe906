//! The host's own routes as the document describes them: what watches it, its documents, and its administration.

use crate::bindings::lifecycle::{Answer, QueryParameter, Route};

const OBJECT: &str = r#"{"type":"object"}"#;
const LIST: &str =
    r#"{"type":"object","required":["items"],"properties":{"items":{"type":"array","items":{"type":"object"}}}}"#;
const STATUS: &str = r#"{"type":"object","required":["status"],"properties":{"status":{"type":"string"}}}"#;
const READY: &str = r#"{"type":"object","required":["status","checks"],"properties":{"status":{"enum":["ready","not_ready"]},"checks":{"type":"object","additionalProperties":{"enum":["ok","unavailable"]}}}}"#;
const HEALTH: &str = r#"{"type":"object","required":["service","status"],"properties":{"service":{"type":"string"},"status":{"enum":["ok","unavailable"]},"version":{"type":["string","null"]},"revision":{"type":"integer"},"sha256":{"type":"string"},"inFlight":{"type":"integer"},"traps":{"type":"integer"},"lastTrap":{"type":["string","null"]}}}"#;
/// One plugin.
const ENTRY: &str = "/api/admin/plugins/{name}";
/// One capsule.
const CAPSULE: &str = "/api/admin/capsules/{id}";
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
    let form = r#"{"type":"object","required":["entry","component"],"properties":{"entry":{"type":"string"},"component":{"type":"string","format":"binary"}}}"#;
    let with_body = |method: &str, summary: &str, schema: &str, media_type: &str| Route {
        request_schema: Some(schema.to_owned()),
        request_media_type: Some(media_type.to_owned()),
        ..route(method, ENTRY, summary, "admin")
    };
    let add = with_body("POST", "Add the plugin with this entry and its first build.", form, "multipart/form-data");
    let toml = |method: &str, summary: &str| with_body(method, summary, r#"{"type":"string"}"#, "application/toml");
    for (name, description) in [
        ("plan", "Only tell what a deploy would do; 200, and nothing is swapped."),
        ("grant", "Accept what the build asks for beyond the running one; without, that is 409 CAPABILITY_DIFF."),
        ("force", "Accept that routes go which other plugins may call; without, that is 409 ROUTES_IN_USE."),
    ] {
        deploy = parameter(deploy, name, description, TRUTH);
    }
    let revision = r#"{"type":"integer","minimum":1}"#;
    let rollback = post("/api/admin/plugins/{name}/rollback", "Go back to the build before, or to the one named.");
    let status = route("GET", "/api/admin/status", "How the host and every build fare.", "admin");
    let status = parameter(status, "plugin", "Of one plugin.", r#"{"type":"string"}"#);
    // Lists that may be followed.
    let streamed = |route: Route| {
        let limit = r#"{"type":"integer","minimum":0,"maximum":1000,"default":100}"#;
        let route = parameter(route, "limit", "The newest so many.", limit);
        let route = parameter(
            route,
            "after",
            "Only what comes behind this id.",
            r#"{"type":"integer","minimum":0,"maximum":18446744073709551615}"#,
        );
        let mut route = route;
        route.answers.push(Answer {
            status: 200,
            description: String::new(),
            schema: None,
            media_type: Some("text/event-stream".to_owned()),
        });
        parameter(route, "follow", "Server-sent events as they come; they resume after Last-Event-ID.", TRUTH)
    };
    let history = list("/api/admin/plugins/{name}/history", "The plugin's builds, the newest first.");
    vec![
        list("/api/admin/plugins", "Every plugin as it stands."),
        with_answer(route("GET", ENTRY, "The plugin's entry, as TOML.", "admin"), 200, "The entry.", OBJECT),
        with_answer(add, 201, "Its routes lead to it.", OBJECT),
        switched(waits(toml("PUT", "Replace the plugin's entry."))),
        switched(waits(toml("PATCH", "Change the keys of the plugin's entry that are named."))),
        switched(waits(route("DELETE", ENTRY, "Remove the plugin. Its data, messages and history stay.", "admin"))),
        switched(waits(deploy)),
        switched(waits(parameter(rollback, "revision", "The build to go back to.", revision))),
        parameter(history, "limit", "The most builds.", r#"{"type":"integer","minimum":1,"maximum":200,"default":50}"#),
        with_answer(status, 200, "The host, and every build.", LIST),
        list("/api/admin/grants", "What every plugin may do, in words."),
        with_answer(
            route("GET", "/api/admin/plugins/{name}/grants", "The same of one.", "admin"),
            200,
            "Its rights.",
            OBJECT,
        ),
        streamed(list(
            "/api/admin/plugins/{name}/logs",
            "The plugin's last lines, oldest first; `host` is the host itself.",
        )),
        streamed(list("/api/admin/events", "Deploys, trials, reverts, failures and traps, oldest first.")),
        parameter(
            list("/api/admin/capsules", "Failed calls that this host has kept, the newest first."),
            "plugin",
            "Of one plugin.",
            r#"{"type":"string"}"#,
        ),
        with_answer(route("GET", CAPSULE, "One of them, whole.", "admin"), 200, "The capsule.", OBJECT),
        Route {
            answers: vec![Answer {
                status: 204,
                description: "It is gone.".to_owned(),
                schema: None,
                media_type: None,
            }],
            ..route("DELETE", CAPSULE, "Remove one.", "admin")
        },
        Route {
            answers: vec![Answer {
                status: 200,
                description: "The component.".to_owned(),
                schema: Some(r#"{"type":"string","format":"binary"}"#.to_owned()),
                media_type: Some("application/wasm".to_owned()),
            }],
            ..route(
                "GET",
                "/api/admin/capsules/{id}/component",
                "The component that failed, as long as it is kept.",
                "admin",
            )
        },
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
