//! What would be, beside what is: the weeks of a plan as they are, and as its scenario would make them.

use std::collections::{BTreeMap, BTreeSet};

use berth_sdk::prelude::*;
use time_rules::day::{Day, Span};

use super::Scenario;
use crate::{
    load::{self, Person},
    profile::Profile,
    report::figures::Figures,
    workload::{Absence, Commitment, Sum, Workload, rounded},
};

/// Before the name of somebody who would come.
const HIRE: &str = "hire:";

/// What is asked.
#[data]
pub struct Question {
    /// In the place of the plan's own.
    scenario: Option<Scenario>,
}

/// A week, as it is or would be.
#[data]
struct Side {
    hours: Figures,
    /// The hours that cannot be worked.
    overallocation_hours: f64,
}

/// A week of both.
#[data]
struct Week {
    week_start: Day,
    baseline: Side,
    scenario: Side,
}

/// One person over the whole plan.
#[data]
struct PersonSides {
    /// A user, or `hire:` with the name of who would come.
    user_id: String,
    baseline: Side,
    scenario: Side,
}

/// What is answered.
#[data]
pub struct Simulation {
    start_date: Day,
    end_date: Day,
    baseline: Side,
    scenario: Side,
    weeks: Vec<Week>,
    people: Vec<PersonSides>,
}

type People = BTreeMap<Id, Person>;

/// The route.
pub fn answer(Params(id): Params<Id>, body: Option<Json<Question>>) -> Result<Json<Simulation>> {
    let plan = super::of(&id)?;
    let told = body.and_then(|Json(question)| question.scenario);
    let scenario = told.as_ref().unwrap_or(&plan.scenario);
    let mut faults = Faults::default();
    scenario.check("scenario", &mut faults);
    faults.finish()?;
    let span = Span::new(plan.start_date, plan.end_date);
    let whole_weeks = Span::new(span.first.monday(), span.last.monday().plus(6));
    let users = users(scenario, span)?;
    let baseline = load::people(&Pool, &users, whole_weeks)?;
    let would_be = apply(scenario, baseline.clone(), span);
    Ok(Json(simulation(&baseline, &would_be, span)))
}

/// Everybody the scenario is about.
fn users(scenario: &Scenario, span: Span) -> Result<BTreeSet<Id>> {
    let mut users: BTreeSet<Id> = if scenario.user_ids.is_empty() {
        load::everybody(&Pool, span)?
    } else {
        scenario.user_ids.iter().cloned().collect()
    };
    users.extend(scenario.weekly_hours.iter().map(|one| one.user_id.clone()));
    let named = scenario.allocations.iter().map(|one| &one.user_id);
    let named = named.chain(scenario.time_off.iter().map(|one| &one.user_id));
    let is_hire = |name: &String| scenario.hires.iter().any(|hire| hire.name == *name);
    let mut faults = Faults::default();
    for name in named.filter(|name| !is_hire(name)) {
        match Id::parse(name.as_str()) {
            Ok(id) => {
                users.insert(id);
            }
            Err(_) => faults.add("scenario", format!("{name} is neither a user nor somebody who would come")),
        }
    }
    faults.finish()?;
    if users.len() > load::PEOPLE_MAX {
        let detail = format!("A plan is simulated for at most {} people.", load::PEOPLE_MAX);
        return Err(Problem::unprocessable(detail).with_code("RANGE_TOO_LARGE"));
    }
    Ok(users)
}

