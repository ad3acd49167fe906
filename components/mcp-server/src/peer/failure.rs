//! What can go wrong with another server, and what is answered then.

use berth_sdk::{Fault, prelude::*, serde_json::Value};

use crate::{protocol::code, server::secret};

/// Characters of somebody else's words that are passed on.
const WORDS_MAX: usize = 500;

/// What went wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// It cannot be reached, or it failed.
    Transport(String),
    /// It took too long.
    Timeout,
    /// The credential cannot be used.
    Credential,
    /// The server does not accept who calls, or the host does not let it be called.
    Denied(String),
    /// The server does not know the session any more.
    SessionLost,
    /// What it says is not the protocol.
    Protocol(String),
    /// It answers with an error.
    Rpc {
        /// Which.
        code: i64,
        /// In its words.
        message: String,
        /// For a program.
        data: Option<Value>,
    },
    /// Nobody waits for it any more.
    Cancelled,
}

impl Failure {
    /// What a capability says.
    pub fn of_fault(fault: &Fault) -> Self {
        match fault {
            Fault::Timeout => Self::Timeout,
            Fault::SecretUnavailable => Self::Credential,
            Fault::Denied(_) => Self::Denied("The host may not call this address.".into()),
            Fault::TooLarge(_) => Self::Protocol("The answer is too large.".into()),
            _ => Self::Transport("The server cannot be reached.".into()),
        }
    }

    /// Whether trying again may help.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Transport(_))
    }

    /// In words.
    pub fn said(&self) -> String {
        match self {
            Self::Transport(said) | Self::Denied(said) | Self::Protocol(said) => said.clone(),
            Self::Timeout => "The server took too long.".into(),
            Self::Credential => "The server's credential is missing or cannot be used here.".into(),
            Self::SessionLost => "The server does not know the session any more.".into(),
            Self::Rpc { code, message, .. } => format!("The server refuses ({code}): {message}"),
            Self::Cancelled => "It was cancelled.".into(),
        }
    }

    /// What is answered.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Timeout => Problem::timeout(self.said()).with_code("EXECUTION_TIMEOUT"),
            Self::Credential => secret::unusable(),
            Self::Cancelled => Problem::conflict(self.said()).with_code("EXECUTION_CANCELLED"),
            Self::Rpc { code: code::METHOD_NOT_FOUND, .. } => {
                Problem::bad_gateway(self.said()).with_code("METHOD_NOT_FOUND")
            }
            Self::Rpc { code, .. } => Problem::bad_gateway(self.said()).with_code("RPC_ERROR").with("rpcCode", *code),
            _ => Problem::bad_gateway(self.said()).with_code("TRANSPORT_ERROR"),
        }
    }
}

/// The result of an answer.
pub fn result(answer: Value) -> Result<Value, Failure> {
    if let Some(error) = answer.get("error") {
        let words = error.get("message").and_then(Value::as_str).unwrap_or("without a word");
        return Err(Failure::Rpc {
            code: error.get("code").and_then(Value::as_i64).unwrap_or(code::INTERNAL),
            message: words.chars().filter(|letter| !letter.is_control()).take(WORDS_MAX).collect(),
            data: error.get("data").cloned(),
        });
    }
    match answer {
        Value::Object(mut members) => members
            .remove("result")
            .filter(Value::is_object)
            .ok_or_else(|| Failure::Protocol("The server answers without a result.".into())),
        _ => Err(Failure::Protocol("The server answers with something else than an object.".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_status() {
        let rpc = |code| Failure::Rpc { code, message: "no".into(), data: None };
        for (failure, status, code) in [
            (Failure::Timeout, 504, "EXECUTION_TIMEOUT"),
            (Failure::Credential, 409, "AUTH_SECRET_NOT_FOUND"),
            (Failure::Transport("x".into()), 502, "TRANSPORT_ERROR"),
            (rpc(code::METHOD_NOT_FOUND), 502, "METHOD_NOT_FOUND"),
            (rpc(-1), 502, "RPC_ERROR"),
        ] {
            let problem = failure.problem();
            assert_eq!((problem.status, problem.code.as_ref()), (status, code));
        }
    }

    #[test]
    fn an_answer_is_a_result_or_an_error() {
        assert_eq!(result(json!({"result": {"a": 1}})).unwrap(), json!({"a": 1}));
        assert!(
            matches!(result(json!({"error": {"code": -1, "message": "a\nb"}})), Err(Failure::Rpc { code: -1, message, .. }) if message == "ab")
        );
        assert!(matches!(result(json!({"result": 7})), Err(Failure::Protocol(_))));
        assert!(matches!(result(json!([])), Err(Failure::Protocol(_))));
    }
}
