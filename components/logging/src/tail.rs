//! The log as it grows, as server-sent events: what came after `Last-Event-ID`, or from now on.

use std::{collections::VecDeque, time::Duration};

use berth_sdk::{
    http::{Event, Next},
    prelude::*,
    serde_json::{self, Value},
};

use crate::{
    filter::Filter,
    read::{self, SHOWN},
};

/// How often it looks for new lines.
const LOOK: Duration = Duration::from_millis(500);
/// Lines of one look.
const LINES_MAX: usize = 200;
/// How many looks may fail in a row before the stream ends; the client comes back.
const FAILURES_MAX: u32 = 20;

/// Where a tail is.
struct Tail {
    organization_id: Id,
    filter: Filter,
    after: i64,
    ready: VecDeque<Value>,
    failures: u32,
}

/// `GET /api/logs/tail`: the same filters as the list. The id of an event is the line's number.
pub(crate) fn tail(query: PageQuery, request: Request) -> Result<Sse> {
    let organization_id = auth::organization_id()?;
    let filter = read::narrowed(&query)?;
    let named = request.header("last-event-id").map(str::to_string).or_else(|| query.filter("lastEventId"));
    let after = match named {
        Some(text) => text
            .trim()
            .parse()
            .ok()
            .filter(|after| *after >= 0)
            .ok_or_else(|| Problem::field("lastEventId", "must be the id of an event"))?,
        None => head(&organization_id)?,
    };
    let mut tail = Tail { organization_id, filter, after, ready: VecDeque::new(), failures: 0 };
    Ok(Sse::new(move || tail.next()))
}

fn head(organization_id: &Id) -> Result<i64> {
    let row = database::query_one(
        "SELECT last_sequence FROM log_heads WHERE organization_id = $1",
        params![organization_id],
    )?;
    Ok(row.map_or(Ok(0), |row| row.get("last_sequence"))?)
}

impl Tail {
    fn next(&mut self) -> Next<Event> {
        if self.ready.is_empty() {
            match self.look() {
                Ok(true) => self.failures = 0,
                Ok(false) => {
                    self.failures = 0;
                    return Next::Wait(LOOK);
                }
                Err(_) => {
                    self.failures += 1;
                    return if self.failures >= FAILURES_MAX { Next::End } else { Next::Wait(LOOK) };
                }
            }
        }
        match self.ready.pop_front() {
            Some(line) => {
                let sequence = line.get("sequence").and_then(Value::as_i64).unwrap_or(self.after);
                Next::Item(Event::new("log").id(sequence).json(&line))
            }
            None => Next::Wait(LOOK),
        }
    }

    /// Reads on; false when nothing is new. Lines that do not fit are passed over for good.
    fn look(&mut self) -> Result<bool> {
        let head = head(&self.organization_id)?;
        if head <= self.after {
            return Ok(false);
        }
        let mut filter = self.filter.clone();
        // Whoever loses sight of a project while they follow is told no more of it.
        read::within_projects(&mut filter);
        filter.and("sequence > ? AND sequence <= ?", [self.after.into(), head.into()]);
        let sql = format!("SELECT {SHOWN} FROM log_logs WHERE {} ORDER BY sequence LIMIT {LINES_MAX}", filter.sql);
        let text = database::query_json(&sql, &filter.values)?;
        let lines: Vec<Value> = serde_json::from_slice(&text).map_err(|_| Problem::internal())?;
        let last = lines.last().and_then(|line| line.get("sequence")).and_then(Value::as_i64);
        self.after = if lines.len() < LINES_MAX { head } else { last.unwrap_or(head) };
        self.ready.extend(lines);
        Ok(!self.ready.is_empty())
    }
}
