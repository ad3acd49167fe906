//! One step of a run, one message: begin, think, or act. What happened and the message of the next step are written
//! together; a message that comes twice finds that its step is over.

use std::time::Instant;

use berth_sdk::{
    events::Message,
    prelude::*,
    serde_json::{self, Value},
};

use super::{
    Agent,
    execution::{self, AgentExecution, PendingCall, RunStatus, StepMessage},
    look_at_projects, memory, output, prepare,
    tools::{self, Outcome},
};
use crate::{
    access::EXECUTE,
    answer::{self, Done},
    ask::Ask,
    message::{Role, Turn},
};

/// How often a step is tried whose failure may pass.
const ATTEMPTS_MAX: u32 = 3;
/// Letters of a text that the steps show.
const SHOWN_LETTERS_MAX: usize = 4_000;
/// Bytes of everything that was said in one run.
const SAID_BYTES_MAX: usize = 2 << 20;

/// Why a run cannot go on.
struct Stop {
    status: RunStatus,
    code: String,
    sentence: String,
}

impl Stop {
    fn failed(code: &str, sentence: impl Into<String>) -> Self {
        Self { status: RunStatus::Failed, code: code.into(), sentence: sentence.into() }
    }
}

/// What a step has made of a run.
enum Moved {
    /// There is a next step.
    On,
    /// Somebody must decide first.
    Waits,
    /// It is done.
    Done,
    /// It cannot go on.
    Stopped(Stop),
}

/// Handles `ai.agent.step.run`.
pub fn run(envelope: &Envelope) -> Result<()> {
    let message: StepMessage = envelope.data()?;
    let Some(row) = entity::find::<AgentExecution>(&Pool, &message.execution_id)? else { return Ok(()) };
    let is_mine = row.current_step == message.step && matches!(row.status, RunStatus::Pending | RunStatus::Running);
    if !is_mine {
        // A duplicate; or somebody has cancelled it.
        return Ok(());
    }
    if message.stuck {
        let stop = Stop::failed("INTERRUPTED", "Its message was lost: nothing moved it for half an hour.");
        return stopped(row, stop);
    }
    if clock::now() >= row.deadline_at {
        let stop = Stop { status: RunStatus::Timeout, ..Stop::failed("TIMEOUT", "The run took too long.") };
        return stopped(row, stop);
    }
    // Whoever approves only lets it go on: it is its user's run, with what they may do and see now.
    match auth::act_for(&row.user_id) {
        Ok(()) if auth::has(EXECUTE) => {}
        Ok(()) => return stopped(row, Stop::failed("FORBIDDEN", "Its user may give agents no tasks any more.")),
        Err(problem) if problem.code == "ACTING_DENIED" => {
            return stopped(row, Stop::failed(&problem.code, format!("The run cannot go on. {}", problem.detail)));
        }
        Err(problem) => return Err(problem),
    }
    match advance(row.clone()) {
        Ok(()) => Ok(()),
        // Somebody changed the row meanwhile: the next delivery sees how.
        Err(problem) if problem.code == "CHANGED_MEANWHILE" && !envelope.is_last_attempt => Err(problem),
        Err(problem) if may_pass(&problem) && envelope.attempt < ATTEMPTS_MAX && !envelope.is_last_attempt => {
            Err(problem)
        }
        Err(problem) => {
            // A run in a project that its user does not see any more ends too.
            let row = entity::find::<AgentExecution>(&Pool, &row.id)?.unwrap_or(row);
            if row.status.is_over() {
                return Ok(());
            }
            stopped(row, Stop::failed(&problem.code, problem.detail))
        }
    }
}

fn may_pass(problem: &Problem) -> bool {
    problem.code != "PROVIDER_AUTH" && problem.code != "PROVIDER_DENIED" && matches!(problem.status, 409 | 429 | 500..)
}

fn advance(mut row: Stored<AgentExecution>) -> Result<()> {
    let agent: Agent = serde_json::from_value(row.agent.clone()).map_err(|error| {
        logging::error!("a run's agent cannot be read", error = error);
        Problem::internal()
    })?;
    let before = (row.tokens_used, row.cost_micro);
    let moved = if row.status == RunStatus::Pending {
        begin(&agent, &mut row)?
    } else if row.calls.is_empty() {
        think(&agent, &mut row)?
    } else {
        act(&mut row)?
    };
    let spent = (row.tokens_used - before.0, row.cost_micro - before.1);
    let id = row.id.clone();
    commit(&agent, row, moved).inspect_err(|problem| {
        if problem.code == "CHANGED_MEANWHILE" && spent.0 > 0 {
            count_in_vain(&id, spent);
        }
    })
}

