//! Alert rules: what is measured, and from when on it is reason for an alert.

use std::collections::BTreeMap;

use berth_sdk::prelude::*;

use crate::{alert, metric::query::Aggregation, stretch::length_ms};

/// Rules of an organization.
const RULES_MAX: i64 = 100;
/// The while that a query is about when it does not say.
const WINDOW_MS: i64 = 300_000;
/// The longest while.
const WINDOW_MAX_MS: i64 = 86_400_000;

/// Where the value comes from.
#[choice]
pub(crate) enum Source {
    Metric,
    Log,
    Trace,
    Health,
}

/// How the value is compared with the threshold.
#[choice]
pub(crate) enum Operator {
    Gt,
    Gte,
    Lt,
    Lte,
    Eq,
    Neq,
}

impl Operator {
    /// Whether a value is reason for an alert.
    pub fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::Gt => value > threshold,
            Self::Gte => value >= threshold,
            Self::Lt => value < threshold,
            Self::Lte => value <= threshold,
            Self::Eq => (value - threshold).abs() < f64::EPSILON,
            Self::Neq => (value - threshold).abs() >= f64::EPSILON,
        }
    }
}

/// How grave an alert is.
#[choice]
pub(crate) enum Severity {
    Info,
    Warning,
    Critical,
}

/// A rule.
#[entity(table = "telemetry_alert_rules", name = "alert rule", sort = "name")]
pub(crate) struct AlertRule {
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    #[field(filter)]
    pub source: Source,
    /// metric: `avg(http.duration{service=shop})[5m] by (route)`; trace: `error_rate{service=shop}[5m]`; log: a search;
    /// health: a check's id or name, or nothing for all.
    #[field(max = 1000, raw, default)]
    pub query: String,
    pub operator: Operator,
    pub threshold: f64,
    /// How long it must hold.
    #[field(min = 0, max = 10_080, default = 0)]
    pub for_minutes: i64,
    #[field(default = Severity::Warning)]
    pub severity: Severity,
    /// Handed on with the alert, for whoever delivers it.
    #[field(default)]
    pub channels: Vec<String>,
    #[field(default = true)]
    pub enabled: bool,
    #[field(readonly)]
    pub last_evaluated_at: Option<Timestamp>,
    /// Why it could not be evaluated.
    #[field(readonly)]
    pub last_error: Option<String>,
}

impl Rules for AlertRule {
    fn check(&self, faults: &mut Faults) {
        if let Err(message) = Query::parse(self.source, &self.query) {
            faults.add("query", message);
        }
        if !self.threshold.is_finite() {
            faults.add("threshold", "must be a number");
        }
        let is_channel = |name: &String| !name.is_empty() && name.chars().count() <= 100;
        if self.channels.len() > 10 || !self.channels.iter().all(is_channel) {
            faults.add("channels", "must be at most 10 names of 1 to 100 characters");
        }
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        if Select::<Self>::new().count_in_turn(transaction)? >= RULES_MAX {
            return Err(Problem::conflict(format!("There are {RULES_MAX} rules already.")));
        }
        Ok(())
    }

    /// What was pending or open of another question is over.
    fn after_update(old: &Stored<Self>, new: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        let is_other = old.source != new.source || old.query != new.query || (old.enabled && !new.enabled);
        if is_other { alert::resolve_all(transaction, new) } else { Ok(()) }
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        alert::resolve_all(transaction, row)
    }
}

/// What of spans is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    Count,
    Errors,
    ErrorRate,
    /// The duration in milliseconds below which so many of a hundred lie.
    Latency(u8),
}

/// A rule's query, read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Query {
    Metric { aggregation: Aggregation, name: String, labels: BTreeMap<String, String>, window_ms: i64, by: Vec<String> },
    Trace { measure: Measure, labels: BTreeMap<String, String>, window_ms: i64, by: Vec<String> },
    Log { search: String, window_ms: i64 },
    Health { check: String },
}

