//! Points of an export.

use std::collections::BTreeMap;

use berth_sdk::serde_json::Value;

use super::{
    message::{ExponentialPoint, HistogramPoint, KeyValue, Metric, MetricExport, NumberPoint, SummaryPoint},
    value::{clean, members, resource},
};
use crate::metric::point::{Buckets, Kind, Point};

/// The most buckets of a histogram that grows by itself.
const BUCKETS_MAX: usize = 320;

/// The points of an export, how many were not fit to be any, and why the last one was not.
pub(super) fn points(export: MetricExport) -> (Vec<Point>, usize, String) {
    let mut gathered = Gathered::default();
    for of_resource in export.resource_metrics {
        let (service, _) = resource(of_resource.resource);
        for metric in of_resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
            gathered.metric(metric, &service);
        }
    }
    (gathered.points, gathered.rejected, gathered.reason)
}

#[derive(Default)]
struct Gathered {
    points: Vec<Point>,
    rejected: usize,
    reason: String,
}

/// Whether points say what was added since the one before.
fn is_delta(temporality: i32) -> bool {
    temporality == 1
}

impl Gathered {
    fn metric(&mut self, metric: Metric, service: &str) {
        let base = |kind: Kind, is_delta: bool| Point {
            name: clean(metric.name.clone()),
            kind,
            unit: clean(metric.unit.clone()),
            is_delta,
            service: service.into(),
            labels: BTreeMap::new(),
            value: 0.0,
            buckets: None,
            recorded_ms: 0,
        };
        if let Some(gauge) = metric.gauge {
            gauge.data_points.into_iter().for_each(|point| self.take(number(base(Kind::Gauge, false), point)));
        }
        if let Some(sum) = metric.sum {
            // A sum that can fall is a gauge, whatever it is called.
            let kind = if sum.is_monotonic { Kind::Counter } else { Kind::Gauge };
            let is_delta = sum.is_monotonic && is_delta(sum.aggregation_temporality);
            sum.data_points.into_iter().for_each(|point| self.take(number(base(kind, is_delta), point)));
        }
        if let Some(histogram) = metric.histogram {
            let is_delta = is_delta(histogram.aggregation_temporality);
            for point in histogram.data_points {
                self.take(explicit(base(Kind::Histogram, is_delta), point));
            }
        }
        if let Some(histogram) = metric.exponential_histogram {
            let is_delta = is_delta(histogram.aggregation_temporality);
            for point in histogram.data_points {
                self.take(exponential(base(Kind::Histogram, is_delta), point));
            }
        }
        for point in metric.summary.into_iter().flat_map(|summary| summary.data_points) {
            for quantile in quantiles(&base(Kind::Gauge, false), point) {
                self.take(Ok(quantile));
            }
        }
    }

    fn take(&mut self, point: Result<Point, String>) {
        match point.and_then(Point::fit) {
            Ok(point) => self.points.push(point),
            Err(reason) => {
                self.rejected += 1;
                self.reason = reason;
            }
        }
    }
}

fn labels(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    members(attributes).into_iter().map(|(name, value)| (name, text(value))).collect()
}

fn millis(nanos: u64) -> i64 {
    i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX)
}

fn number(base: Point, point: NumberPoint) -> Result<Point, String> {
    #[expect(clippy::cast_precision_loss, reason = "metrics are floats here")]
    let value = point.as_double.or_else(|| point.as_int.map(|number| number as f64));
    Ok(Point {
        value: value.ok_or("a point without a value")?,
        labels: labels(point.attributes),
        recorded_ms: millis(point.time_unix_nano),
        ..base
    })
}

fn explicit(base: Point, point: HistogramPoint) -> Result<Point, String> {
    if !point.bucket_counts.is_empty() && point.bucket_counts.len() != point.explicit_bounds.len() + 1 {
        return Err("a histogram must have one bucket more than bounds".into());
    }
    let buckets = Buckets {
        count: point.count,
        sum: point.sum.unwrap_or(0.0),
        min: point.min,
        max: point.max,
        bounds: point.explicit_bounds,
        counts: point.bucket_counts,
    };
    Ok(Point {
        value: buckets.sum,
        labels: labels(point.attributes),
        recorded_ms: millis(point.time_unix_nano),
        buckets: Some(buckets),
        ..base
    })
}

