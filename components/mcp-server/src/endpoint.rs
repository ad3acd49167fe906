//! The platform's own endpoint of the Model Context Protocol: streamable HTTP at `/api/mcp`, in every revision. Who calls is
//! known by Berth's tokens; what may be called is what the caller may call anyway.

pub mod arguments;
pub mod catalogue;
pub mod completion;
pub mod discover;
pub mod dispatch;
pub mod flow;
pub mod http;
pub mod legacy;
pub mod listen;
pub mod modern;
pub mod offer;
pub mod prompts;
pub mod reply;
pub mod resources;
pub mod session;
pub mod state;
pub mod tools;

use berth_sdk::prelude::*;

use crate::access::MANAGE;

/// How a route says that it speaks the protocol itself: it is given the whole parameters of a request and answers with a
/// whole result.
pub const NATIVE: &str = "application/vnd.berth.mcp+json";
/// The right to use the endpoint. Each tool wants its route's own right besides.
const USE: &str = "mcp.mcp.read";

/// The endpoint's routes, and those that say what it offers.
pub fn routes() -> Router {
    let mut router = Router::new();
    for path in ["/api/mcp", "/api/mcp/rpc"] {
        router = router
            .post(path, http::post)
            .permission(USE)
            .summary("Send a message of the Model Context Protocol.")
            .get(path, http::get)
            .permission(USE)
            .summary("Listen to a session of the Model Context Protocol, or take up a stream that broke off.")
            .delete(path, http::delete)
            .permission(USE)
            .summary("End a session of the Model Context Protocol.");
    }
    router
        .entity::<offer::Offer>("/api/mcp/offers")
        .get("/api/mcp/routes", offer::routes)
        .permission(MANAGE)
        .summary("List the routes that the endpoint can offer.")
}
