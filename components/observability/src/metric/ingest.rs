//! Taking points in: each once, with its series and the sums of its hour.

use std::collections::BTreeMap;

use berth_sdk::{
    database::{Bulk, Value as Stored},
    prelude::*,
};

use super::{
    point::{Buckets, Kind, Point},
    series,
};
use crate::{
    service,
    span::{Batch, Rejection, Reported},
};

pub(crate) use super::series::SERIES_MAX;

/// Points of one transaction.
const STORED: usize = 2_000;

/// What became of points.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub accepted: usize,
    /// Of series for which there was no room.
    pub over: usize,
}

/// What an hour of a series gains.
struct Sum {
    points: i64,
    total: f64,
    least: f64,
    most: f64,
    last: (i64, f64),
}

/// Stores points. A point of the same series and moment is known already and not counted twice.
pub(crate) fn store(organization_id: &str, points: Vec<Point>) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for chunk in points.chunks(STORED) {
        let over = database::transaction(|transaction| store_within(transaction, organization_id, chunk))?;
        outcome.over += over;
        outcome.accepted += chunk.len() - over;
    }
    Ok(outcome)
}

fn store_within(transaction: &Transaction, organization_id: &str, points: &[Point]) -> Result<usize> {
    let now = clock::now();
    let mut by_series: BTreeMap<String, Vec<&Point>> = BTreeMap::new();
    for point in points {
        by_series.entry(point.series_id()).or_default().push(point);
    }
    let admitted = series::admitted(transaction, organization_id, &by_series, now)?;
    let over = by_series.iter().filter(|(id, _)| !admitted.contains(*id)).map(|(_, points)| points.len()).sum();
    by_series.retain(|id, _| admitted.contains(id));
    // One point for each series and moment: of several the last.
    let unique: BTreeMap<(&str, i64), &Point> = by_series
        .iter()
        .flat_map(|(id, points)| points.iter().map(move |point| ((id.as_str(), point.recorded_ms), *point)))
        .collect();
    let rows = Bulk::into("telemetry_metrics")
        .shared("organization_id", organization_id)
        .columns(&["series_id", "recorded_ms", "value", "buckets"])
        .then("ON CONFLICT (organization_id, series_id, recorded_ms) DO NOTHING RETURNING series_id, recorded_ms")
        .query(
            transaction,
            unique.iter().map(|((id, at), point)| {
                let buckets = point.buckets.as_ref().map(|buckets| json!(buckets));
                vec![Stored::from(*id), (*at).into(), point.value.into(), buckets.map_or(Stored::Null, Stored::from)]
            }),
        )?;
    let mut sums: BTreeMap<(String, i64), Sum> = BTreeMap::new();
    let mut services: Vec<&str> = Vec::new();
    for row in rows {
        let (id, at): (String, i64) = (row.get("series_id")?, row.get("recorded_ms")?);
        let Some(point) = unique.get(&(id.as_str(), at)) else { continue };
        services.push(&point.service);
        let new = Sum { points: 0, total: 0.0, least: point.value, most: point.value, last: (at, point.value) };
        let sum = sums.entry((id.clone(), point.hour_ms())).or_insert(new);
        sum.points += 1;
        sum.total += point.value;
        sum.least = sum.least.min(point.value);
        sum.most = sum.most.max(point.value);
        if at >= sum.last.0 {
            sum.last = (at, point.value);
        }
    }
    roll_up(transaction, organization_id, &sums)?;
    service::seen(transaction, organization_id, services, now)?;
    Ok(over)
}

/// Adds to the sums of the hours.
fn roll_up(transaction: &Transaction, organization_id: &str, sums: &BTreeMap<(String, i64), Sum>) -> Result<()> {
    const THEN: &str = "ON CONFLICT (organization_id, series_id, hour_ms) DO UPDATE SET \
        points = telemetry_rollups.points + excluded.points, total = telemetry_rollups.total + excluded.total, \
        least = CASE WHEN excluded.least < telemetry_rollups.least THEN excluded.least ELSE telemetry_rollups.least END, \
        most = CASE WHEN excluded.most > telemetry_rollups.most THEN excluded.most ELSE telemetry_rollups.most END, \
        last_value = CASE WHEN excluded.last_ms >= telemetry_rollups.last_ms THEN excluded.last_value ELSE telemetry_rollups.last_value END, \
        last_ms = CASE WHEN excluded.last_ms >= telemetry_rollups.last_ms THEN excluded.last_ms ELSE telemetry_rollups.last_ms END";
    let rows = sums.iter().map(|((id, hour), sum)| {
        let (last_ms, last_value) = sum.last;
        vec![
            id.into(),
            (*hour).into(),
            sum.points.into(),
            sum.total.into(),
            sum.least.into(),
            sum.most.into(),
            last_value.into(),
            last_ms.into(),
        ]
    });
    Bulk::into("telemetry_rollups")
        .shared("organization_id", organization_id)
        .columns(&["series_id", "hour_ms", "points", "total", "least", "most", "last_value", "last_ms"])
        .then(THEN)
        .insert(transaction, rows)?;
    Ok(())
}

/// A point in our own form.
#[data]
pub(crate) struct NewPoint {
    name: String,
    #[field(default = Kind::Gauge)]
    kind: Kind,
    #[field(default)]
    unit: String,
    #[field(default)]
    service: String,
    #[field(default)]
    labels: BTreeMap<String, String>,
    value: Option<f64>,
    /// For histograms: `{count, sum, min, max, bounds, counts}`.
    buckets: Option<berth_sdk::serde_json::Value>,
    #[field(default)]
    is_delta: bool,
    recorded_at: Option<Timestamp>,
}

impl NewPoint {
    /// As a point, or why it is none.
    pub fn into_point(self) -> Result<Point, String> {
        let buckets: Option<Buckets> = match self.buckets {
            None => None,
            Some(buckets) => {
                Some(berth_sdk::serde_json::from_value(buckets).map_err(|error| format!("buckets: {error}"))?)
            }
        };
        let value = self.value.or_else(|| buckets.as_ref().map(|buckets| buckets.sum)).ok_or("value is required")?;
        let service = if self.service.is_empty() { "unknown_service".into() } else { self.service };
        let point = Point {
            name: self.name,
            kind: self.kind,
            unit: self.unit,
            is_delta: self.is_delta,
            service,
            labels: self.labels,
            value,
            buckets,
            recorded_ms: self.recorded_at.unwrap_or_else(clock::now).millis(),
        };
        point.fit()
    }
}

/// `POST /api/observability/metrics`.
pub(crate) fn report(batch: Batch) -> Result<Accepted<Reported>> {
    let organization_id = auth::organization_id()?;
    let (points, mut rejected) = batch.read(NewPoint::into_point);
    let outcome = store(&organization_id, points)?;
    if outcome.over > 0 {
        let message = format!("{} points are of series beyond the {SERIES_MAX} that a metric may have", outcome.over);
        rejected.push(Rejection { index: -1, message });
    }
    Ok(Accepted(Reported { accepted: i64::try_from(outcome.accepted).unwrap_or(i64::MAX), rejected }))
}
