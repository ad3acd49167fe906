//! Metrics of one's own: points with labels, and what they are together over time.

use std::collections::BTreeMap;

use berth_sdk::{database::like, prelude::*, serde_json, serde_json::Value};

use crate::{access, query::bounds};

/// Points in one request.
const POINTS_MAX: usize = 1_000;
const LABELS_MAX: usize = 20;
/// Points written in one statement: 12 columns each.
const INSERTED: usize = 40;
/// Steps of one answer.
const STEPS_MAX: i64 = 1_440;
/// Names of one answer.
const NAMES_MAX: i64 = 1_000;

/// What a point is.
#[choice]
pub(crate) enum MetricType {
    Counter,
    Gauge,
    Histogram,
}

/// What points become together.
#[choice]
pub(crate) enum Aggregation {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    P95,
}

/// A point.
#[entity(table = "metric_entries", name = "metric", sort = "-recordedAt")]
pub(crate) struct Metric {
    #[field(filter)]
    pub name: String,
    pub r#type: MetricType,
    pub value: f64,
    pub unit: Option<String>,
    pub labels: BTreeMap<String, String>,
    #[field(hidden)]
    pub label_text: String,
    #[field(filter)]
    pub project_id: Option<String>,
    #[field(filter)]
    pub source: String,
    pub recorded_at: Timestamp,
    #[field(hidden)]
    pub recorded_ms: i64,
}

impl Rules for Metric {
    /// Those of a project are for who sees that.
    fn scope() -> Option<Condition> {
        people::scope::within("\"project_id\"")
    }

    fn before_delete(_: &Stored<Self>, _: &Transaction) -> Result<()> {
        access::require_admin()
    }
}

/// A point as it is reported.
#[data]
pub(crate) struct Point {
    #[field(min = 1, max = 200)]
    name: String,
    #[field(default = MetricType::Gauge)]
    r#type: MetricType,
    value: f64,
    #[field(max = 50)]
    unit: Option<String>,
    #[field(default)]
    labels: BTreeMap<String, String>,
    project_id: Option<Id>,
    #[field(max = 100)]
    source: Option<String>,
    recorded_at: Option<Timestamp>,
}

/// The body: points, or one point by itself.
#[data]
pub(crate) struct Points {
    #[field(min = 1, max = 1000)]
    points: Vec<Point>,
}

/// The points of a request.
pub(crate) struct Report(Vec<Point>);

impl FromRequest for Report {
    fn from_request(request: &mut Request) -> Result<Self> {
        let body: Value =
            serde_json::from_slice(&request.body).map_err(|_| Problem::bad_request("The body must be JSON."))?;
        let list = match body {
            Value::Array(list) => list,
            Value::Object(mut members) => match members.remove("points").or_else(|| members.remove("metrics")) {
                Some(Value::Array(list)) => list,
                Some(_) => return Err(Problem::field("points", "must be a list")),
                None => vec![Value::Object(members)],
            },
            _ => return Err(Problem::bad_request("The body must be a point or a list of points.")),
        };
        if list.is_empty() || list.len() > POINTS_MAX {
            return Err(Problem::bad_request(format!("A report has 1 to {POINTS_MAX} points.")));
        }
        let mut whole = Request::new("POST", "/").with_json(&json!({ "points": list }));
        let Json(Points { points }) = Json::from_request(&mut whole)?;
        let mut faults = Faults::default();
        for (index, point) in points.iter().enumerate() {
            if !is_name(&point.name) {
                faults.add(format!("points[{index}].name"), "must be letters, digits, ., -, _, / and :");
            }
            if !point.value.is_finite() {
                faults.add(format!("points[{index}].value"), "must be a number");
            }
            let is_fit = |(name, value): (&String, &String)| is_name(name) && value.chars().count() <= 200;
            if point.labels.len() > LABELS_MAX || !point.labels.iter().all(is_fit) {
                faults.add(
                    format!("points[{index}].labels"),
                    format!("must be at most {LABELS_MAX} names with short texts"),
                );
            }
        }
        faults.finish()?;
        Ok(Self(points))
    }

    fn describe(route: &mut berth_sdk::router::Route) {
        <Json<Points> as FromRequest>::describe(route);
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 200
        && name.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"._-/:".contains(&letter))
}

/// Labels as a text in which each can be looked for by itself.
fn label_text(labels: &BTreeMap<String, String>) -> String {
    let parts: Vec<String> = labels.iter().map(|(name, value)| label(name, value)).collect();
    format!("\n{}\n", parts.join("\n"))
}

fn label(name: &str, value: &str) -> String {
    format!("{name}={}", value.replace('\n', " "))
}

/// The answer of a report.
#[data]
pub(crate) struct Recorded {
    recorded: i64,
}

