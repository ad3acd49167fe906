//! Runs of agents: their rows, how they begin, and what people decide about them.

use std::time::Duration;

use berth_sdk::{
    events::Message,
    prelude::*,
    serde_json::{Map, Value},
    types::Scope,
};

use super::{Agent, lock, look_at_projects, tools::ToolEntry};
use crate::{access, message::Turn};

/// The work message.
pub const RUN: &str = "ai.agent.step.run";
/// Bytes of a task.
const INPUT_BYTES_MAX: usize = 256 * 1024;
/// Bytes of what is known beside it.
const CONTEXT_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an output that events carry.
const EVENT_OUTPUT_BYTES_MAX: usize = 128 * 1024;
/// Runs of one agent that are not over.
const ACTIVE_MAX: i64 = 100;
/// A run that nothing has happened to for so long has lost its message: longer than all repetitions of one.
const STUCK: Duration = Duration::from_secs(30 * 60);
/// Runs that one sweep looks at.
const SWEEP_MAX: i64 = 100;

/// A key must hold one of these for an agent with tools: what comes later is done in the user's name and not in the key's.
const TOOL_RIGHTS: [&str; 3] = ["mcp.mcp.create", "mcp.mcp.execute", "mcp.tool.execute"];

/// The project of a run's agent: its runs are seen by those who see it. Where the agent is gone, or has left its project, it is the
/// one that the run began in.
const PROJECT: &str = "COALESCE((SELECT a.project_id FROM agent_agents a WHERE a.id = agent_executions.agent_id), \
    agent_executions.agent ->> 'projectId')";

/// How far a run has come.
#[choice]
pub enum RunStatus {
    /// It has not begun.
    Pending,
    /// The model or a tool is at it.
    Running,
    /// Somebody must decide about a tool call.
    WaitingApproval,
    /// Done.
    Completed,
    /// Not done.
    Failed,
    /// Somebody stopped it.
    Cancelled,
    /// It took too long.
    Timeout,
}

impl RunStatus {
    /// Whether anything is still to come.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Pending | Self::Running | Self::WaitingApproval)
    }
}

