//! Posting: who speaks, whether what they say makes sense, and whom they mean.

use berth_sdk::{
    auth::PrincipalKind,
    prelude::*,
    router::Route,
    serde_json::{Map, Value},
    validate::FieldError,
};

use super::{
    DATA_BYTES_MAX, Message,
    kind::{self, MessageType, SenderType},
    mention,
    write::{self, Draft, SENT_BEFORE},
};
use crate::{access::Seat, signal};

/// The body of `POST /api/messaging/conversations/{id}/messages`.
#[data]
pub struct NewMessage {
    /// The text.
    #[field(min = 1, max = 10_000)]
    content: String,
    /// What it is; talk when absent.
    message_type: Option<MessageType>,
    /// The message it replies to.
    thread_id: Option<Id>,
    /// What its type needs: `approvers` of an approval request; `decision`, `rationale`, `alternatives`; `severity`; `status`.
    structured_data: Option<Map<String, Value>>,
    /// Who is meant; the text can name them as `<@user>` too.
    #[field(default, max = 20)]
    mentions: Vec<Id>,
    /// The sender's name for it: sent again, the first message is the answer.
    #[field(min = 1, max = 100)]
    client_message_id: Option<String>,
    /// What the sender wants to remember.
    #[field(default)]
    metadata: Map<String, Value>,
    /// Only for other services that speak for somebody else.
    sender_type: Option<SenderType>,
    /// Only for other services that speak for somebody else.
    sender_id: Option<Id>,
}

/// 201 with a new message, 200 with the one that was sent before; with a word on what was left out.
pub struct Posted {
    row: Stored<Message>,
    is_new: bool,
    warnings: Vec<FieldError>,
}

impl Answer for Posted {
    fn into_response(self) -> Result<Response> {
        let mut shown = self.row.shown();
        if !self.warnings.is_empty() {
            shown.insert("warnings".into(), json!(self.warnings));
        }
        let status = if self.is_new { 201 } else { 200 };
        Ok(Response::json(status, &shown)?.with_version(self.row.version))
    }
    fn describe(route: &mut Route) {
        <Created<Stored<Message>> as Answer>::describe(route);
        <Stored<Message> as Answer>::describe(route);
    }
}

/// `POST /api/messaging/conversations/{id}/messages`.
pub fn post(Params(id): Params<Id>, Json(input): Json<NewMessage>) -> Result<Posted> {
    let seat = Seat::take(&Pool, &id)?;
    if let Some(name) = &input.client_message_id
        && let Some(row) = write::sent_before(&Pool, &id, name)?
    {
        return Ok(Posted { row, is_new: false, warnings: Vec::new() });
    }
    seat.require_open()?;
    let (sender_type, sender_id) = sender(input.sender_type, input.sender_id.clone())?;
    let message_type = input.message_type.unwrap_or(MessageType::Discussion);
    check(message_type, &input)?;
    let data = input.structured_data.clone().unwrap_or_default();
    let named = mention::named(&input.mentions, &input.content);
    let approvers = kind::approvers(&data);
    let concerned: Vec<Id> = named.iter().chain(&approvers).cloned().collect();
    let known = mention::known(&seat, &concerned)?;
    mention::require_known("structuredData.approvers", &approvers, &known)?;
    let (mentions, warnings) = mention::judge(named, &known);
    let draft = Draft {
        conversation_id: id.clone(),
        thread_id: input.thread_id,
        content: input.content,
        message_type,
        sender_type,
        sender_id,
        client_message_id: input.client_message_id.clone(),
        structured_data: input.structured_data.map(kind::without_answers),
        mentions,
        metadata: input.metadata,
    };
    match database::transaction(|transaction| write::write(transaction, draft)) {
        Ok(row) => {
            signal::ring(&id);
            Ok(Posted { row, is_new: true, warnings })
        }
        Err(problem) if problem.code == SENT_BEFORE => {
            let name = input.client_message_id.unwrap_or_default();
            let row = write::sent_before(&Pool, &id, &name)?.ok_or_else(|| Problem::missing("message"))?;
            Ok(Posted { row, is_new: false, warnings: Vec::new() })
        }
        Err(problem) => Err(problem),
    }
}

/// Who speaks. Only another service speaks for an agent or for the system.
fn sender(wanted: Option<SenderType>, wanted_id: Option<Id>) -> Result<(SenderType, Id)> {
    let principal = auth::principal();
    let is_service = principal.source_service.is_some() || principal.kind == PrincipalKind::System;
    match (wanted, is_service) {
        (None | Some(SenderType::Human), _) => match principal.user_id {
            Some(user_id) => Ok((SenderType::Human, user_id.into())),
            None if is_service => Ok((SenderType::System, service_id(principal.source_service, wanted_id))),
            None => Err(Problem::unauthorized("Sign in first.")),
        },
        (Some(kind), true) => Ok((kind, service_id(principal.source_service, wanted_id))),
        (Some(_), false) => Err(Problem::forbidden("Nobody speaks for an agent or a service.")),
    }
}

fn service_id(service: Option<String>, wanted: Option<Id>) -> Id {
    wanted.unwrap_or_else(|| service.unwrap_or_else(|| "system".into()).into())
}

fn check(message_type: MessageType, input: &NewMessage) -> Result<()> {
    let mut faults = Faults::default();
    message_type.check(&input.structured_data.clone().unwrap_or_default(), &mut faults);
    if json!(input.metadata).to_string().len() > DATA_BYTES_MAX {
        faults.add("metadata", format!("must have at most {DATA_BYTES_MAX} bytes"));
    }
    faults.finish()
}

#[cfg(test)]
mod tests {
    use berth_sdk::{auth::Principal, testing};

    use super::*;

    #[test]
    fn nobody_speaks_for_somebody_else() {
        testing::sign_in("u1", "o1");
        assert_eq!(sender(None, Some("u2".into())).unwrap(), (SenderType::Human, "u1".into()));
        assert_eq!(sender(Some(SenderType::Agent), Some("a1".into())).unwrap_err().status, 403);
        testing::become_principal(Principal { source_service: Some("workflow".into()), ..auth::principal() });
        assert_eq!(sender(Some(SenderType::Agent), Some("a1".into())).unwrap(), (SenderType::Agent, "a1".into()));
        assert_eq!(sender(Some(SenderType::System), None).unwrap(), (SenderType::System, "workflow".into()));
        assert_eq!(sender(None, None).unwrap(), (SenderType::Human, "u1".into()));
    }
}
