//! What ideas amount to.

use std::collections::BTreeMap;

use berth_sdk::{database::Value, prelude::*};

use super::status::IdeaStatus;
use crate::project;

/// The most categories and authors that are named.
const NAMED_MAX: usize = 20;

/// Which ideas and which time count.
#[data]
pub struct Wanted {
    /// Submitted, or spent, not before.
    from: Option<Timestamp>,
    /// Before.
    to: Option<Timestamp>,
    /// Of this project.
    project_id: Option<Id>,
}

/// Something by its name and how often it is there.
#[data]
pub struct Count {
    name: String,
    total: i64,
}

/// How people voted.
#[data]
pub struct Votes {
    /// For ideas.
    up: i64,
    /// Against ideas.
    down: i64,
}

/// What came of ideas.
#[data]
pub struct Conversions {
    /// Those with a task.
    tasks: i64,
    /// Those with a roadmap item.
    roadmap_items: i64,
    /// Those with an experiment.
    experiments: i64,
    /// The share of ideas that became anything, from 0 to 1; none without ideas.
    rate: Option<f64>,
}

/// How much time was spent.
#[data]
pub struct Spent {
    /// In all.
    minutes: i64,
    /// By how many.
    people: i64,
    /// On ideas that are named; the rest on ideas in general.
    minutes_on_ideas: i64,
}

/// What `GET /api/innovation/metrics` answers.
#[data]
pub struct Metrics {
    /// Ideas.
    ideas: i64,
    /// By where they stand; every status is there.
    by_status: BTreeMap<String, i64>,
    /// By what they are about, most first.
    by_category: Vec<Count>,
    /// Who had most of them; by user id.
    top_authors: Vec<Count>,
    /// Votes on them.
    votes: Votes,
    /// What came of them.
    conversions: Conversions,
    /// The mean of their scores as numbers; none while none is scored.
    average_score: Option<f64>,
    /// Time that was spent.
    time: Spent,
}

#[data]
struct Totals {
    ideas: i64,
    up: Option<i64>,
    down: Option<i64>,
    tasks: Option<i64>,
    roadmap_items: Option<i64>,
    experiments: Option<i64>,
    converted: Option<i64>,
    average_score: Option<f64>,
}

/// `GET /api/innovation/metrics`.
pub fn metrics(Query(wanted): Query<Wanted>) -> Result<Json<Metrics>> {
    let totals = totals(&wanted)?;
    let mut by_status: BTreeMap<String, i64> = IdeaStatus::ALL.iter().map(|status| (status.to_string(), 0)).collect();
    by_status.extend(counts(&wanted, "status")?.into_iter().map(|count| (count.name, count.total)));
    Ok(Json(Metrics {
        ideas: totals.ideas,
        by_status,
        by_category: counts(&wanted, "category")?,
        top_authors: counts(&wanted, "author_id")?,
        votes: Votes { up: totals.up.unwrap_or(0), down: totals.down.unwrap_or(0) },
        conversions: Conversions {
            tasks: totals.tasks.unwrap_or(0),
            roadmap_items: totals.roadmap_items.unwrap_or(0),
            experiments: totals.experiments.unwrap_or(0),
            rate: rate(totals.converted.unwrap_or(0), totals.ideas),
        },
        average_score: totals.average_score,
        time: spent(&wanted)?,
    }))
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn rate(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The ideas that count, as the end of a statement.
fn counted(wanted: &Wanted, values: &mut Vec<Value>) -> Result<String> {
    values.push(auth::organization_id()?.into());
    let mut sql = String::from("innovation_ideas.organization_id = $1");
    let mut and = |condition: &str, value: Value| {
        values.push(value);
        sql.push_str(&format!(" AND innovation_ideas.{condition} ${}", values.len()));
    };
    if let Some(from) = wanted.from {
        and("created_at >=", from.into());
    }
    if let Some(to) = wanted.to {
        and("created_at <", to.into());
    }
    if let Some(project_id) = &wanted.project_id {
        and("project_id =", project_id.into());
    }
    sql.push_str(&project::and_within("innovation_ideas", values));
    Ok(sql)
}

fn totals(wanted: &Wanted) -> Result<Totals> {
    let mut values = Vec::new();
    let counted = counted(wanted, &mut values)?;
    let there = |column: &str| format!("CAST(SUM(CASE WHEN {column} IS NULL THEN 0 ELSE 1 END) AS BIGINT)");
    let sql = format!(
        "SELECT COUNT(*) AS ideas, CAST(SUM(up_votes) AS BIGINT) AS up, CAST(SUM(down_votes) AS BIGINT) AS down, \
         {} AS tasks, {} AS \"roadmapItems\", {} AS experiments, {} AS converted, AVG(score_value) AS \"averageScore\" \
         FROM innovation_ideas WHERE {counted}",
        there("linked_task_id"),
        there("linked_roadmap_item"),
        there("experiment_id"),
        there("COALESCE(linked_task_id, linked_roadmap_item, experiment_id)"),
    );
    let rows: Vec<Totals> = database::query_as(&Pool, &sql, &values)?;
    rows.into_iter().next().ok_or_else(Problem::internal)
}

/// Ideas by what a column says, most first.
fn counts(wanted: &Wanted, column: &str) -> Result<Vec<Count>> {
    let mut values = Vec::new();
    let counted = counted(wanted, &mut values)?;
    let sql = format!(
        "SELECT {column} AS name, COUNT(*) AS total FROM innovation_ideas WHERE {counted} AND {column} IS NOT NULL \
         GROUP BY {column} ORDER BY COUNT(*) DESC, {column} LIMIT {NAMED_MAX}"
    );
    Ok(database::query_as(&Pool, &sql, &values)?)
}

fn spent(wanted: &Wanted) -> Result<Spent> {
    let mut values = vec![auth::organization_id()?.into()];
    let mut sql = String::from("innovation_time.organization_id = $1");
    let mut and = |condition: &str, value: Value| {
        values.push(value);
        sql.push_str(&format!(" AND {}", condition.replace('?', &format!("${}", values.len()))));
    };
    let day = |at: Timestamp| at.to_string().chars().take(10).collect::<String>();
    if let Some(from) = wanted.from {
        and("innovation_time.\"date\" >= ?", day(from).into());
    }
    if let Some(to) = wanted.to {
        and("innovation_time.\"date\" < ?", day(to).into());
    }
    if let Some(project_id) = &wanted.project_id {
        and("innovation_ideas.project_id = ?", project_id.into());
    }
    // Time on an idea is seen as the idea is; time on ideas in general by everybody, as a sum.
    sql.push_str(&project::and_within("innovation_ideas", &mut values));
    let sql = format!(
        "SELECT CAST(COALESCE(SUM(innovation_time.minutes), 0) AS BIGINT) AS minutes, \
         COUNT(DISTINCT innovation_time.user_id) AS people, CAST(COALESCE(SUM(CASE WHEN innovation_time.idea_id IS NULL \
         THEN 0 ELSE innovation_time.minutes END), 0) AS BIGINT) AS \"minutesOnIdeas\" FROM innovation_time \
         LEFT JOIN innovation_ideas ON innovation_ideas.id = innovation_time.idea_id WHERE {sql}"
    );
    let rows: Vec<Spent> = database::query_as(&Pool, &sql, &values)?;
    rows.into_iter().next().ok_or_else(Problem::internal)
}

#[cfg(test)]
mod tests {
    use super::rate;

    #[test]
    fn a_share_of_nothing_is_none() {
        assert_eq!((rate(1, 4), rate(0, 0)), (Some(0.25), None));
    }
}
