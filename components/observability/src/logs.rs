//! Logs, which logging keeps: read there with the caller's own rights.

use berth_sdk::{http_out, prelude::*, serde_json::Value};

/// `GET /api/observability/logs`: the parameters are those of `GET /api/logs`. 503 when logging is not there.
pub(crate) fn list(request: Request) -> Result<JsonText<Value>> {
    let query = request.query.as_deref().filter(|query| !query.is_empty());
    let path = query.map_or_else(|| "/api/logs".to_string(), |query| format!("/api/logs?{query}"));
    let reply = http_out::plugin("logging").get(&path).accept()?;
    Ok(JsonText::new(200, reply.body))
}
