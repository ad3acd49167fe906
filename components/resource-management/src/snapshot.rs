//! Snapshots: how the last weeks were, kept for later. Messages of their own for each organization, so that a tick stays short and
//! no organization is too large; a week that is on record already is written again and not twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use berth_sdk::{events::Message, prelude::*};
use time_rules::day::{Day, Span};

use crate::{
    alert::{Alert, AlertStatus},
    load,
    profile::Profile,
    workload::rounded,
};

/// The work message of one organization.
pub const RUN: &str = "capacity.snapshot.run";
/// Weeks that are over and recorded at each tick: where it is Sunday still, the last one is not over yet.
const WEEKS: u64 = 2;
/// People of one message.
const PEOPLE: usize = 200;
/// Organizations of one tick.
const ORGANIZATIONS_MAX: usize = 10_000;

/// How a week of a person or a team was.
#[entity(table = "capacity_snapshots", name = "snapshot", sort = "-weekStart")]
pub struct Snapshot {
    /// The person, or none.
    pub user_id: Option<Id>,
    /// The team, or none.
    pub team_id: Option<Id>,
    /// The Monday.
    pub week_start: Day,
    /// Whose week it is, in one word.
    #[field(readonly, hidden)]
    pub subject: String,
    /// What could be worked.
    pub total: f64,
    /// What was planned of it.
    pub allocated: f64,
    /// What was worked on.
    pub utilized: f64,
    /// What was left.
    pub available: f64,
}

impl Rules for Snapshot {}

/// The routes.
pub fn routes() -> Router {
    Router::new()
        .get("/api/capacity/snapshots", |query: PageQuery| Select::<Snapshot>::new().page(&Pool, &query))
        .summary("List how the weeks of people and teams were.")
}

/// The weekly tick.
pub fn tick(envelope: &Envelope) -> Result<()> {
    load::sweep()?;
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        let sql = "SELECT organization_id FROM resource_profiles UNION SELECT organization_id FROM capacity_allocations \
                   ORDER BY organization_id LIMIT 10000";
        for row in transaction.query(sql, &[])?.into_iter().take(ORGANIZATIONS_MAX) {
            let organization_id: Option<String> = row.get("organization_id")?;
            if let Some(id) = organization_id {
                let message = Message::new(RUN, &json!({}))?.for_organization(id).after(Duration::ZERO);
                transaction.enqueue_message(&message)?;
            }
        }
        Ok(())
    })
}

/// How far a run is.
#[data]
#[derive(Default)]
struct Progress {
    /// The last person who is on record; none at the beginning.
    after: Option<Id>,
    /// Everybody is on record, and the teams are next.
    #[field(default)]
    is_for_teams: bool,
}

/// Records the last weeks of an organization: so many people a message, and the teams in the last one.
pub fn run(envelope: &Envelope) -> Result<()> {
    let Progress { after, is_for_teams } = envelope.data()?;
    let today = Day::from(clock::now().date_time().date_naive());
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        if is_for_teams {
            record_teams(transaction, today)?;
            return resolve_past(transaction, today);
        }
        let last = record_people(transaction, today, after.as_ref().map_or("", Id::as_str))?;
        let next = Progress { is_for_teams: last.is_none(), after: last };
        transaction.enqueue(RUN, &next, Duration::ZERO)?;
        Ok(())
    })
}

/// Records the people after one; the last of them where there may be more.
fn record_people(transaction: &Transaction, today: Day, after: &str) -> Result<Option<Id>> {
    // Wherever somebody is, it is at most a day earlier or later there.
    let around = Span::new(today.minus((WEEKS + 2) * 7), today.plus(7));
    let mut users = load::some(transaction, around, after, PEOPLE)?;
    let all: BTreeSet<Id> = users.iter().cloned().collect();
    for (id, person) in load::people(transaction, &all, around)? {
        let monday = person.profile.today().monday();
        for back in 1..=WEEKS {
            let week_start = monday.minus(back * 7);
            let sum = person.workload.sum(Span::week(week_start));
            let hours = Hours {
                total: sum.capacity(),
                allocated: sum.allocated,
                utilized: sum.utilized,
                available: sum.available(),
            };
            record(transaction, (Some(&id), None), week_start, &hours)?;
        }
    }
    Ok(if users.len() < PEOPLE { None } else { users.pop() })
}

/// A week of somebody, as it is on record.
#[data]
struct Recorded {
    user_id: Id,
    week_start: Day,
    total: f64,
    allocated: f64,
    utilized: f64,
    available: f64,
}

