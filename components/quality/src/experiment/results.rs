//! What an experiment shows, counted by the database: one figure for each subject and metric, as values of the same subject are
//! not independent of each other.

use berth_sdk::{prelude::*, serde_json::Value};
use experiment_rules::{mean::Moments, ratio};

use super::{
    Experiment, ExperimentStatus, MetricKind, Variant,
    judge::{self, Conclusion, Design, Group, Measured, MetricResult},
    variants,
};

/// Below it the sizes of the groups are no chance: something else than the draw decides who is in them.
const MISMATCH_BELOW: f64 = 0.001;

/// What an experiment shows.
#[data]
pub struct Results {
    /// The experiment.
    pub experiment_id: Id,
    /// How far it has come.
    pub status: ExperimentStatus,
    /// When this was counted.
    pub computed_at: Timestamp,
    /// What the primary metric comes to.
    pub conclusion: Conclusion,
    /// The variant that the figures have made the winner: not before every variant has enough subjects and the end has come.
    pub winner: Option<Id>,
    /// True while it can still change: looking often and stopping at the first difference finds differences that are none.
    pub is_preliminary: bool,
    /// Whether the end that was set has come.
    pub has_ended: bool,
    /// Subjects that each variant needs.
    pub min_sample_size: i64,
    /// How often a difference that is none may be taken for one.
    pub significance: f64,
    /// Of every interval.
    pub confidence_level: f64,
    /// Who takes part.
    pub assignments: Assignments,
    /// The primary metric first.
    pub metrics: Vec<MetricResult>,
}

/// Who takes part.
#[data]
pub struct Assignments {
    /// Subjects in all variants.
    pub total: i64,
    /// Subjects of each variant.
    pub variants: Vec<Size>,
    /// Of the chi-squared test of these sizes against the weights; none while nobody takes part.
    pub p_value: Option<f64>,
    /// Whether they are so far from the weights that no comparison can be trusted. There is no winner then.
    pub is_mismatch: bool,
}

/// How large a variant is.
#[data]
pub struct Size {
    /// The variant.
    pub variant_id: Id,
    /// Its share of the total weight.
    pub weight: i64,
    /// Subjects.
    pub subjects: i64,
}

/// What was kept when an experiment ended.
#[entity(table = "experiment_results", name = "result")]
pub struct Snapshot {
    /// The experiment.
    pub experiment_id: Id,
    /// When it was counted.
    pub computed_at: Timestamp,
    /// A [`Results`].
    pub summary: Value,
}

impl Rules for Snapshot {}

/// `GET /api/experiments/{id}/results`: what is there so far, and of a completed experiment what was kept at its end, together
/// with what was decided.
pub(super) fn read(Params(id): Params<Id>) -> Result<Json<Value>> {
    let row = super::read(&id)?;
    let kept = match row.status {
        ExperimentStatus::Completed => {
            Select::<Snapshot>::new().equal("experiment_id", &row.id).sort("-computedAt").first(&Pool)?
        }
        _ => None,
    };
    let mut shown = match kept {
        Some(snapshot) => snapshot.data.summary,
        None => json!(compute(&Pool, &row, clock::now())?),
    };
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("winnerVariantId".into(), json!(row.winner_variant_id));
        shown.insert("conclusionText".into(), json!(row.conclusion));
    }
    Ok(Json(shown))
}

/// Keeps what a completed experiment shows.
pub(super) fn keep(transaction: &Transaction, row: &Stored<Experiment>, shown: &Results) -> Result<()> {
    let kept = Results { status: row.status, is_preliminary: false, ..shown.clone() };
    let snapshot = Snapshot { experiment_id: row.id.clone(), computed_at: shown.computed_at, summary: json!(kept) };
    entity::create(transaction, snapshot)?;
    Ok(())
}

/// Counts and judges.
pub(super) fn compute(database: &dyn Executor, row: &Stored<Experiment>, now: Timestamp) -> Result<Results> {
    let variants = variants(database, &row.id)?;
    let assignments = assignments(database, &row.id, &variants)?;
    let has_ended = row.end_at.is_some_and(|end| end <= now);
    let design = Design {
        min_sample_size: row.min_sample_size,
        significance: row.significance,
        goal: row.goal,
        has_ended: has_ended && !assignments.is_mismatch,
    };
    let mut metrics = Vec::new();
    for (place, metric) in row.metrics().enumerate() {
        let (kind, groups) = measure(database, row, metric, &variants, &assignments)?;
        metrics.push(judge::judge(design, metric, place == 0, kind, &groups));
    }
    let primary = metrics.first();
    Ok(Results {
        experiment_id: row.id.clone(),
        status: row.status,
        computed_at: now,
        conclusion: primary.map_or(Conclusion::InsufficientData, |metric| metric.conclusion),
        winner: primary.and_then(|metric| judge::winner(design, metric)),
        is_preliminary: !matches!(row.status, ExperimentStatus::Completed | ExperimentStatus::Cancelled),
        has_ended,
        min_sample_size: row.min_sample_size,
        significance: row.significance,
        confidence_level: 0.95,
        assignments,
        metrics,
    })
}

