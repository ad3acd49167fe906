//! `foreach`: the same action, or the same workflow, for each of many items. Items are rows of their own with attempts of
//! their own; at most `parallel` of them run at a time, and the step waits until the last one is over.

use std::time::Duration;

use berth_sdk::{prelude::*, serde_json::Value};

use crate::{
    advance,
    definition::{ITEMS_MAX, Step},
    failure::Failure,
    machine::StepStatus,
    run::Run,
    step_run::{self, StepRun, item_key},
    template,
};

/// Items at a time when nothing is said.
const PARALLEL: i64 = 5;

/// How far the items are.
#[data]
#[derive(Default)]
struct Progress {
    count: i64,
    /// The next item that begins.
    next: i64,
    done: i64,
    failed: i64,
    parallel: i64,
}

impl Progress {
    /// Whether another item may begin: there is one, and fewer than `parallel` are under way.
    fn has_room(&self) -> bool {
        self.next < self.count && self.next - self.done - self.failed < self.parallel
    }
}

/// Begins a `foreach`: its items are put together and the first ones are sent.
pub fn open(run: &mut Run<'_>, row: &mut Stored<StepRun>, step: &Step, scope: &Value) -> Result<()> {
    let items = step.input.get("items").cloned().unwrap_or(Value::Null);
    let items = match template::fill(&items, scope) {
        Ok(Value::Array(items)) => items,
        Ok(_) => {
            return advance::fail(run, row, Failure::lasting("INVALID_INPUT", "items must be a list."));
        }
        Err(failure) => return advance::fail(run, row, failure),
    };
    if items.len() > ITEMS_MAX {
        let message = format!("There are {} items; at most {ITEMS_MAX} are taken.", items.len());
        return advance::fail(run, row, Failure::lasting("TOO_MANY_ITEMS", message));
    }
    let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let parallel = step.input.get("parallel").and_then(Value::as_i64).unwrap_or(PARALLEL);
    row.input = Some(json!({ "items": items }));
    let progress = Progress { count, parallel, ..Progress::default() };
    row.progress = Some(json!(progress));
    advance::started(run, row);
    if count == 0 {
        return advance::finish(run, row, output(run, row, &progress)?);
    }
    let until = step.timeout.map(|timeout| run.now.plus(timeout.duration()));
    advance::wait(run, row, until, json!({ "waitsFor": "items", "items": count }))?;
    if let Some(timeout) = step.timeout {
        run.send(&row.key, row.attempt, Some(crate::run::Cause::Deadline), timeout.duration())?;
    }
    more(run, row, progress)
}

/// Sends as many items as have room, and ends the step with the last one.
fn more(run: &mut Run<'_>, row: &mut Stored<StepRun>, mut progress: Progress) -> Result<()> {
    while progress.has_room() {
        let index = progress.next;
        progress.next += 1;
        if !begin_item(run, row, index)? {
            progress.done += 1;
        }
    }
    row.progress = Some(json!(progress));
    if progress.done + progress.failed < progress.count {
        return entity::save(run.transaction, row);
    }
    let output = output(run, row, &progress)?;
    advance::finish(run, row, output)
}

/// Sends an item. False when it was done before the run was retried.
fn begin_item(run: &mut Run<'_>, row: &Stored<StepRun>, index: i64) -> Result<bool> {
    let key = item_key(&row.step_id, index);
    if let Some(mut item) = run.find_row(&key)? {
        if item.status == StepStatus::Completed {
            return Ok(false);
        }
        item.attempt_base = item.attempt;
        entity::save(run.transaction, &mut item)?;
        run.send_row(&item.id, &key, item.attempt + 1, false, Duration::ZERO)?;
        return Ok(true);
    }
    let message_id = run.send(&key, 1, None, Duration::ZERO)?;
    let item = StepRun {
        key,
        item_index: Some(index),
        name: format!("{} {}", row.name, index + 1),
        status: StepStatus::Pending,
        attempt: 1,
        attempt_base: 0,
        effect: 1,
        input: None,
        output: None,
        error: None,
        started_at: Some(run.now),
        finished_at: None,
        next_attempt_at: None,
        lease_until: None,
        deadline: None,
        external_id: None,
        message_id: Some(message_id.into_string()),
        progress: None,
        ..row.data.clone()
    };
    entity::create(run.transaction, item)?;
    Ok(true)
}

