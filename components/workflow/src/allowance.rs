//! Which routes of other plugins a `service.call` may reach: what is useful to an automation and personal to nobody. An
//! operator may list others in the setting `service_routes`. Pure but for that setting.

use berth_sdk::{config, router::Route};

/// The setting: `GET /api/tasks, POST /api/tasks, …`; a prefix means whole segments.
const SETTING: &str = "service_routes";

/// What is allowed when the setting is absent.
const ROUTES: &str = "GET /api/plans, GET /api/projects, GET /api/tasks, POST /api/tasks, PUT /api/tasks, GET /api/incidents, \
    POST /api/incidents, PUT /api/incidents, GET /api/issues, POST /api/issues, PUT /api/issues, GET /api/releases, \
    GET /api/reviews, POST /api/reviews, GET /api/executions, GET /api/knowledge, POST /api/knowledge, GET /api/prompts, \
    POST /api/prompts/render, GET /api/usage/summary, POST /api/usage/events, POST /api/metrics, POST /api/embeddings/search, \
    GET /api/calendar/availability, POST /api/calendar/events, GET /api/resources, GET /api/quality, GET /api/observability, \
    GET /api/mcp/tools, POST /api/ai/completions";

/// Who answers which prefix.
const PLUGINS: [(&str, &[&str]); 18] = [
    ("notification-manager", &["/api/notifications"]),
    ("prompt-management", &["/api/prompts"]),
    ("usage-tracking", &["/api/usage", "/api/metrics"]),
    ("embeddings", &["/api/embeddings"]),
    ("ai-service", &["/api/ai"]),
    (
        "planning",
        &[
            "/api/plans",
            "/api/projects",
            "/api/tasks",
            "/api/roadmaps",
            "/api/issues",
            "/api/releases",
            "/api/architecture",
            "/api/dependencies",
            "/api/incidents",
            "/api/environments",
            "/api/debt",
            "/api/reviews",
            "/api/modules",
            "/api/application-context",
        ],
    ),
    ("execution-service", &["/api/executions"]),
    ("mcp-server", &["/api/mcp"]),
    ("knowledge-base", &["/api/knowledge"]),
    ("dashboard", &["/api/dashboards"]),
    ("calendar", &["/api/calendar"]),
    ("messaging", &["/api/messaging"]),
    ("logging", &["/api/logs"]),
    ("learning-development", &["/api/learning", "/api/patterns"]),
    ("collaboration", &["/api/collaboration"]),
    ("quality", &["/api/quality", "/api/experiments", "/api/compliance"]),
    ("resource-management", &["/api/resources"]),
    ("observability", &["/api/observability"]),
];

/// The plugin that answers a call which is allowed; a sentence otherwise. A segment may be a reference while it is saved.
///
/// ```
/// use workflow::allowance::target;
/// assert_eq!(target("GET", "/api/tasks/{{trigger.data.taskId}}"), Ok("planning"));
/// assert!(target("DELETE", "/api/tasks/t1").is_err());
/// assert!(target("GET", "/api/tasksx").is_err());
/// assert!(target("GET", "/api/tasks/%2e%2e/secrets").is_err());
/// ```
pub fn target(method: &str, path: &str) -> Result<&'static str, String> {
    let path = without_references(path).ok_or("a reference in it is not closed")?;
    let fits = |segment: &str| {
        !segment.is_empty()
            && segment.len() <= 128
            && segment != "."
            && segment != ".."
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    let is_sound = path.len() <= 2_000 && path.strip_prefix("/api/").is_some_and(|rest| rest.split('/').all(fits));
    if !is_sound {
        return Err("must be a path such as /api/tasks/t1, without query and escapes".into());
    }
    let setting = config::get::<String>(SETTING).unwrap_or_else(|| ROUTES.to_string());
    let is_listed = setting
        .split(',')
        .filter_map(|route| route.trim().split_once(' '))
        .any(|(allowed, prefix)| allowed.eq_ignore_ascii_case(method) && is_below(&path, prefix.trim()));
    if !is_listed {
        return Err(format!("{method} {path} is not among the routes that workflows may call"));
    }
    let plugin = PLUGINS.iter().find(|(_, prefixes)| prefixes.iter().any(|prefix| is_below(&path, prefix)));
    plugin.map(|(name, _)| *name).ok_or_else(|| format!("no plugin answers {path}"))
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The path with a word in the place of every reference.
fn without_references(path: &str) -> Option<String> {
    let mut whole = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once("{{") {
        whole.push_str(before);
        whole.push('x');
        rest = after.split_once("}}")?.1;
    }
    whole.push_str(rest);
    Some(whole)
}

/// The permission that a route of another plugin demands, as the SDK derives it: an action below a row is an update.
///
/// ```
/// use workflow::allowance::permission;
/// assert_eq!(permission("POST", "/api/tasks"), "tasks.task.create");
/// assert_eq!(permission("POST", "/api/tasks/t1/comments"), "tasks.task.update");
/// ```
pub fn permission(method: &str, path: &str) -> String {
    let method = match method {
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "GET",
    };
    let mut segments = path.trim_start_matches("/api/").split('/');
    let module = segments.next().unwrap_or_default();
    let pattern = if segments.next().is_some() { format!("/api/{module}/{{id}}") } else { format!("/api/{module}") };
    Route::new(method, &pattern).permission().unwrap_or_default()
}
