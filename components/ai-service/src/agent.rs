//! Agents: a model with a prompt, tools, a memory and limits, to which tasks are given.

pub mod execution;
pub mod memory;
pub mod output;
pub mod prepare;
pub mod step;
pub mod tools;

use berth_sdk::{
    entity::{Column, Kind},
    prelude::*,
    serde_json::{Map, Value},
    types::Scope,
};

use crate::HOLDS;
use execution::AgentExecution;

/// Agents of one organization.
const AGENTS_MAX: i64 = 1_000;
/// Tools that one agent names.
const TOOLS_MAX: usize = 128;
/// Bytes of the schema of an agent's output.
const SCHEMA_BYTES_MAX: usize = 64 * 1024;

/// What an agent may spend, and what its output must look like.
#[data]
pub struct AgentConfig {
    /// Answers of the model in one run.
    #[field(default = 20, min = 1, max = 100)]
    pub max_steps: i64,
    /// Tokens of one run.
    #[field(min = 1, max = 100_000_000)]
    pub max_tokens: Option<i64>,
    /// Cost of one run.
    #[field(min = 1)]
    pub max_cost_micro: Option<i64>,
    /// How long one run may take; waiting for an approval does not count.
    #[field(default = 600_000, min = 1_000, max = 86_400_000)]
    pub timeout_ms: i64,
    /// 0 to 2.
    #[field(min = 0, max = 2)]
    pub temperature: Option<f64>,
    /// JSON Schema of the output.
    pub output_schema: Option<Value>,
    /// Whether it remembers earlier runs of the same user.
    #[field(default = true)]
    pub memory: bool,
}

impl Column for AgentConfig {
    const KIND: Kind = Kind::Json;
}

impl AgentConfig {
    fn standard() -> Self {
        Self {
            max_steps: 20,
            max_tokens: None,
            max_cost_micro: None,
            timeout_ms: 600_000,
            temperature: None,
            output_schema: None,
            memory: true,
        }
    }
}

/// An agent.
#[entity(table = "agent_agents", name = "agent", global, sort = "name")]
pub struct Agent {
    /// For people.
    #[field(min = 1, max = 200, plain, filter)]
    pub name: String,
    /// What it is good for.
    #[field(max = 2_000)]
    pub description: Option<String>,
    /// What kind it is, in words of one's own.
    #[field(default = "assistant", min = 1, max = 50, plain, filter)]
    pub r#type: String,
    /// Who sees it: with USER only who made it. One of a project is seen by those who see the project.
    #[field(default = Scope::Organization, immutable)]
    pub scope: Scope,
    /// Of which project; required with scope PROJECT.
    pub project_id: Option<Id>,
    /// The prompt of prompt-management that sets it up; the run's context fills it.
    pub system_prompt_id: Option<Id>,
    /// What sets it up, where no prompt does.
    #[field(raw, max = 100_000)]
    pub system_prompt: Option<String>,
    /// The model it asks; none: as for any question.
    #[field(min = 1, max = 200)]
    pub model: Option<String>,
    /// Tools by name, `server/tool`, `server/*`, `*`, or by capability.
    #[field(default)]
    pub tools: Vec<String>,
    /// Limits and the form of the output.
    #[field(default = AgentConfig::standard())]
    pub config: AgentConfig,
    /// How much harm it could do, from 0 to 2; for people.
    #[field(default = 0, min = 0, max = 2)]
    pub criticality: i64,
    /// Whether tasks may be given to it.
    #[field(default = true)]
    pub is_active: bool,
}

impl Rules for Agent {
    fn scope() -> Option<Condition> {
        let user_id = auth::principal().user_id.unwrap_or_default();
        let own = Condition::new("\"scope\" <> 'USER' OR \"created_by\" = ?", [user_id]);
        Some(people::scope::and_within(own, "\"project_id\""))
    }

    fn check(&self, faults: &mut Faults) {
        if self.system_prompt.is_some() && self.system_prompt_id.is_some() {
            faults.add("systemPrompt", "and systemPromptId exclude each other");
        }
        if self.scope == Scope::Project && self.project_id.is_none() {
            faults.add("projectId", "is required for the scope PROJECT");
        }
        if self.tools.len() > TOOLS_MAX || self.tools.iter().any(|tool| tool.is_empty() || tool.len() > 200) {
            faults.add("tools", format!("must be at most {TOOLS_MAX} names"));
        }
        if let Some(schema) = &self.config.output_schema {
            if !schema.is_object() {
                faults.add("config.outputSchema", "must be a JSON Schema");
            } else if schema.to_string().len() > SCHEMA_BYTES_MAX {
                faults.add("config.outputSchema", format!("must have at most {SCHEMA_BYTES_MAX} bytes"));
            }
        }
    }

