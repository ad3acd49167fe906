//! The calendar: events of people, agents, deployments and plans, with recurrence, conflicts, free time, rules of
//! environments, reminders, and iCalendar in both directions.

pub mod availability;
pub mod calendar;
pub mod conflict;
mod consume;
pub mod dav;
pub mod environment;
pub mod event;
pub mod feed;
pub mod ical;
mod import;
pub mod plan;
pub mod recurrence;
pub mod reminder;
mod views;

use berth_sdk::{migrations, prelude::*};
pub use time_rules::zone;

/// Seeing events.
pub(crate) const READ: &str = "calendar.calendar.read";
/// Changing events of one's own.
pub(crate) const WRITE: &str = "calendar.calendar.update";
/// Changing and deleting those of others.
pub(crate) const REMOVE: &str = "calendar.calendar.delete";
/// Rules of environments, and the organization's calendars.
pub(crate) const MANAGE: &str = "calendar.calendar.manage";

/// The whole service.
pub fn service() -> Service {
    Service::new("calendar", env!("CARGO_PKG_VERSION"))
        .migrations(migrations::embed!["../../../migrations/calendar/0001_calendar.sql"])
        .routes(event::api::routes())
        .routes(calendar::routes())
        .routes(conflict::routes())
        .routes(environment::routes())
        .routes(availability::routes())
        .routes(plan::timeline::routes())
        .routes(views::routes())
        .routes(feed::routes())
        .routes(import::routes())
        .routes(dav::routes())
        .on("planning.plan.approved", plan::propose::approved)
        .on("incident.created", consume::incident)
        .on("release.created", consume::release)
        .on("review.requested", consume::review)
        .on("capacity.timeoff.approved", consume::time_off)
        .on("capacity.timeoff.cancelled", consume::time_off_cancelled)
        .on("pairing.session.*", consume::pairing)
        .on("execution.#", plan::progress::told)
        .on("organization.member_removed", feed::close_all)
        .on("user.account_deleted", feed::close_all)
        .on("team.member_removed", feed::leave_team)
        .on("team.deleted", feed::leave_team)
        .timer("reminders", "1m", reminder::tick)
}

berth_sdk::plugin!(service());

#[cfg(test)]
mod tests {
    use berth_sdk::prelude::*;

    use super::service;

    #[test]
    fn every_route_of_the_specification_is_there() {
        let service = service();
        let wanted = "GET /events|POST /events|GET /events/{id}|PUT /events/{id}|DELETE /events/{id}|POST /events/{id}/respond|\
            GET /events/{id}/conflicts|POST /events/from-plan|GET /availability|POST /conflicts/check|GET /timeline|\
            GET /calendars|POST /calendars|GET /calendars/{id}|PUT /calendars/{id}|DELETE /calendars/{id}|GET /time-rules|\
            PUT /time-rules|GET /views/day|GET /views/week|GET /views/month|GET /views/agenda|GET /feed.ics|POST /import|\
            GET /feeds|POST /feeds|DELETE /feeds/{id}";
        assert_eq!(berth_sdk::testing::missing_routes(&service, "/api/calendar", wanted), Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_with_an_event_is_named() {
        berth_sdk::testing::sign_in("u1", "o1");
        let post = |body: berth_sdk::serde_json::Value| {
            let response = service().handle(Request::new("POST", "/api/calendar/events").with_json(&body));
            let fields: Option<Vec<String>> =
                response.json_body().unwrap_or_default()["errors"].as_array().map(|errors| {
                    errors.iter().map(|error| error["field"].as_str().unwrap_or_default().to_string()).collect()
                });
            (response.status, fields.unwrap_or_default())
        };
        let (status, fields) = post(json!({"eventType": "party"}));
        assert_eq!(
            (status, fields),
            (400, vec!["title".into(), "startTime".into(), "endTime".into(), "eventType".into()])
        );
        let sound = json!({"title": "x", "startTime": "2026-01-05T10:00:00Z", "endTime": "2026-01-05T11:00:00Z"});
        assert_eq!(post(sound).0, 503, "natively there is no database");
    }
}