/// Somebody cancelled the run while the model was at it: what that cost is still the run's.
fn count_in_vain(id: &Id, (tokens, cost): (i64, i64)) {
    let sql = "UPDATE agent_executions SET tokens_used = tokens_used + $2, cost_micro = cost_micro + $3 WHERE id = $1 AND status = $4";
    if let Err(fault) = database::execute(sql, params![id, tokens, cost, RunStatus::Cancelled]) {
        logging::warn!("what a cancelled run cost in the end is not noted", fault = fault);
    }
}

/// Writes what happened, tells of it, and puts the next step into the queue.
fn commit(agent: &Agent, mut row: Stored<AgentExecution>, moved: Moved) -> Result<()> {
    look_at_projects();
    database::transaction(|transaction| {
        let has_begun = row.current_step == 0;
        row.current_step += 1;
        if has_begun {
            let data = json!({
                "executionId": row.id, "agentId": row.agent_id, "userId": row.user_id, "context": row.context,
                "projectId": agent.project_id, "isPrivate": row.is_private,
            });
            transaction.send(&Message::new("ai.agent.started", &data)?.with_key(row.id.as_str()))?;
        }
        let last = row.steps.last().cloned().unwrap_or_default();
        let data = json!({
            "executionId": row.id, "agentId": row.agent_id, "step": row.current_step, "status": row.status,
            "kind": last.get("kind"), "toolName": last.get("toolName"), "waitingFor": row.waiting_for,
            "tokensUsed": row.tokens_used, "costMicro": row.cost_micro, "userId": row.user_id,
            "projectId": agent.project_id, "isPrivate": row.is_private,
        });
        transaction.send(&Message::new("ai.agent.step", &data)?.with_key(row.id.as_str()))?;
        match moved {
            Moved::On => {
                entity::save(transaction, &mut row)?;
                execution::enqueue(transaction, &row)
            }
            Moved::Waits => entity::save(transaction, &mut row),
            Moved::Done => {
                if agent.config.memory {
                    memory::remember(transaction, &row)?;
                }
                execution::end(transaction, &mut row, RunStatus::Completed, None)
            }
            Moved::Stopped(stop) => {
                execution::end(transaction, &mut row, stop.status, Some((&stop.code, stop.sentence)))
            }
        }
    })
}

fn stopped(mut row: Stored<AgentExecution>, stop: Stop) -> Result<()> {
    database::transaction(|transaction| {
        execution::end(transaction, &mut row, stop.status, Some((&stop.code, stop.sentence)))
    })
}

fn begin(agent: &Agent, row: &mut Stored<AgentExecution>) -> Result<Moved> {
    let beginning = prepare::prepare(agent, row)?;
    row.status = RunStatus::Running;
    row.started_at = Some(clock::now());
    row.turns = json!(beginning.turns);
    let offered: Vec<&str> = beginning.toolbox.iter().map(|tool| tool.function.as_str()).collect();
    let note = json!({ "kind": "begin", "at": clock::now(), "tools": offered, "toolsMissing": beginning.missing });
    row.steps.push(note);
    row.toolbox = beginning.toolbox;
    Ok(Moved::On)
}

/// What the run may not go beyond.
fn over_budget(agent: &Agent, row: &AgentExecution) -> Option<Stop> {
    let config = &agent.config;
    let answers = row.steps.iter().filter(|step| step.get("kind") == Some(&json!("completion"))).count();
    if i64::try_from(answers).unwrap_or(i64::MAX) >= config.max_steps {
        return Some(Stop::failed("MAX_STEPS", format!("The run took {} steps and was not done.", config.max_steps)));
    }
    if config.max_tokens.is_some_and(|most| row.tokens_used >= most) {
        return Some(Stop::failed("TOKEN_BUDGET_EXCEEDED", "The run has used up its tokens."));
    }
    if config.max_cost_micro.is_some_and(|most| row.cost_micro >= most) {
        return Some(Stop::failed("COST_BUDGET_EXCEEDED", "The run has used up its money."));
    }
    if row.turns.to_string().len() > SAID_BYTES_MAX {
        return Some(Stop::failed("TOO_LONG", "More was said in the run than is kept."));
    }
    None
}

