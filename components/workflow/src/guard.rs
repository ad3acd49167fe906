//! Against loops: a run that causes an event, which starts a run, which causes an event, … ends after five runs, and a
//! workflow never answers to events of its own runs.
//!
//! An event is caused by a run when it was published while the run's message was handled, by this service or by one that
//! the run called; when it was caused by such an event; or when it tells of something that the run has made, within the same
//! chain of messages. Should a chain be lost sight of nevertheless, the number of runs of one workflow in it is bounded.

use berth_sdk::{prelude::*, serde_json::Value};

/// The most runs that cause each other, one after the other.
pub const DEPTH_MAX: i64 = 5;
/// The most runs of one workflow in one chain of messages.
const CHAIN_MAX: i64 = 1_000;
/// The most runs of one workflow that steps start in one chain: ten steps with a run for each of a thousand items.
const CHILDREN_MAX: i64 = 10_000;
/// Members of a payload that are looked at.
const THINGS_MAX: usize = 8;

/// The run that caused an event.
#[data]
pub struct Cause {
    /// The run.
    pub run_id: Id,
    /// Its workflow.
    pub workflow_id: Id,
    /// How many runs led to it.
    pub depth: i64,
}

const COLUMNS: &str = "r.id AS \"runId\", r.workflow_id AS \"workflowId\", r.depth AS \"depth\"";

/// The run whose message, or whose event, caused this event. It is noted, so that what this event causes is found too.
pub fn by_message(envelope: &Envelope) -> Result<Option<Cause>> {
    let Some(causation_id) = &envelope.causation_id else { return Ok(None) };
    let organization_id = auth::organization_id()?;
    let found: Vec<Cause> = database::query_as(
        &Pool,
        &format!(
            "SELECT {COLUMNS} FROM workflow_runs r WHERE r.organization_id = $1 AND r.id IN \
             (SELECT s.run_id FROM workflow_step_runs s WHERE s.message_id = $2 \
              UNION ALL SELECT c.run_id FROM workflow_causes c WHERE c.event_id = $2) LIMIT 1"
        ),
        params![&organization_id, causation_id],
    )?;
    let Some(cause) = found.into_iter().next() else { return Ok(None) };
    database::execute(
        "INSERT INTO workflow_causes (event_id, run_id, created_at) VALUES ($1, $2, $3) ON CONFLICT (event_id) DO NOTHING",
        params![&envelope.id, &cause.run_id, clock::now()],
    )?;
    Ok(Some(cause))
}

/// The run that made something which the event tells of, in the same chain. What people do later with what a run made is
/// another chain.
pub fn by_thing(envelope: &Envelope, data: &Value) -> Result<Option<Cause>> {
    let Some(correlation_id) = envelope.correlation_id.as_ref().filter(|_| envelope.causation_id.is_some()) else {
        return Ok(None);
    };
    let things = things(data);
    if things.is_empty() {
        return Ok(None);
    }
    let mut values: Vec<database::Value> = vec![auth::organization_id()?.into(), correlation_id.into()];
    values.extend(things.into_iter().map(database::Value::from));
    let places: Vec<String> = (3..=values.len()).map(|place| format!("${place}")).collect();
    let found: Vec<Cause> = database::query_as(
        &Pool,
        &format!(
            "SELECT {COLUMNS} FROM workflow_runs r WHERE r.organization_id = $1 AND r.correlation_id = $2 AND r.id IN \
             (SELECT s.run_id FROM workflow_step_runs s WHERE s.external_id IN ({})) ORDER BY r.depth DESC LIMIT 1",
            places.join(", ")
        ),
        &values,
    )?;
    Ok(found.into_iter().next())
}

/// The ids in a payload that may name something a run has made.
///
/// ```
/// use berth_sdk::json;
/// use workflow::guard::things;
/// assert_eq!(things(&json!({"executionId": "e1", "userId": "u1", "status": "done", "id": "x"})), ["e1", "x"]);
/// ```
pub fn things(data: &Value) -> Vec<&str> {
    let is_thing = |name: &str| {
        (name == "id" || name.ends_with("Id")) && !matches!(name, "userId" | "organizationId" | "projectId" | "teamId")
    };
    let members = data.as_object().into_iter().flatten();
    members.filter(|(name, _)| is_thing(name)).filter_map(|(_, value)| value.as_str()).take(THINGS_MAX).collect()
}

/// Whether an event with this cause may start a workflow.
pub fn allows(workflow_id: &Id, cause: Option<&Cause>, correlation_id: Option<&str>) -> Result<bool> {
    if cause.is_some_and(|cause| cause.workflow_id == *workflow_id || cause.depth >= DEPTH_MAX) {
        return Ok(false);
    }
    let Some(correlation_id) = correlation_id else { return Ok(true) };
    Ok(count(&Pool, workflow_id, correlation_id)? < CHAIN_MAX)
}

fn count(database: &dyn Executor, workflow_id: &Id, correlation_id: &str) -> Result<i64> {
    let count = database.query_one(
        "SELECT COUNT(*) AS count FROM workflow_runs WHERE correlation_id = $1 AND workflow_id = $2",
        params![correlation_id, workflow_id],
    )?;
    Ok(count.map_or(Ok(0), |row| row.get("count"))?)
}

/// 422 when steps have started so many runs of a workflow in one chain that it can only be a loop over items that are loops
/// themselves: five levels of a thousand each would never end.
pub fn require_few(transaction: &Transaction, workflow_id: &Id, correlation_id: Option<&str>) -> Result<()> {
    correlation_id.map_or(Ok(()), |correlation_id| judge(count(transaction, workflow_id, correlation_id)?))
}

fn judge(count: i64) -> Result<()> {
    if count < CHILDREN_MAX {
        return Ok(());
    }
    let detail = format!("Steps of one chain start at most {CHILDREN_MAX} runs of a workflow.");
    Err(Problem::unprocessable(detail).with_code("TOO_MANY_RUNS"))
}

#[cfg(test)]
mod tests {
    use super::{CHILDREN_MAX, judge};

    #[test]
    fn runs_within_runs_have_an_end() {
        assert!(judge(CHILDREN_MAX - 1).is_ok());
        assert_eq!(judge(CHILDREN_MAX).unwrap_err().code, "TOO_MANY_RUNS");
    }
}
