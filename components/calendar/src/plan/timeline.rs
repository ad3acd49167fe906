//! `GET /api/calendar/timeline`: the events of a plan beside what was predicted and what came of it.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::{Prediction, predictions, sees};
use crate::event::{
    Event, attendee,
    view::{Entry, Viewer},
};

/// The most events of a plan.
const EVENTS_MAX: i64 = 1_000;

/// Which plan.
#[data]
struct Which {
    plan_id: Id,
}

/// A plan in time.
#[data]
pub struct Timeline {
    plan_id: Id,
    /// Its events, in the order of time.
    items: Vec<Map<String, Value>>,
    /// What is predicted of its steps.
    predictions: Vec<Value>,
    /// What is predicted of the whole.
    prediction: Option<Value>,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
    /// Steps that have ended, of all that have an event.
    completed_steps: usize,
    total_steps: usize,
}

/// The route.
pub fn routes() -> Router {
    Router::new().get("/api/calendar/timeline", timeline).summary("See a plan in time.")
}

fn timeline(Query(which): Query<Which>) -> Result<Json<Timeline>> {
    let mut rows = Select::<Event>::new().equal("plan_id", &which.plan_id).limit(EVENTS_MAX).all(&Pool)?;
    let organization_id = auth::organization_id()?;
    let attendees = attendee::of_events(&Pool, &organization_id, rows.iter().map(|row| &row.id))?;
    let viewer = Viewer::caller();
    let entry = |row: &Stored<Event>| Entry::of(row, attendees.get(&row.id).map(Vec::as_slice).unwrap_or_default());
    // That something belongs to a plan is more than that somebody is busy; so is when the plan of others will be done.
    let count = rows.len();
    rows.retain(|row| viewer.sees(&entry(row)));
    let is_veiled = rows.is_empty() && count > 0;
    let mut known = if is_veiled { Vec::new() } else { predictions(&Pool, &which.plan_id)? };
    // Without an event that is the caller's to see, planning alone knows whose plan it is.
    if rows.is_empty() && !known.is_empty() && !sees(&which.plan_id)? {
        known.clear();
    }
    let (steps, whole): (Vec<Stored<Prediction>>, Vec<Stored<Prediction>>) =
        known.into_iter().partition(|row| row.plan_step_id.is_some());
    let of_steps = rows.iter().filter(|row| row.plan_step_id.is_some());
    Ok(Json(Timeline {
        items: rows.iter().map(|row| entry(row).event).collect(),
        predictions: steps.iter().map(|row| json!(row)).collect(),
        prediction: whole.first().map(|row| json!(row)),
        start: rows.iter().map(|row| row.actual_start.unwrap_or(row.start_time)).min(),
        end: rows.iter().map(|row| row.actual_end.unwrap_or(row.end_time)).max(),
        completed_steps: of_steps.clone().filter(|row| row.actual_end.is_some()).count(),
        total_steps: of_steps.count(),
        plan_id: which.plan_id,
    }))
}
