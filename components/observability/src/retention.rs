//! What is deleted, and when: spans after 7 days, points after 15, sums of hours, errors, alerts and events after 90.

use std::time::{Duration, Instant};

use berth_sdk::prelude::*;

use crate::metric::query::RAW_DAYS;

const DAY: Duration = Duration::from_secs(86_400);
const SPAN_DAYS: u32 = 7;
const ROLLUP_DAYS: u32 = 90;
/// Rows of one statement.
const DELETED: i64 = 2_000;
/// How long one call deletes; the rest follows in the next.
const WORKING: Duration = Duration::from_secs(5);
/// How often it looks.
const OFTEN_MS: i64 = 600_000;

/// A table, the columns of its key, and the condition of what is old.
type Old = (&'static str, &'static str, &'static str, database::Value);

/// Deletes what is old, every ten minutes.
pub(crate) fn run() -> Result<()> {
    let now = clock::now();
    let turn = format!("retention-{}", now.millis() / OFTEN_MS);
    if !database::transaction(|transaction| Ok::<_, Problem>(transaction.once(&turn)?))? {
        return Ok(());
    }
    let raw_days = u32::try_from(RAW_DAYS).unwrap_or(15);
    let before = |days: u32| now.minus(DAY * days);
    let (spans, raw, sums) = (before(SPAN_DAYS), before(raw_days), before(ROLLUP_DAYS));
    let tables: [Old; 10] = [
        ("trace_spans", "organization_id, trace_id, span_id", "received_ms < $1", spans.millis().into()),
        ("trace_traces", "organization_id, trace_id", "received_ms < $1", spans.millis().into()),
        ("trace_services", "organization_id, trace_id, service", "received_ms < $1", spans.millis().into()),
        ("telemetry_metrics", "organization_id, series_id, recorded_ms", "recorded_ms < $1", raw.millis().into()),
        ("telemetry_rollups", "organization_id, series_id, hour_ms", "hour_ms < $1", sums.millis().into()),
        ("telemetry_check_results", "id", "checked_at < $1", raw.into()),
        ("telemetry_events", "id", "occurred_ms < $1", sums.millis().into()),
        ("telemetry_errors", "id", "last_seen < $1", sums.into()),
        ("telemetry_alerts", "id", "status = 'resolved' AND resolved_at < $1", sums.into()),
        ("telemetry_services", "organization_id, service", "last_at < $1", sums.into()),
    ];
    let begun = Instant::now();
    let mut unfinished: Vec<(String, database::Value)> = tables
        .into_iter()
        .map(|(table, key, condition, border)| {
            let old = format!("SELECT {key} FROM {table} WHERE {condition} LIMIT {DELETED}");
            (format!("DELETE FROM {table} WHERE ({key}) IN ({old})"), border)
        })
        .collect();
    // One statement of each in turn, so that no table, however much is old of it, keeps the others waiting.
    while !unfinished.is_empty() && begun.elapsed() < WORKING {
        let mut left = Vec::new();
        for (sql, border) in unfinished {
            let deleted = database::execute(&sql, std::slice::from_ref(&border))?;
            if i64::try_from(deleted).unwrap_or(i64::MAX) >= DELETED {
                left.push((sql, border));
            }
        }
        unfinished = left;
    }
    forget_series(sums)
}

/// Series of which nothing is left make room for others.
fn forget_series(before: Timestamp) -> Result<()> {
    database::transaction(|transaction| {
        let rows = transaction.query(
            "DELETE FROM telemetry_series WHERE (organization_id, series_id) IN (SELECT s.organization_id, s.series_id \
             FROM telemetry_series s WHERE s.last_ms < $1 AND NOT EXISTS (SELECT 1 FROM telemetry_rollups r \
             WHERE r.organization_id = s.organization_id AND r.series_id = s.series_id) LIMIT 500) RETURNING organization_id, name",
            params![before.millis()],
        )?;
        let mut metrics: Vec<(String, String)> = Vec::new();
        for row in rows {
            metrics.push((row.get("organization_id")?, row.get("name")?));
        }
        metrics.sort_unstable();
        metrics.dedup();
        for (organization_id, name) in metrics {
            transaction.execute(
                "UPDATE telemetry_metric_names SET series_count = (SELECT COUNT(*) FROM telemetry_series s \
                 WHERE s.organization_id = $1 AND s.name = $2) WHERE organization_id = $1 AND name = $2",
                params![organization_id, name],
            )?;
        }
        transaction
            .execute("DELETE FROM telemetry_metric_names WHERE series_count = 0 AND last_at < $1", params![before])?;
        Ok(())
    })
}