impl Query {
    /// Reads a query; the error is a sentence for its author.
    pub fn parse(source: Source, text: &str) -> Result<Self, String> {
        let text = text.trim();
        match source {
            Source::Health => Ok(Self::Health { check: text.into() }),
            Source::Log => {
                let (search, window_ms) = window(text)?;
                if search.is_empty() {
                    return Err("must be a search, such as level:error service:shop".into());
                }
                Ok(Self::Log { search: search.into(), window_ms })
            }
            Source::Metric => {
                const FORM: &str = "must be such as avg(http.duration{service=shop})[5m] by (route)";
                let (text, by) = by(text)?;
                let (text, window_ms) = window(text)?;
                let (aggregation, rest) = text.split_once('(').ok_or(FORM)?;
                let aggregation = Aggregation::parse(aggregation.trim()).ok_or(FORM)?;
                let (name, labels) = labels(rest.strip_suffix(')').ok_or(FORM)?)?;
                if name.is_empty() {
                    return Err(FORM.into());
                }
                Ok(Self::Metric { aggregation, name: name.into(), labels, window_ms, by })
            }
            Source::Trace => {
                let (text, by) = by(text)?;
                let (text, window_ms) = window(text)?;
                let (measure, labels) = labels(text)?;
                let measure = match measure {
                    "count" => Measure::Count,
                    "errors" => Measure::Errors,
                    "error_rate" => Measure::ErrorRate,
                    "latency_p50" => Measure::Latency(50),
                    "latency_p95" => Measure::Latency(95),
                    "latency_p99" => Measure::Latency(99),
                    _ => {
                        return Err(
                            "must begin with count, errors, error_rate, latency_p50, latency_p95 or latency_p99".into(),
                        );
                    }
                };
                let is_known = |name: &String| name == "service" || name == "name";
                if !labels.keys().all(is_known) || !by.iter().all(is_known) {
                    return Err("spans are told apart by service and name".into());
                }
                Ok(Self::Trace { measure, labels, window_ms, by })
            }
        }
    }
}

/// Takes `by (a, b)` off the end.
fn by(text: &str) -> Result<(&str, Vec<String>), String> {
    let Some((before, list)) = text.rsplit_once(" by ") else { return Ok((text, Vec::new())) };
    let inner = list.trim().strip_prefix('(').and_then(|list| list.strip_suffix(')')).ok_or("by needs (…)")?;
    let names: Vec<String> =
        inner.split(',').map(|name| name.trim().to_string()).filter(|name| !name.is_empty()).collect();
    if names.is_empty() || names.len() > 5 {
        return Err("by names 1 to 5 labels".into());
    }
    Ok((before.trim(), names))
}

/// Takes `[5m]` off the end.
fn window(text: &str) -> Result<(&str, i64), String> {
    let Some((before, length)) = text.strip_suffix(']').and_then(|text| text.rsplit_once('[')) else {
        return Ok((text, WINDOW_MS));
    };
    let length = length_ms(length.trim()).filter(|length| *length <= WINDOW_MAX_MS);
    Ok((before.trim(), length.ok_or("the while in brackets must be such as 30s, 5m or 1h, a day at most")?))
}

/// Takes `{name=value, …}` off the end.
fn labels(text: &str) -> Result<(&str, BTreeMap<String, String>), String> {
    let Some((before, list)) = text.split_once('{') else { return Ok((text.trim(), BTreeMap::new())) };
    let inner = list.trim().strip_suffix('}').ok_or("labels end with }")?;
    let mut labels = BTreeMap::new();
    for pair in inner.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (name, value) = pair.split_once('=').ok_or("labels are name=value")?;
        labels.insert(name.trim().to_string(), value.trim().trim_matches('"').to_string());
    }
    Ok((before.trim(), labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect()
    }

    #[test]
    fn queries_say_what_is_measured() {
        assert_eq!(
            Query::parse(Source::Metric, "p95( http.duration{service=shop, route=\"/a\"} )[10m] by (route, service)")
                .unwrap(),
            Query::Metric {
                aggregation: Aggregation::P95,
                name: "http.duration".into(),
                labels: map(&[("service", "shop"), ("route", "/a")]),
                window_ms: 600_000,
                by: vec!["route".into(), "service".into()],
            }
        );
        assert_eq!(
            Query::parse(Source::Trace, "error_rate{service=shop}").unwrap(),
            Query::Trace {
                measure: Measure::ErrorRate,
                labels: map(&[("service", "shop")]),
                window_ms: WINDOW_MS,
                by: vec![]
            }
        );
        assert_eq!(
            Query::parse(Source::Log, "level:error [1h]").unwrap(),
            Query::Log { search: "level:error".into(), window_ms: 3_600_000 }
        );
        for (source, wrong) in [
            (Source::Metric, ""),
            (Source::Metric, "avg"),
            (Source::Metric, "mean(x)"),
            (Source::Metric, "avg()"),
            (Source::Metric, "avg(x{a})"),
            (Source::Metric, "avg(x)[5w]"),
            (Source::Metric, "avg(x) by ()"),
            (Source::Trace, "speed"),
            (Source::Trace, "count{route=x}"),
            (Source::Log, "[5m]"),
        ] {
            assert!(Query::parse(source, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_are_compared_as_the_operator_says() {
        assert!(Operator::Gt.holds(2.0, 1.0) && !Operator::Gt.holds(1.0, 1.0) && Operator::Gte.holds(1.0, 1.0));
        assert!(Operator::Lt.holds(0.0, 1.0) && Operator::Lte.holds(1.0, 1.0) && Operator::Neq.holds(2.0, 1.0));
        assert!(Operator::Eq.holds(1.0, 1.0) && !Operator::Eq.holds(f64::NAN, 1.0));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            for source in [Source::Metric, Source::Trace, Source::Log, Source::Health] {
                let _ = Query::parse(source, &text);
            }
        }
    }
}
