//! Reading metrics: which there are, and what they were over time.

use std::{collections::BTreeMap, time::Duration};

use berth_sdk::{cache, canonical, database::Value as Stored, prelude::*, serde_json, serde_json::Value};
use serde::{Deserialize, Serialize};

use super::point::{Buckets, Kind};
use crate::stretch::Stretch;

/// How long an answer is remembered.
const TTL: Duration = Duration::from_secs(15);
/// Series that one answer is made of, and groups that it shows.
const SERIES_MAX: usize = 1_000;
const GROUPS_MAX: usize = 100;
/// Points that are looked at one by one, for quantiles.
const POINTS_MAX: i64 = 10_000;
/// How long points are kept one by one; what is older is known by the hour.
pub(crate) const RAW_DAYS: u64 = 15;
const HOUR_MS: i64 = 3_600_000;

/// What points become together.
#[choice]
pub(crate) enum Aggregation {
    Avg,
    Sum,
    Min,
    Max,
    Count,
    Last,
    /// For counters: what is added in a second.
    Rate,
    /// For counters: what was added.
    Increase,
    P50,
    P95,
    P99,
}

impl Aggregation {
    fn share(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.50),
            Self::P95 => Some(0.95),
            Self::P99 => Some(0.99),
            _ => None,
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub name: String,
    pub service: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub aggregation: Aggregation,
    pub stretch: Stretch,
    pub step_ms: i64,
    /// Labels by which series are put together; none: all of them. `series` keeps each by itself.
    pub by: Vec<String>,
}

/// A value at the beginning of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct At {
    pub at_ms: i64,
    pub value: f64,
}

/// The values of a group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub labels: BTreeMap<String, String>,
    pub points: Vec<At>,
}

/// A series that fits.
struct Series {
    id: String,
    is_delta: bool,
    kind: Kind,
    labels: BTreeMap<String, String>,
}

/// The series of a question; labels are compared here, where both databases compare alike.
fn series(question: &Question) -> Result<Vec<Series>> {
    let organization_id = auth::organization_id()?;
    let mut values: Vec<Stored> = vec![organization_id.into(), (&question.name).into()];
    let mut condition = String::new();
    if let Some(service) = &question.service {
        values.push(service.into());
        condition.push_str(" AND service = $3");
    }
    let sql = format!(
        "SELECT series_id, is_delta, kind, service, labels FROM telemetry_series \
         WHERE organization_id = $1 AND name = $2{condition} ORDER BY series_id LIMIT {SERIES_MAX}"
    );
    let mut found = Vec::new();
    for row in database::query(&sql, &values)? {
        let mut labels: BTreeMap<String, String> = row.json("labels")?;
        if question.labels.iter().any(|(name, value)| labels.get(name) != Some(value)) {
            continue;
        }
        labels.entry("service".into()).or_insert(row.get("service")?);
        let kind = Kind::parse(&row.get::<String>("kind")?).unwrap_or(Kind::Gauge);
        found.push(Series { id: row.get("series_id")?, is_delta: row.get("is_delta")?, kind, labels });
    }
    Ok(found)
}

/// The labels of the group that a series belongs to.
fn group(series: &Series, by: &[String]) -> BTreeMap<String, String> {
    if by.iter().any(|name| name == "series") {
        return series.labels.clone();
    }
    by.iter().map(|name| (name.clone(), series.labels.get(name).cloned().unwrap_or_default())).collect()
}

/// The values of one step of one series.
#[derive(Clone, Copy, Debug)]
struct Step {
    points: i64,
    total: f64,
    least: f64,
    most: f64,
    last: f64,
    last_ms: i64,
}

impl Step {
    fn add(&mut self, other: &Self) {
        self.points += other.points;
        self.total += other.total;
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
        if other.last_ms >= self.last_ms {
            self.last = if other.last_ms == self.last_ms { self.last + other.last } else { other.last };
            self.last_ms = other.last_ms;
        }
    }
}

