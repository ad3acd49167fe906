//! Observability: traces, metrics, errors, alerts, health checks and events, of services and of anybody's own programs.

mod alert;
mod check;
mod error;
mod evaluate;
mod event;
mod feed;
mod logs;
mod metric;
mod otlp;
mod retention;
mod rule;
mod service;
mod span;
mod stretch;
mod trace;

use berth_sdk::{migrations, prelude::*};
use metric::{ingest, query};

const PATH: &str = "/api/observability";
/// The right to know what tells of more than how programs do.
const MANAGE: &str = "observability.observability.manage";

fn path(rest: &str) -> String {
    format!("{PATH}/{rest}")
}

fn service() -> Service {
    let service = Service::new("observability", env!("CARGO_PKG_VERSION"))
        .migrations(migrations::embed!["../../../migrations/observability/0001_telemetry.sql"])
        .routes(telemetry())
        .routes(insight())
        .routes(alerts())
        .work("feed.spans", feed::spans)
        .work("feed.metrics", feed::metrics)
        .work("observability.alerts.run", evaluate::run)
        .work("observability.check.run", check::run)
        .timer("alerts", "1m", evaluate::tick)
        .timer("checks", "30s", check::tick);
    event::HEARD.into_iter().fold(service, |service, pattern| service.on(pattern, event::on_event))
}

fn telemetry() -> Router {
    Router::new()
        .post(&path("v1/traces"), otlp::traces)
        .summary("Send traces by OTLP: JSON or protobuf.")
        .post(&path("v1/metrics"), otlp::metrics)
        .summary("Send metrics by OTLP: JSON or protobuf.")
        .post(&path("v1/logs"), otlp::logs)
        .summary("Send logs by OTLP: JSON or protobuf.")
        .get(&path("metrics"), query::read)
        .summary("List metrics, or read one over time.")
        .sorts(&["name"])
        .post(&path("metrics"), ingest::report)
        .summary("Send up to 1 000 points.")
        .get(&path("traces"), trace::list)
        .summary("List traces, newest first.")
        .sorts(&["startedAt", "durationUs", "spanCount", "errorCount"])
        .post(&path("traces"), span::report)
        .summary("Send up to 1 000 spans.")
        .get(&path("traces/{traceId}"), trace::read)
        .summary("Read a trace as a tree.")
        .get(&path("logs"), logs::list)
        .summary("List log lines, which logging keeps.")
        .get(&path("events"), event::list)
        .summary("List events.")
        .post(&path("events"), event::report)
        .summary("Send up to 1 000 events.")
}

fn insight() -> Router {
    Router::new()
        .get(PATH, service::overview)
        .summary("Read what there is at a glance.")
        .get(&path("services"), service::list)
        .summary("List the services that have sent anything.")
        .get(&path("services/{name}/health"), service::read_health)
        .summary("Read the health of a service.")
        .get(&path("service-map"), service::map)
        .summary("Read which service calls which.")
        .get(&path("errors"), error::list)
        .summary("List groups of errors.")
        .get(&path("errors/{id}"), error::read)
        .summary("Read a group of errors.")
        .put(&path("errors/{id}/status"), error::change_status)
        .summary("Resolve, ignore or reopen a group of errors.")
}

fn alerts() -> Router {
    Router::new()
        .entity::<rule::AlertRule>(&path("alerts/rules"))
        .get(&path("alerts"), alert::list)
        .summary("List alerts.")
        .get(&path("alerts/{id}"), alert::read)
        .summary("Read an alert.")
        .post(&path("alerts/{id}/acknowledge"), alert::acknowledge)
        .summary("Acknowledge an alert.")
        .post(&path("alerts/{id}/resolve"), alert::resolve_by_hand)
        .summary("Resolve an alert.")
        .entity::<check::Check>(&path("checks"))
        .get(&path("checks/{id}/results"), check::results)
        .summary("List the results of a check.")
        .post(&path("checks/{id}/run"), check::run_now)
        .summary("Run a check now.")
}

berth_sdk::plugin!(service());

#[cfg(test)]
mod tests {
    use super::service;

    #[test]
    fn the_routes_do_not_collide() {
        let service = service();
        assert!(service.router().unwrap().routes().len() >= 36);
        assert_eq!(service.bindings().len(), 6);
    }
}
