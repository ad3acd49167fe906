//! What an agent remembers: the last exchanges with the same user, and what it has been told.

use std::time::Duration;

use berth_sdk::{prelude::*, serde_json::Value};

use super::{Agent, execution::AgentExecution, lock, look_at_projects};
use crate::access;

/// Memories that a run is reminded of.
const RECALLED_MAX: i64 = 20;
/// Memories of one agent.
const HELD_MAX: i64 = 1_000;
/// Letters of a task or an output that are remembered.
const LETTERS_MAX: usize = 1_000;
/// How long an exchange is remembered.
const EXCHANGE_TTL: Duration = Duration::from_secs(30 * 86_400);
/// Bytes of a memory.
const VALUE_BYTES_MAX: usize = 64 * 1024;

/// How long and what for something is remembered.
#[choice]
pub enum MemoryKind {
    /// For a while.
    Short,
    /// For good.
    Long,
    /// What happened.
    Episodic,
    /// What is so.
    Semantic,
}

/// A memory.
#[entity(table = "agent_memories", name = "memory")]
pub struct Memory {
    /// Whose.
    #[field(readonly)]
    pub agent_id: Option<Id>,
    /// What kind.
    #[field(default = MemoryKind::Long)]
    pub kind: MemoryKind,
    /// Its name; the same name is the same memory.
    #[field(min = 1, max = 200, plain, filter)]
    pub key: String,
    /// What is remembered.
    #[schemars(extend("type" = ["boolean", "number", "string", "array", "object"]))]
    pub value: Value,
    /// Until when.
    pub expires_at: Option<Timestamp>,
}

impl Rules for Memory {
    fn scope() -> Option<Condition> {
        if access::is_admin() {
            return None;
        }
        // What happened with somebody else is that person's.
        let user_id = auth::principal().user_id.unwrap_or_default();
        Some(Condition::new("\"kind\" <> 'episodic' OR \"created_by\" = ?", [user_id]))
    }

    fn check(&self, faults: &mut Faults) {
        if self.value.is_null() {
            faults.add("value", "must not be null");
        }
        if self.value.to_string().len() > VALUE_BYTES_MAX {
            faults.add("value", format!("must have at most {VALUE_BYTES_MAX} bytes"));
        }
    }
}

/// `GET /api/ai/agents/{id}/memory`.
pub fn list(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Memory>>>> {
    let agent = entity::read::<Agent>(&Pool, &id)?;
    Select::<Memory>::new()
        .equal("agent_id", &agent.id)
        .condition("\"expires_at\" IS NULL OR \"expires_at\" > ?", [clock::now()])
        .page(&Pool, &query)
}

/// `POST /api/ai/agents/{id}/memory`: the same kind and key replaces what was there.
pub fn add(Params(id): Params<Id>, Json(mut memory): Json<Memory>) -> Result<Created<Stored<Memory>>> {
    look_at_projects();
    let row = database::transaction(|transaction| {
        // Of two memories of one key at once, the later one replaces the other.
        lock(transaction, &id)?;
        let agent = entity::read::<Agent>(transaction, &id)?;
        memory.agent_id = Some(agent.id.clone());
        put(transaction, memory)
    })?;
    Ok(Created(row))
}

fn put(transaction: &Transaction, memory: Memory) -> Result<Stored<Memory>> {
    let same = Select::<Memory>::new()
        .equal("agent_id", memory.agent_id.clone())
        .equal("kind", memory.kind)
        .equal("key", memory.key.as_str())
        .first(transaction)?;
    if let Some(mut row) = same {
        row.data = memory;
        entity::save(transaction, &mut row)?;
        return Ok(row);
    }
    let held = Select::<Memory>::new().equal("agent_id", memory.agent_id.clone()).count(transaction)?;
    if held >= HELD_MAX {
        return Err(Problem::unprocessable(format!("An agent has at most {HELD_MAX} memories.")));
    }
    entity::create(transaction, memory)
}

/// `DELETE /api/ai/agents/{id}/memory`.
pub fn clear(Params(id): Params<Id>) -> Result<NoContent> {
    look_at_projects();
    database::transaction(|transaction| {
        let agent = entity::read::<Agent>(transaction, &id)?;
        // What others remember of an agent of everybody's is theirs.
        transaction.execute(
            "DELETE FROM agent_memories WHERE agent_id = $1 AND organization_id = $2",
            params![&agent.id, auth::organization_id()?],
        )?;
        Ok::<_, Problem>(())
    })?;
    Ok(NoContent)
}

/// What a run is reminded of, the oldest first; empty when there is nothing.
pub fn recall(agent_id: &str, user_id: &str) -> Result<String> {
    let mut rows = Select::<Memory>::new()
        .equal("agent_id", agent_id)
        .condition("\"expires_at\" IS NULL OR \"expires_at\" > ?", [clock::now()])
        .condition("\"kind\" <> 'episodic' OR \"created_by\" = ?", [user_id])
        .sort("-createdAt")
        .limit(RECALLED_MAX)
        .all(&Pool)?;
    rows.reverse();
    Ok(rows.iter().map(|row| line(row)).collect::<Vec<_>>().join("\n"))
}

fn line(memory: &Memory) -> String {
    let text = |name: &str| memory.value.get(name).and_then(Value::as_str).unwrap_or_default().to_string();
    match memory.kind {
        MemoryKind::Episodic => format!("- Asked: {}\n  Answered: {}", text("input"), text("output")),
        _ => {
            let value = memory.value.as_str().map_or_else(|| memory.value.to_string(), ToString::to_string);
            format!("- {}: {}", memory.key, shortened(&value))
        }
    }
}

/// Remembers how a run went; an agent that knows too much already learns nothing more.
pub fn remember(transaction: &Transaction, row: &Stored<AgentExecution>) -> Result<()> {
    let words = |value: &Value| shortened(&value.as_str().map_or_else(|| value.to_string(), ToString::to_string));
    // Of two runs that end at once the later one counts what the other has left.
    lock(transaction, &row.agent_id)?;
    let held = Select::<Memory>::new().equal("agent_id", &row.agent_id).count(transaction)?;
    if held >= HELD_MAX {
        return Ok(());
    }
    put(
        transaction,
        Memory {
            agent_id: Some(row.agent_id.clone()),
            kind: MemoryKind::Episodic,
            key: row.id.to_string(),
            value: json!({ "input": words(&row.input), "output": words(row.output.as_ref().unwrap_or(&Value::Null)) }),
            expires_at: Some(clock::now().plus(EXCHANGE_TTL)),
        },
    )?;
    Ok(())
}

fn shortened(text: &str) -> String {
    let mut kept: String = text.chars().take(LETTERS_MAX).collect();
    if kept.len() < text.len() {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_is_told_in_a_line() {
        let memory = |kind, value| Memory { agent_id: None, kind, key: "port".into(), value, expires_at: None };
        assert_eq!(line(&memory(MemoryKind::Long, json!(8080))), "- port: 8080");
        assert_eq!(line(&memory(MemoryKind::Semantic, json!("open"))), "- port: open");
        let exchange = json!({"input": "a", "output": "b"});
        assert_eq!(line(&memory(MemoryKind::Episodic, exchange)), "- Asked: a\n  Answered: b");
        assert_eq!(shortened(&"ü".repeat(2_000)).chars().count(), LETTERS_MAX + 1);
    }
}
