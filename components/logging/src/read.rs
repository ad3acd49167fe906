//! Reading log lines: lists, searches, sums and the known services.

use std::time::Duration;

use berth_sdk::{cache, canonical, prelude::*, serde_json, serde_json::Value};

use crate::{
    filter::{COUNTED_MAX, Filter, Stretch, step},
    line::Level,
    search::{self, Searched},
};

/// How long sums are remembered.
const STATS_TTL: Duration = Duration::from_secs(30);
/// Groups of one answer.
const GROUPS_MAX: usize = 1_000;
/// Services of one answer.
const SERVICES_MAX: i64 = 1_000;

/// The columns of a line as it is shown.
pub(crate) const SHOWN: &str = "id AS \"id\", organization_id AS \"organizationId\", sequence AS \"sequence\", \
     level AS \"level\", service AS \"service\", message AS \"message\", context AS \"context\", trace_id AS \"traceId\", \
     span_id AS \"spanId\", user_id AS \"userId\", project_id AS \"projectId\", request_id AS \"requestId\", host AS \"host\", \
     logged_at AS \"loggedAt\", received_at AS \"receivedAt\", is_truncated AS \"isTruncated\", is_clamped AS \"isClamped\", \
     created_by AS \"createdBy\", received_at AS \"createdAt\", received_at AS \"updatedAt\", 1 AS \"version\"";

/// Parameters of a query with the columns they narrow.
const FIELDS: [(&str, &str); 7] = [
    ("service", "service"),
    ("traceId", "trace_id"),
    ("spanId", "span_id"),
    ("userId", "user_id"),
    ("projectId", "project_id"),
    ("requestId", "request_id"),
    ("host", "host"),
];

const SEARCHED: Searched = Searched {
    texts: &["message"],
    fields: &[
        ("level", "level"),
        ("service", "service"),
        ("traceId", "trace_id"),
        ("spanId", "span_id"),
        ("userId", "user_id"),
        ("projectId", "project_id"),
        ("requestId", "request_id"),
        ("host", "host"),
    ],
    document: ("context", "context"),
};

/// A line, for the API's document.
#[data]
pub(crate) struct Shown {
    id: Id,
    organization_id: Id,
    sequence: i64,
    level: Level,
    service: String,
    message: String,
    context: Option<Value>,
    trace_id: Option<String>,
    span_id: Option<String>,
    user_id: Option<String>,
    project_id: Option<String>,
    request_id: Option<String>,
    host: Option<String>,
    logged_at: Timestamp,
    received_at: Timestamp,
    is_truncated: bool,
    is_clamped: bool,
}

/// Only lines of projects that the caller sees, and of none.
pub(crate) fn within_projects(filter: &mut Filter) {
    if let Some(within) = people::scope::within("project_id") {
        filter.and(&within.sql, within.values);
    }
}

/// What a query asks for, but for the time: `level` (several with commas), `minLevel`, `service`, ids, and `q`. Whose projects
/// they are is not asked yet: see [`within_projects`].
pub(crate) fn narrowed(query: &PageQuery) -> Result<Filter> {
    let mut filter = Filter::new("organization_id = ?", [auth::organization_id()?.into()]);
    if let Some(text) = query.filter("level") {
        let levels: Option<Vec<Level>> = text.split(',').map(|level| Level::read(level.trim())).collect();
        let levels = levels.ok_or_else(|| not_a_level("level"))?;
        filter.one_of("level", levels.iter().map(|level| level.as_str()));
    }
    if let Some(text) = query.filter("minLevel") {
        let least = Level::read(&text).ok_or_else(|| not_a_level("minLevel"))?;
        filter.one_of("level", least.and_above());
    }
    for (name, column) in FIELDS {
        if let Some(text) = query.filter(name) {
            filter.one_of(column, text.split(',').map(str::trim).take(50));
        }
    }
    if let Some(text) = query.filter("q") {
        search::narrow(&mut filter, &text, &SEARCHED)?;
    }
    Ok(filter)
}

fn not_a_level(field: &str) -> Problem {
    Problem::field(field, "must be one of debug, info, warn, error, fatal")
}

/// The same within a stretch of time, of what the caller sees.
fn within(query: &PageQuery, stretch: Stretch) -> Result<Filter> {
    let mut filter = narrowed(query)?;
    within_projects(&mut filter);
    filter.and("logged_ms >= ? AND logged_ms < ?", [stretch.from.millis().into(), stretch.to.millis().into()]);
    Ok(filter)
}

