//! Alerts: weeks in which somebody has more to do than they can. They follow whatever changes somebody's time.

use std::collections::BTreeMap;

use berth_sdk::{events::Message, prelude::*};
use time_rules::day::{Day, Span};

use crate::{
    allocation::DAYS_MAX,
    load,
    pages::page_of,
    profile::Profile,
    rights,
    workload::{NOTHING, rounded},
};

const PATH: &str = "/api/capacity/overallocations";

/// What becomes of an alert.
#[choice]
pub enum AlertStatus {
    /// Nobody has taken it up.
    Open,
    /// Somebody knows.
    Acknowledged,
    /// The week fits again, or is over.
    Resolved,
}

/// A week in which somebody has too much to do.
#[entity(table = "capacity_alerts", name = "alert", sort = "weekStart")]
pub struct Alert {
    /// Who.
    pub user_id: Id,
    /// Its Monday.
    pub week_start: Day,
    /// The hours that cannot be worked in it, whatever their order.
    pub overallocation_hours: f64,
    /// What became of it.
    pub status: AlertStatus,
}

impl Rules for Alert {}

/// The routes.
pub fn routes() -> Router {
    Router::new()
        .get(PATH, list)
        .summary("List people and weeks with too much to do; those that are resolved only with status=resolved.")
        .lists::<Alert>()
        .post(&format!("{PATH}/{{id}}/acknowledge"), acknowledge)
        .summary("Note that somebody knows of an overallocation.")
}

/// What the list can be narrowed by.
#[data]
struct Filter {
    /// Weeks from this day on.
    from: Option<Day>,
    /// Weeks until this day.
    to: Option<Day>,
    /// People of this team.
    team_id: Option<Id>,
}

fn list(
    Query(filter): Query<Filter>,
    query: PageQuery,
) -> Result<Json<Page<berth_sdk::serde_json::Map<String, berth_sdk::serde_json::Value>>>> {
    let mut select = Select::<Alert>::new();
    if query.filter("status").is_none() {
        select = select.condition("status <> ?", ["resolved"]);
    }
    if let Some(from) = filter.from {
        select = select.condition("week_start >= ?", [from.monday()]);
    }
    if let Some(to) = filter.to {
        select = select.condition("week_start <= ?", [to]);
    }
    if let Some(team_id) = &filter.team_id {
        select = select.one_of("user_id", people::team(team_id)?);
    }
    Ok(Json(page_of(select, &query)?))
}

fn acknowledge(Params(id): Params<Id>, if_match: IfMatch) -> Result<Stored<Alert>> {
    let user_id = entity::read::<Alert>(&Pool, &id)?.user_id.clone();
    if !rights::is_concerned(&user_id)? {
        return Err(Problem::forbidden("An alert is taken up by whom it is about, or by who leads them."));
    }
    database::transaction(|transaction| {
        let mut row = entity::read::<Alert>(transaction, &id)?;
        if_match.check(row.version)?;
        match row.status {
            AlertStatus::Resolved => Err(Problem::conflict("It is resolved already.").with_code("ILLEGAL_TRANSITION")),
            AlertStatus::Acknowledged => Ok(row),
            AlertStatus::Open => {
                row.status = AlertStatus::Acknowledged;
                entity::save(transaction, &mut row)?;
                Ok(row)
            }
        }
    })
}

/// Looks at somebody's weeks that some days are in, as they are within this transaction, from the present one on.
pub fn review(transaction: &Transaction, user_id: &Id, span: Span) -> Result<()> {
    let today = Profile::or_usual(transaction, user_id)?.today();
    let weeks = Span::new(span.first.max(today).monday(), span.last.monday().plus(6));
    if weeks.is_empty() || span.last < weeks.first {
        return Ok(());
    }
    let workload = load::person(transaction, user_id, weeks)?.workload;
    let rows = Select::<Alert>::new()
        .equal("user_id", user_id)
        .condition("week_start >= ? AND week_start <= ?", [weeks.first, weeks.last])
        .all(transaction)?;
    let mut known: BTreeMap<Day, Stored<Alert>> = rows.into_iter().map(|row| (row.week_start, row)).collect();
    for week_start in weeks.weeks() {
        let overload = rounded(workload.overload(week_start));
        settle(transaction, user_id, week_start, overload, known.remove(&week_start))?;
    }
    Ok(())
}

/// Looks at all of somebody's weeks to come.
pub fn review_coming(transaction: &Transaction, user_id: &Id) -> Result<()> {
    let today = Profile::or_usual(transaction, user_id)?.today();
    review(transaction, user_id, Span::new(today, today.plus(DAYS_MAX)))?;
    load::forget(transaction);
    Ok(())
}

fn settle(
    transaction: &Transaction,
    user_id: &Id,
    week_start: Day,
    overload: f64,
    known: Option<Stored<Alert>>,
) -> Result<()> {
    let is_over = overload > NOTHING;
    let row = match known {
        None if !is_over => return Ok(()),
        None => {
            let status = AlertStatus::Open;
            entity::create(
                transaction,
                Alert { user_id: user_id.clone(), week_start, overallocation_hours: overload, status },
            )?
        }
        Some(mut row) => {
            let has_grown = overload > row.overallocation_hours + NOTHING;
            let status = match row.status {
                _ if !is_over => AlertStatus::Resolved,
                AlertStatus::Resolved => AlertStatus::Open,
                _ if has_grown => AlertStatus::Open,
                as_it_is => as_it_is,
            };
            let is_news = status == AlertStatus::Open && (has_grown || row.status == AlertStatus::Resolved);
            // What is resolved keeps the hours it was about.
            let hours = if is_over { overload } else { row.overallocation_hours };
            if status != row.status || (hours - row.overallocation_hours).abs() > NOTHING {
                row.status = status;
                row.overallocation_hours = hours;
                entity::save(transaction, &mut row)?;
            }
            if !is_news {
                return Ok(());
            }
            row
        }
    };
    let data = json!({
        "alertId": row.id, "userId": user_id, "weekStart": week_start, "overallocationHours": row.overallocation_hours,
    });
    transaction.send(&Message::new("capacity.overallocated", &data)?.with_key(user_id.as_str()))?;
    Ok(())
}
