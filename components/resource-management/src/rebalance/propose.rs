//! Which hours could move to whom. Pure: the fullest weeks first, from there what has not begun before what has, the largest
//! part first, each to who fits best. Nobody who takes something has too much afterwards.

use std::collections::BTreeMap;

use berth_sdk::Id;
use time_rules::day::{Day, Span};

use crate::{
    load::Person,
    score::Score,
    suggest,
    workload::{Commitment, NOTHING},
};

/// The most moves of one proposal.
const MOVES_MAX: usize = 200;
/// Less than this is not worth handing over, in hours.
const HOURS_MIN: f64 = 0.5;

/// Hours of an allocation in one week that somebody else could take.
#[derive(Clone, Debug)]
pub struct Move {
    /// Of what.
    pub allocation_id: String,
    /// Whose it is.
    pub from: Id,
    /// Who could take it.
    pub to: Id,
    /// In which week.
    pub week_start: Day,
    /// How much.
    pub hours: f64,
    /// What there was too much of.
    pub overload: f64,
    /// How well it fits.
    pub score: Score,
}

/// The hours of everybody that cannot be worked in the weeks of a span.
pub fn overload(people: &BTreeMap<Id, Person>, span: Span) -> f64 {
    people.values().flat_map(|person| span.weeks().map(|week| person.workload.overload(week))).sum()
}

/// The moves, and what is too much after all of them.
pub fn propose(mut people: BTreeMap<Id, Person>, span: Span) -> (Vec<Move>, f64) {
    // A week at a time: what a commitment takes in a week is one of its own here, so that a part of it can move.
    for person in people.values_mut() {
        by_weeks(person, span);
    }
    let mut full: Vec<(Id, Day, f64)> = people
        .iter()
        .flat_map(|(id, person)| span.weeks().map(|week| (id.clone(), week, person.workload.overload(week))))
        .filter(|(.., overload)| *overload > NOTHING)
        .collect();
    full.sort_by(|one, other| other.2.total_cmp(&one.2).then_with(|| (&one.0, one.1).cmp(&(&other.0, other.1))));
    let mut moves = Vec::new();
    for (from, week, _) in full {
        relieve(&mut people, &from, week, &mut moves);
    }
    let left = overload(&people, span);
    (moves, left)
}

fn by_weeks(person: &mut Person, span: Span) {
    let pattern = person.workload.pattern.clone();
    let whole = std::mem::take(&mut person.workload.commitments);
    for commitment in whole {
        for week in span.weeks() {
            let part = commitment.counted().both(Span::week(week));
            let hours = commitment.hours_in(part, &pattern);
            if !part.is_empty() && hours > NOTHING {
                let until = part.last;
                person.workload.commitments.push(Commitment { span: part, hours, until, ..commitment.clone() });
            }
        }
    }
}

/// Takes from somebody's week until it fits, or nobody is left who could take anything.
fn relieve(people: &mut BTreeMap<Id, Person>, from: &Id, week: Day, moves: &mut Vec<Move>) {
    let Some(giver) = people.get(from) else { return };
    let mut movable: Vec<Commitment> = giver
        .workload
        .commitments
        .iter()
        .filter(|commitment| Span::week(week).both(commitment.span) == commitment.span)
        .cloned()
        .collect();
    movable.sort_by(|one, other| {
        one.is_worked.cmp(&other.is_worked).then(other.hours.total_cmp(&one.hours)).then_with(|| one.id.cmp(&other.id))
    });
    for commitment in movable {
        let mut left = commitment.hours;
        while moves.len() < MOVES_MAX {
            let Some(giver) = people.get(from) else { return };
            let overload = giver.workload.overload(week);
            // What does not take time where there is too little of it is no help.
            let is_relief = without_hours(giver, &commitment, left).workload.overload(week) < overload - NOTHING;
            if overload <= NOTHING || left < HOURS_MIN || !is_relief {
                break;
            }
            let wanted = left.min(overload.max(HOURS_MIN));
            let Some((to, hours, score)) = best(people, from, week, &commitment, wanted) else { break };
            hand_over(people, from, &to, &commitment, hours);
            left -= hours;
            moves.push(Move {
                allocation_id: commitment.id.clone(),
                from: from.clone(),
                to,
                week_start: week,
                hours,
                overload,
                score,
            });
        }
    }
}