/// The item that a row stands for.
pub fn item(parent: &StepRun, index: i64) -> Option<Value> {
    let items = parent.input.as_ref()?.get("items")?.as_array()?;
    items.get(usize::try_from(index).ok()?).cloned()
}

/// An item has ended: the next one begins, or the step ends. A failed one fails the step unless the step goes on.
pub fn item_over(run: &mut Run<'_>, item: &Stored<StepRun>) -> Result<()> {
    let Some(mut row) = run.find_row(&item.step_id)? else { return Ok(()) };
    if row.status != StepStatus::Waiting {
        return Ok(());
    }
    let (_, step) = run.step(&item.step_id)?;
    let mut progress: Progress =
        row.progress.clone().and_then(|progress| berth_sdk::serde_json::from_value(progress).ok()).unwrap_or_default();
    if item.status == StepStatus::Completed {
        progress.done += 1;
        return more(run, &mut row, progress);
    }
    progress.failed += 1;
    if step.continue_on_error {
        return more(run, &mut row, progress);
    }
    row.progress = Some(json!(progress));
    run.transaction.execute(
        "UPDATE workflow_step_runs SET status = $3, finished_at = $4, updated_at = $4, lease_until = NULL, version = version + 1 \
         WHERE run_id = $1 AND step_id = $2 AND item_index IS NOT NULL AND status IN ('pending', 'running', 'waiting')",
        params![&run.row.id, &row.step_id, StepStatus::Cancelled, run.now],
    )?;
    let index = item.item_index.unwrap_or_default();
    let why = item.error.as_ref().and_then(|error| error.get("message")).and_then(Value::as_str).unwrap_or("it failed");
    let failure = Failure::lasting("ITEM_FAILED", format!("Item {index}: {why}"));
    advance::fail(run, &mut row, failure)
}

/// What the items have left, in their order.
fn output(run: &Run<'_>, row: &StepRun, progress: &Progress) -> Result<Value> {
    let rows = run.transaction.query(
        "SELECT item_index, status, output, error FROM workflow_step_runs WHERE run_id = $1 AND step_id = $2 \
         AND item_index IS NOT NULL ORDER BY item_index",
        params![&run.row.id, &row.step_id],
    )?;
    let mut items = Vec::new();
    for row in rows {
        let status: StepStatus =
            row.get::<String>("status").map(|text| StepStatus::parse(&text))?.unwrap_or(StepStatus::Failed);
        let output: Value = row.json("output")?;
        items.push(if status == StepStatus::Completed {
            output
        } else {
            json!({ "error": row.json::<Value>("error")? })
        });
    }
    let counts = json!({ "count": progress.count, "completed": progress.done, "failed": progress.failed });
    let whole = crate::history::with(counts.clone(), json!({ "items": items }));
    let is_small = whole.to_string().len() <= step_run::OUTPUT_BYTES_MAX;
    Ok(if is_small { whole } else { crate::history::with(counts, json!({ "items": null, "omitted": true })) })
}

#[cfg(test)]
mod tests {
    use super::Progress;

    #[test]
    fn never_more_items_are_under_way_than_may_be() {
        let mut progress = Progress { count: 20, parallel: 8, ..Progress::default() };
        let mut most = 0;
        while progress.done + progress.failed < progress.count {
            while progress.has_room() {
                progress.next += 1;
            }
            most = most.max(progress.next - progress.done - progress.failed);
            // Whichever way an item ends, the next one takes its place.
            if progress.done > progress.failed {
                progress.failed += 1;
            } else {
                progress.done += 1;
            }
        }
        assert_eq!((most, progress.next, progress.done, progress.failed), (8, 20, 10, 10));
        assert!(
            !Progress { count: 1, next: 1, parallel: 8, ..Progress::default() }.has_room(),
            "there is no other one"
        );
    }
}
