//! Executions tell when steps really began and ended; predictions of what is to come follow.

use berth_sdk::prelude::*;
use chrono::TimeDelta;

use super::{Prediction, predictions};
use crate::event::{Event, EventStatus, forget};

/// The surest a prediction gets.
const CONFIDENCE_MAX: f64 = 0.95;

/// What execution events carry.
#[data]
struct Told {
    plan_id: Option<Id>,
    step_id: Option<Id>,
    execution_id: Option<Id>,
    #[field(default)]
    dry_run: bool,
}

/// The consumer of `execution.#`.
pub fn told(envelope: &Envelope) -> Result<()> {
    let told: Told = envelope.data()?;
    let (Some(plan_id), Some(step_id), false) = (told.plan_id, told.step_id, told.dry_run) else { return Ok(()) };
    let (is_start, is_end) = match envelope.message_type.as_str() {
        "execution.step.started" => (true, false),
        "execution.step.completed" | "execution.step.failed" => (false, true),
        _ => return Ok(()),
    };
    let at = Timestamp::parse(&envelope.timestamp.to_string()).unwrap_or_else(clock::now);
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        let rows =
            Select::<Event>::new().equal("plan_id", &plan_id).equal("plan_step_id", &step_id).all(transaction)?;
        for mut row in rows {
            if is_start {
                begin(&mut row, at);
            }
            if is_end {
                row.actual_start = row.actual_start.or(Some(at));
                row.actual_end = Some(at);
            }
            if let Some(execution_id) = &told.execution_id {
                row.metadata.insert("executionId".into(), execution_id.as_str().into());
            }
            entity::save(transaction, &mut row)?;
        }
        if envelope.message_type == "execution.step.completed" {
            follow(transaction, &plan_id, &step_id, at)?;
        }
        forget(transaction);
        Ok(())
    })
}

/// A step has begun. One that is tried again begins where it first began, and one of which that is told late may be over.
fn begin(event: &mut Event, at: Timestamp) {
    event.actual_start = event.actual_start.or(Some(at));
    event.actual_end = event.actual_end.filter(|end| *end >= at);
    if event.status == EventStatus::Tentative {
        event.status = EventStatus::Confirmed;
    }
}

/// What was to come after a step moves by as much as the step was late, or early.
fn follow(transaction: &Transaction, plan_id: &Id, step_id: &Id, ended: Timestamp) -> Result<()> {
    let rows = predictions(transaction, plan_id)?;
    let Some(done) = rows.iter().find(|row| row.plan_step_id.as_ref() == Some(step_id)).cloned() else { return Ok(()) };
    let delay = ended.date_time() - done.predicted_end.date_time();
    let moved = |time: Timestamp| Timestamp::from(time.date_time() + delay);
    let mut end = ended;
    for row in &rows {
        let Some(id) = &row.plan_step_id else { continue };
        let is_to_come = row.predicted_start >= done.predicted_end;
        if id == step_id {
            save(transaction, row, done.predicted_start.min(ended), ended, 1.0, delay)?;
        } else if is_to_come {
            let confidence = (row.confidence + 0.05).min(CONFIDENCE_MAX);
            save(transaction, row, moved(row.predicted_start), moved(row.predicted_end), confidence, delay)?;
            end = end.max(moved(row.predicted_end));
        } else {
            end = end.max(row.predicted_end);
        }
    }
    if let Some(whole) = rows.iter().find(|row| row.plan_step_id.is_none()) {
        let confidence = (whole.confidence + 0.02).min(CONFIDENCE_MAX);
        save(transaction, whole, whole.predicted_start, end.max(whole.predicted_start), confidence, delay)?;
    }
    Ok(())
}

fn save(
    transaction: &Transaction,
    row: &Stored<Prediction>,
    start: Timestamp,
    end: Timestamp,
    confidence: f64,
    delay: TimeDelta,
) -> Result<()> {
    let mut row = row.clone();
    row.predicted_start = start;
    row.predicted_end = end;
    row.confidence = confidence;
    if let Some(basis) = row.basis.as_object_mut() {
        basis.insert("method".into(), "progress".into());
        basis.insert("movedBySeconds".into(), delay.num_seconds().into());
    }
    entity::save(transaction, &mut row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::propose::blank;

    #[test]
    fn a_step_that_is_over_stays_so_whatever_is_told_late() {
        let at = |minutes: i64| Timestamp::from_millis(minutes * 60_000);
        let mut event = Event { status: EventStatus::Tentative, ..blank("Step".into(), at(0)) };
        begin(&mut event, at(1));
        assert_eq!((event.actual_start, event.status), (Some(at(1)), EventStatus::Confirmed));
        event.actual_end = Some(at(3));
        begin(&mut event, at(1));
        assert_eq!(event.actual_end, Some(at(3)), "it was told twice");
        begin(&mut event, at(4));
        assert_eq!((event.actual_start, event.actual_end), (Some(at(1)), None), "it is tried again");
    }
}