/// Answers a question.
pub(crate) fn answer(question: &Question) -> Result<Vec<Line>> {
    let series = series(question)?;
    let is_histogram = series.iter().any(|series| series.kind == Kind::Histogram);
    let mut lines = match question.aggregation {
        Aggregation::Rate | Aggregation::Increase => increases(question, &series)?,
        other => match other.share() {
            Some(share) if is_histogram => histogram_quantiles(question, &series, share)?,
            Some(share) => quantiles(question, &series, share)?,
            None => steps(question, &series)?,
        },
    };
    lines.truncate(GROUPS_MAX);
    Ok(lines)
}

/// Runs a query for chunks of series and hands over each row with its series.
fn each_row(
    question: &Question,
    series: &[Series],
    sql: &str,
    mut take: impl FnMut(&Series, &database::Row) -> Result<()>,
) -> Result<()> {
    let organization_id = auth::organization_id()?;
    for chunk in series.chunks(400) {
        let mut values: Vec<Stored> =
            vec![(&organization_id).into(), question.stretch.from_ms.into(), question.stretch.to_ms.into()];
        values.extend(chunk.iter().map(|series| Stored::from(&series.id)));
        let places: Vec<String> = (4..=values.len()).map(|place| format!("${place}")).collect();
        let sql = sql.replace("{ids}", &places.join(", ")).replace("{step}", &question.step_ms.to_string());
        let by_id: BTreeMap<&str, &Series> = chunk.iter().map(|series| (series.id.as_str(), series)).collect();
        for row in database::query(&sql, &values)? {
            let id: String = row.get("series_id")?;
            if let Some(series) = by_id.get(id.as_str()) {
                take(series, &row)?;
            }
        }
    }
    Ok(())
}

type Groups<T> = BTreeMap<BTreeMap<String, String>, BTreeMap<i64, T>>;

fn lines<T>(question: &Question, groups: Groups<T>, value: impl Fn(T) -> Option<f64>) -> Vec<Line> {
    groups
        .into_iter()
        .map(|(labels, steps)| {
            let points = steps
                .into_iter()
                .filter_map(|(bucket, step)| Some(At { at_ms: bucket * question.step_ms, value: value(step)? }))
                .filter(|at| at.value.is_finite())
                .collect();
            Line { labels, points }
        })
        .collect()
}

/// Sums, averages and the like, from the points, or from the hours where these reach further back.
fn steps(question: &Question, series: &[Series]) -> Result<Vec<Line>> {
    let raw = "SELECT series_id, recorded_ms / {step} AS bucket, COUNT(*) AS points, SUM(value) AS total, MIN(value) AS least, \
        MAX(value) AS most, MAX(recorded_ms) AS last_ms FROM telemetry_metrics WHERE organization_id = $1 AND recorded_ms >= $2 \
        AND recorded_ms < $3 AND series_id IN ({ids}) GROUP BY series_id, recorded_ms / {step}";
    let hours = "SELECT series_id, hour_ms / {step} AS bucket, SUM(points) AS points, SUM(total) AS total, MIN(least) AS least, \
        MAX(most) AS most, MAX(last_ms) AS last_ms FROM telemetry_rollups WHERE organization_id = $1 AND hour_ms >= $2 \
        AND hour_ms < $3 AND series_id IN ({ids}) GROUP BY series_id, hour_ms / {step}";
    let is_last = question.aggregation == Aggregation::Last;
    let (inner, table, value, moment) = if is_by_hours(question) {
        (hours, "telemetry_rollups", "last_value", "last_ms")
    } else {
        (raw, "telemetry_metrics", "value", "recorded_ms")
    };
    // The value of the last moment of each step.
    let last = format!(
        "SELECT s.*, p.{value} AS last_value FROM ({inner}) s JOIN {table} p ON p.organization_id = $1 \
         AND p.series_id = s.series_id AND p.{moment} = s.last_ms"
    );
    let mut groups: Groups<Step> = BTreeMap::new();
    each_row(question, series, if is_last { &last } else { inner }, |series, row| {
        let step = Step {
            points: number(row, "points")?,
            total: row.get("total")?,
            least: row.get("least")?,
            most: row.get("most")?,
            last: if is_last { row.get("last_value")? } else { 0.0 },
            last_ms: row.get("last_ms")?,
        };
        let steps = groups.entry(group(series, &question.by)).or_default();
        steps.entry(row.get("bucket")?).and_modify(|known| known.add(&step)).or_insert(step);
        Ok(())
    })?;
    #[expect(clippy::cast_precision_loss, reason = "counts of points")]
    Ok(lines(question, groups, |step| {
        Some(match question.aggregation {
            Aggregation::Sum => step.total,
            Aggregation::Min => step.least,
            Aggregation::Max => step.most,
            Aggregation::Count => step.points as f64,
            Aggregation::Last => step.last,
            _ => step.total / step.points as f64,
        })
    }))
}

