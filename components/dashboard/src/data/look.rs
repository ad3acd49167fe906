//! What a dashboard is looked at for: by whom, for which stretch of time, and in which context. Pure.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::window::Window;
use crate::dashboard::{ContextType, Dashboard, Scope};

/// What every widget of a dashboard is narrowed by.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub user_id: String,
    pub now: Timestamp,
    pub window: Window,
    /// What the dashboard is about.
    pub context: Option<(ContextType, String)>,
    context_id: Option<String>,
    scope: (Scope, Option<String>),
    filters: Map<String, Value>,
}

impl Look {
    /// What a request says, and where it says nothing what the dashboard does. 400 for times that are none.
    pub fn new(
        dashboard: &Dashboard,
        user_id: String,
        now: Timestamp,
        (from, to): (Option<&str>, Option<&str>),
        context_id: Option<&str>,
    ) -> Result<Self> {
        let own = |name: &str| dashboard.filters.get(name).and_then(Value::as_str);
        // Half a request's window does not go with the other half of the dashboard's.
        let is_said = from.is_some() || to.is_some();
        let (from, to) = if is_said { (from, to) } else { (own("from"), own("to")) };
        let scope_id = dashboard.scope_id.as_ref().map(ToString::to_string);
        let context = dashboard.context_type.and_then(|kind| {
            let of_scope =
                || scope_id.clone().filter(|_| kind == ContextType::Project && dashboard.scope == Scope::Project);
            let id = context_id
                .map(ToString::to_string)
                .or_else(|| own("contextId").map(ToString::to_string))
                .or_else(of_scope)?;
            Some((kind, id))
        });
        Ok(Self {
            user_id,
            now,
            window: Window::parse(from, to, now)?,
            context,
            context_id: context_id.map(ToString::to_string),
            scope: (dashboard.scope, scope_id),
            filters: dashboard.filters.clone(),
        })
    }

    /// The project of a widget: its own, that of the context, that of the dashboard, or that of its filters.
    pub fn project_id(&self, own: Option<&Id>) -> Option<String> {
        self.narrowed(own, ContextType::Project, Scope::Project, "projectId")
    }

    /// The team of a widget: its own, that of the dashboard, or that of its filters.
    pub fn team_id(&self, own: Option<&Id>) -> Option<String> {
        let of_scope = (self.scope.0 == Scope::Team).then(|| self.scope.1.clone()).flatten();
        own.map(ToString::to_string).or(of_scope).or_else(|| self.filter("teamId"))
    }

    /// The user that the context is about.
    pub fn context_of(&self, kind: ContextType) -> Option<String> {
        self.context.as_ref().filter(|(known, _)| *known == kind).map(|(_, id)| id.clone())
    }

    fn narrowed(&self, own: Option<&Id>, kind: ContextType, scope: Scope, filter: &str) -> Option<String> {
        let of_scope = (self.scope.0 == scope).then(|| self.scope.1.clone()).flatten();
        own.map(ToString::to_string).or_else(|| self.context_of(kind)).or(of_scope).or_else(|| self.filter(filter))
    }

    fn filter(&self, name: &str) -> Option<String> {
        self.filters.get(name).and_then(plain)
    }

    /// Both ends of the time: so many days until now where nothing is said.
    pub fn days(&self, days: u32) -> (Timestamp, Timestamp) {
        self.window.of_days(days, self.now)
    }

    /// What stands in a parameter as `{name}`: `from`, `to`, `userId`, `contextId`, `scopeId`, or one of the filters.
    pub fn place(&self, name: &str) -> Option<String> {
        match name {
            "from" => self.window.from.map(|moment| moment.to_string()),
            "to" => self.window.to.map(|moment| moment.to_string()),
            "userId" => Some(self.user_id.clone()),
            "contextId" => self.context_id.clone().or_else(|| self.context.as_ref().map(|(_, id)| id.clone())),
            "scopeId" => self.scope.1.clone(),
            "projectId" => self.project_id(None),
            "teamId" => self.team_id(None),
            other => self.filter(other),
        }
    }
}

/// A plain value as a parameter has it.
pub(crate) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use berth_sdk::http::read_value;

    use super::*;

    fn look(dashboard: Value, context_id: Option<&str>) -> Look {
        let dashboard: Dashboard = read_value(dashboard).unwrap();
        Look::new(&dashboard, "me".into(), Timestamp::from_millis(0), (None, None), context_id).unwrap()
    }

    #[test]
    fn the_nearest_word_on_the_project_counts() {
        let body = json!({"name": "d", "contextType": "project", "scope": "PROJECT", "scopeId": "scoped", "filters": {"projectId": "filtered"}});
        let own = Id::from("own");
        assert_eq!(look(body.clone(), Some("asked")).project_id(Some(&own)).as_deref(), Some("own"));
        assert_eq!(look(body.clone(), Some("asked")).project_id(None).as_deref(), Some("asked"));
        assert_eq!(look(body, None).project_id(None).as_deref(), Some("scoped"));
        let filtered = json!({"name": "d", "filters": {"projectId": "filtered", "n": 3}});
        assert_eq!(
            look(filtered.clone(), Some("asked")).project_id(None).as_deref(),
            Some("filtered"),
            "the context is no project"
        );
        assert_eq!(look(filtered.clone(), None).place("n").as_deref(), Some("3"));
        assert_eq!(look(filtered, Some("asked")).place("contextId").as_deref(), Some("asked"));
        let task = json!({"name": "d", "contextType": "task"});
        assert_eq!(look(task, Some("t1")).context_of(ContextType::Task).as_deref(), Some("t1"));
    }

    #[test]
    fn a_requests_time_replaces_the_dashboards() {
        let dashboard: Dashboard =
            read_value(json!({"name": "d", "filters": {"from": "now-2d", "to": "now-1d"}})).unwrap();
        let now = Timestamp::parse("2026-03-08T00:00:00Z").unwrap();
        let window = |from, to| Look::new(&dashboard, "me".into(), now, (from, to), None).map(|look| look.window);
        let at = |text: &str| Timestamp::parse(text);
        assert_eq!(
            window(None, None).unwrap(),
            Window { from: at("2026-03-06T00:00:00Z"), to: at("2026-03-07T00:00:00Z") }
        );
        assert_eq!(window(Some("now-9d"), None).unwrap(), Window { from: at("2026-02-27T00:00:00Z"), to: None });
        assert_eq!(window(Some("soon"), None).unwrap_err().status, 400);
    }
}
