//! What was used, by whom, how fast and how well; and the figures of each hour that outlive the executions.

use std::{collections::BTreeMap, time::Duration};

use berth_sdk::{prelude::*, serde_json::Value};

use super::Status;
use crate::access;

/// How far back is looked where nothing is said.
const BACK: Duration = Duration::from_secs(30 * 24 * 3600);
/// The longest time that can be asked for.
const BACK_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// How far back the figures of hours are made again.
const AGAIN: Duration = Duration::from_secs(2 * 3600);
const HOUR: Duration = Duration::from_secs(3600);
/// Durations that one hour's percentiles are made of.
const SAMPLES_MAX: i64 = 20_000;

/// The figures of an hour of a server.
#[entity(table = "mcp_server_metrics", name = "server metric", sort = "-periodStart")]
pub struct Metric {
    /// Of which server.
    #[field(filter)]
    pub server_id: Id,
    /// The hour's beginning.
    pub period_start: Timestamp,
    /// How many.
    pub executions: i64,
    /// How many of them did not come to a good end.
    pub errors: i64,
    /// Half were faster.
    pub p50_ms: Option<i64>,
    /// Nineteen of twenty were faster.
    pub p95_ms: Option<i64>,
}

impl Rules for Metric {}

/// Which time, and of what.
#[data]
pub struct Span {
    /// From when on.
    from: Option<Timestamp>,
    /// Until when.
    to: Option<Timestamp>,
    /// Of one server.
    server_id: Option<Id>,
    /// Of one project.
    project_id: Option<Id>,
    /// The most rows.
    #[field(min = 1, max = 200)]
    limit: Option<i64>,
    /// How many rows come before.
    #[field(min = 0)]
    offset: Option<i64>,
}

impl Span {
    /// `WHERE …` with its values: everybody's own, all for administrators.
    fn condition(&self) -> Result<(String, Vec<database::Value>)> {
        let now = clock::now();
        let to = self.to.unwrap_or(now);
        let from = self.from.unwrap_or_else(|| to.minus(BACK));
        if to.since(from) > BACK_MAX || from.millis() > to.millis() {
            return Err(Problem::field("from", "must be before `to`, by at most 366 days"));
        }
        let mut values: Vec<database::Value> = vec![auth::organization_id()?.into(), from.into(), to.into()];
        let mut sql = "organization_id = $1 AND started_at >= $2 AND started_at <= $3".to_string();
        let mut more = |column: &str, value: database::Value| {
            values.push(value);
            sql.push_str(&format!(" AND {column} = ${}", values.len()));
        };
        if !access::is_admin() {
            more("user_id", auth::user_id()?.into());
        }
        if let Some(id) = &self.server_id {
            more("server_id", id.into());
        }
        if let Some(id) = &self.project_id {
            more("project_id", id.into());
        }
        Ok((sql, values))
    }

    fn page(&self) -> (i64, i64) {
        (self.limit.unwrap_or(50), self.offset.unwrap_or(0))
    }
}

#[data]
struct Tally {
    server_id: Option<String>,
    tool_name: Option<String>,
    status: Option<Status>,
    error_code: Option<String>,
    count: i64,
    total_ms: Option<f64>,
}

