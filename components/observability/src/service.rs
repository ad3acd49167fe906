//! Services: which there are, how they do, and which calls which.

use std::{collections::BTreeMap, time::Duration};

use berth_sdk::{
    cache,
    database::{Bulk, Value as Stored},
    prelude::*,
    serde_json::Value,
    types::Health,
};

use crate::stretch::Stretch;

/// How long an answer is remembered.
const TTL: Duration = Duration::from_secs(15);
/// Services of one answer.
const SERVICES_MAX: i64 = 500;
/// Spans of which a map is made: the latest.
const MAPPED_MAX: i64 = 100_000;
/// The while that health is about.
const RECENT: Duration = Duration::from_secs(300);
/// The share of failed calls from which a service does not do well, and from which it does not work.
const DEGRADED: f64 = 0.05;
const UNHEALTHY: f64 = 0.5;

/// Notes that services have sent something.
pub(crate) fn seen(
    transaction: &Transaction,
    organization_id: &str,
    mut services: Vec<&str>,
    now: Timestamp,
) -> Result<()> {
    services.sort_unstable();
    services.dedup();
    Bulk::into("telemetry_services")
        .shared("organization_id", organization_id)
        .shared("first_at", now)
        .shared("last_at", now)
        .columns(&["service"])
        .then("ON CONFLICT (organization_id, service) DO UPDATE SET last_at = excluded.last_at")
        .insert(transaction, services.into_iter().map(|name| vec![Stored::from(name)]))?;
    Ok(())
}

/// What a service did in a while.
#[data]
pub(crate) struct Load {
    pub service: String,
    pub spans: i64,
    pub errors: i64,
    pub error_rate: f64,
    pub average_us: f64,
}

