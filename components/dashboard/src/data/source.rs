//! A source of one's own: which service is read, and where. It is read as whoever looks, so it shows nobody more than they may
//! see; what it may name is bounded all the same, because others look at what somebody has made.

use std::collections::BTreeMap;

use berth_sdk::{
    entity::{Column, Kind},
    prelude::*,
    serde_json::Value,
};

use super::{
    look::{Look, plain},
    step::{Ask, Step},
    transform::Transform,
};
use crate::widget::impossible;

/// The services that a source may name. Not among them: secret-management, whose values are not for display, and dashboard,
/// which would read itself.
const SERVICES: &[&str] = &[
    "ai-service",
    "calendar",
    "collaboration",
    "embeddings",
    "execution-service",
    "knowledge-base",
    "learning-development",
    "logging",
    "mcp-server",
    "messaging",
    "notification-manager",
    "observability",
    "planning",
    "prompt-management",
    "quality",
    "resource-management",
    "usage-tracking",
    "workflow",
];
const PATH_BYTES_MAX: usize = 500;
const PARAMETERS_MAX: usize = 30;
const PARAMETER_CHARACTERS_MAX: usize = 500;

/// Where a widget has its data from.
#[data]
pub(crate) struct DataSource {
    /// A service, such as `planning`.
    #[field(min = 1, max = 64)]
    pub service: String,
    /// A path that answers `GET` with JSON, such as `/api/tasks`; `{contextId}` stands in it as in the parameters.
    #[field(min = 1, max = 500)]
    pub path: String,
    /// Parameters of the query. In a text `{from}`, `{to}`, `{userId}`, `{contextId}`, `{scopeId}`, `{projectId}`, `{teamId}` and
    /// the names of filters stand for what they are; a parameter for which there is nothing is left out.
    #[field(default)]
    pub params: BTreeMap<String, Value>,
    pub transform: Option<Transform>,
}

impl Column for DataSource {
    const KIND: Kind = Kind::Json;
}

impl DataSource {
    /// 422 for what may not be read.
    pub fn check(&self) -> Result<()> {
        if !SERVICES.contains(&self.service.as_str()) {
            return Err(impossible("dataSource.service", &format!("must be one of {}", SERVICES.join(", "))));
        }
        if let Err(message) = check_path(&self.path) {
            return Err(impossible("dataSource.path", message));
        }
        if self.params.len() > PARAMETERS_MAX {
            return Err(impossible("dataSource.params", &format!("must have at most {PARAMETERS_MAX} members")));
        }
        for (name, value) in &self.params {
            let field = format!("dataSource.params.{name}");
            if validate::id(name).is_err() {
                return Err(impossible(&field, "must have a name of letters, digits, _ and -"));
            }
            let is_plain =
                value.is_null() || plain(value).is_some_and(|text| text.chars().count() <= PARAMETER_CHARACTERS_MAX);
            if !is_plain {
                return Err(impossible(&field, "must be a number, a boolean or a short text"));
            }
        }
        match self.transform.as_ref().map(Transform::check) {
            Some(Err((field, message))) => Err(impossible(&format!("dataSource.transform.{field}"), message)),
            _ => Ok(()),
        }
    }

    /// The question, and what becomes of its answer. 422 where the path needs something that is not known.
    pub fn plan(&self, look: &Look) -> Result<Step> {
        self.check()?;
        let path = filled(&self.path, look, true).ok_or_else(|| {
            Problem::unprocessable(
                "The path of this widget's source needs something that was not said, such as contextId.",
            )
        })?;
        let mut ask = Ask::get(&self.service, &path);
        for (name, value) in &self.params {
            let text = match value {
                Value::String(text) => filled(text, look, false),
                other => plain(other),
            };
            ask = ask.with_some(name, text);
        }
        let transform = self.transform.clone().unwrap_or_default();
        Step::made(ask, move |answer| transform.apply(answer))
    }
}

