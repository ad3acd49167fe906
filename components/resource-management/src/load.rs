//! Workloads from the tables: everything that takes or gives time of some people over some days, read in a few statements.

use std::collections::{BTreeMap, BTreeSet};

use berth_sdk::{database::Value, prelude::*};
use time_rules::day::{Day, Span};

use crate::{
    allocation::{AllocationStatus, commitment},
    profile::Profile,
    workload::{Absence, Workload},
};

/// The most people of one answer.
pub const PEOPLE_MAX: usize = 500;
/// Whose time, and which task, is held.
const HOLDS: &str = "capacity_holds";
/// People of one statement.
const CHUNK: usize = 200;
/// The cache key of what names the present state of an organization's numbers.
pub const GENERATION: &str = "generation";

/// Somebody with what is known of their time.
#[derive(Clone, Debug)]
pub struct Person {
    /// What is known of their work, or what is usual.
    pub profile: Profile,
    /// Their time.
    pub workload: Workload,
}

/// What is planned, as it is read for sums.
#[data]
struct Planned {
    id: String,
    user_id: String,
    allocated_hours: f64,
    start_date: Day,
    end_date: Day,
    status: AllocationStatus,
    closed_on: Option<Day>,
}

#[data]
struct Away {
    user_id: String,
    start_date: Day,
    end_date: Day,
    hours_per_day: Option<f64>,
}

#[data]
struct Holiday {
    start_date: Day,
    end_date: Day,
    region: Option<String>,
}

/// These people with everything that touches some days, in the order of their ids.
pub fn people(database: &dyn Executor, users: &BTreeSet<Id>, span: Span) -> Result<BTreeMap<Id, Person>> {
    let mut people = BTreeMap::new();
    let users: Vec<&Id> = users.iter().collect();
    let holidays = holidays(database, span)?;
    for chunk in users.chunks(CHUNK) {
        let rows = Select::<Profile>::new().one_of("user_id", chunk.iter().copied()).all(database)?;
        let mut known: BTreeMap<Id, Profile> = rows.into_iter().map(|row| (row.user_id.clone(), row.data)).collect();
        let mut found: BTreeMap<String, Person> = BTreeMap::new();
        for id in chunk {
            let profile = known.remove(*id).unwrap_or_else(|| Profile::usual((*id).clone()));
            let own = holidays.iter().filter(|holiday| holiday.region.is_none() || holiday.region == profile.region);
            let days = own.flat_map(|holiday| Span::new(holiday.start_date, holiday.end_date).both(span).iter());
            let workload = Workload { pattern: profile.pattern(), holidays: days.collect(), ..Workload::default() };
            found.insert(id.to_string(), Person { profile, workload });
        }
        for row in planned(database, chunk, span)? {
            if let Some(person) = found.get_mut(&row.user_id) {
                let span = Span::new(row.start_date, row.end_date);
                let one = commitment(row.id, span, row.allocated_hours, row.status, row.closed_on);
                person.workload.commitments.extend(one);
            }
        }
        for row in away(database, chunk, span)? {
            if let Some(person) = found.get_mut(&row.user_id) {
                let span = Span::new(row.start_date, row.end_date);
                person.workload.absences.push(Absence { span, hours_per_day: row.hours_per_day });
            }
        }
        people.extend(found.into_iter().map(|(id, person)| (Id::from(id), person)));
    }
    Ok(people)
}

/// One person with everything that touches some days.
pub fn person(database: &dyn Executor, user_id: &Id, span: Span) -> Result<Person> {
    let mut found = people(database, &BTreeSet::from([user_id.clone()]), span)?;
    found.remove(user_id).ok_or_else(Problem::internal)
}

/// So many of those who have a profile, or something planned on some days, in the order of their ids; after one of these.
pub fn some(database: &dyn Executor, span: Span, after: &str, limit: usize) -> Result<Vec<Id>> {
    let sql = format!(
        "SELECT user_id FROM resource_profiles WHERE organization_id = $1 AND user_id > $4 \
         UNION SELECT user_id FROM capacity_allocations WHERE organization_id = $1 AND end_date >= $2 \
         AND start_date <= $3 AND status <> 'cancelled' AND user_id > $4 ORDER BY user_id LIMIT {limit}"
    );
    let rows = database.query(&sql, params![auth::organization_id()?, span.first, span.last, after])?;
    Ok(rows.into_iter().map(|row| row.get("user_id")).collect::<Result<_, Fault>>()?)
}