/// What lists are sorted by.
pub(crate) const SORTS: &[&str] = &["loggedAt", "receivedAt", "level", "service"];

/// `GET /api/logs` and `GET /api/logs/search`.
pub(crate) fn list(query: PageQuery) -> Result<JsonText<Page<Shown>>> {
    let filter = within(&query, Stretch::of(&query)?)?;
    let column = match query.sort_by.as_deref() {
        None | Some("loggedAt" | "timestamp") => "logged_ms",
        Some("receivedAt" | "createdAt" | "sequence") => "sequence",
        Some("level") => "level",
        Some("service") => "service",
        Some(_) => return Err(Problem::field("sortBy", format!("must be one of {}", SORTS.join(", ")))),
    };
    let direction = if query.descending.unwrap_or(true) { "DESC" } else { "ASC" };
    let total = filter.count("log_logs")?;
    let items = if total > query.offset || total == COUNTED_MAX {
        let mut paged = filter;
        let (limit, offset) = (paged.value(query.limit), paged.value(query.offset));
        let sql = format!(
            "SELECT {SHOWN} FROM log_logs WHERE {} ORDER BY {column} {direction}, sequence {direction} LIMIT {limit} OFFSET {offset}",
            paged.sql
        );
        database::Pool.query_json(&sql, &paged.values)?
    } else {
        b"[]".to_vec()
    };
    Ok(JsonText::new(200, query.envelope_text(&items, total)))
}

/// `GET /api/logs/{id}`.
pub(crate) fn read_one(Params(id): Params<Id>) -> Result<Json<Value>> {
    let mut filter = Filter::new("organization_id = ? AND id = ?", [auth::organization_id()?.into(), id.into()]);
    within_projects(&mut filter);
    let sql = format!("SELECT {SHOWN} FROM log_logs WHERE {}", filter.sql);
    let text = database::query_json(&sql, &filter.values)?;
    let rows: Vec<Value> = serde_json::from_slice(&text).map_err(|_| Problem::internal())?;
    rows.into_iter().next().map(Json).ok_or_else(|| Problem::missing("log line"))
}

/// A number of lines.
#[data]
pub(crate) struct Group {
    /// The beginning of the step, with an `interval`.
    from: Option<Timestamp>,
    /// What they have in common.
    group: serde_json::Map<String, Value>,
    count: i64,
}

/// The answer of `aggregate`.
#[data]
pub(crate) struct Aggregated {
    from: Timestamp,
    to: Timestamp,
    /// The most numerous groups, or the steps in their order.
    items: Vec<Group>,
    /// There were more groups than an answer has.
    is_cut: bool,
}

/// `GET /api/logs/aggregate`: lines counted by `groupBy` (up to three of level, service, host, …) and `interval`.
pub(crate) fn aggregate(query: PageQuery) -> Result<Json<Aggregated>> {
    const GROUPED: [(&str, &str); 7] = [
        ("level", "level"),
        ("service", "service"),
        ("host", "host"),
        ("userId", "user_id"),
        ("projectId", "project_id"),
        ("traceId", "trace_id"),
        ("requestId", "request_id"),
    ];
    let stretch = Stretch::of(&query)?;
    let filter = within(&query, stretch)?;
    grouped("log_logs", "logged_ms", filter, &query, stretch, &GROUPED)
}

