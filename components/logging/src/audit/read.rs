//! Reading the audit log.

use std::{collections::BTreeMap, time::Duration};

use berth_sdk::{cache, canonical, entity::Column, prelude::*, serde_json, serde_json::Value};

use super::{
    chain::{COLUMNS, Row},
    entry::{Category, Severity},
    policy,
};
use crate::{
    access,
    filter::{COUNTED_MAX, Filter, Stretch, like},
    read::{Aggregated, grouped},
    search::{self, Searched},
};

/// How long sums are remembered.
const STATS_TTL: Duration = Duration::from_secs(30);
/// Actions and users of the statistics.
const TOP: i64 = 20;

const SEARCHED: Searched = Searched {
    texts: &["message", "action"],
    fields: &[
        ("action", "action"),
        ("category", "category"),
        ("severity", "severity"),
        ("userId", "user_id"),
        ("sessionId", "session_id"),
        ("ipAddress", "ip_address"),
        ("resourceType", "resource_type"),
        ("resourceId", "resource_id"),
        ("source", "source"),
        ("correlationId", "correlation_id"),
    ],
    document: ("metadata", "metadata"),
};

/// An entry as it is shown.
#[data]
pub(crate) struct Shown {
    pub id: String,
    pub organization_id: Option<String>,
    pub sequence: i64,
    pub timestamp: String,
    pub received_at: String,
    pub user_id: Option<String>,
    pub session_id: Option<String>,
    pub ip_address: Option<String>,
    pub user_agent: Option<String>,
    pub action: String,
    pub category: String,
    pub severity: String,
    pub resource_type: Option<String>,
    pub resource_id: Option<String>,
    pub message: String,
    pub metadata: Value,
    pub source: String,
    pub correlation_id: Option<String>,
    pub previous_hash: Option<String>,
    pub hash: String,
    pub created_by: Option<String>,
    pub created_at: String,
    pub updated_at: String,
    pub version: i64,
}

impl Shown {
    /// Of a row.
    pub fn of(row: Row) -> Result<Self> {
        Ok(Self {
            metadata: serde_json::from_str(&row.metadata).unwrap_or(Value::Null),
            id: row.id,
            organization_id: row.organization_id,
            sequence: row.sequence,
            timestamp: row.timestamp,
            created_at: row.received_at.clone(),
            updated_at: row.received_at.clone(),
            received_at: row.received_at,
            user_id: row.user_id,
            session_id: row.session_id,
            ip_address: row.ip_address,
            user_agent: row.user_agent,
            action: row.action,
            category: row.category,
            severity: row.severity,
            resource_type: row.resource_type,
            resource_id: row.resource_id,
            message: row.message,
            source: row.source,
            correlation_id: row.correlation_id,
            previous_hash: row.previous_hash,
            hash: row.hash,
            created_by: row.created_by,
            version: 1,
        })
    }
}

/// The chain that a query is about: the organization's, or with `scope=GLOBAL` that of what concerns none, which is the
/// platform's to read.
pub(crate) fn chain_of(query: &PageQuery) -> Result<String> {
    match query.filter("scope").as_deref() {
        None | Some("ORGANIZATION") => Ok(auth::organization_id()?.into_string()),
        Some("GLOBAL") if auth::principal().is_platform => Ok(String::new()),
        Some("GLOBAL") => {
            Err(Problem::forbidden("Only the platform's administrators see what concerns no organization."))
        }
        Some(_) => Err(Problem::field("scope", "must be ORGANIZATION or GLOBAL")),
    }
}

/// What an export or a list is narrowed to.
#[data]
pub(crate) struct Filters {
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    #[field(max = 100)]
    pub category: Option<String>,
    #[field(max = 100)]
    pub severity: Option<String>,
    /// `*` stands for anything.
    #[field(max = 200)]
    pub action: Option<String>,
    pub user_id: Option<Id>,
    #[field(max = 100)]
    pub resource_type: Option<String>,
    #[field(max = 200)]
    pub resource_id: Option<String>,
    #[field(max = 100)]
    pub source: Option<String>,
    pub correlation_id: Option<Id>,
    #[field(max = 1000)]
    pub q: Option<String>,
}

