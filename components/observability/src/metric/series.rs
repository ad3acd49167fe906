//! Series: which there are, and how many a metric may have.

use std::collections::{BTreeMap, BTreeSet};

use berth_sdk::{
    database::{Bulk, Value as Stored},
    prelude::*,
};

use super::point::Point;

/// Series of one metric.
pub(crate) const SERIES_MAX: i64 = 1_000;
/// Metrics of an organization.
const METRICS_MAX: i64 = 5_000;
/// Series of one look-up.
const LOOKED_UP: usize = 400;

/// The series that points may be added to: those that are there, and new ones as far as there is room. Whoever adds series
/// to a metric holds its row until the transaction ends, so that no two add the last one.
pub(super) fn admitted(
    transaction: &Transaction,
    organization_id: &str,
    points: &BTreeMap<String, Vec<&Point>>,
    now: Timestamp,
) -> Result<BTreeSet<String>> {
    let mut known = BTreeSet::new();
    let ids: Vec<&String> = points.keys().collect();
    for chunk in ids.chunks(LOOKED_UP) {
        known.extend(existing(transaction, organization_id, chunk)?);
    }
    // By metric, in one order for everybody.
    let mut new: BTreeMap<&str, Vec<(&String, &Point)>> = BTreeMap::new();
    for (id, of_series) in points.iter().filter(|(id, _)| !known.contains(*id)) {
        if let Some(point) = of_series.first() {
            new.entry(&point.name).or_default().push((id, point));
        }
    }
    for (name, series) in new {
        let Some((_, first)) = series.first() else { continue };
        let room = take_turn(transaction, organization_id, name, first, now)?;
        let ids: Vec<&String> = series.iter().map(|(id, _)| *id).collect();
        let mut came_meanwhile = BTreeSet::new();
        for chunk in ids.chunks(LOOKED_UP) {
            came_meanwhile.extend(existing(transaction, organization_id, chunk)?);
        }
        let (mut added, mut dropped) = (Vec::new(), 0);
        for (id, point) in &series {
            if came_meanwhile.contains(*id) {
                continue;
            }
            if i64::try_from(added.len()).unwrap_or(i64::MAX) < room {
                added.push((*id, *point));
            } else {
                dropped += points.get(*id).map_or(0, Vec::len);
            }
        }
        transaction.execute(
            "UPDATE telemetry_metric_names SET series_count = series_count + $3, dropped_count = dropped_count + $4 \
             WHERE organization_id = $1 AND name = $2",
            params![organization_id, name, added.len(), dropped],
        )?;
        insert(transaction, organization_id, &added, now)?;
        known.extend(came_meanwhile);
        known.extend(added.into_iter().map(|(id, _)| id.clone()));
    }
    Ok(known)
}

fn existing(transaction: &Transaction, organization_id: &str, ids: &[&String]) -> Result<Vec<String>> {
    let mut values: Vec<Stored> = vec![organization_id.into()];
    values.extend(ids.iter().map(|id| Stored::from(*id)));
    let places: Vec<String> = (2..=values.len()).map(|place| format!("${place}")).collect();
    let sql = format!(
        "SELECT series_id FROM telemetry_series WHERE organization_id = $1 AND series_id IN ({})",
        places.join(", ")
    );
    let rows = transaction.query(&sql, &values)?;
    Ok(rows.into_iter().map(|row| row.get("series_id")).collect::<Result<_, Fault>>()?)
}

/// Holds the row of a metric, and answers how many series it has room for.
fn take_turn(
    transaction: &Transaction,
    organization_id: &str,
    name: &str,
    first: &Point,
    now: Timestamp,
) -> Result<i64> {
    let row = transaction.query_one(
        "INSERT INTO telemetry_metric_names (organization_id, name, kind, unit, series_count, dropped_count, first_at, last_at) \
         VALUES ($1, $2, $3, $4, 0, 0, $5, $5) ON CONFLICT (organization_id, name) DO UPDATE SET last_at = excluded.last_at \
         RETURNING series_count",
        params![organization_id, name, first.kind, &first.unit, now],
    )?;
    let count: i64 = row.ok_or_else(Problem::internal)?.get("series_count")?;
    if count > 0 {
        return Ok(SERIES_MAX - count);
    }
    let row = transaction.query_one(
        "SELECT COUNT(*) AS total FROM telemetry_metric_names WHERE organization_id = $1",
        params![organization_id],
    )?;
    let metrics: i64 = row.map_or(Ok(0), |row| row.get("total"))?;
    Ok(if metrics > METRICS_MAX { 0 } else { SERIES_MAX })
}

fn insert(
    transaction: &Transaction,
    organization_id: &str,
    series: &[(&String, &Point)],
    now: Timestamp,
) -> Result<()> {
    let rows = series.iter().map(|(id, point)| {
        vec![
            Stored::from(*id),
            (&point.name).into(),
            point.kind.into(),
            (&point.unit).into(),
            point.is_delta.into(),
            (&point.service).into(),
            json!(point.labels).into(),
        ]
    });
    Bulk::into("telemetry_series")
        .shared("organization_id", organization_id)
        .shared("first_at", now)
        .shared("last_ms", now.millis())
        .columns(&["series_id", "name", "kind", "unit", "is_delta", "service", "labels"])
        .then("ON CONFLICT (organization_id, series_id) DO NOTHING")
        .insert(transaction, rows)?;
    Ok(())
}
