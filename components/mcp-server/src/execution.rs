//! Executions: a tool of another server is called once, under every rule there is, and what came of it is kept.

pub mod analytics;
pub mod batch;
pub mod limits;
pub mod order;
pub mod output;
pub mod run;
pub mod sandbox;
pub mod target;

use std::time::Duration;

use berth_sdk::{
    http::Answer,
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{access, audit, peer::Peer, server};

/// How long executions are kept.
const KEPT_FOR: Duration = Duration::from_secs(90 * 24 * 3600);
/// An execution that has been under way for so long was lost with whoever ran it.
pub const LOST_AFTER: Duration = Duration::from_secs(300);
/// One that waits for so long has lost its message: longer than all repetitions of one.
const WAITED_FOR: Duration = Duration::from_secs(3600);
/// Rows of one sweep.
const SWEEP_MAX: i64 = 200;

/// How far an execution is.
#[choice(upper)]
pub enum Status {
    /// It waits for its turn.
    Pending,
    /// The server is being asked.
    Running,
    /// The tool has answered.
    Completed,
    /// The tool says that it failed, or there was no answer.
    Failed,
    /// There was no answer in time.
    Timeout,
    /// Nobody wants it any more.
    Cancelled,
}

impl Status {
    /// Whether nothing will happen any more.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

/// An execution.
#[entity(table = "mcp_executions", name = "execution", sort = "-startedAt")]
pub struct Execution {
    /// Of which server.
    #[field(filter)]
    pub server_id: Id,
    /// Which tool.
    #[field(filter)]
    pub tool_name: String,
    /// For whom.
    #[field(filter)]
    pub user_id: Option<Id>,
    /// Within which project.
    #[field(filter)]
    pub project_id: Option<Id>,
    /// Who asked: a plugin, or `api`.
    #[field(filter)]
    pub caller_module: String,
    /// Which agent, where one did.
    #[field(filter)]
    pub caller_agent_id: Option<Id>,
    /// How far it is.
    #[field(filter)]
    pub status: Status,
    /// What the tool was given, without secrets.
    pub input: Value,
    /// What it answered, without secrets.
    pub output: Option<Value>,
    /// The tool says that it failed.
    #[field(filter)]
    pub is_error: bool,
    /// What went wrong, for a program.
    #[field(filter)]
    pub error_code: Option<String>,
    /// What went wrong, for a person.
    pub error: Option<String>,
    /// How long it took.
    pub duration_ms: Option<i64>,
    /// When it was asked for.
    pub started_at: Timestamp,
    /// When it was over.
    pub completed_at: Option<Timestamp>,
}

impl Rules for Execution {
    /// Everybody sees their own; administrators see all.
    fn scope() -> Option<Condition> {
        if access::is_system() || access::is_admin() {
            return None;
        }
        Some(Condition::new("\"user_id\" = ?", [auth::principal().user_id.unwrap_or_default()]))
    }
}

/// What its events carry.
pub fn event(row: &Stored<Execution>, server_name: &str) -> Value {
    json!({
        "id": row.id, "executionId": row.id, "serverId": row.server_id, "server": server_name, "toolName": row.tool_name,
        "userId": row.user_id, "projectId": row.project_id, "callerModule": row.caller_module,
        "callerAgentId": row.caller_agent_id, "status": row.status, "isError": row.is_error, "errorCode": row.error_code,
        "durationMs": row.duration_ms, "isPrivate": true,
    })
}

/// `GET /api/mcp/executions`: without inputs and outputs.
pub fn list(query: PageQuery) -> Result<impl Answer> {
    let columns = "\"id\", \"organization_id\" AS \"organizationId\", \"server_id\" AS \"serverId\", \"tool_name\" AS \"toolName\", \
        \"user_id\" AS \"userId\", \"project_id\" AS \"projectId\", \"caller_module\" AS \"callerModule\", \
        \"caller_agent_id\" AS \"callerAgentId\", \"status\", \"is_error\" AS \"isError\", \"error_code\" AS \"errorCode\", \"error\", \
        \"duration_ms\" AS \"durationMs\", \"started_at\" AS \"startedAt\", \"completed_at\" AS \"completedAt\", \"version\"";
    Select::<Execution>::new().page_of::<Listed>(&Pool, &query, columns)
}

/// An execution as a list shows it.
#[data]
pub struct Listed {
    id: Id,
    organization_id: Option<Id>,
    server_id: Id,
    tool_name: String,
    user_id: Option<Id>,
    project_id: Option<Id>,
    caller_module: String,
    caller_agent_id: Option<Id>,
    status: Status,
    is_error: bool,
    error_code: Option<String>,
    error: Option<String>,
    duration_ms: Option<i64>,
    started_at: Timestamp,
    completed_at: Option<Timestamp>,
    version: i64,
}

/// `GET /api/mcp/executions/{id}`.
pub fn read(Params(id): Params<Id>) -> Result<Stored<Execution>> {
    entity::read::<Execution>(&Pool, &id)
}

/// `DELETE /api/mcp/executions/{id}`: whoever runs it finds out, and the server is told.
pub fn cancel(Params(id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    let row = entity::read::<Execution>(&Pool, &id)?;
    if_match.check(row.version)?;
    let server = server::read(&Pool, &row.server_id);
    let name = server.as_ref().map(|server| server.name.clone()).unwrap_or_default();
    let was_running = database::transaction(|transaction| {
        let row = entity::read::<Execution>(transaction, &id)?;
        if row.status == Status::Cancelled {
            return Ok(false);
        }
        if row.status.is_over() {
            return Err(Problem::conflict(format!("It is {} already.", row.status)).with_code("EXECUTION_OVER"));
        }
        let failure = ("EXECUTION_CANCELLED", "It was cancelled.");
        if !close(transaction, &row, &name, Status::Cancelled, None, Some(failure))? {
            return Err(Problem::conflict("It has just ended.").with_code("EXECUTION_OVER"));
        }
        audit::note(transaction, "execution.cancelled", Some(&row.server_id), &id, json!({"toolName": row.tool_name}))?;
        Ok::<_, Problem>(row.status == Status::Running)
    })?;
    if let (Ok(server), true) = (server, was_running)
        && let Ok(secret_id) = server::auth::require(&server)
    {
        Peer::of(&server, secret_id.as_ref()).cancel(&json!(id), "The execution was cancelled.");
    }
    Ok(NoContent)
}

/// Writes the end of an execution that is still open, and tells of it. False when somebody else has ended it.
pub fn close(
    transaction: &Transaction,
    row: &Stored<Execution>,
    server_name: &str,
    status: Status,
    output: Option<&Value>,
    failure: Option<(&str, &str)>,
) -> Result<bool> {
    let now = clock::now();
    let mut ended = row.clone();
    ended.status = status;
    ended.is_error = failure.is_some();
    ended.error_code = failure.map(|(code, _)| code.to_string());
    ended.error = failure.map(|(_, words)| words.chars().take(2_000).collect());
    ended.output = output.cloned();
    ended.duration_ms = i64::try_from(now.since(row.started_at).as_millis()).ok();
    let sql = "UPDATE mcp_executions SET status = $2, output = $3, is_error = $4, error_code = $5, error = $6, duration_ms = $7, \
               completed_at = $8, updated_at = $8, version = version + 1 WHERE id = $1 AND (status = $9 OR status = $10)";
    let values = params![
        &row.id,
        status,
        ended.output.clone(),
        ended.is_error,
        ended.error_code.as_deref(),
        ended.error.as_deref(),
        ended.duration_ms,
        now,
        Status::Pending,
        Status::Running
    ];
    if transaction.execute(sql, values)? == 0 {
        return Ok(false);
    }
    let kind = match status {
        Status::Completed => "mcp.tool.execution.completed",
        _ => "mcp.tool.execution.failed",
    };
    let message = events::Message::new(kind, &event(&ended, server_name))?;
    let message = match (&row.organization_id, auth::principal().organization_id) {
        (Some(organization_id), None) => message.for_organization(organization_id.as_str()),
        _ => message,
    };
    transaction.send(&message)?;
    let mut details = Map::new();
    details.insert("executionId".into(), json!(row.id));
    details.insert("status".into(), json!(status));
    details.insert("errorCode".into(), json!(ended.error_code));
    details.insert("callerModule".into(), json!(row.caller_module));
    audit::note(transaction, "execution.ended", Some(&row.server_id), &row.tool_name, Value::Object(details))?;
    Ok(true)
}

#[data]
struct Lost {
    id: Id,
    organization_id: Id,
}

/// The clock's work: ends what was lost with whoever ran it, and removes what is old.
pub fn sweep() -> Result<()> {
    let now = clock::now();
    let sql = "SELECT id AS \"id\", organization_id AS \"organizationId\" FROM mcp_executions \
               WHERE (status = $1 AND updated_at < $2) OR (status = $3 AND updated_at < $4) ORDER BY started_at LIMIT $5";
    let values = params![Status::Running, now.minus(LOST_AFTER), Status::Pending, now.minus(WAITED_FOR), SWEEP_MAX];
    let lost = database::query_as::<Lost>(&Pool, sql, values)?;
    for Lost { id, organization_id } in lost {
        let row = Select::<Execution>::new().of_organization(&organization_id).equal("id", &id).first(&Pool)?;
        let Some(row) = row else { continue };
        let failure = match row.status {
            Status::Pending => ("INTERRUPTED", "Its turn never came."),
            _ => ("INTERRUPTED", "Whoever ran it was lost; whether it has had its effect is not known."),
        };
        database::transaction(|transaction| close(transaction, &row, "", Status::Failed, None, Some(failure)))?;
    }
    let old = "DELETE FROM mcp_executions WHERE id IN (SELECT id FROM mcp_executions WHERE started_at < $1 ORDER BY started_at LIMIT $2)";
    database::execute(old, params![now.minus(KEPT_FOR), SWEEP_MAX])?;
    let old = "DELETE FROM mcp_audit_entries WHERE id IN (SELECT id FROM mcp_audit_entries WHERE created_at < $1 ORDER BY created_at LIMIT $2)";
    database::execute(old, params![now.minus(KEPT_FOR * 4), SWEEP_MAX])?;
    Ok(())
}