/// The fault of a path: it names a route of a service and nothing beside it.
fn check_path(path: &str) -> Result<(), &'static str> {
    const FAULT: &str = "must be a path below /api/ of letters, digits, -, _, . and placeholders";
    let rest = path.strip_prefix("/api/").ok_or(FAULT)?;
    let is_segment = |segment: &str| {
        let is_named = segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.{}".contains(&byte));
        let inside = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let has_braces = segment.contains(['{', '}']);
        !segment.is_empty()
            && !matches!(segment, "." | "..")
            && is_named
            && (!has_braces || inside.is_some_and(|name| !name.contains(['{', '}'])))
    };
    if path.len() <= PATH_BYTES_MAX && rest.split('/').all(is_segment) { Ok(()) } else { Err(FAULT) }
}

/// A text with what stands in braces; none where one of them stands for nothing, or in a path for no id.
fn filled(text: &str, look: &Look, is_path: bool) -> Option<String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            filled.push('{');
            rest = after;
            continue;
        };
        let value = look.place(name)?;
        if is_path && validate::id(&value).is_err() {
            return None;
        }
        filled.push_str(&value);
        rest = after;
    }
    filled.push_str(rest);
    Some(filled)
}

#[cfg(test)]
mod tests {
    use berth_sdk::http::read_value;

    use super::*;
    use crate::dashboard::Dashboard;

    fn source(more: Value) -> DataSource {
        let mut body = json!({"service": "planning", "path": "/api/tasks"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        read_value(body).unwrap()
    }

    fn look(context_id: Option<&str>) -> Look {
        let dashboard: Dashboard =
            read_value(json!({"name": "d", "filters": {"label": "a&b=c", "evil": "../admin"}})).unwrap();
        Look::new(&dashboard, "me".into(), clock::now(), (None, None), context_id).unwrap()
    }

    fn url(source: &DataSource, context_id: Option<&str>) -> Result<String> {
        match source.plan(&look(context_id))? {
            Step::Ask(asks, _, _) => Ok(asks[0].url().to_string()),
            Step::Done(_) => panic!("nothing is asked"),
        }
    }

    #[test]
    fn parameters_are_filled_in_and_escaped() {
        let own = source(
            json!({"path": "/api/projects/{contextId}/tasks", "params": {"assignedTo": "{userId}", "tag": "{label}", "from": "{from}", "limit": 5, "open": true, "none": null}}),
        );
        assert_eq!(
            url(&own, Some("p1")).unwrap(),
            "http://planning.internal/api/projects/p1/tasks?assignedTo=me&limit=5&open=true&tag=a%26b%3Dc"
        );
        assert_eq!(url(&own, None).unwrap_err().status, 422, "the path needs the context");
        let evil = source(json!({"path": "/api/projects/{evil}"}));
        assert_eq!(url(&evil, None).unwrap_err().status, 422);
    }

    #[test]
    fn a_source_names_a_route_and_nothing_else() {
        for path in ["/api/tasks", "/api/logs/aggregate", "/api/calendar/feed.ics", "/api/plans/{contextId}/status"] {
            assert_eq!(check_path(path), Ok(()), "{path}");
        }
        for path in [
            "",
            "/",
            "/health",
            "/api/",
            "api/tasks",
            "/api//tasks",
            "/api/tasks/",
            "/api/../admin",
            "/api/./x",
            "/api/tasks?x=1",
            "/api/tasks#x",
            "/api/a b",
            "/api/%2e%2e",
            "/api/ü",
            "/api/{a",
            "/api/a}",
            "/api/x{a}",
            "/api/{{a}}",
            "http://planning.internal/api/x",
            "/api/tasks\r\nx: y",
        ] {
            assert!(check_path(path).is_err(), "{path}");
        }
        assert!(check_path(&format!("/api/{}", "x".repeat(500))).is_err());
        let field = |more: Value| source(more).check().unwrap_err().errors.remove(0).field;
        for service in ["secret-management", "dashboard", "host", "nobody", "planning.internal"] {
            assert_eq!(field(json!({"service": service})), "dataSource.service");
        }
        assert_eq!(field(json!({"params": {"a b": 1}})), "dataSource.params.a b");
        assert_eq!(field(json!({"params": {"a": [1]}})), "dataSource.params.a");
        assert_eq!(field(json!({"transform": {"select": "items"}})), "dataSource.transform.select");
    }
}
