//! Notifications: what happens becomes news for those whom it concerns, in the channels they want and when they want it.
//! Nothing here may read another user's inbox or hold a credential.

pub mod channel;
pub mod delivery;
pub mod digest;
pub mod directory;
pub mod egress;
pub mod escalation;
pub mod event;
pub mod kinds;
pub mod limits;
pub mod notification;
pub mod preference;
pub mod provider;
pub mod release;
pub mod template;
pub mod webhook;

use berth_sdk::{migrations, prelude::*};

use preference::MANAGE;

const SERVICE: &str = "/api/notifications";

/// The whole service.
pub fn service() -> Service {
    Service::new("notification-manager", env!("CARGO_PKG_VERSION"))
        .migrations(migrations::embed![
            "../../../migrations/notification-manager/0001_notifications.sql",
            "../../../migrations/notification-manager/0002_holds.sql",
        ])
        .routes(notification::routes())
        .routes(preferences())
        .routes(templates())
        .routes(providers())
        .routes(Router::new().entity::<escalation::Chain>(&format!("{SERVICE}/escalation-chains")))
        .routes(webhook::routes())
        .on("#", event::consume)
        .work(event::ADOPTED, event::adopted)
        .work(notification::create::PROCESS, delivery::process::process)
        .work(delivery::process::DELIVER, delivery::attempt::deliver)
        .work("notification.digest", digest::send)
        .work("notification.escalate", escalation::run::escalate)
        .work(webhook::outgoing::CALL, webhook::outgoing::deliver)
        .work(webhook::incoming::RECEIVED, webhook::incoming::take)
        .timer("digest", "5m", digest::tick)
        .timer("held", "1m", release::tick)
        .timer("escalation", "1m", escalation::run::tick)
}

fn preferences() -> Router {
    let one = format!("{SERVICE}/preferences/{{scope}}/{{scopeId}}");
    let own = format!("{SERVICE}/preferences/{{scope}}");
    Router::new()
        .get(&format!("{SERVICE}/preferences/resolved"), preference::resolved)
        .summary("Read the preferences that hold for the caller.")
        .signed_in()
        .get(&own, preference::read_own)
        .summary("Read the own preferences, or the organization's.")
        .path_parameter::<berth_sdk::types::Scope>("scope")
        .signed_in()
        .put(&own, preference::write_own)
        .summary("Set the own preferences, or the organization's.")
        .path_parameter::<berth_sdk::types::Scope>("scope")
        .changes::<preference::Preference>()
        .signed_in()
        .delete(&own, preference::remove_own)
        .summary("Remove the own preferences, or the organization's.")
        .path_parameter::<berth_sdk::types::Scope>("scope")
        .signed_in()
        .get(&one, preference::read)
        .summary("Read the preferences of a scope.")
        .path_parameter::<berth_sdk::types::Scope>("scope")
        .signed_in()
        .put(&one, preference::write)
        .summary("Set the preferences of a scope.")
        .path_parameter::<berth_sdk::types::Scope>("scope")
        .changes::<preference::Preference>()
        .signed_in()
        .delete(&one, preference::remove)
        .summary("Remove the preferences of a scope.")
        .path_parameter::<berth_sdk::types::Scope>("scope")
        .signed_in()
}

fn templates() -> Router {
    let path = format!("{SERVICE}/templates");
    Router::new()
        .entity::<template::Template>(&path)
        .post(&format!("{path}/{{id}}/preview"), template::preview)
        .summary("Fill a template with given values.")
        .permission("notifications.notification.read")
        .post(&format!("{path}/{{id}}/duplicate"), template::duplicate)
        .summary("Copy a template.")
        .permission("notifications.notification.create")
}

fn providers() -> Router {
    let path = format!("{SERVICE}/providers");
    Router::new()
        .entity::<provider::Provider>(&path)
        .post(&format!("{path}/{{id}}/test"), provider::test)
        .summary("Send a test through a provider.")
        .permission(MANAGE)
        .get(&format!("{SERVICE}/channels/{{channel}}"), channel::read)
        .summary("Read the settings of a channel.")
        .put(&format!("{SERVICE}/channels/{{channel}}"), channel::change)
        .summary("Change the settings of a channel.")
        .permission(MANAGE)
}

berth_sdk::plugin!(service());

#[cfg(test)]
mod tests {
    use berth_sdk::prelude::*;

    use super::service;

    #[test]
    fn every_route_of_the_specification_is_there() {
        let service = service();
        let wanted = "GET |POST |GET /unread-count|GET /{id}|PUT /{id}/read|PUT /{id}/unread|PUT /read-all|DELETE /{id}|\
            POST /{id}/acknowledge|POST /{id}/cancel|GET /{id}/deliveries|GET /stream|GET /history|GET /stats|\
            GET /templates|POST /templates|GET /templates/{id}|PUT /templates/{id}|DELETE /templates/{id}|\
            POST /templates/{id}/preview|POST /templates/{id}/duplicate|GET /preferences/{scope}/{scopeId}|\
            PUT /preferences/{scope}/{scopeId}|DELETE /preferences/{scope}/{scopeId}|GET /preferences/{scope}|\
            PUT /preferences/{scope}|DELETE /preferences/{scope}|GET /preferences/resolved|GET /providers|POST /providers|\
            GET /providers/{id}|PUT /providers/{id}|DELETE /providers/{id}|POST /providers/{id}/test|\
            GET /channels/{channel}|PUT /channels/{channel}|GET /escalation-chains|POST /escalation-chains|\
            GET /escalation-chains/{id}|PUT /escalation-chains/{id}|DELETE /escalation-chains/{id}|GET /webhooks|\
            POST /webhooks|GET /webhooks/{id}|PUT /webhooks/{id}|DELETE /webhooks/{id}|POST /webhooks/{id}/test|\
            POST /webhooks/in/{id}";
        assert_eq!(berth_sdk::testing::missing_routes(&service, "/api/notifications", wanted), Vec::<String>::new());
    }

    #[test]
    fn only_the_incoming_webhook_is_public() {
        let service = service();
        let public: Vec<&str> = service
            .router()
            .unwrap()
            .routes()
            .iter()
            .filter(|route| !route.needs_organization)
            .map(|route| route.path.as_str())
            .collect();
        assert_eq!(public, ["/api/notifications/webhooks/in/{id}"]);
    }

    #[test]
    fn a_wrong_body_names_its_fields() {
        berth_sdk::testing::sign_in("u1", "o1");
        berth_sdk::testing::permit("notifications.notification.send");
        let body =
            json!({"eventType": "a b", "recipientIds": ["u1"], "title": "t", "body": "b", "actionUrl": "javascript:x"});
        let response = service().handle(Request::new("POST", "/api/notifications").with_json(&body));
        let answer = response.json_body().unwrap();
        let fields: Vec<&str> =
            answer["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
        assert_eq!((response.status, fields), (400, vec!["eventType", "actionUrl"]));
    }
}