/// Who fits best of those who have room, and how much of it they could take.
fn best(
    people: &BTreeMap<Id, Person>,
    from: &Id,
    week: Day,
    commitment: &Commitment,
    wanted: f64,
) -> Option<(Id, f64, Score)> {
    let skills = people.get(from).map(|giver| giver.profile.skills.clone()).unwrap_or_default();
    let mut found: Option<(Id, f64, Score)> = None;
    for (id, person) in people.iter().filter(|(id, _)| *id != from) {
        let hours = person.workload.room(week, commitment.span).min(wanted);
        if hours < HOURS_MIN || person.workload.overload(week) > NOTHING {
            continue;
        }
        let score = suggest::score(person, &skills, wanted, Span::week(week));
        if found.as_ref().is_none_or(|(.., other)| score.score > other.score) {
            found = Some((id.clone(), hours, score));
        }
    }
    found
}

fn hand_over(people: &mut BTreeMap<Id, Person>, from: &Id, to: &Id, commitment: &Commitment, hours: f64) {
    if let Some(giver) = people.get_mut(from) {
        *giver = without_hours(giver, commitment, hours);
    }
    if let Some(taker) = people.get_mut(to) {
        taker.workload.commitments.push(Commitment { hours, ..commitment.clone() });
    }
}

fn without_hours(person: &Person, commitment: &Commitment, hours: f64) -> Person {
    let mut less = person.clone();
    let same = |one: &&mut Commitment| one.id == commitment.id && one.span == commitment.span;
    if let Some(own) = less.workload.commitments.iter_mut().find(same) {
        own.hours = (own.hours - hours).max(0.0);
    }
    less
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        profile::Profile,
        workload::{
            Workload,
            tests::{day, workloads},
        },
    };

    fn total(people: &BTreeMap<Id, Person>, span: Span) -> f64 {
        people.values().map(|person| person.workload.sum(span).allocated).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_proposal_only_ever_helps(list in proptest::collection::vec(workloads(), 1..5)) {
            let people: BTreeMap<Id, Person> = list
                .into_iter()
                .enumerate()
                .map(|(number, workload)| {
                    let id = Id::from(format!("u{number}"));
                    let profile = Profile { working_days: vec![1], ..Profile::usual(id.clone()) };
                    (id, Person { profile, workload })
                })
                .collect();
            let span = Span::new(day(4), day(31));
            let before: BTreeMap<(Id, Day), f64> = people
                .iter()
                .flat_map(|(id, person)| span.weeks().map(|week| ((id.clone(), week), person.workload.overload(week))))
                .collect();
            let (moves, after) = propose(people.clone(), span);
            prop_assert!(after <= overload(&people, span) + 1e-6);
            // Done by hand, the moves leave nobody who took something with more than fits, and lose no hour.
            let mut done = people.clone();
            done.values_mut().for_each(|person| by_weeks(person, span));
            let planned = total(&done, span);
            for step in &moves {
                prop_assert!(step.from != step.to && step.hours >= HOURS_MIN);
                let part = done[&step.from].workload.commitments.iter()
                    .find(|one| one.id == step.allocation_id && Span::week(step.week_start).holds(one.span.first))
                    .cloned().unwrap();
                prop_assert!(step.hours <= part.hours + 1e-6);
                hand_over(&mut done, &step.from, &step.to, &part, step.hours);
            }
            prop_assert!((total(&done, span) - planned).abs() < 1e-6);
            for (id, person) in &done {
                for week in span.weeks() {
                    prop_assert!(person.workload.overload(week) <= before[&(id.clone(), week)] + 1e-6, "{id} {week}");
                }
            }
            prop_assert!((overload(&done, span) - after).abs() < 1e-6);
        }
    }

    #[test]
    fn what_is_too_much_goes_to_who_has_room_and_the_skills() {
        let week = Span::week(day(4));
        let person = |id: &str, skills: &[&str], hours: f64| {
            let skill = |name: &&str| crate::profile::Skill { skill: (*name).into(), level: 3 };
            let commitment =
                Commitment { id: format!("of-{id}"), span: week, hours, until: week.last, is_worked: false };
            let profile = Profile { skills: skills.iter().map(skill).collect(), ..Profile::usual(id.into()) };
            (
                Id::from(id),
                Person { profile, workload: Workload { commitments: vec![commitment], ..Workload::default() } },
            )
        };
        let people = [person("ada", &["rust"], 50.0), person("bob", &["rust"], 32.0), person("cem", &[], 20.0)].into();
        let (moves, left) = propose(people, week);
        let steps: Vec<(&str, f64)> = moves.iter().map(|step| (step.to.as_str(), step.hours)).collect();
        assert_eq!((steps.as_slice(), left), (&[("bob", 8.0), ("cem", 2.0)][..], 0.0));
    }
}
