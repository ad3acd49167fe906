//! What the endpoint says of itself.

use berth_sdk::{prelude::*, serde_json::Value};

use crate::{
    peer::own_name,
    protocol::{LEGACY, MODERN, revisions},
};

/// How long a list holds, in milliseconds.
pub const TTL_MS: u64 = 15_000;

/// How to use it.
fn instructions() -> &'static str {
    "Tools are routes of this Berth host, called with your own rights: names are `<noun>_<verb>`, and a result with `isError` \
     holds the problem's code and every field at fault. Tools of other servers are named `<server>__<tool>`. Resources are \
     rows, as `berth://plans/{id}`."
}

/// What it can do in an era.
fn capabilities(is_modern: bool) -> Value {
    let mut capabilities = json!({
        "tools": { "listChanged": true },
        "resources": { "subscribe": true, "listChanged": true },
        "prompts": { "listChanged": true },
        "completions": {},
    });
    if let (false, Some(members)) = (is_modern, capabilities.as_object_mut()) {
        members.insert("logging".into(), json!({}));
    }
    capabilities
}

/// The answer to `server/discover`.
pub fn discovered() -> Value {
    json!({
        "supportedVersions": revisions(), "capabilities": capabilities(true), "serverInfo": own_name(),
        "instructions": instructions(), "ttlMs": TTL_MS, "cacheScope": "private",
    })
}

/// The answer to `initialize`.
pub fn initialized(version: &str) -> Value {
    debug_assert!(LEGACY.contains(&version) && version != MODERN);
    let mut server = own_name();
    // The title came with 2025-06-18.
    if let (true, Some(members)) = (version < "2025-06-18", server.as_object_mut()) {
        members.remove("title");
    }
    json!({
        "protocolVersion": version, "capabilities": capabilities(false), "serverInfo": server,
        "instructions": instructions(),
    })
}
