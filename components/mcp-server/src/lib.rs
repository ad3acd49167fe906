//! The Model Context Protocol, both ways: other servers' tools, catalogued and executed under rules; and the platform's own
//! endpoint, which offers its routes as tools.

pub mod access;
pub mod audit;
pub mod endpoint;
pub mod execution;
pub mod peer;
pub mod protocol;
pub mod server;
pub mod settings;
pub mod tool;

use berth_sdk::{migrations, prelude::*};

use access::MANAGE;
use execution::{analytics, batch, run};
use server::{Server, auth as server_auth, catalog, configuration, health, secret, sync, toggle};

/// The whole service.
pub fn service() -> Service {
    Service::new("mcp-server", env!("CARGO_PKG_VERSION"))
        .migrations(migrations::embed![
            "../../../migrations/mcp-server/0001_registry.sql",
            "../../../migrations/mcp-server/0002_endpoint.sql",
            "../../../migrations/mcp-server/0003_removed_tools.sql",
            "../../../migrations/mcp-server/0004_ended_calls.sql"
        ])
        .routes(servers())
        .routes(catalogue())
        .routes(tools())
        .routes(executions())
        .routes(organization())
        .routes(endpoint::routes())
        .on("secret.rotated", secret::rotated)
        .on("secret.deleted", secret::deleted)
        .work(run::RUN, run::work)
        .timer("health", "1m", tick)
}

/// The clock's work: ends what was lost, removes what is old, makes figures, looks at servers.
fn tick(_: &Envelope) -> Result<()> {
    execution::sweep()?;
    endpoint::session::sweep()?;
    analytics::aggregate()?;
    health::tick()
}

fn servers() -> Router {
    let row = "/api/mcp/servers/{id}";
    Router::new()
        .entity::<Server>("/api/mcp/servers")
        .get("/api/mcp/servers", server::list)
        .summary("List servers.")
        .post(&format!("{row}/duplicate"), server::duplicate)
        .permission("mcp.mcp.create")
        .summary("Copy a server.")
        .post(&format!("{row}/sync"), sync::run)
        .summary("Read the list of tools again.")
        .put(&format!("{row}/auth"), server_auth::set)
        .summary("Set how a server is told who calls.")
        .delete(&format!("{row}/auth"), server_auth::remove)
        .permission("mcp.mcp.update")
        .summary("Remove a server's credential.")
        .get(&format!("{row}/configuration"), configuration::read_all)
        .summary("Read how a server is used, by scope.")
        .put(&format!("{row}/configuration"), configuration::change)
        .permission(MANAGE)
        .summary("Change how a server is used.")
        .put(&format!("{row}/toggle"), toggle::change)
        .summary("Turn a server on or off, by scope.")
        .get("/api/mcp/toggles", toggle::list)
        .summary("List toggles.")
        .get(&format!("{row}/health"), health::latest)
        .summary("Read how a server does.")
        .post(&format!("{row}/health/check"), health::check)
        .summary("Look at a server now.")
        .get("/api/mcp/health", health::summary)
        .summary("Read how all servers do.")
        .get(&format!("{row}/versions"), catalog::versions)
        .summary("List the releases of a server.")
        .get(&format!("{row}/metrics"), analytics::metrics)
        .summary("List a server's figures by hour.")
}

fn catalogue() -> Router {
    let row = "/api/mcp/catalog/servers/{id}";
    Router::new()
        .get("/api/mcp/catalog", catalog::list)
        .summary("List the servers that every organization is offered.")
        .post("/api/mcp/catalog/servers", catalog::add)
        .permission(MANAGE)
        .summary("Add a server to the catalogue.")
        .post(&format!("{row}/deprecate"), catalog::deprecate)
        .permission(MANAGE)
        .summary("Say that a server of the catalogue will go.")
        .post(&format!("{row}/archive"), catalog::archive)
        .permission(MANAGE)
        .summary("Take a server out of the catalogue.")
        .post(&format!("{row}/versions"), catalog::add_version)
        .permission(MANAGE)
        .summary("Add a release of a server of the catalogue.")
}

fn tools() -> Router {
    Router::new()
        .get("/api/mcp/servers/{id}/tools", tool::of_server)
        .summary("List the tools of a server.")
        .get("/api/mcp/tools", tool::list)
        .summary("List the tools that are used here.")
        .get("/api/mcp/tools/{serverId}/{name}", tool::read_one)
        .summary("Read a tool.")
        .put("/api/mcp/tools/{serverId}/{name}", tool::decide)
        .permission(MANAGE)
        .summary("Approve a tool, or say who may call it.")
        .get("/api/mcp/capabilities", tool::capabilities)
        .summary("List what tools are good for.")
}

fn executions() -> Router {
    Router::new()
        .post("/api/mcp/execute", run::post)
        .summary("Execute a tool, or whatever has a capability.")
        .post("/api/mcp/servers/{id}/tools/{name}/execute", run::post_named)
        .permission("mcp.mcp.create")
        .summary("Execute a tool of a server.")
        .post("/api/mcp/execute/batch", batch::post)
        .summary("Execute several tools.")
        .get("/api/mcp/executions", execution::list)
        .summary("List executions.")
        .lists::<execution::Execution>()
        .get("/api/mcp/executions/{id}", execution::read)
        .summary("Read an execution.")
        .delete("/api/mcp/executions/{id}", execution::cancel)
        .permission("mcp.mcp.create")
        .summary("Cancel an execution.")
        .get("/api/mcp/analytics/usage", analytics::usage)
        .summary("Read what was used.")
        .get("/api/mcp/analytics/top-tools", analytics::top_tools)
        .summary("List the tools that are used most.")
        .get("/api/mcp/analytics/errors", analytics::errors)
        .summary("List what went wrong.")
}

fn organization() -> Router {
    Router::new()
        .get("/api/mcp/audit", audit::list)
        .permission(MANAGE)
        .summary("List what was done.")
        .get("/api/mcp/settings", settings::read)
        .summary("Read the organization's settings.")
        .put("/api/mcp/settings", settings::change)
        .permission(MANAGE)
        .summary("Change the organization's settings.")
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
        let wanted = "GET servers|POST servers|GET servers/{id}|PUT servers/{id}|DELETE servers/{id}|GET catalog|POST catalog/servers|\
            POST catalog/servers/{id}/deprecate|POST catalog/servers/{id}/archive|POST catalog/servers/{id}/versions|\
            POST servers/{id}/duplicate|POST servers/{id}/sync|PUT servers/{id}/auth|DELETE servers/{id}/auth|\
            GET servers/{id}/configuration|PUT servers/{id}/configuration|PUT servers/{id}/toggle|GET toggles|\
            GET servers/{id}/health|POST servers/{id}/health/check|GET servers/{id}/tools|GET tools|GET tools/{serverId}/{name}|\
            GET capabilities|POST execute|POST servers/{id}/tools/{name}/execute|POST execute/batch|GET executions|\
            GET executions/{id}|DELETE executions/{id}|GET health|GET analytics/usage|GET analytics/top-tools|\
            GET analytics/errors|GET audit|GET settings|PUT settings|POST rpc";
        for route in wanted.split('|') {
            let (method, path) = route.trim().split_once(' ').unwrap();
            assert!(known.contains(&format!("{method} /api/mcp/{path}")), "{route}");
        }
        for method in ["POST", "GET", "DELETE"] {
            assert!(known.contains(&format!("{method} /api/mcp")), "{method}");
        }
        assert_eq!(service.bindings(), ["secret.rotated", "secret.deleted"]);
    }
}
