//! Reading a server's list of tools, and what becomes of the tools that were known before.

use std::{collections::BTreeMap, time::Duration};

use berth_sdk::{
    cache,
    prelude::*,
    serde_json::{Map, Value},
    types::Health,
};

use super::{Server, auth, health, read};
use crate::{
    audit,
    peer::{self, Failure, Peer},
    tool::{self, TOOLS_MAX, Tool},
};

/// How long a list may take, all pages together.
const TIMEOUT: Duration = Duration::from_secs(25);
/// Pages that are asked for.
const PAGES_MAX: usize = 100;
/// Tools of one server that are remembered after they have gone.
const REMOVED_MAX: i64 = 2_000;
/// A second reading within this is the first.
const FRESH: Duration = Duration::from_secs(300);

/// What a reading found.
#[data]
#[derive(Default)]
pub struct Found {
    /// Tools that were not there before.
    pub added: Vec<String>,
    /// Tools that are not what they were: they are called again when an administrator has looked at them.
    pub changed: Vec<String>,
    /// Tools that are gone.
    pub removed: Vec<String>,
    /// Tools that cannot be used: without a name, or with a schema that is none.
    pub skipped: i64,
    /// How many there are now.
    pub total: i64,
    /// The revision that was agreed on.
    pub protocol_version: Option<String>,
}

/// `POST /api/mcp/servers/{id}/sync`.
pub fn run(Params(id): Params<Id>) -> Result<Json<Found>> {
    let server = read(&Pool, &id)?;
    if server.organization_id.is_none() {
        crate::access::require_platform()?;
    }
    sync(&server).map(Json)
}

/// Reads the list of tools and keeps it.
pub fn sync(server: &Stored<Server>) -> Result<Found> {
    peer::require_transport(server)?;
    let secret_id = auth::require(server)?;
    let peer = Peer::of(server, secret_id.as_ref());
    let listed = list(&peer);
    health::note(server, listed.as_ref().err(), None)?;
    let (protocol_version, listed, ttl) = listed.map_err(|failure| failure.problem())?;
    let found = database::transaction(|transaction| keep(transaction, server, &protocol_version, &listed))?;
    cache::set_ttl(&format!("tools:{}", server.id), &true, ttl.unwrap_or(FRESH));
    Ok(found)
}

/// Every page of `tools/list`, the revision, and how long the server says that it holds.
fn list(peer: &Peer<'_>) -> Result<(String, Vec<Value>, Option<Duration>), Failure> {
    let begun = std::time::Instant::now();
    let mut tools: Vec<Value> = Vec::new();
    let (mut cursor, mut ttl) = (None::<String>, None);
    for _ in 0..PAGES_MAX {
        let mut params = Map::new();
        if let Some(cursor) = &cursor {
            params.insert("cursor".into(), json!(cursor));
        }
        let page = peer.ask("tools/list", params, TIMEOUT.saturating_sub(begun.elapsed()))?;
        tools.extend(page.get("tools").and_then(Value::as_array).cloned().unwrap_or_default());
        ttl = page
            .get("ttlMs")
            .and_then(Value::as_u64)
            .map(|millis| Duration::from_millis(millis.clamp(1_000, 86_400_000)));
        let next = page.get("nextCursor").and_then(Value::as_str).map(ToString::to_string);
        let is_over = next.is_none() || next == cursor || tools.len() >= usize::try_from(TOOLS_MAX).unwrap_or(0);
        cursor = next;
        if is_over {
            break;
        }
    }
    tools.truncate(usize::try_from(TOOLS_MAX).unwrap_or(0));
    Ok((peer.link().map(|link| link.protocol_version).unwrap_or_default(), tools, ttl))
}

fn keep(transaction: &Transaction, server: &Stored<Server>, revision: &str, listed: &[Value]) -> Result<Found> {
    // Two that read the list at once write it one after the other: each change is found, and told of, once. Who deletes the
    // server meanwhile has deleted its tools.
    super::hold(transaction, &server.id)?;
    let mut found = Found { protocol_version: Some(revision.to_string()), ..Found::default() };
    let mut known: BTreeMap<String, Stored<Tool>> = Select::<Tool>::new()
        .equal("server_id", &server.id)
        .limit(TOOLS_MAX)
        .all(transaction)?
        .into_iter()
        .map(|row| (row.name.clone(), row))
        .collect();
    let mut seen: Vec<String> = Vec::new();
    let remembers = removed(transaction, server)? < REMOVED_MAX;
    for value in listed {
        let Some(tool) = tool::parsed(server, value).filter(|tool| !seen.contains(&tool.name)) else {
            found.skipped += 1;
            continue;
        };
        seen.push(tool.name.clone());
        match known.remove(&tool.name) {
            None => {
                found.added.push(tool.name.clone());
                match back(transaction, server, &tool.name)? {
                    None => {
                        // Nobody knows whether it was here before, and what was decided about it then.
                        let is_enabled = remembers;
                        entity::create(transaction, Tool { is_enabled, ..tool })?;
                    }
                    Some(row) if row.schema_hash == tool.schema_hash => {}
                    Some(mut row) => {
                        row.data = changed(&row.data, tool);
                        entity::save(transaction, &mut row)?;
                    }
                }
            }
            Some(row) if row.schema_hash == tool.schema_hash => {}
            Some(mut row) => {
                found.changed.push(tool.name.clone());
                row.data = changed(&row.data, tool);
                entity::save(transaction, &mut row)?;
            }
        }
    }
    for row in known.into_values() {
        found.removed.push(row.name.clone());
        if remembers {
            let sql = "UPDATE mcp_tools SET removed_at = $2, updated_at = $2 WHERE id = $1";
            transaction.execute(sql, params![&row.id, clock::now()])?;
        } else {
            transaction.execute("DELETE FROM mcp_tools WHERE id = $1", params![&row.id])?;
        }
    }
    found.total = i64::try_from(seen.len()).unwrap_or(i64::MAX);
    let now = clock::now();
    let sql = "UPDATE mcp_servers SET last_synced_at = $2, protocol_version = $3, updated_at = $2, lock_version = lock_version + 1 WHERE id = $1";
    transaction.execute(sql, params![&server.id, now, revision])?;
    keep_capabilities(transaction, server)?;
    if !(found.added.is_empty() && found.changed.is_empty() && found.removed.is_empty()) {
        let data = json!({
            "id": server.id, "serverId": server.id, "name": server.name,
            "added": found.added, "changed": found.changed, "removed": found.removed,
        });
        let data =
            if data.to_string().len() > 100_000 { json!({"serverId": server.id, "name": server.name}) } else { data };
        transaction.publish("mcp.tool.changed", &data)?;
        let counts =
            json!({"added": found.added.len(), "changed": found.changed.len(), "removed": found.removed.len()});
        audit::note(transaction, "server.synced", Some(&server.id), &server.name, counts)?;
    }
    Ok(found)
}

