//! Resource management: who can work how much when, what of it is planned, who has too much, and who could do it instead.

pub mod alert;
pub mod allocation;
mod consume;
pub mod holiday;
pub mod load;
mod pages;
pub mod plan;
pub mod profile;
pub mod projects;
pub mod rebalance;
pub mod report;
pub mod rights;
pub mod score;
pub mod snapshot;
pub mod suggest;
pub mod time_off;
pub mod workload;

use berth_sdk::{migrations, prelude::*};

/// The whole service.
pub fn service() -> Service {
    Service::new("resource-management", env!("CARGO_PKG_VERSION"))
        .migrations(migrations::embed!["../../../migrations/resource-management/0001_capacity.sql"])
        .routes(profile::api::routes())
        .routes(report::routes())
        .routes(allocation::api::routes())
        .routes(time_off::routes())
        .routes(holiday::routes())
        .routes(plan::routes())
        .routes(alert::routes())
        .routes(snapshot::routes())
        .routes(suggest::routes())
        .routes(rebalance::routes())
        .on("task.#", allocation::task::heard)
        .on("calendar.event.created", consume::absence)
        .on("organization.member_removed", consume::released)
        .on("learning.skill.updated", consume::learned)
        .on("team.members_added", consume::team)
        .on("team.member_removed", consume::team)
        .work(holiday::REVIEW, holiday::review)
        .work(snapshot::RUN, snapshot::run)
        .timer("snapshot", "weekly", snapshot::tick)
}

berth_sdk::plugin!(service());

#[cfg(test)]
mod tests {
    use berth_sdk::{prelude::*, serde_json::Value, testing};

    use super::service;

    #[test]
    fn every_route_of_the_specification_is_there() {
        let service = service();
        let wanted = "GET /capacity|POST /capacity/forecast|GET /capacity/utilization|POST /capacity/allocate|\
            GET /capacity/allocations|POST /capacity/allocations|GET /capacity/allocations/{id}|\
            PUT /capacity/allocations/{id}|DELETE /capacity/allocations/{id}|GET /capacity/time-off|\
            POST /capacity/time-off|GET /capacity/time-off/{id}|PUT /capacity/time-off/{id}|\
            DELETE /capacity/time-off/{id}|POST /capacity/time-off/{id}/approve|POST /capacity/time-off/{id}/reject|\
            GET /capacity/plans|POST /capacity/plans|GET /capacity/plans/{id}|PUT /capacity/plans/{id}|\
            DELETE /capacity/plans/{id}|POST /capacity/plans/{id}/simulate|GET /capacity/overallocations|\
            POST /capacity/suggest|POST /capacity/rebalance|GET /resources|POST /resources|GET /resources/{userId}|\
            PUT /resources/{userId}|DELETE /resources/{userId}|GET /resources/{userId}/availability|\
            GET /resources/skills";
        assert_eq!(berth_sdk::testing::missing_routes(&service, "/api", wanted), Vec::<String>::new());
    }

    fn asked(method: &str, path: &str, body: &Value) -> (u16, Vec<String>) {
        testing::sign_in("u1", "o1");
        let response = service().handle(Request::new(method, path).with_json(body));
        let problem = response.json_body().unwrap_or_default();
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        (response.status, errors.iter().filter_map(|error| error["field"].as_str().map(ToString::to_string)).collect())
    }

    #[test]
    fn what_is_wrong_is_named_whatever_the_route() {
        let refused = |path: &str, body: Value, fields: &[&str]| {
            assert_eq!(asked("POST", path, &body), (400, fields.iter().map(ToString::to_string).collect()), "{path}");
        };
        let span = json!({"userId": "u1", "startDate": "2026-03-03", "endDate": "2026-03-02", "status": "cancelled"});
        refused("/api/capacity/allocations", span, &["allocatedHours", "status", "endDate"]);
        let long = json!({"userId": "u1", "hours": -1, "start": "2026-01-01", "end": "2028-02-01"});
        refused("/api/capacity/allocate", long, &["hours", "end"]);
        refused("/api/capacity/allocate", json!({"userId": "u1", "hours": 1, "start": "soon", "end": 7}), &["end"]);
        let long = json!({"startDate": "2026-02-30", "endDate": "x", "hoursPerDay": 25});
        refused("/api/capacity/time-off", long, &["startDate", "endDate", "hoursPerDay"]);
        refused("/api/capacity/forecast", json!({"months": 4}), &["months"]);
        refused("/api/capacity/suggest", json!({"hours": 4}), &["skills"]);
        refused("/api/capacity/suggest", json!({"skills": ["rust"], "hours": 0}), &["hours"]);
        let plan = json!({"name": "x", "startDate": "2026-01-01", "endDate": "2026-01-31",
            "scenario": {"hires": [{"name": "x", "startDate": "2026-01-02", "endDate": "2026-01-01"}]}});
        refused("/api/capacity/plans", plan, &["scenario.hires[0].endDate"]);
    }

    #[test]
    fn time_off_is_asked_for_oneself_only() {
        let other = json!({"userId": "u2", "startDate": "2026-03-02", "endDate": "2026-03-02"});
        assert_eq!(asked("POST", "/api/capacity/time-off", &other).0, 403);
        let own = json!({"startDate": "2026-03-02", "endDate": "2026-03-02"});
        assert_eq!(asked("POST", "/api/capacity/time-off", &own).0, 503, "natively there is no database");
    }
}
