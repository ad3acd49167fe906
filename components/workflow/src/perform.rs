//! What happens outside a transaction: calls of addresses and of other plugins, and asking how far something is.

use std::time::Duration;

use berth_sdk::{Fault, Problem, http_out::Call, json, serde_json, serde_json::Value};

use crate::{
    action::{Action, Prepared, Watch},
    definition::{Step, StepType},
    failure::Failure,
};

/// The first look at what a step waits for.
pub const LOOK_MIN: Duration = Duration::from_secs(5);
/// How a failure begins whose reason is that the run's user lacks a right.
pub const MAY_NOT: &str = "The user for whom the run acts may not do this:";
/// The longest time between two looks.
pub const LOOK_MAX: Duration = Duration::from_secs(10 * 60);

/// What is to be done before the step can go on.
pub enum Errand {
    /// A call.
    Call(Box<Prepared>),
    /// A look at something that goes on elsewhere.
    Look {
        /// What it is.
        watch: Watch,
        /// Its id.
        id: String,
    },
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The call has done what it should.
    Done {
        /// The answer.
        output: Value,
        /// What was made: events that tell of it are caused by the run.
        external_id: Option<String>,
    },
    /// Something has begun elsewhere.
    GoesOn {
        /// What it is.
        watch: Watch,
        /// Its id.
        id: String,
    },
    /// It is not over.
    StillGoing,
    /// What the step waited for is over.
    Ended(Value),
    /// It has failed.
    Failed(Failure),
}

impl Errand {
    /// Goes.
    pub fn go(self) -> Outcome {
        match self {
            Self::Call(prepared) => match *prepared {
                Prepared::Outside(described) => match described.perform() {
                    Ok(output) => Outcome::Done { output, external_id: None },
                    Err(refusal) => Outcome::Failed(refusal.into()),
                },
                Prepared::Plugin { call, watch } => ask(&call, watch),
            },
            Self::Look { watch, id } => look(watch, &id),
        }
    }
}

fn ask(call: &Call, watch: Option<Watch>) -> Outcome {
    match answer(call) {
        Err(failure) => Outcome::Failed(failure),
        Ok(output) => match watch {
            Some(watch) => match watch.id(&output) {
                Some(id) => Outcome::GoesOn { watch, id },
                None => Outcome::Failed(Failure::lasting("BAD_ANSWER", "What was started has no id.")),
            },
            // A tool may answer and say that it failed.
            None if output.get("isError") == Some(&Value::Bool(true)) => {
                Outcome::Failed(Failure::new("TOOL_FAILED", "The tool reports a failure.").with_output(output))
            }
            None => {
                let external_id = output.get("id").and_then(Value::as_str).map(ToString::to_string);
                Outcome::Done { output, external_id }
            }
        },
    }
}

/// The answer of another plugin.
fn answer(call: &Call) -> Result<Value, Failure> {
    let reply = call.send().map_err(|fault| match fault {
        Fault::Timeout => Failure::unknown("STEP_TIMEOUT", "The service took too long."),
        Fault::Denied(_) => Failure::new("SERVICE_UNAVAILABLE", "The service is not there."),
        Fault::TooLarge(_) => Failure::lasting("RESPONSE_TOO_LARGE", "The answer is too large."),
        _ => Failure::unknown("SERVICE_UNAVAILABLE", "The service did not answer."),
    })?;
    if !reply.is_success() {
        return Err(refused(reply.problem()));
    }
    if reply.body.is_empty() {
        return Ok(json!({ "status": reply.status }));
    }
    Ok(serde_json::from_slice(&reply.body).unwrap_or_else(|_| json!({ "text": String::from_utf8_lossy(&reply.body) })))
}

/// Why the other plugin did not do it. What somebody may not do is their affair: they are told that it is about them.
fn refused(problem: Problem) -> Failure {
    let is_forbidden = problem.status == 403;
    let failure = Failure::from(problem);
    if is_forbidden { Failure { message: format!("{MAY_NOT} {}", failure.message), ..failure } } else { failure }
}

/// Asks how far something is. A plugin that is away for a moment says nothing about it.
fn look(watch: Watch, id: &str) -> Outcome {
    match answer(&watch.look(id)) {
        Ok(found) => {
            let found = found.get("execution").cloned().unwrap_or(found);
            let status = found.get("status").and_then(Value::as_str).unwrap_or_default().to_string();
            end(watch, &status, &found).unwrap_or(Outcome::StillGoing)
        }
        Err(failure) if failure.code == "NOT_FOUND" => {
            Outcome::Failed(Failure::lasting("NOT_FOUND", "What the step waits for is not there any more."))
        }
        Err(_) => Outcome::StillGoing,
    }
}

/// What the end of something elsewhere means for the step; none while it goes on.
pub fn end(watch: Watch, status: &str, found: &Value) -> Option<Outcome> {
    let facts = |name: &str| found.get(name).cloned().unwrap_or(Value::Null);
    let id = found.get("executionId").or(found.get("id")).cloned().unwrap_or(Value::Null);
    match status {
        "completed" => {
            let output = match watch {
                Watch::Execution => json!({ "executionId": id, "status": status, "result": facts("result") }),
                Watch::Agent => json!({ "executionId": id, "status": status, "output": facts("output"),
                    "tokensUsed": facts("tokensUsed") }),
            };
            Some(Outcome::Ended(output))
        }
        "failed" | "cancelled" | "rolled_back" | "timeout" | "timed_out" => {
            let code = if watch == Watch::Agent { "AGENT_FAILED" } else { "EXECUTION_FAILED" };
            let error = found.get("error");
            let said = error.and_then(|error| error.get("message").or(Some(error))).and_then(Value::as_str);
            let message = said.map_or_else(|| format!("It ended as {status}."), ToString::to_string);
            Some(Outcome::Failed(Failure::new(code, message)))
        }
        _ => None,
    }
}

/// What a step waits for elsewhere.
pub fn watch_of(step: &Step) -> Option<Watch> {
    if !matches!(step.r#type, StepType::Action | StepType::Foreach) {
        return None;
    }
    match step.known_action()? {
        Action::ExecutionStart => Some(Watch::Execution),
        Action::AgentRun => Some(Watch::Agent),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use berth_sdk::{Problem, json};

    use super::{Outcome, end, refused};
    use crate::action::Watch;

    #[test]
    fn what_the_user_may_not_do_is_said_to_be_about_them_and_stays() {
        let failure = refused(Problem::forbidden("the permission tasks.task.create is missing"));
        assert_eq!(
            failure.message,
            "The user for whom the run acts may not do this: the permission tasks.task.create is missing"
        );
        assert!(failure.code == "FORBIDDEN" && !failure.may_pass);
        assert_eq!(refused(Problem::not_found("There is none.")).message, "There is none.");
    }

    #[test]
    fn the_end_of_something_elsewhere_ends_the_step() {
        let found = json!({"id": "e1", "result": {"files": 2}, "error": {"message": "no"}});
        assert!(
            matches!(end(Watch::Execution, "completed", &found), Some(Outcome::Ended(output)) if output["result"]["files"] == 2)
        );
        assert!(
            matches!(end(Watch::Agent, "failed", &found), Some(Outcome::Failed(failure)) if failure.message == "no")
        );
        assert!(end(Watch::Execution, "running", &found).is_none());
    }
}
