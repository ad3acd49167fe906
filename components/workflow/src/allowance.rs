//! Which routes of other plugins a `service.call` may reach: what is useful to an automation and personal to nobody. An
//! operator may list others in the setting `service_routes`. Pure but for that setting.

use berth_sdk::{config, router::Route};

/// The setting: `GET /api/tasks, POST /api/tasks, …`; a prefix means whole segments.
const SETTING: &str = "service_routes";

/// What is allowed when the setting is absent: routes of services that the manifest lets workflows call. Whoever lists others
/// there lists their routes in the setting.
const ROUTES: &str = "GET /api/plans, GET /api/projects, GET /api/tasks, POST /api/tasks, PUT /api/tasks, GET /api/incidents, \
    POST /api/incidents, PUT /api/incidents, GET /api/issues, POST /api/issues, PUT /api/issues, GET /api/releases, \
    GET /api/reviews, POST /api/reviews, GET /api/executions, GET /api/prompts, POST /api/prompts/render, \
    GET /api/usage/summary, POST /api/usage/events, POST /api/metrics, GET /api/mcp/tools, POST /api/ai/completions";

/// Who answers which prefix.
const PLUGINS: [(&str, &[&str]); 18] = [
    ("notification-manager", &["/api/notifications"]),
    ("prompt-management", &["/api/prompts"]),
    ("usage-tracking", &["/api/usage", "/api/metrics"]),
    ("embeddings", &["/api/embeddings"]),
    ("ai-service", &["/api/ai", "/api/agents"]),
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
    ("logging", &["/api/logs", "/api/audit-logs"]),
    ("learning-development", &["/api/learning", "/api/patterns"]),
    ("collaboration", &["/api/collaboration", "/api/pairing", "/api/innovation"]),
    ("quality", &["/api/quality", "/api/experiments", "/api/compliance"]),
    ("resource-management", &["/api/resources", "/api/capacity"]),
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

/// The permissions that a route of another plugin may demand, as the SDK derives them. Of a `POST` below a module nobody
/// says whether it makes something or acts on a row: it needs both.
///
/// ```
/// use workflow::allowance::permissions;
/// assert_eq!(permissions("POST", "/api/tasks"), ["tasks.task.create"]);
/// assert_eq!(permissions("POST", "/api/tasks/t1/comments"), ["tasks.task.create", "tasks.task.update"]);
/// assert_eq!(permissions("GET", "/api/tasks/t1"), ["tasks.task.read"]);
/// ```
pub fn permissions(method: &str, path: &str) -> Vec<String> {
    let method = match method {
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "GET",
    };
    let mut segments = path.trim_start_matches("/api/").split('/');
    let module = segments.next().unwrap_or_default();
    let whole = format!("/api/{module}");
    let patterns = match (method, segments.next()) {
        (_, None) => vec![whole],
        ("POST", Some(_)) => vec![format!("{whole}/{{id}}"), whole],
        (_, Some(_)) => vec![format!("{whole}/{{id}}")],
    };
    let mut codes: Vec<String> =
        patterns.iter().filter_map(|pattern| Route::new(method, pattern).permission()).collect();
    codes.sort();
    codes
}

#[cfg(test)]
mod tests {
    use super::{PLUGINS, ROUTES, target};

    /// The lines of each plugin in the repository's manifest, by its name.
    fn manifest() -> Vec<(&'static str, &'static str)> {
        let text = include_str!("../../../plugins.toml");
        let named =
            |block: &'static str| block.split_once("name = \"")?.1.split_once('"').map(|(name, _)| (name, block));
        text.split("[[plugin]]").filter_map(named).collect()
    }

    /// The entries of a list of texts.
    fn list(block: &'static str, key: &str) -> Vec<&'static str> {
        let begin = format!("\n{key} = [");
        let inside = block.split_once(begin.as_str()).and_then(|(_, rest)| rest.split_once(']'));
        inside.map_or_else(Vec::new, |(inside, _)| inside.split('"').skip(1).step_by(2).collect())
    }

    #[test]
    fn what_may_be_called_by_default_the_manifest_grants() {
        let plugins = manifest();
        let own = plugins.iter().find(|(name, _)| *name == "workflow").unwrap().1;
        let granted = list(own, "call");
        for route in ROUTES.split(',') {
            let (method, path) = route.trim().split_once(' ').unwrap();
            let plugin = target(method, path).unwrap();
            assert!(granted.contains(&plugin), "{route}: the manifest does not let workflow call {plugin}");
        }
    }

    #[test]
    fn every_prefix_of_another_plugin_is_known_but_those_of_secrets() {
        for (name, block) in
            manifest().into_iter().filter(|(name, _)| !["workflow", "secret-management"].contains(name))
        {
            let known = PLUGINS.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, prefixes)| prefixes);
            for prefix in list(block, "routes") {
                assert!(known.contains(&prefix), "{name} answers {prefix}");
            }
        }
    }
}