/// Records the teams: what is on record of the people whose profiles name them.
fn record_teams(transaction: &Transaction, today: Day) -> Result<()> {
    #[data]
    struct Member {
        user_id: Id,
        team_ids: Vec<Id>,
    }
    // The first week that anybody has just been recorded of, wherever they are.
    let first = today.minus(1).monday().minus(WEEKS * 7);
    let mut teams: BTreeMap<(Id, Day), Hours> = BTreeMap::new();
    let mut after = String::new();
    loop {
        let members: Vec<Member> = Select::<Profile>::new()
            .condition("user_id > ?", [after.as_str()])
            .sort("userId")
            .limit(i64::try_from(PEOPLE).unwrap_or(i64::MAX))
            .columns(transaction, "user_id AS \"userId\", team_ids AS \"teamIds\"")?;
        let weeks: Vec<Recorded> = Select::<Snapshot>::new()
            .one_of("user_id", members.iter().map(|member| &member.user_id))
            .condition("week_start >= ?", [first])
            .columns(
                transaction,
                "user_id AS \"userId\", week_start AS \"weekStart\", total, allocated, utilized, available",
            )?;
        add_up(&mut teams, members.iter().map(|member| (&member.user_id, member.team_ids.as_slice())), &weeks);
        match members.last() {
            Some(last) if members.len() == PEOPLE => after = last.user_id.to_string(),
            _ => break,
        }
    }
    for ((team_id, week_start), hours) in &teams {
        record(transaction, (None, Some(team_id)), *week_start, hours)?;
    }
    Ok(())
}

/// Adds the weeks of people to those of their teams, each once however often a profile names a team.
fn add_up<'a>(
    teams: &mut BTreeMap<(Id, Day), Hours>,
    members: impl Iterator<Item = (&'a Id, &'a [Id])>,
    weeks: &[Recorded],
) {
    for (user_id, team_ids) in members {
        for team_id in team_ids.iter().collect::<BTreeSet<_>>() {
            for week in weeks.iter().filter(|week| week.user_id == *user_id) {
                let all = teams.entry((team_id.clone(), week.week_start)).or_default();
                all.total += week.total;
                all.allocated += week.allocated;
                all.utilized += week.utilized;
                all.available += week.available;
            }
        }
    }
}

/// The hours of a week.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Hours {
    total: f64,
    allocated: f64,
    utilized: f64,
    available: f64,
}

fn record(
    transaction: &Transaction,
    (user_id, team_id): (Option<&Id>, Option<&Id>),
    week_start: Day,
    hours: &Hours,
) -> Result<()> {
    let subject = match (user_id, team_id) {
        (Some(id), _) => format!("user:{id}"),
        (None, id) => format!("team:{}", id.map_or("", Id::as_str)),
    };
    transaction.execute(
        "INSERT INTO capacity_snapshots (id, organization_id, created_by, created_at, updated_at, version, user_id, team_id, \
         week_start, subject, total, allocated, utilized, available) \
         VALUES ($1, $2, NULL, $3, $3, 1, $4, $5, $6, $7, $8, $9, $10, $11) \
         ON CONFLICT (organization_id, subject, week_start) DO UPDATE SET \
         total = excluded.total, allocated = excluded.allocated, utilized = excluded.utilized, \
         available = excluded.available, updated_at = excluded.updated_at, version = capacity_snapshots.version + 1",
        params![
            Id::new(),
            auth::organization_id()?,
            clock::now(),
            user_id.map(Id::as_str),
            team_id.map(Id::as_str),
            week_start,
            subject,
            rounded(hours.total),
            rounded(hours.allocated),
            rounded(hours.utilized),
            rounded(hours.available),
        ],
    )?;
    Ok(())
}

/// A week that is over everywhere is no alert any more.
fn resolve_past(transaction: &Transaction, today: Day) -> Result<()> {
    let over = Select::<Alert>::new()
        .condition("status <> ?", ["resolved"])
        .condition("week_start < ?", [today.minus(8)])
        .limit(1_000);
    for mut row in over.all(transaction)? {
        row.status = AlertStatus::Resolved;
        entity::save(transaction, &mut row)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_team_is_the_sum_of_its_people() {
        let monday = Day::parse("2026-03-02").unwrap();
        let week = |user: &str, week_start: Day, total: f64| Recorded {
            user_id: user.into(),
            week_start,
            total,
            allocated: total / 2.0,
            utilized: 1.0,
            available: total / 4.0,
        };
        let weeks = [week("a", monday, 40.0), week("b", monday, 20.0), week("b", monday.minus(7), 8.0)];
        let (a, b): (Id, Id) = ("a".into(), "b".into());
        let (crane, gate): (Id, Id) = ("crane".into(), "gate".into());
        let mut teams = BTreeMap::new();
        let (both, twice) = ([crane.clone(), gate.clone()], [crane.clone(), crane.clone()]);
        add_up(&mut teams, [(&a, both.as_slice()), (&b, twice.as_slice())].into_iter(), &weeks);
        let of = |team: &Id, week: Day| teams.get(&(team.clone(), week)).copied();
        let whole = Hours { total: 60.0, allocated: 30.0, utilized: 2.0, available: 15.0 };
        assert_eq!(of(&crane, monday), Some(whole));
        assert_eq!(of(&gate, monday).map(|hours| hours.total), Some(40.0));
        assert_eq!(of(&crane, monday.minus(7)).map(|hours| hours.total), Some(8.0));
        assert_eq!(teams.len(), 3);
    }
}