/// The people as the scenario would have them.
fn apply(scenario: &Scenario, mut people: People, span: Span) -> People {
    for hire in &scenario.hires {
        let id = Id::from(format!("{HIRE}{}", hire.name));
        let profile = Profile { weekly_hours: hire.weekly_hours, ..Profile::usual(id.clone()) };
        let mut workload = Workload { pattern: profile.pattern(), ..Workload::default() };
        let before = Span::new(span.first.monday(), hire.start_date.minus(1));
        let after = hire.end_date.map(|end| Span::new(end.plus(1), span.last.monday().plus(6)));
        let away = std::iter::once(before).chain(after).filter(|span| !span.is_empty());
        workload.absences.extend(away.map(|span| Absence { span, hours_per_day: None }));
        people.insert(id, Person { profile, workload });
    }
    for hours in &scenario.weekly_hours {
        if let Some(person) = people.get_mut(&hours.user_id) {
            person.workload.pattern.weekly_hours = hours.weekly_hours;
        }
    }
    let without: BTreeSet<&str> = scenario.without_allocation_ids.iter().map(Id::as_str).collect();
    for person in people.values_mut() {
        person.workload.commitments.retain(|one| !without.contains(one.id.as_str()));
    }
    let whose = |people: &People, name: &str| {
        let hire = Id::from(format!("{HIRE}{name}"));
        if people.contains_key(&hire) { hire } else { Id::from(name) }
    };
    for (number, one) in scenario.allocations.iter().enumerate() {
        let span = Span::new(one.start_date, one.end_date);
        let id = whose(&people, &one.user_id);
        if let Some(person) = people.get_mut(&id) {
            let id = format!("scenario:{number}");
            person.workload.commitments.push(Commitment {
                id,
                span,
                hours: one.hours,
                until: span.last,
                is_worked: false,
            });
        }
    }
    for one in &scenario.time_off {
        let id = whose(&people, &one.user_id);
        if let Some(person) = people.get_mut(&id) {
            let span = Span::new(one.start_date, one.end_date);
            person.workload.absences.push(Absence { span, hours_per_day: one.hours_per_day });
        }
    }
    people
}

fn simulation(baseline: &People, would_be: &People, span: Span) -> Simulation {
    let weeks = span
        .weeks()
        .map(|week_start| {
            let part = Span::week(week_start).both(span);
            Week { week_start, baseline: side(baseline.values(), part), scenario: side(would_be.values(), part) }
        })
        .collect();
    let people = would_be
        .iter()
        .map(|(id, person)| PersonSides {
            user_id: id.to_string(),
            baseline: side(baseline.get(id).into_iter(), span),
            scenario: side(std::iter::once(person), span),
        })
        .collect();
    let (before, after) = (side(baseline.values(), span), side(would_be.values(), span));
    Simulation { start_date: span.first, end_date: span.last, baseline: before, scenario: after, weeks, people }
}

/// Several people over some days: what one has left does not help another one.
fn side<'a>(people: impl Iterator<Item = &'a Person>, span: Span) -> Side {
    let (mut sum, mut available, mut overload) = (Sum::default(), 0.0, 0.0);
    for person in people {
        let own = person.workload.sum(span);
        sum = sum.and(own);
        available += own.available();
        overload += span.weeks().map(|week| person.workload.overload(week)).sum::<f64>();
    }
    let hours = Figures { available: rounded(available), ..sum.into() };
    Side { hours, overallocation_hours: rounded(overload) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::{Away, Hire, Hours, Planned},
        workload::tests::day,
    };

    #[test]
    fn a_scenario_changes_what_it_says_and_nothing_else() {
        let week = Span::week(day(4));
        let own = Commitment { id: "a1".into(), span: week, hours: 30.0, until: week.last, is_worked: false };
        let workload = Workload { commitments: vec![own], ..Workload::default() };
        let ada = Person { profile: Profile::usual("ada".into()), workload };
        let people: People = [(Id::from("ada"), ada)].into();
        let same = simulation(&people, &apply(&Scenario::default(), people.clone(), week), week);
        assert_eq!(same.baseline, same.scenario);
        let scenario = Scenario {
            allocations: vec![
                Planned { user_id: "ada".into(), hours: 20.0, start_date: day(4), end_date: day(8) },
                Planned { user_id: "Newcomer".into(), hours: 10.0, start_date: day(4), end_date: day(8) },
            ],
            time_off: vec![Away { user_id: "ada".into(), start_date: day(8), end_date: day(8), hours_per_day: None }],
            weekly_hours: vec![Hours { user_id: "ada".into(), weekly_hours: 50.0 }],
            hires: vec![Hire { name: "Newcomer".into(), weekly_hours: 40.0, start_date: day(6), end_date: None }],
            ..Scenario::default()
        };
        let found = simulation(&people, &apply(&scenario, people.clone(), week), week);
        // Ada: four days of ten hours for fifty; who comes on Wednesday: three days of eight hours for ten.
        assert_eq!((found.baseline.hours.total, found.baseline.overallocation_hours), (40.0, 0.0));
        assert_eq!((found.scenario.hours.total, found.scenario.hours.allocated), (64.0, 60.0));
        assert_eq!((found.scenario.hours.available, found.scenario.overallocation_hours), (14.0, 10.0));
        let without = Scenario { without_allocation_ids: vec!["a1".into()], ..Scenario::default() };
        assert_eq!(simulation(&people, &apply(&without, people.clone(), week), week).scenario.hours.allocated, 0.0);
    }
}