fn think(agent: &Agent, row: &mut Stored<AgentExecution>) -> Result<Moved> {
    if let Some(stop) = over_budget(agent, row) {
        return Ok(Moved::Stopped(stop));
    }
    let began = Instant::now();
    let turns = row.said();
    let left = agent.config.max_tokens.map(|most| (most - row.tokens_used).max(1));
    let done = answer::whole(Ask {
        turns: turns.clone(),
        model: agent.model.clone(),
        temperature: agent.config.temperature,
        max_tokens: left,
        tools: row.toolbox.iter().map(tools::ToolEntry::offered).collect(),
        task_type: Some("agent".into()),
        caller_module: Some("agent".into()),
        caller_resource_id: Some(row.id.to_string()),
        ..Ask::default()
    })?;
    row.tokens_used = row.tokens_used.saturating_add(done.usage.total());
    row.cost_micro = row.cost_micro.saturating_add(done.cost_micro);
    row.steps.push(noted(&done, began));
    Ok(heard(agent, row, turns, &done))
}

fn noted(done: &Done, began: Instant) -> Value {
    let calls: Vec<Value> = done
        .turn
        .calls
        .iter()
        .map(|call| json!({ "id": call.id, "name": call.name, "arguments": shown(&call.arguments) }))
        .collect();
    json!({
        "kind": "completion", "at": clock::now(), "completionId": done.id, "model": done.model, "provider": done.provider,
        "content": shown(&done.turn.words()), "toolCalls": calls, "finishReason": done.finish,
        "promptTokens": done.usage.input, "completionTokens": done.usage.output, "costMicro": done.cost_micro,
        "durationMs": i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX),
    })
}

/// What follows from what the model said.
fn heard(agent: &Agent, row: &mut Stored<AgentExecution>, mut turns: Vec<Turn>, done: &Done) -> Moved {
    turns.push(done.turn.clone());
    row.turns = json!(turns);
    if !done.turn.calls.is_empty() {
        row.calls = done
            .turn
            .calls
            .iter()
            .map(|call| PendingCall {
                id: call.id.clone(),
                name: call.name.clone(),
                arguments: call.arguments.clone(),
                approved: None,
                decided_by: None,
                reason: None,
            })
            .collect();
        return Moved::On;
    }
    match output::read(&done.turn.words(), agent.config.output_schema.as_ref()) {
        Ok(output) => {
            row.output = Some(output);
            Moved::Done
        }
        Err(faults) if !row.is_repaired => {
            row.is_repaired = true;
            let wish = format!(
                "That does not fit: {faults} Answer again with one JSON value that fits the schema, and nothing else."
            );
            turns.push(Turn::text(Role::User, wish));
            row.turns = json!(turns);
            Moved::On
        }
        Err(faults) => {
            Moved::Stopped(Stop::failed("OUTPUT_INVALID", format!("The output does not fit the schema: {faults}")))
        }
    }
}

fn act(row: &mut Stored<AgentExecution>) -> Result<Moved> {
    let Some(call) = row.calls.first().cloned() else { return Ok(Moved::On) };
    let began = Instant::now();
    let tool = tools::find(&row.toolbox, &call.name).cloned();
    let outcome = match (&tool, tools::arguments(&call.arguments), call.approved) {
        (None, ..) => Outcome::failed(format!("There is no tool {}.", call.name)),
        (_, None, _) => Outcome::failed("The arguments are not a JSON object."),
        (Some(_), _, Some(false)) => {
            let why = call.reason.as_deref().map_or(String::new(), |reason| format!(" Reason: {reason}"));
            Outcome::failed(format!("A person has rejected this call.{why}"))
        }
        (Some(tool), Some(arguments), None) if tool.is_destructive => {
            row.status = RunStatus::WaitingApproval;
            row.waiting_for = Some(json!({
                "callId": call.id, "serverId": tool.server_id, "toolName": tool.tool_name, "arguments": arguments,
                "since": clock::now(),
            }));
            row.steps.push(json!({ "kind": "approval", "at": clock::now(), "toolName": tool.tool_name, "serverId": tool.server_id }));
            return Ok(Moved::Waits);
        }
        (Some(tool), Some(arguments), _) => {
            let key = format!("{}-{}", row.id, row.current_step);
            tools::call(tool, &arguments, &key, &row.agent_id, call.approved == Some(true))?
        }
    };
    let mut turns = row.said();
    turns.push(Turn::result(&call.id, outcome.text.clone()));
    row.turns = json!(turns);
    row.calls.remove(0);
    row.steps.push(json!({
        "kind": "tool", "at": clock::now(), "callId": call.id, "toolName": tool.as_ref().map_or(&call.name, |tool| &tool.tool_name),
        "serverId": tool.as_ref().map(|tool| &tool.server_id), "arguments": shown(&call.arguments), "result": shown(&outcome.text),
        "isError": outcome.is_error, "mcpExecutionId": outcome.execution_id, "approved": call.approved, "decidedBy": call.decided_by,
        "durationMs": i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX),
    }));
    Ok(Moved::On)
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_LETTERS_MAX).collect()
}
