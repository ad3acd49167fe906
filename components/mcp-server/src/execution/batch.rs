//! Several executions in one request.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::{order::Order, run};

/// Executions of one batch.
const EXECUTIONS_MAX: usize = 20;

/// Several orders.
#[data]
pub struct Batch {
    /// What is to be executed.
    #[field(min = 1, max = 20)]
    executions: Vec<Order>,
    /// They do not wait for each other: each runs by a message of its own, and the answers say where to look.
    parallel: Option<bool>,
    /// After the first that fails nothing more is executed.
    stop_on_error: Option<bool>,
}

/// What came of each, in their order.
#[data]
pub struct Results {
    /// Each with its `status` (of HTTP) and `result` or `problem`; those that were not begun have neither.
    results: Vec<Value>,
    /// How many came to a good end or were taken on.
    succeeded: i64,
    /// How many did not.
    failed: i64,
    /// How many were not begun.
    skipped: i64,
}

/// `POST /api/mcp/execute/batch`.
pub fn post(request: Request) -> Result<Json<Results>> {
    let mut request = request;
    let request_id = request.request_id.clone();
    let Json(mut batch) = Json::<Batch>::from_request(&mut request)?;
    if batch.executions.len() > EXECUTIONS_MAX {
        return Err(Problem::field("executions", format!("must have at most {EXECUTIONS_MAX} entries")));
    }
    let is_parallel = batch.parallel.unwrap_or(false);
    let stops = batch.stop_on_error.unwrap_or(false);
    let mut results = Results { results: Vec::new(), succeeded: 0, failed: 0, skipped: 0 };
    for order in &mut batch.executions {
        if stops && results.failed > 0 {
            results.skipped += 1;
            results.results.push(json!({ "status": Value::Null, "skipped": true }));
            continue;
        }
        if is_parallel {
            order.r#async = Some(true);
        }
        let (result, is_good) = shown(run::execute(order), &request_id);
        results.results.push(result);
        if is_good { results.succeeded += 1 } else { results.failed += 1 }
    }
    Ok(Json(results))
}

fn shown(outcome: Result<run::Outcome>, request_id: &str) -> (Value, bool) {
    match outcome {
        Ok(outcome) => {
            let is_good = outcome.body.get("isError") != Some(&Value::Bool(true));
            let mut shown = Map::new();
            shown.insert("status".into(), outcome.status.into());
            shown.insert("result".into(), Value::Object(outcome.body));
            (Value::Object(shown), is_good)
        }
        Err(problem) => (json!({ "status": problem.status, "problem": problem.to_json(request_id) }), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_says_it_failed_has_failed() {
        let body = json!({"isError": true}).as_object().cloned().unwrap();
        assert!(!shown(Ok(run::Outcome { status: 200, body }), "r").1);
        let (shown, is_good) = shown(Err(Problem::missing("tool")), "r");
        assert_eq!(
            (shown["status"].as_u64(), shown["problem"]["requestId"].as_str(), is_good),
            (Some(404), Some("r"), false)
        );
    }
}