/// How many tools of a server are remembered that it lists no more.
fn removed(transaction: &Transaction, server: &Stored<Server>) -> Result<i64> {
    let sql = "SELECT COUNT(*) AS total FROM mcp_tools WHERE server_id = $1 AND removed_at IS NOT NULL";
    Ok(transaction.query_one(sql, params![&server.id])?.map_or(Ok(0), |row| row.get("total"))?)
}

/// A tool that was here before, as it was then: a server must not undo what was decided by leaving it out of one list.
fn back(transaction: &Transaction, server: &Stored<Server>, name: &str) -> Result<Option<Stored<Tool>>> {
    let sql = "UPDATE mcp_tools SET removed_at = NULL, updated_at = $3 \
               WHERE server_id = $1 AND name = $2 AND removed_at IS NOT NULL";
    if transaction.execute(sql, params![&server.id, name, clock::now()])? == 0 {
        return Ok(None);
    }
    tool::find(transaction, &server.id, name)
}

/// A tool that is not what it was: what an administrator said of it stays, and it is not called until somebody has looked.
fn changed(old: &Tool, new: Tool) -> Tool {
    Tool {
        capabilities: if old.capabilities.is_empty() { new.capabilities } else { old.capabilities.clone() },
        permission_level: old.permission_level,
        is_destructive: old.is_destructive || new.is_destructive,
        is_long_running: old.is_long_running || new.is_long_running,
        is_enabled: false,
        ..new
    }
}

/// Keeps which capabilities a server has: its own and its tools'.
pub fn keep_capabilities(transaction: &Transaction, server: &Stored<Server>) -> Result<()> {
    transaction.execute("DELETE FROM mcp_server_capabilities WHERE server_id = $1", params![&server.id])?;
    let tools = Select::<Tool>::new().equal("server_id", &server.id).limit(TOOLS_MAX).all(transaction)?;
    let mut paths: Vec<String> = server.capabilities.clone();
    paths.extend(tools.iter().flat_map(|row| row.capabilities.iter().cloned()));
    paths.sort();
    paths.dedup();
    let now = clock::now();
    let rows = paths.into_iter().take(1_000).map(|path| {
        vec![
            Id::new().into(),
            (&server.organization_id).into(),
            now.into(),
            now.into(),
            1i64.into(),
            (&server.id).into(),
            path.into(),
        ]
    });
    let columns = ["id", "organization_id", "created_at", "updated_at", "version", "server_id", "capability_path"];
    database::Bulk::into("mcp_server_capabilities").columns(&columns).insert(transaction, rows)?;
    Ok(())
}

/// Whether the list has been read a short while ago, so that a tool that is missing is missing.
pub fn is_fresh(server: &Stored<Server>) -> bool {
    cache::get::<bool>(&format!("tools:{}", server.id)).unwrap_or(false)
}

/// Reads the list again because a tool seems to have gone; whatever comes of it, the call that found out goes on.
pub fn again(server: &Stored<Server>) {
    cache::del(&format!("tools:{}", server.id));
    if server.health == Health::Unhealthy || sync(server).is_err() {
        logging::warn!("a server's tools could not be read again", server = server.id);
    }
}

#[cfg(test)]
mod tests {
    use berth_sdk::{serde_json, types::Scope};

    use super::*;
    use crate::tool::Level;

    #[test]
    fn a_changed_tool_waits_for_somebody_to_look_and_keeps_what_was_decided() {
        let tool = |schema: Value, destructive: bool| Tool {
            server_id: "s".into(),
            name: "t".into(),
            title: None,
            description: None,
            input_schema: schema,
            output_schema: None,
            annotations: json!({}),
            capabilities: vec![],
            permission_level: Level::Standard,
            is_destructive: destructive,
            is_long_running: false,
            is_enabled: true,
            schema_hash: "h".into(),
            scope: Scope::Organization,
        };
        let old = Tool { permission_level: Level::Admin, capabilities: vec!["a".into()], ..tool(json!({}), true) };
        let new = changed(&old, tool(json!({"type": "object"}), false));
        assert!(!new.is_enabled && new.is_destructive && new.permission_level == Level::Admin);
        assert_eq!((new.capabilities, new.input_schema), (vec!["a".to_string()], json!({"type": "object"})));
        assert_eq!(serde_json::to_value(Found::default()).unwrap()["total"], 0);
    }
}