/// Whether a stretch begins before the points that are kept one by one.
fn is_old(stretch: Stretch) -> bool {
    stretch.from_ms < clock::now().minus(Duration::from_secs(RAW_DAYS * 86_400)).millis()
}

/// Whether the hours answer a question.
fn is_by_hours(question: &Question) -> bool {
    is_old(question.stretch) && question.step_ms >= HOUR_MS
}

/// A sum of whole numbers, which PostgreSQL answers as a decimal one.
fn number(row: &database::Row, column: &str) -> Result<i64> {
    match row.get::<Stored>(column)? {
        Stored::Integer(number) => Ok(number),
        #[expect(clippy::cast_possible_truncation, reason = "a count")]
        Stored::Float(number) => Ok(number as i64),
        Stored::Text(text) => text.parse().map_err(|_| Problem::internal()),
        _ => Ok(0),
    }
}

/// What was added to counters in each step. A counter that fell began anew.
fn increases(question: &Question, series: &[Series]) -> Result<Vec<Line>> {
    let raw = "SELECT series_id, recorded_ms, value, value AS total, \
        LAG(value) OVER (PARTITION BY series_id ORDER BY recorded_ms) AS before \
        FROM telemetry_metrics WHERE organization_id = $1 AND recorded_ms >= $2 AND recorded_ms < $3 AND series_id IN ({ids})";
    let hours = "SELECT series_id, hour_ms AS recorded_ms, last_value AS value, total, \
        LAG(last_value) OVER (PARTITION BY series_id ORDER BY hour_ms) AS before \
        FROM telemetry_rollups WHERE organization_id = $1 AND hour_ms >= $2 AND hour_ms < $3 AND series_id IN ({ids})";
    let sql = if is_by_hours(question) { hours } else { raw };
    let sql = format!(
        "SELECT series_id, recorded_ms / {{step}} AS bucket, SUM(total) AS given, COUNT(before) AS differences, \
         SUM(CASE WHEN before IS NULL THEN 0 WHEN value >= before THEN value - before ELSE value END) AS added \
         FROM ({sql}) ordered GROUP BY series_id, recorded_ms / {{step}}"
    );
    let mut groups: Groups<f64> = BTreeMap::new();
    each_row(question, series, &sql, |series, row| {
        // A first value of a counter says nothing of what was added.
        if !series.is_delta && number(row, "differences")? == 0 {
            return Ok(());
        }
        let added: f64 = row.get(if series.is_delta { "given" } else { "added" })?;
        *groups.entry(group(series, &question.by)).or_default().entry(row.get("bucket")?).or_default() += added;
        Ok(())
    })?;
    #[expect(clippy::cast_precision_loss, reason = "a length of time")]
    let seconds = question.step_ms as f64 / 1_000.0;
    let is_rate = question.aggregation == Aggregation::Rate;
    Ok(lines(question, groups, |added| Some(if is_rate { added / seconds } else { added })))
}

