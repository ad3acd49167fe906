//! `mcp_tool` steps: a tool of another server is called through mcp-server, which checks rights, toggles, limits and arguments.

use std::time::Duration;

use berth_sdk::{
    http_out::{self, Call, Reply},
    prelude::*,
    serde_json::{self, Value},
};

use crate::failure::Failure;

/// The longest a call takes: the lease must outlast it.
const TIMEOUT_MAX: Duration = Duration::from_secs(25);
/// Failures of mcp-server that a step passes on under their own name.
const CODES: [&str; 13] = [
    "MCP_SERVER_NOT_FOUND",
    "TOOL_NOT_FOUND",
    "INVALID_PARAMS",
    "PERMISSION_DENIED",
    "SANDBOX_VIOLATION",
    "AUTH_SECRET_NOT_FOUND",
    "RATE_LIMIT_EXCEEDED",
    "SERVER_UNHEALTHY",
    "TRANSPORT_ERROR",
    "TRANSPORT_UNSUPPORTED",
    "EXECUTION_TIMEOUT",
    "EXECUTION_CANCELLED",
    "RPC_ERROR",
];

/// A call that is ready to go.
#[derive(Clone, Debug)]
pub struct McpStep(Call);

impl McpStep {
    /// Reads the parameters, which planning has checked. The key makes a repeated message call the tool once; a person has
    /// approved the plan, and with it whatever the tool destroys.
    pub fn read(params: &Value, timeout_ms: i64, key: &str) -> Self {
        let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(1)).min(TIMEOUT_MAX);
        let body = json!({
            "serverId": params.get("serverId"), "toolName": params.get("tool"), "params": params.get("arguments"),
            "timeout": u64::try_from(timeout.as_millis()).unwrap_or(100).max(100), "confirm": true,
        });
        // mcp-server answers within the tool's own time.
        let patience = timeout + Duration::from_secs(3);
        let call = http_out::plugin("mcp-server").post("/api/mcp/execute");
        Self(call.json(&body).idempotency_key(key).timeout(patience))
    }

    /// Calls the tool.
    ///
    /// # Errors
    /// When there is no mcp-server, it refuses, the server cannot be reached, or the tool says that it failed.
    pub fn perform(&self) -> Result<Value, Failure> {
        let unavailable = || Failure::new("EXECUTOR_UNAVAILABLE", "mcp-server is not there to run the step.");
        judge(&self.0.send().map_err(|_| unavailable())?)
    }
}

fn judge(reply: &Reply) -> Result<Value, Failure> {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_string();
    if reply.is_success() {
        if body.get("isError") == Some(&Value::Bool(true)) {
            let words =
                body.pointer("/content/0/text").and_then(Value::as_str).unwrap_or("The tool says that it failed.");
            let words: String = words.chars().take(500).collect();
            return Err(Failure::new("TOOL_ERROR", words).with_output(body));
        }
        return Ok(body);
    }
    let code = text("code");
    if code == "ROUTE_NOT_FOUND" || (reply.status == 503 && code == "SERVICE_UNAVAILABLE") {
        return Err(Failure::new("EXECUTOR_UNAVAILABLE", "mcp-server is not there to run the step."));
    }
    let known = CODES.into_iter().find(|known| *known == code).unwrap_or("TOOL_REFUSED");
    let may_pass = reply.status == 429 || reply.status >= 500;
    Err(if may_pass { Failure::new(known, text("detail")) } else { Failure::lasting(known, text("detail")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, body: Value) -> Result<Value, Failure> {
        judge(&Reply { status, headers: vec![], body: body.to_string().into_bytes() })
    }

    #[test]
    fn a_tool_ends_well_or_says_why_not() {
        assert!(judged(200, json!({"isError": false, "content": []})).is_ok());
        let failed = judged(200, json!({"isError": true, "content": [{"type": "text", "text": "no"}]})).unwrap_err();
        assert_eq!((failed.code, failed.message.as_str(), failed.output.is_some()), ("TOOL_ERROR", "no", true));
        let refused = judged(404, json!({"code": "TOOL_NOT_FOUND", "detail": "d"})).unwrap_err();
        assert_eq!((refused.code, refused.may_pass), ("TOOL_NOT_FOUND", false));
        let away = judged(503, json!({"code": "SERVICE_UNAVAILABLE"})).unwrap_err();
        assert_eq!((away.code, away.may_pass), ("EXECUTOR_UNAVAILABLE", true));
        let odd = judged(502, json!({"code": "SOMETHING"})).unwrap_err();
        assert_eq!((odd.code, odd.may_pass), ("TOOL_REFUSED", true));
    }

    #[test]
    fn without_mcp_server_nothing_is_called() {
        let step = McpStep::read(&json!({"serverId": "s", "tool": "t", "arguments": {"a": 1}}), 60_000, "k");
        let body: Value = serde_json::from_slice(&step.0.body).unwrap();
        assert_eq!(
            (&body["toolName"], &body["params"], &body["timeout"]),
            (&json!("t"), &json!({"a": 1}), &json!(25_000))
        );
        assert_eq!(step.perform().unwrap_err().code, "EXECUTOR_UNAVAILABLE");
    }
}
