//! Plans in the calendar: events proposed for their steps, what is predicted, and what came of it.

pub mod progress;
pub mod propose;
pub mod schedule;
pub mod timeline;

use berth_sdk::{prelude::*, serde_json::Value};

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