impl Filters {
    fn of(query: &PageQuery) -> Result<Self> {
        let id = |name: &str| {
            query.filter(name).map(Id::parse).transpose().map_err(|_| Problem::field(name, "must be an id"))
        };
        Ok(Self {
            from: None,
            to: None,
            category: query.filter("category"),
            severity: query.filter("severity"),
            action: query.filter("action"),
            user_id: id("userId")?,
            resource_type: query.filter("resourceType"),
            resource_id: query.filter("resourceId"),
            source: query.filter("source"),
            correlation_id: id("correlationId")?,
            q: query.filter("q"),
        })
    }

    /// As a condition on a chain; of one user's activity only, where it is not an administrator who asks.
    pub fn condition(&self, chain: &str, only_user: Option<&str>) -> Result<Filter> {
        let mut filter = Filter::new("chain = ?", [chain.into()]);
        if let Some(user_id) = only_user {
            filter.equal("user_id", user_id);
        }
        if let Some(from) = self.from {
            filter.and("time_ms >= ?", [from.millis().into()]);
        }
        if let Some(to) = self.to {
            filter.and("time_ms < ?", [to.millis().into()]);
        }
        let sets: [(&str, &Option<String>, &[&str]); 2] = [
            ("category", &self.category, <Category as Column>::CHOICES),
            ("severity", &self.severity, <Severity as Column>::CHOICES),
        ];
        for (name, wanted, known) in sets {
            let Some(wanted) = wanted else { continue };
            let texts: Vec<&str> = wanted.split(',').map(str::trim).collect();
            for text in &texts {
                validate::one_of(text, known).map_err(|message| Problem::field(name, message))?;
            }
            filter.one_of(name, texts);
        }
        if let Some(action) = &self.action {
            filter.and("action LIKE ? ESCAPE '!'", [like(action).into()]);
        }
        let columns = [
            ("user_id", self.user_id.as_ref().map(Id::as_str)),
            ("resource_type", self.resource_type.as_deref()),
            ("resource_id", self.resource_id.as_deref()),
            ("source", self.source.as_deref()),
            ("correlation_id", self.correlation_id.as_ref().map(Id::as_str)),
        ];
        for (column, value) in columns {
            if let Some(value) = value {
                filter.equal(column, value);
            }
        }
        if let Some(text) = &self.q {
            search::narrow(&mut filter, text, &SEARCHED)?;
        }
        Ok(filter)
    }
}

fn within(query: &PageQuery, stretch: Stretch, only_user: Option<&str>) -> Result<Filter> {
    let chain = chain_of(query)?;
    let mut filter = Filters::of(query)?.condition(&chain, only_user)?;
    filter.and("time_ms >= ? AND time_ms < ?", [stretch.from.millis().into(), stretch.to.millis().into()]);
    if query.filter("includeArchived").as_deref() != Some("true") && !chain.is_empty() {
        policy::leave_archived(&mut filter)?;
    }
    Ok(filter)
}

/// What lists are sorted by.
pub(crate) const SORTS: &[&str] = &["timestamp", "receivedAt", "action", "category", "severity"];

fn page(query: &PageQuery, only_user: Option<&str>) -> Result<Page<Shown>> {
    let filter = within(query, Stretch::of(query)?, only_user)?;
    let column = match query.sort_by.as_deref() {
        None | Some("timestamp") => "time_ms",
        Some("receivedAt" | "createdAt" | "sequence") => "sequence",
        Some("action") => "action",
        Some("category") => "category",
        Some("severity") => "severity",
        Some(_) => {
            return Err(Problem::field("sortBy", format!("must be one of {}", SORTS.join(", "))));
        }
    };
    let direction = if query.descending.unwrap_or(true) { "DESC" } else { "ASC" };
    let total = filter.count("audit_logs")?;
    let mut items = Vec::new();
    if total > query.offset || total == COUNTED_MAX {
        let mut paged = filter;
        let (limit, offset) = (paged.value(query.limit), paged.value(query.offset));
        let sql = format!(
            "SELECT {COLUMNS} FROM audit_logs WHERE {} ORDER BY {column} {direction}, sequence {direction} \
             LIMIT {limit} OFFSET {offset}",
            paged.sql
        );
        for row in database::query(&sql, &paged.values)? {
            items.push(Shown::of(Row::read(&row)?)?);
        }
    }
    Ok(query.envelope(items, total))
}

