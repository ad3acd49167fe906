//! Logging: takes in, searches and keeps application logs, and keeps an audit log that shows when it was tampered with.

mod access;
mod audit;
mod filter;
mod ingest;
mod line;
mod read;
mod redact;
mod retention;
mod search;
mod tail;

use audit::{alert, append, checkpoint, configuration, consume, export, policy, verification};
use berth_sdk::{migrations, prelude::*};

fn service() -> Service {
    let service = Service::new("logging", env!("CARGO_PKG_VERSION"))
        .migrations(migrations::embed!["../../../migrations/logging/0001_logs.sql"])
        .routes(logs())
        .routes(audit_logs())
        .routes(exports())
        .routes(settings())
        .work("feed.logs", ingest::feed)
        .work("logging.export.run", export::run)
        .work("logging.purge.run", retention::run_purge)
        .work("logging.retention.run", retention::run)
        .work("logging.checkpoint.make", checkpoint::make_due)
        .work("logging.checkpoint.run", checkpoint::run)
        .timer("retention", "daily", retention::tick)
        .timer("checkpoint", "1h", checkpoint::tick);
    consume::HEARD.into_iter().fold(service, |service, pattern| service.on(pattern, consume::on_event))
}

fn logs() -> Router {
    Router::new()
        .post("/api/logs", ingest::report)
        .summary("Send one log line, or up to 1 000.")
        .get("/api/logs", read::list)
        .summary("List log lines, newest first.")
        .sorts(read::SORTS)
        .delete("/api/logs", retention::delete_logs)
        .summary("Delete what was logged before a moment.")
        .get("/api/logs/search", read::list)
        .summary("Search log lines by words, phrases and fields.")
        .sorts(read::SORTS)
        .get("/api/logs/aggregate", read::aggregate)
        .summary("Count log lines by fields and steps of time.")
        .get("/api/logs/stats", read::stats)
        .summary("Count log lines by level and service.")
        .get("/api/logs/services", read::services)
        .summary("List the services that have logged.")
        .get("/api/logs/tail", tail::tail)
        .summary("Follow the log as it grows.")
        .get("/api/logs/{id}", read::read_one)
        .summary("Read a log line.")
}

fn audit_logs() -> Router {
    Router::new()
        .post("/api/audit-logs", append::create)
        .summary("Write an audit entry.")
        .post("/api/audit-logs/batch", append::create_batch)
        .summary("Write up to 1 000 audit entries, all or none.")
        .get("/api/audit-logs", audit::read::list)
        .summary("List audit entries, newest first.")
        .sorts(audit::read::SORTS)
        .get("/api/audit-logs/search", audit::read::list)
        .summary("Search audit entries by words, phrases and fields.")
        .sorts(audit::read::SORTS)
        .get("/api/audit-logs/my-activity", audit::read::own)
        .summary("List what the caller did.")
        .sorts(audit::read::SORTS)
        .get("/api/audit-logs/aggregate", audit::read::aggregate)
        .summary("Count audit entries by fields and steps of time.")
        .get("/api/audit-logs/stats", audit::read::stats)
        .summary("Count audit entries by category, severity, action and user.")
        .get("/api/audit-logs/{id}", audit::read::read_one)
        .summary("Read an audit entry.")
}

fn exports() -> Router {
    const READ: &str = "audit-logs.audit-log.read";
    Router::new()
        .post("/api/audit-logs/export", export::create)
        .permission(READ)
        .summary("Start an export.")
        .get("/api/audit-logs/export", export::list)
        .summary("List exports.")
        .get("/api/audit-logs/export/{id}", export::read)
        .summary("Read an export.")
        .delete("/api/audit-logs/export/{id}", export::remove)
        .permission(READ)
        .summary("Delete an export.")
        .get("/api/audit-logs/export/{id}/download", export::download)
        .summary("Download an export.")
}

fn settings() -> Router {
    Router::new()
        .entity::<policy::Policy>("/api/audit-logs/policies")
        .entity::<alert::AlertRule>("/api/audit-logs/alerts")
        .post("/api/audit-logs/alerts/{id}/evaluate", alert::evaluate)
        .permission(access::MANAGE)
        .summary("Evaluate an alert rule now.")
        .get("/api/audit-logs/configuration", configuration::read)
        .summary("Read what is kept.")
        .put("/api/audit-logs/configuration", configuration::change)
        .permission(access::MANAGE)
        .summary("Change what is kept.")
        .changes::<configuration::Settings>()
        .answers::<Stored<configuration::Settings>>(200)
        .delete("/api/audit-logs/configuration", configuration::reset)
        .permission(access::MANAGE)
        .summary("Go back to the defaults.")
        .post("/api/audit-logs/verification/verify", verification::verify)
        .permission(access::MANAGE)
        .summary("Verify the chain of hashes.")
        .post("/api/audit-logs/verification/checkpoint", checkpoint::create)
        .permission(access::MANAGE)
        .summary("Make a checkpoint.")
        .get("/api/audit-logs/verification/checkpoints", checkpoint::list)
        .permission(access::MANAGE)
        .summary("List checkpoints.")
        .post("/api/audit-logs/verification/checkpoint/{id}/verify", checkpoint::verify)
        .permission(access::MANAGE)
        .summary("Verify a checkpoint again.")
}

berth_sdk::plugin!(service());

#[cfg(test)]
mod tests {
    use super::service;

    #[test]
    fn the_routes_do_not_collide() {
        let service = service();
        assert!(service.router().unwrap().routes().len() >= 40);
        assert_eq!(service.bindings().len(), 11);
    }
}
