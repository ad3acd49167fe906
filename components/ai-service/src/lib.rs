//! One door to the providers of language models: routing, fallback, caching, limits, streaming; and agents, which are given
//! tasks and tools.

pub mod access;
pub mod agent;
pub mod answer;
pub mod api;
pub mod ask;
pub mod attempt;
pub mod cached;
pub mod catalog;
pub mod completion;
pub mod echo;
pub mod failure;
pub mod live;
pub mod message;
pub mod model;
pub mod openai;
pub mod provider;
pub mod quota;
pub mod rate;
pub mod routing;
pub mod stream;
pub mod wire;

use berth_sdk::{migrations, prelude::*};

use access::{EXECUTE, MANAGE};
use agent::{Agent, execution, memory};
use provider::{Provider, health};

/// Which names are held: of lists that are counted, and of what there is one of.
pub const HOLDS: &str = "ai_holds";

/// The whole service.
pub fn service() -> Service {
    Service::new("ai-service", env!("CARGO_PKG_VERSION"))
        .migrations(migrations::embed![
            "../../../migrations/ai-service/0001_ai.sql",
            "../../../migrations/ai-service/0002_holds.sql",
        ])
        .routes(completions())
        .routes(models())
        .routes(rules())
        .routes(compatible())
        .routes(agents("/api/ai/agents"))
        .routes(agents("/api/agents"))
        .routes(executions())
        .on("secret.rotated", health::rotated)
        .work(execution::RUN, agent::step::run)
        .timer("health", "1m", tick)
}

/// The clock's work: closes what was left behind, removes what is old, looks at providers.
fn tick(_: &Envelope) -> Result<()> {
    completion::sweep()?;
    execution::sweep()?;
    completion::retain()?;
    // Users come and go.
    database::forget_holds(HOLDS)?;
    health::tick()
}

fn completions() -> Router {
    Router::new()
        .post("/api/ai/completions", api::complete)
        .summary("Ask a model.")
        .post("/api/ai/completions/stream", api::complete_stream)
        .summary("Ask a model, and read the answer as it comes.")
        .get("/api/ai/completions", api::list)
        .summary("List completions.")
        .get("/api/ai/completions/{id}", api::read)
        .summary("Read a completion.")
        .post("/api/ai/completions/{id}/cancel", completion::cancel)
        .summary("Cancel a completion that is under way.")
}

fn models() -> Router {
    Router::new()
        .entity::<model::Model>("/api/ai/models")
        .get("/api/ai/models", model::list)
        .summary("List every model, as it is for the caller.")
        .put("/api/ai/models/{id}/configure", model::configure)
        .summary("Set what an organization or a user wants of a model.")
        .entity::<Provider>("/api/ai/providers")
        .get("/api/ai/providers", provider::list)
        .summary("List providers with their health.")
        .get("/api/ai/providers/{id}", provider::read)
        .summary("Read a provider with its health.")
        .post("/api/ai/providers/{id}/configure", provider::configure)
        .permission(MANAGE)
        .summary("Name the secret with a provider's key, its address and its priority.")
        .post("/api/ai/providers/{id}/test", health::test)
        .permission(MANAGE)
        .summary("Ask a provider which models it has.")
}

fn rules() -> Router {
    Router::new()
        .entity::<routing::RoutingRule>("/api/ai/routing/rules")
        .entity::<routing::FallbackChain>("/api/ai/routing/fallbacks")
        .entity::<rate::RateLimit>("/api/ai/rate-limits")
}

fn compatible() -> Router {
    Router::new()
        .post("/api/ai/v1/chat/completions", openai::chat)
        .summary("Ask a model in OpenAI's form.")
        .get("/api/ai/v1/models", openai::models)
        .summary("List the models that can be asked, in OpenAI's form.")
        .get("/api/ai/v1/models/{model}", openai::model)
        .summary("Read a model in OpenAI's form.")
        .get("/api/ai/v1/models/{model}/{name}", openai::model)
        .summary("Read a model by provider and name in OpenAI's form.")
        .post("/api/ai/v1/embeddings", openai::embed)
        .summary("Make vectors of texts in OpenAI's form.")
}

/// The same routes below both prefixes.
fn agents(path: &str) -> Router {
    let row = format!("{path}/{{id}}");
    Router::new()
        .entity::<Agent>(path)
        .post(&format!("{row}/execute"), execution::execute)
        .permission(EXECUTE)
        .summary("Give an agent a task.")
        .get(&format!("{row}/executions"), execution::of_agent)
        .summary("List the runs of an agent.")
        .get(&format!("{row}/memory"), memory::list)
        .summary("List what an agent remembers.")
        .post(&format!("{row}/memory"), memory::add)
        .summary("Tell an agent something to remember.")
        .delete(&format!("{row}/memory"), memory::clear)
        .summary("Let an agent forget.")
        .get(&format!("{row}/status"), agent::status)
        .summary("Read how an agent is doing.")
        .post(&format!("{row}/cancel"), execution::cancel_all)
        .summary("Cancel the runs of an agent.")
}

fn executions() -> Router {
    let row = "/api/ai/executions/{id}";
    Router::new()
        .get(row, execution::read)
        .summary("Read a run with its steps.")
        .post(&format!("{row}/cancel"), execution::cancel)
        .summary("Cancel a run.")
        .post(&format!("{row}/approve"), execution::approve)
        .permission("ai.agent.approve")
        .summary("Approve the tool call that a run waits with.")
        .post(&format!("{row}/reject"), execution::reject)
        .permission("ai.agent.approve")
        .summary("Reject the tool call that a run waits with.")
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
        let wanted = "POST completions|POST completions/stream|GET completions|GET completions/{id}|POST completions/{id}/cancel|\
            GET models|GET models/{id}|POST models|PUT models/{id}|DELETE models/{id}|PUT models/{id}/configure|GET providers|\
            POST providers/{id}/configure|POST providers/{id}/test|GET routing/rules|POST routing/rules|GET routing/rules/{id}|\
            PUT routing/rules/{id}|DELETE routing/rules/{id}|GET routing/fallbacks|POST routing/fallbacks|\
            GET routing/fallbacks/{id}|PUT routing/fallbacks/{id}|DELETE routing/fallbacks/{id}|GET rate-limits|POST rate-limits|\
            GET rate-limits/{id}|PUT rate-limits/{id}|DELETE rate-limits/{id}|GET agents|POST agents|GET agents/{id}|\
            PUT agents/{id}|DELETE agents/{id}|POST agents/{id}/execute|GET agents/{id}/executions|GET agents/{id}/memory|\
            DELETE agents/{id}/memory|GET executions/{id}|POST executions/{id}/cancel|POST executions/{id}/approve|\
            POST executions/{id}/reject|GET agents/{id}/status|POST agents/{id}/cancel|POST v1/chat/completions|GET v1/models|\
            POST v1/embeddings";
        for route in wanted.split('|') {
            let (method, path) = route.trim().split_once(' ').unwrap();
            let full = format!("{method} /api/ai/{path}");
            assert!(known.contains(&full), "{full}");
            if path.starts_with("agents") {
                assert!(known.contains(&format!("{method} /api/{path}")), "{full} below the other prefix");
            }
        }
        assert_eq!(service.bindings(), ["secret.rotated"]);
    }
}
