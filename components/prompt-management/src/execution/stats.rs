//! How a prompt does: in all, and by version. One query.

use berth_sdk::prelude::*;

use crate::{
    experiment::statistics::{Estimate, wilson},
    prompt,
};

/// The figures of one version, or of all.
#[data]
#[derive(Default)]
pub struct Figures {
    /// Uses.
    pub executions: i64,
    /// Those with a known outcome.
    pub outcomes: i64,
    /// Those that went well.
    pub successes: i64,
    /// How often it went well, with its 95 % interval; none without outcomes.
    pub success_rate: Option<Estimate>,
    /// The mean duration.
    pub average_latency_ms: Option<f64>,
    /// The mean rating.
    pub average_rating: Option<f64>,
    /// Ratings.
    pub ratings: i64,
    /// Tokens of the questions.
    pub input_tokens: i64,
    /// Tokens of the answers.
    pub output_tokens: i64,
}

/// The figures of a version.
#[data]
pub struct VersionFigures {
    version_id: Id,
    figures: Figures,
}

/// How a prompt does.
#[data]
pub struct Stats {
    prompt_id: Id,
    total: Figures,
    by_version: Vec<VersionFigures>,
}

/// What counts.
#[data]
pub struct StatsQuery {
    /// From this moment on.
    from: Option<Timestamp>,
    /// Before this moment.
    to: Option<Timestamp>,
}

#[data]
struct Line {
    version_id: Id,
    executions: i64,
    outcomes: i64,
    successes: i64,
    timed: i64,
    latency_sum: f64,
    ratings: i64,
    rating_sum: i64,
    input_tokens: i64,
    output_tokens: i64,
}

/// `GET /api/prompts/{id}/stats`.
pub fn stats(Params(id): Params<Id>, Query(wish): Query<StatsQuery>) -> Result<Json<Stats>> {
    let prompt = prompt::named(&Pool, &id)?;
    let from = wish.from.unwrap_or_else(|| Timestamp::from_millis(0));
    let to = wish.to.unwrap_or_else(|| Timestamp::from_millis(i64::MAX));
    let lines: Vec<Line> = database::query_as(
        &Pool,
        "SELECT version_id AS \"versionId\", COUNT(*) AS executions, COUNT(was_successful) AS outcomes, \
         COALESCE(SUM(CASE WHEN was_successful = $5 THEN 1 ELSE 0 END), 0) AS successes, COUNT(latency_ms) AS timed, \
         COALESCE(SUM(CAST(latency_ms AS DOUBLE PRECISION)), 0.0) AS \"latencySum\", COUNT(user_rating) AS ratings, \
         CAST(COALESCE(SUM(user_rating), 0) AS BIGINT) AS \"ratingSum\", \
         CAST(COALESCE(SUM(input_tokens), 0) AS BIGINT) AS \"inputTokens\", \
         CAST(COALESCE(SUM(output_tokens), 0) AS BIGINT) AS \"outputTokens\" \
         FROM prompt_executions WHERE organization_id = $1 AND prompt_id = $2 AND executed_at >= $3 AND executed_at < $4 \
         GROUP BY version_id ORDER BY version_id",
        params![auth::organization_id()?, &prompt.id, from, to, true],
    )?;
    let by_version = lines
        .iter()
        .map(|line| VersionFigures {
            version_id: line.version_id.clone(),
            figures: figures(std::slice::from_ref(line)),
        })
        .collect();
    Ok(Json(Stats { prompt_id: prompt.id.clone(), total: figures(&lines), by_version }))
}

fn figures(lines: &[Line]) -> Figures {
    let sum = |of: fn(&Line) -> i64| lines.iter().map(of).sum::<i64>();
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let mean = |total: f64, count: i64| (count > 0).then(|| total / count as f64);
    let (outcomes, successes, ratings) =
        (sum(|line| line.outcomes), sum(|line| line.successes), sum(|line| line.ratings));
    #[expect(clippy::cast_precision_loss, reason = "ratings are few and small")]
    let rating_sum = sum(|line| line.rating_sum) as f64;
    Figures {
        executions: sum(|line| line.executions),
        outcomes,
        successes,
        success_rate: wilson(successes, outcomes),
        average_latency_ms: mean(lines.iter().map(|line| line.latency_sum).sum(), sum(|line| line.timed)),
        average_rating: mean(rating_sum, ratings),
        ratings,
        input_tokens: sum(|line| line.input_tokens),
        output_tokens: sum(|line| line.output_tokens),
    }
}
