//! Durable automations: triggers, steps as a graph, human gates, retries, and a history without gaps.

pub mod action;
pub mod advance;
pub mod allowance;
pub mod api;
pub mod audience;
pub mod behalf;
pub mod check;
pub mod child;
pub mod condition;
pub mod context;
pub mod definition;
pub mod dispatch;
pub mod failure;
pub mod foreach;
pub mod gate;
pub mod guard;
pub mod history;
pub mod hook;
pub mod machine;
pub mod perform;
pub mod resume;
pub mod run;
pub mod run_row;
pub mod schedule;
pub mod sight;
pub mod span;
pub mod start;
pub mod step_run;
pub mod sweep;
pub mod template;
pub mod trigger;
pub mod version;
pub mod workflow;

use berth_sdk::{migrations, prelude::*};
pub use condition_rules as expression;

const PATH: &str = "/api/workflows";

/// The service.
pub fn service() -> Service {
    Service::new("workflow", env!("CARGO_PKG_VERSION"))
        .migrations(migrations::embed![
            "../../../migrations/workflow/0001_workflows.sql",
            "../../../migrations/workflow/0002_acting.sql",
            "../../../migrations/workflow/0003_projects.sql",
            "../../../migrations/workflow/0004_audience.sql"
        ])
        .routes(workflows().merge(runs()).merge(gates()))
        .on("#", trigger::consume)
        .work(run::STEP_RUN, dispatch::run_step)
        .work(run::RUN_CANCEL, sweep::cancel)
        .work(run::QUEUE_NEXT, start::next)
        .work(schedule::RUN_START, trigger::start_run)
        .work(trigger::OWN_EVENT, trigger::consume_own)
        .work(gate::NOTIFY, gate::notify)
        .work(sweep::RUN_TIMEOUT, sweep::time_out)
        .work(sweep::PURGE, sweep::purge)
        .timer("schedules", "1m", schedule::tick)
        .timer("timeouts", "1m", sweep::tick)
}

fn workflows() -> Router {
    Router::new()
        .entity::<workflow::Workflow>(PATH)
        .post(&format!("{PATH}/{{id}}/execute"), api::execute)
        .summary("Start a run.")
        .post(&format!("{PATH}/{{id}}/activate"), api::activate)
        .summary("Turn a workflow on.")
        .post(&format!("{PATH}/{{id}}/pause"), api::pause)
        .summary("Turn a workflow off for now.")
        .post(&format!("{PATH}/{{id}}/archive"), api::archive)
        .summary("Turn a workflow off for good.")
        .post(&format!("{PATH}/{{id}}/duplicate"), api::duplicate)
        .summary("Copy a workflow.")
        .post(&format!("{PATH}/{{id}}/validate"), api::examine)
        .summary("Check a definition without saving it.")
        .get(&format!("{PATH}/{{id}}/versions"), api::versions)
        .summary("List the versions of a definition.")
        .get(&format!("{PATH}/{{id}}/runs"), api::runs_of)
        .summary("List the runs of a workflow.")
        .get(&format!("{PATH}/{{id}}/hooks"), hook::list)
        .summary("List the webhooks of a workflow.")
        .post(&format!("{PATH}/{{id}}/hooks"), hook::create)
        .summary("Create a webhook; its token is shown once.")
        .delete(&format!("{PATH}/{{id}}/hooks/{{hookId}}"), hook::remove)
        .summary("Delete a webhook.")
        .post(&format!("{PATH}/hooks/{{token}}"), hook::receive)
        .summary("Start a run from outside.")
        .public()
}

fn runs() -> Router {
    Router::new()
        .get(&format!("{PATH}/runs"), api::runs)
        .summary("List every run.")
        .get(&format!("{PATH}/runs/{{runId}}"), api::run)
        .summary("Read a run.")
        .get(&format!("{PATH}/runs/{{runId}}/steps"), api::steps)
        .summary("List the steps of a run with their attempts.")
        .get(&format!("{PATH}/runs/{{runId}}/events"), api::events)
        .summary("Read the history of a run.")
        .post(&format!("{PATH}/runs/{{runId}}/cancel"), api::cancel)
        .summary("Cancel a run.")
        .post(&format!("{PATH}/runs/{{runId}}/retry"), api::retry)
        .summary("Let a failed run go on where it failed.")
}

fn gates() -> Router {
    Router::new()
        .get(&format!("{PATH}/approvals"), api::approvals)
        .summary("List the approvals that wait for the caller.")
        .signed_in()
        .post(&format!("{PATH}/approvals/{{id}}/approve"), api::approve)
        .summary("Agree.")
        .signed_in()
        .post(&format!("{PATH}/approvals/{{id}}/reject"), api::reject)
        .summary("Disagree.")
        .signed_in()
}

berth_sdk::plugin!(service());

#[cfg(test)]
mod tests {
    use super::service;

    #[test]
    fn every_route_of_the_specification_is_there_and_one_is_public() {
        let service = service();
        let routes = service.router().unwrap().routes();
        let wanted = "GET |POST |GET /{id}|PUT /{id}|DELETE /{id}|POST /{id}/execute|POST /{id}/activate|POST /{id}/pause|\
            POST /{id}/archive|POST /{id}/duplicate|POST /{id}/validate|GET /{id}/versions|GET /{id}/runs|GET /runs/{runId}|\
            GET /runs/{runId}/steps|GET /runs/{runId}/events|POST /runs/{runId}/cancel|POST /runs/{runId}/retry|GET /approvals|\
            POST /approvals/{id}/approve|POST /approvals/{id}/reject|POST /{id}/hooks|DELETE /{id}/hooks/{hookId}|POST /hooks/{token}";
        assert_eq!(berth_sdk::testing::missing_routes(&service, "/api/workflows", wanted), Vec::<String>::new());
        let public: Vec<&str> =
            routes.iter().filter(|route| !route.needs_organization).map(|route| route.path.as_str()).collect();
        assert_eq!(public, ["/api/workflows/hooks/{token}"]);
        let deletes = routes.iter().find(|route| route.method == "DELETE" && route.path == "/api/workflows/{id}");
        let needed = deletes.and_then(|route| route.permission());
        assert_eq!(needed.as_deref(), Some(super::run_row::DELETE), "what cancels runs unseen");
    }
}