/// A tool call that the model wants.
#[data]
pub struct PendingCall {
    /// As the model names it.
    pub id: String,
    /// Which tool.
    pub name: String,
    /// JSON as text.
    #[field(raw)]
    pub arguments: String,
    /// What somebody has decided.
    pub approved: Option<bool>,
    /// Who.
    pub decided_by: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// A run.
#[entity(table = "agent_executions", name = "execution")]
pub struct AgentExecution {
    /// Which agent.
    #[field(filter)]
    pub agent_id: Id,
    /// For whom.
    #[field(filter)]
    pub user_id: Id,
    /// How far it has come.
    pub status: RunStatus,
    /// The task.
    pub input: Value,
    /// What is known beside it.
    pub context: Value,
    /// What came of it.
    pub output: Option<Value>,
    /// What happened, one after another.
    pub steps: Vec<Value>,
    /// How many messages it took.
    pub current_step: i64,
    /// Of all questions and answers.
    pub tokens_used: i64,
    /// What they cost.
    pub cost_micro: i64,
    /// What went wrong.
    pub error: Option<String>,
    /// The same as a code.
    pub error_code: Option<String>,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub completed_at: Option<Timestamp>,
    /// The tool call that waits for a decision.
    pub waiting_for: Option<Value>,
    /// The agent as it was when the run began.
    #[field(hidden)]
    pub agent: Value,
    /// What was said so far.
    #[field(hidden)]
    pub turns: Value,
    /// The tools as they were when the run began.
    #[field(hidden)]
    pub toolbox: Vec<ToolEntry>,
    /// The tool calls that are still to be made.
    #[field(hidden)]
    pub calls: Vec<PendingCall>,
    /// The model has been asked once to mend its output.
    #[field(hidden)]
    pub is_repaired: bool,
    /// When it has taken too long.
    #[field(hidden)]
    pub deadline_at: Timestamp,
    /// Only its user and administrators see it.
    #[field(hidden)]
    pub is_private: bool,
}

impl Rules for AgentExecution {
    fn scope() -> Option<Condition> {
        if access::is_admin() {
            return people::scope::within(PROJECT);
        }
        let user_id = auth::principal().user_id.unwrap_or_default();
        let own = Condition::new("\"is_private\" = FALSE OR \"user_id\" = ?", [user_id]);
        Some(people::scope::and_within(own, PROJECT))
    }
}

impl AgentExecution {
    /// What was said so far.
    pub fn said(&self) -> Vec<Turn> {
        berth_sdk::serde_json::from_value(self.turns.clone()).unwrap_or_default()
    }
}

/// The message that moves a run on.
#[data]
pub struct StepMessage {
    /// Which run.
    pub execution_id: Id,
    /// The step that it is for; another one is over or not yet there.
    pub step: i64,
    /// The clock has found it, and nothing moves it any more.
    #[field(default = false)]
    pub stuck: bool,
}

/// Puts the next step into the queue.
pub fn enqueue(transaction: &Transaction, row: &Stored<AgentExecution>) -> Result<()> {
    let step = StepMessage { execution_id: row.id.clone(), step: row.current_step, stuck: false };
    // One message a step, however often it is put.
    let id = format!("{}-{}", row.id, row.current_step);
    transaction.enqueue_message(&Message::new(RUN, &step)?.with_id(id).with_key(row.id.as_str()))?;
    Ok(())
}

/// Runs of an agent that are not over, in the caller's organization.
pub fn active(database: &dyn Executor, agent_id: &str) -> Result<i64> {
    count_active(database, agent_id, Some(auth::organization_id()?))
}

/// The same in all of them: every organization gives tasks to an agent of everybody's.
pub fn active_anywhere(database: &dyn Executor, agent_id: &str) -> Result<i64> {
    count_active(database, agent_id, None)
}

fn count_active(database: &dyn Executor, agent_id: &str, organization_id: Option<Id>) -> Result<i64> {
    let mut sql =
        String::from("SELECT COUNT(*) AS total FROM agent_executions WHERE agent_id = $1 AND status IN ($2, $3, $4)");
    let mut values = params![agent_id, RunStatus::Pending, RunStatus::Running, RunStatus::WaitingApproval].to_vec();
    if let Some(organization_id) = organization_id {
        sql.push_str(" AND organization_id = $5");
        values.push(organization_id.into());
    }
    let found = database.query_one(&sql, &values)?;
    Ok(found.map_or(Ok(0), |row| row.get("total"))?)
}

/// The body of `execute`.
#[data]
pub struct ExecuteInput {
    /// The task: a text, or an object.
    #[schemars(extend("not" = { "enum": [null, ""] }))]
    pub input: Value,
    /// What is known beside it; it fills the prompt, and comes back with the events.
    #[field(default)]
    pub context: Map<String, Value>,
}

/// A run, as it is answered.
#[data]
pub struct Started {
    /// The run.
    pub execution: Map<String, Value>,
}

/// `POST /api/ai/agents/{id}/execute`.
pub fn execute(Params(id): Params<Id>, Json(input): Json<ExecuteInput>) -> Result<Created<Started>> {
    if input.input.is_null() || input.input == json!("") {
        return Err(Problem::field("input", "is required"));
    }
    let context = Value::Object(input.context);
    if input.input.to_string().len() > INPUT_BYTES_MAX {
        return Err(Problem::too_large(format!("A task has at most {INPUT_BYTES_MAX} bytes.")));
    }
    if context.to_string().len() > CONTEXT_BYTES_MAX {
        return Err(Problem::too_large(format!("A context has at most {CONTEXT_BYTES_MAX} bytes.")));
    }
    let user_id = auth::user_id()?;
    look_at_projects();
    let row = database::transaction(|transaction| {
        // Before it is read: whoever deletes or stops it at the same moment comes first or waits.
        lock(transaction, &id)?;
        let agent = entity::read::<Agent>(transaction, &id)?;
        if auth::api_key_id().is_some() && !agent.tools.is_empty() && !TOOL_RIGHTS.iter().any(|right| auth::has(right))
        {
            let detail = "The key may not call tools, and the agent would: a run goes on with its user's rights.";
            return Err(Problem::forbidden(detail));
        }
        if !agent.is_active {
            return Err(Problem::conflict("The agent is not active.").with_code("AGENT_INACTIVE"));
        }
        if active(transaction, &agent.id)? >= ACTIVE_MAX {
            return Err(Problem::conflict(format!("The agent has {ACTIVE_MAX} runs that are not over.")));
        }
        let timeout = Duration::from_millis(u64::try_from(agent.config.timeout_ms).unwrap_or(0));
        let execution = AgentExecution {
            agent_id: agent.id.clone(),
            user_id: user_id.clone(),
            status: RunStatus::Pending,
            input: input.input.clone(),
            context: context.clone(),
            output: None,
            steps: Vec::new(),
            current_step: 0,
            tokens_used: 0,
            cost_micro: 0,
            error: None,
            error_code: None,
            started_at: None,
            completed_at: None,
            waiting_for: None,
            agent: json!(agent.data),
            turns: json!([]),
            toolbox: Vec::new(),
            calls: Vec::new(),
            is_repaired: false,
            deadline_at: clock::now().plus(timeout),
            is_private: agent.scope == Scope::User,
        };
        let row = entity::create(transaction, execution)?;
        enqueue(transaction, &row)?;
        Ok(row)
    })?;
    Ok(Created(Started { execution: row.shown() }))
}

/// `GET /api/ai/agents/{id}/executions`.
pub fn of_agent(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<AgentExecution>>>> {
    let agent = entity::read::<Agent>(&Pool, &id)?;
    Select::<AgentExecution>::new().equal("agent_id", &agent.id).page(&Pool, &query)
}

/// `GET /api/ai/executions/{id}`.
pub fn read(Params(id): Params<Id>) -> Result<Stored<AgentExecution>> {
    entity::read(&Pool, &id)
}

/// `POST /api/ai/executions/{id}/cancel`.
pub fn cancel(Params(id): Params<Id>) -> Result<Stored<AgentExecution>> {
    changed(&id, |transaction, row| {
        if row.status.is_over() {
            return Err(Problem::conflict("It is over already."));
        }
        end(transaction, row, RunStatus::Cancelled, Some(("CANCELLED", "Somebody cancelled it.".into())))
    })
}

/// `POST /api/agents/{id}/cancel`: every run of the agent that is not over.
pub fn cancel_all(Params(id): Params<Id>) -> Result<Json<Cancelled>> {
    let agent = entity::read::<Agent>(&Pool, &id)?;
    let rows = Select::<AgentExecution>::new()
        .equal("agent_id", &agent.id)
        .one_of("status", [RunStatus::Pending, RunStatus::Running, RunStatus::WaitingApproval])
        .limit(ACTIVE_MAX)
        .all(&Pool)?;
    if rows.is_empty() {
        return Err(Problem::conflict("No run of it is under way."));
    }
    let mut cancelled = Vec::new();
    for row in rows {
        match self::cancel(Params(row.id.clone())) {
            Ok(row) => cancelled.push(row.id.clone()),
            // It was over before it could be cancelled.
            Err(problem) if problem.status == 409 => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(Json(Cancelled { cancelled }))
}

/// Which runs were cancelled.
#[data]
pub struct Cancelled {
    /// Their ids.
    pub cancelled: Vec<Id>,
}

/// The body of a decision.
#[data]
#[derive(Default)]
pub struct Decision {
    /// Why; the model is told.
    #[field(max = 2_000)]
    reason: Option<String>,
}

/// `POST /api/ai/executions/{id}/approve`. With `If-Match` it is about the call that was seen, and about none that waits after it.
pub fn approve(
    Params(id): Params<Id>,
    if_match: IfMatch,
    decision: Option<Json<Decision>>,
) -> Result<Stored<AgentExecution>> {
    decide(&id, true, if_match, &decision.map(|Json(decision)| decision).unwrap_or_default())
}

/// `POST /api/ai/executions/{id}/reject`, likewise.
pub fn reject(
    Params(id): Params<Id>,
    if_match: IfMatch,
    decision: Option<Json<Decision>>,
) -> Result<Stored<AgentExecution>> {
    decide(&id, false, if_match, &decision.map(|Json(decision)| decision).unwrap_or_default())
}

fn decide(id: &Id, approved: bool, if_match: IfMatch, decision: &Decision) -> Result<Stored<AgentExecution>> {
    changed(id, |transaction, row| {
        if_match.check(row.version)?;
        if row.status != RunStatus::WaitingApproval {
            return Err(Problem::conflict("It waits for no decision.").with_code("NOT_WAITING"));
        }
        // Waiting does not count.
        row.deadline_at = row.deadline_at.plus(clock::now().since(row.updated_at));
        row.status = RunStatus::Running;
        row.waiting_for = None;
        if let Some(call) = row.calls.first_mut() {
            call.approved = Some(approved);
            call.decided_by = auth::principal().user_id;
            call.reason.clone_from(&decision.reason);
        }
        entity::save(transaction, row)?;
        enqueue(transaction, row)
    })
}

/// Changes a run, and once more when its own step was faster.
fn changed(
    id: &Id,
    change: impl Fn(&Transaction, &mut Stored<AgentExecution>) -> Result<()>,
) -> Result<Stored<AgentExecution>> {
    look_at_projects();
    let mut attempt = 1;
    loop {
        let result = database::transaction(|transaction| {
            let mut row = entity::read::<AgentExecution>(transaction, id)?;
            change(transaction, &mut row)?;
            Ok::<_, Problem>(row)
        });
        match result {
            Err(problem) if problem.code == "CHANGED_MEANWHILE" && attempt < 5 => attempt += 1,
            result => return result,
        }
    }
}

/// Ends a run and tells of it.
pub fn end(
    transaction: &Transaction,
    row: &mut Stored<AgentExecution>,
    status: RunStatus,
    error: Option<(&str, String)>,
) -> Result<()> {
    row.status = status;
    row.completed_at = Some(clock::now());
    row.waiting_for = None;
    row.calls = Vec::new();
    if let Some((code, sentence)) = error {
        row.error_code = Some(code.to_string());
        row.error = Some(sentence.chars().take(2_000).collect());
    }
    entity::save(transaction, row)?;
    let kind = if status == RunStatus::Completed { "ai.agent.completed" } else { "ai.agent.failed" };
    let output = row.output.as_ref().filter(|output| output.to_string().len() <= EVENT_OUTPUT_BYTES_MAX);
    let data = json!({
        "executionId": row.id, "agentId": row.agent_id, "userId": row.user_id, "status": row.status, "output": output,
        "outputLeftOut": row.output.is_some() && output.is_none(), "error": row.error, "errorCode": row.error_code,
        "tokensUsed": row.tokens_used, "costMicro": row.cost_micro, "steps": row.steps.len(), "context": row.context,
        "projectId": row.agent.get("projectId"), "isPrivate": row.is_private,
    });
    transaction.send(&Message::new(kind, &data)?.with_key(row.id.as_str()))?;
    Ok(())
}

/// Finds runs whose message is lost, and lets their own organization end them.
pub fn sweep() -> Result<()> {
    let rows = database::query(
        "SELECT id, organization_id, current_step FROM agent_executions WHERE status IN ($1, $2) AND updated_at < $3 LIMIT $4",
        params![RunStatus::Pending, RunStatus::Running, clock::now().minus(STUCK), SWEEP_MAX],
    )?;
    for row in rows {
        let step = StepMessage { execution_id: row.get("id")?, step: row.get("current_step")?, stuck: true };
        let organization_id: String = row.get("organization_id")?;
        events::enqueue_message(&Message::new(RUN, &step)?.for_organization(organization_id))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use berth_sdk::testing;

    use super::*;

    #[test]
    fn runs_of_a_project_that_is_not_seen_are_not_there() {
        testing::sign_in("u1", "o1");
        let Condition { sql, values } = AgentExecution::scope().unwrap();
        assert_eq!(sql, format!("(\"is_private\" = FALSE OR \"user_id\" = ?) AND ({PROJECT} IS NULL)"));
        assert_eq!(values.len(), 1);
        // Who administers the organization sees the runs of others, and still not those of every project.
        testing::permit(access::MANAGE);
        assert_eq!(AgentExecution::scope().unwrap().sql, format!("{PROJECT} IS NULL"));
    }
}
