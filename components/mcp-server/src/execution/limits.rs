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

/// 429 when the hour or the server's minute is full.
pub fn check(settings: &Settings, server: &Stored<Server>, effective: &Effective) -> Result<()> {
    let organization_id = auth::organization_id()?;
    let since = |sql: &str, values: &[database::Value]| -> Result<i64> {
        Ok(database::query_one(sql, values)?.map_or(Ok(0), |row| row.get("total"))?)
    };
    let sql = "SELECT COUNT(*) AS total FROM mcp_executions WHERE organization_id = $1 AND started_at > $2";
    let now = clock::now();
    if since(sql, params![&organization_id, now.minus(HOUR)])? >= settings.max_executions_per_hour {
        return Err(exceeded(server, "hour", settings.max_executions_per_hour, HOUR.as_secs() / 60));
    }
    let Some(rate) = effective.rate_limit else { return Ok(()) };
    let sql = "SELECT COUNT(*) AS total FROM mcp_executions WHERE organization_id = $1 AND server_id = $2 AND started_at > $3";
    if since(sql, params![&organization_id, &server.id, now.minus(MINUTE)])? >= rate {
        return Err(exceeded(server, "minute", rate, MINUTE.as_secs()));
    }
    Ok(())
}

/// 429 when too many are under way and this one came last. It is there already, so that nobody slips in between.
pub fn check_turn(settings: &Settings, server: &Stored<Server>, row: &Stored<Execution>) -> Result<()> {
    let sql = "SELECT COUNT(*) AS total FROM mcp_executions WHERE organization_id = $1 AND status = $2 AND started_at > $3 \
               AND (started_at < $4 OR (started_at = $4 AND id <= $5))";
    let values =
        params![&row.organization_id, Status::Running, clock::now().minus(LOST_AFTER), row.started_at, &row.id];
    let before: i64 = database::query_one(sql, values)?.map_or(Ok(0), |row| row.get("total"))?;
    if before > settings.max_concurrent {
        return Err(exceeded(server, "concurrency", settings.max_concurrent, 1));
    }
    Ok(())
}

fn exceeded(server: &Stored<Server>, limit: &str, most: i64, retry_after: u64) -> Problem {
    // Told once a minute, not once a refusal.
    let is_first = cache::add_if_absent(&format!("limited:{}:{limit}", server.id), &true, MINUTE).unwrap_or(false);
    let data = json!({ "id": server.id, "serverId": server.id, "name": server.name, "limit": limit, "most": most });
    if is_first && events::publish("mcp.server.rate_limit.exceeded", &data).is_err() {
        logging::warn!("a limit could not be told of", server = server.id);
    }
    Problem::rate_limited(format!("The limit of {most} executions ({limit}) is reached."))
        .with("limit", limit)
        .with("retryAfter", retry_after)
        .with_header("retry-after", retry_after.to_string())
}
