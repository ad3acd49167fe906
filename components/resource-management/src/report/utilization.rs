//! `GET /api/capacity/utilization`: what is planned beside what can be worked, in groups.

use std::collections::{BTreeMap, BTreeSet};

use berth_sdk::prelude::*;
use time_rules::day::{Day, Span};

use super::figures::Figures;
use crate::{
    load::{self, Person},
    profile::Profile,
    projects::Visible,
    workload::{NOTHING, Sum, rounded},
};

/// The longest range.
const DAYS_MAX: u64 = 366;
/// Weeks before this one that are shown when nothing is said.
const WEEKS_USUAL: u64 = 4;

/// What the groups are.
#[choice]
pub enum GroupBy {
    /// Each person.
    User,
    /// Each team that profiles name; who is in two counts in both.
    Team,
    /// Each project that something is planned for: its part of everybody's time.
    Project,
    /// Each week.
    Week,
    /// Each month.
    Month,
}

/// What is asked.
#[data]
pub struct Question {
    /// The first day; four weeks ago when absent.
    from: Option<Day>,
    /// The last day; the end of this week when absent. At most 366 days.
    to: Option<Day>,
    /// What the groups are.
    #[field(default = GroupBy::User)]
    group_by: GroupBy,
    /// Only these people.
    #[field(max = 200)]
    user_ids: Option<Vec<Id>>,
    /// Only the people of this team.
    team_id: Option<Id>,
}

/// One group.
#[data]
struct Group {
    /// A user's, team's or project's id, a Monday, or a month such as `2026-03`; null for what has none.
    key: Option<String>,
    hours: Figures,
}

/// What is answered.
#[data]
pub struct Utilization {
    from: Day,
    to: Day,
    group_by: GroupBy,
    groups: Vec<Group>,
    /// Of everybody, each once.
    total: Figures,
}

/// The route.
pub fn answer(Query(question): Query<Question>) -> Result<Json<Utilization>> {
    let monday = Profile::or_usual(&Pool, &auth::user_id()?)?.today().monday();
    let from = question.from.unwrap_or_else(|| monday.minus(WEEKS_USUAL * 7));
    let span = Span::new(from, question.to.unwrap_or_else(|| monday.plus(6).max(from)));
    super::require_days(span, DAYS_MAX)?;
    let users = match super::asked(question.user_ids.as_deref(), question.team_id.as_ref())? {
        Some(users) => users,
        None => load::everybody(&Pool, span)?,
    };
    let people = load::people(&Pool, &users, span)?;
    let groups = match question.group_by {
        GroupBy::User => by_user(&people, span),
        GroupBy::Team => by_team(&people, span),
        GroupBy::Project => by_project(&people, span)?,
        GroupBy::Week => parts(&people, span.weeks().map(|monday| (monday.to_string(), Span::week(monday).both(span)))),
        GroupBy::Month => parts(&people, months(span).into_iter()),
    };
    let groups = groups.into_iter().map(|(key, tally)| Group { key, hours: tally.figures() }).collect();
    let total = people.values().fold(Tally::default(), |tally, person| tally.and(person, span));
    Ok(Json(Utilization {
        from: span.first,
        to: span.last,
        group_by: question.group_by,
        groups,
        total: total.figures(),
    }))
}

/// Sums of several people: what one has left does not help another one.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    sum: Sum,
    available: f64,
}

impl Tally {
    fn and(self, person: &Person, span: Span) -> Self {
        let sum = person.workload.sum(span);
        Self { sum: self.sum.and(sum), available: self.available + sum.available() }
    }

    fn figures(self) -> Figures {
        Figures { available: rounded(self.available), ..self.sum.into() }
    }
}

type Groups = BTreeMap<Option<String>, Tally>;

fn by_user(people: &BTreeMap<Id, Person>, span: Span) -> Groups {
    people.iter().map(|(id, person)| (Some(id.to_string()), Tally::default().and(person, span))).collect()
}

fn by_team(people: &BTreeMap<Id, Person>, span: Span) -> Groups {
    let mut groups = Groups::new();
    for person in people.values() {
        let teams: BTreeSet<Option<String>> = person.profile.team_ids.iter().map(|id| Some(id.to_string())).collect();
        let teams = if teams.is_empty() { [None].into() } else { teams };
        for team in teams {
            let tally = groups.entry(team).or_default();
            *tally = tally.and(person, span);
        }
    }
    groups
}

fn parts(people: &BTreeMap<Id, Person>, spans: impl Iterator<Item = (String, Span)>) -> Groups {
    spans
        .map(|(key, span)| (Some(key), people.values().fold(Tally::default(), |tally, person| tally.and(person, span))))
        .collect()
}

/// The months of a span, each cut to it.
fn months(span: Span) -> Vec<(String, Span)> {
    let mut months: BTreeMap<String, Span> = BTreeMap::new();
    for day in span.iter() {
        let key: String = day.to_string().chars().take(7).collect();
        months.entry(key).and_modify(|month| month.last = day).or_insert_with(|| Span::new(day, day));
    }
    months.into_iter().collect()
}

/// What each project takes of everybody's time. Those that do not exist for the caller are one group without a key, with
/// what is planned for none.
fn by_project(people: &BTreeMap<Id, Person>, span: Span) -> Result<Groups> {
    let mut visible = Visible::default();
    let everybody = people.values().fold(Tally::default(), |tally, person| tally.and(person, span));
    let projects = load::projects(&Pool, &people.keys().collect::<Vec<_>>(), span)?;
    let mut groups = Groups::new();
    for person in people.values() {
        for commitment in &person.workload.commitments {
            let hours = commitment.hours_in(span, &person.workload.pattern);
            if hours <= NOTHING {
                // It was done before these days began.
                continue;
            }
            let project = projects.get(&commitment.id).filter(|id| visible.holds(id)).cloned();
            let tally = groups.entry(project).or_insert_with(|| Tally {
                sum: Sum { allocated: 0.0, utilized: 0.0, ..everybody.sum },
                available: everybody.available,
            });
            tally.sum.allocated += hours;
            tally.sum.utilized += if commitment.is_worked { hours } else { 0.0 };
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_cut_to_the_span() {
        let day = |text| Day::parse(text).unwrap();
        let found = months(Span::new(day("2026-01-30"), day("2026-03-02")));
        let shown: Vec<(String, u64)> = found.into_iter().map(|(key, span)| (key, span.days())).collect();
        assert_eq!(shown, [("2026-01".into(), 2), ("2026-02".into(), 28), ("2026-03".into(), 2)]);
    }
}
