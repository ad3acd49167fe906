//! Experiments: two variants or more against each other, with a fixed share of subjects each.

pub mod api;
pub mod assign;
pub mod judge;
mod lifecycle;
pub mod metric;
mod results;
mod running;

use std::collections::{BTreeMap, BTreeSet};

use berth_sdk::prelude::*;

pub use lifecycle::{end, tick};

/// Variants of one experiment.
pub const VARIANTS_MAX: usize = 20;
/// Metrics besides the primary one.
const SECONDARY_MAX: usize = 20;

/// What kind of experiment it is.
#[choice]
pub enum ExperimentType {
    /// One variant against a control.
    Ab,
    /// Several against it.
    Multivariate,
    /// A new one that more and more subjects get.
    Rollout,
}

/// How far it has come.
#[choice]
pub enum ExperimentStatus {
    /// Not begun.
    Draft,
    /// Subjects get its variants.
    Running,
    /// Nobody new does for now.
    Paused,
    /// Over.
    Completed,
    /// Never begun.
    Cancelled,
}

/// What a metric's values are.
#[choice]
pub enum MetricKind {
    /// 0 or 1: the share of subjects with a 1 among those that reported.
    Rate,
    /// 0 or 1: the share of subjects with a 1 among all that take part, as who does nothing reports nothing.
    Conversion,
    /// Amounts: the mean over the subjects, of each the mean of its values.
    Mean,
}

/// The kinds of metrics by name. One that is not named is a rate while every value is 0 or 1, and otherwise a mean.
pub type Kinds = BTreeMap<String, MetricKind>;

/// What is better.
#[choice]
pub enum Goal {
    /// More of the primary metric.
    Increase,
    /// Less of it.
    Decrease,
}

/// An experiment.
#[entity(table = "experiment_experiments", name = "experiment", sort = "-createdAt")]
pub struct Experiment {
    /// Whose it is: it exists for whoever sees the project.
    #[field(immutable)]
    pub project_id: Option<Id>,
    /// For people.
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    /// What is believed.
    #[field(default, max = 5_000)]
    pub hypothesis: String,
    /// What kind it is.
    #[field(default = ExperimentType::Ab)]
    pub r#type: ExperimentType,
    /// How far it has come.
    #[field(readonly, default = ExperimentStatus::Draft)]
    pub status: ExperimentStatus,
    /// The flag that programs ask for it by.
    #[field(filter, min = 1, max = 200, plain)]
    pub feature_flag: Option<String>,
    /// How many of a hundred subjects take part.
    #[field(default = 100, min = 0, max = 100)]
    pub rollout_percentage: i64,
    /// The metric that decides.
    #[field(min = 1, max = 100, plain)]
    pub primary_metric: String,
    /// Metrics that are told besides.
    #[field(default, max = 20, plain)]
    pub secondary_metrics: Vec<String>,
    /// What the metrics are, by name.
    #[field(default)]
    pub metric_kinds: Kinds,
    /// What is better.
    #[field(default = Goal::Increase)]
    pub goal: Goal,
    /// Nothing is compared before each variant has so many subjects.
    #[field(default = 100, min = 1, max = 100_000_000)]
    pub min_sample_size: i64,
    /// How often a difference that is none may be taken for one.
    #[field(default = 0.05, min = 0.000_001, max = 0.5)]
    pub significance: f64,
    /// Not before.
    pub start_at: Option<Timestamp>,
    /// Not after; there is no automatic winner before it.
    pub end_at: Option<Timestamp>,
    /// When it really ended.
    #[field(readonly)]
    pub stopped_at: Option<Timestamp>,
    /// What was decided, or what the figures have made the winner at its end.
    #[field(readonly)]
    pub winner_variant_id: Option<Id>,
    /// Why.
    #[field(readonly, max = 5_000)]
    pub conclusion: Option<String>,
    /// When somebody decided.
    #[field(readonly)]
    pub concluded_at: Option<Timestamp>,
}

impl Experiment {
    /// Whether somebody new gets a variant at this moment.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.status == ExperimentStatus::Running
            && self.start_at.is_none_or(|start| start <= now)
            && self.end_at.is_none_or(|end| now < end)
    }

    /// Every metric, the primary one first.
    pub fn metrics(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.primary_metric).chain(&self.secondary_metrics).map(String::as_str)
    }

    /// 409 where a change touches what must stay as it is.
    fn require_changeable(&self, new: &Self) -> Result<()> {
        let words =
            |other: &Self| Self { name: other.name.clone(), hypothesis: other.hypothesis.clone(), ..self.clone() };
        let kept = match self.status {
            ExperimentStatus::Draft => return Ok(()),
            // What was measured already must stay comparable.
            ExperimentStatus::Paused => Self {
                feature_flag: new.feature_flag.clone(),
                rollout_percentage: new.rollout_percentage,
                end_at: new.end_at,
                ..words(new)
            },
            _ => words(new),
        };
        if kept == *new {
            return Ok(());
        }
        let may =
            if self.status == ExperimentStatus::Paused { ", featureFlag, rolloutPercentage and endAt" } else { "" };
        Err(Problem::conflict(format!(
            "It is {}: its design is frozen, only name, hypothesis{may} can change.",
            self.status
        ))
        .with_code("EXPERIMENT_FROZEN"))
    }
}

