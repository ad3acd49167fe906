//! Usage tracking: meters any activity, prices it, keeps quotas and budgets, and holds metrics of one's own.

mod access;
mod aggregate;
mod alert;
mod category;
mod consume;
mod counter;
mod event;
mod ingest;
mod limits;
mod metric;
mod period;
mod pricing;
mod query;

use berth_sdk::{migrations, prelude::*};

/// What is heard of other services.
const HEARD: [&str; 8] =
    ["ai.#", "embedding.#", "mcp.#", "planning.#", "execution.#", "storage.#", "workflow.#", "prompt.#"];

fn service() -> Service {
    let service = Service::new("usage-tracking", env!("CARGO_PKG_VERSION"))
        .migrations(migrations::embed![
            "../../../migrations/usage-tracking/0001_usage.sql",
            "../../../migrations/usage-tracking/0002_event_keys.sql",
        ])
        .routes(usage())
        .routes(rules())
        .routes(metrics())
        .work("usage.rollup", aggregate::roll_up)
        .work("usage.budgets", query::refresh_own_budgets)
        .timer("aggregate", "1h", aggregate::tick)
        .timer("budgets", "15m", query::refresh_budgets)
        .timer("retention", "daily", query::retain);
    HEARD.into_iter().fold(service, |service, pattern| service.on(pattern, consume::on_event))
}

fn usage() -> Router {
    Router::new()
        .post("/api/usage/events", event::report)
        .summary("Report one event, or up to 1 000.")
        .get("/api/usage/events", event::list)
        .summary("List usage events.")
        .get("/api/usage/events/{id}", event::read_one)
        .summary("Read a usage event.")
        .post("/api/usage/query", query::query)
        .permission("usage.usage.read")
        .summary("Ask for sums by period, category, user, project, team or dimension.")
        .get("/api/usage/summary", query::summary)
        .summary("Sum up a period.")
        .get("/api/usage/realtime", query::realtime)
        .summary("Read the counters of the present hour, day and month.")
        .post("/api/usage/export", query::export)
        .permission("usage.usage.read")
        .summary("Export events as CSV or JSON.")
        .get("/api/usage/billing", query::billing)
        .summary("Read the costs of a period.")
        .get("/api/usage/alerts", alert::list)
        .summary("List alerts.")
        .post("/api/usage/alerts/{id}/acknowledge", alert::acknowledge)
        .summary("Acknowledge an alert.")
        .post("/api/usage/alerts/{id}/resolve", alert::resolve)
        .summary("Resolve an alert.")
}

fn rules() -> Router {
    Router::new()
        .entity::<category::Category>("/api/usage/categories")
        .get("/api/usage/categories/{id}", category::read)
        .summary("Read a category by its code.")
        .put("/api/usage/categories/{id}", category::update)
        .summary("Update a category by its code.")
        .delete("/api/usage/categories/{id}", category::remove)
        .summary("Delete a category by its code.")
        .entity::<limits::Quota>("/api/usage/quotas")
        .post("/api/usage/quotas/check", limits::check)
        .signed_in()
        .summary("Ask whether something may be used.")
        .entity::<limits::Budget>("/api/usage/budgets")
        .get("/api/usage/budgets", limits::budgets)
        .summary("List budgets.")
        .get("/api/usage/budgets/{id}", limits::read_budget)
        .summary("Read a budget.")
        .get("/api/usage/budgets/{id}/status", limits::status)
        .summary("Read spend and projection of a budget.")
        .entity::<pricing::Price>("/api/usage/pricing")
}

fn metrics() -> Router {
    Router::new()
        .get("/api/metrics", metric::read)
        .summary("List points, or what they are together over time.")
        .lists::<metric::Metric>()
        .post("/api/metrics", metric::report)
        .summary("Report up to 1 000 points.")
        .get("/api/metrics/names", metric::names)
        .summary("List the names of metrics.")
        .get("/api/metrics/{id}", metric::read_one)
        .summary("Read a point.")
        .delete("/api/metrics/{id}", metric::remove)
        .permission("metrics.metric.admin")
        .summary("Delete a point.")
}

berth_sdk::plugin!(service());

#[cfg(test)]
mod tests {
    use super::service;

    #[test]
    fn the_routes_do_not_collide() {
        let service = service();
        assert!(service.router().unwrap().routes().len() > 40);
        assert_eq!(service.bindings().len(), 8);
    }

    #[test]
    fn every_route_of_the_specification_is_there() {
        let wanted = "POST /events|GET /events|GET /events/{id}|POST /query|GET /summary|GET /realtime|GET /categories|\
            POST /categories|GET /categories/{id}|PUT /categories/{id}|DELETE /categories/{id}|GET /quotas|POST /quotas|\
            GET /quotas/{id}|PUT /quotas/{id}|DELETE /quotas/{id}|POST /quotas/check|GET /budgets|POST /budgets|\
            GET /budgets/{id}|PUT /budgets/{id}|DELETE /budgets/{id}|GET /budgets/{id}/status|GET /pricing|POST /pricing|\
            GET /pricing/{id}|PUT /pricing/{id}|DELETE /pricing/{id}|GET /alerts|POST /alerts/{id}/acknowledge|\
            POST /alerts/{id}/resolve|POST /export|GET /billing";
        let metrics = "GET |POST |GET /names|GET /{id}|DELETE /{id}";
        for (prefix, wanted) in [("/api/usage", wanted), ("/api/metrics", metrics)] {
            assert_eq!(berth_sdk::testing::missing_routes(&service(), prefix, wanted), Vec::<String>::new());
        }
    }
}
