//! The live history of an execution as server-sent events: what has happened since `Last-Event-ID`, then what happens,
//! until the execution has ended.

use std::{collections::VecDeque, time::Duration};

use berth_sdk::{
    http::{Event as Sent, Next},
    prelude::*,
};

use crate::{execution::Execution, history};

/// How often it looks for new events.
const LOOK: Duration = Duration::from_millis(250);
/// How many events it reads at once.
const READ_MAX: i64 = 100;
/// How many looks may fail in a row before the stream ends; the client comes back.
const FAILURES_MAX: u32 = 20;

/// The stream after an event.
pub fn stream(execution_id: Id, after: i64) -> Sse {
    let mut after = after;
    let mut ready: VecDeque<history::Event> = VecDeque::new();
    let mut failures = 0;
    Sse::new(move || {
        if ready.is_empty() {
            match look(&execution_id, after) {
                Ok(Look::Events(events)) => ready.extend(events),
                Ok(Look::Quiet) => return Next::Wait(LOOK),
                Ok(Look::Over) => return Next::End,
                Err(problem) => {
                    failures += 1;
                    if failures >= FAILURES_MAX || problem.status == 404 {
                        return Next::End;
                    }
                    return Next::Wait(LOOK);
                }
            }
        }
        failures = 0;
        match ready.pop_front() {
            Some(event) => {
                after = event.sequence;
                Next::Item(Sent::new(&event.r#type).id(event.sequence).json(&event))
            }
            None => Next::Wait(LOOK),
        }
    })
}

enum Look {
    Events(Vec<history::Event>),
    Quiet,
    Over,
}

fn look(execution_id: &Id, after: i64) -> Result<Look> {
    let events = history::after(execution_id, after, READ_MAX)?;
    if !events.is_empty() {
        return Ok(Look::Events(events));
    }
    let execution = entity::read::<Execution>(&Pool, execution_id)?;
    // Both must hold: an event may have been written between the two reads.
    let has_all = execution.event_sequence <= after;
    Ok(if execution.status.is_terminal() && has_all { Look::Over } else { Look::Quiet })
}
