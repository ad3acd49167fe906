//! Who sees which variant: always the same for the same user, by draws that know nothing of each other. Pure.

use berth_sdk::prelude::*;
use experiment_rules::draw;

use super::Running;
use crate::resolve::Text;

/// A variant, as far as choosing it goes.
#[data]
pub struct Arm {
    /// The variant.
    pub id: Id,
    /// Its share of the total weight.
    pub weight: i64,
    /// The version it is, where it is one.
    pub version: Option<Text>,
    /// The text.
    pub content: String,
}

/// The variant of a user; none outside the experiment's traffic.
pub fn variant<'a>(experiment: &'a Running, user_id: &str) -> Option<&'a Arm> {
    if !draw::is_inside(&experiment.id, user_id, experiment.traffic_percentage) {
        return None;
    }
    let weights: Vec<i64> = experiment.arms.iter().map(|arm| arm.weight).collect();
    experiment.arms.get(draw::variant(&experiment.id, user_id, &weights)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn experiment(traffic_percentage: i64, weights: &[i64]) -> Running {
        let arm = |(index, weight): (usize, &i64)| Arm {
            id: format!("a{index}").into(),
            weight: *weight,
            version: None,
            content: String::new(),
        };
        Running {
            id: "x1".into(),
            traffic_percentage,
            start_date: None,
            end_date: None,
            arms: weights.iter().enumerate().map(arm).collect(),
        }
    }

    #[test]
    fn shares_follow_the_weights_and_the_traffic() {
        let running = experiment(50, &[1, 3]);
        let seen: Vec<&str> =
            (0..20_000).filter_map(|n| variant(&running, &format!("u{n}"))).map(|arm| arm.id.as_str()).collect();
        let second = seen.iter().filter(|id| **id == "a1").count();
        assert!((9_600..10_400).contains(&seen.len()), "{} of 20000 are in", seen.len());
        let share = second as f64 / seen.len() as f64;
        assert!((0.73..0.77).contains(&share), "{share} see the second");
    }

    #[test]
    fn who_is_let_in_says_nothing_about_the_variant() {
        // With one hash for both, a half of the traffic would see the first of two equal variants alone.
        let running = experiment(50, &[1, 1]);
        let all = experiment(100, &[1, 1]);
        let mut inside = [0, 0];
        for user in (0..20_000).map(|n| format!("u{n}")) {
            if variant(&running, &user).is_some() {
                let index = usize::from(variant(&all, &user).unwrap().id.as_str() == "a1");
                inside[index] += 1;
            }
        }
        let share = f64::from(inside[0]) / f64::from(inside[0] + inside[1]);
        assert!((0.47..0.53).contains(&share), "{inside:?}");
    }

    proptest! {
        #[test]
        fn a_user_always_sees_the_same(user in "[a-z0-9]{1,20}", traffic in 0_i64..=100, weights in proptest::collection::vec(1_i64..50, 1..6)) {
            let running = experiment(traffic, &weights);
            let first = variant(&running, &user).map(|arm| arm.id.clone());
            prop_assert_eq!(first.clone(), variant(&running, &user).map(|arm| arm.id.clone()));
            // More traffic never changes what somebody sees already.
            if first.is_some() {
                let more = experiment(100, &weights);
                prop_assert_eq!(first, variant(&more, &user).map(|arm| arm.id.clone()));
            }
            prop_assert!(variant(&experiment(0, &weights), &user).is_none());
        }
    }
}
