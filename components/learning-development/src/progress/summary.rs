//! What the caller has learned in a while.

use std::time::Duration;

use berth_sdk::{database::Value, prelude::*};

use crate::standing::Kind;

const DAY: Duration = Duration::from_secs(86_400);
/// Days that are summed up when nothing is said.
const DAYS: u32 = 30;
/// The most days that are summed up.
const DAYS_MAX: u32 = 3_660;
/// Skills of a summary, those with the most minutes.
const SKILLS_MAX: usize = 50;

/// From when until when.
#[data]
pub struct Span {
    /// Not before; 30 days before the end when absent.
    from: Option<Timestamp>,
    /// Before; now when absent.
    to: Option<Timestamp>,
}

impl Span {
    /// The bounds; 400 when they are the wrong way round or too far apart.
    fn bounds(&self, now: Timestamp) -> Result<(Timestamp, Timestamp)> {
        let to = self.to.unwrap_or(now);
        let from = self.from.unwrap_or(to.minus(DAY * DAYS));
        if from >= to {
            return Err(Problem::field("from", "must be before to"));
        }
        if to.since(from) > DAY * DAYS_MAX {
            return Err(Problem::field("from", format!("must be at most {DAYS_MAX} days before to")));
        }
        Ok((from, to))
    }
}

/// What was done for a skill. Minutes of something for several skills count for each.
#[data]
pub struct SkillSummary {
    skill: String,
    minutes: i64,
    records: i64,
}

/// What was done.
#[data]
pub struct Summary {
    from: Timestamp,
    to: Timestamp,
    minutes: i64,
    /// How often something was recorded.
    records: i64,
    steps_completed: i64,
    resources_completed: i64,
    paths_completed: i64,
    /// Paths that the caller is on now.
    active_paths: i64,
    /// Those with the most minutes.
    skills: Vec<SkillSummary>,
}

#[data]
struct Total {
    minutes: i64,
    records: i64,
}

#[data]
struct Count {
    name: String,
    total: i64,
}

/// `GET /api/learning/progress/summary`.
pub fn read(Query(span): Query<Span>) -> Result<Json<Summary>> {
    let (from, to) = span.bounds(clock::now())?;
    let values: Vec<Value> = vec![auth::organization_id()?.into(), auth::user_id()?.into(), from.into(), to.into()];
    let within = "organization_id = $1 AND user_id = $2 AND recorded_at >= $3 AND recorded_at < $4";
    let sums = "CAST(COALESCE(SUM(minutes), 0) AS BIGINT) AS minutes, COUNT(*) AS records FROM learning_progress";
    let totals: Vec<Total> =
        database::query_as(&Pool, &format!("SELECT {sums} WHERE {within} AND skill IS NULL"), &values)?;
    let skills = database::query_as(
        &Pool,
        &format!(
            "SELECT skill, {sums} WHERE {within} AND skill IS NOT NULL GROUP BY skill \
             ORDER BY minutes DESC, records DESC, skill LIMIT {SKILLS_MAX}"
        ),
        &values,
    )?;
    let completed = "organization_id = $1 AND user_id = $2 AND completed_at >= $3 AND completed_at < $4";
    let counts: Vec<Count> = database::query_as(
        &Pool,
        &format!(
            "SELECT kind AS name, COUNT(*) AS total FROM learning_standings WHERE {completed} GROUP BY kind \
             UNION ALL SELECT 'path' AS name, COUNT(*) AS total FROM learning_enrollments WHERE {completed} \
             UNION ALL SELECT 'active' AS name, COUNT(*) AS total FROM learning_enrollments \
             WHERE organization_id = $1 AND user_id = $2 AND status = 'active'"
        ),
        &values,
    )?;
    let count = |name: &str| counts.iter().find(|count| count.name == name).map_or(0, |count| count.total);
    let total = totals.into_iter().next().unwrap_or(Total { minutes: 0, records: 0 });
    Ok(Json(Summary {
        from,
        to,
        minutes: total.minutes,
        records: total.records,
        steps_completed: count(Kind::Step.as_str()),
        resources_completed: count(Kind::Resource.as_str()),
        paths_completed: count("path"),
        active_paths: count("active"),
        skills,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_of_the_last_month_unless_something_else_is_said() {
        let at = |days: u32| Timestamp::from_millis(0).plus(DAY * days);
        let span = |from: Option<u32>, to: Option<u32>| Span { from: from.map(at), to: to.map(at) }.bounds(at(5_000));
        assert_eq!(span(None, None).unwrap(), (at(4_970), at(5_000)));
        assert_eq!(span(None, Some(40)).unwrap(), (at(10), at(40)));
        assert_eq!(span(Some(40), Some(40)).unwrap_err().errors[0].field, "from");
        assert_eq!(span(Some(0), None).unwrap_err().errors[0].field, "from");
    }
}
