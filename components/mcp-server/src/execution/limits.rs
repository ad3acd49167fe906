//! How much an organization executes: of an hour, at the same time, and of one server in a minute.

use std::time::Duration;

use berth_sdk::{cache, prelude::*};

use super::{Execution, LOST_AFTER, Status};
use crate::{
    server::{Server, configuration::Effective},
    settings::Settings,
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Of what.
    name: &'static str,
    /// How many there may be.
    most: i64,
    /// When it may be tried again.
    retry_after: Duration,
}

/// The limit that the hour or the server's minute has reached, with what counts held.
pub fn reached(
    transaction: &Transaction,
    settings: &Settings,
    server_id: &Id,
    effective: &Effective,
) -> Result<Option<Limit>> {
    let organization_id = auth::organization_id()?;
    let since = |sql: &str, values: &[database::Value]| -> Result<i64> {
        Ok(transaction.query_one(sql, values)?.map_or(Ok(0), |row| row.get("total"))?)
    };
    let sql = "SELECT COUNT(*) AS total FROM mcp_executions WHERE organization_id = $1 AND started_at > $2";
    let now = clock::now();
    let most = settings.max_executions_per_hour;
    if since(sql, params![&organization_id, now.minus(HOUR)])? >= most {
        return Ok(Some(Limit { name: "hour", most, retry_after: MINUTE }));
    }
    let Some(most) = effective.rate_limit else { return Ok(None) };
    let sql = "SELECT COUNT(*) AS total FROM mcp_executions WHERE organization_id = $1 AND server_id = $2 AND started_at > $3";
    let is_full = since(sql, params![&organization_id, server_id, now.minus(MINUTE)])? >= most;
    Ok(is_full.then_some(Limit { name: "minute", most, retry_after: MINUTE }))
}

/// 429 when too many are under way and this one came last. It is there already, so that nobody slips in between.
pub fn check_turn(settings: &Settings, server: &Stored<Server>, row: &Stored<Execution>) -> Result<()> {
    let sql = "SELECT COUNT(*) AS total FROM mcp_executions WHERE organization_id = $1 AND status = $2 AND started_at > $3 \
               AND (started_at < $4 OR (started_at = $4 AND id <= $5))";
    let values =
        params![&row.organization_id, Status::Running, clock::now().minus(LOST_AFTER), row.started_at, &row.id];
    let before: i64 = database::query_one(sql, values)?.map_or(Ok(0), |row| row.get("total"))?;
    let most = settings.max_concurrent;
    if before > most {
        return Err(exceeded(server, Limit { name: "concurrency", most, retry_after: Duration::from_secs(1) }));
    }
    Ok(())
}

/// 429, and everybody is told.
pub fn exceeded(server: &Stored<Server>, limit: Limit) -> Problem {
    let Limit { name, most, retry_after } = limit;
    // Told once a minute, not once a refusal.
    let is_first = cache::add_if_absent(&format!("limited:{}:{name}", server.id), &true, MINUTE).unwrap_or(false);
    let data = json!({ "id": server.id, "serverId": server.id, "name": server.name, "limit": name, "most": most });
    if is_first && events::publish("mcp.server.rate_limit.exceeded", &data).is_err() {
        logging::warn!("a limit could not be told of", server = server.id);
    }
    Problem::rate_limited(format!("The limit of {most} executions ({name}) is reached."))
        .with("limit", name)
        .with("retryAfter", retry_after.as_secs())
        .with_header("retry-after", retry_after.as_secs().to_string())
}
