//! How well somebody fits some work, and why: 0.5 skill + 0.3 availability + 0.2 balance. Pure.

use berth_sdk::prelude::*;

use crate::{
    profile::{Skill, skill},
    workload::{NOTHING, rounded},
};

/// How much the parts count; together they are 1.
pub const SKILL: f64 = 0.5;
/// See `SKILL`.
pub const AVAILABILITY: f64 = 0.3;
/// See `SKILL`.
pub const BALANCE: f64 = 0.2;

/// One part of a score.
#[data]
pub struct Part {
    /// `skill`, `availability` or `balance`.
    pub name: String,
    /// How much it counts.
    pub weight: f64,
    /// How good it is, from 0 to 1.
    pub value: f64,
    /// What it adds to the score: weight times value.
    pub points: f64,
    /// Why, for people.
    pub reason: String,
}

/// A score with what it is made of.
#[data]
pub struct Score {
    /// From 0 to 1: the sum of the points.
    pub score: f64,
    /// The parts.
    pub parts: Vec<Part>,
}

/// How well skills meet what is wanted: each as far as its level reaches, all alike.
pub fn skill(have: &[Skill], wanted: &[Skill]) -> Part {
    if wanted.is_empty() {
        return part("skill", SKILL, 1.0, "No skill is asked for.".into());
    }
    let mut reasons = Vec::new();
    let mut sum = 0.0;
    for one in wanted {
        let level = skill::level(have, &one.skill);
        let needed = one.level.max(1);
        #[expect(clippy::cast_precision_loss, reason = "levels are up to five")]
        let reached = (level as f64 / needed as f64).clamp(0.0, 1.0);
        sum += reached;
        reasons.push(match level {
            0 => format!("no {}", one.skill),
            level => format!("{} {level} of {needed}", one.skill),
        });
    }
    #[expect(clippy::cast_precision_loss, reason = "a few skills")]
    let value = sum / wanted.len() as f64;
    part("skill", SKILL, value, format!("Skills: {}.", reasons.join(", ")))
}

/// How much of the hours somebody has left.
pub fn availability(available: f64, hours: f64) -> Part {
    let value = if hours <= NOTHING { 1.0 } else { (available / hours).clamp(0.0, 1.0) };
    let reason = format!("{} of {} hours are available.", rounded(available), rounded(hours));
    part("availability", AVAILABILITY, value, reason)
}

/// How little somebody has to do already.
pub fn balance(allocated: f64, capacity: f64) -> Part {
    if capacity <= NOTHING {
        return part("balance", BALANCE, 0.0, "There is no time to work in.".into());
    }
    let used = allocated / capacity;
    let reason = format!("{} % of the time is planned already.", rounded((used * 100.0).round()));
    part("balance", BALANCE, (1.0 - used).clamp(0.0, 1.0), reason)
}

/// The parts together.
pub fn together(parts: Vec<Part>) -> Score {
    let score = rounded(parts.iter().map(|part| part.points).sum());
    Score { score, parts }
}

fn part(name: &str, weight: f64, value: f64, reason: String) -> Part {
    // Rounded once each: of a rounded value the points would be others in the last digit.
    Part { name: name.into(), weight, value: rounded(value), points: rounded(weight * value), reason }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn skills() -> impl Strategy<Value = Vec<Skill>> {
        let names = prop_oneof![Just("rust"), Just("sql"), Just("go"), Just("css")];
        proptest::collection::vec((names, 0_i64..6), 0..5)
            .prop_map(|list| list.into_iter().map(|(name, level)| Skill { skill: name.into(), level }).collect())
    }

    proptest! {
        #[test]
        fn a_score_is_the_sum_of_what_it_explains(
            have in skills(), wanted in skills(), available in 0.0_f64..100.0, hours in 0.0_f64..100.0,
            allocated in 0.0_f64..100.0, capacity in 0.0_f64..80.0,
        ) {
            let parts = vec![skill(&have, &wanted), availability(available, hours), balance(allocated, capacity)];
            let score = together(parts);
            prop_assert!((0.0..=1.0 + 1e-6).contains(&score.score), "{score:?}");
            let explained: f64 = score.parts.iter().map(|part| part.weight * part.value).sum();
            prop_assert!((score.score - explained).abs() < 1e-5, "{score:?}");
            prop_assert!(score.parts.iter().all(|part| (0.0..=1.0).contains(&part.value) && part.reason.len() > 5));
            prop_assert!((score.parts.iter().map(|part| part.weight).sum::<f64>() - 1.0).abs() < 1e-9);
        }

        #[test]
        fn knowing_more_having_more_time_and_less_to_do_is_never_worse(
            have in skills(), wanted in skills(), available in 0.0_f64..50.0, more in 0.0_f64..50.0,
        ) {
            let better: Vec<Skill> = have.iter().map(|one| Skill { level: (one.level + 1).min(5), ..one.clone() }).collect();
            prop_assert!(skill(&better, &wanted).value >= skill(&have, &wanted).value);
            prop_assert!(availability(available + more, 40.0).value >= availability(available, 40.0).value);
            prop_assert!(balance(available + more, 40.0).value <= balance(available, 40.0).value);
        }
    }

    #[test]
    fn who_can_do_everything_and_has_nothing_to_do_has_the_whole_score() {
        let rust = |level| vec![Skill { skill: "Rust".into(), level }];
        let whole = together(vec![skill(&rust(5), &rust(3)), availability(40.0, 20.0), balance(0.0, 40.0)]);
        assert_eq!(whole.score, 1.0);
        let half = together(vec![skill(&rust(2), &rust(4)), availability(10.0, 20.0), balance(30.0, 40.0)]);
        assert_eq!(half.score, 0.45);
        assert_eq!(half.parts[0].reason, "Skills: Rust 2 of 4.");
        assert_eq!(balance(-0.0, 40.0).reason, "0 % of the time is planned already.");
        assert_eq!(together(vec![skill(&[], &rust(1)), availability(0.0, 1.0), balance(0.0, 0.0)]).score, 0.0);
    }
}