fn share(part: i64, whole: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts")]
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// What services did in a while.
fn loads(stretch: Stretch, service: Option<&str>) -> Result<Vec<Load>> {
    let mut values: Vec<Stored> = vec![
        auth::organization_id()?.into(),
        stretch.from_ms.saturating_mul(1_000).into(),
        stretch.to_ms.saturating_mul(1_000).into(),
    ];
    let mut condition = String::new();
    if let Some(service) = service {
        values.push(service.into());
        condition.push_str(" AND service = $4");
    }
    let sql = format!(
        "SELECT service, COUNT(*) AS spans, COUNT(CASE WHEN status = 'error' THEN 1 END) AS errors, \
         CAST(AVG(duration_us) AS DOUBLE PRECISION) AS average FROM trace_spans \
         WHERE organization_id = $1 AND start_us >= $2 AND start_us < $3{condition} GROUP BY service ORDER BY service LIMIT {SERVICES_MAX}"
    );
    let mut found = Vec::new();
    for row in database::query(&sql, &values)? {
        let (spans, errors): (i64, i64) = (row.get("spans")?, row.get("errors")?);
        found.push(Load {
            service: row.get("service")?,
            spans,
            errors,
            error_rate: share(errors, spans),
            average_us: row.get("average")?,
        });
    }
    Ok(found)
}

/// A service and what it did in the last hour.
#[data]
pub(crate) struct Known {
    service: String,
    first_at: Timestamp,
    last_at: Timestamp,
    /// None where it had no spans.
    load: Option<Load>,
}

/// The known services.
#[data]
pub(crate) struct Services {
    items: Vec<Known>,
    total: i64,
}

/// `GET /api/observability/services`.
pub(crate) fn list() -> Result<Json<Services>> {
    let make = || {
        let mut loads: BTreeMap<String, Load> = loads(Stretch::last(Duration::from_secs(3_600)), None)?
            .into_iter()
            .map(|load| (load.service.clone(), load))
            .collect();
        let rows = database::query(
            "SELECT service, first_at, last_at FROM telemetry_services WHERE organization_id = $1 ORDER BY service LIMIT $2",
            params![auth::organization_id()?, SERVICES_MAX],
        )?;
        let mut items = Vec::new();
        for row in rows {
            let service: String = row.get("service")?;
            let load = loads.remove(&service);
            items.push(Known { service, first_at: row.get("first_at")?, last_at: row.get("last_at")?, load });
        }
        let total = i64::try_from(items.len()).unwrap_or(i64::MAX);
        Ok::<_, Problem>(Services { items, total })
    };
    Ok(Json(cache::remember("services", TTL, make)?))
}

/// A check of a service and how it ended last.
#[data]
struct CheckState {
    id: Id,
    name: String,
    status: Option<String>,
    checked_at: Option<Timestamp>,
}

/// The health of a service.
#[data]
pub(crate) struct ServiceHealth {
    service: String,
    status: Health,
    /// The last five minutes.
    load: Option<Load>,
    checks: Vec<CheckState>,
}

/// What spans and checks say together. Nothing known is nothing said.
fn health(load: Option<&Load>, checks: &[CheckState]) -> Health {
    let failed = checks.iter().filter(|check| check.status.as_deref().is_some_and(|status| status != "ok")).count();
    let passed = checks.iter().filter(|check| check.status.as_deref() == Some("ok")).count();
    let rate = load.filter(|load| load.spans > 0).map(|load| load.error_rate);
    if (failed > 0 && passed == 0) || rate.is_some_and(|rate| rate >= UNHEALTHY) {
        Health::Unhealthy
    } else if failed > 0 || rate.is_some_and(|rate| rate >= DEGRADED) {
        Health::Degraded
    } else if passed > 0 || rate.is_some() {
        Health::Healthy
    } else {
        Health::Unknown
    }
}

/// `GET /api/observability/services/{name}/health`; 404 for a service nobody knows.
pub(crate) fn read_health(Params(name): Params<String>) -> Result<Json<ServiceHealth>> {
    let organization_id = auth::organization_id()?;
    let known = database::query_one(
        "SELECT service FROM telemetry_services WHERE organization_id = $1 AND service = $2",
        params![&organization_id, &name],
    )?;
    let mut checks = Vec::new();
    let rows = database::query(
        "SELECT id, name, last_status, last_checked_at FROM telemetry_checks \
         WHERE organization_id = $1 AND (service = $2 OR (service IS NULL AND name = $2)) AND enabled = TRUE ORDER BY name LIMIT 50",
        params![&organization_id, &name],
    )?;
    for row in rows {
        checks.push(CheckState {
            id: row.get("id")?,
            name: row.get("name")?,
            status: row.get("last_status")?,
            checked_at: row.get("last_checked_at")?,
        });
    }
    if known.is_none() && checks.is_empty() {
        return Err(Problem::missing("service"));
    }
    let load = loads(Stretch::last(RECENT), Some(&name))?.into_iter().next();
    Ok(Json(ServiceHealth { status: health(load.as_ref(), &checks), service: name, load, checks }))
}

/// One service calls another.
#[data]
struct Edge {
    from: String,
    to: String,
    calls: i64,
    errors: i64,
    error_rate: f64,
    average_us: f64,
    max_us: i64,
}

/// Which service calls which.
#[data]
pub(crate) struct Map {
    from: Timestamp,
    to: Timestamp,
    nodes: Vec<Load>,
    edges: Vec<Edge>,
    /// There were so many spans that only the latest were looked at.
    is_sampled: bool,
}

/// `GET /api/observability/service-map`: of the last hour, or a day at most.
pub(crate) fn map(query: PageQuery) -> Result<Json<Map>> {
    let day = Duration::from_secs(86_400);
    let stretch = Stretch::of(&query, Duration::from_secs(3_600), day)?;
    let key = format!("map:{:?}:{:?}", query.filter("from"), query.filter("to"));
    Ok(Json(cache::remember(&key, TTL, || make_map(stretch))?))
}

fn make_map(stretch: Stretch) -> Result<Map> {
    let nodes = loads(stretch, None)?;
    let sql = format!(
        "SELECT p.service AS caller, c.service AS callee, COUNT(*) AS calls, \
         COUNT(CASE WHEN c.status = 'error' THEN 1 END) AS errors, CAST(AVG(c.duration_us) AS DOUBLE PRECISION) AS average, \
         MAX(c.duration_us) AS slowest \
         FROM (SELECT organization_id, trace_id, parent_span_id, service, status, duration_us FROM trace_spans \
           WHERE organization_id = $1 AND start_us >= $2 AND start_us < $3 AND parent_span_id IS NOT NULL \
           ORDER BY start_us DESC LIMIT {MAPPED_MAX}) c \
         JOIN trace_spans p ON p.organization_id = c.organization_id AND p.trace_id = c.trace_id AND p.span_id = c.parent_span_id \
         WHERE p.service <> c.service GROUP BY p.service, c.service ORDER BY calls DESC, caller, callee LIMIT 2000"
    );
    let (from_us, to_us) = (stretch.from_ms.saturating_mul(1_000), stretch.to_ms.saturating_mul(1_000));
    let mut edges = Vec::new();
    for row in database::query(&sql, params![auth::organization_id()?, from_us, to_us])? {
        let (calls, errors): (i64, i64) = (row.get("calls")?, row.get("errors")?);
        edges.push(Edge {
            from: row.get("caller")?,
            to: row.get("callee")?,
            calls,
            errors,
            error_rate: share(errors, calls),
            average_us: row.get("average")?,
            max_us: row.get("slowest")?,
        });
    }
    let spans: i64 = nodes.iter().map(|node| node.spans).sum();
    Ok(Map {
        from: Timestamp::from_millis(stretch.from_ms),
        to: Timestamp::from_millis(stretch.to_ms),
        nodes,
        edges,
        is_sampled: spans > MAPPED_MAX,
    })
}

/// `GET /api/observability`: what there is at a glance, at most 15 seconds old.
pub(crate) fn overview() -> Result<Json<Value>> {
    let make = || {
        let organization_id = auth::organization_id()?;
        let count = |sql: &str| -> Result<i64> {
            let row = database::query_one(sql, params![&organization_id])?;
            Ok(row.map_or(Ok(0), |row| row.get("total"))?)
        };
        let loads = loads(Stretch::last(Duration::from_secs(3_600)), None)?;
        let (spans, errors) =
            loads.iter().fold((0, 0), |(spans, errors), load| (spans + load.spans, errors + load.errors));
        Ok::<_, Problem>(json!({
            "services": count("SELECT COUNT(*) AS total FROM telemetry_services WHERE organization_id = $1")?,
            "metrics": count("SELECT COUNT(*) AS total FROM telemetry_metric_names WHERE organization_id = $1")?,
            "lastHour": { "spans": spans, "errors": errors, "errorRate": share(errors, spans) },
            "errors": {
                "open": count("SELECT COUNT(*) AS total FROM telemetry_errors WHERE organization_id = $1 AND status = 'open'")?,
                "regressed":
                    count("SELECT COUNT(*) AS total FROM telemetry_errors WHERE organization_id = $1 AND status = 'regressed'")?,
            },
            "alerts": {
                "firing": count("SELECT COUNT(*) AS total FROM telemetry_alerts WHERE organization_id = $1 AND status = 'firing'")?,
                "acknowledged":
                    count("SELECT COUNT(*) AS total FROM telemetry_alerts WHERE organization_id = $1 AND status = 'acknowledged'")?,
            },
            "checks": {
                "ok": count("SELECT COUNT(*) AS total FROM telemetry_checks WHERE organization_id = $1 AND last_status = 'ok'")?,
                "failed": count(
                    "SELECT COUNT(*) AS total FROM telemetry_checks WHERE organization_id = $1 AND last_status IN ('failed', 'timeout')",
                )?,
            },
        }))
    };
    Ok(Json(cache::remember("overview", TTL, make)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(spans: i64, errors: i64) -> Load {
        Load { service: "s".into(), spans, errors, error_rate: share(errors, spans), average_us: 0.0 }
    }

    fn check(status: Option<&str>) -> CheckState {
        CheckState { id: "c".into(), name: "n".into(), status: status.map(Into::into), checked_at: None }
    }

    #[test]
    fn health_is_what_spans_and_checks_say() {
        assert_eq!(health(None, &[]), Health::Unknown);
        assert_eq!(health(None, &[check(None)]), Health::Unknown);
        assert_eq!(health(Some(&load(100, 4)), &[]), Health::Healthy);
        assert_eq!(health(Some(&load(100, 5)), &[]), Health::Degraded);
        assert_eq!(health(Some(&load(100, 50)), &[check(Some("ok"))]), Health::Unhealthy);
        assert_eq!(health(None, &[check(Some("ok")), check(Some("failed"))]), Health::Degraded);
        assert_eq!(health(None, &[check(Some("timeout"))]), Health::Unhealthy);
    }
}
