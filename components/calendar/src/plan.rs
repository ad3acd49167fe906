//! Plans in the calendar: events proposed for their steps, what is predicted, and what came of it.

pub mod progress;
pub mod propose;
pub mod schedule;
pub mod timeline;

use std::time::Duration;

use berth_sdk::{http_out, prelude::*, serde_json::Value};

/// How long planning may take to say who sees a plan.
const ASKED: Duration = Duration::from_secs(5);

/// What is predicted of a plan, or of one of its steps.
#[entity(table = "calendar_timeline_predictions", name = "prediction", sort = "predictedStart")]
pub struct Prediction {
    /// The plan.
    #[field(readonly)]
    pub plan_id: Id,
    /// The step; none for the whole plan.
    #[field(readonly)]
    pub plan_step_id: Option<Id>,
    /// When it begins.
    #[field(readonly)]
    pub predicted_start: Timestamp,
    /// When it is over.
    #[field(readonly)]
    pub predicted_end: Timestamp,
    /// How much that is worth, from 0 to 1.
    #[field(readonly)]
    pub confidence: f64,
    /// What it rests on.
    #[field(readonly)]
    pub basis: Value,
}

impl Rules for Prediction {}

/// The predictions of a plan.
pub fn predictions(database: &dyn Executor, plan_id: &Id) -> Result<Vec<Stored<Prediction>>> {
    Select::<Prediction>::new().equal("plan_id", plan_id).limit(600).all(database)
}

/// Whether the caller sees a plan; 503 when planning does not say.
pub fn sees(plan_id: &Id) -> Result<bool> {
    match http_out::plugin("planning").get(&format!("/api/plans/{plan_id}")).timeout(ASKED).accept() {
        Ok(_) => Ok(true),
        Err(problem) if problem.status < 500 => Ok(false),
        Err(problem) => {
            logging::warn!("planning does not say who sees a plan", problem = problem);
            Err(Problem::unavailable("Planning does not say who sees the plan; try again."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_planning_does_not_vouch_for_is_not_seen() {
        berth_sdk::testing::sign_in("u1", "o1");
        assert_eq!(sees(&Id::from("p1")).unwrap_err().status, 503, "natively nobody answers");
    }
}
