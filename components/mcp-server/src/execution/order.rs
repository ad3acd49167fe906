//! What somebody wants executed.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::server::configuration::TIMEOUT_MS_MAX;

/// What somebody wants executed: a tool of a server, or whatever has a capability.
#[data]
pub struct Order {
    /// The server's id or name.
    #[field(min = 1, max = 100)]
    pub server_id: Option<String>,
    /// The tool.
    #[field(min = 1, max = 128)]
    pub tool_name: Option<String>,
    /// Instead of both: what the tool shall be good for.
    #[field(min = 1, max = 200)]
    pub capability: Option<String>,
    /// What the tool is given.
    #[field(raw)]
    pub params: Option<Value>,
    /// The same under its other name.
    #[field(raw)]
    pub arguments: Option<Value>,
    /// How long it may take, in milliseconds.
    #[field(min = 100, max = 120_000)]
    pub timeout: Option<i64>,
    /// Answer at once, and run it afterwards.
    pub r#async: Option<bool>,
    /// It may destroy something.
    pub confirm: Option<bool>,
    /// Within which project.
    pub project_id: Option<Id>,
    /// Which part of the calling plugin asks.
    #[field(min = 1, max = 100, plain)]
    pub caller_module: Option<String>,
    /// Which agent asks.
    pub caller_agent_id: Option<Id>,
}

impl Order {
    /// What the tool is given; 400 when it is no object.
    pub fn arguments(&self) -> Result<Map<String, Value>> {
        match self.params.as_ref().or(self.arguments.as_ref()) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(arguments)) => Ok(arguments.clone()),
            Some(_) => Err(Problem::field("params", "must be an object")),
        }
    }

    /// 400 unless it says what to execute.
    pub fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        match (&self.server_id, &self.tool_name, &self.capability) {
            (Some(_), Some(_), None) | (None, None, Some(_)) => {}
            (_, _, Some(_)) => faults.add("capability", "stands instead of `serverId` and `toolName`"),
            (server_id, tool_name, None) => {
                if server_id.is_none() {
                    faults.add("serverId", "is required, or `capability`");
                }
                if tool_name.is_none() {
                    faults.add("toolName", "is required, or `capability`");
                }
            }
        }
        if self.timeout.is_some_and(|timeout| !(100..=TIMEOUT_MS_MAX).contains(&timeout)) {
            faults.add("timeout", format!("must be from 100 to {TIMEOUT_MS_MAX}"));
        }
        faults.finish()
    }

    /// Who asks: a plugin says so itself only to the host, which does not lie.
    pub fn module(&self) -> String {
        match (auth::principal().source_service, &self.caller_module) {
            (Some(service), _) => service,
            (None, Some(module)) => module.clone(),
            (None, None) => "api".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use berth_sdk::http::read_value;

    use super::*;

    fn fields(body: Value) -> Vec<String> {
        let problem = read_value::<Order>(body).and_then(|order| order.check().and_then(|()| order.arguments()));
        problem.err().map(|problem| problem.errors.into_iter().map(|error| error.field).collect()).unwrap_or_default()
    }

    #[test]
    fn an_order_names_a_tool_or_a_capability() {
        assert!(fields(json!({"serverId": "s", "toolName": "t"})).is_empty());
        assert!(fields(json!({"capability": "files.read", "params": {"a": 1}})).is_empty());
        assert_eq!(fields(json!({})), ["serverId", "toolName"]);
        assert_eq!(fields(json!({"serverId": "s", "toolName": "t", "capability": "c"})), ["capability"]);
        assert_eq!(fields(json!({"serverId": "s", "toolName": "t", "params": [1]})), ["params"]);
        assert_eq!(fields(json!({"serverId": "s", "toolName": "t", "timeout": 5})), ["timeout"]);
    }
}
