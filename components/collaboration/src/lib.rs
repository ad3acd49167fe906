//! Collaboration: sessions of pairs and mobs with roles, presence, notes and a live stream; ideas that are voted on,
//! scored, and made tasks, roadmap items or experiments.

pub mod access;
pub mod annotation;
pub mod idea;
pub mod idle;
pub mod invite;
pub mod live;
pub mod overview;
pub mod participant;
pub mod presence;
pub mod project;
pub mod review;
pub mod session;
pub mod stats;

use berth_sdk::{migrations, prelude::*};

/// The whole service.
pub fn service() -> Service {
    Service::new("collaboration", env!("CARGO_PKG_VERSION"))
        .migrations(migrations::embed![
            "../../../migrations/collaboration/0001_collaboration.sql",
            "../../../migrations/collaboration/0002_holds.sql",
        ])
        .routes(session::api::routes())
        .routes(live::routes())
        .routes(annotation::routes())
        .routes(presence::routes())
        .routes(stats::routes())
        .routes(idea::routes())
        .routes(overview::routes())
        .on("review.requested", review::offer)
        .on("experiment.completed", idea::experiment::completed)
        .work(idle::END, idle::end)
        .work(invite::INVITE, invite::deliver)
        .timer("idle", "5m", idle::tick)
}

berth_sdk::plugin!(service());

#[cfg(test)]
mod tests {
    use super::service;

    /// The routes of the specification, one a word pair.
    const SPECIFIED: &str = "GET /api/pairing/sessions|POST /api/pairing/sessions|GET /api/pairing/sessions/{id}\
        |PUT /api/pairing/sessions/{id}|DELETE /api/pairing/sessions/{id}|PUT /api/pairing/sessions/{id}/join\
        |PUT /api/pairing/sessions/{id}/leave|POST /api/pairing/sessions/{id}/start|POST /api/pairing/sessions/{id}/end\
        |POST /api/pairing/sessions/{id}/switch-roles|GET /api/pairing/sessions/{id}/annotations\
        |POST /api/pairing/sessions/{id}/annotations|PUT /api/pairing/annotations/{id}/resolve|GET /api/pairing/presence\
        |PUT /api/pairing/presence|GET /api/pairing/history|GET /api/pairing/stats|GET /api/pairing/sessions/{id}/stream\
        |POST /api/pairing/sessions/{id}/signal|GET /api/innovation|POST /api/innovation|GET /api/innovation/{id}\
        |PUT /api/innovation/{id}|DELETE /api/innovation/{id}|POST /api/innovation/{id}/vote\
        |DELETE /api/innovation/{id}/vote|POST /api/innovation/{id}/evaluate|PUT /api/innovation/{id}/status\
        |GET /api/innovation/{id}/comments|POST /api/innovation/{id}/comments|POST /api/innovation/{id}/convert\
        |GET /api/innovation/metrics|GET /api/collaboration/overview";

    #[test]
    fn every_route_of_the_specification_is_there() {
        let service = service();
        let routes = service.router().unwrap().routes();
        for specified in SPECIFIED.split('|') {
            let is_there = routes.iter().any(|route| format!("{} {}", route.method, route.path) == specified);
            assert!(is_there, "{specified}");
        }
        assert_eq!(service.bindings(), ["review.requested", "experiment.completed"]);
        assert_eq!(service.timers(), [("idle".to_string(), "5m".to_string())]);
    }

    #[test]
    fn what_is_ones_own_needs_no_right_to_delete() {
        let service = service();
        let routes = service.router().unwrap().routes();
        let permission = |method: &str, path: &str| {
            routes
                .iter()
                .find(|route| route.method == method && route.path == path)
                .and_then(|route| route.permission())
        };
        let code = |code: &str| Some(code.to_string());
        assert_eq!(permission("DELETE", "/api/innovation/{id}/vote"), code("innovation.innovation.update"));
        assert_eq!(permission("PUT", "/api/pairing/presence"), code("pairing.pairing.read"));
        assert_eq!(permission("DELETE", "/api/pairing/sessions/{id}"), code("pairing.pairing.delete"));
        assert_eq!(permission("POST", "/api/pairing/sessions"), code("pairing.pairing.create"));
    }
}
