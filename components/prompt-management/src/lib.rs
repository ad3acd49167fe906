//! Prompts: versioned texts with variables, an organization's own words for them, experiments, and runs by a schedule.
//! Nothing here talks to a model: ai-service does.

pub mod execution;
pub mod experiment;
pub mod overrides;
pub mod prompt;
pub mod render;
pub mod resolve;
pub mod schedule;
pub mod variable;
pub mod version;

use berth_sdk::{migrations, prelude::*};

use prompt::{PUBLISH, api};

const PATH: &str = "/api/prompts";

/// The whole service.
pub fn service() -> Service {
    Service::new("prompt-management", env!("CARGO_PKG_VERSION"))
        .migrations(migrations::embed!["../../../migrations/prompt-management/0001_prompts.sql"])
        .routes(prompts())
        .routes(versions())
        .routes(uses())
        .routes(overrides::routes())
        .routes(experiment::api::routes())
        .routes(schedule::routes())
        .on("ai.completion.completed", execution::run::reported)
        .on("ai.completion.failed", execution::run::reported)
        .work(schedule::run::RUN, schedule::run::work)
        .timer("schedules", "1m", schedule::run::tick)
}

fn prompts() -> Router {
    let row = format!("{PATH}/{{id}}");
    Router::new()
        .get(PATH, api::list)
        .summary("List prompts.")
        .post(PATH, api::create)
        .summary("Create a prompt.")
        .makes::<prompt::Prompt>()
        .takes::<prompt::api::Extras>()
        .may_omit(&["displayName"])
        .permission(PUBLISH)
        .get(&row, api::read)
        .summary("Read a prompt by id or name.")
        .put(&row, api::update)
        .summary("Update a prompt; a new text becomes a new draft.")
        .changes::<prompt::Prompt>()
        .takes::<prompt::api::Extras>()
        .delete(&row, api::remove)
        .summary("Delete a prompt.")
        .post(&format!("{row}/duplicate"), api::duplicate)
        .summary("Copy a prompt.")
        .permission(PUBLISH)
        .get(&format!("{row}/variables"), variable::list)
        .summary("Read a prompt's variables.")
        .put(&format!("{row}/variables"), variable::replace)
        .summary("Replace a prompt's variables.")
}

fn versions() -> Router {
    let row = format!("{PATH}/{{id}}");
    Router::new()
        .get(&format!("{row}/versions"), version::list)
        .summary("List a prompt's versions.")
        .post(&format!("{row}/versions"), version::create)
        .summary("Create a draft.")
        .get(&format!("{row}/versions/{{n}}"), version::read)
        .summary("Read one version.")
        .path_number("n")
        .post(&format!("{row}/versions/{{n}}/publish"), version::publish_route)
        .summary("Publish a version.")
        .path_number("n")
        .permission(PUBLISH)
        .post(&format!("{row}/rollback"), version::rollback)
        .summary("Publish an earlier version again.")
        .permission(PUBLISH)
        .get(&format!("{row}/diff"), version::diff::diff)
        .summary("Compare two versions.")
}

fn uses() -> Router {
    let row = format!("{PATH}/{{id}}");
    Router::new()
        .post(&format!("{PATH}/render"), execution::render)
        .summary("Fill a prompt.")
        .post(&format!("{row}/execute"), execution::run::execute)
        .summary("Fill a prompt and ask a model.")
        .post(&format!("{PATH}/executions/{{id}}/outcome"), execution::outcome)
        .summary("Report how an execution went.")
        .get(&format!("{row}/executions"), execution::list)
        .summary("List a prompt's executions.")
        .get(&format!("{row}/stats"), execution::stats::stats)
        .summary("Read how a prompt does.")
}

berth_sdk::plugin!(service());

#[cfg(test)]
mod tests {
    use berth_sdk::prelude::*;

    use super::service;

    #[test]
    fn every_route_of_the_specification_is_there() {
        let service = service();
        let wanted = "GET |POST |GET /{id}|PUT /{id}|DELETE /{id}|POST /{id}/duplicate|GET /{id}/versions|POST /{id}/versions|\
            GET /{id}/versions/{n}|POST /{id}/versions/{n}/publish|POST /{id}/rollback|GET /{id}/diff|GET /{id}/variables|\
            PUT /{id}/variables|POST /render|POST /{id}/execute|POST /executions/{id}/outcome|GET /{id}/executions|\
            GET /{id}/stats|GET /overrides|POST /overrides|GET /overrides/{id}|PUT /overrides/{id}|DELETE /overrides/{id}|\
            POST /overrides/{id}/approve|GET /experiments|POST /experiments|GET /experiments/{id}|PUT /experiments/{id}|\
            DELETE /experiments/{id}|POST /experiments/{id}/start|POST /experiments/{id}/pause|POST /experiments/{id}/stop|\
            POST /experiments/{id}/promote|GET /experiments/{id}/results|GET /schedules|POST /schedules|GET /schedules/{id}|\
            PUT /schedules/{id}|DELETE /schedules/{id}|POST /schedules/{id}/run-now|POST /schedules/{id}/pause|\
            POST /schedules/{id}/resume";
        assert_eq!(berth_sdk::testing::missing_routes(&service, "/api/prompts", wanted), Vec::<String>::new());
    }

    #[test]
    fn a_rating_is_from_one_to_five() {
        berth_sdk::testing::sign_in("u1", "o1");
        let post = |rating: i64| {
            let request = Request::new("POST", "/api/prompts/executions/e1/outcome");
            service().handle(request.with_json(&json!({ "rating": rating }))).status
        };
        assert_eq!((post(0), post(6)), (400, 400));
        assert_eq!(post(5), 503, "natively there is no database");
    }
}