/// The value below which a share of the points lie: the nearest rank.
fn quantiles(question: &Question, series: &[Series], share: f64) -> Result<Vec<Line>> {
    let sql = format!(
        "SELECT series_id, recorded_ms / {{step}} AS bucket, value FROM telemetry_metrics WHERE organization_id = $1 \
         AND recorded_ms >= $2 AND recorded_ms < $3 AND series_id IN ({{ids}}) ORDER BY recorded_ms DESC LIMIT {POINTS_MAX}"
    );
    let mut groups: Groups<Vec<f64>> = BTreeMap::new();
    each_row(question, series, &sql, |series, row| {
        let steps = groups.entry(group(series, &question.by)).or_default();
        steps.entry(row.get("bucket")?).or_default().push(row.get("value")?);
        Ok(())
    })?;
    Ok(lines(question, groups, |mut values| {
        values.sort_unstable_by(f64::total_cmp);
        nearest(&values, share)
    }))
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
fn nearest(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The points of a histogram's series.
struct Points {
    labels: BTreeMap<String, String>,
    is_delta: bool,
    /// The last one before the stretch.
    before: Option<Buckets>,
    /// Those of the stretch, in their order.
    within: Vec<(i64, Buckets)>,
}

impl Points {
    /// What each point adds, with its moment. A cumulative point holds everything since its process began: it adds what has come
    /// since the one before it, and the first of all says nothing, unless nothing has come since, so that it is all that is known.
    fn added(self) -> Vec<(i64, Buckets)> {
        if self.is_delta {
            return self.within;
        }
        let mut points = self.within.into_iter();
        let is_new = self.before.is_none();
        let mut added = Vec::new();
        let first = if is_new { points.next() } else { None };
        let mut earlier =
            self.before.or_else(|| first.as_ref().map(|(_, buckets)| buckets.clone())).unwrap_or_default();
        for (at, now) in points {
            added.push((at, now.since(&earlier)));
            earlier = now;
        }
        if added.iter().all(|(_, buckets)| buckets.count == 0) {
            added.extend(first);
        }
        added
    }
}

/// The same of histograms, from their buckets.
fn histogram_quantiles(question: &Question, series: &[Series], share: f64) -> Result<Vec<Line>> {
    let mut found: BTreeMap<String, Points> = BTreeMap::new();
    let mut each = |sql: &str, is_within: bool| {
        each_row(question, series, sql, |series, row| {
            let points = found.entry(series.id.clone()).or_insert_with(|| Points {
                labels: group(series, &question.by),
                is_delta: series.is_delta,
                before: None,
                within: Vec::new(),
            });
            let buckets: Buckets = row.json("buckets")?;
            if is_within {
                points.within.push((row.get("recorded_ms")?, buckets));
            } else {
                points.before = Some(buckets);
            }
            Ok(())
        })
    };
    // The latest, as of other quantiles, and each series in its order.
    each(
        &format!(
            "SELECT * FROM (SELECT series_id, recorded_ms, buckets FROM telemetry_metrics WHERE organization_id = $1 AND recorded_ms >= $2 \
             AND recorded_ms < $3 AND series_id IN ({{ids}}) AND buckets IS NOT NULL ORDER BY recorded_ms DESC LIMIT {POINTS_MAX}) latest \
             ORDER BY recorded_ms"
        ),
        true,
    )?;
    each(
        &format!(
            "SELECT p.series_id AS series_id, p.buckets AS buckets FROM telemetry_metrics p JOIN (SELECT series_id, MAX(recorded_ms) AS last_ms \
             FROM telemetry_metrics WHERE organization_id = $1 AND recorded_ms >= CAST($2 AS BIGINT) - {HOUR_MS} AND recorded_ms < $2 AND recorded_ms < $3 \
             AND series_id IN ({{ids}}) AND buckets IS NOT NULL GROUP BY series_id) b \
             ON p.organization_id = $1 AND p.series_id = b.series_id AND p.recorded_ms = b.last_ms"
        ),
        false,
    )?;
    let read: usize = found.values().map(|points| points.within.len()).sum();
    let is_cut = i64::try_from(read).unwrap_or(i64::MAX) >= POINTS_MAX;
    let mut groups: Groups<Buckets> = BTreeMap::new();
    for mut points in found.into_values() {
        // What lies before the stretch is not what lies before the latest points of it.
        if is_cut {
            points.before = None;
        }
        let steps = groups.entry(points.labels.clone()).or_default();
        for (at, added) in points.added() {
            steps.entry(at / question.step_ms).or_default().add(&added);
        }
    }
    Ok(lines(question, groups, |buckets| buckets.quantile(share)))
}

/// Reads a question off a query.
fn question(query: &PageQuery, name: String) -> Result<Question> {
    let stretch = Stretch::of(query, Duration::from_secs(3_600), Duration::from_secs(90 * 86_400))?;
    let step_ms = stretch.step_ms(query.filter("step").as_deref())?;
    // What is older is known by the hour alone.
    let step_ms = if is_old(stretch) { step_ms.max(HOUR_MS) } else { step_ms };
    let aggregation = match query.filter("agg").or_else(|| query.filter("aggregation")) {
        None => Aggregation::Avg,
        Some(text) => Aggregation::parse(&text).ok_or_else(|| {
            let known: Vec<&str> = Aggregation::ALL.iter().map(|known| known.as_str()).collect();
            Problem::field("agg", format!("must be one of {}", known.join(", ")))
        })?,
    };
    let mut labels = BTreeMap::new();
    for pair in query.filter("labels").unwrap_or_default().split(',').filter(|pair| !pair.trim().is_empty()) {
        let (name, value) = pair
            .split_once([':', '='])
            .ok_or_else(|| Problem::field("labels", "must be name:value, several with commas"))?;
        labels.insert(name.trim().to_string(), value.trim().to_string());
    }
    let by = query.filter("by").unwrap_or_else(|| "series".into());
    let by =
        by.split(',').map(|name| name.trim().to_string()).filter(|name| !name.is_empty() && name != "none").collect();
    Ok(Question { name, service: query.filter("service"), labels, aggregation, stretch, step_ms, by })
}

/// `GET /api/observability/metrics`: with `name` its values over time, without it the metrics there are.
pub(crate) fn read(query: PageQuery) -> Result<Json<Value>> {
    let Some(name) = query.filter("name") else { return names(&query) };
    let question = question(&query, name)?;
    let known = database::query_one(
        "SELECT kind, unit, series_count, dropped_count FROM telemetry_metric_names WHERE organization_id = $1 AND name = $2",
        params![auth::organization_id()?, &question.name],
    )?;
    let asked: Vec<&(String, String)> = query.pairs.iter().collect();
    let key = format!("metrics:{}", canonical::sha256(&json!(asked)));
    let lines = cache::remember(&key, TTL, || answer(&question))?;
    let series: Vec<Value> = lines
        .into_iter()
        .map(|line| {
            let points: Vec<Value> = line
                .points
                .into_iter()
                .map(|at| json!({ "at": Timestamp::from_millis(at.at_ms), "value": at.value }))
                .collect();
            json!({ "labels": line.labels, "points": points })
        })
        .collect();
    let text = |column: &str| known.as_ref().and_then(|row| row.get::<String>(column).ok());
    let count = |column: &str| known.as_ref().and_then(|row| row.get::<i64>(column).ok()).unwrap_or(0);
    Ok(Json(json!({
        "name": question.name,
        "kind": text("kind"),
        "unit": text("unit"),
        "agg": question.aggregation.as_str(),
        "from": Timestamp::from_millis(question.stretch.from_ms),
        "to": Timestamp::from_millis(question.stretch.to_ms),
        "stepMs": question.step_ms,
        "seriesCount": count("series_count"),
        "droppedCount": count("dropped_count"),
        "series": series,
    })))
}

fn names(query: &PageQuery) -> Result<Json<Value>> {
    if query.sort_by.as_deref().is_some_and(|field| field != "name") {
        return Err(Problem::field("sortBy", "must be name"));
    }
    let organization_id = auth::organization_id()?;
    let row = database::query_one(
        "SELECT COUNT(*) AS total FROM telemetry_metric_names WHERE organization_id = $1",
        params![&organization_id],
    )?;
    let total: i64 = row.map_or(Ok(0), |row| row.get("total"))?;
    let direction = if query.descending == Some(true) { "DESC" } else { "ASC" };
    let sql = format!(
        "SELECT name AS \"name\", kind AS \"kind\", unit AS \"unit\", series_count AS \"seriesCount\", \
         dropped_count AS \"droppedCount\", first_at AS \"firstAt\", last_at AS \"lastAt\" FROM telemetry_metric_names \
         WHERE organization_id = $1 ORDER BY name {direction} LIMIT $2 OFFSET $3"
    );
    let text = database::query_json(&sql, params![&organization_id, query.limit, query.offset])?;
    let items: Value = serde_json::from_slice(&text).map_err(|_| Problem::internal())?;
    Ok(Json(json!({ "items": items, "total": total, "limit": query.limit, "offset": query.offset })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_rank_is_a_value_that_there_was() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((nearest(&values, 0.95), nearest(&values, 0.5)), (Some(95.0), Some(50.0)));
        assert_eq!((nearest(&[7.0], 0.99), nearest(&[], 0.5)), (Some(7.0), None));
    }

    #[test]
    fn a_cumulative_histogram_adds_what_has_come_since_the_point_before() {
        let buckets = |low: u64, high: u64| Buckets {
            count: low + high,
            bounds: vec![10.0, 100.0],
            counts: vec![low, high, 0],
            ..Buckets::default()
        };
        let added = |is_delta: bool, before: Option<Buckets>, within: &[Buckets]| {
            let within = (1..).zip(within.iter().cloned()).collect();
            let added = Points { labels: BTreeMap::new(), is_delta, before, within }.added();
            added.into_iter().map(|(at, buckets)| (at, buckets.counts[0], buckets.counts[1])).collect::<Vec<_>>()
        };
        let points = [buckets(1_000, 0), buckets(1_000, 100), buckets(1_001, 100)];
        assert_eq!(added(false, None, &points), [(2, 0, 100), (3, 1, 0)]);
        assert_eq!(added(false, Some(buckets(999, 0)), &points), [(1, 1, 0), (2, 0, 100), (3, 1, 0)]);
        assert_eq!(added(true, None, &points[..2]), [(1, 1_000, 0), (2, 1_000, 100)]);
        // A process that began anew counts from nothing.
        assert_eq!(added(false, Some(buckets(1_000, 0)), &[buckets(3, 1)]), [(1, 3, 1)]);
        // Nothing has come since: of a series that is new it is all there is, of another one nothing has come at all.
        let again = [buckets(5, 0), buckets(5, 0)];
        assert_eq!(added(false, None, &again), [(2, 0, 0), (1, 5, 0)]);
        assert_eq!(added(false, Some(buckets(5, 0)), &again), [(1, 0, 0), (2, 0, 0)]);
        assert_eq!(added(false, None, &[]), []);
    }

    #[test]
    fn series_are_put_together_by_their_labels() {
        let labels = [("service", "shop"), ("route", "/a")].map(|(name, value)| (name.to_string(), value.to_string()));
        let series = Series { id: "s".into(), is_delta: false, kind: Kind::Gauge, labels: labels.into() };
        assert_eq!(group(&series, &["route".into()]), [("route".to_string(), "/a".to_string())].into());
        assert_eq!(group(&series, &[]).len(), 0);
        assert_eq!(group(&series, &["series".into()]).len(), 2);
    }
}
