//! What kinds of messages there are and the course each of them takes. Pure rules.

use std::time::Duration;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

/// Users who may be asked to decide.
pub const APPROVERS_MAX: usize = 20;
/// Alternatives of a decision.
const ALTERNATIVES_MAX: usize = 20;
/// Members of structured data that say who answered, when and why.
pub const OUTCOME: &str = "outcome";
pub const ACKNOWLEDGEMENT: &str = "acknowledgement";
const ANSWERS: [&str; 2] = [OUTCOME, ACKNOWLEDGEMENT];
/// Characters of a line of structured data.
const LINE_CHARACTERS_MAX: usize = 4_000;

/// What a message is.
#[choice]
pub enum MessageType {
    /// Talk.
    Discussion,
    /// Something to be decided.
    Decision,
    /// Somebody has to agree.
    ApprovalRequest,
    /// Something may go wrong.
    RiskNotification,
    /// Something went wrong.
    IncidentReport,
    /// What a model advises.
    AiRecommendation,
    /// How an agent is doing.
    AgentStatus,
}

/// What kind of sender.
#[choice]
pub enum SenderType {
    /// A user.
    Human,
    /// An agent.
    Agent,
    /// A service.
    System,
}

/// How far a message has come.
#[choice]
pub enum State {
    /// Waits for an answer.
    Pending,
    /// Agreed.
    Approved,
    /// Refused.
    Rejected,
    /// Put forward.
    Proposed,
    /// Looked at.
    UnderReview,
    /// Done as decided.
    Implemented,
    /// Nobody has looked yet.
    Open,
    /// Somebody looks after it.
    Acknowledged,
    /// Over.
    Resolved,
    /// Goes on.
    Running,
    /// Went well.
    Completed,
    /// Did not.
    Failed,
    /// Deleted before it was answered.
    Withdrawn,
}

impl MessageType {
    /// Where its course begins; none for mere talk.
    pub fn first_state(self, data: &Map<String, Value>) -> Option<State> {
        match self {
            Self::Discussion => None,
            Self::Decision => Some(State::Proposed),
            Self::ApprovalRequest | Self::AiRecommendation => Some(State::Pending),
            Self::RiskNotification | Self::IncidentReport => Some(State::Open),
            Self::AgentStatus => Some(match data.get("status").and_then(Value::as_str) {
                Some("completed") => State::Completed,
                Some("failed") => State::Failed,
                _ => State::Running,
            }),
        }
    }

    /// Whether somebody agrees to it or refuses it.
    pub fn is_decidable(self) -> bool {
        matches!(self, Self::Decision | Self::ApprovalRequest | Self::AiRecommendation)
    }

    /// Whether somebody takes note of it.
    pub fn is_acknowledgeable(self) -> bool {
        matches!(self, Self::RiskNotification | Self::IncidentReport)
    }

    /// Whether its structured data may be edited: what people agree to must stay as they saw it.
    pub fn has_fixed_data(self) -> bool {
        matches!(self, Self::Decision | Self::ApprovalRequest)
    }

    /// Whether a state may be set by hand; the others are reached by answering.
    pub fn may_become(self, from: Option<State>, to: State) -> bool {
        use State::{
            Acknowledged, Approved, Completed, Failed, Implemented, Open, Proposed, Resolved, Running, UnderReview,
        };
        match self {
            Self::Decision => matches!(
                (from, to),
                (Some(Proposed), UnderReview) | (Some(UnderReview), Proposed) | (Some(Approved), Implemented)
            ),
            Self::RiskNotification | Self::IncidentReport => {
                matches!((from, to), (Some(Open | Acknowledged), Resolved) | (Some(Resolved), Open))
            }
            Self::AgentStatus => matches!((from, to), (Some(Running), Completed | Failed)),
            _ => false,
        }
    }

    /// How long it may wait before others are told; none: for ever. Settings may say otherwise.
    pub fn patience(self, data: &Map<String, Value>) -> Option<Duration> {
        let (setting, hours) = match self {
            Self::ApprovalRequest => ("approval_escalation_seconds", 24),
            Self::Decision => ("decision_escalation_seconds", 48),
            Self::RiskNotification if is_high(data) => ("risk_escalation_seconds", 4),
            Self::IncidentReport => ("incident_escalation_seconds", 1),
            _ => return None,
        };
        let seconds = config::get::<u64>(setting).unwrap_or(hours * 60 * 60);
        Some(Duration::from_secs(seconds))
    }

    /// What is wrong with its structured data.
    pub fn check(self, data: &Map<String, Value>, faults: &mut Faults) {
        if json!(data).to_string().len() > super::DATA_BYTES_MAX {
            faults.add("structuredData", format!("must have at most {} bytes", super::DATA_BYTES_MAX));
        }
        match self {
            Self::ApprovalRequest => {
                if check_approvers(data, faults) && approvers(data).is_empty() {
                    faults.add("structuredData.approvers", "must name who may approve");
                }
            }
            Self::Decision => {
                check_approvers(data, faults);
                for name in ["decision", "rationale"] {
                    check_line(data, name, faults);
                }
                let fits = data.get("alternatives").is_none_or(|list| {
                    list.as_array().is_some_and(|list| list.len() <= ALTERNATIVES_MAX && list.iter().all(is_line))
                });
                if !fits {
                    let message = format!("must be a list of at most {ALTERNATIVES_MAX} texts");
                    faults.add("structuredData.alternatives", message);
                }
            }
            Self::RiskNotification | Self::IncidentReport => {
                check_choice(data, "severity", &["low", "medium", "high", "critical"], faults);
            }
            Self::AgentStatus => check_choice(data, "status", &["running", "completed", "failed"], faults),
            Self::AiRecommendation => {
                check_approvers(data, faults);
            }
            Self::Discussion => {}
        }
    }
}