fn assignments(database: &dyn Executor, experiment_id: &Id, variants: &[Stored<Variant>]) -> Result<Assignments> {
    #[data]
    struct Line {
        variant_id: Id,
        subjects: i64,
    }
    let lines: Vec<Line> = database::query_as(
        database,
        "SELECT variant_id AS \"variantId\", COUNT(*) AS subjects FROM experiment_assignments WHERE organization_id = $1 \
         AND experiment_id = $2 GROUP BY variant_id",
        params![auth::organization_id()?, experiment_id],
    )?;
    let subjects = |id: &Id| lines.iter().find(|line| line.variant_id == *id).map_or(0, |line| line.subjects);
    let sizes: Vec<Size> = variants
        .iter()
        .map(|row| Size { variant_id: row.id.clone(), weight: row.weight, subjects: subjects(&row.id) })
        .collect();
    let counts: Vec<i64> = sizes.iter().map(|size| size.subjects).collect();
    let weights: Vec<i64> = sizes.iter().map(|size| size.weight).collect();
    let p_value = ratio::p_value(&counts, &weights);
    Ok(Assignments {
        total: counts.iter().sum(),
        variants: sizes,
        p_value,
        is_mismatch: p_value.is_some_and(|p_value| p_value < MISMATCH_BELOW),
    })
}

/// Of each subject one figure: whether it ever had a 1, and the mean of its values.
const SUBJECTS: &str = "SELECT variant_id, subject_id, AVG(value) AS own, MAX(value) AS top, \
     SUM(CASE WHEN value = 0 OR value = 1 THEN 0 ELSE 1 END) AS other FROM experiment_metrics \
     WHERE organization_id = $1 AND experiment_id = $2 AND metric = $3 GROUP BY variant_id, subject_id";

/// What was measured of one metric.
fn measure(
    database: &dyn Executor,
    row: &Stored<Experiment>,
    metric: &str,
    variants: &[Stored<Variant>],
    assignments: &Assignments,
) -> Result<(MetricKind, Vec<Group>)> {
    #[data]
    struct Line {
        variant_id: Id,
        samples: i64,
        successes: i64,
        other: i64,
        mean: f64,
    }
    let organization_id = auth::organization_id()?;
    let lines: Vec<Line> = database::query_as(
        database,
        &format!(
            "SELECT variant_id AS \"variantId\", COUNT(*) AS samples, SUM(CASE WHEN top >= 1 THEN 1 ELSE 0 END) AS successes, \
             CAST(SUM(other) AS BIGINT) AS other, AVG(own) AS mean FROM ({SUBJECTS}) AS subjects GROUP BY variant_id"
        ),
        params![&organization_id, &row.id, metric],
    )?;
    let kind =
        row.metric_kinds.get(metric).copied().unwrap_or_else(|| {
            if lines.iter().all(|line| line.other == 0) { MetricKind::Rate } else { MetricKind::Mean }
        });
    let line = |id: &Id| lines.iter().find(|line| line.variant_id == *id);
    let mut groups = Vec::new();
    for (variant, size) in variants.iter().zip(&assignments.variants) {
        let (samples, successes) = line(&variant.id).map_or((0, 0), |line| (line.samples, line.successes));
        let measured = match kind {
            MetricKind::Rate => Measured::Share { successes, samples },
            MetricKind::Conversion => Measured::Share { successes, samples: size.subjects },
            MetricKind::Mean => Measured::Amount(match line(&variant.id) {
                Some(line) => moments(database, &organization_id, row, metric, (&variant.id, line.mean))?,
                None => Moments::default(),
            }),
        };
        let (variant_id, name) = (variant.id.clone(), variant.name.clone());
        groups.push(Group { variant_id, name, is_control: variant.is_control, measured });
    }
    Ok((kind, groups))
}

/// Mean and variance of a variant's subjects, from sums around a value that is near the mean: those around 0 would keep no
/// digits where values are large and alike.
fn moments(
    database: &dyn Executor,
    organization_id: &Id,
    row: &Stored<Experiment>,
    metric: &str,
    (variant_id, shift): (&Id, f64),
) -> Result<Moments> {
    let sums = database.query_one(
        &format!(
            "SELECT COUNT(*) AS samples, COALESCE(SUM(own - $5), 0.0) AS sum, COALESCE(SUM((own - $5) * (own - $5)), 0.0) AS squares \
             FROM ({SUBJECTS}) AS subjects WHERE variant_id = $4"
        ),
        params![organization_id, &row.id, metric, variant_id, shift],
    )?;
    let Some(sums) = sums else { return Ok(Moments::default()) };
    Ok(Moments::shifted(shift, sums.get("samples")?, sums.get("sum")?, sums.get("squares")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_was_shown() {
        let shown = Results {
            experiment_id: "x1".into(),
            status: ExperimentStatus::Completed,
            computed_at: Timestamp::parse("2026-01-01T00:00:00Z").unwrap(),
            conclusion: Conclusion::InsufficientData,
            winner: None,
            is_preliminary: false,
            has_ended: true,
            min_sample_size: 10,
            significance: 0.05,
            confidence_level: 0.95,
            assignments: Assignments { total: 0, variants: Vec::new(), p_value: None, is_mismatch: false },
            metrics: Vec::new(),
        };
        let text = json!(shown);
        assert_eq!(text["conclusion"], "insufficient_data");
        assert_eq!(berth_sdk::serde_json::from_value::<Results>(text).unwrap(), shown);
    }
}
