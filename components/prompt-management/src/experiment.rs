//! Experiments: two texts or more against each other, with a fixed share of users each.

pub mod api;
pub mod assign;
pub mod results;
pub mod statistics;

use berth_sdk::prelude::*;

use crate::{
    prompt::{self, Prompt},
    render::Template,
    resolve::Text,
    version::{Version, VersionStatus},
};
use assign::Arm;
use statistics::Metric;

/// Variants of one experiment.
pub const VARIANTS_MAX: usize = 20;

/// How far an experiment has come.
#[choice(upper)]
pub enum ExperimentStatus {
    /// Not begun.
    Draft,
    /// Users see its variants.
    Running,
    /// Nobody does for now.
    Paused,
    /// Over, with a result.
    Completed,
    /// Never begun, or without a result.
    Cancelled,
}

/// An experiment with a prompt.
#[entity(table = "prompt_experiments", name = "experiment", sort = "-createdAt")]
pub struct Experiment {
    /// The prompt.
    #[field(immutable, parent = Prompt)]
    pub prompt_id: Id,
    /// For people.
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    /// What is believed.
    #[field(max = 2_000)]
    pub hypothesis: Option<String>,
    /// How far it has come.
    #[field(readonly, default = ExperimentStatus::Draft)]
    pub status: ExperimentStatus,
    /// How many of a hundred users take part.
    #[field(default = 100, min = 0, max = 100)]
    pub traffic_percentage: i64,
    /// What decides.
    #[field(default = Metric::SuccessRate)]
    pub primary_metric: Metric,
    /// What is told besides.
    #[field(default, max = 3)]
    pub secondary_metrics: Vec<Metric>,
    /// No winner before each variant has so many.
    #[field(default = 100, min = 1, max = 10_000_000)]
    pub min_samples: i64,
    /// Not before.
    pub start_date: Option<Timestamp>,
    /// Not after.
    pub end_date: Option<Timestamp>,
    /// What was found.
    #[field(readonly)]
    pub winning_variant_id: Option<Id>,
}

impl Rules for Experiment {
    fn scope() -> Option<Condition> {
        prompt::reach_of_prompt()
    }

    fn check(&self, faults: &mut Faults) {
        if let (Some(start), Some(end)) = (self.start_date, self.end_date)
            && end <= start
        {
            faults.add("endDate", "must be after startDate");
        }
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        let is_open = matches!(old.status, ExperimentStatus::Draft | ExperimentStatus::Paused);
        let words_only =
            Self { name: old.name.clone(), hypothesis: old.hypothesis.clone(), ..self.clone() } == old.data;
        if !is_open && !words_only {
            return Err(Problem::conflict(format!("It is {}: only its name and hypothesis can change.", old.status)));
        }
        // What was measured already must stay comparable.
        if old.status == ExperimentStatus::Paused && self.primary_metric != old.primary_metric {
            return Err(Problem::conflict("What decides cannot change once it has begun."));
        }
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if row.status == ExperimentStatus::Running {
            return Err(Problem::conflict("It is running; stop it first.").with_code("EXPERIMENT_RUNNING"));
        }
        transaction.execute("DELETE FROM prompt_variants WHERE experiment_id = $1", params![&row.id])?;
        Ok(())
    }
}

/// One of the texts.
#[entity(table = "prompt_variants", name = "variant", sort = "createdAt")]
pub struct Variant {
    /// The experiment.
    pub experiment_id: Id,
    /// For people.
    #[field(min = 1, max = 100, plain)]
    pub name: String,
    /// The version that it is.
    pub version_id: Option<Id>,
    /// Or a text of its own.
    #[field(min = 1, max = 100_000, raw)]
    pub custom_content: Option<String>,
    /// Its share of the total weight.
    #[field(default = 1, min = 0, max = 1_000_000)]
    pub weight: i64,
    /// What the others are compared with.
    #[field(default = false)]
    pub is_control: bool,
}

impl Rules for Variant {}

/// An experiment that runs, with everything that choosing a variant takes.
#[data]
pub struct Running {
    /// The experiment.
    pub id: Id,
    /// How many of a hundred users take part.
    pub traffic_percentage: i64,
    /// Not before.
    pub start_date: Option<Timestamp>,
    /// Not after.
    pub end_date: Option<Timestamp>,
    /// The variants, always in the same order.
    pub arms: Vec<Arm>,
}