/// Structured data without answers: these are kept by whoever gives them and written by nobody else.
pub fn without_answers(mut data: Map<String, Value>) -> Map<String, Value> {
    data.retain(|name, _| !ANSWERS.contains(&name.as_str()));
    data
}

/// Edited structured data with the answers that were given before.
pub fn with_answers_of(before: Option<&Value>, data: Map<String, Value>) -> Map<String, Value> {
    let mut data = without_answers(data);
    for name in ANSWERS {
        if let Some(answer) = before.and_then(|before| before.get(name)) {
            data.insert(name.into(), answer.clone());
        }
    }
    data
}

/// Whether what may go wrong would be bad.
fn is_high(data: &Map<String, Value>) -> bool {
    matches!(data.get("severity").and_then(Value::as_str), Some("high" | "critical"))
}

fn is_line(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.chars().count() <= LINE_CHARACTERS_MAX)
}

fn check_line(data: &Map<String, Value>, name: &str, faults: &mut Faults) {
    if data.get(name).is_some_and(|value| !value.is_null() && !is_line(value)) {
        let message = format!("must be a text of at most {LINE_CHARACTERS_MAX} characters");
        faults.add(format!("structuredData.{name}"), message);
    }
}

fn check_choice(data: &Map<String, Value>, name: &str, choices: &[&str], faults: &mut Faults) {
    if data.get(name).is_some_and(|value| !value.as_str().is_some_and(|text| choices.contains(&text))) {
        faults.add(format!("structuredData.{name}"), format!("must be one of {}", choices.join(", ")));
    }
}

/// Notes what is wrong with the list of approvers; false when something is.
fn check_approvers(data: &Map<String, Value>, faults: &mut Faults) -> bool {
    let Some(list) = data.get("approvers") else { return true };
    let fits = list.as_array().is_some_and(|list| {
        list.len() <= APPROVERS_MAX && list.iter().all(|id| id.as_str().is_some_and(|id| validate::id(id).is_ok()))
    });
    if !fits {
        faults.add("structuredData.approvers", format!("must be a list of at most {APPROVERS_MAX} user ids"));
    }
    fits
}

/// Who is asked to decide, each once.
pub fn approvers(data: &Map<String, Value>) -> Vec<Id> {
    let mut found: Vec<Id> = Vec::new();
    for text in data.get("approvers").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if let Ok(id) = Id::parse(text)
            && !found.contains(&id)
        {
            found.push(id);
        }
    }
    found.truncate(APPROVERS_MAX);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    fn faulty(kind: MessageType, value: Value) -> Vec<String> {
        let mut faults = Faults::default();
        kind.check(&data(value), &mut faults);
        faults.errors().iter().map(|error| error.field.clone()).collect()
    }

    #[test]
    fn a_type_names_what_it_needs() {
        use MessageType::{AgentStatus, ApprovalRequest, Decision, Discussion, IncidentReport};
        assert_eq!(faulty(ApprovalRequest, json!({})), ["structuredData.approvers"]);
        assert_eq!(faulty(ApprovalRequest, json!({"approvers": ["a b"]})), ["structuredData.approvers"]);
        assert!(faulty(ApprovalRequest, json!({"approvers": ["u1"]})).is_empty());
        assert_eq!(
            faulty(Decision, json!({"rationale": 7, "alternatives": [1]})),
            ["structuredData.rationale", "structuredData.alternatives"]
        );
        assert_eq!(faulty(IncidentReport, json!({"severity": "awful"})), ["structuredData.severity"]);
        assert_eq!(faulty(AgentStatus, json!({"status": "lost"})), ["structuredData.status"]);
        assert_eq!(faulty(Discussion, json!({"x": "y".repeat(40_000)})), ["structuredData"]);
    }

    #[test]
    fn an_answer_is_never_set_by_hand() {
        for kind in MessageType::ALL {
            for from in State::ALL {
                for to in [State::Approved, State::Rejected, State::Pending, State::Withdrawn] {
                    assert!(!kind.may_become(Some(*from), to), "{kind} {from} {to}");
                }
            }
            assert!(!kind.may_become(None, State::Resolved));
        }
        assert!(MessageType::Decision.may_become(Some(State::Approved), State::Implemented));
        assert!(!MessageType::Decision.may_become(Some(State::Rejected), State::Implemented));
    }

    #[test]
    fn only_what_somebody_waits_for_runs_out_of_patience() {
        let hours = |kind: MessageType, value| kind.patience(&data(value)).map(|patience| patience.as_secs() / 3600);
        assert_eq!(hours(MessageType::ApprovalRequest, json!({})), Some(24));
        assert_eq!(hours(MessageType::Decision, json!({})), Some(48));
        assert_eq!(hours(MessageType::RiskNotification, json!({"severity": "medium"})), None);
        assert_eq!(hours(MessageType::RiskNotification, json!({"severity": "critical"})), Some(4));
        assert_eq!(hours(MessageType::Discussion, json!({})), None);
    }

    #[test]
    fn nobody_writes_an_answer_into_the_data_or_out_of_it() {
        let forged = data(json!({"severity": "high", "outcome": {"by": "u9"}, "acknowledgement": {"by": "u9"}}));
        assert_eq!(without_answers(forged.clone()), data(json!({"severity": "high"})));
        let before = json!({"severity": "low", "acknowledgement": {"by": "u1"}});
        let edited = with_answers_of(Some(&before), forged);
        assert_eq!(edited, data(json!({"severity": "high", "acknowledgement": {"by": "u1"}})));
    }

    #[test]
    fn approvers_are_asked_once_each() {
        assert_eq!(approvers(&data(json!({"approvers": ["a", "b", "a", 7, "c d"]}))), ["a", "b"].map(Id::from));
    }
}