/// `GET /api/mcp/analytics/usage`: all together, and each server.
pub fn usage(Query(span): Query<Span>) -> Result<Json<Value>> {
    let (condition, values) = span.condition()?;
    let sql = format!(
        "SELECT server_id AS \"serverId\", status AS \"status\", COUNT(*) AS \"count\", SUM(CAST(duration_ms AS DOUBLE PRECISION)) AS \"totalMs\" \
         FROM mcp_executions WHERE {condition} GROUP BY server_id, status ORDER BY server_id LIMIT 5000"
    );
    let rows: Vec<Tally> = database::query_as(&Pool, &sql, &values)?;
    let mut statuses: BTreeMap<String, i64> = BTreeMap::new();
    let mut servers: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    let (mut total, mut millis) = (0, 0.0);
    for row in &rows {
        let status = row.status.map(|status| status.to_string()).unwrap_or_default();
        *statuses.entry(status).or_default() += row.count;
        let server = servers.entry(row.server_id.clone().unwrap_or_default()).or_default();
        server.0 += row.count;
        server.1 += if row.status == Some(Status::Completed) { 0 } else { row.count };
        total += row.count;
        millis += row.total_ms.unwrap_or(0.0);
    }
    #[expect(clippy::cast_precision_loss, reason = "an average of fewer than 2^53 executions")]
    let average = if total > 0 { Some((millis / total as f64).round()) } else { None };
    let by_server =
        |(id, (count, errors)): (String, (i64, i64))| json!({"serverId": id, "executions": count, "errors": errors});
    let servers: Vec<Value> = servers.into_iter().map(by_server).collect();
    let (limit, offset) = span.page();
    let (skip, take) = (usize::try_from(offset).unwrap_or(0), usize::try_from(limit).unwrap_or(0));
    let count = servers.len();
    let items: Vec<Value> = servers.into_iter().skip(skip).take(take).collect();
    Ok(Json(json!({
        "executions": total, "byStatus": statuses, "averageDurationMs": average,
        "items": items, "total": count, "limit": limit, "offset": offset,
    })))
}

fn grouped(span: &Span, columns: &str, more: &str) -> Result<(Vec<Tally>, i64)> {
    let (condition, mut values) = span.condition()?;
    let aliases: Vec<String> = columns.split(", ").map(|column| format!("{column} AS \"{}\"", camel(column))).collect();
    let groups = format!("FROM mcp_executions WHERE {condition}{more} GROUP BY {columns}");
    let sql = format!("SELECT COUNT(*) AS total FROM (SELECT 1 AS one {groups}) counted");
    let total = database::query_one(&sql, &values)?.map_or(Ok(0), |row| row.get("total"))?;
    let (limit, offset) = span.page();
    let place = values.len();
    values.extend([limit.into(), offset.into()]);
    let sql = format!(
        "SELECT {}, COUNT(*) AS \"count\", SUM(CAST(duration_ms AS DOUBLE PRECISION)) AS \"totalMs\" {groups} \
         ORDER BY COUNT(*) DESC, {columns} LIMIT ${} OFFSET ${}",
        aliases.join(", "),
        place + 1,
        place + 2
    );
    Ok((database::query_as(&Pool, &sql, &values)?, total))
}

fn camel(column: &str) -> String {
    let mut words = column.split('_');
    let first = words.next().unwrap_or_default().to_string();
    words.fold(first, |text, word| {
        let (head, rest) = word.split_at(1.min(word.len()));
        text + &head.to_uppercase() + rest
    })
}

fn page(span: &Span, items: Vec<Value>, total: i64) -> Page<Value> {
    let (limit, offset) = span.page();
    Page { items, total, limit, offset }
}

/// `GET /api/mcp/analytics/top-tools`.
pub fn top_tools(Query(span): Query<Span>) -> Result<Page<Value>> {
    let (rows, total) = grouped(&span, "server_id, tool_name", "")?;
    let shown = |row: Tally| {
        #[expect(clippy::cast_precision_loss, reason = "an average of fewer than 2^53 executions")]
        let average = row.total_ms.filter(|_| row.count > 0).map(|millis| (millis / row.count as f64).round());
        json!({ "serverId": row.server_id, "toolName": row.tool_name, "executions": row.count, "averageDurationMs": average })
    };
    Ok(page(&span, rows.into_iter().map(shown).collect(), total))
}

/// `GET /api/mcp/analytics/errors`.
pub fn errors(Query(span): Query<Span>) -> Result<Page<Value>> {
    let (rows, total) = grouped(&span, "server_id, tool_name, error_code", " AND error_code IS NOT NULL")?;
    let shown = |row: Tally| json!({ "serverId": row.server_id, "toolName": row.tool_name, "errorCode": row.error_code, "count": row.count });
    Ok(page(&span, rows.into_iter().map(shown).collect(), total))
}