/// Rows of a table counted by columns and steps of time.
pub(crate) fn grouped(
    table: &str,
    time: &str,
    mut filter: Filter,
    query: &PageQuery,
    stretch: Stretch,
    known: &[(&'static str, &'static str)],
) -> Result<Json<Aggregated>> {
    let mut columns: Vec<(&str, &str)> = Vec::new();
    let wanted = query.filter("groupBy").unwrap_or_default();
    for name in wanted.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let found = known.iter().find(|(known, _)| *known == name).copied();
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let column = found.ok_or_else(|| Problem::field("groupBy", format!("must be of {}", names.join(", "))))?;
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    if columns.len() > 3 {
        return Err(Problem::field("groupBy", "must name at most three"));
    }
    let interval = query.filter("interval").map(|text| step(&text, stretch)).transpose()?;
    if columns.is_empty() && interval.is_none() {
        return Err(Problem::field("groupBy", "or `interval` is required"));
    }
    let bucket = interval.map_or_else(|| "0".to_string(), |millis| format!("{time} / {millis}"));
    let names: String = columns.iter().map(|(_, column)| format!(", {column}")).collect();
    let order = if interval.is_some() { "bucket, total DESC" } else { "total DESC" };
    let limit = filter.value(GROUPS_MAX + 1);
    let sql = format!(
        "SELECT bucket{names}, COUNT(*) AS total FROM (SELECT {bucket} AS bucket{names} FROM {table} WHERE {}) counted \
         GROUP BY bucket{names} ORDER BY {order}{names} LIMIT {limit}",
        filter.sql
    );
    let mut items = Vec::new();
    for row in database::query(&sql, &filter.values)? {
        let mut group = serde_json::Map::new();
        for (name, column) in &columns {
            group.insert((*name).into(), row.get::<Option<String>>(column)?.into());
        }
        let bucket: i64 = row.get("bucket")?;
        let from = interval.map(|millis| Timestamp::from_millis(bucket * millis));
        items.push(Group { from, group, count: row.get("total")? });
    }
    let is_cut = items.len() > GROUPS_MAX;
    items.truncate(GROUPS_MAX);
    Ok(Json(Aggregated { from: stretch.from, to: stretch.to, items, is_cut }))
}

/// Counts of a service.
#[data]
struct ServiceCount {
    service: String,
    count: i64,
    /// Of them with level error or fatal.
    errors: i64,
}

/// The answer of `stats`.
#[data]
pub(crate) struct Stats {
    from: Timestamp,
    to: Timestamp,
    total: i64,
    by_level: std::collections::BTreeMap<String, i64>,
    by_service: Vec<ServiceCount>,
}

/// `GET /api/logs/stats`: counts by level and service, at most 30 seconds old.
pub(crate) fn stats(query: PageQuery) -> Result<Json<Stats>> {
    let stretch = Stretch::of(&query)?;
    let filter = within(&query, stretch)?;
    let asked: Vec<&(String, String)> = query.pairs.iter().collect();
    // Who sees the same projects is told the same.
    let key = format!("stats:{}", canonical::sha256(&json!([asked, people::project::seen()])));
    let stats = cache::remember(&key, STATS_TTL, || count(&filter, stretch))?;
    Ok(Json(stats))
}

fn count(filter: &Filter, stretch: Stretch) -> Result<Stats> {
    let sql = format!(
        "SELECT level, service, COUNT(*) AS total FROM log_logs WHERE {} GROUP BY level, service ORDER BY total DESC LIMIT 5000",
        filter.sql
    );
    let mut stats = Stats {
        from: stretch.from,
        to: stretch.to,
        total: 0,
        by_level: Level::Debug.and_above().map(|level| (level.to_string(), 0)).collect(),
        by_service: Vec::new(),
    };
    let mut services: std::collections::BTreeMap<String, ServiceCount> = std::collections::BTreeMap::new();
    for row in database::query(&sql, &filter.values)? {
        let (level, service): (String, String) = (row.get("level")?, row.get("service")?);
        let count: i64 = row.get("total")?;
        stats.total += count;
        let is_error = matches!(level.as_str(), "error" | "fatal");
        *stats.by_level.entry(level).or_default() += count;
        let known = services.entry(service.clone()).or_insert(ServiceCount { service, count: 0, errors: 0 });
        known.count += count;
        known.errors += if is_error { count } else { 0 };
    }
    stats.by_service = services.into_values().collect();
    stats.by_service.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.service.cmp(&other.service)));
    stats.by_service.truncate(GROUPS_MAX);
    Ok(stats)
}

/// A service that has logged.
#[data]
pub(crate) struct KnownService {
    service: String,
    first_at: Timestamp,
    last_at: Timestamp,
}

/// The known services.
#[data]
pub(crate) struct Services {
    items: Vec<KnownService>,
    total: i64,
}

/// `GET /api/logs/services`.
pub(crate) fn services() -> Result<Json<Services>> {
    let items: Vec<KnownService> = database::query_as(
        &Pool,
        "SELECT service AS \"service\", first_at AS \"firstAt\", last_at AS \"lastAt\" FROM log_services \
         WHERE organization_id = $1 ORDER BY service LIMIT $2",
        params![auth::organization_id()?, SERVICES_MAX],
    )?;
    let total = i64::try_from(items.len()).unwrap_or(i64::MAX);
    Ok(Json(Services { items, total }))
}
