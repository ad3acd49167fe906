//! `GET /api/capacity`: a week of a person or a team. A person's week is kept for five minutes, and no longer than it is true.

use std::{collections::BTreeSet, time::Duration};

use berth_sdk::{cache, prelude::*};
use time_rules::day::{Day, Span};

use super::figures::{DayFigures, Figures, days};
use crate::{
    load::{self, GENERATION},
    profile::Profile,
    workload::{Sum, rounded},
};

/// How long a week is kept.
const KEPT: Duration = Duration::from_secs(300);

/// Whose week.
#[data]
pub struct Question {
    /// A person; oneself when there is no team either.
    user_id: Option<Id>,
    /// Or a team.
    team_id: Option<Id>,
    /// Any day of the week; this week when absent, as everybody's time zone has it.
    week_start: Option<Day>,
}

/// A week of one person.
#[data]
pub struct PersonWeek {
    /// Who.
    pub user_id: Id,
    /// Its Monday.
    pub week_start: Day,
    /// Whose days they are.
    pub timezone: String,
    /// The week's hours.
    pub hours: Figures,
    /// The hours that cannot be worked in it, whatever their order.
    pub overallocation_hours: f64,
    /// Day by day.
    pub days: Vec<DayFigures>,
}

/// A week.
#[data]
pub struct Summary {
    /// The person it is about, where it is one.
    user_id: Option<Id>,
    /// The team it is about, where it is one.
    team_id: Option<Id>,
    /// The Monday.
    week_start: Day,
    /// The Sunday.
    week_end: Day,
    /// Of all of them.
    hours: Figures,
    /// Of all of them.
    overallocation_hours: f64,
    /// One by one.
    people: Vec<PersonWeek>,
}

/// The route.
pub fn answer(Query(question): Query<Question>) -> Result<Json<Summary>> {
    let own = auth::user_id()?;
    let user_id = question.user_id.or_else(|| question.team_id.is_none().then(|| own.clone()));
    let named = user_id.as_ref().map(std::slice::from_ref);
    let users = super::asked(named, question.team_id.as_ref())?.unwrap_or_default();
    let whose = user_id.as_ref().unwrap_or(&own);
    let week_start = match question.week_start {
        Some(day) => day.monday(),
        None => Profile::or_usual(&Pool, whose)?.today().monday(),
    };
    let generation: String = cache::remember(GENERATION, KEPT, || Ok::<_, Problem>(Id::new().into_string()))?;
    let mut people = Vec::new();
    let mut missing = BTreeSet::new();
    let key = |id: &Id| format!("week:{generation}:{id}:{week_start}");
    let keys: Vec<String> = users.iter().map(key).collect();
    let texts: Vec<&str> = keys.iter().map(String::as_str).collect();
    for (id, kept) in users.iter().zip(cache::get_many::<PersonWeek>(&texts)) {
        match kept {
            Some(week) => people.push(week),
            None => {
                missing.insert(id.clone());
            }
        }
    }
    for (id, person) in load::people(&Pool, &missing, Span::week(week_start))? {
        let week = Span::week(week_start);
        let week = PersonWeek {
            week_start,
            timezone: person.profile.timezone,
            hours: person.workload.sum(week).into(),
            overallocation_hours: rounded(person.workload.overload(week_start)),
            days: days(&person.workload, week),
            user_id: id,
        };
        cache::set_ttl(&key(&week.user_id), &week, KEPT);
        people.push(week);
    }
    people.sort_by(|one, other| one.user_id.cmp(&other.user_id));
    let sum = people.iter().map(|week| sum_of(&week.hours)).fold(Sum::default(), Sum::and);
    let overload: f64 = people.iter().map(|week| week.overallocation_hours).sum();
    Ok(Json(Summary {
        user_id,
        team_id: question.team_id,
        week_start,
        week_end: week_start.plus(6),
        hours: Figures { available: people.iter().map(|week| week.hours.available).sum(), ..sum.into() },
        overallocation_hours: rounded(overload),
        people,
    }))
}

/// What figures were made of.
fn sum_of(figures: &Figures) -> Sum {
    Sum { base: figures.base, time_off: figures.time_off, allocated: figures.allocated, utilized: figures.utilized }
}