impl Rules for Experiment {
    fn check(&self, faults: &mut Faults) {
        if let (Some(start), Some(end)) = (self.start_at, self.end_at)
            && end <= start
        {
            faults.add("endAt", "must be after startAt");
        }
        let mut known = BTreeSet::from([self.primary_metric.as_str()]);
        for (place, name) in self.secondary_metrics.iter().enumerate().take(SECONDARY_MAX) {
            if name.is_empty() || name.chars().count() > 100 {
                faults.add(format!("secondaryMetrics[{place}]"), "must have 1 to 100 characters");
            } else if !known.insert(name) {
                faults.add(format!("secondaryMetrics[{place}]"), "is named twice");
            }
        }
        for name in self.metric_kinds.keys().filter(|name| !known.contains(name.as_str())).take(SECONDARY_MAX) {
            let shown: String = name.chars().take(100).collect();
            faults.add(format!("metricKinds.{shown}"), "is no metric of the experiment");
        }
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        transaction.forget(running::key(&old.id));
        old.require_changeable(self)
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if row.status == ExperimentStatus::Running {
            return Err(Problem::conflict("It is running; stop it first.").with_code("EXPERIMENT_RUNNING"));
        }
        for table in ["variants", "assignments", "metrics", "results"] {
            let sql = format!("DELETE FROM experiment_{table} WHERE experiment_id = $1");
            transaction.execute(&sql, params![&row.id])?;
        }
        transaction.forget(running::key(&row.id));
        Ok(())
    }
}

/// One of what is compared.
#[entity(table = "experiment_variants", name = "variant", sort = "id")]
pub struct Variant {
    /// The experiment.
    pub experiment_id: Id,
    /// For people.
    #[field(min = 1, max = 100, plain)]
    pub name: String,
    /// Its share of the total weight.
    pub weight: i64,
    /// What the others are compared with.
    pub is_control: bool,
    /// What programs make of it.
    pub config: berth_sdk::serde_json::Value,
}

impl Rules for Variant {}

/// The variants of an experiment, always in the same order.
pub fn variants(database: &dyn Executor, experiment_id: &str) -> Result<Vec<Stored<Variant>>> {
    Select::<Variant>::new().equal("experiment_id", experiment_id).limit(100).all(database)
}

/// An experiment that the caller may see; 404 otherwise.
pub fn read(id: &Id) -> Result<Stored<Experiment>> {
    let row = entity::read::<Experiment>(&Pool, id)?;
    crate::project::require(row.project_id.as_ref(), "experiment")?;
    Ok(row)
}

#[cfg(test)]
pub(crate) fn example(fields: berth_sdk::serde_json::Value) -> Experiment {
    let mut whole = json!({"name": "Button", "primaryMetric": "clicks"});
    if let (Some(whole), Some(fields)) = (whole.as_object_mut(), fields.as_object()) {
        whole.extend(fields.clone());
    }
    berth_sdk::serde_json::from_value(whole).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_design_is_frozen_once_it_runs() {
        let of = |status: &str, change: berth_sdk::serde_json::Value| {
            let old = example(json!({"status": status}));
            let mut whole = json!({"status": status});
            whole.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            old.require_changeable(&example(whole)).err().map(|problem| problem.status)
        };
        for change in [json!({"minSampleSize": 7}), json!({"primaryMetric": "other"}), json!({"significance": 0.1})] {
            assert_eq!(of("draft", change.clone()), None);
            for status in ["running", "paused", "completed", "cancelled"] {
                assert_eq!(of(status, change.clone()), Some(409), "{status} {change}");
            }
        }
        assert_eq!(of("running", json!({"name": "Other", "hypothesis": "x"})), None);
        assert_eq!(of("running", json!({"rolloutPercentage": 50})), Some(409));
        assert_eq!(of("paused", json!({"rolloutPercentage": 50})), None);
    }

    #[test]
    fn it_is_open_between_its_times() {
        let at = |text: &str| Timestamp::parse(text).unwrap();
        let one =
            example(json!({"status": "running", "startAt": "2026-01-01T00:00:00Z", "endAt": "2026-02-01T00:00:00Z"}));
        assert!(one.is_open(at("2026-01-01T00:00:00Z")) && !one.is_open(at("2025-12-31T23:59:59Z")));
        assert!(!one.is_open(at("2026-02-01T00:00:00Z")));
        assert!(!example(json!({"status": "paused"})).is_open(at("2026-01-01T00:00:00Z")));
    }

    #[test]
    fn metrics_are_named_once() {
        let faults = |fields| {
            let mut faults = Faults::default();
            example(fields).check(&mut faults);
            faults.errors().iter().map(|error| error.field.clone()).collect::<Vec<_>>()
        };
        assert!(faults(json!({"secondaryMetrics": ["time"], "metricKinds": {"time": "mean"}})).is_empty());
        let wrong = faults(json!({"secondaryMetrics": ["clicks", ""], "metricKinds": {"x": "rate"}}));
        assert_eq!(wrong, ["secondaryMetrics[0]", "secondaryMetrics[1]", "metricKinds.x"]);
    }
}
