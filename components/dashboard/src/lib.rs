//! Dashboards: widgets that read other services as whoever looks at them.

mod access;
mod catalogue;
mod consume;
pub mod dashboard;
mod data;
mod directory;
mod widget;

use berth_sdk::{migrations, prelude::*};

/// Looking at dashboards, and what they are to oneself: a favourite, the default.
pub(crate) const READ: &str = "dashboards.dashboard.read";
/// Making them.
pub(crate) const CREATE: &str = "dashboards.dashboard.create";
/// Changing one's own, and those that may be edited.
pub(crate) const UPDATE: &str = "dashboards.dashboard.update";
/// Deleting those of teams, projects and the organization whose owner is somebody else.
pub(crate) const DELETE: &str = "dashboards.dashboard.delete";
/// Changing those.
pub(crate) const MANAGE: &str = "dashboards.dashboard.manage";

/// The whole service.
pub fn service() -> Service {
    let service = Service::new("dashboard", env!("CARGO_PKG_VERSION"))
        .migrations(migrations::embed!["../../../migrations/dashboard/0001_dashboards.sql"])
        .routes(dashboard::api::routes())
        .routes(widget::routes())
        .routes(data::routes())
        .routes(catalogue::routes())
        .on("user.account_deleted", consume::account_deleted);
    consume::Topic::ALL.iter().fold(service, |service, topic| service.on(&topic.pattern(), consume::changed))
}

berth_sdk::plugin!(service());

#[cfg(test)]
mod tests {
    use berth_sdk::prelude::*;

    use super::service;

    #[test]
    fn every_route_of_the_specification_is_there() {
        let service = service();
        let wanted = "GET |POST |GET /{id}|PUT /{id}|DELETE /{id}|GET /{id}/widgets|POST /{id}/widgets|\
            PUT /{id}/widgets/{widgetId}|DELETE /{id}/widgets/{widgetId}|PUT /{id}/layout|POST /{id}/duplicate|\
            POST /{id}/share|POST /{id}/set-default|POST /{id}/favorite|GET /{id}/data|GET /{id}/widgets/{widgetId}/data|\
            GET /widget-types|GET /default";
        assert_eq!(berth_sdk::testing::missing_routes(&service, "/api/dashboards", wanted), Vec::<String>::new());
        assert_eq!(service.bindings().len(), 7);
    }

    #[test]
    fn what_is_wrong_with_a_dashboard_is_named() {
        berth_sdk::testing::sign_in("u1", "o1");
        let post = |body: berth_sdk::serde_json::Value| {
            let response = service().handle(Request::new("POST", "/api/dashboards").with_json(&body));
            let errors = response.json_body().unwrap_or_default()["errors"].clone();
            let fields: Vec<String> = errors
                .as_array()
                .into_iter()
                .flatten()
                .map(|error| error["field"].as_str().unwrap_or_default().to_string())
                .collect();
            (response.status, fields)
        };
        assert_eq!(post(json!({})), (400, vec!["name".into()]));
        assert_eq!(post(json!({"name": " <> "})), (400, vec!["name".into()]));
        assert_eq!(post(json!({"name": "x".repeat(201)})), (400, vec!["name".into()]));
        assert_eq!(post(json!({"name": "x", "refreshSeconds": 1})), (400, vec!["refreshSeconds".into()]));
        let wrong = json!({"name": "x", "scope": "TEAM", "filters": {"from": "yesterday", "list": []}});
        assert_eq!(post(wrong), (400, vec!["scopeId".into(), "filters.from".into(), "filters.list".into()]));
        assert_eq!(post(json!({"name": "x", "scopeId": "p1"})), (400, vec!["scopeId".into()]));
        assert_eq!(post(json!({"name": "x"})).0, 503, "natively there is no database");
    }
}
