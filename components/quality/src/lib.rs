//! Quality: experiments with statistics; compliance checks, policies, certifications, reports and scores.

pub mod certification;
pub mod check;
pub mod dashboard;
pub mod experiment;
mod overview;
pub mod policy;
mod project;
pub mod report;
pub mod retention;
pub mod score;

use berth_sdk::{migrations, prelude::*};

/// The whole service.
pub fn service() -> Service {
    Service::new("quality", env!("CARGO_PKG_VERSION"))
        .migrations(migrations::embed!["../../../migrations/quality/0001_quality.sql"])
        .routes(experiment::api::routes())
        .routes(check::routes())
        .routes(policy::routes())
        .routes(certification::routes())
        .routes(retention::routes())
        .routes(report::routes())
        .routes(score::routes())
        .routes(
            Router::new()
                .get("/api/compliance/dashboard", dashboard::read)
                .summary("Read where compliance stands, by framework.")
                .get("/api/quality/overview", overview::read)
                .summary("Read experiments, checks and scores at a glance."),
        )
        .work("quality.experiment.end", experiment::end)
        .work("quality.check.run", check::due)
        .work(policy::ask::NOTE, policy::ask::note)
        .work(certification::expiry::REVIEW, certification::expiry::review)
        .timer("checks", "1m", minute)
        .timer("certifications", "daily", certification::expiry::tick)
}

/// The minute's tick: checks whose time has come, and experiments whose end has.
fn minute(envelope: &Envelope) -> Result<()> {
    check::tick(envelope)?;
    experiment::tick(envelope)
}

berth_sdk::plugin!(service());

#[cfg(test)]
mod tests {
    use super::service;

    #[test]
    fn every_route_of_the_specification_is_there() {
        let service = service();
        let known: Vec<String> =
            service.router().unwrap().routes().iter().map(|route| format!("{} {}", route.method, route.path)).collect();
        let wanted = "GET experiments|POST experiments|GET experiments/{id}|PUT experiments/{id}|DELETE experiments/{id}|\
            POST experiments/{id}/start|POST experiments/{id}/pause|POST experiments/{id}/resume|POST experiments/{id}/stop|\
            POST experiments/{id}/assign|POST experiments/{id}/metrics|GET experiments/{id}/results|POST experiments/{id}/conclude|\
            GET compliance/checks|POST compliance/checks|GET compliance/checks/{id}|PUT compliance/checks/{id}|\
            DELETE compliance/checks/{id}|POST compliance/checks/{id}/run|GET compliance/checks/{id}/runs|GET compliance/reports|\
            POST compliance/reports|GET compliance/reports/{id}|GET compliance/policies|POST compliance/policies|\
            GET compliance/policies/{id}|PUT compliance/policies/{id}|DELETE compliance/policies/{id}|\
            POST compliance/policies/{id}/check|GET compliance/certifications|POST compliance/certifications|\
            GET compliance/certifications/{id}|PUT compliance/certifications/{id}|DELETE compliance/certifications/{id}|\
            GET compliance/retention|POST compliance/retention|GET compliance/retention/{id}|PUT compliance/retention/{id}|\
            DELETE compliance/retention/{id}|GET compliance/dashboard|GET quality/overview|GET quality/scores|POST quality/scores";
        for route in wanted.split('|') {
            let (method, path) = route.trim().split_once(' ').unwrap_or_default();
            assert!(known.contains(&format!("{method} /api/{path}")), "{route}");
        }
        // Reports never change.
        assert!(!known.iter().any(|route| route.contains("reports/") && !route.starts_with("GET")));
    }
}