/// All of them; 422 when there are too many.
pub fn everybody(database: &dyn Executor, span: Span) -> Result<BTreeSet<Id>> {
    let found: BTreeSet<Id> = some(database, span, "", PEOPLE_MAX + 1)?.into_iter().collect();
    if found.len() > PEOPLE_MAX {
        let detail = format!("There are more than {PEOPLE_MAX} people; name them, or a team.");
        return Err(Problem::unprocessable(detail).with_code("RANGE_TOO_LARGE"));
    }
    Ok(found)
}

/// Holds somebody's time until the end of the transaction, so that two writers cannot both find the same hours free. Several
/// people are to be held in the order of their ids.
pub fn hold(transaction: &Transaction, user_id: &Id) -> Result<()> {
    transaction.hold(HOLDS, user_id.as_str())
}

/// Holds what is planned for a task by itself in the same way: of two who are told to do it at once the second takes its place
/// from the first. To be called before anybody's time is held.
pub fn hold_task(transaction: &Transaction, task_id: &Id) -> Result<()> {
    transaction.hold(HOLDS, &format!("task:{task_id}"))
}

/// Forgets what nobody holds any more: tasks come and go.
pub fn sweep() -> Result<()> {
    Ok(database::forget_holds(HOLDS)?)
}

/// After a change of anything that sums are made of, the kept ones are forgotten.
pub fn forget(transaction: &Transaction) {
    transaction.forget(GENERATION);
}

/// What restricts a statement to some people and days; its values begin with the organization.
fn touching(users: &[&Id], span: Span) -> Result<(String, Vec<Value>)> {
    let mut values: Vec<Value> = vec![auth::organization_id()?.into(), span.first.into(), span.last.into()];
    let first = values.len() + 1;
    let places: Vec<String> = (first..first + users.len()).map(|place| format!("${place}")).collect();
    values.extend(users.iter().map(|id| Value::from(*id)));
    let sql = format!(
        "organization_id = $1 AND end_date >= $2 AND start_date <= $3 AND user_id IN ({})",
        if places.is_empty() { "NULL".into() } else { places.join(", ") }
    );
    Ok((sql, values))
}

fn planned(database: &dyn Executor, users: &[&Id], span: Span) -> Result<Vec<Planned>> {
    let (condition, values) = touching(users, span)?;
    let sql = format!(
        "SELECT id, user_id AS \"userId\", allocated_hours AS \"allocatedHours\", start_date AS \"startDate\", \
         end_date AS \"endDate\", status, closed_on AS \"closedOn\" FROM capacity_allocations \
         WHERE {condition} AND status <> 'cancelled' ORDER BY id"
    );
    Ok(database::query_as(database, &sql, &values)?)
}

fn away(database: &dyn Executor, users: &[&Id], span: Span) -> Result<Vec<Away>> {
    let (condition, values) = touching(users, span)?;
    let sql = format!(
        "SELECT user_id AS \"userId\", start_date AS \"startDate\", end_date AS \"endDate\", \
         hours_per_day AS \"hoursPerDay\" FROM capacity_time_off WHERE {condition} AND status = 'approved' ORDER BY id"
    );
    Ok(database::query_as(database, &sql, &values)?)
}

fn holidays(database: &dyn Executor, span: Span) -> Result<Vec<Holiday>> {
    let sql = "SELECT start_date AS \"startDate\", end_date AS \"endDate\", region FROM capacity_holidays \
               WHERE organization_id = $1 AND end_date >= $2 AND start_date <= $3 ORDER BY id";
    Ok(database::query_as(database, sql, params![auth::organization_id()?, span.first, span.last])?)
}

/// The projects of what is planned for some people on some days, by the ids of the allocations; without those of none.
pub fn projects(database: &dyn Executor, users: &[&Id], span: Span) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for chunk in users.chunks(CHUNK) {
        let (condition, values) = touching(chunk, span)?;
        let sql = format!(
            "SELECT id, project_id FROM capacity_allocations WHERE {condition} AND project_id IS NOT NULL ORDER BY id"
        );
        for row in database.query(&sql, &values)? {
            found.insert(row.get("id")?, row.get("project_id")?);
        }
    }
    Ok(found)
}