/// `GET /api/audit-logs` and `GET /api/audit-logs/search`.
pub(crate) fn list(query: PageQuery) -> Result<Page<Shown>> {
    page(&query, access::only_user().as_deref())
}

/// `GET /api/audit-logs/my-activity`.
pub(crate) fn own(query: PageQuery) -> Result<Page<Shown>> {
    page(&query, Some(&auth::user_id()?))
}

/// `GET /api/audit-logs/{id}`.
pub(crate) fn read_one(Params(id): Params<Id>) -> Result<Json<Shown>> {
    let mut filter = Filter::new("chain = ? AND id = ?", [auth::organization_id()?.into(), id.into()]);
    if let Some(user_id) = access::only_user() {
        filter.equal("user_id", user_id);
    }
    let sql = format!("SELECT {COLUMNS} FROM audit_logs WHERE {}", filter.sql);
    let row = database::query_one(&sql, &filter.values)?.ok_or_else(|| Problem::missing("audit log"))?;
    Ok(Json(Shown::of(Row::read(&row)?)?))
}

/// `GET /api/audit-logs/aggregate`.
pub(crate) fn aggregate(query: PageQuery) -> Result<Json<Aggregated>> {
    const GROUPED: [(&str, &str); 8] = [
        ("category", "category"),
        ("severity", "severity"),
        ("action", "action"),
        ("userId", "user_id"),
        ("resourceType", "resource_type"),
        ("resourceId", "resource_id"),
        ("source", "source"),
        ("ipAddress", "ip_address"),
    ];
    let stretch = Stretch::of(&query)?;
    let filter = within(&query, stretch, access::only_user().as_deref())?;
    grouped("audit_logs", "time_ms", filter, &query, stretch, &GROUPED)
}

/// A value and how often it occurs.
#[data]
struct Count {
    value: String,
    count: i64,
}

/// The answer of `stats`.
#[data]
pub(crate) struct Stats {
    from: Timestamp,
    to: Timestamp,
    total: i64,
    by_category: BTreeMap<String, i64>,
    by_severity: BTreeMap<String, i64>,
    top_actions: Vec<Count>,
    top_users: Vec<Count>,
}

/// `GET /api/audit-logs/stats`, at most 30 seconds old.
pub(crate) fn stats(query: PageQuery) -> Result<Json<Stats>> {
    let stretch = Stretch::of(&query)?;
    let only_user = access::only_user();
    let filter = within(&query, stretch, only_user.as_deref())?;
    let asked: Vec<&(String, String)> = query.pairs.iter().collect();
    let key = format!("audit:{}", canonical::sha256(&json!([asked, only_user])));
    let make = || {
        let count = |column: &str, most: i64| -> Result<Vec<(String, i64)>> {
            let sql = format!(
                "SELECT {column} AS value, COUNT(*) AS total FROM audit_logs WHERE {} AND {column} IS NOT NULL \
                 GROUP BY {column} ORDER BY total DESC, value LIMIT {most}",
                filter.sql
            );
            let rows = database::query(&sql, &filter.values)?;
            rows.into_iter().map(|row| Ok((row.get("value")?, row.get("total")?))).collect()
        };
        let top = |column: &str| -> Result<Vec<Count>> {
            Ok(count(column, TOP)?.into_iter().map(|(value, count)| Count { value, count }).collect())
        };
        let by_category: BTreeMap<String, i64> = count("category", TOP)?.into_iter().collect();
        Ok::<_, Problem>(Stats {
            from: stretch.from,
            to: stretch.to,
            total: by_category.values().sum(),
            by_category,
            by_severity: count("severity", TOP)?.into_iter().collect(),
            top_actions: top("action")?,
            top_users: top("user_id")?,
        })
    };
    Ok(Json(cache::remember(&key, STATS_TTL, make)?))
}