/// `GET /api/mcp/servers/{id}/metrics`.
pub fn metrics(Params(id): Params<Id>, query: PageQuery) -> Result<impl berth_sdk::http::Answer> {
    crate::server::read(&Pool, &id)?;
    Select::<Metric>::new().equal("server_id", &id).page(&Pool, &query)
}

#[data]
struct Counted {
    organization_id: Option<Id>,
    server_id: Id,
    executions: i64,
    errors: i64,
}

#[data]
struct Sample {
    organization_id: Option<Id>,
    server_id: Id,
    duration_ms: i64,
}

/// Those of a percentile, by the nearest rank.
fn percentile(sorted: &[i64], percent: usize) -> Option<i64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// The clock's work: the figures of the present hour and those before that may still change.
pub fn aggregate() -> Result<()> {
    let now = clock::now();
    let hour = i64::try_from(HOUR.as_millis()).unwrap_or(i64::MAX);
    let begin = |at: Timestamp| Timestamp::from_millis(at.millis() - at.millis().rem_euclid(hour));
    let mut from = begin(now.minus(AGAIN));
    while from <= now {
        let to = from.plus(HOUR);
        figures(from, to, now)?;
        from = to;
    }
    Ok(())
}

/// The figures of one hour: every execution is counted; the percentiles are of the last ones where there are very many.
fn figures(from: Timestamp, to: Timestamp, now: Timestamp) -> Result<()> {
    let sql = "SELECT organization_id AS \"organizationId\", server_id AS \"serverId\", COUNT(*) AS \"executions\", \
               CAST(SUM(CASE WHEN status IN ($3, $4, $5) THEN 1 ELSE 0 END) AS BIGINT) AS \"errors\" \
               FROM mcp_executions WHERE started_at >= $1 AND started_at < $2 GROUP BY organization_id, server_id";
    let values = params![from, to, Status::Failed, Status::Timeout, Status::Cancelled];
    let counted: Vec<Counted> = database::query_as(&Pool, sql, values)?;
    if counted.is_empty() {
        return Ok(());
    }
    let sql = "SELECT organization_id AS \"organizationId\", server_id AS \"serverId\", duration_ms AS \"durationMs\" \
               FROM mcp_executions WHERE started_at >= $1 AND started_at < $2 AND duration_ms IS NOT NULL \
               ORDER BY started_at DESC LIMIT $3";
    let mut durations: BTreeMap<(Option<Id>, Id), Vec<i64>> = BTreeMap::new();
    for row in database::query_as::<Sample>(&Pool, sql, params![from, to, SAMPLES_MAX])? {
        durations.entry((row.organization_id, row.server_id)).or_default().push(row.duration_ms);
    }
    for row in counted {
        let mut durations = durations.remove(&(row.organization_id.clone(), row.server_id.clone())).unwrap_or_default();
        durations.sort_unstable();
        let sql = "INSERT INTO mcp_server_metrics (id, organization_id, created_at, updated_at, version, server_id, period_start, executions, errors, p50_ms, p95_ms) \
                   VALUES ($1, $2, $3, $3, 1, $4, $5, $6, $7, $8, $9) \
                   ON CONFLICT (server_id, organization_id, period_start) \
                   DO UPDATE SET executions = $6, errors = $7, p50_ms = $8, p95_ms = $9, updated_at = $3";
        let values = params![
            Id::new(),
            row.organization_id.map(Id::into_string).unwrap_or_default(),
            now,
            &row.server_id,
            from,
            row.executions,
            row.errors,
            percentile(&durations, 50),
            percentile(&durations, 95)
        ];
        database::execute(sql, values)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let sorted: Vec<i64> = (1..=100).collect();
        assert_eq!((percentile(&sorted, 50), percentile(&sorted, 95)), (Some(50), Some(95)));
        assert_eq!((percentile(&[7], 50), percentile(&[7], 95), percentile(&[], 50)), (Some(7), Some(7), None));
        assert_eq!((camel("server_id"), camel("status")), ("serverId".into(), "status".into()));
    }
}
