//! Answers: agreeing, refusing, taking note. The first answer that decides counts, and only from those who were asked.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{
    decision, escalation,
    message::{
        Message,
        change::{self, Change},
        kind::{ACKNOWLEDGEMENT, MessageType, OUTCOME, State},
        open_words,
    },
    notice,
};

/// What is said with an answer.
#[data]
pub struct Answer {
    /// Why.
    #[field(max = 4_000)]
    comment: Option<String>,
}

/// `POST /api/messaging/messages/{id}/approve`.
pub fn approve(Params(id): Params<Id>, input: Option<Json<Answer>>) -> Result<Stored<Message>> {
    decide(&id, State::Approved, input.and_then(|Json(input)| input.comment))
}

/// `POST /api/messaging/messages/{id}/reject`.
pub fn reject(Params(id): Params<Id>, input: Option<Json<Answer>>) -> Result<Stored<Message>> {
    decide(&id, State::Rejected, input.and_then(|Json(input)| input.comment))
}

fn decide(id: &Id, outcome: State, comment: Option<String>) -> Result<Stored<Message>> {
    let caller = auth::user_id()?;
    change::change(id, |change| {
        change.row.require_alive()?;
        if !change.row.message_type.is_decidable() {
            let detail = format!("Nobody approves or rejects a {}.", change.row.message_type);
            return Err(Problem::unprocessable(detail).with_code("NOT_DECIDABLE"));
        }
        require_asked(change, &caller)?;
        // Answers come one after the other, by the conversation's lock: the first one is here before the second looks.
        if !matches!(change.row.state, Some(State::Pending | State::Proposed | State::UnderReview)) {
            let state = change.row.state.map_or("decided", State::as_str);
            let problem = Problem::conflict(format!("It is {state} already.")).with_code("ALREADY_DECIDED");
            return Err(problem.with("state", state));
        }
        note(change, OUTCOME, &caller, comment.as_deref());
        change.row.state = Some(outcome);
        change.row.escalate_at = None;
        escalation::close(change.transaction, &change.row.id)?;
        publish(change, outcome, &caller, comment.as_deref())?;
        notice::answered(change.transaction, &change.row, &change.seat.conversation, outcome)
    })
}

/// 403 unless the caller is among those who were asked, or nobody in particular was.
fn require_asked(change: &Change<'_>, caller: &Id) -> Result<()> {
    let rows = change.transaction.query(
        "SELECT user_id FROM messaging_addressees WHERE message_id = $1 AND kind = 'approver' AND organization_id = $2",
        params![&change.row.id, auth::organization_id()?],
    )?;
    let asked = rows.into_iter().map(|row| row.get::<Id>("user_id")).collect::<Result<Vec<_>, _>>()?;
    if asked.is_empty() || asked.contains(caller) {
        return Ok(());
    }
    Err(Problem::forbidden("Only those who were asked decide it.").with_code("NOT_AN_APPROVER"))
}

/// Keeps with the message who answered, when and why.
fn note(change: &mut Change<'_>, name: &str, caller: &Id, comment: Option<&str>) {
    let at = change.now;
    let mut data = match change.row.structured_data.take() {
        Some(Value::Object(data)) => data,
        _ => Map::new(),
    };
    data.insert(name.into(), json!({ "by": caller, "at": at, "comment": comment }));
    change.row.structured_data = Some(Value::Object(data));
}

fn publish(change: &Change<'_>, outcome: State, caller: &Id, comment: Option<&str>) -> Result<()> {
    let comment = open_words(comment, &change.seat.conversation);
    let more = json!({ "decidedBy": caller, "decidedAt": change.now, "comment": comment, "outcome": outcome });
    match change.row.message_type {
        MessageType::ApprovalRequest => {
            let kind = if outcome == State::Approved { "approved" } else { "rejected" };
            change.announce(&format!("messaging.approval.{kind}"), more)?;
        }
        MessageType::Decision => {
            let decision = decision::follow(change, outcome)?;
            let mut more = more;
            if let (Some(more), Some(decision)) = (more.as_object_mut(), decision) {
                more.insert("decisionId".into(), json!(decision.id));
                more.insert("status".into(), json!(decision.status));
                if !change.seat.conversation.is_private {
                    more.insert("decision".into(), json!(decision.decision));
                    more.insert("rationale".into(), json!(decision.rationale));
                    more.insert("alternatives".into(), json!(decision.alternatives));
                }
            }
            change.announce("messaging.decision.made", more)?;
        }
        _ => {}
    }
    change.announce("messaging.message.updated", json!({ "isEdit": false }))
}

/// `POST /api/messaging/messages/{id}/acknowledge`: somebody looks after it.
pub fn acknowledge(Params(id): Params<Id>, input: Option<Json<Answer>>) -> Result<Stored<Message>> {
    let caller = auth::user_id()?;
    let comment = input.and_then(|Json(input)| input.comment);
    change::change(&id, |change| {
        change.row.require_alive()?;
        let is_answer = change.row.message_type.is_acknowledgeable();
        let levels = escalation::acknowledge(change.transaction, &change.row.id)?;
        match (is_answer, change.row.state) {
            (true, Some(State::Open)) => {
                change.row.state = Some(State::Acknowledged);
                change.row.escalate_at = None;
            }
            _ if levels > 0 => {}
            (true, state) => {
                let state = state.map_or("acknowledged", State::as_str);
                let problem = Problem::conflict(format!("It is {state} already.")).with_code("ALREADY_ACKNOWLEDGED");
                return Err(problem.with("state", state));
            }
            (false, _) => {
                let detail = format!("Nobody acknowledges a {} that was not escalated.", change.row.message_type);
                return Err(Problem::unprocessable(detail).with_code("NOT_ACKNOWLEDGEABLE"));
            }
        }
        note(change, ACKNOWLEDGEMENT, &caller, comment.as_deref());
        change.announce("messaging.message.updated", json!({ "isEdit": false, "acknowledgedBy": caller }))
    })
}

/// `GET /api/messaging/approvals`: what waits for the caller's answer, the oldest first.
pub fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Message>>>> {
    let waiting = "\"state\" IN ('pending', 'proposed', 'under_review') AND \"deleted_at\" IS NULL AND EXISTS \
                   (SELECT 1 FROM messaging_addressees WHERE messaging_addressees.message_id = messaging_messages.id \
                   AND messaging_addressees.kind = 'approver' AND messaging_addressees.user_id = ?)";
    Select::<Message>::new().condition(waiting, [auth::user_id()?]).sort("createdAt").page(&Pool, &query)
}
