//! What logging, observability and metrics tell about running systems.

use std::collections::BTreeMap;

use berth_sdk::{prelude::*, serde_json::Value};

use super::{ADMINISTRATORS, Category, Setup, WidgetType};
use crate::data::{
    look::Look,
    step::{Ask, Step},
};

const LOGGING: &str = "logging";
const OBSERVABILITY: &str = "observability";
/// The longest stretch of time that logging looks through.
const LOG_DAYS_MAX: u32 = 31;
/// Services whose health is asked for at once.
const SERVICES_MAX: usize = 8;

pub(super) const TYPES: &[WidgetType] = &[
    WidgetType::new::<ErrorRate>(
        "log_error_rate",
        "Error rate",
        "How many log lines are errors, over time.",
        Category::Operations,
    )
    .reads(LOGGING)
    .sized(6, 3)
    .cached(30, &[])
    .meant_for(ADMINISTRATORS),
    WidgetType::new::<MetricChart>("metric_chart", "Metric", "A metric over time.", Category::Operations)
        .reads(OBSERVABILITY)
        .cached(30, &[]),
    WidgetType::new::<ServiceHealth>("service_health", "Service health", "How services do.", Category::Operations)
        .reads(OBSERVABILITY)
        .cached(30, &[])
        .meant_for(ADMINISTRATORS),
];

/// How the rate of errors is set up.
#[data]
struct ErrorRate {
    #[field(min = 1, max = 100)]
    service: Option<String>,
    project_id: Option<Id>,
    /// The length of a step, such as `5m` or `1h`; about 24 steps when absent.
    #[field(min = 2, max = 10)]
    interval: Option<String>,
}

impl Setup for ErrorRate {
    fn plan(self, look: &Look) -> Result<Step> {
        let (mut from, to) = look.days(1);
        from = from.max(to.minus(std::time::Duration::from_secs(u64::from(LOG_DAYS_MAX) * 86_400)));
        let seconds = to.since(from).as_secs();
        let interval = self.interval.unwrap_or_else(|| match seconds {
            0..=7_200 => "5m".into(),
            7_201..=172_800 => "1h".into(),
            _ => "1d".into(),
        });
        let ask = Ask::get(LOGGING, "/api/logs/aggregate")
            .with("groupBy", "level")
            .with("interval", &interval)
            .during((from, to))
            .with_some("service", self.service.as_deref())
            .with_some("projectId", look.project_id(self.project_id.as_ref()));
        Step::made(ask, move |answer| Ok(rates(&answer, &interval)))
    }
}