/// `POST /api/metrics`.
pub(crate) fn report(Report(points): Report) -> Result<Accepted<Recorded>> {
    let organization_id = auth::organization_id()?;
    let principal = auth::principal();
    let now = clock::now();
    let source = principal.source_service.unwrap_or_else(|| "api".into());
    let recorded = i64::try_from(points.len()).unwrap_or(i64::MAX);
    database::transaction(|transaction| {
        for chunk in points.chunks(INSERTED) {
            let mut values: Vec<database::Value> =
                vec![(&organization_id).into(), (&principal.user_id).into(), now.into()];
            let mut places = Vec::with_capacity(chunk.len());
            for point in chunk {
                let at = point.recorded_at.unwrap_or(now);
                let first = values.len() + 1;
                values.extend([
                    Id::new().into(),
                    point.name.as_str().into(),
                    point.r#type.into(),
                    point.value.into(),
                    (&point.unit).into(),
                    json!(point.labels).into(),
                    label_text(&point.labels).into(),
                    (&point.project_id).into(),
                    point.source.clone().unwrap_or_else(|| source.clone()).into(),
                    at.into(),
                    at.millis().into(),
                ]);
                let own: Vec<String> = (first..=values.len()).map(|place| format!("${place}")).collect();
                let (id, rest) = own.split_first().ok_or_else(Problem::internal)?;
                places.push(format!("({id}, $1, $2, $3, $3, 1, {})", rest.join(", ")));
            }
            let sql = format!(
                "INSERT INTO metric_entries (id, organization_id, created_by, created_at, updated_at, version, name, type, value, \
                 unit, labels, label_text, project_id, source, recorded_at, recorded_ms) VALUES {}",
                places.join(", ")
            );
            transaction.execute(&sql, &values)?;
        }
        Ok::<_, Problem>(())
    })?;
    Ok(Accepted(Recorded { recorded }))
}

/// Points of projects that the caller sees, and of none: in a numbered condition, with its values.
fn within_projects(sql: &mut String, values: &mut Vec<database::Value>) {
    if let Some(within) = people::scope::within("project_id") {
        sql.push_str(&format!(" AND ({})", within.placed(values)));
    }
}

/// The condition of a query on `metric_entries`, with its values: `name`, `labels=env:prod,region:eu`, `from`, `to`, `projectId`.
fn condition(query: &PageQuery) -> Result<(String, Vec<database::Value>)> {
    let mut values: Vec<database::Value> = vec![auth::organization_id()?.into()];
    let mut sql = String::from("organization_id = $1");
    let mut narrow = |condition: &str, value: database::Value| {
        values.push(value);
        sql.push_str(&format!(" AND {}", condition.replace('?', &format!("${}", values.len()))));
    };
    for (name, column) in [("name", "name"), ("projectId", "project_id"), ("source", "source")] {
        if let Some(text) = query.filter(name) {
            narrow(&format!("{column} = ?"), text.into());
        }
    }
    let labels = query.filter("labels").unwrap_or_default();
    for pair in labels.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (name, value) = pair
            .split_once([':', '='])
            .ok_or_else(|| Problem::field("labels", "must be name:value, several with commas"))?;
        let line = format!("\n{}\n", label(name.trim(), value.trim()));
        narrow("label_text LIKE ? ESCAPE '!'", like::anywhere(&line).into());
    }
    let (from, to) = bounds(query)?;
    if let Some(from) = from {
        narrow("recorded_ms >= ?", from.millis().into());
    }
    if let Some(to) = to {
        narrow("recorded_ms < ?", to.millis().into());
    }
    Ok((sql, values))
}

/// `GET /api/metrics`: points, or with `aggregation` what they are together, in steps of `step`.
pub(crate) fn read(query: PageQuery) -> Result<Response> {
    let (mut condition, mut values) = condition(&query)?;
    let Some(aggregation) = query.filter("aggregation") else {
        let (sql, conditions) = select_condition(&condition, values);
        return Select::<Metric>::new().condition(&sql, conditions).page(&Pool, &query)?.into_response();
    };
    let aggregation = Aggregation::parse(&aggregation)
        .ok_or_else(|| Problem::field("aggregation", "must be sum, avg, min, max, count or p95"))?;
    let name = query.filter("name").ok_or_else(|| Problem::field("name", "is required with an aggregation"))?;
    let step = query.filter("step").map(|text| step_ms(&text)).transpose()?;
    if let Some(step) = step {
        let (from, to) = bounds(&query)?;
        let from = from.ok_or_else(|| Problem::field("from", "is required with a step"))?;
        let length = to.unwrap_or_else(clock::now).millis() - from.millis();
        if length / step > STEPS_MAX {
            return Err(Problem::field("step", format!("makes more than {STEPS_MAX} steps")));
        }
    }
    within_projects(&mut condition, &mut values);
    values.push(step.unwrap_or(i64::MAX).into());
    let bucket = format!("recorded_ms / ${}", values.len());
    let sql = match aggregation {
        // The value below which 95 of 100 lie: the nearest rank.
        Aggregation::P95 => format!(
            "SELECT bucket, MIN(value) AS value, MAX(points) AS points FROM (SELECT {bucket} AS bucket, value, \
             ROW_NUMBER() OVER (PARTITION BY {bucket} ORDER BY value) AS place, COUNT(*) OVER (PARTITION BY {bucket}) AS points \
             FROM metric_entries WHERE {condition}) ranked WHERE place * 100 >= points * 95 GROUP BY bucket ORDER BY bucket"
        ),
        other => {
            let function = other.as_str().to_uppercase();
            format!(
                "SELECT {bucket} AS bucket, {function}(value) AS value, COUNT(*) AS points FROM metric_entries \
                 WHERE {condition} GROUP BY {bucket} ORDER BY bucket"
            )
        }
    };
    let mut items = Vec::new();
    for row in database::query(&sql, &values)? {
        let bucket: i64 = row.get("bucket")?;
        let start = step.map(|step| Timestamp::from_millis(bucket.saturating_mul(step)));
        items.push(json!({"start": start, "value": row.get::<f64>("value")?, "points": row.get::<i64>("points")?}));
    }
    Response::json(200, &json!({"name": name, "aggregation": aggregation, "stepMs": step, "items": items}))
}