/// A histogram that grows by itself, with its bounds worked out.
fn exponential(base: Point, point: ExponentialPoint) -> Result<Point, String> {
    let positive = point.positive.unwrap_or_default();
    if positive.bucket_counts.len() > BUCKETS_MAX {
        return Err(format!("a histogram has at most {BUCKETS_MAX} buckets"));
    }
    // The base of the powers is 2^(2^-scale).
    let power = 2_f64.powi(-point.scale.clamp(-20, 30));
    let mut bounds = vec![2_f64.powf(f64::from(positive.offset) * power)];
    let mut counts = vec![point.zero_count];
    for (index, count) in positive.bucket_counts.into_iter().enumerate() {
        let place = f64::from(positive.offset) + f64::from(u32::try_from(index).unwrap_or(u32::MAX)) + 1.0;
        bounds.push(2_f64.powf(place * power));
        counts.push(count);
    }
    counts.push(0);
    if bounds.iter().any(|bound| !bound.is_finite()) {
        return Err("a histogram whose bounds are no numbers".into());
    }
    let buckets =
        Buckets { count: point.count, sum: point.sum.unwrap_or(0.0), min: point.min, max: point.max, bounds, counts };
    Ok(Point {
        value: buckets.sum,
        labels: labels(point.attributes),
        recorded_ms: millis(point.time_unix_nano),
        buckets: Some(buckets),
        ..base
    })
}

/// The quantiles of a summary as gauges, each with its label.
fn quantiles(base: &Point, point: SummaryPoint) -> Vec<Point> {
    let shared = labels(point.attributes);
    let recorded_ms = millis(point.time_unix_nano);
    let one = |quantile: super::message::Quantile| {
        let mut labels = shared.clone();
        labels.insert("quantile".into(), quantile.quantile.to_string());
        Point { value: quantile.value, labels, recorded_ms, ..base.clone() }
    };
    point.quantile_values.into_iter().take(20).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_sdk::{json, serde_json};

    fn read(metric: Value) -> (Vec<Point>, usize, String) {
        let export = json!({"resourceMetrics": [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "s"}}]},
            "scopeMetrics": [{"metrics": [metric]}]}]});
        points(serde_json::from_value(export).unwrap())
    }

    #[test]
    fn every_kind_of_metric_becomes_points() {
        let point = json!({"timeUnixNano": "1544712660000000000", "asInt": "7", "attributes": [{"key": "a", "value": {"intValue": 1}}]});
        let (points, ..) = read(
            json!({"name": "n", "unit": "1", "sum": {"dataPoints": [point], "isMonotonic": true, "aggregationTemporality": 1}}),
        );
        assert_eq!((points[0].kind, points[0].is_delta, points[0].value), (Kind::Counter, true, 7.0));
        assert_eq!(points[0].labels["a"], "1");
        let (points, rejected, _) = read(json!({"name": "g", "gauge": {"dataPoints": [point, {"timeUnixNano": 1}]}}));
        assert_eq!((points.len(), points[0].kind, rejected), (1, Kind::Gauge, 1));
        let histogram = json!({"timeUnixNano": "1544712660000000000", "count": "3", "sum": 6.0, "bucketCounts": ["1", "2", "0"],
            "explicitBounds": [1.0, 5.0]});
        let (points, ..) =
            read(json!({"name": "h", "histogram": {"dataPoints": [histogram], "aggregationTemporality": 2}}));
        assert_eq!(points[0].buckets.as_ref().unwrap().counts, [1, 2, 0]);
        let growing = json!({"timeUnixNano": "1544712660000000000", "count": 3, "sum": 6.0, "scale": 0, "zeroCount": 0,
            "positive": {"offset": 0, "bucketCounts": ["1", "2"]}});
        let (points, ..) = read(json!({"name": "e", "exponentialHistogram": {"dataPoints": [growing]}}));
        let buckets = points[0].buckets.as_ref().unwrap();
        assert_eq!((buckets.bounds.as_slice(), buckets.counts.as_slice()), (&[1.0, 2.0, 4.0][..], &[0, 1, 2, 0][..]));
        let summary =
            json!({"timeUnixNano": "1544712660000000000", "quantileValues": [{"quantile": 0.5, "value": 2.0}]});
        let (points, ..) = read(json!({"name": "s", "summary": {"dataPoints": [summary]}}));
        assert_eq!((points[0].labels["quantile"].as_str(), points[0].value), ("0.5", 2.0));
    }
}