/// Counts by step and level as a rate for each step.
fn rates(answer: &Value, interval: &str) -> Value {
    let mut steps: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for group in answer.get("items").and_then(Value::as_array).into_iter().flatten() {
        let Some(from) = group.get("from").and_then(Value::as_str) else { continue };
        let count = group.get("count").and_then(Value::as_i64).unwrap_or(0);
        let level = group.pointer("/group/level").and_then(Value::as_str);
        let step = steps.entry(from).or_default();
        step.0 += count;
        step.1 += if matches!(level, Some("error" | "fatal")) { count } else { 0 };
    }
    let (total, errors) = steps.values().fold((0, 0), |(total, errors), step| (total + step.0, errors + step.1));
    let points: Vec<Value> = steps
        .into_iter()
        .map(|(from, (total, errors))| json!({ "from": from, "total": total, "errors": errors, "rate": share(errors, total) }))
        .collect();
    json!({
        "from": answer.get("from"), "to": answer.get("to"), "interval": interval, "points": points, "total": total,
        "errors": errors, "rate": share(errors, total),
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts of lines are small")]
fn share(part: i64, whole: i64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Where a metric comes from.
#[choice]
enum MetricSource {
    /// observability: what OpenTelemetry sends.
    Telemetry,
    /// usage-tracking: metrics of one's own, at `/api/metrics`.
    Metrics,
}

/// What points become together.
#[choice]
enum Aggregation {
    Avg,
    Sum,
    Min,
    Max,
    Count,
    P95,
    /// The following of telemetry only.
    Last,
    Rate,
    Increase,
    P50,
    P99,
}

impl Aggregation {
    fn is_for_all(self) -> bool {
        !matches!(self, Self::Last | Self::Rate | Self::Increase | Self::P50 | Self::P99)
    }
}

/// How a metric is set up.
#[data]
struct MetricChart {
    #[field(min = 1, max = 200)]
    name: String,
    #[field(default = MetricSource::Metrics)]
    source: MetricSource,
    #[field(default = Aggregation::Avg)]
    aggregation: Aggregation,
    /// The length of a step, such as `5m` or `1h`.
    #[field(min = 2, max = 10, default = "1h")]
    step: String,
    /// Labels that points must have.
    #[field(default)]
    labels: BTreeMap<String, String>,
    /// Of telemetry: the service that sends it.
    #[field(min = 1, max = 100)]
    service: Option<String>,
    /// Of metrics of one's own.
    project_id: Option<Id>,
}

impl Setup for MetricChart {
    fn check(&self, faults: &mut Faults) {
        if self.source == MetricSource::Metrics && !self.aggregation.is_for_all() {
            faults.add("aggregation", "is known to telemetry only");
        }
        let is_fit = |text: &String| text.len() <= 200 && !text.contains([',', ':', '=']);
        if self.labels.len() > 20 || !self.labels.iter().all(|(name, value)| is_fit(name) && is_fit(value)) {
            faults.add("labels", "must be at most 20 short names with short texts, without , : and =");
        }
    }

    fn plan(self, look: &Look) -> Result<Step> {
        let labels = self.labels.iter().map(|(name, value)| format!("{name}:{value}")).collect::<Vec<_>>().join(",");
        let labels = (!labels.is_empty()).then_some(labels);
        let ask = match self.source {
            MetricSource::Telemetry => {
                Ask::get(OBSERVABILITY, "/api/observability/metrics").with_some("service", self.service)
            }
            MetricSource::Metrics => Ask::get("usage-tracking", "/api/metrics")
                .with_some("projectId", look.project_id(self.project_id.as_ref())),
        };
        Step::read(
            ask.with("name", &self.name)
                .with("aggregation", self.aggregation.as_str())
                .with("step", &self.step)
                .during(look.days(1))
                .with_some("labels", labels),
        )
    }
}

/// How the health of services is set up.
#[data]
struct ServiceHealth {
    /// Services by name, with what was found out about each; without it all that are known.
    #[field(min = 1, max = 8)]
    services: Option<Vec<String>>,
}

impl Setup for ServiceHealth {
    fn check(&self, faults: &mut Faults) {
        for (index, name) in self.services.iter().flatten().enumerate() {
            let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            if name.is_empty() || name.len() > 100 || !is_name || matches!(name.as_str(), "." | "..") {
                faults.add(format!("services[{index}]"), "must be the name of a service");
            }
        }
    }

    fn plan(self, _: &Look) -> Result<Step> {
        let health = |name: &str| Ask::get(OBSERVABILITY, &format!("/api/observability/services/{name}/health"));
        let of_all = |asks: Vec<Ask>| Step::made_of_all(asks, |answers| Ok(json!({ "services": answers })));
        if let Some(services) = &self.services {
            return of_all(services.iter().take(SERVICES_MAX).map(|name| health(name)).collect());
        }
        Step::leading(Ask::get(OBSERVABILITY, "/api/observability/services"), move |list| {
            let items = list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
            let named = items.iter().filter_map(|item| item.get("service")?.as_str());
            let named =
                named.filter(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)));
            of_all(named.take(SERVICES_MAX).map(health).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_become_rates() {
        let answer = json!({"from": "a", "to": "b", "items": [
            {"from": "t1", "group": {"level": "info"}, "count": 6}, {"from": "t1", "group": {"level": "error"}, "count": 1},
            {"from": "t1", "group": {"level": "fatal"}, "count": 1}, {"from": "t2", "group": {"level": "warn"}, "count": 2}]});
        let made = rates(&answer, "1h");
        assert_eq!(made["points"][0], json!({"from": "t1", "total": 8, "errors": 2, "rate": 0.25}));
        assert_eq!((&made["points"][1]["rate"], &made["rate"], &made["total"]), (&json!(0.0), &json!(0.2), &json!(10)));
        assert_eq!(rates(&json!({}), "1h")["rate"], 0.0);
    }
}
