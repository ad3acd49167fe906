//! Snapshots: how the last weeks were, kept for later. One message for each organization, so that a tick stays short; a week
//! that is on record already is written again and not twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use berth_sdk::{events::Message, prelude::*};
use time_rules::day::{Day, Span};

use crate::{
    alert::{Alert, AlertStatus},
    load::{self, Person},
    workload::{Sum, rounded},
};

/// The work message of one organization.
pub const RUN: &str = "capacity.snapshot.run";
/// Weeks that are over and recorded at each tick: where it is Sunday still, the last one is not over yet.
const WEEKS: u64 = 2;
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

/// Records the last weeks of an organization.
pub fn run(envelope: &Envelope) -> Result<()> {
    let today = Day::from(clock::now().date_time().date_naive());
    // Wherever somebody is, it is at most a day earlier or later there.
    let around = Span::new(today.minus((WEEKS + 2) * 7), today.plus(7));
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        let users: BTreeSet<Id> = load::everybody(transaction, around)?;
        let mut teams: BTreeMap<(Id, Day), (Sum, f64)> = BTreeMap::new();
        for (id, person) in load::people(transaction, &users, around)? {
            record_person(transaction, &id, &person, &mut teams)?;
        }
        for ((team_id, week_start), (sum, available)) in teams {
            record(transaction, (None, Some(&team_id)), week_start, sum, available)?;
        }
        resolve_past(transaction, today)
    })
}

fn record_person(
    transaction: &Transaction,
    id: &Id,
    person: &Person,
    teams: &mut BTreeMap<(Id, Day), (Sum, f64)>,
) -> Result<()> {
    let monday = person.profile.today().monday();
    for back in 1..=WEEKS {
        let week_start = monday.minus(back * 7);
        let sum = person.workload.sum(Span::week(week_start));
        record(transaction, (Some(id), None), week_start, sum, sum.available())?;
        let own: BTreeSet<&Id> = person.profile.team_ids.iter().collect();
        for team_id in own {
            let (all, available) = teams.entry((team_id.clone(), week_start)).or_default();
            *all = all.and(sum);
            *available += sum.available();
        }
    }
    Ok(())
}

fn record(
    transaction: &Transaction,
    (user_id, team_id): (Option<&Id>, Option<&Id>),
    week_start: Day,
    sum: Sum,
    available: f64,
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
            rounded(sum.capacity()),
            rounded(sum.allocated),
            rounded(sum.utilized),
            rounded(available),
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
