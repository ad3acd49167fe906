//! An experiment as those see it who are put into it: read often, so it is kept for half a minute.

use std::time::Duration;

use berth_sdk::{prelude::*, serde_json::Value};
use experiment_rules::draw;

use super::{Experiment, Variant, variants};

/// How long it is kept; every change of it by this service forgets it.
const KEPT: Duration = Duration::from_secs(30);

/// A variant, as far as choosing it goes.
#[data]
pub(super) struct Arm {
    pub id: Id,
    pub name: String,
    pub weight: i64,
    pub is_control: bool,
    pub config: Value,
}

/// An experiment with its variants.
#[data]
pub(super) struct Running {
    pub id: Id,
    pub experiment: Experiment,
    /// Always in the same order.
    pub arms: Vec<Arm>,
}

/// The key of the kept copy.
pub(super) fn key(id: &str) -> String {
    format!("experiment:{id}")
}

/// An experiment of the caller's organization; 404 otherwise.
pub(super) fn of(id: &Id) -> Result<Running> {
    berth_sdk::cache::remember(&key(id), KEPT, || {
        let row = entity::read::<Experiment>(&Pool, id)?;
        let arms = variants(&Pool, id)?.into_iter().map(Arm::from).collect();
        Ok(Running { id: row.id, experiment: row.data, arms })
    })
}

impl From<Stored<Variant>> for Arm {
    fn from(row: Stored<Variant>) -> Self {
        let Stored { id, data: Variant { name, weight, is_control, config, .. }, .. } = row;
        Self { id, name, weight, is_control, config }
    }
}

impl Running {
    /// The variant that somebody new gets; none outside the rollout.
    pub(super) fn draw(&self, subject_id: &str) -> Option<&Arm> {
        if !draw::is_inside(&self.id, subject_id, self.experiment.rollout_percentage) {
            return None;
        }
        let weights: Vec<i64> = self.arms.iter().map(|arm| arm.weight).collect();
        self.arms.get(draw::variant(&self.id, subject_id, &weights)?)
    }

    /// A variant of it.
    pub(super) fn arm(&self, id: &Id) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.id == *id)
    }

    /// What everybody gets who does not take part: the winner once there is one, and the control.
    pub(super) fn fallback(&self) -> Option<&Arm> {
        let winner = self.experiment.winner_variant_id.as_ref().and_then(|id| self.arm(id));
        winner.or_else(|| self.arms.iter().find(|arm| arm.is_control))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(rollout: i64, winner: Option<&str>) -> Running {
        let experiment = super::super::example(json!({"rolloutPercentage": rollout, "winnerVariantId": winner}));
        let arm = |id: &str, weight, is_control| Arm {
            id: id.into(),
            name: id.into(),
            weight,
            is_control,
            config: json!({}),
        };
        Running { id: "x1".into(), experiment, arms: vec![arm("a", 1, true), arm("b", 1, false)] }
    }

    #[test]
    fn outside_the_rollout_nobody_is_drawn() {
        assert!((0..500).all(|n| running(0, None).draw(&format!("u{n}")).is_none()));
        let half = running(50, None);
        let inside: Vec<_> = (0..2_000).filter_map(|n| half.draw(&format!("u{n}"))).collect();
        let second = inside.iter().filter(|arm| arm.id.as_str() == "b").count();
        assert!((900..1_100).contains(&inside.len()) && (430..570).contains(&second), "{} {second}", inside.len());
    }

    #[test]
    fn who_is_outside_gets_the_control_until_somebody_has_won() {
        assert_eq!(running(100, None).fallback().unwrap().name, "a");
        assert_eq!(running(100, Some("b")).fallback().unwrap().name, "b");
        assert_eq!(running(100, Some("gone")).fallback().unwrap().name, "a");
    }
}