impl Running {
    /// Whether users see it at this moment.
    pub fn runs_at(&self, now: Timestamp) -> bool {
        self.start_date.is_none_or(|start| start <= now) && self.end_date.is_none_or(|end| now < end)
    }
}

/// The variants of an experiment, always in the same order.
pub fn variants(database: &dyn Executor, experiment_id: &str) -> Result<Vec<Stored<Variant>>> {
    Select::<Variant>::new().equal("experiment_id", experiment_id).sort("id").limit(100).all(database)
}

/// The experiment that runs with a prompt.
pub fn running(prompt_id: &str) -> Result<Option<Running>> {
    let row = Select::<Experiment>::new()
        .equal("prompt_id", prompt_id)
        .equal("status", ExperimentStatus::Running)
        .first(&Pool)?;
    let Some(row) = row else { return Ok(None) };
    let variants = variants(&Pool, &row.id)?;
    let ids: Vec<Id> = variants.iter().filter_map(|variant| variant.version_id.clone()).collect();
    let versions = Select::<Version>::new().one_of("id", ids).limit(100).all(&Pool)?;
    let text = |id: &Id| {
        let version = versions.iter().find(|version| version.id == *id)?;
        Some(Text { id: version.id.clone(), version: version.data.version, content: version.content.clone() })
    };
    let arms = variants.iter().filter_map(|variant| {
        let version = variant.version_id.as_ref().and_then(text);
        let content = variant.custom_content.clone().or_else(|| version.as_ref().map(|text| text.content.clone()))?;
        Some(Arm { id: variant.id.clone(), weight: variant.weight, version, content })
    });
    Ok(Some(Running {
        id: row.id.clone(),
        traffic_percentage: row.traffic_percentage,
        start_date: row.start_date,
        end_date: row.end_date,
        arms: arms.collect(),
    }))
}

/// 422 unless the variants make an experiment: two or more, one of them the control, each with a weight and one text.
pub fn check(transaction: &Transaction, prompt_id: &Id, variants: &[Stored<Variant>]) -> Result<()> {
    let all: Vec<&Variant> = variants.iter().map(|variant| &variant.data).collect();
    shape(&all)?;
    for variant in &all {
        if let Some(content) = &variant.custom_content {
            Template::parse(content)?;
        }
        if let Some(version_id) = &variant.version_id {
            let version = entity::find::<Version>(transaction, version_id)?;
            let fits = |version: &Stored<Version>| {
                version.prompt_id == *prompt_id && version.status != VersionStatus::Archived
            };
            if !version.as_ref().is_some_and(fits) {
                return Err(refused(format!("The variant {} names no version of the prompt.", variant.name)));
            }
        }
    }
    Ok(())
}

fn refused(detail: String) -> Problem {
    Problem::unprocessable(detail).with_code("INVALID_EXPERIMENT")
}

fn shape(variants: &[&Variant]) -> Result<()> {
    if variants.len() < 2 {
        return Err(refused("It needs at least two variants.".into()));
    }
    if variants.iter().filter(|variant| variant.is_control).count() != 1 {
        return Err(refused("Exactly one variant must be the control.".into()));
    }
    if variants.iter().any(|variant| variant.weight <= 0) {
        return Err(refused("Every weight must be greater than 0.".into()));
    }
    if variants.iter().any(|variant| variant.version_id.is_some() == variant.custom_content.is_some()) {
        return Err(refused("Every variant needs either versionId or customContent.".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variant(weight: i64, is_control: bool, text: Option<&str>) -> Variant {
        Variant {
            experiment_id: "x1".into(),
            name: "n".into(),
            version_id: None,
            custom_content: text.map(Into::into),
            weight,
            is_control,
        }
    }

    #[test]
    fn an_experiment_has_two_texts_one_control_and_weights() {
        let of = |variants: &[Variant]| shape(&variants.iter().collect::<Vec<_>>()).err().map(|problem| problem.status);
        let (control, other) = (variant(1, true, Some("a")), variant(1, false, Some("b")));
        assert_eq!(of(&[control.clone(), other.clone()]), None);
        assert_eq!(of(std::slice::from_ref(&control)), Some(422));
        assert_eq!(of(&[control.clone(), control.clone()]), Some(422));
        assert_eq!(of(&[other.clone(), other]), Some(422));
        assert_eq!(of(&[control.clone(), variant(0, false, Some("b"))]), Some(422));
        assert_eq!(of(&[control, variant(1, false, None)]), Some(422));
    }
}
