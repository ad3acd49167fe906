//! What is measured: values of the experiment's metrics for subjects that take part.

use std::{collections::HashMap, time::Duration};

use berth_sdk::{
    database::Bulk,
    http,
    prelude::*,
    serde_json::{Map, Value},
};

use super::{Experiment, ExperimentStatus, MetricKind, read};

/// How far ahead of this clock another one may be.
const AHEAD: Duration = Duration::from_secs(300);
/// Subjects that one question names.
const NAMED_MAX: usize = 400;

/// One value.
#[data]
pub struct Observation {
    /// Who; must take part.
    pub subject_id: Id,
    /// A metric of the experiment.
    #[field(min = 1, max = 100, plain)]
    pub metric: String,
    /// 0 or 1 for rates and conversions.
    #[field(min = -1e15, max = 1e15)]
    pub value: f64,
    /// When; now when it is left out.
    pub recorded_at: Option<Timestamp>,
}

#[data]
struct Batch {
    /// Up to 1 000 values.
    #[field(min = 1, max = 1_000)]
    values: Vec<Observation>,
}

/// What was taken and what was not.
#[data]
pub struct Recorded {
    /// Values that count.
    pub recorded: i64,
    /// Values of subjects that do not take part.
    pub rejected: Vec<Rejected>,
}

/// A value that does not count.
#[data]
pub struct Rejected {
    /// Its place among those that were sent.
    pub index: i64,
    /// Who.
    pub subject_id: Id,
    /// Why.
    pub reason: String,
}

/// `POST /api/experiments/{id}/metrics`: one value, or `values`. 201 with what was taken; 422 when no subject takes part; 409
/// unless it runs or pauses.
pub fn record(Params(id): Params<Id>, Json(fields): Json<Map<String, Value>>) -> Result<Created<Recorded>> {
    let experiment = read(&id)?;
    let is_batch = fields.contains_key("values");
    let values = if is_batch {
        http::read_value::<Batch>(Value::Object(fields))?.values
    } else {
        vec![http::read_value::<Observation>(Value::Object(fields))?]
    };
    faults(&experiment, &values, is_batch, clock::now()).finish()?;
    let recorded = database::transaction(|transaction| write(transaction, &id, values))?;
    if recorded.recorded == 0 {
        return Err(Problem::unprocessable("The subject does not take part in the experiment.")
            .with_code("NOT_ASSIGNED")
            .with("rejected", json!(recorded.rejected)));
    }
    Ok(Created(recorded))
}

/// What is wrong with the values themselves.
fn faults(experiment: &Experiment, values: &[Observation], is_batch: bool, now: Timestamp) -> Faults {
    let mut faults = Faults::default();
    for (place, value) in values.iter().enumerate() {
        let field = |name: &str| if is_batch { format!("values[{place}].{name}") } else { name.to_string() };
        if !experiment.metrics().any(|name| name == value.metric) {
            faults.add(field("metric"), "is no metric of the experiment");
        }
        let is_share =
            matches!(experiment.metric_kinds.get(&value.metric), Some(MetricKind::Rate | MetricKind::Conversion));
        if is_share && value.value != 0.0 && value.value != 1.0 {
            faults.add(field("value"), "must be 0 or 1");
        }
        if value.recorded_at.is_some_and(|at| at > now.plus(AHEAD)) {
            faults.add(field("recordedAt"), "must not be in the future");
        }
    }
    faults
}

fn write(transaction: &Transaction, experiment_id: &Id, values: Vec<Observation>) -> Result<Recorded> {
    let row = entity::read::<Experiment>(transaction, experiment_id)?;
    if !matches!(row.status, ExperimentStatus::Running | ExperimentStatus::Paused) {
        return Err(Problem::conflict(format!("It is {}: nothing is measured.", row.status))
            .with_code("EXPERIMENT_NOT_RUNNING"));
    }
    let variants = assigned(transaction, experiment_id, &values)?;
    let (organization_id, now, mut rejected) = (auth::organization_id()?, clock::now(), Vec::new());
    let mut rows: Vec<Vec<database::Value>> = Vec::new();
    for (place, value) in values.into_iter().enumerate() {
        match variants.get(&value.subject_id) {
            Some(variant_id) => rows.push(vec![
                Id::new().into(),
                variant_id.into(),
                value.subject_id.into(),
                value.metric.into(),
                value.value.into(),
                value.recorded_at.unwrap_or(now).into(),
            ]),
            None => rejected.push(Rejected {
                index: i64::try_from(place).unwrap_or(i64::MAX),
                subject_id: value.subject_id,
                reason: "does not take part in the experiment".into(),
            }),
        }
    }
    let recorded = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    Bulk::into("experiment_metrics")
        .shared("organization_id", organization_id)
        .shared("created_by", auth::principal().user_id)
        .shared("created_at", now)
        .shared("updated_at", now)
        .shared("version", 1)
        .shared("experiment_id", experiment_id)
        .columns(&["id", "variant_id", "subject_id", "metric", "value", "recorded_at"])
        .insert(transaction, rows)?;
    Ok(Recorded { recorded, rejected })
}

/// The variants of the subjects that take part.
fn assigned(database: &dyn Executor, experiment_id: &Id, values: &[Observation]) -> Result<HashMap<Id, Id>> {
    let mut subjects: Vec<&Id> = values.iter().map(|value| &value.subject_id).collect();
    subjects.sort();
    subjects.dedup();
    let mut found = HashMap::new();
    for part in subjects.chunks(NAMED_MAX) {
        let places: Vec<String> = (2..part.len() + 2).map(|place| format!("${place}")).collect();
        let mut values = vec![database::Value::from(experiment_id)];
        values.extend(part.iter().map(|id| database::Value::from(*id)));
        let sql = format!(
            "SELECT subject_id, variant_id FROM experiment_assignments WHERE experiment_id = $1 AND subject_id IN ({})",
            places.join(", ")
        );
        for row in database.query(&sql, &values)? {
            found.insert(row.get("subject_id")?, row.get("variant_id")?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_of_its_metrics_are_taken() {
        let experiment = super::super::example(json!({
            "secondaryMetrics": ["time"], "metricKinds": {"clicks": "conversion", "time": "mean"}
        }));
        let now = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
        let value = |metric: &str, value: f64, at: &str| Observation {
            subject_id: "u1".into(),
            metric: metric.into(),
            value,
            recorded_at: Timestamp::parse(at),
        };
        let named = |values: &[Observation], is_batch| {
            faults(&experiment, values, is_batch, now)
                .errors()
                .iter()
                .map(|error| error.field.clone())
                .collect::<Vec<_>>()
        };
        let good = [value("clicks", 1.0, ""), value("time", 2.5, "2025-12-31T00:00:00Z")];
        assert!(named(&good, true).is_empty());
        let bad = [value("clicks", 0.5, ""), value("other", 1.0, ""), value("time", 1.0, "2026-01-02T00:00:00Z")];
        assert_eq!(named(&bad, true), ["values[0].value", "values[1].metric", "values[2].recordedAt"]);
        assert_eq!(named(&bad[..1], false), ["value"]);
    }
}
