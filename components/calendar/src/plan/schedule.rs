//! When the steps of a plan would take place: one after what it waits for, within the windows that are open. Pure.

use std::{collections::BTreeMap, time::Duration};

use berth_sdk::prelude::*;
use time_rules::TimeRules;

use crate::{environment, event::EventType, recurrence::Span};

/// The shortest event of a step.
const MINUTES_MIN: u64 = 5;
/// The longest.
const MINUTES_MAX: u64 = 24 * 60;
/// How much a prediction loses with each step it waits for.
const LOSS: f64 = 0.95;

/// A step, as far as its time goes.
#[data]
pub struct Step {
    /// Its id.
    pub id: Id,
    /// Its place.
    pub order: i64,
    /// Its name.
    pub title: String,
    /// What it does.
    pub r#type: String,
    /// The steps it waits for.
    #[field(default)]
    pub dependencies: Vec<Id>,
}

impl Step {
    /// How long steps of its kind take, in minutes, when nothing better is known.
    fn usual_minutes(&self) -> u64 {
        match self.r#type.as_str() {
            "approval" | "human" | "decision" => 60,
            kind if kind.contains("agent") => 30,
            "command" | "validation" | "test" => 10,
            _ => MINUTES_MIN,
        }
    }

    /// What it is in a calendar.
    pub fn event_type(&self) -> EventType {
        match self.r#type.as_str() {
            "approval" => EventType::Approval,
            "decision" => EventType::Decision,
            "human" => EventType::HumanAction,
            "deployment" => EventType::Deployment,
            _ => EventType::AgentExecution,
        }
    }
}

/// When a step would take place.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// Which of the steps.
    pub index: usize,
    /// When.
    pub span: Span,
    /// From 0 to 1.
    pub confidence: f64,
}

/// Places every step. `estimate` is how many minutes the whole plan takes, where somebody has said so. None when a step finds
/// no window.
pub fn place(steps: &[Step], begin: Timestamp, rules: &[TimeRules], estimate: Option<u64>) -> Option<Vec<Placed>> {
    let usual: u64 = steps.iter().map(Step::usual_minutes).sum();
    let mut placed: Vec<Placed> = Vec::new();
    let mut ends: BTreeMap<&Id, (Timestamp, f64)> = BTreeMap::new();
    let mut open: Vec<usize> = (0..steps.len()).collect();
    open.sort_by_key(|index| steps.get(*index).map(|step| step.order));
    while !open.is_empty() {
        let is_ready = |index: &usize| {
            steps.get(*index).is_some_and(|step| {
                step.dependencies.iter().all(|id| ends.contains_key(id) || steps.iter().all(|step| step.id != *id))
            })
        };
        // In a circle, which planning does not allow, the first one begins.
        let at = open.iter().position(is_ready).unwrap_or(0);
        let index = open.remove(at);
        let step = steps.get(index)?;
        let awaited = step.dependencies.iter().filter_map(|id| ends.get(id));
        let (from, confidence) = awaited
            .fold((begin, if estimate.is_some() { 0.7 } else { 0.5 }), |(from, sure), (end, before)| {
                (from.max(*end), f64::min(sure, before * LOSS))
            });
        let minutes = estimate.map_or(step.usual_minutes(), |estimate| {
            (estimate * step.usual_minutes()).div_ceil(usual.max(1)).clamp(MINUTES_MIN, MINUTES_MAX)
        });
        let length = Duration::from_secs(minutes * 60);
        let start = environment::suggest(Span { start: from, end: from.plus(length) }, rules)?;
        let span = Span { start, end: start.plus(length) };
        ends.insert(&step.id, (span.end, confidence));
        placed.push(Placed { index, span, confidence });
    }
    Some(placed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn steps(list: &[(&str, &[&str])]) -> Vec<Step> {
        let step = |(order, (kind, waits)): (usize, &(&str, &[&str]))| Step {
            id: Id::from(format!("s{order}")),
            order: order as i64,
            title: format!("Step {order}"),
            r#type: (*kind).into(),
            dependencies: waits.iter().map(|id| Id::from(*id)).collect(),
        };
        list.iter().enumerate().map(step).collect()
    }

    #[test]
    fn steps_without_a_bond_go_side_by_side() {
        let all = steps(&[("command", &[]), ("command", &[]), ("approval", &["s0", "s1"])]);
        let begin = Timestamp::from_millis(0);
        let placed = place(&all, begin, &[], None).unwrap();
        let minutes: Vec<(i64, i64)> = placed
            .iter()
            .map(|placed| (placed.span.start.millis() / 60_000, placed.span.end.millis() / 60_000))
            .collect();
        assert_eq!(minutes, [(0, 10), (0, 10), (10, 70)]);
        assert!(placed[2].confidence < placed[0].confidence);
    }

    #[test]
    fn an_approval_waits_for_the_office() {
        let rules = TimeRules {
            allowed_hours: vec!["09:00-17:00".into()],
            blocked_days: vec!["saturday".into(), "sunday".into()],
            timezone: "UTC".into(),
        };
        let friday = Timestamp::parse("2026-11-20T16:30:00Z").unwrap();
        let placed = place(&steps(&[("approval", &[])]), friday, &[rules], None).unwrap();
        assert_eq!(placed[0].span.start.to_string(), "2026-11-23T09:00:00.000Z");
    }

    proptest! {
        #[test]
        fn no_step_begins_before_what_it_waits_for(
            bonds in proptest::collection::vec((0_usize..12, 0_usize..12), 0..30), estimate in proptest::option::of(1_u64..10_000)
        ) {
            let mut all = steps(&[("command", &[][..]); 12]);
            for (from, to) in bonds {
                if from < to {
                    let id = all[from].id.clone();
                    all[to].dependencies.push(id);
                }
            }
            let placed = place(&all, Timestamp::from_millis(0), &[], estimate).unwrap();
            prop_assert_eq!(placed.len(), 12);
            for one in &placed {
                for other in &placed {
                    if all[one.index].dependencies.contains(&all[other.index].id) {
                        prop_assert!(one.span.start >= other.span.end && one.confidence <= other.confidence);
                    }
                }
            }
        }
    }
}
