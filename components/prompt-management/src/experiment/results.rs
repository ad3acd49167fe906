//! What an experiment shows so far, read from its runs in one query.

use berth_sdk::prelude::*;

use super::{
    Experiment, ExperimentStatus,
    statistics::{self, Estimate, Metric, Sample},
    variants,
};

/// What one variant shows.
#[data]
pub struct Outcome {
    /// The variant.
    pub variant_id: Id,
    /// Its name.
    pub name: String,
    /// Whether the others are compared with it.
    pub is_control: bool,
    /// Runs, whatever is known of them.
    pub executions: i64,
    /// Runs that count for the primary metric.
    pub samples: i64,
    /// The primary metric with its 95 % interval; none without samples.
    pub primary: Option<Estimate>,
    /// How often it went well.
    pub success_rate: Option<Estimate>,
    /// How long it took, in milliseconds.
    pub latency_ms: Option<Estimate>,
    /// How often it was rated 4 or 5.
    pub liked_rate: Option<Estimate>,
    /// The mean rating, from 1 to 5.
    pub average_rating: Option<f64>,
}

/// What an experiment shows.
#[data]
pub struct Results {
    /// The experiment.
    pub experiment_id: Id,
    /// How far it has come.
    pub status: ExperimentStatus,
    /// What decides.
    pub primary_metric: Metric,
    /// How many each variant needs.
    pub min_samples: i64,
    /// Whether every variant has as many.
    pub has_enough_samples: bool,
    /// `winner` or `inconclusive`.
    pub conclusion: String,
    /// The variant that is better than all others.
    pub winner: Option<Id>,
    /// True while it can still change: looking often and stopping at the first winner finds winners that are none.
    pub is_preliminary: bool,
    /// The variants.
    pub variants: Vec<Outcome>,
}

#[data]
struct Line {
    variant_id: Id,
    executions: i64,
    outcomes: i64,
    successes: i64,
    ratings: i64,
    liked: i64,
    rating_sum: i64,
    timed: i64,
    latency_sum: f64,
    latency_squares: f64,
}

/// The results of an experiment.
pub fn of(database: &dyn Executor, row: &Stored<Experiment>) -> Result<Results> {
    let variants = variants(database, &row.id)?;
    let lines: Vec<Line> = database::query_as(
        database,
        &format!(
            "SELECT variant_id AS \"variantId\", COUNT(*) AS executions, COUNT(was_successful) AS outcomes, \
             COALESCE(SUM(CASE WHEN was_successful = $3 THEN 1 ELSE 0 END), 0) AS successes, \
             COUNT(user_rating) AS ratings, \
             COALESCE(SUM(CASE WHEN user_rating >= {} THEN 1 ELSE 0 END), 0) AS liked, \
             CAST(COALESCE(SUM(user_rating), 0) AS BIGINT) AS \"ratingSum\", COUNT(latency_ms) AS timed, \
             COALESCE(SUM(CAST(latency_ms AS DOUBLE PRECISION)), 0.0) AS \"latencySum\", \
             COALESCE(SUM(CAST(latency_ms AS DOUBLE PRECISION) * CAST(latency_ms AS DOUBLE PRECISION)), 0.0) AS \"latencySquares\" \
             FROM prompt_executions WHERE organization_id = $1 AND experiment_id = $2 AND variant_id IS NOT NULL \
             GROUP BY variant_id",
            statistics::LIKED_FROM
        ),
        params![auth::organization_id()?, &row.id, true],
    )?;
    let line = |id: &Id| lines.iter().find(|line| line.variant_id == *id);
    let samples: Vec<Sample> =
        variants.iter().map(|variant| line(&variant.id).map_or_else(Sample::default, sample)).collect();
    let metric = row.primary_metric;
    let winner = statistics::winner(&samples, metric, row.min_samples);
    let outcomes = variants.iter().zip(&samples).map(|(variant, sample)| {
        let line = line(&variant.id);
        Outcome {
            variant_id: variant.id.clone(),
            name: variant.name.clone(),
            is_control: variant.is_control,
            executions: line.map_or(0, |line| line.executions),
            samples: sample.size(metric),
            primary: sample.estimate(metric),
            success_rate: sample.estimate(Metric::SuccessRate),
            latency_ms: sample.estimate(Metric::Latency),
            liked_rate: sample.estimate(Metric::UserRating),
            average_rating: line.and_then(average_rating),
        }
    });
    Ok(Results {
        experiment_id: row.id.clone(),
        status: row.status,
        primary_metric: metric,
        min_samples: row.min_samples,
        has_enough_samples: !samples.is_empty() && samples.iter().all(|sample| sample.size(metric) >= row.min_samples),
        conclusion: if winner.is_some() { "winner".into() } else { "inconclusive".into() },
        winner: winner.and_then(|index| variants.get(index)).map(|variant| variant.id.clone()),
        is_preliminary: row.status != ExperimentStatus::Completed,
        variants: outcomes.collect(),
    })
}

fn sample(line: &Line) -> Sample {
    Sample {
        outcomes: line.outcomes,
        successes: line.successes,
        ratings: line.ratings,
        liked: line.liked,
        timed: line.timed,
        latency_sum: line.latency_sum,
        latency_squares: line.latency_squares,
    }
}

#[expect(clippy::cast_precision_loss, reason = "ratings are few and small")]
fn average_rating(line: &Line) -> Option<f64> {
    (line.ratings > 0).then(|| line.rating_sum as f64 / line.ratings as f64)
}
