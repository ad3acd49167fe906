//! `POST /api/capacity/forecast`: what is coming, week by week. What is planned is known; what will be planned is guessed from
//! how much of their time people usually have planned.

use std::collections::BTreeMap;

use berth_sdk::prelude::*;
use time_rules::day::{Day, Span};

use super::figures::{Figures, WeekFigures, weeks};
use crate::{
    load,
    profile::Profile,
    workload::{Sum, rounded},
};

/// The most people of one question.
const USERS_MAX: usize = 50;
/// Days of a month here: whole weeks, so that nothing is cut.
const DAYS_PER_MONTH: u64 = 31;
/// Past weeks that say what is usual.
const WEEKS_REMEMBERED: u64 = 12;

/// What is asked.
#[data]
pub struct Question {
    /// People; oneself when there is no team either.
    #[field(max = 50)]
    user_ids: Option<Vec<Id>>,
    /// Or a team.
    team_id: Option<Id>,
    /// How far ahead.
    #[field(min = 1, max = 3)]
    months: i64,
}

/// A week of everybody who was asked for.
#[data]
struct Week {
    week_start: Day,
    hours: Figures,
    overallocation_hours: f64,
    /// What will be planned, if it goes on as usual: never less than what is planned already.
    expected_hours: f64,
}

/// One person's.
#[data]
struct Person {
    user_id: Id,
    /// How much of their time was planned in the last twelve weeks that are on record; null without any.
    usual_utilization: Option<f64>,
    /// Of all the weeks.
    hours: Figures,
    weeks: Vec<WeekFigures>,
}

/// What is answered.
#[data]
pub struct Forecast {
    from: Day,
    to: Day,
    weeks: Vec<Week>,
    people: Vec<Person>,
}

/// The route.
pub fn answer(Json(question): Json<Question>) -> Result<Json<Forecast>> {
    let own = auth::user_id()?;
    let users = super::asked(question.user_ids.as_deref(), question.team_id.as_ref())?;
    let users = users.filter(|users| !users.is_empty()).unwrap_or_else(|| [own.clone()].into());
    if users.len() > USERS_MAX {
        let detail = format!("A forecast is made for at most {USERS_MAX} people.");
        return Err(Problem::unprocessable(detail).with_code("RANGE_TOO_LARGE"));
    }
    let from = Profile::or_usual(&Pool, &own)?.today().monday();
    let days = u64::try_from(question.months).unwrap_or(1) * DAYS_PER_MONTH;
    let span = Span::new(from, from.plus(days).monday().plus(6));
    let usual = usual(from)?;
    let mut found = Vec::new();
    let mut sums: BTreeMap<Day, (Sum, f64, f64, f64)> = BTreeMap::new();
    for (user_id, person) in load::people(&Pool, &users, span)? {
        let usual_utilization = usual.get(user_id.as_str()).copied();
        let weeks = weeks(&person.workload, span);
        for week in &weeks {
            let sum = person.workload.sum(Span::week(week.week_start));
            let (all, overload, expected, available) = sums.entry(week.week_start).or_default();
            *all = all.and(sum);
            *overload += week.overallocation_hours;
            *expected += sum.allocated.max(sum.capacity() * usual_utilization.unwrap_or(0.0));
            *available += sum.available();
        }
        found.push(Person { user_id, usual_utilization, hours: person.workload.sum(span).into(), weeks });
    }
    let weeks = sums.into_iter().map(|(week_start, (sum, overload, expected, available))| Week {
        week_start,
        // What one has left does not help another one: each person's is counted by itself.
        hours: Figures { available: rounded(available), ..sum.into() },
        overallocation_hours: rounded(overload),
        expected_hours: rounded(expected),
    });
    Ok(Json(Forecast { from: span.first, to: span.last, weeks: weeks.collect(), people: found }))
}

/// How much of their time everybody had planned lately; of those of whom there are snapshots.
fn usual(before: Day) -> Result<BTreeMap<String, f64>> {
    #[data]
    struct Remembered {
        user_id: String,
        total: f64,
        allocated: f64,
    }
    let sql = "SELECT user_id AS \"userId\", SUM(total) AS \"total\", SUM(allocated) AS \"allocated\" FROM capacity_snapshots \
               WHERE organization_id = $1 AND user_id IS NOT NULL AND week_start >= $2 AND week_start < $3 GROUP BY user_id \
               ORDER BY user_id LIMIT 5000";
    let values = params![auth::organization_id()?, before.minus(WEEKS_REMEMBERED * 7), before];
    let rows: Vec<Remembered> = database::query_as(&Pool, sql, values)?;
    let share = |row: Remembered| {
        let sum = Sum { base: row.total, allocated: row.allocated, ..Sum::default() };
        (row.user_id, rounded(sum.utilization()))
    };
    Ok(rows.into_iter().map(share).collect())
}