/// A numbered condition as one whose places are question marks; its first value is the organization, which holds anyway.
fn select_condition(condition: &str, values: Vec<database::Value>) -> (String, Vec<database::Value>) {
    let mut sql = condition.to_string();
    for place in (1..=values.len()).rev() {
        sql = sql.replace(&format!("${place}"), "?");
    }
    (sql, values)
}

/// `30s`, `5m`, `1h`, `1d`, or seconds.
fn step_ms(text: &str) -> Result<i64> {
    let fault = || Problem::field("step", "must be a length of time such as 30s, 5m, 1h or 1d");
    let (number, unit) = match text.char_indices().last() {
        Some((at, letter)) if letter.is_ascii_alphabetic() => text.split_at(at),
        _ => (text, "s"),
    };
    let unit = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(fault()),
    };
    let number: i64 = number.parse().map_err(|_| fault())?;
    if (1..=100_000).contains(&number) { Ok(number * unit) } else { Err(fault()) }
}

/// A metric by its name.
#[data]
pub(crate) struct Named {
    name: String,
    r#type: MetricType,
    points: i64,
    last_recorded_at: Option<Timestamp>,
}

/// `GET /api/metrics/names`.
pub(crate) fn names(query: PageQuery) -> Result<Json<Page<Named>>> {
    let mut condition = String::from("organization_id = $1");
    let mut values: Vec<database::Value> = vec![auth::organization_id()?.into()];
    within_projects(&mut condition, &mut values);
    let sql = format!(
        "SELECT name, type, COUNT(*) AS points, MAX(recorded_ms) AS last FROM metric_entries WHERE {condition} \
         GROUP BY name, type ORDER BY name, type LIMIT {NAMES_MAX}"
    );
    let mut all = Vec::new();
    for row in database::query(&sql, &values)? {
        all.push(Named {
            name: row.get("name")?,
            r#type: row.get("type")?,
            points: row.get("points")?,
            last_recorded_at: row.get::<Option<i64>>("last")?.map(Timestamp::from_millis),
        });
    }
    let total = i64::try_from(all.len()).unwrap_or(i64::MAX);
    let (offset, limit) = (usize::try_from(query.offset).unwrap_or(0), usize::try_from(query.limit).unwrap_or(50));
    Ok(Json(query.envelope(all.into_iter().skip(offset).take(limit).collect(), total)))
}

/// `GET /api/metrics/{id}`.
pub(crate) fn read_one(Params(id): Params<Id>) -> Result<Stored<Metric>> {
    entity::read(&Pool, &id)
}

/// `DELETE /api/metrics/{id}`.
pub(crate) fn remove(Params(id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    // Which projects are seen is asked before the transaction.
    people::project::seen();
    database::transaction(|transaction| entity::delete::<Metric>(transaction, &id, if_match))?;
    Ok(NoContent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_length_of_time() {
        assert_eq!(step_ms("30s").unwrap(), 30_000);
        assert_eq!(step_ms("90").unwrap(), 90_000);
        assert_eq!(step_ms("2h").unwrap(), 7_200_000);
        for text in ["", "0s", "-1m", "1y", "m", "1.5h"] {
            assert!(step_ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_label_is_found_by_itself_only() {
        let labels = [("env".to_string(), "prod".to_string()), ("region".to_string(), "eu".to_string())].into();
        let text = label_text(&labels);
        assert!(text.contains("\nenv=prod\n") && text.contains("\nregion=eu\n"));
        assert!(!text.contains("\nenv=pro\n"));
    }

    #[test]
    fn places_become_question_marks_in_their_order() {
        let (sql, _) = select_condition("a = $1 AND b = $2 AND c = $10", vec![database::Value::Null; 10]);
        assert_eq!(sql, "a = ? AND b = ? AND c = ?");
    }
}