    /// Who sees its project, and which ones the caller does, planning is asked here.
    fn before_transaction(fields: &Map<String, Value>) -> Result<()> {
        look_at_projects();
        people::scope::require_named(fields.get("projectId").and_then(Value::as_str))
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        transaction.hold(HOLDS, "agents")?;
        if Select::<Self>::new().count(transaction)? >= AGENTS_MAX {
            return Err(Problem::unprocessable(format!("An organization has at most {AGENTS_MAX} agents.")));
        }
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        lock(transaction, &row.id)?;
        if execution::active_anywhere(transaction, &row.id)? > 0 {
            return Err(Problem::conflict("It has runs that are not over.").with_code("AGENT_RUNNING"));
        }
        transaction.execute("DELETE FROM agent_memories WHERE agent_id = $1", params![&row.id])?;
        Ok(())
    }
}

/// Whoever starts a run, whoever adds a memory and whoever deletes the agent wait for each other.
pub fn lock(transaction: &Transaction, id: &str) -> Result<()> {
    transaction.execute("UPDATE agent_agents SET is_active = is_active WHERE id = $1", params![id])?;
    Ok(())
}

/// Asks which projects the caller sees, so that a transaction that follows knows it and waits for nobody.
pub fn look_at_projects() {
    people::project::seen();
}

/// How an agent is doing.
#[data]
pub struct AgentStatus {
    /// Which.
    pub agent_id: Id,
    /// Whether tasks may be given to it.
    pub is_active: bool,
    /// `idle`, or how far its latest run has come.
    pub status: String,
    /// Runs that are not over.
    pub active_executions: i64,
    /// Its latest run.
    pub latest_execution: Option<Map<String, Value>>,
}

/// `GET /api/agents/{id}/status`.
pub fn status(Params(id): Params<Id>) -> Result<Json<AgentStatus>> {
    let agent = entity::read::<Agent>(&Pool, &id)?;
    let latest = Select::<AgentExecution>::new().equal("agent_id", &agent.id).sort("-createdAt").first(&Pool)?;
    Ok(Json(AgentStatus {
        agent_id: agent.id.clone(),
        is_active: agent.is_active,
        status: latest.as_ref().map_or("idle", |row| row.status.as_str()).to_string(),
        active_executions: execution::active(&Pool, &agent.id)?,
        latest_execution: latest.map(|row| row.shown()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(fields: Value) -> Vec<String> {
        let mut request = Request::new("POST", "/").with_json(&fields);
        let agent = match Json::<Agent>::from_request(&mut request) {
            Ok(Json(agent)) => agent,
            Err(problem) => return problem.errors.into_iter().map(|error| error.field).collect(),
        };
        let mut faults = Faults::default();
        agent.check(&mut faults);
        faults.errors().iter().map(|error| error.field.clone()).collect()
    }

    #[test]
    fn an_agent_has_limits_whether_they_are_named_or_not() {
        let mut request = Request::new("POST", "/").with_json(&json!({"name": "a", "config": {"maxSteps": 3}}));
        let Json(agent) = Json::<Agent>::from_request(&mut request).unwrap();
        assert_eq!((agent.config.max_steps, agent.config.timeout_ms, agent.config.memory), (3, 600_000, true));
        assert_eq!(faults(json!({"name": "a"})), [] as [&str; 0]);
        assert_eq!(faults(json!({"name": "a", "config": {"maxSteps": 0}})), ["config.maxSteps"]);
        assert_eq!(faults(json!({"name": "a", "config": {"temperature": 3}})), ["config.temperature"]);
        assert_eq!(faults(json!({"name": "a", "config": {"outputSchema": 7}})), ["config.outputSchema"]);
        assert_eq!(faults(json!({"name": "a", "criticality": 3})), ["criticality"]);
        assert_eq!(faults(json!({"name": "a", "scope": "PROJECT"})), ["projectId"]);
        assert_eq!(faults(json!({"name": "a", "systemPrompt": "x", "systemPromptId": "p"})), ["systemPrompt"]);
    }
}
